//! `flatmin analyze --rank` and `--relative-width`: a bracket for the threshold, from products.

mod report;
mod text;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use faer::{Mat, MatRef};
use flatmin_host::{Exit, Format, Progress, interrupt, note, print, print_json, significant};
use flatmin_linalg::{EigenError, JacobianError, Parallelism, symmetric_eigenvalues};
use flatmin_theory::{
    Batch, BracketBounds, BracketError, BracketOptions, BracketProgress, Noise, Optimizer,
    ResidualGradients, Sampling, Subspace, ThresholdBracket, continue_bracket,
};

pub(super) use self::report::report;
pub(super) use self::text::render;
use super::analysis::{INTERPOLATES, Model};
use super::arguments::AnalyzeArguments;
use super::doubts::{Doubt, Facts, doubts};
use super::input::{Input, LargeMinimum, pass_bytes};
use super::training::Loss;
use crate::failure::Failure;
use crate::values;
use crate::words::PROGRAM;

/// The relative width that is asked for where only the rank is given: narrower than any rank gives.
const NARROWEST: f64 = 1e-6;

/// The largest rank where only the width is given.
const MAX_RANK: usize = 4000;

/// The time before the first line of progress and between two lines, where standard error is no
/// terminal.
const FIRST_LINE: Duration = Duration::from_secs(2);
const LINE_TIME: Duration = Duration::from_secs(10);

/// The options of a bracket.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct BracketArguments {
    /// Bracket the threshold by at most R leading modes, without an nk × nk matrix: for any number
    /// of samples. The file is read again for every product.
    #[arg(
        long,
        value_name = "R",
        value_parser = values::positive_count,
        conflicts_with_all = ["gram", "almost_sure", "figure", "drop_last"]
    )]
    rank: Option<usize>,
    /// Bracket the threshold by so many modes that the relative width of the bracket is at most W.
    #[arg(
        long,
        value_name = "W",
        value_parser = values::positive,
        conflicts_with_all = ["gram", "almost_sure", "figure", "drop_last"]
    )]
    relative_width: Option<f64>,
}

impl BracketArguments {
    /// True if a bracket is asked for.
    pub(super) fn is_wanted(self) -> bool {
        self.rank.is_some() || self.relative_width.is_some()
    }

    /// Checks that the options fit a bracket, before anything is read.
    pub(super) fn check(arguments: &AnalyzeArguments) -> Result<(), Failure> {
        arguments.batches.check()?;
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        if arguments.batches.sampling() == Sampling::Reshuffling {
            return usage("a bracket is for independent batches: leave --sampling reshuffling out");
        }
        let optimizer = arguments.training.optimizer.optimizer()?;
        if optimizer.coupled_decay() + optimizer.decoupled_decay() > 0.0 {
            return usage(
                "a bracket has no weight decay: leave it out of --rank or --relative-width",
            );
        }
        Ok(())
    }

    fn options(self, memory: usize, parallelism: Parallelism) -> BracketOptions {
        let max_rank = self.rank.unwrap_or(MAX_RANK);
        BracketOptions {
            relative_width: self.relative_width.unwrap_or(NARROWEST),
            max_rank,
            // Restarts take a few times as many products as the modes that they leave.
            max_products: max_rank.saturating_mul(10).saturating_add(1000),
            max_bytes: memory.saturating_sub(pass_bytes()).max(64 << 20),
            parallelism,
            ..BracketOptions::default()
        }
    }
}

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
    pub(super) gradients: Option<ResidualGradients>,
    pub(super) doubts: Vec<Doubt>,
    pub(super) batches: Vec<BatchBracket>,
}

/// The bracket for one batch size.
#[derive(Debug)]
pub(crate) struct BatchBracket {
    pub(super) batch_size: usize,
    pub(super) noise: Noise,
    /// Its learning rates are those of the scaled loss; trace and modes are those of the loss
    /// without scale.
    pub(super) bracket: ThresholdBracket,
}

impl BatchBracket {
    /// The verdict on a learning rate in one word, and η*/η − 1 for the estimate.
    pub(super) fn verdict(&self, learning_rate: f64) -> (&'static str, f64) {
        let word = crate::edge::verdict_word(self.bracket.stability(learning_rate));
        (word, self.bracket.estimate / learning_rate - 1.0)
    }
}

/// Brackets the thresholds of a file and prints them. An interrupt ends the growth of the subspace,
/// and the bracket reached is printed.
pub(super) fn run(
    arguments: &AnalyzeArguments,
    input: Input,
    parallelism: Parallelism,
) -> Result<Exit, Failure> {
    BracketArguments::check(arguments)?;
    interrupt::watch(PROGRAM, "the bracket", Some("stopping with the bracket reached"));
    let source = input.products(parallelism)?;
    let stop = &interrupt::requested;
    let analysis = BracketAnalysis::new(arguments, &source, parallelism, stop)?;
    match arguments.format {
        Format::Text => print(&render(arguments, &analysis))?,
        Format::Json => print_json(&report(arguments, &analysis))?,
    }
    let is_doubtful = !(analysis.doubts.is_empty() || arguments.trust_input);
    let rates = &arguments.batches.learning_rate;
    let has_unstable = analysis
        .batches
        .iter()
        .any(|batch| rates.iter().any(|rate| batch.verdict(*rate).0 == "unstable"));
    Ok(Exit::of_check(!(arguments.check && (has_unstable || is_doubtful))))
}

