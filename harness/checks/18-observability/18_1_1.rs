//! 18.1.1: reading the scrape of a worker pool.

use super::subject::{Quantile, Report, analyze};
use incident::pool::{self, Fault, Run};
use kit::answers::Tolerance;
use kit::evidence::Evidence;
use telemetry::metrics::{Histogram, Sample, Scrape};

const DURATION: &str = "worker_pool_task_duration_seconds";
const SEEDS: [u64; 3] = [11, 23, 47];

// The learner's answers, on the dump of the brief.

#[test]
fn error_ratio_is_answered() {
    kit::check(|| {
        kit::answers!().expect_number(
            "error_ratio.percent",
            100.0 * (287.0 + 1204.0) / 144_322.0,
            Tolerance::Relative(0.01),
            "the share of tasks that did not end \"ok\"",
        );
    });
}

#[test]
fn backpressure_is_answered_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        let verdict = answers.choice("backpressure.verdict", &["yes", "no"]);
        let cited = answers.list("backpressure.evidence");
        if verdict == "no" {
            kit::symptom("`backpressure.verdict` is \"no\", and 847 tasks wait to be run");
        }
        evidence("the pool is in backpressure")
            .proves("the tasks that wait", &["worker_pool_queue_size"])
            .proves("the workers that are busy", &["worker_pool_workers_active"])
            .proves("the workers that there are", &["worker_pool_workers_total"])
            .demand(&series(&cited));
    });
}

#[test]
fn mean_is_answered_and_doubted() {
    kit::check(|| {
        let answers = kit::answers!();
        let mean = 8934.2 / 144_322.0;
        answers.expect_number("mean.seconds", mean, Tolerance::Relative(0.01), "the mean");
        answers.expect_number(
            "mean.tasks_within",
            100.0 * (131_200.0 + 7_700.0 * (mean - 0.05) / 0.05) / 144_322.0,
            Tolerance::Absolute(1.0),
            "the tasks of 100 that run no longer than the mean",
        );
        evidence("a few slow tasks pull the mean up")
            .proves(
                "where the slow tasks begin",
                &[r#"worker_pool_task_duration_seconds_bucket{le="2.5"}"#],
            )
            .proves(
                "how many tasks there are in all",
                &[
                    r#"worker_pool_task_duration_seconds_bucket{le="+Inf"}"#,
                    "worker_pool_task_duration_seconds_count",
                ],
            )
            .demand(&series(&answers.list("mean.evidence")));
    });
}

#[test]
fn quantiles_are_answered() {
    kit::check(|| {
        let answers = kit::answers!();
        answers.expect_number(
            "p50.seconds",
            0.01 * 72_161.0 / 89_234.0,
            Tolerance::Relative(0.01),
            "the median",
        );
        let verdict = answers.choice("p99.verdict", &["within", "above"]);
        let bound = answers.number("p99.seconds");
        if verdict == "within" {
            kit::symptom(format!(
                "`p99` is said to lie within a bucket, at {bound} s: count the tasks up to the \
                 upper bound of that bucket, and the tasks that 99 % would be"
            ));
        }
        answers.expect_number("p99.seconds", 2.5, Tolerance::Relative(0.01), "that bound");
    });
}

#[test]
fn tail_is_answered() {
    kit::check(|| {
        let answers = kit::answers!();
        answers.expect_number(
            "tail.tasks",
            1_542.0,
            Tolerance::Exact,
            "the tasks above the last finite bound",
        );
        answers.expect_number(
            "tail.ok_at_least",
            51.0,
            Tolerance::Exact,
            "the \"ok\" tasks that must be among them",
        );
    });
}

#[test]
fn gap_is_answered_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        answers.expect_number(
            "gap.tasks",
            1_491.0,
            Tolerance::Exact,
            "observations less \"ok\" tasks",
        );
        let options = ["tasks in flight", "failed tasks", "an instrumentation bug"];
        let explained_by = answers.choice("gap.explained_by", &options);
        let cited = answers.list("gap.evidence");
        if explained_by == "tasks in flight" {
            kit::symptom(
                "1,491 tasks in flight would need as many workers, and the pool has 8: `gap`",
            );
        }
        if explained_by == "an instrumentation bug" {
            kit::symptom(
                "`gap` is put down to a bug: add up every series of `worker_pool_tasks_total` \
                 before you accuse the instrumentation",
            );
        }
        evidence("failed tasks explain the gap")
            .proves(
                "the errors",
                &[r#"worker_pool_tasks_total{status="error"}"#],
            )
            .proves(
                "the timeouts",
                &[r#"worker_pool_tasks_total{status="timeout"}"#],
            )
            .fits(&[
                r#"worker_pool_tasks_total{status="ok"}"#,
                "worker_pool_task_duration_seconds_count",
            ])
            .demand(&series(&cited));
    });
}

