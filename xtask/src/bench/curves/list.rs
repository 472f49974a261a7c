//! The curves.

use super::points::{self, Timer};
use crate::bench::measure::Measured;
use crate::named::Names;

/// A curve.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    /// The work in words, without the size that varies.
    pub(super) work: &'static str,
    /// The size that varies, as an axis names it.
    pub(super) size: &'static str,
    /// The values of the size, ascending.
    pub(super) sizes: &'static [usize],
    pub(super) how: PointKind,
}

#[derive(Debug)]
pub(super) enum PointKind {
    /// Work in a process of its own.
    Timed(fn(usize, Timer) -> Measured),
    /// A fresh reproduction with this many seeds; its size is the number of cells.
    Reproduce { threads: &'static str },
}

const fn timed(
    name: &'static str,
    work: &'static str,
    size: &'static str,
    sizes: &'static [usize],
    point: fn(usize, Timer) -> Measured,
) -> Curve {
    Curve { name, work, size, sizes, how: PointKind::Timed(point) }
}

const fn reproduction(name: &'static str, work: &'static str, threads: &'static str) -> Curve {
    let sizes = &[1, 2, 4, 8, 16, 32, 64];
    Curve { name, work, size: "cells", sizes, how: PointKind::Reproduce { threads } }
}

const TO_3200: &[usize] = &[25, 50, 100, 200, 400, 800, 1600, 3200];

/// All curves, in the order in which they are measured.
pub(crate) const CURVES: &[Curve] = &[
    timed("sgd_step_relu_d", "ReLU SGD step, m = 100, n = 300", "d", TO_3200, |d, timer| {
        points::sgd_relu(100, d, timer)
    }),
    timed("sgd_step_relu_m", "ReLU SGD step, d = 100, n = 300", "m", TO_3200, |m, timer| {
        points::sgd_relu(m, 100, timer)
    }),
    timed(
        "sgd_step_diagonal_d",
        "diagonal SGD step, n = 300",
        "d",
        &[250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000],
        points::sgd_diagonal_inputs,
    ),
    timed(
        "train_relu_steps",
        "ReLU SGD run, m = d = 100, n = 300",
        "steps",
        &[300, 1000, 3000, 10_000, 30_000, 100_000, 300_000],
        points::train_relu_steps,
    ),
    timed(
        "gd_step_relu_n",
        "ReLU GD step, m = d = 100",
        "n",
        &[75, 150, 300, 600, 1200, 2400, 4800, 9600],
        points::gd_relu_samples,
    ),
    timed(
        "metrics_relu_n",
        "tr, ‖·‖_F, λ_max of G, ReLU, m = d = 100",
        "n",
        &[62, 125, 250, 500, 1000, 2000, 4000],
        points::metrics_relu_samples,
    ),
    timed(
        "threshold_n",
        "exact threshold, B = 1, all cores",
        "n",
        &[62, 125, 250, 500, 1000, 2000],
        points::threshold_samples,
    ),
    // This curve has the networks and data of the exact threshold. Their spectrum is flat, which is
    // the hardest case for a bracket. The two curves after it have the spectrum of a trained
    // network.
    timed(
        "bracket_n",
        "bracket 5 % wide, B = 1, all cores",
        "n",
        &[125, 250, 500, 1000, 2000, 4000],
        points::bracket_samples,
    ),
    timed(
        "bracket_r",
        "bracket with r modes, nk = 2000, B = 1, all cores",
        "r",
        &[25, 50, 100, 200, 400, 800],
        points::bracket_rank,
    ),
    timed(
        "bracket_k",
        "bracket 5 % wide, nk = 2000, B = 1, all cores",
        "k",
        &[1, 2, 5, 10, 20],
        points::bracket_outputs,
    ),
    reproduction("reproduce_cells", "reproduction, profile smoke, 1 thread", "1"),
    reproduction("reproduce_cells_2_threads", "reproduction, profile smoke, 2 threads", "2"),
];

/// The curves by name.
pub(crate) const NAMES: Names<Curve> =
    Names { kind: "curves", all: CURVES, name: |curve| curve.name };

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fit::FITTED;
    use super::CURVES;

    #[test]
    fn names_are_taken_once_and_sizes_ascend() {
        let names: BTreeSet<&str> = CURVES.iter().map(|curve| curve.name).collect();
        assert_eq!(names.len(), CURVES.len());
        for curve in CURVES {
            assert!(curve.sizes.is_sorted() && curve.sizes.len() >= FITTED);
        }
    }
}
