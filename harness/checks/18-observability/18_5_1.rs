//! 18.5.1: eight panels at three in the morning.

use super::subject::{AnalysisError, Cause, Report, Symptom, analyze};
use incident::nights::{self, Night, Story, Trouble};
use kit::answers::Tolerance;
use kit::dump;
use kit::evidence::Evidence;
use kit::seed::Seed;
use telemetry::metrics::Scrape;

const SEEDS: [u64; 1] = [23];
/// What messages call the canonical dump.
const BRIEF: &str = "the night of the brief";
/// The first sample of the canonical dump at which users notice, and the last sample.
const NOTICED: f64 = 1_760_410_290.0;

/// Seconds of a night from which a panel is scaled.
const ALWAYS: f64 = 0.0;
const BUSIER: f64 = 480.0;

const REQUESTS: &str = "job:http_requests:rate1m";
const LATENCY: &str = "job:http_request_duration_seconds:p99_1m";
const ERRORS: &str = "job:http_request_errors:ratio1m";
const CPU: &str = "job:process_cpu:utilization1m";
const MEMORY: &str = "job:process_resident_memory:bytes";
const TASKS: &str = "job:tokio_alive_tasks:sum";
const CALLS: &str = "job:db_call_duration_seconds:p99_1m";
const QUERIES: &str = "job:db_query_duration_seconds:p99_1m";
const ACQUIRE: &str = "job:db_acquire_duration_seconds:p99_1m";
const LENT: &str = "job:db_connections:lent";
const MAX: &str = "job:db_connections:max";

// The learner's answers, on the dump of the brief.

#[test]
fn symptom_is_answered_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        let verdict = answers.choice(
            "symptom.verdict",
            &[
                "answers are slow",
                "answers fail",
                "answers are slow and fail",
                "the service is down",
            ],
        );
        let cited = answers.list("symptom.evidence");
        match verdict {
            "the service is down" => kit::symptom(
                "`symptom.verdict` is \"the service is down\", and 4,800 requests a second are \
                 answered, 99.9 % of them well",
            ),
            "answers fail" | "answers are slow and fail" => kit::symptom(format!(
                "`symptom.verdict` is \"{verdict}\", and one answer in a thousand fails, as on \
                 any other night"
            )),
            _ => {}
        }
        evidence("answers are slow")
            .proves("what users wait", &[LATENCY])
            .proves("whether they get their answer in the end", &[ERRORS])
            .fits(&[REQUESTS])
            .demand(&cited);
    });
}

#[test]
fn cause_is_answered_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        let verdict = answers.choice(
            "cause.verdict",
            &[
                "more traffic than the connections can serve",
                "a query that takes longer",
                "connections that are not given back",
                "tasks that leak",
                "too few cores",
            ],
        );
        let query = answers.text("cause.query");
        let cited = answers.list("cause.evidence");
        match verdict {
            "more traffic than the connections can serve" => kit::symptom(
                "`cause.verdict` is traffic, of which there was more at 02:40, with half of the \
                 connections lent",
            ),
            "connections that are not given back" => kit::symptom(
                "`cause.verdict` is connections that are not given back: the number of answers a \
                 second would go on falling until none is left, and it stays at 4,800",
            ),
            "tasks that leak" => kit::symptom(
                "`cause.verdict` is tasks that leak: those would go on growing, and these stop at \
                 24,300",
            ),
            "too few cores" => kit::symptom("`cause.verdict` is too few cores: 62 % of them idle"),
            _ => {}
        }
        assert!(
            query == "list_order_lines",
            "`cause.query` is \"{query}\", and its p99 is at 03:10 what it was at 02:40, or the \
             dump has none of it"
        );
        evidence("a query takes longer and uses up the connections")
            .proves("the query", &[QUERIES])
            .proves("the connections", &[LENT])
            .proves("the load, which could have been the reason", &[REQUESTS])
            .fits(&[MAX, CALLS, ACQUIRE, LATENCY])
            .demand(&cited);
    });
}

#[test]
fn connections_are_counted() {
    kit::check(|| {
        let answers = kit::answers!();
        for (key, truth, meaning) in [
            (
                "connections.held_before_ms",
                9.0,
                "for how long a request held a connection at 02:40",
            ),
            (
                "connections.held_now_ms",
                20.83,
                "for how long a request holds a connection at 03:10",
            ),
        ] {
            answers.expect_number(key, truth, Tolerance::Relative(0.02), meaning);
        }
        let shows = answers.choice(
            "connections.panel_7_shows",
            &["the query alone", "the wait for a connection above all"],
        );
        if shows == "the query alone" {
            kit::symptom(
                "`connections.panel_7_shows` is the query alone: if one query in a hundred took \
                 7.9 s, the mean would be 79 ms, and 100 connections would serve 1,266 a second",
            );
        }
    });
}

