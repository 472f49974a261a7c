//! Stored subspaces, from which a bracket goes on.

use std::ops::ControlFlow;

use flatmin_linalg::{DenseJacobian, Parallelism, RowMatrix};
use flatmin_theory::{
    Batch, BracketOptions, Optimizer, Sampling, Subspace, ThresholdBracket, continue_bracket,
};

/// The bytes before the numbers, and those of a number.
const START: usize = 24;
const WORD: usize = 8;

/// The rows and columns of the Jacobian whose bracket goes on.
const ROWS: usize = 12;
const COLUMNS: usize = 9;

/// Reads a subspace, whatever its checksum, and goes on with a small bracket from there.
pub(crate) fn go_on(bytes: &[u8]) -> Result<(), String> {
    let bytes = resealed(bytes);
    let mut space =
        Subspace::read_from(&mut bytes.as_slice()).map_err(|error| error.to_string())?;
    let mut stored = Vec::new();
    space.write_to(&mut stored).map_err(|error| error.to_string())?;
    assert!(bytes.starts_with(&stored), "a subspace that is stored again");
    let bracket = bracket(&mut space)?;
    let (lower, upper) = (bracket.lower, bracket.upper);
    assert!(lower <= upper || lower.is_nan() || upper.is_nan(), "[{lower}, {upper}]");
    Ok(())
}

/// The bytes with the right checksum at their end, for damage that has it right.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Some(words) = bytes.get(START..).map(|words| words.len() / WORD).filter(|count| *count > 0)
    else {
        return bytes;
    };
    let end = START + WORD * (words - 1);
    let mixed = |sum: u64, word: &[u8]| {
        let word = word.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    };
    let sum = bytes[START..end].chunks(WORD).fold(0, mixed);
    bytes.truncate(end);
    bytes.extend(sum.to_le_bytes());
    bytes
}

fn bracket(space: &mut Subspace) -> Result<ThresholdBracket, String> {
    let said = |error: &dyn ToString| error.to_string();
    let matrix = RowMatrix::from_fn(ROWS, COLUMNS, |i, j| {
        (((i * 7 + j * j + i * i * j) % 11) as f64 - 5.0) / (1.0 + j as f64)
    });
    let sequential = Parallelism::Sequential;
    let jacobian = DenseJacobian::new(&matrix, 2, sequential).map_err(|error| said(&error))?;
    let batch = Batch::new(2, Sampling::WithReplacement).map_err(|error| said(&error))?;
    let options = BracketOptions {
        relative_width: 1e-6,
        max_rank: 6,
        max_products: 400,
        block_size: 2,
        parallelism: sequential,
        ..BracketOptions::default()
    };
    let watch = &mut |_: &_, _: &_| ControlFlow::Continue(());
    continue_bracket(&jacobian, &Optimizer::sgd(), &batch, &options, space, watch)
        .map_err(|error| said(&error))
}
