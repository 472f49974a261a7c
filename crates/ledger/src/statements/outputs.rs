//! S13: several outputs per sample, compared with operators computed from their definitions.

use flatmin_theory::{ThresholdOptions, dense_threshold, lyapunov_function};

use crate::prelude::*;

pub(super) static S13: Statement = Statement {
    id: "S13",
    title: "The threshold with several outputs",
    words: "For a network with k outputs, whose sample i has the k × p block J_i, D(X) = (1−p) GXG \
            + (p/n) Σ J_iᵀJ_i X J_iᵀJ_i. Below 2/((1−p)λ_max) a learning rate is stable if and \
            only if the spectral radius of Φ(2/η) is at most 1, where Φ(μ) maps n-tuples of \
            symmetric k × k matrices to such tuples, preserves positive semidefinite ones, and \
            decreases in μ. For every positive definite tuple Q, αQ ⪯ Φ(Q) ⪯ βQ implies α ≤ ρ ≤ β. \
            One output gives S9 and S10.",
    latex: r"\eta \le \eta^* \iff \rho(\Phi(2/\eta)) \le 1,\quad \Phi(Q)_i = \hat J_i\left[W(\mu)\circ\frac pn\sum_j \hat J_j^\top Q_j \hat J_j\right]\hat J_i^\top,\quad W_{kl} = \frac{1}{\mu(\lambda_k+\lambda_l)/2 - (1-p)\lambda_k\lambda_l}",
    hypotheses: "a zero-loss minimum, linearised, with G ≠ 0; the loss (1/2n) Σ ‖f(x_i) − y_i‖²; p \
                 > 0",
    source: FLATMIN,
    check_words: "The threshold of the dense operator against the reported interval and against Φ, \
                  formed block by block: its root is 1 at the threshold, at most 1 at 0.99 times \
                  it and at least 1 at 1.01 times it; quotients of a random positive definite \
                  tuple enclose 1, and its image has no negative eigenvalue; D(Y*) = (2/η*) C(Y*) \
                  for the Y* of S14.",
    mutant_words: "the outputs of a sample taken for separate samples, without the terms that \
                   couple them; lower bounds doubled and upper ones halved",
    trial: &Trial { generate: OutputsInstance::random, check },
};

/// A minimum of a network with several outputs, with a sampling of its batches.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputsInstance {
    /// The Jacobian, nk × p, sample by sample.
    pub jacobian: RowMatrix,
    /// Number k of outputs.
    pub output_count: usize,
    /// The batch size and the sampling.
    pub batch: Batch,
}

impl Instance for OutputsInstance {
    fn sizes(&self) -> String {
        let Self { jacobian, output_count, batch } = self;
        let samples = jacobian.rows() / output_count;
        let (p, batch) = (jacobian.columns(), batch_words(*batch));
        format!("n = {samples}, k = {output_count}, p = {p}, {batch}")
    }
}

impl OutputsInstance {
    /// Up to 3 outputs and 4 samples: half of the time a generic Jacobian, otherwise the rows of a
    /// hard minimum with one output, grouped into samples.
    fn random(rng: &mut dyn Rng) -> Self {
        const MAX_OUTPUTS: usize = 3;
        const MAX_SAMPLES: usize = 4;
        let mut output_count = rng.random_range(1..=MAX_OUTPUTS);
        let mut jacobian = MinimumInstance::random(rng).jacobian;
        if rng.random_bool(0.5) {
            let (samples, columns) = (rng.random_range(1..=MAX_SAMPLES), size(rng));
            jacobian = normal_matrix(samples * output_count, columns, rng);
            for i in 0..samples {
                let scale = heavy_tailed(rng);
                for row in i * output_count..(i + 1) * output_count {
                    scale_row(&mut jacobian, row, scale);
                }
            }
            // One output may be zero on all samples.
            if rng.random_bool(0.2) {
                for i in 0..samples {
                    scale_row(&mut jacobian, i * output_count, 0.0);
                }
            }
        }
        output_count = output_count.min(jacobian.rows());
        let samples = (jacobian.rows() / output_count).min(MAX_SAMPLES);
        let rows = samples * output_count;
        let jacobian = RowMatrix::from_fn(rows, jacobian.columns(), |i, j| jacobian.row(i)[j]);
        Self { jacobian, output_count, batch: random_batch(samples, rng) }
    }
}

