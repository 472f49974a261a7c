//! IDX files, plain and compressed: every type, every truncation, crafted headers, damage.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use flatmin_arrays::{ArrayError, ArrayFile, Element, Reason};
use proptest::prelude::*;

/// A file of this type and these lengths.
fn idx(code: u8, lengths: &[u32], numbers: &[u8]) -> Vec<u8> {
    let axes = u8::try_from(lengths.len()).unwrap();
    let lengths = lengths.iter().flat_map(|length| length.to_be_bytes());
    [0, 0, code, axes].into_iter().chain(lengths).chain(numbers.iter().copied()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with one file.
struct OneFile {
    folder: tempfile::TempDir,
}

impl OneFile {
    fn new(bytes: &[u8]) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        file.write(bytes);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("images-idx3-ubyte")
    }

    fn write(&self, bytes: &[u8]) {
        fs::write(self.path(), bytes).unwrap();
    }

    fn read(&self) -> Result<(Vec<usize>, Element, Vec<f64>), ArrayError> {
        let mut array = ArrayFile::open(&self.path())?.array(None, &["x"])?;
        let values = array.values()?;
        Ok((array.shape().to_vec(), array.element(), values))
    }

    /// The reason of the refusal, on one line behind the name of the file.
    #[track_caller]
    fn refusal(&self) -> String {
        let text = self.read().unwrap_err().to_string();
        assert!(!text.contains('\n') && text.len() < 1000, "{text}");
        let start = format!("{}: ", self.path().display());
        text.strip_prefix(&start).expect("the name of the file").to_owned()
    }
}

#[track_caller]
fn refused(bytes: &[u8], reason: &str) {
    let text = OneFile::new(bytes).refusal();
    assert!(text.contains(reason), "{text}");
}

#[test]
fn every_type_is_read_to_the_bit() {
    let check = |code, element, numbers: Vec<u8>, expected: [f64; 6]| {
        for bytes in [idx(code, &[2, 3], &numbers), gzip(&idx(code, &[2, 3], &numbers))] {
            let (shape, found, values) = OneFile::new(&bytes).read().unwrap();
            assert_eq!((shape, found), (vec![2, 3], element));
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&values), bits(&expected), "{element:?}");
        }
    };
    macro_rules! round_trip {
        ($code:expr, $element:expr, $number:ty, $values:expr) => {{
            let values: [$number; 6] = $values;
            let numbers = values.iter().flat_map(|value| value.to_be_bytes()).collect();
            check($code, $element, numbers, values.map(f64::from));
        }};
    }
    round_trip!(0x08, Element::UInt8, u8, [0, 1, 127, 128, 254, 255]);
    round_trip!(0x09, Element::Int8, i8, [0, 1, -1, 127, -127, -128]);
    round_trip!(0x0b, Element::Int16, i16, [0, 1, -1, 256, i16::MAX, i16::MIN]);
    round_trip!(0x0c, Element::Int32, i32, [0, 1, -1, 1 << 24, i32::MAX, i32::MIN]);
    round_trip!(0x0d, Element::Float32, f32, [0.0, -0.0, 0.1, f32::MAX, 1e-45, f32::INFINITY]);
    round_trip!(0x0e, Element::Float64, f64, [0.0, -0.0, 0.1, f64::MAX, 5e-324, f64::INFINITY]);
}

#[test]
fn rows_are_those_of_the_whole() {
    let numbers: Vec<u8> = (0..24).collect();
    for bytes in [idx(8, &[4, 2, 3], &numbers), gzip(&idx(8, &[4, 2, 3], &numbers))] {
        let file = OneFile::new(&bytes);
        let mut array = ArrayFile::open(&file.path()).unwrap().array(None, &[]).unwrap();
        let values = array.values().unwrap();
        let rows = array.read_rows(&[3, 0, 3]).unwrap();
        assert_eq!(rows, [&values[18..], &values[..6], &values[18..]].concat());
        assert!(array.read_rows(&[]).unwrap().is_empty());
    }
}

#[test]
fn an_array_may_be_empty() {
    for lengths in [&[0_u32][..], &[0, 28, 28], &[5, 0]] {
        let (shape, _, values) = OneFile::new(&idx(8, lengths, &[])).read().unwrap();
        assert_eq!((shape.len(), values.len()), (lengths.len(), 0));
    }
    // But lengths whose product wraps around are refused, however empty the array is.
    refused(&idx(8, &[u32::MAX, u32::MAX, u32::MAX, 0], &[]), "product is out of range");
    refused(&idx(8, &[0, u32::MAX, u32::MAX, u32::MAX], &[]), "product is out of range");
    refused(&gzip(&idx(8, &[0, u32::MAX, u32::MAX, u32::MAX], &[])), "product is out of range");
}

#[test]
fn every_truncation_is_refused() {
    let whole = idx(0x0b, &[2, 2, 1], &[0, 1, 0, 2, 0, 3, 0, 4]);
    let file = OneFile::new(&whole);
    assert_eq!(file.read().unwrap().2, [1.0, 2.0, 3.0, 4.0]);
    for end in 0..whole.len() {
        file.write(&whole[..end]);
        let text = file.refusal();
        let expected = match end {
            0 => "is empty",
            1..3 => "is not a .npy",
            3..16 => "its IDX header is cut off",
            _ => "is truncated: 8 bytes of numbers promised, ",
        };
        assert!(text.starts_with(expected), "{end}: {text}");
        // Next, the file holds the same bytes, compressed and undamaged.
        file.write(&gzip(&whole[..end]));
        let text = file.refusal();
        let expected = if end < 3 { "its gzip data hold no IDX file" } else { expected };
        assert!(text.starts_with(expected), "{end}: {text}");
    }
    let whole = gzip(&whole);
    for end in 2..whole.len() {
        file.write(&whole[..end]);
        let text = file.refusal();
        assert!(text.starts_with("its gzip data are cut off"), "{end}: {text}");
    }
}

