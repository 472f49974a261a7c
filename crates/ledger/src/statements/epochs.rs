//! S21: the edge of reshuffled epochs, compared with the mean over all orders of the samples.

use flatmin_theory::{EpochOptions, Sampling, epoch_edge};

use crate::families::steps::{Range, add_congruence};
use crate::prelude::*;

pub(super) static S21: Statement = Statement {
    id: "S21",
    title: "The edge of reshuffled epochs",
    words: "An epoch takes the samples in a random order, cut into batches of B; the last one may \
            be shorter, or dropped. With the product A_π of its steps, epochs are mean-square \
            stable if and only if the spectral radius of T(P) = E[A_πPA_πᵀ] is at most 1, and \
            certainly for η ≤ 2/λ_max of the worst batch that can be drawn. B = n is gradient \
            descent, and orthogonal gradients one at a time are as stable as with independent \
            draws. With one parameter and B = 1 the edge is where Σ ln|1 − ηg_i²| turns positive. \
            The edge is not comparable with that of independent draws: gradients (1, 0), (0, 1) \
            and (¼, ¼), one at a time, are stable up to 2.0855 in epochs and up to 2.1030 in \
            independent draws; typically it is the other way.",
    latex: r"\text{epochs stable} \iff \rho(T) \le 1,\quad T(P) = \mathbb E_\pi[A_\pi P A_\pi^\top],\quad A_\pi = \prod_b \left(I - \frac{\eta}{|b|}\sum_{i\in b} g_ig_i^\top\right)",
    hypotheses: "a zero-loss minimum, linearised; plain SGD; a new random order every epoch. The \
                 stable learning rates need not form an interval: the edge is the first one at \
                 which stability is lost",
    source: FLATMIN,
    check_words: "T as a matrix from all orders of up to 5 samples: its spectral radius is at most \
                  1 just below the reported edge and further below, and at least 1 just past it; \
                  the special cases; and the edges of both samplings near the three gradients \
                  above.",
    mutant_words: "the threshold of independent draws for that of epochs, and epochs that are \
                   never less stable than independent draws",
    trial: &Trial { generate: EpochInstance::random, check },
};

/// A minimum whose samples are reshuffled every epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochInstance {
    jacobian: RowMatrix,
    batch: Batch,
}

impl Instance for EpochInstance {
    fn sizes(&self) -> String {
        let Self { jacobian, batch } = self;
        let last = if batch.drops_last() { ", short batches dropped" } else { "" };
        let (n, p) = (jacobian.rows(), jacobian.columns());
        format!("n = {n}, p = {p}, B = {} reshuffled{last}", batch.size())
    }
}

/// The check lists the orders of at most so many samples.
const MAX_SAMPLES: usize = 5;

/// Gradients for which epochs are less stable than independent draws.
const LESS_STABLE: [[f64; 2]; 3] = [[1.0, 0.0], [0.0, 1.0], [0.25, 0.25]];

/// Gradients so close to these, relative to the first, are less stable too.
const CLOSE: f64 = 1e-3;

impl EpochInstance {
    /// A minimum with a Jacobian, n × p; `batch_size` may be any number up to n.
    ///
    /// # Errors
    /// [`InstanceError::TooMany`] for more than 5 samples or larger batches than there are samples;
    /// [`InstanceError::NoInputs`] for an empty batch.
    pub fn new(
        jacobian: RowMatrix,
        batch_size: usize,
        drops_last: bool,
    ) -> Result<Self, InstanceError> {
        expect_at_most("samples", jacobian.rows(), MAX_SAMPLES)?;
        expect_at_most("samples in a batch", batch_size, jacobian.rows())?;
        let batch =
            Batch::new(batch_size, Sampling::Reshuffling).map_err(|_| InstanceError::NoInputs)?;
        let batch = if drops_last { batch.dropping_last() } else { batch };
        Ok(Self { jacobian, batch })
    }

