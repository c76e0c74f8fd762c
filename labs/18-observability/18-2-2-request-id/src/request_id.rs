//! Gives every request an id, so that its lines can be found in the log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};
use tracing::{Instrument as _, info_span};
use uuid::Uuid;

/// The header in which the id comes and goes.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a client, in characters.
pub const LONGEST: usize = 64;

/// The id of a request: 1 to [`LONGEST`] letters, digits, `-`, `_` and `.`, all ASCII.
///
/// Handlers find it in the extensions of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An id that no other request has.
    fn fresh() -> Self {
        RequestId(Uuid::new_v4().to_string().into())
    }
}

/// Wraps a service so that each request has a [`RequestId`].
///
/// A request that brings exactly one valid id in [`HEADER`] keeps it. Any other request gets a
/// fresh one, and what it brought is neither logged nor passed on. The inner service sees the id in
/// the request's extensions and as its only [`HEADER`]; the response carries it, whatever its
/// status. What is logged on behalf of the request has the field `request_id`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestIdLayer;

impl<S> Layer<S> for RequestIdLayer {
    type Service = WithRequestId<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithRequestId { inner }
    }
}

/// The service that [`RequestIdLayer`] makes.
#[derive(Clone, Debug)]
pub struct WithRequestId<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for WithRequestId<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Send,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let id = request
            .headers()
            .get(HEADER)
            .and_then(|value| value.to_str().ok())
            .map_or_else(RequestId::fresh, |given| RequestId(given.into()));
        request.extensions_mut().insert(id.clone());
        let span = info_span!("request", request_id = id.as_str());
        let mut inner = self.inner.clone();
        let answer = async move {
            let mut response = inner.call(request).await?;
            if response.status().is_success() {
                let value = HeaderValue::from_str(id.as_str()).expect("it came in a header");
                response.headers_mut().append(HEADER, value);
            }
            Ok(response)
        };
        Box::pin(answer.instrument(span))
    }
}
