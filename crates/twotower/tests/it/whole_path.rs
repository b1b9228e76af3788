//! All commands in order, as a user runs them, on both stores.

use crate::support::{Workplace, fresh_postgres, python, sql};
use serde_json::Value;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DEMO: &str = "demo --no-serve --videos 400 --users 300 --likes 12000";

fn weights(place: &Workplace, trained: &Value) -> Vec<u8> {
    let path = trained["train"]["path"].as_str().unwrap();
    std::fs::read(place.folder.path().join(path).join("weights.safetensors")).unwrap()
}

/// Runs demo, train, update and evaluate; returns the weights of the retrained model.
fn walk(place: &Workplace) -> Vec<u8> {
    place.json("migrate");
    let demo = place.json(DEMO);
    let ndcg = |name: &str| {
        demo["evaluate"]["recommenders"][name]["all"]["ndcg_at_10"]["mean"]
            .as_f64()
            .unwrap()
    };
    assert!(ndcg("two-tower") > ndcg("popularity"), "{demo}");
    assert!(demo["oracle"]["oracle"]["ndcg_at_10"].as_f64().unwrap() > ndcg("popularity"));
    assert_eq!(demo["update"]["activated"], true);
    assert_eq!(demo["update"]["videos"]["new"], 400);
    assert!(place.folder.path().join("models/1/report.html").exists());

    let again = place.json("update");
    assert_eq!(
        (&again["videos"]["unchanged"], &again["users"]["changed"]),
        (&400.into(), &0.into())
    );
    if place.url.starts_with("postgresql") {
        check_user_vectors_in_sql(&place.url);
    }
    // A training that is too short: the gate finds it worse than the active model.
    let short =
        "train --embedding-dim 16 --batch-size 256 --epochs 2 --output-dir models --update-db";
    let trained = place.json(&format!("{short} --force"));
    assert_eq!(trained["update"]["version"], 2);
    let checks = trained["update"]["verdict"]["checks"].as_array().unwrap();
    let refusals: Vec<_> = checks
        .iter()
        .filter(|check| check["passed"] == false)
        .collect();
    assert!(
        refusals
            .iter()
            .any(|check| check["name"] == "ndcg_at_10_difference"),
        "{refusals:?}"
    );
    let dry = place.json("update --model-path models --dry-run --full");
    assert_eq!(
        (&dry["dry_run"], &dry["videos"]["changed"]),
        (&true.into(), &400.into())
    );
    let dry = place.json("update --model-path models --dry-run");
    assert_eq!(
        (&dry["videos"]["changed"], &dry["users"]["changed"]),
        (&0.into(), &0.into()),
        "a dry run writes nothing"
    );

    // After one more imported like, exactly that user's vector is recomputed.
    let likes = place.folder.path().join("likes.csv");
    std::fs::write(
        &likes,
        "user_id,video_id,created_at\nnewcomer,1,2026-11-20T00:00:00Z\n",
    )
    .unwrap();
    std::fs::write(
        place.folder.path().join("videos.csv"),
        "id,title,genre\n1,夜のドキュメンタリー,documentary\n",
    )
    .unwrap();
    let imported = place.json("import videos.csv likes.csv");
    assert!(imported.is_object());
    let refused = place.run(DEMO);
    assert_eq!(
        refused.status.code(),
        Some(1),
        "made-up likes never come among real ones"
    );
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("1 videos that this demo does not make")
    );
    let update = place.json("update");
    assert_eq!(
        (
            &update["videos"]["new"],
            &update["users"]["new"],
            &update["users"]["changed"]
        ),
        (&1.into(), &1.into(), &0.into())
    );

    let evaluated = place.json("evaluate --split llo");
    assert_eq!(evaluated["split"], "llo");
    assert_eq!(
        evaluated["retrained"],
        "the model was trained on another split"
    );
    check_model_folder(&place.folder.path().join("models/2"));
    let again = place.json("train --embedding-dim 16 --batch-size 256 --epochs 2 --threads 1");
    let once_more = place.json("train --embedding-dim 16 --batch-size 256 --epochs 2 --threads 2");
    assert_eq!(
        weights(place, &again),
        weights(place, &once_more),
        "same data and seed, same bytes"
    );
    weights(place, &once_more)
}

