//! A Jacobian that is read from its file again for every product.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use faer::{Accum, Mat, MatMut, MatRef};
use flatmin_host::{Progress, shown};
use flatmin_linalg::{JacobianError, JacobianProduct, JacobianProducts, Parallelism, matmul};
use flatmin_theory::MinimumError;

use super::source::{Columns, Named, Source};
use super::stream::{BLOCK_BYTES, Stream, failure};
use crate::analyze::doubts::{ColumnFacts, ColumnSummary};
use crate::analyze::training::Weights;
use crate::failure::Failure;

/// Rows of a product that a thread computes at a time.
const TASK_ROWS: usize = 512;

/// The rows whose products are compared with each other, for doubts.
const COMPARED_ROWS: usize = 1000;

/// The Jacobian in a file, weighted by the loss and the preconditioner, by its products. Each
/// product reads the file once, in blocks of columns; so does one with J and its transpose.
#[derive(Debug)]
pub(crate) struct FileJacobian {
    path: PathBuf,
    source: Mutex<Source>,
    weights: Weights,
    samples: usize,
    outputs: usize,
    columns: usize,
    /// The state of the file when it was opened; `None` in memory.
    stamp: Option<Stamp>,
    parallelism: Parallelism,
    first: FirstPass,
}

/// What the first pass over the file noted.
#[derive(Debug)]
struct FirstPass {
    /// The `J_iJ_iᵀ` of all samples.
    grams: Vec<f64>,
    columns: ColumnSummary,
    /// The products of the first rows, before weights.
    products: Mat<f64>,
}

/// Length and time of change of a file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    changed: Option<SystemTime>,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { len: metadata.len(), changed: metadata.modified().ok() })
    }
}

impl FileJacobian {
    /// Reads the file once, for the blocks of all samples and for the facts about its columns.
    #[expect(clippy::too_many_arguments, reason = "the parts of an input")]
    pub(super) fn new(
        path: &Path,
        source: Source,
        weights: Weights,
        (samples, outputs): (usize, usize),
        mut facts: ColumnFacts,
        parallelism: Parallelism,
    ) -> Result<Self, Failure> {
        let columns = source.columns();
        let names = source.names(&(0..columns));
        let compared = samples.min((COMPARED_ROWS / outputs).max(1)) * outputs;
        let mut jacobian = Self {
            path: path.to_owned(),
            source: Mutex::new(source),
            weights,
            samples,
            outputs,
            columns,
            stamp: Stamp::of(path).ok(),
            parallelism,
            first: FirstPass {
                grams: Vec::new(),
                columns: ColumnSummary::default(),
                products: Mat::zeros(compared, compared),
            },
        };
        let mut grams = vec![0.0; samples * outputs * outputs];
        let mut products = Mat::zeros(compared, compared);
        jacobian.each_block(|read, weighed, first| {
            check_finite(path, read.matrix(samples * outputs), first, (outputs, &names))?;
            facts.add(&read.values, read.is_column_major, first);
            let rows = read.matrix(samples * outputs).subrows(0, compared);
            matmul(products.as_mut(), Accum::Add, rows, rows.transpose(), 1.0);
            add_own_products(parallelism, weighed, outputs, &mut grams);
            Ok(())
        })?;
        jacobian.first = FirstPass { grams, columns: facts.finish(), products };
        Ok(jacobian)
    }

    /// The facts about the columns.
    pub(super) fn column_facts(&self) -> &ColumnSummary {
        &self.first.columns
    }

