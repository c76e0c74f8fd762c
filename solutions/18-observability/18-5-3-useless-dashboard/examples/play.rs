//! Plays sixteen minutes of practice: what happened, and what your panels and your alert said.
//!
//! `cargo run -p useless-dashboard --example play -- KIND SEED`, where KIND is quiet, busy, spike,
//! release, batch, pool or payments.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use drill::alerts::Span;
use drill::dashboards::moments;
use drill::submission::Submission;
use drill::{Lane, storage};
use incident::service::catalog::{Case, exhausted_pool, hour};
use incident::service::{Setup, simulate};
use useless_dashboard_solution as subject;

const SCRAPE: Duration = Duration::from_secs(15);

fn setup(kind: &str, seed: u64) -> Option<Setup> {
    Some(match kind {
        "quiet" => hour(Case::Quiet, seed),
        "busy" => hour(Case::Busy, seed),
        "spike" => hour(Case::Spike, seed),
        "release" => hour(Case::InnocentDeploy, seed),
        "batch" => hour(Case::BatchJob, seed),
        "pool" => exhausted_pool(seed),
        "payments" => hour(Case::SlowDependency, seed),
        _ => return None,
    })
}

/// When it happens, in seconds from the beginning, and what.
fn happens(setup: &Setup) -> (f64, String) {
    if let Some(scenario) = setup.scenarios.first() {
        return (scenario.starts_at, format!("{:?}", scenario.fault.cause()));
    }
    if let Some(job) = setup.jobs.first() {
        return (job.at, "a batch job".to_owned());
    }
    if let Some(spike) = setup.load.spikes.first() {
        return (spike.at, "a spike of traffic".to_owned());
    }
    if let Some(deploy) = setup.deploys.first() {
        return (deploy.at, format!("release {}", deploy.version));
    }
    (1_500.0, "nothing, all is well".to_owned())
}

fn play(setup: Setup) -> Result<(), Box<dyn Error>> {
    let submission = Submission::of(env!("CARGO_MANIFEST_DIR"));
    let board = submission.board(subject::DASHBOARD)?;
    let alerting = submission.rules(subject::RULES)?;
    let (at, what) = happens(&setup);
    let setup = setup.metrics_only().around(at, 480.0, 480.0);
    let storage = storage(&simulate(&setup));
    let (from_ms, origin_ms) = (
        setup.begins * 1_000 + 360_000,
        setup.begins * 1_000 + 480_000,
    );
    let to_ms = origin_ms + 480_000;
    let watched = board.watch(&storage, moments(from_ms, to_ms, SCRAPE), SCRAPE);
    let panels: Vec<usize> = (0..board.dashboard().panels.len()).collect();
    let mut timeline = watched.timeline(&panels, origin_ms);
    timeline.add(origin_ms, Lane::Happened, what);
    let drill = alerting.play(&storage, Span::new(from_ms, to_ms))?;
    drill.tell(&mut timeline);
    println!("{}: what changed, and what fired", setup.service.name);
    print!("{timeline}");
    Ok(())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let seed = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(1);
    let Some(setup) = words.first().and_then(|kind| setup(kind, seed)) else {
        eprintln!("usage: play quiet|busy|spike|release|batch|pool|payments [SEED]");
        return ExitCode::from(2);
    };
    match play(setup) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
