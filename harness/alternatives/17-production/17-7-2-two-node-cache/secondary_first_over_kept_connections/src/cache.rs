//! A node at work: what its clients call, and its tasks.
//!
//! The primary orders the writes of a strong cache, and the secondary holds each of them first. So
//! what the secondary holds is never behind, and the primary asks it about keys whose last write it
//! has no answer to. Connections are kept, and all of them dropped when one of them fails.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::net::Network;
use crate::state::{State, random};
use crate::wire::{self, Entry, Reply, Request};
use crate::{Config, Consistency, Mode, OnLoss, Read, Refusal, Role, Status, WriteError, Written};

/// One node of the cache. Clones are handles to the same node, which stops with the last of them.
#[derive(Clone)]
pub struct Cache<N: Network> {
    node: Arc<Node<N>>,
    _tasks: Arc<JoinSet<()>>,
}

struct Node<N: Network> {
    network: N,
    config: Config,
    /// Never held across an await.
    state: Mutex<State>,
    /// Held while the nodes are brought together.
    joining: tokio::sync::Mutex<()>,
    /// Connections on which nobody waits for an answer.
    idle: Mutex<Vec<N::Stream>>,
}

/// An exchange without a reply.
enum NoReply {
    /// The other node has not been asked, and never will be.
    NotSent,
    Unknown,
}

impl<N: Network> Cache<N> {
    /// Starts a node, which begins to look for the other at once.
    ///
    /// # Errors
    /// If the port cannot be listened on.
    pub async fn start(network: N, config: Config) -> io::Result<Self> {
        let listener = network.listen(config.port).await?;
        let node = Arc::new(Node {
            network,
            state: State::new(&config).into(),
            config,
            joining: tokio::sync::Mutex::new(()),
            idle: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&node).serve(listener));
        tasks.spawn(Arc::clone(&node).beat());
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

    async fn write(&self, key: &str, value: Option<String>) -> Result<Written, WriteError> {
        let (node, key) = (Arc::clone(&self.node), key.to_owned());
        // The client may go away; the write goes on.
        tokio::spawn(async move { node.write(key, value).await })
            .await
            .unwrap_or(Err(WriteError::Unknown))
    }

    /// What this node can promise at the moment, and what it knows of the other.
    pub fn status(&self) -> Status {
        let now = Instant::now();
        let mut state = self.node.state();
        state.settle(now);
        Status {
            mode: state.mode(now),
            peer: state.peer(now),
        }
    }
}

impl<N: Network> Node<N> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<N::Stream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn orders(&self) -> bool {
        self.config.role == Role::Primary
    }

    fn fails_open(&self) -> bool {
        self.config.consistency == Consistency::Strong(OnLoss::FailOpen)
    }

    async fn get(&self, key: &str) -> Result<Read, Refusal> {
        let session = {
            let now = Instant::now();
            let mut state = self.state();
            state.settle(now);
            let mode = state.mode(now);
            if self.config.consistency == Consistency::Eventual
                || (self.fails_open() && mode == Mode::Eventual)
            {
                return Ok(Read {
                    value: state.value(key),
                    mode,
                });
            }
            if !state.in_step {
                return Err(state.refusal(now));
            }
            if state.doubt.contains_key(key) {
                return Err(Refusal::InDoubt);
            }
            if !state.pending.contains_key(key) {
                return Ok(Read {
                    value: state.value(key),
                    mode,
                });
            }
            state.session
        };
        let Some(session) = session else {
            return Err(Refusal::InDoubt);
        };
        // A write is on its way. The other node has it first, and knows.
        let request = Request::Read {
            session,
            key: key.to_owned(),
        };
        let reply = self.exchange(&request, 1.0).await;
        let mut state = self.state();
        state.settle(Instant::now());
        match reply {
            Ok(Reply::Value(value)) if state.session == Some(session) => Ok(Read {
                value,
                mode: Mode::Strong,
            }),
            _ if self.fails_open() => Ok(Read {
                value: state.value(key),
                mode: Mode::Eventual,
            }),
            _ => Err(Refusal::InDoubt),
        }
    }

    async fn write(
        self: &Arc<Self>,
        key: String,
        value: Option<String>,
    ) -> Result<Written, WriteError> {
        if self.config.consistency == Consistency::Eventual {
            let entry = self.state().take_alone(&key, value);
            let node = Arc::clone(self);
            tokio::spawn(async move { node.spread(key, entry).await });
            return Ok(Written {
                mode: Mode::Eventual,
            });
        }
        {
            let now = Instant::now();
            let mut state = self.state();
            state.settle(now);
            if state.open(now) {
                state.take_alone(&key, value);
                return Ok(Written {
                    mode: Mode::Eventual,
                });
            }
            if state.lost(now) {
                return Err(Refusal::PeerLost.into());
            }
        }
        if self.orders() {
            return self.order(key, value).await;
        }
        match self.exchange(&Request::Forward { key, value }, 2.5).await {
            Ok(Reply::Done) => Ok(Written { mode: Mode::Strong }),
            Ok(Reply::No) => Err(Refusal::CatchingUp.into()),
            Err(NoReply::NotSent) => Err(Refusal::PeerLost.into()),
            _ => Err(WriteError::Unknown),
        }
    }

