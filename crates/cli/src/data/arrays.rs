//! Data sets, parameters and orders of samples from array files.

use std::path::Path;

use flatmin_arrays::ArrayFile;
use flatmin_host::short;
use flatmin_linalg::RowMatrix;
use flatmin_models::{Dataset, Loss};
use flatmin_optim::BatchOrder;

use crate::config::LossConfig;
use crate::failure::Failure;
use crate::limits::check_matrix;
use crate::network::{Network, ParameterArray};
use crate::words::{shape_words, whole};

/// The shape and the numbers of an array. Without a name it is the only array of the file, or
/// `order`.
fn array(path: &Path, name: Option<&str>) -> Result<(Vec<usize>, Vec<f64>), Failure> {
    let mut array = ArrayFile::open(path)?.array(name, &["order"])?;
    let values = array.values()?;
    Ok((array.shape().to_vec(), values))
}

/// A data set from the arrays `x` (n × d) and `y` (n, or n × k for k targets per sample). With
/// cross-entropy a `y` of n entries has the class of each sample.
pub(crate) fn dataset(path: &Path, loss: LossConfig) -> Result<Dataset, Failure> {
    let (shape, values) = array(path, Some("x"))?;
    let [n, d] = shape[..] else {
        let found = shape_words(&shape);
        let reason = format!("array \"x\" is {found}, expected n × d, a row per sample");
        return Err(Failure::input(path, reason));
    };
    let inputs = RowMatrix::new(n, d, values)
        .map_err(|error| Failure::input(path, format!("array \"x\": {error}")))?;
    if d == 0 {
        return Err(Failure::input(path, "array \"x\" has no column: inputs of dimension 0"));
    }
    let (shape, targets) = array(path, Some("y"))?;
    let outputs = match shape[..] {
        [rows] if rows == n => 1,
        [rows, outputs] if rows == n && outputs > 0 => outputs,
        _ => {
            let found = shape_words(&shape);
            let expected = format!("{n}, one target per row of x, or {n} × k for several");
            let reason = format!("array \"y\" is {found}, expected {expected}");
            return Err(Failure::input(path, reason));
        }
    };
    let class_count = loss.classes.filter(|_| loss.loss != Loss::Squared);
    let data = if outputs == 1 && loss.loss != Loss::Squared {
        let classes = classes(path, &targets)?;
        let largest = classes.iter().max().map_or(0, |largest| largest + 1);
        let class_count = class_count.unwrap_or(largest);
        check_matrix(path, ("samples", n), ("classes", class_count))?;
        Dataset::with_classes(inputs, &classes, class_count)
    } else {
        let targets = RowMatrix::new(n, outputs, targets)
            .map_err(|error| Failure::input(path, format!("array \"y\": {error}")))?;
        Dataset::with_outputs(inputs, &targets)
    };
    let data = data.and_then(|data| data.with_loss(loss.loss)).map_err(Failure::at(path))?;
    if let Some(expected) = class_count.filter(|expected| *expected != data.output_dim()) {
        let found = data.output_dim();
        let reason = format!("array \"y\" has {found} columns, expected {expected}, one per class");
        return Err(Failure::input(path, reason));
    }
    Ok(data)
}

/// The classes in the array `y`, counted from 0.
fn classes(path: &Path, values: &[f64]) -> Result<Vec<usize>, Failure> {
    let class = |(k, value): (usize, &f64)| {
        whole(*value).map(|class| class as usize).ok_or_else(|| {
            let expected = "expected a class, a whole number from 0";
            Failure::input(path, format!("entry {k} of array \"y\" is {value}, {expected}"))
        })
    };
    values.iter().enumerate().map(class).collect()
}

