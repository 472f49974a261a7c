//! `cargo xtask golden`: whether a reproduction has the bytes that were written down.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use flatmin_host::shown;

use crate::exit;
use crate::failure::Failure;
use crate::{files, output};

/// Options of `golden`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder of a reproduction with `--profile smoke`.
    #[arg(long, value_name = "DIR", default_value = "target/smoke")]
    out: PathBuf,
    /// The digests: a line for each table and figure and for the claims.
    #[arg(long, value_name = "FILE", default_value = "xtask/golden/smoke.txt")]
    golden: PathBuf,
    /// Write the digests of this reproduction down, instead of comparing them.
    #[arg(long)]
    renew: bool,
}

/// Runs the task and gives the exit status.
///
/// # Errors
/// [`Failure`] when it could not be done.
pub(crate) fn golden(options: &Options) -> Result<u8, Failure> {
    let found = digests(&options.out)?;
    if options.renew {
        let mut text = String::new();
        for (name, digest) in &found {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{digest}  {name}");
        }
        files::write(&options.golden, text.as_bytes())?;
        return Ok(exit::DONE);
    }
    let path = &options.golden;
    let text = fs::read_to_string(path).map_err(Failure::file(path))?;
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    let expected: BTreeMap<String, String> =
        lines.map(|(digest, name)| (name.to_owned(), digest.to_owned())).collect();
    let names = expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name)));
    let differ: Vec<&String> =
        names.filter(|name| expected.get(*name) != found.get(*name)).collect();
    if differ.is_empty() {
        return Ok(exit::DONE);
    }
    for name in differ {
        let path = options.out.join(name);
        output::warn(&format_args!(
            "{}: not the bytes written down in {}",
            shown(&path),
            shown(&options.golden)
        ));
    }
    Ok(exit::FAILS)
}

/// The BLAKE3 digests of the tables, the figures and the claims of a reproduction, by name.
fn digests(out: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut digests = BTreeMap::new();
    let mut add = |name: String| -> Result<(), Failure> {
        let path = out.join(&name);
        let bytes = fs::read(&path).map_err(Failure::file(&path))?;
        digests.insert(name, blake3::hash(&bytes).to_hex().to_string());
        Ok(())
    };
    add("claims.json".to_owned())?;
    for folder in ["tables", "figures"] {
        let path = out.join(folder);
        let entries = fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.map_err(Failure::file(&path))? {
            add(format!("{folder}/{}", entry.file_name().to_string_lossy()))?;
        }
    }
    Ok(digests)
}
