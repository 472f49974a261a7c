//! `flatmin train`.

mod folder;
mod measure;
mod problem;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use flatmin_arrays::NamedArray;
use flatmin_host::{is_printable, read_own, said};
use flatmin_linalg::Stream;
use flatmin_optim::{Outcome, Trainer};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use self::folder::{Files, Folder, LARGEST_SUMMARY, Start};
pub(crate) use self::measure::Column;
use self::measure::{Measure, Row};
pub(crate) use self::problem::data_and_model;
use self::problem::{Digests, Problem};
use crate::config::{AnyModel, COMMENTED, Config};
use crate::failure::{Exit, Failure, shown};
use crate::interrupt;
use crate::network::{Network, ParameterArray};
use crate::number::{significant, table};
use crate::output::{self, Format};
use crate::progress::Progress;

/// The format of the summary of a run.
const SCHEMA: &str = "flatmin.train/1";

/// Bytes of a checkpoint without its numbers, at most.
const CHECKPOINT_BYTES: u64 = 1 << 20;

/// Plain lines of progress are at least this part of all steps and as long apart.
const LINE_STEPS: u64 = 10;
const LINE_TIME: Duration = Duration::from_secs(2);

/// A checkpoint is also written when the last one is as old as this; when it is has no effect on the
/// results.
const CHECKPOINT_TIME: Duration = Duration::from_mins(1);

/// Digits of measured quantities.
const DIGITS: usize = 6;

/// Train a two-layer ReLU network, a diagonal linear network or a perceptron, on your data or synthetic
/// data.
///
/// Writes a table of metrics, checkpoints and the final parameters. Replays a given sequence of samples
/// from given initial parameters, so that a run in another framework can be reproduced step for step.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 done, also when the run diverged; 2 wrong usage; 3 bad input, or the run was \
interrupted, with one line on standard error.

Examples:
  flatmin train --print-config > run.toml   # every key, with its meaning
  flatmin train run.toml                    # writes metrics, parameters, ... into run/
  flatmin train run.toml --resume           # goes on after an interruption")]
pub(crate) struct Options {
    /// The run, in TOML.
    #[arg(value_name = "CONFIG.toml", required_unless_present = "print_config")]
    config: Option<PathBuf>,
    /// Folder for the results [default: that of the configuration, named like it].
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

/// The summary of a finished run, `run.json`.
#[derive(Serialize)]
struct Summary<'a> {
    schema: &'a str,
    version: &'a str,
    outcome: Outcome,
    steps: u64,
    clipped_steps: u64,
    sample_count: usize,
    parameter_count: usize,
    digests: &'a Digests,
    last: LastRow<'a>,
    files: Files,
}

/// The last row of the metrics table by column.
struct LastRow<'a>(&'a [Column], &'a Row);

impl Serialize for LastRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(columns, row) = self;
        let mut map = serializer.serialize_map(Some(1 + columns.len()))?;
        map.serialize_entry("step", &row.step)?;
        for (column, cell) in columns.iter().zip(&row.cells) {
            map.serialize_entry(column.name(), cell)?;
        }
        map.end()
    }
}

pub(crate) fn train(options: &Options) -> Result<Exit, Failure> {
    let Some(path) = options.config.as_deref().filter(|_| !options.print_config) else {
        output::print(COMMENTED)?;
        return Ok(Exit::Done);
    };
    let config = Config::read(path)?;
    let (data, model) = data_and_model(path, &config)?;
    let problem = Problem::load(path, &config, data, &model)?;
    match &model {
        AnyModel::Relu(network) => run(options, path, &config, &problem, network),
        AnyModel::Diagonal(network) => run(options, path, &config, &problem, network),
        AnyModel::Perceptron(network) => run(options, path, &config, &problem, network),
    }
}

/// The folder next to the configuration, named like it.
fn default_folder(config: &Path) -> PathBuf {
    let folder = config.with_extension("");
    if folder == config { config.with_extension("run") } else { folder }
}

