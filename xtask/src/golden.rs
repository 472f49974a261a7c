//! `cargo xtask golden`: compares the outputs of a reproduction with recorded digests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use flatmin_host::{Exit, shown, write};

use crate::failure::Failure;
use crate::program::XTASK;

/// Arguments of `golden`.
#[derive(Debug, Args)]
pub(crate) struct GoldenArguments {
    /// The folder of a reproduction with `--profile smoke`.
    #[arg(long, value_name = "DIR", default_value = "target/smoke")]
    out: PathBuf,
    /// The recorded digests: a line for each table and figure, and one for the claims.
    #[arg(long, value_name = "FILE", default_value = "xtask/golden/smoke.txt")]
    golden: PathBuf,
    /// Record the digests of this reproduction instead of comparing them.
    #[arg(long)]
    renew: bool,
}

/// Runs the task and gives the exit status.
///
/// # Errors
/// [`Failure`] when it could not be done.
pub(crate) fn golden(arguments: &GoldenArguments) -> Result<Exit, Failure> {
    let (out, path) = (&arguments.out, &arguments.golden);
    let found = digests(out)?;
    if arguments.renew {
        let line = |(name, digest): (&String, &String)| format!("{digest}  {name}\n");
        write(path, found.iter().map(line).collect::<String>().as_bytes())?;
        return Ok(Exit::Done);
    }
    let text = fs::read_to_string(path).map_err(Failure::file(path))?;
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    let expected: BTreeMap<String, String> =
        lines.map(|(digest, name)| (name.to_owned(), digest.to_owned())).collect();
    let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let differ = names.into_iter().filter(|name| expected.get(*name) != found.get(*name));
    let differ: Vec<&String> = differ.collect();
    for name in &differ {
        let (name, path) = (shown(&out.join(name)), shown(path));
        XTASK.warn(&format_args!("{name}: not the bytes written down in {path}"));
    }
    Ok(Exit::of_check(differ.is_empty()))
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
