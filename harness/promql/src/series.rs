//! Series in memory, in virtual time.
//!
//! For filling from a fixture, a simulator or a rule evaluator, and for selecting by matchers. Not
//! for retention, compression or concurrency: a [`Storage`] is a plain value.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use telemetry::ParseError;
use telemetry::metrics::{Kind, Scrape};

use crate::dialect::Dialect;
use crate::labels::{BUCKET_BOUND, Labels, METRIC_NAME};
use crate::tree::Matcher;

const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The value that ends a series: after it the series is gone at once, not after five minutes.
pub const STALE: f64 = f64::from_bits(STALE_BITS);

/// Whether a value is the staleness marker. (No comparison tells: the marker is a NaN.)
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// A series: its labels and its samples in order of time.
///
/// Copies share the samples until one of them is appended to.
#[derive(Debug, Clone)]
pub struct Series {
    pub(crate) labels: Labels,
    samples: Arc<Samples>,
}

#[derive(Debug, Clone, Default)]
struct Samples {
    times: Vec<i64>,
    values: Vec<f64>,
    stale_markers: usize,
}

impl Samples {
    /// Appends a sample at the end; the same sample twice is one sample.
    fn push(&mut self, labels: &Labels, timestamp_ms: i64, value: f64) -> Result<(), AppendError> {
        if let (Some(&last_ms), Some(&last)) = (self.times.last(), self.values.last()) {
            if timestamp_ms < last_ms {
                return Err(AppendError::OutOfOrder {
                    labels: labels.clone(),
                    last_ms,
                    timestamp_ms,
                });
            }
            if timestamp_ms == last_ms {
                if value.to_bits() == last.to_bits() {
                    return Ok(());
                }
                return Err(AppendError::Duplicate {
                    labels: labels.clone(),
                    timestamp_ms,
                });
            }
        }
        self.times.push(timestamp_ms);
        self.values.push(value);
        self.stale_markers += usize::from(is_stale(value));
        Ok(())
    }
}

impl Series {
    fn extend(&mut self, samples: impl IntoIterator<Item = (i64, f64)>) -> Result<(), AppendError> {
        let held = Arc::make_mut(&mut self.samples);
        samples
            .into_iter()
            .try_for_each(|(timestamp_ms, value)| held.push(&self.labels, timestamp_ms, value))
    }

    /// The labels, the metric's name included.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// When each sample was taken: milliseconds since the Unix epoch, ascending.
    pub fn times_ms(&self) -> &[i64] {
        &self.samples.times
    }

    /// The value of each sample; [`is_stale`] tells staleness markers.
    pub fn values(&self) -> &[f64] {
        &self.samples.values
    }

    /// Whether it ends somewhere, be it to begin again.
    pub(crate) fn has_stale_markers(&self) -> bool {
        self.samples.stale_markers > 0
    }
}

/// A sample that a series cannot take.
///
/// Completes "could not append the sample: …".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Its time is before that of the last sample.
    #[error("{labels} has a sample at {last_ms} ms already, which is after {timestamp_ms} ms")]
    OutOfOrder {
        /// The series.
        labels: Labels,
        /// The time of its last sample.
        last_ms: i64,
        /// The time of the refused one.
        timestamp_ms: i64,
    },
    /// There is another value at this time.
    #[error("{labels} has another value at {timestamp_ms} ms already")]
    Duplicate {
        /// The series.
        labels: Labels,
        /// The time of both.
        timestamp_ms: i64,
    },
}

/// A text that cannot be stored.
///
/// Completes "could not load the metrics: …".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The text is neither exposition nor OpenMetrics.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A sample without a timestamp, where none is given from outside either.
    #[error(
        "line {line}: the sample has no timestamp; add one after the value, or say when the scrape was taken"
    )]
    NoTimestamp {
        /// The line, from 1.
        line: usize,
    },
    /// A sample that its series cannot take.
    #[error("line {line}: {source}")]
    Append {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        source: AppendError,
    },
}

/// Series by their labels, and what kind of metric each name is.
#[derive(Debug, Clone, Default)]
pub struct Storage {
    series: Vec<Series>,
    by_labels: HashMap<Labels, usize>,
    by_name: HashMap<Arc<str>, Vec<usize>>,
    kinds: HashMap<String, Kind>,
}

impl Storage {
    /// No series.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads exposition or OpenMetrics with timestamps, as Prometheus 3 would scrape it.
    ///
    /// # Errors
    /// The text does not parse, or a sample has no timestamp or breaks the order of its series.
    pub fn from_openmetrics(text: &str) -> Result<Self, LoadError> {
        Self::from_openmetrics_as(text, Dialect::V3)
    }

    /// As [`Storage::from_openmetrics`], with the bounds of histograms and summaries as the dialect
    /// stores them: from version 3 on a whole number is written with `.0`.
    ///
    /// # Errors
    /// As [`Storage::from_openmetrics`].
    pub fn from_openmetrics_as(text: &str, dialect: Dialect) -> Result<Self, LoadError> {
        let scrape = Scrape::parse(text)?;
        let mut storage = Self::new();
        storage.append_scrape(&scrape, None, dialect)?;
        Ok(storage)
    }

