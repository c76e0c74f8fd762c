//! `grade`: judges all or some labs, for the learner or for a class, and reports in a form that
//! people or programs read. `docs/grading.md` documents the schema.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use console::style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use judge::{Judged, Verdict};
use kit::seed::Seed;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use crate::build::{self, Built, Plan};
use crate::catalog::{Catalog, Lab};
use crate::files::{self, files_below, write};
use crate::judging::{self, Outcome, Subject};
use crate::manifest::{Check, Kind, LabId};
use crate::progress::Progress;
use crate::scratch::Scratch;
use crate::screen;
use crate::starts;

/// The name and version of the JSON schema. A field may be added; none is removed or changed
/// without another version.
const SCHEMA: &str = "nightshift-grade/1";

/// The folder of submitted labs in their workspace. Not `labs`: cargo tells packages of one target
/// folder apart by their path below their workspace, and would take one library for the other.
const SUBMITTED: &str = "submitted";

#[derive(clap::Args)]
pub struct Options {
    /// The labs; all of them if left out
    labs: Vec<String>,
    /// Judge the learner's files in this folder instead of those in labs/
    #[arg(long, value_name = "DIR")]
    submission: Option<PathBuf>,
    /// Judge the worked solutions
    #[arg(long, conflicts_with = "submission")]
    solutions: bool,
    /// Make every scenario from this seed instead of the checkers' own
    #[arg(long)]
    seed: Option<Seed>,
    /// How to report
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write the report to this file instead of the screen
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
    Junit,
}

/// The whole report.
#[derive(Debug, Serialize)]
struct Grades {
    schema: &'static str,
    seed: Option<u64>,
    points: u32,
    possible: u32,
    labs: Vec<LabGrade>,
}

#[derive(Debug, Serialize)]
struct LabGrade {
    id: LabId,
    slug: String,
    title: String,
    kind: Vec<Kind>,
    status: Status,
    /// Why there are no verdicts, where there are none.
    message: Option<String>,
    points: u32,
    possible: u32,
    checks: Vec<CheckGrade>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Passed,
    Failed,
    NotCompiled,
    NotSubmitted,
}

#[derive(Debug, Serialize)]
struct CheckGrade {
    name: String,
    title: String,
    verdict: &'static str,
    /// What a person is told; empty for a check that passed.
    message: String,
    points: u32,
    possible: u32,
    seed: Option<u64>,
    seconds: f64,
}

/// A lab and where its files are judged.
struct Entry<'c> {
    lab: &'c Lab,
    package: String,
    dir: PathBuf,
    /// Set when there is nothing to build.
    absent: Option<String>,
}

