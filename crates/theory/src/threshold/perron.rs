//! The nonnegative matrix M of S9, never formed, and rigorous bounds on its Perron root (S10).

use faer::Mat;
use flatmin_linalg::panels::{
    add_symmetric_product, quadratic_forms, quadratic_rounding_terms, rounding_terms,
};
use flatmin_linalg::{Parallelism, RowMatrix};

use super::response::Response;
use crate::minimum::rounding;

/// How much more than a mean a quotient may suffer from rounding before another vector is better.
const EXCUSED: f64 = 16.0;

/// The operator M(μ) for rows ĝ (n × r) in the eigenbasis of G, with room for its products: one
/// n × r and one r × r matrix.
#[derive(Debug)]
pub(super) struct Operator<'a> {
    pub(super) response: Response<'a>,
    rows: &'a RowMatrix,
    parallelism: Parallelism,
    /// `diag(v) ĝ`.
    weighted: RowMatrix,
    /// `S = ĝᵀ diag(v) ĝ` or what was made of it, lower triangle.
    moments: Mat<f64>,
}

/// Rigorous bounds on the Perron root of M at one μ.
#[derive(Debug)]
pub(super) struct Certificate {
    /// Some ρ ≥ this: a Rayleigh quotient or the smallest Collatz–Wielandt quotient.
    pub(super) lower: f64,
    /// ρ ≤ this: the largest Collatz–Wielandt quotient.
    pub(super) upper: f64,
    /// Relative bound on what rounding can have done to the Rayleigh quotient.
    pub(super) rayleigh_rounding: f64,
    /// Relative bound on what rounding can have done to the largest quotient.
    pub(super) quotient_rounding: f64,
}

impl Certificate {
    /// Whether the vector has entries so small that their quotients are all rounding. One that belongs
    /// to a higher level has larger ones.
    pub(super) fn is_lost_in_rounding(&self) -> bool {
        self.quotient_rounding > EXCUSED * self.rayleigh_rounding
    }

    /// Relative bound on what rounding must be expected to add to the distance of the ends.
    ///
    /// A vector may have entries so small that their quotients are all rounding: another one would do
    /// better, so that no more than a multiple of what rounding does to the mean is excused, and least
    /// for a vector that is no supersolution.
    pub(super) fn unavoidable(&self, is_supersolution: bool) -> f64 {
        let excused = if is_supersolution { EXCUSED } else { 1.0 } * self.rayleigh_rounding;
        self.rayleigh_rounding + self.quotient_rounding.min(excused)
    }
}

impl<'a> Operator<'a> {
    pub(super) fn new(
        response: Response<'a>,
        rows: &'a RowMatrix,
        parallelism: Parallelism,
    ) -> Self {
        let (n, rank) = (rows.rows(), rows.columns());
        let (weighted, moments) = (RowMatrix::zeros(n, rank), Mat::zeros(rank, rank));
        Self { response, rows, parallelism, weighted, moments }
    }

    pub(super) fn sample_count(&self) -> usize {
        self.rows.rows()
    }

    fn scale(&self) -> f64 {
        self.response.noise / self.rows.rows() as f64
    }

    /// Makes the moments those of `weights`.
    pub(super) fn set_moments(&mut self, weights: &[f64]) {
        for (i, weight) in weights.iter().enumerate() {
            for (out, value) in self.weighted.row_mut(i).iter_mut().zip(self.rows.row(i)) {
                *out = weight * value;
            }
        }
        let (left, right) = (self.weighted.as_mat().transpose(), self.rows.as_mat().transpose());
        self.moments.fill(0.0);
        add_symmetric_product(self.moments.as_mut(), left, right, self.parallelism);
    }

    /// Replaces the lower triangle of S by that of `W ∘ S`, the diagonal halved, so that
    /// `L + Lᵀ = W ∘ S`.
    fn respond(&mut self, shifts: &[f64]) {
        for k in 0..self.moments.ncols() {
            let denominators = self.response.denominators(shifts, k);
            let column = self.moments.col_mut(k).get_mut(k..);
            for (value, denominator) in column.iter_mut().zip(denominators) {
                *value /= denominator;
            }
            self.moments[(k, k)] *= 0.5;
        }
    }

