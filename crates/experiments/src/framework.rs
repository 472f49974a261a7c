//! Experiments as values, and the cells, presentations and claims that follow from them.

use std::collections::BTreeSet;
use std::fmt;

use flatmin_figures::Figure;

use crate::bootstrap::{Multiplicities, intervals};
use crate::cell::{CellSpec, Results};
use crate::claim::Claim;
use crate::finished::{FinishedCells, MissingCell};
use crate::judgement::{Judgement, Requirement};
use crate::profile::Settings;
use crate::table::Table;

/// An experiment: its words, its cells, and the functions that present and judge their results.
#[derive(Debug)]
pub struct Experiment {
    /// The name used on the command line and in files.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// The message of its figure, for a reader of the report. A blank line starts a new paragraph.
    pub shows: &'static str,
    pub(crate) how: fn(&Settings) -> String,
    pub(crate) cells: fn(&Settings) -> Vec<CellSpec>,
    pub(crate) present: fn(&FinishedCells<'_>) -> Presentation,
    pub(crate) claims: &'static [ClaimRule],
}

/// A claim that rests on an experiment, and how it is judged.
#[derive(Debug)]
pub(crate) struct ClaimRule {
    /// Its number in the list of claims.
    number: u32,
    /// The claim in one sentence.
    sentence: &'static str,
    /// The statements or papers it rests on.
    source: &'static str,
    /// Experiments whose cells it rests on besides those of its own experiment. It is judged only
    /// where they are run too.
    with: &'static [&'static Experiment],
    /// The least that a reproduction must have to judge it.
    needs: Requirement,
    judge: fn(&FinishedCells<'_>) -> Judgement,
}

impl ClaimRule {
    /// A claim that rests on its own experiment alone, with the sizes of the paper.
    pub(crate) const fn new(
        number: u32,
        sentence: &'static str,
        source: &'static str,
        judge: fn(&FinishedCells<'_>) -> Judgement,
    ) -> Self {
        Self { number, sentence, source, with: &[], needs: Requirement::PAPER_SIZES, judge }
    }

    /// The claim, if it also rests on other experiments.
    pub(crate) const fn with(self, others: &'static [&'static Experiment]) -> Self {
        Self { with: others, ..self }
    }

    /// The claim, if it needs a reproduction of another size.
    pub(crate) const fn needs(self, needs: Requirement) -> Self {
        Self { needs, ..self }
    }
}

/// The full table, the figure, and a summary for the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Presentation {
    /// All observations.
    pub table: Table,
    /// The figure.
    pub figure: Figure,
    /// A few rows for a reader.
    pub summary: Table,
}

impl Experiment {
    /// How it is run, for a reader of the report.
    pub fn how(&self, settings: &Settings) -> String {
        (self.how)(settings)
    }

    /// The cells it needs. Cells that experiments share are equal.
    pub fn cells(&self, settings: &Settings) -> Vec<CellSpec> {
        (self.cells)(settings)
    }

    /// Table, figure and summary from the results of its cells.
    ///
    /// # Errors
    /// [`MissingCell`] when a result is missing.
    pub fn present(
        &self,
        settings: &Settings,
        results: &Results,
    ) -> Result<Presentation, MissingCell> {
        Ok((self.present)(&FinishedCells::new(self.cells(settings), results)?))
    }
}

/// Experiments are equal when they have the same id.
impl PartialEq for Experiment {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl fmt::Display for Experiment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

/// The cells of several experiments, each once, in a fixed order.
pub fn expand(experiments: &[&Experiment], settings: &Settings) -> Vec<CellSpec> {
    let mut seen = BTreeSet::new();
    let cells = experiments.iter().flat_map(|experiment| experiment.cells(settings));
    cells.filter(|cell| seen.insert(cell.key())).collect()
}

/// The claims whose experiments are all among `experiments`, each with the experiment whose figure
/// shows it, in the order of their numbers.
fn rules<'e>(experiments: &[&'e Experiment]) -> Vec<(&'e Experiment, &'e ClaimRule)> {
    let is_run = |other: &&Experiment| experiments.contains(other);
    let rules = experiments
        .iter()
        .flat_map(|experiment| experiment.claims.iter().map(move |rule| (*experiment, rule)));
    let mut rules: Vec<_> = rules.filter(|(_, rule)| rule.with.iter().all(is_run)).collect();
    rules.sort_by_key(|(_, rule)| rule.number);
    rules
}

impl ClaimRule {
    /// The cells that it rests on.
    fn finished<'r>(
        &self,
        experiment: &Experiment,
        settings: &Settings,
        results: &'r Results,
    ) -> Result<FinishedCells<'r>, MissingCell> {
        let mut cells = experiment.cells(settings);
        cells.extend(self.with.iter().flat_map(|other| other.cells(settings)));
        FinishedCells::new(cells, results)
    }
}

/// Judges, in the order of their numbers, the claims whose experiments are all among `experiments`.
///
/// # Errors
/// [`MissingCell`] when a result is missing.
pub fn claims(
    experiments: &[&Experiment],
    settings: &Settings,
    results: &Results,
) -> Result<Vec<Claim>, MissingCell> {
    let judge = |(experiment, rule): (&Experiment, &ClaimRule)| {
        let judgement = (rule.judge)(&rule.finished(experiment, settings, results)?);
        let (verdict, note) = judgement.verdict(rule.needs, settings);
        Ok(Claim {
            id: rule.number.to_string(),
            experiment: experiment.id.to_owned(),
            sentence: rule.sentence.to_owned(),
            source: rule.source.to_owned(),
            predicate: judgement.predicate,
            measured: judgement.measured,
            margin: judgement.margin,
            runs: judgement.runs,
            verdict,
            note,
        })
    };
    rules(experiments).into_iter().map(judge).collect()
}

/// Adds the 95 % bootstrap intervals over the seeds to the measured medians of [`claims`].
///
/// A claim is measured again on every resample of the seeds, so that quantities that combine
/// several medians, such as their ratio or their rank correlation, have intervals too. A quantity
/// has none with fewer than two seeds, and where no resample changes its median.
///
/// # Errors
/// [`MissingCell`] when a result is missing.
pub fn add_intervals(
    claims: &mut [Claim],
    experiments: &[&Experiment],
    settings: &Settings,
    results: &Results,
) -> Result<(), MissingCell> {
    for (experiment, rule) in rules(experiments) {
        let id = rule.number.to_string();
        let Some(claim) = claims.iter_mut().find(|claim| claim.id == id) else { continue };
        let cells = rule.finished(experiment, settings, results)?;
        let sets = cells.seed_sets();
        let medians = |times: &[Multiplicities]| {
            let measured = (rule.judge)(&cells.resampled(&sets, times)).measured.into_iter();
            measured.filter_map(|m| Some((m.quantity, m.median?))).collect()
        };
        let found = intervals(&sets, medians);
        for measured in &mut claim.measured {
            measured.interval = found.get(&measured.quantity).copied();
        }
    }
    Ok(())
}
