//! Building and timing flatmin: kernels by criterion, programs as processes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use flatmin_host::Exit;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempDir;

use super::definitions::{Bench, How, LIMITS, Limit, PEAK};
use crate::build_info::PROFILE;
use crate::failure::Failure;
use crate::process::{failed, output, read_json, stdout};

/// Time and memory of work that was repeated, or of one run of a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Median time of a run, a step or a call.
    pub(crate) seconds: f64,
    pub(crate) minimum: f64,
    /// Peak memory of the process, if there is one and it tells.
    pub(crate) memory_bytes: Option<u64>,
    /// Peak memory of the process before the work was prepared, for a point of a curve.
    pub(crate) idle_bytes: Option<u64>,
    /// Products with the operator, for a threshold.
    #[serde(skip)]
    pub(crate) products: Option<f64>,
}

impl Measured {
    fn once(seconds: f64, memory_bytes: Option<u64>) -> Self {
        Self { seconds, minimum: seconds, memory_bytes, ..Self::default() }
    }
}

/// Median and minimum of at least one number, none of them NaN.
pub(crate) fn median_and_minimum(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    (f64::midpoint(values[(count - 1) / 2], values[count / 2]), values[0])
}

/// The built programs, and the rates of the processor measured so far.
#[derive(Debug)]
pub(crate) struct Measurements {
    executables: BTreeMap<String, PathBuf>,
    is_quick: bool,
    /// The folder that criterion writes to, without results of earlier runs.
    criterion: TempDir,
    /// The measured rates of the processor: seconds per element, by id.
    pub(crate) limits: BTreeMap<&'static str, Measured>,
}

