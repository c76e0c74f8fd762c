//! 17.2.1: a circuit breaker between a checkout and a payment provider.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{
    Config as Cases, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner,
};

use super::subject::{CircuitBreaker, Config, ConfigError, Permit, Rejected, Snapshot, State};
use super::under_loom;

const SEEDS: [u64; 2] = [17, 29];

/// A call of an ordinary length, and one of the night of the incident.
const FAST: Duration = Duration::from_millis(40);
const SLOW: Duration = Duration::from_secs(8);
const WAIT: Duration = Duration::from_secs(30);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

// One thread, one rule at a time.

#[test]
fn slow_calls_open_the_breaker() {
    kit::check(|| {
        kit::step("making calls that take 8 s");
        let mut night = Night::new(Config::default());
        for _ in 0..20 {
            night.call(FAST, Ends::Well);
        }
        for slow in 1..=80 {
            night.call(SLOW, Ends::Well);
            let expected = if slow < 80 {
                State::Closed
            } else {
                State::Open
            };
            let found = night.state();
            assert!(
                found == expected,
                "20 calls took 40 ms, then {slow} took 8 s, all without an error: {slow} of {} \
                 are over 2 s (80 % is too many), and the breaker is {found:?}",
                20 + slow
            );
        }
        let found = night.snapshot();
        assert!(
            (found.calls, found.errors, found.slow_calls) == (100, 0, 80),
            "100 calls, none failed, 80 slow, and the window shows {}",
            Shown(found)
        );

        for (took, ends, what, expected) in [
            (ms(2_000), Ends::Well, "took 2 s, no longer", (1, 0, 0)),
            (ms(2_001), Ends::Well, "took 2.001 s", (1, 0, 1)),
            (
                Duration::from_micros(2_000_500),
                Ends::Well,
                "took 2.0005 s",
                (1, 0, 1),
            ),
            (ms(2_001), Ends::Badly, "failed after 2.001 s", (1, 1, 1)),
            (ms(5), Ends::Badly, "failed after 5 ms", (1, 1, 0)),
        ] {
            let mut night = Night::new(Config::default());
            night.call(took, ends);
            let found = night.snapshot();
            assert!(
                (found.calls, found.errors, found.slow_calls) == expected,
                "one call {what}, where more than 2 s is slow: the window shows {}",
                Shown(found)
            );
        }

        for percent in [1, 7, 14, 28, 29, 55, 56, 57, 58, 100] {
            let config = Config {
                slow_call_rate: f64::from(percent) / 100.0,
                min_calls_to_open: 100,
                ..Config::default()
            };
            opens_at(
                config,
                (100 - percent, FAST, Ends::Well),
                (percent, SLOW, Ends::Well),
            );
        }
    });
}

#[test]
fn the_window_forgets_the_oldest_call() {
    kit::check(|| {
        kit::step("making 10,000 good calls, then bad ones");
        opens_at(
            Config::default(),
            (10_000, FAST, Ends::Well),
            (50, FAST, Ends::Badly),
        );
        opens_at(
            Config::default(),
            (10_000, FAST, Ends::Well),
            (80, SLOW, Ends::Well),
        );

        // What leaves is the oldest, and not the newest or the whole.
        let mut night = Night::new(Config::default());
        let parts = [
            (50, Ends::Well),
            (49, Ends::Badly),
            (51, Ends::Well),
            (49, Ends::Badly),
        ];
        for (calls, ends) in parts {
            for _ in 0..calls {
                night.call(FAST, ends);
            }
        }
        let found = night.snapshot();
        assert!(
            (found.state, found.calls, found.errors) == (State::Closed, 100, 49),
            "50 calls went well, 49 failed, 51 went well, 49 failed: of the last 100, 49 failed, \
             and the breaker is {}",
            Shown(found)
        );
        night.call(FAST, Ends::Badly);
        let found = night.snapshot();
        assert!(
            (found.state, found.calls, found.errors) == (State::Open, 100, 50),
            "50 calls went well, 49 failed, 51 went well, 50 failed: of the last 100, 50 failed, \
             and the breaker is {}",
            Shown(found)
        );
    });
}

#[test]
fn it_opens_at_its_rate_and_not_before_its_minimum() {
    kit::check(|| {
        kit::step("making as many failing calls as it takes to open");
        for percent in 1..=100 {
            let config = Config {
                error_rate: f64::from(percent) / 100.0,
                min_calls_to_open: 100,
                ..Config::default()
            };
            opens_at(
                config,
                (100 - percent, FAST, Ends::Well),
                (percent, FAST, Ends::Badly),
            );
        }
        for minimum in [1, 2, 20, 100] {
            let config = Config {
                min_calls_to_open: minimum as usize,
                ..Config::default()
            };
            opens_at(config, (0, FAST, Ends::Well), (minimum, FAST, Ends::Badly));
        }
        let config = Config {
            min_calls_to_open: 10,
            ..Config::default()
        };
        opens_at(config, (9, FAST, Ends::Badly), (1, FAST, Ends::Well));
    });
}

#[test]
fn half_open_lets_exactly_the_permitted_calls_through() {
    kit::check(|| {
        kit::step("sending 1,000 calls to a half-open breaker");
        for permitted in [1, 2, 5, 10] {
            let mut night = Night::opened(with_trials(permitted));
            night.pass(WAIT);
            let found = night.state();
            assert!(
                found == State::HalfOpen,
                "the wait of 30 s is over, nobody has called yet, and the breaker is {found:?}"
            );
            let trials = night.flood(1_000);
            assert!(
                trials.len() == permitted,
                "the breaker is half-open, {permitted} {} permitted, 1,000 calls arrive: {} of \
                 them were let through",
                if permitted == 1 {
                    "trial is"
                } else {
                    "trials are"
                },
                trials.len()
            );
            let rejected = night.snapshot().rejected;
            let expected = 1_000 - permitted as u64;
            assert!(
                rejected == expected,
                "{expected} of 1,000 calls were rejected while the breaker was half-open, and it \
                 has counted {rejected}"
            );
            // A trial that went well has used up its place.
            if permitted > 1 {
                let mut trials = trials.into_iter();
                night.pass(FAST);
                night.end(trials.next().expect("one at least"), Ends::Well);
                let further = night.flood(10);
                assert!(
                    further.is_empty(),
                    "{permitted} trials are permitted, {permitted} were let through, one of them \
                     has gone well, and of 10 more calls {} were let through before the others \
                     ended",
                    further.len()
                );
            }
        }
    });
}

