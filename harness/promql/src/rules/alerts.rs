//! The state of an alerting rule from one evaluation to the next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::labels::{Labels, METRIC_NAME};
use crate::series::{AppendError, STALE, Storage};
use crate::template::{Ask, Template};

use super::timeline::Episode;
use super::{AlertingRule, Surroundings};

/// The series of 1 that say which alerts are pending and fire.
pub(super) const ALERTS: &str = "ALERTS";

/// The series that say since when an alert's condition holds, in seconds since the Unix epoch.
pub(super) const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";

/// The label of an alert's name.
const ALERT_NAME: &str = "alertname";

/// An alert that is pending or fires.
struct Active {
    /// Its place among the episodes.
    episode: usize,
    fires: bool,
    /// Since when its condition no longer holds while `keep_firing_for` holds it.
    kept_since_ms: Option<i64>,
    pending_series: Labels,
    firing_series: Labels,
    since_series: Labels,
}

pub(super) struct AlertingState {
    rule: Arc<AlertingRule>,
    group: Arc<str>,
    surroundings: Arc<Surroundings>,
    interval: Duration,
    limit: usize,
    active: BTreeMap<Labels, Active>,
    episodes: Vec<Episode>,
    /// The alert's labels for a series, as they were for this value.
    labels_of: HashMap<Labels, (u64, Labels)>,
    labels_ask: bool,
    annotations_ask: bool,
}

impl AlertingState {
    pub(super) fn new(
        rule: Arc<AlertingRule>,
        group: Arc<str>,
        surroundings: Arc<Surroundings>,
        interval: Duration,
        limit: usize,
    ) -> Self {
        let ask = |templates: &[(String, Template)]| {
            templates
                .iter()
                .any(|(_, template)| template.asks_queries())
        };
        AlertingState {
            labels_ask: ask(&rule.labels),
            annotations_ask: ask(&rule.annotations),
            rule,
            group,
            surroundings,
            interval,
            limit,
            active: BTreeMap::new(),
            episodes: Vec::new(),
            labels_of: HashMap::new(),
        }
    }

    pub(super) fn into_episodes(self) -> Vec<Episode> {
        self.episodes
    }

    /// Whether any alert is pending or fires, so that a moment without samples matters.
    pub(super) fn is_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// Takes the series with which the query answered at a moment. What belongs into the storage is
    /// put into `written`.
    pub(super) fn step(
        &mut self,
        at_ms: i64,
        samples: &[(Labels, f64)],
        ask: &Ask<'_>,
        written: &mut Vec<(Labels, f64)>,
    ) -> Result<(), String> {
        let mut found: Vec<(Labels, usize)> = Vec::with_capacity(samples.len());
        let mut distinct = HashSet::with_capacity(samples.len());
        for (index, (series, value)) in samples.iter().enumerate() {
            let labels = self.alert_labels(series, *value, ask);
            if !distinct.insert(labels.clone()) {
                return Err(format!(
                    "two series become the same alert {labels} once the rule's labels are set: \
                     keep a label that tells them apart"
                ));
            }
            found.push((labels, index));
        }
        for (labels, index) in found {
            let (series, value) = &samples[index];
            self.see(at_ms, labels, series, *value, ask);
        }
        self.pass(at_ms, &distinct, written)
    }

    fn alert_labels(&mut self, series: &Labels, value: f64, ask: &Ask<'_>) -> Labels {
        let known = self
            .labels_of
            .get(series)
            .filter(|(bits, _)| *bits == value.to_bits() && !self.labels_ask);
        if let Some((_, labels)) = known {
            return labels.clone();
        }
        let set = self
            .rule
            .expand_each(&self.rule.labels, series, value, &self.surroundings, ask);
        let own = series
            .iter()
            .filter(|(name, _)| *name != METRIC_NAME)
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let name = (ALERT_NAME.to_owned(), self.rule.name.clone());
        let labels = Labels::new(own.chain(set).chain([name]));
        self.labels_of
            .insert(series.clone(), (value.to_bits(), labels.clone()));
        labels
    }

