//! Curves that were measured, as they are stored.

use serde::Serialize;

use super::fit::PowerLaw;
use super::list::Curve;
use crate::bench::measure::Measured;

/// A curve that was measured.
#[derive(Debug, Serialize)]
pub(in crate::bench) struct CurveRecord {
    pub(super) name: &'static str,
    pub(super) work: &'static str,
    pub(super) size: &'static str,
    pub(super) points: Vec<SizedPoint>,
    /// Fitted to the medians. Minima do not compare: short work finds a moment when the machine
    /// does nothing else, long work does not.
    pub(super) seconds_law: Option<PowerLaw>,
    /// Fitted to the memory that the work adds to the process.
    pub(super) memory_law: Option<PowerLaw>,
}

#[derive(Debug, Serialize)]
pub(super) struct SizedPoint {
    /// The size.
    pub(super) at: f64,
    #[serde(flatten)]
    pub(super) point: Measured,
}

impl SizedPoint {
    pub(super) fn time(&self) -> (f64, f64) {
        (self.at, self.point.seconds)
    }

    pub(super) fn memory(&self) -> Option<(f64, f64)> {
        Some((self.at, self.point.memory_bytes? as f64))
    }

    fn added_memory(&self) -> Option<(f64, f64)> {
        let added = self.point.memory_bytes?.saturating_sub(self.point.idle_bytes?);
        Some((self.at, added as f64))
    }
}

impl CurveRecord {
    pub(super) fn new(curve: &Curve, points: Vec<SizedPoint>) -> Self {
        let times: Vec<_> = points.iter().map(SizedPoint::time).collect();
        let memory: Vec<_> = points.iter().filter_map(SizedPoint::added_memory).collect();
        Self {
            name: curve.name,
            work: curve.work,
            size: curve.size,
            points,
            seconds_law: PowerLaw::fit(&times),
            memory_law: PowerLaw::fit(&memory),
        }
    }
}
