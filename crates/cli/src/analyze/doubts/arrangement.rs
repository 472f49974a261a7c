//! Rows of several outputs, as the products of rows show them.
//!
//! In a network, rows of one output share its last layer: they are more parallel than rows of
//! different outputs, and the kernel of one output is much like that of another, sample by sample.
//! Samples that are sorted, periodic or on a grid have one of these properties, but rarely both.

/// The largest number of rows that are all compared; of more, a regular part is.
const MAX_ROWS: usize = 1500;

/// The kernels of two outputs are correlated at least as much; those of nearly all networks tried
/// were by 0.66 to 1, those of seasonal series by 0.6 at most.
const ALIKE: f64 = 0.65;

/// Samples in a smooth order are alike when they are shifted, too. Kernels of two outputs of samples
/// in no order were so by 0.3 at most, and by 0.6 less than without a shift.
const NOT_SHIFTED: f64 = 0.5;

/// Products of different outputs have at most this mean square, relative to those of one output:
/// 95 % of networks had 0.27 or less; pairs of augmented samples had 1 or more, and crossed designs
/// 0.3 or more.
const CONTRAST: f64 = 0.28;

/// Kernels of two outputs are correlated at least as much where products of different outputs are
/// not small. Seasonal series had 0.67.
const ALIKE_IF_UNCLEAR: f64 = 0.75;

/// With so small products of different outputs, rows that alternate are no periodic series, which
/// had 0.12 or more.
const CLEAR: f64 = 0.1;

/// The rows of a band matrix and of filters are alike when they are shifted by any number.
const BAND: f64 = 0.95;

/// With so small products of different outputs, rows of one output after the other are no lines of a
/// grid, unless these are far apart.
const NONE: f64 = 1e-4;

/// The relation of the products of one output to those of different outputs, for rows that are read
/// as several outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Arrangement {
    /// The mean squared cosine of rows of different outputs, relative to that of one output.
    pub(super) contrast: f64,
    /// The mean squared cosine of the rows of one sample, relative to that of one output.
    pub(super) of_sample: f64,
    /// The mean correlation of the kernels of two outputs.
    pub(super) alike: f64,
    /// The mean correlation of the kernel of an output with that of another, shifted by a sample.
    shifted: f64,
    /// True if neighbouring samples are more parallel than others are, by 1.5 standard errors.
    is_smooth: bool,
    /// True if the kernels vary, and not between 0 and 1 only, as those of indicators do.
    is_ordinary: bool,
}

impl Arrangement {
    /// The arrangement of `samples` × `outputs` rows, both at least 2, if `place(i, a)` is the row
    /// of sample i and output a.
    pub(super) fn new(
        (samples, outputs): (usize, usize),
        cosine: impl Fn(usize, usize) -> f64,
        place: impl Fn(usize, usize) -> usize,
    ) -> Self {
        let (n, k) = (samples.min((MAX_ROWS / outputs).max(8)), outputs);
        let c = |i: usize, a: usize, j: usize, b: usize| cosine(place(i, a), place(j, b));
        let (mut different, mut of_sample) = (0.0, 0.0);
        for i in 0..n {
            for (a, b) in (0..k).flat_map(|a| (0..k).map(move |b| (a, b))).filter(|(a, b)| a != b) {
                different += (0..n).map(|j| square(c(i, a, j, b))).sum::<f64>();
                of_sample += square(c(i, a, i, b));
            }
        }
        // The kernel of each output for the samples from `first` to `last`, below the diagonal.
        let kernels = |first: usize, last: usize| -> Vec<Vec<f64>> {
            let pairs = || (first..last).flat_map(move |i| (first..i).map(move |j| (i, j)));
            (0..k).map(|a| pairs().map(|(i, j)| c(i, a, j, a)).collect()).collect()
        };
        let mut all = kernels(0, n);
        let count = (n * (n - 1) / 2 * k) as f64;
        let same = all.iter().flatten().map(|value| square(*value)).sum::<f64>() / count;
        let mean = all.iter().flatten().sum::<f64>() / count;
        let is_between = |value: &&f64| value.abs() > 1e-9 && value.abs() < 1.0 - 1e-9;
        let between = all.iter().flatten().filter(is_between).count();
        let variance = all.iter_mut().map(|kernel| normalise(kernel)).sum::<f64>() / count;
        let [mut first, mut last] = [kernels(0, n - 1), kernels(1, n)];
        for kernel in first.iter_mut().chain(&mut last) {
            normalise(kernel);
        }
        let neighbours = (0..k).flat_map(|a| (1..n).map(move |i| c(i, a, i - 1, a)));
        let nearby = neighbours.sum::<f64>() / ((n - 1) * k) as f64;
        Self {
            contrast: different / (n * n * k * (k - 1)) as f64 / same,
            of_sample: of_sample / (n * k * (k - 1)) as f64 / same,
            alike: mean_product(&all, &all),
            shifted: mean_product(&first, &last),
            is_smooth: nearby - mean > 1.5 * (variance / (n - 1) as f64).sqrt(),
            is_ordinary: variance > 1e-6 && 4.0 * between as f64 >= count,
        }
    }

    /// True if the rows are those of several outputs, as far as nothing else is known.
    ///
    /// The lines of a grid follow each other as `is_stacked` outputs do, and are alike in the same
    /// way. But neighbours on a line are more parallel than others are.
    pub(super) fn shows_outputs(&self, is_stacked: bool) -> bool {
        let is_paired = self.alike - self.shifted >= NOT_SHIFTED;
        let may_be_lines = is_stacked && self.is_smooth;
        let is_clear = self.contrast <= if is_stacked { NONE } else { CLEAR };
        let shows = (is_paired && !may_be_lines) || (is_clear && self.shifted < BAND);
        let alike = if self.contrast <= CLEAR { ALIKE } else { ALIKE_IF_UNCLEAR };
        shows && self.contrast <= CONTRAST && self.alike >= alike && self.is_ordinary
    }

