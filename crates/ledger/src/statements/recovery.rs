//! D3: the interpolators that the condition of SGD admits, where basis pursuit recovers β*.

use flatmin_models::DiagonalLinear;
use flatmin_models::data::linear_targets;
use flatmin_theory::trace_bound;

use crate::basis_pursuit::{
    BASIS_PURSUIT_TOLERANCE, BasisPursuit, BasisPursuitError, basis_pursuit,
};
use crate::families::diagonal::Population;
use crate::families::interpolator::{
    SINGULAR, l1_norm, layers, projection, random_coefficients, row_basis,
};
use crate::prelude::*;

pub(super) static D3: Statement = Statement {
    id: "D3",
    title: "Recovery by stability",
    words: "At the learning rate 1/(s²‖β*‖₁) every interpolator β of the measurements of β* that \
            the population condition of SGD admits, tr Ḡ ≤ 2/η, has ‖β‖₁ ≤ ‖β*‖₁; so it is β* \
            itself wherever basis pursuit recovers β*.",
    latex: r"X\beta = X\beta^*,\ \operatorname{tr}\bar G \le \frac2\eta,\ \eta = \frac{1}{s^2\|\beta^*\|_1} \implies \|\beta\|_1 \le \|\beta^*\|_1",
    hypotheses: "inputs with independent coordinates of mean 0 and variance s²; β* ≠ 0",
    source: FLATMIN,
    check_words: "All basic interpolators (by elimination for every support), the shortest one, \
                  and points between them and β*, with balanced and unbalanced layers. Those that \
                  the trace condition admits are compared with β*, and all of them with the \
                  optimum of basis pursuit.",
    mutant_words: "half the learning rate, 1/(2s²‖β*‖₁)",
    trial: &Trial { generate: RecoveryInstance::random, check },
};

/// Coefficients to be recovered from fewer linear measurements than there are coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoveryInstance {
    inputs: RowMatrix,
    coefficients: Vec<f64>,
    input_variance: f64,
}

impl RecoveryInstance {
    /// The measurements `⟨β*, x_i⟩` of `coefficients` β* (d) at `inputs` (n × d), for a population
    /// of inputs with variance `input_variance` = s². At most 10 coordinates: the check lists
    /// supports.
    ///
    /// # Errors
    /// [`InstanceError::Length`] when the parts do not fit together, [`InstanceError::TooMany`]
    /// when there are too many coordinates.
    pub fn new(
        inputs: RowMatrix,
        coefficients: Vec<f64>,
        input_variance: f64,
    ) -> Result<Self, InstanceError> {
        const MAX_DIM: usize = 10;
        expect_at_most("coefficients", coefficients.len(), MAX_DIM)?;
        expect_length("the coefficient vector", coefficients.len(), inputs.columns())?;
        Ok(Self { inputs, coefficients, input_variance })
    }

    /// Fewer measurements than coordinates, of sparse coefficients more often than not.
    fn random(rng: &mut dyn Rng) -> Self {
        let dim = rng.random_range(2..=6);
        let count = rng.random_range(1..dim);
        let mut inputs = normal_matrix(count, dim, rng);
        match rng.random_range(0..4) {
            // Small integers: ties, and columns that depend on each other.
            0 => {
                inputs = RowMatrix::from_fn(count, dim, |_, _| f64::from(rng.random_range(-2..=2)));
            }
            // Repeated measurements.
            1 => {
                let first = inputs.row(0).to_vec();
                inputs.row_mut(count - 1).copy_from_slice(&first);
            }
            // Generic measurements.
            _ => {}
        }
        let coefficients = random_coefficients(dim, rng);
        Self { inputs, coefficients, input_variance: power_of_ten(rng, 2.0) }
    }
}

impl Instance for RecoveryInstance {
    fn sizes(&self) -> String {
        let Self { inputs, input_variance, .. } = self;
        format!("n = {}, d = {}, s² = {input_variance}", inputs.rows(), inputs.columns())
    }
}

/// Interpolators with a relative distance below this count as one, because elimination is no more
/// accurate.
const SAME: f64 = 1e-7;

