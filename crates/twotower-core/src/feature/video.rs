use super::packed::Texts;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use uuid::Uuid;

/// A video as the item tower sees it. Unknown fields are empty or `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Video {
    /// Primary key of the application's table.
    pub id: Uuid,
    /// Title, in any language.
    pub title: String,
    /// Free text, in any language.
    pub description: String,
    /// Genre.
    pub genre: Option<String>,
    /// Maker (studio, label, publisher).
    pub maker: Option<String>,
    /// Price in the application's currency.
    pub price: Option<f32>,
    /// Length in seconds.
    pub duration_seconds: Option<f32>,
    /// Publication, microseconds since 1970-01-01 UTC.
    pub published_at_us: Option<i64>,
    /// Address of the preview picture; not a feature.
    pub thumbnail_url: Option<String>,
    /// Names of tags, ascending.
    pub tags: Vec<String>,
    /// Names of performers, ascending.
    pub performers: Vec<String>,
}

/// A video whose texts are borrowed, from a [`Video`] or a [`super::Catalogue`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoRef<'a> {
    /// Primary key of the application's table.
    pub id: Uuid,
    /// Title, in any language.
    pub title: &'a str,
    /// Free text, in any language.
    pub description: &'a str,
    /// Genre.
    pub genre: Option<&'a str>,
    /// Maker (studio, label, publisher).
    pub maker: Option<&'a str>,
    /// Price in the application's currency.
    pub price: Option<f32>,
    /// Length in seconds.
    pub duration_seconds: Option<f32>,
    /// Publication, microseconds since 1970-01-01 UTC.
    pub published_at_us: Option<i64>,
    /// Address of the preview picture; not a feature.
    pub thumbnail_url: Option<&'a str>,
    /// Names of tags, ascending.
    pub tags: Names<'a>,
    /// Names of performers, ascending.
    pub performers: Names<'a>,
}

impl VideoRef<'_> {
    /// The same with texts of its own.
    pub fn to_video(self) -> Video {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let names = |names: Names<'_>| names.iter().map(str::to_owned).collect();
        Video {
            id: self.id,
            title: self.title.to_owned(),
            description: self.description.to_owned(),
            genre: owned(self.genre),
            maker: owned(self.maker),
            price: self.price,
            duration_seconds: self.duration_seconds,
            published_at_us: self.published_at_us,
            thumbnail_url: owned(self.thumbnail_url),
            tags: names(self.tags),
            performers: names(self.performers),
        }
    }
}

impl<'a> From<&'a Video> for VideoRef<'a> {
    fn from(video: &'a Video) -> Self {
        Self {
            id: video.id,
            title: &video.title,
            description: &video.description,
            genre: video.genre.as_deref(),
            maker: video.maker.as_deref(),
            price: video.price,
            duration_seconds: video.duration_seconds,
            published_at_us: video.published_at_us,
            thumbnail_url: video.thumbnail_url.as_deref(),
            tags: Names(Listed::Owned(&video.tags)),
            performers: Names(Listed::Owned(&video.performers)),
        }
    }
}

/// Names of a video's tags or performers.
#[derive(Clone, Copy)]
pub struct Names<'a>(Listed<'a>);

#[derive(Clone, Copy)]
enum Listed<'a> {
    Owned(&'a [String]),
    Numbered {
        names: &'a Texts,
        numbers: &'a [u32],
    },
}

impl<'a> Names<'a> {
    /// The names among `names` that have these `numbers`.
    pub(super) fn numbered(names: &'a Texts, numbers: &'a [u32]) -> Self {
        Self(Listed::Numbered { names, numbers })
    }

    /// Number of names.
    pub fn len(self) -> usize {
        match self.0 {
            Listed::Owned(names) => names.len(),
            Listed::Numbered { numbers, .. } => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The names in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a str> + Clone {
        (0..self.len()).map(move |n| match self.0 {
            Listed::Owned(names) => names[n].as_str(),
            Listed::Numbered { names, numbers } => names.get(numbers[n] as usize),
        })
    }
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Names<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
