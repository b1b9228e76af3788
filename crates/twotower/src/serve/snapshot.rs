//! The immutable view of catalogue, popularity and model that requests are answered from. A new
//! view replaces the old one as a whole.

pub(crate) mod background;

mod videos;

mod load;

mod delta;

mod refresh;

mod records;

mod keeper;

#[cfg(test)]
mod tests;

pub(crate) use keeper::Keeper;
pub(crate) use records::Records;
pub(crate) use refresh::{SnapshotOptions, Snapshots};

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use twotower_core::index::{Filter, Index, Scratch, Search};
use twotower_core::kernel;
use twotower_core::recommend::Scored;
use twotower_core::tower::UserTower;
use twotower_store::{ModelRecord, StoreTime};
use videos::Videos;

/// A model version with the vectors of its videos.
#[derive(Debug)]
pub(crate) struct LoadedModel {
    pub(crate) version: i64,
    /// Checksum of the manifest, which distinguishes the model from another one with the same
    /// number.
    manifest_sha256: Arc<str>,
    pub(crate) user_tower: Arc<UserTower>,
    /// Position i in the index is video i of the catalogue.
    pub(crate) index: Index,
    /// The index has all vectors written before this time; microseconds of [`StoreTime`].
    read_at_us: AtomicI64,
    /// Distinguishes the vectors that were read from later ones
    /// ([`twotower_store::Store::vectors_stamp`]).
    stamp: (i64, i64),
}

impl LoadedModel {
    /// The same model with another index, which has everything written before `read_at`.
    fn with_index(&self, index: Index, read_at: StoreTime) -> Self {
        Self {
            version: self.version,
            manifest_sha256: Arc::clone(&self.manifest_sha256),
            user_tower: Arc::clone(&self.user_tower),
            index,
            read_at_us: AtomicI64::new(read_at.us()),
            stamp: self.stamp,
        }
    }

    /// Whether this is the model registered as `record`.
    fn is_of(&self, record: &ModelRecord) -> bool {
        self.version == record.version && *self.manifest_sha256 == *record.manifest_sha256
    }

    fn read_at(&self) -> StoreTime {
        StoreTime::from_us(self.read_at_us.load(Ordering::Relaxed))
    }

    /// Marks the index as complete up to `read_at`.
    fn read_until(&self, read_at: StoreTime) {
        self.read_at_us.store(read_at.us(), Ordering::Relaxed);
    }
}

/// Options for reading a catalogue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Catalogue {
    /// Whether lists are capped by makers or performers.
    pub(crate) groups: bool,
    /// Videos published on this day since 1970 or later are new.
    pub(crate) fresh_from_day: f32,
}

impl Catalogue {
    fn is_fresh(self, published_day: Option<f32>) -> bool {
        published_day.is_some_and(|day| day >= self.fresh_from_day)
    }
}

/// One view. Videos are identified by their position. With a model, the view has the videos that
/// have a vector.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Number that differs from that of every view whose videos or vectors would give other lists.
    /// Passing time alone gives no new number: a list that is given again may contain a video that
    /// was new until a minute ago.
    pub(crate) revision: u64,
    /// As [`Self::revision`], for lists by number of likes: it also differs from that of every view
    /// with other numbers of likes. These change much more often, and these lists are computed
    /// faster.
    pub(crate) popular_revision: u64,
    pub(crate) model: Option<LoadedModel>,
    pub(crate) videos: Videos,
    popularity: Popularity,
    read: CatalogueRead,
}

/// When a catalogue was read from the database, and how long that took.
#[derive(Debug, Clone, Copy)]
struct CatalogueRead {
    at: Instant,
    took: Duration,
}

impl CatalogueRead {
    /// A reading that began at `at` and ends now.
    fn since(at: Instant) -> Self {
        Self {
            at,
            took: at.elapsed(),
        }
    }
}

/// Number of likes of each video.
#[derive(Debug, Clone, Default)]
struct Popularity {
    /// Number of likes, `[V]`; videos added later have none.
    likes: Arc<[u32]>,
    /// Positions, most liked video first; ties in order of position.
    order: Arc<[u32]>,
}

/// Up to this many conditions are tested one by one, which takes well below a millisecond. Beyond
/// that, all videos that pass are found through postings.
pub(crate) const MAX_TESTS_ONE_BY_ONE: usize = 1 << 14;

/// If a filter leaves fewer than one video in this many, these are sorted, instead of searching the
/// order of all videos for them.
const FEW: usize = 32;

