//! Alerting drills: a rule file, and the routes behind it, over a scenario in virtual time.
//!
//! [`Alerting`] is a configuration, [`Alerting::drill`] plays it over a storage, and the [`Drill`]
//! answers who was told what and when: which episodes fired and matched some labels ([`Wanted`]),
//! in which stretch of time ([`Span`]), and which notifications were sent of them. [`Drill::tell`]
//! puts all of it into a [`Timeline`]. [`Score`] counts right, needless and missing alerts over
//! several scenarios.
//!
//! Not for verdicts: what has to fire and what has to be silent is the checker's.
//!
//! ```
//! use std::time::Duration;
//! use drill::alerts::{Alerting, Span, Wanted};
//! use promql::{Labels, Storage};
//!
//! let alerting = Alerting::parse(
//!     "groups:
//! - name: pool
//!   rules:
//!   - alert: Saturated
//!     expr: queue > 500
//!     for: 2m
//!     labels: {severity: warning}
//! ")?;
//! let mut storage = Storage::new();
//! for at_ms in (0..=900_000).step_by(15_000) {
//!     let waiting = if (300_000..600_000).contains(&at_ms) { 900.0 } else { 3.0 };
//!     storage.append(Labels::named("queue", [("job", "mail")]), at_ms, waiting)?;
//! }
//! let drill = alerting.drill(storage, Span::new(0, 900_000))?;
//!
//! let warning = Wanted::any().with("severity", "warning");
//! let fired = drill.first(&warning, Span::new(300_000, 480_000)).unwrap();
//! assert_eq!(fired.firing_ms(), Some(420_000));
//! assert!(drill.first(&warning, Span::new(0, 299_999)).is_none());
//! assert!(drill.still_firing(&warning, 660_000).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use promql::routing::{
    Notification, NotifiedAlert, Routing, SimulateError, Simulation, Suppression,
};
use promql::rules::{Episode, EvaluateError, Evaluation, Failure, RuleFile, Settings};
use promql::yaml::ConfigError;
use promql::{Dialect, Labels, Storage};

use crate::{Clock, Lane, Timeline, span};

/// How often rules are evaluated unless a group or the caller says otherwise.
pub const EVALUATION_INTERVAL: Duration = Duration::from_secs(15);

/// A stretch of time, both ends included, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first moment.
    pub from_ms: i64,
    /// Its last moment.
    pub to_ms: i64,
}

impl Span {
    /// From one moment to another.
    ///
    /// # Panics
    /// When it ends before it begins.
    pub fn new(from_ms: i64, to_ms: i64) -> Self {
        assert!(
            from_ms <= to_ms,
            "a span from {from_ms} ms ends before, at {to_ms} ms"
        );
        Span { from_ms, to_ms }
    }

    /// Whether the moment lies in it.
    pub fn holds(self, at_ms: i64) -> bool {
        (self.from_ms..=self.to_ms).contains(&at_ms)
    }
}

/// Labels that an alert has to have, each with one of some values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Wanted {
    labels: Vec<(String, Vec<String>)>,
}

impl Wanted {
    /// Every alert.
    pub fn any() -> Self {
        Wanted::default()
    }

    /// Only with this value of a label. The empty value is a label that is not there.
    pub fn with(self, label: &str, value: &str) -> Self {
        self.with_one_of(label, [value])
    }

    /// Only with one of these values of a label.
    pub fn with_one_of<'a>(
        mut self,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let values = values.into_iter().map(str::to_owned).collect();
        self.labels.push((label.to_owned(), values));
        self
    }

    /// Whether no label keeps an alert from being wanted by both.
    pub fn overlaps(&self, other: &Wanted) -> bool {
        self.labels.iter().all(|(label, values)| {
            other
                .labels
                .iter()
                .filter(|(theirs, _)| theirs == label)
                .all(|(_, theirs)| values.iter().any(|value| theirs.contains(value)))
        })
    }

    /// Whether an alert with these labels is wanted.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.labels
            .iter()
            .all(|(label, values)| values.iter().any(|value| value == labels.value(label)))
    }
}

