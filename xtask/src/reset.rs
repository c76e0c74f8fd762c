//! `reset`: puts the start of a lab back, after asking, and keeps a copy of what was there.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use crate::catalog::{Catalog, Lab};
use crate::files::{entries, write};
use crate::progress::{FOLDER, Progress};
use crate::starts::{self, Files};

#[derive(clap::Args)]
pub struct Options {
    /// The lab: 18.1.1, its name or a part of it
    lab: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub fn reset(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    let lab = catalog.find(&options.lab)?;
    let start = starts::kept(lab)?;
    let changed = changes(lab, &start)?;
    if changed.is_empty() {
        println!("{} is as it was at the start.", lab.id());
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} {}: these files are not as at the start:",
        lab.id(),
        lab.manifest.title
    );
    for change in &changed {
        println!("  {change}");
    }
    if !options.yes && !confirmed()? {
        println!("Nothing was changed.");
        return Ok(ExitCode::FAILURE);
    }
    let copy = put_back(&catalog.root, lab, &start)
        .context("could not put the start back; nothing that is not kept was removed")?;
    let mut progress = Progress::load(&catalog.root)?;
    progress.forget(lab.id());
    progress.save_or_tell();
    println!(
        "The start is back. What was there is kept in\n  {}",
        lab.relative(&copy)
    );
    Ok(ExitCode::SUCCESS)
}

/// Copies the learner's files aside, then writes the start. Gives the folder of the copy.
///
/// # Errors
/// When a file cannot be copied: then nothing has been changed.
pub fn put_back(root: &Path, lab: &Lab, start: &Files) -> Result<PathBuf> {
    let copy = free_folder(root, lab)?;
    for own in &lab.manifest.learner {
        copy_tree(&lab.dir().join(own), &copy.join(own))?;
    }
    for own in &lab.manifest.learner {
        let path = lab.dir().join(own);
        let removed = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)
        } else if path.symlink_metadata().is_ok() {
            fs::remove_file(&path)
        } else {
            Ok(())
        };
        removed.with_context(|| format!("could not remove {}", path.display()))?;
    }
    for (file, text) in start {
        write(&lab.dir().join(file), text)?;
    }
    Ok(copy)
}

fn confirmed() -> Result<bool> {
    if !console::user_attended() {
        bail!("there is no terminal to ask on; with `--yes` nothing is asked");
    }
    print!("Put the start back? A copy of your files is kept. [y/N] ");
    std::io::stdout().flush().context("could not ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("could not read your answer")?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// What differs from the start, a line each.
fn changes(lab: &Lab, start: &Files) -> Result<Vec<String>> {
    let mut present = Vec::new();
    for own in &lab.manifest.learner {
        list(&lab.dir().join(own), own, &mut present)?;
    }
    let mut lines = Vec::new();
    for file in &present {
        match start.get(file) {
            None => lines.push(format!("{file} (new)")),
            Some(text) => {
                if !holds(&lab.dir().join(file), text) {
                    lines.push(file.clone());
                }
            }
        }
    }
    for file in start.keys().filter(|file| !present.contains(file)) {
        lines.push(format!("{file} (gone)"));
    }
    Ok(lines)
}

/// Whether it is a plain file with this text; what is none is not read, since it may have no end.
fn holds(path: &Path, text: &str) -> bool {
    path.symlink_metadata().is_ok_and(|data| data.is_file())
        && fs::read(path).is_ok_and(|now| now == text.as_bytes())
}

fn list(path: &Path, name: &str, into: &mut Vec<String>) -> Result<()> {
    if path.is_dir() && !path.is_symlink() {
        for entry in entries(path)? {
            let part = entry
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            list(&entry, &format!("{name}/{part}"), into)?;
        }
    } else if path.symlink_metadata().is_ok() {
        into.push(name.to_owned());
    }
    Ok(())
}

/// A folder that does not exist yet: two resets within a second keep two copies.
fn free_folder(root: &Path, lab: &Lab) -> Result<PathBuf> {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let kept = root.join(FOLDER).join("kept");
    fs::create_dir_all(&kept).with_context(|| format!("could not make {}", kept.display()))?;
    for attempt in 0..1000 {
        let folder = kept.join(format!("{}-{}", lab.slug, seconds + attempt));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error).with_context(|| format!("could not make {}", folder.display()));
            }
        }
    }
    bail!(
        "could not find a free name for the copy in {}",
        kept.display()
    )
}

