//! Files as other programs write them, and long ones.

use super::{Cli, Database, id};
use clap::Parser;
use std::sync::Mutex;
use twotower::import;
use twotower::interrupt::Interrupt;
use twotower_core::feature::{Video, VideoRef};

#[tokio::test]
async fn a_movielens_folder_of_any_size_is_read_as_published() {
    for (files, latin1) in [
        (
            [
                (
                    "movies.dat",
                    "1::Toy Story (1995)::Animation|Children's\n2::Caf\u{e9} (1971)::(no genres listed)\n",
                ),
                (
                    "ratings.dat",
                    "1::1::5::978300760\n1::2::2::978302109\n2::1::3::978301968\n2::2::4.5::978300275\n3::1::0.5::1\n",
                ),
            ],
            true,
        ),
        (
            [
                (
                    "movies.csv",
                    "movieId,title,genres\r\n1,Toy Story (1995),Animation|Children's\r\n2,\"Café (1971)\",(no genres listed)\r\n",
                ),
                (
                    "ratings.csv",
                    "userId,movieId,rating,timestamp\r\n1,1,5.0,978300760\r\n1,2,2.0,978302109\r\n2,1,3.5,978301968\r\n2,2,4.5,978300275\r\n3,1,0.5,1\r\n",
                ),
            ],
            false,
        ),
    ] {
        let database = Database::new().await;
        for (name, text) in files {
            let bytes: Vec<u8> = if latin1 {
                text.chars()
                    .map(|c| u8::try_from(u32::from(c)).unwrap())
                    .collect()
            } else {
                text.into()
            };
            database.file(name, bytes);
        }
        let command = format!("--preset movielens {}", database.folder.path().display());
        let report = database.import(&command).await.unwrap();
        let rows: Vec<u64> = report.files.iter().map(|file| file.rows).collect();
        assert_eq!(rows, [2, 2, 2]);
        let catalogue = database.snapshot().await.dataset.catalogue;
        let videos: Vec<Video> = catalogue.videos().map(VideoRef::to_video).collect();
        assert_eq!(videos[0].tags, ["Animation", "Children's"]);
        assert_eq!(videos[0].genre.as_deref(), Some("Animation"));
        assert_eq!(videos[1].title, "Café (1971)");
        assert_eq!((&videos[1].genre, videos[1].tags.len()), (&None, 0));
        assert_eq!(videos[0].id, id("1"));
    }
    let database = Database::new().await;
    let folder = database.folder.path().display().to_string();
    database.file("movies.csv", "movieId,title,genres\n1,One,Drama\n");
    database.file("ratings.csv", "user,movie,rating\n1,1,5\n");
    let error = database
        .import(&format!("--preset movielens {folder}"))
        .await;
    let error = format!("{:#}", error.unwrap_err());
    assert!(
        error.contains("`userId,movieId,rating,timestamp`"),
        "{error}"
    );
}

/// First each error, then the import with the options that its message suggests.
#[tokio::test]
async fn files_of_other_programs_are_read_or_say_what_to_do() {
    let database = Database::new().await;
    let videos = database.file("videos.csv", "id,title\n242,a\n");
    database
        .import(&videos.display().to_string())
        .await
        .unwrap();
    let renamed = "--column user_id=userId --column video_id=movieId --column created_at=timestamp";
    let first = 881_250_949;
    for (name, text, hint, arguments) in [
        (
            "ratings.csv",
            format!("userId,movieId,rating,timestamp\r\n196,242,3.0,{first}\r\n"),
            "--column likes.user_id=NAME",
            renamed,
        ),
        (
            "bare.csv",
            format!("196,242,{first}\n"),
            "--header user_id,video_id,created_at",
            "--header user_id,video_id,created_at",
        ),
        (
            "bare.tsv",
            format!("196\t242\t3\t{first}000\n"),
            "--header user_id",
            "--header user_id,video_id,_,created_at",
        ),
        (
            "semicolon.csv",
            "user_id;video_id;created_at\n196;242;1997-12-04T16:55:49+01:00\n".into(),
            "--delimiter ';'",
            "--delimiter ;",
        ),
        (
            "tab.csv",
            "\u{feff}user_id\tvideo_id\tcreated_at\r\n196\t242\t1997-12-04 15:55:49\r\n".into(),
            "--delimiter tab",
            "--delimiter tab",
        ),
    ] {
        let path = database.file(name, text).display().to_string();
        let command = format!("{path} --as likes");
        let error = format!("{:#}", database.import(&command).await.unwrap_err());
        assert!(error.starts_with(&path) && error.contains(hint), "{error}");
        assert_eq!(
            database.store.counts().await.unwrap().likes,
            u64::from(name != "ratings.csv")
        );
        database
            .import(&format!("{command} {arguments}"))
            .await
            .unwrap();
        let snapshot = database.snapshot().await;
        assert_eq!(snapshot.users, [id("196")], "{name}");
        let likes: Vec<_> = snapshot.dataset.likes.iter().map(|like| like.at).collect();
        assert_eq!(likes, [first], "{name}");
    }
    for (name, text, hint) in [
        ("unicode.csv", &b"\xff\xfeu\0"[..], "iconv -f UTF-16"),
        ("likes.csv.gz", b"", "unpack it"),
        ("likes.xlsx", b"", "save the sheet as CSV"),
        ("likes.jsonl", b"\0{", "iconv -f UTF-16"),
    ] {
        let path = database.file(name, text).display().to_string();
        let error = database.import(&format!("{path} --as likes")).await;
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.starts_with(&path) && error.contains(hint), "{error}");
    }
}

/// With more rows than fit in one SQLite batch, rows are counted correctly, whatever existed
/// before.
#[tokio::test]
async fn a_long_file_is_counted_whole_in_few_batches() {
    let database = Database::new().await;
    let titles: Vec<_> = (0..500).map(|n| format!("{n},title {n}")).collect();
    let videos = database.file("videos.csv", format!("id,title\n{}\n", titles.join("\n")));
    database
        .import(&videos.display().to_string())
        .await
        .unwrap();
    let row = |n: u32| format!("{},{},{}\n", n % 499, n / 499, 1_700_000_000 + n);
    let rows = 210_000;
    let head = "user_id,video_id,created_at\n";
    let text = |rows: std::ops::Range<u32>| head.to_owned() + &rows.map(row).collect::<String>();
    let begun = database.file("likes-begun.csv", text(0..30_000));
    database.import(&begun.display().to_string()).await.unwrap();
    let whole = database.file("likes.csv", text(0..rows) + &text(0..7)[head.len()..]);
    let reports = Mutex::new(Vec::new());
    let args = Cli::try_parse_from(["import", &whole.display().to_string()])
        .unwrap()
        .import;
    let progress = |rows: u64, _: &str| reports.lock().unwrap().push(rows);
    let report = import::run(&database.store, &args, &Interrupt::default(), &progress)
        .await
        .unwrap();
    let file = &report.files[0];
    assert_eq!(
        (file.rows, file.inserted, file.unchanged),
        (210_007, 180_000, 30_007)
    );
    assert_eq!(*reports.lock().unwrap(), [200_000, 210_007]);
    assert_eq!(
        database.store.counts().await.unwrap().likes,
        u64::from(rows)
    );
}
