//! The checkout: three lookups at the same time, then an answer, then a line for the auditors.

use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::time::sleep;
use tracing::{Instrument as _, info, warn};

use crate::request_id::RequestIdLayer;

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

async fn checkout(Path(user): Path<String>) -> Result<String, StatusCode> {
    info!(user, "checkout begins");
    // In the handler's own task, and so in its span.
    let (items, (), ()) = tokio::join!(
        load_cart(user.clone()),
        ask_cache(user.clone()),
        ask_rates(user.clone()),
    );
    let Some(items) = items else {
        info!(user, "checkout answered");
        return Err(StatusCode::NOT_FOUND);
    };
    info!(user, "checkout answered");
    let answer = format!("{user} pays for {items} items");
    // The customer does not wait for the auditors.
    tokio::spawn(audit(user).in_current_span());
    Ok(answer)
}

async fn load_cart(user: String) -> Option<usize> {
    sleep(Duration::from_millis(12)).await;
    if user == "nobody" {
        warn!(user, "cart not found");
        return None;
    }
    info!(user, "cart loaded");
    Some(1 + user.len() % 5)
}

async fn ask_cache(user: String) {
    sleep(Duration::from_millis(3)).await;
    info!(user, "cache asked");
}

async fn ask_rates(user: String) {
    info!(user, "rates asked");
    // A call of its own for each currency, so that a slow one does not hold up the others.
    let euro = async move {
        sleep(Duration::from_millis(25)).await;
        info!(user, "rates answered");
    };
    euro.await;
}

async fn audit(user: String) {
    sleep(Duration::from_millis(250)).await;
    info!(user, "audited");
}
