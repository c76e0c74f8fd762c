//! 18.2.5: a cache stampede, read in a log and repaired in the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::subject::cache::{Cache, FetchError};
use super::subject::log::Log;
use super::subject::stampede::{Report, analyze};
use incident::stampede::{self, Cache as Simulated, Run};
use kit::answers::Tolerance;
use kit::closed_loop::{self, Goal, Vitals};
use kit::evidence::Evidence;
use kit::time::{self, Load};
use telemetry::logs;

const SEEDS: [u64; 4] = [3, 17, 29, 64];
const ALICE: &str = "session:alice";
const FETCH: Duration = Duration::from_millis(100);
/// A query on a bad day.
const SLOW: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(60);

// The learner's answers, on the log of the brief.

#[test]
fn pattern_is_answered_with_evidence() {
    kit::check(|| {
        let answers = kit::answers!();
        let options = ["cache stampede", "lost update", "deadlock", "stale read"];
        let verdict = answers.choice("pattern.verdict", &options);
        let cited = answers.list("pattern.evidence");
        match verdict {
            "lost update" => kit::symptom(
                "`pattern` is said to be a lost update, and both tasks stored what the database \
                 said: no value was lost",
            ),
            "deadlock" => kit::symptom(
                "`pattern` is said to be a deadlock, and every task in the log comes to its end",
            ),
            "stale read" => kit::symptom(
                "`pattern` is said to be a stale read, and both hits come after the value was set",
            ),
            _ => {}
        }
        Evidence::for_claim("this is a cache stampede")
            .exists(|line| {
                line.parse()
                    .is_ok_and(|line: usize| (1..=8).contains(&line))
            })
            .healthy_too(|line| ["7", "8"].contains(&line))
            .proves("the query that had to be made", &["2"])
            .proves("the query that overlaps it", &["4"])
            // The misses that led to them, and the ends between which they overlap.
            .fits(&["1", "3", "5", "6"])
            .demand(&cited);
    });
}

#[test]
fn waste_is_counted() {
    kit::check(|| {
        let answers = kit::answers!();
        answers.expect_number(
            "queries.wasted",
            1.0,
            Tolerance::Exact,
            "the queries that need not have been made",
        );
        answers.expect_number(
            "window.milliseconds",
            101.0,
            Tolerance::Exact,
            "the time in which a miss becomes one more query",
        );
        answers.expect_number(
            "window.arrivals",
            250.0 * 0.101,
            Tolerance::Relative(0.05),
            "the requests that arrive in that time",
        );
    });
}

#[test]
fn remedy_is_answered_with_its_price() {
    kit::check(|| {
        let answers = kit::answers!();
        let options = [
            "one lock around every get",
            "one query for each key at a time",
            "a longer ttl",
        ];
        let verdict = answers.choice("remedy.verdict", &options);
        answers.expect_number(
            "remedy.bob_waits_milliseconds",
            100.0,
            Tolerance::Exact,
            "the time that somebody who asks for another key waits for the lock",
        );
        if verdict == "one lock around every get" {
            kit::symptom(
                "`remedy` is said to be one lock around every get, and by your own number \
                 everybody else waits for alice's query",
            );
        }
        if verdict == "a longer ttl" {
            kit::symptom(
                "`remedy` is said to be a longer time to live, and it was 3,600 s: the stampede \
                 comes with the first miss",
            );
        }
    });
}

// The analyzer, on the log of the brief and on logs that the learner has not seen.

#[test]
fn overlapping_queries_are_found() {
    kit::check(|| {
        let report = analyzed(&kit::fixture!("cache.jsonl"), "the log of the brief");
        expect(&report, &[(ALICE, &[2, 4])], "the log of the brief");
        kit::seed::each(&SEEDS, |seed| {
            let run = stampede::simulate(Simulated::Naive, seed.0);
            expect_truth(&run, &format!("an unseen log (seed {seed})"));
        });
        let name = "a log that begins while a query of goroutine 9 is on its way";
        let report = analyzed(
            r#"{"time":"12:00:00.000","op":"fetch_db","key":"a","goroutine":1}
{"time":"12:00:00.020","op":"set","key":"a","ttl":1,"goroutine":9}
{"time":"12:00:00.040","op":"fetch_db","key":"a","goroutine":2}
{"time":"12:00:00.080","op":"set","key":"a","ttl":1,"goroutine":1}
{"time":"12:00:00.120","op":"set","key":"a","ttl":1,"goroutine":2}
"#,
            name,
        );
        expect(&report, &[("a", &[1, 3])], name);
    });
}

