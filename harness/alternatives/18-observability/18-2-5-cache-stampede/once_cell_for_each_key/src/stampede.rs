//! Reads a cache's log and counts the queries that need not have been made.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use telemetry::ParseError;
use telemetry::logs::{self, FieldError};

/// What a log shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which they began.
    pub stampedes: Vec<Stampede>,
}

/// Queries for one key that overlap: each begins while another one for the same key is on its way.
/// A query lasts from its `fetch_db` to the `set` or `fetch_failed` of the same task and key; one
/// without an end lasts to the end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stampede {
    pub key: String,
    /// The lines of the log, from 1, that begin these queries, ascending; two at least.
    pub lines: Vec<usize>,
}

impl Stampede {
    /// How many of its queries one of them would have answered.
    pub fn wasted(&self) -> usize {
        self.lines.len() - 1
    }
}

impl Report {
    /// How many queries of the whole log were wasted.
    pub fn wasted(&self) -> usize {
        self.stampedes.iter().map(Stampede::wasted).sum()
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is no log.
    #[error("could not read the log: {0}")]
    Parse(#[from] ParseError),
    /// A line lacks what every line of this log has.
    #[error("could not read the log: {0}")]
    Field(#[from] FieldError),
}

/// Finds the stampedes in a log of the cache: JSON lines as [`crate::log::Log`] writes them.
///
/// Tasks write on their own, so a line may stand a little above another one that is older; `time`
/// says what came first, and lines with the same time are in order.
///
/// # Errors
/// When the text is no such log.
pub fn analyze(log: &str) -> Result<Report, LogError> {
    let mut lines = logs::parse(log)?;
    // Stable, so that lines with the same time stay in order.
    lines.sort_by(|a, b| a.time.partial_cmp(&b.time).unwrap_or(Ordering::Equal));

    let mut running: HashMap<String, Group> = HashMap::new();
    let mut stampedes: Vec<(usize, Stampede)> = Vec::new();
    for (position, line) in lines.iter().enumerate() {
        let key = line.str("key")?;
        let task = line.u64("goroutine")?;
        match line.str("op")? {
            "fetch_db" => {
                let group = running.entry(key.to_owned()).or_insert_with(|| Group {
                    began: position,
                    lines: Vec::new(),
                    tasks: HashSet::new(),
                });
                group.lines.push(line.line);
                group.tasks.insert(task);
            }
            "set" | "fetch_failed" => {
                // The last query to end closes the group: a later one no longer overlaps.
                if let Some(group) = running.get_mut(key) {
                    group.tasks.remove(&task);
                    if group.tasks.is_empty() {
                        let group = running.remove(key).expect("it was there");
                        stampedes.extend(group.stampede(key));
                    }
                }
            }
            _ => {}
        }
    }
    for (key, group) in running {
        stampedes.extend(group.stampede(&key));
    }
    stampedes.sort_by_key(|(began, _)| *began);
    Ok(Report {
        stampedes: stampedes
            .into_iter()
            .map(|(_, stampede)| stampede)
            .collect(),
    })
}

/// Queries for one key that overlap so far.
struct Group {
    /// The position of the first in the order of time.
    began: usize,
    lines: Vec<usize>,
    /// The tasks whose query is still on its way.
    tasks: HashSet<u64>,
}

impl Group {
    fn stampede(mut self, key: &str) -> Option<(usize, Stampede)> {
        if self.lines.len() < 2 {
            return None;
        }
        self.lines.sort_unstable();
        let key = key.to_owned();
        let lines = self.lines;
        Some((self.began, Stampede { key, lines }))
    }
}
