use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

const SHARDS: usize = 16;

/// Most users remembered in a shard: 24 bytes each, 3 MB in all with the spare room of the tables.
const SHARD_USERS: usize = 4096;

/// Number of users compared to choose one to forget.
const EVICTION_SAMPLE: usize = 8;

/// Rate limit of one user: of requests, or of the events that they record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRate {
    /// How many a second in the long run.
    pub per_second: u32,
    /// How many at once, after a pause.
    pub burst: u32,
}

/// A token bucket for each user, stored as the time at which it is full again (the generic cell
/// rate algorithm, ITU-T I.371). That is one number, and users whose buckets are full need no
/// entry.
#[derive(Debug)]
pub(in crate::serve) struct UserRates {
    started: Instant,
    buckets: Buckets,
}

impl UserRates {
    pub(in crate::serve) fn new(rate: UserRate) -> Self {
        Self {
            started: Instant::now(),
            buckets: Buckets::new(rate),
        }
    }

    /// Takes `tokens` of `user`: all of them, or none.
    ///
    /// # Errors
    /// The time until there are as many.
    pub(in crate::serve) fn take(&self, user: Uuid, tokens: u32) -> Result<(), Duration> {
        self.buckets.take(user, tokens, self.started.elapsed())
    }

    /// Gives back `tokens` of `user` that were taken for nothing.
    pub(in crate::serve) fn give_back(&self, user: Uuid, tokens: u32) {
        self.buckets.give_back(user, tokens);
    }
}

#[derive(Debug)]
struct Buckets {
    /// Nanoseconds in which the bucket gains one token.
    interval: u64,
    /// Nanoseconds in which an empty bucket fills.
    capacity: u64,
    hasher: RandomState,
    /// For each user the time at which the bucket is full again, in nanoseconds since the start.
    shards: [Mutex<HashMap<Uuid, u64, RandomState>>; SHARDS],
}

impl Buckets {
    fn new(rate: UserRate) -> Self {
        let interval = 1_000_000_000 / u64::from(rate.per_second.max(1));
        Self {
            interval,
            capacity: interval * u64::from(rate.burst.max(1)),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn take(&self, user: Uuid, tokens: u32, now: Duration) -> Result<(), Duration> {
        let now = now.as_nanos() as u64;
        let mut full_at = self.shard(user);
        let bucket = full_at.get(&user).copied().unwrap_or(now).max(now);
        let after = bucket + self.interval * u64::from(tokens);
        let allowed = now + self.capacity;
        if after > allowed {
            return Err(Duration::from_nanos(after - allowed));
        }
        if full_at.len() >= SHARD_USERS && !full_at.contains_key(&user) {
            forget_one(&mut full_at);
        }
        full_at.insert(user, after);
        Ok(())
    }

    fn give_back(&self, user: Uuid, tokens: u32) {
        // A user who was forgotten meanwhile has a full bucket again.
        if let Some(full_at) = self.shard(user).get_mut(&user) {
            *full_at = full_at.saturating_sub(self.interval * u64::from(tokens));
        }
    }

    fn shard(&self, user: Uuid) -> MutexGuard<'_, HashMap<Uuid, u64, RandomState>> {
        let shard = self.hasher.hash_one(user) as usize % SHARDS;
        // Nothing in here panics half-way through a change.
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets, from a small sample, the user whose bucket is full soonest, who gains least by it.
fn forget_one(full_at: &mut HashMap<Uuid, u64, RandomState>) {
    let soonest = full_at
        .iter()
        .take(EVICTION_SAMPLE)
        .min_by_key(|&(_, &full)| full)
        .map(|(&user, _)| user);
    if let Some(user) = soonest {
        full_at.remove(&user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rates = Buckets::new(UserRate {
            per_second: 10,
            burst: 5,
        });
        let ms = Duration::from_millis;
        for _ in 0..5 {
            assert_eq!(rates.take(user(1), 1, ms(0)), Ok(()));
        }
        assert_eq!(rates.take(user(1), 1, ms(0)), Err(ms(100)));
        let other = rates.take(user(2), 1, ms(0));
        assert_eq!(other, Ok(()), "each user has a bucket");
        assert_eq!(rates.take(user(1), 1, ms(60)), Err(ms(40)));
        assert_eq!(rates.take(user(1), 1, ms(100)), Ok(()));
        let mut allowed = 0;
        for at in 100..10_100 {
            allowed += u32::from(rates.take(user(1), 1, ms(at)).is_ok());
        }
        assert!((99..=100).contains(&allowed), "ten a second: {allowed}");
        let rested = (0..9).filter(|_| rates.take(user(1), 1, ms(60_000)).is_ok());
        assert_eq!(rested.count(), 5, "a pause fills the bucket and no more");
    }

    #[test]
    fn many_at_once_are_taken_whole_or_not_at_all() {
        let rates = Buckets::new(UserRate {
            per_second: 2,
            burst: 10,
        });
        let ms = Duration::from_millis;
        assert_eq!(rates.take(user(1), 10, ms(0)), Ok(()));
        assert_eq!(rates.take(user(1), 4, ms(500)), Err(ms(1500)));
        assert_eq!(rates.take(user(1), 1, ms(500)), Ok(()), "none was taken");
        assert_eq!(rates.take(user(1), 4, ms(2500)), Ok(()));
        rates.give_back(user(1), 4);
        assert_eq!(rates.take(user(1), 4, ms(2500)), Ok(()));
        assert_eq!(rates.take(user(1), 1, ms(2500)), Err(ms(500)));
        rates.give_back(user(2), 4);
        assert_eq!(
            rates.take(user(2), 11, ms(0)),
            Err(ms(500)),
            "more than fit"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let rates = Buckets::new(UserRate {
            per_second: 1,
            burst: 1,
        });
        for n in 0..200_000 {
            assert_eq!(
                rates.take(user(n), 1, Duration::from_nanos(n as u64)),
                Ok(())
            );
        }
        for shard in &rates.shards {
            assert!(shard.lock().unwrap().len() <= SHARD_USERS);
        }
    }
}
