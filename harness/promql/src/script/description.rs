//! Series as scripts write them: labels, then values with gaps, runs and steps.

use std::fmt;

use crate::labels::{Labels, METRIC_NAME, is_label_name, is_metric_name};
use crate::series::STALE;
use crate::token::number;
use crate::value::Short;

/// The most values of one series.
const MAX_ITEMS: usize = 1_000_000;

/// A series and its values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Description {
    pub(super) labels: Labels,
    pub(super) items: Vec<Item>,
}

/// What stands at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Item {
    Value(f64),
    Omitted,
    /// A native histogram.
    Native,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) if crate::series::is_stale(*value) => f.write_str("stale"),
            Self::Value(value) => Short(*value).fmt(f),
            Self::Omitted => f.write_str("_"),
            Self::Native => f.write_str("{{…}}"),
        }
    }
}

/// A series that cannot be read.
///
/// Completes "could not read the series: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {reason}")]
pub struct SeriesError {
    text: String,
    reason: String,
}

/// Reads a series in the notation of scripts and rule tests: `up{job="api"} 1x3 _ 0+10x5 stale`.
///
/// Answers with the labels and one value for each step; `None` where there is a gap.
///
/// # Errors
/// The text is no series, or has native histograms.
pub fn parse_series(text: &str) -> Result<(Labels, Vec<Option<f64>>), SeriesError> {
    let description = read(text)?;
    let values = description
        .items
        .into_iter()
        .map(|item| match item {
            Item::Value(value) => Ok(Some(value)),
            Item::Omitted => Ok(None),
            Item::Native => Err(SeriesError {
                text: text.to_owned(),
                reason: super::NATIVE.to_owned(),
            }),
        })
        .collect::<Result<_, _>>()?;
    Ok((description.labels, values))
}

pub(super) fn read(text: &str) -> Result<Description, SeriesError> {
    let mut reader = Reader { rest: text };
    reader.description().map_err(|reason| SeriesError {
        text: text.to_owned(),
        reason,
    })
}

/// The text of a quoted string.
pub(super) fn unquote(text: &str) -> Option<String> {
    let mut reader = Reader { rest: text };
    let value = reader.string().ok()?;
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, wanted: &str) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn description(&mut self) -> Result<Description, String> {
        let labels = self.metric()?;
        let mut items = Vec::new();
        loop {
            self.skip_spaces();
            if self.rest.is_empty() {
                break;
            }
            self.item(&mut items)?;
        }
        Ok(Description { labels, items })
    }

    fn metric(&mut self) -> Result<Labels, String> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let end = self
            .rest
            .find(|c: char| c == '{' || c.is_whitespace())
            .unwrap_or(self.rest.len());
        let name = &self.rest[..end];
        if !name.is_empty() {
            if !is_metric_name(name) {
                return Err(format!("{name:?} is not a metric name"));
            }
            pairs.push((METRIC_NAME.to_owned(), name.to_owned()));
        }
        self.rest = &self.rest[end..];
        let after = self.rest.trim_start_matches([' ', '\t']);
        if after.starts_with('{') && !after.starts_with("{{") {
            self.rest = &after[1..];
            self.pairs(&mut pairs)?;
        } else if pairs.is_empty() {
            return Err("it has neither a name nor labels".to_owned());
        }
        Ok(Labels::new(pairs))
    }

    fn pairs(&mut self, pairs: &mut Vec<(String, String)>) -> Result<(), String> {
        loop {
            self.skip_spaces();
            if self.take("}") {
                return Ok(());
            }
            let quoted = self.rest.starts_with(['"', '\'', '`']);
            let name = if quoted {
                self.string()?
            } else {
                let end = self
                    .rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(self.rest.len());
                let name = self.rest[..end].to_owned();
                self.rest = &self.rest[end..];
                if !is_label_name(&name) {
                    return Err(format!("a label name is expected at {:?}", self.rest));
                }
                name
            };
            self.skip_spaces();
            if self.take("=") {
                self.skip_spaces();
                let value = self.string()?;
                pairs.push((name, value));
            } else if quoted {
                pairs.push((METRIC_NAME.to_owned(), name));
            } else {
                return Err(format!("`=` is expected after the label {name}"));
            }
            self.skip_spaces();
            if !self.take(",") && !self.rest.starts_with('}') {
                return Err("`,` or `}` is expected after a label".to_owned());
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let quote = self
            .rest
            .chars()
            .next()
            .filter(|c| ['"', '\'', '`'].contains(c))
            .ok_or_else(|| format!("a quoted text is expected at {:?}", self.rest))?;
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.rest = &self.rest[at + 1..];
                return Ok(out);
            }
            if c != '\\' || quote == '`' {
                out.push(c);
                continue;
            }
            let mut code = |digits: usize, radix: u32| -> Option<char> {
                let text: String = chars
                    .by_ref()
                    .skip(1)
                    .take(digits)
                    .map(|(_, c)| c)
                    .collect();
                char::from_u32(u32::from_str_radix(&text, radix).ok()?)
            };
            let escaped = match self.rest[at + 1..].chars().next() {
                Some('n') => Some('\n'),
                Some('t') => Some('\t'),
                Some('r') => Some('\r'),
                Some('a') => Some('\x07'),
                Some('b') => Some('\x08'),
                Some('f') => Some('\x0c'),
                Some('v') => Some('\x0b'),
                Some('\\') => Some('\\'),
                Some(c) if c == quote => Some(c),
                Some('x') => code(2, 16),
                Some('u') => code(4, 16),
                Some('U') => code(8, 16),
                _ => None,
            };
            let simple = !matches!(self.rest[at + 1..].chars().next(), Some('x' | 'u' | 'U'));
            if simple {
                chars.next();
            }
            out.push(escaped.ok_or("an escape that is not known")?);
        }
        Err("a quoted text that does not end".to_owned())
    }

    fn item(&mut self, items: &mut Vec<Item>) -> Result<(), String> {
        if self.rest.starts_with("{{") {
            let end = self
                .rest
                .find("}}")
                .ok_or("a native histogram that does not end")?;
            self.rest = &self.rest[end + 2..];
            // What follows may be a step and a number of repetitions; all of it is one histogram.
            while self.rest.starts_with(['+', '-']) && self.rest[1..].starts_with("{{") {
                let end = self
                    .rest
                    .find("}}")
                    .ok_or("a native histogram that does not end")?;
                self.rest = &self.rest[end + 2..];
            }
            let count = match self.rest.strip_prefix('x') {
                Some(rest) => {
                    self.rest = rest;
                    self.count()?
                }
                None => 0,
            };
            return repeat(items, count.saturating_add(1), |_| Item::Native);
        }
        let end = self.rest.find([' ', '\t']).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        self.rest = &self.rest[end..];
        if word == "_" {
            items.push(Item::Omitted);
            return Ok(());
        }
        if let Some(count) = word.strip_prefix("_x") {
            return repeat(items, parse_count(count)?, |_| Item::Omitted);
        }
        if let Some(tail) = word.strip_prefix("stale") {
            let count = match tail {
                "" => 0,
                tail => parse_count(
                    tail.strip_prefix('x')
                        .ok_or_else(|| format!("unexpected {tail:?} after stale"))?,
                )?,
            };
            return repeat(items, count.saturating_add(1), |_| Item::Value(STALE));
        }
        let wrong = || format!("{word:?} is no value: write a number, _, stale, 1x5 or 0+10x5");
        // `0x59` is sixty zeros: numbers are never hexadecimal here.
        if let Some(value) = number(word).filter(|_| !word.contains(['x', 'X'])) {
            items.push(Item::Value(value));
            return Ok(());
        }
        let (head, count) = word.rsplit_once('x').ok_or_else(wrong)?;
        let count = parse_count(count)?.saturating_add(1);
        if let Some(value) = number(head) {
            return repeat(items, count, |_| Item::Value(value));
        }
        // The sign of the step is the last one that is neither first nor part of an exponent.
        let split = head
            .char_indices()
            .skip(1)
            .filter(|(at, c)| matches!(c, '+' | '-') && !head[..*at].ends_with(['e', 'E']))
            .map(|(at, _)| at)
            .last()
            .ok_or_else(wrong)?;
        let (Some(mut value), Some(step)) = (number(&head[..split]), number(&head[split..])) else {
            return Err(wrong());
        };
        repeat(items, count, |_| {
            let item = Item::Value(value);
            value += step;
            item
        })
    }

    fn count(&mut self) -> Result<usize, String> {
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(self.rest.len());
        let count = parse_count(&self.rest[..end])?;
        self.rest = &self.rest[end..];
        Ok(count)
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no number of repetitions"))
}

