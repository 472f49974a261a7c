//! `cargo xtask instructions`: compares the instruction counts of the hottest kernels with recorded
//! ones.
//!
//! Each kernel runs in a process of its own under callgrind, which counts the instructions of one
//! function and of what it calls. The process uses AVX2, the widest instruction set that Valgrind
//! knows, and Valgrind shows every program the same processor, so that the machine and its load do
//! not matter.

mod kernels;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use flatmin_host::{Exit, print, shown, to_json, write};
use flatmin_linalg::simd::{self, InstructionSet};
use serde::{Deserialize, Serialize};

use self::kernels::{COUNTED, KERNELS, Kernel, NAMES};
use crate::build_info::{PROFILE, TOOLCHAIN};
use crate::failure::Failure;
use crate::process::{installed, last_line, read_json};
use crate::program::XTASK;

/// A count may differ from the recorded one by this many per cent.
const MARGIN: u64 = 3;

const SCHEMA: &str = "flatmin.instructions/1";

/// The way to accept a change of counts.
const REMEDY: &str =
    "if this is meant, `cargo xtask instructions --renew` writes the counts down anew";

/// Arguments of `instructions`.
#[derive(Debug, Args)]
pub(crate) struct InstructionsArguments {
    /// Only these kernels.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = |name: &str| NAMES.find(name))]
    only: Vec<&'static Kernel>,
    /// The recorded counts.
    #[arg(long, value_name = "FILE", default_value = "xtask/golden/instructions.json")]
    golden: PathBuf,
    /// Record the counts of this build instead of comparing them.
    #[arg(long, conflicts_with = "only")]
    renew: bool,
    /// Run this kernel once. The task runs itself this way under callgrind.
    #[arg(long, value_name = "NAME", hide = true, value_parser = |name: &str| NAMES.find(name))]
    run: Option<&'static Kernel>,
}

/// `instructions.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Counts {
    schema: String,
    /// The profile of the build: counts of another profile do not compare.
    profile: String,
    toolchain: Option<String>,
    /// Instructions by kernel.
    kernels: BTreeMap<String, u64>,
}

/// Runs the task and gives the exit status.
///
/// # Errors
/// [`Failure`] when it could not be done.
pub(crate) fn instructions(arguments: &InstructionsArguments) -> Result<Exit, Failure> {
    if let Some(kernel) = arguments.run {
        (kernel.run)();
        return Ok(Exit::Done);
    }
    let stored = if arguments.renew { None } else { Some(read(&arguments.golden)?) };
    let kernels = NAMES.select(&arguments.only, |_| true).into_iter();
    let kernels = kernels.map(|kernel| Ok((kernel.name.to_owned(), count(kernel)?)));
    let measured = Counts {
        schema: SCHEMA.to_owned(),
        profile: PROFILE.to_owned(),
        toolchain: TOOLCHAIN.map(str::to_owned),
        kernels: kernels.collect::<Result<_, Failure>>()?,
    };
    print(&table(stored.as_ref(), &measured))?;
    let Some(mut stored) = stored else {
        let json = to_json(&arguments.golden, &measured)?;
        write(&arguments.golden, json.as_bytes())?;
        return Ok(Exit::Done);
    };
    if !arguments.only.is_empty() {
        stored.kernels.retain(|name, _| measured.kernels.contains_key(name));
    }
    Ok(Exit::of_check(is_accepted(&stored, &measured, &arguments.golden)))
}

/// Compares the counts and says what is wrong with them. True if nothing is.
fn is_accepted(stored: &Counts, measured: &Counts, golden: &Path) -> bool {
    let complaints = compare(stored, measured);
    for complaint in &complaints {
        XTASK.warn(complaint);
    }
    if complaints.is_empty() {
        return true;
    }
    if stored.toolchain != measured.toolchain {
        let name = |counts: &Counts| {
            counts.toolchain.clone().unwrap_or_else(|| "an unknown compiler".to_owned())
        };
        let (golden, stored, measured) = (shown(golden), name(stored), name(measured));
        XTASK.warn(&format_args!("the counts in {golden} are of {stored}, these of {measured}"));
    }
    XTASK.warn(&REMEDY);
    false
}

/// The recorded counts, refused if they are of another kind of build.
fn read(path: &Path) -> Result<Counts, Failure> {
    let counts: Counts = read_json(path)?;
    if counts.schema != SCHEMA || counts.profile != PROFILE {
        return Err(Failure::Program(format!(
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
        // The environment moves the stack, and the C library takes other instructions for another
        // alignment.
        .env_clear()
        .envs(["PATH", "VALGRIND_LIB"].into_iter().filter_map(kept))
        .env(simd::VARIABLE, InstructionSet::Avx2.name());
    let remedy = "install it, on Debian with `apt-get install valgrind`";
    let output = installed(&mut command, remedy)?;
    if !output.status.success() {
        let line = last_line(&output);
        return Err(Failure::Program(format!("{} under valgrind: {line}", kernel.name)));
    }
    let profile = fs::read_to_string(&path).map_err(Failure::file(&path))?;
    total(&profile).filter(|total| *total > 0).ok_or_else(|| {
        Failure::Program(format!("{}: callgrind did not find what to count", kernel.name))
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

/// One line for each kernel whose count differs by more than the margin. A count that fell is named
/// too: it must be recorded, or it could rise again unseen.
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
    use flatmin_host::{to_json, write};

    use super::{Counts, PROFILE, SCHEMA, compare, read, total};

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
            write(&path, to_json(&path, &written).unwrap().as_bytes()).unwrap();
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