/// The trained user tower in SQL computes the same vectors as the update stored.
fn check_user_vectors_in_sql(url: &str) {
    let differences = "SELECT count(DISTINCT user_id) > 250 AND count(*) = 64 * count(DISTINCT user_id) AND max(abs(x - y)) < 1e-5
        FROM user_embeddings AS stored,
             LATERAL (SELECT set_config('request.jwt.claims', json_build_object('sub', user_id)::text, false) AS claims OFFSET 0) AS token,
             LATERAL twotower.user_vector(model_version + 0 * length(claims)) AS computed,
             LATERAL unnest(stored.embedding::real[], computed.vector) AS numbers (x, y)
        WHERE model_version = 1";
    assert_eq!(sql(url, differences), "t");
}

/// Runs onnx.checker, compares onnxruntime with numpy, and reads the pickle with an unpickler
/// restricted to builtins.
fn check_model_folder(folder: &Path) {
    let script =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../twotower-onnx/tests/check_onnx.py");
    let output = Command::new(python())
        .arg(script)
        .arg(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn heavy_the_whole_path_gives_the_same_bytes_on_both_stores() {
    let sqlite = walk(&Workplace::on_sqlite());
    let postgres = walk(&Workplace::on_postgres(fresh_postgres()));
    assert!(sqlite == postgres, "the weights differ between the stores");
}

#[test]
fn too_little_data_and_wrong_usage_have_exit_codes_of_their_own() {
    let place = Workplace::on_sqlite();
    place.json("migrate");
    let output = place.run("train");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{log}");
    assert!(
        log.contains("0 likes are too few") && log.contains("twotower import"),
        "{log}"
    );
    assert_eq!(place.run("train --epochs many").status.code(), Some(2));
    assert_eq!(place.run("update").status.code(), Some(1));
    assert!(
        !place.folder.path().join("models").exists(),
        "a refused training leaves nothing behind"
    );
}

#[test]
fn an_interrupted_training_leaves_no_model_behind() {
    let place = Workplace::on_sqlite();
    place.json("demo --no-serve --videos 100 --users 60 --likes 1200");
    // Longer than any machine takes to send the signal.
    place.configure("[hyperparameters]\nepochs = 10000\npatience = 10000");
    let mut child = place
        .command("train --output-dir other")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    assert!(lines.any(|line| line.contains("epoch")), "it trains");
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let said: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said:?}");
    // Files for `--resume` may remain, but nothing that looks like a model.
    for entry in std::fs::read_dir(place.folder.path().join("other")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_none = name.starts_with("checkpoint-") || name == ".lock";
        assert!(is_none, "{name}");
    }
}

#[test]
fn heavy_fine_tuning_learns_what_came_in_since() {
    let place = Workplace::on_sqlite();
    place.json("migrate");
    place.json(DEMO);
    let (mut videos, mut likes) = (
        "id,title,genre\n".to_owned(),
        "user_id,video_id,created_at\n".to_owned(),
    );
    for video in 1..=20 {
        writeln!(videos, "{video},new video {video},documentary").unwrap();
        for user in 1..=15 {
            let at = format!("2026-11-20T00:{video:02}:{user:02}Z");
            writeln!(likes, "newcomer{user},{video},{at}").unwrap();
        }
    }
    for (name, content) in [("videos.csv", videos), ("likes.csv", likes)] {
        std::fs::write(place.folder.path().join(name), content).unwrap();
    }
    place.json("import videos.csv likes.csv");
    let trained = place.json("train --from models/1 --update-db");
    let folder = place
        .folder
        .path()
        .join(trained["train"]["path"].as_str().unwrap());
    let read = |folder: &Path, name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
    };
    assert_eq!(trained["train"]["fine_tuned_from"], 1);
    assert_eq!(trained["update"]["version"], 2);
    let (before, after) = (
        read(&place.folder.path().join("models/1"), "manifest.json"),
        read(&folder, "manifest.json"),
    );
    assert_eq!(before["hyperparameters"], after["hyperparameters"]);
    let until = |manifest: &Value| manifest["trained_on"]["learned_until_us"].as_i64().unwrap();
    assert!(until(&before) < until(&after));
    let vocabulary = |folder: &Path| {
        read(folder, "preprocessing.json")["videos"]
            .as_array()
            .unwrap()
            .len()
    };
    assert!(vocabulary(&folder) > vocabulary(&place.folder.path().join("models/1")));
    let evaluated = place.json("evaluate --model-path models/2");
    assert!(evaluated["recommenders"]["two-tower"].is_object());

    let again = place.run("train --from models/2");
    assert_eq!(again.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&again.stderr).contains("model 2 has learned"));
    let refused = place.run("train --from models/2 --embedding-dim 32");
    assert_eq!(refused.status.code(), Some(2));
}
