//! One scheduler of several: it runs a job if nobody else does, and nobody has.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::store::{Change, Store, StoreError};

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
    turns: Arc<AtomicU64>,
}

impl<S: Store> Scheduler<S> {
    /// A scheduler called `name`, which no other one is called. `ttl` is how long after a crash a
    /// job stays locked, in whole seconds; jobs may take longer.
    pub fn new(store: S, name: &str, ttl: Duration) -> Self {
        Scheduler {
            store,
            name: name.to_owned(),
            ttl,
            turns: Arc::default(),
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
        match self.try_run(job, work).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Unavailable,
        }
    }

    async fn try_run<F, Fut>(&self, job: &str, work: F) -> Result<Outcome, StoreError>
    where
        F: FnOnce(Token) -> Fut + Send,
        Fut: Future<Output = Result<(), JobError>> + Send,
    {
        let (lock, done) = (format!("/jobs/{job}/lock"), format!("/jobs/{job}/done"));
        if self.store.get(&done).await?.is_some() {
            return Ok(Outcome::AlreadyDone);
        }
        if self.store.get(&lock).await?.is_some() {
            return Ok(Outcome::HeldByAnother);
        }
        self.put(&lock).await?;
        let token = Token(self.turns.fetch_add(1, Ordering::SeqCst) + 1);
        let result = work(token).await;
        if result.is_ok() {
            self.put(&done).await?;
        }
        self.store
            .transact(Vec::new(), vec![Change::Delete(lock)])
            .await?;
        Ok(match result {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(error),
        })
    }

    async fn put(&self, key: &str) -> Result<(), StoreError> {
        let put = Change::Put {
            key: key.to_owned(),
            value: self.name.clone(),
            lease: None,
        };
        self.store.transact(Vec::new(), vec![put]).await?;
        Ok(())
    }
}
