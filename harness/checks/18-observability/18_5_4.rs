//! 18.5.4: a dashboard for a pool of workers, played against pools that are well and pools that are not.

use std::collections::BTreeSet;

use super::subject::{SCRAPE_INTERVAL, SEEN_WITHIN};
use drill::alerts::Span;
use drill::dashboards::{Board, Face, Watched};
use drill::scene::Scene;
use drill::span;
use drill::submission::Submission;
use incident::task_pool::{self, Case};
use promql::Query;
use promql::dashboard::{Mapping, Panel, Property, Signal, Thresholds};

const MOST_PANELS: usize = 12;
/// By the end of this time the windows of the queries are full.
const SETTLED_MS: i64 = 300_000;
const LOOK: std::time::Duration = std::time::Duration::from_mins(1);
/// For which share of the moments a panel has to be red to stand out.
const OFTEN: f64 = 0.8;

fn board() -> Board {
    kit::or_symptom(Submission::of(kit::lab_dir!()).board("dashboard.json"))
}

/// A pool that has run, looked at from when the windows are full.
fn ran(case: Case, seed: u64) -> Scene {
    kit::step(format!("simulating a pool: {}, seed {seed}", case.tells()));
    let run = task_pool::simulate(case, seed);
    let storage = drill::storage_of(run.series());
    kit::step(format!("looking at it: {}, seed {seed}", case.tells()));
    Scene {
        storage,
        tells: case.tells().to_owned(),
        seed,
        within: Span::new(run.begins_ms() + SETTLED_MS, run.ends_ms()),
        origin_ms: run.starts_at_ms().unwrap_or(run.begins_ms()),
        over_ms: None,
    }
}

fn watch<'b>(scene: &Scene, board: &'b Board) -> Watched<'b> {
    scene.watch(board, LOOK, SCRAPE_INTERVAL)
}

/// How long after the beginning of a pool it is.
fn into(scene: &Scene, at_ms: i64) -> String {
    span(at_ms - (scene.within.from_ms - SETTLED_MS))
}

fn due_ms(scene: &Scene) -> i64 {
    let within = i64::try_from(SEEN_WITHIN.as_millis()).expect("minutes");
    scene.origin_ms + within
}

/// Ends the check with what happened and what the panels said.
fn fail(
    scene: &Scene,
    watched: &Watched<'_>,
    panels: &[usize],
    what: &str,
    due: Option<&str>,
) -> ! {
    let what = format!("{what}: {}", scene.tells);
    let due = due.map(|due| (due_ms(scene), due));
    kit::symptom(scene.complaint(watched, panels, &what, due))
}

fn row(board: &Board, nth: usize) -> &[usize] {
    match board.rows().get(nth) {
        Some(row) => row,
        None => kit::symptom(format!(
            "the dashboard has {} rows of panels, and should have three or more",
            board.rows().len()
        )),
    }
}

// How it is built.

#[test]
fn dashboard_is_shown_as_it_was_meant() {
    kit::check(|| {
        let board = board();
        if board.dashboard().panels.is_empty() {
            kit::symptom("the dashboard has no panels");
        }
    });
}

#[test]
fn panels_ask_questions() {
    kit::check(|| {
        let board = board();
        let panels = &board.dashboard().panels;
        if panels.len() > MOST_PANELS {
            kit::symptom(format!(
                "the dashboard has {} panels, and {MOST_PANELS} is the most",
                panels.len()
            ));
        }
        if panels.is_empty() {
            kit::symptom("the dashboard has no panels");
        }
        let mut titles = BTreeSet::new();
        for panel in panels {
            let title = panel.title.trim();
            let words = title.split_whitespace().count();
            if !title.ends_with('?') || words < 3 {
                kit::symptom(format!("{}: {panel} is no question", panel.path));
            }
            if !titles.insert(title.to_lowercase()) {
                kit::symptom(format!("two panels ask {panel}"));
            }
        }
    });
}

