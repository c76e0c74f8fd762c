//! One scheduler of several: it runs a job if nobody else does, and nobody has.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::store::{Change, Guard, LeaseId, Revision, Store, StoreError};

/// How often a lease is renewed within its time to live: two renewals may be lost.
const RENEWALS: u32 = 3;
/// How often a record is sent that gets no answer.
const TRIES: u32 = 3;

/// What a job shows to whatever it writes to: a later holder of the same job has a greater one, so
/// that who writes late can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Why a job did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not finish the job: {0}")]
pub struct JobError(pub String);

/// What came of a scheduler's wish to run a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran here, and is recorded as done.
    Done,
    /// It was done before.
    AlreadyDone,
    /// Somebody else is at it. Nothing was waited for.
    HeldByAnother,
    /// It began here, and the lease was lost on the way: the work was dropped, and is not recorded.
    Lost,
    /// It ran here and failed. The lock is free again at once.
    Failed(JobError),
    /// The store could not be reached, so that it is not known whether the job may run.
    Unavailable,
}

/// One of several schedulers that share a store.
///
/// A job has two keys: `/jobs/NAME/lock` while somebody is at it, and `/jobs/NAME/done` for ever
/// after. Once the first `Done` is returned, no scheduler begins the job again. A holder that
/// crashes is replaced when its lease has run out; a holder that cannot keep its lease drops the
/// work before another one can begin. Whatever the outcome, no lease is left behind.
#[derive(Clone, Debug)]
pub struct Scheduler<S> {
    store: S,
    name: String,
    ttl: Duration,
}

impl<S: Store> Scheduler<S> {
    /// A scheduler called `name`, which no other one is called. `ttl` is how long after a crash a
    /// job stays locked, in whole seconds; jobs may take longer.
    pub fn new(store: S, name: &str, ttl: Duration) -> Self {
        Scheduler {
            store,
            name: name.to_owned(),
            ttl,
        }
    }

    /// The time to live of this scheduler's leases.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Runs `work` if the job is neither done nor held by another scheduler. `work` is dropped at
    /// its next await when the lock is lost. A run that is dropped has crashed: nothing of it goes
    /// on.
    pub async fn run<F, Fut>(&self, job: &str, work: F) -> Outcome
    where
        F: FnOnce(Token) -> Fut + Send,
        Fut: Future<Output = Result<(), JobError>> + Send,
    {
        let keys = Keys::of(job);
        // The lease runs from before it was granted, as far as this side can know.
        let asked = Instant::now();
        let Ok(lease) = self.store.grant(self.ttl).await else {
            return Outcome::Unavailable;
        };
        let outcome = match self.acquire(&keys, lease).await {
            Ok(Turn::Mine(created)) => {
                let expires = asked + self.ttl;
                self.hold(&keys, lease, created, expires, work).await
            }
            Ok(Turn::Not(outcome)) => outcome,
            Err(_) => Outcome::Unavailable,
        };
        // Frees the lock with it, where that is still there. An error leaves it to its time to live.
        let _ = self.store.revoke(lease).await;
        outcome
    }

    /// Locks the job in one step, if it is neither done nor held.
    async fn acquire(&self, keys: &Keys, lease: LeaseId) -> Result<Turn, StoreError> {
        let guards = vec![
            Guard::Absent(keys.done.clone()),
            Guard::Absent(keys.lock.clone()),
        ];
        let put = Change::Put {
            key: keys.lock.clone(),
            value: self.name.clone(),
            lease: Some(lease),
        };
        let tried = self.store.transact(guards, vec![put]).await;
        if let Ok(answer) = tried
            && answer.succeeded
        {
            return Ok(Turn::Mine(answer.revision));
        }
        // Without an answer the lock may be there: it goes with its lease, and somebody else's turn
        // is as good as this one.
        tried?;
        if self.store.get(&keys.done).await?.is_some() {
            return Ok(Turn::Not(Outcome::AlreadyDone));
        }
        match self.store.get(&keys.lock).await? {
            Some(_) => Ok(Turn::Not(Outcome::HeldByAnother)),
            // Whoever was in the way has left since.
            None => Ok(Turn::Not(Outcome::Unavailable)),
        }
    }

    /// Works while the lease is kept alive, and records the end.
    async fn hold<F, Fut>(
        &self,
        keys: &Keys,
        lease: LeaseId,
        created: Revision,
        expires: Instant,
        work: F,
    ) -> Outcome
    where
        F: FnOnce(Token) -> Fut + Send,
        Fut: Future<Output = Result<(), JobError>> + Send,
    {
        // The revision at which the lock was created grows from holder to holder.
        let result = tokio::select! {
            // Who has lost the lease must not take another step.
            biased;
            () = self.keep_until_lost(lease, expires) => return Outcome::Lost,
            result = work(Token(created.0)) => result,
        };
        match result {
            Ok(()) => self.record(keys, created).await,
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Keeps the lease alive; returns when it is gone, or may be.
    async fn keep_until_lost(&self, lease: LeaseId, mut expires: Instant) {
        loop {
            let renewed = tokio::select! {
                biased;
                () = sleep_until(expires) => return,
                renewed = self.renew(lease) => renewed,
            };
            match renewed {
                Ok(sent) => expires = sent + self.ttl,
                Err(StoreError::LeaseGone) => return,
                Err(StoreError::Unavailable) => {}
            }
        }
    }

    /// One renewal, in its time. Gives the moment at which it was sent.
    async fn renew(&self, lease: LeaseId) -> Result<Instant, StoreError> {
        sleep(self.ttl / RENEWALS).await;
        let sent = Instant::now();
        self.store.keep_alive(lease).await.map(|()| sent)
    }

    /// Records the job as done and frees it, in one step and only while the lock is ours.
    async fn record(&self, keys: &Keys, created: Revision) -> Outcome {
        let put = Change::Put {
            key: keys.done.clone(),
            value: format!("{} {}", self.name, created.0),
            lease: None,
        };
        for _ in 0..TRIES {
            let guards = vec![
                Guard::Absent(keys.done.clone()),
                Guard::CreatedAt(keys.lock.clone(), created),
            ];
            let changes = vec![put.clone(), Change::Delete(keys.lock.clone())];
            let tried = self.store.transact(guards, changes).await;
            if let Ok(answer) = tried
                && answer.succeeded
            {
                return Outcome::Done;
            }
            if tried != Err(StoreError::Unavailable) {
                break;
            }
        }
        // The record of this turn may be there although its answer was lost.
        match self.store.get(&keys.done).await {
            Ok(Some(entry)) if entry.value == format!("{} {}", self.name, created.0) => {
                Outcome::Done
            }
            _ => Outcome::Lost,
        }
    }
}

/// Whether this scheduler may work.
enum Turn {
    Mine(Revision),
    Not(Outcome),
}

/// The keys of a job.
struct Keys {
    lock: String,
    done: String,
}

impl Keys {
    fn of(job: &str) -> Self {
        Keys {
            lock: format!("/jobs/{job}/lock"),
            done: format!("/jobs/{job}/done"),
        }
    }
}
