//! Maps on tuples of k × k matrices that the ends of a bracket are made of.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use faer::Mat;
use flatmin_linalg::{Bisection, EigenError, LanczosOptions, Parallelism, largest_eigenpair, simd};

use crate::threshold::{Cone, PerronOperator, Response};

/// The number of samples whose blocks a task multiplies.
const TASK_SAMPLES: usize = 1024;

/// The rounds of a search for the root of a quotient, each with a Krylov space of its own.
const MAX_ROUNDS: usize = 8;

/// The largest dimension of these Krylov spaces. Their vectors are as long as all tuples.
const ROUND_STEPS: usize = 12;

/// Adds `factor · (D_iQ_i + Q_iD_i)/2` to `out`, for the tuple Q with the coordinates `vector` and
/// symmetric k × k matrices D, row by row.
#[expect(clippy::too_many_arguments, reason = "a product that is scaled, added and parallel")]
pub(super) fn add_block_products(
    cone: Cone,
    blocks: &[f64],
    factor: f64,
    vector: &[f64],
    out: &mut [f64],
    parallelism: Parallelism,
) {
    let k = cone.outputs;
    let len = k * (k + 1) / 2;
    parallelism.for_each_chunk(out, TASK_SAMPLES * len, |index, out| {
        let first = index * TASK_SAMPLES;
        if k == 1 {
            let pairs = blocks[first..].iter().zip(&vector[first..]);
            for (out, (block, value)) in out.iter_mut().zip(pairs) {
                *out += factor * block * value;
            }
            return;
        }
        let mut matrix = vec![0.0; k * k];
        let samples = vector[first * len..].chunks(len).zip(blocks[first * k * k..].chunks(k * k));
        for (out, (vector, block)) in out.chunks_mut(len).zip(samples) {
            unpack(vector, k, &mut matrix);
            let mut out = out.iter_mut();
            for a in 0..k {
                for b in 0..=a {
                    let (row_a, row_b) = (&block[a * k..][..k], &block[b * k..][..k]);
                    let (left, right) = (&matrix[b * k..][..k], &matrix[a * k..][..k]);
                    let sum: f64 = row_a.iter().zip(left).map(|(d, q)| d * q).sum::<f64>()
                        + row_b.iter().zip(right).map(|(d, q)| d * q).sum::<f64>();
                    let unit = if a == b { 0.5 } else { 0.5 * SQRT_2 };
                    if let Some(out) = out.next() {
                        *out += factor * unit * sum;
                    }
                }
            }
        }
    });
}

/// The symmetric matrix with these coordinates, row by row.
fn unpack(vector: &[f64], k: usize, matrix: &mut [f64]) {
    let mut values = vector.iter();
    for a in 0..k {
        for b in 0..=a {
            let value = values.next().copied().unwrap_or(0.0);
            let value = if a == b { value } else { value * FRAC_1_SQRT_2 };
            matrix[a * k + b] = value;
            matrix[b * k + a] = value;
        }
    }
}

/// The coordinates of a tuple of symmetric k × k matrices, row by row.
pub(super) fn coordinates(cone: Cone, blocks: &[f64]) -> Vec<f64> {
    let k = cone.outputs;
    let mut out = Vec::with_capacity(cone.samples * k * (k + 1) / 2);
    for block in blocks.chunks(k * k) {
        for a in 0..k {
            out.extend_from_slice(&block[a * k..=a * k + a]);
        }
    }
    cone.to_coordinates(&mut out);
    out
}

/// A map `F(ν)` on tuples that falls as ν grows, with the quotient of a fixed tuple as a function
/// of ν.
pub(super) trait FallingMap {
    /// Writes `F(ν) Q` to `out`. Must be preceded by [`prepare`](Self::prepare) for this ν.
    fn apply(&mut self, nu: f64, vector: &[f64], out: &mut [f64]);

    /// Makes ready for products at ν.
    fn prepare(&mut self, nu: f64);

    /// Fixes the tuple of [`quotient`](Self::quotient).
    fn fix(&mut self, vector: &[f64]);

