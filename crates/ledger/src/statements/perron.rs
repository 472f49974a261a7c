//! S9 and S10: the Perron form of the threshold, with matrices computed entry by entry.

use flatmin_theory::dense_threshold;

use crate::prelude::*;

pub(super) static S9: Statement = Statement {
    id: "S9",
    title: "The Perron form of the threshold",
    words: "Below 2/((1−p)λ_max), a learning rate is stable if and only if the Perron root of the \
            n × n matrix M(2/η) is at most 1. M is symmetric with nonnegative entries, and its \
            Perron root increases strictly with the learning rate.",
    latex: r"\eta \le \eta^* \iff \rho(M(2/\eta)) \le 1,\quad M(\mu)_{ij} = \frac pn\sum_{kl} \frac{\hat g_{ik}\hat g_{jk}\hat g_{il}\hat g_{jl}}{\mu(\lambda_k+\lambda_l)/2 - (1-p)\lambda_k\lambda_l}",
    hypotheses: "a zero-loss minimum, linearised, with G ≠ 0; p > 0",
    source: FLATMIN,
    check_words: "M formed entry by entry; its largest eigenvalue at the threshold of the dense \
                  operator, and at learning rates below.",
    mutant_words: "without the term (1−p)λ_kλ_l, and a Perron root that falls with the learning \
                   rate",
    trial: &Trial { generate: MinimumInstance::random, check: check_root },
};

pub(super) static S10: Statement = Statement {
    id: "S10",
    title: "A certificate from any positive vector",
    words: "For every vector v > 0 the Perron root of M lies between the smallest and the largest \
            quotient (Mv)_i/v_i, and is at least the Rayleigh quotient of v. For p = 1 the row \
            sums of M(1) are ‖g_i‖².",
    latex: r"\min_i \frac{(Mv)_i}{v_i} \le \rho(M) \le \max_i \frac{(Mv)_i}{v_i},\qquad \frac{v^\top M v}{v^\top v} \le \rho(M)",
    hypotheses: "those of S9; v > 0",
    source: "Collatz and Wielandt",
    check_words: "At the threshold of the dense operator, where the Perron root is 1, the \
                  quotients of a vector of ones and of a random positive vector, with M formed \
                  entry by entry.",
    mutant_words: "lower bounds and row norms doubled, the upper bound halved",
    trial: &Trial { generate: MinimumInstance::random, check: check_certificate },
};

/// The matrix M(μ) of the Perron form at a learning rate, in units in which entries are of order
/// one.
struct PerronForm {
    minimum: Minimum,
    p: f64,
    /// The exact threshold, by the dense operator.
    threshold: f64,
}

impl PerronForm {
    /// `None` where the hypotheses fail: without noise or without curvature.
    fn new(instance: &MinimumInstance) -> Result<Option<Self>, LedgerError> {
        let minimum = Minimum::new(&instance.jacobian)?;
        let p = instance.batch.noise_coefficient(minimum.sample_count())?;
        let threshold = dense_threshold(&minimum, &instance.batch)?;
        let applies = p > 0.0 && threshold.is_finite();
        Ok(applies.then_some(Self { minimum, p, threshold }))
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

/// Checks that the Perron root of M, computed from its definition, is 1 at the threshold and rises
/// with η, and that M has no negative entry. The mutant leaves `(1−p)λ_kλ_l` out of W and claims
/// that the root falls with η.
fn check_root(form: Form, instance: &MinimumInstance) -> Checked {
    let Some(perron) = PerronForm::new(instance)? else { return Ok(Vec::new()) };
    let matrix = perron.matrix(form, perron.threshold);
    let root = perron.root(form, perron.threshold)?;
    let mut comparisons = vec![Comparison::equal("Perron root at the threshold", root, 1.0, 1.0)];
    for part in [0.2, 0.7] {
        let slower = perron.root(Form::Stated, part * perron.threshold)?;
        let faster = perron.root(Form::Stated, (part + 0.2) * perron.threshold)?;
        let (lhs, rhs) = form.pick((slower, faster), (faster, slower));
        comparisons.push(Comparison::at_most("Perron root and learning rate", lhs, rhs));
    }
    if form == Form::Stated {
        let entries = || matrix.col_iter().flat_map(|column| column.iter().copied());
        let largest = entries().fold(0.0, f64::max);
        let smallest = entries().fold(f64::INFINITY, f64::min);
        // `0 ≤ smallest` with `largest` added to both sides, so that rounding of zero is relatively
        // small.
        comparisons.push(Comparison::at_most("no negative entry", largest, largest + smallest));
    }
    Ok(comparisons)
}

/// Checks that at the threshold, where the Perron root is 1, the quotients of a positive vector
/// enclose 1 and its Rayleigh quotient is at most 1. At p = 1 the quotients of the vector of ones
/// must be `‖g_i‖²/μ`. The reported interval must contain the threshold of the dense operator. The
/// mutant doubles the lower bounds and halves the upper ones.
fn check_certificate(form: Form, instance: &MinimumInstance) -> Checked {
    let Some(perron) = PerronForm::new(instance)? else { return Ok(Vec::new()) };
    let matrix = perron.matrix(Form::Stated, perron.threshold);
    let n = matrix.nrows();
    let mut rng = stream(0, "positive vector", 0);
    let random: Vec<f64> = (0..n).map(|_| rng.random_range(0.01..1.0)).collect();
    let (lower, upper) = form.pick((1.0, 1.0), (2.0, 0.5));
    let reported = threshold(&perron.minimum, &Optimizer::sgd(), &instance.batch)?;
    let name = "reported interval";
    let mut comparisons = Comparison::all_at_most([
        (name, lower * reported.lower, perron.threshold),
        (name, perron.threshold, upper * reported.upper),
    ]);
    for vector in [vec![1.0; n], random] {
        let product = |i: usize| (0..n).map(|j| matrix[(i, j)] * vector[j]).sum::<f64>();
        let quotients: Vec<f64> = (0..n).map(|i| product(i) / vector[i]).collect();
        let weighted: f64 = quotients.iter().zip(&vector).map(|(q, v)| q * v * v).sum();
        let rayleigh = weighted / vector.iter().map(|v| v * v).sum::<f64>();
        let smallest = quotients.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = quotients.iter().copied().fold(0.0, f64::max);
        comparisons.extend(Comparison::all_at_most([
            ("smallest quotient", lower * smallest, 1.0),
            ("Rayleigh quotient", lower * rayleigh, 1.0),
            ("largest quotient", 1.0, upper * largest),
        ]));
    }
    if perron.p >= 1.0 {
        let factor = form.pick(1.0, 2.0) * perron.threshold / 2.0;
        for i in 0..n {
            let row = instance.jacobian.row(i);
            let norm = factor * row.iter().map(|g| g * g).sum::<f64>();
            let sum: f64 = (0..n).map(|j| matrix[(i, j)]).sum();
            comparisons.push(Comparison::equal("row sums", sum, norm, 1.0));
        }
    }
    Ok(comparisons)
}
