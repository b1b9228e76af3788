use super::auth::Authenticator;
use super::error::ApiError;
use super::limits::Limits;
use super::request_id::{self, RequestId};
use super::snapshot::Snapshots;
use super::{body, events, health, recommendations};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use twotower_store::Store;

/// The path of the Supabase Edge Function, so that a client changes only its base URL.
const RECOMMENDATIONS: &str = "/functions/v1/two_tower_recommendations";

/// What requests share.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) auth: Authenticator,
    pub(crate) snapshots: Snapshots,
    pub(crate) limits: Limits,
    /// One permit a core: more rankings at once would only slow each other down.
    pub(super) scoring: Semaphore,
    in_flight: Semaphore,
}

impl App {
    pub(super) fn new(
        store: Store,
        auth: Authenticator,
        snapshots: Snapshots,
        limits: Limits,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            store,
            auth,
            snapshots,
            scoring: Semaphore::new(cores),
            in_flight: Semaphore::new(limits.requests_in_flight),
            limits,
        }
    }
}

/// All routes; `console` brings its own.
pub(super) fn router(app: &Arc<App>, console: Option<Router>) -> Router {
    let api = Router::new()
        .route(RECOMMENDATIONS, post(recommendations::recommend))
        .with_state(Arc::clone(app))
        .merge(console.unwrap_or_default())
        .layer(middleware::from_fn_with_state(Arc::clone(app), admit));
    // Health answers also when everything else is at its limit.
    let health = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .with_state(Arc::clone(app));
    api.merge(health)
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(middleware::from_fn_with_state(
            Arc::clone(app),
            body::collect,
        ))
        .layer(middleware::from_fn_with_state(Arc::clone(app), deadline))
        .layer(middleware::from_fn(answer))
}

/// Turns requests away while too many are being worked on.
async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.in_flight.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => ApiError::TooManyRequests.into_response(),
    }
}

/// Ends requests that take too long as a whole, whatever the stage.
async fn deadline(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(app.limits.request, next.run(request)).await {
        Ok(response) => response,
        Err(_) => body::closing(
            ApiError::Timeout {
                stage: "the request",
            }
            .into_response(),
        ),
    }
}

/// The outermost layer: names the request, writes errors out, sets the headers of every answer, and logs one line that holds
/// nothing of the caller's.
async fn answer(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let method = request.method().clone();
    let route = route_label(request.uri().path());
    let mut response = next.run(request).await;
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        error.render(&mut response, &id);
    }
    let headers = response.headers_mut();
    headers.insert(request_id::HEADER, id.header_value());
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    tracing::info!(
        request_id = %id,
        %method,
        route,
        status = response.status().as_u16(),
        elapsed_us = started.elapsed().as_micros() as u64,
        "answered"
    );
    response
}

/// Paths may hold anything a caller likes, so the log names only ours.
fn route_label(path: &str) -> &'static str {
    match path {
        RECOMMENDATIONS => RECOMMENDATIONS,
        events::PATH => events::PATH,
        "/healthz" => "/healthz",
        "/readyz" => "/readyz",
        "/" => "/",
        _ if path.starts_with("/console/") => "/console/…",
        _ => "other",
    }
}
