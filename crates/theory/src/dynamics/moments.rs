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

use super::linearised::{Law, LinearisedSgd, System};
use crate::{BatchError, Noise, SimulationError};

/// The second moments of linearised SGD with independent batches, stepped exactly.
///
/// In the eigenbasis of G, `P = E[δδᵀ]`, `C = E[δvᵀ]`, `S = E[vvᵀ]` (r × r each). With
/// `F_k = A − ηλ_k b cᵀ` the mean step of mode k on `(δ_k, v_k)`, every pair of modes obeys
///
/// ```text
/// M_kl' = F_k M_kl F_lᵀ + η² N_kl b bᵀ,    M_kl = [[P_kl, C_kl], [C_lk, S_kl]],
/// N = p (1/n) Σ (g_iᵀP g_i) g_i g_iᵀ − (1−α) GPG,
/// ```
///
/// with A, b and c of [`Optimizer::state_space`](crate::Optimizer::state_space), and p and α of
/// [`Noise`]. For plain SGD the first block is the map
/// `P' = P − η(GP + PG) + η²[α GPG + p (1/n) Σ (g_iᵀP g_i) g_i g_iᵀ]`. The sampling enters through
/// p and α alone. Source: theory, section 2, S15 and S16.
///
/// ```
/// use flatmin_linalg::RowMatrix;
/// use flatmin_theory::{Batch, LinearisedSgd, Minimum, Optimizer, Sampling, SecondMoments};
/// // One direction, g² = 1 or 9: E(1 − ηg²)² = 1 − 2·5η + 41η².
/// let minimum = Minimum::new(&RowMatrix::new(2, 1, vec![1.0, 3.0])?)?;
/// let batch = Batch::new(1, Sampling::WithReplacement)?;
/// let sgd = LinearisedSgd::new(&minimum, &Optimizer::sgd(), &batch, 0.1)?;
/// let mut moments = SecondMoments::new(&sgd)?;
/// moments.step();
/// assert!((moments.norm_squared() - 0.41).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SecondMoments {
    law: Law,
    noise_law: Noise,
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
    ///
    /// # Errors
    /// [`BatchError::Dependent`] for [`Sampling::Reshuffling`](crate::Sampling::Reshuffling).
    pub fn new(sgd: &LinearisedSgd<'_>) -> Result<Self, SimulationError> {
        let noise_law = sgd.noise.ok_or(BatchError::Dependent)?;
        let (_, eigenvalues, rows) = sgd.minimum().scaled();
        let rank = eigenvalues.len();
        Ok(Self {
            law: sgd.law(),
            noise_law,
            eigenvalues: eigenvalues.to_vec(),
            rows: rows.clone(),
            position: Mat::identity(rank, rank),
            cross: Mat::zeros(rank, rank),
            cross_transposed: Mat::zeros(rank, rank),
            velocity: Mat::zeros(rank, rank),
            noise: Mat::zeros(rank, rank),
            steps: 0,
        })
    }

    /// Moments that start from `E[δδᵀ] = (P₀ + P₀ᵀ)/2`, at rest, for an r × r matrix P₀ in the
    /// eigenbasis of G.
    ///
    /// # Errors
    /// [`SimulationError::Shape`] or [`SimulationError::NotFinite`] for a wrong shape or entry, and
    /// the error of [`new`](Self::new).
    pub fn starting_from(
        sgd: &LinearisedSgd<'_>,
        start: &RowMatrix,
    ) -> Result<Self, SimulationError> {
        let mut moments = Self::new(sgd)?;
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
        if self.noise_law.coefficient > 0.0 && rank > 0 {
            self.sum_noise();
        }
        let (eta, n) = (self.law.rate(), self.rows.rows() as f64);
        let rates: Vec<f64> = self.eigenvalues.iter().map(|lambda| eta * lambda).collect();
        for k in 0..rank {
            let noise = ColumnNoise {
                sums: &self.noise.col_as_slice(k)[k..],
                scale: eta / n,
                learning_rate: eta,
                coefficient: self.noise_law.coefficient,
                deficit_ratio: if self.noise_law.mean_deficit > 0.0 { 1.0 } else { 0.0 },
            };
            let column = Column {
                rate: rates[k],
                rates: &rates[k..],
                noise,
                position: &mut self.position.col_as_slice_mut(k)[k..],
                cross: &mut self.cross.col_as_slice_mut(k)[k..],
                cross_transposed: &mut self.cross_transposed.col_as_slice_mut(k)[k..],
                velocity: &mut self.velocity.col_as_slice_mut(k)[k..],
            };
            match &self.law {
                Law::HeavyBall { momentum, .. } => {
                    simd::arch().dispatch(HeavyBallStep { column, momentum: *momentum });
                }
                Law::Linear(system) => simd::arch().dispatch(LinearStep { column, system }),
            }
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

/// Column l of P, C, Cᵀ and S, from the diagonal down. A step is taken in place: the new entries
/// (k, l) depend on the old entries (k, l) alone.
struct Column<'a> {
    /// `ηλ_l`.
    rate: f64,
    /// The `ηλ_k`.
    rates: &'a [f64],
    noise: ColumnNoise<'a>,
    position: &'a mut [f64],
    cross: &'a mut [f64],
    cross_transposed: &'a mut [f64],
    velocity: &'a mut [f64],
}

/// Column l of `η²N`.
#[derive(Clone, Copy)]
struct ColumnNoise<'a> {
    /// `Σ (g_iᵀP g_i) g_i g_iᵀ`.
    sums: &'a [f64],
    /// η/n. The factors are applied one by one, so that no intermediate product overflows.
    scale: f64,
    learning_rate: f64,
    /// p.
    coefficient: f64,
    /// (1 − α)/p, which is 0 or 1.
    deficit_ratio: f64,
}

