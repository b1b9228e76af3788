//! Metrics for Prometheus, with one registry for each server, passed to whatever counts.
//!
//! The `metrics` facade has one registry for the whole process, and its Prometheus exporter brings
//! a dozen crates and a task that must run to keep its histograms from growing. Here there are a
//! few dozen series, whose labels are all known at compile time.

mod catalogue;

mod process;

mod registry;

mod text;

pub use catalogue::{CATALOGUE, Kind, Metric};
pub use registry::{
    Answered, CacheOutcome, Fallback, JobFigures, Metrics, PoolState, ReadFrom, SnapshotFigures,
    Success,
};

use super::endpoint::{HEALTH, METRICS, READINESS};
use super::health;
use super::router::App;
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// The router of the metrics' own listener, which requires no token. It also serves health: its
/// connections are counted separately, so a probe gets one even while clients hold all connections
/// of the API.
pub(super) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route(METRICS, get(serve))
        .route(HEALTH, get(health::healthz))
        .route(READINESS, get(health::readyz))
        .with_state(Arc::clone(app))
}

/// `GET /metrics`
pub(super) async fn serve(State(app): State<Arc<App>>) -> Response {
    let load = app.load();
    app.metrics
        .set_load(load.limit, load.in_flight, load.waiting);
    app.metrics.set_cache_entries(app.answers.len() as usize);
    let pool = app.store.connections();
    app.metrics.set_pool_connections(PoolState::Idle, pool.idle);
    app.metrics.set_pool_connections(PoolState::Busy, pool.busy);
    let snapshot = app.snapshots.current();
    app.metrics
        .set_model(snapshot.as_ref().and_then(|held| held.version()));
    // The content type of Prometheus' text format.
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], app.metrics.render()).into_response()
}
