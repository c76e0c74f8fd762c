//! Runs test scripts in Prometheus's own format: `load`, `clear`, `eval`.
//!
//! ```text
//! load 1m
//!   requests_total{job="api"} 0+120x10
//!
//! eval instant at 10m rate(requests_total[5m])
//!   {job="api"} 2
//! ```
//!
//! Every `eval` is a case. As in Prometheus's runner an instant query is also evaluated as the
//! middle step of a range query, which must give the same. A case that needs native histograms is
//! reported as not supported; the rest of the script runs on.

mod description;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::time::Duration;

use regex::Regex;

use crate::annotations::Level;
use crate::dialect::Dialect;
use crate::eval::Engine;
use crate::functions::Function;
use crate::functions::histogram::almost_equal;
use crate::labels::Labels;
use crate::query::Query;
use crate::series::Storage;
use crate::token::{duration_ms, number};
use crate::tree::{self, Node};
use crate::value::{Answer, Row, Short, Value};
use description::{Description, Item};

pub use description::{SeriesError, parse_series};

/// The relative difference up to which two values are equal.
const EPSILON: f64 = 1e-6;

/// What became of a script.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// One for each `eval`, and one for each line that could not be read.
    pub cases: Vec<Case>,
    /// Expectations that were not judged, with the reason.
    pub notes: Vec<String>,
}

impl Report {
    /// How many cases passed.
    pub fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Passed)
    }

    /// How many cases failed.
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// How many cases need what is not supported.
    pub fn unsupported(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Unsupported(_)))
    }

    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.cases
            .iter()
            .filter(|case| wanted(&case.outcome))
            .count()
    }
}

/// One expectation of a script.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Case {
    /// The line where it starts, from 1.
    pub line: usize,
    /// The command, as it is written.
    pub command: String,
    /// How it went.
    pub outcome: Outcome,
}

/// How a case went.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// As expected.
    Passed,
    /// Otherwise than expected: the difference.
    Failed(String),
    /// It needs what this evaluator does not have.
    Unsupported(String),
}

/// Runs a script.
pub fn run(text: &str, dialect: Dialect) -> Report {
    let mut runner = Runner {
        engine: Engine {
            // Prometheus's own runner has the feature on since it exists.
            delayed_name_removal: dialect == Dialect::V3,
            ..Engine::new(dialect)
        },
        storage: Storage::new(),
        native: Vec::new(),
        report: Report {
            cases: Vec::new(),
            notes: Vec::new(),
        },
    };
    let lines: Vec<&str> = text
        .split('\n')
        .map(str::trim)
        .map(|line| if line.starts_with('#') { "" } else { line })
        .collect();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        if line.is_empty() {
            continue;
        }
        let block_end = lines[at..]
            .iter()
            .position(|line| line.is_empty())
            .map_or(lines.len(), |length| at + length);
        let command = line
            .split([' ', '\t'])
            .next()
            .unwrap_or("")
            .to_ascii_lowercase();
        if command == "clear" {
            runner.storage = Storage::new();
            runner.native.clear();
        } else if command.starts_with("load") {
            runner.load(line, at, &lines[at..block_end]);
            at = block_end;
        } else if command.starts_with("eval") {
            let block: Vec<(usize, &str)> = (at + 1..)
                .zip(lines[at..block_end].iter().copied())
                .collect();
            runner.eval(line, at, &block);
            at = block_end;
        } else {
            runner.push(
                at,
                line,
                Outcome::Failed(format!(
                    "invalid command {line:?}: write load, clear or eval"
                )),
            );
        }
    }
    runner.report
}

struct Runner {
    engine: Engine,
    storage: Storage,
    /// Series that have native histograms, which are not loaded.
    native: Vec<Labels>,
    report: Report,
}

/// What an `eval` expects.
#[derive(Default)]
struct Expected {
    ordered: bool,
    fails: bool,
    fail_message: Option<Text>,
    warns: bool,
    informs: bool,
    warnings: Vec<Text>,
    infos: Vec<Text>,
    no_warnings: bool,
    no_infos: bool,
    scalar: Option<f64>,
    string: Option<String>,
    series: Vec<(Labels, Vec<Item>)>,
    window: Option<Times>,
}