    /// The opposite of [`respond`](Self::respond).
    fn undo_respond(&mut self, shifts: &[f64]) {
        for k in 0..self.moments.ncols() {
            let denominators = self.response.denominators(shifts, k);
            let column = self.moments.col_mut(k).get_mut(k..);
            for (value, denominator) in column.iter_mut().zip(denominators) {
                *value *= denominator;
            }
            self.moments[(k, k)] *= 2.0;
        }
    }

    fn forms(&self) -> Vec<f64> {
        let columns = self.rows.as_mat().transpose();
        quadratic_forms(self.moments.as_ref(), columns, self.parallelism)
    }

    /// Writes `M(μ) v` to `out`, for the μ of `shifts`. Costs 2nr² operations.
    pub(super) fn apply(&mut self, shifts: &[f64], vector: &[f64], out: &mut [f64]) {
        self.set_moments(vector);
        self.respond(shifts);
        for (out, form) in out.iter_mut().zip(self.forms()) {
            *out = self.scale() * form;
        }
    }

    /// The diagonal of `M(μ)`: `M_ii = (P/n) Σ_kl ĝ_ik² W_kl ĝ_il²`. Costs half a product.
    pub(super) fn diagonal(&mut self, nu: f64) -> Vec<f64> {
        let shifts = self.response.shifts(nu);
        for i in 0..self.rows.rows() {
            for (out, value) in self.weighted.row_mut(i).iter_mut().zip(self.rows.row(i)) {
                *out = value * value;
            }
        }
        let rank = self.moments.ncols();
        for k in 0..rank {
            self.moments.col_mut(k).get_mut(k..).fill(1.0);
        }
        self.respond(&shifts);
        let columns = self.weighted.as_mat().transpose();
        let forms = quadratic_forms(self.moments.as_ref(), columns, self.parallelism);
        forms.into_iter().map(|form| self.scale() * form).collect()
    }

    /// `W(μ) ∘ (ĝᵀ diag(v) ĝ)` at μ = pole + ν, both triangles.
    pub(super) fn response_matrix(mut self, nu: f64, weights: &[f64]) -> Mat<f64> {
        self.set_moments(weights);
        self.respond(&self.response.shifts(nu));
        let mut matrix = self.moments;
        for k in 0..matrix.ncols() {
            matrix[(k, k)] *= 2.0;
            for l in k + 1..matrix.ncols() {
                matrix[(k, l)] = matrix[(l, k)];
            }
        }
        matrix
    }

    /// `φ(ν) = vᵀ M(μ) v / ‖v‖²` and its derivative in ν, for the v of the moments:
    /// `(P/n) Σ_kl W_kl S_kl² / ‖v‖²`, in O(r²).
    ///
    /// A sum of positive terms: its own relative error is at most 2r + 64 roundings, with those of the
    /// moments after [`undo_respond`](Self::undo_respond).
    fn rayleigh(&self, nu: f64, norm_squared: f64) -> (f64, f64) {
        let shifts = self.response.shifts(nu);
        let (eigenvalues, moments) = (self.response.eigenvalues(), &self.moments);
        let (mut sum, mut slope) = (0.0, 0.0);
        for k in 0..moments.ncols() {
            let denominators = self.response.denominators(&shifts, k);
            let (mut column, mut column_slope) = (0.0, 0.0);
            let others = eigenvalues[k..].iter().zip(moments.col(k).get(k..).iter());
            for ((other, moment), denominator) in others.zip(denominators) {
                let term = moment * moment / denominator;
                column += term;
                column_slope += term / denominator * (eigenvalues[k] + other);
            }
            let diagonal = moments[(k, k)] * moments[(k, k)] / shifts[k] / eigenvalues[k];
            sum += 2.0 * column - diagonal;
            slope += column_slope - diagonal / shifts[k];
        }
        let scale = self.scale() / norm_squared;
        (scale * sum, -scale * slope)
    }

