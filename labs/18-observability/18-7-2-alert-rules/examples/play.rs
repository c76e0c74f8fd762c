//! Plays `rules.yml` and `alertmanager.yml` over hours that are made from a seed, and prints what
//! they say of each, and to whom.

use std::path::Path;

use alert_rules::{ROUTES, RULES};
use drill::alerts::{Alerting, named};
use drill::worker_pools::{Hour, scenario};
use promql::routing::Routing;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed: u64 = match std::env::args().nth(1) {
        Some(text) => text
            .parse()
            .map_err(|_| format!("`{text}` is no seed: give a whole number"))?,
        None => 1,
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let routing = Routing::parse(&std::fs::read_to_string(folder.join(ROUTES))?)
        .map_err(|error| format!("could not read {ROUTES}: {error}"))?;
    let alerting = Alerting::parse(&std::fs::read_to_string(folder.join(RULES))?)
        .map_err(|error| format!("could not read {RULES}: {error}"))?
        .routed(routing);
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
