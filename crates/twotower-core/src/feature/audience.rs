//! Counts the users that a row of a table would be learned from. A row that only a few users
//! influence could reveal what they did.

use super::{Catalogue, Preprocessing};
use crate::timeline::{self, Timelines};
use std::io;

/// Numbers of distinct users who have liked or skipped a video, or a video with a term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// One number for each of [`Preprocessing::videos`].
    pub videos: Vec<u32>,
    /// One number for each genre, maker, tag and performer, in the order of the term table. N-grams
    /// are not counted, because many texts share each of their rows.
    pub terms: Vec<u32>,
}

impl Audience {
    /// Counts the users with likes and skips in `timelines`. O(interactions · terms of a video).
    ///
    /// # Errors
    /// If a timeline cannot be read.
    pub fn count(
        preprocessing: &Preprocessing,
        catalogue: &Catalogue,
        timelines: &dyn Timelines,
    ) -> io::Result<Self> {
        let features = preprocessing.named_features(catalogue.videos());
        let mut rows = Distinct::new(preprocessing.id_rows());
        let mut terms = Distinct::new(preprocessing.names());
        timeline::for_each(timelines, |user, timeline| {
            for item in timeline.items() {
                let item = item as usize;
                rows.add(features.id_row(item), user);
                for &term in features.term_rows(item) {
                    terms.add(term, user);
                }
            }
        })?;
        Ok(Self {
            // Row 0 stands for all videos without a row.
            videos: rows.counts.split_off(1),
            terms: terms.counts,
        })
    }
}

/// Counts distinct users, who arrive one after the other.
struct Distinct {
    counts: Vec<u32>,
    /// The last user counted for each row, from 1.
    last: Vec<u32>,
}

impl Distinct {
    fn new(rows: usize) -> Self {
        Self {
            counts: vec![0; rows],
            last: vec![0; rows],
        }
    }

    fn add(&mut self, row: u32, user: usize) {
        let (row, user) = (row as usize, user as u32 + 1);
        if self.last[row] != user {
            self.last[row] = user;
            self.counts[row] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::{PreprocessingOptions, Video};
    use crate::interaction::Interaction;
    use crate::timeline::HeldTimelines;
    use uuid::Uuid;

    #[test]
    fn a_user_counts_once_for_each_video_and_term() {
        let video = |n: u128, tag: &str| Video {
            id: Uuid::from_u128(n),
            title: format!("video {n}"),
            tags: vec![tag.into()],
            ..Video::default()
        };
        let videos = vec![video(1, "a"), video(2, "b"), video(3, "b")];
        let catalogue = Catalogue::new(videos).unwrap();
        let row = |user, item| Interaction { user, item, at: 0 };
        let likes = [row(0, 0), row(0, 1), row(0, 2), row(2, 2)];
        let skips = [row(1, 1), row(2, 2)];
        let timelines = HeldTimelines::new(3, likes, skips);
        let options = PreprocessingOptions {
            min_term_videos: 1,
            ngram_buckets: 16,
        };
        let preprocessing = Preprocessing::fit(&catalogue, |_| true, options);
        let audience = Audience::count(&preprocessing, &catalogue, &timelines).unwrap();
        assert_eq!(
            (&audience.videos[..], &audience.terms[..]),
            (&[1, 2, 2][..], &[1, 3][..]),
            "of names alone, not of n-grams"
        );
        let known = preprocessing.known_to(&audience, 2);
        let ids: Vec<_> = known.videos.iter().map(Uuid::as_u128).collect();
        assert_eq!((ids, known.tags), (vec![2, 3], vec!["b".to_owned()]));
    }
}
