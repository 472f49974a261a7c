//! Tables and figure of the experiment on SGD linearised at trained minima.

use flatmin_theory::ReplicaMean;

use super::select::{Trained, trained};
use super::{MissingCell, Presentation};
use crate::cell::{
    FACTORS, MOMENTUM, Problem, Results, SIMULATED_STEPS, SimulatedDynamics, SimulatedPoint,
    StabilityResult, StoredEdge, StoredExponent,
};
use crate::claim::short_number;
use crate::table::{Column, Table, Value};
use crate::{Experiment, Settings};
use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};

/// Standard errors on each side that error bars show, and that claims ask for.
pub(super) const STANDARD_ERRORS: f64 = 3.0;

/// The last step at which replicas are measured.
pub(super) const LAST_SIMULATED: usize = SIMULATED_STEPS[SIMULATED_STEPS.len() - 1];

/// Kinds of minima; the last one is not on the grid of every profile.
const KINDS: [&str; 3] = ["ReLU, largest η", "diagonal", "ReLU, smaller η"];

/// Distance between the factors within a kind of minimum, and between momenta.
const OFFSET: f64 = 0.17;

/// A minimum at which linearised SGD was studied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Studied<'r> {
    run: Trained<'r>,
    study: &'r StabilityResult,
    /// Index into [`KINDS`].
    kind: usize,
}

impl<'r> Studied<'r> {
    /// The dynamics with this momentum, by ascending factor.
    fn with_momentum(&self, momentum: f64) -> impl Iterator<Item = &'r SimulatedDynamics> {
        let dynamics = self.study.dynamics.iter();
        dynamics.filter(move |dynamics| dynamics.momentum.total_cmp(&momentum).is_eq())
    }

    /// Without momentum at `factor` times the threshold.
    pub(super) fn plain(&self, factor: f64) -> Option<&'r SimulatedDynamics> {
        self.with_momentum(0.0).find(|dynamics| dynamics.factor.total_cmp(&factor).is_eq())
    }

    /// Where it stands among the kinds; two seeds stand side by side.
    fn place(&self) -> f64 {
        self.kind as f64 + if self.run.spec.seed.is_multiple_of(2) { -0.03 } else { 0.03 }
    }

    fn edge(&self, momentum: f64) -> Option<StoredEdge> {
        if momentum > 0.0 { self.study.momentum_edge } else { Some(self.study.single_runs?.edge) }
    }

    /// Both ends of the almost-sure edge in units of the mean-square one with the same momentum.
    fn scaled_edge(&self, momentum: f64) -> Option<(f64, f64)> {
        let (edge, dynamics) = (self.edge(momentum)?, self.with_momentum(momentum).next()?);
        Some((edge.lower? / dynamics.threshold, edge.upper? / dynamics.threshold))
    }
}

/// The path of a study at one step.
pub(super) fn at(dynamics: &SimulatedDynamics, step: usize) -> Option<&SimulatedPoint> {
    dynamics.path.iter().find(|point| point.step == step)
}

/// `(simulated − exact) / standard error`.
pub(super) fn deviation(simulated: ReplicaMean, exact: f64) -> f64 {
    (simulated.value - exact) / simulated.standard_error
}

/// The minima studied, in the order of their cells.
pub(super) fn studied<'r>(
    settings: &Settings,
    results: &'r Results,
) -> Result<Vec<Studied<'r>>, MissingCell> {
    let runs = trained(&Experiment::LinearStability.cells(settings), results)?;
    let relu = runs.iter().filter(|run| is_relu(run)).map(|run| run.spec.learning_rate);
    let largest = relu.fold(0.0, f64::max);
    let studied = runs.into_iter().filter_map(|run| {
        let kind = match (is_relu(&run), run.spec.learning_rate >= largest) {
            (true, true) => 0,
            (false, _) => 1,
            (true, false) => 2,
        };
        // A run that diverged has none.
        Some(Studied { run, study: run.result.study.as_deref()?, kind })
    });
    Ok(studied.collect())
}

fn is_relu(run: &Trained<'_>) -> bool {
    matches!(run.spec.problem, Problem::Relu(_))
}

fn factor_style(factor: f64) -> Style {
    Style(FACTORS.iter().position(|f| f.total_cmp(&factor).is_eq()).unwrap_or(FACTORS.len()))
}

fn factor_label(factor: f64) -> String {
    format!("η = {factor} η*")
}

const MOMENTA: [(f64, &str, Style); 2] =
    [(0.0, "momentum 0", Style(4)), (MOMENTUM, "momentum .9", Style(5))];

