//! Facts about the products of rows, the Gram matrix.

use faer::MatRef;
use flatmin_linalg::PowerOfTwo;

use super::arrangement::Arrangement;

/// Cosines below this are zero.
const SMALL: f64 = 1e-3;

/// Rows of small norm are at least so parallel to the others, relative to all rows. Gradients times
/// residuals had 0.9 to 1.2, with few exceptions; data with one dominant direction had 0.5 to 0.86.
const EVEN: f64 = 0.88;

/// Fewer rows have the signs of residuals by chance, where they are nearly parallel.
const FEWEST_SIGNS: usize = 10;

/// Most rows that are compared with each other; of more, a regular part is.
const MAX_ROWS: usize = 1500;

/// The facts about the Gram matrix `JJᵀ` of nk rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProductFacts {
    /// The mean squared norm of a row times k, which is the trace of `JᵀJ/n`.
    pub(crate) trace: f64,
    /// `‖Σ rows‖/√(Σ ‖row‖²)`: about 1 for rows without relation, and √n for equal ones.
    pub(crate) relative_sum: f64,
    /// The largest norm of a row over the smallest that is not zero.
    pub(crate) norm_ratio: f64,
    /// The standard deviation of the logarithms of norms.
    pub(crate) norm_spread: f64,
    /// `m²/Σ cos²` over m rows that are not zero: 1 if all are parallel, m if all are orthogonal.
    pub(crate) effective_rank: f64,
    /// Rows that are not zero.
    pub(crate) nonzero_rows: usize,
    /// The norms of the rows up to a common factor.
    pub(crate) norms: Vec<f64>,
    /// The signs of rows, if these explain the signs of all products.
    pub(crate) signs: Option<Signs>,
    /// The repetition of rows in a regular order.
    pub(crate) repeats: Option<Repeats>,
    /// The outputs whose rows alternate, as the products show.
    pub(crate) alternating: Option<Shown>,
    /// The outputs whose rows follow each other, as the products show.
    pub(crate) stacked: Option<Shown>,
    /// The rows as the outputs of the reading, sample by sample, and output by output.
    pub(super) arrangements: Option<[Arrangement; 2]>,
    /// The cosines of rows of one output, and of different ones, for the outputs of the reading.
    pub(crate) cosines: Option<Cosines>,
}

/// Rows that all occur equally often, in a regular order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repeats {
    /// The number of times that a row occurs.
    pub(crate) times: usize,
    /// The rows after which all are repeated; `None` where equal rows are neighbours.
    pub(crate) period: Option<usize>,
}

/// Cosines of rows, by the outputs that the rows are read as.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cosines {
    /// The mean absolute cosine of rows of one output.
    pub(crate) same: f64,
    /// The mean absolute cosine of rows of different outputs.
    pub(crate) different: f64,
    /// The difference of the two in standard errors of the first.
    pub(crate) errors: f64,
}

/// Outputs that the products of rows show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shown {
    /// Their number.
    pub(crate) outputs: usize,
    /// The mean squared cosine of rows of different outputs, relative to that of one output.
    pub(crate) contrast: f64,
}

/// Signs `s_i` with `s_i s_j K_ij > 0` for most products that are not small.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signs {
    /// True if they explain nearly all products.
    pub(crate) are_exact: bool,
    /// Rows with the rarer sign.
    pub(crate) rarer: usize,
}

