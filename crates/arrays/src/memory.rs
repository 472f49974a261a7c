//! Arrays in the memory of a program.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::ArrayFile;
use crate::array::Data;
use crate::element::Element;
use crate::file::Content;
use crate::header::{Header, Order, check_len};
use crate::{ArrayError, Reason};

/// Bytes that a program holds, such as those of an array of `NumPy`.
pub trait Bytes: Debug + Send + Sync {
    /// The number of bytes.
    fn len(&self) -> usize;

    /// True if there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from `offset` on into `into`.
    ///
    /// # Errors
    /// When the bytes are gone, or when the program does not want to go on.
    fn read(&self, offset: usize, into: &mut [u8]) -> io::Result<()>;
}

impl Bytes for Vec<u8> {
    fn len(&self) -> usize {
        self.len()
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> io::Result<()> {
        let bytes = self.get(offset..offset + into.len());
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// An array that a program holds.
#[derive(Debug, Clone)]
pub struct ArrayInMemory {
    /// The type of the numbers as `NumPy` writes it, such as `<f8`.
    pub descr: String,
    /// The lengths of the axes.
    pub shape: Vec<usize>,
    /// The order of the numbers, which follow each other without gaps.
    pub order: Order,
    /// The bytes of the numbers.
    pub bytes: Arc<dyn Bytes>,
}

/// Arrays that a program holds, by their names: an archive without a file.
///
/// ```
/// use std::sync::Arc;
///
/// use flatmin_arrays::{ArrayInMemory, ArraysInMemory, Order};
///
/// let bytes: Vec<u8> = [1.0_f64, 2.0].into_iter().flat_map(f64::to_le_bytes).collect();
/// let (descr, shape, bytes) = ("<f8".to_owned(), vec![1, 2], Arc::new(bytes));
/// let mut arrays = ArraysInMemory::default();
/// arrays.insert("weights", ArrayInMemory { descr, shape, order: Order::C, bytes })?;
/// let mut array = arrays.open("memory".as_ref()).array(Some("weights"), &[])?;
/// assert_eq!(array.values()?, [1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ArraysInMemory {
    arrays: BTreeMap<String, (Header, Arc<dyn Bytes>)>,
}

impl ArraysInMemory {
    /// Adds an array.
    ///
    /// # Errors
    /// [`Reason::Element`] or [`Reason::Header`] for a type that is not supported,
    /// [`Reason::Truncated`] and [`Reason::TooLong`] where the shape needs another number of bytes.
    pub fn insert(&mut self, name: &str, array: ArrayInMemory) -> Result<(), ArrayError> {
        let ArrayInMemory { descr, shape, order, bytes } = array;
        let build = || -> Result<Header, Reason> {
            let (element, endianness) = Element::from_descr(&descr)?;
            let shape = shape.iter().map(|length| *length as u64).collect();
            let header = Header { shape, element, endianness, order, len: 0 };
            check_len(header.data_len(), bytes.len() as u64)?;
            Ok(header)
        };
        let header = build().map_err(|reason| ArrayError::file(Path::new(name), reason))?;
        self.arrays.insert(name.to_owned(), (header, bytes));
        Ok(())
    }

    /// The arrays as an archive. Messages call it by this path. The array that has the path for its
    /// name is the one that is chosen without a name.
    #[must_use]
    pub fn open(&self, path: &Path) -> ArrayFile {
        ArrayFile::new(path, Content::Memory(self.clone()))
    }

    /// The names of the arrays, in ascending order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.arrays.keys().cloned().collect()
    }

    /// An array of these, if there is one of the name.
    pub(crate) fn read(&self, name: &str) -> Result<(Header, Data), Reason> {
        let Some((header, bytes)) = self.arrays.get(name) else {
            return Err(Reason::NoSuchArray { name: name.into(), names: self.names() });
        };
        Ok((header.clone(), Data::Shared(Arc::clone(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::{ArrayInMemory, ArraysInMemory};
    use crate::Order;

    fn array(descr: &str, shape: &[usize], bytes: Vec<u8>) -> ArrayInMemory {
        let (descr, shape) = (descr.to_owned(), shape.to_vec());
        ArrayInMemory { descr, shape, order: Order::Fortran, bytes: Arc::new(bytes) }
    }

    fn arrays() -> ArraysInMemory {
        let mut arrays = ArraysInMemory::default();
        let numbers = (1_u8..=6).flat_map(|x| f32::from(x).to_be_bytes()).collect();
        arrays.insert("jacobian", array(">f4", &[2, 3], numbers)).unwrap();
        arrays.insert("y", array("|u1", &[3], vec![7, 8, 9])).unwrap();
        arrays
    }

    #[test]
    fn arrays_are_read_like_those_of_a_file() {
        let path = Path::new("jacobian");
        let mut array = arrays().open(path).array(None, &[]).unwrap();
        assert_eq!(array.name(), None);
        assert_eq!(array.values().unwrap(), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        let mut columns = Vec::new();
        array.read_middle((1, 3, 2), 1..3, &mut columns).unwrap();
        assert_eq!(columns, [3.0, 4.0, 5.0, 6.0]);
        let mut array = arrays().open(path).array(Some("y"), &[]).unwrap();
        assert_eq!(array.values().unwrap(), [7.0, 8.0, 9.0]);
        assert_eq!(array.name(), Some("y"));
    }

    #[test]
    fn without_an_array_of_the_path_a_usual_name_or_the_only_array_is_read() {
        let path = Path::new("memory");
        let mut usual = arrays().open(path).array(None, &["weights", "y"]).unwrap();
        assert_eq!(usual.values().unwrap(), [7.0, 8.0, 9.0]);
        let error = arrays().open(path).array(None, &[]).unwrap_err();
        assert!(error.to_string().contains("jacobian, y"), "{error}");
        let mut only = ArraysInMemory::default();
        only.insert("z", array("|u1", &[1], vec![5])).unwrap();
        assert_eq!(only.open(path).array(None, &[]).unwrap().values().unwrap(), [5.0]);
    }

    #[test]
    fn errors_name_the_array() {
        let mut arrays = arrays();
        let error = arrays.insert("v", array("<c16", &[1], vec![0; 16])).unwrap_err();
        assert!(error.to_string().starts_with("v: holds complex numbers"), "{error}");
        let error = arrays.insert("v", array("<f8", &[2], vec![0; 8])).unwrap_err();
        assert!(error.to_string().starts_with("v: is truncated: 16 bytes"), "{error}");
        let error = arrays.open(Path::new("jacobian")).array(Some("z"), &[]).unwrap_err();
        assert_eq!(error.to_string(), "jacobian: has no array \"z\"; it has: jacobian, y");
    }
}
