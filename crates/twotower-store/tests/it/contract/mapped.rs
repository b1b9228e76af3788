//! Serving from the application's own tables; our own tables stand in for those.

use super::events::{start, with_models};
use super::{DAY_US, LIKE, SKIP, START_US, contract, row, user_id, video_id, with_videos};
use std::time::Duration;
use twotower_store::{
    Arm, ErasePlan, EventKind, EventPolicy, ExperimentUser, InteractionKind, InteractionRow,
    NewEvent, SnapshotOptions, Source, Store, StoreError, StoreKind, UserState, VideoFacts,
};
use uuid::Uuid;

contract! {
    other_tables_tell_what_ours_would,
    likes_in_other_tables_are_seen_and_never_written,
    videos_in_other_tables_are_the_ones_that_exist,
    an_experiment_is_counted_by_videos_in_other_tables,
    of_an_erased_user_other_tables_tell_nothing,
    a_source_that_cannot_be_run_is_named_before_it_is_used,
    a_source_of_our_own_tables_changes_nothing,
}

const USERS: u128 = 9;
const VIDEOS: u128 = 30;

async fn mapped(store: &Store, source: &Source) -> Store {
    store.with_source(source).await.unwrap()
}

/// Likes and skips at few distinct times, so that many coincide (`SplitMix64`, Steele et al. 2014).
fn interactions(seed: u64) -> Vec<InteractionRow> {
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    };
    (0..120)
        .map(|_| {
            let (user, video) = (random(USERS as u64), 1 + random(VIDEOS as u64));
            row(user.into(), video.into(), START_US + random(5) as i64)
        })
        .collect()
}

/// Likes or skips from a query that renames the columns and returns each row a second time, an hour
/// later, with the ids in `spelling`.
fn query(store: &Store, table: &str, spelling: usize) -> String {
    let (ids, hour) = match store.kind() {
        StoreKind::Postgres => (
            ["{}", "{}::text", "upper({}::text)", "replace({}::varchar, '-', '')"],
            "interval '1 hour'",
        ),
        StoreKind::Sqlite => (
            [
                "{}",
                "lower(substr(hex({}), 1, 8) || '-' || substr(hex({}), 9, 4) || '-' || substr(hex({}), 13, 4) || '-' ||
                 substr(hex({}), 17, 4) || '-' || substr(hex({}), 21))",
                "hex({})",
                "lower(hex({}))",
            ],
            "3600000000",
        ),
    };
    let id = |column: &str| ids[spelling].replace("{}", column);
    let (user, video) = (id("user_id"), id("video_id"));
    format!(
        "SELECT created_at + {hour} AS created_at, {user} AS user_id, {video} AS video_id FROM {table} UNION ALL
         SELECT created_at, {user}, {video} FROM {table} -- each twice"
    )
}

async fn facts(store: &Store) -> Vec<VideoFacts> {
    let mut facts = Vec::new();
    let mut collect = |video| facts.push(video);
    store.for_each_video_facts(&mut collect).await.unwrap();
    facts
}

