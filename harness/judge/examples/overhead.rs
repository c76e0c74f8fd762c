//! What the judge adds to a check: `cargo run -p judge --release --example overhead -- BINARY TEST`
//! runs a check that passes 100 times by itself and 100 times under the judge, in turns, and prints
//! the medians of both.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use judge::{CheckProcess, Limits};

const ROUNDS: usize = 100;

fn main() {
    judge::supervise_if_asked();
    let mut arguments = std::env::args().skip(1);
    let (Some(binary), Some(test)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: overhead BINARY TEST");
        std::process::exit(2);
    };
    let binary = PathBuf::from(binary);
    let cwd = std::env::current_dir().expect("a working directory");
    let check = CheckProcess {
        binary: &binary,
        test: &test,
        cwd: &cwd,
        environment: Vec::new(),
        limits: Limits::default(),
        seed: None,
    };
    let (mut plain, mut judged) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plain.push(timed(|| {
            let status = Command::new(&binary)
                .args([&test, "--exact", "--nocapture", "--test-threads=1"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert!(status.is_ok_and(|status| status.success()), "{test} fails");
        }));
        judged.push(timed(|| {
            let judged = judge::judge(&check).expect("the check can be run");
            assert!(judged.verdict.passed(), "{}", judged.sentence());
        }));
    }
    let (plain, judged) = (median(plain), median(judged));
    println!(
        "by itself {plain:?}, judged {judged:?}, the judge adds {:?}",
        judged - plain
    );
}

fn timed(run: impl FnOnce()) -> Duration {
    let started = Instant::now();
    run();
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
