//! Every reader of flatmin as a function of arbitrary bytes.
//!
//! [`Reader::check`] reads bytes as a file of one kind, and panics when a reader misbehaves. The
//! fuzz targets in `fuzz` run it, and the tests of this crate run it on every file of `fuzz/corpus`
//! and on damaged ones.

mod subspace;

use std::io::Write as _;
use std::path::Path;

use flatmin_arrays::{ArrayError, ArrayFile};
use flatmin_host::is_printable;
use flatmin_linalg::named;

/// The largest number of characters of a message. It names things in the file, which may be as long
/// as the file.
const MAX_MESSAGE: usize = 4000;

/// Arrays with more numbers are not read.
const MAX_VALUES: usize = 1 << 16;

/// The largest number of arrays of an archive that are read.
const MAX_ARRAYS: usize = 8;

/// Arrays with more numbers are not analysed: eigenproblems take their time.
const MAX_ANALYSED: usize = 1 << 10;

/// The ways in which an archive with a Jacobian is analysed. Reshuffled epochs are left out: their
/// edge takes seconds, however small the file.
const JACOBIAN_OPTIONS: [&str; 7] = [
    "--array jacobian --batch-size 1,2 --learning-rate 0.1",
    "--array jacobian --loss cross-entropy --logits logits --residuals residuals",
    "--array jacobian --loss binary-cross-entropy --logits logits --sampling poisson",
    "--array jacobian --residuals residuals --logits logits --weight-decay 0.01",
    "--array jacobian --loss custom --output-hessian hessian --residuals residuals --logits logits",
    "--array jacobian --preconditioner scale --outputs 2 --momentum 0.9",
    "--array jacobian --loss cross-entropy --logits logits --residuals residuals --rank 3",
];

/// The ways in which a Gram matrix is analysed.
const GRAM_OPTIONS: [&str; 4] =
    ["--gram", "--gram --outputs 2", "--gram --axes knkn --outputs 2", "--gram --axes nknk"];

/// A kind of file that flatmin reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// A `.npy` file.
    Npy,
    /// A `.npz` archive.
    Npz,
    /// A `.safetensors` file.
    SafeTensors,
    /// An IDX file, the format of MNIST, plain or compressed.
    Idx,
    /// An array file as data, or the order of samples, of a training run.
    Data,
    /// A TOML configuration of a training run.
    Config,
    /// A TOML file with a model.
    Model,
    /// Blocks of parameters in JSON.
    Blocks,
    /// The checkpoint of a training run.
    Checkpoint,
    /// The summary of a training run.
    Summary,
    /// A stored cell of a reproduction.
    Cell,
    /// The manifest of a reproduction.
    Manifest,
    /// The ledger that a report shows.
    Ledger,
    /// An array file as data with classes.
    Classes,
    /// An array file as the parameters of a perceptron.
    Parameters,
    /// An archive for `flatmin analyze`: a Jacobian with logits, Hessians of the loss, residuals and
    /// a preconditioner beside it.
    Jacobian,
    /// A Gram matrix for `flatmin analyze`, also with four axes.
    Gram,
    /// An archive of Jacobians, one for each layer, for `flatmin analyze`.
    Layers,
    /// The checkpoint of a bracket.
    Subspace,
}

// The name of a reader is that of its fuzz target and of the folder of its corpus.
named!(Reader, [
    "npy" => Npy,
    "npz" => Npz,
    "safetensors" => SafeTensors,
    "idx" => Idx,
    "data" => Data,
    "config" => Config,
    "model" => Model,
    "blocks" => Blocks,
    "checkpoint" => Checkpoint,
    "summary" => Summary,
    "cell" => Cell,
    "manifest" => Manifest,
    "ledger" => Ledger,
    "classes" => Classes,
    "parameters" => Parameters,
    "jacobian" => Jacobian,
    "gram" => Gram,
    "layers" => Layers,
    "subspace" => Subspace,
]);

impl Reader {
    /// Reads the bytes as a file of this kind. True if they are one.
    ///
    /// # Panics
    /// When the reader panics, when its message is not one line without control characters, or when
    /// its result is impossible. A panic is the way in which this check fails.
    pub fn check(self, bytes: &[u8]) -> bool {
        let read = match self {
            Self::Npy | Self::Npz | Self::Idx => arrays(bytes, ""),
            // The name makes the reader report errors in the header.
            Self::SafeTensors => arrays(bytes, ".safetensors"),
            Self::Data => in_file(bytes, "", flatmin_cli::readers::data),
            Self::Config => flatmin_cli::readers::config(bytes),
            Self::Model => flatmin_cli::readers::model(bytes),
            Self::Blocks => flatmin_cli::readers::blocks(bytes),
            Self::Checkpoint => flatmin_cli::readers::checkpoint(bytes),
            Self::Summary => flatmin_cli::readers::summary(bytes).map(|text| check_text(&text)),
            Self::Cell => cell(bytes),
            Self::Manifest => xtask::readers::manifest(bytes).map(|text| check_text(&text)),
            Self::Ledger => xtask::readers::ledger(bytes).map(|pages| check_pages(&pages)),
            Self::Classes => in_file(bytes, "", flatmin_cli::readers::classes),
            Self::Parameters => in_file(bytes, "", flatmin_cli::readers::parameters),
            Self::Jacobian => analyses(bytes, &JACOBIAN_OPTIONS),
            Self::Gram => analyses(bytes, &GRAM_OPTIONS),
            Self::Layers => analyses(bytes, &["--sum-arrays", "--sum-arrays --rank 3"]),
            Self::Subspace => subspace::go_on(bytes),
        };
        if let Err(message) = &read {
            assert!(message.chars().all(is_printable), "not fit for a terminal: {message:?}");
            assert!(!message.is_empty(), "says nothing");
            let length = message.chars().count();
            assert!(length <= MAX_MESSAGE, "a message of {length} characters");
        }
        read.is_ok()
    }
}

