//! `POST /functions/v1/events`: what the token's user was shown, watched, liked and skipped.

mod batch;

#[cfg(test)]
mod fuzz;

use super::auth::Identity;
use super::body::{invalid, read_object};
use super::error::ApiError;
use super::router::App;
use super::timing::{Stage, Timing};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use std::sync::Arc;
use std::time::SystemTime;
use twotower_store::{EventsRecorded, StoreError};

pub(super) async fn record(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Extension(timing): Extension<Timing>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<EventsRecorded>, ApiError> {
    let events = batch::read(&read_object(&headers, &body)?, SystemTime::now())?;
    let _recording = timing.stage(Stage::Database);
    let recorded = app.store.record_events(identity.user, &events, app.events);
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
