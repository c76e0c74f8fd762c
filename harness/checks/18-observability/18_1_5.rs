//! 18.1.5: a worker pool by utilization, saturation and errors.

use super::subject::{Advice, AdviceError, Limit, advise};
use incident::use_pool::{self, BOUNDS, Run, Setup};
use kit::answers::Tolerance;
use kit::dump;
use kit::evidence::Evidence;
use kit::seed::Seed;
use telemetry::metrics::Scrape;

const SEEDS: [u64; 3] = [2, 29, 83];
/// What messages call the canonical dump.
const BRIEF: &str = "the pool of the brief";

// The learner's answers, on the dump of the brief.

#[test]
fn utilization_is_answered_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        answers.expect_number(
            "utilization.percent",
            99.99,
            Tolerance::Absolute(0.5),
            "the share of the window for which the workers had a task",
        );
        evidence("the workers are used up")
            .proves(
                "for how long they had a task",
                &["pool_worker_busy_seconds_total"],
            )
            .proves("how many there are", &["pool_workers"])
            .fits(&["pool_workers_busy"])
            .demand(&answers.list("utilization.evidence"));
    });
}

#[test]
fn saturation_is_answered_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        answers.expect_number(
            "saturation.tasks",
            450.0,
            Tolerance::Exact,
            "the tasks that wait for a worker at the last scrape",
        );
        evidence("tasks wait for a worker")
            .proves("what waits", &["pool_queue_depth"])
            .demand(&answers.list("saturation.evidence"));
    });
}

#[test]
fn errors_are_answered() {
    kit::check(|| {
        let answers = kit::answers!();
        for (key, truth, tolerance, meaning) in [
            (
                "errors.errors_percent",
                100.0 * 202.0 / 67_500.0,
                Tolerance::Absolute(0.01),
                "the tasks of 100 that ended in an error",
            ),
            (
                "errors.timeouts_percent",
                8.0,
                Tolerance::Absolute(0.1),
                "the tasks of 100 that ended in a timeout",
            ),
            (
                "errors.p99_seconds",
                2.3,
                Tolerance::Relative(0.01),
                "the p99 of what ran in the window",
            ),
        ] {
            answers.expect_number(key, truth, tolerance, meaning);
        }
    });
}

#[test]
fn cause_is_answered_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        let options = [
            "there is more traffic than they are made for",
            "the cores are used up",
            "the connections are used up",
            "queries have become slower",
        ];
        let verdict = answers.choice("cause.verdict", &options);
        let cited = answers.list("cause.evidence");
        match verdict {
            "there is more traffic than they are made for" => kit::symptom(
                "`cause` is the traffic, which is 225 tasks a second: how many could the workers \
                 do, when each task held one of them for as long as it did before?",
            ),
            "the cores are used up" => kit::symptom(
                "`cause` is the cores, of which 8 were used for 683 of 2,400 seconds in the window",
            ),
            "the connections are used up" => kit::symptom(
                "`cause` is the connections: 14 of 40 are in use, and nobody waits for one",
            ),
            _ => {}
        }
        evidence("queries have become slower, and nothing else is used up")
            .proves("how long a query takes", &["db_query_duration_seconds_sum"])
            .proves(
                "the cores",
                &["process_cpu_seconds_total", "process_cpu_waiting"],
            )
            .proves(
                "the connections",
                &[
                    "db_connection_in_use_seconds_total",
                    "db_connections_in_use",
                    "db_connection_waiters",
                ],
            )
            .fits(&[
                "db_query_duration_seconds_count",
                "process_cpu_cores",
                "db_connections",
            ])
            .demand(&cited);
        // 598,752 busy seconds over 27,216,000 tasks that ran.
        answers.expect_number(
            "cause.tasks_per_second_before",
            16.0 / 0.022,
            Tolerance::Relative(0.03),
            "what 16 workers could do while a query took as long as before",
        );
    });
}

