//! An etcd in memory, and its client in a replica.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::network::Network;
use super::process::{Fault, Process};
use super::timeline::Timeline;
use crate::{Committed, Compare, Entry, LeaseId, Op, Revision, Store, StoreError, Txn};

/// When a client gives up waiting for a reply.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Etcd {
    state: Arc<Mutex<State>>,
    timeline: Timeline,
}

#[derive(Default)]
struct State {
    revision: Revision,
    granted: u64,
    leases: BTreeMap<LeaseId, Lease>,
    keys: BTreeMap<String, Entry>,
}

struct Lease {
    holder: String,
    ttl: Duration,
    ends: Duration,
}

impl Etcd {
    pub(super) fn new(timeline: Timeline) -> Self {
        Etcd {
            state: Arc::default(),
            timeline,
        }
    }

    pub(super) fn leases(&self, now: Duration) -> usize {
        self.expire(now);
        self.lock().leases.len()
    }

    pub(super) fn keys(&self, now: Duration) -> Vec<String> {
        self.expire(now);
        self.lock().keys.keys().cloned().collect()
    }

    pub(super) fn revoke_all(&self, now: Duration) {
        let mut state = self.lock();
        let all: Vec<LeaseId> = state.leases.keys().copied().collect();
        for lease in all {
            state.end(lease);
        }
        drop(state);
        self.timeline.note(now, "etcd", "loses all leases");
    }

    /// Ends the leases whose time has come by `now`, in the order in which it came.
    pub(super) fn expire(&self, now: Duration) {
        let mut state = self.lock();
        loop {
            let due = state.leases.iter().filter(|(_, lease)| lease.ends <= now);
            let Some((&id, _)) = due.min_by_key(|(_, lease)| lease.ends) else {
                return;
            };
            let (lease, keys) = state.end(id);
            let keys = match keys.as_slice() {
                [] => "no key".to_owned(),
                keys => keys.join(", "),
            };
            let what = format!(
                "the lease of {} runs out: {keys} goes with it",
                lease.holder
            );
            self.timeline.note(lease.ends, "etcd", what);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// # Panics
    /// When there is no such lease.
    fn end(&mut self, id: LeaseId) -> (Lease, Vec<String>) {
        let lease = self.leases.remove(&id).expect("the caller has seen it");
        let attached = |entry: &&Entry| entry.lease == Some(id);
        let keys: Vec<String> = self
            .keys
            .values()
            .filter(attached)
            .map(|entry| entry.key.clone())
            .collect();
        if !keys.is_empty() {
            self.revision.0 += 1;
        }
        for key in &keys {
            self.keys.remove(key);
        }
        (lease, keys)
    }

    /// A number as etcd makes them: one that tells nothing about the order of grants.
    fn grant(&mut self, holder: &str, ttl: Duration, now: Duration) -> LeaseId {
        self.granted += 1;
        let mixed = kit::seed::Seed(self.granted).derive(0).0;
        let id = LeaseId(i64::try_from(mixed >> 1).unwrap_or(1).max(1));
        let ttl = Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0));
        let ttl = ttl.max(Duration::from_secs(1));
        let lease = Lease {
            holder: holder.to_owned(),
            ttl,
            ends: now + ttl,
        };
        self.leases.insert(id, lease);
        id
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent { key } => !self.keys.contains_key(key),
            Compare::CreatedAt { key, revision } => self
                .keys
                .get(key)
                .is_some_and(|entry| entry.create_revision == *revision),
            Compare::Value { key, value } => self
                .keys
                .get(key)
                .is_some_and(|entry| entry.value == *value),
        }
    }

    fn commit(&mut self, txn: &Txn) -> Result<Committed, StoreError> {
        let succeeded = txn.when.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        for op in ops {
            if let Op::Put {
                lease: Some(lease), ..
            } = op
                && !self.leases.contains_key(lease)
            {
                return Err(StoreError::LeaseNotFound(*lease));
            }
        }
        let next = Revision(self.revision.0 + 1);
        let mut found = Vec::new();
        let mut wrote = false;
        for op in ops {
            match op {
                Op::Put { key, value, lease } => {
                    wrote = true;
                    let old = self.keys.get(key);
                    let entry = Entry {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: old.map_or(next, |old| old.create_revision),
                        mod_revision: next,
                        version: old.map_or(0, |old| old.version) + 1,
                        lease: *lease,
                    };
                    self.keys.insert(key.clone(), entry);
                }
                Op::Delete { key } => wrote |= self.keys.remove(key).is_some(),
                Op::Get { key } => found.push(self.keys.get(key).cloned()),
            }
        }
        if wrote {
            self.revision = next;
        }
        Ok(Committed {
            succeeded,
            revision: self.revision,
            found,
        })
    }
}

/// A client of the world's etcd, in one of its replicas.
#[derive(Clone)]
pub struct SimulatedEtcd {
    process: Process,
    network: Network,
    etcd: Etcd,
}

