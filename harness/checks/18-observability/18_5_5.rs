//! 18.5.5: a heap that grows, and the day on which it is full.

use super::subject::{AnalysisError, Life, Report, Verdict, analyze};
use incident::heap_week::{self, Course, Run};
use kit::answers::Tolerance;
use kit::dump;
use kit::evidence::Evidence;
use kit::seed::Seed;
use telemetry::metrics::Scrape;

const SEEDS: [u64; 3] = [5, 19, 71];
const DAY: f64 = 86_400.0;
/// The limit of the brief, in bytes.
const LIMIT: f64 = 8e9;
/// The process of the week: its start, and the time of its last sample.
const STARTED: f64 = 1_759_745_553.0;
const LAST: f64 = 1_760_270_400.0;

/// What messages call the canonical dump.
const BRIEF: &str = "the week of the brief";

const HEAP: &str = "go_memstats_heap_inuse_bytes";
const TRAFFIC: &str = "job:http_requests:rate";
const CYCLES: &str = "job:gc_cycles:rate";
const ALLOCATED: &str = "job:heap_allocations_bytes:rate";

// The learner's answers, on the dump of the brief.

#[test]
fn leak_is_answered_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        let verdict = answers.choice("leak.verdict", &["yes", "no"]);
        let cited = answers.list("leak.evidence");
        if verdict == "no" {
            kit::symptom(
                "`leak.verdict` is \"no\", and the heap goes from 2.1 GB to 5.4 GB in six days",
            );
        }
        evidence("the service leaks")
            .proves("what grows", &[HEAP])
            .proves("the work that it is given", &[TRAFFIC])
            .proves("what the service means to keep", &["session_cache_entries"])
            .fits(&["process_start_time_seconds", "go_goroutines", ALLOCATED])
            .demand(&cited);
    });
}

#[test]
fn rates_are_answered() {
    kit::check(|| {
        let answers = kit::answers!();
        for (key, truth, meaning) in [
            ("rate.mean", 0.55, "the mean growth, in GB a day"),
            (
                "rate.first_day",
                0.3,
                "the growth from day 1 to day 2, in GB",
            ),
            (
                "rate.last_day",
                0.8,
                "the growth from day 6 to day 7, in GB",
            ),
        ] {
            answers.expect_number(key, truth, Tolerance::Relative(0.01), meaning);
        }
    });
}

#[test]
fn out_of_memory_is_answered() {
    kit::check(|| {
        let answers = kit::answers!();
        // The daily growth grows by 0.1 GB a day: 2.1, 2.4, 2.8, 3.3, … and after n days
        // 2.1 + 0.25 n + 0.05 n² GB.
        let days = (-0.25 + (0.25_f64 * 0.25 + 4.0 * 0.05 * 5.9).sqrt()) / 0.1;
        for (key, truth, meaning) in [
            (
                "out_of_memory.at_mean_rate",
                7.0 + 2.6 / 0.55,
                "the day on which 8 GB are reached at the mean rate",
            ),
            (
                "out_of_memory.as_it_has_grown",
                1.0 + days,
                "the day on which 8 GB are reached if each day adds more than the day before",
            ),
        ] {
            answers.expect_number(key, truth, Tolerance::Absolute(0.1), meaning);
        }
        let plan = answers.choice(
            "out_of_memory.plan_by",
            &["the mean rate", "the growth as it has grown"],
        );
        if plan == "the mean rate" {
            kit::symptom(
                "`out_of_memory.plan_by` is \"the mean rate\": from day 6 to day 7 the heap grew \
                 by 0.8 GB, which is not 0.55",
            );
        }
        answers.expect_number(
            "out_of_memory.restart_buys",
            days,
            Tolerance::Absolute(0.1),
            "the days from a fresh 2.1 GB to the limit, if it goes as it went",
        );
    });
}

#[test]
fn pauses_are_explained_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        let explained_by = answers.choice(
            "pauses.explained_by",
            &[
                "there is more to mark",
                "it collects more often",
                "requests allocate more",
            ],
        );
        let cited = answers.list("pauses.evidence");
        match explained_by {
            "it collects more often" => kit::symptom(
                "`pauses` are put down to more collections, and there were 0.0458 a second on \
                 day 1 and 0.0177 on day 7",
            ),
            "requests allocate more" => kit::symptom(
                "`pauses` are put down to the requests, which allocated 96.1 MB a second on day 1 \
                 and 95.6 on day 7",
            ),
            _ => {}
        }
        evidence("the pauses grow with the heap")
            .proves("what is marked", &[HEAP])
            .proves("how often that is done", &[CYCLES])
            .fits(&["job:gc_pause_seconds:p99", ALLOCATED, TRAFFIC])
            .demand(&cited);
    });
}

