use std::time::Duration;

/// A queue that has not been empty for this long is a standing queue: it absorbs no burst and only
/// delays every request.
const STANDING_AFTER: Duration = Duration::from_millis(100);

/// Divides the usual deadline in a standing queue.
const STANDING_DIVISOR: u32 = 4;

/// How long a request waits for its place at most: long enough to absorb a burst, and much shorter
/// in a standing queue, so that a refusal comes while its caller can still do something else.
/// (`CoDel`, Nichols and Jacobson, ACM Queue 10(5), 2012, in the form for servers of Maurer, "Fail
/// at Scale", ACM Queue 13(8), 2015.)
///
/// Maurer waits 100 ms, and 5 ms in a standing queue; here the latter is a quarter of the usual
/// deadline, 25 ms by default. In 5 ms a server of a few thousand requests a second completes only
/// what twenty connections ask for; with that deadline it refused some of fifty requests, all of
/// which it could have answered within 15 ms.
#[derive(Debug)]
pub(super) struct QueueDeadline {
    usual: Duration,
    last_empty: Duration,
}

impl QueueDeadline {
    pub(super) fn new(usual: Duration) -> Self {
        Self {
            usual,
            last_empty: Duration::ZERO,
        }
    }

    /// The deadline of a request that arrives at `now`, counted from a fixed start, and finds
    /// `waiting` others.
    pub(super) fn next(&mut self, now: Duration, waiting: usize) -> Duration {
        if waiting == 0 {
            self.last_empty = now;
        }
        if now.saturating_sub(self.last_empty) > STANDING_AFTER {
            self.usual / STANDING_DIVISOR
        } else {
            self.usual
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_shorter_in_a_standing_queue_until_it_is_empty_again() {
        let ms = Duration::from_millis;
        let mut deadline = QueueDeadline::new(ms(100));
        assert_eq!(deadline.next(ms(1000), 0), ms(100));
        assert_eq!(deadline.next(ms(1100), 3), ms(100));
        assert_eq!(deadline.next(ms(1101), 1), ms(25));
        assert_eq!(deadline.next(ms(1102), 0), ms(100));
        assert_eq!(deadline.next(ms(1103), 1), ms(100));
    }
}
