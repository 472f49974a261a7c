//! The dynamics by their plain definition: PyTorch's rule, every possible batch, dense matrices.

use faer::Mat;
use flatmin_linalg::RowMatrix;
use flatmin_theory::{Batch, LinearisedSgd, Minimum, Optimizer, Sampling};

/// The settings of an optimizer, to be run by PyTorch's rule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) momentum: f64,
    pub(crate) dampening: f64,
    pub(crate) nesterov: bool,
    pub(crate) coupled: f64,
    pub(crate) decoupled: f64,
}

pub(crate) const SGD: Rule =
    Rule { momentum: 0.0, dampening: 0.0, nesterov: false, coupled: 0.0, decoupled: 0.0 };
pub(crate) const HEAVY: Rule = Rule { momentum: 0.6, ..SGD };
pub(crate) const DAMPENED: Rule = Rule { dampening: 0.3, ..HEAVY };
pub(crate) const NESTEROV: Rule = Rule { nesterov: true, ..HEAVY };

/// Every momentum with every decay.
pub(crate) fn rules() -> Vec<Rule> {
    let plain = [SGD, HEAVY, DAMPENED, NESTEROV];
    let decayed =
        plain.map(|rule| [Rule { coupled: 0.3, ..rule }, Rule { decoupled: 0.4, ..rule }]);
    [plain.as_slice(), decayed.as_flattened()].concat()
}

impl Rule {
    pub(crate) fn optimizer(self) -> Optimizer {
        let heavy = Optimizer::sgd().momentum(self.momentum).unwrap();
        let optimizer = heavy.dampening(self.dampening).unwrap();
        let optimizer = if self.nesterov { optimizer.nesterov().unwrap() } else { optimizer };
        let optimizer = optimizer.weight_decay(self.coupled).unwrap();
        optimizer.decoupled_weight_decay(self.decoupled).unwrap()
    }

    /// One step of (θ, u), u the momentum buffer, on the loss with this Hessian.
    pub(crate) fn step(self, rate: f64, hessian: &Mat<f64>, theta: &mut [f64], buffer: &mut [f64]) {
        let p = theta.len();
        let before = theta.to_vec();
        for k in 0..p {
            let gradient: f64 = (0..p).map(|l| hessian[(k, l)] * before[l]).sum();
            let mut direction = gradient + self.coupled * before[k];
            if self.momentum > 0.0 {
                buffer[k] = self.momentum * buffer[k] + (1.0 - self.dampening) * direction;
                if self.nesterov {
                    direction += self.momentum * buffer[k];
                } else {
                    direction = buffer[k];
                }
            } else {
                buffer[k] = direction;
            }
            theta[k] -= rate * self.decoupled * before[k] + rate * direction;
        }
    }

    /// The 2p × 2p matrix of a step.
    pub(crate) fn matrix(self, rate: f64, hessian: &Mat<f64>) -> Mat<f64> {
        let p = hessian.nrows();
        let mut matrix = Mat::zeros(2 * p, 2 * p);
        for column in 0..2 * p {
            let mut state = vec![0.0; 2 * p];
            state[column] = 1.0;
            let (theta, buffer) = state.split_at_mut(p);
            self.step(rate, hessian, theta, buffer);
            for (row, value) in state.iter().enumerate() {
                matrix[(row, column)] = *value;
            }
        }
        matrix
    }
}

/// `Σ_{i∈I} g_i g_iᵀ / divisor`.
pub(crate) fn hessian(jacobian: &RowMatrix, indices: &[usize], divisor: f64) -> Mat<f64> {
    let p = jacobian.columns();
    Mat::from_fn(p, p, |k, l| {
        let terms = indices.iter().map(|i| jacobian.row(*i)[k] * jacobian.row(*i)[l]);
        terms.sum::<f64>() / divisor
    })
}

/// Every sequence of `size` of n samples, distinct or not.
fn sequences(n: usize, size: usize, distinct: bool) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..size {
        let longer = |head: Vec<usize>| {
            let tails = (0..n).filter(|i| !(distinct && head.contains(i)));
            tails.map(|i| [head.as_slice(), &[i]].concat()).collect::<Vec<_>>()
        };
        all = all.into_iter().flat_map(longer).collect();
    }
    all
}

