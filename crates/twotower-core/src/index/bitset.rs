/// A set of positions, one bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bitset(Vec<u64>);

impl Bitset {
    /// The empty subset of `0..positions`.
    pub(super) fn new(positions: usize) -> Self {
        Self(vec![0; positions.div_ceil(64)])
    }

    /// All of `0..positions`.
    pub(super) fn full(positions: usize) -> Self {
        let mut set = Self(vec![u64::MAX; positions.div_ceil(64)]);
        if let Some(last) = set.0.last_mut()
            && !positions.is_multiple_of(64)
        {
            *last = (1 << (positions % 64)) - 1;
        }
        set
    }

    /// Makes room for `0..positions` and keeps the content.
    pub(super) fn reserve(&mut self, positions: usize) {
        if self.0.len() < positions.div_ceil(64) {
            self.0.resize(positions.div_ceil(64), 0);
        }
    }

    /// Whether it contains `position`; false outside the range.
    #[inline]
    pub(super) fn contains(&self, position: u32) -> bool {
        self.0
            .get(position as usize / 64)
            .is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    /// Adds `position`, which must be in the range. Returns whether it is new.
    #[inline]
    pub(super) fn insert(&mut self, position: u32) -> bool {
        let (word, bit) = (&mut self.0[position as usize / 64], 1 << (position % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Adds the `positions` that are in the range.
    pub(super) fn mark(&mut self, positions: &[u32]) {
        for position in positions {
            if let Some(word) = self.0.get_mut(*position as usize / 64) {
                *word |= 1 << (position % 64);
            }
        }
    }

    /// Empties a set that contains nothing but `positions`.
    pub(super) fn unmark(&mut self, positions: &[u32]) {
        for position in positions {
            if let Some(word) = self.0.get_mut(*position as usize / 64) {
                *word = 0;
            }
        }
    }

    /// Removes `position`.
    #[inline]
    pub(super) fn remove(&mut self, position: u32) {
        if let Some(word) = self.0.get_mut(position as usize / 64) {
            *word &= !(1 << (position % 64));
        }
    }

    /// Adds all of `other`, which must not be longer.
    pub(super) fn union(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    /// Keeps only what `other` contains too.
    pub(super) fn intersect(&mut self, other: &Self) {
        for (n, word) in self.0.iter_mut().enumerate() {
            *word &= other.0.get(n).copied().unwrap_or(0);
        }
    }

    /// Removes all of `other`.
    pub(super) fn subtract(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= !other;
        }
    }

    /// Number of positions that it contains.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Its positions, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().zip(0u32..).flat_map(|(&word, n)| {
            std::iter::successors((word != 0).then_some(word), |word| {
                let rest = word & (word - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |word| 64 * n + word.trailing_zeros())
        })
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.0.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(
            positions in 1usize..300, a in prop::collection::btree_set(0u32..300, 0..80),
            b in prop::collection::btree_set(0u32..300, 0..80),
        ) {
            let inside = |set: BTreeSet<u32>| -> BTreeSet<u32> {
                set.into_iter().filter(|&x| (x as usize) < positions).collect()
            };
            let (a, b) = (inside(a), inside(b));
            let of = |set: &BTreeSet<u32>| {
                let mut bits = Bitset::new(positions);
                for &x in set {
                    assert!(bits.insert(x));
                }
                bits
            };
            let list = |bits: &Bitset| bits.iter().collect::<Vec<_>>();
            let (mut union, mut both, mut rest) = (of(&a), of(&a), of(&a));
            union.union(&of(&b));
            both.intersect(&of(&b));
            rest.subtract(&of(&b));
            prop_assert_eq!(list(&union), a.union(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(list(&both), a.intersection(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(list(&rest), a.difference(&b).copied().collect::<Vec<_>>());
            let mut marked = Bitset::new(positions);
            let far = [a.iter().copied().collect(), vec![1 << 20]].concat();
            marked.mark(&far);
            prop_assert_eq!(&marked, &of(&a));
            marked.unmark(&far);
            prop_assert_eq!(marked.len(), 0);
            prop_assert_eq!(union.len(), a.union(&b).count());
            prop_assert_eq!(list(&Bitset::full(positions)), (0..positions as u32).collect::<Vec<_>>());
        }
    }
}
