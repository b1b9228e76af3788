use super::Api;
use super::api::{Call, Failure};
use super::download::Download;
use super::resumable::{ResumableUpload, TotalBytes};
use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use http::{Method, header};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use std::sync::Arc;

/// Entries per page of a listing.
const PAGE: usize = 100;

/// Objects of one bucket.
#[derive(Debug, Clone)]
pub(in super::super) struct SupabaseObjects(pub(in super::super) Arc<Api>);

/// An entry of a listing. A folder has no id and no metadata.
#[derive(Deserialize)]
struct Entry {
    name: String,
    id: Option<String>,
    updated_at: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    size: u64,
}

impl SupabaseObjects {
    fn path(&self, key: &Key) -> String {
        format!("/object/{}/{key}", self.0.bucket)
    }

    /// Direct entries of a folder.
    async fn folder(&self, folder: &Key) -> Result<ListResult> {
        let mut listing = ListResult {
            common_prefixes: Vec::new(),
            objects: Vec::new(),
            extensions: http::Extensions::default(),
        };
        for page in 0.. {
            let call =
                Call::new(Method::POST, format!("/object/list/{}", self.0.bucket)).json(&json!({
                    "prefix": folder.as_ref(),
                    "limit": PAGE,
                    "offset": page * PAGE,
                    "sortBy": {"column": "name", "order": "asc"},
                }));
            let entries: Vec<Entry> = match self.0.document(&call).await {
                // A missing bucket holds nothing.
                Err(failure) if failure.status() == Some(404) => Vec::new(),
                entries => entries.map_err(|failure| failure.at(folder))?,
            };
            let last = entries.len() < PAGE;
            for entry in entries {
                let key = folder.clone().join(entry.name.as_str());
                match (entry.id, entry.metadata) {
                    (Some(_), Some(metadata)) => {
                        listing
                            .objects
                            .push(object(key, entry.updated_at, metadata.size)?);
                    }
                    _ => listing.common_prefixes.push(key),
                }
            }
            if last {
                break;
            }
        }
        Ok(listing)
    }

    /// All objects below a folder.
    async fn below(&self, folder: Key) -> Result<Vec<ObjectMeta>> {
        let (mut objects, mut folders) = (Vec::new(), vec![folder]);
        while let Some(folder) = folders.pop() {
            let listing = self.folder(&folder).await?;
            objects.extend(listing.objects);
            folders.extend(listing.common_prefixes);
        }
        Ok(objects)
    }

    /// From a listing: the answer to HEAD does not distinguish a missing key from a refused
    /// request.
    async fn look_up(&self, key: &Key) -> Result<ObjectMeta> {
        let folder = key.parent().unwrap_or_default();
        let objects = self.folder(&folder).await?.objects;
        let found = objects.into_iter().find(|object| object.location == *key);
        found.ok_or_else(|| {
            let missing = Failure::Refused {
                status: 404,
                message: "it is not listed".into(),
            };
            missing.at(key)
        })
    }
}

fn object(key: Key, updated_at: Option<String>, size: u64) -> Result<ObjectMeta> {
    let last_modified = updated_at.and_then(|text| text.parse().ok());
    let untold = || Failure::Unexpected(format!("a listing states no time of {key}"));
    Ok(ObjectMeta {
        last_modified: last_modified.ok_or_else(|| untold().at(&key))?,
        location: key,
        size,
        e_tag: None,
        version: None,
    })
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: "Supabase Storage".to_owned(),
    }
}

#[async_trait]
impl ObjectStore for SupabaseObjects {
    /// With [`PutMode::Create`] the server checks for the key at the start of an upload. Of two
    /// concurrent uploads the later one wins, so a caller that needs more must check again.
    async fn put_opts(
        &self,
        key: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let upsert = match options.mode {
            PutMode::Create => "false",
            PutMode::Overwrite => "true",
            PutMode::Update(_) => return Err(not_implemented("a conditional update")),
        };
        let call = Call::new(Method::POST, self.path(key))
            .header("content-type", "application/octet-stream")
            .header("x-upsert", upsert)
            .body(payload);
        let done = self.0.done(&call).await;
        done.map_err(|failure| failure.at(key))?;
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: http::Extensions::default(),
        })
    }

    /// Requires [`TotalBytes`] among the extensions.
    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let Some(&TotalBytes(total)) = options.extensions.get() else {
            return Err(not_implemented("an upload of unknown length"));
        };
        let begun = ResumableUpload::begin(&self.0, key, total).await?;
        Ok(Box::new(begun))
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let conditional = options.if_match.is_some()
            || options.if_none_match.is_some()
            || options.if_modified_since.is_some()
            || options.if_unmodified_since.is_some();
        if conditional || options.range.is_some() || options.version.is_some() {
            return Err(not_implemented("a conditional read or one of a part"));
        }
        let (meta, pieces) = if options.head {
            (self.look_up(key).await?, stream::empty().boxed())
        } else {
            let response = Download::request(&self.0, key, 0).await?;
            let stated = response.headers().get(header::CONTENT_LENGTH);
            let size = stated.and_then(|text| text.to_str().ok()?.parse().ok());
            let meta = match size {
                Some(size) => ObjectMeta {
                    location: key.clone(),
                    last_modified: std::time::UNIX_EPOCH.into(),
                    size,
                    e_tag: None,
                    version: None,
                },
                None => self.look_up(key).await?,
            };
            let size = meta.size;
            (meta, Download::new(&self.0, key, response, size).pieces())
        };
        Ok(GetResult {
            range: 0..meta.size,
            payload: GetResultPayload::Stream(pieces),
            meta,
            attributes: object_store::Attributes::default(),
            extensions: http::Extensions::default(),
        })
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        let objects = self.clone();
        keys.and_then(move |key| {
            let objects = objects.clone();
            async move {
                let call = Call::new(Method::DELETE, objects.path(&key));
                let done = objects.0.done(&call).await;
                done.map_err(|failure| failure.at(&key))?;
                Ok(key)
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (objects, folder) = (self.clone(), prefix.cloned().unwrap_or_default());
        stream::once(async move { objects.below(folder).await })
            .map_ok(|found| stream::iter(found.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.folder(&prefix.cloned().unwrap_or_default()).await
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> Result<()> {
        Err(not_implemented("a copy"))
    }
}

impl fmt::Display for SupabaseObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Supabase bucket {}", self.0.bucket)
    }
}
