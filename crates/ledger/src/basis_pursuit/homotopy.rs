//! The path of the lasso down to basis pursuit.

use flatmin_linalg::{RowMatrix, simd};

use super::evidence::correlations;

/// A column depends on others when at most this fraction of its squared norm is orthogonal to them.
const DEPENDENT: f64 = 1e-12;

/// The path ends at this fraction of its first λ. At λ = 0 all columns reach the bound `|c_j| = λ`,
/// and rounding makes some of them reach it a little earlier.
const END: f64 = 1e-11;

/// The columns S with nonzero coefficients.
#[derive(Default)]
struct Active {
    indices: Vec<usize>,
    signs: Vec<f64>,
    coefficients: Vec<f64>,
    columns: Vec<Vec<f64>>,
    /// `(X_SᵀX_S)⁻¹`.
    inverse: Vec<Vec<f64>>,
}

/// The event at the end of a linear piece of the path.
enum Event {
    Join { index: usize, sign: f64 },
    Leave { position: usize },
    End,
}

/// The columns S and the signs of the solution of `min ½‖Xβ − y‖² + λ‖β‖_1` for all small λ > 0, by
/// the homotopy in λ (Osborne, Presnell and Turlach 2000), in increasing order of the columns.
///
/// With them, `β_S` by least squares solves basis pursuit and the ν of least norm with
/// `X_Sᵀν = sign_S` is its dual vector: it is the limit of `(y − Xβ)/λ`, so that `‖Xᵀν‖_∞ ≤ 1`.
/// Ties and rounding may lead to a wrong result, so the caller has to certify it. `None` when the
/// path does not end within `20 (min(n, d) + 5)` steps. A step costs `2nd + O(n|S|)` operations,
/// and S takes memory for `n|S| + |S|²` numbers.
pub(super) fn homotopy(inputs: &RowMatrix, targets: &[f64]) -> Option<Vec<(usize, f64)>> {
    let (n, d) = (inputs.rows(), inputs.columns());
    // c = Xᵀ(y − Xβ), and λ = ‖c‖_∞.
    let mut sums = correlations(inputs, targets);
    let first = (0..d).max_by(|a, b| sums[*a].abs().total_cmp(&sums[*b].abs()))?;
    let mut lambda = sums[first].abs();
    let end = END * lambda;
    let mut active = Active::default();
    // Dependent columns cannot join, and a column that has just left is still at its bound.
    let mut is_free = vec![true; d];
    let mut left = None;
    is_free[first] = false;
    active.join(inputs, first, sums[first].signum());
    for _ in 0..20 * (n.min(d) + 5) {
        let (direction, dual) = active.direction(n);
        let slopes = correlations(inputs, &dual);
        let (mut step, mut event) = (lambda - end, Event::End);
        for index in (0..d).filter(|j| is_free[*j]) {
            for sign in [1.0, -1.0] {
                let (gap, rate) = (lambda - sign * sums[index], 1.0 - sign * slopes[index]);
                if rate > 0.0 && gap < step * rate && left != Some((index, sign)) {
                    (step, event) = ((gap / rate).max(0.0), Event::Join { index, sign });
                }
            }
        }
        for (position, (b, rate)) in active.coefficients.iter().zip(&direction).enumerate() {
            if rate * active.signs[position] < 0.0 && -b / rate < step {
                (step, event) = ((-b / rate).max(0.0), Event::Leave { position });
            }
        }
        simd::axpy(step, &direction, &mut active.coefficients);
        simd::axpy(-step, &slopes, &mut sums);
        lambda -= step;
        left = None;
        match event {
            Event::End => return Some(active.signed()),
            Event::Join { index, sign } => {
                is_free[index] = false;
                active.join(inputs, index, sign);
            }
            Event::Leave { position } => {
                let (index, sign) = active.leave(position);
                is_free[index] = true;
                left = Some((index, sign));
            }
        }
    }
    None
}

impl Active {
    /// The direction `u = (X_SᵀX_S)⁻¹ sign_S` in which the coefficients grow, and the direction
    /// `X_S u` in which the residual `y − Xβ` shrinks.
    fn direction(&self, n: usize) -> (Vec<f64>, Vec<f64>) {
        let times_columns = |weights: &[f64]| {
            let mut sum = vec![0.0; n];
            for (weight, column) in weights.iter().zip(&self.columns) {
                simd::axpy(*weight, column, &mut sum);
            }
            sum
        };
        let solve = |right: &[f64]| -> Vec<f64> {
            self.inverse.iter().map(|row| simd::dot(row, right)).collect()
        };
        let mut direction = solve(&self.signs);
        // One step of refinement: the inverse has accumulated the rounding errors of all updates.
        let product = times_columns(&direction);
        let rest: Vec<f64> = (self.columns.iter().zip(&self.signs))
            .map(|(column, sign)| sign - simd::dot(column, &product))
            .collect();
        simd::axpy(1.0, &solve(&rest), &mut direction);
        let product = times_columns(&direction);
        (direction, product)
    }

    /// Adds a column with a coefficient of 0, unless it depends on the others.
    fn join(&mut self, inputs: &RowMatrix, index: usize, sign: f64) {
        let column: Vec<f64> = (0..inputs.rows()).map(|i| inputs.row(i)[index]).collect();
        let products: Vec<f64> = self.columns.iter().map(|c| simd::dot(c, &column)).collect();
        let weights: Vec<f64> = self.inverse.iter().map(|row| simd::dot(row, &products)).collect();
        let squared_norm = simd::norm_squared(&column);
        let rest = squared_norm - simd::dot(&weights, &products);
        // `!(a > b)` refuses a column of zeros too.
        if self.columns.len() == inputs.rows() || !(rest > DEPENDENT * squared_norm) {
            return;
        }
        for (row, weight) in self.inverse.iter_mut().zip(&weights) {
            simd::axpy(weight / rest, &weights, row);
            row.push(-weight / rest);
        }
        let border = weights.iter().map(|weight| -weight / rest).chain([1.0 / rest]);
        self.inverse.push(border.collect());
        self.indices.push(index);
        self.signs.push(sign);
        self.coefficients.push(0.0);
        self.columns.push(column);
    }

    /// Removes a column and returns its index with its sign.
    fn leave(&mut self, position: usize) -> (usize, f64) {
        let mut weights = self.inverse.remove(position);
        let pivot = weights.remove(position);
        for (row, weight) in self.inverse.iter_mut().zip(&weights) {
            row.remove(position);
            simd::axpy(-weight / pivot, &weights, row);
        }
        self.coefficients.remove(position);
        self.columns.remove(position);
        (self.indices.remove(position), self.signs.remove(position))
    }

    fn signed(self) -> Vec<(usize, f64)> {
        let mut signed: Vec<(usize, f64)> = self.indices.into_iter().zip(self.signs).collect();
        signed.sort_by_key(|(index, _)| *index);
        signed
    }
}
