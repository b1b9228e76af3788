//! Pages on top of the HTTP API, for trying a model out. Whoever has their key can act as any user.

mod guard;

mod key;

mod assets;

mod layout;

mod start;

mod try_out;

mod session;

mod interactions;

mod videos;

mod model;

mod metrics;

mod curves;

mod experiment;

pub(crate) use key::ConsoleKey;

use crate::serve::{ApiError, App, ConsoleAccess, SessionKey};
use axum::Router;
use axum::middleware;
use axum::routing::{get, post};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use twotower_store::StoreError;

/// State shared by the console's routes.
pub(crate) struct Console {
    app: Arc<App>,
    session: SessionKey,
    models: PathBuf,
}

/// What the console needs besides the HTTP API.
pub(crate) struct ConsoleOptions {
    /// Protects the pages.
    pub(crate) key: ConsoleKey,
    /// Signs the short-lived tokens with which a page acts as a user.
    pub(crate) session: SessionKey,
    /// Folder of models, whose reports the console shows.
    pub(crate) models: PathBuf,
    /// With [`ConsoleAccess::Loopback`], requests are refused that come through a proxy or address
    /// any host name but this machine's own.
    pub(crate) access: ConsoleAccess,
}

/// All routes of the console; each requires the key.
pub(crate) fn router(app: &Arc<App>, options: ConsoleOptions) -> Router {
    let ConsoleOptions {
        key,
        session,
        models,
        access,
    } = options;
    let console = Arc::new(Console {
        app: Arc::clone(app),
        session,
        models,
    });
    let changes = Router::new()
        .route("/console/session", post(session::create))
        .route("/console/interactions", post(interactions::record))
        .layer(middleware::from_fn(guard::same_origin));
    let router = Router::new()
        .route("/", get(start::page))
        .route("/try", get(try_out::page))
        .route("/model", get(model::page))
        .route("/model/report", get(model::report))
        .route("/experiment", get(experiment::page))
        .route("/console/history", get(videos::history))
        .route("/console/videos", get(videos::cards))
        .route("/console/console.css", get(assets::css))
        .route("/console/try.js", get(assets::script))
        .route("/console/icon.svg", get(assets::icon))
        .merge(changes)
        .with_state(console)
        .layer(middleware::from_fn_with_state(key, key::required))
        .layer(middleware::from_fn(guard::page_headers));
    if access == ConsoleAccess::Loopback {
        router.layer(middleware::from_fn(guard::loopback))
    } else {
        router
    }
}

impl Console {
    /// Runs a database step with its time limit.
    async fn within<T>(
        &self,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, ApiError> {
        match tokio::time::timeout(self.app.limits.database, step).await {
            Ok(outcome) => outcome.map_err(|error| ApiError::store(&error)),
            Err(_) => Err(ApiError::Timeout {
                stage: "the database",
            }),
        }
    }
}