impl SimulatedEtcd {
    pub(super) fn new(process: Process, network: Network, etcd: Etcd) -> Self {
        SimulatedEtcd {
            process,
            network,
            etcd,
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        what: Call,
        branch: fn(&T) -> Branch,
        apply: impl FnOnce(&mut State, Duration) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.process.has_crashed() {
            return pending().await;
        }
        let sent = self.process.now();
        let fault = self.process.next_call(matches!(what, Call::KeepAlive));
        if fault == Some(Fault::CrashBefore) {
            self.process.crash();
            return pending().await;
        }
        let mut arrives = sent + self.network.request_latency();
        let (reply, replied) = oneshot::channel();
        if let Some(fault @ (Fault::LoseRequest | Fault::LoseReply)) = fault {
            let lost = if fault == Fault::LoseReply {
                "reply"
            } else {
                "request"
            };
            self.process
                .note(format!("sends {}, and the {lost} is LOST", what.told()));
        }
        if let Some(Fault::DelayRequest(late)) = fault {
            arrives += late;
            self.process
                .note(format!("sends {}, which is DELAYED", what.told()));
        }
        let lost = fault == Some(Fault::LoseRequest) || self.process.is_cut_off(sent);
        if !lost {
            let (etcd, network) = (self.etcd.clone(), self.network.clone());
            let process = self.process.clone();
            let (reply_takes, keeps_reply) = (
                self.network.reply_latency(),
                fault == Some(Fault::LoseReply),
            );
            self.network.deliver(arrives, move |now| {
                let result = apply(&mut etcd.lock(), now);
                if let Some(told) = what.outcome(result.as_ref().map(branch)) {
                    etcd.timeline.note(now, process.name(), told);
                }
                if fault == Some(Fault::CrashAfter) {
                    process.crash();
                }
                if keeps_reply || process.is_cut_off(now) {
                    return;
                }
                network.deliver(now + reply_takes, move |_| {
                    // The caller may have stopped waiting.
                    let _ = reply.send(result);
                });
            });
        }
        // A message that is lost drops its sender, and silence is all that the caller hears of it.
        let reply = async {
            match replied.await {
                Ok(result) => result,
                Err(_) => pending().await,
            }
        };
        match tokio::time::timeout(PATIENCE, reply).await {
            Ok(result) => result,
            Err(_) => {
                self.process.note("gets no reply from etcd");
                Err(StoreError::NoReply)
            }
        }
    }
}

impl Store for SimulatedEtcd {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let holder = self.process.name().to_owned();
        self.call(
            Call::Grant,
            |_| Branch::Then,
            move |state, now| Ok(state.grant(&holder, ttl, now)),
        )
        .await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.call(
            Call::KeepAlive,
            |_| Branch::Then,
            move |state, now| {
                let found = state.leases.get_mut(&lease);
                let found = found.ok_or(StoreError::LeaseNotFound(lease))?;
                found.ends = now + found.ttl;
                Ok(found.ttl)
            },
        )
        .await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.call(
            Call::Revoke,
            |()| Branch::Then,
            move |state, _| {
                if !state.leases.contains_key(&lease) {
                    return Err(StoreError::LeaseNotFound(lease));
                }
                state.end(lease);
                Ok(())
            },
        )
        .await
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, StoreError> {
        let call = Call::Commit(txn.clone());
        let branch = |done: &Committed| match done.succeeded {
            true => Branch::Then,
            false => Branch::Otherwise,
        };
        self.call(call, branch, move |state, _| state.commit(&txn))
            .await
    }
}

/// A call, for the timeline.
enum Call {
    Grant,
    KeepAlive,
    Revoke,
    Commit(Txn),
}

impl Call {
    fn told(&self) -> String {
        match self {
            Call::Grant => "a grant".to_owned(),
            Call::KeepAlive => "a keep-alive".to_owned(),
            Call::Revoke => "a revoke".to_owned(),
            Call::Commit(txn) => told(&txn.then),
        }
    }

    /// What the timeline says once etcd has handled it. Keep-alives that work, and reads, are many
    /// and say little.
    fn outcome(&self, result: Result<Branch, &StoreError>) -> Option<String> {
        let what = match self {
            Call::KeepAlive if result.is_ok() => return None,
            Call::Commit(txn) if writes(txn).is_empty() => return None,
            call => call.told(),
        };
        Some(match result {
            Ok(Branch::Then) => format!("etcd handles {what}"),
            Ok(Branch::Otherwise) => format!("etcd refuses {what}"),
            Err(error) => format!("etcd handles {what}: could not {error}"),
        })
    }
}

/// Which way a call went; only a transaction has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Branch {
    Then,
    Otherwise,
}

fn writes(txn: &Txn) -> BTreeSet<&str> {
    let ops = txn.then.iter().chain(&txn.otherwise);
    ops.filter_map(|op| match op {
        Op::Put { key, .. } | Op::Delete { key } => Some(key.as_str()),
        Op::Get { .. } => None,
    })
    .collect()
}

fn told(ops: &[Op]) -> String {
    let ops = ops.iter().map(|op| match op {
        Op::Put {
            key,
            lease: Some(_),
            ..
        } => format!("put {key} with a lease"),
        Op::Put {
            key, lease: None, ..
        } => format!("put {key}"),
        Op::Delete { key } => format!("delete {key}"),
        Op::Get { key } => format!("get {key}"),
    });
    ops.collect::<Vec<_>>().join(", ")
}
