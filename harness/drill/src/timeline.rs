//! What happened and what was said, side by side.

use std::fmt;

use textwrap::{WordSplitter, WrapAlgorithm};

use crate::Clock;

/// Columns of a line: what the runner leaves of 80 beside its own indentation.
const WIDTH: usize = 72;
/// Entries of a timeline that are shown; what is cut out of the middle is counted.
const SHOWN: usize = 28;

/// Whose line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What the simulator did: a fault begins, a spike ends.
    Happened,
    /// What the learner's configuration said: an alert, a notification, a panel's color.
    Said,
    /// What the checker demands: the latest time for something to be said.
    Due,
}

/// Entries in the order of time, printed with the time of day and the time since the origin.
#[derive(Clone, Debug)]
#[must_use]
pub struct Timeline {
    clock: Clock,
    entries: Vec<(i64, Lane, String)>,
}

impl Timeline {
    /// An empty timeline whose spans count from a moment: the start of the fault, mostly.
    pub fn from(origin_ms: i64) -> Self {
        Timeline {
            clock: Clock::from(origin_ms),
            entries: Vec::new(),
        }
    }

    /// Adds an entry; the order in which entries come does not matter.
    pub fn add(&mut self, at_ms: i64, lane: Lane, text: impl Into<String>) {
        self.entries.push((at_ms, lane, text.into()));
    }

    /// The entries in the order of time; of the same moment what happened stands before what was
    /// said, and what was due at the end.
    pub fn entries(&self) -> Vec<(i64, Lane, &str)> {
        let mut entries: Vec<(i64, Lane, &str)> = self
            .entries
            .iter()
            .map(|(at, lane, text)| (*at, *lane, text.as_str()))
            .collect();
        // The sort is stable: what was added first stands first.
        entries.sort_by_key(|&(at, lane, _)| (at, lane));
        entries
    }
}

/// A line for each entry, or more where it is wider than 72 columns; a long timeline loses its
/// middle.
impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries();
        let cut = entries.len().saturating_sub(SHOWN);
        for (nth, (at, lane, text)) in entries.iter().enumerate() {
            if cut > 0 && nth == SHOWN / 2 {
                writeln!(f, "  … {cut} more …")?;
            }
            if cut > 0 && (SHOWN / 2..SHOWN / 2 + cut).contains(&nth) {
                continue;
            }
            let mark = match lane {
                Lane::Happened => "*",
                Lane::Said => ">",
                Lane::Due => "!",
            };
            let head = format!(
                "  {}  {:>7}  {mark} ",
                self.clock.time(*at),
                self.clock.since(*at)
            );
            let below = " ".repeat(head.len());
            let options = textwrap::Options::new(WIDTH)
                .initial_indent(&head)
                .subsequent_indent(&below)
                .word_splitter(WordSplitter::NoHyphenation)
                .wrap_algorithm(WrapAlgorithm::FirstFit);
            for line in textwrap::wrap(text, options) {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stand_in_the_order_of_time_and_long_ones_go_on_below() {
        let mut timeline = Timeline::from(600_000);
        timeline.add(900_000, Lane::Due, "someone has to be told");
        let alert = "FIRING    PoolSaturated warning mail 10.5.193.79:9100 10.5.194.175:9100";
        timeline.add(900_000, Lane::Said, alert);
        timeline.add(600_000, Lane::Happened, "a slow query");
        let text = timeline.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "  00:10:00       0s  * a slow query",
                "  00:15:00    5m00s  > FIRING    PoolSaturated warning mail",
                "                       10.5.193.79:9100 10.5.194.175:9100",
                "  00:15:00    5m00s  ! someone has to be told",
            ]
        );
    }

    #[test]
    fn no_line_is_wider_than_what_the_runner_leaves() {
        let mut timeline = Timeline::from(0);
        timeline.add(0, Lane::Said, "x".repeat(90));
        timeline.add(0, Lane::Said, "wide words ".repeat(20));
        let text = timeline.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() > 4, "{text}");
        assert!(
            lines.iter().all(|line| line.chars().count() <= 72),
            "{text}"
        );
    }

    #[test]
    fn a_long_timeline_shows_its_two_ends_and_counts_the_rest() {
        let mut timeline = Timeline::from(0);
        for nth in 0..100 {
            timeline.add(nth * 1_000, Lane::Said, format!("entry {nth}"));
        }
        let text = timeline.to_string();
        assert!(text.contains("entry 0\n") && text.contains("entry 99\n"));
        assert!(text.contains("… 72 more …"));
        assert_eq!(text.lines().count(), SHOWN + 1);
    }
}
