//! Arrays that Python holds.

use std::io;
use std::sync::Arc;

use flatmin_arrays::{ArrayInMemory, Bytes, Order};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PySlice};

use crate::work::Stop;

/// An array as Python passes it.
#[derive(Debug, FromPyObject)]
pub(crate) struct Buffer {
    #[pyo3(item(0))]
    name: String,
    #[pyo3(item(1))]
    descr: String,
    #[pyo3(item(2))]
    shape: Vec<usize>,
    #[pyo3(item(3))]
    is_fortran: bool,
    /// A `memoryview` of bytes.
    #[pyo3(item(4))]
    view: Py<PyAny>,
    #[pyo3(item(5))]
    len: usize,
}

impl Buffer {
    /// The length of the longest axis but the last, an upper limit of the number of rows.
    pub(crate) fn largest_axis(&self) -> usize {
        let (_, rows) = self.shape.split_last().unwrap_or((&0, &[]));
        rows.iter().product()
    }

    /// The name and the array. Its numbers are read from Python when they are needed, a piece at a
    /// time, until the work is to stop.
    pub(crate) fn array(self, stop: &Stop) -> (String, ArrayInMemory) {
        let Self { name, descr, shape, is_fortran, view, len } = self;
        let order = if is_fortran { Order::Fortran } else { Order::C };
        let bytes = Arc::new(View { bytes: view, len, stop: stop.clone() });
        (name, ArrayInMemory { descr, shape, order, bytes })
    }
}

/// Bytes behind a `memoryview`.
#[derive(Debug)]
struct View {
    bytes: Py<PyAny>,
    len: usize,
    stop: Stop,
}

impl Bytes for View {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> io::Result<()> {
        if self.stop.is_requested() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Python::attach(|py| {
            let end = offset + into.len();
            let range = PySlice::new(py, offset.cast_signed(), end.cast_signed(), 1);
            let bytes = self.bytes.bind(py).get_item(range)?.call_method0("tobytes")?;
            let bytes = bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes();
            if bytes.len() != into.len() {
                return Ok(false);
            }
            into.copy_from_slice(bytes);
            Ok(true)
        })
        .map_err(|error: PyErr| io::Error::other(error.to_string()))
        .and_then(|is_whole| {
            if is_whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        })
    }
}
