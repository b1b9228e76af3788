use super::router::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

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

/// Whether requests are answered as they should be.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// The version that answers.
    #[schema(required = true)]
    model_version: Option<i64>,
    checks: Vec<Check>,
}

/// The process runs and answers.
pub(super) async fn healthz() -> Response {
    let status = HealthStatus::Ok;
    Json(Health { status }).into_response()
}

/// Requests would be answered, by the active version.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let database = match tokio::time::timeout(app.limits.database, app.sources.ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::warn!(%error, "readiness: the database does not answer");
            Some("the database does not answer: check DATABASE_URL and that it is up".to_owned())
        }
        Err(_) => Some("the database does not answer in time".to_owned()),
    };
    let keys = (!app.auth.has_keys())
        .then(|| "no public key could be fetched yet: check --jwks".to_owned());
    let check = |name, reason: Option<String>| Check {
        name,
        ok: reason.is_none(),
        reason,
    };
    let checks = vec![
        check("database", database),
        check("model", app.snapshots.problem()),
        check("keys", keys),
    ];
    let readiness = Readiness {
        ready: checks.iter().all(|check| check.ok),
        model_version: app.snapshots.current().and_then(|held| held.version()),
        checks,
    };
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness)).into_response()
}