impl ProductFacts {
    /// The facts about the lower triangle of `products · 2^{2·exponent}`.
    pub(crate) fn new(products: MatRef<'_, f64>, exponent: i32, outputs: usize) -> Self {
        let rows = products.nrows();
        let squares: Vec<f64> = (0..rows).map(|i| products[(i, i)].max(0.0)).collect();
        let total: f64 = squares.iter().sum();
        let unit = PowerOfTwo::new(exponent).squared();
        let samples = (rows / outputs.max(1)) as f64;
        let mut facts = Self { trace: unit.times(total / samples), ..Self::default() };
        if !(total > 0.0 && total.is_finite()) {
            return facts;
        }
        let norms: Vec<f64> = squares.iter().map(|square| square.sqrt()).collect();
        let largest = norms.iter().fold(0.0_f64, |m, norm| m.max(*norm));
        let nonzero: Vec<usize> = (0..rows).filter(|i| norms[*i] > 1e-12 * largest).collect();
        let smallest = nonzero.iter().fold(largest, |m, i| m.min(norms[*i]));
        facts.nonzero_rows = nonzero.len();
        facts.norm_ratio = largest / smallest;
        facts.norm_spread = spread(nonzero.iter().map(|i| libm::log(norms[*i])));
        let mut sum = total;
        for j in 0..rows {
            sum += 2.0 * (j + 1..rows).map(|i| products[(i, j)]).sum::<f64>();
        }
        facts.relative_sum = (sum.max(0.0) / total).sqrt();
        let cosine = |i: usize, j: usize| {
            let product = norms[i] * norms[j];
            if product > 0.0 { products[(i.max(j), i.min(j))] / product } else { 0.0 }
        };
        let compared: Vec<usize> =
            nonzero.iter().copied().step_by(nonzero.len().div_ceil(MAX_ROWS).max(1)).collect();
        facts.signs = signs(&compared, &norms, cosine);
        facts.effective_rank = effective_rank(&compared, cosine);
        facts.repeats = repeats(&norms, cosine);
        // A dead network leaves rows of zeros.
        if 2 * nonzero.len() >= rows {
            facts.alternating = outputs_shown(rows, false, cosine);
            facts.stacked = outputs_shown(rows, true, cosine);
            facts.arrangements = (outputs > 1 && rows > outputs)
                .then(|| [false, true].map(|stacked| arrangement(rows, outputs, stacked, cosine)));
        }
        facts.cosines = (outputs > 1).then(|| cosines(rows, outputs, cosine));
        facts.norms = norms;
        facts
    }
}

/// The standard deviation of numbers.
pub(super) fn spread(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|value| (value - mean) * (value - mean)).sum::<f64>() / count).sqrt()
}

/// The signs that explain those of all products, with both signs among them.
///
/// Rows of small norm must be as parallel to the others as the rest are: in data around zero a
/// small row has no direction, while `r_i g_i` has that of `g_i` for the smallest residual.
fn signs(rows: &[usize], norms: &[f64], cosine: impl Fn(usize, usize) -> f64) -> Option<Signs> {
    let count = rows.len();
    if count < FEWEST_SIGNS {
        return None;
    }
    let mut vector: Vec<f64> = rows.iter().map(|i| cosine(rows[0], *i)).collect();
    for _ in 0..20 {
        let next: Vec<f64> = rows
            .iter()
            .map(|i| rows.iter().zip(&vector).map(|(j, v)| cosine(*i, *j) * v).sum())
            .collect();
        let norm = next.iter().map(|v: &f64| v * v).sum::<f64>().sqrt();
        if !(norm > 0.0) {
            return None;
        }
        vector = next.into_iter().map(|v| v / norm).collect();
    }
    let sign = |a: usize| if vector[a] < 0.0 { -1.0 } else { 1.0 };
    let (mut explained, mut plain, mut all) = (0.0, 0.0, 0.0);
    for a in 0..count {
        for b in 0..a {
            let value = cosine(rows[a], rows[b]);
            if value.abs() > SMALL {
                explained += sign(a) * sign(b) * value;
                plain += value;
                all += value.abs();
            }
        }
    }
    let pairs = (count * (count - 1) / 2) as f64;
    let negative = (0..count).filter(|a| sign(*a) < 0.0).count();
    let rarer = negative.min(count - negative);
    let small: Vec<usize> = {
        let mut order = rows.to_vec();
        order.sort_by(|i, j| norms[*i].total_cmp(&norms[*j]));
        order.truncate(count.div_ceil(3));
        order
    };
    let mean = |of: &[usize]| {
        let sum: f64 =
            of.iter().map(|i| rows.iter().map(|j| cosine(*i, *j).abs()).sum::<f64>() - 1.0).sum();
        sum / (of.len() * (count - 1)) as f64
    };
    let is_rank_one = explained >= 0.9 * all && plain <= 0.8 * all && all >= 0.1 * pairs;
    let is_even = mean(&small) >= EVEN * mean(rows);
    (is_rank_one && is_even && rarer >= 2 && 10 * rarer >= count)
        .then_some(Signs { are_exact: explained >= 0.98 * all, rarer })
}

