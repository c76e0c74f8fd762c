//! Plays `rules.yml` and `alertmanager.yml` over hours that are made from a seed, and prints what
//! they say of each, and to whom.

use std::error::Error;
use std::process::ExitCode;

use alert_rules::{ROUTES, RULES};
use drill::alerts::named;
use drill::submission::Submission;
use drill::worker_pools::{Hour, scenario};

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
    let routing = submission.routes(ROUTES)?;
    let alerting = submission.alerts(RULES)?.routed(routing);
    println!("*  happens    >  your files say    !  due");
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
        println!("  {} messages", drill.notifications().len());
    }
    Ok(())
}