#[derive(Clone, Copy)]
struct Times {
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
}

/// A text that is expected.
enum Text {
    Any,
    Exactly(String),
    Matching(Regex),
}

impl Text {
    fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => wanted == text,
            Self::Matching(regex) => regex.is_match(text),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Exactly(text) => write!(f, "{text:?}"),
            Self::Matching(regex) => write!(f, "/{regex}/"),
        }
    }
}

/// Why a case did not pass.
enum Miss {
    Failed(String),
    Unsupported(String),
}

impl From<String> for Miss {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

const NATIVE: &str = "native histograms are not supported";

impl Runner {
    fn push(&mut self, line: usize, command: &str, outcome: Outcome) {
        self.report.cases.push(Case {
            line,
            command: command.to_owned(),
            outcome,
        });
    }

    fn note(&mut self, text: &str) {
        if self.report.notes.iter().all(|held| held != text) {
            self.report.notes.push(text.to_owned());
        }
    }

    fn load(&mut self, command: &str, line: usize, block: &[&str]) {
        let mut words = command.split_whitespace();
        let with_native = words
            .next()
            .is_some_and(|word| word.ends_with("_with_nhcb"));
        let step_ms = words.next().and_then(|step| duration(step).ok());
        let Some(step_ms) = step_ms.filter(|_| words.next().is_none()) else {
            return self.push(
                line,
                command,
                Outcome::Failed("invalid load command: write load <step>, as in load 5m".into()),
            );
        };
        let mut series: Vec<(usize, &str, Description)> = Vec::with_capacity(block.len());
        let mut places: HashMap<Labels, usize> = HashMap::new();
        for (nth, text) in block.iter().enumerate() {
            let at = line + 1 + nth;
            match description::read(text) {
                // Of a series that is described twice, the last description holds.
                Ok(description) => match places.entry(description.labels.clone()) {
                    Entry::Occupied(place) => series[*place.get()] = (at, text, description),
                    Entry::Vacant(place) => {
                        place.insert(series.len());
                        series.push((at, text, description));
                    }
                },
                Err(error) => self.push(at, text, Outcome::Failed(error.to_string())),
            }
        }
        for (at, text, description) in series {
            if with_native && let Some(base) = histogram_base(&description.labels) {
                self.native.push(base);
            }
            if let Err(error) = self.append(&description, step_ms) {
                self.push(at, text, Outcome::Failed(error));
            }
        }
    }

