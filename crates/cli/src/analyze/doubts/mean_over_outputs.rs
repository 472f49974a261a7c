//! A kernel with a row for each sample that is read as one with a row for each output.

use flatmin_host::significant;

use super::facts::{Doubt, Facts};
use super::products::Cosines;

/// Products of different outputs as large as this are those of samples.
const LARGE: f64 = 0.25;

/// Rows of different outputs of 40 networks had a mean squared cosine of at most 0.3 of that of one
/// output, apart from networks with two outputs that are alike. For a mean it is about 1.
const MIXED: f64 = 0.5;

/// The kernels of two outputs are correlated by 0.74 or more, and groups of samples by no more than
/// chance.
const UNLIKE: f64 = 0.5;

/// The least number of samples whose pairs are enough for a correlation.
const FEWEST: usize = 4;

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let reading = &facts.evidence.reading;
    let products = &facts.evidence.products;
    let Cosines { same, different, errors } = products.cosines?;
    let rows = reading.samples * reading.outputs;
    let is_matrix = reading.is_gram && reading.shape.len() == 2;
    if !is_matrix || reading.are_samples_known || rows < 12 {
        return None;
    }
    let is_mixed = products.arrangements.is_some_and(|found| {
        let [by_sample, by_output] = found;
        let is_unlike = reading.samples < FEWEST || by_sample.alike < UNLIKE;
        is_unlike && by_sample.contrast >= MIXED && by_output.contrast >= MIXED
    });
    // The rows of one output share its last layer. With two outputs chance
    // alone makes most of the difference.
    let is_alike = match reading.outputs {
        2 => same <= different,
        _ => errors < 2.0 && same < 1.25 * different,
    };
    (is_mixed || different >= LARGE && is_alike).then(|| {
        let k = reading.outputs;
        let text = format!(
            "read as {} samples × {k} outputs, rows of different outputs are as parallel (mean \
             |cosine| {}) as those of one output ({}): is this the mean over outputs, with a row for \
             each of {rows} samples? That does not determine the threshold: take trace_axes=() in \
             neural-tangents and pass n × n × k × k, or say --samples",
            reading.samples,
            significant(different, 2),
            significant(same, 2)
        );
        Doubt { kind: "mean_over_outputs", text }
    })
}
