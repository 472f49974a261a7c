//! The folder of a run: what is in it, and how a run goes on from there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use flatmin_host::{read_own, said, short};
use flatmin_optim::TrainState;
use serde::{Deserialize, Serialize};

use super::measure::{Column, Row, header};
use super::problem::Digests;
use crate::failure::{Failure, shown};

pub(super) const METRICS: &str = "metrics.csv";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const PARAMETERS: &str = "parameters.npz";
pub(super) const RUN: &str = "run.json";

/// All of them, the one first that says most.
const FILES: [&str; 4] = [RUN, CHECKPOINT, PARAMETERS, METRICS];

/// The format of a checkpoint.
const SCHEMA: &str = "flatmin.checkpoint/1";

/// Largest summary of a run that is read. They take a few hundred bytes.
pub(super) const LARGEST_SUMMARY: u64 = 1 << 20;

/// A folder with a run in it, which this process alone writes to.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    digests: Digests,
    /// The metrics table, locked.
    metrics: File,
    /// Of what was written of it.
    hasher: blake3::Hasher,
    bytes: u64,
}

/// Where a run begins.
#[derive(Debug)]
pub(super) enum Start {
    /// At the beginning.
    Fresh,
    /// At a checkpoint.
    Checkpoint(Box<TrainState>),
    /// It has ended.
    Ended,
}

/// A run as a checkpoint stores it.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: String,
    digests: Digests,
    /// Length and BLAKE3 of the metrics table at that point.
    metrics_bytes: u64,
    metrics_digest: String,
    state: TrainState,
}

/// BLAKE3 of the other results, as the summary of a run holds them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Files {
    #[serde(rename = "metrics.csv")]
    metrics: String,
    #[serde(rename = "parameters.npz")]
    parameters: String,
}

impl Files {
    fn all(&self) -> [(&'static str, &String); 2] {
        [(METRICS, &self.metrics), (PARAMETERS, &self.parameters)]
    }
}

/// What is read of the summary of a run.
#[derive(Deserialize)]
struct OfRun {
    files: Files,
}

#[derive(Serialize)]
struct Written<'a> {
    schema: &'a str,
    checksum: String,
    content: &'a Content,
}

#[derive(Deserialize)]
struct Header {
    schema: String,
}

#[derive(Deserialize)]
struct Stored {
    checksum: String,
    content: Content,
}

impl Folder {
    /// Takes a folder for a run: a new one, or with `resume` the one that is there.
    ///
    /// A checkpoint of more than `most` bytes is none of this run.
    pub(super) fn open(
        path: &Path,
        resume: bool,
        digests: Digests,
        most: u64,
    ) -> Result<(Self, Start), Failure> {
        // The folder may have come from elsewhere: a link in it would have another file written to.
        for name in FILES {
            flatmin_host::refuse_link(&path.join(name))?;
        }
        // Not more than a look: a folder with another run is left as it is.
        look(path, resume)?;
        flatmin_host::make_writable(path)?;
        let metrics = open_locked(&path.join(METRICS))?;
        // Another process may have begun or ended a run since.
        let found = look(path, resume)?;
        flatmin_host::sweep(path)?;
        let (hasher, bytes) = (blake3::Hasher::new(), 0);
        let mut folder = Self { path: path.to_owned(), digests, metrics, hasher, bytes };
        if found.is_none() {
            return Ok((folder, Start::Fresh));
        }
        let content = folder.read_checkpoint(most)?;
        let summary = folder.file(RUN);
        let changed = if summary.exists() {
            match folder.changed_result()? {
                None => return Ok((folder, Start::Ended)),
                changed => changed,
            }
        } else {
            None
        };
        folder.cut(&content)?;
        if let Some((name, reason)) = changed {
            let name = shown(&folder.file(name));
            crate::output::warn(&format_args!("{name}: {reason}; it is written again"));
            fs::remove_file(&summary).map_err(Failure::file(&summary))?;
        }
        Ok((folder, Start::Checkpoint(Box::new(content.state))))
    }

    /// A file of a run that has ended which is not as it was written, and what is wrong with it.
    fn changed_result(&self) -> Result<Option<(&'static str, String)>, Failure> {
        let path = self.file(RUN);
        let bytes = read_own(&path, LARGEST_SUMMARY, "the summary of a run")?;
        let of_run = flatmin_host::is_sealed(&bytes).then(|| serde_json::from_slice(&bytes));
        let Some(Ok(OfRun { files })) = of_run else {
            return Ok(Some((RUN, "its checksum does not match its content".to_owned())));
        };
        for (name, written) in files.all() {
            if self.digest_of(name)?.as_ref() != Some(written) {
                return Ok(Some((name, format!("is not what {RUN} says was written"))));
            }
        }
        Ok(None)
    }

