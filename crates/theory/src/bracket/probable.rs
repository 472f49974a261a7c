//! An upper bound on the largest eigenvalue of a symmetric operator, by Lanczos from a random start.
//!
//! After k steps from a unit vector b, `χ(A) b = β_1⋯β_k q_{k+1}`, with the characteristic
//! polynomial χ of the tridiagonal matrix, whose zeros are the Ritz values `θ_j`. Let u be an
//! eigenvector for an eigenvalue λ. The component of both sides along u gives
//! `|χ(λ)| |uᵀb| ≤ β_1⋯β_k`. If b is uniform on the sphere, `|uᵀb| ≥ τ` except with a probability
//! of at most `τ √(2N/π)` in N dimensions. So the largest eigenvalue is at most the λ above all `θ_j`
//! with `Π (λ − θ_j)/β_j = 1/τ` (van Dorsselaer, Hochstenbach and van der Vorst 2000). The bound
//! uses the steps that were taken, and is much closer than one for every operator (Kuczyński and
//! Woźniakowski 1992).
//!
//! The start may be several vectors side by side, `A ⊗ I` in place of A. With a start B that is
//! uniform on the sphere of N × m matrices, `|χ(λ)| ‖uᵀB‖ ≤ β_1⋯β_k`, and `‖uᵀB‖²` has the beta
//! distribution with the parameters m/2 and m(N − 1)/2. It is small far more rarely than for one
//! vector: `P(‖uᵀB‖ ≤ τ) ≤ τ^m Γ(mN/2)/(Γ(m/2 + 1) Γ(m(N − 1)/2))`. So a few steps with several
//! vectors replace many steps with one.
//!
//! Two directions are kept, and none is orthogonalised again. The proof does not need orthogonal
//! directions: the recurrence with the coefficients that were computed defines a polynomial, of
//! which `β_1⋯β_k q_{k+1}` is the value at A for any coefficients. Copies of eigenvalues that
//! converged, which such a recurrence produces, are further zeros of this polynomial.

use faer::Mat;
use flatmin_linalg::{EigenError, simd, symmetric_eigenvalues};
use rand::Rng;
use rand_distr::{Distribution as _, StandardNormal};

/// The steps before the first bound is computed.
const MIN_STEPS: usize = 6;

/// A coupling below this part of the largest entry of the tridiagonal matrix is rounding.
const INVARIANT: f64 = 1e-13;

/// A bound that holds with a stated probability.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbableBound {
    /// The largest eigenvalue is at most this, except with the probability asked for.
    pub(super) upper: f64,
    /// The largest Ritz value, which it exceeds.
    pub(super) ritz: f64,
}

/// The accuracy of a [`ProbableBound`] and its limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct BoundOptions {
    /// The dimension N of the space that each vector of the start lies in.
    pub(super) dimension: usize,
    /// The number m of vectors of the start.
    pub(super) vectors: usize,
    pub(super) failure: f64,
    /// The relative distance of the bound from the Ritz value at which the iteration stops.
    pub(super) tolerance: f64,
    pub(super) max_steps: usize,
}

impl BoundOptions {
    /// `log(1/τ)` for the τ that `‖uᵀB‖` exceeds except with the probability of failure.
    fn log_target(&self) -> f64 {
        let (n, m) = (self.dimension as f64, self.vectors as f64);
        let log_failure = libm::log(self.failure);
        if self.vectors == 1 || self.dimension == 1 {
            let spread = (2.0 * n * m / std::f64::consts::PI).sqrt().max(1.0);
            return libm::log(spread) - log_failure;
        }
        let constant = libm::lgamma(0.5 * m * n)
            - libm::lgamma(0.5 * m + 1.0)
            - libm::lgamma(0.5 * m * (n - 1.0));
        (constant - log_failure) / m
    }
}

