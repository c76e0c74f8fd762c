//! 18.5.2: a deploy, an alert, and whether one is to blame for the other.

use std::collections::BTreeMap;

use super::subject::{AnalysisError, Charge, Comparison, Harm, Report, Verdict, analyze};
use incident::releases::{self, Release, Story};
use kit::answers::Tolerance;
use kit::dump;
use kit::evidence::Evidence;
use kit::seed::Seed;
use telemetry::metrics::Scrape;

const SEEDS: [u64; 1] = [41];
/// What messages call the canonical dump.
const BRIEF: &str = "the window of the brief";

const REQUESTS: &str = "job:http_requests:rate1m";
const LATENCY: &str = "job:http_request_duration_seconds:p99_1m";
const ERRORS: &str = "job:http_request_errors:ratio1m";
const GOROUTINES: &str = "job:go_goroutines:sum";
const DATABASE: &str = "job:db_query_duration_seconds:p99_1m";
const ANSWERED: &str = "instance:http_requests:rate1m";
const SLOWEST: &str = "instance:http_request_duration_seconds:p99_1m";
const FAILED: &str = "instance:http_request_failures:ratio1m";
const CPU: &str = "instance:process_cpu_seconds:rate1m";
const ALLOCATED: &str = "instance:heap_allocations_bytes:rate1m";
const PAUSES: &str = "instance:gc_pause_seconds:p99";
const MEMORY: &str = "instance:process_resident_memory:bytes";

// The learner's answers, on the dump of the brief.

#[test]
fn deploy_is_judged_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        let verdict = answers.choice("deploy.verdict", &["yes", "no"]);
        let cited = answers.list("deploy.evidence");
        if verdict == "no" {
            kit::symptom(
                "`deploy.verdict` is \"no\", and at 14:15 an answer of one version takes 0.21 s at \
                 the 99th percentile, and one of the other 0.045 s",
            );
        }
        evidence("2.3.1 did it")
            .proves("the load of an instance", &[ANSWERED])
            .proves("what an instance uses for it", &[CPU, ALLOCATED])
            .fits(&[SLOWEST, PAUSES, MEMORY])
            .demand(&cited);
    });
}

#[test]
fn answers_of_both_versions_are_priced() {
    kit::check(|| {
        let answers = kit::answers!();
        let truth = side_by_side(&kit::fixture!("window.om"));
        for (key, truth, meaning) in [
            (
                "deploy.cpu_per_answer",
                truth.cpu,
                "processor time for an answer of 2.3.1, over that for one of 2.3.0",
            ),
            (
                "deploy.allocated_per_answer",
                truth.allocated,
                "bytes allocated for an answer of 2.3.1, over those for one of 2.3.0",
            ),
        ] {
            answers.expect_number(key, truth, Tolerance::Relative(0.04), meaning);
        }
    });
}

#[test]
fn seven_minutes_are_explained() {
    kit::check(|| {
        let answers = kit::answers!();
        let why = answers.choice(
            "delay.why",
            &[
                "it is a coincidence",
                "hardly any request reached 2.3.1 before",
                "memory had to leak first",
                "the scrape is late",
            ],
        );
        let cited = answers.list("delay.evidence");
        match why {
            "it is a coincidence" => kit::symptom(
                "`delay.why` is a coincidence, and from 14:07 on p99 rises on the instances of one \
                 version only",
            ),
            "memory had to leak first" => kit::symptom(
                "`delay.why` is a leak, and the instance that runs 2.3.1 since 14:00 uses less \
                 memory at 14:06 than any of 2.3.0",
            ),
            "the scrape is late" => kit::symptom(
                "`delay.why` is a late scrape, and there is a sample of 2.3.1 at 14:01:30",
            ),
            _ => {}
        }
        evidence("hardly any request reached 2.3.1 before")
            .proves("how many did", &[ANSWERED])
            .demand(&cited);
    });
}

#[test]
fn refutation_would_have_been_recognized() {
    kit::check(
        || match kit::answers!().choice("refuted.by", &["a", "b", "c", "d"]) {
            "b" => kit::symptom(
                "`refuted.by` is \"b\": an alert comes when a threshold is reached, and one of \
                 300 ms would have come later of the same deploy",
            ),
            "c" => {
                kit::symptom("`refuted.by` is \"c\", which was seen, and users wait nevertheless")
            }
            "d" => kit::symptom(
                "`refuted.by` is \"d\", which was seen: any process has less memory when it has \
                 just started",
            ),
            _ => {}
        },
    );
}

