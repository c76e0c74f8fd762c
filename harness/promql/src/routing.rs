//! Alertmanager: which receivers an alert reaches, and the notifications that a timeline of alerts
//! produces, in virtual time.
//!
//! [`Routing::parse`] reads a configuration file as Alertmanager 0.25 does, strictly.
//! [`Routing::receivers_for`] walks the routing tree for one label set, as `amtool config routes test`
//! does. [`Routing::simulate`] plays posts of alerts through grouping, inhibition, silences, time
//! intervals and the notification log, and says who is told what and when.
//!
//! [`Notification::webhook_body`] is what a webhook would receive.
//!
//! Nothing is sent and nothing is rendered: templates of notifications, clustering, retries of failed
//! deliveries and the details of each receiver's service are not here. A delivery succeeds at once.

mod config;
mod dispatch;
mod interval;
mod matcher;
mod post;
mod tree;
mod webhook;

pub use config::{Integration, Receiver};
pub use dispatch::{
    MAX_FLUSHES, Notification, NotifiedAlert, SimulateError, Simulation, Suppressed, Suppression,
};
pub use interval::TimeInterval;
pub use matcher::{LabelMatcher, MatchOperator, MatcherError};
pub use post::{Firing, Post, RESEND_DELAY};
pub(crate) use post::{RESOLVED_RETENTION, needs_resending};
pub use tree::Route;

use std::time::Duration;

use crate::Labels;
use crate::yaml::ConfigError;
use matcher::all_match;

/// An Alertmanager configuration.
#[derive(Debug, Clone)]
pub struct Routing {
    root: Route,
    receivers: Vec<Receiver>,
    inhibit_rules: Vec<InhibitRule>,
    intervals: Vec<TimeInterval>,
    resolve_timeout: Duration,
}

/// Alerts that pass `source` mute alerts that pass `target` and have equal values in `equal`.
#[derive(Debug, Clone)]
pub struct InhibitRule {
    source: Vec<LabelMatcher>,
    target: Vec<LabelMatcher>,
    equal: Vec<String>,
}

impl Routing {
    /// Reads an Alertmanager configuration file.
    ///
    /// # Errors
    /// Every problem that was found, with its place.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        config::parse(text)
    }

    /// The root of the routing tree.
    pub fn root(&self) -> &Route {
        &self.root
    }

    /// The receivers, in the order of the file.
    pub fn receivers(&self) -> &[Receiver] {
        &self.receivers
    }

    /// The inhibition rules, in the order of the file.
    pub fn inhibit_rules(&self) -> &[InhibitRule] {
        &self.inhibit_rules
    }

    /// The time intervals, in the order of the file.
    pub fn time_intervals(&self) -> &[TimeInterval] {
        &self.intervals
    }

    /// How long an alert without an end counts as firing after it was last posted.
    pub fn resolve_timeout(&self) -> Duration {
        self.resolve_timeout
    }

    /// The routes that an alert with these labels takes, in the order of the tree.
    pub fn routes_for(&self, labels: &Labels) -> Vec<&Route> {
        self.root.matching(labels)
    }

    /// The names of the receivers that an alert with these labels reaches, in the order of the tree.
    /// A receiver that two routes name is there twice, as `amtool config routes test` prints it.
    pub fn receivers_for(&self, labels: &Labels) -> Vec<&str> {
        self.routes_for(labels)
            .into_iter()
            .map(Route::receiver)
            .collect()
    }
}

impl InhibitRule {
    /// Conditions on the alert that mutes.
    pub fn source(&self) -> &[LabelMatcher] {
        &self.source
    }

    /// Conditions on the alert that is muted.
    pub fn target(&self) -> &[LabelMatcher] {
        &self.target
    }

    /// Labels whose values must be equal in both; missing in both is equal.
    pub fn equal(&self) -> &[String] {
        &self.equal
    }

    /// Whether a firing alert `source` mutes an alert `target`. An alert that passes both sides is
    /// not muted by another that does too, nor by itself.
    pub fn inhibits(&self, source: &Labels, target: &Labels) -> bool {
        all_match(&self.source, source)
            && all_match(&self.target, target)
            && self
                .equal
                .iter()
                .all(|name| source.value(name) == target.value(name))
            && !(all_match(&self.source, target) && all_match(&self.target, source))
    }
}

/// A silence: alerts that pass all its matchers are not notified while it is active.
#[derive(Debug, Clone)]
pub struct Silence {
    matchers: Vec<LabelMatcher>,
    starts_ms: i64,
    ends_ms: i64,
}

/// A silence that Alertmanager would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    /// A matcher cannot be read.
    #[error(transparent)]
    Matcher(#[from] MatcherError),
    /// It would silence everything.
    #[error("all the matchers pass a label that is missing: the silence would mute every alert")]
    MatchesEverything,
    /// It ends before it starts.
    #[error("the silence ends before it starts")]
    EndsBeforeItStarts,
}

impl Silence {
    /// A silence over `matchers` (such as `team="db",severity=~"warning|info"`) from `starts_ms` to
    /// `ends_ms`, both included, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// A matcher that cannot be read, or a silence that Alertmanager would refuse.
    pub fn new(matchers: &str, starts_ms: i64, ends_ms: i64) -> Result<Self, SilenceError> {
        let matchers = LabelMatcher::parse_list(matchers)?;
        if matchers.iter().all(|matcher| matcher.matches_value("")) {
            return Err(SilenceError::MatchesEverything);
        }
        if ends_ms < starts_ms {
            return Err(SilenceError::EndsBeforeItStarts);
        }
        Ok(Silence {
            matchers,
            starts_ms,
            ends_ms,
        })
    }

    /// Whether an alert with these labels is silenced at this moment.
    pub fn mutes(&self, labels: &Labels, at_ms: i64) -> bool {
        (self.starts_ms..=self.ends_ms).contains(&at_ms) && all_match(&self.matchers, labels)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
