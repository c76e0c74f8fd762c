//! Reads the panels of a service at the end of an incident, or of a night without one: what users
//! notice, why, and since when.
//!
//! The on-call bot posts this above the dashboard, and pages by it.

use std::collections::BTreeMap;

use telemetry::ParseError;
use telemetry::metrics::Scrape;

const REQUESTS: &str = "job:http_requests:rate1m";
const LATENCY: &str = "job:http_request_duration_seconds:p99_1m";
const ERRORS: &str = "job:http_request_errors:ratio1m";
const CPU: &str = "job:process_cpu:utilization1m";
const TASKS: &str = "job:tokio_alive_tasks:sum";
const QUERIES: &str = "job:db_query_duration_seconds:p99_1m";
const ACQUIRE: &str = "job:db_acquire_duration_seconds:p99_1m";
const LENT: &str = "job:db_connections:lent";
const MAX: &str = "job:db_connections:max";

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

/// Samples of a series by their time in milliseconds.
type Series = BTreeMap<i64, f64>;

/// Reports on the last five minutes of a dump, of which the first five are ordinary. The dump is in
/// OpenMetrics with a time on each sample, in the order of time.
///
/// # Errors
/// When the text is not in the format, a panel is missing, or the dump is too short.
pub fn analyze(metrics: &str) -> Result<Report, AnalysisError> {
    let scrape = Scrape::parse(metrics)?;
    let mut series: BTreeMap<(&str, &str), Series> = BTreeMap::new();
    for sample in scrape.iter() {
        let Some(time) = sample.timestamp else {
            return Err(AnalysisError::Timeless(sample.line));
        };
        let query = sample.labels.get("query").unwrap_or("");
        series
            .entry((sample.name.as_str(), query))
            .or_default()
            .insert(time.as_millis(), sample.value);
    }
    let get = |name: &'static str| {
        let mut of = series
            .range((name, "")..)
            .take_while(|((n, _), _)| *n == name);
        of.next()
            .map(|(_, s)| s)
            .ok_or(AnalysisError::Missing(name))
    };
    get(QUERIES)?;
    let latency = get(LATENCY)?;
    let clock = get(CPU)?;
    let (first, last) = match (clock.keys().next(), clock.keys().next_back()) {
        (Some(first), Some(last)) if last - first >= 600_000 => (*first, *last),
        _ => return Err(AnalysisError::TooShort),
    };
    let mean = |of: &Series, from: i64, to: i64| -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for value in of.range(from..=to).map(|(_, value)| *value) {
            sum += value;
            count += 1.0;
        }
        (count > 0.0).then(|| sum / count)
    };
    let before = |of: &Series| mean(of, first, first + 300_000);
    // The last two minutes of the five: what has only just ended is over.
    let now = |of: &Series| mean(of, last - 120_000, last);
    let both = |name: &'static str| -> Result<(f64, f64), AnalysisError> {
        let of = get(name)?;
        let missing = AnalysisError::Missing(name);
        before(of).zip(now(of)).ok_or(missing)
    };

    let (usual, waits) = both(LATENCY)?;
    let slow = waits > 2.0 * usual;
    let fails = both(ERRORS)?.1 > 0.01;
    let (tasks_before, tasks_now) = both(TASKS)?;
    let (asked_before, asked_now) = both(REQUESTS)?;
    let piles_up = tasks_now / tasks_before > 3.0 * asked_now / asked_before;
    let spare_connections = both(MAX)?.1 - both(LENT)?.1;
    let spare_cores = 1.0 - both(CPU)?.1;

    let symptom = match (slow, fails) {
        (true, true) => Symptom::SlowAndFailing,
        (true, false) => Symptom::Slow,
        (false, true) => Symptom::Failing,
        (false, false) => Symptom::None,
    };
    let cause = if symptom == Symptom::None {
        if piles_up {
            Cause::TasksKept
        } else {
            Cause::Nothing
        }
    } else if spare_connections < 0.1 * both(MAX)?.1 {
        let mut queries: Vec<(f64, &str)> = Vec::new();
        for ((name, query), of) in &series {
            if let (true, Some(usual), Some(now)) = (*name == QUERIES, before(of), now(of)) {
                queries.push((now / usual, query));
            }
        }
        match queries.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)) {
            Some((factor, query)) if factor > 1.7 => Cause::SlowQuery {
                query: query.to_owned(),
            },
            _ => Cause::ConnectionsKept,
        }
    } else if spare_cores < 0.1 {
        if asked_now > 1.7 * asked_before {
            Cause::Traffic
        } else {
            Cause::Cost
        }
    } else if slow {
        Cause::Elsewhere
    } else {
        Cause::Failures
    };

    let mut evidence = Vec::new();
    if slow {
        evidence.push(LATENCY);
    }
    if fails {
        evidence.push(ERRORS);
    }
    evidence.extend_from_slice(match cause {
        Cause::Nothing => &[],
        Cause::SlowQuery { .. } | Cause::ConnectionsKept => &[LENT, MAX, QUERIES, ACQUIRE],
        Cause::Traffic | Cause::Cost => &[CPU, REQUESTS],
        Cause::Failures => &[LATENCY],
        Cause::TasksKept => &[TASKS, REQUESTS],
        Cause::Elsewhere => &[CPU, LENT, TASKS],
    });

    let well = |of: &Series, level: f64| {
        of.iter()
            .filter(|(_, v)| **v < level)
            .map(|(at, _)| *at)
            .next_back()
    };
    let after = |of: &Series, well: Option<i64>| -> Option<i64> {
        let from = well.map_or(i64::MIN, |at| at + 1);
        of.range(from..).next().map(|(at, _)| *at)
    };
    let mut since: Vec<i64> = Vec::new();
    if slow {
        since.extend(after(latency, well(latency, 2.0 * usual)));
    }
    if fails {
        let errors = get(ERRORS)?;
        since.extend(after(errors, well(errors, 0.01)));
    }
    if cause == Cause::TasksKept {
        let tasks = get(TASKS)?;
        since.extend(after(tasks, well(tasks, 2.0 * tasks_before)));
    }
    Ok(Report {
        symptom,
        cause,
        since: since.into_iter().min().map(|ms| ms as f64 / 1e3),
        evidence: evidence.into_iter().map(str::to_owned).collect(),
    })
}
