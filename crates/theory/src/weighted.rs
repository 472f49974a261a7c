//! A Jacobian by its products, weighted by a loss.

use std::fmt;

use faer::{MatMut, MatRef};
use flatmin_linalg::{JacobianError, JacobianProduct, JacobianProducts};

use crate::{LossError, OutputHessians};

/// The rows `R_iᵀJ_i` of S17 in place of those of a Jacobian that is known by its products.
///
/// The Jacobian may be borrowed: `&J` and `Box<J>` have the products of `J`.
#[derive(Clone)]
pub struct WeightedJacobian<J> {
    jacobian: J,
    loss: OutputHessians,
}

impl<J: JacobianProducts> WeightedJacobian<J> {
    /// The weighted Jacobian.
    ///
    /// # Errors
    /// [`LossError::Rows`] unless Jacobian and loss have the same samples and outputs.
    pub fn new(jacobian: J, loss: OutputHessians) -> Result<Self, LossError> {
        let (samples, outputs) = (loss.sample_count(), loss.output_count());
        if (jacobian.sample_count(), jacobian.output_count()) != (samples, outputs) {
            return Err(LossError::Rows { got: jacobian.row_count(), samples, outputs });
        }
        Ok(Self { jacobian, loss })
    }
}

impl<J: JacobianProducts> fmt::Debug for WeightedJacobian<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeightedJacobian")
            .field("samples", &self.jacobian.sample_count())
            .field("outputs", &self.jacobian.output_count())
            .finish_non_exhaustive()
    }
}

fn failed(product: JacobianProduct) -> impl Fn(LossError) -> JacobianError {
    move |source| JacobianError::Failed { product, source: Box::new(source) }
}

impl<J: JacobianProducts> JacobianProducts for WeightedJacobian<J> {
    fn sample_count(&self) -> usize {
        self.jacobian.sample_count()
    }

    fn output_count(&self) -> usize {
        self.jacobian.output_count()
    }

    fn parameter_count(&self) -> usize {
        self.jacobian.parameter_count()
    }

    fn jvp(
        &self,
        vectors: MatRef<'_, f64>,
        mut images: MatMut<'_, f64>,
    ) -> Result<(), JacobianError> {
        self.jacobian.jvp(vectors, images.as_mut())?;
        let weighted = self.loss.weigh(images.as_ref()).map_err(failed(JacobianProduct::Jvp))?;
        images.copy_from(weighted);
        Ok(())
    }

    fn vjp(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) -> Result<(), JacobianError> {
        let weighted = self.loss.weigh_transposed(vectors);
        self.jacobian.vjp(weighted.map_err(failed(JacobianProduct::Vjp))?.as_ref(), images)
    }

    fn sample_grams(&self, grams: &mut [f64]) -> Result<(), JacobianError> {
        self.jacobian.sample_grams(grams)?;
        let k = self.output_count();
        let failed = failed(JacobianProduct::SampleGrams);
        // The weights act on the rows of all blocks, stacked, and then on their columns.
        for _ in 0..2 {
            let stacked = MatRef::from_row_major_slice(grams, grams.len() / k, k);
            let weighted = self.loss.weigh(stacked).map_err(&failed)?;
            for (sample, gram) in grams.chunks_mut(k * k).enumerate() {
                for a in 0..k {
                    for b in 0..k {
                        gram[b * k + a] = weighted[(sample * k + a, b)];
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{DenseJacobian, Parallelism, RowMatrix, probe_jacobian, stream};

    use super::WeightedJacobian;
    use crate::{
        Batch, BracketOptions, Minimum, Optimizer, OutputHessians, Sampling, threshold,
        threshold_bracket,
    };

    #[test]
    fn the_bracket_of_a_loss_holds_its_threshold() {
        let number =
            |i: usize, j: usize| ((i * 7919 + j * 104_729 + i * j) % 1009) as f64 / 504.5 - 1.0;
        let matrix = RowMatrix::from_fn(60, 30, |i, j| number(i, j) / (1.0 + j as f64));
        let logits = RowMatrix::from_fn(20, 3, |i, j| 3.0 * number(i + 70, j));
        let loss = OutputHessians::softmax(&logits).unwrap();
        let dense = DenseJacobian::new(&matrix, 3, Parallelism::Sequential).unwrap();
        let weighted = WeightedJacobian::new(&dense, loss.clone()).unwrap();
        probe_jacobian(&weighted, &mut stream(0, "probe", 0)).unwrap();
        let (sgd, batch) = (Optimizer::sgd(), Batch::new(2, Sampling::WithoutReplacement).unwrap());
        let bracket =
            threshold_bracket(&weighted, &sgd, &batch, &BracketOptions::default()).unwrap();
        let exact = threshold(&Minimum::with_loss(&matrix, &loss).unwrap(), &sgd, &batch).unwrap();
        assert!(bracket.lower <= exact.upper && exact.lower <= bracket.upper);
        assert!(bracket.relative_width() < 0.05);
        let other = OutputHessians::logistic(&[0.0; 60]).unwrap();
        assert!(WeightedJacobian::new(&dense, other).is_err());
    }
}
