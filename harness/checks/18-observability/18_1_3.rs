//! 18.1.3: a gauge that shows one request in twenty-five thousand, and the histogram instead of it.

use std::time::Duration;

use super::subject::Latency;
use incident::chance::Chance;
use kit::answers::Tolerance;
use kit::evidence::Evidence;
use prometheus::{Encoder as _, Registry, TextEncoder};
use promql::{Engine, Labels, Query, Storage, Value};
use telemetry::metrics::{Histogram, Kind, Scrape};
use tokio::task::JoinSet;

const SEEDS: [u64; 3] = [3, 17, 40];
const NAME: &str = "request_duration_seconds";
const SCRAPE: i64 = 15_000;
/// The bounds of the services that are not the learner's own.
const BOUNDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

// The learner's answers, on the dump of the brief.

#[test]
fn gauge_is_explained() {
    kit::check(|| {
        let answers = kit::answers!();
        let shows = answers.choice(
            "gauge.shows",
            &[
                "the mean of the requests since the last scrape",
                "the request that ended last",
                "the slowest request under way",
                "the mean of those under way",
            ],
        );
        match shows {
            "the slowest request under way" => kit::symptom(
                "`gauge.shows` is \"the slowest request under way\": at every moment some of the \
                 100 requests are slow ones, and 237 of 240 scrapes show about 10 ms",
            ),
            "the request that ended last" => {}
            mean => kit::symptom(format!(
                "`gauge.shows` is \"{mean}\": a mean would lie between 10 and 5,000 ms, and no \
                 scrape of the hour does"
            )),
        }
        answers.expect_number(
            "gauge.usually_ms",
            10.0,
            Tolerance::Absolute(1.0),
            "what most scrapes show",
        );
        answers.expect_number(
            "gauge.scrapes_above_a_second",
            1.0,
            Tolerance::Absolute(0.05),
            "the scrapes of 100 that meet a slow request",
        );
    });
}

#[test]
fn hour_is_read() {
    kit::check(|| {
        let answers = kit::answers!();
        let hour = Scrape::parse(&kit::fixture!("hour.om")).expect("the fixture is well-formed");
        let time = |sample: &telemetry::metrics::Sample| {
            let time = sample.timestamp.expect("every sample has a time");
            time.as_seconds().to_string()
        };
        let times: Vec<String> = hour.samples("request_latency_ms").map(time).collect();
        let slow: Vec<String> = hour
            .samples("request_latency_ms")
            .filter(|sample| sample.value > 1_000.0)
            .map(time)
            .collect();
        let mut evidence = Evidence::for_claim("the gauge met slow requests")
            .exists(|item| times.iter().any(|time| time == item));
        for time in &slow {
            evidence = evidence.proves("one more scrape above a second", &[time]);
        }
        evidence.demand(&answers.list("hour.at"));
        answers.expect_number(
            "hour.mean_ms",
            59.9,
            Tolerance::Relative(0.01),
            "the mean of all requests",
        );
        let counts: Vec<f64> = hour
            .samples("proxy_requests_total")
            .map(|sample| sample.value)
            .collect();
        let ended = (counts[counts.len() - 1] - counts[0]) / (counts.len() - 1) as f64;
        answers.expect_number(
            "hour.requests_per_scrape",
            ended,
            Tolerance::Relative(0.01),
            "the requests from one scrape to the next",
        );
        answers.expect_number(
            "hour.slow_per_minute",
            0.01 * 4.0 * ended,
            Tolerance::Relative(0.02),
            "the slow requests of a minute",
        );
    });
}

#[test]
fn alert_is_judged() {
    kit::check(|| {
        let answers = kit::answers!();
        answers.expect_number(
            "alert.fires_in_an_hour",
            100.0 * (1.0 - 0.99_f64.powi(240)),
            Tolerance::Absolute(1.0),
            "the chance of at least one slow request at 240 scrapes, in percent",
        );
        let five = answers.choice(
            "alert.five_in_a_row",
            &["one in a hundred", "one in a million", "one in ten billion"],
        );
        assert!(
            five == "one in ten billion",
            "`alert.five_in_a_row` is \"{five}\": each of the five scrapes has to meet one of the \
             slow requests, which are one in a hundred"
        );
        let fault = answers.choice("alert.fault", &["its threshold", "its `for`", "its metric"]);
        assert!(
            fault == "its metric",
            "`alert.fault` is \"{fault}\": play the hour through with another one; whatever you \
             take, how many users wait decides nothing"
        );
    });
}

