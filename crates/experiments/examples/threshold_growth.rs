//! How time and memory of the exact threshold grow with the number of samples.
//!
//! ```sh
//! cargo run --release -p flatmin-experiments --example threshold_growth -- \
//!     docs/figures/threshold_growth.svg
//! ```
//!
//! Each size runs in processes of its own on the Gram matrix of a two-layer ReLU network (m = d =
//! 100, initial parameters), eigendecomposition included, on all cores; the dense Kronecker form of
//! the same minimum beside it where it takes seconds. Medians over the runs. Peak memory is that of
//! the whole process, the n × n Gram matrix included, as far as the system tells.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use flatmin_figures::ReferenceKind;
use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, Series, Style};
use flatmin_linalg::{Parallelism, stream};
use flatmin_models::{Model as _, TwoLayerRelu, data};
use flatmin_theory::{
    Batch, Gram, Minimum, Optimizer, Sampling, ThresholdOptions, dense_threshold, threshold_with,
};

const SIZES: &[usize] = &[10, 20, 40, 60, 100, 300, 1000, 2000];
const DENSE_SIZES: &[usize] = &[10, 20, 40, 60];
const METHODS: [(&str, usize, &str); 3] = [
    ("exact", 1, "Perron form, B = 1"),
    ("exact", 8, "Perron form, B = 8"),
    ("dense", 1, "dense Kronecker form, B = 1"),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [figure] => measure_all(figure),
        [method, samples, batch_size] => measure_one(method, samples.parse()?, batch_size.parse()?),
        _ => bail!("usage: threshold_growth FIGURE.svg"),
    }
}

/// Prints seconds, peak memory in bytes, the relative width of the interval, and the products with
/// M.
#[expect(clippy::print_stdout, reason = "the result of this process")]
fn measure_one(method: &str, samples: usize, batch_size: usize) -> anyhow::Result<()> {
    let model = TwoLayerRelu::new(100, 100)?;
    let parameters = model.initial_parameters(&mut stream(0, "growth parameters", 0));
    let inputs = data::sphere_inputs(samples, 100, &mut stream(0, "growth inputs", 0));
    let matrix = model.gram(&parameters, &inputs);
    drop(inputs);
    let batch = Batch::new(batch_size, Sampling::WithoutReplacement)?;
    let start = Instant::now();
    let parallelism = Parallelism::Rayon;
    let minimum = Minimum::from_gram(Gram::from_means(matrix)?, parallelism)?;
    let (width, products) = if method == "dense" {
        dense_threshold(&minimum, &batch)?;
        (f64::NAN, 0)
    } else {
        let options = ThresholdOptions { parallelism, ..ThresholdOptions::default() };
        let threshold = threshold_with(&minimum, &Optimizer::sgd(), &batch, &options)?;
        (threshold.relative_width(), threshold.iterations)
    };
    let seconds = start.elapsed().as_secs_f64();
    println!("{seconds} {} {width} {products}", peak_memory().unwrap_or(f64::NAN));
    Ok(())
}

fn peak_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0)
}

#[expect(clippy::print_stdout, reason = "the table is the result")]
fn measure_all(path: &str) -> anyhow::Result<()> {
    println!("| n | method | median seconds | runs | peak memory, MB | relative width |");
    println!("|---|---|---|---|---|---|");
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    for (index, (method, batch_size, label)) in METHODS.into_iter().enumerate() {
        let sizes = if method == "dense" { DENSE_SIZES } else { SIZES };
        let (mut seconds, mut memory) = (Vec::new(), Vec::new());
        for &samples in sizes.iter().filter(|size| **size >= batch_size) {
            let runs = if samples >= 1000 { 3 } else { 9 };
            let measured = (0..runs)
                .map(|_| run(method, samples, batch_size))
                .collect::<anyhow::Result<Vec<_>>>()?;
            let time = median(measured.iter().map(|m| m.0).collect());
            let peak = median(measured.iter().map(|m| m.1).collect());
            let width = measured.last().map_or(f64::NAN, |m| m.2);
            println!(
                "| {samples} | {label} | {time:.3e} | {runs} | {:.1} | {width:.1e} |",
                peak / 1e6
            );
            seconds.push((samples as f64, time));
            memory.push((samples as f64, peak / 1e6));
        }
        let series = |points| Series {
            label: label.to_owned(),
            style: Style(index),
            mark: Mark::LineAndPoints,
            points,
            notes: Vec::new(),
        };
        times.push(series(seconds));
        memories.push(series(memory));
    }
    let slope = |label: &str, power: i32, at: (f64, f64), to: f64| Reference {
        label: label.to_owned(),
        kind: ReferenceKind::Curve(vec![at, (to, at.1 * (to / at.0).powi(power))]),
    };
    let (largest, dense) = (times[0].points.last(), times[2].points.last());
    let anchor = |point: Option<&(f64, f64)>| point.map_or((1.0, 1.0), |p| (p.0, p.1));
    let references =
        vec![slope("n³", 3, anchor(largest), 300.0), slope("n⁶", 6, anchor(dense), 30.0)];
    let panel = |title: &str, label: &str, series, references| Panel {
        title: title.to_owned(),
        x: Axis::log("samples n"),
        y: Axis::log(label),
        series,
        references,
    };
    let figure = Figure {
        title: "The exact threshold: a certified Perron root instead of a Kronecker operator"
            .to_owned(),
        subtitle: "From the Gram matrix of a two-layer ReLU network; medians.".to_owned(),
        columns: 2,
        panels: vec![
            panel("Time", "seconds", times, references),
            panel("Peak memory of the process", "MB", memories, Vec::new()),
        ],
    };
    fs::write(path, figure.to_svg()).with_context(|| path.to_owned())
}

fn run(method: &str, samples: usize, batch_size: usize) -> anyhow::Result<(f64, f64, f64)> {
    let output = Command::new(std::env::current_exe()?)
        .args([method, &samples.to_string(), &batch_size.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [seconds, memory, width, _products] => Ok((seconds, memory, width)),
        _ => bail!("{method} n = {samples}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
