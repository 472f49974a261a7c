//! The norm equivalence theorems on random networks.

use std::f64::consts::PI;

use crate::prelude::*;

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "norm_equivalence",
    title: "Sharpness and parameter norms are equivalent",
    shows: "For ReLU networks the population trace is at least √d times the path norm, with \
            equality for balanced neurons (R2), and the largest eigenvalue lies between two \
            multiples of the unweighted norm (R3). For diagonal networks trace, Frobenius norm and \
            largest eigenvalue bound the ℓ1, ℓ2 and ℓ∞ norms of β (D1).",
    how: |settings| {
        format!(
            "Random networks of several widths and input dimensions, from exactly balanced to \
             factors of 30 between the layers. The population Gauss–Newton matrix is exact \
             (arc-cosine kernels); its largest eigenvalue is found by Lanczos. {} seed(s).",
            settings.seeds
        )
    },
    cells,
    present,
    claims: &[ClaimRule::new(
        6,
        "Trace, Frobenius norm and largest eigenvalue of the population matrix are equivalent to \
         parameter norms.",
        "R1–R4, D1",
        judge,
    )
    .needs(Requirement::NOTHING)],
};

fn cells(settings: &Settings) -> Vec<CellSpec> {
    let (widths, dims, networks): (&[usize], &[usize], usize) = match settings.profile {
        Profile::Smoke => (&[1, 6], &[1, 5], 4),
        Profile::Quick | Profile::Paper | Profile::Full => (&[1, 10, 100], &[2, 10, 100], 12),
    };
    let mut cells = Vec::new();
    for seed in settings.seeds() {
        for &input_dim in dims {
            let relu = widths.iter().map(|width| (NetworkFamily::Relu, *width));
            cells.extend(relu.chain([(NetworkFamily::Diagonal, 0)]).map(|(family, width)| {
                CellSpec::Norms(NormSpec { family, width, input_dim, networks, seed })
            }));
        }
    }
    cells
}

/// A network of a cell.
type Network<'r> = (NormSpec, &'r NormRow);

fn networks<'r>(trials: &[NormTrial<'r>], family: Option<NetworkFamily>) -> Vec<Network<'r>> {
    let chosen = trials.iter().filter(|trial| family.is_none_or(|f| f == trial.spec.family));
    chosen.flat_map(|trial| trial.result.rows.iter().map(|row| (trial.spec, row))).collect()
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let panel = |title: &str,
                 (family, label, x): (NetworkFamily, &str, fn(&Network<'_>) -> f64),
                 (y_label, y): (&str, fn(&NormRow) -> f64),
                 lines: &[(&str, f64)]| {
        let series = series(&networks(&cells.norms, Some(family)), x, y);
        let xs = || series.iter().flat_map(|s| s.points.iter().map(|p| p.0));
        let ends = [xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max)];
        let line = |(label, slope): &(&str, f64)| {
            Reference::curve(*label, ends.map(|end| (end, slope * end)))
        };
        let lines = lines.iter().map(line).collect();
        Panel::new(title, Axis::log(label), Axis::log(y_label), series, lines)
    };
    let (relu, diagonal) = (NetworkFamily::Relu, NetworkFamily::Diagonal);
    let balanced = [("equality: balanced (D1)", 1.0)];
    let panels = vec![
        panel(
            "ReLU: trace and path norm",
            (relu, "√d ‖θ‖_{P}", |(spec, row)| (spec.input_dim as f64).sqrt() * row.norm),
            ("tr Ḡ", |row| row.population.trace),
            &[("equality: balanced (R2)", 1.0)],
        ),
        panel(
            "ReLU: largest eigenvalue and norm",
            (relu, "‖W‖_{F}² + ‖a‖²", |(_, row)| row.second_norm),
            ("λ_{max}(Ḡ)", |row| row.population.lambda_max),
            // max(x/2π, y/4) over x + y = 1 is smallest where x/2π = y/4.
            &[("upper bound, ½ (R3)", 0.5), ("lower bound (R3)", 1.0 / (2.0 * PI + 4.0))],
        ),
        panel(
            "Diagonal: trace and ℓ1",
            (diagonal, "2s² ‖β‖_{1}", |(_, row)| 2.0 * CUBE_VARIANCE * row.norm),
            ("tr Ḡ", |row| row.population.trace),
            &balanced,
        ),
        panel(
            "Diagonal: Frobenius norm and ℓ2",
            (diagonal, "2s² ‖β‖_{2}", |(_, row)| 2.0 * CUBE_VARIANCE * row.second_norm),
            ("‖Ḡ‖_{F}", |row| row.population.frobenius_norm),
            &balanced,
        ),
        panel(
            "Diagonal: largest eigenvalue and ℓ∞",
            (diagonal, "2s² ‖β‖_{∞}", |(_, row)| 2.0 * CUBE_VARIANCE * row.third_norm),
            ("λ_{max}(Ḡ)", |row| row.population.lambda_max),
            &balanced,
        ),
    ];
    let title = "Trace, Frobenius norm and largest eigenvalue are parameter norms";
    let subtitle = "One dot a random network (hollow: balanced, where the bounds are attained).";
    Presentation {
        table: table(&networks(&cells.norms, None)),
        figure: Figure::new(title, subtitle, 3, panels),
        summary: summary(&cells.norms),
    }
}

