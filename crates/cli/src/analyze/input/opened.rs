//! Which arrays of a file are the Jacobian or Gram matrix, and in which order of axes.

use std::ops::Range;

use flatmin_arrays::{Array, Order, Reason};
use flatmin_host::printable;

use super::kernel::Kernel;
use super::known::Known;
use super::source::{Part, Source, Stored};
use crate::analyze::arguments::AnalyzeArguments;
use crate::analyze::axes::{Axes, View};
use crate::analyze::blocks::Blocks;
use crate::failure::Failure;
use crate::words::shape_words;

/// The arrays and their shape, before anything beside them is read.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) source: Source,
    pub(super) samples: usize,
    pub(super) outputs: usize,
    pub(super) kernel: Option<Kernel>,
    pub(super) blocks: Option<Blocks>,
    pub(super) shape: Vec<usize>,
    pub(super) axes: Option<Axes>,
}

impl Opened {
    /// One array, a Jacobian or a Gram matrix.
    pub(super) fn one(
        arguments: &AnalyzeArguments,
        blocks: Option<Blocks>,
        known: &Known,
    ) -> Result<Self, Failure> {
        let path = &arguments.file;
        let usual: &[&str] = if arguments.gram { &["gram", "jacobian"] } else { &["jacobian"] };
        let array = arguments.archive().open()?.array(arguments.array.as_deref(), usual);
        let array = array.map_err(|error| match error.reason {
            Reason::Ambiguous { .. } if !arguments.gram => {
                let reason = error.reason;
                Failure::input(
                    path,
                    format!("{reason}; give --array NAME, or --sum-arrays to sum them"),
                )
            }
            _ => error.into(),
        })?;
        let shape = array.shape().to_vec();
        let failed = |reason: String| Failure::input(path, reason);
        if shape.contains(&0) || shape.is_empty() {
            return Err(failed(empty_words(&shape, arguments.gram)));
        }
        if arguments.gram {
            let kernel = Kernel::new(&shape, arguments.axes.as_ref(), known).map_err(failed)?;
            let (samples, outputs) = (kernel.samples, kernel.outputs);
            let source = Source::new(vec![Stored::open(array)], Vec::new());
            let kernel = Some(kernel);
            return Ok(Self { source, samples, outputs, kernel, blocks: None, shape, axes: None });
        }
        if let Some(axes) = &arguments.axes
            && let Some(blocks) = &blocks
            && axes.to_string() == "n,kp"
            && blocks.end() == shape.get(1).copied().unwrap_or(0)
        {
            return Self::by_parameter(array, axes, blocks, known).map_err(failed);
        }
        let (view, axes) = jacobian_view(arguments, &array, known).map_err(failed)?;
        let View { samples, outputs, .. } = view;
        let source = Source::new(vec![Stored::open(array)], vec![Part::whole(0, &view)]);
        Ok(Self { source, samples, outputs, kernel: None, blocks, shape, axes: Some(axes) })
    }

    /// A matrix in which the outputs of each parameter were flattened before the parameters were
    /// joined; the blocks are the parameters, each with k times its columns.
    fn by_parameter(
        array: Array,
        axes: &Axes,
        blocks: &Blocks,
        known: &Known,
    ) -> Result<Self, String> {
        let shape = array.shape().to_vec();
        let outputs = known.outputs().ok_or("is read with --axes n,kp: give --outputs k")?;
        let ranges = blocks.in_order().ok_or(
            "is read parameter by parameter with --axes n,kp: its blocks must follow each other \
             without a gap",
        )?;
        if let Some(range) = ranges.iter().find(|range| !range.len().is_multiple_of(outputs)) {
            return Err(format!(
                "the block [{}, {}] has {} columns, which are not k = {outputs} times those of a \
                 parameter",
                range.start,
                range.end,
                range.len()
            ));
        }
        let of = (shape[0], outputs);
        let order = array.order();
        let parts = ranges.iter().map(|range| Part::by_output(range, of, shape[1], order));
        let source = Source::new(vec![Stored::open(array)], parts.collect());
        let shrunk = |range: &Range<usize>| range.start / outputs..range.end / outputs;
        let list = blocks.ranges.iter().map(|(name, range)| (name.clone(), shrunk(range)));
        let blocks = Some(blocks.with(list.collect()));
        let (samples, axes) = (shape[0], Some(axes.clone()));
        Ok(Self { source, samples, outputs, kernel: None, blocks, shape, axes })
    }

