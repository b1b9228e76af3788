//! `twotower evaluate` of two models: both on likes that neither was trained on, or not at all.

use crate::support::Workplace;
use serde_json::Value;
use std::fs;

const TRAIN: &str = "train --embedding-dim 16 --batch-size 128 --epochs 2";

/// Models 1 and 2, trained on the same data.
fn place() -> Workplace {
    let place = Workplace::on_sqlite();
    place.json("demo --no-serve --videos 100 --users 80 --likes 2500 --epochs 2");
    place.json(&format!("{TRAIN} --seed 7"));
    place
}

fn text(place: &Workplace, line: &str) -> String {
    let output = place.run(line);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {log}");
    String::from_utf8(output.stdout).unwrap()
}

fn ndcg(evaluated: &Value, recommender: &str) -> f64 {
    let mean = &evaluated["recommenders"][recommender]["all"]["ndcg_at_10"]["mean"];
    mean.as_f64().unwrap()
}

#[test]
fn two_models_are_compared_on_what_neither_has_learned() {
    let place = place();
    let models = place.folder.path().join("models");
    let alone = place.json("evaluate --model-path models/2");
    let report = fs::read(models.join("2/report.html")).unwrap();

    let both = place.json("evaluate --model-path models/2 --against 1");
    let against = &both["against"];
    assert_eq!(against["model_version"], 1, "{both}");
    assert_eq!(against["folder"], "models/1");
    let hold_out = against["hold_out"].as_str().unwrap();
    assert!(hold_out.starts_with("temporal split, test"), "{hold_out}");
    // The held-out likes are the same, and so is the metric.
    assert!((ndcg(&both, "model 2") - ndcg(&alone, "two-tower")).abs() < 1e-12);
    assert_eq!(
        ndcg(&both, "ials").to_bits(),
        ndcg(&alone, "ials").to_bits()
    );
    let metrics = against["metrics"].as_object().unwrap();
    assert_eq!(metrics.len(), 7);
    for (name, of) in metrics {
        let number = |value: &Value| value.as_f64().unwrap();
        let [ours, theirs] = ["model", "against"].map(|model| number(&of[model]["mean"]));
        let difference = number(&of["difference"]);
        assert!((difference - (ours - theirs)).abs() < 1e-9, "{name}: {of}");
        let [low, high] = [0, 1].map(|end: usize| number(&of["interval"][end]));
        assert!(low <= difference && difference <= high, "{name}: {of}");
    }
    let compared = fs::read_to_string(models.join("2/report-against.html")).unwrap();
    assert!(compared.contains("Model 2 against model 1"));
    assert_eq!(fs::read(models.join("2/report.html")).unwrap(), report);

    // A folder elsewhere, without anything to tell the two apart.
    let elsewhere = place.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for entry in fs::read_dir(models.join("1")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), elsewhere.join(entry.file_name())).unwrap();
    }
    let refused = place.refused("evaluate --model-path models/1 --against elsewhere", 1);
    assert!(
        refused.contains("models/1 and elsewhere are the same model"),
        "{refused}"
    );
    let said = text(&place, "evaluate --model-path models/2 --against elsewhere");
    let sentence =
        |line: &&str| line.contains("model 2") && line.contains("model 1") && line.ends_with('.');
    assert_eq!(said.lines().filter(sentence).count(), 1, "{said}");
    assert!(
        said.contains("95 % interval") && !said.contains("-0.0000"),
        "{said}"
    );

    // The list shows test metrics next to validation metrics.
    let listed = place.json("models list");
    let of_first = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|model| model["version"] == 1);
    let of_first = of_first.unwrap();
    assert!((of_first["test_ndcg_at_10"].as_f64().unwrap() - ndcg(&both, "model 1")).abs() < 1e-9);
    let table = text(&place, "models list");
    assert!(table.contains("NDCG@10 test  validation"), "{table}");
    let shown = text(&place, "models show 1");
    for row in ["\n  cohorts.all ", "\n  best_epoch ", "\n  embedding_dim "] {
        assert!(shown.contains(row), "{row}: {shown}");
    }
    assert!(
        !shown.contains("0000000") && !shown.contains("{\""),
        "{shown}"
    );
}

#[test]
fn without_likes_that_are_new_to_both_nothing_is_compared() {
    let place = place();
    let models = place.folder.path().join("models");
    place.json("evaluate --model-path models/2");
    let report = fs::read(models.join("2/report.html")).unwrap();
    // Another split has a report of its own.
    let other = place.json("evaluate --model-path models/2 --split llo");
    assert_eq!(other["report"], "models/2/report-llo.html");
    assert_eq!(fs::read(models.join("2/report.html")).unwrap(), report);
    assert!(models.join("2/report-llo.html").exists());

    // Leave-last-out trains on likes up to the end.
    place.json(&format!("{TRAIN} --split llo"));
    place.json(&format!("{TRAIN} --split llo --seed 8"));
    let refused = place.refused("evaluate --model-path models/3 --against models/1", 1);
    for words in [
        "too few likes are new to both",
        "models/3 has learned likes until",
        "Train both on the same data and with the same --split",
    ] {
        assert!(refused.contains(words), "{refused}");
    }
    let both = place.json("evaluate --model-path models/4 --against 3");
    let hold_out = both["against"]["hold_out"].as_str().unwrap();
    assert!(hold_out.starts_with("llo split, test"), "{hold_out}");

    // Data other than those they were trained on: newer than both.
    let files = [
        ("videos.csv", "id,title\n1,new\n"),
        (
            "likes.csv",
            "user_id,video_id,created_at\nnewcomer,1,2026-11-20T00:00:00Z\n",
        ),
    ];
    for (name, content) in files {
        fs::write(place.folder.path().join(name), content).unwrap();
    }
    place.json("import videos.csv likes.csv");
    let both = place.json("evaluate --model-path models/2 --against 1");
    let hold_out = both["against"]["hold_out"].as_str().unwrap();
    assert!(hold_out.starts_with("likes after "), "{hold_out}");
    assert_eq!(both["retrained"], Value::Null);
}
