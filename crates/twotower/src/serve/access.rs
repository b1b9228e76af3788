use super::admission::Admission;
use super::auth::Identity;
use super::error::ApiError;
use super::metrics::Answered;
use super::router::App;
use super::timing::{Stage, Timing};
use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Admits requests for lists, or sheds them.
pub(super) async fn admit_reads(
    State(app): State<Arc<App>>,
    Extension(timing): Extension<Timing>,
    request: Request,
    next: Next,
) -> Response {
    admit(&app, &app.read_admission, &timing, request, next).await
}

/// Admits requests that record events, or sheds them. Their places are their own, so that writes
/// that hang take none from lists.
pub(super) async fn admit_events(
    State(app): State<Arc<App>>,
    Extension(timing): Extension<Timing>,
    request: Request,
    next: Next,
) -> Response {
    admit(&app, &app.event_admission, &timing, request, next).await
}

async fn admit(
    app: &App,
    admission: &Admission,
    timing: &Timing,
    request: Request,
    next: Next,
) -> Response {
    let admitted = {
        let _recording = timing.stage(Stage::Queue);
        admission.admit().await
    };
    let permit = match admitted {
        Ok(permit) => permit,
        Err(shed) => {
            app.metrics.shed(shed.label());
            app.refusals.hold().await;
            return ApiError::Overloaded.into_response();
        }
    };
    let response = next.run(request).await;
    // An answer without the database says nothing about the latency of others. A cached answer
    // does: it has read the user's state.
    let answered = response.extensions().get::<Answered>();
    let complete = answered.is_none_or(|answered| !answered.partial);
    let is_measured = response.status().is_success() && complete
        || matches!(response.extensions().get(), Some(ApiError::Timeout { .. }));
    if is_measured {
        permit.measured();
    } else {
        drop(permit);
    }
    // A refusal that is held takes no place.
    let error = response.extensions().get::<ApiError>();
    let is_shed = error.is_some_and(ApiError::is_shed);
    if is_shed {
        app.refusals.hold().await;
    }
    response
}

/// Lets holders of a user's token pass, each within the rate limit. The handler finds an
/// [`Identity`] among the request's extensions, so that no handler can forget this check.
pub(super) async fn user(
    State(app): State<Arc<App>>,
    Extension(timing): Extension<Timing>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let identity: Identity = {
        let _recording = timing.stage(Stage::Auth);
        app.auth.authenticate(request.headers()).await?
    };
    if let Some(Err(wait)) = app
        .user_rates
        .as_ref()
        .map(|rates| rates.take(identity.user, 1))
    {
        app.metrics.shed("user_rate");
        return Err(ApiError::TooManyRequests { wait });
    }
    request.extensions_mut().insert(identity);
    Ok(next.run(request).await)
}

/// Lets holders of a token of the service role pass.
pub(super) async fn service(
    State(app): State<Arc<App>>,
    Extension(timing): Extension<Timing>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let identity = {
        let _recording = timing.stage(Stage::Auth);
        app.auth.authenticate_service(request.headers()).await?
    };
    request.extensions_mut().insert(identity);
    Ok(next.run(request).await)
}
