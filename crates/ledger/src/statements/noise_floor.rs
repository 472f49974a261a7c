//! S18: the noise floor, compared with the stationary covariance of the recursion.

use flatmin_theory::noise_floor;

use crate::families::steps::{Range, Recursion, batch_models, mean_hessian};
use crate::prelude::*;

pub(super) static S18: Statement = Statement {
    id: "S18",
    title: "The noise floor",
    words: "Where the residuals r_i at the stationary point do not vanish, SGD inside its edge \
            settles into a stationary law. The fluctuations q_i = E(g_iᵀδ)² of the outputs are q = \
            (I − M)⁻¹ M r² with the M of S15, and the mean training loss is (1/2n) 1ᵀ(I − M)⁻¹ r², \
            which diverges at η* where the Perron vector of M meets r². With several outputs \
            Q = (I − Φ)⁻¹ Φ(rrᵀ). With weight decay the mean m of the r_ig_i does not vanish, and \
            (1−α) mmᵀ is taken off the covariance (p/n) Σ r_i²g_ig_iᵀ that drives the law.",
    latex: r"q = (I - M)^{-1} M\, r^2,\quad \frac{1}{2n}\sum_i \mathbb E\,(r_i + g_i^\top\delta)^2 = \frac{1}{2n}\,\mathbf 1^\top (I - M)^{-1} r^2",
    hypotheses: "linear least squares, or the linearised network, at the point where the mean \
                 step vanishes; η below η*; independent batches; the second form without decay",
    source: FLATMIN,
    check_words: "PyTorch's recursion around that point as affine maps of the state for every \
                  batch; the linear systems for the stationary mean and second moments are solved, \
                  and the training loss is averaged over the law. Past the threshold there is no \
                  floor.",
    mutant_words: "M forgotten in front of r²: q = (I − M)⁻¹ r²",
    trial: &Trial { generate: NoiseFloorInstance::random, check },
};

/// A stationary point of linear least squares, at which an optimizer fluctuates.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseFloorInstance {
    jacobian: RowMatrix,
    outputs: usize,
    residuals: Vec<f64>,
    optimizer: Optimizer,
    batch: Batch,
    share: f64,
}

impl Instance for NoiseFloorInstance {
    fn sizes(&self) -> String {
        let Self { jacobian, outputs, optimizer, batch, share, .. } = self;
        let (n, p) = (jacobian.rows() / outputs, jacobian.columns());
        let batch = batch_words(*batch);
        format!("n = {n}, k = {outputs}, p = {p}, {batch}, {optimizer}, η = {share} η*")
    }
}

impl NoiseFloorInstance {
    /// A point with a Jacobian, one residual for each of its rows and `outputs` rows for each
    /// sample; the learning rate is `share` times the threshold. Without weight decay the
    /// residuals are made orthogonal to the columns of the Jacobian, so that the point is
    /// stationary.
    ///
    /// # Errors
    /// [`InstanceError::Length`] when there is not one residual for each row.
    pub fn new(
        (jacobian, outputs): (RowMatrix, usize),
        mut residuals: Vec<f64>,
        optimizer: Optimizer,
        batch: Batch,
        share: f64,
    ) -> Result<Self, InstanceError> {
        expect_length("the residuals", residuals.len(), jacobian.rows())?;
        let gram = jacobian.as_mat() * jacobian.as_mat().transpose();
        if let Ok(eigen) = symmetric_eigen(gram.as_ref())
            && optimizer.coupled_decay() + optimizer.decoupled_decay() <= 0.0
        {
            let first = Range::of(&eigen.values).first;
            for _ in 0..2 {
                for column in first..residuals.len() {
                    let direction: Vec<f64> =
                        (0..residuals.len()).map(|i| eigen.vectors[(i, column)]).collect();
                    let along = simd::dot(&direction, &residuals);
                    simd::axpy(-along, &direction, &mut residuals);
                }
            }
        }
        Ok(Self { jacobian, outputs, residuals, optimizer, batch, share })
    }

    /// At most 5 samples with one output, or 3 with two, and at most 2 parameters.
    fn random(rng: &mut dyn Rng) -> Self {
        let jacobian = small_jacobian(6, 2, rng);
        let most = if rng.random_bool(0.3) { 2 } else { 1 };
        let outputs = most.min(jacobian.rows());
        let samples = (jacobian.rows() / outputs).min(5);
        let columns = jacobian.columns().min(samples * outputs);
        let jacobian = RowMatrix::from_fn(samples * outputs, columns, |i, j| jacobian.row(i)[j]);
        let jacobian = normalised(&jacobian);
        let residuals = (0..jacobian.rows()).map(|_| normal(rng)).collect();
        let (optimizer, batch) = (random_optimizer(rng), independent_batch(samples, rng));
        let share = rng.random_range(0.05..0.95);
        Self::new((jacobian, outputs), residuals, optimizer, batch, share)
            .expect("there is a residual for each row")
    }

