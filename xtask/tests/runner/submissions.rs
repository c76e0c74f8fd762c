//! `grade --submission` beside the learner's own files.

use crate::workspace::{LAB, RIGHT, START, Workspace};

#[test]
fn a_submission_and_the_learners_own_files_are_never_taken_for_each_other() {
    let workspace = Workspace::new("submissions");
    let judged = |arguments: &[&str], points: &str| {
        let said = workspace.say(arguments).all();
        assert!(
            said.contains(points),
            "{arguments:?} is not {points}:\n{said}"
        );
    };
    let theirs = workspace.path("theirs").display().to_string();
    let grade = ["grade", "18.9.1", "--submission", &theirs];
    for round in 0..2 {
        workspace.write("theirs/src/lib.rs", format!("{RIGHT}\n// {round}\n"));
        judged(&grade, "70 of 100 points");
        judged(&["run", "18.9.1"], "10 of 100 points");
        // Whatever was built last, of the one or the other.
        let own = std::fs::read_to_string(workspace.path(&format!("{LAB}/src/lib.rs")));
        workspace.save(&format!("{LAB}/src/lib.rs"), &own.expect("it is there"));
        judged(&["run", "18.9.1"], "10 of 100 points");
        judged(&grade, "70 of 100 points");
    }
}

#[test]
fn what_was_not_submitted_is_the_starts_and_not_what_the_grader_has_written() {
    let workspace = Workspace::new("submissions-partial");
    workspace.write(
        &format!("{LAB}/answers.toml"),
        "[waiting]\ncount = 4\nprose = \"?\"\n",
    );
    workspace.write(&format!("{LAB}/src/lib.rs"), RIGHT);
    let theirs = workspace.path("theirs").display().to_string();
    let grade = [
        "grade",
        "18.9.1",
        "--submission",
        &theirs,
        "--format",
        "json",
    ];
    workspace.write("theirs/src/lib.rs", RIGHT);
    let said = workspace.say(&grade).all();
    assert!(
        said.contains("`waiting.count` in answers.toml is not answered yet"),
        "{said}"
    );
}

#[test]
fn a_submission_of_the_wrong_shape_is_refused_and_the_others_are_judged() {
    let workspace = Workspace::new("submissions-shape");
    workspace.write("class/tiny-queue/src", "no folder");
    workspace.write("class/tiny-queue/answers.toml", "");
    workspace.write("class/other-queue/src/lib.rs", RIGHT);
    let class = workspace.path("class").display().to_string();
    let grade = ["grade", "--submission", &class];
    let said = workspace.say(&grade).all();
    for part in ["src is a file, and should be a folder", "10 of 110 points"] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }

    // A file comes where a folder was, and the other way round.
    std::fs::remove_file(workspace.path("class/tiny-queue/src")).expect("removed");
    workspace.write("class/tiny-queue/src/lib.rs", RIGHT);
    workspace.write("class/tiny-queue/src/notes/of/mine", "a");
    let first = workspace.say(&grade).all();
    std::fs::remove_dir_all(workspace.path("class/tiny-queue/src/notes")).expect("removed");
    workspace.write("class/tiny-queue/src/notes", "a");
    let second = workspace.say(&grade).all();
    assert!(first.contains("80 of 110 points"), "{first}");
    assert!(second.contains("80 of 110 points"), "{second}");

    std::fs::remove_file(workspace.path("class/tiny-queue/answers.toml")).expect("removed");
    workspace.write("class/tiny-queue/answers.toml/a", "");
    let said = workspace.say(&grade).all();
    assert!(
        said.contains("answers.toml is a folder, and should be a file"),
        "{said}"
    );
}

#[test]
fn graders_at_the_same_time_keep_their_submissions_apart() {
    let workspace = Workspace::new("submissions-at-once");
    workspace.write("right/src/lib.rs", RIGHT);
    workspace.write("wrong/src/lib.rs", START);
    std::thread::scope(|scope| {
        for (learner, points) in [
            ("right", "70 of 100 points"),
            ("wrong", "10 of 100 points"),
            ("right", "70 of 100 points"),
            ("wrong", "10 of 100 points"),
        ] {
            let workspace = &workspace;
            scope.spawn(move || {
                let folder = workspace.path(learner).display().to_string();
                let said = workspace
                    .say(&["grade", "18.9.1", "--submission", &folder])
                    .all();
                assert!(said.contains(points), "{learner} is not {points}:\n{said}");
            });
        }
    });
}
