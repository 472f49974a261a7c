//! What cannot be analysed: exit status 3, one line that names the file and the reason, nothing on
//! standard output, within 1 GB of address space and 5 seconds of processor time.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flatmin_arrays::{NamedArray, npz_bytes};
use tempfile::TempDir;
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

const LIMITS: &str = "ulimit -v 1048576 && ulimit -t 5 && exec \"$@\"";

/// A folder with files that are wrong in some way.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", LIMITS, "sh", env!("CARGO_BIN_EXE_flatmin"), "analyze"]);
    command.args(arguments).args(["--threads", "2"]).output().unwrap()
}

/// The one line on standard error, without the program's and the file's name.
#[track_caller]
fn reason(file: &Path, arguments: &[&str]) -> String {
    let file = file.to_str().unwrap();
    let output = run(&[&[file], arguments].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{file}: {error}");
    assert!(output.stdout.is_empty(), "{file}");
    assert_eq!(error.lines().count(), 1, "{file}: {error}");
    assert!(error.len() < 1000, "{error}");
    let Some(reason) = error.strip_prefix(&format!("flatmin: {file}: ")) else {
        panic!("{file} is not named: {error}");
    };
    reason.trim_end().to_owned()
}

#[track_caller]
fn refused(file: &Path, arguments: &[&str], words: &str) {
    let reason = reason(file, arguments);
    assert!(reason.contains(words), "{}: {reason:?} lacks {words:?}", file.display());
}

/// An `.npy` file with this header and these bytes.
fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let descr = if descr.starts_with('[') { descr.to_owned() } else { format!("'{descr}'") };
    let text = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let size = u16::try_from(text.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", size.as_slice(), text.as_bytes(), data].concat()
}

/// A matrix of float64 in C order.
fn matrix(rows: usize, columns: usize, values: &[f64]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    npy("<f8", "False", &format!("({rows}, {columns})"), &data)
}

fn archive(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn entries_that_are_not_finite_are_named() {
    let folder = Folder::new();
    for (value, word) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        let file = folder.write("a.npy", &matrix(2, 3, &[1.0, 2.0, 3.0, 4.0, value, 6.0]));
        refused(&file, &[], &format!("entry (1, 1) of the Jacobian is {word}"));
        // The same place in Fortran order and single precision.
        #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
        let data: Vec<u8> = [1.0, 4.0, 2.0, value, 3.0, 6.0]
            .iter()
            .flat_map(|v| (*v as f32).to_be_bytes())
            .collect();
        let file = folder.write("b.npy", &npy(">f4", "True", "(2, 3)", &data));
        refused(&file, &[], &format!("entry (1, 1) of the Jacobian is {word}"));
        let file = folder.write("c.npy", &matrix(2, 2, &[1.0, value, value, 1.0]));
        refused(&file, &["--gram"], &format!("of the Gram matrix is {word}"));
    }
    // With several outputs, by sample and output.
    for (order, place) in [("False", 2 * 6 + 3 + 1), ("True", 6 + 2 + 2)] {
        let mut data = vec![0; 8 * 3 * 2 * 3];
        data[8 * place..8 * (place + 1)].copy_from_slice(&f64::NAN.to_le_bytes());
        let file = folder.write("e.npy", &npy("<f8", order, "(3, 2, 3)", &data));
        let entry = if order == "False" { "(2, 1, 1)" } else { "(1, 1, 1)" };
        refused(&file, &[], &format!("entry {entry} of the Jacobian is NaN"));
    }
    // In a block of parameters, the column counts from the first of all.
    let mut values = vec![1.0; 20];
    values[17] = f64::NAN;
    let file = folder.write("d.npy", &matrix(2, 10, &values));
    let blocks = folder.write("blocks.json", br#"{"a": [0, 4], "b": [5, 9]}"#);
    let blocks = ["--blocks", blocks.to_str().unwrap()];
    refused(&file, &blocks, "entry (1, 7) of the Jacobian is NaN");
    refused(&file, &[], "take the Jacobian where all outputs and gradients are finite");
    let file = folder.write("g.npy", &matrix(2, 2, &[1.0, f64::NAN, f64::NAN, 1.0]));
    refused(&file, &["--gram"], "take the Jacobian where all outputs and gradients are finite");
    // Among several arrays, the one that has the number is named, with its own column.
    let (right, wrong) = ([1.0, 2.0, 3.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0, f64::NAN]);
    let arrays = [("first", &right[..], 2), ("second", &wrong[..], 3)]
        .map(|(name, values, width)| NamedArray { name, shape: vec![2, width], values });
    let file = folder.write("s.npz", &npz_bytes(&arrays).unwrap());
    refused(&file, &["--sum-arrays"], "entry (1, 2) of array \"second\" is NaN");
}

#[test]
fn too_few_samples_for_a_batch_name_the_reading_of_several_outputs() {
    let folder = Folder::new();
    let kernel: Vec<f64> = (0..25).map(|at| if at % 6 == 0 { 2.0 } else { 0.25 }).collect();
    let file = folder.write("k.npy", &matrix(5, 5, &kernel));
    let words = "the array is read as 1 sample with 5 outputs; if its 5 rows are samples";
    refused(&file, &["--gram", "--outputs", "5", "--batch-size", "2"], words);
    refused(&file, &["--outputs", "5", "--batch-size", "2"], words);
    let words = "a mean over outputs, which does not determine the threshold";
    refused(&file, &["--gram", "--outputs", "5", "--batch-size", "2"], words);
    let file = folder.write("j.npy", &npy("<f8", "False", "(1, 5, 2)", &[0; 80]));
    let words = "1 sample with 5 outputs; if its axes are in another order, give --axes";
    refused(&file, &["--batch-size", "3"], words);
}

#[test]
fn shapes_that_are_no_jacobian_are_refused() {
    let folder = Folder::new();
    let check = |shape: &str, count: usize, arguments: &[&str], words: &str| {
        let file = folder.write("a.npy", &npy("<f8", "False", shape, &vec![0; 8 * count]));
        refused(&file, arguments, words);
    };
    check("(0, 5)", 0, &[], "is empty: it has shape (0 × 5)");
    check("(5, 0)", 0, &[], "is empty");
    check("(0,)", 0, &[], "is empty");
    check("()", 1, &[], "is a single number");
    check("(6,)", 6, &[], "has shape (6), expected a Jacobian n × p");
    check("(0, 3, 2)", 0, &[], "is empty: it has shape (0 × 3 × 2)");
    check("(2, 0, 2)", 0, &[], "is empty");
    check("(2, 3, 0)", 0, &[], "is empty");
    check("(2, 3, 2)", 12, &["--outputs", "2"], "the Jacobian of 3 outputs, not of 2");
    check("(2, 3, 2)", 12, &["--gram"], "expected the n × n matrix");
    check("(6, 2)", 12, &["--outputs", "4"], "6 rows are not 4 outputs for every sample");
    check("(6, 2)", 12, &["--outputs", "4"], "give the number of outputs that divides the rows");
    check("(3, 3, 2, 2)", 36, &[], "give --gram for a tangent kernel");
    check("(3, 3)", 9, &["--gram", "--outputs", "2"], "3 rows are not 2 outputs");
    check("(2, 3, 2, 2)", 24, &[], "has shape (2 × 3 × 2 × 2)");
    check("(2, 3)", 6, &["--gram"], "expected the n × n matrix");
    check(&format!("({})", "1, ".repeat(65)), 1, &[], "has 65 axes, expected at most 64");
    check("(18446744073709551615, 0)", 0, &[], "is empty");
    // Only a header and 800 000 zeros, but 80 GB for the Gram matrix, and no bracket in its place.
    check("(100000, 1)", 100_000, &["--sampling", "reshuffling"], "--memory-limit");
    check("(100000, 1)", 100_000, &["--weight-decay", "0.1"], "--memory-limit");
    check("(100000, 1)", 100_000, &["--almost-sure"], "--memory-limit");
    check("(100000, 1)", 100_000, &["--figure", "a.svg"], "--memory-limit");
    let words = "1000 samples with 100 outputs each need about";
    check("(1000, 100, 1)", 100_000, &["--subsets", "2"], words);
    let huge = "(4294967296, 4294967296, 4294967296)";
    check(huge, 1, &[], "is truncated");
}

#[test]
fn one_output_may_have_an_axis_of_its_own() {
    let folder = Folder::new();
    let data: Vec<u8> = [1.0, 0.0, 0.0, 2.0].iter().flat_map(|v: &f64| v.to_le_bytes()).collect();
    for order in ["True", "False"] {
        let file = folder.write("a.npy", &npy("<f8", order, "(2, 1, 2)", &data));
        let output = run(&[file.to_str().unwrap()]);
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("2 samples × 2 parameters"));
    }
}

#[test]
fn types_are_refused_by_name_or_converted_exactly() {
    let folder = Folder::new();
    for (descr, size, words) in [
        ("<c16", 16, "complex numbers"),
        ("<c8", 8, "complex numbers"),
        ("|b1", 1, "booleans"),
        ("|O", 8, "pickled Python objects"),
        ("<U4", 16, "text"),
        ("|S4", 4, "text"),
        ("<f16", 16, "unusual size"),
        ("<M8[s]", 8, "dates"),
        ("[('a', '<f8'), ('b', '<f8')]", 16, "named fields"),
    ] {
        let file = folder.write("a.npy", &npy(descr, "False", "(2, 3)", &vec![0; 6 * size]));
        refused(&file, &[], words);
    }
    // Integers become the numbers they are.
    let expected = folder.write("a.npy", &matrix(2, 2, &[3.0, -1.0, 2.0, 5.0]));
    let expected = run(&[expected.to_str().unwrap(), "--format", "json"]).stdout;
    for (descr, bytes) in [
        ("<i8", [3_i64, -1, 2, 5].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()),
        (">i4", [3_i32, -1, 2, 5].iter().flat_map(|v| v.to_be_bytes()).collect()),
        ("<i2", [3_i16, -1, 2, 5].iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("|i1", [3_i8, -1, 2, 5].iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("<f2", vec![0x00, 0x42, 0x00, 0xbc, 0x00, 0x40, 0x00, 0x45]),
    ] {
        let file = folder.write("a.npy", &npy(descr, "False", "(2, 2)", &bytes));
        let output = run(&[file.to_str().unwrap(), "--format", "json"]);
        assert!(output.stdout == expected, "{descr}");
    }
    let odd = (1_u64 << 60) + 1;
    let bytes: Vec<u8> = [1, 2, odd, 4].iter().flat_map(|v: &u64| v.to_le_bytes()).collect();
    let file = folder.write("a.npy", &npy("<u8", "False", "(2, 2)", &bytes));
    refused(&file, &[], &format!("entry [1, 0] is the integer {odd}"));
}

#[test]
fn every_truncation_is_noticed() {
    let folder = Folder::new();
    let matrix = matrix(3, 4, &(0..12).map(f64::from).collect::<Vec<_>>());
    let header = r#"{"jacobian":{"dtype":"F64","shape":[2,2],"data_offsets":[0,32]}}"#;
    for (name, whole) in [
        ("a.npy", matrix.clone()),
        ("a.npz", archive(CompressionMethod::Stored, &[("jacobian.npy", &matrix)])),
        ("b.npz", archive(CompressionMethod::Deflated, &[("jacobian.npy", &matrix)])),
        ("a.safetensors", safetensors(header, &[0; 32])),
    ] {
        let file = folder.write(name, &whole);
        assert!(run(&[file.to_str().unwrap()]).status.success(), "{name}");
        for len in (0..whole.len()).step_by(3) {
            let file = folder.write(name, &whole[..len]);
            reason(&file, &[]);
        }
    }
    let cut = folder.write("a.npy", &matrix[..matrix.len() - 8]);
    refused(&cut, &[], "is truncated: 96 bytes of numbers promised, 88 there");
    let long = folder.write("a.npy", &[matrix.as_slice(), &[0; 8]].concat());
    refused(&long, &[], "has 104 bytes of numbers, 96 promised");
    refused(&folder.write("empty.npy", &[]), &[], "is empty");
}

#[test]
fn headers_that_promise_too_much_take_no_memory() {
    let folder = Folder::new();
    let check = |shape: &str, words: &str| {
        let file = folder.write("a.npy", &npy("<f8", "False", shape, &[0; 64]));
        refused(&file, &[], words);
    };
    check("(1000000000000, 1000)", "is truncated: 8000000000000000 bytes");
    check("(18446744073709551615, 18446744073709551615)", "is truncated");
    check("(18446744073709551616, 1)", "shape");
    check("(-1, 8)", "shape");
    let file = folder.write("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{");
    refused(&file, &[], "4294967295 bytes long");
    let file = folder.write("a.npy", b"\x93NUMPY\x09\x00\x10\x00{");
    refused(&file, &[], "version 9.0");
    let nested = [b"\x93NUMPY\x01\x00\x00\x20", "[".repeat(0x2000).as_bytes()].concat();
    refused(&folder.write("a.npy", &nested), &[], "nested too deeply");
    let file = folder.write("a.safetensors", &u64::MAX.to_le_bytes());
    refused(&file, &[], "18446744073709551615 bytes long");
}

#[test]
fn compressed_arrays_do_not_expand_without_bounds() {
    let folder = Folder::new();
    let header = npy("<f8", "False", "(16384, 16384)", &[]);
    // 512 MiB of zeros in half a megabyte, all of them promised, ...
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    writer.start_file("jacobian.npy", options.compression_level(Some(1))).unwrap();
    writer.write_all(&header).unwrap();
    for _ in 0..512 {
        writer.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bomb = writer.finish().unwrap().into_inner();
    refused(&folder.write("a.npz", &bomb), &[], "is compressed and expands to 2147483648 bytes");
    // ... and behind the header of a small array.
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("jacobian.npy", options.compression_level(Some(1))).unwrap();
    writer.write_all(&matrix(2, 2, &[1.0, 0.0, 0.0, 1.0])).unwrap();
    for _ in 0..512 {
        writer.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bomb = writer.finish().unwrap().into_inner();
    refused(&folder.write("b.npz", &bomb), &[], "32 promised by its header");
}

#[test]
fn names_that_are_not_there_are_answered_with_those_that_are() {
    let folder = Folder::new();
    let matrix = matrix(2, 2, &[1.0, 0.0, 0.0, 1.0]);
    let entries: [(&str, &[u8]); 3] =
        [("weights.npy", &matrix), ("data.npy", &matrix), ("read\u{1b}[2J me.txt", b"hello")];
    let file = folder.write("a.npz", &archive(CompressionMethod::Stored, &entries));
    refused(&file, &["--array", "jacobian"], "no array \"jacobian\"; it has: weights, data");
    refused(&file, &[], "several arrays, name one of them: weights, data");
    let header = r#"{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},
        "b\n":{"dtype":"F64","shape":[1],"data_offsets":[8,16]}}"#;
    let file = folder.write("a.safetensors", &safetensors(header, &[0; 16]));
    refused(&file, &["--array", "c"], "no array \"c\"; it has: a, b\\u{a}");
    let file = folder.write("a.npy", &matrix);
    refused(&file, &["--array", "c"], "which has no name");
    let entries: [(&str, &[u8]); 2] = [("archive/data.pkl", b"x"), ("archive/data/0", b"y")];
    let file = folder.write("a.pt", &archive(CompressionMethod::Stored, &entries));
    refused(&file, &[], "torch.save");
}

#[test]
fn malformed_files_are_refused() {
    let folder = Folder::new();
    let check = |header: &str, data: usize, words: &str| {
        let file = folder.write("a.safetensors", &safetensors(header, &vec![0; data]));
        refused(&file, &[], words);
    };
    check("not json", 0, "makes no sense");
    check("[1, 2]", 0, "makes no sense");
    check(r#"{"a":{"dtype":"F64","shape":[2,2],"data_offsets":[0,16]}}"#, 16, "makes no sense");
    check(r#"{"a":{"dtype":"F64","shape":[2],"data_offsets":[8,24]}}"#, 24, "makes no sense");
    check(r#"{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,16]}}"#, 16, "makes no sense");
    check(r#"{"a":{"dtype":"F64","shape":[2,2],"data_offsets":[0,32]}}"#, 16, "is truncated");
    check(r#"{"a":{"dtype":"F64","shape":[2,2],"data_offsets":[0,32]}}"#, 48, "48 bytes");
    check(r#"{"a":{"dtype":"C64","shape":[2,2],"data_offsets":[0,32]}}"#, 32, "complex");
    check(r#"{"a":{"dtype":"BOOL","shape":[2,2],"data_offsets":[0,4]}}"#, 4, "booleans");
    check(
        r#"{"a":{"dtype":"F64","shape":[4294967296,4294967296,16],"data_offsets":[0,0]}}"#,
        0,
        "makes no sense",
    );
    check(&"[".repeat(100_000), 0, "makes no sense");
    check("{}", 0, "holds no array");
    refused(&folder.write("a.csv", b"1.0,2.0\n3.0,4.0\n"), &[], "it starts with \"1.0,2.0");
    refused(&folder.write("a.npz", b"PK\x03\x04 and nothing that belongs here"), &[], "archive");
    // A flipped bit in the numbers of an archive.
    let matrix = matrix(2, 2, &[1.0, 0.0, 0.0, 1.0]);
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let mut bytes = archive(method, &[("jacobian.npy", &matrix)]);
        let middle = 30 + "jacobian.npy".len() + 90;
        bytes[middle] ^= 0x10;
        reason(&folder.write("a.npz", &bytes), &[]);
    }
}

#[test]
fn what_is_no_readable_file_is_refused() {
    let folder = Folder::new();
    let missing = folder.0.path().join("missing.npy");
    refused(&missing, &[], "no such file");
    refused(folder.0.path(), &[], "is a folder");
    let pipe = folder.0.path().join("pipe.npy");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    refused(&pipe, &[], "is not a regular file");
    refused(Path::new("/dev/zero"), &[], "is not a regular file");
    let beneath = folder.write("a.npy", &matrix(1, 1, &[1.0])).join("b.npy");
    reason(&beneath, &[]);
}

#[test]
fn an_unreadable_file_is_refused() {
    let folder = Folder::new();
    let file = folder.write("a.npy", &matrix(1, 1, &[1.0]));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&file).is_err() {
        refused(&file, &[], "cannot be read: Permission denied");
        return;
    }
    // The administrator may read anything: try as nobody, from a place where nobody may go.
    fs::set_permissions(folder.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.0.path().join("flatmin");
    fs::copy(env!("CARGO_BIN_EXE_flatmin"), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([program.to_str().unwrap(), "analyze", file.to_str().unwrap()])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{error}");
    let expected = format!("flatmin: {}: cannot be read: Permission denied", file.display());
    assert!(error.starts_with(&expected) && error.lines().count() == 1, "{error}");
}

#[test]
fn what_is_no_gram_matrix_is_refused() {
    let folder = Folder::new();
    let check = |values: &[f64; 4], words: &str| {
        refused(&folder.write("a.npy", &matrix(2, 2, values)), &["--gram"], words);
    };
    check(&[1.0, 0.5, 0.4, 1.0], "is not symmetric: entry (1, 0) is 0.4, entry (0, 1) is 0.5");
    check(&[1.0, 0.0, 0.0, -1.0], "a squared norm cannot be negative");
    check(&[1.0, 2.0, 2.0, 1.0], "more than the norms of its rows allow");
    // Possible entries that no Gram matrix has together: eigenvalue 1 − √2·0.9 < 0, of the
    // matrix as it was given.
    let values = [1.0, 0.9, 0.0, 0.9, 1.0, 0.9, 0.0, 0.9, 1.0];
    let file = folder.write("a.npy", &matrix(3, 3, &values));
    refused(&file, &["--gram"], "has the eigenvalue -0.2727");
}

#[test]
fn other_files_are_checked_too() {
    let folder = Folder::new();
    let file = folder.write("a.npy", &matrix(2, 4, &[1.0; 8]));
    let file = file.to_str().unwrap();
    let check = |blocks: &[u8], words: &str| {
        let blocks = folder.write("blocks.json", blocks);
        let output = run(&[file, "--blocks", blocks.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{error}");
        assert!(error.starts_with(&format!("flatmin: {}: ", blocks.display())), "{error}");
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
        assert!(output.stdout.is_empty());
    };
    check(br#"{"w": [0, 5]}"#, "block \"w\" is [0, 5], expected first < end");
    check(br#"{"w": [2, 2]}"#, "expected first < end");
    check(br#"{"w": [0, 2], "w": [2, 4]}"#, "twice");
    check(br#"{"w": [0, -1]}"#, "line 1");
    check(br#"{"w": "all"}"#, "line 1");
    check(br"[[0, 4]]", "[first, end]");
    check(b"", "EOF");
    refused(Path::new(file), &["--batch-size", "3"], "cannot draw 3 of 2 samples");

    let nowhere = folder.0.path().join("none").join("a.svg");
    let output = run(&[file, "--figure", nowhere.to_str().unwrap()]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.starts_with(&format!("flatmin: {}: ", nowhere.display())), "{error}");
    assert!(output.stdout.is_empty());
}
