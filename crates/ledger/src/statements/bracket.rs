//! S20: a bracket from a few modes, compared with the threshold over all batches.

use flatmin_linalg::{DenseJacobian, Parallelism};
use flatmin_theory::{BracketOptions, threshold_bracket};

use super::outputs::OutputsInstance;
use crate::families::steps::{batch_models, enumerated_threshold};
use crate::prelude::*;

pub(super) static S20: Statement = Statement {
    id: "S20",
    title: "A bracket from a part of the modes",
    words: "Let K₁ be the Gram matrix of the parameters projected on a subspace, and K' a matrix \
            that is at least K, with leading modes and a rest of known diagonal blocks. The \
            threshold lies between η*(K') and η*(K₁), and so do bounds on these from the leading \
            modes and the blocks of the rest alone, for one output and for several.",
    latex: r"K_1 \preceq K \preceq K' \implies \eta^*(K') \le \eta^*(K) \le \eta^*(K_1)",
    hypotheses: INDEPENDENT,
    source: FLATMIN,
    check_words: "The bracket of one or two modes, from products with the Jacobian, holds the \
                  threshold of S8 from the list of all batches.",
    mutant_words: "the two ends exchanged",
    trial: &Trial { generate: random, check },
};

/// At most 4 samples with one output, or 3 with two, and 4 parameters.
fn random(rng: &mut dyn Rng) -> OutputsInstance {
    let jacobian = small_jacobian(6, 4, rng);
    let output_count =
        if jacobian.rows() >= 4 && jacobian.rows().is_multiple_of(2) { 2 } else { 1 };
    let samples = (jacobian.rows() / output_count).min(4);
    let rows = samples * output_count;
    let jacobian = RowMatrix::from_fn(rows, jacobian.columns(), |i, j| jacobian.row(i)[j]);
    OutputsInstance { jacobian, output_count, batch: independent_batch(samples, rng) }
}

/// Checks the two ends. The mutant exchanges them.
fn check(form: Form, instance: &OutputsInstance) -> Checked {
    let OutputsInstance { jacobian, output_count, batch } = instance;
    let Some(models) = batch_models(jacobian, *output_count, &[], *batch) else {
        return Ok(Vec::new());
    };
    let exact = enumerated_threshold(&models)?;
    let products = DenseJacobian::new(jacobian, *output_count, Parallelism::Sequential)
        .map_err(|_| LedgerError::Bracket)?;
    let options = BracketOptions {
        relative_width: 0.01,
        max_products: 48,
        max_rank: 1 + jacobian.rows() % 2,
        block_size: 1,
        ..BracketOptions::default()
    };
    let bracket = threshold_bracket(&products, &Optimizer::sgd(), batch, &options)
        .map_err(|_| LedgerError::Bracket)?;
    let (lower, upper) = (bracket.lower, bracket.upper);
    let (lower, upper) = (form.pick(lower, upper), form.pick(upper, lower));
    Ok(vec![
        Comparison::at_most("lower end", lower, exact),
        Comparison::at_most("upper end", exact, upper),
    ])
}
