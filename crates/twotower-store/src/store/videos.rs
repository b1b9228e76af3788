use super::{VideoCard, VideoColumns, VideosWritten};
use crate::StoreError;
use std::collections::HashMap;
use twotower_core::feature::{Catalogue, Video, VideoRef};
use uuid::Uuid;

/// Maximum bytes of the name of a tag or performer: longer ones do not fit PostgreSQL's index.
pub const LONGEST_NAME: usize = 1_000;

/// Maximum bytes of text of the videos that one statement writes.
const CHUNK_BYTES: usize = 8 << 20;

/// The years 1 to 9999, microseconds since 1970: the range that both engines support.
const PUBLISHED_US: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// Videos in the form in which they are stored: ascending by id, one per id (the last given), names
/// sorted and unique.
pub(crate) fn tidy(videos: &[Video]) -> Result<Vec<Video>, StoreError> {
    videos.iter().try_for_each(check)?;
    let mut videos = videos.to_vec();
    videos.reverse();
    videos.sort_by_key(|video| video.id);
    videos.dedup_by_key(|video| video.id);
    videos.iter_mut().for_each(sort_names);
    Ok(videos)
}

/// The publication time; `None` if it is infinite or outside the range that import accepts, and
/// thus tells nothing.
pub(crate) fn known_time(at_us: i64) -> Option<i64> {
    PUBLISHED_US.contains(&at_us).then_some(at_us)
}

/// Bytes of a video's texts.
pub fn text_bytes(video: &Video) -> usize {
    let texts = [&video.title, &video.description];
    let known = [&video.genre, &video.maker, &video.thumbnail_url];
    let names = video.tags.iter().chain(&video.performers);
    let all = texts
        .into_iter()
        .chain(known.into_iter().flatten())
        .chain(names);
    all.map(String::len).sum()
}

/// `videos` in chunks of at most `rows` and of the text limit of one statement; a single video may
/// exceed the latter.
pub(crate) fn chunks(mut videos: &[Video], rows: usize) -> impl Iterator<Item = &[Video]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |video: &&Video| {
            bytes += text_bytes(video);
            bytes <= CHUNK_BYTES
        };
        let fitting = videos.iter().take(rows).take_while(fits).count();
        let (chunk, rest) = videos.split_at(fitting.max(1).min(videos.len()));
        videos = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Sorts the names of a video and removes duplicates.
pub(crate) fn sort_names(video: &mut Video) {
    for names in [&mut video.tags, &mut video.performers] {
        names.sort_unstable();
        names.dedup();
    }
}

/// Stored videos in the form that models see.
pub(crate) fn as_seen(stored: HashMap<Uuid, Video>) -> Result<HashMap<Uuid, Video>, StoreError> {
    let catalogue = Catalogue::new(stored.into_values())?;
    let videos = catalogue.videos().map(VideoRef::to_video);
    Ok(videos.map(|video| (video.id, video)).collect())
}

/// Refuses values that one of the engines would refuse or change.
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
        .is_some_and(|at| known_time(at).is_none())
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
    for (field, names) in lists {
        if names.iter().any(|name| name.len() > LONGEST_NAME) {
            return refuse(field, "holds a name of more than 1,000 bytes");
        }
    }
    Ok(())
}

/// Those of `videos` that differ in `columns` from the stored ones, each as it will be afterwards,
/// and the number of new ones.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_ends_with_its_rows_or_with_their_text() {
        let videos = |texts: &[usize]| -> Vec<Video> {
            let described = texts.iter().map(|&mib| Video {
                description: "a".repeat(mib << 20),
                tags: vec!["b".into()],
                ..Video::default()
            });
            described.collect()
        };
        let sizes = |texts: &[usize], rows| -> Vec<usize> {
            chunks(&videos(texts), rows).map(<[Video]>::len).collect()
        };
        assert_eq!(sizes(&[], 5), [] as [usize; 0]);
        assert_eq!(sizes(&[0; 11], 5), [5, 5, 1]);
        assert_eq!(sizes(&[3, 3, 3, 0, 9, 1, 1], 5), [2, 2, 1, 2]);
        assert_eq!(text_bytes(&videos(&[1])[0]), (1 << 20) + 1);
    }

    #[test]
    fn times_that_import_refuses_are_not_known() {
        for at in [i64::MIN, PUBLISHED_US.start - 1, PUBLISHED_US.end, i64::MAX] {
            assert_eq!(known_time(at), None);
        }
        for at in [PUBLISHED_US.start, 0, PUBLISHED_US.end - 1] {
            assert_eq!(known_time(at), Some(at));
        }
    }
}
