//! The HTTP API as an `OpenAPI` 3.1 document: paths from [`super::endpoint::ENDPOINTS`], bodies
//! from the types.

mod document;

mod events;

mod recommendations;

pub use document::document;

pub(super) use events::{EventsRecorded, EventsRequest};
pub(super) use recommendations::{RecommendationsRequest, batch_request, similar_videos_request};

use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};

/// Named schemas, which others refer to.
pub(super) type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Adds the schema of a type, and those that it consists of, to the named ones. Returns a reference
/// to it.
pub(super) type SchemaOf = fn(&mut Schemas) -> RefOr<Schema>;

/// See [`SchemaOf`].
pub(super) fn schema_of<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    schemas.extend(parts);
    schemas.insert(T::name().into_owned(), T::schema());
    Ref::from_schema_name(T::name()).into()
}

/// An object without further description.
pub(super) fn any_object(_: &mut Schemas) -> RefOr<Schema> {
    ObjectBuilder::new().into()
}

/// `GET /openapi.json`
pub(super) async fn serve() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(document);
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}