#[test]
fn tasks_are_explained_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        let why = answers.choice(
            "tasks.why",
            &[
                "more requests arrive",
                "requests leave tasks behind",
                "requests stay longer",
                "requests are tried again",
            ],
        );
        // 24,300 tasks at 4,800 a second; whoever leaves out the 750 that are no requests gets 4.9.
        answers.expect_number(
            "tasks.mean_seconds",
            5.0,
            Tolerance::Absolute(0.2),
            "how long a request stays on average, in seconds",
        );
        let cited = answers.list("tasks.evidence");
        match why {
            "more requests arrive" | "requests are tried again" => kit::symptom(format!(
                "`tasks.why` is \"{why}\", and the service answers 200 a second fewer than before"
            )),
            "requests leave tasks behind" => kit::symptom(
                "`tasks.why` is \"requests leave tasks behind\": at 03:00 there are as many as at \
                 03:10, and 4,800 requests a second have come in between",
            ),
            _ => {}
        }
        evidence("requests stay longer")
            .proves("the tasks", &[TASKS])
            .proves("how many come", &[REQUESTS])
            .proves("how long they stay", &[LATENCY, ACQUIRE, CALLS])
            .fits(&[LENT, MAX])
            .demand(&cited);
    });
}

#[test]
fn errors_are_explained() {
    kit::check(|| {
        let answers = kit::answers!();
        let why = answers.choice(
            "errors.why",
            &[
                "retries hide them",
                "nothing gives up, and every request is served in the end",
                "those that fail are not counted yet",
                "only a few requests use the database",
            ],
        );
        match why {
            "retries hide them" => kit::symptom(
                "`errors.why` is retries, which would have been more requests and more queries",
            ),
            "those that fail are not counted yet" => kit::symptom(
                "`errors.why` is that they are not counted yet, and the service has been slow for \
                 18 minutes",
            ),
            "only a few requests use the database" => kit::symptom(
                "`errors.why` is that few requests use the database: 23,500 more than before are \
                 waiting, at 4,800 a second",
            ),
            _ => {}
        }
        let timeout = answers.choice("errors.timeout", &["1 s", "10 s", "30 s"]);
        if timeout != "1 s" {
            kit::symptom(format!(
                "`errors.timeout` is {timeout}, and 99 of 100 requests have their connection before \
                 7.9 s are over"
            ));
        }
    });
}

#[test]
fn action_comes_before_repair() {
    kit::check(|| {
        let steps = kit::answers!().list("action.steps");
        let known = ["a", "b", "c", "d", "e", "f", "g", "h"];
        if let Some(unknown) = steps.iter().find(|step| !known.contains(&step.as_str())) {
            kit::symptom(format!(
                "`action.steps` has \"{unknown}\", which is no step"
            ));
        }
        let at = |step: &str| steps.iter().position(|given| given == step);
        for (step, symptom) in [
            (
                "b",
                "`action.steps` has \"b\": as many requests arrive after a restart as before it, \
                 and the query takes as long",
            ),
            (
                "g",
                "`action.steps` has \"g\": the cores of the service idle, and more instances send \
                 more queries to the same database",
            ),
        ] {
            if at(step).is_some() {
                kit::symptom(symptom);
            }
        }
        let mut sorted = steps.clone();
        sorted.sort_unstable();
        assert!(
            sorted == ["a", "c", "d", "e", "f", "h"],
            "`action.steps` is {}: is one missing, or in there twice?",
            steps.join(", ")
        );
        if at("c") == Some(0) {
            kit::symptom(
                "`action.steps` begins with \"c\": whoever waits for longer than the limit gets an \
                 error instead of an answer, and the query keeps its connections for as long as \
                 before",
            );
        }
        if at("d") != Some(0) {
            kit::symptom(
                "`action.steps` begins with something else while 4,800 users a second wait for \
                 five seconds",
            );
        }
        for (earlier, later, symptom) in [
            ("f", "a", "repairs what has not been looked at"),
            ("a", "h", "ends the makeshift before there is a repair"),
            // The limit may come at any time: it helps now against the queue, and later against the
            // next one.
            (
                "h",
                "e",
                "prepares for the next time before this one is over",
            ),
        ] {
            assert!(
                at(earlier) < at(later),
                "`action.steps` is {}, which {symptom}",
                steps.join(", ")
            );
        }
    });
}

