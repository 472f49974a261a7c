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

use faer::{Accum, Mat, MatMut, MatRef};
use pulp::{Simd, WithSimd};

use crate::matmul_lower;
use crate::reflect::{PANEL, apply, reflect, triangle};
use crate::simd::{self, AlignedVec, Groups, GroupsMut, LANES, Lanes, padded};

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

/// The reduction of the columns of a panel; `images` takes their W, with stride like A.
struct Panel<'a> {
    form: &'a mut Tridiagonal,
    images: &'a mut [f64],
    first: usize,
    width: usize,
}

impl WithSimd for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { form, images, first, width } = self;
        let (n, stride) = (form.diagonal.len(), form.stride);
        let len = padded(n);
        for j in 0..width {
            let k = first + j;
            let (before, column) = form.vectors.split_at_mut(k * stride);
            let before = &before[first * stride..];
            let column = &mut column[..len];
            // What the reflections before it in the panel have left of column k.
            let from = k / LANES;
            let mut weights = [[0.0; PANEL]; 2];
            for i in 0..j {
                weights[0][i] = -images[i * stride + k];
                weights[1][i] = -before[i * stride + k];
            }
            add_columns(simd, before, stride, &weights[0][..j], column, from);
            add_columns(simd, images, stride, &weights[1][..j], column, from);
            form.diagonal[k] = column[k];
            column[..=k].fill(0.0);
            column[n..].fill(0.0);
            if k + 1 == n {
                break;
            }
            let (factor, beta) = reflect(&mut column[k + 1..n]);
            form.off_diagonal[k] = beta;
            form.factors[k] = factor;
            if factor == 0.0 {
                continue;
            }
            let from = (k + 1) / LANES;
            let (done, image) = images.split_at_mut(j * stride);
            let image = &mut image[..len];
            let vectors = &form.vectors[first * stride..];
            let vector = &form.vectors[k * stride..][..len];
            symmetric_image(simd, &form.vectors, stride, vector, image, from);
            let mut sums = [[0.0; PANEL]; 2];
            for i in 0..j {
                let dot = |lines: &[f64]| {
                    simd::dot(&lines[i * stride..][from * LANES..len], &vector[from * LANES..])
                };
                sums[0][i] = -dot(done);
                sums[1][i] = -dot(vectors);
            }
            add_columns(simd, vectors, stride, &sums[0][..j], image, from);
            add_columns(simd, done, stride, &sums[1][..j], image, from);
            image[..=k].fill(0.0);
            for v in &mut *image {
                *v *= factor;
            }
            let component = simd::dot(&image[from * LANES..], &vector[from * LANES..]);
            let weight = [-0.5 * factor * component];
            add_columns(simd, vector, stride, &weight, image, from);
        }
    }
}

/// `out += Σ_i weight_i · column i`, from group `from` on, in the order of the columns.
#[inline(always)]
fn add_columns<S: Simd>(
    simd: S,
    columns: &[f64],
    stride: usize,
    weights: &[f64],
    out: &mut [f64],
    from: usize,
) {
    let len = out.len();
    let mut out = GroupsMut::<S>::new(out);
    let mut i = 0;
    while i < weights.len() {
        let width = TOGETHER.min(weights.len() - i);
        // Columns that are missing repeat the last one with weight zero.
        let mut picked = [Groups::<S>::new(&columns[..0]); TOGETHER];
        let mut factors = [Lanes::splat(simd, 0.0); TOGETHER];
        for c in 0..TOGETHER {
            let column = i + if c < width { c } else { width - 1 };
            picked[c] = Groups::new(&columns[column * stride..][..len]);
            if c < width {
                factors[c] = Lanes::splat(simd, weights[i + c]);
            }
        }
        for g in from..len / LANES {
            let mut sum = out.get(simd, g);
            for c in 0..TOGETHER {
                sum = picked[c].get(simd, g).mul_add(simd, factors[c], sum);
            }
            out.set(g, sum);
        }
        i += TOGETHER;
    }
}

/// Columns that are read together.
const TOGETHER: usize = 4;

