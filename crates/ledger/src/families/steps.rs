//! Steps of an optimizer by PyTorch's recursion, and the map of second moments that they make.

use faer::MatRef;
use faer::linalg::solvers::Solve as _;
use flatmin_linalg::Bisection;

use super::batches::{WeightedBatch, batches};
use crate::prelude::*;

/// A batch in the place of its samples: its probability, `H_I` and the gradient at the minimum.
#[derive(Debug, Clone)]
pub(crate) struct BatchModel {
    pub(crate) probability: f64,
    /// `(1/B) Σ J_iᵀJ_i` over the batch.
    pub(crate) hessian: Mat<f64>,
    /// `(1/B) Σ J_iᵀr_i` over the batch.
    pub(crate) gradient: Vec<f64>,
}

/// Lists the batches of the rows of a Jacobian, `outputs` of them for each sample. Without
/// residuals the gradients are zero. `None` if there are too many batches.
pub(crate) fn batch_models(
    jacobian: &RowMatrix,
    outputs: usize,
    residuals: &[f64],
    batch: Batch,
) -> Option<Vec<BatchModel>> {
    let dim = jacobian.columns();
    let listed = batches(jacobian.rows() / outputs, batch)?;
    let model = |listed: &WeightedBatch| {
        let (mut hessian, mut gradient) = (Mat::zeros(dim, dim), vec![0.0; dim]);
        for (row, count) in (0..jacobian.rows()).map(|row| (row, listed.counts[row / outputs])) {
            let weight = count as f64 / batch.size() as f64;
            let values = jacobian.row(row);
            for k in 0..dim {
                for l in 0..dim {
                    hessian[(k, l)] += weight * values[k] * values[l];
                }
                gradient[k] += weight * values[k] * residuals.get(row).copied().unwrap_or(0.0);
            }
        }
        BatchModel { probability: listed.probability, hessian, gradient }
    };
    Some(listed.iter().map(model).collect())
}

/// The mean of `H_I`, which is G for all independent batches.
pub(crate) fn mean_hessian(models: &[BatchModel]) -> Mat<f64> {
    let dim = models[0].hessian.nrows();
    models.iter().fold(Mat::zeros(dim, dim), |sum, model| {
        sum + faer::Scale(model.probability) * &model.hessian
    })
}

/// The exact threshold of SGD from the definition of S8, with the means over all listed batches:
/// 2 over the largest λ with `E[H_I X H_I] = λ (GX + XG)/2`.
pub(crate) fn enumerated_threshold(models: &[BatchModel]) -> Result<f64, LedgerError> {
    let eigen = symmetric_eigen(mean_hessian(models).as_ref())?;
    let range = Range::of(&eigen.values);
    let rank = range.eigenvalues.len();
    if rank == 0 {
        return Ok(f64::INFINITY);
    }
    let basis = eigen.vectors.get(.., range.first..);
    let pairs = lower_triangle(rank);
    // C^{−½} D C^{−½} in the orthonormal basis E_kk, (E_kl + E_lk)/√2.
    let mut operator = Mat::<f64>::zeros(pairs.len(), pairs.len());
    for model in models {
        let hessian = basis.transpose() * &model.hessian * basis;
        add_congruence(&mut operator, model.probability, hessian.as_ref(), hessian.as_ref());
    }
    let scale = |pair: usize| {
        let (k, l) = pairs[pair];
        let multiplicity = if k == l { 1.0 } else { 2.0_f64 };
        let c = f64::midpoint(range.eigenvalues[k], range.eigenvalues[l]);
        (multiplicity.sqrt(), c.sqrt())
    };
    let matrix = Mat::from_fn(pairs.len(), pairs.len(), |row, column| {
        let ((m, c), (other, d)) = (scale(row), scale(column));
        operator[(row, column)] * (m / other) / (c * d)
    });
    Ok(2.0 / symmetric_eigenvalues(matrix.as_ref())?.last().copied().unwrap_or(0.0))
}

/// The positive eigenvalues of a semidefinite matrix.
pub(crate) struct Range<'a> {
    /// Index of the first one.
    pub(crate) first: usize,
    pub(crate) eigenvalues: &'a [f64],
}

impl<'a> Range<'a> {
    /// Eigenvalues below this part of the largest one are rounding.
    const NONE: f64 = 1e-13;

    /// The positive ones of ascending eigenvalues.
    pub(crate) fn of(ascending: &'a [f64]) -> Self {
        let fastest = ascending.last().copied().unwrap_or(0.0);
        let is_zero = |value: &f64| *value <= Self::NONE * fastest.max(0.0);
        let first = ascending.partition_point(is_zero);
        Self { first, eigenvalues: &ascending[first..] }
    }

    /// The smallest eigenvalue relative to the largest.
    pub(crate) fn slowest(&self) -> f64 {
        match self.eigenvalues {
            [first, .., last] => first / last,
            _ => 1.0,
        }
    }
}

