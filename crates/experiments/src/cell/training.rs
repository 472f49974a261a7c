//! The checkpointed training loop of all networks.

use flatmin_linalg::stream;
use flatmin_models::Dataset;
use flatmin_optim::{
    Observation, Outcome, Run, Segment, TrainOptions, Trainable, Trainer, log_spaced_steps,
};

use super::error::CellError;
use super::linearised::LinearisedPoint;
use super::streams;

/// A model with its training data and the point at which training starts.
pub(super) struct TrainingProblem<N> {
    pub(super) model: N,
    pub(super) data: Dataset,
    pub(super) initial: Vec<f64>,
}

/// The measurements of one kind of network at one point of a run.
pub(super) trait Checkpoint {
    /// Steps done.
    fn step(&self) -> u64;

    /// Says that every measured number is finite.
    fn is_finite(&self) -> bool;
}

/// A training run with its measurements.
pub(super) struct MeasuredRun<C> {
    pub(super) run: Run,
    /// The checkpoints before the end.
    pub(super) path: Vec<C>,
    /// The end; absent when the run diverged.
    pub(super) end: Option<(C, LinearisedPoint)>,
}

/// Log-spaced checkpoints; none but the end for zero a decade.
pub(super) fn checkpoints(per_decade: u32, max_steps: u64) -> Vec<u64> {
    if per_decade == 0 { Vec::new() } else { log_spaced_steps(per_decade, max_steps) }
}

/// The fraction of clipped steps.
pub(super) fn clipped_fraction(steps: Segment) -> f64 {
    steps.clipped_steps as f64 / steps.steps.max(1) as f64
}

/// Trains a network, and measures it at the checkpoints and at the end.
///
/// A checkpoint whose state has overflowed is left out: the outcome of the run says what happened.
///
/// # Errors
/// [`CellError`] when the settings cannot be run, and the first error of `measure` that is no
/// overflow.
pub(super) fn train_measured<N: Trainable, C: Checkpoint>(
    problem: &TrainingProblem<N>,
    options: &TrainOptions,
    seed: u64,
    measure: impl Fn(&LinearisedPoint, Observation<'_>) -> Result<C, CellError>,
) -> Result<MeasuredRun<C>, CellError> {
    let TrainingProblem { model, data, initial } = problem;
    let linearised = |parameters: &[f64]| LinearisedPoint::new(model, parameters, data.inputs());
    let (mut path, mut since_last) = (Vec::new(), Segment::default());
    let (mut latest, mut failure) = (None, None);
    let rng = stream(seed, streams::BATCHES, 0);
    let run = Trainer::new(model, data, initial, options, rng)?.run(|seen| {
        since_last = seen.since_last;
        if options.checkpoints.is_empty() || failure.is_some() {
            return;
        }
        let point = linearised(seen.parameters);
        match measure(&point, seen) {
            Ok(measured) => path.extend(Some(measured).filter(C::is_finite)),
            Err(error) if error.is_overflow() => {}
            Err(error) => failure = Some(error),
        }
        latest = Some((seen.step, point));
    });
    if let Some(error) = failure {
        return Err(error);
    }
    // Where the run ended at a checkpoint, it has been measured there.
    let measured = path.pop_if(|checkpoint| checkpoint.step() == run.steps);
    if run.outcome == Outcome::Diverged {
        return Ok(MeasuredRun { run, path, end: None });
    }
    let point = match latest {
        Some((step, point)) if step == run.steps => point,
        _ => linearised(&run.parameters),
    };
    let last = if let Some(measured) = measured {
        measured
    } else {
        let (step, parameters) = (run.steps, &run.parameters[..]);
        measure(&point, Observation { step, parameters, since_last })?
    };
    Ok(MeasuredRun { run, path, end: Some((last, point)) })
}

#[cfg(test)]
mod tests {
    use flatmin_curvature::CurvatureError;
    use flatmin_linalg::stream;
    use flatmin_models::TwoLayerRelu;
    use flatmin_models::data::{Split, relu_dataset};
    use flatmin_optim::{Method, StoppingRule, TrainOptions};

    use super::{CellError, Checkpoint, MeasuredRun, TrainingProblem, checkpoints, train_measured};

    struct Step(u64);

    impl Checkpoint for Step {
        fn step(&self) -> u64 {
            self.0
        }

        fn is_finite(&self) -> bool {
            self.0 != 2
        }
    }

    /// Ten steps of a small network, measured by `measure` at the steps 0, 1, 2, 3, 6 and 10.
    fn run(measure: fn(u64) -> Result<Step, CellError>) -> Result<MeasuredRun<Step>, CellError> {
        let model = TwoLayerRelu::new(2, 3).unwrap();
        let data = relu_dataset(2, 3, 4, Split::Training, 0).unwrap();
        let initial = model.initial_parameters(&mut stream(0, "test", 0));
        let options = TrainOptions {
            clip_norm: 1.0,
            stopping: StoppingRule::never(),
            checkpoints: checkpoints(4, 10),
            ..TrainOptions::new(Method::GradientDescent, 1e-3, 10)
        };
        let problem = TrainingProblem { model, data, initial };
        train_measured(&problem, &options, 0, |_, seen| measure(seen.step))
    }

    fn steps(run: &MeasuredRun<Step>) -> Vec<u64> {
        run.path.iter().map(|step| step.0).collect()
    }

    #[test]
    fn every_checkpoint_but_the_end_is_on_the_path() {
        let run = run(|step| Ok(Step(step))).unwrap();
        assert_eq!(steps(&run), [0, 1, 3, 6], "2 is not finite");
        assert_eq!(run.end.unwrap().0.0, 10);
    }

    #[test]
    fn an_error_at_a_checkpoint_is_not_swallowed() {
        let failing = run(|step| match step {
            3 => Err(CellError::NotConverged { value: 1.0, residual: 1.0, products: 7 }),
            // A later error does not hide the first one.
            6.. => Err(CellError::NotConverged { value: 1.0, residual: 1.0, products: 9 }),
            _ => Ok(Step(step)),
        });
        let error = failing.map(|run| steps(&run)).unwrap_err();
        assert!(matches!(error, CellError::NotConverged { products: 7, .. }), "{error}");
    }

    #[test]
    fn a_state_that_overflowed_is_left_out() {
        let run = run(|step| match step {
            3 => Err(CurvatureError::NotFinite { index: 0, value: f64::INFINITY }.into()),
            _ => Ok(Step(step)),
        });
        assert_eq!(steps(&run.unwrap()), [0, 1, 6]);
    }
}
