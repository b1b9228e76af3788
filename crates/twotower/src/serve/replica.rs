//! Reads users' states from a streaming replica while it is fresh enough, and from the primary
//! otherwise.
//!
//! The primary reports its WAL position a few times a second. A replica that has replayed a
//! position reported after a user's change has that change. Each read on the replica also returns
//! the position that it has replayed, so correctness depends neither on an earlier look at the
//! replica nor on the clocks of the two machines agreeing.

mod positions;

mod watch;

use super::metrics::{Fallback, Metrics, ReadFrom};
use super::recommendations::Subject;
use positions::{Positions, Unverified};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout_at};
use twotower_store::{Replica, Store, StoreError, UserState, WalPosition};
use uuid::Uuid;

/// A replica, and how fresh it must be.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// The replica.
    pub replica: Replica,
    /// Anything committed longer ago than this must be in what is read there.
    pub max_lag: Duration,
}

/// The state of a user, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) state: UserState,
    /// Whether the state is known to be complete. A replica alone cannot tell while the primary is
    /// away.
    pub(super) verified: bool,
}

/// A user whose state is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) user: Uuid,
    /// The user as notifications name them.
    pub(super) subject: Subject,
}

/// The position that the replica must have replayed, or why only the primary can answer.
type Required = Result<WalPosition, Unverified>;

/// One entry for each user asked for; `None` for an erased user.
type Outcome = Result<Vec<Option<Known>>, StoreError>;

/// The servers that users' states are read from.
#[derive(Debug)]
pub(super) struct Sources {
    primary: Store,
    follower: Option<Follower>,
    metrics: Arc<Metrics>,
    delays: HedgeDelays,
}

/// Delays of a hedged read: one that asks a second server when the first one is slow.
#[derive(Debug, Clone, Copy)]
struct HedgeDelays {
    /// How long one server has to answer before the other one is asked.
    ask_other: Duration,
    /// How long the primary has to answer before an unverified state of the replica is taken.
    take_unverified: Duration,
}

/// The replica, and what is known about it and the primary.
#[derive(Debug)]
struct Follower {
    replica: Replica,
    max_lag: Duration,
    positions: Mutex<Positions>,
    /// WAL position of the replica when last looked at, bytes; 0 while it does not answer or is no
    /// replica.
    seen: AtomicU64,
    /// Whether the primary does not answer, or takes no writes.
    away: AtomicBool,
    /// Notified when another server may be behind the address of the primary.
    switched: Notify,
}

impl Sources {
    /// `soft` is how long an answer waits for a state; `None`: as long as the database may take.
    pub(super) fn new(
        primary: Store,
        config: Option<ReplicaConfig>,
        soft: Option<Duration>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let soft = soft.unwrap_or(Duration::from_secs(1));
        Self {
            primary,
            follower: config.map(|config| Follower {
                replica: config.replica,
                max_lag: config.max_lag,
                positions: Mutex::default(),
                seen: AtomicU64::new(0),
                away: AtomicBool::new(false),
                switched: Notify::new(),
            }),
            metrics,
            delays: HedgeDelays {
                ask_other: soft / 3,
                take_unverified: soft * 9 / 10,
            },
        }
    }

    /// Every later read of this user's state includes all that is committed by now.
    pub(super) fn changed(&self, subject: Subject) {
        if let Some(follower) = &self.follower {
            follower.positions().changed(subject, Instant::now());
        }
    }

    /// As [`Self::changed`], for every user. From now on changes are heard.
    pub(super) fn all_changed(&self) {
        if let Some(follower) = &self.follower {
            follower.positions().all_changed(Instant::now());
        }
    }

    /// From now on changes are not heard.
    pub(super) fn unheard(&self) {
        if let Some(follower) = &self.follower {
            follower.positions().unheard();
        }
    }

    /// Whether there is a replica.
    pub(super) fn has_replica(&self) -> bool {
        self.follower.is_some()
    }

