//! The choice of a kernel for each model.

use flatmin_models::{
    Dataset, DiagonalLinear, MatrixSensing, Mlp, Model, TwoLayerRelu, UnivariateRelu,
};

use crate::kernel::{
    DiagonalKernel, Kernel, MatrixSensingKernel, MlpKernel, PlainKernel, ReluKernel,
    UnivariateKernel,
};

/// A model that can be trained.
///
/// A model that has no kernel of its own is trained by the plain definition:
///
/// ```
/// # use flatmin_models::{Model, Dataset};
/// use flatmin_optim::Trainable;
/// # #[derive(Debug)]
/// # struct Linear(usize);
/// # impl Model for Linear {
/// #     fn input_dim(&self) -> usize { self.0 }
/// #     fn parameter_count(&self) -> usize { self.0 }
/// #     fn output(&self, parameters: &[f64], input: &[f64], output: &mut [f64]) {
/// #         output[0] = parameters.iter().zip(input).map(|(a, b)| a * b).sum();
/// #     }
/// #     fn gradient(&self, _: &[f64], input: &[f64], gradients: &mut [f64]) {
/// #         gradients.copy_from_slice(input);
/// #     }
/// #     fn add_second_derivative(
/// #         &self, _: &[f64], _: &[f64], _: &[f64], _: &[f64], _: &mut [f64],
/// #     ) {}
/// # }
/// impl Trainable for Linear {}
/// # use flatmin_linalg::RowMatrix;
/// # use flatmin_optim::{Kernel as _, Update};
/// # let data = Dataset::new(RowMatrix::new(1, 2, vec![3.0, 4.0])?, vec![1.0])?;
/// # let model = Linear(2);
/// # let mut kernel = model.kernel(&data, &[0.0, 0.0]);
/// # kernel.full_step(Update { learning_rate: 0.1, clip_norm: f64::INFINITY });
/// # assert_eq!(kernel.parameters(), [0.1 * 3.0, 0.1 * 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Trainable: Model {
    /// The fastest kernel for steps of plain SGD, in float64, starting from `parameters`.
    ///
    /// # Panics
    /// When the parameters or the inputs do not fit the model.
    fn kernel<'a>(&'a self, data: &'a Dataset, parameters: &[f64]) -> Box<dyn Kernel + 'a> {
        Box::new(PlainKernel::new(self, data, parameters))
    }

    /// The kernel with parameters, inputs and arithmetic in float32; `None` for a model that is
    /// trained in float64 only.
    ///
    /// It starts from `parameters` rounded to float32. Sums over coordinates are float32. The
    /// quantities that a step computes from them (residuals, losses, the gradient norm and the
    /// factor of the gradient) are float64.
    ///
    /// # Panics
    /// See [`kernel`](Self::kernel).
    fn float32_kernel<'a>(
        &'a self,
        _data: &'a Dataset,
        _parameters: &[f64],
    ) -> Option<Box<dyn Kernel + 'a>> {
        None
    }
}

/// Gives a model its fused kernel, in both precisions.
macro_rules! trained_by {
    ($model:ident, $kernel:ident) => {
        impl Trainable for $model {
            fn kernel<'a>(&'a self, data: &'a Dataset, parameters: &[f64]) -> Box<dyn Kernel + 'a> {
                Box::new($kernel::<f64>::new(*self, data, parameters))
            }

            fn float32_kernel<'a>(
                &'a self,
                data: &'a Dataset,
                parameters: &[f64],
            ) -> Option<Box<dyn Kernel + 'a>> {
                Some(Box::new($kernel::<f32>::new(*self, data, parameters)))
            }
        }
    };
}

trained_by!(TwoLayerRelu, ReluKernel);
trained_by!(DiagonalLinear, DiagonalKernel);
trained_by!(MatrixSensing, MatrixSensingKernel);
trained_by!(UnivariateRelu, UnivariateKernel);

impl Trainable for Mlp {
    fn kernel<'a>(&'a self, data: &'a Dataset, parameters: &[f64]) -> Box<dyn Kernel + 'a> {
        Box::new(MlpKernel::new(self, data, parameters))
    }
}
