//! A workspace of its own for each test, with two tiny labs and a cargo that counts its builds.
//!
//! It lies below the target folder under a name that stays, so that the next run of the tests finds
//! its labs compiled already; its files are laid out anew each time.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::fs::OFlags;

use crate::deadline::wait_until;

/// The lab that most tests are about: of its five checks one fails, one waits for an answer, one
/// cannot be run anywhere, one fails for some seeds, and one passes.
pub const LAB: &str = "labs/18-observability/18-9-1-tiny-queue";
/// Another one, which passes as it is.
pub const OTHER: &str = "labs/18-observability/18-9-2-other-queue";

/// The start of [`LAB`]: it adds where it should subtract.
pub const START: &str = "\
//! A queue, as far as its length goes.

/// How many tasks wait, of those that were submitted, when so many have begun.
pub fn waiting(submitted: u32, begun: u32) -> u32 {
    submitted + begun
}
";

/// What passes.
pub const RIGHT: &str = "\
//! A queue, as far as its length goes.

/// How many tasks wait, of those that were submitted, when so many have begun.
pub fn waiting(submitted: u32, begun: u32) -> u32 {
    submitted - begun
}
";

pub struct Workspace {
    pub root: PathBuf,
}

/// What the runner answered.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// What a person sees on the screen.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Workspace {
    pub fn new(name: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("runner")
            .join(name);
        if root.exists() {
            fs::remove_dir_all(&root).expect("what an earlier run left can be removed");
        }
        let workspace = Workspace { root };
        workspace.lay_out();
        workspace
    }

    fn lay_out(&self) {
        let harness = real_root().join("harness").display().to_string();
        // The real workspace's profiles and versions, so that what it has compiled is used here.
        let real = fs::read_to_string(real_root().join("Cargo.toml")).expect("it is there");
        let real: toml::Table = toml::from_str(&real).expect("it is valid");
        let profile = toml::Table::from_iter([("profile".to_owned(), real["profile"].clone())]);
        let mut profile = profile;
        if let Some(dev) = profile["profile"]["dev"].as_table_mut() {
            // Of these, only what all packages share concerns the labs here.
            let packages = dev.get_mut("package").and_then(toml::Value::as_table_mut);
            packages.expect("it is there").retain(|name, _| name == "*");
        }
        profile["profile"]
            .as_table_mut()
            .expect("it is a table")
            .retain(|name, _| name == "dev");
        self.write(
            "Cargo.toml",
            format!(
                "[workspace]\nresolver = \"3\"\nmembers = [\"labs/*/*\", \"solutions/*/*\"]\n\
                 [workspace.dependencies]\nkit = {{ path = \"{harness}/kit\" }}\n{}",
                toml::to_string(&profile).expect("it is a table")
            ),
        );
        fs::copy(real_root().join("Cargo.lock"), self.root.join("Cargo.lock")).expect("copied");
        fs::copy(
            real_root().join("rust-toolchain.toml"),
            self.root.join("rust-toolchain.toml"),
        )
        .expect("copied");
        self.lay_out_lab(
            LAB,
            &LabText {
                id: "18.9.1",
                title: "The queue that grows",
                name: "tiny-queue",
                source: START,
                solution: RIGHT,
                checks: CHECKS,
                manifest: MANIFEST,
                answers: Some((
                    "[waiting]\n# How many wait?\ncount = \"?\"\n# Why?\nprose = \"?\"\n",
                    "[waiting]\ncount = 4\nprose = \"What has begun no longer waits.\"\n",
                )),
            },
        );
        self.lay_out_lab(OTHER, &LabText {
            id: "18.9.2",
            title: "The queue that does not",
            name: "other-queue",
            source: RIGHT,
            solution: RIGHT,
            checks: "#[test]\nfn the_other_queue_counts() {\n    kit::check(|| assert_eq!(super::subject::waiting(2, 1), 1));\n}\n",
            manifest: "[[check]]\nname = \"the_other_queue_counts\"\ntitle = \"the other queue counts\"\npoints = 10\nstart = { passes = \"it is right\" }\nhints = [\"It is right.\"]\n",
            answers: None,
        });
    }

    fn lay_out_lab(&self, dir: &str, lab: &LabText<'_>) {
        let crate_name = lab.name.replace('-', "_");
        let learner = match lab.answers {
            Some(_) => "\"src\", \"answers.toml\"",
            None => "\"src\"",
        };
        let checker = lab.id.replace('.', "_");
        self.write(
            &format!("{dir}/lab.toml"),
            format!(
                "id = \"{}\"\ntitle = \"{}\"\nkind = [\"fix\"]\nminutes = 15\ntags = [\"queue\"]\n\
                 learner = [{learner}]\n{}",
                lab.id, lab.title, lab.manifest
            ),
        );
        self.write(
            &format!("{dir}/README.md"),
            format!(
                "# {} {}\n\n## The situation\n\nThe queue is longer than what was ever submitted.\n",
                lab.id, lab.title
            ),
        );
        self.write(
            &format!("harness/checks/18-observability/{checker}.rs"),
            lab.checks,
        );
        let solution = dir.replace("labs/", "solutions/");
        self.write(
            &format!("{solution}/README.md"),
            format!(
                "# {} {}\n\n## What was wrong\n\nIt added.\n",
                lab.id, lab.title
            ),
        );
        let answers = lab.answers.unwrap_or_default();
        for (dir, suffix, source, answers) in [
            (dir, "", lab.source, answers.0),
            (&solution, "-solution", lab.solution, answers.1),
        ] {
            let crate_suffix = suffix.replace('-', "_");
            self.write(
                &format!("{dir}/Cargo.toml"),
                format!(
                    "[package]\nname = \"{}{suffix}\"\nversion = \"0.1.0-{}\"\nedition = \"2024\"\n\
                     [dev-dependencies]\nkit = {{ workspace = true }}\n",
                    lab.name,
                    // Cargo tells packages of one target folder apart by their path below their
                    // workspace, which is the same in all of these, and by their version.
                    self.name()
                ),
            );
            self.write(
                &format!("{dir}/tests/check.rs"),
                format!(
                    "use {crate_name}{crate_suffix} as subject;\n\
                     #[path = \"../../../../harness/checks/18-observability/{checker}.rs\"]\n\
                     mod check;\n"
                ),
            );
            self.write(&format!("{dir}/src/lib.rs"), source);
            if lab.answers.is_some() {
                self.write(&format!("{dir}/answers.toml"), answers);
            }
        }
        let mut start = serde_json::Map::new();
        if lab.answers.is_some() {
            start.insert("answers.toml".into(), answers.0.into());
        }
        start.insert("src/lib.rs".into(), lab.source.into());
        let slug = dir.rsplit('/').next().expect("a path");
        self.write(
            &format!("harness/starts/18-observability/{slug}.json"),
            serde_json::to_string(&start).expect("texts"),
        );
    }

    fn name(&self) -> std::borrow::Cow<'_, str> {
        self.root.file_name().unwrap_or_default().to_string_lossy()
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// As an editor saves: written beside the file, then renamed.
    pub fn save(&self, file: &str, text: &str) {
        let beside = format!("{file}.tmp");
        self.write(&beside, text);
        fs::rename(self.path(&beside), self.path(file)).expect("renamed");
    }

    /// The runner, for this workspace.
    pub fn xtask(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(arguments)
            .current_dir(&self.root)
            .env("NIGHTSHIFT_WORKSPACE", &self.root)
            .env("CARGO_TARGET_DIR", real_target())
            .env("CARGO_NET_OFFLINE", "true")
            // Whether or not the tests are: a person's machine has neither.
            .env("RUST_BACKTRACE", "1")
            .env_remove("CLICOLOR_FORCE")
            .env_remove("NO_COLOR")
            .env_remove("NIGHTSHIFT_REQUIRE_BACKENDS")
            .env("TERM", "xterm")
            .stdin(Stdio::null());
        command
    }

    /// What the runner answers, without a terminal.
    #[track_caller]
    pub fn say(&self, arguments: &[&str]) -> Said {
        said(&mut self.xtask(arguments))
    }

    /// Puts a cargo before the real one that writes down each of its calls, and waits at the gate
    /// where there is one.
    pub fn count_builds(&self, command: &mut Command) {
        let real = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        self.write(
            "bin/cargo",
            format!(
                "#!/bin/sh\necho \"$*\" >> '{log}'\n\
                 if [ -p '{gate}' ]; then read -r _ < '{gate}'; fi\n\
                 exec '{}' \"$@\"\n",
                real.to_string_lossy(),
                log = self.path("builds").display(),
                gate = self.path("gate").display(),
            ),
        );
        let cargo = self.path("bin/cargo");
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("made executable");
        command.env("CARGO", cargo);
    }

    /// How often the counting cargo was called.
    pub fn builds(&self) -> usize {
        fs::read_to_string(self.path("builds")).map_or(0, |log| log.lines().count())
    }

    /// From here on builds stand still until the gate is opened.
    pub fn close_gate(&self) {
        let made = Command::new("mkfifo").arg(self.path("gate")).status();
        assert!(made.is_ok_and(|made| made.success()), "there is no gate");
    }

    /// Waits until a build stands at the gate.
    #[track_caller]
    pub fn build_at_gate(&self) -> AtGate {
        let mut held = None;
        wait_until("a build is at the gate", || {
            held = self.try_gate();
            held.is_some()
        });
        AtGate {
            gate: self.path("gate"),
            held: held.expect("it was opened"),
        }
    }

    /// The gate's other end, if somebody waits there.
    pub fn try_gate(&self) -> Option<fs::File> {
        fs::File::options()
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(self.path("gate"))
            .ok()
    }
}

