//! The response W of pairs of modes to noise: in closed form for every optimizer (S9, S12, S15).
//!
//! The threshold needs one property of an optimizer: for modes k and l of G, the covariance `W_kl` of
//! their coordinates when both are driven by the same noise of unit strength. With
//! `d_kl(μ) = 1/(η² W_kl)` and μ = 2/η,
//!
//! ```text
//! M(μ)_ij = (P/n) Σ_kl ĝ_ik ĝ_jk ĝ_il ĝ_jl / d_kl(μ).
//! ```
//!
//! [`heavy_ball`] has d for SGD and heavy-ball momentum, where it is linear in μ; [`filter`] has it
//! for Nesterov momentum and weight decay. `docs/threshold.md` derives both and proves that W is
//! positive semidefinite wherever d is positive.

mod filter;
mod heavy_ball;

use faer::MatMut;
use flatmin_linalg::Bisection;

pub(crate) use self::filter::Filter;
use self::filter::FilterModes;
pub(crate) use self::heavy_ball::HeavyBall;
use crate::{Noise, Optimizer};

/// The step of difference quotients in ν, relative to ν.
pub(crate) const RELATIVE_STEP: f64 = 1e-6;

/// The response of pairs of modes to noise, as a function of μ = 2/η.
///
/// μ is stored as `pole + ν`, where the pole is close to the least μ at which the mean is stable,
/// and below it. Then every d is a sum of nonnegative terms, and nothing cancels near the pole,
/// which the threshold approaches for little noise (p → 0).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Response<'a> {
    pub(crate) eigenvalues: &'a [f64],
    /// P.
    pub(crate) noise: f64,
    pub(crate) law: Law,
}

/// The two families of closed forms.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Law {
    HeavyBall(HeavyBall),
    Filter(Filter),
}

/// What the denominators need of each mode at one μ.
#[derive(Debug)]
pub(crate) enum Modes {
    /// The `m_k = μ − κ λ_k` of [`HeavyBall`].
    Shifts(Vec<f64>),
    Filter(FilterModes),
}

impl Modes {
    /// The `m_k` of [`HeavyBall`], if these modes are its own.
    pub(crate) fn shifts(&self) -> Option<&[f64]> {
        match self {
            Self::Shifts(shifts) => Some(shifts),
            Self::Filter(_) => None,
        }
    }
}

impl<'a> Response<'a> {
    /// The response of an optimizer without dampening, for eigenvalues in ascending order, at least
    /// one of them.
    pub(crate) fn new(eigenvalues: &'a [f64], noise: Noise, optimizer: &Optimizer) -> Self {
        let (noise, law) = if let Some(momentum) = optimizer.heavy_ball() {
            let law = HeavyBall::new(noise, momentum);
            (noise.coefficient / (1.0 - momentum), Law::HeavyBall(law))
        } else {
            let lambda_max = eigenvalues.last().copied().unwrap_or(0.0);
            let law = Filter::new(optimizer, noise.mean_deficit, lambda_max);
            (noise.coefficient, Law::Filter(law))
        };
        Self { eigenvalues, noise, law }
    }

    pub(crate) fn lambda_max(&self) -> f64 {
        self.eigenvalues.last().copied().unwrap_or(0.0)
    }

    /// The closed form of SGD with heavy-ball momentum, where it applies.
    pub(crate) fn heavy_ball(&self) -> Option<&HeavyBall> {
        match &self.law {
            Law::HeavyBall(law) => Some(law),
            Law::Filter(_) => None,
        }
    }

    /// The constants κ and ζ of SGD without momentum, whose ζ is zero; `None` otherwise.
    pub(crate) fn plain(&self) -> Option<&HeavyBall> {
        self.heavy_ball().filter(|law| law.coupling <= 0.0)
    }

    /// True if `M(μ) = M(1)/μ`: no momentum, no decay and α = 0.
    pub(crate) fn is_homogeneous(&self) -> bool {
        self.plain().is_some_and(|law| law.curvature.abs() <= 0.0)
    }

    /// The μ that ν is counted from, at most the μ of the threshold.
    pub(crate) fn pole(&self) -> f64 {
        match &self.law {
            Law::HeavyBall(law) => law.curvature.max(0.0) * self.lambda_max(),
            Law::Filter(law) => law.pole,
        }
    }

    /// The least μ at which gradient descent is stable.
    pub(crate) fn descent_limit(&self) -> f64 {
        match &self.law {
            // The pole of the response without noise, where κ = 1/(1+β).
            Law::HeavyBall(_) => self.pole(),
            Law::Filter(law) => law.descent_limit(self.lambda_max()),
        }
    }

    /// A lower bound on the ν of the threshold, below which the mean is not stable and d is no sum of
    /// nonnegative terms.
    pub(crate) fn least_nu(&self) -> f64 {
        match &self.law {
            Law::HeavyBall(_) => 0.0,
            Law::Filter(law) => law.margin,
        }
    }

    /// How many more roundings than those of a sum of products a denominator may carry.
    pub(crate) fn extra_roundings(&self) -> usize {
        match &self.law {
            Law::HeavyBall(_) => 0,
            Law::Filter(_) => filter::ROUNDINGS,
        }
    }

    /// The modes at μ = pole + ν.
    pub(crate) fn modes(&self, nu: f64) -> Modes {
        match &self.law {
            Law::HeavyBall(law) => Modes::Shifts(law.shifts(self.eigenvalues, nu)),
            Law::Filter(law) => Modes::Filter(law.modes(self.eigenvalues, self.lambda_max(), nu)),
        }
    }

