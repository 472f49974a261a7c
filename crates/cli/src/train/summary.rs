//! The summary of a run that has ended, `run.json`.

use clap::ValueEnum as _;
use flatmin_host::{
    FileError, Format, is_printable, print, read_own, said, seal, shown, significant, to_json,
};
use flatmin_linalg::Stream;
use flatmin_optim::{Outcome, Trainer};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::folder::{Folder, MAX_SUMMARY_BYTES, PARAMETERS, RUN, ResultDigests};
use super::measure::Row;
use super::problem::{Digests, Problem};
use crate::column::Column;
use crate::failure::Failure;
use crate::network::{Network, ParameterArray};
use crate::words::{DIGITS, table};

/// The format of the summary.
const SUMMARY_SCHEMA: &str = "flatmin.train/1";

#[derive(Serialize)]
struct Summary<'a> {
    schema: &'a str,
    version: &'a str,
    outcome: Outcome,
    steps: u64,
    clipped_steps: u64,
    sample_count: usize,
    parameter_count: usize,
    digests: &'a Digests,
    last: LastRow<'a>,
    files: ResultDigests,
}

/// The last row of the metrics table, by column.
struct LastRow<'a>(&'a [Column], &'a Row);

impl Serialize for LastRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(columns, row) = self;
        let mut map = serializer.serialize_map(Some(1 + columns.len()))?;
        map.serialize_entry("step", &row.step)?;
        for (column, cell) in columns.iter().zip(&row.cells) {
            map.serialize_entry(column, cell)?;
        }
        map.end()
    }
}

/// Writes the final parameters, then the summary, which marks the run as ended.
pub(super) fn write(
    trainer: &Trainer<'_, dyn Network, Stream>,
    folder: &Folder,
    problem: &Problem,
    network: &dyn Network,
    (outcome, last): (Outcome, &Row),
) -> Result<(), Failure> {
    let parameters = trainer.parameters();
    let mut rest = parameters.as_slice();
    let names = network.arrays();
    let mut arrays = Vec::new();
    for ParameterArray { name, shape, .. } in &names {
        let (values, others) = rest.split_at(shape.iter().product());
        rest = others;
        arrays.push(flatmin_arrays::NamedArray { name, shape: shape.clone(), values });
    }
    let bytes = flatmin_arrays::npz_bytes(&arrays);
    let bytes = bytes.map_err(FileError::at(&folder.file(PARAMETERS)))?;
    let files = folder.result_digests(&bytes)?;
    folder.write(PARAMETERS, &bytes)?;

    let summary = Summary {
        schema: SUMMARY_SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        outcome,
        steps: trainer.step(),
        clipped_steps: trainer.total().clipped_steps,
        sample_count: problem.data.train.sample_count(),
        parameter_count: parameters.len(),
        digests: &problem.digests,
        last: LastRow(&problem.columns, last),
        files,
    };
    let text = to_json(&folder.file(RUN), &summary)?;
    folder.write(RUN, seal(&text).as_bytes())
}

/// Prints how an ended run ended.
pub(super) fn print_summary(format: Format, folder: &Folder) -> Result<(), Failure> {
    let path = folder.file(RUN);
    let bytes = read_own(&path, MAX_SUMMARY_BYTES, "the summary of a run")?;
    let (json, run) = read(bytes).map_err(|reason| Failure::input(&path, reason))?;
    let text = match format {
        Format::Json => json,
        Format::Text => {
            let folder = shown(&folder.path);
            describe(&run) + &format!("{folder}: metrics.csv, parameters.npz, run.json\n")
        }
    };
    Ok(print(&text)?)
}

/// Reads a summary, as text and as JSON; the reason if it is not one.
pub(super) fn read(bytes: Vec<u8>) -> Result<(String, Value), String> {
    let invalid = |what: &str| format!("is not a summary of a run: {}", said(&what));
    let text = String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8 text"))?;
    let run: Value = serde_json::from_str(&text).map_err(|error| invalid(&error.to_string()))?;
    if run["schema"] != SUMMARY_SCHEMA {
        return Err(invalid(&format!("its format is not {SUMMARY_SCHEMA}")));
    }
    // It is printed as it is. No summary that flatmin has written holds control characters.
    if !text.chars().all(|character| character == '\n' || is_printable(character)) {
        return Err(invalid("it holds control characters"));
    }
    Ok((text, run))
}

/// The end of a run in words.
pub(super) fn describe(run: &Value) -> String {
    let outcome = match run["outcome"].as_str() {
        Some("converged") => "converged: the stopping rule is met",
        Some("diverged") => "diverged",
        _ => "took all its steps",
    };
    let steps = |key: &str| run[key].as_u64().unwrap_or(0);
    let clipped = match steps("clipped_steps") {
        0 => String::new(),
        clipped => format!(" ({clipped} clipped)"),
    };
    let mut rows = Vec::new();
    for column in Column::value_variants() {
        let value = &run["last"][column.name()];
        if *column != Column::ClippedSteps && !value.is_null() {
            let number = value.as_f64().unwrap_or(f64::INFINITY);
            rows.push(vec![column.name(), significant(number, DIGITS)]);
        }
    }
    format!("{outcome} after {} steps{clipped}\n{}", steps("steps"), table(&[], &rows))
}