/// A build that stands still.
pub struct AtGate {
    gate: PathBuf,
    held: fs::File,
}

impl AtGate {
    /// Lets it and all later ones go on.
    pub fn open(mut self) {
        fs::remove_file(&self.gate).expect("the gate can go");
        self.held.write_all(b"\n").expect("the build waits");
    }
}

/// What a command answers.
#[track_caller]
pub fn said(command: &mut Command) -> Said {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the runner starts");
    let said = Said {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    };
    let all = said.all();
    assert!(status.code().is_some(), "died: {status}\n{all}");
    for trace in ["thread 'main'", "stack backtrace", "a bug in the runner"] {
        assert!(!all.contains(trace), "{command:?}:\n{all}");
    }
    said
}

struct LabText<'a> {
    id: &'a str,
    title: &'a str,
    name: &'a str,
    source: &'a str,
    solution: &'a str,
    checks: &'a str,
    manifest: &'a str,
    /// The learner's, and the solution's.
    answers: Option<(&'a str, &'a str)>,
}

fn real_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the runner lies in the workspace")
        .to_owned()
}

/// Where this test was built, and so where what the labs need was.
fn real_target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("it lies in the target folder")
        .to_owned()
}

const CHECKS: &str = r#"
use super::subject::waiting;

#[test]
fn what_has_begun_no_longer_waits() {
    kit::check(|| {
        let found = waiting(7, 3);
        assert!(found == 4, "7 tasks were submitted, 3 have begun, and {found} are said to wait");
    });
}