#[test]
fn repeated_queries_are_not_stampedes() {
    kit::check(|| {
        let report = analyzed(
            r#"{"time":"12:00:00.000","op":"fetch_db","key":"a","goroutine":1}
{"time":"12:00:00.050","op":"set","key":"a","ttl":1,"goroutine":1}
{"time":"12:00:00.060","op":"fetch_db","key":"b","goroutine":2}
{"time":"12:00:00.070","op":"fetch_db","key":"c","goroutine":3}
{"time":"12:00:00.090","op":"fetch_failed","key":"b","goroutine":2}
{"time":"12:00:00.095","op":"fetch_db","key":"b","goroutine":4}
{"time":"12:00:00.130","op":"set","key":"c","ttl":1,"goroutine":3}
{"time":"12:00:00.150","op":"set","key":"b","ttl":1,"goroutine":4}
{"time":"12:00:01.400","op":"fetch_db","key":"a","goroutine":5}
{"time":"12:00:01.480","op":"set","key":"a","ttl":1,"goroutine":5}
"#,
            "a log without two queries for one key at the same time",
        );
        expect(
            &report,
            &[],
            "a log without two queries for one key at the same time",
        );
        kit::seed::each(&SEEDS, |seed| {
            let run = stampede::simulate(Simulated::Coalescing, seed.0);
            expect_truth(
                &run,
                &format!("the log of a cache without stampedes (seed {seed})"),
            );
        });
    });
}

#[test]
fn time_decides_and_not_the_order_of_lines() {
    kit::check(|| {
        let name = "a log in which a `set` stands below a later `fetch_db`";
        let report = analyzed(
            r#"{"time":"12:00:00.000","op":"fetch_db","key":"a","goroutine":1}
{"time":"12:00:00.061","op":"fetch_db","key":"a","goroutine":2}
{"time":"12:00:00.060","op":"set","key":"a","ttl":1,"goroutine":1}
{"time":"12:00:00.120","op":"set","key":"a","ttl":1,"goroutine":2}
"#,
            name,
        );
        expect(&report, &[], name);
        let name = "a log in which a `fetch_db` stands below the `set` that it precedes";
        let report = analyzed(
            r#"{"time":"12:00:00.000","op":"fetch_db","key":"a","goroutine":1}
{"time":"12:00:00.060","op":"set","key":"a","ttl":1,"goroutine":1}
{"time":"12:00:00.059","op":"fetch_db","key":"a","goroutine":2}
{"time":"12:00:00.120","op":"set","key":"a","ttl":1,"goroutine":2}
"#,
            name,
        );
        expect(&report, &[("a", &[1, 3])], name);
        let name =
            "a log in which a query begins in the millisecond in which another one has ended";
        let report = analyzed(
            r#"{"time":"12:00:00.000","op":"fetch_db","key":"a","goroutine":1}
{"time":"12:00:00.060","op":"set","key":"a","ttl":1,"goroutine":1}
{"time":"12:00:00.060","op":"fetch_db","key":"a","goroutine":2}
{"time":"12:00:00.120","op":"set","key":"a","ttl":1,"goroutine":2}
"#,
            name,
        );
        expect(&report, &[], name);
        let name = "a log in which a query begins in the millisecond in which another one ends";
        let report = analyzed(
            r#"{"time":"12:00:00.000","op":"fetch_db","key":"a","goroutine":1}
{"time":"12:00:00.060","op":"fetch_db","key":"a","goroutine":2}
{"time":"12:00:00.060","op":"set","key":"a","ttl":1,"goroutine":1}
{"time":"12:00:00.120","op":"set","key":"a","ttl":1,"goroutine":2}
"#,
            name,
        );
        expect(&report, &[("a", &[1, 2])], name);
    });
}