    /// The arrays of an archive, each with the columns of one parameter.
    pub(super) fn several(arguments: &AnalyzeArguments, known: &Known) -> Result<Self, Failure> {
        let path = &arguments.file;
        let failed = |reason: String| Failure::input(path, reason);
        let training = &arguments.training;
        let beside = [
            &training.residuals,
            &training.logits,
            &training.output_hessian,
            &training.preconditioner,
        ];
        let beside: Vec<&str> =
            beside.into_iter().flatten().filter_map(|place| place.name_in_archive()).collect();
        let archive = arguments.archive();
        let names: Vec<String> = archive
            .open()?
            .names()
            .into_iter()
            .filter(|name| !beside.contains(&name.as_str()))
            .collect();
        if names.is_empty() {
            return Err(failed(
                "holds no archive of arrays; --sum-arrays takes an .npz or .safetensors file"
                    .into(),
            ));
        }
        let stored = Stored::of_archive(&archive, &names)?;
        let shapes: Vec<&[usize]> = stored.iter().map(|stored| &stored.shape[..]).collect();
        // Names come from the file, and go to a terminal.
        let shown_names: Vec<String> = names.iter().map(|name| printable(name)).collect();
        let (samples, outputs) = common_rows(&shown_names, &shapes, known).map_err(failed)?;
        let (mut parts, mut ranges, mut end) = (Vec::new(), Vec::new(), 0);
        for (index, (name, stored)) in shown_names.iter().zip(&stored).enumerate() {
            let view = layer_view(&stored.shape, stored.order, samples, outputs);
            let is_mixed = stored.order == Order::Fortran && stored.shape.len() > 3;
            if is_mixed && training.preconditioner.is_some() {
                return Err(failed(format!(
                    "array \"{name}\" is stored in Fortran order, in which its parameters are not \
                     those of the preconditioner; save it in C order"
                )));
            }
            parts.push(Part::whole(index, &view));
            ranges.push((name.clone(), end..end + view.columns));
            end += view.columns;
        }
        let blocks = Some(Blocks::new(ranges, path));
        let shape = vec![samples, outputs, end];
        let source = Source::new(stored, parts);
        Ok(Self { source, samples, outputs, kernel: None, blocks, shape, axes: None })
    }
}

/// The reading of one array as a Jacobian.
fn jacobian_view(
    arguments: &AnalyzeArguments,
    array: &Array,
    known: &Known,
) -> Result<(View, Axes), String> {
    let (shape, order) = (array.shape(), array.order());
    if let Some(axes) = &arguments.axes {
        if !axes.is_jacobian() {
            return Err(format!("is a Jacobian, and --axes {axes} has no p"));
        }
        let view = axes
            .view(shape, order, &known.counts())
            .map_err(|reason| format!("has shape ({}), and {reason}", shape_words(shape)))?;
        return Ok((view, axes.clone()));
    }
    let wanted = "expected a Jacobian n × p, a row per sample and a column per parameter, or n × k × \
                  p for k outputs";
    let outputs = arguments.outputs.or(known.outputs()).unwrap_or(1);
    let usual = match *shape {
        [n] => {
            return Err(format!("has shape ({n}), {wanted}; reshape it to 1 × {n} or {n} × 1"));
        }
        [rows, _] => {
            let splits = known.samples().is_none_or(|n| n * outputs == rows);
            Axes::usual(2, if splits && rows.is_multiple_of(outputs) { outputs } else { 1 })
        }
        [_, _, _] => Axes::usual(3, outputs),
        _ => {
            let shape = shape_words(shape);
            return Err(format!(
                "has shape ({shape}), {wanted}; flatten the axes of the parameters, or give --gram \
                 for a tangent kernel"
            ));
        }
    };
    let view = usual.view(shape, order, &known.counts());
    if let Ok(view) = &view
        && known.agrees(view)
    {
        return Ok((view.clone(), usual));
    }
    let fitting: Vec<String> =
        known.orders(shape, order).iter().map(|axes| format!("--axes {axes}")).collect();
    if !fitting.is_empty() {
        let read = match (shape, arguments.outputs) {
            ([_, found, _], Some(outputs)) if *found != outputs => {
                format!("the Jacobian of {found} outputs, not of {outputs}")
            }
            _ => format!("but {} was given", known.sources()),
        };
        let rest = if known.is_of_blocks() { ", or add \"rest\": true to the blocks" } else { "" };
        return Err(format!(
            "has shape ({}), {read}, which fits the axes in another order: give {}{rest}",
            shape_words(shape),
            fitting.join(" or ")
        ));
    }
    match (shape, arguments.outputs) {
        ([_, found, _], Some(outputs)) if *found != outputs => Err(format!(
            "has shape ({}), the Jacobian of {found} outputs, not of {outputs}",
            shape_words(shape)
        )),
        ([rows, _], Some(outputs)) if !rows.is_multiple_of(outputs) => Err(format!(
            "has shape ({}): {rows} rows are not {outputs} outputs for every sample; give the number \
             of outputs that divides the rows, or --axes n,kp --outputs {outputs} if the outputs are \
             flattened into the columns",
            shape_words(shape)
        )),
        // What was given is compared with the reading where it is read.
        _ => Ok((usual.view(shape, order, &known.counts())?, usual)),
    }
}