/// One series for each input dimension, hollow dots for the balanced networks.
fn series(
    networks: &[Network<'_>],
    x: fn(&Network<'_>) -> f64,
    y: fn(&NormRow) -> f64,
) -> Vec<Series> {
    let mut all = Vec::new();
    let groups = group_by(networks, |(spec, _)| spec.input_dim as f64);
    for (k, (dim, group)) in groups.into_iter().enumerate() {
        for (balanced, mark) in [(false, Mark::Points), (true, Mark::OpenPoints)] {
            let chosen = group.iter().filter(|(_, row)| row.balanced == balanced);
            let points = chosen.map(|network| (x(network), y(network.1)));
            all.push(Series::new(format!("d = {dim}"), Style(k), mark, points));
        }
    }
    all
}

fn table(networks: &[Network<'_>]) -> Table {
    table!(networks, |(spec, row)| {
        "family", "word", "relu or diagonal" => spec.family.name();
        "width", "neurons", "width m (relu)" => spec.width;
        "input_dim", "coordinates", "input dimension d" => spec.input_dim;
        "seed", "seed", "seed of the parameters" => spec.seed;
        "balanced", "word", "whether the network was made balanced" => row.balanced;
        "population_trace", "sharpness", "tr Ḡ" => row.population.trace;
        "population_frobenius_norm", "sharpness", "Frobenius norm of Ḡ"
            => row.population.frobenius_norm;
        "population_lambda_max", "sharpness", "largest eigenvalue of Ḡ"
            => row.population.lambda_max;
        "norm", "norm", "path norm (relu) or l1 norm of β (diagonal)" => row.norm;
        "second_norm", "norm", "‖W‖_F² + ‖a‖² (relu) or l2 norm of β (diagonal)" => row.second_norm;
        "third_norm", "norm", "max(‖W‖_F²/2π, ‖a‖²/4) (relu) or max norm of β (diagonal)"
            => row.third_norm;
        "smallest_slack", "1", "smallest relative slack of the inequalities" => row.smallest_slack;
        "largest_equality_error", "1", "largest relative error of the equalities"
            => row.largest_equality_error;
    })
}

fn summary(trials: &[NormTrial<'_>]) -> Table {
    let families = NetworkFamily::ALL.map(|family| (family, networks(trials, Some(family))));
    table!(&families, |(family, all)| {
        "family", "word", "relu or diagonal" => family.name();
        "networks", "networks", "networks tried" => all.len();
        "smallest_slack", "1", "smallest relative slack of the inequalities"
            => smallest(&all.iter().map(|(_, row)| row.smallest_slack).collect::<Vec<_>>());
        "largest_equality_error", "1", "largest relative error of the equalities"
            => all.iter().map(|(_, row)| row.largest_equality_error).fold(0.0, f64::max);
    })
}

fn judge(cells: &FinishedCells<'_>) -> Judgement {
    let networks = networks(&cells.norms, None);
    let mut judgement = Judgement::new(
        "no inequality violated beyond rounding (1e-12); every equality, and every bound that a \
         balanced network attains, to 1e-10",
        networks.len(),
    );
    let slacks: Vec<f64> = networks.iter().map(|(_, row)| row.smallest_slack).collect();
    let errors: Vec<f64> = networks.iter().map(|(_, row)| row.largest_equality_error).collect();
    judgement.need(!networks.is_empty(), "");
    judgement.require(slacks.iter().all(|slack| *slack >= -1e-12));
    judgement.require(errors.iter().all(|error| *error <= 1e-10));
    judgement.measure("smallest relative slack of an inequality", &slacks);
    judgement.measure("largest relative error of an equality", &errors);
    judgement
}