/// Copies files byte by byte, and links as links. Pipes, sockets and devices hold nothing of the
/// learner's and are left out.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let data = match from.symlink_metadata() {
        Ok(data) => data,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("could not read {}", from.display()));
        }
    };
    let copied = if data.is_dir() {
        fs::create_dir_all(to)
    } else if data.is_symlink() {
        fs::read_link(from).and_then(|target| link(&target, to))
    } else if data.is_file() {
        fs::copy(from, to).map(|_| ())
    } else {
        Ok(())
    };
    copied.with_context(|| format!("could not copy {} to {}", from.display(), to.display()))?;
    if data.is_dir() {
        let inside =
            fs::read_dir(from).with_context(|| format!("could not list {}", from.display()))?;
        for entry in inside {
            let entry = entry.with_context(|| format!("could not list {}", from.display()))?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link(target: &Path, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}

#[cfg(not(unix))]
fn link(target: &Path, at: &Path) -> std::io::Result<()> {
    fs::copy(target, at).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace with one lab, whose start is kept.
    fn workspace() -> (tempfile::TempDir, Catalog) {
        let root = tempfile::tempdir().expect("a folder");
        let lab = root.path().join("labs/18-x/18-9-9-y");
        for (file, text) in [
            ("src/lib.rs", "start\n"),
            ("src/deep/part.rs", "part\n"),
            ("answers.toml", "a = \"?\"\n"),
            (
                "lab.toml",
                "id = \"18.9.9\"\ntitle = \"t\"\nkind = [\"fix\"]\nminutes = 1\ntags = []\n\
                 learner = [\"src\", \"answers.toml\"]\n[[check]]\nname = \"c\"\ntitle = \"c\"\n\
                 points = 1\nstart = { fails = \"x\" }\nhints = []\n",
            ),
        ] {
            write(&lab.join(file), text).expect("written");
        }
        let catalog = Catalog::at(root.path().to_owned()).expect("one lab");
        starts::keep(&catalog.labs[0]).expect("kept");
        (root, catalog)
    }

    #[test]
    fn the_start_comes_back_and_nothing_is_lost() {
        let (root, catalog) = workspace();
        let lab = &catalog.labs[0];
        fs::write(lab.dir().join("src/lib.rs"), [0xFF, 0xFE, 0x00]).expect("written");
        fs::write(lab.dir().join("src/mine.rs"), "mine").expect("written");
        fs::remove_file(lab.dir().join("src/deep/part.rs")).expect("removed");
        let start = starts::kept(lab).expect("kept");
        let changed = changes(lab, &start).expect("listed");
        assert_eq!(
            changed,
            ["src/lib.rs", "src/mine.rs (new)", "src/deep/part.rs (gone)"]
        );
        let copy = put_back(root.path(), lab, &start).expect("put back");
        assert_eq!(starts::current(lab).expect("read"), start);
        assert_eq!(
            fs::read(copy.join("src/lib.rs")).expect("kept"),
            [0xFF, 0xFE, 0x00]
        );
        assert_eq!(
            fs::read_to_string(copy.join("src/mine.rs")).expect("kept"),
            "mine"
        );
        let again = put_back(root.path(), lab, &start).expect("put back");
        assert_ne!(copy, again, "a second reset keeps a second copy");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_kept_as_a_link_and_what_it_leads_to_is_untouched() {
        let (root, catalog) = workspace();
        let lab = &catalog.labs[0];
        let elsewhere = root.path().join("elsewhere");
        fs::create_dir(&elsewhere).expect("a folder");
        fs::write(elsewhere.join("precious"), "p").expect("written");
        fs::remove_dir_all(lab.dir().join("src")).expect("removed");
        std::os::unix::fs::symlink(&elsewhere, lab.dir().join("src")).expect("linked");
        let start = starts::kept(lab).expect("kept");
        put_back(root.path(), lab, &start).expect("put back");
        assert_eq!(starts::current(lab).expect("read"), start);
        assert!(elsewhere.join("precious").exists());
    }
}
