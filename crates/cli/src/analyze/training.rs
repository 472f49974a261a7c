//! What people train with: the optimizer and the loss of an analysis, in the words of PyTorch.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use faer::{Mat, MatRef};
use flatmin_arrays::{Array, ArrayFile};
use flatmin_linalg::RowMatrix;
use flatmin_theory::{LossError, MinimumError, OutputHessians, Preconditioner};
use serde::Serialize;

use super::archive::Archive;
use super::point::{Residuals, Spread};
use crate::failure::Failure;
use crate::optimizer::OptimizerArguments;
use crate::words::shape_words;

/// The optimizer and the loss.
#[derive(Debug, Args)]
pub(crate) struct Training {
    #[command(flatten)]
    pub(super) optimizer: OptimizerArguments,
    /// Frozen diagonal preconditioner D, one positive number for each parameter: √v̂ + ε for Adam,
    /// together with --momentum β₁ --dampening β₁.
    #[arg(long, value_name = "ARRAY", conflicts_with = "gram")]
    pub(super) preconditioner: Option<Place>,
    /// Loss of the outputs.
    #[arg(long, value_enum, default_value_t = Loss::Squared)]
    pub(super) loss: Loss,
    /// Logits at the point, n × k (n for binary cross-entropy), for the cross-entropies. With
    /// another loss, the outputs at the point; they tell n and k, and with --residuals how near
    /// the minimum is.
    #[arg(long, value_name = "ARRAY", alias = "outputs-at-minimum")]
    pub(super) logits: Option<Place>,
    /// Hessians of a custom loss in the outputs, n × k × k.
    #[arg(long, value_name = "ARRAY")]
    pub(super) output_hessian: Option<Place>,
    /// Derivatives of the loss in the outputs, n or n × k; f − y for the squared loss. Adds the
    /// noise floor of each learning rate, and how far the point is from stationary.
    #[arg(long, value_name = "ARRAY")]
    pub(super) residuals: Option<Place>,
    /// Adds the edge up to which single runs converge, beyond η*.
    #[arg(long, conflicts_with_all = ["rank", "relative_width"])]
    pub(super) almost_sure: bool,
}

/// The losses that the command knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Loss {
    /// (1/2n) Σ ‖f − y‖², times --loss-scale
    Squared,
    /// Mean softmax cross-entropy at --logits, with any labels and smoothing
    CrossEntropy,
    /// Mean logistic loss at --logits
    BinaryCrossEntropy,
    /// Mean of any convex losses with the Hessians --output-hessian
    Custom,
}

impl Loss {
    /// True for the losses that need logits.
    fn is_cross_entropy(self) -> bool {
        matches!(self, Self::CrossEntropy | Self::BinaryCrossEntropy)
    }
}

/// An array beside the Jacobian: the name of one in the same archive, or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    file: Option<PathBuf>,
    name: Option<String>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        for ending in [".npz:", ".safetensors:"] {
            if let Some(at) = text.rfind(ending) {
                let (file, name) = text.split_at(at + ending.len());
                let file = Some(file.trim_end_matches(':').into());
                return Ok(Self { file, name: Some(name.to_owned()) });
            }
        }
        let is_file = [".npy", ".npz", ".safetensors"].iter().any(|end| text.ends_with(end));
        match (is_file, text.is_empty()) {
            (_, true) => Err("expected the name of an array, or a file".to_owned()),
            (true, _) => Ok(Self { file: Some(text.into()), name: None }),
            (false, _) => Ok(Self { file: None, name: Some(text.to_owned()) }),
        }
    }
}

impl Place {
    fn open(&self, archive: &Archive) -> Result<Array, Failure> {
        let file = match &self.file {
            Some(file) => ArrayFile::open(file)?,
            None => archive.open()?,
        };
        Ok(file.array(self.name.as_deref(), &[])?)
    }

    /// The numbers of the array, its shape, and the file for errors about it.
    fn read(&self, archive: &Archive) -> Result<(Vec<f64>, Vec<usize>, PathBuf), Failure> {
        let mut array = self.open(archive)?;
        let shape = array.shape().to_vec();
        Ok((array.values()?, shape, array.path().to_owned()))
    }

    /// The shape of the array, and its file. Only headers are read.
    pub(super) fn shape(&self, archive: &Archive) -> Result<(Vec<usize>, PathBuf), Failure> {
        let array = self.open(archive)?;
        Ok((array.shape().to_vec(), array.path().to_owned()))
    }

    /// The name of the array, if it is in the archive of the Jacobian.
    pub(super) fn name_in_archive(&self) -> Option<&str> {
        if self.file.is_none() { self.name.as_deref() } else { None }
    }

