use super::audience::Audience;
use super::catalogue::Catalogue;
use super::numeric::{NUMERIC_FEATURES, NumericStatistics, raw_numeric};
use super::text::ngram_buckets;
use super::video::{Names, VideoRef};
use crate::kernel;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ops::Range;
use uuid::Uuid;

/// Number of fields that terms come from: genre, maker, tags, performers, n-grams of the title,
/// n-grams of the description.
const FIELDS: usize = 6;

/// At most this many terms of a field are used.
const FIELD_LIMIT: usize = u16::MAX as usize;

/// At most this many n-grams of a title or a description are used.
const NGRAM_LIMIT: usize = 48;

/// Options that are set before the catalogue is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreprocessingOptions {
    /// Terms (tags, performers, …) of fewer videos get no row of their own.
    pub min_term_videos: usize,
    /// Number of rows for hashed character n-grams.
    pub ngram_buckets: u32,
}

/// Turns a row of the catalogue into inputs of the item tower. Saved inside the model as
/// `preprocessing.json`.
///
/// The term table has the rows of `genres`, `makers`, `tags` and `performers`, in this order, and
/// then `ngram_buckets` rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Videos with a row of their own in the id table: the video at position i has row i + 1.
    /// Ascending.
    pub videos: Vec<Uuid>,
    /// Genres, ascending.
    pub genres: Vec<String>,
    /// Makers, ascending.
    pub makers: Vec<String>,
    /// Tags, ascending.
    pub tags: Vec<String>,
    /// Performers, ascending.
    pub performers: Vec<String>,
    /// Number of rows for hashed character n-grams of titles and descriptions.
    pub ngram_buckets: u32,
    /// Statistics of ln(1 + price), ln(1 + duration in seconds), and publication in days since
    /// 1970.
    pub numeric: [NumericStatistics; NUMERIC_FEATURES],
}

impl Preprocessing {
    /// Takes vocabularies and statistics from the videos of `catalogue` for which `seen` holds.
    /// Rows that no like trains would be noise, and videos that only validation or test contain
    /// must not influence training.
    pub fn fit(
        catalogue: &Catalogue,
        seen: impl Fn(usize) -> bool,
        options: PreprocessingOptions,
    ) -> Self {
        let seen: Vec<usize> = (0..catalogue.len()).filter(|&item| seen(item)).collect();
        let videos = || seen.iter().map(|&item| catalogue.video(item));
        let vocabulary = |field: usize| {
            let mut counts: HashMap<&str, usize> = HashMap::new();
            for video in videos() {
                for term in terms(video, field) {
                    *counts.entry(term).or_default() += 1;
                }
            }
            let mut kept: Vec<String> = counts
                .into_iter()
                .filter(|&(_, n)| n >= options.min_term_videos)
                .map(|(term, _)| term.to_owned())
                .collect();
            kept.sort_unstable();
            kept
        };
        let statistics = |feature: usize| {
            let values = videos().filter_map(|video| raw_numeric(video)[feature]);
            NumericStatistics::of(feature, &values.collect::<Vec<f64>>())
        };
        Self {
            videos: videos().map(|video| video.id).collect(),
            genres: vocabulary(0),
            makers: vocabulary(1),
            tags: vocabulary(2),
            performers: vocabulary(3),
            ngram_buckets: options.ngram_buckets,
            numeric: std::array::from_fn(statistics),
        }
    }

    /// The same without the videos and terms that fewer than `min_users` users have liked or
    /// skipped.
    #[must_use]
    pub fn known_to(self, audience: &Audience, min_users: usize) -> Self {
        let mut terms = audience.terms.iter();
        let mut known = |vocabulary: Vec<String>| {
            let with_users = vocabulary.into_iter().zip(&mut terms);
            let kept = with_users.filter(|&(_, &users)| users as usize >= min_users);
            kept.map(|(term, _)| term).collect()
        };
        // In the order of the term table.
        let (genres, makers, tags, performers) = (
            known(self.genres),
            known(self.makers),
            known(self.tags),
            known(self.performers),
        );
        let videos = self.videos.into_iter().zip(&audience.videos);
        let videos = videos.filter(|&(_, &users)| users as usize >= min_users);
        Self {
            videos: videos.map(|(id, _)| id).collect(),
            genres,
            makers,
            tags,
            performers,
            ..self
        }
    }

