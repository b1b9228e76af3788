use super::auth::AuthError;
use super::request_id::RequestId;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;
use thiserror::Error;
use twotower_store::StoreError;

/// Everything that can be answered instead of a result.
#[derive(Debug, Clone, Error)]
pub(crate) enum ApiError {
    /// What is wrong with the request, in words for its sender.
    #[error("{0}")]
    InvalidRequest(String),
    /// No valid token. The sender is not told why.
    #[error("{0}")]
    Unauthorized(AuthError),
    /// A valid token of somebody who was erased.
    #[error("the user of this token was erased")]
    Erased,
    /// Valid, but not from here.
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("there is nothing at this address")]
    NotFound,
    #[error("this address does not take this method")]
    MethodNotAllowed,
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    #[error("too many requests at once")]
    TooManyRequests,
    /// The database or the model cannot be used now; the reason is for the log.
    #[error("{0}")]
    Unavailable(Arc<str>),
    /// The deadline of `stage` has passed.
    #[error("the deadline for {stage} has passed")]
    Timeout {
        /// What took too long.
        stage: &'static str,
    },
    /// A defect of ours; the reason is for the log.
    #[error("{0}")]
    Internal(Arc<str>),
}

impl ApiError {
    /// The database could not answer.
    pub(crate) fn store(error: &StoreError) -> Self {
        match error {
            StoreError::Deadline { .. } | StoreError::Cancelled(_) => Self::Timeout {
                stage: "the database",
            },
            StoreError::ErasedUser => Self::Erased,
            _ => Self::Unavailable(format!("{error}").into()),
        }
    }

    /// Something that cannot happen has happened.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(format!("{error:#}").into())
    }

    /// Status, code and what the sender is told. The one place where errors become HTTP.
    fn describe(&self) -> (StatusCode, &'static str, String) {
        match self {
            Self::InvalidRequest(_) => {
                (StatusCode::BAD_REQUEST, "invalid_request", self.to_string())
            }
            Self::Unauthorized(AuthError::NoKeysYet) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "tokens cannot be verified at the moment".into(),
            ),
            Self::Unauthorized(_) => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "a valid bearer token is required".into(),
            ),
            Self::Erased => (StatusCode::UNAUTHORIZED, "unauthorized", self.to_string()),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", self.to_string()),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", self.to_string()),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                self.to_string(),
            ),
            Self::TooLarge { .. } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                self.to_string(),
            ),
            Self::TooManyRequests => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                self.to_string(),
            ),
            Self::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "recommendations are not available at the moment".into(),
            ),
            Self::Timeout { .. } => (
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "the answer took too long".into(),
            ),
            Self::Internal(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "something went wrong on our side".into(),
            ),
        }
    }

    /// The code, and what the sender is told.
    pub(super) fn code_and_message(&self) -> (&'static str, String) {
        let (_, code, message) = self.describe();
        (code, message)
    }

    /// Logs what the sender is not told and writes the answer's body.
    pub(super) fn render(&self, response: &mut Response, id: &RequestId) {
        let (status, code, message) = self.describe();
        if status.is_server_error() {
            tracing::error!(request_id = %id, code, error = %self, "request failed");
        } else if matches!(self, Self::Unauthorized(_) | Self::Erased) {
            tracing::info!(request_id = %id, code, error = %self, "request refused");
        }
        let body = json!({"error": {"code": code, "message": message, "request_id": id.as_str()}});
        *response.body_mut() = Body::from(body.to_string());
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        Self::Unauthorized(error)
    }
}

/// The body names the request, which only the outermost layer knows: it finds the error among the extensions.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.describe().0.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
