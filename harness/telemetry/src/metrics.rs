//! A scrape: what a `/metrics` endpoint answered at one moment.
//!
//! For reading, comparing and printing scrapes in the Prometheus text exposition format 0.0.4 and in
//! OpenMetrics 1.0 text. Not for storing series over time, not for queries, and on purpose without
//! a quantile: estimating one from buckets is what several labs are about.
//!
//! ```
//! use telemetry::metrics::Scrape;
//!
//! let scrape = Scrape::parse(
//!     "# TYPE jobs_total counter\n\
//!      jobs_total{status=\"ok\"} 41\n\
//!      jobs_total{status=\"error\"} 1\n",
//! )?;
//! assert_eq!(scrape.value("jobs_total", &[("status", "ok")]), Some(41.0));
//! let all: f64 = scrape.samples("jobs_total").map(|sample| sample.value).sum();
//! assert_eq!(all, 42.0);
//! # Ok::<(), telemetry::ParseError>(())
//! ```
//!
//! # Why not a published parser
//!
//! `openmetrics-parser` 0.5 reads both formats but is LGPL and builds a grammar generator
//! into every lab; `prometheus-parse` 0.2 is light on the format (no OpenMetrics, no exemplars),
//! brings a regular-expression engine and a calendar, and skips lines that it does not understand,
//! so a learner's typo would vanish instead of being pointed at.
//!
//! # What is accepted
//!
//! Exposition is read as leniently as a Prometheus server reads it: a `# TYPE` that comes late and
//! interleaved families pass here and are reported by [`lint`]. OpenMetrics is read as strictly as
//! its specification says MUST. Quoted UTF-8 names (Prometheus 3) belong to neither format version
//! and are refused.

mod delta;
mod histogram;
mod lint;
mod parse;
mod write;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

pub use delta::{Delta, Series};
pub use histogram::{Bucket, Histogram, HistogramError};
pub use lint::{Finding, Rule, lint};

use crate::ParseError;

/// The largest scrape that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = 64 << 20;
/// The longest line that is read, in bytes.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// The most samples in one scrape.
pub const MAX_SAMPLES: usize = 1_000_000;
/// The most families in one scrape.
pub const MAX_FAMILIES: usize = 100_000;
/// The most labels on one sample or exemplar.
pub const MAX_LABELS: usize = 128;

/// Which of the two text formats a scrape is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text exposition 0.0.4: timestamps are integer milliseconds.
    Exposition,
    /// OpenMetrics 1.0: timestamps are float seconds, the text ends with `# EOF`.
    OpenMetrics,
}

impl Format {
    /// Tells the format of a text: OpenMetrics is the one whose last line is `# EOF`.
    pub fn detect(text: &str) -> Self {
        let last = text.strip_suffix('\n').unwrap_or(text).rsplit('\n').next();
        if last == Some("# EOF") {
            Self::OpenMetrics
        } else {
            Self::Exposition
        }
    }
}

/// All that an endpoint exposed at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scrape {
    /// In the order of their first appearance.
    pub families: Vec<Family>,
}

