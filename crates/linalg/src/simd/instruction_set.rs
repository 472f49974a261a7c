//! The choice of an instruction set.

use std::sync::OnceLock;

use pulp::Arch;

use crate::{UnknownName, named};

/// An instruction set that the kernels can run on. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstructionSet {
    /// AVX-512: eight lanes in a register (x86-64-v4).
    Avx512,
    /// AVX2 and FMA: four lanes (x86-64-v3).
    Avx2,
    /// The portable path, which every processor has.
    Scalar,
}

named!("instruction set", InstructionSet, [
    "avx512" => Avx512,
    "avx2" => Avx2,
    "scalar" => Scalar,
]);

impl InstructionSet {
    /// The dispatcher for this instruction set; `None` if the processor does not have it.
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

/// The reason why an instruction set cannot be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstructionSetError {
    /// No instruction set has this name.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// The processor does not have this instruction set.
    #[error("this processor does not have the instruction set {0}")]
    Missing(InstructionSet),
    /// Another instruction set has been chosen, or kernels have run already.
    #[error("the instruction set {chosen} is in use and cannot be changed to {wanted}")]
    Chosen {
        /// The instruction set in use.
        chosen: &'static str,
        /// The instruction set requested.
        wanted: InstructionSet,
    },
}

/// The environment variable by which programs choose an instruction set.
pub const VARIABLE: &str = "FLATMIN_SIMD";

static CHOSEN: OnceLock<Arch> = OnceLock::new();

/// Makes every kernel of this process run on `wanted` instead of the best instruction set.
///
/// Call it at the start of a program, before any kernel runs. The programs of this workspace read
/// the name from the environment variable [`VARIABLE`].
///
/// # Errors
/// [`InstructionSetError`] when this processor does not have the instruction set, or another one is
/// in use.
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

/// The dispatcher in use: the one set by [`choose`], or the best for this processor.
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
