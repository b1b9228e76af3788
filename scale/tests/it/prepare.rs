//! `prepare` against a reference that is too simple to be wrong.

use crate::support::{
    Random, assert_same, bytes, fail, read, succeed, text, write, write_interactions, write_videos,
};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::parquet::data_type::{self as parquet_type, Int96};
use datafusion::parquet::file::writer::SerializedFileWriter;
use datafusion::parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use twotower_core::external::id;
use twotower_core::feature::Video;

type Interaction = (i64, i64, i64);
/// (user, kind, microseconds, video) by numbers.
type Row = (i64, i64, i64, i64);

const DAY_US: i64 = 86_400_000_000;
const BEGIN_US: i64 = 1_700_000_000_000_000;
/// In 2096.
const FUTURE_US: i64 = 4_000_000_000_000_000;

fn videos(count: i64) -> Vec<Video> {
    (0..count)
        .map(|n| Video {
            // Only every third number is a video's.
            id: id::from_integer(3 * n).unwrap(),
            title: format!(" 作品 {n} "),
            tags: vec!["b".to_owned(), "a".to_owned(), "b".to_owned()],
            price: (n % 2 == 0).then_some(n as f32),
            ..Video::default()
        })
        .collect()
}

fn interactions(random: &mut Random, count: u64, users: u64, videos: u64) -> Vec<Interaction> {
    (0..count)
        .map(|_| {
            // Times collide often, and are far apart now and then.
            let day = if random.below(5) == 0 {
                random.below(100)
            } else {
                90
            };
            let begin = match random.below(500) {
                0 => FUTURE_US,
                _ => BEGIN_US,
            };
            let at = begin + day as i64 * DAY_US + random.below(20) as i64;
            let video = match random.below(10) {
                0 => 1 + 3 * random.below(videos) as i64,
                _ => 3 * random.below(videos) as i64,
            };
            (random.below(users) as i64, video, at)
        })
        .collect()
}

/// The rows by numbers and how many were left out for their video.
fn reference(
    likes: &[Interaction],
    skips: &[Interaction],
    videos: i64,
    max_age_days: Option<i64>,
) -> (Vec<Row>, usize, Option<i64>) {
    let mut earliest: BTreeMap<(i64, i64, i64), i64> = BTreeMap::new();
    let mut orphans = 0;
    for (kind, rows) in [(0, likes), (1, skips)] {
        for &(user, video, at) in rows {
            if video % 3 != 0 || video / 3 >= videos {
                orphans += 1;
                continue;
            }
            let first = earliest.entry((user, kind, video / 3)).or_insert(at);
            *first = at.min(*first);
        }
    }
    let latest = earliest.values().max().copied();
    // What is dated in the future makes nothing old.
    let come = earliest.values().filter(|at| **at < FUTURE_US).max();
    let come = come.copied().unwrap_or(0);
    let oldest = max_age_days.map_or(0, |days| come - days * DAY_US);
    earliest.retain(|_, at| *at >= oldest);
    let users: BTreeSet<i64> = earliest.keys().map(|key| key.0).collect();
    let users: BTreeMap<i64, i64> = users.into_iter().zip(0..).collect();
    let mut rows: Vec<Row> = earliest
        .into_iter()
        .map(|((user, kind, video), at)| (users[&user], kind, at, video))
        .collect();
    rows.sort_unstable();
    (rows, orphans, latest)
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("shards.json")).unwrap()).unwrap()
}

