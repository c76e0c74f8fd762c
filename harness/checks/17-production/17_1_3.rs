//! 17.1.3: the dashboard of an image pipeline, in four rows, played against pipelines that are well and
//! pipelines that are not.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::time::Duration;

use super::subject;

use drill::alerts::Span;
use drill::dashboards::{Board, Face, Watched, moments};
use drill::logs::LogQuery;
use drill::scene::Scene;
use drill::submission::Submission;
use drill::{Lane, span};
use incident::image_pipeline::{Case, LASTS, STAGES, STARTS_AT, fleet, own_lines};
use incident::service::{Run, Setup, simulate};
use promql::dashboard::{Panel, Shown, Signal, View};
use promql::{Engine, Query};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const SCRAPE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_secs(15);
/// By then the windows of the queries are full.
const SETTLED_MS: i64 = 6 * MINUTE;
/// The labels of the pipeline's log stream, as `METRICS.md` promises them.
const STREAM: [(&str, &str); 1] = [("job", "thumbnails")];
/// How long a scene goes on after what happens in it: until a light of two minutes has gone out again,
/// or as long as a light that is due has to stay on.
const AFTERMATH: i64 = 5 * MINUTE;
/// The same where only what is red first is asked.
const FIRST_SIGN: i64 = 5 * MINUTE / 2;
/// And where something grows until the end of the window.
const TO_THE_END: i64 = (LASTS - STARTS_AT) as i64 * 1_000;
/// How long what is mended goes on, and by when after its end nothing is red any more.
const UNTIL_MENDED: i64 = 5 * MINUTE / 2;
const CALM_WITHIN: i64 = 6 * MINUTE;
/// How many panels stand in the rows, from top to bottom.
const ROWS: [usize; 4] = [3, 4, 2, 3];
/// The share of the moments for which a panel has to keep the color that it has to have.
const MOSTLY: f64 = 0.9;

#[test]
fn dashboard_is_shown_as_it_was_meant() {
    kit::check(|| {
        if board().dashboard().panels.is_empty() {
            kit::symptom("the dashboard has no panels");
        }
    });
}

#[test]
fn rows_have_three_four_two_and_three_panels() {
    kit::check(|| {
        let board = board();
        rows(&board);
        for panel in &board.dashboard().panels {
            if let Some(row) = panel.row
                && board.dashboard().rows[row].collapsed
            {
                kit::symptom(format!("{panel} is hidden until somebody opens its row"));
            }
        }
    });
}

// The first row.

#[test]
fn first_row_is_green_in_healthy_times() {
    kit::check(|| {
        let board = board();
        let rows = rows(&board);
        for (case, seed) in [
            (Case::Quiet, 11),
            (Case::Busy, 12),
            (Case::Spike, 13),
            (Case::Release, 14),
            (Case::Night, 15),
            (Case::Canary, 16),
        ] {
            let scene = Pipeline::of(case, seed, AFTERMATH);
            let watched = scene.watch(&board);
            let allowed: &[Face] = match case {
                Case::Quiet => &[Face::Green],
                _ => &[Face::Green, Face::Yellow],
            };
            for &panel in &rows[0] {
                if !board.dashboard().panels[panel].reduces() {
                    kit::symptom(format!(
                        "{} has to be read: it shows a line and no light",
                        board.name(panel)
                    ));
                }
            }
            if let Some((_, panel, seen)) =
                watched.first_other(&rows[0], allowed, i64::MIN, i64::MAX)
            {
                let what = format!(
                    "{} shows {} ({}), and the pipeline is well: {}",
                    board.name(panel),
                    seen.face,
                    seen.text,
                    case.tells()
                );
                scene.fail(&watched, &rows[0], &what, None);
            }
        }
    });
}

