//! `verify`, for maintainers: holds the labs to what they promise, and names each breach.
//!
//! In this order: what can be read without building (files, briefs, links, hints), then one build
//! of every start, solution and decoy, then every check on each of them, in parallel.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use judge::{CheckProcess, Judged, Verdict};

use crate::build::{self, Built, Plan};
use crate::catalog::{Catalog, Lab};
use crate::decoys::{self, Decoy, LaidOut, Yard};
use crate::judging::{self, Subject};
use crate::manifest::{Check, Start};
use crate::paperwork;
use crate::screen;

/// All checks of a lab together take less than this.
const BUDGET: Duration = Duration::from_secs(5);
/// Fewer decoys than this prove little about a checker.
const FEWEST_DECOYS: usize = 3;

#[derive(clap::Args)]
pub struct Options {
    /// Only this lab; all of them if left out
    lab: Option<String>,
    /// Run each solution's checks this many times, to find flakes
    #[arg(long, default_value_t = 1, value_name = "N")]
    repeat: usize,
    /// Bring the generated parts, such as the README's table of labs, up to date
    #[arg(long)]
    fix: bool,
}

/// What a lab does not hold to: where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    pub place: String,
    pub what: String,
}

impl Breach {
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Breach {
            place: place.into(),
            what: what.into(),
        }
    }
}