/// As a selector: `{severity="critical", signal=~"latency|errors"}`; of every alert `{}`.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (nth, (label, values)) in self.labels.iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            let operator = if values.len() == 1 { "=" } else { "=~" };
            write!(f, "{comma}{label}{operator}\"{}\"", values.join("|"))?;
        }
        f.write_str("}")
    }
}

/// A rule file, how often it is evaluated, and the routes of what fires.
#[derive(Clone, Debug)]
pub struct Alerting {
    rules: RuleFile,
    routing: Option<Routing>,
    interval: Duration,
}

impl Alerting {
    /// Reads a rule file, with queries as Prometheus 2.42 understands them; see
    /// [`Alerting::of`] for another dialect.
    ///
    /// # Errors
    /// Every problem that was found, with its place.
    pub fn parse(rules: &str) -> Result<Self, ConfigError> {
        RuleFile::parse_as(rules, Dialect::V2).map(Alerting::of)
    }

    /// Rules that are evaluated every [`EVALUATION_INTERVAL`], and nobody who is told.
    pub fn of(rules: RuleFile) -> Self {
        Alerting {
            rules,
            routing: None,
            interval: EVALUATION_INTERVAL,
        }
    }

    /// Sends what fires through an Alertmanager of this configuration.
    #[must_use]
    pub fn routed(mut self, routing: Routing) -> Self {
        self.routing = Some(routing);
        self
    }

    /// Evaluates groups that do not say so themselves at this interval.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The rules.
    pub fn rules(&self) -> &RuleFile {
        &self.rules
    }

    /// The Alertmanager's configuration, if there is one.
    pub fn routing(&self) -> Option<&Routing> {
        self.routing.as_ref()
    }

    /// Plays the configuration over the metrics of a scenario. Rules are evaluated within the span
    /// only: begin late enough for what came before to be in the windows of the queries.
    ///
    /// # Errors
    /// When that would be more work than anybody would wait for.
    pub fn drill(&self, mut storage: Storage, within: Span) -> Result<Drill, DrillError> {
        let settings = Settings::new(within.from_ms, within.to_ms, self.interval);
        let evaluation = self.rules.evaluate(&mut storage, &settings)?;
        let told = match &self.routing {
            Some(routing) => routing.simulate(&evaluation.timeline.posts(), &[], within.to_ms)?,
            None => Simulation::default(),
        };
        Ok(Drill {
            evaluation,
            told,
            within,
        })
    }
}

impl Alerting {
    /// As [`Alerting::drill`] over a copy of the metrics, and a rule that fails is an error.
    ///
    /// # Errors
    /// As [`Alerting::drill`], and at the first rule that failed at any moment.
    pub fn play(&self, storage: &Storage, within: Span) -> Result<Drill, DrillError> {
        let drill = self.drill(storage.clone(), within)?;
        match drill.failures().first() {
            Some(failure) => Err(DrillError::Rule(failure.clone())),
            None => Ok(drill),
        }
    }

    /// A copy of the metrics with what the rules record of them within a span.
    ///
    /// # Errors
    /// As [`Alerting::play`].
    pub fn recorded(&self, storage: &Storage, within: Span) -> Result<Storage, DrillError> {
        let mut storage = storage.clone();
        let settings = Settings::new(within.from_ms, within.to_ms, self.interval);
        let evaluation = self.rules.evaluate(&mut storage, &settings)?;
        match evaluation.failures.into_iter().next() {
            Some(failure) => Err(DrillError::Rule(failure)),
            None => Ok(storage),
        }
    }
}

