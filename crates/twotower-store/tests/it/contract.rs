//! What a store promises, whatever the engine.

use crate::database;
use serde_json::json;
use std::time::Duration;
use twotower_core::embedding::EmbeddingError;
use twotower_core::feature::Video;
use twotower_core::interaction::Interaction;
use twotower_store::{
    Activation, ActivationKind, Counts, EmbeddingRow, IndexPlan, InteractionKind, InteractionRow,
    Lease, LeaseHolder, LeaseOutcome, ModelState, NewModel, Snapshot, SnapshotOptions, Source,
    Store, StoreError, VectorSummary, VectorTable, VideosWritten, snapshot_sha256,
};
use uuid::Uuid;

/// Runs each test below on each engine.
macro_rules! contract {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            use super::database;

            $(
                #[tokio::test]
                async fn $test() {
                    let store = database::sqlite().await;
                    super::$test(&store).await;
                }
            )*
        }
        mod on_postgres {
            use super::database;
            $(
                #[tokio::test]
                async fn $test() {
                    let store = database::postgres().await;
                    super::$test(&store).await;
                }
            )*
        }
    };
}

contract! {
    migrations_apply_once,
    videos_are_inserted_changed_and_left_alone,
    videos_that_cannot_be_kept_are_refused,
    titles_and_cards_come_back,
    interactions_are_written_once,
    the_earliest_of_a_call_is_kept,
    an_unknown_video_is_named_and_nothing_written,
    record_tells_new_from_known,
    histories_are_the_latest_oldest_first,
    activity_is_counted,
    a_snapshot_is_ordered_and_numbered,
    a_snapshot_leaves_out_orphans_and_duplicates,
    a_snapshot_forgets_what_is_old,
    a_snapshot_refuses_impossible_times,
    a_source_may_have_other_names,
    a_source_that_is_wrong_is_named,
    both_engines_give_the_same_snapshot,
    versions_ascend,
    a_model_goes_through_its_life,
    activations_are_remembered,
    vectors_are_counted_and_summarized,
    there_is_one_publisher,
    a_lost_lease_stops_every_write,
    vectors_come_back_to_the_bit,
    bad_vectors_are_refused_before_writing,
    generations_do_not_meet,
    many_calls_at_once,
    many_rows_in_one_call,
}

const LIKE: InteractionKind = InteractionKind::Like;
const SKIP: InteractionKind = InteractionKind::Skip;

/// 2026-01-01 UTC.
const START_US: i64 = 1_767_225_600_000_000;
const DAY_US: i64 = 86_400_000_000;

/// Video `n`. High numbers first in the id, so that ids do not sort by accident.
fn video_id(n: u128) -> Uuid {
    Uuid::from_u128(n << 64 | 7)
}

fn user_id(n: u128) -> Uuid {
    Uuid::from_u128(n << 96 | 0xf000)
}

fn video(n: u128) -> Video {
    Video {
        id: video_id(n),
        title: format!("題名 {n} 🎬"),
        description: "two\nlines, 'quotes' \"and\" \\ backslash".into(),
        genre: Some("drama".into()),
        maker: n.is_multiple_of(2).then(|| "studio".into()),
        price: Some(9.99 + n as f32),
        duration_seconds: Some(61.5),
        published_at_us: Some(START_US + 123_456),
        thumbnail_url: Some(format!("https://example.com/{n}.jpg")),
        tags: vec!["a".into(), "é".into(), "日本".into()],
        performers: vec!["P".into(), "p".into()],
    }
}

fn row(user: u128, video: u128, at_us: i64) -> InteractionRow {
    InteractionRow {
        user: user_id(user),
        video: video_id(video),
        at_us,
    }
}

async fn with_videos(store: &Store, n: u128) {
    let videos: Vec<Video> = (1..=n).map(video).collect();
    store.write_videos(&videos).await.unwrap();
}

async fn snapshot(store: &Store) -> Snapshot {
    store
        .read_snapshot(&Source::default(), SnapshotOptions::default())
        .await
        .unwrap()
}

async fn migrations_apply_once(store: &Store) {
    assert!(store.pending_migrations().await.unwrap().is_empty());
    assert!(store.migrate().await.unwrap().is_empty());
    store.ping().await.unwrap();
    assert_eq!(store.counts().await.unwrap(), Counts::default());
}

