//! `POST /functions/v1/two_tower_recommendations` and its kin: from a token to a ranked list.

mod query;

mod policy;

mod listen;

mod reads;

mod state;

mod cache;

mod rank;

mod spread;

mod explore;

mod explain;

mod probe;

mod answer;

mod similar;

mod batch;

#[cfg(test)]
mod fuzz;

pub use policy::Policy;

pub(super) use answer::Answer;
pub(super) use batch::{Batch, batch};
pub(super) use cache::{AnswerCache, Subject};
pub(super) use listen::{Subjects, listen};
pub(super) use probe::RecallProbe;
pub(super) use similar::{SimilarVideos, similar};
pub(super) use state::UserStates;

use super::auth::Identity;
use super::body::Fields;
use super::error::ApiError;
use super::metrics::CacheOutcome;
use super::replica::{Asked, Known};
use super::router::App;
use super::snapshot::Snapshot;
use super::timing::{Stage, Timing};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use cache::{Found, Made, UserAnswers};
use query::Query;
use state::Unknown;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use twotower_store::UserState;
use uuid::Uuid;

/// The user's vector is computed from the likes and skips that the database holds at this moment, so a like of a second ago
/// counts.
pub(super) async fn recommend(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Extension(timing): Extension<Timing>,
    Fields(fields): Fields,
) -> Result<Response, ApiError> {
    let query = Query::of_its_user(&fields)?;
    let answer = answer(&app, identity.user, &query, &timing).await?;
    let _recording = timing.stage(Stage::Write);
    let summary = answer.summary();
    Ok((Extension(summary), Json(answer)).into_response())
}

/// The list for `user`: made now, or made before of the very same; and while the database does not say in time what the user likes, an
/// earlier one or one by what it said last, as long as an erasure would be heard of, or popular videos.
async fn answer(
    app: &Arc<App>,
    user: Uuid,
    query: &Query,
    timing: &Timing,
) -> Result<Answer, ApiError> {
    let snapshot = current(app, user)?;
    let subject = app.subjects.of(user);
    let answers = app.answers.of(subject);
    let keep = app.answers.keep();
    let state = {
        let _recording = timing.stage(Stage::Database);
        app.states.read(Asked { user, subject }).await
    };
    match state {
        Ok(Known { state, verified }) => {
            let state = Arc::new(state);
            if verified {
                know(app, &subject, &answers, &state);
            }
            let made = Made {
                snapshot: rank::revision(&snapshot, &state),
                state: app.states.hash(&state),
            };
            let (answer, outcome) = match answers.find(query, made, keep, timing).await {
                Found::Kept(answer) => (answer, CacheOutcome::Hit),
                Found::Missing(making) => {
                    let slow = rank::is_slow(&snapshot, &state, query, &app.policy);
                    let (shared, query) = (Arc::clone(app), query.clone());
                    let made = ranked(&app.scoring, timing, slow, move || {
                        let ranking = rank::rank(&snapshot, &state, &query, &shared.policy);
                        if let Some(vector) = &ranking.vector {
                            shared.probe.sample(&snapshot, vector, &shared.metrics);
                        }
                        let answer = Answer::new(user, &snapshot, &ranking, query.limit);
                        // Here, so that it is kept although nobody may wait for it any more.
                        shared.answers.put(&subject, making, &answer);
                        answer
                    });
                    (made.await?, CacheOutcome::Miss)
                }
            };
            app.metrics.looked_up(outcome);
            Ok(if verified { answer } else { answer.partial() })
        }
        Err(Unknown::Erased) => {
            app.answers.drop_user(&subject);
            Err(ApiError::Erased)
        }
        Err(Unknown::Failed(error)) => Err(error),
        Err(Unknown::Late) => {
            // What was kept when this request came may be of somebody who was erased since; and where no word comes of an erasure, so may
            // everything that is kept.
            let heard = app.subjects.are_heard();
            let earlier = app.answers.of(subject);
            if let Some(answer) = earlier.stale(query, keep).filter(|_| heard) {
                app.metrics.looked_up(CacheOutcome::Stale);
                return Ok(answer);
            }
            let state = last_known(&earlier, heard, keep);
            let slow = rank::is_slow(&snapshot, &state, query, &app.policy);
            let (shared, query) = (Arc::clone(app), query.clone());
            ranked(&app.scoring, timing, slow, move || {
                let ranking = rank::rank(&snapshot, &state, &query, &shared.policy);
                Answer::new(user, &snapshot, &ranking, query.limit).partial()
            })
            .await
        }
    }
}

/// Keeps what the database has just said of a user for while it is late; not where it could not be used, since no erasure would be heard of.
fn know(app: &App, subject: &Subject, answers: &Arc<UserAnswers>, state: &Arc<UserState>) {
    if app.subjects.are_heard() {
        app.answers.know(subject, answers, state);
    }
}

/// What to go by while the database is late: what it said of the user last, if no change was heard of since and one would have been. Otherwise
/// who was erased is not known either, and they get what everybody gets.
fn last_known(earlier: &UserAnswers, heard: bool, keep: Duration) -> Arc<UserState> {
    let known = earlier.last_known(keep).filter(|_| heard);
    known.unwrap_or_default()
}

fn current(app: &App, user: Uuid) -> Result<Arc<Snapshot>, ApiError> {
    app.snapshots
        .of(user)
        .ok_or_else(|| ApiError::Unavailable("no snapshot is loaded".into()))
}

/// Runs `work`, if it is `slow` beside the threads that serve connections.
///
/// Scoring a large catalogue is milliseconds of pure computation, which must not hold up other connections; handing over what takes
/// less costs more than it spares. Slow work goes on when its caller has hung up, and keeps its turn until it ends. The caller's place among the
/// requests worked on is free before: who gets it takes no core until there is a turn.
async fn ranked<T: Send + 'static>(
    scoring: &Arc<Semaphore>,
    timing: &Timing,
    slow: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if !slow {
        let _recording = timing.stage(Stage::Rank);
        return Ok(work());
    }
    let turn = {
        let _recording = timing.stage(Stage::Turn);
        let turn = Arc::clone(scoring).acquire_owned();
        turn.await.map_err(ApiError::internal)?
    };
    let _recording = timing.stage(Stage::Rank);
    let working = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    working.await.map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Who hangs up does not make room for a further ranking beside the one that goes on.
    #[tokio::test]
    async fn what_goes_on_after_its_caller_has_gone_keeps_its_turn() {
        let scoring = Arc::new(Semaphore::new(1));
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_end) = mpsc::channel::<()>();
        let caller = tokio::spawn({
            let scoring = Arc::clone(&scoring);
            async move {
                let work = move || {
                    begun.send(()).unwrap();
                    let _ = may_end.recv();
                };
                ranked(&scoring, &Timing::default(), true, work).await
            }
        });
        while has_begun.try_recv().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert_eq!(scoring.available_permits(), 0, "it still works");
        drop(go_on);
        let _turn = scoring.acquire().await.unwrap();
    }

    /// A turn that was waited for in vain is nobody's.
    #[tokio::test]
    async fn who_goes_before_their_turn_takes_none() {
        let scoring = Arc::new(Semaphore::new(1));
        let turn = Arc::clone(&scoring).acquire_owned().await.unwrap();
        let timing = Timing::default();
        let waiting = ranked(&scoring, &timing, true, || "nobody waits for it");
        let waited = tokio::time::timeout(Duration::from_millis(5), waiting).await;
        assert!(waited.is_err());
        drop(turn);
        assert_eq!(scoring.available_permits(), 1);
    }
}
