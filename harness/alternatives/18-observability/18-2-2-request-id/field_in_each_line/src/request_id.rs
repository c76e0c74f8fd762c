//! Gives every request an id, so that its lines can be found in the log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};
use tracing::field::Empty;
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

    /// The id that a request brings, if it is one, and the only one.
    fn brought_by(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(HEADER).iter();
        let (Some(only), None) = (given.next(), given.next()) else {
            return None;
        };
        let id = only.to_str().ok()?;
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let valid = (1..=LONGEST).contains(&id.len()) && id.bytes().all(harmless);
        valid.then(|| RequestId(id.into()))
    }

    /// The id as the value of a header.
    fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("the characters of an id may stand in a header")
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
        let id = RequestId::brought_by(request.headers()).unwrap_or_else(RequestId::fresh);
        request.headers_mut().insert(HEADER, id.to_header());
        request.extensions_mut().insert(id.clone());
        let span = info_span!("request", request_id = Empty);
        span.record("request_id", id.as_str());
        // The clone has not been asked whether it is ready; the service that has is the one to call.
        let fresh = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, fresh);
        // Within the span from the beginning: a service may log, or spawn, before its first await.
        let answer = span.in_scope(|| ready.call(request));
        let answer = async move {
            let mut response = answer.await?;
            response.headers_mut().insert(HEADER, id.to_header());
            Ok(response)
        };
        Box::pin(answer.instrument(span))
    }
}
