//! The ledger: statements as values, each with a check and a mutant.

mod comparison;
mod diagonal;
mod entry;
mod generate;
mod instance;
mod monte_carlo;
mod relu;
mod stability;
mod verify;

pub use comparison::{Comparison, Relation};
pub use diagonal::diagonal_norm_checks;
pub use entry::Entry;
pub use instance::{
    DiagonalInstance, Domain, Instance, MinimumInstance, ReluInstance, StepInstance,
};
pub use relu::relu_norm_checks;
pub use verify::{Verification, verify};

use crate::TheoryError;

/// What rounding may take from a comparison, relative.
///
/// Instances of the ledger are small: eigenproblems of dimension up to about 100. Their relative
/// error is at most about `16·N^1.5·ε`, 4e-12; products on the way (Gram matrix, noise operator)
/// add a few `N·ε`.
pub const TOLERANCE: f64 = 1e-10;

/// A statement of the theory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`entry` documents them")]
pub enum Statement {
    S1,
    S2,
    S3,
    S5,
    S6,
    S7,
    R1,
    R2,
    R3,
    R4,
    R5,
    D1,
    D2,
    D5,
}

/// Which version of a statement a check tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As stated: every comparison must hold.
    Stated,
    /// With one constant or exponent wrong: every comparison must fail somewhere.
    Mutant,
}

impl Form {
    fn pick<T>(self, stated: T, mutant: T) -> T {
        match self {
            Self::Stated => stated,
            Self::Mutant => mutant,
        }
    }
}

impl Statement {
    /// Every statement, in the order of the theory.
    pub const ALL: [Self; 14] = [
        Self::S1,
        Self::S2,
        Self::S3,
        Self::S5,
        Self::S6,
        Self::S7,
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::D1,
        Self::D2,
        Self::D5,
    ];

    /// The two sides of the statement on one instance, or of its mutant.
    ///
    /// A pure function of the instance: where the statement is about an expectation, the instance
    /// carries the random inputs.
    ///
    /// # Errors
    /// [`TheoryError::WrongInstance`] when the statement does not speak about such instances, and
    /// whatever keeps the two sides from being computed.
    pub fn check(self, form: Form, instance: &Instance) -> Result<Vec<Comparison>, TheoryError> {
        match (self.entry().domain, instance) {
            (Domain::Minimum, Instance::Minimum(minimum)) => stability::check(self, form, minimum),
            (Domain::Relu, Instance::Relu(network)) => relu::check(self, form, network),
            (Domain::Diagonal, Instance::Diagonal(network)) => diagonal::check(self, form, network),
            (Domain::Step, Instance::Step(step)) => Ok(diagonal::check_step(self, form, step)),
            (expected, instance) => Err(TheoryError::WrongInstance {
                statement: self,
                expected,
                got: instance.domain(),
            }),
        }
    }
}
