//! The folder of a run: its files, and how a run resumes from them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use flatmin_host::{FileError, Layout, SealError, SealedFile, read_own, said, shown};
use flatmin_optim::TrainState;
use serde::{Deserialize, Serialize};

use super::measure::{Row, header};
use super::problem::Digests;
use crate::column::Column;
use crate::failure::Failure;
use crate::words::PROGRAM;

pub(super) const METRICS: &str = "metrics.csv";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const PARAMETERS: &str = "parameters.npz";
pub(super) const RUN: &str = "run.json";

/// The files of a run; a message names the first of them that exists.
const FILES: [&str; 4] = [RUN, CHECKPOINT, PARAMETERS, METRICS];

/// Largest summary of a run that is read. A summary takes a few hundred bytes.
pub(super) const MAX_SUMMARY_BYTES: u64 = 1 << 20;

/// The folder of a run, which only this process writes to.
#[derive(Debug)]
pub(super) struct Folder {
    /// The path of the folder.
    pub(super) path: PathBuf,
    digests: Digests,
    /// The metrics table, which is locked.
    metrics: File,
    /// The hash of the rows written so far.
    hasher: blake3::Hasher,
    /// The length of the rows written so far.
    bytes: u64,
}

/// The state of a run when its folder is opened.
#[derive(Debug)]
pub(super) enum Start {
    /// The run has not begun.
    Fresh,
    /// The run goes on from a checkpoint.
    Checkpoint(Box<TrainState>),
    /// The run has ended.
    Ended,
}

/// A checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    version: String,
    digests: Digests,
    /// The length and the BLAKE3 hash of the metrics table at that point.
    metrics_bytes: u64,
    metrics_digest: String,
    state: TrainState,
}

/// The BLAKE3 hashes of the results, in the summary of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ResultDigests {
    #[serde(rename = "metrics.csv")]
    metrics: String,
    #[serde(rename = "parameters.npz")]
    parameters: String,
}

impl ResultDigests {
    fn all(&self) -> [(&'static str, &String); 2] {
        [(METRICS, &self.metrics), (PARAMETERS, &self.parameters)]
    }
}

/// The part of the summary of a run that is compared with its files.
#[derive(Deserialize)]
struct SummaryDigests {
    files: ResultDigests,
}

impl SealedFile for Checkpoint {
    const SCHEMA: &'static str = "flatmin.checkpoint/1";
    const LAYOUT: Layout = Layout::Envelope;
}

impl Folder {
    /// Opens the folder of a new run, or with `resume` also that of a run that has begun.
    ///
    /// A checkpoint of more than `max_bytes` is refused, because this run cannot have written it.
    pub(super) fn open(
        path: &Path,
        resume: bool,
        digests: Digests,
        max_bytes: u64,
    ) -> Result<(Self, Start), Failure> {
        // The folder may have come from elsewhere. Through a link in it another file would be
        // written.
        for name in FILES {
            flatmin_host::refuse_link(&path.join(name))?;
        }
        // Nothing is written to a folder that holds another run.
        find_run(path, resume)?;
        flatmin_host::make_writable(path)?;
        let metrics = open_locked(&path.join(METRICS))?;
        // Another process may have begun or ended a run in the meantime.
        let found = find_run(path, resume)?;
        flatmin_host::sweep(path)?;
        let (hasher, bytes) = (blake3::Hasher::new(), 0);
        let mut folder = Self { path: path.to_owned(), digests, metrics, hasher, bytes };
        if found.is_none() {
            return Ok((folder, Start::Fresh));
        }
        let checkpoint = folder.read_checkpoint(max_bytes)?;
        let summary = folder.file(RUN);
        let changed = if summary.exists() { Some(folder.changed_result()?) } else { None };
        if let Some(None) = changed {
            return Ok((folder, Start::Ended));
        }
        folder.truncate_metrics(&checkpoint)?;
        if let Some((name, reason)) = changed.flatten() {
            let name = shown(&folder.file(name));
            PROGRAM.warn(&format_args!("{name}: {reason}; it is written again"));
            fs::remove_file(&summary).map_err(FileError::at(&summary))?;
        }
        Ok((folder, Start::Checkpoint(Box::new(checkpoint.state))))
    }

