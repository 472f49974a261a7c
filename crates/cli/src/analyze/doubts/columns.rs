//! What columns and rows of a Jacobian look like, noted while the columns stream by.

use super::layout::{Flattened, Layouts, mix};

/// Most columns (times outputs) whose digests are kept, 16 bytes each.
const MAX_DIGESTS: usize = 1 << 21;

/// Columns that are noted together, so that their notes stay in the cache.
const CHUNK: usize = 1 << 11;

/// The collector of facts about columns of nk rows, sample by sample.
#[derive(Debug)]
pub(crate) struct ColumnFacts {
    outputs: usize,
    columns: usize,
    residuals: Option<Vec<f64>>,
    rows: Vec<Row>,
    layouts: Layouts,
    digests: Option<Vec<(u64, u64)>>,
    found: ColumnSummary,
}

/// What the columns of a Jacobian look like.
#[derive(Debug, Clone, Default)]
pub(crate) struct ColumnSummary {
    /// Columns that are zero in every row.
    pub(crate) zero: usize,
    /// Columns that are the same number in every row, and not zero.
    pub(crate) constant: usize,
    /// Columns with numbers other than zero in at least half of the rows.
    pub(crate) dense: usize,
    /// Those of them whose numbers have one sign.
    pub(crate) one_signed: usize,
    /// True if every entry is a whole number, as in a design of experiments.
    pub(crate) is_design: bool,
    /// True if a row other than zero is one number in every column, and not all rows are.
    pub(crate) has_constant_row: bool,
    /// True if every sample has at least two rows, and these have numbers in one and the same
    /// column only.
    pub(crate) has_rows_of_one_column: bool,
    /// Samples of which exactly one output has a gradient other than zero.
    pub(crate) samples_of_one_output: usize,
    /// The column that is proportional to the residuals.
    pub(crate) residual_column: Option<usize>,
    /// The number of outputs whose rows alternate, as the parameters of a last layer show.
    pub(crate) alternating: Option<usize>,
    /// The number of outputs whose rows follow each other, as the parameters of a last layer show.
    pub(crate) stacked: Option<usize>,
    /// Outputs that were flattened into the columns.
    pub(crate) flattened: Option<Flattened>,
}

/// What is noted of a row.
#[derive(Debug, Clone, Copy)]
struct Row {
    first: f64,
    is_constant: bool,
    nonzero: usize,
    last_nonzero: usize,
}

impl Row {
    /// The number in the first column of all.
    fn begin(&mut self, value: f64, column: usize) {
        if column == 0 {
            self.first = value;
        }
    }

    fn add(&mut self, value: f64, column: usize) {
        self.is_constant &= value.to_bits() == self.first.to_bits();
        if value != 0.0 {
            self.nonzero += 1;
            self.last_nonzero = column;
        }
    }
}

/// What is noted of a column of the chunk at hand.
#[derive(Debug, Clone, Copy, Default)]
struct Column {
    /// The smallest and the largest number.
    least: f64,
    most: f64,
    nonzero: usize,
    /// Numbers that are not whole.
    fractions: usize,
    dot: f64,
    square: f64,
    rows: usize,
}

impl Column {
    fn add(&mut self, value: f64, residual: f64) {
        (self.least, self.most) = if self.rows == 0 {
            (value, value)
        } else {
            (self.least.min(value), self.most.max(value))
        };
        self.rows += 1;
        self.nonzero += usize::from(value != 0.0);
        self.fractions += usize::from(value.fract() != 0.0);
        self.dot += value * residual;
        self.square += value * value;
    }

    fn is_constant(&self) -> bool {
        self.least.to_bits() == self.most.to_bits()
    }
}

/// What is noted of the rows of one output in a column.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    digest: u64,
    /// The bits of a number other than zero.
    one: u64,
    is_varied: bool,
}

impl Part {
    fn add(&mut self, value: f64) {
        let bits = if value == 0.0 { 0 } else { value.to_bits() };
        self.digest = mix(self.digest, bits);
        self.is_varied |= bits != 0 && self.one != 0 && bits != self.one;
        self.one = if bits == 0 { self.one } else { bits };
    }
}

impl ColumnFacts {
    /// Nothing is known yet.
    pub(crate) fn new(
        samples: usize,
        outputs: usize,
        columns: usize,
        residuals: Option<&[f64]>,
    ) -> Self {
        let row = Row { first: 0.0, is_constant: true, nonzero: 0, last_nonzero: 0 };
        let rows = samples * outputs;
        let keeps = samples >= 3 && columns.saturating_mul(outputs) <= MAX_DIGESTS;
        Self {
            outputs,
            columns,
            residuals: residuals.map(<[f64]>::to_vec).filter(|r| r.len() == rows),
            rows: vec![row; rows],
            layouts: Layouts::new(rows),
            digests: keeps.then(Vec::new),
            found: ColumnSummary { is_design: true, ..ColumnSummary::default() },
        }
    }

