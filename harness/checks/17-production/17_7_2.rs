//! 17.7.2: a cache of two nodes, in two simulated racks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use super::subject::net::Network;
use super::subject::{
    Cache, Config, Consistency, Mode, OnLoss, Peer, Read, Refusal, Role, Status, WriteError,
    Written,
};
use kit::history::{Action, Operation, linearizable};
use kit::seed::Seed;

const HEARTBEAT: Duration = ms(50);
const LOST_AFTER: Duration = ms(250);
const EXCHANGE: Duration = ms(100);

/// What the brief promises, and what a timer and a step of the simulation of two milliseconds cost.
const ANSWERED: Duration = ms(3 * 100 + 4);
const DETECTED: Duration = ms(250 + 50 + 100 + 4);
const OPEN: Duration = ms(2 * (250 + 50 + 100) + 4);
const TOGETHER: Duration = ms(4 * 250);

const STRONG: Consistency = Consistency::Strong(OnLoss::RefuseWrites);
const OPENING: Consistency = Consistency::Strong(OnLoss::FailOpen);
const EVENTUAL: Consistency = Consistency::Eventual;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

// The checks.

#[test]
fn two_nodes_agree_while_nothing_happens() {
    kit::check(|| {
        for consistency in [STRONG, OPENING, EVENTUAL] {
            let mut story = Story::new(consistency, Seed(1));
            story.full = 2;
            story.at(1_000, A, Call::Put("cart/7", "3 tickets".to_owned()));
            story.at(1_000, B, Call::Put("cart/8", "1 ticket".to_owned()));
            story.at(1_500, A, Call::Put("cart/9", "2 tickets".to_owned()));
            story.at(2_000, B, Call::Remove("cart/9"));
            for rack in RACKS {
                for key in ["cart/7", "cart/8", "cart/9", "cart/10"] {
                    story.at(2_500, rack, Call::Get(key));
                }
            }
            let told = story.tell();
            told.assert_all_confirmed(ms(1_000), Duration::MAX);
            for (key, value) in [
                ("cart/7", Some("3 tickets")),
                ("cart/8", Some("1 ticket")),
                ("cart/9", None),
                ("cart/10", None),
            ] {
                for rack in RACKS {
                    told.assert_reads(rack, key, ms(2_500), value);
                }
            }
            let mode = match consistency {
                Consistency::Strong(_) => Mode::Strong,
                Consistency::Eventual => Mode::Eventual,
            };
            for event in &told.events {
                let answered = event.mode().unwrap_or(mode);
                told.hold(answered == mode, || {
                    format!(
                        "{event} was answered as {answered:?} in a quiet cache: {consistency:?}"
                    )
                });
            }
            for rack in RACKS {
                let expected = Status {
                    mode,
                    peer: Peer::Reachable,
                };
                for (at, status) in told.statuses(rack) {
                    told.hold(at < ms(1_000) || status == expected, || {
                        format!(
                            "nothing happens ({consistency:?}), and\n{rack} says {status:?} at {}",
                            clock(at)
                        )
                    });
                }
            }
        }
    });
}

#[test]
fn a_strong_write_is_on_both_nodes_before_it_is_confirmed() {
    kit::check(|| {
        let mut story = Story::new(STRONG, Seed(2));
        story.latency = (20, 20);
        for n in 0..6 {
            let rack = RACKS[n as usize % 2];
            story.at(
                1_000 + 400 * n,
                rack,
                Call::Put("seat/12A", format!("w{n}")),
            );
        }
        for n in 0..300 {
            for rack in RACKS {
                story.at(1_000 + 8 * n, rack, Call::Get("seat/12A"));
            }
        }
        let told = story.tell();
        told.assert_all_confirmed(ms(1_000), Duration::MAX);
        let writes = told.events.iter().filter(|event| event.is_write());
        for (index, write) in writes.enumerate() {
            let next = ms(1_000 + 400 * (index as u64 + 1));
            let confirmed = write.returned.expect("it was confirmed");
            for event in &told.events {
                let Answer::Read(read) = &event.answer else {
                    continue;
                };
                if event.called > confirmed && event.called < next {
                    told.hold(read.value == write.call.value(), || {
                        format!("{write}, and then\n{event}")
                    });
                }
            }
        }
        told.assert_linearizable(|_| true);
        let mut story = Story::new(STRONG, Seed(2));
        story.latency = (20, 20);
        for n in 0..3 {
            story.at(1_000 + 400 * n, B, Call::Put("seat/12B", format!("b{n}")));
            story.at(1_090 + 400 * n, A, Call::Put("seat/12B", format!("a{n}")));
        }
        for n in 0..200 {
            story.read_everywhere(&["seat/12B"], ms(1_000 + 6 * n));
        }
        let told = story.tell();
        told.assert_all_confirmed(ms(1_000), Duration::MAX);
        told.assert_linearizable(|_| true);
    });
}

#[test]
fn strong_reads_are_linearizable_on_a_jittery_network() {
    kit::check(|| {
        kit::seed::each(&[3, 14, 15], |seed| {
            kit::step(format!("clients read and write at random (seed {seed})"));
            let mut story = Story::new(STRONG, seed);
            story.latency = (1, 18);
            story.random_calls(&["k1", "k2"], ms(1_000)..ms(2_500), 600);
            let told = story.tell();
            told.assert_all_confirmed(ms(1_000), Duration::MAX);
            told.assert_linearizable(|_| true);
        });
    });
}

#[test]
fn strong_reads_are_linearizable_whatever_fails() {
    kit::check(|| {
        kit::seed::each(&[1, 2, 3, 5, 8, 13, 21, 34], |seed| {
            kit::step(format!("links and nodes fail at random (seed {seed})"));
            let mut story = Story::new(STRONG, seed);
            story.latency = (1, 12);
            let healed = story.random_faults(ms(1_200), 2, &Fault::ALL);
            story.random_calls(&["k1", "k2", "k3"], ms(1_000)..healed + ms(1_600), 320);
            let told = story.tell();
            told.assert_answered();
            told.assert_linearizable(|_| true);
            told.assert_all_confirmed(healed + TOGETHER, Duration::MAX);
        });
        for fault in Fault::LINKS {
            kit::step(format!(
                "writes are under way when the racks part: {fault:?}"
            ));
            comes_back_in_doubt(fault);
        }
    });
}

/// Whether a write has happened that nobody was told of, both racks say alike, also while they find
/// together.
fn comes_back_in_doubt(fault: Fault) {
    let (cut, healed) = (ms(1_200), ms(1_350));
    let mut story = Story::new(STRONG, Seed(15));
    story.latency = (8, 8);
    story.fault(cut, healed, fault);
    for n in 0..12 {
        let at = cut - ms(60) + ms(5 * n);
        story.call(at, A, Call::Put("a", format!("a{n}")));
        story.call(at, B, Call::Put("b", format!("b{n}")));
    }
    for n in 0..50 {
        let at = healed - ms(10) + ms(3 * n);
        story.read_everywhere(&["a", "b"], at);
    }
    let told = story.tell();
    told.assert_answered();
    told.assert_linearizable(|_| true);
}

