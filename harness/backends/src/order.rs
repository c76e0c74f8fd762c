//! What `backends` says to `start-containers`, the program that starts containers for it, and what
//! it is answered: lines of JSON on one connection for each container. Compiled into both.
//!
//! An [`Order`] comes first, an [`Answer`] follows. Each further line from either side is about
//! the container's output: a [`LogOrder`], answered by the text as a string. When the connection is
//! closed for writing, the container is removed, and then the other half is closed too.

use serde::{Deserialize, Serialize};

/// The container to start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) image: String,
    pub(crate) tag: String,
    /// The value of the label `nightshift`.
    pub(crate) label: String,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Absolute paths in the container, and what the files hold.
    pub(crate) files: Vec<(String, String)>,
    pub(crate) network: Network,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Network {
    /// The one of the machine.
    Host,
    /// Its own, with one port published.
    Published {
        port: u16,
        inside: u16,
        /// On the loopback interface only, rather than on every one.
        on_loopback: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It runs; the engine's name for it.
    Started { id: String },
    /// The image cannot be had.
    Absent(String),
    /// It does not start.
    Broken(String),
}

/// Asks for what the container has printed on both of its streams.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogOrder;