/// Why a configuration was not played. Completes "could not play the configuration: …".
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The rules were not evaluated.
    #[error("could not evaluate the rules: {0}")]
    Rules(#[from] EvaluateError),
    /// A rule failed, which a real server tells in its log only.
    #[error("could not evaluate the rules: {0}")]
    Rule(Failure),
    /// What fired was not sent.
    #[error("could not send what fired: {0}")]
    Routes(#[from] SimulateError),
}

/// What a configuration said of a scenario.
#[derive(Clone, Debug)]
pub struct Drill {
    evaluation: Evaluation,
    told: Simulation,
    within: Span,
}

impl Drill {
    /// Every episode, those among them that were pending and never fired.
    pub fn episodes(&self) -> &[Episode] {
        self.evaluation.timeline.episodes()
    }

    /// The episodes that fired and are wanted, by the moment from which they fired.
    pub fn fired(&self, wanted: &Wanted) -> Vec<&Episode> {
        let mut fired: Vec<&Episode> = self
            .episodes()
            .iter()
            .filter(|episode| episode.firing_ms().is_some() && wanted.matches(episode.labels()))
            .collect();
        fired.sort_by_key(|episode| episode.firing_ms());
        fired
    }

    /// The first wanted episode that fires at any moment of the span, be it since before.
    pub fn first(&self, wanted: &Wanted, within: Span) -> Option<&Episode> {
        self.fired(wanted)
            .into_iter()
            .find(|episode| fires_within(episode, within))
    }

    /// A wanted episode that fires at this moment, if there is one: for what has to be over by then.
    pub fn still_firing(&self, wanted: &Wanted, at_ms: i64) -> Option<&Episode> {
        self.first(wanted, Span::new(at_ms, at_ms))
    }

    /// What was sent, in the order of time; nothing without routes.
    pub fn notifications(&self) -> &[Notification] {
        &self.told.notifications
    }

    /// The first time within the span that a receiver was told that a wanted alert fires.
    pub fn told(
        &self,
        receiver: &str,
        wanted: &Wanted,
        within: Span,
    ) -> Option<(&Notification, &NotifiedAlert)> {
        self.notifications()
            .iter()
            .filter(|sent| sent.receiver == receiver && within.holds(sent.at_ms))
            .find_map(|sent| {
                let alert = sent.firing.iter().find(|of| wanted.matches(&of.labels))?;
                Some((sent, alert))
            })
    }

    /// How many messages receivers got within the span that say that something fires.
    pub fn messages(&self, receiver: &str, within: Span) -> usize {
        self.notifications()
            .iter()
            .filter(|sent| sent.receiver == receiver && within.holds(sent.at_ms))
            .filter(|sent| sent.is_firing())
            .count()
    }

    /// Alerts that were kept back because another one inhibits them, with that one's labels.
    pub fn inhibited(&self) -> impl Iterator<Item = (&Labels, &Labels)> {
        self.told
            .suppressed
            .iter()
            .filter_map(|kept| match &kept.by {
                Suppression::Inhibited { by } => Some((&kept.labels, by)),
                _ => None,
            })
    }

    /// Rules that failed while they were evaluated, which a real server tells in its log only.
    pub fn failures(&self) -> &[Failure] {
        &self.evaluation.failures
    }

    /// Adds to a timeline what the configuration said: each alert that became pending, fired and
    /// ended, and each message that was sent.
    pub fn tell(&self, timeline: &mut Timeline) {
        for episode in self.episodes() {
            let who = in_short(episode.labels());
            let active_ms = episode.active_ms();
            match episode.firing_ms() {
                Some(firing_ms) if firing_ms > active_ms => {
                    timeline.add(active_ms, Lane::Said, format!("pending   {who}"));
                    timeline.add(firing_ms, Lane::Said, format!("FIRING    {who}"));
                }
                Some(firing_ms) => {
                    timeline.add(firing_ms, Lane::Said, format!("FIRING    {who}"));
                }
                None => {
                    let end = episode.ended_ms().map_or_else(
                        || "to the end".to_owned(),
                        |ended_ms| format!("for {}", span(ended_ms - active_ms)),
                    );
                    timeline.add(active_ms, Lane::Said, format!("pending   {who} ({end})"));
                }
            }
            if let (Some(_), Some(ended_ms)) = (episode.firing_ms(), episode.ended_ms()) {
                timeline.add(ended_ms, Lane::Said, format!("resolved  {who}"));
            }
        }
        for sent in self.notifications() {
            let text = if sent.is_firing() {
                format!("message to {}: {}", sent.receiver, counted(&sent.firing))
            } else {
                let resolved = counted(&sent.resolved);
                format!("message to {}, resolved: {resolved}", sent.receiver)
            };
            timeline.add(sent.at_ms, Lane::Said, text);
        }
    }

    /// The stretch of time in which rules were evaluated.
    pub fn within(&self) -> Span {
        self.within
    }
}

/// An alert as people call it: its name, and its other labels in braces, those last that say where.
pub fn named(labels: &Labels) -> String {
    let name = labels.value("alertname");
    let pairs: Vec<String> = in_order_of_interest(labels)
        .map(|(label, value)| format!("{label}={value}"))
        .collect();
    if pairs.is_empty() {
        name.to_owned()
    } else {
        format!("{name} {{{}}}", pairs.join(" "))
    }
}

/// The same for a line of a timeline, where the names of labels would take too much room.
fn in_short(labels: &Labels) -> String {
    let values = in_order_of_interest(labels).map(|(_, value)| value);
    let words: Vec<&str> = std::iter::once(labels.value("alertname"))
        .chain(values)
        .collect();
    words.join(" ")
}

/// Alerts that differ in their instance alone are counted: `3 x Saturated warning mail`.
fn counted(alerts: &[NotifiedAlert]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for alert in alerts {
        let service = in_short(&alert.labels.without(&["instance"]));
        *counts.entry(service).or_insert(0) += 1;
    }
    let texts: Vec<String> = counts
        .into_iter()
        .map(|(who, count)| match count {
            1 => who,
            _ => format!("{count} x {who}"),
        })
        .collect();
    texts.join(", ")
}

/// The labels but for the alert's name: how bad, what, and last where.
fn in_order_of_interest(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    let mut others: Vec<(&str, &str)> = labels
        .iter()
        .filter(|&(label, _)| label != "alertname")
        .collect();
    others.sort_by_key(|&(label, _)| match label {
        "severity" => 0,
        "job" => 2,
        "instance" => 3,
        _ => 1,
    });
    others.into_iter()
}

fn fires_within(episode: &Episode, within: Span) -> bool {
    episode.firing_ms().is_some_and(|firing_ms| {
        firing_ms <= within.to_ms
            && episode
                .ended_ms()
                .is_none_or(|ended_ms| ended_ms > within.from_ms)
    })
}

/// A scenario: the metrics of a system, what happened to it, and what has to be said of that.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is, as in "8 % of the answers are errors".
    pub title: String,
    /// The metrics, from long enough before [`Scenario::within`].
    pub storage: Storage,
    /// When rules are evaluated.
    pub within: Span,
    /// The moment from which times are counted: when what happens begins.
    pub origin_ms: i64,
    /// What happens and when, for the timeline.
    pub happened: Vec<(i64, String)>,
    /// What has to be said.
    pub due: Vec<Due>,
    /// What may be said beside that.
    pub allowed: Vec<Allowed>,
}

