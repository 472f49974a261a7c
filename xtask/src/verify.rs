//! `cargo xtask verify`: every statement of the ledger and its mutant on random instances.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use flatmin_host::{Exit, Format, Tasks, duration, make_writable, print, seal, to_json, write};
use flatmin_ledger::{STATEMENTS, Statement, TOLERANCE, Tally, Verification, statement};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  cargo xtask verify                                  200 instances of every statement
  cargo xtask verify --instances 1000                 under a minute on two cores
  cargo xtask verify --only S9,S10 --seed 7
  cargo xtask verify --out results/paper/ledger.json  beside the results of a reproduction

Exit status: 0 every statement holds and every mutant is refuted; 1 a violation or a surviving
mutant (everything was still written); 2 wrong usage; 3 could not run.";

/// Instances that a thread takes at a time.
const PART: u64 = 20;

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Random instances of every statement.
    #[arg(long, value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    instances: u64,
    /// Seed of the instances.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Only these statements.
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = statement)]
    only: Vec<&'static Statement>,
    /// Number of threads; no result depends on it [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// The file for the results.
    #[arg(long, value_name = "FILE", default_value = "results/ledger.json")]
    out: PathBuf,
    /// Format of standard output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the task and gives the exit status.
///
/// # Errors
/// [`Failure`] when it could not be done.
pub(crate) fn verify(options: &Options) -> Result<Exit, Failure> {
    let start = Instant::now();
    make_writable(options.out.parent().unwrap_or(Path::new("")))?;
    // In the order of the theory and each once, however they were named.
    let chosen = |id: &&'static Statement| options.only.is_empty() || options.only.contains(id);
    let statements: Vec<&'static Statement> = STATEMENTS.into_iter().filter(chosen).collect();
    let verifications = run(options, &statements)?;
    let ledger = Ledger::new(options, &verifications);
    let json = seal(&to_json(&options.out, &ledger)?);
    write(&options.out, json.as_bytes())?;
    print(&match options.format {
        Format::Text => text(options, &verifications, start.elapsed().as_secs_f64()),
        Format::Json => json,
    })?;
    Ok(Exit::of_check(ledger.passed))
}

