//! Reconstructs an incident of the payment service from what the night left behind.
//!
//! The on-call engineer runs it over the records before the post-mortem is written, so that the
//! document begins with facts. Not a judgment: why it happened is for people to say.
//!
//! A *minute* is the time between two scrapes, and carries the time of the scrape that ends it. A
//! payment is *slow* when it takes longer than [`OBJECTIVE_SECONDS`]. A minute *breaks the
//! objective* when more than [`TOLERATED_SHARE`] of the payments that ended in it were slow.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use telemetry::ParseError;
use telemetry::logs::{self, FieldError, LogLine, Timestamp};
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

const COUNT: &str = "payment_request_duration_seconds_count";
const BUCKET: &str = "payment_request_duration_seconds_bucket";
const WAITING: &str = "payment_pool_waiting";
const SESSIONS: &str = "shop_sessions_total";
const SESSIONS_SLOW: &str = "shop_sessions_slow_total";
const SESSIONS_ACTIVE: &str = "shop_sessions_active";

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
    let metrics = Metrics::read(metrics)?;
    let events = read_events(events)?;
    let minutes = metrics.minutes()?;
    let Some(window) = longest_incident(&minutes) else {
        return Ok(None);
    };
    let (Some(first), Some(last)) = (window.first(), window.last()) else {
        return Ok(None);
    };
    let restored = minutes
        .iter()
        .find(|minute| minute.at > last.at)
        .ok_or(RecordError::NotOver)?
        .at;
    let timeline = respond(&events, first.at, restored)?;
    Ok(Some(PostMortem {
        delays: delays(&timeline),
        alert: metrics.alert_delay(&timeline),
        impact: metrics.impact(&minutes, &timeline)?,
        timeline,
    }))
}

fn delays(timeline: &Timeline) -> Delays {
    Delays {
        detect: timeline.detected.since(timeline.impact_began),
        acknowledge: timeline.acknowledged.since(timeline.detected),
        diagnose: timeline.cause_identified.since(timeline.acknowledged),
        mitigate: timeline.mitigated.since(timeline.cause_identified),
        recover: timeline.restored.since(timeline.mitigated),
        total: timeline.restored.since(timeline.impact_began),
    }
}

/// The payments that ended between two scrapes.
#[derive(Clone, Copy, Debug)]
struct Minute {
    at: Moment,
    payments: f64,
    slow: f64,
}

impl Minute {
    fn breaks_objective(&self) -> bool {
        self.slow > TOLERATED_SHARE * self.payments
    }
}

/// The minutes of the longest incident, its good minutes included.
fn longest_incident(minutes: &[Minute]) -> Option<&[Minute]> {
    let mut incidents: Vec<(usize, usize)> = Vec::new();
    for (at, _) in minutes
        .iter()
        .enumerate()
        .filter(|(_, minute)| minute.breaks_objective())
    {
        match incidents.last_mut() {
            Some((_, last)) if at - *last <= QUIET_MINUTES => *last = at,
            _ => incidents.push((at, at)),
        }
    }
    incidents
        .into_iter()
        .map(|(first, last)| &minutes[first..=last])
        .filter(|incident| incident.len() >= SHORTEST_INCIDENT)
        .max_by_key(|incident| incident.len())
}

/// The steps of the response, from what people and machines wrote down.
fn respond(
    events: &[Event],
    impact_began: Moment,
    restored: Moment,
) -> Result<Timeline, RecordError> {
    let during = |event: &&Event| event.at >= impact_began && event.at <= restored;
    let first = |step: &'static str, wanted: &dyn Fn(&Event) -> bool| {
        events
            .iter()
            .filter(during)
            .find(|event| wanted(event))
            .ok_or(RecordError::Unrecorded(step))
    };

    let told = first("the detection", &|event| {
        event.is("ticket") || event.is("firing") && event.has("severity", "page")
    })?;
    let detected_by = if told.is("ticket") {
        Detector::User
    } else {
        Detector::Alert
    };
    let acknowledged = first("the acknowledgment", &|event| {
        event.at >= told.at && event.is("acknowledged")
    })?;
    let retracted: BTreeSet<&str> = events
        .iter()
        .filter(|event| event.is("cause_retracted"))
        .filter_map(|event| event.text("cause"))
        .collect();
    let cause = first("the cause", &|event| {
        event.is("cause")
            && event
                .text("cause")
                .is_some_and(|cause| !retracted.contains(cause))
    })?;
    let rolled_back: BTreeSet<&str> = events
        .iter()
        .filter(|event| event.is("rolled_back"))
        .filter_map(|event| event.text("change"))
        .collect();
    let mitigation = events
        .iter()
        .filter(during)
        .filter(|event| event.is("applied") && event.at >= told.at)
        .rfind(|event| {
            event
                .text("change")
                .is_some_and(|change| !rolled_back.contains(change))
        })
        .ok_or(RecordError::Unrecorded("the mitigation"))?;

    Ok(Timeline {
        impact_began,
        detected: told.at,
        detected_by,
        acknowledged: acknowledged.at,
        cause_identified: cause.at,
        mitigated: mitigation.at,
        restored,
    })
}

/// An event of [`SERVICE`].
struct Event {
    at: Moment,
    kind: String,
    line: LogLine,
}

impl Event {
    fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.line.str(field).ok()
    }

    fn has(&self, field: &str, value: &str) -> bool {
        self.text(field) == Some(value)
    }
}