/// Every color that a panel may give to a value, as a signal.
fn signals(panel: &Panel) -> BTreeSet<Signal> {
    let of_thresholds = |thresholds: &Thresholds| -> Vec<Signal> {
        let steps = thresholds.steps.iter();
        steps.filter_map(|step| Signal::of(&step.color)).collect()
    };
    let of_mappings = |mappings: &[Mapping]| -> Vec<Signal> {
        let colors = mappings
            .iter()
            .filter_map(|mapping| mapping.color.as_deref());
        colors.filter_map(Signal::of).collect()
    };
    let mut found: BTreeSet<Signal> = of_thresholds(&panel.field.thresholds).into_iter().collect();
    found.extend(of_mappings(&panel.field.mappings));
    for property in panel.overrides.iter().flat_map(|other| &other.properties) {
        match property {
            Property::Thresholds(thresholds) => found.extend(of_thresholds(thresholds)),
            Property::Mappings(mappings) => found.extend(of_mappings(mappings)),
            _ => {}
        }
    }
    found
}

#[test]
fn panels_have_a_query_and_three_colors() {
    kit::check(|| {
        for panel in &board().dashboard().panels {
            let asks = panel.targets.iter().any(|target| {
                let source = target.source.as_deref().or(panel.source.as_deref());
                !target.hidden && source.is_none_or(|source| source == "prometheus")
            });
            if !asks {
                kit::symptom(format!("{}: {panel} asks Prometheus nothing", panel.path));
            }
            let overridden = panel
                .overrides
                .iter()
                .flat_map(|other| &other.properties)
                .any(|property| *property == Property::Colored(true));
            if !panel.colored && !overridden {
                kit::symptom(format!(
                    "{}: {panel} shows no color by its thresholds",
                    panel.path
                ));
            }
            let found = signals(panel);
            for (signal, name) in [
                (Signal::Green, "green"),
                (Signal::Yellow, "yellow"),
                (Signal::Red, "red"),
            ] {
                if !found.contains(&signal) {
                    kit::symptom(format!("{}: {panel} is never {name}", panel.path));
                }
            }
        }
    });
}

/// Whether two panels have the same queries, whatever their titles and thresholds.
fn asks_the_same(board: &Board, one: usize, other: usize) -> bool {
    let [one, other] = [one, other].map(|panel| {
        let targets = board.dashboard().panels[panel].targets.iter();
        let mut asked: Vec<String> = targets
            .filter(|target| !target.hidden)
            .map(|target| target.expression.split_whitespace().collect())
            .collect();
        asked.sort();
        asked
    });
    one == other
}

#[test]
fn first_row_is_three_lights() {
    kit::check(|| {
        let board = board();
        let row = row(&board, 0);
        if row.len() != 3 {
            let names: Vec<String> = row.iter().map(|&panel| board.name(panel)).collect();
            kit::symptom(format!(
                "the first row has {} panels: {}",
                names.len(),
                names.join(", ")
            ));
        }
        let scene = ran(Case::Quiet, 11);
        let watched = watch(&scene, &board);
        for (nth, &panel) in row.iter().enumerate() {
            let shown = &board.dashboard().panels[panel];
            if let Some(&twin) = row[..nth]
                .iter()
                .find(|&&other| asks_the_same(&board, other, panel))
            {
                kit::symptom(format!("{shown} asks what {} asks", board.name(twin)));
            }
            if let Some(row) = shown.row
                && board.dashboard().rows[row].collapsed
            {
                kit::symptom(format!("{shown} is hidden until somebody opens its row"));
            }
            if !shown.reduces() {
                kit::symptom(format!(
                    "{shown} is a `{}`, which has to be read: no light",
                    shown.kind
                ));
            }
            if let Some((_, _, seen)) =
                watched.first_other(&[panel], &[Face::Green], i64::MIN, i64::MAX)
            {
                fail(
                    &scene,
                    &watched,
                    &[panel],
                    &format!(
                        "{shown} shows {} ({}) while all is well",
                        seen.face, seen.text
                    ),
                    None,
                );
            }
        }
    });
}

// The first row.

/// The first row is green while the workers have half of what they can do, or hardly anything, and
/// not red while they have much, or while an instance that hardly counts is slow and fails.
#[test]
fn first_row_is_green_on_good_days() {
    kit::check(|| {
        let board = board();
        let row = row(&board, 0);
        for (case, seed, allowed) in [
            (Case::Quiet, 21, &[Face::Green][..]),
            (Case::Night, 22, &[Face::Green]),
            (Case::Busy, 23, &[Face::Green, Face::Yellow]),
            (Case::Spike, 24, &[Face::Green, Face::Yellow]),
            (Case::Release, 25, &[Face::Green, Face::Yellow]),
            (Case::Canary, 26, &[Face::Green, Face::Yellow]),
        ] {
            let scene = ran(case, seed);
            let watched = watch(&scene, &board);
            if let Some((at_ms, panel, seen)) =
                watched.first_other(row, allowed, i64::MIN, i64::MAX)
            {
                let what = format!(
                    "{} shows {} ({}) after {}, and users got what they were promised",
                    board.name(panel),
                    seen.face,
                    seen.text,
                    into(&scene, at_ms)
                );
                fail(&scene, &watched, row, &what, None);
            }
        }
    });
}

