//! `embed` gives what the model itself gives, to the bit.

use crate::support::{
    Random, assert_same, bytes, fail, read, sha256, succeed, text, write_interactions, write_model,
    write_videos,
};
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Float32Type;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use twotower_core::external::id;
use twotower_core::feature::{Catalogue, Video};
use twotower_core::interaction::History;
use twotower_core::model::TwoTower;
use uuid::Uuid;

const DIM: usize = 8;
const BEGIN_US: i64 = 1_700_000_000_000_000;

fn videos(count: i64) -> Vec<Video> {
    (0..count)
        .map(|n| Video {
            id: id::from_integer(7 * n).unwrap(),
            title: format!("title {}", n % 13),
            maker: (n % 3 > 0).then(|| format!("maker {}", n % 5)),
            price: (n % 2 == 0).then_some(n as f32),
            tags: (0..n % 4).map(|tag| format!("tag {tag}")).collect(),
            ..Video::default()
        })
        .collect()
}

fn vectors(folder: &Path, kind: &str) -> BTreeMap<Uuid, Vec<f32>> {
    let manifest = manifest(folder);
    let mut vectors = BTreeMap::new();
    let files = manifest[kind]["files"].as_array().unwrap();
    for file in files {
        let path = folder.join(file["name"].as_str().unwrap());
        assert_eq!(file["sha256"], sha256(&fs::read(&path).unwrap()));
        for batch in read(&path) {
            let ids = batch.column(0).as_fixed_size_binary();
            let lists = batch.column(1).as_list::<i32>();
            for row in 0..batch.num_rows() {
                let vector = lists
                    .value(row)
                    .as_primitive::<Float32Type>()
                    .values()
                    .to_vec();
                vectors.insert(Uuid::from_slice(ids.value(row)).unwrap(), vector);
            }
        }
    }
    assert_eq!(manifest[kind]["rows"], vectors.len());
    vectors
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("vectors.json")).unwrap()).unwrap()
}

#[test]
fn vectors_are_those_of_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // A last tile of two, and batches of any size.
    let all = videos(64 * 5 + 2);
    let model = write_model(&path("models/7"), &all[..200], DIM);
    write_videos(&path("in/videos/a.parquet"), &all[150..]);
    write_videos(&path("in/videos/b.parquet"), &all[..150]);
    let mut random = Random(5);
    let mut rows = |count: u64| -> Vec<(i64, i64, i64)> {
        (0..count)
            .map(|_| {
                // One row in eight is of a video that is not there; moments collide.
                let video = 7 * random.below(350) as i64;
                (
                    random.below(60) as i64,
                    video,
                    BEGIN_US + random.below(50) as i64,
                )
            })
            .collect()
    };
    let (likes, mut skips) = (rows(2_000), rows(500));
    // Users who only skipped, and one none of whose videos is known.
    skips.extend([(100, 7, BEGIN_US), (101, 1, BEGIN_US)]);
    write_interactions(&path("in/likes/0.parquet"), &likes[..900]);
    write_interactions(&path("in/likes/1.parquet"), &likes[900..]);
    write_interactions(&path("in/skips/0.parquet"), &skips);

    let (models, from, to) = (path("models"), path("in"), path("vectors"));
    let arguments = [
        "embed",
        "--model",
        text(&models),
        "--from",
        text(&from),
        "--users",
    ];
    succeed(&[&arguments[..], &["--to", text(&to), "--threads", "3"]].concat());

    let catalogue = Catalogue::new(all).unwrap();
    let expected = model.embed_videos(catalogue.videos()).unwrap();
    let found = vectors(&to, "videos");
    assert_eq!(found.len(), catalogue.len());
    for (row, (video, vector)) in catalogue.videos().zip(found.values()).enumerate() {
        assert_eq!(vector, expected.row(row), "{}", video.id);
    }

    let towers = TwoTower {
        user_tower: &model.user_tower,
        videos: &expected,
    };
    let history = |rows: &[(i64, i64, i64)], user: i64| -> Vec<u32> {
        let known = rows.iter().filter(|row| row.0 == user).filter_map(|row| {
            let video = catalogue.position(id::from_integer(row.1)?)?;
            Some((row.2, video))
        });
        let mut known: Vec<(i64, u32)> = known.collect();
        known.sort_unstable();
        let mut seen = HashSet::new();
        known.retain(|row| seen.insert(row.1));
        known.into_iter().map(|row| row.1).collect()
    };
    let found = vectors(&to, "users");
    let users: Vec<i64> = (0..60).chain([100]).collect();
    assert_eq!(found.len(), users.len());
    for user in users {
        let (likes, skips) = (history(&likes, user), history(&skips, user));
        let history = History {
            likes: &likes,
            skips: &skips,
        };
        let expected = towers.embed_user(history).unwrap();
        assert_eq!(
            found[&id::from_integer(user).unwrap()],
            expected,
            "user {user}"
        );
    }

    let found = manifest(&to);
    assert_eq!(
        (&found["format"], &found["model_version"], &found["dim"]),
        (&1.into(), &7.into(), &DIM.into())
    );
    let of_model = sha256(&fs::read(path("models/7/manifest.json")).unwrap());
    assert_eq!(found["manifest_sha256"], of_model);

    let again = path("again");
    succeed(&[&arguments[..], &["--to", text(&again), "--threads", "1"]].concat());
    assert_same(&to, &again);
    assert_eq!(bytes(&to).len(), 3);
}

#[test]
fn a_damaged_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let all = videos(10);
    write_model(&path("models/7"), &all, DIM);
    write_videos(&path("videos.parquet"), &all);
    write_interactions(&path("likes.parquet"), &[(1, 7, BEGIN_US)]);
    let (model, from, to) = (path("models/7"), path(""), path("vectors"));
    let embed = || {
        let arguments = [
            "embed",
            "--model",
            text(&model),
            "--from",
            text(&from),
            "--to",
            text(&to),
        ];
        let error = fail(&arguments);
        assert!(!to.exists());
        error
    };
    for (name, message) in [
        ("weights.safetensors", "SHA-256"),
        ("preprocessing.json", "SHA-256"),
        ("manifest.json", "checksum"),
    ] {
        let file = model.join(name);
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&file, bad).unwrap();
        let error = embed();
        assert!(error.contains(name) && error.contains(message), "{error}");
        fs::write(&file, good).unwrap();
    }
    fs::remove_file(model.join("manifest.json")).unwrap();
    assert!(embed().contains("holds no model"));
}
