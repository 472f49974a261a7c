//! Vector kernels with a fixed lane order.
//!
//! Sums run in [`LANES`] = 8 partial sums (element i goes to lane i mod 8) with fused multiply-add,
//! and the lanes are added in one fixed tree. AVX-512 holds the lanes in one register, AVX2 in two,
//! and the portable path in eight scalars: all three give the same bits.
//!
//! Everything generic over the instruction set is inlined into the dispatched function, and written
//! with loops, not closures: a closure is compiled without the instruction set of its surroundings,
//! so that every intrinsic in it becomes a call.

#![expect(
    clippy::inline_always,
    reason = "a kernel that is not inlined loses the instruction set it was dispatched to"
)]

use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::OnceLock;

use pulp::{Arch, Simd, WithSimd};

/// Number of partial sums of every reduction.
pub const LANES: usize = 8;

/// `len` rounded up to whole lane groups.
pub const fn padded(len: usize) -> usize {
    len.div_ceil(LANES) * LANES
}

/// Numbers that start on a cache line: a register-wide load never straddles two.
///
/// Its length is fixed. Made of a plain vector with the first few entries left unused.
#[derive(Debug)]
pub struct AlignedVec {
    values: Vec<f64>,
    start: usize,
    len: usize,
}

impl AlignedVec {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        const LINE: usize = 64;
        let values = vec![0.0; len + LANES];
        // The allocation never moves: the vector does not grow.
        let misaligned = values.as_ptr().addr() % LINE;
        let start = if misaligned == 0 { 0 } else { (LINE - misaligned) / size_of::<f64>() };
        Self { values, start, len }
    }

    /// Rows of length `from`, each filled up with zeros to length `to`.
    ///
    /// # Panics
    /// When `to < from` or `from` is zero.
    pub fn from_rows(values: &[f64], from: usize, to: usize) -> Self {
        let mut out = Self::zeros(values.len() / from * to);
        for (row, source) in out.chunks_exact_mut(to).zip(values.chunks_exact(from)) {
            row[..from].copy_from_slice(source);
        }
        out
    }
}

impl Deref for AlignedVec {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.values[self.start..][..self.len]
    }
}

impl DerefMut for AlignedVec {
    fn deref_mut(&mut self) -> &mut [f64] {
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

/// Eight lanes, held in as many registers of `S` as that takes.
///
/// Only the first `8 / S::F64_LANES` entries are used; the rest is never read and costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Lanes<S: Simd>([S::f64s; LANES]);

/// The registers that make up one group of eight lanes.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a, S: Simd>(&'a [S::f64s]);

impl<'a, S: Simd> Groups<'a, S> {
    const REGISTERS: usize = LANES / S::F64_LANES;

    /// Views a slice as groups of eight lanes.
    ///
    /// # Panics
    /// When its length is not a multiple of [`LANES`].
    #[inline(always)]
    pub fn new(slice: &'a [f64]) -> Self {
        assert_eq!(slice.len() % LANES, 0, "padded slice");
        Self(S::as_simd_f64s(slice).0)
    }

    /// Number of groups.
    #[inline(always)]
    #[expect(clippy::len_without_is_empty, reason = "a count for loops, not a collection")]
    pub fn len(&self) -> usize {
        self.0.len() / Self::REGISTERS
    }

    /// Group `index`.
    #[inline(always)]
    pub fn get(&self, simd: S, index: usize) -> Lanes<S> {
        let registers = &self.0[index * Self::REGISTERS..][..Self::REGISTERS];
        let mut lanes = [simd.splat_f64s(0.0); LANES];
        lanes[..Self::REGISTERS].copy_from_slice(registers);
        Lanes(lanes)
    }
}

/// Writable groups of eight lanes.
#[derive(Debug)]
pub struct GroupsMut<'a, S: Simd>(&'a mut [S::f64s]);

impl<'a, S: Simd> GroupsMut<'a, S> {
    const REGISTERS: usize = LANES / S::F64_LANES;

    /// Views a slice as groups of eight lanes.
    ///
    /// # Panics
    /// When its length is not a multiple of [`LANES`].
    #[inline(always)]
    pub fn new(slice: &'a mut [f64]) -> Self {
        assert_eq!(slice.len() % LANES, 0, "padded slice");
        Self(S::as_mut_simd_f64s(slice).0)
    }

