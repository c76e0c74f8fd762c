//! The operations, and what goes in and out of them.

use std::fmt;
use std::future::Future;
use std::time::Duration;

/// A lease that etcd has granted. The number says nothing: a later lease may have a smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// etcd's logical clock: one for the whole store, one up with each transaction that writes, never
/// down. Zero is before the first write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key as etcd keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// What the last put wrote.
    pub value: String,
    /// The revision of the put that made the key. A key that is deleted and put again has a new one.
    pub create_revision: Revision,
    /// The revision of the last put.
    pub mod_revision: Revision,
    /// How many puts the key has seen since it was made; the first one makes it 1.
    pub version: u64,
    /// The lease that the last put attached it to. When that lease ends, etcd deletes the key.
    pub lease: Option<LeaseId>,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent {
        /// The key.
        key: String,
    },
    /// The key exists and was made at this revision.
    CreatedAt {
        /// The key.
        key: String,
        /// Its create revision.
        revision: Revision,
    },
    /// The key exists and has this value.
    Value {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
}

/// A step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes the key, and attaches it to the lease; to no lease when there is none here, whatever
    /// it was attached to before.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: String,
        /// The lease whose end shall be the end of the key.
        lease: Option<LeaseId>,
    },
    /// Deletes the key; does nothing when there is none.
    Delete {
        /// The key.
        key: String,
    },
    /// Reads the key, as the steps before it have left it.
    Get {
        /// The key.
        key: String,
    },
}

/// All conditions are judged and one of the two branches is run as a single, indivisible step:
/// `then` when every condition holds, `otherwise` when one does not. A branch must not write the
/// same key twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions. Without any, `then` is run.
    pub when: Vec<Compare>,
    /// What is done when all of them hold.
    pub then: Vec<Op>,
    /// What is done when one of them does not.
    pub otherwise: Vec<Op>,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Whether `then` was run.
    pub succeeded: bool,
    /// The store's revision after the transaction: the one of its writes, if it wrote.
    pub revision: Revision,
    /// What the [`Op::Get`]s of the branch found, in their order.
    pub found: Vec<Option<Entry>>,
}

/// Why an operation has no result. Completes "could not …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No answer within a second. The operation may have been applied, may be under way, or may
    /// never have arrived.
    NoReply,
    /// The lease has run out, was revoked, or was never granted. Nothing was applied.
    LeaseNotFound(LeaseId),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::NoReply => f.write_str("get a reply from etcd within a second"),
            StoreError::LeaseNotFound(lease) => write!(f, "find the lease {lease} in etcd"),
        }
    }
}

impl std::error::Error for StoreError {}

/// A client of an etcd. Clones are cheap and talk to the same etcd.
///
/// Each call is one round trip and ends after a second at the latest, with
/// [`StoreError::NoReply`] if nothing has come back by then. Dropping a call does not take it back.
pub trait Store: Clone + Send + Sync + 'static {
    /// Grants a lease that ends when nobody keeps it alive for `ttl` (whole seconds, rounded up).
    /// etcd may let it live a little longer, never shorter. It lives until then, whether keys are
    /// attached to it or not.
    ///
    /// # Errors
    /// [`StoreError::NoReply`].
    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<LeaseId, StoreError>> + Send;

    /// Lets the lease live for its whole TTL again, from the moment at which etcd handles the call.
    /// Returns that TTL.
    ///
    /// # Errors
    /// [`StoreError::NoReply`], [`StoreError::LeaseNotFound`].
    fn keep_alive(
        &self,
        lease: LeaseId,
    ) -> impl Future<Output = Result<Duration, StoreError>> + Send;

    /// Ends the lease now, and with it every key that is attached to it.
    ///
    /// # Errors
    /// [`StoreError::NoReply`], [`StoreError::LeaseNotFound`].
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Runs a transaction. It is linearizable: it sees everything that was answered before it began.
    ///
    /// # Errors
    /// [`StoreError::NoReply`], and [`StoreError::LeaseNotFound`] when the branch that would run
    /// puts a key on a lease that is not there.
    fn commit(&self, txn: Txn) -> impl Future<Output = Result<Committed, StoreError>> + Send;

    /// Reads one key, linearizably.
    ///
    /// # Errors
    /// [`StoreError::NoReply`].
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send {
        let txn = Txn {
            then: vec![Op::Get {
                key: key.to_owned(),
            }],
            ..Txn::default()
        };
        async move { Ok(self.commit(txn).await?.found.pop().flatten()) }
    }

    /// Writes one key, whatever it held.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    fn put(
        &self,
        key: &str,
        value: &str,
        lease: Option<LeaseId>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        let txn = Txn {
            then: vec![Op::Put {
                key: key.to_owned(),
                value: value.to_owned(),
                lease,
            }],
            ..Txn::default()
        };
        async move { self.commit(txn).await.map(|_| ()) }
    }

    /// Deletes one key, whoever wrote it.
    ///
    /// # Errors
    /// [`StoreError::NoReply`].
    fn delete(&self, key: &str) -> impl Future<Output = Result<(), StoreError>> + Send {
        let txn = Txn {
            then: vec![Op::Delete {
                key: key.to_owned(),
            }],
            ..Txn::default()
        };
        async move { self.commit(txn).await.map(|_| ()) }
    }
}
