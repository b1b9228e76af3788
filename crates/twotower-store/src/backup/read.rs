use super::write::digest;
use super::{BackupError, BackupManifest, FORMAT, MANIFEST, MODEL_FOLDER, at, model_file, table};
use crate::model_files::{self, checksum_holds};
use crate::store::check_vector;
use crate::{StoreError, VectorTable};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Component, Path, PathBuf};
use uuid::Uuid;

/// Maximum rows and bytes of text that one statement restores.
const CHUNK_ROWS: usize = 2_000;
const CHUNK_BYTES: usize = 8 << 20;

/// A complete backup.
#[derive(Debug, Clone)]
pub struct Backup {
    folder: PathBuf,
    manifest: BackupManifest,
}

impl Backup {
    /// Opens a backup and checks only its manifest.
    ///
    /// # Errors
    /// [`BackupError`]
    pub fn open(folder: &Path) -> Result<Self, BackupError> {
        let path = folder.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::Missing(folder.to_owned()));
            }
            Err(error) => return Err(at(&path)(error)),
        };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| BackupError::damaged(&path, format!("is no JSON ({error})")))?;
        // The format comes first: the rest of another format is unknown.
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(BackupError::Format { path, format }),
            None => return Err(BackupError::damaged(&path, "states no format")),
        }
        if !checksum_holds(&bytes) {
            let reason = "does not have the checksum that it states";
            return Err(BackupError::damaged(&path, reason));
        }
        let manifest: BackupManifest = serde_json::from_value(value).map_err(|error| {
            BackupError::damaged(&path, format!("is not as expected ({error})"))
        })?;
        // A path in the manifest must not lead out of the folder.
        let leaves = |name: &&String| {
            let mut parts = Path::new(name).components();
            !parts.all(|part| matches!(part, Component::Normal(_)))
        };
        if let Some(name) = manifest.files.keys().find(leaves) {
            return Err(BackupError::damaged(&path, format!("lists `{name}`")));
        }
        Ok(Self {
            folder: folder.to_owned(),
            manifest,
        })
    }

    /// The manifest.
    pub fn manifest(&self) -> &BackupManifest {
        &self.manifest
    }

    /// Reads every file in pieces and checks size, hash and number of rows, and each model's files
    /// against the model's own manifest.
    ///
    /// # Errors
    /// [`BackupError::Damaged`], which names the file.
    pub fn verify(&self) -> Result<(), BackupError> {
        for (name, stated) in &self.manifest.files {
            let path = self.folder.join(name);
            let found = match digest(&path) {
                Err(BackupError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                    return Err(BackupError::damaged(&path, "is missing"));
                }
                found => found?,
            };
            let reason = if found.bytes != stated.bytes {
                format!(
                    "has {} bytes, and backup.json states {}",
                    found.bytes, stated.bytes
                )
            } else if found.sha256 != stated.sha256 {
                "does not have the SHA-256 that backup.json states".to_owned()
            } else if found.rows != stated.rows {
                "has another number of rows than backup.json states".to_owned()
            } else {
                continue;
            };
            return Err(BackupError::damaged(&path, reason));
        }
        for version in &self.manifest.models {
            let folder = self.models().join(version.to_string());
            let manifest = model_files::manifest(&folder)?;
            for name in manifest.listed() {
                // Their hashes were checked above.
                let copied = self.manifest.files.get(&model_file(*version, name));
                if copied.map(|file| &file.sha256) != manifest.files.get(name) {
                    let reason = "is not the file that the model's manifest lists";
                    return Err(BackupError::damaged(&folder.join(name), reason));
                }
            }
        }
        Ok(())
    }

    /// Copies a version's folder into the folder of models. An identical model that is there
    /// already is left as it is.
    ///
    /// # Errors
    /// If another model is there, or the file system fails.
    pub fn restore_model(&self, version: i64, models: &Path) -> Result<(), BackupError> {
        let source = self.models();
        let checksum = model_files::manifest(&source.join(version.to_string()))?.checksum;
        model_files::copy(&source, models, version, &checksum)?;
        Ok(())
    }

    fn models(&self) -> PathBuf {
        self.folder.join(MODEL_FOLDER)
    }

    /// The rows of a table, in chunks; none if the backup has no such table.
    pub(crate) fn lines(&self, table: &str) -> Result<Lines, BackupError> {
        let name = table::file(table);
        let path = self.folder.join(&name);
        let reader = if self.manifest.files.contains_key(&name) {
            Some(BufReader::new(File::open(&path).map_err(at(&path))?))
        } else {
            None
        };
        Ok(Lines { path, reader })
    }

    /// All rows of a small table.
    pub(crate) fn rows<T: DeserializeOwned>(&self, table: &str) -> Result<Vec<T>, BackupError> {
        let mut lines = self.lines(table)?;
        let mut rows = Vec::new();
        while let Some(chunk) = lines.chunk()? {
            for line in &chunk {
                rows.push(lines.parse(line)?);
            }
        }
        Ok(rows)
    }
}

