//! Sharpness of the minima of diagonal networks against the learning rate.

use flatmin_linalg::Sharpness;

use crate::prelude::*;
use crate::protocol::diagonal;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "diagonal_sharpness",
    title: "Diagonal networks: sharpness of the minima found",
    shows: "The same for diagonal linear networks, with the empirical and the population matrix: \
            SGD's trace falls by orders of magnitude with η, gradient descent's does not move.",
    how: diagonal::words,
    cells: diagonal::learning_rates,
    present,
    claims: &[],
};

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let runs = &cells.shallow;
    let empirical = |run: &ShallowRun<'_>| Some(run.result.last?.empirical);
    let population = |run: &ShallowRun<'_>| run.result.population;
    let panel =
        |title: &str, label: &str, value: &dyn Fn(&ShallowRun<'_>) -> Option<f64>, bound: &str| {
            let series = by_method(runs, TrainingRun::learning_rate, value);
            let bound = vec![two_over_eta(runs, bound)];
            Panel::new(title, Axis::log("learning rate η"), Axis::log(label), series, bound)
        };
    let [trace, frobenius, lambda]: [fn(Sharpness) -> f64; 3] =
        [|s| s.trace, |s| s.frobenius_norm, |s| s.lambda_max];
    let panels = vec![
        panel("Trace, empirical", "tr G", &|r| empirical(r).map(trace), "2/η (S2, SGD)"),
        panel(
            "Frobenius norm, empirical",
            "‖G‖_{F}",
            &|r| empirical(r).map(frobenius),
            "2/η (S3, p = 1)",
        ),
        panel(
            "Largest eigenvalue, empirical",
            "λ_{max}(G)",
            &|r| empirical(r).map(lambda),
            "2/η (S1, GD)",
        ),
        panel("Trace, population", "tr Ḡ", &|r| population(r).map(trace), "2/η"),
        panel("Frobenius norm, population", "‖Ḡ‖_{F}", &|r| population(r).map(frobenius), "2/η"),
        panel(
            "Largest eigenvalue, population",
            "λ_{max}(Ḡ)",
            &|r| population(r).map(lambda),
            "2/η",
        ),
    ];
    Presentation {
        table: run_table(runs),
        figure: Figure {
            title: "Sharpness of the minima that SGD (B = 1) and GD find, diagonal networks"
                .to_owned(),
            subtitle: RUNS_NOTE.to_owned(),
            columns: 3,
            panels,
        },
        summary: learning_rate_summary(runs),
    }
}