    /// Mostly 3 samples, sometimes 4, and at most 3 parameters; some with one parameter, orthogonal
    /// rows, or rows near the three that are less stable in epochs.
    fn random(rng: &mut dyn Rng) -> Self {
        let jacobian = match rng.random_range(0..20) {
            0 => {
                let mut shift = || 0.3 * CLOSE * normal(rng).clamp(-3.0, 3.0);
                RowMatrix::from_fn(3, 2, |i, j| LESS_STABLE[i][j] + shift())
            }
            1 => {
                let mut rows = orthonormal_rows(rng.random_range(1..=3), 3, rng);
                for i in 0..rows.rows() {
                    scale_row(&mut rows, i, rng.random_range(0.3..1.0));
                }
                rows
            }
            2 => small_jacobian(4, 1, rng),
            3 => small_jacobian(4, 3, rng),
            _ => {
                // A hard column beside one that is not.
                let (hard, generic) = (small_jacobian(3, 1, rng), normal_matrix(3, 1, rng));
                let columns = [&hard, &generic];
                RowMatrix::from_fn(hard.rows(), 2, |i, j| columns[j].row(i)[0])
            }
        };
        let samples = jacobian.rows();
        let is_single = rng.random_bool(0.5);
        let batch_size = if is_single { 1 } else { rng.random_range(1..=samples) };
        Self::new(jacobian, batch_size, rng.random_bool(0.2)).expect("the sizes are small enough")
    }

    /// True if the rows are a multiple of [`LESS_STABLE`], nearly.
    fn is_less_stable(&self) -> bool {
        let jacobian = &self.jacobian;
        let entries = (0..3).flat_map(|i| (0..2).map(move |j| (i, j)));
        let is_close = |(i, j): (usize, usize)| {
            let unit = jacobian.row(0)[0];
            (jacobian.row(i)[j] - LESS_STABLE[i][j] * unit).abs() <= CLOSE * unit.abs()
        };
        let is_shaped = (jacobian.rows(), jacobian.columns(), self.batch.size()) == (3, 2, 1);
        is_shaped && entries.into_iter().all(is_close)
    }
}

/// Minima with a slower mode than this, relative to the fastest, are not compared: its eigenvalue
/// hides a growth next to 1.
const SLOWEST: f64 = 1e-3;

/// Relative distance from the ends of the reported interval at which the radius is compared.
const MARGIN: f64 = 1e-9;

/// The batches of one epoch: the sizes, and the gradients in coordinates of their span.
struct Epochs {
    sizes: Vec<usize>,
    rows: Vec<Vec<f64>>,
}

impl Epochs {
    /// `None` without curvature or batches, or where the edge is not compared.
    fn new(instance: &EpochInstance) -> Result<Option<Self>, LedgerError> {
        let EpochInstance { jacobian, batch } = instance;
        let matrix = jacobian.as_mat();
        let eigen = symmetric_eigen((matrix.transpose() * matrix).as_ref())?;
        let range = Range::of(&eigen.values);
        if range.slowest() < SLOWEST {
            return Ok(None);
        }
        let first = range.first;
        let coordinates = matrix * eigen.vectors.get(.., first..);
        let sizes: Vec<usize> = batch.epoch_sizes(jacobian.rows()).collect();
        let row = |i: usize| (0..coordinates.ncols()).map(|k| coordinates[(i, k)]).collect();
        let rows = (0..jacobian.rows()).map(row).collect();
        Ok((coordinates.ncols() > 0 && !sizes.is_empty()).then_some(Self { sizes, rows }))
    }

    /// `(1/|b|) Σ_{i∈b} g_ig_iᵀ`.
    fn hessian(&self, batch: &[usize]) -> Mat<f64> {
        let dim = self.rows[0].len();
        Mat::from_fn(dim, dim, |k, l| {
            let sum: f64 = batch.iter().map(|&i| self.rows[i][k] * self.rows[i][l]).sum();
            sum / batch.len() as f64
        })
    }

    /// Calls `visit` with the batches of every order of the samples.
    fn for_orders(&self, visit: &mut dyn FnMut(&[&[usize]])) {
        fn extend(order: &mut Vec<usize>, samples: usize, visit: &mut dyn FnMut(&[usize])) {
            if order.len() == samples {
                visit(order);
                return;
            }
            for sample in 0..samples {
                if !order.contains(&sample) {
                    order.push(sample);
                    extend(order, samples, visit);
                    order.pop();
                }
            }
        }
        extend(&mut Vec::new(), self.rows.len(), &mut |order| {
            let mut rest = order;
            let cut = |size: &usize| {
                let (batch, after) = rest.split_at(*size);
                rest = after;
                batch
            };
            visit(&self.sizes.iter().map(cut).collect::<Vec<_>>());
        });
    }

