//! Every file in the corpus of the fuzz targets is read or refused as its name says, within a
//! second.
//!
//! Files whose names start with `ok` must be read, and those with `bad` must be refused. Files with
//! other names, such as those that a fuzzer has found, may be either.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flatmin_hostile::Reader;

fn folder(reader: Reader) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(reader.name())
}

fn files(reader: Reader) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder(reader))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// The time that this thread has spent on a processor, where the system tells it: other work on the
/// machine does not count then.
struct Clock(Instant, Option<Duration>);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), Self::processor())
    }

    fn elapsed(&self) -> Duration {
        let processor = self.1.and_then(|start| Self::processor()?.checked_sub(start));
        processor.unwrap_or_else(|| self.0.elapsed())
    }

    fn processor() -> Option<Duration> {
        let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    }
}

#[test]
fn every_file_is_read_or_refused_as_its_name_says() {
    let mut wrong = Vec::new();
    for reader in Reader::ALL {
        let files = files(reader);
        let starts = |start: &str| files.iter().filter(|(name, _)| name.starts_with(start)).count();
        assert!(starts("ok") >= 1 && starts("bad") >= 3, "{reader}: a corpus that shows little");
        for (name, bytes) in files {
            let start = Clock::start();
            let read = reader.check(&bytes);
            // A reader has to take less than a second. The limit is higher for a slow machine.
            if start.elapsed() > Duration::from_secs(5) {
                wrong.push(format!("{reader}/{name} took {:?}", start.elapsed()));
            }
            if name.starts_with("ok") && !read || name.starts_with("bad") && read {
                wrong.push(format!("{reader}/{name} is {}", if read { "read" } else { "refused" }));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_reader_has_a_target_and_every_target_a_reader() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let mut found: Vec<String> = fs::read_dir(targets)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    let mut expected: Vec<&str> = Reader::ALL.iter().map(|reader| reader.name()).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// A file of one kind is not a file of another kind, and no reader panics when it gets one.
#[test]
fn every_reader_takes_the_files_of_all_others() {
    for reader in Reader::ALL {
        for other in Reader::ALL {
            for (_, bytes) in files(other) {
                reader.check(&bytes);
            }
        }
    }
}
