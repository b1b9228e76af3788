//! Computes the WAL position that a replica must have replayed for a user's state to be read there.

use crate::serve::metrics::Fallback;
use crate::serve::recommendations::Subject;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use twotower_store::WalPosition;

/// Positions are kept for this long, so that the lag can be reported even of a replica that is too
/// far behind to be read. At four a second these are 2,400 positions.
const LAG_TOLD: Duration = Duration::from_mins(10);

/// Why no position can be required of the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unverified {
    /// Changes of users are not heard.
    Unheard,
    /// The user has just changed something, and the primary has not reported its position since.
    OwnChange,
    /// The primary has not reported a position for too long.
    Unmeasured,
}

impl From<Unverified> for Fallback {
    fn from(why: Unverified) -> Self {
        match why {
            Unverified::Unheard => Self::Unheard,
            Unverified::OwnChange => Self::OwnChange,
            Unverified::Unmeasured => Self::Unmeasured,
        }
    }
}

/// Positions that the primary has reported, and the times at which changes were heard.
///
/// A replica that has replayed a position has everything that was committed before the primary was
/// asked for that position.
#[derive(Debug, Default)]
pub(super) struct Positions {
    /// When the primary was asked, and its position; in order.
    told: VecDeque<(Instant, WalPosition)>,
    changed: HashMap<Subject, Instant>,
    all_changed: Option<Instant>,
    /// Whether changes are heard.
    heard: bool,
}

impl Positions {
    /// The primary, asked at `asked`, reported `position`. Forgets positions and changes that are
    /// too old to be required or to measure a lag.
    pub(super) fn told(&mut self, asked: Instant, position: WalPosition, max_lag: Duration) {
        self.told.push_back((asked, position));
        if let Some(oldest) = asked.checked_sub(max_lag.max(LAG_TOLD)) {
            while self.told.front().is_some_and(|(at, _)| *at < oldest) {
                self.told.pop_front();
            }
        }
        if let Some(oldest) = asked.checked_sub(max_lag) {
            self.changed.retain(|_, at| *at >= oldest);
        }
    }

    /// Forgets all positions: those of another server cannot be required of a replica.
    pub(super) fn forget(&mut self) {
        self.told.clear();
    }

    pub(super) fn changed(&mut self, subject: Subject, at: Instant) {
        self.changed.insert(subject, at);
    }

    pub(super) fn all_changed(&mut self, at: Instant) {
        self.changed.clear();
        self.all_changed = Some(at);
        self.heard = true;
    }

    pub(super) fn unheard(&mut self) {
        self.heard = false;
    }

    /// The first position that the primary was asked for no earlier than `max_lag` ago and no
    /// earlier than the user's last change was heard. A replica that has replayed it has everything
    /// that was committed before it was asked for.
    pub(super) fn required(
        &self,
        subject: &Subject,
        now: Instant,
        max_lag: Duration,
    ) -> Result<WalPosition, Unverified> {
        if !self.heard {
            return Err(Unverified::Unheard);
        }
        let own = self.changed.get(subject).copied().max(self.all_changed);
        let long_ago = now.checked_sub(max_lag);
        let since = own.max(long_ago);
        let first = since.map_or(0, |since| self.told.partition_point(|(at, _)| *at < since));
        match self.told.get(first) {
            Some((_, position)) => Ok(*position),
            None if own > long_ago && !self.told.is_empty() => Err(Unverified::OwnChange),
            None => Err(Unverified::Unmeasured),
        }
    }

