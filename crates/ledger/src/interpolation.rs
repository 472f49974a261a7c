//! Checks of D3 and D4: which interpolators stability excludes.

use flatmin_linalg::{RowMatrix, simd};
use flatmin_models::DiagonalLinear;
use flatmin_models::data::linear_targets;

use super::diagonal::{dense_sharpness, population_trace};
use super::monte_carlo::mean_is;
use super::{Comparison, Form, InterpolationInstance, RecoveryInstance, Statement};
use crate::{BASIS_PURSUIT_TOLERANCE, BasisPursuit, LedgerError, basis_pursuit};
use flatmin_theory::{lambda_max_bound, trace_bound};

/// A pivot below this part of the largest makes a system singular.
const SINGULAR: f64 = 1e-4;

/// Interpolators this near to each other, relative, are the same: as exact as elimination makes them.
const SAME: f64 = 1e-7;

/// D3: interpolators of the measurements are listed, each with balanced and with unbalanced layers,
/// and those that the trace condition admits are compared with β*; basis pursuit has none of larger
/// ℓ1 norm. The mutant admits them up to half the learning rate, `1/(2s²‖β*‖₁)`.
pub(super) fn check_recovery(
    form: Form,
    instance: &RecoveryInstance,
) -> Result<Vec<Comparison>, LedgerError> {
    let RecoveryInstance { inputs, coefficients, input_variance } = instance;
    let model = match DiagonalLinear::new(coefficients.len()) {
        Ok(model) if l1_norm(coefficients) > 0.0 => model,
        // Every learning rate is stable at β* = 0, and there is none to recover it at.
        _ => return Ok(Vec::new()),
    };
    let least = l1_norm(coefficients);
    let rate = form.pick(1.0, 0.5) / (input_variance * least);
    let vertices = basic_interpolators(inputs, coefficients);
    // A program too badly scaled for the solver says nothing about the statement.
    let pursued = match basis_pursuit(inputs, &linear_targets(inputs, coefficients)) {
        Ok(found) => Some(found),
        Err(
            LedgerError::NotCertified { .. }
            | LedgerError::LinearProgram
            | LedgerError::NoInterpolator,
        ) => None,
        Err(error) => return Err(error),
    };
    // A linear program over the interpolators takes its optimum at a basic one. β* is recovered
    // when it is an optimum and all others have a larger norm, here by more than rounding.
    let others = vertices.iter().filter(|vertex| distance(vertex, coefficients) > SAME * least);
    let is_optimum =
        |pursued: &BasisPursuit| least <= (1.0 + 2.0 * BASIS_PURSUIT_TOLERANCE) * pursued.l1_norm;
    let is_recovered = pursued.as_ref().is_some_and(is_optimum)
        && others.clone().all(|vertex| l1_norm(vertex) > (1.0 + SAME) * least);

    let shortest = projection(inputs, coefficients).0;
    let blend = |other: &Vec<f64>, part: f64| -> Vec<f64> {
        coefficients.iter().zip(other).map(|(b, o)| b + part * (o - b)).collect()
    };
    let mut interpolators = vec![coefficients.clone(), blend(&shortest, 0.5)];
    for vertex in &vertices {
        interpolators.extend([vertex.clone(), blend(vertex, 0.5), blend(vertex, 1e-3)]);
    }
    interpolators.push(shortest);
    // Nearly dependent rows may have been taken for dependent ones.
    let deviations = |other: &[f64]| -> Vec<f64> {
        let difference: Vec<f64> = other.iter().zip(coefficients).map(|(o, b)| o - b).collect();
        (0..inputs.rows()).map(|i| simd::dot(inputs.row(i), &difference).abs()).collect()
    };
    interpolators.retain(|other| {
        let size = l1_norm(other) + least;
        let rows = deviations(other).into_iter().enumerate();
        rows.into_iter().all(|(i, deviation)| deviation <= 1e-12 * l1_norm(inputs.row(i)) * size)
    });

    let mut comparisons = Vec::new();
    for interpolator in &interpolators {
        if let (Form::Stated, Some(pursued)) = (form, &pursued) {
            // What the dual vector proves of an interpolator that is one up to rounding.
            let slack: f64 =
                deviations(interpolator).iter().zip(&pursued.dual).map(|(d, v)| d * v.abs()).sum();
            let bound = (1.0 + BASIS_PURSUIT_TOLERANCE) * l1_norm(interpolator) + slack;
            let name = "basis pursuit and interpolators";
            comparisons.push(Comparison::at_most(Statement::D3, name, pursued.l1_norm, bound));
        }
        for ratio in [1.0, 1.1] {
            let parameters = layers(interpolator, ratio);
            let trace = population_trace(model, &parameters, *input_variance);
            // β* with balanced layers is at the edge: rounding must not exclude it.
            if !(rate <= (1.0 + 1e-13) * trace_bound(trace, 1.0)) {
                continue;
            }
            comparisons.push(Comparison::at_most(
                Statement::D3,
                "l1 norm of stable interpolators",
                l1_norm(interpolator),
                least,
            ));
            if is_recovered {
                let apart = distance(interpolator, coefficients);
                comparisons.push(Comparison::equal(
                    Statement::D3,
                    "stable interpolators and β*",
                    if apart > SAME * least { apart } else { 0.0 } + least,
                    least,
                    least,
                ));
            }
        }
    }
    Ok(comparisons)
}