#[test]
fn profiles_are_taken_in_order() {
    kit::check(|| {
        let steps = kit::answers!().list("profiles.steps");
        let expected = ["c", "f", "a", "h", "e"];
        let known = ["a", "b", "c", "d", "e", "f", "g", "h"];
        if let Some(unknown) = steps.iter().find(|step| !known.contains(&step.as_str())) {
            kit::symptom(format!(
                "`profiles.steps` has \"{unknown}\", which is no step"
            ));
        }
        let at = |step: &str| steps.iter().position(|given| given == step);
        for (step, symptom) in [
            (
                "d",
                "`profiles.steps` has \"d\": where the processor spends its time does not say \
                 what is kept",
            ),
            (
                "g",
                "`profiles.steps` has \"g\": what was allocated and freed again is in there too",
            ),
        ] {
            if at(step).is_some() {
                kit::symptom(symptom);
            }
        }
        if at("b").is_some_and(|restart| restart + 1 < steps.len()) {
            kit::symptom(
                "`profiles.steps` restarts the service before the last step, and what had leaked \
                 is gone with it",
            );
        }
        // The line of code is found; a restart after that takes nothing away.
        let found = steps.strip_suffix(&["b".to_owned()]).unwrap_or(&steps);
        assert!(
            found == expected,
            "`profiles.steps` is {}: play it through, and ask at each step whether what it needs \
             is there, and whether anything is left out",
            steps.join(", ")
        );
    });
}

#[test]
fn site_is_named() {
    kit::check(|| {
        let answers = kit::answers!();
        let site = answers.text("site.function");
        let grown = answers.number("site.megabytes");
        let (first, second) = (
            kit::fixture!("heap-16h.folded"),
            kit::fixture!("heap-17h.folded"),
        );
        let under = |profile: &str| -> f64 {
            profile
                .lines()
                .filter_map(|line| line.rsplit_once(' '))
                .filter(|(stack, _)| stack.split(';').any(|frame| frame == site))
                .map(|(_, bytes)| bytes.parse::<f64>().expect("the fixture is well-formed"))
                .sum()
        };
        if under(&second) == 0.0 {
            kit::symptom(format!(
                "`site.function` is \"{site}\", which is on no stack of the profiles"
            ));
        }
        let truth = (under(&second) - under(&first)) / 1e6;
        assert!(
            site == "audit.(*Feed).Subscribe",
            "`site.function` is \"{site}\", under which {truth:+.1} MB came in the hour: is there \
             a function under which more came, that is not only a caller of the one that keeps it?"
        );
        answers.expect_number(
            "site.megabytes",
            14.5,
            Tolerance::Relative(0.01),
            "what came under that function in the hour",
        );
        assert!(grown > 0.0, "`site.megabytes` is {grown}");
    });
}

// The analyzer, on the dump of the brief and on services that the learner has not seen.

#[test]
fn restart_begins_a_new_life() {
    kit::check(|| {
        let report = report(&kit::fixture!("week.om"), LIMIT, BRIEF);
        assert!(
            report.lives.len() == 1 && report.lives[0].started == STARTED,
            "the week of the brief: one process lived for a week, and one was three hours old; \
             the report speaks of {}",
            started(&report)
        );
        for_each_run(|run, name| {
            let report = self::report(&run.metrics, run.limit, name);
            let right = report.lives.len() == run.lives.len()
                && (report.lives.iter())
                    .zip(&run.lives)
                    .all(|(life, truth)| life.started == truth.started as f64);
            let truth: Vec<String> = (run.lives.iter())
                .map(|truth| truth.started.to_string())
                .collect();
            assert!(
                right,
                "{name}: the processes started at {}; the report speaks of {}",
                truth.join(" and "),
                started(&report)
            );
        });
    });
}

