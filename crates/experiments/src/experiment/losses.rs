//! Cross-entropy with smoothed labels, and why it has no edge without smoothing.

use flatmin_models::Activation;

use crate::prelude::*;
use crate::protocol::classes;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "losses",
    title: "Cross-entropy: the same edge with smoothed labels, and none without",
    shows: "With smoothed labels cross-entropy has interpolating minima, at which the gradient of \
            every sample vanishes; there stability is that of squared loss with the rows weighted \
            by the Hessian of the loss in the outputs (S17). SGD ends the closer to its exact edge \
            the larger its learning rate is, and converges up to an η near the edge of what it \
            finds. A small push at such a minimum grows at 1.25 η* and dies out at .8 η*, in the \
            exact second moment and in the network, as it does for squared loss.\n\nWithout \
            smoothing there is no minimum: the loss falls for ever, its curvature falls with it, \
            and η* grows without bound. Cross-entropy then has an edge on the way only, and none in \
            the end.",
    how: classes::words,
    cells: classes::cells,
    present,
    claims: &[
        ClaimRule::new(
            27,
            "For cross-entropy with smoothed labels SGD ends nearer to its exact edge the larger the \
             learning rate is, and near it at the largest η at which it converges.",
            "S13, S17",
            judge_edge,
        )
        .needs(Requirement { profile: Profile::Paper, seeds: 2 }),
        ClaimRule::new(
            28,
            "A small push at a minimum grows beyond the exact edge and decays inside of it, for \
             softmax cross-entropy as for squared loss.",
            "S13, S14, S17",
            judge_pushes,
        ),
    ],
};

type Run<'r> = ClassRun<'r>;

impl AtRest for ClassRun<'_> {
    fn at_rest(&self) -> bool {
        self.result.outcome == flatmin_optim::Outcome::Converged
    }

    fn origin(&self) -> String {
        origin(self.spec.learning_rate, self.spec.seed)
    }
}

impl ClassRun<'_> {
    fn relative_threshold(&self) -> Option<f64> {
        Some(self.result.last?.threshold? / self.spec.learning_rate)
    }

    fn rate(&self) -> f64 {
        self.spec.learning_rate
    }

    fn is_smoothed(&self) -> bool {
        self.spec.problem.label_smoothing > 0.0
    }

    fn points(&self) -> impl Iterator<Item = &ClassMeasurement> {
        self.result.path.iter().chain(&self.result.last)
    }
}

/// The runs of one activation and batch size.
struct Setting<'r> {
    activation: Activation,
    batch_size: usize,
    runs: Vec<Run<'r>>,
}

impl Setting<'_> {
    fn name(&self) -> String {
        format!("{}, B = {}", self.activation, self.batch_size)
    }
}

fn settings<'r>(cells: &FinishedCells<'r>) -> Vec<Setting<'r>> {
    let smoothed = only(&cells.classes, Run::is_smoothed);
    let mut found = Vec::new();
    for activation in [Activation::Tanh, Activation::Relu] {
        let of = only(&smoothed, |run| run.spec.problem.activation == activation);
        for (_, runs) in group_by(&of, |run| run.spec.batch_size as f64) {
            let batch_size = runs.first().map_or(0, |run| run.spec.batch_size);
            found.push(Setting { activation, batch_size, runs });
        }
    }
    found
}

/// The largest learning rate at which at least half of the runs converged, with these.
fn largest_converging<'r>(setting: &Setting<'r>) -> Option<(f64, Vec<Run<'r>>)> {
    let groups = group_by(&setting.runs, Run::rate).into_iter().rev();
    let mut converging = groups.filter(|(_, runs)| 2 * at_rest(runs).len() >= runs.len());
    converging.next().map(|(rate, runs)| (rate, at_rest(&runs)))
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let settings = settings(cells);
    let activation_panel = |activation: Activation| {
        let of_activation = settings.iter().enumerate().filter(|(_, s)| s.activation == activation);
        let series = of_activation.flat_map(|(style, setting)| {
            dots_and_medians(&setting.runs, &setting.name(), Style(style), Run::rate, |run| {
                // A run that hovers is far from a minimum, and its η* says little.
                run.at_rest().then(|| run.relative_threshold())?
            })
        });
        Panel::new(
            format!("{activation}: where SGD comes to rest"),
            Axis::log("learning rate η"),
            Axis::log("η*/η of converged runs"),
            series.collect(),
            vec![Reference::horizontal("edge", 1.0)],
        )
    };
    let convergence = Panel::new(
        "How many runs converge",
        Axis::log("learning rate η"),
        Axis::linear("share of converged runs").with_range(-0.05, 1.05),
        settings.iter().enumerate().map(convergence_series).collect(),
        Vec::new(),
    );
    let title = "With smoothed labels SGD rests near its edge; without, the edge runs away";
    Presentation {
        table: table(cells),
        figure: Figure::new(
            title,
            RUNS_NOTE,
            3,
            vec![
                activation_panel(Activation::Tanh),
                activation_panel(Activation::Relu),
                convergence,
                pushes_panel(cells, true),
                pushes_panel(cells, false),
                unsmoothed_panel(cells),
            ],
        ),
        summary: summary(&settings),
    }
}