impl Measurements {
    /// Builds what the benchmarks need.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be built.
    pub(crate) fn new(benches: &[&'static Bench], is_quick: bool) -> Result<Self, Failure> {
        let mut targets: Vec<[&str; 2]> = Vec::new();
        for bench in benches {
            targets.extend(match &bench.how {
                How::Criterion { target, .. } => Some(["--bench", target]),
                How::Threshold { .. } => Some(["--example", "threshold_growth"]),
                How::Reproduce { .. } => None,
                How::StartUp => Some(["--bin", "flatmin"]),
            });
            targets.extend(bench.limit.as_ref().map(|_| ["--bench", LIMITS]));
        }
        targets.sort_unstable();
        targets.dedup();
        let criterion = tempfile::tempdir().map_err(Failure::file(&std::env::temp_dir()))?;
        let executables = if targets.is_empty() { BTreeMap::new() } else { build(&targets)? };
        Ok(Self { executables, is_quick, criterion, limits: BTreeMap::new() })
    }

    /// Times a benchmark.
    ///
    /// # Errors
    /// [`Failure`] when it does not run.
    pub(crate) fn measure(&self, bench: &Bench) -> Result<Measured, Failure> {
        let runs = |count: usize| if self.is_quick { 1 } else { count };
        match &bench.how {
            How::Criterion { target, id } => Ok(self.criterion(target, &[id])?[id]),
            How::Threshold { samples, batch_size } => {
                let program = self.executable("threshold_growth")?;
                let count = if bench.is_long() { 1 } else { 5 };
                several(runs(count), || {
                    let mut command = Command::new(program);
                    command.args(["exact", samples, batch_size]);
                    let text = stdout(&mut command)?;
                    parse_threshold(&text).ok_or_else(|| {
                        let program = program.display();
                        Failure::Program(format!("{program}: not understood: {text:?}"))
                    })
                })
            }
            How::Reproduce { profile, threads } => {
                let program = std::env::current_exe().map_err(Failure::file(Path::new("xtask")))?;
                // The paper takes minutes.
                let count = if bench.is_long() { 1 } else { 3 };
                several(runs(count), || Ok(time_reproduction(&program, profile, None, threads)?.0))
            }
            How::StartUp => {
                let program = self.executable("flatmin")?;
                several(runs(50), || {
                    let start = Instant::now();
                    stdout(Command::new(program).arg("--version"))?;
                    Ok(Measured::once(start.elapsed().as_secs_f64(), None))
                })
            }
        }
    }

    /// The least time that a benchmark could take.
    ///
    /// # Errors
    /// [`Failure`] when the limits cannot be measured.
    pub(crate) fn limit(&mut self, limit: &Limit, measured: &Measured) -> Result<f64, Failure> {
        let ids = limit.terms.iter().flat_map(|term| term.fastest_of.iter().copied());
        let ids = ids.chain([PEAK]).filter(|id| !self.limits.contains_key(id));
        let ids: Vec<&'static str> = ids.collect();
        if !ids.is_empty() {
            let found = self.criterion(LIMITS, &ids)?;
            self.limits.extend(found);
        }
        let seconds: f64 = limit
            .terms
            .iter()
            .map(|term| {
                let ways = term.fastest_of.iter().map(|id| self.limits[id].seconds);
                term.elements * ways.fold(f64::INFINITY, f64::min)
            })
            .sum();
        if !limit.is_per_product {
            return Ok(seconds);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(seconds * measured.products.unwrap_or(f64::NAN) / cores as f64)
    }

    fn executable(&self, name: &str) -> Result<&Path, Failure> {
        let found = self.executables.get(name).map(PathBuf::as_path);
        found.ok_or_else(|| Failure::Program(format!("cargo built no {name}")))
    }

    /// Runs benchmarks of a target. Times are per element, or per iteration where the benchmark
    /// does not state its number of elements.
    fn criterion(
        &self,
        target: &str,
        ids: &[&'static str],
    ) -> Result<BTreeMap<&'static str, Measured>, Failure> {
        let (warm_up, time, samples) =
            if self.is_quick { ("0.01", "0.02", "10") } else { ("1", "3", "50") };
        let mut command = Command::new(self.executable(target)?);
        command
            .args(["--bench", "--noplot", "--quiet", "--sample-size", samples])
            .args(["--warm-up-time", warm_up, "--measurement-time", time])
            // The results of resampling are not used.
            .args(["--nresamples", "2000"])
            .arg(format!("^({})$", ids.join("|")))
            .env("CRITERION_HOME", self.criterion.path());
        stdout(&mut command)?;
        let mut found = BTreeMap::new();
        read(self.criterion.path(), &mut found)?;
        let of_id = |id: &&'static str| match found.get(*id) {
            Some(measured) => Ok((*id, *measured)),
            None => {
                Err(Failure::Program(format!("the bench target {target} has no benchmark {id}")))
            }
        };
        ids.iter().map(of_id).collect()
    }
}

/// Parses the output of `threshold_growth`: seconds, bytes (`NaN` where the system does not tell),
/// width, products.
fn parse_threshold(text: &str) -> Option<Measured> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [seconds, memory, _width, products] = words[..] else { return None };
    let products = Some(products.parse().ok()?);
    Some(Measured { products, ..Measured::once(seconds.parse().ok()?, memory.parse().ok()) })
}

/// Repeats a run. Keeps the peak of the memory and the products of the last run.
fn several(
    count: usize,
    run: impl FnMut() -> Result<Measured, Failure>,
) -> Result<Measured, Failure> {
    let runs = std::iter::repeat_with(run).take(count).collect::<Result<Vec<_>, Failure>>()?;
    let (seconds, minimum) = median_and_minimum(runs.iter().map(|run| run.seconds).collect());
    let memory_bytes = runs.iter().filter_map(|run| run.memory_bytes).max();
    let products = runs.last().and_then(|run| run.products);
    Ok(Measured { seconds, minimum, memory_bytes, products, idle_bytes: None })
}

