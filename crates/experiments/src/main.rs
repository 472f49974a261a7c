//! Runs one experiment in memory: `flatmin-experiments EXPERIMENT`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use flatmin_experiments::cell::{CellError, CellSpec, Results};
use flatmin_experiments::table::{Table, Value};
use flatmin_experiments::{
    Claim, EXPERIMENTS, Experiment, MissingCell, Profile, Settings, Verdict, claims, expand, find,
};
use flatmin_host::{Align, Exit, FileError, Program, aligned, print, shown, write};
use rayon::prelude::*;

const PROGRAM: Program = Program::new("flatmin-experiments");

/// Runs one experiment in memory, with its summary and claims on standard output and its table,
/// schema and figure in a folder.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "`cargo xtask reproduce --only EXPERIMENT` also stores every run and resumes.\n\n\
                  Exit status: 0 all claims hold or are undecided; 1 a claim fails; 2 wrong usage; \
                  3 could not run."
)]
struct Arguments {
    /// The experiment.
    #[arg(value_parser = find, help = experiments_help())]
    experiment: &'static Experiment,
    /// Size of the reproduction: smoke, quick, paper or full.
    #[arg(long, default_value = "quick")]
    profile: Profile,
    /// Number of seeds [default: 1 for smoke and quick, 5 for paper, 20 for full].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Number of threads; no result depends on it [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Folder for the table and the figure [default: results/EXPERIMENT].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn experiments_help() -> String {
    let ids: Vec<&str> = EXPERIMENTS.iter().map(|experiment| experiment.id).collect();
    format!("The experiment: {}", ids.join(", "))
}

/// The reasons why an experiment cannot be run.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    #[error("{label}: {source}")]
    Cell { label: String, source: CellError },
    #[error(transparent)]
    Missing(#[from] MissingCell),
    #[error("table: {0}")]
    Table(#[from] csv::Error),
}

fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| Program::end_parsing(&error));
    PROGRAM.end(run(&arguments), |_| Exit::Failed).into()
}

fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let &Arguments { experiment, profile, seed, .. } = arguments;
    let seeds = arguments.seeds.unwrap_or(profile.default_seeds());
    let settings = Settings { profile, seeds, seed };
    let default = || PathBuf::from("results").join(experiment.id);
    let out = arguments.out.clone().unwrap_or_else(default);
    fs::create_dir_all(&out).map_err(FileError::at(&out))?;

    let threads = arguments.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let mut cells = expand(&[experiment], &settings);
    cells.sort_by(|a, b| b.cost().total_cmp(&a.cost()));
    let results: Results = pool.install(|| {
        // One cell at a time to a thread: the first ones are the longest.
        let cells = cells.par_iter().with_max_len(1);
        let run = |cell: &CellSpec| match cell.run() {
            Ok(result) => Ok((cell.key(), result)),
            Err(source) => Err(Failure::Cell { label: cell.label(), source }),
        };
        cells.map(run).collect::<Result<_, Failure>>()
    })?;

    let presentation = experiment.present(&settings, &results)?;
    let judged = claims(&[experiment], &settings, &results)?;
    for (ending, text) in [
        ("csv", presentation.table.to_csv()?),
        ("schema.json", presentation.table.schema_json(experiment.id)),
        ("svg", presentation.figure.to_svg()),
    ] {
        write(&out.join(format!("{experiment}.{ending}")), text.as_bytes())?;
    }
    let claims: String = judged.iter().map(claim_text).collect();
    let (title, summary) = (experiment.title, summary_text(&presentation.summary));
    print(&format!("{title}\n\n{summary}\n{claims}\ntable and figure: {}\n", shown(&out)))?;
    Ok(Exit::of_check(judged.iter().all(|claim| claim.verdict != Verdict::Fails)))
}

fn claim_text(claim: &Claim) -> String {
    let note = if claim.note.is_empty() { String::new() } else { format!(" ({})", claim.note) };
    format!("claim {} {}: {}{note}\n", claim.id, claim.verdict.name(), claim.sentence)
}

/// A table as text, numbers to four digits and flush right.
fn summary_text(table: &Table) -> String {
    let headers = table.columns.iter().map(|column| column.name.to_owned()).collect();
    let rows = table.rows.iter().map(|row| row.iter().map(Value::to_short_field).collect());
    let lines: Vec<Vec<String>> = std::iter::once(headers).chain(rows).collect();
    aligned(&lines, |column| {
        let is_text = |row: &Vec<Value>| matches!(row.get(column), Some(Value::Text(_)));
        if table.rows.iter().any(is_text) { Align::Left } else { Align::Right }
    })
}

#[cfg(test)]
mod tests {
    use flatmin_experiments::table::{Column, Table, Value};

    use super::summary_text;

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
        assert_eq!(summary_text(&table), lines.join("\n"));
    }
}
