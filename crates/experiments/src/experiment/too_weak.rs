//! Interpolators that the stability of gradient descent cannot exclude.

use flatmin_linalg::Sharpness;
use flatmin_theory::{lambda_max_bound, trace_bound};

use crate::prelude::*;
use crate::protocol::diagonal::{self, FEWEST_DESIGNS};

pub(super) static EXPERIMENT: Experiment = Experiment {
    id: "too_weak",
    title: "Diagonal networks: the regularisation of gradient descent is too weak",
    shows: "The interpolator of minimum ℓ2 norm misses the fraction 1 − n/d of the sparse target \
            (D4), yet gradient descent is stable there wherever it is stable at the target: its \
            stability bounds only the largest coefficient. That of SGD bounds ‖β‖_{1}: at the \
            learning rate η₀ = 1/(s²‖β*‖_{1}), where the trace condition of β* turns, no other \
            interpolator satisfies it once basis pursuit finds β* (D3); fewer samples admit others \
            too. Trained at a large learning rate SGD recovers the target with a few times as many \
            samples as basis pursuit needs; gradient descent ends far from it at every n. The trace \
            condition is necessary only: with the data at hand the exact threshold η* of β* is \
            below η₀.",
    how: |settings| {
        format!(
            "{}\n\nHere n varies, the learning rate is the largest one, η = {}, and the interpolator \
             of minimum ℓ2 norm is computed for {} designs at every n, the first {seeds} of which \
             are those of the other methods; a larger n adds samples to the same design. An \
             interpolator is a minimum as the balanced network with its coefficients, a = √|β|, \
             b = sign(β)√|β|; for trained networks the layers are taken as they are. Exact \
             thresholds η* (B = 1) are those of the empirical matrix at n = {}, for the designs of \
             the first {seeds} seed(s).",
            diagonal::words(settings),
            short_number(diagonal::largest_rate(settings.profile)),
            diagonal::design_count(settings),
            diagonal::main_sample_count(settings.profile),
            seeds = settings.seeds,
        )
    },
    cells: diagonal::recovery,
    present,
    claims: &[ClaimRule::new(
        11,
        "The stability of gradient descent admits the interpolator of minimum ℓ2 norm, which \
         misses a fixed fraction of the sparse target; basis pursuit and SGD recover the target.",
        "D3, D4",
        judge,
    )],
};

/// The largest distance of a mean error from D4, in standard errors over 40 designs. At eight numbers
/// of samples together Student's t with 39 degrees of freedom exceeds it once in 1100 reproductions.
/// A limit of 3 is exceeded once in 27, and was: by 3.34, from seed 2000.
const MOST_STANDARD_ERRORS: f64 = 4.3;

/// The smallest error drawn; smaller ones are drawn here. Those of basis pursuit are rounding
/// errors at 1e-50 or 0.
const SMALLEST_DRAWN: f64 = 1e-10;

/// The method that an interpolating β comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    MinimumL2,
    BasisPursuit,
    Sgd,
    GradientDescent,
}

impl Origin {
    const ALL: [Self; 4] = [Self::MinimumL2, Self::BasisPursuit, Self::Sgd, Self::GradientDescent];

    /// The name in tables, the name in the figure, and the style there.
    fn names(self) -> (&'static str, &'static str, Style) {
        match self {
            Self::MinimumL2 => ("minimum_l2", "minimum ℓ2 norm", Style(2)),
            Self::BasisPursuit => ("basis_pursuit", "basis pursuit (minimum ℓ1 norm)", Style(3)),
            Self::Sgd => ("SGD", "SGD as trained", SGD_STYLE),
            Self::GradientDescent => ("GD", "GD as trained", GD_STYLE),
        }
    }
}

/// One interpolating β, of one origin and design.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    origin: Origin,
    sample_count: usize,
    input_dim: usize,
    seed: u64,
    /// Says that training met the stopping rule; true of what was computed directly.
    at_rest: bool,
    /// `‖β − β*‖² / ‖β*‖²`.
    error: f64,
    l1_norm: f64,
    /// Largest η at which gradient descent is stable, population matrix, in units of η₀.
    gd_edge: f64,
    /// Largest η at which the trace condition of SGD (B = 1) holds, population matrix, in units of
    /// η₀.
    sgd_edge: f64,
    /// The exact threshold η* of SGD, B = 1, empirical matrix, in units of η₀; where computed.
    threshold: Option<f64>,
    /// The exact threshold at the balanced β*, in units of η₀; where computed.
    target_threshold: Option<f64>,
    /// The result of an interpolator; absent for trained networks.
    interpolator: Option<InterpolatorResult>,
}

