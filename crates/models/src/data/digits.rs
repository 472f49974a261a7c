//! Handwritten digits, a small real data set that is part of this crate (feature `digits`).
//!
//! 1797 grey images of 8 × 8 pixels: the test part of *Optical Recognition of Handwritten Digits*
//! (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998, licence CC BY 4.0),
//! unchanged.
//!
//! The samples of a data set are fixed by a seed and stand in the order of the file
//! ([`SampleSplit::draw`] with `stream(seed, "digits split", 0)`). An image u of 64 intensities
//! becomes the input `x = s (u − ū)`, d = 64, where ū is the mean of the *training* images and
//! `s = √(64 / ((1/n) Σ ‖u_i − ū‖²))`, a sum over the n training images ([`InputScaling`]): these
//! have mean 0 and mean squared norm 64, and nothing about the test images is used.
//!
//! ```
//! use flatmin_models::data::{ClassTargets, Split};
//! use flatmin_models::data::digits::{DigitsSplit, digits};
//!
//! let split = DigitsSplit { training_count: 500, test_count: 1000, seed: 0 };
//! let training = digits()?.dataset(ClassTargets::Parity, Split::Training, split)?;
//! assert_eq!((training.sample_count(), training.inputs().columns()), (500, 64));
//! let squared: f64 = training.inputs().values().iter().map(|x| x * x).sum();
//! assert!((squared / 500.0 - 64.0).abs() < 1e-9);
//!
//! // Even digits are +1, odd ones −1.
//! let test = digits()?.dataset(ClassTargets::Parity, Split::Test, split)?;
//! assert_eq!(test.sample_count(), 1000);
//! assert!(test.targets().iter().all(|y| y.abs() == 1.0));
//!
//! // A column per digit.
//! let test = digits()?.dataset(ClassTargets::OneHot, Split::Test, split)?;
//! assert_eq!((test.output_dim(), test.targets().len()), (10, 10_000));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::{self, Read as _};
use std::sync::OnceLock;

use flate2::bufread::GzDecoder;
use flatmin_linalg::{RowMatrix, stream};

use super::labelled::{ClassTargets, InputScaling, Labelled, LabelledError, SampleSplit};
use crate::dataset::{Dataset, Split};

/// Number of samples.
pub const SAMPLE_COUNT: usize = 1797;

/// Dimension of an input, 8 × 8.
pub const INPUT_DIM: usize = 64;

/// Number of classes.
pub const CLASS_COUNT: usize = 10;

/// Purpose of the random stream that splits the samples.
const DIGITS_SPLIT: &str = "digits split";

/// Largest intensity of a pixel.
const BRIGHTEST: u8 = 16;

/// Largest label.
const LAST_DIGIT: u8 = 9;

const FILE: &[u8] = include_bytes!("../../data/digits.csv.gz");

/// Largest number of bytes in a row: two digits and a separator for each number.
const LONGEST_ROW: u64 = 3 * (INPUT_DIM as u64 + 1);

/// The reason why the file of the digits cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DigitsError {
    /// The file does not decompress to text.
    #[error("the digits do not decompress to text: {kind}")]
    Damaged {
        /// The kind of the error.
        kind: io::ErrorKind,
    },
    /// The file has another number of rows.
    #[error("the digits have {found} rows, expected {SAMPLE_COUNT}")]
    Rows {
        /// Number of rows.
        found: usize,
    },
    /// A row has another number of values.
    #[error("row {row} of the digits has {found} values, expected {INPUT_DIM} pixels and a label")]
    Values {
        /// The first such row, from 0.
        row: usize,
        /// Number of values in it.
        found: usize,
    },
    /// A value is not a whole number in its range.
    #[error("value {column} in row {row} of the digits is not a whole number from 0 to {largest}")]
    Value {
        /// The first such row, from 0.
        row: usize,
        /// Its position in the row, from 0.
        column: usize,
        /// The largest value that is allowed.
        largest: u8,
    },
    /// The samples do not fit together.
    #[error(transparent)]
    Labelled(#[from] LabelledError),
}

/// A choice of training digits and test digits: disjoint, and determined by these three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigitsSplit {
    /// Number n of training samples, at least 2.
    pub training_count: usize,
    /// Number of test samples. Both together are at most [`SAMPLE_COUNT`].
    pub test_count: usize,
    /// The seed of the choice.
    pub seed: u64,
}

