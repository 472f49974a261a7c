//! Finished cells: specifications with their results.

use std::collections::BTreeSet;

use crate::bootstrap::Multiplicities;
use crate::cell::{
    CellKey, CellResult, CellSpec, ClassResult, ClassSpec, DeepResult, DeepSpec, EpochResult,
    EpochSpec, EstimatorResult, EstimatorSpec, InterpolatorResult, InterpolatorSpec, NormResult,
    NormSpec, PerturbedResult, PerturbedSpec, PlateauResult, PlateauSpec, Results,
    SensingReferenceResult, SensingReferenceSpec, SensingResult, SensingSpec, TrainResult,
    TrainSpec, UnivariateResult, UnivariateSpec,
};

/// The specification of a cell with its result.
#[derive(Debug)]
pub(crate) struct Finished<'r, S, R> {
    pub(crate) spec: S,
    pub(crate) result: &'r R,
}

impl<S: Copy, R> Copy for Finished<'_, S, R> {}

impl<S: Copy, R> Clone for Finished<'_, S, R> {
    fn clone(&self) -> Self {
        *self
    }
}

/// A specification with a seed.
pub(crate) trait Seeded {
    fn seed(&self) -> u64;
}

macro_rules! seeded {
    ($($spec:ident: $($field:ident).+;)+) => {$(
        impl Seeded for $spec {
            fn seed(&self) -> u64 {
                self.$($field).+
            }
        }
    )+};
}

seeded! {
    TrainSpec: seed;
    InterpolatorSpec: seed;
    NormSpec: seed;
    DeepSpec: seed;
    EstimatorSpec: seed;
    SensingSpec: seed;
    SensingReferenceSpec: seed;
    UnivariateSpec: seed;
    ClassSpec: seed;
    PerturbedSpec: training.seed;
    EpochSpec: seed;
    PlateauSpec: seed;
}

/// A training run of a two-layer ReLU or diagonal linear network.
pub(crate) type ShallowRun<'r> = Finished<'r, TrainSpec, TrainResult>;
/// A training run of a deep network.
pub(crate) type DeepRun<'r> = Finished<'r, DeepSpec, DeepResult>;
/// A reference interpolator.
pub(crate) type Interpolator<'r> = Finished<'r, InterpolatorSpec, InterpolatorResult>;
/// The norm theorems on networks of one size.
pub(crate) type NormTrial<'r> = Finished<'r, NormSpec, NormResult>;
/// Many estimates of one trace.
pub(crate) type TraceTrial<'r> = Finished<'r, EstimatorSpec, EstimatorResult>;
/// A training run of matrix sensing.
pub(crate) type SensingRun<'r> = Finished<'r, SensingSpec, SensingResult>;
/// The interpolators that matrix sensing is compared with.
pub(crate) type SensingReference<'r> = Finished<'r, SensingReferenceSpec, SensingReferenceResult>;
/// A training run of a network on one input.
pub(crate) type UnivariateRun<'r> = Finished<'r, UnivariateSpec, UnivariateResult>;
/// A training run with cross-entropy.
pub(crate) type ClassRun<'r> = Finished<'r, ClassSpec, ClassResult>;
/// Pushes at a minimum of such a run.
pub(crate) type PushedMinimum<'r> = Finished<'r, PerturbedSpec, PerturbedResult>;
/// A training run with independent or reshuffled batches.
pub(crate) type EpochRun<'r> = Finished<'r, EpochSpec, EpochResult>;
/// Plateaus at a minimum that does not interpolate.
pub(crate) type PlateauTrial<'r> = Finished<'r, PlateauSpec, PlateauResult>;

/// Finished cells by kind, each kind in the order in which the experiment names them.
#[derive(Debug, Default)]
pub(crate) struct FinishedCells<'r> {
    pub(crate) shallow: Vec<ShallowRun<'r>>,
    pub(crate) interpolators: Vec<Interpolator<'r>>,
    pub(crate) norms: Vec<NormTrial<'r>>,
    pub(crate) deep: Vec<DeepRun<'r>>,
    pub(crate) traces: Vec<TraceTrial<'r>>,
    pub(crate) sensing: Vec<SensingRun<'r>>,
    pub(crate) sensing_references: Vec<SensingReference<'r>>,
    pub(crate) univariate: Vec<UnivariateRun<'r>>,
    pub(crate) classes: Vec<ClassRun<'r>>,
    pub(crate) pushed: Vec<PushedMinimum<'r>>,
    pub(crate) epochs: Vec<EpochRun<'r>>,
    pub(crate) plateaus: Vec<PlateauTrial<'r>>,
}

/// A cell that an experiment needs has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no result of the cell {key} ({label})")]
pub struct MissingCell {
    /// The cell.
    pub key: CellKey,
    /// Its description.
    pub label: String,
}