async fn videos_are_inserted_changed_and_left_alone(store: &Store) {
    let bare = Video {
        id: video_id(9),
        ..Video::default()
    };
    let mut videos = vec![video(2), video(1), bare];
    let written = |inserted, updated| VideosWritten { inserted, updated };
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(3, 0));
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(0, 0));
    videos[0].tags = vec!["new".into(), "é".into()];
    videos[1].price = None;
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(0, 2));
    videos.push(video(3));
    videos[0].performers.clear();
    videos[2].title = "no longer bare".into();
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(1, 2));
    assert_eq!(store.write_videos(&[]).await.unwrap(), written(0, 0));
    let catalogue = snapshot(store).await.dataset.catalogue;
    videos.sort_by_key(|video| video.id);
    assert_eq!(catalogue.videos(), videos);
    // Names are sorted and kept once; of two videos with one id the last counts.
    let twice = Video {
        tags: vec!["b".into(), "a".into(), "b".into()],
        ..video(4)
    };
    let videos = [video(4), twice];
    assert_eq!(store.write_videos(&videos).await.unwrap(), written(1, 0));
    let cards = store.video_cards(&[video_id(4)]).await.unwrap();
    assert_eq!(cards[0].tags, ["a", "b"]);
}

async fn videos_that_cannot_be_kept_are_refused(store: &Store) {
    let mut bad = [video(1), video(2), video(3), video(4)];
    bad[0].price = Some(f32::NAN);
    bad[1].title = "nul \0".into();
    bad[2].published_at_us = Some(i64::MIN);
    bad[3].tags = vec!["nul \0".into()];
    for (video, expected) in bad.iter().zip(["price", "title", "published_at", "tags"]) {
        let error = store
            .write_videos(&[self::video(9), video.clone()])
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Video { field, id, .. } if field == expected && id == video.id),
            "{error}"
        );
    }
    assert_eq!(store.counts().await.unwrap().videos, 0);
}

async fn titles_and_cards_come_back(store: &Store) {
    with_videos(store, 3).await;
    let titles = store.video_titles().await.unwrap();
    assert_eq!(titles, [1, 2, 3].map(|n| (video_id(n), video(n).title)));
    let ids = [3, 77, 1, 3].map(video_id);
    let cards = store.video_cards(&ids).await.unwrap();
    assert_eq!(
        cards.iter().map(|card| card.id).collect::<Vec<_>>(),
        [3, 1, 3].map(video_id)
    );
    let expected = video(1);
    assert_eq!(cards[1].title, expected.title);
    assert_eq!(cards[1].maker, None);
    assert_eq!(cards[1].price, expected.price);
    assert_eq!(cards[1].tags, expected.tags);
    assert_eq!(cards[1].thumbnail_url, expected.thumbnail_url);
    assert!(store.video_cards(&[]).await.unwrap().is_empty());
}

async fn interactions_are_written_once(store: &Store) {
    with_videos(store, 3).await;
    let rows = [
        row(1, 1, START_US),
        row(1, 2, START_US),
        row(2, 1, START_US),
    ];
    assert_eq!(store.write_interactions(LIKE, &rows).await.unwrap(), 3);
    let more = [row(1, 1, START_US + 5), row(2, 3, START_US)];
    assert_eq!(store.write_interactions(LIKE, &more).await.unwrap(), 1);
    assert_eq!(store.write_interactions(SKIP, &rows[..1]).await.unwrap(), 1);
    assert_eq!(store.write_interactions(SKIP, &[]).await.unwrap(), 0);
    let counts = store.counts().await.unwrap();
    assert_eq!(
        counts,
        Counts {
            videos: 3,
            likes: 4,
            skips: 1,
            users: 2
        }
    );
    let impossible = store.write_interactions(LIKE, &[row(1, 3, -1)]).await;
    assert!(matches!(
        impossible,
        Err(StoreError::Time {
            table: "likes",
            at_us: -1
        })
    ));
}

async fn the_earliest_of_a_call_is_kept(store: &Store) {
    with_videos(store, 1).await;
    let rows = [row(1, 1, START_US + 9_000_000), row(1, 1, START_US)];
    assert_eq!(store.write_interactions(LIKE, &rows).await.unwrap(), 1);
    let snapshot = snapshot(store).await;
    assert_eq!(snapshot.cut_off_us, Some(START_US));
}

