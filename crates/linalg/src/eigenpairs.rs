//! Several extreme eigenpairs of an operator that is never formed.

use rand::Rng;

use crate::estimate::products::{Products, gaussian};
use crate::{
    DEFAULT_RELATIVE_RESIDUAL, EigenError, EstimateError, Krylov, LanczosStatus, Operator, simd,
};

/// The end of the spectrum at which [`top_eigenpairs`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// The algebraically largest.
    #[default]
    Largest,
    /// The algebraically smallest.
    Smallest,
    /// The largest in magnitude.
    LargestMagnitude,
    /// As many of the largest as of the smallest.
    Both,
}

/// Settings of [`top_eigenpairs`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EigenpairOptions {
    /// The number of eigenpairs; for [`End::Both`], at each end.
    pub count: usize,
    /// The end of the spectrum.
    pub end: End,
    /// The residual `‖Av − λv‖` at which a pair is accepted, relative to |λ|. Pairs near zero are
    /// accepted when rounding allows no smaller residual.
    pub relative_residual: f64,
    /// The largest number of operator products. The Krylov basis is kept, so memory grows with it.
    pub max_products: usize,
}

impl Default for EigenpairOptions {
    /// The largest one, to [`DEFAULT_RELATIVE_RESIDUAL`], with at most 1000 products.
    fn default() -> Self {
        Self {
            count: 1,
            end: End::Largest,
            relative_residual: DEFAULT_RELATIVE_RESIDUAL,
            max_products: 1000,
        }
    }
}

/// One approximate eigenpair.
#[derive(Debug, Clone, PartialEq)]
pub struct RitzPair {
    /// The Ritz value.
    pub value: f64,
    /// The unit Ritz vector.
    pub vector: Vec<f64>,
    /// `‖Av − λv‖`: some eigenvalue lies within this distance of `value`.
    pub residual: f64,
}

/// The result of [`top_eigenpairs`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Eigenpairs {
    /// The pairs, the most extreme first; for [`End::Both`], the largest in descending order, then
    /// the smallest in ascending order. Fewer than requested only when the products ran out.
    pub pairs: Vec<RitzPair>,
    /// Operator products used.
    pub products: usize,
    /// The reason why the search ended.
    pub status: LanczosStatus,
}

