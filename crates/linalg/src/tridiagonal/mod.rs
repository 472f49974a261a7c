//! The symmetric eigenproblem by tridiagonal form and implicit QL iteration.
//!
//! Libraries choose the order of their sums by the vector width and the caches of the processor. Here
//! reflections ([`reflect`](crate::reflect)) and products come from this crate, everything else is
//! scalar or works entry by entry, and the bits are the same on every machine.
//!
//! The reduction (Dongarra, Hammarling & Sorensen 1989) applies a panel of reflections to the rest of
//! the matrix at once, so that it is only read, by one product with a vector, for each of its columns.
//! The rotations of the QL iteration are applied to the eigenvectors several sweeps at a time, while a
//! column is in registers (Van Zee, van de Geijn & Quintana-Ortí 2014).

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

mod reduction;
mod rotations;

use faer::{Accum, Mat, MatMut, MatRef};

use self::reduction::Panel;
use self::rotations::Columns;
use crate::matmul_lower;
use crate::reflect::{PANEL, apply, triangle};
use crate::simd::{self, AlignedVec, LANES, padded};

/// Most sweeps of the QL iteration for one eigenvalue.
const SWEEPS: usize = 60;

/// The eigenvalues of a symmetric matrix with entries near one, in no order. None where the iteration
/// does not converge.
pub(crate) fn eigenvalues(matrix: MatRef<'_, f64>) -> Option<Vec<f64>> {
    let mut form = Tridiagonal::new(matrix);
    form.iterate(|_, _| {}).then_some(form.diagonal)
}

/// Eigenvalues in ascending order, and eigenvectors as columns.
pub(crate) fn eigen(matrix: MatRef<'_, f64>) -> Option<(Vec<f64>, Mat<f64>)> {
    let n = matrix.nrows();
    let mut form = Tridiagonal::new(matrix);
    let mut vectors = Columns::new(form.basis().as_ref());
    if !form.iterate(|first, rotations| vectors.sweep(first, rotations)) {
        return None;
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| form.diagonal[*i].total_cmp(&form.diagonal[*j]));
    let values = order.iter().map(|k| form.diagonal[*k]).collect();
    Some((values, vectors.in_order(&order)))
}

/// `A = Q T Qᵀ` with T tridiagonal.
struct Tridiagonal {
    diagonal: Vec<f64>,
    /// Beside the diagonal, and a zero.
    off_diagonal: Vec<f64>,
    /// Column k holds the vector of reflection k, zero in its first k + 1 rows; rows are padded.
    vectors: AlignedVec,
    stride: usize,
    factors: Vec<f64>,
}

impl Tridiagonal {
    fn new(matrix: MatRef<'_, f64>) -> Self {
        let n = matrix.nrows();
        // Columns a power of two apart would share their place in the caches.
        let stride = padded(n) + if padded(n).is_multiple_of(512) { LANES } else { 0 };
        let mut work = AlignedVec::zeros(stride * padded(n));
        for (j, column) in work.chunks_exact_mut(stride).take(n).enumerate() {
            for (i, value) in column[..n].iter_mut().enumerate() {
                *value = matrix[(i.max(j), i.min(j))];
            }
        }
        let mut form = Self {
            diagonal: vec![0.0; n],
            off_diagonal: vec![0.0; n],
            vectors: work,
            stride,
            factors: vec![0.0; n],
        };
        for first in (0..n).step_by(PANEL) {
            form.reduce(first, PANEL.min(n - first));
        }
        form
    }

