//! `[loss]`: the loss that is trained.

use flatmin_models::Loss;
use flatmin_models::data::ClassTargets;
use serde::{Deserialize, Serialize};

use super::data::{DataConfig, LabelledConfig};
use super::document::{ConfigError, Document};
use super::model::ModelConfig;
use super::value::Size;
use crate::column::Column;

/// The table `[loss]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, [loss]")]
pub(super) struct LossTable {
    kind: Option<LossKind>,
    label_smoothing: Option<f64>,
    classes: Option<Size<2>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LossKind {
    Squared,
    CrossEntropy,
}

/// A checked `[loss]`. The default is the squared loss.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct LossConfig {
    pub(crate) loss: Loss,
    /// The number of classes; `None`: one more than the largest label of the training data.
    pub(crate) classes: Option<usize>,
}

impl LossConfig {
    /// Checks the table `[loss]` of a document, for a model and data.
    pub(super) fn new(
        document: &Document<'_>,
        table: Option<LossTable>,
        model: &ModelConfig,
        data: &DataConfig,
    ) -> Result<Self, ConfigError> {
        let Some(table) = table else { return Ok(Self::default()) };
        let section = document.section("loss");
        if section.need("kind", table.kind, "squared or cross-entropy")? == LossKind::Squared {
            let reason = "is for kind = \"cross-entropy\" only: leave it out";
            section.refuse(&["label_smoothing", "classes"], reason)?;
            return Ok(Self::default());
        }
        let refuse =
            |reason: &str| Err(section.error("kind", &format!("kind \"cross-entropy\" {reason}")));
        if !matches!(model, ModelConfig::Perceptron { .. }) {
            return refuse("is for perceptrons only, which have an output for each class");
        }
        match data {
            DataConfig::File(_) => {}
            DataConfig::Synthetic { .. } => {
                return refuse("needs data with classes: a teacher gives numbers");
            }
            DataConfig::Labelled(LabelledConfig { targets: ClassTargets::Parity, .. }) => {
                return refuse(
                    "needs a target for each class: take \"one-hot\" for \"parity\" in [data]",
                );
            }
            DataConfig::Labelled(_) => {
                let reason = "is for a file of data only: images and digits say how many there are";
                section.refuse(&["classes"], reason)?;
            }
        }
        let loss = Loss::cross_entropy(table.label_smoothing.unwrap_or(0.0))
            .map_err(|error| section.error("label_smoothing", &error.to_string()))?;
        Ok(Self { loss, classes: table.classes.map(Size::size) })
    }

    /// True if the column makes sense for the loss.
    pub(crate) fn has(&self, column: Column) -> bool {
        matches!(self.loss, Loss::CrossEntropy(_)) || !column.is_accuracy()
    }
}
