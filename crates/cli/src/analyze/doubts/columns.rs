//! Facts about the columns and rows of a Jacobian, noted while the columns stream by.

use super::layout::{Flattened, Layouts, mix, summed_outputs, summed_outputs_without_bias};
use super::residual_columns::ResidualColumns;
use super::symmetry::Symmetry;

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
    /// The layouts of the rows in the order of the file, if that is output by output.
    stored_layouts: Option<Layouts>,
    digests: Option<Vec<(u64, u64)>>,
    /// Those of them with numbers in most rows.
    dense: Vec<(u64, u64)>,
    /// The numbers of constant columns with their places, as digests are kept.
    constants: Vec<(u64, u64)>,
    /// `None` for an array that is not square.
    symmetry: Option<Symmetry>,
    residual_columns: ResidualColumns,
    found: ColumnSummary,
}

/// The facts about the columns of a Jacobian.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
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
    /// The outputs that rows show as the biases of k outputs do: one number in the columns of its
    /// output, and zero elsewhere.
    pub(crate) biases: Option<Biases>,
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
    /// The number of outputs whose rows alternate in the file, where these are read output by
    /// output.
    pub(crate) alternating_in_file: Option<usize>,
    /// Outputs that were flattened into the columns.
    pub(crate) flattened: Option<Flattened>,
    /// The number of outputs whose sum the columns are derivatives of.
    pub(crate) summed: Option<usize>,
    /// The number of outputs without biases whose sum the columns are derivatives of.
    pub(crate) summed_without_bias: Option<usize>,
    /// Rows that are the only ones with a number in some column.
    pub(crate) rows_with_own_column: usize,
    /// True if the array is square and looks like a Gram matrix.
    pub(crate) is_gram: bool,
    /// True if a square array has few different numbers off the diagonal.
    pub(crate) has_few_numbers: bool,
    /// The number of classes of a softmax whose residuals are columns.
    pub(crate) classes: Option<usize>,
    /// True if the columns of an output are those of another times numbers that may be negative.
    pub(crate) are_outputs_scaled: bool,
}

impl ColumnSummary {
    /// True if a column is constant, or more than a few have a single sign: a bias of the output, or
    /// of the last hidden layer, has such a column, and times residuals it has both signs. A design
    /// of whole numbers is no gradient.
    pub(crate) fn shows_an_output(&self) -> bool {
        self.constant > 0 || self.is_design || 16 * self.one_signed > self.dense
    }
}

/// Rows that look like the biases of several outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Biases {
    /// The number k of outputs.
    pub(crate) outputs: usize,
    /// True if the columns are sample by sample, false if they are output by output.
    pub(crate) is_by_sample: bool,
}

/// The notes on a row.
#[derive(Debug, Clone, Copy)]
struct Row {
    first: f64,
    is_constant: bool,
    nonzero: usize,
    first_nonzero: usize,
    last_nonzero: usize,
    /// The number that all nonzero entries are, and their distance, while these are regular.
    one: f64,
    step: usize,
    is_regular: bool,
    /// True if the row is the only one with a number in some column.
    has_own_column: bool,
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
            if self.is_regular {
                let step = column - self.last_nonzero;
                match self.nonzero {
                    0 => (self.first_nonzero, self.one) = (column, value),
                    1 => self.step = step,
                    _ => self.is_regular = step == self.step,
                }
                self.is_regular &= value.to_bits() == self.one.to_bits();
            }
            self.nonzero += 1;
            self.last_nonzero = column;
        }
    }

    /// The output of which the row is the bias, if `columns` are those of so many outputs.
    fn bias(&self, columns: usize, of: Biases) -> Option<usize> {
        let samples = columns / of.outputs;
        let (step, unit) = if of.is_by_sample { (of.outputs, 1) } else { (1, samples) };
        let fits = self.is_regular
            && self.nonzero == samples
            && self.step == step
            && self.first_nonzero.is_multiple_of(unit);
        fits.then(|| self.first_nonzero / unit).filter(|output| *output < of.outputs)
    }
}

