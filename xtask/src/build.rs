//! Building a checker: one cargo call, its messages read, its noise kept away.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

/// After this long without a terminal to draw on, a build says once that it is at work.
const PATIENCE: Duration = Duration::from_secs(3);

/// A build that takes longer than this has a macro without an end.
pub const LIMIT: Duration = Duration::from_secs(15 * 60);
/// A compiler that maps more than this, in KiB, reads a file without an end.
const MEMORY_KIB: u64 = 12 << 20;

/// What to build.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder of the workspace.
    pub root: PathBuf,
    pub packages: Vec<String>,
    /// The name of the `[[test]]` target: `check`.
    pub test: String,
    /// Keep going when one package does not compile, to judge the others.
    pub keep_going: bool,
    /// Where to build, unless it is the workspace's own place.
    pub target_dir: Option<PathBuf>,
}

impl Plan {
    /// The checkers of these packages in this workspace.
    pub fn checkers(root: &Path, packages: Vec<String>) -> Self {
        Plan {
            root: root.to_owned(),
            packages,
            test: "check".into(),
            keep_going: false,
            target_dir: None,
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
}

impl Built {
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
    let mut cargo =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    // What `cargo run` set for the runner must not leak into the build of a lab.
    for (name, _) in std::env::vars_os() {
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

/// The same command within a limit of memory: what a learner includes at compile time may have no
/// end, and must not take the machine down.
#[cfg(unix)]
fn bounded(command: Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "ulimit -v \"$0\" 2>/dev/null; exec \"$@\""])
        .arg(MEMORY_KIB.to_string())
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[cfg(not(unix))]
fn bounded(command: Command) -> Command {
    command
}

/// Builds the checkers of `plan`, showing that something happens while it does.
///
/// # Errors
/// When cargo cannot be started. A package that does not compile is no error of this function.
pub fn build(plan: &Plan) -> Result<Built> {
    let mut command = bounded(cargo());
    command
        .current_dir(&plan.root)
        .args(["test", "--no-run", "--test"])
        .arg(&plan.test)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.arg(if console::colors_enabled() {
        "--message-format=json-diagnostic-rendered-ansi"
    } else {
        "--message-format=json"
    });
    for package in &plan.packages {
        command.args(["--package", package]);
    }
    if plan.keep_going {
        // For `cargo test` this is what `--keep-going` is for `cargo build`.
        command.arg("--no-fail-fast");
    }
    if let Some(target) = &plan.target_dir {
        command.env("CARGO_TARGET_DIR", target);
    }
    let mut cargo = command
        .spawn()
        .context("could not start cargo, which should be on the PATH")?;
    let (said, heard) = mpsc::channel();
    let words = follow(cargo.stderr.take().expect("it is piped"), said);
    let messages = cargo.stdout.take().expect("it is piped");
    let reader = thread::spawn(move || read_messages(messages));
    let in_time = show_progress(&heard, &mut cargo);
    let status = cargo.wait().context("could not wait for cargo")?;
    let mut built = reader
        .join()
        .map_err(|_| anyhow!("cargo's messages could not be read"))?;
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

fn read_messages(messages: impl Read) -> Built {
    let mut built = Built::default();
    for line in BufReader::new(messages).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Message::Artifact {
                package_id,
                target,
                executable: Some(executable),
            }) if target.kind.iter().any(|kind| kind == "test") => {
                built.binaries.insert(package_name(&package_id), executable);
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
    built
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

fn follow(
    stderr: impl Read + Send + 'static,
    said: mpsc::Sender<String>,
) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut words = String::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            words.push_str(&line);
            words.push('\n');
            let _ = said.send(line);
        }
        words
    })
}

/// Shows what cargo compiles until it has closed its standard error. `false` when the limit
/// passed first, and cargo was killed.
fn show_progress(heard: &mpsc::Receiver<String>, cargo: &mut Child) -> bool {
    let started = Instant::now();
    let spinner = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} {msg}").expect("a template of ours"));
    let drawn = console::user_attended_stderr();
    let mut told = false;
    let mut compiled = 0;
    let in_time = loop {
        let wait = Duration::from_millis(100);
        match heard.recv_timeout(wait) {
            Ok(line) => {
                let line = console::strip_ansi_codes(&line).trim().to_owned();
                if let Some(rest) = line.strip_prefix("Compiling ") {
                    compiled += 1;
                    let name = rest.split(' ').next().unwrap_or(rest);
                    spinner.set_message(format!("compiling {name} ({compiled})"));
                } else if line.starts_with("Downloading") || line.starts_with("Blocking") {
                    spinner.set_message(line.to_lowercase());
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break true,
        }
        if drawn && started.elapsed() > Duration::from_millis(300) {
            spinner.tick();
        }
        if !drawn && !told && started.elapsed() > PATIENCE {
            eprintln!("building the checker and what it needs; the first time takes longest");
            told = true;
        }
        if started.elapsed() > LIMIT {
            let _ = cargo.kill();
            break false;
        }
    };
    spinner.finish_and_clear();
    in_time
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
        let built = read_messages(text.as_bytes());
        assert_eq!(built.binaries["a"], PathBuf::from("/t/check-1"));
        assert_eq!(built.errors["b"], "error[E0308]: mismatched");
    }
}