/// The images with their digits.
#[derive(Debug, Clone, PartialEq)]
pub struct Digits {
    samples: Labelled,
}

/// The digits. They are decompressed and checked at the first call.
///
/// # Errors
/// [`DigitsError`] when the data inside of the crate is damaged.
pub fn digits() -> Result<&'static Digits, DigitsError> {
    static DIGITS: OnceLock<Result<Digits, DigitsError>> = OnceLock::new();
    DIGITS.get_or_init(|| Digits::from_gzip(FILE)).as_ref().map_err(Clone::clone)
}

impl Digits {
    fn from_gzip(bytes: &[u8]) -> Result<Self, DigitsError> {
        let mut text = String::new();
        GzDecoder::new(bytes)
            .take(LONGEST_ROW * SAMPLE_COUNT as u64)
            .read_to_string(&mut text)
            .map_err(|error| DigitsError::Damaged { kind: error.kind() })?;
        Self::from_csv(&text)
    }

    fn from_csv(text: &str) -> Result<Self, DigitsError> {
        let found = text.lines().count();
        if found != SAMPLE_COUNT {
            return Err(DigitsError::Rows { found });
        }
        let mut pixels = Vec::with_capacity(SAMPLE_COUNT * INPUT_DIM);
        let mut labels = Vec::with_capacity(SAMPLE_COUNT);
        for (row, line) in text.lines().enumerate() {
            let found = line.split(',').count();
            if found != INPUT_DIM + 1 {
                return Err(DigitsError::Values { row, found });
            }
            for (column, field) in line.split(',').enumerate() {
                let is_label = column == INPUT_DIM;
                let largest = if is_label { LAST_DIGIT } else { BRIGHTEST };
                let value = field.parse::<u8>().ok().filter(|value| *value <= largest);
                let value = value.ok_or(DigitsError::Value { row, column, largest })?;
                if is_label {
                    labels.push(value);
                } else {
                    pixels.push(f64::from(value));
                }
            }
        }
        let inputs = RowMatrix::from_fn(SAMPLE_COUNT, INPUT_DIM, |i, j| pixels[i * INPUT_DIM + j]);
        Ok(Self { samples: Labelled::new(inputs, labels, CLASS_COUNT)? })
    }

    /// The images (1797 × 64, intensities 0–16) and their digits, in the order of the file.
    pub fn samples(&self) -> &Labelled {
        &self.samples
    }

