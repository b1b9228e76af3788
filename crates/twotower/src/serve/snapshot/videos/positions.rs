use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use uuid::Uuid;

/// From ids to positions. A table of positions alone: the ids are in their column already.
#[derive(Debug, Clone, Default)]
pub(super) struct Positions {
    table: HashTable<u32>,
    hashes: RandomState,
}

impl Positions {
    /// Of all `ids`, each there once.
    pub(super) fn new(ids: &[Uuid]) -> Self {
        let mut positions = Self {
            table: HashTable::with_capacity(ids.len()),
            hashes: RandomState::new(),
        };
        for position in 0..ids.len() as u32 {
            positions.insert(position, ids);
        }
        positions
    }

    /// Adds the id at `position`, which is not there yet.
    pub(super) fn insert(&mut self, position: u32, ids: &[Uuid]) {
        let hash = |position: &u32| self.hashes.hash_one(ids[*position as usize]);
        self.table.insert_unique(hash(&position), position, hash);
    }

    pub(super) fn get(&self, video: Uuid, ids: &[Uuid]) -> Option<u32> {
        let hash = self.hashes.hash_one(video);
        let is_it = |position: &u32| ids[*position as usize] == video;
        self.table.find(hash, is_it).copied()
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_finds_its_position_and_no_other_does() {
        let ids: Vec<Uuid> = (0..2000u128)
            .map(|n| Uuid::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c)))
            .collect();
        let mut positions = Positions::new(&ids[..1500]);
        for position in 1500..1800 {
            positions.insert(position, &ids);
        }
        for (position, id) in (0..).zip(&ids) {
            let expected = (position < 1800).then_some(position);
            assert_eq!(positions.get(*id, &ids), expected);
        }
    }
}
