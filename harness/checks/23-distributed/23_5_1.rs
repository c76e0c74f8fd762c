//! 23.5.1: a lock for jobs, among five schedulers.
//!
//! The jobs mail invoices in batches through a gateway that fences: it refuses tokens below the
//! largest it has seen for a job, and tells a new holder where to go on. Whether a scheduler's
//! tokens let it do so is what the gateway's record of sent batches shows.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::subject::{FencingToken, Outcome, Scheduler, WorkError};
use etcd_store::real::RealEtcd;
use etcd_store::world::{Fault, Latency, Network, Process, STEP, Timeline, World};
use etcd_store::{Store, StoreError};
use kit::seed::Seed;
use tokio::sync::oneshot;
use tokio::time::sleep;

const TTL: Duration = Duration::from_secs(10);
const REPLICAS: usize = 5;
/// Lines of a timeline in a message.
const LINES: usize = 26;
/// More calls to etcd than any scheduler makes for one short job.
const MOST_CALLS: usize = 40;

#[test]
fn five_replicas_start_each_job_once() {
    kit::check(|| {
        kit::seed::each(&[1, 2, 3, 4, 5, 6], |seed| {
            kit::step("five replicas ask for four jobs at the same time");
            let mut night = Night::new(seed);
            let jobs = ["emea", "apac", "latam", "nordics"].map(|name| Job::new(name, 4, ms(500)));
            for replica in 0..REPLICAS {
                for job in &jobs {
                    night.ask(replica, job);
                }
            }
            night.run_until_all_calls_ended(seconds(60));
            for job in &jobs {
                let starts = night.starts(job);
                if let [first, second, ..] = starts.as_slice() {
                    night.symptom(&format!(
                        "five replicas asked for the job {} at the same time, {} started it and \
                         {} did too",
                        job.name, first.replica, second.replica
                    ));
                }
                night.expect(starts.len() == 1, || {
                    format!(
                        "five replicas asked for the job {} and none started it",
                        job.name
                    )
                });
                night.expect_sent_once(job);
                let done = night.count(job, |call| call.result == Some(Ok(Outcome::Done)));
                let others = night.count(job, |call| {
                    matches!(call.result, Some(Ok(Outcome::Held | Outcome::AlreadyDone)))
                });
                night.expect((done, others) == (1, REPLICAS - 1), || {
                    format!(
                        "of five calls for the job {}, one ends with Done and four with Held or \
                         AlreadyDone; here {done} and {others} do: {}",
                        job.name,
                        night.results(job)
                    )
                });
            }
        });
    });
}

#[test]
fn a_held_job_is_skipped_without_waiting() {
    kit::check(|| {
        kit::step("four replicas ask for a job that a fifth is running");
        let mut night = Night::new(Seed(7));
        let job = Job::new("emea", 8, seconds(1));
        night.ask(0, &job);
        night.world.run_for(seconds(5));
        for replica in 1..REPLICAS {
            night.ask(replica, &job);
        }
        night.world.run_for(seconds(1));
        for call in night.calls(&job).iter().skip(1) {
            night.expect(call.result == Some(Ok(Outcome::Held)), || {
                format!(
                    "{} asked for a job that replica-1 was running; a second later its call {}",
                    call.replica,
                    call.told()
                )
            });
        }
        night.run_until_all_calls_ended(seconds(60));
        night.expect(night.starts(&job).len() == 1, || {
            "a job that replica-1 was running was started a second time".to_owned()
        });
    });
}

#[test]
fn a_done_job_is_never_started_again() {
    kit::check(|| {
        kit::step("replicas ask for a job that has been done");
        let mut night = Night::new(Seed(8));
        let job = Job::new("emea", 3, seconds(1));
        night.ask(0, &job);
        night.run_until_all_calls_ended(seconds(30));
        for (replica, later) in [(1, 1), (2, 60), (0, 60), (3, 24 * 3600)] {
            night.world.run_for(seconds(later));
            night.ask(replica, &job);
            let end = night.world.now() + seconds(30);
            night.run_until_all_calls_ended(end);
            let call = night.calls(&job).pop().expect("it was just made");
            night.expect(night.starts(&job).len() == 1, || {
                format!(
                    "replica-1 has run the job emea to its end, and {} starts it again {later} s \
                     later",
                    call.replica
                )
            });
            night.expect(call.result == Some(Ok(Outcome::AlreadyDone)), || {
                format!(
                    "the job emea is done, and a call of {} {}",
                    call.replica,
                    call.told()
                )
            });
        }
        night.expect_sent_once(&job);
    });
}

#[test]
fn a_crashed_holder_is_replaced_after_its_ttl() {
    kit::check(|| {
        let job = Job::new("emea", 4, seconds(2));
        let every = seconds(2);
        let work = seconds(8);
        for number in 1..=MOST_CALLS {
            for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                kit::step(format!(
                    "replica-1 crashes at call {number} to etcd ({fault:?})"
                ));
                let mut night = Night::new(Seed(number as u64));
                night.world.process(0).fault_at_call(number, fault);
                night.ask(0, &job);
                night.world.run_for(seconds(1));
                for replica in 1..REPLICAS {
                    night.keep_asking(replica, &job, every);
                }
                let crashed = |world: &World| world.process(0).has_crashed();
                if !night.world.run_until(seconds(40), crashed) {
                    night.expect(number > 1, || {
                        "replica-1 ran a job and did not call etcd once".to_owned()
                    });
                    return;
                }
                let limit = night.world.now() + TTL + every + work + seconds(2);
                let when = format!("crashed at its call {number} to etcd");
                night.expect_done_by(&job, limit, &when);
            }
        }
        kit::symptom(format!(
            "a job of eight seconds took more than {MOST_CALLS} calls to etcd"
        ));
    });
}

