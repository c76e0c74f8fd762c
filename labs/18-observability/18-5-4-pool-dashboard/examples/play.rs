//! Plays twenty minutes of a pool and shows what `dashboard.json` says of them, minute by minute.
//!
//! `cargo run -p pool-dashboard --example play -- SEED`

use std::process::ExitCode;
use std::time::Duration;

use drill::dashboards::{Board, moments};
use incident::chance::Chance;
use incident::task_pool::{Case, simulate};
use pool_dashboard::SCRAPE_INTERVAL;

fn main() -> ExitCode {
    let Some(seed) = std::env::args().nth(1).and_then(|seed| seed.parse().ok()) else {
        eprintln!("usage: cargo run -p pool-dashboard --example play -- SEED");
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