    fn see(&mut self, at_ms: i64, labels: Labels, series: &Labels, value: f64, ask: &Ask<'_>) {
        let asked = self.annotations_ask.then(|| {
            self.rule.expand(
                &self.rule.annotations,
                series,
                value,
                &self.surroundings,
                ask,
            )
        });
        if let Some(active) = self.active.get_mut(&labels) {
            active.kept_since_ms = None;
            let episode = &mut self.episodes[active.episode];
            episode.seen.push((at_ms, value));
            if episode.inputs.last().is_none_or(|(_, held)| held != series) {
                episode.inputs.push((at_ms, series.clone()));
            }
            let news =
                asked.filter(|asked| episode.asked.last().is_none_or(|(_, held)| held != asked));
            episode.asked.extend(news.map(|asked| (at_ms, asked)));
            return;
        }
        // Where a label's template gives nothing, Prometheus leaves the template's text in these
        // series, as it builds them upon the rule's labels.
        let raw = self
            .rule
            .labels
            .iter()
            .map(|(name, template)| (name.clone(), template.to_string()));
        let own = labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned()));
        let base = Labels::new(raw.chain(own));
        let state_series = |state: &str| base.with(METRIC_NAME, ALERTS).with("alertstate", state);
        let active = Active {
            episode: self.episodes.len(),
            fires: false,
            kept_since_ms: None,
            pending_series: state_series("pending"),
            firing_series: state_series("firing"),
            since_series: base.with(METRIC_NAME, ALERTS_FOR_STATE),
        };
        self.active.insert(labels.clone(), active);
        self.episodes.push(Episode {
            rule: self.rule.clone(),
            group: self.group.clone(),
            surroundings: self.surroundings.clone(),
            interval: self.interval,
            labels,
            active_ms: at_ms,
            firing_ms: None,
            ended_ms: None,
            seen: vec![(at_ms, value)],
            inputs: vec![(at_ms, series.clone())],
            asked: asked.map(|asked| (at_ms, asked)).into_iter().collect(),
        });
    }

    /// Lets alerts fire and end, and writes their series.
    fn pass(
        &mut self,
        at_ms: i64,
        holding: &HashSet<Labels>,
        written: &mut Vec<(Labels, f64)>,
    ) -> Result<(), String> {
        let hold_ms = millis(self.rule.hold);
        let keep_ms = millis(self.rule.keep_firing);
        let episodes = &mut self.episodes;
        let start = written.len();
        let mut ended: Vec<(Labels, f64)> = Vec::new();
        self.active.retain(|labels, active| {
            let episode = &mut episodes[active.episode];
            if !holding.contains(labels) {
                let since_ms = *active.kept_since_ms.get_or_insert(at_ms);
                let kept = active.fires && keep_ms > 0 && at_ms - since_ms < keep_ms;
                if !kept {
                    episode.ended_ms = Some(at_ms);
                    let series = if active.fires {
                        &active.firing_series
                    } else {
                        &active.pending_series
                    };
                    ended.push((series.clone(), STALE));
                    ended.push((active.since_series.clone(), STALE));
                    return false;
                }
            }
            if !active.fires && at_ms - episode.active_ms >= hold_ms {
                active.fires = true;
                episode.firing_ms = Some(at_ms);
                if at_ms > episode.active_ms {
                    ended.push((active.pending_series.clone(), STALE));
                }
            }
            let series = if active.fires {
                &active.firing_series
            } else {
                &active.pending_series
            };
            written.push((series.clone(), 1.0));
            let since = episode.active_ms.div_euclid(1000) as f64;
            written.push((active.since_series.clone(), since));
            true
        });
        if self.limit > 0 && self.active.len() > self.limit {
            let count = self.active.len();
            written.truncate(start);
            for active in std::mem::take(&mut self.active).into_values() {
                self.episodes[active.episode].ended_ms = Some(at_ms);
            }
            return Err(format!(
                "{count} alerts exceed the group's limit of {}: all were dropped",
                self.limit
            ));
        }
        written.extend(ended);
        Ok(())
    }
}

impl AlertingRule {
    /// The label templates filled in, in order: the last of a name counts, and empty ones take a
    /// label away.
    fn expand_each(
        &self,
        templates: &[(String, Template)],
        labels: &Labels,
        value: f64,
        surroundings: &Surroundings,
        ask: &Ask<'_>,
    ) -> Vec<(String, String)> {
        templates
            .iter()
            .map(|template| {
                let one = self.expand(
                    std::slice::from_ref(template),
                    labels,
                    value,
                    surroundings,
                    ask,
                );
                (template.0.clone(), one.value(&template.0).to_owned())
            })
            .collect()
    }
}

/// Writes what a rule produced at a moment; the first sample that does not fit is told.
pub(super) fn write(
    storage: &mut Storage,
    at_ms: i64,
    written: &mut Vec<(Labels, f64)>,
) -> Result<(), AppendError> {
    let mut outcome = Ok(());
    for (labels, value) in written.drain(..) {
        let appended = storage.append(labels, at_ms, value);
        if outcome.is_ok() {
            outcome = appended;
        }
    }
    outcome
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