#[test]
fn a_crash_in_the_middle_of_the_work_is_no_gap() {
    kit::check(|| {
        for batch in 0..4 {
            kit::step(format!("replica-1 crashes after batch {batch}"));
            let mut night = Night::new(Seed(20 + batch));
            let job = Job::new("emea", 4, seconds(2)).with(0, Hitch::CrashAfter { batch });
            night.ask(0, &job);
            night.world.run_for(seconds(1));
            for replica in 1..REPLICAS {
                night.keep_asking(replica, &job, seconds(2));
            }
            let crashed = |world: &World| world.process(0).has_crashed();
            night.world.run_until(seconds(60), crashed);
            let limit = night.world.now() + TTL + seconds(12);
            night.expect_done_by(&job, limit, &format!("crashed after batch {batch}"));
        }
    });
}

#[test]
fn long_work_keeps_its_lock() {
    kit::check(|| {
        kit::step("replica-1 works for 45 s under a TTL of 10 s, and four others keep asking");
        let mut night = Night::new(Seed(30));
        let job = Job::new("emea", 15, seconds(3));
        night.ask(0, &job);
        night.world.run_for(seconds(1));
        for replica in 1..REPLICAS {
            night.keep_asking(replica, &job, seconds(2));
        }
        night.run_until_all_calls_ended(seconds(120));
        if let [_, second, ..] = night.starts(&job).as_slice() {
            night.symptom(&format!(
                "{} started the job emea at {:.1} s, while replica-1 had 45 s of work",
                second.replica,
                second.started.as_secs_f64()
            ));
        }
        let first = night.calls(&job).swap_remove(0);
        night.expect(first.result == Some(Ok(Outcome::Done)), || {
            format!(
                "replica-1 worked for 45 s undisturbed, and its call {}",
                first.told()
            )
        });
        night.expect_sent_once(&job);
    });
}

#[test]
fn a_keep_alive_that_fails_is_tried_again() {
    kit::check(|| {
        let mut most = 8;
        for number in 1..=most {
            for fault in [Fault::LoseRequest, Fault::LoseReply] {
                kit::step(format!("keep-alive {number} fails ({fault:?})"));
                let mut night = Night::new(Seed(40 + number as u64));
                night.world.process(0).fault_at_keep_alive(number, fault);
                let job = Job::new("emea", 8, seconds(3));
                night.ask(0, &job);
                night.world.run_for(seconds(1));
                night.keep_asking(1, &job, seconds(2));
                night.run_until_all_calls_ended(seconds(120));
                most = most.min(night.world.process(0).keep_alives());
                let first = night.calls(&job).swap_remove(0);
                let starts = night.starts(&job).len();
                let undisturbed = first.result == Some(Ok(Outcome::Done)) && starts == 1;
                night.expect(undisturbed, || {
                    format!(
                        "one keep-alive of a job of 24 s may fail; the job emea was started \
                         {starts} times, and the call of replica-1 {}",
                        first.told()
                    )
                });
            }
            if number >= most {
                return;
            }
        }
    });
}

#[test]
fn work_ends_before_the_lock_can_be_anothers() {
    kit::check(|| {
        for (index, cut_off_at) in [ms(6_000), ms(8_700), ms(11_300), ms(14_900)]
            .iter()
            .enumerate()
        {
            kit::step("replica-1 is cut off from etcd while it works");
            let mut night = Night::new(Seed(50 + index as u64));
            // Replies are slow: what counts is when etcd has heard, not when the answer came.
            night
                .world
                .network()
                .set_latency(Latency::fixed(STEP), Latency::fixed(ms(850)));
            let job = Job::new("emea", 2, seconds(60));
            night.ask(0, &job);
            night.world.run_for(seconds(3));
            night.keep_asking(1, &job, ms(200));
            night.keep_asking(2, &job, ms(300));
            let rest = *cut_off_at - night.world.now();
            night.world.run_for(rest);
            night.world.cut_off(0, seconds(600));
            let end = *cut_off_at + TTL + seconds(5);
            night
                .world
                .run_until(end, |_| night.desk.starts("emea").len() > 1);
            night.world.run_for(seconds(5));
            night.expect_no_overlap(&job);
            night.run_until_ended_by(0, seconds(60));
            let first = night.calls(&job).swap_remove(0);
            night.expect(first.result == Some(Ok(Outcome::Lost)), || {
                format!(
                    "replica-1 lost its lock while it worked, and its call {}",
                    first.told()
                )
            });
        }
        kit::step("etcd loses all leases while replica-1 works");
        let mut night = Night::new(Seed(58));
        let job = Job::new("emea", 2, seconds(60));
        night.ask(0, &job);
        night.world.run_for(seconds(5));
        night.world.revoke_all_leases();
        night.world.run_for(TTL + seconds(1));
        let first = night.starts(&job).swap_remove(0);
        night.expect(first.ended.is_some(), || {
            "etcd lost the lease of replica-1 at 5 s, and 11 s later its work goes on".to_owned()
        });
    });
}

#[test]
fn a_paused_holder_is_fenced() {
    kit::check(|| {
        kit::seed::each(&[60, 61, 62], |seed| {
            kit::step("replica-1 is paused for 20 s with a batch on its way");
            let mut night = Night::new(seed);
            let job = Job::new("emea", 6, seconds(2)).with(
                0,
                Hitch::SendLate {
                    batch: 2,
                    by: seconds(25),
                    paused: seconds(20),
                },
            );
            night.ask(0, &job);
            night.world.run_for(seconds(1));
            for replica in 1..REPLICAS {
                night.keep_asking(replica, &job, seconds(2));
            }
            night.run_until_all_calls_ended(seconds(90));
            night.expect_tokens_to_grow(&job);
            night.expect_sent_once(&job);
            night.expect_one_done(&job);
            let first = night.calls(&job).swap_remove(0);
            night.expect(
                matches!(first.result, Some(Ok(Outcome::Lost | Outcome::Failed(_)))),
                || {
                    format!(
                        "replica-1 was replaced while it was paused, and its call {}",
                        first.told()
                    )
                },
            );
        });
    });
}

