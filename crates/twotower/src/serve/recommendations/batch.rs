//! `POST /functions/v1/batch_recommendations`: lists for many users, for the application itself (a
//! newsletter, a notification).

use super::answer::Answer;
use super::query::Query;
use crate::serve::body::{Fields, invalid};
use crate::serve::error::{ApiError, ErrorCode};
use crate::serve::router::App;
use crate::serve::timing::Timing;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::StreamExt;
use futures_util::stream;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// At most this many users in a batch.
const MAX_USERS: usize = 100;

/// Number of users worked on at once: few, so that a batch leaves most places of each statement to
/// other requests.
pub(super) const USERS_AT_ONCE: usize = 4;

/// The body of an answer: one result for each user, in the order asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::serve) struct Batch {
    #[schema(max_items = 100)]
    results: Vec<BatchResult>,
}

/// A list, or why there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum BatchResult {
    List(Box<Answer>),
    Failed { user_id: Uuid, error: Failure },
}

/// As in the body of an error.
#[derive(Debug, Serialize, ToSchema)]
struct Failure {
    code: ErrorCode,
    message: String,
}

pub(in crate::serve) async fn batch(
    State(app): State<Arc<App>>,
    Extension(timing): Extension<Timing>,
    Fields(fields): Fields,
) -> Result<Response, ApiError> {
    let (query, users) = read(&fields)?;
    let results = stream::iter(users)
        .map(|user| {
            let (app, query, timing) = (Arc::clone(&app), query.clone(), timing.clone());
            async move {
                match super::answer(&app, user, &query, &timing).await {
                    Ok(answer) => BatchResult::List(Box::new(answer)),
                    Err(error) => {
                        let (code, message) = error.code_and_message();
                        BatchResult::Failed {
                            user_id: user,
                            error: Failure { code, message },
                        }
                    }
                }
            }
        })
        .buffered(USERS_AT_ONCE)
        .collect()
        .await;
    Ok(Json(Batch { results }).into_response())
}

/// The query, and the users whom it is for.
pub(super) fn read(fields: &Map<String, Value>) -> Result<(Query, Vec<Uuid>), ApiError> {
    let query = Query::parse_beside(fields, "user_ids", &[])?;
    Ok((query, users(fields.get("user_ids"))?))
}

fn users(value: Option<&Value>) -> Result<Vec<Uuid>, ApiError> {
    let wrong = || invalid("`user_ids` must be a list of 1 to 100 UUIDs");
    let list = value
        .and_then(Value::as_array)
        .filter(|list| (1..=MAX_USERS).contains(&list.len()))
        .ok_or_else(wrong)?;
    list.iter()
        .map(|id| {
            id.as_str()
                .and_then(|text| Uuid::try_parse(text).ok())
                .ok_or_else(wrong)
        })
        .collect()
}
