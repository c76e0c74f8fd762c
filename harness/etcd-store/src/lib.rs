//! What a coordination lab asks of etcd: leases, transactions that compare revisions, and reads.
//!
//! The trait [`Store`] mirrors etcd's v3 API: what holds for the operations here holds for the
//! operations of the same name in any etcd client. Code that is written against it runs on the
//! simulated etcd of `world` (feature `simulated`), in virtual time and under faults, and on the
//! running etcd of `real` (feature `real`).
//!
//! Not an etcd client: no watch, no ranges, no authentication.

#[cfg(feature = "real")]
pub mod real;
mod store;
#[cfg(feature = "simulated")]
pub mod world;

pub use store::{Committed, Compare, Entry, LeaseId, Op, Revision, Store, StoreError, Txn};
