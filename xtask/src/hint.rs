//! `hint`: for the checks that fail now, one step more pointed each time.

use std::process::ExitCode;

use anyhow::{Result, bail};
use console::style;

use crate::catalog::Catalog;
use crate::manifest::Check;
use crate::progress::Progress;
use crate::run;
use crate::screen::{self, command};

#[derive(clap::Args)]
pub struct Options {
    /// The lab: 18.1.1, its name or a part of it; the next open one if left out
    lab: Option<String>,
    /// Only for the checks whose names contain this
    #[arg(long, value_name = "NAME")]
    check: Option<String>,
    /// Show every hint at once
    #[arg(long)]
    all: bool,
}

pub fn hint(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    let mut progress = Progress::load(&catalog.root)?;
    let lab = match &options.lab {
        Some(query) => catalog.find(query)?,
        None => crate::next::open_lab(&catalog, &progress)?,
    };
    // What fails is what fails now, not at the last run: the files may have changed since.
    let Some((passed, failed)) = run::verdicts(&catalog, lab)? else {
        return Ok(ExitCode::FAILURE);
    };
    progress.record(lab.id(), passed, failed.clone());
    let fits = |check: &&Check| {
        failed.contains(&check.name)
            && options
                .check
                .as_ref()
                .is_none_or(|part| check.name.contains(part))
    };
    let checks: Vec<&Check> = lab.manifest.checks.iter().filter(fits).collect();
    let title = || screen::title(&format!("{} {}", lab.id(), lab.manifest.title), "hints");
    if checks.is_empty() {
        progress.save_or_tell();
        if failed.is_empty() {
            title();
            println!("\n  Every check passes: there is nothing to hint at.");
            return Ok(ExitCode::SUCCESS);
        }
        let names: Vec<String> = failed.iter().map(|name| format!("  {name}")).collect();
        bail!(
            "no failing check has that in its name; there are\n{}",
            names.join("\n")
        );
    }
    title();
    // One check at a time, unless asked for: a wall of hints is a solution in disguise.
    let all = options.all || options.check.is_some();
    let shown = if all { &checks[..] } else { &checks[..1] };
    for check in shown {
        println!("\n  {}", style(&check.title).bold());
        let known = progress
            .of(lab.id())
            .hints
            .get(&check.name)
            .copied()
            .unwrap_or(0);
        let until = if options.all {
            check.hints.len()
        } else {
            (known + 1).min(check.hints.len())
        };
        for (index, hint) in check.hints.iter().take(until).enumerate() {
            let number = format!("{}.", index + 1);
            let text = screen::indented(hint, 7);
            println!("    {number} {}", text.trim_start());
        }
        if until > known {
            progress.hinted(lab.id(), &check.name);
        }
        if until < check.hints.len() {
            let more = match &options.check {
                Some(part) => format!("cargo xtask hint {} --check {part}", lab.id()),
                None => format!("cargo xtask hint {}", lab.id()),
            };
            println!(
                "       {} more: {}",
                check.hints.len() - until,
                command(more)
            );
        } else if !options.all {
            println!(
                "       That was the last; the solution: {}",
                command(format!("cargo xtask diff {} --spoil", lab.id()))
            );
        }
    }
    if checks.len() > shown.len() {
        println!(
            "\n  {} too: {}",
            match checks.len() - shown.len() {
                1 => "1 other check fails".to_owned(),
                others => format!("{others} other checks fail"),
            },
            command(format!("cargo xtask hint {} --check NAME", lab.id()))
        );
        for check in &checks[shown.len()..] {
            println!("    {}", style(&check.name).dim());
        }
    }
    progress.save_or_tell();
    Ok(ExitCode::SUCCESS)
}
