//! What a learner hands in: the files of a design lab, read as the tools would read them.
//!
//! Checkers and the examples that learners practise with read files through a [`Submission`], so
//! that the same slip is told in the same words everywhere: which file, which tool would not take
//! it, and every place in it that is wrong.
//!
//! Not for what a file is worth: whatever can be loaded is handed on.

use std::path::PathBuf;

use promql::routing::Routing;
use promql::yaml::ConfigError;

use crate::alerts::Alerting;
use crate::dashboards::{Board, Unusable};

/// The folder in which the files lie.
#[derive(Clone, Debug)]
pub struct Submission {
    folder: PathBuf,
}

/// Why a file is of no use. A sentence by itself: what happened, and where.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is not there, or no text.
    #[error("could not read {file}: {source}; `cargo xtask reset {lab}` puts the start back")]
    Unreadable {
        /// Its name.
        file: String,
        /// The folder of the lab, by which the runner knows it.
        lab: String,
        /// Why.
        source: std::io::Error,
    },
    /// Grafana would not show it as it was meant.
    #[error("could not use {file}: {source}")]
    Dashboard {
        /// Its name.
        file: String,
        /// Every place that is wrong.
        source: Unusable,
    },
    /// Prometheus would refuse it.
    #[error("Prometheus would not load {file}\n{source}")]
    Rules {
        /// Its name.
        file: String,
        /// Every place that is wrong.
        source: ConfigError,
    },
    /// Prometheus would load it and never tell anybody anything.
    #[error("{file} has no alert")]
    NoAlert {
        /// Its name.
        file: String,
    },
    /// Alertmanager would refuse it.
    #[error("Alertmanager would not load {file}\n{source}")]
    Routes {
        /// Its name.
        file: String,
        /// Every place that is wrong.
        source: ConfigError,
    },
}

impl Submission {
    /// The files in a folder.
    pub fn of(folder: impl Into<PathBuf>) -> Self {
        Submission {
            folder: folder.into(),
        }
    }

    /// A file as it is.
    ///
    /// # Errors
    /// It is not there, or no UTF-8.
    pub fn text(&self, file: &str) -> Result<String, Unfit> {
        std::fs::read_to_string(self.folder.join(file)).map_err(|source| Unfit::Unreadable {
            file: file.to_owned(),
            lab: self
                .folder
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            source,
        })
    }

    /// A dashboard in JSON.
    ///
    /// # Errors
    /// It cannot be read, or Grafana would not show it as it was meant.
    pub fn board(&self, file: &str) -> Result<Board, Unfit> {
        Board::read(&self.text(file)?).map_err(|source| Unfit::Dashboard {
            file: file.to_owned(),
            source,
        })
    }

    /// A rule file of Prometheus.
    ///
    /// # Errors
    /// It cannot be read, or Prometheus would refuse it.
    pub fn rules(&self, file: &str) -> Result<Alerting, Unfit> {
        Alerting::parse(&self.text(file)?).map_err(|source| Unfit::Rules {
            file: file.to_owned(),
            source,
        })
    }

    /// A rule file of Prometheus with an alert in it.
    ///
    /// # Errors
    /// As [`Submission::rules`], and where it only records.
    pub fn alerts(&self, file: &str) -> Result<Alerting, Unfit> {
        let alerting = self.rules(file)?;
        if alerting.rules().alerting().next().is_none() {
            return Err(Unfit::NoAlert {
                file: file.to_owned(),
            });
        }
        Ok(alerting)
    }

    /// A configuration of Alertmanager.
    ///
    /// # Errors
    /// It cannot be read, or Alertmanager would refuse it.
    pub fn routes(&self, file: &str) -> Result<Routing, Unfit> {
        Routing::parse(&self.text(file)?).map_err(|source| Unfit::Routes {
            file: file.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_in(folder: &str, file: &str, text: &[u8]) -> (tempfile::TempDir, Submission) {
        let parent = tempfile::tempdir().unwrap();
        let lab = parent.path().join(folder);
        std::fs::create_dir(&lab).unwrap();
        std::fs::write(lab.join(file), text).unwrap();
        (parent, Submission::of(lab))
    }

    #[test]
    fn a_file_that_is_not_there_is_told_with_the_way_back_to_the_start() {
        let (_parent, submission) = handed_in("18-7-4-slo-burn-rate", "rules.yaml", b"");
        let error = submission.rules("rules.yml").unwrap_err().to_string();
        assert!(error.starts_with("could not read rules.yml: "), "{error}");
        assert!(
            error.ends_with("; `cargo xtask reset 18-7-4-slo-burn-rate` puts the start back"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_no_text_is_told_by_its_name() {
        let (_parent, submission) = handed_in("lab", "dashboard.json", &[0xff, 0xfe, 0x00]);
        let error = submission.board("dashboard.json").unwrap_err().to_string();
        assert!(
            error.starts_with("could not read dashboard.json: "),
            "{error}"
        );
    }

    #[test]
    fn what_a_tool_would_refuse_is_told_with_its_name_and_its_places() {
        let (_parent, submission) = handed_in("lab", "file", b"{");
        let error = |unfit: Unfit| unfit.to_string();
        let board = error(submission.board("file").unwrap_err());
        assert!(
            board.starts_with("could not use file: it is not JSON"),
            "{board}"
        );
        let rules = error(submission.rules("file").unwrap_err());
        assert!(
            rules.starts_with("Prometheus would not load file\nline "),
            "{rules}"
        );
        let routes = error(submission.routes("file").unwrap_err());
        assert!(
            routes.starts_with("Alertmanager would not load file\nline "),
            "{routes}"
        );
    }

    #[test]
    fn a_file_that_only_records_has_rules_and_no_alerts() {
        let text = b"groups: [{name: a, rules: [{record: b, expr: sum(c)}]}]";
        let (_parent, submission) = handed_in("lab", "rules.yml", text);
        assert!(submission.rules("rules.yml").is_ok());
        let error = submission.alerts("rules.yml").unwrap_err().to_string();
        assert_eq!(error, "rules.yml has no alert");
    }
}
