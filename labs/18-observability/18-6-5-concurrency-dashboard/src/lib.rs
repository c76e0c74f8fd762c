//! How the presence service's metrics are collected, and how soon its dashboard has to speak.
//!
//! The deliverable of this lab is `dashboard.json`; these are the numbers that it is held to.

use std::time::Duration;

/// Prometheus scrapes the service this often.
pub const SCRAPE_INTERVAL: Duration = Duration::from_secs(30);

/// How soon after it began a leak of three goroutines a minute or more has to be red, and how soon
/// after a new process has ended it no longer.
pub const LEAK_SEEN_WITHIN: Duration = Duration::from_mins(45);

/// How soon everything else has to be red, and no longer.
pub const SEEN_WITHIN: Duration = Duration::from_mins(15);
