//! Reconstructs an incident of the payment service from what the night left behind.
//!
//! The on-call engineer runs it over the records before the post-mortem is written, so that the
//! document begins with facts. Not a judgment: why it happened is for people to say.
//!
//! A *minute* is the time between two scrapes, and carries the time of the scrape that ends it. A
//! payment is *slow* when it takes longer than [`OBJECTIVE_SECONDS`]. A minute *breaks the
//! objective* when more than [`TOLERATED_SHARE`] of the payments that ended in it were slow.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use telemetry::ParseError;
use telemetry::logs::{self, FieldError, Timestamp};
use telemetry::metrics::Scrape;

/// A payment that takes longer than this many seconds is slow. A bound of the histogram.
pub const OBJECTIVE_SECONDS: f64 = 0.5;
/// The share of slow payments that a minute may have.
pub const TOLERATED_SHARE: f64 = 0.01;
/// From its first breaking minute through its last, an incident lasts at least this many minutes;
/// what is shorter is a blip and needs no report.
pub const SHORTEST_INCIDENT: usize = 3;
/// As many good minutes in a row end an incident. Fewer belong to it: the service relapsed.
pub const QUIET_MINUTES: usize = 5;
/// The service whose incidents these are, as the events name it.
pub const SERVICE: &str = "payments";

/// A moment: Unix time, in whole seconds. Shown as the hour and minute in New York, where the team
/// writes its post-mortems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    /// The time from `earlier` to this; below zero when this is before it.
    pub fn since(self, earlier: Moment) -> Seconds {
        Seconds(self.0 - earlier.0)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Standard time: five hours behind UTC.
        let minute = (self.0 - 5 * 3_600).div_euclid(60).rem_euclid(24 * 60);
        write!(f, "{:02}:{:02}", minute / 60, minute % 60)
    }
}

/// A span of time, in whole seconds. Shown in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub i64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "the seconds of a night")]
        let minutes = self.0 as f64 / 60.0;
        write!(f, "{minutes:.1} min")
    }
}

/// The facts of one incident.
#[derive(Clone, Debug, PartialEq)]
pub struct PostMortem {
    pub timeline: Timeline,
    pub delays: Delays,
    /// What the alert's part of the delay consists of. `None` when it never fired.
    pub alert: Option<AlertDelay>,
    pub impact: Impact,
}

/// When things happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The first minute that breaks the objective.
    pub impact_began: Moment,
    /// When a person was first told: by a page, at the moment at which its alert fired, or by a
    /// user's ticket.
    pub detected: Moment,
    pub detected_by: Detector,
    /// When somebody took the page.
    pub acknowledged: Moment,
    /// When the cause was first stated that stood in the end.
    pub cause_identified: Moment,
    /// When the change was applied that ended the incident; not when it took effect.
    pub mitigated: Moment,
    /// The first minute that keeps the objective again, for good.
    pub restored: Moment,
}

/// What told a person first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detector {
    /// An alert of the service that pages. One of a lower severity waits in a list and tells
    /// nobody.
    Alert,
    /// A user, by a ticket about the service.
    User,
}

/// How long each step took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// From the beginning of the impact to the detection.
    pub detect: Seconds,
    /// From there to the acknowledgment,
    pub acknowledge: Seconds,
    /// to the cause,
    pub diagnose: Seconds,
    /// to the mitigation,
    pub mitigate: Seconds,
    /// to the restoration.
    pub recover: Seconds,
    /// For as long as users were affected.
    pub total: Seconds,
}

/// The two parts of the time that an alert takes, by the series that Prometheus keeps of it
/// (`ALERTS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertDelay {
    /// From the beginning of the impact until the alert's condition held: its threshold and the
    /// window that it looks back on.
    pub condition: Seconds,
    /// From there until it fired: its `for`.
    pub held: Seconds,
}

