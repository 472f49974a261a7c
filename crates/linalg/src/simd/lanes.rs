//! Groups of lanes in registers.

use pulp::Simd;

use super::real::Real;

/// The number of partial sums of every reduction of `f64` values.
pub const LANES: usize = <f64 as Real>::LANES;

/// The number of lanes of the type that has most of them.
pub(super) const MAX_LANES: usize = <f32 as Real>::LANES;

/// `len` rounded up to whole lane groups of `f64` values.
pub const fn padded(len: usize) -> usize {
    padded_for::<f64>(len)
}

/// `len` rounded up to whole lane groups.
pub const fn padded_for<E: Real>(len: usize) -> usize {
    len.div_ceil(E::LANES) * E::LANES
}

/// A group of lanes, in as many registers of `S` as it needs.
///
/// Only the first [`REGISTERS`](Self::REGISTERS) registers are used; the rest is never read and
/// costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Lanes<S: Simd, E: Real = f64>(E::Registers<S>);

/// A slice as groups of lanes.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a, S: Simd, E: Real = f64>(&'a [E::Register<S>]);

impl<'a, S: Simd, E: Real> Groups<'a, S, E> {
    /// Views a slice as groups of lanes.
    ///
    /// # Panics
    /// When its length is not a multiple of the number of lanes.
    #[inline(always)]
    pub fn new(slice: &'a [E]) -> Self {
        assert_eq!(slice.len() % E::LANES, 0, "padded slice");
        Self(E::registers::<S>(slice))
    }

    /// The number of groups.
    #[inline(always)]
    #[expect(clippy::len_without_is_empty, reason = "a count for loops, not a collection")]
    pub fn len(&self) -> usize {
        self.0.len() / Lanes::<S, E>::REGISTERS
    }

    /// Group `index`.
    #[inline(always)]
    pub fn get(&self, simd: S, index: usize) -> Lanes<S, E> {
        let count = Lanes::<S, E>::REGISTERS;
        let registers = &self.0[index * count..][..count];
        let mut lanes = Lanes::splat(simd, E::ZERO);
        for (k, register) in registers.iter().enumerate() {
            lanes.0[k] = *register;
        }
        lanes
    }
}

/// A mutable slice as groups of lanes.
#[derive(Debug)]
pub struct GroupsMut<'a, S: Simd, E: Real = f64>(&'a mut [E::Register<S>]);

impl<'a, S: Simd, E: Real> GroupsMut<'a, S, E> {
    /// Views a slice as groups of lanes.
    ///
    /// # Panics
    /// When its length is not a multiple of the number of lanes.
    #[inline(always)]
    pub fn new(slice: &'a mut [E]) -> Self {
        assert_eq!(slice.len() % E::LANES, 0, "padded slice");
        Self(E::registers_mut::<S>(slice))
    }

    /// The number of groups.
    #[inline(always)]
    #[expect(clippy::len_without_is_empty, reason = "a count for loops, not a collection")]
    pub fn len(&self) -> usize {
        self.0.len() / Lanes::<S, E>::REGISTERS
    }

    /// Group `index`.
    #[inline(always)]
    pub fn get(&self, simd: S, index: usize) -> Lanes<S, E> {
        Groups(&*self.0).get(simd, index)
    }

    /// Replaces group `index`.
    #[inline(always)]
    pub fn set(&mut self, index: usize, lanes: Lanes<S, E>) {
        let count = Lanes::<S, E>::REGISTERS;
        let registers = &mut self.0[index * count..][..count];
        for (k, register) in registers.iter_mut().enumerate() {
            *register = lanes.0[k];
        }
    }
}

impl<S: Simd, E: Real> Lanes<S, E> {
    /// The number of registers that hold all lanes.
    pub const REGISTERS: usize = E::LANES * size_of::<E>() / size_of::<E::Register<S>>();

    /// A group of lanes that all hold `value`.
    #[inline(always)]
    pub fn splat(simd: S, value: E) -> Self {
        Self(E::same::<S>(E::splat(simd, value)))
    }

    /// The fused `self · factor + addend`, lane by lane.
    #[inline(always)]
    #[must_use]
    pub fn mul_add(mut self, simd: S, factor: Self, addend: Self) -> Self {
        for k in 0..Self::REGISTERS {
            self.0[k] = E::mul_add_registers(simd, self.0[k], factor.0[k], addend.0[k]);
        }
        self
    }

    /// Adds `a · b` to the lanes that register `register` of the group holds, fused.
    #[inline(always)]
    pub fn accumulate(&mut self, simd: S, register: usize, a: E::Register<S>, b: E::Register<S>) {
        self.0[register] = E::mul_add_registers(simd, a, b, self.0[register]);
    }

    /// Replaces register `register` of the group.
    #[inline(always)]
    pub(crate) fn set_register(&mut self, register: usize, value: E::Register<S>) {
        self.0[register] = value;
    }

    /// The product lane by lane.
    #[inline(always)]
    #[must_use]
    pub fn mul(mut self, simd: S, other: Self) -> Self {
        for k in 0..Self::REGISTERS {
            self.0[k] = E::mul_registers(simd, self.0[k], other.0[k]);
        }
        self
    }

    /// Lane by lane, zero where `self ≤ 0` and `if_true` elsewhere, also where `self` is NaN.
    #[inline(always)]
    #[must_use]
    pub fn where_positive(mut self, simd: S, if_true: Self) -> Self {
        for k in 0..Self::REGISTERS {
            self.0[k] = E::where_positive(simd, self.0[k], if_true.0[k]);
        }
        self
    }

    /// The sum of the lanes: `((0+4)+(2+6)) + ((1+5)+(3+7))` for eight, on every path.
    #[inline(always)]
    pub fn sum(self, simd: S) -> E {
        // Halving a power-of-two number of registers, then of lanes, adds lane i to lane
        // i + 4, then i + 2, then i + 1: what pulp's in-register reduction does too.
        let mut registers = self.0;
        let mut count = Self::REGISTERS;
        while count > 1 {
            count /= 2;
            for k in 0..count {
                registers[k] = E::add_registers(simd, registers[k], registers[k + count]);
            }
        }
        E::sum_register(simd, registers[0])
    }
}

/// The partial sums of a dot product.
#[inline(always)]
pub fn dot_lanes<S: Simd, E: Real>(
    simd: S,
    a: Groups<'_, S, E>,
    b: Groups<'_, S, E>,
) -> Lanes<S, E> {
    let mut sum = Lanes::splat(simd, E::ZERO);
    for k in 0..a.len() {
        sum = a.get(simd, k).mul_add(simd, b.get(simd, k), sum);
    }
    sum
}
