//! Gowalla from `../shared/data`, as split by the authors of `LightGCN`.

use crate::public_data::{Cut, folder};
use std::error::Error;
use twotower_core::feature::{Catalogue, Video};
use twotower_core::interaction::{Dataset, Interaction};
use twotower_core::split::{Phase, Split};
use uuid::Uuid;

/// Time from the start to the end of a line of Gowalla.
const LINE: u32 = 1 << 16;

/// The training part of [`official`], split again: the latest ninth of each user's likes, at least
/// one, is validation. The test part is later still, and a validation part drawn from anywhere in
/// the line says nothing about it.
pub(crate) fn latest() -> Result<Cut, Box<dyn Error + Send + Sync>> {
    let Cut { dataset, split } = official()?;
    let seen = split.seen(Phase::Test);
    let mut of_user = vec![0usize; dataset.users];
    for like in &seen {
        of_user[like.user as usize] += 1;
    }
    let mut left = of_user.clone();
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for like in seen {
        let user = like.user as usize;
        let latest = left[user] <= (of_user[user] / 9).max(1);
        left[user] -= 1;
        if latest { &mut validation } else { &mut train }.push(like);
    }
    let split = Split::from_parts(dataset.users, train, validation, split.test);
    Ok(Cut { dataset, split })
}

/// Gowalla as split by the authors of `LightGCN`: train and validation files together are their
/// training part. It has no features and no times, but the lines of the training file are in the
/// order of visits: two adjacent places of one line are adjacent in another line five times as
/// often as random places. That order becomes the time here. The validation file has lost its
/// order; its places are spread evenly along the user's line.
pub(crate) fn official() -> Result<Cut, Box<dyn Error + Send + Sync>> {
    let folder = folder().join("gowalla");
    let read = |name: &str| -> Result<Vec<Interaction>, Box<dyn Error + Send + Sync>> {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let mut rows = Vec::new();
        for line in text.lines() {
            let numbers: Vec<u32> = line
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()?;
            let Some((&user, items)) = numbers.split_first() else {
                continue;
            };
            for (position, &item) in (0u32..).zip(items) {
                let at = (2 * position + 1) * LINE / (2 * items.len() as u32);
                rows.push(Interaction { user, item, at });
            }
        }
        rows.sort_by_key(|row| (row.at, row.user, row.item));
        Ok(rows)
    };
    let (train, validation, mut test) = (read("train.txt")?, read("valid.txt")?, read("test.txt")?);
    for row in &mut test {
        row.at += LINE;
    }
    let mut likes: Vec<Interaction> = [&train, &validation, &test]
        .into_iter()
        .flatten()
        .copied()
        .collect();
    likes.sort_by_key(|row| (row.at, row.user, row.item));
    let users = likes.iter().map(|row| row.user + 1).max().unwrap_or(0) as usize;
    let items = likes.iter().map(|row| row.item + 1).max().unwrap_or(0);
    let videos = (0..items).map(|item| Video {
        id: Uuid::from_u128(u128::from(item)),
        ..Video::default()
    });
    let dataset = Dataset {
        catalogue: Catalogue::new(videos)?,
        users,
        likes,
        skips: Vec::new(),
    };
    let split = Split::from_parts(users, train, validation, test);
    Ok(Cut { dataset, split })
}
