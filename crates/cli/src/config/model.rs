//! `[model]`: the model that is trained or measured.

use flatmin_models::{Activation, DiagonalLinear, MatrixSensing, Mlp, SizeError, TwoLayerRelu};
use serde::{Deserialize, Serialize};

use super::document::{ConfigError, Document};
use super::value::Size;
use crate::network::Network;

/// The table `[model]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, [model]")]
pub(super) struct ModelTable {
    kind: Option<ModelKind>,
    width: Option<Size>,
    widths: Option<Vec<Size>>,
    activation: Option<Activation>,
    biases: Option<bool>,
    rows: Option<Size>,
    columns: Option<Size>,
    factor_count: Option<Size>,
    input_dim: Option<Size>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ModelKind {
    TwoLayerRelu,
    DiagonalLinear,
    MatrixSensing,
    Perceptron,
}

/// A checked `[model]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum ModelConfig {
    /// A two-layer ReLU network.
    TwoLayerRelu { width: usize, input_dim: Option<usize> },
    /// A diagonal linear network.
    DiagonalLinear { input_dim: Option<usize> },
    /// Matrix sensing: the sizes d₁ × d₂ of the matrix, and the number k of columns of its factors.
    MatrixSensing { rows: usize, columns: usize, factor_count: usize },
    /// A multilayer perceptron, with the widths of its hidden layers.
    Perceptron {
        widths: Vec<usize>,
        activation: Activation,
        biases: bool,
        input_dim: Option<usize>,
    },
}

impl ModelConfig {
    /// Checks the table `[model]` of a document.
    pub(super) fn new(
        document: &Document<'_>,
        table: Option<ModelTable>,
    ) -> Result<Self, ConfigError> {
        let names = "two-layer-relu, diagonal-linear, matrix-sensing or perceptron";
        let what = format!("a table with its kind, {names}");
        let table = document.root().need("[model]", table, &what)?;
        let section = document.section("model");
        let kind = section.need("kind", table.kind, names)?;
        let input_dim = table.input_dim.map(Size::size);
        let refuse_widths = || {
            let keys = ["widths", "activation", "biases"];
            section.refuse(&keys, "is for perceptron only: leave it out")
        };
        if !matches!(kind, ModelKind::MatrixSensing) {
            let keys = ["rows", "columns", "factor_count"];
            section.refuse(&keys, "is for matrix-sensing only: leave it out")?;
        }
        Ok(match kind {
            ModelKind::TwoLayerRelu => {
                refuse_widths()?;
                let width = section.need("width", table.width, "the number of neurons")?;
                Self::TwoLayerRelu { width: width.size(), input_dim }
            }
            ModelKind::DiagonalLinear => {
                section.refuse(&["width"], "is for two-layer-relu only: leave it out")?;
                refuse_widths()?;
                Self::DiagonalLinear { input_dim }
            }
            ModelKind::MatrixSensing => {
                section.refuse(&["width"], "is for two-layer-relu only: leave it out")?;
                refuse_widths()?;
                let reason = "is rows × columns for matrix-sensing: leave it out";
                section.refuse(&["input_dim"], reason)?;
                let rows = section.need("rows", table.rows, "the number of rows of the matrix")?;
                let what = "the number of columns of the matrix";
                let columns = section.need("columns", table.columns, what)?;
                let what = "the number of columns of its two factors";
                let factor_count = section.need("factor_count", table.factor_count, what)?;
                let [rows, columns, factor_count] = [rows, columns, factor_count].map(Size::size);
                Self::MatrixSensing { rows, columns, factor_count }
            }
            ModelKind::Perceptron => {
                let reason = "is for two-layer-relu only: a perceptron has widths, a list";
                section.refuse(&["width"], reason)?;
                let what = "the widths of its hidden layers, for example [64, 64]";
                let widths = section.need("widths", table.widths, what)?;
                let widths = widths.into_iter().map(Size::size).collect();
                let what = "tanh, relu, gelu or identity";
                let activation = section.need("activation", table.activation, what)?;
                let biases = table.biases.unwrap_or(true);
                Self::Perceptron { widths, activation, biases, input_dim }
            }
        })
    }

    /// The name of the kind of model.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::TwoLayerRelu { .. } => "two-layer-relu",
            Self::DiagonalLinear { .. } => "diagonal-linear",
            Self::MatrixSensing { .. } => "matrix-sensing",
            Self::Perceptron { .. } => "perceptron",
        }
    }

    /// The dimension of the inputs, if it is given.
    pub(crate) fn input_dim(&self) -> Option<usize> {
        match self {
            Self::TwoLayerRelu { input_dim, .. }
            | Self::DiagonalLinear { input_dim }
            | Self::Perceptron { input_dim, .. } => *input_dim,
            Self::MatrixSensing { rows, columns, .. } => Some(rows.saturating_mul(*columns)),
        }
    }

    /// Checks that the model takes data with inputs and targets of these dimensions.
    ///
    /// # Errors
    /// The reason why it does not.
    pub(crate) fn check_dimensions(
        &self,
        input_dim: usize,
        output_dim: usize,
    ) -> Result<(), String> {
        if let Some(said) = self.input_dim().filter(|said| *said != input_dim) {
            let name = match self {
                Self::MatrixSensing { .. } => "rows × columns",
                _ => "input_dim",
            };
            return Err(format!("x has {input_dim} columns, but {name} in [model] is {said}"));
        }
        if output_dim != 1 && !matches!(self, Self::Perceptron { .. }) {
            return Err(format!(
                "y has {output_dim} columns, but a {} has one output: give it one of them, or take \
                 kind = \"perceptron\" in [model]",
                self.kind()
            ));
        }
        Ok(())
    }

    /// The model for inputs and outputs of these dimensions.
    pub(crate) fn sized(
        &self,
        input_dim: usize,
        output_dim: usize,
    ) -> Result<Box<dyn Network>, SizeError> {
        Ok(match self {
            Self::TwoLayerRelu { width, .. } => Box::new(TwoLayerRelu::new(*width, input_dim)?),
            Self::DiagonalLinear { .. } => Box::new(DiagonalLinear::new(input_dim)?),
            Self::MatrixSensing { rows, columns, factor_count } => {
                Box::new(MatrixSensing::new(*rows, *columns, *factor_count)?)
            }
            Self::Perceptron { widths, activation, biases, .. } => {
                let all = [&[input_dim], widths.as_slice(), &[output_dim]].concat();
                Box::new(Mlp::new(&all, *activation, *biases)?)
            }
        })
    }
}
