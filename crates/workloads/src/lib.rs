//! The inputs of the benchmarks: models, data, parameters and the order of the samples.
//!
//! The benches of `flatmin-optim` and `flatmin-curvature` time flatmin on them. `cargo xtask bench`
//! gives the same numbers to other libraries, so that times of the same work are compared.
//!
//! ```
//! let steps = flatmin_workloads::relu();
//! assert_eq!((steps.data.sample_count(), steps.initial.len()), (300, 100 * 101));
//! ```

use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::{Activation, Dataset, DiagonalLinear, Mlp, Model, TwoLayerRelu, data};
use rand::{Rng, RngExt as _};

/// Number of samples in the data of the steps.
pub const SAMPLES: usize = 300;

/// The learning rate η. It is so small that training stays in its usual regime, with about half of
/// the neurons active and no subnormal values.
pub const LEARNING_RATE: f64 = 1e-4;

/// Gradients with a larger ℓ2 norm are clipped to this norm.
pub const CLIP_NORM: f64 = 100.0;

/// Number of samples in the data of the Hessian.
pub const PRODUCT_SAMPLES: usize = 1000;

/// The inputs of training steps.
#[derive(Debug, Clone)]
pub struct Steps<M> {
    /// The model.
    pub model: M,
    /// The training data: [`SAMPLES`] samples, or as many as the caller of [`relu_of`] requests.
    pub data: Dataset,
    /// The parameters before the first step.
    pub initial: Vec<f64>,
    /// The samples of [`SAMPLES`] steps of batch size 1, drawn with replacement.
    pub order: Vec<u32>,
}

impl<M: Model> Steps<M> {
    fn new(model: M, data: Dataset, initial: Vec<f64>) -> Self {
        let mut rng = stream(0, "bench order", 0);
        let count = u32::try_from(data.sample_count()).unwrap_or(u32::MAX);
        let order = (0..SAMPLES).map(|_| rng.random_range(0..count)).collect();
        Self { model, data, initial, order }
    }
}

/// The two-layer ReLU network with m = d = 100. Its first steps are clipped.
///
/// # Panics
/// Never: the sizes are positive and the data finite.
pub fn relu() -> Steps<TwoLayerRelu> {
    relu_of(SAMPLES, 100, 100)
}

/// The two-layer ReLU network with m neurons and d inputs on n samples.
///
/// # Panics
/// If a size is zero.
pub fn relu_of(samples: usize, width: usize, input_dim: usize) -> Steps<TwoLayerRelu> {
    let model = TwoLayerRelu::new(width, input_dim).expect("positive sizes");
    let mut rng = stream(0, "bench relu", 0);
    let inputs = data::sphere_inputs(samples, input_dim, &mut rng);
    let targets = (0..samples).map(|_| rng.random_range(-1.0..1.0)).collect();
    let initial = model.initial_parameters(&mut rng);
    Steps::new(model, Dataset::new(inputs, targets).expect("finite data"), initial)
}

/// The diagonal linear network with d = 1000.
///
/// # Panics
/// Never: the size is positive and the data are finite.
pub fn diagonal() -> Steps<DiagonalLinear> {
    diagonal_of(1000)
}

/// The diagonal linear network with d inputs.
///
/// # Panics
/// If d is less than 3, the number of inputs that the targets depend on.
pub fn diagonal_of(input_dim: usize) -> Steps<DiagonalLinear> {
    let model = DiagonalLinear::new(input_dim).expect("positive size");
    let mut rng = stream(0, "bench diagonal", 0);
    let inputs = data::cube_inputs(SAMPLES, input_dim, &mut rng);
    let targets = data::linear_targets(&inputs, &data::sparse_coefficients(input_dim, 3));
    let initial = model.initial_parameters(&mut rng);
    Steps::new(model, Dataset::new(inputs, targets).expect("finite data"), initial)
}

/// A perceptron with biases.
///
/// # Panics
/// If a width is zero or there are fewer than two widths.
pub fn mlp(widths: &[usize], activation: Activation) -> Steps<Mlp> {
    let model = Mlp::new(widths, activation, true).expect("positive widths");
    let mut rng = stream(0, "bench mlp", 0);
    let inputs = data::sphere_inputs(SAMPLES, model.input_dim(), &mut rng);
    let targets = uniform(SAMPLES, model.output_dim(), &mut rng);
    let initial = model.initial_parameters(&mut rng);
    let data = Dataset::with_outputs(inputs, &targets).expect("finite data");
    Steps::new(model, data, initial)
}

/// The inputs of products of a Hessian with vectors.
#[derive(Debug, Clone)]
pub struct Products {
    /// The model, a perceptron 784-256-256-10 with biases.
    pub model: Mlp,
    /// [`PRODUCT_SAMPLES`] samples.
    pub data: Dataset,
    /// The point at which the Hessian is taken.
    pub parameters: Vec<f64>,
    /// The vectors, one per row.
    pub vectors: RowMatrix,
}

/// The perceptron 784-256-256-10 and `count` vectors.
///
/// # Panics
/// Never: the sizes are positive and the data are finite.
pub fn products(activation: Activation, count: usize) -> Products {
    products_of(PRODUCT_SAMPLES, activation, count)
}

/// The perceptron 784-256-256-10 on `samples` samples and `count` vectors.
///
/// # Panics
/// If there are no samples.
pub fn products_of(samples: usize, activation: Activation, count: usize) -> Products {
    let model = Mlp::new(&[784, 256, 256, 10], activation, true).expect("positive widths");
    let mut rng = stream(0, "bench products", 0);
    let inputs = uniform(samples, 784, &mut rng);
    let targets = uniform(samples, 10, &mut rng);
    let vectors = uniform(count, model.parameter_count(), &mut rng);
    let data = Dataset::with_outputs(inputs, &targets).expect("finite data");
    let parameters = model.initial_parameters(&mut stream(1, "bench products", 0));
    Products { model, data, parameters, vectors }
}

fn uniform(rows: usize, columns: usize, rng: &mut impl Rng) -> RowMatrix {
    RowMatrix::from_fn(rows, columns, |_, _| rng.random_range(-1.0..1.0))
}
