//! What the verbs print, as a person reads it: without a terminal and without colors, what varies
//! replaced by its name.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::terminal::Terminal;
use crate::workspace::{LAB, RIGHT, Said, Workspace, said};

const SOURCE: &str = "labs/18-observability/18-9-1-tiny-queue/src/lib.rs";
const ANSWERS: &str = "labs/18-observability/18-9-1-tiny-queue/answers.toml";
const ANSWERED: &str = "[waiting]\ncount = 4\nprose = \"The rest has begun.\"\n";

/// Some commands, each with what it prints and its exit code.
struct Session<'w> {
    workspace: &'w Workspace,
    text: String,
}

impl<'w> Session<'w> {
    fn new(workspace: &'w Workspace) -> Self {
        Session {
            workspace,
            text: String::new(),
        }
    }

    fn type_in(&mut self, arguments: &[&str]) -> &mut Self {
        let answer = self.workspace.say(arguments);
        self.keep(arguments, &answer)
    }

    fn keep(&mut self, arguments: &[&str], answer: &Said) -> &mut Self {
        let all = answer.all();
        self.text.push_str(&format!(
            "$ cargo xtask {}\n{all}[{}]\n\n",
            arguments.join(" "),
            answer.code
        ));
        assert!(
            !all.contains('\u{1b}'),
            "escape sequences without a terminal:\n{all}"
        );
        self
    }

    /// Compares all that was printed with the snapshot of this name.
    #[track_caller]
    fn check(&self, name: &str) {
        let root = self.workspace.root.display().to_string();
        check(&root, name, &self.text);
        for line in self.text.lines() {
            let shown = line.replace(&root, "/");
            // What others say is shown as they say it.
            if shown.starts_with("        | ") || shown.contains("--> ") {
                continue;
            }
            assert!(shown.chars().count() <= 80, "over 80 columns: {line}");
        }
    }
}

#[track_caller]
fn check(root: &str, name: &str, text: &str) {
    insta::with_settings!({
        prepend_module_to_snapshot => false,
        omit_expression => true,
        filters => [
            (root, "[workspace]"),
            // Only said where a build takes more than three seconds, on a busy machine.
            (r"(?m)^building .*; the first time takes longest\n", ""),
            (r"(?m)^another cargo, .*: waiting for its end\n", ""),
            (r"\d+\.\d+ ?s\b", "[time]"),
            (r"\(\d+\) (panicked|has overflowed)", "([thread]) $1"),
            (r"-\d{10}\b", "-[now]"),
            (r"(yes|no )  disk +\d+ GiB free +", "[mark] disk          [free] GiB free              "),
        ],
    }, { insta::assert_snapshot!(name, text) });
}

#[test]
fn run_shows_every_kind_of_verdict_with_what_a_person_needs() {
    let workspace = Workspace::new("printed-run");
    let mut session = Session::new(&workspace);
    session
        .type_in(&["run", "18.9.1"])
        .type_in(&["run", "18.9.1", "--check", "every_load", "--seed", "2"])
        .type_in(&["run", "18.9.1", "--check", "every_load", "--seed", "1"])
        .type_in(&["run", "tiny", "--check", "nothing_begun", "--solution"])
        .type_in(&["run", "18.9.1", "--check", "no_such_check"]);
    workspace.write(SOURCE, RIGHT);
    workspace.write(ANSWERS, "[waiting]\ncount = \"four\"\n");
    session.type_in(&["run", "18.9.1", "--check", "the_answer_is_right"]);
    workspace.write(ANSWERS, "[waiting\ncount = 4\n");
    session.type_in(&["run", "18.9.1", "--check", "the_answer_is_right"]);
    fs::remove_file(workspace.path(ANSWERS)).expect("removed");
    session.type_in(&["run", "18.9.1", "--check", "the_answer_is_right"]);
    workspace.write(ANSWERS, ANSWERED);
    session.type_in(&["run", "18.9.1"]);
    session.check("run");
}

