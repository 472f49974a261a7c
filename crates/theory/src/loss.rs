//! Losses other than the squared one, as Hessians in the outputs of the network (S17).
//!
//! For a loss `(1/n) Σ ℓ_i(f(x_i; θ))` with convex `ℓ_i`, every statement about `(1/2n) Σ ‖f − y‖²`
//! holds with `R_iᵀJ_i` in place of the Jacobian `J_i` of sample i, where `∇²ℓ_i = R_i R_iᵀ`. It is
//! exact where every `∇ℓ_i` vanishes, as at an interpolating minimum of cross-entropy with soft
//! labels. Elsewhere it is the Gauss–Newton model of the loss, at a point where the mean gradient
//! vanishes.

use faer::{Mat, MatRef};
use flatmin_linalg::{RowMatrix, symmetric_eigen};

use crate::LossError;

/// The Hessians `S_i = ∇²ℓ_i` of a loss in the k outputs of each of n samples (S17).
///
/// ```
/// use flatmin_linalg::RowMatrix;
/// use flatmin_theory::{Batch, Minimum, Optimizer, OutputHessians, Sampling, threshold};
/// // One parameter moves the two logits of one sample apart; the labels are the probabilities ½, ½.
/// let jacobian = RowMatrix::new(2, 1, vec![1.0, -1.0])?;
/// let loss = OutputHessians::softmax(&RowMatrix::new(1, 2, vec![0.0, 0.0])?)?;
/// let minimum = Minimum::with_loss(&jacobian, &loss)?;
/// // The curvature is jᵀ(diag π − ππᵀ)j = 1.
/// let batch = Batch::new(1, Sampling::WithReplacement)?;
/// let threshold = threshold(&minimum, &Optimizer::sgd(), &batch)?;
/// assert!((threshold.midpoint() - 2.0).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct OutputHessians {
    outputs: usize,
    factors: Factors,
}

#[derive(Debug, Clone)]
enum Factors {
    /// The probabilities `π_i` of softmax, nk of them: `S_i = diag(π_i) − π_i π_iᵀ`.
    Probabilities(Vec<f64>),
    /// The `S_i^½` of one output.
    Roots(Vec<f64>),
    Matrices(Vec<Root>),
}

/// A root of `S = DCD`, where `C = VΛVᵀ` has a diagonal of ones.
///
/// The small entries of S keep their relative accuracy, which an eigendecomposition of S itself
/// would lose to the large ones.
#[derive(Debug, Clone)]
struct Root {
    /// `Rᵀ = Λ^½VᵀD`, k × k.
    transposed: Mat<f64>,
    /// `Λ^-½VᵀD⁻¹` with zeros where Λ or D is zero: it maps `Rc` to c.
    inverse: Mat<f64>,
}

impl OutputHessians {
    /// The largest negative eigenvalue and the largest asymmetry of an `S_i` that are accepted as
    /// rounding, relative to the largest entry of all of them.
    pub const TOLERANCE: f64 = 1e-6;

    /// Softmax cross-entropy at the given logits, n × k: `S_i = diag(π_i) − π_i π_iᵀ` with
    /// `π_i = softmax(z_i)`, whatever the labels and their smoothing.
    ///
    /// # Errors
    /// [`LossError::NotFinite`] for a logit that is not finite; [`LossError::OneClass`] for k < 2.
    pub fn softmax(logits: &RowMatrix) -> Result<Self, LossError> {
        let outputs = logits.columns();
        if outputs < 2 {
            return Err(LossError::OneClass { outputs });
        }
        check_finite(logits, "logit")?;
        let probabilities = (0..logits.rows()).flat_map(|i| softmax(logits.row(i))).collect();
        Ok(Self { outputs, factors: Factors::Probabilities(probabilities) })
    }

    /// Binary cross-entropy at the given logits, one for each sample: `S_i = π_i(1 − π_i)` with the
    /// logistic function π.
    ///
    /// # Errors
    /// [`LossError::NotFinite`] for a logit that is not finite.
    pub fn logistic(logits: &[f64]) -> Result<Self, LossError> {
        if let Some((sample, &value)) = logits.iter().enumerate().find(|(_, z)| !z.is_finite()) {
            return Err(LossError::NotFinite { what: "logit", sample, output: 0, value });
        }
        // √(π(1 − π)) = 1/(e^{z/2} + e^{−z/2}).
        let root = |z: &f64| 1.0 / (libm::exp(0.5 * z) + libm::exp(-0.5 * z));
        Ok(Self { outputs: 1, factors: Factors::Roots(logits.iter().map(root).collect()) })
    }