/// All candidates, and the target they are compared with.
#[derive(Debug)]
struct Comparison {
    candidates: Vec<Candidate>,
    /// `‖β*‖²`.
    target_norm_squared: f64,
    /// `‖β*‖_1 / ‖β*‖_∞`: the largest η at which gradient descent is stable at the balanced β*, in
    /// units of η₀ = 1/(s²‖β*‖_1), at which the trace condition of SGD turns.
    target_gd_edge: f64,
    /// Number of samples of the main setting, where exact thresholds are computed.
    main_sample_count: usize,
}

impl AtRest for Candidate {
    fn at_rest(&self) -> bool {
        self.at_rest
    }

    fn origin(&self) -> String {
        format!("n = {}", self.sample_count)
    }
}

impl Candidate {
    fn ratio(&self) -> f64 {
        self.sample_count as f64 / self.input_dim as f64
    }
}

impl Comparison {
    fn new(cells: &FinishedCells<'_>) -> Self {
        let interpolators = &cells.interpolators;
        let target = |value: fn(&InterpolatorResult) -> f64| {
            interpolators.first().map_or(f64::NAN, |found| value(found.result))
        };
        let main = interpolators.iter().find(|found| found.spec.with_thresholds);
        let mut comparison = Self {
            candidates: Vec::new(),
            target_norm_squared: target(|i| i.target_norm_squared),
            target_gd_edge: target(|i| i.target_l1_norm / i.target_max_norm),
            main_sample_count: main.map_or(0, |found| found.spec.problem.sample_count),
        };
        let unit = target(|i| 1.0 / (i.input_variance * i.target_l1_norm));
        let found = interpolators.iter().map(|found| comparison.interpolator(found, unit));
        let trained = cells.shallow.iter().filter_map(|run| comparison.trained(run, unit));
        comparison.candidates = found.chain(trained).collect();
        comparison
    }

    fn interpolator(&self, found: &Interpolator<'_>, unit: f64) -> Candidate {
        let (spec, result) = (&found.spec, found.result);
        let (gd_edge, sgd_edge) = edges(result.population, unit);
        Candidate {
            origin: match spec.minimizes {
                MinimizedNorm::L1 => Origin::BasisPursuit,
                MinimizedNorm::L2 => Origin::MinimumL2,
            },
            sample_count: spec.problem.sample_count,
            input_dim: spec.problem.input_dim,
            seed: spec.seed,
            at_rest: true,
            error: result.coefficient_error / self.target_norm_squared,
            l1_norm: result.l1_norm,
            gd_edge,
            sgd_edge,
            threshold: result.thresholds.and_then(|t| t.interpolator).map(|eta| eta / unit),
            target_threshold: result.thresholds.and_then(|t| t.target).map(|eta| eta / unit),
            interpolator: Some(*result),
        }
    }

    /// `None` for a run that diverged.
    fn trained(&self, run: &ShallowRun<'_>, unit: f64) -> Option<Candidate> {
        let Problem::Diagonal(problem) = run.spec.problem else { return None };
        let (last, population) = (run.result.last?, run.result.population?);
        let (gd_edge, sgd_edge) = edges(population, unit);
        let single = run.result.study.as_deref().and_then(|study| study.single());
        let threshold = single.map(|single| single.threshold() / unit);
        Some(Candidate {
            origin: match run.spec.method {
                Method::Sgd { .. } => Origin::Sgd,
                Method::GradientDescent => Origin::GradientDescent,
            },
            sample_count: problem.sample_count,
            input_dim: problem.input_dim,
            seed: run.spec.seed,
            at_rest: run.at_rest(),
            error: last.coefficient_error.unwrap_or(f64::NAN) / self.target_norm_squared,
            l1_norm: last.norm,
            gd_edge,
            sgd_edge,
            threshold: threshold.filter(|threshold| threshold.is_finite()),
            target_threshold: None,
            interpolator: None,
        })
    }

    /// The candidates of one origin.
    fn of(&self, origin: Origin) -> Vec<Candidate> {
        only(&self.candidates, |candidate| candidate.origin == origin)
    }

    /// Dots for the designs, and a line of medians, against n/d.
    fn series(&self, value: impl Fn(&Candidate) -> f64) -> Vec<Series> {
        let of = |origin: Origin| {
            let (_, label, style) = origin.names();
            dots_and_medians(&self.of(origin), label, style, Candidate::ratio, |c| Some(value(c)))
        };
        Origin::ALL.into_iter().flat_map(of).collect()
    }
}

