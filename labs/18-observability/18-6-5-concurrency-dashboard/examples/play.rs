//! Plays four hours of the service and shows what `dashboard.json` says of them, every five minutes.
//!
//! `cargo run -p concurrency-dashboard --example play -- SEED`

use std::process::ExitCode;
use std::time::Duration;

use concurrency_dashboard::SCRAPE_INTERVAL;
use drill::dashboards::moments;
use drill::submission::Submission;
use incident::go_hours;

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
    let run = go_hours::drawn(seed);
    let storage = drill::storage_of(run.series());
    let every = moments(run.begins_ms(), run.ends_ms(), Duration::from_mins(5));
    println!("a letter every 5 min: . green, y yellow, R red, - no data, E error");
    print!("{}", board.watch(&storage, every, SCRAPE_INTERVAL));
    let letter = |at_ms: i64| (at_ms - run.begins_ms()) / 300_000 + 1;
    let tells = run.case().tells();
    match run.mended_at_ms() {
        Some(at_ms) => println!(
            "from letter {} to {}: {tells}",
            letter(run.starts_at_ms()),
            letter(at_ms) - 1
        ),
        None => println!("from letter {} on: {tells}", letter(run.starts_at_ms())),
    }
    ExitCode::SUCCESS
}