pub fn grade(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    let labs: Vec<&Lab> = if options.labs.is_empty() {
        catalog.labs.iter().collect()
    } else {
        options
            .labs
            .iter()
            .map(|query| catalog.find(query))
            .collect::<Result<_>>()?
    };
    // Kept to the end of this function, and with it its lock.
    let scratch;
    let (entries, plan) = match &options.submission {
        Some(folder) => {
            if !folder.is_dir() {
                bail!(
                    "there is no folder {} to take a submission from",
                    folder.display()
                );
            }
            scratch = Scratch::prepare(&catalog, "submission", &format!("{SUBMITTED}/*/*"))?;
            from_submission(&catalog, &labs, folder, &scratch)?
        }
        None => from_workspace(&catalog, &labs, options.solutions),
    };
    let built = match plan.packages.is_empty() {
        true => Built::default(),
        false => build::build(&plan)?,
    };
    if let Some(trouble) = &built.trouble {
        bail!("cargo could not build the labs:\n{}", trouble.trim_end());
    }
    let grades = judge_all(&entries, &built, options)?;
    if options.submission.is_none() && !options.solutions && options.seed.is_none() {
        record(&catalog, &grades)?;
    }
    let text = match options.format {
        Format::Text => table(&grades),
        Format::Json => serde_json::to_string_pretty(&grades)? + "\n",
        Format::Junit => junit(&grades)?,
    };
    match &options.output {
        Some(file) => fs::write(file, text)
            .with_context(|| format!("could not write the report {}", file.display()))?,
        None => print!("{text}"),
    }
    let passed = grades.labs.iter().all(|lab| lab.status == Status::Passed);
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn from_workspace<'c>(
    catalog: &Catalog,
    labs: &[&'c Lab],
    solutions: bool,
) -> (Vec<Entry<'c>>, Plan) {
    let entries: Vec<Entry<'_>> = labs
        .iter()
        .map(|&lab| {
            let (package, dir) = match solutions {
                true => (lab.solution_package(), lab.solution_dir()),
                false => (lab.package().to_owned(), lab.dir()),
            };
            Entry {
                lab,
                package,
                dir,
                absent: None,
            }
        })
        .collect();
    let packages = entries.iter().map(|entry| entry.package.clone()).collect();
    let plan = Plan {
        keep_going: true,
        ..Plan::checkers(&catalog.root, packages)
    };
    (entries, plan)
}

/// Lays the learner's files of a submission over this repository's labs, in a workspace of its own:
/// whatever else the submission holds has no effect.
fn from_submission<'c>(
    catalog: &Catalog,
    labs: &[&'c Lab],
    folder: &Path,
    scratch: &Scratch,
) -> Result<(Vec<Entry<'c>>, Plan)> {
    let submitted_labs = scratch.root.join(SUBMITTED);
    let mut entries = Vec::new();
    for &lab in labs {
        let dir = submitted_labs.join(&lab.chapter).join(&lab.slug);
        let mut entry = Entry {
            lab,
            package: lab.package().to_owned(),
            dir,
            absent: None,
        };
        let start = starts::kept(lab)?;
        match submitted(lab, &start, folder, labs.len() == 1) {
            Ok(Some(theirs)) => lay_over(catalog, lab, start, &entry.dir, theirs)?,
            Ok(None) => entry.absent = Some("nothing was submitted for this lab".into()),
            Err(error) => entry.absent = Some(format!("{error:#}")),
        }
        if entry.absent.is_some() && entry.dir.exists() {
            fs::remove_dir_all(&entry.dir)
                .with_context(|| format!("could not remove {}", entry.dir.display()))?;
        }
        entries.push(entry);
    }
    // What an earlier submission left must not be built with this one.
    let chosen: Vec<&Path> = entries.iter().map(|entry| entry.dir.as_path()).collect();
    for chapter in files::entries(&submitted_labs)? {
        for dir in files::entries(&chapter)? {
            if !chosen.contains(&dir.as_path()) {
                fs::remove_dir_all(&dir)
                    .with_context(|| format!("could not remove {}", dir.display()))?;
            }
        }
    }
    let present = entries.iter().filter(|entry| entry.absent.is_none());
    let packages = present.map(|entry| entry.package.clone()).collect();
    let plan = scratch.plan(packages);
    Ok((entries, plan))
}

/// The learner's files of one lab in a submission: `None` when it has none.
fn submitted(
    lab: &Lab,
    start: &starts::Files,
    folder: &Path,
    only: bool,
) -> Result<Option<starts::Files>> {
    let mut places = vec![
        folder.join("labs").join(&lab.chapter).join(&lab.slug),
        folder.join(&lab.chapter).join(&lab.slug),
        folder.join(&lab.slug),
        folder.join(lab.package()),
    ];
    if only {
        places.push(folder.to_owned());
    }
    let holds = |place: &PathBuf| {
        lab.manifest
            .learner
            .iter()
            .any(|own| place.join(own).symlink_metadata().is_ok())
    };
    let Some(place) = places.iter().find(|place| holds(place)) else {
        return Ok(None);
    };
    let mut theirs = BTreeMap::new();
    for own in &lab.manifest.learner {
        let path = place.join(own);
        let Ok(data) = path.symlink_metadata() else {
            continue;
        };
        let folder = !start.contains_key(own);
        if data.is_symlink() {
            bail!("the submission's {own} is a link, and links are not followed");
        } else if data.is_dir() != folder {
            let kind = |folder| if folder { "a folder" } else { "a file" };
            bail!(
                "the submission's {own} is {}, and should be {}",
                kind(!folder),
                kind(folder)
            );
        } else if folder {
            for (file, text) in files_below(&path)? {
                theirs.insert(format!("{own}/{file}"), text);
            }
        } else {
            theirs.insert(own.clone(), files::read(&path)?);
        }
    }
    Ok(Some(theirs))
}

/// This repository's lab with the learner's files of a submission, at `dir`. What was not submitted
/// is the start's: files in `labs/` may be somebody's own answers by now.
fn lay_over(
    catalog: &Catalog,
    lab: &Lab,
    mut files: starts::Files,
    dir: &Path,
    theirs: starts::Files,
) -> Result<()> {
    for own in &lab.manifest.learner {
        // A folder that they submitted is theirs whole; one that they did not is the start's.
        let inside = format!("{own}/");
        if theirs
            .keys()
            .any(|file| file == own || file.starts_with(&inside))
        {
            files.retain(|file, _| file != own && !file.starts_with(&inside));
        }
    }
    files.extend(theirs);
    let harness = catalog.root.join("harness").display().to_string();
    for (file, text) in files_below(&lab.dir().join("tests"))? {
        let text = text.replace("../../../../harness", &harness);
        files.insert(format!("tests/{file}"), text);
    }
    let manifest = files::read(&lab.dir().join("Cargo.toml"))?;
    let mut manifest: toml::Table = toml::from_str(&manifest)
        .with_context(|| format!("the manifest of {} is not valid", lab.id()))?;
    // The benchmark is not part of a grade, and its file is not here.
    manifest.remove("bench");
    files.insert("Cargo.toml".into(), toml::to_string(&manifest)?);
    remove_others(dir, "", &files)?;
    for (file, text) in &files {
        write(&dir.join(file), text)?;
    }
    Ok(())
}

fn remove_others(dir: &Path, prefix: &str, keep: &starts::Files) -> Result<()> {
    for path in files::entries(dir)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            let inside = format!("{name}/");
            remove_others(&path, &inside, keep)?;
            // A file of this name may come in its place.
            if !keep.keys().any(|file| file.starts_with(&inside)) {
                fs::remove_dir_all(&path)
                    .with_context(|| format!("could not remove {}", path.display()))?;
            }
        } else if !keep.contains_key(&name) {
            fs::remove_file(&path)
                .with_context(|| format!("could not remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn judge_all(entries: &[Entry<'_>], built: &Built, options: &Options) -> Result<Grades> {
    let total: usize = entries
        .iter()
        .map(|entry| entry.lab.manifest.checks.len())
        .sum();
    let bar = ProgressBar::new(total as u64).with_style(
        ProgressStyle::with_template("[{bar:40}] {pos}/{len} {msg}")
            .expect("a template of ours")
            .progress_chars("##."),
    );
    if !console::user_attended_stderr() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let mut labs = Vec::new();
    for entry in entries {
        bar.set_message(entry.lab.id().to_string());
        labs.push(judge_one(entry, built, options, &bar)?);
    }
    bar.finish_and_clear();
    Ok(Grades {
        schema: SCHEMA,
        seed: options.seed.map(|seed| seed.0),
        points: labs.iter().map(|lab| lab.points).sum(),
        possible: labs.iter().map(|lab| lab.possible).sum(),
        labs,
    })
}

fn judge_one(
    entry: &Entry<'_>,
    built: &Built,
    options: &Options,
    bar: &ProgressBar,
) -> Result<LabGrade> {
    let lab = entry.lab;
    let mut grade = LabGrade {
        id: lab.id().clone(),
        slug: lab.slug.clone(),
        title: lab.manifest.title.clone(),
        kind: lab.manifest.kind.clone(),
        status: Status::NotSubmitted,
        message: entry.absent.clone(),
        points: 0,
        possible: lab.manifest.points(),
        checks: Vec::new(),
    };
    if entry.absent.is_some() {
        return Ok(grade);
    }
    let Some(binary) = built.binaries.get(&entry.package) else {
        let words = built
            .errors
            .get(&entry.package)
            .cloned()
            .unwrap_or_default();
        grade.status = Status::NotCompiled;
        grade.message = Some(console::strip_ansi_codes(&words).into_owned());
        return Ok(grade);
    };
    let subject = Subject {
        binary: binary.clone(),
        module: "check".into(),
        dir: entry.dir.clone(),
        fixtures: lab.fixture_dir(),
    };
    let checks: Vec<&Check> = lab.manifest.checks.iter().collect();
    let outcome = judging::judge(&lab.manifest, &checks, &subject, options.seed, |_, _| {
        bar.inc(1)
    })?;
    grade.status = if outcome.all_pass() {
        Status::Passed
    } else {
        Status::Failed
    };
    grade.points = outcome.points();
    grade.checks = checks_of(&outcome);
    Ok(grade)
}

fn checks_of(outcome: &Outcome<'_>) -> Vec<CheckGrade> {
    outcome
        .results
        .iter()
        .map(|result| {
            let judged: &Judged = &result.judged;
            let passed = judged.verdict.passed();
            CheckGrade {
                name: result.check.name.clone(),
                title: result.check.title.clone(),
                verdict: judged.verdict.kind(),
                message: if passed {
                    String::new()
                } else {
                    judged.sentence()
                },
                points: if passed { result.check.points } else { 0 },
                possible: result.check.points,
                seed: judged.seed.map(|seed| seed.0),
                seconds: (judged.took.as_secs_f64() * 1000.0).round() / 1000.0,
            }
        })
        .collect()
}

/// Grading one's own labs is judging them: progress follows.
fn record(catalog: &Catalog, grades: &Grades) -> Result<()> {
    let mut progress = Progress::load(&catalog.root)?;
    for lab in grades.labs.iter().filter(|lab| !lab.checks.is_empty()) {
        let named = |kept: &dyn Fn(&str) -> bool| {
            let checks = lab.checks.iter().filter(|check| kept(check.verdict));
            checks.map(|check| check.name.clone()).collect()
        };
        let not_run = Verdict::NotRun {
            reason: String::new(),
            remedy: String::new(),
        }
        .kind();
        let passed = Verdict::Passed.kind();
        progress.record(
            &lab.id,
            named(&|verdict| verdict == passed),
            named(&|verdict| verdict != passed && verdict != not_run),
        );
    }
    progress.save_or_tell();
    Ok(())
}

fn table(grades: &Grades) -> String {
    let mut text = String::new();
    for lab in &grades.labs {
        let count = |verdict: &str| lab.checks.iter().filter(|c| c.verdict == verdict).count();
        let (word, what) = match lab.status {
            Status::Passed => (style("pass").green(), String::new()),
            Status::Failed => {
                let (passed, not_run) = (count("passed"), count("not_run"));
                let mut what =
                    format!("{passed} of {}", screen::counted(lab.checks.len(), "check"));
                if not_run > 0 {
                    what.push_str(&format!(", {not_run} not run"));
                }
                (style("FAIL").red().bold(), what)
            }
            Status::NotCompiled => (style("FAIL").red().bold(), "does not compile".into()),
            Status::NotSubmitted => (style("open").yellow(), "not submitted".into()),
        };
        text.push_str(&format!(
            "{}\n",
            format!(
                "  {word}  {:<8}{:<30.30} {:>3}/{:<4}{what}",
                lab.id.to_string(),
                lab.title,
                lab.points,
                lab.possible
            )
            .trim_end()
        ));
        if let (Status::NotSubmitted, Some(message)) = (lab.status, &lab.message) {
            text.push_str(&format!("{}\n", screen::indented(message, 16)));
        }
    }
    text.push_str(&format!(
        "\n  {} of {} points\n",
        grades.points, grades.possible
    ));
    text
}

fn junit(grades: &Grades) -> Result<String> {
    let mut report = Report::new("nightshift");
    for lab in &grades.labs {
        let mut suite = TestSuite::new(format!("{} {}", lab.id, lab.title));
        let case = |name: &str, status: TestCaseStatus| {
            let mut case = TestCase::new(name, status);
            case.set_classname(lab.slug.as_str());
            case
        };
        for check in &lab.checks {
            let mut status = match check.verdict {
                "passed" => TestCaseStatus::success(),
                "not_run" => TestCaseStatus::skipped(),
                "failed" | "unanswered" => TestCaseStatus::non_success(NonSuccessKind::Failure),
                _ => TestCaseStatus::non_success(NonSuccessKind::Error),
            };
            if check.verdict != "passed" {
                status
                    .set_type(check.verdict)
                    .set_message(check.message.as_str());
            }
            let mut case = case(&check.name, status);
            case.set_time(Duration::from_secs_f64(check.seconds));
            suite.add_test_case(case);
        }
        if let Some(message) = &lab.message {
            let kind = match lab.status {
                Status::NotSubmitted => NonSuccessKind::Failure,
                _ => NonSuccessKind::Error,
            };
            let mut status = TestCaseStatus::non_success(kind);
            status.set_message(message.as_str());
            suite.add_test_case(case("submission", status));
        }
        report.add_test_suite(suite);
    }
    report
        .to_string()
        .map_err(|error| anyhow!("could not write the JUnit report: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grades() -> Grades {
        let check = |name: &str, verdict: &'static str, message: &str| CheckGrade {
            name: name.into(),
            title: format!("the {name}"),
            verdict,
            message: message.into(),
            points: if verdict == "passed" { 10 } else { 0 },
            possible: 10,
            seed: (verdict == "failed").then_some(7),
            seconds: 0.25,
        };
        let lab = |id: &str, status, message: Option<&str>, checks: Vec<CheckGrade>| LabGrade {
            id: LabId::parse(id).expect("an id"),
            slug: format!("{}-x", id.replace('.', "-")),
            title: "A <lab> & more".into(),
            kind: vec![Kind::Read, Kind::Fix],
            status,
            message: message.map(str::to_owned),
            points: checks.iter().map(|check| check.points).sum(),
            possible: 40,
            checks,
        };
        Grades {
            schema: SCHEMA,
            seed: Some(4711),
            points: 10,
            possible: 120,
            labs: vec![
                lab(
                    "18.1.1",
                    Status::Failed,
                    None,
                    vec![
                        check("mean", "passed", ""),
                        check("median", "failed", "the report says \"0.25\" <s>"),
                        check("cause", "unanswered", "`cause` is not answered yet"),
                        check("server", "not_run", "not run: no etcd"),
                    ],
                ),
                lab(
                    "18.1.2",
                    Status::NotCompiled,
                    Some("error[E0308]: mismatched types"),
                    vec![],
                ),
                lab(
                    "m-1",
                    Status::NotSubmitted,
                    Some("nothing was submitted for this lab"),
                    vec![],
                ),
            ],
        }
    }

    #[test]
    fn junit_tells_failures_errors_and_skips_apart() {
        insta::assert_snapshot!(junit(&grades()).expect("printed"));
    }

    #[test]
    fn the_json_schema_is_the_documented_one() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&grades()).expect("printed"));
    }

    #[test]
    fn the_table_says_what_each_lab_came_to() {
        console::set_colors_enabled(false);
        insta::assert_snapshot!(table(&grades()));
    }
}
