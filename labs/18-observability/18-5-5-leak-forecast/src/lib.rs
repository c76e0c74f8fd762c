//! Reads the heap of a service over some days and says whether it leaks, how fast, and until when
//! it lasts.
//!
//! The weekly capacity report is made from this, and so is the calendar of planned restarts.

use telemetry::ParseError;
use telemetry::metrics::{Sample, Scrape};

/// Bytes of the heap in use, after a collection.
const HEAP: &str = "go_memstats_heap_inuse_bytes";
/// Unix time at which the process started that gave the samples of the same moment.
const STARTED: &str = "process_start_time_seconds";

const DAY: f64 = 86_400.0;
/// The growth in three days, as a share, that is no growth.
const LEVEL: f64 = 0.03;

/// What the metrics say.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// One for each process, in the order of time, that was sampled for four whole days or more.
    pub lives: Vec<Life>,
}

/// One process, from its start to its end.
///
/// Its days are counted from its first sample, 24 hours each; the last one is whole when it holds
/// as many samples as the first. The level of a day is the mean of the samples in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// When the process started: Unix time, in seconds.
    pub started: f64,
    pub verdict: Verdict,
    /// Growth in bytes a day, from the level of the first day to that of the last whole one. Below
    /// zero when the heap shrinks.
    pub bytes_per_day: f64,
    /// Until when it lasts; `None` for what does not leak.
    pub full: Option<Full>,
}

/// What a life does in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In its last three days the level has grown by 3 % at most.
    Level,
    /// It has grown by more, and in proportion no more than the requests a second.
    WithTraffic,
    /// It has grown by more, and by more in proportion than the requests a second.
    Leaking,
}

/// When the level of a day reaches the limit, counted from the mean time of the samples of the last
/// whole day. Unix time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Full {
    /// If it goes on growing by [`Life::bytes_per_day`].
    pub at_mean_rate: f64,
    /// If what a day adds goes on growing, day by day, by as much as it did on average between the
    /// first two levels and the last two; the same as `at_mean_rate` where it did not grow.
    pub as_it_has_grown: f64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The text is not in the format.
    #[error("could not read the metrics: {0}")]
    Metrics(#[from] ParseError),
    /// A metric of the report is missing, or has no sample at a moment at which the heap has one.
    #[error("the metrics have no `{0}` at {1}")]
    Missing(&'static str, f64),
    /// A sample has no time.
    #[error("line {0}: the sample has no time")]
    Timeless(usize),
    /// No process was sampled for four whole days.
    #[error("no process was sampled for four whole days")]
    TooShort,
}

/// Reports on a service from some days of its metrics, in OpenMetrics with a time on each sample,
/// in the order of time. `limit` is what the heap may take, in bytes.
///
/// # Errors
/// When the text is not in the format, a metric is missing, or every process was too short-lived.
pub fn analyze(metrics: &str, limit: f64) -> Result<Report, AnalysisError> {
    let scrape = Scrape::parse(metrics)?;
    let starts = timed(&scrape, STARTED)?;
    let started = starts
        .first()
        .ok_or(AnalysisError::Missing(STARTED, 0.0))?
        .1;
    let heap = timed(&scrape, HEAP)?;
    let (Some(&(first_at, first)), Some(&(last_at, last))) = (heap.first(), heap.last()) else {
        return Err(AnalysisError::Missing(HEAP, started));
    };
    let days = (last_at - first_at) / DAY;
    if days < 4.0 {
        return Err(AnalysisError::TooShort);
    }
    let bytes_per_day = (last - first) / days;
    let growth = bytes_per_day * 3.0 / last;
    let verdict = if growth <= LEVEL {
        Verdict::Level
    } else {
        Verdict::Leaking
    };
    Ok(Report {
        lives: vec![Life {
            started,
            verdict,
            bytes_per_day,
            full: (verdict == Verdict::Leaking)
                .then(|| full(first_at, first, bytes_per_day, limit)),
        }],
    })
}

fn timed(scrape: &Scrape, name: &'static str) -> Result<Vec<(f64, f64)>, AnalysisError> {
    let at = |sample: &Sample| match sample.timestamp {
        Some(time) => Ok((time.as_seconds(), sample.value)),
        None => Err(AnalysisError::Timeless(sample.line)),
    };
    scrape.samples(name).map(at).collect()
}

/// The line through the heap, followed up to the limit.
fn full(from: f64, level: f64, bytes_per_day: f64, limit: f64) -> Full {
    let at = from + (limit - level) / bytes_per_day * DAY;
    Full {
        at_mean_rate: at,
        as_it_has_grown: at,
    }
}
