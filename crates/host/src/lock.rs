//! Names that one process holds at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::FileError;

/// Names of lock files start with this. [`sweep`](crate::sweep) removes those of killed programs.
pub(crate) const LOCK: &str = ".lock-";

/// A name in a folder that one process, and one thread in it, holds at a time. It is an advisory
/// lock on the file `.lock-<name>`. The system releases the lock when its holder ends, however it
/// ends. The file is removed with the lock, or by [`sweep`](crate::sweep) if the holder was killed.
///
/// On a file system without locks everybody gets the name, see [`excludes`](Self::excludes).
///
/// ```
/// use flatmin_host::Lock;
///
/// let folder = tempfile::tempdir()?;
/// let held = Lock::try_take(folder.path(), "a")?.expect("nobody else knows this folder");
/// assert!(Lock::try_take(folder.path(), "a")?.is_none());
/// drop(held);
/// assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// The open file that keeps the lock.
    _file: File,
    excludes: bool,
}

/// The result of locking an open file.
enum Attempt {
    Taken(Lock),
    /// Another process holds the lock.
    Held,
    /// The last holder removed the file after it was opened here: a lock on it would exclude
    /// nobody.
    Removed,
}

impl Lock {
    /// Takes a name in a folder, or gives `None` while another process holds it.
    ///
    /// # Errors
    /// [`FileError`] when the lock file cannot be made.
    pub fn try_take(folder: &Path, name: &str) -> Result<Option<Self>, FileError> {
        Self::try_take_file(&folder.join(format!("{LOCK}{name}")))
    }

    /// Takes the lock of this file.
    pub(crate) fn try_take_file(path: &Path) -> Result<Option<Self>, FileError> {
        loop {
            let attempt = open(path).and_then(|file| Self::lock(file, path));
            match attempt.map_err(FileError::at(path))? {
                Attempt::Taken(lock) => return Ok(Some(lock)),
                Attempt::Held => return Ok(None),
                Attempt::Removed => {}
            }
        }
    }

    /// Locks a file that was opened at a path.
    fn lock(file: File, path: &Path) -> io::Result<Attempt> {
        let excludes = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Ok(Attempt::Held),
            Err(TryLockError::Error(_)) => false,
        };
        if excludes && !is_at(&file, path)? {
            return Ok(Attempt::Removed);
        }
        Ok(Attempt::Taken(Self { path: path.to_owned(), _file: file, excludes }))
    }

    /// True if nobody else can hold the name; false on a file system without locks.
    pub fn excludes(&self) -> bool {
        self.excludes
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file is removed while the lock is held, so that it is never the file of another
        // holder. Where it cannot be removed it stays, empty, and is taken again.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens a lock file: for writing, which network file systems need for a lock, or for reading if it
/// belongs to another user.
fn open(path: &Path) -> io::Result<File> {
    match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            File::open(path).map_err(|_| error)
        }
        opened => opened,
    }
}

/// True if an open file is still the one at a path, neither removed nor replaced. Always true on
/// systems that cannot tell.
///
/// # Errors
/// When the metadata of the file or of the path cannot be read.
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let there = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            there => there?,
        };
        let here = file.metadata()?;
        Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Attempt, Lock, is_at};
    use crate::sweep;

    #[test]
    fn one_of_many_holds_a_name_and_another_name_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // Taken, released and removed as fast as possible: two that hold it at once would be seen.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while turns.load(Ordering::SeqCst) < 2000 {
                        let Some(lock) = Lock::try_take(folder.path(), "a").unwrap() else {
                            std::thread::yield_now();
                            continue;
                        };
                        assert!(lock.excludes());
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
                        turns.fetch_add(1, Ordering::SeqCst);
                        (0..4).for_each(|_| std::thread::yield_now());
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        let held = Lock::try_take(folder.path(), "a").unwrap();
        assert!(held.is_some() && Lock::try_take(folder.path(), "b").unwrap().is_some());
        drop(held);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_its_holder_removed_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let held = Lock::try_take(folder.path(), "a").unwrap();
        // Another opens it, and comes to lock it when it is gone.
        let path = folder.path().join(".lock-a");
        let file = super::open(&path).unwrap();
        drop(held);
        assert!(matches!(Lock::lock(file, &path).unwrap(), Attempt::Removed));
    }

    #[test]
    fn sweeping_leaves_what_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let held = Lock::try_take(folder.path(), "a").unwrap();
        std::fs::write(folder.path().join(".lock-b"), "").unwrap();
        sweep(folder.path()).unwrap();
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert!(Lock::try_take(folder.path(), "a").unwrap().is_none());
        drop(held);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_replaced_is_not_there_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let file = std::fs::File::create(&path).unwrap();
        assert!(is_at(&file, &path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path).unwrap());
        std::fs::write(&path, "").unwrap();
        assert!(!is_at(&file, &path).unwrap());
    }
}