    /// `⟨Q, F(ν) Q⟩ / ‖Q‖²` for the fixed tuple.
    fn quotient(&self, nu: f64) -> f64;

    /// The value that μ has at ν = 0.
    fn pole(&self) -> f64;
}

/// The largest ν found at which the quotient of some tuple is at least 1, and that tuple. The start
/// must lie inside the cone.
pub(super) fn quotient_root(
    map: &mut impl FallingMap,
    cone: Cone,
    start: Vec<f64>,
    accuracy: f64,
) -> Result<(f64, Vec<f64>), EigenError> {
    let mut vector = start;
    map.fix(&vector);
    let mut nu = root(map, map.pole());
    for _ in 0..MAX_ROUNDS {
        map.prepare(nu);
        let options = LanczosOptions { relative_residual: accuracy, max_products: ROUND_STEPS };
        let pair = largest_eigenpair(&vector, |v, out| map.apply(nu, v, out), options)?;
        let candidate = cone.positive(pair.vector)?;
        map.fix(&candidate);
        let moved = root(map, nu);
        let change = (moved - nu) / (map.pole() + moved);
        if moved > nu {
            (nu, vector) = (moved, candidate);
        }
        if change <= accuracy * accuracy {
            break;
        }
    }
    Ok((nu, vector))
}

/// The ν at which the quotient of the fixed tuple is 1, where it is still at least 1. Zero when it
/// is below 1 everywhere.
pub(super) fn root(map: &impl FallingMap, guess: f64) -> f64 {
    let holds = |nu: f64| map.quotient(nu) >= 1.0;
    let scale = map.pole().max(f64::MIN_POSITIVE);
    let mut low = if guess > 0.0 { guess } else { 1.0 };
    let mut high = low;
    while !holds(low) {
        high = low;
        low *= 0.25;
        // Without a pole the limit may underflow to zero.
        if low <= 1e-16 * scale {
            return 0.0;
        }
    }
    while holds(high) && high < f64::MAX * 0.25 {
        low = high;
        high *= 4.0;
    }
    Bisection::between(low, high).geometric().to_relative_width(1e-14).run(holds).0
}

/// `Φ₁(ν)` of the leading modes, plus a multiple of the projection on one tuple, or of products
/// with blocks.
pub(super) struct LeadingMap<'a> {
    pub(super) operator: PerronOperator<'a>,
    pub(super) rest: Rest<'a>,
    pub(super) parallelism: Parallelism,
    /// `1/‖Q‖²` and `⟨Q, R Q⟩` for the fixed tuple and the part R of the rest.
    fixed: (f64, f64),
    modes: Option<crate::threshold::Modes>,
}

/// What stands for the modes that are left out.
pub(super) enum Rest<'a> {
    /// Nothing.
    Nothing,
    /// `⟨D, Q⟩ D · P/(n μ τ)`, for the coordinates of D, and τ.
    Projection(Vec<f64>, f64),
    /// `c(μ) (D_iQ_i + Q_iD_i)/2`, with c by a response to one small mode.
    Blocks(&'a [f64], Response<'a>),
}

impl<'a> LeadingMap<'a> {
    pub(super) fn new(
        operator: PerronOperator<'a>,
        rest: Rest<'a>,
        parallelism: Parallelism,
    ) -> Self {
        Self { operator, rest, parallelism, fixed: (1.0, 0.0), modes: None }
    }

    /// The factor of the rest at ν.
    fn factor(&self, nu: f64) -> f64 {
        match &self.rest {
            Rest::Nothing => 0.0,
            Rest::Projection(_, trace) => self.operator.scale() / ((self.pole() + nu) * trace),
            Rest::Blocks(_, response) => {
                let value = response.eigenvalues[0];
                response.noise * response.over_diagonal(&response.modes(nu), 0, value)
            }
        }
    }
}

