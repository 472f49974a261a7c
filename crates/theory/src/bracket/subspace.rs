//! The leading modes of the Gram matrix, by block Krylov spaces with thick restarts.

use faer::{Mat, MatRef};
use flatmin_linalg::{Parallelism, columns_mut, product, stream, symmetric_eigen, thin_qr};
use rand_distr::{Distribution as _, StandardNormal};

use super::columns::{Columns, TallMatrix, inner_products};
use super::counted::CountedGram;
use super::error::BracketError;

/// The purpose of the random streams, one for each block of random directions.
const SUBSPACE_STREAM: &str = "threshold bracket subspace";

/// The purpose of the random combination of stored vectors that is multiplied again.
const CHECK_STREAM: &str = "threshold bracket check";

/// A relative difference between two products with the same vector that a stored subspace may show.
const MAX_DRIFT: f64 = 1e-5;

/// A space of functions on the outputs that contains approximate leading eigenvectors of the Gram
/// matrix `K = JJᵀ/n`, found by products with J.
///
/// It starts empty, is grown by [`continue_bracket`](crate::continue_bracket), and can be stored
/// ([`write_to`](Self::write_to), or the feature `serde`) and used again: for the same Jacobian with
/// another batch size or optimizer, with more products for a narrower bracket, or after an
/// interruption.
///
/// With an orthonormal basis Q and the next block N, `K Q = Q T + N C`. Every product enters this
/// identity, and both Q and `K Q` follow from it.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Subspace {
    pub(super) basis: TallMatrix,
    /// N, orthonormal and orthogonal to Q.
    pub(super) next: Columns,
    /// T, symmetric.
    pub(super) projection: Columns,
    /// C.
    pub(super) coupling: Columns,
    /// The exponent of the power of two that J was divided by.
    pub(super) exponent: i32,
    /// Products with J and its transpose so far.
    pub(super) products: usize,
    /// The number of random blocks drawn so far.
    pub(super) draws: u64,
    /// The bound on the rest of the spectrum, if it still applies.
    pub(super) tail: Option<Tail>,
    /// What the last certified bound was of the guess at that dimension: later guesses are raised
    /// by it.
    pub(super) optimism: f64,
}

/// An upper bound on the largest eigenvalue of K on the complement of some Ritz vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Tail {
    /// The number of leading Ritz vectors of the complement.
    pub(super) modes: usize,
    pub(super) bound: f64,
    /// The probability that the bound is wrong.
    pub(super) failure: f64,
}

/// The Ritz pairs of a subspace, the largest first.
pub(super) struct RitzPairs {
    pub(super) values: Vec<f64>,
    /// S, with the Ritz vectors `Q S`.
    pub(super) rotation: Mat<f64>,
    /// `C S`, with the residuals `N C S`.
    pub(super) coupling: Mat<f64>,
    /// The norms of the residuals.
    pub(super) residuals: Vec<f64>,
}

impl Default for Subspace {
    fn default() -> Self {
        Self::new()
    }
}

impl Subspace {
    /// The empty space.
    pub fn new() -> Self {
        let empty = Columns::from_mat(Mat::<f64>::new().as_ref());
        Self {
            basis: TallMatrix::new(0),
            next: empty.clone(),
            projection: empty.clone(),
            coupling: empty,
            exponent: 0,
            products: 0,
            draws: 0,
            tail: None,
            optimism: 1.0,
        }
    }

    /// The space of given orthonormal vectors.
    #[cfg(test)]
    pub(super) fn of(basis: &Mat<f64>, gram: &mut CountedGram<'_>) -> Self {
        let mut residual = gram.multiply(basis.as_ref()).unwrap();
        let projection = product(basis.transpose(), residual.as_ref());
        residual -= product(basis.as_ref(), projection.as_ref());
        let (next, coupling) = thin_qr(residual.as_ref());
        let mut blocks = TallMatrix::new(gram.rows());
        blocks.push(Columns::from_mat(basis.as_ref()));
        Self {
            basis: blocks,
            next: Columns::from_mat(next.as_ref()),
            projection: Columns::from_mat(projection.as_ref()),
            coupling: Columns::from_mat(coupling.as_ref()),
            exponent: gram.unit.exponent(),
            ..Self::new()
        }
    }

