//! S15: the threshold of any linear optimizer, compared with the second moments of its recursion.

use flatmin_theory::Preconditioner;

use crate::families::perron_form::PerronForm;
use crate::families::steps::{MomentMap, Range, Recursion, batch_models, mean_hessian};
use crate::prelude::*;

pub(super) static S15: Statement = Statement {
    id: "S15",
    title: "The threshold of any linear optimizer",
    words: "An optimizer with the state z and the step z' = Az − ηb H_I(cᵀz) is strictly \
            mean-square stable on the range of G if and only if no L_kl has a real eigenvalue at \
            or above 1 and ρ(M) < 1, with α and p of S16. In PyTorch's conventions, SGD has A = b \
            = c = 1; momentum β with dampening τ has A = [[1, β], [0, β]], b = (1−τ, 1−τ), c = (1, \
            0); Nesterov has A = [[1, β²], [0, β]], b = (1+β, 1). Coupled weight decay w takes ηw \
            bcᵀ off A, decoupled decay takes ηw off its first entry. A frozen preconditioner D, \
            as Adam's √v̂ + ε with β = τ = β₁, replaces g_i by D^{−½}g_i. Gradient descent is \
            stable up to 2(1+β)/(κλ_max + (κ or 1+β)w), for coupled or decoupled decay, with κ = \
            1 − τ (1 without momentum) or 1 + 2β for Nesterov.",
    latex: r"\text{strictly stable} \iff \text{no } L_{kl} \text{ has a real eigenvalue} \ge 1,\ \rho(M) < 1,\quad F_k = A - \eta\lambda_k bc^\top,\ L_{kl} = F_k\otimes F_l - (1-\alpha)\eta^2\lambda_k\lambda_l\,(bc^\top)\otimes(bc^\top),\quad M_{ij} = \frac{p\eta^2}{n}\sum_{kl}\hat g_{ik}\hat g_{jk}\,(c\otimes c)^\top(I - L_{kl})^{-1}(b\otimes b)\,\hat g_{il}\hat g_{jl}",
    hypotheses: "a minimum with zero loss, decay aside, linearised; no coupled decay with a \
                 preconditioner; batches drawn independently, with or without replacement or with \
                 Poisson sampling",
    source: "flatmin; for the mean of Adam: Cohen et al. (2022)",
    check_words: "The steps of PyTorch's recursion are written as matrices in the parameters and \
                  the buffer for every batch, and their second moments T averaged over all \
                  batches. The reported interval, the Perron form and, without noise, the limit of \
                  gradient descent are compared with the edge at which X − T(X) = I loses its \
                  positive solution.",
    mutant_words: "dampening forgotten",
    trial: &Trial { generate: OptimizerInstance::random, check },
};

/// A minimum at which an optimizer moves.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerInstance {
    /// The Jacobian, n × p, with entries of order one.
    pub jacobian: RowMatrix,
    /// The batch size and the sampling.
    pub batch: Batch,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The diagonal of the preconditioner, p numbers: ones without one.
    pub preconditioner: Vec<f64>,
}

impl Instance for OptimizerInstance {
    fn sizes(&self) -> String {
        let Self { jacobian, batch, optimizer, .. } = self;
        let (n, p, batch) = (jacobian.rows(), jacobian.columns(), batch_words(*batch));
        let adapted = if self.is_preconditioned() { ", preconditioned" } else { "" };
        format!("n = {n}, p = {p}, {batch}, {optimizer}{adapted}")
    }
}

impl OptimizerInstance {
    /// At most 4 samples and 3 parameters, whose gradients mostly span the parameters.
    fn random(rng: &mut dyn Rng) -> Self {
        let jacobian = small_jacobian(4, 3, rng);
        let columns = jacobian.columns().min(jacobian.rows());
        let jacobian = RowMatrix::from_fn(jacobian.rows(), columns, |i, j| jacobian.row(i)[j]);
        let jacobian = normalised(&jacobian);
        let batch = independent_batch(jacobian.rows(), rng);
        let optimizer = random_optimizer(rng);
        let is_adapted = optimizer.coupled_decay() <= 0.0 && rng.random_bool(0.4);
        let mut entry = || if is_adapted { power_of_ten(rng, 1.0) } else { 1.0 };
        let preconditioner = (0..columns).map(|_| entry()).collect();
        Self { jacobian, batch, optimizer, preconditioner }
    }

    fn is_preconditioned(&self) -> bool {
        self.preconditioner.iter().any(|d| d.to_bits() != 1.0_f64.to_bits())
    }

    /// `J D^{−½}`.
    fn scaled_jacobian(&self) -> Result<RowMatrix, LedgerError> {
        let scaled = Preconditioner::new(self.preconditioner.clone())?;
        let scaled = scaled.scale(self.jacobian.as_mat(), 0);
        Ok(RowMatrix::from_fn(scaled.nrows(), scaled.ncols(), |i, j| scaled[(i, j)]))
    }
}