// The analyzer, on the dump of the brief and on nights that the learner has not seen.

#[test]
fn healthy_nights_are_left_alone() {
    kit::check(|| {
        for_each(
            &[
                Story::Busy,
                Story::Spike,
                Story::InnocentDeploy,
                Story::BatchJob,
            ],
            |report, night, name| {
                assert!(
                    report.symptom == Symptom::None
                        && report.cause == Cause::Nothing
                        && report.since.is_none()
                        && report.evidence.is_empty(),
                    "{name}: nobody notices anything in the last five minutes; the report says \
                     {:?}, {:?}, since {:?}, by {:?}",
                    report.symptom,
                    report.cause,
                    report.since,
                    report.evidence
                );
                assert_eq!(night.trouble, Trouble::Nothing);
            },
        );
        let nothing = |seen: &str, report: Report, name: &str| {
            assert!(
                report.symptom == Symptom::None
                    && report.cause == Cause::Nothing
                    && report.since.is_none()
                    && report.evidence.is_empty(),
                "{name}: {seen}; the report says {:?}, {:?}, since {:?}, by {:?}",
                report.symptom,
                report.cause,
                report.since,
                report.evidence
            );
        };
        // Half as much to do again, and more than twice as much, and cores enough for it.
        for factor in [1.4, 2.4] {
            let seen = format!(
                "{factor} times as many requests come as in the beginning, and with them go \
                 {factor} times as many tasks, and answers are as fast as ever"
            );
            for_each_scaled(
                Story::Quiet,
                &[(REQUESTS, factor), (TASKS, factor), (CPU, factor)],
                BUSIER,
                |report, _, name| nothing(&seen, report, name),
            );
        }
        for_each(&[Story::Quiet], |_, night, name| {
            let metrics = with_strays_at_both_ends(&night.metrics);
            let seen = "p99 is a third of the usual in the first sample and three times the usual \
                        in the last one, and ordinary in between";
            nothing(seen, self::report(&metrics, name), name);
        });
        for_each_scaled(
            Story::Quiet,
            &[(LATENCY, 8.0), (TASKS, 60.0)],
            ALWAYS,
            |report, _, name| {
                let seen = "answers take 3 s at the 99th percentile, with 5,000 tasks, all night";
                nothing(seen, report, name);
            },
        );
    });
}

#[test]
fn symptom_is_what_users_notice() {
    kit::check(|| {
        let report = report(&kit::fixture!("night.om"), BRIEF);
        assert!(
            report.symptom == Symptom::Slow,
            "{BRIEF}: the slowest answers take 8.2 s, and one in a thousand fails; the report says \
             {:?}",
            report.symptom
        );
        for_each(
            &[Story::TaskLeak, Story::FailingDeploy, Story::Deadlock],
            |report, night, name| {
                let (expected, seen) = match night.trouble {
                    Trouble::TasksKept => (Symptom::None, "answers come as fast as ever"),
                    Trouble::Failures => (
                        Symptom::Failing,
                        "answers come as fast as ever, and more than one in a hundred fails",
                    ),
                    _ => symptom_of(&night),
                };
                assert!(
                    report.symptom == expected,
                    "{name}: {seen}; the report says {:?}",
                    report.symptom
                );
            },
        );
        for_each_scaled(
            Story::SlowDependency,
            &[(LATENCY, 0.05)],
            ALWAYS,
            |report, night, name| {
                let (expected, seen) = symptom_of(&night);
                assert!(
                    report.symptom == expected,
                    "{name}: {seen}, which was some 20 ms; the report says {:?}",
                    report.symptom
                );
            },
        );
    });
}

