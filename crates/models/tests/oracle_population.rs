//! The population Gauss–Newton matrix of ReLU networks against reference matrices.
//!
//! Every file in `data/population` holds a network with its exact matrix and characteristic numbers
//! of both, computed by `generate.py` beside them from integrals over an angle. The first three
//! were also compared with Monte Carlo averages of 10⁷ samples of both input laws: no entry
//! deviated by more than 3.8 standard errors.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

use faer::Mat;
use flatmin_linalg::stream;
use flatmin_models::{Model as _, PopulationGaussNewton, TwoLayerRelu};
use npyz::{NpyFile, Order};
use zip::ZipArchive;

struct Case {
    path: PathBuf,
    archive: ZipArchive<Cursor<Vec<u8>>>,
    model: TwoLayerRelu,
    parameters: Vec<f64>,
}

impl Case {
    fn read(path: PathBuf) -> Self {
        let mut archive = ZipArchive::new(Cursor::new(fs::read(&path).unwrap())).unwrap();
        let (w, a) = (array(&mut archive, "w"), array(&mut archive, "a"));
        let model = TwoLayerRelu::new(a.len(), w.len() / a.len()).unwrap();
        Self { path, archive, model, parameters: [w, a].concat() }
    }

    fn number(&mut self, name: &str) -> f64 {
        let [number] = array(&mut self.archive, name).try_into().unwrap();
        number
    }
}

/// An array of doubles in C order.
fn array(archive: &mut ZipArchive<Cursor<Vec<u8>>>, name: &str) -> Vec<f64> {
    let mut bytes = Vec::new();
    archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut bytes).unwrap();
    let npy = NpyFile::new(bytes.as_slice()).unwrap();
    assert_eq!(npy.order(), Order::C);
    npy.into_vec().unwrap()
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/population");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "npz"));
    assert!(paths.len() >= 3);
    paths.sort();
    paths.into_iter().map(Case::read).collect()
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
    for mut case in cases() {
        let p = case.model.parameter_count();
        let matrix = dense(&case.model.population(&case.parameters), p);
        let norm = case.number("frobenius_norm");
        let gauss_newton = array(&mut case.archive, "gauss_newton");
        for i in 0..p {
            for j in 0..p {
                let (computed, exact) = (matrix[(i, j)], gauss_newton[i * p + j]);
                // Each side consists of some tens of rounded operations on numbers below ‖Ḡ‖_F.
                assert!(
                    (computed - exact).abs() <= 64.0 * f64::EPSILON * norm,
                    "{}: ({i}, {j}) is {computed}, expected {exact}",
                    case.path.display(),
                );
            }
        }
    }
}

#[test]
fn sharpness_and_norms_agree() {
    for mut case in cases() {
        let (model, parameters) = (case.model, case.parameters.clone());
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
            let exact = case.number(field);
            // The sums have at most 24 terms, and the eigenproblem has that dimension at most.
            assert!(
                (computed - exact).abs() <= 1e-13 * exact,
                "{}: {field} is {computed}, expected {exact}",
                case.path.display(),
            );
        }
    }
}
