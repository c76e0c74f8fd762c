//! 18.6.5: five panels for the inside of a concurrent service, played against hours of it.

use std::time::Duration;

use super::subject::{LEAK_SEEN_WITHIN, SCRAPE_INTERVAL, SEEN_WITHIN};
use drill::alerts::Span;
use drill::dashboards::{Board, Face, Watched};
use drill::scene::Scene;
use drill::span;
use drill::submission::Submission;
use incident::go_hours::{self, Case, Run};
use promql::dashboard::{Property, Signal};
use promql::{Engine, Query};

const PANELS: usize = 5;
/// By the end of this time even long windows are full.
const SETTLED_MS: i64 = 3_600_000;
const LOOK: Duration = Duration::from_mins(2);
/// For which share of the moments a panel has to be red once it is due.
const OFTEN: f64 = 0.9;

const QUESTIONS: [&str; PANELS] = [
    "panel.goroutines",
    "panel.locks",
    "panel.gc",
    "panel.pool",
    "panel.leak",
];
const GOROUTINES: usize = 0;
const LOCKS: usize = 1;
const GC: usize = 2;
const POOL: usize = 3;
const LEAK: usize = 4;

fn board() -> Board {
    kit::or_symptom(Submission::of(kit::lab_dir!()).board("dashboard.json"))
}

/// The panel that the answers name for a question.
fn named(board: &Board, question: usize) -> usize {
    let key = QUESTIONS[question];
    let title = kit::answers!().text(key);
    match board.titled(&title) {
        Some(panel) => panel,
        None => kit::symptom(format!("`{key}`: no panel has the title \"{title}\"")),
    }
}

/// Hours that have passed, looked at from when the windows are full.
fn hours(case: Case, seed: u64) -> Scene {
    kit::step(format!("simulating {}, seed {seed}", case.tells()));
    passed(&go_hours::simulate(case, seed), seed)
}

/// The same, and it is over before the hours are.
fn mended(case: Case, seed: u64) -> Scene {
    kit::step(format!("simulating {}, mended, seed {seed}", case.tells()));
    passed(&go_hours::simulate_mended(case, seed), seed)
}

fn passed(run: &Run, seed: u64) -> Scene {
    let storage = drill::storage_of(run.series());
    kit::step(format!("looking at {}, seed {seed}", run.case().tells()));
    Scene {
        storage,
        tells: run.case().tells().to_owned(),
        seed,
        within: Span::new(run.begins_ms() + SETTLED_MS, run.ends_ms()),
        origin_ms: run.starts_at_ms(),
        over_ms: run.mended_at_ms(),
    }
}

fn watch<'b>(scene: &Scene, board: &'b Board) -> Watched<'b> {
    scene.watch(board, LOOK, SCRAPE_INTERVAL)
}

/// The panel of a question is red in time, and stays so to the end of the run.
fn is_red(question: usize, case: Case, seed: u64, within: Duration) {
    let board = board();
    let panel = named(&board, question);
    let scene = hours(case, seed);
    let watched = watch(&scene, &board);
    let unseen = format!("and {} is not red in time", board.name(panel));
    if let Err(complaint) = scene.turns_red(&watched, panel, millis(within), OFTEN, &unseen) {
        kit::symptom(complaint);
    }
}

fn millis(within: Duration) -> i64 {
    i64::try_from(within.as_millis()).expect("minutes")
}

/// The panel of a question is red while something goes on, and is not when it has been over for a
/// while.
fn is_over(question: usize, case: Case, seed: u64, within: Duration) {
    let board = board();
    let panel = named(&board, question);
    let scene = mended(case, seed);
    let watched = watch(&scene, &board);
    let over_ms = scene.over_ms.expect("it is mended");
    let name = board.name(panel);
    let seen_ms = scene.origin_ms + millis(within);
    let red = watched.first(&[panel], Face::Red, scene.origin_ms);
    if red.is_none_or(|at_ms| at_ms > seen_ms) {
        let what = format!("{}, and {name} is not red in time", case.tells());
        let due = Some((seen_ms, "it has to be red"));
        kit::symptom(scene.complaint(&watched, &[panel], &what, due));
    }
    let due_ms = over_ms + millis(within);
    let calm = [Face::Green, Face::Yellow];
    if let Some((at_ms, _, seen)) = watched.first_other(&[panel], &calm, due_ms, i64::MAX) {
        let what = format!(
            "{name} shows {} ({}) {} after it was over: {}",
            seen.face,
            seen.text,
            span(at_ms - over_ms),
            case.tells()
        );
        let due = Some((due_ms, "it may not be red any more"));
        kit::symptom(scene.complaint(&watched, &[panel], &what, due));
    }
}

