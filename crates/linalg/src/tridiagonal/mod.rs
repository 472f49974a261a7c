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
use rayon::prelude::*;

use self::reduction::Panel;
use self::rotations::Sweeps;
use crate::Parallelism;
use crate::householder::{PANEL, apply, triangle};
use crate::simd::{self, AlignedVec, LANES, padded};
use crate::{PowerOfTwo, RowMatrix, matmul, matmul_lower};

/// Most sweeps of the QL iteration for one eigenvalue.
const SWEEPS: usize = 60;

/// Columns of the basis, or of what a panel leaves of the matrix, that are one task.
const TASK: usize = 128;

/// Smaller matrices are one task.
const SMALL: usize = 512;

/// The side of the squares that are transposed at once.
const SQUARE: usize = 16;

/// A symmetric matrix twice: as it is in the upper triangle, and, times a power of two, in the lower one, where
/// its decomposition takes place.
#[derive(Debug)]
pub(crate) struct WorkMatrix {
    /// Column by column. Rows and columns are padded with zeros.
    values: AlignedVec,
    n: usize,
    stride: usize,
    /// The blocks on the diagonal of the matrix as it is, [`PANEL`] wide, column by column: the decomposition
    /// needs all of its own.
    blocks: Vec<f64>,
    /// `Σ a_ii` and `Σ a_ij²` of the scaled matrix.
    pub(crate) trace: f64,
    pub(crate) squares: f64,
}

impl WorkMatrix {
    /// Reads the lower triangle of `matrix` and multiplies it by `unit`.
    pub(crate) fn new(matrix: MatRef<'_, f64>, unit: PowerOfTwo) -> Self {
        let n = matrix.nrows();
        // Columns a power of two apart would share their place in the caches.
        let stride = padded(n) + if padded(n).is_multiple_of(512) { LANES } else { 0 };
        let mut values = AlignedVec::zeros(stride * padded(n));
        let mut blocks = vec![0.0; n * PANEL];
        let (mut trace, mut squares) = (0.0, 0.0);
        for j in 0..n {
            let first = j / PANEL * PANEL;
            let end = (first + PANEL).min(n);
            let mut below = 0.0;
            for i in j..n {
                let value = matrix[(i, j)];
                let scaled = unit.times(value);
                if i == j {
                    trace += scaled;
                    squares += scaled * scaled;
                } else {
                    below += scaled * scaled;
                }
                values[j * stride + i] = scaled;
                if i < end {
                    // The block on the diagonal is that of the decomposition.
                    values[i * stride + j] = scaled;
                    blocks[j * PANEL + i - first] = value;
                    blocks[i * PANEL + j - first] = value;
                } else {
                    values[i * stride + j] = value;
                }
            }
            squares += 2.0 * below;
        }
        Self { values, n, stride, blocks, trace, squares }
    }

    /// Gives up the decomposition for the matrix as it was, see [`original_lower`](Self::original_lower).
    pub(crate) fn restore(&mut self) {
        for (j, block) in self.blocks.chunks_exact(PANEL).enumerate() {
            let first = j / PANEL * PANEL;
            for (value, kept) in self.values[j * self.stride..][first..self.n.min(first + PANEL)]
                .iter_mut()
                .zip(block)
            {
                *value = *kept;
            }
        }
    }

    /// The restored matrix; only the lower triangle means something.
    pub(crate) fn original_lower(&self) -> MatRef<'_, f64> {
        let values = &self.values[..self.n * self.stride];
        MatRef::from_column_major_slice_with_stride(values, self.n, self.n, self.stride).transpose()
    }
}

/// The eigenvalues of a symmetric matrix with entries near one, in no order. None where the iteration
/// does not converge.
pub(crate) fn eigenvalues(work: &mut WorkMatrix) -> Option<Vec<f64>> {
    let mut form = Tridiagonal::new(work, Parallelism::Sequential);
    form.iterate(|_, _| {}).then_some(form.diagonal)
}

