//! One array, and its numbers.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::element::{Element, Endianness};
use crate::npy::Header;
use crate::{ArrayError, Reason};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// Most numbers that [`Array::values`] holds in memory: 8 GiB.
pub const MOST_VALUES: usize = 1 << 30;

/// Most numbers of a compressed array that are taken at once: as `f64` they are eight times as large as
/// the bytes they may have come from, which a small file can expand to.
pub const MOST_COMPRESSED_VALUES: usize = 1 << 26;

/// Most axes of an array, as numpy has it.
pub(crate) const MOST_AXES: usize = 64;

/// The order in which the numbers of a matrix lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Row by row: the last index runs fastest.
    C,
    /// Column by column: the first index runs fastest.
    Fortran,
}

/// Where the numbers are.
#[derive(Debug)]
pub(crate) enum Data {
    File { file: File, start: u64 },
    Memory(Vec<u8>),
}

/// An array in a file: its shape and type are known, its numbers are read when asked for.
#[derive(Debug)]
pub struct Array {
    path: PathBuf,
    name: Option<String>,
    shape: Vec<usize>,
    element: Element,
    endianness: Endianness,
    order: Order,
    data: Data,
    /// Bytes read and not yet converted.
    buffer: Vec<u8>,
}

impl Array {
    /// An array whose numbers are known to be there.
    pub(crate) fn new(
        path: &Path,
        name: Option<&str>,
        header: Header,
        data: Data,
    ) -> Result<Self, Reason> {
        let Header { shape, element, endianness, order, .. } = header;
        if shape.len() > MOST_AXES {
            return Err(Reason::Axes { axes: shape.len(), limit: MOST_AXES });
        }
        // The numbers are there, so that only an array without any can have such lengths.
        let shape: Option<Vec<usize>> =
            shape.into_iter().map(|length| usize::try_from(length).ok()).collect();
        let shape = shape.ok_or(Reason::Lengths)?;
        let mut lengths = shape.iter().filter(|length| **length > 0);
        if lengths.try_fold(1_usize, |product, length| product.checked_mul(*length)).is_none() {
            return Err(Reason::Lengths);
        }
        let name = name.map(str::to_owned);
        let path = path.to_owned();
        Ok(Self { path, name, shape, element, endianness, order, data, buffer: Vec::new() })
    }

    /// The file it is in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name, where the file has names.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its lengths; empty for a single number.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type of its numbers in the file.
    pub fn element(&self) -> Element {
        self.element
    }

    /// How its numbers lie in the file.
    pub fn order(&self) -> Order {
        self.order
    }

    /// An error about this array, for the caller's own reasons.
    fn error(&self, reason: Reason) -> ArrayError {
        ArrayError { path: self.path.clone(), array: self.name.clone(), reason }
    }

    /// That so many numbers may be held in memory.
    fn check_count(&self, count: usize) -> Result<(), ArrayError> {
        let (limit, remedy) = match self.data {
            Data::File { .. } => (MOST_VALUES, ""),
            Data::Memory(_) => (MOST_COMPRESSED_VALUES, " of a compressed array; expand it first"),
        };
        if count > limit {
            return Err(self.error(Reason::TooMany { count, limit, remedy }));
        }
        Ok(())
    }

    /// All numbers, row by row (the last index runs fastest) whatever their order in the file.
    ///
    /// # Errors
    /// When there are more than [`MOST_VALUES`], or [`MOST_COMPRESSED_VALUES`] of a compressed array, the
    /// file cannot be read, or an integer is no `f64`.
    pub fn values(&mut self) -> Result<Vec<f64>, ArrayError> {
        let count = self.shape.iter().product();
        self.check_count(count)?;
        let mut values = vec![0.0; count];
        self.read(0, &mut values).map_err(|(position, value)| self.failed(position, value))?;
        if self.order == Order::C || self.shape.len() < 2 {
            return Ok(values);
        }
        Ok(fortran_order(&self.shape).map(|position| values[position]).collect())
    }

