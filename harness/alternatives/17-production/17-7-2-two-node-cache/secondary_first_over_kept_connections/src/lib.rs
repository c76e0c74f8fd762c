//! The session cache of a ticket shop: two nodes, one in each rack, that hold the same keys.
//!
//! Not a database: everything is in memory, and when both nodes are down at once all is lost.

mod cache;
pub mod net;
mod state;
mod wire;

use std::time::Duration;

pub use cache::Cache;
use thiserror::Error;

/// Which of the two nodes this is. There is exactly one of each, and that never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Secondary,
}

/// What the cache promises. Both nodes are configured alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Linearizable on both nodes. What happens without the other node is a choice.
    Strong(OnLoss),
    /// Available on both nodes, whatever happens; they agree in the end.
    Eventual,
}

/// What a strong cache does while its nodes cannot reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// Keeps its promise and refuses what would break it.
    RefuseWrites,
    /// Gives the promise up, visibly, until the nodes have found each other again.
    FailOpen,
}

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Config {
    pub role: Role,
    pub consistency: Consistency,
    /// The TCP port to listen on for the other node.
    pub port: u16,
    /// Where the other node listens, as `host:port`.
    pub peer: String,
    /// The time from one heartbeat to the next; above zero.
    pub heartbeat_every: Duration,
    /// How long the other node may leave heartbeats unanswered before it counts as lost; several
    /// times `heartbeat_every`, and more than `exchange_timeout`.
    pub lost_after: Duration,
    /// The longest wait for an answer that the other node can give alone; above zero.
    pub exchange_timeout: Duration,
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A read is linearizable; a write is held by both nodes.
    Strong,
    /// A read may be stale; a write is held by at least one node, and spreads later.
    Eventual,
}

/// What a node knows of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It has answered a heartbeat within [`Config::lost_after`], or this node has just started.
    Reachable,
    /// It has not.
    Lost,
}

/// The state of a node, as a dashboard shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What this node can promise at the moment. [`Mode::Eventual`] in an eventual cache, and in a
    /// strong one that fails open while its nodes are not together.
    pub mode: Mode,
    pub peer: Peer,
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// `None` if the key was never written or has been removed.
    pub value: Option<String>,
    pub mode: Mode,
}

/// The answer to a write that has taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub mode: Mode,
}

/// Why a node does not do what it is asked: could not serve, because …
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    #[error("the other node cannot be reached")]
    PeerLost,
    #[error("the nodes are not together yet")]
    CatchingUp,
    /// The last write to this key is neither known to have happened nor known not to.
    #[error("only the other node knows how the last write to this key ended")]
    InDoubt,
}

/// Why a write is not confirmed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// It has not taken effect, and never will.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// It may have taken effect, or may do so later. Later reads agree on one of the two.
    #[error("the other node has not answered, and may or may not have the write")]
    Unknown,
}