    /// Any convex loss, by its Hessians: n blocks of k × k numbers.
    ///
    /// # Errors
    /// [`LossError::Shape`] unless there are nk² numbers; [`LossError::NotFinite`],
    /// [`LossError::NotSymmetric`] and [`LossError::NotSemidefinite`] with the sample.
    pub fn new(values: &[f64], outputs: usize) -> Result<Self, LossError> {
        let size = outputs * outputs;
        if size == 0 || values.is_empty() || !values.len().is_multiple_of(size) {
            return Err(LossError::Shape { values: values.len(), outputs });
        }
        let blocks = values.chunks(size).enumerate();
        let rounding = Self::TOLERANCE * values.iter().fold(0.0_f64, |m, value| m.max(value.abs()));
        let root = |(sample, block)| root_of(sample, block, outputs, rounding);
        let factors: Result<Vec<_>, _> = blocks.map(root).collect();
        Ok(Self { outputs, factors: Factors::Matrices(factors?) })
    }

    /// The number n of samples.
    pub fn sample_count(&self) -> usize {
        match &self.factors {
            Factors::Probabilities(values) => values.len() / self.outputs,
            Factors::Roots(values) => values.len(),
            Factors::Matrices(values) => values.len(),
        }
    }

    /// The number k of outputs.
    pub fn output_count(&self) -> usize {
        self.outputs
    }

    /// The rows `R_iᵀJ_i` of a Jacobian, or of a block of its columns: nk × any number.
    ///
    /// # Errors
    /// [`LossError::Rows`] unless there are nk rows.
    pub fn weigh(&self, jacobian: MatRef<'_, f64>) -> Result<Mat<f64>, LossError> {
        let (k, expected) = (self.outputs, self.sample_count() * self.outputs);
        let got = jacobian.nrows();
        if got != expected {
            return Err(LossError::Rows { got, samples: self.sample_count(), outputs: k });
        }
        let mut weighted = Mat::zeros(expected, jacobian.ncols());
        for j in 0..jacobian.ncols() {
            let (column, out) = (jacobian.col(j), weighted.col_as_slice_mut(j));
            for (i, out) in out.chunks_mut(k).enumerate() {
                for (a, out) in out.iter_mut().enumerate() {
                    let entry = |b: usize| column[i * k + b];
                    *out = match &self.factors {
                        Factors::Roots(roots) => roots[i] * entry(a),
                        // A sum of differences, so that nothing cancels where π is close to 0 or 1.
                        Factors::Probabilities(values) => {
                            let values = &values[i * k..][..k];
                            let differences = values.iter().enumerate();
                            let mean: f64 =
                                differences.map(|(b, p)| p * (entry(a) - entry(b))).sum();
                            values[a].sqrt() * mean
                        }
                        Factors::Matrices(factors) => {
                            (0..k).map(|b| factors[i].transposed[(a, b)] * entry(b)).sum()
                        }
                    };
                }
            }
        }
        Ok(weighted)
    }

    /// The vectors `R_iu_i` of some columns, nk × any number: the transpose of [`weigh`](Self::weigh).
    ///
    /// # Errors
    /// [`LossError::Rows`] unless there are nk rows.
    pub fn weigh_transposed(&self, columns: MatRef<'_, f64>) -> Result<Mat<f64>, LossError> {
        let (k, samples, got) = (self.outputs, self.sample_count(), columns.nrows());
        if got != samples * k {
            return Err(LossError::Rows { got, samples, outputs: k });
        }
        let mut weighted = Mat::zeros(got, columns.ncols());
        for j in 0..columns.ncols() {
            let (column, out) = (columns.col(j), weighted.col_as_slice_mut(j));
            for (i, out) in out.chunks_mut(k).enumerate() {
                let entry = |b: usize| column[i * k + b];
                match &self.factors {
                    Factors::Roots(roots) => out[0] = roots[i] * entry(0),
                    Factors::Probabilities(values) => {
                        let values = &values[i * k..][..k];
                        let roots = values.iter().enumerate().map(|(b, p)| p.sqrt() * entry(b));
                        let sum: f64 = roots.sum();
                        for (a, out) in out.iter_mut().enumerate() {
                            *out = values[a].sqrt() * entry(a) - values[a] * sum;
                        }
                    }
                    Factors::Matrices(factors) => {
                        for (a, out) in out.iter_mut().enumerate() {
                            *out = (0..k).map(|b| factors[i].transposed[(b, a)] * entry(b)).sum();
                        }
                    }
                }
            }
        }
        Ok(weighted)
    }

