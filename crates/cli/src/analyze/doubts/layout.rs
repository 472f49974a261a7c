//! The order of rows and columns that the parameters of a last layer show.
//!
//! A weight of the last layer acts on one output only: its column is zero in the rows of all other
//! outputs. The columns of the same hidden unit for the k outputs have the same numbers, each in
//! the rows of its output. This tells where the rows of an output are, whatever the axes are called.

use std::collections::{BTreeMap, BTreeSet};

/// Most columns of a last layer that are kept in mind.
const MAX_KEYS: usize = 1 << 13;

/// The collector of columns that are zero in the rows of all outputs but one.
#[derive(Debug)]
pub(super) struct Layouts {
    rows: usize,
    divisors: Vec<usize>,
    /// The outputs that have a column with these numbers: alternating rows or not, the number of
    /// outputs, and a digest.
    seen: BTreeMap<(bool, usize, u64), Seen>,
    /// The columns that fit so many outputs, and those that do not.
    fits: BTreeMap<(bool, usize), Fits>,
}

/// Columns with numbers in some rows only: those in rows of one output, and those in rows of several
/// that are not some samples × all outputs. In a network, a parameter acts on one output, or on all
/// for the samples that use it.
#[derive(Debug, Default)]
struct Fits {
    single: usize,
    misfits: usize,
}

#[derive(Debug)]
struct Seen {
    outputs: Vec<bool>,
    is_varied: bool,
}

impl Layouts {
    pub(super) fn new(rows: usize) -> Self {
        let divisors = (2..=rows / 2).filter(|k| rows.is_multiple_of(*k)).collect();
        Self { rows, divisors, seen: BTreeMap::new(), fits: BTreeMap::new() }
    }

    /// Notes a column with at least two numbers other than zero.
    pub(super) fn note(&mut self, values: impl Iterator<Item = f64>) {
        let nonzero: Vec<(usize, u64)> = values
            .enumerate()
            .filter(|(_, value)| *value != 0.0)
            .map(|(row, value)| (row, value.to_bits()))
            .collect();
        let (Some(first), Some(last)) = (nonzero.first(), nonzero.last()) else { return };
        let is_varied = nonzero.iter().any(|(_, bits)| *bits != first.1);
        let divisors = std::mem::take(&mut self.divisors);
        for &outputs in &divisors {
            let (samples, start) = (self.rows / outputs, first.0);
            self.note_fit(outputs, &nonzero);
            if nonzero.iter().all(|(row, _)| row % outputs == start % outputs) {
                let digest =
                    nonzero.iter().fold(1, |h, (row, b)| mix(mix(h, (row / outputs) as u64), *b));
                self.keep((true, outputs, digest), start % outputs, is_varied);
            }
            if start / samples == last.0 / samples {
                let digest =
                    nonzero.iter().fold(1, |h, (row, b)| mix(mix(h, (row % samples) as u64), *b));
                self.keep((false, outputs, digest), start / samples, is_varied);
            }
        }
        self.divisors = divisors;
    }

    /// Notes if the rows with numbers fit so many outputs.
    fn note_fit(&mut self, outputs: usize, nonzero: &[(usize, u64)]) {
        let samples = self.rows / outputs;
        for is_alternating in [true, false] {
            let place = |row: usize| {
                if is_alternating {
                    (row / outputs, row % outputs)
                } else {
                    (row % samples, row / samples)
                }
            };
            let places = || nonzero.iter().map(|(row, _)| place(*row));
            let of_samples = places().map(|(sample, _)| sample).collect::<BTreeSet<_>>().len();
            let of_outputs = places().map(|(_, output)| output).collect::<BTreeSet<_>>().len();
            let fits = self.fits.entry((is_alternating, outputs)).or_default();
            fits.single += usize::from(of_outputs == 1);
            let fits_all = of_outputs == outputs && of_samples * outputs == nonzero.len();
            fits.misfits += usize::from(of_outputs > 1 && !fits_all);
        }
    }

