//! Checks whether a bucket is public, by requests without credentials.

use super::address::Endpoint;
use super::supabase::{Api, ApiKey};
use super::{ModelStorage, StorageError};
use crate::model_files::MANIFEST;
use crate::network::Backoff;
use futures_util::StreamExt;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use object_store::client::{HttpClient, HttpErrorKind, HttpRequestBody, HttpResponse};
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::json;
use std::hash::{BuildHasher, RandomState};
use std::iter;
use std::time::{Duration, SystemTime};

const PROBE: &str = ".probe-";
const PROBE_TEXT: &str = "twotower asks for this without credentials, to see whether the bucket is public. It may be deleted.\n";
/// Older probes are the remains of a killed process.
const STALE: Duration = Duration::from_hours(1);
const TRIES: u32 = 4;

/// A bucket as seen without credentials, or with only the key that every copy of an app contains.
#[derive(Debug)]
pub(super) struct Outside {
    client: HttpClient,
    /// Prefixes of the URLs of objects, without a slash at the end.
    bases: Vec<String>,
    listing: Listing,
    publishable: Option<ApiKey>,
}

/// How the bucket is listed.
#[derive(Debug)]
enum Listing {
    /// A URL.
    S3(String),
    /// A URL that takes a folder name in the body, and answers with an empty list where policies
    /// allow nothing.
    Supabase(String),
}

impl Outside {
    pub(super) fn of_s3(client: HttpClient, endpoint: &Endpoint, bucket: &str) -> Self {
        let plain = format!("{}/{bucket}", endpoint.url);
        let listing = Listing::S3(format!("{plain}?list-type=2&max-keys=1"));
        let mut bases = vec![plain];
        bases.extend(endpoint.supabase_public(bucket));
        Self {
            client,
            bases,
            listing,
            publishable: None,
        }
    }

    pub(super) fn of_supabase(client: HttpClient, api: &Api, publishable: Option<ApiKey>) -> Self {
        let (base, bucket) = (&api.base, &api.bucket);
        let bases = ["object/public", "object/authenticated", "object"];
        Self {
            client,
            bases: bases.map(|route| format!("{base}/{route}/{bucket}")).into(),
            listing: Listing::Supabase(format!("{base}/object/list/{bucket}")),
            publishable,
        }
    }

    /// Requests `key`, which exists, and a listing.
    pub(super) async fn must_refuse(&self, key: &Key) -> Result<(), StorageError> {
        let askers = iter::once(None).chain(self.publishable.as_ref().map(Some));
        for asker in askers {
            let get = |url: String| Question {
                method: Method::GET,
                url,
                body: String::new(),
                key: asker,
            };
            for base in &self.bases {
                self.refused(&get(format!("{base}/{key}"))).await?;
            }
            match &self.listing {
                Listing::S3(url) => self.refused(&get(url.clone())).await?,
                Listing::Supabase(url) => {
                    let folder = key.parent().unwrap_or_default();
                    let listing = Question {
                        method: Method::POST,
                        body: json!({"prefix": folder.as_ref(), "limit": 1}).to_string(),
                        ..get(url.clone())
                    };
                    self.refused(&listing).await?;
                }
            }
        }
        Ok(())
    }

    async fn refused(&self, question: &Question<'_>) -> Result<(), StorageError> {
        let (status, nothing) = self.ask(question).await?;
        match status {
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() && nothing => Ok(()),
            status if status.is_success() => Err(StorageError::Public {
                url: question.url.clone(),
                status: status.as_u16(),
            }),
            status => Err(StorageError::Undetermined {
                url: question.url.clone(),
                answer: status.to_string(),
            }),
        }
    }

    /// The status of the answer, and whether it is an empty list.
    async fn ask(&self, question: &Question<'_>) -> Result<(StatusCode, bool), StorageError> {
        let mut backoff = Backoff::default();
        let mut tries = 1;
        loop {
            let mut request = Request::new(HttpRequestBody::from(question.body.clone()));
            *request.method_mut() = question.method.clone();
            *request.uri_mut() = question.url.parse().map_err(|_| StorageError::Endpoint {
                reason: "makes no URL together with the bucket",
            })?;
            if question.method == Method::POST {
                let json = HeaderValue::from_static("application/json");
                request.headers_mut().insert(header::CONTENT_TYPE, json);
            }
            if let Some(key) = question.key {
                key.put_into(request.headers_mut());
            }
            let (reason, lasting) = match self.client.execute(request).await {
                Ok(answer) if answer.status().is_server_error() && tries < TRIES => {
                    (answer.status().to_string(), false)
                }
                Ok(answer) => {
                    let status = answer.status();
                    let listed = status.is_success() && question.method == Method::POST;
                    return Ok((status, listed && is_empty_list(answer).await));
                }
                Err(error) => {
                    let lasting = matches!(error.kind(), HttpErrorKind::Decode);
                    (error.to_string(), lasting)
                }
            };
            if lasting || tries == TRIES {
                return Err(StorageError::Storage {
                    doing: "ask without credentials for",
                    key: question.url.clone(),
                    reason,
                    outage: true,
                });
            }
            tries += 1;
            backoff.pause().await;
        }
    }
}

