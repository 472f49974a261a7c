//! Arrays in zip archives, as `numpy.savez` writes them.
//!
//! The name of an entry is only a label. Nothing is written to the path that it may contain.

mod directory;

use std::fs::File;
use std::io::ErrorKind::{InvalidData, UnexpectedEof};
use std::io::{self, BufReader, Read as _};

use flatmin_host::{said, short};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use self::directory::Budget;
use crate::Reason;
use crate::array::Data;
use crate::header::{Header, check_len};
use crate::npy;

/// The end of the file names of arrays.
const SUFFIX: &str = ".npy";

/// The first bytes of a zip archive with entries, and of an empty one.
pub(crate) const MAGICS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// A zip archive with at least one array.
#[derive(Debug)]
pub(crate) struct Npz {
    archive: ZipArchive<Budget<BufReader<File>>>,
    file: File,
    file_len: u64,
}

impl Npz {
    pub(crate) fn open(file: File, file_len: u64) -> Result<Self, Reason> {
        let second = file.try_clone().map_err(Reason::Io)?;
        let mut reader = BufReader::new(second);
        directory::check(&mut reader, file_len)?;
        let archive = ZipArchive::new(Budget::new(reader, file_len)).map_err(reason)?;
        let start = archive.central_directory_start();
        let mut npz = Self { archive, file, file_len };
        if let Some(name) = directory::duplicate_name(&mut npz.file, start).map_err(Reason::Io)? {
            return Err(Reason::Archive(format!("it holds \"{}\" twice", short(&name))));
        }
        if npz.names().next().is_none() {
            let pickle = npz.archive.file_names().any(|name| name.ends_with("data.pkl"));
            return Err(Reason::NoArrays { pickle });
        }
        Ok(npz)
    }

    /// The names of the arrays in the order of the archive.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.archive.file_names().filter_map(|name| name.strip_suffix(SUFFIX))
    }

    /// The header and the numbers of an array.
    pub(crate) fn read(&mut self, name: &str) -> Result<(Header, Data), Reason> {
        let mut entry = self.archive.by_name(&format!("{name}{SUFFIX}")).map_err(reason)?;
        if !entry.is_file() {
            return Err(Reason::Archive("the entry is a link or a folder, not a file".into()));
        }
        let header = npy::read_header(&mut entry)?;
        let promised = header.data_len();
        if entry.compression() == CompressionMethod::Stored {
            let found = entry.size().saturating_sub(header.len);
            check_len(promised, found)?;
            // The checksum covers the compressed size; the numbers are read up to the other one.
            check_entry(entry.size(), entry.compressed_size())?;
            let start = entry.data_start().ok_or_else(|| Reason::Archive("no data".into()))?;
            if start.saturating_add(entry.size()) > self.file_len {
                let found = self.file_len.saturating_sub(start).saturating_sub(header.len);
                return Err(Reason::Truncated { promised, found });
            }
            // Reading to the end compares the checksum.
            io::copy(&mut entry, &mut io::sink()).map_err(|e| Reason::Archive(e.to_string()))?;
            let start = start + header.len;
            drop(entry);
            let file = self.file.try_clone().map_err(Reason::Io)?;
            return Ok((header, Data::File { file, start }));
        }
        let len = header.expanded_len("numpy.save or numpy.savez")?;
        let mut bytes = Vec::new();
        // One byte more than promised: the checksum is compared at the end of the data.
        let read = (&mut entry).take(len + 1).read_to_end(&mut bytes);
        read.map_err(|error| Reason::Archive(error.to_string()))?;
        let found = bytes.len() as u64;
        check_len(promised, found)?;
        check_entry(entry.size(), header.len + found)?;
        Ok((header, Data::Memory(bytes)))
    }
}

/// Checks that an entry has the size in bytes that the directory of its archive promises.
fn check_entry(promised: u64, found: u64) -> Result<(), Reason> {
    if found == promised { Ok(()) } else { Err(Reason::EntrySize { promised, found }) }
}

/// The reason that an error of the zip library stands for.
fn reason(error: ZipError) -> Reason {
    match error {
        ZipError::Io(io) if !matches!(io.kind(), UnexpectedEof | InvalidData) => Reason::Io(io),
        error => Reason::Archive(said(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fails_is_told_from_an_archive_that_is_damaged() {
        let reason = |kind: io::ErrorKind| reason(ZipError::Io(kind.into()));
        assert!(matches!(reason(io::ErrorKind::PermissionDenied), Reason::Io(_)));
        assert!(matches!(reason(UnexpectedEof), Reason::Archive(_)));
        assert!(matches!(reason(InvalidData), Reason::Archive(_)));
    }
}