#[test]
fn first_row_says_what_users_miss() {
    kit::check(|| {
        let board = board();
        let rows = rows(&board);
        for (nth, case, seed) in [
            (0, Case::Bottleneck(1), 21),
            (0, Case::SomeLate, 25),
            (1, Case::Failing, 22),
            // Those that are turned away fail too, and no counter has begun anew.
            (1, Case::Bottleneck(0), 24),
            (2, Case::Silence, 23),
        ] {
            let scene = Pipeline::of(case, seed, AFTERMATH);
            let watched = scene.watch(&board);
            scene.is_red(&watched, rows[0][nth], 3 * MINUTE);
            // Images that fail are neither late nor fewer, and late ones do not fail.
            if matches!(case, Case::Failing | Case::SomeLate) {
                for other in (0..3).filter(|&other| other != nth) {
                    let other = rows[0][other];
                    if watched
                        .first(&[other], Face::Red, scene.origin_ms)
                        .is_some()
                    {
                        let what = format!("{} is red as well", board.name(other));
                        scene.fail(&watched, &rows[0], &what, None);
                    }
                }
            }
        }
    });
}

/// What is red while a stage is short is not when it has been mended for some minutes.
#[test]
fn rows_are_calm_when_it_is_over() {
    kit::check(|| {
        let board = board();
        let rows = rows(&board);
        let scene = Pipeline::mended(Case::Bottleneck(1), 26);
        let watched = scene.watch(&board);
        for panel in [rows[0][0], rows[1][0], rows[1][1]] {
            let name = board.name(panel);
            let over_ms = scene.origin_ms + UNTIL_MENDED;
            let until = watched.between(scene.origin_ms, over_ms);
            if !until
                .into_iter()
                .any(|(_, seen)| seen[panel].face == Face::Red)
            {
                let what = format!("{}, and {name} is never red", scene.tells);
                scene.fail(&watched, &[panel], &what, None);
            }
        }
        let lights: Vec<usize> = rows[..2].iter().flatten().copied().collect();
        let due_ms = scene.origin_ms + UNTIL_MENDED + CALM_WITHIN;
        let calm = [Face::Green, Face::Yellow];
        if let Some((_, panel, seen)) = watched.first_other(&lights, &calm, due_ms, i64::MAX) {
            let what = format!(
                "{} shows {} ({}), and everything has been well for {}",
                board.name(panel),
                seen.face,
                seen.text,
                span(CALM_WITHIN)
            );
            let due = Some((due_ms, "nothing is red any more"));
            scene.fail(&watched, &[panel], &what, due);
        }
    });
}

// The second row.

#[test]
fn queues_point_at_the_stage() {
    kit::check(|| {
        let board = board();
        let panel = rows(&board)[1][0];
        for (nth, stage) in STAGES.iter().enumerate() {
            let scene = Pipeline::of(Case::Bottleneck(nth), 31 + nth as u64, FIRST_SIGN);
            let due_ms = scene.origin_ms + 2 * MINUTE;
            let shown = scene.shown(&board);
            let first = shown.iter().find(|(at_ms, panels)| {
                *at_ms >= scene.origin_ms && panels[panel].signal() == Some(Signal::Red)
            });
            let fail = |what: String| -> ! {
                let mut timeline = scene.timeline();
                for (at_ms, panels) in shown.iter().filter(|(at_ms, _)| at_ms % MINUTE == 0) {
                    timeline.add(*at_ms, Lane::Said, described(&panels[panel]));
                }
                timeline.add(due_ms, Lane::Due, format!("{stage} in red, alone"));
                kit::symptom(format!("{what} (seed {})\n{timeline}", scene.seed))
            };
            let Some((_, panels)) = first.filter(|(at_ms, _)| *at_ms <= due_ms) else {
                fail(format!(
                    "the queue of {stage} is full, and {} does not say so in two minutes",
                    board.name(panel)
                ));
            };
            let red: Vec<&str> = panels[panel]
                .readings
                .iter()
                .filter(|reading| reading.signal() == Some(Signal::Red))
                .map(|reading| reading.name.as_str())
                .collect();
            let points = |name: &&str| STAGES.iter().all(|of| name.contains(of) == (of == stage));
            if !red.iter().all(points) {
                fail(format!(
                    "{stage} is short, and what is red first on {} is {}",
                    board.name(panel),
                    red.iter()
                        .map(|name| format!("\"{name}\""))
                        .collect::<Vec<_>>()
                        .join(", ")
                ));
            }
        }
    });
}