async fn an_unknown_video_is_named_and_nothing_written(store: &Store) {
    with_videos(store, 2).await;
    let rows = [
        row(1, 1, START_US),
        row(1, 5, START_US),
        row(1, 2, START_US),
    ];
    let error = store.write_interactions(LIKE, &rows).await.unwrap_err();
    assert!(
        matches!(error, StoreError::UnknownVideo(id) if id == video_id(5)),
        "{error}"
    );
    assert_eq!(store.counts().await.unwrap().likes, 0);
    let error = store
        .record(SKIP, user_id(1), video_id(5))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::UnknownVideo(id) if id == video_id(5)));
}

async fn record_tells_new_from_known(store: &Store) {
    with_videos(store, 1).await;
    assert!(store.record(LIKE, user_id(1), video_id(1)).await.unwrap());
    assert!(!store.record(LIKE, user_id(1), video_id(1)).await.unwrap());
    assert!(store.record(SKIP, user_id(1), video_id(1)).await.unwrap());
    let liked = store.liked_videos(user_id(1)).await.unwrap();
    assert_eq!(liked, [video_id(1)]);
    assert!(store.liked_videos(user_id(2)).await.unwrap().is_empty());
    let recorded = snapshot(store).await.cut_off_us.unwrap();
    assert!(
        recorded > 1_700_000_000_000_000,
        "the clock is in microseconds"
    );
}

async fn histories_are_the_latest_oldest_first(store: &Store) {
    with_videos(store, 9).await;
    let likes: Vec<_> = (1..=9)
        .map(|n| row(1, n, START_US + (n as i64 % 4) * 7))
        .collect();
    store.write_interactions(LIKE, &likes).await.unwrap();
    store
        .write_interactions(SKIP, &[row(1, 5, START_US)])
        .await
        .unwrap();
    let history = store.user_history(user_id(1), 4).await.unwrap();
    // Times modulo 4: 4 8 | 1 5 9 | 2 6 | 3 7.
    assert_eq!(history.likes, [2, 6, 3, 7].map(video_id));
    assert_eq!(history.skips, [video_id(5)]);
    let nobody = store.user_history(user_id(2), 4).await.unwrap();
    assert!(nobody.likes.is_empty() && nobody.skips.is_empty());
}

async fn activity_is_counted(store: &Store) {
    with_videos(store, 3).await;
    let likes = [
        row(3, 1, START_US),
        row(2, 1, START_US),
        row(2, 2, START_US),
        row(1, 1, START_US),
    ];
    store.write_interactions(LIKE, &likes).await.unwrap();
    let mut counts = store.like_counts().await.unwrap();
    counts.sort_unstable();
    assert_eq!(counts, [(video_id(1), 3), (video_id(2), 1)]);
    let users = store.active_users(2).await.unwrap();
    let users: Vec<_> = users.iter().map(|user| (user.user, user.likes)).collect();
    assert_eq!(users, [(user_id(2), 2), (user_id(1), 1)]);
}

async fn a_snapshot_is_ordered_and_numbered(store: &Store) {
    with_videos(store, 5).await;
    let likes = [
        row(5, 2, START_US + 1),
        row(5, 1, START_US + 1),
        row(4, 3, START_US + 1),
        row(9, 5, START_US),
    ];
    store.write_interactions(LIKE, &likes).await.unwrap();
    let skips = [row(1, 4, START_US - 1), row(9, 4, START_US + 7_000_000)];
    store.write_interactions(SKIP, &skips).await.unwrap();
    let snapshot = snapshot(store).await;
    let at = (START_US / 1_000_000) as u32;
    let like = |user, item| Interaction { user, item, at };
    // (time, user id, video id); users numbered as they come, likes first.
    assert_eq!(
        snapshot.dataset.likes,
        [like(0, 4), like(1, 2), like(2, 0), like(2, 1)]
    );
    assert_eq!(snapshot.users, [9, 4, 5, 1].map(user_id));
    assert_eq!(snapshot.dataset.users, 4);
    let skip = |user, at| Interaction { user, item: 3, at };
    assert_eq!(snapshot.dataset.skips, [skip(3, at - 1), skip(0, at + 7)]);
    assert_eq!(snapshot.cut_off_us, Some(START_US + 7_000_000));
    assert_eq!(snapshot.orphans, 0);
}

