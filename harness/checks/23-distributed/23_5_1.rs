//! 23.5.1: nightly jobs that run once, whoever crashes, pauses or loses the line.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use incident::chance::Chance;
use kit::time;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::subject::scheduler::{JobError, Outcome, Scheduler, Token};
use super::subject::store::{Answer, Change, Entry, Guard, LeaseId, Revision, Store, StoreError};

const TTL: Duration = Duration::from_secs(10);
/// How long a slow store takes to answer: less than the second in which each call is answered.
const SLOW: Duration = Duration::from_millis(900);
const JOB: &str = "invoices-2026-11";
const LOCK: &str = "/jobs/invoices-2026-11/lock";
const DONE: &str = "/jobs/invoices-2026-11/done";
const NAMES: [&str; 5] = ["ada", "bea", "cem", "dov", "eva"];
const SEEDS: [u64; 6] = [2, 5, 19, 23, 42, 77];

#[test]
fn one_of_five_runs_a_job() {
    kit::check(|| {
        time::paused(async {
            let night = Night::new(7);
            let runs: Vec<_> = (0..5).map(|who| night.start(who, JOB, steps(20))).collect();
            let mut outcomes = Vec::new();
            for run in runs {
                outcomes.push(run.ended().await);
            }
            let count = |wanted: &Outcome| outcomes.iter().filter(|(o, _)| o == wanted).count();
            assert!(
                night.ledger.begun(JOB) == 1 && count(&Outcome::Done) == 1,
                "five schedulers wanted {JOB} at the same time, and {} began it:\n{}",
                night.ledger.begun(JOB),
                night.timeline()
            );
            assert!(
                count(&Outcome::HeldByAnother) == 4,
                "one scheduler ran {JOB}, and the five say {:?}",
                outcomes
                    .iter()
                    .map(|(outcome, _)| outcome)
                    .collect::<Vec<_>>()
            );
            for (outcome, took) in &outcomes {
                assert!(
                    *outcome == Outcome::Done || *took < Duration::from_secs(2),
                    "{JOB} was held by another, and a scheduler took {took:?} to say so"
                );
            }
            let ttl = night.scheduler(0).ttl();
            assert!(
                ttl == TTL,
                "a scheduler was made with leases of {TTL:?}, and says that they are of {ttl:?}"
            );
        });
    });
}

#[test]
fn a_done_job_is_not_begun_again() {
    kit::check(|| {
        time::paused(async {
            let night = Night::new(11);
            let first = night.start(0, JOB, steps(3)).ended().await.0;
            let record = night.sim.value(DONE);
            assert!(
                first == Outcome::Done && record.is_some(),
                "{JOB} ran, the scheduler says {first:?}, and {DONE} holds {record:?}"
            );
            assert!(
                night.sim.value(LOCK).is_none(),
                "{JOB} is done, and {LOCK} is still there:\n{}",
                night.timeline()
            );
            kit::step("asking four other schedulers for a job that is done");
            for (who, name) in NAMES.iter().enumerate().skip(1) {
                let again = night.start(who, JOB, steps(3)).ended().await.0;
                assert!(
                    again == Outcome::AlreadyDone && night.ledger.begun(JOB) == 1,
                    "{JOB} was done, and {name} says {again:?} after {} runs:\n{}",
                    night.ledger.begun(JOB),
                    night.timeline()
                );
            }
        });
        // Between two calls of a slow scheduler, the job is done and free.
        time::paused(async {
            for early in (1..=12).map(|n| Duration::from_millis(300 * n)) {
                let night = Night::new(12);
                night.sim.answer_slowly(1, SLOW);
                let holder = night.start(0, JOB, steps(4));
                sleep(Duration::from_secs(4) - early).await;
                kit::step(format!(
                    "asking for a job {early:?} before it is done, with a slow line to the store"
                ));
                let slow = night.start(1, JOB, steps(2)).ended().await.0;
                let first = holder.ended().await.0;
                assert!(
                    first == Outcome::Done && night.ledger.begun(JOB) == 1,
                    "bea, whom the store answers after {SLOW:?}, asked for {JOB} {early:?} before \
                     it was done; ada says {first:?}, bea {slow:?}, and it began {} times:\n{}",
                    night.ledger.begun(JOB),
                    night.timeline()
                );
            }
        });
    });
}

#[test]
fn done_and_free_are_one_step() {
    kit::check(|| {
        // The holder is cut off some calls after its work, and somebody else asks at once.
        time::paused(async {
            for crash_after in 0..6 {
                let night = Night::new(100 + crash_after);
                let holder = night.start(0, JOB, steps(2));
                kit::step(format!(
                    "cutting the holder off {crash_after} calls after its work"
                ));
                night.ledger.finished(JOB, 1).await;
                night.sim.hang_after(0, crash_after);
                sleep(Duration::from_millis(700)).await;
                holder.crash();
                let at_once = night.start(1, JOB, steps(2)).ended().await.0;
                let begun = night.ledger.begun(JOB);
                assert!(
                    begun == 1,
                    "{JOB} had run, its holder crashed {crash_after} calls after that, and the \
                     next one says {at_once:?} after it began again at once, before any lease \
                     had run out:\n{}",
                    night.timeline()
                );
            }
        });
    });
}

#[test]
fn a_crashed_holder_is_replaced_after_its_lease() {
    kit::check(|| {
        for ttl in [TTL, Duration::from_secs(4)] {
            replaces_a_crashed_holder(ttl);
        }
    });
}

fn replaces_a_crashed_holder(ttl: Duration) {
    {
        time::paused(async move {
            let night = Night::with_leases(13, ttl);
            let holder = night.start(0, JOB, steps(60));
            sleep(Duration::from_secs(4)).await;
            holder.crash();
            night.note("ada", "crashes");
            let early = night.start(1, JOB, steps(2)).ended().await.0;
            assert!(
                early == Outcome::HeldByAnother,
                "ada crashed a moment ago, her lease has not run out, and bea says {early:?}:\n{}",
                night.timeline()
            );
            kit::step("waiting for the lease of a crashed holder to run out");
            sleep(ttl + Duration::from_secs(1)).await;
            let late = night.start(2, JOB, steps(2)).ended().await.0;
            assert!(
                late == Outcome::Done,
                "ada crashed {} s ago with leases of {} s, and cem says {late:?}:\n{}",
                ttl.as_secs() + 1,
                ttl.as_secs(),
                night.timeline()
            );
        });
    }
}

