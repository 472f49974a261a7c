//! The least trace of a univariate ReLU network that interpolates, with a certificate.

use flatmin_models::{KnotPrices, Side, SideMoments};
use microlp::{ComparisonOp, OptimizationDirection, Problem, Variable};

/// Largest `|f(x_i) − y_i|` and largest gap of an accepted solution, relative to the largest
/// `|y_i − mean y|` and to the value of the program.
pub const LEAST_TRACE_TOLERANCE: f64 = 1e-8;

/// Rounds of cutting planes. In practice there are three to six.
const MAX_ROUNDS: usize = 40;

/// A bend of the solution, made by one neuron.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PricedKnot {
    /// The side on which the neuron is active.
    pub side: Side,
    /// The place τ.
    pub place: f64,
    /// The bend c = a|w|.
    pub bend: f64,
}

/// The solution of the linear program of U3: `LP = min Σ |c_j| h(τ_j)` over knots `τ_j` and sides,
/// subject to `c + Σ c_j (±(x_i − τ_j))₊ = y_i`.
///
/// The least trace of a network of any width that interpolates the data is `1 + 2 LP`.
#[derive(Debug, Clone, PartialEq)]
pub struct LeastTrace {
    /// The bends of the solution, with the prices `h₊` or `h₋` of their sides.
    pub knots: Vec<PricedKnot>,
    /// The output bias c.
    pub output_bias: f64,
    /// `Σ |c_j| h(τ_j)` of these bends: an upper bound on LP up to the residual.
    pub upper: f64,
    /// A lower bound on LP, proved by `dual`: `Σ y_i ν_i` for a ν with `Σ ν_i = 0` and
    /// `|Σ ν_i (±(x_i − τ))₊| ≤ h_±(τ)` for all τ and both sides.
    pub lower: f64,
    /// ν, one number for each sample.
    pub dual: Vec<f64>,
    /// The largest `|f(x_i) − y_i|`.
    pub residual: f64,
}

/// The reason why there is no certified least trace.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LeastTraceError {
    /// The number of targets is not the number of inputs, or both are zero.
    #[error("{targets} targets for {inputs} inputs, expected one for each of at least one input")]
    Length {
        /// Number of inputs.
        inputs: usize,
        /// Number of targets.
        targets: usize,
    },
    /// An input or target is NaN or infinite.
    #[error("sample {sample} is not finite")]
    NotFinite {
        /// The first such sample.
        sample: usize,
    },
    /// One input has two different targets.
    #[error("the input {input} has two different targets")]
    NoInterpolator {
        /// The input.
        input: f64,
    },
    /// The solver of the linear program failed.
    #[error("the linear program could not be solved")]
    LinearProgram,
    /// Residual or gap are above the tolerance.
    #[error("residual {residual:e} and gap {gap:e} are above the tolerance")]
    NotCertified {
        /// The largest residual, relative to the largest deviation of a target from the mean.
        residual: f64,
        /// `upper − lower`, relative to `upper`.
        gap: f64,
    },
}

