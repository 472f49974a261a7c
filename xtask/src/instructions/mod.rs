//! `cargo xtask instructions`: whether the hottest kernels take as many instructions as were written down.
//!
//! Each kernel runs in a process of its own under callgrind, which counts the instructions of one function and
//! what it calls. The process takes AVX2, the widest instruction set that Valgrind knows, and Valgrind shows every
//! program the same processor, so that neither this machine nor what else it does enters the count.

mod kernels;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use flatmin_host::shown;
use flatmin_linalg::simd::{self, InstructionSet};
use serde::{Deserialize, Serialize};

use self::kernels::{COUNTED, KERNELS, Kernel, find};
use crate::bench::PROFILE;
use crate::exit;
use crate::failure::Failure;
use crate::manifest::TOOLCHAIN;
use crate::process::last_line;
use crate::{files, output};

/// A count may be off by so many per cent of the one that was written down.
const MARGIN: u64 = 3;

const SCHEMA: &str = "flatmin.instructions/1";

/// How counts that are another on purpose are accepted.
const REMEDY: &str =
    "if this is meant, `cargo xtask instructions --renew` writes the counts down anew";

/// Options of `instructions`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these kernels.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = parse_name)]
    only: Vec<&'static Kernel>,
    /// The counts.
    #[arg(long, value_name = "FILE", default_value = "xtask/golden/instructions.json")]
    golden: PathBuf,
    /// Write the counts of this build down, instead of comparing them.
    #[arg(long, conflicts_with = "only")]
    renew: bool,
    /// Run a kernel, as it is done under callgrind.
    #[arg(long, value_name = "NAME", hide = true, value_parser = parse_name)]
    run: Option<&'static Kernel>,
}

fn parse_name(name: &str) -> Result<&'static Kernel, String> {
    find(name).ok_or_else(|| {
        let names: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
        format!("the kernels are {}", names.join(", "))
    })
}

/// `instructions.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Counts {
    schema: String,
    /// Of the build: other settings make other instructions.
    profile: String,
    toolchain: Option<String>,
    /// Instructions by kernel.
    kernels: BTreeMap<String, u64>,
}

/// Runs the task and gives the exit status.
///
/// # Errors
/// [`Failure`] when it could not be done.
pub(crate) fn instructions(options: &Options) -> Result<u8, Failure> {
    if let Some(kernel) = options.run {
        (kernel.run)();
        return Ok(exit::DONE);
    }
    let stored = if options.renew { None } else { Some(read(&options.golden)?) };
    let is_chosen = |kernel: &&Kernel| {
        options.only.is_empty() || options.only.iter().any(|named| named.name == kernel.name)
    };
    let mut kernels = BTreeMap::new();
    for kernel in KERNELS.iter().filter(is_chosen) {
        kernels.insert(kernel.name.to_owned(), count(kernel)?);
    }
    let measured = Counts {
        schema: SCHEMA.to_owned(),
        profile: PROFILE.to_owned(),
        toolchain: TOOLCHAIN.map(str::to_owned),
        kernels,
    };
    output::print(&table(stored.as_ref(), &measured));
    let Some(mut stored) = stored else {
        let json = files::json(&options.golden, &measured)?;
        files::write(&options.golden, json.as_bytes())?;
        return Ok(exit::DONE);
    };
    if !options.only.is_empty() {
        stored.kernels.retain(|name, _| measured.kernels.contains_key(name));
    }
    let complaints = compare(&stored, &measured);
    for complaint in &complaints {
        output::warn(complaint);
    }
    if complaints.is_empty() {
        return Ok(exit::DONE);
    }
    if stored.toolchain != measured.toolchain {
        let name = |toolchain: &Option<String>| {
            toolchain.clone().unwrap_or_else(|| "an unknown compiler".to_owned())
        };
        output::warn(&format_args!(
            "the counts in {} are of {}, these of {}",
            shown(&options.golden),
            name(&stored.toolchain),
            name(&measured.toolchain)
        ));
    }
    output::warn(&REMEDY);
    Ok(exit::FAILS)
}

/// The counts that were written down, of this kind of build.
fn read(path: &Path) -> Result<Counts, Failure> {
    let bytes = fs::read(path).map_err(Failure::file(path))?;
    let counts: Counts =
        serde_json::from_slice(&bytes).map_err(|error| Failure::file(path)(error.into()))?;
    if counts.schema != SCHEMA || counts.profile != PROFILE {
        return Err(Failure::Instructions(format!(
            "{}: {} of profile {}, not {SCHEMA} of profile {PROFILE}, cannot be compared",
            shown(path),
            counts.schema,
            counts.profile
        )));
    }
    Ok(counts)
}

