//! Two matrices with few modes, one below and one above the Gram matrix in the Loewner order.

use faer::{Mat, MatRef};
use flatmin_linalg::{
    Parallelism, RowMatrix, columns, product, simd, symmetric_eigen, symmetric_eigenvalues,
};

use super::counted::CountedGram;
use super::error::BracketError;
use super::subspace::{RitzPairs, Subspace};

/// Ritz values below this fraction of the largest are left out: rounding would decide their rows.
const NEGLIGIBLE: f64 = 1e-11;

/// The part of a trace by which a matrix `J_iJ_iᵀ` may fall below what the modes hold of it.
/// Products in single precision stay below it.
const MAX_DEFICIT: f64 = 1e-5;

/// The number of samples of a task.
const TASK_SAMPLES: usize = 1024;

/// Modes of a matrix `K'`, and the diagonal blocks of the rest.
pub(super) struct LeadingPart {
    /// Ascending.
    pub(super) eigenvalues: Vec<f64>,
    /// `ĝ₁ = √n U Λ^½`, nk × r.
    pub(super) rows: RowMatrix,
    /// The k × k diagonal blocks of n times the rest, row by row.
    pub(super) remainder: Vec<f64>,
}

impl LeadingPart {
    /// `Σ tr D_i / n` for the blocks D of the rest.
    pub(super) fn rest_trace(&self, outputs: usize) -> f64 {
        trace(&self.remainder, outputs) / (self.rows.rows() / outputs) as f64
    }

    /// The largest trace of a block of the rest, relative to the trace of the same block of all.
    pub(super) fn heaviest_rest(&self, gram: &CountedGram<'_>) -> f64 {
        let k = gram.outputs();
        let rest = |block: &[f64]| block.iter().step_by(k + 1).sum::<f64>();
        let whole = gram.grams.chunks(k * k).map(rest);
        let (all, left) = whole
            .zip(self.remainder.chunks(k * k).map(rest))
            .fold((0.0, 0.0), |heaviest, pair| if pair.0 > heaviest.0 { pair } else { heaviest });
        if all > 0.0 { left / all } else { 0.0 }
    }
}

/// The sum of the diagonals of k × k blocks.
fn trace(blocks: &[f64], k: usize) -> f64 {
    blocks.chunks(k * k).flat_map(|block| block.iter().step_by(k + 1)).sum()
}

/// The Nyström approximation `K₁ = K Q (QᵀKQ)⁻¹ QᵀK ⪯ K` with its modes, and the blocks of
/// `K − K₁`; and, for momentum, what an inexact space costs.
///
/// `K₁ = (JV)(JV)ᵀ/n` for an orthonormal basis V of the span of `JᵀQ`: it is the Gram matrix of the
/// parameters projected on that span.
pub(super) struct LowerPart {
    pub(super) part: LeadingPart,
    /// `λ_max(G₁^{−½} RᵀR G₁^{−½})/λ₊` for `G₁ = VᵀGV` and the residual `R = (I − VVᵀ)GV`, at most.
    pub(super) leak: f64,
}

