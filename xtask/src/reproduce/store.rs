//! The cell store: one file per result, checked when it is read.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use flatmin_experiments::cell::{CODE_VERSION, CellKey, CellResult, CellSpec};
use flatmin_host::{Layout, Lock, SealError, SealedFile, read_own, write_own};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Largest cell file that is read, in bytes. Those of the paper take up to 32 kB.
const MAX_BYTES: u64 = 64 << 20;

/// A folder of cell files, `<hash>.json`. It need not exist to be read.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) folder: PathBuf,
}

/// The stored result of a cell, or the reason why its file cannot be trusted; no reason if there is
/// no file.
pub(crate) type Loaded = Result<CellResult, Option<String>>;

/// A cell file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CellFile {
    code_version: u32,
    pub(crate) spec: CellSpec,
    pub(crate) result: CellResult,
}

impl SealedFile for CellFile {
    const SCHEMA: &'static str = "flatmin.cell/1";
    const LAYOUT: Layout = Layout::Line;

    fn summed(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&(&self.spec, &self.result))
    }
}

impl CellFile {
    /// The file of a result computed by this version of the code.
    pub(crate) fn new(spec: CellSpec, result: CellResult) -> Self {
        Self { code_version: CODE_VERSION, spec, result }
    }

    /// Reads the file of the wanted cell, or says why it is not.
    fn open_for(bytes: &[u8], spec: &CellSpec) -> Result<Self, FileOfCellError> {
        let file = Self::parse(bytes)?;
        if file.code_version != CODE_VERSION {
            return Err(FileOfCellError::CodeVersion(file.code_version));
        }
        if file.spec.canonical_json() != spec.canonical_json() {
            return Err(FileOfCellError::OtherCell);
        }
        file.verify(bytes)?;
        Ok(file)
    }
}

/// Why a file does not give the result of a cell.
#[derive(Debug, thiserror::Error)]
enum FileOfCellError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("it is of code version {0}, not {CODE_VERSION}")]
    CodeVersion(u32),
    #[error("it is the result of another cell")]
    OtherCell,
}

impl Store {
    /// The path of a cell file.
    pub(crate) fn path(&self, key: CellKey) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    /// Takes a cell to compute it, or gives `None` while another process has it. The next process
    /// that takes it finds what this one stored.
    ///
    /// # Errors
    /// [`Failure::File`] when the folder is gone or cannot be written.
    pub(crate) fn take(&self, key: CellKey) -> Result<Option<Lock>, Failure> {
        Ok(Lock::try_take(&self.folder, &key.to_string())?)
    }

    /// Reads a cell. Checks its format, code version, specification and checksum, and that no byte
    /// of it was changed.
    ///
    /// # Errors
    /// [`Failure::File`] when a file is there but cannot be read, [`Failure::NewerSchema`].
    pub(crate) fn load(&self, spec: &CellSpec) -> Result<Loaded, Failure> {
        let path = self.path(spec.key());
        let bytes = match read_own(&path, MAX_BYTES, "a stored cell") {
            Ok(bytes) => bytes,
            Err(error) => match error.source.kind() {
                io::ErrorKind::NotFound => return Ok(Err(None)),
                // This program did not write it: it is a link, a device, or too long.
                io::ErrorKind::InvalidData => {
                    return Ok(Err(Some(error.source.to_string())));
                }
                _ => return Err(error.into()),
            },
        };
        match CellFile::open_for(&bytes, spec) {
            Ok(file) => Ok(Ok(file.result)),
            Err(FileOfCellError::Seal(source @ SealError::Newer { .. })) => {
                Err(Failure::NewerSchema { path, source })
            }
            Err(error) => Ok(Err(Some(error.to_string()))),
        }
    }

    /// Stores a result, after checking that what is written reads back.
    ///
    /// # Errors
    /// [`Failure::File`], [`Failure::Unreadable`].
    pub(crate) fn save(&self, spec: &CellSpec, result: CellResult) -> Result<(), Failure> {
        let unreadable = |error: &dyn Display| self.unreadable(spec, error.to_string());
        let file = CellFile::new(spec.clone(), result);
        let text = file.to_sealed().map_err(|error| unreadable(&error))?;
        CellFile::open_for(text.as_bytes(), spec).map_err(|error| unreadable(&error))?;
        Ok(write_own(&self.path(spec.key()), text.as_bytes())?)
    }

    /// The failure of a cell that cannot be read back after it was stored.
    pub(crate) fn unreadable(&self, spec: &CellSpec, reason: String) -> Failure {
        Failure::Unreadable { path: self.path(spec.key()), label: spec.label(), reason }
    }
}

#[cfg(test)]
mod tests {
    use flatmin_experiments::cell::{CellSpec, NetworkFamily, NormSpec};

    use super::{CellFile, Loaded, Store};
    use crate::failure::Failure;

    fn spec(seed: u64) -> CellSpec {
        let (family, width, input_dim, networks) = (NetworkFamily::Relu, 3, 2, 2);
        CellSpec::Norms(NormSpec { family, width, input_dim, networks, seed })
    }

    /// A store with one cell, whose file is edited before it is read.
    fn edited(edit: impl Fn(String) -> String) -> Result<Loaded, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let (store, spec) = (Store { folder: folder.path().to_owned() }, spec(0));
        store.save(&spec, spec.run().unwrap()).unwrap();
        let path = store.path(spec.key());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, edit(text)).unwrap();
        store.load(&spec)
    }

    #[test]
    fn a_stored_cell_reads_back() {
        let Ok(result) = edited(|text| text).unwrap() else { panic!("not stored") };
        assert_eq!(result, spec(0).run().unwrap());
    }

    #[test]
    fn nothing_stored_is_missing() {
        let store = Store { folder: "no-such-folder".into() };
        assert!(matches!(store.load(&spec(0)).unwrap(), Err(None)));
    }

    #[test]
    fn damage_is_seen() {
        let check = |edit: &dyn Fn(String) -> String, expected: &str| {
            let Err(Some(reason)) = edited(edit).unwrap() else {
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
        let (store, spec) = (Store { folder: folder.path().to_owned() }, spec(0));
        store.save(&spec, spec.run().unwrap()).unwrap();
        let bytes = std::fs::read(store.path(spec.key())).unwrap();
        assert!(CellFile::open_for(&bytes, &spec).is_ok());
        for position in 0..bytes.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128, b'\n' ^ b' ', b'\n' ^ b'\t'] {
                let mut changed = bytes.clone();
                changed[position] ^= flip;
                assert!(
                    CellFile::open_for(&changed, &spec).is_err(),
                    "byte {position} with {flip:#x}"
                );
            }
        }
    }

    #[test]
    fn a_cell_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { folder: folder.path().to_owned() };
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
