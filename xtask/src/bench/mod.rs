//! `cargo xtask bench`: how long flatmin takes, how long the processor would need at least, and how long others take.

mod curves;
mod definitions;
mod measure;
mod page;
mod peers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use self::curves::{CURVES, Curve, CurveRecord};
use self::definitions::{BENCHES, Bench, find};
use self::measure::Measurements;
pub(crate) use self::measure::PROFILE;
use self::peers::{Asked, PeerTime, Peers, TOLERANCE};
use crate::exit;
use crate::failure::Failure;
use crate::manifest::{Host, TOOLCHAIN, commit, now};
use crate::output::Format;
use crate::progress::Progress;
use crate::{files, output};

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench                                    everything of flatmin, in minutes
  cargo xtask bench --only sgd_step_relu,threshold_300
  cargo xtask bench --peers python3                    beside PyTorch, JAX and others, where installed
  cargo xtask bench --only reproduce_paper             takes long: only when it is named, as is
                                                       threshold_10000
  cargo xtask bench --peers python3 --update-docs      and write docs/performance.md
  cargo xtask bench --curves --update-docs             time and memory against sizes, with exponents
  cargo xtask bench --curves threshold_n               one of the curves

Times mean little while other work runs on the machine.

Exit status: 0 done; 1 a peer has another result (everything was still written); 2 wrong usage;
3 could not run.";

/// Options of `bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Only these benchmarks.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = parse_name)]
    only: Vec<&'static Bench>,
    /// Time and memory against sizes, instead of the benchmarks: all curves, or those named.
    #[arg(long, value_name = "NAME", num_args = 0.., value_delimiter = ',', value_parser = parse_curve)]
    #[arg(conflicts_with_all = ["only", "peers"])]
    curves: Option<Vec<&'static Curve>>,
    /// Measure a point of a curve, as a process of its own does.
    #[arg(long, num_args = 2, value_names = ["CURVE", "SIZE"], hide = true)]
    point: Vec<String>,
    /// A Python interpreter for other libraries; those that it does not have are left out.
    #[arg(long, value_name = "PYTHON")]
    peers: Option<PathBuf>,
    /// The file for the results.
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    out: PathBuf,
    /// Format of standard output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write the tables of docs/performance.md whose benchmarks were all run.
    #[arg(long)]
    update_docs: bool,
    /// As few repetitions as possible: shows that everything runs, not how fast it is.
    #[arg(long, conflicts_with = "update_docs")]
    quick: bool,
}

fn parse_name(name: &str) -> Result<&'static Bench, String> {
    find(name).ok_or_else(|| {
        let names: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        format!("the benchmarks are {}", names.join(", "))
    })
}

fn parse_curve(name: &str) -> Result<&'static Curve, String> {
    curves::find(name).ok_or_else(|| {
        let names: Vec<&str> = CURVES.iter().map(|curve| curve.name).collect();
        format!("the curves are {}", names.join(", "))
    })
}

/// `bench.json`.
#[derive(Debug, Serialize)]
struct BenchFile {
    schema: &'static str,
    version: &'static str,
    commit: Option<String>,
    /// Of the compiler: what was measured is built with it.
    profile: &'static str,
    toolchain: Option<&'static str>,
    started: String,
    quick: bool,
    host: BenchHost,
    benches: Vec<Record>,
    limits: Vec<LimitRecord>,
    curves: Vec<CurveRecord>,
}

#[derive(Debug, Serialize)]
struct BenchHost {
    #[serde(flatten)]
    host: Host,
    instruction_set: &'static str,
}

/// A benchmark that was run.
#[derive(Debug, Serialize)]
struct Record {
    name: &'static str,
    size: &'static str,
    /// The median.
    seconds: f64,
    minimum: f64,
    limit_seconds: Option<f64>,
    limit: Option<&'static str>,
    memory_bytes: Option<u64>,
    peers: BTreeMap<&'static str, PeerTime>,
    #[serde(skip)]
    bench: &'static Bench,
}

impl Record {
    /// The fastest of the peers.
    fn fastest(&self) -> Option<(&'static str, &PeerTime)> {
        let peers = self.peers.iter().map(|(name, peer)| (*name, peer));
        peers.min_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds))
    }
}

/// What the processor did, for the limits.
#[derive(Debug, Serialize)]
struct LimitRecord {
    name: &'static str,
    /// Of a step, or of a floating-point operation.
    seconds: f64,
    minimum: f64,
}