    /// Number of groups.
    #[inline(always)]
    #[expect(clippy::len_without_is_empty, reason = "a count for loops, not a collection")]
    pub fn len(&self) -> usize {
        self.0.len() / Self::REGISTERS
    }

    /// Group `index`.
    #[inline(always)]
    pub fn get(&self, simd: S, index: usize) -> Lanes<S> {
        Groups(&*self.0).get(simd, index)
    }

    /// Replaces group `index`.
    #[inline(always)]
    pub fn set(&mut self, index: usize, lanes: Lanes<S>) {
        self.0[index * Self::REGISTERS..][..Self::REGISTERS]
            .copy_from_slice(&lanes.0[..Self::REGISTERS]);
    }
}

impl<S: Simd> Lanes<S> {
    const REGISTERS: usize = LANES / S::F64_LANES;

    /// The same value in all lanes.
    #[inline(always)]
    pub fn splat(simd: S, value: f64) -> Self {
        Self([simd.splat_f64s(value); LANES])
    }

    /// `self · factor + addend`, fused.
    #[inline(always)]
    #[must_use]
    pub fn mul_add(mut self, simd: S, factor: Self, addend: Self) -> Self {
        for k in 0..Self::REGISTERS {
            self.0[k] = simd.mul_add_f64s(self.0[k], factor.0[k], addend.0[k]);
        }
        self
    }

    /// Adds `a · b` to the lanes that register `register` of the group holds, fused.
    #[inline(always)]
    pub fn accumulate(&mut self, simd: S, register: usize, a: S::f64s, b: S::f64s) {
        self.0[register] = simd.mul_add_f64s(a, b, self.0[register]);
    }

    /// Replaces register `register` of the group.
    #[inline(always)]
    pub(crate) fn set_register(&mut self, register: usize, value: S::f64s) {
        self.0[register] = value;
    }

    /// Lane by lane product.
    #[inline(always)]
    #[must_use]
    pub fn mul(mut self, simd: S, other: Self) -> Self {
        for k in 0..Self::REGISTERS {
            self.0[k] = simd.mul_f64s(self.0[k], other.0[k]);
        }
        self
    }

    /// `if_true` where `self > 0`, else zero, lane by lane.
    #[inline(always)]
    #[must_use]
    pub fn where_positive(mut self, simd: S, if_true: Self) -> Self {
        let zero = simd.splat_f64s(0.0);
        for k in 0..Self::REGISTERS {
            let mask = simd.greater_than_f64s(self.0[k], zero);
            self.0[k] = simd.select_f64s(mask, if_true.0[k], zero);
        }
        self
    }

    /// The sum of the lanes: `((0+4)+(2+6)) + ((1+5)+(3+7))` on every path.
    #[inline(always)]
    pub fn sum(self, simd: S) -> f64 {
        // Halving a power-of-two number of registers, then of lanes, adds lane i to lane
        // i + 4, then i + 2, then i + 1: what pulp's in-register reduction does too.
        let mut registers = self.0;
        let mut count = Self::REGISTERS;
        while count > 1 {
            count /= 2;
            for k in 0..count {
                registers[k] = simd.add_f64s(registers[k], registers[k + count]);
            }
        }
        simd.reduce_sum_f64s(registers[0])
    }
}

/// `Σ a_i b_i` for slices of equal length, in the fixed lane order.
///
/// # Panics
/// When the lengths differ.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    struct Dot<'a>(&'a [f64], &'a [f64]);
    impl WithSimd for Dot<'_> {
        type Output = f64;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f64 {
            let whole = self.0.len() / LANES * LANES;
            let (a, a_rest) = self.0.split_at(whole);
            let (b, b_rest) = self.1.split_at(whole);
            let mut sum = dot_lanes(simd, Groups::new(a), Groups::new(b));
            if !a_rest.is_empty() {
                let (mut a_last, mut b_last) = ([0.0; LANES], [0.0; LANES]);
                a_last[..a_rest.len()].copy_from_slice(a_rest);
                b_last[..b_rest.len()].copy_from_slice(b_rest);
                sum = Groups::new(&a_last).get(simd, 0).mul_add(
                    simd,
                    Groups::new(&b_last).get(simd, 0),
                    sum,
                );
            }
            sum.sum(simd)
        }
    }
    assert_eq!(a.len(), b.len(), "lengths of a dot product");
    arch().dispatch(Dot(a, b))
}

