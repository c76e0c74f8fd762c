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
    let window = Window::of(&scrape)?;
    let used = |busy, size| -> Result<f64, AdviceError> {
        let of_one = window.added(busy, &[])? / window.seconds;
        Ok(of_one / window.last(size)?)
    };
    let workers_busy = used("pool_worker_busy_seconds_total", "pool_workers")?;
    let cores_busy = used("process_cpu_seconds_total", "process_cpu_cores")?;
    let connections_busy = used("db_connection_in_use_seconds_total", "db_connections")?;

    let ended = window.added_in_all("pool_tasks_total")?;
    if ended == 0.0 {
        return Err(AdviceError::NothingEnded);
    }
    let share = |outcome| -> Result<f64, AdviceError> {
        Ok(window.added("pool_tasks_total", &[("outcome", outcome)])? / ended)
    };
    Ok(Advice {
        workers_busy,
        queued: window.last("pool_queue_depth")? as u64,
        error_ratio: share("error")?,
        timeout_ratio: share("timeout")?,
        p99_above: window.p99_above()?,
        limit: if connections_busy >= USED_UP {
            Limit::Connections
        } else if cores_busy >= USED_UP {
            Limit::Cores
        } else if workers_busy >= USED_UP {
            Limit::Workers
        } else {
            Limit::Nothing
        },
    })
}

/// When a sample was taken: Unix time, in seconds.
fn timed(sample: &Sample) -> Result<f64, AdviceError> {
    match sample.timestamp {
        Some(time) => Ok(time.as_seconds()),
        None => Err(AdviceError::Timeless(sample.line)),
    }
}

/// The time from the first scrape to the last.
struct Window<'s> {
    scrape: &'s Scrape,
    seconds: f64,
}

impl<'s> Window<'s> {
    fn of(scrape: &'s Scrape) -> Result<Self, AdviceError> {
        let mut times = Vec::new();
        for sample in scrape.samples("pool_queue_depth") {
            times.push(timed(sample)?);
        }
        match times.as_slice() {
            [] => Err(AdviceError::Missing("pool_queue_depth")),
            [first, .., last] if last > first => Ok(Window {
                scrape,
                seconds: last - first,
            }),
            _ => Err(AdviceError::OneScrape),
        }
    }

    fn samples(
        &self,
        name: &'static str,
        labels: &[(&str, &str)],
    ) -> Result<(&'s Sample, &'s Sample), AdviceError> {
        let mut ends = None;
        for sample in self.scrape.samples(name) {
            if sample.labels.equal(labels) {
                // Without its time it may be of any scrape.
                timed(sample)?;
                ends = Some((ends.map_or(sample, |(first, _)| first), sample));
            }
        }
        ends.ok_or(AdviceError::Missing(name))
    }

    fn last(&self, gauge: &'static str) -> Result<f64, AdviceError> {
        Ok(self.samples(gauge, &[])?.1.value)
    }

    /// What a counter has counted in the window.
    fn added(&self, counter: &'static str, labels: &[(&str, &str)]) -> Result<f64, AdviceError> {
        let (first, last) = self.samples(counter, labels)?;
        Ok(last.value - first.value)
    }

    /// The same over all of its label sets.
    fn added_in_all(&self, counter: &'static str) -> Result<f64, AdviceError> {
        let mut sets: Vec<_> = self.scrape.samples(counter).map(|s| &s.labels).collect();
        sets.sort();
        sets.dedup();
        if sets.is_empty() {
            return Err(AdviceError::Missing(counter));
        }
        sets.iter()
            .map(|labels| self.added(counter, &labels.iter().collect::<Vec<_>>()))
            .sum()
    }

    fn p99_above(&self) -> Result<f64, AdviceError> {
        const BUCKET: &str = "pool_task_duration_seconds_bucket";
        let ran = self.added("pool_task_duration_seconds_count", &[])?;
        let mut above = 0.0;
        let mut bounds: Vec<&str> = self
            .scrape
            .samples(BUCKET)
            .filter_map(|sample| sample.labels.get("le"))
            .collect();
        bounds.dedup();
        for le in bounds {
            let bound: f64 = le.parse().unwrap_or(f64::INFINITY);
            let within = self.added(BUCKET, &[("le", le)])?;
            if bound.is_finite() && ran - within > 0.01 * ran {
                above = f64::max(above, bound);
            }
        }
        Ok(above)
    }
}
