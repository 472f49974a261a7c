//! Checks of a statement and its mutant on many random instances.

use std::collections::BTreeMap;
use std::ops::Range;

use flatmin_linalg::stream;

use crate::comparison::{Comparison, TOLERANCE};
use crate::error::LedgerError;
use crate::statement::{Form, Instance, Statement};

/// Relative margin by which a comparison of a mutant must fail: more than any rounding explains.
const REFUTED: f64 = 1e-6;

/// The result of trying a statement and its mutant on random instances.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// The statement.
    pub statement: &'static Statement,
    /// Instances tried.
    pub instances: u64,
    /// A tally for each comparison, in the order of their names.
    pub tallies: Vec<Tally>,
}

/// The results of one comparison of a statement.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Tally {
    /// The name of the comparison.
    pub name: &'static str,
    /// Number of times the comparison was made.
    pub compared: u64,
    /// Number of times it failed by more than [`TOLERANCE`].
    pub violations: u64,
    /// The smallest relative slack; `None` when the comparison was never made, NaN when a side was
    /// NaN.
    #[cfg_attr(feature = "serde", serde(serialize_with = "number_or_word"))]
    pub smallest_slack: Option<f64>,
    /// The instance with the smallest slack.
    pub attained_by: Option<Attained>,
    /// True if the mutant makes the comparison too.
    pub has_mutant: bool,
    /// The first instance on which the comparison of the mutant fails.
    #[cfg_attr(feature = "serde", serde(rename = "mutant_refuted_by"))]
    pub refuted_by: Option<u64>,
}

/// An instance with the two sides of a comparison on it.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Attained {
    /// Its number.
    pub instance: u64,
    /// Its sizes, as in `n = 4, p = 2, B = 1 with replacement`.
    pub sizes: String,
    /// The left side.
    #[cfg_attr(feature = "serde", serde(serialize_with = "number_or_word"))]
    pub lhs: f64,
    /// The right side.
    #[cfg_attr(feature = "serde", serde(serialize_with = "number_or_word"))]
    pub rhs: f64,
}

/// Writes infinities and NaN as words, since JSON has no numbers for them.
#[cfg(feature = "serde")]
fn number_or_word<T, S>(value: &T, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Copy + Into<Option<f64>>,
    S: serde::Serializer,
{
    match (*value).into() {
        Some(number) if number.is_finite() => serializer.serialize_f64(number),
        Some(number) => serializer.serialize_str(&number.to_string().to_lowercase()),
        None => serializer.serialize_none(),
    }
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
        // A NaN is worse than any number.
        let slack = |slack: f64| if slack.is_nan() { f64::NEG_INFINITY } else { slack };
        let made = self.tallies.iter().filter_map(|t| Some((slack(t.smallest_slack?), t)));
        made.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, tally)| tally)
    }

    /// Comparisons of the mutant.
    pub fn mutants(&self) -> usize {
        self.tallies.iter().filter(|tally| tally.has_mutant).count()
    }

    /// Comparisons of the mutant that an instance refuted.
    pub fn mutants_refuted(&self) -> usize {
        self.mutants() - self.surviving_mutants().count()
    }

    /// Comparisons of the mutant that no instance refuted. There should be none.
    pub fn surviving_mutants(&self) -> impl Iterator<Item = &'static str> {
        let survives = |tally: &&Tally| tally.has_mutant && tally.refuted_by.is_none();
        self.tallies.iter().filter(survives).map(|tally| tally.name)
    }

    /// True if the statement was tried and held everywhere, and its mutant was refuted.
    pub fn passed(&self) -> bool {
        let mutant_died = self.mutants() > 0 && self.surviving_mutants().next().is_none();
        self.comparisons() > 0 && self.violations() == 0 && mutant_died
    }

    /// Joins this verification with one of the same statement on later instances. The result is the
    /// same as for one verification of all these instances.
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
            smallest_slack: None,
            attained_by: None,
            has_mutant: false,
            refuted_by: None,
        }
    }

    fn add(&mut self, comparison: &Comparison, number: u64, instance: &dyn Instance) {
        self.compared += 1;
        self.violations += u64::from(!comparison.holds(TOLERANCE));
        if self.is_tighter(comparison.slack) {
            self.smallest_slack = Some(comparison.slack);
            let Comparison { lhs, rhs, .. } = *comparison;
            self.attained_by =
                Some(Attained { instance: number, sizes: instance.sizes(), lhs, rhs });
        }
    }

    fn add_mutant(&mut self, comparison: &Comparison, number: u64) {
        self.has_mutant = true;
        if !comparison.holds(REFUTED) {
            self.refuted_by = self.refuted_by.or(Some(number));
        }
    }

    fn extend(&mut self, later: Self) {
        self.compared += later.compared;
        self.violations += later.violations;
        if later.smallest_slack.is_some_and(|slack| self.is_tighter(slack)) {
            self.smallest_slack = later.smallest_slack;
            self.attained_by = later.attained_by;
        }
        self.has_mutant |= later.has_mutant;
        self.refuted_by = self.refuted_by.or(later.refuted_by);
    }

    /// True if a slack is smaller than all before it; the first NaN stays.
    fn is_tighter(&self, slack: f64) -> bool {
        self.smallest_slack.is_none_or(|smallest| !smallest.is_nan() && !(slack >= smallest))
    }
}

/// Tries `statement` and its mutant on the random `instances` with these numbers. Instance k is
/// drawn from the random stream (`seed`, "ledger", k).
///
/// # Errors
/// [`LedgerError`] when the two sides cannot be computed on an instance.
///
/// # Examples
/// ```
/// let statement = flatmin_ledger::statement("S5")?;
/// let verification = flatmin_ledger::verify(statement, 0, 0..100)?;
/// assert!(verification.passed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(
    statement: &'static Statement,
    seed: u64,
    instances: Range<u64>,
) -> Result<Verification, LedgerError> {
    let mut tallies = BTreeMap::new();
    let count = instances.end.saturating_sub(instances.start);
    for number in instances {
        let instance = statement.instance(&mut stream(seed, "ledger", number));
        for form in [Form::Stated, Form::Mutant] {
            for comparison in statement.check(form, instance.as_ref())? {
                let name = comparison.name;
                let tally = tallies.entry(name).or_insert_with(|| Tally::new(name));
                match form {
                    Form::Stated => tally.add(&comparison, number, instance.as_ref()),
                    Form::Mutant => tally.add_mutant(&comparison, number),
                }
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
            let mut tally = Tally { compared: 1, smallest_slack: Some(0.1), ..Tally::new("test") };
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
            tally.smallest_slack = Some(f64::NAN);
            assert!(!tally.is_tighter(-1.0));
        });
        assert!(slack.tightest().unwrap().smallest_slack.unwrap().is_nan());
    }
}
