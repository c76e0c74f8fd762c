//! `bench`: runs a lab's benchmark and judges the figures that the lab names, with their spread.

use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use console::style;
use kit::paired::{Figure, Judgement, Limit};
use kit::protocol::{FIGURES_FILE, FigureKind, FigureRecord};

use crate::build;
use crate::catalog::Catalog;
use crate::manifest;
use crate::screen::{self, command};

#[derive(clap::Args)]
pub struct Options {
    /// The lab: 18.1.2, its name or a part of it
    lab: String,
    /// Measure the worked solution instead of your files
    #[arg(long)]
    solution: bool,
}

pub fn bench(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    let lab = catalog.find(&options.lab)?;
    if lab.manifest.figures.is_empty() {
        println!("{} names no figure: there is nothing to measure.", lab.id());
        return Ok(ExitCode::SUCCESS);
    }
    let package = if options.solution {
        lab.solution_package()
    } else {
        lab.package().to_owned()
    };
    screen::title(&format!("{} {}", lab.id(), lab.manifest.title), "benchmark");
    let folder = tempfile::tempdir().context("could not make a temporary folder")?;
    let figures = folder.path().join("figures");
    // Criterion's report goes to the screen as it comes: it is the progress of a slow command.
    let status = build::cargo()
        .current_dir(&catalog.root)
        .args([
            "bench",
            "--quiet",
            "--package",
            &package,
            "--bench",
            "bench",
        ])
        .env(FIGURES_FILE, &figures)
        .stdin(Stdio::null())
        .status()
        .context("could not start cargo, which should be on the PATH")?;
    if !status.success() {
        bail!("the benchmark of {package} did not run to its end");
    }
    let text = std::fs::read_to_string(&figures).unwrap_or_default();
    let records = FigureRecord::read_all(&text);
    println!();
    let mut held = true;
    for wanted in &lab.manifest.figures {
        let Some(record) = records
            .iter()
            .rev()
            .find(|record| record.name == wanted.name)
        else {
            println!(
                "  {}  {}: not measured",
                style("FAIL").red().bold(),
                wanted.title
            );
            held = false;
            continue;
        };
        held &= judge(wanted, record)?;
    }
    if !held {
        println!(
            "\n  Noise is the usual reason on a busy machine: close what runs, and once more\n  {}",
            command(format!("cargo xtask bench {}", lab.id()))
        );
    }
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints one figure and whether it holds.
fn judge(wanted: &manifest::Figure, record: &FigureRecord) -> Result<bool> {
    let figure = Figure::from_record(record)
        .map_err(|why| anyhow::anyhow!("the figure {} is not valid: {why}", record.name))?;
    let limits = wanted
        .at_most
        .map(Limit::AtMost)
        .into_iter()
        .chain(wanted.at_least.map(Limit::AtLeast));
    let mut held = true;
    for limit in limits {
        let (word, said) = match figure.judge(limit) {
            Judgement::Holds => (style("pass").green(), "holds"),
            Judgement::Exceeds => (style("FAIL").red().bold(), "does not hold"),
            Judgement::TooNoisy => (style("????").yellow(), "too noisy to say"),
        };
        held &= said == "holds";
        let bound = match limit {
            Limit::AtMost(bound) => format!("at most {}", unit(record.kind, bound)),
            Limit::AtLeast(bound) => format!("at least {}", unit(record.kind, bound)),
        };
        println!("  {word}  {}", wanted.title);
        println!(
            "        {} (95 %: {} to {}, {} samples), {bound}: {said}",
            unit(record.kind, record.value),
            unit(record.kind, record.low),
            unit(record.kind, record.high),
            record.samples
        );
    }
    Ok(held)
}

fn unit(kind: FigureKind, value: f64) -> String {
    match kind {
        FigureKind::Ratio => format!("{value:.4}"),
        FigureKind::Rate => format!("{value:.0}/s"),
        FigureKind::Seconds if value < 1e-3 => format!("{:.2} µs", value * 1e6),
        FigureKind::Seconds if value < 1.0 => format!("{:.2} ms", value * 1e3),
        FigureKind::Seconds => format!("{value:.3} s"),
    }
}