// The metric, in virtual time.

#[test]
fn histogram_spans_what_users_meet() {
    kit::check(|| {
        let (latency, registry) = instrumented();
        one_request(&latency);
        let histogram = histogram(&registry);
        let finite: Vec<f64> = histogram
            .buckets
            .iter()
            .map(|bucket| bucket.le)
            .filter(|le| le.is_finite())
            .collect();
        let (Some(&lowest), Some(&highest)) = (finite.first(), finite.last()) else {
            kit::symptom(format!(
                "{NAME} has no finite bound: every p99 would be +Inf"
            ));
        };
        assert!(
            lowest <= 0.005 && highest >= 10.0,
            "the bounds of {NAME} go from {lowest} s to {highest} s; an ordinary request takes \
             0.01 s, and a slow one 5 s"
        );
        assert!(
            finite.len() <= 20,
            "{NAME} has {} finite bounds, each a series for every instance",
            finite.len()
        );
        if let Some(gap) = finite.windows(2).find(|two| two[1] / two[0] > 2.5001) {
            kit::symptom(format!(
                "the bounds of {NAME} go from {} s to {} s at once: a quantile between them may \
                 be off by a factor of {:.1}",
                gap[0],
                gap[1],
                gap[1] / gap[0]
            ));
        }
    });
}

#[test]
fn every_request_is_counted_once_in_seconds() {
    kit::check(|| {
        let (latency, registry) = instrumented();
        kit::time::paused(async {
            let mut requests = JoinSet::new();
            for nth in 0..100_u64 {
                let latency = latency.clone();
                let millis = if nth == 42 { 5_000 } else { 10 };
                requests.spawn(async move {
                    latency
                        .timed(tokio::time::sleep(Duration::from_millis(millis)))
                        .await;
                });
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let early = histogram(&registry);
            assert!(
                early.count == 99.0,
                "100 requests began at once and 99 have ended; {NAME} has counted {}",
                early.count
            );
            requests.join_all().await;
        });
        let all = histogram(&registry);
        let truth = 99.0 * 0.010 + 5.0;
        assert!(
            all.count == 100.0 && (all.sum - truth).abs() < 0.2,
            "100 requests took {truth:.2} s together; {NAME} has counted {} and a sum of {:.2}",
            all.count,
            all.sum
        );
        kit::time::paused(async {
            let waiting = latency.timed(async {
                tokio::time::sleep(Duration::from_secs(1)).await;
            });
            tokio::time::sleep(Duration::from_secs(60)).await;
            waiting.await;
        });
        let took = histogram(&registry).sum - all.sum;
        assert!(
            (took - 1.0).abs() < 0.05,
            "a request was made, first polled a minute later, and ended a second after that; \
             {NAME} has counted it with {took:.2} s"
        );
    });
}

#[test]
fn canceled_requests_and_panics_count_too() {
    kit::check(|| {
        let (latency, registry) = instrumented();
        kit::time::paused(async {
            let hung_up = tokio::time::timeout(
                Duration::from_secs(3),
                latency.timed(std::future::pending::<()>()),
            );
            assert!(hung_up.await.is_err(), "a request without an end has ended");
        });
        let canceled = histogram(&registry);
        assert!(
            canceled.count == 1.0 && (canceled.sum - 3.0).abs() < 0.01,
            "a client has hung up after 3 s; {NAME} has counted {} and a sum of {:.2} s",
            canceled.count,
            canceled.sum
        );
        let outcome = kit::time::paused(async {
            let latency = latency.clone();
            let failing = async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                std::panic::resume_unwind(Box::new("no price"));
            };
            tokio::spawn(async move { latency.timed(failing).await }).await
        });
        assert!(outcome.is_err(), "the panic of a request was swallowed");
        let panicked = histogram(&registry);
        assert!(
            panicked.count == 2.0 && (panicked.sum - 5.0).abs() < 0.02,
            "a handler has panicked after 2 s, one was canceled after 3; {NAME} has counted {} \
             and a sum of {:.2} s",
            panicked.count,
            panicked.sum
        );
    });
}