    /// Appends every sample of a scrape. A sample without a timestamp is taken at `scraped_at_ms`.
    ///
    /// Series that this scrape lacks are left alone: [`Storage::mark_stale`] ends a series.
    ///
    /// # Errors
    /// A sample without a timestamp where there is no time of the scrape, or one that breaks the
    /// order of its series. What stood before it is stored.
    pub fn append_scrape(
        &mut self,
        scrape: &Scrape,
        scraped_at_ms: Option<i64>,
        dialect: Dialect,
    ) -> Result<(), LoadError> {
        let mut pool: HashSet<Arc<str>> = HashSet::new();
        let mut intern = |text: &str| -> Arc<str> {
            if let Some(held) = pool.get(text) {
                return held.clone();
            }
            let held: Arc<str> = text.into();
            pool.insert(held.clone());
            held
        };
        for family in &scrape.families {
            for sample in &family.samples {
                let timestamp_ms = sample
                    .timestamp
                    .map(|timestamp| timestamp.as_millis())
                    .or(scraped_at_ms)
                    .ok_or(LoadError::NoTimestamp { line: sample.line })?;
                self.set_kind(&sample.name, sample_kind(family.kind, &sample.name));
                let name = std::iter::once((intern(METRIC_NAME), intern(&sample.name)));
                let pairs: Vec<(Arc<str>, Arc<str>)> = sample
                    .labels
                    .iter()
                    .map(|(label, value)| {
                        let bound = dialect == Dialect::V3
                            && ((label == BUCKET_BOUND && sample.name.ends_with("_bucket"))
                                || (label == "quantile" && family.kind == Kind::Summary));
                        let value = if bound {
                            intern(&with_point(value))
                        } else {
                            intern(value)
                        };
                        (intern(label), value)
                    })
                    .collect();
                self.append(Labels::new(name.chain(pairs)), timestamp_ms, sample.value)
                    .map_err(|source| LoadError::Append {
                        line: sample.line,
                        source,
                    })?;
            }
        }
        Ok(())
    }

    /// Appends a sample at the end of its series, which is made if there is none yet.
    ///
    /// The same sample twice is one sample.
    ///
    /// # Errors
    /// The sample is older than the last of its series, or contradicts it.
    pub fn append(
        &mut self,
        labels: Labels,
        timestamp_ms: i64,
        value: f64,
    ) -> Result<(), AppendError> {
        self.series_of(labels).extend([(timestamp_ms, value)])
    }

    /// Appends samples, in the order of time, to one series.
    ///
    /// # Errors
    /// As [`Storage::append`], at the first sample that does not fit.
    pub fn append_series(
        &mut self,
        labels: Labels,
        samples: impl IntoIterator<Item = (i64, f64)>,
    ) -> Result<(), AppendError> {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        self.series_of(labels).extend(samples)
    }

    fn series_of(&mut self, labels: Labels) -> &mut Series {
        let at = match self.by_labels.get(&labels) {
            Some(&at) => at,
            None => self.add_series(labels),
        };
        &mut self.series[at]
    }

    /// Ends a series at a time: from then on it is gone, until a sample follows.
    ///
    /// # Errors
    /// As [`Storage::append`].
    pub fn mark_stale(&mut self, labels: Labels, timestamp_ms: i64) -> Result<(), AppendError> {
        self.append(labels, timestamp_ms, STALE)
    }

    fn add_series(&mut self, labels: Labels) -> usize {
        let at = self.series.len();
        if let Some(name) = labels.name() {
            match self.by_name.get_mut(name) {
                Some(held) => held.push(at),
                None => {
                    self.by_name.insert(name.into(), vec![at]);
                }
            }
        }
        self.by_labels.insert(labels.clone(), at);
        self.series.push(Series {
            labels,
            samples: Arc::default(),
        });
        at
    }

    /// Every series, in the order in which they came.
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// The series with exactly these labels.
    pub fn get(&self, labels: &Labels) -> Option<&Series> {
        self.by_labels.get(labels).map(|&at| &self.series[at])
    }

    /// The first and the last time of any sample, in milliseconds; `None` where there is none.
    pub fn time_range_ms(&self) -> Option<(i64, i64)> {
        let first = self
            .series
            .iter()
            .filter_map(|s| s.times_ms().first())
            .min()?;
        let last = self
            .series
            .iter()
            .filter_map(|s| s.times_ms().last())
            .max()?;
        Some((*first, *last))
    }

    /// Declares what a metric of this name is: lints ask for it.
    pub fn set_kind(&mut self, name: &str, kind: Kind) {
        match self.kinds.get_mut(name) {
            Some(held) => *held = kind,
            None => {
                self.kinds.insert(name.to_owned(), kind);
            }
        }
    }