/// The bound for the operator `apply`, on the space that `project` maps to. Both act on `len`
/// numbers: on all vectors of the start, one after the other.
pub(super) fn probable_bound<E: From<EigenError>>(
    len: usize,
    options: &BoundOptions,
    rng: &mut impl Rng,
    project: impl Fn(&mut [f64]),
    mut apply: impl FnMut(&[f64], &mut [f64]) -> Result<(), E>,
) -> Result<ProbableBound, E> {
    let mut start: Vec<f64> = (0..len).map(|_| StandardNormal.sample(rng)).collect();
    project(&mut start);
    let target = options.log_target();
    let mut recurrence = Recurrence::new(start)?;
    let mut best = ProbableBound { upper: f64::INFINITY, ritz: 0.0 };
    for step in 1..=options.max_steps {
        recurrence.extend(&mut apply)?;
        let is_closed = recurrence.is_closed();
        let is_last = step == options.max_steps || is_closed;
        if !is_last && step < MIN_STEPS {
            continue;
        }
        let values = recurrence.ritz_values()?;
        best.ritz = values[values.len() - 1];
        // Once the space is invariant it holds every eigenvalue that the start sees.
        let upper = if is_closed {
            best.ritz + 1e-12 * best.ritz.abs()
        } else {
            let logs = recurrence.couplings.iter().map(|beta| libm::log(*beta)).sum();
            excluded_from(&values, logs, target)
        };
        best.upper = best.upper.min(upper).max(best.ritz);
        if best.upper - best.ritz <= options.tolerance * best.ritz.abs() || is_last {
            break;
        }
    }
    Ok(best)
}

/// The recurrence `β_j q_{j+1} = A q_j − α_j q_j − β_{j−1} q_{j−1}` of Lanczos.
struct Recurrence {
    /// The direction that is multiplied next, and the one before it.
    direction: Vec<f64>,
    previous: Vec<f64>,
    diagonal: Vec<f64>,
    couplings: Vec<f64>,
}

impl Recurrence {
    fn new(mut start: Vec<f64>) -> Result<Self, EigenError> {
        let norm = simd::norm_squared(&start).sqrt();
        if !(norm.is_finite() && norm > 0.0) {
            return Err(EigenError::NotFinite { row: 0, column: 0, value: norm });
        }
        for value in &mut start {
            *value /= norm;
        }
        let previous = vec![0.0; start.len()];
        let (diagonal, couplings) = (Vec::new(), Vec::new());
        Ok(Self { direction: start, previous, diagonal, couplings })
    }

