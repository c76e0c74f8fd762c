//! `list`: the labs, and where the learner stands in each.

use std::process::ExitCode;

use anyhow::Result;
use console::style;

use crate::catalog::{Catalog, Lab};
use crate::manifest::Kind;
use crate::progress::Progress;
use crate::screen;

#[derive(clap::Args)]
pub struct Options {
    /// Only labs whose id, name, title, tags or chapter contain this
    filter: Option<String>,
    /// Only labs of this kind
    #[arg(long)]
    kind: Option<Kind>,
    /// Only labs that are not done
    #[arg(long)]
    open: bool,
}

pub fn list(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    let progress = Progress::load(&catalog.root)?;
    let shown: Vec<&Lab> = catalog
        .labs
        .iter()
        .filter(|lab| {
            options
                .kind
                .is_none_or(|kind| lab.manifest.kind.contains(&kind))
        })
        .filter(|lab| !options.open || !progress.of(lab.id()).done)
        .filter(|lab| {
            options
                .filter
                .as_ref()
                .is_none_or(|part| mentions(lab, part))
        })
        .collect();
    let mut chapter = "";
    for lab in &shown {
        if lab.chapter != chapter {
            chapter = &lab.chapter;
            println!("{}", style(chapter).bold());
        }
        let standing = progress.of(lab.id());
        let points = standing.points(&lab.manifest);
        let state = if standing.done {
            style("done").green()
        } else if points > 0 {
            style("begun").yellow()
        } else {
            style("").dim()
        };
        let row = format!(
            "  {:<8}{:<41.41} {:<12.12}{:>3}/{:<3} {state}",
            lab.id(),
            lab.manifest.title,
            lab.manifest.kinds(),
            points,
            lab.manifest.points(),
        );
        println!("{}", row.trim_end());
    }
    let what = screen::counted(shown.len(), "lab");
    match shown.len() {
        0 => println!("No lab is like that; `cargo xtask list` shows all."),
        _ => println!("\n{what}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn mentions(lab: &Lab, part: &str) -> bool {
    let part = part.to_lowercase();
    let id = lab.id().to_string();
    [
        lab.slug.as_str(),
        lab.chapter.as_str(),
        id.as_str(),
        lab.manifest.title.as_str(),
    ]
    .into_iter()
    .chain(lab.manifest.tags.iter().map(String::as_str))
    .any(|text| text.to_lowercase().contains(&part))
}
