//! Optimizers as values, in PyTorch's conventions (S15).
//!
//! To add an optimizer, add a setting here, with its checks, its words in the name and its row in
//! the table of [`Optimizer::state_space`]. Closed forms that cover fewer optimizers call
//! `Optimizer::heavy_ball`.

use std::fmt;

use flatmin_linalg::{PowerOfTwo, RowMatrix};

/// A linear optimizer: SGD with the momentum and weight decay of `torch.optim.SGD`.
///
/// With gradient g at θ, learning rate η, momentum β, dampening τ and weight decay w, one step is
///
/// ```text
/// d = g + w θ                     (coupled decay; d = g otherwise)
/// u' = β u + (1−τ) d              (momentum buffer; u' = d for β = 0)
/// θ' = θ − η u'                   (heavy ball)
/// θ' = θ − η (d + β u')           (Nesterov)
/// ```
///
/// and decoupled decay also subtracts η w θ, as SGDW and `AdamW` do. PyTorch does not dampen the
/// very first step; stability does not depend on it.
///
/// Every method returns the optimizer with one more setting and refuses what PyTorch refuses, so
/// that a value of this type is always one that can be run.
///
/// ```
/// use flatmin_theory::Optimizer;
/// let optimizer = Optimizer::sgd().momentum(0.9)?.nesterov()?.weight_decay(1e-4)?;
/// assert_eq!(optimizer.to_string(), "SGD with Nesterov momentum 0.9 and weight decay 0.0001");
/// assert!(Optimizer::sgd().nesterov().is_err());
/// # Ok::<(), flatmin_theory::OptimizerError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Settings", into = "Settings"))]
pub struct Optimizer(Settings);

/// The settings of an [`Optimizer`] before they are checked, and as they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
struct Settings {
    momentum: f64,
    dampening: f64,
    nesterov: bool,
    weight_decay: f64,
    decoupled_weight_decay: f64,
}

/// The reason why settings do not make an optimizer.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// A momentum outside [0, 1).
    #[error("the momentum is {value}, expected a number in [0, 1)")]
    Momentum {
        /// The momentum.
        value: f64,
    },
    /// A dampening outside [0, 1).
    #[error("the dampening is {value}, expected a number in [0, 1)")]
    Dampening {
        /// The dampening.
        value: f64,
    },
    /// A weight decay that is negative or not finite.
    #[error("the weight decay is {value}, expected a finite number, at least 0")]
    WeightDecay {
        /// The weight decay.
        value: f64,
    },
    /// Nesterov's method without momentum or with dampening.
    #[error(
        "Nesterov's method needs a momentum above 0 and no dampening, got momentum {momentum} and \
         dampening {dampening}"
    )]
    Nesterov {
        /// The momentum.
        momentum: f64,
        /// The dampening.
        dampening: f64,
    },
    /// An entry of a preconditioner that is not a positive number.
    #[error(
        "the preconditioner of parameter {parameter} is {value}, expected a positive number, as \
         √v̂ + ε of Adam is"
    )]
    Preconditioner {
        /// The parameter.
        parameter: usize,
        /// Its entry.
        value: f64,
    },
    /// Coupled and decoupled weight decay at once.
    #[error("weight decay is either coupled ({coupled}) or decoupled ({decoupled}), not both")]
    BothDecays {
        /// The coupled decay.
        coupled: f64,
        /// The decoupled decay.
        decoupled: f64,
    },
}

/// An optimizer as a linear system: `z' = A z − η b · H (cᵀz)`.
///
/// z has one entry for each number that the optimizer keeps per parameter: δ = θ − θ*, and with
/// momentum the last velocity v = −η u. H is the Gauss–Newton matrix of the batch.
#[derive(Debug, Clone, PartialEq)]
pub struct StateSpace {
    /// A, s × s with s = 1 or 2.
    pub transition: RowMatrix,
    /// b, of length s.
    pub input: Vec<f64>,
    /// c, of length s.
    pub output: Vec<f64>,
}

impl Optimizer {
    /// Plain SGD.
    pub fn sgd() -> Self {
        Self::default()
    }

    /// This optimizer with momentum β, which is heavy-ball momentum unless
    /// [`nesterov`](Self::nesterov) is chosen.
    ///
    /// # Errors
    /// [`OptimizerError::Momentum`] unless `0 ≤ β < 1`; [`OptimizerError::Nesterov`] for β = 0
    /// with Nesterov's method.
    pub fn momentum(self, momentum: f64) -> Result<Self, OptimizerError> {
        Settings { momentum, ..self.0 }.check()
    }

    /// This optimizer with dampening τ of the gradient in the momentum buffer. Without momentum it
    /// has no effect, as in PyTorch.
    ///
    /// # Errors
    /// [`OptimizerError::Dampening`] unless `0 ≤ τ < 1`; [`OptimizerError::Nesterov`] for τ > 0
    /// with Nesterov's method.
    pub fn dampening(self, dampening: f64) -> Result<Self, OptimizerError> {
        Settings { dampening, ..self.0 }.check()
    }

