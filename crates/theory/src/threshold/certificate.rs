//! Rigorous bounds on the Perron root from one vector (S10, S13).

use faer::Mat;
use flatmin_linalg::gemm::{quadratic_rounding_terms, rounding_terms};
use flatmin_linalg::rounding::{UNIT_ROUNDOFF, gamma};
use flatmin_linalg::{Bisection, is_positive_definite, simd};

use super::perron::PerronOperator;

/// The largest ratio of the rounding error of a single quotient to that of the Rayleigh quotient.
/// Beyond it, another vector gives a narrower interval.
const MAX_ROUNDING_RATIO: f64 = 16.0;

/// Rigorous bounds on the Perron root of M at one μ.
#[derive(Debug)]
pub(super) struct Certificate {
    /// A lower bound of ρ: a Rayleigh quotient or the smallest Collatz–Wielandt quotient.
    pub(super) lower: f64,
    /// An upper bound of ρ: the largest Collatz–Wielandt quotient.
    pub(super) upper: f64,
    /// Relative bound on the rounding of the Rayleigh quotient.
    pub(super) rayleigh_rounding: f64,
    /// Relative bound on the rounding of the largest quotient.
    pub(super) quotient_rounding: f64,
    /// The part of the width that the [least offset](super::cone::Cone::least_offset) of the level
    /// causes.
    pub(super) least_offset: f64,
}

impl Certificate {
    /// True if the vector has entries so small that their quotients consist of rounding errors
    /// only. The vector of a higher level has larger entries.
    pub(super) fn is_lost_in_rounding(&self) -> bool {
        self.quotient_rounding > MAX_ROUNDING_RATIO * self.rayleigh_rounding
    }

    /// Relative bound on the width that rounding is expected to add to the interval.
    ///
    /// The rounding error of a single quotient counts only up to a multiple of the error of the
    /// Rayleigh quotient. For a vector that is not a supersolution it counts only up to that error
    /// itself. If it is larger, another vector gives a narrower interval.
    pub(super) fn unavoidable(&self, is_supersolution: bool) -> f64 {
        let ratio = if is_supersolution { MAX_ROUNDING_RATIO } else { 1.0 };
        let quotient = self.quotient_rounding.min(ratio * self.rayleigh_rounding);
        self.rayleigh_rounding + quotient + self.least_offset
    }
}