impl Scrape {
    /// Reads a scrape in the format that [`Format::detect`] finds.
    ///
    /// # Errors
    /// The first place where the text leaves the format or passes a limit of this module.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_as(text, Format::detect(text))
    }

    /// Reads a scrape in a format that is known, as from a `Content-Type` header.
    ///
    /// # Errors
    /// As [`Scrape::parse`].
    pub fn parse_as(text: &str, format: Format) -> Result<Self, ParseError> {
        parse::scrape(text, format).map(|parsed| parsed.scrape)
    }

    /// Reads a scrape from bytes that may not even be UTF-8.
    ///
    /// # Errors
    /// As [`Scrape::parse`], and at the first byte that is not UTF-8.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, ParseError> {
        crate::source::check_size(bytes, MAX_TEXT_BYTES)?;
        Self::parse(crate::source::decode(bytes)?)
    }

    /// The family of this name, as declared by `# TYPE` (in OpenMetrics without `_total`).
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == *name)
    }

    /// Every sample of the scrape, family by family.
    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.families.iter().flat_map(|family| &family.samples)
    }

    /// The samples whose own name is `name`: `x_bucket` rather than the family `x`.
    pub fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.iter().filter(move |sample| sample.name == *name)
    }

    /// The sample with this name and with exactly these labels, in any order.
    ///
    /// Of duplicates the first, which is the one that Prometheus keeps.
    pub fn sample(&self, name: &str, labels: &[(&str, &str)]) -> Option<&Sample> {
        self.iter()
            .find(|sample| sample.name == *name && sample.labels.equal(labels))
    }

    /// The value of the sample with this name and with exactly these labels, in any order.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.sample(name, labels).map(|sample| sample.value)
    }

    /// The classic histogram `name` with exactly these labels (leave `le` out), checked.
    ///
    /// # Errors
    /// No such histogram, a part of it is missing, or its buckets contradict each other.
    pub fn histogram(
        &self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> Result<Histogram, HistogramError> {
        histogram::find(self, name, labels)
    }

    /// The label sets (without `le`) under which the histogram `name` occurs, in order.
    pub fn histogram_labels(&self, name: &str) -> Vec<Labels> {
        histogram::label_sets(self, name)
    }
}

/// What a metric family measures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only grows, from zero, until its process restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
    /// Quantiles computed by the process itself, a sum and a count.
    Summary,
    /// `untyped` in exposition, `unknown` in OpenMetrics, or no `# TYPE` at all.
    #[default]
    Unknown,
    /// Labels that describe the process (OpenMetrics).
    Info,
    /// Booleans, of which several may be true (OpenMetrics).
    StateSet,
    /// Buckets of a distribution that may shrink (OpenMetrics).
    GaugeHistogram,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Counter,
        Self::Gauge,
        Self::Histogram,
        Self::Summary,
        Self::Unknown,
        Self::Info,
        Self::StateSet,
        Self::GaugeHistogram,
    ];

    /// The word for it in a `# TYPE` line, or `None` where the format has none.
    pub fn word(self, format: Format) -> Option<&'static str> {
        Some(match (self, format) {
            (Self::Counter, _) => "counter",
            (Self::Gauge, _) => "gauge",
            (Self::Histogram, _) => "histogram",
            (Self::Summary, _) => "summary",
            (Self::Unknown, Format::Exposition) => "untyped",
            (Self::Unknown, Format::OpenMetrics) => "unknown",
            (Self::Info, Format::OpenMetrics) => "info",
            (Self::StateSet, Format::OpenMetrics) => "stateset",
            (Self::GaugeHistogram, Format::OpenMetrics) => "gaugehistogram",
            (Self::Info | Self::StateSet | Self::GaugeHistogram, Format::Exposition) => {
                return None;
            }
        })
    }

    fn from_word(word: &str, format: Format) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.word(format) == Some(word))
    }

    /// What may follow the family's name in the names of its samples.
    fn suffixes(self, format: Format) -> &'static [&'static str] {
        match (self, format) {
            (Self::Counter, Format::OpenMetrics) => &["_total", "_created"],
            (Self::Histogram, Format::OpenMetrics) => &["_bucket", "_sum", "_count", "_created"],
            (Self::Summary, Format::OpenMetrics) => &["", "_sum", "_count", "_created"],
            (Self::Histogram, Format::Exposition) => &["", "_bucket", "_sum", "_count"],
            (Self::Summary, Format::Exposition) => &["", "_sum", "_count"],
            (Self::GaugeHistogram, _) => &["_bucket", "_gsum", "_gcount"],
            (Self::Info, _) => &["_info"],
            (Self::Counter | Self::Gauge | Self::Unknown | Self::StateSet, _) => &[""],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word(Format::OpenMetrics).unwrap_or("unknown"))
    }
}

