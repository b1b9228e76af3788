//! A blocking client of the HTTP API of `twotower serve` and, for the functions that a project has
//! deployed, of Supabase.
//!
//! In asynchronous code, call it on a thread for blocking work.

mod types;

pub use types::*;

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use thiserror::Error;
use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode};
use uuid::Uuid;

/// Bytes of the longest answer: 100 lists of 100 videos with three reasons each.
const MAX_ANSWER: u64 = 16 << 20;

/// A client: the address of the server, and the deadline of calls.
#[derive(Debug, Clone)]
pub struct TwoTower {
    agent: Agent,
    base_url: String,
    publishable_key: Option<String>,
}

/// An answer, with the id that identifies it in the server's log and in events about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    /// The result.
    pub body: T,
    /// `X-Request-Id`; [`Event::request_id`] takes it.
    pub request_id: Option<String>,
}

/// An error of a call.
#[derive(Debug, Error)]
pub enum TwoTowerError {
    /// An error response of the server.
    #[error("{status}: {}", .details.message)]
    Refused {
        /// HTTP status.
        status: u16,
        /// The body of the response.
        details: ErrorDetails,
        /// When to try again, if the response states it.
        retry_after_s: Option<u64>,
    },
    /// A response from something in front of the server.
    #[error("status {status}, and not an answer of twotower's: {text}")]
    Unexpected {
        /// HTTP status.
        status: u16,
        /// The beginning of the body.
        text: String,
        /// When to try again, if the response states it.
        retry_after_s: Option<u64>,
    },
    /// No response, or not in time.
    #[error(transparent)]
    Http(#[from] ureq::Error),
    /// A request that cannot be sent, such as one with a score that is not finite.
    #[error("the request cannot be written as JSON: {0}")]
    Request(serde_json::Error),
}

impl TwoTowerError {
    /// Seconds after which to try again, if the server or a proxy states it in seconds.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Refused { retry_after_s, .. } | Self::Unexpected { retry_after_s, .. } => {
                *retry_after_s
            }
            Self::Http(_) | Self::Request(_) => None,
        }
    }
}

impl TwoTower {
    /// `base_url` is the address of `twotower serve`, or `https://<ref>.supabase.co`; `deadline` is
    /// for a whole call.
    pub fn new(base_url: &str, deadline: Duration) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(deadline))
            .build();
        Self {
            agent: config.new_agent(),
            base_url: base_url.trim_end_matches('/').to_owned(),
            publishable_key: None,
        }
    }

    /// Adds the publishable key that a Supabase project requires of every app.
    #[must_use]
    pub fn with_publishable_key(mut self, key: &str) -> Self {
        self.publishable_key = Some(key.to_owned());
        self
    }

    /// Recommendations for the token's user.
    ///
    /// # Errors
    /// [`TwoTowerError`]
    pub fn recommend(
        &self,
        access_token: &str,
        request: &RecommendationsRequest,
    ) -> Result<Answer<Recommendations>, TwoTowerError> {
        self.call("two_tower_recommendations", access_token, request)
    }

    /// Videos that are similar to a given one, for the token's user.
    ///
    /// # Errors
    /// [`TwoTowerError`]
    pub fn similar_videos(
        &self,
        access_token: &str,
        request: &SimilarVideosRequest,
    ) -> Result<Answer<SimilarVideos>, TwoTowerError> {
        self.call("similar_videos", access_token, request)
    }

    /// Lists for many users. Needs a token of the service role.
    ///
    /// # Errors
    /// [`TwoTowerError`]
    pub fn batch_recommendations(
        &self,
        access_token: &str,
        request: &BatchRequest,
    ) -> Result<Answer<Batch>, TwoTowerError> {
        self.call("batch_recommendations", access_token, request)
    }

    /// Records what the token's user was shown, watched, liked and skipped.
    ///
    /// # Errors
    /// [`TwoTowerError`]
    pub fn record_events(
        &self,
        access_token: &str,
        request: &EventsRequest,
    ) -> Result<Answer<EventsRecorded>, TwoTowerError> {
        self.call("events", access_token, request)
    }

    fn call<T: DeserializeOwned>(
        &self,
        name: &str,
        access_token: &str,
        request: &impl Serialize,
    ) -> Result<Answer<T>, TwoTowerError> {
        let body = serde_json::to_vec(request).map_err(TwoTowerError::Request)?;
        let mut call = self
            .agent
            .post(format!("{}/functions/v1/{name}", self.base_url))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {access_token}"));
        if let Some(key) = &self.publishable_key {
            call = call.header("apikey", key);
        }
        let (head, mut body) = call.send(&body)?.into_parts();
        let text = body
            .with_config()
            .limit(MAX_ANSWER)
            .lossy_utf8(true)
            .read_to_string()?;
        if head.status.is_success()
            && let Ok(body) = serde_json::from_str(&text)
        {
            return Ok(Answer {
                body,
                request_id: header(&head.headers, "x-request-id"),
            });
        }
        Err(refusal(head.status, &head.headers, &text))
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn refusal(status: StatusCode, headers: &HeaderMap, text: &str) -> TwoTowerError {
    let status = status.as_u16();
    // Proxies may send a date instead; that is ignored.
    let retry_after_s = header(headers, "retry-after").and_then(|text| text.parse().ok());
    match serde_json::from_str::<ErrorBody>(text) {
        Ok(body) => TwoTowerError::Refused {
            status,
            details: body.error,
            retry_after_s,
        },
        Err(_) => TwoTowerError::Unexpected {
            status,
            text: text.chars().take(200).collect(),
            retry_after_s,
        },
    }
}

impl Event {
    /// An event at the present time. `event_id` must be new for each event, so that one that is
    /// sent twice counts once.
    pub fn new(event_id: Uuid, kind: EventKind, video_id: Uuid) -> Self {
        Self {
            event_id,
            kind,
            video_id,
            at: None,
            model_version: None,
            position: None,
            request_id: None,
            watch_fraction: None,
        }
    }
}
