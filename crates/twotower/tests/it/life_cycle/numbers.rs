//! Version numbers: a training takes a free one, and vectors of two models with one number are
//! never mixed.

use super::place::{Place, whole};
use super::vectors::Folder;
use crate::serve::fixture::{model, save_model};
use std::path::PathBuf;
use twotower_store::{EmbeddingRow, ModelState, VectorTable};

/// Replaces version 1 by another model; returns where the original is.
fn swap(place: &Place) -> PathBuf {
    let (folder, aside) = (place.models().join("1"), place.folder.path().join("aside"));
    std::fs::rename(folder, &aside).unwrap();
    save_model(&place.models(), &model(99), 1);
    aside
}

fn swap_back(place: &Place, aside: PathBuf) {
    let folder = place.models().join("1");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::rename(aside, folder).unwrap();
}

/// By each command that writes vectors, and by one that only reads.
fn refused(place: &Place) {
    Folder::new(
        place.folder.path().join("vectors"),
        &place.models().join("1"),
        8,
    );
    let before = place.vectors();
    for line in [
        "update",
        "update --dry-run",
        "update --model-path models/1 --full",
        "load --model models/1 --from vectors",
    ] {
        let said = place.refused(line, 1);
        assert!(
            said.contains("version 1 is registered as another model")
                && said.contains("train anew"),
            "{line}: {said}"
        );
    }
    assert_eq!(place.vectors(), before);
}

#[test]
fn the_active_version_is_not_updated_from_another_models_folder() {
    for place in Place::on_both() {
        place.next_model();
        place.json("update");
        place.like_more();
        let aside = swap(&place);
        refused(&place);
        assert_eq!(place.active(), Some(1));
        swap_back(&place, aside);
        let update = place.json("update");
        assert_eq!(
            (&update["version"], &update["videos"]["changed"]),
            (&1.into(), &0.into())
        );
    }
}

#[test]
fn a_load_that_was_cut_off_is_not_finished_from_another_models_folder() {
    for place in Place::on_both() {
        place.next_model();
        let record = save_model(&place.folder.path().join("elsewhere"), &model(1), 1);
        let half = async {
            place.store.register_model(&record).await.unwrap();
            let rows = [EmbeddingRow {
                id: crate::serve::fixture::video(1),
                fingerprint: 0,
                vector: &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            }];
            let written = place.store.write_embeddings(VectorTable::Videos, 1, &rows);
            written.await.unwrap();
        };
        place.runtime.block_on(half);
        let aside = swap(&place);
        refused(&place);
        let state = place.runtime.block_on(place.store.models()).unwrap();
        assert_eq!(
            (state[0].state, place.active()),
            (ModelState::Loading, None)
        );
        // The error suggests this.
        let two = place.next_model();
        place.json("update");
        assert_eq!(place.active(), Some(two));
        assert!(place.vectors().contains(&whole(two)));
        swap_back(&place, aside);
    }
}

/// As after a restore: the sequence is behind the folders.
#[test]
fn a_training_takes_a_number_above_all_models_that_there_are() {
    for place in Place::on_both() {
        place.like_more();
        for version in [1, 3] {
            place.save(version, &model(1));
        }
        let line = "train --epochs 1 --embedding-dim 8 --batch-size 64 --threads 1";
        let trained = place.json(line);
        assert_eq!(trained["train"]["version"], 4);
        // A version that is registered, with its folder on another machine.
        let elsewhere = place.folder.path().join("elsewhere");
        let record = save_model(&elsewhere, &model(6), 6);
        let registered = place.store.register_model(&record);
        place.runtime.block_on(registered).unwrap();
        assert_eq!(place.json(line)["train"]["version"], 7);
    }
}
