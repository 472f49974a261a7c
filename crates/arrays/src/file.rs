//! A file that holds arrays.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use crate::array::Data;
use crate::header::{Header, check_len};
use crate::idx;
use crate::memory::ArraysInMemory;
use crate::npy;
use crate::npz::{self, Npz};
use crate::safetensors::Tensors;
use crate::{Array, ArrayError, Reason};
use flatmin_host::printable;

/// A file that holds arrays. The first bytes of the file say which format it has, not its name.
#[derive(Debug)]
pub struct ArrayFile {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// A single array without a name.
    Single(Header, Data),
    Npz(Box<Npz>),
    SafeTensors(Tensors),
    Memory(ArraysInMemory),
}

impl ArrayFile {
    /// Opens a file and reads its table of contents.
    ///
    /// # Errors
    /// [`ArrayError`] when there is no such regular file, when it cannot be read, when it has none
    /// of the formats, or when its headers are invalid.
    pub fn open(path: &Path) -> Result<Self, ArrayError> {
        let content = open(path).map_err(|reason| ArrayError::file(path, reason))?;
        Ok(Self::new(path, content))
    }

    pub(crate) fn new(path: &Path, content: Content) -> Self {
        Self { path: path.into(), content }
    }

    /// The names of the arrays; empty for an `.npy` or IDX file, whose only array has no name.
    pub fn names(&self) -> Vec<String> {
        match &self.content {
            Content::Single(..) => Vec::new(),
            Content::Npz(npz) => npz.names().map(str::to_owned).collect(),
            Content::SafeTensors(tensors) => tensors.names(),
            Content::Memory(arrays) => arrays.names(),
        }
    }

    /// Chooses an array and checks its header.
    ///
    /// With `name` this is the array of that name. Without it, it is the only array of the file or,
    /// among several, the one with the first of the `usual` names that the file has. An array of an
    /// archive is read once to compare its checksum.
    ///
    /// # Errors
    /// [`Reason::NoSuchArray`], [`Reason::Unnamed`] or [`Reason::Ambiguous`] when there is no such
    /// choice; other reasons when the array is damaged, too large to expand, or has a type that is
    /// not supported.
    pub fn array(self, name: Option<&str>, usual: &[&str]) -> Result<Array, ArrayError> {
        let chosen = self.choose(name, usual);
        let chosen = chosen.map_err(|reason| ArrayError::file(&self.path, reason))?;
        let name = chosen.as_deref();
        let is_main = matches!(self.content, Content::Memory(_)) && name == self.path.to_str();
        let found = match self.content {
            Content::Single(header, data) => Ok((header, data)),
            Content::Npz(mut npz) => npz.read(name.unwrap_or_default()),
            Content::SafeTensors(tensors) => tensors.read(name.unwrap_or_default()),
            Content::Memory(arrays) => arrays.read(name.unwrap_or_default()),
        };
        // Messages need no name beside an equal path.
        let name = name.filter(|_| !is_main);
        let array = found.and_then(|(header, data)| Array::new(&self.path, name, header, data));
        let array = array.map_err(|reason| (name.map(str::to_owned), reason));
        array.map_err(|(array, reason)| ArrayError { path: self.path, array, reason })
    }

    /// The name of the array that [`array`](Self::array) gives; `None` for one that has no name.
    fn choose(&self, name: Option<&str>, usual: &[&str]) -> Result<Option<String>, Reason> {
        let names = self.names();
        let has = |wanted: &&str| names.iter().any(|name| name == wanted);
        match (name, &self.content) {
            (None, Content::Single(..)) => Ok(None),
            (None, Content::Memory(_)) if self.path.to_str().is_some_and(|path| has(&path)) => {
                Ok(self.path.to_str().map(str::to_owned))
            }
            (Some(name), Content::Single(..)) => Err(Reason::Unnamed { name: name.into() }),
            (Some(name), _) if has(&name) => Ok(Some(name.to_owned())),
            (Some(name), _) => Err(Reason::NoSuchArray { name: name.into(), names }),
            (None, _) if names.len() == 1 => Ok(names.into_iter().next()),
            (None, _) => match usual.iter().find(|usual| has(usual)) {
                Some(usual) => Ok(Some((*usual).to_owned())),
                None if names.is_empty() => Err(Reason::NoArray),
                None => Err(Reason::Ambiguous { names }),
            },
        }
    }
}

fn open(path: &Path) -> Result<Content, Reason> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Reason::Missing,
        _ => Reason::Io(error),
    };
    // Before the file is opened, because opening a pipe waits for its other end.
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
    file.rewind().map_err(Reason::Io)?;
    if start.is_empty() {
        return Err(Reason::Empty);
    }
    if start.starts_with(npy::MAGIC) {
        return in_place(npy::read_header(&mut file)?, file, file_len);
    }
    if npz::MAGICS.iter().any(|magic| start.starts_with(magic)) {
        return Npz::open(file, file_len).map(|npz| Content::Npz(Box::new(npz)));
    }
    // A file with this extension is read as such, so that the error says what its header lacks.
    let named = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("safetensors"));
    if named || Tensors::is_likely(&start, file_len) {
        return Tensors::open(file, file_len).map(Content::SafeTensors);
    }
    if idx::is_likely(&start) {
        return in_place(idx::read(&mut file)?, file, file_len);
    }
    if start.starts_with(idx::GZIP) {
        return idx::open_gzip(file).map(|(header, data)| Content::Single(header, data));
    }
    let start = printable(&String::from_utf8_lossy(&start));
    Err(Reason::Format { start: format!("\"{start}\"") })
}

/// A single array whose numbers follow its header, up to the end of the file.
fn in_place(header: Header, file: File, file_len: u64) -> Result<Content, Reason> {
    let start = header.len;
    check_len(header.data_len(), file_len.saturating_sub(start))?;
    Ok(Content::Single(header, Data::File { file, start }))
}
