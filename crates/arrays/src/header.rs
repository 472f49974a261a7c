//! The header of an array, in any format.

use std::cmp::Ordering;

use crate::Reason;
use crate::element::{Element, Endianness};

/// Most bytes of numbers to which a compressed array may expand, because they are held in memory.
///
/// Uncompressed arrays are read in place, whatever their size.
pub const MAX_EXPANDED_BYTES: u64 = 256 << 20;

/// Most axes of an array; `NumPy` has the same limit.
pub(crate) const MAX_AXES: usize = 64;

/// The order in which the numbers of an array are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Row by row; the last index runs fastest.
    C,
    /// Column by column; the first index runs fastest.
    Fortran,
}

/// Shape, type and order of the numbers of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) shape: Vec<u64>,
    pub(crate) element: Element,
    pub(crate) endianness: Endianness,
    pub(crate) order: Order,
    /// The number of bytes before the numbers.
    pub(crate) len: u64,
}

impl Header {
    /// The number of bytes that the numbers take; saturates.
    pub(crate) fn data_len(&self) -> u128 {
        let size = self.element.size() as u128;
        self.shape.iter().fold(size, |product, length| product.saturating_mul(u128::from(*length)))
    }

    /// [`data_len`](Self::data_len) of a compressed array, if so many bytes may be held in memory;
    /// `remedy` is a program or function that stores the array uncompressed.
    pub(crate) fn expanded_len(&self, remedy: &'static str) -> Result<u64, Reason> {
        let (size, limit) = (self.data_len(), MAX_EXPANDED_BYTES);
        let len = u64::try_from(size).ok().filter(|len| *len <= limit);
        len.ok_or(Reason::TooLarge { size, limit, remedy })
    }
}

/// Checks that the data have as many bytes as a header promises.
pub(crate) fn check_len(promised: u128, found: u64) -> Result<(), Reason> {
    match u128::from(found).cmp(&promised) {
        Ordering::Less => Err(Reason::Truncated { promised, found }),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(Reason::TooLong { promised, found }),
    }
}
