//! The IDX format of MNIST and its relatives, plain or compressed with gzip.
//!
//! A file starts with four bytes: 0, 0, the type of the numbers and the number of axes. A length of
//! four bytes for each axis follows, then the numbers, row by row. Everything is big-endian.

use std::fs::File;
use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::Reason;
use crate::array::Data;
use crate::element::{Element, Endianness};
use crate::header::{Header, MAX_AXES, Order, check_len};
use flatmin_host::{printable, said};

/// The first bytes of every gzip file.
pub(crate) const GZIP: &[u8] = b"\x1f\x8b";

/// True when the first bytes of a file can be those of an IDX file.
///
/// A safetensors file starts like this only if its header is longer than the longest that is read.
pub(crate) fn is_likely(start: &[u8]) -> bool {
    matches!(start, [0, 0, 0x08..=0x0e, ..])
}

/// Reads the header of an array, and leaves the reader at the first number.
pub(crate) fn read(reader: &mut impl Read) -> Result<Header, Reason> {
    let start = fill(reader)?;
    let element = match start {
        [0, 0, 0x08, _] => Element::UInt8,
        [0, 0, 0x09, _] => Element::Int8,
        [0, 0, 0x0b, _] => Element::Int16,
        [0, 0, 0x0c, _] => Element::Int32,
        [0, 0, 0x0d, _] => Element::Float32,
        [0, 0, 0x0e, _] => Element::Float64,
        [0, 0, code, _] => {
            return Err(Reason::Idx(format!(
                "has the unknown type 0x{code:02x}, expected 0x08, 0x09, 0x0b, 0x0c, 0x0d or 0x0e"
            )));
        }
        _ => return Err(Reason::Idx("does not start with two zero bytes".into())),
    };
    let axes = usize::from(start[3]);
    if axes == 0 {
        return Err(Reason::Idx("has no axes, expected at least one".into()));
    }
    if axes > MAX_AXES {
        return Err(Reason::Axes { axes, limit: MAX_AXES });
    }
    let length = |_| Ok(u64::from(u32::from_be_bytes(fill(reader)?)));
    let shape = (0..axes).map(length).collect::<Result<_, Reason>>()?;
    let len = 4 + 4 * axes as u64;
    Ok(Header { shape, element, endianness: Endianness::Big, order: Order::C, len })
}

/// Reads a compressed file from its beginning, and expands it into memory.
pub(crate) fn open_gzip(file: File) -> Result<(Header, Data), Reason> {
    let mut reader = MultiGzDecoder::new(BufReader::new(file));
    let mut start = Vec::new();
    (&mut reader).take(4).read_to_end(&mut start).map_err(damage)?;
    if !is_likely(&start) {
        let start = printable(&String::from_utf8_lossy(&start));
        return Err(Reason::Gzip(format!(
            "hold no IDX file, they start with \"{start}\"; expand other formats first (gunzip)"
        )));
    }
    let header = read(&mut start.as_slice().chain(&mut reader))?;
    let len = header.expanded_len("gunzip")?;
    let mut bytes = Vec::new();
    // One byte more than promised: the checksum is compared at the end of the data.
    (&mut reader).take(len + 1).read_to_end(&mut bytes).map_err(damage)?;
    check_len(len.into(), bytes.len() as u64)?;
    Ok((header, Data::Memory(bytes)))
}

fn damage(error: io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Reason::Gzip("are cut off".into()),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            Reason::Gzip(format!("are damaged: {}", said(&error)))
        }
        _ => Reason::Io(error),
    }
}

/// The next four bytes. For a compressed file the error says what is damaged; for a plain file it
/// is the operating system's.
fn fill(reader: &mut impl Read) -> Result<[u8; 4], Reason> {
    let mut bytes = Vec::new();
    reader.take(4).read_to_end(&mut bytes).map_err(damage)?;
    bytes.try_into().map_err(|_| Reason::Idx("is cut off".into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::read;
    use crate::Reason;
    use crate::element::{Element, Endianness};

    fn header(code: u8, lengths: &[u32]) -> Vec<u8> {
        let axes = u8::try_from(lengths.len()).unwrap();
        let lengths = lengths.iter().flat_map(|length| length.to_be_bytes());
        [0, 0, code, axes].into_iter().chain(lengths).collect()
    }

    #[test]
    fn headers_of_mnist_are_read() {
        let images = read(&mut header(0x08, &[60_000, 28, 28]).as_slice()).unwrap();
        assert_eq!((images.data_len(), images.len), (47_040_000, 16));
        assert_eq!((images.shape, images.element), (vec![60_000, 28, 28], Element::UInt8));
        assert_eq!(images.endianness, Endianness::Big);
        let bytes = [0, 0, 8, 1, 0, 0, 0xea, 0x60];
        assert_eq!(read(&mut bytes.as_slice()).unwrap().shape, [60_000]);
    }

    #[test]
    fn invalid_headers_are_refused_with_a_reason() {
        let check = |bytes: &[u8], reason: &str| {
            let error = read(&mut &*bytes).unwrap_err().to_string();
            assert!(error.contains(reason), "{bytes:?}: {error}");
        };
        check(&header(0x0a, &[1]), "unknown type 0x0a");
        check(&header(0x07, &[1]), "unknown type 0x07");
        check(&[1, 0, 8, 1, 0, 0, 0, 1], "two zero bytes");
        check(&header(0x08, &[]), "no axes");
        check(&header(0x08, &[1; 200]), "200 axes, expected at most 64");
        check(&[0, 0, 8, 200], "200 axes");
        for end in 0..16 {
            check(&header(0x08, &[1, 2, 3])[..end], "is cut off");
        }
    }

    #[test]
    fn impossible_sizes_do_not_overflow() {
        let bytes = header(0x0e, &[u32::MAX; 64]);
        assert_eq!(read(&mut bytes.as_slice()).unwrap().data_len(), u128::MAX);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let is_known = |error: &Reason| matches!(error, Reason::Idx(_) | Reason::Axes { .. });
            let _ = read(&mut bytes.as_slice()).map_err(|error| assert!(is_known(&error)));
            let start = [&[0, 0, 8], bytes.as_slice()].concat();
            let _ = read(&mut start.as_slice()).map_err(|error| assert!(is_known(&error)));
        }
    }
}
