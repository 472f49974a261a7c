//! Power laws fitted to measurements.

/// Points at the upper end of a curve that a power law is fitted to.
pub(super) const FITTED: usize = 4;

/// `y = factor · x^exponent`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct PowerLaw {
    pub(crate) exponent: f64,
    /// Standard error of the exponent, from the scatter about the line.
    pub(crate) standard_error: f64,
    pub(crate) factor: f64,
    /// The smallest x of the fit.
    pub(crate) from: f64,
}

impl PowerLaw {
    /// The value of the law at x.
    pub(super) fn at(&self, x: f64) -> f64 {
        self.factor * libm::pow(x, self.exponent)
    }

    /// Fits log y against log x by least squares through the last [`FITTED`] points of a curve:
    /// minimises `Σ (log y_i − a − b log x_i)²`. The standard error of b is
    /// `√(RSS / (k−2) / Σ (log x_i − mean)²)`.
    ///
    /// `None` for fewer than three points, for points without logarithms, and for points with the
    /// same x.
    pub(crate) fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let points = &points[points.len().saturating_sub(FITTED)..];
        let (count, from) = (points.len() as f64, points.first()?.0);
        let logs: Vec<(f64, f64)> =
            points.iter().map(|(x, y)| (libm::log(*x), libm::log(*y))).collect();
        let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
        let spread: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        let product: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let exponent = product / spread;
        let residual = |(x, y): &(f64, f64)| y - mean_y - exponent * (x - mean_x);
        let squares: f64 = logs.iter().map(|point| residual(point).powi(2)).sum();
        let standard_error = (squares / (count - 2.0) / spread).sqrt();
        let factor = libm::exp(mean_y - exponent * mean_x);
        let law = Self { exponent, standard_error, factor, from };
        let is_found = points.len() > 2 && (exponent * standard_error * factor).is_finite();
        is_found.then_some(law)
    }
}

#[cfg(test)]
mod tests {
    use super::PowerLaw;

    #[test]
    fn a_power_law_is_found_from_its_upper_end() {
        let points = [1.0_f64, 10.0, 20.0, 50.0, 100.0].map(|x| (x, 3.0 * x.powi(2)));
        let mut bent = points;
        bent[0].1 = 1e9;
        for points in [points, bent] {
            let PowerLaw { exponent, standard_error, factor, from } =
                PowerLaw::fit(&points).unwrap();
            assert!((exponent - 2.0).abs() < 1e-12 && (factor - 3.0).abs() < 1e-10);
            assert!((PowerLaw::fit(&points).unwrap().at(1000.0) / 3e6 - 1.0).abs() < 1e-12);
            assert!(standard_error < 1e-12 && (from - 10.0).abs() < 1e-12);
        }
    }

    /// Four points at log x = 0, 1, 2, 3 and log y = x + (e, −e, −e, e). These residuals are
    /// orthogonal to the line.
    #[test]
    fn the_standard_error_is_that_of_the_scatter() {
        let e = 0.1;
        let points = [(0.0, e), (1.0, 1.0 - e), (2.0, 2.0 - e), (3.0, 3.0 + e)];
        let fit = PowerLaw::fit(&points.map(|(x, y)| (libm::exp(x), libm::exp(y)))).unwrap();
        assert!((fit.exponent - 1.0).abs() < 1e-12);
        // RSS = 4e², two degrees of freedom, Σ (x − 1.5)² = 5.
        assert!((fit.standard_error - (4.0 * e * e / 2.0 / 5.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn too_little_gives_no_law() {
        assert_eq!(PowerLaw::fit(&[]), None);
        assert_eq!(PowerLaw::fit(&[(1.0, 1.0), (2.0, 2.0)]), None);
        assert_eq!(PowerLaw::fit(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(PowerLaw::fit(&[(1.0, 1.0), (2.0, 0.0), (4.0, 3.0)]), None);
    }
}
