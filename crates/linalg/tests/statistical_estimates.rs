//! Nominal 95 % intervals cover the truth in 93–97 % of runs.
//!
//! With 1000 seeds, the measured coverage of an interval that covers exactly 95 % has a standard
//! deviation of 0.7 %, and one that covers 93 % or 97 % is found outside of 92–98 % in one test of
//! ten; the mean over five or six spectra is to lie within 93.5–96.5 %. Seeds are fixed, so that an
//! outcome changes only with the code. Halved standard errors cover about 67 %.

mod operators;

use flatmin_linalg::{
    DensityOptions, Estimate, FrobeniusMethod, FrobeniusOptions, Operator as _, Stream,
    TraceMethod, TraceOptions, TraceTarget, estimate_trace, frobenius_norm_squared,
    spectral_density, stream, symmetric_eigenvalues, trace,
};
use operators::cases;

const SEEDS: u32 = 1000;

/// Runs an estimator and returns the fraction of intervals that contain the truth.
fn coverage(truth: f64, estimate: impl Fn(&mut Stream) -> Estimate) -> f64 {
    let covers = |seed: u32| {
        let estimate = estimate(&mut stream(u64::from(seed), "coverage of tests", 0));
        estimate.interval(0.95).contains(truth)
    };
    (0..SEEDS).map(|seed| f64::from(u8::from(covers(seed)))).sum::<f64>() / f64::from(SEEDS)
}

/// Checks a trace estimator on all spectra. On the spectra in `wide` the interval may be too wide.
fn check(method: TraceMethod, max_products: usize, wide: &[&str]) {
    let mut shares = Vec::new();
    for (name, operator, positive) in cases() {
        if method == TraceMethod::XNysTrace && !positive {
            continue;
        }
        let share = coverage(operator.trace(), |rng| {
            trace(&operator, &TraceOptions { method, max_products }, rng)
                .expect("a finite operator")
        });
        let high = if wide.contains(&name) { 1.0 } else { 0.98 };
        assert!((0.92..=high).contains(&share), "{name} {method:?} {max_products}: {share}");
        shares.push(share);
    }
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let high = if wide.is_empty() { 0.965 } else { 0.98 };
    assert!((0.935..=high).contains(&mean), "{method:?} {max_products}: {shares:?}");
}

#[test]
fn hutchinson_covers() {
    check(TraceMethod::Hutchinson, 10, &[]);
    check(TraceMethod::Hutchinson, 60, &[]);
    // Several blocks of vectors.
    check(TraceMethod::Hutchinson, 100, &[]);
}

#[test]
fn hutch_plus_plus_covers() {
    check(TraceMethod::HutchPlusPlus, 10, &[]);
    check(TraceMethod::HutchPlusPlus, 60, &[]);
}

#[test]
fn xtrace_covers() {
    check(TraceMethod::XTrace, 10, &["1/k²", "outlier"]);
    check(TraceMethod::XTrace, 60, &[]);
}

#[test]
fn xnystrace_covers() {
    check(TraceMethod::XNysTrace, 10, &["outlier"]);
    check(TraceMethod::XNysTrace, 60, &[]);
}

#[test]
fn means_over_the_spectrum_are_covered() {
    for (name, operator, _) in cases() {
        // When all eigenvalues but one are equal, that one causes the spread of the starts: 87 %.
        if name == "outlier" {
            continue;
        }
        // The mean of a function to which many eigenvalues contribute.
        let eigenvalues = symmetric_eigenvalues(operator.0.as_ref()).unwrap();
        let mut sizes: Vec<f64> = eigenvalues.iter().map(|value| value.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let half = sizes[sizes.len() / 2].max(1e-3 * sizes[sizes.len() - 1]);
        let function = |value: f64| value.abs() / (value.abs() + half);
        let truth = eigenvalues.iter().map(|v| function(*v)).sum::<f64>() / sizes.len() as f64;
        let options = DensityOptions { probes: 10, steps: 30 };
        let covers = |seed: u32| {
            let rng = &mut stream(u64::from(seed), "coverage of densities", 0);
            let density = spectral_density(&operator, &options, rng).unwrap();
            density.mean(function).interval(0.95).contains(truth)
        };
        let share = (0..SEEDS).map(|seed| f64::from(u8::from(covers(seed)))).sum::<f64>();
        let share = share / f64::from(SEEDS);
        assert!((0.92..=0.98).contains(&share), "{name}: {share}");
    }
}

#[test]
fn frobenius_norms_are_covered() {
    for (name, operator, _) in cases() {
        for (method, max_products) in
            [(FrobeniusMethod::Plain, 30), (FrobeniusMethod::Deflated, 60)]
        {
            let share = coverage(operator.frobenius_norm_squared(), |rng| {
                let options = FrobeniusOptions { method, max_products };
                frobenius_norm_squared(&operator, &options, rng).unwrap()
            });
            assert!((0.92..=0.98).contains(&share), "{name} {method:?}: {share}");
        }
    }
}

#[test]
fn little_memory_does_not_spoil_it() {
    for (name, operator, _) in cases() {
        let vector = size_of::<f64>() * operator.dim();
        // Blocks of four vectors; ten directions.
        for vectors in [8, 74] {
            let target = TraceTarget {
                relative_error: 0.05,
                max_products: 110,
                max_bytes: vectors * vector,
                ..TraceTarget::default()
            };
            let share = coverage(operator.trace(), |rng| {
                estimate_trace(&operator, &target, rng).unwrap().estimate
            });
            let high = if name == "outlier" { 1.0 } else { 0.98 };
            assert!((0.92..=high).contains(&share), "{name} in {vectors} vectors: {share}");
        }
    }
}

#[test]
fn stopping_when_the_interval_is_narrow_does_not_spoil_it() {
    for (name, operator, _) in cases() {
        for relative_error in [0.05, 0.25] {
            let target =
                TraceTarget { relative_error, max_products: 110, ..TraceTarget::default() };
            let share = coverage(operator.trace(), |rng| {
                estimate_trace(&operator, &target, rng).unwrap().estimate
            });
            // After 16 products the intervals of some are too wide.
            let high = if matches!(name, "outlier" | "1/k²") { 1.0 } else { 0.98 };
            assert!((0.92..=high).contains(&share), "{name} to {relative_error}: {share}");
        }
    }
}
