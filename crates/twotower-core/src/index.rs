//! Retrieval: the videos whose vectors have the largest inner products with a query, among those
//! that pass the request.
//!
//! Vectors are searched as bytes. A bound on the error of the byte codes gives the candidates,
//! which are scored again in 32-bit floats, so that the answer is exactly that of comparing
//! everything in 32-bit floats. Large catalogues also get inverted lists, and a search looks at
//! only a few hundredths of the videos. Filters with few videos are answered by scoring just those.

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

/// From this many videos on [`IndexKind::Auto`] makes inverted lists. With fewer videos a scan is
/// as fast.
pub const AUTO_LISTS: usize = 20_000;

/// A searchable set of vectors. It is immutable; [`Index::with_changes`] makes another index that
/// shares most of it.
///
/// A video is named by its position: its row in the vectors that the index was built from.
#[derive(Debug, Clone)]
pub struct Index {
    base: Arc<Base>,
    delta: Arc<Delta>,
    attributes: Attributes,
}

/// The part that is built once and shared.
#[derive(Debug)]
struct Base {
    vectors: Arc<Embeddings>,
    /// In the order of slots.
    codes: Codes,
    /// `None` if slots are positions.
    order: Option<Order>,
    lists: Option<Lists>,
    margin: f32,
}

/// Options for building an index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IndexOptions {
    /// Whether there are inverted lists.
    pub kind: IndexKind,
    /// How many standard deviations above a group's mean its best videos are expected to score. A
    /// larger margin finds more and looks into more lists. For lists, and for groups where very
    /// many are left, only a part of the margin counts.
    pub margin: f32,
    /// Seed of the clustering.
    pub seed: u64,
}

/// Whether an index has inverted lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// From [`AUTO_LISTS`] videos on.
    Auto,
    /// No: every search scans all videos.
    Exact,
    /// Yes, unless there is no video.
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

/// Why an index cannot be built or changed.
#[derive(Debug, Error, PartialEq)]
pub enum IndexError {
    /// The numbers of attributes and of vectors differ.
    #[error("there are attributes of {attributes} videos and vectors of {vectors}")]
    Length {
        /// Number of videos with attributes.
        attributes: usize,
        /// Number of vectors.
        vectors: usize,
    },
    /// A changed vector is of a video that does not exist.
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
        /// Position of the video.
        position: u32,
        /// What is wrong with the vector.
        cause: EmbeddingError,
    },
    /// The added vectors have another dimension.
    #[error("added vectors: {0}")]
    Added(EmbeddingError),
    /// Changed attributes do not fit.
    #[error(transparent)]
    Attributes(#[from] AttributesError),
}

/// Memory of an index in bytes, by part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// 32-bit floats; the caller may share this copy.
    pub vectors: usize,
    /// Quantised vectors.
    pub codes: usize,
    /// Mapping from positions to slots and back.
    pub order: usize,
    /// Means and bounds of the inverted lists.
    pub lists: usize,
    /// Postings and columns.
    pub attributes: usize,
    /// Vectors changed or added after the build.
    pub delta: usize,
}

impl Bytes {
    /// All parts.
    pub fn total(&self) -> usize {
        self.vectors + self.codes + self.order + self.lists + self.attributes + self.delta
    }
}

impl Index {
    /// Builds an index over `vectors` `[n, d]` with the attributes of the same videos
    /// ([`Attributes::none`] without filters).
    ///
    /// Runs on the current rayon pool; the result does not depend on its number of threads.
    ///
    /// # Errors
    /// [`IndexError::Length`] if there are more or fewer attributes than vectors.
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

    /// This index with other vectors for the videos at some positions, `added` vectors after all
    /// others, and the attributes of changed or added videos. The cost is proportional to all
    /// changes since the index was built, plus one bit per video. Changed vectors are compared one
    /// by one in 32-bit floats: build a new index when [`Index::delta_len`] has grown large.
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

    /// Number of videos, including those added.
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

    /// Number of vectors that were changed or added after the index was built.
    pub fn delta_len(&self) -> usize {
        self.delta.len()
    }

    /// Whether searches use inverted lists.
    pub fn has_lists(&self) -> bool {
        self.base.lists.is_some()
    }

    /// The current vector of the video at `position`, `[d]`.
    ///
    /// # Panics
    /// If there is no such video.
    pub fn vector(&self, position: u32) -> &[f32] {
        self.delta
            .vector(position)
            .unwrap_or_else(|| self.base.vectors.row(position as usize))
    }

    /// The attributes that filters use.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Memory by part.
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

/// Number of groups of inverted lists for `n` videos: twice the square root, so that each search
/// looks at few groups.
fn group_count(n: usize) -> usize {
    (2.0 * (n as f64).sqrt()).ceil().min(n as f64) as usize
}
