//! Retrieval: the videos whose vectors have the largest inner products with a query, among those that are wanted.
//!
//! Vectors are searched as bytes, and what could be among the best by a bound on the error of bytes is scored again in 32-bit floats: the answer
//! is exactly that of comparing everything in 32-bit floats. Large catalogues get inverted lists besides, so that only a few hundredths of
//! them are looked at. Filters of few videos are answered by looking at just those.

mod allowed;

mod attributes;

mod best;

mod bitset;

mod candidates;

mod cluster;

mod codes;

mod column;

mod delta;

mod lists;

mod postings;

mod search;

#[cfg(test)]
mod tests;

use crate::embedding::{EmbeddingError, Embeddings, check};
use codes::Codes;
use delta::Delta;
use lists::{Lists, Order};
use std::sync::Arc;
use thiserror::Error;

pub use allowed::Passing;
pub use attributes::{Attributes, AttributesError, Condition, Filter, Row};
pub use column::Column;
pub use postings::Postings;
pub use search::{Scratch, Search, SearchError, Work};

/// From this many videos on [`IndexKind::Auto`] makes inverted lists: below, looking at everything is as fast.
pub const AUTO_LISTS: usize = 20_000;

/// Vectors, ready to be searched. It never changes; [`Index::with_changes`] makes another one that shares most of it.
///
/// A video is named by its position: the row of the vectors that the index was built from.
#[derive(Debug, Clone)]
pub struct Index {
    base: Arc<Base>,
    delta: Arc<Delta>,
    attributes: Attributes,
}

/// What is built once.
#[derive(Debug)]
struct Base {
    vectors: Arc<Embeddings>,
    /// In the order of slots.
    codes: Codes,
    /// Slots are positions where there is none.
    order: Option<Order>,
    lists: Option<Lists>,
    margin: f32,
}

/// How an index is built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IndexOptions {
    /// Whether there are inverted lists.
    pub kind: IndexKind,
    /// How far above a group's mean, in standard deviations, its best videos are taken to score: more finds more and looks into more lists. Of
    /// lists, and of groups where very many are left, a share of it counts.
    pub margin: f32,
    /// Seed of the clustering.
    pub seed: u64,
}

/// Whether an index has inverted lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// From [`AUTO_LISTS`] videos on.
    Auto,
    /// No: every search looks at all videos.
    Exact,
    /// Yes, if there is a video at all.
    Inverted,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            kind: IndexKind::Auto,
            margin: 12.0,
            seed: 42,
        }
    }
}

/// Parts that make no index.
#[derive(Debug, Error, PartialEq)]
pub enum IndexError {
    /// There are attributes of more or fewer videos than there are vectors.
    #[error("there are attributes of {attributes} videos and vectors of {vectors}")]
    Length {
        /// Number of videos with attributes.
        attributes: usize,
        /// Number of vectors.
        vectors: usize,
    },
    /// A changed vector of a video that does not exist.
    #[error("there is no video at position {position}, only {len} videos")]
    Position {
        /// Position asked for.
        position: u32,
        /// Number of videos.
        len: usize,
    },
    /// A changed vector is no embedding.
    #[error("the changed vector at position {position}: {cause}")]
    Embedding {
        /// Which video.
        position: u32,
        /// What is wrong with it.
        cause: EmbeddingError,
    },
    /// The added vectors are of another dimension.
    #[error("added vectors: {0}")]
    Added(EmbeddingError),
    /// Changed attributes that do not fit.
    #[error(transparent)]
    Attributes(#[from] AttributesError),
}

/// Memory of an index in bytes, by part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// 32-bit floats, of which the caller may hold the same copy.
    pub vectors: usize,
    /// Quantised vectors.
    pub codes: usize,
    /// From positions to slots and back.
    pub order: usize,
    /// Means and bounds of the inverted lists.
    pub lists: usize,
    /// Postings and columns.
    pub attributes: usize,
    /// Vectors that came later.
    pub delta: usize,
}

impl Bytes {
    /// All parts.
    pub fn total(&self) -> usize {
        self.vectors + self.codes + self.order + self.lists + self.attributes + self.delta
    }
}

