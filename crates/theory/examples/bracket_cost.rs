//! Prints times and widths of brackets against the rank, on synthetic spectra that decay like those
//! of perceptrons, and the cost of one bracket for 600 000 rows known by closures.
//!
//! ```text
//! cargo run --release -p flatmin-theory --features parallel --example bracket_cost [-- large]
//! ```

#![expect(clippy::print_stdout, reason = "the answer of the program")]

use std::error::Error;
use std::ops::ControlFlow;
use std::time::Instant;

use faer::{MatMut, MatRef};
use flatmin_linalg::{DenseJacobian, FnJacobian, Parallelism, RowMatrix, stream};
use flatmin_theory::{
    Batch, BracketOptions, BracketProgress, Optimizer, Sampling, Subspace, continue_bracket,
};
use rand_distr::{Distribution as _, StandardNormal};

/// The modes beyond rank r hold about 20/(r + 20) of the trace, as at trained perceptrons.
fn scale(column: usize) -> f64 {
    1.0 / (1.0 + column as f64 / 20.0)
}

fn report(progress: &BracketProgress, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{seconds:7.1} s  rank {:4}, {:5} products, {:?} {:?}",
        progress.rank, progress.products, progress.stage, progress.interval
    );
}

/// One subspace that grows through the ranks, with a certified bracket at each.
fn by_rank(outputs: usize, batch_size: usize) -> Result<(), Box<dyn Error>> {
    let mut rng = stream(0, "bracket cost", 0);
    let matrix = RowMatrix::from_fn(6000, 3000, |_, j| {
        let value: f64 = StandardNormal.sample(&mut rng);
        scale(j) * (value + 0.1)
    });
    let jacobian = DenseJacobian::new(&matrix, outputs, Parallelism::Rayon)?;
    let batch = Batch::new(batch_size, Sampling::WithoutReplacement)?;
    let mut subspace = Subspace::new();
    println!("6000 rows, {outputs} outputs, batches of {batch_size}");
    let start = Instant::now();
    for max_rank in [50, 100, 200, 400, 800] {
        let options = BracketOptions {
            relative_width: 1e-4,
            max_rank,
            parallelism: Parallelism::Rayon,
            ..BracketOptions::default()
        };
        let watch = &mut |progress: &BracketProgress, _: &Subspace| {
            // No restarts: the rank is the question.
            if progress.rank + 16 > max_rank {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let found =
            continue_bracket(&jacobian, &Optimizer::sgd(), &batch, &options, &mut subspace, watch)?;
        println!(
            "{:7.1} s  rank {:4}, {:4} in the lower end, {:5} products, lower {:.4}, upper {:.4} of the \
             estimate, {:.3} of the trace and {:.3} of the heaviest sample left, 1 % at {:?}",
            start.elapsed().as_secs_f64(),
            found.rank,
            found.converged,
            subspace.products(),
            found.lower / found.estimate,
            found.upper / found.estimate,
            found.rest_of_trace,
            found.rest_of_heaviest,
            found.rank_for_one_percent,
        );
    }
    Ok(())
}

const ENTRIES: usize = 24;

/// Column and value of an entry of a sparse row.
fn entry(row: usize, index: usize) -> (usize, f64) {
    let hash = (row * ENTRIES + index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let column = index * 100 + hash % 100;
    let sign = if hash >> 20 & 1 == 0 { 1.0 } else { -1.0 };
    (column, sign * scale(column))
}

/// 60 000 samples with ten outputs, known by closures.
fn large() -> Result<(), Box<dyn Error>> {
    let shape = [60_000, 10, 100 * ENTRIES];
    let rows = shape[0] * shape[1];
    let jvp = |v: MatRef<'_, f64>, mut out: MatMut<'_, f64>| {
        for (v, out) in
            flatmin_linalg::columns(v).into_iter().zip(flatmin_linalg::columns_mut(out.as_mut()))
        {
            for (row, out) in out.iter_mut().enumerate() {
                *out = (0..ENTRIES).map(|i| entry(row, i)).map(|(j, value)| value * v[j]).sum();
            }
        }
        Ok(())
    };
    let vjp = |u: MatRef<'_, f64>, mut out: MatMut<'_, f64>| {
        for (u, out) in
            flatmin_linalg::columns(u).into_iter().zip(flatmin_linalg::columns_mut(out.as_mut()))
        {
            out.fill(0.0);
            for (row, u) in u.iter().enumerate().take(rows) {
                (0..ENTRIES).map(|i| entry(row, i)).for_each(|(j, value)| out[j] += value * u);
            }
        }
        Ok(())
    };
    let grams = |grams: &mut [f64]| {
        for (sample, gram) in grams.chunks_mut(100).enumerate() {
            for (a, b) in (0..10).flat_map(|a| (0..10).map(move |b| (a, b))) {
                let shared = |i: usize| {
                    let (j, left) = entry(sample * 10 + a, i);
                    let (l, right) = entry(sample * 10 + b, i);
                    if j == l { left * right } else { 0.0 }
                };
                gram[a * 10 + b] = (0..ENTRIES).map(shared).sum();
            }
        }
        Ok(())
    };
    let jacobian = FnJacobian::new(shape, jvp, vjp, grams);
    let batch = Batch::new(1, Sampling::WithoutReplacement)?;
    let options = BracketOptions {
        relative_width: 0.03,
        max_rank: 200,
        max_bytes: 6_000_000_000,
        parallelism: Parallelism::Rayon,
        ..BracketOptions::default()
    };
    let start = Instant::now();
    let watch = &mut |progress: &BracketProgress, _: &Subspace| {
        report(progress, start);
        if progress.rank + 8 >= 200 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let found = continue_bracket(
        &jacobian,
        &Optimizer::sgd(),
        &batch,
        &options,
        &mut Subspace::new(),
        watch,
    )?;
    println!("{:7.1} s  {found:?}", start.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).is_some_and(|text| text == "large") {
        return large();
    }
    by_rank(1, 1)?;
    by_rank(10, 1)?;
    by_rank(1, 32)
}
