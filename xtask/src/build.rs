//! Building a checker, or a program of the harness: one cargo call, its messages read, its noise kept away.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

/// After this long without a terminal to draw on, a build says once that it is at work.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is said while somebody else holds the target folder.
const BLOCKED: &str = "another cargo, perhaps an editor's, builds here: waiting for its end";

/// A build that takes longer than this has a macro without an end.
pub const LIMIT: Duration = Duration::from_secs(15 * 60);
/// A compiler that maps more than this, in bytes, reads a file without an end.
const MEMORY: u64 = 12 << 30;

/// Which binary of a package to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its `[[test]]` named `check`.
    Checker,
    /// Its program, which has the package's name.
    Program,
}

impl What {
    /// The kind of target that cargo names in its messages.
    fn kind(self) -> &'static str {
        match self {
            What::Checker => "test",
            What::Program => "bin",
        }
    }

    /// What a person reads who waits for it.
    fn name(self) -> &'static str {
        match self {
            What::Checker => "the checker",
            What::Program => "the program",
        }
    }
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder of the workspace.
    pub root: PathBuf,
    pub packages: Vec<String>,
    pub what: What,
    /// Keep going when one package does not compile, to judge the others.
    pub keep_going: bool,
    /// Leave the packages' default features out.
    pub bare: bool,
    /// Where to build, unless it is the workspace's own place.
    pub target_dir: Option<PathBuf>,
    /// The manifest, from the folder of the workspace, of a package that has a workspace of its own.
    pub apart: Option<&'static str>,
}

impl Plan {
    /// The checkers of these packages in this workspace.
    pub fn checkers(root: &Path, packages: Vec<String>) -> Self {
        Plan {
            root: root.to_owned(),
            packages,
            what: What::Checker,
            keep_going: false,
            bare: false,
            target_dir: None,
            apart: None,
        }
    }

