//! Decides whether the checkout may call the payment provider now.
//!
//! The checkout asks the [`CircuitBreaker`] for a [`Permit`] before each call and tells the permit
//! how the call ended. Making the call, limiting its time and trying again are the checkout's.

mod breaker;
mod sync;

pub use breaker::{CircuitBreaker, Config, ConfigError, Permit, Rejected, Snapshot, State};
