use std::hash::{BuildHasher, RandomState};
use twotower_core::kernel;
use uuid::Uuid;

/// Maps ids to positions: a hash table with linear probing. It stores positions only, since the ids
/// are in their column.
///
/// Implemented here so that looking up many ids overlaps their memory accesses, which the maps of
/// libraries do not.
#[derive(Debug, Clone, Default)]
pub(super) struct Positions {
    /// Position + 1 of an id, in the slot of its hash or the next free one after it; 0 in free
    /// slots. The number of slots is a power of two, at least twice the number of ids.
    slots: Vec<u32>,
    len: usize,
    hashes: RandomState,
}

impl Positions {
    /// The positions of `ids`, which must be distinct.
    pub(super) fn new(ids: &[Uuid]) -> Self {
        let mut positions = Self {
            slots: vec![0; slots_for(ids.len())],
            len: 0,
            hashes: RandomState::new(),
        };
        for position in 0..ids.len() as u32 {
            positions.insert(position, ids);
        }
        positions
    }

    /// Adds the id at `position`, which must not be there yet.
    pub(super) fn insert(&mut self, position: u32, ids: &[Uuid]) {
        self.len += 1;
        let slots = slots_for(self.len);
        if slots > self.slots.len() {
            for entry in std::mem::replace(&mut self.slots, vec![0; slots]) {
                if let Some(position) = entry.checked_sub(1) {
                    self.place(position, ids);
                }
            }
        }
        self.place(position, ids);
    }

    pub(super) fn get(&self, video: Uuid, ids: &[Uuid]) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        self.find(video, self.home(video), ids)
    }

    /// Positions of those `videos` that are there, in the order given.
    pub(super) fn all(&self, videos: &[Uuid], ids: &[Uuid]) -> Vec<u32> {
        if self.slots.is_empty() {
            return Vec::new();
        }
        let homes: Vec<usize> = videos.iter().map(|&video| self.home(video)).collect();
        for &home in &homes {
            kernel::prefetch(&self.slots[home..=home]);
        }
        for &home in &homes {
            if let Some(position) = self.slots[home].checked_sub(1) {
                kernel::prefetch(&ids[position as usize..=position as usize]);
            }
        }
        let found = videos.iter().zip(homes);
        found
            .filter_map(|(&video, home)| self.find(video, home, ids))
            .collect()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.slots.as_slice())
    }

    fn home(&self, video: Uuid) -> usize {
        self.hashes.hash_one(video) as usize & (self.slots.len() - 1)
    }

    fn find(&self, video: Uuid, home: usize, ids: &[Uuid]) -> Option<u32> {
        let mut slot = home;
        loop {
            let position = self.slots[slot].checked_sub(1)?;
            if ids[position as usize] == video {
                return Some(position);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    fn place(&mut self, position: u32, ids: &[Uuid]) {
        let mut slot = self.home(ids[position as usize]);
        while self.slots[slot] != 0 {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot] = position + 1;
    }
}

/// Slots for `len` ids: half of them stay free, so that a search ends soon.
fn slots_for(len: usize) -> usize {
    (2 * len).next_power_of_two()
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
        let asked = [ids[1900], ids[7], ids[1799], ids[7]];
        assert_eq!(positions.all(&asked, &ids), [7, 1799, 7]);
    }

    #[test]
    fn nothing_is_found_where_there_is_nothing() {
        for positions in [Positions::default(), Positions::new(&[])] {
            assert_eq!(positions.get(Uuid::nil(), &[]), None);
            assert!(positions.all(&[Uuid::nil()], &[]).is_empty());
        }
    }
}
