//! Estimators of a trace, tried many times on operators whose trace is known.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use faer::{Mat, MatMut, MatRef};
use flatmin_curvature::{CurvatureOptions, gauss_newton_with, hessian_with};
use flatmin_linalg::{
    Operator, Parallelism, TraceMethod, TraceOptions, matmul, named, product, stream, thin_qr,
    trace,
};
use flatmin_models::data::{self, Split};
use flatmin_models::{Activation, Mlp, TwoLayerRelu};
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::streams;
use crate::statistics::median;

/// An operator of moderate dimension, formed, so that its trace is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spectrum {
    /// Eigenvalues from 1 to 2 in a random basis.
    Flat,
    /// Eigenvalues 1/k in a random basis.
    PowerLaw,
    /// Eigenvalues from 1 to 2 and one a thousand times as large, in a random basis.
    Outlier,
    /// The Gauss–Newton matrix of a two-layer ReLU network at random parameters.
    ReluNetwork,
    /// The Hessian of a tanh perceptron at random parameters; it is indefinite.
    PerceptronHessian,
}

/// All trace estimators.
pub const ESTIMATORS: [TraceMethod; 4] = [
    TraceMethod::Hutchinson,
    TraceMethod::HutchPlusPlus,
    TraceMethod::XTrace,
    TraceMethod::XNysTrace,
];

/// The usual name of an estimator.
pub fn estimator_name(estimator: TraceMethod) -> &'static str {
    match estimator {
        TraceMethod::Hutchinson => "Hutchinson",
        TraceMethod::HutchPlusPlus => "Hutch++",
        TraceMethod::XTrace => "XTrace",
        TraceMethod::XNysTrace => "XNysTrace",
    }
}

/// Many independent estimates of one trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EstimatorSpec {
    /// The operator.
    pub spectrum: Spectrum,
    /// Its dimension, or the parameters of a network of about that dimension.
    pub dim: usize,
    /// The estimator.
    pub estimator: TraceMethod,
    /// Operator products of an estimate.
    pub products: usize,
    /// Number of estimates.
    pub replicas: usize,
    /// Seed of the operator and the estimates.
    pub seed: u64,
}

/// A summary of many independent estimates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EstimatorResult {
    /// Dimension of the operator.
    pub dim: usize,
    /// Its exact trace.
    pub trace: f64,
    /// Estimates whose 95 % interval holds it.
    pub covered: usize,
    /// Number of estimates.
    pub replicas: usize,
    /// Median of the errors, relative to the trace.
    pub median_error: f64,
    /// Median of the standard errors, relative to the trace.
    pub median_standard_error: f64,
}

named!(Spectrum, [
    "flat" => Flat,
    "power law" => PowerLaw,
    "outlier" => Outlier,
    "ReLU network" => ReluNetwork,
    "perceptron Hessian" => PerceptronHessian,
]);

impl Spectrum {
    /// Says that the operator is positive semidefinite.
    pub fn is_positive(self) -> bool {
        self != Self::PerceptronHessian
    }

