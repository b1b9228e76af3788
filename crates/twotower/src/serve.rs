//! The HTTP API. Modules stand in the order in which a request meets them.

mod args;

mod limits;

mod admission;

mod connection;

mod router;

mod request_id;

mod timing;

mod cors;

mod access;

mod endpoint;

mod health;

pub mod auth;

mod body;

mod snapshot;

mod circuit_breaker;

mod replica;

mod recommendations;

mod events;

mod error;

mod openapi;

mod metrics;

#[cfg(test)]
mod fuzz;

pub use admission::{Concurrency, UserRate};
pub use args::{ConsoleAccess, ServeArgs, UsageError};
pub use cors::{CorsOrigins, OriginError};
pub use limits::Limits;
pub use metrics::{
    Answered, CATALOGUE, CacheOutcome, Fallback, JobFigures, Kind, Metric, Metrics, PoolState,
    ReadFrom, SnapshotFigures, Success,
};
pub use openapi::document as openapi_document;
pub use recommendations::Policy;
pub use replica::ReplicaConfig;
pub use timing::{Recording, Stage, Timing};

pub(crate) use auth::SessionKey;
pub(crate) use body::{invalid, read_object, refuse_unknown};
pub(crate) use error::ApiError;
pub(crate) use router::App;

use crate::console::{self, ConsoleKey, ConsoleOptions};
use anyhow::Context;
use auth::Authenticator;
use replica::Sources;
use router::AppParts;
use snapshot::{Keeper, Records, SnapshotOptions, Snapshots};
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use twotower_store::{EventPolicy, Store};

/// Validated configuration of `serve`.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder of the models, with one folder for each version.
    pub models: PathBuf,
    /// Keys and claims that tokens are checked against.
    pub auth: auth::Config,
    /// Who may use the console.
    pub console: ConsoleAccess,
    /// Deadlines and limits.
    pub limits: Limits,
    /// The operator's settings for all lists.
    pub policy: Policy,
    /// Days after publication for which a video is new.
    pub new_days: u32,
    /// Origins of web pages that may read answers.
    pub cors: CorsOrigins,
    /// Address and port of the metrics; `None`: no metrics are served.
    pub metrics_listen: Option<SocketAddr>,
    /// Which events are kept.
    pub events: EventPolicy,
    /// A replica to read users' states from.
    pub replica: Option<ReplicaConfig>,
}

/// A server that has its port and its data, and does not answer requests yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    metrics: Option<TcpListener>,
    app: Arc<App>,
    router: axum::Router,
    keeper: Keeper,
    console: Option<ConsoleKey>,
}

impl Server {
    /// Takes the port, loads the active model and checks whether the database lets requests read.
    /// The server starts even if the model cannot be loaded or a grant is missing: log and
    /// readiness name the problem, and the server recovers by itself once it is solved.
    ///
    /// # Errors
    /// If there is no key to verify tokens with, if the console would be open to other machines, or
    /// if the port is taken.
    pub async fn bind(store: Store, config: ServeConfig) -> anyhow::Result<Self> {
        if config.console == ConsoleAccess::Loopback && !config.listen.ip().is_loopback() {
            let listen = config.listen;
            return Err(UsageError::ConsoleInReach { listen }.into());
        }
        let session = match config.console {
            ConsoleAccess::Off => None,
            ConsoleAccess::Loopback | ConsoleAccess::AnyAddress => Some(SessionKey::random()?),
        };
        // The console's own key is known on this machine only. It is enough to try things out as
        // long as the server listens on this machine only.
        let own_key = session
            .as_ref()
            .filter(|_| config.listen.ip().is_loopback());
        if config.auth.secret.is_none() && config.auth.jwks.is_none() && own_key.is_none() {
            return Err(auth::ConfigError::NoKey.into());
        }
        let auth = Authenticator::new(&config.auth, session.as_ref())?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let metrics = match config.metrics_listen {
            None => None,
            Some(metrics) => Some(
                TcpListener::bind(metrics)
                    .await
                    .with_context(|| format!("listen on {metrics} for metrics"))?,
            ),
        };

        let counted = Arc::<Metrics>::default();
        let options = SnapshotOptions {
            groups: config.policy.rules.max_per_maker > 0
                || config.policy.rules.max_per_performer > 0,
            new_days: config.new_days,
        };
        // Catalogue reads are long, and no request should wait for their connection.
        let apart = store.apart(1);
        // Statements that requests wait for end in the database when the requests give them up.
        let store = store.hurried(config.limits.database);
        let records = Records::new(apart.clone(), Arc::clone(&counted));
        let snapshots = Arc::new(Snapshots::new(
            apart,
            config.models.clone(),
            options,
            Arc::clone(&counted),
        ));
        let keeper = Keeper::start(Arc::clone(&snapshots), records, config.limits).await?;
        auth.warm_up().await;
        let replica = config.replica.map(|config| ReplicaConfig {
            replica: config.replica.reading_as(&store),
            ..config
        });
        let sources = Arc::new(Sources::new(
            store.clone(),
            replica,
            config.limits.soft(),
            Arc::clone(&counted),
        ));
        let app = Arc::new(App::new(AppParts {
            store,
            sources,
            auth,
            snapshots,
            limits: config.limits,
            policy: config.policy,
            events: config.events,
            metrics: counted,
        }));
        app.database.check(&app).await;
        let console = match &session {
            Some(_) => Some(ConsoleKey::random(address)?),
            None => None,
        };
        let pages = session.zip(console.clone()).map(|(session, key)| {
            let options = ConsoleOptions {
                key,
                session,
                models: config.models,
                access: config.console,
            };
            console::router(&app, options)
        });
        let router = router::router(&app, pages, config.cors);
        Ok(Self {
            listener,
            address,
            metrics,
            app,
            router,
            keeper,
            console,
        })
    }

    /// The address that the server listens on, with its actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the metrics, if they are served.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// The address that opens the console, including its key. Only for the user who starts the
    /// server; never to be logged.
    pub fn console_address(&self) -> Option<String> {
        self.console.as_ref().map(ConsoleKey::address)
    }

    /// Answers requests until `shutdown`, then completes those in flight.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let limits = self.app.limits;
        let app = Arc::clone(&self.app);
        let listen = tokio::spawn(async move {
            recommendations::listen(&app).await;
        });
        let sources = Arc::clone(&self.app.sources);
        let watch = tokio::spawn(async move { sources.watch().await });
        let counted = Arc::clone(&self.app.metrics);
        let metrics = self.metrics.map(|listener| {
            let router = metrics::router(&self.app);
            let counted = Arc::clone(&counted);
            // Scrapes end with the process: shutdown does not wait for the last one.
            tokio::spawn(connection::serve(
                listener,
                router,
                limits,
                counted,
                std::future::pending(),
            ))
        });
        connection::serve(self.listener, self.router, limits, counted, shutdown).await;
        drop(self.keeper);
        listen.abort();
        watch.abort();
        if let Some(metrics) = metrics {
            metrics.abort();
        }
    }
}

/// Serves until `shutdown`. `console` is called with the address that opens the console, if there
/// is one.
///
/// # Errors
/// Those of [`Server::bind`].
pub async fn run(
    store: Store,
    config: ServeConfig,
    console: impl FnOnce(&str),
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let server = Server::bind(store, config).await?;
    let address = server.address();
    tracing::info!(%address, "serving");
    if let Some(address) = server.metrics_address() {
        tracing::info!("metrics are at http://{address}/metrics");
    }
    if let Some(address) = server.console_address() {
        console(&address);
    }
    server.serve(shutdown).await;
    tracing::info!("stopped");
    Ok(())
}