#[test]
fn workers_cores_and_memory_are_seen() {
    kit::check(|| {
        let board = board();
        let rows = rows(&board);
        let [_, workers, cores, memory] = rows[1][..] else {
            return;
        };
        let scene = Pipeline::of(Case::Bottleneck(2), 41, AFTERMATH);
        let watched = scene.watch(&board);
        scene.is_red(&watched, workers, 3 * MINUTE);
        if watched
            .first(&[cores], Face::Red, scene.origin_ms)
            .is_some()
        {
            let what = format!(
                "{} is red, and the cores idle while a stage waits",
                board.name(cores)
            );
            scene.fail(&watched, &rows[1], &what, None);
        }
        let scene = Pipeline::of(Case::Cores, 42, AFTERMATH + MINUTE);
        scene.is_red(&scene.watch(&board), cores, 4 * MINUTE);
        let scene = Pipeline::of(Case::Leak, 43, TO_THE_END);
        let watched = scene.watch(&board);
        let end_ms = watched.moments().last().copied().unwrap_or(scene.origin_ms);
        if watched.share(memory, Face::Red, end_ms - MINUTE / 4, end_ms) < 1.0 {
            let what = format!(
                "a process has over 1.6 GB of the 2 GB at which it is killed, and {} is not red",
                board.name(memory)
            );
            scene.fail(&watched, &rows[1], &what, None);
        }
    });
}

#[test]
fn second_row_is_calm_in_healthy_times() {
    kit::check(|| {
        let board = board();
        let rows = rows(&board);
        for (case, seed) in [(Case::Busy, 52), (Case::Spike, 53), (Case::Release, 54)] {
            let scene = Pipeline::of(case, seed, AFTERMATH);
            let watched = scene.watch(&board);
            let calm = [Face::Green, Face::Yellow];
            if let Some((_, panel, seen)) = watched.first_other(&rows[1], &calm, i64::MIN, i64::MAX)
            {
                let what = format!(
                    "{} shows {} ({}), and nothing is short",
                    board.name(panel),
                    seen.face,
                    seen.text
                );
                scene.fail(&watched, &[panel], &what, None);
            }
        }
    });
}

// The third and the fourth row.

#[test]
fn third_row_shows_how_latency_is_distributed() {
    kit::check(|| {
        let board = board();
        let rows = rows(&board);
        let [heat, percentiles] = rows[2][..] else {
            return;
        };
        let scene = Pipeline::of(Case::Busy, 61, AFTERMATH);
        let (panels, at_ms) = (scene.shown_at_the_end(&board), &scene.within.to_ms);
        if let Some(trouble) = &panels[heat].trouble {
            kit::symptom(format!("{} shows an error: {trouble}", board.name(heat)));
        }
        let kind = &board.dashboard().panels[heat].kind;
        if kind != "heatmap" {
            kit::symptom(format!("{} is a `{kind}`, no heatmap", board.name(heat)));
        }
        let cells: Vec<(&str, f64)> = panels[heat]
            .readings
            .iter()
            .filter_map(|reading| Some((reading.name.as_str(), reading.value?)))
            .collect();
        let bounds = cells
            .iter()
            .filter(|(name, _)| name.trim_start_matches('+').parse::<f64>().is_ok())
            .count();
        if bounds < 8 || bounds != cells.len() {
            let names: Vec<&str> = cells.iter().map(|(name, _)| *name).collect();
            kit::symptom(format!(
                "{} has to have a row of cells for each bound of the histogram, named by it; it has \
                 {}: {}",
                board.name(heat),
                cells.len(),
                names.join(", ")
            ));
        }
        let total = scene.ask("sum(http_request_duration_seconds_count)", *at_ms);
        let most = cells.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        if most > total / 20.0 {
            kit::symptom(format!(
                "a cell of {} stands for {most:.0} images of the {total:.0} since the start, and \
                 should for those of its own time",
                board.name(heat)
            ));
        }
        let bound = |name: &str| {
            name.trim_start_matches('+')
                .parse::<f64>()
                .unwrap_or(f64::NAN)
        };
        let mut seen = BTreeSet::new();
        if let Some((name, _)) = cells.iter().find(|(name, _)| !seen.insert(*name)) {
            kit::symptom(format!(
                "{} has several rows of cells for the bound {name}",
                board.name(heat)
            ));
        }
        let a_second = scene.ask("sum(rate(http_request_duration_seconds_count[1m]))", *at_ms);
        let of_a_cell = Duration::from_secs(150).max(scene.range(&board) / 50);
        if most > a_second * of_a_cell.as_secs_f64() {
            kit::symptom(format!(
                "a cell of {} stands for {most:.0} images, those of {:.0} s, and should for those of \
                 its own time",
                board.name(heat),
                most / a_second
            ));
        }
        for le in ["0.1", "0.2"] {
            let truth = scene.ask(
                &format!(
                    "sum(rate(http_request_duration_seconds_bucket{{le=\"{le}\"}}[1m])) / \
                     sum(rate(http_request_duration_seconds_count[1m]))"
                ),
                *at_ms,
            );
            let wanted = le.parse::<f64>().expect("a bound");
            let cell = cells
                .iter()
                .find(|(name, _)| (bound(name) - wanted).abs() < 1e-9);
            if let Some((_, value)) = cell
                && (value / most - truth).abs() > 0.15
            {
                kit::symptom(format!(
                    "{:.0} % of the images take at most {le} s; by the cells of {} it is {:.0} %",
                    100.0 * truth,
                    board.name(heat),
                    100.0 * value / most
                ));
            }
        }
        for (case, seed) in [(Case::Busy, 61), (Case::ManyLate, 62), (Case::Canary, 63)] {
            let scene = Pipeline::of(case, seed, AFTERMATH);
            shows_the_percentiles(&board, percentiles, &scene);
        }
    });
}

