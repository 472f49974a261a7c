//! The batches of a run: the samples that each step uses.

use flatmin_linalg::Stream;
use rand::Rng;

use crate::kernel::{Kernel, Samples, Segment, Update};
use crate::order::BatchOrder;
use crate::sampling::{BatchSampler, SamplerState, Sampling};
use crate::settings::{Method, TrainError, TrainOptions};

/// Largest number of samples in a piece of a run, unless a single step has more.
const PIECE_SAMPLES: usize = 1 << 16;

/// The source of the samples of a step.
enum Source<'a, R> {
    /// Every step uses all samples: gradient descent.
    All,
    /// The sampler draws each batch at random.
    Drawn { sampler: BatchSampler, rng: R },
    /// The caller has given all batches in advance.
    Given(&'a BatchOrder),
}

/// Provides the batches of a run, and runs the steps on them.
pub(crate) struct Batches<'a, R> {
    options: &'a TrainOptions,
    source: Source<'a, R>,
    batch_size: usize,
    /// Number of steps in an epoch.
    pub(crate) epoch: u64,
    /// Largest number of steps in a piece.
    pub(crate) piece: u64,
    order: Vec<u32>,
    /// The ends of the batches in `order`.
    ends: Vec<usize>,
    learning_rates: Vec<f64>,
}

impl<'a, R: Rng> Batches<'a, R> {
    /// Batches drawn from `rng`, with the batch size and the sampling of the options.
    pub(crate) fn drawn(
        options: &'a TrainOptions,
        sample_count: usize,
        rng: R,
    ) -> Result<Self, TrainError> {
        let batch_size = options.method.batch_size(sample_count);
        let source = match options.method {
            Method::GradientDescent => Source::All,
            Method::Sgd { sampling, .. } => {
                let sampler = BatchSampler::new(sampling, batch_size, sample_count)?;
                Source::Drawn { sampler, rng }
            }
        };
        Ok(Self::new(options, source, batch_size, sample_count))
    }

    /// Batches given by `order`, which must fit the options and the data.
    pub(crate) fn given(
        options: &'a TrainOptions,
        sample_count: usize,
        order: &'a BatchOrder,
    ) -> Result<Self, TrainError> {
        let batch_size = options.method.batch_size(sample_count);
        let (size, samples) = (order.batch_size() as u64, order.sample_count() as u64);
        let steps = order.steps().min(options.max_steps);
        for (what, order, expected) in [
            ("a batch size of", size, batch_size as u64),
            ("indices into a number of samples of", samples, sample_count as u64),
            ("a number of steps of", steps, options.max_steps),
        ] {
            if order != expected {
                return Err(TrainError::Order { what, order, expected });
            }
        }
        Ok(Self::new(options, Source::Given(order), batch_size, sample_count))
    }

    fn new(
        options: &'a TrainOptions,
        source: Source<'a, R>,
        batch_size: usize,
        sample_count: usize,
    ) -> Self {
        let epoch = sample_count.div_ceil(batch_size) as u64;
        let piece = (PIECE_SAMPLES / batch_size).max(1) as u64;
        let (order, ends, learning_rates) = (Vec::new(), Vec::new(), Vec::new());
        Self { options, source, batch_size, epoch, piece, order, ends, learning_rates }
    }

    /// True if the number of samples in a batch is random, with the batch size as its mean.
    fn is_poisson(&self) -> bool {
        match &self.source {
            Source::All => false,
            Source::Drawn { sampler, .. } => sampler.sampling() == Sampling::Poisson,
            Source::Given(order) => order.is_drawn(),
        }
    }

    /// Runs the steps `start..end`.
    pub(crate) fn run(&mut self, kernel: &mut dyn Kernel, start: u64, end: u64) -> Segment {
        let (options, is_poisson) = (self.options, self.is_poisson());
        self.order.clear();
        self.ends.clear();
        self.learning_rates.clear();
        for step in start..end {
            let factor = options.schedule.factor(step, options.max_steps);
            self.learning_rates.push(options.learning_rate * factor);
            match &mut self.source {
                Source::All => {}
                Source::Drawn { sampler, rng } => sampler.draw(rng, &mut self.order),
                Source::Given(order) => self.order.extend_from_slice(order.batch(step)),
            }
            self.ends.push(self.order.len());
        }
        let clip_norm = options.clip_norm;
        let full = matches!(self.source, Source::All);
        if !full && !is_poisson && self.batch_size == 1 {
            return kernel.single_steps(&self.order, &self.learning_rates, clip_norm);
        }
        let (mut segment, mut start) = (Segment::default(), 0);
        for (&learning_rate, &end) in self.learning_rates.iter().zip(&self.ends) {
            let batch = &self.order[start..end];
            let samples = match (full, is_poisson) {
                (true, _) => Samples::All,
                (_, true) => Samples::Drawn { batch, batch_size: self.batch_size },
                (_, false) => Samples::Batch(batch),
            };
            segment.add(kernel.step(samples, Update { learning_rate, clip_norm }));
            start = end;
        }
        segment
    }
}

impl Batches<'_, Stream> {
    /// The state of the sampler, and the position in the stream in words of 32 bits.
    pub(crate) fn state(&self) -> (SamplerState, u128) {
        match &self.source {
            Source::Drawn { sampler, rng } => (sampler.state().clone(), rng.get_word_pos()),
            Source::All | Source::Given(_) => (SamplerState::default(), 0),
        }
    }

    /// Resumes from a state. Returns `false` and changes nothing if the state does not fit this
    /// run.
    #[must_use]
    pub(crate) fn restore(&mut self, state: &SamplerState, stream_position: u128) -> bool {
        let Source::Drawn { sampler, rng } = &mut self.source else { return true };
        let fits = sampler.restore(state);
        if fits {
            rng.set_word_pos(stream_position);
        }
        fits
    }
}