    fn keep(&mut self, key: (bool, usize, u64), output: usize, is_varied: bool) {
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.outputs[output] = true;
        } else if self.seen.len() < MAX_KEYS {
            let mut outputs = vec![false; key.1];
            outputs[output] = true;
            self.seen.insert(key, Seen { outputs, is_varied });
        }
    }

    /// The largest number of outputs for which complete sets of columns were seen.
    ///
    /// One set of constant columns is not enough: the indicators of categories in a design look the
    /// same. Their numbers do not vary alike.
    fn outputs(&self, alternating: bool) -> Option<usize> {
        let mut sets: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for ((kind, outputs, _), seen) in &self.seen {
            if *kind == alternating && seen.outputs.iter().all(|seen| *seen) {
                let (varied, constant) = sets.entry(*outputs).or_default();
                *(if seen.is_varied { varied } else { constant }) += 1;
            }
        }
        let shows =
            |(varied, constant): &(usize, usize)| *varied > 1 || (*varied > 0 && *constant > 0);
        let most = sets.into_iter().filter(|(_, found)| shows(found)).map(|(k, _)| k).max();
        // Rows of a band matrix look alike wherever they are divided; columns at the ends of the
        // parts do not fit.
        most.filter(|outputs| {
            let fits = self.fits.get(&(alternating, *outputs));
            fits.is_none_or(|fits| 32 * fits.misfits <= fits.single)
        })
    }

    /// True if most columns that belong to an output of `fewer` belong to one of `outputs` as well,
    /// as where one of the outputs has no last layer.
    pub(super) fn is_part(&self, outputs: usize, fewer: usize) -> bool {
        let count = |of: usize, is_set: &dyn Fn(&Seen) -> bool| {
            let keys = self.seen.iter().filter(|((kind, k, _), _)| *kind && *k == of);
            keys.filter(|(_, seen)| seen.is_varied && is_set(seen)).count()
        };
        let some = count(outputs, &|seen| seen.outputs.iter().filter(|seen| **seen).count() > 1);
        let all = count(fewer, &|seen| seen.outputs.iter().all(|seen| *seen));
        2 * some > all
    }

    /// The number of outputs whose rows alternate: row `i·k + o` is of output o.
    pub(super) fn alternating(&self) -> Option<usize> {
        self.outputs(true)
    }

    /// The number of outputs whose rows follow each other: row `o·n + i` is of output o.
    pub(super) fn stacked(&self) -> Option<usize> {
        self.outputs(false)
    }
}

/// Outputs that were flattened into the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flattened {
    /// The number k of outputs.
    pub(crate) outputs: usize,
    /// The way in which they were flattened.
    pub(crate) way: Way,
}

/// A way to flatten outputs into columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The columns of each output follow each other, `n,kp`.
    Whole,
    /// The columns of each output follow each other within each parameter.
    ByParameter,
    /// The outputs of each column follow each other, `n,pk`.
    Inner,
}

impl Flattened {
    /// Finds columns that are equal k times, with zero columns where the last layer of k outputs
    /// has them, among `digests` of the columns of each output and their places.
    ///
    /// Equal columns of different outputs are what a right reading has; those of one output are
    /// not. Equal columns alone are not enough: words that occur in the same samples have them too,
    /// and words that do not occur leave zero columns elsewhere.
    pub(super) fn find(
        mut digests: Vec<(u64, u64)>,
        (outputs, columns): (usize, usize),
    ) -> Option<Self> {
        let total = outputs * columns;
        digests.sort_unstable();
        let zero = digests.iter().take_while(|(digest, _)| *digest == 0).count();
        let (zeros, others) = digests.split_at(zero);
        let mut sets: BTreeMap<usize, Vec<Vec<u64>>> = BTreeMap::new();
        for group in others.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
            let places: Vec<u64> = group.iter().map(|(_, place)| *place).collect();
            sets.entry(places.len()).or_default().push(places);
        }
        let (count, sets) = sets.into_iter().max_by_key(|(_, sets)| sets.len())?;
        if !total.is_multiple_of(count) {
            return None;
        }
        let regular =
            |places: &Vec<u64>| places.windows(3).all(|of| of[1] - of[0] == of[2] - of[1]);
        let step = sets[0][1] - sets[0][0];
        if !sets.iter().all(|places| regular(places) && is_last_layer(places, zeros, total)) {
            return None;
        }
        if outputs > 1 {
            let output = |place: &u64| place / columns as u64;
            let apart = |places: &Vec<u64>| {
                places.windows(2).all(|pair| output(&pair[0]) != output(&pair[1]))
            };
            if sets.iter().all(apart) {
                return None;
            }
        }
        let mut first: Vec<u64> = sets.iter().map(|places| places[0]).collect();
        first.sort_unstable();
        let closest = first.windows(2).map(|pair| pair[1] - pair[0]).min();
        let way = if closest == Some(count as u64) {
            Way::Inner
        } else if step > (total / count) as u64 {
            Way::Whole
        } else {
            Way::ByParameter
        };
        Some(Self { outputs: count, way })
    }
}

