//! Plays twenty minutes of a pool and shows what `dashboard.json` says of them, minute by minute.
//!
//! `cargo run -p pool-dashboard --example play -- SEED`

use std::process::ExitCode;
use std::time::Duration;

use drill::dashboards::moments;
use drill::submission::Submission;
use incident::chance::Chance;
use incident::task_pool::{Case, simulate};
use pool_dashboard::SCRAPE_INTERVAL;

fn main() -> ExitCode {
    let Some(seed) = std::env::args().nth(1).and_then(|seed| seed.parse().ok()) else {
        eprintln!("usage: cargo run -p pool-dashboard --example play -- SEED");
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
    let every = moments(run.begins_ms(), run.ends_ms(), Duration::from_mins(1));
    println!("a letter a minute: . green, y yellow, R red, - no data, E error, blank no color");
    print!("{}", board.watch(&storage, every, SCRAPE_INTERVAL));
    match run.starts_at_ms() {
        Some(at_ms) => println!(
            "from minute {} on: {}",
            (at_ms - run.begins_ms()) / 60_000,
            case.tells()
        ),
        None => println!("all the time: {}", case.tells()),
    }
    ExitCode::SUCCESS
}
