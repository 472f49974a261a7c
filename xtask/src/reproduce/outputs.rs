//! The outputs of a reproduction: tables, figures, claims, manifest and report.

use std::fmt::Write as _;
use std::path::Path;

use flatmin_experiments::cell::Results;
use flatmin_experiments::table::Value;
use flatmin_experiments::{Claim, Experiment, Measured, Settings, Verdict, add_intervals, claims};
use flatmin_figures::plain;
use flatmin_host::{
    Exit, FileError, Format, SealedFile as _, duration, print, print_json, shown, to_json,
    write_own,
};
use serde::Serialize;

use super::manifest::Manifest;
use crate::failure::Failure;
use crate::report::{Report, Section};
use crate::verified;

/// The experiments that the outputs cover, with their results.
pub(super) struct Included<'a> {
    pub(super) experiments: &'a [&'static Experiment],
    pub(super) settings: &'a Settings,
    /// The results of all their cells.
    pub(super) results: &'a Results,
}

/// `claims.json`.
#[derive(Debug, Serialize)]
struct ClaimsFile<'a> {
    schema: &'static str,
    profile: &'static str,
    claims: &'a [Claim],
}

/// The output of `--format json`: `claims.json` and the paths of the rest.
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

/// Writes all outputs, prints the claims and gives the exit status.
///
/// # Errors
/// [`Failure`] when a file cannot be written.
pub(super) fn write_outputs(
    included: &Included<'_>,
    manifest: &Manifest,
    out: &Path,
    format: Format,
) -> Result<Exit, Failure> {
    let &Included { experiments, settings, results } = included;
    let mut claims = claims(experiments, settings, results)?;
    add_intervals(&mut claims, experiments, settings, results)?;
    let sections = experiments.iter().map(|experiment| write_experiment(experiment, included, out));
    let mut sections = sections.collect::<Result<Vec<Section>, Failure>>()?;
    sections.extend(verified::section(out));
    let file = ClaimsFile {
        schema: "flatmin.claims/1",
        profile: settings.profile.name(),
        claims: &claims,
    };
    let path = out.join("claims.json");
    write_own(&path, to_json(&path, &file)?.as_bytes())?;
    let path = out.join("manifest.json");
    let text = manifest.to_sealed().map_err(|error| FileError::at(&path)(error.into()))?;
    write_own(&path, text.as_bytes())?;
    let report = report(manifest, &claims, sections);
    write_own(&out.join("report.html"), report.to_html().as_bytes())?;
    write_own(&out.join("results.md"), crate::markdown::page(&report).as_bytes())?;
    let holds = claims.iter().all(|claim| claim.verdict != Verdict::Fails);
    match format {
        Format::Text => print(&text_of(&claims, manifest, out))?,
        Format::Json => {
            let name = |name: &str| out.join(name).display().to_string();
            let names = |folder: &str, extension: &str| {
                let ids = experiments.iter().map(|experiment| experiment.id);
                ids.map(|id| name(&format!("{folder}/{id}.{extension}"))).collect()
            };
            print_json(&Printed {
                claims: file,
                report: name("report.html"),
                manifest: name("manifest.json"),
                tables: names("tables", "csv"),
                figures: names("figures", "svg"),
                cells_computed: manifest.cells_computed,
                cells_reused: manifest.cells_reused,
                seconds: manifest.seconds,
            })?;
        }
    }
    Ok(Exit::of_check(holds))
}