#[test]
fn a_strong_cache_refuses_writes_and_answers_reads_without_the_other_rack() {
    kit::check(|| {
        for fault in Fault::SYMMETRIC {
            kit::step(format!("the racks are parted: {fault:?}"));
            let cut = ms(2_000);
            let healed = ms(3_500);
            let mut story = Story::new(STRONG, Seed(4));
            for rack in RACKS {
                for event in ["event/1", "event/2"] {
                    story.impatient(
                        ms(1_000),
                        rack,
                        Call::Put(event, format!("by {rack}")),
                        ms(3),
                    );
                }
            }
            story.at(1_300, A, Call::Put("event/1", "on sale".to_owned()));
            story.at(1_400, B, Call::Put("event/2", "sold out".to_owned()));
            story.fault(cut, healed, fault);
            let alive: Vec<Rack> = RACKS
                .into_iter()
                .filter(|&rack| fault != Fault::Crash(rack))
                .collect();
            for n in 0..50 {
                for &rack in &alive {
                    let at = 2_000 + 30 * n;
                    story.at(at, rack, Call::Put("event/3", format!("{rack}-{n}")));
                    story.at(at, rack, Call::Get("event/1"));
                    story.at(at, rack, Call::Get("event/2"));
                }
            }
            for rack in RACKS {
                story.at(4_600, rack, Call::Put("event/4", format!("by {rack}")));
                story.at(5_200, rack, Call::Get("event/1"));
                story.at(5_200, rack, Call::Get("event/2"));
            }
            let told = story.tell();
            told.assert_answered();
            for event in told.between(cut, healed - ANSWERED) {
                match &event.answer {
                    Answer::Written(_) => told.fail(format!(
                        "{fault:?} at {}: the other rack cannot have this, and it is confirmed\n\
                         {event}",
                        clock(cut)
                    )),
                    Answer::Refused(_) if !event.is_write() => told.fail(format!(
                        "{fault:?} at {}: nobody has written to this key since long before, and \
                         nobody can\n{event}",
                        clock(cut)
                    )),
                    Answer::Unknown if event.called > cut + DETECTED => told.fail(format!(
                        "{fault:?} at {}: it is known by now that the other rack is lost, and a \
                         write still ends in doubt\n{event}",
                        clock(cut)
                    )),
                    _ => {}
                }
            }
            for event in &told.events {
                let mode = event.mode().unwrap_or(Mode::Strong);
                told.hold(mode == Mode::Strong, || {
                    format!("a cache that refuses writes gives up no promise\n{event}")
                });
            }
            for rack in RACKS {
                for (at, status) in told.statuses(rack) {
                    told.hold(status.mode == Mode::Strong, || {
                        format!(
                            "a cache that refuses writes gives up no promise, and\n\
                             {rack} says {status:?} at {}",
                            clock(at)
                        )
                    });
                }
            }
            told.assert_linearizable(|_| true);
            told.assert_all_confirmed(healed + TOGETHER, Duration::MAX);
            for rack in RACKS {
                told.assert_reads(rack, "event/1", ms(5_200), Some("on sale"));
                told.assert_reads(rack, "event/2", ms(5_200), Some("sold out"));
            }
        }
    });
}

#[test]
fn no_answer_takes_longer_than_three_exchanges() {
    kit::check(|| {
        for consistency in [STRONG, OPENING, EVENTUAL] {
            for fault in [Fault::Hold, Fault::OneWay(A), Fault::OneWay(B)] {
                kit::step(format!("packets stand still: {fault:?} ({consistency:?})"));
                let mut story = Story::new(consistency, Seed(5));
                story.fault(ms(1_500), ms(3_000), fault);
                for n in 0..90 {
                    for rack in RACKS {
                        story.at(1_400 + 17 * n, rack, Call::Put("k1", format!("{rack}-{n}")));
                        story.at(1_405 + 17 * n, rack, Call::Get("k1"));
                    }
                }
                story.tell().assert_answered();
            }
            kit::step(format!(
                "packets stand still again and again ({consistency:?})"
            ));
            let mut story = Story::new(consistency, Seed(5));
            for n in 0..8 {
                let at = ms(1_500 + 200 * n);
                story.fault(at, at + ms(190), Fault::Hold);
            }
            for n in 0..100 {
                for rack in RACKS {
                    story.at(1_400 + 16 * n, rack, Call::Put("k1", format!("{rack}-{n}")));
                    story.at(1_408 + 16 * n, rack, Call::Get("k1"));
                }
            }
            story.tell().assert_answered();
        }
    });
}

#[test]
fn an_eventual_cache_accepts_writes_on_both_sides_and_does_not_wait() {
    kit::check(|| {
        for fault in Fault::SYMMETRIC {
            kit::step(format!("the racks are parted: {fault:?}"));
            let cut = ms(2_000);
            let mut story = Story::new(EVENTUAL, Seed(6));
            story.latency = (20, 20);
            story.fault(cut, ms(4_000), fault);
            for n in 0..95 {
                for rack in RACKS {
                    if fault == Fault::Crash(rack) && n > 30 {
                        continue;
                    }
                    let key = if rack == A { "likes/a" } else { "likes/b" };
                    story.at(1_000 + 30 * n, rack, Call::Put(key, format!("{n}")));
                    story.at(1_010 + 30 * n, rack, Call::Get(key));
                }
            }
            let told = story.tell();
            told.assert_answered();
            for event in &told.events {
                let known = event.called > cut + DETECTED || event.called + ANSWERED < cut;
                let took = event.took();
                if !event.is_write() || (known && event.rack == A) {
                    told.hold(event.is_confirmed() && took <= ms(10), || {
                        format!(
                            "one way to the other rack takes 20 ms, and nothing needs it\n{event}"
                        )
                    });
                } else if known {
                    told.hold(event.is_confirmed(), || {
                        format!(
                            "{fault:?} at {}: some node can take this\n{event}",
                            clock(cut)
                        )
                    });
                }
            }
        }
    });
}

#[test]
fn a_node_reads_what_it_has_confirmed() {
    kit::check(|| {
        for consistency in [EVENTUAL, STRONG] {
            let mut story = Story::new(consistency, Seed(7));
            story.latency = (20, 20);
            for rack in RACKS {
                let key = if rack == A { "cart/a" } else { "cart/b" };
                for n in 0..5 {
                    story.at(
                        1_000 + 200 * n,
                        rack,
                        Call::Put(key, format!("{n} tickets")),
                    );
                }
                for n in 0..140 {
                    story.at(1_000 + 7 * n, rack, Call::Get(key));
                }
            }
            let told = story.tell();
            told.assert_all_confirmed(ms(1_000), Duration::MAX);
            for write in told.events.iter().filter(|event| event.is_write()) {
                let confirmed = write.returned.expect("it was confirmed");
                for read in told.between(confirmed + ms(1), write.called + ms(200)) {
                    let Answer::Read(Read { value, .. }) = &read.answer else {
                        continue;
                    };
                    let own = read.rack == write.rack && read.call.key() == write.call.key();
                    told.hold(!own || *value == write.call.value(), || {
                        format!("{write}, and then\n{read}")
                    });
                }
            }
        }
    });
}

