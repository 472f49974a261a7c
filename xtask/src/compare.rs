//! `cargo xtask compare`: two reproductions side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use flatmin_experiments::short_number;
use flatmin_figures::plain;
use flatmin_host::{Align, Exit, FileError, aligned, print, read_own};
use serde::Deserialize;

use crate::failure::Failure;
use crate::markdown::line;

/// Largest `claims.json` that is read, in bytes. That of the paper takes 60 kB.
const MAX_BYTES: u64 = 16 << 20;

/// A change of a quantity without a spread that counts as a move.
const STEP: f64 = 0.05;

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// The folder of a reproduction.
    first: PathBuf,
    /// The folder of another one.
    second: PathBuf,
    /// Print every quantity, and not only those that moved.
    #[arg(long)]
    all: bool,
}

/// `claims.json`, as far as it is compared.
#[derive(Debug, Deserialize)]
struct ClaimsFile {
    claims: Vec<JudgedClaim>,
}

#[derive(Debug, Deserialize)]
struct JudgedClaim {
    id: String,
    verdict: String,
    measured: Vec<Quantity>,
    /// Absent in the files of older versions.
    #[serde(default)]
    margin: Option<Margin>,
}

#[derive(Debug, Clone, Deserialize)]
struct Margin {
    quantity: String,
    value: f64,
    limit: f64,
    relative: f64,
}

/// Arguments of `margins`.
#[derive(Debug, Args)]
pub(crate) struct MarginsArguments {
    /// Folders of reproductions, such as those of several seeds.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
}

