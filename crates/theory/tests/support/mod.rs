//! The strategy that tests on random minima share.

use proptest::prelude::{Just, Strategy};
use proptest::prop_oneof;

/// Zeros, small integers (exact ties and dependencies), and numbers of sizes over eight decades.
pub(crate) fn entry() -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => Just(0.0),
        3 => (-3_i32..=3).prop_map(f64::from),
        3 => -2.0..2.0_f64,
        1 => (-1.0..1.0_f64, -4_i32..=4).prop_map(|(x, e)| x * 10.0_f64.powi(e)),
    ]
}
