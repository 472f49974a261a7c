//! The two ends of a bracket and its estimate, from a subspace (S20).
//!
//! Everything is in terms of μ = 2/η for the scaled Jacobian. A lower bound on μ* is an upper end
//! for η*.

use flatmin_linalg::{Parallelism, simd, stream};

use super::conditions::heaviest_sample;
use super::counted::CountedGram;
use super::error::BracketError;
use super::leading::{Choice, LeadingPart, LowerPart, choose, lower_part, upper_part};
use super::operator::{FallingMap as _, LeadingMap, Rest, UpperMap, coordinates, quotient_root};
use super::options::BracketOptions;
use super::probable::{BoundOptions, probable_bound};
use super::subspace::{RitzPairs, Subspace, Tail};
use crate::threshold::{Cone, PerronOperator, Response};
use crate::{Noise, Optimizer};

/// The purpose of the random streams, one for each bound.
const CERTIFICATE_STREAM: &str = "threshold bracket certificate";

/// The most Lanczos steps of a bound, and the fewest.
const MAX_STEPS: usize = 60;
const MIN_STEPS: usize = 16;

/// The vectors of the bound on the rest of the spectrum, and the most steps with them. Each step is
/// one product with all of them, so that a file is read once for four vectors.
const TAIL_VECTORS: usize = 4;
const TAIL_STEPS: usize = 20;

/// The most products with J and its transpose that the bound on the rest of the spectrum takes.
pub(super) const CERTIFICATE_PRODUCTS: usize = 2 * TAIL_VECTORS * TAIL_STEPS;

/// The relative distance from the Ritz value at which the bound on the rest of the spectrum is good
/// enough.
const TAIL_TOLERANCE: f64 = 0.15;

/// A rest of the trace, relative to all of it, that is too small to matter; and the rounding of it.
const NEGLIGIBLE_REST: f64 = 1e-8;
const ROUNDING: f64 = 1e-13;

/// An eigenvalue relative to the largest one that stands for all that are left out.
const SMALL: f64 = 1e-9;

/// What is measured: the optimizer and the noise of the batches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem {
    pub(super) optimizer: Optimizer,
    pub(super) noise: Noise,
}

impl Problem {
    /// P of the closed form, and κ and ζ for SGD and heavy-ball momentum.
    pub(super) fn law(&self) -> (f64, Option<(f64, f64)>) {
        let response = Response::new(&[1.0], self.noise, &self.optimizer);
        let law = response.heavy_ball().map(|law| (law.curvature, law.coupling));
        (response.noise, law)
    }

    /// The least μ at which gradient descent is stable for this `λ_max`.
    pub(super) fn descent_limit(&self, lambda_max: f64) -> f64 {
        let still = Noise { coefficient: 0.0, mean_deficit: 0.0 };
        let values = [lambda_max];
        Response::new(&values, still, &self.optimizer).descent_limit()
    }
}

/// What a subspace says about μ*.
pub(super) struct Measured {
    /// A lower bound on μ*.
    pub(super) lower: f64,
    pub(super) estimate: f64,
    /// An upper bound on μ*; certified if so asked.
    pub(super) upper: f64,
    /// An upper bound on the μ of the contraction bound.
    pub(super) contraction: f64,
    /// An upper bound on `λ_max`.
    pub(super) lambda_max: f64,
    pub(super) rest_of_trace: f64,
    pub(super) rest_of_heaviest: f64,
    /// The number of modes in the upper bound.
    pub(super) modes: usize,
    /// The probability that the upper bound is wrong.
    pub(super) failure: f64,
}

/// The work on the ends of one subspace.
pub(super) struct Measurement<'a, 'b> {
    pub(super) space: &'a mut Subspace,
    pub(super) gram: &'a mut CountedGram<'b>,
    pub(super) problem: Problem,
    pub(super) options: &'a BracketOptions,
    /// The probability that each bound of this round may fail with; `None` for a round without
    /// certificate.
    pub(super) failure: Option<f64>,
    /// A tuple that the search starts from, and the one for the next round.
    pub(super) start: &'a mut Option<Vec<f64>>,
}

