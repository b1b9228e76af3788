//! A backup restores into either engine, completely and without anything else.

use super::{START_US, contract, model, promotion, user_id, vector_rows, video_id, with_videos};
use crate::database::{self, TestStore};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use twotower_store::{
    Backup, BackupError, BackupWriter, Block, BlockKind, ErasePlan, EventKind, EventPolicy,
    FinishedRun, ModelState, NewEvent, NewExperiment, NewRun, RestoreOptions, Restored, RunState,
    Store, StoreKind, VectorTable, version_before,
};
use uuid::Uuid;

contract! {
    what_was_copied_comes_back_into_either_engine,
    a_second_restoration_changes_nothing,
    what_is_newer_is_refused_or_replaced,
    who_was_erased_here_stays_so,
    tombstones_of_another_salt_are_not_mixed,
    two_models_of_one_number_are_not_mixed,
    no_byte_changes_unnoticed,
}

const TABLES: [VectorTable; 2] = [VectorTable::Videos, VectorTable::Users];

fn erase_plan() -> ErasePlan {
    ErasePlan {
        likes: true,
        skips: true,
        ..ErasePlan::default()
    }
}

/// Three versions: 1 was active before 2, 3 is a candidate. User 9 is erased.
async fn fill(store: &Store) {
    with_videos(store, 3).await;
    let gone = user_id(9);
    store.erase_user(gone, &erase_plan()).await.unwrap();
    for version in 1..=3 {
        assert_eq!(store.next_model_version().await.unwrap(), version);
        store.register_model(&model(version)).await.unwrap();
        let videos = vector_rows(&[1, 2, 3].map(video_id));
        let users = vector_rows(&[1, 2].map(user_id));
        for (table, rows) in TABLES.into_iter().zip([videos, users]) {
            let written = store.write_embeddings(table, version, &rows);
            written.await.unwrap();
        }
        let verdict = json!({"passed": true, "text": "\"日本\"\n\\"});
        store.record_verdict(version, &verdict).await.unwrap();
        let candidate = store.set_model_state(version, ModelState::Candidate);
        candidate.await.unwrap();
        if version < 3 {
            store.activate_model(&promotion(version)).await.unwrap();
        }
    }
    let experiment = NewExperiment {
        control: 2,
        challenger: 1,
        share: 0.1,
        by: "ann".into(),
        reason: "x".into(),
    };
    store.start_experiment(&experiment).await.unwrap();
    let event = NewEvent {
        event_id: Uuid::from_u128(1),
        kind: EventKind::View,
        video: video_id(1),
        model_version: Some(2),
        request_id: Some("日本".into()),
        position: Some(3),
        watch_fraction: Some(0.35),
        at_us: Some(START_US),
    };
    let events = [event];
    let recorded = store.record_events(user_id(1), &events, EventPolicy::All);
    recorded.await.unwrap();
    store
        .add_block(user_id(1), &block("\"é\" \\"))
        .await
        .unwrap();
    let run = NewRun {
        job: "update".into(),
        due_at_us: Some(START_US),
        host: "a".into(),
        pid: 7,
        presumed_dead: Duration::from_hours(1),
    };
    let ended = store.begin_run(&run).await.unwrap();
    let finished = FinishedRun {
        state: RunState::Failed,
        attempts: 2,
        exit_code: Some(4),
        model_version: Some(2),
        message: Some("away".into()),
    };
    store.finish_run(ended, &finished).await.unwrap();
    // In progress during the backup, like the backup's own run.
    store
        .begin_run(&NewRun {
            job: "backup".into(),
            ..run
        })
        .await
        .unwrap();
}

pub(super) fn block(value: &str) -> Block {
    Block {
        kind: BlockKind::Tag,
        value: value.into(),
    }
}

pub(super) async fn back_up(store: &Store, root: &Path) -> PathBuf {
    let mut writer = BackupWriter::create(root, "20260131T033000Z", 1).unwrap();
    let moment = store.back_up(&mut writer, true).await.unwrap();
    store.finish_backup(writer, &moment).unwrap().0
}

/// The backup of a filled store.
pub(super) async fn backup_of(store: &Store) -> (TempDir, Backup) {
    fill(store).await;
    let root = tempfile::tempdir().unwrap();
    let backup = Backup::open(&back_up(store, root.path()).await).unwrap();
    backup.verify().unwrap();
    (root, backup)
}

async fn restore(store: &Store, backup: &Backup) -> Result<Restored, BackupError> {
    store.restore(backup, &RestoreOptions::default()).await
}

