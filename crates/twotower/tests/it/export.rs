//! Exports a database to files, and imports them into another one.

use crate::support::{Workplace, new_postgres, sql};
use serde_json::Value;
use std::path::Path;
use tokio::runtime::Runtime;
use twotower::demo::{self, GeneratorOptions};
use twotower_core::feature::{Video, VideoRef};
use twotower_store::{
    ConnectOptions, InteractionKind, InteractionRow, Snapshot, SnapshotOptions, Source, Store,
    snapshot_sha256,
};
use uuid::Uuid;

struct Database {
    place: Workplace,
    store: Store,
    runtime: Runtime,
}

impl Database {
    fn new(place: Workplace) -> Self {
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(async {
            let store = Store::connect(&place.url, ConnectOptions::default())
                .await
                .unwrap();
            store.migrate().await.unwrap();
            store
        });
        Self {
            place,
            store,
            runtime,
        }
    }

    fn empty_ones() -> [Self; 2] {
        [
            Self::new(Workplace::on_sqlite()),
            Self::new(Workplace::on_postgres(new_postgres())),
        ]
    }

    /// Users who like and skip, and a video with every column set.
    fn filled() -> [Self; 2] {
        Self::empty_ones().map(|database| {
            let options = GeneratorOptions {
                users: 60,
                videos: 80,
                likes: 900,
                ..GeneratorOptions::default()
            };
            let world = demo::generate(&options);
            let all = Video {
                id: Uuid::from_u128(7),
                title: "北の旅".into(),
                description: "a|b, \"c\"\nd".into(),
                genre: Some("travel".into()),
                maker: Some("こもれび工房".into()),
                price: Some(0.1),
                duration_seconds: Some(840.5),
                published_at_us: Some(-1),
                thumbnail_url: Some("https://example.org/7.jpg".into()),
                tags: vec!["a b".into(), "雪".into()],
                performers: vec!["Neon Owl".into()],
            };
            // As an application may have written it; `import` would not.
            let untidy = Video {
                id: Uuid::from_u128(8),
                title: "\u{3000}海\n".into(),
                genre: Some(" ".into()),
                maker: Some(" こもれび工房".into()),
                price: Some(-1.0),
                tags: vec![" ".into(), "雪".into(), "雪 ".into()],
                ..Video::default()
            };
            database.runtime.block_on(async {
                let store = &database.store;
                demo::write(store, &world, &|_, _| {}).await.unwrap();
                store.write_videos(&[all, untidy]).await.unwrap();
                let like = InteractionRow {
                    user: Uuid::from_u128(u128::MAX),
                    video: Uuid::from_u128(7),
                    at_us: 1_700_000_000_123_457,
                };
                store
                    .write_interactions(InteractionKind::Like, &[like])
                    .await
                    .unwrap();
            });
            database
        })
    }

    fn snapshot(&self, max_age_days: Option<u32>) -> Snapshot {
        let options = SnapshotOptions {
            max_age_days,
            ..SnapshotOptions::default()
        };
        let read = async {
            let source = Source::default();
            self.store.read_snapshot(&source, options).await.unwrap()
        };
        self.runtime.block_on(read)
    }

    fn import(&self, folder: &Path) -> Value {
        let mut files = Vec::new();
        for kind in ["videos", "likes", "skips"] {
            for file in std::fs::read_dir(folder.join(kind)).unwrap() {
                files.push(file.unwrap().path().display().to_string());
            }
        }
        self.place.json(&format!("import {}", files.join(" ")))
    }
}

