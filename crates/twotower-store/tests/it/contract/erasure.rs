//! Erased users stay erased.

use super::{
    LIKE, SKIP, START_US, contract, model, promotion, row, snapshot, user_id, vector_rows,
    video_id, with_videos,
};
use twotower_store::{
    Block, BlockKind, ErasePlan, InteractionKind, ModelState, Source, Store, StoreError,
    VectorTable, snapshot_sha256,
};
use uuid::Uuid;

contract! {
    what_there_is_of_a_user_goes_and_nothing_else,
    erasing_again_keeps_the_date_and_takes_what_came_since,
    statements_run_in_the_same_transaction,
    a_table_of_ours_is_erased_where_the_other_is_read_elsewhere,
    a_snapshot_is_the_same_as_if_they_had_never_been_there,
    nobody_brings_them_back,
    versions_trained_before_are_known,
    every_spelling_of_an_id_is_found_in_rows,
    an_id_that_a_video_has_too_is_the_videos_where_videos_are,
    a_pruned_version_says_so,
}

fn plan() -> ErasePlan {
    ErasePlan {
        likes: true,
        skips: true,
        ..ErasePlan::default()
    }
}

async fn with_people(store: &Store) {
    with_videos(store, 4).await;
    for (kind, first) in [(LIKE, 1), (SKIP, 3)] {
        let rows: Vec<_> = (1..=3)
            .flat_map(|user| {
                [
                    row(user, first, START_US),
                    row(user, first + 1, START_US + 1),
                ]
            })
            .collect();
        store.write_interactions(kind, &rows).await.unwrap();
    }
    let rows = vector_rows(&[1, 2, 3].map(user_id));
    for version in [1, 2] {
        let written = store.write_embeddings(VectorTable::Users, version, &rows);
        written.await.unwrap();
    }
    let videos = vector_rows(&[1, 2, 3].map(video_id));
    let written = store.write_embeddings(VectorTable::Videos, 2, &videos);
    written.await.unwrap();
}

async fn counts(store: &Store) -> (u64, u64, u64) {
    let counts = store.counts().await.unwrap();
    let vectors = store.count_vectors(VectorTable::Users).await.unwrap();
    let vectors = vectors.iter().map(|(_, rows)| rows).sum();
    (counts.likes, counts.skips, vectors)
}

async fn what_there_is_of_a_user_goes_and_nothing_else(store: &Store) {
    with_people(store).await;
    assert_eq!(counts(store).await, (6, 6, 6));
    let erased = store.erase_user(user_id(2), &plan()).await.unwrap();
    assert!(erased.first_time);
    assert_eq!((erased.likes, erased.skips, erased.user_vectors), (2, 2, 2));
    assert_eq!(counts(store).await, (4, 4, 4));
    let videos = store.count_vectors(VectorTable::Videos).await.unwrap();
    assert_eq!(videos, [(2, 3)]);
    let all = [1, 2, 3].map(user_id);
    assert_eq!(store.erased_users(&all).await.unwrap(), [user_id(2)]);
    // A user without any data is kept out too.
    let unknown = store.erase_user(user_id(9), &plan()).await.unwrap();
    assert!(unknown.first_time && unknown.likes == 0);
}

async fn erasing_again_keeps_the_date_and_takes_what_came_since(store: &Store) {
    with_people(store).await;
    let only_vectors = ErasePlan::default();
    let first = store.erase_user(user_id(1), &only_vectors).await.unwrap();
    assert_eq!((first.likes, first.user_vectors), (0, 2));
    let again = store.erase_user(user_id(1), &plan()).await.unwrap();
    assert!(!again.first_time);
    assert_eq!((again.likes, again.skips, again.user_vectors), (2, 2, 0));
    assert_eq!(again.erased_at_us, first.erased_at_us);
    assert_eq!(again.number, first.number);
    let other = store.erase_user(user_id(2), &plan()).await.unwrap();
    assert!(other.number > first.number);
}

