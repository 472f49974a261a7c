//! Sharpness of the minima of deeper networks, on a teacher and on real data.

use crate::prelude::*;
use crate::protocol::deep;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "deep_sharpness",
    title: "Deeper networks and real data: sharpness of the minima found",
    shows: "Does it hold for deeper networks and real data? At every depth, on a teacher's outputs \
            and on the parity of handwritten digits, the minima at which SGD came to rest obey \
            tr G ≤ 2/η (S2), and as η grows SGD stops closer and closer to its exact edge, η* = η. \
            The trace condition stays a good guide but loosens with depth: (2/tr G)/η* is hardly \
            more than 1 for two layers and up to half as much again or more for four. The largest \
            rate leaves some networks hovering or dead. Gradient descent is held by λ_{max} alone \
            (S1): where it met its edge, λ_{max} sits on 2/η, and tr G lies several times above it.",
    how: deep::words,
    cells: deep::learning_rates,
    present,
    claims: &[
        ClaimRule::new(
            12,
            "Minima of deeper networks, on a teacher and on real data, obey the stability \
             conditions too.",
            "S1, S2",
            stable_minima,
        ),
        ClaimRule::new(
            13,
            "At every depth, and on real data, SGD at the largest learning rate that lets it rest \
             stops at its mean-square edge, and the trace condition stays within a factor of two \
             of the exact threshold.",
            "S2, S8",
            edge,
        )
        .needs(Requirement { profile: Profile::Paper, seeds: deep::SEEDS }),
    ],
};

/// The largest `λ_max · η/2` at the end of a converged run of gradient descent. At an excess δ over
/// 1 the unstable direction grows by 1 + 2δ a step: at a hundredth by half over the 20 checks of
/// the stopping rule, and less than that they cannot tell from rest.
const TOLD_FROM_REST: f64 = 1.01;
/// The range for the median of `η*/η` at which SGD stops.
const EDGE: [f64; 2] = [0.8, 1.45];
/// The largest factor by which the trace condition may exceed the exact threshold.
const TIGHT: f64 = 2.0;

impl DeepRun<'_> {
    /// `λ_max(G) · η/2` at the end.
    fn scaled_lambda_max(&self) -> Option<f64> {
        Some(self.result.last?.empirical.lambda_max / self.edge())
    }

    /// `η*/η` at the end.
    fn margin(&self) -> Option<f64> {
        Some(self.result.last?.threshold? / self.spec.learning_rate)
    }

    /// The learning rate at which the trace condition turns over the exact threshold, at the end.
    fn looseness(&self) -> Option<f64> {
        let last = self.result.last?;
        Some(2.0 / last.empirical.trace / last.threshold?)
    }
}

/// The runs with the same task and depth, in ascending order.
fn by_task_and_depth<'r>(runs: &[DeepRun<'r>]) -> Vec<(DeepTask, usize, Vec<DeepRun<'r>>)> {
    let mut keys: Vec<_> = runs.iter().map(|run| (run.spec.task, run.spec.depth)).collect();
    keys.sort_unstable();
    keys.dedup();
    let of = |(task, depth)| {
        (task, depth, only(runs, |run| run.spec.task == task && run.spec.depth == depth))
    };
    keys.into_iter().map(of).collect()
}

