//! The exact mean-square stability threshold, with a certificate (S8–S10, S12–S14).
//!
//! The threshold is `η* = 2/μ*`, where `μ*` is the μ at which the Perron root of the nonnegative
//! n × n matrix `M(μ)` of S9 is 1. M is never formed: a product with it costs two n × r × r products.
//!
//! 1. Lanczos from a positive vector b finds the Perron root; for p < 1 the μ is moved to the root of
//!    the Rayleigh quotient in μ, which converges quadratically, until the root is 1.
//! 2. The vector `v = (s − M)⁻¹ b`, s just above the root, is positive and satisfies `Mv = sv − b ≤ sv`
//!    in every entry, also where M is reducible or nearly so and its Perron vector vanishes. It lies
//!    in the same Krylov space.
//! 3. One product with v gives both ends: the largest Collatz–Wielandt quotient and the Rayleigh
//!    quotient, with rigorous bounds on their rounding.
//! 4. Where the requested width allows it, the smallest eigenvalues are left out, and a proved bound on what they
//!    would add widens the interval.
//! 5. What the eigendecomposition itself is off by is carried to the threshold by two perturbation
//!    bounds (see [`Threshold`]).
//!
//! With k outputs M becomes the map Φ of S13 on n-tuples of symmetric k × k matrices, "positive" becomes
//! "every block positive definite", and a quotient the level s at which `s Q − Φ(Q)` is so. Nothing else
//! changes: the search knows vectors, a product and a cone.

mod certificate;
mod cone;
mod perron;
mod response;
mod search;
mod truncation;

use faer::Mat;
use flatmin_linalg::{Parallelism, RowMatrix};

use self::perron::Operator;
use self::response::Response;
use self::truncation::Kept;
use crate::minimum::rounding;
use crate::{Batch, Minimum, Optimizer, TheoryError, ToMinimum};

/// How exact a threshold is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThresholdOptions {
    /// Relative width of the interval at which the iteration stops. From 512 rows on a twentieth of it may be what
    /// the smallest eigenvalues would add, which are then left out. What rounding adds comes on top: nothing is
    /// gained by less than 1e-14.
    pub relative_width: f64,
    /// Whether the products may use several cores. The result is the same to the bit.
    pub parallelism: Parallelism,
    /// Most products with M.
    pub max_products: usize,
}

impl Default for ThresholdOptions {
    /// A relative width of 1e-10, one core, at most 2000 products.
    fn default() -> Self {
        Self { relative_width: 1e-10, parallelism: Parallelism::Sequential, max_products: 2000 }
    }
}

/// An interval that contains the largest mean-square stable learning rate η*.
///
/// **What it guarantees.** For SGD without momentum the interval contains the η* of the real numbers
/// that the given floating-point numbers are: every rounding on the way is bounded, under the standard
/// model of floating-point arithmetic (no overflow; underflow below 1e-80 relative is neglected) and
/// however the products underneath order their sums. Three parts make its width: the requested one, with
/// what the smallest eigenvalues would add where it allows to leave them out;
/// the rounding of the last product; and the error of the eigendecomposition, by the two facts that
/// μ* = 2/η* is at most `(1+ω)²/(1−ω)` times its value for rows whose Gauss–Newton matrix is within a
/// factor `1±ω` of the diagonal one used, and that μ* moves by at most `(4 + 4pn) ‖ΔK‖₂` (`2n ‖ΔK‖₂`
/// for p = 1) when the Gram matrix K moves by ΔK. Both are proved in the docs. At n = 300 the rounding
/// parts are about 1e-11, at n = 2000 about 1e-10.
///
/// **With several outputs** all of this holds, with the same constants: n is the number of samples, K the
/// nk × nk Gram matrix. The vector of the certificate is a tuple of positive definite matrices, and that its
/// image stays below a multiple of it is checked by Cholesky decompositions that leave room for every
/// rounding, their own included.
///
/// **With momentum** the last part is a first-order estimate, doubled, instead of a proof.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Every learning rate up to this one is mean-square stable. Infinite when `G = 0`.
    pub lower: f64,
    /// Every learning rate above this one is unstable. Infinite when `G = 0`.
    pub upper: f64,
    /// Products with M used.
    pub iterations: usize,
    /// How the iteration ended.
    pub status: ThresholdStatus,
}

/// How the iteration for a threshold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThresholdStatus {
    /// The interval is as narrow as asked for, but for rounding.
    Converged,
    /// The budget of products, or eight attempts, ran out first: the interval is valid and wider than
    /// asked for.
    NotConverged,
}

/// What an interval says about a learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// At most the lower end.
    Stable,
    /// Above the upper end.
    Unstable,
    /// Inside the interval.
    Undecided,
}