async fn a_snapshot_leaves_out_orphans_and_duplicates(store: &Store) {
    with_videos(store, 3).await;
    let likes = [
        row(1, 1, START_US),
        row(1, 2, START_US),
        row(2, 2, START_US),
    ];
    store.write_interactions(LIKE, &likes).await.unwrap();
    let source = Source {
        videos: Source::default().videos + " WHERE title NOT LIKE '%1%'; ",
        likes: Source::default().likes
            + " UNION ALL SELECT user_id, video_id, created_at FROM likes -- twice",
        ..Source::default()
    };
    let snapshot = store
        .read_snapshot(&source, SnapshotOptions::default())
        .await
        .unwrap();
    assert_eq!(snapshot.dataset.likes.len(), 2);
    // The video's like twice, its three tags and its two performers.
    assert_eq!(snapshot.orphans, 2 + 3 + 2);
    assert_eq!(snapshot.users, [1, 2].map(user_id));
}

async fn a_snapshot_forgets_what_is_old(store: &Store) {
    with_videos(store, 3).await;
    let likes = [
        row(1, 1, START_US - 1),
        row(2, 1, START_US),
        row(3, 1, START_US + 30 * DAY_US),
    ];
    store.write_interactions(LIKE, &likes).await.unwrap();
    let options = SnapshotOptions {
        max_age_days: Some(30),
    };
    let snapshot = store
        .read_snapshot(&Source::default(), options)
        .await
        .unwrap();
    assert_eq!(snapshot.users, [2, 3].map(user_id));
    assert_eq!(snapshot.dataset.users, 2);
}

async fn a_snapshot_refuses_impossible_times(store: &Store) {
    with_videos(store, 1).await;
    let time = |at_us: i64| match store.kind() {
        twotower_store::StoreKind::Postgres => {
            format!("timestamptz 'epoch' + {at_us} * interval '1 microsecond'")
        }
        twotower_store::StoreKind::Sqlite => at_us.to_string(),
    };
    let last = i64::from(u32::MAX) * 1_000_000 + 999_999;
    for (at_us, fits) in [(0, true), (last, true), (-1, false), (last + 1, false)] {
        let source = Source {
            likes: format!(
                "SELECT id AS user_id, id AS video_id, {} AS created_at FROM videos",
                time(at_us)
            ),
            ..Source::default()
        };
        let result = store
            .read_snapshot(&source, SnapshotOptions::default())
            .await;
        match result {
            Ok(snapshot) => {
                assert!(fits);
                assert_eq!(snapshot.cut_off_us, Some(at_us));
            }
            Err(error) => {
                assert!(!fits, "{error}");
                assert!(matches!(error, StoreError::Time { at_us: at, .. } if at == at_us));
            }
        }
    }
}

async fn a_source_may_have_other_names(store: &Store) {
    with_videos(store, 2).await;
    store
        .write_interactions(LIKE, &[row(1, 2, START_US)])
        .await
        .unwrap();
    let source = Source {
        videos: "SELECT NULL AS title, NULL AS description, NULL AS genre, id, NULL AS maker, NULL AS price, 60 AS duration_seconds,
                 NULL AS published_at, NULL AS thumbnail_url, 1 AS extra FROM videos"
            .into(),
        video_tags: "SELECT 'x' AS name, id AS video_id FROM videos UNION ALL SELECT 'x', id FROM videos".into(),
        likes: "SELECT created_at, video_id, user_id FROM likes".into(),
        ..Source::default()
    };
    let snapshot = store
        .read_snapshot(&source, SnapshotOptions::default())
        .await
        .unwrap();
    let videos = snapshot.dataset.catalogue.videos();
    assert_eq!(videos[0].title, "");
    assert_eq!(videos[0].genre, None);
    assert_eq!(videos[0].duration_seconds, Some(60.0));
    assert_eq!(videos[0].tags, ["x"]);
    assert_eq!(snapshot.dataset.likes.len(), 1);
}

async fn a_source_that_is_wrong_is_named(store: &Store) {
    let missing = Source {
        likes: "SELECT user_id, video_id, created_at FROM no_such_table".into(),
        ..Source::default()
    };
    let error = store
        .read_snapshot(&missing, SnapshotOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)), "{error}");
    assert!(error.to_string().contains("no_such_table"), "{error}");
    // The connection is fit for use afterwards, or gone.
    for _ in 0..10 {
        store.ping().await.unwrap();
    }
    let writing = Source {
        videos: "DELETE FROM videos RETURNING *".into(),
        ..Source::default()
    };
    assert!(
        store
            .read_snapshot(&writing, SnapshotOptions::default())
            .await
            .is_err()
    );
}

