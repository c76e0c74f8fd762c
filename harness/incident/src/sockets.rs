//! A server with tens of thousands of WebSocket connections, event by event.
//!
//! For labs that decide what to measure: the simulation gives the events that a server would see
//! (connections that open and close, messages in and out), in the order of time, and the truth at
//! any moment of it. It exposes no metrics itself, because that is what the learner does.
//!
//! Connections open as a Poisson process and live for a log-normal time. Most are chatty, some are
//! quiet, and a few are dead: their peer is gone without a word, nothing comes from them any more
//! and they stay open until somebody closes them.
//!
//! ```
//! use incident::sockets::{Setup, What, simulate};
//!
//! let mut fleet = simulate(&Setup::drawn(7));
//! let before = fleet.truth().active;
//! let opened = fleet.by_ref().take(1_000).filter(|event| event.what == What::Opened).count();
//! assert!(before > 45_000 && opened > 0);
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::chance::Chance;

/// How a fleet of connections is built. Times in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Connections that are open at the beginning, dead ones aside.
    pub connections: u32,
    /// Connections that are open and dead at the beginning; they have been silent for one hour to
    /// five.
    pub dead: u32,
    /// Share of the connections that die instead of being closed.
    pub dying_share: f64,
    /// Median and deviation (of the logarithm) of the life of a connection.
    pub life: f64,
    pub life_sigma: f64,
    /// Share of the connections that are quiet.
    pub quiet_share: f64,
    /// Mean seconds between two messages of a chatty connection, and of a quiet one.
    pub chatty_gap: f64,
    pub quiet_gap: f64,
    /// Share of the messages that are sent and not received.
    pub sent_share: f64,
    /// What the operating system lets the process have.
    pub max_descriptors: u32,
    /// What is open besides connections.
    pub other_descriptors: u32,
    pub duration: f64,
    /// Unix time, in seconds.
    pub begins: i64,
    pub seed: u64,
}

impl Setup {
    /// About 50,000 connections for two minutes.
    pub fn drawn(seed: u64) -> Self {
        let mut chance = Chance::of(seed ^ 0x50C4);
        let connections = chance.whole(48_000, 51_000);
        let dead = chance.whole(150, 2_500);
        let used = connections + dead;
        // From plenty to nearly none.
        let room = *chance.pick(&[1.06, 1.25, 1.31, 2.0]);
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let limit = used as f64 * room;
        let small = |count: u64| u32::try_from(count).expect("thousands");
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "thousands"
        )]
        let max_descriptors = (limit / 1_000.0).ceil() as u32 * 1_000;
        Setup {
            connections: small(connections),
            dead: small(dead),
            dying_share: chance.between(0.01, 0.05),
            life: chance.between(900.0, 2_400.0),
            life_sigma: 1.0,
            quiet_share: chance.between(0.1, 0.3),
            chatty_gap: chance.between(20.0, 45.0),
            quiet_gap: chance.between(400.0, 900.0),
            sent_share: chance.between(0.55, 0.8),
            max_descriptors,
            other_descriptors: small(chance.whole(30, 90)),
            duration: 120.0,
            begins: 1_741_784_400,
            seed,
        }
    }
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Opened,
    Received,
    Sent,
    Closed,
}

/// An event that the server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since the beginning.
    pub at_micros: u64,
    /// Unique among all connections of the run.
    pub connection: u32,
    pub what: What,
}

/// What is so at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Open connections, dead ones included.
    pub active: u64,
    /// Since the beginning.
    pub opened: u64,
    pub closed: u64,
    pub received: u64,
    pub sent: u64,
    /// Open file descriptors.
    pub descriptors: u64,
}

#[derive(Clone, Copy)]
struct Connection {
    open: bool,
    /// Mean gap between messages, in microseconds; infinite when it is dead.
    gap: f64,
    closes_at: u64,
    dies: bool,
    /// Microseconds; negative before the beginning.
    last_active: i64,
}

/// A running fleet: an iterator over its events, which ends with the duration.
pub struct Fleet {
    setup: Setup,
    chance: Chance,
    now: u64,
    end: u64,
    heap: BinaryHeap<Reverse<(u64, u32, u8)>>,
    connections: Vec<Connection>,
    arrivals_gap: f64,
    truth: Truth,
}

