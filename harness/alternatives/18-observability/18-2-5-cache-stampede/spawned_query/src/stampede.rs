//! Reads a cache's log and counts the queries that need not have been made.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

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
    lines.sort_by(|a, b| a.time.partial_cmp(&b.time).unwrap_or(Ordering::Equal));
    // For each key the queries as (begins, ends, line), places in the order of time.
    let mut queries: BTreeMap<String, Vec<(usize, usize, usize)>> = BTreeMap::new();
    let mut begun: HashMap<(String, u64), (usize, usize)> = HashMap::new();
    for (at, line) in lines.iter().enumerate() {
        let query = (line.str("key")?.to_owned(), line.u64("goroutine")?);
        match line.str("op")? {
            "fetch_db" => {
                begun.insert(query, (at, line.line));
            }
            "set" | "fetch_failed" => {
                if let Some((from, line)) = begun.remove(&query) {
                    queries.entry(query.0).or_default().push((from, at, line));
                }
            }
            _ => {}
        }
    }
    for ((key, _), (from, line)) in begun {
        queries
            .entry(key)
            .or_default()
            .push((from, usize::MAX, line));
    }
    let mut found = Vec::new();
    for (key, mut queries) in queries {
        queries.sort_unstable();
        let mut rest = queries.as_slice();
        while let Some(&(from, mut until, _)) = rest.first() {
            let mut together = 0;
            while together < rest.len() && (together == 0 || rest[together].0 < until) {
                until = until.max(rest[together].1);
                together += 1;
            }
            let (group, later) = rest.split_at(together);
            if group.len() > 1 {
                let mut lines: Vec<usize> = group.iter().map(|&(.., line)| line).collect();
                lines.sort_unstable();
                found.push((
                    from,
                    Stampede {
                        key: key.clone(),
                        lines,
                    },
                ));
            }
            rest = later;
        }
    }
    found.sort_by_key(|&(from, _)| from);
    Ok(Report {
        stampedes: found.into_iter().map(|(_, stampede)| stampede).collect(),
    })
}
