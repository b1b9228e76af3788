//! `POST /functions/v1/events`: what the token's user was shown, watched, liked and skipped.

mod batch;

mod write_limiter;

#[cfg(test)]
mod fuzz;

pub(super) use write_limiter::WriteLimiter;

use super::auth::Identity;
use super::body::{Fields, invalid};
use super::error::ApiError;
use super::router::App;
use super::timing::{Stage, Timing};
use axum::extract::State;
use axum::{Extension, Json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep, timeout};
use twotower_store::{EventKind, EventsRecorded, InteractionKind, NewEvent, StoreError};
use uuid::Uuid;
use write_limiter::{Refusal, WritePermit};

/// Time between two tries while the primary is away.
const RETRY: Duration = Duration::from_millis(100);

pub(super) async fn record(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Extension(timing): Extension<Timing>,
    Fields(fields): Fields,
) -> Result<Json<EventsRecorded>, ApiError> {
    let events = batch::read(&fields, SystemTime::now())?;
    // Before admission, where a call may be taken for the probe of an open circuit.
    let charge = Charge::take(&app, identity.user, &events)?;
    let permit = {
        let _recording = timing.stage(Stage::Queue);
        let admitted = app.event_writes.admit(identity.user).await;
        admitted.map_err(|refusal| refused(&app, refusal))?
    };
    let _recording = timing.stage(Stage::Database);
    // A task of its own, which goes on if the caller hangs up: to cut the write off would cost the
    // connection, and would hide from the breaker that writes hang.
    let writing = tokio::spawn(write(
        Arc::clone(&app),
        identity.user,
        events,
        permit,
        charge,
    ));
    writing.await.map_err(ApiError::internal)?.map(Json)
}

/// Events that a call takes of what its user may record. Each is a row that is kept for months, so
/// they are limited by their number and not by that of calls.
///
/// Dropping it gives them back, unless they were recorded: an outage must not use up what a user may
/// record afterwards, and a user whose writes hang must go on counting for the circuit breaker.
struct Charge {
    app: Arc<App>,
    user: Uuid,
    events: u32,
    is_kept: bool,
}

impl Charge {
    fn take(app: &Arc<App>, user: Uuid, events: &[NewEvent]) -> Result<Self, ApiError> {
        // At most a hundred.
        let events = events.len() as u32;
        let limited = app.user_events.as_ref().zip(app.limits.user_events);
        if let Some((rates, rate)) = limited {
            rates.take(user, events).map_err(|wait| {
                app.metrics.shed("user_events");
                ApiError::TooManyEvents { rate, wait }
            })?;
        }
        Ok(Self {
            app: Arc::clone(app),
            user,
            events,
            is_kept: false,
        })
    }

    /// Of a call whose events were recorded.
    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(rates) = self.app.user_events.as_ref().filter(|_| !self.is_kept) {
            rates.give_back(self.user, self.events);
        }
    }
}

fn refused(app: &App, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::TooManyCalls => {
            app.metrics.shed("user_calls");
            ApiError::TooManyRequests {
                wait: Duration::ZERO,
            }
        }
        Refusal::ConnectionDeadline => {
            app.metrics.shed("queue_deadline");
            ApiError::Overloaded
        }
        Refusal::UserDeadline => ApiError::Timeout {
            stage: "the database",
        },
        Refusal::CircuitOpen { wait } => {
            app.metrics.shed("circuit_open");
            ApiError::WritesFail { wait }
        }
    }
}

async fn write(
    app: Arc<App>,
    user: Uuid,
    events: Vec<NewEvent>,
    permit: WritePermit,
    charge: Charge,
) -> Result<EventsRecorded, ApiError> {
    let outcome = timeout(app.limits.database, insert(&app, user, &events)).await;
    let outcome = outcome.ok();
    app.event_writes.learn(user, outcome.as_ref());
    drop(permit);
    match outcome {
        Some(Ok(recorded)) => {
            charge.keep();
            let changes_state = |event: &NewEvent| match event.kind {
                EventKind::Like | EventKind::Skip => true,
                EventKind::Impression | EventKind::View => false,
            };
            if events.iter().any(changes_state) {
                // Before the answer, after which the user expects lists to reflect the events.
                app.user_changed(user);
            }
            Ok(recorded)
        }
        Some(Err(StoreError::UnknownVideo(id))) => {
            let place = events.iter().position(|event| event.video == id);
            let place = place.unwrap_or_default();
            Err(invalid(format!(
                "`events[{place}].video_id` names no video"
            )))
        }
        Some(Err(StoreError::ReadElsewhere(kind))) => Err(read_elsewhere(&events, kind)),
        Some(Err(error)) => Err(ApiError::store(&error)),
        None => Err(ApiError::Timeout {
            stage: "the database",
        }),
    }
}

/// Refuses likes or skips where the application keeps them in its own table: recorded here, they
/// would be read by nothing.
fn read_elsewhere(events: &[NewEvent], kind: InteractionKind) -> ApiError {
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

/// Records `events`. Where a replica may be promoted, retries while the primary is away and time is
/// left. An event that was recorded although its outcome was lost is recorded once, by its id.
async fn insert(app: &App, user: Uuid, events: &[NewEvent]) -> Result<EventsRecorded, StoreError> {
    let last = Instant::now() + app.limits.database.saturating_sub(2 * RETRY);
    loop {
        let recorded = app.store.record_events(user, events, app.events).await;
        match recorded {
            Err(error)
                if error.is_outage() && app.sources.has_replica() && Instant::now() < last =>
            {
                sleep(RETRY).await;
            }
            recorded => return recorded,
        }
    }
}
