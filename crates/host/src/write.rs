//! Files that are there whole or not at all.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::{FileError, refuse_link};

/// Names of temporary files start with this. [`sweep`](crate::sweep) removes those of killed
/// programs.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// Attempts at a write whose temporary file another process swept away.
const MAX_ATTEMPTS: usize = 3;

/// Writes a file: under a temporary name in the same folder, synced, then renamed.
///
/// A link is followed. A device or a pipe is refused, because the new file would take its place.
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

/// Writes a file like [`write()`], but refuses a link in its place: for files that only flatmin
/// writes, in a folder that may have come from elsewhere.
///
/// # Errors
/// The errors of [`write()`], and one for a link.
pub fn write_own(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    refuse_link(path)?;
    write(path, bytes)
}

/// Writes a file like [`write()`], if `check` still passes just before the file is renamed.
///
/// This is for a folder that others may move away and replace: the file gets its name in the folder
/// that `check` accepts, or nowhere.
///
/// # Errors
/// The error of `check`, or [`FileError`]; the file is then as it was before.
pub fn write_if<E: From<FileError>>(
    path: &Path,
    bytes: &[u8],
    check: impl Fn() -> Result<(), E>,
) -> Result<(), E> {
    write_by(path, &|writer| writer.write_all(bytes), check)
}

/// Writes a file like [`write()`], by a function that may be called again after a failure: for
/// content that is too large to be held twice.
///
/// # Errors
/// The errors of [`write()`], and those of `fill`.
pub fn write_with(path: &Path, fill: Fill<'_>) -> Result<(), FileError> {
    write_by(path, fill, || Ok(()))
}

/// Writes the content of a file.
type Fill<'a> = &'a dyn Fn(&mut io::BufWriter<&mut fs::File>) -> io::Result<()>;

fn write_by<E: From<FileError>>(
    path: &Path,
    fill: Fill<'_>,
    check: impl Fn() -> Result<(), E>,
) -> Result<(), E> {
    let mut attempts = 1;
    loop {
        let error: io::Error = match replacement(path, fill) {
            Ok((target, file)) => {
                check()?;
                match file.persist(target) {
                    Ok(_) => return Ok(()),
                    Err(error) => error.into(),
                }
            }
            Err(error) => error,
        };
        // Another process may have swept the temporary file away. `check` runs again, since the
        // folder may have been replaced too.
        if error.kind() != io::ErrorKind::NotFound || attempts == MAX_ATTEMPTS {
            return Err(FileError::at(path)(error).into());
        }
        attempts += 1;
    }
}

/// The path of the file to replace, behind any links, and a temporary file beside it with this
/// content.
fn replacement(path: &Path, fill: Fill<'_>) -> io::Result<(PathBuf, tempfile::NamedTempFile)> {
    let path = match fs::metadata(path) {
        Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => {
            let error = "is a device or a pipe, expected a file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        Ok(_) if path.is_symlink() => fs::canonicalize(path)?,
        _ => path.to_owned(),
    };
    let file = temporary_by(path.parent().unwrap_or(Path::new(".")), fill)?;
    Ok((path, file))
}

/// A locked and synced temporary file in a folder, with these bytes.
pub(crate) fn temporary(folder: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    temporary_by(folder, &|writer| writer.write_all(bytes))
}

fn temporary_by(folder: &Path, fill: Fill<'_>) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // Folders are shared between users, so the file is as readable as any other new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut file = builder.tempfile_in(folder)?;
    // The lock tells `sweep` that the file is in use. If `sweep` was faster, or the file system has
    // no locks, `write_if` tries again.
    let _ = file.as_file().try_lock();
    let mut writer = io::BufWriter::new(file.as_file_mut());
    fill(&mut writer)?;
    writer.flush()?;
    drop(writer);
    file.as_file().sync_all()?;
    Ok(file)
}

/// Checks that a file can be written at this path, before the long work that produces its content.
///
/// # Errors
/// [`FileError`] when it cannot, or when the path is a folder, a device or a pipe.
pub fn check_writable(path: &Path) -> Result<(), FileError> {
    replacement(path, &|_| Ok(())).map(drop).map_err(FileError::at(path))
}

/// Makes a folder, and checks that files can be written in it.
///
/// # Errors
/// [`FileError`] when the folder cannot be made or a file in it cannot be written.
pub fn make_writable(folder: &Path) -> Result<(), FileError> {
    let file = fs::create_dir_all(folder).and_then(|()| temporary(folder, b"flatmin\n"));
    file.map(drop).map_err(FileError::at(folder))
}

#[cfg(test)]
mod tests {
    use super::{check_writable, write, write_if};
    use crate::FileError;

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
