//! Activation functions with their first two derivatives.

#![expect(
    clippy::inline_always,
    reason = "a loop that is not inlined loses the instruction set it was dispatched to"
)]

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E, PI};

use faer::Mat;
use flatmin_linalg::{named, simd};
use pulp::{Simd, WithSimd};

/// `1.5 · 2⁵²`: adding a number to it rounds the number to an integer, which the last bits then
/// hold.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// ln 2 minus [`LN_2`].
const LN_2_REST: f64 = 2.319_046_813_846_3e-17;

/// `1/(k + 2)!` for k = 12, …, 0.
const INVERSE_FACTORIALS: [f64; 13] = [
    1.0 / 87_178_291_200.0,
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
];

/// The function between two layers.
///
/// [`Display`](std::fmt::Display) writes its name and [`FromStr`](std::str::FromStr) reads it. The
/// feature `serde` stores the same name.
///
/// ```
/// use flatmin_models::Activation;
/// let activation: Activation = "gelu".parse()?;
/// assert_eq!(activation, Activation::Gelu);
/// assert_eq!(activation.to_string(), "gelu");
/// # Ok::<(), flatmin_linalg::UnknownName>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Activation {
    /// `tanh z`.
    Tanh,
    /// `max(z, 0)`; its derivative at zero is zero.
    Relu,
    /// `z Φ(z)` with the distribution function Φ of N(0, 1), exactly (Hendrycks and Gimpel 2016).
    Gelu,
    /// `z`: a deep linear network.
    Identity,
}

named!("activation", Activation, [
    "tanh" => Tanh,
    "relu" => Relu,
    "gelu" => Gelu,
    "identity" => Identity,
]);

/// An activation at one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Activated {
    /// σ(z).
    pub(crate) value: f64,
    /// σ'(z).
    pub(crate) slope: f64,
    /// σ''(z).
    pub(crate) bend: f64,
}

impl Activation {
    /// Replaces pre-activations z by σ(z), and writes σ'(z) to `slopes`. A pre-activation of zero
    /// stays zero.
    ///
    /// Except for GELU the loops have no branches and no calls, so that they are compiled to the
    /// instruction set of the function that they are inlined into. Every operation is rounded as
    /// IEEE 754 says, so that all instruction sets give the same bits.
    ///
    /// # Panics
    /// When the lengths differ.
    #[inline(always)]
    pub fn activate(self, values: &mut [f64], slopes: &mut [f64]) {
        assert_eq!(values.len(), slopes.len(), "lengths of values and slopes");
        let pairs = values.iter_mut().zip(slopes);
        match self {
            Self::Tanh => {
                for (value, slope) in pairs {
                    *value = tanh(*value);
                    *slope = (1.0 - *value) * (1.0 + *value);
                }
            }
            Self::Relu => {
                for (value, slope) in pairs {
                    *slope = if *value > 0.0 { 1.0 } else { 0.0 };
                    *value = rectified(*value);
                }
            }
            Self::Identity => {
                for (_, slope) in pairs {
                    *slope = 1.0;
                }
            }
            Self::Gelu => {
                for (value, slope) in pairs {
                    Activated { value: *value, slope: *slope, .. } = self.at(*value);
                }
            }
        }
    }

    /// Replaces the pre-activations z of a layer by σ(z). Returns σ'(z) and σ''(z); σ''(z) is a 0 ×
    /// 0 matrix if σ'' vanishes everywhere.
    pub(crate) fn activate_layer(self, values: &mut Mat<f64>) -> (Mat<f64>, Mat<f64>) {
        let mut slopes = Mat::zeros(values.nrows(), values.ncols());
        let mut bends = if self.is_piecewise_linear() { Mat::new() } else { slopes.clone() };
        for j in 0..values.ncols() {
            let (values, slopes) = (values.col_as_slice_mut(j), slopes.col_as_slice_mut(j));
            if self == Self::Gelu {
                let slopes = slopes.iter_mut().zip(bends.col_as_slice_mut(j));
                for (value, (slope, bend)) in values.iter_mut().zip(slopes) {
                    let at = self.at(*value);
                    (*value, *slope, *bend) = (at.value, at.slope, at.bend);
                }
                continue;
            }
            simd::arch().dispatch(Activate { activation: self, values, slopes });
            if self == Self::Tanh {
                let pairs = values.iter().zip(slopes);
                for (bend, (value, slope)) in bends.col_as_slice_mut(j).iter_mut().zip(pairs) {
                    *bend = tanh_bend(*value, *slope);
                }
            }
        }
        (slopes, bends)
    }