#[test]
fn change_is_named_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        let requests = answers.choice(
            "change.requests",
            &[
                "allocate more",
                "wait for the database",
                "wait for each other",
                "arrive more often",
            ],
        );
        let cited = answers.list("change.evidence");
        match requests {
            "wait for the database" => kit::symptom(
                "`change.requests` is the database, whose p99 is 8 ms at 13:50 and at 14:15",
            ),
            "wait for each other" => kit::symptom(
                "`change.requests` is that they wait for each other: who waits needs no processor, \
                 and would be one more goroutine; there are 850 before and after",
            ),
            "arrive more often" => kit::symptom(
                "`change.requests` is that more arrive: 2,000 a second before and after",
            ),
            _ => {}
        }
        evidence("requests allocate more")
            .proves("what is allocated", &[ALLOCATED])
            .proves("whether they wait for each other", &[GOROUTINES])
            .proves("whether they wait for the database", &[DATABASE])
            .proves("how many arrive", &[REQUESTS, ANSWERED])
            .fits(&[
                CPU,
                PAUSES,
                MEMORY,
                "job:gc_pause_seconds:p99",
                "job:process_cpu:utilization1m",
                "job:process_resident_memory:bytes",
            ])
            .demand(&cited);
    });
}

#[test]
fn pauses_and_tool_are_answered() {
    kit::check(|| {
        let answers = kit::answers!();
        let relation = answers.choice(
            "pauses.relation",
            &[
                "they are a part of what slow requests wait for",
                "they are long because requests are slow",
                "they have nothing to do with it",
            ],
        );
        match relation {
            "they are long because requests are slow" => kit::symptom(
                "`pauses.relation` has requests make the pauses: a collector does not wait for \
                 requests, and all of them stand while it pauses",
            ),
            "they have nothing to do with it" => kit::symptom(
                "`pauses.relation` has no relation: both are at their old height on the two \
                 instances of 2.3.0, and up on the six of 2.3.1",
            ),
            _ => {}
        }
        let tool = answers.choice(
            "tool.use",
            &[
                "a processor profile of each version",
                "a goroutine dump",
                "a trace of one slow request",
                "the slow query log",
            ],
        );
        if tool != "a processor profile of each version" {
            kit::symptom(format!(
                "`tool.use` is {tool}, which does not say where 68 % of the processor's time goes"
            ));
        }
        let function = answers.choice(
            "tool.function",
            &[
                "runtime.gcBgMarkWorker",
                "runtime.netpoll",
                "runtime.chanrecv",
                "database/sql.(*DB).conn",
            ],
        );
        if function != "runtime.gcBgMarkWorker" {
            kit::symptom(format!(
                "`tool.function` is {function}, under which requests wait, and the collector does \
                 nothing"
            ));
        }
    });
}

#[test]
fn rollback_begins_where_nothing_gets_worse() {
    kit::check(|| {
        let steps = kit::answers!().list("rollback.steps");
        let known = ["a", "b", "c", "d", "e", "f"];
        if let Some(unknown) = steps.iter().find(|step| !known.contains(&step.as_str())) {
            kit::symptom(format!(
                "`rollback.steps` has \"{unknown}\", which is no step"
            ));
        }
        let has = |step: &str| steps.iter().any(|given| given == step);
        if has("b") {
            kit::symptom(
                "`rollback.steps` has \"b\": users wait for an hour, and an answer allocates as \
                 much as before",
            );
        }
        if has("e") {
            kit::symptom("`rollback.steps` has \"e\": what comes back is 2.3.1");
        }
        if steps.first().is_none_or(|first| first != "c") {
            kit::symptom(
                "`rollback.steps` begins with something else, and meanwhile the last two instances \
                 get 2.3.1",
            );
        }
        let at = |step: &str| steps.iter().position(|given| given == step);
        if at("a") < at("d") && at("a").is_some() {
            kit::symptom(
                "`rollback.steps` sends the traffic back first: what is there to profile after that?",
            );
        }
        assert!(
            steps == ["c", "d", "a", "f"],
            "`rollback.steps` is {}: is one missing, in there twice, or before what it needs?",
            steps.join(", ")
        );
    });
}

// The analyzer, on the dump of the brief and on deploys that the learner has not seen.