    /// Appends what is no native histogram; a series that has some is remembered.
    fn append(&mut self, description: &Description, step_ms: i64) -> Result<(), String> {
        if description.items.contains(&Item::Native) {
            self.native.push(description.labels.clone());
        }
        for (nth, item) in description.items.iter().enumerate() {
            if let Item::Value(value) = item {
                self.storage
                    .append(description.labels.clone(), step_ms * nth as i64, *value)
                    .map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn eval(&mut self, command: &str, line: usize, block: &[(usize, &str)]) {
        let mut needs_native = false;
        let outcome = match self.judge(command, block, &mut needs_native) {
            Ok(()) => Outcome::Passed,
            // Many functions pass over native histograms, so that their absence changes nothing.
            Err(_) if needs_native => Outcome::Unsupported(NATIVE.into()),
            Err(Miss::Failed(text)) => Outcome::Failed(text),
            Err(Miss::Unsupported(text)) => Outcome::Unsupported(text),
        };
        self.push(line, command, outcome);
    }

    fn judge(
        &mut self,
        command: &str,
        block: &[(usize, &str)],
        needs_native: &mut bool,
    ) -> Result<(), Miss> {
        let eval = Eval::read(command)?;
        let expected = read_expected(&eval, block)?;
        if expected
            .series
            .iter()
            .any(|(_, items)| items.contains(&Item::Native))
        {
            return Err(Miss::Unsupported(NATIVE.into()));
        }
        let query = match Query::parse_as(&eval.expression, self.engine.dialect) {
            Ok(query) => query,
            Err(_) if needs_unsupported(&eval.expression).is_some() => {
                return Err(Miss::Unsupported(
                    needs_unsupported(&eval.expression).unwrap_or(NATIVE).into(),
                ));
            }
            Err(failure) if expected.fails => {
                let texts = [failure.to_string(), failure.message.clone()];
                return check_failure(&expected, &texts);
            }
            Err(failure) => return Err(Miss::Failed(failure.render())),
        };
        *needs_native = reads_any(query.root(), &self.native);
        match eval.times {
            When::Instant(at_ms) => self.judge_instant(&query, at_ms, &expected),
            When::Range(times) => {
                let answer = self.range(&query, times);
                let answer = match (answer, expected.fails) {
                    (Err(error), true) => return check_failure(&expected, &[error]),
                    (Err(error), false) => {
                        return Err(Miss::Failed(format!("error evaluating the query: {error}")));
                    }
                    (Ok(_), true) => {
                        return Err(Miss::Failed("expected an error, got none".into()));
                    }
                    (Ok(answer), false) => answer,
                };
                self.check_annotations(&answer, &expected)?;
                compare(&answer.value, &expected, Some(times))
            }
        }
    }

    fn range(&self, query: &Query, times: Times) -> Result<Answer, String> {
        self.engine
            .range(
                &self.storage,
                query,
                times.start_ms,
                times.end_ms,
                Duration::from_millis(times.step_ms.unsigned_abs()),
            )
            .map_err(|error| error.to_string())
    }

    fn judge_instant(
        &mut self,
        query: &Query,
        at_ms: i64,
        expected: &Expected,
    ) -> Result<(), Miss> {
        let answer = self
            .engine
            .instant(&self.storage, query, at_ms)
            .map_err(|error| error.to_string());
        let answer = match (answer, expected.fails) {
            (Err(error), true) => return check_failure(expected, &[error]),
            (Err(error), false) => {
                return Err(Miss::Failed(format!("error evaluating the query: {error}")));
            }
            (Ok(_), true) => return Err(Miss::Failed("expected an error, got none".into())),
            (Ok(answer), false) => answer,
        };
        self.check_annotations(&answer, expected)?;
        compare(&answer.value, expected, expected.window)?;
        if matches!(answer.value, Value::Matrix(_) | Value::String(_)) || expected.ordered {
            return Ok(());
        }
        // The same as the middle step of three.
        let minute = 60_000;
        let around = Times {
            start_ms: at_ms - minute,
            end_ms: at_ms + minute,
            step_ms: minute,
        };
        let in_range = |text: String| Miss::Failed(format!("in range mode: {text}"));
        if uses_query_times(query.root()) {
            return Ok(());
        }
        let ranged = self.range(query, around).map_err(in_range)?;
        let middle = middle_of(ranged.value.rows(), at_ms, &answer.value);
        compare(&middle, expected, None).map_err(|miss| match miss {
            Miss::Failed(text) => in_range(text),
            unsupported => unsupported,
        })
    }

    fn check_annotations(&mut self, answer: &Answer, expected: &Expected) -> Result<(), Miss> {
        if self.engine.dialect == Dialect::V2 {
            if expected.warns
                || expected.informs
                || !expected.warnings.is_empty()
                || !expected.infos.is_empty()
            {
                self.note(
                    "dialect 2.x has no annotations: expected warnings and infos were not judged",
                );
            }
            return Ok(());
        }
        for (level, what, any, none, texts) in [
            (
                Level::Warning,
                "warning",
                expected.warns,
                expected.no_warnings,
                &expected.warnings,
            ),
            (
                Level::Info,
                "info",
                expected.informs,
                expected.no_infos,
                &expected.infos,
            ),
        ] {
            let found: Vec<&str> = answer
                .annotations
                .iter()
                .filter(|held| held.level == level)
                .map(|held| held.message.as_str())
                .collect();
            if (any || !texts.is_empty()) && found.is_empty() {
                return Err(Miss::Failed(format!(
                    "expected a {what} annotation, got none"
                )));
            }
            if none && !found.is_empty() {
                return Err(Miss::Failed(format!(
                    "expected no {what} annotation, got {found:?}"
                )));
            }
            if texts.is_empty() {
                continue;
            }
            if let Some(text) = texts
                .iter()
                .find(|text| !found.iter().any(|held| text.accepts(held)))
            {
                return Err(Miss::Failed(format!(
                    "expected {what} annotation {text}, got {found:?}"
                )));
            }
            if let Some(held) = found
                .iter()
                .find(|held| !texts.iter().any(|text| text.accepts(held)))
            {
                return Err(Miss::Failed(format!(
                    "unexpected {what} annotation {held:?}"
                )));
            }
        }
        Ok(())
    }
}

/// The command of an `eval`.
struct Eval {
    modifier: Option<String>,
    times: When,
    expression: String,
}

enum When {
    Instant(i64),
    Range(Times),
}

impl Eval {
    fn read(command: &str) -> Result<Self, String> {
        let wrong = || {
            "invalid evaluation command: write eval[_fail|_warn|_info|_ordered] instant at <time> \
             <query> or eval[_fail|_warn|_info] range from <start> to <end> step <step> <query>"
                .to_owned()
        };
        let mut rest = command;
        let mut word = || -> Option<&str> {
            rest = rest.trim_start();
            let end = rest.find([' ', '\t']).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            rest = tail;
            (!word.is_empty()).then_some(word)
        };
        let modifier = match word().and_then(|word| word.strip_prefix("eval")) {
            Some("") => None,
            Some(modifier) => Some(
                modifier
                    .strip_prefix('_')
                    .filter(|modifier| ["fail", "warn", "info", "ordered"].contains(modifier))
                    .ok_or_else(wrong)?
                    .to_owned(),
            ),
            None => return Err(wrong()),
        };
        let times = match word() {
            Some("instant") => {
                let tail = rest.trim_start();
                if tail.starts_with("at ") || tail.starts_with("at\t") {
                    rest = &tail[2..];
                    let mut after = rest.trim_start().splitn(2, [' ', '\t']);
                    let at = after.next().unwrap_or("");
                    rest = after.next().unwrap_or("");
                    When::Instant(duration(at)?)
                } else {
                    When::Instant(0)
                }
            }
            Some("range") => {
                let mut times = [0; 3];
                for (keyword, time) in ["from", "to", "step"].iter().zip(&mut times) {
                    if word() != Some(keyword) {
                        return Err(wrong());
                    }
                    *time = duration(word().ok_or_else(wrong)?)?;
                }
                let [start_ms, end_ms, step_ms] = times;
                if end_ms < start_ms {
                    return Err(
                        "invalid test definition, end timestamp is before start timestamp".into(),
                    );
                }
                When::Range(Times {
                    start_ms,
                    end_ms,
                    step_ms,
                })
            }
            _ => return Err(wrong()),
        };
        let expression = rest.trim().to_owned();
        if expression.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            modifier,
            times,
            expression,
        })
    }
}

/// Milliseconds of a duration, which may be `0` or negative.
fn duration(text: &str) -> Result<i64, String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    if digits == "0" {
        return Ok(0);
    }
    match duration_ms(digits) {
        Some(Some(ms)) => Ok(sign * ms),
        _ => Err(format!("not a valid duration string: {text:?}")),
    }
}

fn read_expected(eval: &Eval, block: &[(usize, &str)]) -> Result<Expected, String> {
    let mut expected = Expected::default();
    match eval.modifier.as_deref() {
        Some("fail") => expected.fails = true,
        Some("warn") => expected.warns = true,
        Some("info") => expected.informs = true,
        Some("ordered") => expected.ordered = true,
        _ => {}
    }
    for &(line, text) in block {
        let at_line = |error: String| format!("line {line}: {error}");
        if let Some(message) = text.strip_prefix("expected_fail_message") {
            expected.fail_message = Some(Text::Exactly(message.trim().to_owned()));
        } else if let Some(pattern) = text.strip_prefix("expected_fail_regexp") {
            expected.fail_message = Some(Text::Matching(compile(pattern.trim()).map_err(at_line)?));
        } else if text
            .split([' ', '\t'])
            .next()
            .is_some_and(|word| word == "expect")
        {
            expected
                .read_line(text["expect".len()..].trim_start())
                .map_err(at_line)?;
        } else if let Some(value) = number(text) {
            expected.scalar = Some(value);
        } else {
            let description =
                description::read(text).map_err(|error| at_line(error.to_string()))?;
            let several = description.items.len() > 1;
            if several && matches!(eval.times, When::Instant(_)) && expected.window.is_none() {
                return Err(at_line(
                    "expecting multiple values in instant evaluation not allowed".into(),
                ));
            }
            expected
                .series
                .push((description.labels, description.items));
        }
    }
    Ok(expected)
}

fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern)
        .map_err(|error| format!("invalid regexp {pattern:?}: {}", tree::regex_reason(&error)))
}