pub(super) fn lower_part(
    space: &Subspace,
    pairs: &RitzPairs,
    gram: &CountedGram<'_>,
    parallelism: Parallelism,
) -> Result<LowerPart, BracketError> {
    let (n, k) = (gram.samples(), gram.outputs());
    let top = pairs.values.first().copied().unwrap_or(0.0);
    // Rounding of a Ritz value θ, about ε λ_max, moves the part R²/θ of its mode by ε λ_max R²/θ².
    // This stays below n ε λ_max, which is part of the margin. θ is below λ_max/n where it does not,
    // since R² ≤ θ λ_max. The first mode is kept in any case, so that there is one.
    let is_sound =
        |(value, residual): (&f64, &f64)| value * value * n as f64 >= residual * residual;
    let sound = pairs.values.iter().zip(&pairs.residuals);
    let rank = sound
        .enumerate()
        .take_while(|(k, pair)| *pair.0 > NEGLIGIBLE * top && (*k == 0 || is_sound(*pair)))
        .count();
    let roots: Vec<f64> = pairs.values[..rank].iter().map(|value| value.sqrt()).collect();
    let coupling = pairs.coupling.subcols(0, rank);
    let residual = product(coupling.transpose(), coupling);
    // Θ^{−½} (Θ² + (CS)ᵀCS) Θ^{−½}.
    let inner = Mat::from_fn(rank, rank, |i, j| {
        let diagonal = if i == j { pairs.values[i] } else { 0.0 };
        diagonal + residual[(i, j)] / roots[i] / roots[j]
    });
    let eigen = symmetric_eigen(inner.as_ref())?;
    let scale = (n as f64).sqrt();
    let turned = |power: f64| {
        Mat::from_fn(rank, rank, |i, j| {
            let root = if power > 0.0 { roots[i] } else { 1.0 / roots[i] };
            scale * root * eigen.vectors[(i, j)]
        })
    };
    let coefficients = product(pairs.rotation.subcols(0, rank), turned(1.0).as_ref());
    let residual_coefficients = product(coupling, turned(-1.0).as_ref());
    let extra = (coupling.nrows() > 0).then(|| (space.next(), residual_coefficients.as_ref()));
    let rows = space.basis().combined_rows(coefficients.as_ref(), extra, parallelism);
    let mut remainder = gram.grams.clone();
    parallelism.for_each_chunk(&mut remainder, TASK_SAMPLES * k * k, |index, blocks| {
        for (i, block) in blocks.chunks_mut(k * k).enumerate() {
            let first = (index * TASK_SAMPLES + i) * k;
            for (a, b) in (0..k).flat_map(|a| (0..k).map(move |b| (a, b))) {
                block[a * k + b] -= simd::dot(rows.row(first + a), rows.row(first + b));
            }
        }
    });
    check_remainder(&remainder, gram)?;
    // (Θ^{−½} S V Λ₁^{−½})ᵀ RᵀR (the same), with R in place of Θ^{−½}.
    let bent = Mat::from_fn(coupling.nrows(), rank, |i, j| {
        residual_coefficients[(i, j)] / scale / eigen.values[j].sqrt()
    });
    let leak = largest_eigenvalue(product(bent.as_ref(), bent.transpose()).as_ref())?;
    let part = LeadingPart { eigenvalues: eigen.values, rows, remainder };
    Ok(LowerPart { part, leak })
}

fn largest_eigenvalue(matrix: MatRef<'_, f64>) -> Result<f64, BracketError> {
    Ok(symmetric_eigenvalues(matrix)?.last().copied().unwrap_or(0.0))
}

/// Blocks of the rest that are negative beyond rounding contradict the products.
fn check_remainder(remainder: &[f64], gram: &CountedGram<'_>) -> Result<(), BracketError> {
    let k = gram.outputs();
    let blocks = remainder.chunks(k * k).zip(gram.grams.chunks(k * k));
    let unit = gram.unit.squared();
    let sizes = gram.grams.chunks(k * k).map(|block| trace(block, k));
    let heaviest = sizes.fold(0.0, f64::max);
    for (sample, (rest, whole)) in blocks.enumerate() {
        let (rest, whole) = (trace(rest, k), trace(whole, k));
        if rest < -MAX_DEFICIT * whole.max(1e-6 * heaviest) {
            let [given, expected] = [whole, whole - rest].map(|value| unit.times(value));
            return Err(BracketError::GramTooSmall { sample, given, expected });
        }
    }
    Ok(())
}

/// The leading Ritz pairs that an upper bound on K keeps, and what they are raised by.
pub(super) struct Choice {
    /// The number of Ritz pairs.
    pub(super) modes: usize,
    /// What is added to each Ritz value.
    pub(super) raised: Vec<f64>,
    /// What the residuals add to the largest eigenvalue of the rest.
    pub(super) added: f64,
}

/// Chooses the number of Ritz pairs at which a surrogate of the width is least.
///
/// Each pair is raised by `ε_k = w ‖R_k‖`, and the rest by `Σ R_kR_kᵀ/ε_k`. The traces of both sum
/// to `(w + 1/w) Σ‖R_k‖`. The largest eigenvalue λ₊ of the rest enters the bound of S20 about
/// `3 Σ_k λ_k/(λ_k + λ₊)` times, and its trace as far as samples differ; both only in part. The
/// choice decides the width, not whether the bound holds.
pub(super) fn choose(pairs: &RitzPairs, trace: f64) -> Result<Choice, BracketError> {
    /// The parts of these two terms that were seen at synthetic minima.
    const CROSS: f64 = 1.0;
    const REST: f64 = 0.3;
    let count = pairs.values.len();
    let top = pairs.values.first().copied().unwrap_or(0.0);
    let mut best = (f64::INFINITY, 0);
    let (mut total, mut found) = (0.0, 0.0);
    let width = pairs.coupling.nrows().max(1) as f64;
    for modes in 1..=count {
        let last = pairs.values[modes - 1];
        if last <= NEGLIGIBLE * top {
            break;
        }
        total += pairs.residuals[modes - 1];
        found += last;
        // Ritz values fall short of eigenvalues where their residuals are large.
        let following = (modes..count).map(|k| pairs.values[k] + pairs.residuals[k]);
        let tail = following.fold(0.0, f64::max).max(pairs.residuals[modes - 1]).min(last);
        let terms = pairs.values[..modes].iter().map(|value| value / (value + tail));
        let weight = CROSS * terms.sum::<f64>();
        let cost = weight * tail
            + 2.0 * total * (1.0 + weight / width).sqrt()
            + REST * (trace - found).max(0.0);
        if cost < best.0 {
            best = (cost, modes);
        }
    }
    let modes = best.1;
    let floor = 1e-14 * top;
    let norms: Vec<f64> = pairs.residuals[..modes].iter().map(|r| r.max(floor)).collect();
    let sum: f64 = norms.iter().sum();
    let weight = if modes == 0 {
        1.0
    } else {
        ((sum + modes as f64 * largest_residual(pairs, &norms)?) / sum).sqrt()
    };
    let raised: Vec<f64> = norms.iter().map(|norm| weight * norm).collect();
    let added = largest_residual(pairs, &raised)?;
    Ok(Choice { modes, raised, added })
}

