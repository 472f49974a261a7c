//! Opening the file: which arrays, which axes, and whether they fit what is known.

use std::ops::Range;
use std::path::PathBuf;

use flatmin_arrays::{Array, ArrayFile, Order};
use flatmin_host::{Progress, shown, significant};
use flatmin_linalg::Parallelism;
use flatmin_theory::{Gram, GramSum, Minimum};

use super::axes::{Axes, View};
use super::kernel::Kernel;
use super::known::Known;
use super::source::{Part, Source, Stored};
use super::stream::{BLOCK_BYTES, Stream, pieces};
use super::{Block, FileMinimum};
use crate::analyze::arguments::AnalyzeArguments;
use crate::analyze::blocks::{Blocks, REST};
use crate::analyze::doubts::{BlockFacts, ColumnFacts, Evidence, ProductFacts, Reading, Rounding};
use crate::analyze::training::Weights;
use crate::failure::Failure;
use crate::words::shape_words;

/// Most n × n matrices (nk × nk with k outputs) of float64 in memory at a time; 7.2 were measured
/// at n = 2000.
const MAX_MATRICES: u32 = 8;

/// A checked file, of which only the headers have been read.
#[derive(Debug)]
pub(crate) struct Input {
    source: Source,
    path: PathBuf,
    samples: usize,
    /// Rows per sample.
    outputs: usize,
    /// The reading of a Gram matrix; `None` for a Jacobian.
    kernel: Option<Kernel>,
    blocks: Option<Blocks>,
    weights: Weights,
    reading: Reading,
}

/// The arrays and their shape, before anything beside them is read.
struct Opened {
    source: Source,
    samples: usize,
    outputs: usize,
    kernel: Option<Kernel>,
    blocks: Option<Blocks>,
    shape: Vec<usize>,
    axes: Option<Axes>,
}

impl Input {
    /// Opens the file and checks its headers.
    pub(crate) fn open(arguments: &AnalyzeArguments) -> Result<Self, Failure> {
        let path = &arguments.file;
        let blocks = arguments.blocks.as_deref().map(Blocks::read).transpose()?;
        let known = Known::read(arguments, blocks.as_ref())?;
        let opened = if arguments.sum_arrays {
            Opened::several(arguments, &known)?
        } else {
            Opened::one(arguments, blocks, &known)?
        };
        let Opened { source, samples, outputs, kernel, blocks, shape, axes } = opened;
        check_memory(arguments, samples, outputs)?;
        let columns = source.columns();
        if let Some(blocks) = &blocks {
            blocks.check(columns)?;
        }
        let parameters = kernel.is_none().then_some(columns);
        let weights = Weights::read(&arguments.training, path, (samples, outputs), parameters)?;
        let reading = Reading {
            is_gram: kernel.is_some(),
            samples,
            outputs,
            columns,
            axes: axes.as_ref().map(Axes::to_string),
            are_axes_given: arguments.axes.is_some(),
            shape,
            are_samples_known: known.samples().is_some(),
            are_outputs_known: known.outputs().is_some(),
        };
        if !reading.is_gram && known_disagrees(&known, &reading, blocks.is_some()) {
            let text = format!(
                "{}, but {} was given, and no order of the axes fits",
                reading.words(),
                known.sources()
            );
            return Err(Failure::input(path, text));
        }
        let path = path.clone();
        Ok(Self { source, path, samples, outputs, kernel, blocks, weights, reading })
    }

    /// Reads the numbers.
    pub(crate) fn minimum(mut self, parallelism: Parallelism) -> Result<FileMinimum, Failure> {
        let residuals = self.weights.residuals.take();
        let array = match &self.source.stored[..] {
            [one] => one.name().map(str::to_owned),
            _ => None,
        };
        let given = residuals.as_ref().map(|found| found.given.clone());
        let found = match self.kernel.take() {
            Some(kernel) => self.gram(&kernel, parallelism)?,
            None => self.jacobian(given.as_deref(), parallelism)?,
        };
        Ok(FileMinimum { array, residuals, ..found })
    }

    /// The number of rows of the Jacobian.
    fn rows(&self) -> usize {
        self.samples * self.outputs
    }

    fn sum(&self, parallelism: Parallelism) -> Result<GramSum, Failure> {
        GramSum::with_outputs(self.samples, self.outputs, parallelism)
            .map_err(Failure::at(&self.path))
    }

