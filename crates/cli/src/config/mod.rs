//! The configuration of a training run or a model, a TOML file.
//!
//! `document` reads TOML through serde, `value` has the types of single values, and the other
//! modules those of the tables: each is read as it stands, then checked against the others.

mod data;
mod document;
mod loss;
mod model;
mod run;
mod value;

pub(crate) use self::data::{DataConfig, LabelledConfig, LabelledFiles, LabelledSource, Teacher};
pub(crate) use self::loss::LossConfig;
pub(crate) use self::run::{
    BatchesConfig, COMMENTED, Config, InitialConfig, MetricSteps, config, model,
};