/// Runs the task and gives the exit status.
///
/// # Errors
/// [`Failure`] when it could not be done.
pub(crate) fn bench(options: &Options) -> Result<u8, Failure> {
    if !options.point.is_empty() {
        curves::point(&options.point, options.quick)?;
        return Ok(exit::DONE);
    }
    let started = now();
    let (benches, curves) = chosen(options);
    let mut peers =
        options.peers.as_deref().map(|python| Peers::new(python, options.quick)).transpose()?;
    let page = options.update_docs.then(page::Page::read).transpose()?;
    files::make_writable(options.out.parent().unwrap_or(Path::new("")))?;
    if PROFILE != "release" {
        output::warn(&"built without optimisation across crates: times are not those of a release");
    }
    let mut measurements = Measurements::new(&benches, options.quick)?;
    let records = run(&benches, &mut measurements, peers.as_mut())?;
    let curves = curves::measure(&curves, options.quick)?;
    let limits = measurements.limits().iter();
    let file = BenchFile {
        schema: "flatmin.bench/1",
        version: env!("CARGO_PKG_VERSION"),
        commit: commit(),
        profile: PROFILE,
        toolchain: TOOLCHAIN,
        started,
        quick: options.quick,
        host: BenchHost {
            host: Host::this(),
            instruction_set: flatmin_linalg::simd::instruction_set(),
        },
        benches: records,
        limits: limits
            .map(|(name, m)| LimitRecord { name, seconds: m.seconds, minimum: m.minimum })
            .collect(),
        curves,
    };
    let json = files::json(&options.out, &file)?;
    files::write(&options.out, json.as_bytes())?;
    if let Some(page) = page {
        page.update(&file)?;
    }
    output::print(&match options.format {
        Format::Text => page::text(&file),
        Format::Json => json,
    });
    Ok(if disagreements(&file.benches) { exit::FAILS } else { exit::DONE })
}

/// What is to be measured, in the order of the tables and each once, however it was named.
fn chosen(options: &Options) -> (Vec<&'static Bench>, Vec<&'static Curve>) {
    if let Some(named) = &options.curves {
        let is_named = |curve: &&Curve| named.iter().any(|named| named.name == curve.name);
        let curves = CURVES.iter().filter(|curve| named.is_empty() || is_named(curve));
        return (Vec::new(), curves.collect());
    }
    let is_chosen = |bench: &&Bench| match options.only.as_slice() {
        [] => !bench.only_when_named,
        only => only.iter().any(|named| named.name == bench.name),
    };
    (BENCHES.iter().filter(is_chosen).collect(), Vec::new())
}

/// Runs the benchmarks one after the other, and each peer right after flatmin.
fn run(
    benches: &[&'static Bench],
    measurements: &mut Measurements,
    mut peers: Option<&mut Peers>,
) -> Result<Vec<Record>, Failure> {
    let peers_of = |bench: &Bench| bench.work.map_or(&[][..], |work| work.peers());
    let with_peers = |bench: &&Bench| 1 + if peers.is_some() { peers_of(bench).len() } else { 0 };
    let total = benches.iter().map(|bench| with_peers(bench) as u64).sum::<u64>();
    let progress = Progress::new(total, total as f64, "measurements");
    let mut records = Vec::new();
    let mut left_out = Vec::new();
    for bench in benches {
        progress.started(bench.name);
        let measured = measurements.measure(bench)?;
        let limit = bench.limit.as_ref();
        let limit_seconds = limit.map(|limit| measurements.limit(limit, &measured)).transpose()?;
        progress.finished(1, 1.0);
        let mut times = BTreeMap::new();
        if let (Some(peers), Some(work)) = (peers.as_deref_mut(), bench.work) {
            for peer in work.peers() {
                progress.started(&format!("{} by {}", bench.name, peer.name));
                match peers.ask(peer, work, measured.seconds)? {
                    Asked::Answered(time) => {
                        times.insert(peer.name, time);
                    }
                    Asked::LeftOut(why) => {
                        left_out.push(format!("{}: {} is left out: {why}", bench.name, peer.name));
                    }
                }
                progress.finished(1, 1.0);
            }
        }
        records.push(Record {
            name: bench.name,
            size: bench.size,
            seconds: measured.seconds,
            minimum: measured.minimum,
            limit_seconds,
            limit: limit.map(|limit| limit.words),
            memory_bytes: measured.memory_bytes,
            peers: times,
            bench,
        });
    }
    progress.end();
    for line in left_out {
        output::warn(&line);
    }
    Ok(records)
}

/// Names the peers whose results are not flatmin's, and says whether there are any.
fn disagreements(records: &[Record]) -> bool {
    let mut any = false;
    for Record { name, peers, .. } in records {
        for (peer, time) in peers.iter().filter(|(_, time)| !time.is_right()) {
            any = true;
            output::warn(&format_args!(
                "{name}: the result of {peer} differs by {:.1e}, more than {TOLERANCE:.0e}",
                time.agrees
            ));
        }
    }
    any
}