#[test]
fn all_trials_close_it_and_one_opens_it_again() {
    kit::check(|| {
        kit::step("ending trials well, badly and late");
        let mut night = Night::opened(with_trials(3));
        night.pass(WAIT);
        let mut good = 0;
        for trial in night.flood(3) {
            night.pass(FAST);
            night.end(trial, Ends::Well);
            good += 1;
            let expected = if good < 3 {
                State::HalfOpen
            } else {
                State::Closed
            };
            let found = night.state();
            assert!(
                found == expected,
                "{good} of 3 trials have gone well, and the breaker is {found:?}"
            );
        }
        let found = night.snapshot();
        assert!(
            (
                found.calls,
                found.errors,
                found.slow_calls,
                found.times_opened
            ) == (0, 0, 0, 1),
            "the breaker has just closed after its first opening, and shows {}",
            Shown(found)
        );

        for (ends, took, what) in [
            (Ends::Badly, FAST, "fails"),
            (Ends::Well, SLOW, "goes well, after 8 s"),
            (Ends::Badly, SLOW, "fails, after 8 s"),
        ] {
            for before in 0..3 {
                let mut night = Night::opened(with_trials(3));
                night.pass(WAIT);
                let mut trials = night.flood(3).into_iter();
                for _ in 0..before {
                    night.pass(ms(1));
                    night.end(trials.next().expect("three"), Ends::Well);
                }
                night.pass(took);
                night.end(trials.next().expect("three"), ends);
                let found = night.snapshot();
                assert!(
                    (found.state, found.times_opened) == (State::Open, 2),
                    "{before} of 3 trials have gone well, the next one {what}, and the breaker is \
                     {}",
                    Shown(found)
                );
                night.expect_rejected(WAIT, "a trial has just gone wrong");
                // Those that are still under way change nothing any more.
                for (late, trial) in trials.enumerate() {
                    night.pass(ms(100));
                    night.end(trial, if late == 0 { Ends::Badly } else { Ends::Well });
                }
                let found = night.snapshot();
                assert!(
                    (found.state, found.times_opened) == (State::Open, 2),
                    "a trial went wrong and the breaker opened; then the other trials ended, and \
                     it is {}",
                    Shown(found)
                );
            }
        }
    });
}

#[test]
fn results_count_only_in_the_phase_in_which_the_call_began() {
    kit::check(|| {
        kit::step("ending calls in a later phase than that in which they began");
        for ends in [Ends::Well, Ends::Badly] {
            let how = match ends {
                Ends::Well => "goes well",
                Ends::Badly => "fails",
            };
            // While open.
            let mut night = Night::new(sensitive(2));
            let late = night.begin("the breaker is new");
            night.call(FAST, Ends::Badly);
            let before = night.snapshot();
            night.pass(SLOW);
            night.end(late, ends);
            let found = night.snapshot();
            assert!(
                found == before,
                "a call begins, the breaker opens, the call {how}: the breaker was {}, and now is \
                 {}",
                Shown(before),
                Shown(found)
            );
            night.expect_rejected(WAIT - SLOW, "the breaker opened 8 s ago");

            // While half-open.
            let mut night = Night::new(sensitive(2));
            let late = night.begin("the breaker is new");
            night.call(FAST, Ends::Badly);
            night.pass(WAIT);
            let _trial = night.begin("the breaker is half-open");
            night.end(late, ends);
            let found = night.state();
            assert!(
                found == State::HalfOpen,
                "a call begins, the breaker opens and is half-open 30 s later, the call {how}: it \
                 was no trial, and now the breaker is {found:?}"
            );
            let further = night.flood(10);
            assert!(
                further.len() == 1,
                "2 trials are permitted, one is under way, a call from before the breaker opened \
                 {how}: {} of 10 more calls were let through, where 1 should be",
                further.len()
            );

            // While closed again.
            let mut night = Night::new(sensitive(1));
            let late = night.begin("the breaker is new");
            night.call(FAST, Ends::Badly);
            night.pass(WAIT);
            night.call(FAST, Ends::Well);
            night.end(late, ends);
            let found = night.snapshot();
            assert!(
                (found.state, found.calls, found.times_opened) == (State::Closed, 0, 1),
                "a call begins, the breaker opens, is half-open, closes, and then the call {how}, \
                 of which the new window should know nothing: the breaker is {}",
                Shown(found)
            );

            // A trial of one half-open phase that ends in the next.
            let mut night = Night::opened(with_trials(2));
            night.pass(WAIT);
            let late = night.begin("the breaker is half-open");
            night.call(FAST, Ends::Badly);
            night.pass(WAIT);
            let _trial = night.begin("the breaker is half-open again");
            night.end(late, ends);
            let found = night.snapshot();
            let further = night.flood(10).len();
            assert!(
                (found.state, found.times_opened, further) == (State::HalfOpen, 2, 1),
                "a trial from the half-open phase before this one {how}; 2 trials are permitted \
                 and one of this phase is under way: {further} of 10 more calls were let through, \
                 where 1 should be, and the breaker is {}",
                Shown(found)
            );
        }
    });
}

#[test]
fn canceled_calls_count_for_nothing_and_give_their_place_back() {
    kit::check(|| {
        kit::step("dropping permits");
        let mut night = Night::new(sensitive(1));
        for _ in 0..100 {
            let canceled = night.begin("the breaker is closed");
            night.pass(SLOW);
            cancel(canceled);
        }
        let found = night.snapshot();
        assert!(
            (found.state, found.calls) == (State::Closed, 0),
            "100 callers were canceled and dropped their permits, and the breaker is {}",
            Shown(found)
        );

        let mut night = Night::opened(with_trials(3));
        night.pass(WAIT);
        for round in 1..=20 {
            let trials = night.flood(10);
            assert!(
                trials.len() == 3,
                "3 trials are permitted, and the callers of all trials before were canceled: of \
                 10 calls {} were let through (round {round})",
                trials.len()
            );
            trials.into_iter().for_each(cancel);
        }
        kit::step("dropping a permit in a panic");
        let unwound = panic::catch_unwind(AssertUnwindSafe(|| {
            let trial = night.begin("all trials before were canceled");
            let _dropped = ManuallyDrop::into_inner(trial);
            // Not `panic!`, which would write of a panic that nobody has to look into.
            panic::resume_unwind(Box::new("the caller panics"));
        }));
        assert!(unwound.is_err(), "a caller that panics has not panicked");
        // What went well stays, what is canceled is free again.
        let trials = night.flood(10);
        assert!(
            trials.len() == 3,
            "3 trials are permitted, and the last caller has panicked in the middle of one: of 10 \
             calls {} were let through",
            trials.len()
        );
        let mut trials = trials.into_iter();
        night.end(trials.next().expect("three"), Ends::Well);
        cancel(trials.next().expect("three"));
        let again = night.flood(10);
        assert!(
            again.len() == 1,
            "of 3 permitted trials one has gone well, one was canceled and one is under way: of \
             10 more calls {} were let through, where 1 should be",
            again.len()
        );
        for trial in trials.chain(again) {
            night.end(trial, Ends::Well);
        }
        let found = night.state();
        assert!(
            found == State::Closed,
            "3 of 3 trials have gone well and one was canceled, and the breaker is {found:?}"
        );

        // A place is given back where it was taken, and nowhere else.
        let mut night = Night::new(sensitive(2));
        let ordinary = night.begin("the breaker is new");
        night.call(FAST, Ends::Badly);
        night.pass(WAIT);
        let earlier = night.begin("the breaker is half-open");
        night.call(FAST, Ends::Badly);
        night.pass(WAIT);
        let _trials = night.flood(2);
        cancel(ordinary);
        cancel(earlier);
        let further = night.flood(10);
        assert!(
            further.is_empty(),
            "all 2 permitted trials are under way, and two callers from earlier phases are \
             canceled: of 10 more calls {} were let through",
            further.len()
        );
    });
}

#[test]
fn rejections_say_what_is_left_of_the_wait() {
    kit::check(|| {
        kit::step("asking an open breaker");
        let mut night = Night::opened(with_trials(1));
        for round in 1..=3 {
            for passed in [0, 1, 1_000, 15_000, 29_000, 29_999] {
                let mut later = night.clone();
                later.pass(ms(passed));
                later.expect_rejected(
                    WAIT - ms(passed),
                    &format!("the breaker opened {passed} ms ago (time {round})"),
                );
            }
            let rejected = night.snapshot().rejected;
            assert!(
                rejected == 6 * round,
                "{} calls have been rejected by the open breaker, and it has counted {rejected}",
                6 * round
            );
            night.pass(WAIT);
            night.call(FAST, Ends::Badly);
        }
    });
}