    /// Scaled images with one target (+1 for even digits and −1 for odd ones) or ten (1 in the
    /// column of the digit and 0 in the others).
    ///
    /// # Errors
    /// [`LabelledError`] when the split takes more samples than there are, the requested part is
    /// empty, or a single training image does not determine the scale.
    pub fn dataset(
        &self,
        targets: ClassTargets,
        part: Split,
        split: DigitsSplit,
    ) -> Result<Dataset, LabelledError> {
        let DigitsSplit { training_count, test_count, seed } = split;
        let mut rng = stream(seed, DIGITS_SPLIT, 0);
        let drawn = SampleSplit::draw(SAMPLE_COUNT, training_count, test_count, &mut rng)?;
        let training = self.samples.select(&drawn.training);
        let scaling = InputScaling::new(training.inputs())?;
        let samples = match part {
            Split::Training => training,
            Split::Test => self.samples.select(&drawn.test),
        };
        Ok(samples.dataset(targets, &scaling)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _};

    use flatmin_linalg::stream;

    use super::{
        Digits, DigitsError, DigitsSplit, FILE, GzDecoder, INPUT_DIM, SAMPLE_COUNT, digits,
    };
    use crate::data::ClassTargets;
    use crate::data::labelled::{LabelledError, SampleSplit};
    use crate::dataset::{DatasetError, Split};

    fn text() -> String {
        let mut text = String::new();
        GzDecoder::new(FILE).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_file_is_the_one_of_the_source() {
        let samples = digits().unwrap().samples();
        assert_eq!((samples.inputs().rows(), samples.inputs().columns()), (1797, 64));
        // The counts published with the data.
        let mut counts = [0; 10];
        samples.labels().iter().for_each(|label| counts[usize::from(*label)] += 1);
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(samples.inputs().row(0)[..6], [0.0, 0.0, 5.0, 13.0, 9.0, 1.0]);
        assert_eq!(samples.labels()[..3], [0, 1, 2]);
    }

    #[test]
    fn a_seed_fixes_the_samples() {
        let draw = |seed| {
            SampleSplit::draw(SAMPLE_COUNT, 5, 5, &mut stream(seed, super::DIGITS_SPLIT, 0))
                .unwrap()
        };
        assert_eq!(draw(0).training, GOLDEN_TRAINING);
        assert_eq!(draw(0).test, GOLDEN_TEST);
        assert_ne!(draw(0), draw(1));
    }

    const GOLDEN_TRAINING: [usize; 5] = [18, 78, 1252, 1344, 1757];
    const GOLDEN_TEST: [usize; 5] = [445, 626, 964, 1310, 1322];

    #[test]
    fn test_images_have_no_part_in_the_scaling() {
        let split = DigitsSplit { training_count: 300, test_count: 700, seed: 3 };
        let other = DigitsSplit { test_count: 100, ..split };
        let data = |split| {
            digits().unwrap().dataset(ClassTargets::Parity, Split::Training, split).unwrap()
        };
        assert_eq!(data(split), data(other));
        // The training scale also applies to test images, so their mean squared norm is close to d
        // but not equal to it.
        let test = digits().unwrap().dataset(ClassTargets::OneHot, Split::Test, split).unwrap();
        let squared: f64 = test.inputs().values().iter().map(|x| x * x).sum::<f64>() / 700.0;
        assert!((squared - 64.0).abs() > 1e-3 && (squared - 64.0).abs() < 4.0, "{squared}");
    }

    #[test]
    fn both_kinds_of_targets_are_about_the_same_samples() {
        let split = DigitsSplit { training_count: 1000, test_count: 797, seed: 1 };
        for part in [Split::Training, Split::Test] {
            let parity = digits().unwrap().dataset(ClassTargets::Parity, part, split).unwrap();
            let one_hot = digits().unwrap().dataset(ClassTargets::OneHot, part, split).unwrap();
            assert_eq!(parity.inputs(), one_hot.inputs());
            for (sign, row) in parity.targets().iter().zip(one_hot.targets().chunks_exact(10)) {
                let digit = row.iter().position(|y| *y > 0.0).unwrap();
                assert_eq!(row.iter().sum::<f64>().to_bits(), 1.0_f64.to_bits());
                assert_eq!(*sign > 0.0, digit % 2 == 0);
            }
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let check = |training_count, test_count, part, expected: &LabelledError| {
            let split = DigitsSplit { training_count, test_count, seed: 0 };
            assert_eq!(
                digits().unwrap().dataset(ClassTargets::Parity, part, split).as_ref(),
                Err(expected)
            );
        };
        let expected =
            LabelledError::TooFew { training_count: 1000, test_count: 798, available: 1797 };
        check(1000, 798, Split::Training, &expected);
        let empty = DatasetError::Empty.into();
        check(0, 10, Split::Training, &empty);
        check(10, 0, Split::Test, &empty);
        let expected = LabelledError::Spread { sample_count: 1, spread: 0.0 };
        check(1, 10, Split::Training, &expected);
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let text = text();
        let (first, rest) = text.split_once('\n').unwrap();
        let with = |row: &str| Digits::from_csv(&format!("{row}\n{rest}")).unwrap_err();
        assert_eq!(Digits::from_csv(rest), Err(DigitsError::Rows { found: 1796 }));
        assert_eq!(with("1,2"), DigitsError::Values { row: 0, found: 2 });
        assert_eq!(with(&format!("{first},0")), DigitsError::Values { row: 0, found: 66 });
        let expected = DigitsError::Value { row: 0, column: 3, largest: 16 };
        assert_eq!(with(&first.replacen("13", "17", 1)), expected);
        let expected = DigitsError::Value { row: 0, column: INPUT_DIM, largest: 9 };
        assert_eq!(with(&format!("{}10", &first[..first.len() - 1])), expected);
        let kind = io::ErrorKind::UnexpectedEof;
        assert_eq!(Digits::from_gzip(&FILE[..1000]), Err(DigitsError::Damaged { kind }));
        let mut bytes = FILE.to_vec();
        bytes[30_000] ^= 1;
        assert!(Digits::from_gzip(&bytes).is_err());
    }
}
