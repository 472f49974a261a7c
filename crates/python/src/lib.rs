//! The extension module behind the Python package `flatmin`.
//!
//! It asks what `flatmin analyze` answers, for arrays that Python holds, with the options of the
//! command. Keywords, arrays of other libraries and the classes that a user sees are written in
//! Python, in `python/flatmin`.

mod array;
mod products;
mod work;

use std::ffi::OsString;
use std::num::NonZero;

use flatmin_arrays::ArraysInMemory;
use flatmin_cli::{History, Inquiry};
use flatmin_linalg::JacobianProducts as _;
use pyo3::create_exception;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::array::Buffer;
use crate::products::Functions;
use crate::work::{Pace, in_background};

create_exception!(
    flatmin,
    InputError,
    PyValueError,
    "An array or an option was refused. The message is that of the command `flatmin analyze`."
);

/// The answer to a question, with its forms.
#[pyclass(frozen, module = "flatmin._native")]
#[derive(Debug)]
struct Answer {
    answer: flatmin_cli::Answer,
    pace: Pace,
}

#[pymethods]
impl Answer {
    /// The answer in words.
    fn text(&self, py: Python<'_>) -> String {
        py.detach(|| self.answer.text())
    }

    /// The answer as JSON text.
    fn json(&self, py: Python<'_>) -> PyResult<String> {
        py.detach(|| self.answer.json()).map_err(refused)
    }

    /// The batches of the sizes 1, 2, 4, …, n as JSON text.
    fn curve(slf: Py<Self>, py: Python<'_>) -> PyResult<String> {
        in_background(py, None, move || {
            let Self { answer, pace } = slf.get();
            pace.run(|parallelism| answer.curve(parallelism))
        })?
        .map_err(refused)
    }

    /// Thresholds and bounds against batch size, as the text of an SVG file.
    fn svg(slf: Py<Self>, py: Python<'_>) -> PyResult<String> {
        in_background(py, None, move || {
            let Self { answer, pace } = slf.get();
            pace.run(|parallelism| answer.figure(parallelism))
        })?
        .map_err(refused)
    }
}

/// Answers a question about arrays.
///
/// `arrays` holds `(name, type string, shape, is Fortran order, memoryview of bytes)` for each
/// array; `main` is the name of the Jacobian or the Gram matrix; `options` are words of the command.
#[pyfunction]
#[pyo3(signature = (
    main, arrays, options, blocks=None, parameters=None, preconditioned=false, threads=None, products=None
))]
#[expect(clippy::too_many_arguments, reason = "the keywords of one Python function")]
fn analyze(
    py: Python<'_>,
    main: String,
    arrays: Vec<Buffer>,
    options: Vec<String>,
    blocks: Option<String>,
    parameters: Option<usize>,
    preconditioned: bool,
    threads: Option<NonZero<usize>>,
    products: Option<Functions>,
) -> PyResult<Answer> {
    let stop = work::Stop::default();
    let mut memory = ArraysInMemory::default();
    let mut rows = 0;
    for buffer in arrays {
        rows = rows.max(buffer.largest_axis());
        let (name, array) = buffer.array(&stop);
        memory.insert(&name, array).map_err(refused)?;
    }
    let history = History { parameters, is_preconditioned: preconditioned };
    if let Some(products) = &products {
        rows = rows.max(products.row_count());
    }
    let products = products.map(|products| Box::new(products) as Box<_>);
    let asked = stop.clone();
    let stopped: Box<dyn Fn() -> bool + Send> = Box::new(move || asked.is_requested());
    let inquiry =
        Inquiry { arrays: memory, main, options, blocks, history, products, stop: Some(stopped) };
    let pace = Pace::of_size(rows, threads);
    let answer = in_background(py, Some(&stop), move || {
        pace.run(|parallelism| inquiry.answer(parallelism))
    })?;
    Ok(Answer { answer: answer.map_err(refused)?, pace })
}

/// Runs the command of these words, the first of which is the name of the program, and returns its
/// exit status.
#[pyfunction]
fn command(py: Python<'_>, words: Vec<OsString>) -> u8 {
    py.detach(|| flatmin_cli::main_from(words) as u8)
}

fn refused(error: impl std::fmt::Display) -> PyErr {
    InputError::new_err(error.to_string())
}

/// The error of a thread that ended without a result.
fn broken() -> PyErr {
    PyRuntimeError::new_err("flatmin failed; this is a defect, please report it with the input")
}

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::{Answer, InputError, analyze, command};

    /// The version of the package.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "the name in Python")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
