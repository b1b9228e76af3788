//! Checkpoints of training on disk. They are replaced atomically, so that a killed run loses a few
//! minutes at most.

use super::Resume;
use crate::files::{read_if_there, remove_if_there, write_whole};
use anyhow::Context;
use std::path::PathBuf;
use std::time::Duration;
use twotower_core::split::Phase;

/// Place of the checkpoints of one run of training.
#[derive(Debug, Clone)]
pub(super) struct Checkpoints {
    /// Folder of models.
    pub(super) folder: PathBuf,
    /// Identifies the data: a run is resumed only from a checkpoint of the same data.
    pub(super) data: String,
    /// Whether to resume from an existing checkpoint.
    pub(super) resume: Resume,
    /// Time between two checkpoints.
    pub(super) interval: Duration,
}

impl Checkpoints {
    /// Identifies the data and the purpose of the run of `phase`.
    pub(super) fn tag(&self, phase: Phase) -> String {
        format!("{} {}", self.data, name(phase))
    }

    /// The checkpoint of `phase`, if there is one and [`Checkpoints::resume`] allows its use.
    pub(super) fn load(&self, phase: Phase) -> anyhow::Result<Option<Vec<u8>>> {
        if self.resume == Resume::No {
            return Ok(None);
        }
        let path = self.path(phase);
        read_if_there(&path).with_context(|| format!("read checkpoint {}", path.display()))
    }

    /// Replaces the checkpoint of `phase`.
    pub(super) fn save(&self, phase: Phase, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path(phase);
        write_whole(&path, bytes).with_context(|| format!("write checkpoint {}", path.display()))
    }

    /// Removes the checkpoints, once the model is saved or a new run begins.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        for phase in [Phase::Validation, Phase::Test] {
            let path = self.path(phase);
            remove_if_there(&path)
                .with_context(|| format!("remove checkpoint {}", path.display()))?;
        }
        Ok(())
    }

    pub(super) fn path(&self, phase: Phase) -> PathBuf {
        self.folder
            .join(format!("checkpoint-{}.safetensors", name(phase)))
    }
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Validation => "training",
        Phase::Test => "refit",
    }
}
