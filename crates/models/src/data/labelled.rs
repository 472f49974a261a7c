//! Inputs with a class for each: targets, training and test samples, and scaling.

use flatmin_linalg::{RowMatrix, simd};
use rand::Rng;
use rand::seq::SliceRandom as _;

use crate::dataset::{Dataset, DatasetError};

/// Inputs as they were measured (n × d, a row per sample) with a class for each, from 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    inputs: RowMatrix,
    labels: Vec<u8>,
    class_count: usize,
}

/// The reason why labelled inputs do not make a data set.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelledError {
    /// The numbers of inputs and labels differ.
    #[error("{inputs} inputs but {labels} labels")]
    LengthMismatch {
        /// Rows of the inputs.
        inputs: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A label does not belong to a class.
    #[error("sample {sample} has label {label}, expected one of {class_count} classes, from 0")]
    Label {
        /// The first such sample.
        sample: usize,
        /// Its label.
        label: u8,
        /// Number of classes.
        class_count: usize,
    },
    /// More samples are requested than exist.
    #[error(
        "{training_count} training and {test_count} test samples asked for, but there are \
         {available}"
    )]
    TooFew {
        /// Number of training samples requested.
        training_count: usize,
        /// Number of test samples requested.
        test_count: usize,
        /// Number of samples that exist.
        available: usize,
    },
    /// The training inputs are all equal, or so large that their scale overflows.
    #[error(
        "the {sample_count} training inputs have a mean squared distance of {spread} from their \
         mean, which cannot be scaled: expected a positive finite number"
    )]
    Spread {
        /// Number of training inputs.
        sample_count: usize,
        /// Mean squared distance from the mean input.
        spread: f64,
    },
    /// The samples do not make a data set.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// The kinds of targets that represent a class. The feature `serde` stores them as `parity` and
/// `one-hot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum ClassTargets {
    /// One target: +1 for the classes 0, 2, 4, … and −1 for 1, 3, 5, ….
    Parity,
    /// One target per class: 1 for the class of the sample and 0 for the others.
    OneHot,
}

impl Labelled {
    /// Pairs inputs with labels, one for each, from 0 to `class_count` − 1.
    ///
    /// # Errors
    /// [`LabelledError`] when the lengths differ or a label is out of range.
    pub fn new(
        inputs: RowMatrix,
        labels: Vec<u8>,
        class_count: usize,
    ) -> Result<Self, LabelledError> {
        if inputs.rows() != labels.len() {
            let (inputs, labels) = (inputs.rows(), labels.len());
            return Err(LabelledError::LengthMismatch { inputs, labels });
        }
        match labels.iter().position(|label| usize::from(*label) >= class_count) {
            None => Ok(Self { inputs, labels, class_count }),
            Some(sample) => {
                Err(LabelledError::Label { sample, label: labels[sample], class_count })
            }
        }
    }

    /// The inputs, n × d.
    pub fn inputs(&self) -> &RowMatrix {
        &self.inputs
    }

    /// The labels, n.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Number of classes.
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// Some of the samples, in this order.
    ///
    /// # Panics
    /// When there is no such sample.
    #[must_use]
    pub fn select(&self, samples: &[usize]) -> Self {
        let dim = self.inputs.columns();
        Self {
            inputs: RowMatrix::from_fn(samples.len(), dim, |i, j| self.inputs.row(samples[i])[j]),
            labels: samples.iter().map(|sample| self.labels[*sample]).collect(),
            class_count: self.class_count,
        }
    }

    /// The data set of the scaled inputs, with n × 1 targets for [`ClassTargets::Parity`] and n ×
    /// `class_count` for [`ClassTargets::OneHot`].
    ///
    /// # Errors
    /// [`DatasetError`] when there is no sample, or a value is not finite.
    ///
    /// # Panics
    /// When the scaling is for inputs of another dimension.
    pub fn dataset(
        &self,
        targets: ClassTargets,
        scaling: &InputScaling,
    ) -> Result<Dataset, DatasetError> {
        let inputs = scaling.apply(&self.inputs);
        match targets {
            ClassTargets::Parity => {
                let sign = |label: &u8| if label.is_multiple_of(2) { 1.0 } else { -1.0 };
                Dataset::new(inputs, self.labels.iter().map(sign).collect())
            }
            ClassTargets::OneHot => {
                let indicator = |i: usize, class| {
                    if usize::from(self.labels[i]) == class { 1.0 } else { 0.0 }
                };
                let targets = RowMatrix::from_fn(self.labels.len(), self.class_count, indicator);
                Dataset::with_outputs(inputs, &targets)
            }
        }
    }
}

