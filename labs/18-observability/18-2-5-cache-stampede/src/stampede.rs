//! Reads a cache's log and counts the queries that need not have been made.

use std::collections::BTreeMap;

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
    let mut fetches: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for line in logs::parse(log)? {
        let key = line.str("key")?;
        if line.str("op")? == "fetch_db" {
            fetches.entry(key.to_owned()).or_default().push(line.line);
        }
    }
    let stampedes = fetches
        .into_iter()
        .filter(|(_, lines)| lines.len() > 1)
        .map(|(key, lines)| Stampede { key, lines })
        .collect();
    Ok(Report { stampedes })
}