#[test]
fn queries_without_an_end_last_to_the_end_of_the_log() {
    kit::check(|| {
        let name = "a log that ends while two queries are on their way";
        let report = analyzed(
            r#"{"time":"12:00:00.000","op":"fetch_db","key":"b","goroutine":1}
{"time":"12:00:00.010","op":"fetch_db","key":"a","goroutine":2}
{"time":"12:00:09.000","op":"fetch_db","key":"b","goroutine":3}
{"time":"12:00:09.010","op":"set","key":"a","ttl":1,"goroutine":2}
{"time":"12:00:09.100","op":"fetch_db","key":"b","goroutine":4}
{"time":"12:00:09.150","op":"set","key":"b","ttl":1,"goroutine":4}
"#,
            name,
        );
        expect(&report, &[("b", &[1, 3, 5])], name);
    });
}

#[test]
fn broken_logs_are_errors() {
    kit::check(|| {
        for (what, log) in [
            (
                "a line that is no JSON",
                "{\"time\":\"12:00:00.000\",\"op\":",
            ),
            (
                "a query without a key",
                r#"{"time":"12:00:00.000","op":"fetch_db","goroutine":1}"#,
            ),
            (
                "a line without an operation",
                r#"{"time":"12:00:00.000","key":"a","goroutine":1}"#,
            ),
            (
                "a query that nobody made",
                r#"{"time":"12:00:00.000","op":"fetch_db","key":"a"}"#,
            ),
        ] {
            kit::step(format!("analyzing {what}"));
            if let Ok(report) = analyze(log) {
                kit::symptom(format!(
                    "{what} gives a report instead of an error: {report:?}"
                ));
            }
        }
        let report = analyzed("", "an empty log");
        expect(&report, &[], "an empty log");
    });
}

// The cache.

#[test]
fn one_query_serves_a_hundred_concurrent_misses() {
    kit::check(|| {
        time::paused(async {
            let (cache, log) = new_cache();
            let database = Database::default();
            expect_size(&cache, 0, "a new cache");
            kit::step("waiting for 100 requests for one key");
            let values = ask_all(&cache, &database, &[ALICE; 100]).await;
            let queries = database.queries();
            assert!(
                queries == 1,
                "100 requests for {ALICE} missed at the same time, and the database saw {queries} \
                 queries; the log:\n{}",
                excerpt(&log)
            );
            let first = format!("{ALICE} v1");
            assert!(
                values.iter().all(|value| value.as_ref() == Ok(&first)),
                "one query gave {first:?}, and the requests got {values:?}"
            );
            kit::step("asking once more");
            let again = ask_all(&cache, &database, &[ALICE]).await;
            assert!(
                again == [Ok(first)] && database.queries() == 1,
                "the value was fetched, and the next request gets {again:?} after {} queries",
                database.queries()
            );
            expect_size(&cache, 1, "a cache that has fetched one key");
        });
        time::paused(async {
            let (cache, _log) = new_cache();
            let began = tokio::time::Instant::now();
            let slow = |goroutine| {
                let cache = Arc::clone(&cache);
                tokio::spawn(async move {
                    let fetch = || async {
                        tokio::time::sleep(SLOW).await;
                        Ok("late".to_owned())
                    };
                    (cache.get(goroutine, ALICE, fetch).await, began.elapsed())
                })
            };
            let leader = slow(1);
            time::settle().await;
            tokio::time::sleep(Duration::from_millis(3)).await;
            kit::step("waiting for two requests whose query takes 30 s");
            let follower = slow(2);
            for request in [leader, follower] {
                let (value, after) = request.await.expect("no fetch panics here");
                assert!(
                    value == Ok("late".to_owned()) && after < SLOW + Duration::from_millis(2),
                    "a query took {SLOW:?}, and of two requests for its key, 3 ms apart, one got \
                     {value:?} {after:?} after the query began"
                );
            }
        });
    });
}

