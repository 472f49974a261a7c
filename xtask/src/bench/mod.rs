//! `cargo xtask bench`: the time that flatmin takes, beside the least that the processor needs and
//! the time of other libraries.

mod curves;
mod definitions;
mod measure;
mod page;
mod peers;
mod record;
mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use flatmin_host::{Exit, Format, Machine, Tasks, make_writable, print, to_json, utc_now, write};

use self::curves::Curve;
use self::definitions::Bench;
use self::measure::Measurements;
use self::peers::{Peers, TOLERANCE};
use self::record::{BenchFile, BenchHost, LimitRecord, Record};
use crate::build_info::{PROFILE, TOOLCHAIN, commit};
use crate::failure::Failure;
use crate::program::XTASK;

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

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArguments {
    /// Only these benchmarks.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = |name: &str| definitions::NAMES.find(name))]
    only: Vec<&'static Bench>,
    /// Time and memory against sizes, instead of the benchmarks: all curves, or those named.
    #[arg(long, value_name = "NAME", num_args = 0.., value_delimiter = ',', value_parser = |name: &str| curves::NAMES.find(name))]
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

/// Runs the task and gives the exit status.
///
/// # Errors
/// [`Failure`] when it could not be done.
pub(crate) fn bench(arguments: &BenchArguments) -> Result<Exit, Failure> {
    if !arguments.point.is_empty() {
        curves::point(&arguments.point, arguments.quick)?;
        return Ok(Exit::Done);
    }
    let started = utc_now();
    let (benches, curves) = chosen(arguments);
    let peers =
        arguments.peers.as_deref().map(|python| Peers::new(python, arguments.quick)).transpose()?;
    let page = arguments.update_docs.then(page::read).transpose()?;
    make_writable(arguments.out.parent().unwrap_or(Path::new("")))?;
    if PROFILE != "release" {
        XTASK.warn(&"built without optimisation across crates: times are not those of a release");
    }
    let mut measurements = Measurements::new(&benches, arguments.quick)?;
    let records = run(&benches, &mut measurements, peers.as_ref())?;
    let curves = curves::measure(&curves, arguments.quick)?;
    let limits = measurements.limits.iter();
    let file = BenchFile {
        schema: "flatmin.bench/1",
        version: env!("CARGO_PKG_VERSION"),
        commit: commit(),
        profile: PROFILE,
        toolchain: TOOLCHAIN,
        started,
        quick: arguments.quick,
        host: BenchHost {
            host: Machine::this(),
            instruction_set: flatmin_linalg::simd::instruction_set(),
        },
        benches: records,
        limits: limits
            .map(|(name, m)| LimitRecord { name, seconds: m.seconds, minimum: m.minimum })
            .collect(),
        curves,
    };
    let json = to_json(&arguments.out, &file)?;
    write(&arguments.out, json.as_bytes())?;
    if let Some(page) = page {
        page::update(page, &file)?;
    }
    print(&match arguments.format {
        Format::Text => page::text(&file),
        Format::Json => json,
    })?;
    Ok(Exit::of_check(peers_agree(&file.benches)))
}

/// The chosen benchmarks or curves, in the order of the tables.
fn chosen(arguments: &BenchArguments) -> (Vec<&'static Bench>, Vec<&'static Curve>) {
    match &arguments.curves {
        Some(curves) => (Vec::new(), curves::NAMES.select(curves, |_| true)),
        None => (definitions::NAMES.select(&arguments.only, |bench| !bench.is_long()), Vec::new()),
    }
}

/// Runs the benchmarks one after the other, and each peer right after flatmin.
fn run(
    benches: &[&'static Bench],
    measurements: &mut Measurements,
    peers: Option<&Peers>,
) -> Result<Vec<Record>, Failure> {
    let work = |bench: &Bench| bench.work.filter(|_| peers.is_some());
    let with_peers = |bench: &&Bench| 1 + work(bench).map_or(0, |work| work.peers.len());
    let total = benches.iter().map(|bench| with_peers(bench) as u64).sum::<u64>();
    let tasks = Tasks::new(total, total as f64, "measurements");
    let mut records = Vec::new();
    let mut left_out = Vec::new();
    for bench in benches {
        let task = tasks.start(bench.name, 1.0);
        let measured = measurements.measure(bench)?;
        let limit = bench.limit.as_ref();
        let limit_seconds = limit.map(|limit| measurements.limit(limit, &measured)).transpose()?;
        task.finish(1);
        let mut times = BTreeMap::new();
        if let (Some(peers), Some(work)) = (peers, bench.work) {
            let ready = work.ready()?;
            for peer in work.peers {
                let task = tasks.start(&format!("{} by {}", bench.name, peer.name), 1.0);
                match peers.ask(peer, &ready, measured.seconds)? {
                    Ok(time) => drop(times.insert(peer.name, time)),
                    Err(why) => {
                        left_out.push(format!("{}: {} is left out: {why}", bench.name, peer.name));
                    }
                }
                task.finish(1);
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
    drop(tasks);
    for line in left_out {
        XTASK.warn(&line);
    }
    Ok(records)
}

/// Names the peers whose results differ from flatmin's. True if there are none.
fn peers_agree(records: &[Record]) -> bool {
    let mut agree = true;
    for Record { name, peers, .. } in records {
        for (peer, time) in peers.iter().filter(|(_, time)| !time.is_right()) {
            agree = false;
            XTASK.warn(&format_args!(
                "{name}: the result of {peer} differs by {:.1e}, more than {TOLERANCE:.0e}",
                time.agrees
            ));
        }
    }
    agree
}
