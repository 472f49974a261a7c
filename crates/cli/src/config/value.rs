//! Types of single values in a configuration: numbers in a range, paths, and texts in place of
//! tables.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use flatmin_linalg::UnknownName;
use flatmin_theory::Sampling;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::document::ConfigError;

/// Most parameters, samples and so on: indices have 32 bits.
pub(super) const MAX_SIZE: u64 = u32::MAX as u64;

/// A whole number in a range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole<const LEAST: u64, const MOST: u64 = { u64::MAX }>(pub(super) u64);

/// A number of things, at least `LEAST`.
pub(super) type Size<const LEAST: u64 = 1> = Whole<LEAST, MAX_SIZE>;

impl<const LEAST: u64, const MOST: u64> Whole<LEAST, MOST> {
    /// The number as a size.
    pub(super) fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Whole<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i128::deserialize(deserializer)?;
        match u64::try_from(number) {
            Ok(number) if (LEAST..=MOST).contains(&number) => Ok(Self(number)),
            _ => {
                let most = if MOST < u64::MAX {
                    format!("from {LEAST} to {MOST}")
                } else {
                    format!("of at least {LEAST}")
                };
                Err(D::Error::custom(format!("{number}, expected a whole number {most}")))
            }
        }
    }
}

/// A positive number, which may be infinite.
#[derive(Debug, Clone, Copy)]
pub(super) struct Positive(pub(super) f64);

impl<'de> Deserialize<'de> for Positive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match f64::deserialize(deserializer)? {
            number if number > 0.0 => Ok(Self(number)),
            number => Err(D::Error::custom(format!("{number}, expected a positive number"))),
        }
    }
}

/// A sampling by its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct SamplingName(pub(super) Sampling);

impl<'de> Deserialize<'de> for SamplingName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let unknown = |error: UnknownName| ConfigError::unknown_word(&text, &error.names);
        text.parse().map(Self).map_err(|error| D::Error::custom(unknown(error)))
    }
}

/// The path of a file, relative to the folder of the configuration.
#[derive(Debug, Clone)]
pub(super) struct FilePath(pub(super) PathBuf);

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)? {
            path if path.is_empty() => Err(D::Error::custom("empty, expected a path")),
            path => Ok(Self(path.into())),
        }
    }
}

/// A text, or a table with keys of its own.
#[derive(Debug, Clone)]
pub(super) enum TextOr<A, T> {
    Text(A),
    Table(T),
}

impl<'de, A: Deserialize<'de>, T: Deserialize<'de>> Deserialize<'de> for TextOr<A, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrVisitor<A, T>(PhantomData<(A, T)>);
        impl<'de, A: Deserialize<'de>, T: Deserialize<'de>> Visitor<'de> for TextOrVisitor<A, T> {
            type Value = TextOr<A, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes or a table")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TextOr<A, T>, E> {
                A::deserialize(StrDeserializer::new(text)).map(TextOr::Text)
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<TextOr<A, T>, M::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(TextOr::Table)
            }
        }
        deserializer.deserialize_any(TextOrVisitor(PhantomData))
    }
}