/// Row 1 has to turn red in time and to stay so.
fn is_seen(case: Case, seeds: &[u64]) {
    let board = board();
    let row = row(&board, 0);
    for &seed in seeds {
        let scene = ran(case, seed);
        let watched = watch(&scene, &board);
        let due_ms = due_ms(&scene);
        let due = format!(
            "the first row has to be red, {} after",
            span(due_ms - scene.origin_ms)
        );
        let red = |from_ms| watched.first(row, Face::Red, from_ms);
        match red(scene.origin_ms) {
            Some(at_ms) if at_ms <= due_ms => {}
            _ => fail(
                &scene,
                &watched,
                row,
                "users do not get what they were promised, and the first row does not say so in time",
                Some(&due),
            ),
        }
        let moments = watched.between(due_ms, i64::MAX);
        let (all, seen) = moments.fold((0, 0), |(all, seen), (_, faces)| {
            let is_red = row.iter().any(|&panel| faces[panel].face == Face::Red);
            (all + 1, seen + usize::from(is_red))
        });
        if seen * 10 < all * 9 {
            fail(
                &scene,
                &watched,
                row,
                &format!("the first row is red in {seen} of {all} minutes, and nothing was mended"),
                Some(&due),
            );
        }
    }
}

#[test]
fn slow_tasks_are_seen() {
    kit::check(|| {
        is_seen(Case::Workers, &[31]);
        is_seen(Case::Tail, &[32]);
        is_seen(Case::Bursts, &[36, 37]);
        is_seen(Case::Straggler, &[39, 40]);
    });
}

#[test]
fn failing_tasks_are_seen() {
    kit::check(|| {
        is_seen(Case::Errors, &[33, 34]);
        is_seen(Case::Timeouts, &[38]);
    });
}

#[test]
fn silence_is_seen() {
    kit::check(|| is_seen(Case::Silence, &[35]));
}

// The second row.

const BOTTLENECKS: [(&str, Case); 4] = [
    ("bottleneck.workers", Case::Workers),
    ("bottleneck.cores", Case::Cores),
    ("bottleneck.connections", Case::Connections),
    ("bottleneck.store", Case::Storage),
];

/// The panels of the second row that the answers name, in the order of [`BOTTLENECKS`].
fn named(board: &Board) -> Vec<usize> {
    let answers = kit::answers!();
    let row = row(board, 1);
    let mut named = Vec::new();
    for (key, _) in BOTTLENECKS {
        let title = answers.text(key);
        let Some(panel) = board.titled(&title) else {
            kit::symptom(format!("`{key}`: no panel has the title \"{title}\""));
        };
        if !row.contains(&panel) {
            kit::symptom(format!(
                "`{key}`: \"{title}\" does not stand in the second row"
            ));
        }
        if named.contains(&panel) {
            kit::symptom(format!("`{key}`: \"{title}\" is named for another one too"));
        }
        named.push(panel);
    }
    named
}

/// Whatever holds a pool up, its workers are held too: their panel may be red with any of them.
fn is_named(nth: usize, seeds: &[u64]) {
    let board = board();
    let panels = named(&board);
    let (_, case) = BOTTLENECKS[nth];
    for &seed in seeds {
        let scene = ran(case, seed);
        let watched = watch(&scene, &board);
        let out = watched.standing_out(&panels, OFTEN, due_ms(&scene), i64::MAX);
        let due = format!("{} has to be red", board.name(panels[nth]));
        if !out.contains(&panels[nth]) {
            fail(
                &scene,
                &watched,
                &panels,
                &format!("{} does not name the bottleneck", board.name(panels[nth])),
                Some(&due),
            );
        }
        // The workers' own panel is the first of them.
        let others: Vec<usize> = panels[1..]
            .iter()
            .copied()
            .filter(|&panel| panel != panels[nth])
            .collect();
        for other in others {
            let share = watched.share(other, Face::Red, due_ms(&scene), i64::MAX);
            if share > 1.0 - OFTEN {
                fail(
                    &scene,
                    &watched,
                    &panels,
                    &format!(
                        "{} is red as well, and what it asks for is not short",
                        board.name(other)
                    ),
                    Some(&due),
                );
            }
        }
    }
}