    /// Calls `visit` with each item and the `d_kl` that belongs to it, for l from `first` on.
    ///
    /// Every d is a sum of nonnegative terms, with a relative error of at most 8 roundings and the
    /// [extra ones](Self::extra_roundings).
    #[inline]
    pub(crate) fn zip_denominators<T>(
        &self,
        modes: &Modes,
        (k, first): (usize, usize),
        items: impl Iterator<Item = T>,
        mut visit: impl FnMut(T, f64),
    ) {
        match (&self.law, modes) {
            (Law::HeavyBall(law), Modes::Shifts(shifts)) => {
                let denominators = law.denominators(self.eigenvalues, shifts, k, first);
                for (item, denominator) in items.zip(denominators) {
                    visit(item, denominator);
                }
            }
            (_, Modes::Filter(modes)) => {
                for (item, denominator) in items.zip(modes.denominators(k, first)) {
                    visit(item, denominator);
                }
            }
            (Law::Filter(_), Modes::Shifts(_)) => unreachable!("modes are made by their law"),
        }
    }

    /// `value / d_kk`.
    pub(crate) fn over_diagonal(&self, modes: &Modes, k: usize, value: f64) -> f64 {
        match modes {
            Modes::Shifts(shifts) => value / shifts[k] / self.eigenvalues[k],
            Modes::Filter(modes) => value / modes.diagonal(k),
        }
    }

    /// Replaces S by `W ∘ S`, with a halved diagonal, in a block of rows of a lower triangle. The
    /// block starts at row `first`, and each row ends at its diagonal entry.
    pub(crate) fn apply(&self, modes: &Modes, first: usize, mut rows: MatMut<'_, f64>) {
        let last = first + rows.nrows();
        for k in 0..rows.ncols() {
            let start = first.max(k);
            let column = rows.as_mut().col_mut(k).subrows_mut(start - first, last - start);
            self.zip_denominators(modes, (k, start), column.iter_mut(), |value, denominator| {
                *value /= denominator;
            });
            if k >= first {
                rows[(k - first, k)] *= 0.5;
            }
        }
    }

    /// The largest `d_kl / d'_kl`, with the derivative in μ: when μ grows by ε times it, every d
    /// grows at least by the factor `1 + ε`, so that ρ falls at least by the factor `1 − ε`. Exact
    /// for [`HeavyBall`], where d is linear in μ; to first order otherwise.
    ///
    /// At most μ where `d ≤ μ(λ_k+λ_l)/2`, as without momentum. Costs O(r²).
    pub(crate) fn stiffness(&self, nu: f64) -> f64 {
        let modes = self.modes(nu);
        let mut largest = 0.0_f64;
        let step = RELATIVE_STEP * nu;
        let moved = self.heavy_ball().is_none().then(|| self.modes(nu + step));
        for (k, value) in self.eigenvalues.iter().enumerate() {
            let others = self.eigenvalues[k..].iter();
            match &moved {
                None => self.zip_denominators(&modes, (k, k), others, |other, denominator| {
                    largest = largest.max(2.0 * denominator / (value + other));
                }),
                Some(moved) => {
                    let mut before = Vec::with_capacity(self.eigenvalues.len() - k);
                    self.zip_denominators(&modes, (k, k), others, |_, d| before.push(d));
                    self.zip_denominators(moved, (k, k), before.into_iter(), |before, after| {
                        largest = largest.max(before * step / (after - before));
                    });
                }
            }
        }
        largest * (1.0 + 1e-14)
    }

    /// The ν at which `P Σ_k λ_k² / d_kk` is the number of outputs, so that the Rayleigh quotient of
    /// the vector of ones (the tuple of identities) is 1. It is a lower bound on the ν of the
    /// threshold, and S6 for plain SGD with one output.
    pub(crate) fn spectral_root(&self, outputs: usize) -> f64 {
        let noise = self.noise / outputs as f64;
        let sum = |nu: f64| -> f64 {
            let modes = self.modes(nu);
            let terms = self.eigenvalues.iter().enumerate();
            match &modes {
                Modes::Shifts(shifts) => terms.map(|(k, value)| value / shifts[k]).sum(),
                Modes::Filter(_) => {
                    terms.map(|(k, value)| self.over_diagonal(&modes, k, value * value)).sum()
                }
            }
        };
        let (lower, upper) = match &self.law {
            Law::HeavyBall(law) => {
                let lower = if law.curvature >= 0.0 { noise * self.lambda_max() } else { 0.0 };
                (lower, noise * self.eigenvalues.iter().sum::<f64>())
            }
            Law::Filter(_) => {
                let mut upper = self.lambda_max();
                while noise * sum(upper) > 1.0 {
                    upper *= 2.0;
                }
                let least = self.least_nu();
                if least > 0.0 && noise * sum(least) <= 1.0 {
                    return least;
                }
                let mut lower = upper;
                while noise * sum(lower) <= 1.0 && lower > f64::MIN_POSITIVE {
                    lower = (0.5 * lower).max(least);
                }
                (lower, upper)
            }
        };
        let search = Bisection::between(lower, upper).geometric().to_relative_width(1e-15);
        search.run(|nu| noise * sum(nu) - 1.0 > 0.0).0
    }
}
