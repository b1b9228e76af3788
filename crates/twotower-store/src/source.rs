//! The rows of a source on their way to another place, one by one.

use crate::clock::now_us;
use crate::erasure::Tombstones;
use crate::snapshot::check_time;
use crate::{InteractionKind, InteractionRow, StoreError};
use std::collections::HashSet;
use twotower_core::feature::{Catalogue, Video};
use twotower_core::time::DAY_US;
use uuid::Uuid;

/// Takes the rows of a source: first the videos, ascending by id, then likes, then skips, in any order.
pub trait SourceSink {
    /// Why a row could not be taken.
    type Error: From<StoreError>;

    /// Takes a video, with the names of its tags and performers ascending.
    ///
    /// # Errors
    /// Whatever ends the reading.
    fn video(&mut self, video: Video) -> Result<(), Self::Error>;

    /// Takes a like or a skip of a video that came before.
    ///
    /// # Errors
    /// Whatever ends the reading.
    fn interaction(
        &mut self,
        kind: InteractionKind,
        row: InteractionRow,
    ) -> Result<(), Self::Error>;
}

/// What was read besides the rows themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceRead {
    /// Likes and skips that name a video that is not in the catalogue, and were left out.
    pub orphans: u64,
    /// Time of the latest like or skip, microseconds since 1970; `None` without any.
    pub latest_at_us: Option<i64>,
    /// Number of the last erasure that it knows of; 0 before the first.
    pub erasures_seen: i64,
}

/// Which likes and skips are read.
pub(crate) struct Selection {
    videos: HashSet<Uuid>,
    tombstones: Tombstones,
    oldest_us: i64,
    now_us: i64,
    /// Time of the latest row that has come by now.
    clock_us: Option<i64>,
    read: SourceRead,
}

impl Selection {
    /// Those of these videos, and of nobody who was erased.
    pub(crate) fn new(catalogue: &Catalogue, tombstones: Tombstones) -> Self {
        Self {
            videos: catalogue.videos().map(|video| video.id).collect(),
            tombstones,
            oldest_us: i64::MIN,
            now_us: now_us(),
            clock_us: None,
            read: SourceRead::default(),
        }
    }

    /// Whether the user of a row was erased.
    pub(crate) fn erased(&self, user: Uuid) -> bool {
        self.tombstones.cover(user)
    }

    /// Whether a row is read.
    pub(crate) fn takes(
        &mut self,
        kind: InteractionKind,
        row: &InteractionRow,
    ) -> Result<bool, StoreError> {
        check_time(kind, row.at_us)?;
        if !self.videos.contains(&row.video) {
            self.read.orphans += 1;
            return Ok(false);
        }
        if row.at_us < self.oldest_us || self.erased(row.user) {
            return Ok(false);
        }
        self.read.latest_at_us = self.read.latest_at_us.max(Some(row.at_us));
        if row.at_us <= self.now_us {
            self.clock_us = self.clock_us.max(Some(row.at_us));
        }
        Ok(true)
    }

    /// Begins again after all rows were seen once, without those that are older than so many days before the latest one that
    /// has come: one that is dated in the future makes nothing old.
    pub(crate) fn without_older(&mut self, max_age_days: Option<u32>) {
        self.read = SourceRead::default();
        if let (Some(clock), Some(days)) = (self.clock_us, max_age_days) {
            self.oldest_us = clock - i64::from(days) * DAY_US;
        }
    }

    pub(crate) fn finish(self) -> SourceRead {
        SourceRead {
            erasures_seen: self.tombstones.last,
            ..self.read
        }
    }
}
