//! The epoch without noise, and what it leaves of second moments after any number of epochs.

use faer::Mat;
use flatmin_linalg::product;

use super::step::Coefficients;

/// A matrix A₀ close to the mean of the epochs `A_π`, all of whose eigenvalues are inside of the unit
/// circle, and its transpose.
///
/// With `T₀(P) = A₀PA₀ᵀ`, an eigenvalue of `(I − T₀)⁻¹(T − T₀)` is 1 where one of T is, whatever A₀
/// is. The eigenvectors are the same there. Slow modes give T many eigenvalues close to 1, and
/// oscillating ones give it complex eigenvalues of nearly the same modulus. Both are inverted here,
/// and the largest eigenvalue that is left, the gain of the noise, lies apart from the others.
#[derive(Clone)]
pub(super) enum MeanEpoch {
    /// An epoch of the whole gradient, which acts on each mode on its own: `A(λ)^m` for the matrix
    /// of a step and the m batches of an epoch.
    Modes {
        /// A₀ of each mode.
        modes: Vec<Block>,
        /// The numbers of a state for each mode, 1 or 2.
        parts: usize,
    },
    /// The powers of A₀ with the exponents 1, 2, 4 and so on, up to one that is negligible.
    Dense(Vec<Mat<f64>>),
}

impl MeanEpoch {
    /// An epoch of the whole gradient, without the modes in which a step has a real eigenvalue below
    /// zero: A₀ is zero for them. They become unstable at the edge of gradient descent, and powers
    /// of T find that by themselves. `None` if another mode is not stable.
    pub(super) fn of_modes(
        coefficients: &Coefficients,
        eigenvalues: &[f64],
        batches: usize,
    ) -> Option<Self> {
        let mut modes = Vec::with_capacity(eigenvalues.len());
        for eigenvalue in eigenvalues {
            let step = coefficients.mean_step(*eigenvalue);
            let [[a, b], [c, d]] = step;
            let (trace, determinant) = (a + d, a * d - b * c);
            let is_negative = trace < 0.0 && trace * trace >= 4.0 * determinant;
            // Both eigenvalues are inside of the unit circle.
            if !(is_negative || determinant.abs() < 1.0 && trace < 1.0 + determinant) {
                return None;
            }
            modes.push(if is_negative { [[0.0; 2]; 2] } else { power(step, batches) });
        }
        Some(Self::Modes { modes, parts: coefficients.parts() })
    }

    /// The mean of some epochs. `None` if it is not stable.
    pub(super) fn of_matrix(epoch: Mat<f64>) -> Option<Self> {
        const NEGLIGIBLE: f64 = 1e-9;
        const MOST_DOUBLINGS: usize = 50;
        let mut powers = vec![epoch];
        while powers.len() < MOST_DOUBLINGS {
            let last = &powers[powers.len() - 1];
            let norm = last.norm_l2();
            if norm <= NEGLIGIBLE {
                return Some(Self::Dense(powers));
            }
            if !norm.is_finite() {
                return None;
            }
            powers.push(product(last.as_ref(), last.as_ref()));
        }
        None
    }

    /// The same for the transpose of A₀.
    pub(super) fn transposed(self) -> Self {
        match self {
            Self::Modes { modes, parts } => {
                Self::Modes { modes: modes.into_iter().map(transpose).collect(), parts }
            }
            Self::Dense(powers) => {
                Self::Dense(powers.into_iter().map(|power| power.transpose().to_owned()).collect())
            }
        }
    }

    /// `A₀` times states, side by side.
    pub(super) fn carry(&self, states: &Mat<f64>) -> Mat<f64> {
        match self {
            Self::Dense(powers) => product(powers[0].as_ref(), states.as_ref()),
            Self::Modes { modes, parts } => {
                let rank = modes.len();
                Mat::from_fn(states.nrows(), states.ncols(), |row, column| {
                    let (part, mode) = (row / rank, row % rank);
                    (0..*parts)
                        .map(|k| modes[mode][part][k] * states[(k * rank + mode, column)])
                        .sum()
                })
            }
        }
    }

    /// `(I − T₀)⁻¹(image − T₀(moments))` for two symmetric matrices.
    pub(super) fn noise_response(&self, image: &Mat<f64>, moments: &Mat<f64>) -> Mat<f64> {
        let (modes, parts) = match self {
            Self::Modes { modes, parts } => (modes, *parts),
            Self::Dense(powers) => {
                let carried = |power: &Mat<f64>, of: &Mat<f64>| {
                    product(product(power.as_ref(), of.as_ref()).as_ref(), power.transpose())
                };
                let noise = image - carried(&powers[0], moments);
                return powers.iter().fold(noise, |sum, power| {
                    let more = carried(power, &sum);
                    sum + more
                });
            }
        };
        let rank = modes.len();
        let block = |of: &Mat<f64>, j: usize, l: usize| {
            let entry = |a: usize, b: usize| {
                if a.max(b) < parts { of[(a * rank + j, b * rank + l)] } else { 0.0 }
            };
            [[entry(0, 0), entry(0, 1)], [entry(1, 0), entry(1, 1)]]
        };
        let mut response = Mat::zeros(image.nrows(), image.nrows());
        for l in 0..rank {
            for j in l..rank {
                let carried = sandwich(modes[j], block(moments, j, l), modes[l]);
                let mut noise = block(image, j, l);
                for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    noise[a][b] -= carried[a][b];
                }
                let sum = sum_of_powers(modes[j], noise, modes[l]);
                for (a, b) in (0..parts).flat_map(|a| (0..parts).map(move |b| (a, b))) {
                    response[(a * rank + j, b * rank + l)] = sum[a][b];
                    response[(b * rank + l, a * rank + j)] = sum[a][b];
                }
            }
        }
        response
    }
}

