//! The exact threshold and every bound at trained minima.

use flatmin_optim::Sampling;

use crate::prelude::*;
use crate::protocol::{diagonal, relu};

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "threshold",
    title: "How tight the stability conditions are at trained minima",
    shows: "The exact mean-square threshold η* at minima that training found, beside every simple \
            condition. For single samples the trace bound (S2) is within a tenth of η* except at \
            the largest rates. For larger batches the spectral condition (S6) is the tightest \
            everywhere, nearly exact at B = 64, where the trace bound is several to twenty times too \
            large.\n\nReLU networks: once η is large enough for stability to matter, SGD stops \
            within a quarter of its edge, at the largest rate on either side of it: some minima are \
            unstable in mean square (η* < η), yet every run that came to rest there is inside the \
            almost-sure edge, and its Lyapunov exponent is negative. Runs at the smallest rates \
            start out stable. Diagonal networks: at large rates SGD goes on to flatter and flatter \
            minima, far inside the edge.",
    how: |settings| {
        format!(
            "The minima are those of the learning-rate grids. ReLU networks: {}\n\nDiagonal \
             networks: {}\n\nThe exact threshold η* is an interval that is certified against \
             rounding, of relative width below 1e-8 (1e-10 for B = 1); batches are drawn without \
             replacement. Lyapunov exponent: 32 replicas of linearised SGD, B = 1, 20 000 steps \
             after 5000, at the η of the run. Almost-sure edge: the learning rate at which the \
             exponent turns positive, bracketed to 2 % by exponents 3 standard errors from zero.",
            relu::words(settings),
            diagonal::words(settings),
        )
    },
    cells: |settings| [relu::learning_rates(settings), diagonal::learning_rates(settings)].concat(),
    present,
    claims: &[ClaimRule::new(
        7,
        "At trained minima the stability conditions stand in their order around the exact \
         threshold η*; SGD at large learning rates stops close to it, and where it converges \
         single runs are stable, whether the mean square is or not.",
        "S2–S11",
        judge,
    )
    .needs(Requirement { profile: Profile::Paper, seeds: FEWEST_SEEDS })],
};

/// Batch sizes whose bounds are drawn: every minimum is studied for them.
const DRAWN_SIZES: [usize; 3] = [1, 8, 64];
/// Standard errors on either side of an exponent that are drawn.
const DRAWN_ERRORS: f64 = 3.0;
/// Steps over which exponents are drawn.
const DRAWN_STEPS: f64 = 1000.0;
/// The factor in η by which the second of two edges is drawn beside the first.
const BESIDE: f64 = 1.1;

/// A minimum that a run ended at, with the answers of stability theory there.
#[derive(Debug, Clone, Copy)]
struct StudiedMinimum<'r> {
    run: ShallowRun<'r>,
    study: &'r StabilityResult,
    /// Thresholds and bounds for batches of one.
    single: &'r BatchThresholds,
}

impl AtRest for StudiedMinimum<'_> {
    fn at_rest(&self) -> bool {
        self.run.at_rest()
    }

    fn origin(&self) -> String {
        self.run.origin()
    }
}

impl TrainingRun for StudiedMinimum<'_> {
    fn method(&self) -> Method {
        self.run.method()
    }

    fn learning_rate(&self) -> f64 {
        self.run.learning_rate()
    }
}

impl<'r> StudiedMinimum<'r> {
    /// `None` where nothing was studied, such as for a run that diverged.
    fn new(run: &ShallowRun<'r>) -> Option<Self> {
        let study = run.result.study.as_deref()?;
        Some(Self { run: *run, study, single: study.single()? })
    }

    fn family(&self) -> NetworkFamily {
        self.run.spec.problem.family()
    }

    /// `η*/η` for batches of one: below 1 SGD is not mean-square stable.
    fn margin(&self) -> f64 {
        self.single.threshold() / self.learning_rate()
    }

    /// The Lyapunov exponent of SGD with its standard error.
    fn exponent(&self) -> Option<(f64, f64)> {
        let SingleRuns { exponent, .. } = self.study.single_runs?;
        Some((exponent.value?, exponent.standard_error))
    }

