//! Reference values from an independent implementation, in `tests/data`.
//!
//! `cases.json` holds, for every array, batch size and sampling, the noise coefficient, the exact
//! threshold (dense Kronecker form, for small ranks with 40 digits), the sharpness and the learning
//! rate at which each condition turns. The arrays cover both byte orders, float32, Fortran order,
//! entries of 1e±150, condition numbers up to 1e32, repeated and zero rows, and Gram matrices.
//! Every other `.json` file is a case of its own, with its matrix inside. `generate.py` computes
//! all of these values again, and makes new cases.

use std::fs;
use std::path::PathBuf;

use flatmin_linalg::{Parallelism, RowMatrix};
use flatmin_theory::{Batch, Gram, Minimum, Sampling};
use npyz::{DType, NpyFile, Order};
use serde_json::Value;

fn data(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", file].iter().collect()
}

pub(crate) fn cases() -> Vec<Value> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(data("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    let cases = |path: PathBuf| match serde_json::from_slice(&fs::read(path).unwrap()).unwrap() {
        Value::Array(cases) => cases,
        mut document => {
            let (matrix, kind) = (document["matrix"].take(), document["kind"].take());
            let Value::Array(mut cases) = document["cases"].take() else { panic!("{document}") };
            for case in &mut cases {
                (case["matrix"], case["kind"]) = (matrix.clone(), kind.clone());
            }
            cases
        }
    };
    paths.into_iter().flat_map(cases).collect()
}

/// The matrix inside of a case.
fn inner_matrix(rows: &[Value]) -> RowMatrix {
    let rows: Vec<Vec<f64>> =
        rows.iter().map(|row| serde_json::from_value(row.clone()).unwrap()).collect();
    RowMatrix::new(rows.len(), rows[0].len(), rows.concat()).unwrap()
}

/// A matrix from a `.npy` file.
fn matrix(file: &str) -> RowMatrix {
    let bytes = fs::read(data(file)).unwrap();
    let npy = NpyFile::new(bytes.as_slice()).unwrap();
    let shape: Vec<usize> =
        npy.shape().iter().map(|size| usize::try_from(*size).unwrap()).collect();
    let [rows, columns] = shape[..] else { panic!("{file} has shape {shape:?}") };
    let order = npy.order();
    let DType::Plain(number) = npy.dtype() else { panic!("{file} holds records") };
    let values: Vec<f64> = if number.size_field() == 4 {
        npy.into_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
    } else {
        npy.into_vec::<f64>().unwrap()
    };
    RowMatrix::from_fn(rows, columns, |i, j| match order {
        Order::C => values[i * columns + j],
        Order::Fortran => values[j * rows + i],
    })
}

pub(crate) fn number(case: &Value, field: &str) -> f64 {
    match &case[field] {
        Value::String(text) if text == "inf" => f64::INFINITY,
        value => value.as_f64().unwrap(),
    }
}

#[track_caller]
pub(crate) fn assert_close(case: &Value, field: &str, computed: f64, tolerance: f64) {
    let expected = number(case, field);
    let close = if expected.is_finite() {
        (computed - expected).abs() <= tolerance * expected
    } else {
        computed.total_cmp(&expected).is_eq()
    };
    assert!(close, "{}: {field} is {computed:e}, expected {expected:e}", case["id"]);
}

pub(crate) fn minimum_and_batch(case: &Value) -> (Minimum, Batch) {
    let sampling = match case["sampling"].as_str().unwrap() {
        "with_replacement" => Sampling::WithReplacement,
        "without_replacement" => Sampling::WithoutReplacement,
        other => panic!("sampling {other}"),
    };
    let size = usize::try_from(case["batch_size"].as_u64().unwrap()).unwrap();
    let matrix = match &case["matrix"] {
        Value::Array(rows) => inner_matrix(rows),
        _ => matrix(case["file"].as_str().unwrap()),
    };
    let minimum = if case["kind"] == "gram" {
        let gram = Gram::from_sums(matrix.as_mat().to_owned()).unwrap();
        Minimum::from_gram(gram, Parallelism::Sequential).unwrap()
    } else {
        Minimum::new(&matrix).unwrap()
    };
    (minimum, Batch::new(size, sampling).unwrap())
}
