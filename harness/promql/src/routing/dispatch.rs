//! The dispatcher in virtual time: groups, their timers, what mutes, and the notification log.
//!
//! Follows Alertmanager 0.25. What happens at one and the same millisecond happens in this order:
//! posts, then flushes of groups in the order in which the groups were made, then the removal of
//! empty groups. A flush therefore sees what is posted at its own moment. Deliveries take no time, and
//! a repetition that falls exactly on a flush is sent then: real timers are always a little late, so
//! there it is due by then too, unless the delivery before took longer than the timers' delays.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::Labels;

use super::post::Post;
use super::tree::Route;
use super::{Integration, Routing, Silence, millis};

/// How often the dispatcher removes groups that have become empty, counted from the epoch.
const CLEANUP_MS: i64 = 30_000;

/// How often the notification log forgets what has expired, counted from the epoch.
const LOG_MAINTENANCE_MS: i64 = 15 * 60_000;

/// How long the notification log remembers at most.
const LOG_RETENTION: Duration = Duration::from_secs(120 * 3600);

/// The most flushes of groups that one simulation makes.
pub const MAX_FLUSHES: u64 = 5_000_000;

/// Why a timeline was not played to its end. Completes "could not simulate the notifications: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// More flushes than anybody would wait for.
    #[error(
        "groups are flushed more than {MAX_FLUSHES} times, those of receiver `{receiver}` every {}: \
         choose a longer `group_interval`",
        crate::duration::format_duration(*interval)
    )]
    TooManyFlushes {
        /// The receiver of the route in hand.
        receiver: String,
        /// Its interval.
        interval: Duration,
    },
}

/// What a timeline of alerts led to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Simulation {
    /// What was sent, in order of time.
    pub notifications: Vec<Notification>,
    /// What was kept back, in order of time: one entry for each alert and flush.
    pub suppressed: Vec<Suppressed>,
}

/// One message to one integration of a receiver.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The receiver's name.
    pub receiver: String,
    /// The integration of the receiver.
    pub integration: Integration,
    /// The group, as a webhook's `groupKey` has it.
    pub group_key: String,
    /// The labels that the group has in common by `group_by`.
    pub group_labels: Labels,
    /// The alerts that fire, by labels.
    pub firing: Vec<NotifiedAlert>,
    /// The alerts that are resolved, by labels.
    pub resolved: Vec<NotifiedAlert>,
}

impl Notification {
    /// Whether it says that anything fires; otherwise all is resolved.
    pub fn is_firing(&self) -> bool {
        !self.firing.is_empty()
    }
}

/// An alert as a notification holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct NotifiedAlert {
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// Since when it fires.
    pub starts_ms: i64,
    /// When it was resolved; `None` while it fires.
    pub ends_ms: Option<i64>,
}

/// An alert that was kept back at a flush of its group.
#[derive(Debug, Clone, PartialEq)]
pub struct Suppressed {
    /// When.
    pub at_ms: i64,
    /// The receiver that was not told.
    pub receiver: String,
    /// The alert's labels.
    pub labels: Labels,
    /// Why.
    pub by: Suppression,
}

/// Why an alert was kept back.
#[derive(Debug, Clone, PartialEq)]
pub enum Suppression {
    /// Another alert inhibits it.
    Inhibited {
        /// That alert's labels.
        by: Labels,
    },
    /// The route is muted in this time interval.
    MutedIn {
        /// The interval's name.
        interval: String,
    },
    /// The route is active in other time intervals only.
    NotActive,
    /// A silence.
    Silenced {
        /// Which, counted from 0 in the order in which they were given.
        index: usize,
    },
}

/// An alert as Alertmanager keeps it.
#[derive(Debug, Clone, PartialEq)]
struct Alert {
    labels: Labels,
    annotations: Labels,
    starts_ms: i64,
    ends_ms: i64,
    /// The end is only when it was last heard of plus `resolve_timeout`.
    ends_by_timeout: bool,
}

impl Alert {
    fn resolved_at(&self, at_ms: i64) -> bool {
        self.ends_ms <= at_ms
    }

    /// What is kept of two posts of one alert whose times overlap, `self` being the older.
    fn merged_with(&self, newer: Alert, now_ms: i64) -> Alert {
        let mut kept = newer;
        kept.starts_ms = kept.starts_ms.min(self.starts_ms);
        if kept.resolved_at(now_ms) {
            if self.resolved_at(now_ms) {
                kept.ends_ms = kept.ends_ms.max(self.ends_ms);
            }
        } else if self.ends_ms > kept.ends_ms && !self.ends_by_timeout {
            kept.ends_ms = self.ends_ms;
        }
        kept
    }
}