/// Centring and scaling of inputs, `x = s (u − ū)`, learned from the training inputs alone.
///
/// With the mean `ū = (1/n) Σ u_i` and `s = √(d / ((1/n) Σ ‖u_i − ū‖²))`, the scaled training
/// inputs have mean 0 and mean squared norm d, like synthetic inputs on the sphere of radius √d.
/// All coordinates have the same factor; a coordinate that is the same in all training inputs
/// becomes 0.
#[derive(Debug, Clone, PartialEq)]
pub struct InputScaling {
    mean: Vec<f64>,
    factor: f64,
}

impl InputScaling {
    /// The scaling of these training inputs, n × d.
    ///
    /// # Errors
    /// [`LabelledError`] when there are none, when a value is not finite, and when all inputs are
    /// equal.
    pub fn new(training: &RowMatrix) -> Result<Self, LabelledError> {
        let (n, d) = (training.rows(), training.columns());
        if n == 0 {
            return Err(DatasetError::Empty.into());
        }
        if let Some(k) = training.values().iter().position(|value| !value.is_finite()) {
            let (sample, value) = (k / d, training.values()[k]);
            return Err(DatasetError::NotFinite { sample, value }.into());
        }
        let mut mean = vec![0.0; d];
        for i in 0..n {
            simd::axpy(1.0, training.row(i), &mut mean);
        }
        for sum in &mut mean {
            *sum /= n as f64;
        }
        let mut spread = 0.0;
        let mut centred = vec![0.0; d];
        for i in 0..n {
            for ((difference, value), mean) in centred.iter_mut().zip(training.row(i)).zip(&mean) {
                *difference = value - mean;
            }
            spread += simd::norm_squared(&centred);
        }
        spread /= n as f64;
        let factor = (d as f64 / spread).sqrt();
        if spread > 0.0 && factor > 0.0 && factor.is_finite() {
            Ok(Self { mean, factor })
        } else {
            Err(LabelledError::Spread { sample_count: n, spread })
        }
    }

    /// The mean training input ū.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The factor s.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// The scaled inputs, `s (u − ū)`.
    ///
    /// # Panics
    /// When they have another dimension.
    pub fn apply(&self, inputs: &RowMatrix) -> RowMatrix {
        assert_eq!(inputs.columns(), self.mean.len(), "dimension of the inputs");
        RowMatrix::from_fn(inputs.rows(), inputs.columns(), |i, j| {
            self.factor * (inputs.row(i)[j] - self.mean[j])
        })
    }
}

/// A choice of training samples and test samples; no sample is in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleSplit {
    /// Training samples, ascending.
    pub training: Vec<usize>,
    /// Test samples, ascending.
    pub test: Vec<usize>,
}

