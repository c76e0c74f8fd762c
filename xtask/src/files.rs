//! The files of a submission: reading them, laying them out, and never losing one.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use crate::catalog::Lab;

/// A learner's file larger than this, in bytes, is no source and no answer.
pub const LARGEST: u64 = 4 << 20;

/// The learner's files of a lab, as they are in `base`: paths relative to it, with `/`.
pub fn learner_files(lab: &Lab, base: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for own in &lab.manifest.learner {
        let path = base.join(own);
        if path.is_dir() && !path.is_symlink() {
            for (file, text) in files_below(&path)? {
                files.insert(format!("{own}/{file}"), text);
            }
        } else if path.exists() {
            files.insert(own.clone(), read(&path)?);
        }
    }
    // A module of `src` that is given, and not the learner's, is still part of the crate.
    for (file, text) in files_below(&base.join("src"))? {
        files.entry(format!("src/{file}")).or_insert(text);
    }
    Ok(files)
}

/// Every text file below `folder`, by its path relative to it.
pub fn files_below(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for path in entries(folder)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !path.is_symlink() {
            for (file, text) in files_below(&path)? {
                files.insert(format!("{name}/{file}"), text);
            }
        } else {
            files.insert(name, read(&path)?);
        }
    }
    Ok(files)
}

/// What lies in a folder, in order; nothing where there is no such folder.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("could not list {}", folder.display()));
        }
    };
    let mut paths = Vec::new();
    for entry in listing {
        let path = entry
            .with_context(|| format!("could not list {}", folder.display()))?
            .path();
        if !path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .starts_with('.')
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// What the learner's files hold, to tell whether they have changed. Whatever lies there has a
/// state: links, devices and files that cannot be read as well.
#[derive(Debug, PartialEq, Eq)]
pub struct State(BTreeMap<PathBuf, Content>);

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Bytes(Vec<u8>),
    LeadsTo(PathBuf),
    /// Too large to be compared: its size in bytes and when it was changed.
    Large(u64, Option<SystemTime>),
    Unreadable(ErrorKind),
    Special,
}

impl State {
    pub fn of(lab: &Lab) -> Self {
        let mut files = BTreeMap::new();
        for own in &lab.manifest.learner {
            collect(&lab.dir().join(own), &mut files);
        }
        collect(&lab.dir().join("src"), &mut files);
        State(files)
    }
}

fn collect(path: &Path, into: &mut BTreeMap<PathBuf, Content>) {
    let content = fs::symlink_metadata(path).and_then(|data| {
        Ok(Some(if data.is_symlink() {
            Content::LeadsTo(fs::read_link(path)?)
        } else if data.is_dir() {
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    collect(&entry.path(), into);
                }
            }
            return Ok(None);
        } else if !data.is_file() {
            Content::Special
        } else if data.len() > LARGEST {
            Content::Large(data.len(), data.modified().ok())
        } else {
            Content::Bytes(fs::read(path)?)
        }))
    });
    match content {
        Ok(Some(content)) => into.insert(path.to_owned(), content),
        Ok(None) => None,
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => into.insert(path.to_owned(), Content::Unreadable(error.kind())),
    };
}

/// Writes a file, unless it says the same already.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let folder = path.parent().expect("a file lies in a folder");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("could not write {}", path.display()))
}

/// What to do about a file that is not the learner's and not as it should be.
pub const RESTORE: &str = "it is not yours to change: restore it from the repository";

/// The text of a file that belongs to the lab and not to the learner.
pub fn given(path: &Path) -> Result<String> {
    fs::read_to_string(path)
        .with_context(|| format!("could not read {}; {RESTORE}", path.display()))
}

/// The text of a regular file of bearable size. A link could lead anywhere, and a device has no
/// end, so neither is read.
pub fn read(path: &Path) -> Result<String> {
    let data =
        fs::symlink_metadata(path).with_context(|| format!("could not read {}", path.display()))?;
    if !data.is_file() {
        bail!(
            "{} is a link or another special file; put a plain file in its place",
            path.display()
        );
    }
    if data.len() > LARGEST {
        bail!(
            "{} has {} bytes, more than any submission needs",
            path.display(),
            data.len()
        );
    }
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            bail!("{} is not UTF-8; save it in that encoding", path.display())
        }
        read => read.with_context(|| format!("could not read {}", path.display())),
    }
}