struct Group {
    labels: Labels,
    key: String,
    alerts: BTreeMap<Labels, Alert>,
    next_flush_ms: i64,
    has_flushed: bool,
    /// Since when it is empty, if it is.
    empty_since_ms: Option<i64>,
}

/// What the log knows of a group, receiver and integration.
struct LogEntry {
    at_ms: i64,
    expires_ms: i64,
    firing: BTreeSet<Labels>,
    resolved: BTreeSet<Labels>,
}

type GroupId = (usize, Labels);
type LogKey = (String, String, &'static str, usize);

struct Dispatcher<'a> {
    routing: &'a Routing,
    silences: &'a [Silence],
    routes: Vec<&'a Route>,
    alerts: HashMap<Labels, Alert>,
    /// The latest alerts that pass the source side of each inhibition rule.
    sources: Vec<BTreeSet<Labels>>,
    groups: Vec<Group>,
    group_of: HashMap<GroupId, usize>,
    route_of: Vec<usize>,
    /// The next flushes of groups that are not empty.
    timers: BTreeSet<(i64, usize)>,
    log: HashMap<LogKey, LogEntry>,
    flushes: u64,
    outcome: Simulation,
}

impl Routing {
    /// Plays posts of alerts until `until_ms` (included), with these silences, and says what is sent.
    ///
    /// The posts may be in any order. Posts of an alert without labels are left out, as Alertmanager
    /// refuses them. Time before the first post passes unseen. Equal input gives equal output.
    ///
    /// # Errors
    /// See [`SimulateError`].
    pub fn simulate(
        &self,
        posts: &[Post],
        silences: &[Silence],
        until_ms: i64,
    ) -> Result<Simulation, SimulateError> {
        let mut routes = Vec::new();
        collect(self.root(), &mut routes);
        let mut dispatcher = Dispatcher {
            routing: self,
            silences,
            routes,
            alerts: HashMap::new(),
            sources: vec![BTreeSet::new(); self.inhibit_rules().len()],
            groups: Vec::new(),
            group_of: HashMap::new(),
            route_of: Vec::new(),
            timers: BTreeSet::new(),
            log: HashMap::new(),
            flushes: 0,
            outcome: Simulation::default(),
        };
        let mut in_order: Vec<&Post> = posts
            .iter()
            .filter(|post| post.at_ms <= until_ms && !post.labels.is_empty())
            .collect();
        in_order.sort_by_key(|post| post.at_ms);
        for post in in_order {
            dispatcher.flush_before(post.at_ms)?;
            dispatcher.receive(post);
        }
        dispatcher.flush_before(until_ms.saturating_add(1))?;
        Ok(dispatcher.outcome)
    }
}

fn collect<'a>(route: &'a Route, into: &mut Vec<&'a Route>) {
    into.push(route);
    for below in route.routes() {
        collect(below, into);
    }
}

/// Whether a ticker that counts from the epoch ticks in `from_ms..before_ms`.
fn ticks(every_ms: i64, from_ms: i64, before_ms: i64) -> bool {
    let first = from_ms.div_euclid(every_ms) * every_ms;
    let first = if first < from_ms {
        first + every_ms
    } else {
        first
    };
    first < before_ms
}

