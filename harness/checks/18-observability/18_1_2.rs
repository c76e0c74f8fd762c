//! 18.1.2: a worker pool that can be seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kit::time::{self, Gate};
use prometheus::{IntGauge, Registry, TextEncoder};
use telemetry::metrics::{Histogram, Kind, Scrape, lint};

use super::subject::exporter;
use super::subject::pool::{Pool, TaskError};

const QUEUE: &str = "worker_pool_queue_size";
const ACTIVE: &str = "worker_pool_workers_active";
const TOTAL: &str = "worker_pool_workers_total";
const TASKS: &str = "worker_pool_tasks_total";
const DURATION: &str = "worker_pool_task_duration_seconds";
const BOUNDS: [f64; 9] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

#[test]
fn metrics_are_served_over_http() {
    kit::check(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let registry = Registry::new();
            let pool = new_pool(4, &registry);
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
                .await
                .expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            let server = tokio::spawn(exporter::serve(listener, registry));
            kit::step("asking for GET /metrics");
            let response = kit::http::get(address, "/metrics", &[])
                .await
                .unwrap_or_else(|error| kit::symptom(format!("GET /metrics: {error}")));
            assert!(
                response.status == 200,
                "GET /metrics answers {}",
                response.status
            );
            let content_type = response.header("content-type").unwrap_or("none");
            assert!(
                content_type.starts_with("text/plain") && content_type.contains("version=0.0.4"),
                "GET /metrics has the content type {content_type}, and Prometheus expects \
                 text/plain; version=0.0.4"
            );
            let text = response.text();
            // The name of this gauge ends as a counter's should; dashboards have known it for years.
            let findings: Vec<String> = lint(&text)
                .iter()
                .map(ToString::to_string)
                .filter(|finding| !finding.contains(&format!("`{TOTAL}` is a gauge")))
                .collect();
            assert!(
                findings.is_empty(),
                "what GET /metrics gives has faults:\n  {}",
                findings.join("\n  ")
            );
            let scrape = Scrape::parse(&text).expect("it has no fault");
            let workers = scrape.value(TOTAL, &[]);
            assert!(
                workers == Some(4.0),
                "a pool of four workers is served as {TOTAL} {workers:?}:\n{}",
                excerpt(&text)
            );
            kit::step("asking for GET /healthz");
            let health = kit::http::get(address, "/healthz", &[]).await;
            let health = health.map(|response| response.text());
            assert!(
                health.as_deref().is_ok_and(|text| text == "ok"),
                "GET /healthz used to answer \"ok\", and gives {health:?}"
            );
            server.abort();
            pool.shutdown().await;
        });
    });
}

#[test]
fn every_metric_is_there_from_the_start() {
    kit::check(|| {
        time::paused(async {
            let registry = Registry::new();
            let pool = new_pool(8, &registry);
            let (text, scrape) = scraped(&registry);
            for (name, kind) in [
                (QUEUE, Kind::Gauge),
                (ACTIVE, Kind::Gauge),
                (TOTAL, Kind::Gauge),
                (TASKS, Kind::Counter),
                (DURATION, Kind::Histogram),
            ] {
                let found = scrape.family(name).map(|family| family.kind);
                assert!(
                    found == Some(kind),
                    "before the first task, {name} should be a {kind:?} and is {found:?}:\n{}",
                    excerpt(&text)
                );
            }
            for status in ["ok", "error", "panic"] {
                let value = scrape.value(TASKS, &[("status", status)]);
                assert!(
                    value == Some(0.0),
                    "before the first task, {TASKS}{{status=\"{status}\"}} should be 0, so that \
                     its first increase can be seen; it is {value:?}"
                );
            }
            let series = scrape.samples(TASKS).count();
            assert!(
                series == 3,
                "{TASKS} has {series} series, and tasks end in three ways"
            );
            pool.shutdown().await;
        });
    });
}

#[test]
fn buckets_are_those_of_the_service_in_seconds() {
    kit::check(|| {
        time::paused(async {
            let registry = Registry::new();
            let pool = new_pool(2, &registry);
            let bounds: Vec<f64> = durations(&registry).buckets.iter().map(|b| b.le).collect();
            let expected: Vec<f64> = BOUNDS.into_iter().chain([f64::INFINITY]).collect();
            assert!(
                bounds == expected,
                "the bounds of {DURATION} should be {expected:?}, and are {bounds:?}"
            );
            pool.shutdown().await;
        });
    });
}

