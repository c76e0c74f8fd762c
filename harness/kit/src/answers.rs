//! The learner's answers: typed reading of `answers.toml`, with the place of every error.
//!
//! A value that still is `"?"`, or a list that holds only `"?"`, is *unanswered*: the check says so
//! and that is no failure of the tool. Anything else of the wrong type, or a file that is not TOML,
//! ends the check with the line, the column and what was expected there.
//!
//! What an answer is worth is for the checker to say, except for what holds everywhere: numbers
//! have a [`Tolerance`] that the brief states, a choice names one of the options, and what should
//! prove a claim goes through [`crate::evidence`]. Prose is read only to be shown.

use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::{symptom, unanswered};

/// The name of the file, in the lab's folder.
pub const FILE: &str = "answers.toml";
/// What stands where an answer is yet to be written.
pub const PLACEHOLDER: &str = "?";
/// The largest file that is read, in bytes: a hundred times what any lab asks for.
pub const SIZE_LIMIT: u64 = 1 << 20;

/// A place in `answers.toml`; both numbers count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    fn of(text: &str, offset: usize) -> Self {
        let offset = (0..=offset.min(text.len()))
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        let before = &text[..offset];
        Place {
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().unwrap_or("").chars().count() + 1,
        }
    }
}

/// Why an answer could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// The file cannot be read at all.
    Unreadable { file: PathBuf, why: String },
    /// The file is not TOML.
    Malformed {
        file: PathBuf,
        place: Place,
        why: String,
    },
    /// The value is there, and is not what the question takes.
    WrongType {
        file: PathBuf,
        place: Place,
        key: String,
        expected: String,
        found: String,
    },
    /// The key is not there: it was deleted or renamed.
    Missing { file: PathBuf, key: String },
    /// The value still is the placeholder.
    Unanswered { key: String },
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AnswerError::Unreadable { file, why } => {
                write!(f, "could not read {}: {why}", name_of(file))
            }
            AnswerError::Malformed { file, place, why } => write!(
                f,
                "{}:{}:{}: {why}",
                name_of(file),
                place.line,
                place.column
            ),
            AnswerError::WrongType {
                file,
                place,
                key,
                expected,
                found,
            } => write!(
                f,
                "{}:{}:{}: `{key}` should be {expected}, and is {found}",
                name_of(file),
                place.line,
                place.column
            ),
            AnswerError::Missing { file, key } => write!(
                f,
                "{}: there is no `{key}`; put it back (the brief lists the questions, and \
                 `cargo xtask reset` restores the file)",
                name_of(file)
            ),
            AnswerError::Unanswered { key } => write!(f, "`{key}` is unanswered"),
        }
    }
}

impl std::error::Error for AnswerError {}

