//! Writes one object once.

use super::storage::{FileDigest, Meter};
use super::supabase::TotalBytes;
use super::{ModelStorage, StorageError, Watch};
use crate::model_files::{ModelFilesError, at};
use crate::network::Backoff;
use crate::snapshot::hex;
use object_store::path::Path as Key;
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions,
    PutPayload,
};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a part, which is held in memory: the size that Supabase requires, and more than the 5
/// MiB minimum of S3. 10,000 parts, the maximum of S3, are 60 GB.
const PART: usize = 6 << 20;
/// Objects up to this size are written in one request, which a server can refuse if the key exists.
const SINGLE: u64 = PART as u64;
/// Number of looks at a key. The last one follows the last try to write it.
const LOOKS: u32 = 5;
/// Timeout for cancelling an upload, also after the command's deadline.
const GIVING_UP: Duration = Duration::from_secs(10);

/// A multipart upload that is open on the server, and its key.
pub(super) type Open = Option<(Key, Box<dyn MultipartUpload>)>;

/// Transfers of a command, and what it must clean up. Outlives the work, which the deadline
/// interrupts anywhere.
pub(super) struct Transfer<'a> {
    meter: Meter<'a>,
    pub(super) open: Open,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(watch: Watch<'a>, total: u64) -> Self {
        Self {
            meter: Meter::new(watch, total),
            open: None,
        }
    }
}

/// Contents of an object.
pub(super) enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// An object to store.
pub(super) struct Upload {
    pub(super) name: &'static str,
    pub(super) content: Content,
    pub(super) digest: FileDigest,
}

impl Upload {
    pub(super) fn of_bytes(name: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            name,
            digest: FileDigest::of(&bytes),
            content: Content::Bytes(bytes),
        }
    }
}

impl ModelStorage {
    /// Stores this object under `key`, and returns whether it was there already. Stored bytes are
    /// always read back and hashed. This resumes interrupted runs, lets two processes write the
    /// same object, and detects damage in transfer.
    pub(super) async fn store_once(
        &self,
        key: &Key,
        upload: &Upload,
        transfer: &mut Transfer<'_>,
    ) -> Result<bool, StorageError> {
        let mut backoff = Backoff::default();
        let mut failure = None;
        for look in 1..=LOOKS {
            if let Some(stored) = self.digest_of(key, upload, &mut transfer.meter).await? {
                return if stored == upload.digest {
                    // Nothing has been transferred, and nothing will be.
                    let already = look == 1;
                    if already {
                        transfer.meter.add(upload.name, upload.digest.bytes)?;
                    }
                    Ok(already)
                } else {
                    Err(StorageError::Conflict {
                        key: self.shown(key),
                    })
                };
            }
            if look == LOOKS {
                break;
            }
            if look > 1 {
                backoff.pause().await;
            }
            match self.write(key, upload, transfer).await {
                // If the answer was lost or another process was faster, the next look finds out.
                Ok(()) => failure = None,
                Err(error) if error.is_outage() => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| StorageError::Storage {
            doing: "write",
            key: self.shown(key),
            reason: "it was written and is not there".into(),
            outage: true,
        }))
    }

    async fn digest_of(
        &self,
        key: &Key,
        upload: &Upload,
        meter: &mut Meter<'_>,
    ) -> Result<Option<FileDigest>, StorageError> {
        let Some(object) = self.get(key).await? else {
            return Ok(None);
        };
        let bytes = object.meta.size;
        if bytes != upload.digest.bytes {
            return Ok(Some(FileDigest {
                bytes,
                sha256: String::new(),
            }));
        }
        let pieces = |piece: &[u8]| meter.add(upload.name, piece.len() as u64);
        self.read(key, object, bytes, pieces).await.map(Some)
    }

    async fn write(
        &self,
        key: &Key,
        upload: &Upload,
        transfer: &mut Transfer<'_>,
    ) -> Result<(), StorageError> {
        let Transfer { meter, open } = transfer;
        match &upload.content {
            Content::Bytes(bytes) => {
                meter.add(upload.name, bytes.len() as u64)?;
                self.put(key, bytes.clone()).await
            }
            Content::File(path) if upload.digest.bytes <= SINGLE => {
                let bytes = std::fs::read(path).map_err(at(path))?;
                if FileDigest::of(&bytes) != upload.digest {
                    return Err(changed(path));
                }
                meter.add(upload.name, bytes.len() as u64)?;
                self.put(key, bytes).await
            }
            Content::File(path) => self.put_in_parts(key, path, upload, meter, open).await,
        }
    }

