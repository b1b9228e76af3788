use twotower_core::feature::Video;

/// A column of a video that a writer sets or keeps; lists of names count as columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoColumn {
    /// [`Video::title`].
    Title,
    /// [`Video::description`].
    Description,
    /// [`Video::genre`].
    Genre,
    /// [`Video::maker`].
    Maker,
    /// [`Video::price`].
    Price,
    /// [`Video::duration_seconds`].
    DurationSeconds,
    /// [`Video::published_at_us`].
    PublishedAt,
    /// [`Video::thumbnail_url`].
    ThumbnailUrl,
    /// [`Video::tags`].
    Tags,
    /// [`Video::performers`].
    Performers,
}

impl VideoColumn {
    /// All columns.
    pub const ALL: [Self; 10] = [
        Self::Title,
        Self::Description,
        Self::Genre,
        Self::Maker,
        Self::Price,
        Self::DurationSeconds,
        Self::PublishedAt,
        Self::ThumbnailUrl,
        Self::Tags,
        Self::Performers,
    ];

    /// Name in the tables and statements of both engines.
    fn name(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Description => "description",
            Self::Genre => "genre",
            Self::Maker => "maker",
            Self::Price => "price",
            Self::DurationSeconds => "duration_seconds",
            Self::PublishedAt => "published_at",
            Self::ThumbnailUrl => "thumbnail_url",
            Self::Tags => "tags",
            Self::Performers => "performers",
        }
    }

    fn copy(self, from: &Video, to: &mut Video) {
        match self {
            Self::Title => to.title.clone_from(&from.title),
            Self::Description => to.description.clone_from(&from.description),
            Self::Genre => to.genre.clone_from(&from.genre),
            Self::Maker => to.maker.clone_from(&from.maker),
            Self::Price => to.price = from.price,
            Self::DurationSeconds => to.duration_seconds = from.duration_seconds,
            Self::PublishedAt => to.published_at_us = from.published_at_us,
            Self::ThumbnailUrl => to.thumbnail_url.clone_from(&from.thumbnail_url),
            Self::Tags => to.tags.clone_from(&from.tags),
            Self::Performers => to.performers.clone_from(&from.performers),
        }
    }
}

/// The columns that a writer sets. The others of an existing video are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VideoColumns(u16);

impl VideoColumns {
    /// Every column.
    pub const ALL: Self = Self((1 << VideoColumn::ALL.len()) - 1);

    /// Whether `column` is among them.
    pub fn contains(self, column: VideoColumn) -> bool {
        self.0 & (1 << column as u16) != 0
    }

    /// Their names, as a parameter of statements.
    pub(crate) fn names(self) -> Vec<&'static str> {
        let all = VideoColumn::ALL.into_iter();
        all.filter(|column| self.contains(*column))
            .map(VideoColumn::name)
            .collect()
    }

    /// The result of writing these columns of `new` over `old`.
    pub(crate) fn over(self, old: &Video, new: &Video) -> Video {
        let mut video = new.clone();
        for column in VideoColumn::ALL {
            if !self.contains(column) {
                column.copy(old, &mut video);
            }
        }
        video
    }
}

impl FromIterator<VideoColumn> for VideoColumns {
    fn from_iter<T: IntoIterator<Item = VideoColumn>>(columns: T) -> Self {
        let mut set = 0;
        for column in columns {
            set |= 1 << column as u16;
        }
        Self(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let all: VideoColumns = VideoColumn::ALL.into_iter().collect();
        assert_eq!(all, VideoColumns::ALL);
        for column in VideoColumn::ALL {
            let one = VideoColumns::from_iter([column]);
            assert_eq!(one.names(), [column.name()]);
        }
    }
}
