#![doc = include_str!("../README.md")]
//!
//! # Where to start
//!
//! [`ArrayFile::open`] reads the table of contents of a file, [`ArrayFile::array`] chooses an
//! array, and the [`Array`] gives its numbers: all of them ([`Array::values`]), some columns
//! ([`Array::read_columns`]) or chosen rows ([`Array::read_rows`]). [`ArraysInMemory`] are read in
//! the same way. Errors are [`ArrayError`]s, whose [`Reason`] can be matched on. Limits are
//! [`MAX_VALUES`], [`MAX_COMPRESSED_VALUES`] and [`MAX_EXPANDED_BYTES`].

// Everything here works on what users and files give, which must not end in a panic.
#![warn(clippy::expect_used, clippy::panic, clippy::unreachable, clippy::todo)]

mod array;
mod element;
mod error;
mod file;
mod header;
mod idx;
mod memory;
mod npy;
mod npz;
mod safetensors;
mod write;

pub use array::{Array, MAX_COMPRESSED_VALUES, MAX_VALUES};
pub use element::Element;
pub use error::{ArrayError, Reason};
pub use file::ArrayFile;
pub use header::{MAX_EXPANDED_BYTES, Order};
pub use memory::{ArrayInMemory, ArraysInMemory, Bytes};
pub use write::{NamedArray, npz_bytes};
