use crate::model::CheckedModel;
use crate::vector_file::VectorFiles;
use serde::{Deserialize, Serialize};

/// The manifest's name.
pub(crate) const NAME: &str = "vectors.json";

/// Version of the layout.
const FORMAT: u32 = 1;

/// `vectors.json`, written last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the layout; 1.
    pub format: u32,
    /// Version of the model.
    pub model_version: i64,
    /// SHA-256 (hex) of the whole of the model's `manifest.json`.
    #[serde(rename = "manifest_sha256")]
    pub manifest_file_sha256: String,
    /// Numbers of a vector.
    pub dim: usize,
    /// Vectors of videos.
    pub videos: VectorFiles,
    /// Vectors of users, if they were asked for.
    pub users: Option<VectorFiles>,
}

impl Manifest {
    pub(super) fn new(
        model: &CheckedModel,
        videos: VectorFiles,
        users: Option<VectorFiles>,
    ) -> Self {
        Self {
            format: FORMAT,
            model_version: model.version,
            manifest_file_sha256: model.manifest_file_sha256.clone(),
            dim: model.model.hyperparameters.embedding_dim,
            videos,
            users,
        }
    }
}
