//! Plays four hours of the service and shows what `dashboard.json` says of them, every five minutes.
//!
//! `cargo run -p concurrency-dashboard --example play -- SEED`

use std::process::ExitCode;
use std::time::Duration;

use concurrency_dashboard::SCRAPE_INTERVAL;
use drill::dashboards::moments;
use drill::submission::Submission;
use incident::chance::Chance;
use incident::go_hours::{Case, simulate};

fn main() -> ExitCode {
    let Some(seed) = std::env::args().nth(1).and_then(|seed| seed.parse().ok()) else {
        eprintln!("usage: cargo run -p concurrency-dashboard --example play -- SEED");
        return ExitCode::from(2);
    };
    let submission = Submission::of(env!("CARGO_MANIFEST_DIR"));
    let board = match submission.board("dashboard.json") {
        Ok(board) => board,
        Err(unfit) => {
            eprintln!("{unfit}");
            return ExitCode::FAILURE;
        }
    };
    let case = *Chance::of(seed).pick(&Case::ALL);
    let run = simulate(case, seed);
    let storage = drill::storage_of(run.series());
    let every = moments(run.begins_ms(), run.ends_ms(), Duration::from_mins(5));
    println!("a letter every 5 min: . green, y yellow, R red, - no data, E error");
    print!("{}", board.watch(&storage, every, SCRAPE_INTERVAL));
    println!(
        "from letter {} on: {}",
        (run.starts_at_ms() - run.begins_ms()) / 300_000 + 1,
        case.tells()
    );
    ExitCode::SUCCESS
}
