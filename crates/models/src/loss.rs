//! The losses by which outputs are compared with targets, with their first two derivatives in the
//! outputs.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::dataset::Dataset;

/// The loss of a sample, as a function of its outputs f and its targets y, both of length k.
///
/// [`Display`](fmt::Display) writes its name and [`FromStr`] reads it.
///
/// ```
/// use flatmin_models::Loss;
/// let loss: Loss = "cross-entropy with label smoothing 0.1".parse()?;
/// assert_eq!(loss, Loss::cross_entropy(0.1)?);
/// assert_eq!(Loss::Squared.to_string(), "squared");
/// // One output is 2 and the other 0; the sample is of the first class: ln(1 + e⁻²).
/// let value = Loss::cross_entropy(0.0)?.value(&[2.0, 0.0], &[1.0, 0.0]);
/// assert!((value - 0.126_928_011_042_972_5).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Loss {
    /// `½ ‖f − y‖²`.
    #[default]
    Squared,
    /// `−Σ_a q_a log softmax(f)_a` with the smoothed targets `q = (1 − s) y + s/k`, the
    /// convention of PyTorch's `CrossEntropyLoss(label_smoothing=s)`. The targets are
    /// probabilities, such as a one for the class of the sample and zeros for the others.
    CrossEntropy(LabelSmoothing),
}

/// The part s of label smoothing that goes to all classes alike, in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "f64", into = "f64"))]
pub struct LabelSmoothing(f64);

/// The error for a label smoothing outside [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("the label smoothing is {value}, expected a number from 0 to 1")]
pub struct SmoothingError {
    value: f64,
}

/// The error for a string that is not the name of a [`Loss`]. Its message lists the names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown loss '{text}', expected squared, cross-entropy or cross-entropy with label smoothing \
     s, s from 0 to 1"
)]
pub struct UnknownLoss {
    text: String,
}

const SQUARED: &str = "squared";
const CROSS_ENTROPY: &str = "cross-entropy";
const SMOOTHED: &str = " with label smoothing ";

impl Loss {
    /// Softmax cross-entropy with label smoothing s.
    ///
    /// # Errors
    /// [`SmoothingError`] unless `0 ≤ s ≤ 1`.
    pub fn cross_entropy(label_smoothing: f64) -> Result<Self, SmoothingError> {
        label_smoothing.try_into().map(Self::CrossEntropy)
    }

    /// The loss at the outputs f of a sample with targets y.
    pub fn value(self, outputs: &[f64], targets: &[f64]) -> f64 {
        match self {
            Self::Squared => {
                let residuals = outputs.iter().zip(targets).map(|(f, y)| f - y);
                residuals.map(|residual| 0.5 * residual * residual).sum()
            }
            Self::CrossEntropy(smoothing) => {
                let (top, rest) = normalizer(outputs);
                let terms = outputs.iter().zip(smoothing.smoothed(targets));
                terms.map(|(f, q)| q * (rest + (outputs[top] - f))).sum()
            }
        }
    }

    /// The least value of the loss over all outputs, for the targets y: 0 for the squared loss,
    /// and the entropy of q for cross-entropy.
    pub fn least(self, targets: &[f64]) -> f64 {
        match self {
            Self::Squared => 0.0,
            Self::CrossEntropy(smoothing) => -smoothing.smoothed(targets).map(q_log_q).sum::<f64>(),
        }
    }

    /// Turns the outputs f of a sample into `weight · ∇ℓ(f)`, and adds the loss above its
    /// [least](Self::least) value, times `weight`, to `excess`.
    ///
    /// ∇ℓ is `f − y` for the squared loss, and `softmax(f) − q` for cross-entropy.
    #[inline]
    pub fn differentiate(
        self,
        weight: f64,
        outputs: &mut [f64],
        targets: &[f64],
        excess: &mut f64,
    ) {
        match self {
            Self::Squared => {
                for (output, target) in outputs.iter_mut().zip(targets) {
                    let residual = *output - target;
                    *excess += 0.5 * weight * residual * residual;
                    *output = weight * residual;
                }
            }
            Self::CrossEntropy(smoothing) => {
                let (top, rest) = normalizer(outputs);
                let largest = outputs[top];
                for (output, q) in outputs.iter_mut().zip(smoothing.smoothed(targets)) {
                    let log_probability = (*output - largest) - rest;
                    *excess += weight * (q_log_q(q) - q * log_probability);
                    *output = weight * (libm::exp(log_probability) - q);
                }
            }
        }
    }
}

impl LabelSmoothing {
    /// The number s.
    pub fn value(self) -> f64 {
        self.0
    }

