use super::Api;
use super::api::{Call, Failure};
use crate::network::Backoff;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, header};
use object_store::client::HttpResponse;
use object_store::path::Path as Key;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use std::sync::Arc;

/// Path below the base of the API.
const UPLOADS: &str = "/upload/resumable";
/// Version of the tus protocol, <https://tus.io/protocols/resumable-upload>.
const VERSION: (&str, &str) = ("tus-resumable", "1.0.0");
const OFFSET: &str = "upload-offset";
/// Number of tries of one part. The offset of the upload is read between them.
const TRIES: u32 = 6;

/// Size of the whole object, which the server must know at the start. An extension of the options
/// of a multipart upload.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct TotalBytes(pub(in super::super) u64);

/// A multipart upload by the tus protocol. The key does not exist before the last byte has arrived.
/// Parts are sent one after the other; all but the last have the 6 MiB that the server requires.
#[derive(Debug)]
pub(super) struct ResumableUpload {
    upload: Arc<Upload>,
    /// Offset of the next part.
    offset: u64,
    total: u64,
}

#[derive(Debug)]
struct Upload {
    api: Arc<Api>,
    key: Key,
    /// Path below the base of the API.
    path: String,
}

impl ResumableUpload {
    pub(super) async fn begin(api: &Arc<Api>, key: &Key, total: u64) -> Result<Self> {
        let encode = |text: &str| STANDARD.encode(text);
        let metadata = [
            ("bucketName", encode(&api.bucket)),
            ("objectName", encode(key.as_ref())),
            ("contentType", encode("application/octet-stream")),
        ]
        .map(|(name, text)| format!("{name} {text}"));
        let call = tus(Method::POST, UPLOADS.into())
            .header("upload-length", total.to_string())
            .header("upload-metadata", metadata.join(","));
        let answer = api.send(&call).await.map_err(|failure| failure.at(key))?;
        let id = id_of(&answer).ok_or_else(|| {
            Failure::Unexpected("it does not say where to upload to".into()).at(key)
        })?;
        let upload = Upload {
            api: Arc::clone(api),
            key: key.clone(),
            path: format!("{UPLOADS}/{id}"),
        };
        Ok(Self {
            upload: Arc::new(upload),
            offset: 0,
            total,
        })
    }
}

fn tus(method: Method, path: String) -> Call {
    Call::new(method, path)
        .header(VERSION.0, VERSION.1)
        .header("x-upsert", "false")
}

/// The last segment of the upload's URL. The rest of the URL is ignored: our key is never sent to a
/// server that an answer names.
fn id_of(answer: &HttpResponse) -> Option<String> {
    let address = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let (_, id) = address.rsplit_once('/')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
    (!id.is_empty() && id.bytes().all(plain)).then(|| id.to_owned())
}

impl Upload {
    /// Sends the part that begins at `start`, and resumes after a broken connection.
    async fn send(&self, start: u64, part: Bytes) -> Result<(), Failure> {
        let end = start + part.len() as u64;
        let mut offset = start;
        let mut backoff = Backoff::default();
        let mut tries = 1;
        loop {
            let rest = part.slice((offset - start) as usize..);
            let call = tus(Method::PATCH, self.path.clone())
                .header("content-type", "application/offset+octet-stream")
                .header(OFFSET, offset.to_string())
                .body(PutPayload::from(rest));
            let failure = match self.api.once(&call).await {
                Ok(answer) if offset_of(&answer) == Some(end) => return Ok(()),
                // The server may take less than the whole part.
                Ok(_) => Failure::Refused {
                    status: 503,
                    message: format!("not all of the bytes up to {end} were taken"),
                },
                Err(failure) => failure,
            };
            let conflict = failure.status() == Some(409);
            if tries == TRIES || !(failure.is_outage() || conflict) {
                return Err(failure);
            }
            let arrived = self.offset().await?;
            if arrived == end {
                return Ok(());
            }
            // A conflict at the same offset means that an object has the key already.
            if conflict && arrived == offset || !(start..end).contains(&arrived) {
                return Err(failure);
            }
            offset = arrived;
            tries += 1;
            backoff.pause().await;
        }
    }

    /// Number of bytes that have arrived.
    async fn offset(&self) -> Result<u64, Failure> {
        let call = tus(Method::HEAD, self.path.clone());
        let answer = self.api.send(&call).await;
        let answer = answer.map_err(|failure| match failure.status() {
            // The upload is complete or expired; whether the object exists tells which.
            Some(404 | 410) => Failure::Refused {
                status: 503,
                message: "the upload is not known any more".into(),
            },
            _ => failure,
        })?;
        offset_of(&answer).ok_or_else(|| Failure::Unexpected("it states no offset".into()))
    }
}

fn offset_of(answer: &HttpResponse) -> Option<u64> {
    answer.headers().get(OFFSET)?.to_str().ok()?.parse().ok()
}

#[async_trait]
impl MultipartUpload for ResumableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (upload, start) = (Arc::clone(&self.upload), self.offset);
        self.offset += data.content_length() as u64;
        Box::pin(async move {
            let sent = upload.send(start, data.into()).await;
            sent.map_err(|failure| failure.at(&upload.key))
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if self.offset != self.total {
            let (sent, total) = (self.offset, self.total);
            let failure = Failure::Unexpected(format!("{sent} of {total} bytes were sent"));
            return Err(failure.at(&self.upload.key));
        }
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: http::Extensions::default(),
        })
    }

    /// An upload that is not cancelled expires by itself, at Supabase after a day.
    async fn abort(&mut self) -> Result<()> {
        let call = tus(Method::DELETE, self.upload.path.clone());
        match self.upload.api.done(&call).await {
            Err(failure) if matches!(failure.status(), Some(404 | 410)) => Ok(()),
            outcome => outcome.map_err(|failure| failure.at(&self.upload.key)),
        }
    }
}
