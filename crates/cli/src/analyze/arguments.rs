//! The arguments of `flatmin analyze`.

use std::path::PathBuf;

use clap::Args;
use flatmin_arrays::ArraysInMemory;
use flatmin_host::Format;

use super::archive::Archive;
use super::axes::Axes;
use super::blocks::Blocks;
use super::training::Training;
use crate::batches::Batches;
use crate::brackets::{BracketArguments, obstacle};
use crate::failure::Failure;
use crate::values;

const ANALYZE_HELP: &str = "\
FILE is a .npy, .npz or .safetensors file with the Jacobian of the network's outputs with respect to \
its parameters at the minimum: n × p, a row per training sample, or n × k × p for k outputs, float32 \
or float64. It is read in blocks of columns and may be larger than memory.

The loss is taken to be (1/2n) Σ (f − y)², half the mean of the squared residuals, (1/2n) Σ ‖f − y‖² \
with several outputs. For the mean without the half, as torch.nn.MSELoss and jnp.mean((f - y)**2) have \
it, give --loss-scale 2; with k outputs these take the mean over outputs too: give 2/k.

Optimizer and sampling are those of the options, in the conventions of PyTorch. A DataLoader with \
shuffle=True draws --sampling reshuffling, and keeps a short last batch unless --drop-last is given. \
ARRAY is the name of an array in FILE's archive, or a file of its own: v.npy, run.npz:v.

What looks wrong about the input (a Jacobian of the loss, axes in another order, outputs among the \
samples or columns) is said in a line before the answer, and fails --check unless --trust-input is \
given. --samples, --outputs, --residuals and --logits let the command check more.

Exit status: 0 done; 1 with --check, when a given learning rate is unstable or the input doubtful; 2 \
wrong usage; 3 bad input, with one line on standard error.

Examples:
  flatmin analyze jacobian.npy
  flatmin analyze jacobian.npy --batch-size 1,8,64 --learning-rate 0.05,0.1 --loss-scale 2
  flatmin analyze run.npz --array jacobian --momentum 0.9 --learning-rate 0.01 --check
  flatmin analyze jacobian.npy --batch-size 32 --sampling reshuffling --nesterov --momentum 0.9
  flatmin analyze run.npz --loss cross-entropy --logits logits --weight-decay 5e-4
  flatmin analyze run.npz --preconditioner v.npy --momentum 0.9 --dampening 0.9
  flatmin analyze jacobian.npy --axes knp --samples 500 --loss-scale 2/3
  flatmin analyze layers.npz --sum-arrays --batch-size 32
  flatmin analyze part.npy --subsets 5 --population 60000
  flatmin analyze ntk.npy --gram --outputs 10 --batch-size 32
  flatmin analyze gram.npy --gram --batch-size 32 --figure thresholds.svg --format json";

