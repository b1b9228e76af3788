//! What requests are answered from: one immutable view of catalogue, popularity and model, swapped as a whole.

mod load;

mod refresh;

pub(crate) use refresh::Snapshots;

use std::sync::Arc;
use twotower_core::embedding::Embeddings;
use twotower_core::tower::UserTower;
use uuid::Uuid;

/// A model version with its videos' vectors.
#[derive(Debug)]
pub(crate) struct LoadedModel {
    pub(crate) version: i64,
    pub(crate) user_tower: UserTower,
    /// Row i is the vector of the catalogue's video i.
    pub(crate) vectors: Embeddings,
    ids: Arc<[Uuid]>,
    /// (id, fingerprint) of the vectors: tells whether an update has written others since.
    fingerprints: Vec<(Uuid, i64)>,
}

/// One view. Videos are named by their position, ascending by id; with a model, they are those that have a vector.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) model: Option<Arc<LoadedModel>>,
    videos: Arc<[Uuid]>,
    titles: Vec<String>,
    /// Positions of videos that have a vector but have left the catalogue since.
    pub(crate) delisted: Vec<u32>,
    /// Number of likes of each video.
    pub(crate) like_counts: Vec<f32>,
}

impl Snapshot {
    /// Version of the model, if there is one.
    pub(crate) fn version(&self) -> Option<i64> {
        self.model.as_ref().map(|model| model.version)
    }

    /// Id of the video at `position`.
    pub(crate) fn video(&self, position: u32) -> Uuid {
        self.videos[position as usize]
    }

    /// Title of the video at `position`.
    pub(crate) fn title(&self, position: u32) -> &str {
        &self.titles[position as usize]
    }

    /// Positions of those `videos` that this view knows, in the order given.
    pub(crate) fn positions(&self, videos: &[Uuid]) -> Vec<u32> {
        videos
            .iter()
            .filter_map(|video| self.videos.binary_search(video).ok())
            .map(|position| position as u32)
            .collect()
    }
}
