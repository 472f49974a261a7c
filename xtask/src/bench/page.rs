//! The results for a reader: a table on standard output, and the tables of `docs/performance.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use flatmin_host::{Align, aligned, write};

use super::curves::{self, CURVES};
use super::definitions::{BENCHES, PEAK, TABLES};
use super::record::{BenchFile, Record};
use super::units::{digits, memory, time};
use crate::failure::Failure;
use crate::markdown::line;
use crate::program::XTASK;

const PAGE: &str = "docs/performance.md";

/// The figure of all curves.
const FIGURE: &str = "docs/figures/cost_curves.svg";

/// The name of the curves in the comments that mark them.
const CURVES_NAME: &str = "curves";

fn part_of_limit(record: &Record) -> String {
    let part = |limit: f64| format!("{:.0} %", 100.0 * limit / record.seconds);
    record.limit_seconds.map_or_else(String::new, part)
}

/// The table on standard output.
pub(crate) fn text(file: &BenchFile) -> String {
    if file.benches.is_empty() {
        return curves::text(&file.curves);
    }
    let headers = "benchmark|size|time|limit|reached|memory|fastest peer|its time|ratio";
    let mut rows: Vec<Vec<String>> = vec![headers.split('|').map(str::to_owned).collect()];
    for record in &file.benches {
        let peers = record.peers.iter();
        let fastest = peers.min_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds));
        let mut row = vec![
            record.name.to_owned(),
            record.size.to_owned(),
            time(record.seconds),
            record.limit_seconds.map_or_else(String::new, time),
            part_of_limit(record),
            memory(record.memory_bytes),
        ];
        row.extend(fastest.map_or_else(Default::default, |(name, peer)| {
            [(*name).to_owned(), time(peer.seconds), digits(peer.ratio)]
        }));
        rows.push(row);
    }
    // A column without an entry is left out.
    let columns = (0..rows[0].len()).filter(|c| rows[1..].iter().any(|row| !row[*c].is_empty()));
    let columns: Vec<usize> = columns.collect();
    let lines = rows.iter().map(|row| columns.iter().map(|&c| row[c].as_str()).collect());
    let mut text = aligned(&lines.collect::<Vec<Vec<&str>>>(), |_| Align::Left);
    let peak = file.limits.iter().find(|limit| limit.name == PEAK);
    if let Some(peak) = peak {
        let rate = digits(1e-9 / peak.seconds);
        let _ = writeln!(text, "\nOne core multiplies and adds at up to {rate} GFlop/s.");
    }
    text
}

/// Reads `docs/performance.md`. This is done before anything is measured, so that a page that
/// cannot be updated is reported at once.
///
/// # Errors
/// [`Failure`] when it cannot be read or a table has no place in it.
pub(crate) fn read() -> Result<String, Failure> {
    let page = fs::read_to_string(PAGE).map_err(Failure::file(Path::new(PAGE)))?;
    match names().find(|name| place(&page, name).is_none()) {
        Some(name) => Err(Failure::Program(format!("{PAGE}: no {} … {END}", begin(name)))),
        None => Ok(page),
    }
}

/// Writes the tables whose benchmarks were all run into the page.
///
/// # Errors
/// [`Failure`] when it cannot be written.
pub(crate) fn update(page: String, file: &BenchFile) -> Result<(), Failure> {
    let page = with_tables(page, file);
    if file.curves.len() == CURVES.len() {
        let figure = curves::figure(&file.curves).to_svg();
        write(Path::new(FIGURE), figure.as_bytes())?;
    }
    Ok(write(Path::new(PAGE), page.as_bytes())?)
}

const END: &str = "<!-- /bench -->";

/// The names of all tables that are written into the page.
fn names() -> impl Iterator<Item = &'static str> {
    TABLES.into_iter().chain([CURVES_NAME])
}

fn begin(name: &str) -> String {
    format!("<!-- bench: {name} -->\n")
}

/// The range of the table of this name in the page, without the comments that mark it.
fn place(page: &str, name: &str) -> Option<(usize, usize)> {
    let begin = begin(name);
    let from = page.find(&begin)? + begin.len();
    Some((from, from + page[from..].find(END)?))
}

