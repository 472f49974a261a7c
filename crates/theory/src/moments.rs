//! The exact recursion of second moments.

use faer::{Accum, Mat, MatRef};
use flatmin_linalg::{RowMatrix, matmul, product};

use crate::{LinearisedSgd, TheoryError};

/// The second moments of linearised SGD, stepped exactly.
///
/// In the eigenbasis of G, `P = E[δδᵀ]`, `C = E[δvᵀ]`, `S = E[vvᵀ]` (r × r each). With
/// `F_k = [[1−ηλ_k, β], [−ηλ_k, β]]` the mean step of mode k on `(δ_k, v_k)`, every pair of modes
/// obeys
///
/// ```text
/// M_kl' = F_k M_kl F_lᵀ + η² N_kl [[1, 1], [1, 1]],    M_kl = [[P_kl, C_kl], [C_lk, S_kl]],
/// N = p [ (1/n) Σ (g_iᵀP g_i) g_i g_iᵀ − GPG ],
/// ```
///
/// because the gradient noise enters v' and δ' = δ + v' alike. For β = 0 the first block is the map
/// `P' = P − η(GP + PG) + η²[(1−p) GPG + p (1/n) Σ (g_iᵀP g_i) g_i g_iᵀ]`. Both samplings enter
/// through p alone. Source: theory, section 2 and S12.
///
/// ```
/// use flatmin_linalg::RowMatrix;
/// use flatmin_theory::{Batch, LinearisedSgd, Minimum, Sampling, SecondMoments};
/// // One direction, g² = 1 or 9: E(1 − ηg²)² = 1 − 2·5η + 41η².
/// let minimum = Minimum::new(&RowMatrix::new(2, 1, vec![1.0, 3.0])?)?;
/// let batch = Batch::new(1, Sampling::WithReplacement)?;
/// let mut moments = SecondMoments::new(&LinearisedSgd::new(&minimum, batch, 0.1)?);
/// moments.step();
/// assert!((moments.norm_squared() - 0.41).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SecondMoments {
    learning_rate: f64,
    momentum: f64,
    noise_coefficient: f64,
    eigenvalues: Vec<f64>,
    rows: Mat<f64>,
    position: Mat<f64>,
    cross: Mat<f64>,
    velocity: Mat<f64>,
    steps: usize,
}

impl SecondMoments {
    /// Moments that start from `E[δδᵀ] = I` on range(G), at rest (v = 0).
    ///
    /// Both starts of [`simulate`](crate::simulate()) have this second moment.
    pub fn new(sgd: &LinearisedSgd<'_>) -> Self {
        let (_, eigenvalues, rows) = sgd.minimum().scaled();
        let rank = eigenvalues.len();
        Self {
            learning_rate: sgd.scaled_learning_rate(),
            momentum: sgd.momentum(),
            noise_coefficient: sgd.noise_coefficient(),
            eigenvalues: eigenvalues.to_vec(),
            rows: rows.as_mat().to_owned(),
            position: Mat::identity(rank, rank),
            cross: Mat::zeros(rank, rank),
            velocity: Mat::zeros(rank, rank),
            steps: 0,
        }
    }

    /// The same from `E[δδᵀ] = (P₀ + P₀ᵀ)/2` for an r × r matrix P₀ in the eigenbasis of G.
    ///
    /// # Errors
    /// [`TheoryError::Length`] or [`TheoryError::MatrixNotFinite`] for a wrong shape or entry.
    pub fn starting_from(sgd: &LinearisedSgd<'_>, start: &RowMatrix) -> Result<Self, TheoryError> {
        let mut moments = Self::new(sgd);
        moments.position = symmetric_part("the second moment", start, moments.rank())?;
        Ok(moments)
    }

    /// The rank r of G.
    pub fn rank(&self) -> usize {
        self.eigenvalues.len()
    }

