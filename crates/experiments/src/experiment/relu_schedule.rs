//! Clipping and decay of the learning rate.

use flatmin_optim::Schedule;

use crate::prelude::*;
use crate::protocol::relu::{self, CLIP, TIGHT_CLIP};

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "relu_schedule",
    title: "ReLU networks: why clipping at 1 hides the effect",
    shows: "Clipping gradients at norm 1 removes the instability that selects flat minima: training \
            hovers, or is frozen by the decay, where tr G is far above 2/η₀. With clipping at 100 \
            the bound holds, with or without decay.",
    how: |settings| {
        format!(
            "{}\n\nHere gradient norms are clipped at {TIGHT_CLIP} or at {CLIP}, and the learning \
             rate is constant, decays to 0 along half a cosine over all steps, or is divided by 10 \
             after a half and again after three quarters of them.",
            relu::words(settings)
        )
    },
    cells: relu::schedules,
    present,
    claims: &[ClaimRule::new(
        9,
        "Clipping gradients at 1 hides the effect, with or without decay; decay alone does not.",
        "S2",
        judge,
    )],
};

/// The position of a schedule on the axis.
fn position(run: &ShallowRun<'_>) -> f64 {
    match run.spec.schedule {
        Schedule::Constant => 0.0,
        Schedule::Cosine => 1.0,
        Schedule::Step => 2.0,
    }
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let runs = &cells.shallow;
    let panel = |(rate, group): (f64, Vec<ShallowRun<'_>>)| {
        let series =
            [(TIGHT_CLIP, Style(1)), (CLIP, Style(0))].into_iter().flat_map(|(clip, style)| {
                let chosen = only(&group, |run| run.spec.clip_norm.total_cmp(&clip).is_eq());
                let label = format!("gradient norms clipped at {clip}");
                // Schedules have no order: no line joins the medians.
                dots(&chosen, &label, style, position, ShallowRun::scaled_trace)
            });
        let words = &["constant", "cosine decay", "step decay"];
        Panel::new(
            format!("η₀ = {}", short_number(rate)),
            Axis::categories("learning-rate schedule", words),
            Axis::log("tr G · η₀/2 at the end"),
            series.collect(),
            vec![Reference::horizontal("stable at η₀ below 1 (S2)", 1.0)],
        )
    };
    let title = "Clipping at 1 hides the effect; decay alone does not (SGD, B = 1)";
    let subtitle = "Dots: one run each (hollow: stopping rule not met).";
    Presentation {
        table: run_table(runs),
        figure: Figure::new(
            title,
            subtitle,
            2,
            group_by(runs, TrainingRun::learning_rate).into_iter().map(panel).collect(),
        ),
        summary: summary(runs),
    }
}

/// Medians for each learning rate, clipping and schedule.
fn summary(runs: &[ShallowRun<'_>]) -> Table {
    let mut groups = Vec::new();
    for (rate, runs) in group_by(runs, TrainingRun::learning_rate) {
        for (clip, runs) in group_by(&runs, |run| run.spec.clip_norm) {
            groups
                .extend(group_by(&runs, position).into_iter().map(|(_, runs)| (rate, clip, runs)));
        }
    }
    table!(&groups, |(rate, clip, runs)| {
        "learning_rate", "1", "initial learning rate η₀" => *rate;
        "clip_norm", "gradient norm", "clipping" => *clip;
        "schedule", "word", "learning-rate schedule" => runs[0].spec.schedule.name();
        "scaled_trace", "1", "median of tr G · η₀/2 at the end"
            => median(&values(runs, ShallowRun::scaled_trace));
        "converged", "runs", "runs that met the stopping rule" => at_rest(runs).len();
        "runs", "runs", "runs" => runs.len();
    })
}

fn judge(cells: &FinishedCells<'_>) -> Judgement {
    let mut judgement = Judgement::new(
        "tr G · η₀/2 at the end: > 1 in every run clipped at 1, ≤ 1 in every run clipped at 100",
        cells.shallow.len(),
    );
    for (clip, group) in group_by(&cells.shallow, |run| run.spec.clip_norm) {
        let is_tight = clip.total_cmp(&TIGHT_CLIP).is_eq();
        let scaled = values(&group, ShallowRun::scaled_trace);
        judgement.need_runs(!scaled.is_empty());
        for value in &scaled {
            let quantity = format!("clip {clip}: tr G · η₀/2");
            if is_tight {
                judgement.at_least(quantity, *value, 1.0);
            } else {
                judgement.at_most(quantity, *value, 1.0);
            }
        }
        judgement.measure(format!("clip {clip}: tr G · η₀/2 at the end"), &scaled);
    }
    judgement
}
