//! What every experiment binary runs.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};
use rayon::prelude::*;

use crate::cell::Results;
use crate::table::{Table, Value};
use crate::{Claim, Experiment, Profile, Settings, Verdict, claims, expand};

/// Done, and a claim fails.
const CLAIM_FAILS: u8 = 1;
/// Could not run.
const COULD_NOT_RUN: u8 = 3;

/// Options that the experiment binaries and the whole reproduction share.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// Number of seeds [default: 1 for smoke and quick, 5 for paper, 20 for full].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Number of threads; no result depends on it [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

impl RunOptions {
    /// What they ask for in `profile`.
    pub fn settings(&self, profile: Profile) -> Settings {
        let seeds = self.seeds.unwrap_or(profile.default_seeds());
        Settings { profile, seeds, seed: self.seed }
    }

    /// Number of threads, 0 for one a core: what a thread pool takes.
    pub fn threads(&self) -> usize {
        self.threads.map_or(0, usize::from)
    }
}

#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Runs in memory; `cargo xtask reproduce --only ID` stores every run and resumes.\n\n\
                  Exit status: 0 all claims hold or are undecided; 1 a claim fails; 2 wrong usage; \
                  3 could not run."
)]
struct Arguments {
    /// How large: smoke, quick, paper or full.
    #[arg(long, default_value = "quick")]
    profile: Profile,
    #[command(flatten)]
    run: RunOptions,
    /// Where table and figure are written [default: results/EXPERIMENT].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs one experiment as the command line asks: its cells in parallel, its summary and claims on
/// standard output, its table, schema and figure in a folder.
///
/// Exit status: 0 when all claims hold or are undecided, 1 when one fails, 2 for wrong usage, 3 when
/// it could not run, with one line on standard error.
pub fn main(experiment: Experiment) -> ExitCode {
    let command = Arguments::command().name(experiment.id()).about(experiment.title());
    let arguments = Arguments::from_arg_matches(&command.get_matches());
    let arguments = arguments.unwrap_or_else(|error| error.exit());
    match run(experiment, &arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(CLAIM_FAILS),
        Err(error) => {
            // If nobody reads standard error there is nobody to tell.
            let _ = writeln!(io::stderr().lock(), "{experiment}: {error:#}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

/// Whether no claim fails.
fn run(experiment: Experiment, arguments: &Arguments) -> anyhow::Result<bool> {
    let settings = arguments.run.settings(arguments.profile);
    let default = || PathBuf::from("results").join(experiment.id());
    let out = arguments.out.clone().unwrap_or_else(default);
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;

    let threads = arguments.run.threads();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("threads")?;
    let mut cells = expand(&[experiment], &settings);
    cells.sort_by(|a, b| b.cost().total_cmp(&a.cost()));
    let results: Results = pool.install(|| {
        // One cell at a time to a thread: the first ones are the longest.
        let cells = cells.par_iter().with_max_len(1);
        let run =
            |cell: &crate::cell::CellSpec| Ok((cell.key(), cell.run().context(cell.label())?));
        cells.map(run).collect::<anyhow::Result<_>>()
    })?;

    let presentation = experiment.present(&settings, &results)?;
    let judged = claims(&[experiment], &settings, &results)?;
    let id = experiment.id();
    write(&out.join(format!("{id}.csv")), &presentation.table.to_csv()?)?;
    write(&out.join(format!("{id}.schema.json")), &presentation.table.schema_json(id))?;
    write(&out.join(format!("{id}.svg")), &presentation.figure.to_svg())?;

    let mut text = format!("{}\n\n{}\n", experiment.title(), aligned(&presentation.summary));
    text.extend(judged.iter().map(claim_text));
    text.extend(["\ntable and figure: ", &out.display().to_string(), "\n"]);
    // A closed pipe is not an error: the reader had enough.
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    Ok(judged.iter().all(|claim| claim.verdict != Verdict::Fails))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn claim_text(claim: &Claim) -> String {
    let note = if claim.note.is_empty() { String::new() } else { format!(" ({})", claim.note) };
    format!("claim {} {}: {}{note}\n", claim.id, claim.verdict.word(), claim.sentence)
}

/// A table as text: columns as wide as they need to be, numbers to four digits and flush right.
fn aligned(table: &Table) -> String {
    let headers = table.columns.iter().map(|column| column.name.to_owned()).collect();
    let rows = table.rows.iter().map(|row| row.iter().map(Value::to_short_field).collect());
    let lines: Vec<Vec<String>> = std::iter::once(headers).chain(rows).collect();
    let column = |index: usize| {
        let fields = lines.iter().filter_map(move |line| line.get(index));
        let is_text = |row: &Vec<Value>| matches!(row.get(index), Some(Value::Text(_)));
        let width = fields.map(|field| field.chars().count()).max().unwrap_or(0);
        (width, table.rows.iter().any(is_text))
    };
    let columns: Vec<(usize, bool)> = (0..table.columns.len()).map(column).collect();
    let mut text = String::new();
    for line in &lines {
        let fields = line.iter().zip(&columns).map(|(field, &(width, is_text))| {
            if is_text { format!("{field:<width$}") } else { format!("{field:>width$}") }
        });
        let fields: Vec<String> = fields.collect();
        text += fields.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::aligned;
    use crate::table::{Column, Table, Value};

    #[test]
    fn words_are_flush_left_and_numbers_flush_right() {
        let column = |name| Column { name, unit: "1", description: "test" };
        let table = Table {
            columns: vec![column("word"), column("x")],
            rows: vec![
                vec!["η".into(), Value::Number(0.123_456)],
                vec!["longer".into(), Value::Missing],
                vec!["a".into(), Value::Integer(3)],
            ],
        };
        let lines = ["word         x", "η       0.1235", "longer", "a            3", ""];
        assert_eq!(aligned(&table), lines.join("\n"));
    }
}
