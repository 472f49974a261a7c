//! Trying a statement on random instances.

use std::collections::BTreeMap;

use flatmin_linalg::stream;

use super::{Form, Instance, Statement, TOLERANCE};
use crate::TheoryError;

/// What happened to a statement and its mutant on random instances.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// The statement.
    pub statement: Statement,
    /// Instances tried.
    pub instances: u64,
    /// Comparisons made on them.
    pub comparisons: u64,
    /// Comparisons that failed by more than [`TOLERANCE`].
    pub violations: u64,
    /// The smallest relative slack, infinite when nothing was compared, NaN when a side was NaN.
    pub smallest_slack: f64,
    /// The number of the instance that attains it, and its sizes.
    pub attained_by: Option<(u64, String)>,
    /// Comparisons of the mutant, by name, that some instance refuted.
    pub refuted_mutants: Vec<&'static str>,
    /// Those that no instance refuted: should be empty.
    pub surviving_mutants: Vec<&'static str>,
}

impl Verification {
    /// Whether the statement held everywhere and its mutant was refuted.
    pub fn passed(&self) -> bool {
        let mutant_died = !self.refuted_mutants.is_empty() && self.surviving_mutants.is_empty();
        self.comparisons > 0 && self.violations == 0 && mutant_died
    }
}

/// Tries `statement` and its mutant on instances `0..instances` of its domain, where instance k is
/// drawn from the random stream (`seed`, "ledger", k).
///
/// # Errors
/// When the two sides cannot be computed on an instance.
pub fn verify(
    statement: Statement,
    seed: u64,
    instances: u64,
) -> Result<Verification, TheoryError> {
    let mut comparisons = 0;
    let mut violations = 0;
    let mut smallest_slack = f64::INFINITY;
    let mut attained_by = None;
    let mut refuted = BTreeMap::new();
    for number in 0..instances {
        let instance =
            Instance::random(statement.entry().domain, &mut stream(seed, "ledger", number));
        for comparison in statement.check(Form::Stated, &instance)? {
            comparisons += 1;
            violations += u64::from(!comparison.holds(TOLERANCE));
            // A NaN stays.
            if comparison.slack < smallest_slack || comparison.slack.is_nan() {
                smallest_slack = comparison.slack;
                attained_by = Some((number, instance.to_string()));
            }
        }
        for comparison in statement.check(Form::Mutant, &instance)? {
            // Beyond any doubt about rounding.
            *refuted.entry(comparison.name).or_insert(false) |= !comparison.holds(1e-6);
        }
    }
    let named = |wanted: bool| {
        refuted.iter().filter(|(_, refuted)| **refuted == wanted).map(|(name, _)| *name).collect()
    };
    Ok(Verification {
        statement,
        instances,
        comparisons,
        violations,
        smallest_slack,
        attained_by,
        refuted_mutants: named(true),
        surviving_mutants: named(false),
    })
}
