//! `cargo xtask reproduce`: computes the missing cells, then writes every output from the stored
//! ones.

mod manifest;
mod outputs;
mod run;
mod store;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use flatmin_experiments::cell::{CellKey, CellSpec, Results};
use flatmin_experiments::{EXPERIMENTS, Experiment, Profile, Settings, expand, find};
use flatmin_host::{Exit, Format, duration, make_writable, note, print, print_json, shown, sweep};
use serde_json::{Value, json};

pub(crate) use self::manifest::Manifest;
use self::outputs::{Included, write_outputs};
pub(crate) use self::store::CellFile;
use self::store::Store;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  cargo xtask reproduce                            the whole paper, 5 seeds
  cargo xtask reproduce --profile smoke            every experiment, tiny, in seconds
  cargo xtask reproduce --only diagonal_sharpness,diagonal_balance --seeds 3
  cargo xtask reproduce --plan | cut -d' ' -f1     the cells still to do, for a batch system
  cargo xtask reproduce --cell HASH                one of them

Stopped or killed, the same command goes on from the stored cells.

With --only, the claims and the report still cover the other experiments that the folder holds,
as long as all their cells are stored.

Exit status: 0 all claims hold or are undecided; 1 a claim fails (everything was still written);
2 wrong usage; 3 could not run.";

/// Arguments of `reproduce`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReproduceArguments {
    /// How large: smoke, quick, paper or full.
    #[arg(long, default_value = "paper")]
    profile: Profile,
    /// Only these experiments.
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = find)]
    only: Vec<&'static Experiment>,
    /// Number of seeds [default: 1 for smoke and quick, 5 for paper, 20 for full].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Number of threads; no result depends on it [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
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

/// A reproduction as its arguments ask for it.
struct Reproduction<'a> {
    arguments: &'a ReproduceArguments,
    settings: Settings,
    /// The chosen experiments, in the order of the report.
    experiments: Vec<&'static Experiment>,
    /// Their cells.
    cells: Vec<CellSpec>,
    out: PathBuf,
    store: Store,
}

/// Runs the task and gives the exit status.
///
/// # Errors
/// [`Failure`] when it could not be done.
pub(crate) fn reproduce(arguments: &ReproduceArguments) -> Result<Exit, Failure> {
    let &ReproduceArguments { profile, seed, .. } = arguments;
    let seeds = arguments.seeds.unwrap_or(profile.default_seeds());
    let settings = Settings { profile, seeds, seed };
    let chosen = |id: &&Experiment| arguments.only.is_empty() || arguments.only.contains(id);
    let experiments: Vec<&Experiment> = EXPERIMENTS.iter().copied().filter(chosen).collect();
    let cells = expand(&experiments, &settings);
    let default = || PathBuf::from("results").join(settings.profile.name());
    let out = arguments.out.clone().unwrap_or_else(default);
    let store = Store { folder: out.join("cells") };
    let reproduction = Reproduction { arguments, settings, experiments, cells, out, store };
    if arguments.plan {
        reproduction.plan()
    } else if let Some(hash) = &arguments.cell {
        reproduction.one_cell(hash)
    } else {
        reproduction.all()
    }
}