#[test]
fn eventual_nodes_converge_after_every_fault() {
    kit::check(|| {
        kit::seed::each(&[1, 4, 9, 16, 25, 36, 49, 64], |seed| {
            kit::step(format!("links fail at random (seed {seed})"));
            let keys = ["k1", "k2", "k3", "k4"];
            let mut story = Story::new(EVENTUAL, seed);
            story.latency = (1, 20);
            let healed = story.random_faults(ms(1_200), 2, &Fault::LINKS);
            // Some go on while the racks find together again.
            let last = healed + ms(120);
            story.random_calls(&keys, ms(700)..last, 260);
            let read = last + TOGETHER;
            story.read_everywhere(&keys, read);
            let told = story.tell();
            told.assert_answered();
            for key in keys {
                told.assert_converged(key, read);
            }
        });
        for rack in RACKS {
            kit::step(format!(
                "writes of {rack} arrive when they have been replaced"
            ));
            arrives_late(rack);
        }
    });
}

/// Each key is written once right before the link begins to hold packets, and again on the same rack
/// before it ends, while the other rack is busy elsewhere.
fn arrives_late(rack: Rack) {
    let (cut, healed) = (ms(1_300), ms(1_590));
    let mut story = Story::new(EVENTUAL, Seed(18));
    story.latency = (8, 8);
    story.fault(cut, healed, Fault::Hold);
    let carts: Vec<&'static str> = (0..20).map(|n| &*format!("cart/{n}").leak()).collect();
    for (n, cart) in carts.iter().enumerate() {
        let n = n as u64;
        story.call(
            cut - ms(24) + ms(n),
            rack,
            Call::Put(cart, "first".to_owned()),
        );
        story.call(
            cut + ms(265) + ms(n),
            rack,
            Call::Put(cart, "second".to_owned()),
        );
    }
    for n in 0..60 {
        let call = Call::Put("likes", format!("{n}"));
        story.call(cut + ms(4 * n), rack.other(), call);
    }
    let read = healed + TOGETHER;
    story.read_everywhere(&carts, read);
    let told = story.tell();
    told.assert_answered();
    for cart in carts {
        told.assert_converged(cart, read);
    }
}

#[test]
fn what_was_removed_during_a_split_stays_removed() {
    kit::check(|| {
        for consistency in [EVENTUAL, OPENING] {
            for (remover, fault) in [
                (A, Fault::Partition),
                (B, Fault::Partition),
                (B, Fault::Hold),
            ] {
                kit::step(format!("{remover} removes keys alone: {fault:?}"));
                let keys = ["session/1", "session/2", "session/3"];
                let mut story = Story::new(consistency, Seed(8));
                for key in keys {
                    story.at(1_000, A, Call::Put(key, "logged in".to_owned()));
                }
                story.fault(ms(1_500), ms(2_800), fault);
                story.at(2_400, remover, Call::Remove("session/1"));
                story.at(2_450, remover, Call::Remove("session/2"));
                story.at(2_500, remover, Call::Put("session/2", "again".to_owned()));
                let reads = [ms(3_800), ms(4_300)];
                for at in reads {
                    story.read_everywhere(&keys, at);
                }
                let told = story.tell();
                told.assert_all_confirmed(ms(2_350), Duration::MAX);
                for at in reads {
                    for rack in RACKS {
                        told.assert_reads(rack, "session/1", at, None);
                        told.assert_reads(rack, "session/2", at, Some("again"));
                        told.assert_reads(rack, "session/3", at, Some("logged in"));
                    }
                }
            }
        }
        kit::step("removals overtake what they remove");
        let mut story = Story::new(EVENTUAL, Seed(16));
        story.latency = (1, 20);
        let sessions: Vec<&'static str> = (0..20).map(|n| &*format!("brief/{n}").leak()).collect();
        for (n, session) in sessions.iter().enumerate() {
            let at = ms(1_000 + 10 * n as u64);
            story.call(at, A, Call::Put(session, "logged in".to_owned()));
            story.call(at + ms(2), A, Call::Remove(session));
        }
        let read = ms(1_200) + TOGETHER;
        story.read_everywhere(&sessions, read);
        let told = story.tell();
        for rack in RACKS {
            for session in &sessions {
                told.assert_reads(rack, session, read, None);
            }
        }
    });
}

#[test]
fn a_node_that_restarts_with_empty_memory_catches_up() {
    kit::check(|| {
        for consistency in [STRONG, OPENING, EVENTUAL] {
            for rack in RACKS {
                for down in [20, 1_200] {
                    if consistency == OPENING && down == 20 {
                        continue;
                    }
                    kit::step(format!("{rack} is down for {down} ms ({consistency:?})"));
                    catches_up(consistency, rack, ms(down));
                }
            }
        }
        for rack in RACKS {
            for mute in [Duration::ZERO, ms(25)] {
                kit::step(format!(
                    "{rack} dies while it is written to, and says nothing for {mute:?} before"
                ));
                dies_at_work(rack, mute);
            }
        }
    });
}

/// What was confirmed in the last moments of a node, or read from it, is on the other, whoever knows
/// it there.
fn dies_at_work(rack: Rack, mute: Duration) {
    let (crashed, restarted) = (ms(1_500), ms(1_600));
    let mut story = Story::new(STRONG, Seed(14));
    story.latency = (8, 8);
    if !mute.is_zero() {
        story.fault(crashed - mute, restarted, Fault::OneWay(rack));
    }
    story.fault(crashed, restarted, Fault::Crash(rack));
    let carts: Vec<&'static str> = (0..30).map(|n| &*format!("cart/{n}").leak()).collect();
    for (n, cart) in carts.iter().enumerate() {
        let at = crashed - ms(90) + ms(3 * n as u64);
        story.call(at, rack, Call::Put(cart, "full".to_owned()));
        for later in [34, 37, 40, 43] {
            story.read_everywhere(&[cart], at + ms(later));
        }
    }
    story.read_everywhere(&carts, restarted + TOGETHER);
    let told = story.tell();
    told.assert_all_confirmed(restarted + TOGETHER, Duration::MAX);
    told.assert_linearizable(|_| true);
}