#[test]
fn a_crash_at_any_call_leaves_the_job_to_others() {
    kit::check(|| {
        time::paused(async {
            for calls in 0..8 {
                for applied in [false, true] {
                    let night = Night::new(200 + calls);
                    night.sim.crash_at(0, calls, applied);
                    kit::step(format!("crashing a scheduler at its call number {calls}"));
                    let holder = night.start(0, JOB, steps(2));
                    sleep(Duration::from_secs(8)).await;
                    holder.crash();
                    sleep(TTL + Duration::from_secs(1)).await;
                    let next = night.start(1, JOB, steps(2)).ended().await.0;
                    assert!(
                        matches!(next, Outcome::Done | Outcome::AlreadyDone),
                        "ada crashed at call number {calls} to the store ({}), a lease ago, and \
                         bea says {next:?}:\n{}",
                        carried_out(applied),
                        night.timeline()
                    );
                }
            }
        });
    });
}

#[test]
fn long_work_keeps_its_lease() {
    kit::check(|| {
        time::paused(async {
            let night = Night::new(17);
            let holder = night.start(0, JOB, steps(45));
            for round in 0..20 {
                sleep(Duration::from_secs(2)).await;
                let other = night.start(1 + round % 4, JOB, steps(1)).ended().await.0;
                assert!(
                    other == Outcome::HeldByAnother,
                    "ada has been at {JOB} for {:.0} s of 45 with leases of {} s, and {} says \
                     {other:?}:\n{}",
                    night.sim.now().as_secs_f64(),
                    TTL.as_secs(),
                    NAMES[1 + round % 4],
                    night.timeline()
                );
            }
            let outcome = holder.ended().await.0;
            assert!(
                outcome == Outcome::Done && night.ledger.begun(JOB) == 1,
                "a job of 45 s under leases of {} s ended as {outcome:?} after {} runs:\n{}",
                TTL.as_secs(),
                night.ledger.begun(JOB),
                night.timeline()
            );
        });
    });
}

#[test]
fn later_holders_have_greater_tokens() {
    kit::check(|| {
        time::paused(async {
            let night = Night::new(29);
            let mut tokens: Vec<Token> = Vec::new();
            for round in 0..5 {
                let run = night.start(
                    round,
                    JOB,
                    Work {
                        fails: true,
                        ..steps(1)
                    },
                );
                let outcome = run.ended().await.0;
                assert!(
                    matches!(outcome, Outcome::Failed(_)),
                    "a job that failed ended as {outcome:?}:\n{}",
                    night.timeline()
                );
                tokens.extend(night.ledger.tokens(JOB).last());
            }
            assert!(
                tokens.len() == 5 && tokens.is_sorted_by(|a, b| a < b),
                "five schedulers held {JOB} one after the other, and showed the tokens {:?}: a \
                 resource that refuses older tokens would have refused a rightful holder, or taken \
                 a late one for it",
                tokens.iter().map(|token| token.0).collect::<Vec<_>>()
            );
        });
    });
}

#[test]
fn a_paused_holder_is_fenced() {
    kit::check(|| {
        // In the middle of her work, or right after it; bea is at work when she returns, or done.
        let paused_after = Some(Duration::from_secs(24));
        let through = Work {
            paused_after,
            ..steps(3)
        };
        let failed = Work {
            fails: true,
            ..through
        };
        takes_over_from_a_paused_holder(steps(6), 20);
        takes_over_from_a_paused_holder(through, 20);
        takes_over_from_a_paused_holder(through, 5);
        takes_over_from_a_paused_holder(failed, 20);
    });
}

/// Ada sleeps for 24 s from the third second of her `work`, or after it, and bea takes over.
fn takes_over_from_a_paused_holder(work: Work, heirs_seconds: u64) {
    {
        time::paused(async move {
            let night = Night::new(31);
            // A write of ada's is on the wire for 25 s.
            let work = Work {
                late_write: Some(Duration::from_secs(25)),
                ..work
            };
            let holder = night.start(0, JOB, work);
            sleep(Duration::from_secs(3)).await;
            if work.paused_after.is_none() {
                night.sim.pause(0, Duration::from_secs(24));
                night.note("ada", "is paused for 24 s");
            }
            sleep(TTL + Duration::from_secs(3)).await;
            kit::step("letting another scheduler take over from one that is paused");
            let heir = night.start(1, JOB, steps(heirs_seconds));
            sleep(Duration::from_secs(9)).await;
            let outcome = holder.ended().await.0;
            assert!(
                !matches!(outcome, Outcome::Done),
                "ada was paused until her lease had run out, bea took over, and ada says \
                 {outcome:?}:\n{}",
                night.timeline()
            );
            let third = night.start(2, JOB, steps(2)).ended().await.0;
            let (wanted, bea) = match heirs_seconds {
                0..10 => (Outcome::AlreadyDone, "is through with"),
                _ => (Outcome::HeldByAnother, "is at"),
            };
            assert!(
                third == wanted,
                "bea {bea} {JOB}, ada has just come back from her pause, and cem says \
                 {third:?}:\n{}",
                night.timeline()
            );
            let heir = heir.ended().await.0;
            sleep(Duration::from_secs(30)).await;
            assert!(
                heir == Outcome::Done,
                "bea took over from a holder whose lease had run out, and her run ended as \
                 {heir:?}:\n{}",
                night.timeline()
            );
            night.ledger.expect_fenced(JOB, &night);
        });
    }
}

