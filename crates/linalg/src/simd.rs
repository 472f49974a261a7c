//! Vector kernels with a fixed lane order.
//!
//! Sums run in [`LANES`] = 8 partial sums (element i goes to lane i mod 8) with fused multiply-add,
//! and the lanes are added in one fixed tree. AVX-512 holds the lanes in one register, AVX2 in two,
//! and the portable path in eight scalars: all three give the same bits.
//!
//! That is for float64, the default of everything here. Numbers of the other [`Real`] type, float32, take
//! half the space: there are sixteen lanes of them in the same number of registers.
//!
//! Everything generic over the instruction set is inlined into the dispatched function, and written
//! with loops, not closures: a closure is compiled without the instruction set of its surroundings,
//! so that every intrinsic in it becomes a call.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

mod real;

use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::OnceLock;

use pulp::{Arch, Simd, WithSimd};

pub use self::real::Real;

/// Number of partial sums of every reduction of float64 numbers.
pub const LANES: usize = <f64 as Real>::LANES;

/// Lanes of the type with the most of them.
const MOST_LANES: usize = <f32 as Real>::LANES;

/// `len` rounded up to whole lane groups of float64 numbers.
pub const fn padded(len: usize) -> usize {
    padded_for::<f64>(len)
}

/// `len` rounded up to whole lane groups.
pub const fn padded_for<E: Real>(len: usize) -> usize {
    len.div_ceil(E::LANES) * E::LANES
}

/// Numbers that start on a cache line: a register-wide load never straddles two.
///
/// Its length is fixed. Made of a plain vector with the first few entries left unused.
#[derive(Debug)]
pub struct AlignedVec<E = f64> {
    values: Vec<E>,
    start: usize,
    len: usize,
}

impl<E: Real> AlignedVec<E> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        const LINE: usize = 64;
        let values = vec![E::ZERO; len + LINE / size_of::<E>()];
        // The allocation never moves: the vector does not grow.
        let misaligned = values.as_ptr().addr() % LINE;
        let start = if misaligned == 0 { 0 } else { (LINE - misaligned) / size_of::<E>() };
        Self { values, start, len }
    }

    /// Rows of length `from`, rounded to this type, each filled up with zeros to length `to`.
    ///
    /// # Panics
    /// When `to < from` or `from` is zero.
    pub fn from_rows(values: &[f64], from: usize, to: usize) -> Self {
        let mut out = Self::zeros(values.len() / from * to);
        for (row, source) in out.chunks_exact_mut(to).zip(values.chunks_exact(from)) {
            for (entry, value) in row[..from].iter_mut().zip(source) {
                *entry = E::from_f64(*value);
            }
        }
        out
    }
}

impl<E> Deref for AlignedVec<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.values[self.start..][..self.len]
    }
}

impl<E> DerefMut for AlignedVec<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.values[self.start..][..self.len]
    }
}

/// A way to run the kernels of this workspace. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// AVX-512: eight lanes in a register (x86-64-v4).
    Avx512,
    /// AVX2 and FMA: four lanes (x86-64-v3).
    Avx2,
    /// What every processor has.
    Scalar,
}

impl FromStr for InstructionSet {
    type Err = InstructionSetError;

    fn from_str(name: &str) -> Result<Self, InstructionSetError> {
        let found = Self::ALL.into_iter().find(|set| set.name() == name);
        found.ok_or_else(|| InstructionSetError::Unknown(name.to_owned()))
    }
}

impl InstructionSet {
    /// All, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Scalar];

    /// The word for it in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Scalar => "scalar",
        }
    }

    /// The kernels for it, where this processor has it.
    pub fn arch(self) -> Option<Arch> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => None,
            Self::Scalar => Some(Arch::Scalar),
        }
    }
}

/// A wish for an instruction set that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstructionSetError {
    /// There is none of this name.
    #[error("`{0}` is no instruction set; the names are avx512, avx2 and scalar")]
    Unknown(String),
    /// This processor does not have it.
    #[error("this processor does not have the instruction set {}", .0.name())]
    Missing(InstructionSet),
    /// Kernels have run already, or another one has been chosen.
    #[error("the instruction set is {chosen} already, which cannot be changed to {}", wanted.name())]
    Chosen {
        /// In use.
        chosen: &'static str,
        /// Asked for.
        wanted: InstructionSet,
    },
}

/// The environment variable by which programs choose an instruction set.
pub const VARIABLE: &str = "FLATMIN_SIMD";

