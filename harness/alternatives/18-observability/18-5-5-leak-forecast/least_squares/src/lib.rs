//! Reads the heap of a service over some days and says whether it leaks, how fast, and until when
//! it lasts.
//!
//! The weekly capacity report is made from this, and so is the calendar of planned restarts.

use std::collections::BTreeMap;

use telemetry::ParseError;
use telemetry::metrics::{Sample, Scrape};

/// Bytes of the heap in use, after a collection.
const HEAP: &str = "go_memstats_heap_inuse_bytes";
/// Requests a second.
const TRAFFIC: &str = "job:http_requests:rate";
/// Unix time at which the process started that gave the samples of the same moment.
const STARTED: &str = "process_start_time_seconds";

const DAY: f64 = 86_400.0;
/// The growth within these days, as a share, that is no growth.
const LEVEL: f64 = 0.03;

/// What the metrics say.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// One for each process, in the order of time, that was sampled for four whole days or more.
    pub lives: Vec<Life>,
}

/// One process, from its start to its end.
///
/// Its days are counted from its first sample, 24 hours each; the last one is whole when it holds
/// as many samples as the first. The level of a day is the mean of the samples in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// When the process started: Unix time, in seconds.
    pub started: f64,
    pub verdict: Verdict,
    /// Growth in bytes a day, from the level of the first day to that of the last whole one. Below
    /// zero when the heap shrinks.
    pub bytes_per_day: f64,
    /// Until when it lasts; `None` for what does not leak.
    pub full: Option<Full>,
}

/// What a life does in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In its last three days the level has grown by 3 % at most.
    Level,
    /// It has grown by more, and in proportion no more than the requests a second.
    WithTraffic,
    /// It has grown by more, and by more in proportion than the requests a second.
    Leaking,
}

