//! Gram matrices of Jacobians that are never held as a whole.

use faer::{Mat, MatMut, MatRef};
use flatmin_linalg::gram_sharpness;
use flatmin_linalg::panels::{add_symmetric_product, rounding_terms};
use flatmin_linalg::{Parallelism, RowMatrix, Sharpness};

use crate::minimum::{ScaledGram, exponent, rounding, scale_lower};
use crate::{Minimum, TheoryError};

/// Entries up to this power of two, or its inverse, are not scaled: their squares are in range.
const MODERATE: i32 = 400;

/// `JJᵀ`, summed over blocks of columns of the Jacobian `J` (n × p; nk × p with k outputs).
///
/// One n × n matrix, and a second one from the second block on, so that the rounding of many blocks
/// stays that of one. Gives the same [`Minimum`] as the whole Jacobian would, with its certificate.
///
/// ```
/// use faer::mat;
/// use flatmin_linalg::Parallelism;
/// use flatmin_theory::GramSum;
/// // J = [1 0 2; 0 3 0] in two blocks of columns.
/// let mut sum = GramSum::new(2, Parallelism::Sequential)?;
/// sum.add(mat![[1.0, 0.0], [0.0, 3.0]].as_ref())?;
/// sum.add(mat![[2.0], [0.0]].as_ref())?;
/// assert_eq!(sum.parameter_count(), 3);
/// assert!((sum.minimum()?.sharpness().trace - 7.0).abs() < 1e-15);
/// # Ok::<(), flatmin_theory::TheoryError>(())
/// ```
#[derive(Debug, Clone)]
pub struct GramSum {
    output_count: usize,
    /// `2^{−2·scale} JJᵀ` so far, lower triangle.
    sum: Mat<f64>,
    /// The same of one block; 0 × 0 until it is needed.
    block: Mat<f64>,
    scale: i32,
    /// Largest absolute value of an entry so far.
    largest: f64,
    columns: usize,
    /// Most roundings inside the product of one block.
    terms: usize,
    /// Roundings of the sum over the blocks.
    additions: usize,
    parallelism: Parallelism,
}

impl GramSum {
    /// No columns yet, for n = `sample_count` rows.
    ///
    /// # Errors
    /// [`TheoryError::NoSamples`] when there is no row.
    pub fn new(sample_count: usize, parallelism: Parallelism) -> Result<Self, TheoryError> {
        Self::with_outputs(sample_count, 1, parallelism)
    }

    /// No columns yet, for nk rows: those of k = `output_count` outputs for each of n samples, sample by
    /// sample.
    ///
    /// # Errors
    /// [`TheoryError::NoSamples`] when there is no sample, [`TheoryError::Outputs`] when there is no
    /// output.
    pub fn with_outputs(
        sample_count: usize,
        output_count: usize,
        parallelism: Parallelism,
    ) -> Result<Self, TheoryError> {
        let rows = sample_count * output_count;
        if sample_count == 0 {
            return Err(TheoryError::NoSamples);
        }
        if output_count == 0 {
            return Err(TheoryError::Outputs { rows, output_count });
        }
        Ok(Self {
            output_count,
            sum: Mat::zeros(rows, rows),
            block: Mat::new(),
            scale: 0,
            largest: 0.0,
            columns: 0,
            terms: 0,
            additions: 0,
            parallelism,
        })
    }

    /// Adds the next columns of the Jacobian, n (or nk) × any number. Costs as many operations a column
    /// as the square of that.
    ///
    /// # Errors
    /// [`TheoryError::NotFinite`] for an entry that is not, with its column in the whole Jacobian;
    /// [`TheoryError::Length`] when there are not as many rows.
    pub fn add(&mut self, columns: MatRef<'_, f64>) -> Result<(), TheoryError> {
        let (n, count) = (self.sum.nrows(), columns.ncols());
        if columns.nrows() != n {
            let (what, got) = ("a block of columns", columns.nrows());
            return Err(TheoryError::Length { what, got, expected: n });
        }
        let largest = largest_entry(columns).map_err(|(row, column)| {
            let value = columns[(row, column)];
            TheoryError::NotFinite { row, column: self.columns + column, value }
        })?;
        self.make_room(largest);
        let scaled = (self.scale != 0).then(|| {
            RowMatrix::from_fn(n, count, |i, j| libm::scalbn(columns[(i, j)], -self.scale))
        });
        let rows = scaled.as_ref().map_or(columns, RowMatrix::as_mat);
        if self.columns == 0 {
            add_symmetric_product(self.sum.as_mut(), rows, rows, self.parallelism);
        } else {
            if self.block.nrows() == 0 {
                self.block = Mat::zeros(n, n);
            } else {
                self.block.fill(0.0);
            }
            add_symmetric_product(self.block.as_mut(), rows, rows, self.parallelism);
            add_lower(self.sum.as_mut(), self.block.as_ref());
            self.additions += 1;
        }
        self.columns += count;
        self.terms = self.terms.max(rounding_terms(count));
        Ok(())
    }

