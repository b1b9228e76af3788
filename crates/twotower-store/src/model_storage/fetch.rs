use super::signature::{PublicKey, verify};
use super::storage::Meter;
use super::{ModelStorage, StorageError, Watch};
use crate::model_files::{
    self, MANIFEST, Manifest, ModelFilesError, SIGNATURE, Unfinished, at, parse_manifest,
    sync_folder,
};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Above the size of any manifest, which holds one record per epoch.
const MAX_MANIFEST: u64 = 16 << 20;
const MAX_SIGNATURE: u64 = 1 << 10;
/// Maximum size of a file whose size the manifest does not state.
const MAX_FILE: u64 = 64 << 30;
/// Subfolder of the folder of models for incomplete downloads. Its name is no number, so that it is
/// not taken for a model. A fetching process holds a lock in it.
pub const FETCH_FOLDER: &str = ".fetch";

/// Options of a download.
#[derive(Debug)]
pub struct FetchOptions<'a> {
    /// The version to fetch, instead of the newest complete one.
    pub version: Option<i64>,
    /// The folder of models.
    pub output_dir: &'a Path,
    /// Keys of trusted publishers; a signature by any one of them is accepted.
    pub trusted: &'a [PublicKey],
    /// If no key is trusted: accept an unverified model.
    pub allow_unsigned: bool,
    /// Required dimension.
    pub embedding_dim: Option<usize>,
}

/// Outcome of a download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// Version of the model.
    pub version: i64,
    /// Place it was fetched from.
    pub storage: String,
    /// Folder it is in now.
    pub path: PathBuf,
    /// SHA-256 (hex) of the whole `manifest.json`; differs from [`Manifest::checksum`].
    #[serde(rename = "manifest_sha256")]
    pub manifest_file_sha256: String,
    /// Id of the trusted key that signed it.
    pub key_id: Option<String>,
    /// Whether the model was already here and complete, so that nothing was downloaded.
    pub already_there: bool,
    /// Bytes downloaded.
    pub bytes: u64,
}

/// A version in storage, verified as far as possible without its files.
struct Remote {
    version: i64,
    manifest: Manifest,
    bytes: Vec<u8>,
    signature: Option<Vec<u8>>,
    key_id: Option<String>,
}

impl ModelStorage {
    /// Downloads a version into a temporary folder, and renames it once everything is verified: the
    /// signature, the manifest, size and hash of each file, and that the model loads. One process
    /// at a time per output folder.
    ///
    /// # Errors
    /// [`StorageError`]; the existing models are left unchanged then.
    pub async fn fetch(
        &self,
        options: &FetchOptions<'_>,
        watch: Watch<'_>,
    ) -> Result<Fetched, StorageError> {
        if options.trusted.is_empty() && !options.allow_unsigned {
            return Err(StorageError::NoTrustedKeys);
        }
        self.within(async {
            self.prepare_bucket(false).await?;
            let remote = self.remote(options).await?;
            let path = options.output_dir.join(remote.version.to_string());
            let mut fetched = Fetched {
                version: remote.version,
                storage: self.name().to_owned(),
                path: path.clone(),
                manifest_file_sha256: crate::snapshot::sha256(&remote.bytes),
                key_id: remote.key_id.clone(),
                already_there: true,
                bytes: 0,
            };
            if path.exists() {
                self.compare(&path, &remote).await?;
            } else {
                fetched.bytes = self.download(&path, options, &remote, watch).await?;
                fetched.already_there = false;
            }
            Ok(fetched)
        })
        .await
    }

    async fn remote(&self, options: &FetchOptions<'_>) -> Result<Remote, StorageError> {
        let version = self.complete_version(options.version).await?;
        let key = self.key(version, MANIFEST);
        if let Some(outside) = &self.outside {
            outside.must_refuse(&key).await?;
        }
        let bytes = self.read_small(&key, MAX_MANIFEST).await?;
        let bytes = bytes.ok_or_else(|| StorageError::Missing {
            storage: self.name().to_owned(),
            version,
        })?;
        let signature_key = self.key(version, SIGNATURE);
        let signature = self.read_small(&signature_key, MAX_SIGNATURE).await?;
        // Verified before these bytes are used for anything else.
        let key_id = signed_by(
            &self.shown(&signature_key),
            &bytes,
            signature.as_deref(),
            options.trusted,
        )?;
        let manifest = parse_manifest(Path::new(&self.shown(&key)), &bytes, Some(version))?;
        let actual = manifest.hyperparameters.embedding_dim;
        match options.embedding_dim {
            Some(expected) if expected != actual => Err(StorageError::Dimension {
                version,
                expected,
                actual,
            }),
            _ => Ok(Remote {
                version,
                manifest,
                bytes,
                signature,
                key_id,
            }),
        }
    }