    /// The spectral radius of `T(P) = E[A_πPA_πᵀ]` at a learning rate.
    fn radius(&self, rate: f64) -> f64 {
        let dim = self.rows[0].len();
        let size = lower_triangle(dim).len();
        let (mut map, mut orders) = (Mat::<f64>::zeros(size, size), 0.0);
        self.for_orders(&mut |batches| {
            let mut product = Mat::<f64>::identity(dim, dim);
            for batch in batches {
                let step = Mat::<f64>::identity(dim, dim) - faer::Scale(rate) * self.hessian(batch);
                product = step * product;
            }
            add_congruence(&mut map, 1.0, product.as_ref(), product.as_ref());
            orders += 1.0;
        });
        let Ok(values) = map.eigenvalues() else { return f64::NAN };
        values.iter().map(|value| libm::hypot(value.re, value.im)).fold(0.0, f64::max) / orders
    }

    /// The edge of gradient descent on the worst batch.
    fn worst_batch(&self) -> Result<f64, LedgerError> {
        let mut largest: Result<f64, LedgerError> = Ok(0.0);
        self.for_orders(&mut |batches| {
            for batch in batches {
                let values = symmetric_eigenvalues(self.hessian(batch).as_ref());
                match (&mut largest, values) {
                    (Ok(most), Ok(values)) => *most = most.max(values[values.len() - 1]),
                    (Ok(_), Err(error)) => largest = Err(error.into()),
                    (Err(_), _) => {}
                }
            }
        });
        Ok(2.0 / largest?)
    }

    /// True if the gradients are orthogonal up to rounding.
    fn are_orthogonal(&self) -> bool {
        let cosine = |i: usize, j: usize| {
            let (a, b) = (&self.rows[i], &self.rows[j]);
            let norms = simd::norm_squared(a).sqrt() * simd::norm_squared(b).sqrt();
            simd::dot(a, b).abs() <= 1e-14 * norms
        };
        (0..self.rows.len()).all(|i| (0..i).all(|j| cosine(i, j)))
    }
}

/// Checks the spectral radius of T at and below the edge and just past it, and the special cases.
/// The mutant takes the threshold of independent draws for the edge, and claims that epochs are
/// never less stable.
fn check(form: Form, instance: &EpochInstance) -> Checked {
    let EpochInstance { jacobian, batch } = instance;
    let Some(epochs) = Epochs::new(instance)? else { return Ok(Vec::new()) };
    let minimum = Minimum::new(jacobian)?;
    let sgd = Optimizer::sgd();
    let found = epoch_edge(&minimum, &sgd, batch, &EpochOptions::default())?;
    let independent = Batch::new(batch.size(), Sampling::WithoutReplacement)?;
    let independent = threshold(&minimum, &sgd, &independent)?;
    let (lower, upper) =
        form.pick((found.lower, found.upper), (independent.lower, independent.upper));
    let mut comparisons = Comparison::all_at_most([
        ("radius just below the edge", epochs.radius((1.0 - MARGIN) * lower), 1.0),
        ("radius just past the edge", 1.0, epochs.radius((1.0 + MARGIN) * upper)),
    ]);
    let name = "epochs and independent draws";
    match form {
        Form::Mutant if batch.size() == 1 && !batch.drops_last() => {
            comparisons.push(Comparison::at_most(name, independent.lower, found.upper));
        }
        Form::Stated if instance.is_less_stable() => {
            comparisons.push(Comparison::at_most(name, found.upper, independent.lower));
        }
        _ => {}
    }
    let squares = || epochs.rows.iter().map(|row| simd::norm_squared(row));
    if batch.size() == 1 && epochs.rows[0].len() == 1 {
        // An error of the edge moves the sum by the sizes of these terms.
        let rate = f64::midpoint(lower, upper);
        let terms = squares().map(|square| 1.0 - rate * square);
        let sum: f64 = terms.clone().map(|term| libm::log(term.abs())).sum();
        let scale: f64 = squares().zip(terms).map(|(s, term)| rate * s / term.abs()).sum();
        comparisons.push(Comparison::equal("one parameter", sum, 0.0, scale));
    }
    if form == Form::Mutant {
        return Ok(comparisons);
    }
    for part in [0.2, 0.5, 0.8, 0.95] {
        let name = "radius below the edge";
        comparisons.push(Comparison::at_most(name, epochs.radius(part * lower), 1.0));
    }
    let worst = epochs.worst_batch()?;
    comparisons.push(Comparison::at_most("worst batch", worst, upper));
    if epochs.sizes == [epochs.rows.len()] {
        comparisons.push(Comparison::equal("gradient descent", found.estimate, worst, worst));
    }
    if batch.size() == 1 && epochs.are_orthogonal() {
        comparisons.push(Comparison::equal("orthogonal rows", found.estimate, worst, worst));
        let name = "orthogonal rows, independent draws";
        comparisons.push(Comparison::equal(name, independent.midpoint(), worst, worst));
    }
    Ok(comparisons)
}