/// Solves the program of U3 for the inputs `x_i` and the targets `y_i`.
///
/// There are infinitely many knots, so the dual program, `max Σ y_i ν_i`, is solved by cutting
/// planes. In the gap between two inputs `Σ ν_i (x_i − τ)₊` is affine in τ and h² is quadratic, so
/// that the knot at which the constraint is violated most has a closed form. Dividing ν by the
/// largest violation makes it feasible: the lower bound is proved whatever the solver did.
///
/// # Errors
/// [`LeastTraceError`].
///
/// # Examples
/// ```
/// // A straight line from (0, 0) to (1, 1): one neuron with its knot at 1, active at 0 alone.
/// let found = flatmin_ledger::least_trace(&[0.0, 1.0], &[0.0, 1.0])?;
/// assert!((found.upper - 0.5).abs() < 1e-9);
/// # Ok::<(), flatmin_ledger::LeastTraceError>(())
/// ```
pub fn least_trace(inputs: &[f64], targets: &[f64]) -> Result<LeastTrace, LeastTraceError> {
    let points = distinct(inputs, targets)?;
    let problem = Interpolation { prices: KnotPrices::new(inputs), points };
    let count = problem.points.len();
    let mean = problem.points.iter().map(|(_, y)| y).sum::<f64>() / count as f64;
    let scale = problem.points.iter().fold(0.0_f64, |m, (_, y)| m.max((y - mean).abs()));
    if !(scale > 0.0) {
        let dual = vec![0.0; inputs.len()];
        let knots = Vec::new();
        let (upper, lower, residual) = (0.0, 0.0, 0.0);
        return Ok(LeastTrace { knots, output_bias: mean, upper, lower, dual, residual });
    }
    let scaled: Vec<f64> = problem.points.iter().map(|(_, y)| (y - mean) / scale).collect();
    let mut cuts = problem.knots_on_inputs();
    let mut best: Option<(f64, Vec<f64>)> = None;
    for _ in 0..MAX_ROUNDS {
        let dual = problem.dual(&cuts, &scaled)?;
        let violated = problem.most_violated(&dual);
        let largest = violated.iter().fold(1.0_f64, |m, (ratio, _)| m.max(*ratio));
        let value = dual.iter().zip(&scaled).map(|(v, y)| v * y).sum::<f64>() / largest;
        if best.as_ref().is_none_or(|(lower, _)| value > *lower) {
            best = Some((value, dual.iter().map(|v| v / largest).collect()));
        }
        if largest <= 1.0 + 1e-11 {
            break;
        }
        cuts.extend(violated.iter().filter(|(ratio, _)| *ratio > 1.0 + 1e-12).map(|(_, cut)| *cut));
    }
    let (lower, dual) = best.ok_or(LeastTraceError::LinearProgram)?;
    let (mut knots, output_bias) = problem.primal(&cuts, &scaled)?;
    for knot in &mut knots {
        knot.bend *= scale;
    }
    let output_bias = mean + scale * output_bias;
    let fitted = |x: f64| {
        let bends = knots.iter().map(|k| k.bend * (k.side.sign() * (x - k.place)).max(0.0));
        output_bias + bends.sum::<f64>()
    };
    let residuals = problem.points.iter().map(|(x, y)| (fitted(*x) - y).abs());
    let found = LeastTrace {
        residual: residuals.fold(0.0, f64::max),
        upper: knots.iter().map(|k| k.bend.abs() * problem.prices.one_sided(k.side, k.place)).sum(),
        lower: scale * lower,
        dual: problem.spread(&dual, inputs),
        output_bias,
        knots,
    };
    let (residual, gap) = (found.residual / scale, (found.upper - found.lower) / found.upper);
    // These comparisons are false for a NaN.
    if residual <= LEAST_TRACE_TOLERANCE && gap.abs() <= LEAST_TRACE_TOLERANCE {
        Ok(found)
    } else {
        Err(LeastTraceError::NotCertified { residual, gap })
    }
}

