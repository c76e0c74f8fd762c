//! What became of alerts: when each was pending, fired and ended.

use std::sync::Arc;
use std::time::Duration;

use crate::labels::Labels;
use crate::routing::{Post, RESEND_DELAY, RESOLVED_RETENTION, needs_resending};
use crate::template::{Ask, Template, TemplateData};

use super::{AlertingRule, Surroundings};

/// What an alert is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertState {
    /// Its condition holds, but not yet for as long as `for` asks.
    Pending,
    /// It fires.
    Firing,
    /// It fired and has ended.
    Resolved,
    /// It was pending and its condition ended before it could fire.
    Dropped,
}

/// One stretch of an alert's life, from its condition's first moment to its end.
#[derive(Debug, Clone)]
pub struct Episode {
    pub(super) rule: Arc<AlertingRule>,
    pub(super) group: Arc<str>,
    pub(super) surroundings: Arc<Surroundings>,
    pub(super) interval: Duration,
    pub(super) labels: Labels,
    pub(super) active_ms: i64,
    pub(super) firing_ms: Option<i64>,
    pub(super) ended_ms: Option<i64>,
    /// Each evaluation at which the condition held, and the value then; never empty.
    pub(super) seen: Vec<(i64, f64)>,
    /// The labels of the series behind it, from each moment on at which they changed; never empty.
    pub(super) inputs: Vec<(i64, Labels)>,
    /// Annotations whose templates ask queries, from each moment on at which they changed.
    pub(super) asked: Vec<(i64, Labels)>,
}

impl Episode {
    /// The alert's name.
    pub fn alert(&self) -> &str {
        self.rule.name()
    }

    /// The rule that raised it.
    pub fn rule(&self) -> &AlertingRule {
        &self.rule
    }

    /// The name of the rule's group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The labels, `alertname` among them.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Since when its condition holds, in milliseconds since the Unix epoch.
    pub fn active_ms(&self) -> i64 {
        self.active_ms
    }

    /// Since when it fires; `None` if it never did.
    pub fn firing_ms(&self) -> Option<i64> {
        self.firing_ms
    }

    /// When it ended; `None` if it had not when the evaluation did.
    pub fn ended_ms(&self) -> Option<i64> {
        self.ended_ms
    }

    /// What it is at a moment; `None` before its beginning. An end lasts for ever.
    pub fn state_at(&self, at_ms: i64) -> Option<AlertState> {
        if at_ms < self.active_ms {
            return None;
        }
        let fired = self.firing_ms.is_some_and(|firing_ms| firing_ms <= at_ms);
        let ended = self.ended_ms.is_some_and(|ended_ms| ended_ms <= at_ms);
        Some(match (fired, ended) {
            (true, true) => AlertState::Resolved,
            (true, false) => AlertState::Firing,
            (false, true) => AlertState::Dropped,
            (false, false) => AlertState::Pending,
        })
    }

    /// The value at the last evaluation until `at_ms` at which the condition held.
    pub fn value_at(&self, at_ms: i64) -> f64 {
        latest(&self.seen, at_ms).1
    }

    /// The annotations as they were at a moment.
    pub fn annotations_at(&self, at_ms: i64) -> Labels {
        if !self.asked.is_empty() {
            return latest(&self.asked, at_ms).1.clone();
        }
        let refuse = |_: &str| Err("no query is asked here".to_owned());
        self.rule.expand(
            &self.rule.annotations,
            &latest(&self.inputs, at_ms).1,
            self.value_at(at_ms),
            &self.surroundings,
            &refuse,
        )
    }

    /// The annotations at the moment when it began to fire, or at the last evaluation if it never did.
    pub fn annotations(&self) -> Labels {
        self.annotations_at(self.firing_ms.unwrap_or(i64::MAX))
    }
}

/// The last entry until a moment, or the first.
fn latest<T>(entries: &[(i64, T)], at_ms: i64) -> &(i64, T) {
    let after = entries.partition_point(|&(held_ms, _)| held_ms <= at_ms);
    &entries[after.saturating_sub(1)]
}

impl AlertingRule {
    /// Fills templates in as Prometheus does; what fails is told in the text.
    pub(super) fn expand(
        &self,
        templates: &[(String, Template)],
        labels: &Labels,
        value: f64,
        surroundings: &Surroundings,
        ask: &Ask<'_>,
    ) -> Labels {
        let data = TemplateData {
            labels,
            value,
            external_labels: &surroundings.external_labels,
            external_url: &surroundings.external_url,
        };
        Labels::new(templates.iter().map(|(name, template)| {
            let text = template
                .render(data, ask)
                .unwrap_or_else(|error| format!("<error expanding template: {error}>"));
            (name.as_str(), text)
        }))
    }
}

/// A change of an alert's state.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What it became.
    pub state: AlertState,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations then.
    pub annotations: Labels,
    /// The value then.
    pub value: f64,
}

