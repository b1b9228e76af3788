use super::{Schemas, schema_of};
use crate::serve::endpoint::{Access, Body, ENDPOINTS, Endpoint, SIMILAR_VIDEOS};
use crate::serve::error::ErrorBody;
use serde_json::Value;
use utoipa::openapi::path::{OperationBuilder, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, Header, InfoBuilder, OpenApiBuilder, PathsBuilder, Required,
    ResponseBuilder, Responses,
};

const BEARER: &str = "bearer";
const JSON: &str = "application/json";

/// Errors of every path.
const ALWAYS: &[(u16, &str)] = &[
    (400, "The request is wrong; the message says what"),
    (405, "The address does not take this method"),
    (413, "The body is too large"),
    (500, "A defect of the server"),
    (504, "A deadline has passed"),
];

/// Errors of paths that require a token.
const GUARDED: &[(u16, &str)] = &[
    (401, "No valid token, or one of a user who was erased"),
    (403, "A valid token of the wrong kind"),
    (
        503,
        "The server is busy, or keys, database or model cannot be used now",
    ),
];

/// Errors of paths for users.
const OF_USERS: &[(u16, &str)] = &[(429, "Too many requests or events of this user")];

/// Errors of the path of similar videos.
const OF_SIMILAR_VIDEOS: &[(u16, &str)] =
    &[(404, "`video_id` names no video that can be recommended")];

/// The whole document as indented JSON, with a line break at the end.
pub fn document() -> String {
    let mut schemas = Schemas::new();
    let mut paths = PathsBuilder::new();
    for endpoint in ENDPOINTS {
        let operation = operation(endpoint, &mut schemas);
        paths = paths.path(
            endpoint.path,
            PathItem::new(endpoint.method.clone(), operation),
        );
    }
    let info = InfoBuilder::new()
        .title("twotower")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Recommendations of a two-tower model."));
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .build();
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(BEARER, SecurityScheme::Http(bearer))
        .build();
    let document = OpenApiBuilder::new()
        .info(info.build())
        .paths(paths.build())
        .components(Some(components))
        .build();
    let mut document = serde_json::to_value(document).unwrap_or_default();
    close_objects(&mut document["components"]["schemas"]);
    format!("{document:#}\n")
}

fn operation(endpoint: &Endpoint, schemas: &mut Schemas) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(endpoint.operation))
        .summary(Some(endpoint.summary));
    if let Some(request) = endpoint.request {
        // The body may be absent if every field may be.
        let required = if endpoint.body_required {
            Required::True
        } else {
            Required::False
        };
        let body = RequestBodyBuilder::new()
            .content(JSON, Content::new(Some(request(schemas))))
            .required(Some(required));
        operation = operation.request_body(Some(body.build()));
    }
    let mut responses = Responses::new();
    let (guarded, rated): (&[_], &[_]) = match endpoint.access {
        Access::Anyone => (&[], &[]),
        Access::User => (GUARDED, OF_USERS),
        Access::Service => (GUARDED, &[]),
    };
    let own: &[_] = match endpoint.path {
        SIMILAR_VIDEOS => OF_SIMILAR_VIDEOS,
        _ => &[],
    };
    if endpoint.access != Access::Anyone {
        let bearer = SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, []);
        operation = operation.security(bearer);
    }
    for &(status, description) in &[ALWAYS, guarded, rated, own].concat() {
        let body = Content::new(Some(schema_of::<ErrorBody>(schemas)));
        responses.responses.insert(
            status.to_string(),
            response(status, description)
                .content(JSON, body)
                .build()
                .into(),
        );
    }
    for answer in endpoint.answers {
        let (media_type, schema) = match answer.body {
            Body::Json(schema) => (JSON, schema(schemas)),
            Body::Text => ("text/plain", text().into()),
        };
        responses.responses.insert(
            answer.status.to_string(),
            response(answer.status, answer.description)
                .content(media_type, Content::new(Some(schema)))
                .build()
                .into(),
        );
    }
    operation.responses(responses)
}

/// A response with the headers of this status.
fn response(status: u16, description: &str) -> ResponseBuilder {
    let response = ResponseBuilder::new()
        .description(description)
        .header("X-Request-Id", Header::new(text()))
        .header("Server-Timing", Header::new(text()));
    match status {
        401 => response.header("WWW-Authenticate", Header::new(text())),
        429 | 503 => {
            let seconds = ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(1))
                .build();
            response.header("Retry-After", Header::new(seconds))
        }
        _ => response,
    }
}

fn text() -> Object {
    ObjectBuilder::new().schema_type(Type::String).build()
}

/// A field that the document does not name is a defect, in requests and in responses.
fn close_objects(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") {
                fields.insert("additionalProperties".into(), Value::Bool(false));
            }
            fields.values_mut().for_each(close_objects);
        }
        Value::Array(parts) => parts.iter_mut().for_each(close_objects),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == document(),
            "docs/openapi.json is not what the types say: run `twotower openapi > docs/openapi.json`"
        );
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let mut names: Vec<_> = ENDPOINTS
            .iter()
            .map(|endpoint| endpoint.operation)
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ENDPOINTS.len());
    }
}
