//! The exact population Gauss–Newton matrix of a two-layer ReLU network.
//!
//! With `Z_k = a_k V_k + s_k w_k`, the directional derivative along `(V, s)` is
//! `∇f(x)·(V, s) = Σ_k 1(w_kᵀx>0) xᵀZ_k`. So `Ḡ(V, s)` has the hidden part `a_j Y_j` and the output
//! part `w_jᵀY_j`, where `Y_j = Σ_k A_jk Z_k` and `A_jk = E[1(w_jᵀx>0) 1(w_kᵀx>0) x xᵀ]`. For unit
//! vectors `u`, `v` at angle φ, integrating over the wedge where both are active gives
//!
//! ```text
//! A = α I + τ (b bᵀ − c cᵀ),   α = (π − φ)/2π,   τ = sin φ / 2π,
//! b = (u + v)/‖u + v‖,         c = (u − v)/‖u − v‖,
//! ```
//!
//! and `A v = α v + τ u`. Everything is written in `‖u ± v‖`, which stays accurate for neurons that
//! are nearly parallel or opposite, where the cosine has lost half its digits.

use std::f64::consts::PI;

use faer::{Accum, Mat};
use flatmin_linalg::{
    EigenError, Eigenpair, LanczosOptions, RowMatrix, Sharpness, largest_eigenpair, matmul, simd,
};
use rand::Rng;
use rand_distr::{Distribution as _, StandardNormal};

/// `Ḡ = E_x[∇f(x)∇f(x)ᵀ]` of a two-layer ReLU network, as an operator that is never formed.
///
/// Exact, and the same matrix for `x ~ N(0, I_d)` and `x ~ Unif(√d S^{d−1})`: every entry is an
/// expectation of a function that is homogeneous of degree 2 in x. A neuron with `w_j = 0` is dead
/// and contributes nothing.
#[derive(Debug, Clone)]
pub struct PopulationGaussNewton {
    input_dim: usize,
    /// Unit directions `w_j/‖w_j‖` (zero rows for dead neurons).
    directions: RowMatrix,
    norms: Vec<f64>,
    output: Vec<f64>,
    /// `α_jk`, m × m; zero where either neuron is dead.
    alpha: Mat<f64>,
    /// `‖u_j + u_k‖` and `‖u_j − u_k‖`, m × m.
    sum_norm: Mat<f64>,
    difference_norm: Mat<f64>,
}

impl PopulationGaussNewton {
    /// For the hidden weights (m × d, row by row) and the output weights (m) of a network.
    pub(super) fn new(input_dim: usize, hidden: &[f64], output: &[f64]) -> Self {
        let (m, d) = (output.len(), input_dim);
        let norms: Vec<f64> =
            hidden.chunks_exact(d).map(|w| simd::norm_squared(w).sqrt()).collect();
        let directions = RowMatrix::from_fn(m, d, |j, i| {
            if norms[j] > 0.0 { hidden[j * d + i] / norms[j] } else { 0.0 }
        });
        let mut alpha = Mat::zeros(m, m);
        let mut sum_norm = Mat::zeros(m, m);
        let mut difference_norm = Mat::zeros(m, m);
        let (mut sum, mut difference) = (vec![0.0; d], vec![0.0; d]);
        for k in 0..m {
            for j in k..m {
                if norms[j] <= 0.0 || norms[k] <= 0.0 {
                    continue;
                }
                let (u, v) = (directions.row(j), directions.row(k));
                for i in 0..d {
                    sum[i] = u[i] + v[i];
                    difference[i] = u[i] - v[i];
                }
                let plus = simd::norm_squared(&sum).sqrt();
                let minus = simd::norm_squared(&difference).sqrt();
                let wedge = libm::atan2(plus, minus) / PI;
                for (row, column) in [(j, k), (k, j)] {
                    alpha[(row, column)] = wedge;
                    sum_norm[(row, column)] = plus;
                    difference_norm[(row, column)] = minus;
                }
            }
        }
        Self {
            input_dim,
            directions,
            norms,
            output: output.to_vec(),
            alpha,
            sum_norm,
            difference_norm,
        }
    }

    /// `τ_jk = sin φ_jk / 2π`.
    fn tau(&self, j: usize, k: usize) -> f64 {
        self.sum_norm[(j, k)] * self.difference_norm[(j, k)] / (4.0 * PI)
    }

    /// `cos φ_jk`.
    fn cosine(&self, j: usize, k: usize) -> f64 {
        let (plus, minus) = (self.sum_norm[(j, k)], self.difference_norm[(j, k)]);
        (plus - minus) * (plus + minus) / 4.0
    }

