//! A model's files reveal nothing about an individual user.

use super::place::{Place, USERS};
use crate::serve::fixture::user;
use crate::support::python;
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::process::Command;

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

/// A video that two users have liked gets no weights of its own, and neither does a feature that
/// only they like.
#[test]
fn what_few_have_liked_leaves_no_row() {
    let place = Place::on_sqlite();
    place.like_more();
    let few = place.json("train --epochs 1 --batch-size 64 --embedding-dim 8");
    place.configure("[hyperparameters]\nmin_users = 1000");
    let none = place.json("train --epochs 1 --batch-size 64 --embedding-dim 8");
    let videos = |trained: &Value| {
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
    assert_eq!((videos(&few), videos(&none)), ((40, 13), (0, 0)));
}
