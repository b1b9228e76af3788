use super::router::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use twotower_store::{InteractionKind, StoreError};
use utoipa::ToSchema;

/// Longest wait of readiness for the database: load balancers give up on a server that does not
/// answer within half a second.
const MAX_WAIT: Duration = Duration::from_millis(300);

/// How long readiness repeats an outcome, so that a flood of probes costs one statement in this
/// time.
const KEPT: Duration = Duration::from_secs(1);

/// The process runs.
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

/// Whether requests are answered, and anything that is wrong.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether requests are answered.
    ready: bool,
    /// The version that answers.
    #[schema(required = true)]
    model_version: Option<i64>,
    /// Names anything that is wrong, also while requests are answered.
    checks: Vec<Check>,
}

/// Whether requests can read the database, as far as readiness knows.
#[derive(Debug)]
pub(super) struct DatabaseCheck {
    /// One check at a time: probes that arrive while the database hangs must not take one
    /// connection after another.
    turn: Arc<Semaphore>,
    latest: Mutex<Latest>,
}

/// The latest outcome of a check. The log names an outcome only when it changes.
#[derive(Debug)]
struct Latest {
    found: Found,
    /// `None` before the first check.
    at: Option<Instant>,
}

/// Outcome of a check of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Well,
    /// It does not answer, or not in time. Lists are made without it.
    Away,
    /// It answers but requests cannot read: what is wrong, and how to fix it.
    Unfit(String),
}

impl Default for DatabaseCheck {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            latest: Mutex::new(Latest {
                found: Found::Well,
                at: None,
            }),
        }
    }
}

/// That the process runs and answers.
pub(super) async fn healthz() -> Response {
    let status = HealthStatus::Ok;
    Json(Health { status }).into_response()
}

/// Whether requests would be answered.
///
/// A database that is away and a version that cannot be loaded are reported, but are no reason to
/// send requests elsewhere: lists are made from what is in memory, and all servers are most likely
/// affected alike. A schema or role that prevents reads does not recover by itself, and every user
/// would get popular videos until then, so the server is not ready.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let held = app.snapshots.current();
    let keys = app.auth.problem().map(str::to_owned);
    let (reads, database) = match check_in_time(&app).await {
        (Found::Unfit(reason), _) => (false, Some(reason)),
        (_, Timeliness::Late) => (
            true,
            Some("the database does not answer in time".to_owned()),
        ),
        (Found::Away, Timeliness::InTime) => (
            true,
            Some("the database does not answer: check DATABASE_URL and that it is up".to_owned()),
        ),
        (Found::Well, Timeliness::InTime) => (true, None),
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

/// Whether a check ended within [`MAX_WAIT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timeliness {
    InTime,
    Late,
}

/// The outcome of a check within the time that load balancers allow. A late check leaves the
/// outcome before it: a server that was not ready does not become ready because the database is
/// slow or because of a flood of probes.
async fn check_in_time(app: &Arc<App>) -> (Found, Timeliness) {
    let checked = timeout(MAX_WAIT, async {
        if let Some(found) = app.database.kept() {
            return found;
        }
        let Ok(turn) = Arc::clone(&app.database.turn).acquire_owned().await else {
            return Found::Away;
        };
        // Another probe may have checked during the wait.
        if let Some(found) = app.database.kept() {
            return found;
        }
        let shared = Arc::clone(app);
        // A late check goes on until its own deadline: to cut it off would cost the connection.
        let checking = tokio::spawn(async move {
            let _turn = turn;
            shared.database.check(&shared).await
        });
        checking.await.unwrap_or(Found::Away)
    });
    match checked.await {
        Ok(found) => (found, Timeliness::InTime),
        Err(_) => (app.database.latest().found.clone(), Timeliness::Late),
    }
}

impl DatabaseCheck {
    /// The outcome of the latest check, if that was a moment ago.
    fn kept(&self) -> Option<Found> {
        let latest = self.latest();
        let at = latest.at?;
        (at.elapsed() < KEPT).then(|| latest.found.clone())
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        // Replaced as a whole.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Outcome of a check that did not end in time. It does not say that a database that was unfit
    /// is fit again.
    fn late(&self) -> Found {
        match self.latest().found.clone() {
            unfit @ Found::Unfit(_) => unfit,
            Found::Well | Found::Away => Found::Away,
        }
    }

    /// Reads what requests read, and logs the outcome if it differs from the one before.
    pub(super) async fn check(&self, app: &App) -> Found {
        let (found, error) = match timeout(app.limits.database, app.sources.check()).await {
            Ok(Ok(())) => (Found::Well, None),
            Ok(Err(
                error @ (StoreError::Deadline { .. }
                | StoreError::Cancelled(_)
                | StoreError::Busy(_)),
            )) => (self.late(), Some(error)),
            // A database that accepts no connections, or none of this role, is as good as away.
            Ok(Err(error)) if error.is_transient() || matches!(error, StoreError::Database(_)) => {
                (Found::Away, Some(error))
            }
            Ok(Err(error)) => (Found::Unfit(advice(app, &error)), Some(error)),
            Err(_) => (self.late(), None),
        };
        let before = {
            let latest = Latest {
                found: found.clone(),
                at: Some(Instant::now()),
            };
            std::mem::replace(&mut *self.latest(), latest).found
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

/// The reason and the fix for a database that answers but cannot be read. Messages about a missing
/// or forbidden object contain only its name; others may contain pieces of rows and are not
/// repeated.
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
