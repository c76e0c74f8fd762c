//! 18.5.3: a dashboard on which nobody saw the incident, and one on which they do.

use std::collections::BTreeSet;
use std::time::Duration;

use super::subject;

use drill::alerts::{Alerting, Drill, Span, Wanted};
use drill::dashboards::{Board, Face, Watched};
use drill::scene::Scene;
use drill::submission::Submission;
use drill::{Clock, Lane, span};
use incident::service::catalog::{Case, exhausted_pool, hour, slow_straggler};
use incident::service::{Fault, Kind, Run, Setup, simulate};
use kit::answers::{Answers, Tolerance};
use promql::{Labels, Storage};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
/// Of a simulation: so much before something happens, and after.
const BEFORE: f64 = 480.0;
const AFTER: f64 = 480.0;
/// By then the windows of the queries are full.
const SETTLED_MS: i64 = 6 * MINUTE;
const SCRAPE: Duration = Duration::from_secs(15);
const MOST_PANELS: usize = 6;
/// The share of the moments for which a panel has to keep the color that it has to have.
const MOSTLY: f64 = 0.9;

// The learner's answers.

/// What each panel hides, and what the message says when another letter is given.
const HIDES: [(&str, &str, &str); 6] = [
    (
        "uptime",
        "b",
        "every probe was answered at 3 AM as well, after eight seconds",
    ),
    (
        "total_requests",
        "e",
        "the counter stood at 41,807,223 before the incident and at 42,239,223 a minute and a half \
         later, on its way up as ever",
    ),
    (
        "error_rate_last_24h",
        "a",
        "0.08 % is made of 1,440 minutes, of which the incident was a few",
    ),
    (
        "average_latency",
        "c",
        "it stood at 180 ms while one request in a hundred took over eight seconds",
    ),
    (
        "server_cpu",
        "d",
        "it read 40 % before and 38 % in the incident, and 100 of 100 connections were in use",
    ),
    (
        "deploys_today",
        "f",
        "\"2\" at 3 AM could have been both at one past midnight or both at a minute to three",
    ),
];
const LETTERS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn judged(panels: &[&str]) {
    let answers = kit::answers!();
    for (panel, letter, symptom) in HIDES.iter().filter(|(panel, ..)| panels.contains(panel)) {
        let key = format!("hides.{panel}");
        let given = answers.choice(&key, &LETTERS);
        if given != *letter {
            kit::symptom(format!(
                "`{key}` is \"{given}\", and that is not what kept it from showing the incident: \
                 {symptom}"
            ));
        }
    }
}

#[test]
fn uptime_totals_and_errors_are_judged() {
    kit::check(|| judged(&["uptime", "total_requests", "error_rate_last_24h"]));
}

#[test]
fn latency_cpu_and_deploys_are_judged() {
    kit::check(|| judged(&["average_latency", "server_cpu", "deploys_today"]));
}

#[test]
fn figures_are_computed() {
    kit::check(|| {
        let answers = kit::answers!();
        answers.expect_number(
            "figures.mean_ms",
            0.99 * 10.0 + 0.01 * 10_000.0,
            Tolerance::Absolute(0.05),
            "the mean of 99 % at 10 ms and 1 % at 10 s",
        );
        answers.expect_number(
            "figures.hidden_outage_seconds",
            86_400.0 * 0.08 / 100.0,
            Tolerance::Absolute(0.5),
            "the seconds of a day in which everything may fail at 0.08 %",
        );
    });
}

// The dashboard.

#[test]
fn dashboard_is_shown_as_it_was_meant() {
    kit::check(|| {
        let panels = board().dashboard().panels.len();
        if panels == 0 || panels > MOST_PANELS {
            kit::symptom(format!(
                "the dashboard has {panels} panels, and should have one to {MOST_PANELS}"
            ));
        }
    });
}

