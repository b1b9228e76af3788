//! `POST /functions/v1/similar_videos`: videos that are similar to a given one, for the token's
//! user.

use super::answer::{Recommendation, Shortfall, Source, recommendations, shortfall};
use super::query::Query;
use super::rank::{self, Origin};
use super::{StateOutcome, current, last_known, list_request, ranked, user_state};
use crate::serve::auth::Identity;
use crate::serve::body::{Fields, invalid};
use crate::serve::error::ApiError;
use crate::serve::replica::Asked;
use crate::serve::router::App;
use crate::serve::timing::Timing;
use crate::time::rfc3339;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::SystemTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// Fields of a query that have no effect here: the list does not result from likes, and nothing is
/// drawn at random.
const UNUSED_FIELDS: [&str; 2] = ["include_reasons", "seed"];

/// Videos that are similar to another one.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct SimilarVideos {
    /// The video that they are similar to.
    video_id: Uuid,
    source: Source,
    /// The model version that answered.
    #[schema(required = true)]
    model_version: Option<i64>,
    /// In the order to show them.
    #[schema(value_type = Vec<Recommendation>, max_items = 100)]
    recommendations: Arc<[Recommendation]>,
    /// Whether it was made without knowledge of the latest likes of the user.
    partial: bool,
    #[schema(format = DateTime)]
    generated_at: String,
    /// Why there are fewer videos than asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<Shortfall>,
}

pub(in crate::serve) async fn similar(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Extension(timing): Extension<Timing>,
    Fields(fields): Fields,
) -> Result<Response, ApiError> {
    let (query, video) = read(&fields)?;
    let snapshot = current(&app, identity.user)?;
    let position = snapshot
        .videos
        .position(video)
        .filter(|&position| rank::is_recommended(&snapshot, position, &app.policy))
        .ok_or(ApiError::UnknownVideo)?;
    let asked = Asked {
        user: identity.user,
        subject: app.subjects.of(identity.user),
    };
    let (state, partial) = match user_state(&app, asked, &timing).await? {
        StateOutcome::Read {
            state, verified, ..
        } => (state, !verified),
        StateOutcome::Late { answers } => (last_known(&app, answers.as_deref()), true),
    };
    let slow = list_request(&snapshot, &state, &query, &app).is_slow_similar();
    let shared = Arc::clone(&app);
    let answer = ranked(&app.scoring, &timing, slow, move || {
        let request = list_request(&snapshot, &state, &query, &shared);
        let ranking = rank::rank_similar(&request, position);
        SimilarVideos {
            video_id: video,
            source: match ranking.origin {
                Origin::TwoTower => Source::TwoTower,
                Origin::Popular => Source::Popular,
            },
            model_version: snapshot.version(),
            recommendations: recommendations(&snapshot, &ranking.picks),
            partial,
            generated_at: rfc3339(SystemTime::now()),
            reason: shortfall(&ranking, query.limit),
        }
    });
    Ok(Json(answer.await?).into_response())
}

/// The query, and the video to which the others are to be similar.
pub(super) fn read(fields: &Map<String, Value>) -> Result<(Query, Uuid), ApiError> {
    let query = Query::parse_beside(fields, "video_id", &UNUSED_FIELDS)?;
    let video = fields
        .get("video_id")
        .and_then(Value::as_str)
        .and_then(|text| Uuid::try_parse(text).ok())
        .ok_or_else(|| invalid("`video_id` must be a UUID"))?;
    Ok((query, video))
}