/// Edges of gradient descent and of the trace condition of SGD in units of η₀.
fn edges(population: Sharpness, unit: f64) -> (f64, f64) {
    let gd = lambda_max_bound(population.lambda_max);
    (gd / unit, trace_bound(population.trace, 1.0) / unit)
}

fn by_sample_count(candidates: &[Candidate]) -> Vec<(f64, Vec<Candidate>)> {
    group_by(candidates, |candidate| candidate.sample_count as f64)
}

fn present(cells: &FinishedCells<'_>) -> Presentation {
    let comparison = Comparison::new(cells);
    let panel = |title: &str, label: &str, value: fn(&Candidate) -> f64, lines| {
        let axis = Axis::log("samples over dimension n/d");
        Panel::new(title, axis, Axis::log(label), comparison.series(value), lines)
    };
    let unit_line = || Reference::horizontal("η₀", 1.0);
    let panels = vec![
        panel(
            "Error (below 10⁻¹⁰ drawn there)",
            "‖β − β*‖² / ‖β*‖²",
            |c| c.error.max(SMALLEST_DRAWN),
            vec![Reference::horizontal("zero function", 1.0)],
        ),
        mean_error_panel(&comparison.of(Origin::MinimumL2)),
        panel(
            "GD is stable up to",
            "2/λ_{max}(Ḡ) in units of η₀",
            |c| c.gd_edge,
            vec![unit_line(), Reference::horizontal("at β*", comparison.target_gd_edge)],
        ),
        panel(
            "SGD (B = 1) can be stable up to",
            "2/tr Ḡ in units of η₀",
            |c| c.sgd_edge,
            vec![unit_line()],
        ),
        exact_panel(&comparison),
    ];
    let title = "Stability of GD admits the interpolator of minimum ℓ2 norm, that of SGD does not";
    let subtitle = "Dots: one design each (hollow: stopping rule not met). Lines: medians over \
                    the designs, with 95 % bootstrap intervals. η₀ = 1/(s²‖β*‖_{1}): up to it SGD can be stable at the target β*.";
    Presentation {
        table: table(&comparison.candidates),
        figure: Figure::new(title, subtitle, 3, panels),
        summary: summary(&comparison),
    }
}

/// The mean error of the minimum-ℓ2 interpolator beside D4.
fn mean_error_panel(candidates: &[Candidate]) -> Panel {
    let groups = by_sample_count(candidates);
    let dots = groups.iter().flat_map(|(_, group)| group).map(|c| (c.ratio(), c.error));
    let errors = groups.iter().filter_map(|(_, group)| {
        Some((group.first()?.ratio(), group.iter().map(|c| c.error).collect()))
    });
    let [means, bars] = centres_with_bars(errors, "its mean error", Style(6), ("mean", mean));
    let (_, label, style) = Origin::MinimumL2.names();
    Panel::new(
        "Minimum ℓ2 norm: mean error over designs",
        Axis::linear("samples over dimension n/d"),
        Axis::linear("‖β − β*‖² / ‖β*‖²"),
        vec![
            Series::new(label, style, Mark::Points, dots),
            bars,
            Series { mark: Mark::OpenPoints, ..means },
        ],
        vec![Reference::curve("1 − n/d (D4)", [(0.0, 1.0), (1.0, 0.0)])],
    )
}

/// The exact threshold of SGD beside the trace condition, by origin.
fn exact_panel(comparison: &Comparison) -> Panel {
    let (mut exact, mut condition) = (Vec::new(), Vec::new());
    for candidate in &comparison.candidates {
        if let Some(threshold) = candidate.threshold {
            let position = match candidate.origin {
                Origin::MinimumL2 => 1.0,
                Origin::Sgd => 2.0,
                // Basis pursuit finds β*; gradient descent's is a hundred times smaller and would
                // hide the other differences.
                Origin::BasisPursuit | Origin::GradientDescent => continue,
            };
            exact.push((position - 0.12, threshold));
            condition.push((position + 0.12, candidate.sgd_edge));
        }
        if let Some(threshold) = candidate.target_threshold {
            exact.push((-0.12, threshold));
            // η₀ is defined by it.
            condition.push((0.12, 1.0));
        }
    }
    Panel::new(
        format!("SGD (B = 1) is stable up to η* (n = {})", comparison.main_sample_count),
        Axis::categories("minimum", &["β*", "minimum ℓ2", "SGD as trained"]),
        Axis::log("learning rate in units of η₀"),
        vec![
            Series::new("exact η* of the design", Style(4), Mark::OpenPoints, exact),
            Series::new("2/tr Ḡ", Style(5), Mark::OpenPoints, condition),
        ],
        vec![Reference::horizontal("η₀", 1.0)],
    )
}