/// True if `zeros` has the places at which the weights of a last layer, `δ_ab h_j`, are zero where
/// its equal columns are at `places`.
///
/// The derivative of output a in the weight to output b is at `first + a·S + b·T`. The equal
/// columns have a = b, so that their distance is S + T; the others are zero. S is the length of the
/// array of one output, or of the weights of one, or 1, and T is 1 for weights that are stored
/// input by input.
fn is_last_layer(places: &[u64], zeros: &[(u64, u64)], total: usize) -> bool {
    let k = places.len() as u64;
    let (first, step) = (places[0], places[1] - places[0]);
    let is_zero = |place: u64| zeros.binary_search(&(0, place)).is_ok();
    let fits = |s: u64| {
        let pairs = || (0..k).flat_map(|a| (0..k).map(move |b| (a, b)));
        s < step && pairs().all(|(a, b)| a == b || is_zero(first + a * s + b * (step - s)))
    };
    let by_parameter = step - step / (k + 1);
    [total as u64 / k, by_parameter, step - 1, 1].into_iter().any(fits)
}

/// The number k of outputs whose sum or mean has these columns: k columns next to each other are
/// the same number `constants`, as the biases of the outputs are, and at least two others occur k
/// times at one and the same distance, as the weights of the outputs do.
///
/// A constant input beside a bias makes equal columns too, but not as many constant ones, nor next
/// to each other.
pub(super) fn summed_outputs(
    digests: &[(u64, u64)],
    mut constants: Vec<(u64, u64)>,
) -> Option<usize> {
    constants.sort_unstable();
    let next = |group: &&[(u64, u64)]| group.windows(2).all(|of| of[1].1 == of[0].1 + 1);
    let biases: Vec<usize> = constants
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|group| group.len() > 1)
        .filter(next)
        .map(<[_]>::len)
        .collect();
    if biases.is_empty() {
        return None;
    }
    let mut digests = digests.to_vec();
    digests.sort_unstable();
    // The groups of equal columns, by their number and distance.
    let mut groups: BTreeMap<(usize, u64), usize> = BTreeMap::new();
    let mut others = 0;
    for group in digests.chunk_by(|a, b| a.0 == b.0).filter(|g| g[0].0 != 0 && g.len() > 1) {
        let step = group[1].1 - group[0].1;
        if group.windows(2).all(|of| of[1].1 - of[0].1 == step) {
            *groups.entry((group.len(), step)).or_default() += 1;
        } else {
            others += 1;
        }
    }
    let total: usize = groups.values().sum::<usize>() + others;
    let ((k, _), count) = groups.into_iter().max_by_key(|(_, count)| *count)?;
    (count > 1 && 2 * count > total && biases.contains(&k)).then_some(k)
}

/// The number k of outputs without biases whose sum or mean has these columns: the weights of each
/// hidden unit occur k times, at one and the same distance, in one part of the columns. `dense` are
/// the digests and places of columns with numbers in most rows.
///
/// Inputs that are given twice make equal columns too, but then all columns are such.
pub(super) fn summed_outputs_without_bias(dense: &[(u64, u64)], columns: usize) -> Option<usize> {
    let mut dense = dense.to_vec();
    dense.sort_unstable();
    let mut groups: BTreeMap<(u64, u64), Vec<u64>> = BTreeMap::new();
    let mut total = 0_usize;
    for group in dense.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
        total += 1;
        let step = group[1].1 - group[0].1;
        if group.windows(2).all(|of| of[1].1 - of[0].1 == step) {
            groups.entry((group.len() as u64, step)).or_default().push(group[0].1);
        }
    }
    let ((k, step), mut first) = groups.into_iter().max_by_key(|(_, first)| first.len())?;
    first.sort_unstable();
    let span = first[first.len() - 1] - first[0] + 1;
    // Weights of k × h are h apart, and the first of them within h columns; those of h × k are
    // neighbours, and the first of them k apart. Some units do not act on any sample.
    let (is_part, units) = if step == 1 {
        (first.iter().all(|place| (place - first[0]).is_multiple_of(k)), span / k + 1)
    } else {
        (span <= step, step)
    };
    let count = first.len();
    let is_most = count >= 3 && 2 * count > total && 4 * count as u64 >= units;
    (is_part && is_most && 2 * units * k <= 2 * columns as u64 - 2)
        .then(|| usize::try_from(k).ok())?
}

