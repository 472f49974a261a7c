//! TOML documents for serde. Errors name the line, the key, the value and a remedy.

use std::fmt::Display;

use flatmin_host::{said, short};
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, Expected, IntoDeserializer as _,
    MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Names that are at least this similar are suggested for each other.
const MIN_SIMILARITY: f64 = 0.8;

/// Longest name, in bytes, that is compared with the known names.
const MAX_NAME_BYTES: usize = 100;

/// Most choices that are listed beside a suggestion.
const MAX_CHOICES: usize = 5;

/// A problem with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConfigError {
    /// One line that says all.
    #[error("{0}")]
    Complete(String),
    /// The end of a line about a value; the reader of its table adds the line number and the key.
    #[error("{0}")]
    Value(String),
    /// The type that was expected of a value; the reader of its table adds the type that it has.
    #[error("expected {0}")]
    Type(String),
    /// The end of a line about an unknown key; the reader of its table adds the line number and the
    /// key.
    #[error("{0}")]
    Key(String),
}

/// A parsed TOML file.
#[derive(Debug)]
pub(super) struct Document<'a> {
    text: &'a str,
    /// A table.
    root: DeValue<'a>,
}

/// A table of a document, for errors about its keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'a> {
    text: &'a str,
    /// The name, as in `[optimizer]`; empty for the keys before the first table.
    name: &'a str,
    /// The position of the header.
    start: usize,
    entries: Option<&'a DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// Parses the text of a file.
    pub(super) fn parse(text: &'a str) -> Result<Self, ConfigError> {
        let root = DeTable::parse(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            at(text, start, &said(&error.message().trim().replace('\n', ", ")))
        })?;
        Ok(Self { text, root: DeValue::Table(root.into_inner()) })
    }

    /// Reads all keys of the document into a value.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        T::deserialize(Node { text: self.text, key: "", value: &self.root })
    }

    /// The keys before the first table, and the names of the tables.
    pub(super) fn root(&self) -> Section<'_> {
        Section { text: self.text, name: "", start: 0, entries: self.root.as_table() }
    }

    /// The table of this name; without keys where the document has no such table.
    pub(super) fn section<'b>(&'b self, name: &'b str) -> Section<'b> {
        let found = self.root.as_table().and_then(|root| root.get_key_value(name));
        let start = found.map_or(0, |(key, _)| key.span().start);
        let entries = found.and_then(|(_, value)| value.get_ref().as_table());
        Section { text: self.text, name, start, entries }
    }

    /// True if there is a key before the first table, or a table, of another name.
    pub(super) fn has_other_than(&self, name: &str) -> bool {
        self.root.as_table().is_some_and(|root| root.keys().any(|key| key.get_ref() != name))
    }
}

impl Section<'_> {
    /// An error about a key that is there.
    pub(super) fn error(&self, key: &str, message: &str) -> ConfigError {
        let found = self.entries.and_then(|entries| entries.get_key_value(key));
        at(self.text, found.map_or(self.start, |(key, _)| key.span().start), message)
    }

    /// An error about a key that is not there; `what` describes its value.
    pub(super) fn missing(&self, key: &str, what: &str) -> ConfigError {
        if self.name.is_empty() {
            return ConfigError::Complete(format!("{key} is missing: {what}"));
        }
        at(self.text, self.start, &format!("[{}] needs {key}, {what}", self.name))
    }

    /// The value of a key that has to be there; `what` describes it.
    pub(super) fn need<T>(
        &self,
        key: &str,
        value: Option<T>,
        what: &str,
    ) -> Result<T, ConfigError> {
        value.ok_or_else(|| self.missing(key, what))
    }

    /// True if the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// Refuses keys that make no sense here; `reason` continues their names.
    pub(super) fn refuse(&self, keys: &[&str], reason: &str) -> Result<(), ConfigError> {
        match keys.iter().find(|key| self.has(key)) {
            Some(key) => Err(self.error(key, &format!("{key} {reason}"))),
            None => Ok(()),
        }
    }
}

/// A value of a document, with the key that an error about it names.
#[derive(Debug, Clone, Copy)]
struct Node<'a> {
    text: &'a str,
    key: &'a str,
    value: &'a DeValue<'a>,
}