/// A vector of a backup.
#[derive(Debug, Clone)]
pub(crate) struct VectorRow {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) fingerprint: i64,
    pub(crate) updated_at_us: i64,
    pub(crate) vector: Vec<f32>,
}

#[derive(Deserialize)]
struct VectorLine {
    id: Uuid,
    model_version: i64,
    fingerprint: i64,
    updated_at: i64,
    embedding: String,
}

/// The rows of a file, in chunks.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    reader: Option<BufReader<File>>,
}

impl Lines {
    /// The next chunk; `None` at the end.
    pub(crate) fn chunk(&mut self) -> Result<Option<Vec<String>>, BackupError> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < CHUNK_ROWS && bytes < CHUNK_BYTES {
            let mut line = String::new();
            if reader.read_line(&mut line).map_err(at(&self.path))? == 0 {
                break;
            }
            bytes += line.len();
            line.truncate(line.trim_end_matches('\n').len());
            rows.push(line);
        }
        Ok((!rows.is_empty()).then_some(rows))
    }

    /// The next chunk of a file of vectors, grouped by version and dimension, and validated as
    /// every vector that is written.
    pub(crate) fn vectors(
        &mut self,
        table: VectorTable,
    ) -> Result<Option<Vec<Vec<VectorRow>>>, BackupError> {
        let Some(lines) = self.chunk()? else {
            return Ok(None);
        };
        let mut groups: Vec<Vec<VectorRow>> = Vec::new();
        for line in &lines {
            let line: VectorLine = self.parse(line)?;
            let bytes = BASE64_STANDARD
                .decode(&line.embedding)
                .map_err(|error| BackupError::damaged(&self.path, error.to_string()))?;
            let (numbers, _) = bytes.as_chunks::<4>();
            let vector: Vec<f32> = numbers
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            let (row, group) = (line.id, groups.last());
            let continues = group.and_then(|group| group.first()).is_some_and(|first| {
                first.version == line.model_version && first.vector.len() == vector.len()
            });
            check_vector(&vector, vector.len()).map_err(|cause| StoreError::Vector {
                table: table.table(),
                row: group.map_or(0, Vec::len),
                cause,
            })?;
            let row = VectorRow {
                id: row,
                version: line.model_version,
                fingerprint: line.fingerprint,
                updated_at_us: line.updated_at,
                vector,
            };
            match groups.last_mut().filter(|_| continues) {
                Some(group) => group.push(row),
                None => groups.push(vec![row]),
            }
        }
        Ok(Some(groups))
    }

    pub(crate) fn parse<T: DeserializeOwned>(&self, line: &str) -> Result<T, BackupError> {
        serde_json::from_str(line).map_err(|error| {
            BackupError::damaged(
                &self.path,
                format!("has a row that is not as expected ({error})"),
            )
        })
    }
}
