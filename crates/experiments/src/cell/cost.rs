//! Expected running times of cells.
//!
//! A training run is expected to take the steps until the stopping rule is usually met, not the
//! most it may take, each at a fixed time for a weight and a sample; to that come checkpoints and
//! studies, whose eigenproblems grow with n³. The constants are means over reproductions of the
//! profiles `quick` and `paper` on one core of a server: sums are within a factor of 1.5 of the
//! truth, most kinds of cell within a factor of 3.

use flatmin_optim::Method;

use super::{
    ClassSpec, DeepSpec, DeepTask, DiagonalProblem, EpochSpec, EstimatorSpec, InterpolatorSpec,
    MinimizedNorm, NormSpec, PerturbedSpec, PlateauModel, PlateauSpec, Problem, ReluProblem,
    SensingReferenceSpec, SensingSpec, StabilityStudy, TrainSpec, UnivariateSpec,
};

/// Seconds of a training run of a shallow network.
pub(super) fn shallow(spec: &TrainSpec) -> f64 {
    let gd = spec.method == Method::GradientDescent;
    let samples = samples_per_step(spec.method, spec.problem.sample_count());
    let (setup, step, expected_steps) = match spec.problem {
        Problem::Relu(ReluProblem { width, input_dim, test_count, .. }) => {
            // Steps of several samples are made by other kernels.
            let batch = if !gd && samples > 1.0 { 5e-6 } else { 0.0 };
            let step = batch + 5e-11 * width as f64 * input_dim as f64 * samples;
            let steps = if gd { 1e3 } else { 6e4 / samples };
            // Tightly clipped networks do not come to rest.
            let steps = if spec.clip_norm <= 1.0 { f64::INFINITY } else { steps };
            (7e-8 * test_count as f64 * input_dim as f64, step, steps)
        }
        Problem::Diagonal(DiagonalProblem { input_dim, sample_count, test_count, .. }) => {
            let step = if gd { 1.5e-10 } else { 2e-10 } * input_dim as f64 * samples;
            // A few samples are fitted in fewer steps.
            let n = sample_count as f64;
            let steps =
                if gd { 4.5e3 * (n / 300.0).powi(2).min(1.0) } else { 2e5 * (n / 100.0).min(1.0) };
            (4e-9 * test_count as f64 * input_dim as f64, step, steps)
        }
    };
    let steps = expected_steps.min(spec.max_steps as f64);
    // Along SGD exact thresholds are computed too.
    let checkpoint = if gd { 3e-3 } else { 2e-2 };
    let study = match spec.study {
        StabilityStudy::None => 0.0,
        StabilityStudy::Threshold if gd => 0.08,
        StabilityStudy::Threshold => 0.15,
        StabilityStudy::Dynamics { replicas } => 0.5 + 1.8e-5 * replicas as f64,
    };
    let checkpoints = checkpoint_count(spec.checkpoints_per_decade, steps);
    let eigenproblems = cubic(spec.problem.sample_count()) * (checkpoints * checkpoint + study);
    setup + step * steps + eigenproblems
}

/// Seconds of a training run of a deep network.
pub(super) fn deep(spec: &DeepSpec) -> f64 {
    let gd = spec.method == Method::GradientDescent;
    let samples = samples_per_step(spec.method, spec.sample_count);
    // In floating point: a specification may come from a file.
    let (width, inputs) = (spec.width as f64, spec.task.input_dim() as f64);
    let weights = width * (inputs + width * (spec.depth as f64 - 2.0).max(0.0) + 1.0);
    let step = if gd { 6e-11 } else { 1.2e-10 } * weights * samples;
    let expected_steps: f64 = match (gd, spec.task) {
        (false, _) => 1e5,
        (true, DeepTask::Teacher { .. }) => 3e3,
        (true, DeepTask::DigitParity) => 1.2e4,
    };
    let steps = expected_steps.min(spec.max_steps as f64);
    let checkpoint = if gd { 6e-3 } else { 1.8e-2 };
    let checkpoints = checkpoint_count(spec.checkpoints_per_decade, steps);
    0.01 + step * steps + cubic(spec.sample_count) * checkpoints * checkpoint
}

/// Seconds of an interpolator.
pub(super) fn interpolator(spec: &InterpolatorSpec) -> f64 {
    let (n, d) = (spec.problem.sample_count as f64, spec.problem.input_dim as f64);
    let thresholds = if spec.with_thresholds { 1e-9 * n.powi(3) } else { 0.0 };
    let interpolator = match spec.minimizes {
        MinimizedNorm::L1 => 2e-8 * n * d,
        MinimizedNorm::L2 => 1e-10 * n * n * (n + d),
    };
    5e-4 + thresholds + interpolator
}

