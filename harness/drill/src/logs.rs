//! Which lines a log panel shows: LogQL, Loki's language, as far as it chooses lines.
//!
//! A [`LogQuery`] is a selector of streams and what follows it in pipes: line filters, `json`, and
//! filters on labels. Stages that only change how a line is written are accepted and skipped.
//!
//! Not for numbers made of lines (`count_over_time` and its kin), and not for parsers of other
//! formats: the lines of a simulated service are JSON.
//!
//! ```
//! use drill::logs::LogQuery;
//!
//! let query = LogQuery::parse(r#"{job="mail"} | json | level="error""#)?;
//! let lines = "{\"level\":\"info\"}\n{\"level\":\"error\"}\n";
//! let shown = query.shown(&[("job", "mail")], lines);
//! assert_eq!(shown, ["{\"level\":\"error\"}"]);
//! # Ok::<(), drill::logs::LogQueryError>(())
//! ```

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// How deep conditions may be nested in parentheses.
const DEEPEST: usize = 50;
/// Stages that change how a line or its labels are written, and leave no line out.
const WRITING: [&str; 5] = ["line_format", "label_format", "drop", "keep", "decolorize"];
/// Parsers of formats other than JSON.
const PARSERS: [&str; 4] = ["logfmt", "pattern", "regexp", "unpack"];

/// Why a query was not read. Completes "could not read the query: …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogQueryError {
    /// It does not begin with a selector.
    #[error("it begins with `{0}` and not with the selector of a stream, in braces")]
    NoSelector(String),
    /// Loki refuses to read every stream that there is.
    #[error("its selector holds for every stream, which Loki refuses")]
    EveryStream,
    /// A stage that this module does not know.
    #[error("`| {0}` is not executed here; line filters, `json` and label filters are")]
    NotExecuted(String),
    /// Something else stands where one of these has to.
    #[error("at `{found}`: {expected} is expected")]
    Unexpected {
        /// What should stand there.
        expected: &'static str,
        /// The text from there on.
        found: String,
    },
    /// A regular expression that is none.
    #[error("`{0}` is no regular expression")]
    Pattern(String),
}

type Result<T> = std::result::Result<T, LogQueryError>;

/// A query that chooses log lines.
#[derive(Clone, Debug)]
pub struct LogQuery {
    selector: Vec<(String, Test)>,
    stages: Vec<Stage>,
}

#[derive(Clone, Debug)]
enum Stage {
    /// The line has one of these in it, or none of them.
    Line {
        wanted: bool,
        any: Vec<Part>,
    },
    /// The fields of the line become labels.
    Json,
    Labels(Condition),
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Pattern(Regex),
}

#[derive(Clone, Debug)]
enum Condition {
    Test(String, Test),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

#[derive(Clone, Debug)]
enum Test {
    Is(String),
    IsNot(String),
    Matches(Regex),
    MatchesNot(Regex),
    Number(Comparison, f64),
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Test {
    /// Of a label; one that is not there is empty.
    fn holds(&self, value: &str) -> bool {
        match self {
            Test::Is(text) => value == text,
            Test::IsNot(text) => value != text,
            Test::Matches(pattern) => pattern.is_match(value),
            Test::MatchesNot(pattern) => !pattern.is_match(value),
            Test::Number(comparison, number) => value.parse::<f64>().is_ok_and(|value| {
                #[expect(clippy::float_cmp, reason = "the language compares exactly")]
                match comparison {
                    Comparison::Equal => value == *number,
                    Comparison::NotEqual => value != *number,
                    Comparison::Less => value < *number,
                    Comparison::AtMost => value <= *number,
                    Comparison::Greater => value > *number,
                    Comparison::AtLeast => value >= *number,
                }
            }),
        }
    }
}

impl Condition {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Condition::Test(label, test) => {
                test.holds(labels.get(label).map_or("", String::as_str))
            }
            Condition::All(parts) => parts.iter().all(|part| part.holds(labels)),
            Condition::Any(parts) => parts.iter().any(|part| part.holds(labels)),
        }
    }
}

impl Part {
    fn is_in(&self, line: &str) -> bool {
        match self {
            Part::Text(text) => line.contains(text.as_str()),
            Part::Pattern(pattern) => pattern.is_match(line),
        }
    }
}

