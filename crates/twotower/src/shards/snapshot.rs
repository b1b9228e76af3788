//! Shards as a snapshot in memory, for commands that need the times of likes: training needs only
//! their order.

use super::catalogue;
use super::manifest::{Key, Manifest};
use super::rows::{Row, check_counts, each_user};
use std::path::Path;
use twotower_core::interaction::{Dataset, Interaction};
use twotower_core::time::SECOND_US;

/// Not the number of any user: a manifest has at most this many.
const NOBODY: u32 = u32::MAX;

/// A snapshot equal to that of a database with the rows of `folder`, and the SHA-256 of the
/// folder's manifest. Takes 28 bytes per like or skip while it is read, and 12 afterwards.
///
/// # Errors
/// As [`super::Shards::open`].
pub(crate) fn snapshot(folder: &Path) -> anyhow::Result<(Dataset, String)> {
    let (manifest, sha256) = Manifest::read(folder)?;
    let catalogue = catalogue(folder, &manifest)?;
    check_counts(folder, &manifest)?;
    let (mut likes, mut skips): (Vec<Key>, Vec<Key>) = (Vec::new(), Vec::new());
    likes.reserve_exact(manifest.likes as usize);
    skips.reserve_exact(manifest.skips as usize);
    each_user(folder, &manifest, |rows| {
        let key = |row: &Row| (row.at_us, rows.user, row.video);
        likes.extend(rows.likes.iter().map(key));
        skips.extend(rows.skips.iter().map(key));
        Ok(())
    })?;
    // Users are numbered by their first like; those without a like follow, by their first skip.
    let mut numbers = vec![NOBODY; manifest.users as usize];
    let mut users = 0;
    let mut in_order = |mut keys: Vec<Key>| -> Vec<Interaction> {
        keys.sort_unstable();
        let row = |(at_us, place, item): Key| {
            let number = &mut numbers[place as usize];
            if *number == NOBODY {
                *number = users;
                users += 1;
            }
            Interaction {
                user: *number,
                item,
                at: (at_us / SECOND_US) as u32,
            }
        };
        keys.into_iter().map(row).collect()
    };
    let (likes, skips) = (in_order(likes), in_order(skips));
    Ok((
        Dataset {
            catalogue,
            users: manifest.users as usize,
            likes,
            skips,
        },
        sha256,
    ))
}
