//! Plays four hours of the service and shows what `dashboard.json` says of them, every five minutes.
//!
//! `cargo run -p concurrency-dashboard --example play -- SEED`

use std::process::ExitCode;
use std::time::Duration;

use concurrency_dashboard::SCRAPE_INTERVAL;
use drill::dashboards::{Board, moments};
use incident::chance::Chance;
use incident::go_hours::{Case, simulate};

fn main() -> ExitCode {
    let Some(seed) = std::env::args().nth(1).and_then(|seed| seed.parse().ok()) else {
        eprintln!("usage: cargo run -p concurrency-dashboard --example play -- SEED");
        return ExitCode::from(2);
    };
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard.json");
    let board = match std::fs::read_to_string(path) {
        Ok(json) => Board::read(&json).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let board = match board {
        Ok(board) => board,
        Err(error) => {
            eprintln!("could not use {path}: {error}");
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
