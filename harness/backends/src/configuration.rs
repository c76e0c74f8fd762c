//! The configuration of a server, as text from the caller: a main file and those that it refers
//! to. Not a model of what the text means; the server itself says what is wrong with it.

use std::path::{Component, Path, PathBuf};

/// A main file and the files beside it, such as rules.
///
/// ```
/// let configuration = backends::Configuration::new("rule_files: [rules.yml]\n")
///     .file("rules.yml", "groups: []\n");
/// # let _ = configuration;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    main: String,
    others: Vec<(PathBuf, String)>,
}

impl Configuration {
    /// The main file alone.
    #[must_use]
    pub fn new(main: impl Into<String>) -> Self {
        Self {
            main: main.into(),
            others: Vec::new(),
        }
    }

    /// Adds a file beside the main one; relative paths in the main file reach it.
    ///
    /// # Panics
    /// When the name leaves the folder: it must be relative and without `..`.
    #[must_use]
    pub fn file(mut self, name: impl AsRef<Path>, contents: impl Into<String>) -> Self {
        let name = name.as_ref();
        assert!(
            name.components()
                .all(|part| matches!(part, Component::Normal(_))),
            "{} is not a path inside the configuration's folder",
            name.display()
        );
        self.others.push((name.to_owned(), contents.into()));
        self
    }

    /// Every file under `folder`, the main one under its name.
    pub(crate) fn files(&self, folder: &Path, main: &str) -> Vec<(PathBuf, String)> {
        std::iter::once((PathBuf::from(main), self.main.clone()))
            .chain(self.others.iter().cloned())
            .map(|(name, contents)| (folder.join(name), contents))
            .collect()
    }
}

impl From<&str> for Configuration {
    fn from(main: &str) -> Self {
        Self::new(main)
    }
}

impl From<String> for Configuration {
    fn from(main: String) -> Self {
        Self::new(main)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "is not a path inside")]
    fn a_file_outside_of_the_folder_is_refused() {
        let _ = Configuration::new("").file("../rules.yml", "");
    }
}
