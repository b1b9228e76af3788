//! Section `[source]`: where rows are read from, one SELECT each. Without a query, our own table is
//! read.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use twotower_store::Source;

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Queries {
    videos: Option<String>,
    video_tags: Option<String>,
    video_performers: Option<String>,
    likes: Option<String>,
    skips: Option<String>,
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Source, D::Error> {
    let given = Queries::deserialize(deserializer)?;
    let ours = Source::default();
    Ok(Source {
        videos: given.videos.unwrap_or(ours.videos),
        video_tags: given.video_tags.unwrap_or(ours.video_tags),
        video_performers: given.video_performers.unwrap_or(ours.video_performers),
        likes: given.likes.unwrap_or(ours.likes),
        skips: given.skips.unwrap_or(ours.skips),
    })
}

pub(super) fn serialize<S: Serializer>(source: &Source, serializer: S) -> Result<S::Ok, S::Error> {
    let source = source.clone();
    let queries = Queries {
        videos: Some(source.videos),
        video_tags: Some(source.video_tags),
        video_performers: Some(source.video_performers),
        likes: Some(source.likes),
        skips: Some(source.skips),
    };
    queries.serialize(serializer)
}