/// Three lines, which are p50, p90 and p99 of all images.
fn shows_the_percentiles(board: &Board, panel: usize, scene: &Pipeline) {
    let shown = scene.shown_at_the_end(board);
    if let Some(trouble) = &shown[panel].trouble {
        kit::symptom(format!("{} shows an error: {trouble}", board.name(panel)));
    }
    let readings = shown[panel].readings.iter();
    let mut values: Vec<f64> = readings.filter_map(|reading| reading.value).collect();
    values.sort_by(f64::total_cmp);
    let truth = [0.5, 0.9, 0.99].map(|quantile| {
        let of_five_minutes = format!(
            "histogram_quantile({quantile}, sum by (le) \
             (rate(http_request_duration_seconds_bucket[5m])))"
        );
        scene.ask(&of_five_minutes, scene.within.to_ms)
    });
    let near = |found: &f64, truth: &f64| (found / truth - 1.0).abs() < 0.3;
    let right = values.len() == 3 && values.iter().zip(&truth).all(|(a, b)| near(a, b));
    let kind = &board.dashboard().panels[panel].kind;
    if !right || kind != "timeseries" {
        kit::symptom(format!(
            "{} is a `{kind}` with {}; p50, p90 and p99 over time are {:.3}, {:.3} and {:.3} s \
             (seed {}: {})",
            board.name(panel),
            values
                .iter()
                .map(|value| format!("{value:.3}"))
                .collect::<Vec<_>>()
                .join(", "),
            truth[0],
            truth[1],
            truth[2],
            scene.seed,
            scene.tells
        ));
    }
}

#[test]
fn fourth_row_shows_what_fails() {
    kit::check(|| {
        let board = board();
        let rows = rows(&board);
        let [kinds, top, log] = rows[3][..] else {
            return;
        };
        // Images are turned away, and a few fail as always.
        let scene = Pipeline::with_logs(Case::Bottleneck(0), 71, AFTERMATH);
        shows_the_kinds(&board, kinds, &scene);
        let shown = scene.shown_at_the_end(&board);
        if let Some(trouble) = &shown[top].trouble {
            kit::symptom(format!("{} shows an error: {trouble}", board.name(top)));
        }
        let entries = shown[top].readings.len();
        let are_some = shown[top]
            .readings
            .iter()
            .all(|reading| reading.value.is_some_and(|value| value > 0.0));
        if !(3..=5).contains(&entries) || !are_some {
            kit::symptom(format!(
                "{} shows {entries} entries: {}",
                board.name(top),
                described(&shown[top])
            ));
        }
        shows_the_most_frequent(&board.name(top), &shown[top], &scene);
        shows_the_error_lines(&board.dashboard().panels[log], &scene.logs);
        shows_the_kinds(&board, kinds, &Pipeline::of(Case::Failing, 72, AFTERMATH));
    });
}

