//! What the WebSocket server exposes.

use std::time::Duration;

use prometheus::{GaugeVec, Histogram, IntCounterVec, IntGauge, Registry, histogram_opts, opts};

/// The file of the queries, in this folder.
pub const QUERIES: &str = "queries.toml";

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

/// The metrics of one server.
#[derive(Clone, Debug)]
pub struct SocketMetrics {
    events: IntCounterVec,
    idle: Histogram,
    descriptors: GaugeVec,
    peak: IntGauge,
}

impl SocketMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When the registry already has a metric of one of the names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let bounds = vec![60.0, 600.0, 3_600.0, 14_400.0];
        let metrics = SocketMetrics {
            events: IntCounterVec::new(opts!("chat_events_total", "What happened."), &["event"])?,
            idle: Histogram::with_opts(
                histogram_opts!(
                    "chat_idle_seconds",
                    "Silence of each connection, each 30 s."
                )
                .buckets(bounds),
            )?,
            descriptors: GaugeVec::new(
                opts!("chat_descriptors_ratio", "Open descriptors over the limit."),
                &["of"],
            )?,
            peak: IntGauge::new("chat_connections", "Connections now.")?,
        };
        for event in ["opened", "closed", "received", "sent"] {
            metrics.events.with_label_values(&[event]);
        }
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.idle.clone()))?;
        registry.register(Box::new(metrics.descriptors.clone()))?;
        registry.register(Box::new(metrics.peak.clone()))?;
        Ok(metrics)
    }

    fn count(&self, event: &str) {
        self.events.with_label_values(&[event]).inc();
    }

    /// A connection has been opened.
    pub fn opened(&self, _connection: u32) {
        self.count("opened");
        self.peak.add(1);
    }

    /// A connection has been closed.
    pub fn closed(&self, _connection: u32) {
        self.count("closed");
        self.peak.sub(1);
    }

    /// A message has come in.
    pub fn received(&self, _connection: u32) {
        self.count("received");
    }

    /// A message has gone out.
    pub fn sent(&self, _connection: u32) {
        self.count("sent");
    }

    /// Housekeeping has looked at all connections.
    pub fn sweep(&self, sweep: &Sweep<'_>) {
        for idle in sweep.idle {
            self.idle.observe(idle.as_secs_f64());
        }
        let used = sweep.open_descriptors as f64 / sweep.max_descriptors as f64;
        self.descriptors.with_label_values(&["process"]).set(used);
    }
}
