//! Whether strangers can read a bucket: they are asked to.

use super::address::Endpoint;
use super::{ModelStorage, StorageError};
use futures_util::StreamExt;
use http::{Method, Request, StatusCode};
use object_store::client::{HttpClient, HttpErrorKind, HttpRequestBody};
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

const PROBE: &str = ".probe-";
const PROBE_TEXT: &str = "twotower asks for this without credentials, to see whether the bucket is public. It may be deleted.\n";
/// A probe of this age was left behind by somebody who was killed.
const STALE: Duration = Duration::from_hours(1);
const TRIES: u32 = 4;

/// A bucket as those see it who have no credentials.
#[derive(Debug)]
pub(super) struct Outside {
    client: HttpClient,
    /// What a key is put behind, with a slash between.
    bases: Vec<String>,
    /// What lists the bucket.
    listing: String,
}

impl Outside {
    pub(super) fn new(client: HttpClient, endpoint: &Endpoint, bucket: &str) -> Self {
        let plain = format!("{}/{bucket}", endpoint.url);
        let listing = format!("{plain}?list-type=2&max-keys=1");
        let mut bases = vec![plain];
        bases.extend(endpoint.supabase_public(bucket));
        Self {
            client,
            bases,
            listing,
        }
    }

    /// Asks for `key`, which exists, and for a listing.
    pub(super) async fn must_refuse(&self, key: &Key) -> Result<(), StorageError> {
        for base in &self.bases {
            self.refused(&format!("{base}/{key}")).await?;
        }
        self.refused(&self.listing).await
    }

    async fn refused(&self, url: &str) -> Result<(), StorageError> {
        match self.status(url).await? {
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Err(StorageError::Public {
                url: url.to_owned(),
                status: status.as_u16(),
            }),
            status => Err(StorageError::Undetermined {
                url: url.to_owned(),
                answer: status.to_string(),
            }),
        }
    }

    async fn status(&self, url: &str) -> Result<StatusCode, StorageError> {
        let mut pause = Duration::from_millis(500);
        let mut tries = 1;
        loop {
            let mut request = Request::new(HttpRequestBody::empty());
            *request.method_mut() = Method::GET;
            *request.uri_mut() = url.parse().map_err(|_| StorageError::Endpoint {
                reason: "makes no URL together with the bucket",
            })?;
            let (reason, lasting) = match self.client.execute(request).await {
                Ok(answer) if answer.status().is_server_error() && tries < TRIES => {
                    (answer.status().to_string(), false)
                }
                Ok(answer) => return Ok(answer.status()),
                Err(error) => {
                    let lasting = matches!(error.kind(), HttpErrorKind::Decode);
                    (error.to_string(), lasting)
                }
            };
            if lasting || tries == TRIES {
                return Err(StorageError::Storage {
                    doing: "ask without credentials for",
                    key: url.to_owned(),
                    reason,
                    outage: true,
                });
            }
            tries += 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

impl ModelStorage {
    /// Refuses a public bucket before anything of a model is in it: puts an object that says nothing and asks for that. It lies
    /// where the model will, since some policies are about a part of a bucket.
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

    /// Who publishes need not have the right to delete.
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

    /// Asks a server of which the paths that contain `open` answer with `status`, and all others with 403.
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
        let outside = Outside::new(client, &endpoint, "models");
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