#[test]
fn work_stops_before_the_lease_can_be_anothers() {
    kit::check(|| {
        time::paused(async {
            let night = Night::new(37);
            let holder = night.start(0, JOB, steps(60));
            sleep(Duration::from_secs(5)).await;
            night.sim.cut_off(0, Duration::from_secs(120));
            night.note("ada", "no longer reaches the store");
            kit::step("waiting for a holder that no longer reaches the store");
            sleep(TTL + Duration::from_secs(1)).await;
            let heir = night.start(1, JOB, steps(5)).ended().await.0;
            let last = night.ledger.last_step_of(JOB, 1);
            let outcome = holder.ended().await.0;
            assert!(
                heir == Outcome::Done,
                "ada's lease ran out, and bea says {heir:?}:\n{}",
                night.timeline()
            );
            assert!(
                last.is_some_and(|last| last <= Duration::from_secs(5) + TTL),
                "ada could not renew her lease after 5 s, it had run out {} s later at the \
                 latest, and she was still at work at {:?}:\n{}",
                TTL.as_secs(),
                last.unwrap_or_default(),
                night.timeline()
            );
            assert!(
                outcome == Outcome::Lost,
                "ada lost her lease at work, and says {outcome:?}:\n{}",
                night.timeline()
            );
        });
        time::paused(async {
            let night = Night::new(38);
            let holder = night.start(0, JOB, steps(60));
            sleep(Duration::from_secs(5)).await;
            night.sim.revoke_all();
            night.note("operator", "revokes every lease");
            kit::step("waiting for a holder whose lease was revoked");
            let outcome = holder.ended().await.0;
            let last = night.ledger.last_step_of(JOB, 1);
            let in_time = last.is_some_and(|at| at <= Duration::from_secs(5) + TTL);
            assert!(
                outcome == Outcome::Lost && in_time,
                "an operator revoked ada's lease at 5 s; her run ended as {outcome:?}, and its \
                 last step was at {:?}:\n{}",
                last.unwrap_or_default(),
                night.timeline()
            );
        });
        // The store counts from before the holder hears of it: before the first renewal, and after.
        for cut in [2_500, 6_500].map(Duration::from_millis) {
            time::paused(async move {
                let night = Night::new(39);
                night.sim.answer_slowly(0, SLOW);
                let small_steps = Work {
                    a_second: 20,
                    ..steps(60)
                };
                let holder = night.start(0, JOB, small_steps);
                sleep(cut).await;
                night.sim.cut_off(0, Duration::from_secs(120));
                night.note("ada", "no longer reaches the store");
                sleep(TTL - Duration::from_secs(1) - cut).await;
                kit::step("letting another scheduler ask until the lease has run out");
                let asks = async {
                    while night.sim.now() < 3 * TTL {
                        match night.start(1, JOB, steps(5)).ended().await.0 {
                            Outcome::HeldByAnother | Outcome::Unavailable => {
                                sleep(Duration::from_millis(20)).await;
                            }
                            other => return other,
                        }
                    }
                    Outcome::HeldByAnother
                };
                let begins = async {
                    while night.ledger.begun(JOB) < 2 && night.sim.now() < 3 * TTL {
                        sleep(Duration::from_millis(1)).await;
                    }
                    night.sim.now()
                };
                let (heir, taken) = tokio::join!(asks, begins);
                assert!(
                    heir == Outcome::Done,
                    "ada's lease ran out, bea asked until {taken:?}, and says {heir:?}:\n{}",
                    night.timeline()
                );
                holder.ended().await;
                let last = night.ledger.last_step_of(JOB, 1);
                assert!(
                    last.is_some_and(|last| last <= taken),
                    "the store answered ada after {SLOW:?}, and from {cut:?} on not at all; bea \
                     took over at {taken:?}, and ada's last step was at {:?}:\n{}",
                    last.unwrap_or_default(),
                    night.timeline()
                );
            });
        }
    });
}

#[test]
fn a_short_outage_does_not_cost_the_job() {
    kit::check(|| {
        time::paused(async {
            let night = Night::new(41);
            let holder = night.start(0, JOB, steps(30));
            sleep(Duration::from_secs(5)).await;
            night.sim.cut_off(0, Duration::from_millis(4_500));
            night.note("ada", "does not reach the store for 4.5 s");
            let outcome = holder.ended().await.0;
            assert!(
                outcome == Outcome::Done,
                "the store was away for 4.5 s and leases last {} s; the run ended as \
                 {outcome:?}:\n{}",
                TTL.as_secs(),
                night.timeline()
            );
        });
    });
}

#[test]
fn a_failed_job_is_free_at_once() {
    kit::check(|| {
        time::paused(async {
            let night = Night::new(43);
            let failed = night
                .start(
                    0,
                    JOB,
                    Work {
                        fails: true,
                        ..steps(3)
                    },
                )
                .ended()
                .await
                .0;
            assert!(
                failed == Outcome::Failed(JobError("the printer is on fire".into())),
                "the work failed because the printer is on fire, and the scheduler says {failed:?}"
            );
            assert!(
                night.sim.value(DONE).is_none(),
                "a job that failed is recorded as done:\n{}",
                night.timeline()
            );
            let next = night.start(1, JOB, steps(3)).ended().await.0;
            assert!(
                next == Outcome::Done,
                "ada's run failed and ended, and bea says {next:?}:\n{}",
                night.timeline()
            );
        });
    });
}

#[test]
fn no_lease_is_left_behind() {
    kit::check(|| {
        time::paused(async {
            let night = Night::new(47);
            let holder = night.start(0, JOB, steps(5));
            sleep(Duration::from_secs(1)).await;
            for who in 1..5 {
                night.start(who, JOB, steps(1)).ended().await;
            }
            let held = night.sim.leases();
            assert!(
                held <= 1,
                "one scheduler is at work and four were turned away, and the store keeps {held} \
                 leases:\n{}",
                night.timeline()
            );
            holder.ended().await;
            night.start(1, JOB, steps(1)).ended().await;
            night
                .start(
                    2,
                    "reminders",
                    Work {
                        fails: true,
                        ..steps(1)
                    },
                )
                .ended()
                .await;
            let left = night.sim.leases();
            assert!(
                left == 0,
                "a job is done, one was found done, one has failed, and the store keeps {left} \
                 leases:\n{}",
                night.timeline()
            );
        });
        time::paused(async {
            let night = Night::new(48);
            let runs: Vec<_> = (0..5).map(|who| night.start(who, JOB, steps(5))).collect();
            sleep(Duration::from_secs(4)).await;
            let held = night.sim.leases();
            assert!(
                held <= 1,
                "five schedulers asked at the same moment, one is at work, four were turned away, \
                 and the store keeps {held} leases:\n{}",
                night.timeline()
            );
            for run in runs {
                run.ended().await;
            }
        });
    });
}

