//! The claim on exact thresholds at trained minima.

use super::super::grid::{GD, SGD};
use super::super::select::{group_by, trained};
use super::super::threshold::{Family, Studied, almost_sure_margin, of_family, studied};
use super::super::{Experiment, MissingCell};
use super::{smallest, verdict};
use crate::cell::{Results, StabilityResult};
use crate::claim::short_number;
use crate::statistics::median;
use crate::{Claim, Measured, Settings};

/// Relative rounding allowed between closed forms: S6 and S2 agree for p = 1, and are summed in
/// different orders.
const ROUNDING: f64 = 1e-12;
/// SGD stops close to its edge from this learning rate on.
const FIRST_RATE: f64 = 0.002;
/// Where the median of `η*/η` must lie, and where every run.
const MEDIANS: [f64; 2] = [0.85, 1.6];
const RUNS: [f64; 2] = [0.7, 1.3];

/// A pair of neighbours in the order S11, and by what factor it holds at every minimum.
struct Link {
    name: &'static str,
    ratios: Vec<f64>,
}

/// The order S11 at many minima.
struct Order([Link; 6]);

impl Order {
    fn of<'r>(studies: impl Iterator<Item = &'r StabilityResult>) -> Self {
        let mut order = Self(
            [
                "η*/S7",
                "S6/η*",
                "min(S2, S3 sharp, S5)/S6",
                "S3/S3 sharp",
                "S4 centred/η*",
                "η* with less noise / η* with more",
            ]
            .map(|name| Link { name, ratios: Vec::new() }),
        );
        studies.for_each(|study| order.add(study));
        order
    }

    fn add(&mut self, study: &StabilityResult) {
        let infinite = |rate: Option<f64>| rate.unwrap_or(f64::INFINITY);
        let mut batches: Vec<_> = study.batches.iter().collect();
        batches.sort_by(|a, b| b.noise_coefficient.total_cmp(&a.noise_coefficient));
        let mut before = None;
        for batch in batches {
            // The interval for η* is certified against rounding: a link that fails for both of its
            // ends fails for η*.
            let (lower, upper) = (infinite(batch.threshold_lower), infinite(batch.threshold_upper));
            let [s2, s3, s3_sharp, s4, s5, s6, s7] =
                [batch.s2, batch.s3, batch.s3_sharp, batch.s4, batch.s5, batch.s6, batch.s7]
                    .map(infinite);
            let links = [
                (Some(s7), upper),
                (Some(lower), s6),
                (Some(s6), smallest(&[s2, s3_sharp, s5])),
                (Some(s3_sharp), s3),
                (Some(lower), s4),
                // The noise falls from one batch to the next, and η* does not.
                (before, upper),
            ];
            for (link, (smaller, greater)) in self.0.iter_mut().zip(links) {
                // What never turns is beyond everything.
                let smaller = smaller.filter(|_| !greater.is_infinite());
                link.ratios.extend(smaller.map(|smaller| greater / smaller));
            }
            before = Some(lower);
        }
    }

    fn holds(&self) -> bool {
        // Written so that a NaN fails.
        self.0.iter().flat_map(|link| &link.ratios).all(|ratio| *ratio >= 1.0 - ROUNDING)
    }

    fn measured(&self) -> impl Iterator<Item = Measured> {
        let name = |link: &Link| format!("all minima and batches: {}, at least 1", link.name);
        self.0.iter().map(move |link| Measured::new(name(link), &link.ratios))
    }
}

fn within(values: &[f64], [low, high]: [f64; 2]) -> bool {
    values.iter().all(|value| (low..=high).contains(value))
}

fn margins(minima: &[Studied<'_>]) -> Vec<f64> {
    minima.iter().map(Studied::margin).collect()
}

fn converged<'r>(minima: &[Studied<'r>]) -> Vec<Studied<'r>> {
    minima.iter().filter(|m| m.run.result.converged()).copied().collect()
}

