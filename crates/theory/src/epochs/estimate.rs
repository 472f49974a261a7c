//! The growth of second moments over random epochs, by populations that are resampled.
//!
//! A population of states takes random epochs. After each one it is resampled in proportion to the
//! growth of the states, so that the rare epochs that dominate the mean square stay represented. The
//! product of the mean growths of the epochs is an unbiased estimate of the growth of second
//! moments; independent populations give its error.

use faer::Mat;
use flatmin_linalg::{Stream, simd, stream};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_distr::{Distribution as _, StandardNormal};

use super::step::{Coefficients, Epoch, Step};
use super::{EpochEdge, EpochOptions, SCAN, scan};
use crate::ThresholdError;

/// The confidence of the interval.
const CONFIDENCE: f64 = 0.95;

/// The growth is measured at this number of learning rates around the edge.
const NODES: u64 = 7;

/// The logarithm of the ratio of the outermost learning rate to the middle one, at first.
const MAX_SPAN: f64 = 0.05;

/// The least such logarithm.
const MIN_SPAN: f64 = 2e-3;

/// The final span as a multiple of half the interval.
const SPAN_SHARE: f64 = 4.0;

/// The largest number of times that the learning rates are moved to the edge.
const MAX_ROUNDS: u64 = 12;

/// Epochs before the growth counts, as a multiple of those after.
const BURN_IN: usize = 3;

/// Populations at one minimum.
pub(super) struct Populations<'a> {
    epoch: &'a Epoch<'a>,
    step: &'a Step,
    options: EpochOptions,
    /// A root of the second moments that populations start from.
    root: &'a Mat<f64>,
    /// True for independent batches of the same sizes, whose edge is known.
    is_control: bool,
}

/// The mean logarithm of the growth per epoch, and its standard error.
#[derive(Debug, Clone, Copy)]
struct Growth {
    log: f64,
    standard_error: f64,
}

/// The edge relative to the middle learning rate: the logarithm of their ratio.
#[derive(Debug, Clone, Copy)]
struct Fit {
    root: f64,
    standard_error: f64,
}

/// States side by side, with room for a step.
struct Population<'a> {
    states: Vec<Vec<f64>>,
    order: Vec<usize>,
    force: Vec<f64>,
    rows: Vec<&'a [f64]>,
    is_control: bool,
}

impl<'a> Populations<'a> {
    pub(super) fn new(
        epoch: &'a Epoch<'a>,
        step: &'a Step,
        options: EpochOptions,
        root: &'a Mat<f64>,
    ) -> Self {
        Self { epoch, step, options, root, is_control: false }
    }

    /// These populations in other epochs.
    pub(super) fn with_epoch<'b>(&self, epoch: &'b Epoch<'b>) -> Populations<'b>
    where
        'a: 'b,
    {
        let Self { step, options, root, is_control, .. } = *self;
        Populations { epoch, step, options, root, is_control }
    }

    /// These populations with independent batches, whose edge is known: what the estimate misses
    /// there, it may miss in epochs too.
    pub(super) fn control(self) -> Self {
        Self { is_control: true, ..self }
    }