/// Rank (ℓ2), and dual norm and gap (ℓ1), which prove that the norm is the smallest one.
fn proof(candidate: &Candidate) -> (Option<usize>, Option<f64>, Option<f64>) {
    match candidate.interpolator.map(|result| result.evidence) {
        Some(Evidence::RowSpace { rank }) => (Some(rank), None, None),
        Some(Evidence::Dual { dual_norm, gap }) => (None, Some(dual_norm), Some(gap)),
        None => (None, None, None),
    }
}

fn table(candidates: &[Candidate]) -> Table {
    table!(candidates, |c| {
        "origin", "word", "minimum_l2, basis_pursuit, SGD or GD" => c.origin.names().0;
        "sample_count", "samples", "number n of training samples" => c.sample_count;
        "input_dim", "coordinates", "input dimension d" => c.input_dim;
        "seed", "seed", "seed of the data, the start and the batches" => c.seed;
        "at_rest", "word", "whether training met the stopping rule; yes for the interpolators"
            => c.at_rest;
        "relative_error", "1", "‖β − β*‖² / ‖β*‖²" => c.error;
        "l1_norm", "norm", "‖β‖_1" => c.l1_norm;
        "max_norm", "norm", "‖β‖_∞ (interpolators)" => c.interpolator.map(|i| i.max_norm);
        "gd_edge", "1", "2/λ_max of the population matrix, in units of 1/(s²‖β*‖_1)" => c.gd_edge;
        "sgd_edge", "1", "2/trace of the population matrix, in the same units" => c.sgd_edge;
        "threshold", "1", "exact η* (B = 1, empirical matrix) in the same units, where computed"
            => c.threshold;
        "target_threshold", "1", "the same at the balanced β* (minimum_l2)" => c.target_threshold;
        "largest_residual", "1", "largest |residual| (interpolators)"
            => c.interpolator.map(|i| i.largest_residual);
        "rank", "1", "rank of the inputs (minimum_l2)" => proof(c).0;
        "dual_norm", "1", "‖Xᵀν‖_∞ of the dual certificate (basis_pursuit)" => proof(c).1;
        "duality_gap", "norm", "‖β‖_1 − yᵀν (basis_pursuit)" => proof(c).2;
    })
}

/// The designs of one origin and number of samples, with their errors.
struct Designs {
    origin: Origin,
    sample_count: f64,
    candidates: Vec<Candidate>,
    errors: Vec<f64>,
}

fn summary(comparison: &Comparison) -> Table {
    let of = |origin| {
        let groups = by_sample_count(&comparison.of(origin)).into_iter();
        groups.map(move |(sample_count, candidates)| {
            let errors = candidates.iter().map(|c| c.error).collect();
            Designs { origin, sample_count, candidates, errors }
        })
    };
    let designs: Vec<Designs> = Origin::ALL.into_iter().flat_map(of).collect();
    table!(&designs, |d| {
        "origin", "word", "minimum_l2, basis_pursuit, SGD or GD" => d.origin.names().0;
        "sample_count", "samples", "number n of training samples" => d.sample_count;
        "designs", "designs", "designs tried" => d.candidates.len();
        "mean_error", "1", "mean of ‖β − β*‖² / ‖β*‖²" => mean_and_standard_error(&d.errors).0;
        "standard_error", "1", "standard error of the mean" => mean_and_standard_error(&d.errors).1;
        "median_error", "1", "median of the same" => median(&d.errors);
        "largest_error", "1", "largest of the same" => largest(&d.errors).max(0.0);
        "gd_edge", "1", "median of 2/λ_max of the population matrix, in units of 1/(s²‖β*‖_1)"
            => median_value(&d.candidates, |c| Some(c.gd_edge));
        "sgd_edge", "1", "median of 2/trace of the population matrix, in the same units"
            => median_value(&d.candidates, |c| Some(c.sgd_edge));
        "threshold", "1", "median of the exact η* (B = 1) in the same units, where computed"
            => median_value(&d.candidates, |c| c.threshold);
        "target_threshold", "1", "the same at the balanced β*" => median_value(&d.candidates, |c| c.target_threshold);
    })
}

/// The difference between D4 and the mean error of minimum-ℓ2 interpolators with one number of
/// samples, in standard errors, and the number of designs.
fn deviation_from_d4(group: &[Candidate]) -> (f64, u64) {
    let ranked = group.iter().filter_map(|candidate| Some((candidate, proof(candidate).0?)));
    let (errors, expected): (Vec<f64>, Vec<f64>) =
        ranked.map(|(c, rank)| (c.error, 1.0 - rank as f64 / c.input_dim as f64)).unzip();
    let (mean, standard_error) = mean_and_standard_error(&errors);
    let deviation = (mean - mean_and_standard_error(&expected).0) / standard_error;
    (deviation, errors.len() as u64)
}