impl LogQuery {
    /// Reads a query.
    ///
    /// # Errors
    /// What is wrong first, or what of the language is not executed here.
    pub fn parse(text: &str) -> Result<Self> {
        let mut reader = Reader { rest: text };
        reader.skip();
        if !reader.takes("{") {
            return Err(LogQueryError::NoSelector(reader.found()));
        }
        let selector = reader.selector()?;
        let mut stages = Vec::new();
        while !reader.is_at_end() {
            stages.extend(reader.stage()?);
        }
        Ok(LogQuery { selector, stages })
    }

    /// The lines, among those of a stream with these labels, that the query chooses.
    pub fn shown<'l>(&self, stream: &[(&str, &str)], lines: &'l str) -> Vec<&'l str> {
        let stream: BTreeMap<String, String> = stream
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect();
        let value = |label: &String| stream.get(label).map_or("", String::as_str);
        let is_read = |(label, test): &(String, Test)| test.holds(value(label));
        if !self.selector.iter().all(is_read) {
            return Vec::new();
        }
        let lines = lines.lines();
        lines.filter(|line| self.keeps(&stream, line)).collect()
    }

    fn keeps(&self, stream: &BTreeMap<String, String>, line: &str) -> bool {
        let mut labels = stream.clone();
        self.stages.iter().all(|stage| match stage {
            Stage::Line { wanted, any } => any.iter().any(|part| part.is_in(line)) == *wanted,
            Stage::Json => {
                if let Ok(Value::Object(fields)) = serde_json::from_str(line) {
                    for (name, value) in fields {
                        let value = match value {
                            Value::String(text) => text,
                            other => other.to_string(),
                        };
                        // Loki keeps the stream's label and calls the field otherwise.
                        let name = match stream.contains_key(&name) {
                            true => format!("{name}_extracted"),
                            false => name,
                        };
                        labels.insert(name, value);
                    }
                }
                true
            }
            Stage::Labels(condition) => condition.holds(&labels),
        })
    }
}