impl Expected {
    /// Reads what stands after `expect`.
    fn read_line(&mut self, text: &str) -> Result<(), String> {
        let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let rest = rest.trim();
        if word == "string" {
            // Before the text was quoted, it was all that follows one space.
            let plain = text["string".len()..].strip_prefix(' ').unwrap_or("");
            self.string = Some(description::unquote(rest).unwrap_or_else(|| plain.to_owned()));
            return Ok(());
        }
        if word == "range" {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let ["vector", "from", start, "to", end, "step", step] = words[..] else {
                return Err(format!("invalid range vector definition {text:?}"));
            };
            self.window = Some(Times {
                start_ms: duration(start)?,
                end_ms: duration(end)?,
                step_ms: duration(step)?,
            });
            return Ok(());
        }
        let wanted = if rest.is_empty() {
            Text::Any
        } else if let Some(message) = rest.strip_prefix("msg:") {
            Text::Exactly(message.trim().to_owned())
        } else if let Some(pattern) = rest.strip_prefix("regex:") {
            Text::Matching(compile(pattern.trim())?)
        } else {
            return Err(format!(
                "invalid expect statement {text:?}: write expect <type> [msg:<text>|regex:<pattern>]"
            ));
        };
        match word {
            "ordered" => self.ordered = true,
            "fail" => {
                self.fails = true;
                self.fail_message = Some(wanted);
            }
            "warn" => self.warnings.push(wanted),
            "info" => self.infos.push(wanted),
            "no_warn" => self.no_warnings = true,
            "no_info" => self.no_infos = true,
            _ => return Err(format!("invalid expected error/annotation type {word}")),
        }
        if (self.no_warnings && !self.warnings.is_empty())
            || (self.no_infos && !self.infos.is_empty())
        {
            return Err("a kind of annotation cannot be both expected and excluded".into());
        }
        Ok(())
    }
}

