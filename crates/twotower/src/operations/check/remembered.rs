//! What one round leaves for the next: figures of before, in the folder of the state. Losing them costs one comparison.

use crate::operations::Place;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::PathBuf;

fn path(place: &Place, name: &str) -> PathBuf {
    place.config.run.state_dir.join(name)
}

/// What was left under `name`; nothing if it is not there or cannot be understood.
pub(super) fn recall<T: DeserializeOwned>(place: &Place, name: &str) -> Option<T> {
    let text = std::fs::read(path(place, name)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Leaves `value` under `name`, whole or not at all. Trouble is logged.
pub(super) fn remember(place: &Place, name: &str, value: &impl Serialize) {
    let file = path(place, name);
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(&place.config.run.state_dir)?;
        let new = file.with_extension(format!("{}.new", std::process::id()));
        std::fs::write(&new, serde_json::to_vec(value)?)?;
        std::fs::rename(&new, &file)
    };
    if let Err(error) = write() {
        tracing::warn!(%error, "{} could not be written: the next look has nothing to compare with", file.display());
    }
}
