//! Random instances that are hard on purpose: each family is hard for some statement or attains
//! one.

use flatmin_linalg::{RowMatrix, simd};
use flatmin_models::data::{cube_inputs, sphere_inputs};
use flatmin_models::{DiagonalLinear, Model as _, TwoLayerRelu};
use rand::{Rng, RngExt as _};
use rand_distr::{Distribution as _, StandardNormal};

use super::monte_carlo::SAMPLES;
use super::trained::trained_jacobian;
use super::{
    DiagonalInstance, DiagonalStepInstance, Domain, Instance, InterpolationInstance,
    MinimumInstance, MomentumInstance, OutputsInstance, RecoveryInstance, ReluInstance,
    ReluStepInstance, SampleInstance,
};
use flatmin_theory::{Batch, Sampling};

/// Sizes are drawn from `1..=MAX_SIZE`.
const MAX_SIZE: usize = 7;

impl Instance {
    /// A random instance from one of several families that are hard on purpose.
    pub fn random(domain: Domain, rng: &mut impl Rng) -> Self {
        match domain {
            Domain::Minimum => Self::Minimum(random_minimum(rng)),
            Domain::Momentum => Self::Momentum(random_momentum(rng)),
            Domain::Outputs => Self::Outputs(random_outputs(rng)),
            Domain::Relu => Self::Relu(random_relu(rng)),
            Domain::ReluStep => Self::ReluStep(random_relu_step(rng)),
            Domain::Sample => Self::Sample(random_sample(rng)),
            Domain::Diagonal => Self::Diagonal(random_diagonal(rng)),
            Domain::DiagonalStep => Self::DiagonalStep(random_diagonal_step(rng)),
            Domain::Recovery => Self::Recovery(random_recovery(rng)),
            Domain::Interpolation => Self::Interpolation(random_interpolation(rng)),
        }
    }
}

fn random_minimum(rng: &mut impl Rng) -> MinimumInstance {
    let (rows, columns) = (size(rng), size(rng));
    let mut jacobian = RowMatrix::from_fn(rows, columns, |_, _| normal(rng));
    match rng.random_range(0..11) {
        // Generic rows, nothing else.
        0 => {}
        // Heavy-tailed row norms.
        1 => {
            for i in 0..rows {
                scale_row(&mut jacobian, i, heavy_tailed(rng));
            }
        }
        // Nearly equal rows.
        2 => {
            let first = jacobian.row(0).to_vec();
            for i in 1..rows {
                scale_row(&mut jacobian, i, 1e-7);
                simd::axpy(1.0, &first, jacobian.row_mut(i));
            }
        }
        // Zero rows, or nothing but zeros.
        3 => {
            for i in 0..rows {
                scale_row(&mut jacobian, i, if rng.random_bool(0.5) { 0.0 } else { 1.0 });
            }
        }
        // Repeated rows; one distinct row makes all equal.
        4 => {
            let distinct = rng.random_range(1..=rows);
            let source = jacobian.clone();
            jacobian = RowMatrix::from_fn(rows, columns, |i, j| source.row(i % distinct)[j]);
        }
        // Low rank.
        5 => {
            let rank = rng.random_range(1..=rows.min(columns));
            let left = RowMatrix::from_fn(rows, rank, |_, _| normal(rng));
            let right = RowMatrix::from_fn(columns, rank, |_, _| normal(rng));
            jacobian =
                RowMatrix::from_fn(rows, columns, |i, j| simd::dot(left.row(i), right.row(j)));
        }
        // Scales that differ by column.
        6 => {
            let scales: Vec<f64> = (0..columns).map(|_| power_of_ten(rng, 2.0)).collect();
            jacobian = RowMatrix::from_fn(rows, columns, |i, j| scales[j] * jacobian.row(i)[j]);
        }
        // Orthogonal rows of unequal norm.
        7 => {
            jacobian = orthonormal_rows(rows.min(columns), columns, rng);
            for i in 0..jacobian.rows() {
                scale_row(&mut jacobian, i, power_of_ten(rng, 1.0));
            }
        }
        // Networks fitted by SGD.
        8 => jacobian = trained_jacobian(rng),
        // Equal-norm tight frames: copies of an orthonormal basis of a subspace.
        _ => return random_frame(rng),
    }
    let scale = power_of_ten(rng, 3.0);
    let jacobian =
        RowMatrix::from_fn(jacobian.rows(), jacobian.columns(), |i, j| scale * jacobian.row(i)[j]);
    let batch = random_batch(jacobian.rows(), rng);
    MinimumInstance { jacobian, batch }
}

