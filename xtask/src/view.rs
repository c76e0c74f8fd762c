//! `view`: the dumps of a lab as one page for a browser, which needs no network.
//!
//! The drawing is done by the package `view`, which is built and run here rather than linked: the
//! runner stays quick to build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use kit::seed::Seed;

use crate::build;
use crate::catalog::{Catalog, Lab};
use crate::fixture;

/// The manifest of the package that draws.
const MANIFEST: &str = "harness/view/Cargo.toml";

#[derive(clap::Args)]
pub struct Options {
    /// The lab: 18.1.1, its name or a part of it
    lab: String,
    /// Look at the variant that `fixture` makes from this seed
    #[arg(long, conflicts_with = "file")]
    seed: Option<Seed>,
    /// Look at this file instead of the lab's dumps; may be given more than once
    #[arg(long)]
    file: Vec<PathBuf>,
    /// The moment at which a dashboard is shown: 2026-01-31T10:00:00Z or a Unix
    /// time; that of the last sample if left out
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Where to write the page, which is then not opened
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Serve the page on this machine until Ctrl-C, and print its address
    #[arg(long, conflicts_with = "output")]
    serve: bool,
}

pub fn view(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    let lab = catalog.find(&options.lab)?;
    let shown = shown(&catalog, lab, options)?;
    let bare = !shown.files.iter().any(|path| is_dashboard(path));
    let program = build::program(&catalog.root, "view", MANIFEST, bare)?;
    let mut command = Command::new(program);
    command
        .arg("--title")
        .arg(format!("{} {}", lab.id(), lab.manifest.title))
        .arg("--about")
        .arg(&shown.about);
    if options.serve {
        command.arg("--serve");
    } else if let Some(output) = &options.output {
        command.arg("--output").arg(output);
    } else {
        let page = catalog
            .root
            .join("target/nightshift/view")
            .join(format!("{}.html", shown.name));
        command.arg("--open").arg("--output").arg(page);
    }
    if let Some(at) = &options.at {
        command.arg("--at").arg(at);
    }
    run(command.arg("--").args(&shown.files))
}

/// Becomes the program, so that whatever ends the runner ends a page that is served.
#[cfg(unix)]
fn run(command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec()).context("could not start the program that draws")
}

#[cfg(not(unix))]
fn run(command: &mut Command) -> Result<ExitCode> {
    let status = command
        .status()
        .context("could not start the program that draws")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

/// What to look at.
struct Shown {
    files: Vec<PathBuf>,
    /// The name of the page's file, without its ending.
    name: String,
    about: String,
}

fn shown(catalog: &Catalog, lab: &Lab, options: &Options) -> Result<Shown> {
    if !options.file.is_empty() {
        return Ok(Shown {
            files: options.file.clone(),
            name: format!("{}-own", lab.slug),
            about: "Files of your own.".into(),
        });
    }
    // What the learner builds may be a dashboard, which shows the metrics of the lab.
    let mut boards = files(&lab.dir())?;
    boards.retain(|path| is_dashboard(path));
    if let Some(seed) = options.seed {
        boards.extend(fixture::make(catalog, lab, seed, None)?.files);
        return Ok(Shown {
            files: boards,
            name: format!("{}-seed-{seed}", lab.slug),
            about: format!("Another system, made from the seed {seed}."),
        });
    }
    boards.extend(files(&lab.fixture_dir())?);
    let files = boards;
    if files.is_empty() {
        bail!(
            "{} comes without a dump: there is nothing to look at; `--file` shows one of your own",
            lab.id()
        );
    }
    Ok(Shown {
        files,
        name: lab.slug.clone(),
        about: "The dump that comes with the lab.".into(),
    })
}

/// Whether a file is a dashboard, for which the program needs more than for anything else.
fn is_dashboard(path: &Path) -> bool {
    let json = path.extension().is_some_and(|ending| ending == "json");
    json && fs::read_to_string(path).is_ok_and(|text| text.contains("\"panels\""))
}

/// The files of a folder and of those within it, by name; none where there is no folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries =
        fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("could not list {}", folder.display()))?;
        paths.push(entry.path());
    }
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if !hidden {
            found.push(path);
        }
    }
    Ok(found)
}
