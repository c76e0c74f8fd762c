//! The scripts beside this file, in the dialects that they are written for.

use std::path::{Path, PathBuf};
use std::process::Command;

use promql::Dialect;
use promql::script::{self, Outcome};

fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scripts")
        .join(folder);
    let mut found: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

fn all_pass(folders: &[&str], dialect: Dialect) {
    let mut failures = String::new();
    for path in folders.iter().flat_map(|folder| scripts(folder)) {
        let report = script::run(&std::fs::read_to_string(&path).unwrap(), dialect);
        assert!(report.passed() > 0, "{} judges nothing", path.display());
        for case in report.cases {
            if let Outcome::Failed(text) | Outcome::Unsupported(text) = case.outcome {
                failures.push_str(&format!(
                    "{}:{}: {}\n{text}\n",
                    path.display(),
                    case.line,
                    case.command
                ));
            }
        }
    }
    assert!(failures.is_empty(), "in dialect {dialect}:\n{failures}");
}

#[test]
fn scripts_of_version_2_pass() {
    all_pass(&["both", "v2"], Dialect::V2);
}

#[test]
fn scripts_of_version_3_pass() {
    all_pass(&["both", "v3"], Dialect::V3);
}

#[test]
fn a_script_of_the_other_version_fails() {
    for (folder, dialect) in [("v2", Dialect::V3), ("v3", Dialect::V2)] {
        for path in scripts(folder) {
            let report = script::run(&std::fs::read_to_string(&path).unwrap(), dialect);
            // Annotations alone are not judged in version 2, and the report says so.
            let noticed = report.failed() > 0 || !report.notes.is_empty();
            assert!(noticed, "{} in {dialect}", path.display());
        }
    }
}

/// The command: what it prints, and how it ends.
#[cfg(feature = "cli")]
#[test]
fn the_command_counts_shows_differences_and_ends_with_a_status() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_promql"))
            .args(["script", "--dialect", "3"])
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = run("good", "load 1m\n  a 1\n\neval instant at 0 a\n  a 1\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("good: 1 passed, 0 failed"), "{said}");
    let (code, said) = run("bad", "load 1m\n  a 1\n\neval instant at 0 a\n  a 2\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("bad: 0 passed, 1 failed"), "{said}");
    assert!(
        said.contains("line 4: failed: eval instant at 0 a"),
        "{said}"
    );
    assert!(said.contains("> a 2") && said.contains("> a 1"), "{said}");
}
