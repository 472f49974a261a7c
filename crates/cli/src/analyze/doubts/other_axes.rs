//! Axes in another order than they are read in.

use super::facts::{Doubt, Facts};

/// A single sample with so many outputs is rather one output of so many samples.
const MANY_OUTPUTS: usize = 5;

/// Fewest samples whose kernels are compared.
const FEWEST: usize = 3;

/// Rows of one sample may be so parallel, by the mean squared cosine relative to that of one output.
///
/// It was less than 2 for 98 % of 140 networks with more outputs than samples. Axes in the other
/// order give the inverse. The reading says the order of the axes where it is not clear.
const UNCLEAR: f64 = 2.0;

/// The number of outputs for each sample from which on a file is unusual. Exchanged axes are then
/// the likelier reason for rows of one sample that are as parallel as those of one output.
const UNUSUAL: usize = 4;

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let reading = &evidence.reading;
    let (samples, outputs) = (reading.samples, reading.outputs);
    if outputs < 2 {
        return None;
    }
    let products = &evidence.products;
    let columns = evidence.columns.as_ref();
    let by_columns = columns.and_then(|c| c.alternating.or(c.stacked));
    let is_other_way = by_columns.is_none() && is_output_by_output(facts);
    // Equal columns tell more than products do.
    let confirming = products.alternating.filter(|_| by_columns.is_none()).map(|s| s.outputs);
    let alternating = columns.and_then(|c| c.alternating).or(confirming);
    let stacked = columns.and_then(|c| c.stacked).or(is_other_way.then_some(outputs));
    let is_confirmed = alternating == Some(outputs) && !is_other_way;
    if let Some(k) = columns.and_then(|c| c.alternating_in_file).filter(|_| !is_confirmed) {
        let text = format!(
            "rows that are read output by output look like {k} outputs sample by sample: rows \
             {k} apart share parameters that others do not have; give --axes nk,p --outputs {k}"
        );
        return Some(Doubt { kind: "axes_in_another_order", text });
    }
    let shown = stacked.or(columns.and_then(|c| c.alternating)).filter(|_| !is_confirmed);
    let remedy = match (reading.is_gram, reading.shape.len(), stacked) {
        _ if is_other_way && reading.are_axes_given => {
            "give --axes in the order that the rows have".to_owned()
        }
        (true, 2, Some(k)) => format!("give --axes kn --outputs {k} for rows output by output"),
        (true, ..) => "give the order of the axes, such as --axes kknn".to_owned(),
        (false, 2, Some(k)) => format!("give --axes kn,p --outputs {k} for rows output by output"),
        (false, 2, None) if columns.is_some_and(|c| c.alternating.is_some()) => {
            "give that number as --outputs".to_owned()
        }
        _ => "give --axes knp, or the order that the array has".to_owned(),
    };
    let why = if let Some(k) = shown {
        format!(
            "what is read as {samples} samples × {outputs} outputs looks like {k} outputs of {} \
             samples{}: rows of one output share parameters that others do not have",
            samples * outputs / k,
            if stacked.is_some() { ", output by output" } else { "" }
        )
    } else if by_columns.is_none() && are_exchanged(facts) {
        format!(
            "what is read as {samples} samples × {outputs} outputs looks as much like {outputs} samples × \
             {samples} outputs, as rows of one sample are as parallel as those of one output (say \
             --samples or --outputs if it is right)"
        )
    } else if reading.is_gram {
        return None;
    } else if outputs > reading.columns && !reading.are_axes_given {
        format!(
            "there are more outputs ({outputs}) than parameters ({}): are the axes in another order \
             than n × k × p?",
            reading.columns
        )
    } else if columns.is_some_and(|c| c.has_rows_of_one_column) {
        format!(
            "the rows of many samples have numbers in one column only, as if the {} columns were \
             outputs",
            reading.columns
        )
    } else if columns.is_some_and(|c| c.samples_of_one_output >= outputs) && samples > outputs {
        let count = columns.map_or(0, |c| c.samples_of_one_output);
        format!(
            "{count} of {samples} samples have a gradient for one output only, as the parameters of \
             a last layer have: are samples and parameters exchanged?"
        )
    } else if samples == 1
        && outputs >= MANY_OUTPUTS
        && !(reading.are_outputs_known || reading.are_samples_known || reading.are_axes_given)
        && columns.is_none_or(|c| 2 * c.rows_with_own_column < outputs)
    {
        format!(
            "a single sample has {outputs} outputs, and for most of them no parameter acts on that one \
             only: are these {outputs} samples of one output?"
        )
    } else {
        return None;
    };
    Some(Doubt { kind: "axes_in_another_order", text: format!("{why}; {remedy}") })
}

/// True if the rows are rather those of so many outputs when these follow each other.
fn is_output_by_output(facts: &Facts<'_>) -> bool {
    let evidence = facts.evidence;
    let has_two_axes = evidence.reading.shape.len() == 2;
    let found = evidence.products.arrangements.filter(|_| has_two_axes);
    found.is_some_and(|[by_sample, by_output]| {
        evidence.reading.samples >= FEWEST && by_output.fits_better_than(&by_sample)
    })
}

/// True if the shape fits samples and outputs in either order, and the products do not tell which is
/// right: in a network, rows of one output are more parallel than those of one sample, unless the
/// hidden layers decide.
fn are_exchanged(facts: &Facts<'_>) -> bool {
    let evidence = facts.evidence;
    let reading = &evidence.reading;
    let is_known = reading.are_samples_known || reading.are_outputs_known || reading.are_axes_given;
    let fits_both = (reading.is_gram && reading.shape.len() == 4)
        || (reading.shape.len() == 3 && reading.samples == reading.outputs);
    let is_unusual = reading.outputs >= UNUSUAL * reading.samples;
    let limit = if is_unusual { 1.0 } else { UNCLEAR };
    let may_be = reading.outputs >= reading.samples && fits_both && !is_known;
    let found = evidence.products.arrangements.filter(|_| may_be);
    found.is_some_and(|[by_sample, _]| by_sample.of_sample > limit)
}