/// An equal-norm tight frame, half of the time with p = 1/(rank + 1), where the sharp form of S3 is
/// attained.
fn random_frame(rng: &mut impl Rng) -> MinimumInstance {
    let columns = size(rng);
    let rank = rng.random_range(1..=columns);
    let copies = rng.random_range(1..=1 + MAX_SIZE / rank);
    let basis = orthonormal_rows(rank, columns, rng);
    let scale = power_of_ten(rng, 3.0);
    let jacobian =
        RowMatrix::from_fn(rank * copies, columns, |i, j| scale * basis.row(i % rank)[j]);
    let batch = if rng.random_bool(0.5) {
        checked_batch(rank + 1, Sampling::WithReplacement)
    } else {
        random_batch(jacobian.rows(), rng)
    };
    MinimumInstance { jacobian, batch }
}

fn random_batch(sample_count: usize, rng: &mut impl Rng) -> Batch {
    if rng.random_bool(0.4) {
        return checked_batch(1, Sampling::WithoutReplacement);
    }
    if rng.random_bool(0.5) {
        checked_batch(rng.random_range(1..=sample_count), Sampling::WithoutReplacement)
    } else {
        checked_batch(rng.random_range(1..=2 * sample_count), Sampling::WithReplacement)
    }
}

fn checked_batch(size: usize, sampling: Sampling) -> Batch {
    Batch::new(size, sampling).expect("sizes are drawn from 1 on")
}

/// A minimum of rank at most 3, with a momentum from 0 to nearly 1.
fn random_momentum(rng: &mut impl Rng) -> MomentumInstance {
    const MOST_COLUMNS: usize = 3;
    let MinimumInstance { jacobian, batch } = random_minimum(rng);
    let columns = jacobian.columns().min(MOST_COLUMNS);
    let jacobian = RowMatrix::from_fn(jacobian.rows(), columns, |i, j| jacobian.row(i)[j]);
    let momentum = match rng.random_range(0..4) {
        0 => 0.0,
        1 => 1.0 - libm::exp10(rng.random_range(-2.0..=-1.0)),
        _ => rng.random_range(0.0..0.95),
    };
    MomentumInstance { minimum: MinimumInstance { jacobian, batch }, momentum }
}

/// Up to 3 outputs. Half of the time of a generic network, and else the rows of a minimum that is hard for one
/// output, taken together.
fn random_outputs(rng: &mut impl Rng) -> OutputsInstance {
    const MOST_OUTPUTS: usize = 3;
    const MOST_SAMPLES: usize = 4;
    let mut output_count = rng.random_range(1..=MOST_OUTPUTS);
    let mut jacobian = random_minimum(rng).jacobian;
    if rng.random_bool(0.5) {
        let (samples, columns) = (rng.random_range(1..=MOST_SAMPLES), size(rng));
        jacobian = RowMatrix::from_fn(samples * output_count, columns, |_, _| normal(rng));
        for i in 0..samples {
            let scale = heavy_tailed(rng);
            for row in i * output_count..(i + 1) * output_count {
                scale_row(&mut jacobian, row, scale);
            }
        }
        // One output may be silent.
        if rng.random_bool(0.2) {
            for i in 0..samples {
                scale_row(&mut jacobian, i * output_count, 0.0);
            }
        }
    }
    output_count = output_count.min(jacobian.rows());
    let samples = (jacobian.rows() / output_count).min(MOST_SAMPLES);
    let rows = samples * output_count;
    let jacobian = RowMatrix::from_fn(rows, jacobian.columns(), |i, j| jacobian.row(i)[j]);
    OutputsInstance { jacobian, output_count, batch: random_batch(samples, rng) }
}