    /// Notes the columns from `first` on, whose numbers come row by row, or column by column.
    pub(crate) fn add(&mut self, values: &[f64], is_column_major: bool, first: usize) {
        let rows = self.rows.len();
        let width = values.len() / rows;
        for start in (0..width).step_by(CHUNK) {
            let end = (start + CHUNK).min(width);
            let mut columns = vec![Column::default(); end - start];
            let mut parts = vec![Part::default(); (end - start) * self.outputs];
            for row in 0..rows {
                let residual = self.residuals.as_ref().map_or(0.0, |residuals| residuals[row]);
                let output = row % self.outputs * (end - start);
                let parts = &mut parts[output..output + end - start];
                let (step, from) = if is_column_major {
                    (rows, start * rows + row)
                } else {
                    (1, row * width + start)
                };
                let line = values[from..].iter().step_by(step);
                let noted = &mut self.rows[row];
                noted.begin(values[if is_column_major { row } else { row * width }], first);
                for (column, ((value, note), part)) in line.zip(&mut columns).zip(parts).enumerate()
                {
                    noted.add(*value, first + start + column);
                    note.add(*value, residual);
                    part.add(*value);
                }
            }
            self.judge_all(&columns, &parts, first + start);
            for (column, note) in columns.iter().enumerate() {
                if note.nonzero > 1 && 2 * note.nonzero <= rows {
                    let at = start + column;
                    let place = |row: usize| {
                        if is_column_major { at * rows + row } else { row * width + at }
                    };
                    self.layouts.note((0..rows).map(|row| values[place(row)]));
                }
            }
        }
    }

    fn judge_all(&mut self, columns: &[Column], parts: &[Part], first: usize) {
        for (column, note) in columns.iter().enumerate() {
            self.judge(note, first + column);
        }
        let Some(digests) = &mut self.digests else { return };
        for (index, part) in parts.iter().enumerate() {
            let (output, column) = (index / columns.len(), index % columns.len());
            let place = (output * self.columns + first + column) as u64;
            if part.one == 0 {
                digests.push((0, place));
            } else if part.is_varied {
                digests.push((part.digest.max(1), place));
            }
        }
    }

    fn judge(&mut self, note: &Column, column: usize) {
        let (rows, found) = (self.rows.len(), &mut self.found);
        found.zero += usize::from(note.nonzero == 0);
        found.constant += usize::from(note.is_constant() && note.nonzero > 0 && rows > 1);
        found.is_design &= note.fractions == 0;
        if 2 * note.nonzero >= rows && note.nonzero > 2 {
            found.dense += 1;
            found.one_signed += usize::from(note.least >= 0.0 || note.most <= 0.0);
        }
        if let Some(residuals) = &self.residuals
            && !note.is_constant()
        {
            let norm: f64 = residuals.iter().map(|r| r * r).sum();
            let cosine = note.dot.abs() / (norm.sqrt() * note.square.sqrt());
            // Exact up to the rounding of single precision.
            if rows > 2 && cosine > 1.0 - 1e-10 && is_varied(residuals) {
                found.residual_column.get_or_insert(column);
            }
        }
    }

    /// What was seen.
    pub(crate) fn finish(self) -> ColumnSummary {
        let Self { outputs, columns, rows, layouts, digests, mut found, .. } = self;
        let constant = |row: &Row| row.is_constant && row.nonzero > 0;
        let count = rows.iter().filter(|row| constant(row)).count();
        found.has_constant_row = columns > 3 && count > 0 && count < rows.len();
        let of_sample = || rows.chunks(outputs);
        if outputs > 1 {
            let one = |rows: &[Row]| rows.iter().filter(|row| row.nonzero > 0).count() == 1;
            found.samples_of_one_output = of_sample().filter(|rows| one(rows)).count();
            let same = |rows: &[Row]| {
                let all = rows.iter().all(|row| row.nonzero == 1);
                all && rows.iter().all(|row| row.last_nonzero == rows[0].last_nonzero)
            };
            let single = of_sample().filter(|rows| same(rows)).count();
            found.has_rows_of_one_column = columns > 1 && single >= columns;
        }
        found.alternating = layouts.alternating().map(|shown| {
            let is_part = outputs.is_multiple_of(shown) && layouts.is_part(outputs, shown);
            if is_part { outputs } else { shown }
        });
        found.stacked = layouts.stacked();
        found.flattened = digests.and_then(|d| Flattened::find(d, (outputs, columns)));
        found
    }
}

/// True if the numbers are not all the same.
fn is_varied(values: &[f64]) -> bool {
    values.iter().any(|value| value.to_bits() != values[0].to_bits())
}