#[test]
fn healthy_hours_are_green() {
    kit::check(|| {
        let board = board();
        let named = Named::of(&board);
        let all = every_panel(&board);
        for (play, seed) in [
            (Play::Hour(Case::Quiet), 101),
            (Play::Hour(Case::Busy), 102),
            (Play::Hour(Case::Spike), 103),
            (Play::Hour(Case::InnocentDeploy), 104),
            (Play::Hour(Case::BatchJob), 105),
            (Play::SlowStraggler, 106),
        ] {
            let scene = playing(play, seed);
            let watched = watch(&scene, &board);
            let calm = [Face::Green, Face::Yellow, Face::Plain];
            if let Some((at_ms, panel, seen)) = watched.first_other(&all, &calm, i64::MIN, i64::MAX)
            {
                let what = format!(
                    "at {} {} shows {} ({}), and nothing was wrong",
                    Clock::from(scene.origin_ms).time(at_ms),
                    board.name(panel),
                    seen.face,
                    seen.text
                );
                kit::symptom(scene.complaint(&watched, &[panel], &what, None));
            }
            for panel in [named.symptom, named.cause] {
                if watched.share(panel, Face::Plain, i64::MIN, i64::MAX) > 0.0 {
                    kit::symptom(format!("{} shows no color", board.name(panel)));
                }
                let green = watched.share(panel, Face::Green, i64::MIN, i64::MAX);
                if matches!(play, Play::Hour(Case::Quiet)) && green < MOSTLY {
                    let what = format!(
                        "{} is green for {:.0} % of an ordinary quarter of an hour, and nothing \
                         was wrong",
                        board.name(panel),
                        100.0 * green
                    );
                    kit::symptom(scene.complaint(&watched, &[panel], &what, None));
                }
            }
        }
    });
}

#[test]
fn waiting_is_seen() {
    kit::check(|| {
        let board = board();
        let named = Named::of(&board);
        kit::seed::each(&[211, 212], |seed| {
            let scene = playing(Play::ExhaustedPool, seed.0);
            is_red(
                &scene,
                &board,
                named.symptom,
                2 * MINUTE,
                "and nobody could see it",
            );
        });
        kit::seed::each(&[221], |seed| {
            let scene = playing(Play::Hour(Case::SlowDependency), seed.0);
            is_red(
                &scene,
                &board,
                named.symptom,
                5 * MINUTE,
                "and nobody could see it",
            );
        });
    });
}

#[test]
fn cause_is_named() {
    kit::check(|| {
        let board = board();
        let named = Named::of(&board);
        if named.symptom == named.cause {
            kit::symptom(format!("{} is named for both", board.name(named.cause)));
        }
        kit::seed::each(&[214], |seed| {
            let scene = playing(Play::ExhaustedPool, seed.0);
            is_red(
                &scene,
                &board,
                named.cause,
                3 * MINUTE,
                "and the panel does not say why",
            );
        });
        for (play, seed) in [(Play::Hour(Case::SlowDependency), 223), (Play::Surge, 224)] {
            let scene = playing(play, seed);
            let watched = watch(&scene, &board);
            let from_ms = scene.origin_ms;
            if watched.share(named.cause, Face::Red, from_ms, i64::MAX) > 1.0 - MOSTLY {
                let what = format!(
                    "{} is red as well, and the database is not short of anything",
                    board.name(named.cause)
                );
                let both = [named.symptom, named.cause];
                kit::symptom(scene.complaint(&watched, &both, &what, None));
            }
        }
    });
}

/// Each panel has something to say in one of the incidents.
#[test]
fn no_panel_is_decoration() {
    kit::check(|| {
        let board = board();
        let mut silent: BTreeSet<usize> = every_panel(&board).into_iter().collect();
        for (play, seed) in [
            (Play::ExhaustedPool, 231),
            (Play::FailingRelease, 232),
            (Play::Surge, 233),
            (Play::Silence, 234),
            (Play::Hour(Case::SlowDependency), 235),
        ] {
            if silent.is_empty() {
                break;
            }
            let scene = playing(play, seed);
            let watched = watch(&scene, &board);
            for (_, seen) in watched.between(scene.origin_ms, i64::MAX) {
                silent.retain(|&panel| !matches!(seen[panel].face, Face::Yellow | Face::Red));
            }
        }
        if let Some(&panel) = silent.first() {
            kit::symptom(format!(
                "{} is never yellow or red: not when the pool is exhausted, nor when a release \
                 fails, the cores are not enough, nobody comes, or payments are slow",
                board.name(panel)
            ));
        }
    });
}

// The alert.

#[test]
fn alert_fires_in_time() {
    kit::check(|| {
        let alerting = alerting();
        kit::seed::each(&[216], |seed| {
            fires(&playing(Play::ExhaustedPool, seed.0), &alerting, 5 * MINUTE);
        });
        kit::seed::each(&[225], |seed| {
            let play = Play::Hour(Case::SlowDependency);
            fires(&playing(play, seed.0), &alerting, 8 * MINUTE);
        });
    });
}

