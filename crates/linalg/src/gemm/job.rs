//! The description of a product that all kernels take.

use std::ops::Range;

use faer::{Accum, MatMut, MatRef};

/// The largest number of terms in a chain of fused operations.
pub(crate) const MAX_CHAIN: usize = 256;

/// The largest number of terms of an inner product in lanes that are summed before they join the
/// rest.
pub(super) const MAX_LANE_CHAIN: usize = 1024;

/// The entries of a product that are computed and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All entries.
    Whole,
    /// The diagonal and the entries below it.
    Lower,
    /// The diagonal and the entries above it.
    Upper,
}

impl Part {
    fn transposed(self) -> Self {
        match self {
            Self::Whole => Self::Whole,
            Self::Lower => Self::Upper,
            Self::Upper => Self::Lower,
        }
    }

    /// The rows of `0..rows` that are wanted in column `column`.
    #[inline(always)]
    pub(super) fn rows(self, column: usize, rows: usize) -> Range<usize> {
        match self {
            Self::Whole => 0..rows,
            Self::Lower => column.min(rows)..rows,
            Self::Upper => 0..(column + 1).min(rows),
        }
    }
}

/// A general matrix product `C = factor · A B` or `C += factor · A B`.
#[derive(Debug)]
pub(crate) struct Gemm<'a> {
    pub(crate) c: MatMut<'a, f64>,
    pub(crate) accumulate: Accum,
    pub(crate) a: MatRef<'a, f64>,
    pub(crate) b: MatRef<'a, f64>,
    pub(crate) factor: f64,
    pub(crate) part: Part,
    /// The number of terms that are summed before they join the rest, at most [`MAX_CHAIN`].
    pub(crate) chain: usize,
}

impl Gemm<'_> {
    /// The product `Cᵀ (+)= factor · Bᵀ Aᵀ`: the same terms in the same order.
    pub(super) fn transposed(self) -> Self {
        Self {
            c: self.c.transpose_mut(),
            a: self.b.transpose(),
            b: self.a.transpose(),
            part: self.part.transposed(),
            ..self
        }
    }
}