    /// The smoothed targets `q = (1 − s) y + s/k`.
    fn smoothed(self, targets: &[f64]) -> impl Iterator<Item = f64> {
        let (kept, shared) = (1.0 - self.0, self.0 / targets.len() as f64);
        targets.iter().map(move |y| kept * y + shared)
    }
}

impl TryFrom<f64> for LabelSmoothing {
    type Error = SmoothingError;

    fn try_from(value: f64) -> Result<Self, SmoothingError> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value)) } else { Err(SmoothingError { value }) }
    }
}

impl From<LabelSmoothing> for f64 {
    fn from(smoothing: LabelSmoothing) -> Self {
        smoothing.0
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Squared => f.pad(SQUARED),
            Self::CrossEntropy(LabelSmoothing(s)) if *s > 0.0 => {
                f.pad(&format!("{CROSS_ENTROPY}{SMOOTHED}{s}"))
            }
            Self::CrossEntropy(_) => f.pad(CROSS_ENTROPY),
        }
    }
}

impl FromStr for Loss {
    type Err = UnknownLoss;

    fn from_str(text: &str) -> Result<Self, UnknownLoss> {
        let unknown = || UnknownLoss { text: text.to_owned() };
        match text {
            SQUARED => Ok(Self::Squared),
            CROSS_ENTROPY => Ok(Self::CrossEntropy(LabelSmoothing::default())),
            _ => {
                let smoothing = text.strip_prefix(CROSS_ENTROPY);
                let smoothing = smoothing.and_then(|rest| rest.strip_prefix(SMOOTHED));
                let smoothing = smoothing.ok_or_else(unknown)?.parse().map_err(|_| unknown())?;
                Self::cross_entropy(smoothing).map_err(|_| unknown())
            }
        }
    }
}

/// The position of the largest output, and `log Σ_b e^{f_b − max f}`, which keeps its digits where
/// one output is far above the others.
fn normalizer(outputs: &[f64]) -> (usize, f64) {
    let top = largest(outputs);
    let others = outputs.iter().enumerate().filter(|(position, _)| *position != top);
    let sum: f64 = others.map(|(_, output)| libm::exp(output - outputs[top])).sum();
    (top, libm::log1p(sum))
}

/// The position of the largest value, the first of several.
pub(crate) fn largest(values: &[f64]) -> usize {
    let mut largest = 0;
    for (position, value) in values.iter().enumerate() {
        if *value > values[largest] {
            largest = position;
        }
    }
    largest
}

fn q_log_q(q: f64) -> f64 {
    if q > 0.0 { q * libm::log(q) } else { 0.0 }
}

/// The loss of some samples at given outputs: its sum, and its first two derivatives in them.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputLoss {
    loss: f64,
    residuals: Vec<f64>,
    output_dim: usize,
    /// `π_i = softmax(f_i)`, s × k row by row; empty for the squared loss.
    probabilities: Vec<f64>,
}

impl Dataset {
    /// The loss of some samples at the outputs `outputs`, s × k row by row.
    ///
    /// # Panics
    /// When they are not samples of this data set, or there are not k outputs for each.
    pub fn output_loss(&self, samples: Range<usize>, mut outputs: Vec<f64>) -> OutputLoss {
        let (loss, targets, k) =
            (self.loss_function(), self.targets_of(samples), self.output_dim());
        assert_eq!(outputs.len(), targets.len(), "number of outputs");
        let rows = outputs.chunks_exact(k).zip(targets.chunks_exact(k));
        let sum = rows.clone().map(|(outputs, targets)| loss.value(outputs, targets)).sum();
        let mut probabilities = Vec::new();
        if let Loss::CrossEntropy(_) = loss {
            for (outputs, _) in rows {
                let (top, rest) = normalizer(outputs);
                let logs = outputs.iter().map(|f| (f - outputs[top]) - rest);
                probabilities.extend(logs.map(libm::exp));
            }
        }
        for (outputs, targets) in outputs.chunks_exact_mut(k).zip(targets.chunks_exact(k)) {
            loss.differentiate(1.0, outputs, targets, &mut 0.0);
        }
        OutputLoss { loss: sum, residuals: outputs, output_dim: k, probabilities }
    }
}

impl OutputLoss {
    /// The sum of the losses of the samples.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// The gradients `∇ℓ_i` in the outputs, s × k row by row: residuals for the squared loss.
    pub fn residuals(&self) -> &[f64] {
        &self.residuals
    }

