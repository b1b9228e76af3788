use super::StorageError;
use super::credentials::blot;
use super::privacy::Outside;
use super::supabase::{Api, Failure};
use crate::model_files::{MANIFEST, version_named};
use crate::snapshot::hex;
use futures_util::StreamExt;
use object_store::client::HttpError;
use object_store::path::Path as Key;
use object_store::{GetResult, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// Progress of a transfer.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Bytes transferred, of all files.
    pub done: u64,
    /// Total bytes.
    pub total: u64,
}

/// Receives progress, and says whether to continue.
pub type Watch<'a> = &'a (dyn Fn(Progress<'_>) -> ControlFlow<()> + Sync);

/// A storage for models.
pub struct ModelStorage {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) outside: Option<Outside>,
    pub(super) deadline: Duration,
    /// Address, for messages.
    pub(super) name: String,
    pub(super) prefix: Key,
    /// The project, for a bucket of Supabase over its REST API.
    pub(super) supabase: Option<Arc<Api>>,
    /// Values that no message may contain.
    pub(super) secrets: Vec<String>,
}

impl ModelStorage {
    /// Refuses a project's bucket that is public by its own settings. A missing bucket is created
    /// if `made`, else refused.
    pub(super) async fn prepare_bucket(&self, made: bool) -> Result<(), StorageError> {
        let Some(api) = &self.supabase else {
            return Ok(());
        };
        let bucket = || api.bucket.clone();
        let failed = |doing| {
            move |failure: Failure| StorageError::Storage {
                doing,
                key: api.bucket.clone(),
                outage: failure.is_outage(),
                reason: blot(&self.secrets, short(&failure.to_string())),
            }
        };
        let mut public = api.is_public().await.map_err(failed("look at bucket"))?;
        if public.is_none() && made {
            api.make_private_bucket()
                .await
                .map_err(failed("make the private bucket"))?;
            public = api.is_public().await.map_err(failed("look at bucket"))?;
        }
        match public {
            Some(false) => Ok(()),
            Some(true) => Err(StorageError::PublicBucket { bucket: bucket() }),
            None => Err(StorageError::NoBucket { bucket: bucket() }),
        }
    }

    /// Address, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Versions with a manifest: `version` if given, else the newest.
    pub(super) async fn complete_version(&self, version: Option<i64>) -> Result<i64, StorageError> {
        if let Some(version) = version {
            return if self.has(&self.key(version, MANIFEST)).await? {
                Ok(version)
            } else {
                Err(StorageError::Missing {
                    storage: self.name.clone(),
                    version,
                })
            };
        }
        let folder = self.prefix.clone().join("models");
        let listing = self.objects.list_with_delimiter(Some(&folder)).await;
        let listing = listing.map_err(|error| self.failed("list", &folder, &error))?;
        let mut versions: Vec<i64> = listing
            .common_prefixes
            .iter()
            .filter_map(|prefix| version_named(prefix.filename()?))
            .collect();
        versions.sort_unstable();
        for version in versions.into_iter().rev() {
            if self.has(&self.key(version, MANIFEST)).await? {
                return Ok(version);
            }
        }
        Err(StorageError::Empty {
            storage: self.name.clone(),
        })
    }

    /// The key `models/<version>/<file>`, below the prefix.
    pub(super) fn key(&self, version: i64, file: &str) -> Key {
        self.folder(version).join(file)
    }

    pub(super) fn folder(&self, version: i64) -> Key {
        self.prefix.clone().join("models").join(version.to_string())
    }

    async fn has(&self, key: &Key) -> Result<bool, StorageError> {
        Ok(self.size_of(key).await?.is_some())
    }

    /// Size of an object, if it exists.
    pub(super) async fn size_of(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        match self.objects.head(key).await {
            Ok(object) => Ok(Some(object.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("look for", key, &error)),
        }
    }

    /// An object, if it exists.
    pub(super) async fn get(&self, key: &Key) -> Result<Option<GetResult>, StorageError> {
        match self.objects.get(key).await {
            Ok(object) => Ok(Some(object)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", key, &error)),
        }
    }

    /// Reads an object in pieces, and at most `limit` bytes of it: a longer one is damaged.
    pub(super) async fn read(
        &self,
        key: &Key,
        object: GetResult,
        limit: u64,
        mut piece: impl FnMut(&[u8]) -> Result<(), StorageError>,
    ) -> Result<FileDigest, StorageError> {
        let long = || StorageError::Damaged {
            key: self.shown(key),
            reason: format!("is longer than {limit} bytes"),
        };
        if object.meta.size > limit {
            return Err(long());
        }
        let (mut bytes, mut hash) = (0, Sha256::new());
        let mut pieces = object.into_stream();
        while let Some(next) = pieces.next().await {
            let next = next.map_err(|error| self.failed("read", key, &error))?;
            bytes += next.len() as u64;
            if bytes > limit {
                return Err(long());
            }
            hash.update(&next);
            piece(&next)?;
        }
        Ok(FileDigest {
            bytes,
            sha256: hex(&hash.finalize()),
        })
    }

    /// The bytes of a small object, if it exists.
    pub(super) async fn read_small(
        &self,
        key: &Key,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(object) = self.get(key).await? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        self.read(key, object, limit, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(Some(bytes))
    }

    /// A key as shown in messages.
    pub(super) fn shown(&self, key: &Key) -> String {
        let below = key.prefix_match(&self.prefix);
        let below: Vec<String> = below
            .into_iter()
            .flatten()
            .map(|part| part.as_ref().to_owned())
            .collect();
        format!("{}/{}", self.name, below.join("/"))
    }

    pub(super) fn failed(
        &self,
        doing: &'static str,
        key: &Key,
        error: &object_store::Error,
    ) -> StorageError {
        let reason = short(&error.to_string());
        StorageError::Storage {
            doing,
            key: self.shown(key),
            reason: blot(&self.secrets, reason),
            outage: is_outage(error),
        }
    }

    /// Runs a whole command within its deadline.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        tokio::time::timeout(self.deadline, work)
            .await
            .unwrap_or(Err(StorageError::Deadline(self.deadline)))
    }
}

/// The client of a bucket would print its credentials.
impl fmt::Debug for ModelStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelStorage({})", self.name)
    }
}

/// Size and SHA-256 (hex) of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileDigest {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl FileDigest {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            sha256: crate::snapshot::sha256(bytes),
        }
    }
}