#[test]
fn other_keys_are_not_held_up() {
    kit::check(|| {
        time::paused(async {
            let (cache, _log) = new_cache();
            let database = Database::default();
            ask_all(&cache, &database, &["session:bob"]).await;
            let began = tokio::time::Instant::now();
            let keys: Vec<String> = (0..100).map(|n| format!("session:{n}")).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let slow = {
                let (cache, database) = (Arc::clone(&cache), database.clone());
                let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
                tokio::spawn(async move {
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    ask_all(&cache, &database, &keys).await
                })
            };
            time::settle().await;
            kit::step("asking for a key that is cached, while 100 others are fetched");
            let asked = tokio::time::Instant::now();
            ask_all(&cache, &database, &["session:bob"]).await;
            let waited = asked.elapsed();
            assert!(
                waited.is_zero(),
                "session:bob was cached, and whoever asked for it waited {waited:?} while other \
                 keys were fetched"
            );
            kit::step("waiting for 100 keys, each of which takes the database 100 ms");
            slow.await.expect("no fetch panics here");
            let took = began.elapsed();
            assert!(
                took < FETCH * 2,
                "100 keys were missed at the same time, each takes the database {FETCH:?}, and all \
                 of them took {took:?}"
            );
        });
    });
}

#[test]
fn errors_are_shared_and_not_kept() {
    kit::check(|| {
        time::paused(async {
            let (cache, log) = new_cache();
            let database = Database::default();
            database.fail_next(1);
            kit::step("waiting for ten requests whose query fails");
            let results = ask_all(&cache, &database, &[ALICE; 10]).await;
            assert!(
                results.iter().all(Result::is_err) && database.queries() == 1,
                "one query failed while ten requests waited for it: {} of them got its error, and \
                 the database saw {} queries; the log:\n{}",
                results.iter().filter(|result| result.is_err()).count(),
                database.queries(),
                excerpt(&log)
            );
            let shown = results[0].as_ref().map_err(ToString::to_string);
            assert!(
                shown == Err("could not fetch the value: connection reset by peer".into()),
                "the database said \"connection reset by peer\", and the requests got {shown:?}"
            );
            expect_size(&cache, 0, "a cache whose only query failed");
            kit::step("asking again after the error");
            let again = ask_all(&cache, &database, &[ALICE]).await;
            assert!(
                again[0].is_ok() && database.queries() == 2,
                "the query failed once, the database is well again, and the next request gets \
                 {:?} after {} queries",
                again[0],
                database.queries()
            );
        });
    });
}

#[test]
fn a_canceled_leader_strands_nobody() {
    kit::check(|| {
        time::paused(async {
            let (cache, log) = new_cache();
            let database = Database::default();
            let leader = ask(&cache, &database, 1, ALICE);
            time::settle().await;
            let followers: Vec<_> = (2..=20).map(|n| ask(&cache, &database, n, ALICE)).collect();
            time::settle().await;
            tokio::time::sleep(FETCH / 2).await;
            leader.abort();
            kit::step("waiting for 19 requests after the task that began the query was canceled");
            for follower in followers {
                let value = follower.await.expect("nobody canceled it");
                assert!(
                    value.is_ok(),
                    "the task that began the query was canceled, and one that waited got {value:?}"
                );
            }
            let queries = database.queries();
            assert!(
                queries <= 2,
                "the task that began the query was canceled, and the 19 that waited made {} more \
                 queries; the log:\n{}",
                queries - 1,
                excerpt(&log)
            );
            let wasted = wasted(&log.text());
            assert!(
                wasted == 0,
                "after a cancellation the log shows {wasted} wasted queries:\n{}",
                excerpt(&log)
            );
        });
    });
}

#[test]
fn a_panicking_fetch_strands_nobody() {
    kit::check(|| {
        time::paused(async {
            let (cache, _log) = new_cache();
            let database = Database::default();
            let doomed = {
                let cache = Arc::clone(&cache);
                tokio::spawn(async move {
                    let fetch = || async {
                        tokio::time::sleep(FETCH).await;
                        std::panic::panic_any("a row that cannot be decoded");
                        #[expect(unreachable_code, reason = "the type of the fetch")]
                        Ok(String::new())
                    };
                    cache.get(1, ALICE, fetch).await
                })
            };
            time::settle().await;
            let follower = ask(&cache, &database, 2, ALICE);
            kit::step("waiting for a request whose leader's fetch panics");
            let value = follower.await.expect("its own fetch does not panic");
            assert!(
                value.is_ok(),
                "the fetch of one task panicked, and the task that waited for it got {value:?}"
            );
            let _ = doomed.await;
            let again = ask_all(&cache, &database, &[ALICE]).await;
            assert!(
                again[0].is_ok(),
                "after a panic the key gives {:?}",
                again[0]
            );
        });
    });
}