    /// True if the Hessian in the outputs is the identity, as for the squared loss.
    pub fn is_squared(&self) -> bool {
        self.probabilities.is_empty()
    }

    /// Replaces the vectors `v_i ∈ R^k`, s × k row by row, by `S_i v_i` with the Hessian
    /// `S_i = ∇²ℓ_i` in the outputs: `diag(π_i) − π_i π_iᵀ` for cross-entropy.
    pub fn multiply(&self, vectors: &mut [f64]) {
        self.center(vectors, |probability| probability);
    }

    /// Replaces the vectors `v_i ∈ R^k`, s × k row by row, by `R_iᵀ v_i`, where
    /// `S_i = R_i R_iᵀ`.
    ///
    /// Weighted in this way, the rows `J_i` of a Jacobian have the Gauss–Newton matrix
    /// `(1/n) Σ J_iᵀ S_i J_i` of the loss.
    pub fn weigh(&self, vectors: &mut [f64]) {
        self.center(vectors, f64::sqrt);
    }

    /// Replaces the vectors `u_i ∈ R^k`, s × k row by row, by `R_i u_i`: the transpose of
    /// [`weigh`](Self::weigh).
    ///
    /// # Panics
    /// When there are not s × k numbers.
    pub fn weigh_transposed(&self, vectors: &mut [f64]) {
        assert_eq!(vectors.len(), self.residuals.len(), "number of outputs");
        if self.is_squared() {
            return;
        }
        let k = self.output_dim;
        let rows = vectors.chunks_exact_mut(k).zip(self.probabilities.chunks_exact(k));
        for (vector, probabilities) in rows {
            let entries = vector.iter_mut().zip(probabilities);
            let sum: f64 = entries
                .map(|(u, probability)| {
                    *u *= probability.sqrt();
                    *u
                })
                .sum();
            for (u, probability) in vector.iter_mut().zip(probabilities) {
                *u -= probability * sum;
            }
        }
    }

