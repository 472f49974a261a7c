//! The Hessian of a perceptron 784-256-256-10 on 1000 samples: the cost of a product relative to a
//! gradient, and its largest eigenvalue and trace to 1 %, with the memory of the whole process.
//!
//! `cargo run --release -p flatmin-curvature --example mlp_hessian -- [tanh|relu] [THREADS]`

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::time::Instant;

use faer::{Mat, MatRef};
use flatmin_curvature::{CurvatureOptions, hessian_with};
use flatmin_linalg::{
    EigenpairOptions, Operator as _, RowMatrix, TraceTarget, estimate_trace, stream, top_eigenpairs,
};
use flatmin_models::{Activation, Dataset, Mlp, Model as _};
use rand::RngExt as _;

const SAMPLES: usize = 1000;
const VECTORS: usize = 16;
const REPETITIONS: usize = 15;

/// The time that `work` takes, in seconds.
fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The largest memory of this process so far, in MB; `None` when the system does not report it.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let activation = match arguments.next().as_deref() {
        Some("relu") => Activation::Relu,
        None | Some("tanh") => Activation::Tanh,
        Some(other) => return Err(format!("{other:?}: expected tanh or relu").into()),
    };
    if let Some(threads) = arguments.next() {
        rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    }
    let mut rng = stream(0, "example Hessian", 0);
    let mut numbers =
        |rows, columns| RowMatrix::from_fn(rows, columns, |_, _| rng.random_range(-1.0..1.0));
    let (inputs, targets) = (numbers(SAMPLES, 784), numbers(SAMPLES, 10));
    let data = Dataset::with_outputs(inputs, &targets)?;
    let model = Mlp::new(&[784, 256, 256, 10], activation, true)?;
    let parameters = model.initial_parameters(&mut stream(1, "example Hessian", 0));
    let p = model.parameter_count();
    let vectors = numbers(VECTORS, p);
    let columns = MatRef::from_column_major_slice(vectors.values(), p, VECTORS);
    let mut images = Mat::zeros(p, VECTORS);

    let kept = hessian_with(&model, &parameters, &data, &CurvatureOptions::default())?;
    let options = CurvatureOptions { cache_bytes: 0, ..CurvatureOptions::default() };
    let anew = hessian_with(&model, &parameters, &data, &options)?;
    // The measurements alternate, so that other load on the machine affects all of them.
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..REPETITIONS {
        times[0].push(seconds(|| drop(anew.gradient())));
        times[1].push(seconds(|| kept.apply(columns.subcols(0, 1), images.subcols_mut(0, 1))));
        times[2].push(seconds(|| anew.apply(columns.subcols(0, 1), images.subcols_mut(0, 1))));
        times[3].push(seconds(|| kept.apply(columns, images.as_mut())));
    }
    let [gradient, product, product_anew, block] = times.map(median);
    println!("{activation:?}, {} threads, p = {p}", rayon::current_num_threads());
    println!("gradient                       {:6.1} ms", 1e3 * gradient);
    for (name, time) in [
        ("product, passes kept", product),
        ("product, passes computed anew", product_anew),
        ("one of 16 at once", block / VECTORS as f64),
    ] {
        println!("{name:30} {:6.1} ms  {:.2} gradients", 1e3 * time, time / gradient);
    }

    let mut rng = stream(2, "example Hessian", 0);
    let start = Instant::now();
    let options = EigenpairOptions { relative_residual: 0.01, ..EigenpairOptions::default() };
    let top = top_eigenpairs(&kept, &options, &mut rng)?;
    for pair in &top.pairs {
        println!(
            "λ_max  {:.5}  residual {:.1e}  {} products, {:?}",
            pair.value, pair.residual, top.products, top.status
        );
    }
    let target = TraceTarget { max_products: 2000, ..TraceTarget::default() };
    let run = estimate_trace(&kept, &target, &mut rng)?;
    let interval = run.estimate.interval(0.95);
    println!(
        "trace  {:.5}  95 %: [{:.5}, {:.5}]  {} products, {:?}",
        run.estimate.value, interval.lower, interval.upper, run.products, run.status
    );
    println!("both in {:.1} s", start.elapsed().as_secs_f64());
    if let Some(memory) = peak_memory() {
        println!("peak memory {memory:.0} MB");
    }
    Ok(())
}
