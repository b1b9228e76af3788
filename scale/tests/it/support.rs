//! Running the program, and files for it to read.

use datafusion::arrow::array::{
    ArrayRef, Float32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use sha2::Digest;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use twotower_core::feature::{Catalogue, Preprocessing, PreprocessingOptions, Video};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_twotower-scale");

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_remove("RUST_LOG");
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Runs the program, which must succeed; what it printed.
pub(crate) fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail; what it said.
pub(crate) fn fail(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// SplitMix64, for tests that make rows up.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ n >> 31) % end
    }
}

pub(crate) fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer =
        ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Rows (user, video, microseconds) with whole numbers for ids.
pub(crate) fn write_interactions(path: &Path, rows: &[(i64, i64, i64)]) {
    let column = |of: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Int64Array>())
    };
    let times: datafusion::arrow::array::TimestampMicrosecondArray =
        rows.iter().map(|row| Some(row.2)).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("created_at", Arc::new(times)),
        ("USER_ID", column(|row| row.0)),
        ("video_id", column(|row| row.1)),
    ];
    write(path, columns);
}

/// Videos with their ids as text, and without columns that nobody has to have.
pub(crate) fn write_videos(path: &Path, videos: &[Video]) {
    let names = |of: fn(&Video) -> &Vec<String>| -> ArrayRef {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for video in videos {
            lists.append_value(of(video).iter().map(Some));
        }
        Arc::new(lists.finish())
    };
    let ids: StringArray = videos
        .iter()
        .map(|video| Some(video.id.to_string()))
        .collect();
    let titles: StringArray = videos
        .iter()
        .map(|video| Some(video.title.clone()))
        .collect();
    let makers: StringArray = videos.iter().map(|video| video.maker.clone()).collect();
    let prices: Float32Array = videos.iter().map(|video| video.price).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(ids)),
        ("title", Arc::new(titles)),
        ("maker", Arc::new(makers)),
        ("price", Arc::new(prices)),
        ("tags", names(|video| &video.tags)),
    ];
    write(path, columns);
}

pub(crate) fn read(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
}

/// The files of a folder, by name.
pub(crate) fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Says which file differs, and not in which of its millions of bytes.
pub(crate) fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (bytes(one), bytes(other));
    assert!(
        one.keys().eq(other.keys()),
        "{:?} {:?}",
        one.keys(),
        other.keys()
    );
    for (name, bytes) in &one {
        assert!(*bytes == other[name], "{name} differs");
    }
}

/// A model of these videos with weights that mean nothing, in a folder as `twotower train` writes it.
pub(crate) fn write_model(folder: &Path, videos: &[Video], dim: usize) -> Model {
    let catalogue = Catalogue::new(videos.to_vec()).unwrap();
    let options = PreprocessingOptions {
        min_term_videos: 1,
        ngram_buckets: 64,
    };
    let preprocessing = Preprocessing::fit(&catalogue, |_| true, options);
    let hyperparameters = Hyperparameters {
        embedding_dim: dim,
        user_hidden: 2 * dim,
        item_hidden: 2 * dim,
        ..Hyperparameters::default()
    };
    let mut model = Model::zeros(hyperparameters, preprocessing);
    let mut n = 0.0_f32;
    for (_, _, data) in model.tensors_mut() {
        for x in data.iter_mut() {
            n += 1.0;
            *x = (n * 0.37).sin() * 0.5;
        }
    }
    fs::create_dir_all(folder).unwrap();
    let mut files = BTreeMap::new();
    let preprocessing = serde_json::to_vec(&model.preprocessing).unwrap();
    let weights = model.to_safetensors().unwrap();
    for (name, bytes) in [
        ("preprocessing.json", preprocessing),
        ("weights.safetensors", weights),
    ] {
        files.insert(name, sha256(&bytes));
        fs::write(folder.join(name), bytes).unwrap();
    }
    let rest = json!({
        "checksum": "",
        "files": files,
        "format": 2,
        "hyperparameters": model.hyperparameters,
        "version": 7,
    });
    let rest = serde_json::to_string_pretty(&rest).unwrap();
    let (before, after) = rest.split_at("{\n  \"checksum\": \"".len());
    assert!(before.ends_with("\"checksum\": \""), "{before}");
    let checksum = sha256(rest.as_bytes());
    fs::write(
        folder.join("manifest.json"),
        format!("{before}{checksum}{after}\n"),
    )
    .unwrap();
    model
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
