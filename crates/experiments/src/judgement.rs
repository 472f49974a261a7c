//! The evidence on a claim, and the verdict that follows from it.

use crate::claim::{Margin, Measured, Verdict};
use crate::profile::{Profile, Settings};

/// The least that a reproduction must have so that a claim can be judged on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// Smallest profile. [`Profile::Quick`] has the sizes of the paper, [`Profile::Paper`] also its
    /// numbers of steps.
    pub(crate) profile: Profile,
    /// Smallest number of seeds.
    pub(crate) seeds: u64,
}

impl Requirement {
    /// Any profile and one seed will do.
    pub(crate) const NOTHING: Self = Self { profile: Profile::Smoke, seeds: 1 };
    /// The sizes of the paper.
    pub(crate) const PAPER_SIZES: Self = Self { profile: Profile::Quick, seeds: 1 };

    /// The reason why a reproduction with `settings` has too little; `None` if it has enough.
    fn unmet(self, settings: &Settings) -> Option<String> {
        let Settings { profile, seeds, .. } = *settings;
        if profile == Profile::Smoke && self.profile > Profile::Smoke {
            return Some("The sizes of this profile are too small to judge it.".to_owned());
        }
        let mut needs = Vec::new();
        if profile < self.profile {
            needs.push("runs of the paper's length".to_owned());
        }
        if seeds < self.seeds {
            needs.push(format!("at least {} seeds, this reproduction has {seeds}", self.seeds));
        }
        (!needs.is_empty()).then(|| format!("To judge it takes {}.", needs.join(" and ")))
    }
}

/// The measurements on a claim, and whether they support it.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// The predicate, in words.
    pub(crate) predicate: String,
    /// Number of training runs (or networks) behind it.
    pub(crate) runs: usize,
    pub(crate) measured: Vec<Measured>,
    /// The narrowest margin so far.
    pub(crate) margin: Option<Margin>,
    holds: bool,
    too_few: Option<&'static str>,
    note: String,
}

impl Judgement {
    /// Begins to judge `predicate` on `runs` runs.
    pub(crate) fn new(predicate: impl Into<String>, runs: usize) -> Self {
        let (predicate, measured, note) = (predicate.into(), Vec::new(), String::new());
        let margin = None;
        Self { predicate, runs, measured, margin, holds: true, too_few: None, note }
    }

    /// Adds a measured quantity.
    pub(crate) fn measure(&mut self, quantity: impl Into<String>, values: &[f64]) {
        self.measured.push(Measured::new(quantity, values));
    }

    /// Fails the claim unless `condition` is true. Comparisons must be written so that a NaN is
    /// false.
    pub(crate) fn require(&mut self, condition: bool) {
        self.holds &= condition;
    }

    /// Requires `value ≤ limit`, and remembers how near they are. The limit is not zero.
    pub(crate) fn at_most(&mut self, quantity: impl Into<String>, value: f64, limit: f64) {
        self.require(value <= limit);
        self.near(quantity, value, limit, (limit - value) / limit.abs());
    }

    /// Requires `value ≥ limit`, and remembers how near they are. The limit is not zero.
    pub(crate) fn at_least(&mut self, quantity: impl Into<String>, value: f64, limit: f64) {
        self.require(value >= limit);
        self.near(quantity, value, limit, (value - limit) / limit.abs());
    }

    /// Requires that all values lie in a range, and remembers how near they are to its ends.
    pub(crate) fn all_within(&mut self, quantity: &str, values: &[f64], [low, high]: [f64; 2]) {
        for value in values {
            self.at_least(quantity, *value, low);
            self.at_most(quantity, *value, high);
        }
    }

    /// Requires that all values lie in a range around an expected value, and remembers how far they
    /// are from the latter, of what is allowed: a ratio of 1.07 that should be 1 is not near 1.15.
    pub(crate) fn all_near(
        &mut self,
        quantity: &str,
        values: &[f64],
        expected: f64,
        [low, high]: [f64; 2],
    ) {
        for value in values {
            self.require((low..=high).contains(value));
            let (distance, most) = if *value < expected {
                (expected - value, expected - low)
            } else {
                (value - expected, high - expected)
            };
            let quantity = format!("|{quantity} − {expected}|");
            self.near(quantity, distance, most, (most - distance) / most);
        }
    }

    fn near(&mut self, quantity: impl Into<String>, value: f64, limit: f64, relative: f64) {
        let is_narrower = self.margin.as_ref().is_none_or(|margin| relative < margin.relative);
        if is_narrower && relative.is_finite() {
            self.margin = Some(Margin { quantity: quantity.into(), value, limit, relative });
        }
    }

    /// Leaves the claim undecided unless enough runs came to rest.
    pub(crate) fn need_runs(&mut self, enough: bool) {
        self.need(enough, "Too few runs came to rest to judge it.");
    }

