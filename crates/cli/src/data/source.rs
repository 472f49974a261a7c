//! The data that a configuration names, with the model sized for them.

use std::path::Path;

use flatmin_models::Dataset;
use flatmin_models::data::{Split, relu_dataset, sparse_linear_dataset};

use super::{arrays, labelled};
use crate::config::{Config, DataConfig, LossConfig, Teacher};
use crate::failure::Failure;
use crate::limits::check_matrix;
use crate::network::Network;

/// Training data and test data.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) train: Dataset,
    pub(crate) test: Option<Dataset>,
}

/// The data and the model of the configuration at `path`.
pub(crate) fn data_and_model(
    path: &Path,
    config: &Config,
) -> Result<(Data, Box<dyn Network>), Failure> {
    let data = match &config.data {
        DataConfig::File(file) => from_files(file, config)?,
        DataConfig::Synthetic { teacher, sample_count, test_count } => {
            let make = |count, split| synthetic(path, config, *teacher, (count, split));
            let train = make(("sample_count", *sample_count), Split::Training)?;
            let test = (*test_count > 0).then(|| make(("test_count", *test_count), Split::Test));
            Data { train, test: test.transpose()? }
        }
        DataConfig::Labelled(labelled) => {
            let (train, test) = labelled::datasets(path, labelled, config.seed())?;
            let dim = train.inputs().columns();
            if let Some(said) = config.model.input_dim().filter(|said| *said != dim) {
                let reason =
                    format!("input_dim in [model] is {said}, but the images have {dim} values");
                return Err(Failure::input(path, reason));
            }
            let checked = config.model.check_dimensions(dim, train.output_dim());
            checked.map_err(Failure::at(path))?;
            let with_loss =
                |data: Dataset| data.with_loss(config.loss.loss).map_err(Failure::at(path));
            let (train, test) = (with_loss(train)?, test.map(with_loss).transpose()?);
            Data { train, test }
        }
    };
    let model = config.model.sized(data.train.inputs().columns(), data.train.output_dim());
    Ok((data, model.map_err(Failure::at(path))?))
}

/// Data from a file, and test data from another file if the configuration names one.
fn from_files(file: &Path, config: &Config) -> Result<Data, Failure> {
    let train = arrays::dataset(file, config.loss)?;
    let (dim, outputs) = (train.inputs().columns(), train.output_dim());
    config.model.check_dimensions(dim, outputs).map_err(Failure::at(file))?;
    let Some(file) = &config.test_data else { return Ok(Data { train, test: None }) };
    let test = arrays::dataset(file, LossConfig { classes: Some(outputs), ..config.loss })?;
    for (name, found, expected) in
        [("x", test.inputs().columns(), dim), ("y", test.output_dim(), outputs)]
    {
        if found != expected {
            let reason = format!("{name} has {found} columns, the training data has {expected}");
            return Err(Failure::input(file, reason));
        }
    }
    Ok(Data { train, test: Some(test) })
}

/// One split of the synthetic data of a teacher; `count` has the name of its key.
fn synthetic(
    path: &Path,
    config: &Config,
    teacher: Teacher,
    (count, split): ((&str, usize), Split),
) -> Result<Dataset, Failure> {
    let dim = config.model.input_dim().unwrap_or(1);
    check_matrix(path, count, ("input_dim", dim))?;
    let seed = config.seed();
    let data = match teacher {
        Teacher::TwoLayerRelu { width } => {
            check_matrix(path, ("teacher_width", width), ("input_dim", dim))?;
            check_matrix(path, ("teacher_width", width), count)?;
            relu_dataset(width, dim, count.1, split, seed)
        }
        Teacher::SparseLinear { nonzero } => {
            sparse_linear_dataset(nonzero, dim, count.1, split, seed)
        }
    };
    data.map_err(Failure::at(path))
}
