//! F5: the trace of matrix sensing on given measurements.

use flatmin_models::{MatrixSensing, Model as _};
use flatmin_theory::dense_threshold;

use crate::families::network::NetworkInstance;
use crate::families::sensing::{factor_matrices, random_factors, random_sensing, singular};
use crate::prelude::*;

pub(super) static F5: Statement = Statement {
    id: "F5",
    title: "The empirical trace is a weighted nuclear norm",
    words: "With A the mean of X_iX_iᵀ and B that of X_iᵀX_i, the trace is tr UᵀAU + tr VᵀBV, at \
            least 2‖A^½WB^½‖_*, with equality if UᵀAU = VᵀBV. So SGD is stable only at matrices \
            with ‖A^½WB^½‖_* ≤ 1/(pη).",
    latex: r"\operatorname{tr} G = \operatorname{tr} U^\top AU + \operatorname{tr} V^\top BV \ge 2\|A^{1/2}WB^{1/2}\|_*, \qquad \text{SGD stable} \implies \|A^{1/2}WB^{1/2}\|_* \le \frac{1}{p\eta}",
    hypotheses: "any measurements; for stability, a zero-loss minimum, linearised, and batches drawn \
                 independently",
    source: FLATMIN,
    check_words: "The trace of the Jacobian against both sides; the trace at balanced factors; and \
                  the weighted norm against the exact threshold by the dense operator.",
    mutant_words: "2 tr VᵀBV instead of tr VᵀBV, 4 instead of 2, and 1/(2pη) instead of 1/(pη)",
    trial: &Trial { generate: SensingInstance::random, check },
};

/// Matrix sensing on some measurements, and a sampling of batches of them.
#[derive(Debug, Clone, PartialEq)]
pub struct SensingInstance {
    /// The factors and the measurements.
    pub network: NetworkInstance<MatrixSensing>,
    /// The batch size and the sampling.
    pub batch: Batch,
}

impl SensingInstance {
    fn random(rng: &mut dyn Rng) -> Self {
        let model = random_sensing(rng);
        let parameters = random_factors(model, rng);
        let (count, dim) = (size(rng), model.input_dim());
        let mut inputs = normal_matrix(count, dim, rng);
        match rng.random_range(0..4) {
            // Generic.
            0 => {}
            // Single entries, so that A and B may be singular.
            1 => {
                let place: Vec<usize> = (0..count).map(|_| rng.random_range(0..dim)).collect();
                inputs = RowMatrix::from_fn(count, dim, |i, j| f64::from(u8::from(place[i] == j)));
            }
            2 => scale_rows_heavily(&mut inputs, rng),
            // The same measurement again and again.
            _ => make_nearly_equal(&mut inputs),
        }
        let batch = random_batch(count, rng);
        Self { network: NetworkInstance { model, parameters, inputs }, batch }
    }
}

impl Instance for SensingInstance {
    fn sizes(&self) -> String {
        let NetworkInstance { model, inputs, .. } = &self.network;
        let (rows, columns, k) = (model.rows(), model.columns(), model.factor_count());
        let (n, batch) = (inputs.rows(), batch_words(self.batch));
        format!("d₁ = {rows}, d₂ = {columns}, k = {k}, n = {n}, {batch}")
    }
}

/// A positive semidefinite matrix with its square root and the pseudo-inverse of that.
struct Rooted {
    matrix: Mat<f64>,
    root: Mat<f64>,
    inverse_root: Mat<f64>,
    /// The smallest nonzero eigenvalue divided by the largest.
    condition: f64,
}

impl Rooted {
    fn new(matrix: Mat<f64>) -> Result<Self, LedgerError> {
        let eigen = symmetric_eigen(matrix.as_ref())?;
        let largest = eigen.values.last().copied().unwrap_or(0.0);
        let is_nonzero = |value: f64| value > 1e-12 * largest;
        let of = |function: fn(f64) -> f64| {
            let n = matrix.nrows();
            let values: Vec<f64> = eigen
                .values
                .iter()
                .map(|value| if is_nonzero(*value) { function(*value) } else { 0.0 })
                .collect();
            Mat::from_fn(n, n, |i, j| {
                (0..n).map(|k| values[k] * eigen.vectors[(i, k)] * eigen.vectors[(j, k)]).sum()
            })
        };
        let nonzero = eigen.values.iter().copied().filter(|value| is_nonzero(*value));
        Ok(Self {
            root: of(f64::sqrt),
            inverse_root: of(|value| 1.0 / value.sqrt()),
            condition: nonzero.fold(f64::INFINITY, f64::min) / largest,
            matrix,
        })
    }
}