    /// What a metric of this name is; `None` where nobody said.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.kinds.get(name).copied()
    }

    /// The names whose kind is known.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.kinds.iter().map(|(name, kind)| (name.as_str(), *kind))
    }

    /// The series that every matcher accepts.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Vec<&Series> {
        let accept = |series: &&Series| {
            matchers
                .iter()
                .all(|matcher| matcher.accepts(&series.labels))
        };
        match matchers.iter().find_map(Matcher::wanted_name) {
            Some(name) => self
                .by_name
                .get(name)
                .map(|held| {
                    held.iter()
                        .map(|&at| &self.series[at])
                        .filter(accept)
                        .collect()
                })
                .unwrap_or_default(),
            None => self.series.iter().filter(accept).collect(),
        }
    }
}

/// Samples from anywhere; of what cannot be appended the first is reported.
impl Storage {
    /// Appends samples from any source.
    ///
    /// # Errors
    /// As [`Storage::append`], at the first sample that does not fit.
    pub fn append_all(
        &mut self,
        samples: impl IntoIterator<Item = (Labels, i64, f64)>,
    ) -> Result<(), AppendError> {
        samples
            .into_iter()
            .try_for_each(|(labels, timestamp_ms, value)| self.append(labels, timestamp_ms, value))
    }
}

/// What one sample of a family counts as: the parts of a histogram or a summary are counters.
fn sample_kind(family: Kind, name: &str) -> Kind {
    match family {
        Kind::Histogram | Kind::Summary
            if ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name.ends_with(end)) =>
        {
            Kind::Counter
        }
        Kind::Counter | Kind::Histogram | Kind::Summary if name.ends_with("_created") => {
            Kind::Gauge
        }
        // Quantiles of a summary go up and down.
        Kind::Summary => Kind::Gauge,
        kind => kind,
    }
}

/// A bound as version 3 stores it: whole numbers with `.0`, what is no number unchanged.
fn with_point(bound: &str) -> String {
    match bound.parse::<f64>() {
        Ok(value) if value.is_finite() && value.fract() == 0.0 && value.abs() < 1e21 => {
            format!("{value:.1}")
        }
        Ok(value) if value.is_finite() => crate::value::Short(value).to_string(),
        Ok(f64::INFINITY) => "+Inf".to_owned(),
        Ok(f64::NEG_INFINITY) => "-Inf".to_owned(),
        _ => bound.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up() -> Labels {
        Labels::named("up", [("job", "api")])
    }

    #[test]
    fn a_series_takes_samples_in_order_of_time_only() {
        let mut storage = Storage::new();
        storage.append(up(), 1_000, 1.0).unwrap();
        storage.append(up(), 1_000, 1.0).unwrap();
        assert!(matches!(
            storage.append(up(), 1_000, 2.0),
            Err(AppendError::Duplicate { .. })
        ));
        assert!(matches!(
            storage.append(up(), 500, 1.0),
            Err(AppendError::OutOfOrder { last_ms: 1_000, .. })
        ));
        assert_eq!(storage.get(&up()).unwrap().times_ms(), [1_000]);
    }

    #[test]
    fn only_the_marker_is_stale() {
        assert!(is_stale(STALE));
        assert!(!is_stale(f64::NAN));
        let mut storage = Storage::new();
        storage.mark_stale(up(), 0).unwrap();
        assert!(is_stale(storage.get(&up()).unwrap().values()[0]));
    }

    const TEXT: &str = "# TYPE took_seconds histogram\n\
        took_seconds_bucket{le=\"1\"} 3 1.5\n\
        took_seconds_bucket{le=\"+Inf\"} 4 1.5\n\
        took_seconds_count 4 1.5\n\
        took_seconds_sum 2.5 1.5\n\
        # TYPE depth gauge\n\
        depth 2 1.5\n\
        # EOF\n";

    #[test]
    fn openmetrics_brings_samples_times_and_kinds() {
        let storage = Storage::from_openmetrics(TEXT).unwrap();
        assert_eq!(storage.series().len(), 5);
        assert_eq!(storage.time_range_ms(), Some((1_500, 1_500)));
        assert_eq!(storage.kind("took_seconds_bucket"), Some(Kind::Counter));
        assert_eq!(storage.kind("depth"), Some(Kind::Gauge));
        assert_eq!(storage.kind("other"), None);
    }

    #[test]
    fn version_3_writes_whole_bounds_with_a_point() {
        let with = |le| Labels::named("took_seconds_bucket", [("le", le)]);
        let new = Storage::from_openmetrics(TEXT).unwrap();
        assert!(new.get(&with("1.0")).is_some() && new.get(&with("+Inf")).is_some());
        let old = Storage::from_openmetrics_as(TEXT, Dialect::V2).unwrap();
        assert!(old.get(&with("1")).is_some());
    }

    #[test]
    fn a_sample_without_a_time_is_an_error_that_names_its_line() {
        let error = Storage::from_openmetrics("up 1 1000\nup 2\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
    }
}