#[test]
fn no_clock_and_no_wait_confuses_it() {
    kit::check(|| {
        kit::step("ending a call before the moment at which it began");
        let night = Night::new(Config::default());
        let permit = night.begin("the breaker is new");
        end(permit, Ends::Well, night.now - ms(5));
        let found = night.snapshot();
        assert!(
            (found.calls, found.slow_calls) == (1, 0),
            "a call ended 5 ms before it began, by the clocks of two threads, and the window \
             shows {}",
            Shown(found)
        );

        kit::step("asking an open breaker 5 ms before the moment at which it opened");
        let night = Night::opened(sensitive(2));
        let early = night.breaker.state(night.now - ms(5));
        assert!(
            early == State::Open,
            "a thread whose clock is 5 ms behind asks a breaker that has just opened, and finds it \
             {early:?}"
        );
        match night.breaker.try_acquire(night.now - ms(5)) {
            Err(Rejected::Open { retry_after }) if retry_after == WAIT => {}
            other => kit::symptom(format!(
                "a thread whose clock is 5 ms behind asks a breaker that has just opened for \
                 30 s, and gets {}",
                answer(&other.err())
            )),
        }

        kit::step("asking a half-open breaker 5 ms before the moment at which its wait was over");
        let mut night = Night::opened(sensitive(2));
        night.pass(WAIT);
        let _first = night.begin("the breaker is half-open");
        let second = night
            .breaker
            .try_acquire(night.now - ms(5))
            .map(ManuallyDrop::new);
        assert!(
            second.is_ok(),
            "one of 2 permitted trials is under way; a thread whose clock is 5 ms behind asks for \
             the other, and gets {}",
            answer(&second.err())
        );

        kit::step("asking a breaker that waits for `Duration::MAX`");
        let mut night = Night::opened(Config {
            wait_duration: Duration::MAX,
            ..sensitive(1)
        });
        night.pass(Duration::from_secs(10 * 365 * 86_400));
        let found = night.state();
        assert!(
            found == State::Open && night.breaker.try_acquire(night.now).is_err(),
            "a breaker opened for `Duration::MAX`, and ten years later is {found:?}"
        );

        kit::step("making a breaker whose slow calls take longer than `Duration::MAX`");
        let mut night = Night::new(Config {
            slow_call_threshold: Duration::MAX,
            ..Config::default()
        });
        night.call(SLOW, Ends::Well);
        assert_eq!(
            night.snapshot().slow_calls,
            0,
            "no call takes longer than `Duration::MAX`, and one of 8 s counts as slow"
        );
    });
}

#[test]
fn configurations_out_of_range_are_refused() {
    kit::check(|| {
        kit::step("making breakers");
        let usual = Config::default();
        assert!(
            (usual.error_rate, usual.slow_call_rate, usual.window_size) == (0.50, 0.80, 100)
                && usual.slow_call_threshold == ms(2_000)
                && usual.wait_duration == WAIT,
            "`Config::default()` is {usual:?}, and should be 50 % errors or 80 % over 2 s among \
             the last 100 calls, and 30 s of wait"
        );
        let rate = |field: &'static str, rate: f64| {
            let mut config = Config::default();
            match field {
                "error_rate" => config.error_rate = rate,
                _ => config.slow_call_rate = rate,
            }
            config
        };
        for field in ["error_rate", "slow_call_rate"] {
            for wrong in [0.0, -0.0, -0.5, 1.000_1, 50.0, f64::NAN, f64::INFINITY] {
                match CircuitBreaker::new(rate(field, wrong)) {
                    Err(ConfigError::Rate { field: named, .. }) if named == field => {}
                    other => kit::symptom(format!(
                        "`{field}` is {wrong}, which is no share above 0 and at most 1, and \
                         `CircuitBreaker::new` gives {}",
                        made(&other.err())
                    )),
                }
            }
            for right in [1.0, 0.01] {
                if let Err(error) = CircuitBreaker::new(rate(field, right)) {
                    kit::symptom(format!("`{field}` = {right} is refused: {error}"));
                }
            }
        }
        let zeros = [
            (
                "slow_call_threshold",
                Config {
                    slow_call_threshold: Duration::ZERO,
                    ..usual.clone()
                },
            ),
            (
                "min_calls_to_open",
                Config {
                    min_calls_to_open: 0,
                    ..usual.clone()
                },
            ),
            (
                "wait_duration",
                Config {
                    wait_duration: Duration::ZERO,
                    ..usual.clone()
                },
            ),
            (
                "permitted_calls_in_half_open",
                Config {
                    permitted_calls_in_half_open: 0,
                    ..usual.clone()
                },
            ),
        ];
        for (field, config) in zeros {
            match CircuitBreaker::new(config) {
                Err(ConfigError::Zero { field: named }) if named == field => {}
                other => kit::symptom(format!(
                    "`{field}` is zero, and `CircuitBreaker::new` gives {}",
                    made(&other.err())
                )),
            }
        }
        for (window_size, min_calls_to_open, possible) in
            [(0, 1, false), (19, 20, false), (20, 20, true), (1, 1, true)]
        {
            let made_of = CircuitBreaker::new(Config {
                window_size,
                min_calls_to_open,
                ..usual.clone()
            });
            let right = match &made_of {
                Ok(_) => possible,
                Err(error) => {
                    !possible
                        && *error
                            == ConfigError::WindowTooSmall {
                                window_size,
                                min_calls_to_open,
                            }
                }
            };
            assert!(
                right,
                "the window holds {window_size} calls, opening takes {min_calls_to_open}, and \
                 `CircuitBreaker::new` gives {}",
                made(&made_of.err())
            );
        }
    });
}

// The night of the incident, in virtual time.

#[test]
fn black_friday_is_contained() {
    kit::check(|| {
        // The provider answers in 8 s from the 60th to the 180th second, without an error. The
        // 80th slow answer belongs to the call of 60.79 s; each round of trials that is sent while
        // the provider is slow costs the 8 s of its first answer.
        let expected = [
            (68_790, State::Open),
            (98_790, State::HalfOpen),
            (106_790, State::Open),
            (136_790, State::HalfOpen),
            (144_790, State::Open),
            (174_790, State::HalfOpen),
            (182_790, State::Open),
            (212_790, State::HalfOpen),
            (212_870, State::Closed),
        ];
        let night = Night::new(Config::default());
        let found = checkout(&night);
        assert!(
            found.transitions == expected,
            "100 calls/s, answered in 40 ms; from 60 s to 180 s answered in 8 s, with no error\n\n\
             {}\n{} of the 12,000 calls of these two minutes waited 8 s; at most {} were under way \
             at once",
            side_by_side(&expected, &found.transitions),
            found.slow,
            found.most_under_way
        );
        // 879 until the breaker opens, then three rounds of 5 trials.
        assert!(
            found.slow == 879 + 3 * 5,
            "{} calls waited 8 s, and should be 894: those until the breaker opened, and 15 trials",
            found.slow
        );
    });
}

struct Checkout {
    /// When, in milliseconds, and to which state.
    transitions: Vec<(u64, State)>,
    slow: usize,
    most_under_way: usize,
}

