//! Array files: `.npy`, `.npz`, `.safetensors` and IDX (the format of MNIST, also compressed with
//! gzip), read strictly and in bounded memory.
//!
//! [`ArrayFile::open`] looks at a file, [`ArrayFile::array`] picks one array of it, and the [`Array`]
//! gives its numbers as `f64`: all of them ([`Array::values`]), or of a matrix some columns at a time
//! ([`Array::read_columns`]) or chosen rows ([`Array::read_rows`]), so that it need not fit into memory.
//!
//! What a header promises is checked against the length of the file before memory is taken; a
//! compressed array may not expand to more than [`LARGEST_COMPRESSED`]. Whatever is wrong is an
//! [`ArrayError`], whose one line names the file, the array and the reason.
//!
//! [`npz_bytes`] makes an `.npz` archive of arrays that are in memory.
//!
//! ```no_run
//! use flatmin_arrays::ArrayFile;
//! let mut array = ArrayFile::open("jacobian.npz".as_ref())?.array(None, &["jacobian"])?;
//! println!("{:?}", array.shape());
//! let numbers = array.values()?;
//! # Ok::<(), flatmin_arrays::ArrayError>(())
//! ```

mod array;
mod element;
mod error;
mod file;
mod idx;
mod npy;
mod npz;
mod safetensors;
mod write;

pub use array::{Array, MOST_COMPRESSED_VALUES, MOST_VALUES, Order};
pub use element::Element;
pub use error::{ArrayError, Reason};
pub use file::ArrayFile;
pub use npz::LARGEST_COMPRESSED;
pub use write::{NamedArray, npz_bytes};
