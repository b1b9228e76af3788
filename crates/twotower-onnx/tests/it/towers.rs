//! Every ONNX graph against our own runtime, computed by onnxruntime.

use crate::cases::{Cases, ItemRow, UserRow, embed_items, embed_user, item_rows};
use crate::python::{check_onnx, complaint_of_check_onnx};
use crate::random::{self, Random};
use serde_json::json;
use std::path::Path;
use twotower_core::feature::{Catalogue, NUMERIC_FEATURES, Video, VideoRef};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;
use twotower_onnx::{OnnxError, item_tower, user_tower};

/// The default model, but for a smaller table.
fn default_model(random: &mut Random) -> (Catalogue, Model) {
    let catalogue = random::catalogue(random, 1000);
    let hyperparameters = Hyperparameters {
        ngram_buckets: 512,
        ..Hyperparameters::default()
    };
    let model = random::model(random, &catalogue, hyperparameters);
    assert!(model.preprocessing.tags.iter().any(|tag| tag == "字幕"));
    (catalogue, model)
}

/// Without a single term, and with the two decays at which powers go wrong.
fn model_without_terms(random: &mut Random) -> (Catalogue, Model) {
    let catalogue = random::catalogue(random, 1000);
    let hyperparameters = Hyperparameters {
        embedding_dim: 16,
        user_hidden: 32,
        item_hidden: 8,
        decays: vec![1.0, 0.0],
        skip_decay: 0.0,
        min_term_videos: usize::MAX,
        ngram_buckets: 0,
        ..Hyperparameters::default()
    };
    let model = random::model(random, &catalogue, hyperparameters);
    assert_eq!(model.item_tower.term_table.rows(), 0);
    (catalogue, model)
}

fn item_cases(
    cases: &mut Cases,
    graph: &str,
    model: &Model,
    catalogue: &Catalogue,
    random: &mut Random,
) {
    let tower = &model.item_tower;
    let term_rows = tower.term_table.rows();
    let mut random_row = |terms: usize| -> ItemRow {
        let terms = if term_rows == 0 { 0 } else { terms };
        (
            random.below(tower.id_table.rows()) as u32,
            (0..terms)
                .map(|_| (random.below(term_rows) as u32, 0.3 * random.symmetric()))
                .collect(),
            (0..NUMERIC_FEATURES)
                .map(|_| 5.0 * random.symmetric())
                .collect(),
        )
    };
    for n in [1, 1000] {
        let features = model.preprocessing.features(catalogue.videos().take(n));
        let expected = tower.embed_all(&features);
        cases.item(
            graph,
            &format!("{n} real"),
            &item_rows(&features),
            &expected,
        );
        for terms in [0, 1, 40] {
            let rows: Vec<ItemRow> = (0..n)
                .map(|row| random_row(terms.min(terms / 2 + row)))
                .collect();
            let name = format!("{n} random, {terms} terms");
            cases.item(graph, &name, &rows, &embed_items(tower, &rows));
        }
    }
}

/// Draws the number of likes and of skips.
type Lengths = fn(&mut Random) -> (usize, usize);

fn user_cases(cases: &mut Cases, graph: &str, model: &Model, random: &mut Random) {
    let dim = model.user_tower.dim();
    let vectors =
        |random: &mut Random, n: usize| (0..n).map(|_| random.unit_vector(dim)).collect::<Vec<_>>();
    let kinds: [(&str, usize, Lengths); 8] = [
        ("nothing, no axis", 0, |_| (0, 0)),
        ("nothing but padding", 4, |_| (0, 0)),
        ("likes only", 0, |random| (1 + random.below(20), 0)),
        ("skips only", 0, |random| (0, 1 + random.below(20))),
        ("one like", 0, |_| (1, 0)),
        ("one like among padding", 9, |_| (1, 0)),
        ("200 likes", 0, |_| (200, 3)),
        ("anything", 0, |random| (random.below(60), random.below(60))),
    ];
    for n in [1, 1000] {
        for (name, width, lengths) in kinds {
            let rows: Vec<UserRow> = (0..n)
                .map(|_| {
                    let (likes, skips) = lengths(random);
                    UserRow {
                        likes: vectors(random, likes),
                        skips: vectors(random, skips),
                    }
                })
                .collect();
            let name = format!("{n} users, {name}");
            cases.user((graph, &model.user_tower), &name, &rows, width, random);
        }
    }
}

/// A model's folder as the store writes it.
fn save(folder: &Path, model: &Model) {
    let preprocessing = serde_json::to_value(&model.preprocessing).unwrap();
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(folder.join(name), bytes).unwrap();
    write(
        "preprocessing.json",
        serde_json::to_vec(&preprocessing).unwrap(),
    );
    write(
        "preprocessing.pkl",
        serde_pickle::to_vec(&preprocessing, serde_pickle::SerOptions::new()).unwrap(),
    );
    write("weights.safetensors", model.to_safetensors().unwrap());
    write("item_tower.onnx", item_tower(model, &[]).unwrap());
    write("user_tower.onnx", user_tower(model, &[]).unwrap());
}

