//! The commit, the compiler and the profile that this program was built from and with.

use std::process::Command;

/// The compiler.
pub(crate) const TOOLCHAIN: Option<&str> = option_env!("FLATMIN_RUSTC");

/// The profile of cargo.
pub(crate) const PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

/// The commit that is checked out here, with `+changes` when files differ from it.
pub(crate) fn commit() -> Option<String> {
    let git = |arguments: &[&str]| -> Option<String> {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let head = git(&["rev-parse", "--verify", "HEAD"])?;
    let clean = git(&["status", "--porcelain"])?.is_empty();
    Some(if clean { head } else { format!("{head}+changes") })
}