/// The digest stands here, so that both engines, and every later version, must agree on it.
async fn both_engines_give_the_same_snapshot(store: &Store) {
    with_videos(store, 40).await;
    let rows: Vec<_> = (0..400)
        .map(|n| {
            row(
                n * 7 % 31,
                1 + n * 11 % 40,
                START_US + (n * n % 97) as i64 * 500_000,
            )
        })
        .collect();
    store.write_interactions(LIKE, &rows).await.unwrap();
    store.write_interactions(SKIP, &rows[..90]).await.unwrap();
    let one = snapshot(store).await;
    assert_eq!(
        snapshot_sha256(&one.dataset),
        "f438a17f6d0f900ba5731534bbe64ade6eaf4bf9d9e5da9d1bd26848ede9cb80"
    );
    store.record(LIKE, user_id(77), video_id(1)).await.unwrap();
    let other = snapshot(store).await;
    assert_ne!(
        snapshot_sha256(&one.dataset),
        snapshot_sha256(&other.dataset)
    );
}

async fn versions_ascend(store: &Store) {
    let first = store.next_model_version().await.unwrap();
    let second = store.next_model_version().await.unwrap();
    assert_eq!((first, second), (1, 2));
}

fn model(version: i64) -> NewModel {
    NewModel {
        version,
        embedding_dim: 2,
        cut_off_us: Some(START_US + 1),
        snapshot_sha256: "ab".into(),
        hyperparameters: json!({"seed": 42}),
        metrics: json!({"ndcg_at_10": 0.1, "nested": {"text": "日本"}}),
        manifest_sha256: "cd".into(),
    }
}

fn promotion(version: i64) -> Activation {
    Activation {
        version,
        kind: ActivationKind::Promotion,
        by: "ann".into(),
        reason: format!("{version} is better"),
        forced: false,
    }
}

async fn a_model_goes_through_its_life(store: &Store) {
    assert_eq!(store.active_model().await.unwrap(), None);
    let unknown = store.activate_model(&promotion(7)).await;
    assert!(matches!(unknown, Err(StoreError::UnknownModel(7))));
    let unknown = store.set_model_state(7, ModelState::Failed).await;
    assert!(matches!(unknown, Err(StoreError::UnknownModel(7))));
    for version in [1, 2] {
        store.register_model(&model(version)).await.unwrap();
    }
    let early = store.activate_model(&promotion(1)).await;
    assert!(matches!(
        early,
        Err(StoreError::NotActivatable {
            version: 1,
            state: ModelState::Loading
        })
    ));
    for version in [1, 2] {
        store
            .set_model_state(version, ModelState::Candidate)
            .await
            .unwrap();
    }
    let wrong_way = store.set_model_state(1, ModelState::Active).await;
    assert!(matches!(wrong_way, Err(StoreError::SetActive(1))));
    store.activate_model(&promotion(1)).await.unwrap();
    store.activate_model(&promotion(1)).await.unwrap();
    let active = store.active_model().await.unwrap().unwrap();
    assert_eq!((active.version, active.state), (1, ModelState::Active));
    assert_eq!(active.metrics, model(1).metrics);
    assert_eq!(active.cut_off_us, Some(START_US + 1));
    assert_eq!(active.embedding_dim, 2);
    assert!(active.activated_at_us.unwrap() >= active.created_at_us);
    for refused in [
        store.register_model(&model(1)).await,
        store.set_model_state(1, ModelState::Retired).await,
    ] {
        assert!(matches!(refused, Err(StoreError::ActiveModel(1))));
    }
    store.activate_model(&promotion(2)).await.unwrap();
    let states = |models: Vec<twotower_store::ModelRecord>| -> Vec<_> {
        models
            .into_iter()
            .map(|model| (model.version, model.state))
            .collect()
    };
    assert_eq!(
        states(store.models().await.unwrap()),
        [(2, ModelState::Active), (1, ModelState::Retired)]
    );
    // Rollback, then a version that is tried again.
    store.activate_model(&promotion(1)).await.unwrap();
    store.register_model(&model(2)).await.unwrap();
    assert_eq!(
        states(store.models().await.unwrap()),
        [(2, ModelState::Loading), (1, ModelState::Active)]
    );
}

