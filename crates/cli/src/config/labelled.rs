//! `[data]` with a class for each input: the built-in digits, or images and labels from files.

use std::path::{Path, PathBuf};

use flatmin_models::data::ClassTargets;
use serde::{Serialize, Serializer};

use super::table::{ConfigError, Table};
use super::{TARGETS, size};

/// Labelled inputs, as they were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LabelledConfig {
    pub(crate) source: LabelledSource,
    #[serde(serialize_with = "target_name")]
    pub(crate) targets: ClassTargets,
    /// `None`: all that are not for testing.
    pub(crate) sample_count: Option<usize>,
    /// `None`: all of the test files, or none where there are no such files.
    pub(crate) test_count: Option<usize>,
}

/// Where they come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LabelledSource {
    /// The digits that are built in.
    Digits,
    /// Files for training, and perhaps others for testing.
    Files {
        #[serde(skip)]
        training: LabelledFiles,
        #[serde(skip)]
        test: Option<LabelledFiles>,
    },
}

/// A file with images and one with their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelledFiles {
    pub(crate) images: PathBuf,
    pub(crate) labels: PathBuf,
}

/// Keys that are for files only.
const FILE_KEYS: [&str; 5] = ["images", "labels", "targets", "test_images", "test_labels"];

/// Keys that are for synthetic data only.
const SYNTHETIC_KEYS: [&str; 3] = ["teacher", "teacher_width", "nonzero"];

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn target_name<S: Serializer>(targets: &ClassTargets, serializer: S) -> Result<S::Ok, S::Error> {
    let name = TARGETS.iter().find(|(_, value)| value == targets).map_or("", |(name, _)| *name);
    serializer.serialize_str(name)
}

impl LabelledConfig {
    /// Reads `[data]`; `None` when it is about synthetic data. Paths are relative to `folder`.
    pub(super) fn parse(table: &Table<'_>, folder: &Path) -> Result<Option<Self>, ConfigError> {
        let refuse =
            |keys: &[&str], reason: &str| keys.iter().try_for_each(|key| table.refuse(key, reason));
        let source = if table.has("digits") {
            refuse(&SYNTHETIC_KEYS, "is for synthetic data only, digits are real: leave it out")?;
            refuse(&FILE_KEYS, "is for images from files, digits are built in: leave it out")?;
            LabelledSource::Digits
        } else if table.has("images") {
            refuse(&SYNTHETIC_KEYS, "is for synthetic data only, not for images: leave it out")?;
            let file = |key: &str, what: &str| path(table, key, what, folder);
            let images = file("images", "a file with images")?;
            let labels = file("labels", "a file with a label for each image")?;
            let test = if table.has("test_images") || table.has("test_labels") {
                let images = file("test_images", "the images of test_labels")?;
                let labels = file("test_labels", "the labels of test_images")?;
                Some(LabelledFiles { images, labels })
            } else {
                None
            };
            LabelledSource::Files { training: LabelledFiles { images, labels }, test }
        } else {
            refuse(&FILE_KEYS, "goes with images, a file: name it or leave this out")?;
            return Ok(None);
        };
        let is_digits = source == LabelledSource::Digits;
        let key = if is_digits { "digits" } else { "targets" };
        let targets = table.choice(key, TARGETS)?;
        let targets = targets.ok_or_else(|| table.missing(key, "\"parity\" or \"one-hot\""))?;
        // A single image leaves its scale open.
        let sample_count = size(table, "sample_count", 2)?;
        if is_digits && sample_count.is_none() {
            return Err(table.missing("sample_count", "the number of training samples"));
        }
        let has_test_files = matches!(&source, LabelledSource::Files { test: Some(_), .. });
        let test_count = size(table, "test_count", u64::from(has_test_files))?;
        Ok(Some(Self { source, targets, sample_count, test_count }))
    }

    /// Whether a seed decides which samples are taken.
    pub(super) fn is_random(&self) -> bool {
        self.sample_count.is_some() || self.test_count.is_some_and(|count| count > 0)
    }

    /// Whether there are samples for testing.
    pub(super) fn has_test(&self) -> bool {
        match (&self.source, self.test_count) {
            (LabelledSource::Files { test: Some(_), .. }, _) => true,
            (_, count) => count.is_some_and(|count| count > 0),
        }
    }
}

fn path(table: &Table<'_>, key: &str, what: &str, folder: &Path) -> Result<PathBuf, ConfigError> {
    match table.text(key, "the path of a file")? {
        Some("") => Err(table.error(key, &format!("{key} is empty, expected a path"))),
        Some(path) => Ok(folder.join(path)),
        None => Err(table.missing(key, what)),
    }
}
