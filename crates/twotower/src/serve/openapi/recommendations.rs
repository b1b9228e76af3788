//! Bodies of the recommendation endpoint, as schemas.

#![expect(
    clippy::struct_field_names,
    reason = "the names are those of the contract"
)]
#![expect(
    dead_code,
    reason = "types for their schemas: requests are read by hand, to name what is wrong, and answers are written where they are made"
)]

use utoipa::ToSchema;
use uuid::Uuid;

/// What the caller asks for. Every field may be absent, and so may the body.
#[derive(ToSchema)]
pub(in crate::serve) struct RecommendationsRequest {
    /// Most videos.
    #[schema(required = false, minimum = 1, maximum = 100, default = 10)]
    limit: u32,
    /// Leave out what the user has liked.
    #[schema(required = false, default = true)]
    exclude_liked: bool,
}

/// A list of videos for one user.
#[derive(ToSchema)]
pub(in crate::serve) struct Recommendations {
    /// The token's user.
    user_id: Uuid,
    source: Source,
    /// The model version that answered.
    #[schema(required = true)]
    model_version: Option<i64>,
    /// Best first.
    #[schema(max_items = 100)]
    recommendations: Vec<Recommendation>,
    /// Whether a deadline made it less than it could be.
    partial: bool,
    /// Whether it was computed for an earlier request.
    cached: bool,
    #[schema(format = DateTime)]
    generated_at: String,
    /// Why there are fewer than asked for.
    #[schema(nullable = false)]
    reason: Option<ShortReason>,
}

/// Where a list comes from.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Source {
    /// The user's vector against the videos' vectors.
    TwoTower,
    /// The most liked videos.
    Popular,
}

#[derive(ToSchema)]
struct Recommendation {
    video_id: Uuid,
    title: String,
    /// To compare within one list only.
    score: f32,
    /// Why it is here although it would not be by its score.
    #[schema(nullable = false)]
    reason: Option<VideoReason>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum ShortReason {
    /// There is nothing left that the request allows.
    CatalogueExhausted,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum VideoReason {
    /// There was nothing else left.
    SkippedBefore,
}