/// `image = A v` from group `from` on, where v is zero before. Reads A from the blocks of eight on its
/// diagonal down.
#[inline(always)]
fn symmetric_image<S: Simd>(
    simd: S,
    matrix: &[f64],
    stride: usize,
    vector: &[f64],
    image: &mut [f64],
    from: usize,
) {
    let len = vector.len();
    image[from * LANES..].fill(0.0);
    let v = Groups::<S>::new(vector);
    for block in from..len / LANES {
        for half in [0, TOGETHER] {
            let start = block * LANES + half;
            let mut columns = [Groups::<S>::new(&matrix[..0]); TOGETHER];
            let mut weights = [Lanes::splat(simd, 0.0); TOGETHER];
            let mut sums = [Lanes::splat(simd, 0.0); TOGETHER];
            for c in 0..TOGETHER {
                columns[c] = Groups::new(&matrix[(start + c) * stride..][..len]);
                weights[c] = Lanes::splat(simd, vector[start + c]);
            }
            let mut out = GroupsMut::<S>::new(image);
            let mut sum = out.get(simd, block);
            for c in 0..TOGETHER {
                sum = columns[c].get(simd, block).mul_add(simd, weights[c], sum);
            }
            out.set(block, sum);
            for g in block + 1..len / LANES {
                let mut sum = out.get(simd, g);
                let below = v.get(simd, g);
                for c in 0..TOGETHER {
                    let entries = columns[c].get(simd, g);
                    sum = entries.mul_add(simd, weights[c], sum);
                    sums[c] = entries.mul_add(simd, below, sums[c]);
                }
                out.set(g, sum);
            }
            for c in 0..TOGETHER {
                image[start + c] += sums[c].sum(simd);
            }
        }
    }
}

/// Sweeps of rotations that are applied together.
const WAVE: usize = 4;

/// Waves that are applied to a slab of rows while it is in the cache.
const WAVES: usize = 16;

/// Up to [`WAVE`] sweeps of rotations. Those that a sweep does not have do nothing.
struct Wave {
    /// Rotation i of sweep w at i − w + `WAVE`: the place of column i − w in a slab.
    rotations: Vec<[(f64, f64); WAVE]>,
    count: usize,
    /// The columns that are touched.
    first: usize,
    last: usize,
}

impl Wave {
    fn new(columns: usize) -> Self {
        let rotations = vec![[(1.0, 0.0); WAVE]; columns + 2 * WAVE];
        Self { rotations, count: 0, first: columns, last: 0 }
    }

    /// Adds a sweep: of the last columns first, and that of `first` last.
    fn push(&mut self, first: usize, rotations: &[(f64, f64)]) {
        let last = first + rotations.len();
        for (i, rotation) in (first..last).rev().zip(rotations) {
            self.rotations[i + WAVE - self.count][self.count] = *rotation;
        }
        self.first = self.first.min(first);
        self.last = self.last.max(last);
        self.count += 1;
    }
}

/// A matrix in slabs of rows; in a slab one column after another.
struct Columns {
    values: AlignedVec,
    rows: usize,
    /// Number of columns.
    count: usize,
    waves: Vec<Wave>,
}

/// Rows of a slab.
const SLAB: usize = 4 * LANES;

impl Columns {
    fn new(matrix: MatRef<'_, f64>) -> Self {
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        // At both ends of a slab are columns of zeros, for sweeps that are behind or ahead.
        let per_slab = SLAB * (columns + 2 * WAVE);
        let mut values = AlignedVec::zeros(rows.div_ceil(SLAB) * per_slab);
        for (s, slab) in values.chunks_exact_mut(per_slab).enumerate() {
            let count = SLAB.min(rows - s * SLAB);
            for (j, out) in slab[WAVE * SLAB..].chunks_exact_mut(SLAB).take(columns).enumerate() {
                let column = matrix.col(j).subrows(s * SLAB, count);
                out[..count].iter_mut().zip(column.iter()).for_each(|(out, value)| *out = *value);
            }
        }
        Self { values, rows, count: columns, waves: Vec::new() }
    }

