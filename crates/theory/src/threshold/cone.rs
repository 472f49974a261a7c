//! The vectors of the Perron problem, and the cone that M keeps (S9, S13).

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use faer::Mat;
use flatmin_linalg::symmetric_eigen;

use crate::TheoryError;
use crate::minimum::UNIT_ROUNDOFF;

/// What is added to the start of a Krylov space for one output, relative to its largest entry.
const MIXED: f64 = 0.01;

/// The same for several outputs. It is also the room that a supersolution leaves for rounding, in every
/// direction of a block, so that more of it makes narrower intervals.
const MIXED_BLOCKS: f64 = 0.25;

/// n-tuples of symmetric k × k matrices, ordered by the cone of those that are positive semidefinite:
/// for k = 1 vectors, ordered entry by entry.
///
/// The coordinates of a tuple are the lower triangles of its blocks, row by row, entries below the
/// diagonal times √2: the inner product of coordinates is that of matrices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cone {
    samples: usize,
    outputs: usize,
}

impl Cone {
    pub(super) fn new(samples: usize, outputs: usize) -> Self {
        Self { samples, outputs }
    }

    pub(super) fn samples(self) -> usize {
        self.samples
    }

    pub(super) fn outputs(self) -> usize {
        self.outputs
    }

    /// Whether the vectors are plain: one output.
    pub(super) fn is_orthant(self) -> bool {
        self.outputs == 1
    }

    /// Coordinates of a block.
    fn block_len(self) -> usize {
        self.outputs * (self.outputs + 1) / 2
    }

    /// The tuple of identities.
    pub(super) fn unit(self) -> Vec<f64> {
        if self.is_orthant() {
            return vec![1.0; self.samples];
        }
        let mut block = vec![0.0; self.block_len()];
        for a in 0..self.outputs {
            block[place(a, a)] = 1.0;
        }
        block.repeat(self.samples)
    }

    /// The blocks of a tuple as matrices.
    pub(super) fn blocks(self, vector: &[f64]) -> impl Iterator<Item = Mat<f64>> {
        let k = self.outputs;
        vector.chunks(self.block_len()).map(move |block| {
            Mat::from_fn(k, k, |a, b| {
                let value = block[place(a, b)];
                if a == b { value } else { value * FRAC_1_SQRT_2 }
            })
        })
    }

    /// Makes coordinates of the lower triangles of blocks.
    pub(super) fn to_coordinates(self, triangles: &mut [f64]) {
        if self.is_orthant() {
            return;
        }
        for block in triangles.chunks_mut(self.block_len()) {
            for a in 0..self.outputs {
                for value in &mut block[place(a, 0)..place(a, a)] {
                    *value *= SQRT_2;
                }
            }
        }
    }

    /// How far above the root, relative, the level of a supersolution must be put at least, for its blocks to
    /// be positive definite [beyond doubt](is_definite) and to leave the same room. Zero for one output.
    pub(super) fn least_offset(self) -> f64 {
        let k = self.outputs;
        if self.is_orthant() { 0.0 } else { 4.0 / MIXED_BLOCKS * k as f64 * doubt(k) }
    }

    /// Whether a tuple lies inside the cone, beyond doubt about rounding.
    pub(super) fn contains(self, vector: &[f64]) -> bool {
        if self.is_orthant() {
            return vector.iter().all(|v| *v > 0.0 && v.is_finite());
        }
        self.blocks(vector).all(|block| is_definite(&block, 0.0))
    }

    /// Whether `factor · bound − vector` lies inside the cone, about.
    pub(super) fn is_below(self, vector: &[f64], bound: &[f64], factor: f64) -> bool {
        if self.is_orthant() {
            return vector.iter().zip(bound).all(|(v, b)| *v <= factor * b);
        }
        let slack: Vec<f64> = bound.iter().zip(vector).map(|(b, v)| factor * b - v).collect();
        self.contains(&slack)
    }

    /// A tuple inside the cone near `vector`, which is one already but for rounding and its sign: scaled to
    /// a largest entry (or eigenvalue) of 1, none below 1e-30.
    pub(super) fn positive(self, mut vector: Vec<f64>) -> Result<Vec<f64>, TheoryError> {
        if self.is_orthant() {
            let largest = vector.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            for value in &mut vector {
                *value = (value.abs() / largest).max(1e-30);
            }
            return Ok(vector);
        }
        let absolute = self.absolute(&vector)?;
        let scale = 1.0 / absolute.largest;
        // As it is where that is possible: what is put together again is rounded once more.
        let source = if self.contains(&vector) { vector } else { absolute.vector };
        let mut scaled: Vec<f64> = source.into_iter().map(|value| scale * value).collect();
        for (block, largest) in scaled.chunks_mut(self.block_len()).zip(absolute.block_largest) {
            if scale * largest < 1e-30 {
                block.fill(0.0);
                for a in 0..self.outputs {
                    block[place(a, a)] = 1e-30;
                }
            }
        }
        Ok(scaled)
    }

