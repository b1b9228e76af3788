use twotower_core::feature::Video;
use uuid::Uuid;

/// What rules, filters and reasons ask of a video.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VideoFacts {
    /// Video.
    pub id: Uuid,
    /// Title.
    pub title: String,
    /// Genre.
    pub genre: Option<String>,
    /// Maker.
    pub maker: Option<String>,
    /// Names of tags, ascending.
    pub tags: Vec<String>,
    /// Names of performers, ascending.
    pub performers: Vec<String>,
    /// Price in the application's currency, finite.
    pub price: Option<f32>,
    /// When it was published, or else when it came into the catalogue; microseconds since 1970.
    pub published_at_us: Option<i64>,
}

impl From<Video> for VideoFacts {
    fn from(video: Video) -> Self {
        Self {
            id: video.id,
            title: video.title,
            genre: video.genre,
            maker: video.maker,
            tags: video.tags,
            performers: video.performers,
            price: video.price.filter(|price| price.is_finite()),
            published_at_us: video.published_at_us,
        }
    }
}

/// Adds a name to the video that it belongs to, if it is among `videos`, which ascend by id.
pub(crate) fn add_name(
    videos: &mut [VideoFacts],
    id: Uuid,
    name: String,
    names: fn(&mut VideoFacts) -> &mut Vec<String>,
) {
    if let Ok(place) = videos.binary_search_by_key(&id, |video| video.id) {
        names(&mut videos[place]).push(name);
    }
}

/// Puts the names of each video in order, once each.
pub(crate) fn tidy_names(videos: &mut [VideoFacts]) {
    for video in videos {
        for names in [&mut video.tags, &mut video.performers] {
            names.sort_unstable();
            names.dedup();
        }
    }
}
