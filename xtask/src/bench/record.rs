//! The results of `cargo xtask bench`, as they are stored.

use std::collections::BTreeMap;

use flatmin_host::Machine;
use serde::Serialize;

use super::curves::CurveRecord;
use super::definitions::Bench;
use super::peers::PeerTime;

/// `bench.json`.
#[derive(Debug, Serialize)]
pub(super) struct BenchFile {
    pub(super) schema: &'static str,
    pub(super) version: &'static str,
    pub(super) commit: Option<String>,
    /// The profile of cargo that what was measured is built with.
    pub(super) profile: &'static str,
    pub(super) toolchain: Option<&'static str>,
    pub(super) started: String,
    pub(super) quick: bool,
    pub(super) host: BenchHost,
    pub(super) benches: Vec<Record>,
    pub(super) limits: Vec<LimitRecord>,
    pub(super) curves: Vec<CurveRecord>,
}

#[derive(Debug, Serialize)]
pub(super) struct BenchHost {
    #[serde(flatten)]
    pub(super) host: Machine,
    pub(super) instruction_set: &'static str,
}

/// A benchmark that was run.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    pub(super) name: &'static str,
    pub(super) size: &'static str,
    /// Median time.
    pub(super) seconds: f64,
    pub(super) minimum: f64,
    pub(super) limit_seconds: Option<f64>,
    pub(super) limit: Option<&'static str>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) peers: BTreeMap<&'static str, PeerTime>,
    #[serde(skip)]
    pub(super) bench: &'static Bench,
}

/// A rate of the processor that limits are computed from.
#[derive(Debug, Serialize)]
pub(super) struct LimitRecord {
    pub(super) name: &'static str,
    /// Median time of a step or of a floating-point operation.
    pub(super) seconds: f64,
    pub(super) minimum: f64,
}