#[test]
fn lost_answers_neither_lose_nor_repeat_a_job() {
    kit::check(|| {
        time::paused(async {
            for call in 0..8 {
                for applied in [true, false] {
                    let night = Night::new(300 + call);
                    night.sim.lose_answer(0, call, applied);
                    kit::step(format!("losing the answer to call number {call}"));
                    let first = night.start(0, JOB, steps(2)).ended().await.0;
                    assert!(
                        matches!(first, Outcome::Done | Outcome::Unavailable),
                        "the answer to ada's call number {call} was lost ({}), nobody else has \
                         asked for {JOB}, {DONE} holds {:?}, and she says {first:?}:\n{}",
                        carried_out(applied),
                        night.sim.value(DONE),
                        night.timeline()
                    );
                    sleep(TTL + Duration::from_secs(1)).await;
                    let second = night.start(1, JOB, steps(2)).ended().await.0;
                    let third = night.start(2, JOB, steps(2)).ended().await.0;
                    let begun = night.ledger.begun(JOB);
                    assert!(
                        third == Outcome::AlreadyDone && begun == 1,
                        "the answer to ada's call number {call} was lost ({}); she says {first:?}, \
                         then bea says {second:?} and cem {third:?}, and {JOB} began {begun} \
                         times:\n{}",
                        carried_out(applied),
                        night.timeline()
                    );
                }
            }
        });
    });
}

#[test]
fn whatever_happens_each_job_is_done_once() {
    kit::check(|| {
        kit::seed::each(&SEEDS, |seed| {
            time::paused(async move { random_night(seed.0).await });
        });
    });
}

/// Five schedulers that ask for three jobs again and again, while they pause, crash and lose the
/// line.
async fn random_night(seed: u64) {
    let jobs = ["invoices", "reminders", "dunning"];
    let night = Night::new(seed);
    let mut chance = Chance::of(seed);
    let mut running: Vec<Run> = Vec::new();
    for _ in 0..60 {
        let who = usize::try_from(chance.whole(0, 4)).expect("small");
        let job = *chance.pick(&jobs);
        let seconds = chance.whole(1, 16);
        let work = Work {
            fails: chance.happens(0.15),
            ..steps(seconds)
        };
        match chance.whole(0, 9) {
            0 => night
                .sim
                .pause(who, Duration::from_secs(chance.whole(2, 25))),
            1 => night
                .sim
                .cut_off(who, Duration::from_secs(chance.whole(1, 20))),
            2 => night.sim.lose_next(who, chance.happens(0.5)),
            3 if !running.is_empty() => {
                let last = running.len() as u64 - 1;
                let index = usize::try_from(chance.whole(0, last)).expect("small");
                running.swap_remove(index).crash();
            }
            _ => running.push(night.start(who, job, work)),
        }
        sleep(Duration::from_millis(chance.whole(200, 4_000))).await;
    }
    // The faults end, and whoever is alive asks until there is nothing left to do.
    sleep(Duration::from_secs(60)).await;
    for job in jobs {
        for who in [0, 1, 2] {
            night.start(who, job, steps(1)).ended().await;
        }
        let last = night.start(3, job, steps(1)).ended().await.0;
        assert!(
            last == Outcome::AlreadyDone,
            "a minute after the last fault, three schedulers have asked for {job}, and the fourth \
             says {last:?}:\n{}",
            night.timeline()
        );
        night.ledger.expect_fenced(job, &night);
        night.ledger.expect_apart(job, &night);
    }
}

// The schedulers on a real etcd.

#[test]
fn five_schedulers_agree_on_a_real_etcd() {
    kit::check_within(Duration::from_secs(40), || {
        let (etcd, runtime) = real::start();
        runtime.block_on(async {
            let store = real::Client::new(&etcd);
            let ledger = Ledger::default();
            for job in ["invoices", "reminders", "dunning"] {
                kit::step(format!("running {job} on a real etcd"));
                let key = store.key(job);
                let runs: Vec<_> = NAMES
                    .iter()
                    .map(|name| {
                        let scheduler =
                            Scheduler::new(store.clone(), name, Duration::from_secs(10));
                        let (ledger, key) = (ledger.clone(), key.clone());
                        tokio::spawn(async move {
                            let name = key.clone();
                            let work = move |token| async move {
                                ledger.begin(&name, token);
                                sleep(Duration::from_millis(300)).await;
                                Ok(())
                            };
                            scheduler.run(&key, work).await
                        })
                    })
                    .collect();
                let mut outcomes = Vec::new();
                for run in runs {
                    outcomes.push(run.await.expect("a scheduler does not panic"));
                }
                let done = outcomes
                    .iter()
                    .filter(|outcome| **outcome == Outcome::Done)
                    .count();
                let begun = ledger.begun(&key);
                assert!(
                    done == 1 && begun == 1,
                    "on a real etcd five schedulers wanted {job}: {begun} began it, and they say \
                     {outcomes:?}"
                );
                let late = Scheduler::new(store.clone(), "late", Duration::from_secs(10));
                let late = late.run(&key, |_| async { Ok(()) }).await;
                assert!(
                    late == Outcome::AlreadyDone,
                    "{job} is done, and a late one says {late:?}"
                );
            }
        });
    });
}

