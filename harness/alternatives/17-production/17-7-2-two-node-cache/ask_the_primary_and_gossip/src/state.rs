//! What a node knows, and what follows from it. Time is an argument, and nothing here waits.
//!
//! In an eventual cache every node is a leader, and gives all that it has to the other again and
//! again. A strong one works in sessions. The primary orders all writes, and the secondary asks it
//! for every read; its own copy, with marks for writes in doubt, is for the time without sessions.
//! A node that has not been answered for `lost_after` leaves the session; one that fails open
//! accepts writes only when the other must have left as well.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{Config, Consistency, Mode, OnLoss, Peer, Read, Refusal, Role, Status};

/// One life of a node, from its start to its end: what it knew before is not what it knows now.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Boot(pub u64);

/// Orders the writes to a key, the higher being the later.
///
/// The counter is a Lamport clock, and ties are the secondary's. The boot is there because a node
/// that has lost its memory counts from zero again, and must not give one version to two values.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Version {
    counter: u64,
    role: Role,
    boot: Boot,
}

/// What a key holds. A removed key stays, with no value, so that it outlives older values.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    pub version: Version,
    pub value: Option<String>,
}

/// Keys and what they hold.
pub type Entries = Vec<(String, Entry)>;

/// A time in which both nodes act together; never the same twice.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SessionId {
    primary: Boot,
    number: u64,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    /// When the last heartbeat that was answered was sent, or the session began.
    heard: Instant,
    /// Whether the other node is known to be in it too.
    confirmed: bool,
}

/// What to do with a read.
pub enum Lookup {
    Here(Read),
    AskPrimary(SessionId, Vec<Version>),
    Refused(Refusal),
}

/// What to do with a write.
pub enum Route {
    /// It is done, on this node alone.
    Accepted,
    Replicate(SessionId, Entry),
    Forward(SessionId),
    Refused(Refusal),
}

pub struct State {
    config: Config,
    boot: Boot,
    counter: u64,
    values: HashMap<String, (Version, String)>,
    /// What has been removed, and when.
    removed: HashMap<String, Version>,

    /// When the last heartbeat that was answered was sent, or the node started.
    answered: Instant,

    session: Option<Session>,
    sessions: u64,
    /// Whether this node has ever been in a session: only then does it know anything.
    synced: bool,
    /// Whether an offer of a session is under way. Until it ends, nothing new may be accepted.
    joining: bool,
    /// When this node has last told the other that they are together, which the other may rely on
    /// for `lost_after`. A node that has just started may have told so in its former life.
    granted: Instant,
    /// Writes whose outcome is open. Primary only.
    undecided: HashSet<Version>,
    /// Writes that the primary may or may not have confirmed. Secondary only.
    marks: BTreeMap<String, BTreeMap<Version, Option<String>>>,
}

impl State {
    pub fn new(config: Config, boot: Boot, now: Instant) -> Self {
        State {
            config,
            boot,
            counter: 0,
            values: HashMap::new(),
            removed: HashMap::new(),
            answered: now,
            session: None,
            sessions: 0,
            synced: false,
            joining: false,
            granted: now,
            undecided: HashSet::new(),
            marks: BTreeMap::new(),
        }
    }

    // What clients ask.

    pub fn status(&mut self, now: Instant) -> Status {
        let together = self.is_together(now);
        let mode = match self.config.consistency {
            Consistency::Strong(OnLoss::RefuseWrites) => Mode::Strong,
            Consistency::Strong(OnLoss::FailOpen) if together => Mode::Strong,
            Consistency::Strong(OnLoss::FailOpen) | Consistency::Eventual => Mode::Eventual,
        };
        let peer = self.peer(now);
        Status { mode, peer }
    }

    pub fn look_up(&mut self, key: &str, now: Instant) -> Lookup {
        let mode = self.status(now).mode;
        if mode == Mode::Eventual {
            let value = self.latest(key);
            return Lookup::Here(Read { value, mode });
        }
        if !self.synced {
            return Lookup::Refused(Refusal::CatchingUp);
        }
        match &self.session {
            Some(session) if self.config.role == Role::Secondary => {
                let marks = self.marks.get(key).into_iter();
                let versions = marks.flat_map(|marks| marks.keys().copied()).collect();
                Lookup::AskPrimary(session.id, versions)
            }
            _ => match self.look_up_alone(key, now) {
                Ok(read) => Lookup::Here(read),
                Err(refusal) => Lookup::Refused(refusal),
            },
        }
    }