    fn gram(mut self, kernel: &Kernel, parallelism: Parallelism) -> Result<FileMinimum, Failure> {
        let failed = Failure::at(&self.path);
        let n = self.rows();
        let stored = &mut self.source.stored[0];
        let element = stored.element;
        let values = stored.values()?;
        let rounding = Rounding::of(element, &values);
        let (matrix, axes) = kernel.arrange(&values);
        drop(values);
        self.reading.axes = Some(axes.to_string());
        let products = ProductFacts::new(matrix.as_ref(), 0, self.outputs);
        let matrix = self.weights.weigh_gram(matrix)?;
        let gram = match rounding {
            Some(rounding) => Gram::from_rounded_sums(matrix, rounding.entry()),
            None => Gram::from_sums(matrix),
        };
        let gram = gram.and_then(|gram| gram.with_outputs(self.outputs)).map_err(&failed)?;
        let _progress = decomposing(n);
        let minimum = Minimum::from_gram(gram, parallelism).map_err(&failed)?;
        let evidence = Evidence {
            reading: self.reading,
            columns: None,
            products,
            blocks: BlockFacts::default(),
            rounding,
        };
        Ok(FileMinimum {
            minimum,
            array: None,
            parameters: None,
            blocks: None,
            residuals: None,
            evidence,
            element: element.name(),
            is_rounded: rounding.is_some(),
        })
    }

    fn jacobian(
        mut self,
        residuals: Option<&[f64]>,
        parallelism: Parallelism,
    ) -> Result<FileMinimum, Failure> {
        let failed = Failure::at(&self.path);
        let columns = self.source.columns();
        let element = self.source.stored[0].element.name();
        let blocks = self.blocks.take();
        let block_facts = blocks.as_ref().map(|b| BlockFacts::new(b, columns)).unwrap_or_default();
        let (names, ranges) = block_ranges(blocks.as_ref(), columns);
        let (pieces, again) = pieces(columns, &ranges);
        let twice: usize = again.iter().map(|index| ranges[*index].len()).sum();
        let label = format!("reading {}", shown(&self.path));
        let size = (self.rows() * self.source.number_size()) as u64;
        let progress = Progress::bytes(&label, (columns + twice) as u64 * size);
        let mut facts = ColumnFacts::new(self.samples, self.outputs, columns, residuals);
        let mut total = self.sum(parallelism)?;
        let mut sums: Vec<Option<GramSum>> = names.iter().map(|_| None).collect();
        let mut sharpness = vec![None; names.len()];
        // How many ranges of a block are still to come.
        let mut left: Vec<usize> = vec![0; names.len()];
        owners(&names, &ranges).for_each(|owner| left[owner] += 1);
        let owner: Vec<usize> = owners(&names, &ranges).collect();
        let jobs = pieces.into_iter().map(|piece| (piece.range, piece.block, true));
        let jobs: Vec<(Range<usize>, Option<usize>, bool)> =
            jobs.chain(again.iter().map(|i| (ranges[*i].clone(), Some(*i), false))).collect();
        for (range, block, is_new) in jobs {
            let mut sum = match block {
                None => None,
                Some(index) => {
                    Some(sums[owner[index]].take().map_or_else(|| self.sum(parallelism), Ok)?)
                }
            };
            let (path, rows, outputs) = (&self.path, self.rows(), self.outputs);
            let (source, weights, progress) = (&mut self.source, &self.weights, &progress);
            let mut stream = Stream { path, source, weights, rows, outputs, progress };
            let facts = is_new.then_some(&mut facts);
            stream.add(sum.as_mut().unwrap_or(&mut total), range, facts)?;
            let (Some(sum), Some(index)) = (sum, block) else { continue };
            let owner = owner[index];
            left[owner] -= 1;
            if left[owner] > 0 {
                sums[owner] = Some(sum);
                continue;
            }
            sharpness[owner] = Some(sum.sharpness().map_err(&failed)?);
            if is_new {
                total.append(sum).map_err(&failed)?;
            }
        }
        drop(progress);
        let (unit, products) = total.scaled_products();
        let products = ProductFacts::new(products, unit, self.outputs);
        let _progress = decomposing(self.rows());
        let minimum = total.minimum().map_err(&failed)?;
        let blocks = blocks.map(|_| measured(&names, &ranges, &owner, &sharpness));
        let evidence = Evidence {
            reading: self.reading,
            columns: Some(facts.finish()),
            products,
            blocks: block_facts,
            rounding: None,
        };
        Ok(FileMinimum {
            minimum,
            array: None,
            parameters: Some(columns),
            blocks,
            residuals: None,
            evidence,
            element,
            is_rounded: false,
        })
    }
}

