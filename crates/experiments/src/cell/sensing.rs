//! Training runs of matrix sensing.

use faer::{Mat, MatRef};
use flatmin_linalg::{EigenError, RowMatrix, Sharpness, product, simd, stream, symmetric_eigen};
use flatmin_models::{Dataset, MatrixSensing, singular_values};
use flatmin_optim::{Method, Observation, Outcome, TrainOptions};
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::linearised::LinearisedPoint;
use super::streams;
use super::training::{Checkpoint, MeasuredRun, TrainingProblem, train_measured};

/// The recovery of a matrix of rank 1 from measurements `⟨X_i, M*⟩` without noise, where the entries
/// of `X_i` are independent and N(0, 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensingProblem {
    /// d: the matrices are d × d, the factors have d columns, and `M* = d u vᵀ` with unit vectors.
    pub dim: usize,
    /// Number n of measurements. A larger n adds measurements to the same design.
    pub sample_count: usize,
}

impl SensingProblem {
    /// The model: factors of full size.
    pub(super) fn model(self) -> Result<MatrixSensing, CellError> {
        Ok(MatrixSensing::new(self.dim, self.dim, self.dim)?)
    }

    /// M*.
    pub(super) fn target(self, seed: u64) -> RowMatrix {
        let mut rng = stream(seed, streams::SENSING_TARGET, 0);
        let [u, v] = [(); 2].map(|()| -> Vec<f64> {
            let values: Vec<f64> = (0..self.dim).map(|_| StandardNormal.sample(&mut rng)).collect();
            let norm = simd::norm_squared(&values).sqrt();
            values.iter().map(|value| value / norm).collect()
        });
        RowMatrix::from_fn(self.dim, self.dim, |i, j| self.dim as f64 * u[i] * v[j])
    }

    /// The measurements.
    pub(super) fn dataset(self, seed: u64) -> Result<Dataset, CellError> {
        let mut rng = stream(seed, streams::SENSING_INPUTS, 0);
        let inputs = RowMatrix::from_fn(self.sample_count, self.dim * self.dim, |_, _| {
            StandardNormal.sample(&mut rng)
        });
        let target = self.target(seed);
        let targets = (0..self.sample_count).map(|i| simd::dot(inputs.row(i), target.values()));
        let targets = targets.collect();
        Ok(Dataset::new(inputs, targets)?)
    }

    /// `η_c = 1/(s²√(d₁d₂)‖M*‖_*)`, the learning rate at which the population trace condition of the
    /// balanced M* turns: here `1/d²`.
    pub(crate) fn critical_rate(self) -> f64 {
        1.0 / (self.dim * self.dim) as f64
    }
}

/// The square roots of `A = mean X_iX_iᵀ` and `B = mean X_iᵀX_i`, and their inverses.
pub(super) struct InputRoots {
    pub(super) roots: [Mat<f64>; 2],
    pub(super) inverse_roots: [Mat<f64>; 2],
}

impl InputRoots {
    pub(super) fn new(problem: SensingProblem, inputs: &RowMatrix) -> Result<Self, EigenError> {
        let d = problem.dim;
        let mut means = [Mat::zeros(d, d), Mat::zeros(d, d)];
        for i in 0..inputs.rows() {
            let x = MatRef::from_row_major_slice(inputs.row(i), d, d);
            for (mean, part) in
                means.iter_mut().zip([product(x, x.transpose()), product(x.transpose(), x)])
            {
                *mean += faer::Scale(1.0 / inputs.rows() as f64) * part;
            }
        }
        let mut powers = Vec::new();
        for mean in &means {
            let eigen = symmetric_eigen(mean.as_ref())?;
            for power in [f64::sqrt as fn(f64) -> f64, |value| 1.0 / value.sqrt()] {
                powers.push(of_eigen(&eigen.values, eigen.vectors.as_ref(), power));
            }
        }
        let [left, inverse_left, right, inverse_right] =
            powers.try_into().unwrap_or_else(|_| [(); 4].map(|()| Mat::zeros(d, d)));
        Ok(Self { roots: [left, right], inverse_roots: [inverse_left, inverse_right] })
    }

    /// `A^½ W B^½`.
    pub(super) fn weight(&self, matrix: &RowMatrix) -> RowMatrix {
        sandwich(&self.roots, matrix.as_mat())
    }
}

/// `L X R`.
pub(super) fn sandwich([left, right]: &[Mat<f64>; 2], matrix: MatRef<'_, f64>) -> RowMatrix {
    let weighted = product(product(left.as_ref(), matrix).as_ref(), right.as_ref());
    RowMatrix::from_fn(weighted.nrows(), weighted.ncols(), |i, j| weighted[(i, j)])
}

/// A function of a symmetric matrix from its eigendecomposition.
pub(super) fn of_eigen(
    values: &[f64],
    vectors: MatRef<'_, f64>,
    function: impl Fn(f64) -> f64,
) -> Mat<f64> {
    let scaled =
        Mat::from_fn(vectors.nrows(), values.len(), |i, k| function(values[k]) * vectors[(i, k)]);
    product(scaled.as_ref(), vectors.transpose())
}

