//! A Jacobian whose products are computed by functions of Python.

use std::error::Error;

use faer::{ColRef, MatMut, MatRef};
use flatmin_linalg::{JacobianError, JacobianProduct, JacobianProducts};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Functions of bytes: float64 numbers of the machine, column by column.
#[derive(Debug, FromPyObject)]
pub(crate) struct Functions {
    #[pyo3(item(0))]
    samples: usize,
    #[pyo3(item(1))]
    outputs: usize,
    #[pyo3(item(2))]
    parameters: usize,
    /// The bytes of p × b numbers, and b → those of nk × b.
    #[pyo3(item(3))]
    jvp: Py<PyAny>,
    /// The bytes of nk × b numbers, and b → those of p × b.
    #[pyo3(item(4))]
    vjp: Py<PyAny>,
    /// Nothing → the bytes of n × k × k numbers.
    #[pyo3(item(5))]
    sample_grams: Py<PyAny>,
}

/// The number of bytes of a number.
const SIZE: usize = size_of::<f64>();

fn bytes_of<'py>(py: Python<'py>, matrix: MatRef<'_, f64>) -> PyResult<Bound<'py, PyBytes>> {
    let len = SIZE * matrix.nrows() * matrix.ncols();
    PyBytes::new_with(py, len, |bytes| {
        let numbers = matrix.col_iter().flat_map(ColRef::iter);
        for (bytes, number) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
            *bytes = number.to_ne_bytes();
        }
        Ok(())
    })
}

/// The numbers of what a function returned.
fn numbers<'a>(returned: &'a Bound<'_, PyAny>, count: usize) -> PyResult<&'a [[u8; SIZE]]> {
    let bytes = returned.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes();
    if bytes.len() != SIZE * count {
        let text = format!("returned {} numbers, expected {count}", bytes.len() / SIZE);
        return Err(pyo3::exceptions::PyValueError::new_err(text));
    }
    Ok(bytes.as_chunks().0)
}

/// Calls a function with vectors and writes what it returns to `images`.
fn call(
    product: JacobianProduct,
    function: &Py<PyAny>,
    vectors: MatRef<'_, f64>,
    images: MatMut<'_, f64>,
) -> Result<(), JacobianError> {
    let done: PyResult<()> = Python::attach(|py| {
        let bytes = bytes_of(py, vectors)?;
        let returned = function.bind(py).call1((bytes, vectors.ncols()))?;
        let mut numbers = numbers(&returned, images.nrows() * images.ncols())?.iter();
        for column in images.col_iter_mut() {
            for (entry, number) in column.iter_mut().zip(numbers.by_ref()) {
                *entry = f64::from_ne_bytes(*number);
            }
        }
        Ok(())
    });
    done.map_err(|error| failed(product, &error))
}

fn failed(product: JacobianProduct, error: &PyErr) -> JacobianError {
    let source: Box<dyn Error + Send + Sync> = error.to_string().into();
    JacobianError::Failed { product, source }
}

impl JacobianProducts for Functions {
    fn sample_count(&self) -> usize {
        self.samples
    }

    fn output_count(&self) -> usize {
        self.outputs
    }

    fn parameter_count(&self) -> usize {
        self.parameters
    }

    fn jvp(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) -> Result<(), JacobianError> {
        call(JacobianProduct::Jvp, &self.jvp, vectors, images)
    }

    fn vjp(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) -> Result<(), JacobianError> {
        call(JacobianProduct::Vjp, &self.vjp, vectors, images)
    }

    fn sample_grams(&self, grams: &mut [f64]) -> Result<(), JacobianError> {
        let done: PyResult<()> = Python::attach(|py| {
            let returned = self.sample_grams.bind(py).call0()?;
            let found = numbers(&returned, grams.len())?;
            for (entry, number) in grams.iter_mut().zip(found) {
                *entry = f64::from_ne_bytes(*number);
            }
            Ok(())
        });
        done.map_err(|error| failed(JacobianProduct::SampleGrams, &error))
    }
}
