//! Messages that point at a place in a query.

use std::fmt;
use std::ops::Range;

/// A stretch of a query, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// From the first byte to the one before `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start,
            end: end.max(start),
        }
    }

    /// The smallest stretch that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self::new(self.start.min(other.start), self.end.max(other.end))
    }

    /// The text under the span; empty where the span is not of this text.
    pub fn text(self, query: &str) -> &str {
        query.get(self.start..self.end).unwrap_or("")
    }

    /// Line and column of the start, each from 1, the column in characters.
    pub fn line_column(self, query: &str) -> (usize, usize) {
        let before = query.get(..self.start).unwrap_or(query);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self::new(range.start, range.end)
    }
}

/// What is wrong with a query, where, and what to do.
///
/// Displayed as one line (`1:6: parse error: …`, as Prometheus words it);
/// [`Diagnostic::render`] draws the query with a caret below it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// What is wrong, in Prometheus's own words where it has any.
    pub message: String,
    /// The place in [`Diagnostic::query`].
    pub span: Span,
    /// What to do about it.
    pub help: Option<String>,
    /// The query that was parsed.
    pub query: String,
}

impl Diagnostic {
    pub(crate) fn new(query: &str, span: Span, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span,
            help: None,
            query: query.to_owned(),
        }
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Several lines for a person: the message, the line of the query, a caret, the help.
    pub fn render(&self) -> String {
        let mut out = format!("error: {}\n", self.message);
        out.push_str(&excerpt(&self.query, self.span));
        if let Some(help) = &self.help {
            out.push_str(&format!("  help: {help}\n"));
        }
        out
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.span.line_column(&self.query);
        write!(f, "{line}:{column}: parse error: {}", self.message)
    }
}

impl std::error::Error for Diagnostic {}

/// The widest excerpt of a query's line, in characters.
const EXCERPT: usize = 70;

/// The line of the query where the span starts, with its number, and carets below the span.
pub(crate) fn excerpt(query: &str, span: Span) -> String {
    let (line, column) = span.line_column(query);
    let text = query.split('\n').nth(line - 1).unwrap_or("");
    let chars: Vec<char> = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let at = (column - 1).min(chars.len());
    // A long line is cut so that the span stays in sight.
    let from = if chars.len() > EXCERPT {
        at.saturating_sub(EXCERPT / 2).min(chars.len() - EXCERPT)
    } else {
        0
    };
    let to = (from + EXCERPT).min(chars.len());
    let shown: String = chars[from..to].iter().collect();
    let width = span
        .text(query)
        .split('\n')
        .next()
        .unwrap_or("")
        .chars()
        .count()
        .clamp(1, (to - at.min(to)).max(1));
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let lead = if from > 0 { "…" } else { "" };
    let trail = if to < chars.len() { "…" } else { "" };
    let indent = " ".repeat(at - from + lead.chars().count());
    let carets = "^".repeat(width);
    format!(
        " {number} | {lead}{shown}{trail}\n {margin} | {indent}{carets} line {line}, column {column}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_points_at_its_place_in_the_right_line() {
        let query = "sum(\n  rate(x)\n)";
        let at = query.find("rate").unwrap();
        let diagnostic =
            Diagnostic::new(query, Span::new(at, at + 7), "no range").help("write x[5m]");
        assert_eq!(diagnostic.to_string(), "2:3: parse error: no range");
        assert_eq!(
            diagnostic.render(),
            "error: no range\n 2 |   rate(x)\n   |   ^^^^^^^ line 2, column 3\n  help: write x[5m]\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let query = format!("{} + oops", "a + ".repeat(60));
        let at = query.find("oops").unwrap();
        let shown = excerpt(&query, Span::new(at, at + 4));
        assert!(shown.lines().all(|line| line.chars().count() <= 110));
        assert!(shown.contains("oops") && shown.contains("^^^^"), "{shown}");
    }
}
