use super::{VideoCard, VideoColumns, VideosWritten};
use crate::StoreError;
use std::collections::HashMap;
use twotower_core::feature::{Catalogue, Video, VideoRef};
use uuid::Uuid;

/// The years 1 to 9999, microseconds since 1970: what both engines can keep.
const PUBLISHED_US: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// Videos as they are stored: ascending by id, one per id (the last given), names ascending and once each.
pub(crate) fn tidy(videos: &[Video]) -> Result<Vec<Video>, StoreError> {
    videos.iter().try_for_each(check)?;
    let mut videos = videos.to_vec();
    videos.reverse();
    videos.sort_by_key(|video| video.id);
    videos.dedup_by_key(|video| video.id);
    videos.iter_mut().for_each(sort_names);
    Ok(videos)
}

/// Puts the names of a video in order, once each.
pub(crate) fn sort_names(video: &mut Video) {
    for names in [&mut video.tags, &mut video.performers] {
        names.sort_unstable();
        names.dedup();
    }
}

/// Stored videos as models see them.
pub(crate) fn as_seen(stored: HashMap<Uuid, Video>) -> Result<HashMap<Uuid, Video>, StoreError> {
    let catalogue = Catalogue::new(stored.into_values())?;
    let videos = catalogue.videos().map(VideoRef::to_video);
    Ok(videos.map(|video| (video.id, video)).collect())
}

/// Refuses what one of the engines would refuse or change.
fn check(video: &Video) -> Result<(), StoreError> {
    let refuse = |field, reason| {
        Err(StoreError::Video {
            id: video.id,
            field,
            reason,
        })
    };
    for (field, number) in [
        ("price", video.price),
        ("duration_seconds", video.duration_seconds),
    ] {
        if number.is_some_and(|x| !x.is_finite()) {
            return refuse(field, "is not finite");
        }
    }
    if video
        .published_at_us
        .is_some_and(|at| !PUBLISHED_US.contains(&at))
    {
        return refuse("published_at", "is outside the years 1 to 9999");
    }
    let texts = [
        ("title", Some(&video.title)),
        ("description", Some(&video.description)),
        ("genre", video.genre.as_ref()),
        ("maker", video.maker.as_ref()),
        ("thumbnail_url", video.thumbnail_url.as_ref()),
    ];
    let lists = [("tags", &video.tags), ("performers", &video.performers)];
    let texts = texts
        .into_iter()
        .filter_map(|(field, text)| text.map(|text| (field, text)))
        .chain(
            lists
                .into_iter()
                .flat_map(|(field, names)| names.iter().map(move |name| (field, name))),
        );
    for (field, text) in texts {
        if text.contains('\0') {
            return refuse(field, "holds a NUL character");
        }
    }
    Ok(())
}

/// Which of `videos` differ in `columns` from what is there, each as it will be then, and how many of them are new.
pub(crate) fn changes(
    videos: &[Video],
    columns: VideoColumns,
    existing: &HashMap<Uuid, Video>,
) -> (Vec<Video>, VideosWritten) {
    let mut written = VideosWritten::default();
    let changed = videos
        .iter()
        .filter_map(|video| match existing.get(&video.id) {
            None => {
                written.inserted += 1;
                Some(columns.over(&Video::default(), video))
            }
            Some(old) => {
                let merged = columns.over(old, video);
                let differs = merged != *old;
                written.updated += u64::from(differs);
                differs.then_some(merged)
            }
        })
        .collect();
    (changed, written)
}

impl From<&Video> for VideoCard {
    fn from(video: &Video) -> Self {
        Self {
            id: video.id,
            title: video.title.clone(),
            genre: video.genre.clone(),
            maker: video.maker.clone(),
            price: video.price,
            duration_seconds: video.duration_seconds,
            thumbnail_url: video.thumbnail_url.clone(),
            tags: video.tags.clone(),
        }
    }
}
