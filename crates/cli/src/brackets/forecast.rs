//! The time that a bracket still takes.
//!
//! Widths fall like a power of the rank once the modes hold most of what matters, and not before:
//! a line through early widths can be wrong by any factor. A time is told where the widths of three
//! ranks agree on a power and the wanted width is near, or where a limit is near. Elsewhere nothing
//! is told.

use flatmin_theory::{BracketProgress, BracketStage};

/// The largest width that a power of the rank is fitted to.
const MAX_WIDTH: f64 = 0.5;

/// The least power that is trusted, and the largest factor between two powers that agree.
const LEAST_POWER: f64 = 0.25;
const AGREEMENT: f64 = 2.0;

/// The largest factor between the rank so far and one that is expected.
const FARTHEST: f64 = 4.0;

/// The products of a certificate.
const CERTIFICATE_PRODUCTS: f64 = 160.0;

/// The time of all measurements up to a rank and of the certificate, relative to that of one at this
/// rank. The time of a measurement grows with the square of the rank, and ranks by a factor of 1.4.
const MEASUREMENTS: f64 = 3.0;

/// The part of the largest rank that a restart grows again.
const GROWN_AGAIN: f64 = 0.4;

/// Tells the time that a bracket still takes, from the growths and measurements so far.
#[derive(Debug)]
pub(super) struct Forecast {
    wanted: f64,
    max_products: usize,
    /// The last progress and its time in seconds.
    before: Option<(BracketProgress, f64)>,
    /// The rank, the products and the seconds of each growth.
    growths: Vec<(usize, usize, f64)>,
    /// The rank of the last measurement, and its seconds.
    measured: Option<(usize, f64)>,
    /// Ranks with the widths measured there.
    widths: Vec<(usize, f64)>,
    has_restarted: bool,
}

impl Forecast {
    pub(super) fn new(wanted: f64, max_products: usize) -> Self {
        Self {
            wanted,
            max_products,
            before: None,
            growths: Vec::new(),
            measured: None,
            widths: Vec::new(),
            has_restarted: false,
        }
    }

    /// True after a restart, beyond which no time is known.
    pub(super) fn has_restarted(&self) -> bool {
        self.has_restarted
    }

    pub(super) fn max_products(&self) -> usize {
        self.max_products
    }

    /// Notes the progress at a time in seconds.
    pub(super) fn note(&mut self, progress: &BracketProgress, seconds: f64) {
        if let Some((before, since)) = self.before {
            let products = progress.products.saturating_sub(before.products);
            match before.stage {
                BracketStage::Growing if products > 0 => {
                    self.growths.push((progress.rank, products, seconds - since));
                }
                BracketStage::Measuring => self.measured = Some((before.rank, seconds - since)),
                _ => {}
            }
            self.has_restarted |= progress.rank < before.rank;
        }
        self.before = Some((*progress, seconds));
        let Some((lower, upper)) = progress.interval else { return };
        let width = 1.0 - lower / upper;
        if self.widths.last().is_none_or(|(_, last)| last.to_bits() != width.to_bits()) {
            self.widths.push((progress.rank, width));
        }
    }

    /// The seconds of a product, from the growth since half of the rank.
    fn pace(&self, rank: usize) -> Option<f64> {
        let recent = self.growths.iter().filter(|(at, ..)| 2 * at >= rank);
        let (products, seconds) =
            recent.fold((0, 0.0), |sum, growth| (sum.0 + growth.1, sum.1 + growth.2));
        (products > 0).then(|| seconds / products as f64)
    }

    /// The rank at which the wanted width may be expected.
    fn expected_rank(&self) -> Option<f64> {
        let [.., first, second, last] = *self.widths.as_slice() else { return None };
        let power = |(rank_before, before): (usize, f64), (rank, width): (usize, f64)| {
            let is_falling = rank > rank_before && width < before && width > 0.0;
            let power = || libm::log(before / width) / libm::log(rank as f64 / rank_before as f64);
            is_falling.then(power).filter(|power| *power >= LEAST_POWER)
        };
        let (early, late) = (power(first, second)?, power(second, last)?);
        let is_sound = first.1 <= MAX_WIDTH && early.max(late) <= AGREEMENT * early.min(late);
        let (rank, width) = last;
        let factor = libm::pow(width / self.wanted, 1.0 / power(first, last)?).max(1.0);
        (is_sound && factor <= FARTHEST).then_some(rank as f64 * factor)
    }