    /// The residuals of the weighted rows: the `R_i⁺∇ℓ_i` for the derivatives `∇ℓ_i` of the loss in
    /// the outputs, nk of them. Then `J_iᵀ∇ℓ_i` is `(R_iᵀJ_i)ᵀ` times them, for every `∇ℓ_i` in the
    /// range of `S_i`.
    ///
    /// # Errors
    /// [`LossError::Rows`] unless there are nk derivatives.
    pub fn weigh_residuals(&self, derivatives: &[f64]) -> Result<Vec<f64>, LossError> {
        let (k, samples) = (self.outputs, self.sample_count());
        if derivatives.len() != samples * k {
            return Err(LossError::Rows { got: derivatives.len(), samples, outputs: k });
        }
        let over = |value: f64, root: f64| if root > 0.0 { value / root } else { 0.0 };
        let residual = |at: usize| {
            let (i, a) = (at / k, at % k);
            match &self.factors {
                Factors::Roots(roots) => over(derivatives[i], roots[i]),
                Factors::Probabilities(values) => over(derivatives[at], values[at].sqrt()),
                Factors::Matrices(factors) => {
                    (0..k).map(|b| factors[i].inverse[(a, b)] * derivatives[i * k + b]).sum()
                }
            }
        };
        Ok((0..derivatives.len()).map(residual).collect())
    }

    /// The Gram matrix of the weighted rows, from `JJᵀ` or `JJᵀ/n` (nk × nk).
    ///
    /// # Errors
    /// As [`weigh`](Self::weigh).
    pub fn weigh_gram(&self, gram: MatRef<'_, f64>) -> Result<Mat<f64>, LossError> {
        let half = self.weigh(gram)?;
        self.weigh(half.transpose())
    }
}

/// `softmax(z)`.
fn softmax(logits: &[f64]) -> impl Iterator<Item = f64> {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |m, z| m.max(*z));
    let exponentials: Vec<f64> = logits.iter().map(|z| libm::exp(z - largest)).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(move |value| value / sum)
}

fn check_finite(matrix: &RowMatrix, what: &'static str) -> Result<(), LossError> {
    for sample in 0..matrix.rows() {
        let row = matrix.row(sample).iter().enumerate();
        if let Some((output, &value)) = row.into_iter().find(|(_, value)| !value.is_finite()) {
            return Err(LossError::NotFinite { what, sample, output, value });
        }
    }
    Ok(())
}