    /// When the primary was asked for the latest position that is not after `replayed`.
    pub(super) fn as_of(&self, replayed: WalPosition) -> Option<Instant> {
        let passed = self
            .told
            .iter()
            .rev()
            .find(|(_, position)| *position <= replayed);
        passed.map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const MAX_LAG: Duration = Duration::from_secs(1);

    fn somebody() -> Subject {
        Subject::User(Uuid::from_u128(1))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The primary, asked every quarter of a second, said 100, 200, …
    fn told(start: Instant, times: u32) -> Positions {
        let mut positions = Positions::default();
        positions.all_changed(start);
        for n in 0..times {
            let position = WalPosition::new(u64::from(n + 1) * 100);
            positions.told(start + ms(250) * n, position, MAX_LAG);
        }
        positions
    }

    fn required(positions: &Positions, now: Instant) -> Result<WalPosition, Unverified> {
        positions.required(&somebody(), now, MAX_LAG)
    }

    #[test]
    fn a_replica_may_lack_what_is_younger_than_the_longest_lag() {
        let start = Instant::now();
        let mut positions = told(start, 13);
        // At 3 s, everything committed at 2 s is required. Asked then, the primary said 900.
        assert_eq!(
            required(&positions, start + ms(3000)),
            Ok(WalPosition::new(900))
        );
        assert_eq!(
            required(&positions, start + ms(3001)),
            Ok(WalPosition::new(1000))
        );
        assert_eq!(
            positions.as_of(WalPosition::new(1099)),
            Some(start + ms(2250))
        );
        // A position that is too old to be required still measures a lag for a while.
        assert_eq!(
            positions.as_of(WalPosition::new(899)),
            Some(start + ms(1750))
        );
        assert_eq!(positions.as_of(WalPosition::new(99)), None);
        let later = start + LAG_TOLD + ms(500);
        positions.told(later, WalPosition::new(2000), MAX_LAG);
        assert_eq!(positions.as_of(WalPosition::new(299)), None);
        assert_eq!(
            positions.as_of(WalPosition::new(300)),
            Some(start + ms(500))
        );
        assert_eq!(required(&positions, later), Ok(WalPosition::new(2000)));
        assert_eq!(
            required(&positions, later + ms(1001)),
            Err(Unverified::Unmeasured)
        );
    }

    #[test]
    fn nothing_is_sure_once_the_primary_says_nothing() {
        let start = Instant::now();
        let positions = told(start, 3);
        assert_eq!(
            required(&positions, start + ms(1500)),
            Ok(WalPosition::new(300))
        );
        assert_eq!(
            required(&positions, start + ms(1501)),
            Err(Unverified::Unmeasured)
        );
    }

    #[test]
    fn a_change_is_not_missed_and_concerns_nobody_else() {
        let start = Instant::now();
        let mut positions = told(start, 13);
        let (before, now) = (start + ms(3099), start + ms(3100));
        positions.changed(somebody(), now);
        assert_eq!(required(&positions, now), Err(Unverified::OwnChange));
        let other = Subject::User(Uuid::from_u128(2));
        assert!(positions.required(&other, now, MAX_LAG).is_ok());
        // Asked before the change was heard, and reported after it.
        positions.told(before, WalPosition::new(1400), MAX_LAG);
        assert_eq!(required(&positions, now), Err(Unverified::OwnChange));
        positions.told(now + ms(1), WalPosition::new(1500), MAX_LAG);
        assert_eq!(
            required(&positions, now + ms(2)),
            Ok(WalPosition::new(1500))
        );
        assert_eq!(positions.changed.len(), 1);
        positions.told(now + ms(1001), WalPosition::new(1600), MAX_LAG);
        assert!(positions.changed.is_empty(), "what is old is forgotten");
    }

    #[test]
    fn unheard_changes_may_be_anybodys() {
        let start = Instant::now();
        let mut positions = told(start, 4);
        positions.unheard();
        let now = start + ms(900);
        assert_eq!(required(&positions, now), Err(Unverified::Unheard));
        positions.all_changed(now);
        assert_eq!(required(&positions, now), Err(Unverified::OwnChange));
        positions.told(now, WalPosition::new(500), MAX_LAG);
        assert_eq!(required(&positions, now), Ok(WalPosition::new(500)));
    }
}