/// 100 calls in a second for four minutes.
fn checkout(night: &Night) -> Checkout {
    kit::step("simulating four minutes of Black Friday");
    let breaker = night.breaker;
    let mut under_way: BTreeMap<(u64, u64), Held<'_>> = BTreeMap::new();
    let mut result = Checkout {
        transitions: Vec::new(),
        slow: 0,
        most_under_way: 0,
    };
    let mut state = State::Closed;
    let mut look = |at: u64, transitions: &mut Vec<(u64, State)>| {
        let found = breaker.state(night.now + ms(at));
        if found != state {
            state = found;
            transitions.push((at, found));
        }
    };
    for at in (0..240_000).step_by(10) {
        while let Some(entry) = under_way.first_entry()
            && entry.key().0 <= at
        {
            let ((end, _), permit) = entry.remove_entry();
            self::end(permit, Ends::Well, night.now + ms(end));
            look(end, &mut result.transitions);
        }
        look(at, &mut result.transitions);
        if let Ok(permit) = breaker.try_acquire(night.now + ms(at)) {
            let is_slow = (60_000..180_000).contains(&at);
            result.slow += usize::from(is_slow);
            let took = if is_slow { SLOW } else { FAST };
            under_way.insert(
                (at + took.as_millis() as u64, at),
                ManuallyDrop::new(permit),
            );
            result.most_under_way = result.most_under_way.max(under_way.len());
        }
        look(at, &mut result.transitions);
    }
    result
}

fn side_by_side(expected: &[(u64, State)], found: &[(u64, State)]) -> String {
    let cell = |entry: Option<&(u64, State)>| match entry {
        Some((at, state)) => {
            let seconds = *at as f64 / 1_000.0;
            format!("{seconds:>7.2} s  {:<9}", format!("{state:?}"))
        }
        None => format!("{:>9}  {:<9}", "-", "-"),
    };
    let mut text = format!("  {:<22}  {}\n", "should go", "went");
    // A breaker that flaps would fill the screen.
    let rows = expected.len().max(found.len());
    for row in 0..rows.min(expected.len() + 3) {
        let line = format!("  {}    {}", cell(expected.get(row)), cell(found.get(row)));
        text += line.trim_end();
        text.push('\n');
    }
    if rows > expected.len() + 3 {
        text += &format!("  ... and {} more\n", rows - expected.len() - 3);
    }
    text
}

// Two or three threads, in every order that loom finds.

#[test]
fn half_open_is_exact_in_every_schedule() {
    kit::check(|| {
        explore("three callers asking for two trials", 2, || {
            let night = Explored::half_open(2);
            let callers = [1, 2].map(|caller| {
                let night = night.clone();
                loom::thread::spawn(move || night.ask(caller))
            });
            let mut permits = Vec::from_iter(night.ask(3));
            for caller in callers {
                permits.extend(caller.join().expect("a panic ends the model"));
            }
            let let_through = permits.len();
            night.demand(let_through == 2, || {
                format!(
                    "2 trials are permitted, 3 callers ask at the same moment, and {let_through} \
                     are let through"
                )
            });
            night.free(permits);
        });
        explore("a caller asking while a trial goes well", 1, || {
            let night = Explored::half_open(2);
            let (first, second) = (night.begin(1), night.begin(2));
            let third = night.meanwhile(|night| night.succeed(1, first), |night| night.ask(3));
            night.demand(third.is_none(), || {
                "2 trials are permitted and under way; one goes well while a third caller asks, \
                 who is let through"
                    .to_owned()
            });
            night.free([second]);
        });
        explore("a trial being canceled while others ask", 1, || {
            let night = Explored::half_open(1);
            let trial = night.begin(1);
            let second = night.meanwhile(|night| night.cancel(1, trial), |night| night.ask(2));
            let permits: Vec<_> = [second, night.ask(3), night.ask(4)]
                .into_iter()
                .flatten()
                .collect();
            let let_through = permits.len();
            night.demand(let_through == 1, || {
                format!(
                    "1 trial is permitted, its caller is canceled, and 3 others ask, the first \
                     of them at that moment: {let_through} are let through, where 1 should be"
                )
            });
            night.free(permits);
        });
    });
}

#[test]
fn outcomes_at_the_same_moment_make_one_transition() {
    kit::check(|| {
        explore("two calls failing at the same moment", 1, || {
            let night = Explored::new(2, 1);
            let (first, second) = (night.begin(1), night.begin(2));
            night.meanwhile(|night| night.fail(1, first), |night| night.fail(2, second));
            night.expect(
                "2 calls fail at the same moment, which is enough to open",
                under_loom::State::Open,
                (2, 2, 1),
            );
            night.free([]);
        });
        explore("a call failing while another begins and fails", 1, || {
            let night = Explored::new(1, 1);
            let first = night.begin(1);
            night.meanwhile(
                |night| night.fail(1, first),
                |night| {
                    if let Some(second) = night.ask(2) {
                        night.fail(2, second);
                    }
                },
            );
            // Whichever call fails second is rejected or comes too late.
            night.expect(
                "1 failure is enough to open; a call begins and fails while another fails",
                under_loom::State::Open,
                (1, 1, 1),
            );
            night.free([]);
        });
        explore("the last two trials going well at once", 1, || {
            let night = Explored::half_open(2);
            let (first, second) = (night.begin(1), night.begin(2));
            night.meanwhile(
                |night| night.succeed(1, first),
                |night| night.succeed(2, second),
            );
            night.expect(
                "2 of 2 trials go well at the same moment",
                under_loom::State::Closed,
                (0, 0, 1),
            );
            night.free([]);
        });
        explore("one trial failing while the other goes well", 1, || {
            let night = Explored::half_open(2);
            let (first, second) = (night.begin(1), night.begin(2));
            night.meanwhile(
                |night| night.fail(1, first),
                |night| night.succeed(2, second),
            );
            night.expect(
                "1 of 2 trials goes well while the other fails",
                under_loom::State::Open,
                (1, 1, 2),
            );
            night.free([]);
        });
        explore("two trials failing at the same moment", 1, || {
            let night = Explored::half_open(2);
            let (first, second) = (night.begin(1), night.begin(2));
            night.meanwhile(|night| night.fail(1, first), |night| night.fail(2, second));
            night.expect(
                "2 of 2 trials fail at the same moment, which is one more opening",
                under_loom::State::Open,
                (1, 1, 2),
            );
            night.free([]);
        });
        explore("an old call failing while the breaker closes", 1, || {
            let night = Explored::new(1, 1);
            let (late, sick) = (night.begin(1), night.begin(2));
            night.fail(2, sick);
            let night = night.later();
            let trial = night.begin(3);
            night.meanwhile(|night| night.fail(1, late), |night| night.succeed(3, trial));
            night.expect(
                "the only trial goes well while a call from before the opening fails",
                under_loom::State::Closed,
                (0, 0, 1),
            );
            night.free([]);
        });
        explore("an old call failing through a whole night", 1, || {
            let night = Explored::new(1, 1);
            let (late, sick) = (night.begin(1), night.begin(2));
            night.meanwhile(
                |night| night.fail(1, late),
                |night| {
                    night.fail(2, sick);
                    let night = night.clone().later();
                    let trial = night.begin(3);
                    night.succeed(3, trial);
                },
            );
            // The late call either opens it itself, or belongs to a phase that is over.
            let night = night.later();
            night.expect(
                "the breaker opens, waits, lets its only trial through, which goes well, and all \
                 that while a call from before the opening fails",
                under_loom::State::Closed,
                (0, 0, 1),
            );
            night.free([]);
        });
        explore("a look at it while it opens", 1, || {
            let night = Explored::new(1, 1);
            let sick = night.begin(1);
            let seen = night.meanwhile(|night| night.fail(1, sick), Explored::snapshot);
            let (before, after) = (
                (under_loom::State::Closed, 0, 0, 0),
                (under_loom::State::Open, 1, 1, 1),
            );
            let at_once = (seen.state, seen.calls, seen.errors, seen.times_opened);
            night.demand(at_once == before || at_once == after, || {
                format!(
                    "1 failure is enough to open, and a snapshot is taken meanwhile, which is of \
                     no moment that there was: {}",
                    Counts(
                        &format!("{:?}", seen.state),
                        (seen.calls, seen.errors, seen.times_opened)
                    )
                )
            });
            night.free([]);
        });
        explore("two calls that are rejected at once", 1, || {
            let night = Explored::new(1, 1);
            let sick = night.begin(0);
            night.fail(0, sick);
            night.meanwhile(
                |night| {
                    night.ask(1);
                },
                |night| {
                    night.ask(2);
                },
            );
            let rejected = night.snapshot().rejected;
            night.demand(rejected == 2, || {
                format!(
                    "the breaker is open, 2 callers ask at the same moment and are rejected, and it \
                     has counted {rejected}"
                )
            });
            night.free([]);
        });
    });
}

