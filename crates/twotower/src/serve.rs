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

mod replica;

mod recommendations;

mod events;

mod time;

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
pub(crate) use time::rfc3339;

use crate::console::{self, ConsoleKey};
use anyhow::Context;
use auth::Authenticator;
use replica::Sources;
use snapshot::{Keeper, Records, SnapshotOptions, Snapshots};
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use twotower_store::{EventPolicy, Store};

/// What `serve` needs to know, checked.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder of the models, one folder a version.
    pub models: PathBuf,
    /// What tokens are checked against.
    pub auth: auth::Config,
    /// Who gets the console.
    pub console: ConsoleAccess,
    /// Deadlines and caps.
    pub limits: Limits,
    /// What the operator has decided about lists.
    pub policy: Policy,
    /// Days after publication for which a video is new.
    pub new_days: u32,
    /// Whose pages may read answers.
    pub cors: CorsOrigins,
    /// Address and port of the metrics; nobody gets them without one.
    pub metrics_listen: Option<SocketAddr>,
    /// Which events are kept.
    pub events: EventPolicy,
    /// Where users' states are read as well, if anywhere.
    pub replica: Option<ReplicaConfig>,
}

/// A server that has its port and its data, and does not answer yet.
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
    /// Takes the port, loads the active model and looks whether the database lets requests read. A model that cannot be loaded and a grant
    /// that is missing are no reason not to start: log and readiness name them, and the server comes up by itself once they are there.
    ///
    /// # Errors
    /// If there is no key to verify tokens with, the console would be open to other machines, or the port is taken.
    pub async fn bind(store: Store, config: ServeConfig) -> anyhow::Result<Self> {
        if config.console == ConsoleAccess::Loopback && !config.listen.ip().is_loopback() {
            let listen = config.listen;
            return Err(UsageError::ConsoleInReach { listen }.into());
        }
        let session = match config.console {
            ConsoleAccess::Off => None,
            ConsoleAccess::Loopback | ConsoleAccess::AnyAddress => Some(SessionKey::random()?),
        };
        // The console's own key lets nobody in from elsewhere; that is enough to try things out on this machine only.
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
        // What they read is long, and nobody's request is to wait for their connection.
        let apart = store.apart(1);
        // Of what requests wait for nothing goes on in the database once they have given it up.
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
        let app = Arc::new(App::new(
            store,
            sources,
            auth,
            snapshots,
            config.limits,
            (config.policy, config.events),
            counted,
        ));
        app.database.look(&app).await;
        let console = match &session {
            Some(_) => Some(ConsoleKey::random(address)?),
            None => None,
        };
        let pages = session.zip(console.clone()).map(|(session, key)| {
            let only_loopback = config.console == ConsoleAccess::Loopback;
            console::router(&app, (key, session), config.models, only_loopback)
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

    /// The address it listens on, with the port it was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that tells metrics, if there is one.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// The address that opens the console, with its key, if there is one: for who started the server, and for no log.
    pub fn console_address(&self) -> Option<String> {
        self.console.as_ref().map(ConsoleKey::address)
    }

    /// Answers until `shutdown`, then ends what is in flight.
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
            // Scrapes end with the process: nobody waits for the last one.
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

/// Serves until `shutdown`. `console` is told the address that opens the console, if there is one.
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
