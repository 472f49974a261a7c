//! The check of S13: several outputs per sample, by operators formed as they are defined.

use faer::Mat;
use flatmin_linalg::{RowMatrix, stream, symmetric_eigen, symmetric_eigenvalues};
use rand_distr::{Distribution as _, StandardNormal};

use super::{Comparison, Form, OutputsInstance, Statement};
use crate::LedgerError;
use flatmin_theory::{
    Minimum, Optimizer, ThresholdOptions, dense_threshold, lyapunov_function, threshold,
};

/// How far from the threshold, relative, its two sides are looked at.
const AWAY: f64 = 0.01;

/// The map Φ(μ) of S13 at a minimum, in units in which entries are of order one.
struct PerronForm<'a> {
    exponent: i32,
    eigenvalues: &'a [f64],
    /// nk × r.
    rows: &'a RowMatrix,
    outputs: usize,
    p: f64,
}

impl PerronForm<'_> {
    fn samples(&self) -> usize {
        self.rows.rows() / self.outputs
    }

    fn block(&self, i: usize) -> Mat<f64> {
        Mat::from_fn(self.outputs, self.eigenvalues.len(), |a, k| {
            self.rows.row(i * self.outputs + a)[k]
        })
    }

    /// μ = 2/η.
    fn mu(&self, rate: f64) -> f64 {
        2.0 / libm::scalbn(rate, 2 * self.exponent)
    }

    /// `Φ(Q)_i = Ĵ_i [W ∘ ((p/n) Σ_j Ĵ_jᵀ Q_j Ĵ_j)] Ĵ_iᵀ` at `rate`.
    fn image(&self, rate: f64, tuple: &[Mat<f64>]) -> Vec<Mat<f64>> {
        let (rank, n) = (self.eigenvalues.len(), self.samples());
        let mut moments = Mat::<f64>::zeros(rank, rank);
        for (i, matrix) in tuple.iter().enumerate() {
            let block = self.block(i);
            moments += faer::Scale(self.p / n as f64) * (block.transpose() * matrix * &block);
        }
        let mu = self.mu(rate);
        let response = Mat::from_fn(rank, rank, |k, l| {
            let (a, b) = (self.eigenvalues[k], self.eigenvalues[l]);
            moments[(k, l)] / (mu * (a + b) / 2.0 - (1.0 - self.p) * a * b)
        });
        (0..n).map(|i| self.block(i) * &response * self.block(i).transpose()).collect()
    }

    /// The largest eigenvalue of Φ as a matrix in the orthonormal basis `E_aa`, `(E_ab + E_ba)/√2` of each
    /// block. The mutant takes the outputs of a sample for samples of their own: it leaves out all entries
    /// between different outputs.
    fn root(&self, form: Form, rate: f64) -> Result<f64, LedgerError> {
        let (k, n) = (self.outputs, self.samples());
        let units: Vec<(usize, usize, usize)> = (0..n)
            .flat_map(|i| (0..k).flat_map(move |a| (0..=a).map(move |b| (i, a, b))))
            .filter(|(_, a, b)| form == Form::Stated || a == b)
            .collect();
        let images: Vec<Vec<Mat<f64>>> = units
            .iter()
            .map(|&(i, a, b)| {
                let mut tuple = vec![Mat::zeros(k, k); n];
                let entry = if a == b { 1.0 } else { 0.5_f64.sqrt() };
                (tuple[i][(a, b)], tuple[i][(b, a)]) = (entry, entry);
                self.image(rate, &tuple)
            })
            .collect();
        let matrix = Mat::from_fn(units.len(), units.len(), |row, column| {
            let (i, a, b) = units[row];
            let multiplicity = if a == b { 1.0 } else { 2.0_f64.sqrt() };
            multiplicity * images[column][i][(a, b)]
        });
        Ok(symmetric_eigenvalues(matrix.as_ref())?.last().copied().unwrap_or(0.0))
    }
}

/// S13: ρ(Φ) is 1 at the threshold of the dense operator, below it before and above it after; the images of
/// positive definite tuples have no negative eigenvalue, and their quotients enclose 1 at the threshold; the
/// reported interval contains it; and D(Y*) = (2/η*) C(Y*).
pub(super) fn check(
    form: Form,
    instance: &OutputsInstance,
) -> Result<Vec<Comparison>, LedgerError> {
    let OutputsInstance { jacobian, output_count, batch } = instance;
    let minimum = Minimum::with_outputs(jacobian, *output_count)?;
    let p = batch.noise_coefficient(minimum.sample_count())?;
    let exact = dense_threshold(&minimum, batch)?;
    let (exponent, eigenvalues, rows) = minimum.scaled();
    if exact.is_infinite() {
        return Ok(Vec::new());
    }
    let at_most = |name, lhs, rhs| Comparison::at_most(Statement::S13, name, lhs, rhs);
    let (lower, upper) = form.pick((1.0, 1.0), (2.0, 0.5));
    let reported = threshold(&minimum, &Optimizer::sgd(), batch)?;
    let name = "reported interval";
    let mut comparisons = vec![
        at_most(name, lower * reported.lower, exact),
        at_most(name, exact, upper * reported.upper),
    ];
    if p <= 0.0 {
        return Ok(comparisons);
    }
    let perron = PerronForm { exponent, eigenvalues, rows, outputs: *output_count, p };
    let root = perron.root(form, exact)?;
    let name = "root at the threshold";
    comparisons.push(Comparison::equal(Statement::S13, name, root, 1.0, 1.0));
    let before = perron.root(Form::Stated, (1.0 - AWAY) * exact)?;
    comparisons.push(at_most("root below the threshold", before, form.pick(1.0, 0.5)));
    let rate = (1.0 + AWAY) * exact;
    // Where the response is finite.
    if perron.mu(rate) > (1.0 - p) * eigenvalues[eigenvalues.len() - 1] {
        let after = perron.root(Form::Stated, rate)?;
        comparisons.push(at_most("root past the threshold", form.pick(1.0, 2.0), after));
    }
    comparisons.extend(check_certificate(form, &perron, exact)?);
    if form == Form::Stated {
        comparisons.push(check_lyapunov(&minimum, &perron, instance)?);
    }
    Ok(comparisons)
}