    /// The seconds left at the pace so far, where that is known well enough.
    pub(super) fn seconds_left(&self, progress: &BracketProgress) -> Option<f64> {
        let pace = self.pace(progress.rank)?;
        if self.has_restarted || progress.stage == BracketStage::Certifying {
            return None;
        }
        let (rank, limit) = (progress.rank as f64, progress.max_rank as f64);
        let (target, again) = match self.expected_rank() {
            Some(expected) if expected <= limit => (expected.max(rank), 0.0),
            // The run ends at the limit, after a restart that shows that no more is to be had.
            _ if limit <= FARTHEST * rank => (limit, GROWN_AGAIN * limit),
            _ => return None,
        };
        let growth = 2.0 * (target - rank + again) + CERTIFICATE_PRODUCTS;
        let budget = self.max_products.saturating_sub(progress.products) as f64;
        let measuring = self.measured.map_or(0.0, |(rank, seconds)| {
            MEASUREMENTS * seconds * (target / rank.max(1) as f64).powi(2)
        });
        Some(pace * growth.min(budget) + measuring)
    }
}

#[cfg(test)]
mod tests {
    use flatmin_theory::{BracketProgress, BracketStage};

    use super::Forecast;

    fn progress(rank: usize, width: Option<f64>, max_rank: usize) -> BracketProgress {
        let interval = width.map(|width| (1.0 - width, 1.0));
        let stage = BracketStage::Growing;
        BracketProgress { products: 2 * rank, rank, interval, estimate: None, max_rank, stage }
    }

    /// The seconds left after widths that were measured at ranks, a second for each mode.
    fn left(widths: &[(usize, f64)], wanted: f64, max_rank: usize) -> Option<f64> {
        let mut forecast = Forecast::new(wanted, 1_000_000);
        forecast.note(&progress(0, None, max_rank), 0.0);
        let mut last = None;
        for (rank, width) in widths {
            let progress = progress(*rank, Some(*width), max_rank);
            forecast.note(&progress, *rank as f64);
            last = forecast.seconds_left(&progress);
        }
        last
    }

    #[test]
    fn the_time_left_follows_widths_that_fall_steadily() {
        let halved = [(50, 0.4), (100, 0.2), (200, 0.1)];
        // Nothing is known from two widths; three show that twice the rank is enough.
        assert!(left(&halved[..2], 0.05, 4000).is_none());
        let found = left(&halved, 0.05, 4000).unwrap();
        assert!((found - (200.0 + 80.0)).abs() < 1e-6, "{found}");
        // A width that was reached leaves the certificate.
        let found = left(&halved, 0.2, 4000).unwrap();
        assert!((found - 80.0).abs() < 1e-6, "{found}");
        // A limit below the rank expected, and one restart at it.
        let found = left(&halved, 0.05, 300).unwrap();
        assert!((found - (100.0 + 120.0 + 80.0)).abs() < 1e-6, "{found}");
    }

    /// Widths that hardly fall were once extrapolated to days where minutes remained.
    #[test]
    fn no_time_is_told_from_widths_that_say_nothing() {
        for widths in [
            [(32, 0.99), (64, 0.985), (128, 0.98)],
            [(32, 0.9), (64, 0.6), (128, 0.3)],
            [(50, 0.4), (100, 0.39), (200, 0.385)],
            [(50, 0.4), (100, 0.39), (200, 0.2)],
            [(50, 0.4), (100, 0.45), (200, 0.2)],
            [(50, 0.4), (100, 0.3), (200, 0.25)],
        ] {
            assert!(left(&widths, 0.01, 4000).is_none(), "{widths:?}");
            // The rank cannot exceed a limit that is near.
            let limited = left(&widths, 0.01, 250).unwrap();
            assert!(limited <= 250.0 + 100.0 + 80.0, "{widths:?}: {limited}");
        }
    }

    #[test]
    fn the_budget_bounds_the_time_left() {
        let mut forecast = Forecast::new(1e-6, 130);
        forecast.note(&progress(0, None, 60), 0.0);
        let now = progress(40, None, 60);
        forecast.note(&now, 40.0);
        // 50 products are left, at half a second each.
        let found = forecast.seconds_left(&now).unwrap();
        assert!((found - 25.0).abs() < 1e-6, "{found}");
        // A restart ends the forecast.
        let now = progress(36, None, 60);
        forecast.note(&now, 41.0);
        assert!(forecast.has_restarted() && forecast.seconds_left(&now).is_none());
    }

    #[test]
    fn measurements_take_time_of_their_own() {
        let mut forecast = Forecast::new(1e-6, 10_000);
        forecast.note(&progress(0, None, 60), 0.0);
        forecast.note(&progress(30, None, 60), 30.0);
        let measuring =
            BracketProgress { stage: BracketStage::Measuring, ..progress(30, None, 60) };
        forecast.note(&measuring, 30.0);
        let now = progress(30, Some(0.9), 60);
        forecast.note(&now, 40.0);
        // The products as above, and three measurements at twice the rank.
        let found = forecast.seconds_left(&now).unwrap();
        let products = 2.0 * (30.0 + 24.0) + 160.0;
        assert!((found - (0.5 * products + 3.0 * 40.0)).abs() < 1e-6, "{found}");
    }
}
