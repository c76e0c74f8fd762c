//! Gives every request an id, so that its lines can be found in the log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{self, FromFn, Next};
use axum::response::Response;
use tower::Layer;
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
        middleware::from_fn(with_request_id as Middleware).layer(inner)
    }
}

/// The service that [`RequestIdLayer`] makes.
pub type WithRequestId<S> = FromFn<Middleware, (), S, (Request,)>;

/// What runs around the inner service.
pub type Middleware = fn(Request, Next) -> Pin<Box<dyn Future<Output = Response> + Send>>;

fn with_request_id(
    mut request: Request,
    next: Next,
) -> Pin<Box<dyn Future<Output = Response> + Send>> {
    let id = RequestId::brought_by(request.headers()).unwrap_or_else(RequestId::fresh);
    request.headers_mut().remove(HEADER);
    request.headers_mut().append(HEADER, id.to_header());
    request.extensions_mut().insert(id.clone());
    let span = info_span!("request", request_id = id.as_str());
    let answer = async move {
        let mut response = next.run(request).await;
        response.headers_mut().insert(HEADER, id.to_header());
        response
    };
    Box::pin(answer.instrument(span))
}
