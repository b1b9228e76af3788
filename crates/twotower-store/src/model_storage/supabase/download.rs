use super::Api;
use super::api::{Call, Failure};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::{Method, StatusCode};
use object_store::Result;
use object_store::client::{HttpError, HttpResponse};
use object_store::path::Path as Key;
use std::sync::Arc;

/// Number of times that one download is resumed.
const RESUMPTIONS: u32 = 5;

/// A download that is resumed where its connection broke.
pub(super) struct Download {
    api: Arc<Api>,
    key: Key,
    pieces: BoxStream<'static, Result<Bytes, HttpError>>,
    received: u64,
    size: u64,
    resumptions: u32,
}

impl Download {
    /// Requests `key` from byte `from` on, and returns the head of the answer.
    pub(super) async fn request(api: &Api, key: &Key, from: u64) -> Result<HttpResponse> {
        let path = format!("/object/authenticated/{}/{key}", api.bucket);
        let mut call = Call::new(Method::GET, path);
        if from > 0 {
            call = call.header("range", format!("bytes={from}-"));
        }
        let answer = api.send(&call).await.map_err(|failure| failure.at(key))?;
        if from > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            let status = answer.status();
            return Err(Failure::Unexpected(format!("{status} for a part of an object")).at(key));
        }
        Ok(answer)
    }

    /// `response` is the answer to a request for all of `key`, which has `size` bytes.
    pub(super) fn new(api: &Arc<Api>, key: &Key, response: HttpResponse, size: u64) -> Self {
        Self {
            api: Arc::clone(api),
            key: key.clone(),
            pieces: response.into_body().bytes_stream(),
            received: 0,
            size,
            resumptions: 0,
        }
    }

    pub(super) fn pieces(self) -> BoxStream<'static, Result<Bytes>> {
        stream::try_unfold(self, |mut download| async {
            let piece = download.next().await?;
            Ok(piece.map(|piece| (piece, download)))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let failure = match self.pieces.next().await {
                Some(Ok(piece)) => {
                    self.received += piece.len() as u64;
                    return Ok(Some(piece));
                }
                None if self.received >= self.size => return Ok(None),
                None => Failure::Unexpected("it ends too early".into()),
                Some(Err(error)) => Failure::Http(error),
            };
            if self.resumptions == RESUMPTIONS {
                return Err(failure.at(&self.key));
            }
            self.resumptions += 1;
            let answer = Self::request(&self.api, &self.key, self.received).await?;
            self.pieces = answer.into_body().bytes_stream();
        }
    }
}
