//! The manifest: where, when and with what a reproduction ran. Nothing in it is an input.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use flatmin_experiments::Settings;
use serde::Serialize;
use std::collections::BTreeMap;

/// The machine.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    /// Model of the processor.
    pub(crate) cpu: Option<String>,
    /// Threads that can run at once.
    pub(crate) cores: usize,
    /// Operating system and architecture.
    pub(crate) system: String,
}

impl Host {
    /// The machine this runs on.
    pub(crate) fn this() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
        Self { cpu: cpu(), cores, system }
    }
}

/// The compiler that built this.
pub(crate) const TOOLCHAIN: Option<&str> = option_env!("FLATMIN_RUSTC");

/// `manifest.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Manifest {
    pub(crate) schema: &'static str,
    pub(crate) version: &'static str,
    pub(crate) commit: Option<String>,
    pub(crate) command_line: String,
    pub(crate) profile: &'static str,
    pub(crate) experiments: Vec<&'static str>,
    pub(crate) seed: u64,
    pub(crate) seeds: u64,
    pub(crate) host: Host,
    pub(crate) threads: usize,
    pub(crate) simd_path: &'static str,
    pub(crate) toolchain: Option<&'static str>,
    pub(crate) started: String,
    pub(crate) seconds: f64,
    pub(crate) cells_computed: usize,
    pub(crate) cells_reused: usize,
    /// Largest memory of this process so far, where the system says.
    pub(crate) peak_memory_bytes: Option<u64>,
    pub(crate) seconds_per_cell: BTreeMap<String, f64>,
}

impl Manifest {
    /// The facts known at the start; counts and times are filled in at the end.
    pub(crate) fn begin(
        settings: &Settings,
        experiments: Vec<&'static str>,
        threads: usize,
    ) -> Self {
        let host = Host::this();
        let threads = if threads == 0 { host.cores } else { threads };
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Self {
            schema: "flatmin.manifest/1",
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            command_line: format!("cargo xtask {}", arguments.join(" ")),
            profile: settings.profile.id(),
            experiments,
            seed: settings.seed,
            seeds: settings.seeds,
            host,
            threads,
            simd_path: flatmin_linalg::simd::instruction_set(),
            toolchain: TOOLCHAIN,
            started: now(),
            seconds: 0.0,
            cells_computed: 0,
            cells_reused: 0,
            peak_memory_bytes: None,
            seconds_per_cell: BTreeMap::new(),
        }
    }
}

/// Largest memory of this process so far in bytes, where the system says.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

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

fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the manifest says when; no result depends on it")]
pub(crate) fn now() -> String {
    utc(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Seconds since 1970 as `2024-02-29T12:00:00Z`.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, so that a leap day ends its year (Hinnant's civil_from_days).
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