    fn extend<E: From<EigenError>>(
        &mut self,
        apply: &mut impl FnMut(&[f64], &mut [f64]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut image = vec![0.0; self.direction.len()];
        apply(&self.direction, &mut image)?;
        let before = self.couplings.last().copied().unwrap_or(0.0);
        simd::axpy(-before, &self.previous, &mut image);
        let diagonal = simd::dot(&image, &self.direction);
        simd::axpy(-diagonal, &self.direction, &mut image);
        let coupling = simd::norm_squared(&image).sqrt();
        if !(diagonal.is_finite() && coupling.is_finite()) {
            let value = if diagonal.is_finite() { coupling } else { diagonal };
            return Err(EigenError::NotFinite { row: 0, column: 0, value }.into());
        }
        self.diagonal.push(diagonal);
        self.couplings.push(coupling);
        if !self.is_closed() {
            for value in &mut image {
                *value /= coupling;
            }
        }
        self.previous = std::mem::replace(&mut self.direction, image);
        Ok(())
    }

    /// True if the next direction would consist of rounding errors.
    fn is_closed(&self) -> bool {
        let scale = self.diagonal.iter().chain(&self.couplings);
        let scale = scale.fold(0.0, |most: f64, value| most.max(value.abs()));
        self.couplings.last().is_some_and(|last| *last <= INVARIANT * scale)
    }

    /// The zeros of the polynomial: the eigenvalues of the tridiagonal matrix, ascending.
    fn ritz_values(&self) -> Result<Vec<f64>, EigenError> {
        let size = self.diagonal.len();
        let matrix = Mat::from_fn(size, size, |i, j| match i.abs_diff(j) {
            0 => self.diagonal[i],
            1 => self.couplings[i.min(j)],
            _ => 0.0,
        });
        symmetric_eigenvalues(matrix.as_ref())
    }
}

/// The λ above all values with `Σ log(λ − θ_j) = logs + target`, rounded up.
fn excluded_from(values: &[f64], logs: f64, target: f64) -> f64 {
    let top = values[values.len() - 1];
    let scale = values.iter().fold(f64::MIN_POSITIVE, |m: f64, value| m.max(value.abs()));
    let excess = |distance: f64| {
        let terms = values.iter().map(|value| libm::log(top - value + distance));
        terms.sum::<f64>() - logs - target
    };
    let (mut low, mut high) = (1e-15 * scale, scale);
    while excess(high) < 0.0 && high < 1e300 {
        high *= 4.0;
    }
    for _ in 0..100 {
        let middle = (low * high).sqrt();
        if excess(middle) < 0.0 { low = middle } else { high = middle }
    }
    (top + high) * (1.0 + 1e-12)
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{EigenError, stream};

    use super::{BoundOptions, probable_bound};

    /// The spectrum may hide its largest eigenvalue from a few steps, but not from the bound.
    #[test]
    fn the_bound_holds_and_is_close_where_a_gap_allows_it() {
        let spectra: [&dyn Fn(usize) -> f64; 4] = [
            &|i| 1.0 / (1.0 + i as f64),
            &|i| if i == 0 { 1.0 } else { 0.5 * (i % 97) as f64 / 97.0 },
            &|i| 1.0 - (i as f64 / 800.0).powi(2),
            &|i| if i == 0 { 1.0 } else { -1.0 + i as f64 / 800.0 },
        ];
        for (index, spectrum) in spectra.iter().enumerate() {
            for seed in 0..20 {
                // Without a tolerance directions lose their orthogonality, and eigenvalues return.
                let settings = [(1, 40, 1e-3), (4, 24, 1e-3), (1, 150, 0.0), (4, 80, 0.0)];
                let few = if seed < 2 { 4 } else { 2 };
                for (vectors, max_steps, tolerance) in settings.into_iter().take(few) {
                    let options = BoundOptions {
                        dimension: 800,
                        vectors,
                        failure: 1e-10,
                        tolerance,
                        max_steps,
                    };
                    let mut rng = stream(seed, "probable bound test", 0);
                    let bound = probable_bound::<EigenError>(
                        800 * vectors,
                        &options,
                        &mut rng,
                        |_| {},
                        |v, out| {
                            for (i, (out, v)) in out.iter_mut().zip(v).enumerate() {
                                *out = spectrum(i % 800) * v;
                            }
                            Ok(())
                        },
                    );
                    let upper = bound.unwrap().upper;
                    assert!(upper >= 1.0 - 1e-13, "{index} {seed} {vectors}: {upper}");
                    let limit = if index == 2 { 1.25 } else { 1.02 };
                    assert!(upper <= limit, "{index} {seed} {vectors}: {upper}");
                }
            }
        }
    }

    /// The bound on the distribution of `‖uᵀB‖`, by sampling: about one start in ten is below τ.
    #[test]
    fn a_start_is_rarely_far_from_an_eigenvector() {
        use rand_distr::{Distribution as _, StandardNormal};
        let mut rng = stream(0, "probable bound test", 1);
        let (n, m, failure, draws) = (30, 4, 0.1, 4000);
        let options =
            BoundOptions { dimension: n, vectors: m, failure, tolerance: 1e-3, max_steps: 1 };
        let least = libm::exp(-2.0 * options.log_target());
        let mut below = 0;
        for _ in 0..draws {
            let squares: Vec<f64> = (0..n * m)
                .map(|_| StandardNormal.sample(&mut rng))
                .map(|value: f64| value * value)
                .collect();
            let own: f64 = squares[..m].iter().sum();
            below += usize::from(own <= least * squares.iter().sum::<f64>());
        }
        let part = f64::from(u32::try_from(below).unwrap()) / f64::from(draws);
        assert!(part <= failure && part >= 0.7 * failure, "{part}");
    }

    #[test]
    fn small_spaces_are_exhausted() {
        for len in [1, 2, 5] {
            let options = BoundOptions {
                dimension: len,
                vectors: 1,
                failure: 1e-10,
                tolerance: 1e-3,
                max_steps: 40,
            };
            let mut rng = stream(3, "probable bound test", 0);
            let bound = probable_bound::<EigenError>(
                len,
                &options,
                &mut rng,
                |_| {},
                |v, out| {
                    out.iter_mut().zip(v).enumerate().for_each(|(i, (o, v))| *o = v * i as f64);
                    Ok(())
                },
            );
            let expected = (len - 1) as f64;
            assert!((bound.unwrap().upper - expected).abs() <= 1e-9, "{len}");
        }
    }
}
