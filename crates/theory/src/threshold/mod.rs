//! The exact mean-square stability threshold, with a certificate (S8–S10, S12–S14).
//!
//! `docs/threshold.md` derives and proves the following summary. These are its sections, with the
//! files that compute them:
//!
//! **From second moments to an n × n matrix** ([`response`], [`perron`]). Second moments of
//! linearised SGD follow `T(P) = P − 2ηC(P) + η²D(P)`, with `C(X) = (GX + XG)/2` and
//! `D(X) = (1−p) GXG + p (1/n) Σ (g_iᵀXg_i) g_ig_iᵀ`. T is self-adjoint, so stability says
//! `η⟨X, DX⟩ ≤ 2⟨X, CX⟩` for every symmetric X. With `μ = 2/η` and in the eigenbasis of G, where
//! `d_kl(μ) = μ(λ_k+λ_l)/2 − (1−p)λ_kλ_l` is diagonal,
//!
//! ```text
//! μ ≥ μ*  ⇔  (p/n) Σ_i (ĝ_iᵀXĝ_i)² ≤ Σ_kl d_kl X_kl²  for every X  ⇔  ρ(M(μ)) ≤ 1,
//! M(μ)_ij = (p/n) Σ_kl ĝ_ik ĝ_jk W_kl ĝ_il ĝ_jl,    W_kl = 1/d_kl(μ).
//! ```
//!
//! [`response`] knows W, with heavy-ball momentum too (S12); [`perron`] multiplies with M, which is
//! never formed: a product costs two n × r × r products. [`dense`] is the plain definition, the
//! largest eigenvalue of `C^{−1/2} D C^{−1/2}`.
//!
//! **Nonnegativity** ([`cone`]). W is positive semidefinite, so M ≥ 0 in every entry, its largest
//! eigenvalue is a Perron root, and Collatz–Wielandt quotients of any positive vector bound it.
//! With k outputs M is the map `Φ(Q)_i = (p/n) Ĵ_i [W ∘ Σ_j Ĵ_jᵀQ_jĴ_j] Ĵ_iᵀ` on n-tuples of
//! symmetric k × k matrices (S13), and the cone of positive semidefinite tuples takes the place of
//! positive vectors.
//!
//! **The iteration** ([`search`]). Lanczos from a positive vector b finds the Perron root. For
//! `p < 1`, μ moves to the root of the Rayleigh quotient `vᵀM(μ)v/‖v‖² = 1`, starting at S6 and
//! converging quadratically. Then `v = (s − M)⁻¹ b`, with s just above the root, is positive and
//! satisfies `Mv = sv − b ≤ sv`, even where M is reducible and its Perron vector vanishes. It lies
//! in the same Krylov space.
//!
//! **The certificate** ([`certificate`]). One product with v gives both ends: the largest
//! Collatz–Wielandt quotient and the Rayleigh quotient, with rigorous bounds on their rounding.
//!
//! **Small eigenvalues that are left out** ([`truncation`]), where the requested width allows it. A
//! proved bound on their effect widens the interval.
//!
//! **The error of the eigendecomposition** ([`decomposition`]) is carried to the threshold by two
//! perturbation bounds, see [`Threshold`].

mod certificate;
mod cone;
mod decomposition;
mod dense;
mod interval;
mod perron;
mod response;
mod search;
mod stationary;
mod truncation;

use faer::Mat;
use flatmin_linalg::rounding::gamma;
use flatmin_linalg::{PowerOfTwo, RowMatrix};

pub(crate) use self::cone::Cone;
use self::decomposition::decomposition_error;
pub use self::dense::dense_threshold;
pub use self::interval::{
    DEFAULT_RELATIVE_WIDTH, Stability, Threshold, ThresholdOptions, ThresholdStatus,
};
pub(crate) use self::perron::PerronOperator;
pub(crate) use self::response::{Modes, Response};
use self::search::Bracket;
pub(crate) use self::stationary::PerronSystem;
use self::truncation::LeadingModes;
use crate::{Batch, Minimum, Optimizer, ThresholdError, ToMinimum};

/// The largest learning rate at which `optimizer` is mean-square stable, at a minimum given as a
/// [`Minimum`], a Jacobian or a [`Gram`](crate::Gram) matrix: an interval of relative width
/// [`DEFAULT_RELATIVE_WIDTH`], or wider if rounding does not allow that (S8–S10, S12).
///
/// Costs O(n²p + n³) for the eigendecomposition, which a [`Minimum`] keeps. At a minimum of a
/// trained network the search takes about 20 products of 2nr² operations for B = 1, and two to
/// three times as many for larger batches. Closely spaced blocks of nearly the same strength cost
/// ten times more. With k outputs, read nk for n.
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
/// [`ThresholdError::Batch`] and [`ThresholdError::Minimum`] as [`Batch::noise`] and
/// [`ToMinimum::to_minimum`].
pub fn threshold<M>(
    minimum: &M,
    optimizer: &Optimizer,
    batch: &Batch,
) -> Result<Threshold, ThresholdError>
where
    M: ToMinimum + ?Sized,
{
    threshold_with(minimum, optimizer, batch, &ThresholdOptions::default())
}

/// Like [`threshold`], with options.
///
/// # Errors
/// The errors of [`threshold`], and [`ThresholdError::RelativeWidth`] for a width that is not a
/// positive number.
pub fn threshold_with<M>(
    minimum: &M,
    optimizer: &Optimizer,
    batch: &Batch,
    options: &ThresholdOptions,
) -> Result<Threshold, ThresholdError>
where
    M: ToMinimum + ?Sized,
{
    let minimum = minimum.to_minimum()?;
    Ok(solve(&minimum, optimizer, batch, options)?.0)
}

