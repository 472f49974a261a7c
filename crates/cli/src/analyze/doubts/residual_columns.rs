//! Columns that are residuals times something, as the last layer shows them.
//!
//! Two patterns are exact. The residuals `p − y` of a softmax sum to zero over the classes, and one
//! of them is negative: they are the columns of the last biases in gradients of a cross-entropy.
//! And in the rows of one gradient for each output, `r_ia ∇f_a`, all weights of the last layer of
//! an output are those of another output times one number for each sample, of either sign.

/// The largest number of classes that is looked for.
const MAX_CLASSES: usize = 32;

/// Rows without a chance explanation. Gradients of a normalisation over three units sum to zero as
/// well, with one negative number in half of the rows.
const FEWEST: usize = 8;
const FEWEST_OF_THREE: usize = 10;

/// The rounding of single precision, with room.
const ROUNDING: f64 = 1e-5;

/// Columns of each output that are kept.
const KEPT: usize = 4;

/// The collector of such columns.
#[derive(Debug)]
pub(super) struct ResidualColumns {
    outputs: usize,
    /// Weights of the samples, for one number that tells whether columns sum to zero.
    weights: Vec<f64>,
    /// The first columns with numbers in the rows of one output only, for each output.
    single: Vec<Vec<Vec<f64>>>,
    classes: Option<usize>,
}

impl ResidualColumns {
    pub(super) fn new(samples: usize, outputs: usize) -> Self {
        let weight = |i: usize| 0.5 + (i as f64 * 0.618_033_988_749_894_9).fract();
        Self {
            outputs,
            weights: (0..samples).map(weight).collect(),
            single: vec![Vec::new(); outputs],
            classes: None,
        }
    }

    /// The weight of the numbers of a row in the sum of a column.
    pub(super) fn weight(&self, row: usize) -> f64 {
        self.weights[row / self.outputs]
    }

    /// Looks for the residuals of a softmax among columns with these weighted sums; `value` takes
    /// row and column.
    pub(super) fn note_sums(&mut self, sums: &[f64], value: impl Fn(usize, usize) -> f64) {
        if self.classes.is_some() || self.weights.len() < FEWEST {
            return;
        }
        for end in 3..=sums.len() {
            let (mut total, mut size) = (0.0, 0.0);
            for count in 1..=MAX_CLASSES.min(end) {
                let sum: f64 = sums[end - count];
                total += sum;
                size += sum.abs();
                let may_be = count >= 3 && total.abs() <= ROUNDING * size && size > 0.0;
                if may_be && self.are_residuals(end - count, count, &value) {
                    self.classes = Some(count);
                    return;
                }
            }
        }
    }

    /// True if these columns are the residuals of a softmax in each sample.
    fn are_residuals(
        &self,
        first: usize,
        count: usize,
        value: &impl Fn(usize, usize) -> f64,
    ) -> bool {
        let of_sample = |sample: usize| -> Vec<f64> {
            let rows = sample * self.outputs..(sample + 1) * self.outputs;
            let entry = |column: usize| rows.clone().map(|row| value(row, column)).sum();
            (first..first + count).map(entry).collect()
        };
        let all: Vec<Vec<f64>> = (0..self.weights.len()).map(of_sample).collect();
        let size = |entries: &[f64]| entries.iter().map(|entry| entry.abs()).sum::<f64>();
        let largest = all.iter().fold(0.0_f64, |largest, entries| largest.max(size(entries)));
        let (mut informative, mut varied) = (0, 0);
        let mut labels = vec![false; count];
        for entries in &all {
            if entries.iter().sum::<f64>().abs() > ROUNDING * largest {
                return false;
            }
            if size(entries) <= 10.0 * ROUNDING * largest {
                continue;
            }
            let mut negative = (0..count).filter(|class| entries[*class] < 0.0);
            let (Some(label), None) = (negative.next(), negative.next()) else { return false };
            labels[label] = true;
            informative += 1;
            let least = entries.iter().copied().filter(|e| *e > 0.0).fold(f64::INFINITY, f64::min);
            let most = entries.iter().copied().fold(0.0, f64::max);
            varied += usize::from(most > 1.01 * least);
        }
        let fewest = if count == 3 { FEWEST_OF_THREE } else { FEWEST };
        let has_labels = labels.iter().filter(|seen| **seen).count() > 1;
        // Contrasts of a design are the same in every row.
        informative >= fewest && 2 * varied > informative && has_labels
    }

    /// Notes a column with numbers in the rows of one output only.
    pub(super) fn note_single(&mut self, output: usize, values: impl Iterator<Item = f64>) {
        if self.single[output].len() < KEPT {
            self.single[output].push(values.collect());
        }
    }

    /// True if another column with numbers in the rows of this output is of use.
    pub(super) fn wants(&self, output: usize) -> bool {
        self.outputs > 1 && self.single[output].len() < KEPT
    }

    /// The number of classes whose residuals are columns.
    pub(super) fn classes(&self) -> Option<usize> {
        self.classes
    }

    /// True if the columns of each output are those of the first, times one number for each sample,
    /// and some of these numbers are negative.
    pub(super) fn are_scaled(&self) -> bool {
        let Some((first, others)) = self.single.split_first() else { return false };
        let found: Vec<Option<bool>> = others.iter().map(|other| scaled(first, other)).collect();
        !found.is_empty() && found.iter().all(Option::is_some) && found.contains(&Some(true))
    }
}

