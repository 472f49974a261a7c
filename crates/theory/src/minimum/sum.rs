//! Gram matrices of Jacobians that come in blocks of columns.

use faer::{Mat, MatMut, MatRef};
use flatmin_linalg::gemm::{add_symmetric_product, rounding_terms};
use flatmin_linalg::rounding::gamma;
use flatmin_linalg::{Parallelism, PowerOfTwo, RowMatrix, Sharpness, gram_sharpness};

use super::gram::{Gram, ScaledGram, scale_lower};
use crate::MinimumError;

/// Entries between this power of two and its inverse are not scaled: their squares are in range.
const MODERATE: i32 = 400;

/// `JJᵀ`, summed over blocks of columns of the Jacobian `J` (n × p; nk × p with k outputs).
///
/// Holds one n × n matrix, and a second one from the second block on, which keeps the rounding
/// error of many blocks as small as that of one. The result is the [`Minimum`](crate::Minimum) of
/// the whole Jacobian, with rigorous bounds on its error.
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
/// # Ok::<(), flatmin_theory::MinimumError>(())
/// ```
#[derive(Debug, Clone)]
pub struct GramSum {
    output_count: usize,
    /// `JJᵀ/unit²` of the columns so far, lower triangle.
    sum: Mat<f64>,
    /// `JJᵀ/unit²` of one block; 0 × 0 until it is needed.
    block: Mat<f64>,
    unit: PowerOfTwo,
    /// Largest absolute value of an entry so far.
    largest: f64,
    columns: usize,
    /// The largest number of roundings of a term inside the product of one block.
    terms: usize,
    /// The number of roundings of a term in the sum over blocks.
    additions: usize,
    /// How the products of this sum are computed.
    pub(super) parallelism: Parallelism,
}

impl GramSum {
    /// An empty sum for n = `sample_count` rows.
    ///
    /// # Errors
    /// [`MinimumError::NoSamples`] when there is no row.
    pub fn new(sample_count: usize, parallelism: Parallelism) -> Result<Self, MinimumError> {
        Self::with_outputs(sample_count, 1, parallelism)
    }

    /// An empty sum for nk rows, sample by sample: k = `output_count` outputs for each of n
    /// samples.
    ///
    /// # Errors
    /// [`MinimumError::NoSamples`] when there is no sample, [`MinimumError::Outputs`] when
    /// there is no output.
    pub fn with_outputs(
        sample_count: usize,
        output_count: usize,
        parallelism: Parallelism,
    ) -> Result<Self, MinimumError> {
        let rows = sample_count * output_count;
        if sample_count == 0 {
            return Err(MinimumError::NoSamples);
        }
        if output_count == 0 {
            return Err(MinimumError::Outputs { rows, output_count });
        }
        Ok(Self {
            output_count,
            sum: Mat::zeros(rows, rows),
            block: Mat::new(),
            unit: PowerOfTwo::default(),
            largest: 0.0,
            columns: 0,
            terms: 0,
            additions: 0,
            parallelism,
        })
    }