    /// BLAKE3 of a file as it is on the disk, or nothing when there is none.
    fn digest_of(&self, name: &str) -> Result<Option<String>, Failure> {
        let path = self.file(name);
        let read = || -> io::Result<String> {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(File::open(&path)?)?;
            Ok(hasher.finalize().to_hex().to_string())
        };
        match read() {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::file(&path)(error)),
        }
    }

    /// The digests of the results, the parameters being these bytes, after a look that the table is
    /// still the one that was written here.
    pub(super) fn files(&self, parameters: &[u8]) -> Result<Files, Failure> {
        self.check_ours()?;
        let metrics = self.metrics_digest();
        if self.digest_of(METRICS)?.as_ref() != Some(&metrics) {
            let reason = "was changed by another process while the run went on; start afresh in \
                          another --out";
            return Err(Failure::input(&self.file(METRICS), reason));
        }
        Ok(Files { metrics, parameters: blake3::hash(parameters).to_hex().to_string() })
    }

    fn metrics_digest(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// That the folder is still the one that this process locked: another may have been made since, with
    /// another run in it.
    fn check_ours(&self) -> Result<(), Failure> {
        let path = self.file(METRICS);
        if flatmin_host::is_at(&self.metrics, &path).map_err(Failure::file(&path))? {
            return Ok(());
        }
        let reason = "was removed or replaced while the run went on; put it back and go on with \
                      --resume, or start afresh in another --out";
        Err(Failure::input(&path, reason))
    }

    /// The path of a file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a row to the metrics table, after the header.
    pub(super) fn append(&mut self, columns: &[Column], row: &Row) -> Result<(), Failure> {
        let start = if self.bytes == 0 { header(columns) } else { String::new() };
        let text = start + &row.line();
        self.metrics.write_all(text.as_bytes()).map_err(Failure::file(&self.file(METRICS)))?;
        self.hasher.update(text.as_bytes());
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Makes sure that the metrics table is on the disk.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.metrics.sync_data().map_err(Failure::file(&self.file(METRICS)))
    }

    /// Writes a checkpoint in the place of the last one.
    pub(super) fn save(&self, state: TrainState) -> Result<(), Failure> {
        self.sync()?;
        let content = Content {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            digests: self.digests.clone(),
            metrics_bytes: self.bytes,
            metrics_digest: self.metrics_digest(),
            state,
        };
        let path = self.file(CHECKPOINT);
        let text = to_text(&content).map_err(|error| Failure::file(&path)(error.into()))?;
        self.write(CHECKPOINT, text.as_bytes())
    }

    /// Writes a file in it, as long as it is the folder that this process locked.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        flatmin_host::write_if(&self.file(name), bytes, || self.check_ours())
    }

    /// The checkpoint, if it is one of this run.
    fn read_checkpoint(&self, most: u64) -> Result<Content, Failure> {
        let path = self.file(CHECKPOINT);
        let bytes = match read_own(&path, most, "a checkpoint of this run") {
            Ok(bytes) => bytes,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                let reason = "holds parts of a run, but no checkpoint to go on from; start afresh in \
                              another --out";
                return Err(Failure::input(&self.path, reason));
            }
            Err(error) => return Err(error.into()),
        };
        let content = parse(&bytes).map_err(|reason| Failure::input(&path, reason))?;
        if let Some(difference) = content.digests.difference(&self.digests) {
            let reason = format!(
                "is of a run with {difference}; resume with what it was started with, or start afresh \
                 in another --out"
            );
            return Err(Failure::input(&path, reason));
        }
        if content.version != env!("CARGO_PKG_VERSION") {
            crate::output::warn(&format_args!(
                "{}: was written by version {}; the last digits may differ from those of a run \
                 without an interruption",
                shown(&path),
                content.version
            ));
        }
        Ok(content)
    }

    /// Cuts off the rows of the metrics table that are not in the checkpoint.
    fn cut(&mut self, content: &Content) -> Result<(), Failure> {
        let path = self.file(METRICS);
        let mut hasher = blake3::Hasher::new();
        let mut read = || -> io::Result<u64> {
            let mut left = content.metrics_bytes;
            let mut buffer = vec![0; 1 << 16];
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                match self.metrics.read(&mut buffer[..most])? {
                    0 => break,
                    count => {
                        hasher.update(&buffer[..count]);
                        left -= count as u64;
                    }
                }
            }
            Ok(left)
        };
        let left = read().map_err(Failure::file(&path))?;
        if left > 0 || hasher.finalize().to_hex().to_string() != content.metrics_digest {
            let reason = "is not the table that the checkpoint was written with; start afresh in \
                          another --out";
            return Err(Failure::input(&path, reason));
        }
        let bytes = content.metrics_bytes;
        self.metrics
            .set_len(bytes)
            .and_then(|()| self.metrics.seek(SeekFrom::Start(bytes)))
            .map_err(Failure::file(&path))?;
        (self.hasher, self.bytes) = (hasher, bytes);
        Ok(())
    }
}