/// Prints the verdict of every claim in every folder with its narrowest margin, as Markdown.
///
/// # Errors
/// [`Failure`] when a folder has no claims.
pub(crate) fn margins(arguments: &MarginsArguments) -> Result<Exit, Failure> {
    let name = |folder: &PathBuf| {
        folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    let names: Vec<String> = arguments.folders.iter().map(name).collect();
    let judged = arguments.folders.iter().map(|folder| claims(folder));
    let judged = judged.collect::<Result<Vec<_>, Failure>>()?;
    print(&plain(&margin_table(&names, &judged)))?;
    Ok(Exit::Done)
}

/// A row for every claim: its verdict and margin in every folder, and the narrowest of all.
fn margin_table(names: &[String], judged: &[BTreeMap<Place, JudgedClaim>]) -> String {
    let head = ["claim".to_owned()].into_iter().chain(names.iter().cloned());
    let head: Vec<String> = head.chain(["narrowest".to_owned()]).collect();
    let mut table = line(&head) + &line(&vec!["---"; head.len()]);
    let places: BTreeSet<&Place> = judged.iter().flat_map(BTreeMap::keys).collect();
    for place in places {
        let found: Vec<Option<&JudgedClaim>> =
            judged.iter().map(|claims| claims.get(place)).collect();
        let cell = |claim: Option<&JudgedClaim>| {
            let Some(claim) = claim else { return "–".to_owned() };
            let margin = claim.margin.as_ref();
            let margin =
                margin.map_or_else(String::new, |m| format!(" {:.0} %", 100.0 * m.relative));
            format!("{}{margin}", claim.verdict)
        };
        let margins = found.iter().flatten().filter_map(|claim| claim.margin.as_ref());
        let narrowest = margins.min_by(|a, b| a.relative.total_cmp(&b.relative));
        let narrowest = narrowest.map_or_else(String::new, |m| {
            format!("{}: {} of {}", m.quantity, short_number(m.value), short_number(m.limit))
        });
        let cells = [place.1.clone()].into_iter().chain(found.iter().copied().map(cell));
        let cells: Vec<String> =
            cells.chain([narrowest]).map(|cell| cell.replace('|', "\\|")).collect();
        table += &line(&cells);
    }
    table
}

#[derive(Debug, Clone, Deserialize)]
struct Quantity {
    #[serde(rename = "quantity")]
    name: String,
    median: Option<f64>,
    minimum: Option<f64>,
    maximum: Option<f64>,
}

impl Quantity {
    fn holds(&self, value: f64) -> bool {
        let (Some(low), Some(high)) = (self.minimum, self.maximum) else { return false };
        let slack = if low < high { 0.0 } else { STEP * low.abs() };
        (low - slack..=high + slack).contains(&value)
    }

    /// True if neither median lies in the spread of the other, or one of them is missing.
    fn has_moved_to(&self, other: &Self) -> bool {
        match (self.median, other.median) {
            (None, None) => false,
            (Some(first), Some(second)) => !self.holds(second) && !other.holds(first),
            _ => true,
        }
    }

    /// The median with the spread.
    fn words(&self) -> String {
        let (Some(median), Some(low), Some(high)) = (self.median, self.minimum, self.maximum)
        else {
            return "–".to_owned();
        };
        let median = short_number(median);
        if low < high {
            format!("{median} [{}, {}]", short_number(low), short_number(high))
        } else {
            median
        }
    }
}

/// Runs the task and gives the exit status: 1 if a verdict differs or a quantity moved.
///
/// # Errors
/// [`Failure`] when a folder has no claims.
pub(crate) fn compare(arguments: &CompareArguments) -> Result<Exit, Failure> {
    let (first, second) = (claims(&arguments.first)?, claims(&arguments.second)?);
    let (text, agrees) = comparison(&first, &second, arguments.all);
    print(&plain(&text))?;
    Ok(Exit::of_check(agrees))
}

fn claims(folder: &Path) -> Result<BTreeMap<Place, JudgedClaim>, Failure> {
    let path = folder.join("claims.json");
    let bytes = read_own(&path, MAX_BYTES, "the claims of a reproduction")?;
    let file: ClaimsFile = serde_json::from_slice(&bytes)
        .map_err(|error| FileError::content(&path, error.to_string()))?;
    Ok(file.claims.into_iter().map(|claim| (Place::of(&claim.id), claim)).collect())
}

/// The order of claims: by their number, then by their name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64, String);

impl Place {
    fn of(id: &str) -> Self {
        Self(id.parse().unwrap_or(u64::MAX), id.to_owned())
    }
}

/// The comparison in words, and true if all verdicts agree and nothing moved.
fn comparison(
    first: &BTreeMap<Place, JudgedClaim>,
    second: &BTreeMap<Place, JudgedClaim>,
    all: bool,
) -> (String, bool) {
    let (mut verdicts, mut rows) = (Vec::new(), Vec::new());
    let (mut shared, mut compared, mut moved) = (0, 0, 0);
    let places = first.keys().chain(second.keys().filter(|place| !first.contains_key(*place)));
    for place in places {
        let verdict = |claim: Option<&JudgedClaim>| match claim {
            Some(claim) => claim.verdict.clone(),
            None => "absent".to_owned(),
        };
        let (one, other) = (first.get(place), second.get(place));
        let (before, after) = (verdict(one), verdict(other));
        if before != after {
            verdicts.push(format!("claim {}: {before} → {after}\n", place.1));
        }
        let (Some(one), Some(other)) = (one, other) else { continue };
        shared += 1;
        for quantity in &one.measured {
            let same = other.measured.iter().find(|q| q.name == quantity.name);
            let Some(same) = same else { continue };
            compared += 1;
            let has_moved = quantity.has_moved_to(same);
            moved += usize::from(has_moved);
            if has_moved || all {
                let mark = if has_moved { "moved" } else { "" };
                let id = place.1.clone();
                rows.push(vec![
                    id,
                    quantity.name.clone(),
                    quantity.words(),
                    same.words(),
                    mark.to_owned(),
                ]);
            }
        }
    }
    let changes = verdicts.len();
    let mut text = format!(
        "{shared} claims in both, {changes} verdicts differ; {moved} of {compared} quantities moved \
         beyond their spread\n{}",
        verdicts.concat()
    );
    if !rows.is_empty() {
        let header = ["claim", "quantity", "first", "second", ""].map(str::to_owned).to_vec();
        rows.insert(0, header);
        text += "\n";
        text += &aligned(&rows, |_| Align::Left);
    }
    (text, changes == 0 && moved == 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use flatmin_host::Exit;

    use super::{
        CompareArguments, JudgedClaim, Margin, Place, Quantity, claims, compare, comparison,
        margin_table,
    };

    /// A quantity as a median with its spread.
    type Spread = (&'static str, [f64; 3]);

    fn folder(claims: &[(&str, &str, &[Spread])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let claims: Vec<serde_json::Value> = claims
            .iter()
            .map(|(id, verdict, measured)| {
                let measured: Vec<serde_json::Value> = measured
                    .iter()
                    .map(|(quantity, [median, minimum, maximum])| {
                        serde_json::json!({
                            "quantity": quantity, "median": median, "minimum": minimum,
                            "maximum": maximum, "runs": 5,
                        })
                    })
                    .collect();
                serde_json::json!({ "id": id, "verdict": verdict, "measured": measured })
            })
            .collect();
        let file = serde_json::json!({ "schema": "flatmin.claims/1", "claims": claims });
        fs::write(folder.path().join("claims.json"), file.to_string()).unwrap();
        folder
    }

    #[test]
    fn verdicts_that_differ_and_medians_beyond_the_spread_are_named() {
        let first = folder(&[
            ("2", "holds", &[("λ_{max}", [1.0, 0.9, 1.1]), ("tr G", [5.0, 4.0, 6.0])]),
            ("10", "holds", &[("ratio", [2.0, 2.0, 2.0])]),
            ("11", "holds", &[]),
        ]);
        let second = folder(&[
            ("2", "fails", &[("λ_{max}", [1.3, 1.2, 1.4]), ("tr G", [5.9, 5.5, 6.5])]),
            ("10", "holds", &[("ratio", [2.05, 2.05, 2.05])]),
        ]);
        let of = |folder: &tempfile::TempDir| claims(folder.path()).unwrap();
        let (text, agrees) = comparison(&of(&first), &of(&second), false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(!agrees);
        let counts = "2 claims in both, 2 verdicts differ; 1 of 3 quantities moved beyond their \
                      spread";
        assert_eq!(lines[..3], [counts, "claim 2: holds → fails", "claim 11: holds → absent"]);
        assert_eq!(lines.len(), 6, "{text}");
        assert!(lines[5].contains("1 [0.9, 1.1]") && lines[5].contains("1.3 [1.2, 1.4]"), "{text}");
        let (text, _) = comparison(&of(&first), &of(&second), true);
        assert!(text.contains("tr G") && text.contains("ratio"), "{text}");
        let same = CompareArguments {
            first: first.path().to_owned(),
            second: first.path().to_owned(),
            all: false,
        };
        assert_eq!(compare(&same).unwrap(), Exit::Done);
    }

    #[test]
    fn margins_stand_beside_each_other_with_the_narrowest_of_all() {
        let claim = |verdict: &str, relative: f64| JudgedClaim {
            id: "13".to_owned(),
            verdict: verdict.to_owned(),
            measured: Vec::new(),
            margin: Some(Margin {
                quantity: "|x| η*/η".to_owned(),
                value: 1.3 * (1.0 - relative),
                limit: 1.3,
                relative,
            }),
        };
        let of = |claim: JudgedClaim| BTreeMap::from([(Place::of("13"), claim)]);
        let judged = [of(claim("holds", 0.25)), of(claim("fails", -0.1)), BTreeMap::new()];
        let table = margin_table(&["0", "77", "1000"].map(str::to_owned), &judged);
        let expected = "| claim | 0 | 77 | 1000 | narrowest |\n| --- | --- | --- | --- | --- |\n\
                        | 13 | holds 25 % | fails -10 % | – | \\|x\\| η*/η: 1.43 of 1.3 |\n";
        assert_eq!(table, expected);
    }

    #[test]
    fn a_folder_without_claims_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let error = claims(empty.path()).unwrap_err().to_string();
        assert!(error.contains("claims.json"), "{error}");
    }

    #[test]
    fn a_quantity_moves_only_if_both_medians_leave_the_spread_of_the_other() {
        let quantity = |[median, minimum, maximum]: [f64; 3]| Quantity {
            name: String::new(),
            median: Some(median),
            minimum: Some(minimum),
            maximum: Some(maximum),
        };
        let missing = Quantity { median: None, ..quantity([0.0; 3]) };
        let wide = quantity([1.0, 0.0, 9.0]);
        assert!(!wide.has_moved_to(&quantity([5.0, 4.0, 6.0])), "inside of a wide spread");
        assert!(quantity([1.0, 0.9, 1.1]).has_moved_to(&quantity([2.0, 1.9, 2.1])));
        assert!(!quantity([1.0; 3]).has_moved_to(&quantity([1.04; 3])));
        assert!(quantity([1.0; 3]).has_moved_to(&quantity([1.06; 3])));
        assert!(wide.has_moved_to(&missing) && !missing.has_moved_to(&missing));
    }
}