/// When the level of a day reaches the limit, counted from the mean time of the samples of the last
/// whole day. Unix time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Full {
    /// If it goes on growing by [`Life::bytes_per_day`].
    pub at_mean_rate: f64,
    /// If what a day adds goes on growing, day by day, by as much as it did on average between the
    /// first two levels and the last two; the same as `at_mean_rate` where it did not grow.
    pub as_it_has_grown: f64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The text is not in the format.
    #[error("could not read the metrics: {0}")]
    Metrics(#[from] ParseError),
    /// A metric of the report is missing, or has no sample at a moment at which the heap has one.
    #[error("the metrics have no `{0}` at {1}")]
    Missing(&'static str, f64),
    /// A sample has no time.
    #[error("line {0}: the sample has no time")]
    Timeless(usize),
    /// No process was sampled for four whole days.
    #[error("no process was sampled for four whole days")]
    TooShort,
}

/// Reports on a service from some days of its metrics, in OpenMetrics with a time on each sample,
/// in the order of time. `limit` is what the heap may take, in bytes.
///
/// # Errors
/// When the text is not in the format, a metric is missing, or every process was too short-lived.
pub fn analyze(metrics: &str, limit: f64) -> Result<Report, AnalysisError> {
    let scrape = Scrape::parse(metrics)?;
    let starts = by_time(&scrape, STARTED)?;
    let traffic = by_time(&scrape, TRAFFIC)?;
    // By start of the process, then by the number of the day.
    let mut lives: BTreeMap<i64, Collected> = BTreeMap::new();
    for (millis, heap) in by_time(&scrape, HEAP)? {
        let at = |series: &BTreeMap<i64, f64>, name| {
            series
                .get(&millis)
                .copied()
                .ok_or(AnalysisError::Missing(name, millis as f64 / 1e3))
        };
        let started = at(&starts, STARTED)?;
        let life = lives
            .entry((started * 1e3) as i64)
            .or_insert_with(|| Collected::new(started, millis));
        life.add(millis, heap, at(&traffic, TRAFFIC)?);
    }
    let lives: Vec<Life> = lives
        .values()
        .filter_map(|life| life.judge(limit))
        .collect();
    match lives.is_empty() {
        true => Err(AnalysisError::TooShort),
        false => Ok(Report { lives }),
    }
}

fn by_time(scrape: &Scrape, name: &'static str) -> Result<BTreeMap<i64, f64>, AnalysisError> {
    let mut series = BTreeMap::new();
    for sample in scrape.samples(name) {
        let sample: &Sample = sample;
        let time = sample
            .timestamp
            .ok_or(AnalysisError::Timeless(sample.line))?;
        series.insert(time.as_millis(), sample.value);
    }
    Ok(series)
}

/// Sums over one day.
#[derive(Clone, Copy, Default)]
struct Day {
    samples: f64,
    seconds: f64,
    heap: f64,
    traffic: f64,
}

struct Collected {
    started: f64,
    first_millis: i64,
    days: BTreeMap<i64, Day>,
}

impl Collected {
    fn new(started: f64, first_millis: i64) -> Self {
        Collected {
            started,
            first_millis,
            days: BTreeMap::new(),
        }
    }

    fn add(&mut self, millis: i64, heap: f64, traffic: f64) {
        let number = (millis - self.first_millis) / 86_400_000;
        let day = self.days.entry(number).or_default();
        day.samples += 1.0;
        day.seconds += millis as f64 / 1e3;
        day.heap += heap;
        day.traffic += traffic;
    }

    fn judge(&self, limit: f64) -> Option<Life> {
        let expected = self.days.values().next()?.samples;
        let mut days: Vec<Day> = self.days.values().copied().collect();
        if days.last()?.samples < expected {
            days.pop();
        }
        let time: Vec<f64> = days.iter().map(|day| day.seconds / day.samples).collect();
        let heap: Vec<f64> = days.iter().map(|day| day.heap / day.samples).collect();
        let load: Vec<f64> = days.iter().map(|day| day.traffic / day.samples).collect();
        let end = days.len().checked_sub(1).filter(|&end| end >= 3)?;
        let ratio = |of: &[f64]| of[end] / of[end - 3];
        let verdict = match (ratio(&heap), ratio(&load)) {
            (heap, _) if heap <= 1.0 + LEVEL => Verdict::Level,
            (heap, load) if heap <= load => Verdict::WithTraffic,
            _ => Verdict::Leaking,
        };
        let bytes_per_day = DAY * (heap[end] - heap[0]) / (time[end] - time[0]);
        let full = (verdict == Verdict::Leaking).then(|| {
            let days_from_end: Vec<f64> = time.iter().map(|at| (at - time[end]) / DAY).collect();
            let at_mean_rate = time[end] + DAY * (limit - heap[end]) / bytes_per_day;
            // level = c + b x + a x², with x = 0 at the last whole day.
            let [c, b, a] = quadratic(&days_from_end, &heap);
            let as_it_has_grown = if a <= 0.0 {
                at_mean_rate
            } else {
                let root = (b * b - 4.0 * a * (c - limit)).sqrt();
                time[end] + DAY * (root - b) / (2.0 * a)
            };
            Full {
                at_mean_rate,
                as_it_has_grown,
            }
        });
        Some(Life {
            started: self.started,
            verdict,
            bytes_per_day,
            full,
        })
    }
}

/// The quadratic of least squares through some points, by the normal equations and Cramer's rule.
fn quadratic(x: &[f64], y: &[f64]) -> [f64; 3] {
    let moment = |power: i32| x.iter().map(|x| x.powi(power)).sum::<f64>();
    let mixed = |power: i32| {
        let terms = x.iter().zip(y).map(|(x, y)| x.powi(power) * y);
        terms.sum::<f64>()
    };
    let matrix = [0, 1, 2].map(|row| [0, 1, 2].map(|column| moment(row + column)));
    let right = [0, 1, 2].map(mixed);
    let whole = determinant(matrix);
    [0, 1, 2].map(|column| {
        let mut replaced = matrix;
        for (row, value) in replaced.iter_mut().zip(right) {
            row[column] = value;
        }
        determinant(replaced) / whole
    })
}

fn determinant([a, b, c]: [[f64; 3]; 3]) -> f64 {
    a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
}
