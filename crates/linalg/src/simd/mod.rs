//! Vector kernels with a fixed lane order.
//!
//! Sums run in [`LANES`] = 8 partial sums with fused multiply-add; element i goes to lane i mod 8.
//! The lanes are added in one fixed tree. AVX-512 holds the lanes in one register, AVX2 in two, and
//! the portable path in eight scalars: all three give the same bits.
//!
//! This describes `f64`, the default of every type here. The other [`Real`] type is `f32`. Its
//! numbers take half the space, so that there are sixteen lanes in the same number of registers.
//!
//! Everything generic over the instruction set is inlined into the dispatched function, and is
//! written with loops instead of closures. A closure is compiled without the instruction set of its
//! surroundings, so that every intrinsic in it becomes a call.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

mod aligned;
mod instruction_set;
mod lanes;
mod real;
mod vector;

pub use aligned::AlignedVec;
pub use instruction_set::{
    InstructionSet, InstructionSetError, VARIABLE, arch, choose, instruction_set,
};
pub use lanes::{Groups, GroupsMut, LANES, Lanes, dot_lanes, padded, padded_for};
pub use real::Real;
pub use vector::{axpy, dot, norm_squared};

#[cfg(test)]
mod tests {
    use pulp::{Simd, WithSimd};

    use super::{AlignedVec, Groups, InstructionSet, Real, axpy, dot, dot_lanes};

    /// The definition of the lane order, in plain scalars. A sum of two float32 numbers in float64
    /// is rounded to float32 as their sum in float32 is.
    fn reference<E: Real>(a: &[E], b: &[E]) -> E {
        let mut lanes = vec![E::ZERO; E::LANES];
        for (i, (x, y)) in a.iter().zip(b).enumerate() {
            lanes[i % E::LANES] = x.mul_add(*y, lanes[i % E::LANES]);
        }
        let mut count = E::LANES;
        while count > 1 {
            count /= 2;
            for i in 0..count {
                lanes[i] = E::from_f64(lanes[i].to_f64() + lanes[i + count].to_f64());
            }
        }
        lanes[0]
    }

    fn vectors<E: Real>(len: usize) -> (Vec<E>, Vec<E>) {
        let value = |i: usize, k: usize| ((i * 7919 + k) % 1009) as f64 / 509.0 - 0.987;
        let numbers = |k| (0..len).map(|i| E::from_f64(value(i, k))).collect();
        (numbers(3), numbers(555))
    }

    fn bits<E: Real>(value: E) -> u64 {
        value.to_f64().to_bits()
    }

    #[test]
    fn dot_has_the_bits_of_its_definition() {
        fn check<E: Real>() {
            for len in [0, 1, 7, 8, 9, 16, 31, 104, 1000, 1003] {
                let (a, b) = vectors::<E>(len);
                assert_eq!(bits(dot(&a, &b)), bits(reference(&a, &b)), "length {len}");
            }
        }
        check::<f64>();
        check::<f32>();
    }

    #[test]
    fn eight_lanes_are_added_in_pairs() {
        let (a, b) = vectors::<f64>(8);
        let products: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a * b).collect();
        let [a, b, c, d, e, f, g, h] = products[..] else { unreachable!() };
        let expected = ((a + e) + (c + g)) + ((b + f) + (d + h));
        assert_eq!(reference(&vectors::<f64>(8).0, &vectors(8).1).to_bits(), expected.to_bits());
    }

    #[test]
    fn aligned_numbers_start_on_a_cache_line() {
        fn check<E: Real>() {
            for len in [0, 1, 8, 1000] {
                let aligned = AlignedVec::<E>::zeros(len);
                assert_eq!((aligned.len(), aligned.as_ptr().addr() % 64), (len, 0));
            }
        }
        check::<f64>();
        check::<f32>();
        let rows = AlignedVec::<f64>::from_rows(&[1.0, 2.0, 3.0, 4.0], 2, 3);
        assert_eq!(*rows, [1.0, 2.0, 0.0, 3.0, 4.0, 0.0]);
    }

    struct Padded<'a, E>(&'a [E], &'a [E]);
    impl<E: Real> WithSimd for Padded<'_, E> {
        type Output = E;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> E {
            dot_lanes(simd, Groups::new(self.0), Groups::new(self.1)).sum(simd)
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        fn check<E: Real>() {
            let (a, b) = vectors::<E>(1008);
            let expected = bits(reference(&a, &b));
            for arch in InstructionSet::ALL.into_iter().filter_map(InstructionSet::arch) {
                assert_eq!(bits(arch.dispatch(Padded(&a, &b))), expected, "{arch:?}");
            }
        }
        check::<f64>();
        check::<f32>();
    }

    #[test]
    fn axpy_is_fused_in_every_element() {
        fn check<E: Real>() {
            let ((x, y), scale) = (vectors::<E>(21), E::from_f64(0.3));
            let mut out = y.clone();
            axpy(scale, &x, &mut out);
            for ((o, x), y) in out.iter().zip(&x).zip(&y) {
                assert_eq!(bits(*o), bits(x.mul_add(scale, *y)));
            }
        }
        check::<f64>();
        check::<f32>();
    }
}
