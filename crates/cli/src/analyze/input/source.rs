//! The arrays that hold a Jacobian, and the reading of its columns in blocks.

use std::ops::Range;
use std::path::PathBuf;

use faer::MatRef;
use flatmin_arrays::{Array, ArrayError, ArrayFile, Element, Order};

use crate::analyze::archive::Archive;
use crate::analyze::axes::View;

/// Most array files that are kept open; one beyond these is opened whenever it is read.
const MAX_OPEN: usize = 100;

/// Numbers of a compressed array that is kept in memory; a larger one is expanded whenever it is
/// read, so that the arrays of an archive are in memory one at a time.
const MAX_KEPT: usize = 1 << 20;

/// An array of a file. It is open or can be opened again.
#[derive(Debug)]
pub(super) struct Stored {
    path: PathBuf,
    name: Option<String>,
    pub(super) shape: Vec<usize>,
    pub(super) element: Element,
    pub(super) order: Order,
    array: Option<Array>,
    /// True if the array is closed when another one is read.
    is_transient: bool,
}

impl Stored {
    /// An array that stays open.
    pub(super) fn open(array: Array) -> Self {
        Self {
            path: array.path().to_owned(),
            name: array.name().map(str::to_owned),
            shape: array.shape().to_vec(),
            element: array.element(),
            order: array.order(),
            array: Some(array),
            is_transient: false,
        }
    }

    /// The arrays of an archive with these names.
    pub(super) fn of_archive(archive: &Archive, names: &[String]) -> Result<Vec<Self>, ArrayError> {
        let mut found = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let mut stored = Self::open(archive.open()?.array(Some(name), &[])?);
            let count: usize = stored.shape.iter().product();
            if !archive.is_in_memory() && (index >= MAX_OPEN || count > MAX_KEPT) {
                (stored.array, stored.is_transient) = (None, true);
            }
            found.push(stored);
        }
        Ok(found)
    }

    /// The name of the array, if it has one.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// All numbers, in the order of C.
    pub(super) fn values(&mut self) -> Result<Vec<f64>, ArrayError> {
        self.with(Array::values)
    }

    fn with<T>(
        &mut self,
        read: impl FnOnce(&mut Array) -> Result<T, ArrayError>,
    ) -> Result<T, ArrayError> {
        let array = match self.array.take() {
            Some(array) => array,
            None => ArrayFile::open(&self.path)?.array(self.name.as_deref(), &[])?,
        };
        read(self.array.insert(array))
    }
}

/// Columns of the Jacobian that lie in one array in one way.
#[derive(Debug)]
pub(super) struct Part {
    stored: usize,
    columns: usize,
    /// The array as outer × middle × inner, with the columns in the middle.
    outer: usize,
    middle: usize,
    inner: usize,
    /// The places in the middle axis at which the columns start, one for each output that is
    /// flattened into it.
    offsets: Vec<usize>,
    /// The row of each stored (offset, outer, inner); `None` for the order of the file.
    rows: Option<Vec<usize>>,
}

impl Part {
    /// The whole array, read in this way.
    pub(super) fn whole(stored: usize, view: &View) -> Self {
        Self {
            stored,
            columns: view.columns,
            outer: view.outer,
            middle: view.columns,
            inner: view.inner,
            offsets: vec![0],
            rows: view.rows.clone(),
        }
    }

    /// A parameter of which every output has its own `range.len() / outputs` columns, one output
    /// after the other, in an array of n × `middle`.
    pub(super) fn by_output(
        range: &Range<usize>,
        (samples, outputs): (usize, usize),
        middle: usize,
        order: Order,
    ) -> Self {
        let columns = range.len() / outputs;
        let (outer, inner) = if order == Order::C { (samples, 1) } else { (1, samples) };
        let rows = (0..samples * outputs).map(|at| at % samples * outputs + at / samples).collect();
        let offsets = (0..outputs).map(|output| range.start + output * columns).collect();
        Self { stored: 0, columns, outer, middle, inner, offsets, rows: Some(rows) }
    }
}

/// Columns of a Jacobian, with the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) values: Vec<f64>,
    /// Room for the numbers before they are put in order.
    scratch: Vec<f64>,
    pub(super) is_column_major: bool,
}