async fn activations_are_remembered(store: &Store) {
    for version in [1, 2] {
        store.register_model(&model(version)).await.unwrap();
    }
    let loaded = Activation {
        kind: ActivationKind::Loaded,
        ..promotion(1)
    };
    store.activate_model(&loaded).await.unwrap();
    store.fail_model(2, "too short").await.unwrap();
    assert!(store.activate_model(&promotion(2)).await.is_err());
    let details = store.model_details(2).await.unwrap();
    assert_eq!(details.record.state, ModelState::Failed);
    assert_eq!(details.reason.as_deref(), Some("too short"));
    assert!(details.activations.is_empty());
    store.register_model(&model(2)).await.unwrap();
    let state = store.set_model_state(2, ModelState::Candidate);
    state.await.unwrap();
    let forced = Activation {
        forced: true,
        ..promotion(2)
    };
    store.activate_model(&forced).await.unwrap();
    store.activate_model(&forced).await.unwrap();
    let back = Activation {
        kind: ActivationKind::Rollback,
        ..promotion(1)
    };
    store.activate_model(&back).await.unwrap();
    let history = store.activations().await.unwrap();
    let seen: Vec<_> = history
        .iter()
        .map(|one| (one.version, one.kind, one.previous_version, one.forced))
        .collect();
    assert_eq!(
        seen,
        [
            (1, ActivationKind::Loaded, None, false),
            (2, ActivationKind::Promotion, Some(1), true),
            (1, ActivationKind::Rollback, Some(2), false),
        ]
    );
    assert_eq!(
        (&*history[1].by, &*history[1].reason),
        ("ann", "2 is better")
    );
    let details = store.model_details(1).await.unwrap();
    assert_eq!(details.hyperparameters, json!({"seed": 42}));
    assert_eq!(
        (&*details.snapshot_sha256, &*details.manifest_sha256),
        ("ab", "cd")
    );
    assert_eq!(
        details.activations,
        [history[0].clone(), history[2].clone()]
    );
    assert!(details.retired_at_us.is_some(), "it was retired in between");
    let unknown = store.model_details(3).await;
    assert!(matches!(unknown, Err(StoreError::UnknownModel(3))));
}

async fn vectors_are_counted_and_summarized(store: &Store) {
    let table = VectorTable::Users;
    assert!(store.count_vectors(table).await.unwrap().is_empty());
    let rows = vector_rows(&[1, 2, 3].map(video_id));
    store.write_embeddings(table, 1, &rows).await.unwrap();
    let other = [EmbeddingRow {
        vector: &[0.0, 0.6, 0.8],
        ..rows[2]
    }];
    store.write_embeddings(table, 1, &other).await.unwrap();
    store.write_embeddings(table, 4, &rows[..2]).await.unwrap();
    let counts = store.count_vectors(table).await.unwrap();
    assert_eq!(counts, [(1, 3), (4, 2)]);
    let expected = VectorSummary {
        rows: 3,
        wrong_dimension: 1,
        ..VectorSummary::default()
    };
    let summary = store.summarize_vectors(table, 1, 2).await.unwrap();
    assert_eq!(summary, expected);
    let nothing = store.summarize_vectors(table, 2, 2).await.unwrap();
    assert_eq!(nothing, VectorSummary::default());
}

const LONG: Duration = Duration::from_mins(10);

fn holder(pid: u32) -> LeaseHolder {
    LeaseHolder {
        host: "host".into(),
        pid,
        since_us: START_US + i64::from(pid),
    }
}

async fn taken(store: &Store, pid: u32, lifetime: Duration) -> Lease {
    match store.take_lease(&holder(pid), lifetime).await.unwrap() {
        LeaseOutcome::Taken(lease) => lease,
        LeaseOutcome::Held(other) => panic!("{other:?} holds the lease"),
    }
}

async fn there_is_one_publisher(store: &Store) {
    let asking = (0..12).map(|pid| async move {
        let outcome = store.take_lease(&holder(pid), LONG).await.unwrap();
        matches!(outcome, LeaseOutcome::Taken(_)).then_some(pid)
    });
    let outcomes = futures_util::future::join_all(asking).await;
    let winners: Vec<u32> = outcomes.into_iter().flatten().collect();
    let [winner] = winners[..] else {
        panic!("{winners:?} have it")
    };
    let held = store.take_lease(&holder(99), LONG).await.unwrap();
    assert_eq!(held, LeaseOutcome::Held(holder(winner)));
    // Who did not hear the answer asks again.
    let lease = taken(store, winner, LONG).await;
    store.renew_lease(lease).await.unwrap();
    let rows = vector_rows(&[video_id(1)]);
    let ours = store.under(lease);
    let written = ours.write_embeddings(VectorTable::Videos, 1, &rows);
    written.await.unwrap();
    store.release_lease(lease).await.unwrap();
    taken(store, 99, LONG).await;
}