#[test]
fn values_expire_and_are_fetched_once_more() {
    kit::check(|| {
        time::paused(async {
            let (cache, log) = new_cache();
            let database = Database::default();
            ask_all(&cache, &database, &[ALICE]).await;
            tokio::time::sleep(TTL - Duration::from_millis(1)).await;
            let young = ask_all(&cache, &database, &[ALICE]).await;
            assert!(
                young == [Ok(format!("{ALICE} v1"))] && database.queries() == 1,
                "1 ms before its time to live ends, {ALICE} gives {young:?} after {} queries",
                database.queries()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
            kit::step("waiting for 50 requests for a key that has just expired");
            let old = ask_all(&cache, &database, &[ALICE; 50]).await;
            let queries = database.queries();
            assert!(
                queries == 2,
                "50 requests came when {ALICE} had lived for {TTL:?}, and made {} queries; the \
                 log:\n{}",
                queries - 1,
                excerpt(&log)
            );
            let second = format!("{ALICE} v2");
            assert!(
                old.iter().all(|value| value.as_ref() == Ok(&second)),
                "the value expired, the database now says {second:?}, and the requests got {old:?}"
            );
            expect_size(&cache, 1, "a cache that has fetched one key twice");
            let text = log.text();
            let sets: Vec<&str> = text
                .lines()
                .filter(|l| l.contains("\"op\":\"set\""))
                .collect();
            let stored_at = |line: &&str, at| line.contains(&format!("\"time\":\"{at}\""));
            assert!(
                matches!(sets.as_slice(), [first, second]
                    if stored_at(first, "12:00:00.100") && stored_at(second, "12:01:00.200")),
                "the log began at noon, values were stored 0.1 s and 60.2 s after that, and the \
                 log says:\n  {}",
                sets.join("\n  ")
            );
        });
    });
}

#[test]
fn threads_agree_on_one_query() {
    kit::check(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let cache = Arc::new(Cache::new(Duration::from_secs(3600), Log::new()));
            for round in 0..150 {
                kit::step(format!("round {round} of 150 on four threads"));
                let key = format!("session:{round}");
                let queries = Arc::new(AtomicUsize::new(0));
                let start = Arc::new(tokio::sync::Barrier::new(16));
                let tasks: Vec<_> = (0..16)
                    .map(|n| {
                        let (cache, key) = (Arc::clone(&cache), key.clone());
                        let (queries, start) = (Arc::clone(&queries), Arc::clone(&start));
                        tokio::spawn(async move {
                            start.wait().await;
                            let fetch = || async move {
                                queries.fetch_add(1, Ordering::SeqCst);
                                // In every other round long enough for all the others to come,
                                // else so short that some come when it has just ended.
                                let pauses = if round % 2 == 0 { 32 } else { n % 3 };
                                for _ in 0..pauses {
                                    tokio::task::yield_now().await;
                                }
                                Ok(n)
                            };
                            cache.get(n, &key, fetch).await
                        })
                    })
                    .collect();
                for task in tasks {
                    let value = task.await.expect("no fetch panics here");
                    assert!(
                        value.is_ok(),
                        "no query failed, and a request got {value:?}"
                    );
                }
                let queries = queries.load(Ordering::SeqCst);
                assert!(
                    queries == 1,
                    "on four threads, 16 requests for {key} made {queries} queries (round {round})"
                );
            }
            kit::step("asking for 4,000 keys one after another on four threads at once");
            // Long keys are looked up slowly, so that others wait for whatever lock that is under.
            let long = "u".repeat(2_000);
            let queries: Arc<Vec<AtomicUsize>> =
                Arc::new((0..4_000).map(|_| AtomicUsize::new(0)).collect());
            let tasks: Vec<_> = (0..4)
                .map(|task| {
                    let (cache, queries) = (Arc::clone(&cache), Arc::clone(&queries));
                    let long = long.clone();
                    // Whoever has waited goes on to the next key together with whoever has not, so
                    // that they meet where a query ends, again and again.
                    tokio::spawn(async move {
                        for key in 0..queries.len() {
                            let queries = Arc::clone(&queries);
                            let fetch = || async move {
                                queries[key].fetch_add(1, Ordering::SeqCst);
                                if key % 2 == 0 {
                                    tokio::task::yield_now().await;
                                }
                                Ok(task)
                            };
                            let value = cache.get(task, &format!("{long}:{key}"), fetch).await;
                            assert!(
                                value.is_ok(),
                                "no query failed, and a request got {value:?}"
                            );
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("no fetch panics here");
            }
            let repeated = |count: &&AtomicUsize| count.load(Ordering::SeqCst) != 1;
            let repeated = queries.iter().filter(repeated).count();
            assert!(
                repeated == 0,
                "four threads asked for 4,000 keys, and for {repeated} of them more than one \
                 query was made"
            );
        });
    });
}

#[test]
fn the_same_load_no_longer_stampedes() {
    kit::check(|| {
        kit::seed::each(&SEEDS[..2], |seed| {
            let sick = Naive::default();
            let before = time::paused(async move {
                let sick = Arc::new(sick);
                let run = time::drive(&load().arrivals(seed), |n| {
                    let sick = Arc::clone(&sick);
                    async move { sick.get(key_of(n)).await }
                })
                .await;
                let queries = sick.queries.load(Ordering::SeqCst);
                vitals(queries, wasted_of_naive(queries, &run), &run)
            });
            let after = time::paused(async move {
                let (cache, log) = cache_with(Duration::from_secs(1));
                let database = Database::default();
                kit::step("running the load of the sick cache again");
                let run = {
                    let (cache, database) = (Arc::clone(&cache), database.clone());
                    time::drive(&load().arrivals(seed), move |n| {
                        let (cache, database) = (Arc::clone(&cache), database.clone());
                        async move { query(&cache, &database, n as u64, key_of(n)).await }
                    })
                    .await
                };
                tells_the_truth(&log, &database, run.outcomes.len());
                vitals(database.queries(), wasted(&log.text()), &run)
            });
            closed_loop::demand(
                &before,
                &after,
                None,
                &[
                    Goal::at_most("wasted queries", 0.0),
                    Goal::improved("queries", 3.0),
                    Goal::no_worse("p99 in ms", 0.05),
                ],
            );
        });
    });
}

/// Requests for four sessions, as often as in the night of the brief.
fn load() -> Load {
    Load::constant(250.0).for_(Duration::from_secs(8)).poisson()
}

fn key_of(request: usize) -> &'static str {
    [ALICE, "session:bob", ALICE, "session:carol", ALICE][request % 5]
}

/// The cache as it was on that night, to measure what the repaired one is compared with.
#[derive(Default)]
struct Naive {
    queries: AtomicUsize,
    fresh_until: std::sync::Mutex<BTreeMap<String, tokio::time::Instant>>,
}

impl Naive {
    async fn get(&self, key: &str) -> Result<String, FetchError> {
        let fresh = |until: &tokio::time::Instant| tokio::time::Instant::now() < *until;
        if !self.fresh_until.lock().unwrap().get(key).is_some_and(fresh) {
            self.queries.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(FETCH).await;
            let until = tokio::time::Instant::now() + Duration::from_secs(1);
            self.fresh_until
                .lock()
                .unwrap()
                .insert(key.to_owned(), until);
        }
        Ok(key.to_owned())
    }
}

/// Three keys that live for a second need a query each 1.1 s; the rest is waste.
fn wasted_of_naive<T>(queries: usize, run: &time::Run<T>) -> usize {
    let seconds = run
        .outcomes
        .iter()
        .map(|o| o.arrived.as_secs_f64())
        .fold(0.0, f64::max);
    queries.saturating_sub((3.0 * seconds / 1.1).ceil() as usize)
}

fn vitals<T>(queries: usize, wasted: usize, run: &time::Run<T>) -> Vitals {
    let p99 = run.percentile(99.0).expect("the load is not empty");
    Vitals::new()
        .lower_is_better("wasted queries", wasted as f64)
        .lower_is_better("queries", queries as f64)
        .lower_is_better("p99 in ms", p99.as_secs_f64() * 1000.0)
}

/// A log that leaves lines out would look healthy too.
fn tells_the_truth(log: &Log, database: &Database, requests: usize) {
    let lines = logs::parse(&log.text())
        .unwrap_or_else(|error| kit::symptom(format!("the cache's log cannot be read: {error}")));
    let count = |op: &str, result: Option<&str>| {
        let fits = |line: &&logs::LogLine| {
            line.str("op").ok() == Some(op)
                && (result.is_none() || line.str("result").ok() == result)
        };
        lines.iter().filter(fits).count()
    };
    let (hits, misses) = (count("get", Some("hit")), count("get", Some("miss")));
    assert!(
        hits + misses == requests,
        "{requests} requests came, and the log has {hits} hits and {misses} misses"
    );
    let (fetches, queries) = (count("fetch_db", None), database.queries());
    assert!(
        fetches == queries,
        "the database saw {queries} queries, and the log has {fetches} lines of `fetch_db`"
    );
    let ends = count("set", None) + count("fetch_failed", None);
    assert!(
        ends == fetches,
        "the log has {fetches} lines of `fetch_db`, and {ends} of `set` or `fetch_failed`"
    );
    let mut begun = BTreeMap::new();
    for line in &lines {
        let goroutine = line.u64("goroutine").unwrap_or_default();
        match line.str("op") {
            Ok("fetch_db") => {
                begun.insert(goroutine, line.time);
            }
            Ok("set" | "fetch_failed") => {
                let began = begun.get(&goroutine).copied().flatten();
                let took = began.and_then(|began| line.time?.seconds_since(began));
                // Times of the log are cut to whole milliseconds.
                assert!(
                    took.is_some_and(|took| (took - FETCH.as_secs_f64()).abs() < 0.0015),
                    "every query took {FETCH:?}, and line {} of the log ends one that {}",
                    line.line,
                    match took {
                        Some(took) => format!("began {:.0} ms before that", took * 1000.0),
                        None => "has not begun".to_owned(),
                    }
                );
            }
            _ => {}
        }
    }
    let waits = count("wait", None);
    assert!(
        waits == misses - fetches.min(misses),
        "{misses} requests missed and {fetches} of them made a query; the log has {waits} lines of \
         `wait`"
    );
}

/// A database that takes 100 ms for each query and counts them. Each answer has another version.
#[derive(Clone, Default)]
struct Database {
    queries: Arc<AtomicUsize>,
    failing: Arc<AtomicUsize>,
}

impl Database {
    fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }

    fn fail_next(&self, queries: usize) {
        self.failing.store(queries, Ordering::SeqCst);
    }

    async fn fetch(self, key: String) -> Result<String, FetchError> {
        let version = self.queries.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::time::sleep(FETCH).await;
        let one_less = |left: usize| left.checked_sub(1);
        if self
            .failing
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok()
        {
            return Err(FetchError("connection reset by peer".into()));
        }
        Ok(format!("{key} v{version}"))
    }
}