#[test]
fn crafted_headers_are_refused_before_memory_is_taken() {
    let huge = "is truncated: 79228162458924105385300197375 bytes of numbers promised, 3 there";
    refused(&idx(8, &[u32::MAX; 3], &[1, 2, 3]), huge);
    refused(
        &idx(0x0e, &[u32::MAX; 64], &[]),
        "is truncated: 3402823669209384634633746074317682114",
    );
    refused(&idx(0x0e, &[1 << 30, 1], &[0; 8]), "8589934592 bytes of numbers promised, 8 there");
    refused(&idx(8, &[], &[7]), "its IDX header has no axes, expected at least one");
    refused(&idx(8, &[1; 200], &[7]), "has 200 axes, expected at most 64");
    refused(&idx(0x0a, &[1], &[7]), "its IDX header has the unknown type 0x0a, expected 0x08, ");
    refused(&idx(0x07, &[1], &[7]), "is not a .npy, .npz, .safetensors or IDX file");
    refused(&idx(8, &[2], &[1, 2, 3]), "has 3 bytes of numbers, 2 promised by its header");
}

#[test]
fn compressed_files_are_held_to_the_same() {
    refused(&gzip(&idx(8, &[2], &[1, 2, 3])), "has 3 bytes of numbers, 2 promised by its header");
    refused(&gzip(&idx(8, &[1; 200], &[7])), "has 200 axes, expected at most 64");
    let large = "expands to 79228162458924105385300197375 bytes, more than the 268435456 that are \
                 read into memory; save it uncompressed (gunzip)";
    refused(&gzip(&idx(8, &[u32::MAX; 3], &[1, 2, 3])), large);
    refused(&gzip(&gzip(&idx(8, &[1], &[7]))), "its gzip data hold no IDX file");
    refused(&gzip(b"\x93NUMPY"), "expand other formats first (gunzip)");
    refused(&gzip(b""), "its gzip data hold no IDX file");
    refused(b"\x1f\x8b", "its gzip data are cut off");
    // Two members one after the other are one file, anything else behind it is not.
    let (start, end) = (idx(8, &[2], &[1]), [2]);
    let members = [gzip(&start), gzip(&end)].concat();
    assert_eq!(OneFile::new(&members).read().unwrap().2, [1.0, 2.0]);
    refused(&[&gzip(&idx(8, &[1], &[7])), b"more".as_slice()].concat(), "its gzip data are");
}

#[test]
fn a_bomb_is_not_expanded() {
    // 1 GiB of zeros takes a megabyte when compressed; one layer of 64 MiB, repeated as members.
    let zeros = gzip(&vec![0; 64 << 20]);
    let bomb = |length: u32| [&gzip(&idx(8, &[length], &[]))[..], &zeros.repeat(16)].concat();
    // The header promises too much, or the file holds more than its header promises.
    let text = OneFile::new(&bomb(1 << 30)).refusal();
    assert!(text.contains("expands to 1073741824 bytes"), "{text}");
    let text = OneFile::new(&bomb(100)).refusal();
    assert_eq!(text, "has 101 bytes of numbers, 100 promised by its header");
}

#[test]
fn a_name_is_not_for_an_array_without_one() {
    let file = OneFile::new(&idx(8, &[1], &[7]));
    let error = ArrayFile::open(&file.path()).unwrap().array(Some("x"), &[]).unwrap_err();
    assert!(matches!(error.reason, Reason::Unnamed { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Changed, removed and added bytes: an error, or numbers that are there. Those of a compressed
    /// file have a checksum.
    #[test]
    fn damage_is_an_error_or_gives_numbers(
        compressed in any::<bool>(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        kind in 0..3,
    ) {
        let numbers = [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6];
        let plain = idx(0x0b, &[2, 3], &numbers);
        let mut bytes = if compressed { gzip(&plain) } else { plain };
        let place = place.index(bytes.len());
        match kind {
            0 => bytes[place] = byte,
            1 => bytes.truncate(place),
            _ => bytes.insert(place, byte),
        }
        match OneFile::new(&bytes).read() {
            Ok((shape, _, values)) if compressed => {
                prop_assert_eq!((shape, values), (vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
            }
            Ok((shape, _, values)) => {
                prop_assert_eq!(shape.iter().product::<usize>(), values.len());
                prop_assert!(values.len() <= numbers.len());
            }
            Err(error) => {
                let text = error.to_string();
                prop_assert!(!text.contains('\n') && text.len() < 1000, "{}", text);
            }
        }
    }

    /// Anything that starts like an IDX or a gzip file.
    #[test]
    fn no_bytes_make_it_panic(
        start in prop_oneof![Just([0, 0, 8]), Just([0, 0, 14]), Just([0x1f, 0x8b, 8])],
        rest in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let bytes = [start.as_slice(), rest.as_slice()].concat();
        if let Err(error) = OneFile::new(&bytes).read() {
            prop_assert!(!error.to_string().contains('\n'), "{}", error);
        }
    }
}