pub(super) fn threshold(settings: &Settings, results: &Results) -> Result<Claim, MissingCell> {
    let minima = studied(settings, results)?;
    let order = Order::of(minima.iter().map(|m| m.study));
    let mut measured: Vec<Measured> = order.measured().collect();
    // Every run that ended somewhere must have been studied there.
    let runs = trained(&Experiment::Threshold.cells(settings), results)?;
    let ended = runs.iter().filter(|run| run.result.last.is_some()).count();
    let mut holds = order.holds() && minima.len() == ended;

    let relu = of_family(&minima, Family::Relu, SGD);
    let rates = group_by(&relu, Studied::learning_rate);
    let near: Vec<_> = rates.iter().filter(|(rate, _)| *rate >= FIRST_RATE).collect();
    let mut medians = Vec::new();
    for (rate, group) in &near {
        let margins = margins(group);
        holds &= within(&margins, RUNS);
        medians.push(median(&margins));
        let label = format!("ReLU, SGD, η = {}: η*/η", short_number(*rate));
        measured.push(Measured::new(label, &margins));
    }
    holds &= within(&medians, MEDIANS) && medians.windows(2).all(|pair| pair[1] < pair[0]);

    let at_rest = converged(&relu);
    for minimum in &at_rest {
        let exponent = minimum.study.single_runs.map(|runs| runs.exponent);
        // Without a value it is −∞; written so that a NaN fails.
        holds &= exponent.is_some_and(|e| e.value.is_none_or(|v| v <= 3.0 * e.standard_error));
    }
    for (family, minima) in [
        (Family::Relu, &at_rest),
        (Family::Diagonal, &converged(&of_family(&minima, Family::Diagonal, SGD))),
    ] {
        let exponents: Vec<(f64, f64)> = minima.iter().filter_map(Studied::exponent).collect();
        let name = family.name();
        let values: Vec<f64> = exponents.iter().map(|(value, _)| *value).collect();
        let scaled: Vec<f64> = exponents.iter().map(|(value, error)| value / error).collect();
        let label = format!("{name}, SGD, converged: Lyapunov exponent per step");
        measured.push(Measured::new(label, &values));
        let label = format!("{name}, SGD, converged: the same in its standard errors");
        measured.push(Measured::new(label, &scaled));
    }

    if let Some((rate, group)) = near.last() {
        let group = converged(group);
        let of = format!("ReLU, SGD, η = {}, converged", short_number(*rate));
        let margins = margins(&group);
        let beyond = margins.iter().filter(|margin| **margin < 1.0).count();
        if !group.is_empty() {
            let fraction = beyond as f64 / group.len() as f64;
            let label = format!("{of}: fraction of the {} runs with η* < η", group.len());
            measured.push(Measured::new(label, &[fraction]));
        }
        measured.push(Measured::new(format!("{of}: mean-square edge η*/η"), &margins));
        let edges: Vec<f64> = group.iter().filter_map(almost_sure_margin).collect();
        measured.push(Measured::new(format!("{of}: almost-sure edge over η"), &edges));
    }

    let all_kinds = Family::ALL
        .iter()
        .all(|family| [SGD, GD].iter().all(|m| !of_family(&minima, *family, *m).is_empty()));
    let enough = all_kinds && near.len() >= 2 && !at_rest.is_empty();
    let (verdict, note) = verdict(settings, enough, holds);
    Ok(Claim {
        id: "7".to_owned(),
        sentence:
            "At trained minima the stability conditions stand in their order around the exact \
                   threshold η*; SGD at large learning rates stops close to it, and where it \
                   converges single runs are stable, whether the mean square is or not."
                .to_owned(),
        source: "S2–S11".to_owned(),
        predicate: format!(
            "every minimum of SGD and GD, ReLU and diagonal, and every batch studied: S7 ≤ η* ≤ S6 ≤ \
             min(S2, S3 sharp, S5), S3 sharp ≤ S3, η* ≤ S4 centred, and η* does not fall as the \
             noise does, with the certified interval for η* and a relative {ROUNDING:e} between \
             closed forms; ReLU networks and SGD: from η = {FIRST_RATE} up the medians of η*/η \
             decrease and lie in [{}, {}], every run in [{}, {}]; where SGD converged the Lyapunov \
             exponent at η is ≤ 0 within 3 standard errors",
            MEDIANS[0], MEDIANS[1], RUNS[0], RUNS[1],
        ),
        measured,
        runs: minima.len(),
        verdict,
        note,
    })
}
