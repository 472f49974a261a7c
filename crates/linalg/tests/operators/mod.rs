//! Symmetric matrices that estimators are tested on, in rotated bases: random signs would be exact
//! on diagonal ones.

#![allow(dead_code, reason = "no user of this module needs all of it")]

use faer::{Accum, Mat, MatMut, MatRef};
use flatmin_linalg::{Operator, matmul, stream};
use rand_distr::{Distribution as _, StandardNormal};

/// A dense symmetric matrix.
#[derive(Debug)]
pub(crate) struct Dense(pub(crate) Mat<f64>);

impl Operator for Dense {
    fn dim(&self) -> usize {
        self.0.nrows()
    }

    fn apply(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) {
        matmul(images, Accum::Replace, self.0.as_ref(), vectors, 1.0);
    }
}

impl Dense {
    pub(crate) fn trace(&self) -> f64 {
        (0..self.dim()).map(|i| self.0[(i, i)]).sum()
    }

    pub(crate) fn frobenius_norm_squared(&self) -> f64 {
        self.0.col_iter().flat_map(faer::ColRef::iter).map(|v| v * v).sum()
    }
}

/// The operator `JᵀJ/n` of a Jacobian J, n × p.
#[derive(Debug)]
pub(crate) struct GaussNewton(pub(crate) Mat<f64>);

impl Operator for GaussNewton {
    fn dim(&self) -> usize {
        self.0.ncols()
    }

    fn apply(&self, vectors: MatRef<'_, f64>, images: MatMut<'_, f64>) {
        let n = self.0.nrows();
        let mut outputs = Mat::zeros(n, vectors.ncols());
        matmul(outputs.as_mut(), Accum::Replace, self.0.as_ref(), vectors, 1.0);
        let factor = 1.0 / n as f64;
        matmul(images, Accum::Replace, self.0.transpose(), outputs.as_ref(), factor);
    }
}

/// A matrix of independent standard normal entries.
pub(crate) fn gaussian(rows: usize, columns: usize, index: u64) -> Mat<f64> {
    let mut rng = stream(0, "matrices of tests", index);
    Mat::from_fn(rows, columns, |_, _| StandardNormal.sample(&mut rng))
}

/// A matrix with these eigenvalues and random eigenvectors.
pub(crate) fn rotated(spectrum: &[f64], index: u64) -> Dense {
    let n = spectrum.len();
    let q = gaussian(n, n, index).qr().compute_thin_Q();
    let scaled = Mat::from_fn(n, n, |i, j| q[(i, j)] * spectrum[j]);
    let product = &scaled * q.transpose();
    Dense(Mat::from_fn(n, n, |i, j| product[(i.max(j), i.min(j))]))
}

/// The Jacobian of the two-layer ReLU network `Σ_k a_k max(w_k·x, 0)` with `width` neurons at
/// random parameters, on `samples` normal inputs of dimension `input_dim`: samples ×
/// `width * (input_dim + 1)`.
pub(crate) fn relu_jacobian(
    width: usize,
    input_dim: usize,
    samples: usize,
    index: u64,
) -> Mat<f64> {
    let inputs = gaussian(samples, input_dim, 3 * index);
    let root = (input_dim as f64).sqrt();
    let weights = gaussian(width, input_dim, 3 * index + 1);
    let heads = gaussian(width, 1, 3 * index + 2);
    let activations = &inputs * weights.transpose();
    Mat::from_fn(samples, width * (input_dim + 1), |i, p| {
        let (k, l) = (p / (input_dim + 1), p % (input_dim + 1));
        let z = activations[(i, k)] / root;
        if l == input_dim {
            z.max(0.0)
        } else if z > 0.0 {
            heads[(k, 0)] * inputs[(i, l)] / root
        } else {
            0.0
        }
    })
}

/// The Gauss–Newton matrix of a small ReLU network, 160 × 160 of rank 100.
pub(crate) fn relu_gauss_newton() -> Dense {
    let jacobian = relu_jacobian(16, 9, 100, 100);
    let n = jacobian.nrows() as f64;
    let product = jacobian.transpose() * &jacobian;
    Dense(Mat::from_fn(product.nrows(), product.ncols(), |i, j| product[(i.max(j), i.min(j))] / n))
}

/// The dimension of all [`cases`] except the ReLU network.
const DIM: u32 = 120;

/// Spectra of different kinds, each with a name and true if it is positive semidefinite.
pub(crate) fn cases() -> Vec<(&'static str, Dense, bool)> {
    let spectrum =
        |value: &dyn Fn(f64) -> f64| (1..=DIM).map(|k| value(f64::from(k))).collect::<Vec<f64>>();
    let flat = spectrum(&|k| 1.0 + 0.5 * k / f64::from(DIM));
    let outlier = spectrum(&|k| if k < 1.5 { 10.0 } else { 0.01 });
    let indefinite = spectrum(&|k| if k % 3.0 < 0.5 { -1.0 / k } else { 1.0 / k });
    vec![
        ("flat", rotated(&flat, 1), true),
        ("1/k", rotated(&spectrum(&|k| 1.0 / k), 2), true),
        ("1/k²", rotated(&spectrum(&|k| 1.0 / (k * k)), 3), true),
        ("outlier", rotated(&outlier, 4), true),
        ("ReLU", relu_gauss_newton(), true),
        ("±1/k", rotated(&indefinite, 6), false),
    ]
}