/// Writes the bytes to a file whose name ends in `end`, and reads it.
fn in_file<T>(bytes: &[u8], end: &str, read: impl FnOnce(&Path) -> T) -> T {
    let mut file = tempfile::Builder::new().suffix(end).tempfile().expect("a temporary folder");
    file.write_all(bytes).expect("room in the temporary folder");
    read(file.path())
}

/// Reads all arrays of a file in every way.
fn arrays(bytes: &[u8], end: &str) -> Result<(), String> {
    in_file(bytes, end, |path| {
        let names = ArrayFile::open(path)?.names();
        if names.is_empty() {
            return array(path, None);
        }
        // The error for an unknown name lists the names of the file.
        let failed = ArrayFile::open(path)?.array(Some("no such name"), &[]);
        if let Err(error) = failed {
            assert!(error.to_string().chars().all(is_printable), "{error:?}");
        }
        names.iter().take(MAX_ARRAYS).try_for_each(|name| array(path, Some(name)))
    })
    .map_err(|error| error.to_string())
}

/// Reads one array in every way, and compares them.
fn array(path: &Path, name: Option<&str>) -> Result<(), ArrayError> {
    let mut array = ArrayFile::open(path)?.array(name, &[])?;
    let shape = array.shape().to_vec();
    let count: usize = shape.iter().product();
    if count > MAX_VALUES {
        return Ok(());
    }
    let values = array.values()?;
    assert_eq!(values.len(), count, "numbers of an array of shape {shape:?}");
    let Some((rows, columns)) = shape.split_first() else { return Ok(()) };
    // The lengths of an array without numbers are arbitrary.
    if count > 0 {
        let width: usize = columns.iter().product();
        let last = array.read_rows(&[rows - 1])?;
        assert!(same(&last, &values[(rows - 1) * width..]), "the last row");
        if let Some(&columns) = columns.last() {
            let mut column = Vec::new();
            array.read_columns(columns - 1..columns, &mut column)?;
            let expected: Vec<f64> =
                values.iter().copied().skip(columns - 1).step_by(columns).collect();
            assert!(same(&column, &expected), "the last column");
        }
    }
    Ok(())
}

/// Analyses a file with each of these options. It is read if it is with one of them.
fn analyses(bytes: &[u8], options: &[&str]) -> Result<(), String> {
    in_file(bytes, "", |path| {
        let file = ArrayFile::open(path).map_err(|error| error.to_string())?;
        let names = file.names();
        let names = names.iter().map(|name| Some(name.as_str()));
        // A file of one array has no names.
        let places = names.chain([None]).take(MAX_ARRAYS + 1);
        for place in places {
            let Ok(array) = ArrayFile::open(path).and_then(|file| file.array(place, &[])) else {
                continue;
            };
            if array.shape().iter().product::<usize>() > MAX_ANALYSED {
                return Err("is too large to analyse here".to_owned());
            }
        }
        let mut read = Err("is analysed in no way".to_owned());
        for options in options {
            let words: Vec<&str> = options.split(' ').chain(["--memory-limit", "0.5"]).collect();
            match flatmin_cli::readers::analysis(path, &words) {
                Ok([text, json]) => {
                    check_text(&text);
                    check_text(&json);
                    read = Ok(());
                }
                Err(message) => {
                    check_line(&message);
                    read = read.or(Err(message));
                }
            }
        }
        read
    })
}

/// True if the numbers have the same bits.
fn same(a: &[f64], b: &[f64]) -> bool {
    a.iter().map(|value| value.to_bits()).eq(b.iter().map(|value| value.to_bits()))
}

/// Reads a cell, stores it and reads it again.
fn cell(bytes: &[u8]) -> Result<(), String> {
    let (spec, result) = xtask::readers::cell(bytes)?;
    let _ = (spec.key(), spec.cost());
    check_line(&spec.label());
    // JSON has no form for some numbers.
    let Ok(bytes) = xtask::readers::cell_bytes(spec.clone(), result.clone()) else { return Ok(()) };
    let again = xtask::readers::cell(&bytes);
    if let Ok(again) = again {
        assert_eq!(again, (spec, result), "a cell that is stored twice");
    }
    Ok(())
}

/// Checks that text is fit for a terminal.
fn check_text(text: &str) {
    text.lines().for_each(check_line);
}

fn check_line(line: &str) {
    assert!(line.chars().all(is_printable), "not fit for a terminal: {line:?}");
}

/// Checks that a report holds no HTML element except those of its own template.
fn check_pages([html, markdown]: &[String; 2]) {
    let allowed = [
        "html", "head", "meta", "title", "style", "body", "header", "h1", "nav", "h2", "h3", "ol",
        "li", "a", "main", "section", "p", "code", "div", "table", "thead", "tbody", "tr", "th",
        "td", "sub", "details", "summary", "footer", "article", "figure", "h4", "b", "i", "span",
        "dl", "dt", "dd", "math", "mrow", "mi", "mo", "mn", "msup", "msub", "mspace",
    ];
    for piece in html.split('<').skip(1) {
        let name: String =
            piece.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        assert!(
            allowed.contains(&name.as_str()) || piece.starts_with("!DOCTYPE html>"),
            "an element <{name}"
        );
    }
    let element = |piece: &str| piece.starts_with(|c: char| c.is_alphabetic() || "/!?".contains(c));
    assert!(!markdown.split('<').skip(1).any(element), "an element in the Markdown");
    assert!(
        markdown.chars().all(|character| character == '\n' || is_printable(character)),
        "not fit for a terminal"
    );
}