fn new_cache() -> (Arc<Cache<String>>, Log) {
    cache_with(TTL)
}

fn expect_size(cache: &Cache<String>, stored: usize, what: &str) {
    assert!(
        cache.len() == stored && cache.is_empty() == (stored == 0),
        "{what} should say that it stores {stored} values; it says {}, and that it is {}empty",
        cache.len(),
        if cache.is_empty() { "" } else { "not " }
    );
}

fn cache_with(ttl: Duration) -> (Arc<Cache<String>>, Log) {
    let log = Log::new();
    (Arc::new(Cache::new(ttl, log.clone())), log)
}

async fn query(
    cache: &Cache<String>,
    database: &Database,
    goroutine: u64,
    key: &str,
) -> Result<String, FetchError> {
    let (database, owned) = (database.clone(), key.to_owned());
    cache
        .get(goroutine, key, move || database.fetch(owned))
        .await
}

fn ask(
    cache: &Arc<Cache<String>>,
    database: &Database,
    goroutine: u64,
    key: &str,
) -> tokio::task::JoinHandle<Result<String, FetchError>> {
    let (cache, database, key) = (Arc::clone(cache), database.clone(), key.to_owned());
    tokio::spawn(async move { query(&cache, &database, goroutine, &key).await })
}

/// One task for each of `keys`, all at once.
async fn ask_all(
    cache: &Arc<Cache<String>>,
    database: &Database,
    keys: &[&str],
) -> Vec<Result<String, FetchError>> {
    let tasks: Vec<_> = (1..)
        .zip(keys)
        .map(|(goroutine, key)| ask(cache, database, goroutine, key))
        .collect();
    let mut values = Vec::new();
    for task in tasks {
        values.push(task.await.expect("no fetch panics here"));
    }
    values
}

