//! How long the requests of the price service take, as a metric.

mod guard;

use std::future::Future;
use std::pin::pin;
use std::task::{Poll, ready};

use prometheus::core::Collector as _;
use prometheus::{HistogramOpts, HistogramVec, Registry, exponential_buckets};
use tokio::time::Instant;

use guard::AtEnd;

/// The latency of requests. Cheap to clone; clones count into the same metric.
#[derive(Clone, Debug)]
pub struct Latency {
    durations: HistogramVec,
}

impl Latency {
    /// Registers the metric.
    ///
    /// # Errors
    /// When the registry already has a metric of that name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        // 4 ms, doubled twelve times: up to 16 s.
        let bounds = exponential_buckets(0.004, 2.0, 13)?;
        let options = HistogramOpts::new("request_duration_seconds", "How long requests take.");
        let durations = HistogramVec::new(options.buckets(bounds), &[])?;
        debug_assert_eq!(durations.desc().len(), 1);
        registry.register(Box::new(durations.clone()))?;
        Ok(Latency { durations })
    }

    /// Waits for a request and records how long it took, however it ends.
    pub async fn timed<F: Future>(&self, request: F) -> F::Output {
        let mut request = pin!(request);
        let mut guard = None;
        std::future::poll_fn(move |context| {
            guard.get_or_insert_with(|| {
                let histogram = self.durations.with_label_values::<&str>(&[]);
                let began = Instant::now();
                AtEnd::new(move || histogram.observe((Instant::now() - began).as_secs_f64()))
            });
            let answer = ready!(request.as_mut().poll(context));
            guard.take();
            Poll::Ready(answer)
        })
        .await
    }
}