/// Eigenvalues in ascending order, and eigenvectors as columns. Holds one more n × n matrix, the eigenvectors.
pub(crate) fn eigen(
    work: &mut WorkMatrix,
    parallelism: Parallelism,
) -> Option<(Vec<f64>, RowMatrix)> {
    let mut form = Tridiagonal::new(work, parallelism);
    let mut vectors = Sweeps::new(form.basis(), parallelism);
    if !form.iterate(|first, rotations| vectors.sweep(first, rotations)) {
        return None;
    }
    let mut order: Vec<usize> = (0..form.diagonal.len()).collect();
    order.sort_by(|i, j| form.diagonal[*i].total_cmp(&form.diagonal[*j]));
    let values = order.iter().map(|k| form.diagonal[*k]).collect();
    Some((values, vectors.in_order(&order)))
}

/// `A = Q T Qᵀ` with T tridiagonal.
struct Tridiagonal<'a> {
    diagonal: Vec<f64>,
    /// Beside the diagonal, and a zero.
    off_diagonal: Vec<f64>,
    /// Column k holds the vector of reflection k below row k, and zeros above as far as its panel goes.
    work: &'a mut WorkMatrix,
    factors: Vec<f64>,
    parallelism: Parallelism,
}

impl<'a> Tridiagonal<'a> {
    fn new(work: &'a mut WorkMatrix, parallelism: Parallelism) -> Self {
        let n = work.n;
        let zeros = || vec![0.0; n];
        let mut form =
            Self { diagonal: zeros(), off_diagonal: zeros(), work, factors: zeros(), parallelism };
        for first in (0..n).step_by(PANEL) {
            form.reduce(first, PANEL.min(n - first));
        }
        form
    }

    /// Reduces `width` columns and takes them out of the rest.
    fn reduce(&mut self, first: usize, width: usize) {
        let (n, stride) = (self.work.n, self.work.stride);
        let mut images = AlignedVec::zeros(stride * width);
        simd::arch().dispatch(Panel { form: self, images: &mut images, first, width });
        let next = first + width;
        if next >= n {
            return;
        }
        // A ← A − [V W] [W V]ᵀ.
        let (vectors, rest) = self.work.values.split_at_mut(next * stride);
        let vectors = &vectors[first * stride..];
        let pick = |lines: &[f64], j: usize, i: usize| lines[j * stride + next + i];
        let factors = [false, true].map(|is_swapped| {
            Mat::from_fn(n - next, 2 * width, |i, j| {
                let lines = if (j < width) == is_swapped { &images } else { vectors };
                pick(lines, j % width, i)
            })
        });
        let [left, right] = factors.each_ref().map(Mat::as_ref);
        let task = if n - next <= SMALL { n - next } else { TASK };
        let subtract = |(index, columns): (usize, &mut [f64])| {
            let start = index * task;
            let (count, below) = (columns.len() / stride, n - next - start);
            let columns =
                MatMut::from_column_major_slice_with_stride_mut(columns, n, count, stride);
            let (mut diagonal, rest) =
                columns.subrows_mut(next + start, below).split_at_row_mut(count);
            let right = right.subrows(start, count).transpose();
            let (add, upper) = (Accum::Add, left.subrows(start, count));
            matmul_lower(diagonal.as_mut(), add, upper, right, -1.0);
            matmul(rest, add, left.subrows(start + count, below - count), right, -1.0);
            // Blocks on the diagonal are read as a whole.
            for j in 0..count {
                let end = ((next + start + j) / LANES + 1) * LANES - next - start;
                for i in j + 1..end.min(count) {
                    diagonal[(j, i)] = diagonal[(i, j)];
                }
            }
        };
        let rest = &mut rest[..(n - next) * stride];
        match self.parallelism {
            Parallelism::Sequential => {
                rest.chunks_mut(task * stride).enumerate().for_each(subtract);
            }
            Parallelism::Rayon => {
                rest.par_chunks_mut(task * stride).with_max_len(1).enumerate().for_each(subtract);
            }
        }
    }

