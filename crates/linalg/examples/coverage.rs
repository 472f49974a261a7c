//! Measures how often the nominal 95 % intervals of the estimators cover the truth, and how large
//! the errors are.
//!
//! `cargo run --release -p flatmin-linalg --example coverage -- [SEEDS] [ONLY]` prints one line for
//! each spectrum, estimator and budget, over SEEDS seeds (1000 by default), for all spectra or the
//! one named ONLY.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

#[path = "../tests/operators/mod.rs"]
mod operators;

use flatmin_linalg::{
    Estimate, FrobeniusMethod, FrobeniusOptions, Operator, Stream, TraceMethod, TraceOptions,
    TraceTarget, estimate_trace, frobenius_norm_squared, stream, trace,
};
use operators::{Dense, GaussNewton, cases, relu_jacobian};

const METHODS: [TraceMethod; 4] = [
    TraceMethod::Hutchinson,
    TraceMethod::HutchPlusPlus,
    TraceMethod::XTrace,
    TraceMethod::XNysTrace,
];

/// Prints one line of the table for an estimator.
fn line(
    name: &str,
    estimator: &str,
    seeds: u64,
    truth: f64,
    estimate: impl Fn(&mut Stream) -> Estimate,
) {
    let (mut below, mut above, mut products) = (0_u32, 0_u32, 0);
    let (mut squares, mut variances) = (0.0, 0.0);
    let mut errors = Vec::new();
    for seed in 0..seeds {
        let estimate = estimate(&mut stream(seed, "coverage", 0));
        let interval = estimate.interval(0.95);
        below += u32::from(interval.upper < truth);
        above += u32::from(interval.lower > truth);
        squares += (estimate.value - truth).powi(2);
        variances += estimate.standard_error.powi(2);
        products += estimate.products;
        errors.push((estimate.value - truth).abs() / truth.abs());
    }
    errors.sort_by(f64::total_cmp);
    let share = |count: u32| 100.0 * f64::from(count) / seeds as f64;
    println!(
        "{name:8} {estimator:20} {:8.0} {:8.1} {:7.1} {:7.1} {:9.2} {:13.1e}",
        products as f64 / seeds as f64,
        100.0 - share(below) - share(above),
        share(below),
        share(above),
        (variances / squares).sqrt(),
        errors[errors.len() / 2],
    );
}

fn table(name: &str, operator: &Dense, positive: bool, seeds: u64) {
    let truth = operator.trace();
    for method in METHODS {
        if method == TraceMethod::XNysTrace && !positive {
            continue;
        }
        for max_products in [10, 16, 30, 60, 100] {
            line(name, &format!("{method:?}"), seeds, truth, |rng| {
                trace(operator, &TraceOptions { method, max_products }, rng).expect("finite")
            });
        }
    }
    let truth = operator.frobenius_norm_squared();
    for method in [FrobeniusMethod::Plain, FrobeniusMethod::Deflated] {
        for max_products in [10, 16, 30, 60, 100] {
            line(name, &format!("Frobenius {method:?}"), seeds, truth, |rng| {
                let options = FrobeniusOptions { method, max_products };
                frobenius_norm_squared(operator, &options, rng).expect("finite")
            });
        }
    }
    let truth = operator.trace();
    for method in METHODS {
        if method == TraceMethod::XNysTrace && !positive {
            continue;
        }
        for relative_error in [0.1, 0.02] {
            let label = format!("{method:?} to {relative_error}");
            line(name, &label, seeds, truth, |rng| {
                let target =
                    TraceTarget { relative_error, method, max_products: 110, ..Default::default() };
                let run = estimate_trace(operator, &target, rng).expect("finite");
                let mut estimate = run.estimate;
                estimate.products = run.products;
                estimate
            });
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seeds = arguments.next().and_then(|word| word.parse().ok()).unwrap_or(1000).max(1);
    let only = arguments.next();
    println!(
        "{:8} {:20} {:>8} {:>8} {:>7} {:>7} {:>9} {:>13}",
        "spectrum",
        "estimator",
        "products",
        "cover %",
        "below",
        "above",
        "s.e./rms",
        "median error"
    );
    for (name, operator, positive) in cases() {
        if only.as_ref().is_none_or(|only| only == name) {
            table(name, &operator, positive, seeds);
        }
    }
    let name = "ReLU n";
    if only.as_ref().is_none_or(|only| only == name) {
        // The Gauss–Newton matrix of width and input dimension 100 on 300 samples.
        let operator = GaussNewton(relu_jacobian(100, 100, 300, 200));
        let truth = operator.0.squared_norm_l2() / operator.0.nrows() as f64;
        for method in METHODS {
            for max_products in [30, 300] {
                line(name, &format!("{method:?}"), seeds.min(50), truth, |rng| {
                    trace(&operator, &TraceOptions { method, max_products }, rng).expect("finite")
                });
            }
        }
        assert_eq!(operator.dim(), 100 * 101);
    }
}
