//! Asks primary and replica how far they are, a few times a second, and notices when another server is behind the address of the primary.

use super::{Follower, Sources};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use twotower_store::{PrimaryPosition, Replica, Store, StoreError, WalPosition};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// What one look may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// One look in so many is on a new connection: an old one would go on leading to a server that the address does not lead to any more.
const NEW_CONNECTION: u32 = 8;

impl Sources {
    /// Looks for ever; without a replica there is nothing to look at.
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
            if look.is_multiple_of(NEW_CONNECTION) {
                watch.primary.drop_connections();
            }
            watch.look().await;
            sleep(EVERY.saturating_sub(begun.elapsed())).await;
        }
    }
}

struct Watch<'a> {
    sources: &'a Sources,
    follower: &'a Follower,
    /// Connections of its own: behind the requests it would measure their queue.
    primary: Store,
    replica: Replica,
    /// Which start of which server answered last.
    server: Option<String>,
    /// Looks in a row that took too long.
    late: u32,
    /// Whether the primary did not answer when last looked at.
    down: bool,
    /// What the replica is known to have is as of this moment; of one that has never answered, when it was first asked.
    as_of: Instant,
}

impl Watch<'_> {
    async fn look(&mut self) {
        let asked = Instant::now();
        let (told, seen) = tokio::join!(
            timeout(PATIENCE, self.primary.primary_position()),
            timeout(PATIENCE, self.replica.position()),
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
            // Who listens may be waiting long for the next try.
            self.follower.switched.notify_one();
        }
    }

    fn is_late(&mut self) {
        self.late += 1;
        // Once is a hiccup.
        if self.late > 1 {
            self.is_away(&StoreError::Deadline {
                operation: "primary_position",
                limit: PATIENCE,
            });
        }
    }

    fn is_away(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.down, true) {
            // It may still answer on connections that were there before: as a replica, or as one that nobody should write to.
            self.switch();
        }
        self.follower.primary_fails(error);
        self.primary.drop_connections();
    }

    /// No connection that is there now is used any more, and nothing that was told on one counts.
    fn switch(&self) {
        self.sources.primary.drop_connections();
        // Nothing is sure before changes are heard from the new one.
        self.sources.unheard();
        self.follower.positions().forget();
        self.follower.switched.notify_one();
    }
}
