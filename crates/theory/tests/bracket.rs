//! Brackets from products with the Jacobian (S20), compared with exact thresholds.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use faer::{MatMut, MatRef};
use flatmin_linalg::{
    DenseJacobian, FnJacobian, JacobianError, JacobianProducts, Parallelism, RowMatrix, Stream,
    stream,
};
use flatmin_theory::{
    Batch, BracketError, BracketOptions, BracketProgress, BracketStage, BracketStop, Minimum,
    Optimizer, Sampling, Stability, Subspace, Threshold, ThresholdBracket, bounds,
    continue_bracket, contraction_bound, threshold, threshold_bracket,
};
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

const KINDS: [&str; 7] =
    ["power law", "heavy tails", "near-duplicates", "flat", "dominating", "low rank", "zeros"];

fn normal(rng: &mut Stream) -> f64 {
    StandardNormal.sample(rng)
}

/// A random Jacobian, nk × p.
fn jacobian(kind: &str, (n, k, p): (usize, usize, usize), seed: u64) -> RowMatrix {
    let mut rng = stream(seed, "bracket test", 0);
    let source = RowMatrix::from_fn(n * k, p, |_, _| normal(&mut rng));
    let mean: Vec<f64> = (0..p).map(|_| normal(&mut rng)).collect();
    let lengths: Vec<f64> = (0..n).map(|_| 1.0 / rng.random_range(0.03..1.0)).collect();
    let decayed = |row: usize, j: usize, power: f64| {
        (source.row(row)[j] + 0.3 * mean[j]) * libm::pow(1.0 + j as f64, -power)
    };
    RowMatrix::from_fn(n * k, p, |row, j| match kind {
        "heavy tails" => lengths[row / k] * decayed(row, j, 1.0),
        "near-duplicates" => decayed(row % (n / 4 * k), j, 0.8) + 1e-4 * source.row(row)[j],
        "flat" => source.row(row)[j],
        "dominating" => decayed(row, j, 1.0) * if row / k == 1 { 9.0 } else { 1.0 },
        "low rank" => decayed(row, j, 0.5) * if j < 5 { 1.0 } else { 0.0 },
        "zeros" => decayed(row, j, 1.0) * if row / k % 2 == 0 { 1.0 } else { 0.0 },
        _ => decayed(row, j, 1.0),
    })
}

fn exact(matrix: &RowMatrix, k: usize, optimizer: &Optimizer, batch: &Batch) -> Threshold {
    threshold(&Minimum::with_outputs(matrix, k).unwrap(), optimizer, batch).unwrap()
}

fn bracket(
    matrix: &RowMatrix,
    k: usize,
    optimizer: &Optimizer,
    batch: &Batch,
    options: &BracketOptions,
) -> ThresholdBracket {
    let jacobian = DenseJacobian::new(matrix, k, Parallelism::Sequential).unwrap();
    threshold_bracket(&jacobian, optimizer, batch, options).unwrap()
}

/// True if the exact threshold may lie inside: its own interval is about 1e-10 wide.
fn holds(bracket: &ThresholdBracket, exact: &Threshold) -> bool {
    bracket.lower <= exact.upper && exact.lower <= bracket.upper
}