#[test]
fn release_leaves_the_next_holders_lock_alone() {
    kit::check(|| {
        for fails in [false, true] {
            kit::step("replica-1 is paused at the end of its work, and replaced");
            let mut night = Night::new(Seed(70));
            let pause = Hitch::PauseAtEnd {
                paused: seconds(12),
                fails,
            };
            let job = Job::new("emea", 2, seconds(1))
                .with(0, pause)
                .with(1, Hitch::Linger(seconds(8)));
            night.ask(0, &job);
            night.world.run_for(seconds(1));
            night.keep_asking(1, &job, ms(500));
            night.run_until_ended_by(0, seconds(30));
            let resumed = night.world.now();
            night.world.run_for(ms(300));
            night.expect(night.starts(&job).len() == 2, || {
                format!(
                    "replica-1 was paused from 2.5 s to 14.5 s, and its lock was held by {} \
                     others since",
                    night.starts(&job).len().saturating_sub(1)
                )
            });
            night.ask(2, &job);
            let asked = night.world.now();
            night.run_until_all_calls_ended(seconds(60));
            let replica_2 = night.starts(&job).swap_remove(1);
            night.expect(replica_2.ended.is_none_or(|ended| ended > asked), || {
                format!(
                    "replica-1 came back at {:.1} s and replica-2, which had the lock, did not go \
                     on with its work",
                    resumed.as_secs_f64()
                )
            });
            let third = night
                .calls(&job)
                .into_iter()
                .find(|call| call.replica == "replica-3");
            let third = third.expect("it has asked");
            night.expect(third.result == Some(Ok(Outcome::Held)), || {
                format!(
                    "replica-1 came back from a pause and released; replica-2 held the lock, and \
                     the call of replica-3 {}",
                    third.told()
                )
            });
        }
    });
}

#[test]
fn a_lost_reply_is_no_failure() {
    kit::check(|| {
        let job = Job::new("emea", 4, seconds(1));
        let faults = [
            Fault::LoseReply,
            Fault::LoseRequest,
            Fault::DelayRequest(seconds(3)),
        ];
        for number in 1..=MOST_CALLS {
            for fault in faults {
                kit::step(format!("call {number} to etcd goes wrong ({fault:?})"));
                let mut night = Night::new(Seed(80 + number as u64));
                night.world.process(0).fault_at_call(number, fault);
                night.keep_asking(0, &job, seconds(1));
                night.world.run_for(seconds(3));
                night.keep_asking(1, &job, seconds(1));
                night.keep_asking(2, &job, seconds(1));
                let done = |night: &Night| night.count(&job, |call| call.is_done()) > 0;
                while !done(&night) && night.world.now() < seconds(12) {
                    night.world.run_for(ms(500));
                }
                night.expect(done(&night), || {
                    format!(
                        "call {number} of replica-1 to etcd went wrong ({fault:?}), and a job of 4 \
                         s was not done after 12 s"
                    )
                });
                night.run_until_all_calls_ended(seconds(60));
                let starts = night.starts(&job).len();
                night.expect(starts == 1, || {
                    format!(
                        "call {number} of replica-1 to etcd went wrong ({fault:?}), and the job \
                         emea was started {starts} times"
                    )
                });
                night.expect_sent_once(&job);
                night.expect_one_done(&job);
                if number > night.world.process(0).calls() {
                    return;
                }
            }
        }
        kit::symptom(format!(
            "a job of four seconds took more than {MOST_CALLS} calls to etcd"
        ));
    });
}

#[test]
fn no_lease_is_left_behind() {
    kit::check(|| {
        for (what, hitch) in [("done", None), ("failed", Some(Hitch::Fail))] {
            kit::step(format!("five replicas have asked for a job that is {what}"));
            let mut night = Night::new(Seed(90));
            let mut job = Job::new("emea", 3, seconds(1));
            job.hitches.extend(hitch.map(|hitch| (0, hitch)));
            night.ask(0, &job);
            night.world.run_for(seconds(1));
            for replica in 1..REPLICAS {
                night.ask(replica, &job);
            }
            night.run_until_all_calls_ended(seconds(30));
            if hitch.is_none() {
                night.ask(1, &job);
                night.run_until_all_calls_ended(seconds(60));
            }
            night.world.run_for(ms(500));
            let leases = night.world.leases();
            night.expect(leases == 0, || {
                format!(
                    "the job emea is {what}, all calls have ended, and leases that live in etcd: \
                     {leases}"
                )
            });
        }
    });
}

#[test]
fn a_failed_job_is_free_at_once() {
    kit::check(|| {
        kit::step("the work of replica-1 fails, and replica-2 asks");
        let mut night = Night::new(Seed(95));
        let job = Job::new("emea", 3, seconds(1)).with(0, Hitch::Fail);
        night.ask(0, &job);
        night.run_until_all_calls_ended(seconds(30));
        let first = night.calls(&job).swap_remove(0);
        let expected = Some(Ok(Outcome::Failed(WorkError(FAILURE.to_owned()))));
        night.expect(first.result == expected, || {
            format!(
                "the work failed with \"{FAILURE}\", and the call {}",
                first.told()
            )
        });
        night.world.run_for(ms(500));
        night.ask(1, &job);
        let end = night.world.now() + seconds(30);
        night.run_until_all_calls_ended(end);
        let second = night.calls(&job).swap_remove(1);
        night.expect(second.result == Some(Ok(Outcome::Done)), || {
            format!(
                "replica-2 asked half a second after the work of replica-1 had failed, and its \
                 call {}",
                second.told()
            )
        });
        night.expect_tokens_to_grow(&job);
    });
}

