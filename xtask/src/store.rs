//! The cell store: one file a result, checked when it is read.

use std::io;
use std::path::{Path, PathBuf};

use flatmin_experiments::cell::{CODE_VERSION, CellKey, CellResult, CellSpec};
use flatmin_host::{Lock, read_own, said, short};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::files;

/// The format of a cell file.
const SCHEMA: &str = "flatmin.cell/1";

/// Largest cell file that is read. Those of the paper take up to 32 kB.
const LARGEST: u64 = 64 << 20;

/// A folder of cell files, `<hash>.json`.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

/// What the store holds of a cell.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// Nothing.
    Missing,
    /// Its result.
    Stored(CellResult),
    /// A file that cannot be trusted, and why.
    Damaged { path: PathBuf, reason: String },
}

#[derive(Serialize)]
struct Written<'a> {
    schema: &'a str,
    code_version: u32,
    spec: &'a CellSpec,
    result: &'a CellResult,
    checksum: String,
}

#[derive(Deserialize)]
struct Header {
    schema: String,
}

/// A cell as its file says it is.
#[derive(Deserialize)]
pub(crate) struct Read {
    code_version: u32,
    pub(crate) spec: CellSpec,
    pub(crate) result: CellResult,
    checksum: String,
}

impl Store {
    /// The store in a folder, which need not exist to be read.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a cell lies.
    pub(crate) fn path(&self, key: CellKey) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    /// Takes a cell to compute it, or nothing while another process has it. Whoever has it finds what
    /// others stored before.
    ///
    /// # Errors
    /// [`Failure::Written`] when the folder is gone or cannot be written.
    pub(crate) fn take(&self, key: CellKey) -> Result<Option<Lock>, Failure> {
        Ok(Lock::try_take(&self.folder, &key.to_string())?)
    }

    /// Reads a cell and checks its format, specification and checksum, and that its bytes are those that
    /// were written.
    ///
    /// # Errors
    /// [`Failure::File`] when a file is there but cannot be read, [`Failure::NewerSchema`].
    pub(crate) fn load(&self, spec: &CellSpec) -> Result<Loaded, Failure> {
        let path = self.path(spec.key());
        let bytes = match read_own(&path, LARGEST, "a stored cell") {
            Ok(bytes) => bytes,
            Err(error) => match error.source.kind() {
                io::ErrorKind::NotFound => return Ok(Loaded::Missing),
                // No file that this program wrote.
                io::ErrorKind::InvalidData => {
                    let reason = error.source.to_string();
                    return Ok(Loaded::Damaged { path, reason });
                }
                _ => return Err(error.into()),
            },
        };
        if let Ok(Header { schema }) = serde_json::from_slice(&bytes)
            && is_newer(&schema)
        {
            return Err(Failure::NewerSchema { path, schema: short(&schema), known: SCHEMA });
        }
        Ok(match parse(&bytes, spec) {
            Ok(result) => Loaded::Stored(result),
            Err(reason) => Loaded::Damaged { path, reason },
        })
    }

    /// Stores a result, after checking that what is written reads back.
    ///
    /// # Errors
    /// [`Failure::Written`], [`Failure::Unreadable`].
    pub(crate) fn save(&self, spec: &CellSpec, result: &CellResult) -> Result<(), Failure> {
        let path = self.path(spec.key());
        let unreadable = |reason: String| Failure::Unreadable {
            path: path.clone(),
            label: spec.label(),
            reason,
        };
        let bytes = bytes(spec, result).map_err(&unreadable)?;
        parse(&bytes, spec).map_err(unreadable)?;
        Ok(files::write_own(&path, &bytes)?)
    }
}

/// The result in a cell file, or why it is not one of the wanted cell.
fn parse(bytes: &[u8], spec: &CellSpec) -> Result<CellResult, String> {
    let file = stored(bytes)?;
    if file.code_version != CODE_VERSION {
        return Err(format!("it is of code version {}, not {CODE_VERSION}", file.code_version));
    }
    if file.spec.canonical_json() != spec.canonical_json() {
        return Err("it is the result of another cell".to_owned());
    }
    let expected = checksum(&file.spec, &file.result).map_err(|error| error.to_string())?;
    if file.checksum != expected {
        return Err("its checksum does not match its content".to_owned());
    }
    // Such as a space, or a last digit that rounds to the same number.
    if self::bytes(&file.spec, &file.result).ok().as_deref() != Some(bytes) {
        return Err("its bytes are not those that were written".to_owned());
    }
    Ok(file.result)
}

