//! Where the files of a lab are.

use std::path::{Path, PathBuf};

use crate::protocol::{FIXTURE_DIR, LAB_DIR};

/// The folder that holds the learner's files: the package's own, unless the runner judges a copy.
///
/// Call it as `kit::lab_dir!()`, which supplies the folder of the package under test.
pub fn lab_dir(manifest_dir: &str) -> PathBuf {
    std::env::var_os(LAB_DIR).map_or_else(|| PathBuf::from(manifest_dir), PathBuf::from)
}

/// A file of `fixtures/CHAPTER/SLUG/`, found from the folder of the package under test, which is
/// `labs/CHAPTER/SLUG` or `solutions/CHAPTER/SLUG`, unless the runner judges a copy and says where.
///
/// Call it as `kit::fixture!("scrape.prom")`.
///
/// # Panics
/// When the file cannot be read: a lab without its fixture is broken, and says so.
pub fn fixture(manifest_dir: &str, name: &str) -> String {
    let path = fixture_path(manifest_dir, name);
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("could not read the fixture {}: {error}", path.display()))
}

/// The path of a fixture, as [`fixture`] finds it.
pub fn fixture_path(manifest_dir: &str, name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os(FIXTURE_DIR) {
        return Path::new(&folder).join(name);
    }
    let lab = Path::new(manifest_dir);
    let slug = lab.file_name().expect("a lab's folder has a name");
    let chapter = lab
        .parent()
        .and_then(Path::file_name)
        .expect("a lab's folder lies in its chapter's");
    let root = lab
        .ancestors()
        .nth(3)
        .expect("a lab lies three folders below the root");
    root.join("fixtures").join(chapter).join(slug).join(name)
}

/// The folder that holds the learner's files.
#[macro_export]
macro_rules! lab_dir {
    () => {
        $crate::place::lab_dir(env!("CARGO_MANIFEST_DIR"))
    };
}

/// The text of a fixture of this lab.
#[macro_export]
macro_rules! fixture {
    ($name:expr) => {
        $crate::place::fixture(env!("CARGO_MANIFEST_DIR"), $name)
    };
}

/// The answers of the learner, from `answers.toml` in the lab's folder.
#[macro_export]
macro_rules! answers {
    () => {
        $crate::answers::Answers::of_lab(&$crate::lab_dir!())
    };
}
