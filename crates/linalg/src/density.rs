//! Spectral density by stochastic Lanczos quadrature.

use rand::Rng;

use crate::estimate::products::{Products, gaussian};
use crate::estimate::student;
use crate::{EigenError, EstimateError, Interval, Krylov, Operator};

/// Settings of [`spectral_density`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DensityOptions {
    /// The number of random starts. The standard error falls with its square root.
    pub probes: usize,
    /// The number of products of a start, and of nodes of its quadrature. The resolution grows with
    /// it.
    pub steps: usize,
}

impl Default for DensityOptions {
    /// Ten starts of forty products.
    fn default() -> Self {
        Self { probes: 10, steps: 40 }
    }
}

/// A node of a quadrature: a point on the axis of eigenvalues with its fraction of the spectrum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Node {
    /// The point on the axis of eigenvalues.
    pub value: f64,
    /// The fraction of the spectrum, at least 0.
    pub weight: f64,
}

/// A mean over random starts, with its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeMean {
    /// The mean.
    pub value: f64,
    /// The standard error, from the spread over starts; infinite for a single start. It is rough
    /// when few eigenvalues dominate the mean, because the weight that a start gives to a single
    /// eigenvalue is far from normally distributed.
    pub standard_error: f64,
    /// The number of starts.
    pub probes: usize,
}

impl ProbeMean {
    /// Student's confidence interval.
    ///
    /// It is accurate when the values of the starts are about normal, as they are for functions to
    /// which many eigenvalues contribute. It is the whole line for a single start or when
    /// `confidence` is 1 or more, and the value alone when `confidence` is not positive.
    pub fn interval(&self, confidence: f64) -> Interval {
        if confidence <= 0.0 {
            return Interval { lower: self.value, upper: self.value };
        }
        if self.probes < 2 || !(confidence < 1.0) {
            return Interval { lower: f64::NEG_INFINITY, upper: f64::INFINITY };
        }
        let factor = student(0.5 * (1.0 + confidence), self.probes as f64 - 1.0);
        let half_width = factor * self.standard_error;
        Interval { lower: self.value - half_width, upper: self.value + half_width }
    }
}

/// An estimate of the distribution `(1/dim) Σ δ(λ − λ_i)` of the eigenvalues of an operator.
#[derive(Debug, Clone, PartialEq)]
pub struct SpectralDensity {
    /// One quadrature for each start. Its nodes are ascending and its weights add up to 1.
    quadratures: Vec<Vec<Node>>,
    products: usize,
}