#[test]
fn alert_is_silent_in_healthy_hours() {
    kit::check(|| {
        let alerting = alerting();
        for (play, seed) in [
            (Play::Hour(Case::Busy), 112),
            (Play::Hour(Case::Spike), 113),
            (Play::Hour(Case::InnocentDeploy), 114),
            (Play::SlowStraggler, 115),
        ] {
            let scene = playing(play, seed);
            let drill = drilled(&scene, &alerting);
            if let Some(episode) = drill.first(&critical(), scene.within) {
                let at_ms = episode.firing_ms().unwrap_or(scene.origin_ms);
                let mut timeline = scene.timeline();
                drill.tell(&mut timeline);
                kit::symptom(format!(
                    "at {} {} fires, and nothing was wrong (seed {seed})\n{timeline}",
                    Clock::from(scene.origin_ms).time(at_ms),
                    episode.alert()
                ));
            }
        }
    });
}

// What they are played against.

#[derive(Clone, Copy)]
enum Play {
    /// As the catalog has it.
    Hour(Case),
    /// Two instances as ever, and a third with hardly a request.
    SlowStraggler,
    ExhaustedPool,
    FailingRelease,
    Surge,
    Silence,
}

/// What is played, looked at from when the windows are full.
fn playing(play: Play, seed: u64) -> Scene {
    let (setup, at, tells) = play.drawn(seed);
    kit::step(format!("playing: {tells}, seed {seed}"));
    let setup = setup.metrics_only().around(at, BEFORE, AFTER);
    let run = simulate(&setup);
    let storage = if play.has_a_day_before() {
        after_a_day(&run)
    } else if let Play::SlowStraggler = play {
        let [_, straggler] = slow_straggler(seed);
        let beside = simulate(&straggler.metrics_only().around(at, BEFORE, AFTER));
        drill::storage_of(run.series().chain(beside.series()))
    } else {
        drill::storage(&run)
    };
    kit::step(format!("looking at it: {tells}, seed {seed}"));
    let begins_ms = setup.begins * SECOND;
    Scene {
        storage,
        tells,
        seed,
        within: Span::new(
            begins_ms + SETTLED_MS,
            begins_ms + (BEFORE + AFTER) as i64 * SECOND,
        ),
        origin_ms: begins_ms + BEFORE as i64 * SECOND,
        over_ms: None,
    }
}

fn watch<'b>(scene: &Scene, board: &'b Board) -> Watched<'b> {
    scene.watch(board, SCRAPE, SCRAPE)
}

/// A panel has to turn red within a time of the beginning, and to stay so.
fn is_red(scene: &Scene, board: &Board, panel: usize, within_ms: i64, unseen: &str) {
    let watched = watch(scene, board);
    if let Err(complaint) = scene.turns_red(&watched, panel, within_ms, MOSTLY, unseen) {
        kit::symptom(complaint);
    }
}

fn drilled(scene: &Scene, alerting: &Alerting) -> Drill {
    kit::or_symptom(alerting.play(&scene.storage, scene.within))
}

fn fires(scene: &Scene, alerting: &Alerting, within_ms: i64) {
    let drill = drilled(scene, alerting);
    let due_ms = scene.origin_ms + within_ms;
    let early = Span::new(scene.within.from_ms, scene.origin_ms);
    let lacking = if drill.first(&critical(), early).is_some() {
        "a critical alert fires before it begins"
    } else if drill
        .first(&critical(), Span::new(scene.origin_ms, due_ms))
        .is_none()
    {
        "a critical alert has to fire"
    } else {
        return;
    };
    let mut timeline = scene.timeline();
    drill.tell(&mut timeline);
    timeline.add(due_ms, Lane::Due, "a critical alert");
    kit::symptom(format!(
        "{}: {lacking}, at most {} after (seed {})\n{timeline}",
        scene.tells,
        span(within_ms),
        scene.seed
    ));
}

impl Play {
    /// Whether what a window of hours or a day says decides the check.
    fn has_a_day_before(self) -> bool {
        matches!(self, Play::ExhaustedPool | Play::Hour(Case::SlowDependency))
    }