async fn other_tables_tell_what_ours_would(store: &Store) {
    with_videos(store, VIDEOS).await;
    let users: Vec<Uuid> = (0..=USERS).map(user_id).collect();
    for (round, seed) in [1, 2].into_iter().enumerate() {
        for (kind, seed) in [(LIKE, seed), (SKIP, seed + 100)] {
            let rows = interactions(seed);
            store.write_interactions(kind, &rows).await.unwrap();
        }
        let ours = Source::default();
        for spelling in 2 * round..2 * round + 2 {
            let likes = query(store, "likes", spelling);
            let skips = query(store, "skips", spelling);
            for (likes, skips) in [
                (&likes, &ours.skips),
                (&ours.likes, &skips),
                (&likes, &skips),
            ] {
                let (likes, skips) = (likes.clone(), skips.clone());
                let source = Source {
                    likes,
                    skips,
                    ..Source::default()
                };
                let other = mapped(store, &source).await;
                for limit in [0, 3, 1000, UserState::EVERY_SKIP] {
                    let expected = store.user_states(&users, limit).await.unwrap();
                    let told = other.user_states(&users, limit).await.unwrap();
                    assert_eq!(told, expected, "{source:?}, {limit} skips");
                }
                let mut counts = [Vec::new(), Vec::new()];
                for (counts, store) in counts.iter_mut().zip([store, &other]) {
                    *counts = store.like_counts().await.unwrap();
                    counts.sort_unstable();
                }
                assert_eq!(counts[0], counts[1]);
                for &user in &users {
                    let history = store.user_history(user, 4).await.unwrap();
                    assert_eq!(other.user_history(user, 4).await.unwrap(), history);
                }
                let active = store.active_users(3).await.unwrap();
                assert_eq!(other.active_users(3).await.unwrap(), active);
            }
        }
    }
    // A query of tags returns one twice, and one of a missing video.
    let ours = Source::default();
    for (videos, tags, performers) in [
        (true, false, false),
        (false, true, true),
        (true, true, true),
    ] {
        let twice = |query: &String| format!("{query} UNION ALL {query}");
        let pick = |other: bool, query: &String| if other { twice(query) } else { query.clone() };
        let source = Source {
            videos: if videos {
                format!("SELECT * FROM ({}) AS films;", ours.videos)
            } else {
                ours.videos.clone()
            },
            video_tags: pick(tags, &ours.video_tags),
            video_performers: pick(performers, &ours.video_performers),
            ..Source::default()
        };
        let other = mapped(store, &source).await;
        assert_eq!(facts(&other).await, facts(store).await, "{source:?}");
        let asked = [video_id(2), video_id(99), video_id(30)];
        let expected = store.video_facts(&asked).await.unwrap();
        assert_eq!(expected.len(), 2);
        assert_eq!(other.video_facts(&asked).await.unwrap(), expected);
    }
}

fn event(id: u128, kind: EventKind, video: u128) -> NewEvent {
    NewEvent {
        event_id: Uuid::from_u128(id),
        kind,
        video: video_id(video),
        watch_fraction: None,
        model_version: None,
        request_id: None,
        position: None,
        at_us: None,
    }
}

async fn likes_in_other_tables_are_seen_and_never_written(store: &Store) {
    with_videos(store, 3).await;
    let (user, all) = (user_id(1), EventPolicy::All);
    // Our table of skips stands in for favourites.
    let source = Source {
        likes: "SELECT user_id, video_id, created_at FROM skips".into(),
        ..Source::default()
    };
    let other = mapped(store, &source).await;
    assert!(other.reads_elsewhere(LIKE) && !other.reads_elsewhere(SKIP));
    // Changes of blocks and erasures are notified all the same, if any are.
    let hears = async |store: &Store| store.listen_user_changes().await.unwrap().is_some();
    assert_eq!(hears(&other).await, hears(store).await);
    store.record(SKIP, user, video_id(2)).await.unwrap();
    let state = other.user_state(user, 9).await.unwrap();
    assert_eq!(state.likes, [video_id(2)]);
    assert_eq!(other.liked_videos(user).await.unwrap(), [video_id(2)]);
    // Stores derived from it read there, too.
    let hurried = other.hurried(Duration::from_secs(9)).apart(1);
    assert_eq!(hurried.user_state(user, 9).await.unwrap(), state);
    let events = [event(1, EventKind::View, 1), event(2, EventKind::Like, 1)];
    for refused in [
        other.record_events(user, &events, all).await.map(|_| false),
        other.record(LIKE, user, video_id(1)).await,
    ] {
        assert!(
            matches!(refused, Err(StoreError::ReadElsewhere(LIKE))),
            "{refused:?}"
        );
    }
    assert_eq!(store.count_events(Duration::ZERO).await.unwrap(), 0);
    let views = [event(1, EventKind::View, 1), event(3, EventKind::Skip, 3)];
    let taken = other.record_events(user, &views, all).await.unwrap();
    assert_eq!(taken.accepted, 2);
    assert!(store.liked_videos(user).await.unwrap().is_empty());
    // A query that selects from our own table reads what is written there.
    let some = Source {
        likes: "SELECT user_id, video_id, created_at FROM likes AS own WHERE video_id IS NOT NULL;"
            .into(),
        ..Source::default()
    };
    let some = mapped(store, &some).await;
    assert!(!some.reads_elsewhere(LIKE));
    for n in [1, 3] {
        assert!(some.record(LIKE, user, video_id(n)).await.unwrap());
    }
    let state = some.user_state(user, 9).await.unwrap();
    assert_eq!(
        (
            state.likes.len(),
            store.liked_videos(user).await.unwrap().len()
        ),
        (2, 2)
    );
}