    /// The operator that [`Self::form`] gives, formed once for all the cells that try it.
    fn matrix(self, dim: usize, seed: u64) -> Result<Arc<Dense>, CellError> {
        static FORMED: Mutex<VecDeque<(FormKey, Arc<Dense>)>> = Mutex::new(VecDeque::new());
        let key = (self, dim, seed);
        // The lock is held while a matrix is formed, so that no other thread forms it too. A panic
        // cannot leave the queue in a wrong state.
        let mut formed = FORMED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, matrix)) = formed.iter().find(|(known, _)| *known == key) {
            return Ok(Arc::clone(matrix));
        }
        let matrix = Arc::new(self.form(dim, seed)?);
        formed.truncate(MAX_FORMED - 1);
        formed.push_front((key, Arc::clone(&matrix)));
        Ok(matrix)
    }

    fn form(self, dim: usize, seed: u64) -> Result<Dense, CellError> {
        // Cells run side by side: one thread each.
        let sequential = CurvatureOptions {
            parallelism: Parallelism::Sequential,
            ..CurvatureOptions::default()
        };
        let spread = |k: usize| 1.0 + k as f64 / dim as f64;
        Ok(match self {
            Self::Flat => self.rotated(dim, seed, spread),
            Self::PowerLaw => self.rotated(dim, seed, |k| 1.0 / (k as f64 + 1.0)),
            Self::Outlier => self.rotated(dim, seed, |k| if k == 0 { 1000.0 } else { spread(k) }),
            Self::ReluNetwork => {
                let side = dim.isqrt().max(1);
                let model = TwoLayerRelu::new(side, side)?;
                let data = data::relu_dataset(side, side, 12 * side, Split::Training, seed)?;
                let mut rng = stream(seed, streams::ESTIMATOR_NETWORK, 0);
                let parameters = model.initial_parameters(&mut rng);
                Dense::of(&gauss_newton_with(&model, &parameters, &data, &sequential)?)
            }
            Self::PerceptronHessian => {
                let side = (dim / 2).isqrt().max(1);
                let model = Mlp::new(&[side, side, side, 1], Activation::Tanh, true)?;
                let data = data::relu_dataset(side, side, 4 * side, Split::Training, seed)?;
                let mut rng = stream(seed, streams::ESTIMATOR_NETWORK, 0);
                let parameters = model.initial_parameters(&mut rng);
                Dense::of(&hessian_with(&model, &parameters, &data, &sequential)?)
            }
        })
    }

    /// Eigenvalues `eigenvalue(k)` in a random basis.
    fn rotated(self, dim: usize, seed: u64, eigenvalue: impl Fn(usize) -> f64) -> Dense {
        let mut rng = stream(seed, &streams::estimator_basis(self.name()), 0);
        let gaussian: Mat<f64> = Mat::from_fn(dim, dim, |_, _| StandardNormal.sample(&mut rng));
        let (basis, _) = thin_qr(gaussian.as_ref());
        let scaled = Mat::from_fn(dim, dim, |i, k| basis[(i, k)] * eigenvalue(k));
        Dense(product(scaled.as_ref(), basis.transpose()))
    }
}

/// Largest number of matrices that are kept for later cells: one for each spectrum, 4 MB at
/// dimension 300.
const MAX_FORMED: usize = Spectrum::ALL.len();

/// The arguments that a matrix is formed from.
type FormKey = (Spectrum, usize, u64);

/// A symmetric matrix.
struct Dense(Mat<f64>);

impl Dense {
    /// The matrix of an operator.
    fn of(operator: &impl Operator) -> Self {
        let dim = operator.dim();
        let mut images = Mat::zeros(dim, dim);
        operator.apply(Mat::<f64>::identity(dim, dim).as_ref(), images.as_mut());
        Self(images)
    }
}

impl Operator for Dense {
    fn dim(&self) -> usize {
        self.0.nrows()
    }

    fn apply(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) {
        matmul(images, faer::Accum::Replace, self.0.as_ref(), vectors, 1.0);
    }
}

impl EstimatorSpec {
    pub(super) fn run(&self) -> Result<EstimatorResult, CellError> {
        let matrix = self.spectrum.matrix(self.dim, self.seed)?;
        let dim = matrix.dim();
        let exact: f64 = (0..dim).map(|i| matrix.0[(i, i)]).sum();
        let options = TraceOptions { method: self.estimator, max_products: self.products };
        let (mut covered, mut errors, mut standard_errors) = (0, Vec::new(), Vec::new());
        let (spectrum, estimator) = (self.spectrum.name(), estimator_name(self.estimator));
        let purpose = streams::estimates(spectrum, estimator, self.products);
        for replica in 0..self.replicas {
            let mut rng = stream(self.seed, &purpose, replica as u64);
            let estimate = trace(matrix.as_ref(), &options, &mut rng)?;
            covered += usize::from(estimate.interval(0.95).contains(exact));
            errors.push((estimate.value - exact).abs() / exact.abs());
            standard_errors.push(estimate.standard_error / exact.abs());
        }
        Ok(EstimatorResult {
            dim,
            trace: exact,
            covered,
            replicas: self.replicas,
            median_error: median(&errors),
            median_standard_error: median(&standard_errors),
        })
    }

    pub(super) fn label(&self) -> String {
        let (estimator, spectrum) = (estimator_name(self.estimator), self.spectrum.name());
        format!("{estimator} on {spectrum}, {} products, seed {}", self.products, self.seed)
    }
}