#[test]
fn a_crashed_holder_is_replaced_on_a_real_etcd() {
    kit::check_within(Duration::from_secs(40), || {
        let (etcd, runtime) = real::start();
        runtime.block_on(async {
            let store = real::Client::new(&etcd);
            let job = store.key("crashed");
            let ledger = Ledger::default();
            let start = || {
                let (store, job, ledger) = (store.clone(), job.clone(), ledger.clone());
                let asked = Instant::now();
                let run = tokio::spawn(async move {
                    let scheduler = Scheduler::new(store, "ada", Duration::from_secs(1));
                    let name = job.clone();
                    let work = move |token| async move {
                        ledger.begin(&name, token);
                        std::future::pending::<()>().await;
                        Ok(())
                    };
                    scheduler.run(&job, work).await
                });
                (asked, run)
            };
            kit::step("waiting for a scheduler to begin on a real etcd");
            let (mut asked, mut holder) = start();
            let mut tries = 1;
            while ledger.begun(&job) == 0 {
                if holder.is_finished() {
                    let outcome = (&mut holder).await.expect("a scheduler does not panic");
                    // On a busy machine the lease may run out before its holder can begin.
                    assert!(
                        tries < 20,
                        "on a real etcd ada has asked {tries} times for a job that nobody else \
                         wants, and says {outcome:?} before she begins"
                    );
                    tries += 1;
                    (asked, holder) = start();
                }
                sleep(Duration::from_millis(10)).await;
            }
            holder.abort();
            kit::step("waiting for the lease of a crashed scheduler to run out on a real etcd");
            let heir = Scheduler::new(store.clone(), "bea", Duration::from_secs(1));
            let mut refusals = 0;
            loop {
                assert!(
                    refusals < 40,
                    "on a real etcd ada crashed with a lease of 1 s, and bea has been refused \
                     {refusals} times since, a tenth of a second apart"
                );
                let (name, ledger) = (job.clone(), ledger.clone());
                let work = move |token| async move {
                    ledger.begin(&name, token);
                    Ok(())
                };
                match heir.run(&job, work).await {
                    Outcome::Done => break,
                    // A server on a busy machine may keep a call waiting for too long.
                    Outcome::HeldByAnother | Outcome::Unavailable => refusals += 1,
                    other => kit::symptom(format!("ada crashed, and bea says {other:?}")),
                }
                // No need to wait for what cannot come.
                let lock = format!("/jobs/{job}/lock");
                if let Ok(Some(Entry { lease: None, .. })) = store.get(&lock).await {
                    kit::symptom(format!(
                        "on a real etcd ada crashed with a lease of 1 s, bea is refused, and \
                         {lock} is attached to no lease: it stays there for ever"
                    ));
                }
                sleep(Duration::from_millis(100)).await;
            }
            // A lease cannot have run out before so much time has passed since it was asked for.
            let took = asked.elapsed();
            assert!(
                took >= Duration::from_secs(1),
                "on a real etcd ada asked for {job} with a lease of 1 s and crashed, and {took:?} \
                 after that bea has done it"
            );
            let tokens = ledger.tokens(&job);
            assert!(
                tokens.len() == 2 && tokens[0] < tokens[1],
                "on a real etcd ada crashed and bea took over after {refusals} refusals; they \
                 showed the tokens {tokens:?}"
            );
        });
    });
}

fn carried_out(applied: bool) -> &'static str {
    if applied {
        "it was carried out"
    } else {
        "it was not carried out"
    }
}

/// What a job does: steps, each a write to the ledger.
#[derive(Clone, Copy)]
struct Work {
    seconds: u64,
    /// How many steps it makes in a second.
    a_second: u32,
    fails: bool,
    /// The first write is on the wire for so long.
    late_write: Option<Duration>,
    /// Its machine is stopped for so long as soon as it is through.
    paused_after: Option<Duration>,
}

fn steps(seconds: u64) -> Work {
    Work {
        seconds,
        a_second: 1,
        fails: false,
        late_write: None,
        paused_after: None,
    }
}

/// A night: a store, a ledger, and five schedulers.
struct Night {
    sim: Sim,
    ledger: Ledger,
    ttl: Duration,
}

impl Night {
    fn new(seed: u64) -> Self {
        Night::with_leases(seed, TTL)
    }

    fn with_leases(seed: u64, ttl: Duration) -> Self {
        Night {
            sim: Sim::new(seed),
            ledger: Ledger::default(),
            ttl,
        }
    }

    fn note(&self, who: &str, what: &str) {
        self.sim.note(who, what.to_owned());
    }

    fn scheduler(&self, who: usize) -> Scheduler<Client> {
        let client = Client {
            sim: self.sim.clone(),
            who,
        };
        Scheduler::new(client, NAMES[who], self.ttl)
    }

    /// Lets scheduler `who` ask for `job`, in a task of its own that stops while it is paused.
    fn start(&self, who: usize, job: &str, work: Work) -> Run {
        let scheduler = self.scheduler(who);
        let (sim, ledger, job) = (self.sim.clone(), self.ledger.clone(), job.to_owned());
        let began = Instant::now();
        let body = async move {
            let outcome = {
                let (sim, ledger, name) = (sim.clone(), ledger.clone(), job.clone());
                let run = move |token: Token| at_work(sim, ledger, name, who, work, token);
                scheduler.run(&job, run).await
            };
            if outcome == Outcome::Done {
                ledger.done(&job);
            }
            sim.note(NAMES[who], format!("{job}: {outcome:?}"));
            (outcome, began.elapsed())
        };
        let paused = Pausable {
            sim: self.sim.clone(),
            who,
            inner: Box::pin(body),
            alarm: None,
        };
        Run(tokio::spawn(paused))
    }

    fn timeline(&self) -> String {
        self.sim.timeline()
    }
}

async fn at_work(
    sim: Sim,
    ledger: Ledger,
    job: String,
    who: usize,
    work: Work,
    token: Token,
) -> Result<(), JobError> {
    let turn = ledger.begin(&job, token);
    sim.note(NAMES[who], format!("{job}: begins with token {}", token.0));
    if let Some(delay) = work.late_write {
        let (ledger, job, sim) = (ledger.clone(), job.clone(), sim.clone());
        tokio::spawn(async move {
            sleep(delay).await;
            let taken = ledger.write(&job, turn, token, sim.now());
            let what = if taken { "is taken" } else { "is refused" };
            sim.note(
                NAMES[who],
                format!("{job}: a late write with token {} {what}", token.0),
            );
        });
    }
    for _ in 0..work.seconds * u64::from(work.a_second) {
        sleep(Duration::from_secs(1) / work.a_second).await;
        if !ledger.write(&job, turn, token, sim.now()) {
            sim.note(
                NAMES[who],
                format!("{job}: a write with token {} is refused", token.0),
            );
            return Err(JobError("the ledger has seen a later token".into()));
        }
    }
    if work.fails {
        sim.note(NAMES[who], format!("{job}: has failed at its work"));
    } else {
        ledger.finish(&job);
        sim.note(NAMES[who], format!("{job}: has finished its work"));
    }
    if let Some(pause) = work.paused_after {
        sim.pause(who, pause);
        let seconds = pause.as_secs();
        sim.note(NAMES[who], format!("is paused for {seconds} s"));
    }
    if work.fails {
        return Err(JobError("the printer is on fire".into()));
    }
    Ok(())
}

