//! A table of a TOML file, read key by key, with errors that say the line and the remedy.

use flatmin_host::short;
use toml::de::{DeInteger, DeTable, DeValue};

/// What is wrong with a configuration: one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(pub(crate) String);

/// Names that are at least this similar are taken for each other.
const NEAR: f64 = 0.8;

/// Longest name, in bytes, that is compared with those there are.
const LONGEST_NAME: usize = 100;

/// A table whose keys are all known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    text: &'a str,
    /// As in `[optimizer]`; empty for the keys before the first table.
    name: &'a str,
    start: usize,
    entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// The keys of a whole file, and those of the tables in it that are there: a misspelt key is said
    /// before anything that may follow from it.
    pub(crate) fn root(
        text: &'a str,
        entries: &'a DeTable<'a>,
        keys: &[&str],
        tables: &[(&'a str, &[&str])],
    ) -> Result<Self, ConfigError> {
        let root = Self { text, name: "", start: 0, entries }.checked(keys)?;
        for (name, keys) in tables {
            if let Some((_, value)) = entries.get_key_value(*name)
                && matches!(value.get_ref(), DeValue::Table(_))
                && let Some(table) = root.table(name)?
            {
                table.checked(keys)?;
            }
        }
        Ok(root)
    }

    fn checked(self, keys: &[&str]) -> Result<Self, ConfigError> {
        for key in self.entries.keys() {
            let found = key.get_ref();
            if !keys.contains(&found.as_ref()) {
                let what = format!("unknown key \"{}\"{}", short(found), self.inside());
                return Err(self.at(key.span().start, &suggest(&what, found, keys)));
            }
        }
        Ok(self)
    }

    fn inside(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) }
    }

    /// An error at a place in the text.
    fn at(&self, position: usize, message: &str) -> ConfigError {
        ConfigError(format!("line {}: {message}", line(self.text, position)))
    }

    /// An error about a key that is there.
    pub(crate) fn error(&self, key: &str, message: &str) -> ConfigError {
        let found = self.entries.get_key_value(key);
        self.at(found.map_or(self.start, |(key, _)| key.span().start), message)
    }

    /// An error about a key that is not there.
    pub(crate) fn missing(&self, key: &str, what: &str) -> ConfigError {
        if self.name.is_empty() {
            return ConfigError(format!("{key} is missing: {what}"));
        }
        self.at(self.start, &format!("[{}] needs {key}, {what}", self.name))
    }

    /// Whether there is such a key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// That a key is not there, which would make no sense for the given reason.
    pub(crate) fn refuse(&self, key: &str, reason: &str) -> Result<(), ConfigError> {
        if self.has(key) { Err(self.error(key, &format!("{key} {reason}"))) } else { Ok(()) }
    }

    fn value(&self, key: &str) -> Option<&'a DeValue<'a>> {
        self.entries.get(key).map(toml::Spanned::get_ref)
    }

    fn wrong_type(&self, key: &str, found: &DeValue<'_>, expected: &str) -> ConfigError {
        let found = match found.type_str() {
            "integer" => "an integer".to_owned(),
            "array" => "an array".to_owned(),
            other => format!("a {other}"),
        };
        self.error(key, &format!("{key} is {found}, expected {expected}"))
    }

    /// A text.
    pub(crate) fn text(&self, key: &str, expected: &str) -> Result<Option<&'a str>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(DeValue::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(key, other, expected)),
        }
    }

    /// One of several words.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let expected = format!("one of {}", quoted(&names));
        let Some(text) = self.text(key, &expected)? else { return Ok(None) };
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(Some(*value));
        }
        let what = format!("{key} is \"{}\", expected {expected}", short(text));
        let near = nearest(text, &names).map(|near| format!("; did you mean {near:?}?"));
        Err(self.error(key, &(what + &near.unwrap_or_default())))
    }

    /// Words, each one of several, at least one and none twice.
    pub(crate) fn choices<T: Copy>(
        &self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let list = match self.value(key) {
            None => return Ok(None),
            Some(DeValue::Array(list)) if !list.is_empty() => list,
            Some(other) => {
                let expected = format!("a list of some of {}", quoted(&names));
                return Err(self.wrong_type(key, other, &expected));
            }
        };
        let (mut seen, mut values) = (Vec::new(), Vec::new());
        for item in list {
            let position = item.span().start;
            let DeValue::String(text) = item.get_ref() else {
                return Err(self.at(position, &format!("{key} must hold texts in quotes")));
            };
            let Some((name, value)) = choices.iter().find(|(name, _)| name == text) else {
                let what = format!("{key} holds \"{}\"", short(text));
                return Err(self.at(position, &suggest(&what, text, &names)));
            };
            if seen.contains(name) {
                return Err(self.at(position, &format!("{key} holds {name:?} twice")));
            }
            seen.push(*name);
            values.push(*value);
        }
        Ok(Some(values))
    }

    /// A number, which may be infinite but not NaN.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        let text = match self.value(key) {
            None => return Ok(None),
            Some(DeValue::Float(number)) => number.as_str(),
            Some(DeValue::Integer(number)) if number.radix() == 10 => number.as_str(),
            Some(other) => return Err(self.wrong_type(key, other, "a number")),
        };
        match text.parse::<f64>() {
            Ok(number) if number.is_infinite() && !text.contains("inf") => {
                Err(self.error(key, &format!("{key} is {}, out of range", short(text))))
            }
            Ok(number) if !number.is_nan() => Ok(Some(number)),
            _ => Err(self.error(key, &format!("{key} is {}, expected a number", short(text)))),
        }
    }

    /// A positive number, which may be infinite.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        match self.number(key)? {
            Some(number) if number <= 0.0 => {
                Err(self.error(key, &format!("{key} is {number}, expected a positive number")))
            }
            number => Ok(number),
        }
    }

    /// A whole number in a range.
    pub(crate) fn integer(
        &self,
        key: &str,
        least: u64,
        most: u64,
    ) -> Result<Option<u64>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(DeValue::Integer(number)) => whole(number, least, most)
                .map(Some)
                .map_err(|what| self.error(key, &format!("{key} is {what}"))),
            Some(other) => Err(self.wrong_type(key, other, "a whole number")),
        }
    }

    /// A list of whole numbers in a range, which may be empty.
    pub(crate) fn integers(
        &self,
        key: &str,
        least: u64,
        most: u64,
    ) -> Result<Option<Vec<u64>>, ConfigError> {
        let list = match self.value(key) {
            None => return Ok(None),
            Some(DeValue::Array(list)) => list,
            Some(other) => return Err(self.wrong_type(key, other, "a list of whole numbers")),
        };
        let mut values = Vec::with_capacity(list.len());
        for item in list {
            let position = item.span().start;
            let DeValue::Integer(number) = item.get_ref() else {
                return Err(self.at(position, &format!("{key} must hold whole numbers")));
            };
            let value = whole(number, least, most);
            values.push(value.map_err(|what| self.at(position, &format!("{key} holds {what}")))?);
        }
        Ok(Some(values))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.value(key) {
            None => Ok(None),
            Some(DeValue::Boolean(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong_type(key, other, "true or false")),
        }
    }

    /// A table with these keys.
    pub(crate) fn table(&self, key: &'a str) -> Result<Option<Table<'a>>, ConfigError> {
        let Some((found, value)) = self.entries.get_key_value(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::Table(entries) => {
                let (text, start) = (self.text, found.span().start);
                Ok(Some(Table { text, name: key, start, entries }))
            }
            other => Err(self.wrong_type(key, other, &format!("a table, [{key}]"))),
        }
    }

    /// Whether the value of a key is a text, where it may be a table too.
    pub(crate) fn is_text(&self, key: &str) -> bool {
        matches!(self.value(key), Some(DeValue::String(_)))
    }
}

/// A whole number in a range, or what it is and what was expected.
fn whole(number: &DeInteger<'_>, least: u64, most: u64) -> Result<u64, String> {
    match u64::from_str_radix(number.as_str(), number.radix()) {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => {
            let expected = match most {
                u64::MAX => format!("a whole number of at least {least}"),
                most => format!("a whole number from {least} to {most}"),
            };
            Err(format!("{}, expected {expected}", short(number.as_str())))
        }
    }
}

/// The line of a place in a text, from 1.
pub(crate) fn line(text: &str, position: usize) -> usize {
    1 + text.bytes().take(position).filter(|byte| *byte == b'\n').count()
}

fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    if name.len() > LONGEST_NAME {
        return None;
    }
    let similarity = |other: &&str| strsim::jaro_winkler(&name.to_lowercase(), other);
    let best = names.iter().copied().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&best) >= NEAR).then_some(best)
}

/// What is wrong, with the nearest name there is, or all of them.
fn suggest(what: &str, name: &str, names: &[&str]) -> String {
    match nearest(name, names) {
        Some(near) => format!("{what}; did you mean {near:?}?"),
        None => format!("{what}; known here: {}", names.join(", ")),
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