/// How many queries of a log began while another one for the same key was on its way.
fn wasted(log: &str) -> usize {
    let mut lines = logs::parse(log)
        .unwrap_or_else(|error| kit::symptom(format!("the cache's log cannot be read: {error}")));
    lines.sort_by(|a, b| a.time.partial_cmp(&b.time).expect("all are times of day"));
    let mut running: BTreeSet<(String, u64)> = BTreeSet::new();
    let mut wasted = 0;
    for line in &lines {
        let key = line.str("key").unwrap_or_default().to_owned();
        let query = (key, line.u64("goroutine").unwrap_or_default());
        match line.str("op") {
            Ok("fetch_db") => {
                wasted += usize::from(running.iter().any(|(key, _)| *key == query.0));
                running.insert(query);
            }
            Ok("set" | "fetch_failed") => {
                running.remove(&query);
            }
            _ => {}
        }
    }
    wasted
}

/// The first lines of the cache's log that begin or end a query, indented.
fn excerpt(log: &Log) -> String {
    let text = log.text();
    let of_a_query = |line: &&str| {
        ["fetch_db", "set", "fetch_failed"]
            .iter()
            .any(|op| line.contains(&format!("\"op\":\"{op}\"")))
    };
    let mut shown: Vec<String> = text
        .lines()
        .filter(of_a_query)
        .take(6)
        .map(|line| format!("  {line}"))
        .collect();
    let lines = text.lines().count();
    if lines > shown.len() {
        shown.push(format!("  ({} more lines)", lines - shown.len()));
    }
    shown.join("\n")
}

