//! Basis pursuit: the interpolator of minimum ℓ1 norm, with a certificate.

mod homotopy;

use faer::Mat;
use flatmin_linalg::{
    RowMatrix, divide_by_lower, divide_by_transposed_lower, product, simd, thin_qr,
};
use microlp::{ComparisonOp, OptimizationDirection, Problem, Solution, Variable};

use flatmin_linalg::rounding::gamma;

use self::homotopy::homotopy;

/// Largest `‖Xβ − y‖_∞ / ‖y‖_∞` and `|‖β‖_1 − yᵀν| / ‖β‖_1` of an accepted solution.
pub const BASIS_PURSUIT_TOLERANCE: f64 = 1e-9;

/// Coefficients below this fraction of the largest one are rounding of zero.
const SUPPORT_CUTOFF: f64 = 1e-9;

/// The reason why a problem has no certified interpolator of minimum ℓ1 norm.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BasisPursuitError {
    /// The number of targets is not the number of inputs.
    #[error("the vector of targets has {got} values, expected {expected}")]
    Length {
        /// Number of targets.
        got: usize,
        /// Number of inputs.
        expected: usize,
    },
    /// An entry of the inputs or the targets is NaN or infinite.
    #[error("entry ({row}, {column}) of {matrix} is {value}, expected a finite number")]
    NotFinite {
        /// The matrix, in words.
        matrix: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
    },
    /// No linear function of the inputs takes the values of the targets.
    #[error("no coefficients interpolate the targets")]
    NoInterpolator,
    /// The linear-programming solver gave up.
    #[error("the linear-programming solver reached no answer")]
    LinearProgram,
    /// The evidence does not suffice to accept the answer of the solver.
    #[error(
        "the interpolator found leaves a relative residual of {residual:e} and a relative duality \
         gap of {gap:e}"
    )]
    NotCertified {
        /// `‖Xβ − y‖_∞ / ‖y‖_∞`.
        residual: f64,
        /// `(‖β‖_1 − yᵀν) / ‖β‖_1`.
        gap: f64,
    },
}

/// A solution β of `min ‖β‖_1` subject to `Xβ = y`, with the evidence for it.
///
/// The dual vector ν proves it: `‖Xᵀν‖_∞ ≤ 1` implies `‖β'‖_1 ≥ (Xβ')ᵀν = yᵀν` for every
/// interpolator β', so that no interpolator has an ℓ1 norm smaller than `l1_norm − gap`.
#[derive(Debug, Clone, PartialEq)]
pub struct BasisPursuit {
    /// The coefficients β, d.
    pub coefficients: Vec<f64>,
    /// `‖β‖_1`.
    pub l1_norm: f64,
    /// The feasibility residual `‖Xβ − y‖_∞`.
    pub residual: f64,
    /// The dual certificate ν, n.
    pub dual: Vec<f64>,
    /// An upper bound on `‖Xᵀν‖_∞`, rounding included: at most 1.
    pub dual_norm: f64,
    /// The duality gap `‖β‖_1 − yᵀν`.
    pub gap: f64,
}

/// The interpolator of minimum ℓ1 norm: `min ‖β‖_1` subject to `Xβ = y`.
///
/// `inputs` is X, n × d, of any rank, and `targets` y, n. The homotopy of the lasso leads to the
/// support S and the signs (Osborne, Presnell and Turlach 2000). The certificate is the ν of least
/// norm with `X_Sᵀν = sign(β_S)` (Fuchs 2004), where S has the columns whose coefficients vanish only
/// at the end of the path too. Where ties or rounding leave that without proof, the linear program
/// over `β = u − v`, `u, v ≥ 0`, and, where its solution has no such certificate, the dual program,
/// `max yᵀν` subject to `‖Xᵀν‖_∞ ≤ 1`, are solved by the simplex method.
///
/// For n = 300 and d = 1000 the path takes 3 ms with three nonzero coefficients and 0.1 s without
/// sparse solutions, and room for a copy of X and two matrices of the size of `X_S`; the simplex
/// method takes up to 2 s and 60 MB there. Serves D3.
///
/// # Errors
/// [`BasisPursuitError`] when the lengths differ, an entry is not finite, no coefficients interpolate, the
/// solver fails, or residual and gap are not within [`BASIS_PURSUIT_TOLERANCE`].
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

/// Where the homotopy leads, if the evidence suffices.
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
        // The solver's tolerance is 1e-7. Written so that a NaN is no better.
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

impl BasisPursuit {
    /// Measures a pair of candidates; the dual one is shrunk until it is feasible.
    fn new(inputs: &RowMatrix, targets: &[f64], coefficients: Vec<f64>, dual: Vec<f64>) -> Self {
        let residuals = (0..inputs.rows())
            .map(|i| (simd::dot(inputs.row(i), &coefficients) - targets[i]).abs());
        let residual = largest(residuals);
        // With room for the rounding of the division, which is one of every entry of ν.
        let size = largest_correlation(inputs, &dual, 8) * (1.0 + gamma(8));
        let dual: Vec<f64> =
            if size <= 1.0 { dual } else { dual.iter().map(|v| v / size).collect() };
        let l1_norm = coefficients.iter().map(|b| b.abs()).sum();
        Self {
            l1_norm,
            residual,
            dual_norm: largest_correlation(inputs, &dual, 0),
            gap: l1_norm - simd::dot(targets, &dual),
            coefficients,
            dual,
        }
    }