impl Threshold {
    /// The middle of the interval.
    pub fn midpoint(&self) -> f64 {
        if self.lower.is_infinite() { self.lower } else { f64::midpoint(self.lower, self.upper) }
    }

    /// `(upper − lower)/upper`; 0 where both are infinite.
    pub fn relative_width(&self) -> f64 {
        match (self.lower.is_infinite(), self.upper.is_infinite()) {
            (true, _) => 0.0,
            (false, true) => 1.0,
            (false, false) => 1.0 - self.lower / self.upper,
        }
    }

    /// The threshold for `loss_scale` times the loss: divided by it, outward where that rounds.
    #[must_use]
    pub fn for_loss_scale(self, loss_scale: f64) -> Self {
        if loss_scale.to_bits() == 1.0_f64.to_bits() {
            return self;
        }
        let lower = match self.lower / loss_scale {
            lower if self.lower.is_infinite() => lower,
            lower => lower.next_down().clamp(0.0, f64::MAX),
        };
        Self { lower, upper: (self.upper / loss_scale).next_up(), ..self }
    }

    /// Whether SGD with this learning rate is mean-square stable.
    pub fn stability(&self, learning_rate: f64) -> Stability {
        if learning_rate <= self.lower {
            Stability::Stable
        } else if learning_rate > self.upper {
            Stability::Unstable
        } else {
            Stability::Undecided
        }
    }
}

/// The largest learning rate at which `optimizer` is mean-square stable, at a minimum given as a [`Minimum`], a Jacobian or a
/// [`Gram`](crate::Gram) matrix, to 1e-10 where rounding allows (S8–S10).
///
/// Costs O(n²p + n³) for the eigendecomposition, which a [`Minimum`] keeps, and for a network about 20 products
/// of 2nr² operations for batches of one, two to three times as many for larger ones. Closely spaced
/// blocks of nearly the same strength cost ten times more. With k outputs n is to be read as nk.
///
/// ```
/// use flatmin_linalg::RowMatrix;
/// use flatmin_theory::{Batch, Optimizer, Sampling, Stability, threshold};
/// // Two samples with gradients (1, 0) and (0, 2), one at a time: η* = 2/max ‖g_i‖².
/// let jacobian = RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 2.0])?;
/// let batch = Batch::new(1, Sampling::WithReplacement)?;
/// let threshold = threshold(&jacobian, &Optimizer::sgd(), &batch)?;
/// assert!(threshold.lower <= 0.5 && 0.5 <= threshold.upper);
/// assert!(threshold.relative_width() < 2e-10);
/// assert_eq!(threshold.stability(0.51), Stability::Unstable);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`Batch::noise_coefficient`] and [`ToMinimum::to_minimum`]; [`TheoryError::Optimizer`] for an
/// optimizer other than SGD with or without heavy-ball momentum.
pub fn threshold<M>(
    minimum: &M,
    optimizer: &Optimizer,
    batch: &Batch,
) -> Result<Threshold, TheoryError>
where
    M: ToMinimum + ?Sized,
{
    threshold_with(minimum, optimizer, batch, &ThresholdOptions::default())
}

/// As [`threshold`], with options.
///
/// # Errors
/// As [`threshold`]; [`TheoryError::RelativeWidth`] for a width that is not a positive number.
pub fn threshold_with<M>(
    minimum: &M,
    optimizer: &Optimizer,
    batch: &Batch,
    options: &ThresholdOptions,
) -> Result<Threshold, TheoryError>
where
    M: ToMinimum + ?Sized,
{
    let minimum = minimum.to_minimum()?;
    Ok(solve(&minimum, optimizer, batch, options)?.0)
}

/// The Lyapunov function `V(δ) = δᵀ Y* δ` of S14, sharp for η*.
///
/// For every start δ and learning rate η the expected change over one step of linearised SGD is
/// `−η(η* − η) δᵀD(Y*)δ`, with D of S8: V is a supermartingale exactly up to the threshold.
#[derive(Debug, Clone)]
pub struct LyapunovFunction {
    /// The threshold η*.
    pub threshold: Threshold,
    /// `Y*`, r × r and positive semidefinite, in the eigenbasis of `G` with eigenvalues ascending,
    /// as in [`Minimum::eigenvalues`]; its largest entry is 1.
    pub matrix: RowMatrix,
}

