//! A node at work: what its clients call, what it answers to the other node, and its heartbeat.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::net::Network;
use crate::state::{Boot, Entry, Lookup, Route, SessionId, State, Version};
use crate::wire::{self, Reply, Request};
use crate::{Config, Consistency, Mode, Peer, Read, Refusal, Status, WriteError, Written};

/// One node of the cache. Clones are handles to the same node, which stops with the last of them.
#[derive(Clone)]
pub struct Cache<N: Network> {
    node: Arc<Node<N>>,
    _tasks: Arc<JoinSet<()>>,
}

struct Node<N> {
    network: N,
    config: Config,
    /// Never held across an await.
    state: Mutex<State>,
    /// There is something to spread.
    news: Notify,
}

/// Why there is no answer.
enum Failure {
    /// The request has not left this node.
    NotSent,
    /// The other node may have acted on it.
    NoAnswer,
}

/// What a request comes to.
enum Answer {
    Ready(Reply),
    /// A write that the other node must hold before it is answered.
    Replicating(SessionId, String, Entry),
}

impl<N: Network> Cache<N> {
    /// Starts a node, which begins to look for the other at once.
    ///
    /// # Errors
    /// If the port cannot be listened on.
    pub async fn start(network: N, config: Config) -> io::Result<Self> {
        let listener = network.listen(config.port).await?;
        let boot = Boot(RandomState::new().build_hasher().finish());
        let node = Arc::new(Node {
            network,
            state: Mutex::new(State::new(config.clone(), boot, Instant::now())),
            config,
            news: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&node).serve(listener));
        tasks.spawn(Arc::clone(&node).beat());
        if node.config.consistency == Consistency::Eventual {
            tasks.spawn(Arc::clone(&node).spread());
        }
        Ok(Cache {
            node,
            _tasks: Arc::new(tasks),
        })
    }

    /// Reads a key. Takes no longer than three times [`Config::exchange_timeout`].
    ///
    /// # Errors
    /// If this node cannot say what the key holds, and has promised not to guess.
    pub async fn get(&self, key: &str) -> Result<Read, Refusal> {
        self.node.get(key).await
    }

    /// Sets a key. Takes no longer than three times [`Config::exchange_timeout`].
    ///
    /// A caller that does not wait for the answer, or drops the future, has an unknown outcome.
    ///
    /// # Errors
    /// If the write is refused, or its outcome is not known.
    pub async fn put(&self, key: &str, value: &str) -> Result<Written, WriteError> {
        self.write(key, Some(value.to_owned())).await
    }

    /// Removes a key, whether or not it is there. A removal is a write like any other.
    ///
    /// # Errors
    /// As [`Cache::put`].
    pub async fn remove(&self, key: &str) -> Result<Written, WriteError> {
        self.write(key, None).await
    }

    /// What this node can promise at the moment, and what it knows of the other.
    pub fn status(&self) -> Status {
        self.node.state().status(Instant::now())
    }

    async fn write(&self, key: &str, value: Option<String>) -> Result<Written, WriteError> {
        let node = Arc::clone(&self.node);
        let key = key.to_owned();
        // A task of its own: a caller that goes away must not leave the write half done.
        tokio::spawn(async move { node.write(key, value).await })
            .await
            .unwrap_or(Err(WriteError::Unknown))
    }
}

impl<N: Network> Node<N> {
    async fn get(&self, key: &str) -> Result<Read, Refusal> {
        let lookup = self.state().look_up(key, Instant::now());
        match lookup {
            Lookup::Here(read) => Ok(read),
            Lookup::Refused(refusal) => Err(refusal),
            Lookup::AskPrimary(session, marks) => self.ask_primary(session, key, marks).await,
        }
    }