impl PerronOperator<'_> {
    /// Bounds on the Perron root at μ = pole + ν from a positive vector, rounding included. Leaves
    /// the moments of the vector in the operator.
    ///
    /// `None` when `vector` does not lie inside the cone.
    ///
    /// Rounding, for one output: with `σ_k² = Σ_i v_i ĝ_ik²`, the computed moments are within
    /// `γ σ_k σ_l` of the exact ones by Cauchy–Schwarz. So `(Mv)_i` is within
    /// `γ (P/n) Σ_kl |ĝ_ik| σ_k W_kl σ_l |ĝ_il|`, with the γ of all roundings that a term passes
    /// through. W is positive semidefinite, so that `W_kl ≤ √(W_kk W_ll)` makes that at most
    /// `γ (P/n) (Σ_k |ĝ_ik| σ_k W_kk^½)²`.
    pub(super) fn certify(&mut self, nu: f64, vector: &[f64]) -> Option<Certificate> {
        if !self.cone.contains(vector) {
            return None;
        }
        if !self.cone.is_orthant() {
            return Some(self.certify_blocks(nu, vector));
        }
        let (n, rank) = (self.rows.rows(), self.rows.columns());
        let modes = self.response.modes(nu);
        let forms = self.image_forms(&modes, vector);

        let extra = self.response.extra_roundings();
        let terms = rounding_terms(n) + quadratic_rounding_terms(rank) + 24 + extra;
        let gamma_terms = gamma(terms) * (1.0 + 1e-9);
        let factors: Vec<f64> = (0..rank)
            .map(|k| self.response.over_diagonal(&modes, k, self.moments[(k, k)]).sqrt())
            .collect();
        let (mut smallest, mut largest) = (f64::INFINITY, 0.0_f64);
        let mut quotient_error = 0.0_f64;
        let (mut product, mut hidden, mut norm_squared) = (0.0, 0.0, 0.0);
        for (i, weight) in vector.iter().enumerate() {
            let pairs = self.rows.row(i).iter().zip(&factors);
            let bound: f64 = pairs.map(|(value, factor)| value.abs() * factor).sum();
            let error = gamma_terms * self.scale() * bound * bound;
            let value = self.scale() * forms[i];
            smallest = smallest.min((value - error) / weight);
            largest = largest.max((value + error) / weight);
            quotient_error = quotient_error.max(error / weight);
            product += weight * value;
            hidden += weight * error;
            norm_squared += weight * weight;
        }
        let sums = gamma(n + 12);
        let rayleigh = (product - hidden) / norm_squared * (1.0 - sums);
        let rayleigh_rounding = hidden / product + sums + gamma(2 * rank + 64 + extra);
        let lower = smallest.max(rayleigh);
        Some(Certificate {
            lower: lower * (1.0 - gamma(8)),
            upper: largest * (1.0 + gamma(8)),
            rayleigh_rounding,
            quotient_rounding: quotient_error / largest,
            least_offset: 0.0,
        })
    }

    /// Like [`certify`](Self::certify), for several outputs.
    ///
    /// The upper bound is a level s, close to the least one, at which `s Q_i − Φ(Q)_i` is positive
    /// definite for every i. The lower bound is the Rayleigh quotient
    /// `Σ tr(Q_i Φ(Q)_i) / Σ ‖Q_i‖_F²`.
    ///
    /// Rounding: let `w_ia` be the rows of `Q_i Ĵ_i`, `q_ia = (Q_i)_aa^½`, so that
    /// `|Q_ab| ≤ q_a q_b`, and
    ///
    /// ```text
    /// η_k² = max(Σ_ia w_iak²/q_ia², Σ_ia q_ia² ĝ_iak²),    τ_k² = Σ_i (Σ_a q_ia |ĝ_iak|)².
    /// ```
    ///
    /// By Cauchy–Schwarz `Σ_ia |w_iak ĝ_ial| ≤ η_k η_l`, which bounds `|S_kl|` too. Rounding of the
    /// `w` moves S by at most `γ' τ_k τ_l`. Let `h_ia = Σ_k |ĝ_iak| η_k W_kk^½`, and h' the
    /// same sum with τ in place of η. With `W_kl ≤ √(W_kk W_ll)`,
    ///
    /// - the error of entry (a, b) of `Φ(Q)_i` is at most `(P/n) (γ h_ia h_ib + γ' h'_ia h'_ib)`,
    /// - its norm is at most `(P/n) (γ ‖h_i‖² + γ' ‖h'_i‖²)`,
    /// - the error of `tr(Q_i Φ(Q)_i)` is at most
    ///   `(P/n) (γ (Σ_a q_ia h_ia)² + γ' (Σ_a q_ia h'_ia)²)`.
    fn certify_blocks(&mut self, nu: f64, vector: &[f64]) -> Certificate {
        let (n, rank) = (self.rows.rows(), self.rows.columns());
        let (samples, outputs) = (self.cone.samples, self.cone.outputs);
        let modes = self.response.modes(nu);
        let forms = self.image_forms(&modes, vector);

        let blocks: Vec<Mat<f64>> = self.cone.blocks(vector).collect();
        let root = |row: usize| blocks[row / outputs][(row % outputs, row % outputs)].sqrt();
        let majorants = self.majorants(vector, root);
        let factors = majorants.map(|squares| -> Vec<f64> {
            (0..rank).map(|k| self.response.over_diagonal(&modes, k, squares[k]).sqrt()).collect()
        });
        let extra = self.response.extra_roundings();
        let terms = [rounding_terms(n) + quadratic_rounding_terms(rank) + 32 + extra, outputs + 8];
        let gammas = terms.map(|terms| gamma(terms) * (1.0 + 1e-9));
        let scale = self.scale();
        let sum_rounding = gamma(outputs * outputs + samples + 16);
        let (mut product, mut hidden, mut norm_squared) = (0.0, 0.0, 0.0);
        let mut images = Vec::with_capacity(samples);
        for (block, form) in blocks.iter().zip(forms.chunks(outputs * (outputs + 1) / 2)) {
            let i = images.len();
            let image = Mat::from_fn(outputs, outputs, |a, b| {
                let (row, column) = (a.max(b), a.min(b));
                scale * form[row * (row + 1) / 2 + column]
            });
            let (mut error, mut inner_error) = (0.0, 0.0);
            for (factors, gamma) in factors.iter().zip(gammas) {
                let (mut squares, mut weighted) = (0.0, 0.0);
                for row in i * outputs..(i + 1) * outputs {
                    let pairs = self.rows.row(row).iter().zip(factors);
                    let height: f64 = pairs.map(|(value, factor)| value.abs() * factor).sum();
                    squares += height * height;
                    weighted += root(row) * height;
                }
                error += gamma * scale * squares;
                inner_error += gamma * scale * weighted * weighted;
            }
            let inner: f64 = (0..outputs)
                .map(|a| (0..outputs).map(|b| block[(a, b)] * image[(a, b)]).sum::<f64>())
                .sum();
            product += inner;
            hidden += inner_error + sum_rounding * frobenius_norm(block) * frobenius_norm(&image);
            norm_squared += squared_norm(block);
            images.push((image, error));
        }
        let rayleigh = (product - hidden) / norm_squared * (1.0 - sum_rounding);
        let rayleigh_rounding = hidden / product + sum_rounding + gamma(2 * rank + 80 + extra);
        let base = product / norm_squared;
        let upper = least_level(base, |level| {
            let pairs = blocks.iter().zip(&images);
            pairs.into_iter().all(|(block, (image, error))| dominates(level, block, image, *error))
        });
        let plain = least_level(base, |level| {
            let pairs = blocks.iter().zip(&images);
            pairs.into_iter().all(|(block, (image, _))| dominates(level, block, image, 0.0))
        });
        Certificate {
            lower: rayleigh * (1.0 - gamma(8)),
            upper: upper * (1.0 + gamma(8)),
            rayleigh_rounding,
            quotient_rounding: if upper.is_finite() { 1.0 - plain / upper } else { 1.0 },
            least_offset: self.cone.least_offset(),
        }
    }
}

