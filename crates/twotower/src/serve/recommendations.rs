//! `POST /functions/v1/two_tower_recommendations` and its kin: from a token to a ranked list.

mod query;

mod policy;

mod listen;

mod state;

mod cache;

mod rank;

mod explore;

mod explain;

mod answer;

mod similar;

mod batch;

pub use policy::Policy;

pub(super) use batch::batch;
pub(super) use cache::AnswerCache;
pub(super) use listen::{Subjects, listen};
pub(super) use similar::similar;
pub(super) use state::UserStates;

use super::error::ApiError;
use super::router::App;
use super::snapshot::Snapshot;
use answer::Answer;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use cache::Made;
use query::Query;
use state::Unknown;
use std::sync::Arc;
use twotower_store::UserState;
use uuid::Uuid;

/// The user's vector is computed from the likes and skips that the database holds at this moment, so a like of a second ago
/// counts.
pub(super) async fn recommend(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let identity = app.auth.authenticate(&headers).await?;
    let query = Query::read(&headers, &body)?;
    let answer = answer(&app, identity.user, &query).await?;
    Ok(Json(answer).into_response())
}

/// The list for `user`: made now, or made before of the very same; and while the database does not say in time what the user likes, an
/// earlier one, or popular videos.
async fn answer(app: &Arc<App>, user: Uuid, query: &Query) -> Result<Answer, ApiError> {
    let snapshot = current(app)?;
    let subject = app.subjects.of(user);
    let answers = app.answers.of(subject);
    let keep = app.answers.keep();
    let text = query.text();
    match app.states.read(user).await {
        Ok(state) => {
            let made = Made {
                snapshot: snapshot.revision,
                state: app.states.hash(&state),
            };
            let (app, query, slow) = (Arc::clone(app), query.clone(), snapshot.is_slow());
            ranked(&Arc::clone(&app), slow, move || {
                answers.get_or_make(&text, made, keep, || {
                    let ranking = rank::rank(&snapshot, &state, &query, &app.policy);
                    Answer::new(user, &snapshot, &ranking, query.limit)
                })
            })
            .await
        }
        Err(Unknown::Erased) => {
            app.answers.drop_user(&subject);
            Err(ApiError::Erased)
        }
        Err(Unknown::Failed(error)) => Err(error),
        Err(Unknown::Late) => Ok(answers.stale(&text, keep).unwrap_or_else(|| {
            let nobody = UserState::default();
            let ranking = rank::rank(&snapshot, &nobody, query, &app.policy);
            Answer::new(user, &snapshot, &ranking, query.limit).partial()
        })),
    }
}

fn current(app: &App) -> Result<Arc<Snapshot>, ApiError> {
    app.snapshots
        .current()
        .ok_or_else(|| ApiError::Unavailable("no snapshot is loaded".into()))
}

/// Runs `work`, if it is `slow` beside the threads that serve connections.
///
/// Scoring a large catalogue is milliseconds of pure computation, which must not hold up other connections; handing over what takes
/// less costs more than it spares.
async fn ranked<T: Send + 'static>(
    app: &App,
    slow: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if !slow {
        return Ok(work());
    }
    let _turn = app.scoring.acquire().await.map_err(ApiError::internal)?;
    tokio::task::spawn_blocking(work)
        .await
        .map_err(ApiError::internal)
}