/// One step of a digest of 64 bits.
pub(super) fn mix(hash: u64, bits: u64) -> u64 {
    let mixed = (hash ^ bits).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

#[cfg(test)]
mod tests {
    use super::{Flattened, Layouts, Way, summed_outputs, summed_outputs_without_bias};

    /// The columns of a last layer with two features and a bias, for k outputs; zero elsewhere.
    fn head(
        rows: usize,
        place: impl Fn(usize, usize) -> usize,
        n: usize,
        k: usize,
    ) -> Vec<Vec<f64>> {
        let feature = |j: usize, i: usize| ((i * 7 + j * 3) % 11) as f64 / 7.0 + 0.1;
        let mut columns = Vec::new();
        for output in 0..k {
            for j in 0..3 {
                let mut column = vec![0.0; rows];
                for i in 0..n {
                    column[place(i, output)] = if j == 2 { 1.0 } else { feature(j, i) };
                }
                columns.push(column);
            }
        }
        columns
    }

    #[test]
    fn a_last_layer_shows_where_the_rows_of_an_output_are() {
        let (n, k) = (5, 4);
        let check = |place: &dyn Fn(usize, usize) -> usize, alternating, stacked| {
            let mut layouts = Layouts::new(n * k);
            for column in head(n * k, place, n, k) {
                layouts.note(column.into_iter());
            }
            assert_eq!((layouts.alternating(), layouts.stacked()), (alternating, stacked));
        };
        check(&|i, o| i * k + o, Some(4), None);
        check(&|i, o| o * n + i, None, Some(4));
    }

    #[test]
    fn outputs_without_a_last_layer_leave_a_part_of_the_others() {
        let (n, k) = (5, 4);
        let mut part = Layouts::new(n * k);
        for column in head(n * k, |i, o| i * k + o, n, k).into_iter().take(9) {
            part.note(column.into_iter());
        }
        assert_eq!(part.alternating(), Some(2));
        assert!(part.is_part(4, 2));
        let mut two = Layouts::new(n * k);
        for column in head(n * k, |i, o| i * 2 + o, 2 * n, 2) {
            two.note(column.into_iter());
        }
        assert_eq!(two.alternating(), Some(2));
        assert!(!two.is_part(4, 2));
    }

    #[test]
    fn indicators_of_categories_are_no_outputs() {
        for rows in [12, 16] {
            let mut layouts = Layouts::new(rows);
            for category in 0..4 {
                layouts.note((0..rows).map(|row| f64::from(u8::from(row % 4 == category))));
            }
            assert_eq!((layouts.alternating(), layouts.stacked()), (None, None));
        }
    }

    #[test]
    fn equal_columns_with_zeros_between_are_flattened_outputs() {
        // Two outputs, four hidden columns of each, two features: h₀ h₁ 0 0 0 0 h₀ h₁ is a weight.
        let by_parameter = [1, 2, 3, 4, 5, 6, 7, 8, 20, 21, 0, 0, 0, 0, 20, 21];
        let whole = [1, 2, 3, 4, 20, 21, 0, 0, 5, 6, 7, 8, 0, 0, 20, 21];
        let inner = [1, 5, 2, 6, 3, 7, 4, 8, 20, 0, 21, 0, 0, 20, 0, 21];
        for (columns, way) in
            [(by_parameter, Way::ByParameter), (whole, Way::Whole), (inner, Way::Inner)]
        {
            let digests: Vec<(u64, u64)> = columns.into_iter().zip(0..).collect();
            let found = Flattened::find(digests.clone(), (1, 16));
            assert_eq!(found, Some(Flattened { outputs: 2, way }));
            // Read as two outputs, only the whole array has equal columns in different outputs.
            let found = Flattened::find(digests, (2, 8));
            assert_eq!(found.is_none(), way == Way::Whole, "{way:?}");
        }
        assert_eq!(Flattened::find(vec![(0, 0), (5, 1), (0, 2), (6, 3)], (1, 4)), None);
    }

    #[test]
    fn equal_columns_of_words_that_occur_together_are_no_flattened_outputs() {
        // Five words with an embedding of two: two of them occur in the same samples, and
        // some in none.
        for words in [[1_u64, 0, 2, 3, 1], [0, 1, 2, 1, 0], [0, 0, 0, 1, 1], [1, 2, 0, 0, 1]] {
            let columns = words.iter().flat_map(|word| [word * 10, word * 11]);
            let digests: Vec<(u64, u64)> = columns.zip(0..).collect();
            assert_eq!(Flattened::find(digests, (1, 10)), None, "{words:?}");
        }
    }

    #[test]
    fn weights_stored_input_by_input_are_a_last_layer_too() {
        // Two outputs, a hidden column of each, h₀ h₁; the weight of feature j to output b is at
        // 2j + b.
        let whole = [1, 20, 0, 21, 0, 2, 0, 20, 0, 21];
        let by_parameter = [1, 2, 20, 0, 21, 0, 0, 20, 0, 21];
        let inner = [1, 2, 20, 0, 0, 20, 21, 0, 0, 21];
        for columns in [whole, by_parameter, inner] {
            let digests: Vec<(u64, u64)> = columns.into_iter().zip(0..).collect();
            let found = Flattened::find(digests, (1, 10));
            assert_eq!(found.map(|found| found.outputs), Some(2), "{columns:?}");
        }
    }
    #[test]
    fn a_sum_over_outputs_has_equal_biases_and_equal_weights() {
        let find = |columns: &[u64], constants: &[u64]| {
            let places = |digests: &[u64]| digests.iter().copied().zip(0..).collect::<Vec<_>>();
            let constants = constants.iter().map(|place| (1.0_f64.to_bits(), *place)).collect();
            summed_outputs(&places(columns), constants)
        };
        // Three outputs of two hidden units: weights output by output, or unit by unit.
        assert_eq!(find(&[5, 6, 7, 8, 7, 8, 7, 8], &[8, 9, 10]), Some(3));
        assert_eq!(find(&[5, 6, 7, 7, 7, 8, 8, 8], &[8, 9, 10]), Some(3));
        // One bias; a bias and a constant feature elsewhere; one weight only; other numbers of them.
        assert_eq!(find(&[5, 6, 7, 8, 7, 8, 7, 8], &[8]), None);
        assert_eq!(find(&[5, 6, 7, 8, 7, 8], &[6, 9]), None);
        assert_eq!(find(&[5, 6, 7, 7], &[4, 5]), None);
        assert_eq!(find(&[5, 6, 7, 8, 7, 8, 7, 8], &[8, 9]), None);
    }

    #[test]
    fn a_sum_over_outputs_without_biases_has_equal_weights_in_one_part() {
        let find = |columns: &[u64]| {
            let digests: Vec<(u64, u64)> = columns.iter().copied().zip(0..).collect();
            summed_outputs_without_bias(&digests, columns.len())
        };
        // Two outputs of three hidden units: weights output by output, or unit by unit.
        assert_eq!(find(&[1, 2, 3, 5, 6, 7, 5, 6, 7]), Some(2));
        assert_eq!(find(&[1, 2, 3, 5, 5, 6, 6, 7, 7]), Some(2));
        // Inputs that are given twice; equal columns at other distances; two of them.
        assert_eq!(find(&[5, 6, 7, 5, 6, 7]), None);
        assert_eq!(find(&[1, 5, 6, 2, 5, 7, 3, 4, 6, 7]), None);
        assert_eq!(find(&[1, 2, 5, 6, 5, 6]), None);
    }

    #[test]
    fn differences_are_no_outputs() {
        for n in [8, 12, 15] {
            let mut layouts = Layouts::new(n);
            for column in 0..n {
                let entry = |row: usize| match row.abs_diff(column) {
                    0 => 2.0,
                    1 => -1.0,
                    _ => 0.0,
                };
                layouts.note((0..n).map(entry));
            }
            assert_eq!((layouts.alternating(), layouts.stacked()), (None, None), "{n}");
        }
    }
}
