//! The population matrix of a ReLU network against Monte Carlo, for both input laws.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::data::sphere_inputs;
use flatmin_models::{Model as _, TwoLayerRelu};
use rand_distr::{Distribution as _, StandardNormal};

const SAMPLES: usize = 100_000;

/// Every entry of Ḡ is within six standard errors of its sample mean. A sum of 10⁵ terms is normal
/// far enough: over the 272 entries tried a false alarm has probability about 272 · 2e-9 = 5e-7.
fn check(law: &str, inputs: &RowMatrix) {
    let model = TwoLayerRelu::new(5, 3).unwrap();
    let parameters = [
        [1.0, 0.5, -0.3].as_slice(),
        // Nearly parallel, exactly opposite, generic and dead.
        &[2.0, 1.0, -0.61],
        &[-1.0, -0.5, 0.3],
        &[0.2, -1.5, 0.7],
        &[0.0, 0.0, 0.0],
        &[1.2, -0.4, 0.9, 2.0, 1.0],
    ]
    .concat();
    let p = model.parameter_count();
    let (mut sums, mut squares) = (vec![0.0; p * p], vec![0.0; p * p]);
    let mut gradient = vec![0.0; p];
    for i in 0..SAMPLES {
        model.gradient(&parameters, inputs.row(i), &mut gradient);
        for k in 0..p {
            for l in 0..=k {
                let product = gradient[k] * gradient[l];
                sums[k * p + l] += product;
                squares[k * p + l] += product * product;
            }
        }
    }
    let population = model.population(&parameters);
    let (mut unit, mut image) = (vec![0.0; p], vec![0.0; p]);
    let n = SAMPLES as f64;
    for k in 0..p {
        unit[k] = 1.0;
        population.apply(&unit, &mut image);
        unit[k] = 0.0;
        for l in 0..=k {
            let mean = sums[k * p + l] / n;
            let standard_error = ((squares[k * p + l] / n - mean * mean).max(0.0) / n).sqrt();
            assert!(
                (image[l] - mean).abs() <= 6.0 * standard_error,
                "{law}, ({k}, {l}): exact {}, sampled {mean} ± {standard_error}",
                image[l]
            );
        }
    }
}

#[test]
fn the_sphere_gives_the_population_matrix() {
    check("sphere", &sphere_inputs(SAMPLES, 3, &mut stream(1, "population on the sphere", 0)));
}

#[test]
fn gaussian_inputs_give_the_same_matrix() {
    let mut rng = stream(1, "population of Gaussian inputs", 0);
    let inputs = RowMatrix::from_fn(SAMPLES, 3, |_, _| StandardNormal.sample(&mut rng));
    check("Gaussian", &inputs);
}
