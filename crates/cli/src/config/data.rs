//! `data` and `[data]`: what a model is trained and tested on.

use std::path::{Path, PathBuf};

use flatmin_models::data::ClassTargets;
use serde::{Deserialize, Serialize};

use super::document::{ConfigError, Document, Section};
use super::model::ModelConfig;
use super::value::{FilePath, MAX_SIZE, Size, TextOr};

/// `data` as it is written: the path of a file or a table.
pub(super) type DataSetting = TextOr<FilePath, DataTable>;

/// The table `[data]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataTable {
    teacher: Option<TeacherKind>,
    teacher_width: Option<Size>,
    nonzero: Option<Size>,
    digits: Option<ClassTargets>,
    images: Option<FilePath>,
    labels: Option<FilePath>,
    targets: Option<ClassTargets>,
    test_images: Option<FilePath>,
    test_labels: Option<FilePath>,
    sample_count: Option<Size>,
    test_count: Option<Size<0>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TeacherKind {
    TwoLayerRelu,
    SparseLinear,
}

/// The data of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DataConfig {
    File(#[serde(skip)] PathBuf),
    Synthetic { teacher: Teacher, sample_count: usize, test_count: usize },
    Labelled(LabelledConfig),
}

/// The function that labels synthetic inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "teacher", rename_all = "snake_case")]
pub(crate) enum Teacher {
    /// A small network, on inputs from a sphere.
    TwoLayerRelu { width: usize },
    /// A linear function with a few coefficients 1 and the others 0, on inputs from a cube.
    SparseLinear { nonzero: usize },
}

/// Inputs with a class each: the built-in digits, or images and labels from files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LabelledConfig {
    pub(crate) source: LabelledSource,
    pub(crate) targets: ClassTargets,
    /// `None`: all samples that are not for testing.
    pub(crate) sample_count: Option<usize>,
    /// `None`: all samples of the test files, or none without such files.
    pub(crate) test_count: Option<usize>,
}

/// The source of labelled inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LabelledSource {
    /// The built-in digits.
    Digits,
    /// Files for training, and optionally others for testing.
    Files {
        #[serde(skip)]
        training: LabelledFiles,
        #[serde(skip)]
        test: Option<LabelledFiles>,
    },
}

/// A file with images and a file with their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelledFiles {
    pub(crate) images: PathBuf,
    pub(crate) labels: PathBuf,
}

/// Keys that are for images from files only.
const FILE_KEYS: [&str; 5] = ["images", "labels", "targets", "test_images", "test_labels"];

/// Keys that are for synthetic data only.
const SYNTHETIC_KEYS: [&str; 3] = ["teacher", "teacher_width", "nonzero"];

impl DataConfig {
    /// Checks `data`, or the table `[data]`, for a model. Paths are relative to `folder`.
    pub(super) fn new(
        document: &Document<'_>,
        setting: Option<DataSetting>,
        model: &ModelConfig,
        folder: &Path,
    ) -> Result<Self, ConfigError> {
        let what = "a file with arrays x and y, data = \"FILE.npz\", or a table [data]";
        let table = match document.root().need("data", setting, what)? {
            TextOr::Text(FilePath(path)) => return Ok(Self::File(folder.join(path))),
            TextOr::Table(table) => table,
        };
        let section = document.section("data");
        if section.has("digits") || section.has("images") {
            return Ok(Self::Labelled(LabelledConfig::new(section, table, folder)?));
        }
        section.refuse(&FILE_KEYS, "goes with images, a file: name it or leave this out")?;
        let what = "\"two-layer-relu\" or \"sparse-linear\", or one of digits and images";
        let kind = section.need("teacher", table.teacher, what)?;
        let Some(input_dim) = model.input_dim() else {
            let reason = "synthetic data needs input_dim in [model], the dimension of the inputs";
            return Err(document.root().error("data", reason));
        };
        let teacher = match kind {
            TeacherKind::TwoLayerRelu => {
                section
                    .refuse(&["nonzero"], "is for the sparse-linear teacher only: leave it out")?;
                let what = "the neurons of the teacher";
                let width = section.need("teacher_width", table.teacher_width, what)?.size();
                Teacher::TwoLayerRelu { width }
            }
            TeacherKind::SparseLinear => {
                let reason = "is for the two-layer-relu teacher only: leave it out";
                section.refuse(&["teacher_width"], reason)?;
                let what = "the number of ones among the coefficients";
                let nonzero = section.need("nonzero", table.nonzero, what)?.size();
                if nonzero > input_dim {
                    let reason = format!("nonzero is {nonzero}, more than input_dim, {input_dim}");
                    return Err(section.error("nonzero", &reason));
                }
                Teacher::SparseLinear { nonzero }
            }
        };
        let what = "the number of training samples";
        let sample_count = section.need("sample_count", table.sample_count, what)?.size();
        let test_count = table.test_count.map_or(0, Size::size);
        Ok(Self::Synthetic { teacher, sample_count, test_count })
    }
}

impl LabelledConfig {
    /// Checks a table `[data]` with `digits` or `images`.
    fn new(section: Section<'_>, table: DataTable, folder: &Path) -> Result<Self, ConfigError> {
        let is_digits = section.has("digits");
        let (reason, source, targets) = if is_digits {
            let reason = "is for images from files, digits are built in: leave it out";
            section.refuse(&FILE_KEYS, reason)?;
            ("digits are real: leave it out", LabelledSource::Digits, table.digits)
        } else {
            let file = |key: &str, file: Option<FilePath>, what: &str| {
                section.need(key, file, what).map(|FilePath(path)| folder.join(path))
            };
            let images = file("images", table.images, "a file with images")?;
            let labels = file("labels", table.labels, "a file with a label for each image")?;
            let training = LabelledFiles { images, labels };
            let test = if table.test_images.is_some() || table.test_labels.is_some() {
                let images = file("test_images", table.test_images, "the images of test_labels")?;
                let labels = file("test_labels", table.test_labels, "the labels of test_images")?;
                Some(LabelledFiles { images, labels })
            } else {
                None
            };
            (
                "not for images: leave it out",
                LabelledSource::Files { training, test },
                table.targets,
            )
        };
        section.refuse(&SYNTHETIC_KEYS, &format!("is for synthetic data only, {reason}"))?;
        let targets = section.need("targets", targets, "\"parity\" or \"one-hot\"")?;
        let sample_count = table.sample_count.map(Size::size);
        if is_digits {
            section.need("sample_count", sample_count, "the number of training samples")?;
        }
        let test_count = table.test_count.map(Size::size);
        let has_test_files = matches!(source, LabelledSource::Files { test: Some(_), .. });
        // A single image does not determine the scale of the inputs.
        for (key, count, least) in [
            ("sample_count", sample_count, 2),
            ("test_count", test_count, usize::from(has_test_files)),
        ] {
            if let Some(count) = count.filter(|count| *count < least) {
                let expected = format!("expected a whole number from {least} to {MAX_SIZE}");
                return Err(section.error(key, &format!("{key} is {count}, {expected}")));
            }
        }
        Ok(Self { source, targets, sample_count, test_count })
    }

    /// True if the seed decides which samples are taken.
    pub(super) fn is_random(&self) -> bool {
        self.sample_count.is_some() || self.test_count.is_some_and(|count| count > 0)
    }

    /// True if there are samples for testing.
    pub(super) fn has_test(&self) -> bool {
        match (&self.source, self.test_count) {
            (LabelledSource::Files { test: Some(_), .. }, _) => true,
            (_, count) => count.is_some_and(|count| count > 0),
        }
    }
}
