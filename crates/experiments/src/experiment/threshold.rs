//! Tables and figure of the experiment on how tight the stability conditions are.

use flatmin_optim::{Method, Sampling};

use super::grid::{GD, SGD};
use super::runs::outcome_name;
use super::select::{Trained, dots_and_medians, group_by, method_name, trained};
use super::{MissingCell, Presentation};
use crate::cell::{BatchThresholds, Problem, Results, SingleRuns, StabilityResult};
use crate::statistics::median;
use crate::table::{Column, Table, Value};
use crate::{Experiment, Settings};
use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};

/// Batch sizes whose bounds are drawn: every minimum is studied for them.
const DRAWN_SIZES: [usize; 3] = [1, 8, 64];

/// Standard errors on either side of an exponent that are drawn.
const DRAWN_ERRORS: f64 = 3.0;

/// Steps over which exponents are drawn.
const DRAWN_STEPS: f64 = 1000.0;

/// The factor in η by which the second of two edges is drawn beside the first.
const BESIDE: f64 = 1.1;

/// The architectures, with the words for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Relu,
    Diagonal,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::Relu, Self::Diagonal];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Relu => "ReLU",
            Self::Diagonal => "diagonal",
        }
    }
}

/// A minimum that a run ended at, and what stability theory says of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Studied<'r> {
    pub(super) family: Family,
    pub(super) run: Trained<'r>,
    pub(super) study: &'r StabilityResult,
    /// The study for batches of one.
    pub(super) single: &'r BatchThresholds,
}

/// Everything studied. Runs that diverged ended nowhere and are left out.
pub(super) fn studied<'r>(
    settings: &Settings,
    results: &'r Results,
) -> Result<Vec<Studied<'r>>, MissingCell> {
    let runs = trained(&Experiment::Threshold.cells(settings), results)?;
    Ok(runs.into_iter().filter_map(Studied::new).collect())
}

impl<'r> Studied<'r> {
    /// `None` where nothing was studied.
    fn new(run: Trained<'r>) -> Option<Self> {
        let study = run.result.study.as_deref()?;
        let family = match run.spec.problem {
            Problem::Relu(_) => Family::Relu,
            Problem::Diagonal(_) => Family::Diagonal,
        };
        Some(Self { family, run, study, single: study.single()? })
    }

    pub(super) fn learning_rate(&self) -> f64 {
        self.run.spec.learning_rate
    }

    /// `η*/η` for batches of one: below 1 SGD is not mean-square stable.
    pub(super) fn margin(&self) -> f64 {
        self.single.threshold() / self.learning_rate()
    }

    /// The Lyapunov exponent of SGD with its standard error.
    pub(super) fn exponent(&self) -> Option<(f64, f64)> {
        let SingleRuns { exponent, .. } = self.study.single_runs?;
        Some((exponent.value?, exponent.standard_error))
    }

    /// The study for batches of a size, drawn without replacement.
    fn batches_of(&self, size: usize) -> Option<&'r BatchThresholds> {
        let mut batches = self.study.batches.iter();
        batches.find(|b| b.batch_size == size && b.sampling == Sampling::WithoutReplacement)
    }
}

/// The middle of the interval for the almost-sure edge over η, where both ends are decided.
pub(super) fn almost_sure_margin(minimum: &Studied<'_>) -> Option<f64> {
    let edge = minimum.study.single_runs?.edge;
    let (lower, upper) = edge.lower.zip(edge.upper).filter(|_| edge.decided)?;
    Some(f64::midpoint(lower, upper) / minimum.learning_rate())
}

/// The minima of one architecture and method.
pub(super) fn of_family<'r>(
    minima: &[Studied<'r>],
    family: Family,
    method: Method,
) -> Vec<Studied<'r>> {
    let chosen = minima.iter().filter(|m| m.family == family && m.run.spec.method == method);
    chosen.copied().collect()
}