    /// True if the rows fit this arrangement better than another one with as many outputs: they
    /// have the smaller products of different outputs, or kernels that are alike only in this one.
    pub(super) fn fits_better_than(&self, other: &Self) -> bool {
        let is_clearer = self.contrast <= 0.6 && self.contrast < 0.75 * other.contrast;
        let is_clear = self.contrast <= 0.3 && self.contrast < 0.1 * other.contrast;
        let is_paired = self.alike - self.shifted >= NOT_SHIFTED;
        let are_alike = self.alike >= 0.9 && is_paired && other.alike <= 0.4;
        is_clear || (is_clearer && self.alike >= 0.6) || are_alike
    }
}

fn square(value: f64) -> f64 {
    value * value
}

/// Gives numbers the mean 0 and the norm 1, and returns their sum of squares around the mean.
fn normalise(values: &mut [f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    for value in values.iter_mut() {
        *value -= mean;
    }
    let squares = values.iter().map(|value| square(*value)).sum::<f64>();
    // Rounding is all that differs in a constant kernel.
    let scale = if squares > 1e-20 { 1.0 / squares.sqrt() } else { 0.0 };
    for value in values.iter_mut() {
        *value *= scale;
    }
    squares
}

/// The mean of `left[a] · right[b]` over all a ≠ b.
fn mean_product(left: &[Vec<f64>], right: &[Vec<f64>]) -> f64 {
    let sum = |of: &[Vec<f64>], at: usize| of.iter().map(|vector| vector[at]).sum::<f64>();
    let all: f64 = (0..left[0].len()).map(|at| sum(left, at) * sum(right, at)).sum();
    let products = left.iter().zip(right).flat_map(|(a, b)| a.iter().zip(b));
    let own: f64 = products.map(|(a, b)| a * b).sum();
    (all - own) / (left.len() * (left.len() - 1)) as f64
}

#[cfg(test)]
mod tests {
    use super::Arrangement;

    /// Numbers in [−1/2, 1/2) without a pattern.
    fn noise(seed: usize) -> f64 {
        let x = libm::sin(12.9898 * (seed + 1) as f64) * 43758.5453;
        x - x.floor() - 0.5
    }

    /// The arrangement of rows with these features, output by output or sample by sample.
    fn arrangement(
        (n, k): (usize, usize),
        is_stacked: bool,
        row: impl Fn(usize) -> Vec<f64>,
    ) -> Arrangement {
        let rows: Vec<Vec<f64>> = (0..n * k).map(row).collect();
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let norm = |a: &[f64]| product(a, a).sqrt();
        let cosine =
            |i: usize, j: usize| product(&rows[i], &rows[j]) / (norm(&rows[i]) * norm(&rows[j]));
        Arrangement::new((n, k), cosine, |i, a| if is_stacked { a * n + i } else { i * k + a })
    }

    /// The features of sample i and output a: those of a last layer, and some of all outputs.
    fn features(k: usize, i: usize, a: usize) -> Vec<f64> {
        let last = (0..k * 4).map(|j| if j / 4 == a { noise(31 * i + j % 4) } else { 0.0 });
        let hidden = (0..4).map(|j| 0.5 * noise(31 * i + j) * noise(7777 + 5 * a + j));
        last.chain(hidden).collect()
    }

    #[test]
    fn outputs_of_a_network_are_shown_in_their_order() {
        let (n, k) = (12, 3);
        let [by_sample, by_output] = [false, true]
            .map(|stacked| arrangement((n, k), stacked, |r| features(k, r / k, r % k)));
        assert!(by_sample.shows_outputs(false) && by_sample.alike > 0.9);
        assert!(!by_output.shows_outputs(true) && by_sample.fits_better_than(&by_output));
        let [by_sample, by_output] = [false, true]
            .map(|stacked| arrangement((n, k), stacked, |r| features(k, r % n, r / n)));
        assert!(by_output.shows_outputs(true) && !by_sample.shows_outputs(false));
        assert!(by_output.fits_better_than(&by_sample) && !by_sample.fits_better_than(&by_output));
    }

    #[test]
    fn lines_of_a_grid_and_filters_are_no_outputs() {
        // Bumps around the points of four lines with six points each.
        let bump = |r: usize| -> Vec<f64> {
            let (u, v) = ((r / 6) as f64, (r % 6) as f64 / 2.0);
            let square = |x: f64| x * x;
            let at =
                |j: usize| (square(u - (j / 8) as f64) + square(v - (j % 8) as f64 / 2.0)) / 0.5;
            (0..32).map(|j| libm::exp(-at(j))).collect()
        };
        let filter = |r: usize| -> Vec<f64> {
            let weight =
                |j: usize| if j < r { 0.0 } else { *[1.0, -0.3, 0.8].get(j - r).unwrap_or(&0.0) };
            (0..26).map(weight).collect()
        };
        for k in [2, 4] {
            for is_stacked in [false, true] {
                assert!(!arrangement((24 / k, k), is_stacked, bump).shows_outputs(is_stacked));
                assert!(!arrangement((24 / k, k), is_stacked, filter).shows_outputs(is_stacked));
            }
        }
    }
}