/// `Some` if the columns `right` are those of `left`, times one number for each sample: true if
/// at least two of these numbers are negative.
fn scaled(left: &[Vec<f64>], right: &[Vec<f64>]) -> Option<bool> {
    let count = left.len().min(right.len());
    let (x, y) = (left.first()?, right.first()?);
    let (mut negative, mut informative) = (0, 0);
    let mut is_proportional = true;
    for sample in 0..x.len() {
        let product = x[sample] * y[sample];
        if product == 0.0 {
            continue;
        }
        negative += usize::from(product < 0.0);
        for at in 1..count {
            let (a, b) = (x[sample] * right[at][sample], y[sample] * left[at][sample]);
            if (a - b).abs() > ROUNDING * (a.abs() + b.abs()) {
                return None;
            }
            informative += usize::from(a != 0.0);
            let of_first = x[sample] * left[at][0] - x[0] * left[at][sample];
            let size = (x[sample] * left[at][0]).abs() + (x[0] * left[at][sample]).abs();
            is_proportional &= of_first.abs() <= 1e-3 * size;
        }
    }
    (informative >= FEWEST && !is_proportional).then_some(negative > 1)
}

#[cfg(test)]
mod tests {
    use super::ResidualColumns;

    /// Numbers in (0, 1) without a pattern.
    fn noise(seed: usize) -> f64 {
        let x = libm::sin(12.9898 * (seed + 1) as f64) * 43_758.545_3;
        x - x.floor()
    }

    /// The residuals of a softmax with `k` classes, the label of sample i being i modulo k.
    fn residuals(n: usize, k: usize) -> Vec<Vec<f64>> {
        let of_sample = |i: usize| -> Vec<f64> {
            let weights: Vec<f64> = (0..k).map(|a| 0.1 + noise(17 * i + a)).collect();
            let total: f64 = weights.iter().sum();
            let label = |a: usize| if a == i % k { 1.0 } else { 0.0 };
            weights.iter().enumerate().map(|(a, w)| w / total - label(a)).collect()
        };
        (0..n).map(of_sample).collect()
    }

    fn classes(rows: &[Vec<f64>]) -> Option<usize> {
        let mut found = ResidualColumns::new(rows.len(), 1);
        let sum = |column: usize| -> f64 {
            rows.iter().enumerate().map(|(i, row)| found.weight(i) * row[column]).sum()
        };
        let sums: Vec<f64> = (0..rows[0].len()).map(sum).collect();
        found.note_sums(&sums, |row, column| rows[row][column]);
        found.classes()
    }

    #[test]
    fn residuals_of_a_softmax_are_found_among_other_columns() {
        let among = |rows: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            let other = |i: usize, j: usize| noise(100 + 31 * i + j) - 0.5;
            rows.into_iter()
                .enumerate()
                .map(|(i, r)| [vec![other(i, 0), other(i, 1)], r, vec![other(i, 2)]].concat())
                .collect()
        };
        assert_eq!(classes(&among(residuals(12, 3))), Some(3));
        assert_eq!(classes(&among(residuals(12, 10))), Some(10));
        // Too few samples, or one label only.
        assert_eq!(classes(&among(residuals(6, 3))), None);
        assert_eq!(classes(&among(residuals(36, 3).into_iter().step_by(3).collect())), None);
        // A normalisation: sums are zero, signs vary.
        let centred = |i: usize| {
            let row: Vec<f64> = (0..4).map(|j| noise(7 * i + j)).collect();
            let mean = row.iter().sum::<f64>() / 4.0;
            row.into_iter().map(|value| value - mean).collect()
        };
        assert_eq!(classes(&among((0..20).map(centred).collect())), None);
        // Contrasts of categories.
        let contrast = |i: usize| (0..4).map(|j| if j == i % 4 { -0.75 } else { 0.25 }).collect();
        assert_eq!(classes(&among((0..20).map(contrast).collect())), None);
    }

    #[test]
    fn weights_of_an_output_are_those_of_another_times_residuals() {
        let are_scaled = |factor: &dyn Fn(usize, usize) -> f64,
                          hidden: &dyn Fn(usize, usize, usize) -> f64| {
            let mut found = ResidualColumns::new(12, 3);
            for output in 0..3 {
                for unit in 0..3 {
                    let entry = |i: usize| factor(i, output) * hidden(i, unit, output);
                    found.note_single(output, (0..12).map(entry));
                }
            }
            found.are_scaled()
        };
        let shared = |i: usize, unit: usize, _: usize| noise(5 * i + unit);
        let own = |i: usize, unit: usize, output: usize| noise(5 * i + unit + 900 * output);
        let residual = |i: usize, output: usize| noise(300 + 3 * i + output) - 0.5;
        assert!(are_scaled(&residual, &shared));
        // The outputs themselves, those of a sigmoid, and networks of their own.
        assert!(!are_scaled(&|_, _| 1.0, &shared));
        assert!(!are_scaled(&|i, output| 0.1 + noise(300 + 3 * i + output), &shared));
        assert!(!are_scaled(&residual, &own));
        // One regressor for each output.
        assert!(!are_scaled(&residual, &|_, unit, _| unit as f64 + 1.0));
    }
}