/// Minima with a slower mode than this, relative to the fastest, are not compared: rounding of the
/// dense operator hides the mode.
const SLOWEST: f64 = 1e-9;

/// Relative step of a learning rate over which the slope of the Perron root is taken.
const STEP: f64 = 1e-6;

/// Checks the reported interval, the Perron form and the limit of gradient descent against the edge
/// of the dense map of second moments. The mutant forgets the dampening.
fn check(form: Form, instance: &OptimizerInstance) -> Checked {
    let OptimizerInstance { jacobian, batch, optimizer, preconditioner } = instance;
    // A hypothesis: coupled decay is none in the coordinates of a preconditioner.
    if instance.is_preconditioned() && optimizer.coupled_decay() > 0.0 {
        return Ok(Vec::new());
    }
    let Some(models) = batch_models(jacobian, 1, &[], *batch) else { return Ok(Vec::new()) };
    let gauss_newton = mean_hessian(&models);
    let root = |k: usize| preconditioner[k].sqrt();
    let curvature = Mat::from_fn(preconditioner.len(), preconditioner.len(), |k, l| {
        gauss_newton[(k, l)] / (root(k) * root(l))
    });
    let values = symmetric_eigenvalues(curvature.as_ref())?;
    let range = Range::of(&values);
    let spans = range.first == 0 && range.slowest() >= SLOWEST;
    let fastest = values.last().copied().unwrap_or(0.0);
    if !(spans && fastest > 0.0) {
        return Ok(Vec::new());
    }
    let recursion = Recursion { optimizer, preconditioner };
    let map = MomentMap::new(&recursion, &models);
    let decay = optimizer.coupled_decay() + optimizer.decoupled_decay();
    let exact = map.threshold(1.0 / (fastest + decay))?;
    let claimed = form.pick(*optimizer, optimizer.dampening(0.0)?);
    let minimum = Minimum::new(&instance.scaled_jacobian()?)?;
    let reported = threshold(&minimum, &claimed, batch)?;
    let name = "interval and dense threshold";
    let mut comparisons =
        Comparison::all_at_most([(name, reported.lower, exact), (name, exact, reported.upper)]);
    let noise = batch.noise(jacobian.rows())?;
    if noise.coefficient <= 0.0 {
        let limit = descent_limit(&claimed, fastest);
        comparisons.push(Comparison::equal("limit of gradient descent", limit, exact, exact));
        return Ok(comparisons);
    }
    let (exponent, eigenvalues, rows) = minimum.scaled();
    let (p, deficit) = (noise.coefficient, noise.mean_deficit);
    let perron = PerronForm { eigenvalues, rows, p, deficit };
    let unit = libm::scalbn(1.0, 2 * exponent);
    let scaled = claimed.for_loss_scale(1.0 / unit);
    let system = |rate: f64| (scaled.state_space(unit * rate), unit * rate);
    // An error of the threshold moves the root by its slope, which is steep near a pole.
    let root = |rate: f64| {
        let (system, rate) = system(rate);
        perron.root(&system, rate)
    };
    let (at, before) = (root(exact)?, root((1.0 - STEP) * exact)?);
    let slope = (at - before).abs() / STEP;
    let name = "Perron root at the threshold";
    comparisons.push(Comparison::equal(name, at, 1.0, slope.max(1.0)));
    for part in [0.3, 0.97, 1.03, 1.5] {
        let verdict = |is_stable: bool| if is_stable { 1.0 } else { 0.0 };
        let (system, rate) = system(part * exact);
        let claimed = verdict(perron.is_stable(&system, rate)?);
        let found = verdict(map.is_stable(part * exact)?);
        comparisons.push(Comparison::equal("verdicts", claimed, found, 1.0));
    }
    Ok(comparisons)
}

/// The edge of an optimizer without noise, whose fastest mode then turns by an eigenvalue −1.
fn descent_limit(optimizer: &Optimizer, fastest: f64) -> f64 {
    let momentum = optimizer.momentum_coefficient();
    let gain = match (momentum > 0.0, optimizer.is_nesterov()) {
        (false, _) => 1.0,
        (true, false) => 1.0 - optimizer.dampening_coefficient(),
        (true, true) => 1.0 + 2.0 * momentum,
    };
    let decay = gain * optimizer.coupled_decay() + (1.0 + momentum) * optimizer.decoupled_decay();
    2.0 * (1.0 + momentum) / (gain * fastest + decay)
}

#[cfg(test)]
mod tests {
    use flatmin_theory::Optimizer;

    use super::descent_limit;

    #[test]
    fn adam_turns_at_38_over_the_learning_rate() {
        let adam = Optimizer::sgd().momentum(0.9).unwrap().dampening(0.9).unwrap();
        assert!((descent_limit(&adam, 1.0) - 38.0).abs() < 1e-12);
    }
}
