//! Makes the README's picture: what a learner sees when the first lab is judged, from the real
//! program. `cargo run --package xtask --example session` writes `docs/session.svg`.
//!
//! The labs are those of the last commit, in a clone: a maintainer's own files and progress are
//! neither shown nor changed.

use std::path::Path;
use std::process::{Command, ExitCode};

use anstyle_svg::Term;
use anyhow::{Context as _, Result, bail};

/// What the picture shows being typed.
const COMMANDS: [&[&str]; 2] = [&["run", "18.1.1"], &["hint", "18.1.1", "--check", "median"]];
/// The picture ends after this many lines, as a screen would.
const LINES: usize = 54;

fn main() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the runner lies in the workspace")?;
    let clone = tempfile::tempdir().context("could not make a folder for a clone")?;
    let status = Command::new("git")
        .args(["clone", "--quiet"])
        .args([root, clone.path()])
        .status()
        .context("could not start git")?;
    if !status.success() {
        bail!("could not clone {}", root.display());
    }
    let mut shown = String::new();
    // The first run builds, which takes longer than what the picture is to show.
    say(root, clone.path(), COMMANDS[0])?;
    for words in COMMANDS {
        shown.push_str(&format!(
            "\x1b[1m$ cargo xtask {}\x1b[0m\n{}\n",
            words.join(" "),
            say(root, clone.path(), words)?
        ));
    }
    let cut: Vec<&str> = shown.lines().take(LINES).collect();
    let picture = Term::new().render_svg(&cut.join("\n"));
    let file = root.join("docs/session.svg");
    std::fs::write(&file, picture)
        .with_context(|| format!("could not write {}", file.display()))?;
    println!("{}", file.display());
    Ok(ExitCode::SUCCESS)
}

/// What the runner prints, about the labs of a clone.
fn say(root: &Path, clone: &Path, words: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .arg("xtask")
        .args(words)
        .env("NIGHTSHIFT_WORKSPACE", clone)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .env("CLICOLOR_FORCE", "1")
        .output()
        .context("could not run the runner")?;
    if output.stdout.is_empty() {
        bail!(
            "nothing was printed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
