//! The numbers that vector kernels compute with.

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::IndexMut;

use pulp::Simd;

/// The types `f64` and `f32`, with the register operations that kernels need. A kernel that is
/// generic over it exists once for both.
pub trait Real: Sealed + Copy + Debug + PartialOrd + Send + Sync + 'static {
    /// The number 0.
    const ZERO: Self;

    /// The number of partial sums of every reduction: as many as a register of AVX-512 holds.
    const LANES: usize;

    /// An array with one number for each lane.
    type Array: Copy
        + Debug
        + Send
        + Sync
        + Default
        + AsRef<[Self]>
        + AsMut<[Self]>
        + IndexMut<usize, Output = Self>;

    /// A register of the instruction set `S`.
    type Register<S: Simd>: Copy + Debug + Send + Sync + 'static;

    /// An array of at least as many registers as all lanes need.
    type Registers<S: Simd>: Copy + Debug + IndexMut<usize, Output = Self::Register<S>>;

    /// The nearest number of this type.
    fn from_f64(value: f64) -> Self;

    /// This number as `f64`, which is exact.
    fn to_f64(self) -> f64;

    /// The fused `self · factor + addend`.
    #[must_use]
    fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// The nearest numbers of this type; borrowed for `f64`.
    fn rounded(values: &[f64]) -> Cow<'_, [Self]>;

    /// The values as arrays of one number per lane. An incomplete last array is left out.
    fn arrays(values: &[Self]) -> &[Self::Array];

    /// The mutable form of [`arrays`](Self::arrays).
    fn arrays_mut(values: &mut [Self]) -> &mut [Self::Array];

    /// The values as registers. An incomplete last register is left out.
    fn registers<S: Simd>(values: &[Self]) -> &[Self::Register<S>];

    /// The mutable form of [`registers`](Self::registers).
    fn registers_mut<S: Simd>(values: &mut [Self]) -> &mut [Self::Register<S>];

    /// An array of copies of one register.
    fn same<S: Simd>(register: Self::Register<S>) -> Self::Registers<S>;

    /// A register whose lanes all hold `value`.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Register<S>;

    /// The sum lane by lane.
    fn add_registers<S: Simd>(
        simd: S,
        a: Self::Register<S>,
        b: Self::Register<S>,
    ) -> Self::Register<S>;

    /// The product lane by lane.
    fn mul_registers<S: Simd>(
        simd: S,
        a: Self::Register<S>,
        b: Self::Register<S>,
    ) -> Self::Register<S>;

    /// The fused `a · b + c`, lane by lane.
    fn mul_add_registers<S: Simd>(
        simd: S,
        a: Self::Register<S>,
        b: Self::Register<S>,
        c: Self::Register<S>,
    ) -> Self::Register<S>;

    /// Lane by lane, zero where `condition ≤ 0` and `if_true` elsewhere, also where `condition` is
    /// NaN.
    fn where_positive<S: Simd>(
        simd: S,
        condition: Self::Register<S>,
        if_true: Self::Register<S>,
    ) -> Self::Register<S>;

    /// The sum of the lanes of a register, which is halved until one lane is left.
    fn sum_register<S: Simd>(simd: S, a: Self::Register<S>) -> Self;
}

/// Prevents other implementations of [`Real`].
pub trait Sealed {}

macro_rules! real {
    (
        $real:ty, $lanes:literal, $register:ident, $as_registers:ident, $as_registers_mut:ident,
        $splat:ident, $add:ident, $mul:ident, $mul_add:ident, $less_than_or_equal:ident, $select:ident,
        $reduce_sum:ident, $from:expr, $to:expr, $rounded:expr
    ) => {
        impl Sealed for $real {}

        impl Real for $real {
            const ZERO: Self = 0.0;
            const LANES: usize = $lanes;
            type Array = [Self; $lanes];
            type Register<S: Simd> = S::$register;
            type Registers<S: Simd> = [S::$register; $lanes];

            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                $from(value)
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                $to(self)
            }

            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                <$real>::mul_add(self, factor, addend)
            }

            fn rounded(values: &[f64]) -> Cow<'_, [Self]> {
                $rounded(values)
            }

            #[inline(always)]
            fn arrays(values: &[Self]) -> &[Self::Array] {
                values.as_chunks().0
            }

            #[inline(always)]
            fn arrays_mut(values: &mut [Self]) -> &mut [Self::Array] {
                values.as_chunks_mut().0
            }

            #[inline(always)]
            fn registers<S: Simd>(values: &[Self]) -> &[S::$register] {
                S::$as_registers(values).0
            }

            #[inline(always)]
            fn registers_mut<S: Simd>(values: &mut [Self]) -> &mut [S::$register] {
                S::$as_registers_mut(values).0
            }

            #[inline(always)]
            fn same<S: Simd>(register: S::$register) -> Self::Registers<S> {
                [register; $lanes]
            }

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$register {
                simd.$splat(value)
            }

            #[inline(always)]
            fn add_registers<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$register {
                simd.$add(a, b)
            }

            #[inline(always)]
            fn mul_registers<S: Simd>(simd: S, a: S::$register, b: S::$register) -> S::$register {
                simd.$mul(a, b)
            }

            #[inline(always)]
            fn mul_add_registers<S: Simd>(
                simd: S,
                a: S::$register,
                b: S::$register,
                c: S::$register,
            ) -> S::$register {
                simd.$mul_add(a, b, c)
            }

            #[inline(always)]
            fn where_positive<S: Simd>(
                simd: S,
                condition: S::$register,
                if_true: S::$register,
            ) -> S::$register {
                let zero = simd.$splat(0.0);
                simd.$select(simd.$less_than_or_equal(condition, zero), zero, if_true)
            }

            #[inline(always)]
            fn sum_register<S: Simd>(simd: S, a: S::$register) -> Self {
                simd.$reduce_sum(a)
            }
        }
    };
}

real!(
    f64,
    8,
    f64s,
    as_simd_f64s,
    as_mut_simd_f64s,
    splat_f64s,
    add_f64s,
    mul_f64s,
    mul_add_f64s,
    less_than_or_equal_f64s,
    select_f64s,
    reduce_sum_f64s,
    std::convert::identity,
    std::convert::identity,
    Cow::Borrowed
);

real!(
    f32,
    16,
    f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    splat_f32s,
    add_f32s,
    mul_f32s,
    mul_add_f32s,
    less_than_or_equal_f32s,
    select_f32s,
    reduce_sum_f32s,
    nearest,
    f64::from,
    |values: &[f64]| Cow::Owned(values.iter().copied().map(nearest).collect())
);

/// The nearest `f32`; infinite beyond the largest.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
fn nearest(value: f64) -> f32 {
    value as f32
}