    /// True if σ'' vanishes wherever it is defined.
    pub(crate) fn is_piecewise_linear(self) -> bool {
        matches!(self, Self::Relu | Self::Identity)
    }

    /// σ and its derivatives at one point; agrees with [`activate`](Self::activate) to rounding.
    #[inline]
    pub(crate) fn at(self, z: f64) -> Activated {
        match self {
            Self::Tanh => {
                let value = libm::tanh(z);
                let slope = (1.0 - value) * (1.0 + value);
                Activated { value, slope, bend: tanh_bend(value, slope) }
            }
            Self::Relu => {
                let slope = if z > 0.0 { 1.0 } else { 0.0 };
                Activated { value: rectified(z), slope, bend: 0.0 }
            }
            Self::Gelu => {
                let below = 0.5 * libm::erfc(-z * FRAC_1_SQRT_2);
                let density = libm::exp(-0.5 * z * z) / (2.0 * PI).sqrt();
                Activated {
                    value: z * below,
                    slope: below + z * density,
                    // Far from zero, z² overflows while the density is zero.
                    bend: if density > 0.0 { density * (2.0 - z * z) } else { 0.0 },
                }
            }
            Self::Identity => Activated { value: z, slope: 1.0, bend: 0.0 },
        }
    }
}

/// `max(z, 0)`, and NaN for a NaN, which `f64::max` would turn into 0.
#[inline(always)]
pub(crate) fn rectified(z: f64) -> f64 {
    if z <= 0.0 { 0.0 } else { z }
}

/// σ'' of tanh from σ and σ'.
#[inline(always)]
fn tanh_bend(value: f64, slope: f64) -> f64 {
    -2.0 * value * slope
}

/// [`Activation::activate`] on whole slices.
struct Activate<'a> {
    activation: Activation,
    values: &'a mut [f64],
    slopes: &'a mut [f64],
}

impl WithSimd for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.activation.activate(self.values, self.slopes);
    }
}

/// `tanh x` to a few units in the last place: `e/(e + 2)` with `e = exp(2|x|) − 1`.
///
/// With `2|x| = k ln 2 + r`, `|r| ≤ ln 2 / 2`, `e = 2^k (exp(r) − 1) + (2^k − 1)`, where the series
/// of `exp(r) − 1` to r¹⁴ has a relative error below 2⁻⁵⁸. Takes 1.3 ns with AVX-512, where
/// `libm::tanh` takes 14 ns (Intel Xeon).
#[inline(always)]
fn tanh(x: f64) -> f64 {
    // Beyond 20, tanh is 1 to the last digit. The comparison lets a NaN pass.
    let size = if x.abs() > 20.0 { 20.0 } else { x.abs() };
    let double = 2.0 * size;
    let shifted = double.mul_add(LOG2_E, ROUND);
    let k = shifted - ROUND;
    let r = (-k).mul_add(LN_2_REST, (-k).mul_add(LN_2, double));
    let series = series(r);
    let small = (series * r).mul_add(r, r);
    // 2^k: its exponent is k plus the bias of 1023, and k ≤ 58.
    let power = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52));
    let e = power.mul_add(small, power - 1.0);
    (e / (e + 2.0)).copysign(x)
}

/// `Σ_k r^k/(k + 2)!` to r¹², as a tree of pairs: a chain of operations would take longer.
#[inline(always)]
fn series(r: f64) -> f64 {
    let [c12, c11, c10, c9, c8, c7, c6, c5, c4, c3, c2, c1, c0] = INVERSE_FACTORIALS;
    let r2 = r * r;
    let r4 = r2 * r2;
    let low = c3.mul_add(r, c2).mul_add(r2, c1.mul_add(r, c0));
    let middle = c7.mul_add(r, c6).mul_add(r2, c5.mul_add(r, c4));
    let high = c11.mul_add(r, c10).mul_add(r2, c9.mul_add(r, c8));
    c12.mul_add(r4, high).mul_add(r4 * r4, middle.mul_add(r4, low))
}

#[cfg(test)]
mod tests {
    use faer::Mat;

