//! `POST /functions/v1/two_tower_recommendations` and related endpoints: from a token to a ranked
//! list.

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
use super::replica::Asked;
use super::router::App;
use super::snapshot::Snapshot;
use super::timing::{Stage, Timing};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use cache::{Lookup, UserAnswers, Validator};
use query::Query;
use rank::ListRequest;
use reads::{ReadError, StateRead};
use std::sync::Arc;
use tokio::sync::Semaphore;
use twotower_store::UserState;
use uuid::Uuid;

/// The user's vector is computed from the likes and skips that the database holds at the moment of
/// the request, so a like of a second ago counts.
pub(super) async fn recommend(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Extension(timing): Extension<Timing>,
    Fields(fields): Fields,
) -> Result<Response, ApiError> {
    let query = Query::parse(&fields)?;
    let answer = answer(&app, identity.user, &query, &timing).await?;
    let _recording = timing.stage(Stage::Write);
    let summary = answer.summary();
    Ok((Extension(summary), Json(answer)).into_response())
}

/// The list for `user`: computed for this request, or kept from a request with the same query, view
/// and state.
///
/// While the database is late, the list is an earlier one, or one computed from the last known
/// state, provided that an erasure would have been heard of. Otherwise it holds popular videos.
async fn answer(
    app: &Arc<App>,
    user: Uuid,
    query: &Query,
    timing: &Timing,
) -> Result<Answer, ApiError> {
    let snapshot = current(app, user)?;
    let subject = app.subjects.of(user);
    let keep = app.answers.keep();
    match user_state(app, Asked { user, subject }, timing).await? {
        StateOutcome::Read {
            state,
            verified,
            answers,
        } => {
            let validator = Validator {
                snapshot: rank::revision(&snapshot, &state),
                state: app.states.hash(&state),
            };
            let (answer, outcome) = match answers.find(query, validator, keep, timing).await {
                Lookup::Hit(answer) => (answer, CacheOutcome::Hit),
                Lookup::Miss(pending) => {
                    let slow = list_request(&snapshot, &state, query, app).is_slow();
                    let (shared, query) = (Arc::clone(app), query.clone());
                    let computed = ranked(&app.scoring, timing, slow, move || {
                        let request = list_request(&snapshot, &state, &query, &shared);
                        let ranking = rank::rank(&request);
                        if let Some(vector) = &ranking.vector {
                            shared.probe.sample(&snapshot, vector, &shared.metrics);
                        }
                        let answer = Answer::new(user, &snapshot, &ranking, query.limit);
                        // In here, so that the answer is kept even if every caller hangs up.
                        shared.answers.put(&subject, pending, &answer);
                        answer
                    });
                    (computed.await?, CacheOutcome::Miss)
                }
            };
            app.metrics.looked_up(outcome);
            Ok(if verified { answer } else { answer.partial() })
        }
        StateOutcome::Late { answers } => {
            let stale = answers.as_ref().and_then(|it| it.stale(query, keep));
            if let Some(answer) = stale {
                app.metrics.looked_up(CacheOutcome::Stale);
                return Ok(answer);
            }
            let state = last_known(app, answers.as_deref());
            let slow = list_request(&snapshot, &state, query, app).is_slow();
            let (shared, query) = (Arc::clone(app), query.clone());
            ranked(&app.scoring, timing, slow, move || {
                let ranking = rank::rank(&list_request(&snapshot, &state, &query, &shared));
                Answer::new(user, &snapshot, &ranking, query.limit).partial()
            })
            .await
        }
    }
}

fn list_request<'a>(
    snapshot: &'a Snapshot,
    state: &'a UserState,
    query: &'a Query,
    app: &'a App,
) -> ListRequest<'a> {
    ListRequest {
        snapshot,
        state,
        query,
        policy: &app.policy,
    }
}

/// The state of a user, or what to go by while the database is late.
enum StateOutcome {
    Read {
        state: Arc<UserState>,
        /// As [`StateRead::verified`].
        verified: bool,
        /// The user's answers, taken before the read: those dropped meanwhile stay dropped.
        answers: Arc<UserAnswers>,
    },
    Late {
        /// The user's answers, taken after the read: those taken before it may be of a user who has
        /// been erased since. `None` while no erasure would be heard of.
        answers: Option<Arc<UserAnswers>>,
    },
}

/// Reads the state of the user `asked` for, and remembers it for times when the database is late.
///
/// # Errors
/// [`ApiError::Erased`], whereupon everything kept of the user is dropped; or why the database
/// cannot be read.
async fn user_state(app: &App, asked: Asked, timing: &Timing) -> Result<StateOutcome, ApiError> {
    let answers = app.answers.of(asked.subject);
    let read = {
        let _recording = timing.stage(Stage::Database);
        app.states.read(asked).await
    };
    match read {
        Ok(StateRead { state, verified }) => {
            // Unless erasures are heard of, the remembered state could never be used.
            if verified && app.subjects.are_heard() {
                app.answers.know(&asked.subject, &answers, &state);
            }
            Ok(StateOutcome::Read {
                state,
                verified,
                answers,
            })
        }
        Err(ReadError::Erased) => {
            app.answers.drop_user(&asked.subject);
            Err(ApiError::Erased)
        }
        Err(ReadError::Unreachable(error) | ReadError::Statement(error)) => Err(error),
        Err(ReadError::Late) => {
            let heard = app.subjects.are_heard();
            let answers = heard.then(|| app.answers.of(asked.subject));
            Ok(StateOutcome::Late { answers })
        }
    }
}

/// The state to go by while the database is late: the last known one in `answers`, or else none,
/// which leads to the list that everybody gets.
fn last_known(app: &App, answers: Option<&UserAnswers>) -> Arc<UserState> {
    let known = answers.and_then(|it| it.last_known(app.answers.keep()));
    known.unwrap_or_default()
}

fn current(app: &App, user: Uuid) -> Result<Arc<Snapshot>, ApiError> {
    app.snapshots
        .of(user)
        .ok_or_else(|| ApiError::Unavailable("no snapshot is loaded".into()))
}

/// Runs `work`: on this thread, or if it is `slow`, on a thread apart from those that serve
/// connections.
///
/// Scoring a large catalogue takes milliseconds of pure computation, which must not hold up other
/// connections. For shorter work, handing it over costs more than it spares. Slow work goes on when
/// its caller hangs up, and keeps its permit until it ends. Its caller's place among the admitted
/// requests is freed earlier, but the request that gets the place takes no core before it has a
/// permit.
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
    use std::time::Duration;

    /// A caller who hangs up does not make room for another ranking beside the one that goes on.
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

    /// A caller who stops waiting leaves the permit to others.
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