/// Adds up progress.
pub(super) struct Meter<'a> {
    watch: Watch<'a>,
    done: u64,
    total: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(watch: Watch<'a>, total: u64) -> Self {
        Self {
            watch,
            done: 0,
            total,
        }
    }

    pub(super) fn add(&mut self, file: &str, bytes: u64) -> Result<(), StorageError> {
        self.done = (self.done + bytes).min(self.total);
        let progress = Progress {
            file,
            done: self.done,
            total: self.total,
        };
        match (self.watch)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StorageError::Interrupted),
        }
    }
}

fn is_outage(error: &object_store::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.is::<HttpError>() {
            return true;
        }
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return failure.is_outage();
        }
        source = error.source();
    }
    // The client's own error for a status is not public.
    let text = error.to_string();
    ["status code: 5", "status code: 429", "status code: 408"]
        .iter()
        .any(|status| text.contains(status))
}

/// A server's message on one line. Of an XML document only its code and message: some servers
/// repeat the whole request.
fn short(text: &str) -> String {
    const LONGEST: usize = 400;
    let (said, document) = text.split_once('<').unwrap_or((text, ""));
    let element = |name: &str| {
        let (_, rest) = document.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.to_owned())
    };
    let parts = [Some(said.to_owned()), element("Code"), element("Message")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let line = parts
        .join(" ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    line.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_servers_document_only_code_and_message_are_told() {
        let text = "Error performing PUT: status code: 403: <?xml version=\"1.0\"?>\n<Error><Code>SignatureDoesNotMatch</Code>\
            <Message>No.</Message><CanonicalRequest>x-amz-security-token:canary</CanonicalRequest></Error>";
        assert_eq!(
            short(text),
            "Error performing PUT: status code: 403: SignatureDoesNotMatch No."
        );
        assert_eq!(short("a\nb"), "a b");
    }
}