    /// Whether the evidence suffices.
    fn accept(&self, targets: &[f64]) -> Result<(), BasisPursuitError> {
        let size = targets.iter().fold(0.0_f64, |m, y| m.max(y.abs()));
        let (residual, gap) = (self.residual / size, self.gap / self.l1_norm);
        // Written so that a NaN is refused. A negative gap means that β is not feasible.
        if residual <= BASIS_PURSUIT_TOLERANCE && gap.abs() <= BASIS_PURSUIT_TOLERANCE {
            Ok(())
        } else {
            Err(BasisPursuitError::NotCertified { residual, gap })
        }
    }
}

/// `Xᵀν`.
fn correlations(inputs: &RowMatrix, dual: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; inputs.columns()];
    for (i, weight) in dual.iter().enumerate() {
        simd::axpy(*weight, inputs.row(i), &mut sums);
    }
    sums
}

/// A number that `‖Xᵀν‖_∞` does not exceed, rounding included: a sum of n terms is off by at most
/// `γ_n Σ_i |x_ij ν_i|`, which counts where columns or entries of ν are of very different size; `more` roundings of
/// every term are allowed for.
fn largest_correlation(inputs: &RowMatrix, dual: &[f64], more: usize) -> f64 {
    let mut sizes = vec![0.0; inputs.columns()];
    for (i, weight) in dual.iter().enumerate() {
        for (size, value) in sizes.iter_mut().zip(inputs.row(i)) {
            *size += (weight * value).abs();
        }
    }
    // The sizes and the bound are rounded too.
    let gamma = gamma(2 * inputs.rows() + 8 + more);
    let sums = correlations(inputs, dual);
    largest(sums.iter().zip(sizes).map(|(sum, size)| sum.abs() + gamma * size))
}

/// The largest of numbers that are not negative; NaN where one of them is.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    // A NaN is larger than nothing, and stays by the sum.
    values
        .fold(0.0, |largest, value| if value <= largest { largest } else { value + 0.0 * largest })
}

/// The problem in units that suit a solver with absolute tolerances: every equation is multiplied
/// by a power of two that brings its largest coefficient to [1, 2), then y by one that does the same
/// to its largest entry. `ν_i` shrinks by the same factors as its equation grows.
struct Scaled<'a> {
    original: (&'a RowMatrix, &'a [f64]),
    inputs: RowMatrix,
    targets: Vec<f64>,
    row_exponents: Vec<i32>,
    target_exponent: i32,
}

impl<'a> Scaled<'a> {
    fn new(inputs: &'a RowMatrix, targets: &'a [f64]) -> Self {
        let exponent = |values: &[f64]| {
            let largest = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            if largest > 0.0 && largest.is_finite() { libm::ilogb(largest) } else { 0 }
        };
        let n = inputs.rows();
        let row_exponents: Vec<i32> = (0..n).map(|i| exponent(inputs.row(i))).collect();
        let by_rows = targets.iter().zip(&row_exponents).map(|(y, e)| libm::scalbn(*y, -e));
        let by_rows: Vec<f64> = by_rows.collect();
        let target_exponent = exponent(&by_rows);
        Self {
            original: (inputs, targets),
            inputs: RowMatrix::from_fn(n, inputs.columns(), |i, j| {
                libm::scalbn(inputs.row(i)[j], -row_exponents[i])
            }),
            targets: by_rows.iter().map(|y| libm::scalbn(*y, -target_exponent)).collect(),
            row_exponents,
            target_exponent,
        }
    }

    /// The pair in the original units, where it is evidence enough.
    fn accept(&self, primal: &[f64], dual: &[f64]) -> Result<BasisPursuit, BasisPursuitError> {
        let (inputs, targets) = self.original;
        let coefficients = primal.iter().map(|b| libm::scalbn(*b, self.target_exponent));
        let dual = dual.iter().zip(&self.row_exponents).map(|(v, e)| libm::scalbn(*v, -e));
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
        // The primal has no solution, or the dual grows without bound: the same thing.
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
    /// `None` where the columns cannot be independent.
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
        // On the support {1} least squares gives ν = (1, 1)/2, and x₂ᵀν = 1.5; ν = (0, 1) serves.
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
        // Within the solver's tolerance of 1e-7; the dual program, which grows without bound, tells.
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

    /// `Σ a_i b_i` with about twice the digits: errors of products and sums are summed too (Ogita, Rump and Oishi 2005).
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
    fn certificates_hold_beyond_rounding() {
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
            // Where scales are far apart rounding hides what is true.
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

    /// Random numbers, or signs, which tie; some columns repeated, up to sign, some rows repeated or
    /// zero, all rows in units of their own; targets that are interpolated by sparse or by dense
    /// coefficients, by none unless the rows are independent, or zero.
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
        // The columns of the support are as many as the samples, and fewer.
        for (n, d, nonzero) in [(1, 5, 1), (40, 90, 30), (60, 90, 10), (90, 90, 40), (90, 40, 20)] {
            let inputs = cube_inputs(n, d, &mut stream(1, "basis pursuit test", n as u64));
            let targets = linear_targets(&inputs, &sparse_coefficients(d, nonzero));
            assert!(along_path(&Scaled::new(&inputs, &targets)).is_some(), "n = {n}, d = {d}");
        }
    }
}