    /// The dimension m of the space.
    pub fn dimension(&self) -> usize {
        self.basis.count()
    }

    /// The number of products with J and with its transpose that the space has cost so far, one for
    /// each vector.
    pub fn products(&self) -> usize {
        self.products
    }

    /// The trace of K on the space.
    pub(super) fn trace(&self) -> f64 {
        let projection = self.projection.as_mat();
        (0..self.dimension()).map(|i| projection[(i, i)]).sum()
    }

    pub(super) fn basis(&self) -> &TallMatrix {
        &self.basis
    }

    pub(super) fn next(&self) -> MatRef<'_, f64> {
        self.next.as_mat()
    }

    /// True if K maps the space into itself, to rounding, and has no more directions to offer.
    pub(super) fn is_full(&self) -> bool {
        self.dimension() > 0 && self.next.count() == 0
    }

    /// The number of vectors of the next product.
    pub(super) fn next_width(&self, gram: &CountedGram<'_>, block_size: usize) -> usize {
        if self.next.count() > 0 { self.next.count() } else { block_size.min(gram.rows()) }
    }

    /// Checks that the space belongs to this Jacobian. Costs one product with K.
    pub(super) fn check(&self, gram: &mut CountedGram<'_>) -> Result<(), BracketError> {
        let (m, next) = (self.dimension(), self.next.count());
        if self.basis.is_empty() && self.next.is_empty() {
            return Ok(());
        }
        if !self.is_sound(gram) {
            return Err(BracketError::SubspaceShape { rows: gram.rows() });
        }
        if m == 0 {
            return Ok(());
        }
        if !gram.affords(1) {
            return Ok(());
        }
        // A combination of all vectors, so that a difference in any of their images is seen.
        let mut rng = stream(0, CHECK_STREAM, 0);
        let weights = Mat::from_fn(m, 1, |_, _| StandardNormal.sample(&mut rng));
        let sequential = Parallelism::Sequential;
        let vector = self.basis.combined_rows(weights.as_ref(), None, sequential);
        let mut image =
            gram.multiply(MatRef::from_column_major_slice(vector.values(), gram.rows(), 1))?;
        let size = image.norm_l2();
        let column = product(self.projection.as_mat(), weights.as_ref());
        self.basis.subtract_from(image.as_mut(), column.as_ref(), sequential);
        if next > 0 {
            let column = product(self.coupling.as_mat(), weights.as_ref());
            image -= product(self.next(), column.as_ref());
        }
        let defect = image.norm_l2() / size;
        if defect <= MAX_DRIFT { Ok(()) } else { Err(BracketError::SubspaceDiffers { defect }) }
    }

    /// True if the lengths fit each other and this Jacobian, as those of a stored space need not.
    fn is_sound(&self, gram: &CountedGram<'_>) -> bool {
        let (m, next) = (self.dimension(), self.next.count());
        let is_bound = |tail: Tail| {
            tail.modes <= m && tail.bound >= 0.0 && (0.0..=1.0).contains(&tail.failure)
        };
        self.basis.rows() == gram.rows()
            && self.exponent == gram.unit.exponent()
            && self.basis.is_valid()
            // Orthonormal vectors are no more than the rows.
            && m + next <= gram.rows()
            && (self.next.is_empty() || self.next.is_valid(gram.rows()))
            && self.projection.is_valid(m)
            && self.projection.count() == m
            && (next == 0 || m == 0 || (self.coupling.is_valid(next) && self.coupling.count() == m))
            && self.tail.is_none_or(is_bound)
    }

    /// Multiplies the next block with K and adds it to the space.
    pub(super) fn grow(
        &mut self,
        gram: &mut CountedGram<'_>,
        block_size: usize,
        seed: u64,
        parallelism: Parallelism,
    ) -> Result<(), BracketError> {
        if self.dimension() == 0 && self.next.count() == 0 {
            self.basis = TallMatrix::new(gram.rows());
            self.exponent = gram.unit.exponent();
            let width = block_size.min(gram.rows());
            let start = self.random(gram.rows(), width, seed);
            self.next = Columns::from_mat(thin_qr(start.as_ref()).0.as_ref());
        }
        let (m, width) = (self.dimension(), self.next.count());
        let mut image = gram.multiply(self.next())?;
        // A stored count may be anything.
        self.products = self.products.saturating_add(2 * width);
        // Two passes make the image orthogonal to rounding.
        let mut diagonal = Mat::<f64>::zeros(width, width);
        for _ in 0..2 {
            let inner = inner_products(self.next(), image.as_ref(), parallelism);
            let outer = self.basis.transposed_times(image.as_ref(), parallelism);
            self.basis.subtract_from(image.as_mut(), outer.as_ref(), parallelism);
            let block = TallMatrix::of(self.next.clone());
            block.subtract_from(image.as_mut(), inner.as_ref(), parallelism);
            diagonal += inner;
        }
        let coupling = self.coupling.as_mat();
        let old = self.projection.as_mat();
        let projection = Mat::from_fn(m + width, m + width, |i, j| match (i < m, j < m) {
            (true, true) => old[(i, j)],
            (false, true) => coupling[(i - m, j)],
            (true, false) => coupling[(j - m, i)],
            (false, false) => 0.5 * (diagonal[(i - m, j - m)] + diagonal[(j - m, i - m)]),
        });
        self.basis.push(std::mem::replace(&mut self.next, Columns::from_mat(Mat::new().as_ref())));
        self.projection = Columns::from_mat(projection.as_ref());
        let (next, upper) = self.orthonormal(image, gram.rows(), seed, parallelism);
        let coupling =
            Mat::from_fn(
                next.ncols(),
                m + width,
                |i, j| {
                    if j < m { 0.0 } else { upper[(i, j - m)] }
                },
            );
        self.next = Columns::from_mat(next.as_ref());
        self.coupling = Columns::from_mat(coupling.as_ref());
        self.tail = None;
        Ok(())
    }

    /// An orthonormal basis N of as much of the image as the complement of the space has room for,
    /// and R with `image = N R`. Directions that the image lacks are random, with zero rows of R.
    fn orthonormal(
        &mut self,
        mut image: Mat<f64>,
        rows: usize,
        seed: u64,
        parallelism: Parallelism,
    ) -> (Mat<f64>, Mat<f64>) {
        let width = image.ncols();
        let room = (rows - self.dimension()).min(width);
        if room == 0 {
            return (Mat::new(), Mat::zeros(0, width));
        }
        let scale = self.projection.as_mat().norm_max();
        let (mut next, mut upper) = thin_qr(image.as_ref());
        let tiny = 1e-13 * scale;
        let is_weak = |i: usize, upper: &Mat<f64>| (i..width).all(|j| upper[(i, j)].abs() <= tiny);
        if (0..width).any(|i| is_weak(i, &upper)) {
            // Rounding alone would choose these directions.
            let weak: Vec<usize> = (0..width).filter(|i| is_weak(*i, &upper)).collect();
            let fresh = self.random(rows, weak.len(), seed);
            for (j, column) in weak.iter().enumerate() {
                next.col_mut(*column).copy_from(fresh.col(j));
                (0..width).for_each(|l| upper[(*column, l)] = 0.0);
            }
        }
        for _ in 0..2 {
            let outer = self.basis.transposed_times(next.as_ref(), parallelism);
            self.basis.subtract_from(next.as_mut(), outer.as_ref(), parallelism);
            let (again, factor) = thin_qr(next.as_ref());
            upper = product(factor.as_ref(), upper.as_ref());
            next = again;
        }
        image.resize_with(0, 0, |_, _| 0.0);
        if room < width {
            // Only the leading directions fit. They span all that is left.
            next = next.subcols(0, room).to_owned();
            upper = upper.subrows(0, room).to_owned();
        }
        (next, upper)
    }

    fn random(&mut self, rows: usize, count: usize, seed: u64) -> Mat<f64> {
        let mut rng = stream(seed, SUBSPACE_STREAM, self.draws);
        self.draws = self.draws.wrapping_add(1);
        let mut vectors = Mat::zeros(rows, count);
        for value in columns_mut(vectors.as_mut()).into_iter().flatten() {
            *value = StandardNormal.sample(&mut rng);
        }
        vectors
    }

    /// The Ritz pairs, the largest first.
    pub(super) fn ritz_pairs(&self) -> Result<RitzPairs, BracketError> {
        let m = self.dimension();
        let eigen = symmetric_eigen(self.projection.as_mat())?;
        let rotation = Mat::from_fn(m, m, |i, j| eigen.vectors[(i, m - 1 - j)]);
        let values = eigen.values.iter().rev().copied().collect();
        let coupling = if self.next.count() > 0 {
            product(self.coupling.as_mat(), rotation.as_ref())
        } else {
            Mat::zeros(0, m)
        };
        let residuals = coupling.col_iter().map(|column| column.norm_l2()).collect();
        Ok(RitzPairs { values, rotation, coupling, residuals })
    }

    /// Keeps the leading Ritz vectors only, and the next block.
    pub(super) fn restart(&mut self, pairs: &RitzPairs, kept: usize, parallelism: Parallelism) {
        self.basis.rotate(pairs.rotation.subcols(0, kept), parallelism);
        let projection =
            Mat::from_fn(kept, kept, |i, j| if i == j { pairs.values[i] } else { 0.0 });
        self.projection = Columns::from_mat(projection.as_ref());
        self.coupling = Columns::from_mat(pairs.coupling.subcols(0, kept));
        self.tail = self.tail.filter(|tail| tail.modes <= kept);
    }
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use flatmin_linalg::{DenseJacobian, Parallelism, RowMatrix, product, symmetric_eigenvalues};

    use super::{CountedGram, Subspace};

    fn jacobian() -> RowMatrix {
        RowMatrix::from_fn(60, 40, |i, j| {
            let entry = ((i * 7919 + j * 104_729 + i * i * j) % 1009) as f64 / 504.5 - 1.0;
            entry / (1.0 + j as f64)
        })
    }

    #[test]
    fn the_leading_modes_are_found_and_the_identity_holds() {
        let matrix = jacobian();
        let gram_matrix = product(matrix.as_mat(), matrix.as_mat().transpose());
        let exact = symmetric_eigenvalues(gram_matrix.as_ref()).unwrap();
        let dense = DenseJacobian::new(&matrix, 1, Parallelism::Sequential).unwrap();
        let mut gram = CountedGram::new(&dense, 0, usize::MAX).unwrap();
        let mut space = Subspace::new();
        let parallelism = Parallelism::Sequential;
        for step in 0..40 {
            if space.is_full() {
                break;
            }
            space.grow(&mut gram, 4, 0, parallelism).unwrap();
            space.check(&mut gram).unwrap();
            let m = space.dimension();
            let identity = Mat::<f64>::identity(m, m);
            let rows = space.basis().combined_rows(identity.as_ref(), None, parallelism);
            let inner = product(rows.as_mat().transpose(), rows.as_mat());
            assert!((&inner - &identity).norm_max() < 1e-13, "{step}");
            if step == 7 {
                let pairs = space.ritz_pairs().unwrap();
                space.restart(&pairs, 10, parallelism);
                space.check(&mut gram).unwrap();
            }
        }
        assert!(space.is_full());
        let pairs = space.ritz_pairs().unwrap();
        let unit = gram.unit.squared();
        for (found, expected) in pairs.values.iter().zip(exact.iter().rev()) {
            assert!((unit.times(*found) * 60.0 - expected).abs() < 1e-12 * exact[59]);
        }
        // Another Jacobian is noticed.
        let other = RowMatrix::from_fn(60, 40, |i, j| matrix.row(i)[j] * (1.0 + 1e-3 * j as f64));
        let dense = DenseJacobian::new(&other, 1, Parallelism::Sequential).unwrap();
        let mut gram = CountedGram::new(&dense, 0, usize::MAX).unwrap();
        assert!(space.check(&mut gram).is_err());
    }
}
