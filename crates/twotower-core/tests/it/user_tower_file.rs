//! `fixtures/user_tower/`: the file of a small tower, and its outputs for a few histories. The
//! implementation for Edge Functions is compared with the same two files.

use serde_json::{Value, json};
use std::path::PathBuf;
use twotower_core::tower::UserTower;

/// If set, the files are written before they are compared.
const REWRITE: &str = "TWOTOWER_WRITE_FIXTURES";

const DIM: usize = 8;
const HIDDEN: usize = 16;

/// Numbers of likes and skips of the histories.
const HISTORIES: [(usize, usize); 6] = [(1, 0), (0, 2), (3, 1), (2, 9), (40, 0), (110, 12)];

fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/user_tower");
    folder.join(name)
}

/// A multiple of 1/64 between -1 and 1, which JSON writes exactly; linear congruential (Knuth's
/// MMIX).
fn number(state: &mut u64) -> f32 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 57) as f32 - 64.0) / 64.0
}

fn tower() -> UserTower {
    let mut tower = UserTower::zeros(vec![0.0, 0.5, 0.8, 0.95, 1.0], 0.9, HIDDEN, DIM);
    let mut state = 1;
    let head = &mut tower.head;
    for weights in [
        head.hidden.weight.as_mut_slice(),
        &mut head.hidden.bias,
        head.output.weight.as_mut_slice(),
        &mut head.output.bias,
        head.residual.as_mut_slice(),
    ] {
        weights.fill_with(|| number(&mut state));
    }
    tower
}

fn histories(tower: &UserTower) -> Value {
    let mut state = 2;
    let histories = HISTORIES.map(|(likes, skips)| {
        let mut vectors = |n: usize| -> Vec<Vec<f32>> {
            let vector = |_| (0..DIM).map(|_| number(&mut state)).collect();
            (0..n).map(vector).collect()
        };
        let (likes, skips) = (vectors(likes), vectors(skips));
        let history = tower.history(
            likes.iter().map(Vec::as_slice),
            skips.iter().map(Vec::as_slice),
        );
        json!({"likes": likes, "skips": skips, "vector": tower.embed(&history)})
    });
    Value::from(histories.to_vec())
}

#[test]
fn the_files_hold_what_the_tower_says() {
    let tower = tower();
    let (file, expected) = (tower.to_safetensors().unwrap(), histories(&tower));
    if std::env::var_os(REWRITE).is_some() {
        std::fs::create_dir_all(path("")).unwrap();
        std::fs::write(path("user_tower.safetensors"), &file).unwrap();
        std::fs::write(path("histories.json"), format!("{expected}\n")).unwrap();
    }
    let hint = format!("run this test with {REWRITE}=1 and look at what changes");
    let committed = std::fs::read(path("user_tower.safetensors"))
        .unwrap_or_else(|error| panic!("{error}: {hint}"));
    assert!(committed == file, "the file is another one: {hint}");
    let text = std::fs::read_to_string(path("histories.json")).unwrap();
    let committed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(committed.as_array().unwrap().len(), HISTORIES.len());
    for (committed, expected) in committed
        .as_array()
        .unwrap()
        .iter()
        .zip(expected.as_array().unwrap())
    {
        assert_eq!(committed["likes"], expected["likes"]);
        assert_eq!(committed["skips"], expected["skips"]);
        let vector = |it: &Value| -> Vec<f64> {
            let numbers = it["vector"].as_array().unwrap();
            numbers.iter().map(|x| x.as_f64().unwrap()).collect()
        };
        // Processors may differ in the last digits.
        for (a, b) in vector(committed).iter().zip(vector(expected)) {
            assert!((a - b).abs() <= 1e-6, "{a} {b}: {hint}");
        }
    }
}