/// A scheduler's run.
struct Run(tokio::task::JoinHandle<(Outcome, Duration)>);

impl Run {
    async fn ended(self) -> (Outcome, Duration) {
        self.0
            .await
            .unwrap_or_else(|error| kit::symptom(format!("a scheduler panicked: {error}")))
    }

    fn crash(self) {
        self.0.abort();
    }
}

/// A task that is not polled while its scheduler is paused, as in a virtual machine that is stopped.
struct Pausable<F> {
    sim: Sim,
    who: usize,
    inner: Pin<Box<F>>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Pausable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if let Some(until) = this.sim.paused_until(this.who) {
            let mut alarm = Box::pin(sleep_until(until));
            if alarm.as_mut().poll(context).is_pending() {
                this.alarm = Some(alarm);
                return Poll::Pending;
            }
        }
        this.alarm = None;
        this.inner.as_mut().poll(context)
    }
}

/// What jobs write to. It refuses a token that is older than one it has seen for the job.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeMap<String, Book>>>);

#[derive(Default)]
struct Book {
    /// The token of each turn that began, in order.
    tokens: Vec<Token>,
    highest: Option<Token>,
    finished: usize,
    /// How many turns had begun when a scheduler first said that it is done.
    done_after: Option<usize>,
    /// How many schedulers said so.
    done: usize,
    /// Accepted writes: the turn, its token, and when.
    writes: Vec<(usize, Token, Duration)>,
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, BTreeMap<String, Book>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn begins. Gives its number, from 1.
    fn begin(&self, job: &str, token: Token) -> usize {
        let mut books = self.books();
        let book = books.entry(job.to_owned()).or_default();
        book.tokens.push(token);
        book.tokens.len()
    }

    fn write(&self, job: &str, turn: usize, token: Token, at: Duration) -> bool {
        let mut books = self.books();
        let book = books.entry(job.to_owned()).or_default();
        if book.highest.is_some_and(|highest| token < highest) {
            return false;
        }
        book.highest = Some(token);
        book.writes.push((turn, token, at));
        true
    }

    fn finish(&self, job: &str) {
        self.books().entry(job.to_owned()).or_default().finished += 1;
    }

    fn done(&self, job: &str) {
        let mut books = self.books();
        let book = books.entry(job.to_owned()).or_default();
        book.done += 1;
        book.done_after.get_or_insert(book.tokens.len());
    }

    fn begun(&self, job: &str) -> usize {
        self.books().get(job).map_or(0, |book| book.tokens.len())
    }

    fn tokens(&self, job: &str) -> Vec<Token> {
        self.books()
            .get(job)
            .map(|book| book.tokens.clone())
            .unwrap_or_default()
    }

    fn last_step_of(&self, job: &str, turn: usize) -> Option<Duration> {
        let books = self.books();
        let writes = &books.get(job)?.writes;
        writes
            .iter()
            .filter(|(of, ..)| *of == turn)
            .map(|(.., at)| *at)
            .max()
    }

