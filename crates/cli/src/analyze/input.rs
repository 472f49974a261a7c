//! Reading a minimum from a file.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use faer::{Mat, MatRef};
use flatmin_arrays::{Array, ArrayError, ArrayFile, Order};
use flatmin_host::{Progress, shown, significant};
use flatmin_linalg::{Parallelism, Sharpness};
use flatmin_theory::{Gram, GramSum, LossError, Minimum, MinimumError};

use super::arguments::AnalyzeArguments;
use super::blocks::Blocks;
use super::training::{Residuals, Weights};
use crate::failure::Failure;
use crate::words::shape_words;

/// Bytes of a block of columns, as float64. Three blocks are in memory at a time.
const BLOCK_BYTES: usize = 128 << 20;

/// Most n × n matrices (nk × nk with k outputs) of float64 in memory at a time; 7.2 were measured
/// at n = 2000.
const MAX_MATRICES: u32 = 8;

/// A checked file, of which only the headers have been read.
#[derive(Debug)]
pub(super) struct Input {
    array: Array,
    path: PathBuf,
    samples: usize,
    /// Rows per sample.
    outputs: usize,
    /// Columns of the Jacobian; `None` for a Gram matrix.
    parameters: Option<usize>,
    blocks: Option<Blocks>,
    weights: Weights,
}

/// The minimum in a file.
#[derive(Debug)]
pub(super) struct FileMinimum {
    pub(super) minimum: Minimum,
    /// The name of the array, if it has one.
    pub(super) array: Option<String>,
    /// The number of columns of a Jacobian.
    pub(super) parameters: Option<usize>,
    /// Name, columns and sharpness of each block.
    pub(super) blocks: Option<Vec<(String, Range<usize>, Sharpness)>>,
    /// The residuals, if they were given.
    pub(super) residuals: Option<Residuals>,
}

impl Input {
    /// Opens the file and checks its headers.
    pub(super) fn open(arguments: &AnalyzeArguments) -> Result<Self, Failure> {
        let path = &arguments.file;
        let usual: &[&str] = if arguments.gram { &["gram", "jacobian"] } else { &["jacobian"] };
        let array = ArrayFile::open(path)?.array(arguments.array.as_deref(), usual)?;
        let shape = JacobianShape::new(array.shape(), arguments.gram, arguments.outputs)
            .map_err(|reason| Failure::input(path, reason))?;
        let JacobianShape { samples, outputs, columns } = shape;
        let rows = samples as f64 * outputs as f64;
        let bytes = f64::from(8 * MAX_MATRICES) * rows * rows + 3.0 * BLOCK_BYTES as f64;
        let needed = bytes / f64::from(1 << 30);
        if needed > arguments.memory_limit {
            let what = if outputs == 1 {
                format!("{samples} samples")
            } else {
                format!("{samples} samples with {outputs} outputs each")
            };
            let text = format!(
                "{what} need about {} GiB of memory, more than --memory-limit {}; \
                 analyse fewer samples, or raise the limit where there is as much",
                significant(needed, 2),
                significant(arguments.memory_limit, 6)
            );
            return Err(Failure::input(path, text));
        }
        let blocks = arguments.blocks.as_deref().map(Blocks::read).transpose()?;
        if let Some(blocks) = &blocks {
            blocks.check(columns)?;
        }
        let parameters = (!arguments.gram).then_some(columns);
        let weights = Weights::read(&arguments.training, path, (samples, outputs), parameters)?;
        Ok(Self { array, path: path.clone(), samples, outputs, parameters, blocks, weights })
    }

    /// Reads the numbers.
    pub(super) fn minimum(mut self, parallelism: Parallelism) -> Result<FileMinimum, Failure> {
        let residuals = self.weights.residuals.take();
        let array = self.array.name().map(str::to_owned);
        match self.parameters {
            None => {
                let minimum = self.gram(parallelism)?;
                Ok(FileMinimum { minimum, array, parameters: None, blocks: None, residuals })
            }
            Some(columns) => {
                let found = self.jacobian(columns, array, parallelism)?;
                Ok(FileMinimum { residuals, ..found })
            }
        }
    }