impl Biases {
    /// Finds the rows of the biases of all outputs, with at least three samples each.
    fn find(rows: &[Row], columns: usize) -> Option<Self> {
        let ways = (2..=columns / 3)
            .filter(|k| columns.is_multiple_of(*k))
            .flat_map(|outputs| [true, false].map(|is_by_sample| Self { outputs, is_by_sample }));
        ways.into_iter().find(|of| {
            // Biases of one layer share one number.
            let found = rows.iter().filter_map(|row| Some((row.bias(columns, *of)?, row.one)));
            let mut seen = vec![None; of.outputs];
            found.for_each(|(output, one)| seen[output] = Some(one.to_bits()));
            seen.iter().all(|one| one.is_some() && *one == seen[0])
        })
    }
}

/// The notes on a column of the chunk at hand.
#[derive(Debug, Clone, Copy, Default)]
struct Column {
    /// The smallest and the largest number.
    least: f64,
    most: f64,
    nonzero: usize,
    /// The last row with a number.
    last: usize,
    /// Numbers that are not whole.
    fractions: usize,
    dot: f64,
    square: f64,
    /// The sum with the weights of samples.
    sum: f64,
    rows: usize,
}

impl Column {
    fn add(&mut self, value: f64, residual: f64, weight: f64) {
        (self.least, self.most) = if self.rows == 0 {
            (value, value)
        } else {
            (self.least.min(value), self.most.max(value))
        };
        if value != 0.0 {
            self.nonzero += 1;
            self.last = self.rows;
        }
        self.rows += 1;
        self.fractions += usize::from(value.fract() != 0.0);
        self.dot += value * residual;
        self.square += value * value;
        self.sum += value * weight;
    }

    fn is_constant(&self) -> bool {
        self.least.to_bits() == self.most.to_bits()
    }
}

/// The notes on the rows of one output in a column.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    digest: u64,
    /// The bits of a number other than zero.
    one: u64,
    is_varied: bool,
    nonzero: usize,
}

impl Part {
    fn add(&mut self, value: f64) {
        let bits = if value == 0.0 { 0 } else { value.to_bits() };
        self.digest = mix(self.digest, bits);
        self.is_varied |= bits != 0 && self.one != 0 && bits != self.one;
        self.one = if bits == 0 { self.one } else { bits };
        self.nonzero += usize::from(bits != 0);
    }
}

impl ColumnFacts {
    /// The facts about a Jacobian of this shape, before its columns stream by.
    pub(crate) fn new(
        samples: usize,
        outputs: usize,
        columns: usize,
        residuals: Option<&[f64]>,
    ) -> Self {
        let row = Row {
            first: 0.0,
            is_constant: true,
            nonzero: 0,
            first_nonzero: 0,
            last_nonzero: 0,
            one: 0.0,
            step: 0,
            is_regular: true,
            has_own_column: false,
        };
        let rows = samples * outputs;
        let keeps = samples >= 3 && columns.saturating_mul(outputs) <= MAX_DIGESTS;
        Self {
            outputs,
            columns,
            residuals: residuals.map(<[f64]>::to_vec).filter(|r| r.len() == rows),
            rows: vec![row; rows],
            layouts: Layouts::new(rows),
            stored_layouts: None,
            digests: keeps.then(Vec::new),
            dense: Vec::new(),
            constants: Vec::new(),
            symmetry: (rows == columns).then(|| Symmetry::new(rows)),
            residual_columns: ResidualColumns::new(samples, outputs),
            found: ColumnSummary { is_design: true, ..ColumnSummary::default() },
        }
    }

    /// Says that the file has the rows output by output, to notice if it has not.
    pub(crate) fn output_by_output(mut self) -> Self {
        self.stored_layouts = (self.outputs > 1).then(|| Layouts::new(self.rows.len()));
        // The rows are read in another order than the columns.
        self.symmetry = self.symmetry.filter(|_| self.outputs == 1);
        self
    }