/// Runs `model` in every schedule of `spawned` threads beside the first, up to two preemptions.
fn explore(what: &'static str, spawned: usize, model: impl Fn() + Send + Sync + 'static) {
    kit::step(format!("exploring the schedules of {what}"));
    let of_nothing = schedules(what, move || {
        let threads: Vec<_> = (0..spawned).map(|_| loom::thread::spawn(|| ())).collect();
        for thread in threads {
            thread.join().expect("it does nothing");
        }
    });
    let found = schedules(what, model);
    assert!(
        found > of_nothing,
        "loom finds no more schedules of {what} than of threads that share nothing: what the \
         breaker shares between threads does not come from `crate::sync`"
    );
}

fn schedules(what: &'static str, model: impl Fn() + Send + Sync + 'static) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound = Some(2);
    explorer.max_permutations = Some(20_000);
    let explored = panic::catch_unwind(AssertUnwindSafe(|| {
        explorer.check(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            model();
        });
    }));
    if let Err(payload) = explored {
        let text = match payload.downcast_ref::<String>() {
            Some(text) => text.as_str(),
            None => payload.downcast_ref::<&str>().copied().unwrap_or(""),
        };
        if text.starts_with("deadlock") {
            kit::symptom(format!(
                "a deadlock in one schedule of {what}: each thread waits for another"
            ));
        }
        if text.contains("maximum number of branches") {
            kit::symptom(format!(
                "in one schedule of {what} a thread goes round and round, waiting for another \
                 that is not let run"
            ));
        }
        panic::resume_unwind(payload);
    }
    count.load(Ordering::Relaxed)
}

/// A breaker in loom's world, at one moment of one night, and what happened to it.
///
/// Permits are [`Held`]: a failing model would drop them where loom is no longer there to lock
/// anything.
#[derive(Clone)]
struct Explored {
    /// Lives until [`Explored::free`], so that permits can go to other threads.
    breaker: &'static under_loom::CircuitBreaker,
    /// The same one, as it has to be given back.
    whole: Arc<AtomicPtr<under_loom::CircuitBreaker>>,
    now: Instant,
    log: Arc<Mutex<Vec<String>>>,
}

type LoomPermit = ManuallyDrop<under_loom::Permit<'static>>;

impl Explored {
    fn new(window: usize, permitted: usize) -> Self {
        let breaker = under_loom::CircuitBreaker::new(under_loom::Config {
            error_rate: 1.0,
            slow_call_rate: 1.0,
            slow_call_threshold: Duration::from_secs(2),
            window_size: window,
            min_calls_to_open: window,
            wait_duration: WAIT,
            permitted_calls_in_half_open: permitted,
        })
        .unwrap_or_else(|error| {
            kit::symptom(format!("a configuration in range is refused: {error}"))
        });
        let whole = Box::into_raw(Box::new(breaker));
        Explored {
            // SAFETY: nobody writes to it, and it is there until `free` takes the last of these.
            breaker: unsafe { &*whole },
            whole: Arc::new(AtomicPtr::new(whole)),
            now: Instant::now(),
            log: Arc::default(),
        }
    }

    fn half_open(permitted: usize) -> Self {
        let night = Explored::new(1, permitted);
        let sick = night.begin(0);
        night.fail(0, sick);
        lock(&night.log).clear();
        night.later()
    }

    fn later(mut self) -> Self {
        self.now += WAIT;
        self
    }

    fn ask(&self, caller: usize) -> Option<LoomPermit> {
        let answer = self.breaker.try_acquire(self.now);
        self.say(format!(
            "caller {caller} is {}",
            if answer.is_ok() {
                "let through"
            } else {
                "rejected"
            }
        ));
        answer.ok().map(ManuallyDrop::new)
    }

    fn begin(&self, caller: usize) -> LoomPermit {
        self.ask(caller).unwrap_or_else(|| {
            kit::symptom("the only caller so far is rejected by a breaker that has room for it")
        })
    }

    fn succeed(&self, caller: usize, permit: LoomPermit) {
        ManuallyDrop::into_inner(permit).success(self.now);
        self.say(format!("caller {caller}'s call has gone well"));
    }

    fn fail(&self, caller: usize, permit: LoomPermit) {
        ManuallyDrop::into_inner(permit).failure(self.now);
        self.say(format!("caller {caller}'s call has failed"));
    }

    fn cancel(&self, caller: usize, permit: LoomPermit) {
        drop(ManuallyDrop::into_inner(permit));
        self.say(format!("caller {caller} is canceled"));
    }

    fn snapshot(&self) -> under_loom::Snapshot {
        self.breaker.snapshot(self.now)
    }

    /// Does one thing on another thread and another on this one.
    fn meanwhile<T>(
        &self,
        there: impl FnOnce(&Explored) + Send + 'static,
        here: impl FnOnce(&Explored) -> T,
    ) -> T {
        let night = self.clone();
        let thread = loom::thread::spawn(move || there(&night));
        let result = here(self);
        thread.join().expect("a panic ends the model");
        result
    }

    /// Ends a schedule that went as it should: loom wants back whatever it counts.
    fn free(self, permits: impl IntoIterator<Item = LoomPermit>) {
        for permit in permits {
            drop(ManuallyDrop::into_inner(permit));
        }
        let whole = self.whole.load(Ordering::Relaxed);
        // SAFETY: it comes from `Box::into_raw` in `new`, all other threads are joined, and a model
        // calls this last, when it has given up all of its permits.
        drop(unsafe { Box::from_raw(whole) });
    }

    fn say(&self, what: String) {
        lock(&self.log).push(what);
    }

    fn demand(&self, holds: bool, symptom: impl FnOnce() -> String) {
        if !holds {
            kit::symptom(format!(
                "{}\n  the schedule: {}",
                symptom(),
                lock(&self.log).join(", ")
            ));
        }
    }

    /// `counts`: calls and errors in the window, and times opened.
    fn expect(&self, story: &str, state: under_loom::State, counts: (usize, usize, u64)) {
        let found = self.snapshot();
        self.demand(
            found.state == state && (found.calls, found.errors, found.times_opened) == counts,
            || {
                format!(
                    "{story}\n  expected: {}\n  found:    {}",
                    Counts(&format!("{state:?}"), counts),
                    Counts(
                        &format!("{:?}", found.state),
                        (found.calls, found.errors, found.times_opened)
                    )
                )
            },
        );
    }
}

struct Counts<'a>(&'a str, (usize, usize, u64));

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts(state, (calls, errors, opened)) = self;
        write!(
            f,
            "{state}, {calls} in the window, {errors} of them failed, opened {opened}x"
        )
    }
}