/// The reason why there are no eigenpairs.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EigenpairError {
    /// More pairs are requested than the operator has.
    #[error("{count} eigenpairs are requested of an operator of dimension {dim}")]
    TooMany {
        /// The number of pairs requested.
        count: usize,
        /// Dimension of the operator.
        dim: usize,
    },
    /// A dimension or budget of zero, or a product that is not finite.
    #[error(transparent)]
    Product(#[from] EstimateError),
    /// The small eigenproblem has no trustworthy answer.
    #[error(transparent)]
    Eigen(#[from] EigenError),
}

/// The largest residual, relative to the scale of the operator, of a pair whose rank among the
/// others is known.
const MAX_RANKING_RESIDUAL: f64 = 1e-5;

/// Extreme eigenpairs of a symmetric operator, by Lanczos with full re-orthogonalisation.
///
/// A Krylov space contains one vector of every eigenspace only. So when it has converged, the pairs
/// are locked, and another random start searches their complement for a pair that belongs among
/// them, until there is none. Repeated eigenvalues are found as often as they occur, at the price
/// of one more space for each and a last one that finds nothing. A random start has a component
/// along any vector almost surely, but only all products together could prove that no pair was
/// missed.
///
/// The status is [`LanczosStatus::Invariant`] when the pairs found span the whole space, and
/// [`LanczosStatus::OutOfProducts`] when the search was cut short; the residuals then show the
/// accuracy reached. Costs O(dim · k²) besides its k products and keeps k vectors.
///
/// ```
/// use flatmin_linalg::{EigenpairOptions, FnOperator, stream, top_eigenpairs};
/// // diag(1, 2, …, 100), known by its products.
/// let operator = FnOperator::new(100, |v: &[f64], image: &mut [f64]| {
///     (0..100).for_each(|i| image[i] = (i + 1) as f64 * v[i]);
/// });
/// let options = EigenpairOptions { count: 2, ..EigenpairOptions::default() };
/// let found = top_eigenpairs(&operator, &options, &mut stream(0, "pairs", 0))?;
/// let values: Vec<f64> = found.pairs.iter().map(|pair| pair.value).collect();
/// assert!((values[0] - 100.0).abs() < 1e-9 && (values[1] - 99.0).abs() < 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`EigenpairError`]: more pairs than the dimension, a dimension or budget of zero, or a product
/// that is not finite.
pub fn top_eigenpairs(
    operator: &(impl Operator + ?Sized),
    options: &EigenpairOptions,
    rng: &mut impl Rng,
) -> Result<Eigenpairs, EigenpairError> {
    let dim = operator.dim();
    let count = match options.end {
        End::Both => options.count.saturating_mul(2),
        _ => options.count,
    };
    let products = Products::new(operator, options.max_products)?;
    if count > dim {
        return Err(EigenpairError::TooMany { count, dim });
    }
    let mut search =
        Search { products, options, locked: Vec::new(), scale: 0.0, out_of_products: false };
    while count > 0 && search.locked.len() < dim && !search.out_of_products {
        // The proof that nothing is missing takes a product too.
        if search.products.used >= options.max_products {
            search.out_of_products = true;
            break;
        }
        let complete = search.locked.len() >= count;
        let found = search.round(complete, rng)?;
        let before = search.chosen();
        search.locked.extend(found);
        if complete && search.chosen() == before {
            break;
        }
    }
    let unit = search.products.unit();
    let status = if search.out_of_products {
        LanczosStatus::OutOfProducts
    } else if search.locked.len() >= dim {
        LanczosStatus::Invariant
    } else {
        LanczosStatus::Converged
    };
    let mut pairs = Vec::with_capacity(count);
    for index in search.chosen() {
        let mut pair = search.locked[index].clone();
        pair.value = unit.times(pair.value);
        pair.residual = unit.times(pair.residual);
        if !(pair.value.is_finite() && pair.residual.is_finite()) {
            return Err(EstimateError::OutOfRange.into());
        }
        pairs.push(pair);
    }
    Ok(Eigenpairs { pairs, products: search.products.used, status })
}

struct Search<'a, O: ?Sized> {
    products: Products<'a, O>,
    options: &'a EigenpairOptions,
    /// Pairs that later spaces are orthogonal to, in units of the scaled operator.
    locked: Vec<RitzPair>,
    /// The largest |λ| seen.
    scale: f64,
    out_of_products: bool,
}

