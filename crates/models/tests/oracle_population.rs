//! The population Gauss–Newton matrix of ReLU networks against reference matrices.
//!
//! `data/population` holds three networks with their exact matrices (arc-cosine kernels, checked by
//! Monte Carlo with 10⁷ samples of both input laws), computed by an independent program.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{Cursor, Read as _};
use std::path::PathBuf;

use faer::Mat;
use flatmin_linalg::stream;
use flatmin_models::{Model as _, PopulationGaussNewton, TwoLayerRelu};
use npyz::{NpyFile, Order};
use serde_json::Value;
use zip::ZipArchive;

fn data(file: &str) -> Vec<u8> {
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests", "data", "population", file].iter().collect();
    fs::read(path).unwrap()
}

/// An array of doubles in C order.
fn array(archive: &mut ZipArchive<Cursor<Vec<u8>>>, name: &str) -> Vec<f64> {
    let mut bytes = Vec::new();
    archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
    let npy = NpyFile::new(bytes.as_slice()).unwrap();
    assert_eq!(npy.order(), Order::C);
    npy.into_vec().unwrap()
}

struct Case {
    expected: Value,
    model: TwoLayerRelu,
    parameters: Vec<f64>,
    gauss_newton: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let list: Vec<Value> = serde_json::from_slice(&data("population.json")).unwrap();
    assert_eq!(list.len(), 3);
    list.into_iter()
        .map(|expected| {
            let size = |field: &str| usize::try_from(expected[field].as_u64().unwrap()).unwrap();
            let file = data(expected["file"].as_str().unwrap());
            let mut archive = ZipArchive::new(Cursor::new(file)).unwrap();
            let (w, a) = (array(&mut archive, "w"), array(&mut archive, "a"));
            Case {
                model: TwoLayerRelu::new(size("m"), size("d")).unwrap(),
                parameters: [w, a].concat(),
                gauss_newton: array(&mut archive, "gauss_newton"),
                expected,
            }
        })
        .collect()
}

fn dense(population: &PopulationGaussNewton, p: usize) -> Mat<f64> {
    let mut matrix = Mat::zeros(p, p);
    let (mut unit, mut image) = (vec![0.0; p], vec![0.0; p]);
    for j in 0..p {
        unit[j] = 1.0;
        population.apply(&unit, &mut image);
        unit[j] = 0.0;
        for (i, value) in image.iter().enumerate() {
            matrix[(i, j)] = *value;
        }
    }
    matrix
}

#[test]
fn every_entry_agrees() {
    for Case { expected, model, parameters, gauss_newton } in cases() {
        let p = model.parameter_count();
        let matrix = dense(&model.population(&parameters), p);
        let norm = expected["frobenius_norm"].as_f64().unwrap();
        for i in 0..p {
            for j in 0..p {
                let (computed, exact) = (matrix[(i, j)], gauss_newton[i * p + j]);
                // Tens of rounded operations on numbers below ‖Ḡ‖_F, on either side.
                assert!(
                    (computed - exact).abs() <= 64.0 * f64::EPSILON * norm,
                    "{}: ({i}, {j}) is {computed}, expected {exact}",
                    expected["file"],
                );
            }
        }
    }
}

#[test]
fn sharpness_and_norms_agree() {
    for Case { expected, model, parameters, .. } in cases() {
        let mut rng = stream(0, "oracle population", 0);
        let sharpness = model.population(&parameters).sharpness(&mut rng).unwrap();
        for (field, computed) in [
            ("trace", sharpness.trace),
            ("frobenius_norm", sharpness.frobenius_norm),
            ("lambda_max", sharpness.lambda_max),
            ("path_norm", model.path_norm(&parameters)),
            ("frobenius_norm_of_w_squared", model.hidden_norm_squared(&parameters)),
            ("norm_of_a_squared", model.output_norm_squared(&parameters)),
        ] {
            let exact = expected[field].as_f64().unwrap();
            // Sums of at most 24 terms, and an eigenproblem of that dimension.
            assert!(
                (computed - exact).abs() <= 1e-13 * exact,
                "{}: {field} is {computed}, expected {exact}",
                expected["file"],
            );
        }
    }
}
