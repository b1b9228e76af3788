use super::{
    BackupError, BackupFile, BackupManifest, FORMAT, MANIFEST, MODEL_FOLDER, Moment, at,
    model_file, table,
};
use crate::model_files::{self, Unfinished};
use crate::private_file::create_private;
use crate::snapshot::{hex, sha256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

/// A backup that is being written, under a temporary name until [`BackupWriter::finish`]. Dropping
/// it removes everything. What a killed process leaves behind is removed by the next one.
#[derive(Debug)]
pub struct BackupWriter {
    folder: Unfinished,
    target: PathBuf,
    files: BTreeMap<String, BackupFile>,
    models: Vec<i64>,
}

impl BackupWriter {
    /// Creates `root/<name>/`, readable by its owner only: it holds user vectors and the salt of
    /// the tombstones. `number` makes the temporary name unique.
    ///
    /// # Errors
    /// [`BackupError::Io`], also if it exists already.
    pub fn create(root: &Path, name: &str, number: i64) -> Result<Self, BackupError> {
        let target = root.join(name);
        if target.exists() {
            return Err(model_files::ModelFilesError::Exists(target).into());
        }
        private_folder(root)?;
        let folder = Unfinished::create(root, number)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(folder.path(), private).map_err(at(folder.path()))?;
        }
        Ok(Self {
            folder,
            target,
            files: BTreeMap::new(),
            models: Vec::new(),
        })
    }

    /// Begins the file of a table.
    pub(crate) fn lines(&self, table: &str) -> Result<LineFile, BackupError> {
        let name = table::file(table);
        let path = self.folder.path().join(&name);
        let file = create_private(&path).map_err(at(&path))?;
        Ok(LineFile {
            name,
            path,
            writer: BufWriter::with_capacity(BUFFER, file),
            hash: Sha256::new(),
            bytes: 0,
            rows: 0,
        })
    }

    /// Completes the file of a table.
    pub(crate) fn end(&mut self, lines: LineFile) -> Result<(), BackupError> {
        let path = lines.path;
        let file = lines
            .writer
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all()).map_err(at(&path))?;
        let file = BackupFile {
            sha256: hex(&lines.hash.finalize()),
            bytes: lines.bytes,
            rows: Some(lines.rows),
        };
        self.files.insert(lines.name, file);
        Ok(())
    }

    /// Adds the folder of a version if `models` holds the model with this checksum. Returns whether
    /// it does.
    ///
    /// # Errors
    /// If the model is damaged, or the file system fails.
    pub fn add_model(
        &mut self,
        models: &Path,
        version: i64,
        checksum: &str,
    ) -> Result<bool, BackupError> {
        let copies = self.folder.path().join(MODEL_FOLDER);
        if !model_files::copy(models, &copies, version, checksum)? {
            return Ok(false);
        }
        let folder = copies.join(version.to_string());
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let entry = entry.map_err(at(&folder))?;
            let name = entry.file_name().display().to_string();
            self.files
                .insert(model_file(version, &name), digest(&entry.path())?);
        }
        self.models.push(version);
        Ok(true)
    }

    /// Writes the manifest and renames the folder to its final name.
    ///
    /// # Errors
    /// If the file system fails.
    pub fn finish(
        self,
        moment: &Moment,
        engine: &str,
        schema: &str,
    ) -> Result<(PathBuf, BackupManifest), BackupError> {
        let mut manifest = BackupManifest {
            checksum: String::new(),
            format: FORMAT,
            twotower: env!("CARGO_PKG_VERSION").to_owned(),
            engine: engine.to_owned(),
            schema: schema.to_owned(),
            taken_at_us: moment.taken_at_us,
            active_version: moment.active_version,
            last_version: moment.last_version,
            versions: moment.versions.iter().map(|kept| kept.version).collect(),
            models: self.models,
            files: self.files,
        };
        let path = self.folder.path().join(MANIFEST);
        let encode = |manifest: &BackupManifest| {
            serde_json::to_vec_pretty(manifest).map_err(|error| at(&path)(error.into()))
        };
        manifest.checksum = sha256(&encode(&manifest)?);
        let mut bytes = encode(&manifest)?;
        bytes.push(b'\n');
        self.folder.write(MANIFEST, &bytes)?;
        self.folder.finish(&self.target)?;
        Ok((self.target, manifest))
    }
}