impl SampleSplit {
    /// Draws `training_count` and `test_count` of `available` samples.
    ///
    /// The training samples are the first of a random order and the test samples the last of it.
    /// With the same random numbers, the test samples do not depend on the number of training
    /// samples, and a smaller training set is a subset of a larger one.
    ///
    /// # Errors
    /// [`LabelledError::TooFew`] when fewer samples are available.
    pub fn draw(
        available: usize,
        training_count: usize,
        test_count: usize,
        rng: &mut impl Rng,
    ) -> Result<Self, LabelledError> {
        if training_count.checked_add(test_count).is_none_or(|count| count > available) {
            return Err(LabelledError::TooFew { training_count, test_count, available });
        }
        let mut order: Vec<usize> = (0..available).collect();
        order.shuffle(rng);
        let mut test = order.split_off(available - test_count);
        order.truncate(training_count);
        let mut training = order;
        training.sort_unstable();
        test.sort_unstable();
        Ok(Self { training, test })
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{RowMatrix, simd, stream};
    use proptest::prelude::*;

    use super::{ClassTargets, InputScaling, Labelled, LabelledError, SampleSplit};
    use crate::dataset::DatasetError;

    fn matrix(rows: usize, columns: usize, values: &[f64]) -> RowMatrix {
        RowMatrix::new(rows, columns, values.to_vec()).unwrap()
    }

    #[test]
    fn targets_are_signs_or_indicators() {
        let samples = Labelled::new(matrix(3, 1, &[0.0, 1.0, 5.0]), vec![0, 1, 2], 3).unwrap();
        let scaling = InputScaling::new(samples.inputs()).unwrap();
        let parity = samples.dataset(ClassTargets::Parity, &scaling).unwrap();
        assert_eq!(parity.targets(), [1.0, -1.0, 1.0]);
        assert_eq!(parity.output_dim(), 1);
        let one_hot = samples.dataset(ClassTargets::OneHot, &scaling).unwrap();
        assert_eq!(one_hot.targets(), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(one_hot.output_dim(), 3);
        let some = samples.select(&[2, 0]);
        assert_eq!((some.inputs().values(), some.labels()), ([5.0, 0.0].as_slice(), &[2, 0][..]));
    }

    #[test]
    fn labels_must_fit() {
        let new = |labels: &[u8]| Labelled::new(RowMatrix::zeros(2, 1), labels.to_vec(), 2);
        let expected = LabelledError::LengthMismatch { inputs: 2, labels: 1 };
        assert_eq!(new(&[0]), Err(expected));
        let expected = LabelledError::Label { sample: 1, label: 2, class_count: 2 };
        assert_eq!(new(&[0, 2]), Err(expected));
    }

    #[test]
    fn inputs_that_have_no_scale_are_refused() {
        let error = |rows, values: &[f64]| {
            InputScaling::new(&matrix(rows, values.len().checked_div(rows).unwrap_or(3), values))
                .unwrap_err()
        };
        assert_eq!(error(0, &[]), DatasetError::Empty.into());
        assert_eq!(
            error(2, &[1.0, 2.0, 3.0, f64::INFINITY]),
            DatasetError::NotFinite { sample: 1, value: f64::INFINITY }.into()
        );
        let is_spread = |error| matches!(error, LabelledError::Spread { .. });
        assert!(is_spread(error(1, &[1.0, 2.0])));
        assert!(is_spread(error(2, &[1.0, 2.0, 1.0, 2.0])));
        assert!(is_spread(error(2, &[f64::MAX, -f64::MAX])));
        assert!(is_spread(error(2, &[f64::MIN_POSITIVE, 0.0])));
        assert!(is_spread(error(2, &[])));
    }

    proptest! {
        #[test]
        fn scaled_training_inputs_have_mean_zero_and_squared_norm_d(
            rows in 2..20_usize,
            dim in 1..6_usize,
            values in prop::collection::vec(0_u8.., 120),
        ) {
            let inputs = RowMatrix::from_fn(rows, dim, |i, j| f64::from(values[i * dim + j]));
            let Ok(scaling) = InputScaling::new(&inputs) else {
                prop_assert!((1..rows).all(|i| inputs.row(i) == inputs.row(0)));
                return Ok(());
            };
            let scaled = scaling.apply(&inputs);
            // Entries are at most √(nd) ≤ 11. Each has a few rounding errors of its own, and at
            // most 256 ε from the mean, whose terms are equally large.
            for j in 0..dim {
                let sum: f64 = (0..rows).map(|i| scaled.row(i)[j]).sum();
                prop_assert!(sum.abs() < 1e-10, "{}", sum);
            }
            let squared = simd::norm_squared(scaled.values()) / rows as f64;
            prop_assert!((squared - dim as f64).abs() < 1e-10, "{}", squared);
        }

        #[test]
        fn training_and_test_samples_are_distinct_and_nested(
            (available, training, test) in (0..50_usize).prop_flat_map(|available| {
                (Just(available), 0..=available).prop_flat_map(|(available, training)| {
                    (Just(available), Just(training), 0..=available - training)
                })
            }),
            seed in 0..3_u64,
        ) {
            let draw = |training: usize| {
                SampleSplit::draw(available, training, test, &mut stream(seed, "split", 0))
            };
            let split = draw(training).unwrap();
            prop_assert_eq!((split.training.len(), split.test.len()), (training, test));
            let mut all = [split.training.clone(), split.test.clone()].concat();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), training + test);
            prop_assert!(all.iter().all(|sample| *sample < available));
            prop_assert!(split.training.is_sorted() && split.test.is_sorted());
            let fewer = draw(training / 2).unwrap();
            prop_assert_eq!(fewer.test, split.test);
            prop_assert!(fewer.training.iter().all(|sample| split.training.contains(sample)));
            let too_many = available - test + 1;
            let expected =
                LabelledError::TooFew { training_count: too_many, test_count: test, available };
            prop_assert_eq!(draw(too_many), Err(expected));
            prop_assert!(draw(usize::MAX).is_err());
        }
    }
}