/// What is left of the text.
struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    /// Blanks and comments.
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            let Some(comment) = self.rest.strip_prefix('#') else {
                return;
            };
            self.rest = comment.split_once('\n').map_or("", |(_, after)| after);
        }
    }

    fn is_at_end(&mut self) -> bool {
        self.skip();
        self.rest.is_empty()
    }

    fn takes(&mut self, symbol: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn takes_one_of<const N: usize>(&mut self, symbols: [&'static str; N]) -> Option<&'static str> {
        symbols.into_iter().find(|symbol| self.takes(symbol))
    }

    fn found(&mut self) -> String {
        self.skip();
        match self.rest.split_whitespace().next() {
            None => "the end".to_owned(),
            Some(word) => word.chars().take(30).collect(),
        }
    }

    fn unexpected(&mut self, expected: &'static str) -> LogQueryError {
        LogQueryError::Unexpected {
            expected,
            found: self.found(),
        }
    }

    fn word(&mut self) -> Option<&'t str> {
        self.skip();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let begins_well = word.starts_with(|c: char| !c.is_ascii_digit());
        begins_well.then(|| {
            self.rest = rest;
            word
        })
    }

    /// A word that has to be this one.
    fn takes_word(&mut self, wanted: &str) -> bool {
        let before = self.rest;
        if self.word() == Some(wanted) {
            return true;
        }
        self.rest = before;
        false
    }

    fn text(&mut self) -> Result<String> {
        if self.takes("`") {
            let Some((text, rest)) = self.rest.split_once('`') else {
                return Err(self.unexpected("the end of a text"));
            };
            self.rest = rest;
            return Ok(text.to_owned());
        }
        if !self.takes("\"") {
            return Err(self.unexpected("a text in quotes"));
        }
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    _ => {
                        self.rest = &self.rest[at..];
                        return Err(self.unexpected("`\\n`, `\\t`, `\\\"` or `\\\\`"));
                    }
                },
                c => text.push(c),
            }
        }
        Err(self.unexpected("the end of a text"))
    }

    fn test_of_text(&mut self, operator: &str) -> Result<Test> {
        let text = self.text()?;
        let anchored = || pattern(&format!("^(?s:{text})$"), &text);
        Ok(match operator {
            "=~" => Test::Matches(anchored()?),
            "!~" => Test::MatchesNot(anchored()?),
            "!=" => Test::IsNot(text),
            _ => Test::Is(text),
        })
    }

    /// The matchers up to the closing brace.
    fn selector(&mut self) -> Result<Vec<(String, Test)>> {
        let mut matchers = Vec::new();
        while !self.takes("}") {
            let Some(label) = self.word() else {
                return Err(self.unexpected("a label"));
            };
            let Some(operator) = self.takes_one_of(["=~", "!~", "!=", "="]) else {
                return Err(self.unexpected("`=`, `!=`, `=~` or `!~`"));
            };
            matchers.push((label.to_owned(), self.test_of_text(operator)?));
            if !self.takes(",") && !self.rest.trim_start().starts_with('}') {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
        if matchers.iter().all(|(_, test)| test.holds("")) {
            return Err(LogQueryError::EveryStream);
        }
        Ok(matchers)
    }

    /// `None` of a stage that leaves every line as it was chosen.
    fn stage(&mut self) -> Result<Option<Stage>> {
        if let Some(filter) = self.takes_one_of(["|=", "!=", "|~", "!~"]) {
            let mut any = Vec::new();
            loop {
                let text = self.text()?;
                any.push(if filter.ends_with('~') {
                    Part::Pattern(pattern(&text, &text)?)
                } else {
                    Part::Text(text)
                });
                if !self.takes_word("or") {
                    break;
                }
            }
            let wanted = filter.starts_with('|');
            return Ok(Some(Stage::Line { wanted, any }));
        }
        if let Some(filter) = self.takes_one_of(["|>", "!>"]) {
            return Err(LogQueryError::NotExecuted(filter[1..].to_owned()));
        }
        if !self.takes("|") {
            return Err(self.unexpected("`|`"));
        }
        let before = self.rest;
        match self.word() {
            Some("json") if self.is_at_end() || self.rest.starts_with(['|', '!']) => {
                Ok(Some(Stage::Json))
            }
            Some("json") => Err(LogQueryError::NotExecuted(
                "json with chosen fields".to_owned(),
            )),
            Some(word) if WRITING.contains(&word) => {
                self.skip_stage()?;
                Ok(None)
            }
            Some(word) if PARSERS.contains(&word) => {
                Err(LogQueryError::NotExecuted(word.to_owned()))
            }
            _ => {
                self.rest = before;
                Ok(Some(Stage::Labels(self.any_of(0)?)))
            }
        }
    }

    /// To the next stage; a pipe in a text is none.
    fn skip_stage(&mut self) -> Result<()> {
        loop {
            self.skip();
            match self.rest.chars().next() {
                None | Some('|') => return Ok(()),
                Some('"' | '`') => {
                    self.text()?;
                }
                Some(c) => self.rest = &self.rest[c.len_utf8()..],
            }
        }
    }

    fn any_of(&mut self, depth: usize) -> Result<Condition> {
        let mut parts = vec![self.all_of(depth)?];
        while self.takes_word("or") {
            parts.push(self.all_of(depth)?);
        }
        Ok(Condition::Any(parts))
    }

    fn all_of(&mut self, depth: usize) -> Result<Condition> {
        let mut parts = vec![self.condition(depth)?];
        while self.takes(",") || self.takes_word("and") {
            parts.push(self.condition(depth)?);
        }
        Ok(Condition::All(parts))
    }

    fn condition(&mut self, depth: usize) -> Result<Condition> {
        if depth < DEEPEST && self.takes("(") {
            let inner = self.any_of(depth + 1)?;
            return match self.takes(")") {
                true => Ok(inner),
                false => Err(self.unexpected("`)`")),
            };
        }
        let Some(label) = self.word() else {
            return Err(self.unexpected("a label"));
        };
        let operators = ["=~", "!~", "!=", "==", ">=", "<=", "=", ">", "<"];
        let Some(operator) = self.takes_one_of(operators) else {
            return Err(match self.is_at_end() || self.rest.starts_with('|') {
                true => LogQueryError::NotExecuted(label.to_owned()),
                false => self.unexpected("a comparison"),
            });
        };
        self.skip();
        let is_text = self.rest.starts_with(['"', '`']);
        let test = match operator {
            "=~" | "!~" => self.test_of_text(operator)?,
            "=" | "!=" if is_text => self.test_of_text(operator)?,
            _ => Test::Number(comparison(operator), self.number()?),
        };
        Ok(Condition::Test(label.to_owned(), test))
    }

    fn number(&mut self) -> Result<f64> {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric() && !".+-".contains(c))
            .unwrap_or(self.rest.len());
        let Ok(number) = self.rest[..end].parse() else {
            return Err(self.unexpected("a number or a text in quotes"));
        };
        self.rest = &self.rest[end..];
        Ok(number)
    }
}

fn comparison(operator: &str) -> Comparison {
    match operator {
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::AtMost,
        ">" => Comparison::Greater,
        ">=" => Comparison::AtLeast,
        _ => Comparison::Equal,
    }
}