fn catches_up(consistency: Consistency, rack: Rack, down: Duration) {
    let crashed = ms(1_600);
    let restarted = crashed + down;
    let mut story = Story::new(consistency, Seed(9));
    story.at(1_000, A, Call::Put("session/1", "ana".to_owned()));
    story.at(1_100, B, Call::Put("session/2", "ben".to_owned()));
    story.at(1_200, B, Call::Put("session/3", "gone".to_owned()));
    story.at(1_400, A, Call::Remove("session/3"));
    story.fault(crashed, restarted, Fault::Crash(rack));
    if consistency == EVENTUAL && rack == A {
        // The first write of a node in each of two lives.
        story.at(900, A, Call::Put("session/5", "eve".to_owned()));
        story.call(
            restarted + ms(1),
            A,
            Call::Put("session/5", "eva".to_owned()),
        );
    }
    let alone = consistency != STRONG && down > OPEN;
    let while_down = crashed + OPEN + ms(100);
    if alone {
        let cyd = Call::Put("session/4", "cyd".to_owned());
        story.call(while_down, rack.other(), cyd);
        story.call(while_down, rack.other(), Call::Remove("session/1"));
    }
    for n in 0..100 {
        story.call(restarted + ms(10 * n), rack, Call::Get("session/1"));
        story.call(restarted + ms(10 * n), rack, Call::Get("session/2"));
    }
    let read = restarted + TOGETHER;
    let keys = ["session/1", "session/2", "session/3", "session/4"];
    story.read_everywhere(&keys, read);
    story.call(read + ms(100), A, Call::Put("session/2", "bo".to_owned()));
    story.read_everywhere(&["session/2"], read + ms(500));
    story.read_everywhere(&["session/5"], read);
    let told = story.tell();
    told.assert_all_confirmed(read, Duration::MAX);
    told.assert_agreement("session/5", read);
    if alone {
        told.assert_all_confirmed(while_down, crashed + down);
    }
    if consistency == STRONG {
        told.assert_linearizable(|_| true);
    }
    for rack in RACKS {
        let ana = (!alone).then_some("ana");
        told.assert_reads(rack, "session/1", read, ana);
        told.assert_reads(rack, "session/2", read, Some("ben"));
        told.assert_reads(rack, "session/3", read, None);
        told.assert_reads(rack, "session/4", read, alone.then_some("cyd"));
        told.assert_reads(rack, "session/2", read + ms(500), Some("bo"));
    }
}

#[test]
fn a_lost_node_is_noticed_in_time_and_one_late_heartbeat_is_not_a_loss() {
    kit::check(|| {
        for consistency in [STRONG, OPENING, EVENTUAL] {
            let mut hiccups = Story::new(consistency, Seed(10));
            for n in 0..5 {
                let at = ms(1_000 + 417 * n);
                hiccups.fault(at, at + ms(110), Fault::Hold);
            }
            hiccups.until = ms(3_500);
            let told = hiccups.tell();
            for rack in RACKS {
                for (at, status) in told.statuses(rack) {
                    told.hold(at < ms(1_000) || status.peer == Peer::Reachable, || {
                        format!(
                            "the link holds packets back for 110 ms at a time, a node is lost \
                             after {LOST_AFTER:?}, and\n{rack} says {status:?} at {}",
                            clock(at)
                        )
                    });
                    let strong = matches!(consistency, Consistency::Strong(_));
                    let kept = !strong || status.mode == Mode::Strong;
                    told.hold(at < ms(1_000) || kept, || {
                        format!(
                            "the link holds packets back for 110 ms at a time, and\n{rack} gives up \
                             its mode at {}: {status:?} ({consistency:?})",
                            clock(at)
                        )
                    });
                }
            }
            for crashed in RACKS {
                kit::step(format!("{crashed} restarts within 20 ms ({consistency:?})"));
                let mut restart = Story::new(consistency, Seed(17));
                restart.fault(ms(1_200), ms(1_220), Fault::Crash(crashed));
                restart.until = ms(1_900);
                let told = restart.tell();
                for rack in RACKS {
                    for (at, status) in told.statuses(rack) {
                        told.hold(at < ms(1_000) || status.peer == Peer::Reachable, || {
                            format!(
                                "each node answers but for 20 ms, a node is lost after \
                                 {LOST_AFTER:?}, and\n{rack} says {status:?} at {}",
                                clock(at)
                            )
                        });
                    }
                }
            }
            let faults: &[Fault] = match consistency {
                Consistency::Strong(_) => &[Fault::Partition, Fault::Hold],
                Consistency::Eventual => &Fault::ALL,
            };
            for &fault in faults {
                kit::step(format!("heartbeats get lost: {fault:?} ({consistency:?})"));
                notices(consistency, fault);
            }
        }
        kit::step("a node is dropped");
        stops_with_its_last_handle(B);
    });
}

/// A node stops with the last handle to it, as the documentation of `Cache` says.
fn stops_with_its_last_handle(rack: Rack) {
    let dropped = ms(1_500);
    let mut story = Story::new(EVENTUAL, Seed(19));
    story.dropped = Some((dropped, rack));
    story.until = dropped + DETECTED + ms(100);
    let told = story.tell();
    for (at, status) in told.statuses(rack.other()) {
        told.hold(at < dropped + DETECTED || status.peer == Peer::Lost, || {
            format!(
                "the last handle to the node of {rack} is dropped at {}, and\n\
                 {} says {status:?} at {}",
                clock(dropped),
                rack.other(),
                clock(at)
            )
        });
    }
}

fn notices(consistency: Consistency, fault: Fault) {
    let (cut, healed) = (ms(1_013), ms(1_700));
    let mut story = Story::new(consistency, Seed(11));
    story.fault(cut, healed, fault);
    story.until = healed + TOGETHER + ms(300);
    let told = story.tell();
    for rack in RACKS {
        if fault == Fault::Crash(rack) {
            continue;
        }
        // The first second is for the start.
        for (at, status) in told.statuses(rack).filter(|&(at, _)| at > ms(1_000)) {
            let says = || {
                let Status { mode, peer } = status;
                let at = clock(at);
                format!(
                    "at {at} {rack} says that the other is {peer:?} ({mode:?}, {consistency:?})"
                )
            };
            let lost = status.peer == Peer::Lost;
            // The last heartbeat that was answered may have been sent an interval and an exchange
            // before the cut.
            let early = cut + LOST_AFTER - HEARTBEAT - ms(30);
            told.hold(!lost || at >= early, || {
                format!("{}, and has no reason to yet", says())
            });
            told.hold(lost || at < cut + DETECTED || at > healed, || {
                format!("{}, and should have noticed by then", says())
            });
            told.hold(!lost || at < healed + TOGETHER, || {
                format!("{}, and the link is whole again", says())
            });
        }
    }
}

#[test]
fn failing_open_gives_up_the_mode_and_takes_it_back() {
    kit::check(|| {
        for fault in Fault::ALL {
            kit::step(format!("the cache fails open: {fault:?}"));
            let (cut, healed) = (ms(1_200), ms(2_900));
            let mut story = Story::new(OPENING, Seed(12));
            story.fault(cut, healed, fault);
            for n in 0..80 {
                for rack in RACKS {
                    if fault == Fault::Crash(rack) {
                        continue;
                    }
                    let key = if rack == A { "a" } else { "b" };
                    let at = cut + ms(20 * n);
                    story.call(at, rack, Call::Put(key, format!("{n}")));
                    story.call(at + ms(10), rack, Call::Get(key));
                }
            }
            let after = healed + TOGETHER;
            let keys = ["a", "b"];
            story.read_everywhere(&keys, after);
            story.call(after + ms(100), A, Call::Put("a", "A".to_owned()));
            story.call(after + ms(100), B, Call::Put("b", "B".to_owned()));
            story.read_everywhere(&keys, after + ms(400));
            let told = story.tell();
            told.assert_answered();
            for event in told.between(cut, healed - ANSWERED) {
                let when = format!("{fault:?} at {}:", clock(cut));
                let open = event.called > cut + OPEN;
                told.hold(!open || event.is_confirmed(), || {
                    format!("{when} it should be open by now\n{event}")
                });
                let mode = event.mode();
                let degraded = event.called > cut + DETECTED;
                told.hold(!degraded || mode != Some(Mode::Strong), || {
                    format!("{when} nobody can promise that now\n{event}")
                });
                told.hold(event.is_write() || mode.is_some(), || {
                    format!("{when} a cache that fails open answers reads\n{event}")
                });
            }
            for rack in RACKS {
                if fault == Fault::Crash(rack) {
                    continue;
                }
                for (at, status) in told.statuses(rack) {
                    let open = at > cut + DETECTED && at < healed;
                    let back = at > after;
                    let says = || format!("{rack} says {status:?} at {}", clock(at));
                    told.hold(!open || status.mode == Mode::Eventual, || {
                        format!("the loss should be noticed by now, and\n{}", says())
                    });
                    told.hold(!back || status.mode == Mode::Strong, || {
                        format!("the nodes should be together again by now, and\n{}", says())
                    });
                }
            }
            told.assert_all_confirmed(after, Duration::MAX);
            for rack in RACKS {
                for key in keys {
                    let writer = if key == "a" { A } else { B };
                    if fault != Fault::Crash(writer) {
                        told.assert_reads(rack, key, after, Some("79"));
                    }
                }
                told.assert_reads(rack, "a", after + ms(400), Some("A"));
                told.assert_reads(rack, "b", after + ms(400), Some("B"));
            }
        }
        for fault in [Fault::Partition, Fault::Hold] {
            for rack in RACKS {
                kit::step(format!("{rack} goes on while it is over: {fault:?}"));
                goes_on_while_it_heals(fault, rack);
            }
        }
    });
}

