//! The norm equivalence theorems on random networks.

use flatmin_ledger::{Comparison, Relation, diagonal_norm_checks, relu_norm_checks};
use flatmin_linalg::{Sharpness, Stream, stream};
use flatmin_models::{DiagonalLinear, TwoLayerRelu};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::error::CellError;
use super::problem::{CUBE_VARIANCE, NetworkFamily};
use super::streams;

/// Random networks of one size, from balanced to strongly unbalanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NormSpec {
    /// The family.
    pub family: NetworkFamily,
    /// Width m (ReLU); it plays no part for diagonal networks.
    pub width: usize,
    /// Input dimension d.
    pub input_dim: usize,
    /// Number of networks. The first one is balanced, the case of equality.
    pub networks: usize,
    /// Seed of the parameters.
    pub seed: u64,
}

/// One network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NormRow {
    /// Says that it was made balanced, so that it must attain the bounds.
    pub balanced: bool,
    /// Sharpness of the population Gauss–Newton matrix.
    pub population: Sharpness,
    /// Path norm (ReLU); ‖β‖_1 (diagonal).
    pub norm: f64,
    /// `‖W‖_F² + ‖a‖²` (ReLU); ‖β‖_2 (diagonal).
    pub second_norm: f64,
    /// `max(‖W‖_F²/2π, ‖a‖²/4)` (ReLU); ‖β‖_∞ (diagonal).
    pub third_norm: f64,
    /// Smallest relative slack of all inequalities tried; negative means violated.
    pub smallest_slack: f64,
    /// Largest relative error of all equalities tried (R1, D1's sums; for balanced networks also
    /// the bounds that they attain).
    pub largest_equality_error: f64,
}

/// All networks of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NormResult {
    /// One row a network.
    pub rows: Vec<NormRow>,
}

impl NormSpec {
    pub(super) fn run(&self) -> Result<NormResult, CellError> {
        let mut rng = stream(self.seed, &streams::norms(self.width, self.input_dim), 0);
        let rows = (0..self.networks).map(|k| match self.family {
            NetworkFamily::Relu => self.relu(k, &mut rng),
            NetworkFamily::Diagonal => self.diagonal(k, &mut rng),
        });
        Ok(NormResult { rows: rows.collect::<Result<_, _>>()? })
    }

    /// A factor by which a neuron is moved away from balance: up to 10^±spread, where the spread
    /// grows with the index of the network from 0 to 1.5.
    fn imbalance(&self, index: usize, rng: &mut Stream) -> f64 {
        let spread = 1.5 * index as f64 / self.networks as f64;
        libm::exp10(spread * rng.random_range(-1.0..=1.0))
    }

    fn relu(&self, index: usize, rng: &mut Stream) -> Result<NormRow, CellError> {
        let model = TwoLayerRelu::new(self.width, self.input_dim)?;
        let mut parameters = model.initial_parameters(rng);
        let d = self.input_dim;
        let (hidden, output) = parameters.split_at_mut(self.width * d);
        for (w, a) in hidden.chunks_exact_mut(d).zip(output) {
            let norm = w.iter().map(|w| w * w).sum::<f64>().sqrt();
            // In balance ‖w‖ = √d|a|.
            let scale = (d as f64).sqrt() * a.abs() * self.imbalance(index, rng) / norm;
            for w in w.iter_mut() {
                *w *= scale;
            }
        }
        let population = model.population(&parameters).sharpness(rng)?;
        let checks = relu_norm_checks(&model, &parameters, &population);
        let (hidden, output) =
            (model.hidden_norm_squared(&parameters), model.output_norm_squared(&parameters));
        let norm = model.path_norm(&parameters);
        let third_norm = (hidden / (2.0 * std::f64::consts::PI)).max(output / 4.0);
        let attained = [(population.trace, (d as f64).sqrt() * norm)];
        let norms = [norm, hidden + output, third_norm];
        Ok(row(index == 0, population, norms, &checks, &attained))
    }

    fn diagonal(&self, index: usize, rng: &mut Stream) -> Result<NormRow, CellError> {
        let model = DiagonalLinear::new(self.input_dim)?;
        let mut parameters = model.initial_parameters(rng);
        let (a, b) = parameters.split_at_mut(self.input_dim);
        for (a, b) in a.iter().zip(b) {
            *b = b.signum() * a.abs() * self.imbalance(index, rng);
        }
        let population = model.population_sharpness(&parameters, CUBE_VARIANCE);
        let checks = diagonal_norm_checks(&model, &parameters, CUBE_VARIANCE, &population);
        let beta = model.coefficients(&parameters);
        let l1 = beta.iter().map(|b| b.abs()).sum::<f64>();
        let l2 = beta.iter().map(|b| b * b).sum::<f64>().sqrt();
        let max = beta.iter().fold(0.0_f64, |m, b| m.max(b.abs()));
        let scale = 2.0 * CUBE_VARIANCE;
        let attained = [
            (population.trace, scale * l1),
            (population.frobenius_norm, scale * l2),
            (population.lambda_max, scale * max),
        ];
        Ok(row(index == 0, population, [l1, l2, max], &checks, &attained))
    }

    pub(super) fn label(&self) -> String {
        match self.family {
            NetworkFamily::Relu => {
                format!("norms ReLU m={} d={} seed {}", self.width, self.input_dim, self.seed)
            }
            NetworkFamily::Diagonal => {
                format!("norms diagonal d={} seed {}", self.input_dim, self.seed)
            }
        }
    }
}

/// Sums up the comparisons; `attained` are the equalities that hold for balanced networks.
fn row(
    balanced: bool,
    population: Sharpness,
    [norm, second_norm, third_norm]: [f64; 3],
    checks: &[Comparison],
    attained: &[(f64, f64)],
) -> NormRow {
    // A comparison that cannot be made (NaN) counts as violated by 1.
    let slacks = |relation| {
        let of_relation = checks.iter().filter(move |check| check.relation == relation);
        of_relation.map(|check| if check.slack.is_nan() { -1.0 } else { check.slack })
    };
    let attained = attained.iter().filter(|_| balanced).map(|(l, r)| (l / r - 1.0).abs());
    let equalities = slacks(Relation::Equal).map(f64::abs).chain(attained);
    NormRow {
        balanced,
        population,
        norm,
        second_norm,
        third_norm,
        smallest_slack: slacks(Relation::AtMost).fold(f64::INFINITY, f64::min),
        largest_equality_error: equalities.fold(0.0, f64::max),
    }
}