    /// In one request, if the key does not exist.
    async fn put(&self, key: &Key, bytes: Vec<u8>) -> Result<(), StorageError> {
        use object_store::Error::{AlreadyExists, NotImplemented};
        let payload = PutPayload::from(bytes);
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(key, payload.clone(), options).await {
            Ok(_) | Err(AlreadyExists { .. }) => Ok(()),
            // The server has no conditional writes. Only the looks before and after protect the
            // key.
            Err(error)
                if matches!(error, NotImplemented { .. }) || says_not_implemented(&error) =>
            {
                let put = self.objects.put(key, payload).await;
                put.map(drop)
                    .map_err(|error| self.failed("write", key, &error))
            }
            Err(error) => Err(self.failed("write", key, &error)),
        }
    }

    /// In parts. An incomplete upload leaves nothing under the key, and stays in `open` until it is
    /// cancelled.
    async fn put_in_parts(
        &self,
        key: &Key,
        path: &Path,
        upload: &Upload,
        meter: &mut Meter<'_>,
        open: &mut Open,
    ) -> Result<(), StorageError> {
        use object_store::Error::AlreadyExists;
        let mut file = File::open(path).map_err(at(path))?;
        let mut options = PutMultipartOptions::default();
        options.extensions.insert(TotalBytes(upload.digest.bytes));
        let parts = match self.objects.put_multipart_opts(key, options).await {
            Ok(parts) => parts,
            Err(AlreadyExists { .. }) => return Ok(()),
            Err(error) => return Err(self.failed("write", key, &error)),
        };
        let (_, parts) = open.insert((key.clone(), parts));
        let sent = self
            .send_parts(key, path, &mut file, parts.as_mut(), upload, meter)
            .await;
        let given_up = match sent {
            Ok(true) => {
                let completed = parts.complete().await;
                let Err(error) = completed else {
                    *open = None;
                    return Ok(());
                };
                let failed = self.failed("write", key, &error);
                // Perhaps only the answer was lost.
                if let Ok(Some(_)) = self.size_of(key).await {
                    *open = None;
                    return Ok(());
                }
                Err(failed)
            }
            given_up => given_up.map(drop),
        };
        self.give_up(open).await;
        given_up
    }

    /// Cancels the open upload, if any. Its parts would otherwise use space until the bucket's own
    /// rule, if any, removes them.
    pub(super) async fn give_up(&self, open: &mut Open) {
        let Some((key, parts)) = open else {
            return;
        };
        let told = tokio::time::timeout(GIVING_UP, parts.abort()).await;
        let problem = match told {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(self.failed("give up the upload of", key, &error)),
            Err(_) => Some(StorageError::Storage {
                doing: "give up the upload of",
                key: self.shown(key),
                reason: format!("no answer for {} s", GIVING_UP.as_secs()),
                outage: true,
            }),
        };
        if let Some(problem) = problem {
            tracing::warn!(
                "{problem}; its parts take space until they are removed there (a rule of the bucket for uploads that were never completed does that)"
            );
        }
        *open = None;
    }

    /// Whether all parts were sent. If not, the key exists, and the next look finds out with which
    /// bytes.
    async fn send_parts(
        &self,
        key: &Key,
        path: &Path,
        file: &mut File,
        parts: &mut dyn MultipartUpload,
        upload: &Upload,
        meter: &mut Meter<'_>,
    ) -> Result<bool, StorageError> {
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        while bytes < upload.digest.bytes {
            let mut part = Vec::with_capacity(PART);
            file.take(PART as u64)
                .read_to_end(&mut part)
                .map_err(at(path))?;
            let length = part.len() as u64;
            bytes += length;
            hash.update(&part);
            // Before the last part, after which a server may complete the upload.
            let last = length == 0 || bytes >= upload.digest.bytes;
            let sha256 = || hex(&hash.clone().finalize());
            if last && (bytes != upload.digest.bytes || sha256() != upload.digest.sha256) {
                return Err(changed(path));
            }
            match parts.put_part(PutPayload::from(part)).await {
                Ok(()) => meter.add(upload.name, length)?,
                Err(object_store::Error::AlreadyExists { .. }) => return Ok(false),
                Err(error) => return Err(self.failed("write", key, &error)),
            }
        }
        Ok(true)
    }
}

fn says_not_implemented(error: &object_store::Error) -> bool {
    let text = error.to_string();
    text.contains("status code: 501") || text.contains("<Code>NotImplemented</Code>")
}

fn changed(path: &Path) -> StorageError {
    StorageError::Model(ModelFilesError::Corrupt {
        path: path.to_owned(),
        reason: "changed while it was published".into(),
    })
}