    /// The first unstable learning rate from `start` on.
    pub(super) fn edge(&self, start: f64) -> Result<EpochEdge, ThresholdError> {
        let few = EpochOptions {
            populations: (self.options.populations / 2).max(4),
            epochs: (self.options.epochs / 2).max(1),
            ..self.options
        };
        let scout = Self { options: few, ..*self };
        let (stable, unstable) = scan(start, |rate| {
            let growth = scout.growth(rate, 0);
            growth.log > 2.0 * growth.standard_error
        })?;
        let mut rate = (stable * unstable).sqrt();
        let mut span = MAX_SPAN;
        for round in 0..MAX_ROUNDS {
            let fit = self.fit(rate, span, round);
            if !fit.root.is_finite() {
                break;
            }
            let shift = fit.root.clamp(-2.0 * span, 2.0 * span);
            rate *= libm::exp(shift);
            let half_width = self.quantile() * fit.standard_error;
            // A narrow span makes a parabola of any curve; the error of the root does not grow
            // before the span comes close to it.
            let wanted = (SPAN_SHARE * half_width).clamp(MIN_SPAN, MAX_SPAN);
            let is_centred = shift.abs() <= 0.5 * span;
            if is_centred && span <= 1.5 * wanted {
                let (lower, upper) = (rate * libm::exp(-half_width), rate * libm::exp(half_width));
                let confidence = Some(CONFIDENCE);
                return Ok(EpochEdge { lower, upper, estimate: rate, confidence });
            }
            if is_centred {
                span = wanted;
            }
        }
        // Flat directions hide the one that begins to grow, so that no parabola fits: what the scan
        // saw, and a step to either side.
        let (lower, upper) = (stable / SCAN, unstable * SCAN);
        let estimate = (stable * unstable).sqrt();
        Ok(EpochEdge { lower, upper, estimate, confidence: Some(CONFIDENCE) })
    }

    /// Fits a parabola to the growths around a learning rate, each with random numbers of its own,
    /// and finds its root.
    fn fit(&self, rate: f64, span: f64, round: u64) -> Fit {
        let growths: Vec<(f64, Growth)> = (0..NODES)
            .map(|node| {
                let x = span * (2.0 * node as f64 / (NODES - 1) as f64 - 1.0);
                let seed = 1 + round * NODES + node;
                (x, self.growth(rate * libm::exp(x), seed))
            })
            .collect();
        // Least squares of a + bx + cx² at symmetric nodes: b separates from a and c.
        let moment = |power: i32| growths.iter().map(|(x, _)| x.powi(power)).sum::<f64>();
        let (count, second, fourth) = (NODES as f64, moment(2), moment(4));
        let determinant = count * fourth - second * second;
        let weights = |x: f64| {
            let square = x * x;
            [
                (fourth - second * square) / determinant,
                x / second,
                (count * square - second) / determinant,
            ]
        };
        let mut coefficients = [0.0; 3];
        for (x, growth) in &growths {
            for (coefficient, weight) in coefficients.iter_mut().zip(weights(*x)) {
                *coefficient += weight * growth.log;
            }
        }
        let [a, b, c] = coefficients;
        // The root next to 0; that of the line if the parabola has none.
        let discriminant = b * b - 4.0 * a * c;
        let root = if b > 0.0 && discriminant > 0.0 {
            -2.0 * a / (b + discriminant.sqrt())
        } else {
            -a / b
        };
        let slope = 2.0_f64.mul_add(c * root, b);
        let variance: f64 = growths
            .iter()
            .map(|(x, growth)| {
                let [a, b, c] = weights(*x);
                ((a + b * root + c * root * root) * growth.standard_error).powi(2)
            })
            .sum();
        Fit { root, standard_error: variance.sqrt() / slope.abs() }
    }

    /// The growth at a learning rate: the logarithm of the mean of the populations' products, with
    /// the bias of the logarithm taken off by the jackknife.
    fn growth(&self, rate: f64, repetition: u64) -> Growth {
        let coefficients = self.step.coefficients(rate);
        let count = self.options.populations;
        let first = repetition * count as u64;
        let indices: Vec<u64> = (first..first + count as u64).collect();
        let logs: Vec<f64> =
            self.options.parallelism.map(indices, |index| self.population(&coefficients, index));
        let largest = logs.iter().fold(f64::NEG_INFINITY, |m, log| m.max(*log));
        if !largest.is_finite() {
            return Growth { log: largest, standard_error: 0.0 };
        }
        let shares: Vec<f64> = logs.iter().map(|log| libm::exp(log - largest)).collect();
        let total: f64 = shares.iter().sum();
        let n = count as f64;
        let whole = libm::log(total / n);
        let without: Vec<f64> =
            shares.iter().map(|share| libm::log((total - share) / (n - 1.0))).collect();
        let mean = without.iter().sum::<f64>() / n;
        let spread: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
        let epochs = self.options.epochs as f64;
        Growth {
            log: (largest + n * whole - (n - 1.0) * mean) / epochs,
            standard_error: ((n - 1.0) / n * spread).sqrt() / epochs,
        }
    }