    /// Waits until the work of a job has come to its end `times` times.
    async fn finished(&self, job: &str, times: usize) {
        while self
            .books()
            .get(job)
            .is_none_or(|book| book.finished < times)
        {
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// After the first write of a later turn, none of an earlier one is taken.
    fn expect_fenced(&self, job: &str, night: &Night) {
        let books = self.books();
        let Some(book) = books.get(job) else { return };
        let mut latest = 0;
        for (turn, token, at) in &book.writes {
            assert!(
                *turn >= latest,
                "{job}: at {:.1} s the ledger took a write with token {} of an earlier holder, \
                 after one of a later holder:\n{}",
                at.as_secs_f64(),
                token.0,
                night.timeline()
            );
            latest = latest.max(*turn);
        }
    }

    /// Turns come one after the other, and none after the first that is done.
    fn expect_apart(&self, job: &str, night: &Night) {
        let books = self.books();
        let Some(book) = books.get(job) else { return };
        assert!(
            book.tokens.is_sorted_by(|a, b| a < b),
            "{job} began with the tokens {:?}, one after the other:\n{}",
            book.tokens.iter().map(|token| token.0).collect::<Vec<_>>(),
            night.timeline()
        );
        // A holder may find its record only after it has lost the answer, and then says so itself:
        // one `Done` at the most, and no turn after it.
        assert!(
            book.done <= 1
                && book
                    .done_after
                    .is_none_or(|turns| turns == book.tokens.len()),
            "{} schedulers said that {job} was done by them, the first after {} turns, and it \
             began {} times:\n{}",
            book.done,
            book.done_after.unwrap_or_default(),
            book.tokens.len(),
            night.timeline()
        );
    }
}

/// A store in virtual time, as etcd would behave: leases run out, revisions grow, answers take a few
/// milliseconds, and get lost when the night says so.
#[derive(Clone)]
struct Sim {
    began: Instant,
    state: Arc<Mutex<State>>,
}

struct State {
    revision: u64,
    keys: BTreeMap<String, Entry>,
    /// When each lease runs out, and its time to live.
    leases: BTreeMap<LeaseId, (Instant, Duration)>,
    granted: i64,
    chance: Chance,
    lines: Vec<String>,
    clients: [Faults; 5],
}

#[derive(Clone, Default)]
struct Faults {
    calls: u64,
    paused_until: Option<Instant>,
    cut_until: Option<Instant>,
    /// How long answers take, where not as long as usual.
    answers_take: Option<Duration>,
    /// The number of the call whose answer gets lost, and whether it is carried out.
    lost: Option<(u64, bool)>,
    /// The number of the call from which on nothing comes back, and whether that one is carried
    /// out.
    hangs: Option<(u64, bool)>,
}

impl Sim {
    fn new(seed: u64) -> Self {
        Sim {
            began: Instant::now(),
            state: Arc::new(Mutex::new(State {
                revision: 100,
                keys: BTreeMap::new(),
                leases: BTreeMap::new(),
                granted: 0,
                chance: Chance::of(seed),
                lines: Vec::new(),
                clients: Default::default(),
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.expire();
        state
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn note(&self, who: &str, what: String) {
        let line = format!("  {:6.2} s  {who:<9}{what}", self.now().as_secs_f64());
        self.state().lines.push(line);
    }

    /// The last of what happened.
    fn timeline(&self) -> String {
        const SHOWN: usize = 14;
        let state = self.state();
        let skipped = state.lines.len().saturating_sub(SHOWN);
        let mut lines: Vec<String> = state.lines[skipped..].to_vec();
        if skipped > 0 {
            lines.insert(0, format!("  ({skipped} events before)"));
        }
        lines.join("\n")
    }

    fn value(&self, key: &str) -> Option<String> {
        self.state().keys.get(key).map(|entry| entry.value.clone())
    }

    fn leases(&self) -> usize {
        self.state().leases.len()
    }

    fn revoke_all(&self) {
        let mut state = self.state();
        let leases: Vec<LeaseId> = state.leases.keys().copied().collect();
        for lease in leases {
            state.end(lease);
        }
    }

    fn paused_until(&self, who: usize) -> Option<Instant> {
        self.state().clients[who]
            .paused_until
            .filter(|until| *until > Instant::now())
    }

    fn pause(&self, who: usize, pause: Duration) {
        self.state().clients[who].paused_until = Some(Instant::now() + pause);
    }

    fn cut_off(&self, who: usize, time: Duration) {
        self.state().clients[who].cut_until = Some(Instant::now() + time);
    }

    fn answer_slowly(&self, who: usize, answers_take: Duration) {
        self.state().clients[who].answers_take = Some(answers_take);
    }

    fn lose_answer(&self, who: usize, call: u64, applied: bool) {
        self.state().clients[who].lost = Some((call, applied));
    }

    fn lose_next(&self, who: usize, applied: bool) {
        let client = &mut self.state().clients[who];
        client.lost = Some((client.calls, applied));
    }

    fn crash_at(&self, who: usize, call: u64, applied: bool) {
        self.state().clients[who].hangs = Some((call, applied));
    }

    fn hang_after(&self, who: usize, calls: u64) {
        let client = &mut self.state().clients[who];
        client.hangs = Some((client.calls + calls, false));
    }
}

impl State {
    fn expire(&mut self) {
        let now = Instant::now();
        let over: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(id, _)| *id)
            .collect();
        for lease in over {
            self.end(lease);
        }
    }

    fn end(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        let before = self.keys.len();
        self.keys.retain(|_, entry| entry.lease != Some(lease));
        if self.keys.len() < before {
            self.revision += 1;
        }
    }

    fn transact(&mut self, guards: &[Guard], changes: &[Change]) -> Result<Answer, StoreError> {
        let holds = |guard: &Guard| match guard {
            Guard::Absent(key) => !self.keys.contains_key(key),
            Guard::CreatedAt(key, at) => self.keys.get(key).is_some_and(|e| e.created == *at),
        };
        let succeeded = guards.iter().all(holds);
        if succeeded {
            for change in changes {
                if let Change::Put {
                    lease: Some(lease), ..
                } = change
                    && !self.leases.contains_key(lease)
                {
                    return Err(StoreError::LeaseGone);
                }
            }
            self.revision += 1;
            for change in changes {
                match change {
                    Change::Delete(key) => {
                        self.keys.remove(key);
                    }
                    Change::Put { key, value, lease } => {
                        let created = Revision(self.revision);
                        let created = self.keys.get(key).map_or(created, |entry| entry.created);
                        let entry = Entry {
                            value: value.clone(),
                            created,
                            lease: *lease,
                        };
                        self.keys.insert(key.clone(), entry);
                    }
                }
            }
        }
        Ok(Answer {
            succeeded,
            revision: Revision(self.revision),
        })
    }
}

/// The simulated store, as one scheduler sees it.
#[derive(Clone)]
struct Client {
    sim: Sim,
    who: usize,
}

/// What becomes of a call.
enum Fate {
    Answered,
    Lost { applied: bool },
    Hangs { applied: bool },
}

impl Client {
    async fn call<T>(
        &self,
        what: impl fmt::Display,
        act: impl FnOnce(&mut State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // A machine that is stopped sends nothing, whichever of its tasks asks.
        while let Some(until) = self.sim.paused_until(self.who) {
            sleep_until(until).await;
        }
        let (fate, there, back) = {
            let mut state = self.sim.state();
            let there = Duration::from_millis(state.chance.whole(1, 9));
            let back = Duration::from_millis(state.chance.whole(1, 9));
            let client = &mut state.clients[self.who];
            let back = client.answers_take.unwrap_or(back);
            let number = client.calls;
            client.calls += 1;
            let fate = match (client.hangs, client.lost) {
                (Some((at, applied)), _) if number >= at => Fate::Hangs {
                    applied: applied && number == at,
                },
                (_, Some((at, applied))) if number == at => Fate::Lost { applied },
                _ if client.cut_until.is_some_and(|until| until > Instant::now()) => {
                    Fate::Lost { applied: false }
                }
                _ => Fate::Answered,
            };
            (fate, there, back)
        };
        sleep(there).await;
        match fate {
            Fate::Answered => {
                let result = act(&mut self.sim.state());
                sleep(back).await;
                result
            }
            Fate::Lost { applied } => {
                if applied {
                    let _ = act(&mut self.sim.state());
                }
                let carried = if applied { ", and was carried out" } else { "" };
                self.sim
                    .note(NAMES[self.who], format!("{what} gets no answer{carried}"));
                sleep(Duration::from_millis(900)).await;
                Err(StoreError::Unavailable)
            }
            Fate::Hangs { applied } => {
                if applied {
                    let _ = act(&mut self.sim.state());
                }
                self.sim
                    .note(NAMES[self.who], format!("{what} is the last of her calls"));
                std::future::pending().await
            }
        }
    }
}

impl Store for Client {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.call("grant", |state| {
            // The numbers of leases do not grow, as those of etcd do not.
            state.granted += 1;
            let lease = LeaseId((state.granted * 40_009) % 100_003);
            state.leases.insert(lease, (Instant::now() + ttl, ttl));
            Ok(lease)
        })
        .await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.call("keep_alive", |state| match state.leases.get_mut(&lease) {
            Some((at, ttl)) => {
                *at = Instant::now() + *ttl;
                Ok(())
            }
            None => Err(StoreError::LeaseGone),
        })
        .await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.call("revoke", |state| {
            state.end(lease);
            Ok(())
        })
        .await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.call(format!("get {key}"), |state| {
            Ok(state.keys.get(key).cloned())
        })
        .await
    }

    async fn transact(
        &self,
        guards: Vec<Guard>,
        changes: Vec<Change>,
    ) -> Result<Answer, StoreError> {
        self.call("a transaction", |state| state.transact(&guards, &changes))
            .await
    }
}

/// The store over a real etcd, through its JSON gateway.
mod real {
    use std::net::SocketAddr;
    use std::time::Duration;

    use backends::Etcd;
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use serde_json::{Value, json};

    use super::super::subject::store::{
        Answer, Change, Entry, Guard, LeaseId, Revision, Store, StoreError,
    };

    /// A private etcd, or the check is not run; and a runtime to talk to it.
    pub fn start() -> (Etcd, tokio::runtime::Runtime) {
        kit::step("starting etcd");
        let etcd = Etcd::start().unwrap_or_else(|missing| {
            if missing.required() {
                kit::symptom(format!("could not {missing}"));
            }
            kit::not_run("there is no etcd", format!("could not {missing}"));
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        (etcd, runtime)
    }

    #[derive(Clone)]
    pub struct Client {
        address: SocketAddr,
        namespace: String,
    }

    impl Client {
        pub fn new(etcd: &Etcd) -> Self {
            Client {
                address: etcd.address().parse().expect("an address of this machine"),
                namespace: etcd.namespace().to_owned(),
            }
        }

        /// A job's name that nobody else uses on a server that may be shared.
        pub fn key(&self, job: &str) -> String {
            format!("{}-{job}", self.namespace)
        }

        async fn post(&self, path: &str, body: Value) -> Result<Value, StoreError> {
            let body = body.to_string();
            let headers: [(&str, &[u8]); 1] = [("content-type", b"application/json")];
            let asked = kit::http::request(self.address, "POST", path, &headers, body.as_bytes());
            let response = tokio::time::timeout(Duration::from_secs(4), asked).await;
            let Ok(Ok(response)) = response else {
                return Err(StoreError::Unavailable);
            };
            let text = response.text();
            if response.status != 200 {
                let gone = text.contains("lease not found");
                return Err(if gone {
                    StoreError::LeaseGone
                } else {
                    StoreError::Unavailable
                });
            }
            serde_json::from_str(&text).map_err(|_| StoreError::Unavailable)
        }
    }

    fn encoded(text: &str) -> String {
        BASE64_STANDARD.encode(text)
    }

    fn decoded(value: &Value) -> String {
        let bytes = BASE64_STANDARD.decode(value.as_str().unwrap_or_default());
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }

    /// The gateway writes 64-bit numbers as text.
    fn number(value: &Value) -> i64 {
        value
            .as_str()
            .and_then(|text| text.parse().ok())
            .or(value.as_i64())
            .unwrap_or(0)
    }

    fn revision(value: &Value) -> Revision {
        Revision(u64::try_from(number(value)).unwrap_or(0))
    }

    impl Store for Client {
        async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
            let answer = self
                .post("/v3/lease/grant", json!({"TTL": ttl.as_secs()}))
                .await?;
            Ok(LeaseId(number(&answer["ID"])))
        }

        async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
            let answer = self
                .post("/v3/lease/keepalive", json!({"ID": lease.0.to_string()}))
                .await?;
            // A lease that is gone is answered with a time to live of zero, which is left out.
            match number(&answer["result"]["TTL"]) {
                0 => Err(StoreError::LeaseGone),
                _ => Ok(()),
            }
        }

        async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
            match self
                .post("/v3/lease/revoke", json!({"ID": lease.0.to_string()}))
                .await
            {
                Ok(_) | Err(StoreError::LeaseGone) => Ok(()),
                Err(error) => Err(error),
            }
        }

        async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
            let answer = self
                .post("/v3/kv/range", json!({"key": encoded(key)}))
                .await?;
            let Some(found) = answer["kvs"].get(0) else {
                return Ok(None);
            };
            let lease = number(&found["lease"]);
            Ok(Some(Entry {
                value: decoded(&found["value"]),
                created: revision(&found["create_revision"]),
                lease: (lease != 0).then_some(LeaseId(lease)),
            }))
        }

        async fn transact(
            &self,
            guards: Vec<Guard>,
            changes: Vec<Change>,
        ) -> Result<Answer, StoreError> {
            let compare: Vec<Value> = guards
                .iter()
                .map(|guard| {
                    let (key, created) = match guard {
                        Guard::Absent(key) => (key, 0),
                        Guard::CreatedAt(key, at) => (key, at.0),
                    };
                    json!({
                        "key": encoded(key),
                        "target": "CREATE",
                        "result": "EQUAL",
                        "create_revision": created.to_string(),
                    })
                })
                .collect();
            let success: Vec<Value> = changes
                .iter()
                .map(|change| match change {
                    Change::Delete(key) => json!({"request_delete_range": {"key": encoded(key)}}),
                    Change::Put { key, value, lease } => json!({"request_put": {
                        "key": encoded(key),
                        "value": encoded(value),
                        "lease": lease.map_or(0, |lease| lease.0).to_string(),
                    }}),
                })
                .collect();
            let body = json!({"compare": compare, "success": success});
            let answer = self.post("/v3/kv/txn", body).await?;
            Ok(Answer {
                succeeded: answer["succeeded"].as_bool().unwrap_or(false),
                revision: revision(&answer["header"]["revision"]),
            })
        }
    }
}
