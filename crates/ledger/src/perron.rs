//! Checks of S8–S10 and S14: the exact threshold, by operators formed as they are defined.

use faer::{Mat, MatRef};
use flatmin_linalg::{RowMatrix, simd, stream, symmetric_eigenvalues};
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

use super::batches::batches;
use super::{Comparison, Form, MinimumInstance, Statement};
use crate::LedgerError;
use flatmin_theory::{
    Batch, Minimum, Optimizer, ThresholdOptions, dense_threshold, lyapunov_function, threshold,
};

/// What is compared past a threshold is compared at `1 + PAST` times it.
const PAST: f64 = 0.01;

/// S8: the largest eigenvalue of the second-moment map, formed from the Jacobian, is 1 at the lower
/// end of the threshold and larger past its upper end; and the threshold does not fall when batches
/// grow. The mutant takes the threshold 2 % too small and has it fall.
pub(super) fn check_exact(
    form: Form,
    instance: &MinimumInstance,
) -> Result<Vec<Comparison>, LedgerError> {
    let MinimumInstance { jacobian, batch } = instance;
    let minimum = Minimum::new(jacobian)?;
    let p = batch.noise_coefficient(minimum.sample_count())?;
    let threshold = threshold(&minimum, &Optimizer::sgd(), batch)?;
    if threshold.lower.is_infinite() {
        return Ok(Vec::new());
    }
    let at_most = |name, lhs, rhs| Comparison::at_most(Statement::S8, name, lhs, rhs);
    let rows = coordinates(jacobian);
    let factor = form.pick(1.0, 0.98);
    let name = "second moments at and past the threshold";
    let at = largest_growth(&rows, p, factor * threshold.lower)?;
    let past = largest_growth(&rows, p, factor * (1.0 + PAST) * threshold.upper)?;
    let mut comparisons = vec![at_most(name, at, 1.0), at_most(name, 1.0 + 1e-7, past)];
    let larger = Batch::new(batch.size() + 1, batch.sampling())?;
    if larger.noise_coefficient(minimum.sample_count()).is_ok() {
        let exact = dense_threshold(&minimum, batch)?;
        let with_larger = dense_threshold(&minimum, &larger)?;
        let (lhs, rhs) = form.pick((exact, with_larger), (with_larger, exact));
        comparisons.push(at_most("threshold and batch size", lhs, rhs));
    }
    Ok(comparisons)
}

/// The rows of a Jacobian in an orthonormal basis of at most n directions that span them.
fn coordinates(jacobian: &RowMatrix) -> RowMatrix {
    let (n, p) = (jacobian.rows(), jacobian.columns());
    if p <= n {
        return jacobian.clone();
    }
    let qr = jacobian.as_mat().transpose().qr();
    let triangle = qr.R();
    RowMatrix::from_fn(n, n, |i, j| if j <= i { triangle[(j, i)] } else { 0.0 })
}

/// The largest eigenvalue of `T(P) = P − η(GP + PG) + η²[(1−p) GPG + p (1/n) Σ (g_iᵀPg_i) g_ig_iᵀ]`
/// on symmetric matrices, formed in the orthonormal basis `E_kk`, `(E_kl + E_lk)/√2`.
fn largest_growth(rows: &RowMatrix, p: f64, rate: f64) -> Result<f64, LedgerError> {
    let dim = rows.columns();
    let pairs: Vec<(usize, usize)> = (0..dim).flat_map(|l| (l..dim).map(move |k| (k, l))).collect();
    let gauss_newton: Mat<f64> =
        faer::Scale(1.0 / rows.rows() as f64) * (rows.as_mat().transpose() * rows.as_mat());
    let images: Vec<Mat<f64>> = pairs
        .iter()
        .map(|&(k, l)| {
            let mut unit = Mat::zeros(dim, dim);
            let entry = if k == l { 1.0 } else { 0.5_f64.sqrt() };
            (unit[(k, l)], unit[(l, k)]) = (entry, entry);
            let drift = &gauss_newton * &unit;
            let noise = second_order(rows, gauss_newton.as_ref(), p, unit.as_ref());
            Mat::from_fn(dim, dim, |i, j| {
                unit[(i, j)] - rate * (drift[(i, j)] + drift[(j, i)]) + rate * rate * noise[(i, j)]
            })
        })
        .collect();
    let map = Mat::from_fn(pairs.len(), pairs.len(), |row, column| {
        let (k, l) = pairs[row];
        let multiplicity = if k == l { 1.0 } else { 2.0_f64.sqrt() };
        multiplicity * images[column][(k, l)]
    });
    Ok(symmetric_eigenvalues(map.as_ref())?.last().copied().unwrap_or(0.0))
}

/// `D(X) = (1−p) GXG + p (1/n) Σ (g_iᵀXg_i) g_i g_iᵀ`.
pub(super) fn second_order(
    rows: &RowMatrix,
    gauss_newton: MatRef<'_, f64>,
    p: f64,
    x: MatRef<'_, f64>,
) -> Mat<f64> {
    let n = rows.rows() as f64;
    let mut image = faer::Scale(1.0 - p) * (gauss_newton * x * gauss_newton);
    for i in 0..rows.rows() {
        let row = rows.row(i);
        let weight = p / n * quadratic_form(x, row);
        for (k, a) in row.iter().enumerate() {
            for (l, b) in row.iter().enumerate() {
                image[(k, l)] += weight * a * b;
            }
        }
    }
    image
}