/// Say at which learning rates and batch sizes SGD can stay at a minimum, how sharp it is, and
/// which bound is tight.
#[derive(Debug, Args)]
#[command(after_help = ANALYZE_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a claim of its own, or a switch")]
pub(crate) struct AnalyzeArguments {
    #[arg(help = "Array file: the Jacobian n × p or n × k × p, or with --gram the matrix JJᵀ")]
    pub(super) file: PathBuf,
    /// Name of the array in an .npz or .safetensors file [default: jacobian (with --gram: gram), or
    /// the only one].
    #[arg(long, value_name = "NAME")]
    pub(super) array: Option<String>,
    #[arg(
        long,
        conflicts_with_all = ["rank", "relative_width"],
        help = "The file holds the n × n matrix JJᵀ (nk × nk with --outputs), not divided by n"
    )]
    pub(super) gram: bool,
    #[arg(
        long,
        value_name = "k",
        value_parser = values::positive_count,
        help = "The rows of a matrix are those of k outputs for each sample, sample by sample \
                [default: 1, or k for an array n × k × p]"
    )]
    pub(super) outputs: Option<usize>,
    /// The number of samples, to check the reading of the axes.
    #[arg(long, value_name = "n", value_parser = values::positive_count)]
    pub(super) samples: Option<usize>,
    #[arg(
        long,
        value_name = "ORDER",
        help = "Order of the axes, n samples, k outputs, p parameters: knp, npk, pn, …; letters \
                between commas are flattened together: kn,p for rows output by output, n,kp for \
                outputs flattened into columns; with --gram kn or nknk [default: nkp, or nk,p]"
    )]
    pub(super) axes: Option<Axes>,
    /// Sum over the arrays of an archive, one for each parameter: n × (parameter), or n × k ×
    /// (parameter); adds the sharpness of each.
    #[arg(long, conflicts_with_all = ["gram", "array", "axes", "blocks"])]
    pub(super) sum_arrays: bool,
    /// Take the input for what it seems: with doubts, verdicts are printed without reserve, and
    /// --check passes.
    #[arg(long)]
    pub(super) trust_input: bool,
    #[command(flatten)]
    pub(super) batches: Batches,
    #[command(flatten)]
    pub(super) training: Training,
    /// The loss is this many times (1/2n) Σ (f − y)²; 2 for a mean squared error (2/k, as in 2/3,
    /// for one that is also the mean over k outputs).
    #[arg(long, value_name = "c", default_value = "1", value_parser = values::positive_fraction)]
    pub(super) loss_scale: f64,
    /// JSON object that names blocks of columns, {"layer": [first, end], …}: adds the sharpness of
    /// each. "rest": true makes a block of all other columns.
    #[arg(long, value_name = "FILE", conflicts_with = "gram")]
    pub(super) blocks: Option<PathBuf>,
    /// Relative width of the interval for the threshold; rounding may add to it.
    #[arg(long, value_name = "WIDTH", default_value = "1e-10", value_parser = values::positive)]
    pub(super) tolerance: f64,
    #[command(flatten)]
    pub(super) bracket: BracketArguments,
    /// Adds the thresholds of parts of the samples, N random draws each of n/16, n/8, n/4 and n/2
    /// whole samples, and their spread.
    #[arg(
        long,
        value_name = "N",
        value_parser = values::positive_count,
        conflicts_with_all = ["rank", "relative_width"]
    )]
    pub(super) subsets: Option<usize>,
    /// The number of samples that the model is trained on, where the file holds a part of them: the
    /// answer says what that means.
    #[arg(long, value_name = "N", value_parser = values::positive_count)]
    pub(super) population: Option<usize>,
    /// Draw thresholds and bounds against batch size into this SVG file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rank", "relative_width"])]
    pub(super) figure: Option<PathBuf>,
    /// Exit with status 1 when a given learning rate is unstable, or when there is a doubt about
    /// the input.
    #[arg(long, requires = "learning_rate")]
    pub(super) check: bool,
    /// Format of the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
    /// Threads, at most as many as there are cores; the numbers do not depend on them [default: all
    /// cores].
    #[arg(long, value_name = "N", value_parser = values::positive_count)]
    pub(super) threads: Option<usize>,
    /// Most memory to use, in GiB. Where an exact threshold needs more, a bracket takes its place, or
    /// the file is refused.
    #[arg(long, value_name = "GIB", default_value = "16", value_parser = values::positive)]
    pub(super) memory_limit: f64,
    /// The arrays of a program that asks without a file.
    #[arg(skip)]
    pub(super) arrays: Option<ArraysInMemory>,
    /// The blocks of such a program, in JSON.
    #[arg(skip)]
    pub(super) blocks_in_memory: Option<String>,
}

impl AnalyzeArguments {
    /// True if a bracket answers what is asked, or may take the place of an exact threshold.
    pub(super) fn allows_bracket(&self) -> bool {
        let needs_exact = self.gram
            || self.figure.is_some()
            || self.subsets.is_some()
            || self.training.almost_sure
            || self.blocks.is_some()
            || self.blocks_in_memory.is_some();
        // Options that are refused have no bracket either.
        let optimizer = self.training.optimizer.optimizer().ok();
        let has_bracket = optimizer.is_some_and(|found| obstacle(&self.batches, &found).is_none());
        self.bracket.is_wanted() || (!needs_exact && has_bracket)
    }

    /// The archive of the Jacobian.
    pub(super) fn archive(&self) -> Archive<'_> {
        Archive::new(&self.file, self.arrays.as_ref())
    }

    /// Reads the blocks of parameters, if there are any.
    pub(super) fn read_blocks(&self) -> Result<Option<Blocks>, Failure> {
        match (&self.blocks_in_memory, &self.blocks) {
            (Some(text), _) => Blocks::parse(text.as_bytes(), "blocks".as_ref()).map(Some),
            (None, Some(path)) => Blocks::read(path).map(Some),
            (None, None) => Ok(None),
        }
    }
}