#[test]
fn queue_size_is_that_of_the_moment() {
    kit::check(|| {
        time::paused(async {
            let registry = Registry::new();
            let pool = new_pool(2, &registry);
            let gate = Gate::closed();
            for _ in 0..10 {
                submit(&pool, held(&gate)).await;
            }
            kit::step("waiting for two of ten tasks to run");
            gate.held(2).await;
            time::settle().await;
            expect_gauges(
                &registry,
                8,
                2,
                "ten tasks for two workers, none of which has ended",
            );
            gate.let_go(3);
            kit::step("waiting for three of ten tasks to end");
            time::settle().await;
            gate.held(2).await;
            expect_gauges(
                &registry,
                5,
                2,
                "three of ten tasks have ended, and none was submitted",
            );
            gate.open();
            time::settle().await;
            expect_gauges(&registry, 0, 0, "all of ten tasks have ended");
            pool.shutdown().await;
        });
    });
}

#[test]
fn canceled_submitters_leave_no_trace() {
    kit::check(|| {
        time::paused(async {
            let registry = Registry::new();
            let pool = Arc::new(new_pool(1, &registry));
            let gate = Gate::closed();
            for _ in 0..11 {
                submit(&pool, held(&gate)).await;
                time::settle().await;
            }
            let waiting: Vec<_> = (0..5)
                .map(|_| {
                    let (pool, gate) = (Arc::clone(&pool), gate.clone());
                    tokio::spawn(async move { pool.submit(held(&gate)).await })
                })
                .collect();
            time::settle().await;
            let what = "one task runs, ten fill the queue, and five submitters wait for room";
            expect_gauges(&registry, 10, 1, what);
            for submitter in waiting {
                submitter.abort();
            }
            time::settle().await;
            let what = "the five submitters that waited for room have given up";
            expect_gauges(&registry, 10, 1, what);
            gate.open();
            kit::step("waiting for eleven tasks to end");
            time::settle().await;
            expect_gauges(
                &registry,
                0,
                0,
                "all eleven tasks have ended, after five were given up",
            );
        });
    });
}

#[test]
fn tasks_are_counted_once_by_how_they_ended() {
    kit::check(|| {
        time::paused(async {
            let registry = Registry::new();
            let pool = new_pool(3, &registry);
            kit::step("running 60 tasks, of which 15 fail and 10 panic");
            for n in 0..60 {
                submit(&pool, async move {
                    match n % 12 {
                        0 | 5 => std::panic::panic_any("a picture that cannot be decoded"),
                        3 | 7 | 11 => Err(TaskError("no such picture".into())),
                        _ => Ok(()),
                    }
                })
                .await;
            }
            pool.shutdown().await;
            let (_, scrape) = scraped(&registry);
            let count = |status| {
                scrape
                    .value(TASKS, &[("status", status)])
                    .unwrap_or(f64::NAN)
            };
            let found = [count("ok"), count("error"), count("panic")];
            assert!(
                found == [35.0, 15.0, 10.0],
                "of 60 tasks 35 ended well, 15 with an error and 10 with a panic; {TASKS} says \
                 ok {}, error {}, panic {}",
                found[0],
                found[1],
                found[2]
            );
            let observed = durations(&registry).count;
            assert!(
                observed == 60.0,
                "60 tasks have ended, and {DURATION} has observed {observed}"
            );
            expect_gauges(
                &registry,
                0,
                0,
                "60 tasks have ended, ten of them with a panic",
            );
        });
    });
}

#[test]
fn durations_are_run_times_in_seconds() {
    kit::check(|| {
        time::paused(async {
            let registry = Registry::new();
            // One worker: all but the first of the tasks wait, and that must not count; nor must
            // the time in which there is nothing to do.
            let pool = new_pool(1, &registry);
            tokio::time::sleep(Duration::from_secs(5)).await;
            let took = [0.003, 0.02, 0.02, 0.07, 0.4, 0.7, 2.0];
            for seconds in took {
                submit(&pool, async move {
                    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                    if seconds > 1.0 {
                        Err(TaskError("too large".into()))
                    } else {
                        Ok(())
                    }
                })
                .await;
            }
            pool.shutdown().await;
            let found = durations(&registry);
            let sum: f64 = took.iter().sum();
            assert!(
                (found.sum - sum).abs() < 0.02,
                "seven tasks ran for {sum:.3} s together, one after the other, and {DURATION}_sum \
                 is {}",
                found.sum
            );
            let cumulative: Vec<f64> = found.buckets.iter().map(|b| b.cumulative).collect();
            let expected: Vec<f64> = BOUNDS
                .iter()
                .chain(&[f64::INFINITY])
                .map(|&le| took.iter().filter(|&&seconds| seconds < le).count() as f64)
                .collect();
            assert!(
                cumulative == expected,
                "tasks that ran for {took:?} s should fill the buckets like {expected:?}, and \
                 fill them like {cumulative:?}"
            );
        });
    });
}

