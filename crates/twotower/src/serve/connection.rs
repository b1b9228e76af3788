mod lingering;

mod write_deadline;

use super::body::BodyUnread;
use super::limits::Limits;
use super::metrics::Metrics;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lingering::{Lingering, Unread};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;
use write_deadline::WriteDeadline;

/// Room for a token of 8 KiB and the usual headers.
const MAX_HEADER_BYTES: usize = 24 * 1024;
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Pause when the operating system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until `shutdown`, then lets requests in flight end, for at most
/// [`Limits::drain`].
///
/// axum's own loop has no deadline for headers, so a client that sends them slowly would hold its
/// socket for ever. So would a client that never reads its answers.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            // Waiting for a permit before accepting leaves further clients in the kernel's queue.
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            (permit, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let connection = serve_one(stream, router.clone(), limits, stopping.clone());
                    let metrics = Arc::clone(&metrics);
                    connections.spawn(async move {
                        let _permit = permit;
                        let _counted = metrics.connection();
                        connection.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    stop.send_replace(true);
    let drained = tokio::time::timeout(limits.drain, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "cut off requests in flight"
        );
    }
}

async fn serve_one(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let unread = Unread::default();
    let service = {
        let unread = unread.clone();
        router
            .map_request(|request: hyper::Request<Incoming>| request.map(Body::new))
            .map_response(move |response: Response| {
                if response.extensions().get::<BodyUnread>().is_some() {
                    unread.set();
                }
                response
            })
    };
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES);
    let stream = WriteDeadline::new(stream, limits.write);
    let stream = TokioIo::new(Lingering::new(stream, unread, limits.linger));
    let connection = builder.serve_connection(stream, TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = async { let _ = stopping.wait_for(|&stop| stop).await; } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}