#[test]
fn actions_are_chosen() {
    kit::check(|| {
        let answers = kit::answers!();
        let first = answers.choice(
            "action.first",
            &[
                "more workers",
                "more cores",
                "more connections",
                "a longer deadline",
            ],
        );
        match first {
            "more workers" => {}
            "a longer deadline" => kit::symptom(
                "`action.first` is a longer deadline: 225 tasks a second arrive and 207 are done, \
                 so those that wait only wait for longer",
            ),
            other => kit::symptom(format!(
                "`action.first` is {other}, of which two thirds are idle: played through, the \
                 queue stays where it is"
            )),
        }
        let later = answers.choice(
            "action.later",
            &[
                "a longer queue",
                "a time limit and a circuit breaker for the queries",
                "twice the cores",
                "a cache of the tasks' results",
            ],
        );
        assert!(
            later == "a time limit and a circuit breaker for the queries",
            "`action.later` is {later}: the next time that queries take six times as long, each of \
             them still holds a worker to its end"
        );
    });
}

#[test]
fn prediction_agrees_with_the_simulation() {
    kit::check(|| {
        let answers = kit::answers!();
        let setup = Setup {
            workers: 24,
            cores: 8,
            connections: 40,
            arrivals: 225.0,
            slice: 0.008,
            query: 0.0481,
            sigma: 0.8,
            deadline: 2.0,
            error_share: 202.0 / 62_100.0,
            bad_past: false,
            met_busy: false,
            seed: 18_105,
        };
        let truth = use_pool::simulate(&setup).truth;
        let percent = |count: u64| 100.0 * count as f64 / truth.ended() as f64;
        for (key, simulated, margin, meaning) in [
            (
                "prediction.utilization_percent",
                100.0 * truth.workers_busy,
                4.0,
                "the utilization of 24 workers",
            ),
            ("prediction.queued", truth.mean_queue, 10.0, "the queue"),
            (
                "prediction.errors_percent",
                percent(truth.errors),
                0.1,
                "the errors",
            ),
            (
                "prediction.timeouts_percent",
                percent(truth.timeouts),
                0.5,
                "the timeouts",
            ),
            (
                "prediction.p99_seconds",
                truth.quantile(0.99),
                0.25,
                "the p99",
            ),
        ] {
            let predicted = answers.number(key);
            let side = if predicted < simulated {
                "below"
            } else {
                "above"
            };
            assert!(
                (predicted - simulated).abs() <= margin,
                "`{key}` = {predicted} is {side} {meaning} in the simulation with 24 workers (it \
                 may be off by {margin})"
            );
        }
    });
}

// The advisor, on the dump of the brief and on pools that the learner has not seen.

#[test]
fn utilization_is_of_the_whole_window() {
    kit::check(|| {
        let found = advice(&kit::fixture!("pool.om"), BRIEF).workers_busy;
        assert!(
            (found - 0.9999).abs() < 0.002,
            "{BRIEF}: the workers had a task all the time; the advice says {:.1} %",
            100.0 * found
        );
        for_each_pool(|run, setup, name| {
            let found = advice(&run.metrics, name).workers_busy;
            let truth = &run.truth;
            assert!(
                (found - truth.workers_busy).abs() < 0.002,
                "{name}: the workers had a task for {:.1} % of the window, {} of {} at its end; \
                 the advice says {:.1} %",
                100.0 * truth.workers_busy,
                truth.workers_busy_now,
                setup.workers,
                100.0 * found
            );
        });
    });
}

#[test]
fn saturation_is_what_waits_now() {
    kit::check(|| {
        let found = advice(&kit::fixture!("pool.om"), BRIEF).queued;
        assert!(
            found == 450,
            "{BRIEF}: the advice says that {found} tasks wait, and the last scrape says otherwise"
        );
        for_each_pool(|run, _, name| {
            let found = advice(&run.metrics, name).queued;
            assert!(
                found == run.truth.queued,
                "{name}: {} tasks wait at the last scrape; the advice says {found}",
                run.truth.queued
            );
        });
    });
}