    /// The first result of an ended run that has changed since it was written, and what is wrong
    /// with it.
    fn changed_result(&self) -> Result<Option<(&'static str, String)>, Failure> {
        let path = self.file(RUN);
        let bytes = read_own(&path, MAX_SUMMARY_BYTES, "the summary of a run")?;
        let digests = flatmin_host::is_sealed(&bytes).then(|| serde_json::from_slice(&bytes));
        let Some(Ok(SummaryDigests { files })) = digests else {
            return Ok(Some((RUN, "its checksum does not match its content".to_owned())));
        };
        for (name, written) in files.all() {
            if self.digest_of(name)?.as_ref() != Some(written) {
                return Ok(Some((name, format!("is not what {RUN} says was written"))));
            }
        }
        Ok(None)
    }

    /// The BLAKE3 hash of a file on the disk; `None` if it does not exist.
    fn digest_of(&self, name: &str) -> Result<Option<String>, Failure> {
        let path = self.file(name);
        let read = || -> io::Result<String> {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(File::open(&path)?)?;
            Ok(hasher.finalize().to_hex().to_string())
        };
        match read() {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.kind() == NotFound => Ok(None),
            Err(error) => Err(FileError::at(&path)(error).into()),
        }
    }

    /// The hashes of the results, with these bytes as the file of parameters.
    ///
    /// # Errors
    /// When the metrics table is not the one that this process has written.
    pub(super) fn result_digests(&self, parameters: &[u8]) -> Result<ResultDigests, Failure> {
        self.check_ours()?;
        let metrics = self.metrics_digest();
        if self.digest_of(METRICS)?.as_ref() != Some(&metrics) {
            let reason = "was changed by another process while the run went on; start afresh in \
                          another --out";
            return Err(Failure::input(&self.file(METRICS), reason));
        }
        Ok(ResultDigests { metrics, parameters: blake3::hash(parameters).to_hex().to_string() })
    }

    fn metrics_digest(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// Checks that the folder is still the one that this process locked, and not another one of the
    /// same name with another run.
    fn check_ours(&self) -> Result<(), Failure> {
        let path = self.file(METRICS);
        if flatmin_host::is_at(&self.metrics, &path).map_err(FileError::at(&path))? {
            return Ok(());
        }
        let reason = "was removed or replaced while the run went on; put it back and go on with \
                      --resume, or start afresh in another --out";
        Err(Failure::input(&path, reason))
    }

    /// The path of a file in the folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Adds a row to the metrics table, after the header.
    pub(super) fn append(&mut self, columns: &[Column], row: &Row) -> Result<(), Failure> {
        let start = if self.bytes == 0 { header(columns) } else { String::new() };
        let text = start + &row.line();
        self.metrics.write_all(text.as_bytes()).map_err(FileError::at(&self.file(METRICS)))?;
        self.hasher.update(text.as_bytes());
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Writes the metrics table through to the disk.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        Ok(self.metrics.sync_data().map_err(FileError::at(&self.file(METRICS)))?)
    }

    /// Replaces the checkpoint.
    pub(super) fn save(&self, state: TrainState) -> Result<(), Failure> {
        self.sync()?;
        let checkpoint = Checkpoint {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            digests: self.digests.clone(),
            metrics_bytes: self.bytes,
            metrics_digest: self.metrics_digest(),
            state,
        };
        let path = self.file(CHECKPOINT);
        let text = checkpoint.to_sealed().map_err(|error| FileError::at(&path)(error.into()))?;
        self.write(CHECKPOINT, text.as_bytes())
    }

    /// Writes a file, if the folder is still the one that this process locked.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        flatmin_host::write_if(&self.file(name), bytes, || self.check_ours())
    }

    /// Reads the checkpoint and checks that it is one of this run.
    fn read_checkpoint(&self, max_bytes: u64) -> Result<Checkpoint, Failure> {
        let path = self.file(CHECKPOINT);
        let bytes = match read_own(&path, max_bytes, "a checkpoint of this run") {
            Ok(bytes) => bytes,
            Err(error) if error.source.kind() == NotFound => {
                let reason = "holds parts of a run, but no checkpoint to go on from; start afresh in \
                              another --out";
                return Err(Failure::input(&self.path, reason));
            }
            Err(error) => return Err(error.into()),
        };
        let checkpoint = Checkpoint::open(&bytes);
        let checkpoint = checkpoint.map_err(|error| Failure::input(&path, unusable(&error)))?;
        if let Some(difference) = checkpoint.digests.difference(&self.digests) {
            let reason = format!(
                "is of a run with {difference}; resume with what it was started with, or start afresh \
                 in another --out"
            );
            return Err(Failure::input(&path, reason));
        }
        if checkpoint.version != env!("CARGO_PKG_VERSION") {
            PROGRAM.warn(&format_args!(
                "{}: was written by version {}; the last digits may differ from those of a run \
                 without an interruption",
                shown(&path),
                checkpoint.version
            ));
        }
        Ok(checkpoint)
    }

