//! Reads one table of raida.toml key by key, and remembers which keys it was asked for.
//!
//! The keys a table knows are therefore exactly those somebody reads: what is left over at the end is unknown and
//! named. Invariant: an error is one line, and no value of a secret key is ever part of it.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use toml::Value;

/// The longest value an error repeats, in characters.
const VALUE_SHOWN_MAX: usize = 60;

/// Why a configuration is refused: one line that names the key, its value and what is allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(String);

impl ConfigError {
    /// An error of one line; line ends within it become spaces.
    pub fn new(line: impl Display) -> Self {
        Self(line.to_string().replace(['\n', '\r'], " "))
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ConfigError {}

/// One table of the file while it is read.
#[derive(Debug)]
pub struct Section<'a> {
    file: &'a str,
    name: &'static str,
    values: toml::Table,
    known: Vec<&'static str>,
    notes: Vec<String>,
}

impl<'a> Section<'a> {
    /// Takes the table `name` out of the file's `tables`; a table that is not there has no keys.
    pub fn take(file: &'a str, name: &'static str, tables: &mut toml::Table) -> Result<Self, ConfigError> {
        let values = match tables.remove(name) {
            None => toml::Table::new(),
            Some(Value::Table(values)) => values,
            Some(value) => {
                return Err(ConfigError::new(format_args!(
                    "{file}: {name} = {}: allowed is a table, [{name}]",
                    shown(&value)
                )));
            }
        };
        Ok(Self { file, name, values, known: Vec::new(), notes: Vec::new() })
    }

    /// A whole number within `allowed`.
    pub fn integer<T>(&mut self, key: &'static str, allowed: RangeInclusive<T>, default: T) -> Result<T, ConfigError>
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let (from, to) = (*allowed.start(), *allowed.end());
        self.value(key, &format!("{from}..={to}"), default, |value| {
            value.as_integer().and_then(|number| T::try_from(number).ok()).filter(|number| allowed.contains(number))
        })
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        self.value(key, "true, false", default, Value::as_bool)
    }

    /// One of a few names, each with what it means.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)], default: T) -> Result<T, ConfigError> {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
        self.value(key, &names.join(", "), default, |value| {
            let name = value.as_str()?;
            choices.iter().find(|choice| choice.0 == name).map(|choice| choice.1)
        })
    }

    /// Any value that `read` understands; `allowed` says which those are.
    pub fn value<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        default: T,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, ConfigError> {
        match self.remove(key) {
            None => Ok(default),
            Some(value) => read(&value).ok_or_else(|| self.refused(key, &shown(&value), allowed)),
        }
    }

    /// A key of the reference that this node checks and has no use for; `why` goes to the operator at start.
    pub fn unused(
        &mut self,
        key: &'static str,
        allowed: &str,
        why: &str,
        is_allowed: impl FnOnce(&Value) -> bool,
    ) -> Result<(), ConfigError> {
        self.explained(key, why, |section, value| {
            if is_allowed(&value) { Ok(()) } else { Err(section.refused(key, &shown(&value), allowed)) }
        })
    }

    /// A secret of 16 bytes in hexadecimal that this node has no use for yet. It is checked, and not kept.
    pub fn unused_secret(&mut self, key: &'static str, why: &str) -> Result<(), ConfigError> {
        self.explained(key, why, |section, value| match value.as_str() {
            Some(digits) if digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => Ok(()),
            _ => Err(section.refused(key, "(secret)", "32 hexadecimal digits in quotes")),
        })
    }

    /// Ends the reading: a key nobody asked for is an error. Returns what the operator should know.
    pub fn finish(self) -> Result<Vec<String>, ConfigError> {
        match self.values.keys().next() {
            None => Ok(self.notes),
            Some(key) => Err(ConfigError::new(format_args!(
                "{}: {}.{key}: unknown key; [{}] knows {}",
                self.file,
                self.name,
                self.name,
                self.known.join(", ")
            ))),
        }
    }

    /// The keys asked for so far.
    #[cfg(test)]
    pub fn known(&self) -> &[&'static str] {
        &self.known
    }

    fn explained(
        &mut self,
        key: &'static str,
        why: &str,
        check: impl FnOnce(&Self, Value) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        let Some(value) = self.remove(key) else { return Ok(()) };
        check(self, value)?;
        self.notes.push(format!("{}: {}.{key} has no effect here: {why}", self.file, self.name));
        Ok(())
    }

    fn remove(&mut self, key: &'static str) -> Option<Value> {
        assert!(!self.known.contains(&key), "{key} is read once");
        self.known.push(key);
        self.values.remove(key)
    }

    fn refused(&self, key: &str, value: &str, allowed: &str) -> ConfigError {
        ConfigError::new(format_args!("{}: {}.{key} = {value}: allowed are {allowed}", self.file, self.name))
    }
}

/// A value as an error repeats it: on one line, and not the whole of a long one. Nothing of a table, as what an operator
/// wrote below a mistaken `[[server]]` may be a secret.
fn shown(value: &Value) -> String {
    if holds_table(value) {
        return "(a table)".to_string();
    }
    let text = value.to_string();
    let mut line: String = text.chars().take(VALUE_SHOWN_MAX).collect();
    if line.len() < text.len() {
        line.push_str("...");
    }
    line
}

fn holds_table(value: &Value) -> bool {
    match value {
        Value::Table(_) => true,
        Value::Array(values) => values.iter().any(holds_table),
        _ => false,
    }
}
