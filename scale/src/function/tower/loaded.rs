//! What functions need beside their rows, loaded once a process.

use crate::embed::VideoIndex;
use crate::model::{self, CheckedModel};
use crate::vector_file::VideoVectors;
use anyhow::Context;
use datafusion::common::{DataFusionError, Result};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Things of one kind that stay in memory: those of the job that runs and of the one before it.
struct Kept<T>(Mutex<Vec<(String, Arc<T>)>>);

const KEPT: usize = 2;

impl<T> Kept<T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// What goes by `key`, which whoever asks first loads while the others wait.
    fn get(&self, key: String, load: impl FnOnce() -> anyhow::Result<T>) -> Result<Arc<T>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = kept.iter().find(|(known, _)| *known == key) {
            return Ok(found.clone());
        }
        let loaded = load().map_err(|error| DataFusionError::External(error.into()))?;
        let loaded = Arc::new(loaded);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push((key, loaded.clone()));
        Ok(loaded)
    }
}

/// The model in `folder`, if its manifest has this SHA-256.
pub(super) fn model(folder: &str, manifest_file_sha256: &str) -> Result<Arc<CheckedModel>> {
    static MODELS: Kept<CheckedModel> = Kept::new();
    MODELS.get(format!("{manifest_file_sha256} {folder}"), || {
        model::load(Path::new(folder), Some(manifest_file_sha256)).context("load the model")
    })
}

/// The vectors that the index file `index` lists, if it has this SHA-256.
pub(super) fn vectors(index: &str, sha256: &str, dim: usize) -> Result<Arc<VideoVectors>> {
    static VECTORS: Kept<VideoVectors> = Kept::new();
    VECTORS.get(format!("{sha256} {index}"), || {
        let (folder, files) = VideoIndex::read(Path::new(index), sha256)?;
        VideoVectors::read(&folder, &files, dim)
    })
}