    /// The absolute value of a Ritz vector, with a part of the largest entry (or eigenvalue) added to each:
    /// a start inside the cone that is rich in the Perron vector and misses no part of M.
    pub(super) fn mixed(self, vector: &[f64]) -> Result<Vec<f64>, TheoryError> {
        if self.is_orthant() {
            let largest = vector.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            return Ok(vector.iter().map(|v| v.abs() / largest + MIXED).collect());
        }
        let Absolute { vector, largest, .. } = self.absolute(vector)?;
        let unit = self.unit();
        Ok(vector.iter().zip(unit).map(|(v, one)| v / largest + MIXED_BLOCKS * one).collect())
    }

    /// The absolute values `(Q_i²)^½` of the blocks, with their eigenvalues kept off zero.
    fn absolute(self, vector: &[f64]) -> Result<Absolute, TheoryError> {
        let mut coordinates = Vec::with_capacity(vector.len());
        let mut block_largest = Vec::with_capacity(self.samples);
        for block in self.blocks(vector) {
            let eigen = symmetric_eigen(block.as_ref())?;
            let largest = eigen.values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            // Beyond doubt about rounding, which `is_definite` relates to the trace.
            let least = 4.0 * self.outputs as f64 * doubt(self.outputs) * largest;
            let values: Vec<f64> = eigen.values.iter().map(|v| v.abs().max(least)).collect();
            for a in 0..self.outputs {
                for b in 0..=a {
                    let products = (0..self.outputs)
                        .map(|c| values[c] * eigen.vectors[(a, c)] * eigen.vectors[(b, c)]);
                    coordinates.push(products.sum());
                }
            }
            block_largest.push(largest);
        }
        self.to_coordinates(&mut coordinates);
        let largest = block_largest.iter().fold(0.0, |m: f64, v| m.max(*v));
        Ok(Absolute { vector: coordinates, largest, block_largest })
    }
}

struct Absolute {
    vector: Vec<f64>,
    /// The largest eigenvalue of all blocks.
    largest: f64,
    /// That of each.
    block_largest: Vec<f64>,
}

/// The place of entry (a, b) of a symmetric block among its coordinates.
fn place(a: usize, b: usize) -> usize {
    let (row, column) = (a.max(b), a.min(b));
    row * (row + 1) / 2 + column
}

/// What the rounding of a Cholesky decomposition of a k × k matrix A can do, relative to tr A. `(k+2) u` is
/// enough (Rump 2006).
fn doubt(k: usize) -> f64 {
    (4 * k + 32) as f64 * UNIT_ROUNDOFF
}

/// Whether `matrix − shift · I`, of which the lower triangle is read, is positive definite beyond doubt about
/// rounding: whether a Cholesky decomposition succeeds when the doubt is subtracted too.
pub(super) fn is_definite(matrix: &Mat<f64>, shift: f64) -> bool {
    let k = matrix.nrows();
    let trace: f64 = (0..k).map(|i| matrix[(i, i)].abs()).sum();
    let margin = shift + doubt(k) * trace;
    let mut factor = Mat::<f64>::zeros(k, k);
    for j in 0..k {
        let squares: f64 = (0..j).map(|c| factor[(j, c)] * factor[(j, c)]).sum();
        let pivot = matrix[(j, j)] - margin - squares;
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
        let root = pivot.sqrt();
        factor[(j, j)] = root;
        for i in j + 1..k {
            let products: f64 = (0..j).map(|c| factor[(i, c)] * factor[(j, c)]).sum();
            factor[(i, j)] = (matrix[(i, j)] - products) / root;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::f64::consts::SQRT_2;

    use super::Cone;

    #[test]
    fn coordinates_have_the_inner_product_of_matrices() {
        let cone = Cone::new(1, 2);
        // [[1, 2], [2, 5]] with itself: 1 + 4 + 4 + 25.
        let mut vector = vec![1.0, 2.0, 5.0];
        cone.to_coordinates(&mut vector);
        let square: f64 = vector.iter().map(|value| value * value).sum();
        assert!((square - 34.0).abs() < 1e-13);
        let block = cone.blocks(&vector).next().unwrap();
        assert!((block[(0, 1)] - 2.0).abs() < 1e-15 && (block[(1, 1)] - 5.0).abs() < 1e-15);
        assert_eq!(cone.unit(), [1.0, 0.0, 1.0]);
    }

    #[test]
    fn definite_blocks_lie_inside() {
        let cone = Cone::new(2, 2);
        let inside = |entry: f64| cone.contains(&[1.0, 0.0, 1.0, 1.0, SQRT_2 * entry, 1.0]);
        assert!(inside(0.999) && inside(-0.999));
        assert!(!inside(1.0) && !inside(1.001) && !inside(f64::NAN));
        // Within rounding of singular: not known to be definite.
        assert!(!inside(1.0 - 1e-16));
        let bound = cone.unit();
        assert!(cone.is_below(&[0.5; 6], &bound, 1.0));
        assert!(!cone.is_below(&[0.9; 6], &bound, 1.0));
    }

    #[test]
    fn any_tuple_is_made_positive() {
        let cone = Cone::new(3, 2);
        // Minus a projection, nothing, and an indefinite block.
        let vector = vec![-2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let positive = cone.positive(vector.clone()).unwrap();
        assert!(cone.contains(&positive), "{positive:?}");
        assert!((positive[0] - 1.0).abs() < 1e-15, "{positive:?}");
        let mixed = cone.mixed(&vector).unwrap();
        assert!(cone.contains(&mixed) && mixed[3] > 0.1, "{mixed:?}");
    }
}
