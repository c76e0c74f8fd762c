//! `next`, and what `cargo xtask` says with no verb: where the learner stands.

use std::process::ExitCode;

use anyhow::{Result, anyhow};

use crate::catalog::{Catalog, Lab};
use crate::progress::Progress;
use crate::screen::{self, command};

#[derive(clap::Args)]
pub struct Options {
    /// Look for the next open lab after this one
    after: Option<String>,
}

/// Shows the brief of the next open lab.
pub fn next(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    let progress = Progress::load(&catalog.root)?;
    let lab = match &options.after {
        Some(query) => {
            let id = catalog.find(query)?.id();
            let mut later = catalog.labs.iter().skip_while(|lab| lab.id() != id).skip(1);
            later
                .find(|lab| !progress.of(lab.id()).done)
                .ok_or_else(|| anyhow!("no lab after {id} is open"))?
        }
        None => match open_lab(&catalog, &progress) {
            Ok(lab) => lab,
            Err(_) => {
                println!(
                    "Every lab is done. {} shows them.",
                    command("cargo xtask list")
                );
                return Ok(ExitCode::SUCCESS);
            }
        },
    };
    let brief = lab.dir().join("README.md");
    let text = crate::files::given(&brief)?;
    println!("{}", text.trim_end());
    println!("\n  files: {}", lab.relative(&lab.dir()));
    println!(
        "  judge: {}",
        command(format!("cargo xtask run {}", lab.id()))
    );
    Ok(ExitCode::SUCCESS)
}

/// Where the learner stands, in a few lines.
pub fn overview() -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    let progress = Progress::load(&catalog.root)?;
    let done = catalog
        .labs
        .iter()
        .filter(|lab| progress.of(lab.id()).done)
        .count();
    screen::title(
        "Nightshift",
        &format!("{done} of {} labs done", catalog.labs.len()),
    );
    println!();
    let mut chapters: Vec<&str> = catalog
        .labs
        .iter()
        .map(|lab| lab.chapter.as_str())
        .collect();
    chapters.dedup();
    for chapter in chapters {
        let labs: Vec<&Lab> = catalog
            .labs
            .iter()
            .filter(|lab| lab.chapter == chapter)
            .collect();
        let possible: u32 = labs.iter().map(|lab| lab.manifest.points()).sum();
        let points: u32 = labs
            .iter()
            .map(|lab| progress.of(lab.id()).points(&lab.manifest))
            .sum();
        println!(
            "  {chapter:<20} {} {points:>5} of {possible} points",
            screen::bar(points, possible, 24)
        );
    }
    println!();
    if let Ok(lab) = open_lab(&catalog, &progress) {
        println!("  next   {} {}", lab.id(), lab.manifest.title);
        println!("         {}", lab.relative(&lab.dir().join("README.md")));
        println!(
            "  judge  {}",
            command(format!("cargo xtask run {}", lab.id()))
        );
    } else {
        println!("  Every lab is done.");
    }
    println!("  more   {}", command("cargo xtask --help"));
    Ok(ExitCode::SUCCESS)
}

/// The first lab that is not done: one that was begun, before one that was not.
pub fn open_lab<'c>(catalog: &'c Catalog, progress: &Progress) -> Result<&'c Lab> {
    let open = |lab: &&Lab| !progress.of(lab.id()).done;
    let begun = |lab: &&Lab| !progress.of(lab.id()).passed.is_empty() && open(lab);
    catalog
        .labs
        .iter()
        .find(begun)
        .or_else(|| catalog.labs.iter().find(open))
        .ok_or_else(|| {
            anyhow!("every lab is done; name one of those that `cargo xtask list` shows")
        })
}