/// A matrix of one mode; zero for velocities that are not there.
pub(super) type Block = [[f64; 2]; 2];

fn times(x: Block, y: Block) -> Block {
    let entry = |a: usize, b: usize| x[a][0] * y[0][b] + x[a][1] * y[1][b];
    [[entry(0, 0), entry(0, 1)], [entry(1, 0), entry(1, 1)]]
}

/// `x p yᵀ`.
fn sandwich(x: Block, p: Block, y: Block) -> Block {
    times(times(x, p), transpose(y))
}

fn transpose([[a, b], [c, d]]: Block) -> Block {
    [[a, c], [b, d]]
}

fn power(matrix: Block, exponent: usize) -> Block {
    let (mut result, mut square, mut left) = ([[1.0, 0.0], [0.0, 1.0]], matrix, exponent);
    while left > 0 {
        if left % 2 == 1 {
            result = times(result, square);
        }
        square = times(square, square);
        left /= 2;
    }
    result
}

/// `Σ_t x^t q (yᵀ)^t` over all t, by doubling the number of terms.
fn sum_of_powers(mut x: Block, q: Block, mut y: Block) -> Block {
    const MOST_DOUBLINGS: usize = 60;
    let mut sum = q;
    for _ in 0..MOST_DOUBLINGS {
        let more = sandwich(x, sum, y);
        let size = |block: Block| block.iter().flatten().fold(0.0_f64, |m, v| m.max(v.abs()));
        for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            sum[a][b] += more[a][b];
        }
        if size(more) <= 1e-12 * size(sum) {
            break;
        }
        (x, y) = (times(x, x), times(y, y));
    }
    sum
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use flatmin_linalg::product;

    use super::MeanEpoch;
    use crate::Optimizer;
    use crate::epochs::step::Step;

    /// The response solves `P = A₀PA₀ᵀ + (image − A₀MA₀ᵀ)` for the dense A₀.
    #[test]
    fn the_response_to_noise_solves_its_equation() {
        let eigenvalues = [0.01, 0.5, 2.0];
        for optimizer in [Optimizer::sgd(), Optimizer::sgd().momentum(0.9).unwrap()] {
            let step = Step::new(optimizer);
            let coefficients = step.coefficients(0.3);
            let side = 3 * step.parts;
            let matrix = Mat::from_fn(side, side, |row, column| {
                let block = coefficients.mean_step(eigenvalues[row % 3]);
                if row % 3 == column % 3 { block[row / 3][column / 3] } else { 0.0 }
            });
            let epoch = (0..4).fold(Mat::identity(side, side), |m, _| &matrix * m);
            let of_modes = || MeanEpoch::of_modes(&coefficients, &eigenvalues, 4).unwrap();
            let dense = || MeanEpoch::of_matrix(epoch.clone()).unwrap();
            for (mean, epoch) in [
                (of_modes(), epoch.clone()),
                (of_modes().transposed(), epoch.transpose().to_owned()),
                (dense(), epoch.clone()),
                (dense().transposed(), epoch.transpose().to_owned()),
            ] {
                let symmetric = |salt: usize| {
                    Mat::from_fn(side, side, |i, j| ((salt + 3 * i * j + i + j) % 7) as f64)
                };
                let (image, moments) = (symmetric(1), symmetric(4));
                let carried = |of: &Mat<f64>| {
                    product(product(epoch.as_ref(), of.as_ref()).as_ref(), epoch.transpose())
                };
                let found = mean.noise_response(&image, &moments);
                let expected = carried(&found) + &image - carried(&moments);
                let error = (&found - expected).norm_l2();
                assert!(error < 1e-10 * found.norm_l2(), "{optimizer:?}: {error:e}");
                let error = (mean.carry(&image) - &epoch * &image).norm_l2();
                assert!(error < 1e-12 * image.norm_l2(), "{optimizer:?}: {error:e}");
            }
        }
    }

    #[test]
    fn an_unstable_mean_is_none_and_unstable_modes_are_left_out() {
        let stable = |value: f64| MeanEpoch::of_matrix(Mat::from_fn(1, 1, |_, _| value)).is_some();
        assert!(stable(-0.9999) && !stable(1.0001));
        for optimizer in [Optimizer::sgd(), Optimizer::sgd().momentum(0.9).unwrap()] {
            let step = Step::new(optimizer);
            // Gradient descent is stable up to 2(1 + β)/λ.
            for rate in [0.9, 1.1, 3.0] {
                let limit = if step.parts == 1 { 2.0 } else { 3.8 };
                let coefficients = step.coefficients(rate * limit);
                let mean = MeanEpoch::of_modes(&coefficients, &[0.1, 1.0], 3).unwrap();
                let side = 2 * step.parts;
                let response =
                    mean.noise_response(&Mat::identity(side, side), &Mat::zeros(side, side));
                assert!(response.is_all_finite() && response[(1, 1)] >= 1.0, "{response:?}");
            }
        }
    }
}