fn random_relu(rng: &mut impl Rng) -> ReluInstance {
    let (model, parameters) = relu_network(rng);
    let inputs = sphere_inputs(SAMPLES, model.input_dim(), rng);
    ReluInstance { model, parameters, inputs }
}

fn random_relu_step(rng: &mut impl Rng) -> ReluStepInstance {
    let (model, parameters) = relu_network(rng);
    ReluStepInstance {
        model,
        input: (0..model.input_dim()).map(|_| normal(rng)).collect(),
        parameters,
        residual: normal(rng) * power_of_ten(rng, 1.0),
        learning_rate: power_of_ten(rng, 2.0),
    }
}

fn relu_network(rng: &mut impl Rng) -> (TwoLayerRelu, Vec<f64>) {
    let (width, dim) = (size(rng), size(rng));
    let mut hidden = RowMatrix::from_fn(width, dim, |_, _| normal(rng));
    let mut output: Vec<f64> = (0..width).map(|_| normal(rng)).collect();
    match rng.random_range(0..8) {
        // Generic neurons.
        0 => {}
        // Heavy-tailed neurons.
        1 => {
            for (j, a) in output.iter_mut().enumerate() {
                scale_row(&mut hidden, j, heavy_tailed(rng));
                *a *= heavy_tailed(rng);
            }
        }
        // Balanced neurons.
        2 => balance(&hidden, &mut output),
        // Unbalanced neurons that compute the same function as generic ones.
        3 => {
            for (j, a) in output.iter_mut().enumerate() {
                let scale = power_of_ten(rng, 4.0);
                scale_row(&mut hidden, j, scale);
                *a /= scale;
            }
        }
        // Parallel and opposite neurons, exact or nearly.
        4 => {
            let direction = hidden.row(0).to_vec();
            let noise = if rng.random_bool(0.5) { 0.0 } else { 1e-9 };
            for j in 0..width {
                scale_row(&mut hidden, j, noise);
                simd::axpy(normal(rng), &direction, hidden.row_mut(j));
            }
        }
        // Dead neurons, and neurons that are not read out.
        5 => {
            for (j, a) in output.iter_mut().enumerate() {
                if rng.random_bool(0.5) {
                    *a = 0.0;
                    scale_row(&mut hidden, j, if rng.random_bool(0.5) { 0.0 } else { 1.0 });
                }
            }
        }
        // Balanced neurons along the axes, with one norm.
        6 => {
            hidden = RowMatrix::from_fn(width, dim, |j, i| {
                if j % dim != i {
                    0.0
                } else if (j / dim).is_multiple_of(2) {
                    1.0
                } else {
                    -1.0
                }
            });
            balance(&hidden, &mut output);
        }
        // One layer dominates.
        _ => {
            let scale = power_of_ten(rng, 5.0);
            for a in &mut output {
                *a *= scale;
            }
        }
    }
    let parameters = [hidden.values(), &output].concat();
    let model = TwoLayerRelu::new(width, dim).expect("sizes are drawn from 1 on");
    (model, parameters)
}

/// Makes `|a_j| = ‖w_j‖/√d`.
fn balance(hidden: &RowMatrix, output: &mut [f64]) {
    for (j, a) in output.iter_mut().enumerate() {
        let norm = simd::norm_squared(hidden.row(j)).sqrt();
        *a = (norm / (hidden.columns() as f64).sqrt()).copysign(*a);
    }
}