#[test]
fn leaks_are_told_from_other_growth() {
    kit::check(|| {
        let report = report(&kit::fixture!("week.om"), LIMIT, BRIEF);
        let found = lived(&report, STARTED, BRIEF);
        assert!(
            found.verdict == Verdict::Leaking,
            "the week of the brief: from 3.3 GB to 5.4 GB in the last three days, at 411 requests \
             a second then and 410 in the end; the report says {:?}",
            found.verdict
        );
        for_each_life(|life, truth, name| {
            let expected = match truth.course {
                Course::Level | Course::WarmUp => Verdict::Level,
                Course::Launch => Verdict::WithTraffic,
                Course::Linear | Course::Accelerating => Verdict::Leaking,
            };
            assert!(
                life.verdict == expected,
                "{name}: {}; the report says {:?}",
                match truth.course {
                    Course::Level => "the heap follows the hours of the day and nothing else",
                    Course::WarmUp => "a cache has filled, and the heap is level since",
                    Course::Launch => "the requests a second have grown by more than the heap",
                    Course::Linear | Course::Accelerating =>
                        "the heap grows every day, and the traffic does not",
                },
                life.verdict
            );
            assert!(
                life.full.is_some() == (expected == Verdict::Leaking),
                "{name}: the verdict is {expected:?}, and the report says that it is full at {:?}",
                life.full
            );
        });
    });
}

#[test]
fn growth_goes_from_level_to_level() {
    kit::check(|| {
        let canonical = report(&kit::fixture!("week.om"), LIMIT, BRIEF);
        let expect = |found: f64, truth: f64, name: &str| {
            let truth_if_unasked = match name {
                BRIEF => String::new(),
                _ => format!(" It is {:.3} GB.", truth / 1e9),
            };
            assert!(
                (found - truth).abs() <= 0.02 * truth.abs() + 8e6,
                "{name}: the report says that the level goes up by {:.3} GB a day, from the first \
                 day to the last whole one.{truth_if_unasked}",
                found / 1e9
            );
        };
        let week = lived(&canonical, STARTED, BRIEF);
        expect(week.bytes_per_day, 0.55e9, BRIEF);
        for_each_life(|life, truth, name| expect(life.bytes_per_day, truth.bytes_per_day, name));
    });
}

#[test]
fn mean_rate_is_followed_from_the_end() {
    kit::check(|| {
        let report = report(&kit::fixture!("week.om"), LIMIT, BRIEF);
        let week = lived(&report, STARTED, BRIEF);
        let found = week.full.map(|full| full.at_mean_rate);
        expect_moment(found, LAST, LAST + 2.6 / 0.55 * DAY, BRIEF);
        for_each_life(|life, truth, name| {
            if let Some(expected) = truth.full_linear {
                let found = life.full.map(|full| full.at_mean_rate);
                expect_moment(found, truth.last_level_at, expected, name);
            }
        });
    });
}

/// The week of the brief, from 2.1 to 5.4 GB as well, with its growth in the opposite order.
fn a_week_that_adds_less_every_day() -> String {
    let mut week = kit::fixture!("week.om").to_string();
    for (was, is) in [
        ("2400000000", "2900000000"),
        ("2800000000", "3600000000"),
        ("3300000000", "4200000000"),
        ("3900000000", "4700000000"),
        ("4600000000", "5100000000"),
    ] {
        let of = |bytes: &str| format!("{HEAP} {bytes} ");
        assert!(week.contains(&of(was)), "the fixture has no {was}");
        week = week.replace(&of(was), &of(is));
    }
    week
}

#[test]
fn growth_that_grows_is_followed_too() {
    kit::check(|| {
        let canonical = report(&kit::fixture!("week.om"), LIMIT, BRIEF);
        let week = lived(&canonical, STARTED, BRIEF);
        let found = week.full.map(|full| full.as_it_has_grown);
        let days = (-0.85 + (0.85_f64 * 0.85 + 4.0 * 0.05 * 2.6).sqrt()) / 0.1;
        expect_moment(found, LAST, LAST + days * DAY, BRIEF);

        let slowing = a_week_that_adds_less_every_day();
        let name = "a week that adds less every day";
        let slowing = report(&slowing, LIMIT, name);
        let week = lived(&slowing, STARTED, name);
        let found = week.full.map(|full| full.as_it_has_grown);
        expect_moment(found, LAST, LAST + 2.6 / 0.55 * DAY, name);

        for_each_life(|life, truth, name| {
            if let Some(expected) = truth.full_accelerating {
                let found = life.full.map(|full| full.as_it_has_grown);
                expect_moment(found, truth.last_level_at, expected, name);
            }
        });
    });
}

