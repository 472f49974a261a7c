//! The readers of a reproduction's folder on their own, for tests with arbitrary bytes.
//!
//! Errors are worded as a user would see them.

use flatmin_experiments::cell::{CellResult, CellSpec};
use flatmin_host::{SealedFile as _, duration};

use crate::markdown;
use crate::report::{Report, Section};
use crate::reproduce::{CellFile, Manifest};
use crate::verified::VerifiedLedger;

/// A stored cell. Its checksum is not verified.
///
/// # Errors
/// When the bytes are not a stored cell.
pub fn cell(bytes: &[u8]) -> Result<(CellSpec, CellResult), String> {
    let file = CellFile::parse(bytes).map_err(|error| error.to_string())?;
    Ok((file.spec, file.result))
}

/// The bytes that a cell is stored as.
///
/// # Errors
/// When the cell has no JSON form.
pub fn cell_bytes(spec: CellSpec, result: CellResult) -> Result<Vec<u8>, String> {
    let text = CellFile::new(spec, result).to_sealed();
    text.map(String::into_bytes).map_err(|error| error.to_string())
}

/// The time of all cells in the manifest of an earlier run, in words. The checksum is not verified.
///
/// # Errors
/// When the bytes are not a manifest.
pub fn manifest(bytes: &[u8]) -> Result<String, String> {
    let manifest = Manifest::parse(bytes).map_err(|error| error.to_string())?;
    Ok(duration(manifest.seconds_per_cell.values().sum()))
}

/// A report with the ledger in it, as an HTML page and as Markdown.
///
/// # Errors
/// When the bytes are not a ledger.
pub fn ledger(bytes: &[u8]) -> Result<[String; 2], String> {
    let section: Section =
        VerifiedLedger::parse(bytes).map_err(|error| error.to_string())?.section();
    let report = Report { sections: vec![section], ..Report::default() };
    Ok([report.to_html(), markdown::page(&report)])
}