    /// This optimizer with Nesterov's momentum instead of heavy-ball momentum. Set the momentum
    /// first.
    ///
    /// # Errors
    /// [`OptimizerError::Nesterov`] without momentum, or with dampening.
    pub fn nesterov(self) -> Result<Self, OptimizerError> {
        Settings { nesterov: true, ..self.0 }.check()
    }

    /// This optimizer with coupled weight decay w: `w θ` is added to the gradient.
    ///
    /// # Errors
    /// [`OptimizerError::WeightDecay`] unless w is finite and at least 0;
    /// [`OptimizerError::BothDecays`] when there is decoupled decay already.
    pub fn weight_decay(self, weight_decay: f64) -> Result<Self, OptimizerError> {
        Settings { weight_decay, ..self.0 }.check()
    }

    /// This optimizer with decoupled weight decay w: a step also subtracts `η w θ`, which does not
    /// enter the momentum.
    ///
    /// # Errors
    /// The errors of [`weight_decay`](Self::weight_decay), with the two decays exchanged.
    pub fn decoupled_weight_decay(self, weight_decay: f64) -> Result<Self, OptimizerError> {
        Settings { decoupled_weight_decay: weight_decay, ..self.0 }.check()
    }

    /// The momentum β; 0 without momentum.
    pub fn momentum_coefficient(&self) -> f64 {
        self.0.momentum
    }

    /// The dampening τ; 0 without dampening.
    pub fn dampening_coefficient(&self) -> f64 {
        self.0.dampening
    }

    /// True for Nesterov's momentum.
    pub fn is_nesterov(&self) -> bool {
        self.0.nesterov
    }

    /// The coupled weight decay w; 0 without coupled decay.
    pub fn coupled_decay(&self) -> f64 {
        self.0.weight_decay
    }

    /// The decoupled weight decay w; 0 without decoupled decay.
    pub fn decoupled_decay(&self) -> f64 {
        self.0.decoupled_weight_decay
    }

    /// The w with which a constant gradient g holds the parameters at `θ = −g/w`: the coupled decay
    /// and `(1−β)/(1−τ)` times the decoupled one, since momentum passes on `(1−τ)/(1−β)` times the
    /// gradient. 0 without weight decay.
    ///
    /// ```
    /// use flatmin_theory::Optimizer;
    /// let optimizer = Optimizer::sgd().momentum(0.9)?.decoupled_weight_decay(0.5)?;
    /// assert!((optimizer.balancing_decay() - 0.05).abs() < 1e-15);
    /// # Ok::<(), flatmin_theory::OptimizerError>(())
    /// ```
    pub fn balancing_decay(&self) -> f64 {
        let Settings { momentum, dampening, .. } = self.0;
        let passed_on = if momentum > 0.0 { (1.0 - dampening) / (1.0 - momentum) } else { 1.0 };
        self.coupled_decay() + self.decoupled_decay() / passed_on
    }

    /// The optimizer as a linear system at learning rate η.
    ///
    /// | optimizer | A | b | c |
    /// |---|---|---|---|
    /// | SGD | 1 | 1 | 1 |
    /// | momentum β, dampening τ | `[[1, β], [0, β]]` | (1−τ, 1−τ) | (1, 0) |
    /// | Nesterov | `[[1, β²], [0, β]]` | (1+β, 1) | (1, 0) |
    ///
    /// Coupled decay w subtracts `η w b cᵀ` from A; decoupled decay w subtracts `η w` from its
    /// first entry. Source: theory S15.
    ///
    /// ```
    /// use flatmin_theory::Optimizer;
    /// let system = Optimizer::sgd().momentum(0.5)?.nesterov()?.state_space(0.1);
    /// assert_eq!(system.transition.values(), [1.0, 0.25, 0.0, 0.5]);
    /// assert_eq!(system.input, [1.5, 1.0]);
    /// # Ok::<(), flatmin_theory::OptimizerError>(())
    /// ```
    pub fn state_space(&self, learning_rate: f64) -> StateSpace {
        let Settings { momentum, dampening, nesterov, .. } = self.0;
        let (mut transition, input) = match (momentum > 0.0, nesterov) {
            (false, _) => (vec![1.0], vec![1.0]),
            (true, false) => (vec![1.0, momentum, 0.0, momentum], vec![1.0 - dampening; 2]),
            (true, true) => {
                (vec![1.0, momentum * momentum, 0.0, momentum], vec![1.0 + momentum, 1.0])
            }
        };
        let size = input.len();
        transition[0] -= learning_rate * self.0.decoupled_weight_decay;
        for (row, b) in input.iter().enumerate() {
            transition[row * size] -= learning_rate * self.0.weight_decay * b;
        }
        StateSpace {
            transition: RowMatrix::from_fn(size, size, |i, j| transition[i * size + j]),
            output: (0..size).map(|k| if k == 0 { 1.0 } else { 0.0 }).collect(),
            input,
        }
    }

