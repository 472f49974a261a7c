//! Two-layer ReLU networks.

use flatmin_models::TwoLayerRelu;

use crate::prelude::*;

/// A network with at most 7 neurons and 7 inputs and its parameters, from one of several
/// deliberately hard families.
pub(crate) fn random_network(rng: &mut dyn Rng) -> (TwoLayerRelu, Vec<f64>) {
    let (width, dim) = (size(rng), size(rng));
    let mut hidden = normal_matrix(width, dim, rng);
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
        2 => balance(&hidden, &mut output),
        // Unbalanced neurons that compute the same function as generic ones.
        3 => {
            for (j, a) in output.iter_mut().enumerate() {
                let scale = power_of_ten(rng, 4.0);
                scale_row(&mut hidden, j, scale);
                *a /= scale;
            }
        }
        // Parallel and opposite neurons, exactly or nearly.
        4 => {
            let noise = if rng.random_bool(0.5) { 0.0 } else { 1e-9 };
            make_parallel(&mut hidden, noise, rng);
        }
        // Dead neurons, and neurons with an output weight of zero.
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
            let sign = |j: usize| if (j / dim).is_multiple_of(2) { 1.0 } else { -1.0 };
            let entry = |j, i| if j % dim == i { sign(j) } else { 0.0 };
            hidden = RowMatrix::from_fn(width, dim, entry);
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
