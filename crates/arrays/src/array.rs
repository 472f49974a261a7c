//! One array in a file and its numbers.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::element::{Element, Endianness};
use crate::header::{Header, MAX_AXES, Order};
use crate::memory::Bytes;
use crate::{ArrayError, Reason};

/// Number of bytes read at a time.
const CHUNK: usize = 1 << 20;

/// Most numbers that [`Array::values`] reads into memory, which take 8 GiB.
pub const MAX_VALUES: usize = 1 << 30;

/// Most numbers of a compressed array that are read at once.
///
/// A small file may expand to many bytes, and each of them may become an `f64` of eight bytes.
pub const MAX_COMPRESSED_VALUES: usize = 1 << 26;

/// The place that the numbers are read from.
#[derive(Debug)]
pub(crate) enum Data {
    /// A file, from the byte `start` on.
    File { file: File, start: u64 },
    /// The expanded bytes of a compressed array.
    Memory(Vec<u8>),
    /// The bytes of another part of the program.
    Shared(Arc<dyn Bytes>),
}

/// An array in a file. Its shape and type are known; its numbers are read on request.
#[derive(Debug)]
pub struct Array {
    path: PathBuf,
    name: Option<String>,
    shape: Vec<usize>,
    element: Element,
    endianness: Endianness,
    order: Order,
    data: Data,
    /// Room for the bytes of one chunk, used again from chunk to chunk.
    buffer: Vec<u8>,
}

impl Array {
    /// Makes an array from a header whose promised number of bytes has been compared with the data.
    pub(crate) fn new(
        path: &Path,
        name: Option<&str>,
        header: Header,
        data: Data,
    ) -> Result<Self, Reason> {
        let Header { shape, element, endianness, order, .. } = header;
        if shape.len() > MAX_AXES {
            return Err(Reason::Axes { axes: shape.len(), limit: MAX_AXES });
        }
        // All promised bytes exist, so only an array of size zero can have such lengths.
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

    /// The path of the file that holds the array.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the array; `None` in formats that hold a single array.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The lengths of the axes; empty for a single number.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type of the numbers in the file.
    pub fn element(&self) -> Element {
        self.element
    }

    /// The order in which the numbers are stored in the file.
    pub fn order(&self) -> Order {
        self.order
    }

    /// Makes an error that names this array.
    fn error(&self, reason: Reason) -> ArrayError {
        ArrayError { path: self.path.clone(), array: self.name.clone(), reason }
    }

    /// Checks that `count` numbers may be held in memory.
    fn check_count(&self, count: usize) -> Result<(), ArrayError> {
        let (limit, remedy) = match self.data {
            Data::File { .. } | Data::Shared(_) => (MAX_VALUES, ""),
            Data::Memory(_) => (MAX_COMPRESSED_VALUES, " of a compressed array; expand it first"),
        };
        if count > limit {
            return Err(self.error(Reason::TooMany { count, limit, remedy }));
        }
        Ok(())
    }

    /// Reads all numbers. They are returned row by row (the last index runs fastest), whatever
    /// their order in the file.
    ///
    /// # Errors
    /// [`Reason::TooMany`] for more than [`MAX_VALUES`] numbers ([`MAX_COMPRESSED_VALUES`] of a
    /// compressed array), [`Reason::Io`] when the file cannot be read, and [`Reason::Inexact`] for
    /// an integer that no `f64` equals.
    pub fn values(&mut self) -> Result<Vec<f64>, ArrayError> {
        let count = self.shape.iter().product();
        self.check_count(count)?;
        let mut values = vec![0.0; count];
        self.read(0, &mut values)?;
        if self.order == Order::C || self.shape.len() < 2 {
            return Ok(values);
        }
        Ok(fortran_order(&self.shape).map(|position| values[position]).collect())
    }

    /// Reads some columns of the array into `values`, whose former content is dropped.
    ///
    /// An array of shape `n₁ × … × n_k × p` is seen as a matrix of `n₁⋯n_k` rows and p columns; the
    /// index of axis k runs fastest over the rows. The numbers come row by row for [`Order::C`],
    /// and column by column for [`Order::Fortran`].
    ///
    /// # Errors
    /// [`Reason::Io`] and [`Reason::Inexact`], as for [`values`](Self::values).
    ///
    /// # Panics
    /// When `columns` is not a range within the last axis.
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
        if self.order == Order::Fortran {
            self.read(columns.start * rows, values)?;
            if rows > 0 && outer.iter().filter(|length| **length != 1).count() > 1 {
                let order: Vec<usize> = fortran_order(&outer).collect();
                for values in values.chunks_mut(rows) {
                    let column = values.to_vec();
                    for (value, position) in values.iter_mut().zip(&order) {
                        *value = column[*position];
                    }
                }
            }
        } else if count == all {
            self.read(0, values)?;
        } else {
            for i in 0..rows {
                self.read(i * all + columns.start, &mut values[i * count..][..count])?;
            }
        }
        Ok(())
    }

