//! Asks primary and replica for their positions a few times a second, and notices when another
//! server is behind the address of the primary.

use super::{Follower, Sources};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use twotower_store::{PrimaryPosition, Replica, Store, StoreError, WalPosition};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// Deadline of one look.
const DEADLINE: Duration = Duration::from_secs(1);

/// One look in this many uses a new connection, since an old one may lead to a server that the
/// address no longer leads to.
const NEW_CONNECTION_EVERY: u32 = 8;

impl Sources {
    /// Looks for ever; returns at once without a replica.
    pub(in crate::serve) async fn watch(&self) {
        let Some(follower) = &self.follower else {
            return;
        };
        let mut watch = Watch {
            sources: self,
            follower,
            primary: self.primary.apart(1),
            replica: follower.replica.apart(1),
            server: None,
            late: 0,
            down: false,
            as_of: Instant::now(),
        };
        for look in 0u32.. {
            let begun = Instant::now();
            if look.is_multiple_of(NEW_CONNECTION_EVERY) {
                watch.primary.drop_connections();
            }
            watch.look().await;
            sleep(INTERVAL.saturating_sub(begun.elapsed())).await;
        }
    }
}

struct Watch<'a> {
    sources: &'a Sources,
    follower: &'a Follower,
    /// A connection of its own: behind the requests it would measure their queue.
    primary: Store,
    replica: Replica,
    /// The server that answered last, and which start of it.
    server: Option<String>,
    /// Number of looks in a row that took too long.
    late: u32,
    /// Whether the primary did not answer when last looked at.
    down: bool,
    /// The replica has everything that was committed by this moment. Before its first answer, the
    /// moment when it was first asked.
    as_of: Instant,
}

impl Watch<'_> {
    async fn look(&mut self) {
        let asked = Instant::now();
        let (told, seen) = tokio::join!(
            timeout(DEADLINE, self.primary.primary_position()),
            timeout(DEADLINE, self.replica.position()),
        );
        match told {
            Ok(Ok(Some(told))) => self.is_there(asked, told),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => self.is_away(&error),
            Err(_) => self.is_late(),
        }
        let seen = match seen {
            Ok(Ok(position)) => position,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the replica does not answer");
                None
            }
            Err(_) => None,
        };
        self.follower
            .seen
            .store(seen.map_or(0, WalPosition::bytes), Ordering::Relaxed);
        if let Some(as_of) = seen.and_then(|seen| self.follower.positions().as_of(seen)) {
            self.as_of = as_of.max(self.as_of);
        }
        let lag = self.as_of.elapsed();
        self.sources.metrics.set_replica_lag(lag);
    }

    fn is_there(&mut self, asked: Instant, told: PrimaryPosition) {
        self.late = 0;
        if self.server.as_ref() != Some(&told.server) {
            if self.server.is_some() {
                tracing::warn!("another server is the primary, or it was started anew");
                self.switch();
            }
            self.server = Some(told.server);
        }
        self.follower
            .positions()
            .told(asked, told.position, self.follower.max_lag);
        if self.follower.away.swap(false, Ordering::Relaxed) {
            tracing::warn!("the primary answers again");
        }
        if std::mem::take(&mut self.down) {
            // The listener for changes may be waiting long for its next try.
            self.follower.switched.notify_one();
        }
    }

    fn is_late(&mut self) {
        self.late += 1;
        // A single late answer may be a hiccup.
        if self.late > 1 {
            self.is_away(&StoreError::Deadline {
                operation: "primary_position",
                limit: DEADLINE,
            });
        }
    }

    fn is_away(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.down, true) {
            // The server may still answer on old connections: as a replica, or as a former primary
            // that must not be written to.
            self.switch();
        }
        self.follower.primary_fails(error);
        self.primary.drop_connections();
    }

    /// Drops all connections, and everything that was reported on them.
    fn switch(&self) {
        self.sources.primary.drop_connections();
        // Nothing is verified until changes are heard from the new server.
        self.sources.unheard();
        self.follower.positions().forget();
        self.follower.switched.notify_one();
    }
}
