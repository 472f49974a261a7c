//! Brackets for thresholds from products with a Jacobian, as several commands ask for them.

mod checkpoint;
mod forecast;
mod report;
mod text;
mod watch;

use std::path::{Path, PathBuf};

use clap::Args;
use flatmin_host::{check_writable, significant};
use flatmin_linalg::{JacobianError, JacobianProducts, Parallelism};
use flatmin_theory::{
    BracketBounds, BracketError, BracketOptions, BracketProgress, Noise, Optimizer, Sampling,
    Stability, Subspace, ThresholdBracket, continue_bracket,
};

use self::checkpoint::Checkpoint;
pub(crate) use self::report::{FoundReport, LeadingReport, lambda_max};
pub(crate) use self::text::{bounds_text, ends_text};
use self::watch::Watch;
use crate::batches::Batches;
use crate::edge::{Edge, verdict_word};
use crate::failure::Failure;
use crate::values;

/// The relative width that is asked for where only the rank is given: narrower than any rank gives.
const NARROWEST: f64 = 1e-6;

/// The largest rank where only the width is given.
const MAX_RANK: usize = 4000;

/// The width and the rank of a bracket that takes the place of an exact threshold without being
/// asked for.
const USUAL_WIDTH: f64 = 0.05;
const USUAL_RANK: usize = 400;

/// The least memory that is asked for, in bytes.
const LEAST_MEMORY: usize = 64 << 20;

/// The options of a bracket.
#[derive(Debug, Clone, Args)]
pub(crate) struct BracketArguments {
    /// Bracket the threshold by at most R leading modes, without an nk × nk matrix: for any number
    /// of samples. Products with the Jacobian are all that is needed; a file is read again for each
    /// block of them.
    #[arg(long, value_name = "R", value_parser = values::positive_count)]
    rank: Option<usize>,
    /// Bracket the threshold by so many modes that the relative width of the bracket is at most W.
    #[arg(long, value_name = "W", value_parser = values::positive)]
    relative_width: Option<f64>,
    /// Keep the modes of a bracket in FILE, written every minute or less often, and go on from those
    /// in it. A file of another Jacobian is refused.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

impl BracketArguments {
    /// True if a bracket is asked for.
    pub(crate) fn is_wanted(&self) -> bool {
        self.rank.is_some() || self.relative_width.is_some()
    }

    /// Checks that the options fit a bracket, before anything is read.
    pub(crate) fn check(&self, batches: &Batches, optimizer: &Optimizer) -> Result<(), Failure> {
        batches.check()?;
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        if !self.is_wanted() {
            if self.checkpoint.is_some() {
                return usage("--checkpoint is about a bracket: give --relative-width or --rank");
            }
            return Ok(());
        }
        if let Some(obstacle) = obstacle(batches, optimizer) {
            return usage(match obstacle {
                Obstacle::Epochs => {
                    "a bracket is for independent batches: leave --sampling reshuffling out"
                }
                Obstacle::Decay => {
                    "a bracket has no weight decay: leave it out of --rank or --relative-width"
                }
            });
        }
        if let Some(path) = &self.checkpoint {
            check_writable(path)?;
        }
        Ok(())
    }

    /// The options of the bracket that takes the place of an exact threshold, where none is asked
    /// for.
    pub(crate) fn in_place_of_exact(&self) -> Self {
        Self {
            rank: Some(USUAL_RANK),
            relative_width: Some(USUAL_WIDTH),
            checkpoint: self.checkpoint.clone(),
        }
    }

    /// The limits of the bracket in words.
    pub(crate) fn limits_text(&self) -> String {
        let width = self.relative_width.unwrap_or(NARROWEST);
        let rank = self.rank.unwrap_or(MAX_RANK);
        format!("{} % wide or with {rank} modes", significant(100.0 * width, 3))
    }

    fn options(&self, memory: usize, parallelism: Parallelism) -> BracketOptions {
        let max_rank = self.rank.unwrap_or(MAX_RANK);
        BracketOptions {
            relative_width: self.relative_width.unwrap_or(NARROWEST),
            max_rank,
            // Restarts take a few times as many products as the modes that they leave.
            max_products: max_rank.saturating_mul(10).saturating_add(1000),
            max_bytes: memory.max(LEAST_MEMORY),
            parallelism,
            ..BracketOptions::default()
        }
    }
}

/// The reason why a threshold has no bracket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The batches of an epoch depend on each other.
    Epochs,
    /// The optimizer has weight decay.
    Decay,
}