#[test]
fn one_truth_is_exposed() {
    kit::check(|| {
        let (latency, registry) = instrumented();
        one_request(&latency);
        let scrape = scraped(&registry);
        for family in scrape.families.iter().filter(|of| of.kind == Kind::Gauge) {
            if family.name.contains("latency") {
                kit::symptom(format!(
                    "`{}` is still exposed, and somebody has an alert on it",
                    family.name
                ));
            }
            let ten_ms = |shown: &f64| {
                [10.0, 0.010]
                    .iter()
                    .any(|ms| (shown / ms - 1.0).abs() < 0.2)
            };
            let mut shown = scrape.samples(&family.name).map(|sample| sample.value);
            if let Some(shown) = shown.find(ten_ms) {
                kit::symptom(format!(
                    "one request has ended, after 10 ms, and the gauge `{}` shows {shown}",
                    family.name
                ));
            }
        }
        assert!(
            Latency::register(&registry).is_err(),
            "the registry has a metric of that name already, and registering it once more gives \
             no error: what is counted there, no scrape shows"
        );
    });
}

#[test]
fn answers_come_through() {
    kit::check(|| {
        let (latency, _registry) = instrumented();
        kit::time::paused(async {
            let price = latency.timed(async { Ok::<_, String>(4_990) }).await;
            assert!(price == Ok(4_990), "the answer has become {price:?}");
            let error = latency
                .timed(async { Err::<u32, _>("no such item".to_owned()) })
                .await;
            assert!(error.is_err(), "the error has become {error:?}");
        });
    });
}

// The query, over services that the learner has not seen, and over the learner's own.

#[test]
fn query_is_the_p99_of_all_instances() {
    kit::check(|| {
        let query = query();
        kit::seed::each(&SEEDS, |seed| {
            // A canary that is slow, and gets few requests; the others are as always.
            let mut fleet = Fleet::new(seed.0);
            for instance in 0..4 {
                let canary = instance == 3;
                fleet.serve(Part {
                    instance,
                    from: 0,
                    to: 80,
                    rate: if canary { 4 } else { 200 },
                    slow: if canary { 0.5 } else { 0.004 },
                });
            }
            fleet.expect(
                &query,
                80,
                "one of four instances is slow, with 4 of 604 requests",
            );
            // A slow request in fifty, everywhere.
            let mut fleet = Fleet::new(seed.0);
            for instance in 0..2 {
                fleet.serve(Part {
                    instance,
                    from: 0,
                    to: 80,
                    rate: 120,
                    slow: 0.02,
                });
            }
            fleet.expect(&query, 80, "one request in fifty is slow on both instances");
        });
    });
}

#[test]
fn query_looks_back_for_five_minutes() {
    kit::check(|| {
        let query = query();
        kit::seed::each(&SEEDS, |seed| {
            let mut fleet = Fleet::new(seed.0);
            let part = |from, to, slow| Part {
                instance: 0,
                from,
                to,
                rate: 150,
                slow,
            };
            // Ten bad minutes that have been over for six, at scrape 80.
            fleet.serve(part(0, 16, 0.002));
            fleet.serve(part(16, 56, 0.3));
            fleet.serve(part(56, 80, 0.002));
            fleet.expect(&query, 80, "an incident has been over for six minutes");
            fleet.expect(&query, 54, "an incident goes on");
            let just_over = "an incident has been over for four minutes and a quarter";
            fleet.expect(&query, 56 + 17, just_over);
            // A restart in the middle of the window: the counters begin again.
            let mut fleet = Fleet::new(seed.0);
            fleet.serve(part(0, 70, 0.002));
            fleet.restart(0);
            fleet.serve(part(70, 80, 0.002));
            fleet.expect(&query, 80, "an instance was restarted two minutes ago");
            // Beside one whose counters still hold an incident of long ago.
            let mut fleet = Fleet::new(seed.0);
            let beside = |from, to, slow| Part {
                instance: 1,
                ..part(from, to, slow)
            };
            fleet.serve(part(0, 70, 0.002));
            fleet.serve(beside(0, 40, 0.3));
            fleet.serve(beside(40, 80, 0.002));
            fleet.restart(0);
            fleet.serve(part(70, 80, 0.002));
            let long_over = "an instance was restarted, and another had an incident before";
            fleet.expect(&query, 80, long_over);
        });
    });
}