async fn videos_in_other_tables_are_the_ones_that_exist(store: &Store) {
    with_videos(store, 3).await;
    let ours = Source::default();
    let source = Source {
        videos: format!("{} WHERE genre = 'drama' AND maker IS NULL", ours.videos),
        ..ours
    };
    let other = mapped(store, &source).await;
    let ids: Vec<Uuid> = facts(&other).await.iter().map(|video| video.id).collect();
    assert_eq!(ids, [1, 3].map(video_id));
    assert!(other.video_facts(&[video_id(2)]).await.unwrap().is_empty());
    let (user, all) = (user_id(1), EventPolicy::All);
    let like = |video| [event(video, EventKind::Like, video)];
    let unknown = other.record_events(user, &like(2), all).await;
    assert!(matches!(unknown, Err(StoreError::UnknownVideo(id)) if id == video_id(2)));
    other.record_events(user, &like(3), all).await.unwrap();
    let state = other.user_state(user, 9).await.unwrap();
    assert_eq!(state.likes, [video_id(3)]);
}

/// What the one user of the arm that has everybody was shown, and the size of the catalogue.
async fn counted(store: &Store, id: i64) -> (ExperimentUser, u64) {
    let mut users = Vec::new();
    let mut collect = |user: ExperimentUser| users.push(user);
    let totals = store.for_each_experiment_user(id, Arm::Challenger, &mut collect);
    let totals = totals.await.unwrap();
    assert_eq!(users.len(), 1);
    (users[0], totals.coverage.catalogue)
}

async fn an_experiment_is_counted_by_videos_in_other_tables(store: &Store) {
    with_videos(store, 5).await;
    with_models(store).await;
    let id = start(store, 1.0 - f64::EPSILON).await.unwrap();
    let published_us = store.time().await.unwrap().us() - 3 * DAY_US;
    let shown = [1, 2, 3].map(|n| NewEvent {
        at_us: Some(published_us + 4 * DAY_US),
        ..event(n, EventKind::Impression, n)
    });
    let (user, all) = (user_id(1), EventPolicy::All);
    store.record_events(user, &shown, all).await.unwrap();
    let (user, catalogue) = counted(store, id).await;
    assert_eq!((user.shown, user.with_maker, catalogue), (3, 1, 5));

    // Three of the five, each twice, all of one maker and published at the same time.
    let published = match store.kind() {
        StoreKind::Postgres => {
            format!("timestamptz 'epoch' + {published_us} * interval '1 microsecond'")
        }
        StoreKind::Sqlite => published_us.to_string(),
    };
    for spelling in ["id", "{}"] {
        let spelled = match store.kind() {
            StoreKind::Postgres => "upper(replace(id::text, '-', ''))",
            StoreKind::Sqlite => "lower(hex(id))",
        };
        let id_of = spelling.replace("{}", spelled);
        let films = format!(
            "SELECT {id_of} AS id, title, description, genre, 'one' AS maker, price, duration_seconds, {published} AS published_at, thumbnail_url
             FROM videos WHERE maker IS NULL"
        );
        let source = Source {
            videos: format!("{films} UNION ALL {films};"),
            ..Source::default()
        };
        let (user, catalogue) = counted(&mapped(store, &source).await, id).await;
        assert_eq!((user.shown, catalogue), (3, 3), "{id_of}");
        // The second video is in none of the rows.
        assert_eq!((user.with_maker, user.same_maker, user.dated), (2, 1, 2));
        assert!((user.age_days - 8.0).abs() < 1e-6, "{}", user.age_days);
    }
}

