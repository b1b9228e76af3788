use super::auth::AuthError;
use super::request_id::RequestId;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use twotower_store::StoreError;
use utoipa::ToSchema;

/// The body of every answer that is none.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetails,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetails {
    code: ErrorCode,
    /// For people.
    message: String,
    /// As in the header `X-Request-Id`, and in the log.
    request_id: String,
}

/// For programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErrorCode {
    InvalidRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    PayloadTooLarge,
    TooManyRequests,
    Overloaded,
    Unavailable,
    Timeout,
    Internal,
}

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
    #[error("`video_id` names no video that can be recommended")]
    UnknownVideo,
    #[error("there is nothing at this address")]
    NotFound,
    #[error("this address does not take this method")]
    MethodNotAllowed,
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// More requests of one user than it may send.
    #[error("too many requests")]
    TooManyRequests {
        /// Until the next one is allowed.
        wait: Duration,
    },
    /// More requests than the server can work on.
    #[error("the server is busy")]
    Overloaded,
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
    fn describe(&self) -> (StatusCode, ErrorCode, String) {
        match self {
            Self::InvalidRequest(_) => (
                StatusCode::BAD_REQUEST,
                ErrorCode::InvalidRequest,
                self.to_string(),
            ),
            Self::Unauthorized(AuthError::NoKeysYet | AuthError::KeysPending) => (
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Unavailable,
                "tokens cannot be verified at the moment".into(),
            ),
            Self::Unauthorized(error @ (AuthError::ServiceToken | AuthError::UserToken)) => (
                StatusCode::FORBIDDEN,
                ErrorCode::Forbidden,
                error.to_string(),
            ),
            Self::Unauthorized(_) => (
                StatusCode::UNAUTHORIZED,
                ErrorCode::Unauthorized,
                "a valid bearer token is required".into(),
            ),
            Self::Erased => (
                StatusCode::UNAUTHORIZED,
                ErrorCode::Unauthorized,
                self.to_string(),
            ),
            Self::Forbidden(_) => (
                StatusCode::FORBIDDEN,
                ErrorCode::Forbidden,
                self.to_string(),
            ),
            Self::NotFound | Self::UnknownVideo => {
                (StatusCode::NOT_FOUND, ErrorCode::NotFound, self.to_string())
            }
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::MethodNotAllowed,
                self.to_string(),
            ),
            Self::TooLarge { .. } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                ErrorCode::PayloadTooLarge,
                self.to_string(),
            ),
            Self::TooManyRequests { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::TooManyRequests,
                self.to_string(),
            ),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Overloaded,
                self.to_string(),
            ),
            Self::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Unavailable,
                "recommendations are not available at the moment".into(),
            ),
            Self::Timeout { .. } => (
                StatusCode::GATEWAY_TIMEOUT,
                ErrorCode::Timeout,
                "the answer took too long".into(),
            ),
            Self::Internal(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                ErrorCode::Internal,
                "something went wrong on our side".into(),
            ),
        }
    }

    /// The code, and what the sender is told.
    pub(super) fn code_and_message(&self) -> (ErrorCode, String) {
        let (_, code, message) = self.describe();
        (code, message)
    }

    /// When to come back, if that may help; whole seconds, as the header has them.
    fn retry_after_s(&self, status: StatusCode) -> Option<u64> {
        match self {
            Self::TooManyRequests { wait } => Some(wait.as_secs() + 1),
            _ if status == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        }
    }

    /// Logs what the sender is not told and writes the answer's body.
    pub(super) fn render(&self, response: &mut Response, id: &RequestId) {
        let (status, code, message) = self.describe();
        match self {
            // What is shed is counted; a line for each would be one more thing to do for a busy server.
            Self::Overloaded => {}
            Self::Unauthorized(_) | Self::Erased => {
                tracing::info!(request_id = %id, ?code, error = %self, "request refused");
            }
            _ if status.is_server_error() => {
                tracing::error!(request_id = %id, ?code, error = %self, "request failed");
            }
            _ => {}
        }
        let body = ErrorBody {
            error: ErrorDetails {
                code,
                message,
                request_id: id.as_str().to_owned(),
            },
        };
        // Three texts cannot fail to become JSON.
        *response.body_mut() = Body::from(serde_json::to_vec(&body).unwrap_or_default());
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s(status) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
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