/// The distinct inputs in ascending order with their targets.
fn distinct(inputs: &[f64], targets: &[f64]) -> Result<Vec<(f64, f64)>, LeastTraceError> {
    if inputs.len() != targets.len() || inputs.is_empty() {
        return Err(LeastTraceError::Length { inputs: inputs.len(), targets: targets.len() });
    }
    let mut points: Vec<(f64, f64)> = inputs.iter().copied().zip(targets.iter().copied()).collect();
    if let Some(sample) = points.iter().position(|(x, y)| !(x.is_finite() && y.is_finite())) {
        return Err(LeastTraceError::NotFinite { sample });
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    for pair in points.windows(2) {
        if pair[0].0 >= pair[1].0 && (pair[0].1 - pair[1].1).abs() > 0.0 {
            return Err(LeastTraceError::NoInterpolator { input: pair[0].0 });
        }
    }
    points.dedup_by(|next, first| next.0 <= first.0);
    Ok(points)
}

/// A knot with a side, as a constraint of the dual program and a variable of the primal one.
type Cut = (Side, f64);

struct Interpolation {
    prices: KnotPrices,
    /// Distinct inputs in ascending order, with their targets.
    points: Vec<(f64, f64)>,
}

impl Interpolation {
    /// The knots on inputs that are active on some input.
    fn knots_on_inputs(&self) -> Vec<Cut> {
        let count = self.points.len();
        let right = self.points[..count - 1].iter().map(|(x, _)| (Side::Right, *x));
        right.chain(self.points[1..].iter().map(|(x, _)| (Side::Left, *x))).collect()
    }

    /// `(±(x_i − τ))₊ / h_±(τ)` for all points.
    fn column(&self, (side, place): Cut) -> Vec<f64> {
        let price = self.prices.one_sided(side, place);
        let values = self.points.iter().map(|(x, _)| (side.sign() * (x - place)).max(0.0) / price);
        values.collect()
    }

    /// `max Σ y_i ν_i` subject to `Σ ν_i = 0` and `|Σ ν_i φ_i| ≤ 1` for the cuts.
    fn dual(&self, cuts: &[Cut], targets: &[f64]) -> Result<Vec<f64>, LeastTraceError> {
        let mut problem = Problem::new(OptimizationDirection::Maximize);
        let free = (f64::NEG_INFINITY, f64::INFINITY);
        let dual: Vec<Variable> = targets.iter().map(|y| problem.add_var(*y, free)).collect();
        let ones: Vec<(Variable, f64)> = dual.iter().map(|v| (*v, 1.0)).collect();
        problem.add_constraint(ones, ComparisonOp::Eq, 0.0);
        for cut in cuts {
            let terms: Vec<(Variable, f64)> = dual.iter().copied().zip(self.column(*cut)).collect();
            problem.add_constraint(terms.clone(), ComparisonOp::Le, 1.0);
            problem.add_constraint(terms, ComparisonOp::Ge, -1.0);
        }
        let outcome = problem.solve().map_err(|_| LeastTraceError::LinearProgram)?;
        let solution = outcome.into_solution().map_err(|_| LeastTraceError::LinearProgram)?;
        let values: Vec<f64> = dual.iter().map(|v| solution.var_value(*v)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Ok(values.iter().map(|v| v - mean).collect())
    }

    /// For every side and gap, the largest `|Σ ν_i φ_i(τ)|` and its τ, for ν with the sum 0.
    ///
    /// A knot outside of the inputs has a smaller one than a knot on the outermost input. Just below
    /// an input the price is higher than on it, and the features are the same.
    fn most_violated(&self, dual: &[f64]) -> Vec<(f64, Cut)> {
        let mut found = Vec::new();
        for (side, start) in self.knots_on_inputs() {
            let mut candidates = vec![start];
            candidates.extend(self.stationary(side, start, dual));
            let ratio = |place: f64| {
                let column = self.column((side, place));
                column.iter().zip(dual).map(|(f, v)| f * v).sum::<f64>().abs()
            };
            let best = candidates.into_iter().map(|place| (ratio(place), (side, place)));
            found.extend(best.max_by(|a, b| a.0.total_cmp(&b.0)));
        }
        found
    }

    /// The place in the gap that begins at `start` (and ends at the next input on `side`) where the
    /// ratio `|A − Bτ|/√(P − 2Qτ + Rτ²)` is stationary, if there is one:
    /// `(BP − AQ)/(BQ − AR)`. Here A and B are the sums of `ν_i x_i` and `ν_i`, and P, Q and R the means
    /// of x², x and 1 over what lies beyond `start`, with distances from `start` for x and τ.
    fn stationary(&self, side: Side, start: f64, dual: &[f64]) -> Option<f64> {
        let sign = side.sign();
        let beyond = |x: f64| sign * (x - start) > 0.0;
        let (mut a, mut b, mut end) = (0.0, 0.0, f64::INFINITY);
        for ((x, _), v) in self.points.iter().zip(dual).filter(|((x, _), _)| beyond(*x)) {
            let distance = sign * (x - start);
            (a, b, end) = (a + v * distance, b + v, end.min(distance));
        }
        let SideMoments { distance_squared: p, distance: q, share: r, .. } =
            self.prices.moments(side, start);
        let place = (b * p - a * q) / (b * q - a * r);
        (place > 0.0 && place < end).then_some(start + sign * place)
    }

    /// The knots of a solution of the primal program over the cuts, and its output bias.
    fn primal(
        &self,
        cuts: &[Cut],
        targets: &[f64],
    ) -> Result<(Vec<PricedKnot>, f64), LeastTraceError> {
        let mut problem = Problem::new(OptimizationDirection::Minimize);
        let mut part = |price| problem.add_var(price, (0.0, f64::INFINITY));
        let parts: Vec<[Variable; 2]> = cuts.iter().map(|_| [part(1.0), part(1.0)]).collect();
        let bias = problem.add_var(0.0, (f64::NEG_INFINITY, f64::INFINITY));
        let columns: Vec<Vec<f64>> = cuts.iter().map(|cut| self.column(*cut)).collect();
        for (i, y) in targets.iter().enumerate() {
            let terms = parts.iter().zip(&columns);
            let terms = terms.flat_map(|([u, v], column)| [(*u, column[i]), (*v, -column[i])]);
            let terms: Vec<(Variable, f64)> = terms.chain([(bias, 1.0)]).collect();
            problem.add_constraint(terms, ComparisonOp::Eq, *y);
        }
        let outcome = problem.solve().map_err(|_| LeastTraceError::LinearProgram)?;
        let solution = outcome.into_solution().map_err(|_| LeastTraceError::LinearProgram)?;
        let bends = cuts.iter().zip(&parts).map(|(cut, [u, v])| {
            let price = self.prices.one_sided(cut.0, cut.1);
            let bend = (solution.var_value(*u) - solution.var_value(*v)) / price;
            PricedKnot { side: cut.0, place: cut.1, bend }
        });
        let knots = bends.filter(|knot| knot.bend.abs() > 0.0).collect();
        Ok((knots, solution.var_value(bias)))
    }

    /// ν for all samples: that of a repeated input is divided among its samples.
    fn spread(&self, dual: &[f64], inputs: &[f64]) -> Vec<f64> {
        let same = |x: f64| inputs.iter().filter(|other| (*other - x).abs() <= 0.0).count();
        let of = |x: f64| self.points.iter().position(|(point, _)| *point >= x);
        inputs.iter().map(|x| of(*x).map_or(0.0, |k| dual[k] / same(*x) as f64)).collect()
    }
}