/// D4. The mutant has n/d instead of 1 − n/d, and lets SGD admit what gradient descent admits.
pub(super) fn check_error(
    form: Form,
    instance: &InterpolationInstance,
) -> Result<Vec<Comparison>, LedgerError> {
    const DESIGNS_LOOKED_AT: usize = 2;
    let InterpolationInstance { coefficients, designs, input_variance } = instance;
    let Ok(model) = DiagonalLinear::new(coefficients.len()) else { return Ok(Vec::new()) };
    let squared_norm = simd::norm_squared(coefficients);
    let mut comparisons = Vec::new();
    let mut samples = Vec::with_capacity(designs.len());
    for (number, design) in designs.iter().enumerate() {
        let (interpolator, rank) = projection(design, coefficients);
        let error: f64 =
            interpolator.iter().zip(coefficients).map(|(b, target)| (b - target).powi(2)).sum();
        let part = rank as f64 / coefficients.len() as f64;
        // Its mean is ‖β*‖²: the error lacks just the part of ‖β*‖² in the range of the design.
        samples.push(error + form.pick(part, 1.0 - part) * squared_norm);
        if number < DESIGNS_LOOKED_AT {
            comparisons.extend(check_stability(
                form,
                model,
                [&interpolator, coefficients],
                *input_variance,
            )?);
        }
    }
    comparisons.push(mean_is(
        Statement::D4,
        "sampled error and rank",
        squared_norm,
        &samples,
        form.pick(1.0, 2.0) * squared_norm,
    ));
    Ok(comparisons)
}

/// With balanced layers, gradient descent admits `interpolator` wherever it admits `target`, if its
/// largest coefficient is not larger; SGD does not at `1/(s²‖β*‖₁)`, if its ℓ1 norm is larger.
fn check_stability(
    form: Form,
    model: DiagonalLinear,
    [interpolator, target]: [&[f64]; 2],
    input_variance: f64,
) -> Result<Vec<Comparison>, LedgerError> {
    let largest = |values: &[f64]| values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    let at_most = |name, lhs, rhs| Comparison::at_most(Statement::D4, name, lhs, rhs);
    let of_interpolator = dense_sharpness(model, &layers(interpolator, 1.0), input_variance)?;
    let of_target = dense_sharpness(model, &layers(target, 1.0), input_variance)?;
    let mut comparisons = Vec::new();
    if largest(interpolator) <= largest(target) {
        let measure = |sharpness: &flatmin_linalg::Sharpness| match form {
            Form::Stated => lambda_max_bound(sharpness.lambda_max),
            Form::Mutant => trace_bound(sharpness.trace, 1.0),
        };
        let (lhs, rhs) = (measure(&of_target), measure(&of_interpolator));
        comparisons.push(at_most("learning rates of gradient descent", lhs, rhs));
    }
    if l1_norm(interpolator) > l1_norm(target) {
        let rate = form.pick(1.0, 0.5) / (input_variance * l1_norm(target));
        let lhs = trace_bound(of_interpolator.trace, 1.0);
        comparisons.push(at_most("learning rates of SGD", lhs, rate));
    }
    Ok(comparisons)
}

