//! Specifications and results of cells of every kind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    CellError, CellKey, ClassResult, ClassSpec, DeepResult, DeepSpec, EpochResult, EpochSpec,
    EstimatorResult, EstimatorSpec, InterpolatorResult, InterpolatorSpec, NormResult, NormSpec,
    PerturbedResult, PerturbedSpec, PlateauResult, PlateauSpec, SensingReferenceResult,
    SensingReferenceSpec, SensingResult, SensingSpec, TrainResult, TrainSpec, UnivariateResult,
    UnivariateSpec, cost,
};

/// Version of the code that computes cells. A change that can alter any result raises it, so that
/// stored results of older code are not taken for new ones.
pub const CODE_VERSION: u32 = 7;

/// The complete description of what a cell computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CellSpec {
    /// One training run of a two-layer ReLU or diagonal linear network.
    Train(TrainSpec),
    /// A reference interpolator of a diagonal problem.
    Interpolator(InterpolatorSpec),
    /// The norm equivalence theorems on random networks of one size.
    Norms(NormSpec),
    /// One training run of a deep network.
    Deep(DeepSpec),
    /// Many estimates of one trace.
    Estimator(EstimatorSpec),
    /// One training run of matrix sensing.
    Sensing(SensingSpec),
    /// Interpolators that matrix sensing is compared with.
    SensingReference(SensingReferenceSpec),
    /// One training run of a network on one input.
    Univariate(UnivariateSpec),
    /// One training run with cross-entropy.
    Classes(ClassSpec),
    /// Pushes at a minimum of such a run.
    Perturbed(PerturbedSpec),
    /// One training run with independent or reshuffled batches.
    Epochs(EpochSpec),
    /// Plateaus at a minimum that does not interpolate.
    Plateau(PlateauSpec),
}

/// The result of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CellResult {
    /// The result of [`CellSpec::Train`].
    Train(TrainResult),
    /// The result of [`CellSpec::Interpolator`].
    Interpolator(InterpolatorResult),
    /// The result of [`CellSpec::Norms`].
    Norms(NormResult),
    /// The result of [`CellSpec::Deep`].
    Deep(DeepResult),
    /// The result of [`CellSpec::Estimator`].
    Estimator(EstimatorResult),
    /// The result of [`CellSpec::Sensing`].
    Sensing(SensingResult),
    /// The result of [`CellSpec::SensingReference`].
    SensingReference(SensingReferenceResult),
    /// The result of [`CellSpec::Univariate`].
    Univariate(UnivariateResult),
    /// The result of [`CellSpec::Classes`].
    Classes(ClassResult),
    /// The result of [`CellSpec::Perturbed`].
    Perturbed(PerturbedResult),
    /// The result of [`CellSpec::Epochs`].
    Epochs(EpochResult),
    /// The result of [`CellSpec::Plateau`].
    Plateau(PlateauResult),
}

/// Results by cell.
pub type Results = BTreeMap<CellKey, CellResult>;

impl CellSpec {
    /// Computes the cell, sequentially and deterministically.
    ///
    /// # Errors
    /// [`CellError`] when the specification cannot be run. Divergence is a result, not an error.
    pub fn run(&self) -> Result<CellResult, CellError> {
        Ok(match self {
            Self::Train(spec) => CellResult::Train(spec.run()?),
            Self::Interpolator(spec) => CellResult::Interpolator(spec.run()?),
            Self::Norms(spec) => CellResult::Norms(spec.run()?),
            Self::Deep(spec) => CellResult::Deep(spec.run()?),
            Self::Estimator(spec) => CellResult::Estimator(spec.run()?),
            Self::Sensing(spec) => CellResult::Sensing(spec.run()?),
            Self::SensingReference(spec) => CellResult::SensingReference(spec.run()?),
            Self::Univariate(spec) => CellResult::Univariate(spec.run()?),
            Self::Plateau(spec) => CellResult::Plateau(spec.run()?),
            Self::Epochs(spec) => CellResult::Epochs(spec.run()?),
            Self::Perturbed(spec) => CellResult::Perturbed(spec.run()?),
            Self::Classes(spec) => CellResult::Classes(spec.run()?),
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
        let version = format!("flatmin cell {CODE_VERSION}\n");
        CellKey::of(&[version.as_bytes(), self.canonical_json().as_bytes()])
    }

    /// A short description for progress and errors, such as `ReLU SGD B=1 η=0.01 seed 3`.
    pub fn label(&self) -> String {
        match self {
            Self::Train(spec) => spec.label(),
            Self::Interpolator(spec) => spec.label(),
            Self::Norms(spec) => spec.label(),
            Self::Deep(spec) => spec.label(),
            Self::Estimator(spec) => spec.label(),
            Self::Sensing(spec) => spec.label(),
            Self::SensingReference(spec) => spec.label(),
            Self::Univariate(spec) => spec.label(),
            Self::Plateau(spec) => spec.label(),
            Self::Epochs(spec) => spec.label(),
            Self::Perturbed(spec) => spec.label(),
            Self::Classes(spec) => spec.label(),
        }
    }

    /// The expected running time in seconds on one core, to start the longest cells first and to
    /// say how much time is left. Single cells may be off by a factor of three.
    pub fn cost(&self) -> f64 {
        match self {
            Self::Train(spec) => cost::shallow(spec),
            Self::Interpolator(spec) => cost::interpolator(spec),
            Self::Norms(spec) => cost::norms(spec),
            Self::Deep(spec) => cost::deep(spec),
            Self::Estimator(spec) => cost::estimator(spec),
            Self::Sensing(spec) => cost::sensing(spec),
            Self::SensingReference(spec) => cost::sensing_reference(spec),
            Self::Univariate(spec) => cost::univariate(spec),
            Self::Plateau(spec) => cost::plateau(spec),
            Self::Epochs(spec) => cost::epochs(spec),
            Self::Perturbed(spec) => cost::perturbed(spec),
            Self::Classes(spec) => cost::classes(spec),
        }
    }
}