    /// The middle of the interval for the almost-sure edge over η, where both ends are decided.
    fn almost_sure_margin(&self) -> Option<f64> {
        let edge = self.study.single_runs?.edge;
        let (lower, upper) = edge.lower.zip(edge.upper).filter(|_| edge.decided)?;
        Some(f64::midpoint(lower, upper) / self.learning_rate())
    }

    /// Thresholds and bounds for batches of a size, drawn without replacement.
    fn batches_of(&self, size: usize) -> Option<&'r BatchThresholds> {
        let mut batches = self.study.batches.iter();
        batches.find(|b| b.batch_size == size && b.sampling == Sampling::WithoutReplacement)
    }
}

/// The minima of one architecture and method.
fn of_family<'r>(
    minima: &[StudiedMinimum<'r>],
    family: NetworkFamily,
    method: Method,
) -> Vec<StudiedMinimum<'r>> {
    only(&of_method(minima, method), |minimum| minimum.family() == family)
}

/// The bounds that are drawn, with their labels in the order of their styles.
const DRAWN_BOUNDS: [(&str, BatchBound); 7] = [
    ("S2: trace", |b| b.s2),
    ("S3: Frobenius norm", |b| b.s3),
    ("S3, sharp form", |b| b.s3_sharp),
    ("S4: centred alignment", |b| b.s4),
    ("S5: largest eigenvalue", |b| b.s5),
    ("S6: spectrum", |b| b.s6),
    ("S7: sufficient", |b| b.s7),
];

fn rate_axis() -> Axis {
    Axis::log("learning rate η of the run")
}

/// The bounds in units of η*, medians over the minima of SGD at each learning rate.
fn bounds_panel(minima: &[StudiedMinimum<'_>], size: usize) -> Panel {
    let series = DRAWN_BOUNDS.iter().enumerate().flat_map(|(style, (label, bound))| {
        let ratio = |minimum: &StudiedMinimum<'_>| {
            let batch = minimum.batches_of(size)?;
            Some(bound(batch)? / batch.threshold())
        };
        medians_with_bars(minima, label, Style(style), StudiedMinimum::learning_rate, ratio)
    });
    // For single samples S6 is S2, and the sharp form of S3 is the plain one.
    let title = format!("Bounds at ReLU minima, B = {size}");
    let exact = vec![Reference::horizontal("η*", 1.0)];
    Panel::new(title, rate_axis(), Axis::log("bound over η*"), series.collect(), exact)
}

