//! `twotower train --data`: shards with the same rows as a database give the same model, in memory
//! or from disk; and invalid shards are refused.

use crate::support::Workplace;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType};
use parquet::data_type::{DataType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const CONFIGURATION: &str = "[hyperparameters]\nembedding_dim = 16\nepochs = 2\nuser_hidden = 32\nmin_users = 2\nskip_weight = 1.0\n[training]\nallow_few_users = true\n";

const VIDEO: &str = "message videos { required fixed_len_byte_array(16) id (UUID); required binary title (STRING); optional binary genre (STRING); }";
const ROW: &str = "message interactions { required int32 user (INTEGER(32,false)); required int32 kind; required int32 video (INTEGER(32,false)); required int64 at; }";

/// (kind, user, video, microseconds), each (kind, user, video) once.
type Row = (i32, Uuid, Uuid, i64);

struct Sample {
    videos: Vec<Uuid>,
    rows: Vec<Row>,
}

/// Users move through genres; many likes share a second, and some a microsecond.
fn sample() -> Sample {
    let mut random = Pcg64::seed_from_u64(5);
    let mut ids = |n: usize| -> Vec<Uuid> {
        let mut ids: Vec<Uuid> = (0..n).map(|_| Uuid::from_u128(random.random())).collect();
        ids.sort_unstable();
        ids
    };
    let (videos, users) = (ids(60), ids(90));
    let mut random = Pcg64::seed_from_u64(6);
    let mut rows = Vec::new();
    for (number, &user) in users.iter().enumerate() {
        let mut at = 1_700_000_000_000_000 + random.random_range(0..40) * 500_000;
        let mut seen = std::collections::HashSet::new();
        for step in 0..random.random_range(1..40) {
            let video = (number + step * 7 + random.random_range(0..3)) % videos.len();
            // Some users only skip.
            let kind = i32::from(number % 9 == 0 || random.random_range(0..5) == 0);
            if seen.insert((kind, video)) {
                rows.push((kind, user, videos[video], at));
            }
            at += random.random_range(0..4) * 250_000;
        }
    }
    Sample { videos, rows }
}

impl Sample {
    /// A database with these rows.
    fn database(&self) -> Workplace {
        let place = Workplace::on_sqlite();
        place.configure(CONFIGURATION);
        let mut videos = String::from("id,title,genre\n");
        for (number, id) in self.videos.iter().enumerate() {
            let _ = writeln!(videos, "{id},video {number},genre {}", number % 7);
        }
        fs::write(place.folder.path().join("videos.csv"), videos).unwrap();
        let mut files = "import videos.csv".to_owned();
        for (kind, name) in [(0, "likes.csv"), (1, "skips.csv")] {
            let mut text = String::from("user_id,video_id,created_at\n");
            for &(_, user, video, at) in self.rows.iter().filter(|row| row.0 == kind) {
                let _ = writeln!(text, "{user},{video},{at}");
            }
            fs::write(place.folder.path().join(name), text).unwrap();
            let _ = write!(files, " {name}");
        }
        place.json("migrate");
        place.json(&files);
        place
    }

    /// A folder of shards with these rows, sorted in memory.
    fn pack(&self, folder: &Path) {
        fs::create_dir(folder).unwrap();
        let mut users: Vec<Uuid> = self.rows.iter().map(|row| row.1).collect();
        users.sort_unstable();
        users.dedup();
        let place = |ids: &[Uuid], id: &Uuid| ids.binary_search(id).unwrap() as i32;
        let packed = |row: &Row| {
            (
                place(&users, &row.1),
                row.0,
                row.3,
                place(&self.videos, &row.2),
            )
        };
        let mut rows: Vec<(i32, i32, i64, i32)> = self.rows.iter().map(packed).collect();
        rows.sort_unstable();
        let mut likes: Vec<(i64, i32, i32)> = (rows.iter().filter(|row| row.1 == 0))
            .map(|&(user, _, at, video)| (at, user, video))
            .collect();
        likes.sort_unstable();
        let half = rows.partition_point(|row| row.0 < users.len() as i32 / 2);
        let files: Vec<Value> = [("a.parquet", &rows[..half]), ("b.parquet", &rows[half..])]
            .map(|(name, rows)| {
                write(&folder.join(name), ROW, |group| {
                    column::<Int32Type>(
                        group,
                        &rows.iter().map(|row| row.0).collect::<Vec<_>>(),
                        None,
                    );
                    column::<Int32Type>(
                        group,
                        &rows.iter().map(|row| row.1).collect::<Vec<_>>(),
                        None,
                    );
                    column::<Int32Type>(
                        group,
                        &rows.iter().map(|row| row.3).collect::<Vec<_>>(),
                        None,
                    );
                    column::<Int64Type>(
                        group,
                        &rows.iter().map(|row| row.2).collect::<Vec<_>>(),
                        None,
                    );
                });
                json!({ "name": name, "rows": rows.len(), "sha256": sha256(&folder.join(name)) })
            })
            .to_vec();
        let text = |text: String| ByteArray::from(text.as_str());
        write(&folder.join("catalogue.parquet"), VIDEO, |group| {
            let ids = self
                .videos
                .iter()
                .map(|id| FixedLenByteArray::from(ByteArray::from(id.as_bytes().to_vec())));
            let n = self.videos.len();
            column::<FixedLenByteArrayType>(group, &ids.collect::<Vec<_>>(), None);
            let titles = (0..n).map(|number| text(format!("video {number}")));
            column::<ByteArrayType>(group, &titles.collect::<Vec<_>>(), None);
            let genres = (0..n).map(|number| text(format!("genre {}", number % 7)));
            column::<ByteArrayType>(group, &genres.collect::<Vec<_>>(), Some(&vec![1; n]));
        });
        let n = likes.len();
        let manifest = json!({
            "format": 1, "users": users.len(), "likes": n, "skips": rows.len() - n,
            "videos": self.videos.len(), "orphans": 0, "latest_at_us": rows.iter().map(|row| row.2).max(),
            "temporal": { "validation": likes[n * 8 / 10], "test": likes[n * 9 / 10] },
            "catalogue": {
                "name": "catalogue.parquet", "rows": self.videos.len(), "sha256": sha256(&folder.join("catalogue.parquet")),
            },
            "files": files,
        });
        fs::write(folder.join("shards.json"), manifest.to_string()).unwrap();
    }
}

fn write(path: &Path, schema: &str, columns: impl Fn(&mut SerializedRowGroupWriter<'_, File>)) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    columns(&mut group);
    group.close().unwrap();
    writer.close().unwrap();
}

fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    definitions: Option<&[i16]>,
) {
    let mut column = group.next_column().unwrap().unwrap();
    let writer = column.typed::<T>();
    writer.write_batch(values, definitions, None).unwrap();
    column.close().unwrap();
}

fn sha256(path: &Path) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(fs::read(path).unwrap()) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn trained(place: &Workplace, flags: &str) -> (Vec<Vec<u8>>, Value) {
    let report = place.json(&format!("train {flags}"));
    let folder = place
        .folder
        .path()
        .join(report["train"]["path"].as_str().unwrap());
    let files = ["weights.safetensors", "preprocessing.json"];
    let files = files.map(|name| fs::read(folder.join(name)).unwrap());
    let manifest = fs::read(folder.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let of_data = [
        "likes",
        "skips",
        "users",
        "videos",
        "cut_off_us",
        "learned_until_us",
        "split",
    ];
    let facts = of_data.map(|name| manifest["trained_on"][name].clone());
    (files.to_vec(), json!([manifest["metrics"], facts]))
}

#[test]
fn heavy_shards_give_the_model_of_the_database() {
    let sample = sample();
    let place = sample.database();
    sample.pack(&place.folder.path().join("shards"));
    for split in ["temporal", "llo"] {
        let (files, facts) = trained(&place, &format!("--split {split}"));
        for from in ["--data shards", "--data shards --memory-limit 64MB"] {
            let (of_shards, facts_of_shards) = trained(&place, &format!("--split {split} {from}"));
            assert_eq!(facts_of_shards, facts, "{split} {from}");
            assert!(
                of_shards == files,
                "{split} {from}: other weights or vocabularies"
            );
        }
    }
    let left = fs::read_dir(place.folder.path().join("models")).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let beside: Vec<String> = names.filter(|name| name.parse::<u64>().is_err()).collect();
    assert_eq!(beside, [".lock"], "no file stays beside the models");

    // Models 1 and 2 use the temporal split, from the database and from the shards.
    let judged = |place: &Workplace, flags: &str| {
        let judged = place.json(&format!("evaluate --model-path models/{flags}"));
        (judged["retrained"].clone(), judged["recommenders"].clone())
    };
    let by_database = judged(&place, "1");
    assert_eq!(by_database.0, Value::Null);
    let (why, _) = judged(&place, "2");
    let why = why.as_str().unwrap();
    assert!(
        why.contains("trained from shards") && why.contains("`twotower evaluate --data`"),
        "{why}"
    );
    let place = Workplace {
        url: "postgresql://127.0.0.1:1/nowhere".to_owned(),
        ..place
    };
    for model in ["1", "2"] {
        let by_shards = judged(&place, &format!("{model} --data shards"));
        assert_eq!(by_shards, by_database, "model {model}");
    }
}

#[test]
fn what_is_no_shard_is_refused() {
    let sample = sample();
    let place = Workplace::on_sqlite();
    let folder = place.folder.path().join("shards");
    place.json("migrate");
    let said = place.refused("train --data shards", 1);
    assert!(said.contains("made by `twotower prepare`"), "{said}");
    sample.pack(&folder);
    let said = place.refused("train --data shards --memory-limit 1MB", 1);
    assert!(said.contains("--memory-limit is 1 MB: raise it"), "{said}");
    let manifest = fs::read_to_string(folder.join("shards.json")).unwrap();
    let likes = format!(
        "\"likes\":{}",
        sample.rows.iter().filter(|row| row.0 == 0).count()
    );
    for (old, new, expected) in [
        ("\"format\":1", "\"format\":2", "format 2 is not known here"),
        (
            "a.parquet",
            "../a.parquet",
            "is no name of a file in the folder",
        ),
        (&likes, "\"likes\":7", "shards.json: 7 likes and "),
        (
            &likes,
            "\"likes\":18446744073709551615",
            "are not the rows of its files",
        ),
        (
            "\"users\":90",
            "\"users\":9000000000000000000",
            "shards.json: 9000000000000000000 users cannot have",
        ),
        ("\"users\":90", "\"users\":89", "the manifest says (89, "),
        (
            "\"videos\":60",
            "\"videos\":59",
            "59 videos in ascending order",
        ),
    ] {
        assert!(manifest.contains(old), "{old}");
        fs::write(folder.join("shards.json"), manifest.replacen(old, new, 1)).unwrap();
        let said = place.refused("train --data shards", 1);
        assert!(said.contains(expected), "{old}: {said}");
    }
    // Consistent counts without any files.
    let mut absurd: Value = serde_json::from_str(&manifest).unwrap();
    let (likes, rows) = (&absurd["likes"], &absurd["files"][0]["rows"]);
    let [likes, rows] = [likes, rows].map(|count| count.as_u64().unwrap() + (1 << 60));
    (absurd["likes"], absurd["files"][0]["rows"]) = (json!(likes), json!(rows));
    fs::write(folder.join("shards.json"), absurd.to_string()).unwrap();
    let said = place.refused("train --data shards", 1);
    let expected = format!(
        "a.parquet: {} rows, and the manifest says",
        rows - (1 << 60)
    );
    assert!(said.contains(&expected), "{said}");
    fs::write(folder.join("shards.json"), &manifest).unwrap();
    // A like of a video that the user has liked before.
    let mut repeating = sample;
    let latest = repeating.rows.iter().map(|row| row.3).max().unwrap();
    let (kind, user, video, _) = repeating.rows[0];
    repeating.rows.push((kind, user, video, latest + 1));
    repeating.pack(&place.folder.path().join("repeating"));
    let said = place.refused("train --data repeating", 1);
    assert!(
        said.contains("does not belong here, after another row of this user, kind and video"),
        "{said}"
    );
    let mut bytes = fs::read(folder.join("b.parquet")).unwrap();
    bytes[100] ^= 1;
    fs::write(folder.join("b.parquet"), bytes).unwrap();
    let said = place.refused("train --data shards", 1);
    assert!(said.contains("b.parquet: its SHA-256 is"), "{said}");
    assert!(!place.folder.path().join("models/1").exists());
}