fn l1_norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value.abs()).sum()
}

fn distance(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(a, b)| (a - b).abs()).sum()
}

/// Parameters with the given coefficients and `|a_j| = ratio · |b_j|`.
fn layers(coefficients: &[f64], ratio: f64) -> Vec<f64> {
    let a = coefficients.iter().map(|value| (ratio * value.abs()).sqrt());
    let b = coefficients.iter().map(|value| (value.abs() / ratio).sqrt().copysign(*value));
    a.chain(b).collect()
}

/// An orthonormal basis of the span of the rows, by Gram–Schmidt with re-orthogonalisation.
fn row_basis(matrix: &RowMatrix) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for i in 0..matrix.rows() {
        let mut vector = matrix.row(i).to_vec();
        let before = simd::norm_squared(&vector).sqrt();
        for _ in 0..2 {
            for direction in &basis {
                let component = simd::dot(direction, &vector);
                simd::axpy(-component, direction, &mut vector);
            }
        }
        let norm = simd::norm_squared(&vector).sqrt();
        if norm > SINGULAR * before {
            basis.push(vector.iter().map(|value| value / norm).collect());
        }
    }
    basis
}

/// The minimum-ℓ2-norm interpolator of `Xβ*`, which is the projection of β* on the span of the rows
/// of X, and the rank of X.
fn projection(inputs: &RowMatrix, coefficients: &[f64]) -> (Vec<f64>, usize) {
    let basis = row_basis(inputs);
    let mut projected = vec![0.0; coefficients.len()];
    for direction in &basis {
        simd::axpy(simd::dot(direction, coefficients), direction, &mut projected);
    }
    (projected, basis.len())
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

/// The solution of a square system, each equation with its right side at the end, by elimination
/// with pivoting; none when the matrix is singular. Its entries are at most about 1.
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

    use super::{basic_interpolators, check_recovery, layers, projection, solve};
    use crate::TOLERANCE;
    use crate::{Form, RecoveryInstance};
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
    fn layers_make_the_coefficients() {
        let parameters = layers(&[4.0, -9.0, 0.0], 4.0);
        assert_eq!(parameters, [4.0, 6.0, 0.0, 1.0, -1.5, 0.0]);
    }

    #[test]
    fn a_program_that_the_solver_cannot_certify_is_no_error() {
        let inputs = [-7.872_306_619_681_813e-5, 1.0, 0.0, 0.295_053_240_497_876_8];
        let inputs = RowMatrix::new(2, 2, inputs.to_vec()).unwrap();
        let coefficients = vec![2.0, -0.648_859_941_525_605_9];
        let instance = RecoveryInstance::new(inputs, coefficients, 7.459_813_533_024_54).unwrap();
        let comparisons = check_recovery(Form::Stated, &instance).unwrap();
        assert!(!comparisons.is_empty() && comparisons.iter().all(|c| c.holds(TOLERANCE)));
    }

    #[test]
    fn recovery_is_seen_where_it_happens() {
        let check = |inputs: [f64; 2]| {
            let inputs = RowMatrix::new(1, 2, inputs.to_vec()).unwrap();
            let instance =
                RecoveryInstance { inputs, coefficients: vec![1.0, 0.0], input_variance: 1.0 };
            let comparisons = check_recovery(Form::Stated, &instance).unwrap();
            comparisons
                .iter()
                .filter(|comparison| comparison.name == "stable interpolators and β*")
                .count()
        };
        // β₁ + β₂/2 = 1: (1, 0) is the shortest in ℓ1; β₁ + 2β₂ = 1: (0, ½) is.
        assert!(check([1.0, 0.5]) > 0);
        assert_eq!(check([1.0, 2.0]), 0);
    }
}