/// The Lyapunov function of a minimum for plain SGD, `Y* = W(2/η*) ∘ (ĝᵀ diag(v) ĝ)` with the Perron vector v (S14); with
/// several outputs `W(2/η*) ∘ Σ_j Ĵ_jᵀQ_jĴ_j` with the Perron tuple Q.
///
/// Without curvature, and for gradient descent (p = 0), where the noise has no Perron vector, the
/// matrix is that of the top mode alone.
///
/// # Errors
/// As [`threshold_with`].
pub fn lyapunov_function(
    minimum: &Minimum,
    batch: &Batch,
    options: &ThresholdOptions,
) -> Result<LyapunovFunction, TheoryError> {
    // The error of the vector is about the square root of that of the threshold.
    let wanted = options.relative_width;
    let relative_width = if wanted > 1e-13 { 1e-13 } else { wanted };
    let options = ThresholdOptions { relative_width, ..*options };
    let (threshold, bracket) = solve(minimum, &Optimizer::sgd(), batch, &options)?;
    let (_, eigenvalues, rows) = minimum.scaled();
    let rank = eigenvalues.len();
    let matrix = match bracket {
        Some(bracket) if !bracket.weights.is_empty() => {
            let p = batch.noise_coefficient(minimum.sample_count())?;
            let response = Response::new(eigenvalues, p, 0.0);
            let outputs = minimum.output_count();
            let operator = Operator::new(response, rows, outputs, options.parallelism);
            operator.response_matrix(bracket.nu, &bracket.weights)
        }
        _ => Mat::from_fn(rank, rank, |k, l| if k == rank - 1 && l == k { 1.0 } else { 0.0 }),
    };
    let largest = (0..rank).fold(0.0_f64, |m, k| m.max(matrix[(k, k)]));
    let matrix = RowMatrix::from_fn(rank, rank, |k, l| matrix[(k, l)] / largest);
    Ok(LyapunovFunction { threshold, matrix })
}

/// An interval for μ* = pole + ν* of the stored rows and eigenvalues.
struct Bracket {
    lower: f64,
    upper: f64,
    products: usize,
    converged: bool,
    /// The ν and the vector v that attain the lower end.
    nu: f64,
    weights: Vec<f64>,
}

fn solve(
    minimum: &Minimum,
    optimizer: &Optimizer,
    batch: &Batch,
    options: &ThresholdOptions,
) -> Result<(Threshold, Option<Bracket>), TheoryError> {
    let n = minimum.sample_count();
    let p = batch.noise_coefficient(n)?;
    let momentum = optimizer.heavy_ball("the threshold")?;
    let &ThresholdOptions { relative_width, parallelism, .. } = options;
    if !(relative_width > 0.0 && relative_width.is_finite()) {
        return Err(TheoryError::RelativeWidth { value: relative_width });
    }
    let (exponent, eigenvalues, _) = minimum.scaled();
    if eigenvalues.is_empty() {
        let (lower, upper) = (f64::INFINITY, f64::INFINITY);
        let status = ThresholdStatus::Converged;
        let threshold = Threshold { lower, upper, iterations: 0, status };
        return Ok((threshold, None));
    }
    let kept = Kept::affordable(minimum, &Response::new(eigenvalues, p, momentum), options);
    let response = Response::new(kept.eigenvalues, p, momentum);
    let mut operator = Operator::new(response, &kept.rows, minimum.output_count(), parallelism);
    let mut bracket = if p > 0.0 {
        search::bracket(&mut operator, &kept.options(options))?
    } else {
        gradient_descent(&response)
    };
    kept.widen(&mut bracket, &response);
    let error = decomposition_error(minimum, operator, p, &bracket);
    let lower = bracket.lower - error.below;
    let upper = bracket.upper + error.above;
    let status =
        if bracket.converged { ThresholdStatus::Converged } else { ThresholdStatus::NotConverged };
    // Outward once more: these quotients are rounded, and may leave the range of normal numbers.
    let learning_rate = |mu: f64| libm::scalbn(2.0 / mu, -2 * exponent);
    let threshold = Threshold {
        lower: (learning_rate(upper) * (1.0 - rounding(4))).next_down().clamp(0.0, f64::MAX),
        upper: if lower > 0.0 {
            (learning_rate(lower) * (1.0 + rounding(4))).next_up()
        } else {
            f64::INFINITY
        },
        iterations: bracket.products,
        status,
    };
    Ok((threshold, Some(bracket)))
}

/// Without noise only the top mode matters: `μ* = κ λ_max`, that is `η* = 2(1+β)/λ_max`.
fn gradient_descent(response: &Response<'_>) -> Bracket {
    let mu = response.pole();
    let (lower, upper) = (mu * (1.0 - rounding(8)), mu * (1.0 + rounding(8)));
    Bracket { lower, upper, products: 0, converged: true, nu: 0.0, weights: Vec::new() }
}

/// How far μ* may lie outside a bracket that was found for the stored rows.
struct DecompositionError {
    below: f64,
    above: f64,
}

