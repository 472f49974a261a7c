//! The dense operator on second moments of heavy-ball SGD.

use faer::Mat;
use flatmin_linalg::RowMatrix;

/// The spectral radius of the second moments of (δ, v) under heavy-ball SGD, from the dense
/// operator `P ↦ E[A P Aᵀ]` on 2p × 2p matrices, `A = [[I − ηG_B, βI], [−ηG_B, βI]]`, for samples
/// of `outputs` rows each.
pub(crate) fn momentum_radius(
    jacobian: &RowMatrix,
    outputs: usize,
    noise: f64,
    rate: f64,
    beta: f64,
) -> f64 {
    let (n, p) = (jacobian.rows() / outputs, jacobian.columns());
    let hessians: Vec<Mat<f64>> = (0..n)
        .map(|i| {
            let block = jacobian.as_mat().get(i * outputs..(i + 1) * outputs, ..);
            block.transpose() * block
        })
        .collect();
    let propagator = |hessian: &Mat<f64>| {
        Mat::from_fn(2 * p, 2 * p, |i, j| {
            let identity = if i % p == j % p { 1.0 } else { 0.0 };
            if j >= p {
                beta * identity
            } else {
                (if i < p { identity } else { 0.0 }) - rate * hessian[(i % p, j)]
            }
        })
    };
    let mut mean = Mat::zeros(p, p);
    for hessian in &hessians {
        mean += faer::Scale(1.0 / n as f64) * hessian;
    }
    let size = 4 * p * p;
    let kronecker = |a: &Mat<f64>| {
        Mat::from_fn(size, size, |i, j| {
            a[(i / (2 * p), j / (2 * p))] * a[(i % (2 * p), j % (2 * p))]
        })
    };
    // E[A ⊗ A] = Ā ⊗ Ā + p · Cov over single samples.
    let center = kronecker(&propagator(&mean));
    let mut covariance = Mat::<f64>::zeros(size, size);
    for hessian in &hessians {
        covariance += faer::Scale(1.0 / n as f64) * (kronecker(&propagator(hessian)) - &center);
    }
    let operator = &center + faer::Scale(noise) * covariance;
    let values = operator.eigenvalues().unwrap();
    values.iter().fold(0.0, |m, value| m.max(libm::hypot(value.re, value.im)))
}
