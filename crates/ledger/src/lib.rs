//! The ledger: statements as values, each with a check and a mutant.

mod basis_pursuit;
mod batches;
mod comparison;
mod complexity;
mod diagonal;
mod entry;
mod error;
mod generalization;
mod generate;
mod instance;
mod interpolation;
mod momentum;
mod monte_carlo;
mod outputs;
mod perron;
mod relu;
mod stability;
mod trained;
mod verify;

pub use basis_pursuit::{BASIS_PURSUIT_TOLERANCE, BasisPursuit, basis_pursuit};
pub use comparison::{Comparison, Relation};
pub use diagonal::diagonal_norm_checks;
pub use entry::Entry;
pub use error::LedgerError;
pub use generalization::rademacher_bound;
pub use instance::{
    DiagonalInstance, DiagonalStepInstance, Domain, Instance, InterpolationInstance,
    MinimumInstance, MomentumInstance, OutputsInstance, RecoveryInstance, ReluInstance,
    ReluStepInstance, SampleInstance,
};
pub use relu::relu_norm_checks;
pub use verify::{Attained, Tally, Verification, verify};

use std::fmt;
use std::str::FromStr;

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
    S4,
    S5,
    S6,
    S7,
    S8,
    S9,
    S10,
    S11,
    S12,
    S13,
    S14,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    D1,
    D2,
    D3,
    D4,
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

/// The id.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A text that is not the id of a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown statement {0:?}; the ledger has {ids}", ids = Statement::ALL.map(Statement::id).join(", "))]
pub struct UnknownStatement(String);

impl FromStr for Statement {
    type Err = UnknownStatement;

    fn from_str(id: &str) -> Result<Self, UnknownStatement> {
        let found = Self::ALL.into_iter().find(|statement| statement.id() == id);
        found.ok_or_else(|| UnknownStatement(id.to_owned()))
    }
}

impl Statement {
    /// Every statement, in the order of the theory.
    pub const ALL: [Self; 26] = [
        Self::S1,
        Self::S2,
        Self::S3,
        Self::S4,
        Self::S5,
        Self::S6,
        Self::S7,
        Self::S8,
        Self::S9,
        Self::S10,
        Self::S11,
        Self::S12,
        Self::S13,
        Self::S14,
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::R6,
        Self::R7,
        Self::D1,
        Self::D2,
        Self::D3,
        Self::D4,
        Self::D5,
    ];

    /// The two sides of the statement on one instance, or of its mutant.
    ///
    /// A pure function of the instance: where the statement is about an expectation, the instance
    /// carries the random inputs.
    ///
    /// # Errors
    /// [`LedgerError::WrongInstance`] when the statement does not speak about such instances, and
    /// whatever keeps the two sides from being computed.
    pub fn check(self, form: Form, instance: &Instance) -> Result<Vec<Comparison>, LedgerError> {
        match (self.entry().domain, instance) {
            (Domain::Minimum, Instance::Minimum(minimum)) => match self {
                Self::S8 => perron::check_exact(form, minimum),
                Self::S9 => perron::check_perron(form, minimum),
                Self::S10 => perron::check_certificate(form, minimum),
                Self::S14 => perron::check_lyapunov(form, minimum),
                _ => stability::check(self, form, minimum),
            },
            (Domain::Momentum, Instance::Momentum(minimum)) => momentum::check(form, minimum),
            (Domain::Outputs, Instance::Outputs(minimum)) => outputs::check(form, minimum),
            (Domain::Relu, Instance::Relu(network)) => relu::check(self, form, network),
            (Domain::ReluStep, Instance::ReluStep(step)) => Ok(relu::check_step(form, step)),
            (Domain::Sample, Instance::Sample(sample)) => Ok(complexity::check(form, sample)),
            (Domain::Diagonal, Instance::Diagonal(network)) => diagonal::check(self, form, network),
            (Domain::DiagonalStep, Instance::DiagonalStep(step)) => {
                Ok(diagonal::check_step(form, step))
            }
            (Domain::Recovery, Instance::Recovery(target)) => {
                interpolation::check_recovery(form, target)
            }
            (Domain::Interpolation, Instance::Interpolation(target)) => {
                interpolation::check_error(form, target)
            }
            (expected, instance) => Err(LedgerError::WrongInstance {
                statement: self,
                expected,
                got: instance.domain(),
            }),
        }
    }
}
