//! Whether a binary is as its sources are.
//!
//! Cargo writes `NAME.d` beside a binary: the sources of this workspace that it was made from. A
//! stamp beside it keeps when a build that succeeded was begun: whatever has changed since then, or
//! while it went on, is newer than the stamp.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files of the workspace that decide how every binary is built.
const COMMON: [&str; 4] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    ".cargo/config.toml",
];

/// What is known of a binary of the workspace.
#[derive(Debug)]
pub struct Stamp {
    root: PathBuf,
    binary: PathBuf,
    file: PathBuf,
}

/// A build under way: forgotten unless it is kept.
#[derive(Debug)]
pub struct Begun {
    started: Option<PathBuf>,
    file: PathBuf,
}

impl Stamp {
    /// Of `binary`, made from the workspace in the folder `root`.
    pub fn of(root: &Path, binary: &Path) -> Self {
        Stamp {
            root: root.to_owned(),
            binary: binary.to_owned(),
            file: binary.with_extension("launched"),
        }
    }

    /// Whether nothing that the binary was made from has changed since its last build was begun.
    /// False where that cannot be told.
    pub fn is_fresh(&self) -> bool {
        self.inputs().is_some_and(|inputs| {
            let built = modified(&self.file);
            self.binary.is_file()
                && built.is_some_and(|built| {
                    inputs
                        .iter()
                        .all(|input| modified(input).is_some_and(|changed| changed < built))
                })
        })
    }

    /// To be called before the binary is built again.
    pub fn begin(&self) -> Begun {
        // Another launch may be at the same point: each has a file of its own.
        let started = self
            .file
            .with_extension(format!("launched-{}", std::process::id()));
        let _ = fs::remove_file(&self.file);
        Begun {
            started: File::create(&started).is_ok().then_some(started),
            file: self.file.clone(),
        }
    }

    /// The sources of the binary and what else its build depends on; none where the list is missing
    /// or that of another workspace that builds in the same folder.
    fn inputs(&self) -> Option<BTreeSet<PathBuf>> {
        let list = fs::read_to_string(self.binary.with_extension("d")).ok()?;
        let sources = sources(&list)?;
        if sources.is_empty() || !sources.iter().all(|source| source.starts_with(&self.root)) {
            return None;
        }
        let manifests: BTreeSet<PathBuf> = sources
            .iter()
            .filter_map(|source| {
                let mut folders = source.ancestors().skip(1);
                folders.find(|folder| folder.join("Cargo.toml").is_file())
            })
            .map(|package| package.join("Cargo.toml"))
            .collect();
        let common = COMMON.iter().map(|name| self.root.join(name));
        Some(sources.into_iter().chain(manifests).chain(common).collect())
    }
}