    /// The logarithm of the product of the mean growths of one population.
    fn population(&self, coefficients: &Coefficients, index: u64) -> f64 {
        let mut rng = stream(self.options.seed, "reshuffled epochs", index);
        let rank = self.epoch.rank();
        let mut population = Population {
            states: Vec::new(),
            order: (0..self.epoch.samples).collect(),
            force: vec![0.0; rank],
            rows: Vec::new(),
            is_control: self.is_control,
        };
        for _ in 0..self.options.states {
            let mut state = vec![0.0; rank];
            for column in 0..rank {
                let weight = StandardNormal.sample(&mut rng);
                simd::axpy(weight, self.root.col_as_slice(column), &mut state);
            }
            state.resize(rank * self.step.parts, 0.0);
            population.states.push(state);
        }
        population.normalise();
        let burn_in = BURN_IN * self.options.epochs;
        let mut log = 0.0;
        for epoch in 0..burn_in + self.options.epochs {
            let growth = population.advance(self.epoch, coefficients, &mut rng);
            if !(growth.is_finite() && growth > 0.0) {
                return if growth > 0.0 { f64::INFINITY } else { f64::NEG_INFINITY };
            }
            if epoch >= burn_in {
                log += libm::log(growth);
            }
        }
        log
    }

    /// The quantile of Student's distribution for the confidence, by its expansion in 1/degrees.
    fn quantile(&self) -> f64 {
        let (z, degrees) =
            (1.959_963_984_540_054_f64, NODES as f64 * (self.options.populations - 1) as f64);
        let (cube, fifth) = (z.powi(3), z.powi(5));
        z + (cube + z) / (4.0 * degrees)
            + (5.0 * fifth + 16.0 * cube + 3.0 * z) / (96.0 * degrees * degrees)
    }
}

impl<'a> Population<'a> {
    /// Takes an epoch with every state, each in its own order, and resamples. Returns the mean
    /// growth of the squared norm.
    fn advance(&mut self, epoch: &Epoch<'a>, coefficients: &Coefficients, rng: &mut Stream) -> f64 {
        let mut growths = Vec::with_capacity(self.states.len());
        for state in &mut self.states {
            if !self.is_control {
                self.order.shuffle(rng);
            }
            let mut first = 0;
            for &size in &epoch.sizes {
                let batch = if self.is_control {
                    self.order.partial_shuffle(rng, size).0
                } else {
                    &mut self.order[first..first + size]
                };
                self.rows.clear();
                for &mut sample in batch {
                    self.rows.extend(epoch.rows_of(sample));
                }
                coefficients.apply(&self.rows, size, state, &mut self.force);
                first += size;
            }
            growths.push(simd::norm_squared(state));
        }
        let mean = growths.iter().sum::<f64>() / growths.len() as f64;
        self.resample(&growths, mean, rng.random());
        mean
    }

    /// Keeps each state in proportion to its growth: one uniform number places a grid on the sums.
    fn resample(&mut self, growths: &[f64], mean: f64, offset: f64) {
        let mut chosen = Vec::with_capacity(self.states.len());
        let mut sum = 0.0;
        for (state, growth) in growths.iter().enumerate() {
            sum += growth / mean;
            while chosen.len() < growths.len() && chosen.len() as f64 + offset < sum {
                chosen.push(state);
            }
        }
        // Rounding may leave out the last place.
        chosen.resize(growths.len(), growths.len() - 1);
        self.states = chosen.into_iter().map(|state| self.states[state].clone()).collect();
        self.normalise();
    }

    fn normalise(&mut self) {
        for state in &mut self.states {
            let norm = simd::norm_squared(state).sqrt();
            if norm > 0.0 {
                for value in state.iter_mut() {
                    *value /= norm;
                }
            }
        }
    }
}
