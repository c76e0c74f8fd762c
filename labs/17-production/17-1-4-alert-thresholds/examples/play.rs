//! Plays `rules.yml` over hours that are made from a seed, and prints what it says of each.

use std::error::Error;
use std::process::ExitCode;

use drill::alerts::named;
use drill::bookings::{Hour, scenario};
use drill::submission::Submission;

fn main() -> ExitCode {
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn play() -> Result<(), Box<dyn Error>> {
    let seed: u64 = match std::env::args().nth(1) {
        Some(text) => text
            .parse()
            .map_err(|_| format!("`{text}` is no seed: give a whole number"))?,
        None => 1,
    };
    let submission = Submission::of(env!("CARGO_MANIFEST_DIR"));
    let alerting = submission.alerts(alert_thresholds::RULES)?;
    println!("*  happens    >  your rules say    !  due");
    for hour in Hour::ALL {
        let scenario = scenario(hour, seed);
        let drill = alerting.drill(scenario.storage.clone(), scenario.within)?;
        println!("\n{hour:?}: {}", scenario.title);
        print!("{}", scenario.timeline(&drill));
        for failure in drill.failures() {
            println!("  {failure}");
        }
        for due in scenario.missed(&drill) {
            println!("  nothing in time: {}", due.wanted);
        }
        for episode in scenario.needless(&drill) {
            println!("  for nothing: {}", named(episode.labels()));
        }
    }
    Ok(())
}
