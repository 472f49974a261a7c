//! Thresholds of random parts of the samples.

use flatmin_host::Progress;
use flatmin_linalg::{PowerOfTwo, RowMatrix, stream};
use flatmin_models::data::SampleSplit;
use flatmin_theory::{Minimum, MinimumError, Sampling};
use serde::Serialize;

use super::arguments::AnalyzeArguments;
use crate::edge::Question;
use crate::failure::Failure;
use crate::words::Number;

/// The purpose of the random streams, one for each draw.
const SUBSET_STREAM: &str = "analyze subsets";

/// The parts of all samples that are drawn, as divisors.
const DIVISORS: [usize; 4] = [16, 8, 4, 2];

/// The accuracy of the threshold of a part: its spread is far larger.
const RELATIVE_WIDTH: f64 = 1e-6;

/// The thresholds of parts of one size.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SubsetReport {
    pub(super) samples: usize,
    draws: usize,
    pub(super) mean: Number,
    pub(super) least: Number,
    pub(super) greatest: Number,
}

/// Checks the options before anything is read.
pub(super) fn check(arguments: &AnalyzeArguments) -> Result<(), Failure> {
    let is_reshuffled = arguments.batches.sampling() == Sampling::Reshuffling;
    if arguments.subsets.is_some() && is_reshuffled {
        let text = "--subsets is about independent batches: leave --sampling reshuffling out";
        return Err(Failure::Usage(text.to_owned()));
    }
    Ok(())
}

/// The thresholds for the parts of all sizes, the smallest first, at one batch size.
pub(super) fn subsets(
    arguments: &AnalyzeArguments,
    whole: Question<'_>,
    batch_size: usize,
) -> Result<Vec<SubsetReport>, Failure> {
    let Some(draws) = arguments.subsets else { return Ok(Vec::new()) };
    let minimum = whole.minimum;
    let batch = arguments.batches.of_size(batch_size).map_err(Failure::at(&arguments.file))?;
    let n = minimum.sample_count();
    let sizes = DIVISORS.map(|divisor| n / divisor);
    let sizes = sizes.into_iter().filter(|size| *size > 0 && batch.noise(*size).is_ok());
    let progress = Progress::steps("thresholds of parts of the samples", 4 * draws as u64);
    let of_size = |size: usize| {
        let mut found = Vec::with_capacity(draws);
        for draw in 0..draws {
            let mut rng = stream(size as u64, SUBSET_STREAM, draw as u64);
            let split =
                SampleSplit::draw(n, size, 0, &mut rng).map_err(Failure::at(&arguments.file))?;
            let (part, unit) =
                part(minimum, &split.training).map_err(Failure::at(&arguments.file))?;
            let edge = Question { minimum: &part, ..whole }
                .edge(&batch, RELATIVE_WIDTH)
                .map_err(Failure::at(&arguments.file))?;
            found.push(unit.squared().inverse().times(edge.estimate));
            progress.advance(1);
        }
        Ok(SubsetReport {
            samples: size,
            draws,
            mean: Number(found.iter().sum::<f64>() / draws as f64),
            least: Number(found.iter().copied().fold(f64::INFINITY, f64::min)),
            greatest: Number(found.iter().copied().fold(0.0, f64::max)),
        })
    };
    sizes.map(of_size).collect()
}

/// The minimum of some whole samples, in the basis of the eigenvectors of all, and the power of two
/// that its Jacobian was divided by.
fn part(minimum: &Minimum, samples: &[usize]) -> Result<(Minimum, PowerOfTwo), MinimumError> {
    let k = minimum.output_count();
    let (exponent, _, rows) = minimum.scaled();
    let row = |i: usize| rows.row(samples[i / k] * k + i % k);
    let part = RowMatrix::from_fn(samples.len() * k, rows.columns(), |i, j| row(i)[j]);
    Ok((Minimum::with_outputs(&part, k)?, PowerOfTwo::new(exponent)))
}
