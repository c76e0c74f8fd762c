//! Handles requests: each is split into tasks, and answered when they are done.

use opentelemetry::Context;
use opentelemetry::trace::{SpanKind, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

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
        let context = request.parent.with_span(span);
        let handles: Vec<_> = {
            // The guard belongs to this thread: it must be gone before the first await.
            let _current = context.clone().attach();
            let submit = |task| self.pool.submit(task);
            request.tasks.into_iter().map(submit).collect()
        };
        // A task of its own, so that the request's span ends last even if the caller goes away.
        let ending = tokio::spawn(async move {
            let mut response = Response::default();
            for handle in handles {
                match handle {
                    Err(_) => response.rejected += 1,
                    Ok(handle) => match handle.outcome().await {
                        Ok(()) => response.done += 1,
                        Err(_) => response.failed += 1,
                    },
                }
            }
            context.span().end();
            response
        });
        match ending.await {
            Ok(response) => response,
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        }
    }

    /// Does what is still in the queue, then sends the last spans and shuts the provider down.
    /// The runtime's other tasks go on meanwhile.
    ///
    /// # Errors
    /// When the spans could not be sent in time.
    pub async fn shutdown(self) -> OTelSdkResult {
        self.pool.drain().await;
        let provider = self.provider;
        tokio::task::spawn_blocking(move || {
            provider.force_flush()?;
            provider.shutdown()
        })
        .await
        .unwrap_or_else(|ended| Err(OTelSdkError::InternalFailure(ended.to_string())))
    }
}