    /// `tr Ḡ`, summed over the diagonal blocks. Equals `½(‖W‖_F² + d‖a‖²)` when no neuron is dead
    /// (R1).
    pub fn trace(&self) -> f64 {
        let d = self.input_dim as f64;
        (0..self.norms.len())
            .map(|j| self.alpha[(j, j)] * (self.output[j].powi(2) * d + self.norms[j].powi(2)))
            .sum()
    }

    /// `‖Ḡ‖_F`, from the closed-form norms of the blocks. Costs O(m²).
    pub fn frobenius_norm(&self) -> f64 {
        let d = self.input_dim as f64;
        let m = self.norms.len();
        let mut squares = 0.0;
        for k in 0..m {
            for j in 0..m {
                let (alpha, tau, cosine) = (self.alpha[(j, k)], self.tau(j, k), self.cosine(j, k));
                let (aj, ak) = (self.output[j].powi(2), self.output[k].powi(2));
                let (wj, wk) = (self.norms[j].powi(2), self.norms[k].powi(2));
                let hidden = d * alpha * alpha + 2.0 * tau * tau;
                let mixed = alpha * alpha + tau * tau + 2.0 * alpha * tau * cosine;
                let output = alpha * cosine + tau;
                squares += aj * ak * hidden + 2.0 * aj * wk * mixed + wj * wk * output * output;
            }
        }
        squares.sqrt()
    }

    /// Writes `Ḡ v` to `out`; both have the layout of the parameters. Costs O(m²d).
    ///
    /// # Panics
    /// When a length is not the number of parameters.
    pub fn apply(&self, v: &[f64], out: &mut [f64]) {
        let (m, d) = (self.norms.len(), self.input_dim);
        assert_eq!((v.len(), out.len()), (m * (d + 1), m * (d + 1)), "number of parameters");
        let (v_hidden, v_output) = v.split_at(m * d);
        let z = RowMatrix::from_fn(m, d, |k, i| {
            let along = v_output[k] * self.norms[k] * self.directions.row(k)[i];
            self.output[k].mul_add(v_hidden[k * d + i], along)
        });
        // projections_jk = u_j · Z_k
        let mut projections = Mat::zeros(m, m);
        let directions = self.directions.as_mat();
        let (replace, add) = (Accum::Replace, Accum::Add);
        matmul(projections.as_mut(), replace, directions, z.as_mat().transpose(), 1.0);
        // b (b·Z) − c (c·Z) has the component (B − C) along u_j and (B + C) along u_k.
        let mut along_k = Mat::zeros(m, m);
        let mut along_j = vec![0.0; m];
        for k in 0..m {
            for (j, along_j) in along_j.iter_mut().enumerate() {
                let (plus, minus) = (self.sum_norm[(j, k)], self.difference_norm[(j, k)]);
                // If one of the two vanishes, τ vanishes too.
                if plus > 0.0 && minus > 0.0 {
                    let (pj, pk) = (projections[(j, k)], projections[(k, k)]);
                    let tau = self.tau(j, k);
                    let b = tau * (pj + pk) / (plus * plus);
                    let c = tau * (pj - pk) / (minus * minus);
                    *along_j += b - c;
                    along_k[(j, k)] = b + c;
                }
            }
        }
        let mut y = Mat::zeros(m, d);
        matmul(y.as_mut(), replace, self.alpha.as_ref(), z.as_mat(), 1.0);
        matmul(y.as_mut(), add, along_k.as_ref(), directions, 1.0);
        let (out_hidden, out_output) = out.split_at_mut(m * d);
        for j in 0..m {
            let mut along_w = 0.0;
            for (i, u) in self.directions.row(j).iter().enumerate() {
                let value = along_j[j].mul_add(*u, y[(j, i)]);
                out_hidden[j * d + i] = self.output[j] * value;
                along_w = u.mul_add(value, along_w);
            }
            out_output[j] = self.norms[j] * along_w;
        }
    }

    /// The largest eigenpair, by Lanczos from a random start.
    ///
    /// # Errors
    /// [`EigenError::NotFinite`] when the parameters are not finite.
    pub fn largest_eigenpair(&self, rng: &mut impl Rng) -> Result<Eigenpair, EigenError> {
        let count = self.norms.len() * (self.input_dim + 1);
        let start: Vec<f64> = (0..count).map(|_| StandardNormal.sample(rng)).collect();
        largest_eigenpair(&start, |v, out| self.apply(v, out), LanczosOptions::default())
    }

    /// Trace, Frobenius norm and largest eigenvalue of Ḡ.
    ///
    /// # Errors
    /// See [`largest_eigenpair`](Self::largest_eigenpair).
    pub fn sharpness(&self, rng: &mut impl Rng) -> Result<Sharpness, EigenError> {
        Ok(Sharpness {
            trace: self.trace(),
            frobenius_norm: self.frobenius_norm(),
            lambda_max: self.largest_eigenpair(rng)?.value,
        })
    }
}
