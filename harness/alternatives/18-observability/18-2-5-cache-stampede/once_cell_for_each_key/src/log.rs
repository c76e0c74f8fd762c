//! The cache's log: one JSON object a line, stamped with the time of day.
//!
//! The service was written in Go once, and the tools that read its log still are: the number of the
//! task that wrote a line is called `goroutine`.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

/// The time of day at which a log begins.
const NOON: Duration = Duration::from_secs(12 * 3600);

/// What the cache did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `get` with `result` `hit`: the value was there.
    Hit,
    /// `get` with `result` `miss`: the value was not there, or too old.
    Miss,
    /// `fetch_db`: a query to the database begins.
    Fetch,
    /// `wait`: somebody else's query for this key is on its way, and this task waits for it.
    Wait,
    /// `set`: the query gave a value, and it was stored for `ttl`.
    Set { ttl: Duration },
    /// `fetch_failed`: the query gave an error, or was abandoned with the task that made it.
    FetchFailed,
}

/// A log in memory. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct Log {
    began: Instant,
    text: Arc<Mutex<String>>,
}

impl Log {
    /// An empty log that begins at noon, which is now.
    pub fn new() -> Self {
        Log {
            began: Instant::now(),
            text: Arc::new(Mutex::new(String::new())),
        }
    }

    /// Writes one line, stamped with the time that has passed since the log began.
    pub fn write(&self, op: Op, key: &str, goroutine: u64) {
        let at = NOON + self.began.elapsed();
        let seconds = at.as_secs();
        let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
        let time = format!(
            "{hours:02}:{minutes:02}:{:02}.{:03}",
            seconds % 60,
            at.subsec_millis()
        );
        let key = key.replace('\\', "\\\\").replace('"', "\\\"");
        let (name, more) = match op {
            Op::Hit => ("get", ",\"result\":\"hit\"".to_owned()),
            Op::Miss => ("get", ",\"result\":\"miss\"".to_owned()),
            Op::Fetch => ("fetch_db", String::new()),
            Op::Wait => ("wait", String::new()),
            Op::Set { ttl } => ("set", format!(",\"ttl\":{}", ttl.as_secs())),
            Op::FetchFailed => ("fetch_failed", String::new()),
        };
        let mut text = self
            .text
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let _ = writeln!(
            text,
            "{{\"time\":\"{time}\",\"op\":\"{name}\",\"key\":\"{key}\"{more},\"goroutine\":{goroutine}}}"
        );
    }

    /// All that was written so far.
    pub fn text(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }
}

impl Default for Log {
    fn default() -> Self {
        Log::new()
    }
}