/// Rows and outputs that all arrays of an archive have.
///
/// Without other knowledge they have k outputs where all have the same second axis and at least
/// three: the bias of one output has two.
fn common_rows(
    names: &[String],
    shapes: &[&[usize]],
    known: &Known,
) -> Result<(usize, usize), String> {
    for (name, shape) in names.iter().zip(shapes) {
        if shape.is_empty() || shape.contains(&0) {
            return Err(format!(
                "array \"{name}\" is {}, expected n × (parameters); --sum-arrays takes all arrays \
                 but those that other options name",
                if shape.is_empty() { "a single number" } else { "empty" }
            ));
        }
        if shape[0] != shapes[0][0] {
            return Err(format!(
                "array \"{name}\" has shape ({}), and \"{}\" has {} rows; --sum-arrays takes arrays \
                 n × (parameters) or n × k × (parameters)",
                shape_words(shape),
                names[0],
                shapes[0][0]
            ));
        }
    }
    let size = |shape: &[usize]| shape.iter().product::<usize>();
    let total: usize = shapes.iter().map(|shape| size(shape)).sum();
    let whole = names.iter().position(|name| name == "jacobian");
    if let Some(whole) = whole.filter(|at| 2 * size(shapes[*at]) == total) {
        return Err(format!(
            "array \"jacobian\" has as many columns as all other arrays, so that the sum would count \
             each parameter twice; it has shape ({}): leave out --sum-arrays to read it alone, or leave \
             it out of the archive",
            shape_words(shapes[whole])
        ));
    }
    let samples = shapes[0][0];
    let second = shapes[0].get(1).copied().unwrap_or(1);
    let same = shapes.iter().all(|shape| shape.len() > 2 && shape[1] == second);
    let outputs = match known.outputs() {
        Some(1) => 1,
        Some(outputs) => {
            let fits = |shape: &&[usize]| shape.len() > 1 && shape[1] == outputs;
            if let Some(at) = shapes.iter().position(|shape| !fits(shape)) {
                return Err(format!(
                    "array \"{}\" has shape ({}), expected n × {outputs} × (parameters) for {}",
                    names[at],
                    shape_words(shapes[at]),
                    known.sources()
                ));
            }
            outputs
        }
        None if same && shapes.len() == 1 && shapes[0].len() > 3 => {
            return Err(format!(
                "array \"{}\" has shape ({}): is its second axis that of the outputs? Give --outputs \
                 {second} or --outputs 1",
                names[0],
                shape_words(shapes[0])
            ));
        }
        None if same => second,
        None => 1,
    };
    if known.samples().is_some_and(|known| known != samples) {
        return Err(format!("has arrays of {samples} rows, but {} was given", known.sources()));
    }
    Ok((samples, outputs))
}

/// The reading of n × k × (parameters), or n × (parameters) for one output.
fn layer_view(shape: &[usize], order: Order, samples: usize, outputs: usize) -> View {
    let columns = shape.iter().product::<usize>() / (samples * outputs);
    let rows = samples * outputs;
    let swapped = order == Order::Fortran && samples > 1 && outputs > 1;
    let map = || (0..rows).map(|at| at % samples * outputs + at / samples).collect();
    let (outer, inner) = if order == Order::C { (rows, 1) } else { (1, rows) };
    View { samples, outputs, columns, outer, inner, rows: swapped.then(map) }
}

fn empty_words(shape: &[usize], gram: bool) -> String {
    let wanted = if gram {
        "expected the n × n matrix JJᵀ"
    } else {
        "expected a Jacobian n × p, a row per sample and a column per parameter, or n × k × p for k \
         outputs"
    };
    if shape.is_empty() {
        return format!("is a single number, {wanted}");
    }
    format!("is empty: it has shape ({}), {wanted}", shape_words(shape))
}

#[cfg(test)]
mod tests {
    use super::super::known::Known;
    use super::{common_rows, layer_view};
    use flatmin_arrays::Order;

    #[test]
    fn outputs_of_layers_are_seen_in_their_shapes() {
        let rows = |shapes: &[&[usize]], outputs: Option<usize>| {
            let names: Vec<String> = (0..shapes.len()).map(|i| i.to_string()).collect();
            common_rows(&names, shapes, &Known::of_counts(None, outputs, None))
        };
        // One output: weights n × h × d, biases n × h, head n × 1 × h.
        assert_eq!(rows(&[&[5, 8, 3], &[5, 8], &[5, 1, 8], &[5, 1]], None), Ok((5, 1)));
        assert_eq!(rows(&[&[5, 2, 8, 3], &[5, 2, 8], &[5, 2, 2, 8], &[5, 2, 2]], None), Ok((5, 2)));
        assert_eq!(rows(&[&[5, 8], &[5, 4]], None), Ok((5, 1)));
        assert!(rows(&[&[5, 8, 3, 3]], None).unwrap_err().contains("Give --outputs"));
        assert_eq!(rows(&[&[5, 8, 3, 3]], Some(8)), Ok((5, 8)));
        assert!(rows(&[&[5, 8], &[4, 8]], None).unwrap_err().contains("array \"1\""));
        assert!(rows(&[&[5, 2, 8], &[5, 8]], Some(2)).unwrap_err().contains("5 × 8"));
        let view = layer_view(&[5, 2, 8, 3], Order::C, 5, 2);
        assert_eq!((view.columns, view.outer, view.inner), (24, 10, 1));
    }
}
