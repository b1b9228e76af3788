//! The likes at given places in the order of time, found exactly in bounded memory.
//!
//! A radix selection: a pass counts how many keys have each value of the next 20 bits, until so few are left that they can
//! be sorted. The first count is taken while the shards are written.

use super::manifest::Temporal;
use super::shard::{self, Packed};
use crate::function::LIKE;
use anyhow::Context;
use std::path::Path;

/// Bits that one pass decides.
const BITS: u32 = 20;
/// Bits of a key: times below 2⁵² microseconds (seconds of 32 bits), users and videos of 32 bits.
const KEY_BITS: u32 = 52 + 32 + 32;

/// Number of buckets that the first pass counts in.
pub(super) const FIRST_BUCKETS: usize = 1 << BITS;

/// Keys that are sorted in memory: 64 MiB.
const FEW: u64 = 1 << 22;

/// (microseconds since 1970, user, video) as one number that sorts as they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u128);

impl Key {
    /// `at_us` is of seconds that 32 bits can count.
    pub(super) fn new(at_us: i64, user: u32, video: u32) -> Self {
        Self((at_us as u128) << 64 | u128::from(user) << 32 | u128::from(video))
    }

    /// Which of [`FIRST_BUCKETS`] it is counted in.
    pub(super) fn first_bucket(self) -> usize {
        self.bucket(KEY_BITS, BITS)
    }

    fn bucket(self, open: u32, bits: u32) -> usize {
        (self.0 >> (open - bits)) as usize & ((1 << bits) - 1)
    }

    fn parts(self) -> (i64, u32, u32) {
        ((self.0 >> 64) as i64, (self.0 >> 32) as u32, self.0 as u32)
    }
}

/// Passes over all keys, in any order.
pub(super) trait Keys {
    fn pass(&self, visit: &mut dyn FnMut(Key)) -> anyhow::Result<()>;
}

/// The search for one place.
#[derive(Debug, Clone)]
struct Search {
    /// The bits that are decided.
    prefix: u128,
    /// Number of the bits that are not.
    open: u32,
    /// The place among keys with this prefix, and how many there are.
    place: u64,
    count: u64,
    /// Counts by the next bits, or the keys themselves once they are few.
    buckets: Vec<u64>,
    keys: Vec<Key>,
}

impl Search {
    fn new(place: u64, count: u64, first: &[u64]) -> Self {
        let mut search = Self {
            prefix: 0,
            open: KEY_BITS,
            place,
            count,
            buckets: first.to_vec(),
            keys: Vec::new(),
        };
        search.descend(BITS);
        search
    }

    /// Goes into the bucket that holds the place.
    fn descend(&mut self, bits: u32) {
        let mut before = 0;
        for (bucket, count) in std::mem::take(&mut self.buckets).into_iter().enumerate() {
            if before + count > self.place {
                self.prefix = self.prefix << bits | bucket as u128;
                self.open -= bits;
                self.place -= before;
                self.count = count;
                return;
            }
            before += count;
        }
    }

    fn bits(&self) -> u32 {
        self.open.min(BITS)
    }

    fn visit(&mut self, key: Key, few: u64) {
        if key.0 >> self.open != self.prefix {
            return;
        }
        if self.count <= few {
            self.keys.push(key);
        } else {
            let bucket = key.bucket(self.open, self.bits());
            self.buckets[bucket] += 1;
        }
    }
}

/// The keys at `places` of `count` keys, in their order. `first` counts them by [`Key::first_bucket`].
fn select(
    keys: &impl Keys,
    places: [u64; 2],
    count: u64,
    first: &[u64],
    few: u64,
) -> anyhow::Result<[Option<Key>; 2]> {
    if count == 0 {
        return Ok([None; 2]);
    }
    let mut searches = places.map(|place| Search::new(place, count, first));
    let mut found = [None; 2];
    while found.contains(&None) {
        for search in &mut searches {
            if search.count > few {
                search.buckets = vec![0; 1 << search.bits()];
            }
        }
        keys.pass(&mut |key| {
            for (search, found) in searches.iter_mut().zip(&found) {
                if found.is_none() {
                    search.visit(key, few);
                }
            }
        })?;
        for (search, found) in searches.iter_mut().zip(&mut found) {
            if found.is_some() {
                continue;
            }
            if search.count > few {
                search.descend(search.bits());
            } else {
                let place = search.place as usize;
                let keys = &mut search.keys;
                anyhow::ensure!(
                    place < keys.len(),
                    "the shards changed while they were read"
                );
                *found = Some(*keys.select_nth_unstable(place).1);
                keys.clear();
            }
        }
    }
    Ok(found)
}

/// The shards of a folder.
struct Shards<'a> {
    folder: &'a Path,
    packed: &'a Packed,
}

impl Keys for Shards<'_> {
    fn pass(&self, visit: &mut dyn FnMut(Key)) -> anyhow::Result<()> {
        shard::read(self.folder, &self.packed.files, |row| {
            if row.kind == LIKE {
                visit(row.key());
            }
            Ok(())
        })
    }
}

/// Where a temporal split of these shards cuts.
pub(super) fn temporal(folder: &Path, packed: &Packed) -> anyhow::Result<Temporal> {
    let likes = packed.likes;
    // Without overflow for any number of likes.
    let place = |tenths: u64| (u128::from(likes) * u128::from(tenths) / 10) as u64;
    let shards = Shards { folder, packed };
    let [validation, test] = select(
        &shards,
        [place(8), place(9)],
        likes,
        &packed.likes_by_time,
        FEW,
    )
    .context("find where to split")?;
    Ok(Temporal {
        validation: validation.map(Key::parts),
        test: test.map(Key::parts),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keys for Vec<Key> {
        fn pass(&self, visit: &mut dyn FnMut(Key)) -> anyhow::Result<()> {
            self.iter().copied().for_each(visit);
            Ok(())
        }
    }

    fn mix(n: u64) -> u64 {
        let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ n >> 31
    }

    #[test]
    fn places_are_those_of_a_sort() {
        // Times far apart, close together, and all the same; users the same as well.
        for (spread, users) in [
            (1 << 51, 1_000),
            (1 << 33, 7),
            (1_000, 50),
            (1, 1_000),
            (1, 1),
        ] {
            for few in [0, 3, 100, FEW] {
                let keys: Vec<Key> = (0..1_000)
                    .map(|n| {
                        let at = 1_000_000 + mix(n) % spread;
                        Key::new(at as i64, (mix(n + 5_000) % users) as u32, n as u32)
                    })
                    .collect();
                let mut first = vec![0; FIRST_BUCKETS];
                for key in &keys {
                    first[key.first_bucket()] += 1;
                }
                let mut sorted = keys.clone();
                sorted.sort();
                for places in [[0, 999], [800, 900], [1, 1]] {
                    // With 0 as few, a search would go on past the last bit.
                    let few = few.max(1);
                    let found = select(&keys, places, 1_000, &first, few).unwrap();
                    let expected = places.map(|place| Some(sorted[place as usize]));
                    assert_eq!(found, expected, "{spread} {users} {few}");
                }
            }
        }
        let nothing = select(&Vec::new(), [0, 0], 0, &[], FEW).unwrap();
        assert_eq!(nothing, [None; 2]);
    }
}
