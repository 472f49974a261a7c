//! Arrays in zip archives, as `numpy.savez` writes them.
//!
//! The name of an entry is a label: nothing is ever written to where it points.

mod directory;

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use flatmin_host::{said, short};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use self::directory::Budget;
use crate::array::Data;
use crate::npy::Header;
use crate::{Array, ArrayError, Reason};

/// Most bytes of numbers to which a compressed array may expand: they are held in memory. Uncompressed
/// arrays are read where they lie, whatever their size.
pub const LARGEST_COMPRESSED: u64 = 256 << 20;

/// What the names of arrays end in.
const SUFFIX: &str = ".npy";

/// Beginnings of zip archives: with entries, and empty.
pub(crate) const MAGICS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

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
        if let Some(name) = directory::twice(&mut npz.file, start).map_err(Reason::Io)? {
            return Err(Reason::Archive(format!("it holds \"{}\" twice", short(&name))));
        }
        if npz.names().next().is_none() {
            let pickle = npz.archive.file_names().any(|name| name.ends_with("data.pkl"));
            return Err(Reason::NoArrays { pickle });
        }
        Ok(npz)
    }

    /// The names of the arrays, in the order of the archive.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.archive.file_names().filter_map(|name| name.strip_suffix(SUFFIX))
    }

    pub(crate) fn array(mut self, path: &Path, name: &str) -> Result<Array, ArrayError> {
        let fail = |reason| ArrayError { path: path.into(), array: Some(name.into()), reason };
        self.read(name)
            .map_err(fail)
            .and_then(|(header, data)| Array::new(path, Some(name), header, data).map_err(fail))
    }

    fn read(&mut self, name: &str) -> Result<(Header, Data), Reason> {
        let mut entry = self.archive.by_name(&format!("{name}{SUFFIX}")).map_err(reason)?;
        if !entry.is_file() {
            return Err(Reason::Archive("the entry is a link or a folder, not a file".into()));
        }
        let header = Header::read(&mut entry)?;
        let promised = header.data_len();
        if entry.compression() == CompressionMethod::Stored {
            let found = entry.size().saturating_sub(header.len);
            same_len(promised, found)?;
            // The checksum is of the one, the numbers are read up to the other.
            if entry.compressed_size() != entry.size() {
                return Err(Reason::Archive(
                    "the lengths of an entry contradict each other".into(),
                ));
            }
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
        let limit = LARGEST_COMPRESSED;
        let Some(len) = u64::try_from(promised).ok().filter(|len| *len <= limit) else {
            let remedy = "numpy.save or numpy.savez";
            return Err(Reason::TooLarge { size: promised, limit, remedy });
        };
        let mut bytes = Vec::new();
        // One more than promised, so that reading on to the end compares the checksum.
        let read = (&mut entry).take(len + 1).read_to_end(&mut bytes);
        read.map_err(|error| Reason::Archive(error.to_string()))?;
        same_len(promised, bytes.len() as u64)?;
        Ok((header, Data::Memory(bytes)))
    }
}

/// Whether as many bytes are there as the header promises.
pub(crate) fn same_len(promised: u128, found: u64) -> Result<(), Reason> {
    match u128::from(found).cmp(&promised) {
        std::cmp::Ordering::Less => Err(Reason::Truncated { promised, found }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(Reason::TooLong { promised, found }),
    }
}

fn reason(error: ZipError) -> Reason {
    match error {
        ZipError::Io(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
            ) =>
        {
            Reason::Io(error)
        }
        error => Reason::Archive(said(&error)),
    }
}

/// Goes to the start of a file.
pub(crate) fn rewind(file: &mut File) -> Result<(), Reason> {
    file.seek(SeekFrom::Start(0)).map(|_| ()).map_err(Reason::Io)
}
