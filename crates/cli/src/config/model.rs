//! `[model]`: what is trained.

use std::path::Path;

use flatmin_host::read_small;
use flatmin_models::{Activation, DiagonalLinear, Mlp, SizeError, TwoLayerRelu};
use serde::Serialize;
use toml::de::DeTable;

use super::table::{ConfigError, Table};
use super::{Config, LARGEST, MOST, TABLES, folder, parse_text, size, utf8};
use crate::failure::Failure;

/// `[model]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum ModelConfig {
    /// A two-layer ReLU network.
    TwoLayerRelu { width: usize, input_dim: Option<usize> },
    /// A diagonal linear network.
    DiagonalLinear { input_dim: Option<usize> },
    /// A multilayer perceptron, with the widths of its hidden layers.
    Perceptron {
        widths: Vec<usize>,
        #[serde(serialize_with = "activation_name")]
        activation: Activation,
        biases: bool,
        input_dim: Option<usize>,
    },
}

/// One of the models, sized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AnyModel {
    Relu(TwoLayerRelu),
    Diagonal(DiagonalLinear),
    Perceptron(Mlp),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Relu,
    Diagonal,
    Perceptron,
}

const MODELS: &[(&str, Kind)] = &[
    ("two-layer-relu", Kind::Relu),
    ("diagonal-linear", Kind::Diagonal),
    ("perceptron", Kind::Perceptron),
];

const NAMES: &str = "two-layer-relu, diagonal-linear or perceptron";

/// The activation functions by name.
pub(crate) const ACTIVATIONS: &[(&str, Activation)] = &[
    ("tanh", Activation::Tanh),
    ("relu", Activation::Relu),
    ("gelu", Activation::Gelu),
    ("identity", Activation::Identity),
];

/// The name of an activation function.
pub(crate) fn name_of(activation: Activation) -> &'static str {
    ACTIVATIONS.iter().find(|(_, other)| *other == activation).map_or("", |(name, _)| name)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn activation_name<S: serde::Serializer>(
    activation: &Activation,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name_of(*activation))
}

impl ModelConfig {
    /// Reads the `[model]` of a file that holds nothing else, or of a whole configuration, which is
    /// checked and given too.
    pub(crate) fn read(path: &Path) -> Result<(Self, Option<Config>), Failure> {
        Self::from_bytes(read_small(path, LARGEST, "a TOML file")?, path)
    }

    /// The same from the bytes of the file at `path`.
    pub(crate) fn from_bytes(
        bytes: Vec<u8>,
        path: &Path,
    ) -> Result<(Self, Option<Config>), Failure> {
        let text = utf8(bytes, path)?;
        let parse = |root: &DeTable<'_>| {
            if root.keys().any(|key| key.get_ref() != "model") {
                let config = Config::parse(&text, root, folder(path))?;
                return Ok((config.model.clone(), Some(config)));
            }
            Ok((model(&Table::root(&text, root, &["model"], TABLES)?)?, None))
        };
        parse_text(&text)
            .and_then(|root| parse(&root))
            .map_err(|error| Failure::input(path, error.to_string()))
    }

    /// Its name in a configuration.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::TwoLayerRelu { .. } => "two-layer-relu",
            Self::DiagonalLinear { .. } => "diagonal-linear",
            Self::Perceptron { .. } => "perceptron",
        }
    }

    /// The dimension of its inputs, where it is said.
    pub(crate) fn input_dim(&self) -> Option<usize> {
        match self {
            Self::TwoLayerRelu { input_dim, .. }
            | Self::DiagonalLinear { input_dim }
            | Self::Perceptron { input_dim, .. } => *input_dim,
        }
    }

    /// That data with inputs and targets of these dimensions fit; the reason if they do not.
    pub(crate) fn check_dimensions(
        &self,
        input_dim: usize,
        output_dim: usize,
    ) -> Result<(), String> {
        if let Some(said) = self.input_dim().filter(|said| *said != input_dim) {
            return Err(format!("x has {input_dim} columns, but input_dim in [model] is {said}"));
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

    /// The model on inputs and with outputs of these dimensions.
    pub(crate) fn sized(&self, input_dim: usize, output_dim: usize) -> Result<AnyModel, SizeError> {
        Ok(match self {
            Self::TwoLayerRelu { width, .. } => {
                AnyModel::Relu(TwoLayerRelu::new(*width, input_dim)?)
            }
            Self::DiagonalLinear { .. } => AnyModel::Diagonal(DiagonalLinear::new(input_dim)?),
            Self::Perceptron { widths, activation, biases, .. } => {
                let all = [&[input_dim], widths.as_slice(), &[output_dim]].concat();
                AnyModel::Perceptron(Mlp::new(&all, *activation, *biases)?)
            }
        })
    }
}

pub(super) fn model(root: &Table<'_>) -> Result<ModelConfig, ConfigError> {
    let table = root.table("model")?;
    let table =
        table.ok_or_else(|| root.missing("[model]", &format!("a table with its kind, {NAMES}")))?;
    let kind = table.choice("kind", MODELS)?;
    let kind = kind.ok_or_else(|| table.missing("kind", NAMES))?;
    let input_dim = size(&table, "input_dim", 1)?;
    if kind != Kind::Relu {
        let reason = match kind {
            Kind::Perceptron => "is for two-layer-relu only: a perceptron has widths, a list",
            _ => "is for two-layer-relu only: leave it out",
        };
        table.refuse("width", reason)?;
    }
    if kind != Kind::Perceptron {
        for key in ["widths", "activation", "biases"] {
            table.refuse(key, "is for perceptron only: leave it out")?;
        }
    }
    Ok(match kind {
        Kind::Relu => {
            let width = size(&table, "width", 1)?;
            let width = width.ok_or_else(|| table.missing("width", "the number of neurons"))?;
            ModelConfig::TwoLayerRelu { width, input_dim }
        }
        Kind::Diagonal => ModelConfig::DiagonalLinear { input_dim },
        Kind::Perceptron => {
            let widths = table.integers("widths", 1, MOST)?;
            let widths = widths.ok_or_else(|| {
                table.missing("widths", "the widths of its hidden layers, for example [64, 64]")
            })?;
            let widths = widths.into_iter().map(|w| usize::try_from(w).unwrap_or(usize::MAX));
            let activation = table.choice("activation", ACTIVATIONS)?;
            let activation = activation
                .ok_or_else(|| table.missing("activation", "tanh, relu, gelu or identity"))?;
            let biases = table.boolean("biases")?.unwrap_or(true);
            ModelConfig::Perceptron { widths: widths.collect(), activation, biases, input_dim }
        }
    })
}
