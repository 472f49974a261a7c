//! Basis pursuit: the interpolator of minimum ℓ1 norm, with a certificate.

mod evidence;
mod homotopy;

use faer::Mat;
use flatmin_linalg::{
    PowerOfTwo, RowMatrix, divide_by_lower, divide_by_transposed_lower, product, simd, thin_qr,
};
use microlp::{ComparisonOp, OptimizationDirection, Problem, Solution, Variable};

use self::evidence::largest;
pub use self::evidence::{BASIS_PURSUIT_TOLERANCE, BasisPursuit, BasisPursuitError};
use self::homotopy::homotopy;

/// Coefficients below this fraction of the largest one count as zero.
const SUPPORT_CUTOFF: f64 = 1e-9;

/// The interpolator of minimum ℓ1 norm: `min ‖β‖_1` subject to `Xβ = y`.
///
/// `inputs` is X, n × d, of any rank, and `targets` y, n. The homotopy of the lasso gives the
/// support S and the signs (Osborne, Presnell and Turlach 2000); S includes columns whose
/// coefficients vanish only at the end of the path. The certificate is the ν of least norm with
/// `X_Sᵀν = sign(β_S)` (Fuchs 2004). Where ties or rounding spoil this certificate, the simplex
/// method solves the linear program over `β = u − v`, `u, v ≥ 0`; where the support of that
/// solution has no certificate of this form either, it also solves the dual program, `max yᵀν`
/// subject to `‖Xᵀν‖_∞ ≤ 1`.
///
/// For n = 300 and d = 1000 the path takes 3 ms with three nonzero coefficients and 0.1 s without
/// sparse solutions, and it needs memory for a copy of X and two matrices of the size of `X_S`. The
/// simplex method takes up to 2 s and 60 MB. Statement D3 uses it.
///
/// # Errors
/// [`BasisPursuitError`] when the lengths differ, an entry is not finite, no coefficients
/// interpolate the targets, the solver fails, or residual and gap are not within
/// [`BASIS_PURSUIT_TOLERANCE`].
///
/// # Examples
/// ```
/// use flatmin_linalg::RowMatrix;
///
/// // 3β₁ + 4β₂ = 8: the second coefficient makes 8 at the price of 2.
/// let inputs = RowMatrix::new(1, 2, vec![3.0, 4.0])?;
/// let found = flatmin_ledger::basis_pursuit(&inputs, &[8.0])?;
/// assert!((found.coefficients[1] - 2.0).abs() < 1e-12 && found.gap.abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn basis_pursuit(
    inputs: &RowMatrix,
    targets: &[f64],
) -> Result<BasisPursuit, BasisPursuitError> {
    check(inputs, targets)?;
    let d = inputs.columns();
    if targets.iter().all(|y| *y == 0.0) {
        return Ok(BasisPursuit::new(inputs, targets, vec![0.0; d], vec![0.0; targets.len()]));
    }
    let problem = Scaled::new(inputs, targets);
    along_path(&problem).map_or_else(|| linear_program(&problem), Ok)
}

/// The solution at the end of the homotopy, if it can be certified.
fn along_path(problem: &Scaled) -> Option<BasisPursuit> {
    let signed = homotopy(&problem.inputs, &problem.targets)?;
    let support = Support::new(problem, signed)?;
    problem.accept(&support.least_squares(problem), &support.certificate()).ok()
}

/// Solves the linear programs over `β = u − v`, `u, v ≥ 0`.
fn linear_program(problem: &Scaled) -> Result<BasisPursuit, BasisPursuitError> {
    let mut primal = problem.primal()?;
    if let Some(support) = Support::of(problem, &primal) {
        let refit = support.least_squares(problem);
        // The solver's tolerance is 1e-7. The comparison is false for a NaN.
        if problem.residual(&refit) < problem.residual(&primal) {
            primal = refit;
        }
        if let Ok(found) = problem.accept(&primal, &support.certificate()) {
            return Ok(found);
        }
    }
    problem.accept(&primal, &problem.dual()?)
}