    /// The momentum β of SGD with or without heavy-ball momentum, which closed forms cover; `None`
    /// for any other optimizer.
    pub(crate) fn heavy_ball(&self) -> Option<f64> {
        let (undamped, factor) = self.undamped();
        let momentum = self.0.momentum;
        let is_heavy_ball = undamped.0 == (Settings { momentum, ..Settings::default() });
        (is_heavy_ball && factor >= 1.0).then_some(momentum)
    }

    /// The optimizer without dampening, and the factor 1 − τ by which its learning rates are
    /// smaller: dampening scales every gradient, and coupled decay with it. Decoupled decay is not
    /// scaled, so that the smaller rate goes with a larger decay.
    pub(crate) fn undamped(&self) -> (Self, f64) {
        let Settings { momentum, dampening, decoupled_weight_decay, .. } = self.0;
        // Without momentum there is no buffer to dampen.
        let factor = if momentum > 0.0 { 1.0 - dampening } else { 1.0 };
        let decoupled_weight_decay = decoupled_weight_decay / factor;
        (Self(Settings { dampening: 0.0, decoupled_weight_decay, ..self.0 }), factor)
    }

    /// The optimizer of a loss that is `scale` times as large, at learning rates divided by it.
    ///
    /// Only weight decay notices: `η w` stays as it is.
    #[must_use]
    pub fn for_loss_scale(self, scale: f64) -> Self {
        self.map_decay(|decay| decay * scale)
    }

    /// As [`for_loss_scale`](Self::for_loss_scale), for powers of two beyond the range of `f64`.
    pub(crate) fn for_power_of_two(self, scale: PowerOfTwo) -> Self {
        self.map_decay(|decay| scale.times(decay))
    }

    fn map_decay(self, map: impl Fn(f64) -> f64) -> Self {
        let [weight_decay, decoupled_weight_decay] =
            [self.0.weight_decay, self.0.decoupled_weight_decay].map(map);
        Self(Settings { weight_decay, decoupled_weight_decay, ..self.0 })
    }
}

impl Settings {
    fn check(self) -> Result<Optimizer, OptimizerError> {
        let Self { momentum, dampening, weight_decay, decoupled_weight_decay, .. } = self;
        if !(0.0..1.0).contains(&momentum) {
            return Err(OptimizerError::Momentum { value: momentum });
        }
        if !(0.0..1.0).contains(&dampening) {
            return Err(OptimizerError::Dampening { value: dampening });
        }
        for value in [weight_decay, decoupled_weight_decay] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(OptimizerError::WeightDecay { value });
            }
        }
        if self.nesterov && !(momentum > 0.0 && dampening <= 0.0) {
            return Err(OptimizerError::Nesterov { momentum, dampening });
        }
        if weight_decay > 0.0 && decoupled_weight_decay > 0.0 {
            let (coupled, decoupled) = (weight_decay, decoupled_weight_decay);
            return Err(OptimizerError::BothDecays { coupled, decoupled });
        }
        Ok(Optimizer(self))
    }
}

impl TryFrom<Settings> for Optimizer {
    type Error = OptimizerError;

    fn try_from(settings: Settings) -> Result<Self, OptimizerError> {
        settings.check()
    }
}

impl From<Optimizer> for Settings {
    fn from(optimizer: Optimizer) -> Self {
        optimizer.0
    }
}

impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.0;
        let momentum = if settings.nesterov { "Nesterov momentum" } else { "momentum" };
        let parts: Vec<String> = [
            (momentum, settings.momentum),
            ("dampening", settings.dampening),
            ("weight decay", settings.weight_decay),
            ("decoupled weight decay", settings.decoupled_weight_decay),
        ]
        .into_iter()
        .filter(|(_, value)| *value > 0.0)
        .map(|(words, value)| format!("{words} {value}"))
        .collect();
        match parts.split_last() {
            None => f.write_str("SGD"),
            Some((last, [])) => write!(f, "SGD with {last}"),
            Some((last, others)) => write!(f, "SGD with {} and {last}", others.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Optimizer, OptimizerError, Settings};

    fn all() -> Vec<Optimizer> {
        let sgd = Optimizer::sgd();
        let heavy = sgd.momentum(0.9).unwrap();
        let dampened = heavy.dampening(0.3).unwrap();
        let nesterov = heavy.nesterov().unwrap();
        let plain = [sgd, heavy, dampened, nesterov];
        let coupled = plain.map(|optimizer| optimizer.weight_decay(0.2).unwrap());
        let decoupled = plain.map(|optimizer| optimizer.decoupled_weight_decay(0.2).unwrap());
        [plain, coupled, decoupled].concat()
    }

    /// θ after each of `steps` steps of PyTorch's rule on the loss `curvature·θ²/2`, written as in
    /// its documentation.
    fn pytorch(settings: Settings, learning_rate: f64, curvature: f64, steps: usize) -> Vec<f64> {
        // The velocity starts at zero: PyTorch's first step is not dampened.
        let (mut theta, mut buffer) = (1.0, 0.0);
        (0..steps)
            .map(|_| {
                let mut gradient = curvature * theta;
                theta -= learning_rate * settings.decoupled_weight_decay * theta;
                // The gradient is taken at θ before the decay.
                let before = gradient / curvature;
                if settings.weight_decay > 0.0 {
                    gradient += settings.weight_decay * before;
                }
                if settings.momentum > 0.0 {
                    buffer = settings.momentum * buffer + (1.0 - settings.dampening) * gradient;
                    if settings.nesterov {
                        gradient += settings.momentum * buffer;
                    } else {
                        gradient = buffer;
                    }
                }
                theta -= learning_rate * gradient;
                theta
            })
            .collect()
    }

    #[test]
    fn the_linear_system_takes_the_steps_of_pytorch() {
        let (learning_rate, curvature) = (0.3, 1.7);
        for optimizer in all() {
            let system = optimizer.state_space(learning_rate);
            let mut state = vec![0.0; system.input.len()];
            state[0] = 1.0;
            for (step, theta) in
                pytorch(optimizer.0, learning_rate, curvature, 30).into_iter().enumerate()
            {
                let seen: f64 = state.iter().zip(&system.output).map(|(z, c)| z * c).sum();
                state = (0..state.len())
                    .map(|i| {
                        let row = system.transition.row(i).iter().zip(&state);
                        let coasted: f64 = row.map(|(a, z)| a * z).sum();
                        coasted - learning_rate * system.input[i] * curvature * seen
                    })
                    .collect();
                assert!((state[0] - theta).abs() < 1e-13, "{optimizer}, step {step}");
            }
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn stored_optimizers_are_checked_when_they_are_read() {
        for optimizer in all() {
            let text = serde_json::to_string(&optimizer).unwrap();
            assert_eq!(serde_json::from_str::<Optimizer>(&text).unwrap(), optimizer);
        }
        let read = |text| serde_json::from_str::<Optimizer>(text);
        assert_eq!(read("{}").unwrap(), Optimizer::sgd());
        let error = read(r#"{"nesterov": true}"#).unwrap_err().to_string();
        assert!(error.contains("needs a momentum above 0"), "{error}");
        assert!(read(r#"{"lr": 0.1}"#).is_err());
    }

    #[test]
    fn dampening_does_nothing_without_momentum() {
        let optimizer = Optimizer::sgd().dampening(0.5).unwrap();
        assert_eq!(optimizer.state_space(0.1), Optimizer::sgd().state_space(0.1));
    }

    #[test]
    fn only_the_heavy_ball_has_a_closed_form() {
        for optimizer in all() {
            let expected = match optimizer.to_string().as_str() {
                "SGD" => Some(0.0),
                "SGD with momentum 0.9" => Some(0.9),
                // Dampening scales learning rates.
                _ => None,
            };
            assert_eq!(optimizer.heavy_ball(), expected, "{optimizer}");
        }
    }

    #[test]
    fn what_pytorch_refuses_is_refused() {
        let sgd = Optimizer::sgd();
        for value in [-0.1, 1.0, f64::INFINITY] {
            assert_eq!(sgd.momentum(value), Err(OptimizerError::Momentum { value }));
            assert_eq!(sgd.dampening(value), Err(OptimizerError::Dampening { value }));
        }
        assert!(sgd.momentum(f64::NAN).is_err() && sgd.weight_decay(f64::NAN).is_err());
        for value in [-0.1, f64::INFINITY] {
            assert_eq!(sgd.weight_decay(value), Err(OptimizerError::WeightDecay { value }));
            assert!(sgd.decoupled_weight_decay(value).is_err());
        }
        let nesterov = sgd.momentum(0.5).unwrap().nesterov().unwrap();
        assert!(sgd.nesterov().is_err());
        assert!(nesterov.momentum(0.0).is_err() && nesterov.dampening(0.1).is_err());
        let decayed = sgd.weight_decay(0.1).unwrap();
        let error = OptimizerError::BothDecays { coupled: 0.1, decoupled: 0.2 };
        assert_eq!(decayed.decoupled_weight_decay(0.2), Err(error));
        // A decay of zero counts as no decay.
        assert_eq!(decayed.decoupled_weight_decay(0.0), Ok(decayed));
    }
}
