//! A square array that is symmetric, found while its columns stream by.

use super::layout::mix;

/// A difference of an entry from its mirror image, relative to the mean entry of a row, that
/// rounding in single precision may leave.
const ROUNDING: f64 = 1e-5;

/// An entry may exceed the bound of Cauchy and Schwarz by this, relative to the bound: rounding in
/// bfloat16 leaves 2⁻⁸ for rows that are parallel.
const EXCESS: f64 = 1e-2;

/// Second differences and Laplacians of graphs have two numbers off the diagonal, fourth differences
/// three (0, −4, 1). Products of counts have more.
const FEW: usize = 3;

/// The collector of facts that tell if a square array J is a Gram matrix.
///
/// `uᵀJv − vᵀJu` vanishes for symmetric J, and hardly for another one, as u and v have no pattern.
/// One number is kept for each row, so that the array may be larger than memory.
#[derive(Debug)]
pub(super) struct Symmetry {
    probes: Vec<[f64; 2]>,
    /// The square roots of the diagonal entries that were seen.
    roots: Vec<Option<f64>>,
    /// `uᵀJv − vᵀJu`.
    skew: f64,
    /// The sum of all absolute values.
    size: f64,
    has_off_diagonal: bool,
    /// The first different numbers off the diagonal.
    numbers: Vec<u64>,
    /// True while no entry contradicts a positive semidefinite matrix.
    is_possible: bool,
}

impl Symmetry {
    /// The collector for `rows` rows and columns.
    pub(super) fn new(rows: usize) -> Self {
        let number =
            |index: usize| (mix(1, index as u64) >> 11) as f64 / (1_u64 << 53) as f64 - 0.5;
        Self {
            probes: (0..rows).map(|row| [number(2 * row + 1), number(2 * row + 2)]).collect(),
            roots: vec![None; rows],
            skew: 0.0,
            size: 0.0,
            has_off_diagonal: false,
            numbers: Vec::new(),
            is_possible: true,
        }
    }

    /// Notes the `width` columns from `first` on; `entry(row, column)` counts from the first one.
    pub(super) fn add(&mut self, first: usize, width: usize, entry: impl Fn(usize, usize) -> f64) {
        for column in 0..width {
            let value = entry(first + column, column);
            self.is_possible &= value >= 0.0;
            self.roots[first + column] = Some(value.max(0.0).sqrt());
        }
        for column in 0..width {
            if !self.is_possible {
                return;
            }
            let at = first + column;
            let [u, v] = self.probes[at];
            let root = self.roots[at].unwrap_or(0.0);
            for (row, ([ur, vr], other)) in self.probes.iter().zip(&self.roots).enumerate() {
                let value = entry(row, column);
                self.skew += value * (ur * v - vr * u);
                self.size += value.abs();
                self.has_off_diagonal |= row != at && value != 0.0;
                let bits = (value + 0.0).to_bits();
                if row != at && self.numbers.len() <= FEW && !self.numbers.contains(&bits) {
                    self.numbers.push(bits);
                }
                // A row whose diagonal entry is still to come meets this column's there.
                let fits = other.is_none_or(|other| value.abs() <= (1.0 + EXCESS) * root * other);
                self.is_possible &= fits;
            }
        }
    }

    /// True if few different numbers stand off the diagonal, as in a difference operator or in the
    /// Laplacian of a graph.
    pub(super) fn has_few_numbers(&self) -> bool {
        self.numbers.len() <= FEW
    }

    /// True if the array is symmetric to rounding and no diagonal matrix, its diagonal is not
    /// negative, and `|K_ij| ≤ √(K_ii K_jj)` holds for all entries.
    pub(super) fn is_gram(&self) -> bool {
        let rows = self.roots.len() as f64;
        self.is_possible
            && self.has_off_diagonal
            && self.skew.abs() <= ROUNDING * (self.size / rows)
    }
}

#[cfg(test)]
mod tests {
    use super::Symmetry;

    fn is_gram(matrix: &[[f64; 4]; 4], width: usize) -> bool {
        let mut symmetry = Symmetry::new(4);
        for first in (0..4).step_by(width) {
            symmetry.add(first, width, |row, column| matrix[row][first + column]);
        }
        symmetry.is_gram()
    }

    #[test]
    fn few_numbers_off_the_diagonal_are_those_of_an_operator() {
        let has_few = |entry: fn(usize, usize) -> f64| {
            let mut symmetry = Symmetry::new(6);
            symmetry.add(0, 6, entry);
            symmetry.is_gram() && symmetry.has_few_numbers()
        };
        let differences = |i: usize, j: usize| match i.abs_diff(j) {
            0 => 6.0,
            1 => -4.0,
            2 => 1.0,
            _ => 0.0,
        };
        assert!(has_few(differences));
        assert!(!has_few(|i, j| (i.min(j) + 1) as f64));
    }

    #[test]
    fn gram_matrices_are_symmetric_and_bounded_by_their_diagonals() {
        let rows = [[1.0, 0.3, -0.2], [0.4, 2.0, 0.7], [0.1, 0.9, 1.1], [0.0, 0.0, 0.0]];
        let product = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let gram = rows.map(|a| rows.map(|b| product(&a, &b)));
        for width in [1, 2, 4] {
            assert!(is_gram(&gram, width));
            let mut other = gram;
            other[2][0] += 1e-3;
            assert!(!is_gram(&other, width), "not symmetric");
            other = gram;
            (other[1][2], other[2][1]) = (9.0, 9.0);
            assert!(!is_gram(&other, width), "beyond the diagonal");
            other = gram;
            other[1][1] = -1.0;
            assert!(!is_gram(&other, width), "negative diagonal");
            let diagonal =
                [0, 1, 2, 3].map(|i| [0, 1, 2, 3].map(|j| if i == j { 2.5 } else { 0.0 }));
            assert!(!is_gram(&diagonal, width));
        }
    }
}