impl ColumnNoise<'_> {
    /// Entry k, with `product = ηλ_k ηλ_l P_kl`.
    #[inline(always)]
    fn entry(self, k: usize, product: f64) -> f64 {
        let Self { sums, scale, learning_rate, coefficient, deficit_ratio } = self;
        coefficient * (learning_rate * (scale * sums[k]) - deficit_ratio * product)
    }
}

/// A step of SGD with or without heavy-ball momentum.
struct HeavyBallStep<'a> {
    column: Column<'a>,
    momentum: f64,
}

impl WithSimd for HeavyBallStep<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { column, momentum: beta } = self;
        let Column { rate: b, rates, mut noise, position, cross, cross_transposed, velocity } =
            column;
        let len = rates.len();
        // With known equal lengths the compiler vectorises the loop.
        noise.sums = &noise.sums[..len];
        let (position, cross) = (&mut position[..len], &mut cross[..len]);
        let (cross_transposed, velocity) = (&mut cross_transposed[..len], &mut velocity[..len]);
        for k in 0..len {
            let (a, x, s) = (rates[k], position[k], velocity[k]);
            let (xv, vx) = (cross[k], cross_transposed[k]);
            let noise = noise.entry(k, a * b * x);
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

/// A step of any linear optimizer.
struct LinearStep<'a> {
    column: Column<'a>,
    system: &'a System,
}

impl WithSimd for LinearStep<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { column, system } = self;
        let Column { rate: b, rates, mut noise, position, cross, cross_transposed, velocity } =
            column;
        let len = rates.len();
        // With known equal lengths the compiler vectorises the loop.
        noise.sums = &noise.sums[..len];
        let (position, cross) = (&mut position[..len], &mut cross[..len]);
        let (cross_transposed, velocity) = (&mut cross_transposed[..len], &mut velocity[..len]);
        let [[d, dv], [e, ev]] = system.transition;
        let [i, iv] = system.input;
        // F_l.
        let (other_d, other_e) = (d - b * i, e - b * iv);
        for k in 0..len {
            let (a, x, s) = (rates[k], position[k], velocity[k]);
            let (xv, vx) = (cross[k], cross_transposed[k]);
            let noise = noise.entry(k, a * b * x);
            // F_k, and the rows of F_k M_kl.
            let (own_d, own_e) = (d - a * i, e - a * iv);
            let (top, top_v) = (own_d * x + dv * vx, own_d * xv + dv * s);
            let (low, low_v) = (own_e * x + ev * vx, own_e * xv + ev * s);
            position[k] = top * other_d + top_v * dv + i * i * noise;
            cross[k] = top * other_e + top_v * ev + i * iv * noise;
            cross_transposed[k] = low * other_d + low_v * dv + i * iv * noise;
            velocity[k] = low * other_e + low_v * ev + iv * iv * noise;
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
