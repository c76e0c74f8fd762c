//! A node at work: what its clients call, what it answers to the other node, and its heartbeat.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::net::Network;
use crate::wire::{self, Reply, Request};
use crate::{Config, Consistency, Mode, OnLoss, Peer, Read, Refusal, Status, WriteError, Written};

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
}

struct State {
    entries: HashMap<String, String>,
    status: Status,
}

impl<N: Network> Cache<N> {
    /// Starts a node, which begins to look for the other at once.
    ///
    /// # Errors
    /// If the port cannot be listened on.
    pub async fn start(network: N, config: Config) -> io::Result<Self> {
        let listener = network.listen(config.port).await?;
        let status = Status {
            mode: match config.consistency {
                Consistency::Strong(_) => Mode::Strong,
                Consistency::Eventual => Mode::Eventual,
            },
            peer: Peer::Reachable,
        };
        let node = Arc::new(Node {
            network,
            config,
            state: Mutex::new(State {
                entries: HashMap::new(),
                status,
            }),
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
        let state = self.node.state();
        Ok(Read {
            value: state.entries.get(key).cloned(),
            mode: state.status.mode,
        })
    }

    /// Sets a key. Takes no longer than three times [`Config::exchange_timeout`].
    ///
    /// A caller that does not wait for the answer, or drops the future, has an unknown outcome.
    ///
    /// # Errors
    /// If the write is refused, or its outcome is not known.
    pub async fn put(&self, key: &str, value: &str) -> Result<Written, WriteError> {
        self.node.write(key, Some(value.to_owned()))
    }

    /// Removes a key, whether or not it is there. A removal is a write like any other.
    ///
    /// # Errors
    /// As [`Cache::put`].
    pub async fn remove(&self, key: &str) -> Result<Written, WriteError> {
        self.node.write(key, None)
    }

    /// What this node can promise at the moment, and what it knows of the other.
    pub fn status(&self) -> Status {
        self.node.state().status
    }
}

impl<N: Network> Node<N> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(self: &Arc<Self>, key: &str, value: Option<String>) -> Result<Written, WriteError> {
        let refuses = self.config.consistency == Consistency::Strong(OnLoss::RefuseWrites);
        let mode = {
            let mut state = self.state();
            if refuses && state.status.peer == Peer::Lost {
                return Err(Refusal::PeerLost.into());
            }
            state.apply(key.to_owned(), value.clone());
            state.status.mode
        };
        let node = Arc::clone(self);
        let key = key.to_owned();
        tokio::spawn(async move { node.exchange(&Request::Write { key, value }).await });
        Ok(Written { mode })
    }

    async fn exchange(&self, request: &Request) -> io::Result<Reply> {
        let mut stream = self.network.connect(&self.config.peer).await?;
        wire::send(&mut stream, request).await?;
        wire::receive(&mut stream).await
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
        let Ok(request) = wire::receive(&mut stream).await else {
            return;
        };
        {
            let mut state = self.state();
            match request {
                Request::Heartbeat => {}
                Request::Write { key, value } => state.apply(key, value),
                Request::Fill { entries } => state.entries.extend(entries),
            }
        }
        // Whoever has asked and is gone does not miss the answer.
        let _ = wire::send(&mut stream, &Reply::Done).await;
    }

    async fn beat(self: Arc<Self>) {
        let mut beats = interval(self.config.heartbeat_every);
        loop {
            beats.tick().await;
            match self.exchange(&Request::Heartbeat).await {
                Ok(Reply::Done) => {
                    if self.state().status.peer == Peer::Lost {
                        self.fill().await;
                    }
                    self.set_peer(Peer::Reachable);
                }
                Err(_) => self.set_peer(Peer::Lost),
            }
        }
    }

    /// Gives the other node, which is back, what it has missed.
    async fn fill(&self) {
        let entries = self.state().entries.clone().into_iter().collect();
        let _ = self.exchange(&Request::Fill { entries }).await;
    }

    fn set_peer(&self, peer: Peer) {
        let mut state = self.state();
        state.status.peer = peer;
        if self.config.consistency == Consistency::Strong(OnLoss::FailOpen) {
            state.status.mode = match peer {
                Peer::Reachable => Mode::Strong,
                Peer::Lost => Mode::Eventual,
            };
        }
    }
}

impl State {
    fn apply(&mut self, key: String, value: Option<String>) {
        match value {
            Some(value) => self.entries.insert(key, value),
            None => self.entries.remove(&key),
        };
    }
}
