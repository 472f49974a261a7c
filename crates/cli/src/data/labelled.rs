//! Data sets of labelled inputs: the built-in digits, or images and labels from files.

use std::path::Path;

use flatmin_arrays::{Array, ArrayFile, MAX_VALUES};
use flatmin_host::shown;
use flatmin_linalg::{RowMatrix, stream};
use flatmin_models::Dataset;
use flatmin_models::data::digits::{self, DigitsSplit};
use flatmin_models::data::{ClassTargets, InputScaling, Labelled, SampleSplit, Split};

use crate::config::{LabelledConfig, LabelledFiles, LabelledSource};
use crate::failure::Failure;
use crate::words::{shape_words, whole};

/// The training data and, if there are any, the test data of the configuration at `path`.
pub(super) fn datasets(
    path: &Path,
    config: &LabelledConfig,
    seed: u64,
) -> Result<(Dataset, Option<Dataset>), Failure> {
    match &config.source {
        LabelledSource::Digits => built_in(config, seed)
            .map_err(|reason| Failure::input(path, format!("digits in [data]: {reason}"))),
        LabelledSource::Files { training, test } => {
            from_files(config, training, test.as_ref(), seed)
        }
    }
}

fn built_in(config: &LabelledConfig, seed: u64) -> Result<(Dataset, Option<Dataset>), String> {
    let test_count = config.test_count.unwrap_or(0);
    let training_count =
        config.sample_count.unwrap_or(digits::SAMPLE_COUNT.saturating_sub(test_count));
    let split = DigitsSplit { training_count, test_count, seed };
    let digits = digits::digits().map_err(|error| error.to_string())?;
    let make =
        |part| digits.dataset(config.targets, part, split).map_err(|error| error.to_string());
    let test = if test_count > 0 { Some(make(Split::Test)?) } else { None };
    Ok((make(Split::Training)?, test))
}

fn from_files(
    config: &LabelledConfig,
    training: &LabelledFiles,
    test: Option<&LabelledFiles>,
    seed: u64,
) -> Result<(Dataset, Option<Dataset>), Failure> {
    let mut training = LabelledImages::new(training)?;
    let mut test = test.map(LabelledImages::new).transpose()?;
    // All labels count, so that the number of classes does not depend on how many samples are
    // taken.
    let labels = training.labels.iter().chain(test.iter().flat_map(|test| &test.labels));
    let class_count = 1 + usize::from(labels.copied().max().unwrap_or(0));

    let available = training.labels.len();
    let drawn_test = if test.is_some() { 0 } else { config.test_count.unwrap_or(0) };
    let count = config.sample_count.unwrap_or(available.saturating_sub(drawn_test));
    let split = training.draw(count, drawn_test, seed, 0)?;
    let samples = training.select(&split.training, class_count, config.targets)?;
    let scaling =
        InputScaling::new(samples.inputs()).map_err(Failure::at(&training.files.images))?;
    let dataset = |files: &LabelledFiles, samples: &Labelled| {
        let dataset = samples.dataset(config.targets, &scaling);
        dataset.map_err(Failure::at(&files.images))
    };
    let test = match &mut test {
        Some(test) => {
            if test.dim != training.dim {
                let (found, expected) = (test.dim, training.dim);
                let reason = format!("has {found} values an image, the training data {expected}");
                return Err(Failure::input(&test.files.images, reason));
            }
            let count = config.test_count.unwrap_or(test.labels.len());
            let split = test.draw(0, count, seed, 1)?;
            let samples = test.select(&split.test, class_count, config.targets)?;
            Some(dataset(test.files, &samples)?)
        }
        None if drawn_test > 0 => {
            let samples = training.select(&split.test, class_count, config.targets)?;
            Some(dataset(training.files, &samples)?)
        }
        None => None,
    };
    Ok((dataset(training.files, &samples)?, test))
}

/// Images whose numbers have not been read yet, with their labels.
struct LabelledImages<'a> {
    files: &'a LabelledFiles,
    images: Array,
    /// Number of values of an image.
    dim: usize,
    labels: Vec<u8>,
}

impl<'a> LabelledImages<'a> {
    fn new(files: &'a LabelledFiles) -> Result<Self, Failure> {
        let images = ArrayFile::open(&files.images)?.array(None, &["images", "x"])?;
        let [n, ref rest @ ..] = *images.shape() else {
            let reason =
                "is a single number, expected n × d or n × rows × columns, an image per row";
            return Err(Failure::input(&files.images, reason));
        };
        let dim = rest.iter().product();
        if rest.is_empty() || dim == 0 {
            let found = shape_words(images.shape());
            let reason = format!("is {found}, expected n × d or n × rows × columns");
            return Err(Failure::input(&files.images, reason));
        }
        let labels = labels(files, n)?;
        Ok(Self { files, images, dim, labels })
    }

    fn draw(
        &self,
        training_count: usize,
        test_count: usize,
        seed: u64,
        index: u64,
    ) -> Result<SampleSplit, Failure> {
        let mut rng = stream(seed, "labelled split", index);
        SampleSplit::draw(self.labels.len(), training_count, test_count, &mut rng)
            .map_err(Failure::at(&self.files.images))
    }