/// At most 8 inputs on a line or in a plane.
fn random_sample(rng: &mut impl Rng) -> SampleInstance {
    let (count, dim) = (rng.random_range(1..=8), rng.random_range(1..=2));
    let mut inputs = RowMatrix::from_fn(count, dim, |_, _| normal(rng));
    match rng.random_range(0..5) {
        // Generic inputs.
        0 => {}
        // Heavy-tailed norms.
        1 => {
            for i in 0..count {
                scale_row(&mut inputs, i, heavy_tailed(rng));
            }
        }
        // Small integers: equal, opposite and orthogonal inputs, and zeros.
        2 => inputs = RowMatrix::from_fn(count, dim, |_, _| f64::from(rng.random_range(-1..=1))),
        // Parallel and opposite inputs.
        3 => {
            let direction = inputs.row(0).to_vec();
            for i in 0..count {
                scale_row(&mut inputs, i, 0.0);
                simd::axpy(normal(rng), &direction, inputs.row_mut(i));
            }
        }
        // Nearly equal inputs.
        _ => {
            let first = inputs.row(0).to_vec();
            for i in 1..count {
                scale_row(&mut inputs, i, 1e-7);
                simd::axpy(1.0, &first, inputs.row_mut(i));
            }
        }
    }
    SampleInstance { inputs, path_norm: power_of_ten(rng, 3.0) }
}

fn random_diagonal(rng: &mut impl Rng) -> DiagonalInstance {
    let dim = size(rng);
    let input_variance = power_of_ten(rng, 2.0);
    let side = (3.0 * input_variance).sqrt();
    let unit = cube_inputs(SAMPLES, dim, rng);
    DiagonalInstance {
        model: DiagonalLinear::new(dim).expect("sizes are drawn from 1 on"),
        parameters: diagonal_parameters(dim, rng),
        input_variance,
        inputs: RowMatrix::from_fn(SAMPLES, dim, |i, j| side * unit.row(i)[j]),
    }
}

fn random_diagonal_step(rng: &mut impl Rng) -> DiagonalStepInstance {
    let (dim, batch_size) = (size(rng), size(rng));
    DiagonalStepInstance {
        model: DiagonalLinear::new(dim).expect("sizes are drawn from 1 on"),
        parameters: diagonal_parameters(dim, rng),
        inputs: RowMatrix::from_fn(batch_size, dim, |_, _| normal(rng)),
        residuals: (0..batch_size).map(|_| normal(rng) * power_of_ten(rng, 1.0)).collect(),
        learning_rate: power_of_ten(rng, 2.0),
    }
}

/// Fewer measurements than coordinates, of sparse coefficients more often than not.
fn random_recovery(rng: &mut impl Rng) -> RecoveryInstance {
    let dim = rng.random_range(2..=6);
    let count = rng.random_range(1..dim);
    let mut inputs = RowMatrix::from_fn(count, dim, |_, _| normal(rng));
    match rng.random_range(0..4) {
        // Small integers: ties, and columns that depend on each other.
        0 => inputs = RowMatrix::from_fn(count, dim, |_, _| f64::from(rng.random_range(-2..=2))),
        // Repeated measurements.
        1 => {
            let first = inputs.row(0).to_vec();
            inputs.row_mut(count - 1).copy_from_slice(&first);
        }
        // Generic measurements.
        _ => {}
    }
    let coefficients = target_coefficients(dim, rng);
    RecoveryInstance { inputs, coefficients, input_variance: power_of_ten(rng, 2.0) }
}

/// Designs with uniform coordinates, or with signs, which may depend on each other.
fn random_interpolation(rng: &mut impl Rng) -> InterpolationInstance {
    let dim = rng.random_range(2..=6);
    let count = rng.random_range(1..=dim);
    let input_variance = power_of_ten(rng, 2.0);
    let is_uniform = rng.random_bool(0.5);
    let side = if is_uniform { (3.0 * input_variance).sqrt() } else { input_variance.sqrt() };
    let designs = (0..SAMPLES)
        .map(|_| {
            RowMatrix::from_fn(count, dim, |_, _| {
                let unit: f64 = rng.random_range(-1.0..1.0);
                side * if is_uniform { unit } else { 1.0_f64.copysign(unit) }
            })
        })
        .collect();
    InterpolationInstance { coefficients: target_coefficients(dim, rng), designs, input_variance }
}

/// One or two coefficients that are not zero, or all.
fn target_coefficients(dim: usize, rng: &mut impl Rng) -> Vec<f64> {
    let scale = power_of_ten(rng, 2.0);
    let nonzero = match rng.random_range(0..4) {
        0 => dim,
        1 => 2,
        _ => 1,
    };
    let values: Vec<f64> = (0..nonzero).map(|_| scale * normal(rng)).collect();
    let first = rng.random_range(0..dim);
    (0..dim).map(|j| values.get((j + first) % dim).copied().unwrap_or(0.0)).collect()
}

