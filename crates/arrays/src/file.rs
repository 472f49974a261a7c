//! A file with arrays in it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::array::Data;
use crate::idx;
use crate::npy::{self, Header};
use crate::npz::{self, Npz, rewind, same_len};
use crate::safetensors::Tensors;
use crate::{Array, ArrayError, Reason};
use flatmin_host::printable;

/// A file that holds arrays. Its format is told by its first bytes, not by its name.
#[derive(Debug)]
pub struct ArrayFile {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// The only array, without a name.
    Single(Header, Data),
    Npz(Box<Npz>),
    SafeTensors(Tensors),
}

impl ArrayFile {
    /// Opens a file and reads its table of contents.
    ///
    /// # Errors
    /// When there is no such regular file, when it cannot be read, or when it is none of the formats or
    /// its headers make no sense.
    pub fn open(path: &Path) -> Result<Self, ArrayError> {
        let content = open(path).map_err(|reason| ArrayError::file(path, reason))?;
        Ok(Self { path: path.into(), content })
    }

    /// The names of the arrays; empty for an `.npy` or IDX file, whose only array has none.
    pub fn names(&self) -> Vec<String> {
        match &self.content {
            Content::Single(..) => Vec::new(),
            Content::Npz(npz) => npz.names().map(str::to_owned).collect(),
            Content::SafeTensors(tensors) => tensors.names(),
        }
    }

    /// The array with this name. Without one: the array of an `.npy` or IDX file, the only one there is, or
    /// the first of the `usual` names that there is.
    ///
    /// Reads an array of an archive once to compare its checksum.
    ///
    /// # Errors
    /// When the choice is not possible, or when the array is damaged, too large to expand, or of a
    /// type that is not read.
    pub fn array(self, name: Option<&str>, usual: &[&str]) -> Result<Array, ArrayError> {
        let Self { path, content } = self;
        let choose = |names: Vec<String>| match name {
            Some(name) if names.iter().any(|other| other == name) => Ok(name.to_owned()),
            Some(name) => Err(Reason::NoSuchArray { name: name.into(), names }),
            None if names.len() == 1 => Ok(names.into_iter().next().unwrap_or_default()),
            None => match usual.iter().find(|usual| names.iter().any(|name| name == *usual)) {
                Some(usual) => Ok((*usual).to_owned()),
                None if names.is_empty() => Err(Reason::NoArray),
                None => Err(Reason::Ambiguous { names }),
            },
        };
        let fail = |reason| ArrayError::file(&path, reason);
        match content {
            Content::Single(header, data) => {
                if let Some(name) = name {
                    return Err(fail(Reason::Unnamed { name: name.into() }));
                }
                Array::new(&path, None, header, data).map_err(fail)
            }
            Content::Npz(npz) => {
                let name = choose(npz.names().map(str::to_owned).collect()).map_err(fail)?;
                npz.array(&path, &name)
            }
            Content::SafeTensors(tensors) => {
                let name = choose(tensors.names()).map_err(fail)?;
                tensors.array(&path, &name)
            }
        }
    }
}

fn open(path: &Path) -> Result<Content, Reason> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Reason::Missing,
        _ => Reason::Io(error),
    };
    // Before opening: that waits for the other end of a pipe.
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.is_dir() {
        return Err(Reason::Folder);
    }
    if !metadata.is_file() {
        return Err(Reason::NotAFile);
    }
    let mut file = File::open(path).map_err(failed)?;
    let file_len = file.metadata().map_err(Reason::Io)?.len();
    let mut start = Vec::new();
    (&mut file).take(9).read_to_end(&mut start).map_err(Reason::Io)?;
    rewind(&mut file)?;
    if start.is_empty() {
        return Err(Reason::Empty);
    }
    if start.starts_with(npy::MAGIC) {
        let header = Header::read(&mut file)?;
        same_len(header.data_len(), file_len.saturating_sub(header.len))?;
        let start = header.len;
        return Ok(Content::Single(header, Data::File { file, start }));
    }
    if npz::MAGICS.iter().any(|magic| start.starts_with(magic)) {
        return Npz::open(file, file_len).map(|npz| Content::Npz(Box::new(npz)));
    }
    // A file of this name is taken at its word, so that what is wrong with its header is said.
    let named = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("safetensors"));
    if named || Tensors::is_likely(&start, file_len) {
        return Tensors::open(file, file_len).map(Content::SafeTensors);
    }
    if idx::is_likely(&start) {
        return idx::open(file, file_len).map(|(header, data)| Content::Single(header, data));
    }
    if start.starts_with(idx::GZIP) {
        return idx::open_gzip(file).map(|(header, data)| Content::Single(header, data));
    }
    let start = printable(&String::from_utf8_lossy(&start));
    Err(Reason::Format { start: format!("\"{start}\"") })
}