/// Relative distance from the threshold at which its two sides are compared.
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

    /// The largest eigenvalue of Φ, as a matrix in the orthonormal basis `E_aa`, `(E_ab + E_ba)/√2`
    /// of each block. The mutant treats the outputs of a sample as separate samples: it leaves out
    /// all entries between different outputs.
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

/// Checks that ρ(Φ) is 1 at the threshold of the dense operator, at most 1 below it and at least 1
/// above it. The images of positive definite tuples must have no negative eigenvalue, and their
/// quotients must enclose 1 at the threshold. The reported interval must contain the threshold, and
/// D(Y*) = (2/η*) C(Y*) must hold.
fn check(form: Form, instance: &OutputsInstance) -> Checked {
    let OutputsInstance { jacobian, output_count, batch } = instance;
    let minimum = Minimum::with_outputs(jacobian, *output_count)?;
    let p = batch.noise_coefficient(minimum.sample_count())?;
    let exact = dense_threshold(&minimum, batch)?;
    let (exponent, eigenvalues, rows) = minimum.scaled();
    if exact.is_infinite() {
        return Ok(Vec::new());
    }
    let (lower, upper) = form.pick((1.0, 1.0), (2.0, 0.5));
    let reported = threshold(&minimum, &Optimizer::sgd(), batch)?;
    let name = "reported interval";
    let mut comparisons = Comparison::all_at_most([
        (name, lower * reported.lower, exact),
        (name, exact, upper * reported.upper),
    ]);
    if p <= 0.0 {
        return Ok(comparisons);
    }
    let perron = PerronForm { exponent, eigenvalues, rows, outputs: *output_count, p };
    let root = perron.root(form, exact)?;
    let name = "root at the threshold";
    comparisons.push(Comparison::equal(name, root, 1.0, 1.0));
    let before = perron.root(Form::Stated, (1.0 - AWAY) * exact)?;
    comparisons.push(Comparison::at_most("root below the threshold", before, form.pick(1.0, 0.5)));
    let rate = (1.0 + AWAY) * exact;
    // The response is finite only under this condition.
    if perron.mu(rate) > (1.0 - p) * eigenvalues[eigenvalues.len() - 1] {
        let after = perron.root(Form::Stated, rate)?;
        comparisons.push(Comparison::at_most(
            "root past the threshold",
            form.pick(1.0, 2.0),
            after,
        ));
    }
    comparisons.extend(check_certificate(form, &perron, exact)?);
    if form == Form::Stated {
        comparisons.push(check_lyapunov(&minimum, &perron, instance)?);
    }
    Ok(comparisons)
}

/// Checks the quotients of random positive definite tuples at the threshold, where the root is 1.
fn check_certificate(form: Form, perron: &PerronForm<'_>, exact: f64) -> Checked {
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
    let mut comparisons = Comparison::all_at_most([
        ("smallest quotient", lower * smallest, 1.0),
        ("Rayleigh quotient", lower * (product / norm_squared), 1.0),
        ("largest quotient", 1.0, upper * largest),
    ]);
    if form == Form::Stated {
        // `0 ≤ least` with `most` added to both sides, so that rounding of zero is relatively
        // small.
        comparisons.push(Comparison::at_most("no negative eigenvalue", most, most + least));
    }
    Ok(comparisons)
}

/// `D(Y*) = μ* C(Y*)` in the eigenbasis, in Frobenius norm relative to `μ* C(Y*)`.
fn check_lyapunov(
    minimum: &Minimum,
    perron: &PerronForm<'_>,
    instance: &OutputsInstance,
) -> Result<Comparison, LedgerError> {
    // The error of Y* is about the square root of the error of the threshold.
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
    Ok(Comparison::at_most("Lyapunov function", error, NEGLIGIBLE))
}
