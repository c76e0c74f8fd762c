//! `run`: builds the checker of one lab, runs its checks, and shows what a person needs.

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};
use console::style;
use judge::{Judged, Verdict};
use kit::seed::Seed;

use crate::build::{self, Built, Plan};
use crate::catalog::{Catalog, Lab};
use crate::durations::Durations;
use crate::judging::{self, Outcome, Subject};
use crate::manifest::Check;
use crate::progress::Progress;
use crate::screen::{self, command};
use crate::waiting::Waiting;

/// How many lines of the compiler's words are shown.
const COMPILER_LINES: usize = 60;
/// How many lines of a failing check's own output are shown with `--output`.
const OUTPUT_LINES: usize = 200;

#[derive(clap::Args)]
pub struct Options {
    /// The lab: 18.1.1, 18-1-1, its name or a part of it; the next open one if left out
    pub lab: Option<String>,
    /// Run only the checks whose names contain this
    #[arg(long, value_name = "NAME")]
    check: Option<String>,
    /// Replay the scenarios with this seed instead of the checker's own
    #[arg(long)]
    seed: Option<Seed>,
    /// Judge the worked solution instead of your files
    #[arg(long)]
    solution: bool,
    /// Show what the failing checks printed
    #[arg(long)]
    output: bool,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load_for(options.lab.as_deref())?;
    let mut progress = Progress::load(&catalog.root)?;
    let lab = match &options.lab {
        Some(query) => catalog.find(query)?,
        None => crate::next::open_lab(&catalog, &progress)?,
    };
    let Some(outcome) = judge_and_show(&catalog, lab, options)? else {
        return Ok(ExitCode::FAILURE);
    };
    let whole = options.check.is_none() && options.seed.is_none() && !options.solution;
    if whole {
        let (passed, failed) = outcome.names();
        progress.record(lab.id(), passed, failed);
        progress.save_or_tell();
    }
    where_next(lab, &outcome, options);
    Ok(if outcome.all_pass() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Builds and judges a lab and prints all but the last line. `None` when it does not compile.
pub fn judge_and_show<'c>(
    catalog: &Catalog,
    lab: &'c Lab,
    options: &Options,
) -> Result<Option<Outcome<'c>>> {
    let started = Instant::now();
    let checks: Vec<&Check> = lab
        .manifest
        .checks
        .iter()
        .filter(|check| {
            options
                .check
                .as_ref()
                .is_none_or(|part| check.name.contains(part))
        })
        .collect();
    if checks.is_empty() {
        let names: Vec<String> = lab
            .manifest
            .checks
            .iter()
            .map(|check| format!("  {}", check.name))
            .collect();
        bail!(
            "no check of {} has that in its name; there are\n{}",
            lab.id(),
            names.join("\n")
        );
    }
    screen::title(
        &format!("{} {}", lab.id(), lab.manifest.title),
        &format!("{} · {} min", lab.manifest.kinds(), lab.manifest.minutes),
    );
    let (package, dir) = if options.solution {
        (lab.solution_package(), lab.solution_dir())
    } else {
        (lab.package().to_owned(), lab.dir())
    };
    let plan = Plan::checkers(&catalog.root, vec![package.clone()]);
    let count = checks.len();
    thread::spawn(move || judge::expect_checks(count));
    let built = build::build(&plan)?;
    let Some(binary) = built.binaries.get(&package) else {
        does_not_compile(&built, &package, lab)?;
        return Ok(None);
    };
    println!();
    let subject = Subject {
        binary: binary.clone(),
        module: "check".into(),
        dir,
        fixtures: lab.fixture_dir(),
    };
    let mut durations = Durations::load(&catalog.root, lab.id());
    // Shown in the order of the manifest, each as soon as all before it have ended.
    let mut ended: HashMap<&str, Judged> = HashMap::new();
    let mut pending = checks.iter();
    let mut next = pending.next();
    let waiting = Waiting::for_checks(checks.len());
    let outcome = judging::judge(
        &lab.manifest,
        &durations.longest_first(&checks),
        &subject,
        options.seed,
        |check, judged| {
            ended.insert(&check.name, judged.clone());
            waiting.one_ended(|| {
                while let Some(judged) = next.and_then(|check| ended.remove(check.name.as_str())) {
                    let check = next.take().expect("it has just ended");
                    show(lab, check, &judged, options);
                    next = pending.next();
                }
            });
        },
    )?;
    drop(waiting);
    for result in &outcome.results {
        durations.note(result.check, result.judged.took);
    }
    durations.save();
    let possible: u32 = checks.iter().map(|check| check.points).sum();
    println!(
        "\n  {} of {possible} points, {} of {}, {:.1} s",
        outcome.points(),
        outcome.passing().count(),
        match checks.len() {
            1 => "1 check passes".to_owned(),
            several => format!("{several} checks pass"),
        },
        started.elapsed().as_secs_f64()
    );
    if let Some(warnings) = built.warnings.get(&package) {
        let count = warnings.matches("warning").count().max(1);
        println!(
            "  the compiler has {}: {}",
            screen::counted(count, "warning"),
            command(format!("cargo check -p {package}"))
        );
    }
    Ok(Some(outcome))
}

