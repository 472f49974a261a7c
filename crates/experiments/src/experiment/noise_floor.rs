//! The plateau of SGD that cannot interpolate, against its prediction.

use crate::prelude::*;
use crate::protocol::plateau::{self, TANH_NOISE};

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "noise_floor",
    title: "The noise floor: where the loss of SGD settles when it cannot interpolate",
    shows: "Where residuals remain, SGD at a constant learning rate does not come to rest: the loss \
            settles at a plateau above that of the minimum. S18 predicts it from gradients and \
            residuals alone, with momentum and for several outputs too, and it diverges at the same \
            η*. For linear least squares the prediction is exact. Near η* simulations stay below \
            it: rare bursts carry the mean there, and a time average misses them.\n\nFor a network \
            it is exact as long as the noise is small. With larger noise, or close to η*, the \
            fluctuations leave the region in which the network is linear.",
    how: plateau::words,
    cells: plateau::cells,
    present,
    claims: &[
        ClaimRule::new(
            31,
            "For linear least squares the training loss of SGD settles where S18 predicts, with and \
             without momentum, for any batch size and number of outputs.",
            "S18",
            judge_linear,
        )
        .needs(Requirement { profile: Profile::Paper, seeds: 3 }),
        ClaimRule::new(
            32,
            "For a network with small residuals the training loss of SGD settles near the predicted \
             level inside half of the edge.",
            "S18",
            judge_network,
        ),
    ],
};

/// One plateau of a configuration and seed.
#[derive(Clone, Copy)]
struct Point<'r> {
    spec: &'r PlateauSpec,
    still: f64,
    plateau: &'r Plateau,
}

impl Point<'_> {
    fn ratio(&self) -> f64 {
        self.plateau.simulated / self.plateau.predicted
    }

    fn outputs(&self) -> Option<usize> {
        match self.spec.model {
            PlateauModel::Linear { outputs, .. } => Some(outputs),
            PlateauModel::Tanh { .. } => None,
        }
    }

    fn has_small_noise(&self) -> bool {
        self.outputs().is_none() && self.spec.noise <= TANH_NOISE[0]
    }

    /// The optimizer and its batches, with the noise where a network has much of it; each has a
    /// style of its own.
    fn drawn(&self) -> (String, Style) {
        let PlateauSpec { optimizer, batch_size, noise, .. } = self.spec;
        let has_much_noise = self.outputs().is_none() && !self.has_small_noise();
        let noise = if has_much_noise { format!(", noise {noise}") } else { String::new() };
        let style = match optimizer {
            PlateauOptimizer::Plain => 0,
            PlateauOptimizer::Momentum => 2,
            PlateauOptimizer::Nesterov => 4,
        };
        let style = style + usize::from(*batch_size > 1) + if has_much_noise { 6 } else { 0 };
        (format!("{}, B = {batch_size}{noise}", optimizer.name()), Style(style))
    }

    /// The configuration in words.
    fn configuration(&self) -> String {
        let PlateauSpec { optimizer, batch_size, noise, .. } = self.spec;
        let name = optimizer.name();
        match self.outputs() {
            Some(outputs) => format!("linear, {name}, B = {batch_size}, k = {outputs}"),
            None => format!("tanh, noise {noise}, {name}, B = {batch_size}"),
        }
    }
}

fn points<'f>(cells: &'f FinishedCells<'_>) -> Vec<Point<'f>> {
    let of = |trial: &'f PlateauTrial<'_>| {
        let (spec, still) = (&trial.spec, trial.result.still);
        trial.result.plateaus.iter().map(move |plateau| Point { spec, still, plateau })
    };
    cells.plateaus.iter().flat_map(of).collect()
}

/// The plateaus of all seeds with one configuration and one η/η*.
struct Pool<'r> {
    configuration: String,
    factor: f64,
    points: Vec<Point<'r>>,
}

impl Pool<'_> {
    /// The mean over the seeds of simulated over predicted loss, and its standard error.
    fn ratio(&self) -> (f64, f64) {
        let count = self.points.len() as f64;
        let mean = self.points.iter().map(Point::ratio).sum::<f64>() / count;
        let error = |point: &Point<'_>| point.plateau.standard_error / point.plateau.predicted;
        let squares: f64 = self.points.iter().map(|point| error(point).powi(2)).sum();
        (mean, squares.sqrt() / count)
    }
}

