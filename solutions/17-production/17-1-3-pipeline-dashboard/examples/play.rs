//! Plays a quarter of an hour of practice: what happened, and what changed on your dashboard.
//!
//! `cargo run -p pipeline-dashboard --example play -- KIND SEED`, where KIND is quiet, busy, spike,
//! release, night, canary, decode, resize, encode, store, late, cores, failing, silence or leak.

use std::process::ExitCode;
use std::time::Duration;

use drill::dashboards::moments;
use drill::submission::Submission;
use drill::{Lane, storage_of};
use incident::image_pipeline::{Case, LASTS, STAGES, STARTS_AT, fleet};
use incident::service::{Run, simulate};
use pipeline_dashboard_solution as subject;

const SCRAPE: Duration = Duration::from_secs(15);

fn case(kind: &str) -> Option<Case> {
    if let Some(stage) = STAGES.iter().position(|stage| *stage == kind) {
        return Some(Case::Bottleneck(stage));
    }
    Some(match kind {
        "quiet" => Case::Quiet,
        "busy" => Case::Busy,
        "spike" => Case::Spike,
        "release" => Case::Release,
        "night" => Case::Night,
        "canary" => Case::Canary,
        "late" => Case::SomeLate,
        "cores" => Case::Cores,
        "failing" => Case::Failing,
        "silence" => Case::Silence,
        "leak" => Case::Leak,
        _ => return None,
    })
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let seed = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(1);
    let Some(case) = words.first().and_then(|kind| case(kind)) else {
        eprintln!(
            "usage: play quiet|busy|spike|release|night|canary|decode|resize|encode|store|late\
             |cores|failing|silence|leak [SEED]"
        );
        return ExitCode::from(2);
    };
    let submission = Submission::of(env!("CARGO_MANIFEST_DIR"));
    let board = match submission.board(subject::DASHBOARD) {
        Ok(board) => board,
        Err(unfit) => {
            eprintln!("{unfit}");
            return ExitCode::FAILURE;
        }
    };
    let fleet = fleet(case, seed);
    let begins = fleet[0].begins;
    let runs: Vec<Run> = fleet.iter().map(simulate).collect();
    let storage = storage_of(runs.iter().flat_map(Run::series));
    let at_ms = |seconds: f64| begins * 1_000 + seconds as i64 * 1_000;
    let origin_ms = at_ms(STARTS_AT);
    let every = moments(at_ms(360.0), at_ms(LASTS), SCRAPE);
    let watched = board.watch(&storage, every, SCRAPE);
    let panels: Vec<usize> = board.rows().iter().flatten().copied().collect();
    let mut timeline = watched.timeline(&panels, origin_ms);
    timeline.add(origin_ms, Lane::Happened, case.tells());
    print!("{timeline}");
    ExitCode::SUCCESS
}