/// [`existing`], which only a run that is resumed may find.
fn look(path: &Path, resume: bool) -> Result<Option<&'static str>, Failure> {
    let found = existing(path)?;
    if let Some(found) = found.filter(|_| !resume) {
        let reason = format!(
            "holds a run already ({found}); --resume goes on with it, another --out starts afresh"
        );
        return Err(Failure::input(path, reason));
    }
    Ok(found)
}

/// A file of a run in a folder. An empty table is what is left of a run that was killed before it began.
fn existing(folder: &Path) -> Result<Option<&'static str>, Failure> {
    for name in FILES {
        let path = folder.join(name);
        match fs::metadata(&path) {
            Ok(metadata) if name == METRICS && metadata.len() == 0 => {}
            Ok(_) => return Ok(Some(name)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(Failure::file(&path)(error)),
        }
    }
    Ok(None)
}

/// Opens the metrics table and locks it, where the file system knows locks.
fn open_locked(path: &Path) -> Result<File, Failure> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = open.map_err(Failure::file(path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let reason = "another process is writing to it: let it end, or choose another --out";
            return Err(Failure::input(path, reason));
        }
        Err(TryLockError::Error(_)) => crate::output::warn(&format_args!(
            "{}: this file system has no locks: see to it that no other process goes on with this run",
            shown(path)
        )),
    }
    Ok(file)
}

fn parse(bytes: &[u8]) -> Result<Content, String> {
    let Stored { checksum: expected, content } = stored(bytes)?;
    match checksum(&content) {
        Ok(found) if found == expected => {}
        _ => return Err(damaged("its checksum does not match its content")),
    }
    // Such as a space, or a last digit that rounds to the same number.
    if to_text(&content).ok().as_deref().map(str::as_bytes) != Some(bytes) {
        return Err(damaged("its bytes are not those that were written"));
    }
    Ok(content)
}

/// What the bytes of a checkpoint say, whatever its checksum.
fn stored(bytes: &[u8]) -> Result<Stored, String> {
    let Header { schema } =
        serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))?;
    if schema != SCHEMA {
        let version = |text: &str| text.strip_prefix("flatmin.checkpoint/")?.parse::<u64>().ok();
        if version(&schema) > version(SCHEMA) {
            return Err(format!(
                "its format {} is newer than {SCHEMA}, which this version reads; use a newer \
                 flatmin, or start afresh in another --out",
                short(&schema)
            ));
        }
        return Err(damaged(&format!("its format is \"{}\"", short(&schema))));
    }
    serde_json::from_slice(bytes).map_err(|error| damaged(&error.to_string()))
}

/// A checkpoint as a file.
fn to_text(content: &Content) -> serde_json::Result<String> {
    let checksum = checksum(content)?;
    Ok(serde_json::to_string(&Written { schema: SCHEMA, checksum, content })? + "\n")
}

/// The state in a checkpoint whose checksum may be wrong: for tests that alter one.
pub(super) fn state(bytes: &[u8]) -> Result<TrainState, String> {
    parse(bytes).or_else(|_| stored(bytes).map(|stored| stored.content)).map(|c| c.state)
}

fn damaged(what: &str) -> String {
    format!("is damaged ({}); start afresh in another --out", said(&what))
}

/// BLAKE3 of the compact JSON.
fn checksum(content: &Content) -> serde_json::Result<String> {
    let text = serde_json::to_vec(content)?;
    Ok(blake3::hash(&text).to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::{Content, parse, to_text};

    #[test]
    fn every_changed_byte_of_a_checkpoint_is_seen() {
        let segment = |steps| {
            serde_json::json!({
                "steps": steps, "clipped_steps": 0, "loss_sum": 168.5, "max_gradient_norm": 8.25
            })
        };
        let content: Content = serde_json::from_value(serde_json::json!({
            "version": "0.1.0",
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
                // The second has digits enough that its last can change and it stays the same number.
                "parameters": [-0.5, 0.1 + 0.2]
            }
        }))
        .unwrap();
        let bytes = to_text(&content).unwrap().into_bytes();
        assert!(parse(&bytes).is_ok());
        for position in 0..bytes.len() {
            for flip in (0..8).map(|bit| 1 << bit).chain([b'\n' ^ b' ', b'\n' ^ b'\t']) {
                let mut changed = bytes.clone();
                changed[position] ^= flip;
                assert!(parse(&changed).is_err(), "byte {position} with {flip:#x}");
            }
        }
    }
}