async fn statements_run_in_the_same_transaction(store: &Store) {
    with_people(store).await;
    let mut plan = ErasePlan {
        likes: false,
        skips: false,
        statements: vec![
            "DELETE FROM likes WHERE user_id = $1".into(),
            "DELETE FROM no_such_table WHERE user_id = $1".into(),
        ],
    };
    let error = store.erase_user(user_id(2), &plan).await.unwrap_err();
    assert!(error.to_string().contains("no_such_table"), "{error}");
    assert_eq!(counts(store).await, (6, 6, 6));
    assert!(store.erased_users(&[user_id(2)]).await.unwrap().is_empty());
    plan.statements[1] = "DELETE FROM skips WHERE user_id = $1 AND video_id IS NULL".into();
    let erased = store.erase_user(user_id(2), &plan).await.unwrap();
    assert_eq!((erased.likes, erased.skips), (0, 0));
    assert_eq!(erased.statements, [2, 0]);
    assert_eq!(counts(store).await, (4, 6, 4));
}

async fn a_table_of_ours_is_erased_where_the_other_is_read_elsewhere(store: &Store) {
    with_people(store).await;
    for (user, table, left) in [(1, "likes", (4, 4, 4)), (2, "skips", (2, 2, 2))] {
        // The statement stands for the one that deletes in the other table.
        let plan = ErasePlan {
            likes: table != "likes",
            skips: table != "skips",
            statements: vec![format!("DELETE FROM {table} WHERE user_id = $1")],
        };
        let erased = store.erase_user(user_id(user), &plan).await.unwrap();
        let expected = if plan.likes { (2, 0) } else { (0, 2) };
        assert_eq!((erased.likes, erased.skips), expected, "{table}");
        assert_eq!(erased.statements, [2], "{table}");
        assert_eq!(counts(store).await, left, "{table}");
    }
}

async fn a_snapshot_is_the_same_as_if_they_had_never_been_there(store: &Store) {
    with_videos(store, 4).await;
    let rows = |users: &[u128]| -> Vec<_> {
        let rows = users.iter().flat_map(|&user| {
            [1, 2, 4].map(|video| row(user, video, START_US + (user * video) as i64))
        });
        rows.collect()
    };
    store
        .write_interactions(LIKE, &rows(&[1, 3]))
        .await
        .unwrap();
    let without = snapshot(store).await;
    assert_eq!(without.erasures_seen, 0);
    // The first and the last by time and by id, and one between them.
    store
        .write_interactions(LIKE, &rows(&[0, 2, 9]))
        .await
        .unwrap();
    store.write_interactions(SKIP, &rows(&[9])).await.unwrap();
    let with = snapshot(store).await;
    assert_ne!(
        snapshot_sha256(&with.dataset),
        snapshot_sha256(&without.dataset)
    );
    // The rows remain, as if an old session of the application had written them afterwards.
    let mut last = 0;
    for user in [0, 2, 9] {
        let plan = ErasePlan::default();
        let erased = store.erase_user(user_id(user), &plan);
        last = erased.await.unwrap().number;
    }
    assert_eq!(store.counts().await.unwrap().users, 5);
    let erased = snapshot(store).await;
    assert_eq!(
        snapshot_sha256(&erased.dataset),
        snapshot_sha256(&without.dataset)
    );
    assert_eq!(erased.users, without.users);
    assert_eq!(erased.cut_off_us, without.cut_off_us);
    assert_eq!(erased.erasures_seen, last);
    let seen = store.last_seen(&Source::default()).await.unwrap();
    let seen: Vec<_> = seen.iter().map(|seen| (seen.user, seen.at_us)).collect();
    assert_eq!(
        seen,
        [(user_id(1), START_US + 4), (user_id(3), START_US + 12)]
    );
}

