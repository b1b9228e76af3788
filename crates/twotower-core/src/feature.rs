//! The catalogue, and turning its rows into what the item tower reads.

mod catalogue;

mod text;

mod preprocessing;

mod audience;

pub use audience::Audience;
pub use catalogue::{Catalogue, CatalogueError, Video};
pub use preprocessing::{
    ItemFeatures, NUMERIC_FEATURES, NumericStatistics, Preprocessing, PreprocessingOptions,
};