/// Seconds of the norm theorems on networks of one size.
pub(super) fn norms(spec: &NormSpec) -> f64 {
    5e-4 * spec.networks as f64
}

/// Seconds of many estimates of a trace: the products and the orthogonalisation of their vectors.
pub(super) fn estimator(spec: &EstimatorSpec) -> f64 {
    let (dim, products) = (spec.dim as f64, spec.products as f64);
    spec.replicas as f64 * (2.0 * dim * dim * products + 8.0 * dim * products.powi(2)) / 4e10
}

/// Seconds of a training run of matrix sensing.
pub(super) fn sensing(spec: &SensingSpec) -> f64 {
    let gd = spec.method == Method::GradientDescent;
    let (d, n) = (spec.problem.dim as f64, spec.problem.sample_count);
    // Products with the factors, and the pass over the inputs.
    let step = 7e-11 * d.powi(3) + if gd { 3e-10 * d * d * n as f64 } else { 0.0 };
    let expected_steps = if gd { 3e3 } else { 1.2e5 };
    let steps = f64::min(expected_steps, spec.max_steps as f64);
    let threshold = if spec.with_threshold && !gd { 0.08 * cubic(n) } else { 0.0 };
    1e-3 + step * steps + threshold
}

/// Seconds of the interpolators of one problem: a few hundred iterations, each with two passes over
/// the measurements.
pub(super) fn sensing_reference(spec: &SensingReferenceSpec) -> f64 {
    let (n, d) = (spec.problem.sample_count as f64, spec.problem.dim as f64);
    let minimum = 8e-8 * n * d * d / 24.0 + 1.2e-9 * 1e3 * d.powi(3);
    1e-3 + if spec.with_stability { 3.0 } else { 1.0 } * minimum
}

/// Seconds of a training run of a network on one input.
pub(super) fn univariate(spec: &UnivariateSpec) -> f64 {
    let gd = spec.method == Method::GradientDescent;
    let samples = samples_per_step(spec.method, spec.problem.sample_count);
    let step = 8e-10 * spec.problem.width as f64 * samples;
    let expected_steps = if gd { 2e4 } else { 3e5 };
    2e-3 + step * f64::min(expected_steps, spec.max_steps as f64)
}

/// Seconds of a training run with cross-entropy.
pub(super) fn classes(spec: &ClassSpec) -> f64 {
    let weights = 69.0 * spec.problem.width as f64;
    let step = 2e-10 * weights * spec.batch_size as f64 + 1e-6;
    let steps = f64::min(1.5e4, spec.max_steps as f64);
    // Five outputs of a sample have five rows.
    let minimum = 5.0 * cubic(spec.problem.sample_count);
    step * steps + (1.0 + checkpoint_count(spec.checkpoints_per_decade, steps)) * minimum
}

/// Seconds of pushes: the run that leads to the minimum, and the steps after them.
pub(super) fn perturbed(spec: &PerturbedSpec) -> f64 {
    let weights = 69.0 * spec.training.problem.width as f64;
    let step = 1.2e-10 * weights * spec.batch_size as f64 + 2e-6;
    classes(&spec.training) + 4.0 * step * (spec.replicas * spec.steps) as f64
}

/// Seconds of a training run with independent or reshuffled batches.
pub(super) fn epochs(spec: &EpochSpec) -> f64 {
    let n = spec.problem.sample_count;
    let step = 5e-11 * (spec.problem.width * spec.problem.input_dim * spec.batch_size) as f64;
    let steps = f64::min(3e4 / spec.batch_size as f64, spec.max_steps as f64);
    // The scan for the edge, and the orders of the estimate. Both act on few modes, so that their
    // cost hardly depends on the number of samples beyond a hundred.
    let edge = |orders: usize| (0.5 + 0.009 * orders as f64) * (n as f64 / 100.0).min(1.0);
    let edge_at_end = if spec.edge_orders > 0 { edge(spec.edge_orders) } else { 0.0 };
    let trials = spec.short_batch.map_or(0.0, |short| {
        let steps = (short.trials * short.epochs * n * spec.problem.width) as f64;
        2e-10 * steps * spec.problem.input_dim as f64 + 3.0 * edge(64)
    });
    2e-3 + step * steps + edge_at_end + trials
}

/// Seconds of the plateaus of one optimizer.
pub(super) fn plateau(spec: &PlateauSpec) -> f64 {
    let values = match spec.model {
        PlateauModel::Linear { parameters, outputs } => parameters * outputs,
        PlateauModel::Tanh { input_dim, width } => 2 * input_dim * width,
    };
    let step = 1e-7 + 1e-9 * (values * spec.batch_size) as f64;
    step * (spec.factors.len() as f64) * spec.steps as f64
}