    /// Q, n × n.
    fn basis(&self) -> RowMatrix {
        let (n, stride) = (self.work.n, self.work.stride);
        let all = MatRef::from_column_major_slice_with_stride(
            &self.work.values[..n * stride],
            n,
            n,
            stride,
        );
        let panels: Vec<_> = (0..n)
            .step_by(PANEL)
            .map(|first| {
                let width = PANEL.min(n - first);
                let vectors = all.get(first + 1..n, first..first + width);
                (first + 1, vectors, triangle(vectors, &self.factors[first..first + width]))
            })
            .collect();
        let mut columns = vec![0.0; n * n];
        for diagonal in columns.iter_mut().step_by(n + 1) {
            *diagonal = 1.0;
        }
        let task = if n <= SMALL { n } else { TASK };
        let build = |(index, columns): (usize, &mut [f64])| {
            let start = index * task;
            let end = start + columns.len() / n;
            let mut block = MatMut::from_column_major_slice_mut(columns, n, end - start);
            for (below, vectors, triangle) in panels.iter().rev() {
                // What is left of it are columns of the identity that the reflections do not touch.
                let first = start.max(*below);
                if first < end {
                    let block = block.as_mut().get_mut(*below.., first - start..);
                    apply(*vectors, triangle.as_ref(), block);
                }
            }
        };
        match self.parallelism {
            Parallelism::Sequential => columns.chunks_mut(task * n).enumerate().for_each(build),
            Parallelism::Rayon => {
                columns.par_chunks_mut(task * n).with_max_len(1).enumerate().for_each(build);
            }
        }
        transpose(&mut columns, n);
        RowMatrix::new(n, n, columns).expect("n columns of n numbers")
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

/// Transposes an n × n matrix where it lies.
fn transpose(values: &mut [f64], n: usize) {
    for top in (0..n).step_by(SQUARE) {
        for left in (top..n).step_by(SQUARE) {
            for i in top..n.min(top + SQUARE) {
                for j in left.max(i + 1)..n.min(left + SQUARE) {
                    values.swap(i * n + j, j * n + i);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use faer::{Mat, MatRef};

    use super::{PANEL, Parallelism, PowerOfTwo, WorkMatrix, eigen, eigenvalues};
    use crate::product;

    fn symmetric(n: usize) -> Mat<f64> {
        let entry = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.5 - 1.0;
        Mat::from_fn(n, n, |i, j| entry(i.max(j), i.min(j)))
    }

    fn check(matrix: MatRef<'_, f64>) {
        let n = matrix.nrows();
        let mut work = WorkMatrix::new(matrix, PowerOfTwo::default());
        let (values, vectors) = eigen(&mut work, Parallelism::Sequential).unwrap();
        work.restore();
        for j in 0..n {
            for i in j..n {
                assert_eq!(work.original_lower()[(i, j)].to_bits(), matrix[(i, j)].to_bits());
            }
        }
        let threaded =
            eigen(&mut WorkMatrix::new(matrix, PowerOfTwo::default()), Parallelism::Rayon).unwrap();
        assert!(threaded.0 == values && threaded.1 == vectors, "{n}: threads change bits");
        let vectors = vectors.as_mat();
        let mut alone = eigenvalues(&mut WorkMatrix::new(matrix, PowerOfTwo::default())).unwrap();
        alone.sort_by(f64::total_cmp);
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values), bits(&alone), "{n}");
        // A modest multiple of n·ε, as the theory of orthogonal transformations has it.
        let tolerance = 4.0 * (n as f64 + 1.0) * f64::EPSILON;
        let scaled = Mat::from_fn(n, n, |i, k| vectors[(i, k)] * values[k]);
        let error = (product(matrix, vectors) - scaled).norm_l2();
        let size = matrix.norm_l2();
        assert!(error <= tolerance * size, "{n}: {error} of {size}");
        let gram = product(vectors.transpose(), vectors) - Mat::<f64>::identity(n, n);
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
        let mut work = WorkMatrix::new(Mat::from_fn(n, n, laplace).as_ref(), PowerOfTwo::default());
        let (values, _) = eigen(&mut work, Parallelism::Sequential).unwrap();
        for (k, value) in values.iter().enumerate() {
            let angle = std::f64::consts::PI * (k + 1) as f64 / (n + 1) as f64;
            assert!((value - (1.0 - libm::cos(angle))).abs() < 1e-14, "{k}");
        }
    }
}
