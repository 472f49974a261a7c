//! Minima that are left by a small push: real steps of a network beside exact second moments.

use faer::{Accum, Mat};
use flatmin_linalg::{RowMatrix, matmul, product, stream};
use flatmin_models::{Dataset, Loss, Mlp, Model as _};
use flatmin_optim::{Method, Sampling, StoppingRule, TrainOptions, Trainer};
use flatmin_theory::{Batch, Minimum, Noise, OutputHessians, ThresholdOptions, lyapunov_function};
use rand_distr::{Distribution as _, StandardNormal};
use serde::{Deserialize, Serialize};

use super::classes::{ClassProblem, ClassSpec, output_hessians};
use super::error::CellError;
use super::linearised::LinearisedPoint;
use super::streams;

/// Factors of η* at which a minimum is left or not.
pub(crate) const PUSHED_FACTORS: [f64; 4] = [0.8, 0.9, 1.1, 1.25];
/// The standard deviation of a parameter after the push.
const PUSH: f64 = 1e-7;

/// Pushes at a minimum that cross-entropy led to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PerturbedSpec {
    /// The run that leads to the minimum.
    pub training: ClassSpec,
    /// Samples per step after the push, drawn without replacement.
    pub batch_size: usize,
    /// True for cross-entropy whose targets are the probabilities of the network, false for the
    /// squared loss whose targets are its outputs. Both are at an exact minimum there.
    pub is_cross_entropy: bool,
    /// Number of replicas.
    pub replicas: usize,
    /// Steps after the push.
    pub steps: usize,
}

/// The growth after a push at one multiple of η*.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PushedGrowth {
    /// The learning rate is this times η*.
    pub factor: f64,
    /// `E V(δ_t)/E V(δ_0)` of linearised SGD, exact.
    pub exact: f64,
    /// The same mean of the network itself, over the replicas.
    pub replicas: f64,
    /// The share of replicas whose V has grown.
    pub grown: f64,
}

/// The growth after pushes at one minimum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerturbedResult {
    /// The exact threshold η*.
    pub threshold: f64,
    /// The growth at every multiple of it.
    pub growth: Vec<PushedGrowth>,
}

/// A minimum with the Lyapunov function of S14, and the map of a push to its eigenbasis.
struct Pushed<'m> {
    model: &'m Mlp,
    data: Dataset,
    at: Vec<f64>,
    outputs: Vec<f64>,
    minimum: Minimum,
    loss: Option<OutputHessians>,
    form: RowMatrix,
}

impl PerturbedSpec {
    pub(super) fn run(&self) -> Result<PerturbedResult, CellError> {
        let spec = &self.training;
        let data = spec.problem.dataset(spec.seed)?;
        let model = spec.problem.model(&data)?;
        let initial = ClassProblem::initial(&model, spec.seed);
        let rng = stream(spec.seed, streams::BATCHES, 0);
        let options = spec.options();
        let run = Trainer::new(&model, &data, &initial, &options, rng)?.run(|_| {});
        let point = LinearisedPoint::new(&model, &run.parameters, data.inputs());
        let loss = if self.is_cross_entropy {
            Some(output_hessians(&model, &run.parameters, data.inputs())?)
        } else {
            None
        };
        let minimum = match &loss {
            Some(loss) => point.weighted_minimum(loss)?,
            None => point.minimum_of_outputs(data.output_dim())?,
        };
        let batch = Batch::new(self.batch_size, Sampling::WithoutReplacement)?;
        let options = ThresholdOptions { relative_width: 1e-6, ..ThresholdOptions::default() };
        let found = lyapunov_function(&minimum, &batch, &options)?;
        let threshold = found.threshold.midpoint();
        let noise = batch.noise(minimum.sample_count())?;
        let outputs = model.outputs(&run.parameters, data.inputs());
        let data = retargeted(&data, &outputs, self.is_cross_entropy)?;
        let at = run.parameters;
        let form = found.matrix;
        let pushed = Pushed { model: &model, data, at, outputs, minimum, loss, form };
        let growth = PUSHED_FACTORS
            .map(|factor| self.growth(&pushed, noise, factor, factor * threshold))
            .into_iter()
            .collect::<Result<Vec<_>, CellError>>()?;
        Ok(PerturbedResult { threshold, growth })
    }

    fn growth(
        &self,
        pushed: &Pushed<'_>,
        noise: Noise,
        factor: f64,
        learning_rate: f64,
    ) -> Result<PushedGrowth, CellError> {
        let method =
            Method::Sgd { batch_size: self.batch_size, sampling: Sampling::WithoutReplacement };
        let options = TrainOptions {
            stopping: StoppingRule::never(),
            ..TrainOptions::new(method, learning_rate, self.steps as u64)
        };
        let (mut before, mut after, mut grown) = (0.0, 0.0, 0);
        for replica in 0..self.replicas {
            let seed = self.training.seed;
            let mut rng = stream(seed, streams::PUSHES, replica as u64);
            let start: Vec<f64> = pushed
                .at
                .iter()
                .map(|value| {
                    let step: f64 = StandardNormal.sample(&mut rng);
                    value + PUSH * step
                })
                .collect();
            let rng = stream(seed, streams::PUSHED_BATCHES, replica as u64);
            let run = Trainer::new(pushed.model, &pushed.data, &start, &options, rng)?.run(|_| {});
            let (first, last) = (pushed.form_of(&start)?, pushed.form_of(&run.parameters)?);
            before += first;
            after += last;
            grown += usize::from(last > first);
        }
        Ok(PushedGrowth {
            factor,
            exact: exact_growth(&pushed.minimum, &pushed.form, noise, learning_rate, self.steps),
            replicas: after / before,
            grown: grown as f64 / self.replicas as f64,
        })
    }

