//! `new`: the files of a lab, in their places, for a maintainer to fill.
//!
//! What comes out compiles, its start fails as declared and its solution passes; `verify` then
//! names what is still to be written, and nothing else.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::catalog::{Catalog, package_of};
use crate::files::write;
use crate::manifest::{Kind, LabId};
use crate::screen::command;

/// Marks what a maintainer has to write; `verify` reports every file that has it.
pub const TO_WRITE: &str = "(to be written)";

#[derive(clap::Args)]
pub struct Options {
    /// What the learner does
    kind: Kind,
    /// The lab's id, such as 18.1.3 or m-1
    id: LabIdArgument,
    /// The package's name: lower case with dashes, such as lying-gauge
    name: String,
    /// The title, as the brief shows it
    title: String,
    /// The chapter's folder, if it has no lab yet, such as 18-observability
    #[arg(long)]
    chapter: Option<String>,
}

/// An id on the command line.
#[derive(Clone)]
struct LabIdArgument(LabId);

impl std::str::FromStr for LabIdArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        LabId::try_from(text.to_owned()).map(LabIdArgument)
    }
}

pub fn new(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    let id = &options.id.0;
    let name = &options.name;
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.ends_with('-');
    if !fits || name.ends_with("-solution") || name.ends_with("-decoys") {
        bail!("`{name}` is no package's name: use lower case, digits and dashes");
    }
    if options.title.contains(['"', '\\', '\n']) {
        bail!("a title is one line, without quotes and backslashes");
    }
    if let Some(taken) = catalog
        .labs
        .iter()
        .find(|lab| lab.id() == id || lab.package() == name)
    {
        bail!("{} {} is there already", taken.id(), taken.package());
    }
    let slug = format!("{}-{name}", id.dashed());
    assert_eq!(package_of(&slug), name, "a slug names its package");
    let chapter = chapter(&catalog, id, options.chapter.as_deref())?;
    let library = name.replace('-', "_");
    let reads = matches!(options.kind, Kind::Read | Kind::Operate);

    let mut files: Vec<(String, String)> = Vec::new();
    for (top, package) in [
        ("labs", name.clone()),
        ("solutions", format!("{name}-solution")),
    ] {
        let dir = format!("{top}/{chapter}/{slug}");
        files.push((
            format!("{dir}/Cargo.toml"),
            CARGO_TOML.replace("PACKAGE", &package),
        ));
        let subject = package.replace('-', "_");
        let binding = BINDING
            .replace("SUBJECT", &subject)
            .replace("CHECKER", &format!("{chapter}/{}.rs", id.underscored()));
        files.push((format!("{dir}/tests/check.rs"), binding));
    }
    let lab = format!("labs/{chapter}/{slug}");
    let solution = format!("solutions/{chapter}/{slug}");
    let filled = |template: &str| {
        template
            .replace("TO_WRITE", TO_WRITE)
            .replace("TITLE", &options.title)
            .replace("SLUG", &slug)
            .replace("CHAPTER", &chapter)
            .replace("KIND", &options.kind.to_string())
            .replace("LIBRARY", &library)
            .replace("ID", &id.to_string())
    };
    files.push((format!("{lab}/README.md"), filled(BRIEF)));
    files.push((format!("{solution}/README.md"), filled(PAGE)));
    files.push((format!("{lab}/src/lib.rs"), filled(START)));
    files.push((format!("{solution}/src/lib.rs"), filled(SOLUTION)));
    let checks = format!("harness/checks/{chapter}/{}.rs", id.underscored());
    let mut manifest = filled(MANIFEST);
    let mut checker = filled(CHECKER);
    if reads {
        manifest = manifest.replace("[\"src\"]", "[\"src\", \"answers.toml\"]");
        manifest.push_str(&filled(MANIFEST_ANSWER));
        checker.push_str(CHECKER_ANSWER);
        files.push((format!("{lab}/answers.toml"), filled(ANSWERS)));
        files.push((format!("{solution}/answers.toml"), filled(ANSWERS_SOLUTION)));
        files.push((
            format!("fixtures/{chapter}/{slug}/dump.txt"),
            filled(FIXTURE),
        ));
    }
    files.push((format!("{lab}/lab.toml"), manifest));
    files.push((checks, checker));
    let decoys = format!("harness/decoys/{chapter}/{slug}");
    files.push((
        format!("{decoys}/nothing_is_everything.toml"),
        filled(DECOY),
    ));
    let page = format!("labs/{chapter}/README.md");
    if !catalog.root.join(&page).exists() {
        files.push((page, format!("# {chapter}\n\n{TO_WRITE}\n")));
    }

    if let Some((taken, _)) = files
        .iter()
        .find(|(file, _)| catalog.root.join(file).exists())
    {
        bail!("{taken} is there already; nothing was written");
    }
    for (file, text) in &files {
        write(&catalog.root.join(file), text)?;
        println!("  {file}");
    }
    let made = Catalog::load().context("the new lab is not valid")?;
    let lab = made.find(&slug)?;
    crate::starts::keep(lab)?;
    println!(
        "\n  next: {}",
        command(format!("cargo xtask verify {id} --fix"))
    );
    Ok(ExitCode::SUCCESS)
}

