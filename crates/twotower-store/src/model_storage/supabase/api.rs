use super::super::address::Endpoint;
use super::ApiKey;
use crate::network::Backoff;
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Limited};
use object_store::client::{HttpClient, HttpError, HttpErrorKind, HttpRequestBody, HttpResponse};
use object_store::path::Path as Key;
use object_store::{Error, PutPayload};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Number of tries of one request.
const TRIES: u32 = 6;
/// Maximum bytes of an answer's document. A page of a listing has 30 KB.
const MAX_DOCUMENT: usize = 4 << 20;

/// A bucket of a project, with the rights of its owner.
#[derive(Debug)]
pub(in super::super) struct Api {
    client: HttpClient,
    /// `https://<ref>.supabase.co/storage/v1`
    pub(in super::super) base: String,
    pub(in super::super) bucket: String,
    key: ApiKey,
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    /// Path below the base, with its query.
    path: String,
    headers: Vec<(&'static str, String)>,
    body: PutPayload,
}

impl Call {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            headers: Vec::new(),
            body: PutPayload::default(),
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(mut self, body: PutPayload) -> Self {
        self.body = body;
        self
    }

    pub(super) fn json(self, body: &serde_json::Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string().into_bytes().into())
    }
}

/// Why a request failed.
#[derive(Debug, Error)]
pub(in super::super) enum Failure {
    /// The server refused it.
    #[error("status {status}: {message}")]
    Refused {
        /// The status in the answer's document: the answer itself has status 400 for nearly
        /// everything.
        status: u16,
        message: String,
    },
    /// No answer came, or an incomplete one.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The answer has another form than expected.
    #[error("the answer is not that of Supabase Storage: {0}")]
    Unexpected(String),
}

impl Failure {
    /// Whether a retry may succeed.
    pub(in super::super) fn is_outage(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 408 | 423 | 429 | 500..),
            Self::Http(error) => !matches!(error.kind(), HttpErrorKind::Decode),
            Self::Unexpected(_) => false,
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The failure as an error about an object.
    pub(super) fn at(self, key: &Key) -> Error {
        let path = key.to_string();
        let status = self.status();
        let source = Box::new(self);
        match status {
            Some(401) => Error::Unauthenticated { path, source },
            Some(403) => Error::PermissionDenied { path, source },
            Some(404) => Error::NotFound { path, source },
            Some(409) => Error::AlreadyExists { path, source },
            _ => Error::Generic {
                store: "Supabase Storage",
                source,
            },
        }
    }
}

/// The server's document of a refusal. Its status is a string, and more precise than that of the
/// answer.
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "statusCode")]
    status: Option<String>,
    error: Option<String>,
    message: Option<String>,
}

impl Api {
    pub(in super::super) fn new(
        client: HttpClient,
        project: &Endpoint,
        bucket: &str,
        key: ApiKey,
    ) -> Self {
        Self {
            client,
            base: format!("{}/storage/v1", project.url),
            bucket: bucket.to_owned(),
            key,
        }
    }

    /// The head of a successful answer, with its body still to come.
    pub(super) async fn send(&self, call: &Call) -> Result<HttpResponse, Failure> {
        again(|| self.once(call)).await
    }

    /// The JSON document of an answer.
    pub(super) async fn document<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        again(|| async {
            let document = collect(self.once(call).await?).await?;
            serde_json::from_slice(&document)
                .map_err(|error| Failure::Unexpected(error.to_string()))
        })
        .await
    }

    /// Sends a request and ignores the body of a successful answer, but reads it, so that the
    /// connection can be reused.
    pub(super) async fn done(&self, call: &Call) -> Result<(), Failure> {
        again(|| async { collect(self.once(call).await?).await.map(drop) }).await
    }

    /// A single try.
    pub(super) async fn once(&self, call: &Call) -> Result<HttpResponse, Failure> {
        let unsendable = |error: http::Error| Failure::Unexpected(error.to_string());
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", self.base, call.path))
            .body(HttpRequestBody::from(call.body.clone()))
            .map_err(unsendable)?;
        for (name, value) in &call.headers {
            let value = HeaderValue::from_str(value).map_err(|error| unsendable(error.into()))?;
            request.headers_mut().insert(*name, value);
        }
        self.key.put_into(request.headers_mut());
        let response = self.client.execute(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // A refusal counts even if its document does not arrive.
        let document = collect(response).await.unwrap_or_default();
        Err(refusal(status, &document))
    }
}

fn refusal(status: http::StatusCode, document: &[u8]) -> Failure {
    let said = serde_json::from_slice::<Refusal>(document).ok();
    let stated = said.as_ref().and_then(|said| said.status.as_ref());
    let stated = stated.and_then(|text| text.parse().ok());
    Failure::Refused {
        // An answer of 5xx is an outage, whatever its document says.
        status: match stated {
            Some(stated) if !status.is_server_error() => stated,
            _ => status.as_u16(),
        },
        message: said
            .and_then(Refusal::words)
            .or_else(|| plain_text(document))
            .unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason").to_owned()),
    }
}

impl Refusal {
    fn words(self) -> Option<String> {
        let words: Vec<String> = [self.error, self.message].into_iter().flatten().collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// The plain text with which resumable uploads are refused; a proxy's HTML page does not count.
fn plain_text(document: &[u8]) -> Option<String> {
    let text = str::from_utf8(document).ok()?.trim();
    (!text.is_empty() && !text.starts_with(['<', '{'])).then(|| text.to_owned())
}

async fn collect(response: HttpResponse) -> Result<Bytes, Failure> {
    let body = Limited::new(response.into_body(), MAX_DOCUMENT);
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(match error.downcast::<HttpError>() {
            Ok(error) => Failure::Http(*error),
            Err(error) => Failure::Unexpected(error.to_string()),
        }),
    }
}

/// Retries while that may help.
async fn again<T, F>(mut once: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut backoff = Backoff::default();
    let mut tries = 1;
    loop {
        match once().await {
            Err(failure) if failure.is_outage() && tries < TRIES => {
                tries += 1;
                backoff.pause().await;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn the_status_that_counts_is_the_one_in_the_document() {
        let of = |status: u16, document: &str| {
            let failure = refusal(StatusCode::from_u16(status).unwrap(), document.as_bytes());
            (failure.status().unwrap(), failure.is_outage())
        };
        let not_found =
            "{\"statusCode\":\"404\",\"error\":\"not_found\",\"message\":\"Object not found\"}";
        assert_eq!(of(400, not_found), (404, false));
        assert_eq!(of(400, "{\"statusCode\":\"423\"}"), (423, true));
        assert_eq!(of(544, "{\"statusCode\":\"544\"}"), (544, true));
        assert_eq!(of(500, "{\"statusCode\":\"404\"}"), (500, true));
        assert_eq!(of(401, "{\"message\":\"Invalid API key\"}"), (401, false));
        assert_eq!(of(502, "<html>"), (502, true));
        assert_eq!(of(429, ""), (429, true));
    }
}