fn check(inputs: &RowMatrix, targets: &[f64]) -> Result<(), BasisPursuitError> {
    let (n, d) = (inputs.rows(), inputs.columns());
    if targets.len() != n {
        return Err(BasisPursuitError::Length { got: targets.len(), expected: n });
    }
    let bad = |values: &[f64]| values.iter().position(|v| !v.is_finite());
    if let Some(k) = bad(inputs.values()) {
        let (row, column, value) = (k / d, k % d, inputs.values()[k]);
        return Err(BasisPursuitError::NotFinite { matrix: "the inputs", row, column, value });
    }
    match bad(targets) {
        Some(row) => {
            let value = targets[row];
            Err(BasisPursuitError::NotFinite { matrix: "the targets", row, column: 0, value })
        }
        None => Ok(()),
    }
}

/// The problem in units that suit a solver with absolute tolerances. Each equation is multiplied by
/// a power of two that brings its largest coefficient into [1, 2), then y by a power of two that
/// brings its largest entry there. `ν_i` is divided by the factor of its equation.
struct Scaled<'a> {
    original: (&'a RowMatrix, &'a [f64]),
    inputs: RowMatrix,
    targets: Vec<f64>,
    row_factors: Vec<PowerOfTwo>,
    target_unit: PowerOfTwo,
}

impl<'a> Scaled<'a> {
    fn new(inputs: &'a RowMatrix, targets: &'a [f64]) -> Self {
        let (n, d) = (inputs.rows(), inputs.columns());
        let unit = |values: &[f64]| PowerOfTwo::of_largest(values).unwrap_or_default();
        let row_factors: Vec<PowerOfTwo> = (0..n).map(|i| unit(inputs.row(i)).inverse()).collect();
        let by_rows: Vec<f64> =
            targets.iter().zip(&row_factors).map(|(y, f)| f.times(*y)).collect();
        let target_unit = unit(&by_rows);
        Self {
            original: (inputs, targets),
            inputs: RowMatrix::from_fn(n, d, |i, j| row_factors[i].times(inputs.row(i)[j])),
            targets: by_rows.iter().map(|y| target_unit.inverse().times(*y)).collect(),
            row_factors,
            target_unit,
        }
    }

    /// The pair in the original units, if it can be certified.
    fn accept(&self, primal: &[f64], dual: &[f64]) -> Result<BasisPursuit, BasisPursuitError> {
        let (inputs, targets) = self.original;
        let coefficients = primal.iter().map(|b| self.target_unit.times(*b));
        let dual = dual.iter().zip(&self.row_factors).map(|(v, factor)| factor.times(*v));
        let found = BasisPursuit::new(inputs, targets, coefficients.collect(), dual.collect());
        found.accept(targets).map(|()| found)
    }

    /// `‖Xβ − y‖_∞`, or NaN.
    fn residual(&self, primal: &[f64]) -> f64 {
        let rows = self.targets.iter().enumerate();
        largest(rows.map(|(i, y)| (simd::dot(self.inputs.row(i), primal) - y).abs()))
    }

    /// `min Σ u_j + v_j` subject to `X(u − v) = y`, `u, v ≥ 0`; returns `u − v`.
    fn primal(&self) -> Result<Vec<f64>, BasisPursuitError> {
        let mut problem = Problem::new(OptimizationDirection::Minimize);
        let mut parts = || -> Vec<Variable> {
            let one = |_| problem.add_var(1.0, (0.0, f64::INFINITY));
            (0..self.inputs.columns()).map(one).collect()
        };
        let (positive, negative) = (parts(), parts());
        for (i, &y) in self.targets.iter().enumerate() {
            let row = self.inputs.row(i).iter().zip(positive.iter().zip(&negative));
            let terms = row.flat_map(|(&x, (&u, &v))| [(u, x), (v, -x)]);
            problem.add_constraint(terms.collect::<Vec<_>>(), ComparisonOp::Eq, y);
        }
        let solution = solve(&problem)?;
        let value = |(&u, &v)| solution.var_value(u) - solution.var_value(v);
        Ok(positive.iter().zip(&negative).map(value).collect())
    }

    /// `max yᵀν` subject to `−1 ≤ Xᵀν ≤ 1`; returns ν.
    fn dual(&self) -> Result<Vec<f64>, BasisPursuitError> {
        let mut problem = Problem::new(OptimizationDirection::Maximize);
        let free = (f64::NEG_INFINITY, f64::INFINITY);
        let dual: Vec<Variable> = self.targets.iter().map(|y| problem.add_var(*y, free)).collect();
        for j in 0..self.inputs.columns() {
            let terms = dual.iter().enumerate().map(|(i, &v)| (v, self.inputs.row(i)[j]));
            let terms: Vec<(Variable, f64)> = terms.collect();
            problem.add_constraint(terms.clone(), ComparisonOp::Le, 1.0);
            problem.add_constraint(terms, ComparisonOp::Ge, -1.0);
        }
        let solution = solve(&problem)?;
        Ok(dual.iter().map(|&v| solution.var_value(v)).collect())
    }
}

