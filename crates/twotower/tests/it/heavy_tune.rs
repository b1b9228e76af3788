//! `twotower tune`: run, interrupted, resumed, and its result used.

use crate::support::Workplace;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Three rungs, of 1, 2 and 4 epochs.
const CONFIGURATION: &str = "[hyperparameters]\nembedding_dim = 16\nepochs = 4\nuser_hidden = 32\n[training]\nsplit = \"llo\"\n";
const TUNE: &str = "tune --config small.toml --trials 9 --seed 3";

fn place() -> Workplace {
    let place = Workplace::on_sqlite();
    place.json("demo --no-serve --videos 600 --users 400 --likes 24000 --epochs 1");
    std::fs::write(place.folder.path().join("small.toml"), CONFIGURATION).unwrap();
    place
}

fn start(place: &Workplace, line: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_twotower"))
        .args(line.split_whitespace())
        .current_dir(place.folder.path())
        .env("DATABASE_URL", &place.url)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Number of results in the state of a search.
fn results(state_dir: &Path) -> usize {
    let Ok(text) = std::fs::read(state_dir.join("state.json")) else {
        return 0;
    };
    let state: Value = serde_json::from_slice(&text).expect("a state is there whole or not at all");
    let trials = state["trials"].as_array().unwrap();
    let results = trials
        .iter()
        .map(|t| t["results"].as_array().unwrap().len());
    results.sum()
}

/// Sends `signal` once the search has `wanted` results; returns the exit code.
fn stop_after(wanted: usize, signal: &str, child: &mut Child, state_dir: &Path) -> Option<i32> {
    let begun = Instant::now();
    while results(state_dir) < wanted {
        assert!(begun.elapsed() < Duration::from_mins(5), "no result");
        assert!(child.try_wait().unwrap().is_none(), "it ended before");
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    child.wait().unwrap().code()
}

/// Result and log of a command that must succeed.
fn told(place: &Workplace, line: &str) -> (Value, String) {
    let output = place.run(&format!("--json {line}"));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "twotower {line}: {log}");
    (serde_json::from_slice(&output.stdout).unwrap(), log)
}

/// The memory that the log reports for likes and skips.
fn interactions<'l>(log: &'l str, line: &str) -> &'l str {
    let line = log.lines().find(|told| told.contains(line)).expect(line);
    let (_, after) = line.split_once("interactions ").unwrap();
    after.split_once(',').unwrap().0
}

/// A checkpoint of a version that samples negatives differently.
fn of_other_training(checkpoint: &[u8]) -> Vec<u8> {
    let (length, rest) = checkpoint.split_first_chunk::<8>().unwrap();
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let run = &mut header["__metadata__"]["run"];
    let mut state: Value = serde_json::from_str(run.as_str().unwrap()).unwrap();
    state["eligible"] = 1.into();
    *run = state.to_string().into();
    let header = header.to_string().into_bytes();
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], &header, tensors].concat()
}

fn checkpoints(state_dir: &Path) -> usize {
    let entries = std::fs::read_dir(state_dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".safetensors")).count()
}

#[test]
fn a_search_gives_a_configuration_and_survives_being_killed() {
    let place = place();
    let folder = place.folder.path();
    let whole = place.json(&format!("{TUNE} --output whole.toml --state-dir whole"));
    let whole = &whole["tune"];
    assert_eq!(whole["left_out"], Value::Null);
    assert_eq!(whole["trials"].as_array().unwrap().len(), 9);
    // 9, then 3 and perhaps the baseline, then 1 and perhaps the baseline.
    let all = results(&folder.join("whole"));
    assert!((13..=15).contains(&all), "{all} results");
    assert_eq!(checkpoints(&folder.join("whole")), 0);
    let score = |trial: &str| whole[trial]["score"].as_f64().unwrap();
    assert!(score("best") >= score("baseline"));
    assert_eq!(whole["baseline"]["epochs"], 4);

    let broken = folder.join("broken");
    let line = format!("{TUNE} --output broken.toml --state-dir broken");
    let killed = stop_after(2, "-KILL", &mut start(&place, &line), &broken);
    assert_eq!(killed, None);
    assert!((2..all).contains(&results(&broken)));
    let resume = format!("{line} --resume");
    let interrupted = stop_after(9, "-INT", &mut start(&place, &resume), &broken);
    assert_eq!(interrupted, Some(130));
    assert!((9..all).contains(&results(&broken)));
    assert!((1..9).contains(&checkpoints(&broken)));
    assert!(!folder.join("broken.toml").exists());

    let refused = place.run(&format!("{resume} --split temporal"));
    let log = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        log.contains("its split differs (llo), now it is temporal"),
        "{log}"
    );

    // After an upgrade that changes training: this is reported once, and known results are kept.
    let state = broken.join("state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    let version = format!("  \"version\": \"{}\",\n", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&version), "{text}");
    std::fs::write(&state, text.replacen(&version, "", 1)).unwrap();
    let baseline = broken.join("trial-0.safetensors");
    let checkpoint = std::fs::read(&baseline).unwrap();
    std::fs::write(&baseline, of_other_training(&checkpoint)).unwrap();
    let known = results(&broken);
    let log = place.refused(&resume, 1);
    for expected in [
        "trial-0.safetensors: this version of twotower (",
        "trains otherwise than an earlier one, with which the search was begun",
        "its videos that may be negatives differ",
        "--resume --budget 0s writes the best of them",
    ] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    let kept = place.json(&format!("{resume} --budget 0s"));
    assert!(kept["tune"]["left_out"].is_string());
    std::fs::remove_file(folder.join("broken.toml")).unwrap();
    assert_eq!(results(&broken), known);

    // A damaged checkpoint restarts only its own trial, with the same scores in the end.
    std::fs::write(&baseline, &checkpoint[..checkpoint.len() - 5]).unwrap();
    let (resumed, log) = told(&place, &resume);
    assert!(
        log.contains("begin again and come to the same scores: 0"),
        "{log}"
    );
    let of_a_trial = interactions(&log, "memory of a trial, at most").to_owned();
    for part in ["metric", "best", "baseline", "trials", "left_out"] {
        assert_eq!(resumed["tune"][part], whole[part], "{part}");
    }
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert_eq!(text("broken.toml"), text("whole.toml"));

    let (trained, log) = told(&place, "train --config whole.toml");
    assert_eq!(
        interactions(&log, "memory of training"),
        of_a_trial,
        "a trial holds what a training holds"
    );
    let manifest = folder
        .join(trained["train"]["path"].as_str().unwrap())
        .join("manifest.json");
    let manifest: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
    assert_eq!(manifest["trained_on"]["split"], "llo");
    assert_eq!(manifest["hyperparameters"]["embedding_dim"], 16);
    for (name, value) in whole["best"]["differs"].as_object().unwrap() {
        let trained = manifest["hyperparameters"][name].as_f64().unwrap();
        let tuned = value.as_f64().unwrap();
        assert!((trained - tuned).abs() <= 1e-6 * tuned.abs(), "{name}");
    }
    assert_eq!(trained["train"]["best_epoch"], whole["best"]["best_epoch"]);
}