#[test]
fn ratios_are_of_what_ended_in_the_window() {
    kit::check(|| {
        let found = advice(&kit::fixture!("pool.om"), BRIEF);
        let near = |found: f64, truth: f64| (found - truth).abs() <= 1e-6;
        assert!(
            near(found.error_ratio, 202.0 / 67_500.0) && near(found.timeout_ratio, 0.08),
            "{BRIEF}: the advice says {:.3} % errors and {:.3} % timeouts; of the tasks that came \
             to an end in the five minutes it were more",
            100.0 * found.error_ratio,
            100.0 * found.timeout_ratio
        );
        for_each_pool(|run, _, name| {
            let found = advice(&run.metrics, name);
            let truth = &run.truth;
            let ended = truth.ended() as f64;
            let (errors, timeouts) = (truth.errors as f64 / ended, truth.timeouts as f64 / ended);
            assert!(
                near(found.error_ratio, errors) && near(found.timeout_ratio, timeouts),
                "{name}: of {ended} tasks that came to an end in the window {} were errors and {} \
                 timeouts, {:.3} % and {:.3} %; the advice says {:.3} % and {:.3} %",
                truth.errors,
                truth.timeouts,
                100.0 * errors,
                100.0 * timeouts,
                100.0 * found.error_ratio,
                100.0 * found.timeout_ratio
            );
        });
    });
}

#[test]
fn tail_is_of_what_ran_in_the_window() {
    kit::check(|| {
        let found = advice(&kit::fixture!("pool.om"), BRIEF).p99_above;
        assert!(
            found == 2.2,
            "{BRIEF}: the advice says that the p99 lies above {found} s, and not above a higher \
             bound"
        );
        for_each_pool(|run, _, name| {
            let found = advice(&run.metrics, name).p99_above;
            let durations = &run.truth.durations;
            let above = |bound: f64| {
                durations.len() - durations.partition_point(|duration| *duration <= bound)
            };
            let truth = BOUNDS
                .iter()
                .copied()
                .filter(|bound| above(*bound) as f64 > 0.01 * durations.len() as f64)
                .fold(0.0, f64::max);
            assert!(
                found == truth,
                "{name}: of {} tasks that ran in the window, {} took longer than {truth} s, and \
                 that is the highest such bound; the advice says {found} s",
                durations.len(),
                above(truth)
            );
        });
    });
}

#[test]
fn limit_is_what_the_others_wait_for() {
    kit::check(|| {
        let found = advice(&kit::fixture!("pool.om"), BRIEF).limit;
        assert!(
            found == Limit::Workers,
            "{BRIEF}: all 16 workers are busy, 2.3 of 8 cores and 14 of 40 connections; the \
             advice says {found:?}"
        );
        for_each_pool(|run, setup, name| {
            let expected = expected(run.limit);
            let found = advice(&run.metrics, name).limit;
            let truth = &run.truth;
            let of = |busy: f64, size: u32| format!("{:.1} of {size}", busy * f64::from(size));
            assert!(
                found == expected,
                "{name}: on average {} workers are busy, {} cores and {} connections, {} tasks \
                 wait for a worker, {} for a core and {} for a connection; the advice says \
                 {found:?}",
                of(truth.workers_busy, setup.workers),
                of(truth.cores_busy, setup.cores),
                of(truth.connections_busy, setup.connections),
                truth.queued,
                truth.waiting_for_core,
                truth.waiting_for_connection
            );
            if truth.waiting_for_core > 0 || truth.waiting_for_connection > 0 {
                return;
            }
            let metrics = crowded_at_the_last_scrape(&run.metrics, setup);
            let found = advice(&metrics, name).limit;
            assert!(
                found == expected,
                "{name}: {:.1} of {} cores and {:.1} of {} connections are busy on average, and \
                 all of them at the moment of the last scrape, with three that wait for each; the \
                 advice says {found:?}",
                truth.cores_busy * f64::from(setup.cores),
                setup.cores,
                truth.connections_busy * f64::from(setup.connections),
                setup.connections
            );
        });
    });
}

