//! Dot products and updates of slices.

use pulp::{Simd, WithSimd};

use super::instruction_set::arch;
use super::lanes::{Groups, GroupsMut, Lanes, MAX_LANES, dot_lanes};
use super::real::Real;

/// The dot product `Σ a_i b_i` of slices of equal length, in the fixed lane order.
///
/// ```
/// use flatmin_linalg::simd;
/// assert_eq!(simd::dot(&[1.0, 2.0, 3.0], &[4.0, -5.0, 6.0]), 12.0);
/// ```
///
/// # Panics
/// When the lengths differ.
pub fn dot<E: Real>(a: &[E], b: &[E]) -> E {
    struct Dot<'a, E>(&'a [E], &'a [E]);
    impl<E: Real> WithSimd for Dot<'_, E> {
        type Output = E;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> E {
            let whole = self.0.len() / E::LANES * E::LANES;
            let (a, a_rest) = self.0.split_at(whole);
            let (b, b_rest) = self.1.split_at(whole);
            let mut sum = dot_lanes(simd, Groups::new(a), Groups::new(b));
            if !a_rest.is_empty() {
                let (mut a_last, mut b_last) = ([E::ZERO; MAX_LANES], [E::ZERO; MAX_LANES]);
                a_last[..a_rest.len()].copy_from_slice(a_rest);
                b_last[..b_rest.len()].copy_from_slice(b_rest);
                sum = Groups::new(&a_last[..E::LANES]).get(simd, 0).mul_add(
                    simd,
                    Groups::new(&b_last[..E::LANES]).get(simd, 0),
                    sum,
                );
            }
            sum.sum(simd)
        }
    }
    assert_eq!(a.len(), b.len(), "lengths of a dot product");
    arch().dispatch(Dot(a, b))
}

/// The squared norm `Σ a_i²`, in the fixed lane order.
pub fn norm_squared<E: Real>(a: &[E]) -> E {
    dot(a, a)
}

/// Adds `scale · x` to y, fused.
///
/// # Panics
/// When the lengths differ.
pub fn axpy<E: Real>(scale: E, x: &[E], y: &mut [E]) {
    struct Axpy<'a, E>(E, &'a [E], &'a mut [E]);
    impl<E: Real> WithSimd for Axpy<'_, E> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(scale, x, y) = self;
            let whole = x.len() / E::LANES * E::LANES;
            let (x, x_rest) = x.split_at(whole);
            let (y, y_rest) = y.split_at_mut(whole);
            let x = Groups::<S, E>::new(x);
            let mut y = GroupsMut::<S, E>::new(y);
            let factor = Lanes::splat(simd, scale);
            for k in 0..x.len() {
                y.set(k, x.get(simd, k).mul_add(simd, factor, y.get(simd, k)));
            }
            for (y, x) in y_rest.iter_mut().zip(x_rest) {
                *y = x.mul_add(scale, *y);
            }
        }
    }
    assert_eq!(x.len(), y.len(), "lengths of an update");
    arch().dispatch(Axpy(scale, x, y));
}