async fn nobody_brings_them_back(store: &Store) {
    with_people(store).await;
    let gone = user_id(2);
    store.erase_user(gone, &plan()).await.unwrap();
    let before = counts(store).await;
    let error = store.user_history(gone, 10).await.unwrap_err();
    assert!(matches!(error, StoreError::ErasedUser), "{error}");
    for kind in [LIKE, SKIP] {
        let error = store.record(kind, gone, video_id(1)).await.unwrap_err();
        assert!(matches!(error, StoreError::ErasedUser), "{error}");
        // An older file with another user.
        let rows = [
            row(2, 1, START_US),
            row(2, 3, START_US),
            row(7, 1, START_US),
        ];
        assert_eq!(store.write_interactions(kind, &rows).await.unwrap(), 1);
    }
    let rows = vector_rows(&[user_id(1), gone, user_id(3)]);
    let written = store.write_embeddings(VectorTable::Users, 2, &rows);
    written.await.unwrap();
    let (likes, skips, vectors) = before;
    assert_eq!(counts(store).await, (likes + 1, skips + 1, vectors));
    // A video may have any id.
    let videos = vector_rows(&[gone]);
    let written = store.write_embeddings(VectorTable::Videos, 2, &videos);
    written.await.unwrap();
    let active = store.active_users(10).await.unwrap();
    assert!(active.iter().all(|user| user.user != gone));
    assert!(
        !store
            .user_history(user_id(1), 10)
            .await
            .unwrap()
            .likes
            .is_empty()
    );
    let nobody = store.user_history(user_id(99), 10).await.unwrap();
    assert!(nobody.likes.is_empty() && nobody.skips.is_empty());
}

async fn versions_trained_before_are_known(store: &Store) {
    with_people(store).await;
    for version in 1..=4 {
        store.register_model(&model(version)).await.unwrap();
    }
    assert!(store.erasures_unseen().await.unwrap().is_empty());
    let first = store.erase_user(user_id(1), &plan()).await.unwrap();
    let mut after = model(5);
    after.erasures_seen = Some(snapshot(store).await.erasures_seen);
    store.register_model(&after).await.unwrap();
    let mut unknown = model(6);
    unknown.erasures_seen = None;
    store.register_model(&unknown).await.unwrap();
    store.fail_model(3, "test").await.unwrap();
    store.prune_model(4).await.unwrap();
    let at = first.erased_at_us;
    assert_eq!(store.erasures_unseen().await.unwrap(), [(1, at), (2, at)]);
    let second = store.erase_user(user_id(2), &plan()).await.unwrap();
    let later = second.erased_at_us;
    let expected = [(1, at), (2, at), (5, later), (6, later)];
    assert_eq!(store.erasures_unseen().await.unwrap(), expected);
    let models = store.models().await.unwrap();
    let before = |erased| -> Vec<i64> {
        let before = models.iter().filter(|model| model.is_before(erased));
        before.map(|model| model.version).collect()
    };
    assert_eq!(before(&first), [4, 3, 2, 1]);
    assert_eq!(before(&second), [6, 5, 4, 3, 2, 1]);
}

async fn every_spelling_of_an_id_is_found_in_rows(store: &Store) {
    let user = Uuid::from_u128(0xabcd_ef01_2345_4678_9abc_def0_1234_5678);
    let mut video = super::video(1);
    let hidden = [
        user.hyphenated().to_string(),
        user.hyphenated().to_string().to_uppercase(),
        user.simple().to_string(),
    ];
    for (n, text) in (1..).zip(&hidden) {
        video.id = video_id(n);
        video.description = format!("by {text}.");
        store.write_videos(&[video.clone()]).await.unwrap();
    }
    let likes = [twotower_store::InteractionRow {
        user,
        video: video_id(1),
        at_us: START_US,
    }];
    let written = store.write_interactions(InteractionKind::Like, &likes);
    written.await.unwrap();
    let source = Source::default();
    let found = store.search_rows(user, &source).await.unwrap();
    let schema = match store.kind() {
        twotower_store::StoreKind::Postgres => "public.",
        twotower_store::StoreKind::Sqlite => "",
    };
    let expected = [("likes.user_id", 1), ("videos.description", 3)]
        .map(|(column, rows)| (format!("{schema}{column}"), rows));
    assert_eq!(found.found, expected);
    assert!(
        found
            .searched
            .contains(&format!("{schema}user_embeddings.user_id"))
    );
    assert!(found.not_searched.is_empty(), "{:?}", found.not_searched);
    let nobody = store.search_rows(user_id(77), &source).await.unwrap();
    assert!(nobody.found.is_empty());
    assert_eq!(nobody.searched, found.searched);
}