    /// The number of rows of the Jacobian.
    fn rows(&self) -> usize {
        self.samples * self.outputs
    }

    fn sum(&self, parallelism: Parallelism) -> Result<GramSum, Failure> {
        GramSum::with_outputs(self.samples, self.outputs, parallelism)
            .map_err(Failure::at(&self.path))
    }

    fn gram(mut self, parallelism: Parallelism) -> Result<Minimum, Failure> {
        let n = self.rows();
        let mut values = Vec::new();
        self.array.read_columns(0..n, &mut values)?;
        let matrix = matrix(self.array.order(), &values, n, n).to_owned();
        drop(values);
        let matrix = self.weights.weigh_gram(matrix)?;
        let gram = Gram::from_sums(matrix)
            .and_then(|gram| gram.with_outputs(self.outputs))
            .map_err(Failure::at(&self.path))?;
        let _progress = decomposing(n);
        Minimum::from_gram(gram, parallelism).map_err(Failure::at(&self.path))
    }

    fn jacobian(
        mut self,
        columns: usize,
        array: Option<String>,
        parallelism: Parallelism,
    ) -> Result<FileMinimum, Failure> {
        let failed = Failure::at(&self.path);
        let blocks = self.blocks.take().map(|blocks| blocks.ranges);
        let ranges: Vec<Range<usize>> =
            blocks.iter().flatten().map(|(_, range)| range.clone()).collect();
        let (pieces, again) = pieces(columns, &ranges);
        let twice: usize = again.iter().map(|index| ranges[*index].len()).sum();
        let read = columns + twice;
        let label = format!("reading {}", shown(&self.path));
        let size = (self.rows() * self.array.element().size()) as u64;
        let progress = Progress::bytes(&label, read as u64 * size);
        let mut total = self.sum(parallelism)?;
        let mut sharpness = vec![None; ranges.len()];
        for piece in pieces {
            match piece.block {
                None => self.add(&mut total, piece.range, &progress)?,
                Some(index) => {
                    let mut sum = self.sum(parallelism)?;
                    self.add(&mut sum, piece.range, &progress)?;
                    sharpness[index] = Some(sum.sharpness().map_err(&failed)?);
                    total.append(sum).map_err(&failed)?;
                }
            }
        }
        for index in again {
            let mut sum = self.sum(parallelism)?;
            self.add(&mut sum, ranges[index].clone(), &progress)?;
            sharpness[index] = Some(sum.sharpness().map_err(&failed)?);
        }
        drop(progress);
        let _progress = decomposing(self.rows());
        let minimum = total.minimum().map_err(&failed)?;
        let blocks = blocks.map(|blocks| {
            let measured = blocks.into_iter().zip(sharpness);
            measured.filter_map(|((name, range), s)| Some((name, range, s?))).collect()
        });
        let parameters = Some(columns);
        Ok(FileMinimum { minimum, array, parameters, blocks, residuals: None })
    }

