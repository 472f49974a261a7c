//! The section of the report on the statements, from the `ledger.json` that `verify` left beside it.

use std::io;
use std::path::Path;

use flatmin_host::{FileError, is_sealed, read_own, said, short};
use serde::Deserialize;

use crate::program::XTASK;
use crate::report::Section;

const SCHEMA: &str = "flatmin.ledger/1";

/// Largest ledger that is read. That of the paper takes 59 kB.
const LARGEST: u64 = 16 << 20;

/// `ledger.json`, as far as the report shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Ledger {
    schema: String,
    seed: u64,
    instances: u64,
    statements: Vec<Verified>,
}

#[derive(Debug, Deserialize)]
struct Verified {
    id: String,
    title: String,
    instances: u64,
    violations: u64,
    mutants: usize,
    mutants_refuted: usize,
}

/// The section, where `verify` wrote a ledger into the folder. One that cannot be read is said and left
/// out: it is not part of the reproduction.
pub(crate) fn section(folder: &Path) -> Option<Section> {
    let path = folder.join("ledger.json");
    let read = read_own(&path, LARGEST, "a ledger").and_then(|bytes| {
        if !is_sealed(&bytes) {
            let error =
                "its checksum does not match its content, `cargo xtask verify` writes it again";
            return Err(FileError::at(&path)(io::Error::other(error)));
        }
        Ledger::parse(&bytes).map_err(FileError::at(&path))
    });
    match read {
        Ok(ledger) => Some(ledger.section()),
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            XTASK.warn(&format_args!("{error}; the report leaves it out"));
            None
        }
    }
}

impl Ledger {
    /// Reads a ledger.
    pub(crate) fn parse(bytes: &[u8]) -> io::Result<Self> {
        let ledger: Self =
            serde_json::from_slice(bytes).map_err(|error| io::Error::other(said(&error)))?;
        if ledger.schema == SCHEMA {
            return Ok(ledger);
        }
        let schema = short(&ledger.schema);
        Err(io::Error::other(format!("its format is {schema}, expected {SCHEMA}")))
    }

    /// What the report shows of it.
    pub(crate) fn section(self) -> Section {
        let Self { seed, instances, statements, .. } = self;
        let headers = ["id", "statement", "instances", "violations", "mutants", "mutants refuted"];
        let rows = statements.into_iter().map(|verified| {
            let Verified { id, title, instances, violations, mutants, mutants_refuted } = verified;
            let counts = [instances, violations, mutants as u64, mutants_refuted as u64];
            [id, title].into_iter().chain(counts.map(|count| count.to_string())).collect()
        });
        Section {
            id: "ledger".to_owned(),
            title: "The statements of the theory, tried on random instances".to_owned(),
            shows:
                "Every statement must hold on every instance, and every comparison of its mutant, \
                    the same statement with something wrong in it, must fail on some."
                    .to_owned(),
            how: format!(
                "cargo xtask verify, {instances} instances of every statement from seed {seed}, hard \
                 on purpose."
            ),
            table_file: "ledger.json".to_owned(),
            headers: headers.map(str::to_owned).to_vec(),
            rows: rows.collect(),
            ..Section::default()
        }
    }
}