#[test]
fn connections_that_are_used_up_have_a_reason() {
    kit::check(|| {
        let report = report(&kit::fixture!("night.om"), BRIEF);
        assert!(
            matches!(&report.cause, Cause::SlowQuery { query } if query == "list_order_lines"),
            "{BRIEF}: 100 of 100 connections are lent; the report says {:?}",
            report.cause
        );
        for_each(&[Story::SlowQuery, Story::ConnectionLeak], expect_cause);
        // The others suffer from it, and far less, whatever it is called.
        for_each(&[Story::SlowQuery], |_, night, name| {
            let Trouble::SlowQuery(slow) = &night.trouble else {
                unreachable!("that is what happens in it");
            };
            let label = |query: &str| format!("query=\"{query}\"");
            let slower = dump::revalued(&night.metrics, |sample| {
                let other = sample.name() == QUERIES && !sample.series.contains(&label(slow));
                let later = night.began.is_some_and(|began| sample.seconds() >= began);
                (other && later).then_some(2.5 * sample.value)
            });
            for called in ["cart_lines", "zone_prices"] {
                let night = Night {
                    metrics: slower.replace(&label(slow), &label(called)),
                    trouble: Trouble::SlowQuery(called.to_owned()),
                    ..night
                };
                let name = &format!(
                    "{name}, where that is `{called}` and the other queries take 2.5 times as long"
                );
                expect_cause(self::report(&night.metrics, name), night, name);
            }
        });
        // Some connections come back, so that queries go on.
        for_each(&[Story::ConnectionLeak], |_, night, name| {
            let metrics = with_queries_to_the_end(&night.metrics);
            let name = &format!("{name}, and queries that go on");
            expect_cause(self::report(&metrics, name), night, name);
        });
    });
}

#[test]
fn cores_that_are_used_up_have_a_reason() {
    kit::check(|| {
        for_each(&[Story::NoisyTenant, Story::CostlyDeploy], expect_cause);
    });
}

#[test]
fn what_is_on_no_panel_is_elsewhere() {
    kit::check(|| {
        for_each(
            &[
                Story::LockContention,
                Story::SlowDependency,
                Story::TaskLeak,
                Story::FailingDeploy,
            ],
            expect_cause,
        );
        // Tasks that stay while the traffic grows, too, and far less.
        for_each_scaled(
            Story::TaskLeak,
            &[(REQUESTS, 1.3), (CPU, 1.3)],
            BUSIER,
            expect_cause,
        );
    });
}

#[test]
fn beginning_is_when_users_noticed() {
    kit::check(|| {
        let report = report(&kit::fixture!("night.om"), BRIEF);
        let expect = |since: Option<f64>, truth: f64, name: &str, seen: &str| {
            let Some(since) = since else {
                kit::symptom(format!("{name}: {seen}, and the report has no `since`"));
            };
            assert!(
                (since - truth).abs() <= 45.0,
                "{name}: {seen}; the report's `since` is {:.0} s {}",
                (since - truth).abs(),
                if since < truth {
                    "before it was to be noticed"
                } else {
                    "later than it was to be noticed"
                }
            );
        };
        expect(report.since, NOTICED, BRIEF, "answers are slow to the end");
        for_each(
            &[
                Story::ConnectionLeak,
                Story::SlowDependency,
                Story::TaskLeak,
                Story::LockContention,
                Story::FailingDeploy,
            ],
            |report, night, name| {
                let twice = |panel| 2.0 * median(&samples(&night.metrics, panel)[..19]);
                let moments = match night.trouble {
                    Trouble::TasksKept => [reached(&night, TASKS, twice(TASKS)), None],
                    _ => [
                        reached(&night, LATENCY, twice(LATENCY)),
                        reached(&night, ERRORS, 0.01),
                    ],
                };
                let truth = moments.into_iter().flatten().reduce(f64::min);
                let seen = "something is wrong to the end";
                expect(report.since, truth.expect("it is sick"), name, seen);
            },
        );
    });
}

#[test]
fn evidence_sets_the_cause_apart() {
    kit::check(|| {
        judge_evidence(
            &report(&kit::fixture!("night.om"), BRIEF),
            &Trouble::SlowQuery("list_order_lines".into()),
            BRIEF,
        );
        for_each(
            &[
                Story::ConnectionLeak,
                Story::LockContention,
                Story::TaskLeak,
                Story::NoisyTenant,
                Story::CostlyDeploy,
                Story::FailingDeploy,
            ],
            |report, night, name| judge_evidence(&report, &night.trouble, name),
        );
    });
}