impl Measurement<'_, '_> {
    fn cone(&self) -> Cone {
        Cone { samples: self.gram.samples(), outputs: self.gram.outputs() }
    }

    fn parallelism(&self) -> Parallelism {
        self.options.parallelism
    }

    /// Both ends and the estimate. The space must not be empty, and there must be noise.
    pub(super) fn run(&mut self) -> Result<Measured, BracketError> {
        let pairs = self.space.ritz_pairs()?;
        let choice = choose(&pairs, self.gram.trace())?;
        let tail = self.tail(&pairs, &choice)?;
        let cone = self.cone();
        let lower = lower_part(self.space, &pairs, self.gram, self.parallelism())?;
        let rest_of_trace = lower.part.rest_trace(cone.outputs);
        let rest_of_heaviest = lower.part.heaviest_rest(self.gram);
        let (below, vector) = self.bound_from_below(&lower, rest_of_trace.min(tail.bound))?;
        let (estimate, vector) = self.estimate(&lower.part, vector)?;
        *self.start = Some(vector.clone());
        drop(lower);
        let upper = upper_part(self.space, &pairs, &choice, self.gram, self.parallelism());
        // The largest eigenvalue is at most the trace.
        let bound = (tail.bound + choice.added).min(upper.rest_trace(cone.outputs));
        let lambda_max = upper.eigenvalues.last().copied().unwrap_or(0.0).max(bound);
        let failures = if self.failure.is_some() { 2.0 } else { 0.0 };
        let failure = tail.failure + failures * self.failure.unwrap_or(0.0);
        let contraction = self.contraction(&upper, bound)?;
        let above = self.bound_from_above(&upper, bound, vector)?.min(contraction);
        Ok(Measured {
            lower: below,
            estimate,
            upper: above,
            contraction,
            lambda_max,
            rest_of_trace,
            rest_of_heaviest,
            modes: choice.modes,
            failure,
        })
    }

    /// The same without noise, where only the largest eigenvalue matters.
    pub(super) fn run_without_noise(&mut self) -> Result<Measured, BracketError> {
        let pairs = self.space.ritz_pairs()?;
        // One mode and what its residual adds.
        let choice = choose(&pairs, self.gram.trace())?;
        let tail = self.tail(&pairs, &choice)?;
        let raised = pairs.values.iter().zip(&choice.raised).map(|(value, more)| value + more);
        let trace = self.gram.trace();
        let lambda_max = raised.fold(tail.bound + choice.added, f64::max).min(trace);
        // The products with the last block are in this matrix, and not in the Ritz values.
        let part = lower_part(self.space, &pairs, self.gram, self.parallelism())?.part;
        let top = part.eigenvalues.last().copied().unwrap_or(0.0);
        let lower = self.problem.descent_limit(top);
        let upper = self.problem.descent_limit(lambda_max);
        Ok(Measured {
            lower,
            estimate: lower,
            upper,
            contraction: upper,
            lambda_max,
            rest_of_trace: part.rest_trace(self.gram.outputs()).max(0.0),
            rest_of_heaviest: part.heaviest_rest(self.gram),
            modes: choice.modes,
            failure: tail.failure,
        })
    }

    /// A bound on the largest eigenvalue of K on the complement of the chosen Ritz vectors; a
    /// guess without a certificate.
    fn tail(&mut self, pairs: &RitzPairs, choice: &Choice) -> Result<Tail, BracketError> {
        let modes = choice.modes;
        let following = pairs.values.get(modes).copied().unwrap_or(0.0).max(0.0);
        if self.space.is_full() {
            // Every direction is in the space.
            return Ok(Tail { modes, bound: following, failure: 0.0 });
        }
        // The trace of the rest is a bound that needs no products.
        let trace = self.gram.trace();
        let rest = trace - pairs.values[..modes].iter().sum::<f64>();
        if rest <= NEGLIGIBLE_REST * trace {
            let bound = rest.max(0.0) + ROUNDING * trace;
            return Ok(Tail { modes, bound, failure: 0.0 });
        }
        let known = self.space.tail.filter(|tail| tail.modes == modes);
        match (known, self.failure) {
            (Some(tail), _) => Ok(tail),
            (None, None) => {
                let bound = self.space.optimism * guessed_tail(pairs, modes);
                Ok(Tail { modes, bound, failure: 0.0 })
            }
            (None, Some(failure)) => {
                let bound = self.bound_tail(pairs, modes, failure)?;
                let guess = guessed_tail(pairs, modes);
                if guess > 0.0 && bound.is_finite() {
                    self.space.optimism = (bound / guess).max(1.0);
                }
                let tail = Tail { modes, bound, failure };
                self.space.tail = Some(tail);
                Ok(tail)
            }
        }
    }

