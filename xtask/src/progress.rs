//! Where the learner stands: one ignored file, of which there is always a whole version.
//!
//! It is written beside itself and renamed, so that a kill at any moment leaves the old or the new
//! one. One that cannot be read is set aside under another name, with a word about it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::manifest::{LabId, Manifest};
use crate::screen;

/// The folder of what the runner keeps; git ignores it.
pub const FOLDER: &str = ".nightshift";
const FILE: &str = "progress.json";
const VERSION: u32 = 1;

/// The learner's progress in all labs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Progress {
    version: u32,
    labs: BTreeMap<LabId, Standing>,
    #[serde(skip)]
    path: PathBuf,
}

/// How the learner stands in one lab, as of the last time that all its checks were run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The checks that passed then.
    pub passed: BTreeSet<String>,
    /// The checks that did not.
    #[serde(default)]
    pub failed: BTreeSet<String>,
    /// Whether every check has passed once: a lab stays done.
    #[serde(default)]
    pub done: bool,
    /// How many hints of each check have been shown.
    #[serde(default)]
    pub hints: BTreeMap<String, usize>,
}

impl Standing {
    /// The points of the checks that passed.
    pub fn points(&self, manifest: &Manifest) -> u32 {
        let counted = manifest
            .checks
            .iter()
            .filter(|check| self.passed.contains(&check.name));
        counted.map(|check| check.points).sum()
    }
}

impl Progress {
    /// Reads the progress kept below `root`; none is an empty one.
    ///
    /// # Errors
    /// When a file that cannot be read cannot be set aside either.
    pub fn load(root: &Path) -> Result<Self> {
        let path = root.join(FOLDER).join(FILE);
        let empty = Progress {
            version: VERSION,
            labs: BTreeMap::new(),
            path: path.clone(),
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(empty),
            Err(error) => return set_aside(&path, &error.to_string()).map(|()| empty),
        };
        match serde_json::from_str::<Progress>(&text) {
            Ok(progress) if progress.version == VERSION => Ok(Progress { path, ..progress }),
            Ok(progress) => {
                let why = format!("it has version {}, not {VERSION}", progress.version);
                set_aside(&path, &why).map(|()| empty)
            }
            Err(error) => set_aside(&path, &error.to_string()).map(|()| empty),
        }
    }

    /// How the learner stands in `lab`.
    pub fn of(&self, lab: &LabId) -> Standing {
        self.labs.get(lab).cloned().unwrap_or_default()
    }

    /// Records that all checks of `lab` were run, and which of them passed.
    pub fn record(&mut self, lab: &LabId, passed: BTreeSet<String>, failed: BTreeSet<String>) {
        let standing = self.labs.entry(lab.clone()).or_default();
        standing.done |= failed.is_empty() && !passed.is_empty();
        standing.passed = passed;
        standing.failed = failed;
    }

    /// Records that one more hint of `check` was shown.
    pub fn hinted(&mut self, lab: &LabId, check: &str) {
        let standing = self.labs.entry(lab.clone()).or_default();
        *standing.hints.entry(check.to_owned()).or_default() += 1;
    }

    /// Forgets all about `lab`.
    pub fn forget(&mut self, lab: &LabId) {
        self.labs.remove(lab);
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub fn save(&self) -> Result<()> {
        let write = || -> Result<()> {
            let text = serde_json::to_string_pretty(self)?;
            if std::fs::read_to_string(&self.path).is_ok_and(|saved| saved == text) {
                return Ok(());
            }
            let folder = self.path.parent().expect("it lies in a folder");
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().with_context(|| format!("could not save your progress in {}", self.path.display()))
    }

    /// Writes the file; where that fails, says so and goes on, because a verdict is worth more
    /// than its record.
    pub fn save_or_tell(&self) {
        if let Err(error) = self.save() {
            screen::note(format!("{error:#}"));
        }
    }
}

fn set_aside(path: &Path, why: &str) -> Result<()> {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let kept = (seconds..)
        .map(|number| path.with_extension(format!("json.unreadable-{number}")))
        .find(|kept| kept.symlink_metadata().is_err())
        .expect("not every name is taken");
    std::fs::rename(path, &kept).with_context(|| {
        format!(
            "could not read your progress ({why}), nor move it aside; move {} away",
            path.display()
        )
    })?;
    screen::note(format!(
        "could not read your progress: {why}. It is kept as {} and counting starts anew; your \
         files are untouched, and `cargo xtask grade` counts what passes.",
        kept.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> LabId {
        LabId::parse("18.1.1").expect("an id")
    }

    fn names(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let root = tempfile::tempdir().expect("a folder");
        let mut progress = Progress::load(root.path()).expect("none yet");
        progress.record(&id(), names(&["a"]), names(&["b"]));
        progress.hinted(&id(), "b");
        progress.save().expect("saved");
        let standing = Progress::load(root.path()).expect("loaded").of(&id());
        assert_eq!(standing.passed, names(&["a"]));
        assert_eq!(standing.hints["b"], 1);
        assert!(!standing.done);
    }

    #[test]
    fn a_lab_that_was_done_stays_done() {
        let root = tempfile::tempdir().expect("a folder");
        let mut progress = Progress::load(root.path()).expect("none yet");
        progress.record(&id(), names(&["a", "b"]), names(&[]));
        progress.record(&id(), names(&["a"]), names(&["b"]));
        assert!(progress.of(&id()).done);
    }

    #[test]
    fn a_reader_never_sees_half_a_file() {
        let root = tempfile::tempdir().expect("a folder");
        let mut progress = Progress::load(root.path()).expect("none yet");
        progress.record(&id(), names(&["a"]), names(&[]));
        progress.save().expect("saved");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 0..200 {
                    let mut progress = Progress::load(root.path()).expect("whole");
                    let many: Vec<String> = (0..n).map(|m| format!("check_{m}")).collect();
                    let many: Vec<&str> = many.iter().map(String::as_str).collect();
                    progress.record(&id(), names(&many), names(&["z"]));
                    progress.save().expect("saved");
                }
            });
            while !writer.is_finished() {
                let text = std::fs::read_to_string(root.path().join(FOLDER).join(FILE));
                let text = text.expect("there is always one");
                serde_json::from_str::<Progress>(&text).expect("and it is whole");
            }
        });
        let kept = std::fs::read_dir(root.path().join(FOLDER))
            .expect("listed")
            .count();
        assert_eq!(kept, 1, "no temporary file is left");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_set_aside_and_kept() {
        let root = tempfile::tempdir().expect("a folder");
        for (index, text) in ["", "{", "[]", "{\"version\":99,\"labs\":{}}", "\u{0}"]
            .iter()
            .enumerate()
        {
            let folder = root.path().join(index.to_string()).join(FOLDER);
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join(FILE), text).expect("written");
            let progress = Progress::load(&root.path().join(index.to_string())).expect(text);
            assert_eq!(progress.of(&id()), Standing::default());
            let kept = std::fs::read_dir(&folder).expect("listed").count();
            assert_eq!(kept, 1, "{text:?} is kept under another name");
        }
    }
}
