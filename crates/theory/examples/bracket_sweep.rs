//! Compares brackets with exact thresholds on random minima, and prints violations and widths.
//!
//! `cargo run --release -p flatmin-theory --example bracket_sweep -- 2000`

#![expect(clippy::print_stdout, reason = "an example prints its result")]

use std::error::Error;

use flatmin_linalg::{DenseJacobian, Parallelism, RowMatrix, stream};
use flatmin_theory::{
    Batch, BracketOptions, Minimum, Optimizer, Sampling, threshold, threshold_bracket,
};
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

const SHAPES: [&str; 6] =
    ["power law", "heavy tails", "near-duplicates", "flat", "one dominating sample", "low rank"];

/// A random Jacobian of a given kind, nk × p.
fn jacobian(kind: usize, (n, k, p): (usize, usize, usize), seed: u64) -> RowMatrix {
    let mut rng = stream(seed, "bracket sweep", 0);
    let decay = [1.0, 1.0, 0.8, 0.0, 1.0, 2.5][kind];
    let scale = libm::exp(StandardNormal.sample(&mut rng));
    let mut lengths = vec![1.0; n];
    for (i, length) in lengths.iter_mut().enumerate() {
        *length = match kind {
            1 => {
                let u: f64 = rng.random_range(0.02..1.0);
                1.0 / u
            }
            4 if i == 0 => 8.0,
            _ => 1.0,
        };
    }
    let mut mean: Vec<f64> = (0..p).map(|_| StandardNormal.sample(&mut rng)).collect();
    if kind == 3 {
        mean.fill(0.0);
    }
    let mut matrix = RowMatrix::zeros(n * k, p);
    for row in 0..n * k {
        let copied = (kind == 2 && row / k >= n / 4).then(|| row % (n / 4 * k).max(1));
        let source = copied.map(|source| matrix.row(source).to_vec());
        for j in 0..p {
            let noise: f64 = StandardNormal.sample(&mut rng);
            let fresh = (noise + 0.3 * mean[j]) * libm::pow(1.0 + j as f64, -decay);
            matrix.row_mut(row)[j] = match &source {
                Some(source) => source[j] + 1e-3 * scale * fresh,
                None => scale * lengths[row / k] * fresh,
            };
        }
    }
    matrix
}

fn main() -> Result<(), Box<dyn Error>> {
    let cases: usize = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;
    let mut violations = 0;
    let mut widths: Vec<Vec<f64>> = vec![Vec::new(); SHAPES.len()];
    let mut errors: Vec<Vec<f64>> = vec![Vec::new(); SHAPES.len()];
    for case in 0..cases {
        let kind = case % SHAPES.len();
        let k = [1, 3, 10][case / 6 % 3];
        let mut rng = stream(case as u64, "bracket sweep sizes", 0);
        let rows = rng.random_range(40..=200);
        let n = (rows / k).max(4);
        let p = rng.random_range(20..=300);
        let matrix = jacobian(kind, (n, k, p), case as u64);
        let sampling = [Sampling::WithReplacement, Sampling::WithoutReplacement, Sampling::Poisson]
            [case / 18 % 3];
        let batch = Batch::new([1, 8.min(n - 1), n / 4][case / 54 % 3], sampling)?;
        let optimizer = Optimizer::sgd();
        let exact = threshold(&Minimum::with_outputs(&matrix, k)?, &optimizer, &batch)?;
        let products = DenseJacobian::new(&matrix, k, Parallelism::Sequential)?;
        let options = BracketOptions {
            relative_width: [0.3, 0.05, 0.01][rng.random_range(0..3)],
            max_rank: rng.random_range(8..=n * k),
            block_size: rng.random_range(1..=8),
            seed: case as u64,
            ..BracketOptions::default()
        };
        let bracket = threshold_bracket(&products, &optimizer, &batch, &options)?;
        if !(bracket.lower <= exact.upper && exact.lower <= bracket.upper) {
            violations += 1;
            println!("violated: case {case}, {}: {exact:?} {bracket:?}", SHAPES[kind]);
        }
        widths[kind].push(bracket.relative_width());
        errors[kind].push((bracket.estimate / exact.midpoint() - 1.0).abs());
    }
    println!("{cases} cases, {violations} violations");
    for (kind, name) in SHAPES.iter().enumerate() {
        let median = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        println!(
            "{name:22} median width {:.4}, median error of the estimate {:.4}",
            median(&mut widths[kind]),
            median(&mut errors[kind]),
        );
    }
    Ok(())
}