/// Every cart is written once, so that no later write hides one that was lost.
fn goes_on_while_it_heals(fault: Fault, rack: Rack) {
    let (cut, healed) = (ms(1_000), ms(2_000));
    let mut story = Story::new(OPENING, Seed(13));
    story.latency = (8, 8);
    story.fault(cut, healed, fault);
    let carts: Vec<&'static str> = (0..100).map(|n| &*format!("cart/{n}").leak()).collect();
    for (n, cart) in carts.iter().enumerate() {
        let at = healed - ms(60) + ms(3 * n as u64);
        story.call(at, rack, Call::Put(cart, "full".to_owned()));
    }
    let read = healed + TOGETHER;
    story.read_everywhere(&carts, read);
    let told = story.tell();
    told.assert_answered();
    for cart in carts {
        let held = told.assert_agreement(cart, read);
        let confirmed = told.writes(cart).find(|write| write.is_confirmed());
        told.hold(held.is_some() || confirmed.is_none(), || {
            format!(
                "{}at {} both racks hold nothing under {cart}",
                told.last_writes(cart),
                clock(read)
            )
        });
    }
}

#[test]
fn no_answer_claims_to_be_strong_while_the_other_node_is_open() {
    kit::check(|| {
        kit::seed::each(&[7, 17, 27, 37, 47], |seed| {
            kit::step(format!("the cache fails open at random (seed {seed})"));
            let mut story = Story::new(OPENING, seed);
            story.latency = (1, 12);
            let healed = story.random_faults(ms(1_200), 2, &Fault::LINKS);
            // Each key has one writer, so that the order of its writes is beyond dispute.
            let until = healed.as_millis() as u64 + 1_500;
            for n in 0..(until - 1_000) / 25 {
                for rack in RACKS {
                    let at = 1_000 + 25 * n;
                    let own = if rack == A { "a" } else { "b" };
                    story.at(at, rack, Call::Put(own, format!("{own}{n}")));
                    story.at(at + 8, rack, Call::Get("a"));
                    story.at(at + 16, rack, Call::Get("b"));
                }
            }
            let told = story.tell();
            told.assert_answered();
            let opened = told.events.iter().any(|event| {
                matches!(event.answer, Answer::Written(written) if written.mode == Mode::Eventual)
            });
            let long = told.faults.iter().any(|&(from, to, _)| to > from + OPEN);
            told.hold(opened || !long, || {
                "the racks were parted, and no write was accepted meanwhile".to_owned()
            });
            told.assert_linearizable(|read| read.mode == Mode::Strong);
            told.assert_all_confirmed(healed + TOGETHER, Duration::MAX);
        });
        // The moment of the cut decides whose trust ends last.
        for fault in [Fault::Partition, Fault::OneWay(A), Fault::OneWay(B)] {
            kit::step(format!(
                "the racks part at one moment or another: {fault:?}"
            ));
            for phase in 0..3 {
                let cut = ms(1_000 + 25 * phase);
                let mut story = Story::new(OPENING, Seed(phase));
                story.latency = (20, 20);
                story.fault(cut, cut + ms(600), fault);
                story.busy(cut + ms(220), cut + ms(400));
                let told = story.tell();
                told.assert_answered();
                told.assert_linearizable(|read| read.mode == Mode::Strong);
            }
        }
        for fault in [Fault::Partition, Fault::OneWay(B)] {
            kit::step(format!(
                "the racks part while they find together: {fault:?}"
            ));
            for phase in 0..5 {
                let healed = ms(1_500);
                let again = healed + ms(35 + 15 * phase);
                let mut story = Story::new(OPENING, Seed(phase));
                story.latency = (8, 8);
                story.fault(ms(1_000), healed, Fault::Partition);
                story.fault(again, again + ms(600), fault);
                story.busy(again, again + ms(330));
                let told = story.tell();
                told.assert_answered();
                told.assert_linearizable(|read| read.mode == Mode::Strong);
            }
        }
        for rack in RACKS {
            for down in [10, 60] {
                kit::step(format!("{rack} is down for {down} ms"));
                let crashed = ms(1_207);
                let mut story = Story::new(OPENING, Seed(down));
                story.latency = (3, 3);
                story.fault(crashed, crashed + ms(down), Fault::Crash(rack));
                story.busy(crashed - ms(100), crashed + ms(400));
                let told = story.tell();
                told.assert_answered();
                told.assert_linearizable(|read| read.mode == Mode::Strong);
            }
        }
    });
}

// The racks and what befalls them.

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rack {
    A,
    B,
}

use Rack::{A, B};

const RACKS: [Rack; 2] = [A, B];

impl Rack {
    fn name(self) -> &'static str {
        match self {
            A => "rack-a",
            B => "rack-b",
        }
    }

    fn other(self) -> Rack {
        match self {
            A => B,
            B => A,
        }
    }

    fn config(self, consistency: Consistency) -> Config {
        Config {
            role: match self {
                A => Role::Primary,
                B => Role::Secondary,
            },
            consistency,
            port: 7_700,
            peer: format!("{}:7700", self.other().name()),
            heartbeat_every: HEARTBEAT,
            lost_after: LOST_AFTER,
            exchange_timeout: EXCHANGE,
        }
    }
}

impl fmt::Display for Rack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Packets are dropped both ways, and connections refused.
    Partition,
    /// Packets stand still both ways, and arrive when it is over.
    Hold,
    /// Packets that this rack sends are dropped.
    OneWay(Rack),
    /// The node dies, and comes back without its memory.
    Crash(Rack),
}