/// The reason why there is no spectral density.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DensityError {
    /// A dimension or budget of zero, a product that is not finite, or an eigenvalue beyond the
    /// range of `f64`.
    #[error(transparent)]
    Product(#[from] EstimateError),
    /// The small eigenproblem has no trustworthy answer.
    #[error(transparent)]
    Eigen(#[from] EigenError),
}

/// The distribution of the eigenvalues of a symmetric operator (Golub & Welsch 1969; Ubaru, Chen &
/// Saad 2017).
///
/// A random start v on the unit sphere has the spectral measure `Σ (v·u_i)² δ(λ − λ_i)`, whose
/// expectation is the wanted distribution. Lanczos gives its Gauss quadrature: k steps reproduce
/// its moments up to order 2k − 1. A start whose Krylov space becomes invariant stops early and is
/// exact. Costs at most `probes · steps` products and keeps one Krylov basis at a time.
///
/// ```
/// use flatmin_linalg::{DensityOptions, FnOperator, spectral_density, stream};
/// // diag(1, 2, …, 100), known by its products.
/// let operator = FnOperator::new(100, |v: &[f64], image: &mut [f64]| {
///     (0..100).for_each(|i| image[i] = (i + 1) as f64 * v[i]);
/// });
/// let density =
///     spectral_density(&operator, &DensityOptions::default(), &mut stream(0, "density", 0))?;
/// // A quarter of the eigenvalues is above 75.
/// let above = density.mean(|value| if value > 75.0 { 1.0 } else { 0.0 }).interval(0.95);
/// assert!(above.lower < 0.25 && 0.25 < above.upper);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`DensityError`]: dimension, probes or steps zero, a product that is not finite, or an
/// eigenvalue beyond the range of `f64`.
pub fn spectral_density(
    operator: &(impl Operator + ?Sized),
    options: &DensityOptions,
    rng: &mut impl Rng,
) -> Result<SpectralDensity, DensityError> {
    let mut products = Products::new(operator, options.probes.min(options.steps))?;
    let mut quadratures = Vec::new();
    for _ in 0..options.probes {
        let mut krylov = Krylov::new(gaussian(products.dim(), 1, rng).col_as_slice(0))?;
        while krylov.products() < options.steps && !krylov.is_closed() {
            krylov.try_extend(&[], |v, image| -> Result<(), DensityError> {
                Ok(products.apply(v, image)?)
            })?;
        }
        let eigen = krylov.eigen()?;
        let nodes = eigen.values.iter().enumerate();
        let unit = products.unit();
        let nodes: Vec<Node> = nodes
            .map(|(j, value)| Node {
                value: unit.times(*value),
                weight: eigen.vectors[(0, j)] * eigen.vectors[(0, j)],
            })
            .collect();
        if nodes.iter().any(|node| !node.value.is_finite()) {
            return Err(EstimateError::OutOfRange.into());
        }
        quadratures.push(nodes);
    }
    Ok(SpectralDensity { quadratures, products: products.used })
}

impl SpectralDensity {
    /// The number of operator products used.
    pub fn products(&self) -> usize {
        self.products
    }

    /// All nodes, ascending, with weights that add up to 1.
    pub fn nodes(&self) -> Vec<Node> {
        let share = 1.0 / self.quadratures.len() as f64;
        let nodes = self.quadratures.iter().flatten();
        let mut nodes: Vec<Node> =
            nodes.map(|node| Node { weight: node.weight * share, ..*node }).collect();
        nodes.sort_by(|a, b| a.value.total_cmp(&b.value));
        nodes
    }

    /// The mean of `function` over the spectrum, `(1/dim) tr f(A)`.
    pub fn mean(&self, function: impl Fn(f64) -> f64) -> ProbeMean {
        let of_probe = |nodes: &Vec<Node>| {
            nodes.iter().map(|node| node.weight * function(node.value)).sum::<f64>()
        };
        let means: Vec<f64> = self.quadratures.iter().map(of_probe).collect();
        let count = means.len() as f64;
        let value = means.iter().sum::<f64>() / count;
        let spread = means.iter().map(|mean| (mean - value) * (mean - value)).sum::<f64>();
        let standard_error =
            if means.len() > 1 { (spread / (count * (count - 1.0))).sqrt() } else { f64::INFINITY };
        ProbeMean { value, standard_error, probes: means.len() }
    }

    /// The density at each point of `grid`, smoothed by a Gaussian kernel of standard deviation
    /// `width`, in units of 1/eigenvalue.
    ///
    /// A width that is not positive gives zeros, because there is no density without smoothing.
    pub fn density(&self, grid: &[f64], width: f64) -> Vec<ProbeMean> {
        let height = 1.0 / (width * (2.0 * std::f64::consts::PI).sqrt());
        let at = |point: f64| {
            self.mean(|value| {
                let z = (point - value) / width;
                if width > 0.0 { height * libm::exp(-0.5 * z * z) } else { 0.0 }
            })
        };
        grid.iter().map(|&point| at(point)).collect()
    }

    /// The fraction of eigenvalues that are at most each point of `grid`, smoothed as in
    /// [`density`](Self::density), or a step function when `width` is not positive.
    pub fn cumulative(&self, grid: &[f64], width: f64) -> Vec<ProbeMean> {
        let at = |point: f64| {
            self.mean(|value| {
                if width > 0.0 {
                    0.5 * libm::erfc((value - point) / (width * std::f64::consts::SQRT_2))
                } else {
                    f64::from(u8::from(value <= point))
                }
            })
        };
        grid.iter().map(|&point| at(point)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{DensityError, DensityOptions, SpectralDensity, spectral_density};
    use crate::{EstimateError, FnOperator, stream};

    fn diagonal(spectrum: &[f64], probes: usize, steps: usize) -> SpectralDensity {
        try_diagonal(spectrum, probes, steps).unwrap()
    }

    fn try_diagonal(
        spectrum: &[f64],
        probes: usize,
        steps: usize,
    ) -> Result<SpectralDensity, DensityError> {
        let operator = FnOperator::new(spectrum.len(), |v: &[f64], out: &mut [f64]| {
            for ((out, v), value) in out.iter_mut().zip(v).zip(spectrum) {
                *out = value * v;
            }
        });
        spectral_density(&operator, &DensityOptions { probes, steps }, &mut stream(0, "density", 0))
    }

    /// Two bulks and an outlier.
    fn spectrum() -> Vec<f64> {
        let bulks = (0..200).map(|k| f64::from(k % 2) * 2.0 + f64::from(k) / 400.0);
        bulks.chain([6.0]).collect()
    }

    #[test]
    fn moments_are_those_of_the_spectrum_within_their_error() {
        // The outlier is left out, because the weight of a start on it is far from normally
        // distributed.
        let spectrum = &spectrum()[..200];
        let density = diagonal(spectrum, 40, 20);
        assert_eq!(density.products(), 800);
        for power in 0..6 {
            let mean = density.mean(|v| v.powi(power));
            let exact = spectrum.iter().map(|v| v.powi(power)).sum::<f64>() / spectrum.len() as f64;
            // Five standard errors of 39 degrees of freedom: a false alarm in 1e5.
            let bound = 5.0 * mean.standard_error + 1e-12;
            assert!((mean.value - exact).abs() <= bound, "{power}: {mean:?} {exact}");
            assert!(power == 0 || mean.standard_error < 0.1 * exact, "{power}: {mean:?}");
        }
    }

    #[test]
    fn the_distribution_is_near_in_the_distance_of_kolmogorov() {
        let mut spectrum = spectrum();
        spectrum.sort_by(f64::total_cmp);
        let density = diagonal(&spectrum, 40, 60);
        let grid: Vec<f64> = (0..=700).map(|k| f64::from(k) * 0.01).collect();
        let (step, smooth) = (density.cumulative(&grid, 0.0), density.cumulative(&grid, 0.02));
        for ((point, step), smooth) in grid.iter().zip(&step).zip(&smooth) {
            let below = spectrum.iter().filter(|v| *v <= point).count();
            let exact = below as f64 / spectrum.len() as f64;
            // Nodes carry about 1/60 each, and the mean over 40 starts has an error of about 1/90.
            assert!((step.value - exact).abs() < 0.04, "{point}: {step:?} {exact}");
            assert!((smooth.value - exact).abs() < 0.06, "{point}: {smooth:?} {exact}");
            assert!(step.standard_error < 0.01);
        }
    }

    #[test]
    fn the_density_integrates_to_one_and_is_the_derivative_of_the_distribution() {
        let density = diagonal(&spectrum(), 5, 30);
        let grid: Vec<f64> = (-100..=800).map(|k| f64::from(k) * 0.01).collect();
        let heights = density.density(&grid, 0.1);
        let integral: f64 = heights.iter().map(|height| height.value * 0.01).sum();
        assert!((integral - 1.0).abs() < 1e-9, "{integral}");
        let cumulative = density.cumulative(&grid, 0.1);
        for k in 1..900 {
            let slope = (cumulative[k + 1].value - cumulative[k - 1].value) / 0.02;
            assert!((slope - heights[k].value).abs() < 0.01, "{slope} {:?}", heights[k]);
        }
        assert!(density.density(&grid, 0.0).iter().all(|height| height.value == 0.0));
    }

    #[test]
    fn degenerate_operators_are_ordinary() {
        for (value, dim) in [(0.0, 5), (1.0, 1), (3.0, 7), (1e150, 4), (1e-150, 4)] {
            let density = diagonal(&vec![value; dim], 3, 10);
            assert_eq!(density.products(), 3);
            for node in density.nodes() {
                assert!((node.value - value).abs() <= 1e-14 * value, "{node:?}");
                assert!((node.weight - 1.0 / 3.0).abs() < 1e-14);
            }
        }
        assert!(diagonal(&[1.0, 2.0], 1, 2).mean(|v| v).standard_error.is_infinite());
        for (probes, steps) in [(0, 1), (1, 0)] {
            assert_eq!(
                try_diagonal(&[1.0], probes, steps),
                Err(DensityError::Product(EstimateError::NoProducts))
            );
        }
        assert!(matches!(
            try_diagonal(&[f64::NAN], 1, 1),
            Err(DensityError::Product(EstimateError::NotFinite { .. }))
        ));
    }
}
