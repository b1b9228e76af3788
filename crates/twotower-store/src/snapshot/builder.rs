use super::{Snapshot, SnapshotOptions};
use crate::erasure::Tombstones;
use crate::{InteractionKind, StoreError};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use twotower_core::feature::Catalogue;
use twotower_core::interaction::{Dataset, Interaction};
use twotower_core::time::{DAY_US, SECOND_US};
use uuid::Uuid;

/// In place of the number of an erased user.
const ERASED: u32 = u32::MAX;

/// 16 bytes per row. The order of the fields is the order of a snapshot, once users are ranked by
/// id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    at_us: i64,
    user: u32,
    item: u32,
}

/// Builds a [`Snapshot`] from database rows in any order.
///
/// Rows are sorted here rather than in SQL: 16-byte rows sort in memory several times faster than
/// either engine sorts on disk, and both engines get the same order whatever their collation.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder {
    catalogue: Catalogue,
    positions: HashMap<Uuid, u32>,
    users: HashMap<Uuid, u32>,
    likes: Vec<Row>,
    skips: Vec<Row>,
    orphans: u64,
    tombstones: Tombstones,
}

impl SnapshotBuilder {
    /// `orphans` is the number of names in the catalogue's source that belong to none of its
    /// videos.
    pub(crate) fn new(catalogue: Catalogue, orphans: u64) -> Self {
        Self {
            positions: (0..catalogue.len())
                .map(|position| (catalogue.id(position), position as u32))
                .collect(),
            catalogue,
            users: HashMap::new(),
            likes: Vec::new(),
            skips: Vec::new(),
            orphans,
            tombstones: Tombstones::default(),
        }
    }

    /// Leaves out erased users, from the next row on.
    pub(crate) fn leave_out(&mut self, tombstones: Tombstones) {
        self.tombstones = tombstones;
    }

    /// Adds one like or skip.
    pub(crate) fn push(
        &mut self,
        kind: InteractionKind,
        user: Uuid,
        video: Uuid,
        at_us: i64,
    ) -> Result<(), StoreError> {
        check_time(kind, at_us)?;
        let Some(&item) = self.positions.get(&video) else {
            self.orphans += 1;
            return Ok(());
        };
        let next = self.users.len() as u32;
        // One hash per user, and none without erasures.
        let user = match self.users.entry(user) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) if self.tombstones.cover(user) => *new.insert(ERASED),
            Entry::Vacant(new) => *new.insert(next),
        };
        if user == ERASED {
            return Ok(());
        }
        let rows = match kind {
            InteractionKind::Like => &mut self.likes,
            InteractionKind::Skip => &mut self.skips,
        };
        rows.push(Row { at_us, user, item });
        Ok(())
    }

    /// Ages are relative to the latest row that is not after `now_us`, so that a future date does
    /// not make other rows old.
    pub(crate) fn finish(self, options: SnapshotOptions, now_us: i64) -> Snapshot {
        let (ids, ranks) = rank(self.users);
        let [mut likes, mut skips] =
            [self.likes, self.skips].map(|rows| ordered_pairs(rows, &ranks));
        let latest_of = |rows: &[Row]| rows.last().map(|row| row.at_us);
        let latest = latest_of(&likes).max(latest_of(&skips));
        let come = |rows: &[Row]| {
            let come = rows.partition_point(|row| row.at_us <= now_us);
            latest_of(&rows[..come])
        };
        let clock = come(&likes).max(come(&skips));
        if let (Some(clock), Some(days)) = (clock, options.max_age_days) {
            let oldest = oldest_us(clock, days);
            for rows in [&mut likes, &mut skips] {
                rows.drain(..rows.partition_point(|row| row.at_us < oldest));
            }
        }
        let mut users = Vec::new();
        let mut numbers = vec![u32::MAX; ids.len()];
        let mut numbered = |rows: Vec<Row>| -> Vec<Interaction> {
            each_taken(rows, |row| {
                let number = &mut numbers[row.user as usize];
                if *number == u32::MAX {
                    *number = users.len() as u32;
                    users.push(ids[row.user as usize]);
                }
                Interaction {
                    user: *number,
                    item: row.item,
                    at: (row.at_us / SECOND_US) as u32,
                }
            })
        };
        let (likes, skips) = (numbered(likes), numbered(skips));
        Snapshot {
            dataset: Dataset {
                catalogue: self.catalogue,
                users: users.len(),
                likes,
                skips,
            },
            users,
            // A future date would make fine-tuning from this model treat all rows until then as
            // known.
            cut_off_us: clock.or(latest),
            orphans: self.orphans,
            erasures_seen: self.tombstones.last,
        }
    }
}