    /// Some columns of an array seen as a matrix whose columns are the last of two or more axes, and whose
    /// rows are all axes before it, the last of these running fastest: row by row for [`Order::C`], column by
    /// column for [`Order::Fortran`]. Replaces `values`.
    ///
    /// # Errors
    /// As [`values`](Self::values).
    ///
    /// # Panics
    /// When the columns are not there.
    pub fn read_columns(
        &mut self,
        columns: Range<usize>,
        values: &mut Vec<f64>,
    ) -> Result<(), ArrayError> {
        let axes = self.shape.len();
        let mut outer = self.shape.clone();
        let inner = outer.split_off(axes.saturating_sub(1).max(1).min(axes));
        let rows: usize = outer.iter().product();
        let all: usize = inner.iter().product();
        assert!(columns.start <= columns.end && columns.end <= all, "columns of an array");
        let count = columns.len();
        values.clear();
        values.resize(rows * count, 0.0);
        let read = if self.order == Order::Fortran {
            self.read(columns.start * rows, values).map(|()| {
                if rows > 0 && outer.iter().filter(|length| **length != 1).count() > 1 {
                    let order: Vec<usize> = fortran_order(&outer).collect();
                    for values in values.chunks_mut(rows) {
                        let column = values.to_vec();
                        for (value, position) in values.iter_mut().zip(&order) {
                            *value = column[*position];
                        }
                    }
                }
            })
        } else if count == all {
            self.read(0, values)
        } else {
            (0..rows).try_for_each(|i| {
                self.read(i * all + columns.start, &mut values[i * count..][..count])
            })
        };
        read.map_err(|(position, value)| self.failed(position, value))
    }

    /// Some rows of an array seen as a matrix of its first axis × (everything else), in the given order.
    ///
    /// An array of several axes in Fortran order is read as a whole for this.
    ///
    /// # Errors
    /// As [`values`](Self::values).
    ///
    /// # Panics
    /// When a row is not there.
    pub fn read_rows(&mut self, rows: &[usize]) -> Result<Vec<f64>, ArrayError> {
        let there = self.shape.first().copied().unwrap_or(1);
        let columns: usize = self.shape.iter().skip(1).product();
        let count = rows.len().saturating_mul(columns);
        self.check_count(count)?;
        assert!(rows.iter().all(|row| *row < there), "rows of an array");
        if self.order == Order::Fortran && self.shape.len() > 1 {
            let all = self.values()?;
            let row = |row: &usize| &all[row * columns..][..columns];
            return Ok(rows.iter().flat_map(row).copied().collect());
        }
        let mut values = vec![0.0; count];
        for (k, &row) in rows.iter().enumerate() {
            self.read(row * columns, &mut values[k * columns..][..columns])
                .map_err(|(position, value)| self.failed(position, value))?;
        }
        Ok(values)
    }

    /// Reads numbers from the `position`-th on, in the order of the file.
    fn read(&mut self, position: usize, values: &mut [f64]) -> Result<(), (usize, Failed)> {
        let (element, endianness, size) = (self.element, self.endianness, self.element.size());
        let mut done = 0;
        for chunk in values.chunks_mut(CHUNK / size) {
            let first = position + done;
            let (offset, len) = (first * size, chunk.len() * size);
            let bytes = match &mut self.data {
                Data::Memory(bytes) => &bytes[offset..offset + len],
                Data::File { file, start } => {
                    self.buffer.resize(len, 0);
                    file.seek(SeekFrom::Start(*start + offset as u64))
                        .and_then(|_| file.read_exact(&mut self.buffer))
                        .map_err(|error| (first, Failed::Io(error)))?;
                    &self.buffer
                }
            };
            element
                .convert(endianness, bytes, chunk)
                .map_err(|(index, value)| (first + index, Failed::Inexact(value)))?;
            done += chunk.len();
        }
        Ok(())
    }

    fn failed(&self, position: usize, failed: Failed) -> ArrayError {
        self.error(match failed {
            Failed::Io(error) => Reason::Io(error),
            Failed::Inexact(value) => Reason::Inexact { index: self.index(position), value },
        })
    }

    /// The indices of a number in the order of the file, as `[row, column]`.
    fn index(&self, mut position: usize) -> String {
        let mut index = vec![0; self.shape.len()];
        let mut take = |axis: usize, n: usize| {
            index[axis] = position % n;
            position /= n;
        };
        match self.order {
            Order::C => self.shape.iter().enumerate().rev().for_each(|(axis, n)| take(axis, *n)),
            Order::Fortran => self.shape.iter().enumerate().for_each(|(axis, n)| take(axis, *n)),
        }
        format!("{index:?}")
    }
}

/// Where the entries of an array, in C order, lie in Fortran order.
fn fortran_order(shape: &[usize]) -> impl Iterator<Item = usize> {
    // Entry k has the indices of k in C order; in the file its position is Σ i_d s_d.
    let mut index = vec![0; shape.len()];
    (0..shape.iter().product()).map(move |_| {
        let position = shape.iter().zip(&index).rev().fold(0, |p, (n, i)| p * n + i);
        for (i, n) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *n {
                break;
            }
            *i = 0;
        }
        position
    })
}

enum Failed {
    Io(io::Error),
    Inexact(i128),
}