fn samples_per_step(method: Method, sample_count: usize) -> f64 {
    match method {
        Method::GradientDescent => sample_count as f64,
        Method::Sgd { batch_size, .. } => batch_size as f64,
    }
}

fn checkpoint_count(per_decade: u32, steps: f64) -> f64 {
    f64::from(per_decade) * libm::log10(steps.max(1.0))
}

/// The growth of eigenproblems with n, in units of those at n = 300.
fn cubic(sample_count: usize) -> f64 {
    (sample_count as f64 / 300.0).powi(3)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::cell::CellSpec;
    use crate::runs::method_name;
    use crate::{EXPERIMENTS, Profile, Settings, expand};

    /// The expected seconds of a profile by kind of cell.
    fn by_kind(profile: Profile) -> BTreeMap<String, f64> {
        let mut kinds = BTreeMap::new();
        for cell in expand(EXPERIMENTS, &Settings::new(profile)) {
            let kind = match &cell {
                CellSpec::Train(spec) => {
                    format!("{} {}", spec.problem.family().name(), method_name(spec.method))
                }
                CellSpec::Deep(spec) if spec.checkpoints_per_decade > 0 => {
                    format!("followed {}", method_name(spec.method))
                }
                CellSpec::Deep(spec) => format!("deep {}", method_name(spec.method)),
                CellSpec::Interpolator(_) => "interpolator".to_owned(),
                CellSpec::Norms(_) => "norms".to_owned(),
                CellSpec::Estimator(_) => "trace".to_owned(),
                CellSpec::Sensing(spec) => format!("sensing {}", method_name(spec.method)),
                CellSpec::SensingReference(_) => "sensing references".to_owned(),
                CellSpec::Univariate(spec) => format!("univariate {}", method_name(spec.method)),
                CellSpec::Classes(_) => "classes".to_owned(),
                CellSpec::Perturbed(_) => "pushes".to_owned(),
                CellSpec::Epochs(_) => "epochs".to_owned(),
                CellSpec::Plateau(_) => "plateaus".to_owned(),
            };
            assert!(cell.cost() > 0.0 && cell.cost() < 60.0, "{}: {}", cell.label(), cell.cost());
            *kinds.entry(kind).or_insert(0.0) += cell.cost();
        }
        kinds
    }

    #[test]
    fn sums_have_the_scale_of_measured_times() {
        // Seconds of all cells on one core, as reproductions recorded them.
        for (profile, seconds) in
            [(Profile::Quick, 46.5), (Profile::Paper, 174.1), (Profile::Full, 4876.0)]
        {
            let sum: f64 = by_kind(profile).values().sum();
            let ratio = sum / seconds;
            assert!((1.0 / 1.5..1.5).contains(&ratio), "{profile}: {sum} s, measured {seconds} s");
        }
    }

    #[test]
    fn kinds_have_the_scale_of_measured_times() {
        let kinds = by_kind(Profile::Paper);
        let measured = [
            ("classes", 9.0),
            ("deep GD", 23.1),
            ("deep SGD", 5.0),
            ("diagonal GD", 13.6),
            ("diagonal SGD", 11.3),
            ("epochs", 10.0),
            ("followed GD", 5.3),
            ("followed SGD", 14.8),
            ("interpolator", 2.4),
            ("norms", 0.3),
            ("plateaus", 4.5),
            ("pushes", 2.5),
            ("relu GD", 11.7),
            ("relu SGD", 32.7),
            ("sensing GD", 5.2),
            ("sensing SGD", 5.1),
            ("sensing references", 0.7),
            ("trace", 8.0),
            ("univariate GD", 0.9),
            ("univariate SGD", 2.0),
        ];
        assert_eq!(kinds.len(), measured.len(), "{kinds:?}");
        for (kind, seconds) in measured {
            let ratio = kinds[kind] / seconds;
            assert!((1.0 / 3.0..3.0).contains(&ratio), "{kind}: {} s", kinds[kind]);
        }
    }

    #[test]
    fn larger_cells_are_expected_to_take_longer() {
        let smoke: f64 = by_kind(Profile::Smoke).values().sum();
        let [quick, paper, full] = [Profile::Quick, Profile::Paper, Profile::Full]
            .map(|profile| by_kind(profile).values().sum::<f64>());
        assert!(10.0 * smoke < quick && quick < paper && 3.0 * paper < full);
    }
}
