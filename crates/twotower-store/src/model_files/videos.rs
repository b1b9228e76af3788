use super::{PICKLE, PREPROCESSING, pickle};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;

/// What a model's file that lists video ids contains besides them; `None` if this is no such file,
/// or not in our format.
pub fn without_videos(path: &Path) -> Option<Vec<u8>> {
    let name = path.file_name().and_then(OsStr::to_str)?;
    if ![PREPROCESSING, PICKLE].contains(&name) {
        return None;
    }
    let bytes = std::fs::read(path.with_file_name(PREPROCESSING)).ok()?;
    let mut content: Value = serde_json::from_slice(&bytes).ok()?;
    // The pickle is generated from the JSON, so it need not be read.
    if name == PICKLE && pickle::pickle(&content).ok()? != std::fs::read(path).ok()? {
        return None;
    }
    let videos = content.as_object_mut()?.remove("videos")?;
    videos.as_array()?;
    serde_json::to_vec(&content).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_vocabulary_is_told_from_what_stands_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let content = json!({ "videos": ["v-1", "v-2"], "tags": ["a"], "numeric": [0.1] });
        let json = folder.path().join(PREPROCESSING);
        let pickled = folder.path().join(PICKLE);
        std::fs::write(&json, content.to_string()).unwrap();
        std::fs::write(&pickled, pickle::pickle(&content).unwrap()).unwrap();
        for path in [&json, &pickled] {
            let rest = String::from_utf8(without_videos(path).unwrap()).unwrap();
            assert!(!rest.contains("v-1") && rest.contains("\"a\""), "{rest}");
        }
        // A pickle with other content hides nothing.
        let other = json!({ "videos": ["v-1"], "tags": ["a", "v-1"], "numeric": [0.1] });
        std::fs::write(&pickled, pickle::pickle(&other).unwrap()).unwrap();
        assert_eq!(without_videos(&pickled), None);
        std::fs::write(&json, "[\"v-1\"]").unwrap();
        assert_eq!(without_videos(&json), None);
        std::fs::copy(&json, folder.path().join("log.json")).unwrap();
        assert_eq!(without_videos(&folder.path().join("log.json")), None);
    }
}