/// The time this many days before `clock_us`, microseconds since 1970.
pub(crate) fn oldest_us(clock_us: i64, days: u32) -> i64 {
    clock_us.saturating_sub(i64::from(days).saturating_mul(DAY_US))
}

/// Refuses times that do not fit 32-bit seconds. Queries of a source leave such rows out.
pub(crate) fn check_time(kind: InteractionKind, at_us: i64) -> Result<(), StoreError> {
    if (0..=i64::from(u32::MAX)).contains(&at_us.div_euclid(SECOND_US)) {
        Ok(())
    } else {
        Err(StoreError::Time {
            table: kind.table(),
            at_us,
        })
    }
}

/// Ids in order, and the rank of each provisional number.
fn rank(users: HashMap<Uuid, u32>) -> (Vec<Uuid>, Vec<u32>) {
    // Numbers were assigned by the size of the map, which includes erased users.
    let mut ranks = vec![0; users.len()];
    let mut users: Vec<(Uuid, u32)> = users.into_iter().collect();
    users.retain(|&(_, number)| number != ERASED);
    users.sort_unstable();
    for (rank, &(_, number)) in (0..).zip(&users) {
        ranks[number as usize] = rank;
    }
    (users.into_iter().map(|(id, _)| id).collect(), ranks)
}

/// Rows in order, with only the earliest of each (user, video).
fn ordered_pairs(mut rows: Vec<Row>, ranks: &[u32]) -> Vec<Row> {
    for row in &mut rows {
        row.user = ranks[row.user as usize];
    }
    rows.sort_unstable_by_key(|row| (row.user, row.item, row.at_us));
    rows.dedup_by_key(|row| (row.user, row.item));
    rows.sort_unstable();
    rows
}

/// `map` of each of `rows`, in order. Frees their memory in parts, so that the peak is little more
/// than the larger of the two.
fn each_taken<A, B>(mut rows: Vec<A>, map: impl FnMut(A) -> B) -> Vec<B> {
    const PARTS: usize = 8;
    let len = rows.len();
    let mut parts = Vec::with_capacity(PARTS);
    for part in (1..PARTS).rev() {
        parts.push(rows.split_off(len * part / PARTS));
        rows.shrink_to_fit();
    }
    parts.push(rows);
    // Reserved but not written, so no memory is used yet.
    let mut mapped = Vec::with_capacity(len);
    mapped.extend(parts.into_iter().rev().flatten().map(map));
    mapped
}

#[cfg(test)]
mod tests {
    use super::*;
    use twotower_core::feature::Video;

    const NOW_US: i64 = 1_000 * DAY_US;

    fn cut_off_us(likes: &[i64], skips: &[i64]) -> Option<i64> {
        let video = |n: u128| Video {
            id: Uuid::from_u128(n),
            ..Video::default()
        };
        let catalogue = Catalogue::new((0..4).map(video)).unwrap();
        let mut builder = SnapshotBuilder::new(catalogue, 0);
        for (kind, times) in [
            (InteractionKind::Like, likes),
            (InteractionKind::Skip, skips),
        ] {
            for (n, &at_us) in (0..).zip(times) {
                let ids = [Uuid::from_u128(9), Uuid::from_u128(n)];
                builder.push(kind, ids[0], ids[1], at_us).unwrap();
            }
        }
        let snapshot = builder.finish(SnapshotOptions::default(), NOW_US);
        snapshot.cut_off_us
    }

    #[test]
    fn a_row_of_the_future_does_not_say_until_when_rows_have_come() {
        let (past, later, future) = (NOW_US - DAY_US, NOW_US - 1, NOW_US + DAY_US);
        assert_eq!(cut_off_us(&[past, future], &[later]), Some(later));
        assert_eq!(cut_off_us(&[later, past], &[future]), Some(later));
        // Rows count even if the clock stands still.
        assert_eq!(cut_off_us(&[future], &[]), Some(future));
        assert_eq!(cut_off_us(&[], &[]), None);
    }

    #[test]
    fn no_number_of_days_is_too_many() {
        assert_eq!(oldest_us(NOW_US, 1_000), 0);
        for days in [106_751_992, 999_999_999, u32::MAX] {
            assert!(oldest_us(NOW_US, days) < 0, "{days}");
        }
    }
}