/// A condition on the learning rate.
struct Bound {
    label: &'static str,
    style: Style,
    value: fn(&BatchThresholds) -> Option<f64>,
}

const BOUNDS: [Bound; 7] = [
    Bound { label: "S2: trace", style: Style(0), value: |b| b.s2 },
    Bound { label: "S3: Frobenius norm", style: Style(1), value: |b| b.s3 },
    Bound { label: "S3, sharp form", style: Style(2), value: |b| b.s3_sharp },
    Bound { label: "S4: centred alignment", style: Style(3), value: |b| b.s4 },
    Bound { label: "S5: largest eigenvalue", style: Style(4), value: |b| b.s5 },
    Bound { label: "S6: spectrum", style: Style(5), value: |b| b.s6 },
    Bound { label: "S7: sufficient", style: Style(6), value: |b| b.s7 },
];

/// The bounds in units of η*, medians over the minima of SGD at each learning rate.
fn bounds_panel(minima: &[Studied<'_>], size: usize) -> Panel {
    let series = BOUNDS.iter().map(|bound| {
        let points =
            group_by(minima, Studied::learning_rate).into_iter().filter_map(|(x, group)| {
                let ratio = |m: &Studied<'_>| {
                    let batch = m.batches_of(size)?;
                    Some((bound.value)(batch)? / batch.threshold())
                };
                let ratios: Vec<f64> = group.iter().filter_map(ratio).collect();
                (!ratios.is_empty()).then(|| (x, median(&ratios)))
            });
        Series {
            label: bound.label.to_owned(),
            style: bound.style,
            mark: Mark::LineAndPoints,
            points: points.collect(),
        }
    });
    Panel {
        // For single samples S6 is S2, and the sharp form of S3 is the plain one.
        title: format!("Bounds at ReLU minima, B = {size}"),
        x: Axis::log("learning rate η of the run"),
        y: Axis::log("bound over η*"),
        series: series.collect(),
        references: vec![horizontal("η*", 1.0)],
    }
}

fn horizontal(label: &str, value: f64) -> Reference {
    Reference { label: label.to_owned(), kind: ReferenceKind::Horizontal(value) }
}

