//! Activation functions with their first two derivatives.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// The function between two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// An activation at one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Activated {
    /// σ(z).
    pub(super) value: f64,
    /// σ'(z).
    pub(super) slope: f64,
    /// σ''(z).
    pub(super) bend: f64,
}

impl Activation {
    /// σ(z) and σ'(z).
    #[inline]
    pub fn value_and_slope(self, z: f64) -> (f64, f64) {
        let Activated { value, slope, .. } = self.at(z);
        (value, slope)
    }

    /// Whether σ'' vanishes wherever it is defined.
    pub(super) fn is_piecewise_linear(self) -> bool {
        matches!(self, Self::Relu | Self::Identity)
    }

    #[inline]
    pub(super) fn at(self, z: f64) -> Activated {
        match self {
            Self::Tanh => {
                let value = libm::tanh(z);
                let slope = (1.0 - value) * (1.0 + value);
                Activated { value, slope, bend: -2.0 * value * slope }
            }
            Self::Relu => {
                let slope = if z > 0.0 { 1.0 } else { 0.0 };
                Activated { value: z.max(0.0), slope, bend: 0.0 }
            }
            Self::Gelu => {
                let below = 0.5 * libm::erfc(-z * FRAC_1_SQRT_2);
                let density = libm::exp(-0.5 * z * z) / (2.0 * PI).sqrt();
                Activated {
                    value: z * below,
                    slope: below + z * density,
                    // Far out z² leaves the range, and the density is zero.
                    bend: if density > 0.0 { density * (2.0 - z * z) } else { 0.0 },
                }
            }
            Self::Identity => Activated { value: z, slope: 1.0, bend: 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Activation;

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