/// Checks interpolators of the measurements, each with balanced and with unbalanced layers.
/// Interpolators that the trace condition admits are compared with β*, and all of them with basis
/// pursuit. The mutant applies the condition at half the learning rate, `1/(2s²‖β*‖₁)`.
fn check(form: Form, instance: &RecoveryInstance) -> Checked {
    let RecoveryInstance { inputs, coefficients, input_variance } = instance;
    let least = l1_norm(coefficients);
    let model = match DiagonalLinear::new(coefficients.len()) {
        Ok(model) if least > 0.0 => model,
        // If β* = 0, every learning rate is stable at it, so there is no threshold to check.
        _ => return Ok(Vec::new()),
    };
    let rate = form.pick(1.0, 0.5) / (input_variance * least);
    let pursued = instance.pursue()?;
    let vertices = basic_interpolators(inputs, coefficients);
    let is_recovered =
        pursued.as_ref().is_some_and(|pursued| instance.is_recovered(pursued, &vertices));
    let mut comparisons = Vec::new();
    for interpolator in &instance.interpolators(&vertices) {
        let norm = l1_norm(interpolator);
        if let (Form::Stated, Some(pursued)) = (form, &pursued) {
            // For vectors that interpolate up to rounding, the dual vector proves the bound with
            // this slack.
            let deviations = instance.deviations(interpolator);
            let slack: f64 = deviations.iter().zip(&pursued.dual).map(|(d, v)| d * v.abs()).sum();
            let bound = (1.0 + BASIS_PURSUIT_TOLERANCE) * norm + slack;
            let name = "basis pursuit and interpolators";
            comparisons.push(Comparison::at_most(name, pursued.l1_norm, bound));
        }
        for ratio in [1.0, 1.1] {
            let parameters = &layers(interpolator, ratio);
            let trace = Population { model, parameters, input_variance: *input_variance }.trace();
            // β* with balanced layers is at the edge: rounding must not exclude it.
            if !(rate <= (1.0 + 1e-13) * trace_bound(trace, 1.0)) {
                continue;
            }
            comparisons.push(Comparison::at_most("l1 norm of stable interpolators", norm, least));
            if is_recovered {
                let apart = distance(interpolator, coefficients);
                let lhs = if apart > SAME * least { apart } else { 0.0 } + least;
                let name = "stable interpolators and β*";
                comparisons.push(Comparison::equal(name, lhs, least, least));
            }
        }
    }
    Ok(comparisons)
}