/// The entries of a table.
struct Entries<'a> {
    node: Node<'a>,
    iter: toml::map::Iter<'a, Spanned<DeString<'a>>, Spanned<DeValue<'a>>>,
    /// The value of the last key that was read, and its position.
    value: Option<(Node<'a>, usize)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ConfigError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ConfigError> {
        let Node { text, key: table, .. } = self.node;
        let Some((name, value)) = self.iter.next() else { return Ok(None) };
        let (key, start) = (name.get_ref().as_ref(), name.span().start);
        self.value = Some((Node { text, key, value: value.get_ref() }, value.span().start));
        let key: StrDeserializer<'_, ConfigError> = key.into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| match error {
            ConfigError::Key(end) => {
                let table = if table.is_empty() { String::new() } else { format!(" in [{table}]") };
                at(text, start, &format!("unknown key \"{}\"{table}{end}", short(name.get_ref())))
            }
            error => error,
        })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, ConfigError> {
        let value = self.value.take();
        let (node, start) = value.ok_or_else(|| ConfigError::custom("a value before its key"))?;
        seed.deserialize(node).map_err(|error| node.locate(error, "is", start))
    }
}

/// The entries of a list.
struct Items<'a> {
    node: Node<'a>,
    items: std::slice::Iter<'a, Spanned<DeValue<'a>>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ConfigError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ConfigError> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let node = Node { value: item.get_ref(), ..self.node };
        let value = seed.deserialize(node);
        value.map(Some).map_err(|error| node.locate(error, "holds", item.span().start))
    }
}

impl Node<'_> {
    /// Adds the line and the key to an error about the value at `start`.
    fn locate(&self, error: ConfigError, verb: &str, start: usize) -> ConfigError {
        let end = match error {
            ConfigError::Value(end) => end,
            ConfigError::Type(expected) => {
                let found = self.value.type_str();
                let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
                format!("{article} {found}, expected {expected}")
            }
            error => return error,
        };
        at(self.text, start, &format!("{} {verb} {end}", self.key))
    }
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        let out_of_range = |number| ConfigError::Value(format!("{}, out of range", short(number)));
        match self.value {
            DeValue::String(value) => visitor.visit_str(value),
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            DeValue::Integer(value) => {
                let (digits, radix) = (value.as_str(), value.radix());
                if let Ok(number) = u64::from_str_radix(digits, radix) {
                    return visitor.visit_u64(number);
                }
                let number = i64::from_str_radix(digits, radix);
                visitor.visit_i64(number.map_err(|_| out_of_range(digits))?)
            }
            DeValue::Float(value) => match value.as_str().parse::<f64>() {
                Ok(number) if number.is_nan() => {
                    Err(ConfigError::Value("nan, expected a number".to_owned()))
                }
                Ok(number) if number.is_finite() || value.as_str().contains("inf") => {
                    visitor.visit_f64(number)
                }
                _ => Err(out_of_range(value.as_str())),
            },
            DeValue::Array(items) => visitor.visit_seq(Items { node: self, items: items.iter() }),
            DeValue::Table(table) => {
                visitor.visit_map(Entries { node: self, iter: table.iter(), value: None })
            }
            DeValue::Datetime(_) => {
                Err(ConfigError::invalid_type(Unexpected::Other("datetime"), &visitor))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        choices: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        match self.value {
            DeValue::String(word) => visitor.visit_enum(word.as_ref().into_deserializer()),
            _ => Err(ConfigError::Type(format!("one of {}", quoted(choices)))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl serde::de::Error for ConfigError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Value(message.to_string())
    }

    fn invalid_type(_found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        // The names that serde has for its own types.
        Self::Type(match expected.to_string().as_str() {
            "f64" => "a number".to_owned(),
            "i128" => "a whole number".to_owned(),
            "a boolean" => "true or false".to_owned(),
            "a string" => "a text in quotes".to_owned(),
            "a sequence" => "a list in brackets".to_owned(),
            other => other.to_owned(),
        })
    }

    fn unknown_variant(word: &str, choices: &'static [&'static str]) -> Self {
        Self::unknown_word(word, choices)
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::Key(match nearest(key, known) {
            Some(near) => format!("; did you mean {near:?}?"),
            None => format!("; known here: {}", known.join(", ")),
        })
    }
}

impl ConfigError {
    /// A word that is none of the choices.
    pub(super) fn unknown_word(word: &str, choices: &[&str]) -> Self {
        let near = nearest(word, choices);
        let list = match near {
            Some(_) if choices.len() > MAX_CHOICES => String::new(),
            _ => format!(", expected one of {}", quoted(choices)),
        };
        let near = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
        Self::Value(format!("\"{}\"{list}{near}", short(word)))
    }
}

/// A message about a place in the text.
fn at(text: &str, position: usize, message: &str) -> ConfigError {
    let line = 1 + text.bytes().take(position).filter(|byte| *byte == b'\n').count();
    ConfigError::Complete(format!("line {line}: {message}"))
}

/// The known name that is most similar to `name`, if any is similar.
fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    if name.len() > MAX_NAME_BYTES {
        return None;
    }
    let similarity = |other: &&str| strsim::jaro_winkler(&name.to_lowercase(), other);
    let best = names.iter().copied().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&best) >= MIN_SIMILARITY).then_some(best)
}

/// Names in quotation marks, with commas between them.
fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