// The analyzer, on the dump of the brief and on pools that the learner has not seen.

#[test]
fn error_ratio_counts_every_failure() {
    kit::check(|| {
        for_each_scrape(|scrape, name| {
            let finished: f64 = scrape
                .samples("worker_pool_tasks_total")
                .map(|s| s.value)
                .sum();
            let ok = scrape.value("worker_pool_tasks_total", &[("status", "ok")]);
            let expected = 1.0 - ok.expect("every pool has it") / finished;
            let found = report(scrape, name).error_ratio;
            assert!(
                (found - expected).abs() < 1e-9,
                "{name}: {:.0} of {finished:.0} finished tasks did not end \"ok\", which is \
                 {:.6} %; the report says {:.6} %",
                expected * finished,
                expected * 100.0,
                found * 100.0
            );
        });
        let canonical = kit::fixture!("scrape.prom");
        let with_more = canonical.replace(
            "worker_pool_tasks_total{status=\"timeout\"} 1204",
            "worker_pool_tasks_total{status=\"timeout\"} 1000\n\
             worker_pool_tasks_total{status=\"canceled\"} 204",
        );
        let found =
            analyzed(&with_more, "the scrape of the brief with a fourth status").error_ratio;
        assert!(
            (found - 1_491.0 / 144_322.0).abs() < 1e-9,
            "204 of the timeouts are counted as status=\"canceled\" instead, and the error ratio \
             goes from 1.033 % to {:.3} %",
            found * 100.0
        );
    });
}

#[test]
fn backpressure_takes_a_queue_and_busy_workers() {
    kit::check(|| {
        kit::seed::each(&SEEDS, |seed| {
            for fault in Fault::ALL {
                let Run { scrape, truth } = pool::simulate(fault, seed.0);
                let found = analyzed(
                    &scrape,
                    &format!("an unseen scrape (seed {seed}, {} workers)", truth.workers),
                )
                .backpressure;
                assert!(
                    found == truth.backpressure(),
                    "{} tasks wait, {} of {} workers are busy, and the report says backpressure: \
                     {found} (seed {seed})",
                    truth.queued,
                    truth.active,
                    truth.workers
                );
            }
        });
        let canonical = kit::fixture!("scrape.prom");
        assert!(
            analyzed(&canonical, "the scrape of the brief").backpressure,
            "847 tasks wait, 8 of 8 workers are busy, and the report says: no backpressure"
        );
        let just_full = canonical.replace("queue_size 847", "queue_size 1");
        assert!(
            analyzed(&just_full, "the scrape of the brief with one waiting task").backpressure,
            "1 task waits, 8 of 8 workers are busy, and the report says: no backpressure"
        );
        let draining = canonical.replace("workers_active 8", "workers_active 5");
        assert!(
            !analyzed(&draining, "the scrape of the brief with three idle workers").backpressure,
            "3 of 8 workers are idle: what waits is about to be taken, and the report says \
             backpressure"
        );
    });
}