#[test]
fn the_answer_is_right() {
    kit::check(|| {
        let given = kit::answers!().number("waiting.count");
        assert!(given == 4.0, "7 were submitted, 3 have begun, and you say that {given} wait");
    });
}

#[test]
fn the_server_agrees() {
    kit::check(|| kit::not_run("there is no server of that kind", "install the server"));
}

#[test]
fn every_load_is_counted() {
    kit::check(|| {
        kit::seed::each(&[1, 2, 3], |seed| {
            let begun = u32::try_from(seed.0 % 2).expect("0 or 1");
            let found = waiting(10, begun);
            assert!(found == 10 - begun, "{begun} of 10 have begun, and {found} are said to wait");
        });
    });
}

#[test]
fn nothing_begun_all_wait() {
    kit::check(|| assert_eq!(waiting(5, 0), 5, "5 tasks wait, and {} are seen", waiting(5, 0)));
}
"#;

const MANIFEST: &str = r#"
[[check]]
name = "what_has_begun_no_longer_waits"
title = "what has begun no longer waits"
points = 40
start = { fails = "10 are said to wait" }
hints = ["Compare it with what was submitted.", "What does a task do when it begins?"]

[[check]]
name = "the_answer_is_right"
title = "your answer: how many wait"
points = 20
start = { unanswered = "waiting.count" }
hints = ["Count them."]

[[check]]
name = "the_server_agrees"
title = "a server agrees"
points = 10
start = { fails = "nothing" }
hints = ["It needs a server."]
needs = ["etcd"]

[[check]]
name = "every_load_is_counted"
title = "every load is counted"
points = 20
start = { fails = "1 of 10" }
hints = ["Replay it by its seed."]

[[check]]
name = "nothing_begun_all_wait"
title = "all wait while nothing has begun"
points = 10
start = { passes = "that it is not always zero" }
hints = ["It is right at the start."]
"#;
