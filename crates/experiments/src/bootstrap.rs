//! Bootstrap intervals over seeds.
//!
//! The seeds are what is random about a reproduction, so they are what is drawn: a resample has as
//! many of them, with replacement, and every cell of a seed comes with it. The learning rates and
//! sizes of an experiment are chosen and stay. An interval goes from the 2.5 % to the 97.5 %
//! quantile of a statistic over [`RESAMPLES`] resamples (Efron and Tibshirani 1993, chapter 13).
//!
//! The draws come from one fixed stream, so that the same results have the same intervals.

use std::collections::BTreeMap;

use flatmin_linalg::stream;
use rand::RngExt as _;

/// Number of resamples. The share of them below a bound has a standard error of .35 %.
const RESAMPLES: usize = 2000;
/// One resample in this many lies beyond either end of an interval: 2.5 %.
const TAIL: usize = 40;
/// The number of resamples in which a statistic must exist.
const ENOUGH: usize = RESAMPLES / 2;
/// The stream of all draws.
const DRAWS: &str = "bootstrap";

/// How often each seed of a set was drawn.
pub(crate) type Multiplicities = BTreeMap<u64, usize>;

/// Intervals of several statistics, by name.
///
/// Each of `sets` of seeds is resampled on its own. `statistics` computes the values of a resample,
/// which holds the draws of each set. Resamples without a statistic, or in which it is
/// not finite, are left out of its interval. A statistic has no interval where fewer than half of
/// the resamples have it, or where all of them agree on it: then the seeds do not say how certain
/// it is.
pub(crate) fn intervals(
    sets: &[Vec<u64>],
    statistics: impl Fn(&[Multiplicities]) -> Vec<(String, f64)>,
) -> BTreeMap<String, [f64; 2]> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (resample, times) in distinct_resamples(sets) {
        for (name, value) in statistics(&resample) {
            if value.is_finite() {
                values.entry(name).or_default().extend(vec![value; times]);
            }
        }
    }
    values
        .into_iter()
        .filter(|(_, values)| values.len() >= ENOUGH)
        .filter_map(|(name, values)| Some((name, quantiles(values)?)))
        .collect()
}

/// The interval of a statistic of values, one of each seed. `None` of fewer than two values, or if
/// all resamples agree.
pub(crate) fn interval(values: &[f64], statistic: fn(&[f64]) -> f64) -> Option<[f64; 2]> {
    if values.len() < 2 {
        return None;
    }
    let mut draws = Draws::new(0);
    let mut drawn = values.to_vec();
    let resample = |_| {
        for value in &mut drawn {
            *value = values[draws.below(values.len())];
        }
        statistic(&drawn)
    };
    quantiles((0..RESAMPLES).map(resample).collect())
}

/// The resamples, and how often each occurs: with five seeds there are only 126 of them.
fn distinct_resamples(sets: &[Vec<u64>]) -> BTreeMap<Vec<Multiplicities>, usize> {
    let mut draws: Vec<Draws> = (0..).zip(sets).map(|(index, _)| Draws::new(index)).collect();
    let mut resamples = BTreeMap::new();
    if sets.iter().all(|seeds| seeds.len() < 2) {
        return resamples;
    }
    for _ in 0..RESAMPLES {
        let drawn = sets.iter().zip(&mut draws).map(|(seeds, draws)| {
            let mut times = Multiplicities::new();
            for _ in seeds {
                *times.entry(seeds[draws.below(seeds.len())]).or_insert(0) += 1;
            }
            times
        });
        *resamples.entry(drawn.collect()).or_insert(0) += 1;
    }
    resamples
}

/// The 2.5 % and 97.5 % quantiles, as members of the sample; `None` if they are equal.
fn quantiles(mut values: Vec<f64>) -> Option<[f64; 2]> {
    values.sort_by(f64::total_cmp);
    let beyond = values.len() / TAIL;
    let bounds = [*values.get(beyond)?, values[values.len() - 1 - beyond]];
    (bounds[0] < bounds[1]).then_some(bounds)
}

/// Random indices.
struct Draws(flatmin_linalg::Stream);

impl Draws {
    fn new(index: u64) -> Self {
        Self(stream(0, DRAWS, index))
    }

    fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{Multiplicities, interval, intervals};
    use crate::statistics::{mean, median};

    /// A data set with a row for each seed, and the quantiles of numpy's bootstrap around both ends
    /// of the interval. `tests/oracles/bootstrap.py` made them.
    #[derive(Deserialize)]
    struct Case {
        name: String,
        strata: Vec<Vec<u64>>,
        values: Vec<Vec<f64>>,
        statistic: String,
        lower: [f64; 2],
        upper: [f64; 2],
    }

    impl Case {
        fn statistic(&self) -> fn(&[f64]) -> f64 {
            if self.statistic == "mean" { mean } else { median }
        }

        /// The interval of the statistic over all values of the seeds that are drawn.
        fn interval(&self) -> [f64; 2] {
            let pooled = |times: &[Multiplicities]| {
                let rows = times.iter().flatten().flat_map(|(seed, times)| {
                    vec![&self.values[usize::try_from(*seed).unwrap()]; *times]
                });
                let drawn: Vec<f64> = rows.flatten().copied().collect();
                vec![(self.name.clone(), self.statistic()(&drawn))]
            };
            intervals(&self.strata, pooled)[&self.name]
        }
    }

    fn cases() -> Vec<Case> {
        serde_json::from_str(include_str!("../tests/oracles/bootstrap.json")).unwrap()
    }

    #[test]
    fn intervals_are_those_of_numpy_within_monte_carlo_error() {
        for case in cases() {
            let [low, high] = case.interval();
            let inside =
                |[from, to]: [f64; 2], value: f64| from - 1e-12 <= value && value <= to + 1e-12;
            assert!(
                inside(case.lower, low) && inside(case.upper, high),
                "{}: {low} {high}",
                case.name
            );
        }
    }

    #[test]
    fn one_value_a_seed_has_the_interval_of_plain_values() {
        for case in cases().iter().filter(|case| case.strata.len() == 1) {
            let values: Vec<f64> = case.values.iter().map(|row| row[0]).collect();
            if case.values[0].len() == 1 {
                let plain = interval(&values, case.statistic()).unwrap();
                assert!(plain.iter().zip(case.interval()).all(|(a, b)| (a - b).abs() < 1e-12));
            }
        }
    }

    #[test]
    fn nothing_is_said_where_the_seeds_say_nothing() {
        assert_eq!(interval(&[1.0], median), None);
        assert_eq!(interval(&[2.0, 2.0, 2.0], median), None);
        let value = |name: &str, value: f64| (name.to_owned(), value);
        let found = intervals(&[vec![0, 1, 2]], |times| {
            let times = &times[0];
            let mut values = vec![value("constant", 1.0), value("count", times.len() as f64)];
            // Seeds 1 and 2 must both be drawn, which happens in 12 of 27 resamples.
            if times.contains_key(&1) && times.contains_key(&2) {
                values.push(value("rare", times[&1] as f64));
            }
            // Seed 2 must be drawn: in 19 of 27.
            values.push(value("often", times.get(&2).map_or(f64::NAN, |times| *times as f64)));
            values
        });
        assert_eq!(found.keys().collect::<Vec<_>>(), ["count", "often"]);
        assert_eq!(intervals(&[vec![0], vec![1]], |_| vec![value("x", 1.0)]).len(), 0);
    }
}
