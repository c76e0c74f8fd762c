//! Matchers of labels as Alertmanager writes them: `severity="critical"`, `team=~"api|web"`.

use std::fmt;

use regex::Regex;

use crate::Labels;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchOperator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, over the whole value
    Regex,
    /// `!~`, over the whole value
    NotRegex,
}

impl fmt::Display for MatchOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MatchOperator::Equal => "=",
            MatchOperator::NotEqual => "!=",
            MatchOperator::Regex => "=~",
            MatchOperator::NotRegex => "!~",
        })
    }
}

/// A condition on one label. A label that is missing counts as the empty text.
#[derive(Debug, Clone)]
pub struct LabelMatcher {
    name: String,
    operator: MatchOperator,
    value: String,
    regex: Option<Regex>,
}

/// Text that is no matcher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatcherError {
    /// Not a name, an operator and a value.
    #[error(
        "`{0}` is no matcher: write a label, one of `=`, `!=`, `=~`, `!~`, and a value, as in `severity=\"critical\"`"
    )]
    Malformed(String),
    /// A quote too many or too few.
    #[error(
        "the value of `{0}` holds a double quote that is not escaped: write `\\\"` inside of quotes"
    )]
    Quote(String),
    /// The regular expression does not compile.
    #[error("the regular expression `{pattern}` cannot be read: {reason}")]
    Regex {
        /// As it was written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl LabelMatcher {
    /// A matcher from its parts.
    ///
    /// # Errors
    /// A regular expression that does not compile.
    pub fn new(name: &str, operator: MatchOperator, value: &str) -> Result<Self, MatcherError> {
        let regex = match operator {
            MatchOperator::Equal | MatchOperator::NotEqual => None,
            MatchOperator::Regex | MatchOperator::NotRegex => {
                Some(anchored(value).map_err(|reason| MatcherError::Regex {
                    pattern: value.to_owned(),
                    reason,
                })?)
            }
        };
        Ok(LabelMatcher {
            name: name.to_owned(),
            operator,
            value: value.to_owned(),
            regex,
        })
    }

    /// The matchers of one text, separated by commas and perhaps in braces.
    ///
    /// # Errors
    /// The first part that is no matcher.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, MatcherError> {
        let text = text.strip_prefix('{').unwrap_or(text);
        let text = text.strip_suffix('}').unwrap_or(text);
        let mut parts = vec![String::new()];
        let (mut quoted, mut escaped) = (false, false);
        for c in text.chars() {
            match c {
                ',' if !quoted => {
                    parts.push(String::new());
                    continue;
                }
                '"' if escaped => escaped = false,
                '"' => quoted = !quoted,
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
            if let Some(part) = parts.last_mut() {
                part.push(c);
            }
        }
        if parts.last().is_some_and(|part| part.trim().is_empty()) {
            parts.pop();
        }
        parts.iter().map(|part| Self::parse(part)).collect()
    }

    fn parse(text: &str) -> Result<Self, MatcherError> {
        let malformed = || MatcherError::Malformed(text.trim().to_owned());
        let rest = text.trim_start();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
            .ok_or_else(malformed)?;
        let (name, rest) = rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(malformed());
        }
        let rest = rest.trim_start();
        let (operator, raw) = [
            ("=~", MatchOperator::Regex),
            ("!=", MatchOperator::NotEqual),
            ("!~", MatchOperator::NotRegex),
            ("=", MatchOperator::Equal),
        ]
        .into_iter()
        .find_map(|(sign, operator)| Some((operator, rest.strip_prefix(sign)?)))
        .ok_or_else(malformed)?;
        let value =
            unquote(raw.trim()).ok_or_else(|| MatcherError::Quote(text.trim().to_owned()))?;
        Self::new(name, operator, &value)
    }

    /// The label that it looks at.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    pub fn operator(&self) -> MatchOperator {
        self.operator
    }

    /// What it compares with.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label with this value passes; the empty text stands for a label that is missing.
    pub fn matches_value(&self, value: &str) -> bool {
        let by_regex = || {
            self.regex
                .as_ref()
                .is_some_and(|regex| regex.is_match(value))
        };
        match self.operator {
            MatchOperator::Equal => value == self.value,
            MatchOperator::NotEqual => value != self.value,
            MatchOperator::Regex => by_regex(),
            MatchOperator::NotRegex => !by_regex(),
        }
    }

    /// Whether these labels pass.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.value(&self.name))
    }
}

/// As Alertmanager prints it, as in `severity="critical"`.
impl fmt::Display for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.operator)?;
        write_quoted(f, &self.value)
    }
}

/// Writes text in double quotes, with line ends, quotes and backslashes escaped.
pub(super) fn write_quoted(f: &mut impl fmt::Write, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '\n' => f.write_str("\\n")?,
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// Whether these labels pass all the matchers.
pub(super) fn all_match(matchers: &[LabelMatcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels))
}

/// A regular expression that must match the whole text, or why it cannot be read.
pub(super) fn anchored(pattern: &str) -> Result<Regex, String> {
    // The pattern alone first, so that the reason shows what was written.
    Regex::new(pattern)
        .and_then(|_| Regex::new(&format!("^(?:{pattern})$")))
        .map_err(|error| {
            let text = error.to_string();
            text.lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned()
        })
}

fn unquote(raw: &str) -> Option<String> {
    let (text, quoted) = match raw.strip_prefix('"') {
        Some(inner) => (inner.strip_suffix('"')?, true),
        None => (raw, false),
    };
    // A closing quote that is itself escaped closes nothing.
    if quoted && (text.len() - text.trim_end_matches('\\').len()) % 2 == 1 {
        return None;
    }
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some(c @ ('"' | '\\')) => value.push(c),
                Some(c) => {
                    value.push('\\');
                    value.push(c);
                }
                None => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<String> {
        LabelMatcher::parse_list(text)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn one_text_may_hold_several_matchers() {
        assert_eq!(
            parsed(r#"{severity="critical", team=~"a,b|c" , x != y,z!~w}"#),
            [
                r#"severity="critical""#,
                r#"team=~"a,b|c""#,
                r#"x!="y""#,
                r#"z!~"w""#
            ]
        );
        assert!(parsed("").is_empty());
        assert_eq!(parsed(r#"a="x\"y\n\d""#), [r#"a="x\"y\n\\d""#]);
    }

    #[test]
    fn what_is_no_matcher_is_refused() {
        for text in [
            "a",
            "a-b=c",
            "=x",
            "1a=b",
            "a=b,,c=d",
            "{a}",
            "a = \"b",
            "a=\"b\\\"",
            "a=b\"c",
        ] {
            assert!(LabelMatcher::parse_list(text).is_err(), "{text}");
        }
        let error = LabelMatcher::parse_list("a=~\"(\"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("unclosed group"), "{error}");
    }

    #[test]
    fn a_missing_label_is_the_empty_text_and_expressions_match_the_whole_value() {
        let labels = Labels::new([("team", "api-gateway")]);
        for (text, expected) in [
            ("team=~api", false),
            ("team=~api.*", true),
            ("team!~api", true),
            ("zone=", true),
            ("zone=~.*", true),
            ("zone!=a", true),
            ("zone!=", false),
        ] {
            let matchers = LabelMatcher::parse_list(text).unwrap();
            assert_eq!(all_match(&matchers, &labels), expected, "{text}");
        }
    }
}