/// Users and videos whose ids are the same numbers.
async fn an_id_that_a_video_has_too_is_the_videos_where_videos_are(store: &Store) {
    with_videos(store, 2).await;
    let (both, source) = (video_id(1), Source::default());
    let mut video = super::video(2);
    video.description = format!("by {both}");
    store.write_videos(&[video]).await.unwrap();
    let vectors = vector_rows(&[both]);
    for table in [VectorTable::Videos, VectorTable::Users] {
        let written = store.write_embeddings(table, 1, &vectors);
        written.await.unwrap();
    }
    let likes = [user_id(1), both].map(|user| twotower_store::InteractionRow {
        user,
        video: both,
        at_us: START_US,
    });
    let written = store.write_interactions(LIKE, &likes);
    written.await.unwrap();
    for (kind, value) in [
        (BlockKind::Video, both.to_string()),
        (BlockKind::Maker, format!("{both}")),
    ] {
        let block = Block { kind, value };
        store.add_block(user_id(2), &block).await.unwrap();
    }
    let schema = match store.kind() {
        twotower_store::StoreKind::Postgres => "public.",
        twotower_store::StoreKind::Sqlite => "",
    };
    let places = |columns: &[(&str, u64)]| {
        let columns = columns.iter();
        let mut places: Vec<_> = columns
            .map(|(column, rows)| (format!("{schema}{column}"), *rows))
            .collect();
        places.sort();
        places
    };
    let mut rows = store.search_rows(both, &source).await.unwrap();
    rows.found.sort();
    rows.passed_over.sort();
    assert!(rows.is_video);
    let of_user = [
        ("likes.user_id", 1),
        ("recommendation_blocks.value", 1),
        ("user_embeddings.user_id", 1),
        ("videos.description", 1),
    ];
    assert_eq!(rows.found, places(&of_user));
    let of_video = [
        ("likes.video_id", 2),
        ("recommendation_blocks.value", 1),
        ("video_embeddings.video_id", 1),
        ("video_performers.video_id", 2),
        ("video_tags.video_id", 3),
        ("videos.id", 1),
    ];
    assert_eq!(rows.passed_over, places(&of_video));
    // For an id that is no video's, columns of video ids count like any other.
    let rows = store.search_rows(user_id(1), &source).await.unwrap();
    assert!(!rows.is_video && rows.passed_over.is_empty());
    assert_eq!(rows.found, places(&[("likes.user_id", 1)]));
}

async fn a_pruned_version_says_so(store: &Store) {
    for version in 1..=3 {
        store.register_model(&model(version)).await.unwrap();
        let candidate = store.set_model_state(version, ModelState::Candidate);
        candidate.await.unwrap();
    }
    store.register_model(&model(3)).await.unwrap();
    store.activate_model(&promotion(1)).await.unwrap();
    let error = store.prune_model(1).await.unwrap_err();
    assert!(matches!(error, StoreError::ActiveModel(1)), "{error}");
    let error = store.prune_model(9).await.unwrap_err();
    assert!(matches!(error, StoreError::UnknownModel(9)), "{error}");
    for version in [2, 3, 2] {
        store.prune_model(version).await.unwrap();
    }
    let models = store.models().await.unwrap();
    let states: Vec<_> = models
        .iter()
        .map(|model| (model.version, model.state, model.pruned_at_us.is_some()))
        .collect();
    assert_eq!(
        states,
        [
            (3, ModelState::Failed, true),
            (2, ModelState::Retired, true),
            (1, ModelState::Active, false)
        ]
    );
    // Loaded again, it is a version like any other.
    store.register_model(&model(2)).await.unwrap();
    let again = store.model_details(2).await.unwrap();
    assert_eq!(again.record.pruned_at_us, None);
    assert!(!store.drop_vector_index(2).await.unwrap());
}
