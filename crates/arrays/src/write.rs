//! Writing arrays as an `.npz` archive.

use std::io::{self, Cursor, Write as _};

use npyz::WriterBuilder as _;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// An array to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedArray<'a> {
    /// The name of the array.
    pub name: &'a str,
    /// The lengths of the axes; empty for a single number.
    pub shape: Vec<usize>,
    /// The numbers, row by row; the last index runs fastest.
    pub values: &'a [f64],
}

/// The bytes of an `.npz` archive with these arrays, which `numpy.load` reads.
///
/// The arrays are stored as float64 in C order, without compression. Equal arrays give equal bytes,
/// since no time is stored.
///
/// ```
/// use flatmin_arrays::{ArrayFile, NamedArray, npz_bytes};
/// let file = tempfile::NamedTempFile::new()?;
/// let w = NamedArray { name: "w", shape: vec![2, 1], values: &[0.5, -0.0] };
/// std::fs::write(file.path(), npz_bytes(&[w])?)?;
/// let mut array = ArrayFile::open(file.path())?.array(Some("w"), &[])?;
/// assert_eq!(array.shape(), [2, 1]);
/// assert_eq!(array.values()?, [0.5, -0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`io::Error`] when the number of values of an array is not the product of its lengths, when a
/// name has more than 65535 bytes, or when two arrays have the same name.
pub fn npz_bytes(arrays: &[NamedArray<'_>]) -> io::Result<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for NamedArray { name, shape, values } in arrays {
        let count = shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
        if count != Some(values.len()) {
            let message = format!("array {name:?} of shape {shape:?} has {} numbers", values.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        // Entries of 4 GiB and more need 64-bit fields for their sizes.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(values.len() >= 1 << 28);
        archive.start_file(format!("{name}.npy"), options)?;
        let shape: Vec<u64> = shape.iter().map(|length| *length as u64).collect();
        let mut bytes = Vec::with_capacity(8 * values.len() + 128);
        let mut writer = npyz::WriteOptions::new()
            .dtype(npyz::DType::new_scalar("<f8".parse().map_err(io::Error::other)?))
            .shape(&shape)
            .writer(&mut bytes)
            .begin_nd()?;
        writer.extend(values.iter().copied())?;
        writer.finish()?;
        archive.write_all(&bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::{NamedArray, npz_bytes};
    use crate::ArrayFile;

    #[test]
    fn what_is_written_reads_back_to_the_bit() {
        let values = [f64::MIN_POSITIVE, -0.0, f64::MAX, f64::NAN, 0.1, 5e-324];
        let arrays = [
            NamedArray { name: "w", shape: vec![2, 3], values: &values },
            NamedArray { name: "a", shape: vec![], values: &values[4..5] },
            NamedArray { name: "empty", shape: vec![0, 4], values: &[] },
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), npz_bytes(&arrays).unwrap()).unwrap();
        assert_eq!(ArrayFile::open(file.path()).unwrap().names(), ["w", "a", "empty"]);
        for expected in &arrays {
            let file = ArrayFile::open(file.path()).unwrap();
            let mut array = file.array(Some(expected.name), &[]).unwrap();
            assert_eq!(array.shape(), expected.shape);
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&array.values().unwrap()), bits(expected.values));
        }
        assert_eq!(npz_bytes(&arrays).unwrap(), npz_bytes(&arrays).unwrap());
    }

    #[test]
    fn a_wrong_number_of_values_is_refused() {
        let array = NamedArray { name: "w", shape: vec![2, 3], values: &[1.0] };
        let error = npz_bytes(&[array]).unwrap_err();
        assert_eq!(error.to_string(), "array \"w\" of shape [2, 3] has 1 numbers");
    }
}
