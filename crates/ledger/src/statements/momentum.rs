//! S12: the threshold with heavy-ball momentum, compared with the second moments of (δ, v).

use faer::MatRef;
use flatmin_linalg::Bisection;
use flatmin_theory::StateSpace;

use crate::families::perron_form::PerronForm;
use crate::prelude::*;

pub(super) static S12: Statement = Statement {
    id: "S12",
    title: "The threshold with momentum",
    words: "SGD with heavy-ball momentum β is strictly mean-square stable if and only if no 4 × 4 \
            matrix L_kl = F_k⊗F_l − pη²λ_kλ_l (bcᵀ)⊗(bcᵀ) of a pair of modes has a real eigenvalue \
            at or above 1, and the Perron root of M, which is built from the responses of these \
            pairs to noise, is below 1. Here F_k = [[1−ηλ_k, β], [−ηλ_k, β]], b = (1, 1) and c = \
            (1, 0). β = 0 gives S9.",
    latex: r"\text{stable} \iff \text{no } L_{kl} \text{ has a real eigenvalue} \ge 1,\ \rho(M) < 1,\quad M_{ij} = \frac{p\eta^2}{n}\sum_{kl}\hat g_{ik}\hat g_{jk} W_{kl}\,\hat g_{il}\hat g_{jl},\quad W_{kl} = (c\otimes c)^\top (I - L_{kl})^{-1} (b\otimes b)",
    hypotheses: "those of S9, p = 0 included; 0 ≤ β < 1",
    source: FLATMIN,
    check_words: "The reported interval against bisection on the dense operator T on second \
                  moments of (δ, v), which is stable exactly when X − T(X) = I has a positive \
                  solution; and the Perron form, by 4 × 4 systems, against the dense operator's \
                  verdicts around the threshold and the root 1 at it.",
    mutant_words: "(1 − β)η* of plain SGD for the threshold, and F_k⊗F_l alone for L_kl",
    trial: &Trial { generate: MomentumInstance::random, check },
};

/// A minimum at which SGD moves with momentum.
#[derive(Debug, Clone, PartialEq)]
pub struct MomentumInstance {
    /// The minimum and the way batches are drawn.
    pub minimum: MinimumInstance,
    /// The momentum β of the heavy ball, in [0, 1).
    pub momentum: f64,
}

impl Instance for MomentumInstance {
    fn sizes(&self) -> String {
        format!("{}, β = {}", self.minimum.sizes(), self.momentum)
    }
}

impl MomentumInstance {
    /// A minimum of rank at most 3, with a momentum from 0 to nearly 1.
    fn random(rng: &mut dyn Rng) -> Self {
        const MAX_COLUMNS: usize = 3;
        let MinimumInstance { jacobian, batch } = MinimumInstance::random(rng);
        let columns = jacobian.columns().min(MAX_COLUMNS);
        let jacobian = RowMatrix::from_fn(jacobian.rows(), columns, |i, j| jacobian.row(i)[j]);
        let momentum = match rng.random_range(0..4) {
            0 => 0.0,
            1 => 1.0 - libm::exp10(rng.random_range(-2.0..=-1.0)),
            _ => rng.random_range(0.0..0.95),
        };
        Self { minimum: MinimumInstance { jacobian, batch }, momentum }
    }
}

/// Minima with a slower mode than this, relative to the fastest, are not compared: rounding of the
/// dense operator hides the mode.
const SLOWEST: f64 = 1e-9;

/// Checks that the reported interval contains the threshold that bisection on the dense operator
/// finds. The Perron form, computed from its definition by 4 × 4 systems, must have a root of 1 at
/// that threshold and give the verdicts of the dense operator around it. The mutant takes
/// `(1−β)η*(0)` for the threshold, and `F_k ⊗ F_l` alone for `L_kl`.
fn check(form: Form, instance: &MomentumInstance) -> Checked {
    let MomentumInstance { minimum: MinimumInstance { jacobian, batch }, momentum } = instance;
    let minimum = Minimum::new(jacobian)?;
    let p = batch.noise_coefficient(minimum.sample_count())?;
    let (exponent, eigenvalues, rows) = minimum.scaled();
    let (Some(slowest), Some(fastest)) = (eigenvalues.first(), eigenvalues.last()) else {
        return Ok(Vec::new());
    };
    if *slowest < SLOWEST * fastest {
        return Ok(Vec::new());
    }
    let heavy_ball = HeavyBall { eigenvalues, rows, p, momentum: *momentum };
    let sgd = Optimizer::sgd();
    let (optimizer, factor) = match form {
        Form::Stated => (sgd.momentum(*momentum)?, 1.0),
        Form::Mutant => (sgd, 1.0 - momentum),
    };
    let reported = threshold(&minimum, &optimizer, batch)?;
    let exact = heavy_ball.dense_threshold()?;
    let (perron, system) = heavy_ball.perron(form);
    let scaled = |rate: f64| factor * libm::scalbn(rate, 2 * exponent);
    let name = "interval and dense threshold";
    let mut comparisons = Comparison::all_at_most([
        (name, scaled(reported.lower), exact),
        (name, exact, scaled(reported.upper)),
    ]);
    if p > 0.0 {
        let root = perron.root(&system, exact)?;
        let name = "Perron root at the threshold";
        comparisons.push(Comparison::equal(name, root, 1.0, 1.0));
    }
    for part in [0.3, 0.97, 1.03, 1.5] {
        let verdict = |is_stable: bool| if is_stable { 1.0 } else { 0.0 };
        comparisons.push(Comparison::equal(
            "verdicts",
            verdict(perron.is_stable(&system, part * exact)?),
            verdict(heavy_ball.is_stable(part * exact)?),
            1.0,
        ));
    }
    Ok(comparisons)
}

