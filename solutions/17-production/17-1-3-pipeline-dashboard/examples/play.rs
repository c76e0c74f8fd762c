//! Plays a quarter of an hour of practice: what happened, and what changed on your dashboard.
//!
//! `cargo run -p pipeline-dashboard --example play -- KIND SEED`, where KIND is quiet, busy, spike,
//! release, decode, resize, encode, store, cores, failing, silence or leak.

use std::process::ExitCode;
use std::time::Duration;

use drill::dashboards::moments;
use drill::submission::Submission;
use drill::{Lane, storage};
use incident::image_pipeline::{Case, LASTS, STAGES, STARTS_AT, setup};
use incident::service::simulate;
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
            "usage: play quiet|busy|spike|release|decode|resize|encode|store|cores|failing|silence\
             |leak [SEED]"
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
    let setup = setup(case, seed);
    let storage = storage(&simulate(&setup));
    let at_ms = |seconds: f64| setup.begins * 1_000 + seconds as i64 * 1_000;
    let origin_ms = at_ms(STARTS_AT);
    let every = moments(at_ms(360.0), at_ms(LASTS), SCRAPE);
    let watched = board.watch(&storage, every, SCRAPE);
    let panels: Vec<usize> = board.rows().iter().flatten().copied().collect();
    let mut timeline = watched.timeline(&panels, origin_ms);
    timeline.add(origin_ms, Lane::Happened, case.tells());
    print!("{timeline}");
    ExitCode::SUCCESS
}