async fn a_lost_lease_stops_every_write(store: &Store) {
    let rows = vector_rows(&[1, 2].map(video_id));
    let table = VectorTable::Videos;
    let old = taken(store, 1, Duration::ZERO).await;
    let sleeper = store.under(old);
    sleeper.register_model(&model(1)).await.unwrap();
    // Expired, but nobody else has come.
    let written = sleeper.write_embeddings(table, 1, &rows[..1]);
    written.await.unwrap();
    let new = taken(store, 2, LONG).await;
    let plan = IndexPlan {
        version: 1,
        dim: 2,
        rows: 1,
        memory_cap_mb: 64,
    };
    let mut refused = vec![
        sleeper.register_model(&model(2)).await,
        sleeper.write_embeddings(table, 1, &rows).await,
        sleeper
            .delete_embeddings(table, 1, &[video_id(1)])
            .await
            .map(|_| ()),
        sleeper.set_model_state(1, ModelState::Candidate).await,
        sleeper.fail_model(1, "").await,
        sleeper.activate_model(&promotion(1)).await,
        sleeper.renew_lease(old).await,
    ];
    if store.kind() == twotower_store::StoreKind::Postgres {
        refused.push(sleeper.build_vector_index(&plan).await.map(|_| ()));
    }
    for (n, result) in refused.into_iter().enumerate() {
        assert!(
            matches!(result, Err(StoreError::LeaseLost)),
            "{n}: {result:?}"
        );
    }
    assert_eq!(store.count_vectors(table).await.unwrap(), [(1, 1)]);
    assert_eq!(store.models().await.unwrap().len(), 1);
    // Giving back what is not ours changes nothing.
    store.release_lease(old).await.unwrap();
    store.renew_lease(new).await.unwrap();
    let working = store.under(new);
    working.write_embeddings(table, 1, &rows).await.unwrap();
    let loaded = Activation {
        kind: ActivationKind::Loaded,
        ..promotion(1)
    };
    working.activate_model(&loaded).await.unwrap();
    assert_eq!(store.count_vectors(table).await.unwrap(), [(1, 2)]);
}

const VECTORS: [[f32; 2]; 3] = [[0.6, 0.8], [1.0, -1e-30], [-0.8, 0.6]];

fn vector_rows(ids: &[Uuid]) -> Vec<EmbeddingRow<'static>> {
    ids.iter()
        .zip(&VECTORS)
        .zip([i64::MIN, -1, i64::MAX])
        .map(|((&id, vector), fingerprint)| EmbeddingRow {
            id,
            fingerprint,
            vector,
        })
        .collect()
}

async fn vectors_come_back_to_the_bit(store: &Store) {
    for table in [VectorTable::Videos, VectorTable::Users] {
        let ids = [3, 1, 2].map(video_id);
        let rows = vector_rows(&ids);
        store.write_embeddings(table, 5, &rows).await.unwrap();
        let (read, embeddings) = store.read_embeddings(table, 5, 2).await.unwrap();
        assert_eq!(read, [1, 2, 3].map(video_id));
        let expected = [VECTORS[1], VECTORS[2], VECTORS[0]].concat();
        assert_eq!(
            embeddings
                .as_slice()
                .iter()
                .map(|x| x.to_bits())
                .collect::<Vec<_>>(),
            expected.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
        assert_eq!(
            store.read_fingerprints(table, 5).await.unwrap(),
            [(ids[1], -1), (ids[2], i64::MAX), (ids[0], i64::MIN)]
        );
        // Again, changed: it replaces.
        let change = EmbeddingRow {
            fingerprint: 4,
            vector: &VECTORS[0],
            ..rows[1]
        };
        let twice = [rows[1], change];
        store.write_embeddings(table, 5, &twice).await.unwrap();
        let (read, embeddings) = store.read_embeddings(table, 5, 2).await.unwrap();
        assert_eq!((read.len(), embeddings.row(0)), (3, &VECTORS[0][..]));
        let gone = [video_id(1), video_id(3), video_id(99)];
        assert_eq!(store.delete_embeddings(table, 5, &gone).await.unwrap(), 2);
        assert_eq!(store.delete_embeddings(table, 5, &[]).await.unwrap(), 0);
        let left = store.read_fingerprints(table, 5).await.unwrap();
        assert_eq!(left, [(video_id(2), i64::MAX)]);
        store.write_embeddings(table, 5, &[]).await.unwrap();
    }
}

async fn bad_vectors_are_refused_before_writing(store: &Store) {
    let good: &[f32] = &[1.0, 0.0];
    let bad: [&[f32]; 4] = [&[f32::NAN, 1.0], &[f32::INFINITY, 0.0], &[1.0, 1.0], &[1.0]];
    for vector in bad {
        let rows = [(1, good), (2, vector)].map(|(n, vector)| EmbeddingRow {
            id: video_id(n),
            fingerprint: 0,
            vector,
        });
        let error = store
            .write_embeddings(VectorTable::Users, 1, &rows)
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Vector { row: 1, .. }),
            "{error}"
        );
    }
    let table = VectorTable::Users;
    assert!(store.read_fingerprints(table, 1).await.unwrap().is_empty());
    // Nor does what is there pass for another dimension.
    let rows = vector_rows(&[video_id(1)]);
    store.write_embeddings(table, 1, &rows).await.unwrap();
    let error = store.read_embeddings(table, 1, 3).await.unwrap_err();
    assert!(matches!(
        error,
        StoreError::Vector {
            source: EmbeddingError::Dimension {
                expected: 3,
                actual: 2
            },
            ..
        }
    ));
}