#[test]
fn harmless_deploys_are_left_alone() {
    kit::check(|| {
        let harmless = |report: Report, name: &str| {
            assert!(
                report.harm == Harm::None
                    && report.verdict == Verdict::NothingWrong
                    && report.since.is_none(),
                "{name}: nobody notices anything in the last five minutes; the report says {:?}, \
                 {:?}, since {:?}",
                report.harm,
                report.verdict,
                report.since
            );
        };
        for_each(&[Story::Harmless, Story::Spike], |report, _, name| {
            harmless(report, name)
        });
        for_each(&[Story::Harmless], |_, release, name| {
            let name = &format!("{name}, where answers always take 3 s at the 99th percentile");
            harmless(
                self::report(&with_latency(&release.metrics, 8.0), name),
                name,
            );
        });
        for_each(&[Story::Harmless], |_, release, name| {
            let name = &format!(
                "{name}, with a p99 of a third of the usual in its first sample, and of three times \
                 the usual in its last one"
            );
            harmless(
                self::report(&with_strays_at_both_ends(&release.metrics), name),
                name,
            );
        });
        for_each(&[Story::Harmless], |_, release, name| {
            let metrics = with_dearer_answers_of_the_new_version(&release.metrics);
            let name =
                &format!("{name}, with twice the processor for an answer of the new version");
            harmless(self::report(&metrics, name), name);
        });
    });
}

#[test]
fn guilty_deploys_are_charged() {
    kit::check(|| {
        let report = report(&kit::fixture!("window.om"), BRIEF);
        assert!(
            report.harm == Harm::Slow,
            "{BRIEF}: p99 is at 204 ms in the end, and one answer in a thousand fails; the report \
             says {:?}",
            report.harm
        );
        expect_verdict(
            &report,
            &Verdict::Deploy(vec![Charge::Cpu, Charge::Allocations]),
            BRIEF,
            "side by side, the instances of one version differ from those of the other",
        );
        for_each(
            &[Story::Allocates, Story::Computes, Story::Fails],
            |report, release, name| {
                let (charges, seen) = match release.story {
                    Story::Allocates => (
                        vec![Charge::Cpu, Charge::Allocations],
                        "an answer of the new version computes and allocates several times as much",
                    ),
                    Story::Computes => (
                        vec![Charge::Cpu],
                        "an answer of the new version computes several times as much, and \
                         allocates what it did",
                    ),
                    _ => (
                        vec![Charge::Errors],
                        "of the new version's answers more than one in a hundred fails",
                    ),
                };
                if release.story == Story::Fails {
                    expect_harm(&report, Harm::Failing, name);
                }
                expect_verdict(&report, &Verdict::Deploy(charges), name, seen);
            },
        );
    });
}

#[test]
fn traffic_acquits_a_deploy() {
    kit::check(|| {
        for_each(
            &[Story::Surge, Story::NoisyTenant],
            |report, release, name| {
                let since = match release.story {
                    Story::Surge => "since about a minute after the deploy began",
                    _ => "since just before the deploy began",
                };
                let seen = &format!(
                    "answers are slow, there are several times as many {since}, and one of the new \
                     version needs what one of the old needs"
                );
                expect_harm(&report, Harm::SlowAndFailing, name);
                expect_verdict(&report, &Verdict::Traffic, name, seen);
            },
        );
    });
}

#[test]
fn what_slows_both_versions_acquits_a_deploy() {
    kit::check(|| {
        for_each(
            &[Story::SlowBefore, Story::SlowAfter, Story::Lock],
            |report, release, name| {
                let (harm, failing) = match release.story {
                    Story::Lock => (
                        Harm::SlowAndFailing,
                        "of which more than one in a hundred is turned away from a full queue",
                    ),
                    _ => (Harm::Slow, "of which hardly any fails"),
                };
                let seen = &format!(
                    "answers are slow, there are as many as before, {failing}, and one of the new \
                     version needs what one of the old needs"
                );
                expect_harm(&report, harm, name);
                expect_verdict(&report, &Verdict::Elsewhere, name, seen);
            },
        );
        for_each(&[Story::SlowAfter], |_, release, name| {
            let name = &format!("{name}, where answers took 20 ms in the beginning");
            let report = self::report(&with_latency(&release.metrics, 0.05), name);
            let seen = "answers are slow, there are as many as before, and one of the new version \
                        needs what one of the old needs";
            expect_verdict(&report, &Verdict::Elsewhere, name, seen);
        });
    });
}