fn solve(problem: &Problem) -> Result<Solution, BasisPursuitError> {
    match problem.solve() {
        Ok(outcome) => outcome.into_solution().map_err(|_| BasisPursuitError::LinearProgram),
        // The dual program is unbounded exactly when the primal one has no solution.
        Err(microlp::Error::Infeasible | microlp::Error::Unbounded) => {
            Err(BasisPursuitError::NoInterpolator)
        }
        Err(_) => Err(BasisPursuitError::LinearProgram),
    }
}

/// Columns of X with the signs of their coefficients, and their QR decomposition.
struct Support {
    signed: Vec<(usize, f64)>,
    q: Mat<f64>,
    r: Mat<f64>,
}

impl Support {
    /// `None` if the columns cannot be independent.
    fn new(problem: &Scaled, signed: Vec<(usize, f64)>) -> Option<Self> {
        let n = problem.targets.len();
        if signed.is_empty() || signed.len() > n {
            return None;
        }
        let x = Mat::from_fn(n, signed.len(), |i, k| problem.inputs.row(i)[signed[k].0]);
        let (q, r) = thin_qr(x.as_ref());
        Some(Self { signed, q, r })
    }

    /// The columns with nonzero coefficients, which are independent at a vertex of the program.
    fn of(problem: &Scaled, primal: &[f64]) -> Option<Self> {
        let largest = primal.iter().fold(0.0_f64, |m, b| m.max(b.abs()));
        let coefficients = primal.iter().enumerate();
        let nonzero = coefficients.filter(|(_, b)| b.abs() > SUPPORT_CUTOFF * largest);
        Self::new(problem, nonzero.map(|(j, b)| (j, b.signum())).collect())
    }

    /// The coefficients on the support by least squares, with one step of refinement.
    fn least_squares(&self, problem: &Scaled) -> Vec<f64> {
        let mut coefficients = vec![0.0; problem.inputs.columns()];
        for _ in 0..2 {
            // βᵀ = (yᵀQ) R⁻ᵀ.
            let rest = Mat::from_fn(1, problem.targets.len(), |_, i| {
                problem.targets[i] - simd::dot(problem.inputs.row(i), &coefficients)
            });
            let mut solution = product(rest.as_ref(), self.q.as_ref());
            divide_by_lower(self.r.transpose(), solution.as_mut());
            for (k, (j, _)) in self.signed.iter().enumerate() {
                coefficients[*j] += solution[(0, k)];
            }
        }
        coefficients
    }