    /// Replaces every `v_i` by `factor(π_ia) (v_ia − Σ_b π_ib v_ib)`.
    fn center(&self, vectors: &mut [f64], factor: impl Fn(f64) -> f64) {
        assert_eq!(vectors.len(), self.residuals.len(), "number of outputs");
        if self.is_squared() {
            return;
        }
        let k = self.output_dim;
        let rows = vectors.chunks_exact_mut(k).zip(self.probabilities.chunks_exact(k));
        for (vector, probabilities) in rows {
            // Distances from the entry of the most probable class, so that nothing cancels where
            // its probability is close to 1.
            let origin = vector[largest(probabilities)];
            let distances = vector.iter().zip(probabilities);
            let mean: f64 = distances.map(|(v, probability)| probability * (v - origin)).sum();
            for (v, probability) in vector.iter_mut().zip(probabilities) {
                *v = factor(*probability) * ((*v - origin) - mean);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Loss;
    use crate::Dataset;
    use flatmin_linalg::RowMatrix;

    const OUTPUTS: [f64; 3] = [0.3, -1.0, 2.0];
    const TARGETS: [f64; 3] = [0.2, 0.7, 0.1];

    fn losses() -> [Loss; 4] {
        let smoothed = |s| Loss::cross_entropy(s).unwrap();
        [Loss::Squared, smoothed(0.0), smoothed(0.1), smoothed(1.0)]
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for loss in losses() {
            assert_eq!(loss.to_string().parse(), Ok(loss));
        }
        assert_eq!(format!("{:>9}", Loss::Squared), "  squared");
        for text in ["cross entropy", "cross-entropy with label smoothing 1.5", "Squared", ""] {
            assert!(text.parse::<Loss>().unwrap_err().to_string().contains(text), "{text}");
        }
        let error = Loss::cross_entropy(f64::NAN).unwrap_err().to_string();
        assert_eq!(error, "the label smoothing is NaN, expected a number from 0 to 1");
    }

    #[test]
    fn weights_and_their_transpose_are_adjoint() {
        let inputs = RowMatrix::new(2, 1, vec![0.0; 2]).unwrap();
        let targets = [TARGETS, TARGETS].concat();
        for loss in losses() {
            let targets = RowMatrix::new(2, 3, targets.clone()).unwrap();
            let data = Dataset::with_outputs(inputs.clone(), &targets).unwrap();
            let data = data.with_loss(loss).unwrap();
            let at_outputs = data.output_loss(0..2, [OUTPUTS, [9.0, 1.0, -1.0]].concat());
            let (v, u) = ([1.0, -2.0, 0.5, 0.3, 4.0, -1.0], [0.2, 1.0, -3.0, 2.0, 0.7, 0.1]);
            let (mut weighed, mut transposed) = (v, u);
            at_outputs.weigh(&mut weighed);
            at_outputs.weigh_transposed(&mut transposed);
            let dot = |a: [f64; 6], b: [f64; 6]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let difference = dot(u, weighed) - dot(transposed, v);
            assert!(difference.abs() < 1e-14, "{loss}: {difference}");
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_value() {
        for loss in losses() {
            let (mut gradient, mut excess) = (OUTPUTS, 0.0);
            loss.differentiate(0.5, &mut gradient, &TARGETS, &mut excess);
            let expected = loss.value(&OUTPUTS, &TARGETS) - loss.least(&TARGETS);
            assert!((excess - 0.5 * expected).abs() < 1e-15, "{loss}: {excess} {expected}");
            for a in 0..3 {
                let value = |move_by: f64| {
                    let mut outputs = OUTPUTS;
                    outputs[a] += move_by;
                    loss.value(&outputs, &TARGETS)
                };
                let difference = (value(1e-5) - value(-1e-5)) / 2e-5;
                assert!((2.0 * gradient[a] - difference).abs() < 1e-9, "{loss}: {difference}");
            }
        }
    }

    #[test]
    fn the_least_value_is_that_of_the_smoothed_targets() {
        let loss = Loss::cross_entropy(0.25).unwrap();
        let q = TARGETS.map(|y| 0.75 * y + 0.25 / 3.0);
        let mut outputs = q.map(libm::log);
        assert!((loss.value(&outputs, &TARGETS) - loss.least(&TARGETS)).abs() < 1e-15);
        let mut excess = 0.0;
        loss.differentiate(1.0, &mut outputs, &TARGETS, &mut excess);
        assert!(excess.abs() < 1e-15 && outputs.iter().all(|g| g.abs() < 1e-15), "{outputs:?}");
    }

    #[test]
    fn far_apart_outputs_lose_no_digits() {
        let loss = Loss::cross_entropy(0.0).unwrap();
        for (outputs, expected) in
            [([50.0, 0.0], libm::exp(-50.0)), ([-800.0, 0.0], 800.0), ([1e300, -1e300], 0.0)]
        {
            let value = loss.value(&outputs, &[1.0, 0.0]);
            assert!((value - expected).abs() <= 1e-15 * expected, "{value} {expected}");
        }
        let mut outputs = [f64::NAN, 0.0];
        let mut excess = 0.0;
        loss.differentiate(1.0, &mut outputs, &[1.0, 0.0], &mut excess);
        assert!(excess.is_nan() && outputs.iter().all(|g| g.is_nan()), "{outputs:?}");
    }

    #[test]
    fn products_are_those_with_the_hessian_in_the_outputs() {
        let inputs = RowMatrix::new(2, 1, vec![0.0, 1.0]).unwrap();
        let targets = RowMatrix::new(2, 3, [TARGETS, TARGETS].concat()).unwrap();
        let outputs = [OUTPUTS, [0.0, 40.0, -3.0]].concat();
        for loss in losses() {
            let data = Dataset::with_outputs(inputs.clone(), &targets).unwrap();
            let at = data.with_loss(loss).unwrap().output_loss(0..2, outputs.clone());
            let (mut product, mut weighted) = ([0.0; 6], [0.0; 6]);
            for (k, vector) in [1.0, -2.0, 0.5, 3.0, 0.1, 1.0].into_iter().enumerate() {
                (product[k], weighted[k]) = (vector, vector);
            }
            let vector = product;
            at.multiply(&mut product);
            at.weigh(&mut weighted);
            for i in 0..2 {
                let range = 3 * i..3 * i + 3;
                let gradient = |step: f64, a: usize| {
                    let mut moved = outputs[range.clone()].to_vec();
                    for (f, v) in moved.iter_mut().zip(&vector[range.clone()]) {
                        *f += step * v;
                    }
                    loss.differentiate(1.0, &mut moved, &TARGETS, &mut 0.0);
                    moved[a]
                };
                for a in 0..3 {
                    let difference = (gradient(1e-5, a) - gradient(-1e-5, a)) / 2e-5;
                    let found = product[3 * i + a];
                    assert!((found - difference).abs() < 1e-9, "{loss}: {found} {difference}");
                }
                let quadratic: f64 = range.clone().map(|a| vector[a] * product[a]).sum();
                let squares: f64 = range.map(|a| weighted[a] * weighted[a]).sum();
                assert!((quadratic - squares).abs() < 1e-14 * squares.max(1e-17), "{loss}");
            }
        }
    }
}
