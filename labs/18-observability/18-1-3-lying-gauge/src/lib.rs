//! How long the requests of the price service take, as a metric.
//!
//! Every handler wraps its work in [`Latency::timed`]; the exporter gathers the registry when
//! Prometheus scrapes it.

use std::future::Future;

use prometheus::{IntGauge, Registry};
use tokio::time::Instant;

/// The latency of requests. Cheap to clone; clones count into the same metric.
#[derive(Clone, Debug)]
pub struct Latency {
    request_latency_ms: IntGauge,
}

impl Latency {
    /// Registers the metric.
    ///
    /// # Errors
    /// When the registry already has a metric of that name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let request_latency_ms =
            IntGauge::new("request_latency_ms", "Average latency of requests.")?;
        registry.register(Box::new(request_latency_ms.clone()))?;
        Ok(Latency { request_latency_ms })
    }

    /// Waits for a request and records how long it took, from the first poll to its end. Time is
    /// Tokio's.
    ///
    /// Gives what the request gives.
    pub async fn timed<F: Future>(&self, request: F) -> F::Output {
        let began = Instant::now();
        let answer = request.await;
        let took = began.elapsed().as_millis();
        self.request_latency_ms
            .set(i64::try_from(took).unwrap_or(i64::MAX));
        answer
    }
}
