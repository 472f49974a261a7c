//! The effect of training in float32, beside the effect of another seed.
//!
//! ```sh
//! cargo run --release -p flatmin-experiments --example float32 -- [SEEDS]
//! ```
//!
//! Trains both networks of the paper at its sizes with several learning rates, from the same starts
//! and with the same batches in float64 and in float32, and prints two tables in Markdown, of
//! minima of loss 1e-6 and of 1e-12; the second one says how far down the loss goes in float32.
//! Everything measured is float64. Where training is sensitive to its start any rounding has an
//! effect: so does the *control*, float64 from initial parameters that were rounded to float32.
//!
//! Pairs of numbers are of float64 and float32. Three of them are relative differences from
//! float64: of float32, of the control (medians over the seeds), and between seeds (standard
//! deviation).

use std::io::Write as _;

use anyhow::{Context as _, ensure};
use flatmin_curvature::training_curvature;
use flatmin_linalg::{Parallelism, stream};
use flatmin_models::data::{self, Split};
use flatmin_models::{Dataset, DiagonalLinear, TwoLayerRelu};
use flatmin_optim::{
    Method, Outcome, Precision, Sampling, Schedule, StoppingRule, TrainOptions, Trainable, Trainer,
};
use flatmin_theory::{Batch, Gram, Minimum, Optimizer, ThresholdOptions, threshold_with};

const SAMPLES: usize = 300;
const TEST_SAMPLES: usize = 3000;

/// The quantities compared at the end of a run.
const MEASURES: [&str; 5] = ["tr G", "‖G‖_F", "λ_max", "η*", "test loss"];

const SGD: Method = Method::Sgd { batch_size: 1, sampling: Sampling::WithReplacement };
const GD: Method = Method::GradientDescent;

/// The precision of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Float64,
    Float32,
    Control,
}

const WAYS: [Way; 3] = [Way::Float64, Way::Float32, Way::Control];

/// A model with its data and start, for a seed.
struct Problem<M> {
    model: M,
    train: Dataset,
    test: Dataset,
    initial: Vec<f64>,
    seed: u64,
}

/// A network, an optimizer and a learning rate.
#[derive(Debug, Clone, Copy)]
struct Setting {
    is_relu: bool,
    method: Method,
    learning_rate: f64,
}

struct End {
    converged: bool,
    steps: u64,
    loss: f64,
    measures: [f64; 5],
}

fn main() -> anyhow::Result<()> {
    let seeds = std::env::args().nth(1).map_or(Ok(5), |seeds| seeds.parse::<u64>())?;
    ensure!(seeds >= 2, "a deviation between seeds takes two of them at least");
    let mut lines = Vec::new();
    for setting in settings() {
        let ends = setting.ends(&WAYS, stop_at(1e-6), seeds)?;
        lines.push(setting.line(&ends) + &differences(&ends));
    }
    let columns = MEASURES.join(" | ");
    print_table("minima of loss 1e-6", &columns, &lines)?;
    let mut lines = Vec::new();
    for setting in settings() {
        let ends = setting.ends(&WAYS[..2], stop_at(1e-12), seeds)?;
        let all_steps = setting.ends(&WAYS[1..2], StoppingRule::never(), seeds)?;
        let losses = all_steps[0].iter().map(|end| end.loss);
        let (least, most) = (losses.clone().fold(f64::MAX, f64::min), losses.fold(0.0, f64::max));
        lines.push(format!("{} {least:.1e} to {most:.1e} |", setting.line(&ends)));
    }
    print_table("minima of loss 1e-12", "loss of float32 after all steps", &lines)
}

fn stop_at(loss: f64) -> StoppingRule {
    StoppingRule { loss, screening_loss: 1e3 * loss, ..StoppingRule::default() }
}

fn settings() -> Vec<Setting> {
    let rates = [
        (true, SGD, [0.001, 0.003, 0.01]),
        (true, GD, [0.01, 0.03, 0.1]),
        (false, SGD, [0.004, 0.03, 0.1]),
        (false, GD, [0.004, 0.03, 0.1]),
    ];
    let setting = |is_relu, method| move |learning_rate| Setting { is_relu, method, learning_rate };
    rates
        .into_iter()
        .flat_map(|(is_relu, method, rates)| rates.map(setting(is_relu, method)))
        .collect()
}

impl Setting {
    fn label(&self) -> String {
        let network = if self.is_relu { "ReLU" } else { "diagonal" };
        let method = if self.method == GD { "GD" } else { "SGD" };
        format!("{network} {method}, η = {}", self.learning_rate)
    }

    fn run(&self, way: Way, stopping: StoppingRule, seed: u64) -> anyhow::Result<End> {
        if self.is_relu {
            let model = TwoLayerRelu::new(100, 100)?;
            let make = |count, split| data::relu_dataset(10, 100, count, split, seed);
            let (train, test) = (make(SAMPLES, Split::Training)?, make(TEST_SAMPLES, Split::Test)?);
            let initial = model.initial_parameters(&mut stream(seed, "relu initial parameters", 0));
            self.end(Problem { model, train, test, initial, seed }, way, stopping, 100.0)
        } else {
            let model = DiagonalLinear::new(1000)?;
            let make = |count, split| data::sparse_linear_dataset(3, 1000, count, split, seed);
            let (train, test) = (make(SAMPLES, Split::Training)?, make(TEST_SAMPLES, Split::Test)?);
            let mut rng = stream(seed, "diagonal initial parameters", 0);
            let initial = model.initial_parameters(&mut rng);
            self.end(Problem { model, train, test, initial, seed }, way, stopping, 50.0)
        }
    }

