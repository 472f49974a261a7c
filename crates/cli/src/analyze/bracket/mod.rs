//! `flatmin analyze --rank` and `--relative-width`: a bracket for the threshold, from products.

mod report;
mod text;

use faer::MatRef;
use flatmin_host::{Exit, Format, interrupt, print, print_json};
use flatmin_linalg::{EigenError, JacobianError, Parallelism, symmetric_eigenvalues};
use flatmin_theory::{Optimizer, ResidualGradients};

pub(super) use self::report::report;
pub(super) use self::text::render;
use super::analysis::Model;
use super::arguments::AnalyzeArguments;
use super::doubts::{Doubt, Facts, doubts, of_point};
use super::input::{Input, LargeMinimum, pass_bytes};
use super::point::{Point, Residuals};
use super::reading::sentence;
use super::text::reading_text;
use super::training::Loss;
use crate::brackets::{Asked, BatchBracket, failure};
use crate::failure::Failure;
use crate::words::PROGRAM;

/// The brackets at a minimum for `c` times the loss, with c of `--loss-scale`.
#[derive(Debug)]
pub(crate) struct BracketAnalysis {
    pub(super) samples: usize,
    pub(super) outputs: usize,
    pub(super) parameters: usize,
    pub(super) array: Option<String>,
    pub(super) element: Option<String>,
    /// The largest `‖g_i‖²`, or `λ_max(J_iJ_iᵀ)` for several outputs, of the loss without scale.
    pub(super) largest_own: f64,
    pub(super) optimizer: Optimizer,
    pub(super) is_preconditioned: bool,
    pub(super) model: Model,
    /// The point, if the residuals show it.
    pub(super) point: Option<Point>,
    /// The words that say how the array was read; `None` if there is no array.
    pub(super) reading: Option<ReadingWords>,
    pub(super) doubts: Vec<Doubt>,
    pub(super) batches: Vec<BatchBracket>,
    /// The reason why a bracket takes the place of an exact threshold, and the limits of this
    /// bracket; `None` where one was asked for.
    pub(super) in_place_of_exact: Option<(String, String)>,
}

/// The reading of an array in words.
#[derive(Debug)]
pub(crate) struct ReadingWords {
    /// One sentence.
    pub(super) sentence: String,
    /// The sentence and hints about other readings, in lines.
    pub(super) text: String,
}

/// Checks that the options fit a bracket, before anything is read.
pub(super) fn check(arguments: &AnalyzeArguments) -> Result<(), Failure> {
    let optimizer = arguments.training.optimizer.optimizer()?;
    arguments.bracket.check(&arguments.batches, &optimizer)
}

/// Brackets the thresholds of a file and prints them. An interrupt ends the growth of the subspace,
/// and the bracket reached is printed.
pub(super) fn run(
    arguments: &AnalyzeArguments,
    input: Input,
    parallelism: Parallelism,
) -> Result<Exit, Failure> {
    check(arguments)?;
    interrupt::watch(PROGRAM, "the bracket", Some("stopping with the bracket reached"));
    let reason = input.excess().map(str::to_owned);
    let source = input.products(parallelism)?;
    let stop = &interrupt::requested;
    let analysis = BracketAnalysis::new(arguments, &source, reason, parallelism, stop)?;
    match arguments.format {
        Format::Text => print(&render(arguments, &analysis))?,
        Format::Json => print_json(&report(arguments, &analysis))?,
    }
    let is_doubtful = analysis.is_doubtful(arguments);
    let rates = &arguments.batches.learning_rate;
    let has_unstable =
        analysis.batches.iter().any(|batch| rates.iter().any(|rate| batch.is_unstable(*rate)));
    Ok(Exit::of_check(!(arguments.check && (has_unstable || is_doubtful))))
}

impl BracketAnalysis {
    /// Brackets the thresholds for all batch sizes, from one subspace. `reason` says why they take
    /// the place of exact ones.
    pub(super) fn new(
        arguments: &AnalyzeArguments,
        source: &LargeMinimum<'_>,
        reason: Option<String>,
        parallelism: Parallelism,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, Failure> {
        let (training, batches) = (&arguments.training, &arguments.batches);
        let (path, optimizer) = (&arguments.file, training.optimizer.optimizer()?);
        let own = |error: JacobianError| failure(path, error.into());
        let jacobian = source.jacobian.as_ref();
        let mut grams = vec![0.0; jacobian.row_count() * jacobian.output_count()];
        jacobian.sample_grams(&mut grams).map_err(own)?;
        let largest_own = largest(&grams, jacobian.output_count()).map_err(Failure::at(path))?;
        let residuals = source.residuals.as_ref();
        let point = residuals.filter(|found| found.are_of_the_model).map(|found| {
            let gradients = ResidualGradients::from_products(jacobian, &found.weighted, &grams);
            let samples = jacobian.sample_count();
            let point = |gradients| Point::new(found, gradients, samples, arguments.loss_scale);
            gradients.map(|gradients| Point { is_bound: true, ..point(gradients) }).map_err(own)
        });
        let point = point.transpose()?;
        let interpolates = residuals.map_or(training.loss == Loss::Squared, Residuals::interpolate);
        let model = if interpolates { Model::Exact } else { Model::GaussNewton };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
        let memory = (arguments.memory_limit * f64::from(1 << 30)) as usize;
        let reason = reason.filter(|_| !arguments.bracket.is_wanted());
        let bracket = match &reason {
            Some(_) => arguments.bracket.in_place_of_exact(),
            None => arguments.bracket.clone(),
        };
        let asked = Asked {
            path,
            batches,
            optimizer: &optimizer,
            loss_scale: arguments.loss_scale,
            arguments: &bracket,
            memory: memory.saturating_sub(pass_bytes()),
            parallelism,
            stop,
        };
        let found = asked.brackets(jacobian)?;
        let rates = &batches.learning_rate;
        let margins = found
            .iter()
            .flat_map(|batch| rates.iter().map(|rate| batch.bracket.estimate / rate))
            .reduce(f64::max);
        let has_residuals = residuals.is_some();
        let reading = source.evidence.as_ref().map(|evidence| ReadingWords {
            sentence: sentence(evidence, has_residuals),
            text: reading_text(arguments, evidence, has_residuals),
        });
        let doubts = match &source.evidence {
            Some(evidence) => doubts(&Facts { evidence, residuals, point, margin: margins }),
            None => point.as_ref().and_then(of_point).into_iter().collect(),
        };
        Ok(Self {
            samples: jacobian.sample_count(),
            outputs: jacobian.output_count(),
            parameters: jacobian.parameter_count(),
            array: source.array.clone(),
            element: source.element.clone(),
            largest_own,
            optimizer,
            is_preconditioned: training.preconditioner.is_some(),
            model,
            point,
            reading,
            doubts,
            batches: found,
            in_place_of_exact: reason.map(|reason| (reason, bracket.limits_text())),
        })
    }

    /// True if there are doubts, and the input is not to be trusted in spite of them.
    pub(super) fn is_doubtful(&self, arguments: &AnalyzeArguments) -> bool {
        !(self.doubts.is_empty() || arguments.trust_input)
    }
}

/// The largest eigenvalue of k × k matrices that follow each other.
fn largest(grams: &[f64], k: usize) -> Result<f64, EigenError> {
    let mut largest = 0.0_f64;
    for gram in grams.chunks(k * k) {
        let values = symmetric_eigenvalues(MatRef::from_row_major_slice(gram, k, k))?;
        largest = values.iter().fold(largest, |largest, value| largest.max(*value));
    }
    Ok(largest)
}