#[test]
fn mean_is_sum_over_count() {
    kit::check(|| {
        for_each_scrape(|scrape, name| {
            let durations = durations(scrape);
            let expected = durations.sum / durations.count;
            let found = report(scrape, name).mean_seconds;
            assert!(
                (found - expected).abs() <= expected * 1e-9,
                "{name}: {} s over {} tasks, and the report says a mean of {found} s",
                durations.sum,
                durations.count
            );
        });
    });
}

#[test]
fn median_is_interpolated() {
    kit::check(|| {
        for_each_scrape(|scrape, name| {
            let found = report(scrape, name).p50;
            expect_quantile(scrape, name, 0.50, found);
        });
    });
}

#[test]
fn p99_says_when_the_buckets_cannot_tell() {
    kit::check(|| {
        for_each_scrape(|scrape, name| {
            let found = report(scrape, name).p99;
            expect_quantile(scrape, name, 0.99, found);
        });
    });
}

#[test]
fn slowest_tasks_are_those_above_the_last_bound() {
    kit::check(|| {
        for_each_scrape(|scrape, name| {
            let durations = durations(scrape);
            let last = durations
                .buckets
                .iter()
                .rfind(|bucket| bucket.le.is_finite());
            let last = last.expect("every pool has one");
            let beyond = durations.count - last.cumulative;
            let found = report(scrape, name).slowest;
            assert!(
                found.above_seconds == last.le && found.tasks as f64 == beyond,
                "{name}: {beyond} of {} tasks took longer than {} s; the report says that the \
                 slowest bucket holds {} tasks, above {} s",
                durations.count,
                last.le,
                found.tasks,
                found.above_seconds
            );
        });
    });
}

#[test]
fn every_finished_task_is_accounted_for() {
    kit::check(|| {
        for_each_scrape(|scrape, name| {
            let finished: f64 = scrape
                .samples("worker_pool_tasks_total")
                .map(|s| s.value)
                .sum();
            let observed = durations(scrape).count;
            let found = report(scrape, name).unobserved;
            assert!(
                found as f64 == finished - observed,
                "{name}: {finished} tasks have finished and the histogram saw {observed}; the \
                 report says {found} unobserved"
            );
        });
        let observed_first = kit::fixture!("scrape.prom").replace(
            "worker_pool_tasks_total{status=\"ok\"} 142831",
            "worker_pool_tasks_total{status=\"ok\"} 142828",
        );
        let found = analyzed(
            &observed_first,
            "the scrape of the brief with three tasks observed and not yet counted",
        )
        .unobserved;
        assert!(
            found == -3,
            "144319 tasks have finished and the histogram saw 144322; the report says {found} \
             unobserved"
        );
    });
}

#[test]
fn unreadable_scrapes_are_errors() {
    kit::check(|| {
        let canonical = kit::fixture!("scrape.prom");
        let without = |part: &str| kit::dump::without(&canonical, part);
        for (what, text) in [
            ("an empty scrape", String::new()),
            (
                "a page of HTML",
                "<html>502 Bad Gateway</html>\n".to_owned(),
            ),
            ("a scrape without the queue gauge", without("queue_size")),
            ("a scrape without busy workers", without("workers_active")),
            ("a scrape without buckets", without("_bucket")),
            (
                "a pool that has just started",
                "worker_pool_queue_size 0\nworker_pool_workers_active 0\n\
                 worker_pool_workers_total 8\nworker_pool_tasks_total{status=\"ok\"} 0\n\
                 worker_pool_task_duration_seconds_bucket{le=\"0.1\"} 0\n\
                 worker_pool_task_duration_seconds_bucket{le=\"+Inf\"} 0\n\
                 worker_pool_task_duration_seconds_sum 0\n\
                 worker_pool_task_duration_seconds_count 0\n"
                    .to_owned(),
            ),
            (
                "a pool that has counted no task yet",
                canonical
                    .lines()
                    .map(|line| match line.split_once(' ') {
                        Some((series, _)) if series.starts_with("worker_pool_tasks_total") => {
                            format!("{series} 0\n")
                        }
                        _ => format!("{line}\n"),
                    })
                    .collect(),
            ),
            (
                "a pool whose histogram has seen nothing",
                canonical
                    .lines()
                    .map(|line| match line.split_once(' ') {
                        Some((series, _)) if series.starts_with(DURATION) => {
                            format!("{series} 0\n")
                        }
                        _ => format!("{line}\n"),
                    })
                    .collect(),
            ),
        ] {
            kit::step(format!("analyzing {what}"));
            if let Ok(report) = analyze(&text) {
                kit::symptom(format!(
                    "{what} gives a report instead of an error: {report:?}"
                ));
            }
        }
    });
}