    /// The array as rows: of shape n × k, or n for k = 1.
    fn rows(&self, archive: &Archive, what: &str) -> Result<(RowMatrix, PathBuf), Failure> {
        let (values, shape, path) = self.read(archive)?;
        let (rows, columns) = match *shape {
            [rows] => (rows, 1),
            [rows, columns] => (rows, columns),
            _ => {
                let text = format!("{what} have shape ({}), expected n × k", shape_words(&shape));
                return Err(Failure::input(&path, text));
            }
        };
        let matrix = RowMatrix::new(rows, columns, values).map_err(Failure::at(&path))?;
        Ok((matrix, path))
    }
}

impl Training {
    /// Checks that the options fit each other.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
        let needs_logits = self.loss.is_cross_entropy();
        let needs_hessian = self.loss == Loss::Custom;
        if needs_logits && self.logits.is_none() {
            return usage("--loss cross-entropy and binary-cross-entropy need --logits");
        }
        if needs_hessian && self.output_hessian.is_none() {
            return usage("--loss custom needs --output-hessian");
        }
        if !needs_hessian && self.output_hessian.is_some() {
            return usage("--output-hessian is that of --loss custom");
        }
        self.optimizer.optimizer().map(|_| ())
    }

    /// The outputs at the point, if they are given, row by row.
    fn outputs(
        &self,
        archive: &Archive,
        (samples, outputs): (usize, usize),
    ) -> Result<Option<Vec<f64>>, Failure> {
        let Some(place) = &self.logits else { return Ok(None) };
        let (matrix, path) = place.rows(archive, "the outputs")?;
        let (rows, columns) = (matrix.rows(), matrix.columns());
        if (rows, columns) != (samples, outputs) {
            let text = format!(
                "the outputs are {rows} × {columns}, expected {samples} × {outputs}: one for each \
                 output of each sample"
            );
            return Err(Failure::input(&path, text));
        }
        if let Some(at) = matrix.values().iter().position(|value| !value.is_finite()) {
            let (value, row, column) = (matrix.values()[at], at / columns, at % columns);
            let text = format!("output ({row}, {column}) is {value}, expected a finite number");
            return Err(Failure::input(&path, text));
        }
        Ok(Some(matrix.values().to_vec()))
    }
}

/// The arrays beside the Jacobian, read and checked.
#[derive(Debug, Default)]
pub(super) struct Weights {
    pub(super) loss: Option<OutputHessians>,
    preconditioner: Option<Preconditioner>,
    /// The residuals of the weighted Jacobian, and the largest derivative of the loss.
    pub(super) residuals: Option<Residuals>,
    /// The file of the loss, for errors about it.
    loss_path: PathBuf,
}

impl Weights {
    /// Reads the arrays that the options name, for a Jacobian of this shape.
    pub(super) fn read(
        training: &Training,
        archive: &Archive,
        (samples, outputs): (usize, usize),
        parameters: Option<usize>,
    ) -> Result<Self, Failure> {
        training.check()?;
        let mut weights = Self::default();
        if let Some(place) = &training.preconditioner {
            let (diagonal, shape, path) = place.read(archive)?;
            let expected = parameters.unwrap_or(diagonal.len());
            if diagonal.len() != expected {
                let shape = shape_words(&shape);
                let text = format!(
                    "the preconditioner has shape ({shape}), expected one number for each of the \
                     {expected} parameters; if the axes have another order, give it as --axes"
                );
                return Err(Failure::input(&path, text));
            }
            weights.preconditioner =
                Some(Preconditioner::new(diagonal).map_err(Failure::at(&path))?);
        }
        if let Some((loss, path)) = loss(training, archive, outputs)? {
            if loss.sample_count() != samples || loss.output_count() != outputs {
                let text = format!(
                    "the loss has {} samples with {} outputs, the Jacobian {samples} with {outputs}",
                    loss.sample_count(),
                    loss.output_count()
                );
                return Err(Failure::input(&path, text));
            }
            (weights.loss, weights.loss_path) = (Some(loss), path);
        }
        if let Some(place) = &training.residuals {
            let (matrix, path) = place.rows(archive, "the residuals")?;
            let (rows, columns) = (matrix.rows(), matrix.columns());
            if (rows, columns) != (samples, outputs) {
                let text = format!(
                    "the residuals are {rows} × {columns}, expected {samples} × {outputs}: one for \
                     each output of each sample"
                );
                return Err(Failure::input(&path, text));
            }
            let derivatives = matrix.values();
            if let Some(at) = derivatives.iter().position(|value| !value.is_finite()) {
                let (value, row, column) = (derivatives[at], at / columns, at % columns);
                let text =
                    format!("residual ({row}, {column}) is {value}, expected a finite number");
                return Err(Failure::input(&path, text));
            }
            let loss = weights.loss.as_ref();
            let mut residuals = Residuals::new(derivatives, loss).map_err(Failure::at(&path))?;
            if training.loss.is_cross_entropy() {
                residuals.spread = Spread::Nats;
            } else if let Some(outputs) = training.outputs(archive, (rows, columns))? {
                let spread = Spread::of_targets(&outputs, columns, loss, &residuals.weighted);
                residuals.spread = spread.map_err(Failure::at(&path))?;
            }
            weights.residuals = Some(residuals);
        }
        Ok(weights)
    }