    /// Reduces `width` columns and takes them out of the rest.
    fn reduce(&mut self, first: usize, width: usize) {
        let (n, stride) = (self.diagonal.len(), self.stride);
        let mut images = AlignedVec::zeros(stride * width);
        simd::arch().dispatch(Panel { form: self, images: &mut images, first, width });
        let next = first + width;
        if next >= n {
            return;
        }
        // A ← A − [V W] [W V]ᵀ.
        let (vectors, rest) = self.vectors.split_at_mut(next * stride);
        let vectors = &vectors[first * stride..];
        let pick = |lines: &[f64], j: usize, i: usize| lines[j * stride + next + i];
        let factors = [false, true].map(|is_swapped| {
            Mat::from_fn(n - next, 2 * width, |i, j| {
                let lines = if (j < width) == is_swapped { &images } else { vectors };
                pick(lines, j % width, i)
            })
        });
        let rest = &mut rest[..(n - next) * stride];
        let mut rest = MatMut::from_column_major_slice_with_stride_mut(rest, n, n - next, stride)
            .subrows_mut(next, n - next);
        let [left, right] = factors.each_ref().map(Mat::as_ref);
        matmul_lower(rest.as_mut(), Accum::Add, left, right.transpose(), -1.0);
        // Blocks on the diagonal are read as a whole.
        for j in 0..n - next {
            let end = ((next + j) / LANES + 1) * LANES - next;
            for i in j + 1..end.min(n - next) {
                rest[(j, i)] = rest[(i, j)];
            }
        }
    }

    /// Q, n × n.
    fn basis(&self) -> Mat<f64> {
        let n = self.diagonal.len();
        let mut basis = Mat::identity(n, n);
        let all = MatRef::from_column_major_slice_with_stride(
            &self.vectors[..n * self.stride],
            n,
            n,
            self.stride,
        );
        for first in (0..n).step_by(PANEL).rev() {
            let width = PANEL.min(n - first);
            let below = first + 1..n;
            let vectors = all.get(below.clone(), first..first + width);
            let triangle = triangle(vectors, &self.factors[first..first + width]);
            apply(vectors, triangle.as_ref(), basis.as_mut().get_mut(below.clone(), below));
        }
        basis
    }

    /// Makes T diagonal. Every sweep of rotations is handed to `record`: rotation i, of columns i and
    /// i + 1, for i down to `first`, the last one first. Whether it converged.
    fn iterate(&mut self, mut record: impl FnMut(usize, &[(f64, f64)])) -> bool {
        let Self { diagonal: d, off_diagonal: e, .. } = self;
        let n = d.len();
        let mut rotations = Vec::with_capacity(n);
        // What is this small is rounding of the whole, and need not become small beside the little that
        // may be left around it.
        let largest = d.iter().zip(e.iter()).fold(0.0_f64, |m, (d, e)| m.max(d.abs() + e.abs()));
        let floor = f64::EPSILON * 0.125 * largest;
        for first in 0..n {
            let mut sweeps = 0;
            loop {
                let is_split = |k: usize| {
                    let scale = f64::EPSILON * 0.5 * (d[k].abs() + d[k + 1].abs());
                    e[k].abs() <= scale.max(floor)
                };
                let last = (first..n - 1).find(|k| is_split(*k)).unwrap_or(n - 1);
                if last == first {
                    break;
                }
                if sweeps == SWEEPS {
                    return false;
                }
                sweeps += 1;
                // The shift is the eigenvalue of the leading 2 × 2 block nearer to its first entry.
                let half = (d[first + 1] - d[first]) / (2.0 * e[first]);
                let root = libm::hypot(half, 1.0).copysign(half);
                let mut bulge = d[last] - d[first] + e[first] / (half + root);
                let (mut sine, mut cosine, mut moved) = (1.0, 1.0, 0.0);
                rotations.clear();
                let mut is_cut = false;
                for i in (first..last).rev() {
                    let (across, along) = (sine * e[i], cosine * e[i]);
                    let length = libm::hypot(across, bulge);
                    e[i + 1] = length;
                    if length == 0.0 {
                        // Underflow has split the matrix.
                        d[i + 1] -= moved;
                        e[last] = 0.0;
                        is_cut = true;
                        break;
                    }
                    sine = across / length;
                    cosine = bulge / length;
                    let rest = d[i + 1] - moved;
                    let slope = (d[i] - rest) * sine + 2.0 * cosine * along;
                    moved = sine * slope;
                    d[i + 1] = rest + moved;
                    bulge = cosine * slope - along;
                    rotations.push((cosine, sine));
                }
                if !is_cut {
                    d[first] -= moved;
                    e[first] = bulge;
                    e[last] = 0.0;
                }
                record(last - rotations.len(), &rotations);
            }
        }
        d.iter().all(|v| v.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use faer::{Mat, MatRef};

    use super::{PANEL, eigen, eigenvalues};
    use crate::product;

    fn symmetric(n: usize) -> Mat<f64> {
        let entry = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.5 - 1.0;
        Mat::from_fn(n, n, |i, j| entry(i.max(j), i.min(j)))
    }

    fn check(matrix: MatRef<'_, f64>) {
        let n = matrix.nrows();
        let (values, vectors) = eigen(matrix).unwrap();
        let mut alone = eigenvalues(matrix).unwrap();
        alone.sort_by(f64::total_cmp);
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values), bits(&alone), "{n}");
        // A modest multiple of n·ε, as the theory of orthogonal transformations has it.
        let tolerance = 4.0 * (n as f64 + 1.0) * f64::EPSILON;
        let scaled = Mat::from_fn(n, n, |i, k| vectors[(i, k)] * values[k]);
        let error = (product(matrix, vectors.as_ref()) - scaled).norm_l2();
        let size = matrix.norm_l2();
        assert!(error <= tolerance * size, "{n}: {error} of {size}");
        let gram = product(vectors.transpose(), vectors.as_ref()) - Mat::<f64>::identity(n, n);
        assert!(gram.norm_l2() <= tolerance * (n as f64).sqrt(), "{n}: {}", gram.norm_l2());
    }