/// Evidence for a claim about the canonical dump.
fn evidence(claim: &str) -> Evidence<'_> {
    let known: Vec<String> = canonical().iter().map(series_of).collect();
    Evidence::for_claim(claim).exists(move |item| known.iter().any(|series| series == item))
}

/// The series that were cited: with white space around labels or not, alone or as whole lines of the
/// scrape. What is no series stays as it was written, for the message.
fn series(cited: &[String]) -> Vec<String> {
    let of_line = |item: &String| {
        // A value makes a line of a series, and is a timestamp behind the value of a line.
        let line = Scrape::parse(&format!("{item} 0\n")).ok()?;
        line.iter().next().map(series_of)
    };
    cited
        .iter()
        .map(|item| of_line(item).unwrap_or_else(|| item.clone()))
        .collect()
}

fn series_of(sample: &Sample) -> String {
    format!("{}{}", sample.name, sample.labels)
}

fn canonical() -> Scrape {
    Scrape::parse(&kit::fixture!("scrape.prom")).expect("the fixture is well-formed")
}

/// The canonical dump, then pools with each fault and with none, from each seed.
fn for_each_scrape(mut judge: impl FnMut(&Scrape, &str)) {
    judge(&canonical(), "the scrape of the brief");
    kit::seed::each(&SEEDS, |seed| {
        for fault in Fault::ALL {
            let run = pool::simulate(fault, seed.0);
            let scrape = Scrape::parse(&run.scrape).expect("the simulator writes scrapes");
            judge(
                &scrape,
                &format!(
                    "an unseen scrape (seed {seed}, {} workers)",
                    run.truth.workers
                ),
            );
        }
    });
}

fn durations(scrape: &Scrape) -> Histogram {
    scrape.histogram(DURATION, &[]).expect("every pool has it")
}

fn report(scrape: &Scrape, name: &str) -> Report {
    analyzed(&scrape.to_string(), name)
}

fn analyzed(scrape: &str, name: &str) -> Report {
    kit::step(format!("analyzing {name}"));
    analyze(scrape).unwrap_or_else(|error| kit::symptom(format!("{name}: no report, but {error}")))
}

/// Holds a quantile against the bucket in which it must lie, and against even spread within it.
fn expect_quantile(scrape: &Scrape, name: &str, q: f64, found: Quantile) {
    let durations = durations(scrape);
    let rank = q * durations.count;
    let at = durations
        .buckets
        .partition_point(|bucket| bucket.cumulative < rank);
    let (lower, below) = match at {
        0 => (0.0, 0.0),
        _ => (
            durations.buckets[at - 1].le,
            durations.buckets[at - 1].cumulative,
        ),
    };
    let bucket = durations.buckets[at];
    let seen = format!(
        "{name}: {} % of {} tasks is rank {rank:.1}; {below} tasks took up to {lower} s and {} up \
         to {} s",
        q * 100.0,
        durations.count,
        bucket.cumulative,
        bucket.le
    );
    let right = match found {
        Quantile::Above(bound) => bucket.le.is_infinite() && bound == lower,
        Quantile::Seconds(value) => {
            let share = (rank - below) / (bucket.cumulative - below);
            let expected = lower + (bucket.le - lower) * share;
            bucket.le.is_finite() && (value - expected).abs() <= expected * 1e-6
        }
    };
    assert!(right, "{seen}; the report says {found:?}");
}