/// The rows of all shards, after what the manifest says of each was checked.
fn rows(folder: &Path, shard_rows: u64) -> Vec<Row> {
    let manifest = manifest(folder);
    let mut rows = Vec::new();
    let files = manifest["files"].as_array().unwrap();
    let mut users = BTreeSet::new();
    for (number, file) in files.iter().enumerate() {
        assert_eq!(file["name"], format!("interactions-{number:05}.parquet"));
        let start = rows.len();
        for batch in read(&folder.join(file["name"].as_str().unwrap())) {
            let names: Vec<_> = batch
                .schema()
                .fields()
                .iter()
                .map(|f| f.name().clone())
                .collect();
            assert_eq!(names, ["user", "kind", "video", "at"]);
            assert!(
                batch
                    .schema()
                    .fields()
                    .iter()
                    .all(|field| !field.is_nullable())
            );
            let column = |index: usize| {
                let column = cast(batch.column(index), &DataType::Int64).unwrap();
                column.as_primitive::<Int64Type>().values().to_vec()
            };
            let (user, kind, video, at) = (column(0), column(1), column(2), column(3));
            rows.extend((0..batch.num_rows()).map(|n| (user[n], kind[n], at[n], video[n])));
        }
        assert_eq!(file["rows"], rows.len() - start);
        let of_file: BTreeSet<i64> = rows[start..].iter().map(|row| row.0).collect();
        assert_eq!(file["users"], of_file.len());
        assert!(
            of_file.is_disjoint(&users),
            "a user is never cut over two files"
        );
        users.extend(of_file);
        if number + 1 < files.len() {
            assert!((rows.len() - start) as u64 >= shard_rows);
        }
    }
    rows
}

#[test]
fn shards_are_those_of_the_reference() {
    for seed in 0..8 {
        let mut random = Random(seed);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let known = 40;
        let likes = interactions(&mut random, 3_000, 90, 45);
        let count = [0, 700][seed as usize % 2];
        let skips = interactions(&mut random, count, 120, 45);
        write_videos(&path("in/videos.parquet"), &videos(known));
        for (number, rows) in likes.chunks(1_100).enumerate() {
            write_interactions(&path(&format!("in/likes/{number}.parquet")), rows);
        }
        if count > 0 {
            write_interactions(&path("in/skips/0.parquet"), &skips);
        }
        let max_age = (seed % 3 == 2).then_some(30);
        let (expected, orphans, latest) = reference(&likes, &skips, known, max_age);
        let shard_rows = 50 + random.below(500);

        let prepare = |to: &Path, threads: &str| {
            let rows = shard_rows.to_string();
            let from = path("in");
            let mut arguments = vec!["prepare", "--from", text(&from), "--to", text(to)];
            arguments.extend(["--shard-rows", &rows, "--threads", threads]);
            arguments.extend(["--memory-limit", "64MB"]);
            if max_age.is_some() {
                arguments.extend(["--max-age-days", "30"]);
            }
            succeed(&arguments)
        };
        let out = prepare(&path("a"), "1");
        assert!(out.trim_end().ends_with("completed successfully"), "{out}");
        assert_eq!(rows(&path("a"), shard_rows), expected, "seed {seed}");

        let found = manifest(&path("a"));
        let mut by_time: Vec<Row> = expected.iter().filter(|row| row.1 == 0).copied().collect();
        by_time.sort_unstable_by_key(|row| (row.2, row.0, row.3));
        let key = |tenths: usize| {
            let row = by_time[by_time.len() * tenths / 10];
            json!([row.2, row.0, row.3])
        };
        assert_eq!(
            found["temporal"],
            json!({"validation": key(8), "test": key(9)})
        );
        assert_eq!(found["latest_at_us"], json!(latest));
        assert_eq!(found["orphans"], orphans);
        assert_eq!(found["likes"], by_time.len());
        assert_eq!(found["skips"], expected.len() - by_time.len());
        assert_eq!(
            found["users"],
            expected
                .iter()
                .map(|row| row.0)
                .collect::<BTreeSet<_>>()
                .len()
        );
        assert_eq!(found["videos"], known);

        // The same rows in another order, in other files, by more threads.
        let mut shuffled = likes.clone();
        for n in (1..shuffled.len()).rev() {
            shuffled.swap(n, random.below(n as u64 + 1) as usize);
        }
        fs::remove_dir_all(path("in/likes")).unwrap();
        for (number, rows) in shuffled.chunks(400).enumerate() {
            write_interactions(&path(&format!("in/likes/{number}.parquet")), rows);
        }
        prepare(&path("b"), "4");
        assert_same(&path("a"), &path("b"));
    }
}

