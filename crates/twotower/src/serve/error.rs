use super::admission::UserRate;
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

/// The body of every error answer.
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

/// All errors of the API.
#[derive(Debug, Clone, Error)]
pub(crate) enum ApiError {
    /// The request is invalid, for this reason.
    #[error("{0}")]
    InvalidRequest(String),
    /// No valid token. The sender is not told why.
    #[error("{0}")]
    Unauthorized(AuthError),
    /// A valid token of a user who was erased.
    #[error("the user of this token was erased")]
    Erased,
    /// A valid request, but not allowed from there.
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
        /// Limit, bytes.
        limit: usize,
    },
    /// The user sends more requests than allowed.
    #[error("too many requests")]
    TooManyRequests {
        /// Time until the next request is allowed.
        wait: Duration,
    },
    /// The user records more events than allowed.
    #[error(
        "too many events: at most {} a second in the long run and {} at once",
        rate.per_second,
        rate.burst
    )]
    TooManyEvents {
        /// The limit.
        rate: UserRate,
        /// Time until as many events are allowed.
        wait: Duration,
    },
    /// More requests than the server can handle.
    #[error("the server is busy")]
    Overloaded,
    /// Writes of events fail, and are not tried for a while.
    #[error("events cannot be recorded at the moment")]
    WritesFail {
        /// Time until the next write is tried.
        wait: Duration,
    },
    /// The database or the model cannot be used now. The reason is for the log only.
    #[error("{0}")]
    Unavailable(Arc<str>),
    /// The deadline of `stage` has passed.
    #[error("the deadline for {stage} has passed")]
    Timeout {
        /// The stage that took too long.
        stage: &'static str,
    },
    /// A defect of twotower. The reason is for the log only.
    #[error("{0}")]
    Internal(Arc<str>),
}

impl ApiError {
    /// An error of the database.
    pub(crate) fn store(error: &StoreError) -> Self {
        match error {
            StoreError::Deadline { .. } | StoreError::Cancelled(_) => Self::Timeout {
                stage: "the database",
            },
            StoreError::ErasedUser => Self::Erased,
            _ => Self::Unavailable(format!("{error}").into()),
        }
    }

    /// A defect: something that cannot happen has happened.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(format!("{error:#}").into())
    }

    /// Status and code. This is the one place where errors become HTTP.
    fn kind(&self) -> (StatusCode, ErrorCode) {
        use ErrorCode as Code;
        match self {
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, Code::InvalidRequest),
            Self::Unauthorized(AuthError::NoKeysYet | AuthError::KeysPending)
            | Self::WritesFail { .. }
            | Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
            Self::Unauthorized(AuthError::ServiceToken | AuthError::UserToken)
            | Self::Forbidden(_) => (StatusCode::FORBIDDEN, Code::Forbidden),
            Self::Unauthorized(_) | Self::Erased => (StatusCode::UNAUTHORIZED, Code::Unauthorized),
            Self::NotFound | Self::UnknownVideo => (StatusCode::NOT_FOUND, Code::NotFound),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::PayloadTooLarge),
            Self::TooManyRequests { .. } | Self::TooManyEvents { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests)
            }
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded),
            Self::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, Code::Timeout),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
        }
    }

    /// What the client is told in place of an error whose text is for the log only.
    fn withheld(&self) -> Option<&'static str> {
        match self {
            Self::Unauthorized(AuthError::NoKeysYet | AuthError::KeysPending) => {
                Some("tokens cannot be verified at the moment")
            }
            Self::Unauthorized(AuthError::ServiceToken | AuthError::UserToken)
            | Self::InvalidRequest(_)
            | Self::Erased
            | Self::Forbidden(_)
            | Self::UnknownVideo
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::TooLarge { .. }
            | Self::TooManyRequests { .. }
            | Self::TooManyEvents { .. }
            | Self::Overloaded
            | Self::WritesFail { .. } => None,
            Self::Unauthorized(_) => Some("a valid bearer token is required"),
            Self::Unavailable(_) => Some("recommendations are not available at the moment"),
            Self::Timeout { .. } => Some("the answer took too long"),
            Self::Internal(_) => Some("something went wrong on our side"),
        }
    }

    /// Code and message for the client.
    pub(super) fn code_and_message(&self) -> (ErrorCode, String) {
        let (_, code) = self.kind();
        let message = self
            .withheld()
            .map_or_else(|| self.to_string(), str::to_owned);
        (code, message)
    }

    /// Whether the request was shed. Metrics count these; a log line for each would add work to a
    /// busy server.
    pub(super) fn is_shed(&self) -> bool {
        matches!(self, Self::Overloaded | Self::WritesFail { .. })
    }

    /// Whole seconds after which to try again, if that may help, for `Retry-After`.
    fn retry_after_s(&self, status: StatusCode) -> Option<u64> {
        match self {
            Self::TooManyRequests { wait }
            | Self::TooManyEvents { wait, .. }
            | Self::WritesFail { wait } => Some(wait.as_secs() + 1),
            _ if status == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        }
    }

    /// Logs what the client is not told, and writes the body of the response.
    pub(super) fn render(&self, response: &mut Response, id: &RequestId) {
        let (status, _) = self.kind();
        let (code, message) = self.code_and_message();
        match self {
            _ if self.is_shed() => {}
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
        // Serializing three strings cannot fail.
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

/// The body contains the id of the request, which only the outermost layer knows. That layer finds
/// the error among the extensions.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.kind().0.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