/// What it cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impact {
    /// Slow payments, from the minute `impact_began` through the minute `restored`.
    pub slow_payments: u64,
    /// Of the sessions of that time (those that were active at the scrape before `impact_began`,
    /// and those that began since), the share that met a slow payment; in `0.0..=1.0`.
    pub sessions_share: f64,
    /// The greatest bound of the histogram, in seconds, that the p99 of some minute of that time
    /// exceeded.
    pub p99_above: f64,
    /// The most payments that a scrape of that time saw waiting for a connection.
    pub peak_waiting: u64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The metrics are no OpenMetrics.
    #[error("could not read the metrics: {0}")]
    Metrics(ParseError),
    /// The events are no JSON lines.
    #[error("could not read the events: {0}")]
    Events(ParseError),
    /// An event lacks what every event has.
    #[error("could not read an event: {0}")]
    Field(#[from] FieldError),
    /// An event does not say when.
    #[error("the event in line {0} has no time with a day and a zone")]
    Undated(usize),
    /// A series is not in the metrics.
    #[error("the metrics have no `{0}`")]
    Missing(&'static str),
    /// The records end before the service kept its objective again.
    #[error("the incident was not over when the records ended")]
    NotOver,
    /// A step of the response is in no record.
    #[error("no event tells of this step: {0}")]
    Unrecorded(&'static str),
}

/// Reconstructs the longest incident in these records: `metrics` in OpenMetrics with timestamps,
/// `events` as JSON lines. `None` when there is no incident to report.
///
/// # Errors
/// When records are unreadable or lack something, and when the incident is not over.
pub fn reconstruct(metrics: &str, events: &str) -> Result<Option<PostMortem>, RecordError> {
    let scrape = Scrape::parse(metrics).map_err(RecordError::Metrics)?;
    let night = Night::from(&scrape)?;
    let events = Log::read(events)?;

    // One pass over the minutes: an incident is open until five good ones have gone by.
    let mut best: Option<(usize, usize)> = None;
    let mut open: Option<(usize, usize)> = None;
    for at in 1..night.rows.len() {
        if night.slow(at) > TOLERATED_SHARE * night.payments(at) {
            open = Some((open.map_or(at, |(first, _)| first), at));
        } else if open.is_some_and(|(_, last)| at - last >= QUIET_MINUTES) {
            best = longer(best, open.take());
        }
    }
    let Some((first, last)) = longer(best, open) else {
        return Ok(None);
    };
    if last - first + 1 < SHORTEST_INCIDENT {
        return Ok(None);
    }
    let end = last + 1;
    if end == night.rows.len() {
        return Err(RecordError::NotOver);
    }
    let (began, restored) = (night.rows[first].at, night.rows[end].at);
    let (detected, detected_by) = events.told(began, restored)?;
    let acknowledged = events.acknowledged(detected, restored)?;
    let cause_identified = events.cause(began, restored)?;
    let mitigated = events.mitigated(detected, restored)?;
    let steps = [
        began,
        detected,
        acknowledged,
        cause_identified,
        mitigated,
        restored,
    ];
    let step = |nth: usize| steps[nth + 1].since(steps[nth]);

    let fired = (first..=end).find(|&at| night.rows[at].firing);
    let alert = fired.map(|fired| {
        let pending = (0..fired)
            .rev()
            .find(|&at| !night.rows[at].pending)
            .map_or(0, |quiet| quiet + 1);
        AlertDelay {
            condition: night.rows[pending].at.since(began),
            held: night.rows[fired].at.since(night.rows[pending].at),
        }
    });
    let window = first..=end;
    let total = |series: &str| -> f64 { window.clone().map(|at| night.grew(series, at)).sum() };
    let there = night.value("shop_sessions_active", first - 1) + total("shop_sessions_total");
    let bounds = night.bounds.iter().filter(|(_, bound)| bound.is_finite());
    let exceeded = bounds
        .filter(|(series, _)| {
            window.clone().any(|at| {
                let beyond = night.payments(at) - night.grew(series, at);
                beyond > TOLERATED_SHARE * night.payments(at)
            })
        })
        .map(|(_, bound)| *bound);
    Ok(Some(PostMortem {
        timeline: Timeline {
            impact_began: began,
            detected,
            detected_by,
            acknowledged,
            cause_identified,
            mitigated,
            restored,
        },
        delays: Delays {
            detect: step(0),
            acknowledge: step(1),
            diagnose: step(2),
            mitigate: step(3),
            recover: step(4),
            total: restored.since(began),
        },
        alert,
        impact: Impact {
            slow_payments: window.clone().map(|at| night.slow(at)).sum::<f64>() as u64,
            sessions_share: total("shop_sessions_slow_total") / there.max(1.0),
            p99_above: exceeded.fold(0.0, f64::max),
            peak_waiting: window
                .clone()
                .map(|at| night.value("payment_pool_waiting", at) as u64)
                .max()
                .unwrap_or(0),
        },
    }))
}

fn longer(a: Option<(usize, usize)>, b: Option<(usize, usize)>) -> Option<(usize, usize)> {
    [a, b]
        .into_iter()
        .flatten()
        .max_by_key(|(first, last)| last - first)
}

/// All of a night in one table: a row for each scrape, a column for each series.
struct Night {
    rows: Vec<Row>,
    /// The series of the histogram's buckets, with their bounds in seconds.
    bounds: Vec<(String, f64)>,
}

struct Row {
    at: Moment,
    values: HashMap<String, f64>,
    pending: bool,
    firing: bool,
}

impl Night {
    fn from(scrape: &Scrape) -> Result<Self, RecordError> {
        let mut rows: BTreeMap<i64, Row> = BTreeMap::new();
        let mut bounds: HashMap<String, f64> = HashMap::new();
        for sample in scrape.iter() {
            let Some(at) = sample.timestamp else { continue };
            let at = at.as_millis() / 1_000;
            let row = rows.entry(at).or_insert_with(|| Row {
                at: Moment(at),
                values: HashMap::new(),
                pending: false,
                firing: false,
            });
            match sample.labels.get("alertstate") {
                Some("pending") => row.pending = true,
                Some("firing") => row.firing = true,
                _ => {
                    let series = format!("{}{}", sample.name, sample.labels);
                    let bound = sample.labels.get("le").and_then(|le| le.parse().ok());
                    if let Some(bound) = bound {
                        bounds.insert(series.clone(), bound);
                    }
                    row.values.insert(series, sample.value);
                }
            }
        }
        let night = Night {
            rows: rows.into_values().collect(),
            bounds: bounds.into_iter().collect(),
        };
        for needed in [
            "payment_request_duration_seconds_count",
            FAST,
            "payment_pool_waiting",
            "shop_sessions_active",
            "shop_sessions_total",
            "shop_sessions_slow_total",
        ] {
            if !night.rows.iter().any(|row| row.values.contains_key(needed)) {
                return Err(RecordError::Missing(needed));
            }
        }
        Ok(night)
    }

    fn value(&self, series: &str, at: usize) -> f64 {
        self.rows[at].values.get(series).copied().unwrap_or(0.0)
    }

    fn grew(&self, series: &str, at: usize) -> f64 {
        let (before, now) = (self.value(series, at - 1), self.value(series, at));
        if before > now { now } else { now - before }
    }

    fn payments(&self, at: usize) -> f64 {
        self.grew("payment_request_duration_seconds_count", at)
    }

    fn slow(&self, at: usize) -> f64 {
        self.payments(at) - self.grew(FAST, at)
    }
}

const FAST: &str = r#"payment_request_duration_seconds_bucket{le="0.5"}"#;

/// What was written down about the service, by kind, each in the order of time.
struct Log(HashMap<String, Vec<Entry>>);

struct Entry {
    at: Moment,
    /// What the entry is about: a cause, a change, a severity.
    about: String,
}

impl Log {
    fn read(text: &str) -> Result<Self, RecordError> {
        let mut log: HashMap<String, Vec<Entry>> = HashMap::new();
        for line in logs::parse(text).map_err(RecordError::Events)? {
            let kind = line.str("kind")?;
            let Some(Timestamp::Unix(nanos)) = line.time else {
                return Err(RecordError::Undated(line.line));
            };
            if line.str("service") != Ok(SERVICE) {
                continue;
            }
            let about = ["cause", "change", "severity"]
                .into_iter()
                .find_map(|field| line.str(field).ok())
                .unwrap_or_default();
            log.entry(kind.to_owned()).or_default().push(Entry {
                at: Moment((nanos / 1_000_000_000) as i64),
                about: about.to_owned(),
            });
        }
        for entries in log.values_mut() {
            entries.sort_by_key(|entry| entry.at);
        }
        Ok(Log(log))
    }

    fn of(&self, kind: &str, from: Moment, to: Moment) -> impl DoubleEndedIterator<Item = &Entry> {
        let entries = self.0.get(kind).map_or(&[][..], Vec::as_slice);
        entries
            .iter()
            .filter(move |entry| (from..=to).contains(&entry.at))
    }

    fn mentions(&self, kind: &str, about: &str) -> bool {
        let all = self.of(kind, Moment(i64::MIN), Moment(i64::MAX));
        all.into_iter().any(|entry| entry.about == about)
    }

    fn told(&self, from: Moment, to: Moment) -> Result<(Moment, Detector), RecordError> {
        let pages = self
            .of("firing", from, to)
            .filter(|entry| entry.about == "page");
        let pages = pages.map(|entry| (entry.at, Detector::Alert));
        let tickets = self
            .of("ticket", from, to)
            .map(|entry| (entry.at, Detector::User));
        pages
            .chain(tickets)
            .min_by_key(|(at, _)| *at)
            .ok_or(RecordError::Unrecorded("the detection"))
    }

    fn acknowledged(&self, from: Moment, to: Moment) -> Result<Moment, RecordError> {
        let first = self.of("acknowledged", from, to).next();
        first
            .map(|entry| entry.at)
            .ok_or(RecordError::Unrecorded("the acknowledgment"))
    }

    fn cause(&self, from: Moment, to: Moment) -> Result<Moment, RecordError> {
        self.of("cause", from, to)
            .find(|entry| !self.mentions("cause_retracted", &entry.about))
            .map(|entry| entry.at)
            .ok_or(RecordError::Unrecorded("the cause"))
    }

    fn mitigated(&self, from: Moment, to: Moment) -> Result<Moment, RecordError> {
        self.of("applied", from, to)
            .rfind(|entry| !self.mentions("rolled_back", &entry.about))
            .map(|entry| entry.at)
            .ok_or(RecordError::Unrecorded("the mitigation"))
    }
}

/// The facts as the head of a post-mortem.
impl fmt::Display for PostMortem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timeline {
            impact_began,
            detected,
            detected_by,
            acknowledged,
            cause_identified,
            mitigated,
            restored,
        } = self.timeline;
        let by = match detected_by {
            Detector::Alert => "an alert",
            Detector::User => "a user",
        };
        writeln!(f, "{impact_began}  impact began")?;
        for (at, delay, what) in [
            (detected, self.delays.detect, format!("detected by {by}")),
            (acknowledged, self.delays.acknowledge, "acknowledged".into()),
            (
                cause_identified,
                self.delays.diagnose,
                "cause identified".into(),
            ),
            (mitigated, self.delays.mitigate, "mitigated".into()),
            (restored, self.delays.recover, "restored".into()),
        ] {
            writeln!(f, "{at}  {what:<20} after {:>10}", delay.to_string())?;
        }
        writeln!(
            f,
            "       users affected for   {:>10}",
            self.delays.total.to_string()
        )?;
        if let Some(AlertDelay { condition, held }) = self.alert {
            writeln!(
                f,
                "       alert: {condition} to its condition, {held} for its `for`"
            )?;
        }
        let Impact {
            slow_payments,
            sessions_share,
            p99_above,
            peak_waiting,
        } = self.impact;
        write!(
            f,
            "       {slow_payments} slow payments, {:.1} % of the sessions, p99 above {p99_above} s, \
             {peak_waiting} waiting",
            sessions_share * 100.0
        )
    }
}
