//! Bisection.

use std::convert::Infallible;

/// A search for the place in an interval where a property of numbers ceases to hold.
///
/// The settings say when the interval is narrow enough. Without any, it shrinks until its ends are
/// neighbouring numbers.
///
/// ```
/// use flatmin_linalg::Bisection;
/// // The square root of 2: the first number whose square is not below 2.
/// let (below, above) = Bisection::between(1.0, 2.0).run(|x| x * x < 2.0);
/// assert_eq!(below.next_up(), above);
/// let (below, above) = Bisection::between(1.0, 2.0).to_width(0.1).run(|x| x * x < 2.0);
/// assert_eq!((below, above), (1.375, 1.4375));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bisection {
    ends: (f64, f64),
    width: f64,
    relative_width: f64,
    max_steps: usize,
    is_geometric: bool,
}

impl Bisection {
    /// A search between two numbers, `low` first. The property is taken to hold at `low` and not to
    /// hold at `high`; neither is tried.
    pub fn between(low: f64, high: f64) -> Self {
        let ends = (low, high);
        Self { ends, width: 0.0, relative_width: 0.0, max_steps: usize::MAX, is_geometric: false }
    }

    /// Stops when `high − low` is at most `width`.
    #[must_use]
    pub fn to_width(self, width: f64) -> Self {
        Self { width, ..self }
    }

    /// Stops when `high − low` is at most `relative_width · high`.
    #[must_use]
    pub fn to_relative_width(self, relative_width: f64) -> Self {
        Self { relative_width, ..self }
    }

    /// Stops after `max_steps` trials.
    #[must_use]
    pub fn max_steps(self, max_steps: usize) -> Self {
        Self { max_steps, ..self }
    }

    /// Cuts at the geometric mean while `high > 4 low > 0`, which finds numbers of any magnitude in
    /// a few steps.
    #[must_use]
    pub fn geometric(self) -> Self {
        Self { is_geometric: true, ..self }
    }

    /// Runs the search and returns the ends of the last interval: `holds` was true at the lower end
    /// and false at the upper one, or an end was never moved.
    pub fn run(self, mut holds: impl FnMut(f64) -> bool) -> (f64, f64) {
        let Ok(ends) = self.try_run(|middle| Ok::<_, Infallible>(holds(middle)));
        ends
    }

    /// Like [`run`](Self::run), for a property that may fail to be decided.
    ///
    /// # Errors
    /// The first error of `holds`.
    pub fn try_run<E>(
        self,
        mut holds: impl FnMut(f64) -> Result<bool, E>,
    ) -> Result<(f64, f64), E> {
        let (mut low, mut high) = self.ends;
        for _ in 0..self.max_steps {
            let middle = if self.is_geometric && low > 0.0 && high > 4.0 * low {
                low.sqrt() * high.sqrt()
            } else {
                f64::midpoint(low, high)
            };
            let left = high - low;
            // A NaN stops the search too.
            let is_divisible = low < middle && middle < high;
            if !is_divisible || left <= self.width || left <= self.relative_width * high {
                break;
            }
            if holds(middle)? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok((low, high))
    }
}

#[cfg(test)]
mod tests {
    use super::Bisection;

    #[test]
    fn without_a_width_the_ends_become_neighbours() {
        for root in [1e-300, 0.3, 1.0, 7.5] {
            for search in [Bisection::between(0.0, 8.0), Bisection::between(1e-308, 8.0)] {
                for search in [search, search.geometric()] {
                    let (low, high) = search.run(|x| x < root);
                    assert!(low < root && root <= high && low.next_up() >= high, "{root} {low}");
                }
            }
        }
    }

    #[test]
    fn widths_and_steps_end_the_search() {
        let count = std::cell::Cell::new(0);
        let holds = |x: f64| {
            count.set(count.get() + 1);
            x < 5.0
        };
        let (low, high) = Bisection::between(0.0, 16.0).max_steps(3).run(holds);
        assert_eq!((low, high, count.take()), (4.0, 6.0, 3));
        let (low, high) = Bisection::between(0.0, 16.0).to_width(1.0).run(holds);
        assert_eq!((low, high, count.take()), (4.0, 5.0, 4));
        let (low, high) = Bisection::between(0.0, 16.0).to_relative_width(0.5).run(holds);
        assert_eq!((low, high, count.take()), (4.0, 8.0, 2));
    }

    #[test]
    fn geometric_means_find_tiny_numbers_in_few_steps() {
        let mut steps = 0;
        let search = Bisection::between(1e-300, 1.0).geometric().to_relative_width(1e-3);
        let (low, high) = search.run(|x| {
            steps += 1;
            x < 1e-200
        });
        assert!(low < 1e-200 && 1e-200 <= high && steps < 25, "{low} {high} {steps}");
    }

    #[test]
    fn intervals_that_cannot_be_cut_are_returned() {
        let search = |low, high| Bisection::between(low, high).run(|_| true);
        assert_eq!(search(1.0, 1.0), (1.0, 1.0));
        assert_eq!(search(2.0, 1.0), (2.0, 1.0));
        assert_eq!(search(0.0, f64::INFINITY), (0.0, f64::INFINITY));
        assert!(search(f64::NAN, 1.0).0.is_nan());
    }

    #[test]
    fn an_error_ends_the_search() {
        let result =
            Bisection::between(0.0, 1.0).try_run(|x| if x < 0.4 { Err(x) } else { Ok(false) });
        assert_eq!(result, Err(0.25));
    }
}
