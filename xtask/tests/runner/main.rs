//! The runner from outside: what is typed, what is printed, what happens on a terminal and to
//! files that are not as they should be.
//!
//! The tests that judge do so in a workspace of their own, with labs that are tiny, see
//! [`workspace`].

#![cfg(unix)]

mod deadline;
mod patience;
mod printed;
mod submissions;
mod terminal;
mod typed;
mod untidy;
mod watch;
mod workspace;
