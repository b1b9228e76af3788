//! `POST /functions/v1/events`: what the token's user was shown, watched, liked and skipped.

mod batch;

#[cfg(test)]
mod fuzz;

use super::auth::Identity;
use super::body::{Fields, invalid};
use super::error::ApiError;
use super::router::App;
use super::timing::{Stage, Timing};
use axum::extract::State;
use axum::{Extension, Json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use twotower_store::{EventKind, EventsRecorded, InteractionKind, NewEvent, StoreError};
use uuid::Uuid;

/// Between tries while the primary is away.
const RETRY: Duration = Duration::from_millis(100);

pub(super) async fn record(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Extension(timing): Extension<Timing>,
    Fields(fields): Fields,
) -> Result<Json<EventsRecorded>, ApiError> {
    let events = batch::read(&fields, SystemTime::now())?;
    let _recording = timing.stage(Stage::Database);
    let recorded = keep(&app, identity.user, &events);
    match tokio::time::timeout(app.limits.database, recorded).await {
        Ok(Ok(recorded)) => {
            // Before the answer, after which the user expects to be known by it.
            app.sources.changed(app.subjects.of(identity.user));
            Ok(Json(recorded))
        }
        Ok(Err(StoreError::UnknownVideo(id))) => {
            let place = events.iter().position(|event| event.video == id);
            let place = place.unwrap_or_default();
            Err(invalid(format!(
                "`events[{place}].video_id` names no video"
            )))
        }
        Ok(Err(StoreError::ReadElsewhere(kind))) => Err(elsewhere(&events, kind)),
        Ok(Err(error)) => Err(ApiError::store(&error)),
        Err(_) => Err(ApiError::Timeout {
            stage: "the database",
        }),
    }
}

/// Refuses likes or skips that the application keeps by itself: taken, they would make no like that anybody reads.
fn elsewhere(events: &[NewEvent], kind: InteractionKind) -> ApiError {
    let (kind, table) = match kind {
        InteractionKind::Like => (EventKind::Like, "likes"),
        InteractionKind::Skip => (EventKind::Skip, "skips"),
    };
    let place = events.iter().position(|event| event.kind == kind);
    let (place, kind) = (place.unwrap_or_default(), kind.as_str());
    invalid(format!(
        "`events[{place}].kind` is \"{kind}\", and {table} are read from the application's own table, as section [source] of the server's \
         configuration says: write it there, and send the other events without it"
    ))
}

/// Records `events`; where there is a replica that may take over, again and again while the primary is away and there is time. An event that
/// was kept although nobody said so is kept once: its id tells.
async fn keep(app: &App, user: Uuid, events: &[NewEvent]) -> Result<EventsRecorded, StoreError> {
    let last = Instant::now() + app.limits.database.saturating_sub(2 * RETRY);
    loop {
        let recorded = app.store.record_events(user, events, app.events).await;
        match recorded {
            Err(error)
                if error.is_outage() && app.sources.has_replica() && Instant::now() < last =>
            {
                tokio::time::sleep(RETRY).await;
            }
            recorded => return recorded,
        }
    }
}