/// The distance of both edges from the learning rate that led to the minimum.
fn edges_panel(minima: &[StudiedMinimum<'_>], title: &str) -> Panel {
    let rate = StudiedMinimum::learning_rate;
    let label = "mean-square edge η*";
    let mut series = dots_and_medians(minima, label, Style(15), rate, |m| Some(m.margin()));
    // A line beside the other would look like other medians where both edges agree.
    let label = "almost-sure edge (a little to the right)";
    let beside = |minimum: &StudiedMinimum<'_>| BESIDE * minimum.learning_rate();
    series.extend(dots(minima, label, Style(9), beside, StudiedMinimum::almost_sure_margin));
    let unstable = vec![Reference::horizontal("unstable at η below 1", 1.0)];
    Panel::new(title, rate_axis(), Axis::log("edge over η"), series, unstable)
}

/// The Lyapunov exponents of SGD with their errors.
fn exponents_panel(minima: &[StudiedMinimum<'_>]) -> Panel {
    let mut series = Vec::new();
    for (family, style) in NetworkFamily::ALL.into_iter().zip([Style(8), Style(10)]) {
        let sgd = of_family(minima, family, SGD);
        let label = format!("exponent, {} networks", family.title());
        let exponent = |m: &StudiedMinimum<'_>| Some(DRAWN_STEPS * m.exponent()?.0);
        let rate = StudiedMinimum::learning_rate;
        let drawn = dots_and_medians(&sgd, &label, style, rate, exponent);
        // The bars in this panel are those of the exponents themselves.
        series.extend(drawn.into_iter().filter(|series| series.mark != Mark::Intervals));
        series.extend(sgd.iter().filter_map(|m| {
            let (value, error) = m.exponent()?;
            let ends = [value - DRAWN_ERRORS * error, value + DRAWN_ERRORS * error];
            let points = ends.map(|y| (m.learning_rate(), DRAWN_STEPS * y));
            Some(Series::new("", style, Mark::Line, points))
        }));
    }
    Panel::new(
        "Lyapunov exponent of SGD at η",
        rate_axis(),
        Axis::linear("growth of ln ‖δ‖ per 1000 steps"),
        series,
        vec![Reference::horizontal("converges below 0", 0.0)],
    )
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let minima: Vec<_> = cells.shallow.iter().filter_map(StudiedMinimum::new).collect();
    let [relu, diagonal] = NetworkFamily::ALL.map(|family| of_family(&minima, family, SGD));
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
    let title = "How tight the stability conditions are at the minima that SGD (B = 1) finds";
    let subtitle = "Lines: medians over the runs, with 95 % bootstrap intervals. Dots: one run each \
                    (hollow: stopping rule not met); bars of exponents: 3 standard errors. For B = \
                    1, S6 is S2 and both forms of S3 agree.";
    Presentation {
        table: table(&minima),
        figure: Figure::new(title, subtitle, 3, panels),
        summary: summary(&minima),
    }
}

/// One row for each minimum and way of drawing batches.
fn table(minima: &[StudiedMinimum<'_>]) -> Table {
    type Row<'r> = (StudiedMinimum<'r>, &'r BatchThresholds);
    let rows: Vec<Row<'_>> =
        minima.iter().flat_map(|m| m.study.batches.iter().map(|batch| (*m, batch))).collect();
    // A bound that does not restrict the learning rate is infinite.
    let rate = |bound: Option<f64>| bound.unwrap_or(f64::INFINITY);
    let single = |m: &StudiedMinimum<'_>, batch: &BatchThresholds| {
        m.study.single_runs.filter(|_| batch.batch_size == 1)
    };
    table!(&rows, |(m, batch)| {
        "family", "word", "ReLU or diagonal networks" => m.family().title();
        "method", "word", "SGD (batch size 1) or GD: what led to the minimum" => m.method_name();
        "learning_rate", "1", "its learning rate η" => m.learning_rate();
        "seed", "seed", "seed of teacher, data, start and batches" => m.run.spec.seed;
        "outcome", "word", "converged or out_of_steps" => outcome_name(m.run.result.outcome);
        "rank", "1", "rank of the Gauss–Newton matrix" => m.study.rank;
        "batch_size", "samples", "samples B per step of the SGD whose stability is asked for"
            => batch.batch_size;
        "sampling", "word", "how its batches are drawn" => sampling_name(batch.sampling);
        "noise_coefficient", "1", "its p" => batch.noise_coefficient;
        "threshold_lower", "1", "certified lower end of the exact mean-square threshold η*"
            => rate(batch.threshold_lower);
        "threshold_upper", "1", "certified upper end" => rate(batch.threshold_upper);
        "s2", "1", "learning rate at which the trace condition turns" => rate(batch.s2);
        "s3", "1", "the same for the Frobenius norm" => rate(batch.s3);
        "s3_sharp", "1", "the same, sharp form" => rate(batch.s3_sharp);
        "s4", "1", "the same for the Frobenius norm with the centred alignment"
            => rate(batch.s4);
        "s5", "1", "the same for the largest eigenvalue" => rate(batch.s5);
        "s6", "1", "the same for the spectral condition" => rate(batch.s6);
        "s7", "1", "learning rate up to which the sufficient condition holds"
            => rate(batch.s7);
        "exponent", "1/step", "Lyapunov exponent of SGD, B = 1, at η (SGD, rows with B = 1)"
            => single(m, batch).map(|runs| runs.exponent.value.unwrap_or(f64::NEG_INFINITY));
        "exponent_standard_error", "1/step", "its standard error"
            => single(m, batch).map(|runs| runs.exponent.standard_error);
        "almost_sure_lower", "1", "learning rate below the almost-sure edge (the same rows)"
            => single(m, batch).and_then(|runs| runs.edge.lower);
        "almost_sure_upper", "1", "learning rate above it"
            => single(m, batch).and_then(|runs| runs.edge.upper);
        "almost_sure_decided", "word", "whether both ends are decided by 3 standard errors"
            => single(m, batch).map(|runs| runs.edge.decided);
    })
}

/// Medians for each architecture, method and learning rate.
fn summary(minima: &[StudiedMinimum<'_>]) -> Table {
    let groups: Vec<RunGroup<StudiedMinimum<'_>>> = NetworkFamily::ALL
        .into_iter()
        .flat_map(|family| {
            let minima = only(minima, |minimum| minimum.family() == family);
            RunGroup::all(&minima, [SGD, GD], TrainingRun::learning_rate)
        })
        .collect();
    table!(&groups, |g| {
        "family", "word", "ReLU or diagonal networks" => g.runs[0].family().title();
        "method", "word", "SGD (batch size 1) or GD: what led to the minima" => method_name(g.method);
        "learning_rate", "1", "its learning rate η" => g.key;
        "converged", "runs", "runs that met the stopping rule" => at_rest(&g.runs).len();
        "runs", "runs", "runs" => g.runs.len();
        "margin", "1", "median of η*/η, B = 1" => g.median(|m| Some(m.margin()));
        "beyond_threshold", "1", "fraction of the runs with η* < η"
            => g.runs.iter().filter(|m| m.margin() < 1.0).count() as f64 / g.runs.len() as f64;
        "almost_sure_margin", "1", "median of the almost-sure edge over η"
            => g.median(StudiedMinimum::almost_sure_margin);
        "exponent", "1/step", "median Lyapunov exponent of SGD at η"
            => g.median(|m| Some(m.exponent()?.0));
        "s2_ratio", "1", "median of S2 over η*, B = 1"
            => g.median(|m| Some(m.single.s2? / m.single.threshold()));
        "s6_ratio_8", "1", "median of S6 over η*, B = 8"
            => g.median(|m| m.batches_of(8).and_then(|b| Some(b.s6? / b.threshold())));
    })
}

/// Fewest seeds over which the medians of `η*/η` are judged. A single run may end at .83, below the
/// range of the medians. Runs must have the length of the paper too: at the largest rate one in two
/// is cut off after 100 000 steps, before SGD has come down to its edge.
const FEWEST_SEEDS: u64 = 5;
/// Relative rounding allowed between closed forms: S6 and S2 agree for p = 1, and are summed in
/// different orders.
const ROUNDING: f64 = 1e-12;
/// SGD stops close to its edge from this learning rate on.
const FIRST_RATE: f64 = 0.002;
/// The range for the median of `η*/η`, and that for every run.
const MEDIANS: [f64; 2] = [0.85, 1.6];
const RUNS: [f64; 2] = [0.6, 1.45];

/// The pairs of neighbours in the order S11.
const LINKS: [&str; 6] = [
    "η*/S7",
    "S6/η*",
    "min(S2, S3 sharp, S5)/S6",
    "S3/S3 sharp",
    "S4 centred/η*",
    "η* with less noise / η* with more",
];

/// The factors by which each link of the order S11 holds, at every minimum and batch studied.
fn order<'r>(studies: impl Iterator<Item = &'r StabilityResult>) -> [Vec<f64>; LINKS.len()] {
    let mut ratios: [Vec<f64>; LINKS.len()] = Default::default();
    let infinite = |rate: Option<f64>| rate.unwrap_or(f64::INFINITY);
    for study in studies {
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
            for (ratios, (smaller, greater)) in ratios.iter_mut().zip(links) {
                // A condition that never turns lies beyond every other.
                let smaller: Option<f64> = smaller.filter(|_| !greater.is_infinite());
                ratios.extend(smaller.map(|smaller| greater / smaller));
            }
            before = Some(lower);
        }
    }
    ratios
}

fn margins(minima: &[StudiedMinimum<'_>]) -> Vec<f64> {
    minima.iter().map(StudiedMinimum::margin).collect()
}

fn predicate() -> String {
    format!(
        "every minimum of SGD and GD, ReLU and diagonal, and every batch studied: S7 ≤ η* ≤ S6 ≤ \
         min(S2, S3 sharp, S5), S3 sharp ≤ S3, η* ≤ S4 centred, and η* does not fall as the noise \
         does, with the certified interval for η* and a relative {ROUNDING:e} between closed forms; \
         ReLU networks and SGD: from η = {FIRST_RATE} up the medians of η*/η decrease and lie in \
         [{}, {}], every run in [{}, {}]; where SGD converged the Lyapunov exponent at η is ≤ 0 \
         within 3 standard errors",
        MEDIANS[0], MEDIANS[1], RUNS[0], RUNS[1],
    )
}

fn judge(cells: &FinishedCells<'_>) -> Judgement {
    let minima: Vec<_> = cells.shallow.iter().filter_map(StudiedMinimum::new).collect();
    let mut judgement = Judgement::new(predicate(), minima.len());
    for (link, ratios) in LINKS.iter().zip(order(minima.iter().map(|m| m.study))) {
        // Written so that a NaN fails.
        judgement.require(ratios.iter().all(|ratio| *ratio >= 1.0 - ROUNDING));
        judgement.measure(format!("all minima and batches: {link}, at least 1"), &ratios);
    }
    // Every run that ended somewhere must have been studied there.
    let ended = cells.shallow.iter().filter(|run| run.result.last.is_some()).count();
    judgement.require(minima.len() == ended);

    let relu = of_family(&minima, NetworkFamily::Relu, SGD);
    let near = only(&relu, |minimum| minimum.learning_rate() >= FIRST_RATE);
    let near = group_by(&near, TrainingRun::learning_rate);
    judge_margins(&mut judgement, &near);
    let diagonal = of_family(&minima, NetworkFamily::Diagonal, SGD);
    judge_exponents(&mut judgement, &at_rest(&relu), &at_rest(&diagonal));
    if let Some((rate, group)) = near.last() {
        measure_edges(&mut judgement, *rate, &at_rest(group));
    }
    let all_kinds = NetworkFamily::ALL
        .iter()
        .all(|family| [SGD, GD].iter().all(|m| !of_family(&minima, *family, *m).is_empty()));
    judgement.need_runs(all_kinds && near.len() >= 2 && !at_rest(&relu).is_empty());
    judgement
}

/// SGD stops close to its edge, and the closer the larger its learning rate.
fn judge_margins(judgement: &mut Judgement, near: &[(f64, Vec<StudiedMinimum<'_>>)]) {
    let mut medians = Vec::new();
    for (rate, group) in near {
        let margins = margins(group);
        judgement.all_within("ReLU, SGD: η*/η", &margins, RUNS);
        medians.push(median(&margins));
        judgement.measure(format!("ReLU, SGD, η = {}: η*/η", short_number(*rate)), &margins);
    }
    judgement.all_within("ReLU, SGD: median of η*/η", &medians, MEDIANS);
    judgement.require(medians.windows(2).all(|pair| pair[1] < pair[0]));
}

/// The Lyapunov exponent is not positive at any ReLU minimum to which SGD converged.
fn judge_exponents(
    judgement: &mut Judgement,
    relu: &[StudiedMinimum<'_>],
    diagonal: &[StudiedMinimum<'_>],
) {
    // Without a value the exponent is −∞. Written so that a NaN fails.
    let is_stable = |e: StoredExponent| e.value.is_none_or(|value| value <= 3.0 * e.standard_error);
    let single_runs = |m: &StudiedMinimum<'_>| m.study.single_runs;
    judgement.require(relu.iter().all(|m| single_runs(m).is_some_and(|r| is_stable(r.exponent))));
    for (name, minima) in [("ReLU", relu), ("diagonal", diagonal)] {
        let label = |what: &str| format!("{name}, SGD, converged: {what}");
        let exponents = values(minima, |m| Some(m.exponent()?.0));
        judgement.measure(label("Lyapunov exponent per step"), &exponents);
        let scaled = values(minima, |m| m.exponent().map(|(value, error)| value / error));
        judgement.measure(label("the same in its standard errors"), &scaled);
    }
}

/// Shows both edges of the converged runs at the largest learning rate; they are not judged.
fn measure_edges(judgement: &mut Judgement, rate: f64, group: &[StudiedMinimum<'_>]) {
    let of = format!("ReLU, SGD, η = {}, converged", short_number(rate));
    let margins = margins(group);
    let beyond = margins.iter().filter(|margin| **margin < 1.0).count();
    if !group.is_empty() {
        let fraction = beyond as f64 / group.len() as f64;
        let label = format!("{of}: fraction of the {} runs with η* < η", group.len());
        judgement.measure(label, &[fraction]);
    }
    judgement.measure(format!("{of}: mean-square edge η*/η"), &margins);
    let edges = values(group, StudiedMinimum::almost_sure_margin);
    judgement.measure(format!("{of}: almost-sure edge over η"), &edges);
}
