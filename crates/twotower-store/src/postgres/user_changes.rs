//! Notifications of changes to users' data.

use super::Postgres;
use super::session::{query_as, query_scalar};
use crate::StoreError;
use crate::user_change::{UserChange, UserChangeHasher};
use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::Duration;
use uuid::Uuid;

/// Also in `20261127000000_serving.sql`.
const CHANNEL: &str = "twotower_user_changes";

/// After this time without a message, the connection is checked.
const SILENCE: Duration = Duration::from_secs(15);

/// Timeout of that check, and of a notification to arrive.
const PATIENCE: Duration = Duration::from_secs(3);

/// Made together with the listening connection.
const OWN_SETTING: &str = "twotower.listener";

/// Answers of poolers to unknown settings.
pub(super) const PROTOCOL_VIOLATION: &str = "08P01";

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A connection that listens for changes to users' data, and reconnects when it breaks.
pub struct UserChanges {
    engine: Postgres,
    hasher: UserChangeHasher,
    /// `None` while disconnected.
    line: Option<Line>,
    /// Pause before the next try to connect.
    wait: Duration,
    /// Received while waiting for something else.
    heard: VecDeque<UserChange>,
}

/// A listening connection in its own pool, since listening outlives any transaction.
struct Line {
    listener: PgListener,
    _pool: PgPool,
}

impl fmt::Debug for UserChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserChanges")
            .field("connected", &self.line.is_some())
            .finish_non_exhaustive()
    }
}

impl Postgres {
    pub(crate) async fn listen_user_changes(&self) -> Result<Option<UserChanges>, StoreError> {
        let Some(hasher) = self.change_hasher().await? else {
            return Ok(None);
        };
        let mut changes = UserChanges {
            engine: self.clone(),
            hasher,
            line: None,
            wait: FIRST_WAIT,
            heard: VecDeque::new(),
        };
        Ok(changes.connect().await?.then_some(changes))
    }

    /// The secret for naming users in notifications; `None` if not all changes to them are
    /// reported.
    async fn change_hasher(&self) -> Result<Option<UserChangeHasher>, StoreError> {
        let mut session = self.begin().await?;
        // INSERT, UPDATE, DELETE and TRUNCATE on each of three tables. 'O' and 'A' fire in ordinary
        // sessions.
        let (secret, complete): (Vec<u8>, bool) = query_as(
            "SELECT key, 12 = (
                 SELECT count(*) FROM pg_trigger
                 WHERE tgfoid = to_regprocedure('twotower.notify_user_changes()') AND tgenabled IN ('O', 'A')
                 AND tgrelid IN (to_regclass('public.likes'), to_regclass('public.skips'), to_regclass('public.recommendation_blocks'))
             ) FROM twotower.change_key",
        )
        .fetch_one(&mut *session)
        .await?;
        session.commit().await?;
        let secret = secret.try_into().map_err(|_| StoreError::Row {
            query: "change_key",
            column: "key",
            reason: "is not 32 bytes long".into(),
        })?;
        Ok(complete.then(|| UserChangeHasher::new(secret)))
    }
}

impl UserChanges {
    /// Timeout for connecting.
    pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

    /// Computes the keys that name users in messages since the latest [`UserChange::All`].
    pub fn hasher(&self) -> UserChangeHasher {
        self.hasher.clone()
    }