/// Alerts one of which has to fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub wanted: Wanted,
    /// From when on and until when.
    pub incident: Incident,
}

/// Alerts that may fire, and need not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Which.
    pub wanted: Wanted,
    /// The moments at which they may begin to fire.
    pub within: Span,
}

impl Scenario {
    /// What had to be said and was not, or too late.
    pub fn missed(&self, drill: &Drill) -> Vec<&Due> {
        self.due
            .iter()
            .filter(|due| {
                drill
                    .fired(&due.wanted)
                    .into_iter()
                    .all(|episode| !due.incident.is_seen_by(episode))
            })
            .collect()
    }

    /// What fired, and was neither due nor allowed.
    pub fn needless<'d>(&self, drill: &'d Drill) -> Vec<&'d Episode> {
        let mut fired = drill.fired(&Wanted::any());
        fired.retain(|episode| !self.is_right(episode));
        fired
    }

    /// Whether an alert that fired was due or allowed.
    pub fn is_right(&self, episode: &Episode) -> bool {
        let due = self
            .due
            .iter()
            .any(|due| due.wanted.matches(episode.labels()) && due.incident.is_met_by(episode));
        let allowed = self.allowed.iter().any(|of| {
            let at = episode.firing_ms();
            of.wanted.matches(episode.labels()) && at.is_some_and(|at| of.within.holds(at))
        });
        due || allowed
    }

    /// What is wrong with what was said, in a sentence and a timeline: something that was due and did
    /// not come in time, or something that was neither due nor allowed.
    pub fn complaint(&self, drill: &Drill) -> Option<String> {
        let what = if let Some(due) = self.missed(drill).first() {
            let within = span(due.incident.due_ms - due.incident.begins_ms);
            format!("no alert {} begins to fire within {within}", due.wanted)
        } else {
            let needless = self.needless(drill);
            let first = needless.first()?;
            let at = Clock::from(self.origin_ms).time(first.firing_ms().unwrap_or_default());
            let verb = match first.labels().value("severity") {
                "critical" => "wakes somebody",
                _ => "fires",
            };
            format!("{} {verb} at {at}", named(first.labels()))
        };
        Some(format!("{}: {what}\n{}", self.title, self.timeline(drill)))
    }

    /// What happened, what was said of it, and by when what was due.
    pub fn timeline(&self, drill: &Drill) -> Timeline {
        let mut timeline = Timeline::from(self.origin_ms);
        for (at_ms, what) in &self.happened {
            timeline.add(*at_ms, Lane::Happened, what.clone());
        }
        for due in &self.due {
            let text = format!("due       {}", due.wanted);
            timeline.add(due.incident.due_ms, Lane::Due, text);
        }
        drill.tell(&mut timeline);
        timeline
    }
}

