//! Looks at a worker pool by utilization, saturation and errors, and says what holds it up.
//!
//! The on-call channel posts this advice under every page about the pool.

use telemetry::ParseError;
use telemetry::metrics::{Sample, Scrape};

/// The share of the time from which on a resource counts as used up.
const USED_UP: f64 = 0.95;

/// What the scrapes say of the time from the first one to the last: the window.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// Utilization: the share of the window for which a worker had a task, over all workers, in
    /// `0.0..=1.0`.
    pub workers_busy: f64,
    /// Saturation: how many tasks wait for a worker at the last scrape.
    pub queued: u64,
    /// Errors: the share of the tasks that ended `error`, of all that came to an end in the window,
    /// timeouts included.
    pub error_ratio: f64,
    /// The share of those that ended `timeout`.
    pub timeout_ratio: f64,
    /// The highest bound of the histogram, in seconds, that more than one in a hundred of the tasks
    /// exceeded that ran to their end in the window; 0 if they exceeded none.
    pub p99_above: f64,
    /// What holds the pool up.
    pub limit: Limit,
}

/// The resource that has to grow, or be used less, before anything else helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No resource is used up: none was in use for 95 % of the window or more.
    Nothing,
    /// The workers are used up, and what they need is not.
    Workers,
    /// The cores are used up. Workers that wait for one are busy too.
    Cores,
    /// The connections are used up. Workers that wait for one are busy too.
    Connections,
}

/// Why there is no advice.
#[derive(Debug, thiserror::Error)]
pub enum AdviceError {
    /// The text is not in the format.
    #[error("could not read the metrics: {0}")]
    Metrics(#[from] ParseError),
    /// This metric of the pool is missing.
    #[error("the metrics have no `{0}`")]
    Missing(&'static str),
    /// A sample has no time.
    #[error("line {0}: the sample has no time")]
    Timeless(usize),
    /// A window takes two scrapes.
    #[error("one scrape is no window")]
    OneScrape,
    /// Nothing came to an end in the window.
    #[error("no task came to an end")]
    NothingEnded,
}

/// Advises on a pool from its scrapes, in OpenMetrics with a time on each sample, in the order of
/// time. No process was restarted among them.
///
/// # Errors
/// When the text is not in the format, a metric is missing, or there is nothing to be said.
pub fn advise(metrics: &str) -> Result<Advice, AdviceError> {
    let scrape = Scrape::parse(metrics)?;
    let scrapes = scrape.samples("pool_queue_depth").count();
    if scrapes == 1 {
        return Err(AdviceError::OneScrape);
    }
    let workers_busy =
        last(&scrape, "pool_workers_busy", &[])? / last(&scrape, "pool_workers", &[])?;
    let ended = |outcome| last(&scrape, "pool_tasks_total", &[("outcome", outcome)]);
    let finished = ended("ok")? + ended("error")?;
    if finished == 0.0 {
        return Err(AdviceError::NothingEnded);
    }
    let p99_above = p99_above(&scrape)?;
    Ok(Advice {
        workers_busy,
        queued: last(&scrape, "pool_queue_depth", &[])? as u64,
        error_ratio: ended("error")? / finished,
        timeout_ratio: ended("timeout")? / finished,
        p99_above,
        limit: if workers_busy >= USED_UP {
            // Busy workers need something to run on.
            Limit::Cores
        } else {
            Limit::Nothing
        },
    })
}

fn last(scrape: &Scrape, name: &'static str, labels: &[(&str, &str)]) -> Result<f64, AdviceError> {
    let sample: &Sample = scrape
        .samples(name)
        .filter(|sample| sample.labels.equal(labels))
        .last()
        .ok_or(AdviceError::Missing(name))?;
    match sample.timestamp {
        Some(_) => Ok(sample.value),
        None => Err(AdviceError::Timeless(sample.line)),
    }
}

fn p99_above(scrape: &Scrape) -> Result<f64, AdviceError> {
    let all = last(scrape, "pool_task_duration_seconds_count", &[])?;
    let mut above = 0.0;
    for sample in scrape.samples("pool_task_duration_seconds_bucket") {
        let le = sample.labels.get("le").unwrap_or("+Inf");
        let bound: f64 = le.parse().unwrap_or(f64::INFINITY);
        if bound.is_finite() && sample.value < 0.99 * all {
            above = f64::max(above, bound);
        }
    }
    Ok(above)
}
