use super::health::{Health, Readiness};
use super::openapi::{self, SchemaOf, schema_of};
use super::recommendations;
use axum::http::Method;
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

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone who reaches the port.
    Anyone,
    /// The holder of a user's token.
    User,
    /// The application itself: the holder of a token of the service role.
    Service,
}

/// One address of the API. This is the single source of its name in logs and metrics, of what other
/// origins may request, and of `openapi.json`.
pub(super) struct Endpoint {
    pub(super) method: HttpMethod,
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// Name in generated clients.
    pub(super) operation: &'static str,
    pub(super) summary: &'static str,
    /// The JSON body of a request.
    pub(super) request: Option<SchemaOf>,
    /// Whether the body has required fields.
    pub(super) body_required: bool,
    /// Answers other than errors.
    pub(super) answers: &'static [Answer],
}

/// A status, its meaning, and its body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) body: Body,
}

/// The body of an answer.
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
        summary: "Videos that are similar to one, for the token's user",
        request: Some(openapi::similar_videos_request),
        body_required: true,
        answers: &[Answer {
            status: 200,
            description: "Videos, most similar first",
            body: Body::Json(schema_of::<recommendations::SimilarVideos>),
        }],
    },
    Endpoint {
        method: HttpMethod::Post,
        path: BATCH,
        access: Access::Service,
        operation: "batchRecommendations",
        summary: "Lists for several users",
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
            description: "The process runs",
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
                description: "Requests are answered; `checks` names anything that is wrong",
                body: Body::Json(schema_of::<Readiness>),
            },
            Answer {
                status: 503,
                description: "Requests are not answered; `checks` says why",
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
        summary: "Metrics for Prometheus",
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

/// The name of a path in logs and metrics. Callers choose paths freely, so only ours are named.
pub(super) fn label(path: &str) -> &'static str {
    match find(path) {
        Some(endpoint) => endpoint.path,
        None if path == "/" => "/",
        None if path.starts_with("/console/") => "/console/…",
        None => "other",
    }
}

/// The name of a method in the log. Any token is a method of HTTP (RFC 9110, section 9.1), a JWT
/// among them, so only common ones are named.
pub(super) fn method_label(method: &Method) -> &'static str {
    const METHODS: [&str; 7] = ["POST", "GET", "OPTIONS", "HEAD", "PUT", "PATCH", "DELETE"];
    let known = METHODS.into_iter().find(|known| method == *known);
    known.unwrap_or("other")
}
