use std::time::{Duration, Instant};

/// Wall-clock budget of a search, over all of its runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    limit: Duration,
    /// Time used by earlier runs.
    before: Duration,
    started: Instant,
}

impl Budget {
    /// A budget of `limit`, of which `used_s` seconds are used already. The clock runs from
    /// `started`.
    pub(super) fn new(limit: Duration, used_s: f64, started: Instant) -> Self {
        Self {
            limit,
            before: Duration::try_from_secs_f64(used_s).unwrap_or_default(),
            started,
        }
    }

    /// Seconds used, earlier runs included.
    pub(super) fn used_s(&self) -> f64 {
        (self.before + self.started.elapsed()).as_secs_f64()
    }

    /// Whether the budget is used up.
    pub(super) fn is_over(&self) -> bool {
        self.before + self.started.elapsed() >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_search_has_only_what_is_left() {
        let hour = Duration::from_hours(1);
        let now = Instant::now();
        assert!(!Budget::new(hour, 0.0, now).is_over());
        assert!(Budget::new(hour, 3600.0, now).is_over());
        assert!(!Budget::new(2 * hour, 3600.0, now).is_over());
        assert!(Budget::new(hour, 3600.5, now).used_s() >= 3600.5);
        assert!(Budget::new(Duration::ZERO, 0.0, now).is_over());
    }
}