/// A request without the publisher's credentials.
struct Question<'a> {
    method: Method,
    url: String,
    body: String,
    key: Option<&'a ApiKey>,
}

async fn is_empty_list(answer: HttpResponse) -> bool {
    let body = Limited::new(answer.into_body(), PROBE_TEXT.len()).collect();
    body.await
        .is_ok_and(|body| body.to_bytes().trim_ascii() == b"[]")
}

impl ModelStorage {
    /// Requests a listing and the manifest of the newest version without credentials. Writes
    /// nothing. Returns false for a folder, which cannot be reached from outside.
    ///
    /// # Errors
    /// [`StorageError::Public`] or [`StorageError::PublicBucket`] if the requests succeed; others
    /// if the answers are inconclusive.
    pub async fn check_privacy(&self) -> Result<bool, StorageError> {
        let Some(outside) = &self.outside else {
            return Ok(false);
        };
        self.prepare_bucket(false).await?;
        let version = match self.complete_version(None).await {
            Ok(version) => version,
            // A request for a missing object is answered with "not found" or "forbidden".
            Err(StorageError::Empty { .. }) => 0,
            Err(error) => return Err(error),
        };
        outside.must_refuse(&self.key(version, MANIFEST)).await?;
        Ok(true)
    }

    /// Refuses a public bucket before anything of a model is uploaded: uploads a probe without
    /// content and requests it. The probe lies in the place of the model, since some policies apply
    /// to a part of a bucket.
    pub(super) async fn probe(&self, version: i64) -> Result<(), StorageError> {
        let Some(outside) = &self.outside else {
            return Ok(());
        };
        self.remove_stale_probes(version).await;
        let random = RandomState::new().hash_one(version);
        let key = self.key(version, &format!("{PROBE}{random:016x}"));
        let text = PutPayload::from_static(PROBE_TEXT.as_bytes());
        let put = self.objects.put(&key, text).await;
        put.map_err(|error| self.failed("write", &key, &error))?;
        let refused = outside.must_refuse(&key).await;
        self.remove_probe(&key).await;
        refused
    }

    /// A publisher may lack the right to delete.
    async fn remove_probe(&self, key: &Key) {
        if let Err(error) = self.objects.delete(key).await {
            tracing::warn!("{}; delete it by hand", self.failed("delete", key, &error));
        }
    }

    async fn remove_stale_probes(&self, version: i64) {
        let now = SystemTime::now();
        let mut objects = self.objects.list(Some(&self.folder(version)));
        while let Some(Ok(object)) = objects.next().await {
            let probe = object
                .location
                .filename()
                .is_some_and(|name| name.starts_with(PROBE));
            let age = now.duration_since(SystemTime::from(object.last_modified));
            if probe && age.is_ok_and(|age| age > STALE) {
                self.remove_probe(&object.location).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::Connector;
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Starts a server that answers with `status` for paths that contain `open`, and with 403 for
    /// all others.
    async fn ask(open: &'static str, status: u16) -> Result<(), StorageError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/storage/v1/s3", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut request) = (stream.unwrap(), [0; 4096]);
                let length = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
                assert!(!request.contains("authorization"), "{request}");
                let status = if request.contains(open) { status } else { 403 };
                let head = "content-length: 0\r\nlocation: /\r\nconnection: close";
                write!(stream, "HTTP/1.1 {status} x\r\n{head}\r\n\r\n").unwrap();
            }
        });
        let endpoint = Endpoint::parse(&url).unwrap();
        let client = Connector { plain: true }.client().unwrap();
        let outside = Outside::of_s3(client, &endpoint, "models");
        outside
            .must_refuse(&Key::from("pre/models/1/.probe-0"))
            .await
    }

    #[tokio::test]
    async fn each_way_into_a_bucket_is_tried() {
        for open in [
            "get /storage/v1/s3/models/pre/models/1/.probe-0 ",
            "get /storage/v1/object/public/models/pre/models/1/.probe-0 ",
            "get /storage/v1/s3/models?list-type=2&max-keys=1 ",
        ] {
            for refusal in [400, 401, 403, 404] {
                ask(open, refusal).await.unwrap();
            }
            for status in [200, 206] {
                let error = ask(open, status).await.unwrap_err();
                assert!(
                    matches!(error, StorageError::Public { .. }),
                    "{open}: {error}"
                );
            }
            let error = ask(open, 302).await.unwrap_err();
            assert!(
                matches!(error, StorageError::Undetermined { .. }),
                "{open}: {error}"
            );
        }
    }
}
