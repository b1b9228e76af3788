use super::signature::SigningKey;
use super::storage::FileDigest;
use super::upload::{Content, Transfer, Upload};
use super::{ModelStorage, StorageError, Watch};
use crate::model_files::{self, MANIFEST, Manifest, ModelFilesError, SIGNATURE, at};
use object_store::path::Path as Key;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Written first. It says which manifest the version will have, so that two that publish different models under one number
/// part here, and not in the middle; `sha256sum --check` reads it.
const CLAIM: &str = "manifest.json.sha256";
const MAX_CLAIM: u64 = 1 << 10;

/// What to publish.
#[derive(Debug)]
pub struct PublishOptions<'a> {
    /// A model's folder, or a folder of models, whose highest version is taken.
    pub folder: &'a Path,
    /// Who signs; `None` publishes without a signature.
    pub signing_key: Option<&'a SigningKey>,
    /// Only look what is missing there.
    pub dry_run: bool,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Version of the model.
    pub version: i64,
    /// Where it is.
    pub storage: String,
    /// SHA-256 of the whole of its `manifest.json`, hex; not [`Manifest::checksum`].
    #[serde(rename = "manifest_sha256")]
    pub manifest_file_sha256: String,
    /// Who signed it.
    pub key_id: Option<String>,
    /// Nothing was written.
    pub dry_run: bool,
    /// Files that were uploaded, or with `dry_run` would be.
    pub uploaded: Vec<String>,
    /// Files that were there already.
    pub already_there: Vec<String>,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl ModelStorage {
    /// Uploads a model that was loaded and checked in full first: a claim, the files, the signature, and the manifest last. Run
    /// again, it does what is left.
    ///
    /// # Errors
    /// [`StorageError`]. Without the manifest the version is none, whatever else of it is there.
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
        // A byte goes there once, and comes back once to be checked.
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
        // What the deadline has cut off in the middle.
        self.give_up(&mut transfer.open).await;
        done?;
        Ok(published)
    }

    /// Before the manifest makes a version of it all: where a server's condition on writing holds when an upload begins and not when it
    /// ends, two that claimed at the same moment part here.
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

    /// Whether the key is there, by its size: a dry run transfers nothing.
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

/// Loads the model, which checks every hash and number of it, and gives back its manifest.
async fn checked(folder: PathBuf) -> Result<(Manifest, Vec<u8>), StorageError> {
    let path = folder.join(MANIFEST);
    let loaded = tokio::task::spawn_blocking(move || {
        let (_, manifest) = model_files::load(&folder)?;
        let path = folder.join(MANIFEST);
        let bytes = fs::read(&path).map_err(at(&path))?;
        // Of the bytes that go out, not of those that were loaded.
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

/// In the order in which they are written.
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
                // Every file is listed, or the manifest would not have been read.
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