/// The root of a Hessian of k × k numbers.
fn root_of(sample: usize, block: &[f64], k: usize, rounding: f64) -> Result<Root, LossError> {
    let entry = |a: usize, b: usize| block[a * k + b];
    if let Some((at, &value)) = block.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        return Err(LossError::NotFinite { what: "output Hessian", sample, output: at / k, value });
    }
    for a in 0..k {
        for b in 0..a {
            let (value, mirrored) = (entry(a, b), entry(b, a));
            if (value - mirrored).abs() > rounding {
                return Err(LossError::NotSymmetric { sample, row: a, column: b, value, mirrored });
            }
        }
    }
    let matrix = Mat::from_fn(k, k, |a, b| 0.5 * entry(a, b) + 0.5 * entry(b, a));
    let eigen = symmetric_eigen(matrix.as_ref())?;
    let (smallest, lambda_max) = (eigen.values[0], eigen.values[k - 1]);
    if smallest < -rounding {
        return Err(LossError::NotSemidefinite { sample, eigenvalue: smallest, lambda_max });
    }
    let scale: Vec<f64> = (0..k).map(|a| matrix[(a, a)].max(0.0).sqrt()).collect();
    let over = |value: f64, by: f64| if by > 0.0 { value / by } else { 0.0 };
    let scaled = Mat::from_fn(k, k, |a, b| over(over(matrix[(a, b)], scale[a]), scale[b]));
    let eigen = symmetric_eigen(scaled.as_ref())?;
    let root = |a: usize| eigen.values[a].max(0.0).sqrt();
    Ok(Root {
        transposed: Mat::from_fn(k, k, |a, b| root(a) * eigen.vectors[(b, a)] * scale[b]),
        inverse: Mat::from_fn(k, k, |a, b| over(over(eigen.vectors[(b, a)], root(a)), scale[b])),
    })
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use flatmin_linalg::{RowMatrix, product};

    use super::OutputHessians;
    use crate::LossError;

    /// `Σ_i J_iᵀ S_i J_i` of weighted rows.
    fn curvature(loss: &OutputHessians, jacobian: &Mat<f64>) -> Mat<f64> {
        let weighted = loss.weigh(jacobian.as_ref()).unwrap();
        product(weighted.transpose(), weighted.as_ref())
    }

    #[test]
    fn weighted_rows_have_the_curvature_of_the_loss() {
        let logits = RowMatrix::new(2, 3, vec![0.3, -1.0, 2.0, 0.0, 40.0, -5.0]).unwrap();
        let jacobian = Mat::from_fn(6, 2, |i, j| ((3 * i + 5 * j + i * j) % 7) as f64 - 3.0);
        let softmax = OutputHessians::softmax(&logits).unwrap();
        // The same Hessians, as numbers.
        let mut values = Vec::new();
        for i in 0..2 {
            let row = logits.row(i);
            let sum: f64 = row.iter().map(|z| libm::exp(*z)).sum();
            let pi: Vec<f64> = row.iter().map(|z| libm::exp(*z) / sum).collect();
            for a in 0..3 {
                values.extend((0..3).map(|b| if a == b { pi[a] } else { 0.0 } - pi[a] * pi[b]));
            }
        }
        let custom = OutputHessians::new(&values, 3).unwrap();
        let (found, expected) = (curvature(&softmax, &jacobian), curvature(&custom, &jacobian));
        for i in 0..2 {
            for j in 0..2 {
                let error = (found[(i, j)] - expected[(i, j)]).abs();
                assert!(error < 1e-13 * expected[(0, 0)], "{found:?} {expected:?}");
            }
        }
        let gram = product(jacobian.as_ref(), jacobian.transpose());
        let weighted = softmax.weigh_gram(gram.as_ref()).unwrap();
        let rows = softmax.weigh(jacobian.as_ref()).unwrap();
        let direct = product(rows.as_ref(), rows.transpose());
        let error = Mat::from_fn(6, 6, |i, j| weighted[(i, j)] - direct[(i, j)]).norm_l2();
        assert!(error < 1e-13 * direct.norm_l2(), "{error}");
    }

    #[test]
    fn weights_and_their_transpose_are_adjoint() {
        let logits = RowMatrix::new(2, 3, vec![0.3, -1.0, 2.0, 0.0, 40.0, -5.0]).unwrap();
        let hessian = [2.0, 1.0, 0.0, 1.0, 3.0, 0.5, 0.0, 0.5, 1.0];
        let custom = OutputHessians::new(&[hessian, hessian].concat(), 3).unwrap();
        let [v, u] =
            [3, 5].map(|salt| Mat::from_fn(6, 1, |i, _| ((salt * i + 1) % 7) as f64 - 3.0));
        for loss in [OutputHessians::softmax(&logits).unwrap(), custom] {
            let weighed = loss.weigh(v.as_ref()).unwrap();
            let transposed = loss.weigh_transposed(u.as_ref()).unwrap();
            let dot =
                |a: &Mat<f64>, b: &Mat<f64>| (0..6).map(|i| a[(i, 0)] * b[(i, 0)]).sum::<f64>();
            let difference = dot(&u, &weighed) - dot(&transposed, &v);
            assert!(difference.abs() < 1e-13, "{difference}");
            assert!(loss.weigh_transposed(u.as_ref().subrows(0, 3)).is_err());
        }
    }

    #[test]
    fn weighted_residuals_have_the_gradient_of_the_loss() {
        let logits = RowMatrix::new(1, 3, vec![0.3, -1.0, 2.0]).unwrap();
        let jacobian = Mat::from_fn(3, 2, |i, j| (1 + i + 2 * i * j) as f64);
        // The derivatives of cross-entropy sum to zero.
        let derivatives = [0.2, -0.5, 0.3];
        let softmax = OutputHessians::softmax(&logits).unwrap();
        let pi: Vec<f64> = {
            let row: Vec<f64> = logits.row(0).iter().map(|z| libm::exp(*z)).collect();
            row.iter().map(|value| value / row.iter().sum::<f64>()).collect()
        };
        let hessian: Vec<f64> = (0..9)
            .map(|at| if at / 3 == at % 3 { pi[at / 3] } else { 0.0 } - pi[at / 3] * pi[at % 3])
            .collect();
        for loss in [softmax, OutputHessians::new(&hessian, 3).unwrap()] {
            let rows = loss.weigh(jacobian.as_ref()).unwrap();
            let residuals = loss.weigh_residuals(&derivatives).unwrap();
            for j in 0..2 {
                let found: f64 = (0..3).map(|a| rows[(a, j)] * residuals[a]).sum();
                let expected: f64 = (0..3).map(|a| jacobian[(a, j)] * derivatives[a]).sum();
                assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
            }
            assert!(loss.weigh_residuals(&derivatives[..2]).is_err());
        }
    }

    #[test]
    fn small_entries_of_a_hessian_keep_their_accuracy() {
        // S = rrᵀ with r = (1, 1e-5): a Jacobian that moves the second output alone sees 1e-10.
        let loss = OutputHessians::new(&[1.0, 1e-5, 1e-5, 1e-10], 2).unwrap();
        let rows = loss.weigh(Mat::from_fn(2, 1, |a, _| a as f64).as_ref()).unwrap();
        let square = rows[(0, 0)] * rows[(0, 0)] + rows[(1, 0)] * rows[(1, 0)];
        assert!((square / 1e-10 - 1.0).abs() < 1e-15, "{square:e}");
        let residuals = loss.weigh_residuals(&[3.0, 3e-5]).unwrap();
        let gradient = [0, 1].map(|b| {
            let rows = loss.weigh(Mat::from_fn(2, 1, |a, _| f64::from(a == b)).as_ref()).unwrap();
            rows[(0, 0)] * residuals[0] + rows[(1, 0)] * residuals[1]
        });
        assert!((gradient[0] - 3.0).abs() < 1e-14, "{gradient:?}");
        assert!((gradient[1] - 3e-5).abs() < 1e-19, "{gradient:?}");
    }

    #[test]
    fn a_logistic_loss_is_half_a_softmax() {
        let loss = OutputHessians::logistic(&[0.0, 3.0, -800.0]).unwrap();
        let rows = loss.weigh(Mat::from_fn(3, 1, |_, _| 1.0).as_ref()).unwrap();
        let pi = 1.0 / (1.0 + libm::exp(-3.0));
        assert!((rows[(0, 0)] - 0.5).abs() < 1e-16);
        assert!((rows[(1, 0)] - (pi * (1.0 - pi)).sqrt()).abs() < 1e-15);
        assert!(rows[(2, 0)] > 0.0 && rows[(2, 0)] < 1e-170);
    }

    #[test]
    fn hessians_that_are_none_are_refused_by_their_sample() {
        let good = [1.0, 0.0, 0.0, 1.0];
        let with = |bad: [f64; 4]| OutputHessians::new(&[good, bad].concat(), 2).unwrap_err();
        let error = with([1.0, 0.5, 0.4, 1.0]);
        assert!(matches!(error, LossError::NotSymmetric { sample: 1, .. }), "{error}");
        let error = with([1.0, 2.0, 2.0, 1.0]);
        assert!(matches!(error, LossError::NotSemidefinite { sample: 1, .. }), "{error}");
        assert!(error.to_string().contains("the eigenvalue -"), "{error}");
        let error = with([1.0, 2.0, f64::NAN, 1.0]);
        assert!(matches!(error, LossError::NotFinite { sample: 1, output: 1, .. }), "{error}");
        assert!(
            OutputHessians::new(&good[..3], 2).is_err() && OutputHessians::new(&[], 2).is_err()
        );
        let logits = RowMatrix::new(2, 2, vec![0.0, 1.0, f64::INFINITY, 0.0]).unwrap();
        let error = OutputHessians::softmax(&logits).unwrap_err();
        assert!(matches!(error, LossError::NotFinite { sample: 1, output: 0, .. }), "{error}");
        assert!(OutputHessians::softmax(&RowMatrix::zeros(3, 1)).is_err());
        let loss = OutputHessians::logistic(&[0.0; 3]).unwrap();
        assert!(loss.weigh(Mat::<f64>::zeros(4, 2).as_ref()).is_err());
    }
}
