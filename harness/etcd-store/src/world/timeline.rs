//! What happened when, and to whom: the evidence that a failing check prints.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines of a timeline fit a terminal.
const COLUMNS: usize = 80;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Virtual time since the world was made.
    pub at: Duration,
    /// Who did it, or to whom it was done.
    pub who: String,
    /// What, as the rest of a sentence that begins with `who`.
    pub what: String,
}

/// All that happened. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    events: Arc<Mutex<Vec<Event>>>,
}

impl Timeline {
    /// Adds an event.
    pub fn note(&self, at: Duration, who: impl Into<String>, what: impl Into<String>) {
        self.lock().push(Event {
            at,
            who: who.into(),
            what: what.into(),
        });
    }

    /// The last `count` events in the order of time, a line each, and how many came before.
    pub fn last(&self, count: usize) -> String {
        self.last_where(count, |_| true)
    }

    /// The same for events that satisfy `keep`.
    pub fn last_where(&self, count: usize, keep: impl Fn(&Event) -> bool) -> String {
        let mut events: Vec<Event> = self.lock().iter().filter(|e| keep(e)).cloned().collect();
        events.sort_by_key(|event| event.at);
        let skipped = events.len().saturating_sub(count);
        let mut text = String::new();
        if skipped > 0 {
            text.push_str(&format!("  ... {skipped} earlier events\n"));
        }
        for Event { at, who, what } in &events[skipped..] {
            let line = format!("  {:>9}  {who:<9}  {what}", seconds(*at));
            if line.chars().count() > COLUMNS {
                text.extend(line.chars().take(COLUMNS - 3));
                text.push_str("...");
            } else {
                text.push_str(&line);
            }
            text.push('\n');
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time or a length as people read it, in seconds.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}
