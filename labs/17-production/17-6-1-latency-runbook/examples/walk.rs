//! Walks the runbook in this folder through the shift of a seed, and says what really happened.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use drill::runbook::{Runbook, Scene, Symptom, Vocabulary};
use drill::submission::Submission;
use drill::{Lane, Timeline};
use incident::on_call;
use incident::service::simulate;
use latency_runbook::FILE;

fn main() -> ExitCode {
    match walk() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn walk() -> Result<(), Box<dyn Error>> {
    let seed = std::env::args().nth(1).unwrap_or_else(|| "1".into());
    let seed: u64 = seed
        .parse()
        .map_err(|_| format!("`{seed}` is no seed: give a whole number"))?;
    let text = Submission::of(env!("CARGO_MANIFEST_DIR")).text(FILE)?;

    let shift = on_call::of_seed(seed);
    let setup = on_call::drawn(shift, seed);
    let run = simulate(&setup);
    let scene = Scene {
        storage: drill::storage(&run),
        logs: run.logs().to_owned(),
    };
    let runbook = Runbook::read(&text, &Vocabulary::of(&scene.storage));
    for finding in runbook.findings() {
        println!("{FILE}:{finding}");
    }
    let alert = Symptom::new(
        promql::Query::parse(on_call::ALERT)?,
        Duration::from_secs(60 * on_call::ALERT_MINUTES),
        "",
    );
    let from_ms = setup.begins * 1_000;
    let last = scene.storage.series().iter();
    let to_ms = last
        .filter_map(|series| series.times_ms().last().copied())
        .max()
        .unwrap_or(from_ms);
    let fired = alert
        .fires(&scene.storage, (from_ms, to_ms), Duration::from_secs(15))?
        .ok_or("nobody was paged in this shift")?;

    let mut timeline = Timeline::from(fired);
    runbook.walk(&scene, fired).tell(&mut timeline);
    let truth = run.truth();
    for suspect in &truth.innocent {
        if let Some(at_ms) = suspect.at_ms {
            let names = on_call::names_of(&suspect.component).join(", ");
            timeline.add(at_ms, Lane::Happened, format!("something else: {names}"));
        }
    }
    if let Some(at_ms) = truth.starts_at_ms {
        let what = on_call::sentence(shift, truth);
        timeline.add(at_ms, Lane::Happened, what);
    }
    print!("{timeline}");
    println!(
        "  truth: {}: {}",
        on_call::name_of(shift.cause()),
        on_call::sentence(shift, truth)
    );
    Ok(())
}
