//! Products with the nonnegative matrix M of S9 and with Φ of S13, which are never formed.

use std::ops::Range;

use faer::{Mat, MatMut};
use flatmin_linalg::gemm::{quadratic_blocks, quadratic_forms, weighted_moments};
use flatmin_linalg::{Parallelism, RowMatrix, simd};

use super::cone::Cone;
use super::response::{Modes, RELATIVE_STEP, Response};

/// The largest number of rows whose squares are held at a time.
const MAX_SQUARED_ROWS: usize = 2048;

/// The operator M(μ) for rows ĝ (n × r) in the eigenbasis of G, with an r × r matrix that its
/// products work in.
///
/// With k outputs the rows are nk × r and M(μ) is `Φ(Q)_i = (P/n) Ĵ_i [W ∘ Σ_j Ĵ_jᵀQ_jĴ_j] Ĵ_iᵀ` of
/// S13. Its vectors are tuples Q of k × k matrices, given by their coordinates in the [`Cone`], and
/// the moments are `S = Σ_j Ĵ_jᵀQ_jĴ_j` in place of `ĝᵀ diag(v) ĝ`.
#[derive(Debug)]
pub(crate) struct PerronOperator<'a> {
    pub(crate) response: Response<'a>,
    pub(crate) cone: Cone,
    pub(crate) rows: &'a RowMatrix,
    parallelism: Parallelism,
    /// `S = ĝᵀ diag(v) ĝ`, or `W ∘ S` after [`respond`](Self::respond); lower triangle.
    pub(crate) moments: Mat<f64>,
}

/// The rows of `diag(v) ĝ`, or of the `Q_i Ĵ_i`, computed when they are needed.
pub(crate) struct Weighted<'a> {
    rows: &'a RowMatrix,
    weights: Weights<'a>,
}

enum Weights<'a> {
    Numbers(&'a [f64]),
    Blocks(Vec<Mat<f64>>),
}

impl Weighted<'_> {
    /// Writes the given columns of row `row` to `out`.
    pub(crate) fn write(&self, row: usize, columns: Range<usize>, out: &mut [f64]) {
        match &self.weights {
            Weights::Numbers(weights) => {
                let weight = weights[row];
                for (out, value) in out.iter_mut().zip(&self.rows.row(row)[columns]) {
                    *out = weight * value;
                }
            }
            Weights::Blocks(blocks) => {
                out.fill(0.0);
                let outputs = self.rows.rows() / blocks.len();
                let (i, a) = (row / outputs, row % outputs);
                for b in 0..outputs {
                    let other = &self.rows.row(i * outputs + b)[columns.clone()];
                    simd::axpy(blocks[i][(a, b)], other, out);
                }
            }
        }
    }
}

impl<'a> PerronOperator<'a> {
    pub(crate) fn new(
        response: Response<'a>,
        rows: &'a RowMatrix,
        outputs: usize,
        parallelism: Parallelism,
    ) -> Self {
        let cone = Cone { samples: rows.rows() / outputs, outputs };
        let moments = Mat::zeros(rows.columns(), rows.columns());
        Self { response, cone, rows, parallelism, moments }
    }

    /// P/n.
    pub(crate) fn scale(&self) -> f64 {
        self.response.noise / self.cone.samples as f64
    }

    /// The rows of ĝ weighted by a tuple.
    pub(crate) fn weighted<'b>(&'b self, weights: &'b [f64]) -> Weighted<'b> {
        let weights = if self.cone.is_orthant() {
            Weights::Numbers(weights)
        } else {
            Weights::Blocks(self.cone.blocks(weights).collect())
        };
        Weighted { rows: self.rows, weights }
    }

    /// Computes the moments of `weights`.
    pub(crate) fn set_moments(&mut self, weights: &[f64]) {
        self.sum_moments(weights, |_, _| {});
    }

