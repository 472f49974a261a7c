//! The exact recursion of second moments.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

use std::ops::Range;

use faer::Mat;
use flatmin_linalg::gemm::{quadratic_forms, weighted_moments};
use flatmin_linalg::{Parallelism, RowMatrix, simd};
use pulp::{Simd, WithSimd};

use super::linearised::LinearisedSgd;
use crate::SimulationError;

/// The second moments of linearised SGD, stepped exactly.
///
/// In the eigenbasis of G, `P = E[δδᵀ]`, `C = E[δvᵀ]`, `S = E[vvᵀ]` (r × r each). With
/// `F_k = [[1−ηλ_k, β], [−ηλ_k, β]]` the mean step of mode k on `(δ_k, v_k)`, every pair of modes
/// obeys
///
/// ```text
/// M_kl' = F_k M_kl F_lᵀ + η² N_kl [[1, 1], [1, 1]],    M_kl = [[P_kl, C_kl], [C_lk, S_kl]],
/// N = p [ (1/n) Σ (g_iᵀP g_i) g_i g_iᵀ − GPG ],
/// ```
///
/// because the gradient noise is added to v' and to δ' = δ + v' alike. For β = 0 the first block is
/// the map `P' = P − η(GP + PG) + η²[(1−p) GPG + p (1/n) Σ (g_iᵀP g_i) g_i g_iᵀ]`. The sampling
/// enters through p alone. Source: theory, section 2 and S12.
///
/// ```
/// use flatmin_linalg::RowMatrix;
/// use flatmin_theory::{Batch, LinearisedSgd, Minimum, Optimizer, Sampling, SecondMoments};
/// // One direction, g² = 1 or 9: E(1 − ηg²)² = 1 − 2·5η + 41η².
/// let minimum = Minimum::new(&RowMatrix::new(2, 1, vec![1.0, 3.0])?)?;
/// let batch = Batch::new(1, Sampling::WithReplacement)?;
/// let sgd = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, 0.1)?;
/// let mut moments = SecondMoments::new(&sgd);
/// moments.step();
/// assert!((moments.norm_squared() - 0.41).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SecondMoments {
    learning_rate: f64,
    momentum: f64,
    /// p.
    noise_coefficient: f64,
    /// (1 − α)/p.
    deficit_ratio: f64,
    eigenvalues: Vec<f64>,
    rows: RowMatrix,
    /// P. Like the next three matrices, it is a lower triangle with zeros above.
    position: Mat<f64>,
    /// C.
    cross: Mat<f64>,
    /// Cᵀ.
    cross_transposed: Mat<f64>,
    /// S.
    velocity: Mat<f64>,
    /// `Σ (g_iᵀP g_i) g_i g_iᵀ` before the last step, lower triangle.
    noise: Mat<f64>,
    steps: usize,
}

impl SecondMoments {
    /// Moments that start from `E[δδᵀ] = I` on range(G), at rest (v = 0): the second moments of
    /// both starts of [`simulate`](crate::simulate()).
    pub fn new(sgd: &LinearisedSgd<'_>) -> Self {
        let (_, eigenvalues, rows) = sgd.minimum().scaled();
        let rank = eigenvalues.len();
        Self {
            learning_rate: sgd.scaled_learning_rate(),
            momentum: sgd.momentum(),
            noise_coefficient: sgd.noise().coefficient,
            deficit_ratio: if sgd.noise().mean_deficit > 0.0 { 1.0 } else { 0.0 },
            eigenvalues: eigenvalues.to_vec(),
            rows: rows.clone(),
            position: Mat::identity(rank, rank),
            cross: Mat::zeros(rank, rank),
            cross_transposed: Mat::zeros(rank, rank),
            velocity: Mat::zeros(rank, rank),
            noise: Mat::zeros(rank, rank),
            steps: 0,
        }
    }

    /// Moments that start from `E[δδᵀ] = (P₀ + P₀ᵀ)/2`, at rest, for an r × r matrix P₀ in the
    /// eigenbasis of G.
    ///
    /// # Errors
    /// [`SimulationError::Shape`] or [`SimulationError::NotFinite`] for a wrong shape or entry.
    pub fn starting_from(
        sgd: &LinearisedSgd<'_>,
        start: &RowMatrix,
    ) -> Result<Self, SimulationError> {
        let mut moments = Self::new(sgd);
        let mut position = symmetric_part("the second moment", start, moments.rank())?;
        for column in 0..moments.rank() {
            position.col_mut(column).subrows_mut(0, column).fill(0.0);
        }
        moments.position = position;
        Ok(moments)
    }

    /// The rank r of G.
    pub fn rank(&self) -> usize {
        self.eigenvalues.len()
    }

    /// The number of steps taken.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Takes one step. Costs two products of nr² operations, which use that the moments are
    /// symmetric.
    pub fn step(&mut self) {
        let rank = self.rank();
        if self.noise_coefficient > 0.0 && rank > 0 {
            self.sum_noise();
        }
        let (eta, n) = (self.learning_rate, self.rows.rows() as f64);
        let rates: Vec<f64> = self.eigenvalues.iter().map(|lambda| eta * lambda).collect();
        for k in 0..rank {
            simd::arch().dispatch(ColumnStep {
                rate: rates[k],
                rates: &rates[k..],
                momentum: self.momentum,
                // The factors are applied one by one, so that no intermediate product overflows.
                noise: &self.noise.col_as_slice(k)[k..],
                noise_scale: eta / n,
                learning_rate: eta,
                noise_coefficient: self.noise_coefficient,
                deficit_ratio: self.deficit_ratio,
                position: &mut self.position.col_as_slice_mut(k)[k..],
                cross: &mut self.cross.col_as_slice_mut(k)[k..],
                cross_transposed: &mut self.cross_transposed.col_as_slice_mut(k)[k..],
                velocity: &mut self.velocity.col_as_slice_mut(k)[k..],
            });
        }
        self.steps += 1;
    }