    /// Adds the columns that `other` has summed up, as the next ones.
    ///
    /// # Errors
    /// [`TheoryError::Length`] when it has another number of rows.
    pub fn append(&mut self, mut other: Self) -> Result<(), TheoryError> {
        let (got, expected) = (other.sum.nrows(), self.sum.nrows());
        if got != expected {
            return Err(TheoryError::Length { what: "another sum", got, expected });
        }
        self.make_room(other.largest);
        if other.scale != self.scale {
            scale_lower(&mut other.sum, 2 * (other.scale - self.scale));
        }
        add_lower(self.sum.as_mut(), other.sum.as_ref());
        self.columns += other.columns;
        self.terms = self.terms.max(other.terms);
        self.additions = self.additions.max(other.additions) + 1;
        Ok(())
    }

    /// Chooses the scale so that the squares of entries up to `largest` are in range.
    fn make_room(&mut self, largest: f64) {
        let wanted = exponent(largest);
        let first = self.largest <= 0.0;
        self.largest = self.largest.max(largest);
        if largest <= 0.0 {
            return;
        }
        if first && wanted.abs() > MODERATE {
            self.scale = wanted;
        } else if wanted - self.scale > MODERATE {
            // What underflows here is below 2⁻⁸⁰⁰ of what comes.
            let scale = if wanted.abs() > MODERATE { wanted } else { 0 };
            scale_lower(&mut self.sum, 2 * (self.scale - scale));
            self.scale = scale;
        }
    }

    /// Number n of samples.
    fn sample_count(&self) -> f64 {
        (self.sum.nrows() / self.output_count) as f64
    }

    /// Number p of columns so far.
    pub fn parameter_count(&self) -> usize {
        self.columns
    }

    /// Sharpness of the Gauss–Newton matrix of these columns alone, `JᵀJ/n`: that of a block of the
    /// parameters, where the columns are those of a block. Uses one more n × n matrix.
    ///
    /// # Errors
    /// When the eigenproblem fails.
    pub fn sharpness(&self) -> Result<Sharpness, TheoryError> {
        let n = self.sum.nrows();
        // One scaling more, to where squares of these sums are in range too.
        let diagonal = (0..n).fold(0.0_f64, |m, i| m.max(self.sum[(i, i)]));
        let extra = exponent(diagonal);
        let gram = Mat::from_fn(n, n, |i, j| {
            libm::scalbn(self.sum[(i.max(j), i.min(j))], -extra) / self.sample_count()
        });
        let sharpness = gram_sharpness(gram.as_ref())?;
        let back = |value| libm::scalbn(value, 2 * self.scale + extra);
        Ok(Sharpness {
            trace: back(sharpness.trace),
            frobenius_norm: back(sharpness.frobenius_norm),
            lambda_max: back(sharpness.lambda_max),
        })
    }

    /// The minimum with this Jacobian. Costs O(n³).
    ///
    /// # Errors
    /// When the eigenproblem fails.
    pub fn minimum(mut self) -> Result<Minimum, TheoryError> {
        self.block = Mat::new();
        let n = self.sum.nrows();
        let (divisor, output_count) = (self.sample_count(), self.output_count);
        let exponent = exponent(self.largest);
        let mut matrix = self.sum;
        scale_lower(&mut matrix, 2 * (self.scale - exponent));
        let sum_of_squares: f64 = (0..n).map(|i| matrix[(i, i)]).sum();
        let error = rounding(self.terms + self.additions + 4) * sum_of_squares;
        let gram = ScaledGram { output_count, exponent, matrix, divisor, error };
        Minimum::decompose(gram, self.parallelism)
    }
}

/// Adds the lower triangle of `block` to that of `sum`.
fn add_lower(mut sum: MatMut<'_, f64>, block: MatRef<'_, f64>) {
    for j in 0..sum.ncols() {
        for i in j..sum.nrows() {
            sum[(i, j)] += block[(i, j)];
        }
    }
}

