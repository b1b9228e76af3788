//! `POST /functions/v1/events`: what the token's user was shown, watched, liked and skipped.

mod batch;

use super::body::{invalid, read_object};
use super::error::ApiError;
use super::router::App;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use axum::{Json, Router};
use std::sync::Arc;
use std::time::SystemTime;
use twotower_store::{EventPolicy, EventsRecorded, StoreError};

pub(super) const PATH: &str = "/functions/v1/events";

/// The route, which keeps what `policy` says.
pub(super) fn router(app: &Arc<App>, policy: EventPolicy) -> Router {
    let app = Arc::clone(app);
    Router::new()
        .route(PATH, post(record))
        .with_state((app, policy))
}

async fn record(
    State((app, policy)): State<(Arc<App>, EventPolicy)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<EventsRecorded>, ApiError> {
    let user = app.auth.authenticate(&headers).await?.user;
    let events = batch::read(&read_object(&headers, &body)?, SystemTime::now())?;
    let recorded = app.store.record_events(user, &events, policy);
    match tokio::time::timeout(app.limits.database, recorded).await {
        Ok(Ok(recorded)) => Ok(Json(recorded)),
        Ok(Err(StoreError::UnknownVideo(id))) => {
            let place = events.iter().position(|event| event.video == id);
            let place = place.unwrap_or_default();
            Err(invalid(format!(
                "`events[{place}].video_id` names no video"
            )))
        }
        Ok(Err(error)) => Err(ApiError::store(&error)),
        Err(_) => Err(ApiError::Timeout {
            stage: "the database",
        }),
    }
}