    /// The columns of the weighted Jacobian from those of the given one, which start at column
    /// `first`; `None` if there is nothing to weigh.
    pub(super) fn weigh(
        &self,
        columns: MatRef<'_, f64>,
        first: usize,
    ) -> Result<Option<Mat<f64>>, LossError> {
        let Self { loss, preconditioner, .. } = self;
        if loss.is_none() && preconditioner.is_none() {
            return Ok(None);
        }
        // Before the rows of a sample are mixed, so that the error names the entry.
        for column in 0..columns.ncols() {
            for row in 0..columns.nrows() {
                let value = columns[(row, column)];
                if !value.is_finite() {
                    return Err(
                        MinimumError::NotFinite { row, column: first + column, value }.into()
                    );
                }
            }
        }
        let scaled = preconditioner.as_ref().map(|diagonal| diagonal.scale(columns, first));
        let columns = scaled.as_ref().map_or(columns, Mat::as_ref);
        match loss {
            Some(loss) => loss.weigh(columns).map(Some),
            None => Ok(scaled),
        }
    }

    /// The Gram matrix of the weighted Jacobian.
    pub(super) fn weigh_gram(&self, gram: Mat<f64>) -> Result<Mat<f64>, Failure> {
        match &self.loss {
            None => Ok(gram),
            Some(loss) => loss.weigh_gram(gram.as_ref()).map_err(Failure::at(&self.loss_path)),
        }
    }
}

/// The Hessians of the loss in the outputs, and the file that they come from.
fn loss(
    training: &Training,
    archive: &Archive,
    outputs: usize,
) -> Result<Option<(OutputHessians, PathBuf)>, Failure> {
    let named = |path: PathBuf, loss: Result<OutputHessians, LossError>| {
        loss.map_err(Failure::at(&path)).map(|loss| Some((loss, path)))
    };
    match (training.loss, &training.logits, &training.output_hessian) {
        (Loss::CrossEntropy, Some(place), _) => {
            let (logits, path) = place.rows(archive, "the logits")?;
            named(path, OutputHessians::softmax(&logits))
        }
        (Loss::BinaryCrossEntropy, Some(place), _) => {
            let (logits, path) = place.rows(archive, "the logits")?;
            if logits.columns() != 1 {
                let text = format!(
                    "the logits are {} × {}, expected one for each sample; several outputs belong to \
                     --loss cross-entropy",
                    logits.rows(),
                    logits.columns()
                );
                return Err(Failure::input(&path, text));
            }
            named(path, OutputHessians::logistic(logits.values()))
        }
        (Loss::Custom, _, Some(place)) => {
            let (values, shape, path) = place.read(archive)?;
            let is_right = match *shape {
                [_, a, b] => a == outputs && b == outputs,
                [_] => outputs == 1,
                _ => false,
            };
            if !is_right {
                let text = format!(
                    "the output Hessian has shape ({}), expected n × {outputs} × {outputs}",
                    shape_words(&shape)
                );
                return Err(Failure::input(&path, text));
            }
            named(path, OutputHessians::new(&values, outputs))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn an_array_is_a_name_or_a_file() {
        let place = |text: &str| text.parse::<Place>();
        let file = |file: Option<&str>, name: Option<&str>| {
            Ok(Place { file: file.map(Into::into), name: name.map(str::to_owned) })
        };
        assert_eq!(place("logits"), file(None, Some("logits")));
        assert_eq!(place("a/logits.npy"), file(Some("a/logits.npy"), None));
        assert_eq!(place("run.npz:v"), file(Some("run.npz"), Some("v")));
        assert_eq!(place("C:/run.safetensors:v.w"), file(Some("C:/run.safetensors"), Some("v.w")));
        assert!(place("").is_err());
    }
}
