//! A notification as the body that Alertmanager posts to a webhook, version 4.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use crate::labels::Labels;

use super::{Notification, NotifiedAlert};

impl Notification {
    /// The body of the webhook's request. `external_url` is where people reach the Alertmanager.
    ///
    /// `generatorURL` is empty, as posts do not hold it here.
    pub fn webhook_body(&self, external_url: &str) -> Value {
        let mut alerts: Vec<&NotifiedAlert> = self.firing.iter().chain(&self.resolved).collect();
        alerts.sort_by(|a, b| as_alertmanager_sorts(&a.labels, &b.labels));
        let most = match self.integration.max_alerts() {
            0 => alerts.len(),
            most => most.min(alerts.len()),
        };
        let truncated = alerts.len() - most;
        alerts.truncate(most);
        let any_fires = alerts.iter().any(|alert| alert.ends_ms.is_none());
        json!({
            "version": "4",
            "groupKey": self.group_key,
            "truncatedAlerts": truncated,
            "receiver": quoted_meta(&self.receiver),
            "status": status(any_fires),
            "alerts": alerts.iter().map(|alert| body_of(alert)).collect::<Vec<_>>(),
            "groupLabels": object(&self.group_labels),
            "commonLabels": object(&common(alerts.iter().map(|alert| &alert.labels))),
            "commonAnnotations": object(&common(alerts.iter().map(|alert| &alert.annotations))),
            "externalURL": external_url,
        })
    }
}

fn status(fires: bool) -> &'static str {
    if fires { "firing" } else { "resolved" }
}

fn body_of(alert: &NotifiedAlert) -> Value {
    json!({
        "status": status(alert.ends_ms.is_none()),
        "labels": object(&alert.labels),
        "annotations": object(&alert.annotations),
        "startsAt": moment(alert.starts_ms),
        "endsAt": alert.ends_ms.map_or("0001-01-01T00:00:00Z".to_owned(), moment),
        "generatorURL": "",
        "fingerprint": fingerprint(&alert.labels),
    })
}

fn object(labels: &Labels) -> Value {
    let pairs = labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.into()));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn moment(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms)
        .map_or("0001-01-01T00:00:00Z".to_owned(), |at| at.to_string())
}

/// The labels that all have with equal values.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else {
        return Labels::empty();
    };
    let others: Vec<&Labels> = sets.collect();
    Labels::new(
        first
            .iter()
            .filter(|(name, value)| others.iter().all(|other| other.get(name) == Some(value)))
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    )
}

/// By `job`, then by `instance`, then by the number of labels, then by the labels.
fn as_alertmanager_sorts(a: &Labels, b: &Labels) -> Ordering {
    for name in ["job", "instance"] {
        let order = match (a.get(name), b.get(name)) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    let mut names: Vec<&str> = a.iter().chain(b.iter()).map(|(name, _)| name).collect();
    names.sort_unstable();
    a.len().cmp(&b.len()).then_with(|| {
        names
            .into_iter()
            .map(|name| match (a.get(name), b.get(name)) {
                (None, _) => Ordering::Less,
                (_, None) => Ordering::Greater,
                (Some(a), Some(b)) => a.cmp(b),
            })
            .find(|order| *order != Ordering::Equal)
            .unwrap_or(Ordering::Equal)
    })
}

/// Alertmanager's name for a label set: FNV-1a over names and values, each followed by 255.
fn fingerprint(labels: &Labels) -> String {
    let bytes = labels
        .iter()
        .flat_map(|(name, value)| name.bytes().chain([255]).chain(value.bytes()).chain([255]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Alertmanager escapes what means something in a regular expression.
fn quoted_meta(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
