//! What a hidden checker imports.
//!
//! A checker is a file of plain `#[test]` functions over a module called `subject`. Each of them
//! hands its body to [`check`], which gives it a deadline, turns whatever happens into one verdict,
//! and tells that verdict to the runner when there is one. The rest of the crate is what such
//! bodies need: the learner's [`mod@answers`], [`evidence`] that has to prove something, [`seed`]s that
//! can be replayed, [`paired`] measurement, and, by feature, virtual time and captured telemetry.
//!
//! Not for labs: a lab's own code never depends on this crate, only its tests do.

pub mod answers;
#[cfg(feature = "tracing")]
pub mod capture;
mod check;
pub mod closed_loop;
pub mod dump;
pub mod environment;
pub mod evidence;
pub mod history;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod paired;
pub mod place;
pub mod protocol;
pub mod seed;
#[cfg(feature = "tokio")]
pub mod time;

pub use check::{DEADLINE, check, check_within, not_run, or_symptom, step, symptom, unanswered};