/// `m²/Σ cos²` over the m given rows.
fn effective_rank(rows: &[usize], cosine: impl Fn(usize, usize) -> f64) -> f64 {
    let square = |i: &usize, j: &usize| cosine(*i, *j) * cosine(*i, *j);
    let below = |at: usize| rows[..at].iter().map(|j| square(&rows[at], j)).sum::<f64>();
    let squares: f64 = (0..rows.len()).map(below).sum();
    let count = rows.len() as f64;
    count * count / (count + 2.0 * squares)
}

/// The number of times that each row occurs, in groups of neighbours or in repetitions of the
/// whole.
fn repeats(norms: &[f64], cosine: impl Fn(usize, usize) -> f64) -> Option<Repeats> {
    let rows = norms.len();
    let equal = |i: usize, j: usize| {
        let same = (norms[i] - norms[j]).abs() <= 1e-12 * norms[i].max(norms[j]);
        same && (norms[i] == 0.0 || cosine(i, j) >= 1.0 - 1e-12)
    };
    if norms.contains(&0.0) {
        return None;
    }
    let run = (1..rows).take_while(|i| equal(0, *i)).count() + 1;
    let grouped = |size: usize| {
        (0..rows).all(|i| equal(i, i / size * size))
            && (1..rows / size).all(|group| !equal(group * size, group * size - 1))
    };
    if run > 1 && rows.is_multiple_of(run) && grouped(run) {
        return Some(Repeats { times: run, period: None });
    }
    let period = (1..rows).find(|period| equal(0, *period))?;
    let repeated = (period..rows).all(|i| equal(i, i - period));
    let found = Repeats { times: rows / period, period: Some(period) };
    (run == 1 && rows.is_multiple_of(period) && repeated).then_some(found)
}

/// The number k of outputs that the products show. Row `i·k + a` is of sample i and output a, or row
/// `a·n + i` where the outputs are stacked.
fn outputs_shown(
    rows: usize,
    is_stacked: bool,
    cosine: impl Fn(usize, usize) -> f64,
) -> Option<Shown> {
    // Fewer samples have too few products for a comparison. Divisors and multiples of the number
    // of outputs show some contrast too.
    // Samples and the same with their signs changed look like two outputs that are stacked.
    let fewest = if is_stacked { 3 } else { 2 };
    let divisors = (fewest..=rows / 5).filter(|k| rows.is_multiple_of(*k));
    let found = divisors.filter_map(|outputs| {
        let arranged = arrangement(rows, outputs, is_stacked, &cosine);
        let shows = arranged.shows_outputs(is_stacked);
        shows.then_some(Shown { outputs, contrast: arranged.contrast })
    });
    found.min_by(|a, b| a.contrast.total_cmp(&b.contrast))
}

/// The arrangement of rows that are sample by sample, or output by output.
fn arrangement(
    rows: usize,
    outputs: usize,
    is_stacked: bool,
    cosine: impl Fn(usize, usize) -> f64,
) -> Arrangement {
    let samples = rows / outputs;
    let place = |i: usize, a: usize| if is_stacked { a * samples + i } else { i * outputs + a };
    Arrangement::new((samples, outputs), cosine, place)
}