static CHOSEN: OnceLock<Arch> = OnceLock::new();

/// Makes every kernel of this process run on `wanted`, not on the best this processor has.
///
/// To be called at the start of a program, before any kernel runs. Programs of this workspace take the
/// wish from the environment variable named [`VARIABLE`].
///
/// # Errors
/// [`InstructionSetError`]: this processor does not have it, or the choice has been made.
pub fn choose(wanted: InstructionSet) -> Result<(), InstructionSetError> {
    let arch = wanted.arch().ok_or(InstructionSetError::Missing(wanted))?;
    let _ = CHOSEN.set(arch);
    let chosen = arch_name(self::arch());
    if chosen == arch_name(arch) {
        Ok(())
    } else {
        Err(InstructionSetError::Chosen { chosen, wanted })
    }
}

/// The kernels in use: those [`choose`]n, else the best for this processor.
#[inline]
pub fn arch() -> Arch {
    #[expect(clippy::disallowed_methods, reason = "the place that asks the processor")]
    let best = Arch::new;
    *CHOSEN.get_or_init(best)
}

/// The instruction set in use, for provenance records.
pub fn instruction_set() -> &'static str {
    arch_name(arch())
}

fn arch_name(arch: Arch) -> &'static str {
    #[cfg(target_arch = "x86_64")]
    match arch {
        Arch::V4(_) => return "AVX-512",
        Arch::V3(_) => return "AVX2",
        _ => {}
    }
    let _ = arch;
    "portable"
}

/// All lanes, held in as many registers of `S` as that takes.
///
/// Only the first [`REGISTERS`](Self::REGISTERS) entries are used; the rest is never read and costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Lanes<S: Simd, E: Real = f64>(E::Registers<S>);

/// The registers that make up one group of lanes.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a, S: Simd, E: Real = f64>(&'a [E::Register<S>]);

impl<'a, S: Simd, E: Real> Groups<'a, S, E> {
    /// Views a slice as groups of lanes.
    ///
    /// # Panics
    /// When its length is not a multiple of their number.
    #[inline(always)]
    pub fn new(slice: &'a [E]) -> Self {
        assert_eq!(slice.len() % E::LANES, 0, "padded slice");
        Self(E::registers::<S>(slice))
    }

    /// Number of groups.
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

/// Writable groups of lanes.
#[derive(Debug)]
pub struct GroupsMut<'a, S: Simd, E: Real = f64>(&'a mut [E::Register<S>]);

impl<'a, S: Simd, E: Real> GroupsMut<'a, S, E> {
    /// Views a slice as groups of lanes.
    ///
    /// # Panics
    /// When its length is not a multiple of their number.
    #[inline(always)]
    pub fn new(slice: &'a mut [E]) -> Self {
        assert_eq!(slice.len() % E::LANES, 0, "padded slice");
        Self(E::registers_mut::<S>(slice))
    }

    /// Number of groups.
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
    /// Number of registers that hold all lanes.
    pub const REGISTERS: usize = E::LANES * size_of::<E>() / size_of::<E::Register<S>>();

    /// The same value in all lanes.
    #[inline(always)]
    pub fn splat(simd: S, value: E) -> Self {
        Self(E::same::<S>(E::splat(simd, value)))
    }

    /// `self · factor + addend`, fused.
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

    /// Lane by lane product.
    #[inline(always)]
    #[must_use]
    pub fn mul(mut self, simd: S, other: Self) -> Self {
        for k in 0..Self::REGISTERS {
            self.0[k] = E::mul_registers(simd, self.0[k], other.0[k]);
        }
        self
    }

    /// Zero where `self ≤ 0`, else `if_true`, lane by lane; a NaN lets it through.
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

/// `Σ a_i b_i` for slices of equal length, in the fixed lane order.
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
                let (mut a_last, mut b_last) = ([E::ZERO; MOST_LANES], [E::ZERO; MOST_LANES]);
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

/// `Σ a_i²` in the fixed lane order.
pub fn norm_squared<E: Real>(a: &[E]) -> E {
    dot(a, a)
}

/// `y += scale · x`, fused.
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

#[cfg(test)]
mod tests {
    use pulp::{Simd, WithSimd};

    use super::{AlignedVec, Groups, InstructionSet, Real, axpy, dot, dot_lanes};

    /// The definition of the lane order, in plain scalars. A sum of two float32 numbers in float64 is
    /// rounded to float32 as their sum in float32 is.
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