    /// Completes when another server may be behind the address of the primary; never without a
    /// replica.
    pub(super) async fn switched(&self) {
        match &self.follower {
            Some(follower) => follower.switched.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Whether states can be read, using the statement that requests use, for a user who does not
    /// exist: on the primary, or on the replica while the primary is away. A mere connection would
    /// not test tables, functions and grants.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let nobody = [Uuid::nil()];
        let on_primary = async || {
            let read = Box::pin(self.primary.user_states(&nobody, UserState::EVERY_SKIP));
            read.await.map(drop)
        };
        let Some(follower) = &self.follower else {
            return on_primary().await;
        };
        let on_replica = async || {
            let states = follower.replica.user_states(&nobody, UserState::EVERY_SKIP);
            let read = Box::pin(states);
            read.await.map(drop)
        };
        if follower.is_away() {
            return on_replica().await;
        }
        tokio::select! {
            answer = on_primary() => match answer {
                Err(error) if error.is_transient() => on_replica().await,
                answer => answer,
            },
            // If this fails, the primary gets all the time that it needs.
            Ok(()) = async {
                sleep(self.delays.ask_other).await;
                on_replica().await
            } => Ok(()),
        }
    }

    /// The likes, skips and blocks of each user `asked` for.
    pub(super) async fn read(&self, asked: &[Asked]) -> Outcome {
        match &self.follower {
            None => self.on_primary(asked).await,
            Some(follower) => Box::pin(self.read_with(follower, asked)).await,
        }
    }

    async fn read_with(&self, follower: &Follower, asked: &[Asked]) -> Outcome {
        if follower.is_away() {
            return match self.on_replica_unverified(follower, asked).await {
                Ok(known) => Ok(known),
                Err(_) => self.on_primary(asked).await,
            };
        }
        let required = follower.required(asked);
        self.count_unverified(&required);
        let seen = WalPosition::new(follower.seen.load(Ordering::Relaxed));
        let usable = |place: &usize| required[*place].is_ok_and(|required| required <= seen);
        let (there, here): (Vec<usize>, Vec<usize>) = (0..asked.len()).partition(usable);
        let behind = here.iter().filter(|&&place| required[place].is_ok());
        let why = match seen.bytes() {
            0 => Fallback::Failed,
            _ => Fallback::Behind,
        };
        self.metrics.fell_back(why, behind.count());
        let pick = |places: &[usize]| places.iter().map(|&place| asked[place]).collect::<Vec<_>>();
        let (asked_there, asked_here) = (pick(&there), pick(&here));
        let (from_replica, from_primary) = tokio::join!(
            self.on_replica(follower, &asked_there),
            self.on_primary_or_else(follower, &asked_here),
        );
        let mut known: Vec<Option<Known>> = vec![None; asked.len()];
        for (place, of_user) in here.into_iter().zip(from_primary?) {
            known[place] = of_user;
        }
        let mut again = Vec::new();
        for (place, of_user) in there.into_iter().zip(from_replica) {
            match of_user {
                Some(of_user) => known[place] = of_user,
                None => again.push(place),
            }
        }
        let asked_again = pick(&again);
        let from_primary = self.on_primary_or_else(follower, &asked_again).await?;
        for (place, of_user) in again.into_iter().zip(from_primary) {
            known[place] = of_user;
        }
        Ok(known)
    }

    fn count_unverified(&self, required: &[Required]) {
        for why in [
            Unverified::Unheard,
            Unverified::OwnChange,
            Unverified::Unmeasured,
        ] {
            let users = required.iter().filter(|it| **it == Err(why)).count();
            self.metrics.fell_back(why.into(), users);
        }
    }

    /// The replica's answer for each user; `None` for a user who must be read on the primary, since
    /// the replica does not have the required position yet.
    async fn on_replica(&self, follower: &Follower, asked: &[Asked]) -> Vec<Option<Option<Known>>> {
        if asked.is_empty() {
            return Vec::new();
        }
        // Computed again: changes heard meanwhile count.
        let required = follower.required(asked);
        let read = tokio::time::timeout(self.delays.ask_other, follower.states(asked)).await;
        let (position, states) = match read {
            Ok(Ok(read)) => read,
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::debug!(%error, "the replica cannot be read");
                }
                follower.seen.store(0, Ordering::Relaxed);
                self.metrics.fell_back(Fallback::Failed, asked.len());
                return vec![None; asked.len()];
            }
        };
        let known: Vec<_> = states
            .into_iter()
            .zip(required)
            .map(|(state, required)| {
                let known = |state| Known {
                    state,
                    verified: true,
                };
                is_past(position, required).then(|| state.map(known))
            })
            .collect();
        let read = known.iter().filter(|known| known.is_some()).count();
        self.metrics.read_states(ReadFrom::Replica, read);
        self.metrics.fell_back(Fallback::Behind, known.len() - read);
        known
    }

    /// The replica's answer, however old: the primary is away.
    async fn on_replica_unverified(&self, follower: &Follower, asked: &[Asked]) -> Outcome {
        let required = follower.required(asked);
        let (position, states) = follower.states(asked).await?;
        self.metrics.read_states(ReadFrom::Replica, asked.len());
        self.metrics.fell_back(Fallback::PrimaryAway, asked.len());
        let known = |(state, required): (Option<UserState>, Required)| {
            state.map(|state| Known {
                state,
                verified: is_past(position, required),
            })
        };
        Ok(states.into_iter().zip(required).map(known).collect())
    }

    async fn on_primary(&self, asked: &[Asked]) -> Outcome {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let states = primary_states(self.primary.clone(), asked.to_vec(), &self.metrics);
        Box::pin(states).await
    }

    /// The primary's answer, or the replica's if the primary is away or slow (hedged read).
    async fn on_primary_or_else(&self, follower: &Follower, asked: &[Asked]) -> Outcome {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let begun = tokio::time::Instant::now();
        let (store, users, metrics) = (
            self.primary.clone(),
            asked.to_vec(),
            Arc::clone(&self.metrics),
        );
        // In a task of its own, so that it goes on if the replica is faster: cutting it off would
        // cost the connection.
        let mut primary = tokio::spawn(async move { primary_states(store, users, &metrics).await });
        match timeout_at(begun + self.delays.ask_other, &mut primary).await {
            Ok(Ok(Ok(known))) => return Ok(known),
            Ok(Ok(Err(error))) if !error.is_outage() => return Err(error),
            Ok(failed) => {
                if let Ok(Err(error)) = failed
                    && !matches!(error, StoreError::Busy(_))
                {
                    follower.primary_fails(&error);
                }
                return match self.on_replica_unverified(follower, asked).await {
                    Ok(known) => Ok(known),
                    // Perhaps only that connection was broken.
                    Err(_) => self.on_primary(asked).await,
                };
            }
            Err(_) => {}
        }
        let replica = self.on_replica_unverified(follower, asked);
        match either(primary, replica, begun + self.delays.take_unverified).await {
            Some(outcome) => outcome,
            None => self.on_primary(asked).await,
        }
    }
}

