//! `cargo xtask verify`: every statement of the ledger and its mutant on random instances.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use flatmin_host::{
    Align, Exit, Format, SealedFile as _, Tasks, aligned, duration, make_writable, print, seal,
    to_json, write,
};
use flatmin_ledger::{Attained, STATEMENTS, Statement, TOLERANCE, Tally, Verification, statement};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::verified::VerifiedLedger;

const EXAMPLES: &str = "\
Examples:
  cargo xtask verify                                  200 instances of every statement
  cargo xtask verify --instances 1000                 under a minute on two cores
  cargo xtask verify --only S9,S10 --seed 7
  cargo xtask verify --out results/paper/ledger.json  beside the results of a reproduction

Exit status: 0 every statement holds and every mutant is refuted; 1 a violation or a surviving
mutant (everything was still written); 2 wrong usage; 3 could not run.";

/// Number of instances that a thread takes at a time.
const INSTANCES_PER_TASK: usize = 20;

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArguments {
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
    /// Number of threads; no result depends on it [default: one per core].
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
pub(crate) fn verify(arguments: &VerifyArguments) -> Result<Exit, Failure> {
    let start = Instant::now();
    make_writable(arguments.out.parent().unwrap_or(Path::new("")))?;
    // In the order of the theory and each once, in whatever order they were named.
    let chosen = |id: &&'static Statement| arguments.only.is_empty() || arguments.only.contains(id);
    let statements: Vec<&'static Statement> = STATEMENTS.into_iter().filter(chosen).collect();
    let verifications = run(arguments, &statements)?;
    let ledger = Ledger {
        schema: VerifiedLedger::SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        seed: arguments.seed,
        instances: arguments.instances,
        tolerance: TOLERANCE,
        passed: verifications.iter().all(Verification::passed),
        statements: verifications.iter().map(LedgerStatement::new).collect(),
    };
    let json = seal(&to_json(&arguments.out, &ledger)?);
    write(&arguments.out, json.as_bytes())?;
    print(&match arguments.format {
        Format::Text => text(arguments, &verifications, start.elapsed().as_secs_f64()),
        Format::Json => json,
    })?;
    Ok(Exit::of_check(ledger.passed))
}

/// Tries the statements in parallel; a task is some of the instances of one statement.
fn run(
    arguments: &VerifyArguments,
    statements: &[&'static Statement],
) -> Result<Vec<Verification>, Failure> {
    let total = statements.len() as u64 * arguments.instances;
    let tasks = Tasks::new(total, total as f64, "instances");
    let try_part = |statement: &'static Statement, start: u64| {
        let part = start..arguments.instances.min(start + INSTANCES_PER_TASK as u64);
        let count = part.end - part.start;
        let task = tasks.start(statement.id, count as f64);
        let found = flatmin_ledger::verify(statement, arguments.seed, part)
            .map_err(|source| Failure::Statement { statement: statement.id, source });
        task.finish(count);
        found
    };
    let starts: Vec<u64> = (0..arguments.instances).step_by(INSTANCES_PER_TASK).collect();
    // The parts are joined in their order, so that threads cannot change the results.
    let try_all = |&statement: &&'static Statement| -> Option<Result<Verification, Failure>> {
        let parts = starts.par_iter().with_max_len(1).map(|&start| try_part(statement, start));
        let parts: Result<Vec<Verification>, Failure> = parts.collect();
        parts.map(|parts| parts.into_iter().reduce(Verification::followed_by)).transpose()
    };
    let threads = arguments.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| statements.par_iter().with_max_len(1).filter_map(try_all).collect())
}

/// `ledger.json`.
#[derive(Debug, Serialize)]
struct Ledger<'a> {
    schema: &'static str,
    version: &'static str,
    seed: u64,
    instances: u64,
    tolerance: f64,
    passed: bool,
    statements: Vec<LedgerStatement<'a>>,
}

#[derive(Debug, Serialize)]
struct LedgerStatement<'a> {
    #[serde(flatten)]
    statement: &'static Statement,
    passed: bool,
    instances: u64,
    comparisons: u64,
    violations: u64,
    smallest_slack: Value,
    attained_by: Option<&'a Attained>,
    mutants: usize,
    mutants_refuted: usize,
    by_comparison: &'a [Tally],
}

impl<'a> LedgerStatement<'a> {
    fn new(verification: &'a Verification) -> Self {
        let tightest = verification.tightest();
        Self {
            statement: verification.statement,
            passed: verification.passed(),
            instances: verification.instances,
            comparisons: verification.comparisons(),
            violations: verification.violations(),
            smallest_slack: json!(tightest)["smallest_slack"].take(),
            attained_by: tightest.and_then(|tally| tally.attained_by.as_ref()),
            mutants: verification.mutants(),
            mutants_refuted: verification.mutants_refuted(),
            by_comparison: &verification.tallies,
        }
    }
}

/// A row for each statement, then the failures, and a summary.
fn text(arguments: &VerifyArguments, verifications: &[Verification], seconds: f64) -> String {
    let header =
        ["id", "statement", "instances", "violations", "smallest slack", "on", "mutants refuted"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(verifications.iter().map(row));
    // Words are flush left, numbers flush right.
    let align = |column| if [0, 1, 5].contains(&column) { Align::Left } else { Align::Right };
    let failed: Vec<_> = verifications.iter().filter(|found| !found.passed()).collect();
    let verdict = match failed.len() {
        0 => "all hold, all mutants refuted".to_owned(),
        count => format!("{count} FAIL"),
    };
    let failures = failed.into_iter().map(failures).collect::<String>();
    let mut text = aligned(&rows, align) + "\n" + &failures;
    let _ = writeln!(
        text,
        "{} statements, {} instances each from seed {}: {verdict}\nledger: {}; {}",
        verifications.len(),
        arguments.instances,
        arguments.seed,
        arguments.out.display(),
        duration(seconds)
    );
    text
}

fn row(verification: &Verification) -> [String; 7] {
    let tightest = verification.tightest();
    let slack = tightest.and_then(|tally| tally.smallest_slack);
    let attained = tightest.and_then(|tally| tally.attained_by.as_ref());
    [
        verification.statement.to_string(),
        verification.statement.title.to_owned(),
        verification.instances.to_string(),
        verification.violations().to_string(),
        slack.map_or_else(String::new, |slack| format!("{slack:.1e}")),
        attained.map_or_else(String::new, |attained| format!("instance {}", attained.instance)),
        format!("{} of {}", verification.mutants_refuted(), verification.mutants()),
    ]
}

/// The failures of a statement, one on each line.
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

    use super::{failures, row};

    fn tally() -> Tally {
        Tally {
            name: "left and right",
            compared: 3,
            violations: 1,
            smallest_slack: Some(-0.5),
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
    fn numbers_that_json_lacks_are_words() {
        let slack = |value| {
            serde_json::to_value(Tally { smallest_slack: value, ..tally() }).unwrap()["smallest_slack"].take()
        };
        assert_eq!(slack(Some(0.1)).to_string(), "0.1");
        assert_eq!(slack(Some(f64::INFINITY)), "inf");
        assert_eq!(slack(Some(f64::NEG_INFINITY)), "-inf");
        assert_eq!(slack(Some(f64::NAN)), "nan");
        assert!(slack(None).is_null());
    }
}
