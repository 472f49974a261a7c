//! The two sides of a statement on an instance, and the relation between them.

/// Relative error that rounding may cause in a comparison.
///
/// Instances of the ledger are small: eigenproblems of dimension up to about 100. Their relative
/// error is at most about `16·N^1.5·ε`, 4e-12; products on the way (Gram matrix, noise operator)
/// add a few `N·ε`.
pub const TOLERANCE: f64 = 1e-10;

/// The relation that a statement claims between its two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `lhs ≤ rhs`.
    AtMost,
    /// `lhs = rhs`.
    Equal,
}

/// One comparison that a statement makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Its name in words, unique within a statement.
    pub name: &'static str,
    /// The left side.
    pub lhs: f64,
    /// The right side.
    pub rhs: f64,
    /// The relation that should hold between them.
    pub relation: Relation,
    /// The relative margin by which it holds: `(rhs − lhs)/max(|lhs|, |rhs|)` for
    /// [`Relation::AtMost`], and `−|lhs − rhs|/scale` for [`Relation::Equal`], whose scale is the
    /// size of the terms that the sides are sums of. NaN when a side is NaN.
    pub slack: f64,
}

impl Comparison {
    /// Claims that `lhs ≤ rhs`. Two infinities of one sign are equal.
    pub fn at_most(name: &'static str, lhs: f64, rhs: f64) -> Self {
        let slack = difference(rhs, lhs, lhs.abs().max(rhs.abs()));
        Self { name, lhs, rhs, relation: Relation::AtMost, slack }
    }

    /// Makes a [`Comparison::at_most`] of each name and its two sides.
    pub fn all_at_most<const N: usize>(sides: [(&'static str, f64, f64); N]) -> Vec<Self> {
        sides.map(|(name, lhs, rhs)| Self::at_most(name, lhs, rhs)).to_vec()
    }

    /// Claims that `lhs = rhs`, where both sides are sums of terms of size up to `scale`.
    pub fn equal(name: &'static str, lhs: f64, rhs: f64, scale: f64) -> Self {
        let slack = -difference(lhs, rhs, scale.max(lhs.abs()).max(rhs.abs())).abs();
        Self { name, lhs, rhs, relation: Relation::Equal, slack }
    }

    /// True if the relation holds up to the relative `tolerance`.
    pub fn holds(&self, tolerance: f64) -> bool {
        self.slack >= -tolerance
    }
}

/// `(a − b)/scale`. If a side is infinite, the result is the limit, ±1.
fn difference(a: f64, b: f64, scale: f64) -> f64 {
    if a.total_cmp(&b).is_eq() || scale <= 0.0 {
        return if a.is_nan() { f64::NAN } else { 0.0 };
    }
    if scale.is_infinite() { (a - b).clamp(-1.0, 1.0) } else { a / scale - b / scale }
}

#[cfg(test)]
mod tests {
    use super::Comparison;

    fn check_at_most(lhs: f64, rhs: f64, slack: f64) {
        let comparison = Comparison::at_most("test", lhs, rhs);
        assert!((comparison.slack - slack).abs() < 1e-15, "{comparison:?}");
    }

    #[test]
    fn slack_is_relative() {
        check_at_most(1.0, 4.0, 0.75);
        check_at_most(4.0, 1.0, -0.75);
        check_at_most(0.0, 0.0, 0.0);
        check_at_most(0.0, -0.0, 0.0);
        check_at_most(-1.0, 1.0, 2.0);
        check_at_most(1e308, -1e308, -2.0);
        check_at_most(1e-320, 2e-320, 0.5);
    }

    #[test]
    fn infinities_are_ordinary() {
        check_at_most(f64::INFINITY, f64::INFINITY, 0.0);
        check_at_most(1.0, f64::INFINITY, 1.0);
        check_at_most(f64::INFINITY, 1.0, -1.0);
    }

    #[test]
    fn nan_never_holds() {
        for (lhs, rhs) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::NAN, f64::NAN)] {
            assert!(!Comparison::at_most("test", lhs, rhs).holds(1.0));
            assert!(!Comparison::equal("test", lhs, rhs, 1.0).holds(1.0));
        }
    }

    #[test]
    fn equality_is_relative_to_the_terms() {
        let comparison = Comparison::equal("test", 1e-16, 0.0, 1.0);
        assert!(comparison.holds(1e-15) && !comparison.holds(1e-17));
    }
}
