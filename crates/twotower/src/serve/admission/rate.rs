use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

const SHARDS: usize = 16;

/// Most users remembered in a shard: 24 bytes each, 3 MB in all with the spare room of the tables.
const SHARD_USERS: usize = 4096;

/// Number of users compared to choose one to forget.
const EVICTION_SAMPLE: usize = 8;

/// Rate limit of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRate {
    /// Requests a second in the long run.
    pub per_second: u32,
    /// Requests at once, after a pause.
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

    /// Takes one token of `user`.
    ///
    /// # Errors
    /// The time until the next token.
    pub(in crate::serve) fn take(&self, user: Uuid) -> Result<(), Duration> {
        self.buckets.take(user, self.started.elapsed())
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

    fn take(&self, user: Uuid, now: Duration) -> Result<(), Duration> {
        let now = now.as_nanos() as u64;
        let shard = self.hasher.hash_one(user) as usize % SHARDS;
        let mut full_at = self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let bucket = full_at.get(&user).copied().unwrap_or(now).max(now);
        let after = bucket + self.interval;
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
            assert_eq!(rates.take(user(1), ms(0)), Ok(()));
        }
        assert_eq!(rates.take(user(1), ms(0)), Err(ms(100)));
        assert_eq!(rates.take(user(2), ms(0)), Ok(()), "each user has a bucket");
        assert_eq!(rates.take(user(1), ms(60)), Err(ms(40)));
        assert_eq!(rates.take(user(1), ms(100)), Ok(()));
        let mut allowed = 0;
        for at in 100..10_100 {
            allowed += u32::from(rates.take(user(1), ms(at)).is_ok());
        }
        assert!((99..=100).contains(&allowed), "ten a second: {allowed}");
        let rested = (0..9).filter(|_| rates.take(user(1), ms(60_000)).is_ok());
        assert_eq!(rested.count(), 5, "a pause fills the bucket and no more");
    }

    #[test]
    fn memory_is_bounded() {
        let rates = Buckets::new(UserRate {
            per_second: 1,
            burst: 1,
        });
        for n in 0..200_000 {
            assert_eq!(rates.take(user(n), Duration::from_nanos(n as u64)), Ok(()));
        }
        for shard in &rates.shards {
            assert!(shard.lock().unwrap().len() <= SHARD_USERS);
        }
    }
}
