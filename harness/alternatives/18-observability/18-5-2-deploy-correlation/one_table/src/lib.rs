//! Reads the panels of a service around a deploy and says whether the deploy harmed its users.
//!
//! The deploy bot rolls back by this.

use std::collections::{BTreeMap, BTreeSet};

use telemetry::ParseError;
use telemetry::metrics::Scrape;

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
    /// The share of answers that fail of the new version, less that of the old one.
    pub failing: f64,
}

/// Who harmed the users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody: they are not harmed at the end.
    NothingWrong,
    /// The deploy: its answers need half as much again of something, or more, or one in a hundred
    /// more of them fails. Of what it is guilty, each once, in the order of [`Charge`].
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

/// Values of a panel by second and instance.
type Panel = BTreeMap<(i64, String), f64>;

/// Reports on the last five minutes of a dump, of which the first five are ordinary, with a deploy
/// in between. The dump is in OpenMetrics with a time on each sample, each series in the order of
/// time.
///
/// # Errors
/// When the text is not in the format, a panel or a version is missing, or the dump is too short.
pub fn analyze(metrics: &str) -> Result<Report, AnalysisError> {
    let scrape = Scrape::parse(metrics)?;
    let mut panels: BTreeMap<&str, Panel> = BTreeMap::new();
    let mut versions: BTreeMap<(i64, String), &str> = BTreeMap::new();
    for sample in scrape.iter() {
        let time = sample
            .timestamp
            .ok_or(AnalysisError::Timeless(sample.line))?;
        let at = time.as_millis() / 1_000;
        let instance = sample.labels.get("instance").unwrap_or("").to_owned();
        if !instance.is_empty() {
            let version = sample.labels.get("version");
            let version = version.ok_or(AnalysisError::Versionless(sample.line))?;
            versions.insert((at, instance.clone()), version);
        }
        panels
            .entry(sample.name.as_str())
            .or_default()
            .insert((at, instance), sample.value);
    }
    let panel = |name: &'static str| panels.get(name).ok_or(AnalysisError::Missing(name));

    let latency = panel("job:http_request_duration_seconds:p99_1m")?;
    let errors = panel("job:http_request_errors:ratio1m")?;
    let requests = panel("job:http_requests:rate1m")?;
    let seconds: Vec<i64> = latency.keys().map(|(at, _)| *at).collect();
    let (first, last) = (seconds[0], seconds[seconds.len() - 1]);
    if last - first < 600 {
        return Err(AnalysisError::TooShort);
    }
    let mean = |of: &Panel, from: i64, to: i64| {
        let values: Vec<f64> = of
            .iter()
            .filter(|((at, _), _)| (from..=to).contains(at))
            .map(|(_, value)| *value)
            .collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let usual = mean(latency, first, first + 300);
    let slow = mean(latency, last - 300, last) > 2.0 * usual;
    let fails = mean(errors, last - 300, last) > 0.01;
    let more = mean(requests, last - 300, last) / mean(requests, first, first + 300);

    // The first moment after the last at which all was well.
    let since = |of: &Panel, well: f64| -> Option<i64> {
        let mut found = None;
        for ((at, _), value) in of {
            if *value < well {
                found = None;
            } else if found.is_none() {
                found = Some(*at);
            }
        }
        found
    };
    let mut began = BTreeSet::new();
    if slow {
        began.extend(since(latency, 2.0 * usual));
    }
    if fails {
        began.extend(since(errors, 0.01));
    }

    let answered = panel("instance:http_requests:rate1m")?;
    let old = versions.values().next().copied().unwrap_or("");
    let is_old = |key: &(i64, String)| versions.get(key).is_none_or(|version| *version == old);
    let olds: BTreeSet<i64> = answered.keys().filter(|k| is_old(k)).map(|k| k.0).collect();
    let news: BTreeSet<i64> = answered
        .keys()
        .filter(|k| !is_old(k))
        .map(|k| k.0)
        .collect();
    let both: BTreeSet<i64> = olds.intersection(&news).copied().collect();
    let (Some(deployed), false) = (news.first(), both.is_empty()) else {
        return Err(AnalysisError::NoDeploy);
    };
    // For each answer: what `of` used, weighted or not by the answers, over the answers.
    let each = |of: &Panel, weighted: bool, wanted_old: bool| {
        let (mut used, mut answers) = (0.0, 0.0);
        for (key, answered) in answered {
            if both.contains(&key.0) && is_old(key) == wanted_old {
                let value = of.get(key).copied().unwrap_or(0.0);
                used += if weighted { value * answered } else { value };
                answers += answered;
            }
        }
        used / answers
    };
    let ratio = |name: &'static str| -> Result<f64, AnalysisError> {
        let of = panel(name)?;
        Ok(each(of, false, false) / each(of, false, true))
    };
    let failures = panel("instance:http_request_failures:ratio1m")?;
    let compared = Comparison {
        cpu: ratio("instance:process_cpu_seconds:rate1m")?,
        allocated: ratio("instance:heap_allocations_bytes:rate1m")?,
        failing: each(failures, true, false) - each(failures, true, true),
    };

    let mut charges = BTreeSet::new();
    if compared.cpu > 1.5 {
        charges.insert(Charge::Cpu);
    }
    if compared.allocated > 1.5 {
        charges.insert(Charge::Allocations);
    }
    if compared.failing > 0.01 {
        charges.insert(Charge::Errors);
    }
    let verdict = match (slow || fails, charges.is_empty()) {
        (false, _) => Verdict::NothingWrong,
        (true, false) => Verdict::Deploy(charges.into_iter().collect()),
        (true, true) if more > 1.5 => Verdict::Traffic,
        (true, true) => Verdict::Elsewhere,
    };
    Ok(Report {
        deployed: *deployed as f64,
        harm: match (slow, fails) {
            (false, false) => Harm::None,
            (true, false) => Harm::Slow,
            (false, true) => Harm::Failing,
            (true, true) => Harm::SlowAndFailing,
        },
        since: began.first().map(|at| *at as f64),
        compared,
        verdict,
    })
}
