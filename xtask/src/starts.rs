//! The starts of the labs, kept apart from the files that the learner edits.
//!
//! `reset` has to work without git, and with a git history in which the learner has committed
//! solutions. So each lab's pristine files are kept in `harness/starts/CHAPTER/SLUG.json`, which
//! `verify --fix` writes and `verify` compares.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::catalog::Lab;
use crate::files::{RESTORE, given, learner_files, write};

/// The pristine files of a lab: their text by their path in the lab's folder.
pub type Files = BTreeMap<String, String>;

/// Reads the kept start of a lab.
///
/// # Errors
/// When it was never kept, or cannot be read.
pub fn kept(lab: &Lab) -> Result<Files> {
    let path = lab.kept_start();
    let text = given(&path)?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not valid; {RESTORE}", path.display()))
}

/// The learner's files of a lab as they are now.
pub fn current(lab: &Lab) -> Result<Files> {
    learner_files(lab, &lab.dir())
}

/// Keeps the start of a lab as it is now.
pub fn keep(lab: &Lab) -> Result<()> {
    let mut text = serde_json::to_string_pretty(&current(lab)?)?;
    text.push('\n');
    write(&lab.kept_start(), &text)
}