fn horizontal(label: &str, value: f64) -> Reference {
    Reference { label: label.to_owned(), kind: ReferenceKind::Horizontal(value) }
}

/// Ends of error bars about points `(x, y, standard error)`.
fn bars(points: &[(f64, f64, f64)]) -> Vec<(f64, f64)> {
    let ends = points.iter().flat_map(|&(x, y, error)| {
        [(x, y - STANDARD_ERRORS * error), (x, y + STANDARD_ERRORS * error)]
    });
    ends.collect()
}

/// Points with their error bars.
fn estimates(label: &str, style: Style, points: &[(f64, f64, f64)]) -> [Series; 2] {
    let series = |mark, points| Series { label: label.to_owned(), style, mark, points };
    let centers = points.iter().map(|&(x, y, _)| (x, y)).collect();
    [series(Mark::Intervals, bars(points)), series(Mark::OpenPoints, centers)]
}

type Exact = fn(&SimulatedPoint) -> Option<f64>;
type Simulated = fn(&SimulatedPoint) -> Option<ReplicaMean>;

/// A quantity along the steps at one minimum: exact lines, and replicas with error bars.
fn along(
    title: String,
    label: &str,
    minimum: Option<&Studied<'_>>,
    momentum: f64,
    (exact, simulated): (Exact, Simulated),
) -> Panel {
    let mut series = Vec::new();
    for dynamics in minimum.into_iter().flat_map(|minimum| minimum.with_momentum(momentum)) {
        let (label, style) = (factor_label(dynamics.factor), factor_style(dynamics.factor));
        let path = || dynamics.path.iter();
        let line = path().filter_map(|point| Some((point.step as f64, exact(point)?))).collect();
        let replicas: Vec<_> = path()
            .filter_map(|point| {
                let mean = simulated(point)?;
                Some((point.step as f64, mean.value, mean.standard_error))
            })
            .collect();
        series.extend(estimates(&label, style, &replicas));
        series.push(Series { label, style, mark: Mark::Line, points: line });
    }
    Panel {
        title,
        x: Axis::linear("step t"),
        y: Axis::linear(label),
        series,
        references: vec![horizontal("start", 1.0)],
    }
}

