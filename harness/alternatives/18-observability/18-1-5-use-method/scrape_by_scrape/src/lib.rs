//! Looks at a worker pool by utilization, saturation and errors, and says what holds it up.
//!
//! The on-call channel posts this advice under every page about the pool.

use std::collections::{BTreeMap, BTreeSet};

use telemetry::ParseError;
use telemetry::metrics::Scrape;

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
    // Every series by its text, as time and value of its two ends.
    let mut ends: BTreeMap<String, [(f64, f64); 2]> = BTreeMap::new();
    for sample in Scrape::parse(metrics)?.iter() {
        let time = sample.timestamp.ok_or(AdviceError::Timeless(sample.line))?;
        let point = (time.as_seconds(), sample.value);
        ends.entry(format!("{}{}", sample.name, sample.labels))
            .and_modify(|ends| ends[1] = point)
            .or_insert([point; 2]);
    }
    let find = |name: &'static str| ends.get(name).ok_or(AdviceError::Missing(name));
    let [(from, _), (to, queued)] = *find("pool_queue_depth")?;
    if from == to {
        return Err(AdviceError::OneScrape);
    }
    let mean_in_use = |name| -> Result<f64, AdviceError> {
        let [first, last] = find(name)?;
        Ok((last.1 - first.1) / (to - from))
    };
    let workers = mean_in_use("pool_worker_busy_seconds_total")? / find("pool_workers")?[1].1;
    let cores = mean_in_use("process_cpu_seconds_total")? / find("process_cpu_cores")?[1].1;
    let links = mean_in_use("db_connection_in_use_seconds_total")? / find("db_connections")?[1].1;

    let added = |prefix: &str| -> Vec<(&str, f64)> {
        ends.range(prefix.to_owned()..)
            .take_while(|(series, _)| series.starts_with(prefix))
            .map(|(series, [first, last])| (series.as_str(), last.1 - first.1))
            .collect()
    };
    let tasks = added("pool_tasks_total{");
    if tasks.is_empty() {
        return Err(AdviceError::Missing("pool_tasks_total"));
    }
    let ended: f64 = tasks.iter().map(|(_, count)| count).sum();
    if ended <= 0.0 {
        return Err(AdviceError::NothingEnded);
    }
    let outcome = |wanted: &str| -> f64 {
        let matching = tasks.iter().filter(|(series, _)| series.contains(wanted));
        matching.map(|(_, count)| count / ended).sum()
    };
    let buckets = added("pool_task_duration_seconds_bucket{");
    let ran = find("pool_task_duration_seconds_count")?;
    let one_in_a_hundred = (ran[1].1 - ran[0].1) / 100.0;
    let exceeded = buckets.iter().filter_map(|(series, within)| {
        let le: f64 = series.split('"').nth(1)?.parse().ok()?;
        let beyond = one_in_a_hundred * 100.0 - within;
        (le.is_finite() && beyond > one_in_a_hundred).then_some(le)
    });
    let used_up: BTreeSet<(u8, &str)> = [
        (0, "links", links),
        (1, "cores", cores),
        (2, "workers", workers),
    ]
    .into_iter()
    .filter(|(.., share)| *share >= USED_UP)
    .map(|(rank, name, _)| (rank, name))
    .collect();
    Ok(Advice {
        workers_busy: workers,
        queued: queued as u64,
        error_ratio: outcome("\"error\""),
        timeout_ratio: outcome("\"timeout\""),
        p99_above: exceeded.fold(0.0, f64::max),
        limit: match used_up.first() {
            Some((_, "links")) => Limit::Connections,
            Some((_, "cores")) => Limit::Cores,
            Some(_) => Limit::Workers,
            None => Limit::Nothing,
        },
    })
}
