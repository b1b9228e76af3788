use super::health::{Health, Readiness};
use super::openapi::{self, SchemaOf, schema_of};
use super::recommendations;
use utoipa::openapi::HttpMethod;

/// The path of the Supabase Edge Function, so that a client changes only its base URL.
pub(super) const RECOMMENDATIONS: &str = "/functions/v1/two_tower_recommendations";
pub(super) const SIMILAR_VIDEOS: &str = "/functions/v1/similar_videos";
pub(super) const BATCH: &str = "/functions/v1/batch_recommendations";
pub(super) const EVENTS: &str = "/functions/v1/events";
pub(super) const HEALTH: &str = "/healthz";
pub(super) const READINESS: &str = "/readyz";
pub(super) const OPENAPI: &str = "/openapi.json";
pub(super) const METRICS: &str = "/metrics";

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever reaches the port.
    Anyone,
    /// Whoever has a user's token.
    User,
    /// The application itself: whoever has a token of the service role.
    Service,
}

/// One address of the API, as the contract has it: the one place for its name in logs and metrics, for what other origins may
/// ask, and for what `openapi.json` says.
pub(super) struct Endpoint {
    pub(super) method: HttpMethod,
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// In generated clients.
    pub(super) operation: &'static str,
    pub(super) summary: &'static str,
    /// The JSON body that it takes.
    pub(super) request: Option<SchemaOf>,
    /// Whether it has fields that must be there.
    pub(super) body_required: bool,
    /// What it answers with, besides errors.
    pub(super) answers: &'static [Answer],
}

/// A status, when it comes, and its body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) body: Body,
}

/// What an answer is made of.
pub(super) enum Body {
    Json(SchemaOf),
    Text,
}

pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        method: HttpMethod::Post,
        path: RECOMMENDATIONS,
        access: Access::User,
        operation: "recommend",
        summary: "What the token's user should see next",
        request: Some(schema_of::<openapi::RecommendationsRequest>),
        body_required: false,
        answers: &[Answer {
            status: 200,
            description: "Videos, best first",
            body: Body::Json(schema_of::<recommendations::Answer>),
        }],
    },
    Endpoint {
        method: HttpMethod::Post,
        path: SIMILAR_VIDEOS,
        access: Access::User,
        operation: "similarVideos",
        summary: "What is like a video, for the token's user",
        request: Some(openapi::similar_videos_request),
        body_required: true,
        answers: &[Answer {
            status: 200,
            description: "Videos, most alike first",
            body: Body::Json(schema_of::<recommendations::SimilarVideos>),
        }],
    },
    Endpoint {
        method: HttpMethod::Post,
        path: BATCH,
        access: Access::Service,
        operation: "batchRecommendations",
        summary: "What each of some users should see next",
        request: Some(openapi::batch_request),
        body_required: true,
        answers: &[Answer {
            status: 200,
            description: "A list for each user, or why there is none, in the order asked for",
            body: Body::Json(schema_of::<recommendations::Batch>),
        }],
    },
    Endpoint {
        method: HttpMethod::Post,
        path: EVENTS,
        access: Access::User,
        operation: "recordEvents",
        summary: "What the token's user was shown, watched, liked and skipped",
        request: Some(schema_of::<openapi::EventsRequest>),
        body_required: true,
        answers: &[Answer {
            status: 200,
            description: "Each event is recorded, now or before",
            body: Body::Json(schema_of::<openapi::EventsRecorded>),
        }],
    },
    Endpoint {
        method: HttpMethod::Get,
        path: HEALTH,
        access: Access::Anyone,
        operation: "health",
        summary: "Whether the process runs",
        request: None,
        body_required: false,
        answers: &[Answer {
            status: 200,
            description: "It does",
            body: Body::Json(schema_of::<Health>),
        }],
    },
    Endpoint {
        method: HttpMethod::Get,
        path: READINESS,
        access: Access::Anyone,
        operation: "readiness",
        summary: "Whether requests are answered",
        request: None,
        body_required: false,
        answers: &[
            Answer {
                status: 200,
                description: "They are; the checks say what is not as it should be",
                body: Body::Json(schema_of::<Readiness>),
            },
            Answer {
                status: 503,
                description: "They are not; the checks say why",
                body: Body::Json(schema_of::<Readiness>),
            },
        ],
    },
    Endpoint {
        method: HttpMethod::Get,
        path: OPENAPI,
        access: Access::Anyone,
        operation: "openapi",
        summary: "This document",
        request: None,
        body_required: false,
        answers: &[Answer {
            status: 200,
            description: "OpenAPI 3.1",
            body: Body::Json(openapi::any_object),
        }],
    },
    Endpoint {
        method: HttpMethod::Get,
        path: METRICS,
        access: Access::Service,
        operation: "metrics",
        summary: "Figures for Prometheus",
        request: None,
        body_required: false,
        answers: &[Answer {
            status: 200,
            description: "The text format of Prometheus, version 0.0.4",
            body: Body::Text,
        }],
    },
];

/// The endpoint at `path`.
pub(super) fn find(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
}

/// What logs and metrics call a path: a path may hold anything that a caller likes, so they name only ours.
pub(super) fn label(path: &str) -> &'static str {
    match find(path) {
        Some(endpoint) => endpoint.path,
        None if path == "/" => "/",
        None if path.starts_with("/console/") => "/console/…",
        None => "other",
    }
}
