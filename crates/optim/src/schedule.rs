//! Learning-rate schedules.

use std::f64::consts::PI;

use flatmin_linalg::named;

/// The learning rate as a fraction of its initial value, over a run of known length.
///
/// ```
/// use flatmin_optim::Schedule;
/// let schedule: Schedule = "cosine".parse()?;
/// assert_eq!(schedule, Schedule::Cosine);
/// assert_eq!(schedule.to_string(), "cosine");
/// # Ok::<(), flatmin_linalg::UnknownName>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// No decay.
    Constant,
    /// `½(1 + cos(πt/T))`: from 1 to 0.
    Cosine,
    /// 1, then 1/10 from half of the run, then 1/100 from three quarters.
    Step,
}

named!("schedule", Schedule, ["constant" => Constant, "cosine" => Cosine, "step" => Step]);

impl Schedule {
    /// The factor at step `step` (from 0) of a run of `max_steps`.
    pub fn factor(self, step: u64, max_steps: u64) -> f64 {
        let progress = step as f64 / max_steps.max(1) as f64;
        match self {
            Self::Constant => 1.0,
            Self::Cosine => 0.5 * (1.0 + libm::cos(PI * progress.min(1.0))),
            Self::Step if progress < 0.5 => 1.0,
            Self::Step if progress < 0.75 => 0.1,
            Self::Step => 0.01,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn decays_run_from_one_to_their_end() {
        let check = |schedule: Schedule, expected: [f64; 4]| {
            for (step, expected) in [0, 49, 50, 100].into_iter().zip(expected) {
                let factor = schedule.factor(step, 100);
                assert!((factor - expected).abs() < 1e-12, "{schedule:?} at {step}: {factor}");
            }
        };
        check(Schedule::Constant, [1.0; 4]);
        check(Schedule::Cosine, [1.0, 0.515_705_379_539_064_1, 0.5, 0.0]);
        check(Schedule::Step, [1.0, 1.0, 0.1, 0.01]);
    }
}