    /// Steps done.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Moves on by one step. Costs two n × r × r products.
    pub fn step(&mut self) {
        let (n, rank) = (self.rows.nrows(), self.rank());
        let (eta, beta, p) = (self.learning_rate, self.momentum, self.noise_coefficient);
        // (1/n) Σ (g_iᵀP g_i) g_i g_iᵀ.
        let mut noise = Mat::zeros(rank, rank);
        if p > 0.0 && rank > 0 {
            let rows = self.rows.as_ref();
            let mut product = product(rows, self.position.as_ref());
            // Now row i becomes (g_iᵀP g_i) g_i.
            let mut forms = vec![0.0_f64; n];
            for (column, g) in product.col_iter().zip(rows.col_iter()) {
                for ((form, product), g) in forms.iter_mut().zip(column.iter()).zip(g.iter()) {
                    *form += product * g;
                }
            }
            for (column, g) in product.col_iter_mut().zip(rows.col_iter()) {
                for ((product, form), g) in column.iter_mut().zip(&forms).zip(g.iter()) {
                    *product = form * g;
                }
            }
            let scale = 1.0 / n as f64;
            matmul(noise.as_mut(), Accum::Replace, rows.transpose(), product.as_ref(), scale);
        }
        // Scaled before they meet, so that no product overflows on its way.
        let rates: Vec<f64> = self.eigenvalues.iter().map(|lambda| eta * lambda).collect();
        let old = (self.position.clone(), self.cross.clone(), self.velocity.clone());
        for l in 0..rank {
            for k in 0..rank {
                let (a, b) = (rates[k], rates[l]);
                let (x, s) = (old.0[(k, l)], old.2[(k, l)]);
                let (xv, vx) = (old.1[(k, l)], old.1[(l, k)]);
                let noise = p * (eta * (eta * noise[(k, l)]) - a * b * x);
                // F_k M_kl: the rows for δ' and v'.
                let (top, top_v) = ((1.0 - a) * x + beta * vx, (1.0 - a) * xv + beta * s);
                let (low, low_v) = (beta * vx - a * x, beta * s - a * xv);
                self.position[(k, l)] = top * (1.0 - b) + top_v * beta + noise;
                self.cross[(k, l)] = top_v * beta - top * b + noise;
                self.velocity[(k, l)] = low_v * beta - low * b + noise;
            }
        }
        self.steps += 1;
    }

    /// `E‖δ‖² = tr P`.
    pub fn norm_squared(&self) -> f64 {
        (0..self.rank()).map(|k| self.position[(k, k)]).sum()
    }

    /// `E[δᵀYδ] = tr(YP)` for an r × r matrix Y in the eigenbasis of G; infinite or NaN once the
    /// moments have overflowed.
    ///
    /// # Errors
    /// [`TheoryError::Length`] or [`TheoryError::MatrixNotFinite`] for a wrong shape or entry.
    pub fn quadratic_form(&self, form: &RowMatrix) -> Result<f64, TheoryError> {
        let form = symmetric_part("the quadratic form", form, self.rank())?;
        let columns = form.col_iter().zip(self.position.col_iter());
        Ok(columns.flat_map(|(y, p)| y.iter().zip(p.iter())).map(|(y, p)| y * p).sum())
    }

    /// `P = E[δδᵀ]`, r × r in the eigenbasis of G.
    pub fn position(&self) -> RowMatrix {
        to_rows(self.position.as_ref())
    }

    /// `C = E[δvᵀ]`, r × r in the eigenbasis of G; not symmetric. What it is without momentum:
    /// v is the last step then.
    pub fn cross(&self) -> RowMatrix {
        to_rows(self.cross.as_ref())
    }

    /// `S = E[vvᵀ]`, r × r in the eigenbasis of G.
    pub fn velocity(&self) -> RowMatrix {
        to_rows(self.velocity.as_ref())
    }
}

fn to_rows(matrix: MatRef<'_, f64>) -> RowMatrix {
    RowMatrix::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[(i, j)])
}

/// `(A + Aᵀ)/2` of a finite matrix of dimension `rank`.
pub(crate) fn symmetric_part(
    what: &'static str,
    matrix: &RowMatrix,
    rank: usize,
) -> Result<Mat<f64>, TheoryError> {
    for got in [matrix.rows(), matrix.columns()] {
        if got != rank {
            return Err(TheoryError::Length { what, got, expected: rank });
        }
    }
    let values = matrix.values();
    if let Some(k) = values.iter().position(|v| !v.is_finite()) {
        let (row, column) = (k / rank, k % rank);
        return Err(TheoryError::MatrixNotFinite { what, row, column, value: values[k] });
    }
    Ok(Mat::from_fn(rank, rank, |i, j| f64::midpoint(matrix.row(i)[j], matrix.row(j)[i])))
}
