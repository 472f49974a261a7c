//! Cells: the units of work of a reproduction.
//!
//! A [`CellSpec`] says completely what is computed; [`CellSpec::run`] is a pure function of it. So a
//! cell can run on any thread or machine, be skipped when its result is stored, and be shared by
//! every figure that needs it. Its [`CellKey`] names it by content.

mod deep;
mod estimator;
mod interpolator;
mod norms;
mod place;
mod study;
mod test_data;
mod train;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use deep::{DeepActivation, DeepMeasurement, DeepResult, DeepSpec, DeepTask};
pub use estimator::{Estimator, EstimatorResult, EstimatorSpec, Spectrum};
pub use interpolator::{
    BalancedThresholds, Evidence, InterpolatorResult, InterpolatorSpec, MinimizedNorm,
};
pub use norms::{NetworkFamily, NormResult, NormRow, NormSpec};
pub use study::{
    BatchStudy, DynamicsPoint, DynamicsStudy, SingleRuns, StoredEdge, StoredExponent, StoredMean,
    Study, StudyResult,
};
pub(crate) use study::{FACTORS, MOMENTUM, SIMULATED_STEPS, theory_batch};
pub(crate) use train::CUBE_VARIANCE;
pub use train::{
    DiagonalInitial, DiagonalProblem, MeasuredSharpness, Measurement, Problem, ReluProblem,
    TrainResult, TrainSpec,
};

/// Version of the code that computes cells. A change that can alter any result raises it, so that
/// stored results of older code are not taken for new ones.
pub const CODE_VERSION: u32 = 7;

/// What a cell computes, completely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CellSpec {
    /// One training run.
    Train(TrainSpec),
    /// A reference interpolator of a diagonal problem.
    Interpolator(InterpolatorSpec),
    /// The norm equivalence theorems on random networks of one size.
    Norms(NormSpec),
    /// One training run of a deep network.
    Deep(DeepSpec),
    /// Many estimates of one trace.
    Estimator(EstimatorSpec),
}

/// What a cell found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CellResult {
    /// Of [`CellSpec::Train`].
    Train(TrainResult),
    /// Of [`CellSpec::Interpolator`].
    Interpolator(InterpolatorResult),
    /// Of [`CellSpec::Norms`].
    Norms(NormResult),
    /// Of [`CellSpec::Deep`].
    Deep(DeepResult),
    /// Of [`CellSpec::Estimator`].
    Estimator(EstimatorResult),
}

/// A cell could not be computed: a defect of its specification or of this program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CellError {
    /// A size of zero.
    #[error(transparent)]
    Size(#[from] flatmin_models::SizeError),
    /// The training settings cannot be run.
    #[error(transparent)]
    Train(#[from] flatmin_optim::TrainError),
    /// The data set could not be made.
    #[error(transparent)]
    Dataset(#[from] flatmin_models::data::DatasetError),
    /// The digits could not be used.
    #[error(transparent)]
    Digits(#[from] flatmin_models::data::digits::DigitsError),
    /// Samples of the digits could not be chosen.
    #[error(transparent)]
    Labelled(#[from] flatmin_models::data::LabelledError),
    /// Curvature could not be measured.
    #[error(transparent)]
    Curvature(#[from] flatmin_curvature::CurvatureError),
    /// A trace could not be estimated.
    #[error(transparent)]
    Estimate(#[from] flatmin_linalg::EstimateError),
    /// An eigenproblem failed.
    #[error(transparent)]
    Eigen(#[from] flatmin_linalg::EigenError),
    /// The largest eigenvalue of a Hessian was not reached.
    #[error(
        "the largest eigenvalue of the Hessian is {value} with a residual of {residual} after \
         {products} products"
    )]
    NotConverged {
        /// What was reached.
        value: f64,
        /// How far it may be off.
        residual: f64,
        /// Products used.
        products: usize,
    },
    /// A question to the theory has no answer.
    #[error(transparent)]
    Theory(#[from] flatmin_theory::TheoryError),
    /// Settings make no optimizer.
    #[error(transparent)]
    Optimizer(#[from] flatmin_theory::OptimizerError),
    /// Basis pursuit, or a statement about norms, has no answer.
    #[error(transparent)]
    Ledger(#[from] flatmin_ledger::LedgerError),
}

impl CellSpec {
    /// Computes the cell. Sequential and deterministic.
    ///
    /// # Errors
    /// [`CellError`] when the specification cannot be run. Divergence is a result.
    pub fn run(&self) -> Result<CellResult, CellError> {
        Ok(match self {
            Self::Train(spec) => CellResult::Train(spec.run()?),
            Self::Interpolator(spec) => CellResult::Interpolator(spec.run()?),
            Self::Norms(spec) => CellResult::Norms(spec.run()?),
            Self::Deep(spec) => CellResult::Deep(spec.run()?),
            Self::Estimator(spec) => CellResult::Estimator(spec.run()?),
        })
    }

    /// The canonical form that is hashed: compact JSON with the fields in declaration order.
    ///
    /// # Panics
    /// Never: a specification is plain data.
    pub fn canonical_json(&self) -> String {
        // Plain structs of numbers, strings and enums: nothing here can fail to serialise, and
        // every float in a specification is finite.
        serde_json::to_string(self).expect("a specification is plain data")
    }

    /// The cell's name by content: BLAKE3 of the code version and the canonical form.
    pub fn key(&self) -> CellKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("flatmin cell {CODE_VERSION}\n").as_bytes());
        hasher.update(self.canonical_json().as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        CellKey(key)
    }

    /// A short description for progress and errors, such as `ReLU SGD B=1 η=0.01 seed 3`.
    pub fn label(&self) -> String {
        match self {
            Self::Train(spec) => spec.label(),
            Self::Interpolator(spec) => spec.label(),
            Self::Norms(spec) => spec.label(),
            Self::Deep(spec) => spec.label(),
            Self::Estimator(spec) => spec.label(),
        }
    }

    /// A rough upper estimate of the running time in seconds, to start the longest cells first.
    pub fn cost(&self) -> f64 {
        match self {
            Self::Train(spec) => spec.cost(),
            Self::Interpolator(spec) => spec.cost(),
            Self::Norms(_) => 0.02,
            Self::Deep(spec) => spec.cost(),
            Self::Estimator(spec) => spec.cost(),
        }
    }
}

/// The name of a cell by content, written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CellKey([u8; 16]);

impl fmt::Display for CellKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Text that is not a cell's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cell hash: expected 32 hexadecimal digits")]
pub struct CellKeyError(String);

impl FromStr for CellKey {
    type Err = CellKeyError;

    fn from_str(text: &str) -> Result<Self, CellKeyError> {
        let error = || CellKeyError(text.to_owned());
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(error());
        }
        let mut key = [0; 16];
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Self(key))
    }
}

/// Results by cell.
pub type Results = BTreeMap<CellKey, CellResult>;
