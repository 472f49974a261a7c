//! Reads the archives of reference values.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use flatmin_linalg::RowMatrix;

/// The arrays of an archive by name: shape and values.
pub(crate) type Arrays = BTreeMap<String, (Vec<u64>, Vec<f64>)>;

/// All arrays of a file beside the tests, as float64 numbers.
pub(crate) fn read_npz(name: &str) -> Arrays {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let mut archive = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut arrays = Arrays::new();
    for index in 0..archive.len() {
        let mut bytes = Vec::new();
        let mut file = archive.by_index(index).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let npy = npyz::NpyFile::new(bytes.as_slice()).unwrap();
        let shape = npy.shape().to_vec();
        let values = match npy.dtype() {
            npyz::DType::Plain(plain) => match (plain.type_char(), plain.num_bytes().unwrap()) {
                (npyz::TypeChar::Float, 8) => npy.into_vec::<f64>().unwrap(),
                (npyz::TypeChar::Int, 8) => {
                    npy.into_vec::<i64>().unwrap().into_iter().map(|v| v as f64).collect()
                }
                (npyz::TypeChar::Bool, _) => {
                    let flags = npy.into_vec::<bool>().unwrap();
                    flags.into_iter().map(|v| f64::from(u8::from(v))).collect()
                }
                other => panic!("unexpected type {other:?} in {}", file.name()),
            },
            other @ (npyz::DType::Record(_) | npyz::DType::Array(..)) => {
                panic!("unexpected type {other:?} in {}", file.name())
            }
        };
        arrays.insert(file.name().trim_end_matches(".npy").to_owned(), (shape, values));
    }
    arrays
}

/// An array with two axes.
pub(crate) fn matrix(arrays: &Arrays, name: &str) -> RowMatrix {
    let (shape, values) = &arrays[name];
    let shape: Vec<usize> = shape.iter().map(|n| usize::try_from(*n).unwrap()).collect();
    RowMatrix::new(shape[0], shape[1], values.clone()).unwrap()
}