    /// The same with the videos and terms of `newer` added. Statistics stay as they are, because
    /// the weights depend on them.
    #[must_use]
    pub fn extended(&self, newer: &Self) -> Self {
        Self {
            videos: union(&self.videos, &newer.videos),
            genres: union(&self.genres, &newer.genres),
            makers: union(&self.makers, &newer.makers),
            tags: union(&self.tags, &newer.tags),
            performers: union(&self.performers, &newer.performers),
            ngram_buckets: self.ngram_buckets,
            numeric: self.numeric,
        }
    }

    /// For each row of the id table its row in that of `extended`; then the same for the term
    /// table.
    pub fn rows_in(&self, extended: &Self) -> (Vec<usize>, Vec<usize>) {
        let position = |row: Result<usize, usize>| row.unwrap_or_else(|insertion| insertion);
        let ids = std::iter::once(0)
            .chain((self.videos.iter()).map(|id| position(extended.videos.binary_search(id)) + 1));
        let (mut terms, mut base) = (Vec::with_capacity(self.term_rows()), 0);
        for (ours, theirs) in [
            (&self.genres, &extended.genres),
            (&self.makers, &extended.makers),
            (&self.tags, &extended.tags),
            (&self.performers, &extended.performers),
        ] {
            terms.extend(
                ours.iter()
                    .map(|term| base + position(theirs.binary_search(term))),
            );
            base += theirs.len();
        }
        terms.extend(base..base + self.ngram_buckets as usize);
        (ids.collect(), terms)
    }

    /// Number of rows of the id table: one for each video of the vocabulary, and one for all
    /// others.
    pub fn id_rows(&self) -> usize {
        self.videos.len() + 1
    }

    /// Number of rows T of the term table.
    pub fn term_rows(&self) -> usize {
        self.names() + self.ngram_buckets as usize
    }

    /// Number of rows of the term table that stand for a name. The rows of n-grams come after them.
    pub fn names(&self) -> usize {
        self.genres.len() + self.makers.len() + self.tags.len() + self.performers.len()
    }

    /// Number of rows of both tables.
    pub fn table_rows(&self) -> usize {
        self.id_rows() + self.term_rows()
    }

    /// Whether any of the videos learned had numeric feature `feature`.
    pub fn has_numeric(&self, feature: usize) -> bool {
        self.numeric[feature].has_values(feature)
    }

    /// Turns videos into inputs of the item tower, in the order given. Terms outside the vocabulary
    /// are ignored.
    pub fn features<'a, V: Into<VideoRef<'a>>>(
        &self,
        videos: impl IntoIterator<Item = V>,
    ) -> ItemFeatures {
        self.features_of(videos, self.ngram_buckets > 0)
    }

    /// The same without n-grams, which take most of the time.
    pub(super) fn named_features<'a, V: Into<VideoRef<'a>>>(
        &self,
        videos: impl IntoIterator<Item = V>,
    ) -> ItemFeatures {
        self.features_of(videos, false)
    }

    fn features_of<'a, V: Into<VideoRef<'a>>>(
        &self,
        videos: impl IntoIterator<Item = V>,
        with_ngrams: bool,
    ) -> ItemFeatures {
        let mut features = ItemFeatures::default();
        for video in videos {
            let video: VideoRef<'a> = video.into();
            let raw = raw_numeric(video);
            let standardised = |feature: usize| {
                let statistics = self.numeric[feature];
                raw[feature].map_or(0.0, |x| {
                    ((x as f32 - statistics.mean) / statistics.std).clamp(-5.0, 5.0)
                })
            };
            let row = FeatureRow {
                start: features.term_rows.len(),
                id_row: self
                    .videos
                    .binary_search(&video.id)
                    .map_or(0, |position| position as u32 + 1),
                lengths: self.push_terms(video, with_ngrams, &mut features.term_rows),
                numeric: std::array::from_fn(standardised),
            };
            features.rows.push(row);
        }
        features
    }