#[test]
fn a_search_keeps_to_its_budget_and_overwrites_nothing() {
    let place = place();
    let out_of_time = place.run(&format!("{TUNE} --budget 0s"));
    let log = String::from_utf8_lossy(&out_of_time.stderr);
    assert_eq!(out_of_time.status.code(), Some(1));
    assert!(
        log.contains("the budget was over before the first trial"),
        "{log}"
    );

    // The state of a search whose time limit was reached after three trials.
    let state_dir = place.folder.path().join("models/tune");
    let mut child = start(&place, &format!("{TUNE} --resume"));
    stop_after(3, "-KILL", &mut child, &state_dir);
    let cut = place.json(&format!("{TUNE} --budget 0s --resume"));
    let left_out = cut["tune"]["left_out"].as_str().unwrap();
    assert!(
        left_out.contains("of the 9 trials of rung 1 of 3"),
        "{left_out}"
    );
    assert!(cut["tune"]["best"]["score"].is_f64());
    let tuned = place.folder.path().join("tuned.toml");
    let before = std::fs::read_to_string(&tuned).unwrap();
    assert!(before.contains("the budget was over"), "{before}");

    // The state of a version that did not record how it trains, and trained differently: the scores
    // reveal that even without a checkpoint.
    let state = state_dir.join("state.json");
    let text = std::fs::read(&state).unwrap();
    let mut older: Value = serde_json::from_slice(&text).unwrap();
    older.as_object_mut().unwrap().remove("training").unwrap();
    std::fs::write(&state, older.to_string()).unwrap();
    let log = place.refused(&format!("{TUNE} --resume --overwrite"), 1);
    for expected in [
        "state.json: this version of twotower (",
        "trains otherwise",
        "--budget 0s",
    ] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    std::fs::write(&state, text).unwrap();

    let refused = place.run(&format!("{TUNE} --resume"));
    let log = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        log.contains("tuned.toml exists already") && log.contains("--overwrite"),
        "{log}"
    );
    assert_eq!(std::fs::read_to_string(&tuned).unwrap(), before);

    let done = place.json(&format!("{TUNE} --resume --overwrite"));
    assert_eq!(done["tune"]["left_out"], Value::Null);
    assert_ne!(std::fs::read_to_string(&tuned).unwrap(), before);
}

#[test]
fn a_trial_that_diverges_ends_nothing() {
    let place = place();
    let configuration = format!("{CONFIGURATION}output_dir = \"elsewhere\"\n")
        .replace("epochs = 4", "epochs = 2\nlearning_rate = 1e38");
    std::fs::write(place.folder.path().join("wild.toml"), configuration).unwrap();
    let tuned = place.json("tune --config wild.toml --trials 4 --seed 3");
    let (best, baseline) = (&tuned["tune"]["best"], &tuned["tune"]["baseline"]);
    assert_eq!(
        (&baseline["diverged"], &baseline["score"]),
        (&true.into(), &Value::Null)
    );
    assert_ne!(best["trial"], 0);
    assert!(best["score"].as_f64().unwrap() > 0.0);
    let last = tuned["tune"]["trials"].as_array().unwrap().last();
    assert_eq!(last, Some(baseline), "diverged is the worst");
    assert!(
        place
            .folder
            .path()
            .join("elsewhere/tune/state.json")
            .exists()
    );
    let text = std::fs::read_to_string(place.folder.path().join("tuned.toml")).unwrap();
    assert!(text.contains("output_dir = \"elsewhere\""), "{text}");
}