// Any sequence of calls, against a model that keeps everything and computes anew each time.

#[test]
fn it_agrees_with_the_model() {
    kit::check(|| {
        kit::seed::each(&SEEDS, |seed| {
            kit::step(format!("comparing it with the model (seed {seed})"));
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.0.to_le_bytes());
            let mut runner = TestRunner::new_with_rng(
                Cases {
                    cases: 100,
                    failure_persistence: None,
                    max_shrink_iters: 4_000,
                    ..Cases::default()
                },
                TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
            );
            let seen = Mutex::new(Seen::default());
            let panicked = AtomicBool::new(false);
            let result = runner.run(&(setups(), vec(operations(), 1..120)), |(setup, script)| {
                if panicked.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let played = panic::catch_unwind(AssertUnwindSafe(|| play(&setup, &script, false)));
                match played {
                    Ok(Ok(reached)) => {
                        lock(&seen).add(reached);
                        Ok(())
                    }
                    Ok(Err(_)) => Err(TestCaseError::fail("they part")),
                    // Once is enough: it is played again below, for its message.
                    Err(_) => {
                        panicked.store(true, Ordering::Relaxed);
                        Err(TestCaseError::fail("it panics"))
                    }
                }
            });
            match result {
                Ok(()) => lock(&seen).demand_all(),
                Err(TestError::Fail(_, (setup, script))) => {
                    if let Err(timeline) = play(&setup, &script, true) {
                        kit::symptom(timeline);
                    }
                    kit::symptom(
                        "the breaker and the model part ways, and do not when the same calls are \
                         made once more: something other than its calls decides what it does",
                    );
                }
                Err(TestError::Abort(why)) => panic!("proptest gave up: {why}"),
            }
        });
    });
}

/// A configuration whose rates are known as fractions too.
#[derive(Clone, Debug)]
struct Setup {
    errors: (usize, usize),
    slow: (usize, usize),
    window: usize,
    minimum: usize,
    permitted: usize,
}

const MODEL_THRESHOLD: u64 = 100;
const MODEL_WAIT: u64 = 1_000;

impl Setup {
    fn config(&self) -> Config {
        let rate = |(part, whole): (usize, usize)| part as f64 / whole as f64;
        Config {
            error_rate: rate(self.errors),
            slow_call_rate: rate(self.slow),
            slow_call_threshold: ms(MODEL_THRESHOLD),
            window_size: self.window,
            min_calls_to_open: self.minimum,
            wait_duration: ms(MODEL_WAIT),
            permitted_calls_in_half_open: self.permitted,
        }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((errors, of_errors), (slow, of_slow)) = (self.errors, self.slow);
        write!(
            f,
            "window {}, minimum {}, errors from {errors}/{of_errors}, slow from {slow}/{of_slow} \
             (over 100 ms)\nwait 1 s, trials {}",
            self.window, self.minimum, self.permitted
        )
    }
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// A call begins.
    Begin,
    /// One of those under way ends, chosen by the number.
    End(usize, Ends),
    /// One of those under way is canceled.
    Cancel(usize),
    /// A call begins and ends so many milliseconds later.
    Call(u64, Ends),
    /// So many milliseconds pass.
    Pass(u64),
}

fn setups() -> impl Strategy<Value = Setup> {
    let rates = || {
        select(vec![
            (1, 1),
            (1, 2),
            (1, 3),
            (2, 3),
            (3, 4),
            (4, 5),
            (1, 7),
            (3, 5),
        ])
    };
    (rates(), rates(), 1..=7_usize, 1..=7_usize, 1..=3_usize).prop_map(
        |(errors, slow, window, minimum, permitted)| Setup {
            errors,
            slow,
            window,
            minimum: minimum.min(window),
            permitted,
        },
    )
}

fn operations() -> impl Strategy<Value = Operation> {
    let ends = || prop_oneof![3 => Just(Ends::Well), 2 => Just(Ends::Badly)];
    prop_oneof![
        3 => Just(Operation::Begin),
        3 => (any::<usize>(), ends()).prop_map(|(which, ends)| Operation::End(which, ends)),
        1 => any::<usize>().prop_map(Operation::Cancel),
        4 => (select(vec![1, 40, 100, 101, 300]), ends())
            .prop_map(|(took, ends)| Operation::Call(took, ends)),
        3 => select(vec![1, 60, 100, 101, 500, 999, 1_000, 1_001]).prop_map(Operation::Pass),
    ]
}

/// What has been reached, so that a test of nothing does not count as one.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    opened: usize,
    reopened: usize,
    closed: usize,
    late: usize,
    full: usize,
    canceled_trials: usize,
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.opened += other.opened;
        self.reopened += other.reopened;
        self.closed += other.closed;
        self.late += other.late;
        self.full += other.full;
        self.canceled_trials += other.canceled_trials;
    }

    fn demand_all(self) {
        let Seen {
            opened,
            reopened,
            closed,
            late,
            full,
            canceled_trials,
        } = self;
        assert!(
            [opened, reopened, closed, late, full, canceled_trials]
                .iter()
                .all(|&times| times >= 10),
            "the sequences of calls do not reach enough to prove anything: {self:?}"
        );
    }
}

struct Model<'a> {
    setup: &'a Setup,
    phase: ModelPhase,
    number: u64,
    /// All calls since the breaker was closed last, each whether it failed and was slow.
    ended: Vec<(bool, bool)>,
    opened: u64,
    rejected: u64,
    seen: Seen,
}

#[derive(Clone, Copy)]
enum ModelPhase {
    Closed,
    Open { until: u64 },
    HalfOpen { under_way: usize, good: usize },
}

/// A permit of the model's.
#[derive(Clone, Copy)]
struct Leave {
    phase: u64,
    began: u64,
}

