//! Hands the version of the compiler to the manifest of every reproduction.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok());
    if let Some(version) = version {
        println!("cargo::rustc-env=FLATMIN_RUSTC={}", version.trim());
    }
    println!("cargo::rerun-if-changed=build.rs");
}