/// The answer of `primary`, or that of `replica` if `primary` is away or has not answered by
/// `last`. `None` if neither answers, not even with an error.
async fn either(
    mut primary: JoinHandle<Outcome>,
    replica: impl Future<Output = Outcome>,
    last: tokio::time::Instant,
) -> Option<Outcome> {
    let mut replica = pin!(replica);
    let mut instead: Option<Vec<Option<Known>>> = None;
    let mut replica_failed = false;
    loop {
        tokio::select! {
            known = &mut primary => return match (known, instead) {
                (Ok(Ok(known)), _) | (_, Some(known)) => Some(Ok(known)),
                (Ok(Err(error)), None) if replica_failed || !error.is_outage() => Some(Err(error)),
                (Err(_), None) if replica_failed => None,
                _ => Some(replica.await),
            },
            known = &mut replica, if instead.is_none() && !replica_failed => match known {
                Ok(known) if known.iter().flatten().all(|known| known.verified) => return Some(Ok(known)),
                Ok(known) => instead = Some(known),
                Err(error) => {
                    tracing::debug!(%error, "the replica cannot be read");
                    replica_failed = true;
                }
            },
            () = tokio::time::sleep_until(last), if instead.is_some() => {
                return Some(Ok(instead.unwrap_or_default()));
            }
        }
    }
}

