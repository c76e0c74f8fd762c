//! Running the checks of one lab, whoever asked for it: `run`, `watch`, `grade` or `verify`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use backends::CONTAINERS_VARIABLE;
use judge::{CheckProcess, Judged, Limits, Verdict};
use kit::protocol::{FIXTURE_DIR, LAB_DIR};
use kit::seed::Seed;

use crate::containers;
use crate::manifest::{Check, Manifest};

/// The largest output of a check that is read, in bytes.
const OUTPUT_LIMIT: u64 = 16 << 20;

/// A compiled checker, bound to one submission.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The test binary.
    pub binary: PathBuf,
    /// The module of the checker in it: `check`, or `NAME::check` in a binary of several.
    pub module: String,
    /// The folder that holds the learner's files.
    pub dir: PathBuf,
    /// The folder of the lab's fixtures.
    pub fixtures: PathBuf,
}

/// One check and how it ended.
#[derive(Clone, Debug)]
pub struct CheckResult<'l> {
    pub check: &'l Check,
    pub judged: Judged,
}

/// How a whole lab ended.
#[derive(Clone, Debug)]
pub struct Outcome<'l> {
    pub results: Vec<CheckResult<'l>>,
}

impl<'l> Outcome<'l> {
    /// The points of the checks that passed.
    pub fn points(&self) -> u32 {
        self.passing().map(|result| result.check.points).sum()
    }

    /// The checks that passed.
    pub fn passing(&self) -> impl Iterator<Item = &CheckResult<'l>> {
        self.results
            .iter()
            .filter(|result| result.judged.verdict.passed())
    }

    /// The checks that were run and did not pass.
    pub fn failing(&self) -> impl Iterator<Item = &CheckResult<'l>> {
        self.results.iter().filter(|result| {
            !matches!(
                result.judged.verdict,
                Verdict::Passed | Verdict::NotRun { .. }
            )
        })
    }

    /// The checks that could not be run here.
    pub fn not_run(&self) -> impl Iterator<Item = &CheckResult<'l>> {
        self.results
            .iter()
            .filter(|result| matches!(result.judged.verdict, Verdict::NotRun { .. }))
    }

    /// Whether every check passed.
    pub fn all_pass(&self) -> bool {
        self.results
            .iter()
            .all(|result| result.judged.verdict.passed())
    }

    /// The names of the passing and of the failing checks, as progress keeps them.
    pub fn names(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let name = |result: &CheckResult<'_>| result.check.name.clone();
        (
            self.passing().map(name).collect(),
            self.failing().map(name).collect(),
        )
    }
}

/// How many checks run at once: as many as there are cores.
pub fn jobs() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Runs `checks` of a lab on `subject`, each in a process of its own, and tells of each as it ends.
///
/// # Errors
/// When the runner itself has trouble; whatever a submission does is a verdict.
pub fn judge<'l>(
    manifest: &'l Manifest,
    checks: &[&'l Check],
    subject: &Subject,
    seed: Option<Seed>,
    mut on_verdict: impl FnMut(&'l Check, &Judged),
) -> Result<Outcome<'l>> {
    let tests: Vec<String> = checks
        .iter()
        .map(|check| format!("{}::{}", subject.module, check.name))
        .collect();
    let processes: Vec<CheckProcess<'_>> = tests
        .iter()
        .map(|test| process(manifest, subject, test, seed))
        .collect();
    let judged = judge::judge_all(&processes, jobs(), |index, judged| {
        on_verdict(checks[index], judged);
    })
    .context("could not run the checks")?;
    let results = checks
        .iter()
        .zip(judged)
        .map(|(&check, judged)| CheckResult { check, judged })
        .collect();
    Ok(Outcome { results })
}

/// The process of one check; `test` is its full path in the binary.
pub fn process<'a>(
    manifest: &Manifest,
    subject: &'a Subject,
    test: &'a str,
    seed: Option<Seed>,
) -> CheckProcess<'a> {
    CheckProcess {
        binary: &subject.binary,
        test,
        cwd: &subject.dir,
        environment: environment(manifest, subject),
        limits: Limits {
            wall: Duration::from_secs(manifest.limits.seconds),
            memory: manifest.limits.memory_mb << 20,
            output: OUTPUT_LIMIT,
        },
        seed,
    }
}

fn environment(manifest: &Manifest, subject: &Subject) -> Vec<(OsString, OsString)> {
    let containers = containers::socket_for(manifest);
    let containers =
        containers.map(|socket| (CONTAINERS_VARIABLE.into(), socket.as_os_str().to_owned()));
    let always = [
        (LAB_DIR.into(), subject.dir.clone().into()),
        (FIXTURE_DIR.into(), subject.fixtures.clone().into()),
        // A backtrace of the harness helps no learner, and takes a second to print.
        ("RUST_BACKTRACE".into(), "0".into()),
    ];
    always.into_iter().chain(containers).collect()
}
