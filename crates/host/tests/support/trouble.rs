//! Trouble that tests of several packages make: small disks, file systems without locks, changed bytes.
//! They take this file by its path.

#![allow(dead_code, reason = "each test uses some of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rand::{Rng, RngExt as _};

/// A file system in memory, unmounted at the end, also of a failed test.
pub(crate) struct Mounted(tempfile::TempDir);

impl Mounted {
    /// Of so many KiB; nothing where it cannot be mounted.
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

    /// With other options.
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

/// A library that takes locks away from a program that is started with it in `LD_PRELOAD`, as a file
/// system does that has none.
#[cfg(target_os = "linux")]
pub(crate) fn without_locks(folder: &Path) -> PathBuf {
    let code = "#include <errno.h>\nint flock(int f, int o) { errno = ENOSYS; return -1; }\n";
    library(folder, code)
}

/// The same, where every lock waits until the file exists that `GO` names.
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

/// Changes a byte of a file at random, and says which.
pub(crate) fn change_a_byte(path: &Path, rng: &mut impl Rng) -> usize {
    let mut bytes = fs::read(path).unwrap();
    let position = rng.random_range(0..bytes.len());
    bytes[position] ^= rng.random_range(1..=255u8);
    fs::write(path, bytes).unwrap();
    position
}

/// A random time up to so many seconds.
pub(crate) fn delay(most: f64, rng: &mut impl Rng) -> Duration {
    Duration::from_secs_f64(rng.random_range(0.0..most))
}

/// Passes a time, shorter than the system would let one sleep.
pub(crate) fn spin(time: Duration) {
    let start = std::time::Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Shown with `--nocapture`.
#[expect(clippy::print_stderr, reason = "tests say what they skip and count")]
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}