/// A file of JSON lines, hashed and counted as it is written.
#[derive(Debug)]
pub(crate) struct LineFile {
    name: String,
    path: PathBuf,
    writer: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
    rows: u64,
}

impl LineFile {
    /// Writes a row, given as JSON on one line.
    pub(crate) fn push(&mut self, row: &str) -> Result<(), BackupError> {
        for part in [row.as_bytes(), b"\n"] {
            self.writer.write_all(part).map_err(at(&self.path))?;
            self.hash.update(part);
            self.bytes += part.len() as u64;
        }
        self.rows += 1;
        Ok(())
    }

    pub(crate) fn push_vector(&mut self, vector: &StoredVector<'_>) -> Result<(), BackupError> {
        let row = json!({
            "id": vector.id,
            "model_version": vector.version,
            "fingerprint": vector.fingerprint,
            "updated_at": vector.updated_at_us,
            "embedding": BASE64_STANDARD.encode(vector.numbers),
        });
        self.push(&row.to_string())
    }
}

/// A vector as stored in the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredVector<'a> {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) fingerprint: i64,
    pub(crate) updated_at_us: i64,
    /// Little-endian 32-bit floats.
    pub(crate) numbers: &'a [u8],
}

/// Creates a folder and its parents. New ones are accessible to their owner only.
fn private_folder(path: &Path) -> Result<(), BackupError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(at(path))
}

/// Hash and size of a file, read in pieces.
pub(super) fn digest(path: &Path) -> Result<BackupFile, BackupError> {
    let mut file = File::open(path).map_err(at(path))?;
    let mut buffer = vec![0; BUFFER];
    let (mut hash, mut bytes, mut rows) = (Sha256::new(), 0, 0);
    loop {
        let read = file.read(&mut buffer).map_err(at(path))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
        rows += buffer[..read].split(|&byte| byte == b'\n').count() as u64 - 1;
    }
    let is_table = path
        .extension()
        .is_some_and(|extension| extension == "jsonl");
    Ok(BackupFile {
        sha256: hex(&hash.finalize()),
        bytes,
        rows: is_table.then_some(rows),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Backup;
    use super::*;
    use crate::model_files::tests::{exchange, save};

    #[test]
    fn models_are_verified_by_hash_alone() {
        let root = tempfile::tempdir().unwrap();
        let models = root.path().join("models");
        let (folder, _) = save(&models, 3);
        // No model can be loaded from these, which a backup does not check.
        exchange(&folder, "weights.safetensors", b"none");
        let checksum = model_files::manifest(&folder).unwrap().checksum;
        let begin = |name: &str| {
            let mut writer = BackupWriter::create(&root.path().join("backups"), name, 1).unwrap();
            assert!(writer.add_model(&models, 3, &checksum).unwrap());
            writer
        };
        let finish = |writer: BackupWriter| {
            let (folder, _) = writer.finish(&Moment::default(), "sqlite", "1").unwrap();
            Backup::open(&folder).unwrap().verify()
        };
        finish(begin("good")).unwrap();

        // Listed by the backup but not by the model.
        let mut writer = begin("mixed");
        let card = model_file(3, "model_card.md");
        let path = writer.folder.path().join(&card);
        fs::write(&path, "# Another\n").unwrap();
        writer.files.insert(card, digest(&path).unwrap());
        let refused = finish(writer).unwrap_err().to_string();
        assert!(
            refused.contains("model_card.md is not the file that the model's manifest lists"),
            "{refused}"
        );
    }
}
