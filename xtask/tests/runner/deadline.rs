//! Waiting for what has to happen.

use std::thread;
use std::time::{Duration, Instant};

/// How long something may take on a busy machine, a build included.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Looks every few milliseconds whether it `holds`.
///
/// # Panics
/// When it does not within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
