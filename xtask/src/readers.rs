//! The readers of a reproduction's folder by themselves, for tests that feed them anything.
//!
//! Each gives what is wrong in the words that a user would see.

use flatmin_experiments::cell::{CellResult, CellSpec};
use flatmin_experiments::report::{Report, Section};
use flatmin_host::said;

use crate::progress::duration;
use crate::verified::Ledger;
use crate::{markdown, reproduce, store};

/// A stored cell, whatever its checksum.
///
/// # Errors
/// When it is none.
pub fn cell(bytes: &[u8]) -> Result<(CellSpec, CellResult), String> {
    store::stored(bytes).map(|stored| (stored.spec, stored.result))
}

/// The bytes that a cell is stored as.
///
/// # Errors
/// When it has no such form.
pub fn cell_bytes(spec: &CellSpec, result: &CellResult) -> Result<Vec<u8>, String> {
    store::bytes(spec, result)
}

/// The times of an earlier run in its manifest, summed up in words.
///
/// # Errors
/// When it has none.
pub fn manifest(bytes: &[u8]) -> Result<String, String> {
    let seconds = reproduce::seconds_per_cell(bytes).map_err(|error| said(&error))?;
    Ok(duration(seconds.values().sum()))
}

/// The ledger that the report shows: the report as a page and as Markdown.
///
/// # Errors
/// When it is none.
pub fn ledger(bytes: &[u8]) -> Result<[String; 2], String> {
    let section: Section = Ledger::parse(bytes).map_err(|error| error.to_string())?.section();
    let report = Report { sections: vec![section], ..Report::default() };
    Ok([report.to_html(), markdown::page(&report)])
}