fn decomposition_error(
    minimum: &Minimum,
    operator: Operator<'_>,
    p: f64,
    bracket: &Bracket,
) -> DecompositionError {
    let accuracy = minimum.accuracy();
    let omega = accuracy.orthogonality;
    let response = operator.response;
    if response.coupling > 0.0 && p > 0.0 {
        let matrix = operator.response_matrix(bracket.nu, &bracket.weights);
        let error = 2.0 * first_order_error(minimum, &response, bracket.upper, &matrix);
        return DecompositionError { below: error, above: error };
    }
    let n = minimum.sample_count() as f64;
    // p itself is rounded three times, 1 − p once more; μ* moves by at most as much, relatively.
    let parameters = rounding(8);
    let lipschitz = if response.is_homogeneous() { 2.0 * n } else { 4.0 + 4.0 * p * n };
    let additive = lipschitz * accuracy.gram * (1.0 + 1e-9);
    let shrunk = (1.0 - omega).powi(2) / (1.0 + omega) - parameters;
    let grown = (1.0 + omega).powi(2) / (1.0 - omega).max(0.0) + parameters;
    DecompositionError {
        below: bracket.lower * (1.0 - shrunk) + additive,
        above: bracket.upper * (grown - 1.0) + additive,
    }
}

/// The first-order change of μ* under errors of the size of the eigendecomposition's, at the
/// `X = W ∘ (ĝᵀ diag(v) ĝ)` that attains it.
///
/// μ* is the largest value of `[(P/n) Σ (ĝ_iᵀXĝ_i)² + κ tr(XGXG) − ζ Σ X_kl² (λ_k−λ_l)²] / tr(XGX)`
/// over symmetric X, so that only the explicit dependence on G counts.
fn first_order_error(
    minimum: &Minimum,
    response: &Response<'_>,
    mu: f64,
    matrix: &Mat<f64>,
) -> f64 {
    let accuracy = minimum.accuracy();
    let (curvature, coupling) = (response.curvature.abs(), response.coupling);
    // Σ X_kl² times: mean, product, ratio, λ²/λ', and the square of the difference, plain and over λ.
    let (mut mean, mut product, mut ratio, mut steep) = (0.0, 0.0, 0.0, 0.0);
    let (mut spread, mut steep_spread) = (0.0, 0.0);
    for (k, a) in response.eigenvalues().iter().enumerate() {
        for (l, b) in response.eigenvalues().iter().enumerate() {
            let square = matrix[(l, k)] * matrix[(l, k)];
            mean += square * 0.5 * (a + b);
            product += square * a * b;
            ratio += square * a / b;
            steep += square * a * a / b;
            spread += square * (a - b) * (a - b);
            steep_spread += square * (a - b) * (a - b) / b;
        }
    }
    // With Q = [X, G], the ζ term is ζ‖Q‖², and vanishes with its derivatives for a single mode. In K
    // it changes by 2ζ⟨ΔK, K^{−½}[Q, XK]K^{−½}⟩, in G by 2ζ⟨Q, [X, ΔG]⟩.
    let commuting = 2.0 * coupling * steep_spread.sqrt() * (mean.sqrt() + steep.sqrt());
    let gram = accuracy.gram * (commuting + mu * ratio) / mean;
    let twisting = 2.0 * coupling * (spread * response.lambda_max() * mean).sqrt();
    let factor = mu + (curvature * product + twisting) / mean;
    let orthogonality = 2.0 * accuracy.orthogonality * factor;
    // κ is a difference of two rounded numbers, 1/(1+β) and P.
    let constants = ((1.0 + response.noise) * product + coupling * spread) / mean;
    let parameters = rounding(16) * (mu + constants);
    gram + orthogonality + parameters
}

#[cfg(test)]
mod tests {
    use super::threshold;
    use crate::{Batch, Minimum, Optimizer, Sampling};
    use flatmin_linalg::RowMatrix;

    #[test]
    fn a_scaled_loss_has_the_threshold_divided_outward() {
        let minimum = Minimum::new(&RowMatrix::new(1, 1, vec![1.0]).unwrap()).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let plain = threshold(&minimum, &Optimizer::sgd(), &batch).unwrap();
        assert_eq!(plain.for_loss_scale(1.0), plain);
        for loss_scale in [0.3, 3.0, 5.0, 7.0] {
            let scaled = plain.for_loss_scale(loss_scale);
            // The exact signs of `c · end − end of the plain one`.
            assert!(scaled.lower.mul_add(loss_scale, -plain.lower) < 0.0, "{loss_scale}");
            assert!(scaled.upper.mul_add(loss_scale, -plain.upper) > 0.0, "{loss_scale}");
        }
        let flat =
            threshold(&Minimum::new(&RowMatrix::zeros(1, 1)).unwrap(), &Optimizer::sgd(), &batch)
                .unwrap();
        let scaled = flat.for_loss_scale(2.0);
        assert!(scaled.lower.is_infinite() && scaled.upper.is_infinite());
    }
}