    fn select(
        &mut self,
        samples: &[usize],
        class_count: usize,
        targets: ClassTargets,
    ) -> Result<Labelled, Failure> {
        let count = samples.len().saturating_mul(class_count);
        if targets == ClassTargets::OneHot && count > MAX_VALUES {
            let reason = format!(
                "{} samples of {class_count} classes have too many targets (at most {MAX_VALUES}); \
                 set a smaller sample_count in [data]",
                samples.len()
            );
            return Err(Failure::input(&self.files.labels, reason));
        }
        let values = self.images.read_rows(samples)?;
        let inputs = RowMatrix::new(samples.len(), self.dim, values)
            .map_err(Failure::at(&self.files.images))?;
        let labels = samples.iter().map(|sample| self.labels[*sample]).collect();
        Labelled::new(inputs, labels, class_count).map_err(Failure::at(&self.files.images))
    }
}

/// The labels of n images, from 0 to 255.
fn labels(files: &LabelledFiles, n: usize) -> Result<Vec<u8>, Failure> {
    let path = files.labels.as_path();
    let mut array = ArrayFile::open(path)?.array(None, &["labels", "y"])?;
    let ([found] | [found, 1]) = *array.shape() else {
        let reason =
            format!("is {}, expected n, a label for each image", shape_words(array.shape()));
        return Err(Failure::input(path, reason));
    };
    if found != n {
        let images = shown(&files.images);
        let reason = format!("has {found} labels, expected {n}, one for each image of {images}");
        return Err(Failure::input(path, reason));
    }
    let values = array.values()?;
    let label = |(k, value): (usize, f64)| {
        let label = whole(value).and_then(|label| u8::try_from(label).ok());
        label.ok_or_else(|| {
            let expected = "expected a class, a whole number from 0 to 255";
            Failure::input(path, format!("entry {k} is {value}, {expected}"))
        })
    };
    values.into_iter().enumerate().map(label).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use flatmin_models::data::ClassTargets;
    use flatmin_models::data::Split;
    use flatmin_models::data::digits::{self, DigitsSplit};

    use super::datasets;
    use crate::config::{LabelledConfig, LabelledFiles, LabelledSource};

    /// An IDX file of bytes.
    fn idx(lengths: &[u32], numbers: &[u8]) -> Vec<u8> {
        let axes = u8::try_from(lengths.len()).unwrap();
        let lengths = lengths.iter().flat_map(|length| length.to_be_bytes());
        [0, 0, 8, axes].into_iter().chain(lengths).chain(numbers.iter().copied()).collect()
    }

    /// `count` images of 1 × 2 pixels with the labels 0, 1, 2, 3, 0, …; pixel 0 of image k is k.
    fn write(folder: &Path, name: &str, count: u8) -> LabelledFiles {
        let files = LabelledFiles {
            images: folder.join(format!("{name}-images")),
            labels: folder.join(format!("{name}-labels")),
        };
        let pixels: Vec<u8> = (0..count).flat_map(|k| [k, 7]).collect();
        let labels: Vec<u8> = (0..count).map(|k| k % 4).collect();
        fs::write(&files.images, idx(&[count.into(), 1, 2], &pixels)).unwrap();
        fs::write(&files.labels, idx(&[count.into()], &labels)).unwrap();
        files
    }

    #[test]
    fn one_hot_targets_come_with_every_source() {
        let targets = ClassTargets::OneHot;
        let (sample_count, test_count) = (Some(20), Some(30));
        let source = LabelledSource::Digits;
        let config = LabelledConfig { source, targets, sample_count, test_count };
        let (training, test) = datasets("run.toml".as_ref(), &config, 4).unwrap();
        let split = DigitsSplit { training_count: 20, test_count: 30, seed: 4 };
        let digits = digits::digits().unwrap();
        assert_eq!(training, digits.dataset(ClassTargets::OneHot, Split::Training, split).unwrap());
        assert_eq!(
            test.unwrap(),
            digits.dataset(ClassTargets::OneHot, Split::Test, split).unwrap()
        );

        let folder = tempfile::tempdir().unwrap();
        let source = LabelledSource::Files { training: write(folder.path(), "a", 60), test: None };
        let config = LabelledConfig { source, ..config };
        let (training, test) = datasets("run.toml".as_ref(), &config, 4).unwrap();
        let test = test.unwrap();
        assert_eq!((training.sample_count(), training.output_dim()), (20, 4));
        assert_eq!((test.sample_count(), test.output_dim()), (30, 4));
        // Pixel 0 names the image, so that equal ones would be the same image.
        let pixels = |i: usize| training.inputs().row(i)[0].to_bits();
        let seen: Vec<u64> = (0..20).map(pixels).collect();
        assert!((0..30).all(|i| !seen.contains(&test.inputs().row(i)[0].to_bits())));
    }

    #[test]
    fn all_samples_stand_in_the_order_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let source = LabelledSource::Files {
            training: write(folder.path(), "a", 9),
            test: Some(write(folder.path(), "b", 5)),
        };
        let targets = ClassTargets::Parity;
        let config = LabelledConfig { source, targets, sample_count: None, test_count: None };
        let (training, test) = datasets("run.toml".as_ref(), &config, 0).unwrap();
        // The mean of 0, …, 8 is 4, their variance 60/9, and pixel 1 is always the same.
        let factor = (2.0_f64 * 9.0 / 60.0).sqrt();
        for (data, count) in [(training, 9), (test.unwrap(), 5)] {
            assert_eq!(data.sample_count(), count);
            for i in 0..count {
                let [x, y] = *data.inputs().row(i) else { panic!("two pixels") };
                assert!((x - factor * (i as f64 - 4.0)).abs() < 1e-14, "{x}");
                assert_eq!(y.to_bits(), 0.0_f64.to_bits());
                let expected: f64 = if i % 2 == 0 { 1.0 } else { -1.0 };
                assert_eq!(data.targets()[i].to_bits(), expected.to_bits());
            }
        }
    }
}
