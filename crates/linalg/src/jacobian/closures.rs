//! A Jacobian that is given by closures.

use std::error::Error;
use std::fmt;

use faer::{MatMut, MatRef};

use super::{JacobianError, JacobianProduct, JacobianProducts};

/// The error of a closure.
type Failure = Box<dyn Error + Send + Sync>;

/// A Jacobian given by three closures, see [`JacobianProducts`] for the shapes of their arguments.
/// Call [`probe_jacobian`](super::probe_jacobian) before its numbers are used.
///
/// ```
/// use faer::{MatMut, MatRef};
/// use flatmin_linalg::{FnJacobian, JacobianProducts as _, probe_jacobian, stream};
/// // Three samples with one output and the gradients (1, 0), (0, 2), (0, 3).
/// let scales = [1.0, 2.0, 3.0];
/// let jacobian = FnJacobian::new(
///     [3, 1, 2],
///     |v: MatRef<'_, f64>, mut image: MatMut<'_, f64>| {
///         for j in 0..v.ncols() {
///             (0..3).for_each(|i| image[(i, j)] = scales[i] * v[(i.min(1), j)]);
///         }
///         Ok(())
///     },
///     |u: MatRef<'_, f64>, mut image: MatMut<'_, f64>| {
///         for j in 0..u.ncols() {
///             image[(0, j)] = u[(0, j)];
///             image[(1, j)] = 2.0 * u[(1, j)] + 3.0 * u[(2, j)];
///         }
///         Ok(())
///     },
///     |grams: &mut [f64]| {
///         grams.copy_from_slice(&[1.0, 4.0, 9.0]);
///         Ok(())
///     },
/// );
/// assert_eq!(jacobian.row_count(), 3);
/// probe_jacobian(&jacobian, &mut stream(0, "probe", 0))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct FnJacobian<F, B, S> {
    samples: usize,
    outputs: usize,
    parameters: usize,
    jvp: F,
    vjp: B,
    sample_grams: S,
}

impl<F, B, S> FnJacobian<F, B, S>
where
    F: Fn(MatRef<'_, f64>, MatMut<'_, f64>) -> Result<(), Failure> + Sync,
    B: Fn(MatRef<'_, f64>, MatMut<'_, f64>) -> Result<(), Failure> + Sync,
    S: Fn(&mut [f64]) -> Result<(), Failure> + Sync,
{
    /// The Jacobian of `[samples, outputs, parameters]` whose products these closures compute.
    pub fn new(shape: [usize; 3], jvp: F, vjp: B, sample_grams: S) -> Self {
        let [samples, outputs, parameters] = shape;
        Self { samples, outputs, parameters, jvp, vjp, sample_grams }
    }
}

impl<F, B, S> fmt::Debug for FnJacobian<F, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnJacobian")
            .field("samples", &self.samples)
            .field("outputs", &self.outputs)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

impl<F, B, S> JacobianProducts for FnJacobian<F, B, S>
where
    F: Fn(MatRef<'_, f64>, MatMut<'_, f64>) -> Result<(), Failure> + Sync,
    B: Fn(MatRef<'_, f64>, MatMut<'_, f64>) -> Result<(), Failure> + Sync,
    S: Fn(&mut [f64]) -> Result<(), Failure> + Sync,
{
    fn sample_count(&self) -> usize {
        self.samples
    }

    fn output_count(&self) -> usize {
        self.outputs
    }

    fn parameter_count(&self) -> usize {
        self.parameters
    }

    fn jvp(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) -> Result<(), JacobianError> {
        let product = JacobianProduct::Jvp;
        (self.jvp)(vectors, images).map_err(|source| JacobianError::Failed { product, source })
    }

    fn vjp(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) -> Result<(), JacobianError> {
        let product = JacobianProduct::Vjp;
        (self.vjp)(vectors, images).map_err(|source| JacobianError::Failed { product, source })
    }

    fn sample_grams(&self, grams: &mut [f64]) -> Result<(), JacobianError> {
        let product = JacobianProduct::SampleGrams;
        (self.sample_grams)(grams).map_err(|source| JacobianError::Failed { product, source })
    }
}
