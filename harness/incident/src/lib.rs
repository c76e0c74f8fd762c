//! Seeded simulators of sick and healthy systems, whose truth is known.
//!
//! A lab that teaches diagnosis needs more dumps than one: each simulator here runs a small model
//! in virtual time and writes down what a real service would have exposed, together with the
//! truth. The numbers of a dump agree with each other because they come from one run, not because
//! they were drawn to look right. The same seed gives the same bytes on every machine: chance
//! comes from ChaCha, and logarithms from a portable `libm`.
//!
//! Not for grading: a simulator knows what happened, and a checker decides what an answer is worth.

pub mod black_friday;
mod calendar;
pub mod chance;
pub mod go_hours;
pub mod heap_week;
pub mod image_pipeline;
pub mod months;
pub mod nights;
pub mod on_call;
pub mod panels;
pub mod pool;
pub mod queueing;
pub mod releases;
pub mod service;
pub mod sockets;
pub mod stampede;
pub mod task_pool;
pub mod use_pool;
pub mod variants;
