//! Structured logs: one JSON object a line.
//!
//! For reading every field of every line as it was written, with its time where it has one. Not a
//! query language, and not a parser for free text: a line that is not a JSON object is an error,
//! since skipping it would hide it from whoever looks for the cause.
//!
//! ```
//! let lines = telemetry::logs::parse(
//!     r#"{"time":"12:00:00.001","op":"get","result":"miss","goroutine":42}"#,
//! )?;
//! assert_eq!(lines[0].str("op")?, "get");
//! assert_eq!(lines[0].u64("goroutine")?, 42);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod time;

use std::fmt;

use serde_json::{Map, Value};

use crate::ParseError;
use crate::source::{check_size, decode, json_error};

pub use time::Timestamp;

/// The largest log that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = 64 << 20;
/// The longest line that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// The most lines in one log.
pub const MAX_LINES: usize = 1_000_000;
/// The fields that may hold a line's time; the first one present counts.
pub const TIME_FIELDS: [&str; 4] = ["time", "timestamp", "@timestamp", "ts"];

/// One line of a log, with every field it holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LogLine {
    /// Its line in the text, from 1.
    pub line: usize,
    /// The first of [`TIME_FIELDS`] that it has; it stays in `fields` too.
    pub time: Option<Timestamp>,
    /// Every field. Of a name given twice the last.
    pub fields: Map<String, Value>,
}

/// Reads a log whole. Blank lines are passed over.
///
/// # Errors
/// The first line that is no JSON object, that holds a time in no known format, or that passes a
/// limit of this module.
pub fn parse(text: &str) -> Result<Vec<LogLine>, ParseError> {
    check_size(text.as_bytes(), MAX_TEXT_BYTES)?;
    lines(text).collect()
}

/// Reads a log from bytes that may not even be UTF-8.
///
/// # Errors
/// As [`parse`], and at the first byte that is not UTF-8.
pub fn from_slice(bytes: &[u8]) -> Result<Vec<LogLine>, ParseError> {
    check_size(bytes, MAX_TEXT_BYTES)?;
    parse(decode(bytes)?)
}

/// Reads a log line by line, for a caller that wants to go on after an error.
pub fn lines(text: &str) -> impl Iterator<Item = Result<LogLine, ParseError>> {
    text.split('\n')
        .enumerate()
        .map(|(nth, content)| (nth + 1, content.strip_suffix('\r').unwrap_or(content)))
        .filter(|(_, content)| !content.trim_ascii().is_empty())
        .map(|(number, content)| {
            if number > MAX_LINES {
                let expected = format!("at most {MAX_LINES} lines");
                return Err(ParseError::new(number, 1, expected, "one more"));
            }
            line(number, content)
        })
}

fn line(number: usize, content: &str) -> Result<LogLine, ParseError> {
    if content.len() > MAX_LINE_BYTES {
        let expected = format!("a line of at most {MAX_LINE_BYTES} bytes");
        let found = format!("{} bytes", content.len());
        return Err(ParseError::new(number, 1, expected, found));
    }
    let fields: Map<String, Value> = serde_json::from_str(content)
        .map_err(|error| json_error(content, number, "a JSON object", &error))?;
    let time = match TIME_FIELDS
        .iter()
        .find_map(|name| Some((*name, fields.get(*name)?)))
    {
        None | Some((_, Value::Null)) => None,
        Some((name, value)) => Some(Timestamp::from_json(value).ok_or_else(|| {
            let at = content.find(&format!("\"{name}\"")).unwrap_or_default();
            ParseError::new(
                number,
                content[..at].chars().count() + 1,
                format!(
                    "`{name}` to be an RFC 3339 time, a time of day as HH:MM:SS.mmm or a Unix time"
                ),
                crate::source::excerpt(&value.to_string()),
            )
        })?),
    };
    Ok(LogLine {
        line: number,
        time,
        fields,
    })
}

/// A field that a reader needs is not there, or is of another type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// No such field.
    #[error("line {line}: there is no field `{path}`, only {}", quoted(.fields))]
    Missing {
        /// The line of the log.
        line: usize,
        /// The field that was asked for.
        path: String,
        /// The top-level fields that exist.
        fields: Vec<String>,
    },
    /// The field holds something else.
    #[error("line {line}: the field `{path}` is {found}, not {expected}")]
    Type {
        /// The line of the log.
        line: usize,
        /// The field that was asked for.
        path: String,
        /// What was asked for.
        expected: &'static str,
        /// What is there, shortened.
        found: String,
    },
}

fn quoted(fields: &[String]) -> String {
    let quoted: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
    quoted.join(", ")
}

impl LogLine {
    /// The field at `path`: a name, or names joined by dots for objects within objects.
    ///
    /// A field whose own name holds the dots (`http.status`) goes first. Names of digits index
    /// arrays, from 0.
    pub fn get(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.fields.get(path) {
            return Some(value);
        }
        let mut names = path.split('.');
        let first = self.fields.get(names.next()?)?;
        names.try_fold(first, |value, name| match value {
            Value::Object(fields) => fields.get(name),
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// The text at `path`.
    ///
    /// # Errors
    /// No such field, or not a text.
    pub fn str(&self, path: &str) -> Result<&str, FieldError> {
        self.typed(path, "a text", Value::as_str)
    }

    /// The whole number from 0 at `path`.
    ///
    /// # Errors
    /// No such field, or not a whole number from 0 to 2⁶⁴ − 1.
    pub fn u64(&self, path: &str) -> Result<u64, FieldError> {
        self.typed(path, "a whole number from 0", Value::as_u64)
    }

    /// The whole number at `path`.
    ///
    /// # Errors
    /// No such field, or not a whole number of 64 bits.
    pub fn i64(&self, path: &str) -> Result<i64, FieldError> {
        self.typed(path, "a whole number", Value::as_i64)
    }

    /// The number at `path`.
    ///
    /// # Errors
    /// No such field, or not a number.
    pub fn f64(&self, path: &str) -> Result<f64, FieldError> {
        self.typed(path, "a number", Value::as_f64)
    }

    /// The truth value at `path`.
    ///
    /// # Errors
    /// No such field, or neither `true` nor `false`.
    pub fn bool(&self, path: &str) -> Result<bool, FieldError> {
        self.typed(path, "true or false", Value::as_bool)
    }

    fn typed<'a, T>(
        &'a self,
        path: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, FieldError> {
        let value = self.get(path).ok_or_else(|| FieldError::Missing {
            line: self.line,
            path: path.to_owned(),
            fields: self.fields.keys().cloned().collect(),
        })?;
        read(value).ok_or_else(|| FieldError::Type {
            line: self.line,
            path: path.to_owned(),
            expected,
            found: crate::source::excerpt(&value.to_string()),
        })
    }
}

/// The line as JSON, in one line.
impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_string(&self.fields).map_err(|_| fmt::Error)?;
        f.write_str(&json)
    }
}