    /// Adds columns to a sum of those before them, or to a new one. While one block is added, a
    /// thread reads the next one.
    fn add(
        &mut self,
        sum: &mut GramSum,
        range: Range<usize>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let offset = range.start - sum.parameter_count();
        let (n, size, outputs) = (self.rows(), self.array.element().size(), self.outputs);
        let width = (BLOCK_BYTES / (8 * n)).max(64) / 64 * 64;
        let ranges: Vec<Range<usize>> = range
            .clone()
            .step_by(width)
            .map(|start| start..(start + width).min(range.end))
            .collect();
        let (path, array, weights) = (&self.path, &mut self.array, &self.weights);
        let mut first = range.start;
        let order = array.order();
        let (full, empty) = (mpsc::sync_channel(1), mpsc::channel::<Vec<f64>>());
        thread::scope(|scope| {
            let (sender, recycled) = (full.0, empty.1);
            scope.spawn(move || {
                for range in ranges {
                    let mut values = recycled.try_recv().unwrap_or_default();
                    let read = array.read_columns(range, &mut values).map(|()| values);
                    let done = read.is_err();
                    // The receiver is gone when adding has failed.
                    if sender.send(read).is_err() || done {
                        break;
                    }
                }
            });
            let received: mpsc::Receiver<Result<Vec<f64>, ArrayError>> = full.1;
            for values in received {
                let values = values?;
                let columns = values.len() / n;
                let read = matrix(order, &values, n, columns);
                let weighed = weights.weigh(read, first);
                let weighed = weighed.map_err(|error| match error {
                    LossError::Minimum(error) => failure(path, error, 0, outputs),
                    other => Failure::at(path)(other),
                })?;
                sum.add(weighed.as_ref().map_or(read, Mat::as_ref))
                    .map_err(|error| failure(path, error, offset, outputs))?;
                first += columns;
                progress.advance((columns * n * size) as u64);
                // The reader is gone after the last block.
                let _ = empty.0.send(values);
            }
            Ok(())
        })
    }
}

/// Columns that are read together.
#[derive(Debug, PartialEq)]
struct Piece {
    range: Range<usize>,
    /// The index of the block of parameters that the columns form, if any.
    block: Option<usize>,
}

/// Cuts the columns at the blocks. Also returns the indices of the blocks that overlap an earlier
/// one; these have to be read once more.
fn pieces(columns: usize, blocks: &[Range<usize>]) -> (Vec<Piece>, Vec<usize>) {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|index| (blocks[*index].start, blocks[*index].end));
    let (mut pieces, mut again) = (Vec::new(), Vec::new());
    let mut done = 0;
    for index in order {
        let range = blocks[index].clone();
        if range.start < done {
            again.push(index);
            continue;
        }
        if done < range.start {
            pieces.push(Piece { range: done..range.start, block: None });
        }
        done = range.end;
        pieces.push(Piece { range, block: Some(index) });
    }
    if done < columns {
        pieces.push(Piece { range: done..columns, block: None });
    }
    (pieces, again)
}

/// A matrix of numbers in the order of the file.
fn matrix(order: Order, values: &[f64], rows: usize, columns: usize) -> MatRef<'_, f64> {
    match order {
        Order::C => MatRef::from_row_major_slice(values, rows, columns),
        Order::Fortran => MatRef::from_column_major_slice(values, rows, columns),
    }
}

/// An error whose column is counted in the whole Jacobian, and its row by sample and output.
fn failure(path: &Path, error: MinimumError, offset: usize, outputs: usize) -> Failure {
    match error {
        MinimumError::NotFinite { row, column, value } if outputs > 1 => {
            let (sample, output, column) = (row / outputs, row % outputs, column + offset);
            let text = format!(
                "entry ({sample}, {output}, {column}) of the Jacobian is {value}, expected a finite \
                 number"
            );
            Failure::input(path, text)
        }
        MinimumError::NotFinite { row, column, value } => {
            let column = column + offset;
            Failure::at(path)(MinimumError::NotFinite { row, column, value })
        }
        other => Failure::at(path)(other),
    }
}

/// A progress bar for an eigenvalue decomposition.
fn decomposing(n: usize) -> Progress {
    Progress::steps(&format!("eigenvalues of a {n} × {n} matrix"), 1)
}

/// The meaning of the axes of an array.
#[derive(Debug, PartialEq)]
struct JacobianShape {
    samples: usize,
    outputs: usize,
    columns: usize,
}

