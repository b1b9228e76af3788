//! Measures the recall of the approximate index (inverted lists) against exact search, on live
//! requests.

use crate::serve::metrics::Metrics;
use crate::serve::snapshot::{Snapshot, background};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most one in this many searches is repeated exactly, on a thread apart from those that answer.
const ONE_IN: u64 = 512;

/// Time between two probes: an exact search reads the whole index, and costs the caches more than
/// its own time.
const APART: Duration = Duration::from_secs(1);

/// Number of videos compared.
const K: usize = 10;

/// Weight of the newest probe in the running mean.
const NEWEST: f64 = 0.05;

/// Samples searches and keeps a running mean of their recall.
#[derive(Debug, Default)]
pub(in crate::serve) struct RecallProbe {
    lists: AtomicU64,
    latest: Mutex<Option<Instant>>,
    mean: Mutex<Option<f64>>,
}

impl RecallProbe {
    /// Counts a search by `vector`, and measures the recall of one in [`ONE_IN`], unless another
    /// was measured less than [`APART`] ago.
    pub(in crate::serve) fn sample(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        vector: &[f32],
        metrics: &Arc<Metrics>,
    ) {
        let lists = self.lists.fetch_add(1, Ordering::Relaxed);
        if !lists.is_multiple_of(ONE_IN) || !snapshot.has_lists() || !self.is_due() {
            return;
        }
        let (probe, metrics) = (Arc::clone(self), Arc::clone(metrics));
        let (snapshot, vector) = (Arc::clone(snapshot), vector.to_vec());
        background::spawn(move || {
            if let Some(recall) = snapshot.recall(&vector, K) {
                let mut mean = probe.mean.lock().unwrap_or_else(PoisonError::into_inner);
                let next = mean.map_or(recall, |mean| mean + NEWEST * (recall - mean));
                *mean = Some(next);
                metrics.set_recall_probe(next);
            }
        });
    }

    /// Whether a probe may begin now; then the next one may only after [`APART`].
    fn is_due(&self) -> bool {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = latest.is_none_or(|at| at.elapsed() >= APART);
        if is_due {
            *latest = Some(Instant::now());
        }
        is_due
    }
}
