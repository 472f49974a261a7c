//! Whole files: every format gives the same numbers, and no damage makes the reader panic or
//! believe.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use flatmin_arrays::{ArrayError, ArrayFile, Order, Reason};
use proptest::prelude::*;
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

const VALUES: [f64; 6] = [1.0, -2.5, 3.0, 0.0, 1e-300, -6.0];

fn npy(order: &str, values: &[f64]) -> Vec<u8> {
    let text = format!("{{'descr': '<f8', 'fortran_order': {order}, 'shape': (2, 3), }}\n");
    let size = u16::try_from(text.len()).unwrap().to_le_bytes();
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [b"\x93NUMPY\x01\x00", size.as_slice(), text.as_bytes(), &data].concat()
}

fn archive(method: CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in [("other.npy", npy("True", &VALUES)), ("a.npy", npy("False", &VALUES))] {
        writer.start_file(name, options).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn safetensors() -> Vec<u8> {
    let header = r#"{"a":{"dtype":"F64","shape":[2,3],"data_offsets":[0,48]}}"#;
    let data: Vec<u8> = VALUES.iter().flat_map(|value| value.to_le_bytes()).collect();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

fn files() -> [Vec<u8>; 4] {
    [
        npy("False", &VALUES),
        archive(CompressionMethod::Stored),
        archive(CompressionMethod::Deflated),
        safetensors(),
    ]
}

fn read(path: &Path) -> Result<Vec<f64>, ArrayError> {
    ArrayFile::open(path)?.array(None, &["a"])?.values()
}

#[test]
fn every_format_gives_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for bytes in files() {
        fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap(), VALUES);
    }
}

#[test]
fn columns_are_those_of_the_whole_in_both_orders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let transposed = [VALUES[0], VALUES[3], VALUES[1], VALUES[4], VALUES[2], VALUES[5]];
    for (order, values) in [("False", VALUES), ("True", transposed)] {
        fs::write(&path, npy(order, &values)).unwrap();
        let mut array = ArrayFile::open(&path).unwrap().array(None, &[]).unwrap();
        assert_eq!(array.values().unwrap(), VALUES);
        assert_eq!(
            array.read_rows(&[1, 0, 1]).unwrap()[2..8],
            [VALUES[5], VALUES[0], VALUES[1], VALUES[2], VALUES[3], VALUES[4]]
        );
        let mut columns = Vec::new();
        array.read_columns(1..3, &mut columns).unwrap();
        let expected = match array.order() {
            Order::C => [VALUES[1], VALUES[2], VALUES[4], VALUES[5]],
            Order::Fortran => [VALUES[1], VALUES[4], VALUES[2], VALUES[5]],
        };
        assert_eq!(columns, expected);
        array.read_columns(0..3, &mut columns).unwrap();
        assert_eq!(columns, values);
        array.read_columns(2..2, &mut columns).unwrap();
        assert!(columns.is_empty());
    }
}

#[test]
fn axes_before_the_last_are_rows_in_both_orders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let (n, k) = (3, 2);
    let value = |i: usize, o: usize, j: usize| (100 * i + 10 * o + j) as f64;
    for (order, p) in [("False", 4), ("True", 4), ("False", 1), ("True", 1)] {
        let mut data: Vec<f64> = Vec::new();
        if order == "True" {
            (0..p).for_each(|j| {
                (0..k).for_each(|o| data.extend((0..n).map(|i| value(i, o, j))));
            });
        } else {
            (0..n).for_each(|i| {
                (0..k).for_each(|o| data.extend((0..p).map(|j| value(i, o, j))));
            });
        }
        let text =
            format!("{{'descr': '<f8', 'fortran_order': {order}, 'shape': (3, 2, {p}), }}\n");
        let size = u16::try_from(text.len()).unwrap().to_le_bytes();
        let data: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        let bytes = [b"\x93NUMPY\x01\x00", size.as_slice(), text.as_bytes(), &data].concat();
        fs::write(&path, bytes).unwrap();
        let mut array = ArrayFile::open(&path).unwrap().array(None, &[]).unwrap();
        let entries = |i| (0..k * p).map(move |c| value(i, c / p, c % p));
        assert_eq!(array.values().unwrap(), (0..n).flat_map(entries).collect::<Vec<_>>());
        let some_rows: Vec<f64> = [2, 0].into_iter().flat_map(entries).collect();
        assert_eq!(array.read_rows(&[2, 0]).unwrap(), some_rows);
        for columns in [0..p, p / 3..p, p - 1..p] {
            let mut values = Vec::new();
            array.read_columns(columns.clone(), &mut values).unwrap();
            for row in 0..n * k {
                for (index, j) in columns.clone().enumerate() {
                    let place = match array.order() {
                        Order::C => row * columns.len() + index,
                        Order::Fortran => index * n * k + row,
                    };
                    let expected = value(row / k, row % k, j);
                    assert!((values[place] - expected).abs() < f64::EPSILON, "{order} {row} {j}");
                }
            }
        }
    }
}