fn check_failure(expected: &Expected, texts: &[String]) -> Result<(), Miss> {
    match &expected.fail_message {
        Some(wanted) if !texts.iter().any(|text| wanted.accepts(text)) => Err(Miss::Failed(
            format!("expected error {wanted}\n     got error {:?}", texts[0]),
        )),
        _ => Ok(()),
    }
}

/// What a query that does not parse needs, where that is a thing Prometheus has.
fn needs_unsupported(expression: &str) -> Option<&'static str> {
    let has_word = |word: &str| {
        expression
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .any(|held| held == word)
    };
    if expression.contains("{{") || has_word("histogram_quantiles") {
        Some(NATIVE)
    } else if has_word("anchored") || has_word("smoothed") {
        Some("the modifiers anchored and smoothed are not supported")
    } else if expression.contains("info(") {
        Some("the function info is not supported")
    } else if has_word("timeseries_gen") {
        Some("the function timeseries_gen is not supported")
    } else if computes_durations(expression) {
        Some("durations that are computed are not supported")
    } else if expression.contains("</") || expression.contains(">/") {
        Some(NATIVE)
    } else {
        None
    }
}

/// Whether there is arithmetic in the place of a duration.
fn computes_durations(expression: &str) -> bool {
    let in_brackets = expression.split('[').skip(1).any(|rest| {
        let inside = rest.split(']').next().unwrap_or("");
        inside.contains(['+', '-', '*', '/', '%', '^', '('])
    });
    let after_offset = expression.split("offset").skip(1).any(|rest| {
        rest.trim_start_matches([' ', '-', '+'])
            .starts_with(['(', 's', 'm', 'r'])
    });
    in_brackets || after_offset
}