    /// The products of the first rows.
    pub(super) fn first_products(&self) -> MatRef<'_, f64> {
        self.first.products.as_ref()
    }

    /// Reads the columns in blocks: those of the file, the weighted ones, and the first index.
    fn each_block(
        &self,
        mut visit: impl FnMut(&Columns, MatRef<'_, f64>, usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.check_unchanged()?;
        let mut source: MutexGuard<'_, Source> =
            self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = self.samples * self.outputs;
        let label = format!("reading {}", shown(&self.path));
        let bytes = (rows * self.columns * source.number_size()) as u64;
        let progress = Progress::bytes(&label, bytes);
        let mut stream = Stream {
            path: &self.path,
            source: &mut source,
            weights: &self.weights,
            rows,
            outputs: self.outputs,
            progress: &progress,
        };
        let done = stream.each(0..self.columns, &mut visit);
        // A file that is being written may end early, which is not what was wrong.
        self.check_unchanged()?;
        done
    }

    /// Refuses a file that was written since it was opened.
    fn check_unchanged(&self) -> Result<(), Failure> {
        let Some(stamp) = &self.stamp else { return Ok(()) };
        if Stamp::of(&self.path).is_ok_and(|now| now == *stamp) {
            return Ok(());
        }
        Err(Failure::input(
            &self.path,
            "changed while it was read; analyse a file that is complete",
        ))
    }

    fn product(
        &self,
        product: JacobianProduct,
        visit: impl FnMut(&Columns, MatRef<'_, f64>, usize) -> Result<(), Failure>,
    ) -> Result<(), JacobianError> {
        let done = self.each_block(visit);
        done.map_err(|error| JacobianError::Failed { product, source: Box::new(error) })
    }
}

/// Refuses numbers that are not finite, and names the first of them.
fn check_finite(
    path: &Path,
    columns: MatRef<'_, f64>,
    first: usize,
    of: (usize, &[Named]),
) -> Result<(), Failure> {
    for column in 0..columns.ncols() {
        for row in 0..columns.nrows() {
            let value = columns[(row, column)];
            if !value.is_finite() {
                let error = MinimumError::NotFinite { row, column: first + column, value };
                return Err(failure(path, error, 0, of));
            }
        }
    }
    Ok(())
}

/// Adds the products of the rows of each sample, k × k blocks.
fn add_own_products(
    parallelism: Parallelism,
    columns: MatRef<'_, f64>,
    outputs: usize,
    grams: &mut [f64],
) {
    let k = outputs;
    parallelism.for_each_chunk(grams, k * k, |sample, gram| {
        let rows = columns.subrows(sample * k, k);
        for a in 0..k {
            for b in 0..=a {
                let pairs = rows.row(a).iter().zip(rows.row(b).iter());
                let sum: f64 = pairs.map(|(x, y)| x * y).sum();
                gram[a * k + b] += sum;
                if a != b {
                    gram[b * k + a] += sum;
                }
            }
        }
    });
}

/// Adds `A V` to `images`, in tasks of some rows of A.
fn multiply(
    parallelism: Parallelism,
    a: MatRef<'_, f64>,
    vectors: MatRef<'_, f64>,
    images: MatMut<'_, f64>,
) {
    let (mut tasks, mut rest, mut first) = (Vec::new(), images, 0);
    while rest.nrows() > 0 {
        let count = TASK_ROWS.min(rest.nrows());
        let (task, below) = rest.split_at_row_mut(count);
        tasks.push((first, task));
        (rest, first) = (below, first + count);
    }
    parallelism.for_each(tasks, |(first, task)| {
        let rows = a.subrows(first, task.nrows());
        matmul(task, Accum::Add, rows, vectors, 1.0);
    });
}

impl JacobianProducts for FileJacobian {
    fn sample_count(&self) -> usize {
        self.samples
    }

    fn output_count(&self) -> usize {
        self.outputs
    }

    fn parameter_count(&self) -> usize {
        self.columns
    }

    fn jvp(
        &self,
        vectors: MatRef<'_, f64>,
        mut images: MatMut<'_, f64>,
    ) -> Result<(), JacobianError> {
        images.fill(0.0);
        self.product(JacobianProduct::Jvp, |_, columns, first| {
            let vectors = vectors.subrows(first, columns.ncols());
            multiply(self.parallelism, columns, vectors, images.as_mut());
            Ok(())
        })
    }

    fn vjp(
        &self,
        vectors: MatRef<'_, f64>,
        mut images: MatMut<'_, f64>,
    ) -> Result<(), JacobianError> {
        images.fill(0.0);
        self.product(JacobianProduct::Vjp, |_, columns, first| {
            let images = images.as_mut().subrows_mut(first, columns.ncols());
            multiply(self.parallelism, columns.transpose(), vectors, images);
            Ok(())
        })
    }

    /// One pass over the file: the sum of `C (CᵀU)` over its blocks C of columns.
    fn gram_product(
        &self,
        vectors: MatRef<'_, f64>,
        mut images: MatMut<'_, f64>,
    ) -> Result<(), JacobianError> {
        images.fill(0.0);
        self.product(JacobianProduct::Jvp, |_, columns, _| {
            let mut inner = Mat::zeros(columns.ncols(), vectors.ncols());
            multiply(self.parallelism, columns.transpose(), vectors, inner.as_mut());
            multiply(self.parallelism, columns, inner.as_ref(), images.as_mut());
            Ok(())
        })
    }

    fn sample_grams(&self, grams: &mut [f64]) -> Result<(), JacobianError> {
        grams.copy_from_slice(&self.first.grams);
        Ok(())
    }
}

/// Bytes that a product takes beside its vectors.
pub(crate) fn pass_bytes() -> usize {
    4 * BLOCK_BYTES
}
