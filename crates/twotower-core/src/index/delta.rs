use super::bitset::Bitset;
use crate::embedding::Embeddings;
use std::collections::BTreeMap;

/// Vectors that were changed or added after the base was built.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    /// Ascending; from the length of the base on they are added videos.
    positions: Vec<u32>,
    /// One row for each of `positions`.
    vectors: Embeddings,
    /// Positions of the base whose vector is outdated.
    superseded: Bitset,
    /// Number of added videos.
    added: usize,
}

impl Delta {
    /// A delta without changes.
    pub(super) fn new(dim: usize) -> Self {
        Self {
            positions: Vec::new(),
            vectors: Embeddings::new(dim),
            superseded: Bitset::default(),
            added: 0,
        }
    }

    /// This delta with other vectors for the videos at some positions, and with `added` after all
    /// others. All vectors must be embeddings, and all positions must exist.
    pub(super) fn with(
        &self,
        base: usize,
        changed: &[(u32, &[f32])],
        added: &Embeddings,
    ) -> Result<Self, crate::embedding::EmbeddingError> {
        let mut rows: BTreeMap<u32, &[f32]> = self.iter().collect();
        rows.extend(changed.iter().copied());
        let len = base + self.added;
        rows.extend((0..added.len()).map(|row| ((len + row) as u32, added.row(row))));
        let mut superseded = self.superseded.clone();
        superseded.reserve(base);
        let mut vectors = Embeddings::new(self.vectors.dim());
        for (&position, row) in &rows {
            if (position as usize) < base {
                superseded.insert(position);
            }
            vectors.push(row)?;
        }
        Ok(Self {
            positions: rows.into_keys().collect(),
            vectors,
            superseded,
            added: self.added + added.len(),
        })
    }

    /// Positions and vectors.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &[f32])> {
        (self.positions.iter().enumerate())
            .map(|(row, &position)| (position, self.vectors.row(row)))
    }

    /// The vector at `position`, if the delta has it.
    pub(super) fn vector(&self, position: u32) -> Option<&[f32]> {
        let row = self.positions.binary_search(&position).ok()?;
        Some(self.vectors.row(row))
    }

    /// Whether the base's vector at `position` is outdated.
    #[inline]
    pub(super) fn supersedes(&self, position: u32) -> bool {
        self.superseded.contains(position)
    }

    /// Number of added videos.
    pub(super) fn added(&self) -> usize {
        self.added
    }

    /// Number of vectors, changed and added.
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.positions.as_slice())
            + size_of_val(self.vectors.as_slice())
            + self.superseded.bytes()
    }
}