    /// The mean m of the `J_iᵀr_i`.
    fn mean_gradient(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.jacobian.columns()];
        let samples = self.jacobian.rows() / self.outputs;
        for (row, residual) in self.residuals.iter().enumerate() {
            simd::axpy(residual / samples as f64, self.jacobian.row(row), &mut mean);
        }
        mean
    }

    /// θ*, where the mean step vanishes: `wθ*` balances the mean gradient, or the mean step of the
    /// buffer under decoupled decay. `None` if m does not vanish without decay.
    fn origin(&self) -> Option<Vec<f64>> {
        /// Rounding of a mean gradient whose terms are of order one.
        const ROUNDING: f64 = 1e-13;
        let Self { optimizer, residuals, .. } = self;
        let mean = self.mean_gradient();
        let momentum = optimizer.momentum_coefficient();
        let buffer = (1.0 - optimizer.dampening_coefficient()) / (1.0 - momentum);
        let gain = match (momentum > 0.0, optimizer.is_nesterov()) {
            (false, _) => 1.0,
            (true, false) => buffer,
            (true, true) => 1.0 + momentum * buffer,
        };
        let decay = (optimizer.coupled_decay(), optimizer.decoupled_decay());
        let factor = match decay {
            (coupled, _) if coupled > 0.0 => -1.0 / coupled,
            (_, decoupled) if decoupled > 0.0 => -gain / decoupled,
            _ => {
                let most = ROUNDING * simd::norm_squared(residuals).sqrt();
                return (simd::norm_squared(&mean).sqrt() <= most).then(|| vec![0.0; mean.len()]);
            }
        };
        Some(mean.iter().map(|m| factor * m).collect())
    }
}

/// Points with a slower mode than this, relative to the fastest, are not compared: the linear
/// systems lose as many digits.
const SLOWEST: f64 = 1e-4;

/// A fluctuation relative to others, or to the loss of the minimum, that counts as none.
const NOISELESS: f64 = 1e-6;

/// Residuals that vanish are rounding, and have no relative error.
const LEAST_RESIDUAL: f64 = 1e-6;

/// Compares the training loss and what it exceeds the minimum by. The mutant forgets M in front of
/// r², which adds the loss of the minimum to the excess.
fn check(form: Form, instance: &NoiseFloorInstance) -> Checked {
    let NoiseFloorInstance { jacobian, outputs, residuals, optimizer, batch, share } = instance;
    let Some(models) = batch_models(jacobian, *outputs, residuals, *batch) else {
        return Ok(Vec::new());
    };
    let values = symmetric_eigenvalues(mean_hessian(&models).as_ref())?;
    let range = Range::of(&values);
    let spans = range.first == 0 && range.slowest() >= SLOWEST;
    let Some(origin) = instance.origin() else { return Ok(Vec::new()) };
    if !spans || simd::norm_squared(residuals) <= LEAST_RESIDUAL * LEAST_RESIDUAL {
        return Ok(Vec::new());
    }
    let minimum = Minimum::with_outputs(jacobian, *outputs)?;
    let edge = threshold(&minimum, optimizer, batch)?;
    let rate = share * edge.midpoint();
    let ones = vec![1.0; jacobian.columns()];
    let recursion = Recursion { optimizer, preconditioner: &ones };
    let (mean, covariance) = recursion.stationary(rate, &models, &origin);
    let samples = (jacobian.rows() / outputs) as f64;
    let dim = jacobian.columns();
    let positions = Mat::from_fn(dim, dim, |k, l| covariance[(k, l)]);
    let (mut still, mut excess, mut shift) = (0.0, 0.0, 0.0_f64);
    let mut quiet = f64::INFINITY;
    for (row, residual) in residuals.iter().enumerate() {
        let g = jacobian.row(row);
        let fluctuation = quadratic_form(positions.as_ref(), g);
        still += residual * residual / (2.0 * samples);
        excess += fluctuation / (2.0 * samples);
        shift = shift.max(simd::dot(g, &mean[..dim]).abs());
        quiet = quiet.min(fluctuation);
    }
    let Some(floor) = noise_floor(&minimum, optimizer, batch, rate, residuals)? else {
        return Ok(vec![Comparison::equal("floor below the threshold", 0.0, 1.0, 1.0)]);
    };
    let forgotten = form.pick(0.0, still);
    // An excess that is smaller is a difference of larger terms.
    let scale = excess.max(0.01 * still);
    let (loss, claimed) = (still + excess, floor.training_loss + forgotten);
    let mut comparisons = vec![
        Comparison::equal("excess", floor.excess + forgotten, excess, scale),
        Comparison::equal("training loss", claimed, loss, loss),
    ];
    if form == Form::Stated {
        let size = (2.0 * samples * still).sqrt();
        comparisons.push(Comparison::equal("mean output", shift, 0.0, size));
        // Noise that does not reach a part of the minimum does not make it diverge.
        if quiet > NOISELESS * excess {
            let past = noise_floor(&minimum, optimizer, batch, 1.01 * edge.upper, residuals)?;
            let exists = if past.is_some() { 1.0 } else { 0.0 };
            comparisons.push(Comparison::equal("no floor past the threshold", exists, 0.0, 1.0));
        }
    }
    Ok(comparisons)
}
