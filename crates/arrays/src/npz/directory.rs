//! Checks of the directory of a zip archive that the zip library does not make.
//!
//! The library allocates memory for as many entries as an archive claims to have. Of two entries
//! with the same name it silently keeps the last.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crate::Reason;

/// The size of the record at the end of an archive, without its comment.
const END_BYTES: u64 = 22;

/// The size of the record before it, which locates the record with the 64-bit fields.
const LOCATOR_BYTES: u64 = 20;

/// The size of the longest comment.
const MAX_COMMENT_BYTES: u64 = 0xffff;

/// The size of an entry of the directory, without its name.
const ENTRY_BYTES: u64 = 46;

/// Checks that an archive ends with its record, and has room for as many entries as it claims.
pub(super) fn check(file: &mut (impl Read + Seek), file_len: u64) -> Result<(), Reason> {
    let invalid = |text: &str| Reason::Archive(text.to_owned());
    let start = file_len.saturating_sub(MAX_COMMENT_BYTES + END_BYTES + LOCATOR_BYTES);
    let tail = read_at(file, start, MAX_COMMENT_BYTES + END_BYTES + LOCATOR_BYTES)?;
    if !tail.windows(4).any(|bytes| bytes == b"PK\x05\x06") {
        return Err(invalid("it has no directory; is it cut off?"));
    }
    // The library may take any of these places for the locator.
    for position in 0..tail.len() {
        let Some(locator) = tail.get(position..position + 20) else { break };
        if !locator.starts_with(b"PK\x06\x07") {
            continue;
        }
        // The place that the locator gives, and the actual place when other data precede the
        // archive.
        let said = u64_at(locator, 8);
        let before = (start + position as u64).saturating_sub(56);
        for place in [said, before] {
            if place >= file_len {
                continue;
            }
            let record = read_at(file, place, 56)?;
            if record.len() == 56
                && record.starts_with(b"PK\x06\x06")
                && [24, 32].iter().any(|at| u64_at(&record, *at) > file_len / ENTRY_BYTES)
            {
                return Err(invalid("it claims more entries than it has room for"));
            }
        }
    }
    file.rewind().map_err(Reason::Io)
}

/// The bytes from `start` on, `most` of them or all that are left.
fn read_at(file: &mut (impl Read + Seek), start: u64, most: u64) -> Result<Vec<u8>, Reason> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start)).map_err(Reason::Io)?;
    file.take(most).read_to_end(&mut bytes).map_err(Reason::Io)?;
    Ok(bytes)
}

/// The first name that two entries of the directory at `start` have.
pub(super) fn duplicate_name(
    file: &mut (impl Read + Seek),
    start: u64,
) -> io::Result<Option<String>> {
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::new(file);
    let mut names = BTreeSet::new();
    loop {
        let mut entry = Vec::new();
        (&mut reader).take(ENTRY_BYTES).read_to_end(&mut entry)?;
        if entry.len() as u64 != ENTRY_BYTES || !entry.starts_with(b"PK\x01\x02") {
            return Ok(None);
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| u64::from(u16_at(&entry, at)));
        let mut bytes = Vec::new();
        (&mut reader).take(name).read_to_end(&mut bytes)?;
        io::copy(&mut (&mut reader).take(extra + comment), &mut io::sink())?;
        if let Some(name) = names.replace(bytes) {
            return Ok(Some(String::from_utf8_lossy(&name).into_owned()));
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// A reader that fails when more bytes than its budget have been read in all.
///
/// The library searches for the record at the end of an archive from behind, and tries every
/// candidate. A file can consist of such candidates that all share the same long directory.
#[derive(Debug)]
pub(super) struct Budget<R> {
    inner: R,
    left: u64,
}

impl<R> Budget<R> {
    /// Makes a reader with a budget for a few passes over a file of this length.
    pub(super) fn new(inner: R, file_len: u64) -> Self {
        Self { inner, left: file_len.saturating_mul(8).saturating_add(1 << 20) }
    }
}

impl<R: Read> Read for Budget<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "it refers to the same places over and over")
        })?;
        Ok(read)
    }
}

impl<R: Seek> Seek for Budget<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// An entry of a directory with this name and further fields of these lengths.
    fn entry(name: u8, extra: u8, comment: u8) -> Vec<u8> {
        let lengths = [1, 0, extra, 0, comment, 0];
        let further = vec![0; usize::from(extra) + usize::from(comment)];
        [b"PK\x01\x02", [0; 24].as_slice(), &lengths, &[0; 12], &[name], &further].concat()
    }

    #[test]
    fn a_name_is_found_twice_behind_fields_of_any_length() {
        for (extra, comment) in [(0, 0), (3, 0), (0, 5), (3, 5), (5, 3)] {
            let entry = |name| entry(name, extra, comment);
            let directory = [b"before".to_vec(), entry(b'a'), entry(b'b'), entry(b'a')].concat();
            let twice = duplicate_name(&mut Cursor::new(&directory), 6).unwrap();
            assert_eq!(twice.as_deref(), Some("a"), "{extra} {comment}");
            let once = &directory[..directory.len() - entry(b'a').len()];
            assert_eq!(duplicate_name(&mut Cursor::new(once), 6).unwrap(), None);
        }
    }
}
