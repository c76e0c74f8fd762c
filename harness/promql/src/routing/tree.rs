//! The routing tree, with what each route inherits from its parent filled in.

use std::time::Duration;

use crate::Labels;

use super::matcher::{LabelMatcher, all_match};

/// Which labels make a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GroupBy {
    /// Every label: no two alerts share a group.
    All,
    /// These labels, sorted.
    Labels(Vec<String>),
}

/// A node of the routing tree.
#[derive(Debug, Clone)]
pub struct Route {
    pub(super) receiver: String,
    pub(super) matchers: Vec<LabelMatcher>,
    pub(super) group_by: GroupBy,
    pub(super) group_wait: Duration,
    pub(super) group_interval: Duration,
    pub(super) repeat_interval: Duration,
    pub(super) mute_time_intervals: Vec<String>,
    pub(super) active_time_intervals: Vec<String>,
    pub(super) goes_on: bool,
    pub(super) key: String,
    /// Where the route stands in the tree, counted depth first from the root's 0.
    pub(super) index: usize,
    pub(super) routes: Vec<Route>,
}

impl Route {
    /// The receiver's name.
    pub fn receiver(&self) -> &str {
        &self.receiver
    }

    /// The conditions of this route alone, sorted; its parents' come before them.
    pub fn matchers(&self) -> &[LabelMatcher] {
        &self.matchers
    }

    /// The labels by which alerts are grouped, sorted; `None` for `...`, which is by all labels.
    pub fn group_by(&self) -> Option<&[String]> {
        match &self.group_by {
            GroupBy::All => None,
            GroupBy::Labels(names) => Some(names),
        }
    }

    /// How long a new group waits for more alerts before its first notification.
    pub fn group_wait(&self) -> Duration {
        self.group_wait
    }

    /// How long a group waits before it tells of changes.
    pub fn group_interval(&self) -> Duration {
        self.group_interval
    }

    /// How long until a notification without changes is repeated.
    pub fn repeat_interval(&self) -> Duration {
        self.repeat_interval
    }

    /// Names of the intervals in which the route is muted.
    pub fn mute_time_intervals(&self) -> &[String] {
        &self.mute_time_intervals
    }

    /// Names of the intervals outside of which the route is muted; none is always active.
    pub fn active_time_intervals(&self) -> &[String] {
        &self.active_time_intervals
    }

    /// Whether an alert that took this route tries the next siblings too.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// The routes below, in order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The deepest routes that the labels reach; empty if they do not pass this one.
    pub(super) fn matching(&self, labels: &Labels) -> Vec<&Route> {
        if !all_match(&self.matchers, labels) {
            return Vec::new();
        }
        let mut reached = Vec::new();
        for route in &self.routes {
            let below = route.matching(labels);
            let taken = !below.is_empty();
            reached.extend(below);
            if taken && !route.goes_on {
                break;
            }
        }
        if reached.is_empty() {
            reached.push(self);
        }
        reached
    }

    /// The labels of the group that an alert belongs to.
    pub fn group_labels(&self, labels: &Labels) -> Labels {
        match &self.group_by {
            GroupBy::All => labels.clone(),
            GroupBy::Labels(names) => labels.only(names),
        }
    }
}
