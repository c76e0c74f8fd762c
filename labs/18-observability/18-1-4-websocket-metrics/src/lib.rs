//! What the WebSocket server exposes.
//!
//! The server calls these methods from its connection tasks and from its housekeeping; the exporter
//! gathers the registry when Prometheus scrapes it. Where the queries lie is [`QUERIES`].

use std::time::{Duration, Instant};

use prometheus::{IntGaugeVec, Opts, Registry};

/// The file of the queries, in this folder.
pub const QUERIES: &str = "queries.toml";

/// One number of every connection.
const PER_CONNECTION: [&str; 14] = [
    "ws_connection_up",
    "ws_connection_opened_ms",
    "ws_connection_closed_ms",
    "ws_connection_messages",
    "ws_connection_messages_received",
    "ws_connection_messages_sent",
    "ws_connection_first_message_ms",
    "ws_connection_last_message_ms",
    "ws_connection_last_received_ms",
    "ws_connection_last_sent_ms",
    "ws_connection_lifetime_ms",
    "ws_connection_idle_ms",
    "ws_connection_descriptors",
    "ws_connection_descriptor_limit",
];

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
#[derive(Clone, Debug)]
pub struct SocketMetrics {
    of: Vec<IntGaugeVec>,
    started: Instant,
}

impl SocketMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When the registry already has a metric of one of the names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let mut of = Vec::new();
        for name in PER_CONNECTION {
            let help = name.replace("ws_connection_", "").replace('_', " ");
            let vec = IntGaugeVec::new(Opts::new(name, help), &["connection"])?;
            registry.register(Box::new(vec.clone()))?;
            of.push(vec);
        }
        Ok(SocketMetrics {
            of,
            started: Instant::now(),
        })
    }

    /// A connection has been opened; its number is unique in the life of the process.
    pub fn opened(&self, connection: u32) {
        for metric in &self.of {
            metric.with_label_values(&[&connection.to_string()]);
        }
        self.set(0, connection, 1);
        self.set(1, connection, self.now());
        self.set(12, connection, 1);
    }

    /// A connection has been closed.
    pub fn closed(&self, connection: u32) {
        self.set(0, connection, 0);
        self.set(2, connection, self.now());
        self.set(12, connection, 0);
    }

    /// A message has come in.
    pub fn received(&self, connection: u32) {
        self.add(3, connection);
        self.add(4, connection);
        self.set(7, connection, self.now());
        self.set(8, connection, self.now());
    }

    /// A message has gone out.
    pub fn sent(&self, connection: u32) {
        self.add(3, connection);
        self.add(5, connection);
        self.set(7, connection, self.now());
        self.set(9, connection, self.now());
    }

    /// Housekeeping has looked at all connections.
    pub fn sweep(&self, sweep: &Sweep<'_>) {
        for (connection, idle) in (0_u32..).zip(sweep.idle) {
            let idle = i64::try_from(idle.as_millis()).unwrap_or(i64::MAX);
            self.set(11, connection, idle);
            let limit = i64::try_from(sweep.max_descriptors).unwrap_or(i64::MAX);
            self.set(13, connection, limit);
        }
    }

    fn now(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn set(&self, nth: usize, connection: u32, value: i64) {
        self.of[nth]
            .with_label_values(&[&connection.to_string()])
            .set(value);
    }

    fn add(&self, nth: usize, connection: u32) {
        self.of[nth]
            .with_label_values(&[&connection.to_string()])
            .inc();
    }
}