/// The events of the service in the order of time. Each source writes the times of its own zone.
fn read_events(text: &str) -> Result<Vec<Event>, RecordError> {
    let mut events = Vec::new();
    for line in logs::parse(text).map_err(RecordError::Events)? {
        let kind = line.str("kind")?.to_owned();
        let Some(Timestamp::Unix(nanos)) = line.time else {
            return Err(RecordError::Undated(line.line));
        };
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000));
        let at = Moment(seconds.map_err(|_| RecordError::Undated(line.line))?);
        if line.str("service").is_ok_and(|service| service == SERVICE) {
            events.push(Event { at, kind, line });
        }
    }
    events.sort_by_key(|event| event.at);
    Ok(events)
}

/// The metrics of the night, by series and time.
struct Metrics(Scrape);

/// The values of one series in the order of time.
type Points = BTreeMap<Moment, f64>;

impl Metrics {
    fn read(text: &str) -> Result<Self, RecordError> {
        Ok(Metrics(Scrape::parse(text).map_err(RecordError::Metrics)?))
    }

    fn points(&self, name: &'static str, labels: &[(&str, &str)]) -> Result<Points, RecordError> {
        let points: Points = self
            .0
            .samples(name)
            .filter(|sample| sample.labels.equal(labels))
            .filter_map(|sample| {
                let at = sample.timestamp?.as_millis().div_euclid(1_000);
                Some((Moment(at), sample.value))
            })
            .collect();
        if points.is_empty() {
            return Err(RecordError::Missing(name));
        }
        Ok(points)
    }

    /// By how much a counter grew up to each scrape, from the scrape before. A counter that falls
    /// was started again from zero, and has grown by what it shows.
    fn increases(
        &self,
        name: &'static str,
        labels: &[(&str, &str)],
    ) -> Result<Points, RecordError> {
        let points = self.points(name, labels)?;
        let grown = points.iter().zip(points.iter().skip(1));
        Ok(grown
            .map(|((_, &before), (&at, &now))| (at, if now < before { now } else { now - before }))
            .collect())
    }

    fn within(&self, bound: f64) -> Result<Points, RecordError> {
        let le = format!("{bound:?}");
        self.increases(BUCKET, &[("le", &le)])
    }

    fn minutes(&self) -> Result<Vec<Minute>, RecordError> {
        let within = self.within(OBJECTIVE_SECONDS)?;
        Ok(self
            .increases(COUNT, &[])?
            .into_iter()
            .filter_map(|(at, payments)| {
                let slow = payments - within.get(&at)?;
                Some(Minute { at, payments, slow })
            })
            .collect())
    }

    fn impact(&self, minutes: &[Minute], timeline: &Timeline) -> Result<Impact, RecordError> {
        let window = timeline.impact_began..=timeline.restored;
        let sum = |points: Points| -> f64 { points.range(window.clone()).map(|(_, v)| v).sum() };
        let slow: f64 = minutes
            .iter()
            .filter(|minute| window.contains(&minute.at))
            .map(|minute| minute.slow)
            .sum();
        let there = self
            .points(SESSIONS_ACTIVE, &[])?
            .range(..timeline.impact_began)
            .next_back()
            .map_or(0.0, |(_, &active)| active)
            + sum(self.increases(SESSIONS, &[])?);
        let met = sum(self.increases(SESSIONS_SLOW, &[])?);
        let peak = self
            .points(WAITING, &[])?
            .range(window.clone())
            .map(|(_, &waiting)| waiting)
            .fold(0.0, f64::max);
        Ok(Impact {
            slow_payments: whole(slow),
            sessions_share: if there > 0.0 { met / there } else { 0.0 },
            p99_above: self.p99_above(minutes, timeline)?,
            peak_waiting: whole(peak),
        })
    }

    /// The buckets tell which bounds a p99 exceeds, and no more.
    fn p99_above(&self, minutes: &[Minute], timeline: &Timeline) -> Result<f64, RecordError> {
        let window = timeline.impact_began..=timeline.restored;
        let bounds: BTreeSet<String> = self
            .0
            .samples(BUCKET)
            .filter_map(|sample| sample.labels.get("le").map(str::to_owned))
            .collect();
        let mut exceeded = 0.0_f64;
        for le in bounds {
            let Some(bound) = le.parse::<f64>().ok().filter(|bound| bound.is_finite()) else {
                continue;
            };
            let within = self.increases(BUCKET, &[("le", &le)])?;
            let exceeds = |minute: &Minute| {
                within.get(&minute.at).is_some_and(|within| {
                    minute.payments - within > TOLERATED_SHARE * minute.payments
                })
            };
            if minutes
                .iter()
                .filter(|minute| window.contains(&minute.at))
                .any(exceeds)
            {
                exceeded = exceeded.max(bound);
            }
        }
        Ok(exceeded)
    }

    /// From the series that Prometheus keeps of its own alerts.
    fn alert_delay(&self, timeline: &Timeline) -> Option<AlertDelay> {
        let times = |state: &str| -> BTreeSet<Moment> {
            self.0
                .samples("ALERTS")
                .filter(|sample| sample.labels.get("alertstate") == Some(state))
                .filter_map(|sample| sample.timestamp)
                .map(|at| Moment(at.as_millis().div_euclid(1_000)))
                .collect()
        };
        let pending = times("pending");
        let window = timeline.impact_began..=timeline.restored;
        let fired = times("firing").range(window).next().copied()?;
        // Pending in one piece up to the moment at which it fired: a condition that lapsed in
        // between starts the `for` again.
        let scrapes = self.points(COUNT, &[]).ok()?;
        let since = scrapes
            .range(..fired)
            .rev()
            .map(|(&at, _)| at)
            .take_while(|at| pending.contains(at))
            .last()
            .unwrap_or(fired);
        Some(AlertDelay {
            condition: since.since(timeline.impact_began),
            held: fired.since(since),
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a night; a cast saturates"
)]
fn whole(count: f64) -> u64 {
    count.round() as u64
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
