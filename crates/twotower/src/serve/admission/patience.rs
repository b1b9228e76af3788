use std::time::Duration;

/// A queue that has not been empty for so long stands: it no longer takes up a burst but only delays everybody.
const STANDING: Duration = Duration::from_millis(100);

/// The patience in a standing queue, as a share of the usual one.
const STANDING_SHARE: u32 = 4;

/// How long a request waits for its place at most: long enough to take up a burst, and much shorter once the queue stands, so
/// that a refusal comes while its caller can still do something else. (`CoDel`, Nichols and Jacobson, ACM Queue 10(5), 2012, in
/// the form for servers of Maurer, "Fail at Scale", ACM Queue 13(8), 2015.)
///
/// There it is 100 ms, and 5 in a standing queue; here 25. A server of a few thousand requests a second works off in 5 ms what twenty
/// connections ask, so that it refused some of fifty that it could all have answered within 15.
#[derive(Debug)]
pub(super) struct Patience {
    usual: Duration,
    last_empty: Duration,
}

impl Patience {
    pub(super) fn new(usual: Duration) -> Self {
        Self {
            usual,
            last_empty: Duration::ZERO,
        }
    }

    /// For a request that comes at `now` (since some start) and finds `waiting` others.
    pub(super) fn next(&mut self, now: Duration, waiting: usize) -> Duration {
        if waiting == 0 {
            self.last_empty = now;
        }
        if now.saturating_sub(self.last_empty) > STANDING {
            self.usual / STANDING_SHARE
        } else {
            self.usual
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_queue_makes_impatient_and_an_empty_one_patient_again() {
        let ms = Duration::from_millis;
        let mut patience = Patience::new(ms(100));
        assert_eq!(patience.next(ms(1000), 0), ms(100));
        assert_eq!(patience.next(ms(1100), 3), ms(100));
        assert_eq!(patience.next(ms(1101), 1), ms(25));
        assert_eq!(patience.next(ms(1102), 0), ms(100));
        assert_eq!(patience.next(ms(1103), 1), ms(100));
    }
}