#[test]
fn a_range_of_any_axis_is_read_in_the_order_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let values: Vec<f64> = (0..24).map(f64::from).collect();
    let text = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3, 4), }\n";
    let size = u16::try_from(text.len()).unwrap().to_le_bytes();
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let bytes = [b"\x93NUMPY\x01\x00", size.as_slice(), text.as_bytes(), &data].concat();
    fs::write(&path, bytes).unwrap();
    let mut array = ArrayFile::open(&path).unwrap().array(None, &[]).unwrap();
    let mut read = |view, range| {
        let mut found = Vec::new();
        array.read_middle(view, range, &mut found).unwrap();
        found
    };
    assert_eq!(read((1, 2, 12), 1..2), values[12..]);
    assert_eq!(read((2, 3, 4), 1..2), [&values[4..8], &values[16..20]].concat());
    assert_eq!(read((6, 4, 1), 2..3), [2.0, 6.0, 10.0, 14.0, 18.0, 22.0]);
    assert_eq!(read((2, 3, 4), 0..3), values);
    assert!(read((2, 3, 4), 1..1).is_empty());
}

/// Bytes are read a MiB at a time.
#[test]
fn arrays_of_several_mebibytes_are_read_to_their_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let count = (2 << 20) + 3;
    let data: Vec<u8> = (0..=250).cycle().take(count).collect();
    let text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({count},), }}\n");
    let size = u16::try_from(text.len()).unwrap().to_le_bytes();
    let bytes = [b"\x93NUMPY\x01\x00", size.as_slice(), text.as_bytes(), &data].concat();
    fs::write(&path, bytes).unwrap();
    let values = read(&path).unwrap();
    assert!(values.iter().copied().eq(data.into_iter().map(f64::from)));
}

#[test]
fn an_integer_that_must_be_rounded_is_named_by_its_row_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    // Row 0 and column 2 of two rows and three columns.
    for (order, position) in [("False", 2), ("True", 4)] {
        let mut values = [1_i64; 6];
        values[position] = (1 << 53) + 1;
        let text = format!("{{'descr': '<i8', 'fortran_order': {order}, 'shape': (2, 3), }}\n");
        let size = u16::try_from(text.len()).unwrap().to_le_bytes();
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let bytes = [b"\x93NUMPY\x01\x00", size.as_slice(), text.as_bytes(), &data].concat();
        fs::write(&path, bytes).unwrap();
        let error = read(&path).unwrap_err();
        let Reason::Inexact { index, value } = &error.reason else { panic!("{error}") };
        assert_eq!((index.as_str(), *value), ("[0, 2]", 9_007_199_254_740_993), "{order}");
    }
}

#[test]
fn tensors_that_do_not_hold_real_numbers_are_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    for (dtype, size, words) in [
        ("BOOL", 1, "array \"a\": holds booleans (BOOL); convert them to float64"),
        (
            "C64",
            8,
            "array \"a\": holds complex numbers (C64); save their real part if that is what is meant",
        ),
        (
            "F8_E4M3",
            1,
            "array \"a\": holds numbers of the type F8_E4M3; convert them to float32 or float64",
        ),
    ] {
        let header =
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,{size}]}}}}"#);
        let length = (header.len() as u64).to_le_bytes();
        fs::write(&path, [&length, header.as_bytes(), &[0; 8][..size]].concat()).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.ends_with(words), "{error}");
    }
}

#[test]
fn files_that_are_not_there_are_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let error = ArrayFile::open(&folder.path().join("a.npy")).unwrap_err();
    assert!(matches!(error.reason, Reason::Missing), "{error}");
}

