//! `grade --submission` beside the learner's own files.

use crate::workspace::{LAB, RIGHT, Workspace};

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