#[test]
fn incomplete_metrics_are_errors() {
    kit::check(|| {
        let canonical = kit::fixture!("pool.om");
        let without = |name: &str| dump::without(&canonical, name);
        let one_scrape = dump::at(&canonical, |seconds| seconds == 1_762_856_400.0);
        let nothing_ended = dump::revalued(&canonical, |sample| {
            (sample.name() == "pool_tasks_total").then_some(7.0)
        });
        // What is missing is named, so that whoever reads the error knows where to look.
        for (what, missing, text) in [
            ("an empty text", "", String::new()),
            (
                "a page of HTML",
                "",
                "<html>502 Bad Gateway</html>\n".to_owned(),
            ),
            (
                "a pool without a queue gauge",
                "pool_queue_depth",
                without("pool_queue_depth"),
            ),
            (
                "a pool without its tasks",
                "pool_tasks",
                without("pool_tasks"),
            ),
            (
                "a pool without connections",
                "db_connection_in_use_seconds",
                without("db_connection_in_use_seconds"),
            ),
            (
                "a pool without busy seconds",
                "pool_worker_busy_seconds",
                without("pool_worker_busy_seconds"),
            ),
            ("one scrape", "", one_scrape),
            ("a pool in which nothing ended", "", nothing_ended),
        ] {
            kit::step(format!("advising on {what}"));
            match advise(&text) {
                Ok(advice) => kit::symptom(format!(
                    "{what} gives advice instead of an error: {advice:?}"
                )),
                Err(error) => assert!(
                    error.to_string().contains(missing),
                    "{what} gives \"{error}\", and on-call looks for {missing} elsewhere"
                ),
            }
        }
        for name in [
            "pool_queue_depth",
            "pool_worker_busy_seconds_total",
            "db_connection_in_use_seconds_total",
        ] {
            let what = format!("a pool whose last `{name}` has no time");
            let (text, line) = dump::timeless(&canonical, name);
            kit::step(format!("advising on {what}"));
            match advise(&text) {
                Err(AdviceError::Timeless(said)) if said == line => {}
                Err(error) => kit::symptom(format!(
                    "{what}, on line {line}, gives \"{error}\", and on-call looks elsewhere"
                )),
                Ok(advice) => kit::symptom(format!(
                    "{what} gives advice instead of an error: {advice:?}"
                )),
            }
        }
    });
}

/// Evidence for a claim about the canonical dump: series by their names.
fn evidence(claim: &str) -> Evidence<'_> {
    let scrape = Scrape::parse(&kit::fixture!("pool.om")).expect("the fixture is well-formed");
    let known: Vec<String> = scrape
        .iter()
        .map(|sample| sample.name.to_string())
        .collect();
    Evidence::for_claim(claim).exists(move |item| known.iter().any(|series| series == item))
}

/// A run, and what was drawn to hold it up.
struct Drawn {
    limit: use_pool::Limit,
    run: Run,
}

impl std::ops::Deref for Drawn {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.run
    }
}

fn expected(limit: use_pool::Limit) -> Limit {
    match limit {
        use_pool::Limit::Nothing => Limit::Nothing,
        use_pool::Limit::Workers => Limit::Workers,
        use_pool::Limit::Cores => Limit::Cores,
        use_pool::Limit::Connections => Limit::Connections,
    }
}

/// Pools that are held up by each of the resources, and by none, from each seed.
fn for_each_pool(mut judge: impl FnMut(&Drawn, &Setup, &str)) {
    kit::seed::each(&SEEDS, |seed| {
        for (nth, limit) in [
            use_pool::Limit::Nothing,
            use_pool::Limit::Workers,
            use_pool::Limit::Cores,
            use_pool::Limit::Connections,
        ]
        .into_iter()
        .enumerate()
        {
            let Seed(own) = seed.derive(nth as u64);
            let setup = Setup::drawn(limit, own);
            let run = use_pool::simulate(&setup);
            judge(
                &Drawn { limit, run },
                &setup,
                &format!("an unseen pool (seed {seed}, {nth})"),
            );
        }
    });
}

/// A pool whose last scrape met a moment at which many wanted the same.
fn crowded_at_the_last_scrape(metrics: &str, setup: &Setup) -> String {
    let last = metrics
        .lines()
        .filter_map(dump::Sample::of)
        .map(|sample| sample.seconds())
        .fold(0.0, f64::max);
    let shown = [
        ("process_cpu_waiting", 3.0),
        ("db_connections_in_use", f64::from(setup.connections)),
        ("db_connection_waiters", 3.0),
    ];
    dump::revalued(metrics, |sample| {
        let (_, value) = shown.iter().find(|(name, _)| *name == sample.series)?;
        (sample.seconds() == last).then_some(*value)
    })
}

fn advice(metrics: &str, name: &str) -> Advice {
    kit::step(format!("advising on {name}"));
    advise(metrics).unwrap_or_else(|error| kit::symptom(format!("{name}: no advice, but {error}")))
}