/// `E V(δ_t) / V(δ_0)` over the replicas at every minimum, by kind of minimum and factor.
fn every_minimum(minima: &[Studied<'_>], kinds: &'static [&'static str]) -> Panel {
    let mut series = Vec::new();
    for (index, factor) in FACTORS.into_iter().enumerate() {
        let shift = OFFSET * (index as f64 - 0.5 * (FACTORS.len() - 1) as f64);
        let points: Vec<_> = minima
            .iter()
            .filter_map(|minimum| {
                let mean = at(minimum.plain(factor)?, LAST_SIMULATED)?.simulated_form?;
                Some((minimum.place() + shift, mean.value, mean.standard_error))
            })
            .collect();
        let (label, style) = (factor_label(factor), factor_style(factor));
        series.extend(estimates(&label, style, &points));
    }
    Panel {
        title: format!("Every minimum: V over the replicas at step {LAST_SIMULATED}"),
        x: Axis::categories("minimum", kinds),
        y: Axis::linear("E V(δ_{t}) / V(δ_{0})"),
        series,
        references: vec![horizontal("start", 1.0)],
    }
}

/// The Lyapunov exponent against η/η* at one minimum.
fn exponents(minimum: Option<&Studied<'_>>, title: String) -> Panel {
    let mut series = Vec::new();
    for (momentum, label, style) in MOMENTA {
        let Some(minimum) = minimum else { continue };
        let points: Vec<_> = minimum
            .with_momentum(momentum)
            .filter_map(|dynamics| {
                let StoredExponent { value, standard_error } = dynamics.exponent;
                Some((dynamics.factor, value?, standard_error))
            })
            .collect();
        let line = points.iter().map(|&(x, y, _)| (x, y)).collect();
        series.extend(estimates(label, style, &points));
        series.push(Series { label: label.to_owned(), style, mark: Mark::Line, points: line });
    }
    Panel {
        title,
        x: Axis::linear("η/η* (η* with the same momentum)"),
        y: Axis::linear("Lyapunov exponent per step"),
        series,
        references: vec![
            horizontal("single runs converge below", 0.0),
            Reference { label: "mean-square edge".to_owned(), kind: ReferenceKind::Vertical(1.0) },
        ],
    }
}

/// The almost-sure edge over the mean-square one at every minimum.
fn edges(minima: &[Studied<'_>], kinds: &'static [&'static str]) -> Panel {
    let mut series = Vec::new();
    for (index, (momentum, label, style)) in MOMENTA.into_iter().enumerate() {
        let shift = OFFSET * (2.0 * index as f64 - 1.0);
        let (mut ends, mut middles) = (Vec::new(), Vec::new());
        for minimum in minima {
            let Some((lower, upper)) = minimum.scaled_edge(momentum) else { continue };
            let x = minimum.place() + shift;
            ends.extend([(x, lower), (x, upper)]);
            middles.push((x, f64::midpoint(lower, upper)));
        }
        let series_of = |mark, points| Series { label: label.to_owned(), style, mark, points };
        series.push(series_of(Mark::Intervals, ends));
        series.push(series_of(Mark::OpenPoints, middles));
    }
    Panel {
        title: "Every minimum: where single runs stop converging".to_owned(),
        x: Axis::categories("minimum", kinds),
        y: Axis::linear("almost-sure edge / η*"),
        series,
        references: vec![horizontal("mean-square edge", 1.0)],
    }
}

pub(super) fn present(settings: &Settings, results: &Results) -> Result<Presentation, MissingCell> {
    let minima = studied(settings, results)?;
    let count = if minima.iter().any(|minimum| minimum.kind + 1 == KINDS.len()) { 3 } else { 2 };
    let kinds = &KINDS[..count];
    let first = |kind: usize| minima.iter().find(|minimum| minimum.kind == kind);
    let (relu, diagonal) = (first(0), first(1));
    let rate = |minimum: Option<&Studied<'_>>| {
        short_number(minimum.map_or(f64::NAN, |minimum| minimum.run.spec.learning_rate))
    };
    let norm: (Exact, Simulated) =
        (|point| Some(point.norm_squared), |point| point.simulated_norm_squared);
    let relu_rate = rate(relu);
    let panels = vec![
        along(
            format!("V tells the sides apart (ReLU minimum of η = {relu_rate})"),
            "E V(δ_{t}) / V(δ_{0})",
            relu,
            0.0,
            (|point| point.form, |point| point.simulated_form),
        ),
        along(
            "The plain norm there: every side looks stable".to_owned(),
            "E‖δ_{t}‖² / E‖δ_{0}‖²",
            relu,
            0.0,
            norm,
        ),
        along(
            format!("Momentum .9 (diagonal minimum of η = {})", rate(diagonal)),
            "E‖δ_{t}‖² / E‖δ_{0}‖²",
            diagonal,
            MOMENTUM,
            norm,
        ),
        every_minimum(&minima, kinds),
        exponents(relu, format!("A single run (ReLU minimum of η = {relu_rate})")),
        edges(&minima, kinds),
    ];
    Ok(Presentation {
        table: table(&minima),
        figure: Figure {
            title: "Linearised SGD grows or decays on the side of η* that the theory says"
                .to_owned(),
            subtitle: format!(
                "B = 1. Lines in the first row: exact second moments; circles with bars: means over \
                 replicas ± {STANDARD_ERRORS} standard errors. V is the Lyapunov function of S14; \
                 the start is isotropic. Bars in the last panel: the interval found for the edge."
            ),
            columns: 3,
            panels,
        },
        summary: summary(&minima),
    })
}

fn columns(columns: &[(&'static str, &'static str, &'static str)]) -> Vec<Column> {
    let columns = columns.iter();
    columns.map(|&(name, unit, description)| Column { name, unit, description }).collect()
}

fn problem_name(minimum: &Studied<'_>) -> &'static str {
    if is_relu(&minimum.run) { "relu" } else { "diagonal" }
}

fn yes_or_no(value: bool) -> Value {
    if value { "yes" } else { "no" }.into()
}

fn table(minima: &[Studied<'_>]) -> Table {
    let columns = columns(&[
        ("problem", "word", "relu or diagonal"),
        ("learning_rate", "1", "learning rate that the minimum was trained with"),
        ("seed", "seed", "seed of training and of the simulation"),
        ("at_rest", "word", "whether training met the stopping rule"),
        ("rank", "1", "rank r of the Gauss–Newton matrix"),
        ("momentum", "1", "heavy-ball momentum of linearised SGD"),
        ("threshold", "1", "mean-square edge η* with this momentum, middle of its interval"),
        ("factor", "1", "learning rate of linearised SGD over η*"),
        ("lyapunov_exponent", "1", "growth of ln ‖δ‖ per step at that learning rate"),
        ("lyapunov_standard_error", "1", "its standard error"),
        ("almost_sure_edge_lower", "1", "a learning rate below the almost-sure edge"),
        ("almost_sure_edge_upper", "1", "one above it"),
        ("almost_sure_edge_decided", "word", "whether both are by 3 standard errors"),
        ("step", "steps", "steps t done"),
        ("form", "1", "E V(δ_t) / V(δ_0), exact (without momentum)"),
        ("simulated_form", "1", "the same over replicas that start from random signs"),
        ("simulated_form_standard_error", "1", "its standard error"),
        ("norm_squared", "1", "E‖δ_t‖² / E‖δ_0‖², exact"),
        ("simulated_norm_squared", "1", "the same over replicas that start from N(0, I)"),
        ("simulated_norm_squared_standard_error", "1", "its standard error"),
    ]);
    let mut rows = Vec::new();
    for minimum in minima {
        for dynamics in &minimum.study.dynamics {
            let edge = minimum.edge(dynamics.momentum);
            for point in &dynamics.path {
                let (form, norm) = (point.simulated_form, point.simulated_norm_squared);
                rows.push(vec![
                    problem_name(minimum).into(),
                    Value::Number(minimum.run.spec.learning_rate),
                    Value::Integer(minimum.run.spec.seed),
                    yes_or_no(minimum.run.result.converged()),
                    Value::Integer(minimum.study.rank as u64),
                    Value::Number(dynamics.momentum),
                    Value::Number(dynamics.threshold),
                    Value::Number(dynamics.factor),
                    dynamics.exponent.value.into(),
                    Value::Number(dynamics.exponent.standard_error),
                    edge.and_then(|edge| edge.lower).into(),
                    edge.and_then(|edge| edge.upper).into(),
                    edge.map_or(Value::Missing, |edge| yes_or_no(edge.decided)),
                    Value::Integer(point.step as u64),
                    point.form.into(),
                    form.map(|mean| mean.value).into(),
                    form.map(|mean| mean.standard_error).into(),
                    Value::Number(point.norm_squared),
                    norm.map(|mean| mean.value).into(),
                    norm.map(|mean| mean.standard_error).into(),
                ]);
            }
        }
    }
    Table { columns, rows }
}

/// Medians over the minima of a kind at the last step of the replicas.
fn summary(minima: &[Studied<'_>]) -> Table {
    let columns = columns(&[
        ("minimum", "word", "which minima"),
        ("momentum", "1", "heavy-ball momentum"),
        ("factor", "1", "learning rate over η*"),
        ("minima", "minima", "minima tried"),
        ("form", "1", "E V(δ_t) / V(δ_0) at step 20, exact"),
        ("simulated_form", "1", "the same over replicas"),
        ("simulated_form_standard_error", "1", "its standard error"),
        ("norm_squared", "1", "E‖δ_t‖² / E‖δ_0‖² at step 20, exact"),
        ("lyapunov_exponent", "1", "growth of ln ‖δ‖ per step"),
        ("lyapunov_standard_error", "1", "its standard error"),
        ("almost_sure_edge", "1", "almost-sure edge over η*"),
    ]);
    let mut rows = Vec::new();
    for (kind, name) in KINDS.into_iter().enumerate() {
        for (momentum, _, _) in MOMENTA {
            for factor in FACTORS {
                let chosen: Vec<_> = minima
                    .iter()
                    .filter(|minimum| minimum.kind == kind)
                    .flat_map(|minimum| minimum.with_momentum(momentum).map(move |d| (minimum, d)))
                    .filter(|(_, dynamics)| dynamics.factor.total_cmp(&factor).is_eq())
                    .filter_map(|(minimum, dynamics)| {
                        Some((minimum, dynamics, at(dynamics, LAST_SIMULATED)?))
                    })
                    .collect();
                if chosen.is_empty() {
                    continue;
                }
                let of = |values: Vec<f64>| Value::median(values);
                let points = || chosen.iter().map(|(_, _, point)| point);
                let exponents = || chosen.iter().map(|(_, dynamics, _)| dynamics.exponent);
                let edges = chosen.iter().filter_map(|(minimum, _, _)| {
                    let (lower, upper) = minimum.scaled_edge(momentum)?;
                    Some(f64::midpoint(lower, upper))
                });
                rows.push(vec![
                    name.into(),
                    Value::Number(momentum),
                    Value::Number(factor),
                    Value::Integer(chosen.len() as u64),
                    of(points().filter_map(|point| point.form).collect()),
                    of(points().filter_map(|p| Some(p.simulated_form?.value)).collect()),
                    of(points().filter_map(|p| Some(p.simulated_form?.standard_error)).collect()),
                    of(points().map(|point| point.norm_squared).collect()),
                    of(exponents().filter_map(|exponent| exponent.value).collect()),
                    of(exponents().map(|exponent| exponent.standard_error).collect()),
                    of(edges.collect()),
                ]);
            }
        }
    }
    Table { columns, rows }
}
