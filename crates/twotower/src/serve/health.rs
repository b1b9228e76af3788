use super::router::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;

/// So long readiness waits for the database, which decides nothing: balancers give up a server that says nothing within half a second.
const PATIENCE: Duration = Duration::from_millis(300);

/// That the process runs.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    status: HealthStatus,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum HealthStatus {
    Ok,
}

#[derive(Serialize, ToSchema)]
struct Check {
    name: &'static str,
    ok: bool,
    /// What is wrong, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<String>,
}

/// Whether requests are answered, and what is not as it should be.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether requests are answered.
    ready: bool,
    /// The version that answers.
    #[schema(required = true)]
    model_version: Option<i64>,
    /// What is not well is named here while requests are answered, too.
    checks: Vec<Check>,
}

/// The process runs and answers.
pub(super) async fn healthz() -> Response {
    let status = HealthStatus::Ok;
    Json(Health { status }).into_response()
}

/// Requests would be answered.
///
/// A database that is away and a version that cannot be loaded are told, and are no reason to send requests elsewhere: lists are made
/// from what is held, and what ails one server most likely ails all of them.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let held = app.snapshots.current();
    let keys = (!app.auth.has_keys())
        .then(|| "no public key could be fetched yet: check --jwks".to_owned());
    let ready = held.is_some() && keys.is_none();
    let check = |name, reason: Option<String>| Check {
        name,
        ok: reason.is_none(),
        reason,
    };
    let readiness = Readiness {
        ready,
        model_version: held.and_then(|held| held.version()),
        checks: vec![
            check("database", database(&app).await),
            check("model", app.snapshots.problem()),
            check("experiment", app.snapshots.experiment_problem()),
            check("keys", keys),
        ],
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness)).into_response()
}

/// Why the database cannot be used, if it cannot.
async fn database(app: &Arc<App>) -> Option<String> {
    let asking = async {
        // One at a time: probes that come in while the database hangs must not take up connection after connection.
        let Ok(turn) = Arc::clone(&app.pings).acquire_owned().await else {
            return false;
        };
        let shared = Arc::clone(app);
        // Left to its own deadline if it is late: cutting it off would cost the connection.
        let asked = tokio::spawn(async move {
            let _turn = turn;
            match timeout(shared.limits.database, shared.sources.ping()).await {
                Ok(Ok(())) => true,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "readiness: the database does not answer");
                    false
                }
                Err(_) => false,
            }
        });
        asked.await.unwrap_or(false)
    };
    match timeout(PATIENCE, asking).await {
        Ok(true) => None,
        Ok(false) => {
            Some("the database does not answer: check DATABASE_URL and that it is up".to_owned())
        }
        Err(_) => Some("the database does not answer in time".to_owned()),
    }
}
