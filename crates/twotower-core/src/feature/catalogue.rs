use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// A video as the item tower sees it. Whatever is not known is empty or `None`.
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

/// All videos in ascending order of id; a position in it is a video's internal id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalogue {
    videos: Vec<Video>,
}

/// A list of videos that is no catalogue.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CatalogueError {
    /// Two videos share an id.
    #[error("video {0} is listed twice")]
    Duplicate(Uuid),
}

impl Catalogue {
    /// Sorts `videos` by id.
    ///
    /// # Errors
    /// [`CatalogueError::Duplicate`] if two of them share an id.
    pub fn new(mut videos: Vec<Video>) -> Result<Self, CatalogueError> {
        videos.sort_by_key(|video| video.id);
        match videos.windows(2).find(|pair| pair[0].id == pair[1].id) {
            Some(pair) => Err(CatalogueError::Duplicate(pair[0].id)),
            None => Ok(Self { videos }),
        }
    }

    /// Number of videos.
    pub fn len(&self) -> usize {
        self.videos.len()
    }

    /// Whether there is no video.
    pub fn is_empty(&self) -> bool {
        self.videos.is_empty()
    }

    /// The videos in ascending order of id.
    pub fn videos(&self) -> &[Video] {
        &self.videos
    }

    /// Position of the video `id`.
    pub fn position(&self, id: Uuid) -> Option<u32> {
        self.videos
            .binary_search_by_key(&id, |video| video.id)
            .ok()
            .map(|position| position as u32)
    }
}