fn name_of(file: &Path) -> String {
    file.file_name().map_or_else(
        || file.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The answers of one lab.
///
/// Each question has two forms: `try_…` gives a [`Result`], for tools that show answers; the short
/// one ends the check with the right verdict, so that a checker reads straight down.
#[derive(Debug)]
pub struct Answers {
    file: PathBuf,
    text: String,
    root: toml::Table,
    spans: Vec<(String, Range<usize>)>,
}

impl Answers {
    /// Reads `answers.toml` in a lab's folder, for a checker.
    ///
    /// # Panics
    /// With the error as the check's symptom.
    pub fn of_lab(lab: &Path) -> Self {
        Self::read(&lab.join(FILE)).unwrap_or_else(|error| symptom(error.to_string()))
    }

    /// Reads a file of answers.
    ///
    /// # Errors
    /// When it cannot be read, is larger than [`SIZE_LIMIT`], or is not TOML.
    pub fn read(file: &Path) -> Result<Self, AnswerError> {
        let unreadable = |why: String| AnswerError::Unreadable {
            file: file.to_owned(),
            why,
        };
        let because = |error: std::io::Error| {
            unreadable(match error.kind() {
                ErrorKind::NotFound => "it is not there; `cargo xtask reset` puts it back".into(),
                ErrorKind::IsADirectory => {
                    "it is a folder; remove it, and `cargo xtask reset` puts the file back".into()
                }
                ErrorKind::InvalidData => "it is not UTF-8; save it in that encoding".into(),
                _ => error.to_string(),
            })
        };
        let size = std::fs::metadata(file).map_err(because)?.len();
        if size > SIZE_LIMIT {
            return Err(unreadable(format!(
                "it is {size} bytes long, and answers take {SIZE_LIMIT} at most"
            )));
        }
        let text = std::fs::read_to_string(file).map_err(because)?;
        Self::parse(file, text)
    }

    /// Reads answers from text; `file` is for messages.
    ///
    /// # Errors
    /// When the text is not TOML.
    pub fn parse(file: &Path, text: String) -> Result<Self, AnswerError> {
        let malformed = |error: toml::de::Error| AnswerError::Malformed {
            file: file.to_owned(),
            place: Place::of(&text, error.span().map_or(0, |span| span.start)),
            why: error.message().to_owned(),
        };
        let mut spans = Vec::new();
        collect_spans(
            "",
            DeTable::parse(&text).map_err(malformed)?.get_ref(),
            &mut spans,
        );
        let root = toml::from_str(&text).map_err(malformed)?;
        Ok(Answers {
            file: file.to_owned(),
            text,
            root,
            spans,
        })
    }

    /// A number. Whole numbers count as numbers too; infinities and NaN do not.
    ///
    /// # Errors
    /// When it is missing, unanswered or no number.
    pub fn try_number(&self, key: &str) -> Result<f64, AnswerError> {
        let value = self.answered(key)?;
        let number = match value {
            #[expect(clippy::cast_precision_loss, reason = "answers are far below 2^53")]
            toml::Value::Integer(whole) => Some(*whole as f64),
            toml::Value::Float(number) if number.is_finite() => Some(*number),
            _ => None,
        };
        number.ok_or_else(|| self.wrong_type(key, "a number such as 12.5", value))
    }

    /// One of several options, compared without regard to case.
    ///
    /// # Errors
    /// When it is missing, unanswered or none of them.
    pub fn try_choice<'o>(&self, key: &str, options: &[&'o str]) -> Result<&'o str, AnswerError> {
        let value = self.answered(key)?;
        let expected = || format!("one of {}", options.join(", "));
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong_type(key, &expected(), value))?;
        options
            .iter()
            .find(|option| option.eq_ignore_ascii_case(text.trim()))
            .copied()
            .ok_or_else(|| self.wrong_type(key, &expected(), value))
    }

    /// A text on one or more lines, such as a query, without the white space around it.
    ///
    /// # Errors
    /// When it is missing, unanswered or no text.
    pub fn try_text(&self, key: &str) -> Result<String, AnswerError> {
        let value = self.answered(key)?;
        value
            .as_str()
            .map(|text| text.trim().to_owned())
            .ok_or_else(|| self.wrong_type(key, "a text in quotes", value))
    }

    /// A list of texts, in the order in which they stand: an order, a set, or cited evidence.
    ///
    /// # Errors
    /// When it is missing, unanswered or no list of texts or whole numbers.
    pub fn try_list(&self, key: &str) -> Result<Vec<String>, AnswerError> {
        let value = self.answered(key)?;
        let expected = "a list such as [\"first\", \"second\"]";
        value
            .as_array()
            .ok_or_else(|| self.wrong_type(key, expected, value))?
            .iter()
            .map(|item| match item {
                toml::Value::String(text) => Ok(text.trim().to_owned()),
                // Line numbers and task ids may stand bare.
                toml::Value::Integer(whole) => Ok(whole.to_string()),
                other => Err(AnswerError::WrongType {
                    file: self.file.clone(),
                    place: self.place_or_start(key),
                    key: key.to_owned(),
                    expected: expected.to_owned(),
                    found: format!("a list with {} in it", describe(other)),
                }),
            })
            .collect()
    }

    /// A text that is shown and never graded. `None` while it is unanswered or missing.
    pub fn prose(&self, key: &str) -> Option<String> {
        self.try_text(key).ok()
    }

    /// As [`Answers::try_number`], for a checker.
    ///
    /// # Panics
    /// With the verdict that the error stands for.
    pub fn number(&self, key: &str) -> f64 {
        conclude(self.try_number(key))
    }

    /// As [`Answers::try_choice`], for a checker.
    ///
    /// # Panics
    /// With the verdict that the error stands for.
    pub fn choice<'o>(&self, key: &str, options: &[&'o str]) -> &'o str {
        conclude(self.try_choice(key, options))
    }

    /// As [`Answers::try_text`], for a checker.
    ///
    /// # Panics
    /// With the verdict that the error stands for.
    pub fn text(&self, key: &str) -> String {
        conclude(self.try_text(key))
    }

    /// As [`Answers::try_list`], for a checker: the order counts.
    ///
    /// # Panics
    /// With the verdict that the error stands for.
    pub fn list(&self, key: &str) -> Vec<String> {
        conclude(self.try_list(key))
    }

    /// Compares the number under `key` with the truth, which the message does not give away.
    ///
    /// # Panics
    /// With the verdict `unanswered`, or with a symptom that says how far off the answer is.
    #[track_caller]
    pub fn expect_number(&self, key: &str, truth: f64, tolerance: Tolerance, meaning: &str) {
        let given = self.number(key);
        if !tolerance.admits(truth, given) {
            let side = if given < truth { "below" } else { "above" };
            symptom(format!(
                "`{key}` = {given} is {side} what the dump gives for {meaning} (the answer may \
                 be off by {tolerance})"
            ));
        }
    }

    /// The dotted keys of all values and tables, in the order of the file's tables.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().map(|(key, _)| key.as_str())
    }

    /// The place at which the value of `key` stands, where it is there.
    pub fn place(&self, key: &str) -> Option<Place> {
        self.spans
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, span)| Place::of(&self.text, span.start))
    }

    fn answered(&self, key: &str) -> Result<&toml::Value, AnswerError> {
        let mut parts = key.split('.');
        let first = parts.next().and_then(|part| self.root.get(part));
        let value = parts
            .try_fold(first, |value, part| {
                Some(value.and_then(|value| value.get(part)))
            })
            .flatten()
            .ok_or_else(|| AnswerError::Missing {
                file: self.file.clone(),
                key: key.to_owned(),
            })?;
        if is_placeholder(value) {
            return Err(AnswerError::Unanswered {
                key: key.to_owned(),
            });
        }
        Ok(value)
    }

    fn wrong_type(&self, key: &str, expected: &str, found: &toml::Value) -> AnswerError {
        AnswerError::WrongType {
            file: self.file.clone(),
            place: self.place_or_start(key),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: describe(found),
        }
    }

    fn place_or_start(&self, key: &str) -> Place {
        self.place(key).unwrap_or(Place { line: 1, column: 1 })
    }
}