    fn bound_tail(
        &mut self,
        pairs: &RitzPairs,
        modes: usize,
        failure: f64,
    ) -> Result<f64, BracketError> {
        let rows = self.gram.rows();
        let affordable = |vectors: usize, most: usize| {
            (0..=most).rev().find(|steps| self.gram.affords(steps * vectors)).unwrap_or(0)
        };
        let (vectors, max_steps) = match affordable(TAIL_VECTORS, TAIL_STEPS) {
            steps if steps >= MIN_STEPS => (TAIL_VECTORS, steps),
            _ => (1, affordable(1, MAX_STEPS)),
        };
        if max_steps == 0 {
            return Ok(f64::INFINITY);
        }
        let mut rng = stream(self.options.seed, CERTIFICATE_STREAM, self.space.draws);
        self.space.draws = self.space.draws.wrapping_add(1);
        let kept = pairs.rotation.subcols(0, modes).to_owned();
        let (space, gram, parallelism) = (&*self.space, &mut *self.gram, self.options.parallelism);
        let project = |block: &mut [f64]| {
            for _ in 0..2 {
                let columns = faer::MatRef::from_column_major_slice(&*block, rows, vectors);
                let inner = space.basis().transposed_times(columns, parallelism);
                let inner = flatmin_linalg::product(kept.transpose(), inner.as_ref());
                let inner = flatmin_linalg::product(kept.as_ref(), inner.as_ref());
                let columns = faer::MatMut::from_column_major_slice_mut(block, rows, vectors);
                space.basis().subtract_from(columns, inner.as_ref(), parallelism);
            }
        };
        let before = gram.products;
        let options = BoundOptions {
            dimension: rows - modes,
            vectors,
            failure,
            tolerance: TAIL_TOLERANCE,
            max_steps,
        };
        let len = rows * vectors;
        let bound = probable_bound(len, &options, &mut rng, project, |block, images| {
            let block = faer::MatRef::from_column_major_slice(block, rows, vectors);
            let product = gram.multiply(block)?;
            for (image, column) in images.chunks_mut(rows).zip(product.col_iter()) {
                image.iter_mut().zip(column.iter()).for_each(|(to, from)| *to = *from);
            }
            project(images);
            Ok::<(), BracketError>(())
        })?;
        let spent = self.gram.products - before;
        self.space.products = self.space.products.saturating_add(spent);
        Ok(bound.upper.max(0.0))
    }