    /// Notes the columns from `first` on, whose numbers come row by row, or column by column.
    pub(crate) fn add(&mut self, values: &[f64], is_column_major: bool, first: usize) {
        let rows = self.rows.len();
        let width = values.len() / rows;
        if let Some(symmetry) = &mut self.symmetry {
            symmetry.add(first, width, |row, column| {
                values[if is_column_major { column * rows + row } else { row * width + column }]
            });
        }
        for start in (0..width).step_by(CHUNK) {
            let end = (start + CHUNK).min(width);
            let mut columns = vec![Column::default(); end - start];
            let mut parts = vec![Part::default(); (end - start) * self.outputs];
            for row in 0..rows {
                let residual = self.residuals.as_ref().map_or(0.0, |residuals| residuals[row]);
                let weight = self.residual_columns.weight(row);
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
                    note.add(*value, residual, weight);
                    part.add(*value);
                }
            }
            self.judge_all(&columns, &parts, first + start);
            self.note_residuals(&columns, &parts, |row, column| {
                let at = start + column;
                values[if is_column_major { at * rows + row } else { row * width + at }]
            });
            for (column, note) in columns.iter().enumerate() {
                if note.nonzero > 1 && 2 * note.nonzero <= rows {
                    let at = start + column;
                    let place = |row: usize| {
                        if is_column_major { at * rows + row } else { row * width + at }
                    };
                    self.layouts.note((0..rows).map(|row| values[place(row)]));
                    if let Some(stored) = &mut self.stored_layouts {
                        let (k, n) = (self.outputs, rows / self.outputs);
                        let by_output = (0..rows).map(|row| row % n * k + row / n);
                        stored.note(by_output.map(|row| values[place(row)]));
                    }
                }
            }
        }
    }

    /// Looks for columns that are residuals times something.
    fn note_residuals(
        &mut self,
        columns: &[Column],
        parts: &[Part],
        value: impl Fn(usize, usize) -> f64,
    ) {
        let (outputs, rows) = (self.outputs, self.rows.len());
        let sums: Vec<f64> = columns.iter().map(|column| column.sum).collect();
        self.residual_columns.note_sums(&sums, &value);
        for column in (0..columns.len()).filter(|_| outputs > 1) {
            let part = |output: usize| parts[output * columns.len() + column].nonzero > 0;
            let mut with_numbers = (0..outputs).filter(|output| part(*output));
            let (Some(output), None) = (with_numbers.next(), with_numbers.next()) else { continue };
            if self.residual_columns.wants(output) {
                let of_output = (output..rows).step_by(outputs).map(|row| value(row, column));
                self.residual_columns.note_single(output, of_output);
            }
        }
    }

    fn judge_all(&mut self, columns: &[Column], parts: &[Part], first: usize) {
        for (column, note) in columns.iter().enumerate() {
            self.judge(note, first + column);
        }
        let Some(digests) = &mut self.digests else { return };
        for (column, note) in columns.iter().enumerate() {
            if note.is_constant() && note.nonzero > 0 {
                self.constants.push((note.least.to_bits(), (first + column) as u64));
            }
        }
        for (index, part) in parts.iter().enumerate() {
            let (output, column) = (index / columns.len(), index % columns.len());
            let place = (output * self.columns + first + column) as u64;
            if part.one == 0 {
                digests.push((0, place));
            } else if part.is_varied {
                let digest = (part.digest.max(1), place);
                digests.push(digest);
                if self.outputs == 1 && 2 * part.nonzero >= self.rows.len() {
                    self.dense.push(digest);
                }
            }
        }
    }

    fn judge(&mut self, note: &Column, column: usize) {
        if note.nonzero == 1 {
            self.rows[note.last].has_own_column = true;
        }
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

    /// Sums up the notes.
    pub(crate) fn finish(self) -> ColumnSummary {
        let Self { outputs, columns, rows, layouts, stored_layouts, digests, dense, .. } = self;
        let mut found = self.found;
        if let Some(symmetry) = self.symmetry {
            found.is_gram = symmetry.is_gram();
            found.has_few_numbers = symmetry.has_few_numbers();
        }
        found.classes = self.residual_columns.classes();
        found.are_outputs_scaled = self.residual_columns.are_scaled();
        let constant = |row: &Row| row.is_constant && row.nonzero > 0;
        let count = rows.iter().filter(|row| constant(row)).count();
        found.has_constant_row = columns > 3 && count > 0 && count < rows.len();
        found.biases = Biases::find(&rows, columns);
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
        found.alternating_in_file = stored_layouts.and_then(|layouts| layouts.alternating());
        found.summed = digests.as_ref().and_then(|d| summed_outputs(d, self.constants));
        found.summed_without_bias = summed_outputs_without_bias(&dense, columns);
        found.rows_with_own_column = rows.iter().filter(|row| row.has_own_column).count();
        found.flattened = digests.and_then(|d| Flattened::find(d, (outputs, columns)));
        found
    }
}