fn convergence_series((style, setting): (usize, &Setting<'_>)) -> Series {
    let groups = group_by(&setting.runs, Run::rate).into_iter();
    let shares = groups.map(|(rate, runs)| (rate, at_rest(&runs).len() as f64 / runs.len() as f64));
    Series::new(setting.name(), Style(style), Mark::LineAndPoints, shares)
}

/// Growth after a push against the multiple of η*: exact second moments and replicas.
fn pushes_panel(cells: &FinishedCells<'_>, is_cross_entropy: bool) -> Panel {
    let chosen = cells.pushed.iter().filter(|p| p.spec.is_cross_entropy == is_cross_entropy);
    let points = |value: fn(&PushedGrowth) -> f64| -> Vec<(f64, f64)> {
        let growth = chosen.clone().flat_map(|pushed| &pushed.result.growth);
        growth.map(|growth| (growth.factor, value(growth))).collect()
    };
    let series = vec![
        Series::new("second moment", Style(4), Mark::Points, points(|g| g.exact)),
        Series::new("network, mean", Style(5), Mark::OpenPoints, points(|g| g.replicas)),
    ];
    let loss = if is_cross_entropy { "Cross-entropy" } else { "Squared loss" };
    Panel::new(
        format!("{loss}: 20 steps after a push"),
        Axis::linear("η/η*"),
        Axis::log("growth of V"),
        series,
        vec![Reference::horizontal("unchanged", 1.0), Reference::vertical("η*", 1.0)],
    )
}

/// η*/η along a run without smoothing.
fn unsmoothed_panel(cells: &FinishedCells<'_>) -> Panel {
    let runs = only(&cells.classes, |run| !run.is_smoothed());
    let line = |run: &Run<'_>| {
        let rate = run.rate();
        let points = run.points().filter(|m| m.step > 0);
        let points = points.filter_map(|m| Some((m.step as f64, m.threshold? / rate)));
        Series::new("η*/η", Style(6), Mark::LineAndPoints, points.collect::<Vec<_>>())
    };
    let losses = |run: &Run<'_>| {
        let points = run.points().filter(|m| m.step > 0);
        let points = points.map(|m| (m.step as f64, m.excess_loss)).collect::<Vec<_>>();
        Series::new("training loss", Style(7), Mark::LineAndPoints, points)
    };
    Panel::new(
        "Without smoothing: tanh, B = 1, η = .1",
        Axis::log("step t"),
        Axis::log("η*/η and loss"),
        runs.iter().flat_map(|run| [line(run), losses(run)]).collect(),
        vec![Reference::horizontal("edge", 1.0)],
    )
}