/// Writes the table, its schema and the figure of an experiment. Gives its section of the report.
fn write_experiment(
    experiment: &Experiment,
    included: &Included<'_>,
    out: &Path,
) -> Result<Section, Failure> {
    let &Included { settings, results, .. } = included;
    let id = experiment.id;
    let (table_file, figure_file) = (format!("tables/{id}.csv"), format!("figures/{id}.svg"));
    let presentation = experiment.present(settings, results)?;
    let path = out.join(&table_file);
    let csv = presentation.table.to_csv();
    let csv = csv.map_err(|error| FileError::content(&path, error.to_string()))?;
    write_own(&path, csv.as_bytes())?;
    let schema = presentation.table.schema_json(id);
    write_own(&out.join(format!("tables/{id}.schema.json")), schema.as_bytes())?;
    let svg = presentation.figure.to_svg();
    write_own(&out.join(&figure_file), svg.as_bytes())?;
    let summary = presentation.summary;
    let row = |row: &Vec<Value>| row.iter().map(Value::to_short_field).collect();
    let rows = summary.rows.iter().map(row).collect();
    Ok(Section {
        id: id.to_owned(),
        title: experiment.title.to_owned(),
        shows: experiment.shows.to_owned(),
        how: experiment.how(settings),
        svg,
        table_file,
        headers: summary.columns.iter().map(|column| column.name.to_owned()).collect(),
        rows,
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
    let mut cell_time = duration(manifest.seconds_per_cell.values().sum());
    // A run that was killed leaves no times, nor does `--cell`. Writing to a String cannot fail, here
    // and below.
    let timed = manifest.seconds_per_cell.len();
    let all = manifest.cells_computed + manifest.cells_reused;
    if timed < all {
        let _ = write!(cell_time, " for {timed} of {all}, unknown for the others");
    }
    let facts = [
        ("Profile", manifest.profile.clone()),
        ("Seeds", seeds),
        ("Command", manifest.command_line.clone()),
        ("Version", manifest.version.clone()),
        ("Commit", manifest.commit.clone().unwrap_or_else(unknown)),
        ("Compiler", manifest.toolchain.clone().unwrap_or_else(unknown)),
        ("Host", host),
        ("Threads", manifest.threads.to_string()),
        ("Vector instructions", manifest.simd_path.clone()),
        ("Cells", cells),
        ("Started", manifest.started.clone()),
        ("Time", duration(manifest.seconds)),
        ("Time of all cells on one core", cell_time),
    ];
    Report {
        title: "flatmin: SGD, stability and the flatness of minima".to_owned(),
        lead: "relu_dynamics".to_owned(),
        summary: "An optimizer can only stay at a minimum that is flat enough for its learning \
                  rate: gradient descent where the largest eigenvalue of the Gauss–Newton matrix \
                  has λ_{max} ≤ 2/η, SGD where its whole trace has tr G ≤ 2/η, or more exactly \
                  where η ≤ η*. The trace is a norm of the network, so that SGD at a large learning \
                  rate finds functions of small norm, which generalise; the largest eigenvalue is \
                  a much weaker norm, and gradient descent does not find them. The figure shows it \
                  happen: the loss collapses when the sharpness has come down to 2/η.\n\nThis page tests “The Implicit Regularization of Dynamical Stability in \
                  Stochastic Gradient Descent” by Lei Wu and Weijie J. Su (ICML 2023), and how far \
                  it reaches. Every point of a figure says what it is when a pointer rests on it."
            .to_owned(),
        facts: facts.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        claims: claims.to_vec(),
        sections,
    }
}

/// One line per claim, then the counts and the path of the report, for a reader.
fn text_of(claims: &[Claim], manifest: &Manifest, out: &Path) -> String {
    let mut text = String::new();
    for claim in claims {
        let fails = claim.verdict == Verdict::Fails;
        let verdict = if fails { "FAILS" } else { claim.verdict.name() };
        let measured: Vec<String> = claim.measured.iter().take(2).map(measured_text).collect();
        let _ = write!(text, "{:<4} {verdict:<9}  {}", claim.id, claim.sentence);
        if !measured.is_empty() {
            let _ = write!(text, " ({})", measured.join("; "));
        }
        text.push('\n');
        if fails {
            let _ = writeln!(text, "     tested: {}", claim.predicate);
            if !claim.note.is_empty() {
                let _ = writeln!(text, "     {}", claim.note);
            }
        }
    }
    let mut text = plain(&text);
    let count = |verdict| claims.iter().filter(|claim| claim.verdict == verdict).count();
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

fn measured_text(measured: &Measured) -> String {
    let [median, minimum, maximum] = measured.display();
    if minimum == maximum {
        format!("{} {median}", measured.quantity)
    } else {
        format!("{} {median}, from {minimum} to {maximum}", measured.quantity)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use flatmin_experiments::{Claim, Measured, Verdict};

    use super::{Manifest, text_of};

    #[test]
    fn subscripts_are_plain_on_a_terminal() {
        let claim = Claim {
            id: "C1".to_owned(),
            experiment: String::new(),
            sentence: "λ_{max} ≤ 2/η_{0}, a_b".to_owned(),
            source: String::new(),
            predicate: "x_{1} < 2".to_owned(),
            measured: vec![Measured::new("y_{2}", &[1.0])],
            margin: None,
            runs: 1,
            verdict: Verdict::Fails,
            note: "see z_{3}".to_owned(),
        };
        let text = text_of(&[claim], &Manifest::default(), Path::new("out_{4}"));
        let claim =
            "C1   FAILS      λ_max ≤ 2/η_0, a_b (y_2 1)\n     tested: x_1 < 2\n     see z_3\n\n";
        assert!(text.starts_with(claim) && text.contains("out_{4}/report.html"), "{text}");
    }
}