fn pools<'r>(points: &[Point<'r>]) -> Vec<Pool<'r>> {
    let mut pools: Vec<Pool<'r>> = Vec::new();
    for point in points {
        let (configuration, factor) = (point.configuration(), point.plateau.factor);
        let same = |pool: &&mut Pool<'r>| {
            pool.configuration == configuration && pool.factor.total_cmp(&factor).is_eq()
        };
        match pools.iter_mut().find(same) {
            Some(pool) => pool.points.push(*point),
            None => pools.push(Pool { configuration, factor, points: vec![*point] }),
        }
    }
    pools
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let all = points(cells);
    let linear = only(&all, |point| point.outputs().is_some());
    let network = only(&all, |point| point.outputs().is_none());
    let panels = vec![
        level_panel(&linear),
        ratio_panel("Linear least squares", &linear),
        ratio_panel("tanh network, noise .01 unless said", &network),
    ];
    let title =
        "Where the loss settles: on the prediction up to .8 η*, below it by rare bursts then";
    let subtitle = "Dots: one data set each. Lines: means over data sets, k = 1 and 3 together, \
                    with 95 % bootstrap intervals.";
    Presentation {
        table: table(&all),
        figure: Figure::new(title, subtitle, 3, panels),
        summary: summary(&pools(&all)),
    }
}