#[test]
fn the_catalogue_is_cleaned_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut all = videos(5);
    all.reverse();
    write_videos(&path("videos.parquet"), &all);
    write_interactions(&path("likes.parquet"), &[(1, 3, BEGIN_US)]);
    let to = path("shards");
    let (likes, videos) = (path("likes*.parquet"), path("videos.parquet"));
    let arguments = [
        "prepare",
        "--from",
        text(&likes),
        "--videos",
        text(&videos),
        "--to",
        text(&to),
    ];
    succeed(&arguments);
    let batches = read(&to.join("catalogue.parquet"));
    let ids = batches[0].column(0).as_fixed_size_binary();
    let ascending: Vec<&[u8]> = ids.iter().flatten().collect();
    assert!(ascending.is_sorted() && ascending.len() == 5);
    let titles = batches[0].column(1).as_string::<i32>();
    assert_eq!(titles.value(2), "作品 2");
    let tags = batches[0]
        .column_by_name("tags")
        .unwrap()
        .as_list::<i32>()
        .value(0);
    assert_eq!(
        tags.as_string::<i32>().iter().flatten().collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(manifest(&to)["temporal"]["test"], json!([BEGIN_US, 0, 1]));

    let error = fail(&arguments);
    assert!(error.contains("exists already"), "{error}");
}

#[test]
fn nobody_who_likes_anything_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_videos(&path("in/videos.parquet"), &videos(2));
    write_interactions(&path("in/likes.parquet"), &[]);
    for (name, more) in [("a", &[][..]), ("b", &["--max-age-days", "3"][..])] {
        let (from, to) = (path("in"), path(name));
        let arguments = [&["prepare", "--from", text(&from), "--to", text(&to)], more].concat();
        succeed(&arguments);
        let manifest = manifest(&to);
        assert_eq!(manifest["files"], json!([]));
        assert_eq!(manifest["latest_at_us"], Value::Null);
        assert_eq!(
            manifest["temporal"],
            json!({"validation": null, "test": null})
        );
    }
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let prepare = || {
        let (from, to) = (path("in"), path("shards"));
        let error = fail(&["prepare", "--from", text(&from), "--to", text(&to)]);
        let left = fs::read_dir(folder.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["in"], "{error}");
        error
    };
    fs::create_dir(path("in")).unwrap();
    assert!(prepare().contains("neither videos/ nor videos.parquet"));
    write_videos(&path("in/videos.parquet"), &videos(2));
    for at in [-1, 4_294_967_296_000_000] {
        // Also of a video that is not in the catalogue.
        write_interactions(&path("in/likes.parquet"), &[(1, 1, BEGIN_US), (1, 1, at)]);
        let error = prepare();
        assert!(
            error.contains("created_at of likes") && error.contains(&at.to_string()),
            "{error}"
        );
    }
    write_videos(&path("in/likes.parquet"), &videos(2));
    assert!(
        prepare().contains("likes need a column `user_id`"),
        "{}",
        prepare()
    );
    fs::write(path("in/likes.parquet"), "no Parquet").unwrap();
    assert!(prepare().contains("read the likes"));
    let twice = [videos(2), videos(1)].concat();
    write_videos(&path("in/videos.parquet"), &twice);
    write_interactions(&path("in/likes.parquet"), &[(1, 0, BEGIN_US)]);
    assert!(prepare().contains("is listed twice"), "{}", prepare());
    // What a killed run has left behind does not stand in the way.
    fs::create_dir_all(path(".shards.unfinished/.spill/.source")).unwrap();
    fs::write(path(".shards.unfinished/half"), "x").unwrap();
    write_videos(&path("in/videos.parquet"), &videos(2));
    let (from, to) = (path("in"), path("shards"));
    succeed(&["prepare", "--from", text(&from), "--to", text(&to)]);
    assert_eq!(bytes(&to).len(), 3);
}