async fn of_an_erased_user_other_tables_tell_nothing(store: &Store) {
    with_videos(store, 2).await;
    let source = Source {
        likes: query(store, "likes", 1),
        skips: query(store, "skips", 1),
        ..Source::default()
    };
    let other = mapped(store, &source).await;
    let users = [user_id(1), user_id(2)];
    for user in users {
        store.record(LIKE, user, video_id(1)).await.unwrap();
        store.record(SKIP, user, video_id(2)).await.unwrap();
    }
    // The rows stay, as they would with a wrong statement in [erase].
    let plan = ErasePlan {
        likes: false,
        skips: false,
        statements: Vec::new(),
    };
    store.erase_user(users[0], &plan).await.unwrap();
    let states = other.user_states(&users, 9).await.unwrap();
    assert!(states[0].is_none());
    assert_eq!(states[1].as_ref().unwrap().likes, [video_id(1)]);
    let error = other.user_history(users[0], 9).await.unwrap_err();
    assert!(matches!(error, StoreError::ErasedUser));
    let active = other.active_users(9).await.unwrap();
    assert_eq!(active.len(), 1);
}

/// A query of a source.
type Key = fn(&mut Source) -> &mut String;

async fn a_source_that_cannot_be_run_is_named_before_it_is_used(store: &Store) {
    with_videos(store, 1).await;
    store.record(LIKE, user_id(1), video_id(1)).await.unwrap();
    let keys: [(&str, Key); 5] = [
        ("videos", |source| &mut source.videos),
        ("video_tags", |source| &mut source.video_tags),
        ("video_performers", |source| &mut source.video_performers),
        ("likes", |source| &mut source.likes),
        ("skips", |source| &mut source.skips),
    ];
    for (key, sql) in keys {
        for wrong in [
            "SELECT 1 AS nothing_of_use",
            "SELECT * FROM no_such_table",
            "SELECT",
            "DELETE FROM videos RETURNING *",
            "",
        ] {
            let mut source = Source::default();
            *sql(&mut source) = wrong.into();
            let error = store.with_source(&source).await.unwrap_err();
            assert!(error.is_usage(), "{error}");
            let begin = format!("[source] {key}: ");
            assert!(error.to_string().starts_with(&begin), "{wrong}: {error}");
            // So do jobs.
            let read = store.read_snapshot(&source, SnapshotOptions::default());
            let read = read.await.unwrap_err();
            let seen = store.last_seen(&source).await.unwrap_err();
            let ids = store.source_video_ids(&source).await.unwrap_err();
            for error in [read, seen, ids] {
                let text = error.to_string();
                assert!(text.starts_with(&begin), "{wrong}: {text}");
                assert!(!text.contains(" at line "), "{text}");
                assert!(error.is_usage() && std::error::Error::source(&error).is_none());
            }
        }
    }
    let kinds = |created_at: &str, user: &str| Source {
        likes: format!("SELECT {user} AS user_id, video_id, {created_at} AS created_at FROM likes"),
        ..Source::default()
    };
    for wrong in [kinds("1.5", "user_id"), kinds("created_at", "17")] {
        let error = store.with_source(&wrong).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Source { key: "likes", .. }),
            "{error}"
        );
    }
    assert_eq!(store.counts().await.unwrap().videos, 1);
}

async fn a_source_of_our_own_tables_changes_nothing(store: &Store) {
    with_videos(store, 1).await;
    let ours = mapped(store, &Source::default()).await;
    for kind in [InteractionKind::Like, InteractionKind::Skip] {
        assert!(!ours.reads_elsewhere(kind));
        assert!(ours.record(kind, user_id(1), video_id(1)).await.unwrap());
    }
    // It accepts another source again.
    let source = Source {
        likes: "SELECT user_id, video_id, created_at FROM skips WHERE false".into(),
        ..Source::default()
    };
    let other = mapped(store, &source).await;
    assert!(
        other
            .user_state(user_id(1), 1)
            .await
            .unwrap()
            .likes
            .is_empty()
    );
    let back = mapped(&other, &Source::default()).await;
    assert_eq!(back.user_state(user_id(1), 1).await.unwrap().likes.len(), 1);
}
