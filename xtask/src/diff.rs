//! `diff`: the worked solution beside the learner's, once the lab passes.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use console::style;
use kit::answers::{self, Answers};
use similar::{ChangeTag, TextDiff};

use crate::catalog::{Catalog, Lab};
use crate::files::{given, learner_files};
use crate::progress::Progress;
use crate::run;
use crate::screen::{self, command};

#[derive(clap::Args)]
pub struct Options {
    /// The lab: 18.1.1, its name or a part of it
    lab: String,
    /// Show it although the lab does not pass yet
    #[arg(long)]
    spoil: bool,
}

pub fn diff(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    let lab = catalog.find(&options.lab)?;
    let mut progress = Progress::load(&catalog.root)?;
    if !options.spoil && !progress.of(lab.id()).done {
        let Some((passed, failed)) = run::verdicts(&catalog, lab)? else {
            return Ok(ExitCode::FAILURE);
        };
        let open = failed.len();
        progress.record(lab.id(), passed, failed);
        progress.save_or_tell();
        if !progress.of(lab.id()).done {
            println!(
                "{} does not pass yet ({} open), and the solution would spoil it.\n  \
                 go on:  {}\n  spoil:  {}",
                lab.id(),
                screen::counted(open, "check"),
                command(format!("cargo xtask hint {}", lab.id())),
                command(format!("cargo xtask diff {} --spoil", lab.id()))
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    show_files(lab)?;
    show_prose(lab);
    let page = lab.solution_dir().join("README.md");
    let text = given(&page)?;
    println!("{}", text.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn show_files(lab: &Lab) -> Result<()> {
    let yours = learner_files(lab, &lab.dir())?;
    let ours = learner_files(lab, &lab.solution_dir())?;
    let names: BTreeSet<&String> = yours.keys().chain(ours.keys()).collect();
    let empty = String::new();
    for name in names {
        let yours = yours.get(name).unwrap_or(&empty);
        let ours = ours.get(name).unwrap_or(&empty);
        if yours == ours {
            println!("{}: the same\n", style(name).bold());
            continue;
        }
        println!("{}", style(format!("--- yours     {name}")).bold());
        println!("{}", style(format!("+++ solution  {name}")).bold());
        let diff = TextDiff::from_lines(yours.as_str(), ours.as_str());
        for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
            print!("{}", style(hunk.header()).dim());
            println!();
            for change in hunk.iter_changes() {
                let line = change.value().trim_end_matches('\n');
                match change.tag() {
                    ChangeTag::Delete => println!("{}", style(format!("-{line}")).red()),
                    ChangeTag::Insert => println!("{}", style(format!("+{line}")).green()),
                    ChangeTag::Equal => println!(" {line}"),
                }
            }
        }
        println!();
    }
    Ok(())
}

/// What is asked for and never graded: the learner's words above the model's.
fn show_prose(lab: &Lab) {
    let read = |dir: std::path::PathBuf| Answers::read(&dir.join(answers::FILE));
    let (Ok(yours), Ok(ours)) = (read(lab.dir()), read(lab.solution_dir())) else {
        return;
    };
    for key in ours.keys().filter(|key| key.ends_with("prose")) {
        let Some(model) = ours.prose(key) else {
            continue;
        };
        println!("{}", style(format!("{key}, your words")).bold());
        let words = yours
            .prose(key)
            .unwrap_or_else(|| "(nothing yet)".to_owned());
        println!("{}", screen::indented(&words, 2));
        println!("{}", style(format!("{key}, a model answer")).bold());
        println!("{}\n", screen::indented(&model, 2));
    }
}