/// An alert that is pending or fires at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveAlert {
    /// Pending or firing.
    pub state: AlertState,
    /// Since when its condition holds.
    pub active_ms: i64,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations then.
    pub annotations: Labels,
    /// The value then.
    pub value: f64,
}

/// What became of all alerts in an evaluation.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    pub(super) episodes: Vec<Episode>,
    pub(super) end_ms: i64,
    pub(super) external_labels: Labels,
}

impl Timeline {
    /// All episodes, by their beginning and then by labels.
    pub fn episodes(&self) -> &[Episode] {
        &self.episodes
    }

    /// The episodes in which an alert of this name fired.
    pub fn fired<'a>(&'a self, alert: &'a str) -> impl Iterator<Item = &'a Episode> {
        self.episodes
            .iter()
            .filter(move |episode| episode.alert() == alert && episode.firing_ms.is_some())
    }

    /// The alerts that are pending or fire at a moment, by labels.
    pub fn active_at(&self, at_ms: i64) -> Vec<ActiveAlert> {
        let mut active: Vec<ActiveAlert> = self
            .episodes
            .iter()
            .filter_map(|episode| {
                let state = episode.state_at(at_ms)?;
                matches!(state, AlertState::Pending | AlertState::Firing).then(|| ActiveAlert {
                    state,
                    active_ms: episode.active_ms,
                    labels: episode.labels.clone(),
                    annotations: episode.annotations_at(at_ms),
                    value: episode.value_at(at_ms),
                })
            })
            .collect();
        active.sort_by(|a, b| a.labels.cmp(&b.labels));
        active
    }

    /// Every change of state, in order of time and then by labels. An alert without `for` fires at
    /// once, without a change to pending.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for episode in &self.episodes {
            let mut change = |at_ms, state| {
                changes.push(Change {
                    at_ms,
                    state,
                    labels: episode.labels.clone(),
                    annotations: episode.annotations_at(at_ms),
                    value: episode.value_at(at_ms),
                });
            };
            if episode.firing_ms != Some(episode.active_ms) {
                change(episode.active_ms, AlertState::Pending);
            }
            if let Some(firing_ms) = episode.firing_ms {
                change(firing_ms, AlertState::Firing);
            }
            if let Some(ended_ms) = episode.ended_ms {
                change(
                    ended_ms,
                    match episode.firing_ms {
                        Some(_) => AlertState::Resolved,
                        None => AlertState::Dropped,
                    },
                );
            }
        }
        changes.sort_by(|a, b| (a.at_ms, &a.labels).cmp(&(b.at_ms, &b.labels)));
        changes
    }

    /// What Prometheus posts to Alertmanager, in order of time: an alert when it begins to fire, again
    /// every minute or so while it does, and its end for a quarter of an hour. External labels are
    /// added where an alert has none of that name.
    pub fn posts(&self) -> Vec<Post> {
        let mut posts = Vec::new();
        for (index, episode) in self.episodes.iter().enumerate() {
            let Some(firing_ms) = episode.firing_ms else {
                continue;
            };
            // A new episode of the same alert takes the place of the one that has ended.
            let replaced_ms = self.episodes[index + 1..]
                .iter()
                .find(|later| {
                    later.labels == episode.labels && Arc::ptr_eq(&later.rule, &episode.rule)
                })
                .map_or(i64::MAX, |later| later.active_ms);
            self.post(episode, firing_ms, replaced_ms, &mut posts);
        }
        posts.sort_by_key(|post| post.at_ms);
        posts
    }

    fn post(&self, episode: &Episode, firing_ms: i64, replaced_ms: i64, posts: &mut Vec<Post>) {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let interval_ms = millis(episode.interval).max(1);
        let valid_ms = 4 * millis(RESEND_DELAY.max(episode.interval));
        let labels = Labels::new(
            self.external_labels
                .iter()
                .chain(episode.labels.iter())
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let mut last_sent: Option<i64> = None;
        let mut at_ms = firing_ms;
        while at_ms <= self.end_ms && at_ms < replaced_ms {
            let resolved = episode.ended_ms.filter(|&ended_ms| ended_ms <= at_ms);
            if resolved.is_some_and(|ended_ms| at_ms - ended_ms > millis(RESOLVED_RETENTION)) {
                return;
            }
            let news =
                resolved.is_some_and(|ended_ms| last_sent.is_some_and(|sent| ended_ms > sent));
            if news || needs_resending(last_sent, at_ms) {
                last_sent = Some(at_ms);
                posts.push(Post {
                    at_ms,
                    labels: labels.clone(),
                    annotations: episode.annotations_at(at_ms),
                    starts_ms: Some(firing_ms),
                    ends_ms: Some(resolved.unwrap_or(at_ms + valid_ms)),
                });
            }
            at_ms += interval_ms;
        }
    }
}