fn histogram_base(labels: &Labels) -> Option<Labels> {
    let name = labels.name()?;
    let base = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| name.strip_suffix(end))?;
    Some(
        labels
            .with(crate::labels::METRIC_NAME, base)
            .without(&["le"]),
    )
}

/// Whether a query selects any of these series.
fn reads_any(node: &Node, series: &[Labels]) -> bool {
    if let tree::Kind::Selector(selector) | tree::Kind::Range { selector, .. } = &node.kind
        && series.iter().any(|labels| {
            selector
                .matchers
                .iter()
                .all(|matcher| matcher.accepts(labels))
        })
    {
        return true;
    }
    node.children()
        .into_iter()
        .any(|child| reads_any(child, series))
}

/// Whether the value of a query depends on where the query starts and ends.
fn uses_query_times(node: &Node) -> bool {
    let place = match &node.kind {
        tree::Kind::Selector(selector) | tree::Kind::Range { selector, .. } => Some(selector.place),
        tree::Kind::Subquery(subquery) => Some(subquery.place),
        _ => None,
    };
    let asks = matches!(
        &node.kind,
        tree::Kind::Call(call) if matches!(call.signature.function, Function::Context(_))
    );
    asks || place.is_some_and(|place| matches!(place.at, Some(tree::At::Start | tree::At::End)))
        || node.children().into_iter().any(uses_query_times)
}

/// The values of a range query at one step, in the form of an instant query's answer.
fn middle_of(rows: &[Row], at_ms: i64, instant: &Value) -> Value {
    let samples: Vec<crate::value::Sample> = rows
        .iter()
        .filter_map(|row| {
            let point = row
                .points
                .iter()
                .find(|point| point.timestamp_ms == at_ms)?;
            Some(crate::value::Sample {
                labels: row.labels.clone(),
                timestamp_ms: at_ms,
                value: point.value,
            })
        })
        .collect();
    match (instant, samples.first()) {
        (Value::Scalar(_), Some(sample)) => Value::Scalar(crate::value::Point {
            timestamp_ms: at_ms,
            value: sample.value,
        }),
        _ => Value::Vector(samples),
    }
}

fn compare(value: &Value, expected: &Expected, times: Option<Times>) -> Result<(), Miss> {
    let difference = match value {
        Value::Scalar(point) => match expected.scalar {
            Some(wanted) if almost_equal(wanted, point.value, EPSILON) => None,
            Some(wanted) => Some(format!(
                "expected scalar {}\n     got scalar {}",
                Short(wanted),
                Short(point.value)
            )),
            None => Some(format!(
                "expected a vector or matrix, got scalar {}",
                Short(point.value)
            )),
        },
        Value::String(text) => {
            let wanted = expected.string.clone().unwrap_or_default();
            (wanted != *text).then(|| format!("expected string {wanted:?}, got {text:?}"))
        }
        Value::Vector(_) | Value::Matrix(_) if expected.scalar.is_some() => {
            Some("expected a scalar, got a vector or matrix".to_owned())
        }
        Value::Vector(samples) => {
            let got: Vec<(Labels, Vec<Item>)> = samples
                .iter()
                .map(|sample| (sample.labels.clone(), vec![Item::Value(sample.value)]))
                .collect();
            compare_series(&expected.series, &got, expected.ordered)
        }
        Value::Matrix(_) if expected.ordered => {
            Some("expected ordered result, but query returned a matrix".to_owned())
        }
        Value::Matrix(rows) => {
            let Some(times) = times else {
                return Err(Miss::Failed(
                    "the query gave a range vector: say when its samples are with expect range vector"
                        .into(),
                ));
            };
            let got: Vec<(Labels, Vec<Item>)> = rows
                .iter()
                .map(|row| (row.labels.clone(), on_grid(row, times)))
                .collect();
            compare_series(&expected.series, &got, false)
        }
    };
    match difference {
        None => Ok(()),
        Some(text) => Err(Miss::Failed(text)),
    }
}