impl FallingMap for LeadingMap<'_> {
    fn prepare(&mut self, nu: f64) {
        self.modes = Some(self.operator.response.modes(nu));
    }

    fn apply(&mut self, nu: f64, vector: &[f64], out: &mut [f64]) {
        let modes = self.modes.take().unwrap_or_else(|| self.operator.response.modes(nu));
        self.operator.apply(&modes, vector, out);
        self.modes = Some(modes);
        let factor = self.factor(nu);
        match &self.rest {
            Rest::Nothing => {}
            Rest::Projection(tuple, ..) => {
                simd::axpy(factor * simd::dot(tuple, vector), tuple, out);
            }
            Rest::Blocks(blocks, _) => {
                let cone = self.operator.cone;
                add_block_products(cone, blocks, factor, vector, out, self.parallelism);
            }
        }
    }

    fn fix(&mut self, vector: &[f64]) {
        self.operator.set_moments(vector);
        let rest = match &self.rest {
            Rest::Nothing => 0.0,
            Rest::Projection(tuple, ..) => simd::dot(tuple, vector).powi(2),
            Rest::Blocks(blocks, _) => {
                let mut image = vec![0.0; vector.len()];
                let cone = self.operator.cone;
                add_block_products(cone, blocks, 1.0, vector, &mut image, self.parallelism);
                simd::dot(&image, vector)
            }
        };
        self.fixed = (1.0 / simd::norm_squared(vector), rest);
    }

    fn quotient(&self, nu: f64) -> f64 {
        let (inverse, rest) = self.fixed;
        let leading = self.operator.scale() * self.operator.weighted_squares(nu).0;
        inverse * (leading + self.factor(nu) * rest)
    }

    fn pole(&self) -> f64 {
        self.operator.response.pole()
    }
}

/// The largest `2H(h, x) − x` for 0 ≤ x ≤ `rest`, with the harmonic mean H, or an upper bound on it:
/// what pairs of a mode and those left out add to the response of the latter alone.
fn pair_excess(mode: f64, rest: f64) -> f64 {
    if mode < rest { mode } else { rest * (3.0 * mode - rest) / (mode + rest) }
}

/// The operator of S20 that bounds `Φ(μ)` from above, for `P`, `κ ≥ 0`, and the modes and blocks
/// of a matrix that is at least K.
pub(super) struct UpperMap<'a> {
    pub(super) operator: PerronOperator<'a>,
    pub(super) curvature: f64,
    /// The remainder of `J_iJ_iᵀ`, row by row.
    pub(super) remainder: &'a [f64],
    /// An upper bound on the eigenvalues that are left out.
    pub(super) tail: f64,
    pub(super) parallelism: Parallelism,
    weights: Mat<f64>,
    blocks: Vec<f64>,
    fixed: Fixed,
}

/// What the quotient of a tuple needs.
#[derive(Default)]
struct Fixed {
    inverse: f64,
    /// `Σ_i ‖Q_iĴ_ie_k‖²` of every mode k.
    squares: Vec<f64>,
    /// `Σ_i tr(Q_iD_iQ_i)`.
    remainder: f64,
}

impl<'a> UpperMap<'a> {
    pub(super) fn new(
        operator: PerronOperator<'a>,
        curvature: f64,
        remainder: &'a [f64],
        tail: f64,
        parallelism: Parallelism,
    ) -> Self {
        let (weights, blocks, fixed) = (Mat::new(), Vec::new(), Fixed::default());
        Self { operator, curvature, remainder, tail, parallelism, weights, blocks, fixed }
    }

    fn eigenvalues(&self) -> &[f64] {
        self.operator.response.eigenvalues
    }

    /// `m_k = μ − κλ_k`, and `μ − κλ₊`.
    fn shifts(&self, nu: f64) -> (Vec<f64>, f64) {
        let top = self.operator.response.lambda_max();
        let shift = |value: f64| nu + self.curvature * (top - value);
        (self.eigenvalues().iter().map(|value| shift(*value)).collect(), shift(self.tail))
    }

    /// `a_k = P h₊(3h_k − h₊)/((h_k + h₊) λ_k)` for `h = λ/(μ − κλ)`, or `P h_k/λ_k` for modes below
    /// λ₊; and `P/(μ − κλ₊)`.
    fn cross(&self, shifts: &[f64], tail_shift: f64) -> (Vec<f64>, f64) {
        let noise = self.operator.response.noise;
        let rest = self.tail / tail_shift;
        let cross = self.eigenvalues().iter().zip(shifts).map(|(value, shift)| {
            let mode = value / shift;
            noise * pair_excess(mode, rest) / value
        });
        (cross.collect(), noise / tail_shift)
    }