impl JacobianShape {
    /// The shape of a Jacobian or, with `gram`, of a Gram matrix, with the given number of outputs.
    ///
    /// # Errors
    /// What is wrong with the shape, in words.
    fn new(shape: &[usize], gram: bool, outputs: Option<usize>) -> Result<Self, String> {
        let shown = format!("has shape ({})", shape_words(shape));
        let wanted = match (gram, outputs) {
            (false, _) => {
                "expected a Jacobian n × p, a row per sample and a column per parameter, or n × k × p \
                 for k outputs"
            }
            (true, None | Some(1)) => "expected the n × n matrix JJᵀ",
            (true, Some(_)) => "expected the nk × nk matrix JJᵀ",
        };
        let (rows, columns) = match *shape {
            _ if shape.contains(&0) => return Err(format!("is empty: it {shown}, {wanted}")),
            [] => return Err(format!("is a single number, {wanted}")),
            [n] => return Err(format!("{shown}, {wanted}; reshape it to 1 × {n} or {n} × 1")),
            [rows, columns] => (rows, columns),
            [samples, found, columns] if !gram => {
                return match outputs {
                    Some(outputs) if outputs != found => {
                        Err(format!("{shown}, the Jacobian of {found} outputs, not of {outputs}"))
                    }
                    _ => Ok(Self { samples, outputs: found, columns }),
                };
            }
            _ => return Err(format!("{shown}, {wanted}")),
        };
        if gram && rows != columns {
            return Err(format!("{shown}, {wanted}; without --gram it is read as a Jacobian"));
        }
        let outputs = outputs.unwrap_or(1);
        if !rows.is_multiple_of(outputs) {
            return Err(format!("{shown}: {rows} rows are not {outputs} outputs for every sample"));
        }
        Ok(Self { samples: rows / outputs, outputs, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::{JacobianShape, Piece, pieces};

    #[test]
    fn columns_are_cut_at_the_blocks_and_overlaps_read_again() {
        let blocks = [6..8, 1..4, 2..3];
        let piece = |range, block| Piece { range, block };
        let (pieces, again) = pieces(9, &blocks);
        let expected = [
            piece(0..1, None),
            piece(1..4, Some(1)),
            piece(4..6, None),
            piece(6..8, Some(0)),
            piece(8..9, None),
        ];
        assert_eq!(pieces, expected);
        assert_eq!(again, [2]);
    }

    #[test]
    fn shapes_are_judged_in_words() {
        let shape = |samples, outputs, columns| Ok(JacobianShape { samples, outputs, columns });
        assert_eq!(JacobianShape::new(&[3, 4], false, None), shape(3, 1, 4));
        assert_eq!(JacobianShape::new(&[3, 1, 4], false, None), shape(3, 1, 4));
        assert_eq!(JacobianShape::new(&[3, 2, 4], false, None), shape(3, 2, 4));
        assert_eq!(JacobianShape::new(&[3, 2, 4], false, Some(2)), shape(3, 2, 4));
        assert_eq!(JacobianShape::new(&[6, 4], false, Some(2)), shape(3, 2, 4));
        assert_eq!(JacobianShape::new(&[6, 6], true, Some(3)), shape(2, 3, 6));
        let check = |shape: &[usize], gram, outputs, words: &str| {
            let error = JacobianShape::new(shape, gram, outputs).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        check(&[], false, None, "single number");
        check(&[7], false, None, "has shape (7)");
        check(&[0, 5], false, None, "is empty");
        check(&[5, 0], false, None, "is empty");
        check(&[5, 0, 3], false, None, "is empty");
        check(&[3, 2, 4], false, Some(3), "the Jacobian of 2 outputs, not of 3");
        check(&[3, 2, 4, 5], false, None, "(3 × 2 × 4 × 5)");
        check(&[3, 4], true, None, "without --gram");
        check(&[3, 3, 1], true, None, "expected the n × n");
        check(&[3, 3, 1], true, Some(3), "expected the nk × nk");
        check(&[4, 4], true, Some(3), "4 rows are not 3 outputs for every sample");
    }
}