/// The panel of a question has a color all the time, and it is not red.
fn is_quiet(question: usize, case: Case, seed: u64) {
    let board = board();
    let panel = named(&board, question);
    let scene = hours(case, seed);
    let watched = watch(&scene, &board);
    let calm = [Face::Green, Face::Yellow];
    if let Some((at_ms, _, seen)) = watched.first_other(&[panel], &calm, i64::MIN, i64::MAX) {
        let what = format!(
            "{} shows {} ({}) at {}, and there is nothing of that kind: {}",
            board.name(panel),
            seen.face,
            seen.text,
            span(at_ms - scene.origin_ms),
            case.tells()
        );
        kit::symptom(scene.complaint(&watched, &[panel], &what, None));
    }
}

// How it is built.

#[test]
fn dashboard_is_shown_as_it_was_meant() {
    kit::check(|| {
        if board().dashboard().panels.is_empty() {
            kit::symptom("the dashboard has no panels");
        }
    });
}

#[test]
fn five_panels_ask_five_questions() {
    kit::check(|| {
        let board = board();
        let panels = &board.dashboard().panels;
        if panels.len() != PANELS {
            kit::symptom(format!(
                "the dashboard has {} of the {PANELS} panels",
                panels.len()
            ));
        }
        for panel in panels {
            let title = panel.title.trim();
            if !title.ends_with('?') || title.split_whitespace().count() < 3 {
                kit::symptom(format!("{}: {panel} is no question", panel.path));
            }
        }
        let mut seen = Vec::new();
        for (question, key) in QUESTIONS.into_iter().enumerate() {
            let panel = named(&board, question);
            if seen.contains(&panel) {
                kit::symptom(format!(
                    "`{key}`: {} answers another question too",
                    board.name(panel)
                ));
            }
            seen.push(panel);
        }
    });
}

#[test]
fn every_threshold_can_be_seen() {
    kit::check(|| {
        for panel in &board().dashboard().panels {
            let properties = panel.overrides.iter().flat_map(|other| &other.properties);
            let overridden = properties
                .clone()
                .any(|property| *property == Property::Colored(true));
            if !panel.colored && !overridden {
                kit::symptom(format!(
                    "{}: {panel} shows no threshold: a `{}` of this kind has one color",
                    panel.path, panel.kind
                ));
            }
            let of_steps = panel.field.thresholds.steps.iter().map(|step| &step.color);
            let of_mappings = panel.field.mappings.iter();
            let mut colors: Vec<&String> = of_steps
                .chain(of_mappings.filter_map(|mapping| mapping.color.as_ref()))
                .collect();
            for property in properties {
                if let Property::Thresholds(thresholds) = property {
                    colors.extend(thresholds.steps.iter().map(|step| &step.color));
                }
            }
            for (signal, name) in [(Signal::Green, "green"), (Signal::Red, "red")] {
                if !colors.iter().any(|color| Signal::of(color) == Some(signal)) {
                    kit::symptom(format!("{}: {panel} is never {name}", panel.path));
                }
            }
        }
    });
}

// Question by question.

#[test]
fn goroutines_are_shown_over_time() {
    kit::check(|| {
        let board = board();
        let panel = named(&board, GOROUTINES);
        let shown = &board.dashboard().panels[panel];
        if shown.kind != "timeseries" {
            kit::symptom(format!(
                "{shown} is a `{}`, in which nobody sees how it has changed",
                shown.kind
            ));
        }
        for (case, seed) in [(Case::Morning, 11), (Case::HighAndStable, 12)] {
            let scene = hours(case, seed);
            let query = Query::parse("sum(go_goroutines)").expect("it is a query");
            let at_ms = scene.within.to_ms;
            let truth = Engine::default()
                .instant(&scene.storage, &query, at_ms)
                .ok()
                .and_then(|answer| answer.value.single())
                .expect("there are goroutines");
            let view = board.view(at_ms, SCRAPE_INTERVAL);
            let all = board
                .dashboard()
                .show(&Engine::default(), &scene.storage, &view);
            let readings = &all[panel].readings;
            let is_there = readings
                .iter()
                .filter_map(|reading| reading.value)
                .any(|value| (value / truth - 1.0).abs() < 0.02);
            if !is_there {
                let texts: Vec<&str> = readings.iter().map(|reading| &*reading.text).collect();
                kit::symptom(format!(
                    "there are {truth} goroutines (seed {seed}), and {shown} shows {}",
                    if texts.is_empty() {
                        "nothing".to_owned()
                    } else {
                        texts.join(", ")
                    }
                ));
            }
        }
        is_quiet(GOROUTINES, Case::HighAndStable, 13);
        is_red(GOROUTINES, Case::Flood, 14, SEEN_WITHIN);
    });
}