    /// Reads without asking: sound unless a write is in doubt, since none can be confirmed without
    /// this node.
    pub fn look_up_alone(&mut self, key: &str, now: Instant) -> Result<Read, Refusal> {
        if self.marks.contains_key(key) {
            return Err(Refusal::InDoubt);
        }
        let value = self.values.get(key).map(|(_, value)| value.clone());
        let mode = self.status(now).mode;
        Ok(Read { value, mode })
    }

    /// Accepts a write on the spot, or says where it has to go.
    pub fn route(&mut self, key: &str, value: &Option<String>, now: Instant) -> Route {
        let on_loss = match self.config.consistency {
            Consistency::Eventual => {
                self.accept(key, value.clone());
                return Route::Accepted;
            }
            Consistency::Strong(on_loss) => on_loss,
        };
        if self.is_together(now) {
            let session = self.session.as_ref().expect("it is together").id;
            if self.config.role == Role::Secondary {
                return Route::Forward(session);
            }
            let entry = self.next_entry(value.clone());
            self.undecided.insert(entry.version);
            return Route::Replicate(session, entry);
        }
        let other_has_left = now >= self.granted + self.config.lost_after;
        let busy = self.joining || self.session.is_some();
        if on_loss == OnLoss::FailOpen && other_has_left && !busy {
            self.accept(key, value.clone());
            return Route::Accepted;
        }
        Route::Refused(match self.peer(now) {
            Peer::Lost => Refusal::PeerLost,
            Peer::Reachable => Refusal::CatchingUp,
        })
    }

    /// Takes a write of this node's own, without asking anybody.
    fn accept(&mut self, key: &str, value: Option<String>) {
        let entry = self.next_entry(value);
        self.apply(key, entry);
    }

    /// Ends a replicated write: `confirmed` if the other node holds it.
    pub fn decide(&mut self, key: &str, entry: &Entry, confirmed: bool) {
        self.undecided.remove(&entry.version);
        if confirmed {
            self.apply(key, entry.clone());
        }
    }

    // Entries.

    /// Takes an entry over unless a later one is known.
    pub fn apply(&mut self, key: &str, entry: Entry) {
        self.counter = self.counter.max(entry.version.counter);
        let Entry { version, value } = entry;
        if self.version_of(key) >= Some(version) {
            return;
        }
        self.unmark(key, |marked| marked <= version);
        let key = key.to_owned();
        if let Some(value) = value {
            self.removed.remove(&key);
            self.values.insert(key, (version, value));
        } else {
            self.values.remove(&key);
            self.removed.insert(key, version);
        }
    }

    fn version_of(&self, key: &str) -> Option<Version> {
        let set = self.values.get(key).map(|&(version, _)| version);
        set.or(self.removed.get(key).copied())
    }

    fn entry(&self, key: &str) -> Option<Entry> {
        let version = self.version_of(key)?;
        let value = self.values.get(key).map(|(_, value)| value.clone());
        Some(Entry { version, value })
    }

    /// The latest that is known of a key, be it confirmed or not.
    fn latest(&self, key: &str) -> Option<String> {
        match self.marks.get(key).and_then(|marks| marks.last_key_value()) {
            Some((_, marked)) => marked.clone(),
            None => self.values.get(key).map(|(_, value)| value.clone()),
        }
    }

    fn unmark(&mut self, key: &str, decided: impl Fn(Version) -> bool) {
        if let Some(marks) = self.marks.get_mut(key) {
            marks.retain(|&version, _| !decided(version));
            if marks.is_empty() {
                self.marks.remove(key);
            }
        }
    }

    fn next_entry(&mut self, value: Option<String>) -> Entry {
        self.counter += 1;
        let version = Version {
            counter: self.counter,
            role: self.config.role,
            boot: self.boot,
        };
        Entry { version, value }
    }

    // Heartbeats.

    fn peer(&self, now: Instant) -> Peer {
        if now < self.answered + self.config.lost_after {
            Peer::Reachable
        } else {
            Peer::Lost
        }
    }

    /// Whether the other node is known to be in this node's session, and to stay in it for now.
    fn is_together(&mut self, now: Instant) -> bool {
        let lost_after = self.config.lost_after;
        self.session
            .take_if(|session| now >= session.heard + lost_after);
        self.session
            .as_ref()
            .is_some_and(|session| session.confirmed)
    }