#[test]
fn onnxruntime_agrees_with_our_runtime() {
    let mut random = Random(1);
    let folder = tempfile::tempdir().unwrap();
    let mut cases = Cases::new(folder.path());
    for (name, (catalogue, model)) in [
        ("default", default_model(&mut random)),
        ("termless", model_without_terms(&mut random)),
    ] {
        let (item, user) = (format!("{name}_item.onnx"), format!("{name}_user.onnx"));
        std::fs::write(folder.path().join(&item), item_tower(&model, &[]).unwrap()).unwrap();
        std::fs::write(folder.path().join(&user), user_tower(&model, &[]).unwrap()).unwrap();
        item_cases(&mut cases, &item, &model, &catalogue, &mut random);
        user_cases(&mut cases, &user, &model, &mut random);
    }
    cases.finish();
    let printed = check_onnx([Path::new("--cases"), folder.path()]);
    assert!(printed.contains("48 cases"), "{printed}");
}

#[test]
fn a_saved_model_agrees_with_its_weights() {
    let mut random = Random(2);
    for (_, model) in [default_model(&mut random), model_without_terms(&mut random)] {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &model);
        let printed = check_onnx([folder.path()]);
        assert_eq!(printed.lines().count(), 11, "{printed}");
    }
}

#[test]
fn a_saved_model_that_was_changed_is_noticed() {
    let (_, model) = model_without_terms(&mut Random(6));
    let folder = tempfile::tempdir().unwrap();
    let changed = |file: &str, bytes: Vec<u8>| {
        save(folder.path(), &model);
        std::fs::write(folder.path().join(file), bytes).unwrap();
        complaint_of_check_onnx([folder.path()])
    };
    let complaint = changed("preprocessing.pkl", b"cos\ngetpid\n(tR.".to_vec());
    assert!(
        complaint.contains("the pickle asks for os.getpid"),
        "{complaint}"
    );
    let complaint = changed("preprocessing.json", b"{}".to_vec());
    assert!(complaint.contains("differ"), "{complaint}");
    let mut other = model.clone();
    other.user_tower.head.residual.row_mut(0)[0] += 0.01;
    let complaint = changed("weights.safetensors", other.to_safetensors().unwrap());
    assert!(
        complaint.contains("user_tower") && complaint.contains("deviates by"),
        "{complaint}"
    );
    let complaint = changed(
        "item_tower.onnx",
        item_tower(&model, &[]).unwrap()[..5000].to_vec(),
    );
    assert!(
        complaint.contains("item_tower") || complaint.contains("parse"),
        "{complaint}"
    );
}

#[test]
fn the_guide_shows_what_works() {
    let mut random = Random(3);
    let (catalogue, model) = default_model(&mut random);
    let (folder, cases) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    save(folder.path(), &model);
    let write =
        |name: &str, bytes: Vec<u8>| std::fs::write(cases.path().join(name), bytes).unwrap();
    let bytes = |data: &[f32]| {
        data.iter()
            .flat_map(|x| x.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let videos: Vec<Video> = catalogue.videos().map(VideoRef::to_video).collect();
    let vectors = model.embed_videos(&videos).unwrap();
    write("videos.json", serde_json::to_vec(&videos).unwrap());
    write("videos.f32", bytes(vectors.as_slice()));
    let rows = |items: &[usize]| {
        items
            .iter()
            .map(|&item| vectors.row(item).to_vec())
            .collect()
    };
    let (liked, skipped) = ([5, 900, 17], [3, 4]);
    let user = UserRow {
        likes: rows(&liked),
        skips: rows(&skipped),
    };
    let user = embed_user(&model.user_tower, &user);
    write(
        "user.json",
        json!({"liked": liked, "skipped": skipped})
            .to_string()
            .into(),
    );
    write("user.f32", bytes(&user));
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/model-files.md");
    let printed = check_onnx([Path::new("--guide"), &guide, folder.path(), cases.path()]);
    assert_eq!(printed.lines().count(), 3, "{printed}");
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let (_, model) = default_model(&mut Random(4));
    for tower in [item_tower, user_tower] {
        let metadata = [("model_version", "17")];
        let bytes = tower(&model, &metadata).unwrap();
        assert_eq!(bytes, tower(&model, &metadata).unwrap());
        assert!(bytes.windows(13).any(|window| window == b"model_version"));
    }
}

#[test]
fn a_model_that_makes_no_sense_is_refused() {
    let (_, model) = model_without_terms(&mut Random(5));
    let mut growing = model.clone();
    growing.user_tower.skip_decay = 1.5;
    assert_eq!(
        user_tower(&growing, &[]),
        Err(OnnxError::Decay {
            position: 2,
            value: "1.5".into()
        })
    );
    let mut short = model.clone();
    short.item_tower.head.output.bias.pop();
    assert_eq!(
        item_tower(&short, &[]),
        Err(OnnxError::Shape {
            tensor: "item_tower.output.bias".into(),
            expected: vec![16],
            found: vec![15],
        })
    );
    assert_eq!(
        item_tower(&model, &[("tower", "mine")]),
        Err(OnnxError::DuplicateMetadata {
            key: "tower".into()
        })
    );
}
