//! The HTTP client of `object_store`: HTTP/1.1 over rustls with ring, with a timeout for each wait.
//! The crate's own client would bring a second TLS library. Redirects are not followed.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Timeout for connecting.
const CONNECT: Duration = Duration::from_secs(10);
/// Timeout from the first byte of a request to the head of its answer. Enough for a part of 6 MiB
/// at 0.9 Mbit/s.
const REQUEST: Duration = Duration::from_mins(1);
/// Timeout between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// How long an idle connection is kept. Servers close theirs after a minute or more.
const IDLE: Duration = Duration::from_secs(20);

/// Creates clients that use TLS, or plain HTTP for a server on this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connector {
    pub(super) plain: bool,
}

impl Connector {
    /// A separate client.
    pub(super) fn client(self) -> Result<HttpClient, rustls::Error> {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider)?;
        let connector = if self.plain {
            tls.https_or_http().enable_http1().wrap_connector(tcp)
        } else {
            tls.https_only().enable_http1().wrap_connector(tcp)
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(HttpClient::new(Service(client)))
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        self.client().map_err(|error| object_store::Error::Generic {
            store: "HTTP client",
            source: Box::new(error),
        })
    }
}

#[derive(Debug)]
struct Service(Client<HttpsConnector<TcpConnector>, HttpRequestBody>);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(REQUEST, self.0.request(request)).await;
        let response = answer
            .map_err(|_| late("no answer", REQUEST))?
            .map_err(|error| {
                let kind = if error.is_connect() {
                    HttpErrorKind::Connect
                } else {
                    kind_of(&error)
                };
                HttpError::new(kind, Whole(error))
            })?;
        let (head, body) = response.into_parts();
        let body = TimedBody {
            body,
            sleep: Box::pin(tokio::time::sleep(SILENCE)),
            waiting: false,
        };
        Ok(HttpResponse::from_parts(
            head,
            HttpResponseBody::new(BoxBody::new(body)),
        ))
    }
}

fn late(what: &str, limit: Duration) -> HttpError {
    let error = io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{what} for {} s", limit.as_secs()),
    );
    HttpError::new(HttpErrorKind::Timeout, error)
}

/// Whether the request may have reached the server.
fn kind_of(error: &(dyn std::error::Error + 'static)) -> HttpErrorKind {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_timeout() {
                return HttpErrorKind::Timeout;
            }
            if error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted() {
                return HttpErrorKind::Interrupted;
            }
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::TimedOut => HttpErrorKind::Timeout,
                _ => HttpErrorKind::Interrupted,
            };
        }
        source = error.source();
    }
    HttpErrorKind::Unknown
}

/// Includes the cause: hyper's own text is only "client error (Connect)".
#[derive(Debug)]
struct Whole<E>(E);

impl<E: std::error::Error + 'static> std::fmt::Display for Whole<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Whole<E> {}

/// A body whose sender may not stay silent for long.
struct TimedBody {
    body: Incoming,
    sleep: Pin<Box<Sleep>>,
    /// Whether the sender is being awaited since `sleep` was set. A slow reader does not count
    /// against the sender.
    waiting: bool,
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.waiting = false;
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|error| HttpError::new(kind_of(&error), Whole(error)))
            }));
        }
        if !self.waiting {
            self.waiting = true;
            self.sleep.as_mut().reset(Instant::now() + SILENCE);
        }
        match self.sleep.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(late("nothing more came", SILENCE)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
