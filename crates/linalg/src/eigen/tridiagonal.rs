//! The symmetric eigenproblem by tridiagonal form and implicit QL iteration.
//!
//! Libraries choose the order of their sums by the vector width and the caches of the processor.
//! Here reflections and products come from this crate, everything else is scalar or works entry by
//! entry, and the bits are the same on every machine.
//!
//! The reduction (Dongarra, Hammarling & Sorensen 1989) applies a block of reflections to the rest
//! of the matrix at once, so that each of its columns costs one product of the matrix with a
//! vector. The rotations of the QL iteration are applied to the eigenvectors several sweeps at a
//! time, while a column is in registers (Van Zee, van de Geijn & Quintana-Ortí 2014).

use super::ql::diagonalize;
use super::reduction::Tridiagonal;
use super::rotations::Sweeps;
use super::work_matrix::WorkMatrix;
use crate::{Parallelism, RowMatrix};

/// The eigenvalues of a symmetric matrix with entries near one, in no order. `None` when the
/// iteration does not converge.
pub(super) fn eigenvalues(work: &mut WorkMatrix) -> Option<Vec<f64>> {
    let mut form = Tridiagonal::new(work, Parallelism::Sequential);
    diagonalize(&mut form.diagonal, &mut form.off_diagonal, |_, _| {}).then_some(form.diagonal)
}

/// Eigenvalues in ascending order, and eigenvectors as columns. `None` when the iteration does not
/// converge. The eigenvectors are the only other n × n matrix that is stored.
pub(super) fn eigen(
    work: &mut WorkMatrix,
    parallelism: Parallelism,
) -> Option<(Vec<f64>, RowMatrix)> {
    let mut form = Tridiagonal::new(work, parallelism);
    let mut vectors = Sweeps::new(form.basis(), parallelism);
    let record = |first: usize, rotations: &[(f64, f64)]| vectors.sweep(first, rotations);
    if !diagonalize(&mut form.diagonal, &mut form.off_diagonal, record) {
        return None;
    }
    let mut order: Vec<usize> = (0..form.diagonal.len()).collect();
    order.sort_by(|i, j| form.diagonal[*i].total_cmp(&form.diagonal[*j]));
    let values = order.iter().map(|k| form.diagonal[*k]).collect();
    Some((values, vectors.in_order(&order)))
}

#[cfg(test)]
mod tests {
    use faer::{Mat, MatRef};

    use super::{WorkMatrix, eigen, eigenvalues};
    use crate::householder::BLOCK_REFLECTIONS;
    use crate::{Parallelism, PowerOfTwo, product};

    fn symmetric(n: usize) -> Mat<f64> {
        let entry = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 1009) as f64 / 504.5 - 1.0;
        Mat::from_fn(n, n, |i, j| entry(i.max(j), i.min(j)))
    }

    fn check(matrix: MatRef<'_, f64>) {
        let n = matrix.nrows();
        let mut work = WorkMatrix::new(matrix, PowerOfTwo::default());
        let (values, vectors) = eigen(&mut work, Parallelism::Sequential).unwrap();
        work.restore();
        for j in 0..n {
            for i in j..n {
                assert_eq!(work.original_lower()[(i, j)].to_bits(), matrix[(i, j)].to_bits());
            }
        }
        let threaded =
            eigen(&mut WorkMatrix::new(matrix, PowerOfTwo::default()), Parallelism::Rayon).unwrap();
        assert!(threaded.0 == values && threaded.1 == vectors, "{n}: threads change bits");
        let vectors = vectors.as_mat();
        let mut alone = eigenvalues(&mut WorkMatrix::new(matrix, PowerOfTwo::default())).unwrap();
        alone.sort_by(f64::total_cmp);
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values), bits(&alone), "{n}");
        // Orthogonal transformations have an error of a modest multiple of n·ε.
        let tolerance = 4.0 * (n as f64 + 1.0) * f64::EPSILON;
        let scaled = Mat::from_fn(n, n, |i, k| vectors[(i, k)] * values[k]);
        let error = (product(matrix, vectors) - scaled).norm_l2();
        let size = matrix.norm_l2();
        assert!(error <= tolerance * size, "{n}: {error} of {size}");
        let gram = product(vectors.transpose(), vectors) - Mat::<f64>::identity(n, n);
        assert!(gram.norm_l2() <= tolerance * (n as f64).sqrt(), "{n}: {}", gram.norm_l2());
    }

    #[test]
    fn eigenvectors_are_orthonormal_and_invariant() {
        for n in [
            1,
            2,
            3,
            7,
            8,
            9,
            BLOCK_REFLECTIONS - 1,
            BLOCK_REFLECTIONS,
            BLOCK_REFLECTIONS + 1,
            BLOCK_REFLECTIONS + 2,
            100,
            150,
        ] {
            check(symmetric(n).as_ref());
        }
    }

    #[test]
    fn hard_cases_are_solved() {
        let n = 70;
        let diagonal = |value: &dyn Fn(usize) -> f64| {
            Mat::from_fn(n, n, |i, j| if i == j { value(i) } else { 0.0 })
        };
        check(diagonal(&|_| 1.0).as_ref());
        check(diagonal(&|i| i as f64 - 30.0).as_ref());
        check(diagonal(&|i| libm::exp2(-10.0 * i as f64)).as_ref());
        // Rank one, and nearly diagonal with entries whose squares vanish.
        check(Mat::from_fn(n, n, |i, j| ((i + 1) * (j + 1)) as f64 / 4900.0).as_ref());
        let tiny = |i: usize, j: usize| if i == j { (i % 3) as f64 } else { 1e-160 };
        check(Mat::from_fn(n, n, tiny).as_ref());
        // Wilkinson's matrix, with pairs of eigenvalues that agree to the last digits.
        let wilkinson = |i: usize, j: usize| match i.abs_diff(j) {
            0 => (i as f64 - 34.5).abs() / 35.0,
            1 => 1.0 / 35.0,
            _ => 0.0,
        };
        check(Mat::from_fn(n, n, wilkinson).as_ref());
        // Entries from large to small, and from small to large.
        for sign in [1.0, -1.0] {
            let graded = |i: usize, j: usize| libm::exp2(-0.5 * sign * (i + j) as f64);
            let top = graded(0, 0).max(graded(n - 1, n - 1));
            check(Mat::from_fn(n, n, |i, j| graded(i, j) / top).as_ref());
        }
        let laplace = |i: usize, j: usize| match i.abs_diff(j) {
            0 => 1.0,
            1 => -0.5,
            _ => 0.0,
        };
        let mut work = WorkMatrix::new(Mat::from_fn(n, n, laplace).as_ref(), PowerOfTwo::default());
        let (values, _) = eigen(&mut work, Parallelism::Sequential).unwrap();
        for (k, value) in values.iter().enumerate() {
            let angle = std::f64::consts::PI * (k + 1) as f64 / (n + 1) as f64;
            assert!((value - (1.0 - libm::cos(angle))).abs() < 1e-14, "{k}");
        }
    }
}
