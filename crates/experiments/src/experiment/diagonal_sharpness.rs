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
    let [trace, frobenius, lambda]: [fn(Sharpness) -> f64; 3] =
        [|s| s.trace, |s| s.frobenius_norm, |s| s.lambda_max];
    let measures = [
        ("Trace", "tr {}", trace, " (S2, SGD)"),
        ("Frobenius norm", "‖{}‖_{F}", frobenius, " (S3, p = 1)"),
        ("Largest eigenvalue", "λ_{max}({})", lambda, " (S1, GD)"),
    ];
    let mut panels = Vec::new();
    for (is_empirical, matrix, symbol) in [(true, "empirical", "G"), (false, "population", "Ḡ")] {
        for (measure, label, value, statement) in measures {
            let title = format!("{measure}, {matrix}");
            let value = |run: &ShallowRun<'_>| {
                let population = run.result.population;
                let empirical = run.result.last.map(|last| last.empirical);
                Some(value(if is_empirical { empirical } else { population }?))
            };
            let bound = if is_empirical { format!("2/η{statement}") } else { "2/η".to_owned() };
            let bound = vec![two_over_eta(runs, &bound)];
            panels.push(rate_panel(runs, &title, &label.replace("{}", symbol), value, bound));
        }
    }
    let title = "Sharpness of the minima that SGD (B = 1) and GD find, diagonal networks";
    rate_presentation(runs, title, 3, panels)
}
