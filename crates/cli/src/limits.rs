//! Sizes that are refused before memory is taken for them.

use std::path::Path;

use flatmin_arrays::MAX_VALUES;

use crate::failure::Failure;

/// Most samples (times outputs) for which an n × n matrix is formed, which then takes 0.8 GB.
pub(crate) const MAX_SAMPLES: usize = 10_000;

/// Most samples (times outputs) for which all blocks of an n × n matrix are formed one after the
/// other, for its Frobenius norm. The time grows with the square: at this size it is minutes.
pub(crate) const MAX_SAMPLES_IN_BLOCKS: usize = 50_000;

/// Checks that a matrix of two sizes, each with its name, fits into memory.
pub(crate) fn check_matrix(
    path: &Path,
    (row_name, rows): (&str, usize),
    (column_name, columns): (&str, usize),
) -> Result<(), Failure> {
    if rows.checked_mul(columns).is_some_and(|count| count <= MAX_VALUES) {
        return Ok(());
    }
    let reason = format!(
        "a matrix of {row_name} × {column_name} = {rows} × {columns} numbers is too large (at most \
         {MAX_VALUES} numbers)"
    );
    Err(Failure::input(path, reason))
}

/// The samples and the matrix in a message about too many samples: n samples with k targets each.
pub(crate) fn samples_and_matrix(n: usize, k: usize) -> (String, &'static str) {
    match k {
        1 => (format!("{n} samples"), "n × n"),
        _ => (format!("{n} samples with {k} targets"), "nk × nk"),
    }
}