/// The Lyapunov function `V(δ) = δᵀ Y* δ` of S14, sharp for η*.
///
/// For every start δ and learning rate η, the expected change over one step of linearised SGD is
/// `−η(η* − η) δᵀD(Y*)δ`, with D of S8: V is a supermartingale exactly up to the threshold.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LyapunovFunction {
    /// The threshold η*.
    pub threshold: Threshold,
    /// `Y*`, r × r and positive semidefinite, in the eigenbasis of `G` with eigenvalues ascending,
    /// as in [`Minimum::eigenvalues`]. Its largest entry is 1.
    pub matrix: RowMatrix,
}

/// The Lyapunov function of a minimum for plain SGD: `Y* = W(2/η*) ∘ (ĝᵀ diag(v) ĝ)` with the
/// Perron vector v (S14), or `W(2/η*) ∘ Σ_j Ĵ_jᵀQ_jĴ_j` with the Perron tuple Q for several
/// outputs.
///
/// For gradient descent (p = 0) there is no Perron vector, and the matrix has a single nonzero
/// entry, for the top mode. Without curvature the matrix is 0 × 0.
///
/// # Errors
/// See [`threshold_with`].
pub fn lyapunov_function(
    minimum: &Minimum,
    batch: &Batch,
    options: &ThresholdOptions,
) -> Result<LyapunovFunction, ThresholdError> {
    // The error of the vector is about the square root of the error of the threshold.
    let wanted = options.relative_width;
    let relative_width = if wanted > 1e-13 { 1e-13 } else { wanted };
    let options = ThresholdOptions { relative_width, ..*options };
    let (threshold, bracket) = solve(minimum, &Optimizer::sgd(), batch, &options)?;
    let (_, eigenvalues, rows) = minimum.scaled();
    let rank = eigenvalues.len();
    let matrix = match bracket {
        Some(bracket) if !bracket.weights.is_empty() => {
            let noise = batch.noise(minimum.sample_count())?;
            let response = Response::new(eigenvalues, noise, &Optimizer::sgd());
            let outputs = minimum.output_count();
            let operator = PerronOperator::new(response, rows, outputs, options.parallelism);
            operator.response_matrix(bracket.nu, &bracket.weights)
        }
        _ => Mat::from_fn(rank, rank, |k, l| if k == rank - 1 && l == k { 1.0 } else { 0.0 }),
    };
    let largest = (0..rank).fold(0.0_f64, |m, k| m.max(matrix[(k, k)]));
    let matrix = RowMatrix::from_fn(rank, rank, |k, l| matrix[(k, l)] / largest);
    Ok(LyapunovFunction { threshold, matrix })
}

/// The threshold, and the interval for μ* that it comes from; `None` for the interval without
/// curvature.
fn solve(
    minimum: &Minimum,
    optimizer: &Optimizer,
    batch: &Batch,
    options: &ThresholdOptions,
) -> Result<(Threshold, Option<Bracket>), ThresholdError> {
    let noise = batch.noise(minimum.sample_count())?;
    let &ThresholdOptions { relative_width, parallelism, .. } = options;
    if !(relative_width > 0.0 && relative_width.is_finite()) {
        return Err(ThresholdError::RelativeWidth { value: relative_width });
    }
    let (exponent, eigenvalues, _) = minimum.scaled();
    if eigenvalues.is_empty() {
        let (lower, upper) = (f64::INFINITY, f64::INFINITY);
        let status = ThresholdStatus::Converged;
        let threshold = Threshold { lower, upper, iterations: 0, status };
        return Ok((threshold, None));
    }
    // Of J/2^e, at learning rates that are larger by 4^e.
    let (optimizer, factor) = optimizer.undamped();
    let optimizer = optimizer.for_power_of_two(PowerOfTwo::new(-2 * exponent));
    let response = Response::new(eigenvalues, noise, &optimizer);
    let modes = LeadingModes::affordable(minimum, &response, options);
    let response = Response::new(modes.eigenvalues, noise, &optimizer);
    let outputs = minimum.output_count();
    let mut operator = PerronOperator::new(response, &modes.rows, outputs, parallelism);
    let mut bracket = if noise.coefficient > 0.0 {
        search::bracket(&mut operator, &modes.remaining_options(options))?
    } else {
        gradient_descent(&response)
    };
    modes.widen(&mut bracket, &response);
    let error = decomposition_error(minimum, operator, noise, &bracket);
    let lower = bracket.lower - error.below;
    let upper = bracket.upper + error.above;
    let status =
        if bracket.converged { ThresholdStatus::Converged } else { ThresholdStatus::NotConverged };
    // Rounded outward: these quotients are rounded, and may be subnormal or infinite.
    let unit = PowerOfTwo::new(-2 * exponent);
    let learning_rate = |mu: f64| unit.times(2.0 / mu / factor);
    let threshold = Threshold {
        lower: (learning_rate(upper) * (1.0 - gamma(4))).next_down().clamp(0.0, f64::MAX),
        upper: if lower > 0.0 {
            (learning_rate(lower) * (1.0 + gamma(4))).next_up()
        } else {
            f64::INFINITY
        },
        iterations: bracket.products,
        status,
    };
    Ok((threshold, Some(bracket)))
}

/// The interval without noise, where only the top mode matters: `η* = 2(1+β)/λ_max` with heavy-ball
/// momentum, `2(1+β)/((1+2β)λ_max)` with Nesterov's.
fn gradient_descent(response: &Response<'_>) -> Bracket {
    let mu = response.descent_limit();
    let (lower, upper) = (mu * (1.0 - gamma(8)), mu * (1.0 + gamma(8)));
    Bracket { lower, upper, products: 0, converged: true, nu: 0.0, weights: Vec::new() }
}
