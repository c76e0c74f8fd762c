//! Plays a month of practice: what happened, and what the rules said.
//!
//! `cargo run -p slo-burn-rate-solution --example month -- KIND SEED`, where KIND is calm, blips, slow, fast,
//! outage or exhausted.

use std::time::Duration;

use drill::alerts::Span;
use drill::submission::Submission;
use drill::{Lane, Timeline, storage_of};
use incident::months::{Month, simulate};
use slo_burn_rate_solution as subject;

const HOUR: i64 = 3_600_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let kind = match words.first().map(String::as_str) {
        Some("calm") => Month::Calm,
        Some("blips") => Month::Blips,
        Some("slow") => Month::SlowBurn,
        Some("fast") => Month::FastBurn,
        Some("outage") => Month::Outage,
        Some("exhausted") => Month::Exhausted,
        _ => {
            eprintln!("usage: month calm|blips|slow|fast|outage|exhausted [SEED]");
            std::process::exit(2);
        }
    };
    let seed = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(1);
    let submission = Submission::of(env!("CARGO_MANIFEST_DIR"));
    let alerting = match submission.rules(subject::RULES) {
        Ok(alerting) => alerting.every(Duration::from_secs(60)),
        Err(unfit) => {
            eprintln!("{unfit}");
            std::process::exit(1);
        }
    };
    let setup = kind.drawn(seed);
    let run = simulate(&setup);
    let truth = run.truth();
    let begins = setup.begins * 1_000;
    let first = truth.episodes.first();
    let last = truth.episodes.last();
    let from = first.map_or(begins + 9 * HOUR, |burn| burn.starts_at_ms - 9 * HOUR);
    let to = last.map_or(begins + 96 * HOUR, |burn| burn.ends_at_ms + 9 * HOUR);
    let span = Span::new(from.max(begins), to.min(begins + 720 * HOUR));
    let mut timeline = Timeline::from(first.map_or(begins, |burn| burn.starts_at_ms));
    for burn in &truth.episodes {
        let rate = burn.burn_rate;
        timeline.add(
            burn.starts_at_ms,
            Lane::Happened,
            format!("the budget burns at {rate:.1} times its pace"),
        );
        timeline.add(burn.ends_at_ms, Lane::Happened, "it is over");
    }
    match alerting.play(&storage_of(run.series()), span) {
        Ok(drill) => drill.tell(&mut timeline),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
    println!("{} in {kind:?}, seed {seed}:", setup.service);
    print!("{timeline}");
    println!(
        "  of the month's budget {:.0} % are spent in the end",
        100.0 * truth.budget_spent
    );
}