    fn response<'c>(&self, eigenvalues: &'c [f64]) -> Response<'c> {
        Response::new(eigenvalues, self.problem.noise, &self.problem.optimizer)
    }

    fn operator<'c>(&self, part: &'c LeadingPart) -> PerronOperator<'c> {
        let response = self.response(&part.eigenvalues);
        PerronOperator::new(response, &part.rows, self.gram.outputs(), self.parallelism())
    }

    /// The accuracy of the root of a quotient, relative to what is asked for.
    fn accuracy(&self) -> f64 {
        (0.02 * self.options.relative_width).sqrt().clamp(1e-5, 1e-2)
    }

    /// A lower bound on μ*, by a projection of the parameters.
    fn bound_from_below(
        &self,
        lower: &LowerPart,
        tail: f64,
    ) -> Result<(f64, Vec<f64>), BracketError> {
        let cone = self.cone();
        let operator = self.operator(&lower.part);
        let (_, law) = self.problem.law();
        let rest_trace = lower.part.rest_trace(cone.outputs);
        let negligible = 1e-12 * self.gram.trace();
        let is_plain = law.is_some_and(|(_, coupling)| coupling <= 0.0);
        let rest = if is_plain && rest_trace > negligible {
            Rest::Projection(coordinates(cone, &lower.part.remainder), rest_trace)
        } else {
            Rest::Nothing
        };
        let mut map = LeadingMap::new(operator, rest, self.parallelism());
        let start = self.start.clone().unwrap_or_else(|| cone.unit());
        let (nu, vector) = quotient_root(&mut map, cone, start, self.accuracy())?;
        let coupling = law.map_or(0.0, |(_, coupling)| coupling);
        // The commutator of an inexact space with G adds to the ζ term.
        let leaked = if coupling > 0.0 { 2.0 * coupling * tail * lower.leak } else { 0.0 };
        let least =
            self.problem.descent_limit(lower.part.eigenvalues.last().copied().unwrap_or(0.0));
        Ok(((map.pole() + nu - leaked).max(least), vector))
    }

    /// The root with `P ρ_i²/μ` in place of all that the modes leave out.
    fn estimate(
        &self,
        part: &LeadingPart,
        start: Vec<f64>,
    ) -> Result<(f64, Vec<f64>), BracketError> {
        let cone = self.cone();
        let top = part.eigenvalues.last().copied().unwrap_or(0.0);
        let values = [SMALL * top, top];
        let rest = Rest::Blocks(&part.remainder, self.response(&values));
        let mut map = LeadingMap::new(self.operator(part), rest, self.parallelism());
        let (nu, vector) = quotient_root(&mut map, cone, start, self.accuracy())?;
        Ok((map.pole() + nu, vector))
    }

    /// An upper bound on μ* from the operator of S20; infinite for Nesterov momentum.
    fn bound_from_above(
        &mut self,
        part: &LeadingPart,
        tail: f64,
        start: Vec<f64>,
    ) -> Result<f64, BracketError> {
        let (_, Some((curvature, _))) = self.problem.law() else { return Ok(f64::INFINITY) };
        if part.eigenvalues.is_empty() || tail >= part.eigenvalues[part.eigenvalues.len() - 1] {
            return Ok(f64::INFINITY);
        }
        let (cone, accuracy) = (self.cone(), self.accuracy());
        let curvature = curvature.max(0.0);
        let parallelism = self.parallelism();
        let operator = self.operator(part);
        let mut map = UpperMap::new(operator, curvature, &part.remainder, tail, parallelism);
        let (nu, _) = quotient_root(&mut map, cone, start, accuracy)?;
        let mu = map.pole() + nu;
        let Some(failure) = self.failure else { return Ok(mu) };
        if nu <= 0.0 {
            return Ok(f64::INFINITY);
        }
        let coordinates = cone.unit().len();
        let options = BoundOptions {
            dimension: coordinates,
            vectors: 1,
            failure,
            tolerance: (0.05 * self.options.relative_width).clamp(1e-7, 1e-2),
            max_steps: MAX_STEPS,
        };
        let mut rng = stream(self.options.seed, CERTIFICATE_STREAM, self.space.draws);
        self.space.draws = self.space.draws.wrapping_add(1);
        map.prepare(nu);
        let bound = probable_bound(
            coordinates,
            &options,
            &mut rng,
            |_| {},
            |vector, image| {
                map.apply(nu, vector, image);
                Ok::<(), BracketError>(())
            },
        )?;
        // ρ(Φ(tμ)) ≤ ρ(Φ(μ))/t for t ≥ 1, and for every t if κ = 0.
        let factor = if curvature > 0.0 { bound.upper.max(1.0) } else { bound.upper };
        Ok(mu * factor)
    }

    /// An upper bound on `λ_max(κK + P diag(J_iJ_iᵀ))`, at most that of S7 (S19).
    fn contraction(&mut self, part: &LeadingPart, tail: f64) -> Result<f64, BracketError> {
        let (noise, law) = self.problem.law();
        let Some((curvature, _)) = law else { return Ok(f64::INFINITY) };
        let curvature = curvature.max(0.0);
        let heaviest = heaviest_sample(self.gram)?;
        let lambda_max = part.eigenvalues.last().copied().unwrap_or(0.0).max(tail);
        let sufficient = curvature * lambda_max + noise * heaviest;
        let Some(failure) = self.failure.filter(|_| curvature > 0.0) else {
            return Ok(sufficient);
        };
        let (rows, samples) = (self.gram.rows(), self.gram.samples() as f64);
        let k = self.gram.outputs();
        let mut rng = stream(self.options.seed, CERTIFICATE_STREAM, self.space.draws);
        self.space.draws = self.space.draws.wrapping_add(1);
        let options = BoundOptions {
            dimension: rows,
            vectors: 1,
            failure,
            tolerance: 1e-3,
            max_steps: MAX_STEPS,
        };
        // The modes' part is ĝ diag((λ_k − λ₊)/(nλ_k)) ĝᵀ, and λ₊ for the rest.
        let shares: Vec<f64> =
            part.eigenvalues.iter().map(|v| (v - tail).max(0.0) / v / samples).collect();
        let grams = &self.gram.grams;
        let parallelism = self.options.parallelism;
        let bound = probable_bound(
            rows,
            &options,
            &mut rng,
            |_| {},
            |vector, image| {
                let mut inner = vec![0.0; shares.len()];
                for (i, value) in vector.iter().enumerate() {
                    simd::axpy(*value, part.rows.row(i), &mut inner);
                }
                inner.iter_mut().zip(&shares).for_each(|(value, share)| *value *= share);
                parallelism.for_each_chunk(image, 1024 * k, |index, image| {
                    for (i, image) in image.chunks_mut(k).enumerate() {
                        let sample = index * 1024 + i;
                        let own = &vector[sample * k..][..k];
                        for (a, image) in image.iter_mut().enumerate() {
                            let modes = simd::dot(part.rows.row(sample * k + a), &inner);
                            let block = &grams[(sample * k + a) * k..][..k];
                            *image = curvature * (modes + tail * own[a])
                                + noise * block.iter().zip(own).map(|(d, v)| d * v).sum::<f64>();
                        }
                    }
                });
                Ok::<(), BracketError>(())
            },
        )?;
        Ok(bound.upper.min(sufficient))
    }
}

