//! Files that are there whole or not at all.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::failure::Failure;

/// Temporary files start with this; those that a killed run left are removed by it.
const TEMPORARY: &str = ".tmp-";

/// Attempts at a write whose temporary file another process swept away.
const ATTEMPTS: usize = 3;

/// Writes a file: under a temporary name in the same folder, synced, then renamed.
///
/// # Errors
/// [`Failure::File`]; the file is then as it was before.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut written = try_write(path, bytes);
    for _ in 1..ATTEMPTS {
        match &written {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                written = try_write(path, bytes);
            }
            _ => break,
        }
    }
    written.map_err(Failure::file(path))
}

fn try_write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // As readable as any other new file, not only by its owner: folders are shared between users.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Writes a value as JSON.
///
/// # Errors
/// As [`write()`] and [`json`].
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    write(path, json(path, value)?.as_bytes())
}

/// A value as the JSON text of the file at `path`.
///
/// # Errors
/// [`Failure::File`] when the value has no JSON form.
pub(crate) fn json(path: &Path, value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Failure::File { path: path.into(), source: error.into() })?;
    Ok(text + "\n")
}

/// Makes a folder, and checks that files can be written in it.
///
/// # Errors
/// [`Failure::File`] when it is not to be.
pub(crate) fn make_writable(folder: &Path) -> Result<(), Failure> {
    let probe = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = temporary(folder)?;
        file.write_all(b"flatmin\n")?;
        file.as_file().sync_all()
    };
    probe().map_err(Failure::file(folder))
}

/// Removes the temporary files that a killed run left.
///
/// # Errors
/// [`Failure::File`] when the folder cannot be listed or a file not be removed.
pub(crate) fn sweep(folder: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).map_err(Failure::file(folder))? {
        let entry = entry.map_err(Failure::file(folder))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            match fs::remove_file(entry.path()) {
                // Another process finished or swept it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(Failure::file(&entry.path()))?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{make_writable, sweep, write};

    #[test]
    fn a_write_replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn sweeping_removes_temporary_files_only() {
        let folder = tempfile::tempdir().unwrap();
        make_writable(folder.path()).unwrap();
        std::fs::write(folder.path().join(".tmp-abc"), "half").unwrap();
        std::fs::write(folder.path().join("a.json"), "{}").unwrap();
        sweep(folder.path()).unwrap();
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].as_ref().unwrap().file_name(), "a.json");
    }

    #[test]
    fn a_failed_write_names_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none").join("a.json");
        let message = write(&path, b"x").unwrap_err().to_string();
        assert!(message.starts_with(&path.display().to_string()), "{message}");
    }
}
