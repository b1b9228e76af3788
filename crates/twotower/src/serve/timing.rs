use crate::time::push_digits;
use axum::http::HeaderValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A part of the time of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for admission.
    Queue,
    /// Verifying the token.
    Auth,
    /// Waiting for the same answer, which another request computes.
    Cache,
    /// Waiting for the database.
    Database,
    /// Waiting for a core.
    Turn,
    /// Embedding, scoring, filtering and selecting.
    Rank,
    /// Serializing the answer as JSON.
    Write,
}

impl Stage {
    /// In the order in which a request goes through them.
    pub const ALL: [Self; 7] = [
        Self::Queue,
        Self::Auth,
        Self::Cache,
        Self::Database,
        Self::Turn,
        Self::Rank,
        Self::Write,
    ];

    /// The name in `Server-Timing` and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Auth => "auth",
            Self::Cache => "cache",
            Self::Database => "db",
            Self::Turn => "turn",
            Self::Rank => "rank",
            Self::Write => "write",
        }
    }
}

/// The time that a request spends in each stage. An extension of every request, shared by all
/// threads that work on it.
#[derive(Debug, Clone, Default)]
pub struct Timing(Arc<[AtomicU64; Stage::ALL.len()]>);

impl Timing {
    /// Counts the time until the guard is dropped. Times of a stage that is entered twice are
    /// added.
    ///
    /// ```
    /// use twotower::serve::{Stage, Timing};
    /// let timing = Timing::default();
    /// {
    ///     let _recording = timing.stage(Stage::Database);
    /// }
    /// assert!(timing.spent(Stage::Database).is_some());
    /// ```
    #[must_use = "the stage lasts until the guard is dropped"]
    pub fn stage(&self, stage: Stage) -> Recording<'_> {
        Recording {
            nanoseconds: &self.0[stage as usize],
            since: Instant::now(),
        }
    }

    /// Time spent in `stage`; `None` if the request was never in it.
    pub fn spent(&self, stage: Stage) -> Option<Duration> {
        match self.0[stage as usize].load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }

    /// The header `Server-Timing` (W3C), in milliseconds; `total` is the time of the whole request.
    pub(super) fn header_value(&self, total: Duration) -> HeaderValue {
        let mut text = String::with_capacity(96);
        for stage in Stage::ALL {
            if let Some(spent) = self.spent(stage) {
                push_entry(&mut text, stage.name(), spent);
                text.push_str(", ");
            }
        }
        push_entry(&mut text, "total", total);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("total"))
    }
}

/// Appends an entry, in milliseconds with three decimals.
fn push_entry(text: &mut String, name: &str, spent: Duration) {
    let us = spent.as_micros() as u64;
    text.push_str(name);
    text.push_str(";dur=");
    push_digits(text, us / 1000, 1);
    text.push('.');
    push_digits(text, us % 1000, 3);
}

/// A stage under way.
#[derive(Debug)]
pub struct Recording<'a> {
    nanoseconds: &'a AtomicU64,
    since: Instant,
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        // At least 1, since 0 means that the stage was never entered.
        let spent = (self.since.elapsed().as_nanos() as u64).max(1);
        self.nanoseconds.fetch_add(spent, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_listed_where_they_are_stored() {
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index);
        }
    }

    #[test]
    fn only_stages_that_were_entered_are_told() {
        let timing = Timing::default();
        drop(timing.stage(Stage::Rank));
        drop(timing.clone().stage(Stage::Auth));
        let header = timing.header_value(Duration::from_micros(1500));
        let text = header.to_str().unwrap();
        let names: Vec<&str> = text
            .split(", ")
            .map(|entry| entry.split_once(";dur=").unwrap().0)
            .collect();
        assert_eq!(names, ["auth", "rank", "total"], "{text}");
        assert!(text.ends_with("total;dur=1.500"), "{text}");
        let total = |us| Timing::default().header_value(Duration::from_micros(us));
        assert_eq!(total(7), "total;dur=0.007");
        assert_eq!(total(1_234_567), "total;dur=1234.567");
        assert_eq!(timing.spent(Stage::Database), None);
    }
}
