//! The largest eigenvalue of a small pencil of matrices with errors.

use faer::Mat;
use faer::prelude::Solve as _;

/// The least share of a block that those before it must leave for it to count.
const LEAST_PIVOT: f64 = 0.05;

/// The matrix B of a pencil `H − ρB`, with the rows and columns that are not nearly those of others.
pub(super) struct Pencil {
    kept: Vec<usize>,
    /// B on the kept rows and columns.
    matrix: Mat<f64>,
}

/// An eigenvalue of a pencil, with its left and right eigenvectors l and r.
pub(super) struct PencilPair {
    pub(super) value: f64,
    kept: Vec<usize>,
    left: Vec<f64>,
    right: Vec<f64>,
    /// `lᵀBr`.
    product: f64,
}

impl Pencil {
    /// `None` if the first diagonal entry is not positive.
    pub(super) fn new(matrix: &Mat<f64>) -> Option<Self> {
        let diagonal = |a: usize| matrix[(a, a)];
        let scaled = |a: usize, b: usize| matrix[(a, b)] / (diagonal(a) * diagonal(b)).sqrt();
        let mut kept: Vec<usize> = Vec::new();
        for block in 0..matrix.nrows() {
            if !(diagonal(block) > 0.0 && diagonal(block).is_finite()) {
                continue;
            }
            let mut trial = kept.clone();
            trial.push(block);
            let scaled = Mat::from_fn(trial.len(), trial.len(), |a, b| scaled(trial[a], trial[b]));
            let before = scaled.get(..kept.len(), ..kept.len()).determinant();
            if scaled.determinant() >= LEAST_PIVOT * before {
                kept = trial;
            }
        }
        let matrix = Mat::from_fn(kept.len(), kept.len(), |a, b| matrix[(kept[a], kept[b])]);
        (!kept.is_empty()).then_some(Self { kept, matrix })
    }

    /// The largest eigenvalue of `H − ρB`; `None` if H is not finite or no eigenvalue is positive.
    pub(super) fn largest(self, products: &Mat<f64>) -> Option<PencilPair> {
        let Self { kept, matrix } = self;
        let products = Mat::from_fn(kept.len(), kept.len(), |a, b| products[(kept[a], kept[b])]);
        if !products.is_all_finite() {
            return None;
        }
        let (value, right) = largest_eigenpair(&matrix.partial_piv_lu().solve(&products))?;
        let (matrix, products) = (matrix.transpose().to_owned(), products.transpose().to_owned());
        let (_, left) = largest_eigenpair(&matrix.partial_piv_lu().solve(&products))?;
        let matrix = matrix.transpose();
        let product = bilinear(&left, &right, |a, b| matrix[(a, b)]);
        (value > 0.0 && product != 0.0).then_some(PencilPair { value, kept, left, right, product })
    }
}

impl PencilPair {
    /// `lᵀHr/lᵀBr` for another H: the eigenvalue to first order.
    pub(super) fn value_of(&self, products: &Mat<f64>) -> f64 {
        let entry = |a: usize, b: usize| products[(self.kept[a], self.kept[b])];
        bilinear(&self.left, &self.right, entry) / self.product
    }
}

fn bilinear(left: &[f64], right: &[f64], entry: impl Fn(usize, usize) -> f64) -> f64 {
    let row = |a: usize| right.iter().enumerate().map(|(b, r)| entry(a, b) * r).sum::<f64>();
    left.iter().enumerate().map(|(a, l)| l * row(a)).sum()
}

/// The eigenvalue of largest real part, with the real part of its eigenvector.
fn largest_eigenpair(matrix: &Mat<f64>) -> Option<(f64, Vec<f64>)> {
    let eigen = matrix.eigen().ok()?;
    let values = eigen.S().column_vector();
    let top = (0..matrix.nrows()).max_by(|a, b| values[*a].re.total_cmp(&values[*b].re))?;
    let vector = eigen.U().col(top);
    Some((values[top].re, (0..matrix.nrows()).map(|k| vector[k].re).collect()))
}

#[cfg(test)]
mod tests {
    use faer::{Mat, mat};

    use super::Pencil;

    #[test]
    fn the_largest_eigenvalue_and_its_derivative() {
        // B⁻¹H has the eigenvalues 3 and .5.
        let b = mat![[2.0, 0.5], [0.3, 1.0]];
        let vectors = mat![[1.0, 1.0], [0.2, -1.0]];
        let values = mat![[3.0, 0.0], [0.0, 0.5]];
        let inverse = mat![[-1.0, -1.0], [-0.2, 1.0]] * faer::Scale(1.0 / -1.2);
        let h = &b * &vectors * &values * inverse;
        let pair = Pencil::new(&b).unwrap().largest(&h).unwrap();
        assert!((pair.value - 3.0).abs() < 1e-12);
        assert!((pair.value_of(&h) - 3.0).abs() < 1e-12);
        assert!((pair.value_of(&b) - 1.0).abs() < 1e-12);
        let change = mat![[0.1, -0.2], [0.4, 0.3]] * faer::Scale(1e-6);
        let moved = Pencil::new(&b).unwrap().largest(&(&h + &change)).unwrap().value;
        assert!((moved - 3.0 - pair.value_of(&change)).abs() < 1e-11);
    }

    #[test]
    fn blocks_that_repeat_others_do_not_count() {
        let b = mat![[1.0, 0.99], [1.01, 1.0]];
        let pair = Pencil::new(&b).unwrap().largest(&mat![[2.0, 9.0], [9.0, 9.0]]).unwrap();
        assert!((pair.value - 2.0).abs() < 1e-15);
        assert!(Pencil::new(&Mat::zeros(1, 1)).is_none());
    }
}
