//! `POST /functions/v1/two_tower_recommendations`: from a token to a ranked list.

mod query;

mod history;

mod rank;

mod answer;

#[cfg(test)]
mod fuzz;

use super::error::ApiError;
use super::router::App;
use answer::Answer;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use query::Query;
use std::sync::Arc;

/// The user's vector is computed from the likes and skips that the database holds at this moment, so a like of a second ago
/// counts.
pub(super) async fn recommend(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let identity = app.auth.authenticate(&headers).await?;
    let query = Query::read(&headers, &body)?;
    let snapshot = app
        .snapshots
        .current()
        .ok_or_else(|| ApiError::Unavailable("no snapshot is loaded".into()))?;
    let past = history::read(&app.store, identity.user, &app.limits).await?;

    // Scoring a large catalogue is milliseconds of pure computation, which must not hold up other connections.
    let _turn = app.scoring.acquire().await.map_err(ApiError::internal)?;
    let answer = tokio::task::spawn_blocking(move || {
        let ranking = rank::rank(&snapshot, &past, query);
        Answer::new(identity.user, &snapshot, &ranking, query.limit)
    })
    .await
    .map_err(ApiError::internal)?;
    Ok(Json(answer).into_response())
}
