//! What the counters of a server say.

use super::{API, DURATION_BUCKET, DURATION_COUNT, FEWEST, RECOMMENDATIONS};
use crate::operations::check::exposition::samples;
use serde::{Deserialize, Serialize};
use twotower_core::time::HOUR_US;

/// What holds too little to tell by waits for more: so long at most where it went well, and otherwise until there is enough.
/// What the counters said at a moment, or between two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) at_us: i64,
    /// Requests to the API, and those that ended with a status from 500 on.
    pub(super) requests: f64,
    pub(super) errors: f64,
    /// Lists answered within so many seconds, ascending; the last bound is none.
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

    /// What came since. A server that was started anew counts from 0.
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

    /// The time within which `share` of the lists were answered, seconds, on a straight line within its bucket, as Prometheus'
    /// `histogram_quantile` has it. None of none.
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

/// What has come since a look before this one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lately {
    pub(super) figures: Figures,
    /// That look was an hour ago, or there was none.
    pub(super) old: bool,
}

impl Lately {
    pub(super) fn since(before: Option<&Figures>, now: &Figures) -> Self {
        let age_us = before.map(|before| now.at_us - before.at_us);
        Self {
            figures: now.since(before),
            // Older than now: the clock was set back.
            old: age_us.is_none_or(|age_us| !(0..HOUR_US).contains(&age_us)),
        }
    }

    pub(super) fn enough_lists(&self) -> bool {
        self.figures.counted_lists() >= FEWEST
    }

    pub(super) fn enough_requests(&self) -> bool {
        self.figures.requests >= FEWEST
    }

    /// Within which time 99 of 100 lists were answered, milliseconds.
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

/// The looks since which lists and requests are counted: of their own each, since there may be many of these and few of those.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Windows {
    pub(super) lists: Figures,
    pub(super) requests: Figures,
}

impl Windows {
    /// Those of the next look: what could be told by is counted anew. Of an hour in which little went well nothing is kept; what was amiss
    /// is, or else nobody would ever hear of it where there are few.
    pub(super) fn next(
        begun: Option<Self>,
        (lists, requests): (&Lately, &Lately),
        now: &Figures,
        latency_ms: u32,
    ) -> Self {
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