impl BracketAnalysis {
    /// Brackets the thresholds for all batch sizes, from one subspace.
    pub(super) fn new(
        arguments: &AnalyzeArguments,
        source: &LargeMinimum<'_>,
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
        let gradients = source.gradients(&grams).map_err(own)?;
        let largest = source.residuals.as_ref().map(|found| found.largest);
        let interpolates =
            largest.map_or(training.loss == Loss::Squared, |largest| largest <= INTERPOLATES);
        let model = if interpolates { Model::Exact } else { Model::GaussNewton };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
        let memory = (arguments.memory_limit * f64::from(1 << 30)) as usize;
        let options = arguments.bracket.options(memory, parallelism);
        let scale = arguments.loss_scale;
        let unscaled = optimizer.for_loss_scale(1.0 / scale);
        let (mut subspace, mut found) = (Subspace::new(), Vec::new());
        for &batch_size in &batches.batch_size {
            let batch: Batch = batches.of_size(batch_size).map_err(Failure::at(path))?;
            let noise = batch.noise(jacobian.sample_count()).map_err(Failure::at(path))?;
            let mut watch = Watch::new(batch_size, scale, stop);
            let watch = &mut |progress: &BracketProgress| watch.tell(progress);
            let bracket =
                continue_bracket(jacobian, &unscaled, &batch, &options, &mut subspace, watch)
                    .map_err(|error| failure(path, error))?;
            found.push(BatchBracket { batch_size, noise, bracket: scaled(bracket, scale) });
        }
        let rates = &batches.learning_rate;
        let margins = found
            .iter()
            .flat_map(|batch| rates.iter().map(|rate| batch.bracket.estimate / rate))
            .reduce(f64::max);
        let doubts = source.evidence.as_ref().map(|evidence| {
            doubts(&Facts {
                evidence,
                residuals: source.residuals.as_ref(),
                gradients,
                decays: false,
                margin: margins,
            })
        });
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
            gradients,
            doubts: doubts.unwrap_or_default(),
            batches: found,
        })
    }
}

/// An error of the file is said as such, without the product in which it came up.
fn failure(path: &Path, error: BracketError) -> Failure {
    let BracketError::Jacobian(JacobianError::Failed { source, .. }) = error else {
        return Failure::input(path, error.to_string());
    };
    source.downcast().map_or_else(|other| Failure::input(path, other.to_string()), |own| *own)
}

/// The bracket for `scale` times the loss.
fn scaled(mut bracket: ThresholdBracket, scale: f64) -> ThresholdBracket {
    let BracketBounds { trace, lambda_max, spectral, sufficient, contraction } =
        &mut bracket.bounds;
    let rates = [&mut bracket.lower, &mut bracket.upper, &mut bracket.estimate];
    for rate in rates.into_iter().chain([trace, lambda_max, spectral, sufficient, contraction]) {
        *rate /= scale;
    }
    bracket
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

impl LargeMinimum<'_> {
    /// The mean of the samples' gradients and the root of their mean square, if there are residuals;
    /// `grams` are the `J_iJ_iᵀ`.
    fn gradients(&self, grams: &[f64]) -> Result<Option<ResidualGradients>, JacobianError> {
        let Some(residuals) = &self.residuals else { return Ok(None) };
        let jacobian = &self.jacobian;
        let (n, k) = (jacobian.sample_count(), jacobian.output_count());
        let vector = Mat::from_fn(n * k, 1, |row, _| residuals.weighted[row]);
        let mut mean = Mat::zeros(jacobian.parameter_count(), 1);
        jacobian.vjp(vector.as_ref(), mean.as_mut())?;
        let squares = residuals.weighted.chunks(k).zip(grams.chunks(k * k)).map(|(r, gram)| {
            let pairs = gram.iter().enumerate();
            pairs.map(|(place, entry)| r[place / k] * entry * r[place % k]).sum::<f64>()
        });
        let mean_square = squares.sum::<f64>() / n as f64;
        Ok(Some(ResidualGradients {
            mean: mean.norm_l2() / n as f64,
            root_mean_square: mean_square.max(0.0).sqrt(),
        }))
    }
}

/// The progress of a bracket, on a bar or in lines.
struct Watch<'a> {
    stop: &'a dyn Fn() -> bool,
    bar: Progress,
    batch_size: usize,
    scale: f64,
    started: Instant,
    /// The time of the last line.
    told: Option<Instant>,
}

impl<'a> Watch<'a> {
    fn new(batch_size: usize, scale: f64, stop: &'a dyn Fn() -> bool) -> Self {
        let bar = Progress::spinner(&format!("bracket for batch size {batch_size}"));
        let started = Instant::now();
        Self { stop, bar, batch_size, scale, started, told: None }
    }

    /// Tells what was reached, and whether to go on.
    fn tell(&mut self, progress: &BracketProgress) -> ControlFlow<()> {
        let interval = progress.interval.map_or(String::new(), |(lower, upper)| {
            let [lower, upper] = [lower, upper].map(|end| significant(end / self.scale, 4));
            format!(", bracket so far [{lower}, {upper}]")
        });
        let line = format!(
            "batch size {}: {} modes from {} products{interval}",
            self.batch_size, progress.rank, progress.products
        );
        self.bar.message(&line);
        let is_due = match self.told {
            None => self.started.elapsed() >= FIRST_LINE,
            Some(told) => told.elapsed() >= LINE_TIME,
        };
        if is_due && !self.bar.is_shown() {
            let seconds = self.started.elapsed().as_secs();
            note(&format_args!("{line}, after {seconds} s"));
            self.told = Some(Instant::now());
        }
        if (self.stop)() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
