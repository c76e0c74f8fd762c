//! Seeded simulators of sick and healthy systems, whose truth is known.
//!
//! A lab that teaches diagnosis needs more dumps than one: each simulator here runs a small model
//! in virtual time and writes down what a real service would have exposed, together with the
//! truth. The numbers of a dump agree with each other because they come from one run, not because
//! they were drawn to look right. The same seed gives the same bytes on every machine: chance
//! comes from ChaCha, and logarithms from a portable `libm`.
//!
//! Each simulator is a feature of its own, so that a lab builds the one that it runs.
//!
//! Not for grading: a simulator knows what happened, and a checker decides what an answer is worth.

#![cfg_attr(
    not(feature = "default"),
    allow(
        dead_code,
        reason = "simulators share parts, and one alone uses some of them"
    )
)]

#[cfg(feature = "black_friday")]
pub mod black_friday;
#[cfg(any(feature = "black_friday", feature = "on_call", feature = "service"))]
mod calendar;
pub mod chance;
#[cfg(feature = "go_hours")]
pub mod go_hours;
#[cfg(feature = "heap_week")]
pub mod heap_week;
#[cfg(feature = "image_pipeline")]
pub mod image_pipeline;
#[cfg(feature = "months")]
pub mod months;
#[cfg(feature = "nights")]
pub mod nights;
#[cfg(feature = "on_call")]
pub mod on_call;
#[cfg(feature = "panels")]
pub mod panels;
#[cfg(feature = "pool")]
pub mod pool;
pub mod queueing;
#[cfg(feature = "releases")]
pub mod releases;
#[cfg(feature = "service")]
pub mod service;
#[cfg(feature = "sockets")]
pub mod sockets;
#[cfg(feature = "stampede")]
pub mod stampede;
#[cfg(feature = "task_pool")]
pub mod task_pool;
#[cfg(feature = "use_pool")]
pub mod use_pool;
#[cfg(feature = "variants")]
pub mod variants;
