//! How long each check of a lab took last: the longest are started first, so that a long one does
//! not run alone at the end. One ignored file for each lab.
//!
//! Not a record of verdicts, and nothing rests on it: where it is missing, old or unreadable, the
//! checks begin in another order, and that is all.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::manifest::{Check, LabId};
use crate::progress::FOLDER;

/// The durations of a lab's checks, by name.
#[derive(Debug)]
pub struct Durations {
    path: PathBuf,
    /// In seconds.
    last: BTreeMap<String, f64>,
}

impl Durations {
    /// What is kept of `lab` below `root`.
    pub fn load(root: &Path, lab: &LabId) -> Self {
        let path = root
            .join(FOLDER)
            .join("durations")
            .join(format!("{}.json", lab.dashed()));
        let last = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Durations { path, last }
    }

    /// The checks, those first that took longest. One that was never run may take any time, and
    /// comes before all that are known.
    pub fn longest_first<'l>(&self, checks: &[&'l Check]) -> Vec<&'l Check> {
        let seconds = |check: &Check| self.last.get(&check.name).copied();
        let mut checks = checks.to_vec();
        checks.sort_by(|a, b| {
            let (a, b) = (seconds(a), seconds(b));
            b.unwrap_or(f64::INFINITY)
                .total_cmp(&a.unwrap_or(f64::INFINITY))
        });
        checks
    }

    /// Notes that `check` has just taken this long.
    pub fn note(&mut self, check: &Check, took: Duration) {
        self.last.insert(check.name.clone(), took.as_secs_f64());
    }

    /// Writes the file, whole or not at all. A failure costs the next run a few milliseconds, and is
    /// not worth a word.
    pub fn save(&self) {
        let write = || -> std::io::Result<()> {
            let folder = self.path.parent().expect("it lies in a folder");
            fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&serde_json::to_vec(&self.last)?)?;
            file.persist(&self.path)?;
            Ok(())
        };
        let _ = write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;

    fn manifest() -> Manifest {
        let check = |name: &str| {
            format!(
                "[[check]]\nname = \"{name}\"\ntitle = \"it: {name}\"\npoints = 1\n\
                 start = {{ passes = \"it\" }}\nhints = [\"a\", \"b\"]\n"
            )
        };
        let head = "id = \"18.1.1\"\ntitle = \"It\"\nkind = [\"read\"]\nminutes = 1\ntags = []\n\
                    learner = [\"src\"]\n";
        let checks = ["quick", "slow", "middling", "new"].map(check).concat();
        toml::from_str(&format!("{head}{checks}")).expect("a manifest")
    }

    fn names(durations: &Durations, manifest: &Manifest) -> Vec<String> {
        let checks: Vec<&Check> = manifest.checks.iter().collect();
        let ordered = durations.longest_first(&checks);
        ordered.iter().map(|check| check.name.clone()).collect()
    }

    #[test]
    fn the_longest_of_the_last_run_begin_first_and_the_unknown_before_them() {
        let root = tempfile::tempdir().expect("a folder");
        let manifest = manifest();
        let mut durations = Durations::load(root.path(), &manifest.id);
        assert_eq!(
            names(&durations, &manifest),
            ["quick", "slow", "middling", "new"]
        );
        for (check, millis) in manifest.checks.iter().zip([1, 300, 20]) {
            durations.note(check, Duration::from_millis(millis));
        }
        durations.save();
        let durations = Durations::load(root.path(), &manifest.id);
        assert_eq!(
            names(&durations, &manifest),
            ["new", "slow", "middling", "quick"]
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_or_written_changes_nothing_but_the_order() {
        let root = tempfile::tempdir().expect("a folder");
        let manifest = manifest();
        let path = Durations::load(root.path(), &manifest.id).path;
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        for text in [
            "",
            "{",
            "[1]",
            "{\"slow\":\"long\"}",
            "{\"slow\":null}",
            "\u{0}",
        ] {
            fs::write(&path, text).expect("written");
            let durations = Durations::load(root.path(), &manifest.id);
            assert_eq!(names(&durations, &manifest)[0], "quick", "{text:?}");
        }
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("a folder in its place");
        let mut durations = Durations::load(root.path(), &manifest.id);
        durations.note(&manifest.checks[1], Duration::from_secs(1));
        durations.save();
        assert!(path.is_dir());
    }
}