    use super::{Activation, INVERSE_FACTORIALS, tanh};

    #[test]
    fn activations_are_read_as_they_are_written() {
        for activation in Activation::ALL {
            assert_eq!(activation.to_string(), activation.name());
            assert_eq!(activation.name().parse(), Ok(activation));
        }
        let error = "swish".parse::<Activation>().unwrap_err().to_string();
        assert_eq!(error, "unknown activation 'swish', expected tanh, relu, gelu or identity");
    }

    #[test]
    fn layers_agree_with_single_points() {
        for activation in Activation::ALL {
            let z = Mat::from_fn(11, 3, |i, j| (i as f64 - 5.0) * 0.7 + 0.1 * j as f64);
            let mut values = z.clone();
            let (slopes, bends) = activation.activate_layer(&mut values);
            for (i, j) in (0..11).flat_map(|i| (0..3).map(move |j| (i, j))) {
                let at = activation.at(z[(i, j)]);
                assert!((values[(i, j)] - at.value).abs() <= 1e-15, "{activation:?}");
                assert!((slopes[(i, j)] - at.slope).abs() <= 1e-15, "{activation:?}");
                let bend = if activation.is_piecewise_linear() { 0.0 } else { bends[(i, j)] };
                assert!((bend - at.bend).abs() <= 2e-15, "{activation:?}");
            }
        }
    }

    #[test]
    fn tanh_is_within_a_few_units_in_the_last_place() {
        let mut worst = 0.0_f64;
        for k in 0..400_000_u32 {
            // Sizes run from 1e-20 to 100, evenly in the logarithm, with both signs.
            let size = libm::exp10(-20.0 + 22.0 * f64::from(k) / 400_000.0);
            let x = if k % 2 == 0 { size } else { -size };
            let exact = libm::tanh(x);
            worst = worst.max(((tanh(x) - exact) / exact).abs());
        }
        assert!(worst <= 4.0 * f64::EPSILON, "{worst}");
    }

    #[test]
    fn tanh_of_the_ends_is_its_limit() {
        assert_eq!(tanh(0.0).to_bits(), 0.0_f64.to_bits());
        assert_eq!(tanh(-0.0).to_bits(), (-0.0_f64).to_bits());
        for x in [20.0, 1e300, f64::INFINITY] {
            assert_eq!(tanh(x).to_bits(), 1.0_f64.to_bits());
            assert_eq!(tanh(-x).to_bits(), (-1.0_f64).to_bits());
        }
        assert!(tanh(f64::NAN).is_nan());
        assert!((tanh(f64::from_bits(1)) - f64::from_bits(1)).abs() <= 0.0);
    }

    #[test]
    fn coefficients_are_inverse_factorials() {
        let mut factorial = 1.0;
        for (k, coefficient) in INVERSE_FACTORIALS.iter().rev().enumerate() {
            factorial *= (k + 2) as f64;
            assert!((coefficient * factorial - 1.0).abs() <= f64::EPSILON, "{k}");
        }
    }

    #[test]
    fn derivatives_are_those_of_the_values() {
        let smooth = [Activation::Tanh, Activation::Gelu, Activation::Identity, Activation::Relu];
        for activation in smooth {
            for z in [-3.0, -0.7, 0.1, 0.9, 4.0] {
                let step = 1e-5;
                let (left, here, right) =
                    (activation.at(z - step), activation.at(z), activation.at(z + step));
                // Central differences are off by step² times a third derivative of at most 2.
                let slope = (right.value - left.value) / (2.0 * step);
                let bend = (right.slope - left.slope) / (2.0 * step);
                assert!((slope - here.slope).abs() < 1e-9, "{activation:?} at {z}");
                assert!((bend - here.bend).abs() < 1e-9, "{activation:?} at {z}");
            }
        }
    }

    #[test]
    fn values_far_out_are_their_limits() {
        for z in [50.0, 1e300] {
            assert!((Activation::Tanh.at(z).value - 1.0).abs() < 1e-15);
            assert!((Activation::Gelu.at(z).value / z - 1.0).abs() < 1e-15);
            for activation in [Activation::Tanh, Activation::Gelu, Activation::Relu] {
                let left = activation.at(-z);
                assert!(left.slope.abs() < 1e-15 && left.bend.abs() < 1e-15, "{activation:?} {z}");
            }
        }
    }
}
