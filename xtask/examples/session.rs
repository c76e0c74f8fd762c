//! Makes the README's picture: what a learner sees when the first lab is judged, from the real
//! program. `cargo run --package xtask --example session` writes `docs/session.svg`.

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
    let mut shown = String::new();
    for words in COMMANDS {
        shown.push_str(&format!(
            "\x1b[1m$ cargo xtask {}\x1b[0m\n",
            words.join(" ")
        ));
        let output = Command::new(env!("CARGO"))
            .current_dir(root)
            .arg("xtask")
            .args(words)
            .env("CLICOLOR_FORCE", "1")
            .output()
            .context("could not run the runner")?;
        if output.stdout.is_empty() {
            bail!(
                "nothing was printed:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        shown.push_str(&String::from_utf8_lossy(&output.stdout));
        shown.push('\n');
    }
    let cut: Vec<&str> = shown.lines().take(LINES).collect();
    let picture = Term::new().render_svg(&cut.join("\n"));
    let file = root.join("docs/session.svg");
    std::fs::write(&file, picture)
        .with_context(|| format!("could not write {}", file.display()))?;
    println!("{}", file.display());
    Ok(ExitCode::SUCCESS)
}
