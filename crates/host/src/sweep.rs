//! Removing what killed programs left behind.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use crate::FileError;
use crate::lock::{LOCK, Lock};
use crate::write::TEMPORARY;

/// Removes the temporary files and the lock files that killed programs left in a folder. Those of
/// running programs stay, where the file system has locks.
///
/// # Errors
/// [`FileError`] when the folder cannot be listed or a file cannot be removed.
pub fn sweep(folder: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(FileError::at(folder))? {
        let entry = entry.map_err(FileError::at(folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with(LOCK) {
            // Releasing the lock removes its file.
            drop(Lock::try_take_file(&path)?);
        } else if name.starts_with(TEMPORARY) && !is_being_written(&path) {
            match fs::remove_file(&path) {
                // Another process renamed it or swept it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(FileError::at(&path))?,
            }
        }
    }
    Ok(())
}

/// True while a running process holds the lock of a temporary file.
fn is_being_written(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::sweep;
    use crate::make_writable;
    use crate::write::temporary;

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
    fn sweeping_leaves_what_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = temporary(folder.path(), b"half").unwrap();
        sweep(folder.path()).unwrap();
        assert!(file.path().exists());
        // Its writer was killed: the system releases the lock.
        let (file, path) = file.keep().unwrap();
        drop(file);
        sweep(folder.path()).unwrap();
        assert!(!path.exists());
    }
}