/// A guess of the largest eigenvalue of K on the complement of the first Ritz vectors.
///
/// It is at least `‖R_k‖²/θ_k` for each of them, since `‖PKu‖² ≤ (uᵀKu) λ_max(PKP)`.
fn guessed_tail(pairs: &RitzPairs, modes: usize) -> f64 {
    let following = pairs.values.get(modes).copied().unwrap_or(0.0).max(0.0);
    let last = pairs.values[..modes].last().copied().unwrap_or(0.0);
    let residual = pairs.residuals.get(modes).copied().unwrap_or(0.5 * last);
    let kept = pairs.values[..modes].iter().zip(&pairs.residuals);
    let least = kept
        .filter(|(value, _)| **value > 0.0)
        .map(|(value, residual)| residual * residual / value)
        .fold(0.0, f64::max);
    (following + residual).min(1.1 * last.max(following)).max(least)
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use flatmin_linalg::{DenseJacobian, Parallelism, RowMatrix};
    use serde_json::Value;

    use super::{Choice, Measurement, Problem, guessed_tail, lower_part, upper_part};
    use crate::bracket::counted::CountedGram;
    use crate::bracket::leading::largest_residual;
    use crate::bracket::options::BracketOptions;
    use crate::bracket::subspace::{RitzPairs, Subspace};
    use crate::{Batch, Optimizer};

    /// Every value is worked out by hand.
    #[test]
    fn what_modes_leave_out_is_guessed_from_the_next_one_and_the_residuals() {
        let pairs = |values: [f64; 3], residuals: [f64; 3]| RitzPairs {
            values: values.to_vec(),
            rotation: Mat::identity(3, 3),
            coupling: Mat::zeros(0, 3),
            residuals: residuals.to_vec(),
        };
        let check = |pairs: &RitzPairs, modes: usize, expected: f64| {
            let found = guessed_tail(pairs, modes);
            assert!((found - expected).abs() < 1e-14, "{modes} modes: {found} for {expected}");
        };
        // An eigenvalue lies within the residual of the first Ritz value that is left out.
        let small = pairs([4.0, 2.0, 1.0], [0.1, 0.2, 0.3]);
        check(&small, 1, 2.2);
        check(&small, 2, 1.3);
        // It is hardly larger than the last value kept,
        check(&pairs([4.0, 2.0, 1.0], [0.1, 0.2, 9.0]), 2, 2.2);
        // but at least the largest ‖R_k‖²/θ_k = 36/4.
        check(&pairs([4.0, 2.0, 1.0], [6.0, 2.0, 0.3]), 2, 9.0);
        // Where all are kept, half of the last one.
        check(&small, 3, 0.5);
    }

    fn numbers(value: &Value) -> Vec<f64> {
        match value {
            Value::Array(values) => values.iter().flat_map(numbers).collect(),
            value => vec![value.as_f64().unwrap()],
        }
    }

    fn count(value: &Value) -> usize {
        usize::try_from(value.as_u64().unwrap()).unwrap()
    }

    /// The values are dense ones of `tests/oracles/bracket.py`.
    #[test]
    fn the_three_roots_are_those_of_dense_operators() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracles/bracket.json");
        let text = std::fs::read_to_string(path).unwrap();
        let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let (n, k) = (count(&case["samples"]), count(&case["outputs"]));
            let values = numbers(&case["jacobian"]);
            let matrix = RowMatrix::new(n * k, values.len() / n / k, values).unwrap();
            let jacobian = DenseJacobian::new(&matrix, k, Parallelism::Sequential).unwrap();
            let mut gram = CountedGram::new(&jacobian, 0, usize::MAX).unwrap();
            let basis = numbers(&case["basis"]);
            let basis = Mat::from_fn(n * k, 6, |i, j| basis[j * n * k + i]);
            let mut space = Subspace::of(&basis, &mut gram);
            let pairs = space.ritz_pairs().unwrap();
            let sampling = case["sampling"].as_str().unwrap().parse().unwrap();
            let batch = Batch::new(count(&case["batch_size"]), sampling).unwrap();
            let noise = batch.noise(n).unwrap();
            let problem = Problem { optimizer: Optimizer::sgd(), noise };
            let options = BracketOptions { relative_width: 1e-9, ..BracketOptions::default() };
            let unit = gram.unit.squared();
            let scaled = |value: f64| unit.inverse().times(value);
            let raised: Vec<f64> = numbers(&case["raised"]).into_iter().map(scaled).collect();
            let added = largest_residual(&pairs, &raised).unwrap();
            let choice = Choice { modes: count(&case["kept"]), raised, added };
            let sequential = Parallelism::Sequential;
            let lower = lower_part(&space, &pairs, &gram, sequential).unwrap();
            let upper = upper_part(&space, &pairs, &choice, &gram, sequential);
            let tail = scaled(case["tail"].as_f64().unwrap()) + added;
            let (space, gram) = (&mut space, &mut gram);
            let (options, failure) = (&options, None);
            let start = &mut None;
            let mut measurement = Measurement { space, gram, problem, options, failure, start };
            let (below, vector) = measurement.bound_from_below(&lower, f64::INFINITY).unwrap();
            let (estimate, vector) = measurement.estimate(&lower.part, vector).unwrap();
            let above = measurement.bound_from_above(&upper, tail, vector).unwrap();
            for (name, found) in [("below", below), ("estimate", estimate), ("above", above)] {
                let (found, expected) = (unit.times(found), case[name].as_f64().unwrap());
                assert!((found / expected - 1.0).abs() < 1e-8, "{name}: {found} {expected}");
            }
        }
    }
}
