//! Caps on the number of videos of one group, such as a maker or a performer, in a list.

use std::fmt;

/// An upper bound on the number of videos of one group in a list.
#[derive(Clone, Copy)]
pub struct Cap<'a> {
    /// At most this many videos of a group.
    pub most: usize,
    /// Groups that a video belongs to.
    pub groups: &'a (dyn Fn(u32) -> &'a [u32] + Sync),
}

impl fmt::Debug for Cap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cap")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

/// Number of videos of each group in a list, against its caps. Groups of different caps are counted
/// apart, even if they share numbers.
#[derive(Debug, Clone)]
pub struct CapCounts<'a> {
    caps: &'a [Cap<'a>],
    /// For each cap the groups in the list, ascending, and their numbers of videos.
    counts: Vec<Vec<(u32, usize)>>,
}

impl<'a> CapCounts<'a> {
    /// The counts of an empty list.
    pub fn new(caps: &'a [Cap<'a>]) -> Self {
        Self {
            caps,
            counts: vec![Vec::new(); caps.len()],
        }
    }

    /// Adds a video to the list, whether or not it exceeds a cap. O(groups in the list).
    pub fn add(&mut self, item: u32) {
        for (cap, counts) in self.caps.iter().zip(&mut self.counts) {
            for &group in (cap.groups)(item) {
                match counts.binary_search_by_key(&group, |&(group, _)| group) {
                    Ok(place) => counts[place].1 += 1,
                    Err(place) => counts.insert(place, (group, 1)),
                }
            }
        }
    }

    /// Whether the list exceeds no cap after another video, `item`.
    pub fn has_room(&self, item: u32) -> bool {
        self.all(item, |count, most| count < most)
    }

    /// Whether the list, of which `item` is a part, exceeds no cap on a group of `item`.
    pub fn is_within(&self, item: u32) -> bool {
        self.all(item, |count, most| count <= most)
    }

    /// The groups that have no room left, ascending for each cap.
    pub fn full_groups(&self) -> impl Iterator<Item = u32> {
        let with_counts = self.caps.iter().zip(&self.counts);
        with_counts.flat_map(|(cap, counts)| {
            let full = counts.iter().filter(move |&&(_, count)| count >= cap.most);
            full.map(|&(group, _)| group)
        })
    }

    /// Whether `holds` of the count and the cap of every group of `item`.
    fn all(&self, item: u32, holds: impl Fn(usize, usize) -> bool) -> bool {
        let mut with_counts = self.caps.iter().zip(&self.counts);
        with_counts.all(|(cap, counts)| {
            let count = |group: &u32| {
                let place = counts.binary_search_by_key(group, |&(group, _)| group);
                place.map_or(0, |place| counts[place].1)
            };
            let groups = (cap.groups)(item);
            groups.iter().all(|group| holds(count(group), cap.most))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_different_caps_are_counted_apart() {
        const MAKERS: [&[u32]; 4] = [&[7], &[7], &[8], &[]];
        const PERFORMERS: [&[u32]; 4] = [&[8, 3], &[], &[7], &[3]];
        let (makers, performers) = (
            |item: u32| MAKERS[item as usize],
            |item: u32| PERFORMERS[item as usize],
        );
        let caps = [
            Cap {
                most: 1,
                groups: &makers,
            },
            Cap {
                most: 2,
                groups: &performers,
            },
        ];
        let mut counts = CapCounts::new(&caps);
        counts.add(0);
        let has_room = [0, 1, 2, 3].map(|item| counts.has_room(item));
        assert_eq!(has_room, [false, false, true, true]);
        assert!(counts.is_within(0));
        assert_eq!(counts.full_groups().collect::<Vec<_>>(), [7]);
        for item in [1, 3] {
            counts.add(item);
        }
        assert_eq!(counts.full_groups().collect::<Vec<_>>(), [7, 3]);
        let within = [0, 1, 3].map(|item| counts.is_within(item));
        assert_eq!(within, [false, false, true]);
        assert!(CapCounts::new(&[]).has_room(0));
    }
}