impl Model<'_> {
    fn tick(&mut self, now: u64) {
        if let ModelPhase::Open { until } = self.phase
            && now >= until
        {
            self.enter(ModelPhase::HalfOpen {
                under_way: 0,
                good: 0,
            });
        }
    }

    fn enter(&mut self, phase: ModelPhase) {
        self.phase = phase;
        self.number += 1;
    }

    fn open(&mut self, now: u64) {
        self.opened += 1;
        self.enter(ModelPhase::Open {
            until: now + MODEL_WAIT,
        });
    }

    fn begin(&mut self, now: u64) -> Result<Leave, Rejected> {
        let permitted = self.setup.permitted;
        match &mut self.phase {
            ModelPhase::Closed => {}
            ModelPhase::Open { until } => {
                self.rejected += 1;
                return Err(Rejected::Open {
                    retry_after: ms(*until - now),
                });
            }
            ModelPhase::HalfOpen { under_way, good } if *under_way + *good == permitted => {
                self.rejected += 1;
                self.seen.full += 1;
                return Err(Rejected::HalfOpen);
            }
            ModelPhase::HalfOpen { under_way, .. } => *under_way += 1,
        }
        Ok(Leave {
            phase: self.number,
            began: now,
        })
    }

    fn end(&mut self, leave: Leave, ends: Ends, now: u64) {
        if leave.phase != self.number {
            self.seen.late += 1;
            return;
        }
        let failed = ends == Ends::Badly;
        let slow = now - leave.began > MODEL_THRESHOLD;
        match &mut self.phase {
            ModelPhase::Closed => {
                self.ended.push((failed, slow));
                let (calls, errors, slow) = self.window();
                let reaches = |part: usize, rate: (usize, usize)| part * rate.1 >= calls * rate.0;
                if calls >= self.setup.minimum
                    && (reaches(errors, self.setup.errors) || reaches(slow, self.setup.slow))
                {
                    self.seen.opened += 1;
                    self.open(now);
                }
            }
            ModelPhase::HalfOpen { .. } if failed || slow => {
                self.seen.reopened += 1;
                self.open(now);
            }
            ModelPhase::HalfOpen { under_way, good } => {
                *under_way -= 1;
                *good += 1;
                if *good == self.setup.permitted {
                    self.seen.closed += 1;
                    self.ended.clear();
                    self.enter(ModelPhase::Closed);
                }
            }
            ModelPhase::Open { .. } => unreachable!("no call begins while it is open"),
        }
    }

    fn cancel(&mut self, leave: Leave) {
        if leave.phase == self.number
            && let ModelPhase::HalfOpen { under_way, .. } = &mut self.phase
        {
            *under_way -= 1;
            self.seen.canceled_trials += 1;
        }
    }

    /// Calls, errors and slow calls among the last of them.
    fn window(&self) -> (usize, usize, usize) {
        let last = &self.ended[self.ended.len().saturating_sub(self.setup.window)..];
        (
            last.len(),
            last.iter().filter(|(failed, _)| *failed).count(),
            last.iter().filter(|(_, slow)| *slow).count(),
        )
    }

    fn snapshot(&self) -> Snapshot {
        let (calls, errors, slow_calls) = self.window();
        Snapshot {
            state: match self.phase {
                ModelPhase::Closed => State::Closed,
                ModelPhase::Open { .. } => State::Open,
                ModelPhase::HalfOpen { .. } => State::HalfOpen,
            },
            calls,
            errors,
            slow_calls,
            times_opened: self.opened,
            rejected: self.rejected,
        }
    }
}

/// Plays a script to the breaker and to the model; an error is the timeline up to where they
/// part, which is kept only when it is to be `told`.
fn play(setup: &Setup, script: &[Operation], told: bool) -> Result<Seen, String> {
    let breaker = made_with(setup.config());
    let start = Instant::now();
    let mut now = 0;
    let mut calls = 0;
    let mut under_way: Vec<(usize, Held<'_>, Leave)> = Vec::new();
    let mut model = Model {
        setup,
        phase: ModelPhase::Closed,
        number: 0,
        ended: Vec::new(),
        opened: 0,
        rejected: 0,
        seen: Seen::default(),
    };
    let mut timeline = Timeline {
        setup,
        rows: Vec::new(),
    };
    // A call is two steps on the timeline, and its time passes between them.
    let steps = script.iter().flat_map(|operation| match *operation {
        Operation::Call(took, ends) => {
            vec![
                Operation::Begin,
                Operation::Pass(took),
                Operation::End(usize::MAX, ends),
            ]
        }
        other => vec![other],
    });
    for step in steps {
        let mut answers = None;
        let what = match step {
            Operation::Begin => {
                calls += 1;
                let expected = model.begin(now);
                let found = breaker.try_acquire(start + ms(now)).map(ManuallyDrop::new);
                answers = Some((expected.err(), found.as_ref().err().copied()));
                if let (Ok(leave), Ok(permit)) = (expected, found) {
                    under_way.push((calls, permit, leave));
                }
                told.then(|| format!("call {calls} asks"))
            }
            Operation::End(which, ends) if !under_way.is_empty() => {
                // The last one, for a call that was let through; or else any one.
                let which = if which == usize::MAX {
                    under_way.len() - 1
                } else {
                    which
                };
                let (call, permit, leave) = under_way.remove(which % under_way.len());
                model.end(leave, ends, now);
                end(permit, ends, start + ms(now));
                let how = match ends {
                    Ends::Well => "goes well",
                    Ends::Badly => "fails",
                };
                told.then(|| format!("call {call} {how} after {} ms", now - leave.began))
            }
            Operation::Cancel(which) if !under_way.is_empty() => {
                let (call, permit, leave) = under_way.remove(which % under_way.len());
                model.cancel(leave);
                cancel(permit);
                told.then(|| format!("call {call} is canceled"))
            }
            Operation::Pass(millis) => {
                now += millis;
                model.tick(now);
                told.then(|| format!("{millis} ms pass"))
            }
            _ => continue,
        };
        let found = breaker.snapshot(start + ms(now));
        let state = breaker.state(start + ms(now));
        if let Some(what) = what {
            timeline
                .rows
                .push((now, what, model.snapshot(), found, answers));
        }
        if let Some((expected, found)) = answers
            && expected != found
        {
            return Err(timeline.parted(&answer(&expected), &answer(&found)));
        }
        if model.snapshot() != found {
            let expected = Shown(model.snapshot()).to_string();
            return Err(timeline.parted(&expected, &Shown(found).to_string()));
        }
        if state != found.state {
            let asked = format!("`state` is {state:?}");
            return Err(timeline.parted(&format!("`state` is {:?}", found.state), &asked));
        }
    }
    Ok(model.seen)
}

type Answers = Option<(Option<Rejected>, Option<Rejected>)>;

struct Timeline<'a> {
    setup: &'a Setup,
    rows: Vec<(u64, String, Snapshot, Snapshot, Answers)>,
}

impl Timeline<'_> {
    /// The table of what happened, shortened in the middle of a long life.
    fn parted(&self, expected: &str, found: &str) -> String {
        let mut text = format!(
            "the breaker does not do what it should\n{}\n\n  {:>9}  {:<32}  {:<10}{}\n",
            self.setup, "time", "what happens", "should be", "is"
        );
        let hidden = self.rows.len().saturating_sub(30);
        if hidden > 0 {
            text += &format!("  {:>9}  ({hidden} more before)\n", "...");
        }
        for (at, what, model, breaker, answers) in &self.rows[hidden..] {
            let what = match answers {
                Some((None, _)) => format!("{what}, is let through"),
                Some((Some(_), _)) => format!("{what}, is rejected"),
                None => what.clone(),
            };
            text += &format!(
                "  {:>7.3} s  {what:<32}  {:<10}{:?}\n",
                *at as f64 / 1_000.0,
                format!("{:?}", model.state),
                breaker.state
            );
        }
        text + &format!("\n  should be: {expected}\n  is:        {found}")
    }
}

// Real threads, for a moment.

#[test]
fn threads_lose_no_outcome_and_gain_no_trial() {
    kit::check(|| {
        const THREADS: usize = 4;
        const CALLS: usize = 1_000;
        kit::step("opening and closing it 200 times on 4 threads");
        let mut night = Night::new(sensitive(3));
        for round in 1..=200 {
            night.call(FAST, Ends::Badly);
            night.pass(WAIT);
            let trials = AtomicU64::new(0);
            let kept: Mutex<Vec<Held<'_>>> = Mutex::default();
            on_threads(THREADS, |_| {
                for _ in 0..3 {
                    if let Ok(permit) = night.ask() {
                        trials.fetch_add(1, Ordering::Relaxed);
                        lock(&kept).push(permit);
                    }
                }
            });
            let trials = trials.into_inner();
            assert!(
                trials == 3,
                "3 trials are permitted, 12 calls arrive on 4 threads at once, and {trials} were \
                 let through (round {round})"
            );
            let mut kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
            let shares: Vec<_> = (0..3).map(|_| Mutex::new(kept.pop())).collect();
            on_threads(3, |thread| {
                if let Some(permit) = lock(&shares[thread]).take() {
                    night.end(permit, Ends::Well);
                }
            });
            let found = night.snapshot();
            assert!(
                (found.state, found.calls, found.times_opened) == (State::Closed, 0, round),
                "3 of 3 trials have gone well on 3 threads, and the breaker is {} (round {round})",
                Shown(found)
            );
        }

        kit::step("ending 4,000 calls on 4 threads");
        let night = Night::new(Config {
            error_rate: 0.25,
            slow_call_rate: 1.0,
            window_size: THREADS * CALLS,
            min_calls_to_open: THREADS * CALLS,
            ..Config::default()
        });
        on_threads(THREADS, |_| {
            for call in 0..CALLS {
                if let Ok(permit) = night.ask() {
                    night.end(
                        permit,
                        if call % 4 == 0 {
                            Ends::Badly
                        } else {
                            Ends::Well
                        },
                    );
                }
            }
        });
        let found = night.snapshot();
        assert!(
            (found.state, found.calls, found.errors, found.times_opened)
                == (State::Open, 4_000, 1_000, 1),
            "4,000 calls end on 4 threads, 1,000 of them fail, which is the rate and the minimum: \
             the breaker is {}",
            Shown(found)
        );
    });
}