/// `gᵀXg`.
fn quadratic_form(x: MatRef<'_, f64>, g: &[f64]) -> f64 {
    let image = |k: usize| (0..g.len()).map(|l| x[(k, l)] * g[l]).sum::<f64>();
    (0..g.len()).map(|k| g[k] * image(k)).sum()
}

/// The matrix M(μ) of the Perron form at a learning rate, in units in which entries are of order
/// one.
struct PerronForm {
    minimum: Minimum,
    p: f64,
    /// The exact threshold, by the dense operator.
    threshold: f64,
}

impl PerronForm {
    /// None where the statement does not speak: without noise or without curvature.
    fn new(instance: &MinimumInstance) -> Result<Option<Self>, LedgerError> {
        let minimum = Minimum::new(&instance.jacobian)?;
        let p = instance.batch.noise_coefficient(minimum.sample_count())?;
        let threshold = dense_threshold(&minimum, &instance.batch)?;
        let speaks = p > 0.0 && threshold.is_finite();
        Ok(speaks.then_some(Self { minimum, p, threshold }))
    }

    /// `M_ij = (p/n) Σ_kl ĝ_ik ĝ_jk W_kl ĝ_il ĝ_jl` at `rate`, where
    /// `W_kl = 1/(μ(λ_k+λ_l)/2 − (1−p)λ_kλ_l)` and μ = 2/η; the mutant leaves the second term out.
    fn matrix(&self, form: Form, rate: f64) -> Mat<f64> {
        let (exponent, eigenvalues, rows) = self.minimum.scaled();
        let n = rows.rows();
        let mu = 2.0 / libm::scalbn(rate, 2 * exponent);
        let q = form.pick(1.0 - self.p, 0.0);
        Mat::from_fn(n, n, |i, j| {
            let mut sum = 0.0;
            for (k, a) in eigenvalues.iter().enumerate() {
                for (l, b) in eigenvalues.iter().enumerate() {
                    let product = rows.row(i)[k] * rows.row(j)[k] * rows.row(i)[l] * rows.row(j)[l];
                    sum += product / (mu * (a + b) / 2.0 - q * a * b);
                }
            }
            self.p / n as f64 * sum
        })
    }

    fn root(&self, form: Form, rate: f64) -> Result<f64, LedgerError> {
        let values = symmetric_eigenvalues(self.matrix(form, rate).as_ref())?;
        Ok(values.last().copied().unwrap_or(0.0))
    }
}

/// S9: the Perron root of M, formed as it is defined, is 1 at the threshold and falls with μ, which
/// is to say rises with η; M has no negative entry. The mutant leaves `(1−p)λ_kλ_l` out of W and has
/// the root fall with η.
pub(super) fn check_perron(
    form: Form,
    instance: &MinimumInstance,
) -> Result<Vec<Comparison>, LedgerError> {
    let Some(perron) = PerronForm::new(instance)? else { return Ok(Vec::new()) };
    let statement = Statement::S9;
    let matrix = perron.matrix(form, perron.threshold);
    let root = perron.root(form, perron.threshold)?;
    let mut comparisons =
        vec![Comparison::equal(statement, "Perron root at the threshold", root, 1.0, 1.0)];
    for part in [0.2, 0.7] {
        let slower = perron.root(Form::Stated, part * perron.threshold)?;
        let faster = perron.root(Form::Stated, (part + 0.2) * perron.threshold)?;
        let (lhs, rhs) = form.pick((slower, faster), (faster, slower));
        comparisons.push(Comparison::at_most(statement, "Perron root and learning rate", lhs, rhs));
    }
    if form == Form::Stated {
        let entries = || matrix.col_iter().flat_map(|column| column.iter().copied());
        let largest = entries().fold(0.0, f64::max);
        let smallest = entries().fold(f64::INFINITY, f64::min);
        // Both shifted, so that the rounding of zero is small beside them.
        comparisons.push(Comparison::at_most(
            statement,
            "no negative entry",
            largest,
            largest + smallest,
        ));
    }
    Ok(comparisons)
}