/// Something that has to be seen: an alert that fires from `begins` on is right until `until_ms`,
/// and one that fires by `due_ms` is in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incident {
    /// When it begins.
    pub begins_ms: i64,
    /// The latest moment at which an alert has to fire.
    pub due_ms: i64,
    /// From this moment on an alert that begins to fire is a false one.
    pub until_ms: i64,
}

impl Incident {
    /// Whether the alert fired for it, in time or not.
    pub fn is_met_by(&self, episode: &Episode) -> bool {
        episode
            .firing_ms()
            .is_some_and(|at| (self.begins_ms..self.until_ms).contains(&at))
    }

    /// Whether the alert fired for it in time.
    pub fn is_seen_by(&self, episode: &Episode) -> bool {
        episode
            .firing_ms()
            .is_some_and(|at| (self.begins_ms..=self.due_ms).contains(&at))
    }
}

/// How many alerts were right, and how many incidents were seen, over several scenarios.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Alerts that fired for an incident.
    pub right: usize,
    /// Alerts that fired for nothing.
    pub needless: usize,
    /// Incidents of which an alert told in time.
    pub seen: usize,
    /// Incidents of which none did.
    pub missed: usize,
}

impl Score {
    /// Adds what a drill said with wanted alerts about the incidents of its scenario; with no
    /// incident, everything that it said is needless.
    pub fn add(&mut self, drill: &Drill, wanted: &Wanted, incidents: &[Incident]) {
        let fired = drill.fired(wanted);
        let right = fired
            .iter()
            .filter(|episode| incidents.iter().any(|incident| incident.is_met_by(episode)))
            .count();
        self.right += right;
        self.needless += fired.len() - right;
        let seen = incidents
            .iter()
            .filter(|incident| fired.iter().any(|episode| incident.is_seen_by(episode)))
            .count();
        self.seen += seen;
        self.missed += incidents.len() - seen;
    }