    /// The next change. Cancel safe: no change is lost.
    pub async fn next(&mut self) -> UserChange {
        loop {
            if let Some(change) = self.heard.pop_front() {
                return change;
            }
            let Some(line) = &mut self.line else {
                tokio::time::sleep(self.wait).await;
                self.wait = (2 * self.wait).min(LONGEST_WAIT);
                match self.connect_again().await {
                    Ok(true) => return UserChange::All,
                    Ok(false) => {
                        tracing::debug!("notifications do not arrive; another try follows");
                    }
                    Err(error) => tracing::debug!(%error, "cannot listen; another try follows"),
                }
                continue;
            };
            match tokio::time::timeout(SILENCE, line.listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    self.heard.extend(UserChange::parse(notification.payload()));
                }
                Err(_) if line.is_there().await => {}
                Ok(Ok(None) | Err(_)) | Err(_) => {
                    self.line = None;
                    return UserChange::Lost;
                }
            }
        }
    }

    /// Drops the connection, whose server may not report changes to this database, and reconnects
    /// soon. The next change is [`UserChange::Lost`] if there was a connection.
    pub fn hang_up(&mut self) {
        self.wait = FIRST_WAIT;
        if self.line.take().is_some() {
            self.heard.clear();
            self.heard.push_back(UserChange::Lost);
        }
    }

    /// The same where there was a connection before. The address may lead to another database
    /// since, as after a restoration.
    async fn connect_again(&mut self) -> Result<bool, StoreError> {
        let Some(hasher) = self.engine.change_hasher().await? else {
            return Ok(false);
        };
        self.hasher = hasher;
        self.connect().await
    }

    /// Listens, and returns whether notifications arrive.
    async fn connect(&mut self) -> Result<bool, StoreError> {
        let Some((mut listener, pool)) = self.session_of_its_own().await? else {
            return Ok(false);
        };
        within_patience(listener.listen(CHANNEL)).await?;
        let mut session = self.engine.begin().await?;
        let token: String = query_scalar(
            "SELECT token FROM (SELECT 'probe ' || gen_random_uuid() AS token OFFSET 0) AS probe, pg_notify($1, token)",
        )
        .bind(CHANNEL)
        .fetch_one(&mut *session)
        .await?;
        session.commit().await?;
        // Nothing was received over a connection that was not established.
        let mut heard = VecDeque::new();
        let arrives = async {
            while let Some(notification) = listener.try_recv().await? {
                if notification.payload() == token {
                    return Ok::<_, sqlx::Error>(true);
                }
                heard.extend(UserChange::parse(notification.payload()));
            }
            // The connection broke, which says nothing about whether notifications arrive.
            Err(sqlx::Error::Io(io::ErrorKind::ConnectionAborted.into()))
        };
        let arrived = match tokio::time::timeout(PATIENCE, arrives).await {
            Ok(arrived) => arrived?,
            Err(_) => false,
        };
        if arrived {
            self.heard = heard;
            self.wait = FIRST_WAIT;
            self.line = Some(Line {
                listener,
                _pool: pool,
            });
        }
        Ok(arrived)
    }

    /// A connection with its own session on the server; `None` behind a pooler.
    ///
    /// A pooler in transaction mode would accept `LISTEN` but deliver nothing. Worse, the session
    /// would keep listening while it serves other clients, which expect no notifications. Therefore
    /// nothing is listened to until a setting that was made at connection start is found in the
    /// session. Poolers refuse or drop such settings.
    async fn session_of_its_own(&self) -> Result<Option<(PgListener, PgPool)>, StoreError> {
        let mut session = self.engine.begin().await?;
        let name: Uuid = query_scalar("SELECT gen_random_uuid()")
            .fetch_one(&mut *session)
            .await?;
        session.commit().await?;
        let options = self.engine.pool.connect_options();
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Self::CONNECT_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with((*options).clone().options([(OWN_SETTING, name)]));
        let mut listener = match PgListener::connect_with(&pool).await {
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some(PROTOCOL_VIOLATION) =>
            {
                return Ok(None);
            }
            listener => listener?,
        };
        listener.eager_reconnect(false);
        let asked = query_scalar::<Option<String>>("SELECT current_setting($1, true)")
            .bind(OWN_SETTING)
            .fetch_one(&mut listener);
        let found = within_patience(asked).await?;
        let own = found.is_some_and(|found| found == name.to_string());
        Ok(own.then_some((listener, pool)))
    }
}

impl Line {
    async fn is_there(&mut self) -> bool {
        // A server that has become a replica sends no notifications, but still answers.
        let asked = query_scalar("SELECT NOT pg_is_in_recovery()").fetch_one(&mut self.listener);
        within_patience(asked).await.unwrap_or(false)
    }
}

async fn within_patience<T>(
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(StoreError::Deadline {
            operation: "listen_user_changes",
            limit: PATIENCE,
        }),
    }
}
