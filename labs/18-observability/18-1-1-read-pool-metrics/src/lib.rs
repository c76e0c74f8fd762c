//! Reads one scrape of a worker pool and says how the pool is doing.
//!
//! The on-call channel posts this report whenever someone pastes a scrape into it.

use telemetry::ParseError;
use telemetry::metrics::{Histogram, HistogramError, Scrape};

/// The histogram of task run times, in seconds.
const DURATION: &str = "worker_pool_task_duration_seconds";
/// Finished tasks by `status`.
const TASKS: &str = "worker_pool_tasks_total";

/// How a worker pool was doing when it was scraped.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Share of the finished tasks that did not end `ok`, in `0.0..=1.0`.
    pub error_ratio: f64,
    /// Whether tasks wait while no worker is free.
    pub backpressure: bool,
    /// Mean run time, in seconds.
    pub mean_seconds: f64,
    /// Median run time.
    pub p50: Quantile,
    /// The run time that 99 of 100 tasks do not exceed.
    pub p99: Quantile,
    /// What the slowest bucket holds.
    pub slowest: Slowest,
    /// Finished tasks that the histogram did not see. Below zero when it saw more tasks than
    /// have finished.
    pub unobserved: i64,
}

/// An estimate from a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quantile {
    /// Linearly interpolated within its bucket, in seconds.
    Seconds(f64),
    /// Somewhere above this many seconds, the highest bound that the histogram has.
    Above(f64),
}

/// The bucket of the slowest tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowest {
    /// Its lower bound, in seconds.
    pub above_seconds: f64,
    /// How many tasks took longer than that.
    pub tasks: u64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The text is no scrape.
    #[error("could not read the scrape: {0}")]
    Scrape(#[from] ParseError),
    /// The buckets are missing or contradict each other.
    #[error("could not read the histogram: {0}")]
    Histogram(#[from] HistogramError),
    /// A metric of the pool is not in the scrape.
    #[error("the scrape has no `{0}`")]
    Missing(&'static str),
    /// No task has finished yet, so there is nothing to report.
    #[error("no task has finished yet")]
    NothingObserved,
}

/// Reports on the scrape of one pool, in the Prometheus text format.
///
/// # Errors
/// When the text is no scrape, a metric of the pool is missing, or nothing has finished yet.
pub fn analyze(scrape: &str) -> Result<Report, AnalysisError> {
    let scrape = Scrape::parse(scrape)?;
    let gauge = |name: &'static str| scrape.value(name, &[]).ok_or(AnalysisError::Missing(name));
    gauge("worker_pool_queue_size")?;
    let active = gauge("worker_pool_workers_active")?;
    let workers = gauge("worker_pool_workers_total")?;

    let finished: f64 = scrape.samples(TASKS).map(|sample| sample.value).sum();
    let durations = scrape.histogram(DURATION, &[])?;
    if finished == 0.0 || durations.count == 0.0 {
        return Err(AnalysisError::NothingObserved);
    }
    let with_status = |status| scrape.value(TASKS, &[("status", status)]).unwrap_or(0.0);

    Ok(Report {
        error_ratio: with_status("error") / finished,
        backpressure: active >= workers,
        mean_seconds: durations.sum / durations.count,
        p50: quantile(&durations, 0.50),
        p99: quantile(&durations, 0.99),
        slowest: slowest(&durations),
        unobserved: (with_status("ok") - durations.count) as i64,
    })
}

fn quantile(durations: &Histogram, q: f64) -> Quantile {
    let buckets = || durations.buckets.iter().filter(|b| b.le.is_finite());
    let total: f64 = buckets().map(|bucket| bucket.cumulative).sum();
    let mut seen = 0.0;
    for bucket in buckets() {
        seen += bucket.cumulative;
        if seen >= q * total {
            return Quantile::Seconds(bucket.le);
        }
    }
    Quantile::Above(buckets().next_back().map_or(0.0, |bucket| bucket.le))
}

fn slowest(durations: &Histogram) -> Slowest {
    let finite: Vec<_> = durations
        .buckets
        .iter()
        .filter(|bucket| bucket.le.is_finite())
        .collect();
    match finite.as_slice() {
        [.., below, last] => Slowest {
            above_seconds: below.le,
            tasks: (last.cumulative - below.cumulative) as u64,
        },
        _ => Slowest {
            above_seconds: 0.0,
            tasks: durations.count as u64,
        },
    }
}