    fn end<M: Trainable>(
        &self,
        problem: Problem<M>,
        way: Way,
        stopping: StoppingRule,
        clip_norm: f64,
    ) -> anyhow::Result<End> {
        let Problem { model, train: data, test, mut initial, seed } = problem;
        if way == Way::Control {
            for value in &mut initial {
                *value = rounded(*value);
            }
        }
        let options = TrainOptions {
            method: self.method,
            optimizer: Optimizer::sgd(),
            learning_rate: self.learning_rate,
            schedule: Schedule::Constant,
            clip_norm,
            max_steps: if self.method == GD { 20_000 } else { 400_000 },
            precision: if way == Way::Float32 { Precision::Float32 } else { Precision::Float64 },
            stopping,
            checkpoints: Vec::new(),
        };
        let rng = stream(seed, "batches", 0);
        let run = Trainer::new(&model, &data, &initial, &options, rng)?.run(|_| {});
        let curvature = training_curvature(&model, &run.parameters, &data)?;
        let batch = match self.method {
            Method::GradientDescent => Batch::new(SAMPLES, Sampling::WithoutReplacement)?,
            Method::Sgd { batch_size, .. } => Batch::new(batch_size, Sampling::WithReplacement)?,
        };
        let gram = Gram::from_means(model.gram(&run.parameters, data.inputs()))?;
        let minimum = Minimum::from_gram(gram, Parallelism::Sequential)?;
        let within = ThresholdOptions { relative_width: 1e-9, ..ThresholdOptions::default() };
        let sharpness = curvature.sharpness;
        Ok(End {
            converged: run.outcome == Outcome::Converged,
            steps: run.steps,
            loss: curvature.loss,
            measures: [
                sharpness.trace,
                sharpness.frobenius_norm,
                sharpness.lambda_max,
                threshold_with(&minimum, &Optimizer::sgd(), &batch, &within)?.midpoint(),
                test.loss(&model, &run.parameters),
            ],
        })
    }

    /// The ends of the runs of each way, one for each seed.
    fn ends(
        &self,
        ways: &[Way],
        stopping: StoppingRule,
        seeds: u64,
    ) -> anyhow::Result<Vec<Vec<End>>> {
        let mut all = Vec::new();
        for way in ways {
            let mut ends = Vec::new();
            for seed in 0..seeds {
                progress(&format!("{}, {way:?}, seed {seed} of {seeds}", self.label()))?;
                ends.push(self.run(*way, stopping, seed)?);
            }
            all.push(ends);
        }
        Ok(all)
    }

    /// The outcomes in float64 and float32: converged runs, medians of steps and loss.
    fn line(&self, ends: &[Vec<End>]) -> String {
        let ends = [&ends[0], &ends[1]];
        let converged = ends.map(|ends| ends.iter().filter(|end| end.converged).count());
        let steps = ends.map(|ends| median(ends.iter().map(|end| end.steps as f64)));
        let losses = ends.map(|ends| median(ends.iter().map(|end| end.loss)));
        format!(
            "| {} | {}, {} | {}, {} | {:.1e}, {:.1e} |",
            self.label(),
            converged[0],
            converged[1],
            steps[0],
            steps[1],
            losses[0],
            losses[1]
        )
    }
}

/// Per measure the median relative difference of float32 and of the control from float64, and the
/// relative standard deviation of float64 between seeds.
fn differences(ends: &[Vec<End>]) -> String {
    let float64 = &ends[0];
    let cells = (0..MEASURES.len()).map(|m| {
        let difference = |others: &[End]| {
            let pairs = others.iter().zip(float64);
            median(pairs.map(|(a, b)| (a.measures[m] / b.measures[m] - 1.0).abs()))
        };
        let [float32, control] = [difference(&ends[1]), difference(&ends[2])];
        let seeds = relative_deviation(float64.iter().map(|end| end.measures[m]));
        format!(" {float32:.0e}, {control:.0e}, {seeds:.0e} |")
    });
    cells.collect()
}

fn print_table(title: &str, columns: &str, lines: &[String]) -> anyhow::Result<()> {
    let rules = "---|".repeat(columns.split(" | ").count());
    let (head, lines) = ("| run | converged | steps | loss |", lines.join("\n"));
    print(&format!("\n{title}\n\n{head} {columns} |\n|---|---|---|---|{rules}\n{lines}\n"))
}

#[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
fn rounded(value: f64) -> f64 {
    f64::from(value as f32)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn relative_deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt() / mean
}

fn print(text: &str) -> anyhow::Result<()> {
    progress("")?;
    std::io::stdout().write_all(text.as_bytes()).context("standard output")
}

/// Names the current run on one line of standard error.
fn progress(text: &str) -> anyhow::Result<()> {
    write!(std::io::stderr(), "\r\x1b[K{text}").context("standard error")
}
