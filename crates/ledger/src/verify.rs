//! Trying a statement on random instances.

use std::collections::BTreeMap;
use std::ops::Range;

use flatmin_linalg::stream;

use crate::comparison::{Comparison, TOLERANCE};
use crate::error::LedgerError;
use crate::statement::{Form, Instance, Statement};

/// By how much a comparison of a mutant must fail, relative: beyond any doubt about rounding.
const REFUTED: f64 = 1e-6;

/// What happened to a statement and its mutant on random instances.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// The statement.
    pub statement: &'static Statement,
    /// Instances tried.
    pub instances: u64,
    /// What happened to each of its comparisons, in the order of their names.
    pub tallies: Vec<Tally>,
}

/// What happened to one comparison of a statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// Which comparison, in words.
    pub name: &'static str,
    /// How often it was made.
    pub compared: u64,
    /// How often it failed by more than [`TOLERANCE`].
    pub violations: u64,
    /// The smallest relative slack, infinite when it was never made, NaN when a side was NaN.
    pub smallest_slack: f64,
    /// The instance that attains it.
    pub attained_by: Option<Attained>,
    /// Whether the mutant makes it too.
    pub has_mutant: bool,
    /// The first instance that refuted it for the mutant.
    pub refuted_by: Option<u64>,
}

/// An instance with the two sides of a comparison on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attained {
    /// Its number.
    pub instance: u64,
    /// Its sizes, as in `n = 4, p = 2, B = 1 with replacement`.
    pub sizes: String,
    /// The left side.
    pub lhs: f64,
    /// The right side.
    pub rhs: f64,
}

impl Verification {
    /// Comparisons made.
    pub fn comparisons(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.compared).sum()
    }

    /// Comparisons that failed by more than [`TOLERANCE`].
    pub fn violations(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.violations).sum()
    }

    /// The comparison with the smallest relative slack; none when nothing was compared.
    pub fn tightest(&self) -> Option<&Tally> {
        let made = self.tallies.iter().filter(|tally| tally.compared > 0);
        // A NaN is worse than any number.
        let slack = |tally: &Tally| {
            if tally.smallest_slack.is_nan() { f64::NEG_INFINITY } else { tally.smallest_slack }
        };
        made.min_by(|a, b| slack(a).total_cmp(&slack(b)))
    }

    /// Comparisons of the mutant.
    pub fn mutants(&self) -> usize {
        self.tallies.iter().filter(|tally| tally.has_mutant).count()
    }

    /// Comparisons of the mutant that no instance refuted: there should be none.
    pub fn surviving_mutants(&self) -> impl Iterator<Item = &'static str> {
        let survives = |tally: &&Tally| tally.has_mutant && tally.refuted_by.is_none();
        self.tallies.iter().filter(survives).map(|tally| tally.name)
    }

    /// Whether the statement was tried, held everywhere, and its mutant was refuted.
    pub fn passed(&self) -> bool {
        let mutant_died = self.mutants() > 0 && self.surviving_mutants().next().is_none();
        self.comparisons() > 0 && self.violations() == 0 && mutant_died
    }

    /// This verification followed by one of the same statement on the instances after it: what one
    /// verification of both ranges would have found.
    #[must_use]
    pub fn followed_by(self, later: Self) -> Self {
        let mut tallies: BTreeMap<&'static str, Tally> =
            self.tallies.into_iter().map(|tally| (tally.name, tally)).collect();
        for tally in later.tallies {
            match tallies.get_mut(tally.name) {
                Some(earlier) => earlier.extend(tally),
                None => {
                    tallies.insert(tally.name, tally);
                }
            }
        }
        Self {
            statement: self.statement,
            instances: self.instances + later.instances,
            tallies: tallies.into_values().collect(),
        }
    }
}

