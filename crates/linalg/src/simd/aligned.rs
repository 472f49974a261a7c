//! Vectors aligned to cache lines.

use std::ops::{Deref, DerefMut};

use super::real::Real;

/// A vector of fixed length that starts on a cache line, so that no load of a register straddles
/// two.
///
/// It is a plain vector whose first few entries are not used.
#[derive(Debug)]
pub struct AlignedVec<E = f64> {
    values: Vec<E>,
    start: usize,
    len: usize,
}

impl<E: Real> AlignedVec<E> {
    /// A vector of `len` zeros.
    pub fn zeros(len: usize) -> Self {
        const LINE: usize = 64;
        let values = vec![E::ZERO; len + LINE / size_of::<E>()];
        // The allocation never moves: the vector does not grow.
        let misaligned = values.as_ptr().addr() % LINE;
        let start = if misaligned == 0 { 0 } else { (LINE - misaligned) / size_of::<E>() };
        Self { values, start, len }
    }

    /// The rows of length `from` in `values`, rounded to this type, each padded with zeros to
    /// length `to`.
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
