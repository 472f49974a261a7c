//! The vectors of the Perron problem, and the cone that M keeps (S9, S13).

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use faer::Mat;
use flatmin_linalg::{EigenError, cholesky_margin, is_positive_definite, symmetric_eigen};

/// The fraction of the largest entry that is added to every entry of the start of a Krylov space,
/// for one output.
const MIXED: f64 = 0.01;

/// The fraction for several outputs. It is also the margin that a supersolution leaves for rounding
/// in every direction of a block, so that a larger fraction makes narrower intervals.
const MIXED_BLOCKS: f64 = 0.25;

/// n-tuples of symmetric k × k matrices, ordered by the cone of positive semidefinite ones. For k =
/// 1 these are vectors, ordered entry by entry.
///
/// The coordinates of a tuple are the lower triangles of its blocks, row by row, entries below the
/// diagonal times √2: the inner product of coordinates is the inner product of matrices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cone {
    pub(crate) samples: usize,
    pub(crate) outputs: usize,
}

impl Cone {
    /// True if there is one output, so that tuples are plain vectors.
    pub(crate) fn is_orthant(self) -> bool {
        self.outputs == 1
    }

    /// The number of coordinates of a block.
    fn block_len(self) -> usize {
        self.outputs * (self.outputs + 1) / 2
    }

    /// The tuple of identity matrices.
    pub(crate) fn unit(self) -> Vec<f64> {
        if self.is_orthant() {
            return vec![1.0; self.samples];
        }
        let mut block = vec![0.0; self.block_len()];
        for a in 0..self.outputs {
            block[index(a, a)] = 1.0;
        }
        block.repeat(self.samples)
    }

    /// The blocks of a tuple as matrices.
    pub(crate) fn blocks(self, vector: &[f64]) -> impl Iterator<Item = Mat<f64>> {
        let k = self.outputs;
        vector.chunks(self.block_len()).map(move |block| {
            Mat::from_fn(k, k, |a, b| {
                let value = block[index(a, b)];
                if a == b { value } else { value * FRAC_1_SQRT_2 }
            })
        })
    }

    /// Turns lower triangles of blocks into coordinates, in place.
    pub(crate) fn to_coordinates(self, triangles: &mut [f64]) {
        if self.is_orthant() {
            return;
        }
        for block in triangles.chunks_mut(self.block_len()) {
            for a in 0..self.outputs {
                for value in &mut block[index(a, 0)..index(a, a)] {
                    *value *= SQRT_2;
                }
            }
        }
    }

    /// The least relative distance of the level of a supersolution above the root at which its
    /// blocks are [provably](is_positive_definite) positive definite, times two for safety. Zero
    /// for one output.
    pub(crate) fn least_offset(self) -> f64 {
        let k = self.outputs;
        if self.is_orthant() { 0.0 } else { 4.0 / MIXED_BLOCKS * k as f64 * cholesky_margin(k) }
    }

    /// True if a tuple provably lies inside the cone, rounding included.
    pub(crate) fn contains(self, vector: &[f64]) -> bool {
        if self.is_orthant() {
            return vector.iter().all(|v| *v > 0.0 && v.is_finite());
        }
        self.blocks(vector).all(|block| is_positive_definite(block.as_ref(), 0.0))
    }

    /// True if `factor · bound − vector` lies inside the cone; the difference is rounded.
    pub(crate) fn is_below(self, vector: &[f64], bound: &[f64], factor: f64) -> bool {
        if self.is_orthant() {
            return vector.iter().zip(bound).all(|(v, b)| *v <= factor * b);
        }
        let slack: Vec<f64> = bound.iter().zip(vector).map(|(b, v)| factor * b - v).collect();
        self.contains(&slack)
    }

    /// A tuple inside the cone near `vector`, which lies there itself up to rounding and its sign.
    /// Its largest entry (or eigenvalue) is scaled to 1, and none is below 1e-30.
    pub(crate) fn positive(self, mut vector: Vec<f64>) -> Result<Vec<f64>, EigenError> {
        if self.is_orthant() {
            let largest = vector.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            for value in &mut vector {
                *value = (value.abs() / largest).max(1e-30);
            }
            return Ok(vector);
        }
        let absolute = self.absolute(&vector)?;
        let scale = 1.0 / absolute.largest;
        // The vector itself is better if it lies inside, because its absolute value has one more
        // rounding.
        let source = if self.contains(&vector) { vector } else { absolute.vector };
        let mut scaled: Vec<f64> = source.into_iter().map(|value| scale * value).collect();
        for (block, largest) in scaled.chunks_mut(self.block_len()).zip(absolute.block_largest) {
            if scale * largest < 1e-30 {
                block.fill(0.0);
                for a in 0..self.outputs {
                    block[index(a, a)] = 1e-30;
                }
            }
        }
        Ok(scaled)
    }

    /// The absolute value of a Ritz vector, with a fraction of the largest entry (or eigenvalue)
    /// added to each. The result is a start inside the cone with a large component along the Perron
    /// vector and a component in every block of M.
    pub(crate) fn mixed(self, vector: &[f64]) -> Result<Vec<f64>, EigenError> {
        if self.is_orthant() {
            let largest = vector.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            return Ok(vector.iter().map(|v| v.abs() / largest + MIXED).collect());
        }
        let Absolute { vector, largest, .. } = self.absolute(vector)?;
        let unit = self.unit();
        Ok(vector.iter().zip(unit).map(|(v, one)| v / largest + MIXED_BLOCKS * one).collect())
    }

    /// The absolute values `(Q_i²)^½` of the blocks, with their eigenvalues kept off zero.
    fn absolute(self, vector: &[f64]) -> Result<Absolute, EigenError> {
        let mut coordinates = Vec::with_capacity(vector.len());
        let mut block_largest = Vec::with_capacity(self.samples);
        for block in self.blocks(vector) {
            let eigen = symmetric_eigen(block.as_ref())?;
            let largest = eigen.values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            // This exceeds the margin of a Cholesky decomposition, which is relative to the trace.
            let least = 4.0 * self.outputs as f64 * cholesky_margin(self.outputs) * largest;
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
    /// The largest eigenvalue of each block.
    block_largest: Vec<f64>,
}

/// The index of entry (a, b) of a symmetric block among its coordinates.
fn index(a: usize, b: usize) -> usize {
    let (row, column) = (a.max(b), a.min(b));
    row * (row + 1) / 2 + column
}

#[cfg(test)]
mod tests {
    use std::f64::consts::SQRT_2;

    use super::Cone;

    #[test]
    fn coordinates_have_the_inner_product_of_matrices() {
        let cone = Cone { samples: 1, outputs: 2 };
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
        let cone = Cone { samples: 2, outputs: 2 };
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
        let cone = Cone { samples: 3, outputs: 2 };
        // Minus a projection, nothing, and an indefinite block.
        let vector = vec![-2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0];
        let positive = cone.positive(vector.clone()).unwrap();
        assert!(cone.contains(&positive), "{positive:?}");
        assert!((positive[0] - 1.0).abs() < 1e-15, "{positive:?}");
        let mixed = cone.mixed(&vector).unwrap();
        assert!(cone.contains(&mixed) && mixed[3] > 0.1, "{mixed:?}");
    }
}