#[test]
fn shutdown_runs_what_is_queued() {
    kit::check(|| {
        time::paused(async {
            let registry = Registry::new();
            let pool = new_pool(2, &registry);
            for _ in 0..20 {
                submit(&pool, async {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    Ok(())
                })
                .await;
            }
            kit::step("shutting down a pool with a full queue");
            pool.shutdown().await;
            let (_, scrape) = scraped(&registry);
            let ok = scrape.value(TASKS, &[("status", "ok")]);
            assert!(
                ok == Some(20.0),
                "20 tasks were queued at shutdown, and {ok:?} have ended"
            );
            expect_gauges(&registry, 0, 0, "the pool has been shut down");
        });
    });
}

#[test]
fn two_pools_do_not_share_their_numbers() {
    kit::check(|| {
        time::paused(async {
            let (one, other) = (Registry::new(), Registry::new());
            let busy = new_pool(3, &one);
            kit::step("making a second pool in another registry");
            let idle = new_pool(5, &other);
            for _ in 0..4 {
                submit(&busy, async { Ok(()) }).await;
            }
            time::settle().await;
            let ok = |registry| scraped(registry).1.value(TASKS, &[("status", "ok")]);
            let found = (ok(&one), ok(&other));
            assert!(
                found == (Some(4.0), Some(0.0)),
                "one pool ran four tasks and the other none, and they say {found:?}"
            );
            kit::step("making a second pool in the same registry");
            let twice = Pool::new(1, &one);
            assert!(
                twice.is_err(),
                "a second pool in the same registry is no error"
            );
            busy.shutdown().await;
            idle.shutdown().await;
            let elsewhere = prometheus::gather();
            let stray = elsewhere
                .iter()
                .map(|family| family.name())
                .find(|name| name.starts_with("worker_pool_"));
            assert!(
                stray.is_none(),
                "two pools were made in registries of their own, and the process's default \
                 registry has {}",
                stray.unwrap_or_default()
            );
            for name in [QUEUE, ACTIVE, TOTAL, TASKS, DURATION] {
                kit::step(format!(
                    "making a pool in a registry that has a {name} of others"
                ));
                let taken = Registry::new();
                let theirs = IntGauge::new(name, "Of somebody else").expect("a valid name");
                taken.register(Box::new(theirs)).expect("it is empty");
                assert!(
                    Pool::new(1, &taken).is_err(),
                    "a registry has a {name} of somebody else's already, and a pool made in it is \
                     no error: its own {name} will never be scraped"
                );
            }
        });
    });
}

#[test]
fn a_task_may_scrape() {
    kit::check(|| {
        time::paused(async {
            let registry = Registry::new();
            let pool = new_pool(2, &registry);
            let from_within = registry.clone();
            kit::step("running a task that scrapes the pool that runs it");
            submit(&pool, async move {
                let (_, scrape) = scraped(&from_within);
                let active = scrape.value(ACTIVE, &[]);
                assert!(
                    active == Some(1.0),
                    "a task is running, and it reads {ACTIVE} {active:?}"
                );
                Ok(())
            })
            .await;
            pool.shutdown().await;
            let (_, scrape) = scraped(&registry);
            let ok = scrape.value(TASKS, &[("status", "ok")]);
            assert!(
                ok == Some(1.0),
                "a task that scraped its own pool should have read {ACTIVE} 1 and ended well"
            );
        });
    });
}

