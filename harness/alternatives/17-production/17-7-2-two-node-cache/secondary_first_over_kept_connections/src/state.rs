//! What a node knows, and how it answers. No waiting here.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _};

use tokio::time::Instant;

use crate::wire::{Entries, Entry, Life, Reply, Request, Session, Version};
use crate::{Config, Consistency, Mode, OnLoss, Peer, Refusal, Role};

/// A number that nobody else has drawn.
pub fn random() -> u64 {
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

pub struct State {
    config: Config,
    pub life: Life,
    entries: HashMap<String, Entry>,
    counter: u64,
    /// Ordered here, and not answered yet.
    pub pending: HashMap<String, usize>,
    /// Ordered here, with an outcome that is not known.
    pub doubt: HashMap<String, Entry>,
    pub session: Option<Session>,
    /// The session that may begin next.
    expected: Option<Session>,
    /// Whether this node has ever been in a session, and knows what there is.
    pub in_step: bool,
    peer_life: Option<Life>,
    /// When the other node answered last.
    answered: Instant,
    /// When the other node was answered last.
    granted: Instant,
    beat: u64,
    newest_answer: u64,
    /// Beats before this one say nothing on the session.
    session_since: u64,
    /// Whether the other node has answered in this life.
    met: bool,
    /// How many writes this node has taken alone.
    pub taken_alone: u64,
    /// Whether the other node may lack something. Eventual caches only.
    pub dirty: bool,
}

impl State {
    pub fn new(config: &Config) -> Self {
        State {
            config: config.clone(),
            life: random(),
            entries: HashMap::new(),
            counter: 0,
            pending: HashMap::new(),
            doubt: HashMap::new(),
            session: None,
            expected: None,
            in_step: false,
            peer_life: None,
            answered: Instant::now(),
            granted: Instant::now(),
            beat: 0,
            newest_answer: 0,
            session_since: 0,
            met: false,
            taken_alone: 0,
            dirty: true,
        }
    }

    pub fn lost(&self, now: Instant) -> bool {
        now - self.answered > self.config.lost_after
    }

    pub fn peer(&self, now: Instant) -> Peer {
        if self.lost(now) {
            Peer::Lost
        } else {
            Peer::Reachable
        }
    }

    pub fn mode(&self, now: Instant) -> Mode {
        match self.config.consistency {
            Consistency::Eventual => Mode::Eventual,
            Consistency::Strong(OnLoss::RefuseWrites) => Mode::Strong,
            Consistency::Strong(OnLoss::FailOpen) => {
                if self.session.is_some() && !self.lost(now) {
                    Mode::Strong
                } else {
                    Mode::Eventual
                }
            }
        }
    }

    /// Leaves the session when it is over.
    pub fn settle(&mut self, now: Instant) {
        if self.config.consistency == Consistency::Strong(OnLoss::FailOpen) && self.lost(now) {
            self.session = None;
        }
    }

    /// Whether writes are taken alone.
    pub fn open(&self, now: Instant) -> bool {
        self.config.consistency == Consistency::Strong(OnLoss::FailOpen)
            && self.lost(now)
            && now > self.granted + self.config.lost_after + self.config.exchange_timeout
    }

    pub fn refusal(&self, now: Instant) -> Refusal {
        if self.lost(now) {
            Refusal::PeerLost
        } else {
            Refusal::CatchingUp
        }
    }

    pub fn value(&self, key: &str) -> Option<String> {
        self.entries.get(key).and_then(|entry| entry.value.clone())
    }

    pub fn next_version(&mut self) -> Version {
        self.counter += 1;
        (
            self.counter,
            u8::from(self.config.role == Role::Primary),
            self.life,
        )
    }

    pub fn take_alone(&mut self, key: &str, value: Option<String>) -> Entry {
        self.taken_alone += 1;
        self.expected = None;
        let entry = Entry {
            version: self.next_version(),
            value,
        };
        self.entries.insert(key.to_owned(), entry.clone());
        entry
    }

    pub fn keep(&mut self, key: String, entry: Entry) {
        self.counter = self.counter.max(entry.version.0);
        match self.entries.get(&key) {
            Some(held) if held.version >= entry.version => {}
            _ => {
                self.entries.insert(key, entry);
            }
        }
    }

    pub fn put_in_doubt(&mut self, key: String, entry: Entry) {
        match self.doubt.get(&key) {
            Some(held) if held.version >= entry.version => {}
            _ => {
                self.doubt.insert(key, entry);
            }
        }
    }

    pub fn all(&self) -> Entries {
        self.entries
            .iter()
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect()
    }

    pub fn next_beat(&mut self) -> u64 {
        self.beat += 1;
        self.beat
    }

    pub fn answered(&mut self, beat: u64, life: Life, counter: u64, misses_us: bool, now: Instant) {
        self.settle(now);
        self.answered = now;
        if !self.met {
            // What was written before belongs behind all that the former life has written.
            self.met = true;
            self.counter += counter;
            for entry in self.entries.values_mut() {
                entry.version.0 += counter;
            }
        }
        if beat < self.newest_answer {
            return;
        }
        self.newest_answer = beat;
        if self.peer_life.is_some_and(|known| known != life) {
            self.session = None;
            self.expected = None;
            self.dirty = true;
        }
        self.peer_life = Some(life);
        if misses_us && self.config.consistency == Consistency::Strong(OnLoss::FailOpen) {
            self.session = None;
            self.expected = None;
        }
    }

    /// Whether the nodes have to be brought together.
    pub fn apart(&self, beat: u64, theirs: Option<Session>) -> bool {
        self.session.is_none() || (beat >= self.session_since && self.session != theirs)
    }

    /// What comes of both nodes' entries; a write in doubt counts as written.
    pub fn merged(&self, theirs: Entries) -> (u64, Entries) {
        let mut all = self.entries.clone();
        let doubt = self
            .doubt
            .iter()
            .map(|(key, entry)| (key.clone(), entry.clone()));
        let mut counter = self.counter;
        for (key, entry) in doubt.chain(theirs) {
            counter = counter.max(entry.version.0);
            match all.get(&key) {
                Some(held) if held.version >= entry.version => {}
                _ => {
                    all.insert(key, entry);
                }
            }
        }
        (counter, all.into_iter().collect())
    }

    pub fn begin(&mut self, session: Session, counter: u64, entries: Entries) {
        self.entries = entries.into_iter().collect();
        self.counter = self.counter.max(counter);
        self.doubt.clear();
        self.session = Some(session);
        self.session_since = self.beat + 1;
        self.in_step = true;
    }

    pub fn answer(&mut self, request: Request, now: Instant) -> Reply {
        self.settle(now);
        match request {
            Request::Heartbeat => {
                // Whoever misses the other promises nothing, and says so.
                if !self.lost(now) {
                    self.granted = now;
                }
                Reply::Alive {
                    life: self.life,
                    session: self.session,
                    counter: self.counter,
                    misses_you: self.lost(now),
                }
            }
            Request::Write {
                session,
                key,
                entry,
            } if self.session == Some(session) => {
                self.keep(key, entry);
                Reply::Done
            }
            Request::Read { session, key } if self.session == Some(session) => {
                Reply::Value(self.value(&key))
            }
            Request::Pull { life, session } if self.peer_life == Some(life) => {
                self.session = None;
                self.expected = Some(session);
                Reply::Holds(self.all())
            }
            Request::Push {
                session,
                counter,
                entries,
            } if self.expected == Some(session) && !self.lost(now) => {
                self.expected = None;
                self.begin(session, counter, entries);
                Reply::Done
            }
            Request::Spread { life, key, entry } if self.peer_life == Some(life) => {
                self.keep(key, entry);
                Reply::Done
            }
            Request::Merge { life, entries } if self.peer_life == Some(life) => {
                for (key, entry) in entries {
                    self.keep(key, entry);
                }
                Reply::Holds(self.all())
            }
            _ => Reply::No,
        }
    }
}
