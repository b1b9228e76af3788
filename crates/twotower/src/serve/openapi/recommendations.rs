//! Types for the schemas of requests, which are parsed by hand, for errors that name the mistake.

#![expect(dead_code, reason = "only their schemas are used")]

use super::{Schemas, schema_of};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema};
use utoipa::openapi::{KnownFormat, Ref, RefOr, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// What the caller asks for. Every field may be absent, and so may the body.
#[derive(ToSchema)]
pub(in crate::serve) struct RecommendationsRequest {
    /// Maximum number of videos.
    #[schema(required = false, minimum = 1, maximum = 100, default = 10)]
    limit: u32,
    /// Leave out videos that the user has liked.
    #[schema(required = false, default = true)]
    exclude_liked: bool,
    /// 0: best scores first; 1: as different from each other as possible.
    #[schema(required = false, minimum = 0, maximum = 1, default = 0)]
    diversity: f32,
    /// Name the likes behind each recommendation.
    #[schema(required = false, default = false)]
    include_reasons: bool,
    /// Leave out videos with a lower score.
    #[schema(required = false, minimum = -1, maximum = 1)]
    min_score: f32,
    #[schema(required = false)]
    filter: Filter,
    /// Seed of random draws: the same seed gives the same draw.
    #[schema(required = false, minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    seed: u64,
}

/// Conditions that videos must meet, all of them.
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

/// Names of which a video must have at least one, and names of which it must have none.
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

/// Inclusive bounds. If `min` exceeds `max`, nothing matches.
#[derive(ToSchema)]
struct Range {
    #[schema(required = false, minimum = -1e12, maximum = 1e12)]
    min: f64,
    #[schema(required = false, minimum = -1e12, maximum = 1e12)]
    max: f64,
}

/// The fields of [`RecommendationsRequest`] that are not about the user's taste, and a video.
pub(in crate::serve) fn similar_videos_request(schemas: &mut Schemas) -> RefOr<Schema> {
    let video = uuid().description(Some("The video to find similar ones for."));
    let (video, without) = (("video_id", video.into()), ["include_reasons", "seed"]);
    request(schemas, "SimilarVideosRequest", video, &without)
}

/// The fields of [`RecommendationsRequest`] and users.
pub(in crate::serve) fn batch_request(schemas: &mut Schemas) -> RefOr<Schema> {
    let users = ArrayBuilder::new()
        .items(uuid())
        .min_items(Some(1))
        .max_items(Some(100))
        .description(Some("The users to make lists for."));
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
