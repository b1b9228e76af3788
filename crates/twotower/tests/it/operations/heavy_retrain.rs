//! `twotower run retrain`: train, load, publish, promote, prune, evaluate, resumed where it was cut
//! off.

use super::processes::{child_running, is_alive, log, start, wait_for};
use super::run::old_event;
use crate::support::Workplace;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;
use tokio::runtime::Runtime;
use twotower_store::{ConnectOptions, RunRecord, RunState, SnapshotOptions, Source, Store};
use uuid::Uuid;

const SETTINGS: &str = "[hyperparameters]\nepochs = 2\nembedding_dim = 16\n[update]\ngate = false\nlease_seconds = 1\n[run]\npause_seconds = 0\n";

/// A fast machine may finish before the interrupt; then the test is retried.
const TRIES: usize = 10;

/// A folder with a small active model, version 1.
fn place() -> Workplace {
    let place = Workplace::on_sqlite();
    place.configure(SETTINGS);
    place.json("demo --no-serve --videos 100 --users 60 --likes 1200 --epochs 1");
    place
}

fn versions(place: &Workplace) -> Vec<i64> {
    let entries = fs::read_dir(place.folder.path().join("models")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let mut versions: Vec<i64> = names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect();
    versions.sort_unstable();
    versions
}

/// (version, state), newest first.
fn registered(place: &Workplace) -> Vec<(i64, String)> {
    let list = place.json("models list");
    let of = |model: &Value| {
        let state = model["state"].as_str().unwrap().to_owned();
        (model["version"].as_i64().unwrap(), state)
    };
    list.as_array().unwrap().iter().map(of).collect()
}

/// Direct access to the database, without the binary.
struct Books {
    store: Store,
    runtime: Runtime,
}

impl Books {
    fn of(place: &Workplace) -> Self {
        let runtime = Runtime::new().unwrap();
        let opened = Store::connect(&place.url, ConnectOptions::default());
        let store = runtime.block_on(opened).unwrap();
        Self { store, runtime }
    }

    /// A user with likes, and a liked video.
    fn somebody(&self) -> (Uuid, Uuid) {
        let source = Source::default();
        let read = self
            .store
            .read_snapshot(&source, SnapshotOptions::default());
        let snapshot = self.runtime.block_on(read).unwrap();
        let video = snapshot.dataset.catalogue.videos().next().unwrap();
        (snapshot.users[0], video.id)
    }

    fn keep_old_event(&self) {
        let (user, video) = self.somebody();
        let kept = old_event(&self.store, user, video);
        assert_eq!(self.runtime.block_on(kept), 1);
    }

    fn events(&self) -> u64 {
        let count = self.store.count_events(Duration::ZERO);
        self.runtime.block_on(count).unwrap()
    }

    fn last_run(&self) -> RunRecord {
        let runs = self.store.runs(Some("retrain"), 1);
        self.runtime.block_on(runs).unwrap().remove(0)
    }
}

#[test]
fn a_retraining_ends_with_a_model_that_is_served_and_published() {
    let place = place();
    place.json("keys generate --output signing.key");
    place.configure(&format!(
        "{SETTINGS}signing_key = \"signing.key\"\n[storage]\nurl = \"published\""
    ));
    let ran = place.json("run retrain");
    assert_eq!(
        (&ran["state"], &ran["model_version"]),
        (&json!("succeeded"), &json!(2)),
        "{ran}"
    );
    assert_eq!(
        registered(&place),
        [(2, "active".to_owned()), (1, "retired".to_owned())]
    );
    let folder = place.folder.path();
    assert!(folder.join("published/models/2/manifest.json").exists());
    assert!(folder.join("published/models/2/manifest.json.sig").exists());
    assert!(folder.join("models/2/report.html").exists());
    assert!(!folder.join("state/retrain.json").exists());
    let shown = place.json("models show 2");
    assert_eq!(shown["activations"][0]["reason"], "retrain");

    // There is no new data. Pruning runs nevertheless.
    let books = Books::of(&place);
    books.keep_old_event();
    let tuned = place.json("run retrain --fine-tune");
    assert_eq!(tuned["state"], "succeeded");
    assert!(
        tuned["message"]
            .as_str()
            .unwrap()
            .contains("model 2 has learned"),
        "{tuned}"
    );
    assert_eq!(versions(&place), [1, 2]);
    assert_eq!(books.events(), 0);
}

#[test]
fn an_experiment_goes_on() {
    let place = place();
    place.json("train");
    place.json("update --model-path models/2 --no-activate");
    place.json("experiment start --challenger 2");
    let ran = place.json("run retrain");
    assert_eq!(
        (&ran["state"], &ran["model_version"]),
        (&json!("succeeded"), &json!(3)),
        "{ran}"
    );
    let states = [(3, "candidate"), (2, "candidate"), (1, "active")];
    let states = states.map(|(version, state)| (version, state.to_owned()));
    assert_eq!(registered(&place), states);
    assert_eq!(place.json("experiment stop"), json!({"stopped": 1}));
}

#[test]
fn a_refused_model_is_neither_published_nor_served() {
    let place = place();
    place.json("keys generate --output signing.key");
    // No model can pass this gate.
    let settings = SETTINGS.replace("gate = false", "gate = true");
    place.configure(&format!(
        "{settings}evaluate = false\nsigning_key = \"signing.key\"\n[gate]\nmin_auc = 1.0\nmin_users = 0\n[storage]\nurl = \"published\"\n[prune]\n\
         keep_versions = 1\n[erase]\nretire_days = 0"
    ));
    let books = Books::of(&place);
    for version in [2, 3] {
        books.keep_old_event();
        let said = place.refused("run retrain", 5);
        assert!(
            said.contains(&format!("version {version} was refused")),
            "{said}"
        );
        let states = registered(&place);
        assert_eq!(states[0], (version, "candidate".to_owned()));
        assert_eq!(states.last(), Some(&(1, "active".to_owned())));
        assert!(!place.folder.path().join("published").exists());
        // The next retraining starts from the beginning.
        assert!(!place.folder.path().join("state/retrain.json").exists());
        // Retention periods still apply, candidates are pruned too, and messages of pruning do not
        // hide the refusal.
        assert_eq!(books.events(), 0);
        assert_eq!(versions(&place), [1, version]);
        let run = books.last_run();
        assert_eq!((run.state, run.exit_code), (RunState::Refused, Some(5)));
        let overdue = said.contains("version 1, which is served, may have learned from somebody");
        assert_eq!(overdue, version == 3, "{said}");
        let (user, _) = books.somebody();
        place.json(&format!("erase --user {user}"));
    }
}

/// Kills the supervisor once `twotower WORDS` runs, waits until all its processes are gone, and
/// runs it again.
fn cut_off_at(words: &str) -> (Workplace, Value) {
    for _ in 0..TRIES {
        let place = place();
        let mut run = start(place.command("run retrain"));
        let child = wait_for(words, || match run.try_wait().unwrap() {
            Some(_) => Some(None),
            None => child_running(run.id(), words).map(Some),
        });
        let _ = run.kill();
        let status = run.wait().unwrap();
        if let Some(child) = child {
            wait_for("the end of the child", || (!is_alive(child)).then_some(()));
        }
        // It may finish before the signal arrives.
        if !status.success() {
            let ran = place.json("run retrain");
            return (place, ran);
        }
    }
    panic!("{TRIES} times all was done before `{words}` could be cut off");
}

#[test]
fn a_supervisor_that_is_killed_is_gone_on_for() {
    for words in ["train --resume", "update", "promote", "evaluate"] {
        let (place, ran) = cut_off_at(words);
        assert_eq!(
            (&ran["state"], &ran["model_version"]),
            (&json!("succeeded"), &json!(2)),
            "{words}: {ran}"
        );
        assert_eq!(versions(&place), [1, 2], "{words}: trained once");
        assert_eq!(
            registered(&place),
            [(2, "active".to_owned()), (1, "retired".to_owned())],
            "{words}"
        );
        assert!(place.folder.path().join("models/2/report.html").exists());
    }
}

#[test]
fn what_an_operator_has_decided_meanwhile_stays() {
    let place = place();
    place.json("keys generate --output signing.key");
    place.configure(&format!(
        "{SETTINGS}signing_key = \"signing.key\"\n[storage]\nurl = \"published\""
    ));
    // Loaded, and about to be published: publishing fails because the target is not a folder.
    let published = place.folder.path().join("published");
    fs::write(&published, "").unwrap();
    assert!(!place.run("run retrain").status.success());
    fs::remove_file(&published).unwrap();
    assert_eq!(registered(&place)[0], (2, "candidate".to_owned()));
    place.json("models retire 2");
    let output = place.run("run retrain");
    assert_eq!(output.status.code(), Some(1), "{}", log(&output));
    assert!(
        log(&output).contains("version 2 is retired by now"),
        "{}",
        log(&output)
    );
    assert_eq!(registered(&place)[1], (1, "active".to_owned()));
}
