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
const MAX: &str = "job:db_connections:max";

/// Seconds of the beginning, which is ordinary, and of the end, which is judged.
const SPAN: f64 = 300.0;
/// What has grown by this has changed; what moves by less is noise, or the hour of the day.
const TWICE: f64 = 2.0;
/// An answer that costs this much more is what has changed, and not the number of answers.
const COSTLIER: f64 = 1.5;
/// The share of the answers that fail, from which on users notice.
const FAILING: f64 = 0.01;
/// The share of cores, or of connections, above which there are none left.
const USED_UP: f64 = 0.9;

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
    let latency = Panel::read(&scrape, LATENCY)?;
    let errors = Panel::read(&scrape, ERRORS)?;
    let requests = Panel::read(&scrape, REQUESTS)?;
    let cpu = Panel::read(&scrape, CPU)?;
    let tasks = Panel::read(&scrape, TASKS)?;
    let lent = Panel::read(&scrape, LENT)?;
    let max = Panel::read(&scrape, MAX)?;

    let slow_from = latency.before()? * TWICE;
    let slow = latency.now()? >= slow_from;
    let failing = errors.now()? >= FAILING;
    let symptom = match (slow, failing) {
        (false, false) => Symptom::None,
        (true, false) => Symptom::Slow,
        (false, true) => Symptom::Failing,
        (true, true) => Symptom::SlowAndFailing,
    };

    let tasks_from = tasks.before()? * TWICE;
    let connections_used_up = lent.now()? >= USED_UP * max.now()?;
    let cores_used_up = cpu.now()? >= USED_UP;
    let cost = (cpu.now()? / requests.now()?) / (cpu.before()? / requests.before()?);
    let (cause, told_by): (Cause, &[&str]) = match symptom {
        Symptom::None => {
            let more_to_do = requests.now()? >= requests.before()? * TWICE;
            if tasks.now()? >= tasks_from && !more_to_do {
                (Cause::TasksKept, &[TASKS, REQUESTS])
            } else {
                (Cause::Nothing, &[])
            }
        }
        _ if connections_used_up => match slower_query(&scrape)? {
            Some(query) => (Cause::SlowQuery { query }, &[LENT, QUERIES]),
            None => (Cause::ConnectionsKept, &[LENT, QUERIES]),
        },
        _ if cores_used_up && cost >= COSTLIER => (Cause::Cost, &[CPU, REQUESTS]),
        _ if cores_used_up => (Cause::Traffic, &[CPU, REQUESTS]),
        Symptom::Failing => (Cause::Failures, &[]),
        Symptom::Slow | Symptom::SlowAndFailing => (Cause::Elsewhere, &[CPU, LENT]),
    };

    let since = match symptom {
        Symptom::None if cause == Cause::Nothing => None,
        Symptom::None => tasks.since(tasks_from),
        Symptom::Slow => latency.since(slow_from),
        Symptom::Failing => errors.since(FAILING),
        Symptom::SlowAndFailing => {
            let both = [latency.since(slow_from), errors.since(FAILING)];
            both.into_iter().flatten().reduce(f64::min)
        }
    };
    let noticed = [(slow, LATENCY), (failing, ERRORS)];
    let noticed = noticed.into_iter().filter(|(shown, _)| *shown);
    Ok(Report {
        symptom,
        cause,
        since,
        evidence: noticed
            .map(|(_, panel)| panel)
            .chain(told_by.iter().copied())
            .map(str::to_owned)
            .collect(),
    })
}

/// The query that has become slower by the largest factor, if any has. Of one that is no longer
/// seen to end, nothing is known.
fn slower_query(scrape: &Scrape) -> Result<Option<String>, AnalysisError> {
    let (begins, ends) = span(scrape)?;
    let mut queries: Vec<&str> = scrape
        .samples(QUERIES)
        .filter_map(|sample| sample.labels.get("query"))
        .collect();
    queries.sort_unstable();
    queries.dedup();
    if queries.is_empty() {
        return Err(AnalysisError::Missing(QUERIES));
    }
    let mut slowest: Option<(f64, &str)> = None;
    for query in queries {
        let of = |sample: &&Sample| sample.labels.get("query") == Some(query);
        let samples = timed(scrape.samples(QUERIES).filter(of))?;
        let panel = Panel {
            name: QUERIES,
            samples,
            begins,
            ends,
        };
        let (Ok(before), Ok(now)) = (panel.before(), panel.now()) else {
            continue;
        };
        let factor = now / before;
        if factor >= TWICE && slowest.is_none_or(|(most, _)| factor > most) {
            slowest = Some((factor, query));
        }
    }
    Ok(slowest.map(|(_, query)| query.to_owned()))
}

/// A panel of one series.
struct Panel {
    name: &'static str,
    samples: Vec<(f64, f64)>,
    /// Of the dump.
    begins: f64,
    ends: f64,
}

impl Panel {
    fn read(scrape: &Scrape, name: &'static str) -> Result<Self, AnalysisError> {
        let samples = timed(scrape.samples(name))?;
        if samples.is_empty() {
            return Err(AnalysisError::Missing(name));
        }
        let (begins, ends) = span(scrape)?;
        Ok(Panel {
            name,
            samples,
            begins,
            ends,
        })
    }

    fn before(&self) -> Result<f64, AnalysisError> {
        self.median(|at| at <= self.begins + SPAN)
    }

    fn now(&self) -> Result<f64, AnalysisError> {
        self.median(|at| at >= self.ends - SPAN)
    }

    fn median(&self, within: impl Fn(f64) -> bool) -> Result<f64, AnalysisError> {
        let samples = self.samples.iter().filter(|(at, _)| within(*at));
        let mut values: Vec<f64> = samples.map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.get(values.len() / 2).copied();
        middle.ok_or(AnalysisError::Missing(self.name))
    }

    /// The first of the samples that reach `level` without a break to the end.
    fn since(&self, level: f64) -> Option<f64> {
        let newest_first = self.samples.iter().rev();
        let reached = newest_first.take_while(|(_, value)| *value >= level);
        reached.last().map(|(at, _)| *at)
    }
}

/// When the dump begins and ends.
fn span(scrape: &Scrape) -> Result<(f64, f64), AnalysisError> {
    let latency = timed(scrape.samples(LATENCY))?;
    let (Some((begins, _)), Some((ends, _))) = (latency.first(), latency.last()) else {
        return Err(AnalysisError::Missing(LATENCY));
    };
    if ends - begins < 2.0 * SPAN {
        return Err(AnalysisError::TooShort);
    }
    Ok((*begins, *ends))
}

fn timed<'s>(samples: impl Iterator<Item = &'s Sample>) -> Result<Vec<(f64, f64)>, AnalysisError> {
    let at = |sample: &Sample| match sample.timestamp {
        Some(time) => Ok((time.as_seconds(), sample.value)),
        None => Err(AnalysisError::Timeless(sample.line)),
    };
    samples.map(at).collect()
}
