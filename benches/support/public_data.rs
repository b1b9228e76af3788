//! `MovieLens` from `../shared/data`, split by the protocol.

use std::error::Error;
use std::path::{Path, PathBuf};
use twotower_core::feature::{Catalogue, Video};
use twotower_core::interaction::{Dataset, Interaction};
use twotower_core::split::{Split, SplitKind};
use uuid::Uuid;

/// A data set and its parts.
pub(crate) struct Cut {
    /// The whole data set.
    pub(crate) dataset: Dataset,
    /// Training, validation and test.
    pub(crate) split: Split,
}

/// Folder of the data beside the checkout.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data")
}

/// `MovieLens`-100K: likes are ratings of 4 and 5, skips of 1 and 2; leave-last-out.
pub(crate) fn movielens() -> Result<Cut, Box<dyn Error + Send + Sync>> {
    let folder = folder().join("movielens-100k");
    let latin1 = |name: &str| -> Result<String, Box<dyn Error + Send + Sync>> {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(bytes.into_iter().map(char::from).collect())
    };
    let genres = latin1("u.genre")?;
    let genres: Vec<&str> = genres
        .lines()
        .filter_map(|line| line.split('|').next())
        .filter(|name| !name.is_empty())
        .collect();
    let mut videos = Vec::new();
    for line in latin1("u.item")?.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let mut tags: Vec<String> = genres
            .iter()
            .zip(&fields[5..])
            .filter(|(name, flag)| **flag == "1" && **name != "unknown")
            .map(|(name, _)| (*name).to_owned())
            .collect();
        let genre = tags.first().cloned();
        tags.sort();
        videos.push(Video {
            id: Uuid::from_u128(fields[0].parse()?),
            title: fields[1].to_owned(),
            genre,
            tags,
            published_at_us: year(fields[2]).map(|year| (year - 1970) * 31_556_952_000_000),
            ..Video::default()
        });
    }
    let (mut likes, mut skips) = (Vec::new(), Vec::new());
    for line in latin1("u.data")?.lines() {
        let fields: Vec<u32> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let row = Interaction {
            user: fields[0] - 1,
            item: fields[1] - 1,
            at: fields[3],
        };
        match fields[2] {
            4.. => likes.push(row),
            ..=2 => skips.push(row),
            _ => {}
        }
    }
    for rows in [&mut likes, &mut skips] {
        rows.sort_by_key(|row| (row.at, row.user, row.item));
    }
    let dataset = Dataset {
        catalogue: Catalogue::new(videos)?,
        users: 943,
        likes,
        skips,
    };
    let split = Split::new(&dataset, SplitKind::Llo);
    Ok(Cut { dataset, split })
}

/// The year at the end of `01-Jan-1995`.
fn year(date: &str) -> Option<i64> {
    date.rsplit('-').next()?.parse().ok()
}