    pub(super) fn label(&self) -> String {
        let loss = if self.is_cross_entropy { "cross-entropy" } else { "squared loss" };
        format!("pushed B={} {loss}, {}", self.batch_size, self.training.label())
    }
}

/// The data with targets that the outputs meet exactly.
fn retargeted(
    data: &Dataset,
    outputs: &[f64],
    is_cross_entropy: bool,
) -> Result<Dataset, CellError> {
    let (n, k) = (data.sample_count(), data.output_dim());
    let targets = RowMatrix::from_fn(n, k, |i, a| {
        let logits = &outputs[i * k..(i + 1) * k];
        if !is_cross_entropy {
            return logits[a];
        }
        let sum: f64 = logits.iter().map(|z| libm::exp(z - logits[a])).sum();
        1.0 / sum
    });
    let data = Dataset::with_outputs(data.inputs().clone(), &targets)?;
    Ok(if is_cross_entropy { data.with_loss(Loss::cross_entropy(0.0)?)? } else { data })
}

impl Pushed<'_> {
    /// `V(δ) = cᵀY*c` with the coordinates c of `δ = θ − θ*` in the eigenbasis of G, from the
    /// change of the outputs: `c = Λ^{−1} ĝᵀ (R_iᵀ J_i δ) / n`.
    fn form_of(&self, parameters: &[f64]) -> Result<f64, CellError> {
        let outputs = self.model.outputs(parameters, self.data.inputs());
        let changes = Mat::from_fn(outputs.len(), 1, |i, _| outputs[i] - self.outputs[i]);
        let changes = match &self.loss {
            Some(loss) => loss.weigh(changes.as_ref())?,
            None => changes,
        };
        let (_, eigenvalues, rows) = self.minimum.scaled();
        let mut coordinates = product(rows.as_mat().transpose(), changes.as_ref());
        for (k, eigenvalue) in eigenvalues.iter().enumerate() {
            coordinates[(k, 0)] /= *eigenvalue;
        }
        let image = product(self.form.as_mat(), coordinates.as_ref());
        Ok((0..eigenvalues.len()).map(|k| coordinates[(k, 0)] * image[(k, 0)]).sum())
    }
}

/// `E V(δ_t)/E V(δ_0)` of linearised SGD whose start has the second moment I, from
///
/// ```text
/// P' = P − η(GP + PG) + η²[α GPG + p (1/n) Σ J_iᵀ(J_iPJ_iᵀ)J_i].
/// ```
fn exact_growth(
    minimum: &Minimum,
    form: &RowMatrix,
    noise: Noise,
    learning_rate: f64,
    steps: usize,
) -> f64 {
    let (exponent, eigenvalues, rows) = minimum.scaled();
    let (n, k) = (minimum.sample_count(), minimum.output_count());
    let (rank, rows) = (eigenvalues.len(), rows.as_mat());
    let rate = learning_rate * libm::exp2(f64::from(2 * exponent));
    let mut moments = Mat::<f64>::identity(rank, rank);
    let alpha = noise.mean_weight();
    for _ in 0..steps {
        let half = product(rows, moments.as_ref());
        // The blocks J_iPJ_iᵀ, times the rows of J_i.
        let mut weighted = Mat::zeros(n * k, rank);
        for i in 0..n {
            let block = product(half.subrows(i * k, k), rows.subrows(i * k, k).transpose());
            let image = product(block.as_ref(), rows.subrows(i * k, k));
            weighted.subrows_mut(i * k, k).copy_from(image);
        }
        let mut noise_sum = Mat::zeros(rank, rank);
        let scale = noise.coefficient / n as f64;
        matmul(noise_sum.as_mut(), Accum::Replace, rows.transpose(), weighted.as_ref(), scale);
        for a in 0..rank {
            for b in 0..rank {
                let (la, lb) = (rate * eigenvalues[a], rate * eigenvalues[b]);
                moments[(a, b)] = (1.0 - la - lb + alpha * la * lb) * moments[(a, b)]
                    + rate * rate * noise_sum[(a, b)];
            }
        }
    }
    let trace: f64 = (0..rank).map(|a| form.row(a)[a]).sum();
    let pairs = (0..rank).flat_map(|a| (0..rank).map(move |b| (a, b)));
    pairs.map(|(a, b)| form.row(a)[b] * moments[(a, b)]).sum::<f64>() / trace
}