fn run<N: Network>(
    options: &Options,
    path: &Path,
    config: &Config,
    problem: &Problem,
    network: &N,
) -> Result<Exit, Failure> {
    let mut trainer = problem.start(path, network)?;
    let out = options.out.clone().unwrap_or_else(|| default_folder(path));
    // A number takes 25 characters, the index of a sample 11.
    let numbers = (network.parameter_count() + problem.data.train.sample_count()) as u64;
    let most = CHECKPOINT_BYTES + 32 * numbers;
    let (mut folder, start) = Folder::open(&out, options.resume, problem.digests.clone(), most)?;
    match &start {
        Start::Ended => return say_ended(options, &folder),
        Start::Fresh => {
            if options.resume {
                let out = shown(&out);
                output::note(&format_args!(
                    "flatmin: {out}: no run to go on with, starting afresh"
                ));
            }
            if let Some(state) = trainer.state() {
                folder.save(state)?;
            }
        }
        Start::Checkpoint(state) => {
            trainer.restore(state).map_err(|error| Failure::input(&out, error.to_string()))?;
            let (out, step) = (shown(&out), state.step());
            output::warn(&format_args!("{out}: going on from step {step}"));
        }
    }
    interrupt::watch();
    let last = steps(&mut trainer, &mut folder, config, problem, network)?;
    let (Some(outcome), Some(last)) = (trainer.outcome(), last) else {
        let reason = format!(
            "interrupted after {} of {} steps; the same command with --resume goes on from there",
            trainer.step(),
            problem.options.max_steps
        );
        return Err(Failure::input(&out, reason));
    };
    finish(&trainer, &folder, problem, network, &last, outcome)?;
    say_ended(options, &folder)
}

/// Trains to the end, or until an interruption is requested; returns the last row that was measured.
fn steps<N: Network>(
    trainer: &mut Trainer<'_, N, Stream>,
    folder: &mut Folder,
    config: &Config,
    problem: &Problem,
    network: &N,
) -> Result<Option<Row>, Failure> {
    let columns = &problem.columns;
    let (train, test) = (&problem.data.train, problem.data.test.as_ref());
    let measure = Measure { network, train, test, columns, batch: problem.batch };
    let mut lines = Lines::new(trainer.step(), problem.options.max_steps);
    let mut last_row = None;
    let (mut saved, mut saved_at) = (trainer.step(), Instant::now());
    loop {
        while let Some(since_last) = trainer.observe() {
            let row = measure.row(trainer.step(), &trainer.parameters(), since_last);
            let row = row.map_err(|error| Failure::input(folder.path(), error.to_string()))?;
            folder.append(columns, &row)?;
            last_row = Some(row);
        }
        if trainer.outcome().is_some() {
            folder.sync()?;
            return Ok(last_row);
        }
        let stop = interrupt::requested();
        let every = config.checkpoint_every;
        let due = trainer.step() / every > saved / every || saved_at.elapsed() >= CHECKPOINT_TIME;
        // A state that is not finite is about to end as diverged: the last one that was stays.
        if (stop || due)
            && let Some(state) = trainer.state()
        {
            folder.save(state)?;
            (saved, saved_at) = (trainer.step(), Instant::now());
        }
        if stop {
            return Ok(last_row);
        }
        trainer.advance();
        lines.at(trainer.step());
    }
}

/// Writes the parameters, then the summary, which says that the run has ended.
fn finish<N: Network>(
    trainer: &Trainer<'_, N, Stream>,
    folder: &Folder,
    problem: &Problem,
    network: &N,
    last: &Row,
    outcome: Outcome,
) -> Result<(), Failure> {
    let parameters = trainer.parameters();
    let mut rest = parameters.as_slice();
    let names = network.arrays();
    let mut arrays = Vec::new();
    for ParameterArray { name, shape, .. } in &names {
        let (values, others) = rest.split_at(shape.iter().product());
        rest = others;
        arrays.push(NamedArray { name, shape: shape.clone(), values });
    }
    let path = folder.file(folder::PARAMETERS);
    let bytes = flatmin_arrays::npz_bytes(&arrays).map_err(Failure::file(&path))?;
    let files = folder.files(&bytes)?;
    folder.write(folder::PARAMETERS, &bytes)?;

    let path = folder.file(folder::RUN);
    let summary = Summary {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        outcome,
        steps: trainer.step(),
        clipped_steps: trainer.total().clipped_steps,
        sample_count: problem.data.train.sample_count(),
        parameter_count: parameters.len(),
        digests: &problem.digests,
        last: LastRow(&problem.columns, last),
        files,
    };
    let text = serde_json::to_string_pretty(&summary);
    let text = text.map_err(|error| Failure::file(&path)(error.into()))?;
    folder.write(folder::RUN, flatmin_host::seal(&text).as_bytes())
}

/// Says how a run that has ended did so, from its summary.
fn say_ended(options: &Options, folder: &Folder) -> Result<Exit, Failure> {
    let path = folder.file(folder::RUN);
    let bytes = read_own(&path, LARGEST_SUMMARY, "the summary of a run")?;
    let (text, run) = summary(bytes).map_err(|reason| Failure::input(&path, reason))?;
    if options.format == Format::Json {
        output::print(&text)?;
        return Ok(Exit::Done);
    }
    let text = describe(&run);
    output::print(&format!(
        "{text}{}: metrics.csv, parameters.npz, run.json\n",
        shown(folder.path())
    ))?;
    Ok(Exit::Done)
}

