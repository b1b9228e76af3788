use super::access;
use super::admission::{Admission, Load, Refusals, UserRates};
use super::auth::Authenticator;
use super::cors::{self, CorsOrigins};
use super::endpoint::{
    self, BATCH, EVENTS, HEALTH, METRICS, OPENAPI, READINESS, RECOMMENDATIONS, SIMILAR_VIDEOS,
};
use super::error::ApiError;
use super::events::WriteLimiter;
use super::health::DatabaseCheck;
use super::limits::Limits;
use super::metrics::{Answered, Metrics};
use super::recommendations::{AnswerCache, Policy, RecallProbe, Subjects, UserStates};
use super::replica::Sources;
use super::request_id::{self, RequestId};
use super::snapshot::Snapshots;
use super::timing::Timing;
use super::{body, events, health, metrics, openapi, recommendations};
use crate::log_lines::REQUESTS;
use axum::Router;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tower::ServiceBuilder;
use twotower_store::{EventPolicy, Store};
use uuid::Uuid;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// State that all requests share.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) auth: Authenticator,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) limits: Limits,
    pub(super) policy: Policy,
    pub(super) events: EventPolicy,
    pub(super) sources: Arc<Sources>,
    pub(super) states: UserStates,
    pub(super) answers: AnswerCache,
    pub(super) subjects: Subjects,
    pub(super) probe: Arc<RecallProbe>,
    pub(crate) metrics: Arc<Metrics>,
    /// One permit for each core: more rankings at once would only slow each other down.
    pub(super) scoring: Arc<Semaphore>,
    pub(super) database: DatabaseCheck,
    /// Of lists and everything else but events.
    pub(super) read_admission: Admission,
    pub(super) event_admission: Admission,
    pub(super) event_writes: WriteLimiter,
    pub(super) user_rates: Option<UserRates>,
    pub(super) user_events: Option<UserRates>,
    pub(super) refusals: Refusals,
}

/// What an [`App`] is made of.
pub(super) struct AppParts {
    pub(super) store: Store,
    pub(super) sources: Arc<Sources>,
    pub(super) auth: Authenticator,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) limits: Limits,
    pub(super) policy: Policy,
    pub(super) events: EventPolicy,
    pub(super) metrics: Arc<Metrics>,
}

impl App {
    pub(super) fn new(parts: AppParts) -> Self {
        let AppParts {
            store,
            sources,
            auth,
            snapshots,
            limits,
            policy,
            events,
            metrics,
        } = parts;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            states: UserStates::new(&sources, &limits),
            event_writes: WriteLimiter::new(store.max_connections(), &limits),
            sources,
            answers: AnswerCache::new(limits.answers_kept),
            subjects: Subjects::default(),
            probe: Arc::default(),
            policy,
            events,
            store,
            auth,
            snapshots,
            metrics,
            scoring: Arc::new(Semaphore::new(cores)),
            database: DatabaseCheck::default(),
            read_admission: Admission::new(limits.concurrency),
            event_admission: Admission::new(limits.concurrency),
            user_rates: limits.user_rate.map(UserRates::new),
            user_events: limits.user_events.map(UserRates::new),
            refusals: Refusals::default(),
            limits,
        }
    }

    /// Requests in flight and waiting, and how many may be in flight.
    pub(super) fn load(&self) -> Load {
        self.read_admission.load() + self.event_admission.load()
    }

    /// Makes later reads of a user include the likes, skips or blocks that were just written
    /// through this server, and drops the user's answers. The database's notification of the change
    /// comes later, or never.
    pub(crate) fn user_changed(&self, user: Uuid) {
        let subject = self.subjects.of(user);
        self.sources.changed(subject);
        self.answers.drop_user(&subject);
    }
}

/// All routes, those of `console` among them.
pub(super) fn router(app: &Arc<App>, console: Option<Router>, origins: CorsOrigins) -> Router {
    let for_users = |handler: MethodRouter<Arc<App>>| {
        handler.route_layer(middleware::from_fn_with_state(
            Arc::clone(app),
            access::user,
        ))
    };
    let for_service = |handler: MethodRouter<Arc<App>>| {
        handler.route_layer(middleware::from_fn_with_state(
            Arc::clone(app),
            access::service,
        ))
    };
    let api = Router::new()
        .route(RECOMMENDATIONS, for_users(post(recommendations::recommend)))
        .route(SIMILAR_VIDEOS, for_users(post(recommendations::similar)))
        .route(BATCH, for_service(post(recommendations::batch)))
        .with_state(Arc::clone(app))
        .merge(console.unwrap_or_default())
        .layer(middleware::from_fn_with_state(
            Arc::clone(app),
            access::admit_reads,
        ));
    let event_routes = Router::new()
        .route(EVENTS, for_users(post(events::record)))
        .with_state(Arc::clone(app))
        .layer(middleware::from_fn_with_state(
            Arc::clone(app),
            access::admit_events,
        ));
    // Not subject to admission, so that they answer under overload. They share only connections
    // with the other routes, and the listener for metrics has its own.
    let health = Router::new()
        .route(HEALTH, get(health::healthz))
        .route(READINESS, get(health::readyz))
        .route(OPENAPI, get(openapi::serve))
        .route(METRICS, for_service(get(metrics::serve)))
        .with_state(Arc::clone(app));
    let routes = api
        .merge(event_routes)
        .merge(health)
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed);
    // Around the router and not around each route: a request clones a route once for each of its
    // layers, while clones of a router only count references.
    let layers = ServiceBuilder::new()
        .layer(middleware::from_fn_with_state(Arc::clone(app), answer))
        .layer(cors::layer(origins))
        .layer(middleware::from_fn_with_state(Arc::clone(app), bounded));
    Router::new().fallback_service(layers.service(routes))
}

/// Reads the whole body before anything else, and enforces the deadline of the whole request.
async fn bounded(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let work = async {
        match body::collect(request, app.limits.body_read).await {
            Ok(request) => next.run(request).await,
            Err(error) => body::unread(error.into_response()),
        }
    };
    let late = |_| {
        let stage = "the request";
        body::closing(ApiError::Timeout { stage }.into_response())
    };
    let answered = tokio::time::timeout(app.limits.request, work).await;
    answered.unwrap_or_else(late)
}

/// The outermost layer: names the request, renders errors, sets the headers of every answer, counts
/// it, and logs one line, which holds nothing that the caller wrote except a plain request id.
async fn answer(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let timing = Timing::default();
    request.extensions_mut().insert(timing.clone());
    let id = RequestId::of(request.headers());
    let method = endpoint::method_label(request.method());
    let route = endpoint::label(request.uri().path());
    let mut response = next.run(request).await;
    let error = response.extensions_mut().remove::<ApiError>();
    if let Some(error) = &error {
        error.render(&mut response, &id);
    }
    let elapsed = started.elapsed();
    let headers = response.headers_mut();
    headers.insert(request_id::HEADER, id.header_value());
    headers.insert(SERVER_TIMING, timing.header_value(elapsed));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    let status = response.status().as_u16();
    app.metrics.answered(route, status, elapsed, &timing);
    let answered = response.extensions_mut().remove::<Answered>();
    if let Some(answered) = answered {
        app.metrics.recommended(answered);
    }
    if error.as_ref().is_some_and(ApiError::is_shed) {
        return response;
    }
    tracing::info!(
        target: REQUESTS,
        request_id = %id,
        method,
        route,
        status,
        elapsed_us = elapsed.as_micros() as u64,
        bytes = response.body().size_hint().exact(),
        source = answered.map(|answered| answered.source),
        cached = answered.map(|answered| answered.cached),
        "answered"
    );
    response
}