#[test]
fn a_dropped_call_lets_go() {
    kit::check(|| {
        kit::step("the call of replica-1 is dropped while the work runs");
        let mut night = Night::new(Seed(97));
        let job = Job::new("emea", 10, seconds(3));
        night.ask_for(0, &job, seconds(4));
        night.world.run_for(seconds(1));
        night.keep_asking(1, &job, seconds(2));
        night.world.run_for(seconds(5));
        let first = night.starts(&job).swap_remove(0);
        night.expect(first.ended.is_some(), || {
            "a call was dropped at 4 s, and at 6 s its work goes on".to_owned()
        });
        night.world.run_until(seconds(4) + TTL + seconds(4), |_| {
            night.desk.starts("emea").len() > 1
        });
        night.expect(night.starts(&job).len() > 1, || {
            "the call of replica-1 was dropped at 4 s, and at 18 s its lock still held others off"
                .to_owned()
        });
        night.expect_no_overlap(&job);
    });
}

#[test]
fn no_mix_of_faults_sends_an_invoice_twice() {
    kit::check(|| {
        let seeds: Vec<u64> = (100..120).collect();
        kit::seed::each(&seeds, |seed| {
            kit::step("pauses, crashes, cuts and lost messages at random");
            let mut dice = Dice(seed, 0);
            let mut night = Night::new(seed);
            let jobs: Vec<Job> = ["emea", "apac", "latam"]
                .iter()
                .map(|name| random_job(name, &mut dice))
                .collect();
            for replica in 0..REPLICAS {
                for _ in 0..4 {
                    let fault = match dice.below(4) {
                        0 => Fault::LoseRequest,
                        1 => Fault::DelayRequest(dice.millis(200, 6_000)),
                        _ => Fault::LoseReply,
                    };
                    let number = 1 + dice.below(60) as usize;
                    night.world.process(replica).fault_at_call(number, fault);
                }
                for job in &jobs {
                    night.keep_asking(replica, job, dice.millis(800, 2_500));
                }
            }
            let mut crashes = 2;
            while night.world.now() < seconds(40) {
                night.world.run_for(dice.millis(300, 5_000));
                let replica = dice.below(REPLICAS as u64) as usize;
                match dice.below(5) {
                    0 | 1 => night.world.pause(replica, dice.millis(2_000, 25_000)),
                    2 | 3 => night.world.cut_off(replica, dice.millis(500, 15_000)),
                    _ if crashes > 0 => {
                        crashes -= 1;
                        night.world.crash(replica);
                    }
                    _ => {}
                }
            }
            for job in &jobs {
                let limit = seconds(150);
                night.expect_done_by(job, limit, "and others were disturbed until 65 s");
                night.expect_tokens_to_grow(job);
            }
            night.world.run_for(seconds(60));
            for job in &jobs {
                night.expect_sent_once(job);
            }
            let leases = night.world.leases();
            night.expect(leases == 0, || {
                format!("a minute after all jobs were done, leases that live in etcd: {leases}")
            });
        });
    });
}

#[test]
fn on_a_real_etcd_each_job_runs_once() {
    kit::check_within(seconds(25), || {
        let etcd = real_etcd();
        kit::step("five replicas ask for three jobs on a real etcd, twice");
        let desk = Desk::default();
        real_time(async {
            for _round in 0..2 {
                let mut calls = tokio::task::JoinSet::new();
                for replica in 1..=REPLICAS {
                    for job in ["emea", "apac", "latam"] {
                        let (etcd, desk) = (etcd.clone(), desk.clone());
                        calls.spawn(async move {
                            let name = format!("replica-{replica}");
                            let scheduler = Scheduler::new(etcd, &name, seconds(5));
                            let started = desk.clone();
                            let work = move |token| {
                                started.begin_bare(&name, job, token);
                                async {
                                    sleep(ms(30)).await;
                                    Ok(())
                                }
                            };
                            let result = scheduler.run_once(job, work).await;
                            desk.lock().bare.push((job, result));
                        });
                    }
                }
                while let Some(ended) = calls.join_next().await {
                    rethrow(ended);
                }
            }
        });
        for job in ["emea", "apac", "latam"] {
            let starts = desk.starts(job);
            let tokens: Vec<u64> = starts.iter().map(|start| start.token.0).collect();
            assert!(
                starts.len() == 1,
                "on a real etcd, five replicas asked twice for the job {job}, which is to be \
                 started once; started {} times, with tokens {tokens:?}",
                starts.len()
            );
            let state = desk.lock();
            let results = state.bare.iter().filter(|(name, _)| *name == job);
            let results: Vec<_> = results.map(|(_, result)| result.clone()).collect();
            let done = results
                .iter()
                .filter(|result| **result == Ok(Outcome::Done))
                .count();
            let skipped = results
                .iter()
                .filter(|result| matches!(result, Ok(Outcome::Held | Outcome::AlreadyDone)))
                .count();
            assert!(
                (done, skipped) == (1, 2 * REPLICAS - 1),
                "on a real etcd, ten calls for the job {job} end with one Done and nine skips; \
                 they ended with {results:?}"
            );
        }
        let live = real_time(etcd.live_leases());
        let live = live.unwrap_or_else(|error| panic!("could not {error}"));
        assert!(
            live.is_empty(),
            "on a real etcd, all calls have ended, and leases that still live: {}",
            live.len()
        );
    });
}

