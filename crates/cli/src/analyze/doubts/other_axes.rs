//! Axes in another order than they are read in.

use super::facts::{Doubt, Facts};

/// A single sample with so many outputs is rather one output of so many samples.
const MANY_OUTPUTS: usize = 5;

/// Products of different outputs are this small beside those of one output.
const CLEAR: f64 = 0.05;

pub(super) fn doubt(facts: &Facts<'_>) -> Option<Doubt> {
    let evidence = facts.evidence;
    let reading = &evidence.reading;
    let (samples, outputs) = (reading.samples, reading.outputs);
    if outputs < 2 {
        return None;
    }
    let products = &evidence.products;
    let columns = evidence.columns.as_ref();
    // Where hidden layers decide, the products of samples and of outputs look alike.
    let clear = |shown: super::products::Shown| (shown.contrast <= CLEAR).then_some(shown.outputs);
    let confirming = products.alternating.map(|shown| shown.outputs);
    let alternating = columns.and_then(|c| c.alternating).or(confirming);
    let stacked = columns.and_then(|c| c.stacked).or(products.stacked.and_then(clear));
    let is_confirmed = alternating == Some(outputs);
    if let Some(k) = columns.and_then(|c| c.alternating_in_file).filter(|_| !is_confirmed) {
        let text = format!(
            "rows that are read output by output look like {k} outputs sample by sample: rows \
             {k} apart share parameters that others do not have; give --axes nk,p --outputs {k}"
        );
        return Some(Doubt { kind: "axes_in_another_order", text });
    }
    let shown = stacked.or(columns.and_then(|c| c.alternating)).filter(|_| !is_confirmed);
    let remedy = match (reading.is_gram, reading.shape.len(), stacked) {
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
        && columns.is_none_or(|c| c.zero == 0 && c.dense == reading.columns)
    {
        format!(
            "a single sample has {outputs} outputs, and no parameter acts on one of them only: are \
             these {outputs} samples of one output?"
        )
    } else {
        return None;
    };
    Some(Doubt { kind: "axes_in_another_order", text: format!("{why}; {remedy}") })
}