pub fn verify(options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    let catalog = Catalog::load()?;
    let labs: Vec<&Lab> = match &options.lab {
        Some(query) => vec![catalog.find(query)?],
        None => catalog.labs.iter().collect(),
    };
    screen::title("verify", &screen::counted(labs.len(), "lab"));

    let mut breaches = Vec::new();
    // A lab that is new belongs into the table of all labs, whichever one is verified.
    if options.lab.is_none() || options.fix {
        breaches.extend(paperwork::workspace(&catalog, options.fix)?);
    }
    for lab in &labs {
        breaches.extend(paperwork::lab(lab, options.fix)?);
    }
    println!(
        "  read    files, briefs, hints and links: {}",
        told(&breaches)
    );

    let mut report = Report::default();
    let bench = Workbench::build(&catalog, &labs, &mut report)?;
    println!(
        "  build   starts, solutions and decoys: {}",
        told(&report.breaches)
    );

    let trials = bench.trials(&labs, options.repeat);
    report.judge(&trials)?;
    breaches.append(&mut report.breaches);

    for note in &report.notes {
        println!("  {} {note}", style("note").yellow());
    }
    println!();
    for breach in &breaches {
        println!(
            "  {} {}",
            style("breach").red().bold(),
            style(&breach.place).bold()
        );
        println!("{}", screen::indented(&breach.what, 9));
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{}: {}, {} run, {seconds:.0} s",
        if breaches.is_empty() {
            style("verified").green().bold()
        } else {
            style("not verified").red().bold()
        },
        told(&breaches),
        screen::counted(report.judged, "check"),
    );
    // The plain closing line that machines read.
    println!(
        "{} passed, {} failed",
        report.judged.saturating_sub(report.wrong),
        breaches.len()
    );
    Ok(if breaches.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn told(breaches: &[Breach]) -> String {
    match breaches.len() {
        0 => "no breach".into(),
        1 => "1 breach".into(),
        several => format!("{several} breaches"),
    }
}

/// Everything that was built, and where it lies.
struct Workbench<'c> {
    /// By package.
    binaries: BTreeMap<String, PathBuf>,
    yards: BTreeMap<&'c str, (LaidOut, Vec<Decoy>)>,
}

impl<'c> Workbench<'c> {
    fn build(catalog: &Catalog, labs: &[&'c Lab], report: &mut Report) -> Result<Self> {
        let mut packages = Vec::new();
        for lab in labs {
            packages.push(lab.package().to_owned());
            packages.push(lab.solution_package());
        }
        let mut plan = Plan::checkers(&catalog.root, packages);
        plan.keep_going = true;
        let built = build::build(&plan)?;
        for lab in labs {
            for package in [lab.package().to_owned(), lab.solution_package()] {
                report.compiled(&built, &package, lab);
            }
        }
        let mut binaries: BTreeMap<String, PathBuf> = built.binaries.into_iter().collect();
        if let Some(trouble) = built.trouble {
            return Err(anyhow!("cargo could not build the labs:\n{trouble}"));
        }

        let yard = Yard::prepare(catalog)?;
        let mut yards = BTreeMap::new();
        let mut packages = Vec::new();
        for &lab in labs {
            match yard
                .lay_out(lab)
                .and_then(|laid| Ok((laid, decoys::decoys(lab)?)))
            {
                Ok((laid, decoys)) => {
                    if decoys.len() < FEWEST_DECOYS {
                        report.breach(
                            format!("{} decoys", lab.id()),
                            format!("there are {}, and {FEWEST_DECOYS} at least", decoys.len()),
                        );
                    }
                    if !laid.submissions.is_empty() {
                        packages.push(laid.package.clone());
                    }
                    yards.insert(lab.slug.as_str(), (laid, decoys));
                }
                Err(error) => report.breach(format!("{} decoys", lab.id()), format!("{error:#}")),
            }
        }
        if !packages.is_empty() {
            let plan = yard.0.plan(packages.clone());
            let built = build::build(&plan)?;
            if let Some(trouble) = built.trouble {
                return Err(anyhow!("cargo could not build the decoys:\n{trouble}"));
            }
            for package in packages {
                if !built.binaries.contains_key(&package) {
                    let words = built.words_about(&package);
                    report.breach(package, format!("does not compile:\n{words}"));
                }
            }
            binaries.extend(built.binaries);
        }
        Ok(Workbench { binaries, yards })
    }

    /// What to run, and what has to come of it.
    fn trials<'t>(&'t self, labs: &[&'t Lab], repeat: usize) -> Vec<Trial<'t>> {
        let mut trials = Vec::new();
        for &lab in labs {
            let subject = |package: &str, module: &str, dir: PathBuf| {
                let binary = self.binaries.get(package)?.clone();
                Some(Subject {
                    binary,
                    module: module.into(),
                    dir,
                    fixtures: lab.fixture_dir(),
                })
            };
            let mut add = |subject: &Subject, check: &'t Check, expected: Expected<'t>| {
                trials.push(Trial {
                    lab,
                    check,
                    test: format!("{}::{}", subject.module, check.name),
                    subject: subject.clone(),
                    expected,
                });
            };
            let checks = &lab.manifest.checks;
            if let Some(start) = subject(lab.package(), "check", lab.dir()) {
                for check in checks {
                    add(&start, check, Expected::Start(&check.start));
                }
            }
            if let Some(solution) = subject(&lab.solution_package(), "check", lab.solution_dir()) {
                for _ in 0..repeat.max(1) {
                    for check in checks {
                        add(&solution, check, Expected::Solution);
                    }
                }
            }
            let Some((laid, decoys)) = self.yards.get(lab.slug.as_str()) else {
                continue;
            };
            for (name, place) in &laid.submissions {
                let module = format!("{name}::check");
                let Some(subject) = subject(&laid.package, &module, place.clone()) else {
                    continue;
                };
                match decoys.iter().find(|decoy| decoy.name == *name) {
                    None => {
                        for check in checks {
                            add(&subject, check, Expected::Alternative(name));
                        }
                    }
                    Some(decoy) => {
                        if let Some(check) = lab.manifest.check(&decoy.rejected_by) {
                            add(&subject, check, Expected::Decoy(decoy));
                        }
                    }
                }
            }
        }
        trials
    }
}

/// One check on one submission.
struct Trial<'t> {
    lab: &'t Lab,
    check: &'t Check,
    test: String,
    subject: Subject,
    expected: Expected<'t>,
}

#[derive(Clone, Copy)]
enum Expected<'t> {
    Start(&'t Start),
    Solution,
    Alternative(&'t str),
    Decoy(&'t Decoy),
}

impl Trial<'_> {
    fn place(&self) -> String {
        let who = match self.expected {
            Expected::Start(_) => "start".to_owned(),
            Expected::Solution => "solution".to_owned(),
            Expected::Alternative(name) => format!("alternative {name}"),
            Expected::Decoy(decoy) => format!("decoy {}", decoy.name),
        };
        format!("{} {who}, {}", self.lab.id(), self.check.name)
    }

    /// What the verdict breaks, if anything.
    fn breach(&self, judged: &Judged) -> Option<String> {
        let said = judged.sentence();
        match (self.expected, &judged.verdict) {
            (_, Verdict::NoSuchCheck) => Some("there is no such test in the checker".into()),
            (_, Verdict::NotRun { .. }) => None,
            (Expected::Start(Start::Passes(_)), Verdict::Passed) => None,
            (Expected::Start(Start::Passes(_)), _) => {
                Some(format!("should pass on the start, and: {said}"))
            }
            (Expected::Start(_), Verdict::Passed) => Some("passes on the start".into()),
            (Expected::Start(Start::Unanswered(key)), Verdict::Unanswered { key: found }) => {
                (key != found).then(|| format!("`{found}` is unanswered, not `{key}`"))
            }
            (Expected::Start(Start::Unanswered(_)), _) => {
                Some(format!("should be unanswered on the start, and: {said}"))
            }
            (Expected::Start(Start::Fails(part)), _) => (!says(&said, part))
                .then(|| format!("fails on the start without \"{part}\":\n{said}")),
            (Expected::Solution | Expected::Alternative(_), Verdict::Passed) => None,
            (Expected::Solution | Expected::Alternative(_), _) => {
                Some(format!("does not pass: {said}"))
            }
            (Expected::Decoy(decoy), Verdict::Passed) => {
                Some(format!("is accepted, and it {}", decoy.why))
            }
            (Expected::Decoy(decoy), _) => (!says(&said, &decoy.symptom))
                .then(|| format!("is rejected without \"{}\":\n{said}", decoy.symptom)),
        }
    }
}

/// Whether a message has this part, wherever its lines end: what a checker lays out in rows is folded
/// by its width.
fn says(message: &str, part: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    words(message).contains(&words(part))
}

#[derive(Default)]
struct Report {
    breaches: Vec<Breach>,
    notes: BTreeSet<String>,
    /// Checks run, and those of them that broke a promise.
    judged: usize,
    wrong: usize,
}

impl Report {
    fn breach(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.breaches.push(Breach::new(place, what));
    }

    /// Whether a package compiled, without a warning, and has the declared tests.
    fn compiled(&mut self, built: &Built, package: &str, lab: &Lab) {
        let Some(binary) = built.binaries.get(package) else {
            let words = built.words_about(package);
            self.breach(package, format!("does not compile:\n{words}"));
            return;
        };
        if let Some(words) = built.warnings.get(package) {
            self.breach(package, format!("compiles with warnings:\n{words}"));
        }
        let declared: BTreeSet<&str> = lab
            .manifest
            .checks
            .iter()
            .map(|check| check.name.as_str())
            .collect();
        match tests_of(binary) {
            Ok(tests) => {
                for test in &tests {
                    if !declared.contains(test.as_str()) {
                        self.breach(package, format!("the check `{test}` is not in lab.toml"));
                    }
                }
            }
            Err(error) => self.breach(package, format!("{error:#}")),
        }
    }

    fn judge(&mut self, trials: &[Trial<'_>]) -> Result<()> {
        let processes: Vec<CheckProcess<'_>> = trials
            .iter()
            .map(|trial| judging::process(&trial.lab.manifest, &trial.subject, &trial.test, None))
            .collect();
        let bar = progress_bar(processes.len());
        let mut spent: BTreeMap<&str, Duration> = BTreeMap::new();
        let mut times: BTreeMap<&str, u32> = BTreeMap::new();
        let mut breaches = Vec::new();
        let judged = judge::judge_all(&processes, judging::jobs(), |index, judged| {
            let trial = &trials[index];
            bar.inc(1);
            if let Some(what) = trial.breach(judged) {
                bar.suspend(|| println!("  {} {}", style("FAIL").red(), trial.place()));
                breaches.push((index, Breach::new(trial.place(), what)));
            }
            if let Verdict::NotRun { reason, remedy } = &judged.verdict {
                self.notes
                    .insert(format!("not run: {reason}; to run it: {remedy}"));
            }
            if matches!(trial.expected, Expected::Solution) {
                *spent.entry(&trial.lab.slug).or_default() += judged.took;
                if Some(trial.check.name.as_str())
                    == trial
                        .lab
                        .manifest
                        .checks
                        .first()
                        .map(|check| check.name.as_str())
                {
                    *times.entry(&trial.lab.slug).or_default() += 1;
                }
            }
        })
        .context("could not run the checks")?;
        bar.finish_and_clear();
        self.judged = judged.len();
        self.wrong = breaches.len();
        breaches.sort_by_key(|(index, _)| *index);
        self.breaches
            .extend(breaches.into_iter().map(|(_, breach)| breach));
        println!(
            "  judge   {}, {} at a time: {}",
            screen::counted(judged.len(), "check"),
            judging::jobs(),
            told(&self.breaches)
        );
        for (slug, spent) in spent {
            let mut mean = spent / times.get(slug).copied().unwrap_or(1).max(1);
            if mean > BUDGET {
                // A busy machine is no fault of the lab: once more, one check at a time.
                let of_lab = |trial: &Trial<'_>| {
                    trial.lab.slug == slug && matches!(trial.expected, Expected::Solution)
                };
                let alone: Vec<CheckProcess<'_>> = trials
                    .iter()
                    .zip(&processes)
                    .filter(|(trial, _)| of_lab(trial))
                    .map(|(_, process)| process.clone())
                    .take(
                        trials
                            .iter()
                            .find(|t| of_lab(t))
                            .map_or(0, |t| t.lab.manifest.checks.len()),
                    )
                    .collect();
                let again =
                    judge::judge_all(&alone, 1, |_, _| {}).context("could not run the checks")?;
                mean = mean.min(again.iter().map(|judged| judged.took).sum());
            }
            if mean > BUDGET {
                self.breach(
                    slug,
                    format!(
                        "its checks take {:.1} s together on the solution, and {:.0} s is what a \
                         learner may have to wait",
                        mean.as_secs_f64(),
                        BUDGET.as_secs_f64()
                    ),
                );
            }
        }
        Ok(())
    }
}

/// The names of the `#[test]`s of a checker, without their module.
fn tests_of(binary: &Path) -> Result<Vec<String>> {
    let output = Command::new(binary)
        .args(["--list", "--format", "terse"])
        .output()
        .with_context(|| format!("could not start {}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(|test| test.strip_prefix("check::").unwrap_or(test).to_owned())
        .collect())
}

fn progress_bar(length: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("  judge   [{bar:40}] {pos}/{len} {elapsed}")
        .expect("a template of ours")
        .progress_chars("##.");
    let bar = ProgressBar::new(length as u64).with_style(style);
    if !console::user_attended_stderr() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::says;

    #[test]
    fn a_symptom_is_found_across_the_folds_of_a_message() {
        let message = "13:57:00  0s  * nothing: one instance of three gets hardly a\n\
                       \x20                       request, and is slow";
        assert!(says(message, "one instance of three gets hardly a request"));
        assert!(!says(message, "one instance of three gets hardly a query"));
    }
}
