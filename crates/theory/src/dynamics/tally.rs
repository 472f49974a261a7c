//! Means over replicas.

/// A mean over replicas with its standard error, `√(sample variance / replicas)`.
///
/// Both are infinite when a replica has overflowed. Powers of δ are heavy-tailed after many steps:
/// the rare replicas that dominate the expectation may all be missing from the sample, and then the
/// standard error does not show it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ReplicaMean {
    /// The mean.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
}

/// Count, mean and sum of squared deviations, updated without cancellation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    count: f64,
    mean: f64,
    squares: f64,
    overflowed: bool,
}

impl Tally {
    pub(super) fn push(&mut self, value: f64) {
        self.merge(&Self { count: 1.0, mean: value, squares: 0.0, overflowed: !value.is_finite() });
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        let difference = other.mean - self.mean;
        self.mean += difference * (other.count / count);
        self.squares +=
            other.squares + difference * difference * (self.count * other.count / count);
        self.count = count;
        self.overflowed |= other.overflowed;
    }

    pub(super) fn replica_mean(self) -> ReplicaMean {
        if self.overflowed || !self.squares.is_finite() {
            return ReplicaMean { value: f64::INFINITY, standard_error: f64::INFINITY };
        }
        let variance = self.squares / (self.count - 1.0);
        ReplicaMean { value: self.mean, standard_error: (variance / self.count).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn a_tally_knows_mean_and_spread_of_all_values() {
        let mut all = Tally::default();
        for value in [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0, 1e9 + 6.0] {
            all.push(value);
        }
        let mean = all.replica_mean();
        assert!((mean.value - (1e9 + 3.0)).abs() < 1e-6);
        assert!((mean.standard_error - (14.0_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-6);
        all.push(f64::INFINITY);
        assert!(all.replica_mean().standard_error.is_infinite());
    }
}