impl Columns {
    /// The columns as a matrix with so many rows.
    pub(super) fn matrix(&self, rows: usize) -> MatRef<'_, f64> {
        let columns = self.values.len() / rows;
        if self.is_column_major {
            MatRef::from_column_major_slice(&self.values, rows, columns)
        } else {
            MatRef::from_row_major_slice(&self.values, rows, columns)
        }
    }
}

/// The name of an array, and its columns among those of all arrays.
pub(super) type Named = (String, Range<usize>);

/// A Jacobian, in one array or in several.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) stored: Vec<Stored>,
    pub(super) parts: Vec<Part>,
    /// The array that was read last.
    last: usize,
}

impl Source {
    /// The columns of the parts, one part after the other.
    pub(super) fn new(stored: Vec<Stored>, parts: Vec<Part>) -> Self {
        Self { stored, parts, last: 0 }
    }

    /// The number p of columns.
    pub(super) fn columns(&self) -> usize {
        self.parts.iter().map(|part| part.columns).sum()
    }

    /// The columns of each part.
    pub(super) fn ranges(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        self.parts
            .iter()
            .map(|part| {
                let start = end;
                end += part.columns;
                start..end
            })
            .collect()
    }

    /// The names of the arrays with columns in a range, if there are several arrays.
    pub(super) fn names(&self, range: &Range<usize>) -> Vec<Named> {
        if self.stored.len() < 2 {
            return Vec::new();
        }
        let parts = self.parts.iter().zip(self.ranges());
        parts
            .filter(|(_, part)| part.start < range.end && range.start < part.end)
            .filter_map(|(part, range)| Some((self.stored[part.stored].name()?.to_owned(), range)))
            .collect()
    }

    /// Cuts a range of columns into pieces of at most `width` that lie in one part each.
    pub(super) fn cut(&self, range: &Range<usize>, width: usize) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        for part in self.ranges() {
            let (start, end) = (part.start.max(range.start), part.end.min(range.end));
            for first in (start..end).step_by(width) {
                pieces.push(first..(first + width).min(end));
            }
        }
        pieces
    }

    /// Reads columns that lie in one part.
    pub(super) fn read(
        &mut self,
        range: &Range<usize>,
        into: &mut Columns,
    ) -> Result<(), ArrayError> {
        let ranges = self.ranges();
        let index =
            ranges.iter().position(|part| part.start <= range.start && range.start < part.end);
        let index = index.unwrap_or(0);
        let part = &self.parts[index];
        let local = range.start - ranges[index].start..range.end - ranges[index].start;
        if part.stored != self.last {
            let last = &mut self.stored[self.last];
            if last.is_transient {
                last.array = None;
            }
            self.last = part.stored;
        }
        let stored = &mut self.stored[part.stored];
        let (view, count) = ((part.outer, part.middle, part.inner), local.len());
        let Columns { values, scratch, is_column_major } = into;
        if part.rows.is_none() && (part.inner == 1 || part.outer == 1) {
            *is_column_major = part.inner > 1;
            return stored.with(|array| array.read_middle(view, local, values));
        }
        *is_column_major = false;
        let rows = part.offsets.len() * part.outer * part.inner;
        values.clear();
        values.resize(rows * count, 0.0);
        for (place, offset) in part.offsets.iter().enumerate() {
            let shifted = local.start + offset..local.end + offset;
            stored.with(|array| array.read_middle(view, shifted, scratch))?;
            for outer in 0..part.outer {
                for inner in 0..part.inner {
                    let at = (place * part.outer + outer) * part.inner + inner;
                    let row = part.rows.as_ref().map_or(at, |rows| rows[at]);
                    let line = &mut values[row * count..][..count];
                    let first = outer * count * part.inner + inner;
                    for (column, value) in line.iter_mut().enumerate() {
                        *value = scratch[first + column * part.inner];
                    }
                }
            }
        }
        Ok(())
    }

    /// The bytes of a number, for progress.
    pub(super) fn number_size(&self) -> usize {
        self.stored.first().map_or(8, |stored| stored.element.size())
    }
}