impl<'r> FinishedCells<'r> {
    /// Pairs `cells` with their results.
    ///
    /// # Errors
    /// [`MissingCell`] for the first cell without a result of its kind.
    pub(crate) fn new(
        cells: impl IntoIterator<Item = CellSpec>,
        results: &'r Results,
    ) -> Result<Self, MissingCell> {
        let mut finished = Self::default();
        for cell in cells {
            let key = cell.key();
            match (cell, results.get(&key)) {
                (CellSpec::Train(spec), Some(CellResult::Train(result))) => {
                    finished.shallow.push(Finished { spec, result });
                }
                (CellSpec::Interpolator(spec), Some(CellResult::Interpolator(result))) => {
                    finished.interpolators.push(Finished { spec, result });
                }
                (CellSpec::Norms(spec), Some(CellResult::Norms(result))) => {
                    finished.norms.push(Finished { spec, result });
                }
                (CellSpec::Deep(spec), Some(CellResult::Deep(result))) => {
                    finished.deep.push(Finished { spec, result });
                }
                (CellSpec::Estimator(spec), Some(CellResult::Estimator(result))) => {
                    finished.traces.push(Finished { spec, result });
                }
                (CellSpec::Sensing(spec), Some(CellResult::Sensing(result))) => {
                    finished.sensing.push(Finished { spec, result });
                }
                (CellSpec::SensingReference(spec), Some(CellResult::SensingReference(result))) => {
                    finished.sensing_references.push(Finished { spec, result });
                }
                (CellSpec::Univariate(spec), Some(CellResult::Univariate(result))) => {
                    finished.univariate.push(Finished { spec, result });
                }
                (CellSpec::Classes(spec), Some(CellResult::Classes(result))) => {
                    finished.classes.push(Finished { spec, result });
                }
                (CellSpec::Perturbed(spec), Some(CellResult::Perturbed(result))) => {
                    finished.pushed.push(Finished { spec, result });
                }
                (CellSpec::Epochs(spec), Some(CellResult::Epochs(result))) => {
                    finished.epochs.push(Finished { spec, result });
                }
                (CellSpec::Plateau(spec), Some(CellResult::Plateau(result))) => {
                    finished.plateaus.push(Finished { spec, result });
                }
                (cell, _) => return Err(MissingCell { key, label: cell.label() }),
            }
        }
        Ok(finished)
    }

    /// The sets of seeds of its cells, each once: experiments run some kinds of cells for more seeds
    /// than others.
    pub(crate) fn seed_sets(&self) -> Vec<Vec<u64>> {
        let sets = BTreeSet::from([
            seeds(&self.shallow),
            seeds(&self.interpolators),
            seeds(&self.norms),
            seeds(&self.deep),
            seeds(&self.traces),
            seeds(&self.sensing),
            seeds(&self.sensing_references),
            seeds(&self.univariate),
            seeds(&self.classes),
            seeds(&self.pushed),
            seeds(&self.epochs),
            seeds(&self.plateaus),
        ]);
        sets.into_iter().filter(|set| !set.is_empty()).collect()
    }

    /// The cells of a resample: each as often as its seed was drawn from the set of seeds of its
    /// kind. Kinds with the same seeds share the draws, so that what belongs together stays so.
    pub(crate) fn resampled(&self, sets: &[Vec<u64>], times: &[Multiplicities]) -> Self {
        let draws = Draws { sets, times };
        Self {
            shallow: draws.of(&self.shallow),
            interpolators: draws.of(&self.interpolators),
            norms: draws.of(&self.norms),
            deep: draws.of(&self.deep),
            traces: draws.of(&self.traces),
            sensing: draws.of(&self.sensing),
            sensing_references: draws.of(&self.sensing_references),
            univariate: draws.of(&self.univariate),
            classes: draws.of(&self.classes),
            pushed: draws.of(&self.pushed),
            epochs: draws.of(&self.epochs),
            plateaus: draws.of(&self.plateaus),
        }
    }
}

/// The seeds of cells of one kind, ascending, each once.
fn seeds<S: Seeded, R>(cells: &[Finished<'_, S, R>]) -> Vec<u64> {
    let seeds: BTreeSet<u64> = cells.iter().map(|cell| cell.spec.seed()).collect();
    seeds.into_iter().collect()
}

/// The draws from each set of seeds.
struct Draws<'a> {
    sets: &'a [Vec<u64>],
    times: &'a [Multiplicities],
}

impl Draws<'_> {
    /// The cells of one kind in the resample.
    fn of<'r, S: Seeded + Clone, R>(
        &self,
        cells: &[Finished<'r, S, R>],
    ) -> Vec<Finished<'r, S, R>> {
        let own = seeds(cells);
        let drawn = self.sets.iter().position(|set| *set == own).map(|set| &self.times[set]);
        let times = |seed: u64| drawn.and_then(|drawn| drawn.get(&seed)).copied().unwrap_or(0);
        let copies = cells.iter().flat_map(|Finished { spec, result }| {
            (0..times(spec.seed())).map(move |_| Finished { spec: spec.clone(), result: *result })
        });
        copies.collect()
    }
}
