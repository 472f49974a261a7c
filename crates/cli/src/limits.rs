//! Sizes that are refused before memory is taken for them.

use std::path::Path;

use flatmin_arrays::MAX_VALUES;

use crate::failure::Failure;

/// Most samples (times outputs) for which an n × n matrix is formed, which then takes 0.8 GB.
pub(crate) const MAX_SAMPLES: usize = 10_000;

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
pub(crate) fn too_many_samples(n: usize, k: usize) -> Option<(String, &'static str)> {
    (n.saturating_mul(k) > MAX_SAMPLES).then(|| match k {
        1 => (format!("{n} samples"), "n × n"),
        _ => (format!("{n} samples with {k} targets"), "nk × nk"),
    })
}