const ARRIVAL: u8 = 0;
const MESSAGE: u8 = 1;
const CLOSE: u8 = 2;

fn micros(seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of a simulation are positive and far below 2^63 microseconds"
    )]
    let micros = (seconds.min(1e11) * 1e6) as u64;
    micros
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).expect("a short time")
}

/// Begins: the connections of the setup are open, each with what is left of its life and with a last
/// message in its past.
pub fn simulate(setup: &Setup) -> Fleet {
    let mean_life = setup.life * libm::exp(setup.life_sigma * setup.life_sigma / 2.0);
    let mut fleet = Fleet {
        chance: Chance::of(setup.seed ^ 0x050C_4E75),
        now: 0,
        end: micros(setup.duration),
        heap: BinaryHeap::new(),
        connections: Vec::new(),
        // Little's law: what opens and what closes keep as many open.
        arrivals_gap: mean_life / f64::from(setup.connections.max(1)),
        truth: Truth::default(),
        setup: setup.clone(),
    };
    for _ in 0..setup.connections {
        // What is left of a life that is met at random: a part of one that was chosen by its
        // length (Feller, "An Introduction to Probability Theory", volume II, chapter I.4). Log-normal
        // lives weighed by their length are log-normal with a median larger by exp(sigma²).
        let weighed = setup.life * libm::exp(setup.life_sigma * setup.life_sigma);
        let life = fleet.chance.log_normal(weighed, setup.life_sigma);
        let left = life * fleet.chance.unit();
        let age = life - left;
        let index = fleet.add(left, false);
        let gap = fleet.connections[index as usize].gap / 1e6;
        let silent = fleet.chance.exponential(gap).min(age);
        fleet.connections[index as usize].last_active = -signed(micros(silent));
        fleet.plan_message(index);
    }
    for _ in 0..setup.dead {
        let silent = fleet.chance.between(3_600.0, 18_000.0);
        let index = fleet.add(f64::INFINITY, true);
        fleet.connections[index as usize].last_active = -signed(micros(silent));
    }
    fleet.truth.active = u64::from(setup.connections) + u64::from(setup.dead);
    fleet.plan_arrival();
    fleet
}

impl Fleet {
    fn add(&mut self, left: f64, dead: bool) -> u32 {
        let quiet = self.chance.happens(self.setup.quiet_share);
        let gap = match (dead, quiet) {
            (true, _) => f64::INFINITY,
            (false, true) => self.setup.quiet_gap,
            (false, false) => self.setup.chatty_gap,
        };
        let dies = !dead && self.chance.happens(self.setup.dying_share);
        let closes_at = self.now.saturating_add(micros(left));
        let index = u32::try_from(self.connections.len()).expect("fewer than 2^32 connections");
        self.connections.push(Connection {
            open: true,
            gap: gap * 1e6,
            closes_at,
            dies,
            last_active: signed(self.now),
        });
        if closes_at <= self.end {
            self.heap.push(Reverse((closes_at, index, CLOSE)));
        }
        index
    }

    fn plan_arrival(&mut self) {
        let at = self.now + micros(self.chance.exponential(self.arrivals_gap)) + 1;
        if at <= self.end {
            self.heap.push(Reverse((at, u32::MAX, ARRIVAL)));
        }
    }

    fn plan_message(&mut self, index: u32) {
        let gap = self.connections[index as usize].gap;
        if gap.is_infinite() {
            return;
        }
        let at = self.now + micros(self.chance.exponential(gap / 1e6)) + 1;
        if at <= self.end {
            self.heap.push(Reverse((at, index, MESSAGE)));
        }
    }

    /// What is so after the event that was given last.
    pub fn truth(&self) -> Truth {
        Truth {
            descriptors: self.truth.active + u64::from(self.setup.other_descriptors),
            ..self.truth
        }
    }

    /// Seconds since the last message of each open connection, after the event that was given last;
    /// of a connection without a message since it opened. In the order of their ids.
    pub fn idle_seconds(&self) -> impl Iterator<Item = (u32, f64)> {
        let now = signed(self.now);
        self.connections
            .iter()
            .zip(0..)
            .filter(|(connection, _)| connection.open)
            .map(move |(connection, id)| {
                #[expect(clippy::cast_precision_loss, reason = "hours in microseconds")]
                let idle = (now - connection.last_active) as f64 / 1e6;
                (id, idle)
            })
    }

