//! Intervals are widened by rounding, and by no more than rounding.

use flatmin_linalg::RowMatrix;
use flatmin_theory::{Minimum, Optimizer, ThresholdOptions, threshold_with};

use super::cases::{interval, of_minimum, with_replacement, without_replacement};

/// One gradient whose squared length is 1 plus 2²⁰ terms of 2⁻⁶⁴. The sum over each panel of small
/// terms is below half a unit in the last place of 1 and is lost; all of them together make 256
/// units. The interval must allow for this error of the Gram matrix.
#[test]
fn small_terms_that_the_gram_matrix_loses_are_in_the_interval() {
    let columns = 1 << 20;
    let jacobian =
        RowMatrix::from_fn(1, columns, |_, j| if j == 0 { 1.0 } else { libm::scalbn(1.0, -32) });
    let minimum = Minimum::new(&jacobian).unwrap();
    let square = 1.0 + libm::scalbn(1.0, -44);
    assert!(minimum.sharpness().trace < square, "nothing is lost");
    for batch in [without_replacement(1), with_replacement(1), with_replacement(2)] {
        for momentum in [0.0, 0.1] {
            let found = of_minimum(&minimum, batch, momentum);
            // Four roundings.
            let expected = 2.0 * (1.0 + momentum) / square;
            assert!(found.lower <= expected * (1.0 - 2.0 * f64::EPSILON), "{found:?}, {expected}");
            assert!(expected <= found.upper, "{found:?}, {expected}");
        }
    }
}

/// Small gradients have small entries in the vector of the certificate, and a level within rounding
/// of the root gives no certificate. Requests of 1e-15 were once answered with intervals a million
/// times as wide as the narrowest.
#[test]
fn asking_for_less_than_rounding_leaves_gives_no_wider_intervals() {
    let first = [
        [-1.0, 0.0, 1.0, -0.874_267_016_592_164_9, -1.060_601_872_346_339_7],
        [-0.507_810_060_520_511_7, 0.0, -0.000_411_445_385_992_108_26, 0.0, 0.0],
        [-0.507_810_060_520_511_7, 0.0, -0.000_411_445_385_992_108_26, 0.0, 0.0],
        [-1.0, -727.563_054_006_120_5, -0.808_950_461_315_104_7, 0.0, -1.0],
    ];
    let second = [
        [0.0, 0.0, 0.0, -7_123.102_262_389_075],
        [642.802_778_016_234_3, -0.266_547_848_682_223_14, 0.0, -0.881_038_408_777_906_2],
        [0.0, 0.0, 0.0, -7_123.102_262_389_075],
        [0.0, 0.0, 0.0, -7_123.102_262_389_075],
    ];
    let first = RowMatrix::from_fn(4, 5, |i, j| first[i][j]);
    let second = RowMatrix::from_fn(8, 4, |i, j| second[i % 4][j]);
    for jacobian in [first, second] {
        for size in 1..=5 {
            for momentum in [0.0, 0.678_128_553_428_221_3, 0.9] {
                // Panics unless the interval is narrow.
                let batch = with_replacement(size);
                let found = interval(&jacobian, 1, batch, momentum);
                let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
                for relative_width in [1e-14, 1e-300] {
                    let options = ThresholdOptions { relative_width, ..Default::default() };
                    let other = threshold_with(&jacobian, &optimizer, &batch, &options).unwrap();
                    assert_eq!(other, found, "{relative_width:e}");
                }
            }
        }
    }
}
