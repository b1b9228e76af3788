//! Imports files into an embedded database.

mod formats;

mod texts;

use clap::Parser;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;
use twotower::demo::{self, GeneratorOptions};
use twotower::import::{self, ImportArgs, Report};
use twotower::interrupt::Interrupt;
use twotower_core::feature::{Video, VideoRef};
use twotower_store::{ConnectOptions, Counts, Snapshot, SnapshotOptions, Source, Store};
use uuid::Uuid;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    import: ImportArgs,
}

/// An empty, migrated database that is deleted with its folder.
struct Database {
    store: Store,
    folder: TempDir,
}

impl Database {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = Store::connect(&url, ConnectOptions::default())
            .await
            .unwrap();
        store.migrate().await.unwrap();
        Self { store, folder }
    }

    /// Imports like the command line.
    async fn import(&self, arguments: &str) -> anyhow::Result<Report> {
        let words = ["import"].into_iter().chain(arguments.split_whitespace());
        let args = Cli::try_parse_from(words)?.import;
        import::run(&self.store, &args, &Interrupt::default(), &|_, _| {}).await
    }

    async fn snapshot(&self) -> Snapshot {
        let (source, options) = (Source::default(), SnapshotOptions::default());
        self.store.read_snapshot(&source, options).await.unwrap()
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/import");
    folder.join(name).display().to_string()
}

fn id(text: &str) -> Uuid {
    import::id::from_text(text).unwrap()
}

fn counts(snapshot: &Snapshot) -> (usize, usize, usize, usize) {
    let data = &snapshot.dataset;
    (
        data.catalogue.len(),
        data.users,
        data.likes.len(),
        data.skips.len(),
    )
}

#[tokio::test]
async fn files_in_any_order_arrive_whole() {
    let database = Database::new().await;
    let [videos, likes, skips] = ["videos.csv", "likes.csv", "skips.jsonl"].map(fixture);
    let columns =
        "--column likes.user_id=uid --column likes.video_id=video --column likes.created_at=ts";
    let command = format!("{skips} {likes} {videos} {columns}");
    let report = database.import(&command).await.unwrap();
    let inserted: Vec<u64> = report.files.iter().map(|file| file.inserted).collect();
    assert_eq!(inserted, [5, 6, 3], "videos come first, likes second");

    let snapshot = database.snapshot().await;
    assert_eq!(counts(&snapshot), (5, 3, 6, 3));
    let catalogue = &snapshot.dataset.catalogue;
    let video = |text: &str| {
        let position = catalogue.position(id(text)).unwrap();
        catalogue.video(position as usize).to_video()
    };
    assert_eq!(
        video("2"),
        Video {
            id: id("2"),
            title: "真夜中のラーメン".to_owned(),
            description: "湯気と、\"もう一杯\"。".to_owned(),
            genre: Some("cooking".to_owned()),
            maker: Some("こもれび工房".to_owned()),
            price: Some(0.0),
            duration_seconds: Some(840.5),
            published_at_us: Some(1_769_903_999_000_000),
            thumbnail_url: None,
            tags: vec!["ラーメン".to_owned(), "深夜".to_owned()],
            performers: vec![],
        }
    );
    assert_eq!(video("clip-4").tags, ["tide pools"]);
    assert_eq!(video("clip-4").performers, ["Neon Owl", "Velvet Heron"]);
    assert_eq!(snapshot.cut_off_us, import::time::parse("2026-03-03"));
    let users: BTreeSet<Uuid> = snapshot.users.iter().copied().collect();
    assert_eq!(users, ["ann", "ben", "1001"].map(id).into());
    let order: Vec<Uuid> = snapshot
        .dataset
        .likes
        .iter()
        .map(|like| catalogue.id(like.item as usize))
        .collect();
    let clip = id("6f2c0e2e-9d0b-4c6e-8f0e-0d6a4b1c2d3e");
    assert_eq!(
        order,
        [id("1"), id("2"), id("1"), id("clip-4"), clip, id("2")]
    );

    let again = database.import(&command).await.unwrap();
    for file in &again.files {
        assert_eq!((file.inserted, file.updated), (0, 0), "{file}");
        assert_eq!(file.unchanged, file.rows);
    }
    assert_eq!(counts(&database.snapshot().await), (5, 3, 6, 3));
}

