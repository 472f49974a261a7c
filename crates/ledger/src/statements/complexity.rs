//! R6: the exact Rademacher complexity of small samples.

use crate::prelude::*;

pub(super) static R6: Statement = Statement {
    id: "R6",
    title: "The path norm bounds the Rademacher complexity",
    words: "The Rademacher complexity of the two-layer ReLU networks of any width with path norm \
            at most Q, on n inputs, is at most 2Q√(mean ‖x_i‖²)/√n.",
    latex: r"\mathbb E_\sigma \sup_{\|\theta\|_{\mathcal P}\le Q} \frac1n\sum_i \sigma_i f(x_i;\theta) \le \frac{2Q\sqrt{\tfrac1n\sum_i\|x_i\|^2}}{\sqrt n}",
    hypotheses: "any inputs",
    source: PAPER,
    check_words: "The exact complexity of at most 8 inputs of dimension 1 or 2: for each of the 2ⁿ \
                  signs the best single neuron, found exactly on every arc of directions on which \
                  no input changes its sign.",
    mutant_words: "the constant ½ instead of 2",
    trial: &Trial {
        generate: SampleInstance::random,
        check: |form, instance| Ok(check(form, instance)),
    },
};

/// The bound of R6 on the Rademacher complexity of two-layer ReLU networks with path norm at most
/// `path_norm`, `2 ‖θ‖_P √(mean ‖x_i‖²) / √n`, in the units of the output f.
///
/// It bounds, up to constants and the Lipschitz constant of the loss, the gap between test and
/// training error of every network in the class; a value above the scale of the targets is a
/// vacuous bound.
pub fn rademacher_bound(path_norm: f64, mean_input_norm_squared: f64, sample_count: usize) -> f64 {
    2.0 * path_norm * (mean_input_norm_squared / sample_count as f64).sqrt()
}

/// A sample of inputs, for all two-layer ReLU networks of bounded path norm.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleInstance {
    inputs: RowMatrix,
    path_norm: f64,
}

impl SampleInstance {
    /// Largest number of inputs: the check lists all signs.
    const MAX_INPUTS: usize = 8;
    /// Largest dimension of an input: the check lists all arcs of the unit circle.
    const MAX_DIM: usize = 2;

    /// At most 8 `inputs` of dimension 1 or 2 (n × d), small enough for an exact complexity, and
    /// the largest `path_norm` that the networks may have.
    ///
    /// # Errors
    /// [`InstanceError::NoInputs`] without inputs or coordinates, [`InstanceError::TooMany`] when
    /// there are too many.
    pub fn new(inputs: RowMatrix, path_norm: f64) -> Result<Self, InstanceError> {
        if inputs.rows() == 0 || inputs.columns() == 0 {
            return Err(InstanceError::NoInputs);
        }
        expect_at_most("inputs", inputs.rows(), Self::MAX_INPUTS)?;
        expect_at_most("coordinates of an input", inputs.columns(), Self::MAX_DIM)?;
        Ok(Self { inputs, path_norm })
    }

    fn random(rng: &mut dyn Rng) -> Self {
        let count = rng.random_range(1..=Self::MAX_INPUTS);
        let dim = rng.random_range(1..=Self::MAX_DIM);
        let mut inputs = normal_matrix(count, dim, rng);
        match rng.random_range(0..5) {
            // Generic inputs.
            0 => {}
            1 => scale_rows_heavily(&mut inputs, rng),
            // Small integers: equal, opposite and orthogonal inputs, and zeros.
            2 => {
                inputs = RowMatrix::from_fn(count, dim, |_, _| f64::from(rng.random_range(-1..=1)));
            }
            3 => make_parallel(&mut inputs, 0.0, rng),
            _ => make_nearly_equal(&mut inputs),
        }
        Self { inputs, path_norm: power_of_ten(rng, 3.0) }
    }
}

impl Instance for SampleInstance {
    fn sizes(&self) -> String {
        let Self { inputs, path_norm } = self;
        format!("n = {}, d = {}, Q = {path_norm}", inputs.rows(), inputs.columns())
    }
}

/// The mutant has the constant ½ instead of 2.
fn check(form: Form, instance: &SampleInstance) -> Vec<Comparison> {
    let SampleInstance { inputs, path_norm } = instance;
    let n = inputs.rows();
    let mean_squared_norm = simd::norm_squared(inputs.values()) / n as f64;
    let bound = form.pick(1.0, 0.25) * rademacher_bound(*path_norm, mean_squared_norm, n);
    let exact = path_norm * complexity(inputs);
    vec![Comparison::at_most("exact complexity and bound", exact, bound)]
}

/// The Rademacher complexity of `{f : ‖θ‖_P ≤ 1}` on `inputs` of dimension 1 or 2,
/// `E_σ sup_f (1/n) Σ_i σ_i f(x_i)`, over all 2ⁿ signs.
///
/// The function is linear in the output weights, so that a single neuron attains the supremum:
/// `max_{‖u‖=1} |(1/n) Σ_i σ_i max(uᵀx_i, 0)|`.
fn complexity(inputs: &RowMatrix) -> f64 {
    let n = inputs.rows();
    let arcs = Arcs::new(inputs);
    let mut signs = vec![1.0; n];
    let mut total = 0.0;
    // −σ gives the same supremum as σ, so the last sign stays fixed.
    let half = 1_u32 << (n - 1);
    for pattern in 0..half {
        for (i, sign) in signs.iter_mut().enumerate() {
            *sign = if pattern >> i & 1 == 1 { -1.0 } else { 1.0 };
        }
        total += arcs.largest_sum(inputs, &signs);
    }
    total / (f64::from(half) * n as f64)
}

