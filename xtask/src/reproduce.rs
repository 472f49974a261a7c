//! `cargo xtask reproduce`: what is missing is run, then everything is written from what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use flatmin_experiments::cell::{CellKey, CellSpec, Results};
use flatmin_experiments::command::RunOptions;
use flatmin_experiments::report::{MeasuredRow, Report, ReportClaim, Section};
use flatmin_experiments::table::Value;
use flatmin_experiments::{Claim, Experiment, Profile, Settings, Verdict, claims, expand};
use flatmin_host::{read_own, shown};
use serde::{Deserialize, Serialize};

use crate::exit;
use crate::failure::Failure;
use crate::manifest::{Manifest, peak_memory_bytes};
use crate::output::Format;
use crate::progress::duration;
use crate::store::{Loaded, Store};
use crate::{files, output, run, verified};

const EXAMPLES: &str = "\
Examples:
  cargo xtask reproduce                            the whole paper, 5 seeds
  cargo xtask reproduce --profile smoke            every experiment, tiny, in seconds
  cargo xtask reproduce --only diagonal_sharpness,diagonal_balance --seeds 3
  cargo xtask reproduce --plan | cut -d' ' -f1     the cells still to do, for a batch system
  cargo xtask reproduce --cell HASH                one of them

Stopped or killed, the same command goes on from the stored cells.

Exit status: 0 all claims hold or are undecided; 1 a claim fails (everything was still written);
2 wrong usage; 3 could not run.";

/// Largest manifest of an earlier run that is read. That of the paper takes 57 kB.
const LARGEST_MANIFEST: u64 = 64 << 20;

/// Options of `reproduce`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// How large: smoke, quick, paper or full.
    #[arg(long, default_value = "paper")]
    profile: Profile,
    /// Only these experiments.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<Experiment>,
    #[command(flatten)]
    run: RunOptions,
    /// Where everything is written [default: results/PROFILE].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Compute every cell again, whether stored or not.
    #[arg(long)]
    fresh: bool,
    /// List the cells still to do, and run nothing.
    #[arg(long, conflicts_with = "cell")]
    plan: bool,
    /// Compute and store this cell only.
    #[arg(long, value_name = "HASH")]
    cell: Option<String>,
    /// Format of standard output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the task and gives the exit status.
///
/// # Errors
/// [`Failure`] when it could not be done.
pub(crate) fn reproduce(options: &Options) -> Result<u8, Failure> {
    let settings = options.run.settings(options.profile);
    // In the order of the report and each once, however they were named.
    let chosen = |id: &Experiment| options.only.is_empty() || options.only.contains(id);
    let experiments: Vec<Experiment> = Experiment::ALL.into_iter().filter(chosen).collect();
    let cells = expand(&experiments, &settings);
    let default = || PathBuf::from("results").join(settings.profile.id());
    let out = options.out.clone().unwrap_or_else(default);
    let store = Store::new(out.join("cells"));

    if options.plan {
        plan(options, &store, &cells)
    } else if let Some(hash) = &options.cell {
        one_cell(options, &store, &cells, hash)
    } else {
        all(options, &settings, &experiments, &cells, &out, &store)
    }
}

/// The stored results and the cells to do; with `--fresh` that is all of them.
fn to_do<'a>(
    options: &Options,
    store: &Store,
    cells: &'a [CellSpec],
) -> Result<(Results, Vec<&'a CellSpec>), Failure> {
    if options.fresh {
        return Ok((Results::new(), cells.iter().collect()));
    }
    run::load(store, cells)
}

fn plan(options: &Options, store: &Store, cells: &[CellSpec]) -> Result<u8, Failure> {
    let (_, missing) = to_do(options, store, cells)?;
    let text = match options.format {
        Format::Text => {
            let line = |spec: &&CellSpec| format!("{} {}\n", spec.key(), spec.label());
            missing.iter().map(line).collect::<Vec<_>>().concat()
        }
        Format::Json => {
            let cell = |spec: &&CellSpec| {
                serde_json::json!({
                    "hash": spec.key().to_string(),
                    "label": spec.label(),
                    "estimated_seconds": spec.cost(),
                })
            };
            let cells: Vec<serde_json::Value> = missing.iter().map(cell).collect();
            format!("{:#}\n", serde_json::Value::from(cells))
        }
    };
    output::print(&text);
    Ok(exit::DONE)
}

