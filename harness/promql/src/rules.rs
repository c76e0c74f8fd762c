//! Files of recording and alerting rules, as Prometheus reads them, evaluated in virtual time.
//!
//! [`RuleFile::parse`] reads a file as strictly as `promtool check rules`.
//! [`RuleFile::evaluate`] evaluates the groups over a storage, writes recorded series, `ALERTS` and
//! `ALERTS_FOR_STATE` into it, and gives the timeline of alerts, from which come the posts that
//! Alertmanager would receive ([`Timeline::posts`]).
//!
//! ```
//! use std::time::Duration;
//! use promql::rules::{RuleFile, Settings};
//! use promql::{Labels, Storage};
//!
//! let rules = RuleFile::parse(
//!     "groups:
//! - name: pool
//!   rules:
//!   - alert: PoolSaturated
//!     expr: pool_queue_size > 500
//!     for: 2m
//!     labels: {severity: warning}
//!     annotations: {summary: '{{ $value }} tasks wait'}
//! ")?;
//! let mut storage = Storage::new();
//! for at_ms in (0..=600_000).step_by(15_000) {
//!     storage.append(Labels::named("pool_queue_size", [("pool", "mail")]), at_ms, 900.0)?;
//! }
//! let settings = Settings::new(0, 600_000, Duration::from_secs(15));
//! let evaluation = rules.evaluate(&mut storage, &settings)?;
//! let episode = &evaluation.timeline.episodes()[0];
//! assert_eq!(episode.firing_ms(), Some(120_000));
//! assert_eq!(episode.annotations().value("summary"), "900 tasks wait");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Series of the storage are there as a whole, later samples too: a rule with a negative offset sees
//! them, which a real server could not. Restoring `for` after a restart is not simulated.

mod alerts;
mod evaluate;
mod file;
mod timeline;

use std::sync::Arc;
use std::time::Duration;

use crate::dialect::Dialect;
use crate::labels::Labels;
use crate::query::Query;
use crate::template::Template;
use crate::yaml::ConfigError;

pub use evaluate::{EvaluateError, Evaluation, Failure, MAX_EVALUATIONS, Settings};
pub use timeline::{ActiveAlert, AlertState, Change, Episode, Timeline};

/// A rule file.
#[derive(Debug, Clone)]
pub struct RuleFile {
    groups: Vec<Group>,
    dialect: Dialect,
}

impl RuleFile {
    /// Reads a rule file with queries of Prometheus 3.
    ///
    /// # Errors
    /// Every problem that was found, with its place.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::parse_as(text, Dialect::default())
    }

    /// Reads a rule file with queries of a dialect, as which it will be evaluated.
    ///
    /// # Errors
    /// Every problem that was found, with its place.
    pub fn parse_as(text: &str, dialect: Dialect) -> Result<Self, ConfigError> {
        let groups = file::parse(text, dialect)?;
        Ok(RuleFile { groups, dialect })
    }

    /// The groups, in the order of the file.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The alerting rules of all groups, in the order of the file.
    pub fn alerting(&self) -> impl Iterator<Item = &AlertingRule> {
        self.rules().filter_map(|rule| match rule {
            Rule::Alerting(rule) => Some(&**rule),
            Rule::Recording(_) => None,
        })
    }

    /// The recording rules of all groups, in the order of the file.
    pub fn recording(&self) -> impl Iterator<Item = &RecordingRule> {
        self.rules().filter_map(|rule| match rule {
            Rule::Recording(rule) => Some(rule),
            Rule::Alerting(_) => None,
        })
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.groups.iter().flat_map(|group| &group.rules)
    }
}

/// Rules that are evaluated one after the other, at one interval.
#[derive(Debug, Clone)]
pub struct Group {
    name: Arc<str>,
    interval: Option<Duration>,
    query_offset: Duration,
    limit: usize,
    rules: Vec<Rule>,
}

impl Group {
    /// The name, unlike any other in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often it is evaluated, if the file says so.
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// `query_offset`: how far in the past the queries look, for data that comes late.
    pub fn query_offset(&self) -> Duration {
        self.query_offset
    }

    /// The most series or alerts that one rule may have; 0 is no limit.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

/// A rule of either kind.
#[derive(Debug, Clone)]
pub enum Rule {
    /// Stores what a query answers as series of a new name.
    Recording(RecordingRule),
    /// Raises an alert for each series that a query answers with.
    Alerting(Arc<AlertingRule>),
}

impl Rule {
    /// The name of the series or of the alert.
    pub fn name(&self) -> &str {
        match self {
            Rule::Recording(rule) => rule.name(),
            Rule::Alerting(rule) => rule.name(),
        }
    }

    /// The query.
    pub fn query(&self) -> &Query {
        match self {
            Rule::Recording(rule) => rule.query(),
            Rule::Alerting(rule) => rule.query(),
        }
    }
}

/// `record:`
#[derive(Debug, Clone)]
pub struct RecordingRule {
    name: String,
    query: Query,
    labels: Vec<(String, String)>,
}

impl RecordingRule {
    /// The name of the recorded series.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The query.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// The labels that it sets, those of its group first; the last of a name counts, and an empty
    /// value takes a label away.
    pub fn labels(&self) -> &[(String, String)] {
        &self.labels
    }
}

/// `alert:`
#[derive(Debug, Clone)]
pub struct AlertingRule {
    name: String,
    query: Query,
    hold: Duration,
    keep_firing: Duration,
    labels: Vec<(String, Template)>,
    annotations: Vec<(String, Template)>,
}

impl AlertingRule {
    /// The alert's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The query.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// `for`: how long the condition must hold before the alert fires; zero is at once.
    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// `keep_firing_for`: how long the alert fires on after its condition has ended.
    pub fn keep_firing(&self) -> Duration {
        self.keep_firing
    }

    /// The labels that it adds, those of its group first; the last of a name counts.
    pub fn labels(&self) -> &[(String, Template)] {
        &self.labels
    }

    /// The annotations, in the order of the file.
    pub fn annotations(&self) -> &[(String, Template)] {
        &self.annotations
    }

    /// The text of an annotation as it is written in the file.
    pub fn annotation(&self, name: &str) -> Option<String> {
        self.annotations
            .iter()
            .find(|(held, _)| held == name)
            .map(|(_, template)| template.to_string())
    }
}

/// What templates see beside an alert's own labels and value.
#[derive(Debug, Clone, Default)]
struct Surroundings {
    external_labels: Labels,
    external_url: String,
}