/// Adds `weight · ½(A P Bᵀ + B P Aᵀ)` to a map on symmetric matrices P, which are written by their
/// lower triangles.
pub(crate) fn add_congruence(
    map: &mut Mat<f64>,
    weight: f64,
    a: MatRef<'_, f64>,
    b: MatRef<'_, f64>,
) {
    let pairs = lower_triangle(a.nrows());
    for (column, &(k, l)) in pairs.iter().enumerate() {
        for (row, &(i, j)) in pairs.iter().enumerate() {
            let image = |k, l| 0.5 * (a[(i, k)] * b[(j, l)] + b[(i, k)] * a[(j, l)]);
            let value = if k == l { image(k, k) } else { image(k, l) + image(l, k) };
            map[(row, column)] += weight * value;
        }
    }
}

/// The recursion of `torch.optim.SGD` and SGDW, with a frozen diagonal preconditioner D as in Adam.
/// The state is δ = θ − θ*, and with momentum also the buffer u.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recursion<'a> {
    pub(crate) optimizer: &'a Optimizer,
    /// The diagonal of D.
    pub(crate) preconditioner: &'a [f64],
}

impl Recursion<'_> {
    /// Numbers in a state.
    pub(crate) fn states(&self) -> usize {
        let dim = self.preconditioner.len();
        if self.optimizer.momentum_coefficient() > 0.0 { 2 * dim } else { dim }
    }

    /// One step from θ* + δ, where the gradient of the batch is `H δ + gradient`.
    fn step(
        &self,
        rate: f64,
        (hessian, gradient): (&Mat<f64>, &[f64]),
        origin: &[f64],
        state: &[f64],
    ) -> Vec<f64> {
        let (optimizer, dim) = (self.optimizer, self.preconditioner.len());
        let momentum = optimizer.momentum_coefficient();
        let (mut position, mut buffer) = (state[..dim].to_vec(), state[dim..].to_vec());
        for k in 0..dim {
            let theta = origin[k] + state[k];
            let mut d = gradient[k] + optimizer.coupled_decay() * theta;
            d += (0..dim).map(|l| hessian[(k, l)] * state[l]).sum::<f64>();
            if momentum > 0.0 {
                buffer[k] = momentum * buffer[k] + (1.0 - optimizer.dampening_coefficient()) * d;
                d = if optimizer.is_nesterov() { d + momentum * buffer[k] } else { buffer[k] };
            }
            position[k] -= rate * optimizer.decoupled_decay() * theta;
            position[k] -= rate * d / self.preconditioner[k];
        }
        position.extend(buffer);
        position
    }

    /// The matrix of the linear part of a step.
    fn matrix(&self, rate: f64, model: &BatchModel) -> Mat<f64> {
        let still = vec![0.0; self.preconditioner.len()];
        let mut matrix = Mat::zeros(self.states(), self.states());
        for column in 0..self.states() {
            let mut unit = vec![0.0; self.states()];
            unit[column] = 1.0;
            let moved = self.step(rate, (&model.hessian, &still), &still, &unit);
            for (row, value) in moved.into_iter().enumerate() {
                matrix[(row, column)] = value;
            }
        }
        matrix
    }

    /// The stationary mean z and covariance Σ of the state at a rate inside the edge, around the
    /// point `origin`, where batches have their gradients: the solutions of the linear systems
    /// `z = E[Az + c]` and `Σ = E[AΣAᵀ] + E[ζζᵀ]` with `ζ = Az + c − z`.
    pub(crate) fn stationary(
        &self,
        rate: f64,
        models: &[BatchModel],
        origin: &[f64],
    ) -> (Vec<f64>, Mat<f64>) {
        let states = self.states();
        let steps: Vec<(f64, Mat<f64>, Mat<f64>)> = models
            .iter()
            .map(|model| {
                let batch = (&model.hessian, &model.gradient[..]);
                let kick = self.step(rate, batch, origin, &vec![0.0; states]);
                let kick = Mat::from_fn(states, 1, |k, _| kick[k]);
                (model.probability, self.matrix(rate, model), kick)
            })
            .collect();
        let mut system = Mat::<f64>::identity(states, states);
        let mut right = Mat::<f64>::zeros(states, 1);
        for (probability, matrix, kick) in &steps {
            system -= faer::Scale(*probability) * matrix;
            right += faer::Scale(*probability) * kick;
        }
        let mean = system.partial_piv_lu().solve(&right);
        let pairs = lower_triangle(states);
        let mut system = Mat::<f64>::zeros(pairs.len(), pairs.len());
        let mut source = Mat::<f64>::zeros(states, states);
        for (probability, matrix, kick) in &steps {
            add_congruence(&mut system, -probability, matrix.as_ref(), matrix.as_ref());
            let noise = matrix * &mean + kick - &mean;
            source += faer::Scale(*probability) * (&noise * noise.transpose());
        }
        for pair in 0..pairs.len() {
            system[(pair, pair)] += 1.0;
        }
        let right = Mat::from_fn(pairs.len(), 1, |pair, _| source[pairs[pair]]);
        let covariance = symmetric(states, &system.partial_piv_lu().solve(&right));
        ((0..states).map(|k| mean[(k, 0)]).collect(), covariance)
    }
}

