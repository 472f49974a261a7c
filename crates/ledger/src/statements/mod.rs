//! The statements: each a value in a file with its check, its mutant and its generator.
//!
//! A new statement is a `static` in a file of its own, or beside a statement that shares its check,
//! and a line in [`STATEMENTS`]. Its place on the page of the ledger, its verification, its
//! property test and its row in reports follow from that.

mod alignment;
mod bounds;
mod bracket;
mod complexity;
mod contraction;
mod diagonal_norms;
mod diagonal_step;
mod epochs;
mod exact_threshold;
mod function_norms;
mod gradient_descent;
mod interpolating_functions;
mod interpolation;
mod losses;
mod lyapunov;
mod matrix_norms;
mod matrix_sample;
mod matrix_step;
mod momentum;
mod noise_floor;
mod optimizers;
mod outputs;
mod perron;
mod recovery;
mod relu_norms;
mod relu_step;
mod samplings;

pub use complexity::{SampleInstance, rademacher_bound};
pub use diagonal_norms::{DiagonalInstance, diagonal_norm_checks};
pub use diagonal_step::DiagonalStepInstance;
pub use epochs::EpochInstance;
pub use interpolation::InterpolationInstance;
pub use losses::{Loss, LossInstance};
pub use matrix_norms::MatrixInstance;
pub use matrix_sample::SensingInstance;
pub use matrix_step::SensingStepInstance;
pub use momentum::MomentumInstance;
pub use noise_floor::NoiseFloorInstance;
pub use optimizers::OptimizerInstance;
pub use outputs::OutputsInstance;
pub use recovery::RecoveryInstance;
pub use relu_norms::{ReluInstance, relu_norm_checks};
pub use relu_step::ReluStepInstance;

use crate::statement::Statement;

/// Every statement, in the order of the theory.
pub static STATEMENTS: [&Statement; 42] = [
    &gradient_descent::S1,
    &bounds::S2,
    &bounds::S3,
    &alignment::S4,
    &bounds::S5,
    &bounds::S6,
    &bounds::S7,
    &exact_threshold::S8,
    &perron::S9,
    &perron::S10,
    &bounds::S11,
    &momentum::S12,
    &outputs::S13,
    &lyapunov::S14,
    &optimizers::S15,
    &samplings::S16,
    &losses::S17,
    &noise_floor::S18,
    &contraction::S19,
    &bracket::S20,
    &epochs::S21,
    &relu_norms::R1,
    &relu_norms::R2,
    &relu_norms::R3,
    &relu_norms::R4,
    &relu_norms::R5,
    &complexity::R6,
    &relu_step::R7,
    &diagonal_norms::D1,
    &diagonal_norms::D2,
    &recovery::D3,
    &interpolation::D4,
    &diagonal_step::D5,
    &matrix_norms::F1,
    &matrix_norms::F2,
    &matrix_norms::F3,
    &matrix_norms::F4,
    &matrix_sample::F5,
    &matrix_step::F6,
    &function_norms::U1,
    &function_norms::U2,
    &interpolating_functions::U3,
];

/// The error for a text that is not the id of a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown statement {0:?}; the ledger has {ids}", ids = STATEMENTS.map(|s| s.id).join(", "))]
pub struct UnknownStatement(String);

/// The statement with this id.
///
/// # Errors
/// [`UnknownStatement`], which lists the ids of the ledger.
///
/// # Examples
/// ```
/// let statement = flatmin_ledger::statement("S2")?;
/// assert_eq!(statement.title, "Trace bound");
/// assert!(flatmin_ledger::statement("S99").is_err());
/// # Ok::<(), flatmin_ledger::UnknownStatement>(())
/// ```
pub fn statement(id: &str) -> Result<&'static Statement, UnknownStatement> {
    let found = STATEMENTS.into_iter().find(|statement| statement.id == id);
    found.ok_or_else(|| UnknownStatement(id.to_owned()))
}

#[cfg(test)]
mod tests {
    use flatmin_linalg::stream;

    use super::STATEMENTS;

    #[test]
    fn every_statement_is_complete() {
        for statement in STATEMENTS {
            let texts = [
                statement.title,
                statement.words,
                statement.latex,
                statement.hypotheses,
                statement.source,
                statement.check_words,
                statement.mutant_words,
            ];
            assert!(texts.iter().all(|text| !text.is_empty()), "{statement}");
            let count = |brace| statement.latex.matches(brace).count();
            assert_eq!(count('{'), count('}'), "{statement}");
            assert_eq!(STATEMENTS.iter().filter(|other| **other == statement).count(), 1);
        }
    }

    #[test]
    fn a_stream_fixes_the_instance() {
        for statement in STATEMENTS {
            let draw = |index| {
                let instance = statement.instance(&mut stream(3, "instances", index));
                format!("{instance:?}")
            };
            assert_eq!(draw(0), draw(0));
            assert_ne!(draw(0), draw(1));
        }
    }
}
