//! Summary statistics.

/// The median; the mean of the middle two for an even count; NaN of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => f64::NAN,
        _ if n % 2 == 1 => sorted[n / 2],
        _ => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

/// The median; `None` of nothing.
pub(crate) fn median_of(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.into_iter().collect();
    (!values.is_empty()).then(|| median(&values))
}

/// The largest value; −∞ of nothing.
pub(crate) fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// The smallest value; ∞ of nothing.
pub(crate) fn smallest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Says that no value is outside of a range, or NaN.
pub(crate) fn within(values: &[f64], [low, high]: [f64; 2]) -> bool {
    values.iter().all(|value| (low..=high).contains(value))
}

/// Groups by a number, in ascending order of it; within a group the order stays.
pub(crate) fn group_by<T: Copy>(items: &[T], key: impl Fn(&T) -> f64) -> Vec<(f64, Vec<T>)> {
    let mut groups: Vec<(f64, Vec<T>)> = Vec::new();
    for item in items {
        let key = key(item);
        match groups.iter_mut().find(|(k, _)| k.total_cmp(&key).is_eq()) {
            Some((_, group)) => group.push(*item),
            None => groups.push((key, vec![*item])),
        }
    }
    groups.sort_by(|a, b| a.0.total_cmp(&b.0));
    groups
}

/// The mean; NaN of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean and its standard error; NaN of nothing, and an error of NaN for a single value.
pub(crate) fn mean_and_standard_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0) / n).sqrt())
}

/// Spearman's rank correlation of the pairs; ties share their mean rank. NaN for fewer than two.
pub(crate) fn spearman(pairs: &[(f64, f64)]) -> f64 {
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (x, y) = (ranks(&x), ranks(&y));
    let mean = (pairs.len() as f64 + 1.0) / 2.0;
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(&y) {
        xy += (x - mean) * (y - mean);
        xx += (x - mean).powi(2);
        yy += (y - mean).powi(2);
    }
    xy / (xx * yy).sqrt()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    values
        .iter()
        .map(|v| {
            let below = values.iter().filter(|w| *w < v).count() as f64;
            let same = values.iter().filter(|w| w.total_cmp(v).is_eq()).count() as f64;
            below + (same + 1.0) / 2.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{mean_and_standard_error, median, spearman};

    #[test]
    fn medians_and_ranks_are_the_textbook_ones() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-15);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-15);
        let falling = [(1.0, 9.0), (2.0, 7.0), (3.0, 5.0), (4.0, 1.0)];
        assert!((spearman(&falling) + 1.0).abs() < 1e-15);
        // One swap among five: 1 − 6·2/(5·24) = 0.9.
        let swapped = [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 4.0), (5.0, 5.0)];
        assert!((spearman(&swapped) - 0.9).abs() < 1e-15);
    }

    #[test]
    fn the_standard_error_is_the_textbook_one() {
        // Variance 5/3 over n − 1, divided by n = 4.
        let (mean, error) = mean_and_standard_error(&[1.0, 2.0, 3.0, 4.0]);
        assert!((mean - 2.5).abs() < 1e-15 && (error - (5.0_f64 / 12.0).sqrt()).abs() < 1e-15);
        assert!(mean_and_standard_error(&[1.0]).1.is_nan());
    }
}