    /// Applies a sweep of rotations, as [`Wave::push`] has them, now or later.
    fn sweep(&mut self, first: usize, rotations: &[(f64, f64)]) {
        if rotations.is_empty() {
            return;
        }
        if self.waves.last().is_none_or(|wave| wave.count == WAVE) {
            if self.waves.len() == WAVES {
                self.apply();
            }
            self.waves.push(Wave::new(self.count));
        }
        if let Some(wave) = self.waves.last_mut() {
            wave.push(first, rotations);
        }
    }

    fn apply(&mut self) {
        simd::arch().dispatch(Rotate(self));
        self.waves.clear();
    }

    /// The matrix with its columns in this order.
    fn in_order(&mut self, order: &[usize]) -> Mat<f64> {
        self.apply();
        let per_slab = SLAB * (self.count + 2 * WAVE);
        let mut out = Mat::zeros(self.rows, self.count);
        for (j, k) in order.iter().enumerate() {
            for (s, rows) in out.col_as_slice_mut(j).chunks_mut(SLAB).enumerate() {
                let from = s * per_slab + (k + WAVE) * SLAB;
                rows.copy_from_slice(&self.values[from..][..rows.len()]);
            }
        }
        out
    }
}

struct Rotate<'a>(&'a mut Columns);

impl WithSimd for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A column for each sweep must fit into the registers.
        match S::F64_LANES {
            8 => self.slabs::<S, 4>(simd),
            4 => self.slabs::<S, 2>(simd),
            _ => self.slabs::<S, 1>(simd),
        }
    }
}

impl Rotate<'_> {
    #[inline(always)]
    fn slabs<S: Simd, const R: usize>(self, simd: S) {
        let Columns { values, count, waves, .. } = self.0;
        let per_column = SLAB / S::F64_LANES;
        let values = S::as_mut_simd_f64s(values).0;
        for slab in values.chunks_exact_mut(per_column * (*count + 2 * WAVE)) {
            for wave in waves.iter() {
                let mut offset = 0;
                while offset < per_column {
                    rotate::<S, R>(simd, slab, per_column, offset, wave);
                    offset += R;
                }
            }
        }
    }
}

/// Applies the sweeps of a wave to `R` registers of every column of a slab.
///
/// A sweep turns columns i and i + 1 for i from high to low. What it leaves of i + 1 is what the next
/// sweep needs to turn i + 1 and i + 2, so that each is one column behind the one before it, and a column
/// is loaded and stored once for all of them.
#[inline(always)]
fn rotate<S: Simd, const R: usize>(
    simd: S,
    slab: &mut [S::f64s],
    per_column: usize,
    offset: usize,
    wave: &Wave,
) {
    // Column i of the matrix is column i + WAVE of the slab.
    let mut column = wave.last + WAVE;
    // The higher column of the pair that sweep w turns next.
    let mut held = [[simd.splat_f64s(0.0); R]; WAVE];
    for w in 0..WAVE {
        held[w].copy_from_slice(&slab[(column + w) * per_column + offset..][..R]);
    }
    while column > wave.first + 1 {
        column -= 1;
        let rotations = &wave.rotations[column];
        let mut passing = [simd.splat_f64s(0.0); R];
        passing.copy_from_slice(&slab[column * per_column + offset..][..R]);
        for w in 0..WAVE {
            let cosine = simd.splat_f64s(rotations[w].0);
            let sine = simd.splat_f64s(rotations[w].1);
            let minus = simd.splat_f64s(-rotations[w].1);
            for r in 0..R {
                let (low, high) = (passing[r], held[w][r]);
                passing[r] = simd.mul_add_f64s(sine, low, simd.mul_f64s(cosine, high));
                held[w][r] = simd.mul_add_f64s(cosine, low, simd.mul_f64s(minus, high));
            }
        }
        slab[(column + WAVE) * per_column + offset..][..R].copy_from_slice(&passing);
    }
    for w in 0..WAVE {
        slab[(column + w) * per_column + offset..][..R].copy_from_slice(&held[w]);
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