impl Reproduction<'_> {
    /// The stored results and the missing ones of `cells`. With `--fresh` all are missing.
    fn look_up<'a>(&self, cells: &'a [CellSpec]) -> Result<(Results, Vec<&'a CellSpec>), Failure> {
        if self.arguments.fresh {
            return Ok((Results::new(), cells.iter().collect()));
        }
        run::load(&self.store, cells)
    }

    fn plan(&self) -> Result<Exit, Failure> {
        let (_, missing) = self.look_up(&self.cells)?;
        match self.arguments.format {
            Format::Text => {
                let line = |spec: &&CellSpec| format!("{} {}\n", spec.key(), spec.label());
                print(&missing.iter().map(line).collect::<String>())?;
            }
            Format::Json => {
                let cell = |spec: &&CellSpec| {
                    json!({
                        "hash": spec.key().to_string(),
                        "label": spec.label(),
                        "estimated_seconds": spec.cost(),
                    })
                };
                print_json(&missing.iter().map(cell).collect::<Vec<Value>>())?;
            }
        }
        Ok(Exit::Done)
    }

    fn one_cell(&self, hash: &str) -> Result<Exit, Failure> {
        let key: CellKey = hash.parse()?;
        let found = self.cells.iter().position(|spec| spec.key() == key);
        let index = found.ok_or_else(|| Failure::UnknownCell(hash.to_owned()))?;
        let cells = &self.cells[index..=index];
        make_writable(&self.store.folder)?;
        let (_, missing) = self.look_up(cells)?;
        run::stop_on_interrupt();
        let seconds = run::run(&self.store, missing, 1, self.arguments.fresh)?.get(&key).copied();
        let label = cells[0].label();
        match self.arguments.format {
            Format::Text => {
                let taken = seconds.map_or_else(
                    || "was stored already".to_owned(),
                    |seconds| format!("computed in {}", duration(seconds)),
                );
                print(&format!("{key} {label}: {taken}\n"))?;
            }
            Format::Json => {
                let state = if seconds.is_none() { "stored" } else { "computed" };
                let path = self.store.path(key).display().to_string();
                let hash = key.to_string();
                print_json(&json!({"hash": hash, "label": label, "state": state, "path": path}))?;
            }
        }
        Ok(Exit::Done)
    }

    fn all(&self) -> Result<Exit, Failure> {
        let (start, out) = (Instant::now(), &self.out);
        let threads = self.arguments.threads.map_or(0, usize::from);
        for folder in [out, &self.store.folder, &out.join("tables"), &out.join("figures")] {
            make_writable(folder)?;
            sweep(folder)?;
        }
        let mut manifest = Manifest::begin(&self.settings, threads);
        run::stop_on_interrupt();
        let (mut results, missing) = self.look_up(&self.cells)?;
        let computed: Vec<&CellSpec> = missing.clone();
        if !missing.is_empty() {
            let (missing, reused, out) = (missing.len(), results.len(), shown(out));
            note(&format_args!("{missing} cells to compute, {reused} stored; results go to {out}"));
        }
        let seconds = run::run(&self.store, missing, threads, self.arguments.fresh)?;
        self.load_computed(&computed, &mut results)?;

        // From here on one process at a time writes to the folder.
        let _outputs = run::take_outputs(out)?;
        let experiments = self.add_stored(&mut results)?;
        let cells = expand(&experiments, &self.settings);
        manifest.record(&experiments, &cells, &seconds, &out.join("manifest.json"))?;
        manifest.seconds = start.elapsed().as_secs_f64();
        let included =
            Included { experiments: &experiments, settings: &self.settings, results: &results };
        write_outputs(&included, &manifest, out, self.arguments.format)
    }

    /// Adds the results that were just computed, from the stored bytes: a later run that only reads
    /// them then cannot give anything else.
    fn load_computed(&self, computed: &[&CellSpec], results: &mut Results) -> Result<(), Failure> {
        for spec in computed {
            match self.store.load(spec)? {
                Ok(result) => drop(results.insert(spec.key(), result)),
                Err(reason) => {
                    let reason =
                        reason.unwrap_or_else(|| "it was removed while this ran".to_owned());
                    return Err(self.store.unreadable(spec, reason));
                }
            }
        }
        Ok(())
    }

    /// The experiments that claims and report cover: the chosen ones, and those whose tables the
    /// folder holds already and whose cells are all stored. Adds the results of the latter.
    fn add_stored(&self, results: &mut Results) -> Result<Vec<&'static Experiment>, Failure> {
        let mut included = Vec::new();
        for &experiment in EXPERIMENTS {
            let is_there = || self.out.join(format!("tables/{experiment}.csv")).exists();
            if self.experiments.contains(&experiment)
                || is_there() && self.add_if_complete(experiment, results)?
            {
                included.push(experiment);
            }
        }
        Ok(included)
    }

    fn add_if_complete(
        &self,
        experiment: &Experiment,
        results: &mut Results,
    ) -> Result<bool, Failure> {
        let mut added = Results::new();
        for spec in expand(&[experiment], &self.settings) {
            if results.contains_key(&spec.key()) {
                continue;
            }
            let Ok(result) = self.store.load(&spec)? else {
                note(&format_args!(
                    "{experiment}: some cells are not stored: its table and figure stay as they \
                     are, claims and report leave it out"
                ));
                return Ok(false);
            };
            added.insert(spec.key(), result);
        }
        results.extend(added);
        Ok(true)
    }
}
