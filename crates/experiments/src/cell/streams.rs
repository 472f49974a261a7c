//! The purposes of the named random streams of cells. A changed name changes every result.

/// The samples of every batch of a training run.
pub(super) const BATCHES: &str = "batches";
/// The initial parameters of a two-layer ReLU network.
pub(super) const RELU_INITIAL: &str = "relu initial parameters";
/// The initial parameters of a diagonal linear network.
pub(super) const DIAGONAL_INITIAL: &str = "diagonal initial parameters";
/// The matrix that is sensed.
pub(super) const SENSING_TARGET: &str = "sensing target";
/// The measurements of matrix sensing, row after row.
pub(super) const SENSING_INPUTS: &str = "sensing training inputs";
/// The initial factors of matrix sensing.
pub(super) const SENSING_INITIAL: &str = "sensing initial parameters";
/// The inputs of a function of one variable.
pub(super) const UNIVARIATE_INPUTS: &str = "univariate training inputs";
/// The noise of its targets.
pub(super) const UNIVARIATE_NOISE: &str = "univariate noise";
/// The initial parameters of a network on one input.
pub(super) const UNIVARIATE_INITIAL: &str = "univariate initial parameters";
/// The initial parameters of a deep network.
pub(super) const DEEP_INITIAL: &str = "deep initial parameters";
/// The training samples of a classification.
pub(super) const CLASS_SPLIT: &str = "class split";
/// The initial parameters of a network that classifies.
pub(super) const CLASS_INITIAL: &str = "class initial parameters";
/// The small pushes away from a minimum.
pub(super) const PUSHES: &str = "pushes";
/// The batches after a push.
pub(super) const PUSHED_BATCHES: &str = "batches after a push";
/// The inputs of a model that cannot interpolate, and its parameters.
pub(super) const PLATEAU_INPUTS: &str = "plateau inputs";
/// The noise of its targets.
pub(super) const PLATEAU_NOISE: &str = "plateau noise";
/// The start vector of Lanczos' method for the population matrix of a ReLU network.
pub(super) const RELU_POPULATION: &str = "relu population start";
/// The start vector of Lanczos' method for the Hessian of a deep network.
pub(super) const DEEP_HESSIAN: &str = "deep Hessian start";
/// The parameters of the networks whose traces are estimated.
pub(super) const ESTIMATOR_NETWORK: &str = "estimator network";

/// The random basis of an operator whose trace is estimated.
pub(super) fn estimator_basis(spectrum: &str) -> String {
    format!("estimator basis {spectrum}")
}

/// The random vectors of estimates. Estimates of different operators, estimators and budgets have
/// different vectors, so that their luck is independent.
pub(super) fn estimates(spectrum: &str, estimator: &str, products: usize) -> String {
    format!("estimates {spectrum} {estimator} {products}")
}

/// The parameters of the networks on which the norm theorems are tried.
pub(super) fn norms(width: usize, input_dim: usize) -> String {
    format!("norms {width} {input_dim}")
}