impl PerronOperator<'_> {
    /// The `η_k²` and `τ_k²` of [`certify_blocks`](Self::certify_blocks) for the tuple `vector`;
    /// `root` gives the q of a row.
    fn majorants(&self, vector: &[f64], root: impl Fn(usize) -> f64) -> [Vec<f64>; 2] {
        let rank = self.rows.columns();
        let all = self.weighted(vector);
        let mut weighted = vec![0.0; rank];
        let (mut left, mut right) = (vec![0.0; rank], vec![0.0; rank]);
        let (mut mixed, mut sums) = (vec![0.0; rank], vec![0.0; rank]);
        for row in 0..self.rows.rows() {
            let root = root(row);
            all.write(row, 0..rank, &mut weighted);
            for (k, (value, weighted)) in self.rows.row(row).iter().zip(&weighted).enumerate() {
                left[k] += (weighted / root).powi(2);
                right[k] += (root * value).powi(2);
                sums[k] += root * value.abs();
            }
            if (row + 1).is_multiple_of(self.cone.outputs) {
                for (square, sum) in mixed.iter_mut().zip(&mut sums) {
                    *square += *sum * *sum;
                    *sum = 0.0;
                }
            }
        }
        let larger = left.into_iter().zip(right).map(|(left, right)| left.max(right));
        [larger.collect(), mixed]
    }
}

/// `‖M‖_F²`, summed column by column.
fn squared_norm(matrix: &Mat<f64>) -> f64 {
    (0..matrix.ncols()).map(|j| simd::norm_squared(matrix.col_as_slice(j))).sum()
}

fn frobenius_norm(matrix: &Mat<f64>) -> f64 {
    squared_norm(matrix).sqrt()
}

/// True if `level · block − image` is positive definite for every image within `error` (in norm) of
/// the given one.
fn dominates(level: f64, block: &Mat<f64>, image: &Mat<f64>, error: f64) -> bool {
    let k = block.nrows();
    let difference = Mat::from_fn(k, k, |a, b| level * block[(a, b)] - image[(a, b)]);
    // Each entry is rounded twice.
    let rounded = 3.0 * UNIT_ROUNDOFF * (level * frobenius_norm(block) + frobenius_norm(image));
    is_positive_definite(difference.as_ref(), (error + rounded) * (1.0 + 1e-12))
}

/// A level at which `holds` is true, above the least such level by at most 3 % of its distance to
/// `base`. Infinite if `holds` is false even far above `base`.
fn least_level(base: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let level = |exponent: f64| base * (1.0 + libm::exp2(exponent));
    let (low, high) = (-52.0, 80.0);
    if !holds(level(high)) {
        return f64::INFINITY;
    }
    let search = Bisection::between(low, high).to_width(0.04);
    level(search.run(|exponent| !holds(level(exponent))).1)
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{Parallelism, RowMatrix};

    use super::super::perron::PerronOperator;
    use super::super::response::Response;
    use crate::{Noise, Optimizer};

    /// With one mode and λ = μ = p = 1, `M_ij = g_i² g_j²/n` has the root `Σ g⁴/n`. Each panel of
    /// small terms sums to less than half a unit in the last place of the first term, which is 1;
    /// all panels together sum to 16 units.
    #[test]
    fn what_sums_lose_is_in_the_bounds() {
        let samples = 4096;
        let gradient = |i: usize| if i == 0 { 1.0 } else { 2.0_f64.powi(-15) };
        let check = |outputs: usize| {
            // The second output is zero; its part of the block adds little to the margin.
            let rows = RowMatrix::from_fn(samples * outputs, 1, |row, _| {
                if row % outputs == 0 { gradient(row / outputs) } else { 0.0 }
            });
            let vector: Vec<f64> = (0..samples)
                .flat_map(|i| {
                    let square = gradient(i) * gradient(i);
                    if outputs == 1 { vec![square] } else { vec![square, 0.0, square / 64.0] }
                })
                .collect();
            let noise = Noise { coefficient: 1.0, mean_deficit: 1.0 };
            let response = Response::new(&[1.0], noise, &Optimizer::sgd());
            let mut operator =
                PerronOperator::new(response, &rows, outputs, Parallelism::Sequential);
            let found = operator.certify(1.0, &vector).unwrap();
            let root = |units: f64| (1.0 + units * f64::EPSILON) / samples as f64;
            assert!(found.upper >= root(16.0), "{outputs}: {found:?}, {:e}", root(16.0));
            assert!(found.lower <= root(15.0), "{outputs}: {found:?}, {:e}", root(15.0));
        };
        check(1);
        check(2);
    }
}
