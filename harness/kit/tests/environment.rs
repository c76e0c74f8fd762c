//! What a check sees of the machine under plain `cargo test`: this binary, started again with
//! variables that a learner's machine may have.

#![cfg(unix)]

use std::process::Command;

/// Variables of a learner's machine, each of which some library listens to.
const STEERING: [(&str, &str); 8] = [
    ("OTEL_TRACES_SAMPLER", "always_off"),
    ("RUST_LOG", "off"),
    ("LOOM_MAX_PREEMPTIONS", "0"),
    ("PROPTEST_CASES", "1"),
    ("TOKIO_WORKER_THREADS", "1"),
    ("http_proxy", "http://127.0.0.1:9"),
    ("CLICOLOR_FORCE", "1"),
    ("TZ", "Asia/Kathmandu"),
];

#[test]
#[ignore = "started by the other test, with variables that must not reach it"]
fn looks_around() {
    kit::check(|| {
        let look = |name: &str| std::env::var(name).ok();
        for (name, value) in STEERING {
            assert_ne!(look(name).as_deref(), Some(value), "{name} is still there");
        }
        assert_eq!(look("NO_COLOR").as_deref(), Some("1"));
        assert_eq!(look("TZ").as_deref(), Some("UTC"));
        assert_eq!(look("NIGHTSHIFT_SEED").as_deref(), Some("5"));
        assert!(look("PATH").is_some(), "no program can be found");
    });
}

#[test]
fn a_machine_cannot_steer_a_check_by_its_environment() {
    let itself = std::env::current_exe().expect("this binary");
    let output = Command::new(itself)
        .args(["--ignored", "--exact", "looks_around", "--nocapture"])
        .envs(STEERING)
        .env("NIGHTSHIFT_SEED", "5")
        .env_remove("NIGHTSHIFT_VERDICT")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