    /// The setup, when it happens in it, and what happens.
    fn drawn(self, seed: u64) -> (Setup, f64, String) {
        match self {
            Play::Hour(case) => {
                let setup = hour(case, seed);
                let at = happens_at(&setup, case);
                (setup, at, told(case).to_owned())
            }
            Play::SlowStraggler => {
                let [setup, _] = slow_straggler(seed);
                let what = "nothing: one instance of three gets hardly a request, and is slow";
                (setup, 1_500.0, what.to_owned())
            }
            Play::ExhaustedPool => {
                let setup = exhausted_pool(seed);
                let at = setup.scenarios[0].starts_at;
                (
                    setup,
                    at,
                    "a query has lost its index and fills the pool".to_owned(),
                )
            }
            Play::FailingRelease => {
                let mut setup = hour(Case::BadDeploy, seed);
                if let Fault::BadDeploy {
                    compute_factor,
                    allocation_factor,
                    error_share,
                    ..
                } = &mut setup.scenarios[0].fault
                {
                    (*compute_factor, *allocation_factor, *error_share) = (1.0, 1.0, 0.08);
                }
                let at = setup.scenarios[0].starts_at;
                (
                    setup,
                    at,
                    "8 % of the answers of a new release are errors".to_owned(),
                )
            }
            Play::Surge => {
                let mut setup = hour(Case::TrafficSurge, seed);
                if let Fault::TrafficSurge { factor } = &mut setup.scenarios[0].fault {
                    *factor *= 1.1;
                }
                let at = setup.scenarios[0].starts_at;
                (
                    setup,
                    at,
                    "more traffic comes than the cores can serve".to_owned(),
                )
            }
            Play::Silence => {
                let mut setup = hour(Case::Quiet, seed);
                let at = 1_500.0;
                setup.load = setup.load.spike(at, 0.02, AFTER);
                (setup, at, "hardly a request comes in any more".to_owned())
            }
        }
    }
}

/// The metrics of a run, and before it a day in which all went on as in its first five minutes: a
/// quarter of an hour alone would make a window of a day as quick as one of minutes.
fn after_a_day(run: &Run) -> Storage {
    let mut storage = Storage::new();
    for series in run.series() {
        let samples = series.samples();
        let Some(&(first_ms, first)) = samples.first() else {
            continue;
        };
        let labels = Labels::new(series.label_pairs());
        let counts = matches!(series.family().kind, Kind::Counter | Kind::Histogram);
        let early = &samples[..samples.partition_point(|(at, _)| *at <= first_ms + 5 * MINUTE)];
        let grown: f64 = early
            .windows(2)
            .map(|two| (two[1].1 - two[0].1).max(0.0))
            .sum();
        let took_ms = early.last().map_or(0, |(at, _)| at - first_ms);
        let slope = match counts && took_ms > 0 {
            true => grown / took_ms as f64,
            false => 0.0,
        };
        let past = (1..=330).rev().map(|nth| {
            let before_ms = nth * 4 * MINUTE;
            (
                first_ms - before_ms,
                (first - slope * before_ms as f64).max(0.0),
            )
        });
        storage
            .append_series(labels, past.chain(samples.iter().copied()))
            .expect("samples of a run are in order");
    }
    storage
}

/// When something happens in an hour of the catalog, in seconds.
fn happens_at(setup: &Setup, case: Case) -> f64 {
    let fault = setup.scenarios.first().map(|scenario| scenario.starts_at);
    let job = setup.jobs.first().map(|job| job.at);
    let spike = setup.load.spikes.first().map(|spike| spike.at);
    let release = setup.deploys.first().map(|deploy| deploy.at);
    let at = match case {
        Case::BatchJob => job,
        Case::Spike => spike,
        Case::InnocentDeploy => release,
        _ => fault,
    };
    at.unwrap_or(1_500.0)
}

fn told(case: Case) -> &'static str {
    match case {
        Case::Busy => "nothing: a busy hour",
        Case::Spike => "twice the traffic, for less than two minutes",
        Case::InnocentDeploy => "a release that changes nothing",
        Case::BatchJob => "a batch job begins",
        Case::SlowDependency => "some calls of another service take seconds",
        _ => "nothing: an ordinary hour",
    }
}

// What the learner hands in.

/// The panels that the answers name.
struct Named {
    symptom: usize,
    cause: usize,
}

impl Named {
    fn of(board: &Board) -> Self {
        let answers = kit::answers!();
        Named {
            symptom: titled(board, &answers, "panels.symptom"),
            cause: titled(board, &answers, "panels.cause"),
        }
    }
}

fn titled(board: &Board, answers: &Answers, key: &str) -> usize {
    let title = answers.text(key);
    board.titled(&title).unwrap_or_else(|| {
        kit::symptom(format!("`{key}`: no panel has the title \"{title}\""));
    })
}

fn every_panel(board: &Board) -> Vec<usize> {
    (0..board.dashboard().panels.len()).collect()
}

fn critical() -> Wanted {
    Wanted::any().with("severity", "critical")
}

fn board() -> Board {
    kit::or_symptom(Submission::of(kit::lab_dir!()).board(subject::DASHBOARD))
}

fn alerting() -> Alerting {
    kit::or_symptom(Submission::of(kit::lab_dir!()).rules(subject::RULES))
}