    /// Adds the rows of a video's terms, and returns the number of terms of each field.
    fn push_terms(
        &self,
        video: VideoRef<'_>,
        with_ngrams: bool,
        rows: &mut Vec<u32>,
    ) -> [u16; FIELDS] {
        let mut lengths = [0; FIELDS];
        let mut base = 0;
        let vocabularies = [&self.genres, &self.makers, &self.tags, &self.performers];
        for (field, vocabulary) in vocabularies.into_iter().enumerate() {
            let row = |term: &str| {
                vocabulary
                    .binary_search_by(|known| known.as_str().cmp(term))
                    .ok()
            };
            let known = terms(video, field).filter_map(row).take(FIELD_LIMIT);
            let before = rows.len();
            rows.extend(known.map(|position| base + position as u32));
            lengths[field] = (rows.len() - before) as u16;
            base += vocabulary.len() as u32;
        }
        if with_ngrams {
            for (field, text) in [(4, video.title), (5, video.description)] {
                let buckets = ngram_buckets(text, self.ngram_buckets, NGRAM_LIMIT);
                lengths[field] = buckets.len() as u16;
                rows.extend(buckets.into_iter().map(|bucket| base + bucket));
            }
        }
        lengths
    }
}

/// The video's terms in one of the first four fields, which are in the order of the term table:
/// genre, maker, tags, performers.
fn terms(video: VideoRef<'_>, field: usize) -> impl Iterator<Item = &str> {
    let one = match field {
        0 => video.genre,
        1 => video.maker,
        _ => None,
    };
    let many = match field {
        2 => Some(video.tags),
        3 => Some(video.performers),
        _ => None,
    };
    one.into_iter()
        .chain(many.into_iter().flat_map(Names::iter))
}

/// The elements of both, ascending and without duplicates.
fn union<T: Ord + Clone>(left: &[T], right: &[T]) -> Vec<T> {
    let mut all = [left, right].concat();
    all.sort_unstable();
    all.dedup();
    all
}

/// Inputs of the item tower for n videos.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ItemFeatures {
    rows: Vec<FeatureRow>,
    /// Rows of the term table, video by video and field by field.
    term_rows: Vec<u32>,
}

/// The fixed-size part of a video's inputs, contiguous in memory.
#[derive(Debug, Clone, PartialEq)]
struct FeatureRow {
    /// Start of its terms in `term_rows`.
    start: usize,
    id_row: u32,
    /// Number of terms of each field.
    lengths: [u16; FIELDS],
    numeric: [f32; NUMERIC_FEATURES],
}

impl FeatureRow {
    fn terms(&self) -> Range<usize> {
        let terms: usize = self.lengths.iter().map(|&length| usize::from(length)).sum();
        self.start..self.start + terms
    }
}

impl ItemFeatures {
    /// Bytes per video, without its terms.
    pub(crate) const VIDEO_BYTES: usize = size_of::<FeatureRow>();

    /// Number of videos n.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Number of terms of all videos together.
    pub fn terms_len(&self) -> usize {
        self.term_rows.len()
    }

    /// Whether there is no video.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Row of the id table; 0 for a video outside the vocabulary.
    pub fn id_row(&self, item: usize) -> u32 {
        self.rows[item].id_row
    }

    /// Rows of the term table for the video's terms.
    pub fn term_rows(&self, item: usize) -> &[u32] {
        &self.term_rows[self.rows[item].terms()]
    }

    /// The same, field by field.
    pub(crate) fn fields(&self, item: usize) -> impl Iterator<Item = &[u32]> {
        let mut rest = self.term_rows(item);
        self.rows[item].lengths.iter().map(move |&length| {
            let (field, others) = rest.split_at(usize::from(length));
            rest = others;
            field
        })
    }