/// Runs `work` on threads that begin as nearly at once as can be.
fn on_threads(threads: usize, work: impl Fn(usize) + Sync) {
    let go = AtomicBool::new(false);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (go, work) = (&go, &work);
                scope.spawn(move || {
                    while !go.load(Ordering::Acquire) {
                        thread::yield_now();
                    }
                    work(thread);
                })
            })
            .collect();
        go.store(true, Ordering::Release);
        for thread in running {
            if let Err(payload) = thread.join() {
                panic::resume_unwind(payload);
            }
        }
    });
}

// What the checks above are told with.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Well,
    Badly,
}

/// A breaker, and the time of its night. It is never freed, so that permits can go anywhere.
#[derive(Clone)]
struct Night {
    breaker: &'static CircuitBreaker,
    now: Instant,
}

/// A permit that says nothing when a failing check drops it: code that panics in `drop` would take
/// the verdict down with it.
type Held<'a> = ManuallyDrop<Permit<'a>>;

impl Night {
    fn new(config: Config) -> Self {
        Night {
            breaker: Box::leak(Box::new(made_with(config))),
            now: Instant::now(),
        }
    }

    /// One that has just opened, by as many failures as it takes.
    fn opened(config: Config) -> Self {
        let minimum = config.min_calls_to_open;
        let mut night = Night::new(config);
        for _ in 0..minimum {
            night.call(FAST, Ends::Badly);
        }
        let found = night.snapshot();
        assert!(
            (found.state, found.times_opened) == (State::Open, 1),
            "the first {minimum} calls have failed, which is the minimum, and the breaker is {}",
            Shown(found)
        );
        night
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn state(&self) -> State {
        self.breaker.state(self.now)
    }

    fn snapshot(&self) -> Snapshot {
        self.breaker.snapshot(self.now)
    }

    fn ask(&self) -> Result<Held<'static>, Rejected> {
        self.breaker.try_acquire(self.now).map(ManuallyDrop::new)
    }

    /// A call that has to be let through.
    fn begin(&self, when: &str) -> Held<'static> {
        self.ask().unwrap_or_else(|rejected| {
            kit::symptom(format!(
                "{when}, a call arrives, and gets {}",
                answer(&Some(rejected))
            ))
        })
    }

    fn end(&self, permit: Held<'_>, ends: Ends) {
        end(permit, ends, self.now);
    }

    /// One whole call, at the end of which the night goes on.
    fn call(&mut self, took: Duration, ends: Ends) {
        let found = self.snapshot();
        let permit = self.ask().unwrap_or_else(|rejected| {
            kit::symptom(format!(
                "a call that should be let through gets {}; the breaker is {}",
                answer(&Some(rejected)),
                Shown(found)
            ))
        });
        self.pass(took);
        self.end(permit, ends);
    }

    /// So many calls at once: the permits of those that were let through.
    fn flood(&self, calls: usize) -> Vec<Held<'static>> {
        (0..calls).filter_map(|_| self.ask().ok()).collect()
    }

    fn expect_rejected(&self, left: Duration, when: &str) {
        match self.ask() {
            Err(Rejected::Open { retry_after }) if retry_after == left => {}
            other => kit::symptom(format!(
                "{when}, with {left:?} of 30 s left to wait: a call gets {}",
                answer(&other.err())
            )),
        }
    }
}

fn end(permit: Held<'_>, ends: Ends, now: Instant) {
    let permit = ManuallyDrop::into_inner(permit);
    match ends {
        Ends::Well => permit.success(now),
        Ends::Badly => permit.failure(now),
    }
}

fn cancel(permit: Held<'_>) {
    drop(ManuallyDrop::into_inner(permit));
}

fn made_with(config: Config) -> CircuitBreaker {
    let shown = format!("{config:?}");
    CircuitBreaker::new(config).unwrap_or_else(|error| {
        kit::symptom(format!(
            "a configuration in range is refused: {error}\n  {shown}"
        ))
    })
}

/// The usual configuration, with so many trials.
fn with_trials(permitted: usize) -> Config {
    Config {
        permitted_calls_in_half_open: permitted,
        ..Config::default()
    }
}

/// One failure opens it.
fn sensitive(permitted: usize) -> Config {
    Config {
        window_size: 10,
        min_calls_to_open: 1,
        ..with_trials(permitted)
    }
}

/// Calls of one kind, then of another: the last of these opens the breaker, and none before.
fn opens_at(config: Config, first: (u32, Duration, Ends), then: (u32, Duration, Ends)) {
    let told = |(calls, took, ends): (u32, Duration, Ends)| {
        let how = match ends {
            Ends::Well => "went well",
            Ends::Badly => "failed",
        };
        format!("{calls} calls {how} in {took:?}")
    };
    let before = |made: u32| {
        let kind = |(_, took, ends)| told((made.saturating_sub(first.0), took, ends));
        if made <= first.0 {
            told((made, first.1, first.2))
        } else {
            format!("{}, then {}", told(first), kind(then))
        }
    };
    let last = first.0 + then.0;
    let mut night = Night::new(config.clone());
    for made in 1..=last {
        let (_, took, ends) = if made <= first.0 { first } else { then };
        night.call(took, ends);
        let expected = if made < last {
            State::Closed
        } else {
            State::Open
        };
        let found = night.snapshot();
        assert!(
            found.state == expected,
            "{}: the breaker should be {expected:?}, and is {}\n  window {}, minimum {}, opens \
             from {} errors, from {} slow calls",
            before(made),
            Shown(found),
            config.window_size,
            config.min_calls_to_open,
            config.error_rate,
            config.slow_call_rate
        );
    }
}

/// What a caller gets.
fn answer(rejected: &Option<Rejected>) -> String {
    match rejected {
        None => "a permit".to_owned(),
        Some(Rejected::Open { retry_after }) => format!("`Open`, retry after {retry_after:?}"),
        Some(Rejected::HalfOpen) => "`HalfOpen`".to_owned(),
    }
}

fn made(refused: &Option<ConfigError>) -> String {
    match refused {
        None => "a breaker".to_owned(),
        Some(error) => format!("{error:?}"),
    }
}

/// A snapshot in a few words.
struct Shown(Snapshot);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot {
            state,
            calls,
            errors,
            slow_calls,
            times_opened,
            rejected,
        } = self.0;
        write!(
            f,
            "{state:?}, {calls} in the window ({errors} failed, {slow_calls} slow), opened \
             {times_opened}x, rejected {rejected}"
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
