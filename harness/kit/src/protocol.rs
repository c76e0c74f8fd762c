//! How a check, running in a process of its own, tells the runner how it ended.
//!
//! The learner's code runs in the same process, so a claim of success must be one that it cannot
//! make by accident or by a cheap trick such as `exit(0)` after printing a forged test result. The
//! runner writes a random [`Nonce`] to the process's standard input; [`crate::check`] takes it
//! before any code of the learner runs, keeps it to itself, and repeats it only after the body has
//! returned. Records are JSON lines, appended to the file that [`VERDICT_FILE`] names, so that the
//! last [`Record::Step`] survives an abort.
//!
//! Not a defense against code that searches its own memory: that takes more work than the lab.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Environment variable: the file to which records are appended. Absent under plain `cargo test`.
pub const VERDICT_FILE: &str = "NIGHTSHIFT_VERDICT";
/// Environment variable: a seed that replaces the checker's own, see [`crate::seed`].
pub const SEED: &str = "NIGHTSHIFT_SEED";
/// Environment variable: the folder that holds the learner's files, where it is not the package's.
pub const LAB_DIR: &str = "NIGHTSHIFT_LAB_DIR";
/// Environment variable: the folder of the lab's fixtures, where it is not found from the package's.
pub const FIXTURE_DIR: &str = "NIGHTSHIFT_FIXTURE_DIR";
/// Environment variable: a server that is missing is a failure rather than a check not run.
pub const REQUIRE_BACKENDS: &str = "NIGHTSHIFT_REQUIRE_BACKENDS";
/// Environment variable: the file to which a benchmark appends its figures as JSON lines.
pub const FIGURES_FILE: &str = "NIGHTSHIFT_FIGURES";

/// A secret that one run of one check shares with the runner: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(String);

impl Nonce {
    /// A nonce from 16 random bytes, which the caller draws from the operating system.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Nonce(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// A nonce as it was read from standard input; surrounding white space is not part of it.
    pub fn from_line(line: &str) -> Self {
        Nonce(line.trim().to_owned())
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One line of the verdict file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// What the check is about to do, in a few words: the last one explains a hang or a crash.
    Step(String),
    /// The seed from which the scenario is made, so that a failure can be replayed.
    Seed(u64),
    /// The body returned. Worth nothing without the nonce.
    Passed(Nonce),
    /// The body saw a symptom: what was observed and what should have been, for a person.
    Failed(String),
    /// A question that the learner has not answered yet, by its key in `answers.toml`.
    Unanswered(String),
    /// The check could not be run here, and what to install or set.
    NotRun { reason: String, remedy: String },
    /// The learner's code panicked; `location` is `file:line:column` where it is known.
    Panicked {
        message: String,
        location: Option<String>,
    },
    /// The body did not end within the check's own deadline, in milliseconds.
    TimedOut { after_ms: u64 },
}

impl Record {
    /// Appends this record to `file` as one line.
    ///
    /// # Errors
    /// When the file cannot be opened for appending or written.
    pub fn append_to(&self, file: &Path) -> std::io::Result<()> {
        append_line(file, self)
    }

    /// The records in the text of a verdict file. Lines that are none, such as one cut short by a
    /// kill or one that the learner's code wrote there, are passed over.
    pub fn read_all(text: &str) -> Vec<Record> {
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// What a figure measures, and so in which unit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FigureKind {
    /// The time of the candidate over the time of the baseline, without a unit.
    Ratio,
    /// Operations per second.
    Rate,
    /// Seconds.
    Seconds,
}

/// One line of the file of figures that a benchmark writes: a median and its 95 % interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FigureRecord {
    /// As `lab.toml` names it.
    pub name: String,
    pub kind: FigureKind,
    /// In the unit of `kind`; finite, as are the two ends of the interval.
    pub value: f64,
    pub low: f64,
    pub high: f64,
    /// From how many samples, or pairs of slices, the figure was made.
    pub samples: usize,
}

impl FigureRecord {
    /// Appends this record to `file` as one line.
    ///
    /// # Errors
    /// When the file cannot be opened for appending or written.
    pub fn append_to(&self, file: &Path) -> std::io::Result<()> {
        append_line(file, self)
    }

    /// The records in the text of a file of figures, in order. Lines that are none are passed over.
    pub fn read_all(text: &str) -> Vec<FigureRecord> {
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

fn append_line(file: &Path, record: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)?
        .write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_one_json_line_in_the_agreed_form() {
        let record = FigureRecord {
            name: "overhead".into(),
            kind: FigureKind::Ratio,
            value: 1.01,
            low: 1.0,
            high: 1.02,
            samples: 60,
        };
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(
            line,
            r#"{"name":"overhead","kind":"ratio","value":1.01,"low":1.0,"high":1.02,"samples":60}"#
        );
        let text = format!("Benchmarking\n{line}\n{{\"name\":\"cut");
        assert_eq!(FigureRecord::read_all(&text), [record]);
    }

    #[test]
    fn a_record_survives_the_file_and_foreign_lines_are_passed_over() {
        let records = [
            Record::Step("submitting 100 tasks".into()),
            Record::Passed(Nonce::from_bytes([7; 16])),
            Record::NotRun {
                reason: "no etcd".into(),
                remedy: "apt-get install etcd-server".into(),
            },
        ];
        let mut text = String::from("test result: ok. 1 passed\n");
        for record in &records {
            text.push_str(&serde_json::to_string(record).unwrap());
            text.push('\n');
        }
        text.push_str("{\"passed\":\"cut sho");
        assert_eq!(Record::read_all(&text), records);
    }
}