#[test]
fn an_export_imported_is_the_same_database() {
    for from in Database::filled() {
        let report = from
            .place
            .json("export --to out --user-ids --rows-per-file 100");
        assert_eq!(report["pseudonyms"], false);
        let folder = from.place.folder.path().join("out");
        let files = report["likes"]["files"].as_array().unwrap();
        assert!(files.len() > 2, "{report}");
        assert!(
            files[..files.len() - 1]
                .iter()
                .all(|file| file["rows"] == 100)
        );
        let before = from.snapshot(None);
        assert_eq!(report["latest_at_us"].as_i64(), before.cut_off_us);
        for to in Database::empty_ones() {
            to.import(&folder);
            let after = to.snapshot(None);
            assert_eq!(
                (&before.users, before.cut_off_us),
                (&after.users, after.cut_off_us)
            );
            let videos = |snapshot: &Snapshot| -> Vec<Video> {
                let videos = snapshot.dataset.catalogue.videos();
                videos.map(VideoRef::to_video).collect()
            };
            assert_eq!(videos(&before), videos(&after));
            let untidy = videos(&after)
                .into_iter()
                .find(|video| video.id == Uuid::from_u128(8));
            let tidy = Video {
                id: Uuid::from_u128(8),
                title: "海".into(),
                maker: Some("こもれび工房".into()),
                tags: vec!["雪".into()],
                ..Video::default()
            };
            assert_eq!(untidy, Some(tidy));
            assert_eq!(before.dataset.likes, after.dataset.likes);
            assert_eq!(before.dataset.skips, after.dataset.skips);
            let row = "SELECT count(*) FROM likes WHERE created_at = timestamptz 'epoch' + 1700000000123457 * interval '1 microsecond'";
            if to.place.url.starts_with("postgres") {
                assert_eq!(sql(&to.place.url, row), "1", "to the microsecond");
            }
        }
        let manifest = std::fs::read(folder.join("export.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["videos"], report["videos"]);
    }
}

/// Training gets the same data, without any user's id.
#[test]
fn pseudonyms_keep_the_order_of_users_and_their_ids_stay() {
    for from in Database::filled() {
        let gone = from.snapshot(None).users[5];
        from.place.json(&format!("erase --user {gone}"));
        let report = from.place.json("export --to out");
        assert_eq!(report["pseudonyms"], true);
        let folder = from.place.folder.path().join("out");
        let (before, to) = (from.snapshot(None), Database::new(Workplace::on_sqlite()));
        to.import(&folder);
        let after = to.snapshot(None);
        assert_eq!(
            snapshot_sha256(&before.dataset),
            snapshot_sha256(&after.dataset)
        );
        let mut users = after.users.clone();
        users.sort_unstable();
        let numbers = (1..=users.len() as u128).map(Uuid::from_u128);
        assert_eq!(users, numbers.collect::<Vec<_>>());
        let warned = from.place.run(&format!(
            "import {}",
            folder.join("likes/likes-00000.parquet").display()
        ));
        let log = String::from_utf8_lossy(&warned.stderr);
        assert!(
            log.contains("the users of these likes are pseudonyms"),
            "{log}"
        );
    }
}

#[test]
fn old_likes_and_those_of_unknown_videos_stay() {
    for from in Database::filled() {
        let report = from
            .place
            .json("export --to out --user-ids --max-age-days 20");
        let folder = from.place.folder.path().join("out");
        let (before, to) = (
            from.snapshot(Some(20)),
            Database::new(Workplace::on_sqlite()),
        );
        assert!(before.dataset.likes.len() < from.snapshot(None).dataset.likes.len());
        to.import(&folder);
        let after = to.snapshot(None);
        assert_eq!(
            snapshot_sha256(&before.dataset),
            snapshot_sha256(&after.dataset)
        );
        assert_eq!(report["orphans"], 0);

        let videos = "[source]\nvideos = \"SELECT id, title, description, genre, maker, price, duration_seconds, published_at, thumbnail_url FROM videos WHERE title <> '北の旅'\"";
        from.place.configure(videos);
        let report = from.place.json("export --to fewer");
        assert_eq!(
            (&report["orphans"], &report["videos"]["rows"]),
            (&1.into(), &81.into())
        );
    }
}

#[test]
fn half_an_export_is_none() {
    for from in Database::filled() {
        let root = from.place.folder.path();
        let entries = || {
            let entries = std::fs::read_dir(root).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| !name.starts_with("test.db"))
                .collect();
            names.sort();
            names
        };
        from.place.configure(
            "[source]\nskips = \"SELECT user_id, NULL AS video_id, created_at FROM skips UNION ALL SELECT user_id, NULL, created_at FROM likes\"",
        );
        let log = from.place.refused("export --to out", 1);
        assert!(log.contains("skips: column video_id"), "{log}");
        assert_eq!(entries(), ["twotower.toml"]);
        std::fs::create_dir(root.join("full")).unwrap();
        std::fs::write(root.join("full/file"), "").unwrap();
        let log = from.place.refused("export --to full", 1);
        assert!(log.contains("full holds something already"), "{log}");
        std::fs::create_dir(root.join("target")).unwrap();
        std::os::unix::fs::symlink("target", root.join("link")).unwrap();
        let log = from.place.refused("export --to link", 1);
        assert!(log.contains("name a folder inside it"), "{log}");
        let log = from.place.refused("export --to full/file", 1);
        assert!(log.contains("is a file, not a folder"), "{log}");
        let log = from.place.refused("export --to s3://bucket/out", 1);
        assert!(log.contains("is no folder"), "{log}");
    }
}