#[test]
fn run_shows_how_the_code_under_test_came_to_its_end() {
    let workspace = Workspace::new("printed-ends");
    let mut session = Session::new(&workspace);
    for body in [
        "let waits: u32 = \"many\".parse().unwrap(); waits - submitted - begun",
        "println!(\"{submitted} and {begun}\"); std::process::exit(0)",
        "eprintln!(\"no way to count\"); std::process::abort()",
        "let deep = [begun; 64]; if begun > submitted { 0 } else { waiting(submitted, deep[1]) + 1 }",
    ] {
        let source =
            format!("pub fn waiting(submitted: u32, begun: u32) -> u32 {{\n    {body}\n}}\n");
        workspace.write(SOURCE, source);
        session.type_in(&["run", "18.9.1", "--check", "what_has_begun", "--output"]);
    }
    session.check("ends");
}

#[test]
fn run_shows_the_compilers_words_where_it_does_not_compile() {
    let workspace = Workspace::new("printed-compile");
    let mut session = Session::new(&workspace);
    workspace.write(
        SOURCE,
        RIGHT.replace("submitted - begun", "submitted - begin"),
    );
    session.type_in(&["run", "18.9.1"]);
    workspace.write(SOURCE, RIGHT.replace("waiting", "waits"));
    session.type_in(&["run", "18.9.1"]);
    session.type_in(&["hint", "18.9.1"]);
    let unused = "    let unused = 1;\n    submitted";
    workspace.write(SOURCE, RIGHT.replace("    submitted", unused));
    session.type_in(&["run", "18.9.1", "--check", "what_has_begun"]);
    session.check("compile");
}

#[test]
fn hint_goes_from_vague_to_pointed() {
    let workspace = Workspace::new("printed-hint");
    let mut session = Session::new(&workspace);
    session
        .type_in(&["hint", "18.9.1"])
        .type_in(&["hint", "18.9.1"])
        .type_in(&["hint", "18.9.1"])
        .type_in(&["hint", "18.9.1", "--check", "answer"])
        .type_in(&["hint", "18.9.1", "--all"])
        .type_in(&["hint", "18.9.1", "--check", "nothing_begun"])
        .type_in(&["hint", "18.9.2"]);
    session.check("hint");
}

#[test]
fn list_next_and_the_overview_say_where_the_learner_stands() {
    let workspace = Workspace::new("printed-standing");
    let mut session = Session::new(&workspace);
    session
        .type_in(&[])
        .type_in(&["list"])
        .type_in(&["list", "no such lab"])
        .type_in(&["next"]);
    workspace.say(&["run", "18.9.1"]);
    workspace.say(&["run", "18.9.2"]);
    session
        .type_in(&[])
        .type_in(&["list"])
        .type_in(&["list", "--open"])
        .type_in(&["next", "18.9.2"]);
    workspace.write(SOURCE, RIGHT);
    workspace.write(ANSWERS, ANSWERED);
    workspace.say(&["run", "18.9.1"]);
    session
        .type_in(&[])
        .type_in(&["next"])
        .type_in(&["run"])
        .type_in(&["watch"]);
    session.check("standing");
}

#[test]
fn diff_shows_the_solution_only_when_it_no_longer_spoils() {
    let workspace = Workspace::new("printed-diff");
    let mut session = Session::new(&workspace);
    session
        .type_in(&["diff", "18.9.1"])
        .type_in(&["diff", "18.9.1", "--spoil"]);
    workspace.write(SOURCE, RIGHT);
    workspace.write(ANSWERS, ANSWERED);
    session.type_in(&["diff", "18.9.1"]);
    session.check("diff");
}

#[test]
fn reset_says_what_it_does_and_asks_before() {
    let workspace = Workspace::new("printed-reset");
    let mut session = Session::new(&workspace);
    session.type_in(&["reset", "18.9.1"]);
    workspace.write(SOURCE, RIGHT);
    workspace.write(&format!("{LAB}/src/mine.rs"), "");
    fs::remove_file(workspace.path(ANSWERS)).expect("removed");
    session
        .type_in(&["reset", "18.9.1"])
        .type_in(&["reset", "18.9.1", "--yes"])
        .type_in(&["reset", "18.9.1"]);
    session.check("reset");
}

#[test]
fn reset_takes_only_a_clear_yes() {
    let workspace = Workspace::new("printed-reset-asked");
    for (answer, back) in [
        ("\n", false),
        ("what\n", false),
        ("\u{4}", false),
        ("Yes\n", true),
    ] {
        workspace.write(SOURCE, RIGHT);
        let mut terminal = Terminal::open(workspace.xtask(&["reset", "18.9.1"]), 80);
        let asked = terminal.expect("[y/N] ");
        assert!(asked.contains("src/lib.rs"), "it says which files: {asked}");
        terminal.press(answer);
        let (_, said) = terminal.expect_end();
        assert_eq!(
            said.contains("The start is back"),
            back,
            "{answer:?}: {said}"
        );
        assert_eq!(
            said.contains("Nothing was changed."),
            !back,
            "{answer:?}: {said}"
        );
        let now = fs::read_to_string(workspace.path(SOURCE)).expect("there");
        assert_eq!(now == RIGHT, !back, "{answer:?}");
    }
}