#[test]
fn versions_are_compared_by_the_answer() {
    kit::check(|| {
        let canonical = kit::fixture!("window.om");
        expect_comparison(
            &report(&canonical, BRIEF).compared,
            &side_by_side(&canonical),
            BRIEF,
        );
        for_each(&[Story::Fails], |report, release, name| {
            expect_comparison(&report.compared, &side_by_side(&release.metrics), name);
        });
        for_each(&[Story::Harmless], |_, release, name| {
            let metrics = with_another_price_at_other_times(&release.metrics);
            let name = &format!("{name}, with a price of an answer that falls with the time");
            let report = self::report(&metrics, name);
            expect_comparison(&report.compared, &side_by_side(&metrics), name);
        });
    });
}

#[test]
fn moments_of_deploy_and_harm_are_found() {
    kit::check(|| {
        let canonical = kit::fixture!("window.om");
        expect_moments(&report(&canonical, BRIEF), &canonical, BRIEF);
        for_each(&[Story::SlowAfter], |_, release, name| {
            let metrics = back_to_an_earlier_version(&release.metrics);
            let name = &format!("{name}, of 4.9.9 after 5.0.0");
            expect_moments(&self::report(&metrics, name), &metrics, name);
        });
        for_each(
            &[Story::SlowBefore, Story::Fails, Story::Lock],
            |report, release, name| expect_moments(&report, &release.metrics, name),
        );
    });
}