/// The traces of the two terms, `tr UᵀAU` and `tr VᵀBV`.
fn terms(left: &Rooted, right: &Rooted, u: &Mat<f64>, v: &Mat<f64>) -> [f64; 2] {
    [(left, u), (right, v)].map(|(weight, factor)| {
        let product = factor.transpose() * &weight.matrix * factor;
        (0..product.nrows()).map(|k| product[(k, k)]).sum()
    })
}

fn check(form: Form, instance: &SensingInstance) -> Checked {
    let SensingInstance { network, batch } = instance;
    let NetworkInstance { model, parameters, inputs } = network;
    let (rows, columns, n) = (model.rows(), model.columns(), inputs.rows());
    let entry = |i: usize, row: usize, column: usize| inputs.row(i)[row * columns + column];
    let mean = |size: usize, term: &dyn Fn(usize, usize, usize) -> f64| {
        Mat::from_fn(size, size, |k, l| (0..n).map(|i| term(i, k, l)).sum::<f64>() / n as f64)
    };
    let left = Rooted::new(mean(rows, &|i, k, l| {
        (0..columns).map(|j| entry(i, k, j) * entry(i, l, j)).sum()
    }))?;
    let right = Rooted::new(mean(columns, &|i, k, l| {
        (0..rows).map(|j| entry(i, j, k) * entry(i, j, l)).sum()
    }))?;
    let (u, v) = factor_matrices(*model, parameters);
    let [u_term, v_term] = terms(&left, &right, &u, &v);
    let jacobian = model.jacobian(parameters, inputs);
    let trace = jacobian.values().iter().map(|g| g * g).sum::<f64>() / n as f64;
    let expected = u_term + form.pick(1.0, 2.0) * v_term;
    let weighted = &left.root * &u * v.transpose() * &right.root;
    let nuclear: f64 = singular(&weighted).iter().sum();
    let factor = form.pick(2.0, 4.0);
    // Square roots of small eigenvalues have lost half of their digits.
    let is_clear = left.condition.min(right.condition) > 1e-5;
    let scale = (left.matrix.norm_l2() * right.matrix.norm_l2()).sqrt() * u.norm_l2() * v.norm_l2();
    let mut comparisons = vec![Comparison::equal("trace and factors", trace, expected, trace)];
    if is_clear {
        comparisons.push(Comparison::at_most("weighted norm and trace", factor * nuclear, trace));
        let balanced = balanced_trace(&left, &right, &weighted);
        let bound = factor * nuclear;
        let name = "trace of balanced factors";
        comparisons.push(Comparison::equal(name, balanced, bound, bound.max(scale)));
    }
    if is_clear && trace > 0.0 {
        let minimum = Minimum::new(&jacobian)?;
        let p = batch.noise_coefficient(minimum.sample_count())?;
        let threshold = dense_threshold(&minimum, batch)?;
        let bound = form.pick(1.0, 0.5) / (p * threshold);
        comparisons.push(Comparison::at_most("weighted norm of stable minima", nuclear, bound));
    }
    Ok(comparisons)
}

/// The trace at `U = A^{−½}P√Σ` and `V = B^{−½}Q√Σ`, where `PΣQᵀ` is the weighted matrix.
fn balanced_trace(left: &Rooted, right: &Rooted, weighted: &Mat<f64>) -> f64 {
    let Ok(svd) = weighted.thin_svd() else { return f64::NAN };
    let count = weighted.nrows().min(weighted.ncols());
    let scaled = |vectors: faer::MatRef<'_, f64>| {
        Mat::from_fn(vectors.nrows(), count, |i, k| svd.S()[k].sqrt() * vectors[(i, k)])
    };
    let u = &left.inverse_root * scaled(svd.U());
    let v = &right.inverse_root * scaled(svd.V());
    terms(left, right, &u, &v).iter().sum()
}