/// Runs a reproduction into a fresh folder. Also gives its number of cells.
///
/// # Errors
/// [`Failure`] when it does not run.
pub(crate) fn time_reproduction(
    program: &Path,
    profile: &str,
    seeds: Option<usize>,
    threads: &str,
) -> Result<(Measured, f64), Failure> {
    let folder = tempfile::tempdir().map_err(Failure::file(&std::env::temp_dir()))?;
    let mut command = Command::new(program);
    command.args(["reproduce", "--profile", profile, "--threads", threads, "--out"]);
    command.arg(folder.path());
    if let Some(seeds) = seeds {
        command.args(["--seeds", &seeds.to_string()]);
    }
    let start = Instant::now();
    let output = output(&mut command)?;
    let seconds = start.elapsed().as_secs_f64();
    // A claim may fail in a small profile.
    let codes = [Exit::Done as i32, Exit::CheckFailed as i32];
    if !output.status.code().is_some_and(|code| codes.contains(&code)) {
        return Err(failed(&command, &output));
    }
    let manifest: Value = read_json(&folder.path().join("manifest.json"))?;
    let memory_bytes = manifest["peak_memory_bytes"].as_u64();
    let cells = manifest["cells_computed"].as_f64().unwrap_or(f64::NAN);
    Ok((Measured::once(seconds, memory_bytes), cells))
}

/// Builds the targets and gives their executables by name.
fn build(targets: &[[&str; 2]]) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let cargo = std::env::var_os("CARGO");
    let mut command = Command::new(cargo.as_deref().unwrap_or(OsStr::new("cargo")));
    command.args(["build", "--workspace", "--profile", PROFILE]);
    command.arg("--message-format=json-render-diagnostics").args(targets.as_flattened());
    // The user sees the progress of cargo and the complaints of the compiler.
    let built = command.stderr(Stdio::inherit()).output();
    let built = built.map_err(Failure::file(Path::new(command.get_program())))?;
    if !built.status.success() {
        return Err(Failure::Program(format!("cargo build: {}", built.status)));
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let built = |message: Value| {
        let name = message["target"]["name"].as_str()?;
        Some((name.to_owned(), PathBuf::from(message["executable"].as_str()?)))
    };
    Ok(messages.filter_map(built).collect())
}

/// The benchmarks that criterion wrote below a folder, by their full ids.
fn read(folder: &Path, found: &mut BTreeMap<String, Measured>) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Sample {
        iters: Vec<f64>,
        times: Vec<f64>,
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    for entry in entries.map_err(Failure::file(folder))? {
        let path = entry.path();
        if !path.is_dir() {
            continue;
        }
        if entry.file_name() != "new" {
            read(&path, found)?;
            continue;
        }
        let benchmark: Value = read_json(&path.join("benchmark.json"))?;
        let estimates: Value = read_json(&path.join("estimates.json"))?;
        let Sample { iters, times } = read_json(&path.join("sample.json"))?;
        // Criterion counts nanoseconds.
        let unit = 1e-9 / benchmark["throughput"]["Elements"].as_f64().unwrap_or(1.0);
        let each = times.iter().zip(&iters).map(|(time, iterations)| time / iterations);
        let minimum = unit * each.fold(f64::INFINITY, f64::min);
        let median = estimates["median"]["point_estimate"].as_f64().unwrap_or(f64::NAN);
        let measured = Measured { seconds: unit * median, minimum, ..Measured::default() };
        found.insert(benchmark["full_id"].as_str().unwrap_or_default().to_owned(), measured);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{median_and_minimum, parse_threshold};

    #[test]
    fn the_median_is_between_the_halves() {
        assert_eq!(median_and_minimum(vec![3.0, 1.0, 2.0]), (2.0, 1.0));
        assert_eq!(median_and_minimum(vec![4.0, 1.0, 2.0, 3.0]), (2.5, 1.0));
        assert_eq!(median_and_minimum(vec![5.0]), (5.0, 5.0));
    }

    #[test]
    fn a_threshold_has_four_numbers() {
        let run = parse_threshold("0.5 4096 1e-11 13\n").unwrap();
        assert_eq!((run.seconds, run.memory_bytes, run.products), (0.5, Some(4096), Some(13.0)));
        assert_eq!(parse_threshold("0.5 NaN 1e-11 13").unwrap().memory_bytes, None);
        assert!(parse_threshold("0.5 4096 1e-11").is_none());
    }
}