/// Samples that share a name, a type and a help text.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Family {
    /// As in the `# TYPE` line: a counter's ends with `_total` in exposition, not in OpenMetrics.
    pub name: MetricName,
    /// [`Kind::Unknown`] where the text declares none.
    pub kind: Kind,
    /// The text of `# HELP`, unescaped.
    pub help: Option<String>,
    /// The text of `# UNIT` (OpenMetrics only).
    pub unit: Option<String>,
    /// In the order of the text.
    pub samples: Vec<Sample>,
}

impl Family {
    /// An empty family.
    pub fn new(name: MetricName, kind: Kind) -> Self {
        Self {
            name,
            kind,
            help: None,
            unit: None,
            samples: Vec::new(),
        }
    }
}

/// One value of one series.
///
/// Equality leaves [`Sample::line`] out and takes NaN as equal to NaN: two scrapes are equal when
/// they say the same, wherever they say it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Sample {
    /// The full name, with `_bucket` or the like.
    pub name: MetricName,
    /// Every label, `le` and `quantile` included.
    pub labels: Labels,
    /// The value, in the unit that the name tells.
    pub value: f64,
    /// When it was measured, where the text says so; else it is the time of the scrape.
    pub timestamp: Option<Timestamp>,
    /// An observation that fell into this sample (OpenMetrics only).
    pub exemplar: Option<Exemplar>,
    /// The line it stands on, from 1; 0 for a sample that was not read from a text.
    pub line: usize,
}

impl Sample {
    /// A sample that stands in no text yet.
    pub fn new(name: MetricName, labels: Labels, value: f64) -> Self {
        Self {
            name,
            labels,
            value,
            timestamp: None,
            exemplar: None,
            line: 0,
        }
    }
}

impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.labels == other.labels
            && same_value(self.value, other.value)
            && self.timestamp == other.timestamp
            && self.exemplar == other.exemplar
    }
}

/// `name{labels} value`, in exposition syntax.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} {}", self.name, self.labels, Number(self.value))
    }
}

fn same_value(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

/// A pointer from a metric to one observation, mostly to a trace.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exemplar {
    /// Such as `trace_id`.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// When it was observed.
    pub timestamp: Option<Timestamp>,
}

impl Exemplar {
    /// An exemplar without a time.
    pub fn new(labels: Labels, value: f64) -> Self {
        Self {
            labels,
            value,
            timestamp: None,
        }
    }
}

impl PartialEq for Exemplar {
    fn eq(&self, other: &Self) -> bool {
        self.labels == other.labels
            && same_value(self.value, other.value)
            && self.timestamp == other.timestamp
    }
}

/// Seconds since the Unix epoch; finite, within ±10¹² (some 31,700 years).
///
/// Within that range whole milliseconds survive the way to seconds and back.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Timestamp(f64);

impl Timestamp {
    const MAX_SECONDS: f64 = 1e12;

    /// `None` if not finite or out of range.
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        (seconds.abs() <= Self::MAX_SECONDS).then_some(Self(seconds))
    }

    /// `None` if out of range.
    pub fn from_millis(millis: i64) -> Option<Self> {
        Self::from_seconds(millis as f64 / 1e3)
    }

    /// Seconds since the Unix epoch.
    pub fn as_seconds(self) -> f64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded.
    pub fn as_millis(self) -> i64 {
        (self.0 * 1e3).round() as i64
    }
}

/// A name that matches `[a-zA-Z_:][a-zA-Z0-9_:]*`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricName(Arc<str>);

/// A name or a label set that neither format can express.
///
/// Completes "could not name the metric: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    #[error("`{0}` is not a metric name: use letters, digits, `_` and `:`, no digit first")]
    Metric(String),
    /// Not `[a-zA-Z_][a-zA-Z0-9_]*`.
    #[error("`{0}` is not a label name: use letters, digits and `_`, no digit first")]
    Label(String),
    /// One label set names a label twice.
    #[error("the label `{0}` is given twice")]
    Twice(String),
}

