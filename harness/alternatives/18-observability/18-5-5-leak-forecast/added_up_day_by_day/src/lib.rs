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
const REQUESTS: &str = "job:http_requests:rate";
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
    let heap = timed(&scrape, HEAP)?;
    let starts = timed(&scrape, STARTED)?;
    let requests = timed(&scrape, REQUESTS)?;
    if heap.is_empty() {
        return Err(AnalysisError::Missing(HEAP, 0.0));
    }
    let find = |of: &[(f64, f64)], name: &'static str, at: f64| {
        of.iter()
            .find(|s| s.0 == at)
            .map(|s| s.1)
            .ok_or(AnalysisError::Missing(name, at))
    };
    let mut groups: Vec<(f64, Vec<(f64, f64, f64)>)> = Vec::new();
    for &(at, value) in &heap {
        let started = find(&starts, STARTED, at)?;
        let rate = find(&requests, REQUESTS, at)?;
        match groups.last_mut() {
            Some((same, list)) if *same == started => list.push((at, value, rate)),
            _ => groups.push((started, vec![(at, value, rate)])),
        }
    }
    let lives: Vec<Life> = groups
        .iter()
        .filter_map(|(started, list)| life(*started, list, limit))
        .collect();
    if lives.is_empty() {
        return Err(AnalysisError::TooShort);
    }
    Ok(Report { lives })
}

fn life(started: f64, list: &[(f64, f64, f64)], limit: f64) -> Option<Life> {
    let first = list[0].0;
    let mut days: Vec<Vec<(f64, f64, f64)>> = Vec::new();
    for &s in list {
        let day = ((s.0 - first) / DAY).floor() as usize;
        while days.len() <= day {
            days.push(Vec::new());
        }
        days[day].push(s);
    }
    let full_day = days[0].len();
    if days.last().is_some_and(|d| d.len() < full_day) {
        days.pop();
    }
    days.retain(|d| !d.is_empty());
    if days.len() < 4 {
        return None;
    }
    let mean = |d: &Vec<(f64, f64, f64)>, f: fn(&(f64, f64, f64)) -> f64| {
        d.iter().map(f).sum::<f64>() / d.len() as f64
    };
    let level: Vec<f64> = days.iter().map(|d| mean(d, |s| s.1)).collect();
    let rate: Vec<f64> = days.iter().map(|d| mean(d, |s| s.2)).collect();
    let n = level.len();
    let grown = level[n - 1] / level[n - 4] - 1.0;
    let more = rate[n - 1] / rate[n - 4] - 1.0;
    let verdict = if grown <= LEVEL {
        Verdict::Level
    } else if grown <= more {
        Verdict::WithTraffic
    } else {
        Verdict::Leaking
    };
    let bytes_per_day = (level[n - 1] - level[0]) / (n as f64 - 1.0);
    let from = mean(&days[n - 1], |s| s.0);
    let left = limit - level[n - 1];
    let full = (verdict == Verdict::Leaking).then(|| {
        let at_mean_rate = from + left / bytes_per_day * DAY;
        let (a, b) = (level[1] - level[0], level[n - 1] - level[n - 2]);
        let growth = (b - a) / (n as f64 - 2.0);
        let mut step = b;
        let mut sum = 0.0;
        let mut passed = 0.0;
        let as_it_has_grown = if growth <= 0.0 {
            at_mean_rate
        } else {
            loop {
                step += growth;
                if sum + step >= left {
                    break from + (passed + (left - sum) / step) * DAY;
                }
                sum += step;
                passed += 1.0;
            }
        };
        Full {
            at_mean_rate,
            as_it_has_grown,
        }
    });
    Some(Life {
        started,
        verdict,
        bytes_per_day,
        full,
    })
}

fn timed(scrape: &Scrape, name: &'static str) -> Result<Vec<(f64, f64)>, AnalysisError> {
    let at = |sample: &Sample| match sample.timestamp {
        Some(time) => Ok((time.as_seconds(), sample.value)),
        None => Err(AnalysisError::Timeless(sample.line)),
    };
    scrape.samples(name).map(at).collect()
}
