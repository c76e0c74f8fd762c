//! Reads the panels of a service around a deploy and says whether the deploy harmed its users.
//!
//! The deploy bot rolls back by this.

use std::collections::BTreeMap;

use telemetry::ParseError;
use telemetry::metrics::{Sample, Scrape};

const LATENCY: &str = "job:http_request_duration_seconds:p99_1m";
const ERRORS: &str = "job:http_request_errors:ratio1m";
const REQUESTS: &str = "job:http_requests:rate1m";
const ANSWERED: &str = "instance:http_requests:rate1m";
const FAILED: &str = "instance:http_request_failures:ratio1m";
const CPU: &str = "instance:process_cpu_seconds:rate1m";
const ALLOCATED: &str = "instance:heap_allocations_bytes:rate1m";

/// Seconds of the beginning, in which all is well, and of the end, which is judged.
const SPAN: f64 = 300.0;
/// An answer takes so much longer that users notice.
const SLOW: f64 = 2.0;
/// The share of answers that fail, from which on users notice.
const FAILING: f64 = 0.01;
/// So much more is no coincidence.
const MORE: f64 = 1.5;

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
    let latency = Panel::read(&scrape, LATENCY)?;
    let errors = Panel::read(&scrape, ERRORS)?;
    let requests = Panel::read(&scrape, REQUESTS)?;

    let slow_from = SLOW * latency.before()?;
    let slow = latency.now()? >= slow_from;
    let failing = errors.now()? >= FAILING;
    let harm = match (slow, failing) {
        (false, false) => Harm::None,
        (true, false) => Harm::Slow,
        (false, true) => Harm::Failing,
        (true, true) => Harm::SlowAndFailing,
    };
    let noticed = [
        latency.since(slow_from).filter(|_| slow),
        errors.since(FAILING).filter(|_| failing),
    ];

    let (deployed, compared) = side_by_side(&scrape)?;
    let charges: Vec<Charge> = [
        (compared.cpu >= MORE, Charge::Cpu),
        (compared.allocated >= MORE, Charge::Allocations),
        (compared.failing >= FAILING, Charge::Errors),
    ]
    .into_iter()
    .filter_map(|(proven, charge)| proven.then_some(charge))
    .collect();
    let verdict = if harm == Harm::None {
        Verdict::NothingWrong
    } else if !charges.is_empty() {
        Verdict::Deploy(charges)
    } else if requests.now()? >= MORE * requests.before()? {
        Verdict::Traffic
    } else {
        Verdict::Elsewhere
    };
    Ok(Report {
        deployed,
        harm,
        since: noticed.into_iter().flatten().reduce(f64::min),
        compared,
        verdict,
    })
}

/// What the instances of one version did.
#[derive(Clone, Copy, Default)]
struct Work {
    answers: f64,
    failed: f64,
    cpu: f64,
    allocated: f64,
}

impl Work {
    fn add(&mut self, other: Work) {
        self.answers += other.answers;
        self.failed += other.failed;
        self.cpu += other.cpu;
        self.allocated += other.allocated;
    }
}

/// When the second version came, and how it compares with the first.
fn side_by_side(scrape: &Scrape) -> Result<(f64, Comparison), AnalysisError> {
    // By moment, then by version.
    let mut moments: BTreeMap<i64, BTreeMap<&str, Work>> = BTreeMap::new();
    let failing = by_series(scrape, FAILED)?;
    let cpu = by_series(scrape, CPU)?;
    let allocated = by_series(scrape, ALLOCATED)?;
    for sample in scrape.samples(ANSWERED) {
        let key = key(sample)?;
        let (at, _, version) = key;
        let of = |panel: &BTreeMap<Key<'_>, f64>, name| {
            let value = panel.get(&key).copied();
            value.ok_or(AnalysisError::Missing(name))
        };
        // Where nothing is answered nothing fails.
        let failing = failing.get(&key).copied().unwrap_or(0.0);
        moments
            .entry(at)
            .or_default()
            .entry(version)
            .or_default()
            .add(Work {
                answers: sample.value,
                failed: sample.value * failing,
                cpu: of(&cpu, CPU)?,
                allocated: of(&allocated, ALLOCATED)?,
            });
    }
    let first = moments.values().next();
    let old = first
        .and_then(|versions| versions.keys().next().copied())
        .ok_or(AnalysisError::Missing(ANSWERED))?;
    let mut deployed = None;
    let (mut of_old, mut of_new) = (Work::default(), Work::default());
    for (&at, versions) in &moments {
        let mut new = Work::default();
        for (_, work) in versions.iter().filter(|(version, _)| **version != old) {
            deployed.get_or_insert(at);
            new.add(*work);
        }
        if let (Some(work), true) = (versions.get(old), new.answers > 0.0) {
            of_old.add(*work);
            of_new.add(new);
        }
    }
    let Some(deployed) = deployed.filter(|_| of_old.answers > 0.0) else {
        return Err(AnalysisError::NoDeploy);
    };
    let each = |of: fn(&Work) -> f64| {
        let (new, old) = (of(&of_new) / of_new.answers, of(&of_old) / of_old.answers);
        (new / old, new - old)
    };
    let compared = Comparison {
        cpu: each(|work| work.cpu).0,
        allocated: each(|work| work.allocated).0,
        failing: each(|work| work.failed).1,
    };
    Ok((deployed as f64 / 1e3, compared))
}

/// Milliseconds, instance, and version.
type Key<'s> = (i64, &'s str, &'s str);

fn key(sample: &Sample) -> Result<Key<'_>, AnalysisError> {
    let time = sample
        .timestamp
        .ok_or(AnalysisError::Timeless(sample.line))?;
    let version = sample.labels.get("version");
    Ok((
        time.as_millis(),
        sample.labels.get("instance").unwrap_or_default(),
        version.ok_or(AnalysisError::Versionless(sample.line))?,
    ))
}

fn by_series<'s>(
    scrape: &'s Scrape,
    name: &'static str,
) -> Result<BTreeMap<Key<'s>, f64>, AnalysisError> {
    let mut samples = BTreeMap::new();
    for sample in scrape.samples(name) {
        samples.insert(key(sample)?, sample.value);
    }
    if samples.is_empty() {
        return Err(AnalysisError::Missing(name));
    }
    Ok(samples)
}

/// A panel of the service as a whole.
struct Panel {
    name: &'static str,
    samples: Vec<(f64, f64)>,
}

impl Panel {
    fn read(scrape: &Scrape, name: &'static str) -> Result<Self, AnalysisError> {
        let at = |sample: &Sample| match sample.timestamp {
            Some(time) => Ok((time.as_seconds(), sample.value)),
            None => Err(AnalysisError::Timeless(sample.line)),
        };
        let samples = scrape
            .samples(name)
            .map(at)
            .collect::<Result<Vec<_>, _>>()?;
        let (Some((begins, _)), Some((ends, _))) = (samples.first(), samples.last()) else {
            return Err(AnalysisError::Missing(name));
        };
        if ends - begins < 2.0 * SPAN {
            return Err(AnalysisError::TooShort);
        }
        Ok(Panel { name, samples })
    }

    fn before(&self) -> Result<f64, AnalysisError> {
        let begins = self.samples[0].0;
        self.median(|at| at <= begins + SPAN)
    }

    fn now(&self) -> Result<f64, AnalysisError> {
        let ends = self.samples[self.samples.len() - 1].0;
        self.median(|at| at >= ends - SPAN)
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
