//! The least trace of interpolating functions compared with another solver, and its certificate
//! checked on a grid of knots.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_ledger::{LEAST_TRACE_TOLERANCE, LeastTrace, LeastTraceError, least_trace};

/// The problems of `least_trace.py`, each with inputs, targets and value.
fn problems() -> impl Iterator<Item = [Vec<f64>; 3]> {
    include_str!("data/least_trace.csv").lines().map(|line| {
        let fields: Vec<Vec<f64>> = line
            .split(',')
            .map(|field| field.split(' ').map(|number| number.parse().unwrap()).collect())
            .collect();
        fields.try_into().unwrap()
    })
}

/// `(±(x_i − τ))₊` for all inputs, and the price of the knot.
fn feature(inputs: &[f64], sign: f64, place: f64) -> (Vec<f64>, f64) {
    let distances: Vec<f64> = inputs.iter().map(|x| (sign * (x - place)).max(0.0)).collect();
    let squares: f64 = distances.iter().map(|d| d * d).sum();
    let beyond = inputs.iter().filter(|x| sign * (*x - place) > 0.0);
    let slopes: f64 = beyond.map(|x| 1.0 + x * x).sum();
    (distances, (squares * slopes).sqrt() / inputs.len() as f64)
}

#[track_caller]
fn check_evidence(inputs: &[f64], targets: &[f64], found: &LeastTrace) {
    let size = targets.iter().fold(0.0_f64, |most, y| most.max(y.abs()));
    for (x, y) in inputs.iter().zip(targets) {
        let bends = found.knots.iter().map(|k| k.bend * (k.side.sign() * (x - k.place)).max(0.0));
        let fitted = found.output_bias + bends.sum::<f64>();
        assert!((fitted - y).abs() <= 2.0 * LEAST_TRACE_TOLERANCE * size, "{fitted} against {y}");
    }
    let prices = found.knots.iter().map(|k| {
        let (_, price) = feature(inputs, k.side.sign(), k.place);
        k.bend.abs() * price
    });
    let upper: f64 = prices.sum();
    assert!((upper / found.upper - 1.0).abs() < 1e-12);
    // The certificate: Σ ν_i = 0, and the constraint at knots in and around the inputs.
    let sum: f64 = found.dual.iter().sum();
    let sizes: f64 = found.dual.iter().map(|v| v.abs()).sum();
    assert!(sum.abs() <= 1e-12 * sizes, "sum {sum}");
    let value: f64 = found.dual.iter().zip(targets).map(|(v, y)| v * y).sum();
    assert!((value - found.lower).abs() <= 1e-9 * found.lower, "{value} {}", found.lower);
    let low = inputs.iter().copied().fold(f64::INFINITY, f64::min);
    let high = inputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for step in -500..=10_500 {
        let place = low + (high - low) * f64::from(step) / 10_000.0;
        for sign in [-1.0, 1.0] {
            let (distances, price) = feature(inputs, sign, place);
            let product: f64 = distances.iter().zip(&found.dual).map(|(d, v)| d * v).sum();
            assert!(product.abs() <= (1.0 + 1e-9) * price + 1e-12 * sizes, "{place} {sign}");
        }
    }
}

#[test]
fn values_are_those_of_another_solver() {
    for [inputs, targets, value] in problems() {
        let found = least_trace(&inputs, &targets).unwrap();
        // Over a grid of knots the other solver finds a slightly larger minimum.
        assert!(found.lower <= (1.0 + 1e-9) * value[0], "{} against {}", found.lower, value[0]);
        assert!(value[0] <= (1.0 + 1e-5) * found.upper, "{} against {}", found.upper, value[0]);
        check_evidence(&inputs, &targets, &found);
    }
}

#[test]
fn order_repetitions_and_constants_are_ordinary() {
    let sorted = least_trace(&[-1.0, 0.0, 1.0, 1.0], &[1.0, 0.0, 1.0, 1.0]).unwrap();
    let (inputs, targets) = ([1.0, 0.0, 1.0, -1.0], [1.0, 0.0, 1.0, 1.0]);
    let shuffled = least_trace(&inputs, &targets).unwrap();
    assert!((sorted.upper - shuffled.upper).abs() < 1e-9);
    check_evidence(&inputs, &targets, &shuffled);
    for inputs in [&[3.0][..], &[1.0, 2.0, 1.0]] {
        let constant = least_trace(inputs, &vec![4.0; inputs.len()]).unwrap();
        assert_eq!((constant.upper, constant.lower, constant.output_bias), (0.0, 0.0, 4.0));
    }
}

#[test]
fn what_cannot_be_solved_is_an_error() {
    let error = least_trace(&[1.0], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "0 targets for 1 inputs, expected one for each of at least one input"
    );
    let error = least_trace(&[1.0, f64::NAN], &[0.0, 0.0]).unwrap_err();
    assert_eq!(error, LeastTraceError::NotFinite { sample: 1 });
    let error = least_trace(&[2.0, 2.0], &[0.0, 1.0]).unwrap_err();
    assert_eq!(error.to_string(), "the input 2 has two different targets");
}