#[test]
fn p99_follows_what_users_meet() {
    kit::check(|| {
        let query = query();
        for (every, least, most, what) in [
            (50, 2.5, 10.0, "one request in 50 takes 5 s"),
            (200, 0.0, 0.025, "one request in 200 takes 5 s"),
        ] {
            kit::step(format!("serving for six minutes; {what}"));
            let storage = served(every);
            let at = 6 * 60_000;
            let found = ask(&query, &storage, at, what);
            assert!(
                (least..=most).contains(&found),
                "{what}, all others 10 ms; your query over your metric says {found} s"
            );
        }
    });
}

fn instrumented() -> (Latency, Registry) {
    let registry = Registry::new();
    let latency = Latency::register(&registry)
        .unwrap_or_else(|error| kit::symptom(format!("an empty registry gives {error}")));
    (latency, registry)
}

/// An ordinary request: 10 ms.
fn one_request(latency: &Latency) {
    kit::time::paused(async {
        latency
            .timed(tokio::time::sleep(Duration::from_millis(10)))
            .await;
    });
}

fn scraped(registry: &Registry) -> Scrape {
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&registry.gather(), &mut text)
        .unwrap_or_else(|error| kit::symptom(format!("the registry cannot be gathered: {error}")));
    Scrape::from_slice(&text)
        .unwrap_or_else(|error| kit::symptom(format!("the scrape cannot be read: {error}")))
}

fn histogram(registry: &Registry) -> Histogram {
    let scrape = scraped(registry);
    scrape.histogram(NAME, &[]).unwrap_or_else(|_| {
        let exposed: Vec<String> = scrape
            .families
            .iter()
            .map(|family| format!("{} {}", family.kind, family.name))
            .collect();
        kit::symptom(format!(
            "a scrape has no histogram {NAME} without labels, only: {}",
            if exposed.is_empty() {
                "nothing".to_owned()
            } else {
                exposed.join(", ")
            }
        ))
    })
}

/// The learner's query.
fn query() -> Query {
    let text = kit::answers!().text("p99.query");
    Query::parse(&text).unwrap_or_else(|diagnostic| {
        kit::symptom(format!(
            "`p99.query` cannot be evaluated\n{}",
            diagnostic.render()
        ))
    })
}

/// The one number that the query answers with.
fn ask(query: &Query, storage: &Storage, at_ms: i64, what: &str) -> f64 {
    let answer = Engine::default()
        .instant(storage, query, at_ms)
        .unwrap_or_else(|error| kit::symptom(format!("{what}: {error}")));
    match &answer.value {
        Value::Scalar(point) => point.value,
        Value::Vector(samples) => match samples.as_slice() {
            [one] if one.labels.is_empty() => one.value,
            [] => kit::symptom(format!("{what}, and the query gives nothing at all")),
            samples => {
                let series: Vec<String> = samples
                    .iter()
                    .take(4)
                    .map(|sample| format!("{} {}", sample.labels.braced(), sample.value))
                    .collect();
                kit::symptom(format!(
                    "{what}, and the query gives {} samples where one without labels was asked \
                     for: {}",
                    samples.len(),
                    series.join(", ")
                ))
            }
        },
        other => kit::symptom(format!(
            "the query gives a {} where a number was asked for",
            other.value_type()
        )),
    }
}

/// Some minutes of one instance.
struct Part {
    instance: usize,
    /// Scrapes.
    from: i64,
    to: i64,
    /// Requests from one scrape to the next.
    rate: u32,
    /// The share of them that takes about 5 s; the others take about 10 ms.
    slow: f64,
}