    pub fn session(&mut self, now: Instant) -> Option<SessionId> {
        self.is_together(now);
        self.session.as_ref().map(|session| session.id)
    }

    /// Answers a heartbeat: whether the two are together.
    pub fn on_heartbeat(&mut self, theirs: Option<SessionId>, now: Instant) -> bool {
        let together = theirs.is_some() && theirs == self.session(now);
        if together {
            self.granted = now;
        }
        together
    }

    /// Takes note that a heartbeat was answered, which was sent at `sent` in session `ours`.
    pub fn on_answer(
        &mut self,
        sent: Instant,
        ours: Option<SessionId>,
        together: bool,
        now: Instant,
    ) {
        self.answered = sent;
        // One that it has left by now is not revived.
        if self.session(now) != ours {
            return;
        }
        if let Some(session) = &mut self.session {
            if together {
                session.heard = sent;
                session.confirmed = true;
                self.synced = true;
            } else if session.confirmed {
                self.session = None;
            }
        }
    }

    // Sessions.

    pub fn is_in(&mut self, theirs: SessionId, now: Instant) -> bool {
        self.session(now) == Some(theirs)
    }

    /// The primary's offer, when there is no session: all that it has.
    pub fn offer(&mut self, now: Instant) -> Option<(SessionId, Entries)> {
        let strong = matches!(self.config.consistency, Consistency::Strong(_));
        let primary = self.config.role == Role::Primary;
        if !strong || !primary || self.session(now).is_some() {
            return None;
        }
        self.joining = true;
        self.sessions += 1;
        let id = SessionId {
            primary: self.boot,
            number: self.sessions,
        };
        Some((id, self.entries()))
    }

    /// The secondary's answer to the offer: what it has, and its marks, which count as written now.
    /// It accepts nothing on its own from here on, and relies on nothing before a heartbeat has said
    /// that the primary has the answer.
    pub fn join(&mut self, id: SessionId, entries: Entries, now: Instant) -> (Entries, Entries) {
        for (key, entry) in entries {
            self.apply(&key, entry);
        }
        self.granted = now;
        self.session = Some(Session {
            id,
            heard: now,
            confirmed: false,
        });
        let marks = self.marks.iter().flat_map(|(key, marks)| {
            marks.iter().map(|(&version, value)| {
                let value = value.clone();
                (key.clone(), Entry { version, value })
            })
        });
        (self.entries(), marks.collect())
    }

    pub fn entries(&self) -> Entries {
        let keys = self.values.keys().chain(self.removed.keys());
        keys.filter_map(|key| Some((key.clone(), self.entry(key)?)))
            .collect()
    }

    /// The end of the offer that was sent at `sent`: what the secondary has, if it answered.
    pub fn joined(&mut self, id: SessionId, sent: Instant, answer: Option<Entries>) {
        self.joining = false;
        let Some(entries) = answer else { return };
        for (key, entry) in entries {
            self.apply(&key, entry);
        }
        self.synced = true;
        self.session = Some(Session {
            id,
            heard: sent,
            confirmed: true,
        });
    }

    /// The secondary holds a write that the primary has not confirmed yet.
    pub fn mark(&mut self, key: String, entry: Entry) {
        self.counter = self.counter.max(entry.version.counter);
        if self.version_of(&key) < Some(entry.version) {
            let marks = self.marks.entry(key).or_default();
            marks.insert(entry.version, entry.value);
        }
    }

    /// What the primary says to a secondary that asks for the outcome of `versions`.
    pub fn resolve(&self, key: &str, versions: &[Version]) -> (Option<Entry>, Vec<Version>) {
        let undecided = versions
            .iter()
            .copied()
            .filter(|version| self.undecided.contains(version))
            .collect();
        (self.entry(key), undecided)
    }

    /// What the secondary does with that: writes that are decided need no mark any more.
    pub fn settle(
        &mut self,
        key: &str,
        entry: Option<Entry>,
        asked: &[Version],
        undecided: &[Version],
    ) {
        self.unmark(key, |version| {
            asked.contains(&version) && !undecided.contains(&version)
        });
        if let Some(entry) = entry {
            self.apply(key, entry);
        }
    }
}