impl Index {
    /// Builds an index over `vectors` `[n, d]` with the attributes of the same videos ([`Attributes::none`] without filters).
    ///
    /// Runs on the current rayon pool; the result does not depend on its number of threads.
    ///
    /// # Errors
    /// [`IndexError::Length`] if attributes and vectors are not of as many videos.
    pub fn new(
        vectors: impl Into<Arc<Embeddings>>,
        attributes: Attributes,
        options: &IndexOptions,
    ) -> Result<Self, IndexError> {
        let vectors = vectors.into();
        if attributes.len() != vectors.len() {
            return Err(IndexError::Length {
                attributes: attributes.len(),
                vectors: vectors.len(),
            });
        }
        let n = vectors.len();
        let inverted = match options.kind {
            IndexKind::Auto => n >= AUTO_LISTS,
            IndexKind::Exact => false,
            IndexKind::Inverted => n > 0,
        };
        let (lists, order) = if inverted {
            let (lists, order) = Lists::new(&vectors, group_count(n), options.seed);
            (Some(lists), Some(order))
        } else {
            (None, None)
        };
        let codes = Codes::new(n, vectors.dim(), |slot| match &order {
            Some(order) => vectors.row(order.position_of[slot] as usize),
            None => vectors.row(slot),
        });
        Ok(Self {
            delta: Arc::new(Delta::new(vectors.dim())),
            base: Arc::new(Base {
                vectors,
                codes,
                order,
                lists,
                margin: options.margin,
            }),
            attributes,
        })
    }

    /// This index with other vectors for the videos at some positions, `added` ones after all others, and the attributes of changed or
    /// added videos. Costs as much as has changed since the index was built, one bit a video besides. What has changed is compared in 32-bit
    /// floats one by one, so that an index is to be built anew when [`Index::delta_len`] has grown large.
    ///
    /// # Errors
    /// [`IndexError`] if something does not fit; this index stays as it is either way.
    pub fn with_changes(
        &self,
        changed: &[(u32, &[f32])],
        added: &Embeddings,
        attributes: &[(u32, Row)],
    ) -> Result<Self, IndexError> {
        for &(position, vector) in changed {
            if position as usize >= self.len() {
                return Err(IndexError::Position {
                    position,
                    len: self.len(),
                });
            }
            let dimension = EmbeddingError::Dimension {
                expected: self.dim(),
                actual: vector.len(),
            };
            let fits = vector.len() == self.dim();
            let checked = if fits { check(vector) } else { Err(dimension) };
            checked.map_err(|cause| IndexError::Embedding { position, cause })?;
        }
        let delta = self
            .delta
            .with(self.base.vectors.len(), changed, added)
            .map_err(IndexError::Added)?;
        let len = self.base.vectors.len() + delta.added();
        Ok(Self {
            base: Arc::clone(&self.base),
            delta: Arc::new(delta),
            attributes: self.attributes.with_changes(attributes, len)?,
        })
    }

    /// The same vectors with other attributes of the same videos.
    ///
    /// # Errors
    /// [`IndexError::Length`] if they are of more or fewer videos.
    pub fn with_attributes(&self, attributes: Attributes) -> Result<Self, IndexError> {
        if attributes.len() != self.len() {
            return Err(IndexError::Length {
                attributes: attributes.len(),
                vectors: self.len(),
            });
        }
        Ok(Self {
            attributes,
            ..self.clone()
        })
    }

    /// Number of videos, those added included.
    pub fn len(&self) -> usize {
        self.base.vectors.len() + self.delta.added()
    }

    /// Whether there is no video.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dimension d.
    pub fn dim(&self) -> usize {
        self.base.vectors.dim()
    }

    /// Number of vectors, changed and added, that came after the index was built.
    pub fn delta_len(&self) -> usize {
        self.delta.len()
    }

    /// Whether searches go through inverted lists.
    pub fn has_lists(&self) -> bool {
        self.base.lists.is_some()
    }

    /// The vector of the video at `position`, the latest one.
    ///
    /// # Panics
    /// If there is no such video.
    pub fn vector(&self, position: u32) -> &[f32] {
        self.delta
            .vector(position)
            .unwrap_or_else(|| self.base.vectors.row(position as usize))
    }

    /// What filters ask about.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Memory, by part.
    pub fn bytes(&self) -> Bytes {
        let base = &*self.base;
        let of_order = |order: &Order| {
            size_of_val(order.position_of.as_slice()) + size_of_val(order.slot_of.as_slice())
        };
        Bytes {
            vectors: size_of_val(base.vectors.as_slice()),
            codes: base.codes.bytes(),
            order: base.order.as_ref().map_or(0, of_order),
            lists: base.lists.as_ref().map_or(0, Lists::bytes),
            attributes: self.attributes.bytes(),
            delta: self.delta.bytes(),
        }
    }
}

impl Base {
    #[inline]
    fn position_of(&self, slot: u32) -> u32 {
        match &self.order {
            Some(order) => order.position_of[slot as usize],
            None => slot,
        }
    }

    #[inline]
    fn slot_of(&self, position: u32) -> u32 {
        match &self.order {
            Some(order) => order.slot_of[position as usize],
            None => position,
        }
    }
}

/// Groups of inverted lists for `n` videos: twice the square root, so that each search looks at few of them first.
fn group_count(n: usize) -> usize {
    (2.0 * (n as f64).sqrt()).ceil().min(n as f64) as usize
}
