//! SGD linearised at trained minima, on both sides of the threshold.

use flatmin_theory::ReplicaMean;

use crate::prelude::*;
use crate::protocol::{diagonal, relu, simulated_seeds, simulation_replicas};

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "linear_stability",
    title: "Linearised SGD on both sides of the exact threshold",
    shows: "SGD linearised at trained minima, just below and just above the exact threshold η*. \
            Measured in V, the Lyapunov function of S14, it decays below η* and grows above it from \
            the first step. The plain norm may not tell: at the ReLU minimum shown it falls for a \
            hundred steps on either side, because from an isotropic start most of it lies in stable \
            directions, and replicas miss the rare runs that carry its mean. A single run goes on \
            converging up to the almost-sure edge, where the Lyapunov exponent turns: well beyond \
            η* at the ReLU minima of the largest learning rate, at η* within a few per cent at the \
            others.",
    how: |settings| {
        format!(
            "The minima are those that SGD finds in the experiments on sharpness at η = {} (ReLU) \
             and {} (diagonal) with the first {} seed(s). At each, linearised SGD (B = 1) runs at \
             η = c·η*, c = {}, with heavy-ball momentum 0 and {MOMENTUM}. Replicas of V start from \
             random signs in the eigenbasis of Y* ({} of them), those of the norm from N(0, I) (a \
             quarter as many); both starts have second moment I.",
            simulated_rates(&relu::learning_rates(settings)),
            simulated_rates(&diagonal::learning_rates(settings)),
            simulated_seeds(settings).min(settings.seeds),
            FACTORS.map(short_number).join(", "),
            simulation_replicas(settings.profile),
        )
    },
    cells,
    present,
    claims: &[ClaimRule::new(
        8,
        "The exact threshold is the real one: measured in the Lyapunov function V, linearised SGD \
         decays below it and grows above it.",
        "S8, S9, S14",
        judge,
    )],
};

/// Standard errors on each side that error bars show, and that claims ask for.
const STANDARD_ERRORS: f64 = 3.0;
/// Standard errors by which replicas may miss the exact second moments; at most 48 comparisons of
/// the default profile go beyond it by chance with probability 3e-3.
const AGREEMENT: f64 = 4.0;
/// The last step at which replicas are measured.
const LAST_SIMULATED: usize = SIMULATED_STEPS[SIMULATED_STEPS.len() - 1];
/// Kinds of minima. The grid of some profiles lacks the last one.
const KINDS: [&str; 3] = ["ReLU, largest η", "diagonal", "ReLU, smaller η"];
/// Distance between the factors within a kind of minimum, and between momenta.
const OFFSET: f64 = 0.17;
const MOMENTA: [(f64, &str, Style); 2] =
    [(0.0, "momentum 0", Style(4)), (MOMENTUM, "momentum .9", Style(5))];

/// The learning rate of a run at whose minimum linearised SGD is simulated.
fn simulated_rate(cell: &CellSpec) -> Option<f64> {
    let CellSpec::Train(run) = cell else { return None };
    matches!(run.study, StabilityStudy::Dynamics { .. }).then_some(run.learning_rate)
}

/// The different learning rates of such runs, in words.
fn simulated_rates(cells: &[CellSpec]) -> String {
    let mut rates: Vec<f64> = cells.iter().filter_map(simulated_rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    rates.into_iter().map(short_number).collect::<Vec<_>>().join(", ")
}

fn cells(settings: &Settings) -> Vec<CellSpec> {
    let mut cells = [relu::learning_rates(settings), diagonal::learning_rates(settings)].concat();
    cells.retain(|cell| simulated_rate(cell).is_some());
    cells
}

/// A minimum at which linearised SGD was simulated.
#[derive(Debug, Clone, Copy)]
struct SimulatedMinimum<'r> {
    run: ShallowRun<'r>,
    study: &'r StabilityResult,
    /// Index into [`KINDS`].
    kind: usize,
}