fn diagonal_parameters(dim: usize, rng: &mut impl Rng) -> Vec<f64> {
    let mut a: Vec<f64> = (0..dim).map(|_| normal(rng)).collect();
    let mut b: Vec<f64> = (0..dim).map(|_| normal(rng)).collect();
    match rng.random_range(0..5) {
        // Generic.
        0 => {}
        // Balanced.
        1 => {
            for (a, b) in a.iter().zip(&mut b) {
                *b = a.copysign(*b);
            }
        }
        // Heavy-tailed and unbalanced.
        2 => {
            for (a, b) in a.iter_mut().zip(&mut b) {
                *a *= heavy_tailed(rng);
                *b *= power_of_ten(rng, 4.0);
            }
        }
        // Sparse, with coordinates whose layers vanish together or one by one.
        3 => {
            for value in a.iter_mut().chain(&mut b) {
                if rng.random_bool(0.4) {
                    *value = 0.0;
                }
            }
        }
        // Nearly balanced.
        _ => {
            for (a, b) in a.iter().zip(&mut b) {
                *b = a + 1e-8 * *b;
            }
        }
    }
    [a, b].concat()
}

/// Small sizes are the hard ones: half of the draws are 1, 2 or 3.
fn size(rng: &mut impl Rng) -> usize {
    if rng.random_bool(0.5) { rng.random_range(1..=3) } else { rng.random_range(1..=MAX_SIZE) }
}

fn normal(rng: &mut impl Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// `10^u` with u uniform on ±`decades`.
fn power_of_ten(rng: &mut impl Rng, decades: f64) -> f64 {
    libm::exp10(rng.random_range(-decades..=decades))
}

/// A Pareto variable with tail exponent 2/3 (no mean), below 10⁵.
fn heavy_tailed(rng: &mut impl Rng) -> f64 {
    let uniform: f64 = rng.random_range(1e-3..1.0);
    libm::pow(uniform, -1.5)
}

fn scale_row(matrix: &mut RowMatrix, row: usize, scale: f64) {
    for value in matrix.row_mut(row) {
        *value *= scale;
    }
}

/// `rows ≤ columns` orthonormal vectors, by Gram–Schmidt with re-orthogonalisation.
fn orthonormal_rows(rows: usize, columns: usize, rng: &mut impl Rng) -> RowMatrix {
    let mut matrix = RowMatrix::zeros(rows, columns);
    for i in 0..rows {
        let mut vector: Vec<f64> = (0..columns).map(|_| normal(rng)).collect();
        for _ in 0..2 {
            for k in 0..i {
                let component = simd::dot(matrix.row(k), &vector);
                simd::axpy(-component, matrix.row(k), &mut vector);
            }
            let norm = simd::norm_squared(&vector).sqrt();
            for value in &mut vector {
                *value /= norm;
            }
        }
        matrix.row_mut(i).copy_from_slice(&vector);
    }
    matrix
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{simd, stream};

    use super::{Domain, Instance, orthonormal_rows};

    #[test]
    fn orthonormal_rows_are() {
        let rows = orthonormal_rows(4, 6, &mut stream(1, "orthonormal rows", 0));
        for i in 0..4 {
            for j in 0..4 {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((simd::dot(rows.row(i), rows.row(j)) - expected).abs() < 1e-15);
            }
        }
    }

    #[test]
    fn a_stream_fixes_the_instance() {
        for domain in [
            Domain::Minimum,
            Domain::Momentum,
            Domain::Outputs,
            Domain::Relu,
            Domain::ReluStep,
            Domain::Sample,
            Domain::Diagonal,
            Domain::DiagonalStep,
            Domain::Recovery,
            Domain::Interpolation,
        ] {
            let draw = |index| Instance::random(domain, &mut stream(3, "instances", index));
            assert_eq!(draw(0), draw(0));
            assert_ne!(draw(0), draw(1));
            assert_eq!(draw(0).domain(), domain);
        }
    }
}