/// Everything that readers and operators see.
async fn told(store: &Store) -> String {
    use std::fmt::Write;
    let mut told = String::new();
    for version in 1..=2 {
        let details = store.model_details(version).await.unwrap();
        writeln!(told, "{details:?}").unwrap();
        for table in TABLES {
            let (ids, vectors) = store.read_embeddings(table, version, 2).await.unwrap();
            let prints = store.read_fingerprints(table, version).await.unwrap();
            let bits: Vec<_> = (0..ids.len())
                .flat_map(|row| {
                    vectors
                        .row(row)
                        .iter()
                        .map(|x| x.to_bits())
                        .collect::<Vec<_>>()
                })
                .collect();
            writeln!(told, "{ids:?} {prints:?} {bits:?}").unwrap();
        }
    }
    let history = store.activations().await.unwrap();
    writeln!(told, "{history:?} {:?}", version_before(&history)).unwrap();
    let experiment = store.running_experiment().await.unwrap();
    writeln!(
        told,
        "{experiment:?} {:?}",
        store.experiments().await.unwrap()
    )
    .unwrap();
    let mut unseen = store.erasures_unseen().await.unwrap();
    unseen.retain(|(version, _)| *version < 3);
    writeln!(told, "{unseen:?}").unwrap();
    writeln!(told, "{:?}", store.active_model().await.unwrap()).unwrap();
    told
}

async fn what_was_copied_comes_back_into_either_engine(store: &Store) {
    let (_root, backup) = backup_of(store).await;
    let manifest = backup.manifest();
    assert_eq!(
        (
            manifest.active_version,
            &manifest.versions[..],
            manifest.last_version
        ),
        (Some(2), &[1, 2][..], 3)
    );
    let targets: [TestStore; 2] = [database::sqlite().await, database::postgres().await];
    for target in targets {
        let restored = restore(&target, &backup).await.unwrap();
        assert_eq!(restored.active_version, Some(2));
        assert_eq!(
            (
                restored.rows["video_embeddings"],
                restored.rows["user_embeddings"]
            ),
            (6, 4)
        );
        assert_eq!(told(&target).await, told(store).await);
        // Its vectors are not in the backup, so it is no candidate here.
        let third = target.model_details(3).await.unwrap().record;
        assert_eq!(third.state, ModelState::Retired);
        assert!(third.pruned_at_us.is_some());
        assert_eq!(target.next_model_version().await.unwrap(), 4);
        assert_eq!(
            target.erased_users(&[1, 9].map(user_id)).await.unwrap(),
            [user_id(9)]
        );
        let runs = target.runs(None, 10).await.unwrap();
        let [run] = &runs[..] else { panic!("{runs:?}") };
        assert_eq!(
            (&*run.job, run.state, run.due_at_us, run.message.as_deref()),
            ("update", RunState::Failed, Some(START_US), Some("away"))
        );
        let next = NewRun {
            job: "update".into(),
            due_at_us: None,
            host: "b".into(),
            pid: 1,
            presumed_dead: Duration::from_hours(1),
        };
        assert!(target.begin_run(&next).await.unwrap() > run.id);
        assert_eq!(target.count_events(Duration::ZERO).await.unwrap(), 1);
        assert!(target.stop_experiment().await.unwrap().is_some());
        let again = NewExperiment {
            control: 2,
            challenger: 1,
            share: 0.5,
            by: "ann".into(),
            reason: "y".into(),
        };
        assert_eq!(target.start_experiment(&again).await.unwrap(), 2);
    }
}

async fn a_second_restoration_changes_nothing(store: &Store) {
    let (_root, backup) = backup_of(store).await;
    let target = match store.kind() {
        twotower_store::StoreKind::Postgres => database::postgres().await,
        twotower_store::StoreKind::Sqlite => database::sqlite().await,
    };
    restore(&target, &backup).await.unwrap();
    let first = told(&target).await;
    let again = restore(&target, &backup).await.unwrap();
    assert!(again.newer.is_empty());
    assert_eq!(told(&target).await, first);
    assert_eq!(target.runs(None, 10).await.unwrap().len(), 1);
    // The same in the database of origin.
    let before = told(store).await;
    restore(store, &backup).await.unwrap();
    assert_eq!(told(store).await, before);
}

async fn what_is_newer_is_refused_or_replaced(store: &Store) {
    let (_root, backup) = backup_of(store).await;
    let rows = vector_rows(&[user_id(3)]);
    let written = store.write_embeddings(VectorTable::Users, 2, &rows);
    written.await.unwrap();
    store.stop_experiment().await.unwrap();
    store.activate_model(&promotion(3)).await.unwrap();
    assert_eq!(store.next_model_version().await.unwrap(), 4);
    store.register_model(&model(4)).await.unwrap();
    let before = told(store).await;
    let refused = restore(store, &backup).await.unwrap_err();
    let BackupError::Newer { newer } = &refused else {
        panic!("{refused}")
    };
    assert_eq!(
        newer.join(", "),
        "versions 4 are not in the backup, readers were switched since, experiment 1 has ended since, 1 vectors were written since"
    );
    let dry = RestoreOptions {
        replace: true,
        dry_run: true,
        by: "ann".into(),
        reason: "restored".into(),
        ..RestoreOptions::default()
    };
    let seen = store.restore(&backup, &dry).await.unwrap();
    assert_eq!((seen.newer.len(), seen.active_version), (4, Some(2)));
    assert_eq!(told(store).await, before, "nothing was written");

    let replace = RestoreOptions {
        dry_run: false,
        ..dry
    };
    let restored = store.restore(&backup, &replace).await.unwrap();
    assert_eq!(restored.active_version, Some(2));
    let users = store
        .read_fingerprints(VectorTable::Users, 2)
        .await
        .unwrap();
    assert_eq!(users.len(), 2, "those of the backup");
    let history = store.activations().await.unwrap();
    let last = history.last().unwrap();
    assert_eq!(
        (
            last.version,
            last.previous_version,
            &*last.by,
            &*last.reason
        ),
        (2, Some(3), "ann", "restored")
    );
    assert_eq!(history.len(), 4, "nothing of the history is lost");
    assert_eq!(store.next_model_version().await.unwrap(), 5);
    assert!(store.running_experiment().await.unwrap().is_some());
}

