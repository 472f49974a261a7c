//! What columns and rows of a Jacobian look like, noted while the columns stream by.

use faer::MatRef;

use super::layout::{Flattened, Layouts, mix};

/// Most columns (times outputs) whose digests are kept, 16 bytes each.
const MAX_DIGESTS: usize = 1 << 21;

/// The collector of facts about columns of nk rows, sample by sample.
#[derive(Debug)]
pub(crate) struct ColumnFacts {
    samples: usize,
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
    /// True if every entry is −1, 0 or 1.
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

/// What is noted of a column of the block at hand.
#[derive(Debug, Clone, Copy)]
struct Column {
    first: f64,
    is_constant: bool,
    nonzero: usize,
    has_positive: bool,
    has_negative: bool,
    dot: f64,
    square: f64,
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
            samples,
            outputs,
            columns,
            residuals: residuals.map(<[f64]>::to_vec).filter(|r| r.len() == rows),
            rows: vec![row; rows],
            layouts: Layouts::new(rows),
            digests: keeps.then(Vec::new),
            found: ColumnSummary { is_design: true, ..ColumnSummary::default() },
        }
    }

    /// Notes the columns from `first` on.
    pub(crate) fn add(&mut self, block: MatRef<'_, f64>, first: usize) {
        let (rows, width) = (block.nrows(), block.ncols());
        let mut columns: Vec<Column> = (0..width)
            .map(|column| Column {
                first: block[(0, column)],
                is_constant: true,
                nonzero: 0,
                has_positive: false,
                has_negative: false,
                dot: 0.0,
                square: 0.0,
            })
            .collect();
        let mut is_design = self.found.is_design;
        for row in 0..rows {
            let residual = self.residuals.as_ref().map_or(0.0, |residuals| residuals[row]);
            let noted = &mut self.rows[row];
            for (column, note) in columns.iter_mut().enumerate() {
                let value = block[(row, column)];
                if first + column == 0 {
                    noted.first = value;
                }
                noted.is_constant &= value.to_bits() == noted.first.to_bits();
                note.is_constant &= value.to_bits() == note.first.to_bits();
                note.has_positive |= value > 0.0;
                note.has_negative |= value < 0.0;
                if value != 0.0 {
                    noted.nonzero += 1;
                    noted.last_nonzero = first + column;
                    note.nonzero += 1;
                    is_design &= value.abs().to_bits() == 1.0_f64.to_bits();
                }
                note.dot += value * residual;
                note.square += value * value;
            }
        }
        self.found.is_design = is_design;
        for (column, note) in columns.iter().enumerate() {
            self.judge(note, first + column);
            if note.nonzero > 1 && 2 * note.nonzero <= rows {
                self.layouts.note((0..rows).map(|row| block[(row, column)]));
            }
        }
        self.digest(block, first);
    }

    fn judge(&mut self, note: &Column, column: usize) {
        let (rows, found) = (self.rows.len(), &mut self.found);
        found.zero += usize::from(note.nonzero == 0);
        found.constant += usize::from(note.is_constant && note.nonzero > 0 && rows > 1);
        if 2 * note.nonzero >= rows && note.nonzero > 2 {
            found.dense += 1;
            found.one_signed += usize::from(note.has_positive != note.has_negative);
        }
        if let Some(residuals) = &self.residuals
            && !note.is_constant
        {
            let norm: f64 = residuals.iter().map(|r| r * r).sum();
            let cosine = note.dot.abs() / (norm.sqrt() * note.square.sqrt());
            // Exact up to the rounding of single precision.
            if rows > 2 && cosine > 1.0 - 1e-10 && is_varied(residuals) {
                found.residual_column.get_or_insert(column);
            }
        }
    }

    /// Keeps a digest of each column of one output.
    fn digest(&mut self, block: MatRef<'_, f64>, first: usize) {
        let Some(digests) = &mut self.digests else { return };
        let (outputs, columns) = (self.outputs, self.columns as u64);
        for column in 0..block.ncols() {
            for output in 0..outputs {
                let values = || (0..self.samples).map(|i| block[(i * outputs + output, column)]);
                let mut nonzero = values().filter(|value| *value != 0.0);
                let place = output as u64 * columns + (first + column) as u64;
                let Some(one) = nonzero.next() else {
                    digests.push((0, place));
                    continue;
                };
                if nonzero.any(|value| value.to_bits() != one.to_bits()) {
                    let digest = values()
                        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, value| mix(hash, value.to_bits()));
                    digests.push((digest.max(1), place));
                }
            }
        }
    }

    /// What was seen.
    pub(crate) fn finish(self) -> ColumnSummary {
        let Self { samples, outputs, columns, rows, layouts, digests, mut found, .. } = self;
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
        found.flattened = digests.and_then(|d| Flattened::find(d, (samples, outputs, columns)));
        found
    }
}

/// True if the numbers are not all the same.
fn is_varied(values: &[f64]) -> bool {
    values.iter().any(|value| value.to_bits() != values[0].to_bits())
}