impl Fault {
    const LINKS: [Fault; 4] = [
        Fault::Partition,
        Fault::Hold,
        Fault::OneWay(A),
        Fault::OneWay(B),
    ];
    const SYMMETRIC: [Fault; 4] = [
        Fault::Partition,
        Fault::Hold,
        Fault::Crash(A),
        Fault::Crash(B),
    ];
    const ALL: [Fault; 6] = [
        Fault::Partition,
        Fault::Hold,
        Fault::OneWay(A),
        Fault::OneWay(B),
        Fault::Crash(A),
        Fault::Crash(B),
    ];

    fn begin(self, sim: &mut turmoil::Sim<'_>) {
        match self {
            Fault::Partition => sim.partition(A.name(), B.name()),
            Fault::Hold => sim.hold(A.name(), B.name()),
            Fault::OneWay(rack) => sim.partition_oneway(rack.name(), rack.other().name()),
            Fault::Crash(rack) => sim.crash(rack.name()),
        }
    }

    fn end(self, sim: &mut turmoil::Sim<'_>) {
        match self {
            Fault::Partition => sim.repair(A.name(), B.name()),
            Fault::Hold => sim.release(A.name(), B.name()),
            Fault::OneWay(rack) => sim.repair_oneway(rack.name(), rack.other().name()),
            Fault::Crash(rack) => sim.bounce(rack.name()),
        }
    }
}

