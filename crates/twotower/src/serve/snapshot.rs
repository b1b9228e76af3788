//! What requests are answered from: one immutable view of catalogue, popularity and model, swapped as a whole.

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

/// A model version with its videos' vectors.
#[derive(Debug)]
pub(crate) struct LoadedModel {
    pub(crate) version: i64,
    /// Checksum of the manifest: what tells it from another model that was given the same number.
    manifest_sha256: Arc<str>,
    pub(crate) user_tower: Arc<UserTower>,
    /// Position i is the catalogue's video i.
    pub(crate) index: Index,
    /// Vectors written before are in the index; microseconds of [`StoreTime`].
    read_at_us: AtomicI64,
    /// What tells the vectors that were read from what is written later ([`twotower_store::Store::vectors_stamp`]).
    stamp: (i64, i64),
}

impl LoadedModel {
    /// The same model with another index, in which is what was written before `read_at`.
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

    /// Whether it is the model registered as `record`.
    fn is_of(&self, record: &ModelRecord) -> bool {
        self.version == record.version && *self.manifest_sha256 == *record.manifest_sha256
    }

    fn read_at(&self) -> StoreTime {
        StoreTime::from_us(self.read_at_us.load(Ordering::Relaxed))
    }

    /// Nothing was written until then that is not in the index.
    fn read_until(&self, read_at: StoreTime) {
        self.read_at_us.store(read_at.us(), Ordering::Relaxed);
    }
}

/// What a catalogue is read for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Catalogue {
    /// Whether lists are capped by makers or performers.
    pub(crate) groups: bool,
    /// Videos published at this day since 1970 or later are new.
    pub(crate) fresh_from_day: f32,
}

impl Catalogue {
    fn is_fresh(self, published_day: Option<f32>) -> bool {
        published_day.is_some_and(|day| day >= self.fresh_from_day)
    }
}

/// One view. Videos are named by their position; with a model, they are those that have a vector.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Differs from that of every view that would give other lists for their videos or vectors. Time that passes gives no new one: what was
    /// new until a minute ago may stay in a list that is given again.
    pub(crate) revision: u64,
    /// The same of lists by likes, which change much more often and are made faster than others: differs, too, from that of every view
    /// with other numbers of likes.
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
    /// It has been read from then until now.
    fn since(at: Instant) -> Self {
        Self {
            at,
            took: at.elapsed(),
        }
    }
}

/// Likes of each video.
#[derive(Debug, Clone, Default)]
struct Popularity {
    /// Number of likes, `[V]`; videos that came since have none.
    likes: Arc<[u32]>,
    /// Positions, the most liked video first; ties to the smaller position.
    order: Arc<[u32]>,
}

/// So many questions of a filter are asked one by one, well below a millisecond, before postings are looked through for all videos that pass.
pub(crate) const ASKED_ONE_BY_ONE: usize = 1 << 14;

/// If a filter leaves fewer than one video in so many, those are put in order instead of looking for them in the order of all.
const FEW: usize = 32;

thread_local! {
    /// What searches of this thread need room for.
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

    /// The vector of a user with these likes and skips, oldest first; `None` without any, or without a model.
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

    /// The videos most like `vector`, best first.
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
        // Towers give unit vectors of the index's dimension, and filters are made for its columns.
        found.unwrap_or_else(|error| {
            tracing::error!(%error, "a search was refused");
            Vec::new()
        })
    }

    /// Whether searches go through inverted lists.
    pub(crate) fn has_lists(&self) -> bool {
        let model = self.model.as_ref();
        model.is_some_and(|model| model.index.has_lists())
    }

    /// The share of the `k` videos most like `vector` that a search finds.
    pub(crate) fn recall(&self, vector: &[f32], k: usize) -> Option<f64> {
        let index = &self.model.as_ref()?.index;
        let queries = std::iter::once(vector);
        SCRATCH
            .with_borrow_mut(|scratch| index.recall(queries, k, scratch))
            .ok()
    }

    /// The most liked videos first, scored by their share of the likes of the most liked one.
    pub(crate) fn most_liked(&self, k: usize, exclude: &[&[u32]], filter: &Filter) -> Vec<Scored> {
        let attributes = self.videos.attributes();
        let mut excluded: Vec<u32> = exclude.iter().copied().flatten().copied().collect();
        excluded.sort_unstable();
        let is_wanted = |item: u32| excluded.binary_search(&item).is_err();
        let added = self.popularity.order.len() as u32..self.videos.len() as u32;
        let mut order = self.popularity.order.iter().copied().chain(added);
        let mut found = Vec::with_capacity(k.min(self.videos.len()));
        // Most filters let some of the first ones through, and then this is all.
        let passes = attributes.predicate(filter);
        let first = ASKED_ONE_BY_ONE / filter.asks().max(1);
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

    /// Whether a list takes long enough to be kept off the threads that serve connections: one `by_vector`, or else by likes, through a
    /// filter that `asks` so much of a video.
    pub(crate) fn is_slow(&self, by_vector: bool, asks: usize) -> bool {
        /// So many bytes of vectors are gone through in about half a millisecond.
        const BYTES: usize = 8 << 20;
        /// About as long as postings take of a filter that asks so much of so many videos altogether.
        const ASKED: usize = 4 << 20;
        /// More are not looked through for those that a filter leaves within a few hundred microseconds.
        const WALKED: usize = 4000;
        let videos = self.videos.len();
        match &self.model {
            Some(model) if by_vector => {
                let index = &model.index;
                // Through inverted lists a few hundredths are looked at. What came since they were made is compared one by one, in floats.
                let codes = if index.has_lists() { 0 } else { videos };
                let read = index.dim() * (codes + size_of::<f32>() * index.delta_len());
                read > BYTES || videos * asks > ASKED
            }
            _ => asks > 0 && videos > WALKED,
        }
    }

    /// Memory in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        let index = self
            .model
            .as_ref()
            .map_or(0, |model| model.index.bytes().total());
        // The attributes are shared.
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