#[test]
fn what_names_no_lab_gets_the_nearest() {
    let workspace = Workspace::new("printed-ids");
    let mut session = Session::new(&workspace);
    session
        .type_in(&["run", "tiny-quue"])
        .type_in(&["run", "queue"])
        .type_in(&["run", "18.9"])
        .type_in(&["run", "18.9.3"])
        .type_in(&["hint", ""])
        .type_in(&["diff", "18.9.2.1"])
        .type_in(&["grade", "18.9.1", "other-qeue"])
        .type_in(&["next", "19.1.1"]);
    session.check("ids");
}

#[test]
fn grade_puts_all_labs_in_one_table() {
    let workspace = Workspace::new("printed-grade");
    let mut session = Session::new(&workspace);
    session
        .type_in(&["grade"])
        .type_in(&["grade", "18.9.2"])
        .type_in(&["bench", "18.9.1"]);
    session.check("grade");
}

/// `doctor` on a machine with these programs, and what other folders than `PATH` hold.
fn doctor(workspace: &Workspace, programs: &[(&str, &str)]) -> Said {
    fs::create_dir_all(workspace.path("bin")).expect("made");
    for (program, says) in programs {
        let file = format!("bin/{program}");
        workspace.write(&file, format!("#!/bin/sh\necho '{says}'\n"));
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(workspace.path(&file), mode).expect("made executable");
    }
    workspace.write("rust-toolchain.toml", "[toolchain]\nchannel = \"1.95.0\"\n");
    let mut command = workspace.xtask(&["doctor"]);
    command
        .env_clear()
        .env("NIGHTSHIFT_WORKSPACE", &workspace.root)
        .env("PATH", workspace.path("bin"))
        .env("DOCKER_HOST", "unix:///no/such/socket");
    said(&mut command)
}

#[test]
fn doctor_says_what_is_here_and_what_it_enables() {
    let workspace = Workspace::new("printed-doctor");
    let answer = doctor(
        &workspace,
        &[
            ("cargo", "cargo 1.95.0 (f2d3ce0bd 2026-03-21)"),
            ("rustc", "rustc 1.95.0 (59807616e 2026-04-14)"),
            ("git", "git version 2.47.3"),
            ("etcd", "etcd Version: 3.5.16"),
            (
                "redis-server",
                "Redis server v=8.0.2 sha=00000000:0 bits=64",
            ),
            ("postgres", "postgres (PostgreSQL) 17.5"),
            ("initdb", "initdb (PostgreSQL) 17.5"),
            ("prometheus", "prometheus, version 2.53.3 (branch: HEAD)"),
            ("promtool", "promtool, version 2.53.3 (branch: HEAD)"),
            (
                "alertmanager",
                "alertmanager, version 0.28.1 (branch: HEAD)",
            ),
            (
                "prometheus-alertmanager",
                "alertmanager, version 0.28.1 (branch: HEAD)",
            ),
            ("amtool", "amtool, version 0.28.1 (branch: HEAD)"),
            ("docker", "Docker version 28.2.2, build e6534b4"),
        ],
    );
    let mut session = Session::new(&workspace);
    session.keep(&["doctor"], &answer).check("doctor");
}

#[test]
fn doctor_says_what_to_do_where_rust_is_missing_or_another() {
    let workspace = Workspace::new("printed-doctor-bare");
    let mut answer = doctor(
        &workspace,
        &[("rustc", "rustc 1.80.0 (051478957 2024-07-21)")],
    );
    assert_eq!(answer.code, 1);
    // What follows depends on what this machine has outside of `PATH`.
    let servers = answer.stdout.find("etcd").expect("they are listed");
    answer
        .stdout
        .truncate(answer.stdout[..servers].rfind("\n\n").expect("a paragraph") + 1);
    let mut session = Session::new(&workspace);
    session.keep(&["doctor"], &answer).check("doctor-bare");
}
