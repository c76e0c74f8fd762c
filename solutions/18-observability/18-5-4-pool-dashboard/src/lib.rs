//! What the thumbnailer's users were promised, and how its metrics are collected.
//!
//! The deliverable of this lab is `dashboard.json`; these are the numbers that it is held to.

use std::time::Duration;

/// Prometheus scrapes the pool this often.
pub const SCRAPE_INTERVAL: Duration = Duration::from_secs(15);

/// Of a hundred tasks 99 are done this soon after they were submitted.
pub const DONE_WITHIN: Duration = Duration::from_secs(1);

/// At most this share of the tasks ends otherwise than `ok`.
pub const MAY_FAIL: f64 = 0.005;

/// Tasks per second that end even in the quietest night. Less means that nobody submits any.
pub const LEAST_TRAFFIC: f64 = 1.0;

/// How soon after something began the dashboard has to show it.
pub const SEEN_WITHIN: Duration = Duration::from_mins(6);
