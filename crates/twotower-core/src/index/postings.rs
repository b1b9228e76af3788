use super::bitset::Bitset;
use std::collections::BTreeMap;

/// A term that more than one in this many videos carry is stored as a bitset: that takes less
/// memory than a list with four bytes per video.
const DENSE: usize = 32;

/// For each term the positions of the videos that carry it.
#[derive(Debug, Clone, Default)]
pub struct Postings {
    /// Start of each term's positions in `sparse`, `[terms + 1]`.
    offsets: Vec<usize>,
    /// Ascending within a term.
    sparse: Vec<u32>,
    dense: BTreeMap<u32, Dense>,
}

#[derive(Debug, Clone)]
struct Dense {
    bits: Bitset,
    count: usize,
}

impl Postings {
    /// Groups pairs (term, position of a video) by term, in any order; duplicates count once.
    ///
    /// # Panics
    /// If a term is not in `0..terms` or a position not in `0..positions`.
    pub fn new<I>(positions: usize, terms: usize, pairs: I) -> Self
    where
        I: IntoIterator<Item = (u32, u32)>,
        I::IntoIter: Clone,
    {
        let pairs = pairs.into_iter();
        let mut ends = vec![0; terms + 1];
        for (term, position) in pairs.clone() {
            assert!(
                (position as usize) < positions,
                "position {position} of {positions}"
            );
            ends[term as usize + 1] += 1;
        }
        for term in 0..terms {
            ends[term + 1] += ends[term];
        }
        let (begins, mut next) = (ends.clone(), ends);
        let mut all = vec![0; begins[terms]];
        for (term, position) in pairs {
            all[next[term as usize]] = position;
            next[term as usize] += 1;
        }
        let mut postings = Self {
            offsets: Vec::with_capacity(terms + 1),
            ..Self::default()
        };
        postings.offsets.push(0);
        // Lists are moved forward in place as duplicates and dense terms are removed, so that no
        // second copy is needed.
        let mut kept = 0;
        for (term, bounds) in (0u32..).zip(begins.windows(2)) {
            let list = &mut all[bounds[0]..bounds[1]];
            if !list.is_sorted() {
                list.sort_unstable();
            }
            let mut count = 0;
            for from in 0..list.len() {
                if count == 0 || list[count - 1] != list[from] {
                    list[count] = list[from];
                    count += 1;
                }
            }
            if count * DENSE > positions {
                let mut bits = Bitset::new(positions);
                list[..count].iter().for_each(|&position| {
                    bits.insert(position);
                });
                postings.dense.insert(term, Dense { bits, count });
            } else {
                all.copy_within(bounds[0]..bounds[0] + count, kept);
                kept += count;
            }
            postings.offsets.push(kept);
        }
        all.truncate(kept);
        all.shrink_to_fit();
        postings.sparse = all;
        postings
    }

    /// Number of videos that carry `term`; 0 for an unknown term.
    pub fn count(&self, term: u32) -> usize {
        self.dense
            .get(&term)
            .map_or_else(|| self.list(term).len(), |dense| dense.count)
    }

    /// Whether the video at `position` carries `term`.
    pub fn contains(&self, term: u32, position: u32) -> bool {
        match self.dense.get(&term) {
            Some(dense) => dense.bits.contains(position),
            None => self.list(term).binary_search(&position).is_ok(),
        }
    }

    /// Calls `visit` with the positions of `term`, ascending.
    pub(super) fn for_each(&self, term: u32, visit: impl FnMut(u32)) {
        match self.dense.get(&term) {
            Some(dense) => dense.bits.iter().for_each(visit),
            None => self.list(term).iter().copied().for_each(visit),
        }
    }

    /// Adds the positions of `term` to `set`.
    pub(super) fn add_to(&self, term: u32, set: &mut Bitset) {
        match self.dense.get(&term) {
            Some(dense) => set.union(&dense.bits),
            None => self.list(term).iter().for_each(|&position| {
                set.insert(position);
            }),
        }
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> usize {
        let dense: usize = self.dense.values().map(|dense| dense.bits.bytes()).sum();
        size_of_val(self.offsets.as_slice()) + size_of_val(self.sparse.as_slice()) + dense
    }

    /// The positions of a sparse term.
    fn list(&self, term: u32) -> &[u32] {
        match self.offsets.get(term as usize..term as usize + 2) {
            Some(bounds) => &self.sparse[bounds[0]..bounds[1]],
            None => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn postings_hold_the_pairs_they_were_made_from(
            positions in 1u32..200, pairs in prop::collection::vec((0u32..12, 0u32..200), 0..300),
        ) {
            let pairs: Vec<_> = pairs.into_iter().filter(|pair| pair.1 < positions).collect();
            let set: BTreeSet<_> = pairs.iter().copied().collect();
            let postings = Postings::new(positions as usize, 12, pairs.iter().copied());
            for term in 0..14 {
                let expected: Vec<u32> = set.iter().filter(|pair| pair.0 == term).map(|pair| pair.1).collect();
                prop_assert_eq!(postings.count(term), expected.len());
                let mut found = Vec::new();
                postings.for_each(term, |position| found.push(position));
                prop_assert_eq!(&found, &expected);
                let mut bits = Bitset::new(positions as usize);
                postings.add_to(term, &mut bits);
                prop_assert_eq!(bits.iter().collect::<Vec<_>>(), expected);
                prop_assert!((0..positions).all(|position| postings.contains(term, position) == set.contains(&(term, position))));
            }
        }
    }
}