/// Quotients of random positive definite tuples at the threshold, where the root is 1.
fn check_certificate(
    form: Form,
    perron: &PerronForm<'_>,
    exact: f64,
) -> Result<Vec<Comparison>, LedgerError> {
    let (lower, upper) = form.pick((1.0, 1.0), (2.0, 0.5));
    let k = perron.outputs;
    let mut rng = stream(0, "positive definite tuple", 0);
    let tuple: Vec<Mat<f64>> = (0..perron.samples())
        .map(|_| {
            let factor: Mat<f64> = Mat::from_fn(k, k, |_, _| StandardNormal.sample(&mut rng));
            &factor * factor.transpose() + faer::Scale(0.1) * Mat::<f64>::identity(k, k)
        })
        .collect();
    let images = perron.image(exact, &tuple);
    let (mut smallest, mut largest) = (f64::INFINITY, 0.0_f64);
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    let (mut product, mut norm_squared) = (0.0, 0.0);
    for (matrix, image) in tuple.iter().zip(&images) {
        let values = symmetric_eigenvalues(image.as_ref())?;
        (least, most) = (least.min(values[0]), most.max(values[k - 1]));
        // The eigenvalues of Q^{−½} Φ(Q) Q^{−½}.
        let eigen = symmetric_eigen(matrix.as_ref())?;
        let half = Mat::from_fn(k, k, |a, b| eigen.vectors[(a, b)] / eigen.values[b].sqrt());
        let values = symmetric_eigenvalues((half.transpose() * image * &half).as_ref())?;
        (smallest, largest) = (smallest.min(values[0]), largest.max(values[k - 1]));
        for a in 0..k {
            for b in 0..k {
                product += matrix[(a, b)] * image[(a, b)];
                norm_squared += matrix[(a, b)] * matrix[(a, b)];
            }
        }
    }
    let at_most = |name, lhs, rhs| Comparison::at_most(Statement::S13, name, lhs, rhs);
    let mut comparisons = vec![
        at_most("smallest quotient", lower * smallest, 1.0),
        at_most("Rayleigh quotient", lower * (product / norm_squared), 1.0),
        at_most("largest quotient", 1.0, upper * largest),
    ];
    if form == Form::Stated {
        // Both shifted, so that the rounding of zero is small beside them.
        comparisons.push(at_most("no negative eigenvalue", most, most + least));
    }
    Ok(comparisons)
}

/// `D(Y*) = μ* C(Y*)` in the eigenbasis, in Frobenius norm relative to `μ* C(Y*)`.
fn check_lyapunov(
    minimum: &Minimum,
    perron: &PerronForm<'_>,
    instance: &OutputsInstance,
) -> Result<Comparison, LedgerError> {
    // The error of Y* is about the square root of that of the threshold.
    const NEGLIGIBLE: f64 = 1e-7;
    let options = ThresholdOptions { relative_width: 1e-14, ..ThresholdOptions::default() };
    let function = lyapunov_function(minimum, &instance.batch, &options)?;
    let y = function.matrix.as_mat();
    let (rank, n) = (perron.eigenvalues.len(), perron.samples() as f64);
    let mut second = Mat::from_fn(rank, rank, |k, l| {
        (1.0 - perron.p) * perron.eigenvalues[k] * y[(k, l)] * perron.eigenvalues[l]
    });
    for i in 0..perron.samples() {
        let block = perron.block(i);
        let hessian = block.transpose() * &block;
        second += faer::Scale(perron.p / n) * (&hessian * y * &hessian);
    }
    let mu = perron.mu(function.threshold.midpoint());
    let first = Mat::from_fn(rank, rank, |k, l| {
        mu * f64::midpoint(perron.eigenvalues[k], perron.eigenvalues[l]) * y[(k, l)]
    });
    let error = (&second - &first).norm_l2() / first.norm_l2();
    Ok(Comparison::at_most(Statement::S13, "Lyapunov function", error, NEGLIGIBLE))
}