#[tokio::test]
async fn a_changed_video_is_reported_as_changed() {
    let database = Database::new().await;
    let before = database.file("videos.csv", "id,title,tags\n1,a,x\n2,b,y\n");
    database
        .import(&before.display().to_string())
        .await
        .unwrap();
    let after = database.file("videos.csv", "id,title,tags\n1,a,x\n2,b,z\n3,c,\n");
    let report = database.import(&after.display().to_string()).await.unwrap();
    assert_eq!(
        report.to_string(),
        format!(
            "{}: 3 videos, 1 new, 1 changed, 1 already there",
            after.display()
        )
    );
}

impl Database {
    /// Imports `content` under `name` and returns the video with id 1.
    async fn video_after(&self, name: &str, content: &str) -> Video {
        let path = self.file(name, content);
        let report = self.import(&path.display().to_string()).await.unwrap();
        assert_eq!(report.skipped(), 0);
        let catalogue = self.snapshot().await.dataset.catalogue;
        let position = catalogue.position(id("1")).unwrap();
        catalogue.video(position as usize).to_video()
    }
}

#[tokio::test]
async fn columns_that_a_file_has_not_stay_as_they_are() {
    let database = Database::new().await;
    let whole = "id,title,description,genre,maker,price,duration_seconds,published_at,thumbnail_url,tags,performers\n\
                 1,Trip,By train,travel,Studio,100,60,2026-01-01,https://example.com/1.jpg,sea|train,Ann\n";
    let before = database.video_after("videos.csv", whole).await;
    assert_eq!(before.tags, ["sea", "train"]);
    let few = "id,title,price\n1,Travel,250\nnew,Other,5\n";
    let after = database.video_after("videos.csv", few).await;
    let expected = Video {
        title: "Travel".to_owned(),
        price: Some(250.0),
        ..before
    };
    assert_eq!(after, expected);
    // An empty field means unknown.
    let empty = "id,title,genre,tags\n1,Travel,,\n";
    let after = database.video_after("videos.csv", empty).await;
    let expected = Video {
        genre: None,
        tags: vec![],
        ..expected
    };
    assert_eq!(after, expected);
    // Each line of JSON has its own columns, and null equals an empty field.
    let lines = r#"{"id": 1, "title": "Travel", "maker": null, "tags": ["sea"]}
{"id": 2, "title": "Another", "price": 1}
"#;
    let after = database.video_after("videos.jsonl", lines).await;
    let expected = Video {
        maker: None,
        tags: vec!["sea".to_owned()],
        ..expected
    };
    assert_eq!(after, expected);
    let other = r#"{"id": 1, "price": null}"#;
    let after = database.video_after("videos.jsonl", other).await;
    let expected = Video {
        price: None,
        ..expected
    };
    assert_eq!(after, expected);
}

#[tokio::test]
async fn lines_without_a_named_column_or_a_new_title_bring_nothing() {
    let database = Database::new().await;
    let lines = "{\"ID\": 1, \"Title\": \"a\", \"labels\": [\"sea\"]}\n{\"id\": 2, \"price\": 1}\n";
    let path = database.file("videos.jsonl", lines);
    let path = path.display().to_string();
    let error = database
        .import(&format!("{path} --column tags=label"))
        .await;
    let error = format!("{:#}", error.unwrap_err());
    assert!(
        error.contains("--column tags=label: the file has no column `label`"),
        "{error}"
    );
    assert_eq!(database.store.counts().await.unwrap().videos, 0);
    let report = database
        .import(&format!("{path} --column tags=labels --on-error skip"))
        .await;
    let faults = &report.unwrap().files[0].faults;
    assert_eq!(
        faults[0].to_string(),
        format!("{path}, line 2, column `title`: expected the title of a new video, found nothing")
    );
    let snapshot = database.snapshot().await;
    let tags = snapshot.dataset.catalogue.video(0).tags;
    assert_eq!(tags.iter().collect::<Vec<_>>(), ["sea"]);
}

