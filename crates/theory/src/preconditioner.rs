//! A frozen diagonal preconditioner, as Adam and `RMSprop` have at a given state (S15).

use faer::{Mat, MatRef};

use crate::OptimizerError;

/// The diagonal `D > 0` of a preconditioner that does not move: a step subtracts `η D⁻¹ g`.
///
/// For Adam `D = √v̂ + ε`, together with momentum and dampening β₁. In the coordinates `D^½ θ` the
/// gradients become `D^{−½} g_i`, and the optimizer becomes the one without preconditioner.
/// Decoupled weight decay stays as it is; coupled weight decay does not.
///
/// ```
/// use faer::mat;
/// use flatmin_theory::Preconditioner;
/// let preconditioner = Preconditioner::new(vec![1.0, 4.0])?;
/// let scaled = preconditioner.scale(mat![[3.0, 3.0]].as_ref(), 0);
/// assert_eq!(scaled, mat![[3.0, 1.5]]);
/// # Ok::<(), flatmin_theory::OptimizerError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Preconditioner {
    /// `D^{−½}`.
    inverse_roots: Vec<f64>,
}

impl Preconditioner {
    /// A preconditioner with this diagonal, one entry for each parameter.
    ///
    /// # Errors
    /// [`OptimizerError::Preconditioner`] for an entry that is not a positive number.
    pub fn new(diagonal: Vec<f64>) -> Result<Self, OptimizerError> {
        let is_bad = |value: &f64| !(*value > 0.0 && value.is_finite());
        if let Some((parameter, &value)) = diagonal.iter().enumerate().find(|(_, v)| is_bad(v)) {
            return Err(OptimizerError::Preconditioner { parameter, value });
        }
        Ok(Self { inverse_roots: diagonal.into_iter().map(|value| 1.0 / value.sqrt()).collect() })
    }

    /// The number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.inverse_roots.len()
    }

    /// `J D^{−½}` for a block of columns of J that starts at column `first`.
    ///
    /// # Panics
    /// If the block has columns beyond the parameters.
    pub fn scale(&self, columns: MatRef<'_, f64>, first: usize) -> Mat<f64> {
        let factors = &self.inverse_roots[first..][..columns.ncols()];
        Mat::from_fn(columns.nrows(), columns.ncols(), |i, j| columns[(i, j)] * factors[j])
    }
}

#[cfg(test)]
mod tests {
    use super::Preconditioner;
    use crate::OptimizerError;

    #[test]
    fn only_positive_numbers_precondition() {
        for value in [0.0, -1.0, f64::INFINITY, f64::NAN] {
            let error = Preconditioner::new(vec![1.0, value]).unwrap_err();
            let is_named = matches!(error, OptimizerError::Preconditioner { parameter: 1, .. });
            assert!(is_named, "{error}");
        }
    }
}