/// The failures by kind add up to what fails, a second or as a share.
fn shows_the_kinds(board: &Board, panel: usize, scene: &Pipeline) {
    let shown = scene.shown_at_the_end(board);
    if let Some(trouble) = &shown[panel].trouble {
        kit::symptom(format!("{} shows an error: {trouble}", board.name(panel)));
    }
    let failing = scene.ask(
        "sum(rate(http_requests_total{status=~\"5..\"}[2m]))",
        scene.within.to_ms,
    );
    let all = scene.ask("sum(rate(http_requests_total[2m]))", scene.within.to_ms);
    let readings = shown[panel].readings.iter();
    let found: Vec<f64> = readings
        .filter_map(|reading| reading.value)
        .filter(|value| *value > 0.0)
        .collect();
    let sum: f64 = found.iter().sum();
    let right = [failing, failing / all, 100.0 * failing / all]
        .iter()
        .any(|truth| (sum / truth - 1.0).abs() < 0.3);
    if found.len() < 2 || !right {
        kit::symptom(format!(
            "{failing:.1} of {all:.1} images a second fail (seed {}: {}); {} shows {}",
            scene.seed,
            scene.tells,
            board.name(panel),
            described(&shown[panel])
        ));
    }
}

/// What a list of failures names is what fails most often, by whatever labels it tells them apart.
fn shows_the_most_frequent(name: &str, shown: &Shown, scene: &Pipeline) {
    let counted = scene.answer(
        "sum by (instance, method, route, status) (increase(http_requests_total[5m]))",
        scene.within.to_ms,
    );
    let labels = ["instance", "method", "route", "status"];
    // Which of a label's values an entry names; addresses have numbers that look like a status.
    let named = |entry: &str| -> BTreeMap<&str, String> {
        let mut entry = entry.to_owned();
        let mut found = BTreeMap::new();
        for label in labels {
            let values: BTreeSet<&str> = counted
                .iter()
                .filter_map(|(of, _)| of.get(label).map(String::as_str))
                .collect();
            let value = values.into_iter().find(|value| {
                entry.match_indices(value).any(|(at, _)| {
                    let alone = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric());
                    alone(entry[..at].chars().next_back())
                        && alone(entry[at + value.len()..].chars().next())
                })
            });
            if let Some(value) = value {
                entry = entry.replace(value, " ");
                found.insert(label, value.to_owned());
            }
        }
        found
    };
    let entries: Vec<BTreeMap<&str, String>> = shown
        .readings
        .iter()
        .map(|reading| named(&reading.name))
        .collect();
    let told_by: BTreeSet<&str> = entries.iter().flat_map(BTreeMap::keys).copied().collect();
    if told_by.is_empty() {
        kit::symptom(format!(
            "{name} does not say what fails, by status or route: {}",
            described(shown)
        ));
    }
    let mut failures: BTreeMap<BTreeMap<&str, String>, f64> = BTreeMap::new();
    for (of, count) in &counted {
        if of
            .get("status")
            .is_some_and(|status| status.starts_with('5'))
        {
            let kind = told_by
                .iter()
                .filter_map(|label| Some((*label, of.get(*label)?.clone())))
                .collect();
            *failures.entry(kind).or_insert(0.0) += count;
        }
    }
    let mut most: Vec<f64> = failures.values().copied().collect();
    most.sort_by(|a, b| b.total_cmp(a));
    let least = most.get(entries.len() - 1).copied().unwrap_or(0.0);
    for (entry, reading) in entries.iter().zip(&shown.readings) {
        let count = failures.get(entry).copied().unwrap_or(0.0);
        // Other windows count otherwise what is about as frequent.
        if count < 0.6 * least {
            let more = failures
                .iter()
                .filter(|(kind, of)| **of >= least && !entries.contains(kind))
                .map(|(kind, of)| {
                    let kind: Vec<&str> = kind.values().map(String::as_str).collect();
                    format!("{} ({of:.0})", kind.join(" "))
                })
                .collect::<Vec<_>>();
            kit::symptom(format!(
                "{name} lists \"{}\", which failed {count:.0} times in five minutes{}",
                reading.name,
                if more.is_empty() {
                    String::new()
                } else {
                    format!(", and leaves out {}", more.join(", "))
                }
            ));
        }
    }
}