/// An archive is looked for from behind: a file of ends that all name one long directory would have
/// that read once for each.
#[test]
fn a_directory_is_not_read_over_and_over() {
    let entry = |k: usize| {
        let name = format!("{k}.npy");
        let len = u16::try_from(name.len()).unwrap().to_le_bytes();
        [b"PK\x01\x02", [0; 24].as_slice(), &len, &[0; 16], name.as_bytes()].concat()
    };
    let directory: Vec<u8> = (0..20_000).flat_map(entry).collect();
    let size = u32::try_from(directory.len()).unwrap().to_le_bytes();
    // One entry more than there is.
    let count = 20_001_u16.to_le_bytes();
    let end = [b"PK\x05\x06", [0; 4].as_slice(), &count, &count, &size, &[30, 0, 0, 0], &[0; 2]];
    let start = [b"PK\x03\x04".as_slice(), &[0; 26]].concat();
    let bytes = [start, directory, end.concat().repeat(20_000)].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    fs::write(&path, bytes).unwrap();
    let error = ArrayFile::open(&path).unwrap_err().to_string();
    assert!(error.ends_with("it refers to the same places over and over"), "{error}");
}

#[test]
fn an_archive_that_is_cut_off_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    let bytes = archive(CompressionMethod::Stored);
    for length in [bytes.len() / 2, bytes.len() - 22] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = ArrayFile::open(&path).unwrap_err().to_string();
        assert!(error.ends_with("it has no directory; is it cut off?"), "{error}");
    }
}

/// No memory is taken for entries that an archive only claims to have.
#[test]
fn archives_that_contradict_themselves_are_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let refused = |name: &str, words: &str| {
        let array = ArrayFile::open(&folder.join(name)).and_then(|file| file.array(None, &[]));
        let error = array.unwrap_err().to_string();
        assert!(error.ends_with(words), "{error}");
    };
    refused("many_entries_claimed.npz", "it claims more entries than it has room for");
    refused("twice.npz", "it holds \"x.npy\" twice");
    refused("link_with_numbers.npz", "the entry is a link or a folder, not a file");
    let sizes = "has 110 bytes in its archive, but the directory of the archive promises 118";
    refused("lengths_contradict.npz", sizes);
}

/// An archive with one array, written in one go: its sizes follow the compressed bytes.
fn streamed_archive() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new_stream(Vec::new());
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    writer.start_file("a.npy", options).unwrap();
    writer.write_all(&npy("False", &VALUES)).unwrap();
    writer.finish().unwrap().into_inner()
}

/// `bytes` of an archive, with `size` as the size that its directory promises for its last entry.
fn with_promised_size(mut bytes: Vec<u8>, size: u32) -> Vec<u8> {
    let entry = bytes.windows(4).rposition(|bytes| bytes == b"PK\x01\x02").unwrap();
    bytes[entry + 24..entry + 28].copy_from_slice(&size.to_le_bytes());
    bytes
}

#[test]
fn compressed_arrays_have_the_size_that_the_directory_promises() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    let size = u32::try_from(npy("False", &VALUES).len()).unwrap();
    for bytes in [archive(CompressionMethod::Deflated), streamed_archive()] {
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), VALUES);
        for promised in [0, size - 8, size - 1, size + 1, size + 8, u32::MAX - 1] {
            fs::write(&path, with_promised_size(bytes.clone(), promised)).unwrap();
            let error = read(&path).unwrap_err().to_string();
            let expected = format!(
                "array \"a\": has {size} bytes in its archive, but the directory of the archive \
                 promises {promised}"
            );
            assert!(error.ends_with(&expected), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Flipped, removed and added bytes: an error, or numbers. Those of an archive have a checksum.
    #[test]
    fn damage_is_an_error_or_gives_numbers(
        which in 0..4_usize,
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        kind in 0..3,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut bytes = files()[which].clone();
        let place = place.index(bytes.len());
        match kind {
            0 => bytes[place] = byte,
            1 => bytes.truncate(place),
            _ => bytes.insert(place, byte),
        }
        fs::write(&path, &bytes).unwrap();
        match read(&path) {
            Ok(values) if which == 1 || which == 2 => {
                // Damage to the archive's own directory may turn the choice to the other array,
                // which holds the same numbers in another order.
                let mut sorted = [values, VALUES.to_vec()];
                for values in &mut sorted {
                    values.sort_by(f64::total_cmp);
                }
                prop_assert_eq!(&sorted[0], &sorted[1]);
            }
            Ok(values) => prop_assert!(values.len() <= bytes.len() / 2),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(!text.contains('\n') && text.len() < 1000, "{}", text);
            }
        }
    }
}