fn analyzed(log: &str, name: &str) -> Report {
    kit::step(format!("analyzing {name}"));
    analyze(log).unwrap_or_else(|error| kit::symptom(format!("{name}: no report, but {error}")))
}

fn expect_truth(run: &Run, name: &str) {
    let report = analyzed(&run.log, name);
    let truth: Vec<(&str, &[usize])> = run
        .stampedes
        .iter()
        .map(|stampede| (stampede.key.as_str(), stampede.lines.as_slice()))
        .collect();
    let found = report.wasted();
    assert!(
        found == run.wasted(),
        "{name}: the database answered {} queries, {} of which another one would have answered; \
         the report says {found}",
        run.queries,
        run.wasted()
    );
    expect(&report, &truth, name);
}

fn expect(report: &Report, truth: &[(&str, &[usize])], name: &str) {
    let found: Vec<(&str, &[usize])> = report
        .stampedes
        .iter()
        .map(|stampede| (stampede.key.as_str(), stampede.lines.as_slice()))
        .collect();
    let shown = |stampedes: &[(&str, &[usize])]| {
        let mut text: Vec<String> = stampedes
            .iter()
            .take(3)
            .map(|(key, lines)| format!("{key} in lines {lines:?}"))
            .collect();
        match stampedes.len() {
            0 => text.push("none".into()),
            n if n > 3 => text.push(format!("{} more", n - 3)),
            _ => {}
        }
        text.join(", ")
    };
    assert!(
        found == truth,
        "{name}: the queries that overlap are: {}; the report says: {}",
        shown(truth),
        shown(&found)
    );
}