#[test]
fn on_a_real_etcd_a_dead_holder_is_replaced_and_fenced() {
    kit::check_within(seconds(25), || {
        let etcd = real_etcd();
        kit::step("a holder dies on a real etcd, and another replica keeps asking");
        let (first, second, asked) = real_time(async {
            let (started, token) = oneshot::channel();
            let client = etcd.clone();
            let holder = tokio::spawn(async move {
                let scheduler = Scheduler::new(client, "replica-1", seconds(1));
                let work = move |token| {
                    let _ = started.send(token);
                    pending()
                };
                scheduler.run_once("emea", work).await
            });
            let first = token.await;
            holder.abort();
            let _ = holder.await;
            let scheduler = Scheduler::new(etcd.clone(), "replica-2", seconds(1));
            let second = Arc::new(Mutex::new(None));
            let began = tokio::time::Instant::now();
            loop {
                let slot = Arc::clone(&second);
                let work = move |token| {
                    *lock(&slot) = Some(token);
                    async { Ok(()) }
                };
                let result = scheduler.run_once("emea", work).await;
                if result != Ok(Outcome::Held) || began.elapsed() > seconds(12) {
                    let token = *lock(&second);
                    return (first.ok(), token, result);
                }
                sleep(ms(50)).await;
            }
        });
        let first = first.unwrap_or_else(|| {
            kit::symptom("on a real etcd, the only replica that asked did not start the job")
        });
        let second = second.unwrap_or_else(|| {
            kit::symptom(format!(
                "on a real etcd, a holder with a TTL of 1 s died; for 12 s another replica asked \
                 for the job, and in the end got {asked:?}"
            ))
        });
        assert!(
            second > first,
            "on a real etcd, a holder died that had the token {}, and the next one has the token \
             {}: a late write of the first is accepted",
            first.0,
            second.0
        );
        assert_eq!(
            asked,
            Ok(Outcome::Done),
            "on a real etcd, the next holder ended its work"
        );
    });
}

#[test]
fn on_a_real_etcd_long_work_keeps_its_lock() {
    kit::check_within(seconds(25), || {
        let etcd = real_etcd();
        kit::step("a job outlives its TTL on a real etcd, and another replica keeps asking");
        let ttl = seconds(2);
        let (result, starts, asked) = real_time(async {
            let starts = Arc::new(Mutex::new(0));
            let (started, running) = oneshot::channel();
            let (stop, stopped) = oneshot::channel::<()>();
            let (client, counted) = (etcd.clone(), Arc::clone(&starts));
            let holder = tokio::spawn(async move {
                let work = move |_| {
                    *lock(&counted) += 1;
                    let _ = started.send(());
                    async {
                        let _ = stopped.await;
                        Ok(())
                    }
                };
                Scheduler::new(client, "replica-1", ttl)
                    .run_once("emea", work)
                    .await
            });
            let _ = running.await;
            let began = tokio::time::Instant::now();
            let scheduler = Scheduler::new(etcd.clone(), "replica-2", ttl);
            let mut asked = 0;
            // etcd looks for leases that have run out every half a second.
            while began.elapsed() < ttl + ms(1_500) && *lock(&starts) == 1 {
                let counted = Arc::clone(&starts);
                let work = move |_| {
                    *lock(&counted) += 1;
                    async { Ok(()) }
                };
                let _ = scheduler.run_once("emea", work).await;
                asked += 1;
                sleep(ms(100)).await;
            }
            let _ = stop.send(());
            let result = holder.await;
            let starts = *lock(&starts);
            (rethrow(result), starts, asked)
        });
        assert!(
            starts == 1,
            "on a real etcd, a job outlives its TTL of 2 s; another replica asked {asked} times \
             meanwhile and started the job too"
        );
        assert_eq!(
            result,
            Ok(Outcome::Done),
            "on a real etcd, the work of 3.5 s has ended"
        );
    });
}

// A night of billing.

/// What fails work that fails.
const FAILURE: &str = "the template of the invoices has no address";

/// A job that mails its invoices in batches.
#[derive(Clone)]
struct Job {
    name: &'static str,
    batches: u64,
    each: Duration,
    /// What goes wrong in which replica's work, counted from 0.
    hitches: Vec<(usize, Hitch)>,
}

#[derive(Clone, Copy, Debug)]
enum Hitch {
    /// The process dies when this batch has been sent.
    CrashAfter { batch: u64 },
    /// This batch is on its way for longer than usual, while the process is paused.
    SendLate {
        batch: u64,
        by: Duration,
        paused: Duration,
    },
    /// The process is paused between the last batch and the end of the work.
    PauseAtEnd { paused: Duration, fails: bool },
    /// There is something left to do after the last batch.
    Linger(Duration),
    /// The work fails after the last batch.
    Fail,
}

impl Job {
    fn new(name: &'static str, batches: u64, each: Duration) -> Self {
        Job {
            name,
            batches,
            each,
            hitches: Vec::new(),
        }
    }

    fn with(mut self, replica: usize, hitch: Hitch) -> Self {
        self.hitches.push((replica, hitch));
        self
    }
}

