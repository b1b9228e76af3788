use super::signature::SigningKey;
use super::storage::FileDigest;
use super::upload::{Content, Transfer, Upload};
use super::{ModelStorage, StorageError, Watch};
use crate::model_files::{self, MANIFEST, Manifest, ModelFilesError, SIGNATURE, at};
use object_store::path::Path as Key;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Written first. It names the manifest of the version, so that of two processes that publish
/// different models under one number one fails here rather than midway. `sha256sum --check` reads
/// it.
const CLAIM: &str = "manifest.json.sha256";
const MAX_CLAIM: u64 = 1 << 10;

/// Options of publishing.
#[derive(Debug)]
pub struct PublishOptions<'a> {
    /// Folder of a model, or a folder of models, whose highest version is taken.
    pub folder: &'a Path,
    /// Key for the signature; `None` publishes without one.
    pub signing_key: Option<&'a SigningKey>,
    /// Only determine which files are missing in the storage.
    pub dry_run: bool,
}

/// Outcome of publishing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Version of the model.
    pub version: i64,
    /// Place of the model in storage.
    pub storage: String,
    /// SHA-256 (hex) of the whole `manifest.json`; differs from [`Manifest::checksum`].
    #[serde(rename = "manifest_sha256")]
    pub manifest_file_sha256: String,
    /// Id of the key that signed it.
    pub key_id: Option<String>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Files that were uploaded, or that would be in a dry run.
    pub uploaded: Vec<String>,
    /// Files that were in the storage already.
    pub already_there: Vec<String>,
    /// Total size of all files, bytes.
    pub bytes: u64,
}

impl ModelStorage {
    /// Loads and checks a model in full, then uploads it: a claim, the files, the signature, and
    /// the manifest last. A repeated call continues where an earlier one stopped.
    ///
    /// # Errors
    /// [`StorageError`]. Without its manifest, the version does not exist for readers.
    pub async fn publish(
        &self,
        options: &PublishOptions<'_>,
        watch: Watch<'_>,
    ) -> Result<Published, StorageError> {
        let folder = model_files::resolve(options.folder)?;
        let (manifest, bytes) = checked(folder.clone()).await?;
        let version = manifest.version;
        let manifest_file_sha256 = crate::snapshot::sha256(&bytes);
        let uploads = uploads(&folder, &manifest, bytes, options.signing_key)?;
        let total = uploads.iter().map(|upload| upload.digest.bytes).sum();
        let mut published = Published {
            version,
            storage: self.name().to_owned(),
            manifest_file_sha256,
            key_id: options.signing_key.map(|key| key.public().id()),
            dry_run: options.dry_run,
            uploaded: Vec::new(),
            already_there: Vec::new(),
            bytes: total,
        };
        // Each byte is uploaded once, and downloaded once to be checked.
        let mut transfer = Transfer::new(watch, 2 * total);
        let work = async {
            if !options.dry_run {
                self.prepare_bucket(true).await?;
                self.probe(version).await?;
            }
            for upload in &uploads {
                if upload.name == MANIFEST && !options.dry_run {
                    self.still_claimed(version, &uploads).await?;
                }
                let key = self.key(version, upload.name);
                let already = if options.dry_run {
                    self.would_keep(&key, upload).await?
                } else {
                    self.store_once(&key, upload, &mut transfer).await?
                };
                let list = if already {
                    &mut published.already_there
                } else {
                    &mut published.uploaded
                };
                list.push(upload.name.to_owned());
            }
            Ok(())
        };
        let done = self.within(work).await;
        // Uploads that the deadline interrupted.
        self.give_up(&mut transfer.open).await;
        done?;
        Ok(published)
    }

    /// Checked before the manifest completes the version. Some servers check the condition of a
    /// write only at the start of an upload; there, two processes that claimed the version at the
    /// same moment are told apart here.
    async fn still_claimed(&self, version: i64, uploads: &[Upload]) -> Result<(), StorageError> {
        let key = self.key(version, CLAIM);
        let claim = uploads.iter().find(|upload| upload.name == CLAIM);
        let expected = claim.map(|claim| &claim.digest);
        let stored = self.read_small(&key, MAX_CLAIM).await?;
        let stored = stored.map(|bytes| FileDigest::of(&bytes));
        if stored.as_ref() == expected {
            Ok(())
        } else {
            Err(StorageError::Conflict {
                key: self.shown(&key),
            })
        }
    }

    /// Whether the key exists, by its size: a dry run transfers nothing.
    async fn would_keep(&self, key: &Key, upload: &Upload) -> Result<bool, StorageError> {
        match self.size_of(key).await? {
            None => Ok(false),
            Some(bytes) if bytes == upload.digest.bytes => Ok(true),
            Some(_) => Err(StorageError::Conflict {
                key: self.shown(key),
            }),
        }
    }
}

/// Loads the model, which checks every hash and number, and returns its manifest.
async fn checked(folder: PathBuf) -> Result<(Manifest, Vec<u8>), StorageError> {
    let path = folder.join(MANIFEST);
    let loaded = tokio::task::spawn_blocking(move || {
        let (_, manifest) = model_files::load(&folder)?;
        let path = folder.join(MANIFEST);
        let bytes = fs::read(&path).map_err(at(&path))?;
        // The manifest of the bytes to be uploaded, rather than of those loaded earlier.
        if model_files::parse_manifest(&path, &bytes, Some(manifest.version))? == manifest {
            Ok((manifest, bytes))
        } else {
            Err(ModelFilesError::Corrupt {
                path,
                reason: "changed while it was read".into(),
            })
        }
    });
    let loaded = loaded.await.map_err(|error| ModelFilesError::Corrupt {
        path,
        reason: format!("cannot be read ({error})"),
    })?;
    Ok(loaded?)
}

/// In the order of uploading.
fn uploads(
    folder: &Path,
    manifest: &Manifest,
    bytes: Vec<u8>,
    signing_key: Option<&SigningKey>,
) -> Result<Vec<Upload>, StorageError> {
    let claim = format!("{}  {MANIFEST}\n", FileDigest::of(&bytes).sha256);
    let mut uploads = vec![Upload::of_bytes(CLAIM, claim.into_bytes())];
    for name in manifest.listed() {
        let path = folder.join(name);
        let size = fs::metadata(&path).map_err(at(&path))?.len();
        uploads.push(Upload {
            name,
            digest: FileDigest {
                bytes: size,
                // The manifest lists every file, or it would not have parsed.
                sha256: manifest.files.get(name).cloned().unwrap_or_default(),
            },
            content: Content::File(path),
        });
    }
    if let Some(key) = signing_key {
        uploads.push(Upload::of_bytes(SIGNATURE, key.sign(&bytes).into_bytes()));
    }
    uploads.push(Upload::of_bytes(MANIFEST, bytes));
    Ok(uploads)
}
