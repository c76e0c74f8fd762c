//! What reaches Alertmanager: posts of alerts, as Prometheus sends them.

use std::time::Duration;

use crate::Labels;

use super::millis;

/// How long Prometheus waits before it posts an alert again that still fires.
pub const RESEND_DELAY: Duration = Duration::from_secs(60);

/// How long Prometheus goes on posting that an alert is resolved.
pub(crate) const RESOLVED_RETENTION: Duration = Duration::from_secs(15 * 60);

/// One alert of a post to Alertmanager's API. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Post {
    /// When it is posted.
    pub at_ms: i64,
    /// The alert's labels, `alertname` among them.
    pub labels: Labels,
    /// The alert's annotations.
    pub annotations: Labels,
    /// Since when it fires; `None` is the moment of the post.
    pub starts_ms: Option<i64>,
    /// When it is resolved, or until when it counts as firing; `None` leaves that to
    /// `resolve_timeout`.
    pub ends_ms: Option<i64>,
}

/// A stretch of time over which one alert fires, for timelines that no rule produced.
#[derive(Debug, Clone, PartialEq)]
pub struct Firing {
    /// The alert's labels, `alertname` among them.
    pub labels: Labels,
    /// The alert's annotations.
    pub annotations: Labels,
    /// Since when it fires, in milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// When it is resolved; `None` for one that goes on.
    pub to_ms: Option<i64>,
}

impl Firing {
    /// The posts that Prometheus sends for it until `until_ms`, at this interval of evaluation: the
    /// first at once, then again whenever [`RESEND_DELAY`] has passed, and the end for a quarter of
    /// an hour.
    pub fn posts(&self, interval: Duration, until_ms: i64) -> Vec<Post> {
        let interval_ms = millis(interval).max(1);
        let valid_ms = 4 * millis(RESEND_DELAY.max(interval));
        let mut posts = Vec::new();
        let mut last_sent: Option<i64> = None;
        let mut resolved_at: Option<i64> = None;
        let mut at_ms = self.from_ms;
        while at_ms <= until_ms {
            if resolved_at.is_none() && self.to_ms.is_some_and(|to_ms| at_ms >= to_ms) {
                resolved_at = Some(at_ms);
            }
            if resolved_at.is_some_and(|resolved| at_ms - resolved > millis(RESOLVED_RETENTION)) {
                break;
            }
            let news =
                resolved_at.is_some_and(|resolved| last_sent.is_none_or(|sent| resolved > sent));
            if news || needs_resending(last_sent, at_ms) {
                last_sent = Some(at_ms);
                posts.push(Post {
                    at_ms,
                    labels: self.labels.clone(),
                    annotations: self.annotations.clone(),
                    starts_ms: Some(self.from_ms),
                    ends_ms: Some(resolved_at.unwrap_or(at_ms + valid_ms)),
                });
            }
            at_ms += interval_ms;
        }
        posts
    }
}

/// Whether an alert that was last posted at `last_sent` is posted again, news aside.
pub(crate) fn needs_resending(last_sent: Option<i64>, at_ms: i64) -> bool {
    last_sent.is_none_or(|sent| sent + millis(RESEND_DELAY) < at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_posts_a_firing_alert_again_once_more_than_a_minute_has_passed() {
        let firing = Firing {
            labels: Labels::new([("alertname", "Down")]),
            annotations: Labels::empty(),
            from_ms: 0,
            to_ms: Some(150_000),
        };
        let posts = firing.posts(Duration::from_secs(15), 300_000);
        let seen: Vec<_> = posts
            .iter()
            .map(|post| (post.at_ms, post.ends_ms.unwrap()))
            .collect();
        assert_eq!(
            seen,
            [
                (0, 240_000),
                (75_000, 315_000),
                (150_000, 150_000),
                (225_000, 150_000),
                (300_000, 150_000)
            ]
        );
    }
}