/// A log panel shows the error lines, all of them and no others.
fn shows_the_error_lines(panel: &Panel, logs: &str) {
    let queries: Vec<&str> = panel
        .targets
        .iter()
        .filter(|target| {
            let source = target.source.as_deref().or(panel.source.as_deref());
            !target.hidden && source == Some("loki")
        })
        .map(|target| target.expression.as_str())
        .collect();
    if panel.kind != "logs" || queries.is_empty() {
        kit::symptom(format!(
            "{panel} is a `{}` of {}: no stream of log lines",
            panel.kind,
            panel.source.as_deref().unwrap_or("the default source")
        ));
    }
    let mut shown: BTreeSet<&str> = BTreeSet::new();
    for query in queries {
        let query = LogQuery::parse(query).unwrap_or_else(|error| {
            kit::symptom(format!(
                "{panel}: could not read the query `{query}`: {error}"
            ))
        });
        shown.extend(query.shown(&STREAM, logs));
    }
    let is_error = |line: &&str| line.contains("\"level\":\"error\"");
    let errors = logs.lines().filter(is_error).count();
    let of_them = shown.iter().copied().filter(is_error).count();
    if of_them < errors {
        kit::symptom(format!(
            "the pipeline has written {errors} lines about errors, and {panel} shows {of_them} of \
             them"
        ));
    }
    if let Some(other) = shown.iter().find(|line| !is_error(line)) {
        kit::symptom(format!(
            "among the error lines {panel} shows {} others, such as\n  {other}",
            shown.len() - of_them
        ));
    }
}

/// A pipeline that has run, ready to be looked at.
struct Pipeline {
    scene: Scene,
    /// Empty unless it was asked for.
    logs: String,
}

impl Deref for Pipeline {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl Pipeline {
    /// A pipeline that runs for `after_ms` from when it happens.
    fn of(case: Case, seed: u64, after_ms: i64) -> Self {
        Pipeline::played(fleet(case, seed), case, seed, after_ms)
    }

    /// The same, mended after [`UNTIL_MENDED`], and for a minute longer than it takes to be calm.
    fn mended(case: Case, seed: u64) -> Self {
        let mut fleet = fleet(case, seed);
        for scenario in fleet.iter_mut().flat_map(|setup| &mut setup.scenarios) {
            scenario.lasts = Some(UNTIL_MENDED as f64 / 1_000.0);
        }
        let mut mended = Pipeline::played(fleet, case, seed, UNTIL_MENDED + CALM_WITHIN + MINUTE);
        mended.scene.over_ms = Some(mended.origin_ms + UNTIL_MENDED);
        mended
    }

    /// The same with its log, of which lines of `info` about images are a sample.
    fn with_logs(case: Case, seed: u64, after_ms: i64) -> Self {
        let mut fleet = fleet(case, seed);
        let own = own_lines(&fleet);
        for setup in &mut fleet {
            setup.log_one_in = 50;
        }
        let mut scene = Pipeline::played(fleet, case, seed, after_ms);
        scene.logs.push_str(&own);
        scene
    }

    fn played(fleet: Vec<Setup>, case: Case, seed: u64, after_ms: i64) -> Self {
        kit::step(format!(
            "simulating a pipeline: {}, seed {seed}",
            case.tells()
        ));
        let begins_ms = fleet[0].begins * SECOND;
        let runs: Vec<Run> = fleet
            .into_iter()
            .map(|setup| simulate(&setup.lasting(STARTS_AT + after_ms as f64 / 1_000.0)))
            .collect();
        kit::step(format!("looking at it: {}, seed {seed}", case.tells()));
        let origin_ms = begins_ms + STARTS_AT as i64 * SECOND;
        let scene = Scene {
            storage: drill::storage_of(runs.iter().flat_map(Run::series)),
            tells: case.tells().to_owned(),
            seed,
            within: Span::new(begins_ms + SETTLED_MS, origin_ms + after_ms),
            origin_ms,
            over_ms: None,
        };
        Pipeline {
            scene,
            logs: runs.iter().map(Run::logs).collect(),
        }
    }