/// What the bytes of a cell file say, whatever its checksum.
pub(crate) fn stored(bytes: &[u8]) -> Result<Read, String> {
    let reason = |error: serde_json::Error| said(&error);
    let header: Header = serde_json::from_slice(bytes).map_err(reason)?;
    if header.schema != SCHEMA {
        return Err(format!("its format is \"{}\", not {SCHEMA}", short(&header.schema)));
    }
    serde_json::from_slice(bytes).map_err(reason)
}

/// The bytes of a cell file.
pub(crate) fn bytes(spec: &CellSpec, result: &CellResult) -> Result<Vec<u8>, String> {
    let text = || {
        let checksum = checksum(spec, result)?;
        let file = Written { schema: SCHEMA, code_version: CODE_VERSION, spec, result, checksum };
        serde_json::to_string(&file)
    };
    text().map(|text| (text + "\n").into_bytes()).map_err(|error| error.to_string())
}

/// BLAKE3 of the compact JSON of `[spec, result]`.
fn checksum(spec: &CellSpec, result: &CellResult) -> serde_json::Result<String> {
    let text = serde_json::to_vec(&(spec, result))?;
    Ok(blake3::hash(&text).to_hex().to_string())
}

/// Whether a format is a later version of the one known here.
fn is_newer(schema: &str) -> bool {
    let version = |text: &str| text.strip_prefix("flatmin.cell/")?.parse::<u64>().ok();
    version(schema) > version(SCHEMA)
}

#[cfg(test)]
mod tests {
    use flatmin_experiments::cell::{CellSpec, NetworkFamily, NormSpec};

    use super::{Loaded, Store};
    use crate::failure::Failure;

    fn spec(seed: u64) -> CellSpec {
        let (family, width, input_dim, networks) = (NetworkFamily::Relu, 3, 2, 2);
        CellSpec::Norms(NormSpec { family, width, input_dim, networks, seed })
    }

    /// A store with one cell, whose file is edited before it is read.
    fn edited(edit: impl Fn(String) -> String) -> Result<Loaded, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let (store, spec) = (Store::new(folder.path().to_owned()), spec(0));
        store.save(&spec, &spec.run().unwrap()).unwrap();
        let path = store.path(spec.key());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, edit(text)).unwrap();
        store.load(&spec)
    }

    #[test]
    fn a_stored_cell_reads_back() {
        let Loaded::Stored(result) = edited(|text| text).unwrap() else { panic!("not stored") };
        assert_eq!(result, spec(0).run().unwrap());
    }

    #[test]
    fn nothing_stored_is_missing() {
        let store = Store::new("no-such-folder".into());
        assert!(matches!(store.load(&spec(0)).unwrap(), Loaded::Missing));
    }

    #[test]
    fn damage_is_seen() {
        let check = |edit: &dyn Fn(String) -> String, expected: &str| {
            let Loaded::Damaged { reason, .. } = edited(edit).unwrap() else {
                panic!("not damaged: {expected}")
            };
            assert!(reason.contains(expected), "{reason}");
        };
        check(&|text| text[..text.len() / 2].to_owned(), "EOF");
        check(&|_| String::new(), "EOF");
        check(&|text| text.replace("\"balanced\":true", "\"balanced\":false"), "checksum");
        check(&|text| text.replace("flatmin.cell/1", "flatmin.cell/0"), "flatmin.cell/0");
        check(&|text| text.replace("\"seed\":0", "\"seed\":1"), "another cell");
        check(&|text| text.replace("\"seed\":0", "\"seed\": 0"), "not those that were written");
        check(&|text| text.replace("\"code_version\":", "\"code_version\":9"), "code version");
    }

    #[test]
    fn every_changed_byte_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (store, spec) = (Store::new(folder.path().to_owned()), spec(0));
        store.save(&spec, &spec.run().unwrap()).unwrap();
        let bytes = std::fs::read(store.path(spec.key())).unwrap();
        assert!(super::parse(&bytes, &spec).is_ok());
        for position in 0..bytes.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128, b'\n' ^ b' ', b'\n' ^ b'\t'] {
                let mut changed = bytes.clone();
                changed[position] ^= flip;
                assert!(super::parse(&changed, &spec).is_err(), "byte {position} with {flip:#x}");
            }
        }
    }

    #[test]
    fn a_cell_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        let taken = store.take(spec(0).key()).unwrap();
        assert!(taken.is_some() && store.take(spec(0).key()).unwrap().is_none());
        assert!(store.take(spec(1).key()).unwrap().is_some());
        drop(taken);
        assert!(store.take(spec(0).key()).unwrap().is_some());
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let failure = edited(|text| text.replace("flatmin.cell/1", "flatmin.cell/2")).unwrap_err();
        assert!(failure.to_string().contains("flatmin.cell/2 is newer"), "{failure}");
    }
}
