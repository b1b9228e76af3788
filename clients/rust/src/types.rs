//! From docs/openapi.json by clients/generate.py; changes belong there.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The body of an answer: one result for each user, in the order asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Batch {
    /// At most 100 items.
    pub results: Vec<BatchResult>,
}

/// What the caller asks for. Every field may be absent, and so may the body.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BatchRequest {
    /// 0: best scores first; 1: as different from each other as possible. 0 to 1; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diversity: Option<f32>,
    /// Leave out videos that the user has liked. True if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_liked: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Name the likes behind each recommendation. False if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_reasons: Option<bool>,
    /// Maximum number of videos. 1 to 100; 10 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Leave out videos with a lower score. -1 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f32>,
    /// Seed of random draws: the same seed gives the same draw. 0 to 9007199254740991.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The users to make lists for. 1 to 100 items.
    pub user_ids: Vec<Uuid>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BatchResultError {
    pub error: Failure,
    pub user_id: Uuid,
}

/// A list, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum BatchResult {
    /// [`Recommendations`]
    Recommendations(Recommendations),
    /// [`BatchResultError`]
    Error(BatchResultError),
}

/// A like behind a recommendation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Because {
    /// By how much the score would fall without that like.
    pub contribution: f32,
    pub title: String,
    pub video_id: Uuid,
}

/// Names of which a video must have at least one, and names of which it must have none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Choice {
    /// At least one of these; empty for no such condition. At most 50 items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<Name>>,
    /// None of these. At most 50 items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<Vec<Name>>,
}

/// The body of every error answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorBody {
    pub error: ErrorDetails,
}

/// For programs.
#[derive(Debug, Clone, PartialEq, Copy, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// `invalid_request`
    InvalidRequest,
    /// `unauthorized`
    Unauthorized,
    /// `forbidden`
    Forbidden,
    /// `not_found`
    NotFound,
    /// `method_not_allowed`
    MethodNotAllowed,
    /// `payload_too_large`
    PayloadTooLarge,
    /// `too_many_requests`
    TooManyRequests,
    /// `overloaded`
    Overloaded,
    /// `unavailable`
    Unavailable,
    /// `timeout`
    Timeout,
    /// `internal`
    Internal,
    /// One that a later server has and this version does not know.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorDetails {
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// As in the header `X-Request-Id`, and in the log.
    pub request_id: String,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Time of the event, at most 7 days ago and 5 minutes ahead; now if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Made by the sender, a new one for each event. An event that is sent again with the same id counts once.
    pub event_id: Uuid,
    pub kind: EventKind,
    /// The `model_version` of the list in which the video was shown. At least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<u64>,
    /// Place in that list, from 1. 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// The `X-Request-Id` of that list. 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub video_id: Uuid,
    /// Share of the video that was watched; for views only. 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch_fraction: Option<f32>,
}

#[derive(Debug, Clone, PartialEq, Copy, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// `impression`
    Impression,
    /// `view`
    View,
    /// `like`
    Like,
    /// `skip`
    Skip,
}

/// Outcome of the call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventsRecorded {
    /// Number of events that were recorded. At least 0.
    pub accepted: u64,
    /// Number of events that had been recorded before. At least 0.
    pub duplicates: u64,
}

/// Events on an app's screens.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EventsRequest {
    /// 1 to 100 items.
    pub events: Vec<Event>,
}

/// As in the body of an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    pub code: ErrorCode,
    pub message: String,
}

/// Conditions that videos must meet, all of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Days since publication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_days: Option<Range>,
    /// Genres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genres: Option<Choice>,
    /// Makers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub makers: Option<Choice>,
    /// Names of performers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performers: Option<Choice>,
    /// Price in the application's currency; a video without one is outside every range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Range>,
    /// Names of tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Choice>,
}

/// 1 to 100 characters.
pub type Name = String;

/// Inclusive bounds. If `min` exceeds `max`, nothing matches.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Range {
    /// -1000000000000 to 1000000000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// -1000000000000 to 1000000000000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
}

/// Why a video is in a list.
#[derive(Debug, Clone, PartialEq, Copy, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// `because_you_liked`
    BecauseYouLiked,
    /// `popular`
    Popular,
    /// `new`
    New,
    /// `skipped_before`
    SkippedBefore,
    /// One that a later server has and this version does not know.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recommendation {
    /// Likes behind the recommendation, the most important one first. At most 3 items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<Vec<Because>>,
    /// Probability with which it was drawn, if it was drawn at random. 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f32>,
    /// Why it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Only comparable within one list.
    pub score: f32,
    pub title: String,
    pub video_id: Uuid,
}

/// A list of videos for one user. The Supabase Edge Function answers in the same form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recommendations {
    /// Whether it was made for an earlier request.
    pub cached: bool,
    pub generated_at: String,
    /// The model version that answered.
    pub model_version: Option<i64>,
    /// Whether it was made without knowledge of the latest likes of the user.
    pub partial: bool,
    /// Why there are fewer videos than asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Shortfall>,
    /// In the order to show them. At most 100 items.
    pub recommendations: Vec<Recommendation>,
    pub source: Source,
    /// The user whom it is for.
    pub user_id: Uuid,
}

/// What the caller asks for. Every field may be absent, and so may the body.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RecommendationsRequest {
    /// 0: best scores first; 1: as different from each other as possible. 0 to 1; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diversity: Option<f32>,
    /// Leave out videos that the user has liked. True if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_liked: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Name the likes behind each recommendation. False if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_reasons: Option<bool>,
    /// Maximum number of videos. 1 to 100; 10 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Leave out videos with a lower score. -1 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f32>,
    /// Seed of random draws: the same seed gives the same draw. 0 to 9007199254740991.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Why a list is shorter than asked for.
#[derive(Debug, Clone, PartialEq, Copy, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Shortfall {
    /// `catalogue_exhausted`
    CatalogueExhausted,
    /// `min_score`
    MinScore,
    /// One that a later server has and this version does not know.
    #[serde(other)]
    Unknown,
}

/// Videos that are similar to another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SimilarVideos {
    pub generated_at: String,
    /// The model version that answered.
    pub model_version: Option<i64>,
    /// Whether it was made without knowledge of the latest likes of the user.
    pub partial: bool,
    /// Why there are fewer videos than asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Shortfall>,
    /// In the order to show them. At most 100 items.
    pub recommendations: Vec<Recommendation>,
    pub source: Source,
    /// The video that they are similar to.
    pub video_id: Uuid,
}

/// What the caller asks for. Every field may be absent, and so may the body.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SimilarVideosRequest {
    /// 0: best scores first; 1: as different from each other as possible. 0 to 1; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diversity: Option<f32>,
    /// Leave out videos that the user has liked. True if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_liked: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Maximum number of videos. 1 to 100; 10 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Leave out videos with a lower score. -1 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_score: Option<f32>,
    /// The video to find similar ones for.
    pub video_id: Uuid,
}

/// Where a list comes from.
#[derive(Debug, Clone, PartialEq, Copy, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// `two_tower`
    TwoTower,
    /// `popular`
    Popular,
    /// `stale_cache`
    StaleCache,
    /// One that a later server has and this version does not know.
    #[serde(other)]
    Unknown,
}
