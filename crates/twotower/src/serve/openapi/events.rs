//! Types for the schemas of events. Requests are parsed by hand, for errors that name the mistake.

#![expect(dead_code, reason = "only their schemas are used")]
#![expect(
    clippy::struct_field_names,
    reason = "the names are those of the contract"
)]

use utoipa::ToSchema;
use uuid::Uuid;

/// Events on an app's screens.
#[derive(ToSchema)]
pub(in crate::serve) struct EventsRequest {
    #[schema(min_items = 1, max_items = 100)]
    events: Vec<Event>,
}

/// One event.
#[derive(ToSchema)]
struct Event {
    /// Made by the sender, a new one for each event. An event that is sent again with the same id counts once.
    event_id: Uuid,
    kind: EventKind,
    video_id: Uuid,
    /// Share of the video that was watched; for views only.
    #[schema(required = false, minimum = 0, maximum = 1)]
    watch_fraction: f32,
    /// The `model_version` of the list in which the video was shown.
    #[schema(required = false, minimum = 1)]
    model_version: i64,
    /// The `X-Request-Id` of that list.
    #[schema(required = false, min_length = 1, max_length = 64)]
    request_id: String,
    /// Place in that list, from 1.
    #[schema(required = false, minimum = 1, maximum = 100)]
    position: u32,
    /// Time of the event, at most 7 days ago and 5 minutes ahead; now if not given.
    #[schema(required = false, format = DateTime)]
    at: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum EventKind {
    /// It was shown in a list.
    Impression,
    /// It was watched.
    View,
    Like,
    Skip,
}

/// Outcome of the call.
#[derive(ToSchema)]
pub(in crate::serve) struct EventsRecorded {
    /// Number of events that were recorded.
    accepted: u64,
    /// Number of events that had been recorded before.
    duplicates: u64,
}