    #[test]
    fn eigenvectors_are_orthonormal_and_invariant() {
        for n in [1, 2, 3, 7, 8, 9, PANEL - 1, PANEL, PANEL + 1, PANEL + 2, 100, 150] {
            check(symmetric(n).as_ref());
        }
    }

    #[test]
    fn hard_cases_are_solved() {
        let n = 70;
        let diagonal = |value: &dyn Fn(usize) -> f64| {
            Mat::from_fn(n, n, |i, j| if i == j { value(i) } else { 0.0 })
        };
        check(diagonal(&|_| 1.0).as_ref());
        check(diagonal(&|i| i as f64 - 30.0).as_ref());
        check(diagonal(&|i| libm::exp2(-10.0 * i as f64)).as_ref());
        // Rank one, and nearly diagonal with entries whose squares vanish.
        check(Mat::from_fn(n, n, |i, j| ((i + 1) * (j + 1)) as f64 / 4900.0).as_ref());
        let tiny = |i: usize, j: usize| if i == j { (i % 3) as f64 } else { 1e-160 };
        check(Mat::from_fn(n, n, tiny).as_ref());
        // Wilkinson's matrix, with pairs of eigenvalues that agree to the last digits.
        let wilkinson = |i: usize, j: usize| match i.abs_diff(j) {
            0 => (i as f64 - 34.5).abs() / 35.0,
            1 => 1.0 / 35.0,
            _ => 0.0,
        };
        check(Mat::from_fn(n, n, wilkinson).as_ref());
        // Entries from large to small, and from small to large.
        for sign in [1.0, -1.0] {
            let graded = |i: usize, j: usize| libm::exp2(-0.5 * sign * (i + j) as f64);
            let top = graded(0, 0).max(graded(n - 1, n - 1));
            check(Mat::from_fn(n, n, |i, j| graded(i, j) / top).as_ref());
        }
        let laplace = |i: usize, j: usize| match i.abs_diff(j) {
            0 => 1.0,
            1 => -0.5,
            _ => 0.0,
        };
        let (values, _) = eigen(Mat::from_fn(n, n, laplace).as_ref()).unwrap();
        for (k, value) in values.iter().enumerate() {
            let angle = std::f64::consts::PI * (k + 1) as f64 / (n + 1) as f64;
            assert!((value - (1.0 - libm::cos(angle))).abs() < 1e-14, "{k}");
        }
    }
}
