//! Prints the time and the width of brackets against the rank, the samples and the outputs, beside
//! the time of exact thresholds at the same number of rows.
//!
//! ```text
//! cargo run --release -p flatmin-theory --example bracket_curves [-- LARGEST_ROWS]
//! ```
//!
//! Times are seconds of the processor on one thread where the system tells them, so that other work
//! on the machine hardly matters, and of the clock elsewhere.

#![expect(clippy::print_stdout, reason = "the answer of the program")]

use std::error::Error;
use std::ops::ControlFlow;
use std::time::Instant;

use flatmin_linalg::{DenseJacobian, Parallelism, RowMatrix, stream};
use flatmin_theory::{
    Batch, BracketOptions, BracketProgress, Minimum, Optimizer, Sampling, Subspace,
    ThresholdBracket, continue_bracket, threshold, threshold_bracket,
};
use rand_distr::{Distribution as _, StandardNormal};

const COLUMNS: usize = 1500;

/// Seconds of this thread on a processor, or since the start.
struct Clock(Instant);

impl Clock {
    fn seconds(&self) -> f64 {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
        let nanoseconds = told.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        nanoseconds.map_or_else(|| self.0.elapsed().as_secs_f64(), |count| count * 1e-9)
    }

    fn time<T>(&self, work: impl FnOnce() -> T) -> (f64, T) {
        let before = self.seconds();
        let found = work();
        (self.seconds() - before, found)
    }
}

/// The modes beyond rank r hold about 20/(r + 20) of the trace, as at trained perceptrons.
fn jacobian(rows: usize) -> RowMatrix {
    let mut rng = stream(0, "bracket curves", 0);
    RowMatrix::from_fn(rows, COLUMNS, |_, j| {
        let value: f64 = StandardNormal.sample(&mut rng);
        (value + 0.1) / (1.0 + j as f64 / 20.0)
    })
}

fn width(found: &ThresholdBracket) -> String {
    format!("{:5.1} %, {:4} modes, {:?}", 100.0 * found.relative_width(), found.rank, found.stop)
}

/// One subspace that grows through the ranks, with a certified bracket at each.
fn by_rank(clock: &Clock, rows: usize, k: usize) -> Result<(), Box<dyn Error>> {
    let matrix = jacobian(rows);
    let products = DenseJacobian::new(&matrix, k, Parallelism::Sequential)?;
    let batch = Batch::new(1, Sampling::WithoutReplacement)?;
    let mut subspace = Subspace::new();
    let start = clock.seconds();
    for rank in [48, 96, 192, 400, 800] {
        let options =
            BracketOptions { relative_width: 1e-6, max_rank: 4000, ..BracketOptions::default() };
        let watch = &mut |progress: &BracketProgress, _: &Subspace| {
            if progress.rank >= rank { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let sgd = Optimizer::sgd();
        let found = continue_bracket(&products, &sgd, &batch, &options, &mut subspace, watch)?;
        let seconds = clock.seconds() - start;
        println!("{rows} rows, {k} outputs, rank {rank}: {seconds:.2} s, {}", width(&found));
    }
    Ok(())
}

/// An exact threshold and brackets of two widths.
fn beside_exact(
    clock: &Clock,
    rows: usize,
    k: usize,
    batch_size: usize,
) -> Result<(), Box<dyn Error>> {
    let matrix = jacobian(rows);
    let batch = Batch::new(batch_size, Sampling::WithoutReplacement)?;
    let sgd = Optimizer::sgd();
    let (seconds, exact) = clock.time(|| {
        let minimum = Minimum::with_outputs(&matrix, k).map_err(Box::<dyn Error>::from)?;
        threshold(&minimum, &sgd, &batch).map_err(Box::<dyn Error>::from)
    });
    let exact = exact?;
    print!("{rows} rows, {k} outputs, B = {batch_size}: exact {seconds:.2} s");
    for relative_width in [0.2, 0.05] {
        let options =
            BracketOptions { relative_width, max_rank: 4000, ..BracketOptions::default() };
        let (seconds, found) = clock.time(|| {
            let products = DenseJacobian::new(&matrix, k, Parallelism::Sequential)?;
            threshold_bracket(&products, &sgd, &batch, &options)
        });
        let found = found?;
        let error = 100.0 * (found.estimate / exact.midpoint() - 1.0).abs();
        print!("; bracket {seconds:.2} s, {}, estimate off by {error:.3} %", width(&found));
    }
    println!();
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let largest: usize = std::env::args().nth(1).map_or(Ok(2000), |text| text.parse())?;
    let clock = Clock(Instant::now());
    for k in [1, 10] {
        by_rank(&clock, largest, k)?;
    }
    let mut rows = 250;
    while rows <= largest {
        for (k, batch_size) in [(1, 1), (1, 32), (10, 1)] {
            beside_exact(&clock, rows, k, batch_size)?;
        }
        rows *= 2;
    }
    for k in [1, 2, 5, 10] {
        beside_exact(&clock, 1000, k, 1)?;
    }
    Ok(())
}
