mod builder;

mod hash;

mod last_seen;

pub(crate) use builder::{SnapshotBuilder, check_time};
pub use hash::snapshot_sha256;
pub(crate) use hash::{hex, sha256};
pub(crate) use last_seen::LastSeenBuilder;

use crate::InteractionKind;
use twotower_core::interaction::Dataset;
use uuid::Uuid;

/// Where rows are read from: one SELECT each, so that an application with other names needs no copy of its tables.
/// The names of the columns count, not their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Columns `id, title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url`.
    pub videos: String,
    /// Columns `video_id, name`.
    pub video_tags: String,
    /// Columns `video_id, name`.
    pub video_performers: String,
    /// Columns `user_id, video_id, created_at`.
    pub likes: String,
    /// Columns `user_id, video_id, created_at`.
    pub skips: String,
}

impl Default for Source {
    /// The application tables of the schema.
    fn default() -> Self {
        Self {
            videos: "SELECT id, title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url FROM videos".into(),
            video_tags: "SELECT vt.video_id, t.name FROM video_tags vt JOIN tags t ON t.id = vt.tag_id".into(),
            video_performers: "SELECT vp.video_id, p.name FROM video_performers vp JOIN performers p ON p.id = vp.performer_id".into(),
            likes: "SELECT user_id, video_id, created_at FROM likes".into(),
            skips: "SELECT user_id, video_id, created_at FROM skips".into(),
        }
    }
}

/// One thing for each query of a [`Source`]; `None` where the query reads our own table.
#[derive(Debug, Clone)]
pub(crate) struct Mapping<T> {
    pub(crate) videos: Option<T>,
    pub(crate) video_tags: Option<T>,
    pub(crate) video_performers: Option<T>,
    pub(crate) likes: Option<T>,
    pub(crate) skips: Option<T>,
}

impl Source {
    /// The queries that read other tables than ours, ready to stand in parentheses.
    pub(crate) fn mapping(&self) -> Mapping<String> {
        let ours = Self::default();
        let mapped = |theirs: &str, ours: &str| {
            let theirs = tidy(theirs);
            (theirs != ours).then(|| theirs.to_owned())
        };
        Mapping {
            videos: mapped(&self.videos, &ours.videos),
            video_tags: mapped(&self.video_tags, &ours.video_tags),
            video_performers: mapped(&self.video_performers, &ours.video_performers),
            likes: mapped(&self.likes, &ours.likes),
            skips: mapped(&self.skips, &ours.skips),
        }
    }
}

impl<T> Mapping<T> {
    /// Where likes or skips are read.
    pub(crate) fn interactions(&self, kind: InteractionKind) -> Option<&T> {
        match kind {
            InteractionKind::Like => self.likes.as_ref(),
            InteractionKind::Skip => self.skips.as_ref(),
        }
    }

    /// Whether anything that is known of videos is read elsewhere.
    pub(crate) fn catalogue(&self) -> bool {
        self.videos.is_some() || self.video_tags.is_some() || self.video_performers.is_some()
    }

    /// Whether nothing is read elsewhere.
    pub(crate) fn is_empty(&self) -> bool {
        !self.catalogue() && self.likes.is_none() && self.skips.is_none()
    }
}

/// A query of the operator's without what would keep it from standing in parentheses.
pub(crate) fn tidy(sql: &str) -> &str {
    sql.trim().trim_end_matches(';').trim_end()
}

/// What part of the interactions is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Leave out likes and skips older than so many days before the latest one.
    pub max_age_days: Option<u32>,
    /// Whether users come with pseudonyms instead of their ids: numbers in the order of the ids, so that the data set is the same. PostgreSQL
    /// gives them, and no id of a user leaves it then; SQLite, which is in this process anyway, keeps the ids.
    pub pseudonyms: bool,
}

/// One consistent view of catalogue, likes and skips.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Rows as indices.
    pub dataset: Dataset,
    /// Id (or pseudonym) of each user number. Never written to a file.
    pub users: Vec<Uuid>,
    /// Time of the latest like or skip read, microseconds since 1970; `None` without any.
    pub cut_off_us: Option<i64>,
    /// Rows that name a video that is not in the catalogue, and were left out.
    pub orphans: u64,
    /// Number of the last erasure that it knows of: of who was erased until then there is nothing in it. 0 before the first.
    pub erasures_seen: i64,
}