/// The largest eigenvalue of `Σ_k R_kR_kᵀ/ε_k` for the leading Ritz pairs.
pub(super) fn largest_residual(pairs: &RitzPairs, raised: &[f64]) -> Result<f64, BracketError> {
    let scaled = Mat::from_fn(pairs.coupling.nrows(), raised.len(), |i, j| {
        pairs.coupling[(i, j)] / raised[j].sqrt()
    });
    largest_eigenvalue(product(scaled.as_ref(), scaled.transpose()).as_ref())
}

/// The matrix `X(Θ + E)Xᵀ + PKP + R E⁻¹ Rᵀ ⪰ K` for the chosen Ritz vectors X, their residuals R,
/// `P = I − XXᵀ` and a diagonal E: its leading modes, and the diagonal blocks of the rest.
pub(super) fn upper_part(
    space: &Subspace,
    pairs: &RitzPairs,
    choice: &Choice,
    gram: &CountedGram<'_>,
    parallelism: Parallelism,
) -> LeadingPart {
    let (n, k) = (gram.samples() as f64, gram.outputs());
    let modes = choice.modes;
    // Ascending, as everywhere.
    let order = |j: usize| modes - 1 - j;
    let eigenvalues: Vec<f64> =
        (0..modes).map(|j| pairs.values[order(j)] + choice.raised[order(j)]).collect();
    let m = pairs.values.len();
    let coefficients =
        Mat::from_fn(m, modes, |i, j| pairs.rotation[(i, order(j))] * (n * eigenvalues[j]).sqrt());
    let rows = space.basis().combined_rows(coefficients.as_ref(), None, parallelism);
    let width = pairs.coupling.nrows();
    // X C'ᵀ, and C' E⁻¹ C'ᵀ.
    let coupling = pairs.coupling.subcols(0, modes);
    let crossed = product(pairs.rotation.subcols(0, modes), coupling.transpose());
    let crossed = space.basis().combined_rows(crossed.as_ref(), None, parallelism);
    let raised = Mat::from_fn(width, modes, |i, j| coupling[(i, j)] / choice.raised[j]);
    let inner = product(raised.as_ref(), coupling.transpose());
    let next = if width > 0 { columns(space.next()) } else { Vec::new() };
    let shares: Vec<f64> = (0..modes).map(|j| pairs.values[order(j)] / eigenvalues[j]).collect();
    let mut remainder = gram.grams.clone();
    parallelism.for_each_chunk(&mut remainder, TASK_SAMPLES * k * k, |index, blocks| {
        for (i, block) in blocks.chunks_mut(k * k).enumerate() {
            let first = (index * TASK_SAMPLES + i) * k;
            let margin = 1e-13 * trace(block, k);
            for a in 0..k {
                let row = rows.row(first + a);
                let kept: Vec<f64> = row.iter().zip(&shares).map(|(g, s)| g * s).collect();
                let of_next: Vec<f64> = next.iter().map(|column| column[first + a]).collect();
                let image: Vec<f64> = (0..width)
                    .map(|l| (0..width).map(|j| inner[(l, j)] * of_next[j]).sum())
                    .collect();
                for b in 0..=a {
                    let other: Vec<f64> = next.iter().map(|column| column[first + b]).collect();
                    let mut value = block[a * k + b] - simd::dot(&kept, rows.row(first + b));
                    value -= n * simd::dot(crossed.row(first + a), &other);
                    value -= n * simd::dot(crossed.row(first + b), &of_next);
                    value += n * simd::dot(&image, &other);
                    block[a * k + b] = value;
                }
                block[a * k + a] += margin;
            }
            for a in 0..k {
                for b in 0..a {
                    block[b * k + a] = block[a * k + b];
                }
            }
        }
    });
    LeadingPart { eigenvalues, rows, remainder }
}