    async fn ask_primary(
        &self,
        session: SessionId,
        key: &str,
        marks: Vec<Version>,
    ) -> Result<Read, Refusal> {
        let request = Request::Resolve {
            session,
            key: key.to_owned(),
            versions: marks.clone(),
        };
        let (entry, undecided) = match self.exchange(&request).await {
            Ok(Reply::Resolved { entry, undecided }) => (entry, undecided),
            _ => return self.state().look_up_alone(key, Instant::now()),
        };
        let mut state = self.state();
        if state.is_in(session, Instant::now()) {
            state.settle(key, entry.clone(), &marks, &undecided);
        }
        Ok(Read {
            value: entry.and_then(|entry| entry.value),
            mode: Mode::Strong,
        })
    }

    async fn write(
        self: Arc<Self>,
        key: String,
        value: Option<String>,
    ) -> Result<Written, WriteError> {
        let route = self.state().route(&key, &value, Instant::now());
        match route {
            Route::Refused(refusal) => Err(refusal.into()),
            Route::Accepted => {
                self.news.notify_one();
                Ok(Written {
                    mode: Mode::Eventual,
                })
            }
            Route::Replicate(session, entry) => self.replicate(session, key, entry).await,
            Route::Forward(session) => self.forward(session, key, value).await,
        }
    }

    async fn replicate(
        self: Arc<Self>,
        session: SessionId,
        key: String,
        entry: Entry,
    ) -> Result<Written, WriteError> {
        let prepare = Request::Prepare {
            session,
            key: key.clone(),
            entry: entry.clone(),
        };
        let reply = self.exchange(&prepare).await;
        let confirmed = matches!(reply, Ok(Reply::Prepared));
        let mode = {
            let mut state = self.state();
            state.decide(&key, &entry, confirmed);
            state.status(Instant::now()).mode
        };
        match reply {
            Ok(Reply::Prepared) => {
                self.commit(session, key, entry);
                Ok(Written { mode })
            }
            Ok(Reply::NotTogether) | Err(Failure::NotSent) => Err(Refusal::PeerLost.into()),
            _ => Err(WriteError::Unknown),
        }
    }