async fn generations_do_not_meet(store: &Store) {
    let table = VectorTable::Videos;
    let rows = vector_rows(&[1, 2].map(video_id));
    for version in [1, 2] {
        store.write_embeddings(table, version, &rows).await.unwrap();
    }
    let ids = [video_id(1)];
    assert_eq!(store.delete_embeddings(table, 1, &ids).await.unwrap(), 1);
    assert_eq!(store.read_fingerprints(table, 1).await.unwrap().len(), 1);
    assert_eq!(store.read_fingerprints(table, 2).await.unwrap().len(), 2);
    assert_eq!(store.read_embeddings(table, 3, 2).await.unwrap().0.len(), 0);
}

/// More callers than connections, each with answers of its own.
async fn many_calls_at_once(store: &Store) {
    with_videos(store, 9).await;
    let calls = (0..90_u128).map(|n| async move {
        let (user, video) = (user_id(n / 9), video_id(1 + n % 9));
        assert!(store.record(LIKE, user, video).await.unwrap());
        let liked = store.liked_videos(user).await.unwrap();
        assert!(liked.contains(&video));
        assert_eq!(store.active_model().await.unwrap(), None);
        let history = store.user_history(user, 100).await.unwrap();
        assert!(history.likes.contains(&video) && history.skips.is_empty());
        let cards = store.video_cards(&[video]).await.unwrap();
        assert_eq!(cards[0].id, video);
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(store.counts().await.unwrap().likes, 90);
}

/// More than one chunk of everything.
async fn many_rows_in_one_call(store: &Store) {
    const VIDEOS: u128 = 12_000;
    let videos: Vec<Video> = (1..=VIDEOS)
        .map(|n| Video {
            id: video_id(n),
            tags: vec![format!("tag {}", n % 100)],
            ..Video::default()
        })
        .collect();
    let written = store.write_videos(&videos).await.unwrap();
    assert_eq!(written.inserted, VIDEOS as u64);
    let rows: Vec<_> = (0..30_000)
        .map(|n| row(n % 1_000, 1 + n % VIDEOS, START_US + n as i64))
        .collect();
    assert_eq!(
        store.write_interactions(LIKE, &rows).await.unwrap(),
        30_000 - 18_000
    );
    let ids: Vec<Uuid> = videos.iter().map(|video| video.id).collect();
    let vectors: Vec<_> = ids
        .iter()
        .map(|&id| EmbeddingRow {
            id,
            fingerprint: 1,
            vector: &VECTORS[0],
        })
        .collect();
    let table = VectorTable::Videos;
    store.write_embeddings(table, 1, &vectors).await.unwrap();
    assert_eq!(store.read_embeddings(table, 1, 2).await.unwrap().0, ids);
    assert_eq!(store.video_cards(&ids).await.unwrap().len(), ids.len());
    let deleted = store.delete_embeddings(table, 1, &ids).await.unwrap();
    assert_eq!(deleted, VIDEOS as u64);
    let snapshot = snapshot(store).await;
    assert_eq!(snapshot.dataset.likes.len(), 12_000);
    assert_eq!(snapshot.dataset.catalogue.videos(), videos);
}