fn table(cells: &FinishedCells<'_>) -> Table {
    let rows: Vec<(Run<'_>, &ClassMeasurement)> = cells
        .classes
        .iter()
        .flat_map(|run| run.result.path.iter().chain(&run.result.last).map(|m| (*run, m)))
        .collect();
    table!(&rows, |(run, m)| {
        "activation", "word", "activation of the hidden layer"
            => run.spec.problem.activation.to_string();
        "label_smoothing", "1", "part of the labels that goes to all classes alike"
            => run.spec.problem.label_smoothing;
        "batch_size", "samples", "samples per step" => run.spec.batch_size;
        "learning_rate", "1", "learning rate η" => run.spec.learning_rate;
        "seed", "seed", "seed of data, start and batches" => run.spec.seed;
        "outcome", "word", "converged, out_of_steps or diverged" => outcome_name(run.result.outcome);
        "step", "steps", "steps done" => m.step;
        "excess_loss", "loss", "training loss less the entropy of the smoothed labels"
            => m.excess_loss;
        "trace", "sharpness", "trace of the Gauss–Newton matrix of the loss" => m.trace;
        "lambda_max", "sharpness", "its largest eigenvalue" => m.lambda_max;
        "threshold", "1", "exact η* of the SGD that trains, to 1e-4" => m.threshold;
        "accuracy", "1", "share of training samples classified right" => m.accuracy;
    })
}

fn summary(settings: &[Setting<'_>]) -> Table {
    type Row<'r> = (String, f64, Vec<Run<'r>>);
    let rows: Vec<Row<'_>> = settings
        .iter()
        .flat_map(|setting| {
            let groups = group_by(&setting.runs, Run::rate).into_iter();
            groups.map(|(rate, runs)| (setting.name(), rate, runs))
        })
        .collect();
    table!(&rows, |(name, rate, runs)| {
        "setting", "word", "activation and batch size B" => name.as_str();
        "learning_rate", "1", "learning rate η" => *rate;
        "converged", "runs", "runs that met the stopping rule" => at_rest(runs).len();
        "runs", "runs", "runs" => runs.len();
        "steps", "steps", "median of the steps done"
            => median_value(runs, |run| Some(run.result.steps as f64));
        "relative_threshold", "1", "median of η*/η over converged runs"
            => median_value(&at_rest(runs), Run::relative_threshold);
        "trace_bound_ratio", "1", "median of (2/(p tr G))/η* with p of the batch, converged runs"
            => median_value(&at_rest(runs), trace_bound_ratio);
    })
}

/// The trace bound S2 over the exact threshold.
fn trace_bound_ratio(run: &Run<'_>) -> Option<f64> {
    let last = run.result.last?;
    let sampling = flatmin_optim::Sampling::WithoutReplacement;
    let batch = theory_batch(run.spec.batch_size, sampling).ok()??;
    let noise = batch.noise_coefficient(run.spec.problem.sample_count).ok()?;
    Some(2.0 / (noise * last.trace) / last.threshold?)
}

fn judge_edge(cells: &FinishedCells<'_>) -> Judgement {
    let settings = settings(cells);
    let runs = settings.iter().map(|setting| setting.runs.len()).sum();
    let mut judgement = Judgement::new(
        "for every activation and B with two learning rates or more up to the largest one at which \
         at least half of the runs converged: the medians of η*/η over converged runs fall with η \
         up to that rate, and lie in [.83, 1.8] there",
        runs,
    );
    let mut not_judged = Vec::new();
    for setting in &settings {
        let (most, top) = largest_converging(setting).unwrap_or_default();
        // The few runs that converge beyond it say more about themselves than about the rate.
        let judged = only(&at_rest(&setting.runs), |run| run.rate() <= most);
        let groups = group_by(&judged, Run::rate).into_iter();
        let medians: Vec<f64> =
            groups.filter_map(|(_, runs)| median_value(&runs, Run::relative_threshold)).collect();
        if medians.len() < 2 {
            not_judged.push(setting.name());
            continue;
        }
        judgement.require(medians.is_sorted_by(|a, b| a > b));
        let top = values(&top, Run::relative_threshold);
        judgement.all_within("η*/η at the largest η", &[median(&top)], [0.83, 1.8]);
        let name = setting.name();
        judgement.measure(format!("{name}: medians of η*/η over η"), &medians);
        judgement.measure(format!("{name}: η*/η at the largest η"), &top);
    }
    // At small batches most runs need more steps than they have.
    judgement
        .need_runs(not_judged.len() < settings.len() && 2 * not_judged.len() <= settings.len());
    if !not_judged.is_empty() {
        judgement.note(format!(
            "Not judged, since too few runs came to rest: {}.",
            not_judged.join("; "),
        ));
    }
    judgement
}

fn judge_pushes(cells: &FinishedCells<'_>) -> Judgement {
    let mut judgement = Judgement::new(
        "at every minimum, for batches of 1 and 8 and for both losses: 20 steps after a push the \
         exact second moment and the mean over the replicas of the network, both measured in V, are \
         below their start at .8 η* and above it at 1.25 η*",
        cells.pushed.len(),
    );
    judgement.need_runs(!cells.pushed.is_empty());
    for (is_cross_entropy, loss) in [(true, "cross-entropy"), (false, "squared loss")] {
        for factor in [PUSHED_FACTORS[0], PUSHED_FACTORS[3]] {
            let chosen =
                cells.pushed.iter().filter(|p| p.spec.is_cross_entropy == is_cross_entropy);
            let growth = chosen.flat_map(|pushed| &pushed.result.growth);
            let growth: Vec<&PushedGrowth> =
                growth.filter(|growth| (growth.factor - factor).abs() < 1e-9).collect();
            let grows = factor > 1.0;
            judgement.need_runs(!growth.is_empty());
            for (what, value) in [
                ("second moment", (|g| g.exact) as fn(&PushedGrowth) -> f64),
                ("network", |g| g.replicas),
            ] {
                let found: Vec<f64> = growth.iter().map(|growth| value(growth)).collect();
                for value in &found {
                    let quantity = format!("growth at {factor} η*, {what}");
                    if grows {
                        judgement.at_least(quantity, *value, 1.0);
                    } else {
                        judgement.at_most(quantity, *value, 1.0);
                    }
                }
                judgement.measure(format!("{loss}, {factor} η*: growth of V, {what}"), &found);
            }
        }
    }
    judgement
}
