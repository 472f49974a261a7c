//! The Perron form of the threshold of any linear optimizer, from its definition (S12, S15).

use faer::linalg::solvers::Solve as _;
use flatmin_theory::StateSpace;

use crate::prelude::*;

/// A minimum in the eigenbasis of its G, with the noise of a sampling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PerronForm<'a> {
    pub(crate) eigenvalues: &'a [f64],
    /// The `ĝ_i`.
    pub(crate) rows: &'a RowMatrix,
    /// The noise coefficient p.
    pub(crate) p: f64,
    /// 1 − α.
    pub(crate) deficit: f64,
}

impl PerronForm<'_> {
    /// True if no `L_kl` has a real eigenvalue at or above 1 and `ρ(M) < 1`.
    pub(crate) fn is_stable(&self, system: &StateSpace, rate: f64) -> Result<bool, LedgerError> {
        for (k, l) in lower_triangle(self.eigenvalues.len()) {
            let Ok(values) = self.pair(system, rate, k, l).eigenvalues() else { return Ok(false) };
            let is_real = |value: &faer::c64| value.im.abs() <= 1e-7 * value.re.abs();
            if values.iter().any(|value| is_real(value) && value.re >= 1.0) {
                return Ok(false);
            }
        }
        Ok(self.root(system, rate)? < 1.0)
    }

    /// `L_kl = F_k ⊗ F_l − (1−α)η²λ_kλ_l (bcᵀ) ⊗ (bcᵀ)` with `F_k = A − ηλ_k bcᵀ`.
    fn pair(&self, system: &StateSpace, rate: f64, k: usize, l: usize) -> Mat<f64> {
        let size = system.input.len();
        let steps = [k, l].map(|mode| rate * self.eigenvalues[mode]);
        let direct = |i: usize, j: usize| system.input[i] * system.output[j];
        let factor =
            |step: f64, i: usize, j: usize| system.transition.row(i)[j] - step * direct(i, j);
        Mat::from_fn(size * size, size * size, |row, column| {
            let (i, j) = (row / size, column / size);
            let (other_i, other_j) = (row % size, column % size);
            let noise = direct(i, j) * direct(other_i, other_j);
            factor(steps[0], i, j) * factor(steps[1], other_i, other_j)
                - self.deficit * steps[0] * steps[1] * noise
        })
    }

    /// ρ(M), `M_ij = (pη²/n) Σ_kl ĝ_ik ĝ_jk W_kl ĝ_il ĝ_jl`, `W_kl = (c⊗c)ᵀ (I − L_kl)⁻¹ (b⊗b)`.
    pub(crate) fn root(&self, system: &StateSpace, rate: f64) -> Result<f64, LedgerError> {
        let (n, rank, size) = (self.rows.rows(), self.eigenvalues.len(), system.input.len());
        let square = |vector: &[f64]| {
            Mat::from_fn(size * size, 1, |k, _| vector[k / size] * vector[k % size])
        };
        let (input, output) = (square(&system.input), square(&system.output));
        let response = Mat::from_fn(rank, rank, |k, l| {
            let pair = self.pair(system, rate, k, l);
            let solved = (Mat::<f64>::identity(size * size, size * size) - pair)
                .partial_piv_lu()
                .solve(&input);
            (output.transpose() * solved)[(0, 0)]
        });
        // A singular system: the response is infinite.
        if !is_finite(&response) {
            return Ok(f64::INFINITY);
        }
        let matrix = Mat::from_fn(n, n, |i, j| {
            let (a, b) = (self.rows.row(i), self.rows.row(j));
            let mut sum = 0.0;
            for k in 0..rank {
                for l in 0..rank {
                    sum += a[k] * b[k] * response[(k, l)] * a[l] * b[l];
                }
            }
            self.p * rate * rate / n as f64 * sum
        });
        Ok(symmetric_eigenvalues(matrix.as_ref())?.last().copied().unwrap_or(0.0))
    }
}
