//! A checked file, and the reading of its numbers.

use std::ops::Range;
use std::path::PathBuf;

use flatmin_host::{Progress, shown, significant};
use flatmin_linalg::{JacobianProducts, Parallelism};
use flatmin_theory::{Gram, GramSum, Minimum, MinimumError, WeightedJacobian};

use super::kernel::Kernel;
use super::known::Known;
use super::minimum::{Block, FileMinimum, LargeMinimum};
use super::opened::Opened;
use super::passes::FileJacobian;
use super::source::Source;
use super::stream::{BLOCK_BYTES, NOT_FINITE, Stream, pieces};
use crate::analyze::arguments::AnalyzeArguments;
use crate::analyze::axes::Axes;
use crate::analyze::blocks::{Blocks, REST};
use crate::analyze::doubts::{BlockFacts, ColumnFacts, Evidence, ProductFacts, Reading, Rounding};
use crate::analyze::training::Weights;
use crate::failure::Failure;

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
    excess: Option<Excess>,
}

/// An exact threshold needs more memory than there may be.
#[derive(Debug)]
struct Excess {
    /// The reason in words.
    text: String,
    /// The memory that would be enough, in GiB.
    needed: String,
}

impl Input {
    /// Opens the file and checks its headers. Too many samples for an exact threshold are refused,
    /// unless a bracket can take its place.
    pub(crate) fn open(arguments: &AnalyzeArguments) -> Result<Self, Failure> {
        let path = &arguments.file;
        let blocks = arguments.read_blocks()?;
        let known = Known::read(arguments, blocks.as_ref())?;
        let opened = if arguments.sum_arrays {
            Opened::several(arguments, &known)?
        } else {
            Opened::one(arguments, blocks, &known)?
        };
        let Opened { source, samples, outputs, kernel, blocks, shape, axes } = opened;
        let excess = excess(arguments, samples, outputs);
        if let Some(Excess { text, needed }) = &excess
            && !arguments.allows_bracket()
        {
            let text = format!(
                "{text}; where there is as much, give --memory-limit {needed} or more (a part of the \
                 samples has another threshold)"
            );
            return Err(Failure::input(path, text));
        }
        let columns = source.columns();
        if let Some(blocks) = &blocks {
            blocks.check(columns)?;
        }
        let parameters = kernel.is_none().then_some(columns);
        let archive = arguments.archive();
        let weights = Weights::read(&arguments.training, &archive, (samples, outputs), parameters)?;
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
            let rows = samples * outputs;
            let per_sample = known.samples().filter(|n| outputs == 1 && rows.is_multiple_of(*n));
            let remedy = per_sample.map_or("no order of the axes fits".to_owned(), |n| {
                let k = rows / n;
                format!("these are {k} rows for each sample: give --outputs {k}, and --axes kn,p for rows \
                     output by output")
            });
            let text = format!("{}, but {} was given; {remedy}", reading.words(), known.sources());
            return Err(Failure::input(path, text));
        }
        let path = path.clone();
        Ok(Self { source, path, samples, outputs, kernel, blocks, weights, reading, excess })
    }

    /// The reason in words why a bracket takes the place of an exact threshold, if it does.
    pub(crate) fn excess(&self) -> Option<&str> {
        self.excess.as_ref().map(|excess| excess.text.as_str())
    }

    /// The products of the Jacobian, after a first pass over its file.
    pub(crate) fn products(
        mut self,
        parallelism: Parallelism,
    ) -> Result<LargeMinimum<'static>, Failure> {
        let residuals = self.weights.residuals.take();
        let element = self.elements();
        let array = match &self.source.stored[..] {
            [one] => one.name().map(str::to_owned),
            _ => None,
        };
        let given = residuals.as_ref().map(|found| found.given.clone());
        let columns = self.source.columns();
        let blocks = self.blocks.take();
        let blocks = blocks.as_ref().map(|b| BlockFacts::new(b, columns)).unwrap_or_default();
        let mut facts = ColumnFacts::new(self.samples, self.outputs, columns, given.as_deref());
        if matches!(self.reading.axes.as_deref(), Some("kn,p" | "p,kn")) {
            facts = facts.output_by_output();
        }
        let of = (self.samples, self.outputs);
        let Self { source, weights, path, outputs, reading, .. } = self;
        let jacobian = FileJacobian::new(&path, source, weights, of, facts, parallelism)?;
        let evidence = Evidence {
            reading,
            columns: Some(jacobian.column_facts().clone()),
            products: ProductFacts::new(jacobian.first_products(), 0, outputs),
            blocks,
            rounding: None,
        };
        let (jacobian, evidence) = (Box::new(jacobian), Some(evidence));
        Ok(LargeMinimum { jacobian, array, residuals, evidence, element: Some(element) })
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

    /// The types of the numbers, each once: the arrays of an archive may differ.
    fn elements(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for stored in &self.source.stored {
            if !names.contains(&stored.element.name()) {
                names.push(stored.element.name());
            }
        }
        names.join(" and ")
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
        let gram = gram.and_then(|gram| gram.with_outputs(self.outputs)).map_err(|error| {
            let MinimumError::GramNotFinite { .. } = error else { return failed(error) };
            Failure::input(&self.path, format!("{error}; {NOT_FINITE}"))
        })?;
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
            element: element.name().to_owned(),
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
        let element = self.elements();
        let blocks = self.blocks.take();
        let block_facts = blocks.as_ref().map(|b| BlockFacts::new(b, columns)).unwrap_or_default();
        let (names, ranges) = block_ranges(blocks.as_ref(), columns);
        let (pieces, again) = pieces(columns, &ranges);
        let twice: usize = again.iter().map(|index| ranges[*index].len()).sum();
        let label = format!("reading {}", shown(&self.path));
        let size = (self.rows() * self.source.number_size()) as u64;
        let progress = Progress::bytes(&label, (columns + twice) as u64 * size);
        let mut facts = ColumnFacts::new(self.samples, self.outputs, columns, residuals);
        if matches!(self.reading.axes.as_deref(), Some("kn,p" | "p,kn")) {
            facts = facts.output_by_output();
        }
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

impl LargeMinimum<'static> {
    /// The products of a program, weighted by the loss of the arguments.
    pub(crate) fn of_products(
        arguments: &AnalyzeArguments,
        products: Box<dyn JacobianProducts>,
    ) -> Result<Self, Failure> {
        let of = (products.sample_count(), products.output_count());
        let parameters = Some(products.parameter_count());
        let archive = arguments.archive();
        let mut weights = Weights::read(&arguments.training, &archive, of, parameters)?;
        let residuals = weights.residuals.take();
        let jacobian: Box<dyn JacobianProducts> = match weights.loss.take() {
            Some(loss) => Box::new(
                WeightedJacobian::new(products, loss).map_err(Failure::at(&arguments.file))?,
            ),
            None => products,
        };
        Ok(Self { jacobian, array: None, residuals, evidence: None, element: None })
    }
}

fn known_disagrees(known: &Known, reading: &Reading, has_blocks: bool) -> bool {
    use crate::analyze::axes::Letter::{K, N, P};
    let differs = |letter, count| known.count(letter).is_some_and(|known| known != count);
    // Blocks may end before the last column, which is a doubt and no error.
    differs(N, reading.samples)
        || differs(K, reading.outputs)
        || (!has_blocks && differs(P, reading.columns))
}

/// Compares the memory of an exact threshold with the limit.
fn excess(arguments: &AnalyzeArguments, samples: usize, outputs: usize) -> Option<Excess> {
    let rows = samples as f64 * outputs as f64;
    let bytes = f64::from(8 * MAX_MATRICES) * rows * rows + 3.0 * BLOCK_BYTES as f64;
    let needed = bytes / f64::from(1 << 30);
    if needed <= arguments.memory_limit {
        return None;
    }
    let what = if outputs == 1 {
        format!("{samples} samples")
    } else {
        format!("{samples} samples with {outputs} outputs each")
    };
    let (needed, limit) = (significant(needed, 2), significant(arguments.memory_limit, 6));
    let text =
        format!("{what} need about {needed} GiB of memory, more than --memory-limit {limit}");
    Some(Excess { text, needed })
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