    /// Cuts off the rows of the metrics table that were written after the checkpoint.
    fn truncate_metrics(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let (path, bytes) = (self.file(METRICS), checkpoint.metrics_bytes);
        let mut hasher = blake3::Hasher::new();
        let mut rows = (&self.metrics).take(bytes);
        hasher.update_reader(&mut rows).map_err(FileError::at(&path))?;
        if rows.limit() > 0 || hasher.finalize().to_hex().as_str() != checkpoint.metrics_digest {
            let reason = "is not the table that the checkpoint was written with; start afresh in \
                          another --out";
            return Err(Failure::input(&path, reason));
        }
        self.metrics
            .set_len(bytes)
            .and_then(|()| self.metrics.seek(SeekFrom::Start(bytes)))
            .map_err(FileError::at(&path))?;
        (self.hasher, self.bytes) = (hasher, bytes);
        Ok(())
    }
}

/// The first file of a run in a folder; an error unless the run is to be resumed. An empty table
/// does not count: it is left by a run that was killed before it began.
fn find_run(folder: &Path, resume: bool) -> Result<Option<&'static str>, Failure> {
    for name in FILES {
        let path = folder.join(name);
        match fs::metadata(&path) {
            Ok(metadata) if name == METRICS && metadata.len() == 0 => {}
            Ok(_) if resume => return Ok(Some(name)),
            Ok(_) => {
                let reason = format!(
                    "holds a run already ({name}); --resume goes on with it, another --out starts \
                     afresh"
                );
                return Err(Failure::input(folder, reason));
            }
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {}
            Err(error) => return Err(FileError::at(&path)(error).into()),
        }
    }
    Ok(None)
}

/// Opens the metrics table, and locks it if the file system has locks.
fn open_locked(path: &Path) -> Result<File, Failure> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = open.map_err(FileError::at(path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let reason = "another process is writing to it: let it end, or choose another --out";
            return Err(Failure::input(path, reason));
        }
        Err(TryLockError::Error(_)) => PROGRAM.warn(&format_args!(
            "{}: this file system has no locks: make sure that no other process goes on with this run",
            shown(path)
        )),
    }
    Ok(file)
}

/// The reason why a checkpoint cannot be used, with the remedy.
fn unusable(error: &SealError) -> String {
    match error {
        SealError::Newer { .. } => {
            format!("{error}; use a newer flatmin, or start afresh in another --out")
        }
        error => format!("is damaged ({}); start afresh in another --out", said(error)),
    }
}

/// The state in a checkpoint whose checksum may be wrong, for tests that alter one.
pub(super) fn state(bytes: &[u8]) -> Result<TrainState, String> {
    Checkpoint::parse(bytes).map(|checkpoint| checkpoint.state).map_err(|error| unusable(&error))
}

#[cfg(test)]
mod tests {
    use flatmin_host::SealedFile as _;

    use super::Checkpoint;

    #[test]
    fn every_changed_byte_of_a_checkpoint_is_seen() {
        let segment = |steps| {
            serde_json::json!({
                "steps": steps, "clipped_steps": 0, "loss_sum": 168.5, "max_gradient_norm": 8.25
            })
        };
        let checkpoint: Checkpoint = serde_json::from_value(serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "digests": {
                "config": "61e1", "data": "80b8", "test_data": null, "initial": "c433", "order": null
            },
            "metrics_bytes": 1316,
            "metrics_digest": "27c7",
            "state": {
                "step": 200, "observed": false, "passed_checks": 0, "total": segment(200),
                "since_checkpoint": segment(20), "since_check": segment(0),
                "sampler": { "order": [1, 0], "position": 1 },
                "stream_position": 200,
                // The second has digits enough that its last can change and it stays the same
                // number.
                "parameters": [-0.5, 0.1 + 0.2]
            }
        }))
        .unwrap();
        let bytes = checkpoint.to_sealed().unwrap().into_bytes();
        assert!(Checkpoint::open(&bytes).is_ok());
        for position in 0..bytes.len() {
            for flip in (0..8).map(|bit| 1 << bit).chain([b'\n' ^ b' ', b'\n' ^ b'\t']) {
                let mut changed = bytes.clone();
                changed[position] ^= flip;
                assert!(Checkpoint::open(&changed).is_err(), "byte {position} with {flip:#x}");
            }
        }
    }
}