#[test]
fn brackets_hold_the_exact_threshold() {
    let samplings = [Sampling::WithReplacement, Sampling::WithoutReplacement, Sampling::Poisson];
    let mut index = 0;
    for kind in KINDS {
        for k in [1, 3, 10] {
            for (sampling, n) in samplings.into_iter().zip([120 / k, 90 / k, 60 / k]) {
                let matrix = jacobian(kind, (n, k, 70), index);
                for size in [1, 8.min(n - 1), n / 4] {
                    let batch = Batch::new(size, sampling).unwrap();
                    index += 1;
                    let options = BracketOptions {
                        relative_width: [0.2, 0.02][usize::from(index % 2 == 0)],
                        max_rank: if index % 3 == 0 { 20 } else { 200 },
                        block_size: 1 + usize::try_from(index % 5).unwrap(),
                        seed: index,
                        ..BracketOptions::default()
                    };
                    let sgd = Optimizer::sgd();
                    let exact = exact(&matrix, k, &sgd, &batch);
                    let found = bracket(&matrix, k, &sgd, &batch, &options);
                    let context = format!("{kind} {k} {size} {sampling}: {exact:?} {found:?}");
                    assert!(holds(&found, &exact), "{context}");
                    assert!(found.lower <= found.estimate && found.estimate <= found.upper);
                    assert!(found.failure_probability <= 1e-9, "{context}");
                    let narrow = found.relative_width() <= options.relative_width;
                    assert!(narrow || found.stop != BracketStop::Width, "{context}");
                    if found.stop == BracketStop::Complete {
                        assert!(found.relative_width() < 0.02, "{context}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_a_bracket_says_about_the_spectrum_is_true() {
    for k in [1, 3] {
        let matrix = jacobian("power law", (150 / k, k, 200), 5);
        let minimum = Minimum::with_outputs(&matrix, k).unwrap();
        let batch = Batch::new(4, Sampling::WithoutReplacement).unwrap();
        let options = BracketOptions { relative_width: 0.1, ..BracketOptions::default() };
        let found = bracket(&matrix, k, &Optimizer::sgd(), &batch, &options);
        let sharpness = minimum.sharpness();
        assert!((found.trace / sharpness.trace - 1.0).abs() < 1e-12);
        let (low, high) = found.lambda_max;
        assert!(
            low <= sharpness.lambda_max * (1.0 + 1e-12)
                && sharpness.lambda_max <= high * (1.0 + 1e-12)
        );
        let mut eigenvalues = minimum.eigenvalues().to_vec();
        eigenvalues.reverse();
        for (mode, exact) in found.modes.iter().zip(&eigenvalues) {
            assert!(mode.value <= exact * (1.0 + 1e-12));
            let distances = eigenvalues.iter().map(|value| (value - mode.value).abs());
            assert!(distances.fold(f64::INFINITY, f64::min) <= mode.residual + 1e-12 * low);
        }
        // The conditions are those of the exact spectrum, or weaker.
        let simple = bounds(&minimum, &batch).unwrap();
        let contraction = contraction_bound(&minimum, batch.noise(150 / k).unwrap()).unwrap();
        let slack = 1.0 + 1e-9;
        assert!((found.bounds.trace / simple.trace - 1.0).abs() < 1e-12);
        assert!(simple.lambda_max <= found.bounds.lambda_max * slack);
        assert!(simple.spectral <= found.bounds.spectral * slack);
        let spectral = (found.bounds.spectral, simple.spectral);
        assert!(spectral.0 <= 1.02 * spectral.1, "{spectral:?}");
        assert!(found.bounds.sufficient <= simple.sufficient * slack);
        assert!(found.bounds.sufficient >= 0.98 * simple.sufficient);
        assert!(found.bounds.contraction <= contraction * slack);
        let pair = (found.bounds.contraction, contraction, found.bounds.sufficient);
        assert!(pair.0 >= 0.95 * pair.1 && pair.0 >= pair.2, "{pair:?}");
        assert_eq!(found.stability(found.lower), Stability::Stable);
        assert_eq!(found.stability(1.01 * found.upper), Stability::Unstable);
        assert_eq!(found.stability(found.estimate), Stability::Undecided);
    }
}

#[test]
fn momentum_has_an_upper_end_and_a_low_lower_one() {
    let heavy = |beta| Optimizer::sgd().momentum(beta).unwrap();
    let optimizers = [heavy(0.5), heavy(0.9), heavy(0.9).nesterov().unwrap()];
    let dampened = heavy(0.5).dampening(0.3).unwrap();
    for (seed, kind) in ["power law", "heavy tails", "dominating"].into_iter().enumerate() {
        for k in [1, 3] {
            let matrix = jacobian(kind, (90 / k, k, 60), seed as u64);
            for optimizer in optimizers.iter().chain([&dampened]) {
                for size in [1, 8] {
                    let batch = Batch::new(size, Sampling::WithReplacement).unwrap();
                    let options =
                        BracketOptions { max_rank: 40, block_size: 4, ..Default::default() };
                    let found = bracket(&matrix, k, optimizer, &batch, &options);
                    let exact = exact(&matrix, k, optimizer, &batch);
                    let context = format!("{optimizer} {kind} {k} {size}: {exact:?} {found:?}");
                    assert!(holds(&found, &exact), "{context}");
                    assert!((found.estimate / exact.midpoint() - 1.0).abs() < 0.1, "{context}");
                    assert_eq!(found.lower > 0.0, !optimizer.is_nesterov(), "{context}");
                }
            }
        }
    }
    let decayed = Optimizer::sgd().weight_decay(0.1).unwrap();
    let matrix = jacobian("flat", (8, 1, 5), 0);
    let products = DenseJacobian::new(&matrix, 1, Parallelism::Sequential).unwrap();
    let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
    let error = threshold_bracket(&products, &decayed, &batch, &BracketOptions::default());
    assert!(matches!(error, Err(BracketError::WeightDecay)));
}

#[test]
fn gradient_descent_and_degenerate_minima_are_ordinary() {
    let sgd = Optimizer::sgd();
    let matrix = jacobian("power law", (40, 1, 30), 1);
    let full = Batch::new(40, Sampling::WithoutReplacement).unwrap();
    let options = BracketOptions { relative_width: 1e-3, ..BracketOptions::default() };
    let found = bracket(&matrix, 1, &sgd, &full, &options);
    assert!(holds(&found, &exact(&matrix, 1, &sgd, &full)), "{found:?}");
    assert!(found.relative_width() < 1e-3, "{found:?}");
    let single = Batch::new(1, Sampling::WithReplacement).unwrap();
    let zero = RowMatrix::zeros(3, 2);
    let found = bracket(&zero, 1, &sgd, &single, &options);
    assert!(found.lower.is_infinite() && found.relative_width() <= 0.0);
    for scale in [1e-140, 1e140] {
        let scaled = RowMatrix::from_fn(40, 30, |i, j| scale * matrix.row(i)[j]);
        let found = bracket(&scaled, 1, &sgd, &single, &options);
        assert!(holds(&found, &exact(&scaled, 1, &sgd, &single)), "{scale}: {found:?}");
    }
    for (n, p) in [(1, 1), (1, 6), (2, 1), (5, 3)] {
        let matrix = jacobian("flat", (n, 1, p), 3);
        let found = bracket(&matrix, 1, &sgd, &single, &options);
        assert!(holds(&found, &exact(&matrix, 1, &sgd, &single)), "{n} {p}: {found:?}");
    }
}

/// A block of more vectors than there may be modes would leave a random space, or none at all.
#[test]
fn small_ranks_have_modes_that_converge() {
    let sgd = Optimizer::sgd();
    for k in [1, 3] {
        let matrix = jacobian("low rank", (60 / k, k, 40), 7);
        for size in [1, 60 / k] {
            let batch = Batch::new(size, Sampling::WithoutReplacement).unwrap();
            let exact = exact(&matrix, k, &sgd, &batch);
            for max_rank in [1, 2, 3, 5, 10, 15, 20, 24] {
                let options =
                    BracketOptions { relative_width: 1e-6, max_rank, ..BracketOptions::default() };
                let found = bracket(&matrix, k, &sgd, &batch, &options);
                let context = format!("{k} {size} {max_rank}: {exact:?} {found:?}");
                assert!(holds(&found, &exact) && found.upper.is_finite(), "{context}");
                assert!((1..=max_rank).contains(&found.rank), "{context}");
                // The Jacobian has the rank 5.
                if max_rank >= 10 {
                    assert!((found.estimate / exact.midpoint() - 1.0).abs() < 1e-6, "{context}");
                    assert!(found.relative_width() < 1e-3, "{context}");
                }
            }
        }
    }
}

/// The lower end leaves out a term with momentum, which no number of modes mends.
#[test]
fn all_modes_leave_a_bracket_open_with_momentum_only() {
    let batch = Batch::new(2, Sampling::WithReplacement).unwrap();
    for (seed, kind) in ["low rank", "near-duplicates", "zeros"].into_iter().enumerate() {
        let matrix = jacobian(kind, (30, 1, 25), seed as u64);
        for optimizer in [Optimizer::sgd(), Optimizer::sgd().momentum(0.9).unwrap()] {
            let options = BracketOptions { relative_width: 1e-4, ..BracketOptions::default() };
            let found = bracket(&matrix, 1, &optimizer, &batch, &options);
            let exact = exact(&matrix, 1, &optimizer, &batch);
            let context = format!("{kind} {optimizer}: {exact:?} {found:?}");
            assert!(holds(&found, &exact), "{context}");
            assert!((found.estimate / exact.midpoint() - 1.0).abs() < 1e-6, "{context}");
            assert!((found.upper / exact.midpoint() - 1.0).abs() < 1e-6, "{context}");
            if optimizer.momentum_coefficient() > 0.0 {
                assert_eq!(found.stop, BracketStop::Complete, "{context}");
                assert!(found.rank_for_one_percent.is_none(), "{context}");
            } else {
                assert!(found.relative_width() < 1e-3, "{context}");
            }
        }
    }
}

#[test]
fn a_flat_spectrum_ends_wide_with_its_reason() {
    let matrix = jacobian("flat", (400, 1, 900), 2);
    let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
    let options = BracketOptions { max_rank: 60, ..BracketOptions::default() };
    let found = bracket(&matrix, 1, &Optimizer::sgd(), &batch, &options);
    assert_eq!(found.stop, BracketStop::Rank);
    assert!(found.relative_width() > 0.05 && found.rest_of_trace > 0.5, "{found:?}");
    assert!(holds(&found, &exact(&matrix, 1, &Optimizer::sgd(), &batch)));
    assert!(found.rank_for_one_percent.is_none_or(|rank| rank > 200), "{found:?}");
}

#[test]
fn any_budget_gives_an_interval() {
    let matrix = jacobian("power law", (200, 1, 100), 4);
    let batch = Batch::new(2, Sampling::Poisson).unwrap();
    let exact = exact(&matrix, 1, &Optimizer::sgd(), &batch);
    let mut widths = Vec::new();
    for max_products in [0, 1, 30, 60, 200, 400] {
        let options =
            BracketOptions { relative_width: 1e-4, max_products, ..BracketOptions::default() };
        let found = bracket(&matrix, 1, &Optimizer::sgd(), &batch, &options);
        assert!(found.products <= max_products, "{max_products}: {found:?}");
        assert!(holds(&found, &exact), "{max_products}: {found:?}");
        widths.push(found.relative_width());
        let is_complete = found.rank >= 100;
        let expected = if is_complete { BracketStop::Complete } else { BracketStop::Products };
        assert_eq!(found.stop, expected, "{max_products}: {found:?}");
    }
    assert!(widths[5] < 0.01 && widths[4] < 0.2 && widths[0] < 1.0, "{widths:?}");
    for max_bytes in [0, 200_000, 500_000] {
        let options = BracketOptions { relative_width: 1e-6, max_bytes, ..Default::default() };
        let found = bracket(&matrix, 1, &Optimizer::sgd(), &batch, &options);
        assert!(holds(&found, &exact), "{max_bytes}: {found:?}");
        assert_eq!(found.stop, BracketStop::Memory, "{max_bytes}: {found:?}");
    }
    let one = BracketOptions::default();
    for options in [
        BracketOptions { relative_width: 0.0, ..one },
        BracketOptions { failure_probability: 1.0, ..one },
        BracketOptions { block_size: 0, ..one },
    ] {
        let jacobian = DenseJacobian::new(&matrix, 1, Parallelism::Sequential).unwrap();
        let error = threshold_bracket(&jacobian, &Optimizer::sgd(), &batch, &options);
        assert!(matches!(error, Err(BracketError::Option { .. })));
    }
}

/// A random start may be nearly orthogonal to all that J maps, so that the modes hold almost nothing.
#[test]
fn a_few_rows_of_a_low_rank_have_a_bracket() {
    for seed in 0..40 {
        for (n, k) in [(1, 1), (2, 1), (1, 2), (3, 1), (2, 2)] {
            let matrix = RowMatrix::from_fn(n * k, 3, |i, j| {
                f64::from(u8::from(i == 0)) * [1.0, -2.0, 0.5][j] + 1e-9 * (i * j) as f64
            });
            for (batch, max_products) in [(1, 10_000), (n, 48)] {
                let batch = Batch::new(batch, Sampling::WithReplacement).unwrap();
                let (max_rank, block_size) = (1 + n % 2, 1);
                let options = BracketOptions {
                    max_rank,
                    max_products,
                    block_size,
                    seed,
                    ..Default::default()
                };
                let found = bracket(&matrix, k, &Optimizer::sgd(), &batch, &options);
                let exact = exact(&matrix, k, &Optimizer::sgd(), &batch);
                assert!(holds(&found, &exact), "{seed} {n} {k}: {found:?} {exact:?}");
            }
        }
    }
}

#[test]
fn a_run_can_be_watched_stopped_and_continued() {
    let matrix = jacobian("power law", (300, 1, 150), 6);
    let jacobian = DenseJacobian::new(&matrix, 1, Parallelism::Sequential).unwrap();
    let sgd = Optimizer::sgd();
    let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
    let options = BracketOptions { relative_width: 0.03, ..BracketOptions::default() };
    let mut subspace = Subspace::new();
    let mut seen = Vec::new();
    let stop_early = &mut |progress: &BracketProgress, _: &Subspace| {
        seen.push(*progress);
        if progress.rank >= 48 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let first =
        continue_bracket(&jacobian, &sgd, &batch, &options, &mut subspace, stop_early).unwrap();
    assert_eq!((first.stop, first.rank, subspace.dimension()), (BracketStop::Caller, 48, 48));
    assert!(seen.windows(2).all(|pair| pair[0].products <= pair[1].products));
    assert!(seen.iter().any(|progress| progress.interval.is_some()));
    let go_on = &mut |_: &BracketProgress, _: &Subspace| ControlFlow::Continue(());
    let second = continue_bracket(&jacobian, &sgd, &batch, &options, &mut subspace, go_on).unwrap();
    assert_eq!(second.stop, BracketStop::Width);
    assert!(second.rank > 48 && second.relative_width() < 0.03);
    // The same space serves another batch size at the cost of the checks alone.
    let other = Batch::new(8, Sampling::WithReplacement).unwrap();
    let third = continue_bracket(&jacobian, &sgd, &other, &options, &mut subspace, go_on).unwrap();
    assert!(third.products < 100 && third.rank == second.rank, "{third:?}");
    assert!(holds(&third, &exact(&matrix, 1, &sgd, &other)));
    // It does not serve another Jacobian.
    for other in [jacobian_scaled(&matrix, 2.0), jacobian_scaled(&matrix, 1.5)] {
        let other = DenseJacobian::new(&other, 1, Parallelism::Sequential).unwrap();
        let error = continue_bracket(&other, &sgd, &batch, &options, &mut subspace, go_on);
        let is_named = matches!(
            error,
            Err(BracketError::SubspaceShape { .. } | BracketError::SubspaceDiffers { .. })
        );
        assert!(is_named, "{error:?}");
    }
}

fn jacobian_scaled(matrix: &RowMatrix, factor: f64) -> RowMatrix {
    RowMatrix::from_fn(matrix.rows(), matrix.columns(), |i, j| factor * matrix.row(i)[j])
}

#[cfg(feature = "serde")]
#[test]
fn a_stored_subspace_is_the_same_subspace() {
    let matrix = jacobian("power law", (100, 1, 60), 7);
    let jacobian = DenseJacobian::new(&matrix, 1, Parallelism::Sequential).unwrap();
    let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
    let options = BracketOptions { relative_width: 0.1, ..BracketOptions::default() };
    let mut subspace = Subspace::new();
    let go_on = &mut |_: &BracketProgress, _: &Subspace| ControlFlow::Continue(());
    let sgd = Optimizer::sgd();
    continue_bracket(&jacobian, &sgd, &batch, &options, &mut subspace, go_on).unwrap();
    let text = serde_json::to_string(&subspace).unwrap();
    let mut read: Subspace = serde_json::from_str(&text).unwrap();
    assert_eq!(read, subspace);
    let narrow = BracketOptions { relative_width: 0.02, ..options };
    let ends = [&mut subspace, &mut read]
        .map(|space| continue_bracket(&jacobian, &sgd, &batch, &narrow, space, go_on).unwrap());
    assert_eq!(ends[0], ends[1]);
    // With more rows than numbers, no matrix has a column.
    let rows = |rows: &str, most: usize| text.replacen("\"rows\":100", rows, most);
    for damaged in [rows("\"rows\":99", 1), rows("\"rows\":1000000", usize::MAX)] {
        let mut damaged: Subspace = serde_json::from_str(&damaged).unwrap();
        let error = continue_bracket(&jacobian, &sgd, &batch, &narrow, &mut damaged, go_on);
        assert!(matches!(error, Err(BracketError::SubspaceShape { rows: 100 })));
    }
}

#[test]
fn threads_change_no_bit() {
    let matrix = jacobian("heavy tails", (900, 3, 80), 8);
    let batch = Batch::new(4, Sampling::WithoutReplacement).unwrap();
    let found = [Parallelism::Sequential, Parallelism::Rayon].map(|parallelism| {
        let jacobian = DenseJacobian::new(&matrix, 3, parallelism).unwrap();
        let options = BracketOptions { relative_width: 0.1, parallelism, ..Default::default() };
        threshold_bracket(&jacobian, &Optimizer::sgd(), &batch, &options).unwrap()
    });
    assert_eq!(found[0], found[1]);
}

/// Two workers hold half of the samples each, as in data-parallel training.
#[test]
fn workers_with_half_of_the_samples_give_the_same_bracket() {
    let (n, k, p) = (120, 2, 50);
    let matrix = jacobian("power law", (n, k, p), 9);
    let half = n / 2 * k;
    let part = |first: usize| RowMatrix::from_fn(half, p, |i, j| matrix.row(first + i)[j]);
    let (left, right) = (part(0), part(half));
    let workers =
        [&left, &right].map(|part| DenseJacobian::new(part, k, Parallelism::Sequential).unwrap());
    let jvp = |v: MatRef<'_, f64>, out: MatMut<'_, f64>| {
        let (above, below) = out.split_at_row_mut(half);
        workers[0].jvp(v, above)?;
        workers[1].jvp(v, below)?;
        Ok(())
    };
    let vjp = |u: MatRef<'_, f64>, mut out: MatMut<'_, f64>| {
        let mut other = faer::Mat::zeros(p, u.ncols());
        workers[0].vjp(u.subrows(0, half), out.as_mut())?;
        workers[1].vjp(u.subrows(half, half), other.as_mut())?;
        out += other;
        Ok(())
    };
    let grams = |grams: &mut [f64]| {
        let (above, below) = grams.split_at_mut(half * k);
        workers[0].sample_grams(above)?;
        workers[1].sample_grams(below)?;
        Ok(())
    };
    let divided = FnJacobian::new([n, k, p], jvp, vjp, grams);
    let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
    let options = BracketOptions::default();
    let found = threshold_bracket(&divided, &Optimizer::sgd(), &batch, &options).unwrap();
    let whole = bracket(&matrix, k, &Optimizer::sgd(), &batch, &options);
    assert!((found.lower / whole.lower - 1.0).abs() < 1e-8);
    assert!((found.upper / whole.upper - 1.0).abs() < 1e-8);
}

#[test]
fn bad_products_are_named() {
    let matrix = jacobian("power law", (100, 1, 40), 10);
    let dense = DenseJacobian::new(&matrix, 1, Parallelism::Sequential).unwrap();
    let calls = AtomicUsize::new(0);
    let run = |late: usize, factor: f64, gram_factor: f64, every_gram: f64| {
        let jvp = |v: MatRef<'_, f64>, mut out: MatMut<'_, f64>| {
            dense.jvp(v, out.as_mut())?;
            if calls.fetch_add(1, Ordering::Relaxed) + 1 == late {
                out[(3, 0)] = f64::NAN;
            }
            Ok(())
        };
        let vjp = |u: MatRef<'_, f64>, mut out: MatMut<'_, f64>| {
            dense.vjp(u, out.as_mut())?;
            out *= faer::Scale(factor);
            Ok(())
        };
        let grams = |grams: &mut [f64]| {
            dense.sample_grams(grams)?;
            // Few samples are compared one by one.
            grams[7] *= gram_factor;
            for gram in grams.iter_mut() {
                *gram *= every_gram;
            }
            Ok(())
        };
        let jacobian = FnJacobian::new([100, 1, 40], jvp, vjp, grams);
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let options = BracketOptions { relative_width: 1e-3, ..BracketOptions::default() };
        calls.store(0, Ordering::Relaxed);
        threshold_bracket(&jacobian, &Optimizer::sgd(), &batch, &options)
    };
    assert!(run(0, 1.0, 1.0, 1.0).is_ok());
    let error = run(0, 1.01, 1.0, 1.0).unwrap_err();
    assert!(matches!(error, BracketError::Jacobian(JacobianError::NotAdjoint { .. })), "{error}");
    // The fifth call comes after the probe.
    let error = run(5, 1.0, 1.0, 1.0).unwrap_err();
    let expected = matches!(error, BracketError::Jacobian(JacobianError::NotFinite { row: 3, .. }));
    assert!(expected, "{error}");
    let error = run(0, f64::NAN, 1.0, 1.0).unwrap_err();
    assert!(matches!(error, BracketError::Jacobian(JacobianError::NotFinite { .. })), "{error}");
    let error = run(0, 1.0, 0.9, 1.0).unwrap_err();
    assert!(matches!(error, BracketError::GramTooSmall { sample: 7, .. }), "{error}");
    let error = run(0, 1.0, f64::INFINITY, 1.0).unwrap_err();
    assert!(matches!(error, BracketError::Jacobian(JacobianError::NotFinite { .. })), "{error}");
    for every_gram in [0.9, 1.1] {
        let error = run(0, 1.0, 1.0, every_gram).unwrap_err();
        let expected = matches!(error, BracketError::Jacobian(JacobianError::GramDiffers { .. }));
        assert!(expected, "{error}");
    }
}

#[test]
fn a_certificate_is_tried_only_where_the_bracket_is_narrow_enough_without_it() {
    let matrix = jacobian("power law", (300, 1, 150), 6);
    let jacobian = DenseJacobian::new(&matrix, 1, Parallelism::Sequential).unwrap();
    let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
    let options = BracketOptions { relative_width: 0.01, ..BracketOptions::default() };
    let mut tried = Vec::new();
    let watch = &mut |progress: &BracketProgress, _: &Subspace| {
        if progress.stage == BracketStage::Certifying {
            let (lower, upper) = progress.interval.unwrap();
            tried.push(1.0 - lower / upper);
        }
        ControlFlow::Continue(())
    };
    let (sgd, space) = (Optimizer::sgd(), &mut Subspace::new());
    let bracket = continue_bracket(&jacobian, &sgd, &batch, &options, space, watch).unwrap();
    assert_eq!(bracket.stop, BracketStop::Width);
    assert!(!tried.is_empty() && tried.iter().all(|width| *width <= 0.01), "{tried:?}");
}