fn one_cell(
    options: &Options,
    store: &Store,
    cells: &[CellSpec],
    hash: &str,
) -> Result<u8, Failure> {
    let key: CellKey = hash.parse()?;
    let found = cells.iter().position(|spec| spec.key() == key);
    let index = found.ok_or_else(|| Failure::UnknownCell(hash.to_owned()))?;
    let cells = &cells[index..=index];
    files::make_writable(store.folder())?;
    let (_, missing) = to_do(options, store, cells)?;
    run::stop_on_interrupt();
    let seconds = run::run(store, missing, 1, options.fresh)?.get(&key).copied();
    let state = if seconds.is_none() { "stored" } else { "computed" };
    let (label, path) = (cells[0].label(), store.path(key));
    output::print(&match options.format {
        Format::Text => {
            let taken = seconds.map_or_else(
                || "was stored already".to_owned(),
                |seconds| format!("computed in {}", duration(seconds)),
            );
            format!("{key} {label}: {taken}\n")
        }
        Format::Json => {
            let path = path.display().to_string();
            let (hash, label) = (key.to_string(), label);
            format!(
                "{:#}\n",
                serde_json::json!({"hash": hash, "label": label, "state": state, "path": path})
            )
        }
    });
    Ok(exit::DONE)
}

/// `claims.json`.
#[derive(Debug, Serialize)]
struct ClaimsFile<'a> {
    schema: &'static str,
    profile: &'static str,
    claims: &'a [Claim],
}

/// What `--format json` prints: `claims.json` and where the rest lies.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    claims: ClaimsFile<'a>,
    report: String,
    manifest: String,
    tables: Vec<String>,
    figures: Vec<String>,
    cells_computed: usize,
    cells_reused: usize,
    seconds: f64,
}

fn all(
    options: &Options,
    settings: &Settings,
    experiments: &[Experiment],
    cells: &[CellSpec],
    out: &Path,
    store: &Store,
) -> Result<u8, Failure> {
    let start = Instant::now();
    let threads = options.run.threads();
    for folder in [out, store.folder(), &out.join("tables"), &out.join("figures")] {
        files::make_writable(folder)?;
        files::sweep(folder)?;
    }
    let ids: Vec<&'static str> = experiments.iter().map(|experiment| experiment.id()).collect();
    let mut manifest = Manifest::begin(settings, ids.clone(), threads);
    run::stop_on_interrupt();

    let (mut results, missing) = to_do(options, store, cells)?;
    let computed: Vec<&CellSpec> = missing.clone();
    if !missing.is_empty() {
        let (missing, reused, out) = (missing.len(), results.len(), shown(out));
        output::note(&format_args!(
            "{missing} cells to compute, {reused} stored; results go to {out}"
        ));
    }
    let seconds = run::run(store, missing, threads, options.fresh)?;
    // From the stored bytes, so that a later run that only collects cannot give anything else.
    for spec in computed {
        let path = store.path(spec.key());
        let reason = match store.load(spec)? {
            Loaded::Stored(result) => {
                results.insert(spec.key(), result);
                continue;
            }
            Loaded::Missing => "it was removed while this ran".to_owned(),
            Loaded::Damaged { reason, .. } => reason,
        };
        return Err(Failure::Unreadable { path, label: spec.label(), reason });
    }

    // What follows is from one process, whatever runs here at the same time.
    let _outputs = run::take_outputs(out)?;
    let claims = claims(experiments, settings, &results)?;
    let sections: Vec<Section> = experiments
        .iter()
        .map(|&experiment| write_experiment(experiment, settings, &results, out))
        .collect::<Result<_, Failure>>()?;
    let file =
        ClaimsFile { schema: "flatmin.claims/1", profile: settings.profile.id(), claims: &claims };
    files::write_json(&out.join("claims.json"), &file)?;
    manifest.cells_computed = seconds.len();
    manifest.cells_reused = cells.len() - seconds.len();
    manifest.seconds_per_cell = earlier_seconds(&out.join("manifest.json"), cells)?;
    let computed = seconds.iter().map(|(key, seconds)| (key.to_string(), *seconds));
    manifest.seconds_per_cell.extend(computed);
    manifest.peak_memory_bytes = peak_memory_bytes();
    manifest.seconds = start.elapsed().as_secs_f64();
    let path = out.join("manifest.json");
    files::write_own(&path, files::seal(&files::json(&path, &manifest)?).as_bytes())?;
    let sections = sections.into_iter().chain(verified::section(out)).collect();
    let report = report(&manifest, &claims, sections);
    files::write_own(&out.join("report.html"), report.to_html().as_bytes())?;
    files::write_own(&out.join("results.md"), crate::markdown::page(&report).as_bytes())?;

    output::print(&match options.format {
        Format::Text => text(&claims, &manifest, out),
        Format::Json => {
            let name = |name: &str| out.join(name).display().to_string();
            let printed = Printed {
                claims: file,
                report: name("report.html"),
                manifest: name("manifest.json"),
                tables: ids.iter().map(|id| name(&format!("tables/{id}.csv"))).collect(),
                figures: ids.iter().map(|id| name(&format!("figures/{id}.svg"))).collect(),
                cells_computed: manifest.cells_computed,
                cells_reused: manifest.cells_reused,
                seconds: manifest.seconds,
            };
            files::json(out, &printed)?
        }
    });
    let fails = claims.iter().any(|claim| claim.verdict == Verdict::Fails);
    Ok(if fails { exit::FAILS } else { exit::DONE })
}