/// A quantity of a run that has one.
type EndValue = fn(&DeepRun<'_>) -> Option<f64>;

/// A row of panels: title, method, label, quantity, and the name of the line at 1, if there is one.
const ROWS: [(&str, Method, &str, EndValue, &str); 5] = [
    ("trace of SGD's minima", SGD, "tr G · η/2", |r| r.scaled_trace(), "SGD must stay below (S2)"),
    ("how far from its edge SGD stops", SGD, "η*/η", |r| r.margin(), "η* = η: the exact edge"),
    ("how tight the trace bound is", SGD, "(2/tr G)/η*", |r| r.looseness(), "as tight as can be"),
    (
        "largest eigenvalue of GD's minima",
        GD,
        "λ_{max}(G) · η/2",
        |r| r.scaled_lambda_max(),
        "GD must stay below (S1)",
    ),
    ("test error of SGD's minima", SGD, "relative test error", |r| r.relative_test_error(), ""),
];

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let groups = by_task_and_depth(&cells.deep);
    let mut tasks: Vec<DeepTask> = groups.iter().map(|(task, ..)| *task).collect();
    tasks.dedup();
    let mut panels = Vec::new();
    for (title, method, label, value, bound) in ROWS {
        for task in &tasks {
            let depths = groups.iter().filter(|(of, ..)| of == task).enumerate();
            let series: Vec<Series> = depths
                .flat_map(|(style, (_, depth, runs))| {
                    let (runs, label) = (of_method(runs, method), format!("depth {depth}"));
                    dots_and_medians(&runs, &label, Style(style), DeepRun::learning_rate, value)
                })
                .collect();
            let bound = (!bound.is_empty()).then(|| Reference::horizontal(bound, 1.0));
            let title = format!("{}: {title}", title_case(task.name()));
            let (x, y) = (Axis::log("learning rate η"), Axis::log(label));
            panels.push(Panel::new(title, x, y, series, Vec::from_iter(bound)));
        }
    }
    let title = "Minima that SGD (B = 1) and GD find, ReLU networks of depth 2 to 4";
    Presentation {
        table: table(&cells.deep),
        figure: Figure::new(title, RUNS_NOTE, 2, panels),
        summary: summary(&groups),
    }
}