    fn watch<'b>(&self, board: &'b Board) -> Watched<'b> {
        self.scene.watch(board, LOOK, SCRAPE)
    }

    /// Each moment with what every panel shows, series by series.
    fn shown(&self, board: &Board) -> Vec<(i64, Vec<Shown>)> {
        let Span { from_ms, to_ms } = self.within;
        self.shown_at(board, moments(from_ms, to_ms, LOOK).collect())
    }

    /// What every panel shows at the last moment.
    fn shown_at_the_end(&self, board: &Board) -> Vec<Shown> {
        let mut shown = self.shown_at(board, vec![self.within.to_ms]);
        shown.swap_remove(0).1
    }

    /// How far back the dashboard looks.
    fn range(&self, board: &Board) -> Duration {
        board.dashboard().range.unwrap_or(Duration::from_mins(15))
    }

    fn shown_at(&self, board: &Board, moments: Vec<i64>) -> Vec<(i64, Vec<Shown>)> {
        let range_ms = i64::try_from(self.range(board).as_millis()).unwrap_or(i64::MAX / 16);
        let views: Vec<View> = moments
            .iter()
            .map(|&at_ms| {
                let mut view = View::new(at_ms - range_ms, at_ms);
                view.scrape_interval = SCRAPE;
                view
            })
            .collect();
        let shown = board
            .dashboard()
            .watch(&Engine::default(), &self.storage, &views);
        moments.into_iter().zip(shown).collect()
    }

    /// The only value that a query has.
    fn ask(&self, query: &str, at_ms: i64) -> f64 {
        let query = Query::parse(query).expect("a query of the checker");
        let answer = Engine::default().instant(&self.storage, &query, at_ms);
        let value = answer.expect("it can be evaluated").value.single();
        value.expect("it has one value")
    }

    /// The values that a query has, each with its labels.
    fn answer(&self, query: &str, at_ms: i64) -> Vec<(BTreeMap<String, String>, f64)> {
        let query = Query::parse(query).expect("a query of the checker");
        let answer = Engine::default().instant(&self.storage, &query, at_ms);
        let value = answer.expect("it can be evaluated").value;
        let samples = value.samples().iter();
        samples
            .map(|sample| {
                let labels = sample.labels.iter();
                let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
                (labels.collect(), sample.value)
            })
            .collect()
    }

    fn is_red(&self, watched: &Watched<'_>, panel: usize, within_ms: i64) {
        let unseen = "and the panel for that does not say so";
        if let Err(complaint) = self.turns_red(watched, panel, within_ms, MOSTLY, unseen) {
            kit::symptom(complaint);
        }
    }

    fn fail(
        &self,
        watched: &Watched<'_>,
        panels: &[usize],
        what: &str,
        due: Option<(i64, &str)>,
    ) -> ! {
        kit::symptom(self.complaint(watched, panels, what, due))
    }
}

fn described(shown: &Shown) -> String {
    if shown.readings.is_empty() {
        return "nothing".to_owned();
    }
    let readings = shown.readings.iter();
    readings
        .map(|reading| format!("{} {}", reading.name, reading.text))
        .collect::<Vec<_>>()
        .join(", ")
}

fn board() -> Board {
    kit::or_symptom(Submission::of(kit::lab_dir!()).board(subject::DASHBOARD))
}

/// The rows, as many panels in each as was asked for.
fn rows(board: &Board) -> &[Vec<usize>] {
    let found: Vec<usize> = board.rows().iter().map(Vec::len).collect();
    if found != ROWS {
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        kit::symptom(format!(
            "the rows have {} panels, and should have 3, 4, 2 and 3",
            found.join(", ")
        ));
    }
    board.rows()
}
