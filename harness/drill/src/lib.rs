//! Fire drills: what a learner's configuration would have said of a day that is simulated.
//!
//! A design lab hands in queries, a dashboard, rules, routes or a [`runbook`]. Here they meet systems
//! that fall ill and systems that do not: simulated runs become storages ([`storage`]), a
//! configuration is executed over them in virtual time, and what happened and what was said are put
//! side by side in a [`Timeline`] that a person can read in 80 columns.
//!
//! Not for deciding what a configuration is worth: a checker does that. Not for simulating either:
//! that is `incident`.

pub mod alerts;
pub mod bookings;
mod clock;
pub mod dashboards;
pub mod logs;
pub mod runbook;
pub mod scene;
mod store;
pub mod submission;
mod timeline;
pub mod worker_pools;

pub use clock::{Clock, span};
pub use store::{storage, storage_of};
pub use timeline::{Lane, Timeline};