    /// Computes the moments of `weights` and applies `finish` to each block of rows once it is
    /// summed up, see [`weighted_moments`].
    fn sum_moments(&mut self, weights: &[f64], finish: impl Fn(usize, MatMut<'_, f64>) + Sync) {
        // The moments are taken out, so that `self` can be borrowed.
        let mut moments = std::mem::replace(&mut self.moments, Mat::new());
        let weighted = self.weighted(weights);
        let weigh = |rows: Range<usize>, columns: Range<usize>, out: &mut [f64]| {
            for (row, out) in rows.zip(out.chunks_exact_mut(columns.len())) {
                weighted.write(row, columns.clone(), out);
            }
        };
        weighted_moments(moments.as_mut(), self.rows.as_mat(), weigh, finish, self.parallelism);
        self.moments = moments;
    }

    /// Replaces the lower triangle of S by the lower triangle of `W ∘ S` with its diagonal halved,
    /// so that `L + Lᵀ = W ∘ S`.
    fn respond(&mut self, modes: &Modes) {
        self.response.apply(modes, 0, self.moments.as_mut());
    }

    /// Undoes [`respond`](Self::respond).
    fn undo_respond(&mut self, modes: &Modes) {
        let response = self.response;
        for k in 0..self.moments.ncols() {
            let column = self.moments.col_mut(k).get_mut(k..);
            response.zip_denominators(modes, (k, k), column.iter_mut(), |value, denominator| {
                *value *= denominator;
            });
            self.moments[(k, k)] *= 2.0;
        }
    }

    /// The lower triangles of the `Ĵ_i (L + Lᵀ) Ĵ_iᵀ`, row by row; the `ĝ_iᵀ(L + Lᵀ)ĝ_i` for one
    /// output.
    pub(crate) fn forms(&self) -> Vec<f64> {
        let columns = self.rows.as_mat().transpose();
        quadratic_blocks(self.moments.as_ref(), columns, self.cone.outputs, self.parallelism)
    }

    /// The forms of `W ∘ mmᵀ` for one vector m in the eigenbasis, with the W of the response.
    pub(crate) fn forms_of_square(&mut self, modes: &Modes, mean: &[f64]) -> Vec<f64> {
        for k in 0..self.moments.ncols() {
            let column = self.moments.col_mut(k).get_mut(k..);
            for (value, other) in column.iter_mut().zip(&mean[k..]) {
                *value = mean[k] * other;
            }
        }
        self.respond(modes);
        self.forms()
    }

    /// The unscaled forms of `M(μ) v`, leaving the moments of `vector` in the operator.
    pub(crate) fn image_forms(&mut self, modes: &Modes, vector: &[f64]) -> Vec<f64> {
        self.set_moments(vector);
        self.respond(modes);
        let forms = self.forms();
        self.undo_respond(modes);
        forms
    }

    /// Writes `M(μ) v` to `out`, for the μ that belongs to `modes`. Costs 2nr² operations.
    pub(crate) fn apply(&mut self, modes: &Modes, vector: &[f64], out: &mut [f64]) {
        let response = self.response;
        self.sum_moments(vector, |first, block| response.apply(modes, first, block));
        for (out, form) in out.iter_mut().zip(self.forms()) {
            *out = self.scale() * form;
        }
        self.cone.to_coordinates(out);
    }

    /// The diagonal of `M(μ)` for one output, `M_ii = (P/n) Σ_kl ĝ_ik² W_kl ĝ_il²`. Costs half as
    /// much as a product.
    pub(crate) fn diagonal(&mut self, nu: f64) -> Vec<f64> {
        let modes = self.response.modes(nu);
        let rank = self.moments.ncols();
        for k in 0..rank {
            self.moments.col_mut(k).get_mut(k..).fill(1.0);
        }
        self.respond(&modes);
        let (scale, n) = (self.scale(), self.rows.rows());
        let mut diagonal = Vec::with_capacity(n);
        for first in (0..n).step_by(MAX_SQUARED_ROWS) {
            let count = MAX_SQUARED_ROWS.min(n - first);
            let squares =
                RowMatrix::from_fn(count, rank, |i, k| self.rows.row(first + i)[k].powi(2));
            let columns = squares.as_mat().transpose();
            let forms = quadratic_forms(self.moments.as_ref(), columns, self.parallelism);
            diagonal.extend(forms.into_iter().map(|form| scale * form));
        }
        diagonal
    }

    /// `W(μ) ∘ (ĝᵀ diag(v) ĝ)` at μ = pole + ν, both triangles.
    pub(crate) fn response_matrix(mut self, nu: f64, weights: &[f64]) -> Mat<f64> {
        self.set_moments(weights);
        self.respond(&self.response.modes(nu));
        let mut matrix = self.moments;
        for k in 0..matrix.ncols() {
            matrix[(k, k)] *= 2.0;
            for l in k + 1..matrix.ncols() {
                matrix[(k, l)] = matrix[(l, k)];
            }
        }
        matrix
    }

    /// `φ(ν) = vᵀ M(μ) v / ‖v‖² = (P/n) Σ_kl W_kl S_kl² / ‖v‖²` and its derivative in ν, for the v
    /// whose moments S are set. Costs O(r²).
    ///
    /// All terms are positive, so that the relative error of the sum is at most 2r + 64 roundings,
    /// those of [`undo_respond`](Self::undo_respond) included, and the
    /// [extra ones](Response::extra_roundings) of the response. The derivative is a difference
    /// quotient where d is not linear in μ.
    fn rayleigh(&self, nu: f64, norm_squared: f64) -> (f64, f64) {
        let (value, slope) = self.weighted_squares(nu);
        let scale = self.scale() / norm_squared;
        let slope = slope.unwrap_or_else(|| {
            let step = RELATIVE_STEP * nu;
            (value - self.weighted_squares(nu + step).0) / step
        });
        (scale * value, -scale * slope)
    }

    /// `Σ_kl W_kl S_kl²` and minus its derivative in ν, which is known where d is linear in μ.
    pub(crate) fn weighted_squares(&self, nu: f64) -> (f64, Option<f64>) {
        let modes = self.response.modes(nu);
        let (eigenvalues, moments) = (self.response.eigenvalues, &self.moments);
        let (mut sum, mut slope) = (0.0, 0.0);
        for k in 0..moments.ncols() {
            let (mut column, mut column_slope) = (0.0, 0.0);
            let others = eigenvalues[k..].iter().zip(moments.col(k).get(k..).iter());
            self.response.zip_denominators(&modes, (k, k), others, |(other, moment), d| {
                let term = moment * moment / d;
                column += term;
                column_slope += term / d * (eigenvalues[k] + other);
            });
            let square = moments[(k, k)] * moments[(k, k)];
            let diagonal = self.response.over_diagonal(&modes, k, square);
            sum += 2.0 * column - diagonal;
            slope += column_slope - modes.shifts().map_or(0.0, |shifts| diagonal / shifts[k]);
        }
        (sum, self.response.heavy_ball().map(|_| slope))
    }

    /// The ν with `φ(ν) = level` for the `vector` whose moments are set, by Newton's method from
    /// `start`.
    ///
    /// φ is decreasing, and convex where d is linear in μ: a step from anywhere lands on the left of
    /// the root, and further steps go right without passing it. Elsewhere steps that passed the root
    /// are taken back. Level 1 gives a lower bound of the threshold.
    pub(crate) fn rayleigh_root(&self, vector: &[f64], start: f64, level: f64) -> f64 {
        const MAX_STEPS: usize = 60;
        let norm_squared = vector.iter().map(|v| v * v).sum();
        let mut nu = start;
        for _ in 0..MAX_STEPS {
            let (value, slope) = self.rayleigh(nu, norm_squared);
            let step = (value - level) / -slope;
            if !step.is_finite() {
                break;
            }
            let next = (nu + step).max(0.125 * nu).max(self.response.least_nu());
            if value >= level && next - nu <= 4.0 * f64::EPSILON * nu {
                break;
            }
            nu = next;
        }
        self.response.heavy_ball().map_or_else(|| self.back_off(nu, norm_squared, level), |_| nu)
    }

    /// The largest ν that is at most the given one, up to rounding, with `φ(ν) ≥ level`; or the
    /// [least](Response::least_nu) ν.
    fn back_off(&self, mut nu: f64, norm_squared: f64, level: f64) -> f64 {
        let least = self.response.least_nu();
        let mut distance = 4.0 * f64::EPSILON;
        while nu > least && self.scale() * self.weighted_squares(nu).0 / norm_squared < level {
            nu = (nu * (1.0 - distance)).max(least);
            distance = (2.0 * distance).min(0.5);
        }
        nu
    }
}