impl RecoveryInstance {
    /// The solution of basis pursuit; `None` if the solver cannot certify its answer, because that
    /// is no evidence against the statement.
    fn pursue(&self) -> Result<Option<BasisPursuit>, BasisPursuitError> {
        match basis_pursuit(&self.inputs, &linear_targets(&self.inputs, &self.coefficients)) {
            Ok(found) => Ok(Some(found)),
            Err(
                BasisPursuitError::NotCertified { .. }
                | BasisPursuitError::LinearProgram
                | BasisPursuitError::NoInterpolator,
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// True if β* is the only interpolator of minimum ℓ1 norm, by more than rounding.
    ///
    /// A linear program over the interpolators has an optimum among the basic ones, `vertices`. So
    /// β* is recovered when it is optimal and all other vertices have a larger norm.
    fn is_recovered(&self, pursued: &BasisPursuit, vertices: &[Vec<f64>]) -> bool {
        let least = l1_norm(&self.coefficients);
        let is_other = |vertex: &&Vec<f64>| distance(vertex, &self.coefficients) > SAME * least;
        least <= (1.0 + 2.0 * BASIS_PURSUIT_TOLERANCE) * pursued.l1_norm
            && vertices.iter().filter(is_other).all(|other| l1_norm(other) > (1.0 + SAME) * least)
    }

    /// β*, the shortest interpolator, the `vertices`, and points between them and β*.
    fn interpolators(&self, vertices: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let Self { inputs, coefficients, .. } = self;
        let blend = |other: &[f64], part: f64| -> Vec<f64> {
            coefficients.iter().zip(other).map(|(b, o)| b + part * (o - b)).collect()
        };
        let shortest = projection(inputs, coefficients).0;
        let mut interpolators = vec![coefficients.clone(), blend(&shortest, 0.5)];
        for vertex in vertices {
            interpolators.extend([vertex.clone(), blend(vertex, 0.5), blend(vertex, 1e-3)]);
        }
        interpolators.push(shortest);
        // Elimination may have treated nearly dependent rows as dependent. Its result does not
        // interpolate then.
        interpolators.retain(|other| {
            let size = l1_norm(other) + l1_norm(coefficients);
            let is_close = |(i, deviation)| deviation <= 1e-12 * l1_norm(inputs.row(i)) * size;
            self.deviations(other).into_iter().enumerate().all(is_close)
        });
        interpolators
    }

    /// `|⟨x_i, β − β*⟩|` for every measurement.
    fn deviations(&self, other: &[f64]) -> Vec<f64> {
        let difference: Vec<f64> =
            other.iter().zip(&self.coefficients).map(|(o, b)| o - b).collect();
        (0..self.inputs.rows()).map(|i| simd::dot(self.inputs.row(i), &difference).abs()).collect()
    }
}

fn distance(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| (a - b).abs()).sum()
}

/// All β with `Xβ = Xβ*` and support in a set of rank(X) independent columns.
fn basic_interpolators(inputs: &RowMatrix, coefficients: &[f64]) -> Vec<Vec<f64>> {
    let basis = row_basis(inputs);
    let (rank, d) = (basis.len(), coefficients.len());
    (0_u32..1 << d)
        .filter(|support| support.count_ones() as usize == rank)
        .filter_map(|support| {
            let columns: Vec<usize> = (0..d).filter(|j| support >> j & 1 == 1).collect();
            let system = basis.iter().map(|direction| {
                let mut equation: Vec<f64> = columns.iter().map(|j| direction[*j]).collect();
                equation.push(simd::dot(direction, coefficients));
                equation
            });
            let solution = solve(system.collect())?;
            let mut interpolator = vec![0.0; d];
            for (j, value) in columns.into_iter().zip(solution) {
                interpolator[j] = value;
            }
            Some(interpolator)
        })
        .collect()
}

/// The solution of a square system by elimination with pivoting, or `None` when the matrix is
/// singular. Each equation ends with its right side; entries of the matrix are at most about 1.
fn solve(mut system: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let size = system.len();
    for column in 0..size {
        let size_of = |row: &usize| system[*row][column].abs();
        let pivot = (column..size).max_by(|a, b| size_of(a).total_cmp(&size_of(b)))?;
        if size_of(&pivot) <= SINGULAR {
            return None;
        }
        system.swap(column, pivot);
        let equation = system[column].clone();
        for (row, other) in system.iter_mut().enumerate() {
            if row != column {
                let factor = other[column] / equation[column];
                simd::axpy(-factor, &equation, other);
            }
        }
    }
    Some((0..size).map(|k| system[k][size] / system[k][k]).collect())
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;

    use super::{RecoveryInstance, basic_interpolators, check, projection, solve};
    use crate::comparison::TOLERANCE;
    use crate::statement::Form;

    #[test]
    fn a_system_is_solved_or_singular() {
        let solution = solve(vec![vec![0.0, 1.0, 3.0], vec![2.0, 1.0, 5.0]]).unwrap();
        assert!((solution[0] - 1.0).abs() < 1e-15 && (solution[1] - 3.0).abs() < 1e-15);
        assert!(solve(vec![vec![1.0, 1.0, 2.0], vec![1.0, 1.0, 2.0]]).is_none());
        assert!(solve(Vec::new()).unwrap().is_empty());
    }

    #[test]
    fn the_shortest_interpolator_is_spread_and_basic_ones_are_sparse() {
        let inputs = RowMatrix::new(2, 3, vec![1.0, 1.0, 0.0, 2.0, 2.0, 0.0]).unwrap();
        let (shortest, rank) = projection(&inputs, &[4.0, 0.0, 0.0]);
        assert_eq!(rank, 1);
        for (value, expected) in shortest.iter().zip([2.0, 2.0, 0.0]) {
            assert!((value - expected).abs() < 1e-14, "{shortest:?}");
        }
        let vertices = basic_interpolators(&inputs, &[4.0, 0.0, 0.0]);
        assert_eq!(vertices.len(), 2);
        for (vertex, expected) in vertices.iter().zip([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]) {
            assert!(vertex.iter().zip(expected).all(|(value, e)| (value - e).abs() < 1e-14));
        }
    }

    #[test]
    fn a_program_that_the_solver_cannot_certify_is_no_error() {
        let inputs = [-7.872_306_619_681_813e-5, 1.0, 0.0, 0.295_053_240_497_876_8];
        let inputs = RowMatrix::new(2, 2, inputs.to_vec()).unwrap();
        let coefficients = vec![2.0, -0.648_859_941_525_605_9];
        let instance = RecoveryInstance::new(inputs, coefficients, 7.459_813_533_024_54).unwrap();
        let comparisons = check(Form::Stated, &instance).unwrap();
        assert!(!comparisons.is_empty() && comparisons.iter().all(|c| c.holds(TOLERANCE)));
    }

    #[test]
    fn recovery_is_seen_where_it_happens() {
        let recovered = |inputs: [f64; 2]| {
            let inputs = RowMatrix::new(1, 2, inputs.to_vec()).unwrap();
            let instance =
                RecoveryInstance { inputs, coefficients: vec![1.0, 0.0], input_variance: 1.0 };
            let comparisons = check(Form::Stated, &instance).unwrap();
            comparisons
                .iter()
                .filter(|comparison| comparison.name == "stable interpolators and β*")
                .count()
        };
        // β₁ + β₂/2 = 1: (1, 0) is the shortest in ℓ1; β₁ + 2β₂ = 1: (0, ½) is.
        assert!(recovered([1.0, 0.5]) > 0);
        assert_eq!(recovered([1.0, 2.0]), 0);
    }
}