#[test]
fn incomplete_metrics_are_errors() {
    kit::check(|| {
        let canonical = kit::fixture!("night.om");
        let without = |name: &str| dump::without(&canonical, name);
        let nine_minutes = dump::at(&canonical, |seconds| seconds > 1_760_411_400.0 - 540.0);
        for (what, text) in [
            ("an empty text", String::new()),
            (
                "a page of HTML",
                "<html>502 Bad Gateway</html>\n".to_owned(),
            ),
            ("a night without the latency", without(LATENCY)),
            ("a night without the queries", without(QUERIES)),
            ("a night without the connections", without(LENT)),
            ("nine minutes", nine_minutes),
        ] {
            kit::step(format!("analyzing {what}"));
            if let Ok(report) = analyze(&text) {
                kit::symptom(format!(
                    "{what} gives a report instead of an error: {report:?}"
                ));
            }
        }
        for panel in [LATENCY, CPU, QUERIES] {
            let what = format!("a night whose last `{panel}` has no time");
            let (text, line) = dump::timeless(&canonical, panel);
            kit::step(format!("analyzing {what}"));
            match analyze(&text) {
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

/// Evidence for a claim about the canonical dump: panels by their names.
fn evidence(claim: &str) -> Evidence<'_> {
    let scrape = Scrape::parse(&kit::fixture!("night.om")).expect("the fixture is well-formed");
    let mut known: Vec<String> = scrape.iter().map(|s| s.name.to_string()).collect();
    known.dedup();
    Evidence::for_claim(claim).exists(move |item| known.iter().any(|panel| panel == item))
}

fn judge_evidence(report: &Report, trouble: &Trouble, name: &str) {
    let claim = format!("the report on {name} gives");
    let rules = Evidence::for_claim(&claim).exists(|item| {
        [
            REQUESTS, LATENCY, ERRORS, CPU, MEMORY, TASKS, QUERIES, ACQUIRE, LENT, MAX, CALLS,
        ]
        .contains(&item)
    });
    let rules = match report.symptom {
        Symptom::Slow => rules,
        Symptom::None | Symptom::Failing => rules.fits(&[ERRORS]),
        Symptom::SlowAndFailing => rules.proves("answers that fail", &[ERRORS]),
    };
    let rules = match trouble {
        Trouble::Nothing => rules,
        Trouble::SlowQuery(_) | Trouble::ConnectionsKept => rules
            .proves("what users notice", &[LATENCY])
            .proves("what is used up", &[LENT])
            .proves("what holds it, or does not", &[QUERIES])
            .fits(&[ACQUIRE, MAX, CALLS, TASKS]),
        Trouble::Traffic | Trouble::Cost => rules
            .proves("what users notice", &[LATENCY])
            .proves("what is used up", &[CPU])
            .proves("how much is asked for", &[REQUESTS])
            .fits(&[TASKS]),
        Trouble::Failures => rules
            .proves("what users notice", &[ERRORS])
            .fits(&[LATENCY, CPU, LENT]),
        Trouble::TasksKept => rules
            .proves("what piles up", &[TASKS])
            .proves("how much there is to do", &[REQUESTS])
            .fits(&[LATENCY, MEMORY]),
        Trouble::Elsewhere => rules
            .proves("what users notice", &[LATENCY])
            .proves("the cores", &[CPU])
            .proves("the connections", &[LENT])
            .fits(&[TASKS, REQUESTS, ACQUIRE, QUERIES, MAX]),
    };
    rules.demand(&report.evidence);
    let mut once = report.evidence.clone();
    once.sort_unstable();
    once.dedup();
    assert!(
        once.len() == report.evidence.len(),
        "{name}: the report's evidence has a panel twice: {:?}",
        report.evidence
    );
}

fn expect_cause(report: Report, night: Night, name: &str) {
    let right = match (&report.cause, &night.trouble) {
        (Cause::SlowQuery { query }, Trouble::SlowQuery(slow)) => query == slow,
        (cause, trouble) => *trouble == as_trouble(cause),
    };
    assert!(
        right,
        "{name}: {}; the report says {:?}",
        match &night.trouble {
            Trouble::Nothing => "nothing is wrong",
            Trouble::SlowQuery(_) =>
                "the connection pool is exhausted, and one of the queries takes a hundred times as long as before",
            Trouble::ConnectionsKept =>
                "the connection pool is exhausted, and queries took no longer than before as long as there were any",
            Trouble::Traffic => "the cores are used up by four times as many requests as before",
            Trouble::Cost => "the cores are used up by as many requests as before",
            Trouble::Failures => "answers fail, and are as fast as before",
            Trouble::TasksKept => "answers are as before, and the tasks are more by thousands",
            Trouble::Elsewhere =>
                "answers are slow, most of the cores idle, and most connections are in the pool",
        },
        report.cause
    );
}

fn as_trouble(cause: &Cause) -> Trouble {
    match cause {
        Cause::Nothing => Trouble::Nothing,
        Cause::SlowQuery { query } => Trouble::SlowQuery(query.clone()),
        Cause::ConnectionsKept => Trouble::ConnectionsKept,
        Cause::Traffic => Trouble::Traffic,
        Cause::Cost => Trouble::Cost,
        Cause::Failures => Trouble::Failures,
        Cause::TasksKept => Trouble::TasksKept,
        Cause::Elsewhere => Trouble::Elsewhere,
    }
}

/// What the panels of a sick night show of the symptom, whose seeds leave no doubt about it.
fn symptom_of(night: &Night) -> (Symptom, &'static str) {
    let errors = samples(&night.metrics, ERRORS);
    if median(&errors[errors.len() - 20..]) >= 0.01 {
        (
            Symptom::SlowAndFailing,
            "answers take several times as long as before, and more than one in a hundred fails",
        )
    } else {
        (
            Symptom::Slow,
            "answers take several times as long as before, and hardly any fails",
        )
    }
}

/// Since when a panel has been at `level` or above without a break, to the end of the night.
fn reached(night: &Night, panel: &str, level: f64) -> Option<f64> {
    let samples = samples(&night.metrics, panel);
    let last = samples.iter().rposition(|&(_, value)| value < level);
    let (at, _) = samples.get(last.expect("it begins well") + 1)?;
    Some(*at)
}

fn samples(metrics: &str, panel: &str) -> Vec<(f64, f64)> {
    let scrape = Scrape::parse(metrics).expect("the simulator writes OpenMetrics");
    scrape
        .samples(panel)
        .map(|sample| {
            let at = sample.timestamp.expect("the simulator stamps its samples");
            (at.as_seconds(), sample.value)
        })
        .collect()
}

fn median(samples: &[(f64, f64)]) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A night of each story from each seed.
fn for_each(stories: &[Story], judge: impl Fn(Report, Night, &str)) {
    kit::seed::each(&SEEDS, |seed| {
        for (nth, story) in stories.iter().enumerate() {
            let Seed(own) = seed.derive(nth as u64);
            let night = nights::of(*story, own);
            let name = format!("an unseen night (seed {seed}, {nth})");
            judge(report(&night.metrics, &name), night, &name);
        }
    });
}

/// A night of a story from each seed, on which these panels are this many times as high from a
/// second on.
fn for_each_scaled(
    story: Story,
    panels: &[(&str, f64)],
    from: f64,
    judge: impl Fn(Report, Night, &str),
) {
    kit::seed::each(&SEEDS, |seed| {
        let night = nights::of(story, seed.0);
        let from = from + samples(&night.metrics, LATENCY)[0].0;
        let metrics = dump::revalued(&night.metrics, |sample| {
            let (_, factor) = panels.iter().find(|(panel, _)| *panel == sample.series)?;
            (sample.seconds() >= from).then_some(sample.value * factor)
        });
        let name = format!("an unseen night (seed {seed}, at another level)");
        judge(report(&metrics, &name), night, &name);
    });
}

/// A night whose latency is off for one sample at each of its ends.
fn with_strays_at_both_ends(metrics: &str) -> String {
    let latency = samples(metrics, LATENCY);
    let (first, last) = (latency[0].0, latency[latency.len() - 1].0);
    dump::revalued(metrics, |sample| match sample.series {
        LATENCY if sample.seconds() == first => Some(sample.value / 3.0),
        LATENCY if sample.seconds() == last => Some(sample.value * 3.0),
        _ => None,
    })
}

/// A night whose queries are seen to end to its end, as they were in the beginning.
fn with_queries_to_the_end(metrics: &str) -> String {
    let moments: Vec<f64> = samples(metrics, LATENCY)
        .iter()
        .map(|(at, _)| *at)
        .collect();
    let mut queries: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in metrics.lines().filter(|line| line.starts_with(QUERIES)) {
        let mut words = line.split(' ');
        let (series, value) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        match queries.last_mut() {
            Some((last, values)) if *last == series => values.push(value),
            _ => queries.push((series, vec![value])),
        }
    }
    let mut text = String::new();
    for line in metrics.lines() {
        if !line.starts_with(QUERIES) {
            text.push_str(&format!("{line}\n"));
            continue;
        }
        // All of them where the first one was.
        for (series, values) in queries.drain(..) {
            for (at, value) in moments.iter().zip(values.iter().cycle()) {
                text.push_str(&format!("{series} {value} {at}\n"));
            }
        }
    }
    text
}

fn report(metrics: &str, name: &str) -> Report {
    kit::step(format!("analyzing {name}"));
    analyze(metrics).unwrap_or_else(|error| kit::symptom(format!("{name}: no report, but {error}")))
}