/// The values of a row at the steps of a grid, without gaps at its end.
fn on_grid(row: &Row, times: Times) -> Vec<Item> {
    let mut items = Vec::new();
    let mut points = row.points.iter().peekable();
    let mut at_ms = times.start_ms;
    while at_ms <= times.end_ms && points.peek().is_some() {
        match points.peek() {
            Some(point) if point.timestamp_ms == at_ms => {
                items.push(Item::Value(point.value));
                points.next();
            }
            Some(point) if point.timestamp_ms < at_ms => {
                // Between two steps: the comparison must not pass.
                items.push(Item::Native);
                points.next();
                continue;
            }
            _ => items.push(Item::Omitted),
        }
        at_ms += times.step_ms.max(1);
    }
    items.extend(points.map(|_| Item::Native));
    items
}

fn same_items(wanted: &[Item], got: &[Item]) -> bool {
    let longest = wanted.len().max(got.len());
    let at = |items: &[Item], nth: usize| items.get(nth).copied().unwrap_or(Item::Omitted);
    (0..longest).all(|nth| match (at(wanted, nth), at(got, nth)) {
        (Item::Value(a), Item::Value(b)) => almost_equal(a, b, EPSILON),
        (Item::Omitted, Item::Omitted) => true,
        _ => false,
    })
}

/// The most lines of one list in a difference.
const SHOWN: usize = 12;