impl<O: Operator + ?Sized> Search<'_, O> {
    /// Indices of the locked pairs that are wanted, in order.
    fn chosen(&self) -> Vec<usize> {
        let values: Vec<f64> = self.locked.iter().map(|pair| pair.value).collect();
        select(&values, self.options.end, self.options.count)
    }

    /// The wanted pairs of the operator on the complement of the locked pairs. When those are
    /// `complete`, only pairs that belong among them, at most one for each end.
    fn round(
        &mut self,
        complete: bool,
        rng: &mut impl Rng,
    ) -> Result<Vec<RitzPair>, EigenpairError> {
        let dim = self.products.dim();
        let start = self.start(rng)?;
        let mut krylov = Krylov::new(&start)?;
        let rest = dim - self.locked.len();
        let wanted = if complete { 1 } else { self.options.count };
        let mut next_look = 4;
        loop {
            self.extend(&mut krylov)?;
            let size = krylov.products();
            let closed = krylov.is_closed() || size >= rest;
            let spent = self.products.used >= self.options.max_products;
            if !(closed || spent || size >= next_look) {
                continue;
            }
            // The small eigenproblem costs O(size³).
            next_look = size + (size / 8).max(4);
            let eigen = krylov.eigen()?;
            self.scale = eigen.values.iter().fold(self.scale, |m, v| m.max(v.abs()));
            let true_residual = |j: usize| krylov.residual(eigen.vectors[(size - 1, j)]);
            // The pairs of an invariant space are exact to rounding: ties with locked pairs stay
            // ties.
            let residual = |j: usize| if closed { 0.0 } else { true_residual(j) };
            let chosen = select(&eigen.values, self.options.end, wanted);
            let enough = chosen.len() == select(&vec![0.0; rest], self.options.end, wanted).len();
            let converged = chosen.iter().all(|&j| {
                residual(j) <= self.bound(eigen.values[j])
                    || complete && self.is_outside(eigen.values[j], residual(j))
            });
            if !(closed || spent || enough && converged) {
                continue;
            }
            self.out_of_products |= spent && !(closed || enough && converged);
            // The coupling to the locked pairs lies outside this space.
            let coupling = self.locked.iter().map(|pair| pair.residual.powi(2)).sum::<f64>().sqrt();
            let mut pairs = Vec::with_capacity(chosen.len());
            for j in chosen {
                let value = eigen.values[j];
                if complete && self.is_outside(value, residual(j)) && !self.out_of_products {
                    continue;
                }
                let coefficients: Vec<f64> = (0..size).map(|i| eigen.vectors[(i, j)]).collect();
                let vector = krylov.combine(&coefficients);
                pairs.push(RitzPair {
                    value,
                    vector,
                    residual: libm::hypot(true_residual(j), coupling),
                });
            }
            // Pairs that have not converged do not displace those that have.
            if complete && self.out_of_products {
                pairs.clear();
            }
            return Ok(pairs);
        }
    }

    /// The residual at which a pair is accepted.
    fn bound(&self, value: f64) -> f64 {
        let rounding = 8.0 * f64::EPSILON * (self.products.dim() as f64).sqrt() * self.scale;
        (self.options.relative_residual * value.abs()).max(rounding)
    }

    /// True if the pair is known accurately enough to exclude it from the locked pairs.
    fn is_outside(&self, value: f64, residual: f64) -> bool {
        if residual > MAX_RANKING_RESIDUAL * self.scale {
            return false;
        }
        let mut values: Vec<f64> = self.locked.iter().map(|pair| pair.value).collect();
        let index = values.len();
        let inside =
            |values: &[f64]| select(values, self.options.end, self.options.count).contains(&index);
        values.push(value - residual);
        let below = inside(&values);
        values[index] = value + residual;
        !below && !inside(&values)
    }

    /// A random vector orthogonal to the locked pairs.
    fn start(&self, rng: &mut impl Rng) -> Result<Vec<f64>, EigenError> {
        let mut start = gaussian(self.products.dim(), 1, rng).col_as_slice(0).to_vec();
        self.project(&mut start);
        let norm = simd::norm_squared(&start).sqrt();
        if !(norm > 0.0) {
            return Err(EigenError::NotFinite { row: 0, column: 0, value: norm });
        }
        for v in &mut start {
            *v /= norm;
        }
        self.project(&mut start);
        Ok(start)
    }

    fn project(&self, vector: &mut [f64]) {
        for _ in 0..2 {
            for pair in &self.locked {
                let component = simd::dot(&pair.vector, vector);
                simd::axpy(-component, &pair.vector, vector);
            }
        }
    }

    fn extend(&mut self, krylov: &mut Krylov) -> Result<(), EigenpairError> {
        let Search { products, locked, .. } = self;
        let locked: Vec<&[f64]> = locked.iter().map(|pair| pair.vector.as_slice()).collect();
        krylov.try_extend(&locked, |v, image| Ok(products.apply(v, image)?))
    }
}