/// The instructions of a kernel.
fn count(kernel: &Kernel) -> Result<u64, Failure> {
    let program = std::env::current_exe().map_err(Failure::file(Path::new("xtask")))?;
    let folder = tempfile::tempdir().map_err(Failure::file(&std::env::temp_dir()))?;
    let path = folder.path().join("callgrind.out");
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet", "--vgdb=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", path.display()))
        .arg(program)
        .args(["instructions", "--run", kernel.name])
        // Where variables lie on the stack depends on the environment, and what the C library does on that.
        .env_clear()
        .envs(["PATH", "VALGRIND_LIB"].into_iter().filter_map(kept))
        .env(simd::VARIABLE, InstructionSet::Avx2.name());
    let output = command.output().map_err(|source| match source.kind() {
        ErrorKind::NotFound => Failure::Valgrind(source),
        _ => Failure::file(Path::new("valgrind"))(source),
    })?;
    if !output.status.success() {
        let line = last_line(&output);
        return Err(Failure::Instructions(format!("{} under valgrind: {line}", kernel.name)));
    }
    let profile = fs::read_to_string(&path).map_err(Failure::file(&path))?;
    total(&profile).filter(|total| *total > 0).ok_or_else(|| {
        Failure::Instructions(format!("{}: callgrind did not find what to count", kernel.name))
    })
}

/// A variable of this process and its value, where it is set.
fn kept(name: &str) -> Option<(&str, OsString)> {
    std::env::var_os(name).map(|value| (name, value))
}

/// The total of a profile of callgrind whose only event is an instruction read.
fn total(profile: &str) -> Option<u64> {
    let of = |key: &str| profile.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    if of("events:")? != "Ir" {
        return None;
    }
    of("totals:")?.parse().ok()
}

/// What is wrong, kernel by kernel. A count that fell is written down too, lest it rise again unseen.
fn compare(stored: &Counts, measured: &Counts) -> Vec<String> {
    let names = stored.kernels.keys();
    let names = names.chain(measured.kernels.keys().filter(|n| !stored.kernels.contains_key(*n)));
    let complaint = |name: &String| match (stored.kernels.get(name), measured.kernels.get(name)) {
        (Some(&stored), Some(&measured)) => {
            let difference = measured.abs_diff(stored);
            (difference.saturating_mul(100) > MARGIN.saturating_mul(stored)).then(|| {
                let percent = 100.0 * difference as f64 / stored as f64;
                let word = if measured < stored { "fewer" } else { "more" };
                format!(
                    "{name}: {measured} instructions, {percent:.1} % {word} than the {stored} that \
                     are written down; {MARGIN} % are allowed"
                )
            })
        }
        (None, _) => Some(format!("{name}: no count is written down")),
        (Some(_), None) => {
            Some(format!("{name}: a count is written down, but there is no such kernel"))
        }
    };
    names.filter_map(complaint).collect()
}

/// The table on standard output.
fn table(stored: Option<&Counts>, measured: &Counts) -> String {
    let mut text = String::new();
    for Kernel { name, work, .. } in KERNELS {
        let Some(&count) = measured.kernels.get(*name) else { continue };
        let stored = stored.and_then(|stored| stored.kernels.get(*name));
        let change = stored.map_or_else(String::new, |&stored| {
            format!("{:+.2} %", 100.0 * (count as f64 / stored as f64 - 1.0))
        });
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<22}  {work:<40}  {count:>11}  {change:>9}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Counts, PROFILE, SCHEMA, compare, read, total};
    use crate::files;

    fn counts(kernels: &[(&str, u64)]) -> Counts {
        let kernels = kernels.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let (schema, profile) = (SCHEMA.to_owned(), PROFILE.to_owned());
        Counts { schema, profile, toolchain: None, kernels }
    }

    #[test]
    fn a_count_off_by_more_than_the_margin_is_named() {
        let check = |measured: u64, expected: &[&str]| {
            let stored = counts(&[("other", 5), ("product", 10_000)]);
            let found = compare(&stored, &counts(&[("other", 5), ("product", measured)]));
            assert_eq!(found, expected);
        };
        for measured in [9700, 10_000, 10_300] {
            check(measured, &[]);
        }
        let end = "than the 10000 that are written down; 3 % are allowed";
        check(10_301, &[&format!("product: 10301 instructions, 3.0 % more {end}")]);
        check(20_000, &[&format!("product: 20000 instructions, 100.0 % more {end}")]);
        check(9699, &[&format!("product: 9699 instructions, 3.0 % fewer {end}")]);
    }

    #[test]
    fn kernels_that_come_and_go_are_named() {
        let (one, both) = (counts(&[("a", 1)]), counts(&[("a", 1), ("b", 1)]));
        assert_eq!(compare(&one, &both), ["b: no count is written down"]);
        assert!(compare(&both, &one)[0].starts_with("b: a count is written down, but"));
    }

    #[test]
    fn what_is_written_down_is_read_and_only_of_the_same_build() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("instructions.json");
        let mut written = counts(&[("a", 123)]);
        for (profile, is_read) in [(PROFILE, true), ("another", false)] {
            profile.clone_into(&mut written.profile);
            files::write(&path, files::json(&path, &written).unwrap().as_bytes()).unwrap();
            assert_eq!(read(&path).ok(), is_read.then(|| written.clone()));
        }
    }

    #[test]
    fn the_total_of_a_profile_is_found() {
        let profile = "version: 1\nevents: Ir\nsummary: 41\n\nfn=(1) f\n1 41\n\ntotals: 42\n";
        assert_eq!(total(profile), Some(42));
        assert_eq!(total(&profile.replace("events: Ir", "events: Ir Dr")), None);
    }
}
