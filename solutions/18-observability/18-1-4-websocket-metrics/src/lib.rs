//! What the WebSocket server exposes.
//!
//! The server calls these methods from its connection tasks and from its housekeeping; the exporter
//! gathers the registry when Prometheus scrapes it. Where the queries lie is [`QUERIES`].

use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The file of the queries, in this folder.
pub const QUERIES: &str = "queries.toml";

/// From this much silence on a connection counts as idle.
const IDLE: Duration = Duration::from_secs(3_600);

/// What the server's housekeeping finds every 30 s.
#[derive(Clone, Copy, Debug)]
pub struct Sweep<'a> {
    /// How long each open connection has been silent, in both directions.
    pub idle: &'a [Duration],
    /// File descriptors that the process has open.
    pub open_descriptors: u64,
    /// File descriptors that the system lets it have.
    pub max_descriptors: u64,
}

/// The metrics of one server. Cheap to clone; clones count into the same metrics.
///
/// None of them has a label of a connection: their number does not depend on how many there are.
#[derive(Clone, Debug)]
pub struct SocketMetrics {
    active: IntGauge,
    opened: IntCounter,
    closed: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    idle: IntGauge,
    open_descriptors: IntGauge,
    max_descriptors: IntGauge,
}

impl SocketMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When the registry already has a metric of one of the names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let messages = IntCounterVec::new(
            Opts::new("ws_messages_total", "Messages of all connections."),
            &["direction"],
        )?;
        registry.register(Box::new(messages.clone()))?;
        Ok(SocketMetrics {
            active: gauge("ws_connections_active", "Connections that are open.")?,
            opened: counter("ws_connections_opened_total", "Connections opened.")?,
            closed: counter("ws_connections_closed_total", "Connections closed.")?,
            received: messages.with_label_values(&["received"]),
            sent: messages.with_label_values(&["sent"]),
            idle: gauge(
                "ws_connections_idle",
                "Connections that have been silent for over an hour, every 30 s.",
            )?,
            open_descriptors: gauge("process_open_fds", "Open file descriptors.")?,
            max_descriptors: gauge("process_max_fds", "Most file descriptors there may be.")?,
        })
    }

    /// A connection has been opened; its number is unique in the life of the process.
    pub fn opened(&self, _connection: u32) {
        self.opened.inc();
        self.active.inc();
    }

    /// A connection has been closed.
    pub fn closed(&self, _connection: u32) {
        self.closed.inc();
        self.active.dec();
    }

    /// A message has come in.
    pub fn received(&self, _connection: u32) {
        self.received.inc();
    }

    /// A message has gone out.
    pub fn sent(&self, _connection: u32) {
        self.sent.inc();
    }

    /// Housekeeping has looked at all connections.
    pub fn sweep(&self, sweep: &Sweep<'_>) {
        let idle = sweep.idle.iter().filter(|idle| **idle > IDLE).count();
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.idle.set(i64::try_from(idle).unwrap_or(i64::MAX));
        self.open_descriptors.set(whole(sweep.open_descriptors));
        self.max_descriptors.set(whole(sweep.max_descriptors));
    }
}
