//! `POST /functions/v1/similar_videos`: what is like a video, for the token's user.

use super::answer::{Recommendation, Shortfall, Source, recommendations, shortfall};
use super::query::Query;
use super::rank::{self, Origin};
use super::state::Unknown;
use super::{current, know, last_known, ranked};
use crate::serve::auth::Identity;
use crate::serve::body::{Fields, invalid};
use crate::serve::error::ApiError;
use crate::serve::replica::{Asked, Known};
use crate::serve::router::App;
use crate::serve::time::rfc3339;
use crate::serve::timing::{Stage, Timing};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::SystemTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// The fields of a request. Likeness to a video is owed to no likes, and nothing is drawn at random.
const FIELDS: [&str; 6] = [
    "video_id",
    "limit",
    "exclude_liked",
    "diversity",
    "min_score",
    "filter",
];

/// Videos that are like another one.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct SimilarVideos {
    /// The video asked about.
    video_id: Uuid,
    source: Source,
    /// The model version that answered.
    #[schema(required = true)]
    model_version: Option<i64>,
    /// In the order to show them.
    #[schema(value_type = Vec<Recommendation>, max_items = 100)]
    recommendations: Arc<[Recommendation]>,
    /// Whether it was made without knowing what the user has liked by now.
    partial: bool,
    #[schema(format = DateTime)]
    generated_at: String,
    /// Why there are fewer than asked for.
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
    let subject = asked.subject;
    let answers = app.answers.of(subject);
    let state = {
        let _recording = timing.stage(Stage::Database);
        app.states.read(asked).await
    };
    let (state, partial) = match state {
        Ok(Known { state, verified }) => {
            let state = Arc::new(state);
            if verified {
                know(&app, &subject, &answers, &state);
            }
            (state, !verified)
        }
        Err(Unknown::Erased) => {
            app.answers.drop_user(&subject);
            return Err(ApiError::Erased);
        }
        Err(Unknown::Failed(error)) => return Err(error),
        Err(Unknown::Late) => {
            let heard = app.subjects.are_heard();
            let earlier = app.answers.of(subject);
            (last_known(&earlier, heard, app.answers.keep()), true)
        }
    };
    let slow = rank::is_slow_similar(&snapshot, &state, &query, &app.policy);
    let shared = Arc::clone(&app);
    let answer = ranked(&app.scoring, &timing, slow, move || {
        let ranking = rank::rank_similar(&snapshot, position, &state, &query, &shared.policy);
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

/// What is asked for, and the video that it is to be like.
pub(super) fn read(fields: &Map<String, Value>) -> Result<(Query, Uuid), ApiError> {
    let query = Query::parse(fields, &FIELDS)?;
    let video = fields
        .get("video_id")
        .and_then(Value::as_str)
        .and_then(|text| Uuid::try_parse(text).ok())
        .ok_or_else(|| invalid("`video_id` must be a UUID"))?;
    Ok((query, video))
}
