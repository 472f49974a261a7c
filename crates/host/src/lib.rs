//! Files that are there whole or not at all, that say whether they were changed, and that processes
//! share.
//!
//! [`write()`] writes under a temporary name in the same folder, syncs, and renames, so that a program
//! that is killed, or a disk that fills up, leaves the file as it was. What a killed program left
//! behind is removed by [`sweep`]. [`seal`] lets a JSON file tell whether a byte of it was changed, a
//! [`Lock`] is held by one process at a time.
//!
//! What is read may be anything: [`read_small`] bounds what is taken into memory, [`printable`] makes
//! text from elsewhere fit for a terminal.

mod read;
mod text;

mod lock;
mod seal;

pub use lock::{Lock, is_at};
pub use seal::{is_sealed, seal};

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use read::{read_own, read_small, refuse_link};
pub use text::{is_printable, printable, said, short, shortened, shown};

/// Temporary files start with this; those that a killed run left are removed by it.
const TEMPORARY: &str = ".tmp-";

/// Attempts at a write whose temporary file another process swept away.
const ATTEMPTS: usize = 3;

/// A file or folder that could not be read or written. The message is one line, `PATH: reason`.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", shown(path))]
pub struct FileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl FileError {
    /// An error at a path, for `map_err`.
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self { path, source }
    }
}

/// Writes a file: under a temporary name in the same folder, synced, then renamed. A link is followed;
/// a device or a pipe is refused, which the new file would take the place of.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("numbers.txt");
/// flatmin_host::write(&path, b"1 2 3")?;
/// assert_eq!(std::fs::read(&path)?, b"1 2 3");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`FileError`]; the file is then as it was before.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_if(path, bytes, || Ok(()))
}

/// As [`write()`], if `check` still passes when all but the renaming is done: for a folder that others may
/// move away and replace. A file that `check` finds to be in the right folder then gets its name there
/// or nowhere.
///
/// # Errors
/// What `check` says, or [`FileError`]; the file is then as it was before.
pub fn write_if<E: From<FileError>>(
    path: &Path,
    bytes: &[u8],
    check: impl Fn() -> Result<(), E>,
) -> Result<(), E> {
    let mut attempts = 1;
    loop {
        let error: io::Error = match prepared(path, bytes) {
            Ok((target, file)) => {
                check()?;
                match file.persist(target) {
                    Ok(_) => return Ok(()),
                    Err(error) => error.into(),
                }
            }
            Err(error) => error,
        };
        // Another process may have swept the temporary file away. Whether the folder is still the same is
        // checked every time.
        if error.kind() != io::ErrorKind::NotFound || attempts == ATTEMPTS {
            return Err(FileError::at(path)(error).into());
        }
        attempts += 1;
    }
}

/// All but the renaming.
fn prepared(path: &Path, bytes: &[u8]) -> io::Result<(PathBuf, tempfile::NamedTempFile)> {
    let (path, mut file) = replacement(path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok((path, file))
}

/// A temporary file beside the one that it is to replace, and the path of that one behind any links.
fn replacement(path: &Path) -> io::Result<(PathBuf, tempfile::NamedTempFile)> {
    let path = match fs::metadata(path) {
        Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => {
            let error = "is a device or a pipe, expected a file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        Ok(_) if path.is_symlink() => fs::canonicalize(path)?,
        _ => path.to_owned(),
    };
    let file = temporary(path.parent().unwrap_or(Path::new(".")))?;
    Ok((path, file))
}

fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // As readable as any other new file, not only by its owner: folders are shared between users.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let file = builder.tempfile_in(folder)?;
    // For `sweep`. Where there are no locks, or it was quicker, `write` tries again.
    let _ = file.as_file().try_lock();
    Ok(file)
}

/// Checks that a file can be written at this path, before long work whose result it is to be.
///
/// # Errors
/// [`FileError`] when not, or when the path is a folder, a device or a pipe.
pub fn check_writable(path: &Path) -> Result<(), FileError> {
    replacement(path).map(|_| ()).map_err(FileError::at(path))
}

/// Makes a folder, and checks that files can be written in it.
///
/// # Errors
/// [`FileError`] when it is not to be.
pub fn make_writable(folder: &Path) -> Result<(), FileError> {
    let probe = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = temporary(folder)?;
        file.write_all(b"flatmin\n")?;
        file.as_file().sync_all()
    };
    probe().map_err(FileError::at(folder))
}

/// Removes the temporary files and the files of locks that a killed run left. Those of processes that
/// run stay, where the file system has locks.
///
/// # Errors
/// [`FileError`] when the folder cannot be listed or a file not be removed.
pub fn sweep(folder: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(FileError::at(folder))? {
        let (path, name) = match entry {
            Ok(entry) => (entry.path(), entry.file_name()),
            Err(error) => return Err(FileError::at(folder)(error)),
        };
        let name = name.to_string_lossy();
        if name.starts_with(lock::LOCK) {
            // Removed when it is released again.
            drop(Lock::try_take_file(&path)?);
        } else if name.starts_with(TEMPORARY) && !is_being_written(&path) {
            match fs::remove_file(&path) {
                // Another process finished or swept it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(FileError::at(&path))?,
            }
        }
    }
    Ok(())
}

/// Whether a process that runs holds the lock of a temporary file.
fn is_being_written(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::{FileError, check_writable, make_writable, sweep, write, write_if};

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
    fn a_write_that_its_check_refuses_leaves_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_if(&path, b"first", || Ok::<(), FileError>(())).unwrap();
        let refuse = || Err(FileError::at(&path)(std::io::Error::other("not here")));
        assert!(write_if(&path, b"second", refuse).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
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
    fn sweeping_leaves_what_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = super::temporary(folder.path()).unwrap();
        sweep(folder.path()).unwrap();
        assert!(file.path().exists());
        // Its writer was killed: the system releases the lock.
        let (file, path) = file.keep().unwrap();
        drop(file);
        sweep(folder.path()).unwrap();
        assert!(!path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(&path("a.json"), b"first").unwrap();
        std::os::unix::fs::symlink("a.json", path("link.json")).unwrap();
        write(&path("link.json"), b"second").unwrap();
        assert!(path("link.json").is_symlink());
        assert_eq!(std::fs::read(path("a.json")).unwrap(), b"second");
        let socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert!(check_writable(&path("socket")).is_err());
        let message = write(&path("socket"), b"third").unwrap_err().to_string();
        assert!(message.ends_with("is a device or a pipe, expected a file"), "{message}");
        assert!(!path("socket").is_file());
        drop(socket);
    }

    #[test]
    fn a_failed_write_names_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none").join("a.json");
        let message = write(&path, b"x").unwrap_err().to_string();
        assert!(message.starts_with(&path.display().to_string()), "{message}");
    }
}