/// The map `T(P) = E[A_I P A_Iᵀ]` of the second moments of a state, over all batches. Since a step
/// is affine in the learning rate, T is a polynomial of degree 2 in it.
pub(crate) struct MomentMap {
    states: usize,
    coefficients: [Mat<f64>; 3],
}

impl MomentMap {
    pub(crate) fn new(recursion: &Recursion<'_>, models: &[BatchModel]) -> Self {
        let states = recursion.states();
        let size = lower_triangle(states).len();
        let mut coefficients = [(); 3].map(|()| Mat::zeros(size, size));
        let [constant, linear, quadratic] = &mut coefficients;
        for model in models {
            let still = recursion.matrix(0.0, model);
            let slope = recursion.matrix(1.0, model) - &still;
            let (still, slope) = (still.as_ref(), slope.as_ref());
            add_congruence(constant, model.probability, still, still);
            add_congruence(linear, 2.0 * model.probability, still, slope);
            add_congruence(quadratic, model.probability, slope, slope);
        }
        Self { states, coefficients }
    }

    /// True if all second moments decay.
    pub(crate) fn is_stable(&self, rate: f64) -> Result<bool, LedgerError> {
        let [constant, linear, quadratic] = &self.coefficients;
        let size = constant.nrows();
        let system = Mat::from_fn(size, size, |row, column| {
            let at = (row, column);
            let image = constant[at] + rate * (linear[at] + rate * quadratic[at]);
            if row == column { 1.0 - image } else { -image }
        });
        moments_decay(self.states, &system)
    }

    /// The edge of strict stability, which is near `guess` up to powers of two: by doubling or
    /// halving, then by bisection.
    pub(crate) fn threshold(&self, guess: f64) -> Result<f64, LedgerError> {
        const MAX_STEPS: usize = 200;
        let (mut low, mut steps) = (guess, 0);
        while steps < MAX_STEPS && self.is_stable(2.0 * low)? {
            (low, steps) = (2.0 * low, steps + 1);
        }
        while steps < MAX_STEPS && !self.is_stable(low)? {
            (low, steps) = (0.5 * low, steps + 1);
        }
        let search = Bisection::between(low, 2.0 * low).to_relative_width(1e-14);
        Ok(search.try_run(|rate| self.is_stable(rate))?.1)
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;
    use flatmin_theory::{Batch, Optimizer, Sampling};

    use super::{MomentMap, Recursion, batch_models, enumerated_threshold};

    fn batch(size: usize, sampling: Sampling) -> Batch {
        Batch::new(size, sampling).unwrap()
    }

    #[test]
    fn orthogonal_rows_turn_with_the_largest() {
        let rows = RowMatrix::new(2, 2, vec![1.0, 0.0, 0.0, 2.0]).unwrap();
        let single = batch(1, Sampling::WithoutReplacement);
        let models = batch_models(&rows, 1, &[], single).unwrap();
        assert!((enumerated_threshold(&models).unwrap() - 0.5).abs() < 1e-14);
    }

    #[test]
    fn momentum_without_noise_turns_at_its_known_edge() {
        let rows = RowMatrix::new(2, 1, vec![1.0, 1.0]).unwrap();
        let models = batch_models(&rows, 1, &[], batch(2, Sampling::WithoutReplacement)).unwrap();
        let heavy_ball = Optimizer::sgd().momentum(0.5).unwrap();
        for (optimizer, edge) in [(heavy_ball, 3.0), (heavy_ball.nesterov().unwrap(), 1.5)] {
            let recursion = Recursion { optimizer: &optimizer, preconditioner: &[1.0] };
            let found = MomentMap::new(&recursion, &models).threshold(1.0).unwrap();
            assert!((found - edge).abs() < 1e-12, "{optimizer}: {found}");
        }
    }

    #[test]
    fn two_opposite_targets_leave_a_known_variance() {
        // δ' = (1 − η)δ ± η, so that E δ² = η/(2 − η).
        let rows = RowMatrix::new(2, 1, vec![1.0, 1.0]).unwrap();
        let single = batch(1, Sampling::WithReplacement);
        let models = batch_models(&rows, 1, &[1.0, -1.0], single).unwrap();
        let recursion = Recursion { optimizer: &Optimizer::sgd(), preconditioner: &[1.0] };
        let (mean, covariance) = recursion.stationary(0.5, &models, &[0.0]);
        assert!(mean[0].abs() < 1e-15 && (covariance[(0, 0)] - 1.0 / 3.0).abs() < 1e-15);
    }
}