#[tokio::test]
async fn the_first_fault_stops_and_what_came_before_it_stays() {
    let database = Database::new().await;
    let path = fixture("videos-with-faults.jsonl");
    let error = database.import(&path).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!(
            "{path}, line 2, column `price`: expected a price (a number, 0 or more), found -1\nthe 1 rows before it are imported"
        )),
        "{error}"
    );
    assert_eq!(database.store.counts().await.unwrap().videos, 1);
}

#[tokio::test]
async fn faults_may_be_skipped_and_are_listed() {
    let database = Database::new().await;
    let path = fixture("videos-with-faults.jsonl");
    let report = database
        .import(&format!("{path} --on-error skip"))
        .await
        .unwrap();
    let faults: Vec<String> = report.files[0]
        .faults
        .iter()
        .map(|fault| fault.to_string().replace(&path, "F"))
        .collect();
    assert_eq!(
        faults,
        [
            "F, line 2, column `price`: expected a price (a number, 0 or more), found -1",
            "F, line 3, column `title`: expected text without NUL, found `NUL \\u{0} inside`, which holds a NUL",
            "F, line 4, column `id`: expected each video once, found the id of line 1 again",
            "F, line 5, column `id`: expected an id (a UUID, a whole number or text), found nothing",
            "F, line 6: expected one JSON object, found an object that does not end",
            "F, line 7, column `published_at`: expected a time (2026-01-31, 2026-01-31 23:59:59 or 2026-01-31T23:59:59+09:00; Unix seconds, ms or µs), found `31.01.2026`",
            "F, line 8, column `tags`: expected a list of texts, found another list",
        ]
    );
    assert_eq!((report.files[0].rows, report.skipped()), (2, 7));
    assert_eq!(database.store.counts().await.unwrap().videos, 2);
}

#[tokio::test]
async fn a_like_needs_its_video() {
    let database = Database::new().await;
    let likes = database.file(
        "likes.csv",
        "user_id,video_id,created_at\nann,1,5\nann,2,6\n",
    );
    let likes = likes.display().to_string();
    let error = database.import(&likes).await.unwrap_err().to_string();
    assert!(error.contains("import videos first"), "{error}");

    let videos = database.file("videos.csv", "id,title\n1,a\n");
    let both = format!("{} {likes}", videos.display());
    let error = database.import(&both).await.unwrap_err().to_string();
    assert!(error.contains("line 3, column `video_id`"), "{error}");
    let report = database
        .import(&format!("{both} --on-error skip"))
        .await
        .unwrap();
    assert_eq!((report.files[1].unchanged, report.skipped()), (1, 1));
}

#[tokio::test]
async fn of_two_likes_of_one_video_the_first_counts() {
    let database = Database::new().await;
    let videos = database.file("videos.csv", "id,title\n1,a\n");
    let likes = database.file(
        "likes.csv",
        "user_id,video_id,created_at\nann,1,5\nann,1,9\n",
    );
    let command = format!("{} {}", videos.display(), likes.display());
    let report = database.import(&command).await.unwrap();
    assert_eq!(
        (report.files[1].inserted, report.files[1].unchanged),
        (1, 1)
    );
    assert_eq!(database.snapshot().await.dataset.likes[0].at, 5);
}

#[tokio::test]
async fn likes_without_times_need_one_given() {
    let database = Database::new().await;
    let videos = database.file("videos.csv", "id,title\n1,a\n");
    let likes = database.file("export.tsv", "user_id\tvideo_id\nann\t1\n");
    database
        .import(&videos.display().to_string())
        .await
        .unwrap();
    let likes = format!("{} --as likes", likes.display());
    let error = format!("{:#}", database.import(&likes).await.unwrap_err());
    assert!(error.contains("--default-time"), "{error}");
    database
        .import(&format!("{likes} --default-time 2026-01-01"))
        .await
        .unwrap();
    assert_eq!(
        database.snapshot().await.cut_off_us,
        import::time::parse("2026-01-01")
    );
}

