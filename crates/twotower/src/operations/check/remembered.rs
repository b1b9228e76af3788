//! Values that one round saves for the next, in the state folder. Losing them costs one comparison.

use crate::files::write_among_others;
use crate::operations::Place;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::PathBuf;

fn path(place: &Place, name: &str) -> PathBuf {
    place.config.run.state_dir.join(name)
}

/// The value saved under `name`; `None` if there is none or it cannot be parsed.
pub(super) fn recall<T: DeserializeOwned>(place: &Place, name: &str) -> Option<T> {
    let text = std::fs::read(path(place, name)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Replaces the value under `name` atomically. A failure is logged.
pub(super) fn remember(place: &Place, name: &str, value: &impl Serialize) {
    let file = path(place, name);
    let write = || -> io::Result<()> { write_among_others(&file, &serde_json::to_vec(value)?) };
    if let Err(error) = write() {
        tracing::warn!(%error, "{} could not be written: the next look has nothing to compare with", file.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Containers that share the folder may have equal process ids.
    #[test]
    fn what_another_process_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.run.state_dir = folder.path().join("state");
        let place = Place {
            db_url: String::new(),
            config_file: None,
            config,
        };
        let left = format!("x.{}.new", std::process::id());
        std::fs::create_dir_all(place.config.run.state_dir.join(left)).unwrap();
        for value in [7, 8] {
            remember(&place, "x.json", &value);
            assert_eq!(recall(&place, "x.json"), Some(value));
        }
        let files = std::fs::read_dir(&place.config.run.state_dir).unwrap();
        assert_eq!(files.count(), 2, "no temporary file stays");
    }
}