/// The cosines of rows of one output, and of different outputs, sample by sample.
fn cosines(rows: usize, outputs: usize, cosine: impl Fn(usize, usize) -> f64) -> Cosines {
    let mut sums = [(0.0, 0_usize); 2];
    let mut squares = 0.0;
    for i in 0..rows {
        for j in 0..i {
            let slot = &mut sums[usize::from(i % outputs != j % outputs)];
            let value = cosine(i, j).abs();
            *slot = (slot.0 + value, slot.1 + 1);
            squares += value * value;
        }
    }
    let pairs = (sums[0].1 + sums[1].1).max(1) as f64;
    let mean = (sums[0].0 + sums[1].0) / pairs;
    let deviation = (squares / pairs - mean * mean).max(0.0).sqrt();
    let [same, different] = sums.map(|(sum, count)| sum / count.max(1) as f64);
    let error = deviation / (sums[0].1.max(1) as f64).sqrt();
    Cosines { same, different, errors: (same - different) / error }
}

#[cfg(test)]
mod tests {
    use faer::{Mat, MatRef};

    use super::{ProductFacts, Repeats, Shown};

    /// Numbers in [0, 1) without a pattern.
    fn noise(seed: usize) -> f64 {
        let x = libm::sin(12.9898 * (seed + 1) as f64) * 43758.5453;
        x - x.floor()
    }

    fn facts(jacobian: MatRef<'_, f64>, outputs: usize) -> ProductFacts {
        ProductFacts::new((jacobian * jacobian.transpose()).as_ref(), 0, outputs)
    }

    #[test]
    fn rows_times_residuals_have_signs_that_explain_all_products() {
        let gradient = |i: usize, j: usize| if j == 0 { 1.0 } else { noise(31 * i + j) };
        let residual = |i: usize| 0.02 * (noise(1000 + i) - 0.5);
        let right = facts(Mat::from_fn(12, 20, gradient).as_ref(), 1);
        assert!(right.signs.is_none());
        let loss = facts(Mat::from_fn(12, 20, |i, j| residual(i) * gradient(i, j)).as_ref(), 1);
        assert!(loss.signs.unwrap().rarer > 1 && loss.norm_ratio > 2.0);
        let centred = facts(Mat::from_fn(12, 20, |i, j| noise(31 * i + j) - 0.5).as_ref(), 1);
        assert!(centred.signs.is_none());
    }

    #[test]
    fn repeated_rows_are_counted_in_both_orders() {
        let row = |i: usize, j: usize| noise(31 * i + j);
        let repeats = |map: fn(usize) -> usize| {
            facts(Mat::from_fn(12, 7, |i, j| row(map(i), j)).as_ref(), 1).repeats
        };
        let found = |times, period| Some(Repeats { times, period });
        assert_eq!(repeats(|i| i / 3), found(3, None));
        assert_eq!(repeats(|i| i % 4), found(3, Some(4)));
        assert_eq!(repeats(|i| i / 12), found(12, None));
        assert_eq!(repeats(|i| i), None);
        // Some duplicates are data.
        assert_eq!(repeats(|i| if i < 2 { 0 } else { i }), None);
    }

    #[test]
    fn a_kernel_of_several_outputs_shows_their_rows() {
        let shown = |found: Option<Shown>| found.map(|found| found.outputs);
        // Features shared by outputs with a column of its own for each output.
        let (n, k, m) = (8, 3, 6);
        let entry = |i: usize, a: usize, j: usize| {
            let (output, unit) = (j / m, j % m);
            if output == a { noise(31 * i + unit) - 0.5 } else { 0.0 }
        };
        let alternating =
            facts(Mat::from_fn(n * k, k * m, |r, j| entry(r / k, r % k, j)).as_ref(), 1);
        assert_eq!((shown(alternating.alternating), shown(alternating.stacked)), (Some(3), None));
        let stacked = facts(Mat::from_fn(n * k, k * m, |r, j| entry(r % n, r / n, j)).as_ref(), 1);
        assert_eq!((shown(stacked.alternating), shown(stacked.stacked)), (None, Some(3)));
        let plain = facts(Mat::from_fn(24, 18, |r, j| noise(31 * r + j) - 0.5).as_ref(), 1);
        assert_eq!((plain.alternating, plain.stacked), (None, None));
    }
}
