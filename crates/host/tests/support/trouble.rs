//! Causes of trouble for tests of several packages: small disks, file systems without locks,
//! changed bytes. The tests include this file by its path.

#![allow(dead_code, reason = "each test uses some of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::{Rng, RngExt as _};

/// A file system in memory. It is unmounted when the value is dropped, also after a failed test.
pub(crate) struct Mounted(tempfile::TempDir);

impl Mounted {
    /// A file system of `size` KiB, or `None` where it cannot be mounted.
    pub(crate) fn new(size: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}k"), "tmpfs"]).arg(folder.path());
        if mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        note("skipped: a file system cannot be mounted here");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Mounts it again with other options.
    pub(crate) fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(self.path());
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// A library that makes locks fail in a program that is started with it in `LD_PRELOAD`, like a
/// file system without locks.
#[cfg(target_os = "linux")]
pub(crate) fn without_locks(folder: &Path) -> PathBuf {
    let code = "#include <errno.h>\nint flock(int f, int o) { errno = ENOSYS; return -1; }\n";
    library(folder, code)
}

/// A library with which every lock waits until the file named by the variable `GO` exists.
#[cfg(target_os = "linux")]
pub(crate) fn late_locks(folder: &Path) -> PathBuf {
    let code = "#define _GNU_SOURCE\n#include <stdlib.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
                int flock(int f, int o) {\n\
                while (access(getenv(\"GO\"), F_OK)) usleep(1000);\n\
                return syscall(SYS_flock, f, o);\n}\n";
    library(folder, code)
}

#[cfg(target_os = "linux")]
fn library(folder: &Path, code: &str) -> PathBuf {
    let (source, library) = (folder.join("locks.c"), folder.join("locks.so"));
    fs::write(&source, code).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().unwrap().success(), "Rust itself links with cc");
    library
}

/// Changes a byte of a file at random. Gives its position.
pub(crate) fn change_a_byte(path: &Path, rng: &mut impl Rng) -> usize {
    let mut bytes = fs::read(path).unwrap();
    let position = rng.random_range(0..bytes.len());
    bytes[position] ^= rng.random_range(1..=255u8);
    fs::write(path, bytes).unwrap();
    position
}

/// A random time of at most `most` seconds.
pub(crate) fn delay(most: f64, rng: &mut impl Rng) -> Duration {
    Duration::from_secs_f64(rng.random_range(0.0..most))
}

/// Waits for a time that may be shorter than the shortest sleep of the system.
pub(crate) fn spin(time: Duration) {
    let start = std::time::Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Prints a line, shown with `--nocapture`.
#[expect(clippy::print_stderr, reason = "tests say what they skip and count")]
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}