fn title_case(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn table(runs: &[DeepRun<'_>]) -> Table {
    table!(runs, |run| {
        "task", "word", "teacher, or digit parity" => run.spec.task.name();
        "depth", "layers", "number of affine layers" => run.spec.depth;
        "method", "word", "SGD (batch size 1) or GD" => run.method_name();
        "learning_rate", "1", "learning rate η" => run.spec.learning_rate;
        "seed", "seed", "seed of data, start and batches" => run.spec.seed;
        "converged", "word", "whether the stopping rule was met" => run.at_rest();
        "steps", "steps", "steps done" => run.result.steps;
        "train_loss", "loss", "(1/2n) Σ r_i² on the training data"
            => run.result.last.map(|m| m.train_loss);
        "relative_test_error", "1", "test loss over that of the zero function"
            => run.relative_test_error();
        "trace", "sharpness", "tr G, empirical" => run.result.last.map(|m| m.empirical.trace);
        "frobenius_norm", "sharpness", "Frobenius norm of G, empirical"
            => run.result.last.map(|m| m.empirical.frobenius_norm);
        "lambda_max", "sharpness", "largest eigenvalue of G, empirical"
            => run.result.last.map(|m| m.empirical.lambda_max);
        "threshold", "1", "exact η* of SGD, batch size 1, to 1e-6"
            => run.result.last.and_then(|m| m.threshold);
        "parameter_norm", "norm", "ℓ2 norm of all parameters" => run.result.last.map(|m| m.norm);
    })
}

fn summary(groups: &[(DeepTask, usize, Vec<DeepRun<'_>>)]) -> Table {
    let groups: Vec<RunGroup<DeepRun<'_>>> = groups
        .iter()
        .flat_map(|(_, _, runs)| RunGroup::all(runs, [SGD, GD], TrainingRun::learning_rate))
        .collect();
    table!(&groups, |g| {
        "task", "word", "teacher, or digit parity" => g.runs[0].spec.task.name();
        "depth", "layers", "number of affine layers" => g.runs[0].spec.depth;
        "method", "word", "SGD (batch size 1) or GD" => method_name(g.method);
        "learning_rate", "1", "learning rate η" => g.key;
        "converged", "runs", "runs that met the stopping rule" => at_rest(&g.runs).len();
        "runs", "runs", "runs" => g.runs.len();
        "scaled_trace", "1", "median of tr G · η/2" => g.median(DeepRun::scaled_trace);
        "scaled_lambda_max", "1", "median of λ_max · η/2" => g.median(DeepRun::scaled_lambda_max);
        "margin", "1", "median of η*/η" => g.median(DeepRun::margin);
        "trace_bound_ratio", "1", "median of (2/tr G)/η*" => g.median(DeepRun::looseness);
        "relative_test_error", "1", "median" => g.median(DeepRun::relative_test_error);
    })
}

fn stable_minima(cells: &FinishedCells<'_>) -> Judgement {
    let runs = at_rest(&cells.deep);
    let mut judgement = Judgement::new(
        format!(
            "ReLU networks of depth 2, 3 and 4 on a teacher and on the parity of digits: every \
             converged SGD run (B = 1) has tr G ≤ 2/η; every converged GD run has λ_max(G) ≤ \
             {TOLD_FROM_REST} · 2/η"
        ),
        runs.len(),
    );
    judgement.need_runs(!runs.is_empty());
    let mut beyond = Vec::new();
    for (task, depth, group) in by_task_and_depth(&runs) {
        let rows: [(Method, &str, EndValue, f64); 2] = [
            (SGD, "SGD: tr G · η/2", |r| r.scaled_trace(), 1.0),
            (GD, "GD: λ_max · η/2", |r| r.scaled_lambda_max(), TOLD_FROM_REST),
        ];
        for (method, label, value, most) in rows {
            let chosen = of_method(&group, method);
            let values = values(&chosen, value);
            judgement.need_runs(!values.is_empty());
            judgement.require(values.len() == chosen.len());
            for value in &values {
                judgement.at_most(label, *value, most);
            }
            beyond.extend(values.iter().copied().filter(|value| *value > 1.0));
            judgement.measure(format!("{}, depth {depth}, {label}", task.name()), &values);
        }
    }
    if !beyond.is_empty() {
        judgement.note(format!(
            "Beyond 1, which the claim asked for at first: {} of {} runs, at most {:.4}.",
            beyond.len(),
            runs.len(),
            largest(&beyond),
        ));
    }
    judgement
}

fn edge(cells: &FinishedCells<'_>) -> Judgement {
    let runs = of_method(&cells.deep, SGD);
    let mut judgement = Judgement::new(
        format!(
            "for each task and depth: at the largest η at which at least half of the SGD runs \
             converged the median of η*/η over these lies in [{}, {}]; the median of (2/tr G)/η* \
             over all converged SGD runs is at most {TIGHT}",
            EDGE[0], EDGE[1],
        ),
        runs.len(),
    );
    judgement.need_runs(!runs.is_empty());
    for (task, depth, group) in by_task_and_depth(&runs) {
        let name = format!("{}, depth {depth}", task.name());
        // The largest learning rate at which at least half of the runs came to rest.
        let rates = group_by(&group, TrainingRun::learning_rate);
        let stop = rates.into_iter().rev().find_map(|(rate, group)| {
            let rest = at_rest(&group);
            (2 * rest.len() >= group.len()).then_some((rate, rest))
        });
        judgement.need_runs(stop.is_some());
        let Some((rate, rest)) = stop else { continue };
        let margins = values(&rest, DeepRun::margin);
        // Written so that a NaN fails.
        judgement.all_near(&format!("{name}: median of η*/η"), &[median(&margins)], 1.0, EDGE);
        judgement.measure(format!("{name}, η = {}: η*/η", short_number(rate)), &margins);
        let ratios = values(&at_rest(&group), DeepRun::looseness);
        judgement.at_most(format!("{name}: (2/tr G)/η*"), median(&ratios), TIGHT);
        judgement.measure(format!("{name}, every η: (2/tr G)/η*"), &ratios);
    }
    judgement
}