    /// Adds the next columns of the Jacobian, n × any number (nk × any number with k outputs).
    /// Costs n² operations a column.
    ///
    /// # Errors
    /// [`MinimumError::NotFinite`] for an entry that is not finite, with its column in the whole
    /// Jacobian; [`MinimumError::Rows`] for another number of rows.
    pub fn add(&mut self, columns: MatRef<'_, f64>) -> Result<(), MinimumError> {
        let (n, count) = (self.sum.nrows(), columns.ncols());
        if columns.nrows() != n {
            let (what, got) = ("a block of columns", columns.nrows());
            return Err(MinimumError::Rows { what, got, expected: n });
        }
        let largest = largest_entry(columns).map_err(|(row, column)| {
            let value = columns[(row, column)];
            MinimumError::NotFinite { row, column: self.columns + column, value }
        })?;
        self.make_room(largest);
        let scaled = (self.unit != PowerOfTwo::default()).then(|| {
            let inverse = self.unit.inverse();
            RowMatrix::from_fn(n, count, |i, j| inverse.times(columns[(i, j)]))
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

    /// Appends the columns that `other` has summed up.
    ///
    /// # Errors
    /// [`MinimumError::Rows`] when `other` has another number of rows.
    pub fn append(&mut self, mut other: Self) -> Result<(), MinimumError> {
        let (got, expected) = (other.sum.nrows(), self.sum.nrows());
        if got != expected {
            return Err(MinimumError::Rows { what: "another sum", got, expected });
        }
        self.make_room(other.largest);
        scale_lower(&mut other.sum, ratio_squared(other.unit, self.unit));
        add_lower(self.sum.as_mut(), other.sum.as_ref());
        self.columns += other.columns;
        self.terms = self.terms.max(other.terms);
        self.additions = self.additions.max(other.additions) + 1;
        Ok(())
    }

    /// Chooses the unit so that the squares of entries up to `largest` are in range.
    fn make_room(&mut self, largest: f64) {
        let first = self.largest <= 0.0;
        self.largest = self.largest.max(largest);
        let Some(wanted) = PowerOfTwo::of_largest(&[largest]) else { return };
        let is_extreme = wanted.exponent().abs() > MODERATE;
        if first && is_extreme {
            self.unit = wanted;
        } else if wanted.exponent() - self.unit.exponent() > MODERATE {
            // Sums that underflow here are below 2⁻⁸⁰⁰ times the sums of the columns to come.
            let unit = if is_extreme { wanted } else { PowerOfTwo::default() };
            scale_lower(&mut self.sum, ratio_squared(self.unit, unit));
            self.unit = unit;
        }
    }

    /// The number n of samples.
    fn sample_count(&self) -> f64 {
        (self.sum.nrows() / self.output_count) as f64
    }

    /// The number p of columns so far.
    pub fn parameter_count(&self) -> usize {
        self.columns
    }

    /// The exponent e and the products `JJᵀ/2^{2e}` of the columns so far, n × n (nk × nk with k
    /// outputs); only the lower triangle is filled.
    pub fn scaled_products(&self) -> (i32, MatRef<'_, f64>) {
        (self.unit.exponent(), self.sum.as_ref())
    }

    /// Sharpness of `JᵀJ/n` for the columns so far. If these are the columns of a block of
    /// parameters, it is the sharpness of that block of the Gauss–Newton matrix. Uses one more n ×
    /// n matrix.
    ///
    /// # Errors
    /// When the eigenproblem fails.
    pub fn sharpness(&self) -> Result<Sharpness, MinimumError> {
        let n = self.sum.nrows();
        // The sums are scaled again, so that their squares are in range too.
        let diagonal: Vec<f64> = (0..n).map(|i| self.sum[(i, i)]).collect();
        let extra = PowerOfTwo::of_largest(&diagonal).unwrap_or_default();
        let inverse = extra.inverse();
        let gram = Mat::from_fn(n, n, |i, j| {
            inverse.times(self.sum[(i.max(j), i.min(j))]) / self.sample_count()
        });
        let back = PowerOfTwo::new(2 * self.unit.exponent() + extra.exponent());
        Ok(gram_sharpness(gram.as_ref())?.scaled(back))
    }

    /// The sum, scaled so that the largest entry of the Jacobian lies in [1, 2).
    pub(super) fn scaled(self) -> ScaledGram {
        let (divisor, output_count) = (self.sample_count(), self.output_count);
        let unit = PowerOfTwo::of_largest(&[self.largest]).unwrap_or_default();
        let mut matrix = self.sum;
        scale_lower(&mut matrix, ratio_squared(self.unit, unit));
        let sum_of_squares: f64 = (0..matrix.nrows()).map(|i| matrix[(i, i)]).sum();
        let error = gamma(self.terms + self.additions + 4) * sum_of_squares;
        let (tolerance, is_sum) = (Gram::TOLERANCE, true);
        ScaledGram { output_count, unit, matrix, divisor, error, tolerance, is_sum }
    }
}

/// `(from/to)²`.
fn ratio_squared(from: PowerOfTwo, to: PowerOfTwo) -> PowerOfTwo {
    PowerOfTwo::new(2 * (from.exponent() - to.exponent()))
}

/// Adds the lower triangle of `block` to the lower triangle of `sum`.
fn add_lower(mut sum: MatMut<'_, f64>, block: MatRef<'_, f64>) {
    for j in 0..sum.ncols() {
        for i in j..sum.nrows() {
            sum[(i, j)] += block[(i, j)];
        }
    }
}

/// The largest absolute value of an entry, or the row and column of the first that is not finite.
fn largest_entry(matrix: MatRef<'_, f64>) -> Result<f64, (usize, usize)> {
    let mut largest = 0.0_f64;
    // Lines are read in memory order.
    let row_major = matrix.col_stride().unsigned_abs() <= matrix.row_stride().unsigned_abs();
    let lines = if row_major { matrix.transpose() } else { matrix };
    for (index, line) in lines.col_iter().enumerate() {
        let mut finite = true;
        let mut look = |value: &f64| {
            finite &= value.is_finite();
            largest = largest.max(value.abs());
        };
        match line.try_as_col_major() {
            // The loop over a slice is vectorised.
            Some(line) => line.as_slice().iter().for_each(&mut look),
            None => line.iter().for_each(&mut look),
        }
        if !finite {
            let other = line.iter().position(|value| !value.is_finite()).unwrap_or(0);
            return Err(if row_major { (index, other) } else { (other, index) });
        }
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use faer::{Mat, mat};
    use flatmin_linalg::{Parallelism, RowMatrix};

    use super::GramSum;
    use crate::{Batch, Minimum, MinimumError, Optimizer, Sampling, threshold};

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
        assert_eq!(error, MinimumError::NotFinite { row: 1, column: 5, value: f64::INFINITY });
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