/// Seconds of the cells that an earlier run computed, from its manifest. One that was changed is said and
/// left out: the times are lost, no result is.
///
/// # Errors
/// [`Failure::Written`] when a manifest is there but cannot be read.
fn earlier_seconds(path: &Path, cells: &[CellSpec]) -> Result<BTreeMap<String, f64>, Failure> {
    let bytes = match read_own(path, LARGEST_MANIFEST, "a manifest") {
        Ok(bytes) => bytes,
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let earlier = files::is_sealed(&bytes).then(|| seconds_per_cell(&bytes));
    let Some(Ok(mut seconds_per_cell)) = earlier else {
        output::warn(&format_args!(
            "{}: its checksum does not match its content; the times of earlier runs are left out",
            shown(path)
        ));
        return Ok(BTreeMap::new());
    };
    let wanted: BTreeSet<String> = cells.iter().map(|cell| cell.key().to_string()).collect();
    seconds_per_cell.retain(|key, _| wanted.contains(key));
    Ok(seconds_per_cell)
}

/// The times in a manifest, whatever its checksum.
pub(crate) fn seconds_per_cell(bytes: &[u8]) -> serde_json::Result<BTreeMap<String, f64>> {
    #[derive(Deserialize)]
    struct Earlier {
        seconds_per_cell: BTreeMap<String, f64>,
    }
    serde_json::from_slice(bytes).map(|Earlier { seconds_per_cell }| seconds_per_cell)
}

/// Writes the table, its schema and the figure of an experiment; gives its part of the report.
fn write_experiment(
    experiment: Experiment,
    settings: &Settings,
    results: &Results,
    out: &Path,
) -> Result<Section, Failure> {
    let id = experiment.id();
    let (table_file, figure_file) = (format!("tables/{id}.csv"), format!("figures/{id}.svg"));
    let presentation = experiment.present(settings, results)?;
    let path = out.join(&table_file);
    let reason = |error: &dyn std::error::Error| error.to_string();
    let csv = presentation
        .table
        .to_csv()
        .map_err(|error| Failure::Table { path: path.clone(), reason: reason(&error) })?;
    files::write_own(&path, csv.as_bytes())?;
    let schema = presentation.table.schema_json(id);
    files::write_own(&out.join(format!("tables/{id}.schema.json")), schema.as_bytes())?;
    let svg = presentation.figure.to_svg();
    files::write_own(&out.join(&figure_file), svg.as_bytes())?;
    let summary = presentation.summary;
    Ok(Section {
        id: id.to_owned(),
        title: experiment.title().to_owned(),
        shows: experiment.shows().to_owned(),
        how: experiment.how(settings),
        svg,
        table_file,
        headers: summary.columns.iter().map(|column| column.name.to_owned()).collect(),
        rows: summary
            .rows
            .iter()
            .map(|row| row.iter().map(Value::to_short_field).collect())
            .collect(),
        figure_file,
    })
}

fn report(manifest: &Manifest, claims: &[Claim], sections: Vec<Section>) -> Report {
    let unknown = || "unknown".to_owned();
    let host = format!(
        "{}, {} cores, {}",
        manifest.host.cpu.clone().unwrap_or_else(unknown),
        manifest.host.cores,
        manifest.host.system
    );
    let seeds = match manifest.seeds {
        1 => format!("1 (seed {})", manifest.seed),
        n => format!("{n} (from seed {})", manifest.seed),
    };
    let cells = format!("{} computed, {} reused", manifest.cells_computed, manifest.cells_reused);
    let cell_time = duration(manifest.seconds_per_cell.values().sum());
    // A run that was killed, and `--cell`, leave no times.
    let (timed, all) =
        (manifest.seconds_per_cell.len(), manifest.cells_computed + manifest.cells_reused);
    let cell_time = if timed < all {
        format!("{cell_time} for {timed} of {all}, unknown for the others")
    } else {
        cell_time
    };
    let facts = [
        ("Profile", manifest.profile.to_owned()),
        ("Seeds", seeds),
        ("Command", manifest.command_line.clone()),
        ("Version", manifest.version.to_owned()),
        ("Commit", manifest.commit.clone().unwrap_or_else(unknown)),
        ("Compiler", manifest.toolchain.map_or_else(unknown, str::to_owned)),
        ("Host", host),
        ("Threads", manifest.threads.to_string()),
        ("Vector instructions", manifest.simd_path.to_owned()),
        ("Cells", cells),
        ("Started", manifest.started.clone()),
        ("Time", duration(manifest.seconds)),
        ("Time of all cells on one core", cell_time),
    ];
    Report {
        title: "flatmin: SGD, stability and the flatness of minima".to_owned(),
        summary: "flatmin reproduces “The Implicit Regularization of Dynamical Stability in \
                  Stochastic Gradient Descent” by Lei Wu and Weijie J. Su (ICML 2023): minima at \
                  which SGD is stable are flat, in a sense that depends on the learning rate; for \
                  two-layer ReLU networks and diagonal linear networks flatness bounds a norm of \
                  the parameters, and the norm bounds the generalisation gap.\n\nEvery claim \
                  below was tested on the runs of this reproduction. The figures show the same \
                  runs; their data are beside this page."
            .to_owned(),
        facts: facts.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        claims: claims.iter().map(report_claim).collect(),
        sections,
    }
}

fn report_claim(claim: &Claim) -> ReportClaim {
    let measured = claim.measured.iter().map(|measured| {
        let [median, minimum, maximum] = measured.display();
        let (quantity, runs) = (measured.quantity.clone(), measured.runs);
        MeasuredRow { quantity, median, minimum, maximum, runs }
    });
    ReportClaim {
        id: claim.id.clone(),
        sentence: claim.sentence.clone(),
        source: claim.source.clone(),
        predicate: claim.predicate.clone(),
        measured: measured.collect(),
        verdict: claim.verdict.word().to_owned(),
        note: claim.note.clone(),
    }
}

/// The claims for a reader, a line each, and where the rest is.
fn text(claims: &[Claim], manifest: &Manifest, out: &Path) -> String {
    let mut text = String::new();
    for claim in claims {
        let verdict = match claim.verdict {
            Verdict::Fails => "FAILS",
            verdict => verdict.word(),
        };
        let measured: Vec<String> = claim.measured.iter().take(2).map(measured_text).collect();
        let line = format!("{:<4} {verdict:<9}  {}", claim.id, claim.sentence);
        text += &without_markup(&line);
        if !measured.is_empty() {
            text += &without_markup(&format!(" ({})", measured.join("; ")));
        }
        text.push('\n');
        if claim.verdict == Verdict::Fails {
            text += &without_markup(&format!("     tested: {}\n", claim.predicate));
            if !claim.note.is_empty() {
                text += &without_markup(&format!("     {}\n", claim.note));
            }
        }
    }
    let count = |verdict| claims.iter().filter(|claim| claim.verdict == verdict).count();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\n{} claims: {} hold, {} fail, {} undecided\nreport: {}\ncells: {} computed, {} reused; {}",
        claims.len(),
        count(Verdict::Holds),
        count(Verdict::Fails),
        count(Verdict::Undecided),
        shown(&out.join("report.html")),
        manifest.cells_computed,
        manifest.cells_reused,
        duration(manifest.seconds)
    );
    text
}

fn measured_text(measured: &flatmin_experiments::Measured) -> String {
    let [median, minimum, maximum] = measured.display();
    if minimum == maximum {
        format!("{} {median}", measured.quantity)
    } else {
        format!("{} {median}, from {minimum} to {maximum}", measured.quantity)
    }
}

/// Text with `_{…}` subscripts written plainly: `λ_{max}` becomes `λ_max`.
fn without_markup(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("_{") {
        let (inside, after) = after.split_once('}').unwrap_or((after, ""));
        plain.extend([before, "_", inside]);
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::without_markup;

    #[test]
    fn subscripts_are_plain_on_a_terminal() {
        assert_eq!(without_markup("λ_{max} ≤ 2/η_{0}, a_b"), "λ_max ≤ 2/η_0, a_b");
        assert_eq!(without_markup("open _{x"), "open _x");
    }
}