/// Which checks of the learner's files pass now, and which do not; shows nothing but compile
/// errors, for which it gives `None`.
pub fn verdicts(
    catalog: &Catalog,
    lab: &Lab,
) -> Result<Option<(BTreeSet<String>, BTreeSet<String>)>> {
    let package = lab.package();
    let plan = Plan::checkers(&catalog.root, vec![package.to_owned()]);
    let count = lab.manifest.checks.len();
    thread::spawn(move || judge::expect_checks(count));
    let built = build::build(&plan)?;
    let Some(binary) = built.binaries.get(package) else {
        does_not_compile(&built, package, lab)?;
        return Ok(None);
    };
    let subject = Subject {
        binary: binary.clone(),
        module: "check".into(),
        dir: lab.dir(),
        fixtures: lab.fixture_dir(),
    };
    let checks: Vec<&Check> = lab.manifest.checks.iter().collect();
    let checks = Durations::load(&catalog.root, lab.id()).longest_first(&checks);
    let waiting = Waiting::for_checks(checks.len());
    let outcome = judging::judge(&lab.manifest, &checks, &subject, None, |_, _| {
        waiting.one_ended(|| ());
    })?;
    Ok(Some(outcome.names()))
}

fn show(lab: &Lab, check: &Check, judged: &Judged, options: &Options) {
    let points = screen::counted(check.points as usize, "point");
    println!(
        "  {}  {:<60}{points:>11}",
        screen::word(&judged.verdict),
        check.title
    );
    if judged.verdict.passed() {
        return;
    }
    println!("{}", screen::indented(&judged.sentence(), 8));
    let failed = !matches!(
        judged.verdict,
        Verdict::Unanswered { .. } | Verdict::NotRun { .. }
    );
    if let Some(seed) = judged.seed.filter(|_| failed) {
        let replay = format!(
            "cargo xtask run {} --check {} --seed {seed}",
            lab.id(),
            lab.manifest.short_name(check)
        );
        println!(
            "        {}\n          {}",
            style("replay:").dim(),
            command(replay)
        );
    }
    if options.output && failed && !judged.output.is_empty() {
        for line in judged.output.text().lines().take(OUTPUT_LINES) {
            println!("        {} {line}", style("|").dim());
        }
    }
}

fn does_not_compile(built: &Built, package: &str, lab: &Lab) -> Result<()> {
    if let Some(trouble) = &built.trouble {
        bail!("cargo could not build {package}:\n{}", trouble.trim_end());
    }
    println!();
    let words = built.words_about(package);
    let lines: Vec<&str> = words.lines().collect();
    for line in lines.iter().take(COMPILER_LINES) {
        println!("{}", format!("  {line}").trim_end());
    }
    if lines.len() > COMPILER_LINES {
        println!(
            "  … {} more lines: {}",
            lines.len() - COMPILER_LINES,
            command(format!("cargo check -p {package} --tests"))
        );
    }
    if words.contains("harness/checks/") && !words.contains("couldn't read") {
        println!(
            "\n  The checker no longer fits your files: keep the public interface that the\n  brief \
             and the documentation of the start give."
        );
    }
    if !lab.dir().join("src/lib.rs").is_file() {
        println!(
            "\n  src/lib.rs is not there: {} puts the start back.",
            command(format!("cargo xtask reset {}", lab.id()))
        );
    }
    println!("\n  It does not compile, so no check was run.");
    Ok(())
}

fn where_next(lab: &Lab, outcome: &Outcome<'_>, options: &Options) {
    if options.solution {
        return;
    }
    let id = lab.id();
    if outcome.failing().next().is_some() {
        println!("  next: {}", command(format!("cargo xtask hint {id}")));
    } else if options.check.is_some() || options.seed.is_some() {
        println!(
            "  next: {} for the whole lab",
            command(format!("cargo xtask run {id}"))
        );
    } else {
        if outcome.not_run().next().is_some() {
            println!(
                "  {} not run here; {} says what each server enables",
                screen::counted(outcome.not_run().count(), "check"),
                command("cargo xtask doctor")
            );
        }
        println!(
            "  next: {} shows the worked solution beside yours,\n        {} goes on",
            command(format!("cargo xtask diff {id}")),
            command("cargo xtask next")
        );
    }
}