impl Obstacle {
    /// The limit of brackets in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Epochs => "reshuffled epochs have no bracket",
            Self::Decay => "weight decay has no bracket",
        }
    }
}

/// The reason why these batches and this optimizer have no bracket, if there is one.
pub(crate) fn obstacle(batches: &Batches, optimizer: &Optimizer) -> Option<Obstacle> {
    if batches.sampling() == Sampling::Reshuffling {
        return Some(Obstacle::Epochs);
    }
    let decays = optimizer.coupled_decay() + optimizer.decoupled_decay() > 0.0;
    decays.then_some(Obstacle::Decay)
}

/// The bracket for one batch size.
#[derive(Debug)]
pub(crate) struct BatchBracket {
    pub(crate) batch_size: usize,
    pub(crate) noise: Noise,
    /// Its learning rates are those of the scaled loss; trace and modes are those of the loss
    /// without scale.
    pub(crate) bracket: ThresholdBracket,
}

impl BatchBracket {
    /// The verdict on a learning rate in one word, and η*/η − 1 for the estimate.
    pub(crate) fn verdict(&self, learning_rate: f64) -> (&'static str, f64) {
        let word = verdict_word(self.bracket.stability(learning_rate));
        (word, self.bracket.estimate / learning_rate - 1.0)
    }

    /// The ends as an edge.
    pub(crate) fn edge(&self) -> Edge {
        let ThresholdBracket { lower, upper, estimate, failure_probability, .. } = self.bracket;
        Edge::of_bracket((lower, upper), estimate, 1.0 - failure_probability)
    }

    /// True if the learning rate is unstable.
    pub(crate) fn is_unstable(&self, learning_rate: f64) -> bool {
        self.bracket.stability(learning_rate) == Stability::Unstable
    }
}

/// What is asked about a Jacobian.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The input, which errors of the Jacobian are about.
    pub(crate) path: &'a Path,
    pub(crate) batches: &'a Batches,
    pub(crate) optimizer: &'a Optimizer,
    pub(crate) loss_scale: f64,
    pub(crate) arguments: &'a BracketArguments,
    /// Bytes for the subspace and the work on it.
    pub(crate) memory: usize,
    pub(crate) parallelism: Parallelism,
    /// Tells a bracket to end with what it has reached.
    pub(crate) stop: &'a dyn Fn() -> bool,
}

impl Asked<'_> {
    /// The brackets for all batch sizes, from one subspace.
    pub(crate) fn brackets(
        &self,
        jacobian: &dyn JacobianProducts,
    ) -> Result<Vec<BatchBracket>, Failure> {
        let Self { path, batches, loss_scale, .. } = *self;
        let options = self.arguments.options(self.memory, self.parallelism);
        let unscaled = self.optimizer.for_loss_scale(1.0 / loss_scale);
        let checkpoint = self.arguments.checkpoint.as_deref().map(Checkpoint::new);
        let stored = checkpoint.as_ref().map(Checkpoint::read).transpose()?.flatten();
        let is_stored = stored.is_some();
        let mut subspace = stored.unwrap_or_default();
        let mut found = Vec::new();
        for &batch_size in &batches.batch_size {
            let batch = batches.of_size(batch_size).map_err(Failure::at(path))?;
            let noise = batch.noise(jacobian.sample_count()).map_err(Failure::at(path))?;
            let mut watch = Watch::new(batch_size, loss_scale, &options, self.stop);
            watch.checkpoint = checkpoint.as_ref();
            let observe =
                &mut |progress: &BracketProgress, space: &Subspace| watch.tell(progress, space);
            let bracket =
                continue_bracket(jacobian, &unscaled, &batch, &options, &mut subspace, observe)
                    .map_err(|error| self.failure(error, is_stored))?;
            if let Some(checkpoint) = &checkpoint {
                checkpoint.write(&subspace);
            }
            found.push(BatchBracket { batch_size, noise, bracket: scaled(bracket, loss_scale) });
        }
        Ok(found)
    }

    /// The failure of a bracket. That of a stored subspace is about its file.
    fn failure(&self, error: BracketError, is_stored: bool) -> Failure {
        let belongs_elsewhere = matches!(
            error,
            BracketError::SubspaceShape { .. } | BracketError::SubspaceDiffers { .. }
        );
        match &self.arguments.checkpoint {
            Some(file) if is_stored && belongs_elsewhere => Failure::input(file, error.to_string()),
            _ => failure(self.path, error),
        }
    }
}

/// An error of the file is said as such, without the product in which it came up.
pub(crate) fn failure(path: &Path, error: BracketError) -> Failure {
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