impl Tally {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            compared: 0,
            violations: 0,
            smallest_slack: f64::INFINITY,
            attained_by: None,
            has_mutant: false,
            refuted_by: None,
        }
    }

    fn add(&mut self, comparison: &Comparison, number: u64, instance: &dyn Instance) {
        self.compared += 1;
        self.violations += u64::from(!comparison.holds(TOLERANCE));
        if self.is_tighter(comparison.slack) {
            self.smallest_slack = comparison.slack;
            let Comparison { lhs, rhs, .. } = *comparison;
            self.attained_by =
                Some(Attained { instance: number, sizes: instance.sizes(), lhs, rhs });
        }
    }

    fn extend(&mut self, later: Self) {
        self.compared += later.compared;
        self.violations += later.violations;
        if self.is_tighter(later.smallest_slack) {
            self.smallest_slack = later.smallest_slack;
            self.attained_by = later.attained_by;
        }
        self.has_mutant |= later.has_mutant;
        self.refuted_by = self.refuted_by.or(later.refuted_by);
    }

    /// Whether a slack is smaller than all before it; the first NaN stays.
    fn is_tighter(&self, slack: f64) -> bool {
        !self.smallest_slack.is_nan() && !(slack >= self.smallest_slack)
    }
}

/// Tries `statement` and its mutant on the `instances` of its domain with these numbers, where
/// instance k is drawn from the random stream (`seed`, "ledger", k).
///
/// # Errors
/// When the two sides cannot be computed on an instance.
pub fn verify(
    statement: &'static Statement,
    seed: u64,
    instances: Range<u64>,
) -> Result<Verification, LedgerError> {
    let mut tallies = BTreeMap::new();
    let count = instances.end.saturating_sub(instances.start);
    for number in instances {
        let instance = statement.instance(&mut stream(seed, "ledger", number));
        let instance = instance.as_ref();
        for comparison in statement.check(Form::Stated, instance)? {
            let name = comparison.name;
            let tally = tallies.entry(name).or_insert_with(|| Tally::new(name));
            tally.add(&comparison, number, instance);
        }
        for comparison in statement.check(Form::Mutant, instance)? {
            let name = comparison.name;
            let tally = tallies.entry(name).or_insert_with(|| Tally::new(name));
            tally.has_mutant = true;
            if !comparison.holds(REFUTED) {
                tally.refuted_by = tally.refuted_by.or(Some(number));
            }
        }
    }
    Ok(Verification { statement, instances: count, tallies: tallies.into_values().collect() })
}

#[cfg(test)]
mod tests {
    use super::{Tally, Verification, verify};
    use crate::statements::statement;

    #[test]
    fn parts_make_the_whole() {
        for id in ["S6", "D3", "R1"] {
            let statement = statement(id).unwrap();
            let whole = verify(statement, 5, 0..40).unwrap();
            let (first, second) = (verify(statement, 5, 0..7), verify(statement, 5, 7..40));
            assert_eq!(first.unwrap().followed_by(second.unwrap()), whole);
            assert_eq!(whole.instances, 40);
        }
    }

    #[test]
    fn a_nan_a_violation_and_a_surviving_mutant_fail() {
        let tally = |change: &dyn Fn(&mut Tally)| {
            let mut tally = Tally { compared: 1, smallest_slack: 0.1, ..Tally::new("test") };
            (tally.has_mutant, tally.refuted_by) = (true, Some(0));
            change(&mut tally);
            Verification { statement: statement("S2").unwrap(), instances: 1, tallies: vec![tally] }
        };
        assert!(tally(&|_| {}).passed());
        assert!(!tally(&|tally| tally.violations = 1).passed());
        assert!(!tally(&|tally| tally.refuted_by = None).passed());
        assert!(!tally(&|tally| tally.has_mutant = false).passed());
        assert!(!tally(&|tally| tally.compared = 0).passed());
        let slack = tally(&|tally| {
            tally.smallest_slack = f64::NAN;
            assert!(!tally.is_tighter(-1.0));
        });
        assert!(slack.tightest().unwrap().smallest_slack.is_nan());
    }
}
