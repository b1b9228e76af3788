use super::known_time;
use std::mem::take;
use twotower_core::feature::{self, Video};
use uuid::Uuid;

/// The fields of a video that rules, filters and reasons need, in the form that models see
/// ([`feature::CatalogueBuilder`]).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VideoFacts {
    /// Id of the video.
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
    /// Price in the application's currency, finite, 0 or more.
    pub price: Option<f32>,
    /// Publication time, or else the time of arrival in the catalogue; microseconds since 1970.
    pub published_at_us: Option<i64>,
}

impl From<Video> for VideoFacts {
    fn from(video: Video) -> Self {
        let mut facts = Self {
            id: video.id,
            title: video.title,
            genre: video.genre,
            maker: video.maker,
            tags: video.tags,
            performers: video.performers,
            price: video.price,
            published_at_us: video.published_at_us,
        };
        facts.tidy();
        facts
    }
}

impl VideoFacts {
    fn tidy(&mut self) {
        self.title = tidy(take(&mut self.title)).unwrap_or_default();
        for name in [&mut self.genre, &mut self.maker] {
            *name = name.take().and_then(tidy);
        }
        for names in [&mut self.tags, &mut self.performers] {
            *names = take(names).into_iter().filter_map(tidy).collect();
            names.sort_unstable();
            names.dedup();
        }
        self.price = self.price.and_then(feature::amount);
        self.published_at_us = self.published_at_us.and_then(known_time);
    }
}

/// [`feature::tidy`] without a copy for the many texts that it leaves unchanged.
fn tidy(text: String) -> Option<String> {
    let tidy = feature::tidy(&text)?;
    Some(if tidy.len() == text.len() {
        text
    } else {
        tidy.to_owned()
    })
}

/// Adds a name to its video, if that is among `videos`, which ascend by id.
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

/// Converts stored videos to the form that models see.
pub(crate) fn tidy_facts(videos: &mut [VideoFacts]) {
    videos.iter_mut().for_each(VideoFacts::tidy);
}
