//! The checkout: three lookups at the same time, then an answer, then a line for the auditors.

use std::time::Duration;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Router};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::request_id::{RequestId, RequestIdLayer};

/// The service: `GET /checkout/{user}`.
///
/// For each request the log has these lines, each with the field `user`: `checkout begins`,
/// `cart loaded`, `cache asked`, `rates asked`, `rates answered`, `checkout answered`, `audited`.
/// The answer is `ada pays for 4 items`, and comes with the slowest lookup.
/// The user `nobody` has no cart and gets 404: then the log has `cart not found` instead of
/// `cart loaded`, and nothing is audited.
pub fn app() -> Router {
    Router::new()
        .route("/checkout/{user}", get(checkout))
        .layer(RequestIdLayer)
}

async fn checkout(
    Extension(id): Extension<RequestId>,
    Path(user): Path<String>,
) -> Result<String, StatusCode> {
    info!(user, "checkout begins");
    let mut lookups = JoinSet::new();
    lookups.spawn(ask_cache(id.clone(), user.clone()));
    lookups.spawn(ask_rates(id.clone(), user.clone()));
    let cart = tokio::spawn(load_cart(id.clone(), user.clone()));
    let items = cart.await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    while let Some(ended) = lookups.join_next().await {
        ended.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    }
    info!(user, "checkout answered");
    let items = items.ok_or(StatusCode::NOT_FOUND)?;
    let answer = format!("{user} pays for {items} items");
    // The customer does not wait for the auditors.
    tokio::spawn(audit(id, user));
    Ok(answer)
}

async fn load_cart(id: RequestId, user: String) -> Option<usize> {
    sleep(Duration::from_millis(12)).await;
    if user == "nobody" {
        warn!(request_id = id.as_str(), user, "cart not found");
        return None;
    }
    info!(request_id = id.as_str(), user, "cart loaded");
    Some(1 + user.len() % 5)
}

async fn ask_cache(id: RequestId, user: String) {
    sleep(Duration::from_millis(3)).await;
    info!(request_id = id.as_str(), user, "cache asked");
}

async fn ask_rates(id: RequestId, user: String) {
    info!(request_id = id.as_str(), user, "rates asked");
    // A call of its own for each currency, so that a slow one does not hold up the others.
    let euro = tokio::spawn(async move {
        sleep(Duration::from_millis(25)).await;
        info!(request_id = id.as_str(), user, "rates answered");
    });
    let _ = euro.await;
}

async fn audit(id: RequestId, user: String) {
    sleep(Duration::from_millis(250)).await;
    info!(request_id = id.as_str(), user, "audited");
}
