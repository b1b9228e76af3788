use super::router::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use twotower_store::{InteractionKind, StoreError};
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

/// What readiness knows of the database.
#[derive(Debug)]
pub(super) struct DatabaseCheck {
    /// One look at a time: probes that come in while the database hangs must not take up connection after connection.
    turn: Arc<Semaphore>,
    /// What the log was told last: what goes on for hours is told once.
    told: Mutex<Found>,
}

/// What a look at the database has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Well,
    /// It does not answer, or not in time. Lists are made without it.
    Away,
    /// It answers, and does not let requests read: what is wrong, and what to do.
    Unfit(String),
}

impl Default for DatabaseCheck {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            told: Mutex::new(Found::Well),
        }
    }
}

/// The process runs and answers.
pub(super) async fn healthz() -> Response {
    let status = HealthStatus::Ok;
    Json(Health { status }).into_response()
}

/// Requests would be answered.
///
/// A database that is away and a version that cannot be loaded are told, and are no reason to send requests elsewhere: lists are made
/// from what is held, and what ails one server most likely ails all of them. A schema or a role by which nothing can be read does not pass by
/// itself, and would have everybody get popular videos for ever.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let held = app.snapshots.current();
    let keys = app.auth.problem().map(str::to_owned);
    let (reads, database) = match in_time(&app).await {
        Ok(Found::Well) => (true, None),
        Ok(Found::Away) => (
            true,
            Some("the database does not answer: check DATABASE_URL and that it is up".to_owned()),
        ),
        Ok(Found::Unfit(reason)) => (false, Some(reason)),
        Err(_) => (
            true,
            Some("the database does not answer in time".to_owned()),
        ),
    };
    let ready = held.is_some() && keys.is_none() && reads;
    let check = |name, reason: Option<String>| Check {
        name,
        ok: reason.is_none(),
        reason,
    };
    let readiness = Readiness {
        ready,
        model_version: held.and_then(|held| held.version()),
        checks: vec![
            check("database", database),
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

/// What is found within the time that balancers have.
async fn in_time(app: &Arc<App>) -> Result<Found, Elapsed> {
    timeout(PATIENCE, async {
        let Ok(turn) = Arc::clone(&app.database.turn).acquire_owned().await else {
            return Found::Away;
        };
        let shared = Arc::clone(app);
        // Left to its own deadline if it is late: cutting it off would cost the connection.
        let looking = tokio::spawn(async move {
            let _turn = turn;
            shared.database.look(&shared).await
        });
        looking.await.unwrap_or(Found::Away)
    })
    .await
}

impl DatabaseCheck {
    /// Reads what requests read, and tells the log if that goes otherwise than before.
    pub(super) async fn look(&self, app: &App) -> Found {
        let (found, error) = match timeout(app.limits.database, app.sources.check()).await {
            Ok(Ok(())) => (Found::Well, None),
            // Who takes no connections, or none of this role, is as good as away.
            Ok(Err(error)) if error.is_transient() || matches!(error, StoreError::Database(_)) => {
                (Found::Away, Some(error))
            }
            Ok(Err(error)) => (Found::Unfit(advice(app, &error)), Some(error)),
            Err(_) => (Found::Away, None),
        };
        let before = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *told, found.clone())
        };
        if found != before {
            let error = error.map(tracing::field::display);
            match &found {
                Found::Well => tracing::info!("readiness: requests read the database again"),
                Found::Away => tracing::warn!(error, "readiness: the database does not answer"),
                Found::Unfit(reason) => {
                    tracing::error!(
                        error,
                        "readiness: requests cannot read the database: {reason}"
                    );
                }
            }
        }
        found
    }
}

/// What readiness says of a database that answers and cannot be read. Messages of a missing or forbidden object name that alone; others may hold
/// pieces of rows.
fn advice(app: &App, error: &StoreError) -> String {
    let doctor = "`twotower doctor` says what else is not as the migrations made it";
    match error {
        StoreError::Schema(_)
            if app.store.reads_elsewhere(InteractionKind::Like)
                || app.store.reads_elsewhere(InteractionKind::Skip) =>
        {
            format!("{error}, or mend section [source] if that names it; {doctor}")
        }
        StoreError::Schema(_) | StoreError::Permission(_) => format!("{error}; {doctor}"),
        _ => "what requests read of users cannot be read: see the log, and run `twotower doctor`"
            .into(),
    }
}