fn random_job(name: &'static str, dice: &mut Dice) -> Job {
    let mut job = Job::new(name, 3 + dice.below(4), dice.millis(400, 4_000));
    for replica in 0..REPLICAS {
        let batch = dice.below(job.batches);
        match dice.below(6) {
            0 => job.hitches.push((replica, Hitch::CrashAfter { batch })),
            1 | 2 => {
                let (by, paused) = (dice.millis(5_000, 25_000), dice.millis(5_000, 20_000));
                job.hitches
                    .push((replica, Hitch::SendLate { batch, by, paused }));
            }
            3 => {
                let (paused, fails) = (dice.millis(2_000, 20_000), dice.below(2) == 0);
                job.hitches
                    .push((replica, Hitch::PauseAtEnd { paused, fails }));
            }
            _ => {}
        }
    }
    // Somebody must be left who can finish it.
    job.hitches
        .retain(|(replica, hitch)| *replica > 1 || !matches!(hitch, Hitch::CrashAfter { .. }));
    job
}

/// Five replicas, their calls, and the gateway.
struct Night {
    world: World,
    desk: Desk,
}

/// What the checker writes down: calls, work, and what the gateway has sent. Clones share it.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Records>>);

#[derive(Default)]
struct Records {
    calls: Vec<Call>,
    work: Vec<Work>,
    gateway: BTreeMap<&'static str, Mailed>,
    bare: Vec<(&'static str, Result<Outcome, StoreError>)>,
}

#[derive(Clone)]
struct Call {
    replica: String,
    job: &'static str,
    dropped: bool,
    result: Option<Result<Outcome, StoreError>>,
}

#[derive(Clone)]
struct Work {
    replica: String,
    job: &'static str,
    token: FencingToken,
    started: Duration,
    ended: Option<Duration>,
}

/// A job as the gateway knows it.
#[derive(Default)]
struct Mailed {
    /// The largest token that it has seen.
    fence: Option<FencingToken>,
    /// Who sent each batch, with which token.
    batches: BTreeMap<u64, Vec<(String, FencingToken)>>,
}

impl Call {
    fn is_done(&self) -> bool {
        self.result == Some(Ok(Outcome::Done))
    }

    fn told(&self) -> String {
        match &self.result {
            None if self.dropped => "was dropped".to_owned(),
            None => "has not ended".to_owned(),
            Some(Ok(outcome)) => format!("ended with {outcome:?}"),
            Some(Err(error)) => format!("ended with an error: could not {error}"),
        }
    }
}

impl Night {
    fn new(seed: Seed) -> Self {
        Night {
            world: World::new(REPLICAS, seed),
            desk: Desk::default(),
        }
    }

    /// One call for the job in a replica, counted from 0.
    fn ask(&mut self, replica: usize, job: &Job) {
        let call = self.call(replica, job);
        self.world.spawn(replica, async move {
            call.make().await;
        });
    }

    /// A call that is dropped after `length`.
    fn ask_for(&mut self, replica: usize, job: &Job, length: Duration) {
        let call = self.call(replica, job);
        let desk = self.desk.clone();
        let process = self.world.process(replica);
        self.world.spawn(replica, async move {
            if tokio::time::timeout(length, call.make()).await.is_err() {
                process.note("drops its call");
                for call in &mut desk.lock().calls {
                    call.dropped |= call.replica == process.name() && call.result.is_none();
                }
            }
        });
    }

    /// Calls for the job every so often, until one ends with it being done.
    fn keep_asking(&mut self, replica: usize, job: &Job, every: Duration) {
        let call = self.call(replica, job);
        self.world.spawn(replica, async move {
            while !matches!(call.make().await, Ok(Outcome::Done | Outcome::AlreadyDone)) {
                sleep(every).await;
            }
        });
    }

    fn call(&self, replica: usize, job: &Job) -> Caller<impl Store> {
        let process = self.world.process(replica);
        Caller {
            scheduler: Arc::new(Scheduler::new(
                self.world.etcd(replica),
                process.name(),
                TTL,
            )),
            job: job.clone(),
            hitch: {
                let mine = job.hitches.iter().find(|(number, _)| *number == replica);
                mine.map(|(_, hitch)| *hitch)
            },
            gateway: Gateway {
                process: process.clone(),
                network: self.world.network().clone(),
                timeline: self.world.timeline().clone(),
                desk: self.desk.clone(),
            },
            process,
            desk: self.desk.clone(),
        }
    }

    fn run_until_all_calls_ended(&mut self, end: Duration) {
        let desk = self.desk.clone();
        self.world.run_until(end, |world| {
            // A replica that keeps asking is between two calls when one of them has ended.
            let names: Vec<String> = (0..REPLICAS)
                .filter(|&replica| !world.process(replica).has_crashed())
                .map(|replica| world.process(replica).name().to_owned())
                .collect();
            desk.all_ended(&names)
        });
    }

    fn run_until_ended_by(&mut self, replica: usize, length: Duration) {
        let end = self.world.now() + length;
        let name = self.world.process(replica).name().to_owned();
        let desk = self.desk.clone();
        self.world
            .run_until(end, |_| desk.all_ended(std::slice::from_ref(&name)));
    }

    fn calls(&self, job: &Job) -> Vec<Call> {
        let state = self.desk.lock();
        state
            .calls
            .iter()
            .filter(|call| call.job == job.name)
            .cloned()
            .collect()
    }

    fn count(&self, job: &Job, keep: impl Fn(&Call) -> bool) -> usize {
        self.calls(job).iter().filter(|call| keep(call)).count()
    }

    fn results(&self, job: &Job) -> String {
        let told = self
            .calls(job)
            .into_iter()
            .map(|call| format!("{} {}", call.replica, call.told()));
        told.collect::<Vec<_>>().join(", ")
    }

    fn starts(&self, job: &Job) -> Vec<Work> {
        self.desk.starts(job.name)
    }