/// SGD with `v' = βv − η·grad`, `θ' = θ + v'`, in the eigenbasis of `G`.
struct HeavyBall<'a> {
    eigenvalues: &'a [f64],
    rows: &'a RowMatrix,
    p: f64,
    momentum: f64,
}

impl HeavyBall<'_> {
    /// The edge of strict stability, by bisection between 0 and the threshold of gradient descent,
    /// `2(1+β)/λ_max`.
    fn dense_threshold(&self) -> Result<f64, LedgerError> {
        let fastest = self.eigenvalues.last().copied().unwrap_or(0.0);
        let descent = 2.0 * (1.0 + self.momentum) / fastest;
        let search = Bisection::between(0.0, descent).to_relative_width(1e-13);
        Ok(search.try_run(|rate| self.is_stable(rate))?.1)
    }

    /// True if all second moments of z = (δ, v) decay.
    fn is_stable(&self, rate: f64) -> Result<bool, LedgerError> {
        let dim = 2 * self.eigenvalues.len();
        let pairs = lower_triangle(dim);
        let propagator = self.propagator(rate);
        let images: Vec<Mat<f64>> = pairs
            .iter()
            .map(|&(k, l)| {
                let mut unit = Mat::zeros(dim, dim);
                (unit[(k, l)], unit[(l, k)]) = (1.0, 1.0);
                self.image(&propagator, rate, unit.as_ref())
            })
            .collect();
        let system = Mat::from_fn(pairs.len(), pairs.len(), |row, column| {
            let identity = if row == column { 1.0 } else { 0.0 };
            identity - images[column][pairs[row]]
        });
        moments_decay(dim, &system)
    }

    /// `F = [[I − ηG, βI], [−ηG, βI]]`.
    fn propagator(&self, rate: f64) -> Mat<f64> {
        let rank = self.eigenvalues.len();
        Mat::from_fn(2 * rank, 2 * rank, |row, column| {
            let (k, l) = (row % rank, column % rank);
            match (row < rank, column < rank) {
                _ if k != l => 0.0,
                (true, true) => 1.0 - rate * self.eigenvalues[k],
                (false, true) => -rate * self.eigenvalues[k],
                (_, false) => self.momentum,
            }
        })
    }

    /// `T(P) = E[F_B P F_Bᵀ]`: `F P Fᵀ` for the mean F, plus in each of the four blocks `η²` times
    /// the contribution of the noise, `D(P_δδ) − G P_δδ G`.
    fn image(&self, propagator: &Mat<f64>, rate: f64, moments: MatRef<'_, f64>) -> Mat<f64> {
        let rank = self.eigenvalues.len();
        let positions = moments.submatrix(0, 0, rank, rank);
        let gauss_newton = diagonal_matrix(self.eigenvalues);
        let noise = second_order(self.rows, gauss_newton.as_ref(), self.p, positions)
            - &gauss_newton * positions * &gauss_newton;
        let mean = propagator * moments * propagator.transpose();
        Mat::from_fn(2 * rank, 2 * rank, |row, column| {
            mean[(row, column)] + rate * rate * noise[(row % rank, column % rank)]
        })
    }

    /// The Perron form at a learning rate: A, b, c of the heavy ball. The mutant takes `F_k ⊗ F_l`
    /// alone for `L_kl`.
    fn perron(&self, form: Form) -> (PerronForm<'_>, StateSpace) {
        let &Self { eigenvalues, rows, p, momentum } = self;
        let transition = [1.0, momentum, 0.0, momentum];
        let system = StateSpace {
            transition: RowMatrix::from_fn(2, 2, |i, j| transition[2 * i + j]),
            input: vec![1.0, 1.0],
            output: vec![1.0, 0.0],
        };
        (PerronForm { eigenvalues, rows, p, deficit: form.pick(p, 0.0) }, system)
    }
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::RowMatrix;

    use super::HeavyBall;
    use crate::statement::Form;

    #[test]
    fn one_mode_without_noise_turns_where_gradient_descent_does() {
        let rows = RowMatrix::new(2, 1, vec![1.0, 1.0]).unwrap();
        for momentum in [0.0, 0.5, 0.9] {
            let heavy_ball = HeavyBall { eigenvalues: &[1.0], rows: &rows, p: 1.0, momentum };
            let threshold = heavy_ball.dense_threshold().unwrap();
            assert!((threshold / (2.0 * (1.0 + momentum)) - 1.0).abs() < 1e-10, "{threshold}");
        }
    }

    #[test]
    fn both_forms_agree_on_one_noisy_mode() {
        // g² = 1 and 9: β = 0 gives η* = 2 E g²/E g⁴ = 10/41.
        let rows = RowMatrix::new(2, 1, vec![1.0, 3.0]).unwrap();
        let heavy_ball = HeavyBall { eigenvalues: &[5.0], rows: &rows, p: 1.0, momentum: 0.0 };
        assert!((heavy_ball.dense_threshold().unwrap() - 10.0 / 41.0).abs() < 1e-11);
        let (perron, system) = heavy_ball.perron(Form::Stated);
        assert!((perron.root(&system, 10.0 / 41.0).unwrap() - 1.0).abs() < 1e-13);
    }
}