#[derive(Clone, Debug)]
enum Call {
    Get(&'static str),
    Put(&'static str, String),
    Remove(&'static str),
}

impl Call {
    fn key(&self) -> &'static str {
        match self {
            Call::Get(key) | Call::Put(key, _) | Call::Remove(key) => key,
        }
    }

    /// What a write leaves behind.
    fn value(&self) -> Option<String> {
        match self {
            Call::Put(_, value) => Some(value.clone()),
            Call::Get(_) | Call::Remove(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
enum Answer {
    Read(Read),
    Written(Written),
    Refused(Refusal),
    Unknown,
    /// The client has given up before there was an answer.
    Abandoned,
    /// There was none: it never came, or the node died.
    None,
}

#[derive(Clone, Debug)]
struct Event {
    rack: Rack,
    called: Duration,
    returned: Option<Duration>,
    call: Call,
    answer: Answer,
}

impl Event {
    fn is_write(&self) -> bool {
        !matches!(self.call, Call::Get(_))
    }

    fn is_confirmed(&self) -> bool {
        matches!(self.answer, Answer::Read(_) | Answer::Written(_))
    }

    fn mode(&self) -> Option<Mode> {
        match &self.answer {
            Answer::Read(read) => Some(read.mode),
            Answer::Written(written) => Some(written.mode),
            _ => None,
        }
    }

    fn took(&self) -> Duration {
        self.returned
            .map_or(Duration::MAX, |returned| returned - self.called)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let returned = self.returned.map_or("-".to_owned(), clock);
        write!(
            f,
            "  {} to {returned:>9}  {}  ",
            clock(self.called),
            self.rack
        )?;
        match &self.call {
            Call::Get(key) => write!(f, "get {key}: ")?,
            Call::Put(key, value) => write!(f, "put {key} = {value:?}: ")?,
            Call::Remove(key) => write!(f, "remove {key}: ")?,
        }
        match &self.answer {
            Answer::Read(Read { value, mode }) => write!(f, "{value:?} ({mode:?})"),
            Answer::Written(Written { mode }) => write!(f, "confirmed ({mode:?})"),
            Answer::Refused(refusal) => write!(f, "refused ({refusal:?})"),
            Answer::Unknown => f.write_str("unknown"),
            Answer::Abandoned => f.write_str("the client gave up"),
            Answer::None => f.write_str("no answer"),
        }
    }
}

fn clock(at: Duration) -> String {
    format!("{:.3} s", at.as_secs_f64())
}

/// The network that the nodes see.
#[derive(Clone)]
struct Simulated {
    /// How often the machine still has no room for a connection, which waits meanwhile.
    full: Arc<AtomicU32>,
}

impl Network for Simulated {
    type Stream = turmoil::net::TcpStream;
    type Listener = turmoil::net::TcpListener;

    async fn connect(&self, address: &str) -> io::Result<Self::Stream> {
        turmoil::net::TcpStream::connect(address).await
    }

    async fn listen(&self, port: u16) -> io::Result<Self::Listener> {
        turmoil::net::TcpListener::bind(("0.0.0.0", port)).await
    }

    async fn accept(&self, listener: &Self::Listener) -> io::Result<Self::Stream> {
        let one_less = |full: u32| full.checked_sub(1);
        if self.full.fetch_update(SeqCst, SeqCst, one_less).is_ok() {
            return Err(io::Error::other("too many open files"));
        }
        Ok(listener.accept().await?.0)
    }
}

/// What is going to happen, in virtual time.
struct Story {
    consistency: Consistency,
    chance: Chance,
    /// One way between the racks, in milliseconds.
    latency: (u64, u64),
    calls: Vec<(Duration, Rack, Call, Option<Duration>)>,
    faults: Vec<(Duration, Duration, Fault)>,
    /// How often each node fails to accept a connection at first.
    full: u32,
    /// When the last handle to the node of a rack is dropped.
    dropped: Option<(Duration, Rack)>,
    until: Duration,
}

impl Story {
    fn new(consistency: Consistency, seed: Seed) -> Self {
        Story {
            consistency,
            chance: Chance { seed, drawn: 0 },
            latency: (1, 5),
            calls: Vec::new(),
            faults: Vec::new(),
            full: 0,
            dropped: None,
            until: Duration::ZERO,
        }
    }

    fn at(&mut self, millis: u64, rack: Rack, call: Call) {
        self.call(ms(millis), rack, call);
    }

    fn call(&mut self, at: Duration, rack: Rack, call: Call) {
        self.calls.push((at, rack, call, None));
        self.until = self.until.max(at + ANSWERED + ms(10));
    }

    /// Of a client that goes away when it has waited for so long.
    fn impatient(&mut self, at: Duration, rack: Rack, call: Call, patience: Duration) {
        self.call(at, rack, call);
        self.calls.last_mut().expect("it was just pushed").3 = Some(patience);
    }

    fn fault(&mut self, from: Duration, to: Duration, fault: Fault) {
        self.faults.push((from, to, fault));
    }

    fn read_everywhere(&mut self, keys: &[&'static str], at: Duration) {
        for rack in RACKS {
            for key in keys {
                self.call(at, rack, Call::Get(key));
            }
        }
    }

    /// Each rack writes to a key of its own, and reads that of the other, without a pause.
    fn busy(&mut self, from: Duration, to: Duration) {
        let span = (to - from).as_millis() as u64;
        for n in 0..span / 6 {
            for (rack, own, others) in [(A, "a", "b"), (B, "b", "a")] {
                let at = from + ms(6 * n);
                self.call(at, rack, Call::Put(own, format!("{own}{n}")));
                self.call(at + ms(2), rack, Call::Get(others));
                self.call(at + ms(4), rack, Call::Get(others));
            }
        }
    }

    /// Calls at random times, of which some clients do not wait for the answer.
    fn random_calls(
        &mut self,
        keys: &[&'static str],
        within: std::ops::Range<Duration>,
        count: usize,
    ) {
        let span = (within.end - within.start).as_millis() as u64;
        for n in 0..count {
            let at = within.start + ms(self.chance.below(span));
            let rack = RACKS[self.chance.below(2) as usize];
            let key = keys[self.chance.below(keys.len() as u64) as usize];
            let call = match self.chance.below(20) {
                0..10 => Call::Get(key),
                10..19 => Call::Put(key, format!("w{n}")),
                _ => Call::Remove(key),
            };
            if self.chance.below(25) == 0 {
                let patience = ms(1 + self.chance.below(30));
                self.impatient(at, rack, call, patience);
            } else {
                self.call(at, rack, call);
            }
        }
    }

    /// Faults of random kind and length, with time to recover between them; says when the last one
    /// is over.
    fn random_faults(&mut self, from: Duration, count: u64, kinds: &[Fault]) -> Duration {
        let mut at = from;
        for _ in 0..count {
            let from = at + ms(self.chance.below(300));
            let to = from + ms(60 + self.chance.below(1_000));
            let kind = kinds[self.chance.below(kinds.len() as u64) as usize];
            self.fault(from, to, kind);
            at = to + TOGETHER;
        }
        at - TOGETHER
    }

    fn tell(mut self) -> Told {
        self.calls.sort_by_key(|&(at, ..)| at);
        let (min, max) = self.latency;
        let mut sim = turmoil::Builder::new()
            .simulation_duration(Duration::from_secs(3_600))
            .tick_duration(ms(2))
            .min_message_latency(ms(min))
            .max_message_latency(ms(max))
            // A node that is down collects every attempt to connect until it is back.
            .tcp_capacity(4_096)
            .rng_seed(self.chance.next())
            .build();
        let told = Rc::new(RefCell::new(Told {
            consistency: self.consistency,
            faults: self.faults.clone(),
            events: Vec::new(),
            statuses: BTreeMap::new(),
        }));
        // Most packets are fast by default; here the slow ones are as many, and overtaken.
        sim.set_message_latency_curve(1.5);
        for rack in RACKS {
            let calls = self
                .calls
                .iter()
                .filter(|&&(_, at_rack, ..)| at_rack == rack)
                .cloned()
                .collect();
            let plan = Plan {
                consistency: self.consistency,
                calls,
                full: self.full,
                dropped: self.dropped.filter(|&(_, at)| at == rack).map(|(at, _)| at),
            };
            let told = Rc::clone(&told);
            let next = Rc::new(Cell::new(0));
            sim.host(rack.name(), move || {
                host(rack, plan.clone(), next.clone(), told.clone())
            });
        }
        let mut turns: Vec<(Duration, bool, Fault)> = self
            .faults
            .iter()
            .flat_map(|&(from, to, fault)| [(from, true, fault), (to, false, fault)])
            .collect();
        turns.sort_by_key(|&(at, ..)| at);
        let mut turns = turns.into_iter().peekable();
        let last = self.faults.iter().map(|&(_, to, _)| to).max();
        let until = self.until.max(last.unwrap_or_default());
        while sim.elapsed() < until {
            while let Some((_, begins, fault)) = turns.next_if(|&(at, ..)| at <= sim.elapsed()) {
                if begins {
                    fault.begin(&mut sim);
                } else {
                    fault.end(&mut sim);
                }
            }
            if let Err(error) = sim.step() {
                let at = clock(sim.elapsed());
                kit::symptom(format!("a node ended at {at} of virtual time: {error}"));
            }
        }
        drop(sim);
        told.take()
    }
}

type Calls = Rc<[(Duration, Rack, Call, Option<Duration>)]>;

/// What happens in one rack.
#[derive(Clone)]
struct Plan {
    consistency: Consistency,
    calls: Calls,
    full: u32,
    dropped: Option<Duration>,
}

/// A rack: a node of the cache, and the web servers that use it.
async fn host(
    rack: Rack,
    plan: Plan,
    next: Rc<Cell<usize>>,
    told: Rc<RefCell<Told>>,
) -> turmoil::Result {
    // Two machines are not started at the same moment, nor do their heartbeats keep step.
    tokio::time::sleep(if rack == A { ms(0) } else { ms(23) }).await;
    let network = Simulated {
        full: Arc::new(AtomicU32::new(plan.full)),
    };
    let cache = Cache::start(network, rack.config(plan.consistency))
        .await
        .map_err(|error| format!("`Cache::start` on {rack} gives the error \"{error}\""))?;
    let watching = tokio::task::spawn_local(watch(rack, cache.clone(), told.clone()));
    while let Some((at, _, call, patience)) = plan.calls.get(next.get()).cloned() {
        let late = now().saturating_sub(at);
        tokio::time::sleep(at.saturating_sub(now())).await;
        // Only here, so that what is still to come survives a crash.
        next.set(next.get() + 1);
        // Calls for a node that was down at the time were not made.
        if late < ms(5) {
            let user = perform(rack, cache.clone(), call, patience, told.clone());
            tokio::task::spawn_local(user);
        }
    }
    if let Some(at) = plan.dropped {
        tokio::time::sleep(at.saturating_sub(now())).await;
        watching.abort();
        drop(cache);
    }
    std::future::pending().await
}

async fn watch(rack: Rack, cache: Cache<Simulated>, told: Rc<RefCell<Told>>) {
    loop {
        let status = cache.status();
        told.borrow_mut()
            .statuses
            .entry(rack)
            .or_default()
            .push((now(), status));
        tokio::time::sleep(ms(5)).await;
    }
}

async fn perform(
    rack: Rack,
    cache: Cache<Simulated>,
    call: Call,
    patience: Option<Duration>,
    told: Rc<RefCell<Told>>,
) {
    let index = {
        let mut told = told.borrow_mut();
        told.events.push(Event {
            rack,
            called: now(),
            returned: None,
            call: call.clone(),
            answer: Answer::None,
        });
        told.events.len() - 1
    };
    let answered = async {
        match &call {
            Call::Get(key) => cache
                .get(key)
                .await
                .map_or_else(Answer::Refused, Answer::Read),
            Call::Put(key, value) => written(cache.put(key, value).await),
            Call::Remove(key) => written(cache.remove(key).await),
        }
    };
    let patience = patience.unwrap_or(Duration::from_secs(60));
    let answer = tokio::time::timeout(patience, answered).await;
    let mut told = told.borrow_mut();
    let event = &mut told.events[index];
    event.returned = answer.is_ok().then(now);
    event.answer = answer.unwrap_or(Answer::Abandoned);
}

fn written(result: Result<Written, WriteError>) -> Answer {
    match result {
        Ok(written) => Answer::Written(written),
        Err(WriteError::Refused(refusal)) => Answer::Refused(refusal),
        Err(WriteError::Unknown) => Answer::Unknown,
    }
}

fn now() -> Duration {
    turmoil::sim_elapsed().expect("this runs in the simulation")
}

/// What has happened.
struct Told {
    consistency: Consistency,
    faults: Vec<(Duration, Duration, Fault)>,
    /// By the time of the call.
    events: Vec<Event>,
    statuses: BTreeMap<Rack, Vec<(Duration, Status)>>,
}

impl Default for Told {
    fn default() -> Self {
        Told {
            consistency: EVENTUAL,
            faults: Vec::new(),
            events: Vec::new(),
            statuses: BTreeMap::new(),
        }
    }
}

impl Told {
    fn statuses(&self, rack: Rack) -> impl Iterator<Item = (Duration, Status)> {
        self.statuses.get(&rack).into_iter().flatten().copied()
    }

    fn between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Event> {
        self.events
            .iter()
            .filter(move |event| event.called >= from && event.called < to)
    }

    fn fail(&self, what: String) -> ! {
        let faults: String = self
            .faults
            .iter()
            .map(|(from, to, fault)| {
                format!("  {} to {:>9}  {fault:?}\n", clock(*from), clock(*to))
            })
            .collect();
        let title = match faults.is_empty() {
            true => "nothing failed".to_owned(),
            false => format!("what failed:\n{faults}"),
        };
        kit::symptom(format!("{}\n{}", what.trim_end(), title.trim_end()))
    }

    fn hold(&self, held: bool, otherwise: impl FnOnce() -> String) {
        if !held {
            self.fail(otherwise());
        }
    }

    /// Whether the node died before this call could be answered.
    fn died_with(&self, event: &Event) -> bool {
        self.faults.iter().any(|&(from, _, fault)| {
            fault == Fault::Crash(event.rack)
                && event.called <= from
                && event.called + ANSWERED >= from
        })
    }

    /// Every call was answered, and in time.
    fn assert_answered(&self) {
        for event in &self.events {
            let given_up = matches!(event.answer, Answer::Abandoned);
            let excused = given_up || (event.returned.is_none() && self.died_with(event));
            self.hold(excused || event.took() <= ANSWERED, || {
                format!(
                    "an answer may take three times {EXCHANGE:?} ({:?})\n{event}",
                    self.consistency
                )
            });
        }
    }

    fn assert_all_confirmed(&self, from: Duration, to: Duration) {
        self.assert_answered();
        for event in self.between(from, to) {
            let given_up = matches!(event.answer, Answer::Abandoned);
            self.hold(given_up || event.is_confirmed(), || {
                format!(
                    "by then nothing stands in the way, and this is not done ({:?})\n{event}",
                    self.consistency
                )
            });
        }
    }

    fn assert_reads(&self, rack: Rack, key: &str, at: Duration, expected: Option<&str>) {
        let mut found = self.events.iter().filter(|event| {
            event.rack == rack && !event.is_write() && event.call.key() == key && event.called == at
        });
        let Some(event) = found.next() else {
            panic!("the story has no read of {key} on {rack} at {at:?}");
        };
        let seen = match &event.answer {
            Answer::Read(read) => Some(read.value.as_deref()),
            _ => None,
        };
        self.hold(seen == Some(expected), || {
            format!(
                "it should be {expected:?} ({:?})\n{}{event}",
                self.consistency,
                self.last_writes(key)
            )
        });
    }

    /// The history of every key is linearizable, as far as `counted` says of reads.
    fn assert_linearizable(&self, counted: impl Fn(&Read) -> bool) {
        let mut histories: BTreeMap<&str, Vec<Operation<Option<String>>>> = BTreeMap::new();
        for event in &self.events {
            let (returned, action) = match &event.answer {
                Answer::Refused(_) => continue,
                Answer::Read(read) if counted(read) => {
                    (event.returned, Action::Read(read.value.clone()))
                }
                Answer::Written(_) => (event.returned, Action::Write(event.call.value())),
                Answer::Unknown | Answer::Abandoned | Answer::None if event.is_write() => {
                    (None, Action::Write(event.call.value()))
                }
                _ => continue,
            };
            histories
                .entry(event.call.key())
                .or_default()
                .push(Operation {
                    client: event.rack.name().to_owned(),
                    invoked: event.called,
                    returned,
                    action,
                });
        }
        for (key, history) in histories {
            if let Err(violation) = linearizable(&None, &history) {
                self.fail(format!(
                    "the history of {key} is not linearizable:\n{}\n{}",
                    violation.to_string().trim_end(),
                    self.read_though_refused(key)
                ));
            }
        }
    }

    /// Writes that were refused, which means never, and whose value has been read.
    fn read_though_refused(&self, key: &str) -> String {
        let of_key = || self.events.iter().filter(|event| event.call.key() == key);
        let was_read = |value: &Option<String>| {
            value.is_some()
                && of_key().any(
                    |event| matches!(&event.answer, Answer::Read(read) if read.value == *value),
                )
        };
        let lines: String = of_key()
            .filter(|event| event.is_write() && matches!(event.answer, Answer::Refused(_)))
            .filter(|event| was_read(&event.call.value()))
            .take(3)
            .map(|event| format!("{event}\n"))
            .collect();
        match lines.is_empty() {
            true => lines,
            false => format!("refused, and read all the same:\n{lines}"),
        }
    }

    /// Both racks hold the same under `key` at `at`; says what.
    fn assert_agreement(&self, key: &str, at: Duration) -> Option<String> {
        let values = RACKS.map(|rack| {
            let mut reads = self.events.iter().filter(|event| {
                event.rack == rack
                    && event.called == at
                    && event.call.key() == key
                    && !event.is_write()
            });
            match reads.next().map(|event| &event.answer) {
                Some(Answer::Read(read)) => read.value.clone(),
                _ => self.fail(format!("{rack} does not read {key} at {}", clock(at))),
            }
        });
        let [a, b] = values;
        self.hold(a == b, || {
            format!(
                "at {} {A} holds {a:?} and {B} holds {b:?} under {key}\n{}",
                clock(at),
                self.last_writes(key)
            )
        });
        a
    }

    fn writes<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events
            .iter()
            .filter(move |event| event.is_write() && event.call.key() == key)
            .filter(|event| !matches!(event.answer, Answer::Refused(_)))
    }

    fn last_writes(&self, key: &str) -> String {
        let lines: Vec<String> = self.writes(key).map(|write| format!("{write}\n")).collect();
        lines[lines.len().saturating_sub(12)..].concat()
    }

    /// Both racks hold the same at `at`, and no write has been undone by one that it followed.
    fn assert_converged(&self, key: &str, at: Duration) {
        let value = self.assert_agreement(key, at);
        let writes: Vec<&Event> = self.writes(key).collect();
        // Every value is written once, except for removals: some write must explain the end.
        let explains = |write: &&&Event| {
            write.call.value() == value
                && !writes.iter().any(|later| {
                    later.rack == write.rack
                        && later.is_confirmed()
                        && write
                            .returned
                            .is_some_and(|returned| returned < later.called)
                        && write.is_confirmed()
                })
        };
        let never_written = value.is_none() && !writes.iter().any(|write| write.is_confirmed());
        self.hold(never_written || writes.iter().any(|w| explains(&w)), || {
            format!(
                "at {} both racks hold {value:?} under {key}, which a later write on the same rack \
                 had replaced\n{}",
                clock(at),
                self.last_writes(key)
            )
        });
    }
}

/// Numbers that are the seed's alone.
struct Chance {
    seed: Seed,
    drawn: u64,
}

impl Chance {
    fn next(&mut self) -> u64 {
        self.drawn += 1;
        self.seed.derive(self.drawn).0
    }

    /// A number from zero to `bound`, exclusive. The bias is far below what a scenario could show.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
