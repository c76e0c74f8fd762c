//! Reads the panels of a service around a deploy and says whether the deploy harmed its users.
//!
//! The deploy bot rolls back by this.

use telemetry::ParseError;
use telemetry::metrics::{Sample, Scrape};

const LATENCY: &str = "job:http_request_duration_seconds:p99_1m";
const ERRORS: &str = "job:http_request_errors:ratio1m";
const FAILED: &str = "instance:http_request_failures:ratio1m";
const CPU: &str = "instance:process_cpu_seconds:rate1m";
const ALLOCATED: &str = "instance:heap_allocations_bytes:rate1m";

/// The latency that users notice, over that of the beginning.
const SLOW: f64 = 2.0;
/// What has risen by this factor has begun to rise.
const BEGUN: f64 = 1.2;
/// So much more is no coincidence.
const MORE: f64 = 1.5;
const FAILING: f64 = 0.01;

/// What the panels say.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The first sample of the version that was not there in the beginning: Unix time, in seconds.
    pub deployed: f64,
    pub harm: Harm,
    /// Since when: the first sample from which on the harm shows in every sample to the end, the
    /// earlier one where answers are slow and fail. Unix time, in seconds. `None` where there is no
    /// harm.
    pub since: Option<f64>,
    pub compared: Comparison,
    pub verdict: Verdict,
}

/// What users notice at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    None,
    /// The slowest answers take twice as long as in the beginning, or longer.
    Slow,
    /// One answer in a hundred fails, or more do.
    Failing,
    SlowAndFailing,
}

/// The new version against the old one, at the moments at which instances of both have samples:
/// everything that one of them used in these moments, over all of its answers in them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Processor time for an answer of the new version, over that for an answer of the old one.
    pub cpu: f64,
    /// Bytes allocated for an answer, likewise.
    pub allocated: f64,
    /// The share of answers with status 500 of the new version, less that of the old one.
    pub failing: f64,
}

/// Who harmed the users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody: they are not harmed at the end.
    NothingWrong,
    /// The deploy: its answers need half as much again of something, or more, or one in a hundred
    /// more of them is a 500. Of what it is guilty, each once, in the order of [`Charge`].
    Deploy(Vec<Charge>),
    /// Not the deploy, but more traffic: half as many answers again as in the beginning, or more.
    Traffic,
    /// Neither of the two.
    Elsewhere,
}

/// What an answer of the new version has more of than one of the old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Charge {
    Cpu,
    Allocations,
    Errors,
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
    /// A sample of an instance has no version.
    #[error("line {0}: the sample has no version")]
    Versionless(usize),
    /// No second version, or none that ran beside the first.
    #[error("no two versions ran at the same time")]
    NoDeploy,
    /// The dump is shorter than its beginning and its end.
    #[error("the metrics are of less than ten minutes")]
    TooShort,
}

/// Reports on the last five minutes of a dump, of which the first five are ordinary, with a deploy
/// in between. The dump is in OpenMetrics with a time on each sample, each series in the order of
/// time.
///
/// # Errors
/// When the text is not in the format, a panel or a version is missing, or the dump is too short.
pub fn analyze(metrics: &str) -> Result<Report, AnalysisError> {
    let scrape = Scrape::parse(metrics)?;
    let mut latency = Vec::new();
    for sample in scrape.samples(LATENCY) {
        latency.push((time(sample)?, sample.value));
    }
    let (Some(&(_, usual)), Some(&(_, now))) = (latency.first(), latency.last()) else {
        return Err(AnalysisError::Missing(LATENCY));
    };
    let slow = now >= SLOW * usual;
    let failing = scrape
        .samples(ERRORS)
        .last()
        .is_some_and(|sample| sample.value >= FAILING);
    let harm = match (slow, failing) {
        (true, true) => Harm::SlowAndFailing,
        (true, false) => Harm::Slow,
        _ => Harm::None,
    };
    let since = latency
        .iter()
        .find(|(_, value)| *value >= BEGUN * usual)
        .filter(|_| harm != Harm::None)
        .map(|(at, _)| *at);

    let old = scrape
        .samples(CPU)
        .next()
        .and_then(|sample| sample.labels.get("version"))
        .ok_or(AnalysisError::Missing(CPU))?;
    let mut deployed = f64::INFINITY;
    for sample in scrape.samples(CPU) {
        if sample.labels.get("version") != Some(old) {
            deployed = deployed.min(time(sample)?);
        }
    }
    if deployed.is_infinite() {
        return Err(AnalysisError::NoDeploy);
    }
    let (cpu, _) = old_and_new(&scrape, CPU, old);
    let (allocated, _) = old_and_new(&scrape, ALLOCATED, old);
    let (_, failing) = old_and_new(&scrape, FAILED, old);
    let compared = Comparison {
        cpu,
        allocated,
        failing,
    };

    // What comes first is the cause of what comes after it.
    let verdict = match since {
        None => Verdict::NothingWrong,
        Some(since) if deployed <= since => {
            let mut charges = Vec::new();
            if cpu >= MORE {
                charges.push(Charge::Cpu);
            }
            if allocated >= MORE {
                charges.push(Charge::Allocations);
            }
            if failing >= FAILING {
                charges.push(Charge::Errors);
            }
            Verdict::Deploy(charges)
        }
        Some(_) => Verdict::Elsewhere,
    };
    Ok(Report {
        deployed,
        harm,
        since,
        compared,
        verdict,
    })
}

/// The mean of a panel over the samples of the new version, over and less that of the old one.
fn old_and_new(scrape: &Scrape, panel: &str, old: &str) -> (f64, f64) {
    let mean = |wanted: bool| {
        let samples = scrape.samples(panel);
        let of = samples.filter(|sample| (sample.labels.get("version") == Some(old)) == wanted);
        let values: Vec<f64> = of.map(|sample| sample.value).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let (old, new) = (mean(true), mean(false));
    (new / old, new - old)
}

fn time(sample: &Sample) -> Result<f64, AnalysisError> {
    match sample.timestamp {
        Some(time) => Ok(time.as_seconds()),
        None => Err(AnalysisError::Timeless(sample.line)),
    }
}