/// The states of users on the primary, which are always complete.
async fn primary_states(store: Store, asked: Vec<Asked>, metrics: &Metrics) -> Outcome {
    let users: Vec<Uuid> = asked.iter().map(|asked| asked.user).collect();
    let states = store.user_states(&users, UserState::EVERY_SKIP).await?;
    metrics.read_states(ReadFrom::Primary, users.len());
    let known = |state| Known {
        state,
        verified: true,
    };
    Ok(states.into_iter().map(|state| state.map(known)).collect())
}

/// Whether a replica that has replayed `position` has the required one.
fn is_past(position: Option<WalPosition>, required: Required) -> bool {
    required.is_ok_and(|required| position.is_some_and(|position| required <= position))
}

impl Follower {
    /// The position that the replica must have replayed, for each user.
    fn required(&self, asked: &[Asked]) -> Vec<Required> {
        let now = Instant::now();
        let positions = self.positions();
        asked
            .iter()
            .map(|asked| positions.required(&asked.subject, now, self.max_lag))
            .collect()
    }

    fn positions(&self) -> MutexGuard<'_, Positions> {
        // No panic can come between two changes that belong together.
        self.positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    fn primary_fails(&self, error: &StoreError) {
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the primary does not answer; likes are read from the replica");
        }
    }

    /// The position that the replica had replayed, and the state of each user.
    async fn states(
        &self,
        asked: &[Asked],
    ) -> Result<(Option<WalPosition>, Vec<Option<UserState>>), StoreError> {
        let users: Vec<Uuid> = asked.iter().map(|asked| asked.user).collect();
        let states = self.replica.user_states(&users, UserState::EVERY_SKIP);
        let read = Box::pin(states).await?;
        Ok((read.position, read.states))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    const SOON: Duration = Duration::from_millis(20);

    fn known(verified: bool) -> Vec<Option<Known>> {
        let state = UserState::default();
        vec![Some(Known { state, verified })]
    }

    fn panics() -> Outcome {
        panic!("as if by a defect")
    }

    async fn late(after: Duration, says: fn() -> Outcome) -> Outcome {
        sleep(after).await;
        says()
    }

    #[tokio::test]
    async fn a_primary_that_panics_leaves_what_the_replica_says_or_nothing() {
        let last = tokio::time::Instant::now() + Duration::from_mins(1);
        let primary = tokio::spawn(late(Duration::ZERO, panics));
        let read = either(primary, late(SOON, || Ok(known(false))), last).await;
        assert_eq!(read.unwrap().unwrap(), known(false));
        let primary = tokio::spawn(late(SOON, panics));
        let read = either(primary, ready(Err(StoreError::Standby)), last).await;
        assert!(read.is_none());
    }

    #[tokio::test]
    async fn what_a_replica_cannot_vouch_for_is_taken_in_the_end() {
        let last = tokio::time::Instant::now() + SOON;
        let never = || tokio::spawn(pending());
        let read = either(never(), ready(Ok(known(false))), last).await;
        assert_eq!(read.unwrap().unwrap(), known(false));
        let later = last + Duration::from_mins(1);
        let read = either(never(), ready(Ok(known(true))), later).await;
        assert_eq!(read.unwrap().unwrap(), known(true));
    }
}