impl<'r> SimulatedMinimum<'r> {
    /// The minima in the order of their cells; a run that diverged has none.
    fn all(runs: &[ShallowRun<'r>]) -> Vec<Self> {
        let relu = runs.iter().filter(|run| run.is_relu()).map(|run| run.spec.learning_rate);
        let largest = relu.fold(0.0, f64::max);
        let minimum = |run: &ShallowRun<'r>| {
            let kind = match (run.is_relu(), run.spec.learning_rate >= largest) {
                (true, true) => 0,
                (false, _) => 1,
                (true, false) => 2,
            };
            Some(Self { run: *run, study: run.result.study.as_deref()?, kind })
        };
        runs.iter().filter_map(minimum).collect()
    }

    /// The dynamics with this momentum, by ascending factor.
    fn with_momentum(
        &self,
        momentum: f64,
    ) -> impl Iterator<Item = &'r SimulatedDynamics> + use<'r> {
        let dynamics = self.study.dynamics.iter();
        dynamics.filter(move |dynamics| dynamics.momentum.total_cmp(&momentum).is_eq())
    }

    /// The dynamics with this momentum at `factor` times the threshold.
    fn dynamics(&self, momentum: f64, factor: f64) -> Option<&'r SimulatedDynamics> {
        self.with_momentum(momentum).find(|dynamics| dynamics.factor.total_cmp(&factor).is_eq())
    }

    /// Its position on the axis of kinds, with two seeds side by side.
    fn position(&self) -> f64 {
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

/// The second moments at one step.
fn at(dynamics: &SimulatedDynamics, step: usize) -> Option<&SimulatedPoint> {
    dynamics.path.iter().find(|point| point.step == step)
}

/// `(simulated − exact) / standard error`.
fn deviation(simulated: ReplicaMean, exact: f64) -> f64 {
    (simulated.value - exact) / simulated.standard_error
}

fn factor_style(factor: f64) -> Style {
    Style(FACTORS.iter().position(|f| f.total_cmp(&factor).is_eq()).unwrap_or(FACTORS.len()))
}

fn factor_label(factor: f64) -> String {
    format!("η = {factor} η*")
}

/// Points `(x, y, standard error)` with their error bars.
fn estimates(label: &str, style: Style, points: &[(f64, f64, f64)]) -> [Series; 2] {
    let bars = points.iter().flat_map(|&(x, y, error)| {
        [(x, y - STANDARD_ERRORS * error), (x, y + STANDARD_ERRORS * error)]
    });
    let centers = points.iter().map(|&(x, y, _)| (x, y));
    [
        Series::new(label, style, Mark::Intervals, bars),
        Series::new(label, style, Mark::OpenPoints, centers),
    ]
}

/// A second moment along the steps, exact and over replicas.
#[derive(Clone, Copy)]
struct Moment {
    label: &'static str,
    exact: fn(&SimulatedPoint) -> Option<f64>,
    simulated: fn(&SimulatedPoint) -> Option<ReplicaMean>,
}

const FORM: Moment = Moment {
    label: "E V(δ_{t}) / V(δ_{0})",
    exact: |point| point.form,
    simulated: |point| point.simulated_form,
};
const NORM: Moment = Moment {
    label: "E‖δ_{t}‖² / E‖δ_{0}‖²",
    exact: |point| Some(point.norm_squared),
    simulated: |point| point.simulated_norm_squared,
};

/// A moment along the steps at one minimum: exact lines, and replicas with error bars.
fn along(
    title: impl Into<String>,
    minimum: Option<&SimulatedMinimum<'_>>,
    momentum: f64,
    moment: Moment,
) -> Panel {
    let mut series = Vec::new();
    for dynamics in minimum.into_iter().flat_map(|minimum| minimum.with_momentum(momentum)) {
        let (label, style) = (factor_label(dynamics.factor), factor_style(dynamics.factor));
        let path = || dynamics.path.iter();
        let line = path().filter_map(|point| Some((point.step as f64, (moment.exact)(point)?)));
        let replicas: Vec<_> = path()
            .filter_map(|point| {
                let mean = (moment.simulated)(point)?;
                Some((point.step as f64, mean.value, mean.standard_error))
            })
            .collect();
        series.extend(estimates(&label, style, &replicas));
        series.push(Series::new(label, style, Mark::Line, line));
    }
    let start = vec![Reference::horizontal("start", 1.0)];
    Panel::new(title, Axis::linear("step t"), Axis::linear(moment.label), series, start)
}

/// `E V(δ_t) / V(δ_0)` over the replicas at every minimum, by kind of minimum and factor.
fn every_minimum(minima: &[SimulatedMinimum<'_>], kinds: &'static [&'static str]) -> Panel {
    let mut series = Vec::new();
    for (index, factor) in FACTORS.into_iter().enumerate() {
        let shift = OFFSET * (index as f64 - 0.5 * (FACTORS.len() - 1) as f64);
        let points: Vec<_> = minima
            .iter()
            .filter_map(|minimum| {
                let point = at(minimum.dynamics(0.0, factor)?, LAST_SIMULATED)?;
                let mean = point.simulated_form?;
                Some((minimum.position() + shift, mean.value, mean.standard_error))
            })
            .collect();
        series.extend(estimates(&factor_label(factor), factor_style(factor), &points));
    }
    Panel::new(
        format!("Every minimum: V over the replicas at step {LAST_SIMULATED}"),
        Axis::categories("minimum", kinds),
        Axis::linear(FORM.label),
        series,
        vec![Reference::horizontal("start", 1.0)],
    )
}

/// The Lyapunov exponent against η/η* at one minimum.
fn exponents(minimum: Option<&SimulatedMinimum<'_>>, title: String) -> Panel {
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
        let line = points.iter().map(|&(x, y, _)| (x, y));
        series.extend(estimates(label, style, &points));
        series.push(Series::new(label, style, Mark::Line, line));
    }
    Panel::new(
        title,
        Axis::linear("η/η* (η* with the same momentum)"),
        Axis::linear("Lyapunov exponent per step"),
        series,
        vec![
            Reference::horizontal("single runs converge below", 0.0),
            Reference::vertical("mean-square edge", 1.0),
        ],
    )
}

/// The almost-sure edge over the mean-square one at every minimum.
fn edges(minima: &[SimulatedMinimum<'_>], kinds: &'static [&'static str]) -> Panel {
    let mut series = Vec::new();
    for (index, (momentum, label, style)) in MOMENTA.into_iter().enumerate() {
        let shift = OFFSET * (2.0 * index as f64 - 1.0);
        let (mut ends, mut middles) = (Vec::new(), Vec::new());
        for minimum in minima {
            let Some((lower, upper)) = minimum.scaled_edge(momentum) else { continue };
            let x = minimum.position() + shift;
            ends.extend([(x, lower), (x, upper)]);
            middles.push((x, f64::midpoint(lower, upper)));
        }
        series.push(Series::new(label, style, Mark::Intervals, ends));
        series.push(Series::new(label, style, Mark::OpenPoints, middles));
    }
    Panel::new(
        "Every minimum: where single runs stop converging",
        Axis::categories("minimum", kinds),
        Axis::linear("almost-sure edge / η*"),
        series,
        vec![Reference::horizontal("mean-square edge", 1.0)],
    )
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let minima = SimulatedMinimum::all(&cells.shallow);
    let count = if minima.iter().any(|minimum| minimum.kind + 1 == KINDS.len()) { 3 } else { 2 };
    let kinds = &KINDS[..count];
    let first = |kind: usize| minima.iter().find(|minimum| minimum.kind == kind);
    let (relu, diagonal) = (first(0), first(1));
    let [relu_rate, diagonal_rate] = [relu, diagonal].map(|minimum| {
        short_number(minimum.map_or(f64::NAN, |minimum| minimum.run.spec.learning_rate))
    });
    let momentum_title = format!("Momentum .9 (diagonal minimum of η = {diagonal_rate})");
    let panels = vec![
        along(
            format!("V tells the sides apart (ReLU minimum of η = {relu_rate})"),
            relu,
            0.0,
            FORM,
        ),
        along("The plain norm there: every side looks stable", relu, 0.0, NORM),
        along(momentum_title, diagonal, MOMENTUM, NORM),
        every_minimum(&minima, kinds),
        exponents(relu, format!("A single run (ReLU minimum of η = {relu_rate})")),
        edges(&minima, kinds),
    ];
    let title = "Linearised SGD grows or decays on the side of η* that the theory says";
    let subtitle = format!(
        "B = 1. Lines in the first row: exact second moments; circles with bars: means over \
         replicas ± {STANDARD_ERRORS} standard errors. V is the Lyapunov function of S14; \
         the start is isotropic. Bars in the last panel: the interval found for the edge."
    );
    Presentation {
        table: table(&minima),
        figure: Figure::new(title, subtitle, 3, panels),
        summary: summary(&minima),
    }
}

/// One point of the dynamics at a minimum.
type Simulated<'r> = (SimulatedMinimum<'r>, &'r SimulatedDynamics, &'r SimulatedPoint);

fn table(minima: &[SimulatedMinimum<'_>]) -> Table {
    let rows: Vec<Simulated<'_>> = minima
        .iter()
        .flat_map(|m| m.study.dynamics.iter().map(|dynamics| (*m, dynamics)))
        .flat_map(|(m, dynamics)| dynamics.path.iter().map(move |point| (m, dynamics, point)))
        .collect();
    table!(&rows, |(m, d, point)| {
        "problem", "word", "relu or diagonal" => m.run.spec.problem.family().name();
        "learning_rate", "1", "learning rate that the minimum was trained with"
            => m.run.spec.learning_rate;
        "seed", "seed", "seed of training and of the simulation" => m.run.spec.seed;
        "at_rest", "word", "whether training met the stopping rule" => m.run.at_rest();
        "rank", "1", "rank r of the Gauss–Newton matrix" => m.study.rank;
        "momentum", "1", "heavy-ball momentum of linearised SGD" => d.momentum;
        "threshold", "1", "mean-square edge η* with this momentum, middle of its interval"
            => d.threshold;
        "factor", "1", "learning rate of linearised SGD over η*" => d.factor;
        "lyapunov_exponent", "1", "growth of ln ‖δ‖ per step at that learning rate"
            => d.exponent.value;
        "lyapunov_standard_error", "1", "its standard error" => d.exponent.standard_error;
        "almost_sure_edge_lower", "1", "a learning rate below the almost-sure edge"
            => m.edge(d.momentum).and_then(|edge| edge.lower);
        "almost_sure_edge_upper", "1", "one above it"
            => m.edge(d.momentum).and_then(|edge| edge.upper);
        "almost_sure_edge_decided", "word", "whether both are by 3 standard errors"
            => m.edge(d.momentum).map(|edge| edge.decided);
        "step", "steps", "steps t done" => point.step;
        "form", "1", "E V(δ_t) / V(δ_0), exact (without momentum)" => point.form;
        "simulated_form", "1", "the same over replicas that start from random signs"
            => point.simulated_form.map(|mean| mean.value);
        "simulated_form_standard_error", "1", "its standard error"
            => point.simulated_form.map(|mean| mean.standard_error);
        "norm_squared", "1", "E‖δ_t‖² / E‖δ_0‖², exact" => point.norm_squared;
        "simulated_norm_squared", "1", "the same over replicas that start from N(0, I)"
            => point.simulated_norm_squared.map(|mean| mean.value);
        "simulated_norm_squared_standard_error", "1", "its standard error"
            => point.simulated_norm_squared.map(|mean| mean.standard_error);
    })
}

/// The minima of one kind with one momentum at one factor.
struct Side<'r> {
    kind: &'static str,
    momentum: f64,
    factor: f64,
    minima: Vec<Simulated<'r>>,
}

impl<'r> Side<'r> {
    fn new(minima: &[SimulatedMinimum<'r>], kind: usize, momentum: f64, factor: f64) -> Self {
        let of_kind = minima.iter().filter(|minimum| minimum.kind == kind);
        let found = of_kind.filter_map(|minimum| {
            let dynamics = minimum.dynamics(momentum, factor)?;
            Some((*minimum, dynamics, at(dynamics, LAST_SIMULATED)?))
        });
        Self { kind: KINDS[kind], momentum, factor, minima: found.collect() }
    }
}

/// Medians over the minima of a kind at the last step of the replicas.
fn summary(minima: &[SimulatedMinimum<'_>]) -> Table {
    let mut sides = Vec::new();
    for kind in 0..KINDS.len() {
        for (momentum, _, _) in MOMENTA {
            sides.extend(FACTORS.map(|factor| Side::new(minima, kind, momentum, factor)));
        }
    }
    sides.retain(|side| !side.minima.is_empty());
    table!(&sides, |side| {
        "minimum", "word", "which minima" => side.kind;
        "momentum", "1", "heavy-ball momentum" => side.momentum;
        "factor", "1", "learning rate over η*" => side.factor;
        "minima", "minima", "minima tried" => side.minima.len();
        "form", "1", "E V(δ_t) / V(δ_0) at step 20, exact" => median_value(&side.minima, |(.., p)| p.form);
        "simulated_form", "1", "the same over replicas"
            => median_value(&side.minima, |(.., p)| Some(p.simulated_form?.value));
        "simulated_form_standard_error", "1", "its standard error"
            => median_value(&side.minima, |(.., p)| Some(p.simulated_form?.standard_error));
        "norm_squared", "1", "E‖δ_t‖² / E‖δ_0‖² at step 20, exact"
            => median_value(&side.minima, |(.., p)| Some(p.norm_squared));
        "lyapunov_exponent", "1", "growth of ln ‖δ‖ per step"
            => median_value(&side.minima, |(_, dynamics, _)| dynamics.exponent.value);
        "lyapunov_standard_error", "1", "its standard error"
            => median_value(&side.minima, |(_, dynamics, _)| Some(dynamics.exponent.standard_error));
        "almost_sure_edge", "1", "almost-sure edge over η*"
            => median_value(&side.minima, |(m, ..)| m.scaled_edge(side.momentum).map(|(l, u)| f64::midpoint(l, u)));
    })
}

/// The comparisons that claim 8 rests on, and those shown beside them.
#[derive(Default)]
struct Comparisons {
    /// Distances of V from its start, on the predicted side, in standard errors.
    distances: Vec<f64>,
    /// Replicas of V less the exact second moments, in standard errors, at all factors.
    form_deviations: Vec<f64>,
    /// Replicas of the norm less the exact second moments, in standard errors, at all factors.
    norm_deviations: Vec<f64>,
    /// The norm at the largest factor after the last step, exact and over the replicas.
    exact_norms: Vec<f64>,
    simulated_norms: Vec<f64>,
    /// V over the replicas at the smallest and the largest factor, with a label for each step.
    sides: Vec<(String, Vec<f64>)>,
}

impl Comparisons {
    fn new(minima: &[SimulatedMinimum<'_>]) -> Self {
        let mut all = Self::default();
        for factor in FACTORS {
            for step in SIMULATED_STEPS {
                let dynamics = minima.iter().filter_map(|m| m.dynamics(0.0, factor));
                let points: Vec<_> = dynamics.filter_map(|dynamics| at(dynamics, step)).collect();
                all.add(factor, step, &points);
            }
        }
        all
    }

    /// Adds the points of all minima at one factor and step.
    fn add(&mut self, factor: f64, step: usize, points: &[&SimulatedPoint]) {
        let [below, .., above] = FACTORS;
        let (is_below, is_above) = (factor <= below, factor >= above);
        let mut ratios = Vec::new();
        for point in points {
            if let (Some(simulated), Some(exact)) = (point.simulated_form, point.form) {
                ratios.push(simulated.value);
                self.form_deviations.push(deviation(simulated, exact));
                let distance = deviation(simulated, 1.0);
                self.distances.extend(is_below.then_some(-distance));
                self.distances.extend(is_above.then_some(distance));
            }
            if let Some(simulated) = point.simulated_norm_squared {
                self.norm_deviations.push(deviation(simulated, point.norm_squared));
                if is_above && step == LAST_SIMULATED {
                    self.exact_norms.push(point.norm_squared);
                    self.simulated_norms.push(simulated.value);
                }
            }
        }
        if is_below || is_above {
            let label = format!("{factor} η*, {step} steps: E V(δ_t) / V(δ_0)");
            self.sides.push((label, ratios));
        }
    }
}

fn judge(cells: &FinishedCells<'_>) -> Judgement {
    let tried = SimulatedMinimum::all(&cells.shallow);
    // A run that was cut off ends at no minimum: its gradients are so uneven that a few replicas
    // carry the mean, and the standard error of the others does not know it.
    let minima = only(&tried, |minimum| minimum.run.at_rest());
    let [below, .., above] = FACTORS;
    let mut judgement = Judgement::new(
        format!(
            "replicas from random signs in the eigenbasis of Y*, after {} and {LAST_SIMULATED} \
             steps, at every minimum where training came to rest: E V(δ_t) < V(δ_0) at {below} η* \
             and > V(δ_0) at {above} η*, beyond {STANDARD_ERRORS} standard errors (s.e.); at every \
             factor they agree with the exact second moments within {AGREEMENT}",
            SIMULATED_STEPS[0],
        ),
        minima.len(),
    );
    let all = Comparisons::new(&minima);
    judgement.need_runs(!minima.is_empty() && 2 * minima.len() >= tried.len());
    // Every minimum must have its numbers. Written so that a NaN fails.
    judgement.require(all.distances.len() == 2 * SIMULATED_STEPS.len() * minima.len());
    for distance in &all.distances {
        judgement.at_least("distance of V from its start, in s.e.", *distance, STANDARD_ERRORS);
    }
    for deviation in &all.form_deviations {
        judgement.at_most("V against exact moments, in s.e.", deviation.abs(), AGREEMENT);
    }

    let label = "distance of V from its start, on the predicted side, in s.e.";
    judgement.measure(label, &all.distances);
    let label = "V, all factors: replicas less exact second moments, in s.e.";
    judgement.measure(label, &all.form_deviations);
    for (label, ratios) in all.sides {
        judgement.measure(label, &ratios);
    }
    let label = format!("{above} η*, {LAST_SIMULATED} steps: E‖δ_t‖² / E‖δ_0‖², exact");
    judgement.measure(label, &all.exact_norms);
    judgement.measure("the same over replicas", &all.simulated_norms);
    let label = "norm, all factors: replicas less exact second moments, in s.e.";
    judgement.measure(label, &all.norm_deviations);
    let wrong = all.exact_norms.iter().filter(|norm| **norm < 1.0).count();
    let mut note = String::new();
    if minima.len() < tried.len() {
        let cut_off = tried.len() - minima.len();
        let all = tried.len();
        note = format!(
            "Not judged: {cut_off} of {all} runs, which were cut off before they came to rest. "
        );
    }
    judgement.note(
        note + &format!(
            "In the plain norm, from an isotropic start, {wrong} of {} minima look stable after \
         {LAST_SIMULATED} steps at {above} η*, by the exact second moments too.",
            all.exact_norms.len(),
        ),
    );
    judgement
}