    /// How many open connections have been silent for longer than this many seconds.
    pub fn idle_longer_than(&self, seconds: f64) -> usize {
        self.idle_seconds()
            .filter(|&(_, idle)| idle > seconds)
            .count()
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }
}

impl Iterator for Fleet {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let Reverse((at, index, kind)) = self.heap.pop()?;
            self.now = at;
            let (connection, what) = match kind {
                ARRIVAL => {
                    let life = self
                        .chance
                        .log_normal(self.setup.life, self.setup.life_sigma);
                    let index = self.add(life, false);
                    self.plan_message(index);
                    self.plan_arrival();
                    self.truth.active += 1;
                    self.truth.opened += 1;
                    (index, What::Opened)
                }
                MESSAGE => {
                    let connection = &mut self.connections[index as usize];
                    if !connection.open || connection.gap.is_infinite() {
                        continue;
                    }
                    connection.last_active = signed(at);
                    self.plan_message(index);
                    if self.chance.happens(self.setup.sent_share) {
                        self.truth.sent += 1;
                        (index, What::Sent)
                    } else {
                        self.truth.received += 1;
                        (index, What::Received)
                    }
                }
                _ => {
                    let connection = &mut self.connections[index as usize];
                    debug_assert_eq!(connection.closes_at, at);
                    if connection.dies {
                        connection.gap = f64::INFINITY;
                        continue;
                    }
                    connection.open = false;
                    self.truth.active -= 1;
                    self.truth.closed += 1;
                    (index, What::Closed)
                }
            };
            return Some(Event {
                at_micros: at,
                connection,
                what,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_truth_is_what_the_events_say() {
        for seed in 0..3 {
            let mut fleet = simulate(&Setup::drawn(seed));
            let before = fleet.truth();
            let mut open: BTreeSet<u32> = fleet.idle_seconds().map(|(id, _)| id).collect();
            assert_eq!(open.len() as u64, before.active);
            let mut counts = [0_u64; 4];
            let mut last = 0;
            for event in fleet.by_ref() {
                assert!(last <= event.at_micros);
                last = event.at_micros;
                counts[event.what as usize] += 1;
                match event.what {
                    What::Opened => assert!(open.insert(event.connection)),
                    What::Closed => assert!(open.remove(&event.connection)),
                    _ => assert!(open.contains(&event.connection)),
                }
            }
            let truth = fleet.truth();
            assert_eq!(
                counts,
                [truth.opened, truth.received, truth.sent, truth.closed]
            );
            assert_eq!(truth.active, before.active + truth.opened - truth.closed);
            assert_eq!(truth.active, open.len() as u64);
            assert!(truth.received > 20_000, "{truth:?}");
        }
    }

    #[test]
    fn as_many_close_as_open() {
        // Stationary by Little's law; four standard errors of the difference of two counts, and
        // those that die instead of closing.
        let setup = Setup {
            dying_share: 0.0,
            duration: 600.0,
            ..Setup::drawn(5)
        };
        let mut fleet = simulate(&setup);
        assert!(fleet.by_ref().count() > 0);
        let truth = fleet.truth();
        let difference = truth.opened as f64 - truth.closed as f64;
        let error = 4.0 * ((truth.opened + truth.closed) as f64).sqrt();
        assert!(difference.abs() < error, "{truth:?}");
    }

    #[test]
    fn the_dead_are_those_who_are_silent_for_more_than_an_hour() {
        for seed in 0..5 {
            let setup = Setup::drawn(seed);
            let mut fleet = simulate(&setup);
            assert!(fleet.by_ref().count() > 0);
            let silent = fleet.idle_longer_than(3_600.0) as f64;
            let dead = f64::from(setup.dead);
            // A quiet one may be silent for so long by chance.
            assert!(
                silent >= dead && silent < dead + 200.0,
                "{silent} of {dead}"
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_events() {
        let events = |seed| {
            simulate(&Setup::drawn(seed))
                .take(5_000)
                .collect::<Vec<_>>()
        };
        assert_eq!(events(1), events(1));
        assert_ne!(events(1), events(2));
    }
}
