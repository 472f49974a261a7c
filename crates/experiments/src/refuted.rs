//! What was expected and did not hold.

/// An expectation that runs refuted, and what they showed instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refuted {
    /// The experiment that shows it.
    pub experiment: &'static str,
    /// What was expected.
    pub expected: &'static str,
    /// What was found.
    pub found: &'static str,
}

const fn refuted(experiment: &'static str, expected: &'static str, found: &'static str) -> Refuted {
    Refuted { experiment, expected, found }
}

/// The expectations that were refuted on the way to the claims, in the order of the experiments.
pub const REFUTED: &[Refuted] = &[
    refuted(
        "relu_dynamics",
        "A measure of sharpness rests at 2/η while SGD trains.",
        "None does while the loss is high: all of them fall through 2/η or towards it, and the \
         batch sharpness goes on fluctuating, mostly above it, while the loss falls.",
    ),
    refuted(
        "relu_schedule",
        "A published attempt with gradient clipping at 1 and a cosine schedule saw no effect.",
        "Clipping at 1 removes the instability that selects flat minima. Decay alone does not.",
    ),
    refuted(
        "threshold",
        "SGD can only converge where η ≤ η*.",
        "At η = .01 most converged ReLU runs end with η* < η: mean-square unstable, and stable \
         almost surely. Single runs see the almost-sure edge.",
    ),
    refuted(
        "linear_stability",
        "The plain norm of the deviation shows on which side of η* a learning rate lies.",
        "From an isotropic start it has the wrong sign for many steps. The Lyapunov function V of \
         S14 has the right one from the first step.",
    ),
    refuted(
        "deep_sharpness",
        "Every converged run of gradient descent has λ_{max} ≤ 2/η.",
        "One ends at 1.0007 · 2/η: the stopping rule cannot tell so small an excess from rest. The \
         claim allows one per cent.",
    ),
    refuted(
        "estimators",
        "With 80 products XTrace is five times as accurate as Hutchinson's estimator.",
        "Four times, on the Gauss–Newton matrix of a network with more samples than products. How \
         much is gained depends on the spectrum; the faster rate is what holds in general.",
    ),
    refuted(
        "matrix_sensing",
        "Gradient descent hardly moves with the learning rate.",
        "Up to its edge. Beyond, it is thrown to flatter matrices, and still stays far from M*.",
    ),
    refuted(
        "matrix_sensing",
        "SGD recovers M* wherever the interpolator of least nuclear norm does.",
        "Not with the fewest measurements at which that interpolator is M*.",
    ),
    refuted(
        "matrix_sensing",
        "Every run of SGD at .9 η_c recovers M* to one per cent.",
        "In one design of twenty η* of M* itself is .90 η_c. The run at its very edge ends with an \
         error of 5 %.",
    ),
    refuted(
        "function_space",
        "Stability smooths every network, whatever its start.",
        "From the default start of PyTorch the functions are smooth before training, far inside of \
         the bound, and stay so at every learning rate. Noise in the targets is fitted, not \
         averaged out.",
    ),
    refuted(
        "epochs",
        "A last batch of one lowers the edge below half of η*(B).",
        "At ReLU minima it is .6 to .7 of it, with 49 samples and with 300. SGD at .9 η*(B) leaves \
         all the same.",
    ),
    refuted(
        "epochs",
        "The edge of reshuffled epochs lies within ten per cent of that of independent draws at \
         every minimum of a small learning rate.",
        "At most of them. Where single samples dominate it is a fifth higher, as at the largest \
         learning rate.",
    ),
    refuted(
        "noise_floor",
        "A time average of the loss meets its stationary mean at every stable learning rate.",
        "Close to η* rare bursts carry the mean, and most averages miss them.",
    ),
];

#[cfg(test)]
mod tests {
    use super::REFUTED;

    #[test]
    fn every_refutation_names_an_experiment_in_the_order_of_the_report() {
        let place = |id: &str| crate::EXPERIMENTS.iter().position(|e| e.id == id).unwrap();
        assert!(REFUTED.iter().map(|refuted| place(refuted.experiment)).is_sorted());
    }
}
