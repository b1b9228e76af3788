//! Types for the schemas of requests, which are parsed by hand, for errors that name the mistake.

#![expect(dead_code, reason = "only their schemas are used")]

use super::{Schemas, schema_of};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema};
use utoipa::openapi::{KnownFormat, Ref, RefOr, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// What the caller asks for. Every field may be absent, and so may the body.
#[derive(ToSchema)]
pub(in crate::serve) struct RecommendationsRequest {
    /// Most videos.
    #[schema(required = false, minimum = 1, maximum = 100, default = 10)]
    limit: u32,
    /// Leave out what the user has liked.
    #[schema(required = false, default = true)]
    exclude_liked: bool,
    /// 0: best scores first; 1: as unlike each other as can be.
    #[schema(required = false, minimum = 0, maximum = 1, default = 0)]
    diversity: f32,
    /// Say which likes a recommendation is owed to.
    #[schema(required = false, default = false)]
    include_reasons: bool,
    /// Leave out what scores less.
    #[schema(required = false, minimum = -1, maximum = 1)]
    min_score: f32,
    #[schema(required = false)]
    filter: Filter,
    /// Makes what is drawn at random the same each time.
    #[schema(required = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    seed: u64,
}

/// What videos must be like, all of it.
#[derive(ToSchema)]
struct Filter {
    /// Names of tags.
    #[schema(required = false)]
    tags: Choice,
    /// Makers.
    #[schema(required = false)]
    makers: Choice,
    /// Names of performers.
    #[schema(required = false)]
    performers: Choice,
    /// Genres.
    #[schema(required = false)]
    genres: Choice,
    /// Price in the application's currency; a video without one is outside every range.
    #[schema(required = false)]
    price: Range,
    /// Days since publication.
    #[schema(required = false)]
    age_days: Range,
}

/// Names of which a video must have one, and names of which it may have none.
#[derive(ToSchema)]
struct Choice {
    /// At least one of these; empty for no such condition.
    #[schema(required = false, max_items = 50)]
    any: Vec<Name>,
    /// None of these.
    #[schema(required = false, max_items = 50)]
    none: Vec<Name>,
}

#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 100)]
struct Name(String);

/// Bounds, both inclusive; nothing is inside those that exclude each other.
#[derive(ToSchema)]
struct Range {
    #[schema(required = false, minimum = -1e12, maximum = 1e12)]
    min: f64,
    #[schema(required = false, minimum = -1e12, maximum = 1e12)]
    max: f64,
}

/// The fields of [`RecommendationsRequest`] that are not about the user's taste, and a video.
pub(in crate::serve) fn similar_videos_request(schemas: &mut Schemas) -> RefOr<Schema> {
    let video = uuid().description(Some("The video asked about."));
    let (video, without) = (("video_id", video.into()), ["include_reasons", "seed"]);
    request(schemas, "SimilarVideosRequest", video, &without)
}

/// The fields of [`RecommendationsRequest`] and users.
pub(in crate::serve) fn batch_request(schemas: &mut Schemas) -> RefOr<Schema> {
    let users = ArrayBuilder::new()
        .items(uuid())
        .min_items(Some(1))
        .max_items(Some(100))
        .description(Some("Whom lists are for."));
    request(schemas, "BatchRequest", ("user_ids", users.into()), &[])
}

fn uuid() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
}

/// The schema of a request that must have `field`, and may have the fields of
/// [`RecommendationsRequest`] except those of `without`.
fn request(
    schemas: &mut Schemas,
    name: &str,
    (field, schema): (&str, Schema),
    without: &[&str],
) -> RefOr<Schema> {
    schema_of::<RecommendationsRequest>(schemas);
    let mut request = RecommendationsRequest::schema();
    if let RefOr::T(Schema::Object(request)) = &mut request {
        for name in without {
            request.properties.remove(*name);
        }
        request.properties.insert(field.into(), schema.into());
        request.required.push(field.into());
    }
    schemas.insert(name.into(), request);
    Ref::from_schema_name(name).into()
}