fn pattern(text: &str, shown: &str) -> Result<Regex> {
    Regex::new(text).map_err(|_| LogQueryError::Pattern(shown.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"level":"info","message":"answered","status":200}
{"level":"warn","message":"upstream failed, one attempt left","attempt":1}
{"level":"error","message":"rejected: the queue is full","status":503}
{"level":"error","message":"internal error","status":500}
"#;

    /// The numbers of the lines that are shown.
    fn shown(query: &str) -> Vec<usize> {
        let query = LogQuery::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let shown = query.shown(&[("job", "mail")], LINES);
        let is_shown = |line: &str| shown.contains(&line);
        (1..)
            .zip(LINES.lines())
            .filter(|(_, line)| is_shown(line))
            .map(|(nth, _)| nth)
            .collect()
    }

    #[test]
    fn a_selector_chooses_streams_by_their_labels_and_not_by_the_fields_of_lines() {
        for every in [
            r#"{job="mail"}"#,
            r#"{job=~"ma.+", env!="dev"}"#,
            "{job=`mail`,} # all",
        ] {
            assert_eq!(shown(every), [1, 2, 3, 4], "{every}");
        }
        for none in [
            r#"{service="mail"}"#,
            r#"{job=~"mai"}"#,
            r#"{job="mail", level="error"}"#,
        ] {
            assert!(shown(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn line_filters_look_at_the_text_of_a_line() {
        assert_eq!(shown(r#"{job="mail"} |= "error""#), [3, 4]);
        assert_eq!(shown(r#"{job="mail"} |= "full" or "attempt""#), [2, 3]);
        assert_eq!(shown(r#"{job="mail"} != "answered" or "warn""#), [3, 4]);
        assert_eq!(shown(r#"{job="mail"} |~ `"status":50[0-2]`"#), [4]);
        assert_eq!(shown(r#"{job="mail"} !~ "info|warn" |= "internal""#), [4]);
        assert_eq!(shown(r#"{job="mail"} |= "\"level\":\"warn\"""#), [2]);
    }

    #[test]
    fn fields_are_labels_from_json_on() {
        assert_eq!(shown(r#"{job="mail"} | json | level="error""#), [3, 4]);
        assert_eq!(
            shown(r#"{job="mail"} | json | level=~"err.*" | status = 500"#),
            [4]
        );
        assert_eq!(
            shown(r#"{job="mail"} | json | status >= 500 and status < 503"#),
            [4]
        );
        let mixed = r#"{job="mail"} | json | (level="warn" or status == 503), message!~"re"#;
        assert_eq!(shown(&format!("{mixed}jected.*\"")), [2]);
        assert!(shown(r#"{job="mail"} | level="error""#).is_empty());
        assert_eq!(
            shown(r#"{job="mail"} | level!="error" | json"#),
            [1, 2, 3, 4]
        );
    }

    #[test]
    fn what_only_changes_how_a_line_is_written_leaves_none_out() {
        let query =
            r#"{job="mail"} | json | line_format "{{.level}} | {{.message}}" | level="warn""#;
        assert_eq!(shown(query), [2]);
    }

    #[test]
    fn what_is_wrong_or_not_executed_is_said_with_its_place() {
        let error = |query: &str| LogQuery::parse(query).unwrap_err().to_string();
        for (query, part) in [
            ("", "begins with `the end`"),
            ("rate({job=\"mail\"}[5m])", "begins with `rate({job="),
            ("{}", "every stream"),
            ("{job=~\".*\"}", "every stream"),
            ("{job=mail}", "at `mail}`: a text in quotes is expected"),
            ("{job=\"mail\"", "at `the end`: `,` or `}` is expected"),
            ("{job=\"mail\"} level", "at `level`: `|` is expected"),
            ("{job=\"mail\"} |= \"x", "the end of a text is expected"),
            ("{job=\"mail\"} |~ \"(\"", "`(` is no regular expression"),
            ("{job=\"mail\"} | logfmt", "`| logfmt` is not executed here"),
            ("{job=\"mail\"} | unwrap", "`| unwrap` is not executed here"),
            (
                "{job=\"mail\"} | json a=\"b\"",
                "with chosen fields` is not",
            ),
            (
                "{job=\"mail\"} | json | status > 1m",
                "at `1m`: a number or",
            ),
        ] {
            assert!(error(query).contains(part), "{query}: {}", error(query));
        }
        let deep = format!("{{job=\"mail\"}} | {}", "(".repeat(100_000));
        assert!(error(&deep).contains("a label is expected"));
    }
}