    /// Reads a range of the middle axis of the array, seen as outer × middle × inner in the order
    /// of the file, into `values`, whose former content is dropped. The numbers come as outer ×
    /// range × inner, the last running fastest.
    ///
    /// With the lengths of the stored axes, from the slowest to the fastest, this reads a block of
    /// any of them without a copy of the rest.
    ///
    /// # Errors
    /// [`Reason::Io`] and [`Reason::Inexact`], as for [`values`](Self::values).
    ///
    /// # Panics
    /// When the array does not have outer × middle × inner numbers, or when `range` is not within
    /// the middle axis.
    pub fn read_middle(
        &mut self,
        (outer, middle, inner): (usize, usize, usize),
        range: Range<usize>,
        values: &mut Vec<f64>,
    ) -> Result<(), ArrayError> {
        let count: usize = self.shape.iter().product();
        assert_eq!(outer * middle * inner, count, "numbers of an array");
        assert!(range.start <= range.end && range.end <= middle, "a range of the middle axis");
        let len = range.len() * inner;
        values.clear();
        values.resize(outer * len, 0.0);
        if range.len() == middle {
            return self.read(0, values);
        }
        for i in 0..outer {
            self.read((i * middle + range.start) * inner, &mut values[i * len..][..len])?;
        }
        Ok(())
    }

    /// Reads some rows of the array, in the given order.
    ///
    /// An array of shape `n × n₂ × … × n_k` is seen as a matrix of n rows and `n₂⋯n_k` columns. An
    /// array of several axes in Fortran order is read as a whole.
    ///
    /// # Errors
    /// The errors of [`values`](Self::values).
    ///
    /// # Panics
    /// When a row is out of range.
    pub fn read_rows(&mut self, rows: &[usize]) -> Result<Vec<f64>, ArrayError> {
        let row_count = self.shape.first().copied().unwrap_or(1);
        let columns: usize = self.shape.iter().skip(1).product();
        let count = rows.len().saturating_mul(columns);
        self.check_count(count)?;
        assert!(rows.iter().all(|row| *row < row_count), "rows of an array");
        if self.order == Order::Fortran && self.shape.len() > 1 {
            let all = self.values()?;
            let row = |row: &usize| &all[row * columns..][..columns];
            return Ok(rows.iter().flat_map(row).copied().collect());
        }
        let mut values = vec![0.0; count];
        for (k, &row) in rows.iter().enumerate() {
            self.read(row * columns, &mut values[k * columns..][..columns])?;
        }
        Ok(values)
    }

    /// Reads consecutive numbers in the order of the file, starting with the number at `position`.
    fn read(&mut self, position: usize, values: &mut [f64]) -> Result<(), ArrayError> {
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
                        .map_err(|error| self.error(Reason::Io(error)))?;
                    &self.buffer
                }
                Data::Shared(bytes) => {
                    self.buffer.resize(len, 0);
                    bytes
                        .read(offset, &mut self.buffer)
                        .map_err(|error| self.error(Reason::Io(error)))?;
                    &self.buffer
                }
            };
            element.convert(endianness, bytes, chunk).map_err(|(index, value)| {
                self.error(Reason::Inexact { index: self.index(first + index), value })
            })?;
            done += chunk.len();
        }
        Ok(())
    }

    /// The indices of the number at `position` in the order of the file, written as
    /// `[row, column]`.
    fn index(&self, mut position: usize) -> String {
        let mut index = vec![0; self.shape.len()];
        let mut axes: Vec<usize> = (0..self.shape.len()).collect();
        if self.order == Order::C {
            axes.reverse();
        }
        for axis in axes {
            index[axis] = position % self.shape[axis];
            position /= self.shape[axis];
        }
        format!("{index:?}")
    }
}

/// The positions in Fortran order of the entries of an array, which are visited in C order.
fn fortran_order(shape: &[usize]) -> impl Iterator<Item = usize> {
    // The entry with the indices i has the position Σ i_d s_d, with the stride s_d = n_1 ⋯ n_{d−1}.
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