#[test]
fn contention_is_seen() {
    kit::check(|| {
        is_red(LOCKS, Case::Contention, 21, SEEN_WITHIN);
        is_red(LOCKS, Case::SlightContention, 24, SEEN_WITHIN);
        is_quiet(LOCKS, Case::HighAndStable, 22);
        is_quiet(LOCKS, Case::Restart, 23);
    });
}

#[test]
fn long_pauses_are_told_from_many_and_from_slowness() {
    kit::check(|| {
        is_red(GC, Case::Pauses, 31, SEEN_WITHIN);
        is_quiet(GC, Case::OftenCollected, 32);
        is_quiet(GC, Case::SlowElsewhere, 33);
        is_quiet(GC, Case::HighAndStable, 34);
        is_red(GC, Case::SomePauses, 35, SEEN_WITHIN);
    });
}

#[test]
fn stuck_pool_is_told_from_a_busy_and_an_idle_one() {
    kit::check(|| {
        is_red(POOL, Case::StuckPool, 41, SEEN_WITHIN);
        is_quiet(POOL, Case::BusyPool, 42);
        is_quiet(POOL, Case::Evening, 43);
    });
}

#[test]
fn slow_leak_is_seen() {
    kit::check(|| {
        for seed in [51, 52, 53] {
            is_red(LEAK, Case::Leak, seed, LEAK_SEEN_WITHIN);
        }
    });
}

#[test]
fn leak_is_seen_at_every_time_of_day() {
    kit::check(|| {
        is_red(LEAK, Case::LeakInTheMorning, 54, LEAK_SEEN_WITHIN);
        is_red(LEAK, Case::LeakInTheEvening, 55, LEAK_SEEN_WITHIN);
    });
}

#[test]
fn high_but_stable_is_no_leak() {
    kit::check(|| {
        for seed in [61, 62] {
            is_quiet(LEAK, Case::HighAndStable, seed);
        }
    });
}

#[test]
fn day_is_no_leak() {
    kit::check(|| {
        is_quiet(LEAK, Case::Morning, 63);
        is_quiet(LEAK, Case::Morning, 64);
        is_quiet(LEAK, Case::Evening, 65);
    });
}

#[test]
fn restart_and_burst_are_no_leak() {
    kit::check(|| {
        is_quiet(LEAK, Case::Restart, 66);
        is_quiet(LEAK, Case::Burst, 67);
    });
}

#[test]
fn panels_are_calm_when_it_is_over() {
    kit::check(|| {
        is_over(LOCKS, Case::Contention, 81, SEEN_WITHIN);
        is_over(GC, Case::SomePauses, 82, SEEN_WITHIN);
        is_over(POOL, Case::StuckPool, 83, SEEN_WITHIN);
        is_over(GOROUTINES, Case::Flood, 84, SEEN_WITHIN);
        is_over(LEAK, Case::Leak, 85, LEAK_SEEN_WITHIN);
        is_over(LEAK, Case::LeakInTheMorning, 86, LEAK_SEEN_WITHIN);
    });
}

/// In each incident the panel of its question is red, and the others are not.
#[test]
fn each_panel_answers_its_own_question() {
    kit::check(|| {
        let board = board();
        let panels: Vec<usize> = (0..PANELS).map(|nth| named(&board, nth)).collect();
        for (case, question, seed) in [
            (Case::Contention, LOCKS, 71),
            (Case::Pauses, GC, 72),
            (Case::StuckPool, POOL, 73),
            (Case::Leak, LEAK, 74),
        ] {
            let scene = hours(case, seed);
            let watched = watch(&scene, &board);
            for (other, &panel) in panels.iter().enumerate() {
                if other == question {
                    continue;
                }
                if watched.first(&[panel], Face::Red, i64::MIN).is_some() {
                    let what = format!("{} is red as well: {}", board.name(panel), case.tells());
                    kit::symptom(scene.complaint(&watched, &[panel], &what, None));
                }
            }
        }
    });
}