fn compare_series(
    wanted: &[(Labels, Vec<Item>)],
    got: &[(Labels, Vec<Item>)],
    ordered: bool,
) -> Option<String> {
    // Of a series that is expected twice the last line counts, as in Prometheus's runner.
    let find = |labels: &Labels| wanted.iter().rev().find(|(held, _)| held == labels);
    let complete = wanted
        .iter()
        .all(|(labels, _)| got.iter().any(|(held, _)| held == labels));
    let equal = got
        .iter()
        .all(|(labels, items)| find(labels).is_some_and(|(_, wanted)| same_items(wanted, items)));
    let in_order = !ordered
        || wanted
            .iter()
            .zip(got)
            .all(|((wanted, _), (got, _))| wanted == got);
    if complete && equal && in_order {
        return None;
    }
    let list = |series: &[(Labels, Vec<Item>)]| {
        let mut out = String::new();
        for (labels, items) in series.iter().take(SHOWN) {
            let values: Vec<String> = items.iter().take(20).map(Item::to_string).collect();
            let more = if items.len() > 20 { " …" } else { "" };
            let right = wanted
                .iter()
                .any(|(held, wanted)| held == labels && same_items(wanted, items))
                && got
                    .iter()
                    .any(|(held, got)| held == labels && same_items(items, got));
            let mark = if right { ' ' } else { '>' };
            out.push_str(&format!("\n  {mark} {labels} {}{more}", values.join(" ")));
        }
        if series.len() > SHOWN {
            out.push_str(&format!("\n    … and {} more", series.len() - SHOWN));
        }
        if series.is_empty() {
            out.push_str("\n    nothing");
        }
        out
    };
    let what = if complete && equal {
        " in this order"
    } else {
        ""
    };
    Some(format!(
        "expected{what}:{}\ngot:{}",
        list(wanted),
        list(got)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(text: &str) -> Vec<Outcome> {
        run(text, Dialect::V3)
            .cases
            .into_iter()
            .map(|case| case.outcome)
            .collect()
    }

    fn failure(text: &str) -> String {
        match &outcomes(text)[..] {
            [Outcome::Failed(text)] => text.clone(),
            other => panic!("one failure expected, got {other:?}"),
        }
    }

    const LOAD: &str = "load 1m\n  a{x=\"1\"} 1+1x5\n  a{x=\"2\"} 2 _ 4 stale\n\n";

    #[test]
    fn what_holds_passes_and_what_does_not_is_shown_with_its_difference() {
        let text = format!("{LOAD}eval instant at 2m a\n  a{{x=\"1\"}} 3\n  a{{x=\"2\"}} 4\n");
        assert_eq!(outcomes(&text), [Outcome::Passed]);
        let text = format!("{LOAD}eval instant at 3m a\n  a{{x=\"1\"}} 4\n  a{{x=\"2\"}} 4\n");
        let shown = failure(&text);
        assert!(shown.contains("> a{x=\"2\"} 4"), "{shown}");
    }

    #[test]
    fn each_wrong_expectation_is_noticed() {
        for block in [
            "eval instant at 0 a\n  a{x=\"1\"} 1\n",
            "eval instant at 0 a\n  a{x=\"1\"} 1\n  a{x=\"2\"} 2.1\n",
            "eval instant at 0 a\n  a{x=\"1\"} 1\n  a{x=\"2\"} 2\n  a{x=\"3\"} 2\n",
            "eval_ordered instant at 0 sort_desc(a)\n  a{x=\"1\"} 1\n  a{x=\"2\"} 2\n",
            "eval_fail instant at 0 a\n",
            "eval_fail instant at 0 a * on() a\n  expected_fail_message nonsense\n",
            "eval_warn instant at 0 a\n",
            "eval instant at 0 a\n  expect no_info\n  expect info\n",
            "eval instant at 1m rate(a[5m])\n  expect no_info\n  {x=\"1\"} 1\n",
            "eval instant at 0 1 + 1\n  3\n",
            "eval instant at 0 \"x\"\n  expect string \"y\"\n",
            "eval range from 0 to 2m step 1m a{x=\"1\"}\n  a{x=\"1\"} 1 2\n",
            "eval range from 0 to 2m step 1m a{x=\"1\"}\n  a{x=\"1\"} 1 2 3 4\n",
            "eval instant at 0 sum(\n",
            "evil instant at 0 a\n",
        ] {
            failure(&format!("{LOAD}{block}"));
        }
    }

    #[test]
    fn each_right_expectation_passes() {
        for block in [
            "eval_ordered instant at 0 sort_desc(a)\n  a{x=\"2\"} 2\n  a{x=\"1\"} 1\n",
            "eval_fail instant at 0 a * on() a\n",
            "eval instant at 0 a * on() a\n  expect fail regex:found duplicate series.*\n",
            "eval_info instant at 1m rate(a[5m])\n  {x=\"1\"} 0.005\n",
            "eval instant at 0 1 + 1\n  2\n",
            "eval instant at 0 \"x\"\n  expect string \"x\"\n",
            "eval range from 0 to 3m step 1m a\n  a{x=\"1\"} 1 2 3 4\n  a{x=\"2\"} 2 2 4\n",
            "eval instant at 2m a[2m]\n  expect range vector from 1m to 2m step 1m\n  a{x=\"1\"} 2 3\n  a{x=\"2\"} _ 4\n",
        ] {
            assert_eq!(
                outcomes(&format!("{LOAD}{block}")),
                [Outcome::Passed],
                "{block}"
            );
        }
    }

    #[test]
    fn a_native_histogram_spoils_its_own_cases_only() {
        let text = "load 1m\n  h {{schema:0 sum:1 count:1 buckets:[1]}}x3\n  a 1\n\n\
            eval instant at 0 h\n  h {{schema:0 sum:1 count:1 buckets:[1]}}\n\n\
            eval instant at 0 histogram_count(h)\n  {} 1\n\n\
            eval instant at 0 a\n  a 1\n";
        let report = run(text, Dialect::V3);
        assert_eq!(
            (report.passed(), report.failed(), report.unsupported()),
            (1, 0, 2)
        );
    }

    #[test]
    fn a_broken_line_fails_by_itself() {
        let report = run(
            "load 1m\n  a 1+\n  b 1\n\neval instant at 0 b\n  b 1\n",
            Dialect::V3,
        );
        assert_eq!((report.passed(), report.failed()), (1, 1));
        assert_eq!(report.cases[0].line, 2);
    }
}