/// True if the numbers are not all the same.
fn is_varied(values: &[f64]) -> bool {
    values.iter().any(|value| value.to_bits() != values[0].to_bits())
}

#[cfg(test)]
mod tests {
    use super::{Biases, ColumnFacts, ColumnSummary};

    /// The Jacobian of a linear network of k outputs with two inputs and biases `one`, row by row:
    /// sample by sample, or output by output.
    fn linear(n: usize, k: usize, by_sample: bool, one: f64) -> Vec<Vec<f64>> {
        let input =
            |i: usize, j: usize| if j == 2 { one } else { ((i * 7 + j * 3) % 11) as f64 / 7.0 };
        let row = |i: usize, o: usize| {
            (0..3 * k).map(|c| if c / 3 == o { input(i, c % 3) } else { 0.0 }).collect()
        };
        let at = |r: usize| if by_sample { (r / k, r % k) } else { (r % n, r / n) };
        (0..n * k).map(at).map(|(i, o)| row(i, o)).collect()
    }

    fn transposed(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
        (0..matrix[0].len()).map(|c| matrix.iter().map(|row| row[c]).collect()).collect()
    }

    /// Notes the columns in chunks of four.
    fn summary(matrix: &[Vec<f64>], outputs: usize, is_by_output: bool) -> ColumnSummary {
        let (rows, columns) = (matrix.len(), matrix[0].len());
        let mut facts = ColumnFacts::new(rows / outputs, outputs, columns, None);
        if is_by_output {
            facts = facts.output_by_output();
        }
        for first in (0..columns).step_by(4) {
            let last = (first + 4).min(columns);
            let values: Vec<f64> =
                matrix.iter().flat_map(|row| row[first..last].to_vec()).collect();
            facts.add(&values, false, first);
        }
        facts.finish()
    }

    #[test]
    fn biases_of_several_outputs_show_a_transposed_matrix() {
        for (n, k, is_by_sample) in [(5, 3, true), (5, 3, false), (4, 4, true), (6, 2, false)] {
            let matrix = linear(n, k, is_by_sample, 1.0);
            let found = summary(&transposed(&matrix), 1, false);
            assert_eq!(found.biases, Some(Biases { outputs: k, is_by_sample }));
            assert_eq!(summary(&matrix, 1, false).biases, None);
        }
        // One of the biases is missing, or is another number.
        let mut matrix = linear(5, 3, true, 1.0);
        for row in &mut matrix {
            row[5] *= 2.0;
        }
        assert_eq!(summary(&transposed(&matrix), 1, false).biases, None);
        for row in &mut matrix {
            row[5] = 0.0;
        }
        assert_eq!(summary(&transposed(&matrix), 1, false).biases, None);
    }

    #[test]
    fn rows_sample_by_sample_are_noticed_where_they_are_read_output_by_output() {
        let (n, k) = (5, 3);
        // The reader puts row o·n + i of the file at i·k + o.
        let read = |file: &[Vec<f64>]| -> Vec<Vec<f64>> {
            (0..n * k).map(|row| file[row % k * n + row / k].clone()).collect()
        };
        let (right, wrong) = (linear(n, k, false, 1.0), linear(n, k, true, 1.0));
        let right = summary(&read(&right), k, true);
        assert_eq!((right.alternating, right.alternating_in_file), (Some(k), None));
        let wrong = summary(&read(&wrong), k, true);
        assert_eq!((wrong.alternating, wrong.alternating_in_file), (None, Some(k)));
    }
}
