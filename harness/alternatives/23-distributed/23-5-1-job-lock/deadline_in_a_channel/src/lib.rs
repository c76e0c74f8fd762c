//! Nightly jobs that several schedulers could run, and one of them does.

pub mod scheduler;
pub mod store;
