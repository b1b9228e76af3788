//! Imports onto a failing disk, imports of files on such a disk, and imports that are killed.

use super::errors::goes_well;
use super::faults::{Action, EVERY_FAULT, IO_ERROR, Watched};
use super::kills::calls;
use super::{Tried, report, trials};
use crate::serve::fixture::{VIDEOS, user, video};
use crate::support::Workplace;
use std::fmt::Write;
use tokio::runtime::Runtime;
use twotower_store::{ConnectOptions, SnapshotOptions, Source, Store, snapshot_sha256};
use uuid::Uuid;

const USERS: u128 = 300;

/// Videos, likes and skips in files of three formats, each small enough for one transaction.
pub(super) struct Files {
    pub(super) folder: tempfile::TempDir,
    /// The command that imports all of them.
    pub(super) line: String,
    /// A database with all of them imported.
    pub(super) imported: Workplace,
    /// The content of that database.
    pub(super) content: Content,
}

/// The application's data in a database.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Videos, likes, skips.
    pub(super) counts: [u64; 3],
    users: Vec<Uuid>,
    sha256: String,
}

impl Files {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let header = "user_id,video_id,created_at\n";
        let (mut videos, mut likes, mut skips) =
            (String::new(), header.to_owned(), header.to_owned());
        for n in 1..=VIDEOS {
            let id = video(n);
            writeln!(videos, r#"{{"id": "{id}", "title": "Video {n}"}}"#).unwrap();
        }
        let row = |rows: &mut String, n: u128, of: u128| {
            let (user, video) = (user(n % USERS), video(1 + of % VIDEOS));
            writeln!(rows, "{user},{video},{}", 1_700_000_000 + n).unwrap();
        };
        for n in 0..4 * USERS {
            row(&mut likes, n, n % USERS + n / USERS * 7);
        }
        for n in 0..USERS {
            row(&mut skips, n, n + 3);
        }
        let videos = write("videos.jsonl", &videos);
        let likes = write("likes.csv", &likes);
        let skips = write("skips.csv", &skips);
        let imported = Workplace::on_sqlite();
        imported.json(&format!("import {videos} {likes} {skips}"));
        imported.json("export --to out --user-ids");
        let out = imported.folder.path().join("out");
        let parquet = folder.path().join("skips.parquet");
        std::fs::copy(out.join("skips/skips-00000.parquet"), &parquet).unwrap();
        let content = content(&imported.url);
        assert_eq!(content.counts, [VIDEOS, 4 * USERS, USERS].map(|n| n as u64));
        Self {
            line: format!("import {videos} {likes} {}", parquet.display()),
            folder,
            imported,
            content,
        }
    }

    /// Checks the database after an import that ended at any instant: each file is imported
    /// completely or not at all, and in order.
    pub(super) fn check_part(&self, url: &str, instant: &str) {
        let found = content(url).counts;
        let [videos, likes, skips] = self.content.counts;
        let parts = [
            [0, 0, 0],
            [videos, 0, 0],
            [videos, likes, 0],
            [videos, likes, skips],
        ];
        assert!(parts.contains(&found), "{instant}: {found:?}");
    }
}

pub(super) fn content(url: &str) -> Content {
    let read = async {
        let store = Store::connect(url, ConnectOptions::default())
            .await
            .unwrap();
        // If it ended early, the tables may not exist.
        store.migrate().await.unwrap();
        let counts = store.counts().await.unwrap();
        let (source, options) = (Source::default(), SnapshotOptions::default());
        let snapshot = store.read_snapshot(&source, options).await.unwrap();
        store.close().await;
        Content {
            counts: [counts.videos, counts.likes, counts.skips],
            sha256: snapshot_sha256(&snapshot.dataset),
            users: snapshot.users,
        }
    };
    Runtime::new().unwrap().block_on(read)
}

#[test]
fn heavy_imports_onto_a_disk_that_fails() {
    let files = Files::new();
    let watched = |place: &Workplace| Watched::below(&place.folder.path().join("test.db"));
    let place = Workplace::on_sqlite();
    let total = calls(&place, &files.line, &watched(&place));
    assert_eq!(content(&place.url), files.content);
    let (mut tried, mut well) = (Tried::default(), 0);
    for (at, action) in trials(total, 6, &EVERY_FAULT) {
        let place = Workplace::on_sqlite();
        let instant = format!("{action:?} at call {at} of {total} of `{}`", files.line);
        let watched = watched(&place);
        let places = (&["database", "test.db"][..], &mut tried);
        if goes_well(&place, &files.line, &watched, (at, action), places) {
            well += 1;
            assert_eq!(content(&place.url), files.content, "{instant}");
        } else {
            files.check_part(&place.url, &instant);
        }
        place.json(&files.line);
        assert_eq!(content(&place.url), files.content, "{instant}");
    }
    report(&format!(
        "import onto a disk that fails, or killed: {tried} instants among {total} calls, {well} of them tried again with success"
    ));
    tried.check();
    assert!(well < tried.all);
}

/// A file that cannot be read must not be treated as an invalid row that may be skipped.
#[test]
fn heavy_imports_from_a_disk_that_fails() {
    let files = Files::new();
    let line = format!("{} --on-error skip", files.line);
    let watched = Watched::reading(files.folder.path());
    let total = calls(&Workplace::on_sqlite(), &line, &watched);
    let actions = [Action::Error(IO_ERROR), Action::Errors(IO_ERROR)];
    let (mut tried, mut well) = (Tried::default(), 0);
    for (at, action) in trials(total, 5, &actions) {
        let place = Workplace::on_sqlite();
        let instant = format!("{action:?} at call {at} of {total} of `{line}`");
        let places = ["videos.jsonl", "likes.csv", "skips.parquet"];
        let places = (&places[..], &mut tried);
        if goes_well(&place, &line, &watched, (at, action), places) {
            well += 1;
            assert_eq!(content(&place.url), files.content, "{instant}");
        } else {
            files.check_part(&place.url, &instant);
        }
        place.json(&line);
        assert_eq!(content(&place.url), files.content, "{instant}");
    }
    report(&format!(
        "import from a disk that fails: {tried} instants among {total} reads, {well} of them without harm"
    ));
    tried.check();
    assert!(well < tried.all);
}
