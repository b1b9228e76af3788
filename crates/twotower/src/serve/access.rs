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

/// Lets a request in on a place among those worked on, or tells it to come back.
pub(super) async fn admit(
    State(app): State<Arc<App>>,
    Extension(timing): Extension<Timing>,
    request: Request,
    next: Next,
) -> Response {
    let admitted = {
        let _recording = timing.stage(Stage::Queue);
        app.admission.admit().await
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
    // An answer without the database says nothing about how long one takes; one that was made before has asked it all the same.
    let answered = response.extensions().get::<Answered>();
    let whole = answered.is_none_or(|answered| !answered.partial);
    let worked_on = response.status().is_success() && whole
        || matches!(response.extensions().get(), Some(ApiError::Timeout { .. }));
    if worked_on {
        permit.measured();
    }
    response
}

/// Lets only holders of a user's token pass, each no more often than they may. The handler finds an [`Identity`] among the
/// request's extensions, so none can forget to ask.
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
        .map(|rates| rates.take(identity.user))
    {
        app.metrics.shed("user_rate");
        return Err(ApiError::TooManyRequests { wait });
    }
    request.extensions_mut().insert(identity);
    Ok(next.run(request).await)
}

/// Lets only holders of a token of the service role pass.
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