impl MetricName {
    /// Checks the characters of a name.
    ///
    /// # Errors
    /// [`NameError::Metric`].
    pub fn new(name: &str) -> Result<Self, NameError> {
        let mut chars = name.chars();
        if chars.next().is_some_and(is_metric_name_start) && chars.all(is_metric_name_char) {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Metric(name.to_owned()))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_metric_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':'
}

fn is_metric_name_char(c: char) -> bool {
    is_metric_name_start(c) || c.is_ascii_digit()
}

fn is_label_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_label_name_char(c: char) -> bool {
    is_label_name_start(c) || c.is_ascii_digit()
}

impl Deref for MetricName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for MetricName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for MetricName {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for MetricName {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A label set, sorted by name, no name twice. Cheap to clone and to compare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(String, String)]>);

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl Labels {
    /// Sorts and checks a label set.
    ///
    /// # Errors
    /// [`NameError::Label`] or [`NameError::Twice`].
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, NameError>
    where
        N: Into<String>,
        V: Into<String>,
    {
        let mut pairs: Vec<(String, String)> = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        pairs.sort_unstable();
        for (name, _) in &pairs {
            let mut chars = name.chars();
            if !chars.next().is_some_and(is_label_name_start) || !chars.all(is_label_name_char) {
                return Err(NameError::Label(name.clone()));
            }
        }
        if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(NameError::Twice(pair[0].0.clone()));
        }
        Ok(Self(pairs.into()))
    }

    /// The value of the label `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self
            .0
            .binary_search_by(|(held, _)| held.as_str().cmp(name))
            .ok()?;
        Some(&self.0[at].1)
    }

    /// Name and value of each label, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every one of `wanted` is here with that value; there may be more.
    pub fn contain(&self, wanted: &[(&str, &str)]) -> bool {
        wanted
            .iter()
            .all(|(name, value)| self.get(name) == Some(value))
    }

    /// Whether these are exactly `wanted`, in any order.
    pub fn equal(&self, wanted: &[(&str, &str)]) -> bool {
        self.len() == wanted.len() && self.contain(wanted)
    }

    /// The same labels less the one called `name`.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        if self.get(name).is_none() {
            return self.clone();
        }
        Self(
            self.0
                .iter()
                .filter(|(held, _)| held != name)
                .cloned()
                .collect(),
        )
    }

    /// The same labels with `name` added, or its value replaced.
    ///
    /// # Errors
    /// [`NameError::Label`].
    pub fn with(&self, name: &str, value: &str) -> Result<Self, NameError> {
        Self::new(
            self.iter()
                .filter(|(held, _)| *held != name)
                .chain([(name, value)]),
        )
    }
}

/// `{a="1",b="2"}`, or nothing when empty.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        for (nth, (name, value)) in self.iter().enumerate() {
            let lead = if nth == 0 { '{' } else { ',' };
            write!(f, "{lead}{name}=\"{}\"", Escaped::quoted(value))?;
        }
        f.write_str("}")
    }
}

/// A text with the escapes of both formats.
struct Escaped<'a> {
    text: &'a str,
    quotes: bool,
}

impl<'a> Escaped<'a> {
    fn quoted(text: &'a str) -> Self {
        Self { text, quotes: true }
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.text;
        while let Some(at) = rest.find(|c| c == '\\' || c == '\n' || (self.quotes && c == '"')) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'\\' => "\\\\",
                b'\n' => "\\n",
                _ => "\\\"",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// A value as both formats write it: `42`, `0.25`, `1e300`, `+Inf`, `NaN`.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value if value.fract() == 0.0 && value.abs() < 1e15 => write!(f, "{value}"),
            value => write!(f, "{value:?}"),
        }
    }
}