#[test]
fn workers_are_named() {
    kit::check(|| is_named(0, &[41, 42]));
}

#[test]
fn cores_are_named() {
    kit::check(|| is_named(1, &[43, 44]));
}

#[test]
fn connections_are_named() {
    kit::check(|| is_named(2, &[45, 46]));
}

#[test]
fn store_is_named() {
    kit::check(|| is_named(3, &[47, 48]));
}

#[test]
fn nothing_is_named_on_busy_days() {
    kit::check(|| {
        let board = board();
        let panels = named(&board);
        for (case, seed) in [(Case::Busy, 51), (Case::Busy, 52), (Case::Spike, 53)] {
            let scene = ran(case, seed);
            let watched = watch(&scene, &board);
            if let Some(at_ms) = watched.first(&panels, Face::Red, i64::MIN) {
                fail(
                    &scene,
                    &watched,
                    &panels,
                    &format!(
                        "the second row names a bottleneck after {}, and nothing is held up",
                        into(&scene, at_ms)
                    ),
                    None,
                );
            }
        }
    });
}

// The rest.

#[test]
fn third_row_has_the_detail() {
    kit::check(|| {
        let board = board();
        row(&board, 2);
        let panels = board.rows()[2..].iter().flatten();
        let queries: Vec<Query> = panels
            .flat_map(|&panel| &board.dashboard().panels[panel].targets)
            // Variables stand in labels and durations; what is left is enough to tell the metrics.
            .filter_map(|target| {
                let bare = target
                    .expression
                    .replace("$__rate_interval", "1m")
                    .replace("$__interval", "1m")
                    .replace("$__range", "1h");
                Query::parse(&bare)
                    .or_else(|_| Query::parse(&without_variables(&bare)))
                    .ok()
            })
            .collect();
        let asks = |wanted: &dyn Fn(&str) -> bool| {
            queries
                .iter()
                .any(|query| query.metric_names().iter().any(|name| wanted(name)))
        };
        if !asks(&|name| name.ends_with("_bucket")) {
            kit::symptom("below the second row no panel shows how something is distributed");
        }
        if !asks(&|name| name.ends_with("_total")) {
            kit::symptom("below the second row no panel shows how often something happens");
        }
    });
}

/// A query whose range is a variable can be read with any range in its place.
fn without_variables(expression: &str) -> String {
    let mut out = String::new();
    let mut rest = expression;
    while let Some((before, after)) = rest.split_once("[$") {
        let end = after.find([':', ']']).unwrap_or(after.len());
        out.push_str(before);
        out.push_str("[1m");
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

/// A panel that looks the same whatever happens answers nothing.
#[test]
fn no_panel_is_decorative() {
    kit::check(|| {
        let board = board();
        let all: Vec<usize> = (0..board.dashboard().panels.len()).collect();
        let quiet = ran(Case::Quiet, 61);
        let watched = watch(&quiet, &board);
        if let Some((_, panel, seen)) =
            watched.first_other(&all, &[Face::Green, Face::Yellow], i64::MIN, i64::MAX)
        {
            kit::symptom(format!(
                "{} shows {} ({}) while all is well (seed 61)",
                board.name(panel),
                seen.face,
                seen.text
            ));
        }
        let mut silent = all;
        for (nth, case) in Case::ALL.into_iter().enumerate() {
            if case.is_healthy() || silent.is_empty() {
                continue;
            }
            let scene = ran(case, 62 + nth as u64);
            let watched = watch(&scene, &board);
            silent.retain(|&panel| {
                let moved = |face| watched.first(&[panel], face, scene.origin_ms).is_some();
                !moved(Face::Yellow) && !moved(Face::Red)
            });
        }
        if let Some(&panel) = silent.first() {
            kit::symptom(format!(
                "{} is never yellow or red: not without workers, cores or connections, not with a \
                 slow store, bursts, failing tasks, timeouts or silence",
                board.name(panel)
            ));
        }
    });
}
