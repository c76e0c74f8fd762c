//! Positions in a text, the error that points at one, and the cursor that the line parsers share.
//!
//! Not a parser generator: the formats are small, and a hand-written cursor gives the exact column
//! and the exact expectation at no cost in build time.

use std::fmt;

/// The longest excerpt of the input that an error quotes, in characters.
const MAX_EXCERPT_CHARS: usize = 40;

/// A text is not what its format says it should be.
///
/// Completes "could not read the scrape: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}, found {found}")]
#[non_exhaustive]
pub struct ParseError {
    /// Line of the problem, from 1.
    pub line: usize,
    /// Column of the problem in characters, from 1.
    pub column: usize,
    /// What the format wants at this place.
    pub expected: String,
    /// What stands there instead, shortened.
    pub found: String,
}

impl ParseError {
    pub(crate) fn new(
        line: usize,
        column: usize,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            line,
            column,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// Decodes UTF-8, or says on which line and column it stops being UTF-8.
pub(crate) fn decode(bytes: &[u8]) -> Result<&str, ParseError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let (good, bad) = bytes.split_at(error.valid_up_to());
        let good = String::from_utf8_lossy(good);
        let line = good.matches('\n').count() + 1;
        let column = good
            .rsplit('\n')
            .next()
            .map_or(0, |last| last.chars().count())
            + 1;
        let byte = bad.first().copied().unwrap_or_default();
        ParseError::new(line, column, "UTF-8 text", format!("the byte 0x{byte:02x}"))
    })
}

/// Refuses a text beyond `limit` bytes, before anything is allocated for it.
pub(crate) fn check_size(text: &[u8], limit: usize) -> Result<(), ParseError> {
    if text.len() > limit {
        return Err(ParseError::new(
            1,
            1,
            format!("at most {limit} bytes of input"),
            format!("{} bytes", text.len()),
        ));
    }
    Ok(())
}

/// Quotes the start of `rest` for an error message, or says that nothing is left.
pub(crate) fn excerpt(rest: &str) -> String {
    let mut chars = rest.chars();
    let mut head = String::new();
    for c in chars.by_ref().take(MAX_EXCERPT_CHARS) {
        if c.is_control() {
            head.extend(c.escape_default());
        } else {
            head.push(c);
        }
    }
    if head.is_empty() {
        return "the end of the line".to_owned();
    }
    let more = if chars.next().is_some() { "…" } else { "" };
    format!("`{head}{more}`")
}

/// A reading position within one line.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the first column of `text`, which is line number `line` and holds no newline.
    pub(crate) fn new(text: &'a str, line: usize) -> Self {
        Self { text, at: 0, line }
    }

    pub(crate) fn line(&self) -> usize {
        self.line
    }

    pub(crate) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    pub(crate) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Moves past `token` if it stands here.
    pub(crate) fn eat(&mut self, token: &str) -> bool {
        let here = self.rest().starts_with(token);
        if here {
            self.at += token.len();
        }
        here
    }

    pub(crate) fn take_while(&mut self, mut wanted: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    pub(crate) fn error(&self, expected: impl fmt::Display) -> ParseError {
        ParseError::new(
            self.line,
            self.text[..self.at].chars().count() + 1,
            expected.to_string(),
            excerpt(self.rest()),
        )
    }
}

/// Turns a JSON error into one that counts lines of the whole text and columns in characters.
///
/// `text` is what was given to the JSON parser, and begins on line `first_line`.
pub(crate) fn json_error(
    text: &str,
    first_line: usize,
    expected: &str,
    error: &serde_json::Error,
) -> ParseError {
    let line = error.line().max(1);
    let content = text.split('\n').nth(line - 1).unwrap_or_default();
    // serde_json counts bytes, and stands on the byte before the one it could not take at the end.
    let before = content
        .char_indices()
        .take_while(|(at, _)| at + 1 < error.column())
        .count();
    let message = error.to_string();
    let message = match message.rfind(" at line ") {
        Some(end) => &message[..end],
        None => &message,
    };
    ParseError::new(
        first_line + line - 1,
        before + 1,
        expected,
        format!("JSON in which {}", json_problem(message)),
    )
}

fn json_problem(message: &str) -> String {
    const MAX_CHARS: usize = 160;
    let message: String = message.chars().take(MAX_CHARS).collect();
    match message.strip_prefix("EOF while parsing") {
        Some(rest) => format!("the text ends within{rest}"),
        None => format!("this fails: {message}"),
    }
}