impl Dispatcher<'_> {
    fn flush_before(&mut self, before_ms: i64) -> Result<(), SimulateError> {
        while let Some(&(at_ms, group)) = self.timers.first() {
            if at_ms >= before_ms {
                break;
            }
            self.flushes += 1;
            if self.flushes > MAX_FLUSHES {
                let route = self.routes[self.route_of[group]];
                return Err(SimulateError::TooManyFlushes {
                    receiver: route.receiver().to_owned(),
                    interval: route.group_interval(),
                });
            }
            self.timers.pop_first();
            self.flush(group, at_ms);
        }
        Ok(())
    }

    fn receive(&mut self, post: &Post) {
        let now_ms = post.at_ms;
        let starts_ms = post.starts_ms.or(post.ends_ms).unwrap_or(now_ms);
        let mut alert = Alert {
            labels: post.labels.clone(),
            annotations: post.annotations.clone(),
            starts_ms,
            ends_ms: post
                .ends_ms
                .unwrap_or(now_ms.saturating_add(millis(self.routing.resolve_timeout()))),
            ends_by_timeout: post.ends_ms.is_none(),
        };
        if post.starts_ms.is_none() && post.ends_ms.is_none() {
            alert.starts_ms = now_ms;
        }
        if let Some(old) = self.alerts.get(&alert.labels) {
            let overlaps = (alert.ends_ms > old.starts_ms && alert.ends_ms < old.ends_ms)
                || (alert.starts_ms > old.starts_ms && alert.starts_ms < old.ends_ms);
            if overlaps {
                alert = old.merged_with(alert, now_ms);
            }
        }
        for (rule, sources) in self.routing.inhibit_rules().iter().zip(&mut self.sources) {
            if super::all_match(rule.source(), &alert.labels) {
                sources.insert(alert.labels.clone());
            }
        }
        self.alerts.insert(alert.labels.clone(), alert.clone());
        for route in self.routing.routes_for(&alert.labels) {
            self.insert(route, &alert, now_ms);
        }
    }

    fn insert(&mut self, route: &Route, alert: &Alert, now_ms: i64) {
        let labels = route.group_labels(&alert.labels);
        let id = (route.index, labels.clone());
        let known = self.group_of.get(&id).copied().filter(|&group| {
            self.groups[group]
                .empty_since_ms
                .is_none_or(|since_ms| !ticks(CLEANUP_MS, since_ms, now_ms))
        });
        let group_wait_ms = millis(route.group_wait());
        let group = known.unwrap_or_else(|| {
            let group = self.groups.len();
            self.groups.push(Group {
                key: format!("{}:{}", route.key, labels.braced()),
                labels,
                alerts: BTreeMap::new(),
                next_flush_ms: now_ms.saturating_add(group_wait_ms),
                has_flushed: false,
                empty_since_ms: None,
            });
            self.route_of.push(route.index);
            self.group_of.insert(id, group);
            group
        });
        let entry = &mut self.groups[group];
        entry.alerts.insert(alert.labels.clone(), alert.clone());
        if entry.empty_since_ms.take().is_some() {
            // Its timer went on while it was empty.
            let interval_ms = millis(route.group_interval()).max(1);
            let missed = now_ms.saturating_sub(entry.next_flush_ms).max(0);
            let periods = missed.div_euclid(interval_ms) + i64::from(missed % interval_ms > 0);
            entry.next_flush_ms += periods * interval_ms;
        }
        self.timers.remove(&(entry.next_flush_ms, group));
        if !entry.has_flushed && alert.starts_ms.saturating_add(group_wait_ms) < now_ms {
            entry.next_flush_ms = now_ms;
        }
        self.timers.insert((entry.next_flush_ms, group));
    }

    fn flush(&mut self, group: usize, now_ms: i64) {
        let route = self.routes[self.route_of[group]];
        let entry = &mut self.groups[group];
        entry.has_flushed = true;
        entry.next_flush_ms = now_ms.saturating_add(millis(route.group_interval()));
        let alerts: Vec<Alert> = entry.alerts.values().cloned().collect();
        let remaining = self.unmuted(route, &alerts, now_ms);
        if !remaining.is_empty() {
            self.notify(route, group, &remaining, now_ms);
        }
        let entry = &mut self.groups[group];
        entry.alerts.retain(|_, alert| !alert.resolved_at(now_ms));
        if entry.alerts.is_empty() {
            entry.empty_since_ms = Some(now_ms);
        } else {
            self.timers.insert((entry.next_flush_ms, group));
        }
    }

    /// The alerts that nothing mutes; the others are noted as suppressed, unless they are resolved.
    fn unmuted<'b>(&mut self, route: &Route, alerts: &'b [Alert], now_ms: i64) -> Vec<&'b Alert> {
        let by_interval = self.muted_by_interval(route, now_ms);
        let mut remaining = Vec::new();
        for alert in alerts {
            let by = self
                .inhibitor_of(&alert.labels, now_ms)
                .map(|by| Suppression::Inhibited { by })
                .or_else(|| by_interval.clone())
                .or_else(|| {
                    self.silences
                        .iter()
                        .position(|silence| silence.mutes(&alert.labels, now_ms))
                        .map(|index| Suppression::Silenced { index })
                });
            match by {
                None => remaining.push(alert),
                Some(by) if !alert.resolved_at(now_ms) => {
                    self.outcome.suppressed.push(Suppressed {
                        at_ms: now_ms,
                        receiver: route.receiver().to_owned(),
                        labels: alert.labels.clone(),
                        by,
                    });
                }
                Some(_) => {}
            }
        }
        remaining
    }

    fn inhibitor_of(&self, labels: &Labels, now_ms: i64) -> Option<Labels> {
        self.routing
            .inhibit_rules()
            .iter()
            .zip(&self.sources)
            .find_map(|(rule, sources)| {
                sources
                    .iter()
                    .filter(|source| !self.alerts[*source].resolved_at(now_ms))
                    .find(|source| rule.inhibits(source, labels))
                    .cloned()
            })
    }

    fn muted_by_interval(&self, route: &Route, now_ms: i64) -> Option<Suppression> {
        let holds = |name: &String| {
            self.routing
                .time_intervals()
                .iter()
                .any(|interval| interval.name() == name && interval.holds(now_ms))
        };
        let active = route.active_time_intervals();
        if !active.is_empty() && !active.iter().any(holds) {
            return Some(Suppression::NotActive);
        }
        route
            .mute_time_intervals()
            .iter()
            .find(|name| holds(name))
            .map(|name| Suppression::MutedIn {
                interval: name.clone(),
            })
    }

    fn notify(&mut self, route: &Route, group: usize, alerts: &[&Alert], now_ms: i64) {
        let (resolved, firing): (Vec<&Alert>, Vec<&Alert>) = alerts
            .iter()
            .copied()
            .partition(|alert| alert.resolved_at(now_ms));
        let labels_of = |alerts: &[&Alert]| -> BTreeSet<Labels> {
            alerts.iter().map(|alert| alert.labels.clone()).collect()
        };
        let (firing_set, resolved_set) = (labels_of(&firing), labels_of(&resolved));
        let receiver = self
            .routing
            .receivers()
            .iter()
            .find(|receiver| receiver.name() == route.receiver());
        for integration in receiver.map_or(&[][..], |receiver| receiver.integrations()) {
            let group = &self.groups[group];
            let key = (
                group.key.clone(),
                route.receiver().to_owned(),
                integration.kind(),
                integration.index(),
            );
            let entry = self
                .log
                .get(&key)
                .filter(|entry| !ticks(LOG_MAINTENANCE_MS, entry.expires_ms, now_ms + 1));
            let repeat_ms = millis(route.repeat_interval());
            if !needs_update(
                entry,
                &firing_set,
                &resolved_set,
                integration,
                repeat_ms,
                now_ms,
            ) {
                continue;
            }
            // An integration that is not told of ends still has the log forget what fired.
            if integration.send_resolved() || !firing.is_empty() {
                self.outcome.notifications.push(Notification {
                    at_ms: now_ms,
                    receiver: route.receiver().to_owned(),
                    integration: integration.clone(),
                    group_key: group.key.clone(),
                    group_labels: group.labels.clone(),
                    firing: firing.iter().map(|alert| alert.notified(None)).collect(),
                    resolved: resolved
                        .iter()
                        .filter(|_| integration.send_resolved())
                        .map(|alert| alert.notified(Some(alert.ends_ms)))
                        .collect(),
                });
            }
            self.log.insert(
                key,
                LogEntry {
                    at_ms: now_ms,
                    expires_ms: now_ms
                        .saturating_add(repeat_ms.saturating_mul(2).min(millis(LOG_RETENTION))),
                    firing: firing_set.clone(),
                    resolved: resolved_set.clone(),
                },
            );
        }
    }
}

impl Alert {
    fn notified(&self, ends_ms: Option<i64>) -> NotifiedAlert {
        NotifiedAlert {
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            starts_ms: self.starts_ms,
            ends_ms,
        }
    }
}

/// Whether the integration has to be told, given what it was told last.
fn needs_update(
    last: Option<&LogEntry>,
    firing: &BTreeSet<Labels>,
    resolved: &BTreeSet<Labels>,
    integration: &Integration,
    repeat_ms: i64,
    now_ms: i64,
) -> bool {
    let Some(last) = last else {
        return !firing.is_empty();
    };
    if !firing.is_subset(&last.firing) {
        return true;
    }
    if firing.is_empty() {
        return !last.firing.is_empty();
    }
    if integration.send_resolved() && !resolved.is_subset(&last.resolved) {
        return true;
    }
    last.at_ms <= now_ms.saturating_sub(repeat_ms)
}