    /// Leaves the claim undecided, with this note, unless `enough` is true.
    pub(crate) fn need(&mut self, enough: bool, otherwise: &'static str) {
        self.too_few = self.too_few.or((!enough).then_some(otherwise));
    }

    /// Adds a note that is shown beside a decided verdict.
    pub(crate) fn note(&mut self, note: String) {
        self.note = note;
    }

    /// The verdict and the note beside it.
    pub(crate) fn verdict(&self, needs: Requirement, settings: &Settings) -> (Verdict, String) {
        if let Some(reason) = needs.unmet(settings) {
            return (Verdict::Undecided, reason);
        }
        match (self.too_few, self.holds) {
            (Some(reason), _) => (Verdict::Undecided, reason.to_owned()),
            (None, true) => (Verdict::Holds, self.note.clone()),
            (None, false) => (Verdict::Fails, self.note.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Judgement, Requirement};
    use crate::{Profile, Settings, Verdict};

    #[test]
    fn a_claim_that_needs_more_than_the_profile_has_is_undecided_whatever_was_measured() {
        let needs = Requirement { profile: Profile::Paper, seeds: 3 };
        let check = |profile, seeds, expected: Option<&str>| {
            let settings = Settings { profile, seeds, seed: 0 };
            let mut judgement = Judgement::new("nothing fails", 1);
            judgement.require(false);
            let (verdict, note) = judgement.verdict(needs, &settings);
            match expected {
                Some(reason) => assert_eq!((verdict, &*note), (Verdict::Undecided, reason)),
                None => assert_eq!(verdict, Verdict::Fails),
            }
        };
        check(Profile::Smoke, 5, Some("The sizes of this profile are too small to judge it."));
        let lengths = "To judge it takes runs of the paper's length.";
        check(Profile::Quick, 3, Some(lengths));
        let seeds = "To judge it takes at least 3 seeds, this reproduction has 1.";
        check(Profile::Paper, 1, Some(seeds));
        check(Profile::Paper, 3, None);
        check(Profile::Full, 20, None);
    }

    #[test]
    fn the_narrowest_margin_is_kept_and_a_nan_fails() {
        let mut judgement = Judgement::new("", 1);
        judgement.at_most("error", 0.9, 1.0);
        judgement.all_within("ratio", &[1.02, 1.5], [1.0, 2.0]);
        judgement.at_least("gain", 30.0, 10.0);
        let margin = judgement.margin.clone().unwrap();
        assert_eq!((&*margin.quantity, margin.value, margin.limit), ("ratio", 1.02, 1.0));
        assert!((margin.relative - 0.02).abs() < 1e-15);
        let settings = Settings::new(Profile::Paper);
        assert_eq!(judgement.verdict(Requirement::NOTHING, &settings).0, Verdict::Holds);
        judgement.at_most("error", f64::NAN, 1.0);
        assert_eq!(judgement.verdict(Requirement::NOTHING, &settings).0, Verdict::Fails);
        assert_eq!(judgement.margin.unwrap().quantity, "ratio");
    }

    #[test]
    fn distances_from_an_expected_value_are_compared_with_those_of_the_ends() {
        let check = |values: &[f64], expected: Verdict, relative: f64| {
            let mut judgement = Judgement::new("", 1);
            judgement.all_near("ratio", values, 1.0, [0.9, 1.2]);
            let settings = Settings::new(Profile::Paper);
            assert_eq!(judgement.verdict(Requirement::NOTHING, &settings).0, expected);
            let margin = judgement.margin.unwrap();
            assert_eq!(margin.quantity, "|ratio − 1|");
            assert!((margin.relative - relative).abs() < 1e-12, "{margin:?}");
        };
        check(&[1.05, 0.98], Verdict::Holds, 0.75);
        check(&[1.05, 0.94], Verdict::Holds, 0.4);
        check(&[1.3], Verdict::Fails, -0.5);
        check(&[0.85], Verdict::Fails, -0.5);
        check(&[f64::NAN, 1.0], Verdict::Fails, 1.0);
    }

    #[test]
    fn the_first_reason_stays_and_a_note_is_shown_with_a_decided_verdict_only() {
        let settings = Settings::new(Profile::Paper);
        let mut judgement = Judgement::new("", 1);
        judgement.note("besides".to_owned());
        let verdict = |j: &Judgement| j.verdict(Requirement::PAPER_SIZES, &settings);
        assert_eq!(verdict(&judgement), (Verdict::Holds, "besides".to_owned()));
        judgement.need(false, "too few networks");
        judgement.need_runs(false);
        assert_eq!(verdict(&judgement), (Verdict::Undecided, "too few networks".to_owned()));
    }
}