    /// The program of a package of the harness that has a workspace of its own. It is built where
    /// everything else is, and shares what both have built.
    fn program(root: &Path, package: &str, manifest: &'static str, bare: bool) -> Self {
        Plan {
            what: What::Program,
            bare,
            apart: Some(manifest),
            ..Plan::checkers(root, vec![package.to_owned()])
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Built {
    /// The checker of each package that compiled.
    pub binaries: HashMap<String, PathBuf>,
    /// The compiler's own words about each package that did not, and about warnings.
    pub errors: HashMap<String, String>,
    pub warnings: HashMap<String, String>,
    /// Cargo's own words, when it failed for another reason than a compile error.
    pub trouble: Option<String>,
    _epilogue: Epilogue,
}

/// Cargo after its last binary: it still puts its books in order, which no check has to wait for.
/// Waited for on drop, since it holds the lock of the target folder until it ends.
#[derive(Debug, Default)]
struct Epilogue(Option<JoinHandle<()>>);

impl Drop for Epilogue {
    fn drop(&mut self) {
        if let Some(rest) = self.0.take() {
            let _ = rest.join();
        }
    }
}

impl Built {
    /// Whether every one of `packages` has its checker. Cargo names a binary only once it is up to
    /// date, and after all that the compiler says about it.
    fn has_all(&self, packages: &[String]) -> bool {
        packages
            .iter()
            .all(|package| self.binaries.contains_key(package))
    }

    /// The compiler's words about a package that has no binary: its own errors, or, where it has
    /// none, those of what it depends on.
    pub fn words_about(&self, package: &str) -> String {
        match self.errors.get(package) {
            Some(words) => words.clone(),
            None => self
                .errors
                .values()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }
}

/// Cargo, as this process was started by it, without the detour over a version manager's proxy.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // What `cargo run` set for the runner must not leak into the build of a lab.
    for (name, _) in env::vars_os() {
        let leaks = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_BIN_")
                || [
                    "CARGO_MANIFEST_DIR",
                    "CARGO_MANIFEST_PATH",
                    "CARGO_CRATE_NAME",
                    "OUT_DIR",
                ]
                .contains(&name)
        });
        if leaks {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Holds cargo, and with it every compiler that it starts from now on, within a limit of memory: what
/// a learner includes at compile time may have no end, and must not take the machine down.
#[cfg(target_os = "linux")]
fn bound(cargo: &Child) {
    use rustix::process::{Pid, Resource, Rlimit};
    let limit = Rlimit {
        current: Some(MEMORY),
        maximum: Some(MEMORY),
    };
    // Where a stricter limit holds already, this one cannot be set and need not be.
    let _ = rustix::process::prlimit(Some(Pid::from_child(cargo)), Resource::As, limit);
}

#[cfg(not(target_os = "linux"))]
fn bound(_cargo: &Child) {}

/// Builds the checkers of `plan`, showing that something happens while it does.
///
/// # Errors
/// When cargo cannot be started. A package that does not compile is no error of this function.
pub fn build(plan: &Plan) -> Result<Built> {
    let mut command = cargo();
    command
        .current_dir(&plan.root)
        .args(match plan.what {
            What::Checker => &["test", "--no-run", "--test", "check"][..],
            What::Program => &["build", "--bins"],
        })
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.arg(if console::colors_enabled() {
        "--message-format=json-diagnostic-rendered-ansi"
    } else {
        "--message-format=json"
    });
    if let Some(manifest) = plan.apart {
        command.args(["--locked", "--manifest-path", manifest]);
    }
    for package in &plan.packages {
        command.args(["--package", package]);
    }
    if plan.keep_going {
        // For `cargo test` this is what `--keep-going` is for `cargo build`.
        command.arg("--no-fail-fast");
    }
    if plan.bare {
        command.arg("--no-default-features");
    }
    if let Some(target) = &plan.target_dir {
        command.env("CARGO_TARGET_DIR", target);
    }
    let mut cargo = command
        .spawn()
        .context("could not start cargo, which should be on the PATH")?;
    bound(&cargo);
    let (tell, heard) = mpsc::channel();
    let words = follow(cargo.stderr.take().expect("it is piped"), tell.clone());
    let messages = cargo.stdout.take().expect("it is piped");
    let packages = plan.packages.clone();
    let what = plan.what;
    let reader = thread::spawn(move || read_messages(messages, &packages, what, &tell));
    let (mut built, in_time) = show_progress(&heard, &mut cargo, what)?;
    if in_time && built.has_all(&plan.packages) {
        built._epilogue = Epilogue(Some(thread::spawn(move || {
            let _ = (reader.join(), words.join(), cargo.wait());
        })));
        return Ok(built);
    }
    let status = cargo.wait().context("could not wait for cargo")?;
    let words = words.join().unwrap_or_default();
    if !in_time {
        built.trouble = Some(format!(
            "the build was ended after {} minutes: look for a macro or a constant without an end",
            LIMIT.as_secs() / 60
        ));
    } else if !status.success() && built.errors.is_empty() {
        built.trouble = Some(words);
    }
    Ok(built)
}

/// Builds the program of the package of the harness with this manifest, which the runner does not
/// link: whoever never asks for it never waits for it. `bare` leaves its default features out.
///
/// # Errors
/// When cargo cannot be started, and when the package does not compile.
pub fn program(root: &Path, package: &str, manifest: &'static str, bare: bool) -> Result<PathBuf> {
    let mut built = build(&Plan::program(root, package, manifest, bare))?;
    match built.binaries.remove(package) {
        Some(path) => Ok(path),
        None => {
            let words = built.trouble.take();
            let words = words.unwrap_or_else(|| built.words_about(package));
            bail!("could not build `{package}`, which your files have no part in\n{words}")
        }
    }
}

/// What is heard of cargo while it builds.
enum Heard {
    /// A line of its standard error.
    Line(String),
    /// Every checker is there, or cargo says no more.
    Built(Built),
}

#[derive(Deserialize)]
#[serde(tag = "reason")]
enum Message {
    #[serde(rename = "compiler-artifact")]
    Artifact {
        package_id: String,
        target: Target,
        executable: Option<PathBuf>,
    },
    #[serde(rename = "compiler-message")]
    Words {
        package_id: String,
        message: Diagnostic,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    rendered: Option<String>,
    #[serde(default)]
    spans: Vec<serde::de::IgnoredAny>,
}

/// Reads cargo's messages to their end, and tells what they come to as soon as no message about
/// `packages` can follow.
fn read_messages(messages: impl Read, packages: &[String], what: What, tell: &mpsc::Sender<Heard>) {
    let mut built = Built::default();
    let mut told = false;
    for line in BufReader::new(messages).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Message::Artifact {
                package_id,
                target,
                executable: Some(executable),
            }) if target.kind.iter().any(|kind| kind == what.kind()) => {
                built.binaries.insert(package_name(&package_id), executable);
                if !told && built.has_all(packages) {
                    told = true;
                    let _ = tell.send(Heard::Built(std::mem::take(&mut built)));
                }
            }
            Ok(Message::Words {
                package_id,
                message,
            }) => {
                let Some(text) = message.rendered else {
                    continue;
                };
                // "aborting due to 2 previous errors" and "2 warnings emitted" add nothing.
                if message.spans.is_empty() && !message.level.starts_with("error: internal") {
                    let sums_up = text.contains("aborting due to") || text.contains("emitted");
                    if sums_up || text.contains("For more information about") {
                        continue;
                    }
                }
                let words = match message.level.as_str() {
                    "warning" => &mut built.warnings,
                    level if level.starts_with("error") => &mut built.errors,
                    _ => continue,
                };
                words
                    .entry(package_name(&package_id))
                    .or_default()
                    .push_str(&text);
            }
            _ => {}
        }
    }
    if !told {
        let _ = tell.send(Heard::Built(built));
    }
}

/// The name in a package id, such as `path+file:///a/labs/x#read-pool-metrics@0.1.0`.
fn package_name(id: &str) -> String {
    let fragment = id.rsplit('#').next().unwrap_or(id);
    match fragment.split_once('@') {
        Some((name, _version)) => name.to_owned(),
        // `path+file:///a/labs/request-id#0.1.0`: the folder has the package's name.
        None => id
            .split('#')
            .next()
            .and_then(|path| path.rsplit('/').next())
            .unwrap_or(id)
            .to_owned(),
    }
}

fn follow(stderr: impl Read + Send + 'static, tell: mpsc::Sender<Heard>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut words = String::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            words.push_str(&line);
            words.push('\n');
            let _ = tell.send(Heard::Line(line));
        }
        words
    })
}