/// Every minimum as a dot, and the line of medians, against the learning rate.
fn against_rate(
    minima: &[Studied<'_>],
    label: &str,
    style: Style,
    value: impl Fn(&Studied<'_>) -> Option<f64>,
) -> Vec<Series> {
    let runs: Vec<Trained<'_>> = minima.iter().map(|m| m.run).collect();
    let value = |run: &Trained<'_>| value(&Studied::new(*run)?);
    dots_and_medians(&runs, label, style, |run| run.spec.learning_rate, value)
}

/// How far the edges are from the learning rate that led to the minimum.
fn edges_panel(minima: &[Studied<'_>], title: &str) -> Panel {
    let mean_square = |m: &Studied<'_>| Some(m.margin());
    let mut series = against_rate(minima, "mean-square edge η*", Style(15), mean_square);
    let label = "almost-sure edge (a little to the right)";
    let mut almost_sure = against_rate(minima, label, Style(9), almost_sure_margin);
    // A line beside the other would look like other medians where both edges agree.
    almost_sure.retain(|series| series.mark != Mark::LineAndPoints);
    let points = almost_sure.iter_mut().flat_map(|series| &mut series.points);
    points.for_each(|(x, _)| *x *= BESIDE);
    series.extend(almost_sure);
    Panel {
        title: title.to_owned(),
        x: Axis::log("learning rate η of the run"),
        y: Axis::log("edge over η"),
        series,
        references: vec![horizontal("unstable at η below 1", 1.0)],
    }
}

/// The Lyapunov exponents of SGD with their errors.
fn exponents_panel(minima: &[Studied<'_>]) -> Panel {
    let mut series = Vec::new();
    for (family, style) in Family::ALL.into_iter().zip([Style(8), Style(10)]) {
        let sgd = of_family(minima, family, SGD);
        let label = format!("exponent, {} networks", family.name());
        let exponent = |m: &Studied<'_>| Some(DRAWN_STEPS * m.exponent()?.0);
        series.extend(against_rate(&sgd, &label, style, exponent));
        series.extend(sgd.iter().filter_map(|m| {
            let (value, error) = m.exponent()?;
            let ends = [value - DRAWN_ERRORS * error, value + DRAWN_ERRORS * error];
            let points = ends.map(|y| (m.learning_rate(), DRAWN_STEPS * y)).to_vec();
            Some(Series { label: String::new(), style, mark: Mark::Line, points })
        }));
    }
    Panel {
        title: "Lyapunov exponent of SGD at η".to_owned(),
        x: Axis::log("learning rate η of the run"),
        y: Axis::linear("growth of ln ‖δ‖ per 1000 steps"),
        series,
        references: vec![horizontal("converges below 0", 0.0)],
    }
}

pub(super) fn present(settings: &Settings, results: &Results) -> Result<Presentation, MissingCell> {
    let minima = studied(settings, results)?;
    let [relu, diagonal] = Family::ALL.map(|family| of_family(&minima, family, SGD));
    let mut panels: Vec<Panel> = DRAWN_SIZES
        .into_iter()
        .filter(|size| relu.iter().any(|m| m.batches_of(*size).is_some()))
        .map(|size| bounds_panel(&relu, size))
        .collect();
    panels.extend([
        edges_panel(&relu, "ReLU networks: edges at the minima"),
        edges_panel(&diagonal, "Diagonal networks: edges at the minima"),
        exponents_panel(&minima),
    ]);
    Ok(Presentation {
        table: table(&minima),
        figure: Figure {
            title: "How tight the stability conditions are at the minima that SGD (B = 1) finds"
                .to_owned(),
            subtitle: "Lines: medians over the runs. Dots: one run each (hollow: stopping rule not \
                       met), bars 3 standard errors. For B = 1, S6 is S2 and both forms of S3 agree."
                .to_owned(),
            columns: 3,
            panels,
        },
        summary: summary(&minima),
    })
}

fn columns(columns: &[(&'static str, &'static str, &'static str)]) -> Vec<Column> {
    let column = |&(name, unit, description)| Column { name, unit, description };
    columns.iter().map(column).collect()
}

/// One row a minimum and way of drawing batches.
fn table(minima: &[Studied<'_>]) -> Table {
    let columns = columns(&[
        ("family", "word", "ReLU or diagonal networks"),
        ("method", "word", "SGD (batch size 1) or GD: what led to the minimum"),
        ("learning_rate", "1", "its learning rate η"),
        ("seed", "seed", "seed of teacher, data, start and batches"),
        ("outcome", "word", "converged or out_of_steps"),
        ("rank", "1", "rank of the Gauss–Newton matrix"),
        ("batch_size", "samples", "samples B per step of the SGD whose stability is asked for"),
        ("sampling", "word", "how its batches are drawn"),
        ("noise_coefficient", "1", "its p"),
        ("threshold_lower", "1", "certified lower end of the exact mean-square threshold η*"),
        ("threshold_upper", "1", "certified upper end"),
        ("s2", "1", "learning rate at which the trace condition turns"),
        ("s3", "1", "the same for the Frobenius norm"),
        ("s3_sharp", "1", "the same, sharp form"),
        ("s4", "1", "the same for the Frobenius norm with the centred alignment"),
        ("s5", "1", "the same for the largest eigenvalue"),
        ("s6", "1", "the same for the spectral condition"),
        ("s7", "1", "learning rate up to which the sufficient condition holds"),
        ("exponent", "1/step", "Lyapunov exponent of SGD, B = 1, at η (SGD, rows with B = 1)"),
        ("exponent_standard_error", "1/step", "its standard error"),
        ("almost_sure_lower", "1", "learning rate below the almost-sure edge (the same rows)"),
        ("almost_sure_upper", "1", "learning rate above it"),
        ("almost_sure_decided", "word", "whether both ends are decided by 3 standard errors"),
    ]);
    // What does not bound the learning rate is infinite.
    let rate = |bound: Option<f64>| Value::Number(bound.unwrap_or(f64::INFINITY));
    let rows = minima.iter().flat_map(|m| {
        m.study.batches.iter().map(move |batch| {
            let runs = m.study.single_runs.filter(|_| batch.batch_size == 1);
            let (exponent, edge) = (runs.map(|r| r.exponent), runs.map(|r| r.edge));
            vec![
                m.family.name().into(),
                m.run.method().into(),
                Value::Number(m.learning_rate()),
                Value::Integer(m.run.spec.seed),
                outcome_name(m.run.result.outcome).into(),
                Value::Integer(m.study.rank as u64),
                Value::Integer(batch.batch_size as u64),
                match batch.sampling {
                    Sampling::WithReplacement => "with_replacement",
                    Sampling::WithoutReplacement => "without_replacement",
                    Sampling::Reshuffling => "reshuffling",
                }
                .into(),
                Value::Number(batch.noise_coefficient),
                rate(batch.threshold_lower),
                rate(batch.threshold_upper),
                rate(batch.s2),
                rate(batch.s3),
                rate(batch.s3_sharp),
                rate(batch.s4),
                rate(batch.s5),
                rate(batch.s6),
                rate(batch.s7),
                exponent.map(|e| e.value.unwrap_or(f64::NEG_INFINITY)).into(),
                exponent.map(|e| e.standard_error).into(),
                edge.and_then(|e| e.lower).into(),
                edge.and_then(|e| e.upper).into(),
                edge.map_or(Value::Missing, |e| if e.decided { "yes" } else { "no" }.into()),
            ]
        })
    });
    Table { columns, rows: rows.collect() }
}

/// Medians an architecture, method and learning rate.
fn summary(minima: &[Studied<'_>]) -> Table {
    let columns = columns(&[
        ("family", "word", "ReLU or diagonal networks"),
        ("method", "word", "SGD (batch size 1) or GD: what led to the minima"),
        ("learning_rate", "1", "its learning rate η"),
        ("converged", "runs", "runs that met the stopping rule"),
        ("runs", "runs", "runs"),
        ("margin", "1", "median of η*/η, B = 1"),
        ("beyond_threshold", "1", "fraction of the runs with η* < η"),
        ("almost_sure_margin", "1", "median of the almost-sure edge over η"),
        ("exponent", "1/step", "median Lyapunov exponent of SGD at η"),
        ("s2_ratio", "1", "median of S2 over η*, B = 1"),
        ("s6_ratio_8", "1", "median of S6 over η*, B = 8"),
    ]);
    let mut rows = Vec::new();
    for family in Family::ALL {
        for method in [SGD, GD] {
            let minima = of_family(minima, family, method);
            for (rate, group) in group_by(&minima, Studied::learning_rate) {
                let of = |value: &dyn Fn(&Studied<'_>) -> Option<f64>| {
                    Value::median(group.iter().filter_map(value))
                };
                let beyond = group.iter().filter(|m| m.margin() < 1.0).count();
                let converged = group.iter().filter(|m| m.run.result.converged()).count();
                rows.push(vec![
                    family.name().into(),
                    method_name(method).into(),
                    Value::Number(rate),
                    Value::Integer(converged as u64),
                    Value::Integer(group.len() as u64),
                    of(&|m| Some(m.margin())),
                    Value::Number(beyond as f64 / group.len() as f64),
                    of(&almost_sure_margin),
                    of(&|m| Some(m.exponent()?.0)),
                    of(&|m| Some(m.single.s2? / m.single.threshold())),
                    of(&|m| m.batches_of(8).and_then(|b| Some(b.s6? / b.threshold()))),
                ]);
            }
        }
    }
    Table { columns, rows }
}