impl Begun {
    /// The build succeeded. A stamp that cannot be written costs the next launch a call of cargo.
    pub fn keep(mut self) {
        if let Some(started) = self.started.take() {
            let _ = fs::rename(started, &self.file);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(started) = self.started.take() {
            let _ = fs::remove_file(started);
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|about| about.modified()).ok()
}

/// The paths after the colon of a makefile rule, as cargo writes it: separated by spaces, a space in
/// a path escaped by a backslash.
fn sources(rule: &str) -> Option<BTreeSet<PathBuf>> {
    let (_, paths) = rule.lines().next()?.split_once(": ")?;
    let mut sources = BTreeSet::new();
    let mut path = String::new();
    let mut characters = paths.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&' ') => path.extend(characters.next()),
            ' ' => {
                sources.insert(PathBuf::from(std::mem::take(&mut path)));
            }
            character => path.push(character),
        }
    }
    sources.insert(PathBuf::from(path));
    sources.remove(Path::new(""));
    Some(sources)
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// A workspace with one package, whose binary has been built; removed with its folder.
    struct Workspace(PathBuf);

    impl Drop for Workspace {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    impl Workspace {
        fn built() -> Self {
            static MADE: AtomicUsize = AtomicUsize::new(0);
            let name = format!(
                "launch-{}-{}",
                process::id(),
                MADE.fetch_add(1, Ordering::Relaxed)
            );
            let workspace = Workspace(env::temp_dir().join(name));
            for name in
                COMMON
                    .iter()
                    .chain(&["tool/Cargo.toml", "tool/src/main.rs", "tool/src/a part.rs"])
            {
                workspace.write(name);
            }
            workspace.build();
            workspace
        }

        fn root(&self) -> &Path {
            &self.0
        }

        fn write(&self, name: &str) {
            let path = self.root().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, "").expect("a file");
        }

        /// Sets when `name` was changed, counted from the build.
        fn changed(&self, name: &str, after: Duration) {
            let built = modified(&self.stamp().file).expect("a stamp");
            let file = File::options()
                .append(true)
                .open(self.root().join(name))
                .expect("a file");
            file.set_modified(built + after).expect("a time");
        }

        fn stamp(&self) -> Stamp {
            Stamp::of(self.root(), &self.root().join("target/debug/tool"))
        }

        fn build(&self) {
            let list = format!(
                "{0}/target/debug/tool: {0}/tool/src/a\\ part.rs {0}/tool/src/main.rs\n",
                self.root().display()
            );
            self.write("target/debug/tool");
            let begun = self.stamp().begin();
            fs::write(self.root().join("target/debug/tool.d"), list).expect("a list");
            begun.keep();
            // What the build was made from is older than its begin.
            let stamp = File::open(self.stamp().file).expect("a stamp");
            stamp
                .set_modified(SystemTime::now() + Duration::from_secs(1))
                .expect("a time");
        }
    }

    #[test]
    fn what_has_not_changed_is_fresh() {
        assert!(Workspace::built().stamp().is_fresh());
    }

    #[test]
    fn a_change_of_any_input_is_noticed() {
        for name in [
            "tool/src/main.rs",
            "tool/src/a part.rs",
            "tool/Cargo.toml",
            "Cargo.lock",
            "rust-toolchain.toml",
        ] {
            let workspace = Workspace::built();
            workspace.changed(name, Duration::from_millis(1));
            assert!(!workspace.stamp().is_fresh(), "{name} has changed");
        }
    }

    #[test]
    fn a_change_at_the_very_moment_of_the_build_is_in_doubt() {
        let workspace = Workspace::built();
        workspace.changed("tool/src/main.rs", Duration::ZERO);
        assert!(!workspace.stamp().is_fresh());
    }

    #[test]
    fn a_source_or_a_binary_that_is_gone_is_noticed() {
        for name in [
            "tool/src/main.rs",
            "target/debug/tool",
            "target/debug/tool.d",
        ] {
            let workspace = Workspace::built();
            fs::remove_file(workspace.root().join(name)).expect("it was there");
            assert!(!workspace.stamp().is_fresh(), "{name} is gone");
        }
    }

    #[test]
    fn a_binary_that_another_workspace_has_built_there_is_not_taken() {
        let (one, other) = (Workspace::built(), Workspace::built());
        let shared = Stamp::of(other.root(), &one.root().join("target/debug/tool"));
        assert!(!shared.is_fresh());
    }

    #[test]
    fn a_build_that_failed_leaves_it_stale() {
        let workspace = Workspace::built();
        drop(workspace.stamp().begin());
        assert!(!workspace.stamp().is_fresh());
        let left = fs::read_dir(workspace.root().join("target/debug")).expect("a folder");
        assert_eq!(left.count(), 2, "the binary and its list");
    }

    #[test]
    fn a_change_during_a_build_is_noticed_after_it() {
        let workspace = Workspace::built();
        let begun = workspace.stamp().begin();
        let started = begun.started.clone().expect("a stamp");
        let file = File::options()
            .append(true)
            .open(workspace.root().join("tool/src/main.rs"))
            .expect("a source");
        let begin = modified(&started).expect("a time");
        file.set_modified(begin + Duration::from_millis(1))
            .expect("a time");
        begun.keep();
        assert!(!workspace.stamp().is_fresh());
    }
}
