//! A program of somebody else: the sharpness and the stability threshold of a minimum worked out by
//! hand.

use std::error::Error;

use flatmin_linalg::{EigenError, EstimateError, JacobianError};
use flatmin_theory::flatmin_linalg::RowMatrix;
use flatmin_theory::{
    Batch, BracketError, Minimum, Optimizer, Sampling, SimulationError, ThresholdError, bounds,
    threshold,
};

/// Compiles for errors that can be boxed and sent to another thread.
fn is_portable<E: Error + Send + Sync + 'static>() {}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    is_portable::<EigenError>();
    is_portable::<EstimateError>();
    is_portable::<JacobianError>();
    is_portable::<BracketError>();
    is_portable::<SimulationError>();
    is_portable::<ThresholdError>();
    // Two samples with gradients (1, 0) and (0, 2): G = diag(1, 4)/2. The matrix of one crate is
    // that of the other.
    let jacobian: flatmin_linalg::RowMatrix = RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 2.0])?;
    let minimum = Minimum::new(&jacobian)?;
    let batch = Batch::new(1, Sampling::WithReplacement)?;
    // A step with one sample multiplies the error along its gradient g by 1 − η‖g‖², so η* = 2/4.
    let threshold = threshold(&minimum, &Optimizer::sgd(), &batch)?;
    assert!((threshold.midpoint() - 0.5).abs() < 1e-10, "{threshold:?}");
    // The trace bound is 2/tr G = 2/2.5.
    assert!((bounds(&minimum, &batch)?.trace - 0.8).abs() < 1e-15);
    println!("the packages agree");
    Ok(())
}
