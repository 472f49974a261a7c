//! Reading files of unknown origin in bounded memory.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use crate::FileError;

/// The bytes of a regular file of at most `most` bytes. `expected` says in the error message what
/// the file should be. A link is followed, unlike in [`read_own`].
///
/// # Errors
/// [`FileError`] when there is no such file, when it cannot be read, when it is a folder, a device
/// or a pipe, and when it is longer. At most `most + 1` bytes are read.
pub fn read_small(path: &Path, most: u64, expected: &str) -> Result<Vec<u8>, FileError> {
    let at = |error| FileError::at(path)(error);
    let invalid = |reason: String| Err(FileError::content(path, reason));
    // Checked before opening, because opening a pipe waits for its other end.
    let metadata = fs::metadata(path).map_err(at)?;
    if metadata.is_dir() {
        return invalid(format!("is a folder, expected {expected}"));
    }
    if !metadata.is_file() {
        return invalid(format!("is a device or a pipe, expected {expected}"));
    }
    let mut bytes = Vec::new();
    // The length in the metadata is not enough: files of the system have none, and any file may
    // grow.
    let file = File::open(path).map_err(at)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(at)?;
    if bytes.len() as u64 > most {
        return invalid(format!("has more than {most} bytes, too many for {expected}"));
    }
    Ok(bytes)
}

/// Reads a file like [`read_small`], but refuses a link: for files that only flatmin writes, in a
/// folder that may have come from elsewhere.
///
/// # Errors
/// The errors of [`read_small`], and one for a link.
pub fn read_own(path: &Path, most: u64, expected: &str) -> Result<Vec<u8>, FileError> {
    refuse_link(path)?;
    read_small(path, most, expected)
}

/// Refuses a path that is a link, since it may lead out of its folder.
///
/// # Errors
/// [`FileError`] when the path is a link.
pub fn refuse_link(path: &Path) -> Result<(), FileError> {
    if path.is_symlink() {
        return Err(FileError::content(path, "is a link, expected a file of its own: remove it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{read_own, read_small};

    #[test]
    fn no_more_is_read_than_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_small(&path, 5, "five bytes").unwrap(), b"12345");
        let message = read_small(&path, 4, "four bytes").unwrap_err().to_string();
        assert!(message.ends_with(": has more than 4 bytes, too many for four bytes"), "{message}");
        let message = read_small(folder.path(), 4, "a file").unwrap_err().to_string();
        assert!(message.ends_with(": is a folder, expected a file"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_only_where_a_user_named_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("secret"), b"secret").unwrap();
        std::os::unix::fs::symlink("secret", path("link")).unwrap();
        assert_eq!(read_small(&path("link"), 9, "a file").unwrap(), b"secret");
        let message = read_own(&path("link"), 9, "a file").unwrap_err().to_string();
        assert!(
            message.ends_with(": is a link, expected a file of its own: remove it"),
            "{message}"
        );
        assert!(read_own(&path("none"), 9, "a file").is_err());
        let device = read_small("/dev/zero".as_ref(), 9, "a file").unwrap_err().to_string();
        assert_eq!(device, "/dev/zero: is a device or a pipe, expected a file");
    }
}