/// Tries the statements in parallel, a part of the instances of one at a time.
fn run(options: &Options, statements: &[&'static Statement]) -> Result<Vec<Verification>, Failure> {
    let parts = |statement: &&'static Statement| {
        let statement = *statement;
        let starts = (0..options.instances).step_by(usize::try_from(PART).unwrap_or(usize::MAX));
        starts.map(move |first| (statement, first..options.instances.min(first + PART)))
    };
    let tasks: Vec<(&'static Statement, Range<u64>)> = statements.iter().flat_map(parts).collect();
    let total = statements.len() as u64 * options.instances;
    let tasks_done = Tasks::new(total, total as f64, "instances");
    let try_part = |(statement, part): &(&'static Statement, Range<u64>)| {
        let count = part.end - part.start;
        let task = tasks_done.start(statement.id, count as f64);
        let found = flatmin_ledger::verify(statement, options.seed, part.clone())
            .map_err(|source| Failure::Statement { statement: statement.id, source });
        task.finish(count);
        found
    };
    let threads = options.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    // Collected in the order of the tasks, so that threads cannot change a result.
    let found: Result<Vec<Verification>, Failure> =
        pool.install(|| tasks.par_iter().with_max_len(1).map(try_part).collect());
    drop(tasks_done);
    let mut verifications: Vec<Verification> = Vec::new();
    for part in found? {
        match verifications.pop() {
            Some(last) if last.statement == part.statement => {
                verifications.push(last.followed_by(part));
            }
            last => verifications.extend(last.into_iter().chain([part])),
        }
    }
    Ok(verifications)
}

/// `ledger.json`.
#[derive(Debug, Serialize)]
struct Ledger {
    schema: &'static str,
    version: &'static str,
    seed: u64,
    instances: u64,
    tolerance: f64,
    passed: bool,
    statements: Vec<LedgerStatement>,
}

#[derive(Debug, Serialize)]
struct LedgerStatement {
    id: &'static str,
    title: &'static str,
    statement: &'static str,
    latex: &'static str,
    hypotheses: &'static str,
    source: &'static str,
    check: &'static str,
    mutant: &'static str,
    passed: bool,
    instances: u64,
    comparisons: u64,
    violations: u64,
    smallest_slack: Value,
    attained_by: Option<LedgerInstance>,
    mutants: usize,
    mutants_refuted: usize,
    by_comparison: Vec<LedgerComparison>,
}

#[derive(Debug, Serialize)]
struct LedgerComparison {
    name: &'static str,
    compared: u64,
    violations: u64,
    smallest_slack: Value,
    attained_by: Option<LedgerInstance>,
    has_mutant: bool,
    mutant_refuted_by: Option<u64>,
}

/// Instance k is made again from the seed and its number.
#[derive(Debug, Serialize)]
struct LedgerInstance {
    instance: u64,
    sizes: String,
    lhs: Value,
    rhs: Value,
}

impl Ledger {
    fn new(options: &Options, verifications: &[Verification]) -> Self {
        Self {
            schema: "flatmin.ledger/1",
            version: env!("CARGO_PKG_VERSION"),
            seed: options.seed,
            instances: options.instances,
            tolerance: TOLERANCE,
            passed: verifications.iter().all(Verification::passed),
            statements: verifications.iter().map(LedgerStatement::new).collect(),
        }
    }
}

impl LedgerStatement {
    fn new(verification: &Verification) -> Self {
        let statement = verification.statement;
        let tightest = verification.tightest();
        Self {
            id: statement.id,
            title: statement.title,
            statement: statement.words,
            latex: statement.latex,
            hypotheses: statement.hypotheses,
            source: statement.source,
            check: statement.check_words,
            mutant: statement.mutant_words,
            passed: verification.passed(),
            instances: verification.instances,
            comparisons: verification.comparisons(),
            violations: verification.violations(),
            smallest_slack: tightest.map_or(Value::Null, slack),
            attained_by: tightest.and_then(LedgerInstance::new),
            mutants: verification.mutants(),
            mutants_refuted: refuted(verification),
            by_comparison: verification.tallies.iter().map(LedgerComparison::new).collect(),
        }
    }
}

impl LedgerComparison {
    fn new(tally: &Tally) -> Self {
        Self {
            name: tally.name,
            compared: tally.compared,
            violations: tally.violations,
            smallest_slack: slack(tally),
            attained_by: LedgerInstance::new(tally),
            has_mutant: tally.has_mutant,
            mutant_refuted_by: tally.refuted_by,
        }
    }
}

impl LedgerInstance {
    fn new(tally: &Tally) -> Option<Self> {
        tally.attained_by.as_ref().map(|attained| Self {
            instance: attained.instance,
            sizes: attained.sizes.clone(),
            lhs: number(attained.lhs),
            rhs: number(attained.rhs),
        })
    }
}

/// Absent when nothing was compared.
fn slack(tally: &Tally) -> Value {
    if tally.compared == 0 { Value::Null } else { number(tally.smallest_slack) }
}

/// JSON has no number for infinities and NaN: they are words.
fn number(value: f64) -> Value {
    let word = || Value::from(value.to_string().to_lowercase());
    serde_json::Number::from_f64(value).map_or_else(word, Value::Number)
}

fn refuted(verification: &Verification) -> usize {
    verification.mutants() - verification.surviving_mutants().count()
}

/// A row per statement, then what failed, and a line that sums up.
fn text(options: &Options, verifications: &[Verification], seconds: f64) -> String {
    let header =
        ["id", "statement", "instances", "violations", "smallest slack", "on", "mutants refuted"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(verifications.iter().map(row));
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, field) in row.iter().enumerate() {
            let width = widths[column];
            // Words are flush left, numbers flush right. Writing to a String cannot fail.
            let _ = match column {
                0 | 1 | 5 => write!(line, "{field:<width$}  "),
                _ => write!(line, "{field:>width$}  "),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text.push('\n');
    for verification in verifications.iter().filter(|verification| !verification.passed()) {
        text += &failures(verification);
    }
    let failed = verifications.iter().filter(|verification| !verification.passed()).count();
    let verdict = if failed == 0 {
        "all hold, all mutants refuted".to_owned()
    } else {
        format!("{failed} FAIL")
    };
    let _ = writeln!(
        text,
        "{} statements, {} instances each from seed {}: {verdict}\nledger: {}; {}",
        verifications.len(),
        options.instances,
        options.seed,
        options.out.display(),
        duration(seconds)
    );
    text
}

fn row(verification: &Verification) -> [String; 7] {
    let tightest = verification.tightest();
    let attained = tightest.and_then(|tally| tally.attained_by.as_ref());
    [
        verification.statement.to_string(),
        verification.statement.title.to_owned(),
        verification.instances.to_string(),
        verification.violations().to_string(),
        tightest.map_or_else(String::new, |tally| format!("{:.1e}", tally.smallest_slack)),
        attained.map_or_else(String::new, |attained| format!("instance {}", attained.instance)),
        format!("{} of {}", refuted(verification), verification.mutants()),
    ]
}

/// What is wrong, a line each.
fn failures(verification: &Verification) -> String {
    let id = verification.statement;
    let mut text = String::new();
    for tally in verification.tallies.iter().filter(|tally| tally.violations > 0) {
        let _ = write!(text, "{id} FAILS: {}, {} violations", tally.name, tally.violations);
        if let Some(attained) = &tally.attained_by {
            let _ = write!(
                text,
                "; on instance {} ({}) the sides are {:e} and {:e}",
                attained.instance, attained.sizes, attained.lhs, attained.rhs
            );
        }
        text.push('\n');
    }
    for name in verification.surviving_mutants() {
        let _ = writeln!(text, "{id} FAILS: no instance refutes the mutant of: {name}");
    }
    if verification.comparisons() == 0 {
        let _ = writeln!(text, "{id} FAILS: no instance satisfies its hypotheses");
    }
    text
}

#[cfg(test)]
mod tests {
    use flatmin_ledger::{Attained, Tally, Verification, statement};

    use super::{failures, number, row};

    fn tally() -> Tally {
        Tally {
            name: "left and right",
            compared: 3,
            violations: 1,
            smallest_slack: -0.5,
            attained_by: Some(Attained {
                instance: 17,
                sizes: "n = 2".to_owned(),
                lhs: 2.0,
                rhs: 1.0,
            }),
            has_mutant: true,
            refuted_by: None,
        }
    }

    #[test]
    fn a_failure_says_where() {
        let verification = Verification {
            statement: statement("S2").unwrap(),
            instances: 5,
            tallies: vec![tally()],
        };
        assert_eq!(
            failures(&verification),
            "S2 FAILS: left and right, 1 violations; on instance 17 (n = 2) the sides are 2e0 and \
             1e0\nS2 FAILS: no instance refutes the mutant of: left and right\n"
        );
        let expected = ["S2", "Trace bound", "5", "1", "-5.0e-1", "instance 17", "0 of 1"];
        assert_eq!(row(&verification), expected);
    }

    #[test]
    fn numbers_that_json_has_not_are_words() {
        assert_eq!(number(0.1).to_string(), "0.1");
        assert_eq!(number(f64::INFINITY), "inf");
        assert_eq!(number(f64::NEG_INFINITY), "-inf");
        assert_eq!(number(f64::NAN), "nan");
    }
}