fn judge(cells: &FinishedCells<'_>) -> Judgement {
    let comparison = Comparison::new(cells);
    let main = comparison.main_sample_count;
    let mut judgement = Judgement::new(
        format!(
            "balanced minimum-ℓ2 interpolator, every design: ‖β̂‖_∞ ≤ ‖β*‖_∞ and λ_max(Ḡ) ≤ 2/η₀ at \
             η₀ = 1/(s²‖β*‖_1); its mean error is (1 − n/d)‖β*‖² within {MOST_STANDARD_ERRORS} \
             standard errors (jointly: chance exceeds it at one of eight n once in 1100 runs) at \
             every n, over at least {FEWEST_DESIGNS} designs; at n = {main} basis pursuit has \
             ‖β − β*‖ ≤ 1e-6 and SGD at the largest η ‖β − β*‖² ≤ 1e-2 in every run"
        ),
        comparison.candidates.len(),
    );
    // In the order of the numbers of samples.
    let groups = by_sample_count(&comparison.of(Origin::MinimumL2));
    let (deviations, designs): (Vec<f64>, Vec<u64>) =
        groups.iter().map(|(_, group)| deviation_from_d4(group)).unzip();
    let minimum: Vec<Candidate> = groups.into_iter().flat_map(|(_, group)| group).collect();
    let of = |value: fn(&Candidate) -> Option<f64>| -> Vec<f64> {
        minimum.iter().filter_map(value).collect()
    };
    let largest_coefficients = of(|c| c.interpolator.map(|i| i.max_norm / i.target_max_norm));
    let (gd_edges, sgd_edges) = (of(|c| Some(c.gd_edge)), of(|c| Some(c.sgd_edge)));
    let (exact, target) = (of(|c| c.threshold), of(|c| c.target_threshold));
    let errors = |origin| -> Vec<f64> {
        let chosen = comparison.of(origin).into_iter().filter(|c| c.sample_count == main);
        chosen.map(|c| c.error * comparison.target_norm_squared).collect()
    };
    let (pursuit, sgd) = (errors(Origin::BasisPursuit), errors(Origin::Sgd));

    judgement.need_runs(designs.iter().all(|count| *count >= FEWEST_DESIGNS));
    judgement.need_runs(!pursuit.is_empty() && !sgd.is_empty());
    judgement.require(minimum.iter().all(|c| {
        c.interpolator.is_some_and(|i| i.max_norm <= i.target_max_norm) && c.gd_edge >= 1.0
    }));
    for deviation in &deviations {
        let label = "minimum ℓ2: distance in standard errors";
        judgement.at_most(label, deviation.abs(), MOST_STANDARD_ERRORS);
    }
    judgement.require(pursuit.iter().all(|error| *error <= 1e-12));
    for error in &sgd {
        judgement.at_most("SGD, largest η: ‖β − β*‖²", *error, 1e-2);
    }

    judgement.measure("minimum ℓ2: ‖β̂‖_∞ / ‖β*‖_∞", &largest_coefficients);
    judgement.measure("minimum ℓ2: 2/(λ_max(Ḡ) η₀), at least 1 where GD is stable", &gd_edges);
    judgement.measure("minimum ℓ2: 2/(tr Ḡ η₀), below 1 where SGD is not", &sgd_edges);
    let label = "minimum ℓ2: mean error less (1 − n/d)‖β*‖², in standard errors";
    judgement.measure(label, &deviations);
    judgement.measure(format!("minimum ℓ2, n = {main}: exact η*/η₀ (not judged)"), &exact);
    judgement.measure(format!("β*, n = {main}: exact η*/η₀ (not judged)"), &target);
    judgement.measure(format!("basis pursuit, n = {main}: ‖β − β*‖²"), &pursuit);
    judgement.measure(format!("SGD, n = {main}: ‖β − β*‖²"), &sgd);
    if !target.is_empty() {
        judgement.note(format!(
            "η₀ is where the trace condition of the population matrix turns. With the data at hand \
             the exact threshold of β* is lower, {} η₀ (median), so that SGD at η₀ is not \
             mean-square stable at β* either; that of the minimum-ℓ2 interpolator is {} η₀.",
            short_number(median(&target)),
            short_number(median(&exact)),
        ));
    }
    judgement
}
