//! Sharpness of the minima of ReLU networks against the learning rate.

use super::diagonal_sharpness;
use crate::prelude::*;
use crate::protocol::relu;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "relu_sharpness",
    title: "ReLU networks: sharpness of the minima found",
    shows: "Every minimum at which SGD came to rest obeys tr G ≤ 2/η (S2), and the path norm \
            follows the trace down. Gradient descent constrains only the largest eigenvalue (S1); \
            its trace and path norm hardly move until λ_{max} reaches 2/η.",
    how: relu::words,
    cells: relu::learning_rates,
    present,
    claims: &[
        ClaimRule::new(
            1,
            "Minima at which training came to rest obey the stability conditions: SGD's bound the \
             trace, gradient descent's the largest eigenvalue.",
            "S1, S2",
            stable_minima,
        )
        .with(&[&diagonal_sharpness::EXPERIMENT]),
        ClaimRule::new(
            2,
            "SGD with larger learning rates finds flatter minima of smaller norm; for diagonal \
             networks gradient descent does not.",
            "S2, R2, D1",
            norms_follow,
        )
        .with(&[&diagonal_sharpness::EXPERIMENT]),
    ],
};

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let runs = &cells.shallow;
    let panel = |title: &str, label: &str, value: fn(&Measurement) -> f64, bound: Option<&str>| {
        let value = |run: &ShallowRun<'_>| run.end(value);
        let bound = bound.map(|bound| two_over_eta(runs, bound)).into_iter().collect();
        rate_panel(runs, title, label, value, bound)
    };
    let trace_bound = Some("2/η: SGD must stay below (S2)");
    let eigenvalue_bound = Some("2/η: both must stay below (S1, S5)");
    let panels = vec![
        panel("Trace", "tr G", |m| m.empirical.trace, trace_bound),
        panel("Frobenius norm", "‖G‖_{F}", |m| m.empirical.frobenius_norm, Some("2/η (S3, p = 1)")),
        panel("Largest eigenvalue", "λ_{max}(G)", |m| m.empirical.lambda_max, eigenvalue_bound),
        panel("Path norm", "path norm ‖θ‖_{P}", |m| m.norm, None),
    ];
    let title = "Sharpness of the minima that SGD (B = 1) and GD find, two-layer ReLU networks";
    rate_presentation(runs, title, 2, panels)
}

/// The runs of each architecture, with its name and the name of its norm.
fn architectures<'r>(
    runs: &[ShallowRun<'r>],
) -> [(&'static str, &'static str, Vec<ShallowRun<'r>>); 2] {
    [
        ("ReLU", "path norm", only(runs, ShallowRun::is_relu)),
        ("diagonal", "ℓ1 norm", only(runs, |run| !run.is_relu())),
    ]
}

fn stable_minima(cells: &FinishedCells<'_>) -> Judgement {
    let mut judgement = Judgement::new(
        "every converged SGD run (B = 1) has tr G ≤ 2/η; every converged GD run has λ_max(G) ≤ 2/η",
        0,
    );
    for (name, _, runs) in architectures(&cells.shallow) {
        let runs = at_rest(&runs);
        let sgd = values(&of_method(&runs, SGD), ShallowRun::scaled_trace);
        let gd = values(&of_method(&runs, GD), ShallowRun::scaled_lambda_max);
        for (label, values) in [("SGD: tr G · η/2", sgd), ("GD: λ_max · η/2", gd)] {
            judgement.need_runs(!values.is_empty());
            for value in &values {
                judgement.at_most(format!("{name}, {label}"), *value, 1.0);
            }
            judgement.runs += values.len();
            judgement.measure(format!("{name}, {label}"), &values);
        }
    }
    judgement
}

fn norms_follow(cells: &FinishedCells<'_>) -> Judgement {
    let mut judgement = Judgement::new(
        "medians of tr G and of the norm (path, ℓ1) against η: Spearman ≤ −0.95 for SGD, and \
         max/min ≥ 50 for diagonal networks; max/min ≤ 1.05 for diagonal networks and GD",
        0,
    );
    let ratio = |medians: &[(f64, f64)]| {
        let medians: Vec<f64> = medians.iter().map(|(_, median)| *median).collect();
        largest(&medians) / smallest(&medians)
    };
    for (name, norm, runs) in architectures(&cells.shallow) {
        let is_diagonal = name == "diagonal";
        let [sgd, gd] = [SGD, GD].map(|method| {
            let runs = of_method(&runs, method);
            [("tr G", medians(&runs, ShallowRun::trace)), (norm, medians(&runs, ShallowRun::norm))]
        });
        judgement.runs += if is_diagonal { runs.len() } else { of_method(&runs, SGD).len() };
        for (quantity, medians) in sgd {
            let correlation = spearman(&medians);
            judgement.need_runs(medians.len() >= 3);
            judgement.require(correlation <= -0.95);
            let label = format!("{name}, SGD: Spearman correlation of η and median {quantity}");
            judgement.measure(label, &[correlation]);
            if is_diagonal {
                let ratio = ratio(&medians);
                judgement.at_least(format!("{name}, SGD: max/min"), ratio, 50.0);
                judgement.measure(format!("{name}, SGD: max/min of median {quantity}"), &[ratio]);
            }
        }
        for (quantity, medians) in gd.into_iter().filter(|_| is_diagonal) {
            let ratio = ratio(&medians);
            judgement.at_most(format!("{name}, GD: max/min less 1"), ratio - 1.0, 0.05);
            judgement.measure(format!("{name}, GD: max/min of median {quantity}"), &[ratio]);
        }
    }
    judgement
}