/// The arcs of the unit circle on which no input changes its sign, given by their ends. In
/// dimension 1 there are two unit vectors, each of which is an arc.
struct Arcs {
    ends: Vec<(Vec<f64>, Vec<f64>)>,
}

impl Arcs {
    fn new(inputs: &RowMatrix) -> Self {
        if inputs.columns() == 1 {
            return Self { ends: [1.0, -1.0].map(|u| (vec![u], vec![u])).to_vec() };
        }
        // u is orthogonal to an input at two angles. With the axes among them no arc is longer
        // than a quarter, and opposite angles cannot be adjacent.
        let mut directions: Vec<Vec<f64>> = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
        for i in 0..inputs.rows() {
            let (x, y) = (inputs.row(i)[0], inputs.row(i)[1]);
            let norm = libm::hypot(x, y);
            if norm > 0.0 {
                directions.push(vec![-y / norm, x / norm]);
            }
        }
        let opposite: Vec<Vec<f64>> =
            directions.iter().map(|u| u.iter().map(|value| -value).collect()).collect();
        directions.extend(opposite);
        directions.sort_by(|u, v| libm::atan2(u[1], u[0]).total_cmp(&libm::atan2(v[1], v[0])));
        let next = directions.iter().cycle().skip(1);
        Self { ends: directions.iter().cloned().zip(next.cloned()).collect() }
    }

    /// `max_{‖u‖=1} |Σ_i σ_i max(uᵀx_i, 0)|`: inside an arc the sum is `uᵀs` with the signed sum s
    /// of the inputs active there, largest at `u = ±s/‖s‖` if that is in the arc and else at an
    /// end.
    fn largest_sum(&self, inputs: &RowMatrix, signs: &[f64]) -> f64 {
        let mut largest = 0.0_f64;
        for (first, last) in &self.ends {
            let middle: Vec<f64> = first.iter().zip(last).map(|(a, b)| a + b).collect();
            let mut sum = vec![0.0; middle.len()];
            for (i, sign) in signs.iter().enumerate() {
                if simd::dot(inputs.row(i), &middle) > 0.0 {
                    simd::axpy(*sign, inputs.row(i), &mut sum);
                }
            }
            let (at_first, at_last) = (simd::dot(&sum, first), simd::dot(&sum, last));
            largest = largest.max(at_first.abs()).max(at_last.abs());
            if let ([a, b], [c, d], [x, y]) = (&first[..], &last[..], &sum[..]) {
                // ±s is between the ends: s is left of the first and right of the last, or −s is.
                let (from_first, to_last) = (a * y - b * x, x * d - y * c);
                if from_first * to_last > 0.0 {
                    largest = largest.max(libm::hypot(*x, *y));
                }
            }
        }
        largest
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use flatmin_linalg::{RowMatrix, stream};
    use rand_distr::{Distribution as _, StandardNormal};

    use super::{Arcs, complexity};

    fn check(inputs: &[[f64; 2]], expected: f64) {
        let inputs = RowMatrix::new(inputs.len(), 2, inputs.concat()).unwrap();
        let found = complexity(&inputs);
        assert!((found - expected).abs() <= 1e-14, "{found}, expected {expected}");
    }

    #[test]
    fn small_samples_have_closed_forms() {
        // One input: its norm. Opposite inputs: a neuron sees one of them.
        check(&[[3.0, 4.0]], 5.0);
        check(&[[3.0, 4.0], [-3.0, -4.0]], 2.5);
        // Equal inputs: the mean of |σ₁ + σ₂|/2 is ½.
        check(&[[3.0, 4.0], [3.0, 4.0]], 2.5);
        // Orthonormal inputs with equal signs: (1, 1)/√2 sees both; with opposite signs one.
        check(&[[1.0, 0.0], [0.0, 1.0]], (2.0_f64.sqrt() + 1.0) / 4.0);
        check(&[[0.0, 0.0]], 0.0);
        let line = RowMatrix::new(3, 1, vec![1.0, -2.0, 3.0]).unwrap();
        // max(|σ₁ + 3σ₃|, 2)/3: 4/3 and 2/3.
        assert!((complexity(&line) - 1.0).abs() <= 1e-15);
    }

    #[test]
    fn the_largest_sum_is_that_over_a_fine_grid() {
        const GRID: usize = 2000;
        let mut rng = stream(0, "sums over the circle", 0);
        for _ in 0..50 {
            let inputs = RowMatrix::from_fn(5, 2, |_, _| StandardNormal.sample(&mut rng));
            let signs = [1.0, -1.0, 1.0, 1.0, -1.0];
            let sum = |k: usize| -> f64 {
                let angle = 2.0 * PI * k as f64 / GRID as f64;
                let (x, y) = (libm::cos(angle), libm::sin(angle));
                let row = |i: usize| (inputs.row(i)[0] * x + inputs.row(i)[1] * y).max(0.0);
                (0..5).map(|i| signs[i] * row(i)).sum::<f64>().abs()
            };
            let on_grid = (0..GRID).map(sum).fold(0.0, f64::max);
            let exact = Arcs::new(&inputs).largest_sum(&inputs, &signs);
            // The sum changes by at most Σ‖x_i‖ < 20 per radian.
            assert!(on_grid <= exact + 1e-12 && exact <= on_grid + 20.0 * PI / GRID as f64);
        }
    }
}
