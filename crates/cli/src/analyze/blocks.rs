//! Named blocks of parameters.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use flatmin_host::{read_small, said, short};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::failure::Failure;

/// Most bytes of a file with blocks.
const MAX_BLOCKS_BYTES: u64 = 16 << 20;

/// Named ranges of columns, in the order of the file.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub(crate) ranges: Vec<(String, Range<usize>)>,
    path: PathBuf,
}

impl Blocks {
    /// Reads `{"name": [first, end], …}`.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = read_small(path, MAX_BLOCKS_BYTES, "blocks of parameters in JSON")?;
        Self::parse(&bytes, path)
    }

    /// Parses the content of the file at `path`.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self, Failure> {
        let Ranges(ranges) = serde_json::from_slice(bytes).map_err(|error| {
            let error = said(&error);
            Failure::input(path, format!("expected {{\"name\": [first, end], …}}: {error}"))
        })?;
        Ok(Self { ranges, path: path.into() })
    }

    /// Checks that the blocks lie within this number of columns.
    pub(crate) fn check(&self, columns: usize) -> Result<(), Failure> {
        for (name, range) in &self.ranges {
            if range.start >= range.end || range.end > columns {
                let Range { start, end } = range;
                let name = short(name);
                let text = format!(
                    "block \"{name}\" is [{start}, {end}], expected first < end ≤ {columns}, the \
                     number of columns"
                );
                return Err(Failure::input(&self.path, text));
            }
        }
        Ok(())
    }
}

/// The blocks as the file lists them.
struct Ranges(Vec<(String, Range<usize>)>);

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = Ranges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of [first, end] pairs")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ranges, A::Error> {
                let mut ranges: Vec<(String, Range<usize>)> = Vec::new();
                let mut names = std::collections::BTreeSet::new();
                while let Some((name, [start, end])) = map.next_entry::<String, [usize; 2]>()? {
                    if !names.insert(name.clone()) {
                        let name = short(&name);
                        return Err(A::Error::custom(format!(
                            "the block \"{name}\" is listed twice"
                        )));
                    }
                    ranges.push((name, start..end));
                }
                Ok(Ranges(ranges))
            }
        }
        deserializer.deserialize_map(Named)
    }
}