    /// `P W_kl − ½(a_k/λ_l + a_l/λ_k)`.
    fn weight(&self, (shifts, cross): (&[f64], &[f64]), k: usize, l: usize) -> f64 {
        let values = self.eigenvalues();
        let denominator = 0.5 * (shifts[k] * values[l] + shifts[l] * values[k]);
        self.operator.response.noise / denominator
            - 0.5 * (cross[k] / values[l] + cross[l] / values[k])
    }

    fn task_rows(&self) -> usize {
        TASK_SAMPLES * self.operator.cone.outputs
    }
}

impl FallingMap for UpperMap<'_> {
    fn prepare(&mut self, nu: f64) {
        let (shifts, tail_shift) = self.shifts(nu);
        let (cross, tail) = self.cross(&shifts, tail_shift);
        let rank = shifts.len();
        self.weights = Mat::from_fn(rank, rank, |l, k| {
            if l < k { 0.0 } else { self.weight((&shifts, &cross), k, l) }
        });
        let k = self.operator.cone.outputs;
        let (rows, remainder) = (self.operator.rows, self.remainder);
        let mut blocks = std::mem::take(&mut self.blocks);
        blocks.resize(remainder.len(), 0.0);
        self.parallelism.for_each_chunk(&mut blocks, TASK_SAMPLES * k * k, |index, blocks| {
            for (i, block) in blocks.chunks_mut(k * k).enumerate() {
                let sample = index * TASK_SAMPLES + i;
                for a in 0..k {
                    let row_a = rows.row(sample * k + a).iter().zip(&cross);
                    let weighted: Vec<f64> = row_a.map(|(g, c)| g * c).collect();
                    for b in 0..=a {
                        let rest = remainder[(sample * k + a) * k + b];
                        let value = simd::dot(&weighted, rows.row(sample * k + b)) + tail * rest;
                        block[a * k + b] = value;
                        block[b * k + a] = value;
                    }
                }
            }
        });
        self.blocks = blocks;
    }

    fn apply(&mut self, _: f64, vector: &[f64], out: &mut [f64]) {
        self.operator.set_moments(vector);
        let moments = &mut self.operator.moments;
        for k in 0..moments.ncols() {
            for l in k..moments.ncols() {
                moments[(l, k)] *= self.weights[(l, k)];
            }
            moments[(k, k)] *= 0.5;
        }
        let cone = self.operator.cone;
        let scale = 1.0 / cone.samples as f64;
        for (out, form) in out.iter_mut().zip(self.operator.forms()) {
            *out = scale * form;
        }
        cone.to_coordinates(out);
        add_block_products(cone, &self.blocks, 1.0, vector, out, self.parallelism);
    }

    fn fix(&mut self, vector: &[f64]) {
        self.operator.set_moments(vector);
        let rank = self.eigenvalues().len();
        let rows = self.operator.rows.rows();
        let weighted = self.operator.weighted(vector);
        let starts = (0..rows).step_by(self.task_rows()).collect();
        let parts = self.parallelism.map(starts, |start| {
            let mut squares = vec![0.0; rank];
            let mut row = vec![0.0; rank];
            for index in start..(start + self.task_rows()).min(rows) {
                weighted.write(index, 0..rank, &mut row);
                squares.iter_mut().zip(&row).for_each(|(sum, value)| *sum += value * value);
            }
            squares
        });
        let mut squares = vec![0.0; rank];
        for part in parts {
            simd::axpy(1.0, &part, &mut squares);
        }
        let mut image = vec![0.0; vector.len()];
        let cone = self.operator.cone;
        add_block_products(cone, self.remainder, 1.0, vector, &mut image, self.parallelism);
        let inverse = 1.0 / simd::norm_squared(vector);
        self.fixed = Fixed { inverse, squares, remainder: simd::dot(&image, vector) };
    }

    fn quotient(&self, nu: f64) -> f64 {
        let (shifts, tail_shift) = self.shifts(nu);
        let (cross, tail) = self.cross(&shifts, tail_shift);
        let moments = &self.operator.moments;
        let mut sum = 0.0;
        for k in 0..shifts.len() {
            for l in k..shifts.len() {
                let square = moments[(l, k)] * moments[(l, k)];
                let twice = if k == l { 1.0 } else { 2.0 };
                sum += twice * self.weight((&shifts, &cross), k, l) * square;
            }
        }
        let Fixed { inverse, squares, remainder } = &self.fixed;
        let rest = simd::dot(&cross, squares) + tail * remainder;
        inverse * (sum / self.operator.cone.samples as f64 + rest)
    }

    fn pole(&self) -> f64 {
        self.curvature * self.operator.response.lambda_max()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Cone, FallingMap, Parallelism, add_block_products, coordinates, pair_excess, root,
    };

    /// A map whose quotient is `scale/ν` for every tuple, so that its root is `scale`.
    struct Hyperbola {
        scale: f64,
        pole: f64,
    }

    impl FallingMap for Hyperbola {
        fn apply(&mut self, nu: f64, vector: &[f64], out: &mut [f64]) {
            out.iter_mut().zip(vector).for_each(|(out, value)| *out = self.scale / nu * value);
        }

        fn prepare(&mut self, _: f64) {}

        fn fix(&mut self, _: &[f64]) {}

        fn quotient(&self, nu: f64) -> f64 {
            self.scale / nu
        }

        fn pole(&self) -> f64 {
            self.pole
        }
    }

    #[test]
    fn roots_far_below_and_above_the_pole_are_found() {
        for pole in [0.0, 1.0, 1e6] {
            for scale in [1e-9, 0.3, 1.0, 7e8] {
                for guess in [0.0, 1e-3, pole] {
                    let found = root(&Hyperbola { scale, pole }, guess);
                    assert!((found / scale - 1.0).abs() < 1e-12, "{pole} {scale} {guess}: {found}");
                }
            }
        }
        // Nothing is added to a pole that is 10¹⁸ times as large.
        assert_eq!(root(&Hyperbola { scale: 1.0, pole: 1e18 }, 1e18).to_bits(), 0);
    }

    #[test]
    fn pairs_of_modes_add_no_more_than_their_bound() {
        for mode in [1e-9, 0.3, 0.99, 1.0, 1.7, 40.0, 1e9] {
            let excess = |x: f64| 4.0 * mode * x / (mode + x) - x;
            let largest = (0..=1000).map(|i| excess(f64::from(i) / 1000.0)).fold(0.0, f64::max);
            let bound = pair_excess(mode, 1.0);
            assert!(largest <= bound * (1.0 + 1e-14), "{mode}: {largest} {bound}");
            // For modes above the rest the bound is attained.
            assert!(mode < 1.0 || largest >= bound * (1.0 - 1e-14), "{mode}: {largest} {bound}");
        }
    }

    #[test]
    fn products_with_blocks_are_anticommutators() {
        let cone = Cone { samples: 2, outputs: 2 };
        let blocks = [2.0, 1.0, 1.0, 3.0, 0.0, -1.0, -1.0, 5.0];
        let tuple = [1.0, 4.0, 4.0, -2.0, 7.0, 0.5, 0.5, 1.0];
        // (D_iQ_i + Q_iD_i)/2, by hand.
        let expected = [6.0, 9.5, 9.5, -2.0, -0.5, -2.75, -2.75, 4.5];
        let vector = coordinates(cone, &tuple);
        let mut out = vec![0.0; vector.len()];
        add_block_products(cone, &blocks, 2.0, &vector, &mut out, Parallelism::Rayon);
        for (found, expected) in out.iter().zip(coordinates(cone, &expected)) {
            // Sums of four products of coordinates, each rounded.
            let tolerance = 16.0 * f64::EPSILON * expected.abs();
            assert!((found - 2.0 * expected).abs() <= tolerance, "{out:?}");
        }
    }
}
