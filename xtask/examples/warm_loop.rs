//! Measures the warm loop: an edit judged by `cargo xtask run ID`, against the same edit judged by
//! plain `cargo test -p NAME --test check`. Alternating, in one run, by the median.
//!
//! `cargo run --package xtask --example warm_loop -- 18.1.1 read-pool-metrics src/lib.rs`

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

const ROUNDS: usize = 15;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [id, name, file] = arguments.as_slice() else {
        bail!("give the lab's id, its package and the file to edit");
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the runner lies in the workspace")?;
    let file = find(root, name)?.join(file);
    let before = fs::read_to_string(&file).context("could not read the file to edit")?;
    let plain = ["test", "--quiet", "--package", name, "--test", "check"];
    let ours = ["xtask", "run", id];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (side, words) in [&plain[..], &ours[..]].into_iter().enumerate() {
            // A real edit: a comment with another number each time.
            fs::write(&file, format!("{before}// {round}.{side}\n"))
                .context("could not edit the file")?;
            let began = Instant::now();
            let status = Command::new("cargo")
                .current_dir(root)
                .args(words)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            let took = began.elapsed().as_secs_f64();
            fs::write(&file, &before).context("could not put the file back")?;
            status.context("could not start cargo")?;
            // The first round warms up.
            if round > 0 {
                times[side].push(took);
            }
        }
    }
    let [plain, ours] = times.map(median);
    println!(
        "{id}: cargo test {plain:.2} s, cargo xtask run {ours:.2} s, ratio {:.2} (medians of {ROUNDS})",
        ours / plain
    );
    Ok(ExitCode::SUCCESS)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The folder of a lab's package.
fn find(root: &Path, name: &str) -> Result<std::path::PathBuf> {
    for chapter in fs::read_dir(root.join("labs")).context("could not list the labs")? {
        let chapter = chapter?.path();
        if !chapter.is_dir() {
            continue;
        }
        for lab in fs::read_dir(&chapter).context("could not list a chapter")? {
            let lab = lab?.path();
            if lab.to_string_lossy().ends_with(&format!("-{name}")) {
                return Ok(lab);
            }
        }
    }
    bail!("there is no lab {name}")
}
