//! What the schedulers need of etcd: leases, and transactions that compare before they change.

use std::future::Future;
use std::time::Duration;

/// A moment in the history of the store: every transaction that changes something has a greater one
/// than all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A lease. Its number says nothing about when it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A key's value and what the store knows about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: String,
    /// When the key was created: it was absent right before.
    pub created: Revision,
    /// The lease that the key is attached to, and with which it goes.
    pub lease: Option<LeaseId>,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The key is not there.
    Absent(String),
    /// The key is there, and was created then: it is still the same one.
    CreatedAt(String, Revision),
}

/// A change that a transaction makes when all its guards hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a key, attached to a lease or for ever.
    Put {
        key: String,
        value: String,
        lease: Option<LeaseId>,
    },
    /// Removes a key, if it is there.
    Delete(String),
}

/// What came of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the guards held, and all changes were made. Otherwise none was.
    pub succeeded: bool,
    /// The store's revision afterwards. Keys that the transaction created have it as
    /// [`Entry::created`].
    pub revision: Revision,
}

/// Why the store did not answer as hoped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No answer came. What was asked for may have been done all the same.
    #[error("no answer came from the store")]
    Unavailable,
    /// The lease has expired or was revoked, and its keys are gone.
    #[error("the lease is gone")]
    LeaseGone,
}

/// The store, as one client sees it. Clones are handles of the same client.
///
/// Each call answers within a second, or fails with [`StoreError::Unavailable`].
pub trait Store: Clone + Send + Sync + 'static {
    /// Grants a lease that expires when it is not kept alive for `ttl`, in whole seconds.
    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<LeaseId, StoreError>> + Send;

    /// Lets a lease live for another whole time to live, from now.
    fn keep_alive(&self, lease: LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends a lease, with all keys that are attached to it. One that is gone already is no error.
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads a key.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send;

    /// Makes all `changes` if all `guards` hold, in one step. A put that is attached to a lease
    /// that is gone fails with [`StoreError::LeaseGone`].
    fn transact(
        &self,
        guards: Vec<Guard>,
        changes: Vec<Change>,
    ) -> impl Future<Output = Result<Answer, StoreError>> + Send;
}
