//! Every byte that differs from the published one is refused, signed or not.

use super::place::{FILES, Place, trusted};
use std::fs;
use std::path::PathBuf;

/// A published model, and its files in storage.
struct Published {
    place: Place,
    files: Vec<(&'static str, PathBuf, Vec<u8>)>,
}

impl Published {
    async fn new() -> Self {
        let place = Place::on_folder();
        for version in [1, 2] {
            place.save(version);
            place.publish(version).await.unwrap();
        }
        let names = FILES
            .into_iter()
            .chain(["manifest.json", "manifest.json.sig"]);
        let files = names
            .map(|name| {
                let path = place.stored(2, name);
                let bytes = fs::read(&path).unwrap();
                (name, path, bytes)
            })
            .collect();
        Self { place, files }
    }

    async fn refused(&self, what: &str) {
        for trusted in [trusted(1), Vec::new()] {
            let signed = !trusted.is_empty();
            // Without trusted keys signatures are not read.
            if !signed && what.starts_with("manifest.json.sig") {
                continue;
            }
            let fetched = self.place.fetch(&trusted).await;
            let error = fetched
                .err()
                .unwrap_or_else(|| panic!("{what}, signed: {signed}: taken"));
            assert!(!error.is_outage(), "{what}: {error}");
        }
        self.place.nothing_fetched();
    }
}

#[tokio::test]
async fn every_flipped_byte_is_refused() {
    let published = Published::new().await;
    let mut random = 0x2545_f491_u64;
    for (name, path, good) in &published.files {
        let all = name.starts_with("manifest");
        let flips: &[u8] = if all { &[0x01, 0x20, 0x80] } else { &[0x01] };
        let positions: Vec<usize> = if all {
            (0..good.len()).collect()
        } else {
            (0..24)
                .map(|_| {
                    // Marsaglia's xorshift; the seed reproduces a failure.
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    (random % good.len() as u64) as usize
                })
                .chain([0, good.len() - 1])
                .collect()
        };
        for position in positions {
            for flip in flips {
                let mut bad = good.clone();
                bad[position] ^= flip;
                fs::write(path, &bad).unwrap();
                published
                    .refused(&format!("{name}, byte {position} ^ {flip:#x}"))
                    .await;
            }
        }
        for bad in [
            &good[..good.len() - 1],
            &[good.as_slice(), b"\n"].concat(),
            b"",
        ] {
            fs::write(path, bad).unwrap();
            published
                .refused(&format!("{name} of {} bytes", bad.len()))
                .await;
        }
        fs::write(path, good).unwrap();
    }
    published.place.fetch(&trusted(1)).await.unwrap();
}

#[tokio::test]
async fn swapped_missing_and_foreign_files_are_refused() {
    let published = Published::new().await;
    for (n, (name, path, good)) in published.files.iter().enumerate() {
        for (other, other_path, other_good) in &published.files[n + 1..] {
            fs::write(path, other_good).unwrap();
            fs::write(other_path, good).unwrap();
            published
                .refused(&format!("{name} swapped with {other}"))
                .await;
            fs::write(other_path, other_good).unwrap();
        }
        let foreign = fs::read(published.place.stored(1, name)).unwrap();
        assert!(foreign != *good, "{name} differs between versions");
        fs::write(path, foreign).unwrap();
        published
            .refused(&format!("{name} of another version"))
            .await;
        fs::remove_file(path).unwrap();
        // Without its manifest the version does not exist, and the previous one is fetched.
        if *name != "manifest.json" {
            published.refused(&format!("{name} missing")).await;
        }
        fs::write(path, good).unwrap();
    }
    // All files of an older version under a newer number: signed, but for another version.
    for (name, path, _) in &published.files {
        fs::copy(published.place.stored(1, name), path).unwrap();
    }
    published.refused("version 1 under number 2").await;
}