/// Instances with a histogram each, as Prometheus has scraped them.
struct Fleet {
    chance: Chance,
    storage: Storage,
    /// Cumulative, by instance; the last one is `+Inf`.
    counts: Vec<[f64; BOUNDS.len() + 1]>,
    /// Of all instances, by scrape.
    durations: Vec<(i64, f64)>,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        Fleet {
            chance: Chance::of(seed),
            storage: Storage::new(),
            counts: Vec::new(),
            durations: Vec::new(),
        }
    }

    fn serve(&mut self, part: Part) {
        if self.counts.len() <= part.instance {
            self.counts
                .resize(part.instance + 1, [0.0; BOUNDS.len() + 1]);
        }
        for scrape in part.from..part.to {
            for _ in 0..part.rate {
                let took = if self.chance.happens(part.slow) {
                    self.chance.between(4.2, 5.8)
                } else {
                    self.chance.between(0.0075, 0.0095)
                };
                self.durations.push((scrape, took));
                let at = BOUNDS.partition_point(|bound| *bound < took);
                for count in &mut self.counts[part.instance][at..] {
                    *count += 1.0;
                }
            }
            self.scrape(part.instance, scrape);
        }
    }

    /// The instance's process ends and another one begins.
    fn restart(&mut self, instance: usize) {
        self.counts[instance] = [0.0; BOUNDS.len() + 1];
    }

    fn scrape(&mut self, instance: usize, scrape: i64) {
        let name = format!("10.0.3.{}:9100", 11 + instance);
        let at_ms = (scrape + 1) * SCRAPE;
        let mut push = |sample: &str, le: Option<String>, value: f64| {
            let labels = [
                ("job", "prices".to_owned()),
                ("instance", name.clone()),
                ("le", le.unwrap_or_default()),
            ];
            let labels = Labels::named(&format!("{NAME}_{sample}"), labels);
            self.storage
                .append(labels, at_ms, value)
                .expect("scrapes are in order");
        };
        let counts = &self.counts[instance];
        for (nth, count) in counts.iter().enumerate() {
            let le = BOUNDS
                .get(nth)
                .map_or("+Inf".to_owned(), |bound| format!("{bound:?}"));
            push("bucket", Some(le), *count);
        }
        push("count", None, counts[BOUNDS.len()]);
    }

    /// Holds the query against the p99 of what ended in the five minutes up to a scrape: it has to
    /// lie in the same bucket.
    fn expect(&self, query: &Query, scrape: i64, what: &str) {
        kit::step(format!("asking for the p99 while {what}"));
        let mut ended: Vec<f64> = self
            .durations
            .iter()
            .filter(|(at, _)| (scrape - 20..scrape).contains(at))
            .map(|(_, took)| *took)
            .collect();
        ended.sort_by(f64::total_cmp);
        let truth = kit::time::percentile(&ended, 99.0).expect("requests have ended");
        let found = ask(query, &self.storage, scrape * SCRAPE, what);
        let bucket = |value: f64| BOUNDS.partition_point(|bound| *bound < value);
        assert!(
            found.is_finite() && bucket(truth) == bucket(found),
            "{what}: 99 of 100 requests took {truth:.3} s at most, and the query says {found} s"
        );
    }
}

/// Six minutes of requests through the learner's own metric, scraped every 15 s, of which one in
/// `every` is slow.
fn served(every: u64) -> Storage {
    let (latency, registry) = instrumented();
    let mut storage = Storage::new();
    kit::time::paused(async {
        let mut requests = JoinSet::new();
        let mut nth = 0_u64;
        for scrape in 0..=24_i64 {
            if scrape > 0 {
                for _ in 0..300 {
                    nth += 1;
                    let latency = latency.clone();
                    let millis = if nth.is_multiple_of(every) { 5_000 } else { 10 };
                    requests.spawn(async move {
                        let request = tokio::time::sleep(Duration::from_millis(millis));
                        latency.timed(request).await;
                    });
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            for sample in scraped(&registry).iter() {
                let labels = sample
                    .labels
                    .iter()
                    .chain([("job", "prices"), ("instance", "10.0.3.11:9100")])
                    .map(|(name, value)| (name.to_owned(), value.to_owned()));
                storage
                    .append(
                        Labels::named(&sample.name, labels),
                        scrape * SCRAPE,
                        sample.value,
                    )
                    .expect("scrapes are in order");
            }
            while requests.try_join_next().is_some() {}
        }
    });
    storage
}