    /// Spares the secondary the question, and lets it answer reads of the key when it is alone.
    fn commit(self: &Arc<Self>, session: SessionId, key: String, entry: Entry) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            let commit = Request::Commit {
                session,
                key,
                entry,
            };
            let _ = node.exchange(&commit).await;
        });
    }

    async fn forward(
        &self,
        session: SessionId,
        key: String,
        value: Option<String>,
    ) -> Result<Written, WriteError> {
        let request = Request::Write {
            session,
            key,
            value,
        };
        // The primary needs an exchange of its own before it can answer.
        let within = 2 * self.config.exchange_timeout;
        let reply = self.exchange_within(within, &request).await;
        match reply {
            Ok(Reply::Written) => {}
            Ok(Reply::NotTogether) | Err(Failure::NotSent) => return Err(Refusal::PeerLost.into()),
            _ => return Err(WriteError::Unknown),
        }
        let mode = Mode::Strong;
        Ok(Written { mode })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The other node.

    async fn exchange(&self, request: &Request) -> Result<Reply, Failure> {
        self.exchange_within(self.config.exchange_timeout, request)
            .await
    }

    /// One request and its reply, on a connection of their own: what became of an earlier one, on a
    /// link that was cut and mended, does not matter then.
    async fn exchange_within(&self, within: Duration, request: &Request) -> Result<Reply, Failure> {
        let deadline = Instant::now() + within;
        let connecting = self.network.connect(&self.config.peer);
        let mut stream = tokio::time::timeout_at(deadline, connecting)
            .await
            .map_err(|_| Failure::NotSent)?
            .map_err(|_| Failure::NotSent)?;
        let talk = async {
            wire::send(&mut stream, request).await?;
            wire::receive(&mut stream).await
        };
        tokio::time::timeout_at(deadline, talk)
            .await
            .map_err(|_| Failure::NoAnswer)?
            .map_err(|_| Failure::NoAnswer)
    }

    async fn serve(self: Arc<Self>, listener: N::Listener) {
        let mut connections = JoinSet::new();
        loop {
            // A connection that could not be accepted is the other node's to make again.
            if let Ok(stream) = self.network.accept(&listener).await {
                connections.spawn(Arc::clone(&self).attend(stream));
            }
            while connections.try_join_next().is_some() {}
        }
    }

    async fn attend(self: Arc<Self>, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        // Whoever asked has given up by then.
        let patience = 3 * self.config.exchange_timeout;
        let _ = timeout(patience, async {
            let request = wire::receive(&mut stream).await?;
            let reply = self.answer(request).await;
            wire::send(&mut stream, &reply).await
        })
        .await;
    }

    async fn answer(self: &Arc<Self>, request: Request) -> Reply {
        match self.answer_at_once(request) {
            Answer::Ready(reply) => reply,
            Answer::Replicating(session, key, entry) => {
                let replicated = Arc::clone(self).replicate(session, key, entry);
                match tokio::spawn(replicated).await {
                    Ok(Ok(_)) => Reply::Written,
                    Ok(Err(WriteError::Refused(_))) => Reply::NotTogether,
                    Ok(Err(WriteError::Unknown)) | Err(_) => Reply::Unknown,
                }
            }
        }
    }

    fn answer_at_once(&self, request: Request) -> Answer {
        let now = Instant::now();
        let mut state = self.state();
        Answer::Ready(match request {
            Request::Heartbeat { session } => Reply::Alive {
                together: state.on_heartbeat(session, now),
            },
            Request::Join { session, entries } => {
                let (entries, marks) = state.join(session, entries, now);
                Reply::Joined { entries, marks }
            }
            Request::Prepare { session, .. }
            | Request::Commit { session, .. }
            | Request::Resolve { session, .. }
            | Request::Write { session, .. }
                if !state.is_in(session, now) =>
            {
                Reply::NotTogether
            }
            Request::Prepare { key, entry, .. } => {
                state.mark(key, entry);
                Reply::Prepared
            }
            Request::Commit { key, entry, .. } => {
                state.apply(&key, entry);
                Reply::Done
            }
            Request::Resolve { key, versions, .. } => {
                let (entry, undecided) = state.resolve(&key, &versions);
                Reply::Resolved { entry, undecided }
            }
            Request::Spread { entries } => {
                for (key, entry) in entries {
                    state.apply(&key, entry);
                }
                Reply::Done
            }
            Request::Write { key, value, .. } => match state.route(&key, &value, now) {
                Route::Replicate(session, entry) => {
                    return Answer::Replicating(session, key, entry);
                }
                _ => Reply::NotTogether,
            },
        })
    }

    async fn beat(self: Arc<Self>) {
        let mut beats = interval(self.config.heartbeat_every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            let sent = Instant::now();
            let session = self.state().session(sent);
            let heartbeat = Request::Heartbeat { session };
            if let Ok(Reply::Alive { together }) = self.exchange(&heartbeat).await {
                self.state()
                    .on_answer(sent, session, together, Instant::now());
                self.news.notify_one();
                self.offer().await;
            }
        }
    }

    /// Finds together again: each node gives all that it has, and the later version wins.
    async fn offer(self: &Arc<Self>) {
        let sent = Instant::now();
        let Some((session, entries)) = self.state().offer(sent) else {
            return;
        };
        let reply = self.exchange(&Request::Join { session, entries }).await;
        let Ok(Reply::Joined { mut entries, marks }) = reply else {
            self.state().joined(session, sent, None);
            return;
        };
        entries.extend(marks.iter().cloned());
        self.state().joined(session, sent, Some(entries));
        for (key, entry) in marks {
            self.commit(session, key, entry);
        }
    }

    async fn spread(self: Arc<Self>) {
        loop {
            self.news.notified().await;
            let (entries, peer) = {
                let mut state = self.state();
                (state.entries(), state.status(Instant::now()).peer)
            };
            if peer == Peer::Reachable {
                let _ = self.exchange(&Request::Spread { entries }).await;
            }
        }
    }
}
