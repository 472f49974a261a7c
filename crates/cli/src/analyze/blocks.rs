//! Named blocks of parameters.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use flatmin_host::{read_small, said, short};
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::failure::Failure;

/// Most bytes of a file with blocks.
const MAX_BLOCKS_BYTES: u64 = 16 << 20;

/// The name of the block of all columns that no other block has.
pub(crate) const REST: &str = "rest";

/// Named ranges of columns, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    pub(crate) ranges: Vec<(String, Range<usize>)>,
    /// True if the file says `"rest": true`.
    pub(crate) has_rest: bool,
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
        let Ranges { ranges, has_rest } = serde_json::from_slice(bytes).map_err(|error| {
            let error = said(&error);
            Failure::input(path, format!("expected {{\"name\": [first, end], …}}: {error}"))
        })?;
        Ok(Self { ranges, has_rest, path: path.into() })
    }

    /// Blocks with these ranges, which no file lists.
    pub(crate) fn new(ranges: Vec<(String, Range<usize>)>, path: &Path) -> Self {
        Self { ranges, has_rest: false, path: path.into() }
    }

    /// Keeps the file, and takes other ranges.
    pub(crate) fn with(&self, ranges: Vec<(String, Range<usize>)>) -> Self {
        Self { ranges, ..self.clone() }
    }

    /// True if the blocks are ranges and claim to be all.
    pub(crate) fn is_complete_list(&self) -> bool {
        let is_range = |range: &Range<usize>| range.start < range.end;
        !self.has_rest && self.ranges.iter().all(|(_, range)| is_range(range))
    }

    /// The largest end of a block.
    pub(crate) fn end(&self) -> usize {
        self.ranges.iter().map(|(_, range)| range.end).max().unwrap_or(0)
    }

    /// The ranges in ascending order if they follow each other from column 0 without a gap.
    pub(crate) fn in_order(&self) -> Option<Vec<Range<usize>>> {
        let mut ranges: Vec<Range<usize>> =
            self.ranges.iter().map(|(_, range)| range.clone()).collect();
        ranges.sort_by_key(|range| range.start);
        let mut end = 0;
        for range in &ranges {
            if range.start != end || range.end <= end {
                return None;
            }
            end = range.end;
        }
        Some(ranges)
    }

    /// The columns below `columns` that no block has.
    pub(crate) fn uncovered(&self, columns: usize) -> Vec<Range<usize>> {
        let mut ranges: Vec<&Range<usize>> = self.ranges.iter().map(|(_, range)| range).collect();
        ranges.sort_by_key(|range| range.start);
        let (mut gaps, mut done) = (Vec::new(), 0);
        for range in ranges {
            if done < range.start {
                gaps.push(done..range.start);
            }
            done = done.max(range.end);
        }
        if done < columns {
            gaps.push(done..columns);
        }
        gaps
    }

    /// The names of two blocks that share columns.
    pub(crate) fn overlap(&self) -> Option<(&str, &str)> {
        let mut order: Vec<&(String, Range<usize>)> = self.ranges.iter().collect();
        order.sort_by_key(|(_, range)| range.start);
        let mut last: Option<&(String, Range<usize>)> = None;
        for block in order {
            if let Some((name, range)) = last
                && block.1.start < range.end
            {
                return Some((name, &block.0));
            }
            if last.is_none_or(|(_, range)| range.end <= block.1.end) {
                last = Some(block);
            }
        }
        None
    }

    /// Checks that the blocks lie within this number of columns.
    pub(crate) fn check(&self, columns: usize) -> Result<(), Failure> {
        for (name, range) in &self.ranges {
            if range.start >= range.end || range.end > columns {
                let Range { start, end } = range;
                let name = short(name);
                let text = format!(
                    "block \"{name}\" is [{start}, {end}], expected first < end ≤ {columns}, the \
                     number of columns; blocks beyond it are those of another array, or its axes \
                     have another order (--axes)"
                );
                return Err(Failure::input(&self.path, text));
            }
        }
        Ok(())
    }
}

/// The blocks as the file lists them.
struct Ranges {
    ranges: Vec<(String, Range<usize>)>,
    has_rest: bool,
}

/// The value of a name: a range, or `true` for the rest.
enum Entry {
    Range([usize; 2]),
    Rest(bool),
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[first, end]")
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Entry, E> {
                Ok(Entry::Rest(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Entry, A::Error> {
                let range = <[usize; 2]>::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Entry::Range(range))
            }
        }
        deserializer.deserialize_any(Value)
    }
}

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
                let (mut names, mut has_rest) = (std::collections::BTreeSet::new(), false);
                while let Some((name, entry)) = map.next_entry::<String, Entry>()? {
                    if !names.insert(name.clone()) {
                        let name = short(&name);
                        return Err(A::Error::custom(format!(
                            "the block \"{name}\" is listed twice"
                        )));
                    }
                    match entry {
                        Entry::Range([start, end]) => ranges.push((name, start..end)),
                        Entry::Rest(rest) if name == REST => has_rest = rest,
                        Entry::Rest(_) => {
                            let name = short(&name);
                            return Err(A::Error::custom(format!(
                                "the block \"{name}\" is no [first, end]; only \"rest\" is true"
                            )));
                        }
                    }
                }
                Ok(Ranges { ranges, has_rest })
            }
        }
        deserializer.deserialize_map(Named)
    }
}

#[cfg(test)]
mod tests {
    use super::Blocks;

    fn blocks(text: &str) -> Blocks {
        Blocks::parse(text.as_bytes(), "blocks.json".as_ref()).unwrap()
    }

    #[test]
    fn gaps_and_overlaps_are_found() {
        let all = blocks(r#"{"b": [4, 6], "a": [0, 4]}"#);
        assert_eq!((all.uncovered(6), all.overlap()), (Vec::new(), None));
        assert_eq!(all.in_order().unwrap(), [0..4, 4..6]);
        let some = blocks(r#"{"a": [1, 3], "c": [5, 6], "rest": true}"#);
        assert!(some.has_rest && some.in_order().is_none());
        assert_eq!(some.uncovered(8), [0..1, 3..5, 6..8]);
        let nested = blocks(r#"{"all": [0, 9], "one": [2, 3], "two": [3, 5]}"#);
        assert_eq!(nested.overlap(), Some(("all", "one")));
        assert!(nested.uncovered(9).is_empty());
    }

    #[test]
    fn only_the_rest_is_true() {
        let error = Blocks::parse(br#"{"a": true}"#, "b.json".as_ref()).unwrap_err().to_string();
        assert!(error.contains("only \"rest\" is true"), "{error}");
    }
}