/// The largest absolute value of an entry, or the place of the first that is not finite.
fn largest_entry(matrix: MatRef<'_, f64>) -> Result<f64, (usize, usize)> {
    let mut largest = 0.0_f64;
    // Along whichever index runs fastest.
    let row_major = matrix.col_stride().unsigned_abs() <= matrix.row_stride().unsigned_abs();
    let lines = if row_major { matrix.transpose() } else { matrix };
    for (index, line) in lines.col_iter().enumerate() {
        let mut finite = true;
        match line.try_as_col_major() {
            Some(line) => {
                for value in line.as_slice() {
                    finite &= value.is_finite();
                    largest = largest.max(value.abs());
                }
            }
            None => {
                for value in line.iter() {
                    finite &= value.is_finite();
                    largest = largest.max(value.abs());
                }
            }
        }
        if !finite {
            let place = line.iter().position(|value| !value.is_finite()).unwrap_or(0);
            return Err(if row_major { (index, place) } else { (place, index) });
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use faer::{Mat, mat};
    use flatmin_linalg::{Parallelism, RowMatrix};

    use super::GramSum;
    use crate::{Batch, Minimum, Optimizer, Sampling, TheoryError, threshold};

    fn jacobian(n: usize, p: usize) -> RowMatrix {
        RowMatrix::from_fn(n, p, |i, j| ((i * 31 + j * 17 + i * j) % 101) as f64 / 50.0 - 1.0)
    }

    fn sum(jacobian: &RowMatrix, width: usize) -> GramSum {
        let mut sum = GramSum::new(jacobian.rows(), Parallelism::Sequential).unwrap();
        let whole = jacobian.as_mat();
        for start in (0..jacobian.columns()).step_by(width) {
            let end = (start + width).min(jacobian.columns());
            sum.add(whole.get(.., start..end)).unwrap();
        }
        sum
    }

    #[track_caller]
    fn check(jacobian: &RowMatrix, width: usize) {
        let streamed = sum(jacobian, width).minimum().unwrap();
        let whole = Minimum::new(jacobian).unwrap();
        let batch = Batch::new(1, Sampling::WithReplacement).unwrap();
        let thresholds =
            [&streamed, &whole].map(|m| threshold(m, &Optimizer::sgd(), &batch).unwrap());
        assert!(
            thresholds[0].lower <= thresholds[1].upper
                && thresholds[1].lower <= thresholds[0].upper,
            "{thresholds:?}"
        );
        assert!(thresholds[0].relative_width() < 2e-10, "{thresholds:?}");
        let (a, b) = (streamed.sharpness(), whole.sharpness());
        assert!((a.trace / b.trace - 1.0).abs() < 1e-14);
        assert!((a.frobenius_norm / b.frobenius_norm - 1.0).abs() < 1e-14);
    }

    #[test]
    fn blocks_of_columns_give_the_minimum_of_the_whole() {
        for width in [1, 7, 200, 1000] {
            check(&jacobian(12, 200), width);
        }
    }

    #[test]
    fn one_block_has_the_bits_of_the_whole() {
        let jacobian = jacobian(9, 300);
        let streamed = sum(&jacobian, 300).minimum().unwrap();
        let whole = Minimum::new(&jacobian).unwrap();
        assert_eq!(streamed.eigenvalues(), whole.eigenvalues());
    }

    #[test]
    fn scales_may_change_from_block_to_block() {
        for exponents in [[-150, 0, 150], [150, -150, 0], [0, 150, -150], [-150, -150, 150]] {
            let scaled = RowMatrix::from_fn(4, 6, |i, j| {
                jacobian(4, 6).row(i)[j] * libm::exp10(f64::from(exponents[j / 2]))
            });
            check(&scaled, 2);
        }
    }

    #[test]
    fn sums_of_blocks_know_their_own_sharpness() {
        let jacobian = jacobian(7, 50);
        let mut total = sum(&jacobian, 20);
        let whole = sum(&jacobian, 50).sharpness().unwrap();
        let expected = Minimum::new(&jacobian).unwrap().sharpness();
        assert!((whole.trace / expected.trace - 1.0).abs() < 1e-14);
        assert!((whole.lambda_max / expected.lambda_max - 1.0).abs() < 1e-12);
        // Twice the columns: twice the Gram matrix.
        total.append(sum(&jacobian, 50)).unwrap();
        assert_eq!(total.parameter_count(), 100);
        let doubled = total.sharpness().unwrap();
        assert!((doubled.frobenius_norm / expected.frobenius_norm - 2.0).abs() < 1e-13);
        let huge = RowMatrix::from_fn(7, 50, |i, j| jacobian.row(i)[j] * 1e150);
        let sharpness = sum(&huge, 50).sharpness().unwrap();
        assert!((sharpness.trace / expected.trace / 1e300 - 1.0).abs() < 1e-13);
    }

    #[test]
    fn wrong_entries_are_named_where_they_are_in_the_whole() {
        let mut sum = GramSum::new(2, Parallelism::Sequential).unwrap();
        sum.add(Mat::zeros(2, 5).as_ref()).unwrap();
        let error = sum.add(mat![[0.0, 1.0], [f64::INFINITY, 0.0]].as_ref()).unwrap_err();
        assert_eq!(error, TheoryError::NotFinite { row: 1, column: 5, value: f64::INFINITY });
        assert!(sum.add(Mat::zeros(3, 1).as_ref()).is_err());
        assert!(GramSum::new(0, Parallelism::Sequential).is_err());
    }

    #[test]
    fn no_columns_are_a_flat_minimum() {
        let sum = GramSum::new(3, Parallelism::Sequential).unwrap();
        assert!(sum.sharpness().unwrap().trace.abs() < f64::MIN_POSITIVE);
        assert!(sum.minimum().unwrap().eigenvalues().is_empty());
    }
}