/// Indices of the `count` most extreme values (at each end), the most extreme first. With both
/// ends, the upper end comes first.
fn select(values: &[f64], end: End, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let count = count.min(values.len());
    match end {
        End::Largest | End::Both => order.sort_by(|&i, &j| values[j].total_cmp(&values[i])),
        End::Smallest => order.sort_by(|&i, &j| values[i].total_cmp(&values[j])),
        End::LargestMagnitude => {
            order.sort_by(|&i, &j| values[j].abs().total_cmp(&values[i].abs()));
        }
    }
    if end == End::Both {
        let upper = count.min(values.len() - values.len() / 2);
        let lower = count.min(values.len() - upper);
        let tail: Vec<usize> = order.iter().rev().take(lower).copied().collect();
        order.truncate(upper);
        order.extend(tail);
    } else {
        order.truncate(count);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::{EigenpairError, EigenpairOptions, Eigenpairs, End, top_eigenpairs};
    use crate::{EstimateError, FnOperator, LanczosStatus, stream};

    fn diagonal(spectrum: &[f64], options: EigenpairOptions) -> Result<Eigenpairs, EigenpairError> {
        let operator = FnOperator::new(spectrum.len(), |v: &[f64], out: &mut [f64]| {
            for ((out, v), value) in out.iter_mut().zip(v).zip(spectrum) {
                *out = value * v;
            }
        });
        top_eigenpairs(&operator, &options, &mut stream(0, "eigenpairs", 0))
    }

    fn check(spectrum: &[f64], count: usize, end: End, expected: &[f64]) -> Eigenpairs {
        let options = EigenpairOptions { count, end, ..Default::default() };
        let found = diagonal(spectrum, options).unwrap();
        let values: Vec<f64> = found.pairs.iter().map(|pair| pair.value).collect();
        assert_eq!(values.len(), expected.len(), "{values:?}");
        assert_ne!(found.status, LanczosStatus::OutOfProducts);
        let scale = spectrum.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() <= 1e-12 * scale, "{values:?}");
        }
        found
    }

    #[test]
    fn every_end_is_found() {
        let spectrum: Vec<f64> = (1..=80).map(|k| 40.0 / f64::from(k) - 5.0).collect();
        check(&spectrum, 3, End::Largest, &[35.0, 15.0, 40.0 / 3.0 - 5.0]);
        check(&spectrum, 2, End::Smallest, &[-4.5, 40.0 / 79.0 - 5.0]);
        check(&spectrum, 2, End::Both, &[35.0, 15.0, -4.5, 40.0 / 79.0 - 5.0]);
        check(&[1.0, -3.0, 2.0, 0.5], 2, End::LargestMagnitude, &[-3.0, 2.0]);
    }

    #[test]
    fn repeated_eigenvalues_are_found_as_often_as_they_occur() {
        check(&[0.0; 6], 3, End::Largest, &[0.0; 3]);
        check(&[1.0; 9], 4, End::Largest, &[1.0; 4]);
        check(&[2.0], 1, End::LargestMagnitude, &[2.0]);
        check(&[0.0, 0.0, 7.0, 0.0], 3, End::Largest, &[7.0, 0.0, 0.0]);
        let mut spectrum: Vec<f64> = (1..=200).map(|k| 1.0 / f64::from(k)).collect();
        spectrum.extend([1.0, 1.0, 0.5]);
        check(&spectrum, 5, End::Largest, &[1.0, 1.0, 1.0, 0.5, 0.5]);
        check(&[1e-150, 1e-150, 3e-150], 3, End::Largest, &[3e-150, 1e-150, 1e-150]);
        check(&[1e150, 1e150, 3e150, 0.0], 2, End::Both, &[3e150, 1e150, 0.0, 1e150]);
    }

    #[test]
    fn all_pairs_of_a_small_operator_span_its_space() {
        let found = check(&[3.0, 1.0, 2.0], 3, End::Largest, &[3.0, 2.0, 1.0]);
        assert_eq!(found.status, LanczosStatus::Invariant);
    }

    #[test]
    fn running_out_of_products_returns_what_was_reached() {
        let spectrum: Vec<f64> = (0..100).map(|k| 1.0 + f64::from(k) * 1e-3).collect();
        for max_products in [1, 2, 10] {
            let options = EigenpairOptions { count: 3, max_products, ..Default::default() };
            let found = diagonal(&spectrum, options).unwrap();
            assert_eq!(found.status, LanczosStatus::OutOfProducts);
            assert_eq!(found.products, max_products);
            assert_eq!(found.pairs.len(), max_products.min(3));
            assert!(found.pairs.iter().all(|pair| pair.residual > 0.0));
        }
    }

    #[test]
    fn impossible_requests_are_refused() {
        let ask = |count, end| {
            diagonal(&[1.0, 2.0, 3.0], EigenpairOptions { count, end, ..Default::default() })
        };
        assert_eq!(ask(4, End::Largest), Err(EigenpairError::TooMany { count: 4, dim: 3 }));
        assert_eq!(ask(2, End::Both), Err(EigenpairError::TooMany { count: 4, dim: 3 }));
        assert!(ask(0, End::Largest).unwrap().pairs.is_empty());
        assert!(matches!(
            diagonal(&[1.0, f64::NAN], EigenpairOptions::default()),
            Err(EigenpairError::Product(EstimateError::NotFinite { row: 1, .. }))
        ));
        assert!(matches!(
            diagonal(&[], EigenpairOptions { count: 0, ..Default::default() }),
            Err(EigenpairError::Product(EstimateError::Empty))
        ));
    }
}
