//! Random minima and their intervals.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_linalg::RowMatrix;
use flatmin_theory::{
    Batch, Minimum, Optimizer, Sampling, Threshold, ThresholdOptions, threshold_with,
};
use proptest::prelude::{Just, Strategy, prop_assert};
use proptest::test_runner::TestCaseError;
use proptest::{collection, prop_oneof};

use super::support::entry;

pub(crate) const UNIT_ROUNDOFF: f64 = f64::EPSILON / 2.0;

pub(crate) fn with_replacement(size: usize) -> Batch {
    Batch::new(size, Sampling::WithReplacement).unwrap()
}

pub(crate) fn without_replacement(size: usize) -> Batch {
    Batch::new(size, Sampling::WithoutReplacement).unwrap()
}

/// An interval whose width is due to rounding alone.
pub(crate) fn interval(
    jacobian: &RowMatrix,
    outputs: usize,
    batch: Batch,
    momentum: f64,
) -> Threshold {
    let found = at_any_scale(jacobian, outputs, batch, momentum);
    // The interval is so narrow that meeting another one is a strong test. Rounding grows with the
    // ζ of momentum.
    let coupling = momentum / ((1.0 - momentum).powi(2) * (1.0 + momentum));
    let width = 2e-11 + 1e-12 * coupling * outputs as f64;
    assert!(found.relative_width() < width, "{:e} {found:?}", found.relative_width());
    found
}

/// The interval at any scale, even if subnormal numbers make it wide.
pub(crate) fn at_any_scale(
    jacobian: &RowMatrix,
    outputs: usize,
    batch: Batch,
    momentum: f64,
) -> Threshold {
    of_minimum(&Minimum::with_outputs(jacobian, outputs).unwrap(), batch, momentum)
}

pub(crate) fn of_minimum(minimum: &Minimum, batch: Batch, momentum: f64) -> Threshold {
    let optimizer = Optimizer::sgd().momentum(momentum).unwrap();
    let options = ThresholdOptions { relative_width: 1e-15, ..ThresholdOptions::default() };
    threshold_with(minimum, &optimizer, &batch, &options).unwrap()
}

/// Checks that two intervals have a point in common.
pub(crate) fn meet(a: Threshold, b: Threshold) -> Result<(), TestCaseError> {
    prop_assert!(a.lower <= b.upper && b.lower <= a.upper, "{a:?}\n{b:?}");
    Ok(())
}

/// Small integers, whose sums and products are exact.
pub(crate) fn integer() -> impl Strategy<Value = f64> {
    (-9_i32..=9).prop_map(f64::from)
}

pub(crate) fn momentum() -> impl Strategy<Value = f64> {
    prop_oneof![2 => Just(0.0), 1 => Just(0.9), 1 => 0.0..0.95_f64]
}

pub(crate) fn batch(sample_count: usize) -> impl Strategy<Value = Batch> {
    prop_oneof![
        (1..=sample_count).prop_map(without_replacement),
        (1..=2 * sample_count).prop_map(with_replacement),
    ]
}

/// A Jacobian of a few samples with one output or more; rows may be repeated.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) jacobian: RowMatrix,
    pub(crate) outputs: usize,
    pub(crate) batch: Batch,
    pub(crate) momentum: f64,
}

impl Case {
    pub(crate) fn samples(&self) -> usize {
        self.jacobian.rows() / self.outputs
    }

    pub(crate) fn columns(&self) -> usize {
        self.jacobian.columns()
    }

    pub(crate) fn found(&self) -> Threshold {
        self.of(&self.jacobian)
    }

    /// The interval of another Jacobian with the batches of this case.
    pub(crate) fn of(&self, jacobian: &RowMatrix) -> Threshold {
        interval(jacobian, self.outputs, self.batch, self.momentum)
    }

    /// The Jacobian with other entries.
    pub(crate) fn map(&self, entry: impl FnMut(usize, usize) -> f64) -> RowMatrix {
        RowMatrix::from_fn(self.jacobian.rows(), self.columns(), entry)
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        self.jacobian.row(row)[column]
    }
}

pub(crate) fn case_of(
    entry: impl Strategy<Value = f64> + Clone,
    columns: impl Strategy<Value = usize>,
    outputs: impl Strategy<Value = usize>,
) -> impl Strategy<Value = Case> {
    (1..=5_usize, columns, outputs, 1..=6_usize)
        .prop_flat_map(move |(distinct, columns, outputs, samples)| {
            let values = collection::vec(entry.clone(), distinct * columns);
            let order = collection::vec(0..distinct, samples * outputs);
            (Just((columns, outputs)), values, order, batch(samples), momentum())
        })
        .prop_map(|((columns, outputs), values, order, batch, momentum)| {
            let at = |i: usize, j: usize| values[order[i] * columns + j];
            let jacobian = RowMatrix::from_fn(order.len(), columns, at);
            Case { jacobian, outputs, batch, momentum }
        })
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    case_of(entry().boxed(), 1..=5_usize, prop_oneof![3 => Just(1_usize), 1 => 2..=3_usize])
}

pub(crate) fn integers(columns: usize) -> impl Strategy<Value = Case> {
    let outputs = prop_oneof![3 => Just(1_usize), 1 => 2..=3_usize];
    case_of(integer().boxed(), Just(columns), outputs)
}