fn repeat(
    items: &mut Vec<Item>,
    count: usize,
    item: impl FnMut(usize) -> Item,
) -> Result<(), String> {
    if items.len().saturating_add(count) > MAX_ITEMS {
        return Err(format!("it has more than {MAX_ITEMS} values"));
    }
    items.extend((0..count).map(item));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        read(text)
            .unwrap()
            .items
            .iter()
            .map(Item::to_string)
            .collect()
    }

    #[test]
    fn values_have_gaps_runs_and_steps() {
        assert_eq!(values("a 1 _ stale"), ["1", "_", "stale"]);
        assert_eq!(values("a 1x2 _x2"), ["1", "1", "1", "_", "_"]);
        assert_eq!(values("a 0+10x3"), ["0", "10", "20", "30"]);
        assert_eq!(values("a -1-1x1 1e3-2e2x1"), ["-1", "-2", "1000", "800"]);
        assert_eq!(values("a NaN -Inf +Infx1"), ["NaN", "-Inf", "+Inf", "+Inf"]);
        assert_eq!(values("a 0x2"), ["0", "0", "0"]);
        assert_eq!(
            values("a {{count:1}}+{{count:2}}x1 1"),
            ["{{…}}", "{{…}}", "1"]
        );
    }

    #[test]
    fn names_and_labels_may_be_quoted() {
        let of = |text: &str| read(text).unwrap().labels;
        let wanted = Labels::named("a.b", [("c d", "e\"\n")]);
        assert_eq!(of(r#"{"a.b", 'c d'="e\"\u000a"} 1"#), wanted);
        assert_eq!(of("{} 1"), Labels::empty());
        assert_eq!(of("x{ a = `b`, } 1"), Labels::named("x", [("a", "b")]));
    }

    #[test]
    fn what_is_no_series_is_an_error() {
        for text in [
            "",
            "a{b} 1",
            "a{b=\"c\" 1",
            "a 1+",
            "a b",
            "a 1x",
            "1a 2",
            "a 1x99999999999",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn gaps_are_none_in_the_public_form() {
        let (labels, values) = parse_series("up{job=\"api\"} 1 _ 3").unwrap();
        assert_eq!(labels.to_string(), "up{job=\"api\"}");
        assert_eq!(values, [Some(1.0), None, Some(3.0)]);
    }
}