/// By how much an answer may differ from the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// A share of the truth: 0.05 is five percent.
    Relative(f64),
    /// In the unit of the answer.
    Absolute(f64),
    /// Not at all; for counts.
    Exact,
}

impl Tolerance {
    /// Whether `given` is close enough to `truth`.
    pub fn admits(self, truth: f64, given: f64) -> bool {
        let margin = match self {
            Tolerance::Relative(share) => share * truth.abs(),
            Tolerance::Absolute(margin) => margin,
            Tolerance::Exact => 0.0,
        };
        // The last digits of a product of decimals must not decide.
        let rounding = truth.abs().max(given.abs()) * 1e-12;
        (given - truth).abs() <= margin + rounding
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tolerance::Relative(share) => write!(f, "{} %", share * 100.0),
            Tolerance::Absolute(margin) => margin.fmt(f),
            Tolerance::Exact => f.write_str("nothing"),
        }
    }
}

fn conclude<T>(result: Result<T, AnswerError>) -> T {
    result.unwrap_or_else(|error| match error {
        AnswerError::Unanswered { key } => unanswered(key),
        other => symptom(other.to_string()),
    })
}

fn is_placeholder(value: &toml::Value) -> bool {
    match value {
        toml::Value::String(text) => text.trim() == PLACEHOLDER || text.trim().is_empty(),
        toml::Value::Array(items) => items.iter().all(is_placeholder),
        _ => false,
    }
}

fn describe(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => format!("the text {text:?}"),
        toml::Value::Integer(_) | toml::Value::Float(_) => format!("the number {value}"),
        toml::Value::Boolean(truth) => format!("the truth value {truth}"),
        toml::Value::Datetime(_) => "a date".to_owned(),
        toml::Value::Array(_) => "a list".to_owned(),
        toml::Value::Table(_) => "a table".to_owned(),
    }
}