    /// Has the other node hold the write, and then this one.
    async fn order(&self, key: String, value: Option<String>) -> Result<Written, WriteError> {
        let (session, entry) = {
            let now = Instant::now();
            let mut state = self.state();
            state.settle(now);
            let Some(session) = state.session.filter(|_| !state.lost(now)) else {
                return Err(state.refusal(now).into());
            };
            *state.pending.entry(key.clone()).or_default() += 1;
            (
                session,
                Entry {
                    version: state.next_version(),
                    value,
                },
            )
        };
        let request = Request::Write {
            session,
            key: key.clone(),
            entry: entry.clone(),
        };
        let reply = self.exchange(&request, 1.0).await;
        let mut state = self.state();
        state.settle(Instant::now());
        if let Some(count) = state.pending.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                state.pending.remove(&key);
            }
        }
        let together = state.session == Some(session);
        match reply {
            Ok(Reply::Done) if together => {
                state.keep(key, entry);
                Ok(Written { mode: Mode::Strong })
            }
            Ok(Reply::No) => {
                if together {
                    state.session = None;
                }
                Err(Refusal::CatchingUp.into())
            }
            Err(NoReply::NotSent) => Err(Refusal::PeerLost.into()),
            _ => {
                if together {
                    state.session = None;
                }
                if state.session.is_none() {
                    if self.fails_open() {
                        state.keep(key, entry);
                    } else {
                        state.put_in_doubt(key, entry);
                    }
                }
                Err(WriteError::Unknown)
            }
        }
    }

    /// Tells the other node of a write. What does not arrive is left to [`Node::merge`].
    async fn spread(&self, key: String, entry: Entry) {
        let life = self.state().life;
        let request = Request::Spread { life, key, entry };
        if !matches!(self.exchange(&request, 1.0).await, Ok(Reply::Done)) {
            self.state().dirty = true;
        }
    }

    /// One request and its reply, within so many times the longest exchange.
    async fn exchange(&self, request: &Request, times: f64) -> Result<Reply, NoReply> {
        let until = Instant::now() + self.config.exchange_timeout.mul_f64(times);
        let kept = self.idle().pop();
        let mut stream = match kept {
            Some(stream) => stream,
            None => {
                let connect = self.network.connect(&self.config.peer);
                let Ok(Ok(stream)) = tokio::time::timeout_at(until, connect).await else {
                    return Err(NoReply::NotSent);
                };
                stream
            }
        };
        let talk = async {
            wire::send(&mut stream, request).await?;
            wire::receive(&mut stream).await
        };
        match tokio::time::timeout_at(until, talk).await {
            Ok(Ok(reply)) => {
                self.idle().push(stream);
                Ok(reply)
            }
            _ => {
                self.idle().clear();
                Err(NoReply::Unknown)
            }
        }
    }

    async fn serve(self: Arc<Self>, listener: N::Listener) {
        let mut connections = JoinSet::new();
        loop {
            if let Ok(stream) = self.network.accept(&listener).await {
                connections.spawn(Arc::clone(&self).attend(stream));
            }
            while connections.try_join_next().is_some() {}
        }
    }

    async fn attend(self: Arc<Self>, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        while let Ok(request) = wire::receive(&mut stream).await {
            let reply = match request {
                Request::Forward { key, value } if self.orders() => {
                    match self.order(key, value).await {
                        Ok(_) => Reply::Done,
                        Err(WriteError::Refused(_)) => Reply::No,
                        Err(WriteError::Unknown) => Reply::Unknown,
                    }
                }
                Request::Forward { .. } => Reply::No,
                other => self.state().answer(other, Instant::now()),
            };
            let sent = timeout(
                self.config.exchange_timeout,
                wire::send(&mut stream, &reply),
            )
            .await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn beat(self: Arc<Self>) {
        let mut beats = interval(self.config.heartbeat_every);
        let mut running = JoinSet::new();
        loop {
            beats.tick().await;
            while running.try_join_next().is_some() {}
            let number = self.state().next_beat();
            let node = Arc::clone(&self);
            running.spawn(async move {
                let Ok(reply) = node.exchange(&Request::Heartbeat, 1.0).await else {
                    return;
                };
                let Reply::Alive {
                    life,
                    session,
                    counter,
                    misses_you,
                } = reply
                else {
                    return;
                };
                let strong = node.config.consistency != Consistency::Eventual;
                let apart = {
                    let mut state = node.state();
                    state.answered(number, life, counter, misses_you, Instant::now());
                    if strong {
                        node.orders() && state.apart(number, session)
                    } else {
                        state.dirty
                    }
                };
                if !apart {
                    return;
                }
                let Ok(_alone) = node.joining.try_lock() else {
                    return;
                };
                if strong {
                    node.join().await;
                } else {
                    node.merge().await;
                }
            });
        }
    }

    /// Gives the other node of an eventual cache all that this one holds, and takes what it lacks.
    async fn merge(&self) {
        let (life, entries) = {
            let mut state = self.state();
            state.dirty = false;
            (state.life, state.all())
        };
        match self.exchange(&Request::Merge { life, entries }, 1.0).await {
            Ok(Reply::Holds(entries)) => {
                let mut state = self.state();
                for (key, entry) in entries {
                    state.keep(key, entry);
                }
            }
            _ => self.state().dirty = true,
        }
    }

    /// Begins a session: fetches what the other node holds, and has it hold what comes of both.
    async fn join(&self) {
        let (life, session, alone) = {
            let mut state = self.state();
            state.session = None;
            (state.life, random(), state.taken_alone)
        };
        let Ok(Reply::Holds(theirs)) = self.exchange(&Request::Pull { life, session }, 1.0).await
        else {
            return;
        };
        let (counter, entries) = self.state().merged(theirs);
        let push = Request::Push {
            session,
            counter,
            entries,
        };
        let reply = self.exchange(&push, 1.0).await;
        let (
            Ok(Reply::Done),
            Request::Push {
                counter, entries, ..
            },
        ) = (reply, push)
        else {
            return;
        };
        let mut state = self.state();
        let now = Instant::now();
        state.settle(now);
        if !state.lost(now) && state.taken_alone == alone {
            state.begin(session, counter, entries);
        }
    }
}