    /// The vector of least norm with `X_Sᵀν = sign(β_S)`: `ν = Q R⁻ᵀ sign(β_S)`.
    fn certificate(&self) -> Vec<f64> {
        let mut signs = Mat::from_fn(1, self.signed.len(), |_, k| self.signed[k].1);
        divide_by_transposed_lower(self.r.transpose(), signs.as_mut());
        let dual = product(self.q.as_ref(), signs.transpose());
        (0..dual.nrows()).map(|i| dual[(i, 0)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::{RowMatrix, stream};
    use flatmin_models::data::{cube_inputs, linear_targets, sparse_coefficients};
    use proptest::prelude::{Strategy, any, prop_assert, proptest};
    use rand::RngExt;

    use super::{BASIS_PURSUIT_TOLERANCE, Scaled, along_path, basis_pursuit, linear_program};
    use crate::basis_pursuit::BasisPursuitError;

    fn check(rows: usize, columns: usize, inputs: &[f64], targets: &[f64], expected: &[f64]) {
        let inputs = RowMatrix::new(rows, columns, inputs.to_vec()).unwrap();
        let found = basis_pursuit(&inputs, targets).unwrap();
        let size = expected.iter().fold(0.0_f64, |m, b| m.max(b.abs()));
        for (got, expected) in found.coefficients.iter().zip(expected) {
            assert!((got - expected).abs() <= 1e-14 * size, "{:?}", found.coefficients);
        }
        assert!(found.dual_norm <= 1.0 + 1e-15, "{found:?}");
        assert!(found.gap.abs() <= BASIS_PURSUIT_TOLERANCE * found.l1_norm, "{found:?}");
    }

    #[test]
    fn the_cheaper_column_is_taken() {
        // 3β₁ + 4β₂ = 8: the second column makes 8 at the price of 2.
        check(1, 2, &[3.0, 4.0], &[8.0], &[0.0, 2.0]);
        check(1, 2, &[3.0, -4.0], &[8.0], &[0.0, -2.0]);
        // The units of an equation and of the targets do not matter.
        check(1, 2, &[3e-150, 4e-150], &[8e100], &[0.0, 2e250]);
        check(2, 2, &[1e8, 0.0, 0.0, 1e-8], &[1e8, -3e-8], &[1.0, -3.0]);
    }

    #[test]
    fn dependent_equations_and_too_many_of_them_are_ordinary() {
        check(3, 2, &[1.0, 2.0, 2.0, 4.0, 0.0, 0.0], &[2.0, 4.0, 0.0], &[0.0, 1.0]);
        check(3, 2, &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], &[1.0, -2.0, -1.0], &[1.0, -2.0]);
    }

    #[test]
    fn a_certificate_is_found_where_least_squares_gives_none() {
        // On the support {1} least squares gives ν = (1, 1)/2, and x₂ᵀν = 1.5 is too large. ν = (0,
        // 1) is a certificate.
        check(2, 2, &[1.0, 4.0, 1.0, -1.0], &[1.0, 1.0], &[1.0, 0.0]);
    }

    #[test]
    fn zero_targets_have_the_zero_interpolator() {
        let found = basis_pursuit(&RowMatrix::zeros(2, 3), &[0.0, 0.0]).unwrap();
        assert_eq!(found.coefficients, [0.0; 3]);
        assert_eq!((found.l1_norm, found.residual, found.gap), (0.0, 0.0, 0.0));
    }

    #[test]
    fn what_cannot_be_solved_is_an_error() {
        let inputs = RowMatrix::new(2, 2, vec![1.0, 2.0, 2.0, 4.0]).unwrap();
        assert_eq!(basis_pursuit(&inputs, &[1.0, 1.0]), Err(BasisPursuitError::NoInterpolator));
        let nothing = RowMatrix::zeros(1, 2);
        assert_eq!(basis_pursuit(&nothing, &[1.0]), Err(BasisPursuitError::NoInterpolator));
        // Within the solver's tolerance of 1e-7; only the unbounded dual program shows it.
        let error = basis_pursuit(&inputs, &[1.0, 2.0 + 5e-8]).unwrap_err();
        assert_eq!(error, BasisPursuitError::NoInterpolator);
        let error = basis_pursuit(&inputs, &[1.0]).unwrap_err();
        assert_eq!(error.to_string(), "the vector of targets has 1 values, expected 2");
    }

    #[test]
    fn an_entry_that_is_not_finite_is_named() {
        let inputs = RowMatrix::new(1, 2, vec![1.0, f64::INFINITY]).unwrap();
        let error = basis_pursuit(&inputs, &[1.0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "entry (0, 1) of the inputs is inf, expected a finite number"
        );
        let error = basis_pursuit(&RowMatrix::zeros(1, 2), &[f64::NAN]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "entry (0, 0) of the targets is NaN, expected a finite number"
        );
    }

    /// `Σ a_i b_i` with about twice the digits: the errors of products and sums are summed
    /// separately and added (Ogita, Rump and Oishi 2005).
    fn accurate_sum(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        let (mut sum, mut error) = (0.0_f64, 0.0);
        for (a, b) in pairs {
            let product = a * b;
            let next = sum + product;
            let part = next - sum;
            error += (sum - (next - part)) + (product - part) + a.mul_add(b, -product);
            sum = next;
        }
        sum + error
    }

    #[test]
    fn certificates_hold_beyond_gamma() {
        let mut certified = 0;
        for (seed, span) in (0..2000).zip([1.0, 3.0, 6.0, 20.0].into_iter().cycle()) {
            let mut rng = stream(seed, "scaled columns", 0);
            let (n, d) = (rng.random_range(2..7), rng.random_range(5..12));
            let scales: Vec<f64> =
                (0..d).map(|_| libm::exp10(rng.random_range(-span..span))).collect();
            let values = cube_inputs(n, d, &mut rng);
            let inputs = RowMatrix::from_fn(n, d, |i, j| values.row(i)[j] * scales[j]);
            let coefficients: Vec<f64> =
                scales.iter().map(|scale| rng.random_range(-1.0..1.0) / scale).collect();
            let targets = linear_targets(&inputs, &coefficients);
            // If the scales are far apart, rounding errors may prevent a certificate.
            let Ok(found) = basis_pursuit(&inputs, &targets) else { continue };
            certified += 1;
            assert!(found.dual_norm <= 1.0, "{seed}: {found:?}");
            for j in 0..d {
                let column = (0..n).map(|i| inputs.row(i)[j]);
                let exact = accurate_sum(column.zip(found.dual.iter().copied()));
                assert!(exact.abs() <= 1.0, "{seed}, {j}: {exact}");
            }
        }
        assert!(certified > 1000, "{certified}");
    }

    /// Inputs are random numbers, or signs, which make ties. Some columns are repeated up to sign,
    /// some rows are repeated or zero, and each row may have units of its own. Targets come from
    /// sparse or dense coefficients, are random (and then interpolated only if the rows are
    /// independent), or are zero.
    fn problem() -> impl Strategy<Value = (RowMatrix, Vec<f64>)> {
        (1..=12_usize, 1..=30_usize, any::<u64>()).prop_map(|(n, d, seed)| {
            let mut rng = stream(seed, "basis pursuit property", 0);
            let ties = rng.random_bool(0.3);
            let values = cube_inputs(n, d, &mut rng).values().to_vec();
            let mut inputs: Vec<Vec<f64>> = values
                .chunks(d)
                .map(|row| row.iter().map(|v| if ties { v.signum() } else { *v }).collect())
                .collect();
            if rng.random_bool(0.3) {
                for row in &mut inputs {
                    row[d - 1] = -row[0];
                    row[d / 2] = row[0];
                }
            }
            if rng.random_bool(0.3) {
                inputs[n - 1] = inputs[0].clone();
                inputs[n / 2] = vec![0.0; d];
            }
            if rng.random_bool(0.3) {
                for (row, unit) in inputs.iter_mut().zip([1e-6, 1e3, 1.0, 1e6].iter().cycle()) {
                    for value in row {
                        *value *= unit;
                    }
                }
            }
            let inputs = RowMatrix::new(n, d, inputs.concat()).unwrap();
            let targets = match rng.random_range(0..8) {
                0 => vec![0.0; n],
                1 | 2 => cube_inputs(1, n, &mut rng).values().to_vec(),
                3 | 4 => linear_targets(&inputs, &sparse_coefficients(d, 2.min(d))),
                _ => linear_targets(&inputs, cube_inputs(1, d, &mut rng).values()),
            };
            (inputs, targets)
        })
    }

    proptest! {
        #[test]
        fn the_path_leads_where_the_linear_program_does((inputs, targets) in problem()) {
            let scaled = Scaled::new(&inputs, &targets);
            let Some(found) = along_path(&scaled) else { return Ok(()) };
            prop_assert!(found.dual_norm <= 1.0 + 1e-12, "{found:?}");
            match linear_program(&scaled) {
                Ok(expected) => {
                    let apart = (found.l1_norm - expected.l1_norm).abs();
                    let tolerance = 2.0 * BASIS_PURSUIT_TOLERANCE * expected.l1_norm;
                    prop_assert!(apart <= tolerance, "{found:?} {expected:?}");
                }
                Err(error) => prop_assert!(error != BasisPursuitError::NoInterpolator, "{found:?}"),
            }
        }
    }

    #[test]
    fn the_path_leads_to_the_end_unless_there_are_ties() {
        // The support has as many columns as there are samples, or fewer.
        for (n, d, nonzero) in [(1, 5, 1), (40, 90, 30), (60, 90, 10), (90, 90, 40), (90, 40, 20)] {
            let inputs = cube_inputs(n, d, &mut stream(1, "basis pursuit test", n as u64));
            let targets = linear_targets(&inputs, &sparse_coefficients(d, nonzero));
            assert!(along_path(&Scaled::new(&inputs, &targets)).is_some(), "n = {n}, d = {d}");
        }
    }
}