#[test]
fn incomplete_metrics_are_errors() {
    kit::check(|| {
        let canonical = kit::fixture!("window.om");
        let without = |part: &str| dump::without(&canonical, part);
        let one_after_the_other = dump::only(&canonical, |line| {
            !line.contains("version=\"2.3.0\"")
                || dump::Sample::of(line).is_some_and(|old| old.seconds() <= 1_763_042_400.0)
        });
        for (what, text) in [
            ("an empty text", String::new()),
            (
                "a page of HTML",
                "<html>502 Bad Gateway</html>\n".to_owned(),
            ),
            ("a window without the latency", without(LATENCY)),
            ("a window without the processors", without(CPU)),
            (
                "a window without the answers of the instances",
                without(ANSWERED),
            ),
            ("a window without a deploy", without("version=\"2.3.1\"")),
            (
                "a window whose versions never ran at the same time",
                one_after_the_other,
            ),
            (
                "a window without versions",
                canonical
                    .replace(",version=\"2.3.0\"", "")
                    .replace(",version=\"2.3.1\"", ""),
            ),
            (
                "nine minutes",
                dump::at(&canonical, |seconds| seconds >= 1_763_042_760.0),
            ),
        ] {
            kit::step(format!("analyzing {what}"));
            if let Ok(report) = analyze(&text) {
                kit::symptom(format!(
                    "{what} gives a report instead of an error: {report:?}"
                ));
            }
        }
        for panel in [LATENCY, ERRORS, CPU, ANSWERED] {
            let what = format!("a window whose last `{panel}` has no time");
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

/// Evidence for a claim about the canonical dump: series by their names.
fn evidence(claim: &str) -> Evidence<'_> {
    let scrape = Scrape::parse(&kit::fixture!("window.om")).expect("the fixture is well-formed");
    let mut known: Vec<String> = scrape.iter().map(|s| s.name.to_string()).collect();
    known.dedup();
    Evidence::for_claim(claim).exists(move |item| known.iter().any(|series| series == item))
}

fn expect_harm(report: &Report, expected: Harm, name: &str) {
    let seen = match expected {
        Harm::None => "answers are as fast as ever, and hardly any fails",
        Harm::Slow => {
            "answers take several times as long as in the beginning, and hardly any fails"
        }
        Harm::Failing => "answers are as fast as ever, and more than one in a hundred fails",
        Harm::SlowAndFailing => {
            "answers take several times as long as in the beginning, and more than one in a \
             hundred fails"
        }
    };
    assert!(
        report.harm == expected,
        "{name}: {seen}; the report says that the harm is {:?}",
        report.harm
    );
}

fn expect_verdict(report: &Report, expected: &Verdict, name: &str, seen: &str) {
    assert!(
        report.verdict == *expected,
        "{name}: {seen}; the report says {:?}",
        report.verdict
    );
}

fn expect_comparison(found: &Comparison, truth: &Comparison, name: &str) {
    // On the window of the brief the learner is asked for the numbers.
    let is = |truth: f64| match name {
        BRIEF => String::new(),
        _ => format!(", and it is {truth:.3}"),
    };
    for (what, found, truth, tolerance) in [
        ("processor time", found.cpu, truth.cpu, 0.05 * truth.cpu),
        (
            "bytes allocated",
            found.allocated,
            truth.allocated,
            0.05 * truth.allocated,
        ),
    ] {
        assert!(
            (found - truth).abs() <= tolerance,
            "{name}: of {what} an answer of the new version takes {found:.3} times what one of the \
             old takes, says the report{}",
            is(truth)
        );
    }
    assert!(
        (found.failing - truth.failing).abs() <= 0.002 + 0.05 * truth.failing,
        "{name}: the share of answers that fail is {:.4} more in the new version, says the \
         report{}",
        found.failing,
        is(truth.failing)
    );
}

/// Holds the moments of a report against the panels, by the words of its documentation.
fn expect_moments(report: &Report, metrics: &str, name: &str) {
    let versions = versions(metrics);
    let (deployed, _) = versions
        .iter()
        .find(|(_, [_, new])| new.answers > 0.0)
        .expect("there is a deploy");
    #[expect(clippy::cast_precision_loss, reason = "Unix time in seconds")]
    let deployed = *deployed as f64;
    assert!(
        (report.deployed - deployed).abs() <= 60.0,
        "{name}: the first sample of the new version is of {deployed}; the report says {}",
        report.deployed
    );
    let latency = samples(metrics, LATENCY);
    let mut beginning: Vec<f64> = latency.iter().take(10).map(|(_, value)| *value).collect();
    beginning.sort_by(f64::total_cmp);
    let (truth, seen) = match (
        reached(&latency, 2.0 * beginning[5]),
        reached(&samples(metrics, ERRORS), 0.01),
    ) {
        (Some(slow), None) => (slow, "answers are slow to the end"),
        (None, Some(failing)) => (failing, "answers fail to the end"),
        (Some(slow), Some(failing)) => (
            slow.min(failing),
            "answers are slow to the end, and some fail",
        ),
        (None, None) => unreachable!("somebody is harmed"),
    };
    let Some(since) = report.since else {
        kit::symptom(format!("{name}: {seen}, and the report has no `since`"));
    };
    assert!(
        (since - truth).abs() <= 60.0,
        "{name}: {seen}; the report's `since` is {:.0} s {} they became so",
        (since - truth).abs(),
        if since < truth { "before" } else { "after" }
    );
}

/// Since when a panel has been at `level` or above without a break, to the end.
fn reached(samples: &[(f64, f64)], level: f64) -> Option<f64> {
    let last = samples.iter().rposition(|&(_, value)| value < level);
    let (at, _) = samples.get(last.expect("it begins well") + 1)?;
    Some(*at)
}

fn samples(metrics: &str, panel: &str) -> Vec<(f64, f64)> {
    let scrape = Scrape::parse(metrics).expect("dumps are well-formed");
    scrape
        .samples(panel)
        .map(|sample| {
            let at = sample.timestamp.expect("dumps have times");
            (at.as_seconds(), sample.value)
        })
        .collect()
}

#[derive(Clone, Copy, Default)]
struct Work {
    answers: f64,
    failed: f64,
    cpu: f64,
    allocated: f64,
}

/// What the old and the new version did, by moment.
fn versions(metrics: &str) -> BTreeMap<i64, [Work; 2]> {
    let scrape = Scrape::parse(metrics).expect("dumps are well-formed");
    let by_series = |panel: &str| -> BTreeMap<(i64, String, String), f64> {
        let samples = scrape.samples(panel).map(|sample| {
            let label = |name: &str| sample.labels.get(name).expect("it is of an instance");
            let at = sample.timestamp.expect("dumps have times").as_millis() / 1_000;
            (
                (
                    at,
                    label("version").to_owned(),
                    label("instance").to_owned(),
                ),
                sample.value,
            )
        });
        samples.collect()
    };
    let [answered, failed, cpu, allocated] = [ANSWERED, FAILED, CPU, ALLOCATED].map(by_series);
    let old = answered.keys().next().expect("it has samples").1.clone();
    let mut moments: BTreeMap<i64, [Work; 2]> = BTreeMap::new();
    for (key, answers) in &answered {
        let work = &mut moments.entry(key.0).or_default()[usize::from(key.1 != old)];
        work.answers += answers;
        work.failed += answers * failed.get(key).unwrap_or(&0.0);
        work.cpu += cpu[key];
        work.allocated += allocated[key];
    }
    moments
}

/// The comparison that the documentation describes.
fn side_by_side(metrics: &str) -> Comparison {
    let mut of = [Work::default(); 2];
    for moment in versions(metrics).into_values() {
        if moment.iter().all(|work| work.answers > 0.0) {
            for (sum, work) in of.iter_mut().zip(moment) {
                sum.answers += work.answers;
                sum.failed += work.failed;
                sum.cpu += work.cpu;
                sum.allocated += work.allocated;
            }
        }
    }
    let [old, new] = of;
    Comparison {
        cpu: (new.cpu / new.answers) / (old.cpu / old.answers),
        allocated: (new.allocated / new.answers) / (old.allocated / old.answers),
        failing: new.failed / new.answers - old.failed / old.answers,
    }
}

/// A dump of a service whose answers take so many times as long, from its beginning to its end.
fn with_latency(metrics: &str, factor: f64) -> String {
    dump::revalued(metrics, |sample| {
        (sample.series == LATENCY).then_some(sample.value * factor)
    })
}

/// A dump whose latency is off for one sample at each of its ends.
fn with_strays_at_both_ends(metrics: &str) -> String {
    let latency = samples(metrics, LATENCY);
    let (first, last) = (latency[0].0, latency[latency.len() - 1].0);
    dump::revalued(metrics, |sample| match sample.series {
        LATENCY if sample.seconds() == first => Some(sample.value / 3.0),
        LATENCY if sample.seconds() == last => Some(sample.value * 3.0),
        _ => None,
    })
}

/// The version of the beginning, and that of the end.
fn old_and_new(metrics: &str) -> [String; 2] {
    let scrape = Scrape::parse(metrics).expect("dumps are well-formed");
    let mut samples: Vec<_> = scrape.samples(ANSWERED).collect();
    samples.sort_by_key(|sample| sample.timestamp.map(|at| at.as_millis()));
    [samples.first(), samples.last()].map(|sample| {
        let version = sample.and_then(|sample| sample.labels.get("version"));
        version.expect("instances have versions").to_owned()
    })
}

/// A dump whose new version has the lower number.
fn back_to_an_earlier_version(metrics: &str) -> String {
    let [old, new] = old_and_new(metrics);
    metrics
        .replace(&format!("version=\"{old}\""), "version=\"5.0.0\"")
        .replace(&format!("version=\"{new}\""), "version=\"4.9.9\"")
}

/// A dump whose new version takes twice as much of the processor.
fn with_dearer_answers_of_the_new_version(metrics: &str) -> String {
    let [_, new] = old_and_new(metrics);
    let of_new = format!("version=\"{new}\"");
    dump::revalued(metrics, |sample| {
        let dearer = sample.name() == CPU && sample.series.contains(&of_new);
        dearer.then_some(2.0 * sample.value)
    })
}

/// A dump in which an answer of either version costs more before both run, and less after it.
fn with_another_price_at_other_times(metrics: &str) -> String {
    let both: Vec<i64> = versions(metrics)
        .into_iter()
        .filter(|(_, moment)| moment.iter().all(|work| work.answers > 0.0))
        .map(|(at, _)| at)
        .collect();
    let (Some(first), Some(last)) = (both.first(), both.last()) else {
        unreachable!("versions of a rollout run side by side")
    };
    dump::revalued(metrics, |sample| {
        if ![CPU, ALLOCATED].contains(&sample.name()) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "Unix time in seconds")]
        let factor = match sample.seconds() as i64 {
            at if at < *first => 1.8,
            at if at > *last => 0.6,
            _ => 1.0,
        };
        Some(factor * sample.value)
    })
}

/// A deploy of each story from each seed.
fn for_each(stories: &[Story], judge: impl Fn(Report, Release, &str)) {
    kit::seed::each(&SEEDS, |seed| {
        for (nth, story) in stories.iter().enumerate() {
            let Seed(own) = seed.derive(nth as u64);
            let release = releases::of(*story, own);
            let name = format!("an unseen deploy (seed {seed}, {nth})");
            judge(report(&release.metrics, &name), release, &name);
        }
    });
}

fn report(metrics: &str, name: &str) -> Report {
    kit::step(format!("analyzing {name}"));
    analyze(metrics).unwrap_or_else(|error| kit::symptom(format!("{name}: no report, but {error}")))
}