    /// There is a folder of this version: it must hold the same model, complete.
    async fn compare(&self, path: &Path, remote: &Remote) -> Result<(), StorageError> {
        let file = path.join(MANIFEST);
        if fs::read(&file).map_err(at(&file))? != remote.bytes {
            return Err(StorageError::Differs {
                path: path.to_owned(),
                version: remote.version,
                storage: self.name().to_owned(),
            });
        }
        load(path.to_owned()).await?;
        // It may have been copied or trained here, and signed later.
        if let (Some(signature), Some(_)) = (&remote.signature, &remote.key_id) {
            replace(path, SIGNATURE, signature)?;
        }
        Ok(())
    }

    async fn download(
        &self,
        path: &Path,
        options: &FetchOptions<'_>,
        remote: &Remote,
        watch: Watch<'_>,
    ) -> Result<u64, StorageError> {
        let staging = options.output_dir.join(FETCH_FOLDER);
        fs::create_dir_all(&staging).map_err(at(&staging))?;
        let folder = Unfinished::create(&staging, remote.version)?;
        let mut meter = Meter::new(watch, remote.manifest.sizes.values().sum());
        let mut bytes = 0;
        for name in remote.manifest.listed() {
            bytes += self
                .download_file(&folder, name, remote, &mut meter)
                .await?;
        }
        if let Some(signature) = &remote.signature {
            folder.write(SIGNATURE, signature)?;
        }
        folder.write(MANIFEST, &remote.bytes)?;
        load(folder.path().to_owned()).await?;
        folder.finish(path)?;
        Ok(bytes)
    }

    async fn download_file(
        &self,
        folder: &Unfinished,
        name: &'static str,
        remote: &Remote,
        meter: &mut Meter<'_>,
    ) -> Result<u64, StorageError> {
        let key = self.key(remote.version, name);
        let damaged = |reason: String| StorageError::Damaged {
            key: self.shown(&key),
            reason,
        };
        let object = self.get(&key).await?;
        let object = object.ok_or_else(|| damaged("is missing".into()))?;
        let stated = remote.manifest.sizes.get(name).copied();
        if let Some(stated) = stated.filter(|&size| size != object.meta.size) {
            let stored = object.meta.size;
            return Err(damaged(format!(
                "has {stored} bytes, and the manifest states {stated}"
            )));
        }
        let path = folder.path().join(name);
        let mut file = File::create_new(&path).map_err(at(&path))?;
        let limit = stated.unwrap_or(MAX_FILE);
        let digest = self
            .read(&key, object, limit, |piece| {
                file.write_all(piece).map_err(at(&path))?;
                meter.add(name, piece.len() as u64)
            })
            .await?;
        if stated.is_some_and(|size| size != digest.bytes)
            || remote.manifest.files.get(name) != Some(&digest.sha256)
        {
            return Err(damaged(
                "does not have the SHA-256 that the manifest states".into(),
            ));
        }
        file.sync_all().map_err(at(&path))?;
        Ok(digest.bytes)
    }
}

/// Verifies a local model: its files, and that one of the `trusted` keys signed its manifest.
/// Returns its version and the key's id.
///
/// # Errors
/// [`StorageError`]
pub fn verify_folder(
    folder: &Path,
    trusted: &[PublicKey],
) -> Result<(i64, Option<String>), StorageError> {
    if trusted.is_empty() {
        return Err(StorageError::NoTrustedKeys);
    }
    let folder = model_files::resolve(folder)?;
    let path = folder.join(MANIFEST);
    let bytes = fs::read(&path).map_err(at(&path))?;
    let path = folder.join(SIGNATURE);
    let signature = match fs::read(&path) {
        Ok(signature) => Some(signature),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(at(&path)(error).into()),
    };
    let key_id = signed_by(
        &path.display().to_string(),
        &bytes,
        signature.as_deref(),
        trusted,
    )?;
    let (_, manifest) = model_files::load(&folder)?;
    Ok((manifest.version, key_id))
}

/// Id of the trusted key that signed; `None` if no key is trusted.
fn signed_by(
    name: &str,
    manifest: &[u8],
    signature: Option<&[u8]>,
    trusted: &[PublicKey],
) -> Result<Option<String>, StorageError> {
    if trusted.is_empty() {
        return Ok(None);
    }
    let signature = signature.ok_or_else(|| StorageError::Unsigned {
        key: name.to_owned(),
    })?;
    verify(manifest, signature, trusted)
        .map(|key| Some(key.id()))
        .map_err(|cause| StorageError::Signature {
            key: name.to_owned(),
            cause,
        })
}

/// Checks a folder in full, on a blocking thread.
async fn load(folder: PathBuf) -> Result<(), StorageError> {
    let path = folder.clone();
    let loaded = tokio::task::spawn_blocking(move || model_files::load(&folder).map(drop)).await;
    loaded.map_err(|error| ModelFilesError::Corrupt {
        path,
        reason: format!("cannot be read ({error})"),
    })??;
    Ok(())
}

/// Replaces a file atomically.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
    let path = folder.join(name);
    if fs::read(&path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let temporary = folder.join(format!(".{name}.tmp"));
    let written = File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, &path));
    written.map_err(at(&path))?;
    Ok(sync_folder(folder)?)
}
