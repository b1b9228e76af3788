//! The catalogue, and the features that the item tower reads.

mod catalogue;

mod packed;

mod video;

mod text;

mod numeric;

mod preprocessing;

mod audience;

pub use audience::Audience;
pub use catalogue::{Catalogue, CatalogueBuilder, CatalogueError, amount, tidy};
pub use numeric::{NUMERIC_FEATURES, NumericStatistics};
pub use preprocessing::{ItemFeatures, Preprocessing, PreprocessingOptions};
pub use video::{Names, Video, VideoRef};
