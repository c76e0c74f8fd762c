//! How long the requests of the price service take, as a metric.
//!
//! Every handler wraps its work in [`Latency::timed`]; the exporter gathers the registry when
//! Prometheus scrapes it.

use std::future::Future;

use prometheus::{Histogram, HistogramOpts, Registry};
use tokio::time::Instant;

/// From half of an ordinary request to twice of what a user waits for at all. Neighbors are at most
/// a factor of 2.5 apart, which is how far off a quantile can be.
const BOUNDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The latency of requests. Cheap to clone; clones count into the same metric.
#[derive(Clone, Debug)]
pub struct Latency {
    request_duration_seconds: Histogram,
}

impl Latency {
    /// Registers the metric.
    ///
    /// # Errors
    /// When the registry already has a metric of that name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let request_duration_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "request_duration_seconds",
                "From the first poll of a request to its end; canceled requests included.",
            )
            .buckets(BOUNDS.to_vec()),
        )?;
        registry.register(Box::new(request_duration_seconds.clone()))?;
        Ok(Latency {
            request_duration_seconds,
        })
    }

    /// Waits for a request and records how long it took, from the first poll to its end. Time is
    /// Tokio's.
    ///
    /// Gives what the request gives.
    pub async fn timed<F: Future>(&self, request: F) -> F::Output {
        let _observed = ObservedOnDrop {
            histogram: &self.request_duration_seconds,
            began: Instant::now(),
        };
        request.await
    }
}

/// Observes a request however it ends: a client that hangs up drops the future, and a panic unwinds
/// through it. Those are the slow ones, and leaving them out flatters the tail.
struct ObservedOnDrop<'a> {
    histogram: &'a Histogram,
    began: Instant,
}

impl Drop for ObservedOnDrop<'_> {
    fn drop(&mut self) {
        self.histogram.observe(self.began.elapsed().as_secs_f64());
    }
}
