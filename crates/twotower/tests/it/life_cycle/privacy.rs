//! A model's files reveal nothing about an individual user.

use super::place::{Place, USERS};
use crate::serve::fixture::{VIDEOS, user, video};
use crate::support::python;
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::process::Command;
use twotower_core::feature::Video;
use twotower_store::{InteractionKind, InteractionRow};

#[test]
fn no_file_of_a_model_names_a_user_or_has_an_axis_of_users() {
    let place = Place::on_sqlite();
    place.like_more();
    let trained = place.json("train --epochs 1 --batch-size 64 --embedding-dim 8");
    let folder = place
        .folder
        .path()
        .join(trained["train"]["path"].as_str().unwrap());
    let files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 9);
    let spellings: HashSet<Vec<u8>> = (0..USERS)
        .flat_map(|n| {
            let id = user(n);
            let (text, digits) = (id.to_string(), id.simple().to_string());
            let texts = [text.to_uppercase(), text, digits].map(String::into_bytes);
            let bytes = [*id.as_bytes(), id.to_bytes_le()].map(Vec::from);
            texts.into_iter().chain(bytes)
        })
        .collect();
    let lengths: BTreeSet<usize> = spellings.iter().map(Vec::len).collect();
    for path in &files {
        let bytes = fs::read(path).unwrap();
        for &length in &lengths {
            let user = bytes
                .windows(length)
                .find(|window| spellings.contains(*window));
            assert_eq!(user, None, "{} holds a user's id", path.display());
        }
    }

    for name in [
        "weights.safetensors",
        "user_tower.safetensors",
        "optimizer.safetensors",
    ] {
        let bytes = fs::read(folder.join(name)).unwrap();
        let (length, rest) = bytes.split_first_chunk().unwrap();
        let header: Value =
            serde_json::from_slice(&rest[..u64::from_le_bytes(*length) as usize]).unwrap();
        for (tensor, about) in header.as_object().unwrap() {
            for axis in about["shape"].as_array().into_iter().flatten() {
                assert!(
                    axis.as_u64().unwrap() != USERS as u64,
                    "{name}: {tensor}: {about}"
                );
            }
        }
    }
    let axes = "import onnx, sys
for name in sys.argv[2:]:
    graph = onnx.load(name).graph
    for tensor in graph.initializer:
        assert int(sys.argv[1]) not in tensor.dims, (name, tensor.name, tensor.dims)";
    let towers = ["user_tower.onnx", "item_tower.onnx"].map(|name| folder.join(name));
    let checked = Command::new(python())
        .args(["-c", axes, &USERS.to_string()])
        .args(towers)
        .output()
        .unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );

    let card = fs::read_to_string(folder.join("model_card.md")).unwrap();
    for line in [
        "# Model 1",
        "| likes, skips | 1500, 0 |",
        "| users, videos | 300, 40 |",
        "| period | 2023-11-14 22:13 UTC to 2024-01-03 21:13 UTC |",
        "40 videos and 13 genres, makers, tags and performers",
        "| all | ",
        "| 1 to 4 likes | ",
        "## Limits",
    ] {
        assert!(card.contains(line), "no `{line}` in\n{card}");
    }
}

/// Three videos with a tag of their own.
fn liked_by_two(place: &Place) {
    let added = (1..=3).map(|n| Video {
        id: video(VIDEOS + n),
        title: format!("New {n}"),
        tags: vec!["of two".into()],
        ..Video::default()
    });
    let added: Vec<_> = added.collect();
    let likes = [1, 2].into_iter().flat_map(|n| {
        let of_user = added.iter().map(move |video| InteractionRow {
            user: user(n),
            video: video.id,
            at_us: 1_700_000_000_000_000,
        });
        of_user.collect::<Vec<_>>()
    });
    let likes: Vec<_> = likes.collect();
    place.runtime.block_on(async {
        place.store.write_videos(&added).await.unwrap();
        let written = place
            .store
            .write_interactions(InteractionKind::Like, &likes);
        written.await.unwrap();
    });
}

/// A video that two users have liked gets no weights of its own, and neither does a feature that
/// only they like.
#[test]
fn what_few_have_liked_leaves_no_row() {
    let place = Place::on_sqlite();
    place.like_more();
    liked_by_two(&place);
    let train = |min_users: &str| {
        let allow = "[training]\nallow_few_users = true";
        place.configure(&format!("{allow}\n[hyperparameters]\n{min_users}"));
        let trained = place.json("train --epochs 1 --batch-size 64 --embedding-dim 8");
        let path = place
            .folder
            .path()
            .join(trained["train"]["path"].as_str().unwrap());
        let text = fs::read_to_string(path.join("preprocessing.json")).unwrap();
        let known: Value = serde_json::from_str(&text).unwrap();
        let terms = ["genres", "makers", "tags", "performers"]
            .map(|field| known[field].as_array().unwrap().len());
        (
            known["videos"].as_array().unwrap().len(),
            terms.iter().sum::<usize>(),
        )
    };
    assert_eq!(train("min_users = 2"), (43, 14));
    assert_eq!(train(""), (40, 13));
    assert_eq!(train("min_users = 1000"), (0, 0));
}