thread_local! {
    /// Buffers for the searches of this thread.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Snapshot {
    /// Version of the model, if there is one.
    pub(crate) fn version(&self) -> Option<i64> {
        self.model.as_ref().map(|model| model.version)
    }

    /// The vector of the video at `position`, if there is a model.
    pub(crate) fn vector(&self, position: u32) -> Option<&[f32]> {
        self.model
            .as_ref()
            .map(|model| model.index.vector(position))
    }

    /// The vector of a user with these likes and skips, oldest first; `None` if there are none, or
    /// no model.
    pub(crate) fn embed(&self, likes: &[u32], skips: &[u32]) -> Option<Vec<f32>> {
        let model = self.model.as_ref()?;
        let vectors = |positions: &[u32]| -> Vec<&[f32]> {
            let vectors = positions
                .iter()
                .map(|&position| model.index.vector(position));
            vectors.inspect(|vector| kernel::prefetch(vector)).collect()
        };
        let state = model.user_tower.history(vectors(likes), vectors(skips));
        model.user_tower.embed(&state)
    }

    /// The videos most similar to `vector`, best first.
    pub(crate) fn search(
        &self,
        vector: &[f32],
        k: usize,
        exclude: &[&[u32]],
        filter: &Filter,
    ) -> Vec<Scored> {
        let Some(model) = &self.model else {
            return Vec::new();
        };
        let request = Search {
            k,
            exclude,
            filter: (!filter.conditions.is_empty()).then_some(filter),
            exact: false,
        };
        let found =
            SCRATCH.with_borrow_mut(|scratch| model.index.search(vector, &request, scratch));
        // Towers return unit vectors of the index's dimension, and filters are made for its
        // columns.
        found.unwrap_or_else(|error| {
            tracing::error!(%error, "a search was refused");
            Vec::new()
        })
    }

    /// Whether searches use inverted lists.
    pub(crate) fn has_lists(&self) -> bool {
        let model = self.model.as_ref();
        model.is_some_and(|model| model.index.has_lists())
    }

    /// The share of the `k` videos most similar to `vector` that a search finds.
    pub(crate) fn recall(&self, vector: &[f32], k: usize) -> Option<f64> {
        let index = &self.model.as_ref()?.index;
        let queries = std::iter::once(vector);
        SCRATCH
            .with_borrow_mut(|scratch| index.recall(queries, k, scratch))
            .ok()
    }

    /// The most liked videos first, with their likes as a share of those of the most liked one as
    /// score.
    pub(crate) fn most_liked(&self, k: usize, exclude: &[&[u32]], filter: &Filter) -> Vec<Scored> {
        let attributes = self.videos.attributes();
        let mut excluded: Vec<u32> = exclude.iter().copied().flatten().copied().collect();
        excluded.sort_unstable();
        let is_wanted = |item: u32| excluded.binary_search(&item).is_err();
        let added = self.popularity.order.len() as u32..self.videos.len() as u32;
        let mut order = self.popularity.order.iter().copied().chain(added);
        let mut found = Vec::with_capacity(k.min(self.videos.len()));
        // Most filters admit enough of the first videos, so that nothing else is needed.
        let passes = attributes.predicate(filter);
        let first = MAX_TESTS_ONE_BY_ONE / filter.asks().max(1);
        for item in order.by_ref().filter(|&item| is_wanted(item)).take(first) {
            if found.len() == k {
                break;
            }
            if passes(item) {
                found.push(item);
            }
        }
        if found.len() < k {
            let passing = attributes.passing(filter);
            if passing.len() < self.videos.len() / FEW {
                found = passing.iter().filter(|&item| is_wanted(item)).collect();
                found.sort_by_key(|&item| std::cmp::Reverse(self.popularity.likes(item)));
                found.truncate(k);
            } else {
                let wanted = |item: &u32| passing.contains(*item) && is_wanted(*item);
                let room = k - found.len();
                found.extend(order.filter(wanted).take(room));
            }
        }
        let scored = |item| Scored {
            item,
            score: self.likes_share(item),
        };
        found.into_iter().map(scored).collect()
    }

    /// Likes of the video at `position`, as a share of those of the most liked one.
    pub(crate) fn likes_share(&self, position: u32) -> f32 {
        let first = self.popularity.order.first();
        let most = first.map_or(0, |&first| self.popularity.likes(first));
        self.popularity.likes(position) as f32 / (most as f32).max(1.0)
    }

    /// Whether a list takes long enough to be kept off the threads that serve connections. The list
    /// is `by_vector`, or else by number of likes, and each video is tested for `conditions`
    /// conditions.
    pub(crate) fn is_slow(&self, by_vector: bool, conditions: usize) -> bool {
        /// Scanning this many bytes of vectors takes about half a millisecond.
        const MAX_BYTES: usize = 8 << 20;
        /// Evaluating this many conditions through postings takes about as long.
        const MAX_CONDITIONS: usize = 4 << 20;
        /// Walking through more videos than this by order of likes takes more than a few hundred
        /// microseconds.
        const MAX_WALKED: usize = 4000;
        let videos = self.videos.len();
        match &self.model {
            Some(model) if by_vector => {
                let index = &model.index;
                // Inverted lists reduce the scan to a few hundredths of the codes. Vectors added
                // since they were built are compared one by one, in floats.
                let codes = if index.has_lists() { 0 } else { videos };
                let read = index.dim() * (codes + size_of::<f32>() * index.delta_len());
                read > MAX_BYTES || videos * conditions > MAX_CONDITIONS
            }
            _ => conditions > 0 && videos > MAX_WALKED,
        }
    }

    /// Approximate memory, bytes.
    pub(crate) fn bytes(&self) -> usize {
        let index = self
            .model
            .as_ref()
            .map_or(0, |model| model.index.bytes().total());
        // The index and the videos share the attributes.
        let shared = match self.model {
            Some(_) => self.videos.attributes().bytes(),
            None => 0,
        };
        index + self.videos.bytes() - shared + 8 * self.popularity.likes.len()
    }
}

impl Popularity {
    /// Likes of the video at `position`.
    fn likes(&self, position: u32) -> u32 {
        self.likes.get(position as usize).copied().unwrap_or(0)
    }

    fn new(likes: Vec<u32>) -> Self {
        let mut order: Vec<u32> = (0..likes.len() as u32).collect();
        order.sort_by_key(|&position| std::cmp::Reverse(likes[position as usize]));
        Self {
            likes: likes.into(),
            order: order.into(),
        }
    }
}
