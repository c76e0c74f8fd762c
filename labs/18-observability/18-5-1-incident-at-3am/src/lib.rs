//! Reads the panels of a service at the end of an incident, or of a night without one: what users
//! notice, why, and since when.
//!
//! The on-call bot posts this above the dashboard, and pages by it.

use telemetry::ParseError;
use telemetry::metrics::{Sample, Scrape};

const REQUESTS: &str = "job:http_requests:rate1m";
const LATENCY: &str = "job:http_request_duration_seconds:p99_1m";
const ERRORS: &str = "job:http_request_errors:ratio1m";
const CPU: &str = "job:process_cpu:utilization1m";
const TASKS: &str = "job:tokio_alive_tasks:sum";
const QUERIES: &str = "job:db_query_duration_seconds:p99_1m";
const LENT: &str = "job:db_connections:lent";

/// The share of the answers that fail, from which on users notice.
const FAILING: f64 = 0.01;
/// The share of the cores above which the service is in trouble.
const BUSY: f64 = 0.5;
/// What has moved by this share has moved.
const MOVED: f64 = 0.2;

/// What the panels say.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub symptom: Symptom,
    pub cause: Cause,
    /// Since when: the first sample from which on the symptom shows in every sample to the end, the
    /// earlier one where answers are slow and fail, or, where there is a cause and no symptom, the
    /// cause. Unix time, in seconds. `None` where nothing is wrong.
    pub since: Option<f64>,
    /// Names of panels, each once: those that show the symptom, and those without which another
    /// [`Cause`] would be possible. Panels that say nothing about it are none. Empty where nothing
    /// is wrong.
    pub evidence: Vec<String>,
}

/// What users notice at the end of the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    None,
    /// The slowest answers take twice as long as in the beginning, or longer.
    Slow,
    /// One answer in a hundred fails, or more do.
    Failing,
    SlowAndFailing,
}

/// Why, at the end of the dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Whatever moved has harmed nobody, or is over.
    Nothing,
    /// A query holds its connections for longer than it did, so that the connections are used up.
    SlowQuery { query: String },
    /// The connections are used up, and no query holds them for longer than it did.
    ConnectionsKept,
    /// The cores are used up, because more is asked for.
    Traffic,
    /// The cores are used up, because each answer costs more than it did.
    Cost,
    /// Answers fail, and nothing waits.
    Failures,
    /// Tasks pile up that nobody waits for.
    TasksKept,
    /// Requests wait for something that no panel shows: cores and connections are to be had.
    Elsewhere,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The text is not in the format.
    #[error("could not read the metrics: {0}")]
    Metrics(#[from] ParseError),
    /// A panel is missing, or has no sample where one is needed.
    #[error("the metrics have no `{0}`")]
    Missing(&'static str),
    /// A sample has no time.
    #[error("line {0}: the sample has no time")]
    Timeless(usize),
    /// The dump is shorter than its beginning and its end.
    #[error("the metrics are of less than ten minutes")]
    TooShort,
}

/// Reports on the last five minutes of a dump, of which the first five are ordinary. The dump is in
/// OpenMetrics with a time on each sample, in the order of time.
///
/// # Errors
/// When the text is not in the format, a panel is missing, or the dump is too short.
pub fn analyze(metrics: &str) -> Result<Report, AnalysisError> {
    let scrape = Scrape::parse(metrics)?;
    let errors = newest(&scrape, ERRORS)?;
    let busy = newest(&scrape, CPU)?;
    if errors < FAILING && busy < BUSY {
        return Ok(Report {
            symptom: Symptom::None,
            cause: Cause::Nothing,
            since: None,
            evidence: Vec::new(),
        });
    }
    let mut moved: Option<(f64, &'static str)> = None;
    for panel in [REQUESTS, LATENCY, ERRORS, CPU, TASKS, QUERIES, LENT] {
        let factor = newest(&scrape, panel)? / oldest(&scrape, panel)?;
        if moved.is_none_or(|(most, _)| factor > most) {
            moved = Some((factor, panel));
        }
    }
    let (_, panel) = moved.ok_or(AnalysisError::TooShort)?;
    let cause = match panel {
        REQUESTS => Cause::Traffic,
        CPU => Cause::Cost,
        ERRORS => Cause::Failures,
        TASKS => Cause::TasksKept,
        LENT => Cause::ConnectionsKept,
        QUERIES => Cause::SlowQuery {
            query: query(&scrape)?,
        },
        _ => Cause::Elsewhere,
    };
    Ok(Report {
        symptom: if errors < FAILING {
            Symptom::Slow
        } else {
            Symptom::Failing
        },
        cause,
        since: first_moved(&scrape, panel)?,
        evidence: vec![panel.to_owned()],
    })
}

fn oldest(scrape: &Scrape, panel: &'static str) -> Result<f64, AnalysisError> {
    let sample = scrape.samples(panel).next();
    sample
        .map(|sample| sample.value)
        .ok_or(AnalysisError::Missing(panel))
}

fn newest(scrape: &Scrape, panel: &'static str) -> Result<f64, AnalysisError> {
    let sample = scrape.samples(panel).last();
    sample
        .map(|sample| sample.value)
        .ok_or(AnalysisError::Missing(panel))
}

/// The query that takes longest.
fn query(scrape: &Scrape) -> Result<String, AnalysisError> {
    let slowest = scrape
        .samples(QUERIES)
        .max_by(|a, b| a.value.total_cmp(&b.value));
    let query = slowest.and_then(|sample| sample.labels.get("query"));
    query
        .map(str::to_owned)
        .ok_or(AnalysisError::Missing(QUERIES))
}

/// When a panel had moved for the first time.
fn first_moved(scrape: &Scrape, panel: &'static str) -> Result<Option<f64>, AnalysisError> {
    let ordinary = oldest(scrape, panel)?;
    for sample in scrape.samples(panel) {
        let at = time(sample)?;
        if (sample.value - ordinary).abs() > MOVED * ordinary {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn time(sample: &Sample) -> Result<f64, AnalysisError> {
    match sample.timestamp {
        Some(time) => Ok(time.as_seconds()),
        None => Err(AnalysisError::Timeless(sample.line)),
    }
}