fn collect_spans(prefix: &str, table: &DeTable<'_>, spans: &mut Vec<(String, Range<usize>)>) {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{prefix}.{}", key.get_ref())
        };
        spans.push((name.clone(), Spanned::span(value)));
        if let DeValue::Table(inner) = value.get_ref() {
            collect_spans(&name, inner, spans);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(text: &str) -> Answers {
        Answers::parse(Path::new("answers.toml"), text.to_owned()).expect("well-formed")
    }

    #[test]
    fn numbers_choices_texts_and_lists_are_read() {
        let answers = answers(
            "[error_ratio]\npercent = 1.03\n[pool]\nverdict = \"Yes\"\nevidence = [\"a\", 7]\n\
             query = \"\"\"\nrate(x[5m])\n\"\"\"\nwhole = 3\n",
        );
        assert_eq!(answers.try_number("error_ratio.percent"), Ok(1.03));
        assert_eq!(answers.try_number("pool.whole"), Ok(3.0));
        assert_eq!(
            answers.try_choice("pool.verdict", &["no", "yes"]),
            Ok("yes")
        );
        assert_eq!(
            answers.try_list("pool.evidence"),
            Ok(vec!["a".to_owned(), "7".to_owned()])
        );
        assert_eq!(answers.try_text("pool.query"), Ok("rate(x[5m])".to_owned()));
    }

    #[test]
    fn a_placeholder_is_unanswered_and_not_wrong() {
        let answers = answers("a = \"?\"\nb = [\"?\"]\nc = []\nd = \"\"\n");
        for key in ["a", "b", "c", "d"] {
            let expected = AnswerError::Unanswered {
                key: key.to_owned(),
            };
            assert_eq!(answers.try_number(key), Err(expected.clone()), "{key}");
            assert_eq!(answers.try_list(key), Err(expected), "{key}");
        }
    }

    #[test]
    fn every_error_says_where_and_what_was_expected() {
        for (text, key, message) in [
            (
                "[a]\nb = \"one percent\"\n",
                "a.b",
                "answers.toml:2:5: `a.b` should be a number such as 12.5, and is the text \
                 \"one percent\"",
            ),
            (
                "[a]\nb = true\n",
                "a.b",
                "answers.toml:2:5: `a.b` should be a number such as 12.5, and is the truth value \
                 true",
            ),
            (
                "[a]\nb = inf\n",
                "a.b",
                "answers.toml:2:5: `a.b` should be a number such as 12.5, and is the number inf",
            ),
            ("[a]\n", "a.b", "answers.toml: there is no `a.b`"),
        ] {
            let error = answers(text).try_number(key).expect_err(text).to_string();
            assert!(error.starts_with(message), "{error}");
        }
        for (text, found) in [
            ("b = \"one\"\n", "and is the text \"one\""),
            (
                "b = [\"one\", 0.5]\n",
                "and is a list with the number 0.5 in it",
            ),
        ] {
            let error = answers(text).try_list("b").expect_err(text).to_string();
            assert!(
                error.starts_with("answers.toml:1:5: `b` should be a list"),
                "{error}"
            );
            assert!(error.ends_with(found), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_toml_gives_line_and_column() {
        for (text, place) in [
            ("[a]\nb = \n", "answers.toml:2:"),
            ("a = 1\na = 2\n", "answers.toml:2:"),
            ("é = 1\n", "answers.toml:1:"),
            ("a = [1, 2\n", "answers.toml:"),
            ("\u{0}", "answers.toml:1:"),
        ] {
            let error = Answers::parse(Path::new("answers.toml"), text.to_owned())
                .expect_err(text)
                .to_string();
            assert!(error.starts_with(place), "{error}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
        let text = format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Answers::parse(Path::new("answers.toml"), text).is_err());
    }

    #[test]
    fn tolerance_is_inclusive_and_forgives_only_rounding() {
        assert!(Tolerance::Relative(0.01).admits(100.0, 101.0));
        assert!(!Tolerance::Relative(0.01).admits(100.0, 101.1));
        assert!(Tolerance::Absolute(0.1).admits(0.2, 0.3));
        assert!(Tolerance::Exact.admits(1_542.0, 1_542.0));
        assert!(!Tolerance::Exact.admits(1_542.0, 1_541.0));
    }
}