/// Characters that patterns are made of are none in the name of a folder, and no file is left out without a word.
#[test]
fn a_folder_is_read_whole_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("of [2026] *?");
    write_videos(&from.join("videos/[a].parquet"), &videos(2));
    for (name, user) in [("likes/0 [0].parquet", 1), ("likes/day=1/0.parquet", 2)] {
        write_interactions(&from.join(name), &[(user, 0, BEGIN_US)]);
    }
    fs::write(from.join("likes/_SUCCESS"), "").unwrap();
    let to = folder.path().join("to [1]");
    let arguments = ["prepare", "--from", text(&from), "--to", text(&to)];
    let more = from.join("likes/1.parquet.gz");
    fs::write(&more, "x").unwrap();
    let error = fail(&arguments);
    assert!(
        error.contains("1.parquet.gz") && error.contains("left out"),
        "{error}"
    );
    fs::remove_file(more).unwrap();
    succeed(&arguments);
    let found = manifest(&to);
    assert_eq!((&found["likes"], &found["videos"]), (&json!(2), &json!(2)));
}

/// Exports of other years have other columns: what only a later file has is read as well.
#[test]
fn files_of_a_folder_may_differ_in_their_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let all = videos(3);
    let first = path("in/videos/0.parquet");
    let texts = |text: String| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let id = || ("id", texts(all[0].id.to_string()));
    write(&first, vec![id()]);
    write_videos(&path("in/videos/1.parquet"), &all[1..]);
    write_interactions(&path("in/likes.parquet"), &[(1, 0, BEGIN_US)]);
    let (from, to) = (path("in"), path("shards"));
    let arguments = ["prepare", "--from", text(&from), "--to", text(&to)];
    succeed(&arguments);
    let batches = read(&to.join("catalogue.parquet"));
    let catalogue = &batches[0];
    let column = |name: &str| catalogue.column_by_name(name).unwrap();
    // Of the videos 1 and 2, the second has a price.
    assert_eq!((catalogue.num_rows(), column("price").null_count()), (3, 2));
    let tags = column("tags").as_list::<i32>().iter().flatten();
    assert_eq!(tags.filter(|tags| tags.len() == 2).count(), 2);

    fs::remove_dir_all(&to).unwrap();
    write(&first, vec![id(), ("price", texts("5".to_owned()))]);
    let error = fail(&arguments);
    for part in ["/0.parquet and /", "/1.parquet have a column", "'price'"] {
        assert!(error.contains(part), "{error}");
    }
}

/// Times as Spark wrote them once: in the nanoseconds of 64 bits, the year 2600 would be one before 2106.
#[test]
fn times_of_96_bits_are_read_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_videos(&path("in/videos.parquet"), &videos(2));
    let (from, to) = (path("in"), path("shards"));
    let arguments = ["prepare", "--from", text(&from), "--to", text(&to)];
    write_int96(&path("in/likes.parquet"), 230_000);
    let error = fail(&arguments);
    assert!(
        error.contains("created_at of likes") && error.contains("1970 to 2106"),
        "{error}"
    );
    write_int96(&path("in/likes.parquet"), 20_000);
    succeed(&arguments);
    let at = 20_000 * DAY_US + 1;
    assert_eq!(rows(&to, 1), [(0, 0, at, 0)]);
}

/// A like of video 0 by user 1, on this day since 1970, after a microsecond.
fn write_int96(path: &Path, day: u32) {
    const SCHEMA: &str = "message likes {
        REQUIRED INT64 user_id; REQUIRED INT64 video_id; REQUIRED INT96 created_at;
    }";
    /// Of 1970-01-01.
    const JULIAN_DAY: u32 = 2_440_588;
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for id in [1, 0] {
        let mut column = group.next_column().unwrap().unwrap();
        let ids = column.typed::<parquet_type::Int64Type>();
        ids.write_batch(&[id], None, None).unwrap();
        column.close().unwrap();
    }
    let mut at = Int96::new();
    at.set_data(1_000, 0, JULIAN_DAY + day);
    let mut column = group.next_column().unwrap().unwrap();
    let times = column.typed::<parquet_type::Int96Type>();
    times.write_batch(&[at], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}