fn with_tables(mut page: String, file: &BenchFile) -> String {
    for table in TABLES {
        let of_table = |record: &&Record| record.bench.table == table;
        let records: Vec<&Record> = file.benches.iter().filter(of_table).collect();
        let wanted = BENCHES.iter().filter(|bench| bench.table == table).count();
        let text = || origin(file) + &markdown(&records);
        page = with_table(page, table, [records.len(), wanted], text);
    }
    let text = || origin(file) + &curves::markdown(&file.curves);
    with_table(page, CURVES_NAME, [file.curves.len(), CURVES.len()], text)
}

/// The page with this text in the place of a table, if all that the table shows was run.
fn with_table(
    mut page: String,
    name: &str,
    [run, wanted]: [usize; 2],
    text: impl FnOnce() -> String,
) -> String {
    if run == wanted {
        if let Some((from, to)) = place(&page, name) {
            page.replace_range(from..to, &text());
        }
    } else if run > 0 {
        XTASK.warn(&format_args!("{PAGE}: table {name} stays: not all of it was run"));
    }
    page
}

/// The line with the machine, the compiler and the date of the measurements.
fn origin(file: &BenchFile) -> String {
    let host = &file.host;
    format!(
        "\n{}, {} cores, {}; {}; {}.\n\n",
        host.host.cpu.as_deref().unwrap_or("unknown processor"),
        host.host.cores,
        host.instruction_set,
        file.toolchain.unwrap_or("unknown compiler"),
        file.started.split('T').next().unwrap_or(""),
    )
}

fn markdown(records: &[&Record]) -> String {
    let mut headers = vec!["benchmark", "size", "median", "smallest", "limit", "reached"];
    if records.iter().any(|record| record.memory_bytes.is_some()) {
        headers.push("memory");
    }
    let mut text = line(&headers) + &rule(headers.len());
    for record in records {
        let mut row = vec![
            format!("`{}`", record.name),
            record.size.to_owned(),
            time(record.seconds),
            time(record.minimum),
            record.limit_seconds.map_or_else(String::new, time),
            part_of_limit(record),
            memory(record.memory_bytes),
        ];
        row.truncate(headers.len());
        text += &line(&row);
    }
    // Benchmarks with the same limit share a sentence, in the order of the first of them.
    let mut limits: Vec<(&str, Vec<String>)> = Vec::new();
    for record in records {
        let (Some(words), name) = (record.limit, format!("`{}`", record.name)) else { continue };
        match limits.iter_mut().find(|(known, _)| *known == words) {
            Some((_, names)) => names.push(name),
            None => limits.push((words, vec![name])),
        }
    }
    if !limits.is_empty() {
        let limits = limits.iter().map(|(words, names)| format!("{}: {words}", names.join(", ")));
        let _ = writeln!(text, "\nLimits: {}.", limits.collect::<Vec<_>>().join("; "));
    }
    if records.iter().any(|record| !record.peers.is_empty()) {
        let headers = ["benchmark", "library", "median", "times flatmin's", "difference"];
        text.extend(["\n", &line(&headers), &rule(headers.len())]);
    }
    for record in records {
        let mut peers: Vec<_> = record.peers.iter().collect();
        peers.sort_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds));
        text.extend(peers.into_iter().map(|(name, peer)| {
            line(&[
                format!("`{}`", record.name),
                format!("{} (`{name}`)", peer.version),
                time(peer.seconds),
                digits(peer.ratio),
                format!("{:.0e}", peer.agrees),
            ])
        }));
    }
    text + "\n"
}

