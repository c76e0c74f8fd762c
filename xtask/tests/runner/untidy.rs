//! Files, folders and machines that are not as they should be: each ends in a sentence that says
//! what to do, never in a crash, a hang or a backtrace.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::deadline::wait_until;
use crate::workspace::{LAB, OTHER, RIGHT, Said, Workspace, said};

const SOURCE: &str = "labs/18-observability/18-9-1-tiny-queue/src/lib.rs";
const ANSWERS: &str = "labs/18-observability/18-9-1-tiny-queue/answers.toml";

/// What stands beneath a title, in one line.
fn sentence(said: &Said) -> String {
    said.all().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn assert_says(said: &Said, code: i32, part: &str) {
    let all = sentence(said);
    assert!(
        said.code == code && all.contains(part),
        "the exit code is {} and not {code}, or this is not said: {part}\n{all}",
        said.code
    );
}

#[test]
fn a_manifest_that_is_broken_is_named_with_its_line_and_what_to_do() {
    let workspace = Workspace::new("untidy-manifests");
    let manifest = format!("{LAB}/lab.toml");
    let whole = fs::read_to_string(workspace.path(&manifest)).expect("there");
    for (text, part) in [
        (&b"id = "[..], "line 1, column 6"),
        (b"", "missing field `id`"),
        (b"\xff\xfe", "UTF-8"),
        (b"id = \"18.9.1\"\nid = \"18.9.1\"\n", "duplicate key"),
        (
            whole.replace("points = 40", "points = -40").as_bytes(),
            "expected u32",
        ),
        (
            whole.replace("minutes", "hours").as_bytes(),
            "unknown field `hours`",
        ),
        (
            whole.replace("18.9.1", "eighteen").as_bytes(),
            "is no lab's id",
        ),
        (
            whole
                .replace("\"src\"", "\"../18-9-2-other-queue\"")
                .as_bytes(),
            "does not lie in",
        ),
    ] {
        workspace.write(&manifest, text);
        for verb in [&["list"][..], &["run", "18.9.1"], &[]] {
            let said = workspace.say(verb);
            assert_says(&said, 2, part);
            assert_says(&said, 2, "18-9-1-tiny-queue/lab.toml");
            assert_says(&said, 2, "restore it from the repository");
        }
    }
    // With another editor's line ends and byte order mark it is the same manifest.
    let windows = format!("\u{feff}{}", whole.replace('\n', "\r\n"));
    workspace.write(&manifest, windows);
    assert_says(&workspace.say(&["list", "grows"]), 0, "1 lab");
    fs::remove_file(workspace.path(&manifest)).expect("removed");
    fs::create_dir(workspace.path(&manifest)).expect("made");
    assert_says(
        &workspace.say(&["list"]),
        2,
        "restore it from the repository",
    );
}

#[test]
fn answers_are_read_as_any_editor_saves_them_and_otherwise_the_place_is_named() {
    let workspace = Workspace::new("untidy-answers");
    let answer = |text: &[u8]| {
        workspace.write(ANSWERS, text);
        workspace.say(&["run", "18.9.1", "--check", "the_answer"])
    };
    for text in [
        &b"\xef\xbb\xbf[waiting]\ncount = 4\n"[..],
        b"[waiting]\r\ncount = 4\r\n",
        b"waiting.count = 4.0",
    ] {
        assert_says(&answer(text), 0, "pass your answer");
    }
    for (text, part) in [
        (&b"[waiting]\ncount = \"\xff\"\n"[..], "not UTF-8"),
        (b"[waiting]\r\ncount = four\r\n", "answers.toml:2:9"),
        (b"[waiting]\ncount = nan\n", "waiting.count"),
        (b"[waiting]\ncount = 4\ncount = 5\n", "answers.toml:3:1"),
        (b"", "there is no `waiting.count`"),
        (b"\0\0\0\0", "answers.toml:1:5"),
    ] {
        assert_says(&answer(text), 1, part);
    }
    fs::remove_file(workspace.path(ANSWERS)).expect("removed");
    fs::create_dir(workspace.path(ANSWERS)).expect("made");
    let check = ["run", "18.9.1", "--check", "the_answer"];
    assert_says(&workspace.say(&check), 1, "it is a folder");
    assert_says(
        &workspace.say(&["reset", "18.9.1", "--yes"]),
        0,
        "The start is back",
    );
    assert_says(&workspace.say(&check), 1, "is not answered yet");
}

#[test]
fn sources_are_judged_as_the_compiler_sees_them() {
    let workspace = Workspace::new("untidy-sources");
    let windows = format!("\u{feff}{}", RIGHT.replace('\n', "\r\n"));
    workspace.write(SOURCE, windows);
    let run = ["run", "18.9.1", "--check", "what_has_begun"];
    assert_says(&workspace.say(&run), 0, "pass what has begun");
    workspace.write(SOURCE, b"// \xff\n");
    assert_says(&workspace.say(&run), 1, "It does not compile");
    assert_says(
        &workspace.say(&["diff", "18.9.1", "--spoil"]),
        2,
        "src/lib.rs",
    );
    assert_says(
        &workspace.say(&["reset", "18.9.1", "--yes"]),
        0,
        "The start is back",
    );
    fs::remove_file(workspace.path(SOURCE)).expect("removed");
    fs::create_dir(workspace.path(SOURCE)).expect("made");
    assert_says(&workspace.say(&run), 1, "Is a directory");
    assert_says(
        &workspace.say(&["reset", "18.9.1", "--yes"]),
        0,
        "The start is back",
    );
    fs::remove_dir_all(workspace.path(&format!("{LAB}/src"))).expect("removed");
    assert_says(&workspace.say(&run), 1, "src/lib.rs is not there");
    assert_says(
        &workspace.say(&["reset", "18.9.1", "--yes"]),
        0,
        "The start is back",
    );
    assert_says(&workspace.say(&run), 1, "FAIL what has begun");
}

#[test]
fn links_and_pipes_among_the_files_are_named_and_never_followed() {
    let workspace = Workspace::new("untidy-links");
    let source = |name: &str| workspace.path(&format!("{LAB}/src/{name}"));
    symlink("..", source("again")).expect("linked");
    let run = ["run", "18.9.1", "--check", "nothing_begun"];
    assert_says(&workspace.say(&run), 0, "pass all wait");
    assert_says(
        &workspace.say(&["diff", "18.9.1", "--spoil"]),
        2,
        "put a plain file",
    );
    let lab = workspace.path(LAB).display().to_string();
    let grade = ["grade", "18.9.1", "--submission", &lab];
    assert_says(&workspace.say(&grade), 1, "put a plain file");
    fs::remove_file(source("again")).expect("removed");
    // A pipe has no end.
    assert!(
        Command::new("mkfifo")
            .arg(source("pipe"))
            .status()
            .is_ok_and(|made| made.success())
    );
    assert_says(&workspace.say(&grade), 1, "put a plain file");
    assert_says(
        &workspace.say(&["reset", "18.9.1", "--yes"]),
        0,
        "src/pipe (new)",
    );
}

#[test]
fn progress_that_cannot_be_kept_costs_no_verdict() {
    let workspace = Workspace::new("untidy-progress");
    let run = ["run", "18.9.2"];
    fs::create_dir_all(workspace.path(".nightshift/progress.json/inside")).expect("made");
    let said = workspace.say(&run);
    assert_says(&said, 0, "10 of 10 points");
    assert_says(&said, 0, "counting starts anew");
    assert_says(&workspace.say(&["list"]), 0, "done");
    workspace.write(
        ".nightshift/progress.json",
        "{\"version\":1,\"labs\":{\"18.9.1\":",
    );
    assert_says(&workspace.say(&["list"]), 0, "counting starts anew");
    fs::remove_dir_all(workspace.path(".nightshift")).expect("removed");
    workspace.write(".nightshift", "a file");
    assert_says(&workspace.say(&run), 2, "move it aside");
    fs::remove_file(workspace.path(".nightshift")).expect("removed");
    // A folder for the copy that is none: nothing is removed.
    workspace.write(".nightshift/kept", "a file");
    workspace.write(SOURCE, RIGHT);
    assert_says(
        &workspace.say(&["reset", "18.9.1", "--yes"]),
        2,
        "could not put the start back",
    );
    assert_eq!(
        fs::read_to_string(workspace.path(SOURCE)).expect("there"),
        RIGHT
    );
}

#[test]
fn what_belongs_to_the_repository_is_asked_for_where_it_is_missing() {
    let workspace = Workspace::new("untidy-repository");
    workspace.write(SOURCE, RIGHT);
    let start = "harness/starts/18-observability/18-9-1-tiny-queue.json";
    workspace.write(start, "{");
    assert_says(
        &workspace.say(&["reset", "18.9.1", "--yes"]),
        2,
        "restore it from the repository",
    );
    for (file, verb) in [
        (start.to_owned(), &["reset", "18.9.1", "--yes"][..]),
        (format!("{LAB}/README.md"), &["next"]),
        (
            format!("{}/README.md", LAB.replace("labs", "solutions")),
            &["diff", "18.9.1", "--spoil"],
        ),
    ] {
        fs::remove_file(workspace.path(&file)).expect("removed");
        assert_says(&workspace.say(verb), 2, "restore it from the repository");
    }
    workspace.write(&format!("{OTHER}/Cargo.toml"), "[");
    assert_says(
        &workspace.say(&["run", "18.9.1"]),
        2,
        "18-9-2-other-queue/Cargo.toml",
    );
    fs::remove_dir_all(workspace.path("labs")).expect("removed");
    for verb in [
        &[][..],
        &["list"],
        &["run", "18.9.1"],
        &["next"],
        &["doctor"],
        &["grade"],
    ] {
        assert_says(
            &workspace.say(verb),
            2,
            "restore that folder from the repository",
        );
    }
}

#[test]
fn a_machine_that_lacks_something_is_told_what() {
    let workspace = Workspace::new("untidy-machine");
    let run = |change: &dyn Fn(&mut Command)| {
        let mut command = workspace.xtask(&["run", "18.9.2"]);
        change(&mut command);
        said(&mut command)
    };
    assert_says(
        &run(&|command| {
            command.env_remove("HOME").env_remove("USER");
        }),
        0,
        "10 of 10 points",
    );
    assert_says(
        &run(&|command| {
            command.current_dir(workspace.path(&format!("{LAB}/src")));
        }),
        0,
        "10 of 10 points",
    );
    assert_says(
        &run(&|command| {
            command
                .env_remove("CARGO")
                .env("PATH", workspace.path("nowhere"));
        }),
        2,
        "could not start cargo, which should be on the PATH",
    );
    assert_says(
        &run(&|command| {
            command.env("TMPDIR", workspace.path("nowhere"));
        }),
        2,
        "let TMPDIR name another folder",
    );
    assert_says(
        &run(&|command| {
            command
                .env("COLUMNS", "20")
                .env("TERM", "dumb")
                .env("RUST_LOG", "trace")
                .env("RUST_BACKTRACE", "full");
        }),
        0,
        "10 of 10 points",
    );
}

#[test]
fn two_runs_at_once_are_both_right() {
    let workspace = Workspace::new("untidy-two");
    let start = |lab: &str| {
        let mut command = workspace.xtask(&["run", lab]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    };
    let runs = ["18.9.1", "18.9.2", "18.9.1"].map(start);
    let ends = runs.map(|run| run.wait_with_output().expect("it ends"));
    for (end, points) in ends.iter().zip(["10 of 100", "10 of 10", "10 of 100"]) {
        let said = String::from_utf8_lossy(&end.stdout);
        assert!(said.contains(&format!("{points} points")), "{said}");
    }
}

#[test]
fn a_run_that_waits_for_another_cargo_says_so() {
    let workspace = Workspace::new("untidy-blocked");
    // The lock as cargo takes it, in a target folder of our own.
    let target = workspace.path("target");
    fs::create_dir_all(target.join("debug")).expect("made");
    let lock = fs::File::create(target.join("debug/.cargo-lock")).expect("made");
    lock.lock().expect("nobody has it");
    let mut command = workspace.xtask(&["run", "18.9.2"]);
    let log = workspace.path("log");
    let into = || {
        fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log")
    };
    command
        .env("CARGO_TARGET_DIR", &target)
        .stdout(into())
        .stderr(into());
    let mut run = command.spawn().expect("it starts");
    wait_until("it says that it waits", || {
        fs::read_to_string(&log).is_ok_and(|said| said.contains("another cargo"))
    });
    run.kill().expect("it is ours");
    run.wait().expect("it is ours");
    // Its cargo goes when nobody reads what it says.
    drop(lock);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly_and_a_full_disk_does_not() {
    let workspace = Workspace::new("untidy-output");
    for verb in [&["list"][..], &["diff", "18.9.1", "--spoil"], &["--help"]] {
        let mut command = workspace.xtask(verb);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        command.stdout(writer).stderr(Stdio::piped());
        let end = command
            .spawn()
            .expect("it starts")
            .wait_with_output()
            .expect("it ends");
        let said = String::from_utf8_lossy(&end.stderr);
        assert!(said.is_empty(), "{verb:?}: {said}");
    }
    #[cfg(target_os = "linux")]
    for verb in [&["list"][..], &["run", "18.9.2"]] {
        let mut command = workspace.xtask(verb);
        let full = fs::File::options()
            .write(true)
            .open("/dev/full")
            .expect("it is there");
        command.stdout(full).stderr(Stdio::piped());
        let end = command
            .spawn()
            .expect("it starts")
            .wait_with_output()
            .expect("it ends");
        let said = String::from_utf8_lossy(&end.stderr);
        assert!(
            said.contains("could not print to stdout: No space left"),
            "{verb:?}: {said}"
        );
        assert_eq!(end.status.code(), Some(2), "{verb:?}");
    }
}

/// In a namespace where the folder for temporary files, and the one for progress, are full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_no_verdict() {
    let workspace = Workspace::new("untidy-full");
    fs::create_dir_all(workspace.path(".nightshift")).expect("made");
    fs::create_dir_all(workspace.path("full")).expect("made");
    let full = |folder: &str, verb: &str| {
        let runner = workspace.xtask(&[]);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg(format!(
            "mount -t tmpfs -o size=16k none {folder} || exit 77\n\
             dd if=/dev/zero of={folder}/fill bs=4k count=8 2>/dev/null\n\
             exec '{}' {verb}",
            runner.get_program().to_string_lossy()
        ));
        command.current_dir(&workspace.root);
        for (name, value) in runner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    };
    let mut run = full("full", "run 18.9.2");
    run.env("TMPDIR", workspace.path("full"));
    let answer = said(&mut run);
    if answer.code == 77 || answer.all().contains("unshare failed") {
        eprintln!("not run: this system lets nobody mount a file system of their own");
        return;
    }
    assert_says(
        &answer,
        2,
        "make room there, or let TMPDIR name another folder",
    );
    let answer = said(&mut full(".nightshift", "run 18.9.2"));
    assert_says(&answer, 0, "10 of 10 points");
    assert_says(&answer, 0, "could not save your progress");
    workspace.write(SOURCE, RIGHT);
    let answer = said(&mut full(".nightshift", "reset 18.9.1 --yes"));
    assert_says(&answer, 2, "nothing that is not kept was removed");
    assert_eq!(
        fs::read_to_string(workspace.path(SOURCE)).expect("there"),
        RIGHT
    );
}