/// Simulated and predicted loss over that of the minimum, for one output.
fn level_panel(linear: &[Point<'_>]) -> Panel {
    let mut series = Vec::new();
    for (optimizer, size) in [
        (PlateauOptimizer::Plain, 1),
        (PlateauOptimizer::Momentum, 1),
        (PlateauOptimizer::Plain, 8),
    ] {
        let chosen = only(linear, |point| {
            (point.spec.optimizer, point.spec.batch_size) == (optimizer, size)
                && point.outputs() == Some(1)
        });
        let Some((label, style)) = chosen.first().map(Point::drawn) else { continue };
        let simulated = chosen.iter().map(|p| (p.plateau.factor, p.plateau.simulated / p.still));
        let groups = group_by(&chosen, |point| point.plateau.factor).into_iter();
        let predicted = groups.filter_map(|(factor, points)| {
            Some((factor, median_of(points.iter().map(|p| p.plateau.predicted / p.still))?))
        });
        series.push(Series::new(label.clone(), style, Mark::Points, simulated));
        series.push(Series::new(label, style, Mark::Line, predicted));
    }
    Panel::new(
        "The plateau: dots simulated, lines predicted",
        Axis::linear("c = η/η*"),
        Axis::log("training loss / that of the minimum"),
        series,
        vec![Reference::horizontal("minimum", 1.0)],
    )
}

/// Simulated over predicted loss, with the mean over the data sets.
fn ratio_panel(title: &str, points: &[Point<'_>]) -> Panel {
    let mut names: Vec<(String, Style)> = Vec::new();
    for name in points.iter().map(Point::drawn) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut series = Vec::new();
    for (label, style) in names {
        let chosen = only(points, |point| point.drawn().0 == label);
        let dots = chosen.iter().map(|point| (point.plateau.factor, point.ratio()));
        let notes = chosen.iter().map(|point| format!("seed {}", point.spec.seed));
        let groups = group_by(&chosen, |point| point.plateau.factor).into_iter();
        let ratios = groups.map(|(factor, points)| {
            (factor, points.iter().map(Point::ratio).collect::<Vec<f64>>())
        });
        series.push(Series::new(label.as_str(), style, Mark::Points, dots).with_notes(notes));
        series.extend(centres_with_bars(ratios, &label, style, ("mean", mean)));
    }
    Panel::new(
        title,
        Axis::linear("c = η/η*"),
        Axis::linear("simulated / predicted").with_range(0.4, 1.4),
        series,
        vec![Reference::horizontal("prediction (S18)", 1.0)],
    )
}

fn table(points: &[Point<'_>]) -> Table {
    table!(points, |p| {
        "model", "word", "linear or tanh" => if p.outputs().is_some() { "linear" } else { "tanh" };
        "outputs", "1", "number k of outputs" => p.outputs().unwrap_or(1);
        "noise", "1", "standard deviation of the noise of the targets" => p.spec.noise;
        "optimizer", "word", "SGD, momentum or Nesterov" => p.spec.optimizer.name();
        "batch_size", "samples", "samples per step" => p.spec.batch_size;
        "rate_factor", "1", "c = η/η*" => p.plateau.factor;
        "seed", "seed", "seed of the data and the batches" => p.spec.seed;
        "minimum_loss", "loss", "training loss of the stationary point" => p.still;
        "predicted_loss", "loss", "mean training loss predicted by S18" => p.plateau.predicted;
        "simulated_loss", "loss", "mean training loss after the burn-in" => p.plateau.simulated;
        "standard_error", "loss", "its standard error" => p.plateau.standard_error;
    })
}

fn summary(pools: &[Pool<'_>]) -> Table {
    table!(pools, |pool| {
        "configuration", "word", "model, optimizer and batch size" => pool.configuration.as_str();
        "rate_factor", "1", "c = η/η*" => pool.factor;
        "data_sets", "data sets", "data sets" => pool.points.len();
        "predicted_over_minimum", "1", "median of predicted loss over that of the minimum"
            => median_of(pool.points.iter().map(|p| p.plateau.predicted / p.still));
        "simulated_over_predicted", "1", "mean of simulated over predicted loss" => pool.ratio().0;
        "standard_error", "1", "its standard error" => pool.ratio().1;
    })
}

fn judge_linear(cells: &FinishedCells<'_>) -> Judgement {
    let linear = only(&points(cells), |point| point.outputs().is_some());
    let judged = only(&linear, |point| point.plateau.factor <= 0.8 + 1e-9);
    let mut judgement = Judgement::new(
        "every configuration, means over the data sets of simulated over predicted loss: within 5 \
         standard errors of 1 at c ≤ .8, and within 2 % at c ≤ .6",
        judged.len(),
    );
    judgement.need_runs(!judged.is_empty());
    for (factor, points) in group_by(&judged, |point| point.plateau.factor) {
        let (mut ratios, mut deviations) = (Vec::new(), Vec::new());
        for pool in pools(&points) {
            let (ratio, error) = pool.ratio();
            ratios.push(ratio);
            deviations.push((ratio - 1.0) / error);
        }
        judgement.all_within("distance in standard errors", &deviations, [-5.0, 5.0]);
        if factor < 0.7 {
            let excess = ratios.iter().map(|ratio| (ratio - 1.0).abs()).fold(0.0, f64::max);
            judgement.require(!ratios.iter().any(|ratio| ratio.is_nan()));
            judgement.at_most("|simulated/predicted − 1|", excess, 0.02);
        }
        judgement.measure(format!("c = {factor}: simulated over predicted"), &ratios);
        judgement
            .measure(format!("c = {factor}: its distance from 1 in standard errors"), &deviations);
    }
    for (factor, points) in group_by(&linear, |point| point.plateau.factor) {
        if factor > 0.85 {
            let ratios: Vec<f64> = pools(&points).iter().map(|pool| pool.ratio().0).collect();
            judgement
                .measure(format!("c = {factor}: simulated over predicted, not judged"), &ratios);
        }
    }
    judgement
}

fn judge_network(cells: &FinishedCells<'_>) -> Judgement {
    let network = only(&points(cells), Point::has_small_noise);
    let judged = only(&network, |point| point.plateau.factor <= 0.5 + 1e-9);
    let mut judgement = Judgement::new(
        "tanh network, noise .01: in every configuration the mean over the data sets of simulated \
         over predicted loss is within 5 % of 1 at c ≤ .5",
        judged.len(),
    );
    judgement.need_runs(!judged.is_empty());
    for (factor, points) in group_by(&network, |point| point.plateau.factor) {
        let ratios: Vec<f64> = pools(&points).iter().map(|pool| pool.ratio().0).collect();
        let is_judged = factor <= 0.5 + 1e-9;
        if is_judged {
            let excess = ratios.iter().map(|ratio| (ratio - 1.0).abs()).fold(0.0, f64::max);
            judgement.require(!ratios.iter().any(|ratio| ratio.is_nan()));
            judgement.at_most("|simulated/predicted − 1|", excess, 0.05);
        }
        let note = if is_judged { "" } else { ", not judged" };
        judgement.measure(format!("c = {factor}: simulated over predicted{note}"), &ratios);
    }
    judgement
}