/// S10: at the threshold, where the Perron root is 1, the quotients of a positive vector enclose 1
/// and its Rayleigh quotient is at most 1; at p = 1 the quotients of v = 1 are `‖g_i‖²/μ`; and the
/// reported interval contains the threshold of the dense operator. The mutant doubles the lower bounds
/// and halves the upper ones.
pub(super) fn check_certificate(
    form: Form,
    instance: &MinimumInstance,
) -> Result<Vec<Comparison>, LedgerError> {
    let Some(perron) = PerronForm::new(instance)? else { return Ok(Vec::new()) };
    let statement = Statement::S10;
    let matrix = perron.matrix(Form::Stated, perron.threshold);
    let n = matrix.nrows();
    let mut rng = stream(0, "positive vector", 0);
    let random: Vec<f64> = (0..n).map(|_| rng.random_range(0.01..1.0)).collect();
    let (lower, upper) = form.pick((1.0, 1.0), (2.0, 0.5));
    let reported = threshold(&perron.minimum, &Optimizer::sgd(), &instance.batch)?;
    let name = "reported interval";
    let mut comparisons = vec![
        Comparison::at_most(statement, name, lower * reported.lower, perron.threshold),
        Comparison::at_most(statement, name, perron.threshold, upper * reported.upper),
    ];
    for vector in [vec![1.0; n], random] {
        let product = |i: usize| (0..n).map(|j| matrix[(i, j)] * vector[j]).sum::<f64>();
        let quotients: Vec<f64> = (0..n).map(|i| product(i) / vector[i]).collect();
        let weighted: f64 = quotients.iter().zip(&vector).map(|(q, v)| q * v * v).sum();
        let rayleigh = weighted / vector.iter().map(|v| v * v).sum::<f64>();
        let smallest = quotients.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = quotients.iter().copied().fold(0.0, f64::max);
        comparisons.extend([
            Comparison::at_most(statement, "smallest quotient", lower * smallest, 1.0),
            Comparison::at_most(statement, "Rayleigh quotient", lower * rayleigh, 1.0),
            Comparison::at_most(statement, "largest quotient", 1.0, upper * largest),
        ]);
    }
    if perron.p >= 1.0 {
        let factor = form.pick(1.0, 2.0) * perron.threshold / 2.0;
        for i in 0..n {
            let row = instance.jacobian.row(i);
            let norm = factor * row.iter().map(|g| g * g).sum::<f64>();
            let sum: f64 = (0..n).map(|j| matrix[(i, j)]).sum();
            comparisons.push(Comparison::equal(statement, "row sums", sum, norm, 1.0));
        }
    }
    Ok(comparisons)
}

/// S14: the expectation of V after a step, over every batch, from a few states and at learning rates
/// on both sides of the threshold; and Y* has no negative eigenvalue. The mutant has `2η* − η` instead
/// of `η* − η`.
pub(super) fn check_lyapunov(
    form: Form,
    instance: &MinimumInstance,
) -> Result<Vec<Comparison>, LedgerError> {
    let minimum = Minimum::new(&instance.jacobian)?;
    let (exponent, eigenvalues, rows) = minimum.scaled();
    let rank = eigenvalues.len();
    let Some(batches) = batches(minimum.sample_count(), instance.batch) else {
        return Ok(Vec::new());
    };
    if rank == 0 {
        return Ok(Vec::new());
    }
    let p = instance.batch.noise_coefficient(minimum.sample_count())?;
    // As narrow as rounding allows: the identity is tested to more digits than the default gives.
    let options = ThresholdOptions { relative_width: 1e-14, ..ThresholdOptions::default() };
    let function = lyapunov_function(&minimum, &instance.batch, &options)?;
    let threshold = libm::scalbn(function.threshold.midpoint(), 2 * exponent);
    let weights = function.matrix.as_mat().to_owned();
    let gauss_newton = Mat::from_fn(rank, rank, |k, l| if k == l { eigenvalues[k] } else { 0.0 });
    let curvature = second_order(rows, gauss_newton.as_ref(), p, weights.as_ref());
    let mut comparisons = Vec::new();
    for (index, part) in [0.3, 1.0, 1.7].into_iter().enumerate() {
        let rate = part * threshold;
        let mut rng = stream(0, "states of the linearised model", index as u64);
        let state: Vec<f64> = (0..rank).map(|_| StandardNormal.sample(&mut rng)).collect();
        let mut expectation = 0.0;
        for batch in &batches {
            let mut after = state.clone();
            for (i, count) in batch.counts.iter().enumerate() {
                let slope = simd::dot(rows.row(i), &state) * *count as f64;
                let step = rate / instance.batch.size() as f64 * slope;
                simd::axpy(-step, rows.row(i), &mut after);
            }
            expectation += batch.probability * quadratic_form(weights.as_ref(), &after);
        }
        let before = quadratic_form(weights.as_ref(), &state);
        let growth = rate * (form.pick(1.0, 2.0) * threshold - rate);
        let rhs = before - growth * quadratic_form(curvature.as_ref(), &state);
        // The largest that terms of V can be on the way.
        let longest = (0..rows.rows()).map(|i| simd::norm_squared(rows.row(i)));
        let factor = 1.0 + rate * longest.fold(0.0, f64::max);
        let scale = factor * factor * simd::norm_squared(&state) * weights.norm_l2();
        let name = "expectation after a step";
        comparisons.push(Comparison::equal(Statement::S14, name, expectation, rhs, scale));
    }
    if form == Form::Stated {
        let values = symmetric_eigenvalues(weights.as_ref())?;
        let largest = values[rank - 1];
        comparisons.push(Comparison::at_most(
            Statement::S14,
            "no negative eigenvalue",
            largest,
            largest + values[0],
        ));
    }
    Ok(comparisons)
}
