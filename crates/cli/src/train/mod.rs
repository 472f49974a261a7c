//! `flatmin train`.

mod folder;
mod measure;
mod problem;
pub(crate) mod readers;
mod summary;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use flatmin_host::{Exit, Format, Progress, interrupt, print, shown};
use flatmin_linalg::Stream;
use flatmin_optim::Trainer;

use self::folder::{Folder, Start};
use self::measure::{Measure, Row};
use self::problem::Problem;
use crate::config::{self, COMMENTED, Config};
use crate::data;
use crate::failure::Failure;
use crate::network::Network;
use crate::words::PROGRAM;

/// Most bytes of a checkpoint without its numbers.
const CHECKPOINT_BYTES: u64 = 1 << 20;

/// A checkpoint is also written when the last one is this old, which has no effect on the results.
const CHECKPOINT_TIME: Duration = Duration::from_mins(1);

/// Train a two-layer ReLU network, a diagonal linear network or a perceptron, on your data or
/// synthetic data.
///
/// Writes a table of metrics, checkpoints and the final parameters. Replays a given sequence of
/// samples from given initial parameters, so that a run in another framework can be reproduced step
/// for step.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 done, also when the run diverged; 2 wrong usage; 3 bad input, or the run was \
interrupted, with one line on standard error.

Examples:
  flatmin train --print-config > run.toml   # every key, with its meaning
  flatmin train run.toml                    # writes metrics, parameters, ... into run/
  flatmin train run.toml --resume           # goes on after an interruption")]
pub(crate) struct TrainArguments {
    /// The run, in TOML.
    #[arg(value_name = "CONFIG.toml", required_unless_present = "print_config")]
    config: Option<PathBuf>,
    /// Folder for the results [default: next to the configuration, with its name].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on from the last checkpoint.
    #[arg(long)]
    resume: bool,
    /// Print a configuration that runs, with every key explained.
    #[arg(long, exclusive = true)]
    print_config: bool,
    /// Format of the summary.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// A run that the arguments ask for.
struct Job<'a> {
    arguments: &'a TrainArguments,
    /// The path of the configuration.
    path: &'a Path,
    config: Config,
    problem: Problem,
}

/// Trains a model.
pub(crate) fn train(arguments: &TrainArguments) -> Result<Exit, Failure> {
    let Some(path) = arguments.config.as_deref().filter(|_| !arguments.print_config) else {
        print(COMMENTED)?;
        return Ok(Exit::Done);
    };
    let config = config::config(path, None)?;
    let (data, model) = data::data_and_model(path, &config)?;
    let problem = Problem::load(path, &config, data, &*model)?;
    let job = Job { arguments, path, config, problem };
    job.run(&*model)?;
    Ok(Exit::Done)
}

/// The folder next to the configuration, with its name.
fn default_folder(config: &Path) -> PathBuf {
    let folder = config.with_extension("");
    if folder == config { config.with_extension("run") } else { folder }
}

impl Job<'_> {
    /// Trains to the end and prints the summary.
    fn run(&self, network: &(dyn Network + 'static)) -> Result<(), Failure> {
        let Self { arguments, problem, .. } = self;
        let mut trainer = problem.start(self.path, network)?;
        let out = arguments.out.clone().unwrap_or_else(|| default_folder(self.path));
        // A number takes at most 25 characters, the index of a sample 11. Momentum has a number for
        // each parameter.
        let numbers = (2 * network.parameter_count() + problem.data.train.sample_count()) as u64;
        let max_bytes = CHECKPOINT_BYTES + 32 * numbers;
        // Before anything is said or written, so that whoever sees it can interrupt the run.
        interrupt::watch(PROGRAM, "a checkpoint", None);
        let (mut folder, start) =
            Folder::open(&out, arguments.resume, problem.digests.clone(), max_bytes)?;
        match &start {
            Start::Ended => return summary::print_summary(arguments.format, &folder),
            Start::Fresh => {
                if arguments.resume {
                    let out = shown(&out);
                    PROGRAM.warn(&format_args!("{out}: no run to go on with, starting afresh"));
                }
                if let Some(state) = trainer.state() {
                    folder.save(state)?;
                }
            }
            Start::Checkpoint(state) => {
                trainer.restore(state).map_err(Failure::at(&out))?;
                let (out, step) = (shown(&out), state.step());
                PROGRAM.warn(&format_args!("{out}: going on from step {step}"));
            }
        }
        let last = self.steps(&mut trainer, &mut folder, network)?;
        let Some(end) = trainer.outcome().zip(last.as_ref()) else {
            let reason = format!(
                "interrupted after {} of {} steps; the same command with --resume goes on from there",
                trainer.step(),
                problem.options.max_steps
            );
            return Err(Failure::input(&out, reason));
        };
        summary::write(&trainer, &folder, problem, network, end)?;
        summary::print_summary(arguments.format, &folder)
    }

    /// Trains to the end, or until an interruption is requested; returns the last row that was
    /// measured.
    fn steps(
        &self,
        trainer: &mut Trainer<'_, dyn Network, Stream>,
        folder: &mut Folder,
        network: &(dyn Network + 'static),
    ) -> Result<Option<Row>, Failure> {
        let Problem { data, columns, threshold, options, .. } = &self.problem;
        let (train, test, threshold) = (&data.train, data.test.as_ref(), *threshold);
        let measure = Measure { network, train, test, columns, threshold };
        let total = options.max_steps;
        let progress =
            Progress::steps("training", total).with_lines(trainer.step(), total, "steps");
        let mut last_row = None;
        let (mut saved, mut saved_at) = (trainer.step(), Instant::now());
        loop {
            while let Some(since_last) = trainer.observe() {
                let row = measure.row(trainer.step(), &trainer.parameters(), since_last);
                let row = row.map_err(Failure::at(&folder.path))?;
                folder.append(columns, &row)?;
                last_row = Some(row);
            }
            if trainer.outcome().is_some() {
                folder.sync()?;
                return Ok(last_row);
            }
            let stop = interrupt::requested();
            let every = self.config.checkpoint_every;
            let is_due =
                trainer.step() / every > saved / every || saved_at.elapsed() >= CHECKPOINT_TIME;
            // A run without a finite state is about to end as diverged, and keeps its last
            // checkpoint.
            if (stop || is_due)
                && let Some(state) = trainer.state()
            {
                folder.save(state)?;
                (saved, saved_at) = (trainer.step(), Instant::now());
            }
            if stop {
                return Ok(last_row);
            }
            let before = trainer.step();
            trainer.advance();
            progress.advance(trainer.step() - before);
        }
    }
}