    /// Adds what a drill said of a scenario: of alerts that are wanted, and of what was due among
    /// them. What was allowed is right.
    pub fn add_scenario(&mut self, drill: &Drill, scenario: &Scenario, wanted: &Wanted) {
        let fired = drill.fired(wanted);
        let right = fired
            .iter()
            .filter(|episode| scenario.is_right(episode))
            .count();
        self.right += right;
        self.needless += fired.len() - right;
        let missed = scenario.missed(drill);
        for due in &scenario.due {
            if !due.wanted.overlaps(wanted) {
                continue;
            }
            if missed.contains(&due) {
                self.missed += 1;
            } else {
                self.seen += 1;
            }
        }
    }

    /// The share of the alerts that were right; `None` where none fired.
    #[expect(clippy::cast_precision_loss, reason = "numbers of alerts")]
    pub fn precision(self) -> Option<f64> {
        let all = self.right + self.needless;
        (all > 0).then(|| self.right as f64 / all as f64)
    }

    /// The share of the incidents that were seen in time; `None` where there were none.
    #[expect(clippy::cast_precision_loss, reason = "numbers of incidents")]
    pub fn recall(self) -> Option<f64> {
        let all = self.seen + self.missed;
        (all > 0).then(|| self.seen as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    const RULES: &str = "
groups:
- name: pool
  rules:
  - alert: Saturated
    expr: queue > 500
    for: 2m
    labels: {severity: warning}
  - alert: Slow
    expr: p99 > 1
    for: 5m
    labels: {severity: critical}
";

    const ROUTES: &str = "
route:
  receiver: tickets
  group_by: [job]
  group_wait: 30s
  routes:
  - receiver: pager
    matchers: ['severity=\"critical\"']
inhibit_rules:
- source_matchers: ['severity=\"critical\"']
  target_matchers: ['severity=\"warning\"']
  equal: [job]
receivers:
- name: tickets
  webhook_configs: [{url: 'http://127.0.0.1:9/tickets'}]
- name: pager
  webhook_configs: [{url: 'http://127.0.0.1:9/pager'}]
";

    /// `queue` and `p99` of a job, high between two minutes.
    fn storage(queue: (i64, i64), p99: (i64, i64)) -> Storage {
        let mut storage = Storage::new();
        for at_ms in (0..=60 * MINUTE).step_by(15_000) {
            for (name, (from, to), high) in [("queue", queue, 900.0), ("p99", p99, 2.0)] {
                let is_high = (from * MINUTE..to * MINUTE).contains(&at_ms);
                let value = if is_high { high } else { 0.1 };
                storage
                    .append(Labels::named(name, [("job", "mail")]), at_ms, value)
                    .unwrap();
            }
        }
        storage
    }

    fn drill(queue: (i64, i64), p99: (i64, i64)) -> Drill {
        Alerting::parse(RULES)
            .unwrap()
            .routed(Routing::parse(ROUTES).unwrap())
            .drill(storage(queue, p99), Span::new(0, 60 * MINUTE))
            .unwrap()
    }

    fn severity(value: &str) -> Wanted {
        Wanted::any().with("severity", value)
    }

    #[test]
    fn what_fires_is_found_by_labels_and_time() {
        let drill = drill((10, 20), (0, 0));
        let whole = Span::new(0, 60 * MINUTE);
        let episode = drill.first(&severity("warning"), whole).unwrap();
        assert_eq!(episode.firing_ms(), Some(12 * MINUTE));
        assert!(drill.first(&severity("critical"), whole).is_none());
        assert!(
            drill
                .first(&severity("warning"), Span::new(0, 12 * MINUTE - 1))
                .is_none()
        );
        assert!(
            drill
                .still_firing(&severity("warning"), 19 * MINUTE)
                .is_some()
        );
        assert!(
            drill
                .still_firing(&severity("warning"), 20 * MINUTE)
                .is_none()
        );
        let either = Wanted::any().with_one_of("severity", ["critical", "warning"]);
        assert_eq!(drill.fired(&either).len(), 1);
        assert_eq!(either.to_string(), "{severity=~\"critical|warning\"}");
    }

    #[test]
    fn a_receiver_is_told_after_the_wait_of_its_group() {
        let drill = drill((10, 20), (0, 0));
        let whole = Span::new(0, 60 * MINUTE);
        let (sent, alert) = drill.told("tickets", &severity("warning"), whole).unwrap();
        assert_eq!(sent.at_ms, 12 * MINUTE + 30_000);
        assert_eq!(alert.labels.value("job"), "mail");
        assert!(drill.told("pager", &Wanted::any(), whole).is_none());
        assert_eq!(drill.messages("tickets", whole), 1);
    }

    #[test]
    fn a_warning_under_a_critical_alert_is_kept_back() {
        let drill = drill((14, 30), (5, 30));
        let whole = Span::new(0, 60 * MINUTE);
        assert!(drill.told("pager", &severity("critical"), whole).is_some());
        assert!(drill.told("tickets", &Wanted::any(), whole).is_none());
        let (kept, by) = drill.inhibited().next().unwrap();
        assert_eq!(kept.value("alertname"), "Saturated");
        assert_eq!(by.value("alertname"), "Slow");
    }

    #[test]
    fn the_timeline_tells_of_pending_firing_and_messages_in_order() {
        let drill = drill((10, 20), (40, 43));
        let mut timeline = Timeline::from(10 * MINUTE);
        timeline.add(10 * MINUTE, Lane::Happened, "the queue fills");
        drill.tell(&mut timeline);
        let text = timeline.to_string();
        let texts: Vec<&str> = timeline
            .entries()
            .iter()
            .map(|&(_, _, text)| text)
            .collect();
        assert_eq!(
            texts,
            [
                "the queue fills",
                "pending   Saturated warning mail",
                "FIRING    Saturated warning mail",
                "message to tickets: Saturated warning mail",
                "resolved  Saturated warning mail",
                "message to tickets, resolved: Saturated warning mail",
                "pending   Slow critical mail (for 3m00s)",
            ],
            "{text}"
        );
    }

    #[test]
    fn alerts_that_differ_in_their_instance_are_counted_in_a_message() {
        let alert = |instance: &str| NotifiedAlert {
            labels: Labels::new([
                ("alertname", "Saturated"),
                ("instance", instance),
                ("job", "mail"),
                ("severity", "warning"),
            ]),
            annotations: Labels::empty(),
            starts_ms: 0,
            ends_ms: None,
        };
        let alerts = [alert("a:1"), alert("b:1")];
        assert_eq!(counted(&alerts), "2 x Saturated warning mail");
        assert_eq!(counted(&alerts[1..]), "Saturated warning mail");
        assert_eq!(
            named(&alerts[0].labels),
            "Saturated {severity=warning job=mail instance=a:1}"
        );
    }

    #[test]
    fn precision_counts_alerts_and_recall_counts_incidents() {
        let mut score = Score::default();
        let incident = Incident {
            begins_ms: 10 * MINUTE,
            due_ms: 13 * MINUTE,
            until_ms: 25 * MINUTE,
        };
        score.add(&drill((10, 20), (0, 0)), &Wanted::any(), &[incident]);
        score.add(&drill((40, 50), (0, 0)), &Wanted::any(), &[]);
        let late = Incident {
            due_ms: 11 * MINUTE,
            ..incident
        };
        score.add(&drill((10, 20), (0, 0)), &Wanted::any(), &[late]);
        assert_eq!(score.precision(), Some(2.0 / 3.0));
        assert_eq!(score.recall(), Some(0.5));
        assert_eq!(Score::default().precision(), None);
        assert_eq!(Score::default().recall(), None);
    }

    #[test]
    fn rules_that_cannot_be_read_say_where() {
        let error = Alerting::parse("groups:\n- name: a\n  rules:\n  - alert: A\n    expr: up >\n");
        assert!(error.unwrap_err().to_string().contains("line 5"));
    }
}