    /// Computes `noise` from P.
    fn sum_noise(&mut self) {
        let Self { rows, position, noise, .. } = self;
        // L + Lᵀ = P.
        let scale_diagonal = |position: &mut Mat<f64>, factor: f64| {
            for k in 0..position.ncols() {
                position[(k, k)] *= factor;
            }
        };
        scale_diagonal(position, 0.5);
        let columns = rows.as_mat().transpose();
        let forms = quadratic_forms(position.as_ref(), columns, Parallelism::Sequential);
        scale_diagonal(position, 2.0);
        let weigh = |samples: Range<usize>, columns: Range<usize>, out: &mut [f64]| {
            for (i, out) in samples.zip(out.chunks_exact_mut(columns.len())) {
                // The value is read once, so that the loop works on whole vectors.
                let form = forms[i];
                for (out, value) in out.iter_mut().zip(&rows.row(i)[columns.clone()]) {
                    *out = form * value;
                }
            }
        };
        let moments = noise.as_mut();
        weighted_moments(moments, rows.as_mat(), weigh, |_, _| {}, Parallelism::Sequential);
    }

    /// `E‖δ‖² = tr P`.
    pub fn norm_squared(&self) -> f64 {
        (0..self.rank()).map(|k| self.position[(k, k)]).sum()
    }

    /// `E[δᵀYδ] = tr(YP)` for an r × r matrix Y in the eigenbasis of G; infinite or NaN once the
    /// moments have overflowed.
    ///
    /// # Errors
    /// [`SimulationError::Shape`] or [`SimulationError::NotFinite`] for a wrong shape or entry.
    pub fn quadratic_form(&self, form: &RowMatrix) -> Result<f64, SimulationError> {
        let form = symmetric_part("the quadratic form", form, self.rank())?;
        let mut sum = 0.0;
        for k in 0..self.rank() {
            let (y, p) = (&form.col_as_slice(k)[k..], &self.position.col_as_slice(k)[k..]);
            sum += y[0] * p[0] + 2.0 * simd::dot(&y[1..], &p[1..]);
        }
        Ok(sum)
    }
}

/// One step of column l of P, C, Cᵀ and S, from the diagonal down and in place: the new entries (k,
/// l) depend on the old entries (k, l) alone.
struct ColumnStep<'a> {
    /// `ηλ_l`.
    rate: f64,
    /// The `ηλ_k`.
    rates: &'a [f64],
    momentum: f64,
    learning_rate: f64,
    noise_coefficient: f64,
    /// (1 − α)/p, which is 0 or 1.
    deficit_ratio: f64,
    /// η/n.
    noise_scale: f64,
    noise: &'a [f64],
    position: &'a mut [f64],
    cross: &'a mut [f64],
    cross_transposed: &'a mut [f64],
    velocity: &'a mut [f64],
}

impl WithSimd for ColumnStep<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { rate: b, momentum: beta, learning_rate: eta, noise_coefficient: p, .. } = self;
        let Self {
            deficit_ratio, rates, noise, position, cross, cross_transposed, velocity, ..
        } = self;
        let len = rates.len();
        // With known equal lengths the compiler vectorises the loop.
        let (noise, position, cross) = (&noise[..len], &mut position[..len], &mut cross[..len]);
        let (cross_transposed, velocity) = (&mut cross_transposed[..len], &mut velocity[..len]);
        for k in 0..len {
            let (a, x, s) = (rates[k], position[k], velocity[k]);
            let (xv, vx) = (cross[k], cross_transposed[k]);
            let noise = p * (eta * (self.noise_scale * noise[k]) - deficit_ratio * (a * b * x));
            // The rows of F_k M_kl for δ' and v', and those of F_l M_lk.
            let (top, top_v) = ((1.0 - a) * x + beta * vx, (1.0 - a) * xv + beta * s);
            let (low, low_v) = (beta * vx - a * x, beta * s - a * xv);
            let (other_top, other_top_v) = ((1.0 - b) * x + beta * xv, (1.0 - b) * vx + beta * s);
            position[k] = top * (1.0 - b) + top_v * beta + noise;
            cross[k] = top_v * beta - top * b + noise;
            cross_transposed[k] = other_top_v * beta - other_top * a + noise;
            velocity[k] = low_v * beta - low * b + noise;
        }
    }
}

/// `(A + Aᵀ)/2` of a finite r × r matrix.
pub(crate) fn symmetric_part(
    what: &'static str,
    matrix: &RowMatrix,
    rank: usize,
) -> Result<Mat<f64>, SimulationError> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    if (rows, columns) != (rank, rank) {
        return Err(SimulationError::Shape { what, rows, columns, rank });
    }
    let values = matrix.values();
    if let Some(k) = values.iter().position(|v| !v.is_finite()) {
        let (row, column) = (k / rank, k % rank);
        return Err(SimulationError::NotFinite { what, row, column, value: values[k] });
    }
    Ok(Mat::from_fn(rank, rank, |i, j| f64::midpoint(matrix.row(i)[j], matrix.row(j)[i])))
}