#[test]
fn numbers_agree_under_load_on_several_threads() {
    kit::check(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_time()
            .build()
            .expect("a runtime");
        let registry = Registry::new();
        let done = Arc::new(AtomicBool::new(false));
        let scraper = {
            let (registry, done) = (registry.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut last = 0.0;
                while !done.load(Ordering::SeqCst) {
                    let (_, scrape) = scraped(&registry);
                    let ended: f64 = scrape.samples(TASKS).map(|sample| sample.value).sum();
                    let active = scrape.value(ACTIVE, &[]).unwrap_or(0.0);
                    let queued = scrape.value(QUEUE, &[]).unwrap_or(0.0);
                    if ended < last
                        || !(0.0..=4.0).contains(&active)
                        || !(0.0..=40.0).contains(&queued)
                    {
                        return Some(format!(
                            "{ended} tasks had ended after {last}, {active} of 4 workers were \
                             active, and {queued} tasks in a queue for 40"
                        ));
                    }
                    last = ended;
                    std::thread::yield_now();
                }
                None
            })
        };
        runtime.block_on(async {
            let pool = Arc::new(new_pool(4, &registry));
            kit::step("running 4,000 tasks on four threads while they are scraped");
            let submitters: Vec<_> = (0..4)
                .map(|_| {
                    let pool = Arc::clone(&pool);
                    tokio::spawn(async move {
                        for _ in 0..1_000 {
                            submit(&pool, async {
                                tokio::task::yield_now().await;
                                Ok(())
                            })
                            .await;
                        }
                    })
                })
                .collect();
            for submitter in submitters {
                submitter.await.expect("it submits only");
            }
            kit::step("running 1,000 tasks one by one, each of which finds the queue empty");
            for _ in 0..1_000 {
                let ran = Arc::new(AtomicBool::new(false));
                let runs = Arc::clone(&ran);
                submit(&pool, async move {
                    runs.store(true, Ordering::SeqCst);
                    Ok(())
                })
                .await;
                while !ran.load(Ordering::SeqCst) {
                    tokio::task::yield_now().await;
                }
            }
            let pool = Arc::into_inner(pool).expect("the submitters are done");
            pool.shutdown().await;
        });
        done.store(true, Ordering::SeqCst);
        let complaint = scraper.join().expect("it only reads");
        if let Some(complaint) = complaint {
            kit::symptom(format!("a scrape under load said: {complaint}"));
        }
        let (_, scrape) = scraped(&registry);
        let ok = scrape.value(TASKS, &[("status", "ok")]);
        let observed = durations(&registry).count;
        assert!(
            ok == Some(5_000.0) && observed == 5_000.0,
            "5,000 tasks ended well on four threads; {TASKS} says {} and {DURATION} {observed}",
            ok.unwrap_or(f64::NAN)
        );
        expect_gauges(&registry, 0, 0, "5,000 tasks have ended");
    });
}

fn new_pool(workers: usize, registry: &Registry) -> Pool {
    Pool::new(workers, registry).unwrap_or_else(|error| {
        kit::symptom(format!(
            "a pool could not be made in an empty registry: {error}"
        ))
    })
}

async fn submit(pool: &Pool, task: impl Future<Output = Result<(), TaskError>> + Send + 'static) {
    if let Err(error) = pool.submit(task).await {
        kit::symptom(format!("a pool that was not shut down: {error}"));
    }
}

/// A task that waits until the check lets it go.
fn held(gate: &Gate) -> impl Future<Output = Result<(), TaskError>> + Send + 'static {
    let gate = gate.clone();
    async move {
        gate.pass().await;
        Ok(())
    }
}

fn scraped(registry: &Registry) -> (String, Scrape) {
    let text = TextEncoder::new()
        .encode_to_string(&registry.gather())
        .unwrap_or_else(|error| kit::symptom(format!("the registry cannot be printed: {error}")));
    let scrape = Scrape::parse(&text).unwrap_or_else(|error| {
        kit::symptom(format!("the scrape cannot be read: {error}\n{text}"))
    });
    (text, scrape)
}

fn durations(registry: &Registry) -> Histogram {
    let (text, scrape) = scraped(registry);
    scrape
        .histogram(DURATION, &[])
        .unwrap_or_else(|error| kit::symptom(format!("{error}:\n{}", excerpt(&text))))
}

fn expect_gauges(registry: &Registry, queued: u32, active: u32, when: &str) {
    let (text, scrape) = scraped(registry);
    let found = (scrape.value(QUEUE, &[]), scrape.value(ACTIVE, &[]));
    assert!(
        found == (Some(f64::from(queued)), Some(f64::from(active))),
        "{when}: {QUEUE} should be {queued} and {ACTIVE} {active}; the scrape says\n{}",
        excerpt(&text)
    );
}

/// The samples of a scrape without comments and buckets, indented.
fn excerpt(text: &str) -> String {
    let shown: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("_bucket"))
        .take(10)
        .map(|line| format!("  {line}"))
        .collect();
    if shown.is_empty() {
        "  (nothing)".into()
    } else {
        shown.join("\n")
    }
}
