//! What users did with what they were shown.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One thing that a user did, or was shown.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Given by the sender. Of two events of one user with the same id, the first counts.
    pub event_id: Uuid,
    /// What happened.
    pub kind: EventKind,
    /// The video that it happened with.
    pub video: Uuid,
    /// Part of the video that was watched, 0 to 1; for views only.
    pub watch_fraction: Option<f32>,
    /// Version of the model that recommended the video, as the sender says.
    pub model_version: Option<i64>,
    /// Id of the request whose answer the video was shown in, 1 to 64 characters.
    pub request_id: Option<String>,
    /// Place of the video in the list, 1 to 100.
    pub position: Option<u8>,
    /// When it happened, microseconds since 1970; `None` for the present time of the store's clock.
    pub at_us: Option<i64>,
}

/// Kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The video was shown.
    Impression,
    /// The video was played.
    View,
    /// The video was liked.
    Like,
    /// The video was skipped.
    Skip,
}

/// Which events are kept. Likes and skips themselves are written in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventPolicy {
    /// All events.
    #[default]
    All,
    /// No event, so that one that is sent again is not noticed either.
    None,
    /// Likes and skips alone.
    LikesAndSkips,
}

/// How many of the events that were sent are new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EventsRecorded {
    /// Number of events that were taken.
    pub accepted: u64,
    /// Number of events that had been sent before.
    pub duplicates: u64,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Impression, Self::View, Self::Like, Self::Skip];

    /// Name of the kind in the database and in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Impression => "impression",
            Self::View => "view",
            Self::Like => "like",
            Self::Skip => "skip",
        }
    }
}

impl EventsRecorded {
    /// Of the events `sent`, `distinct` is one of each id, `kept` what the policy keeps of those, and
    /// `taken` the ids that the table did not have.
    pub(crate) fn of(
        sent: &[NewEvent],
        distinct: &[&NewEvent],
        kept: &[&NewEvent],
        taken: &[Uuid],
    ) -> Self {
        let duplicates = (sent.len() - distinct.len() + kept.len() - taken.len()) as u64;
        Self {
            accepted: sent.len() as u64 - duplicates,
            duplicates,
        }
    }
}

impl EventPolicy {
    pub(crate) fn keeps(self, kind: EventKind) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::LikesAndSkips => matches!(kind, EventKind::Like | EventKind::Skip),
        }
    }
}

/// The events without any whose id came before.
pub(crate) fn distinct(events: &[NewEvent]) -> Vec<&NewEvent> {
    let mut seen = std::collections::HashSet::new();
    events
        .iter()
        .filter(|event| seen.insert(event.event_id))
        .collect()
}

/// Those of `events` of this kind that are new: all that are not kept, and those that the table has
/// taken. Ascending by video, so that two calls of one user cannot wait for each other.
pub(crate) fn liked_or_skipped<'a>(
    events: &[&'a NewEvent],
    policy: EventPolicy,
    taken: &[Uuid],
    kind: EventKind,
) -> Vec<&'a NewEvent> {
    let mut new: Vec<&NewEvent> = events
        .iter()
        .filter(|event| event.kind == kind)
        .filter(|event| !policy.keeps(kind) || taken.contains(&event.event_id))
        .copied()
        .collect();
    new.sort_by_key(|event| event.video);
    new.dedup_by_key(|event| event.video);
    new
}

/// The columns of events that are to be kept, one list each.
#[derive(Debug, Default)]
pub(crate) struct Columns<'a> {
    pub(crate) event_ids: Vec<Uuid>,
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) videos: Vec<Uuid>,
    pub(crate) model_versions: Vec<Option<i64>>,
    pub(crate) request_ids: Vec<Option<&'a str>>,
    pub(crate) positions: Vec<Option<i16>>,
    pub(crate) watch_fractions: Vec<Option<f32>>,
    pub(crate) times: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(events: &[&'a NewEvent]) -> Self {
        let mut columns = Self::default();
        for event in events {
            columns.event_ids.push(event.event_id);
            columns.kinds.push(event.kind.as_str());
            columns.videos.push(event.video);
            columns.model_versions.push(event.model_version);
            columns.request_ids.push(event.request_id.as_deref());
            columns.positions.push(event.position.map(i16::from));
            columns.watch_fractions.push(event.watch_fraction);
            columns.times.push(event.at_us);
        }
        columns
    }

    /// When the first of those happened that say when; `None` where none of them does.
    pub(crate) fn earliest_us(&self) -> Option<i64> {
        self.times.iter().flatten().min().copied()
    }
}