#[tokio::test]
async fn arguments_that_fit_no_file_are_refused_before_anything_is_written() {
    let database = Database::new().await;
    let videos = database
        .file("videos.csv", "id,title\n1,a\n")
        .display()
        .to_string();
    let other = database.file("export.csv", "").display().to_string();
    let table = database.file("likes.xlsx", "").display().to_string();
    for (arguments, hint) in [
        (format!("{videos} {other}"), "--as"),
        (format!("{videos} {table}"), "unknown format"),
        (format!("{videos} likes-nowhere.csv"), "no such file"),
        (
            format!("--preset movielens-100k {videos} {videos}"),
            "one folder",
        ),
        ("--preset movielens nowhere".to_owned(), "no such file"),
    ] {
        let error = format!("{:#}", database.import(&arguments).await.unwrap_err());
        assert!(error.contains(hint), "{error}");
    }
    assert_eq!(database.store.counts().await.unwrap(), Counts::default());
}

#[tokio::test]
async fn a_movielens_folder_is_read_as_published() {
    let database = Database::new().await;
    let command = format!("--preset movielens-100k {}", fixture("movielens-100k"));
    let report = database.import(&command).await.unwrap();
    let rows: Vec<u64> = report.files.iter().map(|file| file.rows).collect();
    assert_eq!(rows, [3, 2, 2]);
    let snapshot = database.snapshot().await;
    let catalogue = snapshot.dataset.catalogue;
    let videos: Vec<Video> = catalogue.videos().map(VideoRef::to_video).collect();
    assert_eq!(videos[1].title, "Café Terminus (1971)");
    assert_eq!(videos[1].published_at_us, import::time::parse("1971-02-04"));
    assert_eq!(videos[0].genre.as_deref(), Some("Action"));
    assert_eq!(videos[0].tags, ["Action", "Drama"]);
    assert_eq!((&videos[2].genre, videos[2].tags.len()), (&None, 0));
    assert_eq!(snapshot.dataset.likes[0].at, 881_250_949);
}

/// Uses the published data set: `TWOTOWER_MOVIELENS_100K=folder cargo test -- --ignored movielens`.
#[tokio::test]
#[ignore = "needs the published folder"]
async fn the_movielens_folder_has_the_published_figures() {
    let folder =
        std::env::var("TWOTOWER_MOVIELENS_100K").expect("TWOTOWER_MOVIELENS_100K names the folder");
    let database = Database::new().await;
    let command = format!("--preset movielens-100k {folder}");
    database.import(&command).await.unwrap();
    let snapshot = database.snapshot().await;
    let (videos, _, likes, _) = counts(&snapshot);
    assert_eq!((videos, likes), (1_682, 55_375));
    let again = database.import(&command).await.unwrap();
    assert!(again.files.iter().all(|file| file.unchanged == file.rows));
}

#[tokio::test]
async fn generated_data_is_stored_once() {
    let database = Database::new().await;
    let options = GeneratorOptions {
        videos: 200,
        users: 20,
        likes: 400,
        ..GeneratorOptions::default()
    };
    let generated = demo::generate(&options);
    let steps = Mutex::new(Vec::new());
    for _ in 0..2 {
        demo::write(&database.store, &generated, &|rows, what| {
            steps.lock().unwrap().push((rows, what.to_owned()));
        })
        .await
        .unwrap();
        let counts = database.store.counts().await.unwrap();
        assert_eq!(counts.videos, 200);
        assert_eq!(counts.likes, generated.likes.len() as u64);
        assert_eq!(counts.skips, generated.skips.len() as u64);
    }
    assert_eq!(steps.lock().unwrap()[0], (200, "videos".to_owned()));
    let snapshot = database.snapshot().await;
    let videos = snapshot.dataset.catalogue.videos();
    let videos: Vec<Video> = videos.map(VideoRef::to_video).collect();
    assert_eq!(videos, generated.videos);
}