/// The eight partial sums of a dot product.
#[inline(always)]
pub fn dot_lanes<S: Simd>(simd: S, a: Groups<'_, S>, b: Groups<'_, S>) -> Lanes<S> {
    let mut sum = Lanes::splat(simd, 0.0);
    for k in 0..a.len() {
        sum = a.get(simd, k).mul_add(simd, b.get(simd, k), sum);
    }
    sum
}

/// `Σ a_i²` in the fixed lane order.
pub fn norm_squared(a: &[f64]) -> f64 {
    dot(a, a)
}

/// `y += scale · x`, fused.
///
/// # Panics
/// When the lengths differ.
pub fn axpy(scale: f64, x: &[f64], y: &mut [f64]) {
    struct Axpy<'a>(f64, &'a [f64], &'a mut [f64]);
    impl WithSimd for Axpy<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(scale, x, y) = self;
            let whole = x.len() / LANES * LANES;
            let (x, x_rest) = x.split_at(whole);
            let (y, y_rest) = y.split_at_mut(whole);
            let x = Groups::<S>::new(x);
            let mut y = GroupsMut::<S>::new(y);
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
    use pulp::{Arch, Simd, WithSimd};

    use super::{AlignedVec, Groups, LANES, axpy, dot, dot_lanes};

    /// The definition of the lane order, in plain scalars.
    fn reference(a: &[f64], b: &[f64]) -> f64 {
        let mut lanes = [0.0_f64; LANES];
        for (i, (x, y)) in a.iter().zip(b).enumerate() {
            lanes[i % LANES] = x.mul_add(*y, lanes[i % LANES]);
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    fn vectors(len: usize) -> (Vec<f64>, Vec<f64>) {
        let value = |i: usize, k: usize| ((i * 7919 + k) % 1009) as f64 / 509.0 - 0.987;
        ((0..len).map(|i| value(i, 3)).collect(), (0..len).map(|i| value(i, 555)).collect())
    }

    #[test]
    fn dot_has_the_bits_of_its_definition() {
        for len in [0, 1, 7, 8, 9, 31, 104, 1000, 1003] {
            let (a, b) = vectors(len);
            assert_eq!(dot(&a, &b).to_bits(), reference(&a, &b).to_bits(), "length {len}");
        }
    }

    #[test]
    fn aligned_numbers_start_on_a_cache_line() {
        for len in [0, 1, 8, 1000] {
            let aligned = AlignedVec::zeros(len);
            assert_eq!((aligned.len(), aligned.as_ptr().addr() % 64), (len, 0));
        }
        let rows = AlignedVec::from_rows(&[1.0, 2.0, 3.0, 4.0], 2, 3);
        assert_eq!(*rows, [1.0, 2.0, 0.0, 3.0, 4.0, 0.0]);
    }

    struct Padded<'a>(&'a [f64], &'a [f64]);
    impl WithSimd for Padded<'_> {
        type Output = f64;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f64 {
            dot_lanes(simd, Groups::new(self.0), Groups::new(self.1)).sum(simd)
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let (a, b) = vectors(1000);
        let expected = reference(&a, &b).to_bits();
        assert_eq!(Arch::Scalar.dispatch(Padded(&a, &b)).to_bits(), expected);
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = pulp::x86::V3::try_new() {
                assert_eq!(Arch::V3(simd).dispatch(Padded(&a, &b)).to_bits(), expected);
            }
            if let Some(simd) = pulp::x86::V4::try_new() {
                assert_eq!(Arch::V4(simd).dispatch(Padded(&a, &b)).to_bits(), expected);
            }
        }
    }

    #[test]
    fn axpy_is_fused_in_every_element() {
        let (x, y) = vectors(21);
        let mut out = y.clone();
        axpy(0.3, &x, &mut out);
        for ((o, x), y) in out.iter().zip(&x).zip(&y) {
            assert_eq!(o.to_bits(), x.mul_add(0.3, *y).to_bits());
        }
    }
}
