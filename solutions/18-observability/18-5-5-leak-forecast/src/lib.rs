//! Reads the heap of a service over some days and says whether it leaks, how fast, and until when
//! it lasts.
//!
//! The weekly capacity report is made from this, and so is the calendar of planned restarts.

use telemetry::ParseError;
use telemetry::metrics::{Sample, Scrape};

/// Bytes of the heap in use, after a collection.
const HEAP: &str = "go_memstats_heap_inuse_bytes";
/// Requests a second.
const TRAFFIC: &str = "job:http_requests:rate";
/// Unix time at which the process started that gave the samples of the same moment.
const STARTED: &str = "process_start_time_seconds";

const DAY: f64 = 86_400.0;
/// How many days back a life is compared with its end.
const LOOK_BACK: usize = 3;
/// The growth within these days, as a share, that is no growth.
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
    let traffic = timed(&scrape, TRAFFIC)?;
    let mut lives: Vec<(f64, Vec<Moment>)> = Vec::new();
    for (at, heap) in timed(&scrape, HEAP)? {
        let moment = Moment {
            at,
            heap,
            traffic: value_at(&traffic, at).ok_or(AnalysisError::Missing(TRAFFIC, at))?,
        };
        let started = value_at(&starts, at).ok_or(AnalysisError::Missing(STARTED, at))?;
        match lives.last_mut() {
            Some((life, moments)) if *life == started => moments.push(moment),
            _ => lives.push((started, vec![moment])),
        }
    }
    let lives: Vec<Life> = lives
        .iter()
        .filter_map(|(started, moments)| life(*started, &days(moments), limit))
        .collect();
    if lives.is_empty() {
        return Err(AnalysisError::TooShort);
    }
    Ok(Report { lives })
}

/// What was measured at one time, or the mean of a day.
#[derive(Clone, Copy)]
struct Moment {
    at: f64,
    heap: f64,
    traffic: f64,
}

fn timed(scrape: &Scrape, name: &'static str) -> Result<Vec<(f64, f64)>, AnalysisError> {
    let at = |sample: &Sample| match sample.timestamp {
        Some(time) => Ok((time.as_seconds(), sample.value)),
        None => Err(AnalysisError::Timeless(sample.line)),
    };
    scrape.samples(name).map(at).collect()
}

fn value_at(series: &[(f64, f64)], at: f64) -> Option<f64> {
    let index = series
        .binary_search_by(|(time, _)| time.total_cmp(&at))
        .ok()?;
    Some(series[index].1)
}

/// The means of the whole days.
fn days(moments: &[Moment]) -> Vec<Moment> {
    let first = moments[0].at;
    let whole = moments.iter().take_while(|m| m.at < first + DAY).count();
    let mut days = Vec::new();
    let mut rest = moments;
    while let Some(moment) = rest.first() {
        let ends = first + DAY * (((moment.at - first) / DAY).floor() + 1.0);
        let (day, later) = rest.split_at(rest.partition_point(|m| m.at < ends));
        rest = later;
        if rest.is_empty() && day.len() < whole {
            break;
        }
        let mean = |of: fn(&Moment) -> f64| day.iter().map(of).sum::<f64>() / day.len() as f64;
        days.push(Moment {
            at: mean(|m| m.at),
            heap: mean(|m| m.heap),
            traffic: mean(|m| m.traffic),
        });
    }
    days
}

fn life(started: f64, days: &[Moment], limit: f64) -> Option<Life> {
    let [first, .., last] = days else {
        return None;
    };
    let before = days.len().checked_sub(LOOK_BACK + 1).map(|at| &days[at])?;
    let bytes_per_day = (last.heap - first.heap) / ((last.at - first.at) / DAY);
    let growth = last.heap / before.heap - 1.0;
    let verdict = if growth <= LEVEL {
        Verdict::Level
    } else if growth <= last.traffic / before.traffic - 1.0 {
        Verdict::WithTraffic
    } else {
        Verdict::Leaking
    };
    Some(Life {
        started,
        verdict,
        bytes_per_day,
        full: (verdict == Verdict::Leaking).then(|| full(days, bytes_per_day, limit)),
    })
}

fn full(days: &[Moment], bytes_per_day: f64, limit: f64) -> Full {
    let added: Vec<f64> = days
        .windows(2)
        .map(|two| (two[1].heap - two[0].heap) / ((two[1].at - two[0].at) / DAY))
        .collect();
    let last = days[days.len() - 1];
    let left = (limit - last.heap).max(0.0);
    let newest = added[added.len() - 1];
    let more = (newest - added[0]) / (added.len() - 1) as f64;
    let at_mean_rate = last.at + left / bytes_per_day * DAY;
    if more <= 0.0 {
        return Full {
            at_mean_rate,
            as_it_has_grown: at_mean_rate,
        };
    }
    // After x days: level + (newest + more / 2) x + more / 2 x², which adds `newest + more` on the
    // first day and `more` more on each that follows.
    let slope = newest + more / 2.0;
    let days_left = ((slope * slope + 2.0 * more * left).sqrt() - slope) / more;
    Full {
        at_mean_rate,
        as_it_has_grown: last.at + days_left * DAY,
    }
}
