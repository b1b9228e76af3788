//! Counters of a server.

use super::{API, DURATION_BUCKET, DURATION_COUNT, FEWEST, RECOMMENDATIONS};
use crate::operations::check::exposition::samples;
use serde::{Deserialize, Serialize};
use twotower_core::time::HOUR_US;

/// Counters at one time, or their increase between two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) at_us: i64,
    /// Requests to the API, and those of them that ended with status 500 or above.
    pub(super) requests: f64,
    pub(super) errors: f64,
    /// Cumulative number of lists by latency bound in seconds, ascending; the last has no bound.
    pub(super) lists: Vec<(Option<f64>, f64)>,
}

impl Figures {
    pub(super) fn read(text: &str, at_us: i64) -> Self {
        let mut figures = Self {
            at_us,
            ..Self::default()
        };
        for sample in samples(text) {
            let route = sample.label("route").unwrap_or_default();
            let status = sample
                .label("status")
                .and_then(|status| status.parse::<u16>().ok());
            let Some(status) = status else { continue };
            if sample.name == DURATION_COUNT && route.starts_with(API) {
                figures.requests += sample.value;
                if status >= 500 {
                    figures.errors += sample.value;
                }
            } else if sample.name == DURATION_BUCKET && route == RECOMMENDATIONS && status < 400 {
                let bound = sample
                    .label("le")
                    .and_then(|bound| bound.parse::<f64>().ok());
                figures.add(bound.filter(|bound| bound.is_finite()), sample.value);
            }
        }
        let order = |bound: Option<f64>| bound.unwrap_or(f64::INFINITY);
        figures
            .lists
            .sort_by(|a, b| order(a.0).total_cmp(&order(b.0)));
        figures
    }

    fn add(&mut self, bound: Option<f64>, count: f64) {
        match self.lists.iter_mut().find(|(other, _)| *other == bound) {
            Some((_, counted)) => *counted += count,
            None => self.lists.push((bound, count)),
        }
    }

    /// The increase since `before`. A server that was restarted counts from 0.
    pub(super) fn since(&self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.requests <= self.requests) else {
            return self.clone();
        };
        let earlier = |bound| {
            before
                .lists
                .iter()
                .find(|(other, _)| *other == bound)
                .map_or(0.0, |(_, count)| *count)
        };
        let lists: Vec<_> = self
            .lists
            .iter()
            .map(|&(bound, count)| (bound, count - earlier(bound)))
            .collect();
        if lists.iter().any(|(_, count)| *count < 0.0) {
            return self.clone();
        }
        Self {
            at_us: self.at_us,
            requests: self.requests - before.requests,
            errors: (self.errors - before.errors).max(0.0),
            lists,
        }
    }

    pub(super) fn counted_lists(&self) -> f64 {
        self.lists.last().map_or(0.0, |(_, count)| *count)
    }

    /// The `share` quantile of latency in seconds, interpolated linearly within its bucket like
    /// Prometheus' `histogram_quantile`. `None` without lists.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let total = Some(self.counted_lists()).filter(|total| *total > 0.0)?;
        let rank = share * total;
        let (mut lower, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.lists {
            let Some(bound) = bound else {
                return Some(lower);
            };
            if count >= rank && count > below {
                return Some(lower + (bound - lower) * (rank - below) / (count - below));
            }
            (lower, below) = (bound, count);
        }
        None
    }
}

/// The increase since an earlier round.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Increase {
    pub(super) figures: Figures,
    /// That round was an hour or more ago, or there was none.
    pub(super) old: bool,
}

impl Increase {
    pub(super) fn since(before: Option<&Figures>, now: &Figures) -> Self {
        let age_us = before.map(|before| now.at_us - before.at_us);
        Self {
            figures: now.since(before),
            // Negative if the clock was set back.
            old: age_us.is_none_or(|age_us| !(0..HOUR_US).contains(&age_us)),
        }
    }

    pub(super) fn enough_lists(&self) -> bool {
        self.figures.counted_lists() >= FEWEST
    }

    pub(super) fn enough_requests(&self) -> bool {
        self.figures.requests >= FEWEST
    }

    /// 99th percentile of the latency of lists, milliseconds.
    pub(super) fn lists_ms(&self) -> f64 {
        1000.0 * self.figures.quantile(0.99).unwrap_or(0.0)
    }

    pub(super) fn lists_are_fast(&self, latency_ms: u32) -> bool {
        self.lists_ms() < f64::from(latency_ms)
    }

    pub(super) fn is_free_of_errors(&self) -> bool {
        self.figures.errors <= 0.0
    }
}

/// Where counting began: separately for lists and requests, since there may be enough of one and
/// not of the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Windows {
    pub(super) lists: Figures,
    pub(super) requests: Figures,
}

/// The increases within [`Windows`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recent {
    pub(super) lists: Increase,
    pub(super) requests: Increase,
}

impl Recent {
    /// Without windows, everything that the counters hold.
    pub(super) fn since(begun: Option<&Windows>, now: &Figures) -> Self {
        Self {
            lists: Increase::since(begun.map(|begun| &begun.lists), now),
            requests: Increase::since(begun.map(|begun| &begun.requests), now),
        }
    }
}

impl Windows {
    /// The windows of the next round. A window with enough samples to judge starts over; so does
    /// one of an hour with few but good samples. One with few bad samples is kept until there are
    /// enough, so that failures are noticed where there is little traffic.
    pub(super) fn next(
        begun: Option<Self>,
        recent: &Recent,
        now: &Figures,
        latency_ms: u32,
    ) -> Self {
        let Recent { lists, requests } = recent;
        let mut next = begun.unwrap_or_else(|| Self {
            lists: now.clone(),
            requests: now.clone(),
        });
        if lists.enough_lists() || (lists.old && lists.lists_are_fast(latency_ms)) {
            next.lists = now.clone();
        }
        if requests.enough_requests() || (requests.old && requests.is_free_of_errors()) {
            next.requests = now.clone();
        }
        next
    }
}