/// The nuclear norm.
pub(super) fn nuclear_norm(matrix: &RowMatrix) -> Result<f64, EigenError> {
    Ok(singular_values(matrix)?.iter().sum())
}

/// `‖W − M*‖_F² / ‖M*‖_F²`.
pub(super) fn relative_error(matrix: &RowMatrix, target: &RowMatrix) -> f64 {
    let pairs = matrix.values().iter().zip(target.values());
    let difference: f64 = pairs.map(|(w, m)| (w - m).powi(2)).sum();
    difference / simd::norm_squared(target.values())
}

/// The complete description of one training run of matrix sensing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SensingSpec {
    /// The problem.
    pub problem: SensingProblem,
    /// The optimizer.
    pub method: Method,
    /// The learning rate η, constant.
    pub learning_rate: f64,
    /// Gradient-norm clipping.
    pub clip_norm: f64,
    /// Largest number of steps.
    pub max_steps: u64,
    /// True to compute the exact threshold of SGD at the end.
    pub with_threshold: bool,
    /// Seed of the target, the measurements, the start and the batches.
    pub seed: u64,
}

/// The measurements at the end of a run of matrix sensing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SensingMeasurement {
    /// Steps done.
    pub step: u64,
    /// Training loss `(1/2n) Σ r_i²`.
    pub train_loss: f64,
    /// Sharpness of the empirical Gauss–Newton matrix.
    pub empirical: Sharpness,
    /// The exact threshold η* of the SGD that trains, to 1e-6; present where it is asked for and
    /// finite.
    pub threshold: Option<f64>,
    /// `‖W‖_* / ‖M*‖_*`.
    pub relative_nuclear_norm: f64,
    /// `‖A^½WB^½‖_*` (F5).
    pub weighted_norm: f64,
    /// `‖W − M*‖_F² / ‖M*‖_F²`.
    pub relative_error: f64,
    /// `‖U‖_F² / ‖V‖_F²`.
    pub factor_ratio: f64,
}

impl Checkpoint for SensingMeasurement {
    fn step(&self) -> u64 {
        self.step
    }

    fn is_finite(&self) -> bool {
        let Sharpness { trace, frobenius_norm, lambda_max } = self.empirical;
        [self.train_loss, trace, frobenius_norm, lambda_max, self.relative_error]
            .into_iter()
            .all(f64::is_finite)
    }
}

/// A finished run of matrix sensing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SensingResult {
    /// The outcome of training.
    pub outcome: Outcome,
    /// Steps done.
    pub steps: u64,
    /// Steps whose gradient was clipped.
    pub clipped_steps: u64,
    /// The end; absent when the run diverged.
    pub last: Option<SensingMeasurement>,
}

impl SensingSpec {
    pub(super) fn run(&self) -> Result<SensingResult, CellError> {
        let model = self.problem.model()?;
        let data = self.problem.dataset(self.seed)?;
        let target = self.problem.target(self.seed);
        let target_norm = nuclear_norm(&target)?;
        let roots = InputRoots::new(self.problem, data.inputs())?;
        let initial = model.initial_parameters(&mut stream(self.seed, streams::SENSING_INITIAL, 0));
        let options = TrainOptions {
            clip_norm: self.clip_norm,
            ..TrainOptions::new(self.method, self.learning_rate, self.max_steps)
        };
        let problem = TrainingProblem { model, data, initial };
        let measure = |point: &LinearisedPoint, seen: Observation<'_>| {
            let curvature = point.curvature(&model, seen.parameters, &problem.data)?;
            let matrix = model.matrix(seen.parameters);
            let (u, v) = model.split(seen.parameters);
            Ok(SensingMeasurement {
                step: seen.step,
                train_loss: curvature.loss,
                empirical: curvature.sharpness,
                threshold: if self.with_threshold { point.threshold(self.method)? } else { None },
                relative_nuclear_norm: nuclear_norm(&matrix)? / target_norm,
                weighted_norm: nuclear_norm(&roots.weight(&matrix))?,
                relative_error: relative_error(&matrix, &target),
                factor_ratio: simd::norm_squared(u) / simd::norm_squared(v),
            })
        };
        let MeasuredRun { run, end, .. } = train_measured(&problem, &options, self.seed, measure)?;
        Ok(SensingResult {
            outcome: run.outcome,
            steps: run.steps,
            clipped_steps: run.total.clipped_steps,
            last: end.map(|(last, _)| last),
        })
    }

    pub(super) fn label(&self) -> String {
        let Self { problem: SensingProblem { dim, sample_count }, learning_rate, seed, .. } = self;
        let method = crate::runs::method_name(self.method);
        format!(
            "matrix sensing d={dim} n={sample_count} {method} η={learning_rate:.3e} seed {seed}"
        )
    }
}