/// Every period (a step, or an epoch of several) with its probability, as the Hessians of its
/// batches.
pub(crate) fn periods(jacobian: &RowMatrix, batch: Batch) -> Vec<(f64, Vec<Mat<f64>>)> {
    let (n, size) = (jacobian.rows(), batch.size());
    let divisor = size as f64;
    let equal = |all: Vec<Vec<Mat<f64>>>| {
        let probability = 1.0 / all.len() as f64;
        all.into_iter().map(|hessians| (probability, hessians)).collect()
    };
    let single = |indices: &[usize]| vec![hessian(jacobian, indices, divisor)];
    match batch.sampling() {
        Sampling::WithReplacement => {
            equal(sequences(n, size, false).iter().map(|indices| single(indices)).collect())
        }
        Sampling::WithoutReplacement => {
            equal(sequences(n, size, true).iter().map(|indices| single(indices)).collect())
        }
        Sampling::Poisson => (0..1_usize << n)
            .map(|subset| {
                let indices: Vec<usize> = (0..n).filter(|i| subset >> i & 1 == 1).collect();
                let join = size as f64 / n as f64;
                let joined = i32::try_from(indices.len()).unwrap();
                let missed = i32::try_from(n).unwrap() - joined;
                (join.powi(joined) * (1.0 - join).powi(missed), single(&indices))
            })
            .collect(),
        Sampling::Reshuffling => {
            let epoch = |order: &Vec<usize>| {
                let batches = order.chunks(size);
                let kept = batches.filter(|batch_of| batch_of.len() == size || !batch.drops_last());
                kept.map(|indices| hessian(jacobian, indices, indices.len() as f64)).collect()
            };
            equal(sequences(n, n, true).iter().map(epoch).collect())
        }
    }
}

/// `E[A ⊗ A]` for random matrices A: the map of vectorised second moments.
fn kronecker(matrices: &[(f64, Mat<f64>)]) -> Mat<f64> {
    let size = matrices[0].1.nrows();
    let mut operator = Mat::zeros(size * size, size * size);
    for (probability, a) in matrices {
        for row in 0..size * size {
            for column in 0..size * size {
                operator[(row, column)] +=
                    probability * a[(row / size, column / size)] * a[(row % size, column % size)];
            }
        }
    }
    operator
}

/// `E‖δ_t‖²` for t = 0, 1, …, from `E[δ_0δ_0ᵀ] = I` at rest, by dense operators of whole periods
/// and of their beginnings.
pub(crate) fn moments(
    jacobian: &RowMatrix,
    batch: Batch,
    rule: Rule,
    rate: f64,
    steps: usize,
) -> Vec<f64> {
    let p = jacobian.columns();
    let size = 2 * p;
    let periods = periods(jacobian, batch);
    let length = periods[0].1.len();
    // operators[t]: the first t + 1 steps of a period.
    let mut products: Vec<(f64, Mat<f64>)> =
        periods.iter().map(|(probability, _)| (*probability, Mat::identity(size, size))).collect();
    let mut operators = Vec::new();
    for step in 0..length {
        for ((_, product), (_, hessians)) in products.iter_mut().zip(&periods) {
            *product = rule.matrix(rate, &hessians[step]) * &*product;
        }
        operators.push(kronecker(&products));
    }
    let mut moment = Mat::from_fn(size * size, 1, |index, _| {
        let (k, l) = (index / size, index % size);
        if k == l && k < p { 1.0 } else { 0.0 }
    });
    let norm = |moment: &Mat<f64>| (0..p).map(|k| moment[(k * size + k, 0)]).sum::<f64>();
    let mut out = vec![norm(&moment)];
    while out.len() <= steps {
        for operator in &operators {
            out.push(norm(&(operator * &moment)));
        }
        moment = &operators[length - 1] * &moment;
    }
    out.truncate(steps + 1);
    out
}

/// The dynamics at a minimum whose Jacobian has full column rank.
pub(crate) fn minimum(jacobian: &RowMatrix) -> Minimum {
    let minimum = Minimum::new(jacobian).unwrap();
    assert_eq!(minimum.eigenvalues().len(), jacobian.columns());
    minimum
}

pub(crate) fn dynamics(
    minimum: &Minimum,
    rule: Rule,
    batch: Batch,
    rate: f64,
) -> LinearisedSgd<'_> {
    LinearisedSgd::new(minimum, &rule.optimizer(), &batch, rate).unwrap()
}

pub(crate) fn batch(size: usize, sampling: Sampling) -> Batch {
    Batch::new(size, sampling).unwrap()
}