#[test]
fn incomplete_metrics_are_errors() {
    kit::check(|| {
        let canonical = kit::fixture!("week.om");
        let without = |name: &str| dump::without(&canonical, name);
        let three_days = dump::at(&canonical, |seconds| seconds < LAST - 3.5 * DAY);
        for (what, text) in [
            ("an empty text", String::new()),
            (
                "a page of HTML",
                "<html>502 Bad Gateway</html>\n".to_owned(),
            ),
            ("a week without the heap", without(HEAP)),
            ("a week without the traffic", without(TRAFFIC)),
            (
                "a week without the start of the process",
                without("process_start_time_seconds"),
            ),
            ("three days", three_days),
        ] {
            kit::step(format!("analyzing {what}"));
            if let Ok(report) = analyze(&text, LIMIT) {
                kit::symptom(format!(
                    "{what} gives a report instead of an error: {report:?}"
                ));
            }
        }
        for name in [HEAP, TRAFFIC] {
            let what = format!("a week whose last `{name}` has no time");
            let (text, line) = dump::timeless(&canonical, name);
            kit::step(format!("analyzing {what}"));
            match analyze(&text, LIMIT) {
                Err(AnalysisError::Timeless(said)) if said == line => {}
                Err(error) => kit::symptom(format!(
                    "{what}, on line {line}, gives \"{error}\": where is the fault to be looked \
                     for?"
                )),
                Ok(report) => kit::symptom(format!(
                    "{what} gives a report instead of an error: {report:?}"
                )),
            }
        }
    });
}

/// Evidence for a claim about the canonical dump: series by their names.
fn evidence(claim: &str) -> Evidence<'_> {
    let scrape = Scrape::parse(&kit::fixture!("week.om")).expect("the fixture is well-formed");
    let known: Vec<String> = scrape.iter().map(|s| s.name.to_string()).collect();
    Evidence::for_claim(claim).exists(move |item| known.iter().any(|series| series == item))
}

/// Services of two lives, with each course as the first and as the second one, from each seed.
fn for_each_run(mut judge: impl FnMut(&Run, &str)) {
    kit::seed::each(&SEEDS, |seed| {
        for (nth, first) in Course::ALL.into_iter().enumerate() {
            let turn = 1 + usize::try_from(seed.0 % 4).expect("small");
            let second = Course::ALL[(nth + turn) % Course::ALL.len()];
            let Seed(own) = seed.derive(nth as u64);
            let run = heap_week::simulate(&[first, second], own);
            judge(&run, &format!("an unseen service (seed {seed}, {nth})"));
        }
    });
}

fn for_each_life(mut judge: impl FnMut(&Life, &heap_week::LifeTruth, &str)) {
    for_each_run(|run, name| {
        let report = report(&run.metrics, run.limit, name);
        for truth in &run.lives {
            let name = format!("{name}, the process of {}", truth.started);
            judge(lived(&report, truth.started as f64, &name), truth, &name);
        }
    });
}

fn report(metrics: &str, limit: f64, name: &str) -> Report {
    kit::step(format!("analyzing {name}"));
    analyze(metrics, limit)
        .unwrap_or_else(|error| kit::symptom(format!("{name}: no report, but {error}")))
}

fn lived<'r>(report: &'r Report, started: f64, name: &str) -> &'r Life {
    let life = report.lives.iter().find(|life| life.started == started);
    life.unwrap_or_else(|| {
        kit::symptom(format!(
            "{name}: the report does not speak of it, only of {}",
            self::started(report)
        ))
    })
}

/// The processes that a report speaks of.
fn started(report: &Report) -> String {
    let starts: Vec<String> = (report.lives.iter())
        .map(|life| format!("one that started at {}", life.started))
        .collect();
    match starts.as_slice() {
        [] => "none".to_owned(),
        starts => starts.join(" and "),
    }
}

/// Holds a moment at which the heap is full against the truth, by the time that is left. On the
/// week of the brief the message leaves out what the learner is asked for.
fn expect_moment(found: Option<f64>, from: f64, truth: f64, name: &str) {
    let left = (truth - from) / DAY;
    let Some(found) = found else {
        kit::symptom(format!(
            "{name}: it leaks, and the report does not say when the heap is full"
        ));
    };
    let said = (found - from) / DAY;
    let asked = name == BRIEF;
    assert!(
        (said - left).abs() <= 0.05 * left,
        "{name}: the report says that the heap is full {said:.2} days after its last whole day, \
         and it is full {}",
        match (asked, said < left) {
            (false, _) => format!("after {left:.2}"),
            (true, true) => "later".to_owned(),
            (true, false) => "earlier".to_owned(),
        }
    );
}
