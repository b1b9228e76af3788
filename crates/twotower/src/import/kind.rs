use clap::ValueEnum;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use twotower_store::VideoColumn;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// The catalogue.
    Videos,
    /// Who liked what, and when.
    Likes,
    /// Who skipped what, and when.
    Skips,
}

/// Positions of our columns in a row, for videos.
pub(crate) mod video {
    pub(crate) const ID: usize = 0;
    pub(crate) const TITLE: usize = 1;
    pub(crate) const DESCRIPTION: usize = 2;
    pub(crate) const GENRE: usize = 3;
    pub(crate) const MAKER: usize = 4;
    pub(crate) const PRICE: usize = 5;
    pub(crate) const DURATION_SECONDS: usize = 6;
    pub(crate) const PUBLISHED_AT: usize = 7;
    pub(crate) const THUMBNAIL_URL: usize = 8;
    pub(crate) const TAGS: usize = 9;
    pub(crate) const PERFORMERS: usize = 10;
}

/// Positions of our columns in a row, for likes and skips.
pub(crate) mod interaction {
    pub(crate) const USER_ID: usize = 0;
    pub(crate) const VIDEO_ID: usize = 1;
    pub(crate) const CREATED_AT: usize = 2;
}

/// The columns after [`video::ID`], as the store names them.
pub(crate) const STORED: [(usize, VideoColumn); 10] = [
    (video::TITLE, VideoColumn::Title),
    (video::DESCRIPTION, VideoColumn::Description),
    (video::GENRE, VideoColumn::Genre),
    (video::MAKER, VideoColumn::Maker),
    (video::PRICE, VideoColumn::Price),
    (video::DURATION_SECONDS, VideoColumn::DurationSeconds),
    (video::PUBLISHED_AT, VideoColumn::PublishedAt),
    (video::THUMBNAIL_URL, VideoColumn::ThumbnailUrl),
    (video::TAGS, VideoColumn::Tags),
    (video::PERFORMERS, VideoColumn::Performers),
];

const VIDEO_COLUMNS: [&str; 11] = [
    "id",
    "title",
    "description",
    "genre",
    "maker",
    "price",
    "duration_seconds",
    "published_at",
    "thumbnail_url",
    "tags",
    "performers",
];

const INTERACTION_COLUMNS: [&str; 3] = ["user_id", "video_id", "created_at"];

impl FileKind {
    /// All kinds in the order of import: a like needs its video.
    pub const ALL: [Self; 3] = [Self::Videos, Self::Likes, Self::Skips];

    /// Names of the columns, in the order of a row's cells.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Videos => &VIDEO_COLUMNS,
            Self::Likes | Self::Skips => &INTERACTION_COLUMNS,
        }
    }

    /// Whether a file must have the column at position `column`.
    pub(crate) fn requires(self, column: usize) -> bool {
        match self {
            Self::Videos => column <= video::TITLE,
            Self::Likes | Self::Skips => column != interaction::CREATED_AT,
        }
    }

    /// The kind that a file's name begins with: `likes-2026.csv` holds likes.
    pub fn from_file_name(path: &Path) -> Option<Self> {
        let stem = path.file_stem()?.to_str()?.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|kind| stem.starts_with(kind.name()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Videos => "videos",
            Self::Likes => "likes",
            Self::Skips => "skips",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_says_what_it_holds() {
        let kind = |name: &str| FileKind::from_file_name(Path::new(name));
        assert_eq!(kind("dump/Videos.csv"), Some(FileKind::Videos));
        assert_eq!(kind("likes-2026-01.parquet"), Some(FileKind::Likes));
        assert_eq!(kind("skips.jsonl"), Some(FileKind::Skips));
        assert_eq!(kind("likes/export.csv"), None);
    }
}
