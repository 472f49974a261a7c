//! The section of the report on the statements, from the `ledger.json` that `verify` left beside
//! it.

use std::io;
use std::path::Path;

use flatmin_host::{FileError, SealedFile, read_own};
use serde::{Deserialize, Serialize};

use crate::program::XTASK;
use crate::report::Section;

/// Largest size in bytes of a ledger that is read. The ledger of the paper takes 59 kB.
const MAX_BYTES: u64 = 16 << 20;

/// The part of `ledger.json` that the report shows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VerifiedLedger {
    seed: u64,
    instances: u64,
    statements: Vec<Verified>,
}

impl SealedFile for VerifiedLedger {
    const SCHEMA: &'static str = "flatmin.ledger/1";
}

#[derive(Debug, Serialize, Deserialize)]
struct Verified {
    id: String,
    title: String,
    instances: u64,
    violations: u64,
    mutants: usize,
    mutants_refuted: usize,
}

/// The section for a folder into which `verify` wrote a ledger. A ledger that cannot be read is
/// left out with a warning, since it is not part of the reproduction.
pub(crate) fn section(folder: &Path) -> Option<Section> {
    let path = folder.join("ledger.json");
    let read = read_own(&path, MAX_BYTES, "a ledger").and_then(|bytes| {
        VerifiedLedger::open(&bytes).map_err(|error| {
            let error = format!("{error}, `cargo xtask verify` writes it again");
            FileError::at(&path)(io::Error::other(error))
        })
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

impl VerifiedLedger {
    /// The section of the report that shows it.
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