/// A summary as text and as JSON; the reason if it is none.
fn summary(bytes: Vec<u8>) -> Result<(String, Value), String> {
    let none = |what: &str| format!("is not a summary of a run: {}", said(&what));
    let text = String::from_utf8(bytes).map_err(|_| none("it is not UTF-8 text"))?;
    let run: Value = serde_json::from_str(&text).map_err(|error| none(&error.to_string()))?;
    if run["schema"] != SCHEMA {
        return Err(none(&format!("its format is not {SCHEMA}")));
    }
    // It is printed as it stands, and none that flatmin wrote holds such.
    if !text.chars().all(|character| character == '\n' || is_printable(character)) {
        return Err(none("it holds control characters"));
    }
    Ok((text, run))
}

/// How a run ended, in words.
fn describe(run: &Value) -> String {
    let outcome = match run["outcome"].as_str() {
        Some("converged") => "converged: the stopping rule is met",
        Some("diverged") => "diverged",
        _ => "took all its steps",
    };
    let steps = |key: &str| run[key].as_u64().unwrap_or(0);
    let clipped = match steps("clipped_steps") {
        0 => String::new(),
        clipped => format!(" ({clipped} clipped)"),
    };
    let mut rows = Vec::new();
    for (name, column) in Column::ALL {
        let value = &run["last"][name];
        if *column != Column::ClippedSteps && !value.is_null() {
            let number = value.as_f64().unwrap_or(f64::INFINITY);
            rows.push(vec![(*name).to_owned(), significant(number, DIGITS)]);
        }
    }
    format!("{outcome} after {} steps{clipped}\n{}", steps("steps"), table(&[], &rows))
}

/// Progress: a bar on a terminal, a few plain lines otherwise.
struct Lines {
    bar: Progress,
    is_plain: bool,
    step: u64,
    total: u64,
    next: u64,
    time: Instant,
}

impl Lines {
    fn new(step: u64, total: u64) -> Self {
        let bar = Progress::steps("training", total);
        bar.advance(step);
        let is_plain = !std::io::IsTerminal::is_terminal(&std::io::stderr());
        Self { bar, is_plain, step, total, next: step, time: Instant::now() }
    }

    fn at(&mut self, step: u64) {
        self.bar.advance(step - self.step);
        self.step = step;
        if self.is_plain && step >= self.next && self.time.elapsed() >= LINE_TIME {
            output::note(&format_args!("{step} of {} steps", self.total));
            self.next = step + self.total / LINE_STEPS;
            self.time = Instant::now();
        }
    }
}

/// The readers of a run's folder by themselves, for [`crate::readers`].
pub(crate) mod readers {
    use flatmin_linalg::{RowMatrix, stream};
    use flatmin_models::{Dataset, DiagonalLinear};
    use flatmin_optim::{
        Method, Optimizer, Precision, Sampling, Schedule, StoppingRule, TrainOptions, Trainer,
    };

    /// Reads a summary and says what it says.
    pub(crate) fn summary(bytes: &[u8]) -> Result<String, String> {
        super::summary(bytes.to_vec()).map(|(_, run)| super::describe(&run))
    }

    /// Reads a checkpoint and takes a step of a small run from there, whatever its checksum.
    pub(crate) fn checkpoint(bytes: &[u8]) -> Result<(), String> {
        let state = super::folder::state(bytes)?;
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let model = DiagonalLinear::new(2).map_err(|error| text(&error))?;
        let inputs = RowMatrix::new(3, 2, vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let inputs = inputs.map_err(|error| text(&error))?;
        let data = Dataset::new(inputs, vec![1.0, 0.5, 0.0]).map_err(|error| text(&error))?;
        let options = TrainOptions {
            method: Method::Sgd { batch_size: 1, sampling: Sampling::Reshuffling },
            optimizer: Optimizer::sgd(),
            learning_rate: 0.1,
            schedule: Schedule::Cosine,
            clip_norm: 1.0,
            max_steps: 30,
            precision: Precision::Float64,
            stopping: StoppingRule::default(),
            checkpoints: vec![0, 5, 30],
        };
        let rng = stream(0, "batches", 0);
        let trainer = Trainer::new(&model, &data, &[0.5; 4], &options, rng);
        let mut trainer = trainer.map_err(|error| text(&error))?;
        trainer.restore(&state).map_err(|error| text(&error))?;
        while trainer.outcome().is_none() {
            let _ = trainer.observe();
            trainer.advance();
        }
        Ok(())
    }
}
