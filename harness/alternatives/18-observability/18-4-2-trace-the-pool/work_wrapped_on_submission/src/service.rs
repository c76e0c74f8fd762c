//! Handles requests: each is split into tasks, and answered when they are done.

use opentelemetry::Context;
use opentelemetry::trace::{
    FutureExt as _, SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::pool::{Pool, Task};

/// The name of a request's span.
pub const REQUEST_SPAN: &str = "handle_request";

/// A request, as it comes from the router.
#[derive(Debug)]
pub struct Request {
    /// What the caller's headers say about its trace; empty if they say nothing.
    pub parent: Context,
    /// What is to be done for it.
    pub tasks: Vec<Task>,
}

/// What became of the tasks of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Done without an error.
    pub done: usize,
    /// Failed or panicked.
    pub failed: usize,
    /// Not taken by the pool.
    pub rejected: usize,
}

/// The service, its pool, and the provider of its traces.
#[derive(Debug)]
pub struct Service {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    pool: Pool,
}

impl Service {
    /// Starts a service with a pool of `workers` workers and a queue of `capacity` tasks. Its spans
    /// go to `provider`, and nowhere else. To be called within a runtime.
    ///
    /// # Panics
    /// When `capacity` is zero.
    pub fn start(provider: SdkTracerProvider, workers: usize, capacity: usize) -> Self {
        let tracer = provider.tracer("photos");
        let pool = Pool::start(workers, capacity, tracer.clone());
        Service {
            provider,
            tracer,
            pool,
        }
    }

    /// The pool, for tasks that belong to no request.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Submits all tasks of a request, and answers when each of them is done or rejected.
    ///
    /// The request leaves one span of the kind `Server`, named [`REQUEST_SPAN`], below the caller's.
    /// It is the parent of the tasks' spans, the last of its trace to end, and has ended when this
    /// returns. When this is dropped before, the tasks are done all the same, and no span is lost.
    pub async fn handle(&self, request: Request) -> Response {
        let span = self
            .tracer
            .span_builder(REQUEST_SPAN)
            .with_kind(SpanKind::Server)
            .start_with_context(&self.tracer, &request.parent);
        let ends = EndsWithIt(request.parent.with_span(span));
        let submit_all = async {
            let submit = |task| self.pool.submit(task);
            request.tasks.into_iter().map(submit).collect::<Vec<_>>()
        };
        let mut response = Response::default();
        let mut running = JoinSet::new();
        for handle in submit_all.with_context(ends.0.clone()).await {
            match handle {
                Ok(handle) => drop(running.spawn(handle.outcome())),
                Err(_) => response.rejected += 1,
            }
        }
        while let Some(outcome) = running.join_next().await {
            match outcome {
                Ok(Ok(())) => response.done += 1,
                _ => response.failed += 1,
            }
        }
        response
    }

    /// Does what is still in the queue, then sends the last spans and shuts the provider down.
    /// The runtime's other tasks go on meanwhile.
    ///
    /// # Errors
    /// When the spans could not be sent in time.
    pub async fn shutdown(self) -> OTelSdkResult {
        self.pool.drain().await;
        let (tell, sent) = oneshot::channel();
        let provider = self.provider;
        std::thread::spawn(move || {
            let flushed = provider.force_flush();
            let _ = tell.send(flushed.and(provider.shutdown()));
        });
        sent.await
            .unwrap_or_else(|ended| Err(OTelSdkError::InternalFailure(ended.to_string())))
    }
}

/// Ends the span of a context when it is dropped, canceled or not.
struct EndsWithIt(Context);

impl Drop for EndsWithIt {
    fn drop(&mut self) {
        self.0.span().end();
    }
}
