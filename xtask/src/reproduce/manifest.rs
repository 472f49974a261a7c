//! The manifest: where, when and with what a reproduction ran. No result depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use flatmin_experiments::cell::CellSpec;
use flatmin_experiments::{Experiment, Settings};
use flatmin_host::{Machine, SealedFile, peak_memory_bytes, read_own, shown, utc_now};
use serde::{Deserialize, Serialize};

use super::run::Seconds;
use crate::build_info::{TOOLCHAIN, commit};
use crate::failure::Failure;
use crate::program::XTASK;

/// Largest manifest of an earlier run that is read, in bytes. That of the paper takes 57 kB.
const MAX_BYTES: u64 = 64 << 20;

/// `manifest.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) version: String,
    pub(crate) commit: Option<String>,
    pub(crate) command_line: String,
    pub(crate) profile: String,
    pub(crate) experiments: Vec<String>,
    pub(crate) seed: u64,
    pub(crate) seeds: u64,
    pub(crate) host: Machine,
    pub(crate) threads: usize,
    pub(crate) simd_path: String,
    pub(crate) toolchain: Option<String>,
    pub(crate) started: String,
    pub(crate) seconds: f64,
    pub(crate) cells_computed: usize,
    pub(crate) cells_reused: usize,
    /// Peak memory of this process, where the system says.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Seconds that each cell took, by its hash, of this run and of earlier ones in the folder.
    pub(crate) seconds_per_cell: BTreeMap<String, f64>,
}

impl SealedFile for Manifest {
    const SCHEMA: &'static str = "flatmin.manifest/1";
}

impl Manifest {
    /// The facts known at the start. Counts and times are filled in at the end.
    pub(crate) fn begin(settings: &Settings, threads: usize) -> Self {
        let host = Machine::this();
        let threads = if threads == 0 { host.cores } else { threads };
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            command_line: format!("cargo xtask {}", arguments.join(" ")),
            profile: settings.profile.name().to_owned(),
            seed: settings.seed,
            seeds: settings.seeds,
            host,
            threads,
            simd_path: flatmin_linalg::simd::instruction_set().to_owned(),
            toolchain: TOOLCHAIN.map(str::to_owned),
            started: utc_now(),
            ..Self::default()
        }
    }

    /// Records the cells of the outputs: those that this run computed in so many `seconds` each,
    /// and those that it reused, whose times are taken from the manifest of earlier runs at `path`.
    ///
    /// # Errors
    /// [`Failure::File`] when a manifest is there but cannot be read.
    pub(super) fn record(
        &mut self,
        experiments: &[&Experiment],
        cells: &[CellSpec],
        seconds: &Seconds,
        path: &Path,
    ) -> Result<(), Failure> {
        self.experiments = experiments.iter().map(|experiment| experiment.id.to_owned()).collect();
        self.cells_computed = seconds.len();
        self.cells_reused = cells.len() - seconds.len();
        self.seconds_per_cell = earlier_seconds(path, cells)?;
        let computed = seconds.iter().map(|(key, seconds)| (key.to_string(), *seconds));
        self.seconds_per_cell.extend(computed);
        self.peak_memory_bytes = peak_memory_bytes();
        Ok(())
    }
}

/// Seconds of those of `cells` that an earlier run computed, from its manifest. A manifest that was
/// changed is named and left out: that loses times, but no result.
///
/// # Errors
/// [`Failure::File`] when a manifest is there but cannot be read.
fn earlier_seconds(path: &Path, cells: &[CellSpec]) -> Result<BTreeMap<String, f64>, Failure> {
    let bytes = match read_own(path, MAX_BYTES, "a manifest") {
        Ok(bytes) => bytes,
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut seconds = match Manifest::open(&bytes) {
        Ok(manifest) => manifest.seconds_per_cell,
        Err(error) => {
            let path = shown(path);
            XTASK.warn(&format_args!("{path}: {error}; the times of earlier runs are left out"));
            return Ok(BTreeMap::new());
        }
    };
    let wanted: BTreeSet<String> = cells.iter().map(|cell| cell.key().to_string()).collect();
    seconds.retain(|key, _| wanted.contains(key));
    Ok(seconds)
}