impl Opened {
    /// One array, a Jacobian or a Gram matrix.
    fn one(
        arguments: &AnalyzeArguments,
        blocks: Option<Blocks>,
        known: &Known,
    ) -> Result<Self, Failure> {
        let path = &arguments.file;
        let usual: &[&str] = if arguments.gram { &["gram", "jacobian"] } else { &["jacobian"] };
        let array = ArrayFile::open(path)?.array(arguments.array.as_deref(), usual)?;
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
    fn several(arguments: &AnalyzeArguments, known: &Known) -> Result<Self, Failure> {
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
        let names: Vec<String> = ArrayFile::open(path)?
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
        let stored = Stored::of_archive(path, &names)?;
        let shapes: Vec<&[usize]> = stored.iter().map(|stored| &stored.shape[..]).collect();
        let (samples, outputs) = common_rows(&names, &shapes, known).map_err(failed)?;
        let (mut parts, mut ranges, mut end) = (Vec::new(), Vec::new(), 0);
        for (index, (name, stored)) in names.iter().zip(&stored).enumerate() {
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
            .view(shape, order, known)
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
                "has shape ({shape}), {wanted}; flatten the axes of the parameters"
            ));
        }
    };
    let view = usual.view(shape, order, known);
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
            "has shape ({}): {rows} rows are not {outputs} outputs for every sample",
            shape_words(shape)
        )),
        // What was given is compared with the reading where it is read.
        _ => Ok((usual.view(shape, order, known)?, usual)),
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

fn known_disagrees(known: &Known, reading: &Reading, has_blocks: bool) -> bool {
    use super::axes::Letter::{K, N, P};
    let differs = |letter, count| known.count(letter).is_some_and(|known| known != count);
    // Blocks may end before the last column, which is a doubt and no error.
    differs(N, reading.samples)
        || differs(K, reading.outputs)
        || (!has_blocks && differs(P, reading.columns))
}

fn check_memory(
    arguments: &AnalyzeArguments,
    samples: usize,
    outputs: usize,
) -> Result<(), Failure> {
    let rows = samples as f64 * outputs as f64;
    let bytes = f64::from(8 * MAX_MATRICES) * rows * rows + 3.0 * BLOCK_BYTES as f64;
    let needed = bytes / f64::from(1 << 30);
    if needed <= arguments.memory_limit {
        return Ok(());
    }
    let what = if outputs == 1 {
        format!("{samples} samples")
    } else {
        format!("{samples} samples with {outputs} outputs each")
    };
    let needed = significant(needed, 2);
    let text = format!(
        "{what} need about {needed} GiB of memory, more than --memory-limit {}; where there is as \
         much, give --memory-limit {needed} or more (a part of the samples has another threshold)",
        significant(arguments.memory_limit, 6)
    );
    Err(Failure::input(&arguments.file, text))
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

/// The names of the blocks, and the ranges of all of them. The ranges beyond the names are those of
/// the last name, the rest.
fn block_ranges(blocks: Option<&Blocks>, columns: usize) -> (Vec<String>, Vec<Range<usize>>) {
    let Some(blocks) = blocks else { return Default::default() };
    let (mut names, mut ranges): (Vec<String>, Vec<Range<usize>>) =
        blocks.ranges.iter().cloned().unzip();
    if blocks.has_rest {
        let rest = blocks.uncovered(columns);
        if !rest.is_empty() {
            names.push(REST.to_owned());
        }
        ranges.extend(rest);
    }
    (names, ranges)
}

/// The name of each range, by its index.
fn owners(names: &[String], ranges: &[Range<usize>]) -> impl Iterator<Item = usize> {
    let last = names.len().saturating_sub(1);
    (0..ranges.len()).map(move |index| index.min(last))
}

/// The blocks with their sharpness.
fn measured(
    names: &[String],
    ranges: &[Range<usize>],
    owner: &[usize],
    sharpness: &[Option<flatmin_linalg::Sharpness>],
) -> Vec<Block> {
    let block = |(index, name): (usize, &String)| {
        let own = || ranges.iter().zip(owner).filter(|(_, o)| **o == index).map(|(range, _)| range);
        let start = own().map(|range| range.start).min()?;
        let end = own().map(|range| range.end).max()?;
        let columns = own().map(Range::len).sum();
        let sharpness = sharpness[index]?;
        Some(Block { name: name.clone(), range: start..end, columns, sharpness })
    };
    names.iter().enumerate().filter_map(block).collect()
}

/// A progress bar for an eigenvalue decomposition.
fn decomposing(n: usize) -> Progress {
    Progress::steps(&format!("eigenvalues of a {n} × {n} matrix"), 1)
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
            common_rows(&names, shapes, &Known::counts(None, outputs, None))
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