    /// The ν with `φ(ν) = level` for the `vector` whose moments are set, by Newton's method from `start`.
    ///
    /// φ falls and is convex: from anywhere a step lands on the left of the root, and from there
    /// steps go right and stay left. Level 1 gives a lower bound of the threshold.
    pub(super) fn rayleigh_root(&self, vector: &[f64], start: f64, level: f64) -> f64 {
        const MOST_STEPS: usize = 60;
        let norm_squared = vector.iter().map(|v| v * v).sum();
        let mut nu = start;
        for _ in 0..MOST_STEPS {
            let (value, slope) = self.rayleigh(nu, norm_squared);
            let step = (value - level) / -slope;
            if !step.is_finite() {
                break;
            }
            let next = (nu + step).max(0.125 * nu);
            if value >= level && next - nu <= 4.0 * f64::EPSILON * nu {
                break;
            }
            nu = next;
        }
        nu
    }

    /// Bounds on the Perron root at μ = pole + ν from a positive vector, rounding included. The
    /// moments are those of the vector afterwards.
    ///
    /// `None` when an entry of `vector` is not a positive number.
    ///
    /// Rounding: with `σ_k² = Σ_i v_i ĝ_ik²`, the computed moments are within `γ σ_k σ_l` of the exact
    /// ones by Cauchy–Schwarz, so that `(Mv)_i` is within `γ (P/n) Σ_kl |ĝ_ik| σ_k W_kl σ_l |ĝ_il|`
    /// for the γ of all roundings that a term passes through; and `W_kl ≤ 1/√(m_k λ_k m_l λ_l)`
    /// makes that at most `γ (P/n) (Σ_k |ĝ_ik| σ_k / √(m_k λ_k))²`.
    pub(super) fn certify(&mut self, nu: f64, vector: &[f64]) -> Option<Certificate> {
        if !vector.iter().all(|v| *v > 0.0 && v.is_finite()) {
            return None;
        }
        let (n, rank) = (self.rows.rows(), self.rows.columns());
        let shifts = self.response.shifts(nu);
        self.set_moments(vector);
        self.respond(&shifts);
        let forms = self.forms();
        self.undo_respond(&shifts);

        let terms = rounding_terms(n) + quadratic_rounding_terms(rank) + 24;
        let gamma = rounding(terms) * (1.0 + 1e-9);
        let factors: Vec<f64> = (0..rank)
            .map(|k| (self.moments[(k, k)] / shifts[k] / self.response.eigenvalues()[k]).sqrt())
            .collect();
        let (mut smallest, mut largest) = (f64::INFINITY, 0.0_f64);
        let mut quotient_error = 0.0_f64;
        let (mut product, mut hidden, mut norm_squared) = (0.0, 0.0, 0.0);
        for (i, weight) in vector.iter().enumerate() {
            let pairs = self.rows.row(i).iter().zip(&factors);
            let bound: f64 = pairs.map(|(value, factor)| value.abs() * factor).sum();
            let error = gamma * self.scale() * bound * bound;
            let value = self.scale() * forms[i];
            smallest = smallest.min((value - error) / weight);
            largest = largest.max((value + error) / weight);
            quotient_error = quotient_error.max(error / weight);
            product += weight * value;
            hidden += weight * error;
            norm_squared += weight * weight;
        }
        let sums = rounding(n + 12);
        let rayleigh = (product - hidden) / norm_squared * (1.0 - sums);
        let rayleigh_rounding = hidden / product + sums + rounding(2 * rank + 64);
        let lower = smallest.max(rayleigh);
        Some(Certificate {
            lower: lower * (1.0 - rounding(8)),
            upper: largest * (1.0 + rounding(8)),
            rayleigh_rounding,
            quotient_rounding: quotient_error / largest,
        })
    }
}