/// The line below the headers of a table.
pub(super) fn rule(columns: usize) -> String {
    "|---".repeat(columns) + "|\n"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flatmin_host::Machine;

    use super::{names, place, text, with_tables};
    use crate::bench::definitions::{BENCHES, Bench};
    use crate::bench::peers::PeerTime;
    use crate::bench::record::{BenchFile, BenchHost, Record};

    #[test]
    fn every_table_has_its_place() {
        let page = include_str!("../../../docs/performance.md");
        for name in names() {
            assert!(place(page, name).is_some(), "{name}");
        }
        assert_eq!(place("<!-- bench: steps -->\nold", "steps"), None);
        let page = "a\n<!-- bench: steps -->\nold\n<!-- /bench -->";
        assert_eq!(place(page, "steps"), Some((24, 28)));
    }

    fn record(bench: &'static Bench) -> Record {
        let peer = |seconds: f64| PeerTime {
            seconds,
            minimum: seconds,
            ratio: seconds / 2e-6,
            version: "made-up 1.0".to_owned(),
            agrees: 3e-15,
        };
        let peers = BTreeMap::from([("slow", peer(1.0)), ("fast", peer(0.5))]);
        Record {
            name: bench.name,
            size: bench.size,
            seconds: 2e-6,
            minimum: 1e-6,
            limit_seconds: bench.limit.as_ref().map(|_| 1.5e-6),
            limit: bench.limit.as_ref().map(|limit| limit.words),
            memory_bytes: None,
            peers: if bench.work.is_some() { peers } else { BTreeMap::new() },
            bench,
        }
    }

    fn file(is_run: impl Fn(&Bench) -> bool) -> BenchFile {
        let host = Machine { cpu: Some("a processor".to_owned()), cores: 2, system: String::new() };
        BenchFile {
            schema: "flatmin.bench/1",
            version: "",
            commit: None,
            profile: "release",
            toolchain: Some("a compiler"),
            started: "2026-01-02T03:04:05Z".to_owned(),
            quick: false,
            host: BenchHost { host, instruction_set: "AVX2" },
            benches: BENCHES.iter().filter(|bench| is_run(bench)).map(record).collect(),
            limits: Vec::new(),
            curves: Vec::new(),
        }
    }

    #[test]
    fn only_what_was_all_run_is_written_and_nothing_beside_it() {
        let page = "# P\n\n<!-- bench: steps -->\nold\n<!-- /bench -->\n\nby hand\n\n\
                    <!-- bench: curvature -->\nolder\n<!-- /bench -->\n";
        let file = file(|bench| bench.table == "steps" || bench.name == "metrics_relu_300");
        let written = with_tables(page.to_owned(), &file);
        let (head, rest) = written.split_once("<!-- bench: steps -->\n").unwrap();
        assert_eq!(head, "# P\n\n");
        let (table, rest) = rest.split_once("<!-- /bench -->").unwrap();
        assert!(rest.starts_with("\n\nby hand\n") && rest.contains("\nolder\n"), "{rest}");
        assert!(table.starts_with("\na processor, 2 cores, AVX2; a compiler; 2026-01-02.\n"));
        let row =
            "\n| `sgd_step_relu` | m = d = 100, n = 300 | 2.00 µs | 1.00 µs | 1.50 µs | 75 % |\n";
        assert!(table.contains(row) && !table.contains("old"), "{table}");
        let peer = "| `sgd_step_relu` | made-up 1.0 (`fast`) | 500 ms | 250000 | 3e-15 |\n";
        assert!(table.contains(peer), "{table}");
        assert!(table.contains("\nLimits: `sgd_step_relu`: 40·10³ operations"), "{table}");
        // Writing it again changes nothing.
        assert_eq!(with_tables(written.clone(), &file), written);
    }

    #[test]
    fn a_limit_that_several_share_is_said_once() {
        let file = file(|bench| bench.table == "thresholds");
        let page = "<!-- bench: thresholds -->\n<!-- /bench -->".to_owned();
        let written = with_tables(page, &file);
        let names = "\nLimits: `threshold_300`, `threshold_1000`, `threshold_2000`, ";
        assert!(written.contains(names), "{written}");
        assert_eq!(written.matches("its products with M").count(), 1);
    }

    #[test]
    fn the_table_has_the_fastest_peer_and_no_empty_column() {
        let text = text(&file(|bench| bench.name == "sgd_step_relu"));
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split("  ").filter(|w| !w.is_empty()).collect()).collect();
        assert_eq!(
            lines[1][4..].iter().map(|w| w.trim()).collect::<Vec<_>>(),
            ["75 %", "fast", "500 ms", "250000"]
        );
        let text = super::text(&file(|bench| bench.name == "start_up"));
        assert!(!text.contains("limit") && !text.contains("peer"), "{text}");
    }
}