/// The parameters of a model, from arrays with the names and shapes that it expects.
pub(crate) fn parameters(path: &Path, network: &dyn Network) -> Result<Vec<f64>, Failure> {
    let names = ArrayFile::open(path)?.names();
    if let Some(name) = names.iter().find(|name| network.is_foreign(name)) {
        let reason = format!(
            "holds an array \"{}\", which this model does not have ({}): change [model], or leave it out",
            short(name),
            network.describe()
        );
        return Err(Failure::input(path, reason));
    }
    let mut parameters = Vec::with_capacity(network.parameter_count());
    for ParameterArray { name, shape: expected, also } in network.arrays() {
        let (shape, values) = array(path, Some(&name))?;
        if shape != expected && also.as_ref() != Some(&shape) {
            let also = also.map_or(String::new(), |also| format!(" or {}", shape_words(&also)));
            let reason = format!(
                "array {name:?} is {}, expected {}{also} ({})",
                shape_words(&shape),
                shape_words(&expected),
                network.describe()
            );
            return Err(Failure::input(path, reason));
        }
        if let Some(k) = values.iter().position(|value| !value.is_finite()) {
            let entry = if shape.is_empty() { String::new() } else { entry(&shape, k) + " of " };
            let reason =
                format!("{entry}array {name:?} is {}, expected a finite number", values[k]);
            return Err(Failure::input(path, reason));
        }
        parameters.extend(values);
    }
    Ok(parameters)
}

/// The words for entry `k` of an array with rows, or of a list.
fn entry(shape: &[usize], k: usize) -> String {
    match shape {
        [_, columns, ..] => format!("entry ({}, {})", k / columns, k % columns),
        _ => format!("entry {k}"),
    }
}

/// An order of samples, of shape T × B, or T for batches of one sample.
///
/// Batches of other sizes are rows that −1 fills up, or a list of all indices with the array `sizes`
/// beside it, the number of samples of each step.
pub(crate) fn order(path: &Path, sample_count: usize) -> Result<BatchOrder, Failure> {
    let fail = |reason: String| Failure::input(path, reason);
    let has_sizes = ArrayFile::open(path)?.names().iter().any(|name| name == "sizes");
    let (shape, values) = array(path, has_sizes.then_some("order"))?;
    let (batch_size, is_padded) = match shape[..] {
        [_] => (1, false),
        [_, batch_size] if !has_sizes => (batch_size, batch_size > 0),
        _ => {
            let expected = if has_sizes {
                "a list of all indices, as the file has the array \"sizes\""
            } else {
                "T × B, a row per step"
            };
            return Err(fail(format!("the order is {}, expected {expected}", shape_words(&shape))));
        }
    };
    let index = |value| whole(value).filter(|index| (*index as usize) < sample_count);
    let mut indices = Vec::with_capacity(values.len());
    let mut sizes = vec![0; if is_padded { shape[0] } else { 0 }];
    for (k, &value) in values.iter().enumerate() {
        if is_padded && whole(-value) == Some(1) {
            continue;
        }
        indices.push(index(value).ok_or_else(|| {
            let (entry, last) = (entry(&shape, k), sample_count.saturating_sub(1));
            let expected =
                format!("expected the index of one of {sample_count} samples, 0 to {last}");
            let is_padding = is_padded && value < 0.0;
            let padding = if is_padding { ", or -1 at the end of a short batch" } else { "" };
            fail(format!("{entry} is {value}, {expected}{padding}"))
        })?);
        if is_padded {
            let size = &mut sizes[k / batch_size];
            if *size < k % batch_size {
                let entry = entry(&shape, k);
                let expected = "but -1 fills up the end of a row only";
                return Err(fail(format!("{entry} is {value} behind a -1, {expected}")));
            }
            *size += 1;
        }
    }
    if has_sizes {
        sizes = self::sizes(path)?;
    }
    let order = if sizes.is_empty() {
        BatchOrder::new(batch_size, indices, sample_count)
    } else {
        BatchOrder::ragged(indices, &sizes, sample_count)
    };
    order.map_err(|error| fail(error.to_string()))
}

/// The array `sizes` of an order: the number of samples of each step.
fn sizes(path: &Path) -> Result<Vec<usize>, Failure> {
    let (shape, values) = array(path, Some("sizes"))?;
    let [_] = shape[..] else {
        let reason = format!("array \"sizes\" is {}, expected T numbers", shape_words(&shape));
        return Err(Failure::input(path, reason));
    };
    let size = |(k, value): (usize, &f64)| {
        whole(*value).filter(|size| *size > 0).map(|size| size as usize).ok_or_else(|| {
            let expected = "expected the number of samples of a step, 1 or more";
            Failure::input(path, format!("entry {k} of array \"sizes\" is {value}, {expected}"))
        })
    };
    values.iter().enumerate().map(size).collect()
}