async fn who_was_erased_here_stays_so(store: &Store) {
    let (_root, backup) = backup_of(store).await;
    let users = [1, 2, 9].map(user_id);
    store.erase_user(users[0], &erase_plan()).await.unwrap();
    let restored = restore(store, &backup).await.unwrap();
    assert_eq!(restored.erased_left_out, 2, "one vector a version");
    let mut erased = store.erased_users(&users).await.unwrap();
    erased.sort_unstable();
    assert_eq!(erased, [users[0], users[2]]);
    for version in 1..=2 {
        let left = store.read_fingerprints(VectorTable::Users, version).await;
        let left: Vec<_> = left.unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(left, [users[1]]);
    }
    assert!(
        store
            .user_state(users[0], 9)
            .await
            .unwrap_err()
            .to_string()
            .contains("erased")
    );
    // No model of the backup reflects the second erasure, whatever its number was.
    let unseen = store.erasures_unseen().await.unwrap();
    let versions: Vec<_> = unseen.into_iter().map(|(version, _)| version).collect();
    assert!(
        versions.contains(&1) && versions.contains(&2),
        "{versions:?}"
    );
    // Numbers continue.
    let third = store.erase_user(users[1], &erase_plan()).await.unwrap();
    assert!(third.first_time && third.number >= 3, "{}", third.number);
}

async fn tombstones_of_another_salt_are_not_mixed(store: &Store) {
    let (_root, backup) = backup_of(store).await;
    match store.kind() {
        // Databases of other tests are cloned with the same salt.
        StoreKind::Postgres => {
            let url = database::empty_postgres_url().await;
            let target = Store::connect(&url, database::few_connections()).await;
            let target = target.unwrap();
            target.migrate().await.unwrap();
            refuses_another_salt(&target, &backup).await;
        }
        StoreKind::Sqlite => {
            let target = database::sqlite().await;
            refuses_another_salt(&target, &backup).await;
        }
    }
}

async fn refuses_another_salt(target: &Store, backup: &Backup) {
    target.erase_user(user_id(5), &erase_plan()).await.unwrap();
    for replace in [false, true] {
        let options = RestoreOptions {
            replace,
            ..RestoreOptions::default()
        };
        let refused = target.restore(backup, &options).await.unwrap_err();
        assert!(
            matches!(refused, BackupError::OtherSalt { erased: 1 }),
            "{refused}"
        );
    }
    assert!(target.models().await.unwrap().is_empty());
}

async fn two_models_of_one_number_are_not_mixed(store: &Store) {
    let (_root, backup) = backup_of(store).await;
    let target = database::sqlite().await;
    let other = twotower_store::NewModel {
        manifest_sha256: "ef".into(),
        ..model(1)
    };
    target.register_model(&other).await.unwrap();
    let options = RestoreOptions {
        replace: true,
        ..RestoreOptions::default()
    };
    let refused = target.restore(&backup, &options).await.unwrap_err();
    assert!(
        matches!(refused, BackupError::OtherModel { version: 1 }),
        "{refused}"
    );
}

async fn no_byte_changes_unnoticed(store: &Store) {
    let (root, _) = backup_of(store).await;
    let folder = root.path().join("20260131T033000Z");
    let check = || Backup::open(&folder).and_then(|backup| backup.verify());
    check().unwrap();
    let mut tried = 0;
    let entries = fs::read_dir(&folder).unwrap();
    let paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    for path in paths {
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let refused = check().unwrap_err();
            assert!(
                matches!(
                    refused,
                    BackupError::Damaged { .. } | BackupError::Format { .. }
                ),
                "{} at {place}: {refused}",
                path.display()
            );
            tried += 1;
        }
        fs::write(&path, &whole[..whole.len().saturating_sub(1)]).unwrap();
        assert!(whole.is_empty() || check().is_err());
        fs::remove_file(&path).unwrap();
        check().unwrap_err();
        fs::write(&path, &whole).unwrap();
    }
    check().unwrap();
    assert!(tried > 1000, "{tried}");
}