/// The folder of the chapter to which an id belongs.
fn chapter(catalog: &Catalog, id: &LabId, given: Option<&str>) -> Result<String> {
    let number = id.dashed();
    let number = number.split('-').next().unwrap_or_default();
    let prefix = format!("{number}-");
    let known = catalog
        .labs
        .iter()
        .map(|lab| lab.chapter.as_str())
        .find(|chapter| chapter.starts_with(&prefix) || (number == "m" && *chapter == "monitor"));
    match (known, given) {
        (Some(known), None) => Ok(known.to_owned()),
        (Some(known), Some(given)) if known == given => Ok(known.to_owned()),
        (Some(known), Some(given)) => bail!("{id} belongs to {known}, not to {given}"),
        (None, Some(given)) if given.starts_with(&prefix) || number == "m" => Ok(given.to_owned()),
        (None, Some(given)) => {
            bail!("the chapter of {id} begins with {prefix}, and {given} does not")
        }
        (None, None) => bail!("{id} is the first lab of its chapter: say --chapter {prefix}NAME"),
    }
}

const CARGO_TOML: &str = r#"[package]
name = "PACKAGE"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true

[dependencies]

[dev-dependencies]
kit = { workspace = true }

[lints]
workspace = true
"#;

const BINDING: &str = r#"use SUBJECT as subject;
#[path = "../../../../harness/checks/CHECKER"]
mod check;
"#;

const BRIEF: &str = "# ID TITLE

## The situation

TO_WRITE

## What you have

TO_WRITE

## What to deliver

TO_WRITE

## How it is graded

TO_WRITE

    cargo xtask run ID
";

const PAGE: &str = "# ID TITLE: a worked solution

## From the symptom to the cause

TO_WRITE

## What was wrong

TO_WRITE

## What else would have worked

TO_WRITE
";

const START: &str = "//! TO_WRITE

/// The share of `part` in `whole`, in percent. Nothing has no share in nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part / whole * 100) as f64
}
";

const SOLUTION: &str = "//! TO_WRITE

/// The share of `part` in `whole`, in percent. Nothing has no share in nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64 * 100.0
}
";

const MANIFEST: &str = r#"id = "ID"
title = "TITLE"
kind = ["KIND"]
minutes = 45
tags = ["TO_WRITE"]
learner = ["src"]

[[check]]
name = "half_is_fifty_percent"
title = "a half is fifty percent"
points = 90
start = { fails = "1 of 2 is 0 %" }
hints = ["What does an integer division keep?", "Divide after the conversion."]

[[check]]
name = "nothing_has_no_share"
title = "nothing has no share"
points = 10
start = { passes = "a division that is rewritten can lose the case of an empty whole" }
hints = ["What is nothing divided by nothing?"]
"#;

const MANIFEST_ANSWER: &str = r#"
[[check]]
name = "cause_is_answered"
title = "answer: the cause"
points = 10
start = { unanswered = "cause.verdict" }
hints = ["TO_WRITE", "TO_WRITE"]
"#;

const CHECKER: &str = r#"//! ID: TO_WRITE

use super::subject::percent;

#[test]
fn half_is_fifty_percent() {
    kit::check(|| {
        let found = percent(1, 2);
        assert!((found - 50.0).abs() < 1e-9, "1 of 2 is {found} %");
    });
}

#[test]
fn nothing_has_no_share() {
    kit::check(|| {
        let found = percent(0, 0);
        assert!(found == 0.0, "0 of 0 is {found} %");
    });
}
"#;

const CHECKER_ANSWER: &str = r#"
#[test]
fn cause_is_answered() {
    kit::check(|| {
        let verdict = kit::answers!().choice("cause.verdict", &["division", "rounding"]);
        assert!(verdict == "division", "the cause is said to be {verdict}");
    });
}
"#;

const ANSWERS: &str = r#"# ID: your diagnosis of fixtures/CHAPTER/SLUG/dump.txt

[cause]
# "division" or "rounding"?
verdict = "?"
"#;

const ANSWERS_SOLUTION: &str = r#"# ID: a worked diagnosis of fixtures/CHAPTER/SLUG/dump.txt

[cause]
verdict = "division"
"#;

const FIXTURE: &str = "TO_WRITE\n";

const DECOY: &str = r#"why = "takes the share of nothing for everything"
rejected_by = "nothing_has_no_share"
symptom = "0 of 0 is 100 %"

[[edit]]
file = "src/lib.rs"
find = "return 0.0;"
replace = "return 100.0;"
"#;
