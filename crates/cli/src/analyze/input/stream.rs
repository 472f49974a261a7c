//! The sum over blocks of columns, while the next block is read.

use std::ops::Range;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use faer::{Mat, MatRef};
use flatmin_arrays::ArrayError;
use flatmin_host::{Progress, printable};
use flatmin_theory::{GramSum, LossError, MinimumError};

use super::source::{Columns, Named, Source};
use crate::analyze::doubts::ColumnFacts;
use crate::analyze::training::Weights;
use crate::failure::Failure;

/// Bytes of a block of columns, as float64. Three blocks are in memory at a time.
pub(super) const BLOCK_BYTES: usize = 128 << 20;

/// The way out of a number that is NaN or infinite.
pub(super) const NOT_FINITE: &str = "the network diverged or has no gradient there: take the Jacobian \
                                     where all outputs and gradients are finite";

/// The streaming sum over the columns of a Jacobian with k = `outputs` rows for each sample.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    pub(super) path: &'a Path,
    pub(super) source: &'a mut Source,
    pub(super) weights: &'a Weights,
    pub(super) rows: usize,
    pub(super) outputs: usize,
    pub(super) progress: &'a Progress,
}

impl Stream<'_> {
    /// Adds columns to a sum of those before them, or to a new one, and notes what they look like
    /// in `facts`.
    pub(super) fn add(
        &mut self,
        sum: &mut GramSum,
        range: Range<usize>,
        mut facts: Option<&mut ColumnFacts>,
    ) -> Result<(), Failure> {
        let offset = range.start - sum.parameter_count();
        let arrays = self.source.names(&range);
        let (path, of) = (self.path, (self.outputs, &arrays[..]));
        self.each(range, |read, weighed, first| {
            sum.add(weighed).map_err(|error| failure(path, error, offset, of))?;
            if let Some(facts) = &mut facts {
                facts.add(&read.values, read.is_column_major, first);
            }
            Ok(())
        })
    }

    /// Calls `visit` with blocks of columns: as they are stored, weighted, and the index of the
    /// first of them. While one block is visited, a thread reads the next one.
    pub(super) fn each(
        &mut self,
        range: Range<usize>,
        mut visit: impl FnMut(&Columns, MatRef<'_, f64>, usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let n = self.rows;
        let arrays = self.source.names(&range);
        let of = (self.outputs, &arrays[..]);
        let width = (BLOCK_BYTES / (8 * n)).max(64) / 64 * 64;
        let ranges = self.source.cut(&range, width);
        let size = self.source.number_size();
        let (path, source, weights) = (self.path, &mut *self.source, self.weights);
        let mut first = range.start;
        let (full, empty) = (mpsc::sync_channel(1), mpsc::channel::<Columns>());
        thread::scope(|scope| {
            let (sender, recycled) = (full.0, empty.1);
            scope.spawn(move || {
                for range in ranges {
                    let mut columns = recycled.try_recv().unwrap_or_default();
                    let read = source.read(&range, &mut columns).map(|()| columns);
                    let done = read.is_err();
                    // The receiver is gone when a visit has failed.
                    if sender.send(read).is_err() || done {
                        break;
                    }
                }
            });
            let received: mpsc::Receiver<Result<Columns, ArrayError>> = full.1;
            for columns in received {
                let columns = columns?;
                let read = columns.matrix(n);
                let count = read.ncols();
                let weighed = weights.weigh(read, first);
                let weighed = weighed.map_err(|error| match error {
                    LossError::Minimum(error) => failure(path, error, 0, of),
                    other => Failure::at(path)(other),
                })?;
                visit(&columns, weighed.as_ref().map_or(read, Mat::as_ref), first)?;
                first += count;
                self.progress.advance((count * n * size) as u64);
                // The reader is gone after the last block.
                let _ = empty.0.send(columns);
            }
            Ok(())
        })
    }
}

/// An error whose column is counted in the whole Jacobian from `offset` on, and its row by sample
/// and output.
///
/// If several arrays are summed, the message names the one that has the entry, with its place
/// among the columns of that array.
pub(super) fn failure(
    path: &Path,
    error: MinimumError,
    offset: usize,
    of: (usize, &[Named]),
) -> Failure {
    let MinimumError::NotFinite { row, column, value } = error else {
        return Failure::at(path)(error);
    };
    let (outputs, arrays) = of;
    let mut column = column + offset;
    let mut whose = "the Jacobian".to_owned();
    if let Some((name, range)) = arrays.iter().find(|(_, range)| range.contains(&column)) {
        (whose, column) = (format!("array \"{}\"", printable(name)), column - range.start);
    }
    let place = match outputs {
        1 => format!("({row}, {column})"),
        _ => format!("({}, {}, {column})", row / outputs, row % outputs),
    };
    let text =
        format!("entry {place} of {whose} is {value}, expected a finite number; {NOT_FINITE}");
    Failure::input(path, text)
}

/// Columns that are read together.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) range: Range<usize>,
    /// The index of the block of parameters that the columns form, if any.
    pub(super) block: Option<usize>,
}

/// Cuts the columns at the blocks. Also returns the indices of the blocks that overlap an earlier
/// one; these have to be read once more.
pub(super) fn pieces(columns: usize, blocks: &[Range<usize>]) -> (Vec<Piece>, Vec<usize>) {
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

#[cfg(test)]
mod tests {
    use super::{Piece, pieces};

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
}
