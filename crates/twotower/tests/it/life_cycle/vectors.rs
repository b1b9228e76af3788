//! Folders of vectors as `twotower embed` writes them.

use parquet::data_type::{FixedLenByteArray, FixedLenByteArrayType, FloatType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Nullable vectors of nullable numbers, which is Arrow's default.
const NULLABLE: &str = "message vectors {
    optional fixed_len_byte_array(16) id;
    optional group embedding (LIST) { repeated group list { optional float item; } }
}";

const REQUIRED: &str = "message vectors {
    required fixed_len_byte_array(16) id (UUID);
    required group embedding (LIST) { repeated group list { required float element; } }
}";

/// An id and its vector.
pub(crate) type Row = (Uuid, Vec<f32>);

/// Writes a folder of vectors.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) manifest: Value,
}

impl Folder {
    /// For vectors of the model in the folder `model` (`models/<version>`).
    pub(crate) fn new(path: PathBuf, model: &Path, dim: usize) -> Self {
        std::fs::create_dir(&path).unwrap();
        let bytes = std::fs::read(model.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let folder = Self {
            path,
            manifest: json!({
                "format": 1,
                "model_version": manifest["version"],
                "manifest_sha256": hex(&bytes),
                "dim": dim,
                "videos": {"rows": 0, "files": []},
                "users": null,
            }),
        };
        folder.finish();
        folder
    }

    /// Adds a file of `kind` with row groups of `group` rows.
    pub(crate) fn add(&mut self, kind: &str, rows: &[Row], group: usize) {
        let of_kind = &mut self.manifest[kind];
        if of_kind.is_null() {
            *of_kind = json!({"rows": 0, "files": []});
        }
        let number = of_kind["files"].as_array().unwrap().len();
        let name = format!("{kind}-{number:05}.parquet");
        let path = self.path.join(&name);
        // Alternates between the two schemas.
        write(&path, rows, group, number % 2 == 1);
        of_kind["rows"] = json!(of_kind["rows"].as_u64().unwrap() + rows.len() as u64);
        let entry = json!({"name": name, "rows": rows.len(), "sha256": hex(&std::fs::read(&path).unwrap())});
        of_kind["files"].as_array_mut().unwrap().push(entry);
        self.finish();
    }

    pub(crate) fn finish(&self) {
        let bytes = serde_json::to_vec(&self.manifest).unwrap();
        std::fs::write(self.path.join("vectors.json"), bytes).unwrap();
    }
}

fn write(path: &Path, rows: &[Row], group: usize, nullable: bool) {
    let schema = if nullable { NULLABLE } else { REQUIRED };
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let (id_level, number_level) = if nullable { (1, 3) } else { (0, 1) };
    for rows in rows.chunks(group.max(1)) {
        let mut group = writer.next_row_group().unwrap();
        let ids: Vec<FixedLenByteArray> = rows
            .iter()
            .map(|(id, _)| FixedLenByteArray::from(id.as_bytes().to_vec()))
            .collect();
        let levels = vec![id_level; ids.len()];
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<FixedLenByteArrayType>()
            .write_batch(&ids, Some(&levels), None)
            .unwrap();
        column.close().unwrap();
        let numbers: Vec<f32> = rows
            .iter()
            .flat_map(|(_, vector)| vector)
            .copied()
            .collect();
        let places = rows.iter().flat_map(|(_, vector)| 0..vector.len());
        let repetitions: Vec<i16> = places.map(|place| i16::from(place > 0)).collect();
        let levels = vec![number_level; numbers.len()];
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<FloatType>()
            .write_batch(&numbers, Some(&levels), Some(&repetitions))
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}