    /// Rows of the term table and their weights: 1/n for each of the n terms of a field, so that
    /// the mean of a field counts. The weights are written into `scratch`.
    pub fn terms<'a>(&'a self, item: usize, scratch: &'a mut Vec<f32>) -> (&'a [u32], &'a [f32]) {
        // Weights are written in blocks of eight. A block may run into the next field, which
        // overwrites the excess, and past the end.
        const BLOCK: usize = 8;
        let row = &self.rows[item];
        let terms = row.terms();
        let len = terms.len();
        if scratch.len() < len + BLOCK {
            scratch.resize(len + BLOCK, 0.0);
        }
        let mut start = 0;
        for &length in &row.lengths {
            let blocks = usize::from(length).div_ceil(BLOCK);
            let weights = [1.0 / f32::from(length); BLOCK];
            scratch[start..start + blocks * BLOCK]
                .as_chunks_mut()
                .0
                .fill(weights);
            start += usize::from(length);
        }
        (&self.term_rows[terms], &scratch[..len])
    }

    /// Prefetches what [`ItemFeatures::prefetch_terms`] reads.
    pub(crate) fn prefetch(&self, item: usize) {
        kernel::prefetch(&self.rows[item..=item]);
    }

    /// Prefetches what [`ItemFeatures::term_rows`] returns.
    pub(crate) fn prefetch_terms(&self, item: usize) {
        kernel::prefetch(self.term_rows(item));
    }

    /// Standardised numeric features, 0 where unknown.
    pub fn numeric(&self, item: usize) -> &[f32; NUMERIC_FEATURES] {
        &self.rows[item].numeric
    }
}

#[cfg(test)]
mod tests {
    use super::super::Video;
    use super::*;

    #[test]
    fn known_terms_have_rows_and_unknown_ones_do_not() {
        let video = |n: u128, tags: &[&str]| Video {
            id: Uuid::from_u128(n),
            title: format!("title {n}"),
            tags: tags.iter().map(ToString::to_string).collect(),
            price: Some(n as f32),
            ..Video::default()
        };
        let videos = vec![video(1, &["a", "b"]), video(2, &["b", "c"])];
        let catalogue = Catalogue::new(videos).unwrap();
        let options = PreprocessingOptions {
            min_term_videos: 1,
            ngram_buckets: 16,
        };
        let preprocessing = Preprocessing::fit(&catalogue, |item| item == 1, options);
        assert_eq!(
            preprocessing.tags,
            ["b", "c"],
            "an unseen video adds no term"
        );
        assert_eq!(preprocessing.term_rows(), 18);
        let features = preprocessing.features(catalogue.videos());
        assert_eq!((features.id_row(0), features.id_row(1)), (0, 1));
        let mut scratch = Vec::new();
        let (rows, weights) = features.terms(0, &mut scratch);
        assert_eq!((rows[0], weights[0]), (0, 1.0));
        assert_eq!(rows.len(), weights.len());
        assert!(rows.iter().all(|&row| row < 18));
        assert!((features.numeric(0)[0] - (2.0_f32 / 3.0).ln()).abs() < 1e-6);
        assert!(
            features.numeric(1)[0].abs() < 1e-6,
            "the only seen video is the mean"
        );
        let counts = preprocessing.numeric.map(|statistics| statistics.count);
        assert_eq!(counts, [Some(1), Some(0), Some(0)]);
        let older = Preprocessing {
            numeric: (preprocessing.numeric).map(|statistics| NumericStatistics {
                count: None,
                ..statistics
            }),
            ..preprocessing.clone()
        };
        for known in [&preprocessing, &older] {
            let has = [0, 1, 2].map(|feature| known.has_numeric(feature));
            assert_eq!(has, [true, false, false]);
        }
        let json = serde_json::to_string(&preprocessing).unwrap();
        assert_eq!(
            serde_json::from_str::<Preprocessing>(&json).unwrap(),
            preprocessing
        );
    }
}