    #[track_caller]
    fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.symptom(&what());
        }
    }

    fn symptom(&self, what: &str) -> ! {
        let timeline = self.world.timeline().last(LINES);
        kit::symptom(format!("{what}\n{timeline}"))
    }

    fn expect_sent_once(&self, job: &Job) {
        for batch in 0..job.batches {
            let sent = {
                let state = self.desk.lock();
                let mailed = state.gateway.get(job.name);
                mailed
                    .and_then(|mailed| mailed.batches.get(&batch))
                    .cloned()
                    .unwrap_or_default()
            };
            let by: Vec<String> = sent
                .iter()
                .map(|(replica, token)| format!("by {replica} with token {}", token.0))
                .collect();
            self.expect(sent.len() == 1, || {
                format!(
                    "batch {batch} of the job {} was sent {} times: {}",
                    job.name,
                    sent.len(),
                    by.join(", ")
                )
            });
        }
    }

    fn expect_one_done(&self, job: &Job) {
        let done = self.count(job, Call::is_done);
        self.expect(done == 1, || {
            format!(
                "the job {} was done once, and of all calls for it {done} ended with Done",
                job.name
            )
        });
    }

    /// All replicas that still run know by `limit` that the job is done, and it is.
    fn expect_done_by(&mut self, job: &Job, limit: Duration, when: &str) {
        self.run_until_all_calls_ended(limit);
        let known = self.count(job, |call| {
            matches!(call.result, Some(Ok(Outcome::Done | Outcome::AlreadyDone)))
        });
        self.expect(known > 0, || {
            let calls = self.calls(job);
            let holder = calls
                .first()
                .map_or("a replica", |call| call.replica.as_str());
            format!(
                "{holder} asked first and {when}; at {:.1} s the job {} is still not done",
                limit.as_secs_f64(),
                job.name
            )
        });
        self.expect_sent_once(job);
        self.expect(self.count(job, Call::is_done) <= 1, || {
            format!(
                "more than one call for the job {} ended with Done",
                job.name
            )
        });
    }

    fn expect_tokens_to_grow(&self, job: &Job) {
        for pair in self.starts(job).windows(2) {
            let (earlier, later) = (&pair[0], &pair[1]);
            self.expect(later.token > earlier.token, || {
                format!(
                    "{} was given the job {} with token {} and later {} with token {}: the \
                     gateway cannot tell who is the last",
                    earlier.replica, job.name, earlier.token.0, later.replica, later.token.0
                )
            });
        }
    }

    fn expect_no_overlap(&self, job: &Job) {
        let starts = self.starts(job);
        let [first, second, ..] = starts.as_slice() else {
            self.symptom(&format!(
                "replica-1 can no longer keep its lock, and nobody has taken over the job {}",
                job.name
            ));
        };
        let overlap = first.ended.is_none_or(|ended| ended > second.started);
        self.expect(!overlap, || {
            let until = match first.ended {
                None => "still works".to_owned(),
                Some(ended) => format!("went on working until {:.3} s", ended.as_secs_f64()),
            };
            format!(
                "{} was given the job {} at {:.3} s, and {} {until}",
                second.replica,
                job.name,
                second.started.as_secs_f64(),
                first.replica
            )
        });
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Records> {
        lock(&self.0)
    }

    fn starts(&self, job: &str) -> Vec<Work> {
        let state = self.lock();
        let mut work: Vec<Work> = state
            .work
            .iter()
            .filter(|work| work.job == job)
            .cloned()
            .collect();
        work.sort_by_key(|work| work.started);
        work
    }

    /// Whether for each job the last call of each of these replicas has ended and, where one keeps
    /// asking, will not be followed by another.
    fn all_ended(&self, replicas: &[String]) -> bool {
        let state = self.lock();
        let mut last: BTreeMap<(&str, &str), &Call> = BTreeMap::new();
        for call in &state.calls {
            last.insert((&call.replica, call.job), call);
        }
        last.iter()
            .filter(|((replica, _), _)| replicas.iter().any(|name| name == replica))
            .all(|(_, call)| call.dropped || call.result.is_some())
    }

    fn begin_bare(&self, replica: &str, job: &'static str, token: FencingToken) {
        self.lock().work.push(Work {
            replica: replica.to_owned(),
            job,
            token,
            started: Duration::ZERO,
            ended: None,
        });
    }
}

/// Makes calls for one job in one replica.
struct Caller<S> {
    scheduler: Arc<Scheduler<S>>,
    job: Job,
    hitch: Option<Hitch>,
    gateway: Gateway,
    process: Process,
    desk: Desk,
}

impl<S: Store> Caller<S> {
    async fn make(&self) -> Result<Outcome, StoreError> {
        let number = {
            let mut state = self.desk.lock();
            state.calls.push(Call {
                replica: self.process.name().to_owned(),
                job: self.job.name,
                dropped: false,
                result: None,
            });
            state.calls.len() - 1
        };
        let (job, hitch, gateway) = (self.job.clone(), self.hitch, self.gateway.clone());
        let result = self
            .scheduler
            .run_once(self.job.name, move |token| mail(job, hitch, gateway, token))
            .await;
        if result != Ok(Outcome::Held) && result != Ok(Outcome::AlreadyDone) {
            let told = match &result {
                Ok(outcome) => format!("{outcome:?}"),
                Err(error) => format!("could not {error}"),
            };
            self.process
                .note(format!("call for {}: {told}", self.job.name));
        }
        self.desk.lock().calls[number].result = Some(result.clone());
        result
    }
}

