//! Streams the rows of a source, one by one.

use crate::clock::now_us;
use crate::erasure::Tombstones;
use crate::snapshot::{check_time, oldest_us};
use crate::{InteractionKind, InteractionRow, StoreError};
use std::collections::HashSet;
use twotower_core::feature::{Catalogue, Video};
use uuid::Uuid;

/// Takes the rows of a source: first the videos, ascending by id, then likes, then skips. Likes and
/// skips come in any order.
pub trait SourceSink {
    /// Why a row could not be taken.
    type Error: From<StoreError>;

    /// Takes a video. The names of its tags and performers ascend.
    ///
    /// # Errors
    /// Any error ends the reading.
    fn video(&mut self, video: Video) -> Result<(), Self::Error>;

    /// Takes a like or a skip of a video that came before.
    ///
    /// # Errors
    /// Any error ends the reading.
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
    /// Number of the last erasure that the rows take account of; 0 before the first.
    pub erasures_seen: i64,
}

/// Decides which likes and skips are read.
pub(crate) struct Selection {
    videos: HashSet<Uuid>,
    tombstones: Tombstones,
    oldest_us: i64,
    now_us: i64,
    /// Time of the latest row that is not dated in the future.
    clock_us: Option<i64>,
    read: SourceRead,
}

impl Selection {
    /// Selects rows of these videos, without users who were erased.
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

    /// Starts over after all rows were passed once, now without rows that are older than so many
    /// days. The age counts from the latest row that is not dated in the future.
    pub(crate) fn without_older(&mut self, max_age_days: Option<u32>) {
        self.read = SourceRead::default();
        if let (Some(clock), Some(days)) = (self.clock_us, max_age_days) {
            self.oldest_us = oldest_us(clock, days);
        }
    }

    pub(crate) fn finish(self) -> SourceRead {
        SourceRead {
            erasures_seen: self.tombstones.last,
            ..self.read
        }
    }
}
