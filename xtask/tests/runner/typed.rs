//! The runner from outside: whatever is typed, it answers in sentences.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::workspace::Workspace;

#[track_caller]
fn xtask(arguments: &[&str]) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .env("RUST_BACKTRACE", "1")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the runner starts");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    let code = status
        .code()
        .unwrap_or_else(|| panic!("{arguments:?} died: {status}\n{said}"));
    for trace in ["panicked at", "stack backtrace", "RUST_BACKTRACE"] {
        assert!(
            !said.contains(trace),
            "{arguments:?} shows a backtrace:\n{said}"
        );
    }
    (code, said)
}

#[test]
fn bad_input_gets_a_sentence_that_says_what_to_do() {
    let long = "x".repeat(5_000);
    for (arguments, code, part) in [
        (&["run", "no-such-lab"][..], 2, "the nearest are"),
        (&["run", ""], 2, "there is no lab"),
        (&["run", "pool"], 2, "could be any of"),
        (&["run", "99.9.9"], 2, "there is no lab `99.9.9`"),
        (&["run", &long], 2, "there is no lab"),
        (&["run", "../../etc/passwd"], 2, "there is no lab"),
        (
            &["run", "18.1.1", "--seed", "soon"],
            2,
            "invalid value 'soon'",
        ),
        (
            &["run", "18.1.1", "--check", "no_such_check"],
            2,
            "no check of 18.1.1 has that in its name",
        ),
        (&["hint", "stampede", "caches"], 2, "unexpected argument"),
        (&["reset", "nothing"], 2, "there is no lab"),
        (&["view", "nothing"], 2, "there is no lab"),
        (&["view", "18.1.2"], 2, "comes without a dump"),
        (
            &["view", "18.1.1", "--serve", "--output", "page.html"],
            2,
            "cannot be used with",
        ),
        (
            &["grade", "--submission", "/no/such/folder"],
            2,
            "there is no folder",
        ),
        (
            &["grade", "18.1.1", "--format", "xml"],
            2,
            "possible values: text, json, junit",
        ),
        (
            &["new", "read", "18.1.1", "again", "Again"],
            2,
            "is there already",
        ),
        (
            &["new", "read", "18.x", "again", "Again"],
            2,
            "is no lab's id",
        ),
        (
            &["new", "sing", "18.9.9", "again", "Again"],
            2,
            "possible values",
        ),
        (
            &["new", "fix", "18.9.9", "Not A Name", "Again"],
            2,
            "is no package's name",
        ),
        (
            &["new", "fix", "99.1.1", "again", "Again"],
            2,
            "say --chapter",
        ),
        (&["watch", "18.1.1"], 2, "watch needs a terminal"),
        (&["frobnicate"], 2, "unrecognized subcommand"),
    ] {
        let (found, said) = xtask(arguments);
        let shown: Vec<&str> = arguments
            .iter()
            .map(|word| &word[..word.len().min(30)])
            .collect();
        assert_eq!(found, code, "{shown:?} says:\n{said}");
        assert!(
            said.contains(part),
            "{shown:?} does not say \"{part}\", but:\n{said}"
        );
    }
}

#[test]
fn what_a_learner_reads_fits_eighty_columns() {
    for arguments in [&[][..], &["list"], &["list", "--kind", "read"], &["doctor"]] {
        let (_, said) = xtask(arguments);
        let wide: Vec<&str> = said
            .lines()
            .filter(|line| line.chars().count() > 80)
            .collect();
        // A server's address or version is as long as it is.
        if arguments != ["doctor"] {
            assert!(
                wide.is_empty(),
                "{arguments:?} has lines of over 80 columns: {wide:#?}"
            );
        }
        assert!(
            !said.contains('\u{1b}'),
            "{arguments:?} uses escape sequences although NO_COLOR is set"
        );
    }
}

#[test]
fn every_verb_explains_itself() {
    let (_, help) = xtask(&["--help"]);
    for verb in [
        "list", "next", "run", "watch", "hint", "diff", "reset", "fixture", "bench", "grade",
        "doctor", "new", "verify",
    ] {
        assert!(
            help.contains(&format!("\n  {verb}")),
            "--help does not list {verb}:\n{help}"
        );
        let (code, said) = xtask(&[verb, "--help"]);
        assert_eq!(code, 0, "{verb} --help:\n{said}");
    }
}

/// Cargo takes the path in an alias from the folder in which it is called.
#[test]
fn cargo_xtask_answers_in_every_folder_of_the_repository() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the runner lies in the repository");
    let below = fs::read_dir(root)
        .expect("a folder")
        .map(|entry| entry.expect("an entry"));
    let mut folders: Vec<PathBuf> = below
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = !name.starts_with('.') && name != "target" && !name.starts_with("mutants");
            ours && entry.path().is_dir()
        })
        .map(|entry| entry.path())
        .collect();
    assert!(folders.len() >= 5, "{folders:?}");
    folders.push(root.to_owned());
    folders.push(root.join("labs/18-observability/18-1-1-read-pool-metrics/src"));
    for folder in folders {
        let answer = Command::new(env!("CARGO"))
            .args(["xtask", "list"])
            .current_dir(&folder)
            .env_remove("CARGO_MANIFEST_DIR")
            .stdin(Stdio::null())
            .output()
            .expect("cargo starts");
        let (said, why) = (
            String::from_utf8_lossy(&answer.stdout),
            String::from_utf8_lossy(&answer.stderr),
        );
        assert!(
            said.contains("18.1.1"),
            "in {}: {said}{why}",
            folder.display()
        );
    }
}

/// A moved repository brings along a runner that was built somewhere else.
#[test]
fn the_labs_are_those_of_the_repository_that_the_runner_is_started_from() {
    let workspace = Workspace::new("typed-started-from");
    for package in ["xtask", "xtask/launch"] {
        let answer = workspace
            .xtask(&["list"])
            .env_remove("NIGHTSHIFT_WORKSPACE")
            .env("CARGO_MANIFEST_DIR", workspace.path(package))
            .output()
            .expect("the runner starts");
        let said = String::from_utf8_lossy(&answer.stdout);
        assert!(said.contains("18.9.1"), "from {package}: {said}");
    }
}
