//! Table and figure of the norm equivalence theorems.

use std::f64::consts::PI;

use super::select::norms;
use super::{MissingCell, Presentation};
use crate::cell::{NetworkFamily, NormRow, NormSpec, Results};
use crate::table::{Column, Table, Value};
use crate::{Experiment, Settings};
use flatmin_figures::{Axis, Figure, Mark, Panel, Reference, ReferenceKind, Series, Style};

/// Variance of an input coordinate of the diagonal networks.
const VARIANCE: f64 = crate::cell::CUBE_VARIANCE;

pub(super) fn present(settings: &Settings, results: &Results) -> Result<Presentation, MissingCell> {
    let cells = norms(&Experiment::NormEquivalence.cells(settings), results)?;
    let relu = |x: fn(&NormSpec, &NormRow) -> f64, y: fn(&NormRow) -> f64| {
        series(&cells, NetworkFamily::Relu, x, y)
    };
    let diagonal = |x: fn(&NormSpec, &NormRow) -> f64, y: fn(&NormRow) -> f64| {
        series(&cells, NetworkFamily::Diagonal, x, y)
    };
    let equality = |label: &str, series: &[Series], slope: f64| {
        let xs = series.iter().flat_map(|s| s.points.iter().map(|p| p.0));
        let (low, high) =
            xs.fold((f64::INFINITY, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
        Reference {
            label: label.to_owned(),
            kind: ReferenceKind::Curve(vec![(low, slope * low), (high, slope * high)]),
        }
    };
    let panel = |title: &str, x: &str, y: &str, series: Vec<Series>, lines: &[(&str, f64)]| Panel {
        title: title.to_owned(),
        x: Axis::log(x),
        y: Axis::log(y),
        references: lines.iter().map(|(label, slope)| equality(label, &series, *slope)).collect(),
        series,
    };
    let panels = vec![
        panel(
            "ReLU: trace and path norm",
            "√d ‖θ‖_{P}",
            "tr Ḡ",
            relu(|spec, row| (spec.input_dim as f64).sqrt() * row.norm, |row| row.population.trace),
            &[("equality: balanced (R2)", 1.0)],
        ),
        panel(
            "ReLU: largest eigenvalue and norm",
            "‖W‖_{F}² + ‖a‖²",
            "λ_{max}(Ḡ)",
            relu(|_, row| row.second_norm, |row| row.population.lambda_max),
            // max(x/2π, y/4) over x + y = 1 is smallest where x/2π = y/4.
            &[("upper bound, ½ (R3)", 0.5), ("lower bound (R3)", 1.0 / (2.0 * PI + 4.0))],
        ),
        panel(
            "Diagonal: trace and ℓ1",
            "2s² ‖β‖_{1}",
            "tr Ḡ",
            diagonal(|_, row| 2.0 * VARIANCE * row.norm, |row| row.population.trace),
            &[("equality: balanced (D1)", 1.0)],
        ),
        panel(
            "Diagonal: Frobenius norm and ℓ2",
            "2s² ‖β‖_{2}",
            "‖Ḡ‖_{F}",
            diagonal(
                |_, row| 2.0 * VARIANCE * row.second_norm,
                |row| row.population.frobenius_norm,
            ),
            &[("equality: balanced (D1)", 1.0)],
        ),
        panel(
            "Diagonal: largest eigenvalue and ℓ∞",
            "2s² ‖β‖_{∞}",
            "λ_{max}(Ḡ)",
            diagonal(|_, row| 2.0 * VARIANCE * row.third_norm, |row| row.population.lambda_max),
            &[("equality: balanced (D1)", 1.0)],
        ),
    ];
    Ok(Presentation {
        table: table(&cells),
        figure: Figure {
            title: "Trace, Frobenius norm and largest eigenvalue are parameter norms".to_owned(),
            subtitle: "One dot a random network (hollow: balanced, where the bounds are attained)."
                .to_owned(),
            columns: 3,
            panels,
        },
        summary: summary(&cells),
    })
}

/// One series a size, hollow dots for the balanced networks.
fn series(
    cells: &[(NormSpec, &crate::cell::NormResult)],
    family: NetworkFamily,
    x: fn(&NormSpec, &NormRow) -> f64,
    y: fn(&NormRow) -> f64,
) -> Vec<Series> {
    let of_family = || cells.iter().filter(move |(spec, _)| spec.family == family);
    let mut dims: Vec<usize> = of_family().map(|(spec, _)| spec.input_dim).collect();
    dims.sort_unstable();
    dims.dedup();
    let mut all = Vec::new();
    for (k, dim) in dims.into_iter().enumerate() {
        for (balanced, mark) in [(false, Mark::Points), (true, Mark::OpenPoints)] {
            let cells = of_family().filter(|(spec, _)| spec.input_dim == dim);
            let points = cells.flat_map(|(spec, result)| {
                let rows = result.rows.iter().filter(move |row| row.balanced == balanced);
                rows.map(move |row| (x(spec, row), y(row)))
            });
            all.push(Series {
                label: format!("d = {dim}"),
                style: Style(k),
                mark,
                points: points.collect(),
            });
        }
    }
    all
}

fn family_name(family: NetworkFamily) -> &'static str {
    match family {
        NetworkFamily::Relu => "relu",
        NetworkFamily::Diagonal => "diagonal",
    }
}

fn table(cells: &[(NormSpec, &crate::cell::NormResult)]) -> Table {
    let columns = [
        ("family", "word", "relu or diagonal"),
        ("width", "neurons", "width m (relu)"),
        ("input_dim", "coordinates", "input dimension d"),
        ("seed", "seed", "seed of the parameters"),
        ("balanced", "word", "whether the network was made balanced"),
        ("population_trace", "sharpness", "tr Ḡ"),
        ("population_frobenius_norm", "sharpness", "Frobenius norm of Ḡ"),
        ("population_lambda_max", "sharpness", "largest eigenvalue of Ḡ"),
        ("norm", "norm", "path norm (relu) or l1 norm of β (diagonal)"),
        ("second_norm", "norm", "‖W‖_F² + ‖a‖² (relu) or l2 norm of β (diagonal)"),
        ("third_norm", "norm", "max(‖W‖_F²/2π, ‖a‖²/4) (relu) or max norm of β (diagonal)"),
        ("smallest_slack", "1", "smallest relative slack of the inequalities"),
        ("largest_equality_error", "1", "largest relative error of the equalities"),
    ]
    .map(|(name, unit, description)| Column { name, unit, description })
    .to_vec();
    let mut rows = Vec::new();
    for (spec, result) in cells {
        for row in &result.rows {
            rows.push(vec![
                family_name(spec.family).into(),
                Value::Integer(spec.width as u64),
                Value::Integer(spec.input_dim as u64),
                Value::Integer(spec.seed),
                if row.balanced { "yes" } else { "no" }.into(),
                Value::Number(row.population.trace),
                Value::Number(row.population.frobenius_norm),
                Value::Number(row.population.lambda_max),
                Value::Number(row.norm),
                Value::Number(row.second_norm),
                Value::Number(row.third_norm),
                Value::Number(row.smallest_slack),
                Value::Number(row.largest_equality_error),
            ]);
        }
    }
    Table { columns, rows }
}

fn summary(cells: &[(NormSpec, &crate::cell::NormResult)]) -> Table {
    let columns = [
        ("family", "word", "relu or diagonal"),
        ("networks", "networks", "networks tried"),
        ("smallest_slack", "1", "smallest relative slack of the inequalities"),
        ("largest_equality_error", "1", "largest relative error of the equalities"),
    ]
    .map(|(name, unit, description)| Column { name, unit, description })
    .to_vec();
    let rows = [NetworkFamily::Relu, NetworkFamily::Diagonal]
        .into_iter()
        .map(|family| {
            let rows: Vec<&NormRow> = cells
                .iter()
                .filter(|(spec, _)| spec.family == family)
                .flat_map(|(_, result)| &result.rows)
                .collect();
            let slack = rows.iter().map(|row| row.smallest_slack).fold(f64::INFINITY, f64::min);
            let error = rows.iter().map(|row| row.largest_equality_error).fold(0.0, f64::max);
            vec![
                family_name(family).into(),
                Value::Integer(rows.len() as u64),
                Value::Number(slack),
                Value::Number(error),
            ]
        })
        .collect();
    Table { columns, rows }
}
