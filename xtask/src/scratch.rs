//! Workspaces below the target folder, in which submissions are built that are not the learner's own
//! files: decoys, and what `grade --submission` is given.
//!
//! They have the manifest and the lock file of the real workspace, with its paths made absolute, so
//! that dependencies and the harness are built once for all. Files that would not change are left
//! alone, for the same reason. That is why there is one of each kind, and why it is locked: two
//! graders at once would judge each other's submissions.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use crate::build::Plan;
use crate::catalog::Catalog;
use crate::files::write;

/// A workspace of our own making.
#[derive(Debug)]
pub struct Scratch {
    /// Its root.
    pub root: PathBuf,
    target_dir: PathBuf,
    /// Held until the last check has run: the binaries lie in one place as well.
    _lock: File,
}

impl Scratch {
    /// Makes or updates the scratch workspace `name`, whose members match `members`. Waits while
    /// another process uses it.
    ///
    /// # Errors
    /// When the real workspace's manifest is not what it should be, or files cannot be written.
    pub fn prepare(catalog: &Catalog, name: &str, members: &str) -> Result<Self> {
        let target_dir = target_dir(catalog);
        let root = target_dir.join("nightshift").join(name);
        let taken = root.with_extension("lock");
        let taken =
            exclusive(&taken).with_context(|| format!("could not lock {}", taken.display()))?;
        let manifest = fs::read_to_string(catalog.root.join("Cargo.toml"))
            .context("could not read the workspace's Cargo.toml")?;
        let mut manifest: toml::Table =
            toml::from_str(&manifest).context("the workspace's Cargo.toml is not valid")?;
        let workspace = manifest
            .get_mut("workspace")
            .and_then(toml::Value::as_table_mut)
            .ok_or_else(|| anyhow!("the workspace's Cargo.toml has no [workspace]"))?;
        workspace.insert("members".into(), toml::Value::Array(vec![members.into()]));
        for key in ["default-members", "exclude"] {
            workspace.remove(key);
        }
        let dependencies = workspace
            .get_mut("dependencies")
            .and_then(toml::Value::as_table_mut);
        for (_, dependency) in dependencies.into_iter().flatten() {
            let path = dependency
                .get("path")
                .and_then(toml::Value::as_str)
                .map(str::to_owned);
            if let (Some(path), Some(table)) = (path, dependency.as_table_mut()) {
                let absolute = catalog.root.join(path).display().to_string();
                table.insert("path".into(), absolute.into());
            }
        }
        write(&root.join("Cargo.toml"), &toml::to_string(&manifest)?)?;
        // The same versions as in the workspace; cargo adds the scratch packages itself.
        let lock = root.join("Cargo.lock");
        let source = catalog.root.join("Cargo.lock");
        if newer(&source, &lock) {
            fs::copy(&source, &lock).context("could not copy Cargo.lock")?;
        }
        Ok(Scratch {
            root,
            target_dir,
            _lock: taken,
        })
    }

    /// What it takes to build the checkers of `packages` here.
    pub fn plan(&self, packages: Vec<String>) -> Plan {
        Plan {
            keep_going: true,
            target_dir: Some(self.target_dir.clone()),
            ..Plan::checkers(&self.root, packages)
        }
    }
}

/// The file at `path`, locked until it is dropped.
fn exclusive(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::create(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another `cargo xtask` judges submissions here: waiting for its end");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    Ok(file)
}

/// The folder that cargo builds into.
fn target_dir(catalog: &Catalog) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| catalog.root.join("target"), |dir| catalog.root.join(dir))
}

fn newer(source: &Path, copy: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    modified(copy).is_none_or(|copied| modified(source).is_none_or(|changed| changed > copied))
}
