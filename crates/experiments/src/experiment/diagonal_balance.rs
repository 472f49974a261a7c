//! Balance of the layers of diagonal networks.

use crate::prelude::*;
use crate::protocol::diagonal;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "diagonal_balance",
    title: "Diagonal networks: balance of the layers",
    shows: "SGD noise balances the two layers whatever the initial imbalance; gradient descent \
            leaves them unbalanced, and more so than at the start.",
    how: diagonal::balance_words,
    cells: diagonal::balance,
    present,
    claims: &[ClaimRule::new(
        5,
        "SGD noise balances the layers of diagonal networks; gradient descent keeps them \
         unbalanced.",
        "D5",
        judge,
    )],
};

/// The balance ratio that a run started from.
fn initial_ratio(run: &ShallowRun<'_>) -> f64 {
    run.spec.problem.initial_balance_ratio().unwrap_or(f64::NAN)
}

fn final_ratio(run: &ShallowRun<'_>) -> Option<f64> {
    run.result.last?.balance_ratio
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let runs = &cells.shallow;
    let panel = Panel::new(
        "Balance ratio r(θ) = Σ(a² + b²) / 2Σ|ab|",
        Axis::log("initial balance ratio r₀"),
        Axis::log("final balance ratio"),
        by_method(runs, initial_ratio, final_ratio),
        vec![
            Reference::curve("no change", [(1.0, 1.0), (16.0, 16.0)]),
            Reference::horizontal("balanced", 1.0),
        ],
    );
    let summary = table!(&RunGroup::all(runs, [SGD, GD], initial_ratio), |g| {
        "method", "word", "SGD (batch size 1) or GD" => method_name(g.method);
        "initial_balance_ratio", "1", "r0" => g.key;
        "balance_ratio", "1", "median r(θ) at the end" => g.median(final_ratio);
        "converged", "runs", "runs that met the stopping rule" => at_rest(&g.runs).len();
        "runs", "runs", "runs" => g.runs.len();
    });
    let title = "SGD noise balances the layers, GD keeps them unbalanced";
    Presentation {
        table: run_table(runs),
        figure: Figure::new(title, RUNS_NOTE, 1, vec![panel]),
        summary,
    }
}

fn judge(cells: &FinishedCells<'_>) -> Judgement {
    let mut judgement = Judgement::new(
        "SGD's final balance ratio: median ≤ 1.01 and maximum ≤ 1.05 for every initial ratio r₀; \
         GD's ≥ 0.9 r₀ for r₀ ≥ 2, and 1 to 1e-6 for r₀ = 1",
        cells.shallow.len(),
    );
    for group in RunGroup::all(&cells.shallow, [SGD, GD], initial_ratio) {
        let (r0, finals) = (group.key, values(&group.runs, final_ratio));
        judgement.need_runs(!finals.is_empty());
        if group.method == SGD {
            judgement.at_most("SGD: median of r less 1", median(&finals) - 1.0, 0.01);
            judgement.at_most("SGD: largest r less 1", largest(&finals) - 1.0, 0.05);
        } else if r0 >= 2.0 {
            judgement.at_least("GD: r/r₀", smallest(&finals) / r0, 0.9);
        } else {
            judgement.require(finals.iter().all(|r| (r - 1.0).abs() <= 1e-6));
        }
        judgement
            .measure(format!("{}, r₀ = {r0}: final ratio", method_name(group.method)), &finals);
    }
    judgement
}