/// The work of a job: goes on where the last holder stopped.
async fn mail(
    job: Job,
    hitch: Option<Hitch>,
    gateway: Gateway,
    token: FencingToken,
) -> Result<(), WorkError> {
    let process = gateway.process.clone();
    process.note(format!("STARTS {} with token {}", job.name, token.0));
    let mut running = Running::new(&gateway, &job, token);
    let mut batch = gateway.resume(job.name, token).await?;
    while batch < job.batches {
        sleep(job.each).await;
        let mut late = Duration::ZERO;
        if let Some(Hitch::SendLate {
            batch: this,
            by,
            paused,
        }) = hitch
            && this == batch
        {
            late = by;
            process.pause(paused);
        }
        gateway.send(job.name, batch, token, late).await?;
        if let Some(Hitch::CrashAfter { batch: this }) = hitch
            && this == batch
        {
            process.crash();
            pending::<()>().await;
        }
        batch += 1;
    }
    match hitch {
        Some(Hitch::PauseAtEnd { paused, fails }) => {
            process.pause(paused);
            sleep(2 * STEP).await;
            if fails {
                running.ends("fails");
                return Err(WorkError(FAILURE.to_owned()));
            }
        }
        Some(Hitch::Linger(length)) => sleep(length).await,
        Some(Hitch::Fail) => {
            running.ends("fails");
            return Err(WorkError(FAILURE.to_owned()));
        }
        _ => {}
    }
    running.ends("has finished");
    Ok(())
}

/// Writes down when work ends, however it does.
struct Running {
    gateway: Gateway,
    index: usize,
    job: &'static str,
    how: &'static str,
}

impl Running {
    fn new(gateway: &Gateway, job: &Job, token: FencingToken) -> Self {
        let mut state = gateway.desk.lock();
        state.work.push(Work {
            replica: gateway.process.name().to_owned(),
            job: job.name,
            token,
            started: gateway.process.now(),
            ended: None,
        });
        Running {
            gateway: gateway.clone(),
            index: state.work.len() - 1,
            job: job.name,
            how: "stops",
        }
    }

    fn ends(&mut self, how: &'static str) {
        self.how = how;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let process = &self.gateway.process;
        self.gateway.desk.lock().work[self.index].ended = Some(process.now());
        process.note(format!("{} the work on {}", self.how, self.job));
    }
}

/// The mail gateway, as a replica reaches it.
#[derive(Clone)]
struct Gateway {
    process: Process,
    network: Network,
    timeline: Timeline,
    desk: Desk,
}

impl Gateway {
    /// Which batch of the job is next. From here on the gateway refuses smaller tokens.
    async fn resume(&self, job: &'static str, token: FencingToken) -> Result<u64, WorkError> {
        self.request(job, token, Duration::ZERO, |mailed, _| {
            let next = mailed.batches.keys().next_back().map_or(0, |last| last + 1);
            (next, None)
        })
        .await
    }

    /// Sends a batch.
    async fn send(
        &self,
        job: &'static str,
        batch: u64,
        token: FencingToken,
        late: Duration,
    ) -> Result<(), WorkError> {
        self.request(job, token, late, move |mailed, replica| {
            let sent = mailed.batches.entry(batch).or_default();
            let again = if sent.is_empty() { "" } else { " AGAIN" };
            sent.push((replica.to_owned(), token));
            let told = format!("sends batch {batch} of {job}{again} (token {})", token.0);
            ((), Some(told))
        })
        .await
    }

    async fn request<T: Send + 'static>(
        &self,
        job: &'static str,
        token: FencingToken,
        late: Duration,
        apply: impl FnOnce(&mut Mailed, &str) -> (T, Option<String>) + Send + 'static,
    ) -> Result<T, WorkError> {
        if self.process.has_crashed() {
            return pending().await;
        }
        let (reply, replied) = oneshot::channel();
        let arrives = self.process.now() + self.network.request_latency() + late;
        let (desk, timeline, network) = (
            self.desk.clone(),
            self.timeline.clone(),
            self.network.clone(),
        );
        let name = self.process.name().to_owned();
        self.network.deliver(arrives, move |now| {
            let mut state = desk.lock();
            let mailed = state.gateway.entry(job).or_default();
            let result = match mailed.fence.filter(|fence| token < *fence) {
                Some(fence) => {
                    let refused = format!("token {} is refused, {} was seen", token.0, fence.0);
                    timeline.note(now, "gateway", format!("{job}: {refused}"));
                    Err(WorkError(refused))
                }
                None => {
                    mailed.fence = Some(token);
                    let (result, told) = apply(mailed, &name);
                    if let Some(told) = told {
                        timeline.note(now, &*name, told);
                    }
                    Ok(result)
                }
            };
            drop(state);
            let takes = network.reply_latency();
            network.deliver(now + takes, move |_| {
                let _ = reply.send(result);
            });
        });
        replied
            .await
            .unwrap_or_else(|_| unreachable!("the gateway answers everything"))
    }
}

/// Numbers by chance, from a seed.
struct Dice(Seed, u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.1 += 1;
        Seed(self.0.0 ^ 0x5EED).derive(self.1).0 % bound
    }

    fn millis(&mut self, low: u64, high: u64) -> Duration {
        ms(low + self.below(high - low))
    }
}

// A real etcd.

fn real_etcd() -> RealEtcd {
    kit::step("starting etcd");
    match backends::Etcd::start() {
        Ok(etcd) => RealEtcd::new(etcd),
        Err(missing) if missing.required() => panic!("could not {missing}"),
        Err(missing) => kit::not_run(
            "there is no etcd here",
            format!("install one, or name one that runs: could not {missing}"),
        ),
    }
}

fn real_time<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system refuses a runtime");
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    output
}

/// A panic in a task of the learner's is the check's.
fn rethrow<T>(ended: Result<T, tokio::task::JoinError>) -> T {
    ended.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(payload) => std::panic::resume_unwind(payload),
        Err(error) => panic!("a task ended early: {error}"),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}