/// Shows what cargo compiles until it is known what comes of it. The flag is `false` when the limit
/// passed first, and cargo was killed.
fn show_progress(
    heard: &mpsc::Receiver<Heard>,
    cargo: &mut Child,
    what: What,
) -> Result<(Built, bool)> {
    let started = Instant::now();
    let spinner = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} {msg}").expect("a template of ours"));
    let drawn = console::user_attended_stderr();
    let mut told = false;
    let mut blocked = false;
    let mut compiled = 0;
    let mut in_time = true;
    let built = loop {
        let wait = Duration::from_millis(100);
        match heard.recv_timeout(wait) {
            Ok(Heard::Line(line)) => {
                let line = console::strip_ansi_codes(&line).trim().to_owned();
                if let Some(rest) = line.strip_prefix("Compiling ") {
                    compiled += 1;
                    let name = rest.split(' ').next().unwrap_or(rest);
                    spinner.set_message(format!("compiling {name} ({compiled})"));
                } else if line.starts_with("Downloading") {
                    spinner.set_message(line.to_lowercase());
                }
                blocked = line.starts_with("Blocking waiting for file lock");
                if blocked {
                    spinner.set_message(BLOCKED);
                }
            }
            Ok(Heard::Built(built)) => break built,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bail!("cargo's messages could not be read");
            }
        }
        if drawn && started.elapsed() > Duration::from_millis(300) {
            spinner.tick();
        }
        if !drawn && !told && started.elapsed() > PATIENCE {
            let what = what.name();
            if blocked {
                eprintln!("{BLOCKED}");
            } else {
                eprintln!("building {what} and what it needs; the first time takes longest");
            }
            told = true;
        }
        if in_time && !blocked && started.elapsed() > LIMIT {
            let _ = cargo.kill();
            in_time = false;
        }
    };
    spinner.finish_and_clear();
    Ok((built, in_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_in_both_forms_of_its_id() {
        for (id, name) in [
            (
                "path+file:///a/labs/18-1-1-x#read-pool-metrics@0.1.0",
                "read-pool-metrics",
            ),
            ("path+file:///a/labs/request-id#0.1.0", "request-id"),
            ("registry+https://example.org/index#tokio@1.54.1", "tokio"),
        ] {
            assert_eq!(package_name(id), name);
        }
    }

    #[test]
    fn errors_and_binaries_are_read_and_the_rest_is_passed_over() {
        let text = concat!(
            r#"{"reason":"compiler-artifact","package_id":"path+file:///r#a@0.1.0","target":{"kind":["test"]},"executable":"/t/check-1"}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-message","package_id":"path+file:///r#b@0.1.0","message":{"level":"error","rendered":"error[E0308]: mismatched","spans":[{}]}}"#,
            "\n",
            r#"{"reason":"compiler-message","package_id":"path+file:///r#b@0.1.0","message":{"level":"error","rendered":"error: aborting due to 1 previous error","spans":[]}}"#,
            "\n",
            r#"{"reason":"build-finished","success":false}"#,
        );
        let built = read(text, &["a", "b"]);
        assert_eq!(built.binaries["a"], PathBuf::from("/t/check-1"));
        assert_eq!(built.errors["b"], "error[E0308]: mismatched");
    }

    /// What is told of `text`, once.
    fn read(text: &str, packages: &[&str]) -> Built {
        let packages: Vec<String> = packages.iter().map(|&name| name.to_owned()).collect();
        let (tell, told) = mpsc::channel();
        read_messages(text.as_bytes(), &packages, What::Checker, &tell);
        drop(tell);
        let mut told = told.iter();
        let Some(Heard::Built(built)) = told.next() else {
            panic!("nothing is told");
        };
        assert!(told.next().is_none(), "it is told twice");
        built
    }

    #[test]
    fn a_build_is_told_with_its_last_binary_and_the_warnings_before_it() {
        let warned = r#"{"reason":"compiler-message","package_id":"path+file:///r#a@0.1.0","message":{"level":"warning","rendered":"warning: unused","spans":[{}]}}"#;
        let a = r#"{"reason":"compiler-artifact","package_id":"path+file:///r#a@0.1.0","target":{"kind":["test"]},"executable":"/t/check-1"}"#;
        let b = r#"{"reason":"compiler-artifact","package_id":"path+file:///r#b@0.1.0","target":{"kind":["test"]},"executable":"/t/check-2"}"#;
        let text = format!("{warned}\n{a}\n{b}\n");
        for packages in [&["a"][..], &["a", "b"], &["a", "c"]] {
            let built = read(&text, packages);
            assert_eq!(built.warnings["a"], "warning: unused");
            assert!(built.binaries.contains_key("a"));
            assert_eq!(built.binaries.contains_key("b"), packages != ["a"]);
        }
    }
}
